"""KerasSpiking's layers and regularisers by KerasSpiking's parameter names: the same numbers, step by step.

KerasSpiking's sequences are `[B, T, ...]`; here they are `[T, B, ...]`, as everywhere. A layer that KerasSpiking runs
in another way while it trains is made with `training=True` for that way; to other layers this changes nothing.
KerasSpiking's own names lead to the same functions: `SpikingActivation` is `spiking_activation`, `L1` is `l1`.

Source: KerasSpiking 0.3.0 (Applied Brain Research), `keras_spiking.layers` and `keras_spiking.regularizers`. Held to
its outputs by `tests/test_compat_keras_spiking.py`.
"""

import difflib
import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx

from jsnn import filters, neurons, regularizers
from jsnn.arguments import check_dt, check_memory, checked
from jsnn.energy import Operations, count
from jsnn.neurons.shapes import check_fits
from jsnn.neurons.spiking_activation import Activation
from jsnn.regularizers import Target, check_percentage, check_strength, check_target
from jsnn.types import Array, Neuron, Parameter, Shape

__all__ = [
    "ACTIVATIONS",
    "L1",
    "L1L2",
    "L2",
    "Alpha",
    "Lowpass",
    "Percentile",
    "Regularizer",
    "SpikingActivation",
    "alpha",
    "l1",
    "l1l2",
    "l2",
    "lowpass",
    "operations",
    "percentile",
    "spiking_activation",
]

Regularizer: TypeAlias = Callable[[Array], Array]
"""A function of outputs, [T, B, ...], that returns a number to add to the loss."""


def _linear(x: Array) -> Array:
    return x


ACTIVATIONS: dict[str, Activation] = {
    "elu": jax.nn.elu,
    "exponential": jnp.exp,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "linear": _linear,
    "relu": jax.nn.relu,
    "selu": jax.nn.selu,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "softsign": jax.nn.soft_sign,
    "swish": jax.nn.swish,
    "tanh": jnp.tanh,
}
"""Activations by Keras's names."""


@checked
def spiking_activation(
    activation: str | Activation = "relu",
    *,
    dt: Parameter = 1e-3,
    spiking_aware_training: bool = True,
    initial_voltage: Parameter = 0.0,
    training: bool = False,
) -> neurons.SpikingActivation | neurons.Rate:
    """Return `SpikingActivation` of KerasSpiking.

    Without `spiking_aware_training` KerasSpiking trains with the activation itself, forwards and backwards, and spikes
    in inference only: with `training=True` this returns the neuron that does so, `jsnn.Rate`.

    Args:
        activation: Keras's name of it, or a function.
        dt: the length of a step, in s; a number or an array, which may be traced.
        spiking_aware_training: train with spikes forwards and the activation's derivative backwards.
        initial_voltage: a number, an array, or a key made by `jax.random.key`. KerasSpiking draws it uniformly from
            [0, 1) at every call, as a fresh key does here; the default here is 0.0.
        training: return the neuron to train with, not the one for inference.

    Raises:
        ValueError: if the activation is unknown, or `dt` is not positive.

    Examples:
        >>> import jsnn
        >>> state, outputs = jsnn.unroll(spiking_activation("relu", dt=0.1), jnp.full((8, 1), 3.75))
        >>> outputs[:, 0].tolist()
        [0.0, 0.0, 10.0, 0.0, 0.0, 10.0, 0.0, 10.0]
        >>> spiking_activation("relu", spiking_aware_training=False, training=True).__class__.__name__
        'Rate'
    """
    function = _activation(activation)
    if training and not spiking_aware_training:
        return neurons.Rate(function)
    return neurons.SpikingActivation(function, dt, spiking_aware_training, v_init=initial_voltage)


@checked
def lowpass(
    tau_initializer: float | Array,
    size: int | Shape | None = None,
    *,
    dt: Parameter = 1e-3,
    apply_during_training: bool = True,
    level_initializer: float | Array = 0.0,
    training: bool = False,
) -> filters.Lowpass | neurons.Rate:
    """Return `Lowpass` of KerasSpiking.

    Args:
        tau_initializer: time constant, in s.
        size: how many units are filtered, or the shape of one example; with it tau and the initial level are trained,
            one each per unit (`nnx.Param`), as KerasSpiking trains them always. Without it they are fixed.
        dt: the length of a step, in s; a number or an array, which may be traced.
        apply_during_training: with False the layer passes its input through while it trains, and nothing in it is
            trained.
        level_initializer: the output before the first step.
        training: return the layer to train with, not the one for inference.

    Raises:
        ValueError: if `tau_initializer` is negative, or `dt` is not positive.

    Examples:
        >>> lowpass(0.01, size=128).tau.shape
        (128,)
    """
    return _filter(filters.Lowpass, tau_initializer, size, dt, apply_during_training, level_initializer, training)


@checked
def alpha(
    tau_initializer: float | Array,
    size: int | Shape | None = None,
    *,
    dt: Parameter = 1e-3,
    apply_during_training: bool = True,
    level_initializer: float | Array = 0.0,
    training: bool = False,
) -> filters.Alpha | neurons.Rate:
    """Return `Alpha` of KerasSpiking; see `lowpass` for the arguments.

    KerasSpiking keeps the output and its derivative, which is (lowpass - y) / tau in the state of `jsnn.filters.Alpha`.
    Its derivative starts at 0, so both of ours start at the initial level.
    """
    return _filter(filters.Alpha, tau_initializer, size, dt, apply_during_training, level_initializer, training)


@checked
def l1(l1: float | Array = 0.01, target: Target = 0.0) -> Regularizer:
    """Return `regularizers.L1` of KerasSpiking, as an activity regulariser: `l1 * sum(|outputs - target|) / B`.

    Like all regularisers here it returns a function of a layer's outputs `[T, B, ...]` (or rates; for the last step
    alone, `outputs[-1:]`), the scalar of which is to be added to the loss. `target` is a number or a range (min, max)
    within which nothing is penalised. The function raises ValueError where there are no time and batch axes.

    Examples:
        >>> l1(0.5, target=(5.0, 10.0))(jnp.array([[[2.0, 7.0, 12.0]]]))
        Array(2.5, dtype=float32)
    """
    return l1l2(l1=l1, target=target)


@checked
def l2(l2: float | Array = 0.01, target: Target = 0.0) -> Regularizer:
    """Return `regularizers.L2` of KerasSpiking: `l2 * sum((outputs - target)^2) / B`; see `l1`.

    Examples:
        >>> l2(0.5, target=(5.0, 10.0))(jnp.array([[[2.0, 7.0, 12.0]]]))
        Array(6.5, dtype=float32)
    """
    return l1l2(l2=l2, target=target)


@checked
def l1l2(l1: float | Array = 0.0, l2: float | Array = 0.0, target: Target = 0.0) -> Regularizer:
    """Return `regularizers.L1L2` of KerasSpiking, as an activity regulariser: the sum of `l1` and `l2`, see there.

    Examples:
        >>> l1l2(0.5, 0.5, target=(5.0, 10.0))(jnp.array([[[2.0, 7.0, 12.0]]]))
        Array(9., dtype=float32)
    """
    return _penalty(lambda outputs: outputs, l1, l2, target)


@checked
def percentile(
    percentile: float = 100.0,
    axis: int | tuple[int, ...] = 1,
    target: Target = 0.0,
    l1: float | Array = 0.0,
    l2: float | Array = 0.0,
) -> Regularizer:
    """Return `regularizers.Percentile` of KerasSpiking: `l1l2` of a percentile of the outputs.

    `axis` counts in outputs `[T, B, ...]`: the default, the batch, is KerasSpiking's 0, and (0, 1) means the same in
    both. As there, either `l1` or `l2` must be given, or there is no penalty.

    Examples:
        >>> percentile(target=10.0, l1=1.0)(jnp.array([[[0.0, 4.0], [8.0, 6.0]]]))  # (2 + 4) / B
        Array(3., dtype=float32)
    """
    check_percentage("percentile", percentile)
    return _penalty(functools.partial(regularizers.percentile, q=percentile, axis=axis), l1, l2, target)


SpikingActivation, Lowpass, Alpha = spiking_activation, lowpass, alpha
L1, L2, L1L2, Percentile = l1, l2, l1l2, percentile


def _penalty(statistic: Callable[[Array], Array], l1: float | Array, l2: float | Array, target: Target) -> Regularizer:
    """Return both penalties on a statistic, divided by B as Keras does, as a function of outputs [T, B, ...]."""
    check_strength(l1)
    check_strength(l2)
    check_target(target)

    def penalty(outputs: Array) -> Array:
        if outputs.ndim < 3:
            raise ValueError(f"outputs must be [T, B, ...], got shape {outputs.shape}: a single step is outputs[None]")
        rates = statistic(outputs)
        both = regularizers.l1(rates, strength=l1, target=target) + regularizers.l2(rates, strength=l2, target=target)
        return both / outputs.shape[1]

    return penalty


def _filter(
    make: Any,
    tau: float | Array,
    size: int | Shape | None,
    dt: Parameter,
    apply_during_training: bool,
    level: float | Array,
    training: bool,
) -> Any:
    if training and not apply_during_training:
        return neurons.Rate(_linear)
    if size is None or not apply_during_training:
        return make(tau, dt, level)
    shape = (size,) if isinstance(size, int) else tuple(size)
    if min(shape, default=1) < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    check_memory("the filter's parameters", shape, copies=4)
    for name, value in (("tau_initializer", tau), ("level_initializer", level)):
        check_fits(shape, **{name: value})
    trained_tau, trained_level = (nnx.Param(jnp.broadcast_to(jnp.asarray(x, float), shape)) for x in (tau, level))
    return make(trained_tau, dt, trained_level)


def _activation(name: str | Activation) -> Activation:
    if not isinstance(name, str):
        return name
    if name not in ACTIVATIONS:
        nearest = difflib.get_close_matches(name, ACTIVATIONS, n=1, cutoff=0.0)[0]
        raise ValueError(f"unknown activation {name!r}, did you mean {nearest!r}? Known: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


@checked
def operations(network: Neuron | Callable[[Array], Array], inputs: Array, *, dt: float) -> Operations:
    """Return the operations that `ModelEnergy` of KerasSpiking has in mind, for `jsnn.energy.joules`.

    It takes the mean of what a layer is given, in Hz, for the rate of its events: spikes are 1 / dt high. Values that
    are not spikes count by their size, and so does the padding of a convolution.

    Args:
        network: any Neuron; or a rate network, a function, which is run for one step.
        inputs: `[T, B, ...]`, T being `timesteps_per_inference`; for a function `[B, ...]`.
        dt: the length of a step, in s.

    Raises:
        TypeError: as `jsnn.energy.count`.
        ValueError: as `jsnn.energy.count`, or if `dt` is not positive.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> network = jsnn.Sequential(nnx.Linear(4, 3, rngs=nnx.Rngs(0)), spiking_activation("relu", dt=0.01))
        >>> counted = operations(network, jnp.full((5, 1, 4), 20.0), dt=0.01)  # 12 connections, 5 steps, 20 Hz
        >>> jsnn.energy.joules(counted, "loihi") == 12 * 5 * 20 * 0.01 * 27.1e-12 + 5 * 3 * 81e-12
        True
    """
    check_dt(dt)
    counted = count(network, inputs)
    rates = [row.connections * row.steps * row.mean_input for row in counted.synapses]
    synapses = [row._replace(effective=rate * dt) for row, rate in zip(counted.synapses, rates)]
    return counted._replace(synapses=synapses)
