"""Trains that fire regularly."""

import jax.numpy as jnp
import numpy as np

from jsnn import rounding
from jsnn.arguments import checked
from jsnn.encode.checks import check_first_spike_time, check_num_steps, check_probability
from jsnn.types import Array


@checked
def regular_spikes(rate: float, *, num_steps: int, first_spike_time: int = 0) -> Array:
    """Return a train that fires regularly; -> [T], float32.

        spikes at floor(first_spike_time + k / rate),  k = 0, 1, 2, ...

    A time that lies below a step by no more than rounding, 8 eps of the rate's dtype, relative, counts as that step.

    Source: snnTorch's `target_rate_code`. For trains that fire at random see `random_spikes`.

    Args:
        rate: spikes per step, in [0, 1].
        num_steps: T.
        first_spike_time: the step of the first spike.

    Raises:
        ValueError: if `rate` lies outside [0, 1], `num_steps` is less than 1, or `first_spike_time` is negative or
            not below it.

    Examples:
        >>> regular_spikes(0.3, num_steps=8).tolist()
        [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0]
    """
    check_probability("rate", rate)
    check_num_steps(num_steps)
    check_first_spike_time(first_spike_time, num_steps)
    spikes = np.zeros(num_steps, np.float32)
    if rate > 0:
        with np.errstate(over="ignore"):
            after = np.minimum(np.arange(num_steps) / np.float64(rate), num_steps)
        steps = first_spike_time + rounding.floor(after, rounding.relative_error(rate) * np.maximum(1, after))
        spikes[steps[steps < num_steps]] = 1
    return jnp.asarray(spikes)
