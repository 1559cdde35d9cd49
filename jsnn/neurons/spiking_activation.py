"""Neurons that spike at the rate which an activation function gives: the bridge from rate networks to spikes.

An activation is read as a firing rate r in Hz. Each step of `dt` seconds emits a whole number n of spikes, such that n
is r * dt on average, and puts out

    y = amplitude * n / dt

so that the output is amplitude * r on average: a rate network keeps its meaning when these neurons take the place of
its activations. As n has no useful derivative, training is *spiking-aware*: spikes forwards, and backwards, step by
step, the derivative of amplitude * r. No gradient flows through the membrane or through time.

Source: KerasSpiking's and nengo's neurons; Hunsberger and Eliasmith, "Training spiking deep networks for neuromorphic
hardware" (2016), for the gradient of the rate.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.neurons.base import cast
from jsnn.neurons.checks import is_function, is_key
from jsnn.neurons.pytree import FrozenPytree
from jsnn.neurons.ranges import POSITIVE, Range
from jsnn.types import Array, Parameter, Shape

_MANY = 2.0**30  # spikes in a step, from which on none are drawn

Activation: TypeAlias = Callable[[Array], Array]  # elementwise: current [...] -> rate [...], in Hz


@nnx.dataclass
class RateCoded(FrozenPytree):
    """The part of a neuron that turns the number of its spikes into its output.

    Attributes:
        dt: the length of a step, in s. An array may be traced, and so follow a schedule.
        spiking_aware: differentiate the rate in place of the spikes. False refuses to be differentiated, for networks
            that are only run, or trained as rate networks.
        amplitude: the integral of one spike over time.
    """

    dt: Parameter = 1e-3
    spiking_aware: bool = nnx.static(default=True)
    amplitude: Parameter = dataclasses.field(default=1.0, kw_only=True)

    def ranges(self) -> dict[str, Range]:
        return {**super().ranges(), "dt": POSITIVE}

    def emit(self, spikes: Array, rates: Array) -> Array:
        """Return the output for a number of spikes [...] that stands for `rates` [...], both of one dtype."""
        heights = spikes / cast(self.dt, spikes.dtype)
        differentiable = differentiated_as if self.spiking_aware else _refuse_to_differentiate
        return cast(self.amplitude, spikes.dtype) * differentiable(heights, rates)


@nnx.dataclass
class Activated(FrozenPytree):
    """The part of a neuron that holds an activation.

    Attributes:
        activation: any elementwise function from current to rate.
    """

    activation: Activation = nnx.static(default=jax.nn.relu)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_function(self.activation):
            raise TypeError(f"activation must be a function such as jax.nn.relu, got {self.activation!r}")


@nnx.dataclass(kw_only=True)
class InitialMembrane(FrozenPytree):
    """The part of a neuron that says where its membrane starts.

    Attributes:
        v_init: the membrane before the first step, in units of one spike: a number or an array; or a key made by
            `jax.random.key`, with which `init` draws it uniformly from [0, 1), the same at every call.
    """

    v_init: Parameter = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.v_init, jax.Array | np.ndarray) and self.v_init.dtype == np.uint32:
            raise TypeError(
                f"v_init must be a number, an array or a key, got uint32 of shape {self.v_init.shape}: "
                f"make keys with jax.random.key, not with jax.random.PRNGKey"
            )

    def initial_membrane(self, shape: Shape, dtype: Any) -> Array:
        """Return the membrane before the first step."""
        if is_key(self.v_init):
            return jax.random.uniform(self.v_init, shape, dtype)
        return jnp.broadcast_to(jnp.asarray(self.v_init, dtype), shape)


class SpikingActivationState(NamedTuple):
    """The state of `SpikingActivation`."""

    v: Array
    """What has been integrated and not been spiked, in units of one spike, in [0, 1), [B, ...]."""


@nnx.dataclass
class SpikingActivation(InitialMembrane, RateCoded, Activated):
    """Spikes regularly, at the rate that an activation gives.

    Each step, in this order:

        v = v + activation(x) * dt          integrate the rate
        n = floor(v)                        as many whole spikes as there are; n > 1 and n < 0 are possible
        v = v - n                           keep the rest
        y = amplitude * n / dt

    After t seconds the number of spikes is off by less than one. Backwards, y has the derivative
    amplitude * activation'(x).

    Source: KerasSpiking's `SpikingActivation`, nengo's `RegularSpiking` and `SpikingRectifiedLinear`.

    Attributes:
        activation: any elementwise function from current to rate in Hz.
        dt: the length of a step, in s; a number or an array, which may be traced and so follow a schedule.
        spiking_aware: differentiate `amplitude * activation(x)` in place of the spikes; False refuses.
        amplitude: the integral of one spike over time.
        v_init: the membrane before the first step: a number, an array, or a key made by `jax.random.key`, with which
            `init` draws it uniformly from [0, 1). Without it (0.0) all neurons of one rate spike in step.

    Raises:
        ValueError: if `dt` is not positive.
        TypeError: if `activation` is not a function, if `v_init` is a key of the old style (uint32), or when a neuron
            with `spiking_aware=False` is differentiated.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> neuron = jsnn.SpikingActivation(dt=0.1)  # a relu; each spike is 1 / dt = 10 high
        >>> state, outputs = jsnn.unroll(neuron, jnp.full((8, 1), 3.75))  # 3.75 Hz, [T, N] -> [T, N]
        >>> outputs[:, 0].tolist()
        [0.0, 0.0, 10.0, 0.0, 0.0, 10.0, 0.0, 10.0]
    """

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> SpikingActivationState:
        return SpikingActivationState(v=self.initial_membrane(shape, dtype))

    def step(self, state: SpikingActivationState, current: Array) -> tuple[SpikingActivationState, Array]:
        rates = self.activation(current.astype(state.v.dtype))
        v = jax.lax.stop_gradient(state.v + rates * cast(self.dt, state.v.dtype))
        spikes = jnp.floor(v)
        return SpikingActivationState(v - spikes), self.emit(spikes, rates).astype(current.dtype)


@nnx.dataclass
class Rate(Activated):
    """The neuron without spikes and without a state (it is `()`): its output is activation(x) at every step.

    It takes the place of `SpikingActivation` where a network is trained as a rate network.

    Raises:
        TypeError: if `activation` is not a function.

    Examples:
        >>> import jax, jax.numpy as jnp, jsnn
        >>> state, outputs = jsnn.unroll(jsnn.Rate(jax.nn.relu), jnp.array([[-1.0], [3.75]]))
        >>> outputs[:, 0].tolist()
        [0.0, 3.75]
    """

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> tuple[()]:
        return ()

    def step(self, state: tuple[()], current: Array) -> tuple[tuple[()], Array]:
        return state, self.activation(current).astype(current.dtype)


class RandomSpikesState(NamedTuple):
    """The state of `StochasticSpiking` and `PoissonSpiking`."""

    key: Array
    """Shape=(), for the steps to come."""


@nnx.dataclass
class Keyed(FrozenPytree):
    """The part of a neuron that holds a key made by `jax.random.key`."""

    key: Array

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_key(self.key):
            raise TypeError(f"key must be made by jax.random.key, got {self.key!r}")


@nnx.dataclass
class RandomSpikes(RateCoded, Activated, Keyed):
    """What the neurons share that draw the number of their spikes anew at each step.

    The state is a key, which each step splits in two: one draws the spikes of the whole batch, the other is the next
    state. So steps one by one give the same spikes as an unroll. But two unrolls from `init` give the same spikes as
    well: go on from the state, or give the neuron another key with `dataclasses.replace(neuron, key=...)`. Neurons of
    one network need a key each.
    """

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> RandomSpikesState:
        return RandomSpikesState(self.key)

    def step(self, state: RandomSpikesState, current: Array) -> tuple[RandomSpikesState, Array]:
        next_key, key = jax.random.split(state.key)
        rates = self.activation(current.astype(jnp.promote_types(current.dtype, jnp.float32)))
        expected = jax.lax.stop_gradient(rates) * cast(self.dt, rates.dtype)
        spikes = self.draw(key, expected)
        return RandomSpikesState(next_key), self.emit(spikes, rates).astype(current.dtype)

    def draw(self, key: Array, expected: Array) -> Array:
        """Return the number of spikes [...], for the number expected [...], in its dtype."""
        raise NotImplementedError


@nnx.dataclass
class StochasticSpiking(RandomSpikes):
    """Spikes at random, at the rate that an activation gives, without memory and with the least variance.

        n = floor(r) + [U < r - floor(r)],  r = activation(x) * dt,  U uniform in [0, 1),  y = amplitude * n / dt

    Its mean is r, also where r is negative; its variance is f * (1 - f), f = r - floor(r). Backwards, y has the
    derivative amplitude * activation'(x). How its key is used, and what to mind, says `RandomSpikes`.

    Source: nengo's `StochasticSpiking`.

    Attributes:
        key: made by `jax.random.key`.

    `activation`, `dt`, `spiking_aware` and `amplitude` are those of `SpikingActivation`.

    Raises:
        ValueError: if `dt` is not positive.
        TypeError: if `key` is not made by `jax.random.key`, and as `SpikingActivation`.

    Examples:
        >>> import jax, jax.numpy as jnp, jsnn
        >>> neuron = jsnn.StochasticSpiking(jax.random.key(0), dt=0.25)
        >>> state, outputs = jsnn.unroll(neuron, jnp.full((8000, 1), 5.0))  # n is 1 or 2, with probability 3/4 and 1/4
        >>> jnp.unique(outputs).tolist(), abs(outputs.mean() - 5.0) < 0.1
        ([4.0, 8.0], Array(True, dtype=bool))
    """

    def draw(self, key: Array, expected: Array) -> Array:
        whole = jnp.floor(expected)
        is_up = jax.random.uniform(key, expected.shape, expected.dtype) < expected - whole
        return whole + is_up.astype(expected.dtype)


@nnx.dataclass
class PoissonSpiking(RandomSpikes):
    """Spikes as a Poisson process at the rate that an activation gives.

        n ~ Poisson(r),  r = max(activation(x) * dt, 0),  y = amplitude * n / dt

    Mean and variance are r; from 2^30 spikes a step on n is r, as int32 holds no more. A negative rate counts as 0: it
    spikes never. Backwards, y has the derivative amplitude * activation'(x), below 0 as well. How its key is used, and
    what to mind, says `RandomSpikes`.

    Source: nengo's `PoissonSpiking`.

    Attributes:
        key: made by `jax.random.key`; of JAX's default kind, the only one that draws Poisson numbers.

    `activation`, `dt`, `spiking_aware` and `amplitude` are those of `SpikingActivation`.

    Errors: as `StochasticSpiking`.

    Examples:
        >>> import jax, jax.numpy as jnp, jsnn
        >>> neuron = jsnn.PoissonSpiking(jax.random.key(0), dt=0.25)
        >>> state, outputs = jsnn.unroll(neuron, jnp.full((8000, 1), 5.0))
        >>> abs(outputs.mean() - 5.0) < 0.2, abs(outputs.var() - 5.0 / 0.25) < 2.0
        (Array(True, dtype=bool), Array(True, dtype=bool))
    """

    def draw(self, key: Array, expected: Array) -> Array:
        spikes = jax.random.poisson(key, jnp.clip(expected, 0, _MANY)).astype(expected.dtype)
        return jnp.where(expected <= _MANY, spikes, expected)


@jax.custom_jvp
def differentiated_as(value: Array, smooth: Array) -> Array:
    """Return `value` [...], exactly, with the derivatives of `smooth` [...]; both of one dtype."""
    return value


@differentiated_as.defjvp
def _differentiated_as_jvp(primals, tangents):
    return differentiated_as(*primals), tangents[1]


@jax.custom_jvp
def _refuse_to_differentiate(value: Array, smooth: Array) -> Array:
    return value


@_refuse_to_differentiate.defjvp
def _refuse_to_differentiate_jvp(primals, tangents):
    raise TypeError(
        "a neuron with spiking_aware=False cannot be differentiated: make it with spiking_aware=True, "
        "or train the rate network and convert it"
    )
