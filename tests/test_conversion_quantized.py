"""Activations to train with, and that nothing is lost when they are converted."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jsnn
from jsnn.conversion import ClipFloorReLU, NoisyReLU, clip_floor_relu, clip_relu

X = jnp.asarray(np.random.default_rng(0).normal(0.5, 1.5, (16, 5)), jnp.float32)


def dense_net(first, second):
    rngs = nnx.Rngs(0)
    return nnx.Sequential(nnx.Linear(5, 32, rngs=rngs), first, nnx.Linear(32, 16, rngs=rngs), second)


def test_values_by_hand():
    x = jnp.array([-1.0, 0.2, 0.26, 0.9, 1.0, 1.9, 7.0])
    np.testing.assert_allclose(clip_floor_relu(x, jnp.asarray(2.0), 4), [0, 0, 0.5, 1, 1, 2, 2])
    np.testing.assert_allclose(clip_relu(x, jnp.asarray(2.0)), [0, 0.2, 0.26, 0.9, 1, 1.9, 2])


@pytest.mark.slow
def test_the_floor_is_passed_straight_through():
    gradient = jax.grad(lambda x: clip_floor_relu(x, jnp.asarray(2.0), 4).sum())(jnp.array([-1.0, 0.7, 3.0]))
    np.testing.assert_allclose(gradient, [0, 1, 0])
    by_threshold = jax.grad(lambda threshold: clip_floor_relu(jnp.array([0.7, 3.0]), threshold, 4).sum())
    # above the threshold 1; below, what rounding has added to the share
    np.testing.assert_allclose(by_threshold(jnp.asarray(2.0)), 1 + (0.25 - 0.35), rtol=1e-5)


@pytest.mark.rows(1)
@pytest.mark.parametrize("levels", [4, 8])
def test_one_layer_loses_nothing_in_as_many_steps_as_levels(levels):
    model = nnx.Sequential(nnx.Linear(5, 32, rngs=nnx.Rngs(0)), ClipFloorReLU(levels, 1.5))
    network = jsnn.convert(model, X)
    assert network.names == ("0_clip_floor_relu",)
    assert isinstance(network.neurons[0].neuron, jsnn.IF)
    np.testing.assert_allclose(network.neurons[0].scale, 1 / 1.5, rtol=1e-6)
    mean = jax.jit(lambda x: jsnn.unroll(network, x, num_steps=levels)[1].mean(0))(X)
    np.testing.assert_allclose(mean, model(X), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("make", [ClipFloorReLU, lambda *a: NoisyReLU(*a, rngs=nnx.Rngs(1))])
def test_two_layers_converge(make):
    model = dense_net(make(8, 1.5), make(8, 1.0))
    model.eval()
    network = jsnn.convert(model, X)
    rates, outputs = network.rates(X)
    np.testing.assert_allclose(outputs, model(X), rtol=1e-6)
    assert [x.shape for x in rates.values()] == [(16, 32), (16, 16)]
    error = [jnp.abs(jsnn.unroll(network, X, num_steps=steps)[1].mean(0) - outputs).mean() for steps in (4, 256)]
    assert error[1] < 0.05 < 0.5 < error[0] / error[1]


@pytest.mark.slow
def test_calibration_and_diagnosis_take_learned_thresholds():
    network = jsnn.convert(dense_net(ClipFloorReLU(4), ClipFloorReLU(4)), X)
    found = jsnn.conversion.diagnose(network, X, num_steps=4)
    assert found.activations[0].relative_error < 1e-5
    assert jsnn.conversion.calibrate(network, X).neurons[0].scale == network.neurons[0].scale


@pytest.mark.slow
def test_thresholds_are_trained():
    model = dense_net(ClipFloorReLU(4, 3.0), nnx.Linear(16, 1, rngs=nnx.Rngs(2)))
    graph, state = jsnn.train.create(model, optax.adam(1e-2))

    def loss(network, x, y, key):
        value = jnp.mean((network(x)[:, 0] - y) ** 2)
        return value, {"loss": value}

    step = jax.jit(jsnn.train.make_step(graph, loss, optax.adam(1e-2)))
    losses = []
    for _ in range(60):
        state, metrics = step(state, (X, X[:, 0]), jax.random.key(0))
        losses.append(float(metrics["loss"]))
    trained = jsnn.train.network_of(graph, state)
    assert losses[-1] < losses[0] / 3
    assert float(trained.layers[1].threshold[...]) != 3.0
    np.testing.assert_allclose(
        jsnn.convert(trained, X).neurons[0].scale, 1 / float(trained.layers[1].threshold[...]), rtol=1e-6
    )


def test_noise_is_drawn_in_training_alone():
    activation = NoisyReLU(2, rngs=nnx.Rngs(0))
    x = jnp.full((1000,), 0.5)
    noisy = activation(x)
    assert 0.2 < noisy.min() < 0.3
    assert 0.7 < noisy.max() < 0.8
    assert not np.array_equal(activation(x), noisy)
    with pytest.raises(ValueError, match=r"training mode.*model.eval"):
        jsnn.convert(activation, x)
    activation.eval()
    np.testing.assert_allclose(activation(x), 0.5)


@pytest.mark.parametrize(
    ("arguments", "match"), [((0, 1.0), "levels must be >= 1, got 0"), ((4, -1.0), "threshold must be > 0, got -1")]
)
def test_numbers_out_of_range(arguments, match):
    with pytest.raises(ValueError, match=match):
        ClipFloorReLU(*arguments)
    with pytest.raises(ValueError, match=match):
        NoisyReLU(*arguments, rngs=nnx.Rngs(0))
