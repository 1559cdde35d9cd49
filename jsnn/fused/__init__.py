"""The loop over time as one GPU kernel, for every neuron whose step is elementwise.

On a GPU a scan launches at least one kernel a step, and hands the state on through memory. Here each program of one
kernel takes a block of neurons, keeps their state in registers and loops over time itself:

    forward     for t = 0 .. T-1:  state, y[t] = step(state, x[t])      for a gradient it keeps the states before, too
    backward    for t = T-1 .. 0:  the gradients of x[t], of the state before and of the parameters, from those of
                                   y[t] and the state after

Nothing is written twice for this: a neuron's step and its gradient are traced once, at the neurons' own shape, and
where all they do is elementwise, the kernels do the same to a block. Parameters are broadcast to one value a neuron
outside of the kernels, so that what sums their gradients over the batch is JAX.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jsnn.fused.kernels import BLOCK, differentiable, is_available
from jsnn.fused.program import trace
from jsnn.types import Array, Neuron, State

__all__ = ["BLOCK", "fits", "is_available", "unroll"]


def fits(neuron: Neuron, state: State, current: Any) -> bool:
    """Return whether `unroll` can run a neuron: whether its step is elementwise.

    Then every neuron of a layer depends on its own state, current and parameters alone. Matrix products, random
    numbers and sums over neurons do not fit, and the state must be made of arrays of the current's shape.

    Args:
        neuron: anything with `init` and `step`.
        state: its state: arrays, or what stands for them (`jax.ShapeDtypeStruct`).
        current: the input of one step, `[B, ...]`; likewise.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> neuron, current = jsnn.LIF(), jnp.ones((2, 3))
        >>> fits(neuron, neuron.init(current.shape), current)
        True
    """
    return trace(neuron, state, current) is not None


def unroll(neuron: Neuron, state: State, inputs: Array, num_steps: int | None) -> tuple[State, Array]:
    """Run a neuron that `fits` over time, in one kernel forward and one backward: what `jsnn.unroll` does by a scan.

    It is differentiable, in reverse mode, with respect to neuron, state and inputs. Where the program is lowered for
    CUDA, Mosaic GPU compiles the kernels; it is made for Hopper GPUs (H100) and newer. Elsewhere the kernels run in
    Pallas' interpreter, slowly, which is for tests.

    Args:
        neuron: anything with `init` and `step`.
        state: the state to go on from.
        inputs: `[T, B, ...]`; or, with `num_steps`, a static input `[B, ...]`, which is read once.
        num_steps: the number of steps T of a static input.

    Returns:
        `(state, outputs)`: the state after the last step, and the outputs `[T, B, ...]`.

    Raises:
        ValueError: if the neuron does not fit.
        ImportError: if this JAX has no Mosaic GPU.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> neuron = jsnn.LIF(decay=0.5)
        >>> state, spikes = unroll(neuron, neuron.init((1,)), jnp.full((6, 1), 0.75), None)
        >>> spikes[:, 0].tolist()
        [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]
    """
    length = inputs.shape[0] if num_steps is None else num_steps
    shape = inputs.shape if num_steps is not None else inputs.shape[1:]
    traced = trace(neuron, state, jax.ShapeDtypeStruct(shape, inputs.dtype))
    if traced is None:
        raise ValueError(
            f"the step of {type(neuron).__name__} is not elementwise in neurons of shape {shape}: use jsnn.unroll"
        )
    if length == 0 or math.prod(shape) == 0:  # nothing to do, and no kernel for it
        currents = inputs if num_steps is None else jnp.broadcast_to(inputs, (length, *shape))
        return jax.lax.scan(neuron.step, state, currents)
    program, constants = traced
    structure: Any
    leaves, structure = jax.tree.flatten(state)
    states, outputs = differentiable(program, length, num_steps is not None)(
        [jnp.broadcast_to(constant, shape).reshape(-1) for constant in constants],
        [jnp.reshape(leaf, -1) for leaf in leaves],
        inputs.reshape(-1) if num_steps is not None else inputs.reshape(length, -1),
    )
    return structure.unflatten([leaf.reshape(shape) for leaf in states]), outputs.reshape(length, *shape)
