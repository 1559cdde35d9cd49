"""Filters against traces by hand and the differential equations they solve; golden vectors are in the compat tests."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

import jsnn
from jsnn.filters import Alpha, Lowpass

HALF = 1e-3 / np.log(2)  # the time constant that halves a level in 1 ms
X = jnp.asarray(np.random.default_rng(0).normal(0, 1, (20, 2, 3)), jnp.float32)  # [T, B, N]


def filtered(neuron, x):
    return jsnn.unroll(neuron, jnp.asarray(x, jnp.float32))[1]


@pytest.mark.rows(2)
@pytest.mark.parametrize(("neuron", "x", "y"), [
    (Lowpass(HALF), [1, 0, 2, -1], [0.5, 0.25, 1.125, 0.0625]),
    (Lowpass(HALF, delay=True), [1, 0, 2, -1], [0, 0.5, 0.25, 1.125]),
    (Lowpass(HALF, initial_level=4.0), [0, 0, 8], [2, 1, 4.5]),
    (Lowpass(2 * HALF, dt=2e-3), [1, 0, 2, -1], [0.5, 0.25, 1.125, 0.0625]),
    (Lowpass(np.array([HALF, HALF / 2, 0])), [[1, 1, 1], [0, 0, 0]], [[0.5, 0.75, 1], [0.25, 0.1875, 0]]),
    # a = 1/2, k = log 2: y = y/2 + k/2 * lowpass + (1 - k)/2 * x, where the lowpass is 1/2, 1/4
    (Alpha(HALF), [1, 0, 0], [0.1534264, 0.25, 0.2116434]),
    (Alpha(HALF, delay=True), [1, 0, 0], [0, 0.1534264, 0.25]),
    (Alpha(HALF, initial_level=4.0), [0, 4], [3.3862944, 3.0]),
])  # fmt: skip
def test_traces_by_hand(neuron, x, y):
    np.testing.assert_allclose(filtered(neuron, np.asarray(x).reshape(len(x), -1)).squeeze(), y, rtol=1e-6)


@pytest.mark.rows(1)
@pytest.mark.parametrize("make", [Lowpass, Alpha])
@pytest.mark.parametrize("tau", [0.0, 1e-5, np.zeros(3)])
def test_a_time_constant_of_zero_passes_the_input_through(make, tau):
    np.testing.assert_array_equal(filtered(make(tau, initial_level=1e6), X), X)
    delayed = filtered(make(tau, initial_level=0.5, delay=True), X)
    np.testing.assert_array_equal(delayed[0], np.full((2, 3), 0.5))
    np.testing.assert_array_equal(delayed[1:], X[:-1])


@pytest.mark.parametrize("make", [Lowpass, Alpha])
def test_a_constant_input_is_passed_unchanged_from_its_level(make):
    np.testing.assert_array_equal(filtered(make(123.0, initial_level=0.7), np.full((1000, 1), 0.7)), np.float32(0.7))


@pytest.mark.rows(1)
@pytest.mark.parametrize("make", [Lowpass, Alpha])
def test_the_response_does_not_depend_on_the_step(make):
    coarse = filtered(make(0.02, dt=4e-3), X)
    fine = filtered(make(0.02, dt=1e-3), np.repeat(X, 4, axis=0))
    np.testing.assert_allclose(fine[3::4], coarse, atol=1e-6)


def test_alpha_is_the_limit_of_two_lowpass_filters_in_a_row():
    fine = np.repeat(X, 1000, axis=0)
    twice = filtered(jsnn.Sequential(Lowpass(5e-3, dt=1e-6), Lowpass(5e-3, dt=1e-6)), fine)
    np.testing.assert_allclose(filtered(Alpha(5e-3), X), twice[999::1000], atol=2e-4)


@pytest.mark.rows(1)
@pytest.mark.parametrize("make", [Lowpass, Alpha])
def test_long_time_constants_keep_their_precision(make):
    with jax.enable_x64(True):
        x = jnp.ones((2000, 1), jnp.float64)
        precise = jsnn.unroll(make(20.0), x)[1][-1]
    np.testing.assert_allclose(filtered(make(20.0), x)[-1], precise, rtol=1e-4)


@pytest.mark.rows(1)
@pytest.mark.parametrize("make", [Lowpass, Alpha])
def test_in_bfloat16_a_slow_filter_still_moves(make):
    _, y = jsnn.unroll(make(0.5), jnp.ones((1500, 1), jnp.bfloat16))
    assert y[-1] > 0.2  # a decay of 0.998 would round to 1, and nothing would move


@pytest.mark.slow
@pytest.mark.parametrize("make", [Lowpass, Alpha])
def test_gradients_are_those_of_finite_differences(make):
    def run(tau, level, dt, x):
        return jsnn.unroll(make(nnx.Param(tau), dt, level), x)[1]

    with jax.enable_x64(True):
        arguments = jnp.array([2e-3, 5e-3, 20e-3]), jnp.array([0.5, -1.0, 2.0]), jnp.array(1e-3), X.astype(jnp.float64)
        check_grads(jax.jit(run), arguments, order=1, modes=["rev"], eps=1e-7, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("make", [Lowpass, Alpha])
def test_a_trained_time_constant_led_astray_is_harmless(make):
    neuron = jax.tree.map(lambda tau: tau - 1, make(nnx.Param(jnp.full(3, 0.01))))
    np.testing.assert_array_equal(filtered(neuron, X), X)
    gradient = jax.grad(lambda neuron: (jsnn.unroll(neuron, X)[1] ** 2).sum())(neuron)
    np.testing.assert_array_equal(gradient.tau[...], 0)


@pytest.mark.parametrize("make", [Lowpass, Alpha])
def test_dt_may_be_traced(make):
    outputs = jax.jit(lambda dt: jsnn.unroll(make(0.01, dt), X)[1])(2e-3)
    np.testing.assert_allclose(outputs, filtered(make(0.01, 2e-3), X), atol=1e-6)


def test_spikes_become_the_rate_they_stand_for():
    layers = jsnn.Sequential(jsnn.SpikingActivation(v_init=0.5), Lowpass(0.1))
    _, rates = jsnn.unroll(layers, jnp.full((1000, 1, 1), 80.0))
    np.testing.assert_allclose(rates[-200:].mean(), 80.0, rtol=1e-2)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: Lowpass(-0.1), "tau must be >= 0, got -0.1"),
    (lambda: Alpha(nnx.Param(jnp.array([0.5, -1.0]))), "tau must be >= 0, got [ 0.5 -1. ]"),
    (lambda: Lowpass(float("nan")), "tau must be >= 0, got nan"),
    (lambda: Lowpass(0.1, dt=0.0), "dt must be > 0, got 0.0"),
    (lambda: Alpha(0.1, jnp.array(-1.0)), "dt must be > 0, got -1.0"),
])  # fmt: skip
def test_errors(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


@pytest.mark.parametrize("make", [Lowpass, Alpha])
def test_an_infinite_time_constant_keeps_the_level(make):
    np.testing.assert_array_equal(filtered(make(np.inf, initial_level=0.5), X), np.full_like(X, 0.5))
    gradient = jax.grad(lambda tau: filtered(make(nnx.Param(tau)), X).sum())(jnp.array([np.inf, 1e30, 1e10]))
    np.testing.assert_allclose(gradient, 0, atol=1e-12)
