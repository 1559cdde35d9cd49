"""Converts a rate network into a spiking one, by reading its traced program and not its classes.

`convert` traces a function, puts a neuron in the place of each activation, and leaves what lies between two of them the
program that it was. The result is a Neuron. In an unroll, what does not vary in time (with a static image, everything
before the first neuron) is computed once, and the rest runs for all time steps at once, `[T, B, ...]`; only the
neurons are scanned.

Sources: Rueckauer et al., "Conversion of continuous-valued deep networks to efficient event-driven networks for image
classification" (2017); nengo_dl's `Converter`, to whose outputs tests hold this one.
"""

import dataclasses
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.arguments import check
from jsnn.conversion.activations import Activation, is_homogeneous, name_of
from jsnn.conversion.network import Converted, replace, value_of
from jsnn.conversion.place import Scaled, agreed_dt, check_scale
from jsnn.conversion.pooling import SpikingMaxPool
from jsnn.conversion.quantized import clip_floor_relu, clip_relu
from jsnn.conversion.scale import Scales, scaled
from jsnn.conversion.source import Kept, Place, Plan, Source
from jsnn.filters import Lowpass
from jsnn.neurons import IF, BurstIF, Rate, SpikingActivation
from jsnn.neurons.checks import has_field, is_key
from jsnn.neurons.pytree import with_dt
from jsnn.neurons.ranges import POSITIVE
from jsnn.neurons.spiking_activation import Activated
from jsnn.types import Array, Neuron, Parameter

Replacement: TypeAlias = Neuron | Activation
DT = 1e-3  # where no neuron and no filter has a dt, as in nengo


def convert(
    fn: Callable[[Array], Array],
    example: Array,
    *,
    swap: Mapping[Activation, Replacement] | None = None,
    scale_firing_rates: Scales = None,
    synapse: float | Neuron | None = None,
    dt: float | None = None,
    v_init: Parameter | Sequence[Parameter | None] | str | None = None,
    kept: Kept | None = None,
) -> Converted:
    """Return a spiking network that computes over time what a rate network computes at once.

    Args:
        fn: any JAX function of one array `[B, ...]`, floating point, that gives one array: a `nnx.Module`, a Linen or
            Equinox model with its weights bound, or a plain function. In inference mode.
        example: one input of the kind that it takes; its values matter only for `scale_firing_rates="auto"`.
        swap: what replaces each activation: a neuron, or another activation, which stays a rate. Where an activation
            occurs several times, each place gets a neuron of its own; a random key that it holds is split among them.
            Maximum pooling can be replaced, too: `{jsnn.max_pool: jsnn.avg_pool}`, or by
            `jsnn.conversion.SpikingMaxPool()`, in addition to the activations. None replaces
            `jax.nn.relu` by `SpikingActivation`, and the activations of `ClipFloorReLU` and `NoisyReLU` by `IF`, with
            the threshold that they have learned. An activation is recognised by what it computes, `jnp.maximum(x, 0)`
            as well as `jax.nn.relu`.
        scale_firing_rates: a factor by which the inputs of neurons are scaled up and their outputs down, so that they
            spike more often and quantise less: one number, or one for each activation in the report's order (None or 1
            for none), or some by the report's names, `{"0_relu": 20.0}`, or `"auto"`: so that the 99.9th percentile of
            each activation, on the example, is one spike a step. Only where f(a x) = a f(x), for the activation (relu,
            leaky relu) and for what replaces it: a leaky neuron, or one that rests, does not spike twice as often for
            twice the input.
        synapse: what filters every neuron's output: the time constant in s of a `Lowpass`, any filter, or None. It
            answers one step later, as nengo's connections do, if it is a number or made by `jsnn.compat.nengo`; others
            do with `delay=True`: `jsnn.filters.Alpha(5e-3, delay=True)`.
        dt: the length of a step, in s, of all neurons and filters that have one. None keeps the one that they have,
            or takes 1 ms where `swap` and `synapse` name none.
        v_init: the membrane before the first step, in units of the threshold: 0.5 rounds where 0.0 rounds down; a
            key made by `jax.random.key` draws it uniformly; a sequence has one for each activation, None for one
            without a membrane. None leaves it to the neurons in `swap`. What stays a rate has none to start.
        kept: what becomes of functions that are not linear, stay, and depend on spikes, such as softmax and layer
            normalisation. `"exact"`: they work on the mean of the spikes so far, so that their mean over time is that
            of the rate network in the limit (see `jsnn.conversion.exact`). That costs a state where such a function
            begins and where it ends. A neuron after it gets that mean as well, unless it is an `IF` or `BurstIF`,
            which adds up what it gets at each step. `"as is"`: they see the spikes of single steps, as in NengoDL.
            None is `"exact"` for all but a softmax or sigmoid that gives the output, which stays one at every step.

    Returns:
        the network, a Neuron, with `report`, a table of what was replaced and what was kept.

    Raises:
        ValueError: if there is nothing to swap, or something in `swap` does not occur; if a number is out of its range;
            if the function cannot take the example, calls a neuron, is in training mode, draws random numbers, or has
            an activation inside a loop; if an activation is to be scaled that is not homogeneous, or its neuron is
            not; if neurons and filters have different dt.
        TypeError: if `fn` is not a function, or `swap` maps to something that is neither neuron nor function; if there
            are several inputs.

    With `kept="as is"` and without a synapse, each kind of function that sees single spikes gets a warning.

    Examples:
        >>> import jax, jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> model = jsnn.models.rate_dense([64, 32, 10], rngs=nnx.Rngs(0))
        >>> images = jax.random.uniform(jax.random.key(0), (4, 8, 8, 1))
        >>> network = jsnn.convert(model, images, scale_firing_rates=1000.0, v_init=0.5)
        >>> state, logits = jsnn.unroll(network, images, num_steps=100)  # [T, B, 10]
        >>> bool(jnp.abs(logits.mean(0) - model(images)).max() < 0.05)
        True
    """
    if kept is not None and kept not in get_args(Kept):
        raise ValueError(f"kept must be 'exact', 'as is' or None, got {kept!r}")
    if dt is not None:
        check_scale("dt", dt)
    example = _check_example(fn, example)
    given = _check_swap(swap) if swap is not None else {}
    synapse = _check_synapse(synapse)
    if dt is None:
        chosen = [list(given.values()), synapse]
        dt_of_all, default_dt = None, agreed_dt(chosen, DT)
    else:
        dt_of_all = default_dt = dt
    replaced = dict(given or _default_swap(fn, example, default_dt))
    functions = {key: None if isinstance(value, Neuron) else value for key, value in replaced.items()}
    summing = [key for key, value in replaced.items() if isinstance(value, IF | BurstIF)]
    source = Source(fn, functions, kept, summing)
    plan = source.plan(example.shape, example.dtype)
    places, neurons, synapses = plan.places, [], []
    for index, (place, start) in enumerate(zip(places, _one_for_each(v_init, places, functions))):
        replacement = replaced[place.activation]
        neuron = replacement if isinstance(replacement, Neuron) else Rate(replacement)
        neurons.append(Scaled(_copy(neuron, index, len(places), dt_of_all), v_init=start))
        after = Lowpass(synapse, default_dt, delay=True) if isinstance(synapse, (int, float)) else synapse
        synapses.append(None if place.pools or after is None else _copy(after, index, len(places), dt_of_all))
    network = Converted(source, source.weights(fn, example), neurons, synapses, plan, default_dt)
    network = _take_thresholds(network)
    _check_pools(network, plan)
    jax.eval_shape(lambda: network.init(example.shape, example.dtype))  # a v_init that does not fit shows here
    if synapse is None and kept == "as is":
        _warn_of_what_sees_spikes(plan)
    return scaled(network, scale_firing_rates, example)


def _check_pools(network: Converted, plan: Plan) -> None:
    for place, neuron in zip(plan.places, network.neurons, strict=True):
        if place.pools and not isinstance(neuron.neuron, SpikingMaxPool):
            raise ValueError(
                f"{place.name} must be replaced by a function or jsnn.conversion.SpikingMaxPool(), as its output has "
                f"another shape than its input, got {type(neuron.neuron).__name__}"
            )
        if isinstance(neuron.neuron, SpikingMaxPool):
            with jax.ensure_compile_time_eval():
                x = jax.random.normal(jax.random.key(0), (1, *plan.program.types[place.operand].shape[1:]))
                is_same = np.array_equal(place.activation(x), neuron.neuron.pool(x))
            if not is_same:
                raise ValueError(
                    f"{place.name} is not the pooling of its SpikingMaxPool: give both one function, "
                    f"swap={{pool: jsnn.conversion.SpikingMaxPool(pool)}}"
                )


def _warn_of_what_sees_spikes(plan: Plan) -> None:
    """Warn once of each kind of function that is kept after a neuron and is not linear."""
    for name in dict.fromkeys(plan.on_spikes):
        warnings.warn(
            f"{name} is kept and sees the spikes of single steps, not the rates that they stand for: leave out "
            f"kept='as is', smooth them with synapse=5e-3, take it out of the function and apply it to the mean "
            f"output, or swap it",
            stacklevel=4,
        )


def _default_swap(fn: Callable[[Array], Array], example: Array, dt: Parameter) -> dict[Activation, Neuron]:
    """Return neurons for the activations that occur and are always swapped; for relu where none occurs."""
    spiking = SpikingActivation(dt=dt)
    defaults: dict[Activation, Neuron] = {jax.nn.relu: spiking, clip_floor_relu: IF(), clip_relu: IF()}
    there = Source(fn, {}).occurring(example.shape, example.dtype)
    return {activation: neuron for activation, neuron in defaults.items() if activation in there} or {
        jax.nn.relu: spiking
    }


def _take_thresholds(network: Converted) -> Converted:
    """Return the network whose neurons have the thresholds that activations have learned, and start at half of them."""
    weights = jax.tree.leaves(network.weights)
    neurons = []
    for neuron, parameters in zip(network.neurons, network.parameters, strict=True):
        is_another = isinstance(neuron.neuron, Activated) and not is_homogeneous(neuron.neuron.activation)
        if parameters and not is_another and not isinstance(neuron.neuron, Rate):
            threshold = POSITIVE.project(value_of(weights, parameters[0]))
            start = 0.5 if neuron.v_init is None else neuron.v_init
            neuron = dataclasses.replace(neuron, scale=jnp.asarray(neuron.drive / threshold), v_init=start)
        neurons.append(neuron)
    return replace(network, neurons=neurons)


def _check_swap(swap: Mapping[Activation, Replacement]) -> Mapping[Activation, Replacement]:
    if not isinstance(swap, Mapping) or not swap:
        raise TypeError(f"swap must map activations to neurons, {{jax.nn.relu: SpikingActivation()}}, got {swap!r}")
    for activation, replacement in swap.items():
        if not callable(activation):
            raise TypeError(f"the keys of swap must be functions such as jax.nn.relu, got {activation!r}")
        if isinstance(replacement, type) or not (isinstance(replacement, Neuron) or callable(replacement)):
            raise TypeError(
                f"swap must map {name_of(activation)} to a neuron or another activation, got {replacement!r}"
            )
        if isinstance(replacement, nnx.Module) and not isinstance(replacement, Neuron):
            raise TypeError(
                f"swap maps {name_of(activation)} to a {type(replacement).__name__}, a module with weights of its own, "
                f"which the network would not hold: put it into the function that is converted"
            )
    return swap


def _check_example(fn: Callable[[Array], Array], example: Any) -> Array:
    if not callable(fn):
        raise TypeError(f"convert takes a function or a model, got {type(fn).__name__}")
    if isinstance(fn, type):
        raise TypeError(
            f"convert takes a function or a model, got the class {fn.__name__}: make one, {fn.__name__}(...)"
        )
    is_array = isinstance(example, jax.Array | np.ndarray | nnx.Variable)
    if isinstance(example, jax.ShapeDtypeStruct):
        raise TypeError(f"example must have values, got {example}: give jnp.zeros({example.shape})")
    if not is_array and (isinstance(example, dict) or any(np.ndim(part) for part in jax.tree.leaves(example))):
        raise TypeError(
            f"convert takes one input, one array [B, ...], got a {type(example).__name__} of {len(example)}: put "
            f"several into one array that the function takes apart, as in lambda x: fn(x[..., :3], x[..., 3:])"
        )
    example = check("example", example, (Array,))
    if not jnp.issubdtype(example.dtype, jnp.floating):
        raise ValueError(f"the example must be floating point, got {example.dtype}: convert it, x.astype(jnp.float32)")
    return example


def _one_for_each(
    v_init: Parameter | Sequence[Parameter | None] | str | None,
    places: Sequence[Place],
    functions: Mapping[Activation, Activation | None],
) -> Sequence[Parameter | None]:
    """Return the initial membrane of each activation; of a key, each gets one of its own.

    Pooling and rates have none.
    """
    if isinstance(v_init, str):
        raise ValueError(
            f"v_init must be a number, an array or a key, got {v_init!r}: for membranes that start at random, "
            f"v_init=jax.random.key(0)"
        )
    if isinstance(v_init, (list, tuple)):
        if len(v_init) != len(places):
            names = ", ".join(place.name for place in places)
            raise ValueError(f"v_init must be one value or {len(places)}, for {names}; got {len(v_init)}")
        return v_init
    starts = [not place.pools and functions[place.activation] is None for place in places]
    if not any(starts):
        starts = [not place.pools for place in places]  # so that it is refused
    each = jax.random.split(v_init, len(places)) if is_key(v_init) else [v_init] * len(places)
    return [value if has_one else None for value, has_one in zip(each, starts)]


def _check_synapse(synapse: float | Neuron | None) -> float | Neuron | None:
    """Return the synapse, with nengo's delay where that is left to the network."""
    if synapse is None:
        return None
    if isinstance(synapse, type):
        raise TypeError(
            f"synapse must be a filter, got the class {synapse.__name__}: make one, {synapse.__name__}(...)"
        )
    if isinstance(synapse, Neuron):
        undecided = has_field(synapse, "delay") and synapse.delay is None  # type: ignore[attr-defined]
        return dataclasses.replace(synapse, delay=True) if undecided else synapse  # type: ignore[type-var]
    if isinstance(synapse, bool) or not isinstance(synapse, int | float | np.number):
        raise TypeError(f"synapse must be a time constant in s, a filter or None, got {type(synapse).__name__}")
    if not (math.isfinite(synapse) and synapse >= 0):
        raise ValueError(f"synapse must be a time constant >= 0 in s, a filter or None, got {synapse}")
    return float(synapse)


def _copy(neuron: Neuron, index: int, count: int, dt: float | None) -> Neuron:
    """Return the neuron for one of several places.

    It is trained apart from the neurons of the other places, and draws other random numbers.
    """

    def own(leaf: Any) -> Any:
        is_raw_key = getattr(leaf, "dtype", None) == jnp.uint32 and leaf.shape == (2,)
        if count == 1 or not (is_key(leaf) or is_raw_key):
            return leaf
        if leaf.ndim == 0 or is_raw_key:
            return jax.random.split(leaf, count)[index]
        return jax.vmap(lambda key: jax.random.split(key, count)[index])(leaf.ravel()).reshape(leaf.shape)

    copy = jax.tree.map(own, neuron)
    return copy if dt is None else with_dt(copy, dt)
