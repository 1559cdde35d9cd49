"""What can be put around any neuron, or beside it: refractory period, escape noise, mean rate, dropout in time."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jsnn.neurons.alif import ALIF
from jsnn.neurons.base import SpikingNeuron, cast
from jsnn.neurons.checks import check_is_neuron, has_field, is_key
from jsnn.neurons.pytree import FrozenPytree
from jsnn.neurons.ranges import NOT_NEGATIVE, POSITIVE, Range
from jsnn.neurons.shapes import check_keeps_shape
from jsnn.rounding import wide
from jsnn.types import Array, Neuron, Parameter, Shape, State

__all__ = ["Dropout", "DropoutState", "MeanRate", "Refractory", "RefractoryState", "Stochastic"]


class RefractoryState(NamedTuple):
    """The state of `Refractory`."""

    neuron: State
    """That of the neuron inside."""
    wait: Array
    """Steps for which the neuron still rests, [B, ...]."""


@nnx.dataclass
class Refractory(FrozenPytree):
    """Lets a neuron rest for some steps after each of its spikes. Itself a Neuron.

        wait = 0:  state, s = neuron.step(state, x);  wait = period * (s != 0)
        wait > 0:  the state stays as it is, whatever x is;  s = 0;  wait = wait - 1

    The time of rest is a hard switch that no gradient passes; that of the neuron's own step flows where it took one.

    Source: after Norse's `lif_refrac_step`, which holds the membrane at rest, but lets the synaptic current go on. For
    the same here, put the synapse in front: `Sequential(LI(decay_syn), Refractory(LIF(...), period))`.

    Attributes:
        neuron: any neuron; its output must have the shape of its input. A part of its state that has another shape,
            such as a key, goes on while the neuron rests. A recurrence goes around,
            `Recurrent(Refractory(neuron, period), synapse)`: inside, the last spikes would be held with the state, and
            be fed back at every step of rest.
        period: the number of steps, 0 or more; a number, or an array.

    Raises:
        TypeError: if `neuron` is not a neuron.
        ValueError: if `period` is negative; from `step` and `unroll`, if `neuron` gives back another shape.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> neuron = jsnn.Refractory(jsnn.IF(threshold=1.0), period=2)
        >>> jsnn.unroll(neuron, jnp.full((8, 1), 0.75))[1][:, 0].tolist()
        [0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    """

    neuron: Neuron
    period: Parameter

    def __post_init__(self) -> None:
        check_is_neuron("Refractory", self.neuron)
        super().__post_init__()

    def ranges(self) -> dict[str, Range]:
        return {**super().ranges(), "period": NOT_NEGATIVE}

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> RefractoryState:
        wait = jnp.zeros(shape, jnp.promote_types(dtype, jnp.float32))  # bfloat16 cannot count down from above 256
        return RefractoryState(self.neuron.init(shape, dtype), wait)

    def step(self, state: RefractoryState, current: Array) -> tuple[RefractoryState, Array]:
        inner, spikes = self.neuron.step(state.neuron, current)
        check_keeps_shape(self, spikes, current)
        rests = state.wait > 0

        def held(before: Array, after: Array) -> Array:
            return jnp.where(rests, before, after) if after.shape == rests.shape else after

        spikes = jnp.where(rests, jnp.zeros_like(spikes), spikes)
        period = jnp.where(spikes != 0, jnp.asarray(self.period, state.wait.dtype), 0)  # which may be infinite
        wait = jnp.where(rests, state.wait - 1, period)
        return RefractoryState(jax.tree.map(held, state.neuron, inner), wait), spikes


class StochasticState(NamedTuple):
    """The state of `Stochastic`."""

    neuron: State
    """That of the neuron inside."""
    key: Array
    """Shape=(), for the steps to come."""


@nnx.dataclass
class Stochastic(FrozenPytree):
    """Escape noise: a neuron that may spike below its threshold, and may not above it. Itself a Neuron.

        P(s = 1) = 1 / (1 + exp(-(v - threshold) / width))

    As width goes to 0 it becomes the neuron inside. It is drawn by adding logistic noise to v - threshold where the
    neuron compares them, and nowhere else; backwards, its surrogate derivative is taken there, noise included.

    The state holds a key, which each step splits in two, as that of `StochasticSpiking`: two unrolls from `init` give
    the same spikes, unless the neuron gets another key with `dataclasses.replace(neuron, key=...)`.

    Source: Gerstner and Kistler, "Spiking neuron models" (2002), section 5.3.

    Attributes:
        neuron: one that compares a membrane with a threshold by its field `surrogate`: any `SpikingNeuron`, `SRM0`,
            `SlidingPSN` or `SigmaDelta`. A recurrence goes around: `Recurrent(Stochastic(...), synapse)`.
        key: made by `jax.random.key`.
        width: how far from the threshold chance reaches, in the unit of the membrane; above 0.

    Raises:
        TypeError: if `neuron` has no field `surrogate`, or `key` is not made by `jax.random.key`.
        ValueError: if `width` is not positive, or `neuron` has a late reset (`reset_delay`), which reads the last
            spikes from the membrane.

    Examples:
        >>> import jax, jax.numpy as jnp, jsnn
        >>> neuron = jsnn.Stochastic(jsnn.LIF(decay=0.0), jax.random.key(0), width=0.25)
        >>> rates = jsnn.unroll(neuron, jnp.tile(jnp.array([0.5, 1.0, 1.5]), (8000, 1)))[1].mean(0)
        >>> abs(rates - jnp.array([0.119, 0.5, 0.881])).max() < 0.02
        Array(True, dtype=bool)
    """

    neuron: Neuron
    key: Array
    width: Parameter = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not has_field(self.neuron, "surrogate"):
            raise TypeError(f"neuron must have a field `surrogate`, as jsnn.LIF has, got {type(self.neuron).__name__}")
        remembers = isinstance(self.neuron, ALIF) or not isinstance(self.neuron, SpikingNeuron)
        if not remembers and self.neuron.reset_delay and self.neuron.reset != "none":  # type: ignore[attr-defined]
            raise ValueError(
                f"neuron must have reset_delay=False, got {type(self.neuron).__name__} with reset_delay=True: "
                f"its late reset reads the last spikes from the membrane, where noise left no trace"
            )
        if not is_key(self.key):
            raise TypeError(f"key must be made by jax.random.key, got {self.key!r}")

    def ranges(self) -> dict[str, Range]:
        return {**super().ranges(), "width": POSITIVE}

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> StochasticState:
        return StochasticState(self.neuron.init(shape, dtype), self.key)

    def step(self, state: StochasticState, current: Array) -> tuple[StochasticState, Array]:
        next_key, key = jax.random.split(state.key)
        surrogate = self.neuron.surrogate  # type: ignore[attr-defined]
        noise = jax.random.logistic(key, current.shape, jnp.promote_types(current.dtype, jnp.float32))

        def escape(x: Array) -> Array:
            return surrogate(x + (cast(self.width, x.dtype) * noise).astype(x.dtype))

        noisy: Any = dataclasses.replace(self.neuron, surrogate=escape)  # type: ignore[type-var]
        inner, spikes = noisy.step(state.neuron, current)
        return StochasticState(inner, next_key), spikes


@nnx.dataclass
class MeanRate(FrozenPytree):
    """The mean of a neuron's outputs over some steps of the same current, in one step. Itself a Neuron.

        y = (s[1] + ... + s[n]) / n,  s[1], ..., s[n] those of the neuron from its own initial state, with x at each

    No state goes from one step to the next, but for the keys of one that draws random numbers, such as `Stochastic`: it
    draws others at each step. A network of such neurons is trained in one step at the price of one
    product for each layer, as if every layer sent its rate. With the neurons themselves and n steps it then needs
    little more training: a layer's n steps differ from its rate only in when the spikes come. `LIF(decay=1.0,
    v_rest=0.5)`, which resets by subtraction, rounds the current to the nearest of the n + 1 rates.

    The steps are not stored for the gradient, they are computed again.

    Source: after Bu et al., "Optimal ANN-SNN conversion for high-accuracy and ultra-low-latency spiking neural
    networks" (ICLR 2022), and the integer spikes of Luo et al., "Integer-valued training and spike-driven inference
    spiking neural network for high-performance and energy-efficient object detection" (ECCV 2024); here for any neuron.

    Attributes:
        neuron: any neuron.
        num_steps: n, 1 or more.

    Raises:
        TypeError: if `neuron` is not a neuron.
        ValueError: if `num_steps` is below 1.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> neuron = jsnn.MeanRate(jsnn.LIF(decay=1.0, v_rest=0.5), num_steps=4)
        >>> jsnn.unroll(neuron, jnp.array([[-0.3, 0.1, 0.2, 0.6, 2.0]]))[1].tolist()
        [[0.0, 0.0, 0.25, 0.5, 1.0]]
    """

    neuron: Neuron
    num_steps: int = nnx.static()

    def __post_init__(self) -> None:
        check_is_neuron("MeanRate", self.neuron)
        super().__post_init__()
        if self.num_steps < 1:
            raise ValueError(f"num_steps must be >= 1, got {self.num_steps}")

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> tuple[Array, ...]:
        return _keys_of(self.neuron.init(shape, dtype))

    def step(self, state: tuple[Array, ...], current: Array) -> tuple[tuple[Array, ...], Array]:
        def average(*outputs: Array) -> Array:
            total: Any = sum(map(wide, outputs))
            return (total / self.num_steps).astype(jnp.result_type(outputs[0].dtype, float))

        def mean(keys: tuple[Array, ...], current: Array) -> Any:
            inner = self.neuron.init(current.shape, jnp.promote_types(current.dtype, jnp.float32))
            given, outputs = iter(keys), []
            inner = jax.tree.map(lambda leaf: next(given) if is_key(leaf) else leaf, inner)
            for _ in range(self.num_steps):  # not a loop of XLA: the steps become one pass over the array
                inner, now = self.neuron.step(inner, current)
                outputs.append(now)
            return _keys_of(inner), jax.tree.map(average, *outputs)

        return jax.checkpoint(mean)(state, current)


def _keys_of(state: State) -> tuple[Array, ...]:
    """Return the random keys in a state."""
    return tuple(leaf for leaf in jax.tree.leaves(state) if is_key(leaf))


class DropoutState(NamedTuple):
    """The state of `Dropout`."""

    mask: Array
    """0 where dropped, else 1 / (1 - rate), [B, ...]."""


@nnx.dataclass
class Dropout(FrozenPytree):
    """Dropout that drops the same neurons at all time steps of an unroll. A Neuron without spikes of its own.

        y[t] = mask * x[t],  mask = 1 / (1 - rate) with probability 1 - rate, else 0

    The mask is drawn once, in `init`. `nnx.Dropout` in its place would draw another at each step, which is noise rather
    than a smaller network: over many steps its mean hardly changes.

    For the next batch give it another key, `dataclasses.replace(dropout, key=...)`, in a network as below; without a
    key (`None`) it drops nothing, as one wants it in evaluation.

    Source: Srivastava et al. (2014); one mask for all steps: Lee et al., "Enabling spike-based backpropagation for
    training deep neural network architectures" (2020).

    Attributes:
        rate: the share that is dropped, in [0, 1).
        key: made by `jax.random.key`, or None.

    Raises:
        ValueError: if `rate` lies outside [0, 1).
        TypeError: if `key` is neither.

    Examples:
        >>> import dataclasses, jax, jax.numpy as jnp, jsnn
        >>> _, y = jsnn.unroll(jsnn.Dropout(0.5, jax.random.key(0)), jnp.ones((3, 6)))
        >>> bool((y == y[0]).all()), sorted(set(y[0].tolist()))
        (True, [0.0, 2.0])
        >>> def drop_others(network, key):  # for a loss, with the key that it is given for its batch
        ...     def change(part):
        ...         if not isinstance(part, jsnn.Dropout):
        ...             return part
        ...         return dataclasses.replace(part, key=jax.random.fold_in(key, jax.random.bits(part.key)))
        ...
        ...     return jax.tree.map(change, network, is_leaf=lambda part: isinstance(part, jsnn.Dropout))
        >>> network = jsnn.Sequential(jsnn.LIF(), jsnn.Dropout(0.5, jax.random.key(0)))
        >>> network.layers[1].key == drop_others(network, jax.random.key(1)).layers[1].key
        Array(False, dtype=bool)
    """

    rate: float = nnx.static()
    key: Array | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.rate < 1:
            raise ValueError(f"rate must be in [0, 1), got {self.rate}")
        if self.key is not None and not is_key(self.key):
            raise TypeError(f"key must be made by jax.random.key, or None, got {self.key!r}")

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> DropoutState:
        if self.key is None:
            return DropoutState(jnp.ones(shape, dtype))
        kept = jax.random.bernoulli(self.key, 1 - self.rate, shape)
        return DropoutState(kept.astype(dtype) / jnp.asarray(1 - self.rate, dtype))

    def step(self, state: DropoutState, current: Array) -> tuple[DropoutState, Array]:
        return state, (state.mask * current.astype(state.mask.dtype)).astype(current.dtype)
