"""Matrices that hand the error to hidden layers, and are trained as the readout is."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jsnn.arguments import checked
from jsnn.network import Network
from jsnn.online.parts import observed
from jsnn.online.plan import make_plan
from jsnn.online.rules import Rule
from jsnn.types import as_shape


@checked
def with_feedback(network: Network, shape: Any, *, rngs: nnx.Rngs) -> Network:
    """Return a copy of a network with a matrix `[outputs, N]` for each hidden layer, for `eprop(feedback="trained")`.

    The matrices are parameters like the others, in `network.feedback`; they change nothing of what the network does.
    Their gradient is that of the readout's weights, so that they align with these; decay both weights alike.

    Args:
        network: the network.
        shape: of its input at one step, `[B, ...]`.
        rngs: draws the matrices.

    Source: Bellec et al. (2020), "adaptive e-prop"; Kolen and Pollack, "Backpropagation without weight transport"
    (1994).

    Examples:
        >>> import jsnn
        >>> from flax import nnx
        >>> network = jsnn.models.feedforward([4, 8, 3], rngs=nnx.Rngs(0))
        >>> with_feedback(network, (1, 4), rngs=nnx.Rngs(1)).feedback["2_LIF"].shape
        (3, 8)
    """
    x = jax.ShapeDtypeStruct(as_shape(shape), jnp.float32)
    plan = make_plan(network, x, Rule("eprop", "none", "feedback"))
    step = observed(network, None, x)
    matrices = {}
    for layer in plan.layers:
        if layer.name != plan.readout:
            neurons = step.cells[layer.name][3].size // step.outputs.shape[0]
            scale = step.outputs.shape[-1] ** 0.5
            matrices[layer.name] = nnx.Param(rngs.params.normal((step.outputs.shape[-1], neurons)) / scale)
    copy: Any = nnx.clone(network)
    copy.feedback = nnx.Dict(matrices)
    return copy
