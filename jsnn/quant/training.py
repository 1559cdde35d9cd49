"""Networks with rounded weights and states, made ready for training."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.arguments import checked, is_traced
from jsnn.layers import Recurrent, Sequential
from jsnn.network import Network
from jsnn.neurons.base import SpikingNeuron
from jsnn.neurons.checks import check_is_neuron
from jsnn.neurons.cuba import CurrentSynapse
from jsnn.neurons.pytree import map_parts, within_ranges
from jsnn.neurons.shapes import described
from jsnn.quant.checks import NEURONS, SYNAPSES, after, check_parts, check_rounded, keeps, power_of, value_of
from jsnn.quant.fixed import LARGEST_INPUT
from jsnn.quant.neurons import QuantizedNeuron
from jsnn.quant.synapses import QuantizedSynapse
from jsnn.tracing import trace_network
from jsnn.types import Neuron, State

_CURRENT_BITS = 13  # the smallest threshold is 2**12 to 2**13 units of a current


class Units(NamedTuple):
    """What the integers of a network count."""

    current: float
    """The unit of what a layer puts out."""
    readout: float
    """The unit of the membranes that `LI` and `CuBaLI` put out."""
    input_scale: float
    """The unit of the input."""


def headroom(states: int) -> int:
    """Return the power of two that a membrane of so many bits reaches, in thresholds."""
    return 1 + states // 4


class Quantized:
    """A network that `aware` has made."""

    units: Units
    options: tuple[tuple[str, Any], ...]
    """What it was made with, for files."""


class QuantizedSequential(Quantized, Sequential):
    """A `Sequential` with rounded weights and states."""


class QuantizedNetwork(Quantized, Network):
    """A `Network` with rounded weights and states."""

    def one_step(self, x: Any) -> Any:
        """Return the function of one time step."""
        return super().one_step(jax.tree.map(lambda x: x.astype(jnp.float32), x))

    def init(self, shape: Any, dtype: Any = jnp.float32) -> State:
        """Return the state before the first step, for inputs of `shape`, `[B, ...]`."""
        check_rounded(trace_network(self, described(shape, dtype)), (QuantizedNeuron, Network))
        return super().init(shape, dtype)


@checked
def aware(
    network: Neuron,
    weights: int = 8,
    states: int = 16,
    *,
    per_channel: bool = True,
    power_of_two: bool = False,
    input_scale: float | None = None,
    readout_range: float | None = None,
) -> Any:
    """Return a copy of a network that rounds its weights and states, to be trained so: quantisation-aware training.

    It runs in float32, and every number in it is an integer times a unit, so that `integer` can do the same to the bit.
    Gradients take a rounding for the identity; where a state saturates, its gradient is 0. Parameters that the network
    trains are trained here too, in float32.

    Weights are integers times a scale, the largest of which is the largest weight of the output channel. Decays and
    gains are multipliers of 8 bits and a shift, a leak 1 - decay within 0.4% of itself. Membranes saturate at 32
    thresholds with 16 bits, at 8 with 8 bits. Synaptic currents have `states` bits too.

    Inputs are whole numbers from -127 to 127, such as spikes, and others are rounded to them. **Real-valued inputs,
    such as pixels in [0, 1], need an `input_scale`**: what an input of 1 is, as 1/127.

    Args:
        network: a `Sequential`, a `Network` or a neuron, made of `jsnn.Linear` and `jsnn.Conv` (or those of Flax),
            `IF`, `LIF`, `LI`, `CuBaLIF`, `CuBaLI`, `Recurrent`, `flatten` and `max_pool`.
        weights: the bits of a weight, 2 to 8.
        states: the bits of a membrane or a synaptic current, 4 to 16.
        per_channel: whether each output channel has a scale of its own, or each layer one.
        power_of_two: whether scales of weights are powers of two, which makes a multiplication a shift.
        input_scale: the unit of the inputs of a `Sequential` or a neuron; None: 1.
        readout_range: the potential that `LI` and `CuBaLI` must be able to reach, beyond which they saturate; None: 16
            times the largest threshold.

    Raises:
        TypeError: if something in the network does not fit; it is named, with what fits.
        ValueError: if a number of bits is out of range; if layers stand in an order that integers cannot run, or
            thresholds lie too far apart; or if a `Network` is given an `input_scale`.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> network = jsnn.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), jsnn.LIF(0.9))
        >>> rounded = jsnn.quant.aware(network, weights=4, states=8)
        >>> jsnn.unroll(rounded, jnp.ones((10, 2, 3)))[1].shape
        (10, 2, 4)
    """
    check_is_neuron("quant.aware", network)
    for name, bits, low, high in (("weights", weights, 2, 8), ("states", states, 4, 16)):
        if not low <= bits <= high:
            raise ValueError(f"{name} must have {low} to {high} bits, got {bits}")
    for name, number in (("input_scale", input_scale), ("readout_range", readout_range)):
        if number is not None and not 0 < number < math.inf:
            raise ValueError(f"{name} must be finite and > 0, got {number}")
    if isinstance(network, Quantized):
        raise TypeError(f"quant.aware takes a network that is not rounded yet, got {type(network).__name__}")
    if any(map(is_traced, jax.tree.leaves(network))):
        raise TypeError("quant.aware takes a network with known weights: call it outside of jax.jit")
    if not isinstance(network, Network):
        network = Sequential((type(network).__name__, network))
    copy: Any = within_ranges(nnx.clone(network))
    check_parts(copy)
    for _, part in nnx.iter_graph(copy):
        if isinstance(part, Sequential):
            part.own_names = part.names  # which the rounded layers keep
    maker = _Maker(copy, weights, states, per_channel, power_of_two, input_scale, readout_range)
    if isinstance(copy, Sequential):
        rounded: Any = maker.sequential(copy, "input", QuantizedSequential)[0]
    elif input_scale is not None:
        raise ValueError("input_scale is for a Sequential, whose first layer is known: give a Network whole numbers")
    else:
        rounded = QuantizedNetwork(maker.inside(copy.function))
    rounded.units = maker.units
    options = {"weights": weights, "states": states, "per_channel": per_channel, "power_of_two": power_of_two}
    given = {"input_scale": input_scale, "readout_range": readout_range}
    rounded.options = (*options.items(), *((name, number) for name, number in given.items() if number is not None))
    return rounded


class _Maker:
    """Makes rounded parts of the parts of a network."""

    def __init__(
        self,
        network: Any,
        weights: int,
        states: int,
        per_channel: bool,
        power_of_two: bool,
        input_scale: float | None,
        readout_range: float | None,
    ) -> None:
        found = [part for _, part in nnx.iter_graph(network) if type(part) in NEURONS]
        powers = [power_of(part.threshold) for part in found if isinstance(part, SpikingNeuron)] or [0]
        if max(powers) - min(powers) > 8:
            raise ValueError(
                f"thresholds lie too far apart, from {2.0 ** min(powers)} to {2.0 ** max(powers)}: scale the weights "
                f"and thresholds of a layer, so that they are within 256 times each other"
            )
        current = 2.0 ** (min(powers) - _CURRENT_BITS)
        most = 2.0 ** (max(powers) + 4) if readout_range is None else readout_range
        readout = max(current, 2.0 ** (math.ceil(math.log2(most)) - states + 1))
        self.units, self.states = Units(current, readout, input_scale or 1.0), states
        self.weights: dict[str, Any] = {"bits": weights, "per_channel": per_channel, "power_of_two": power_of_two}
        self.weights["unit"] = current

    def inside(self, network: Any) -> Any:
        """Return a network of any shape with the parts in it rounded."""
        return map_parts(network, lambda part: type(part) in (*SYNAPSES, *NEURONS), self.part)

    def part(self, part: Any, kind: str = "") -> Any:
        """Return a rounded part for a part that is given "input", "spikes" or a "current"."""
        scale = self.units.input_scale if kind == "input" else 1.0
        if type(part) in SYNAPSES:
            most = 1 if kind == "spikes" else LARGEST_INPUT
            return QuantizedSynapse(part, **self.weights, input_scale=scale, most=most)
        if type(part) is Network:
            if scale != 1:
                raise ValueError("input_scale needs a layer or a neuron that takes the input, got a Network")
            return self.inside(part)
        if isinstance(part, Recurrent):
            return dataclasses.replace(
                part, neuron=self.part(part.neuron, "current"), synapse=self.part(part.synapse, "spikes")
            )
        unit = unit_syn = self.units.readout
        if isinstance(part, SpikingNeuron):
            unit = unit_syn = 2.0 ** (power_of(part.threshold) - self.states + 1 + headroom(self.states))
        if isinstance(part, CurrentSynapse):  # which a small gain lets grow above the membrane
            gain = np.max(np.abs(value_of(part.gain)))
            unit_syn *= 2.0 ** max(0, math.ceil(-math.log2(gain))) if gain else 1.0
        if kind in ("input", "spikes"):
            return QuantizedNeuron(part, self.states, unit, unit_syn, scale, LARGEST_INPUT)
        return QuantizedNeuron(part, self.states, unit, unit_syn, self.units.current)

    def sequential(self, network: Any, kind: str, cls: type = Sequential) -> tuple[Any, str]:
        """Return a chain of rounded layers, and what it puts out."""
        layers = []
        for name, layer in zip(network.names, network.layers):
            if isinstance(layer, Sequential):
                made, kind = self.sequential(layer, kind)
            else:
                after_it = after(name, layer, kind)
                made, kind = layer if keeps(layer) else self.part(layer, kind), after_it
            layers.append((name, made))
        return cls(*layers), kind
