"""RefractoryLIF and its rate curve beyond the common table; nengo's golden vectors are in test_compat_nengo."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jsnn


@pytest.mark.rows(1)
@pytest.mark.parametrize(("x", "rate"), [(2.0, 63.04), (1.1, 20.0), (5.0, 154.73)])
@pytest.mark.parametrize("dt", [1e-4, 1e-3, 2e-3])
def test_refractory_lif_spikes_at_its_rate_whatever_the_step(x, rate, dt):
    _, outputs = jsnn.unroll(jsnn.RefractoryLIF(dt), jnp.full((1,), x), num_steps=round(10 / dt))
    np.testing.assert_allclose(outputs.mean(), rate, rtol=5e-3)
    np.testing.assert_allclose(outputs.mean(), jsnn.neurons.lif_rate(jnp.array(x)), rtol=5e-3)


@pytest.mark.slow
def test_lif_rate_has_finite_gradients_and_exact_ones_above_its_smoothing():
    edge = jnp.array([-1e30, -1e6, 0.0, 1.0, jnp.nextafter(1.0, 2.0), 1.001, 1e6, 1e30])
    differentiate = jax.vmap(jax.grad(jsnn.neurons.lif_rate, argnums=(0, 1, 2, 3)), (0, None, None, None))
    for gradient in differentiate(edge, 0.02, 0.002, 1.0):
        assert np.isfinite(gradient).all()
        np.testing.assert_array_equal(gradient[:4], 0)
        assert (gradient[4:6] != 0).all()
    by_x = jax.vmap(jax.grad(jsnn.neurons.lif_rate))
    np.testing.assert_allclose(by_x(edge[4:6]), by_x(jnp.full(2, 1.01)), rtol=1e-4)
    with jax.enable_x64(True):
        x = jnp.array([1.02, 1.5, 4.0])
        check_grads(jsnn.neurons.lif_rate, (x, 0.03, 0.001, 0.5), order=1, eps=1e-6, rtol=1e-4)


@pytest.mark.parametrize(("name", "value"), [("tau_mem", 0.0), ("tau_ref", -1e-3), ("tau_mem", jnp.nan)])
def test_lif_rate_takes_time_constants(name, value):
    with pytest.raises(ValueError, match=f"{name} must be >=? 0, got {value}"):
        jsnn.neurons.lif_rate(jnp.ones(2), **{name: value})


def test_a_membrane_that_starts_above_threshold_spikes_at_once():
    neuron = jsnn.RefractoryLIF(v_init=3.0)
    for x in (0.0, 1.0, 2.0):
        state, output = neuron.step(neuron.init((1,)), jnp.full(1, x))
        assert output == pytest.approx(1000)
        assert 0.002 <= state.refractory_time.item() <= 0.0031


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: jsnn.RefractoryLIF(0.0), ValueError, "dt must be > 0, got 0.0"),
    (lambda: jsnn.RefractoryLIF(tau_mem=0.0), ValueError, "tau_mem must be > 0, got 0.0"),
    (lambda: jsnn.RefractoryLIF(tau_ref=-0.1), ValueError, "tau_ref must be >= 0, got -0.1"),
    (lambda: jsnn.RefractoryLIF(v_init=jax.random.PRNGKey(0)), TypeError, "make keys with jax.random.key"),
])  # fmt: skip
def test_errors(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()
