"""Targets and losses of one step: what is checked of them before the first one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jsnn.neurons.shapes import check_floating
from jsnn.online.parts import observed
from jsnn.types import Array


class Targets(NamedTuple):
    """Targets as a pytree of arrays, some of which change in time."""

    structure: Any
    changing: dict[int, Array]
    """Those of every step, [T, B, ...], by their positions."""
    held: dict[int, Array]
    """Those that stay the same, [B, ...]."""

    def at(self, changing: dict[int, Array]) -> Any:
        """Return the targets of a step, given those that change."""
        return self.structure.unflatten([both for _, both in sorted((self.held | changing).items())])

    @property
    def first(self) -> dict[int, Array]:
        """The changing targets of the first step."""
        return {place: leaf[0] for place, leaf in self.changing.items()}


def in_time(targets: Any, steps: int, batch: int) -> Targets:
    """Return targets divided into those of every step, `[T, B, ...]`, and those that stay the same, `[B, ...]`.

    Raises:
        ValueError: if one of them is neither.
    """
    leaves, structure = jax.tree.flatten(jax.tree.map(jnp.asarray, targets))
    changing = {i: leaf for i, leaf in enumerate(leaves) if leaf.shape[:2] == (steps, batch)}
    held = {i: leaf for i, leaf in enumerate(leaves) if i not in changing}
    for leaf in held.values():
        if leaf.shape[:1] != (batch,):
            raise ValueError(
                f"targets must be [T, B, ...] = ({steps}, {batch}, ...), a target for each step, or [B, ...], one for "
                f"all steps, got shape {leaf.shape}"
            )
    return Targets(structure, changing, held)


def check_batch(x: Any) -> None:
    """Raise ValueError unless the input of a step is of one example or more, and TypeError unless it is of floats."""
    for leaf in jax.tree.leaves(x):
        if not leaf.shape or not leaf.shape[0]:
            raise ValueError(f"the input of a step must be [B, ...] of one example or more, got shape {leaf.shape}")
    check_floating(x)


def check_loss(loss: Callable[..., Any], network: Any, state: Any, x: Any, targets: Any) -> Any:
    """Return the dtype of a loss of one step.

    Raises:
        ValueError: if it cannot be computed from the outputs of one step, or is not a number.
    """
    outputs = observed(network, state, x).outputs
    shapes = jax.tree.map(jnp.shape, outputs)
    try:
        value = jax.eval_shape(loss, outputs, targets)
    except (TypeError, ValueError, IndexError) as error:
        raise ValueError(
            f"loss must be one of a single step, of outputs {shapes} and targets of that step, and may not look ahead "
            f"in time: take one such as jsnn.losses.cross_entropy, not ce_rate_loss or ce_count_loss ({error})"
        ) from error
    if getattr(value, "shape", None) != () or not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(f"loss must return a number for the outputs of a step, {shapes}, got {value}")
    return value.dtype
