"""Mixed precision: products, currents and spikes in bfloat16; weights, membranes, readout and loss in float32.

    reduced = reduce_precision(network)                    # shares its weights with the network, which are float32
    state = initial_state(network, inputs.shape[1:])       # float32
    state, outputs = jsnn.unroll(reduced, inputs, state)   # float32, as are the gradients of the weights

A spike is 0 or 1 in either precision. A membrane adds up many small currents, of which bfloat16 with its 8 bits would
lose most, and so would an optimiser that adds small updates to weights.

Source: Micikevicius et al., "Mixed precision training", 2018, arXiv:1710.03740.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jsnn.layers import RecurrentState
from jsnn.network import parts_of
from jsnn.types import Neuron, Shape, State

_PRODUCTS = (nnx.Linear, nnx.LinearGeneral, nnx.Einsum, nnx.Conv, nnx.ConvTranspose)


def reduce_precision(network: Neuron | nnx.Module, dtype: Any = jnp.bfloat16) -> Any:
    """Return the network with all dense and convolutional layers but the last, its readout, computing in `dtype`.

    They cast their inputs and weights, and put out `dtype`; so do the neurons after them. The weights are the
    network's own: no copy is made, and what changes them here (averages of `nnx.BatchNorm`) changes them there. The
    last layer is the one that is defined last. Layers with a delay for each synapse compute in float32 all the same.

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
    reduced: Any = nnx.merge(*nnx.split(network))
    layers = [layer for _, layer in parts_of(reduced, _PRODUCTS)]
    for layer in layers[:-1]:
        layer.dtype = dtype
    return reduced


def initial_state(network: Neuron, shape: Shape, dtype: Any = jnp.bfloat16) -> State:
    """Return the state that the reduced network starts from, for inputs of `shape` at a step.

    It is the state of the network itself.

    It is float32, but for the outputs that a `Recurrent` feeds back, which are `dtype`: its synapse is to see them so.
    """

    def change(part: Any) -> Any:
        return part._replace(outputs=part.outputs.astype(dtype)) if isinstance(part, RecurrentState) else part

    return jax.tree.map(change, network.init(shape), is_leaf=lambda part: isinstance(part, RecurrentState))
