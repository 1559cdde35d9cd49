"""Rates that vary in time, random trains, clipping; `tests/test_encode.py` has what all rate encoders do."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from binomial import assert_spike_probability

from jsnn import encode

KEY = jax.random.key(7)


@pytest.mark.slow
def test_interpolated_rate_follows_the_line_between_the_values():
    x = np.repeat(np.float32([[0.0], [1.0], [0.5]]), 20_000, axis=1)  # [K, N]
    spikes = jax.jit(encode.interpolated_rate, static_argnames="num_steps")(KEY, x, num_steps=9)
    assert_spike_probability(np.asarray(spikes).T, [0, 0.25, 0.5, 0.75, 1, 0.875, 0.75, 0.625, 0.5])
    spikes = encode.interpolated_rate(KEY, x, num_steps=3, gain=0.5, offset=0.25)
    assert_spike_probability(np.asarray(spikes).T, [0.25, 0.75, 0.5])


@pytest.mark.slow
def test_interpolated_rate_at_the_values_own_instants_is_rate():
    x = np.random.default_rng(0).random((6, 4, 5), np.float32)
    np.testing.assert_array_equal(encode.interpolated_rate(KEY, x, num_steps=6), encode.rate(KEY, x, num_steps=None))
    assert encode.interpolated_rate(KEY, x, num_steps=1).shape == (1, 4, 5)
    assert encode.interpolated_rate(KEY, x[:1], num_steps=7).shape == (7, 4, 5)


def test_random_spikes_have_their_rates():
    rates = np.float32([0.0, 5.0, 80.0, 500.0])  # Hz
    assert_spike_probability(encode.random_spikes(KEY, rates, num_steps=50_000, dt=2e-3), rates * 2e-3)
    assert encode.random_spikes(KEY, np.float32([1 / 3e-3]), num_steps=100, dt=3e-3).sum() == 100


def test_random_spikes_have_the_intervals_of_a_bernoulli_process():
    # intervals are geometric: P(interval = k) = p (1 - p)^(k-1), held for each k as a count of trials
    spikes = np.asarray(encode.random_spikes(KEY, jnp.float32(250.0), num_steps=100_000))
    intervals = np.diff(np.flatnonzero(spikes))
    k = np.arange(1, 11)
    assert_spike_probability(intervals[:, None] == k, 0.25 * 0.75 ** (k - 1))


@pytest.mark.parametrize("dtype", [jnp.bool_, jnp.uint8])
def test_spikes_may_be_stored_small(dtype):
    x = np.float32([0.2, 0.9])
    spikes = encode.rate(KEY, x, num_steps=50, dtype=dtype)
    assert spikes.dtype == dtype
    np.testing.assert_array_equal(spikes, encode.rate(KEY, x, num_steps=50).astype(dtype))


def test_dtype_and_vmap():
    assert jax.eval_shape(
        lambda k, x: encode.interpolated_rate(k, x, num_steps=5), KEY, np.ones((3, 2), jnp.bfloat16)
    ).dtype == (jnp.bfloat16)
    keys = jax.random.split(KEY, 3)
    rates = np.float32([[1.0, 100.0], [900.0, 0.0], [500.0, 30.0]])
    loop = [encode.random_spikes(k, r, num_steps=40) for k, r in zip(keys, rates, strict=True)]
    np.testing.assert_array_equal(
        jax.jit(jax.vmap(lambda k, r: encode.random_spikes(k, r, num_steps=40)))(keys, rates), loop
    )


# Values outside [0, 1]

OUTSIDE = np.float32([[-0.5, 0.5, 1.5]])


@pytest.mark.rows(1)
@pytest.mark.parametrize(
    "encoder",
    [lambda x: encode.rate(KEY, x, num_steps=50), lambda x: encode.interpolated_rate(KEY, x, num_steps=50)[:, None]],
)
def test_values_outside_the_unit_interval_are_clipped_with_a_warning(encoder):
    with pytest.warns(UserWarning, match=r"x holds values outside \[0, 1\].* clip it with jnp.clip") as warned:
        spikes = encoder(OUTSIDE)
    assert warned[0].filename == __file__
    np.testing.assert_array_equal(spikes[..., [0, 2]], np.broadcast_to([0.0, 1.0], (50, 1, 2)))


def test_the_warning_comes_once():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for factor in range(2, 5):
            encode.rate(KEY, factor * OUTSIDE, num_steps=2)
    assert len(caught) == 1


def test_what_gain_and_offset_ask_for_needs_no_warning():
    encode.rate(
        KEY, np.float32([-1.0, 0.0, 1.0]), num_steps=2, gain=0.5, offset=0.5
    )  # values outside, probabilities within
    encode.rate(KEY, np.float32([0.0, 1.0]), num_steps=2, gain=2.0, offset=-0.1)  # values within, saturated on purpose
    jax.jit(lambda x: encode.rate(KEY, x, num_steps=2))(OUTSIDE)  # values unknown


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: encode.interpolated_rate(KEY, 0.5, num_steps=5), r"x must have a time axis, \[T, ...\], got a scalar"),
        (lambda: encode.interpolated_rate(KEY, np.ones((3, 2)), num_steps=0), "num_steps must be >= 1, got 0"),
        (
            lambda: encode.interpolated_rate(KEY, np.full((3, 2), np.nan), num_steps=5),
            "x must not hold NaN, got 6 of 6",
        ),
        (
            lambda: encode.random_spikes(KEY, -1.0, num_steps=5),
            r"rates must lie in \[0, 1 / dt\] = \[0, 1000\] Hz, got -1 to -1",
        ),
        (
            lambda: encode.random_spikes(KEY, 600.0, num_steps=5, dt=2e-3),
            r"= \[0, 500\] Hz, got 600 to 600: take a smaller dt",
        ),
        (lambda: encode.random_spikes(KEY, 1.0, num_steps=5, dt=0.0), "dt must be > 0, got 0.0"),
        (lambda: encode.random_spikes(KEY, 1.0, num_steps=0), "num_steps must be >= 1, got 0"),
        (lambda: encode.random_spikes(KEY, np.float32([np.nan]), num_steps=5), "rates must not hold NaN"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_cure_of_whole_rates_is_theirs():
    with pytest.raises(TypeError, match=r"rates must be floating point, got int32: use rates.astype\(jnp.float32\)$"):
        encode.random_spikes(KEY, np.ones(3, np.int32), num_steps=5)
