"""Bursts and phases by hand, and every bad input; `tests/test_encode.py` has what all encoders do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsnn import encode

burst = jax.jit(encode.burst, static_argnames=("num_steps", "max_spikes", "min_interval", "max_interval"))
phase = jax.jit(encode.phase, static_argnames=("num_steps", "num_phases"))


@pytest.mark.rows(4)
@pytest.mark.parametrize(
    ("x", "options", "steps"),
    [
        (0.0, {}, []),
        (1.0, {}, [0, 2, 4, 6, 8]),
        (0.5, {}, [0, 4, 8]),  # ceil(2.5) spikes, 5 - 1.5 rounded up steps apart
        (0.01, {}, [0]),
        (0.21, {}, [0, 5]),
        (1.0, {"max_spikes": 1, "min_interval": 3}, [0]),
        (1.0, {"max_spikes": 30, "min_interval": 7}, [0, 7, 14]),  # those beyond T are left out
        (0.5, {"max_spikes": 4, "min_interval": 1, "max_interval": 4}, [0, 3]),
    ],
)
def test_burst_by_hand(x, options, steps):
    spikes = burst(np.float32(x), num_steps=21, **options)
    assert np.flatnonzero(spikes).tolist() == steps
    assert set(np.unique(spikes)) <= {0.0, 1.0}


def test_all_spikes_of_a_burst_fit_by_default():
    x = np.linspace(0, 1, 101, dtype=np.float32)
    counts = np.asarray(burst(x, num_steps=33, max_spikes=5)).sum(axis=0)
    np.testing.assert_array_equal(counts, np.ceil(5 * x))


def test_phases_of_8_bits_are_the_bits_of_a_pixel():
    pixels = np.arange(256, dtype=np.uint8)
    spikes = np.asarray(phase(pixels / np.float32(255), num_steps=16))
    np.testing.assert_array_equal(spikes[:8], np.unpackbits(pixels[:, None], axis=1).T)
    np.testing.assert_array_equal(spikes[8:], spikes[:8])


@pytest.mark.rows(1)
@pytest.mark.parametrize("num_phases", [1, 5, 24])
def test_weighted_phases_add_up_to_the_value(num_phases):
    x = np.append(np.random.default_rng(0).random(200, np.float32), np.float32([0.0, 1.0]))
    weights = encode.phase_weights(num_steps=3 * num_phases, num_phases=num_phases)
    total = np.asarray(weights, np.float64) @ np.asarray(phase(x, num_steps=3 * num_phases, num_phases=num_phases))
    assert (x >= total / 3).all()
    assert (x - total / 3).max() <= 2.0**-num_phases


@pytest.mark.rows(1)
@pytest.mark.parametrize("encoder", [encode.burst, encode.phase])
def test_values_outside_are_clipped_under_jit_and_refused_outside(encoder):
    x = jnp.array([-0.5, 1.5])
    jitted = jax.jit(encoder, static_argnames="num_steps")
    np.testing.assert_array_equal(jitted(x, num_steps=8), encoder(jnp.array([0.0, 1.0]), num_steps=8))
    with pytest.raises(ValueError, match=r"x must lie in \[0, 1\], got values from -0.5 to 1.5"):
        encoder(x, num_steps=8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: encode.burst(0.5, num_steps=8, max_spikes=0), "max_spikes must be >= 1, got 0"),
        (lambda: encode.burst(0.5, num_steps=8, min_interval=0), "min_interval must be >= 1, got 0"),
        (
            lambda: encode.burst(0.5, num_steps=8, min_interval=3, max_interval=2),
            "max_interval must be >= min_interval = 3, got 2",
        ),
        (lambda: encode.phase(0.5, num_steps=8, num_phases=0), r"num_phases must lie in 1..24, .* got 0"),
        (lambda: encode.phase(0.5, num_steps=8, num_phases=25), r"num_phases must lie in 1..24, .* got 25"),
        (lambda: encode.phase_weights(num_steps=0), "num_steps must be >= 1, got 0"),
        (lambda: encode.phase_weights(num_steps=4, num_phases=0), "num_phases must lie in 1..24"),
    ],
)
def test_bad_parameters(call, message):
    with pytest.raises(ValueError, match=message):
        call()
