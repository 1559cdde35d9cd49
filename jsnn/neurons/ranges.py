"""The ranges of parameters, and the projection that keeps a trained one inside of its range where it is used.

A fixed number or array outside of its range is an error. An optimiser may lead an `nnx.Param` out of it all the same:
then the nearest value inside is used, and the gradient is that at this value, straight through the projection. It
passes as long as a step of descent leads back inside, and is 0 where it would lead further out. So a trained parameter
neither breaks its neuron nor gets lost. On the bounds of a range, which belong to it, the gradient passes whole.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jsnn.types import Array

SMALLEST = 1e-6  # what a trained parameter that must be positive is kept at: above 0 in float16 too


class Range(NamedTuple):
    """The values that a parameter may have.

    Attributes:
        rule: what a parameter must be, as errors say it.
        holds: whether the values of a parameter, as it is given by the user, keep the rule; NaN does not.
        low: the smallest value that a trained parameter is used with.
        high: the largest value that a trained parameter is used with.
    """

    rule: str
    holds: Callable[[np.ndarray], Any]
    low: Any = -math.inf
    high: Any = math.inf

    def project(self, value: Array) -> Array:
        """Return the nearest values that a trained parameter is used with."""
        return project(value, self.low, self.high)


POSITIVE = Range("must be > 0", lambda value: value > 0, low=SMALLEST)
NOT_NEGATIVE = Range("must be >= 0", lambda value: value >= 0, low=0.0)
NUMBER = Range("must be a number", lambda value: ~np.isnan(value))  # all that is asked of the others
SHARE = Range("must be in [0, 1]", lambda value: (value >= 0) & (value <= 1), low=0.0, high=1.0)


def project(value: Array, low: Any, high: Any) -> Array:
    """Return the nearest values in [low, high], of the shape and dtype of `value`, with a gradient that leads back.

    Integers become floating point.

    Forward-mode derivatives pass straight through, as if there were no bounds. So do gradients where `value` lies
    inside, or on a bound; outside they pass if a step against the gradient leads back inside, and are 0 if not.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> values = jnp.array([-1.0, 0.0, 0.5, 2.0])
        >>> project(values, 0.0, 1.0).tolist()
        [0.0, 0.0, 0.5, 1.0]
        >>> jax.grad(lambda x: project(x, 0.0, 1.0).sum())(values).tolist()  # descent makes values smaller
        [0.0, 1.0, 1.0, 1.0]
    """
    value = jnp.asarray(value, jnp.result_type(value, float))
    low, high = (jnp.broadcast_to(jnp.asarray(bound, value.dtype), value.shape) for bound in (low, high))
    return _project(value, low, high)


@jax.custom_jvp
def _project(value: Array, low: Array, high: Array) -> Array:
    return jnp.minimum(jnp.maximum(value, low), high)


@_project.defjvp
def _project_jvp(primals: Any, tangents: Any) -> Any:
    value, low, high = primals
    return _project(value, low, high), _one_way.bind(tangents[0], value <= high, value >= low)


# The identity. Its transpose lets a gradient pass by its sign, which no function of JAX's with a forward mode can do:
# (x, lets negative ones pass, lets positive ones pass) -> x, all of one shape.
_one_way = Primitive("one_way")
_one_way.def_impl(lambda x, negative, positive: x)
_one_way.def_abstract_eval(lambda x, negative, positive: x)
mlir.register_lowering(_one_way, mlir.lower_fun(lambda x, negative, positive: x, multiple_results=False))


def _one_way_jvp(primals: Any, tangents: Any) -> Any:
    x, negative, positive = primals
    x_dot = tangents[0]
    return _one_way.bind(x, negative, positive), (
        x_dot if isinstance(x_dot, ad.Zero) else _one_way.bind(x_dot, negative, positive)
    )


def _one_way_transpose(gradient: Any, x: Any, negative: Array, positive: Array) -> Any:
    if isinstance(gradient, ad.Zero):
        return [gradient, None, None]
    passes = (negative | (gradient > 0)) & (positive | (gradient < 0))
    return [jnp.where(passes, gradient, jnp.zeros_like(gradient)), None, None]


def _one_way_batch(operands: Any, axes: Any) -> Any:
    size = next(x.shape[axis] for x, axis in zip(operands, axes) if axis is not None)
    whole = [
        jnp.broadcast_to(x, (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(operands, axes)
    ]
    return _one_way.bind(*whole), 0


ad.primitive_jvps[_one_way] = _one_way_jvp
ad.primitive_transposes[_one_way] = _one_way_transpose
batching.primitive_batchers[_one_way] = _one_way_batch
