"""SpikingActivation and its random relatives beyond the common table; golden vectors are in the compat tests."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsnn

X = jnp.asarray(np.random.default_rng(0).normal(0, 10, (30, 4, 6)), jnp.float32)  # [T, B, N]
KEY_NEURONS = [jsnn.StochasticSpiking, jsnn.PoissonSpiking]
NEURONS = {
    "regular": lambda **parameters: jsnn.SpikingActivation(**parameters),
    "stochastic": lambda **parameters: jsnn.StochasticSpiking(jax.random.key(0), **parameters),
    "poisson": lambda **parameters: jsnn.PoissonSpiking(jax.random.key(0), **parameters),
    "refractory": lambda activation=None, **parameters: jsnn.RefractoryLIF(**parameters),
}
unroll = jax.jit(jsnn.unroll)  # the neuron is an argument, so that one compilation serves every key and dt
over_all = pytest.mark.parametrize("make", NEURONS.values(), ids=NEURONS.keys())


@pytest.mark.rows(1)
@pytest.mark.parametrize("activation", [jax.nn.relu, jnp.tanh, jnp.sin, lambda x: x])
def test_the_number_of_spikes_is_the_integral_of_the_rate(activation):
    state, outputs = jsnn.unroll(jsnn.SpikingActivation(activation, dt=0.25), X)
    integral = (activation(X) * 0.25).sum(0)
    np.testing.assert_allclose(outputs.sum(0) * 0.25 + state.v, integral, atol=1e-4)
    assert ((state.v >= 0) & (state.v < 1)).all()


@pytest.mark.rows(1)
@over_all
def test_gradient_is_that_of_the_rate_step_by_step(make):
    neuron = make(activation=jnp.sin, dt=0.25, amplitude=0.5)
    rate = jsnn.neurons.lif_rate if isinstance(neuron, jsnn.RefractoryLIF) else jnp.sin
    weights = jnp.cos(jnp.arange(X.size, dtype=X.dtype)).reshape(X.shape)
    (by_x, by_state), outputs = jax.jit(jax.grad(weighted_sum, argnums=(1, 2), has_aux=True))(
        neuron, X, jnp.full(X.shape[1:], 0.5), weights
    )
    assert np.any(outputs)
    assert not np.all(outputs)
    slope = np.asarray(jax.jit(jax.vmap(jax.grad(rate)))(X.ravel())).reshape(X.shape)
    np.testing.assert_allclose(by_x, 0.5 * weights * slope, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(by_state, 0)
    forwards = jax.jvp(lambda x: jsnn.unroll(neuron, x)[1], (X,), (weights,))[1]
    np.testing.assert_allclose(forwards, 0.5 * weights * slope, rtol=1e-5, atol=1e-7)


def weighted_sum(neuron, x, v, weights):
    state = neuron.init(v.shape)
    _, outputs = jsnn.unroll(neuron, x, state._replace(v=v) if "v" in state._fields else state)
    return (weights * outputs).sum(), outputs


@pytest.mark.rows(1)
@over_all
def test_forward_is_the_same_spikes_with_and_without_awareness(make):
    aware, not_aware = (unroll(make(dt=0.25, spiking_aware=aware), X)[1] for aware in (True, False))
    assert np.any(aware)
    np.testing.assert_array_equal(aware, not_aware)


@pytest.mark.rows(1)
@over_all
def test_without_awareness_differentiation_is_refused(make):
    neuron = make(spiking_aware=False)
    cure = "make it with spiking_aware=True, or train the rate network and convert it"
    for differentiate in (jax.grad, jax.value_and_grad, lambda f: jax.jit(jax.grad(f)), jax.jacfwd):
        with pytest.raises(TypeError, match=cure):
            differentiate(lambda x: jsnn.unroll(neuron, x)[1].sum())(X)
    # what comes after it can still be trained
    assert jax.grad(lambda w: (w * jsnn.unroll(neuron, X)[1]).sum())(1.0).shape == ()


@pytest.mark.slow
@over_all
def test_dt_may_be_traced(make):
    traced = unroll(make(dt=jnp.array(0.25)), X)[1]
    np.testing.assert_allclose(traced, unroll(make(dt=0.25), X)[1], rtol=1e-6)
    changed = dataclasses.replace(make(dt=0.5), dt=jnp.array(0.25))
    np.testing.assert_array_equal(unroll(changed, X)[1], traced)


def test_initial_membrane_drawn_with_a_key():
    neuron = jsnn.SpikingActivation(v_init=jax.random.key(0))
    v = neuron.init((1000,)).v
    assert 0 <= v.min() < 0.01 < 0.99 < v.max() < 1
    np.testing.assert_array_equal(v, neuron.init((1000,)).v)
    other = dataclasses.replace(neuron, v_init=jax.random.key(1))
    assert not np.array_equal(v, other.init((1000,)).v)
    assert neuron.init((3,), jnp.bfloat16).v.dtype == jnp.bfloat16
    jitted = jax.jit(lambda neuron: jsnn.unroll(neuron, X)[1])(neuron)
    np.testing.assert_array_equal(jitted, jsnn.unroll(neuron, X)[1])


@pytest.mark.parametrize("make", KEY_NEURONS)
@pytest.mark.slow
def test_random_spikes_by_steps_are_those_of_an_unroll(make):
    neuron = make(jax.random.key(0), dt=0.25)
    state, outputs, step = neuron.init(X.shape[1:]), [], jax.jit(neuron.step)
    for x in X[:8]:
        state, y = step(state, x)
        outputs.append(y)
    after, unrolled = unroll(neuron, X[:8])
    np.testing.assert_array_equal(jnp.stack(outputs), unrolled)
    assert state.key == after.key

    going_on = unroll(neuron, X[:8], after)[1]
    np.testing.assert_array_equal(going_on[0], step(after, X[0])[1])
    other_key = unroll(dataclasses.replace(neuron, key=jax.random.key(1)), X[:8])[1]
    assert len({outputs.tobytes() for outputs in map(np.asarray, (unrolled, going_on, other_key))}) == 3


@pytest.mark.parametrize("make", KEY_NEURONS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_random_spikes_have_the_dtype_of_the_input(make, dtype):
    with jax.enable_x64(True):
        neuron = make(jax.random.key(0), dt=0.25)
        assert jax.eval_shape(jsnn.unroll, neuron, X.astype(dtype))[1].dtype == dtype


@pytest.mark.slow
def test_random_spikes_of_negative_rates():
    x = jnp.full((20000, 1), -5.0)
    _, stochastic = jsnn.unroll(jsnn.StochasticSpiking(jax.random.key(0), jnp.sinh, dt=0.01), x)
    np.testing.assert_allclose(stochastic.mean(), np.sinh(-5), rtol=1e-2)
    _, poisson = jsnn.unroll(jsnn.PoissonSpiking(jax.random.key(0), jnp.sinh, dt=0.01), x)
    np.testing.assert_array_equal(poisson, 0)


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: jsnn.SpikingActivation(dt=-1), ValueError, "dt must be > 0, got -1"),
    (lambda: jsnn.SpikingActivation(dt=jnp.zeros(2)), ValueError, "dt must be > 0, got [0. 0.]"),
    (lambda: jsnn.SpikingActivation("relu"), TypeError, "activation must be a function such as jax.nn.relu, got"),
    (lambda: jsnn.SpikingActivation(v_init=jax.random.PRNGKey(0)), TypeError,
     "v_init must be a number, an array or a key, got uint32 of shape (2,): make keys with jax.random.key, not"),
    (lambda: jsnn.Rate(None), TypeError, "activation must be a function such as jax.nn.relu, got None"),
    (lambda: jsnn.StochasticSpiking(jax.random.PRNGKey(0)), TypeError, "key must be made by jax.random.key, got Array"),
    (lambda: jsnn.PoissonSpiking(0), TypeError, "key must be made by jax.random.key, got 0"),
    (lambda: jsnn.PoissonSpiking(jax.random.key(0), dt=0.0), ValueError, "dt must be > 0, got 0.0"),
])  # fmt: skip
def test_errors(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()
