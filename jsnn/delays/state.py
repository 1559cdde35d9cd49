"""The state of delays: their last inputs, in one array."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jsnn.types import Array, Shape


class DelayState(NamedTuple):
    """The state of a delay, for each neuron or each synapse."""

    past: Array
    """The inputs of the last steps, the oldest first, on the axis before the neurons, [B, ..., steps, N]."""


class Late:
    """Base of what hands on its inputs, or feeds back its outputs, after a delay."""

    def shortest(self) -> tuple[str, float]:
        """Return the name of the attribute that is the delay, and the shortest one, as far as it is known."""
        raise NotImplementedError


def axis_of(x: Any) -> int:
    """Return on which axis of the state the inputs of the last steps lie, for an input at one step."""
    return max(len(x.shape) - 1, 0)


def empty(length: int, shape: Shape, dtype: Any) -> DelayState:
    """Return the state before the first step, with room for so many inputs of a shape."""
    return DelayState(jnp.zeros((*shape[:-1], length, *shape[-1:]), dtype))


def pushed(state: DelayState, current: Array) -> tuple[DelayState, Array]:
    """Return the state after a step, and all that is known in it: the inputs before, and the current one."""
    axis = axis_of(current)
    known = jnp.concatenate([state.past, jnp.expand_dims(current.astype(state.past.dtype), axis)], axis)
    return DelayState(jax.lax.slice_in_dim(known, 1, None, axis=axis)), known


def pushed_all(state: DelayState, currents: Array) -> tuple[DelayState, Array]:
    """Return the state after all steps, and all that is known in them, in time, `[length + T, B, ...]`."""
    axis = axis_of(currents[0])
    known = jnp.concatenate([jnp.moveaxis(state.past, axis, 0), currents.astype(state.past.dtype)])
    return DelayState(jnp.moveaxis(known[len(currents) :], 0, axis)), known
