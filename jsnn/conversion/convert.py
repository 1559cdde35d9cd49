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
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jsnn.arguments import checked
from jsnn.conversion.activations import Activation, is_homogeneous, name_of
from jsnn.conversion.network import Converted, replace, value_of
from jsnn.conversion.place import Scaled, check_scale
from jsnn.conversion.quantized import clip_floor_relu, clip_relu
from jsnn.conversion.source import Place, Source
from jsnn.filters import Lowpass
from jsnn.neurons import IF, Rate, SpikingActivation
from jsnn.neurons.base import is_key, with_dt
from jsnn.neurons.ranges import POSITIVE
from jsnn.types import Array, Neuron, Parameter

Replacement: TypeAlias = Neuron | Activation
Scales: TypeAlias = float | Sequence[float | None] | Literal["auto"] | None


@checked
def convert(
    fn: Callable[[Array], Array],
    example: Array,
    *,
    swap: Mapping[Activation, Replacement] | None = None,
    scale_firing_rates: Scales = None,
    synapse: float | Neuron | None = None,
    dt: float = 1e-3,
    v_init: Parameter | Sequence[Parameter | None] | None = None,
) -> Converted:
    """A spiking network that computes over time what a rate network computes at once.

    Args:
        fn: any JAX function of one array `[B, ...]`, floating point, that gives one array: a `nnx.Module`, a Linen or
            Equinox model with its weights bound, or a plain function. In inference mode.
        example: an input of the kind that it takes; its values matter only for `scale_firing_rates="auto"`.
        swap: what replaces each activation: a neuron, or another activation, which stays a rate. None replaces
            `jax.nn.relu` by `SpikingActivation`, and the activations of `ClipFloorReLU` and `NoisyReLU` by `IF`, with
            the threshold that they have learned. An activation is recognised by what it computes, `jnp.maximum(x, 0)`
            as well as `jax.nn.relu`.
        scale_firing_rates: a factor by which the inputs of neurons are scaled up and their outputs down, so that they
            spike more often and quantise less: one number, or one for each activation in the report's order (None or 1
            for none), or `"auto"`: so that the 99.9th percentile of each activation, on the example, is one spike a
            step. Only for positively homogeneous activations (relu, leaky relu).
        synapse: what filters every neuron's output: the time constant in s of a `Lowpass` that answers one step
            later (nengo's connections do), any filter, such as `jsnn.filters.Alpha(5e-3)`, or None.
        dt: the length of a step, in s, of all neurons and filters that have one.
        v_init: the membrane before the first step, in units of the threshold: 0.5 rounds where 0.0 rounds down; a
            key made by `jax.random.key` draws it uniformly; a sequence has one for each activation. None leaves it to
            the neurons in `swap`.

    Returns:
        the network, a Neuron, with `report`, a table of what was replaced and what was kept.

    Raises:
        ValueError: if there is nothing to swap, or something in `swap` does not occur; if a number is out of its range;
            if the function cannot take the example, is in training mode, draws random numbers, or has an activation
            inside a loop; if an activation is to be scaled that is not homogeneous.
        TypeError: if `fn` is no function, or `swap` maps to something that is neither neuron nor function.

    >>> import jax, jax.numpy as jnp, jsnn
    >>> from flax import nnx
    >>> model = jsnn.models.rate_dense([64, 32, 10], rngs=nnx.Rngs(0))
    >>> images = jax.random.uniform(jax.random.key(0), (4, 8, 8, 1))
    >>> network = jsnn.convert(model, images, scale_firing_rates=1000.0, v_init=0.5)
    >>> state, logits = jsnn.unroll(network, images, num_steps=100)  # [T, B, 10]
    >>> bool(jnp.abs(logits.mean(0) - model(images)).max() < 0.05)
    True
    """
    check_scale("dt", dt)
    example = _check_example(fn, example)
    swap = dict(_check_swap(swap) if swap is not None else _default_swap(fn, example))
    source = Source(fn, swap)
    plan = source.plan(example.shape, example.dtype)
    neurons = []
    for place, start in zip(plan.places, _one_for_each(v_init, plan.places)):
        replacement = swap[place.activation]
        neuron = replacement if isinstance(replacement, Neuron) else Rate(replacement)
        neurons.append(Scaled(with_dt(_copy(neuron), dt), v_init=start))
    network = Converted(source, source.weights(fn, example), neurons, _synapses(synapse, dt, len(neurons)), plan)
    network = _take_thresholds(network)
    jax.eval_shape(lambda: network.init(example.shape, example.dtype))  # a v_init that does not fit shows here
    return _scale(network, scale_firing_rates, example)


def rescale(network: Converted, scales: Sequence[Parameter | None]) -> Converted:
    """The network with other firing-rate scales, one for each activation; None leaves that of an activation as it is.

    Raises:
        ValueError: if their number is wrong, one is not positive, or its activation is not homogeneous.
    """
    if len(scales) != len(network.names):
        raise ValueError(
            f"scale_firing_rates must be one number, or {len(network.names)} of them, one for each of "
            f"{', '.join(network.names)}; got {len(scales)}"
        )
    neurons = []
    for name, activation, neuron, scale in zip(network.names, network.kinds, network.neurons, scales):
        if scale is not None:
            check_scale(f"the scale of {name}", scale)
            if not is_homogeneous(activation) and not (isinstance(scale, (int, float)) and scale == 1):
                raise ValueError(
                    f"{name} cannot be scaled by {scale}: a {name_of(activation)} of a times x is not a times that of "
                    f"x, so that scaling would change what the network computes. Leave its scale None"
                )
            neuron = dataclasses.replace(neuron, scale=scale)
        neurons.append(neuron)
    return replace(network, neurons=neurons)


@checked
def balance(
    network: Converted,
    data: Array,
    percentile: float = 99.9,
    *,
    spikes_per_step: float = 1.0,
    per_channel: bool = False,
) -> Converted:
    """The network with scales at which a percentile of each activation, on the data, spikes so often at each step.

    Activations that are not positively homogeneous keep their scale.

    Raises:
        ValueError: if the data make an activation infinite or NaN.
    """
    if not np.isfinite(data).all():
        raise ValueError("the calibration data must be finite, got infinite or NaN values: check them")
    rates, _ = network.rates(data)
    scales: list[Parameter | None] = []
    for name, activation, neuron in zip(network.names, network.kinds, network.neurons):
        values = np.asarray(rates[name], np.float32)
        if not np.isfinite(values).all():
            raise ValueError(f"the calibration data make {name} infinite or NaN: check them and the weights")
        one_spike = dataclasses.replace(neuron, scale=1.0).spike_size
        scale = jnp.asarray(one_spike * spikes_per_step / _top(values, percentile, per_channel), jnp.float32)
        scales.append(scale if is_homogeneous(activation) else None)
    return rescale(network, scales)


def _top(values: np.ndarray, percentile: float, per_channel: bool) -> np.ndarray:
    """The percentile, of each channel or of all; where that is 0, the largest value, or 1."""
    whole = next((top for top in (np.percentile(values, percentile), values.max()) if top > 0), 1.0)
    if not per_channel:
        return np.asarray(whole)
    channels = np.percentile(values.reshape(-1, values.shape[-1]), percentile, axis=0)
    return np.where(channels > 0, channels, whole)


def _scale(network: Converted, scales: Scales, example: Array) -> Converted:
    if scales is None:
        return network
    if isinstance(scales, str) and scales != "auto":
        raise ValueError(f"scale_firing_rates must be a number, one for each activation, or 'auto', got {scales!r}")
    if not isinstance(scales, str) and (isinstance(scales, Sequence) or np.ndim(scales)):
        return rescale(network, list(scales))  # type: ignore[arg-type]
    if scales != "auto":
        check_scale("scale_firing_rates", scales)
    scalable = [is_homogeneous(activation) for activation in network.kinds]
    if scales != 1 and not any(scalable):
        raise ValueError(
            f"scale_firing_rates={scales} would change what the network computes: none of its activations "
            f"({', '.join(network.names)}) is positively homogeneous, as relu is. Leave it None"
        )
    if scales != 1 and not all(scalable):
        left = [name for name, can in zip(network.names, scalable) if not can]
        warnings.warn(
            f"scale_firing_rates={scales} leaves out {', '.join(left)}: not positively homogeneous", stacklevel=3
        )
    if scales == "auto":
        return balance(network, example)
    return rescale(network, [float(scales) if can else None for can in scalable])


def _default_swap(fn: Callable[[Array], Array], example: Array) -> dict[Activation, Neuron]:
    """Neurons for what occurs of the activations that one would always swap; for relu where none does."""
    defaults: dict[Activation, Neuron] = {jax.nn.relu: SpikingActivation(), clip_floor_relu: IF(), clip_relu: IF()}
    there = Source(fn, ()).occurring(example.shape, example.dtype)
    return {activation: neuron for activation, neuron in defaults.items() if activation in there} or {
        jax.nn.relu: SpikingActivation()
    }


def _take_thresholds(network: Converted) -> Converted:
    """Where an activation has learned a threshold, its neuron gets it, and starts at half of it."""
    weights = jax.tree.leaves(network.weights)
    neurons = []
    for neuron, parameters in zip(network.neurons, network.parameters, strict=True):
        if parameters:
            threshold = POSITIVE.project(value_of(weights, parameters[0]))
            start = 0.5 if neuron.v_init is None else neuron.v_init
            neuron = dataclasses.replace(neuron, scale=jnp.asarray(neuron.spike_size / threshold), v_init=start)
        neurons.append(neuron)
    return replace(network, neurons=neurons)


def _check_swap(swap: Mapping[Activation, Replacement]) -> Mapping[Activation, Replacement]:
    if not isinstance(swap, Mapping) or not swap:
        raise TypeError(f"swap must map activations to neurons, {{jax.nn.relu: SpikingActivation()}}, got {swap!r}")
    for activation, replacement in swap.items():
        if isinstance(replacement, type) or not (isinstance(replacement, Neuron) or callable(replacement)):
            raise TypeError(
                f"swap must map {name_of(activation)} to a neuron or another activation, got {replacement!r}"
            )
        if not callable(activation):
            raise TypeError(f"the keys of swap must be functions such as jax.nn.relu, got {activation!r}")
    return swap


def _check_example(fn: Callable[[Array], Array], example: Array) -> Array:
    if not callable(fn):
        raise TypeError(f"convert takes a function or a model, got {type(fn).__name__}")
    if isinstance(fn, type):
        raise TypeError(
            f"convert takes a function or a model, got the class {fn.__name__}: make one, {fn.__name__}(...)"
        )
    example = jnp.asarray(example)
    if not jnp.issubdtype(example.dtype, jnp.floating):
        raise ValueError(f"the example must be floating point, got {example.dtype}: convert it, x.astype(jnp.float32)")
    return example


def _one_for_each(
    v_init: Parameter | Sequence[Parameter | None] | None, places: Sequence[Place]
) -> Sequence[Parameter | None]:
    """The initial membrane of each activation; of a key, each gets one of its own."""
    if isinstance(v_init, (list, tuple)):
        if len(v_init) != len(places):
            names = ", ".join(place.name for place in places)
            raise ValueError(f"v_init must be one value or {len(places)}, for {names}; got {len(v_init)}")
        return v_init
    if is_key(v_init):
        return list(jax.random.split(v_init, len(places)))
    return [v_init] * len(places)  # type: ignore[list-item]


def _synapses(synapse: float | Neuron | None, dt: float, count: int) -> list[Neuron | None]:
    if synapse is None:
        return [None] * count
    if isinstance(synapse, type):
        raise TypeError(
            f"synapse must be a filter, got the class {synapse.__name__}: make one, {synapse.__name__}(...)"
        )
    if isinstance(synapse, Neuron):
        return [with_dt(_copy(synapse), dt) for _ in range(count)]
    if not (math.isfinite(synapse) and synapse >= 0):
        raise ValueError(f"synapse must be a time constant >= 0 in s, a filter or None, got {synapse}")
    return [Lowpass(synapse, dt, delay=True)] * count


def _copy(neuron: Neuron) -> Neuron:
    """One with parameters of its own, which are trained apart from those of its siblings."""
    return jax.tree.map(lambda leaf: leaf, neuron)
