"""What every encoder asks of its arguments.

Values can be looked at only outside `jit`; inside, dtypes, shapes and Python numbers are checked all the same.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jsnn.arguments import check_memory
from jsnn.types import Array, Shape


def floating(x: Array, name: str = "x") -> Array:
    """Return the values as an array; refuses integers, empty arrays and, where values are known, NaN."""
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        images = ", and divide images of 8 bits by 255" if name == "x" else ""
        raise TypeError(f"{name} must be floating point, got {x.dtype}: use {name}.astype(jnp.float32){images}")
    if x.size == 0:
        raise ValueError(f"{name} must not be empty, got shape {x.shape}")
    if is_known(x):
        with jax.ensure_compile_time_eval():
            count = int(jnp.sum(jnp.isnan(x)))
        if count:
            raise ValueError(f"{name} must not hold NaN, got {count} of {x.size}: jnp.nan_to_num({name}) replaces them")
    return x


def time_varying(x: Array, name: str = "x") -> Array:
    """Return the values of `floating`, which have a time axis."""
    x = floating(x, name)
    if x.ndim == 0:
        raise ValueError(f"{name} must have a time axis, [T, ...], got a scalar")
    return x


def at_least_float32(x: Array) -> Array:
    """Return the values in float32 or better: half precision is too coarse for small probabilities and for times."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def is_known(x: Any) -> bool:
    """Return whether the values can be looked at, which they cannot inside a traced function."""
    return not isinstance(x, jax.core.Tracer)


def extremes(x: Array) -> tuple[float, float] | None:
    """Return the smallest and the largest value; None where they are not known."""
    if not is_known(x):
        return None
    with jax.ensure_compile_time_eval():
        return float(jnp.min(x)), float(jnp.max(x))


def check_unit_interval(x: Array) -> None:
    """Raise ValueError if values lie outside [0, 1], where they are known."""
    found = extremes(x)
    if found is not None and not (found[0] >= 0 and found[1] <= 1):
        raise ValueError(
            f"x must lie in [0, 1], got values from {found[0]:g} to {found[1]:g}: "
            f"rescale it with (x - x.min()) / (x.max() - x.min()), or clip it with jnp.clip(x, 0, 1)"
        )


def check_at_least(name: str, value: int, least: int) -> None:
    """Raise ValueError if a number is below `least`."""
    if value < least:
        raise ValueError(f"{name} must be >= {least}, got {value}")


def check_num_steps(num_steps: int, shape: Shape = ()) -> None:
    """Raise ValueError if there is less than one step, or if so many steps of `shape` would not fit into memory."""
    check_at_least("num_steps", num_steps, 1)
    check_memory("the spikes", (num_steps, *shape))


def check_first_spike_time(first_spike_time: int, num_steps: int | None) -> None:
    """Raise ValueError if the first spike is before step 0, or after the last step."""
    check_at_least("first_spike_time", first_spike_time, 0)
    if num_steps is None:
        return
    check_num_steps(num_steps)
    if first_spike_time >= num_steps:
        raise ValueError(
            f"first_spike_time must be below num_steps = {num_steps}, got {first_spike_time}: "
            f"no step would be left to spike in"
        )


def check_probability(name: str, value: float) -> None:
    """Raise ValueError if a number lies outside [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie in [0, 1], got {value}")
