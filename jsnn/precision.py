"""Mixed precision: products, currents and spikes in bfloat16; weights, membranes, readout and loss in float32.

    reduced = reduce_precision(network)                    # shares its weights with the network, which are float32
    state = initial_state(network, inputs.shape[1:])       # float32
    state, outputs = jsnn.unroll(reduced, inputs, state)   # float32, as are the gradients of the weights

A spike is 0 or 1 in either precision. A membrane adds up many small currents, of which bfloat16 with its 8 bits would
lose most, and so would an optimiser that adds small updates to weights.

Source: Micikevicius et al., "Mixed precision training", 2018, arXiv:1710.03740.
"""

from typing import Any

import jax.numpy as jnp
from flax import nnx

from jsnn.arguments import checked
from jsnn.conversion.network import Converted
from jsnn.delays import Delayed
from jsnn.layers import RecurrentState
from jsnn.network import parts_of
from jsnn.neurons.checks import check_is_neuron
from jsnn.neurons.pytree import map_parts
from jsnn.neurons.shapes import check_floating_dtype
from jsnn.quant.synapses import QuantizedSynapse
from jsnn.sparse import Sparse
from jsnn.types import Neuron, State

_PRODUCTS = (nnx.Linear, nnx.LinearGeneral, nnx.Einsum, nnx.Conv, nnx.ConvTranspose)
_FLOAT32 = (Delayed, Sparse, QuantizedSynapse)


@checked
def reduce_precision(network: Neuron | nnx.Module, dtype: Any = jnp.bfloat16) -> Any:
    """Return the network with all dense and convolutional layers but the last, its readout, computing in `dtype`.

    They cast their inputs and weights, and put out `dtype`; so do the neurons after them. The weights are the
    network's own: no copy is made, and what changes them here (averages of `nnx.BatchNorm`) changes them there. The
    last layer is the one that is defined last. Sparse and quantised layers, and those with a delay for each synapse,
    compute in float32 all the same.

    Raises:
        TypeError: if `network` is not a Neuron or a module, or was made by `jsnn.convert`, which has traced its layers;
            or if `dtype` is not of floating-point numbers.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> network = jsnn.models.feedforward([4, 3, 2], rngs=nnx.Rngs(0))
        >>> layers = jsnn.record(
        ...     reduce_precision(network), jnp.ones((5, 1, 4)), initial_state(network, (1, 4)), keep=["outputs", "v"]
        ... )
        >>> neurons = [layer for layer in layers.values() if layer.states]
        >>> [(str(layer.outputs.dtype), str(layer.states.v.dtype)) for layer in neurons]
        [('bfloat16', 'float32'), ('float32', 'float32')]
    """
    if not isinstance(network, nnx.Module):
        check_is_neuron("reduce_precision", network)
    check_floating_dtype("dtype", dtype)
    if any(isinstance(part, Converted) for _, part in nnx.iter_graph(network)):
        raise TypeError("network was traced by jsnn.convert: reduce its model, convert(reduce_precision(model), ...)")
    reduced: Any = nnx.merge(*nnx.split(network))
    layers = [layer for _, layer in parts_of(reduced, _PRODUCTS + _FLOAT32)]
    for layer in layers[:-1]:
        if isinstance(layer, _PRODUCTS):
            layer.dtype = dtype
    return reduced


@checked
def initial_state(network: Neuron, shape: Any, dtype: Any = jnp.bfloat16) -> State:
    """Return the state that the reduced network starts from, for inputs of `shape` at a step.

    It is the state of the network itself: float32, but for the last outputs that a `Recurrent` feeds back, which are
    `dtype`, as its synapse is to see them so. For several inputs, `shape` is a pytree of shapes.

    Raises:
        TypeError: if `network` is not a Neuron, or `dtype` is not of floating-point numbers.
    """
    check_is_neuron("initial_state", network)
    check_floating_dtype("dtype", dtype)

    def change(state: RecurrentState) -> RecurrentState:
        return state._replace(outputs=state.outputs.astype(dtype))

    return map_parts(network.init(shape), lambda part: isinstance(part, RecurrentState), change)
