"""Gaussian receptive fields by hand, in several dimensions; `tests/test_encode.py` has Norse's population."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsnn import encode


def gaussians(x, neurons, low, high, beta):
    """The fields of one value, as Bohte et al. number them, from 1."""
    i = np.arange(1, neurons + 1)
    centres = low + (2 * i - 3) / 2 * (high - low) / (neurons - 2)
    sigma = (high - low) / (beta * (neurons - 2))
    return np.exp(-((x - centres) ** 2) / (2 * sigma**2))


@pytest.mark.rows(2)
@pytest.mark.parametrize(
    ("neurons", "low", "high", "beta"), [(3, 0.0, 1.0, 1.5), (8, -2.0, 6.0, 1.0), (5, 0.5, 0.6, 2.0)]
)
def test_receptive_fields_by_hand(neurons, low, high, beta):
    for x in (low, high, 0.3 * low + 0.7 * high):
        activity = encode.receptive_fields(np.float32(x), neurons, low=low, high=high, beta=beta)
        np.testing.assert_allclose(activity, gaussians(x, neurons, low, high, beta), rtol=1e-4, atol=1e-6)


def test_several_dimensions_have_ranges_of_their_own():
    x = np.float32([[0.25, 30.0], [0.75, 10.0]])  # [B, D]
    activity = encode.receptive_fields(x, 6, low=np.float32([0, 10]), high=np.float32([1, 50]))
    assert activity.shape == (2, 2, 6)
    np.testing.assert_allclose(activity[0, 0], gaussians(0.25, 6, 0, 1, 1.5), rtol=1e-5)
    np.testing.assert_allclose(activity[0, 1], gaussians(30, 6, 10, 50, 1.5), rtol=1e-5)


@pytest.mark.slow
def test_grid_is_one_gaussian_around_each_of_its_points():
    x = np.float32([[0.2, 0.9, -1.0], [0.5, 0.5, 3.0]])  # [B, D]
    low, high = np.float32([0, 0, -4]), np.float32([1, 1, 4])
    activity = encode.receptive_field_grid(x, (3, 4, 5), low=low, high=high)
    assert activity.shape == (2, 3, 4, 5)
    for b in range(2):
        first, second, third = (gaussians(x[b, d], n, low[d], high[d], 1.5) for d, n in enumerate((3, 4, 5)))
        np.testing.assert_allclose(activity[b], np.einsum("i,j,k", first, second, third), rtol=1e-4)
    line = encode.receptive_field_grid(x[:, :1], (3,))
    np.testing.assert_array_equal(line, encode.receptive_fields(x[:, 0], 3))


@pytest.mark.slow
def test_bohtes_spike_times():
    # the nearest field spikes first, far ones never
    activity = encode.receptive_fields(np.float32([0.5]), 5)
    times = encode.latency_times(activity, num_steps=11, threshold=0.1, normalize=True, linear=True, clip=True)[0]
    assert jnp.argmin(times) == 2
    assert np.isinf(times).tolist() == [True, False, False, False, True]


@pytest.mark.slow
def test_transforms_and_gradient():
    x = np.float32([[0.1, 0.6], [0.4, 0.9]])
    for code in (
        lambda x: encode.receptive_fields(x, 4, low=-1.0),
        lambda x: encode.receptive_field_grid(x, (3, 4), high=2.0),
    ):
        np.testing.assert_allclose(jax.jit(jax.vmap(code))(x), code(x), rtol=1e-6)
    slope = jax.grad(lambda x: encode.receptive_fields(x, 4)[1])(0.3)
    difference = encode.receptive_fields(0.301, 4)[1] - encode.receptive_fields(0.299, 4)[1]
    np.testing.assert_allclose(slope, difference / 0.002, rtol=1e-2)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_shape_and_dtype(dtype):
    with jax.enable_x64(dtype == jnp.float64):
        x = np.zeros((2, 3), dtype)
        activity = jax.eval_shape(lambda x: encode.receptive_fields(x, 4), x)
        assert (activity.shape, activity.dtype) == ((2, 3, 4), dtype)
        grid = jax.eval_shape(lambda x: encode.receptive_field_grid(x, (3, 4, 5)), x)
        assert (grid.shape, grid.dtype) == ((2, 3, 4, 5), dtype)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: encode.receptive_fields(0.5, 2), "num_neurons must be >= 3, got 2"),
        (lambda: encode.receptive_fields(0.5, 4, beta=0.0), "beta must be > 0, got 0.0"),
        (lambda: encode.receptive_fields(0.5, 4, low=1.0, high=1.0), "high - low must be > 0, got 0.0"),
        (lambda: encode.receptive_fields(np.float32([np.nan]), 4), "x must not hold NaN"),
        (lambda: encode.receptive_field_grid(np.zeros((2, 3), np.float32), (3, 4)), r"got shape \(2, 3\)"),
        (lambda: encode.receptive_field_grid(0.5, (3,)), r"got shape \(\)"),
        (lambda: encode.receptive_field_grid(np.zeros(2, np.float32), (3, 2)), "num_neurons must be >= 3, got 2"),
        (
            lambda: encode.receptive_field_grid(np.zeros(1, np.float32), (3,), high=-1.0),
            "high - low must be > 0, got -1.0",
        ),
    ],
)
def test_bad_parameters(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_integers_are_refused():
    with pytest.raises(TypeError, match="x must be floating point, got uint8"):
        encode.receptive_fields(np.ones(3, np.uint8), 4)
