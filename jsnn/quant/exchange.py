"""The rounded network as a network of floating-point numbers, to be written where others read it."""

from typing import Any

import numpy as np
from flax import nnx

from jsnn.layers import Recurrent, Sequential
from jsnn.network import Network
from jsnn.neurons import IF
from jsnn.neurons.base import SpikingNeuron
from jsnn.neurons.cuba import CurrentSynapse
from jsnn.neurons.pytree import map_parts
from jsnn.quant.neurons import QuantizedNeuron
from jsnn.quant.synapses import QuantizedSynapse
from jsnn.quant.training import Quantized


def dequantized(network: Quantized) -> Any:
    """Return a network without rounding, whose weights and parameters are those that the rounded one computes with."""

    def change(part: Any) -> Any:
        if isinstance(part, QuantizedSynapse):
            layer, bias = nnx.clone(part.layer), part.bias()
            layer.kernel[...] = part.weights()
            if bias is not None:
                layer.bias[...] = bias * np.float32(part.unit)
            return layer
        if isinstance(part, QuantizedNeuron):
            return _neuron(part)
        if isinstance(part, Sequential):
            return Sequential(*zip(part.names, part.layers))
        return Network(part.function)

    return map_parts(network, lambda part: isinstance(part, QuantizedSynapse | QuantizedNeuron | Network), change)


def scales_of(network: Any, path: str = "") -> dict[str, np.ndarray]:
    """Return what one integer of the weights stands for, for each output channel, by the names of the layers."""
    if isinstance(network, QuantizedSynapse):
        return {path: np.asarray(network.quantized()[1].value) * np.float32(network.unit / network.input_scale)}
    before = f"{path}." if path else ""
    if isinstance(network, Recurrent):
        return scales_of(network.synapse, f"{before}synapse")
    found: dict[str, np.ndarray] = {}
    for name, layer in zip(network.names, network.layers) if isinstance(network, Sequential) else ():
        found |= scales_of(layer, f"{before}{name}")
    return found


def _neuron(part: QuantizedNeuron) -> Any:
    """Return a neuron with the parameters that the integers stand for, as fixed numbers."""
    constants, cell = part.constants(), part.neuron
    is_cuba = isinstance(cell, CurrentSynapse)

    def plain(value: Any) -> Any:
        value = np.asarray(value, np.float64)
        return float(value) if value.ndim == 0 else np.asarray(value, np.float32)

    changes: dict[str, Any] = {}
    if isinstance(cell, SpikingNeuron):
        changes |= {"threshold": constants.threshold, "v_reset": constants.v_reset}
    if not isinstance(cell, IF):
        changes["v_rest"] = constants.rest
    changes = {name: plain(np.asarray(value, np.float64) * part.unit) for name, value in changes.items()}
    if not isinstance(cell, IF):
        unit = part.unit_syn if is_cuba else part.unit_in
        changes["decay"] = plain(1 - np.asarray(constants.leak.value, np.float64))
        changes["gain"] = plain(np.asarray(constants.gain.value, np.float64) * (part.unit / unit))
    if is_cuba:
        changes["decay_syn"] = plain(1 - np.asarray(constants.leak_syn.value, np.float64))
    return cell._changed(changes)
