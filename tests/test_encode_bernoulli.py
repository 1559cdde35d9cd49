"""The draw behind the random codes: the law of its spikes, and that nothing tells anything about anything else.

Each test would fail for one fresh key in a million (`tests/binomial.py`); keys are fixed.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy  # whose parts are imported where they are used
from binomial import assert_plausible, assert_spike_probability, p_of_covariance, p_of_frequencies

from jsnn.encode.bernoulli import bernoulli

KEY = jax.random.key(11)
LAGS = range(1, 9)


def draw(probability, num_steps, shape, key=KEY):
    """Spikes [T, *shape] of one probability."""
    return np.asarray(bernoulli(key, jnp.full(shape, probability), num_steps, jnp.bool_))


# The law of one neuron


def test_each_neuron_has_its_probability():
    probability = np.float32([0, 1e-3, 0.03, 0.25, 0.5, 0.8, 0.999, 1])
    spikes = bernoulli(KEY, jnp.tile(probability, 50), 20_000, jnp.uint8)
    assert_spike_probability(spikes, np.tile(probability, 50))


@pytest.mark.parametrize("probability", [1e-5, 3e-7, 1 - 1e-5])
@pytest.mark.slow
def test_probabilities_are_fine_grained(probability):
    probability = np.float32(probability)
    spikes = draw(probability, 1000, 100_000)
    assert_spike_probability(spikes.reshape(-1, 1), [probability])


@pytest.mark.parametrize("probability", [0.5, 0.1])
def test_counts_are_binomial(probability):
    counts = np.bincount(draw(probability, 32, 200_000).sum(axis=0), minlength=33)
    expected = scipy.stats.binom.pmf(np.arange(33), 32, probability)
    likely = expected * 200_000 > 5
    rest = counts[~likely].sum(), expected[~likely].sum()
    assert_plausible(p_of_frequencies([*counts[likely], rest[0]], [*expected[likely], rest[1]]))


def test_outside_the_unit_interval_is_clipped_and_nan_is_silent():
    spikes = bernoulli(KEY, jnp.array([-0.5, 0.0, 1.0, 1.5, jnp.inf, -jnp.inf, jnp.nan]), 100, jnp.bool_)
    np.testing.assert_array_equal(spikes, [[False, False, True, True, True, False, False]] * 100)


# Independence


def test_all_patterns_of_eight_steps_are_equally_frequent():
    spikes = draw(0.5, 64, 50_000).reshape(8, 8, -1)  # eight disjoint windows a neuron
    patterns = (spikes << np.arange(8)[:, None]).sum(axis=1)
    assert_plausible(p_of_frequencies(np.bincount(patterns.ravel(), minlength=256), np.full(256, 1 / 256)))


@pytest.mark.parametrize("probability", [0.5, 0.1])
def test_steps_are_independent(probability):
    spikes = draw(probability, 100, 20_000)
    assert_plausible([p_of_covariance(spikes[:-lag], spikes[lag:], probability) for lag in LAGS])


@pytest.mark.parametrize("probability", [0.5, 0.1])
def test_waiting_times_are_geometric(probability):
    spikes, longest = draw(probability, 250, 20_000), 8
    first = spikes.argmax(axis=0)
    second = (spikes & (np.arange(250)[:, None] > first)).argmax(axis=0) - first - 1
    law = scipy.stats.geom(probability)
    expected = [*law.pmf(np.arange(1, longest + 1)), law.sf(longest)]
    waits = [np.bincount(np.minimum(wait, longest), minlength=longest + 1) for wait in (first, second)]
    assert_plausible([p_of_frequencies(counts, expected) for counts in waits])


@pytest.mark.parametrize("probability", [0.5, 0.1])
def test_neurons_are_independent(probability):
    spikes = draw(probability, 100, (100, 200))
    pairs = [(spikes[:, :, :-lag], spikes[:, :, lag:]) for lag in LAGS]
    pairs += [(spikes[:, :-lag], spikes[:, lag:]) for lag in LAGS]
    pairs += [(spikes[lag:, :, :-1], spikes[:-lag, :, 1:]) for lag in LAGS]  # neighbours, one of them later
    assert_plausible([p_of_covariance(left, right, probability) for left, right in pairs])


@pytest.mark.rows(2)
@pytest.mark.parametrize(
    "others",
    [
        [jax.random.key(seed) for seed in (0, 1, 10, 12)],
        list(jax.random.split(KEY, 4)),
        [jax.random.fold_in(KEY, i) for i in range(4)],
    ],
    ids=["seeds", "split", "fold_in"],
)
@pytest.mark.parametrize("probability", [0.5, 0.1])
def test_keys_are_independent(others, probability):
    trains = [draw(probability, 64, 20_000, key) for key in (KEY, *others)]
    pairs = [(left, right) for i, left in enumerate(trains) for right in trains[:i]]
    assert_plausible([p_of_covariance(left, right, probability) for left, right in pairs])


@pytest.mark.slow
def test_no_two_neurons_have_the_same_train():
    trains = np.packbits(draw(0.5, 128, 200_000), axis=0).T  # [N, 16]
    assert len(np.unique(trains, axis=0)) == len(trains)


# Shapes and transforms


def test_the_first_steps_do_not_depend_on_their_number():
    probability = jnp.linspace(0, 1, 7)
    long, short = bernoulli(KEY, probability, 50, jnp.bool_), bernoulli(KEY, probability, 8, jnp.bool_)
    np.testing.assert_array_equal(long[:8], short)


def test_a_static_probability_is_a_time_varying_one_that_stays():
    probability = jax.random.uniform(jax.random.key(1), (3, 4))
    varying = bernoulli(KEY, jnp.broadcast_to(probability, (20, 3, 4)), None, jnp.bool_)
    np.testing.assert_array_equal(bernoulli(KEY, probability, 20, jnp.bool_), varying)


@pytest.mark.rows(1)
@pytest.mark.parametrize("dtype", [jnp.bool_, jnp.uint8, jnp.bfloat16, jnp.float32])
def test_dtype(dtype):
    spikes = bernoulli(KEY, jnp.full(10, 0.5), 20, dtype)
    assert spikes.dtype == dtype
    np.testing.assert_array_equal(spikes.astype(jnp.bool_), draw(0.5, 20, 10))


def test_vmap_is_a_loop():
    keys, probability = jax.random.split(KEY, 3), jnp.array([[0.1, 0.9], [0.5, 0.5], [0.0, 1.0]])
    loop = [bernoulli(key, row, 30, jnp.uint8) for key, row in zip(keys, probability, strict=True)]
    mapped = jax.jit(jax.vmap(lambda key, row: bernoulli(key, row, 30, jnp.uint8)))(keys, probability)
    np.testing.assert_array_equal(mapped, loop)


@pytest.mark.parametrize("generator", ["rbg", "unsafe_rbg"])
def test_keys_of_other_generators(generator):
    spikes = draw(0.3, 20_000, 4, jax.random.key(5, impl=generator))
    assert_spike_probability(spikes, np.full(4, np.float32(0.3)))


def test_double_precision():
    with jax.enable_x64(True):
        spikes = bernoulli(KEY, jnp.array([0.0, 0.3, 1.0]), 20_000, jnp.float64)
        assert spikes.dtype == jnp.float64
        assert_spike_probability(spikes, [0.0, 0.3, 1.0])


def test_bad_input():
    with pytest.raises(ValueError, match="num_steps must be >= 1, got 0"):
        bernoulli(KEY, jnp.ones(3), 0, jnp.bool_)
    with pytest.raises(ValueError, match=r"x must have a time axis, \[T, ...\], got a scalar: pass num_steps"):
        bernoulli(KEY, jnp.float32(0.5), None, jnp.bool_)
