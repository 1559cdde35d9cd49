"""A batch of recordings of different lengths, whose padding holds what must not be looked at."""

import jax.numpy as jnp
import numpy as np

LENGTHS = np.array([6, 1, 3, 4])
STEPS, NEURONS = 6, 4
BAD_LENGTHS = [  # of four samples of six steps
    ([6, 1, 0, 4], ValueError, r"lengths must lie in 1\.\.6, the number of steps, got 0: leave out"),
    ([6, 7, 3, 4], ValueError, r"lengths must lie in 1\.\.6, the number of steps, got 7: .* cut off"),
    ([6, 1, 3], ValueError, r"lengths must have shape \(4,\), one number a sample, got \(3,\)"),
    (6, ValueError, r"lengths must have shape \(4,\), one number a sample, got \(\)"),
    ([6.0, 1.0, 3.0, 4.0], TypeError, r"lengths must be integers, .* got float32"),
    (np.ones((6, 4), bool), TypeError, r"lengths must be integers, .* got bool: those of a mask \[T, B\] are mask.sum"),
]


def outputs(dtype: jnp.dtype = jnp.float32) -> jnp.ndarray:
    """Spikes of random heights, [T, B, N]; in the padding NaN, infinity, and numbers above all others."""
    draw = np.random.default_rng(0)
    found = draw.normal(size=(STEPS, len(LENGTHS), NEURONS)) * (draw.random((STEPS, len(LENGTHS), NEURONS)) < 0.5)
    found[:, 2, 1] = -1  # a largest value below what stands for nothing elsewhere
    padding = np.resize([np.nan, np.inf, -np.inf, 100.0], found.shape)
    return jnp.asarray(np.where(np.arange(STEPS)[:, None, None] < LENGTHS[:, None], found, padding), dtype)


def of_sample(array: jnp.ndarray, sample: int) -> jnp.ndarray:
    """The part of an array [T, B, ...] or [B, ...] that belongs to one recording, without padding; B stays, as 1."""
    if len(array) == STEPS:
        return array[: LENGTHS[sample], sample : sample + 1]
    return array[sample : sample + 1]
