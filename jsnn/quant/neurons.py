"""Neurons with rounded states, and with integers alone."""

from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.layers import RecurrentState
from jsnn.neurons import IF
from jsnn.neurons.base import SpikingNeuron, leak
from jsnn.neurons.cuba import CuBaState, CurrentSynapse
from jsnn.neurons.lif import LIFState
from jsnn.neurons.pytree import FrozenPytree
from jsnn.quant.fixed import LARGEST, Factor, factor_of, integers, largest, rescaled, saturated, straight_through
from jsnn.quant.synapses import IntegerSynapse
from jsnn.types import Array, Parameter, Shape


class Constants(NamedTuple):
    """The parameters of a neuron in integers."""

    leak: Factor
    gain: Factor
    """From the input, or from the synaptic current, to the membrane."""
    rest: Array
    threshold: Array
    v_reset: Array
    leak_syn: Factor
    jump: Factor
    """From the input to the synaptic current."""


def advanced(constants: Constants, state: Any, x: Array, bits: int, decays_last: bool) -> tuple[Array, Array | None]:
    """Return the membrane before it fires, and the synaptic current to carry on, after an input; all int32."""
    v, kept = state.v, None
    if isinstance(state, CuBaState):
        i = state.i if decays_last else state.i - rescaled(state.i, constants.leak_syn)
        kept = x = saturated(i + rescaled(x, constants.jump), bits)
        if decays_last:
            kept = saturated(x - rescaled(x, constants.leak_syn), bits)
    v = v + rescaled(constants.rest - v, constants.leak) + rescaled(x, constants.gain)
    return saturated(v, bits), kept


@nnx.dataclass
class QuantizedNeuron(FrozenPytree):
    """A neuron whose states are rounded to integers times a unit at each step; its gradients are its own.

    States and outputs are float32, in which they are exact, whatever the dtype of the input.

    Attributes:
        neuron: `jsnn.IF`, `LIF`, `LI`, `CuBaLIF` or `CuBaLI`, whose parameters are trained.
        bits: of a state, which saturates.
        unit: of membranes and thresholds, a power of two.
        unit_syn: of synaptic currents, a power of two.
        unit_in: of its input.
        most: the largest input, in its unit.
    """

    neuron: Any
    bits: int = nnx.static(default=16)
    unit: float = nnx.static(default=2.0**-12)
    unit_syn: float = nnx.static(default=2.0**-12)
    unit_in: float = nnx.static(default=2.0**-13)
    most: int = nnx.static(default=LARGEST)

    def constants(self) -> Constants:
        """Return the parameters in integers."""
        cell = self.neuron.in_use()

        def number(name: str, default: float) -> Array:
            return jnp.asarray(getattr(cell, name, default), jnp.float32)

        def in_units(name: str) -> Array:
            return saturated(integers(number(name, 0.0), self.unit), self.bits)

        is_cuba = isinstance(cell, CurrentSynapse)
        source = self.unit_syn if is_cuba else self.unit_in
        return Constants(
            factor_of(0.0 if isinstance(cell, IF) else leak(cell.decay, jnp.float32)),
            factor_of(number("gain", 1.0) * np.float32(source / self.unit)),
            in_units("v_rest"),
            jnp.maximum(in_units("threshold"), 1),
            in_units("v_reset"),
            factor_of(leak(cell.decay_syn, jnp.float32) if is_cuba else 0.0),
            factor_of(np.float32(self.unit_in / self.unit_syn)),
        )

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> Any:
        state = self.neuron.init(shape, jnp.float32)
        rest = self.constants().rest.astype(jnp.float32) * np.float32(self.unit)
        return state._replace(v=jnp.broadcast_to(rest, shape))

    def step(self, state: Any, current: Array) -> tuple[Any, Array]:
        cell, constants, units = self.neuron.in_use(), self.constants(), (self.unit, self.unit_syn)
        x = current.astype(jnp.float32)
        count = integers(x, self.unit_in, self.most)
        x = straight_through(count, self.unit_in, x)
        whole = type(state)(*(integers(part, unit) for part, unit in zip(state, units)))
        v, i = advanced(constants, whole, count, self.bits, _decays_last(cell))
        kept: tuple[Array, ...] = ()
        if i is not None:
            smooth, smooth_i = cell.integrate_current(state, x)
            kept = (straight_through(i, self.unit_syn, smooth_i),)
        else:
            smooth = state.v + x if isinstance(cell, IF) else cell.integrate(state.v, x)
        bound = largest(self.bits) * self.unit
        v = straight_through(v, self.unit, jnp.clip(smooth, -bound, bound))
        if not isinstance(cell, SpikingNeuron):
            return type(state)(v, *kept), v
        threshold = straight_through(constants.threshold, self.unit, _real(cell.threshold))
        cell = cell._changed({"v_reset": straight_through(constants.v_reset, self.unit, _real(cell.v_reset))})
        v, spikes = cell.fire_and_reset(v, cell.fire(state.v, threshold), threshold)
        return type(state)(jnp.clip(v, -bound, bound), *kept), spikes


def _decays_last(cell: Any) -> bool:
    return getattr(cell, "synapse_order", "") == "jump_then_decay"


def _real(parameter: Parameter) -> Array:
    return jnp.asarray(parameter, jnp.float32)


@nnx.dataclass
class IntegerNeuron(FrozenPytree):
    """The integer twin of a `QuantizedNeuron`: states in int16, spikes in int8, membranes as output in int16.

    Attributes:
        constants: its parameters.
        kind: the class of its state.
        bits: of a state, which saturates.
        fires: whether it puts out spikes, and not its membrane.
        reset: "subtract", "zero" or "none".
        reset_delay: whether it resets a step late.
        inclusive: whether a membrane at its threshold spikes, as with the surrogates of `jsnn.compat.spikingjelly`.
        decays_last: whether the synaptic current decays after its jump.
        dtype: of its input: int32 currents, or int8 inputs.
    """

    constants: Constants
    kind: type = nnx.static(default=LIFState)
    bits: int = nnx.static(default=16)
    fires: bool = nnx.static(default=True)
    reset: str = nnx.static(default="subtract")
    reset_delay: bool = nnx.static(default=False)
    inclusive: bool = nnx.static(default=False)
    decays_last: bool = nnx.static(default=False)
    dtype: str = nnx.static(default="int32")
    _takes_integers: ClassVar[bool] = True

    @classmethod
    def of(cls, neuron: QuantizedNeuron) -> "IntegerNeuron":
        """Return the twin of a neuron."""
        cell = neuron.neuron
        return cls(
            neuron.constants(),
            CuBaState if isinstance(cell, CurrentSynapse) else LIFState,
            neuron.bits,
            isinstance(cell, SpikingNeuron),
            getattr(cell, "reset", "none"),
            getattr(cell, "reset_delay", False),
            isinstance(cell, SpikingNeuron) and bool(cell.surrogate(jnp.zeros(()))),
            _decays_last(cell),
            "int32" if neuron.most == LARGEST else "int8",
        )

    def per_neuron(self) -> dict[str, Any]:
        """Return what must fit the neurons."""
        parts = self.constants._asdict()
        return {name: part.multiplier if isinstance(part, Factor) else part for name, part in parts.items()}

    def init(self, shape: Shape, dtype: Any = jnp.int32) -> Any:
        rest = jnp.broadcast_to(self.constants.rest, shape).astype(jnp.int16)
        return LIFState(rest) if self.kind is LIFState else CuBaState(rest, jnp.zeros(shape, jnp.int16))

    def step(self, state: Any, current: Array) -> tuple[Any, Array]:
        if current.dtype != self.dtype:
            kind = "currents, int32: put a layer before it" if self.dtype == "int32" else "inputs, int8"
            raise TypeError(f"this integer neuron takes {kind}, got {current.dtype}")
        before = type(state)(*(part.astype(jnp.int32) for part in state))
        v, i = advanced(self.constants, before, current.astype(jnp.int32), self.bits, self.decays_last)
        kept = () if i is None else (i.astype(jnp.int16),)
        if not self.fires:
            v = v.astype(jnp.int16)
            return type(state)(v, *kept), v
        fire = jnp.greater_equal if self.inclusive else jnp.greater
        threshold = self.constants.threshold
        if self.reset_delay:
            v = self.after_reset(v, fire(before.v, threshold))
            spikes = fire(v, threshold)
        else:
            spikes = fire(v, threshold)
            v = self.after_reset(v, spikes)
        return type(state)(saturated(v, self.bits).astype(jnp.int16), *kept), spikes.astype(jnp.int8)

    def after_reset(self, v: Array, spikes: Array) -> Array:
        """Return the membrane after the reset that spikes call for."""
        if self.reset == "subtract":
            return v - jnp.where(spikes, self.constants.threshold, 0)
        return jnp.where(spikes, self.constants.v_reset, v) if self.reset == "zero" else v


@nnx.dataclass
class IntegerRecurrent(FrozenPytree):
    """The integer twin of `jsnn.Recurrent`: int32 currents -> int8 spikes, which come back a step later."""

    neuron: IntegerNeuron
    synapse: IntegerSynapse
    _takes_integers: ClassVar[bool] = True

    def init(self, shape: Shape, dtype: Any = jnp.int32) -> RecurrentState:
        return RecurrentState(self.neuron.init(shape), jnp.zeros(shape, jnp.int8))

    def step(self, state: RecurrentState, current: Array) -> tuple[RecurrentState, Array]:
        total = jnp.clip(current + self.synapse(state.outputs), -LARGEST, LARGEST)
        inner, spikes = self.neuron.step(state.neuron, total)
        return RecurrentState(inner, spikes), spikes
