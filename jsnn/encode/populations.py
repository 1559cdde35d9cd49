"""Population codes: each value as the activity of several neurons, without time, [B, ...] -> [B, ..., N].

Activities lie in [0, 1], and any other encoder makes spikes of them: `rate(key, receptive_fields(x, 8), num_steps=T)`,
or `latency(receptive_fields(x, 8), num_steps=T, normalize=True, linear=True, clip=True)` as Bohte et al. did.
"""

from collections.abc import Sequence

import jax.numpy as jnp

from jsnn.arguments import check_broadcasts, check_memory, checked
from jsnn.encode.checks import at_least_float32, check_at_least, floating
from jsnn.neurons.base import cast
from jsnn.neurons.checks import check_holds, check_positive
from jsnn.neurons.shapes import check_fits
from jsnn.types import Array


@checked
def receptive_fields(
    x: Array,
    num_neurons: int,
    *,
    low: float | Array = 0.0,
    high: float | Array = 1.0,
    beta: float = 1.5,
) -> Array:
    """Return each value as seen by N overlapping Gaussian receptive fields; [B, ..., D] -> [B, ..., D, N].

        y_n = exp(-(x - c_n)^2 / (2 sigma^2)),  n = 0 ... N-1
        c_n = low + (n - 1/2) * (high - low) / (N - 2),  sigma = (high - low) / (beta * (N - 2))

    The first and the last centre lie outside [low, high], so that values at the ends are seen from both sides. Several
    dimensions D have a population each, with a range of their own where `low` and `high` are arrays [D]; for one
    population over all dimensions take `receptive_field_grid`. Differentiable.

    Source: Bohte, La Poutré and Kok, "Unsupervised clustering with spiking neurons by sparse temporal coding and
    multilayer RBF networks", IEEE Transactions on Neural Networks 2002.

    Args:
        x: the values.
        num_neurons: N, at least 3.
        low: the smallest value expected; a number, or an array that broadcasts against `x`.
        high: the largest.
        beta: how narrow the fields are; Bohte et al. use 1 to 2.

    Raises:
        TypeError: if `x` is not floating point.
        ValueError: if `num_neurons` is less than 3, `beta` is not positive, or `high` is not above `low`.

    Examples:
        >>> receptive_fields(jnp.array([0.0, 0.5]), 4).round(2)
        Array([[0.75, 0.75, 0.08, 0.  ],
               [0.08, 0.75, 0.75, 0.08]], dtype=float32)
    """
    x, dtype = at_least_float32(floating(x)), x.dtype
    check_at_least("num_neurons", num_neurons, 3)
    check_memory("the population", (*x.shape, num_neurons), copies=4)
    check_positive("beta", beta)
    for name, value in (("low", low), ("high", high)):
        check_broadcasts(name, value, x.shape, "x")
    check_holds("high - low", cast(high, x.dtype) - cast(low, x.dtype), lambda span: span > 0, "must be > 0")
    low, high = jnp.asarray(low, x.dtype), jnp.asarray(high, x.dtype)
    # in units of the distance between centres
    position = (x - low) / (high - low) * (num_neurons - 2) + 0.5
    distance = position[..., None] - jnp.arange(num_neurons, dtype=x.dtype)
    return jnp.exp(-((beta * distance) ** 2) / 2).astype(dtype)


@checked
def receptive_field_grid(
    x: Array,
    num_neurons: Sequence[int],
    *,
    low: float | Array = 0.0,
    high: float | Array = 1.0,
    beta: float = 1.5,
) -> Array:
    """Return a point of D dimensions as seen by a grid of Gaussian receptive fields.

    [B, ..., D] -> [B, ..., N_1, ..., N_D].

        y_{n_1 ... n_D} = prod_d y_{n_d},  with y_{n_d} the `receptive_fields` of dimension d

    which is one Gaussian around each point of the grid. It has N_1 * ... * N_D neurons where `receptive_fields` has
    N_1 + ... + N_D, and can tell which values occur together.

    Args:
        x: the points, with their coordinates on the last axis.
        num_neurons: N_d of each dimension, at least 3 each.
        low: the smallest value expected, a number or [D].
        high: the largest, a number or [D].
        beta: how narrow the fields are.

    Raises:
        TypeError: if `x` is not floating point.
        ValueError: if `x` has another number of dimensions than `num_neurons`, and for what `receptive_fields` refuses.

    Examples:
        >>> activity = receptive_field_grid(jnp.array([0.1, 0.9]), (3, 5))
        >>> activity.shape, [int(i) for i in jnp.unravel_index(jnp.argmax(activity), activity.shape)]
        ((3, 5), [1, 3])
    """
    x, dtype = at_least_float32(floating(x)), x.dtype
    if x.ndim == 0 or x.shape[-1] != len(num_neurons) or len(num_neurons) == 0:
        raise ValueError(
            f"x must have as many coordinates on its last axis as num_neurons = {tuple(num_neurons)} has numbers, "
            f"got shape {x.shape}"
        )
    dimensions = len(num_neurons)
    check_fits((dimensions,), low=low, high=high)
    low, high = (jnp.broadcast_to(jnp.asarray(end, x.dtype), (dimensions,)) for end in (low, high))
    check_memory("the grid", (*x.shape[:-1], *num_neurons), copies=3)
    grid = jnp.ones((*x.shape[:-1], *[1] * dimensions), x.dtype)
    for d, neurons in enumerate(num_neurons):
        activity = receptive_fields(x[..., d], neurons, low=low[d], high=high[d], beta=beta)
        grid = grid * jnp.expand_dims(activity, [axis - dimensions for axis in range(dimensions) if axis != d])
    return grid.astype(dtype)
