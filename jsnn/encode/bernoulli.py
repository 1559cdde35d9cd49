"""The draw after all random codes: spikes of given probabilities, independent over neurons and time.

`jax.random.bernoulli` spends a hash of twenty rounds on each spike, many times what it takes to write the spike. Here
that hash gives each neuron a start and a step, and a few operations make the neuron's spikes of them:

    s_t = 1 where mix(start + t * step) / 2^32 < p,  t = 0, 1, 2, ...

a SplitMix generator for each neuron, which needs no state: every spike is computed on its own, and all in one pass.

Sources: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014; `mix` is lowbias32, of
Wellons, "Prospecting for hash functions", 2018, https://nullprogram.com/blog/2018/07/31/.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jsnn.arguments import checked
from jsnn.encode.checks import check_num_steps
from jsnn.types import Array, Shape


@checked
def bernoulli(key: Array, probability: Array, num_steps: int | None, dtype: Any) -> Array:
    """Return independent spikes; probabilities [...] -> [T, ...], or [T, ...] -> [T, ...] where `num_steps` is None.

    Probabilities are clipped to [0, 1]: 0 never spikes, 1 always does, and those in between are rounded up to
    multiples of 2^-31. NaN never spikes. The first steps do not depend on how many follow, and a neuron's train repeats
    itself after 2^32. `vmap` over keys draws what a loop over them draws, as far as `jax.random.split` does: with JAX's
    default generator, not with "rbg".

    Args:
        key: a random key, consumed.
        probability: of a spike at each step.
        num_steps: T; None if `probability` has a time axis.
        dtype: of the spikes.

    Raises:
        TypeError: if `key` is not a key.
        ValueError: if `num_steps` is less than 1, or None without a time axis.

    Examples:
        >>> spikes = bernoulli(jax.random.key(0), jnp.array([0.0, 0.25, 1.0]), 1000, jnp.uint8)
        >>> jnp.mean(spikes, axis=0).round(1)
        Array([0. , 0.2, 1. ], dtype=float32)
    """
    if num_steps is None:
        if probability.ndim == 0:
            raise ValueError("x must have a time axis, [T, ...], got a scalar: pass num_steps for a static input")
        return _draw(key, probability, probability.shape, jnp.dtype(dtype))
    check_num_steps(num_steps, probability.shape)
    return _draw(key, probability, (num_steps, *probability.shape), jnp.dtype(dtype))


@functools.partial(jax.jit, static_argnums=(2, 3))  # one pass over the spikes, whose number decides the time
def _draw(key: Array, probability: Array, shape: Shape, dtype: Any) -> Array:
    words = jax.random.key_data(jax.random.split(key, shape[1:]))  # [..., 2], of some generators [..., 4]
    start, step = words[..., 0], words[..., 1] | 1  # an odd step visits all 2^32 numbers before it returns
    # 31 bits, so that a uint32 holds the threshold of the probability 1 as well
    threshold = jnp.ceil(jnp.clip(probability, 0, 1) * 2.0**31).astype(jnp.uint32)
    # what is known of each neuron is computed for each neuron, where a compiler might repeat it for each spike
    start, step, threshold = jax.lax.optimization_barrier((start, step, threshold))
    t = jax.lax.broadcasted_iota(jnp.uint32, shape, 0)
    return ((_mix(start + t * step) >> 1) < threshold).astype(dtype)


def _mix(h: Array) -> Array:
    """Return a permutation of the 32-bit numbers.

    Each bit of `h` changes each bit of the result about half of the time.
    """
    h = (h ^ (h >> 16)) * jnp.uint32(0x7FEB352D)
    h = (h ^ (h >> 15)) * jnp.uint32(0x846CA68B)
    return h ^ (h >> 16)
