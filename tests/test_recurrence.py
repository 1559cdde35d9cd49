"""All time steps at once: the recurrence against a float64 loop, and each neuron with `all_steps` against a scan."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jsnn
from jsnn.recurrence import linear_recurrence
from jsnn.types import TimeParallel

T, B, N = 11, 2, 3  # no power of two
RANDOM = np.random.default_rng(0)
CURRENTS = jnp.asarray(RANDOM.uniform(-1, 1.5, (T, B, N)), jnp.float32)
WEIGHTS = jnp.asarray(RANDOM.normal(size=(T, B, N)), jnp.float32)
PER_NEURON = np.array([0.3, 0.99, 1.0])


def trained(*values):
    return nnx.Param(jnp.asarray(values))


NEURONS = {
    "LI": jsnn.LI(trained(0.2, 0.9, 0.999), gain=PER_NEURON, v_rest=0.25),
    "CuBaLI": jsnn.CuBaLI(trained(0.9), 0.5, v_rest=-0.5),
    "CuBaLI_jump": jsnn.CuBaLI(PER_NEURON, trained(0.6), synapse_order="jump_then_decay"),
    "LIF": jsnn.LIF(trained(0.9), threshold=PER_NEURON, reset="none"),
    "IF": jsnn.IF(threshold=trained(0.7), reset="none"),
    "CuBaLIF": jsnn.CuBaLIF(0.9, trained(0.5, 0.7, 0.0), reset="none", reset_delay=True),
    "Lowpass": jsnn.filters.Lowpass(trained(0.0, 0.01, 1.0), dt=0.01, initial_level=0.5),
    "Lowpass_delayed": jsnn.filters.Lowpass(0.02, jnp.array(0.01), delay=True),
    "Alpha": jsnn.filters.Alpha(trained(0.002, 0.01, 1.0), dt=0.01, delay=True),
}


def assert_equal_to_rounding(actual, expected, tolerance=1e-6):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected)):
        assert (a.shape, a.dtype) == (e.shape, e.dtype)
        np.testing.assert_allclose(a, e, rtol=tolerance, atol=tolerance * max(1, np.abs(e).max()))


@pytest.mark.rows(1)
@pytest.mark.parametrize("leak", [0.05, np.array([0.0, 1e-3, 1.0])])
def test_recurrence_is_its_equation(leak):
    x, y = RANDOM.normal(size=(500, B, N)), RANDOM.normal(size=(B, N))
    ys = jax.jit(linear_recurrence)(leak, jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32))
    expected = [y := (1 - leak) * y + now for now in x]
    np.testing.assert_allclose(ys, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


@pytest.mark.slow
def test_recurrence_has_derivatives_of_both_modes_and_any_order():
    def loss(leak):
        return (linear_recurrence(leak, WEIGHTS[:, 0, 0], jnp.array(0.5)) ** 2).sum()

    def loop(leak):
        y, total = jnp.array(0.5), 0.0
        for x in WEIGHTS[:, 0, 0]:
            y = (1 - leak) * y + x
            total += y**2
        return total

    def derivatives(f):
        return jax.jit(lambda leak: (jax.grad(f)(leak), jax.jacfwd(f)(leak), jax.hessian(f)(leak)))

    assert_equal_to_rounding(derivatives(loss)(0.3), derivatives(loop)(0.3), tolerance=1e-5)


def outputs_and_gradients(run):
    def loss(neuron, state, currents):
        state, outputs = run(neuron, state, currents)
        return (outputs * WEIGHTS).sum() + sum(jnp.sum(s) for s in jax.tree.leaves(state)), (state, outputs)

    return jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))


in_parallel = outputs_and_gradients(lambda neuron, state, currents: neuron.all_steps(state, currents))
one_by_one = outputs_and_gradients(lambda neuron, state, currents: jax.lax.scan(neuron.step, state, currents))


@pytest.mark.rows(1)
@pytest.mark.parametrize("neuron", NEURONS.values(), ids=NEURONS.keys())
def test_all_steps_is_a_scan_of_step(neuron):
    assert isinstance(neuron, TimeParallel)
    assert neuron.is_linear
    state = jax.tree.map(lambda s: s + jnp.asarray(PER_NEURON, s.dtype), neuron.init((B, N)))  # not where it starts
    gradients, (after, outputs) = in_parallel(neuron, state, CURRENTS)
    expected_gradients, expected = one_by_one(neuron, state, CURRENTS)
    assert np.any(outputs)
    assert_equal_to_rounding((after, outputs), expected)
    assert_equal_to_rounding(gradients, expected_gradients, tolerance=5e-6)


@pytest.mark.rows(4)
@pytest.mark.parametrize("neuron", NEURONS.values(), ids=NEURONS.keys())
def test_dtypes_are_those_of_a_scan(neuron):
    shape = jax.ShapeDtypeStruct(CURRENTS.shape, jnp.bfloat16)
    state = neuron.init((B, N))
    expected = jax.eval_shape(lambda x: jax.lax.scan(neuron.step, state, x), shape)
    assert jax.eval_shape(lambda x: neuron.all_steps(state, x), shape) == expected


def test_a_decay_close_to_1_loses_no_precision():
    decay, steps = 1 - 1e-5, 4000
    _, v = jax.jit(jsnn.LI(decay).all_steps)(jsnn.LI(decay).init((1,)), jnp.ones((steps, 1)))
    np.testing.assert_allclose(v[-1, 0], (1 - decay**steps) / (1 - decay), rtol=1e-6)


@pytest.mark.parametrize("neuron", [jsnn.LIF(0.9), jsnn.IF(), jsnn.CuBaLIF()], ids=lambda neuron: type(neuron).__name__)
def test_what_resets_is_not_linear(neuron):
    for reset in ("subtract", "zero", lambda v, spikes, threshold: v):
        neuron = dataclasses.replace(neuron, reset=reset)
        assert isinstance(neuron, TimeParallel)
        assert not neuron.is_linear
        with pytest.raises(ValueError, match="all_steps needs reset='none', got"):
            jax.eval_shape(neuron.all_steps, neuron.init((B, N)), CURRENTS)
    assert not isinstance(jsnn.ALIF(reset="none"), TimeParallel)  # its spikes raise the threshold
