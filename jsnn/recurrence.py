"""Linear recurrences, computed for all time steps at once.

Two steps in a row of y = (1 - leak) * y + x are one step of the same kind, with another leak and another x. So the
steps can be put together in pairs, the pairs in pairs, and so on: about 2 log2(T) operations on many steps each,
instead of T operations on one.
"""

import jax
import jax.numpy as jnp

from jsnn.types import Array, Parameter
from jsnn.varying import alike


def linear_recurrence(leak: Parameter, inputs: Array, initial: Array) -> Array:
    """Return all values of a leaky sum, computed for all time steps together.

        y[t] = (1 - leak) * y[t-1] + x[t],  y[-1] = initial

    The same numbers as a scan over the steps, and the same gradients, to rounding. The gradient of the inputs is the
    same recurrence backward in time; that of the leak needs y besides.

    Source: Blelloch, "Prefix sums and their applications" (1990); for neural networks Martin and Cundy, "Parallelizing
    linear recurrent neural nets over sequence length" (2018).

    Args:
        leak: the share that a step loses, in [0, 1]; a number, or an array that broadcasts against y from the right.
            Not 1 - leak, the decay, because that cannot be told from 1 as precisely as leak from 0.
        inputs: x, `[T, B, ...]`, T at least 1.
        initial: y before the first step, `[B, ...]`, of the inputs' dtype.

    Returns:
        y, `[T, B, ...]`.

    Examples:
        >>> import jax.numpy as jnp
        >>> linear_recurrence(0.5, jnp.array([1.0, 0.0, 0.0, 1.0]), jnp.array(2.0)).tolist()
        [2.0, 1.0, 0.5, 1.25]
    """
    arrays: tuple[Array, Array, Array] = alike((jnp.asarray(leak, inputs.dtype), inputs, initial))
    leak, inputs, initial = arrays
    ones = (1,) * (inputs.ndim - 1 - leak.ndim)
    leaks = jnp.broadcast_to(leak.reshape(*ones, *leak.shape), (len(inputs), *ones, *leak.shape))

    def two_in_a_row(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
        (leak_1, x_1), (leak_2, x_2) = first, second
        return leak_1 + leak_2 * (1 - leak_1), x_2 + (x_1 - leak_2 * x_1)

    def inputs_of(y: Array) -> Array:
        before = one_step_late(y, jnp.zeros_like(initial))
        return y - (before - leak * before)

    def solve(_: object, x: Array) -> Array:
        return jax.lax.associative_scan(two_in_a_row, (leaks, x))[1]

    def solve_transposed(_: object, x: Array) -> Array:
        return jax.lax.associative_scan(two_in_a_row, (leaks, x), reverse=True)[1]

    # y solves a linear system; said so, its derivatives are recurrences again, and not those of each pair
    inputs = inputs.at[0].add(initial - leak * initial)
    return jax.lax.custom_linear_solve(inputs_of, inputs, solve, solve_transposed)


def one_step_late(y: Array, first: Array) -> Array:
    """Return what y `[T, B, ...]` was a step before, and `first` before the first.

    Examples:
        >>> import jax.numpy as jnp
        >>> one_step_late(jnp.array([1.0, 2.0, 3.0]), jnp.array(0.5)).tolist()
        [0.5, 1.0, 2.0]
    """
    return jnp.concatenate([first[None], y[:-1]])
