"""What follows an activation and makes it smaller, and the filter behind it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

import jsnn
from jsnn.conversion.tail import tail
from jsnn.program import flatten, trace

T, X = 7, np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)


def windows(x):
    return lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


LINEAR = {
    "jsnn.avg_pool": (jsnn.avg_pool, (2, 2, 2, 3)),
    "nnx.avg_pool": (lambda x: nnx.avg_pool(x, (2, 2), (2, 2)), (2, 2, 2, 3)),
    "twice": (lambda x: jsnn.avg_pool(jsnn.avg_pool(x)), (2, 1, 1, 3)),
    "global": (lambda x: jnp.mean(x, axis=(1, 2)), (2, 3)),
    "in a call": (jax.jit(lambda x: x[:, ::2] - 2 * x[:, 1::2]), (2, 2, 4, 3)),
    "transposed": (lambda x: x.transpose(0, 3, 1, 2).sum(-1), (2, 3, 4)),
    "up to the largest part": (lambda x: jnp.repeat(windows(x) / 4, 9, axis=-1), (2, 2, 2, 3)),
    "before a matrix product": (lambda x: windows(x).reshape(2, -1) @ jnp.ones((12, 2)), (2, 12)),
    "before a square": (lambda x: jsnn.avg_pool(x) ** 2, (2, 2, 2, 3)),
}
NONE = {
    "nothing": lambda x: x,
    "no smaller": lambda x: x[:, ::-1],
    "used twice": lambda x: (jsnn.avg_pool(x), x),
    "squared": lambda x: windows(x**2),
    "maximum": jsnn.max_pool,
    "a constant added": lambda x: windows(x + 1),
    "a number divided": lambda x: windows(1 / x),
    "multiplied with itself": lambda x: windows(x * x),
    "weighed": lambda x: windows(x * jnp.asarray(X)),
}


def tail_of(function):
    program = flatten(trace(function, X)[0])
    return tail(program, program.inputs[0])


@pytest.mark.rows(3)
@pytest.mark.parametrize(("function", "shape"), LINEAR.values(), ids=LINEAR)
def test_linear_operations_that_make_it_smaller(function, shape):
    found = tail_of(function)
    assert found.apply(X).shape == shape
    np.testing.assert_allclose(
        found.apply(2 * X - 3 * X[::-1]), 2 * found.apply(X) - 3 * found.apply(X[::-1]), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("function", NONE.values(), ids=NONE)
def test_others_are_none(function):
    found = tail_of(function)
    assert found.operations == ()
    assert found.apply(X) is X


LOWPASS = jsnn.filters.Lowpass(3e-3, delay=True)
SYNAPSES = {
    "lowpass": (LOWPASS, (2, 2, 2, 3)),
    "alpha": (jsnn.filters.Alpha(2e-3), (2, 2, 2, 3)),
    "trained": (jsnn.filters.Lowpass(nnx.Param(jnp.asarray(2e-3))), (2, 2, 2, 3)),
    "one for each channel": (jsnn.filters.Lowpass(jnp.asarray([1e-3, 2e-3, 4e-3])), (2, 4, 4, 3)),
    "not at rest": (jsnn.filters.Lowpass(3e-3, initial_level=0.5), (2, 4, 4, 3)),
    "not linear": (jsnn.LIF(0.5), (2, 4, 4, 3)),
}


@pytest.mark.parametrize(("synapse", "shape"), SYNAPSES.values(), ids=SYNAPSES)
@pytest.mark.slow
def test_a_filter_that_commutes_stands_behind_the_pooling(synapse, shape):
    """And gives what it gives in front of it, in an unroll, step by step and recorded."""
    network = jsnn.convert(lambda x: jsnn.avg_pool(jax.nn.relu(x)) + 1, X, synapse=synapse, scale_firing_rates=2000.0)
    state = network.init(X.shape)
    assert {x.shape for x in jax.tree.leaves(state[0][1])} == {shape}

    spikes = jsnn.unroll(jsnn.convert(jax.nn.relu, X, scale_firing_rates=2000.0), X, num_steps=T)[1]
    expected = jax.vmap(jsnn.avg_pool)(jsnn.unroll(synapse, spikes)[1]) + 1
    last, outputs = jsnn.unroll(network, X, num_steps=T)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
    records = jsnn.record(network, X, num_steps=T)
    assert records["0_relu"].outputs.shape == (T, *X.shape)
    assert records["0_relu/synapse"].outputs.shape == (T, *shape)
    np.testing.assert_allclose(records["output"].outputs, expected, rtol=1e-5, atol=1e-5)
    for step in range(T):
        state, y = network.step(state, X)
        np.testing.assert_allclose(y, expected[step], rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(jax.tree.leaves(state), jax.tree.leaves(last), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_rates_are_those_before_the_pooling():
    network = jsnn.convert(lambda x: jsnn.avg_pool(jax.nn.relu(x)), X)
    rates, output = network.rates(X)
    np.testing.assert_array_equal(rates["0_relu"], jax.nn.relu(X))
    np.testing.assert_allclose(output, jsnn.avg_pool(jax.nn.relu(X)), rtol=1e-6)
