"""Whether a program treats the examples of a batch one by one, so that it may be run for some of them at a time."""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal

from jsnn.fused.operations import ARITHMETIC, FUNCTIONS, REWRITTEN
from jsnn.program import called, inside

Sizes: TypeAlias = tuple[int, int]  # how many examples the two programs have that are compared

_ELEMENTWISE = {
    *ARITHMETIC, *FUNCTIONS, *REWRITTEN, "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "clz",
    "copy_p", "digamma", "erf_inv", "erfc", "lgamma", "nextafter", "population_count", "reduce_precision",
    "shift_left", "shift_right_arithmetic", "shift_right_logical", "sharding_constraint",
}  # fmt: skip
# Elementwise ones, and those whose result has an axis of all examples only where each example has its own.
_MAPPED = {
    *_ELEMENTWISE,
    "argmax", "argmin", "broadcast_in_dim", "dot_general", "expand_dims", "reduce_and", "reduce_max", "reduce_min",
    "reduce_or", "reduce_prod", "reduce_sum", "slice", "sparse_product", "split", "squeeze", "tile", "transpose",
}  # fmt: skip


def keeps_examples_apart(one: ClosedJaxpr, other: ClosedJaxpr, sizes: Sizes) -> bool:
    """Return whether a program does the same to each example, and all that it returns has them as its first axis.

    Args:
        one: the program for a batch.
        other: the same for a batch of another size: what differs in its shapes is the axis of the examples.
        sizes: of the two batches.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> def is_apart(function):
        ...     return keeps_examples_apart(*(jax.make_jaxpr(function)(jnp.ones((b, 4))) for b in (2, 3)), (2, 3))
        >>> is_apart(lambda x: x[:, ::-1]), is_apart(lambda x: x[::-1])
        (True, False)
    """
    try:
        axes = [_axis(x, y, sizes) for x, y in zip(one.out_avals, other.out_avals, strict=True)]
        return set(axes) == {0} and _is_apart(one, other, sizes)
    except ValueError:  # it is another program, or has an axis of some examples
        return False


def _is_apart(one: ClosedJaxpr, other: ClosedJaxpr, sizes: Sizes) -> bool:
    """Return whether all operations treat examples one by one. A value without an axis of them is the same for all."""
    return all(_is_same(x, y) for x, y in zip(one.consts, other.consts, strict=True)) and all(
        _does(*pair, sizes) for pair in zip(one.jaxpr.eqns, other.jaxpr.eqns, strict=True)
    )


def _does(one: JaxprEqn, other: JaxprEqn, sizes: Sizes) -> bool:
    """Return whether an operation treats examples one by one."""
    name = one.primitive.name
    if name != other.primitive.name or _numbers(one) != _numbers(other):
        return False
    given, made = (
        [_axis(x.aval, y.aval, sizes) for x, y in zip(*pair, strict=True)]
        for pair in ((one.invars, other.invars), (one.outvars, other.outvars))
    )
    if called(one) is not None or name in ("cond", "scan", "while"):  # the length of a loop is among the numbers
        return all(_is_apart(*pair, sizes) for pair in zip(inside(one), inside(other), strict=True))
    if all(axis is None for axis in (*given, *made)):
        return True
    if any(axis is None for axis in made):
        return False
    return name in _MAPPED or (name in _KEEPS and _KEEPS[name](one, given, made[0]))


def _axis(one: Any, other: Any, sizes: Sizes) -> int | None:
    """Return the axis of the examples; None without one. ValueError if there are several, or one of other sizes."""
    pairs = list(zip(one.shape, other.shape, strict=True))
    found = [axis for axis, (size, another) in enumerate(pairs) if size != another]
    if not found:
        return None
    if len(found) > 1 or pairs[found[0]] != sizes:
        raise ValueError(f"examples meet in shapes {one.shape} and {other.shape}")
    return found[0]


def _is_same(one: Any, other: Any) -> bool:
    """Return whether two constants are equal; of traced ones, whether they are one."""
    if one is other or isinstance(one, jax.core.Tracer) or isinstance(other, jax.core.Tracer):
        return one is other
    if jax.dtypes.issubdtype(one.dtype, jax.dtypes.extended):
        one, other = jax.random.key_data(one), jax.random.key_data(other)
    return np.array_equal(one, other)


def _numbers(equation: JaxprEqn) -> tuple[Any, ...]:
    """Return the numbers that an operation is given, by name and as literals."""
    literals = [str(x.val) for x in equation.invars if isinstance(x, Literal)]
    return literals, {name: value for name, value in equation.params.items() if isinstance(value, int)}


def _all_along(name: str) -> Callable[..., bool]:
    """Return what says that an operation goes along another axis, or axes, than that of the examples."""
    return lambda equation, given, axis: axis not in np.ravel(equation.params[name])


def _reshape(equation: Any, given: Any, axis: int) -> bool:
    before, after = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    return math.prod(before[: given[0]]) == math.prod(after[:axis])


def _window(equation: Any, given: Any, axis: int) -> bool:
    return equation.params["window_dimensions"][axis] == 1 and tuple(equation.params["padding"][axis]) == (0, 0)


def _pad(equation: Any, given: Any, axis: int) -> bool:
    return given[1] is None and tuple(equation.params["padding_config"][axis]) == (0, 0, 0)


def _convolution(equation: Any, given: Any, axis: int) -> bool:
    numbers = equation.params["dimension_numbers"]
    is_first = (numbers.lhs_spec[0], numbers.out_spec[0]) == (given[0], axis)
    return is_first and given[1] is None and equation.params["batch_group_count"] == 1


def _gather(equation: Any, given: Any, axis: int) -> bool:
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    x, indices = given
    if x is None:  # rows of a table, by the indices of each example
        return True
    if indices is None:
        return x not in numbers.operand_batching_dims and sizes[x] == equation.invars[0].aval.shape[x]
    return (x, indices) in zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims)


def _scatter(equation: Any, given: Any, axis: int) -> bool:
    numbers = equation.params["dimension_numbers"]
    x, indices, updates = given
    moved = (*numbers.scatter_dims_to_operand_dims, *numbers.inserted_window_dims, *numbers.operand_batching_dims)
    return None not in (x, updates) and indices is None and x not in moved


# (equation, axes of what it is given, axis of what it makes) -> whether it treats examples one by one
_KEEPS: dict[str, Callable[[Any, Any, Any], bool]] = {
    **dict.fromkeys(("cumlogsumexp", "cummax", "cummin", "cumprod", "cumsum"), _all_along("axis")),
    **dict.fromkeys(("reduce_window_max", "reduce_window_min", "reduce_window_sum"), _window),
    **dict.fromkeys(("scatter", "scatter-add", "scatter-max", "scatter-min", "scatter-mul", "scatter_mul"), _scatter),
    "concatenate": _all_along("dimension"),
    "conv_general_dilated": _convolution,
    "dynamic_slice": lambda equation, given, axis: given[0] == axis,  # all of them
    "dynamic_update_slice": lambda equation, given, axis: given[0] == given[1] == axis,
    "gather": _gather,
    "iota": _all_along("dimension"),
    "pad": _pad,
    "reshape": _reshape,
    "rev": _all_along("dimensions"),
    "sort": _all_along("dimension"),
    "top_k": lambda equation, given, axis: axis < len(equation.outvars[0].aval.shape) - 1,
}  # fmt: skip
