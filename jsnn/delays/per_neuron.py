"""A delay for each neuron, such as that of its axon."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.delays.state import DelayState, Late, empty, pushed, pushed_all
from jsnn.neurons.checks import value_of_parameter
from jsnn.neurons.pytree import FrozenPytree
from jsnn.neurons.ranges import NOT_NEGATIVE, Range
from jsnn.types import Array, Parameter, Shape


@nnx.dataclass
class Delay(Late, FrozenPytree):
    """Hands on what it received some steps ago; before there was anything, 0. A Neuron without spikes of its own.

        y[t] = x[t - steps]

    A delay that is not whole lies on the line between its two neighbours, y = (1 - f) x[t - n] + f x[t - n - 1] with
    n = floor(steps), f = steps - n. That makes it trainable, `steps=nnx.Param(...)`: its derivative is the difference
    of the two, also where f = 0 (at `longest` the one from below). A trained delay is kept in [0, longest] where it is
    used. `unroll` refuses recordings that are over before anything arrives. For a delay of each synapse there is
    `DelayedLinear`.

    Attributes:
        steps: the number of steps, 0 or more; an array is per neuron.
        longest: the largest delay that there can be, and what the state has room for; None takes that of `steps`.

    Raises:
        ValueError: if `steps` or `longest` is negative, or `steps` above `longest`.
        TypeError: if `steps` is trained and `longest` is missing.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> currents = jnp.array([[1.0], [2.0], [4.0], [0.0]])
        >>> [jsnn.unroll(jsnn.Delay(steps), currents)[1][:, 0].tolist() for steps in (1, 0.5)]
        [[0.0, 1.0, 2.0, 4.0], [0.5, 1.5, 3.0, 2.0]]
    """

    steps: Parameter
    longest: int | None = nnx.static(default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "longest", longest_of("steps", self.steps, self.longest))

    def ranges(self) -> dict[str, Range]:
        longest = np.inf if self.longest is None else self.longest
        return {**super().ranges(), "steps": NOT_NEGATIVE._replace(high=longest)}

    @property
    def is_linear(self) -> bool:
        return True

    @property
    def window(self) -> int:
        assert self.longest is not None
        return self.longest + 1

    def shortest(self) -> tuple[str, float]:
        return "steps", shortest_of(self.steps, self.longest)

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> DelayState:
        return empty(self.window - 1, shape, dtype)

    def step(self, state: DelayState, current: Array) -> tuple[DelayState, Array]:
        state, known = self.pushed(state, current)
        return state, self.of_window(known).astype(current.dtype)

    def pushed(self, state: DelayState, current: Array) -> tuple[DelayState, Array]:
        """Return the state after a step, and the inputs that the step sees, `[B, ..., steps, N]`, the oldest first."""
        return pushed(state, current)

    def of_window(self, known: Array) -> Array:
        """Return the output for all inputs that a step sees."""
        return read(known, self.in_use().steps, self.window, max(known.ndim - 2, 0))

    def all_steps(self, state: DelayState, currents: Array) -> tuple[DelayState, Array]:
        state, known = pushed_all(state, currents)
        return state, read_all(known, self.steps, self.window).astype(currents.dtype)


def longest_of(name: str, steps: Parameter, longest: int | None, least: int = 0) -> int:
    """Return the longest delay that there can be.

    Raises:
        ValueError: if `steps` is empty, has a delay above `longest`, or too long a one; if `longest` is below `least`.
        TypeError: if `steps` is trained or traced, and `longest` is None.
    """
    is_known = not isinstance(steps, nnx.Variable | jax.core.Tracer)
    if np.size(steps) == 0:
        raise ValueError(f"{name} must not be empty, got shape {np.shape(steps)}")
    if longest is not None and longest < least:
        raise ValueError(f"longest must be >= {least}, got {longest}")
    if longest is None and not is_known:
        raise TypeError(f"longest must be given where {name} is trained: how far it may grow")
    if is_known and not np.max(steps) <= (2**20 if longest is None else longest):
        most = "2^20, as many inputs are kept" if longest is None else f"longest = {longest}"
        raise ValueError(f"{name} must be <= {most}, got {steps}")
    return int(np.ceil(np.max(steps))) if longest is None else longest


def shortest_of(steps: Parameter, longest: int | None) -> float:
    """Return the shortest delay that is in use; 0 for arrays that are traced, which are not known."""
    assert longest is not None
    values = value_of_parameter(steps)
    return 0.0 if values is None else min(float(values.min()), longest)


def read(known: Array, steps: Parameter, window: int, axis: int) -> Array:
    """Return what is due of the inputs of the last `window` steps, which lie on an axis, the oldest first."""
    return read_all(jnp.moveaxis(known, axis, 0), steps, window)[0]


def read_all(known: Array, steps: Parameter, window: int) -> Array:
    """Return what is due in each of T steps, of inputs in time, `[window - 1 + T, B, ...]`."""
    if window == 1:
        return known
    count, shape = len(known) - window + 1, known.shape[1:]
    steps = jnp.asarray(steps, jnp.promote_types(known.dtype, jnp.float32))
    whole = jnp.minimum(jnp.floor(steps), window - 2)
    first, share = window - 1 - whole.astype(jnp.int32), (steps - whole).astype(known.dtype)

    def late(known: Array, first: Array, share: Array) -> Array:
        near, far = (jax.lax.dynamic_slice_in_dim(known, first - one, count) for one in (0, 1))
        return (1 - share) * near + share * far

    if not steps.ndim:
        return late(known, first, share)
    each = shape[len(shape) - steps.ndim :]  # the neurons that have a delay of their own
    first, share = (jnp.broadcast_to(x, each).ravel() for x in (first, share))
    known = known.reshape(len(known), -1, math.prod(each))
    return jax.vmap(late, (2, 0, 0), 2)(known, first, share).reshape(count, *shape)
