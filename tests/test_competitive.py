"""The competing neurons of `jsnn.models`: when they learn, what they learn, and what a checkpoint keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jsnn
from jsnn.checkpoint import Checkpoints
from jsnn.data import Dataset
from jsnn.models import CompetitiveLayer, at_plasticity, competitive

T, B, INPUTS, NEURONS = 8, 4, 12, 5


def layer(**options):
    options = {"threshold": 0.5, "inhibition": 1.0, "rngs": nnx.Rngs(0)} | options
    return CompetitiveLayer(INPUTS, NEURONS, **options)


def spikes(*shape):
    return (jax.random.uniform(jax.random.key(1), shape) < 0.4).astype(jnp.float32)


def learned(part):
    return np.asarray(part.weights[...]), np.asarray(part.threshold[...])


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(learned(one), other, strict=True))


def test_it_learns_when_it_is_unrolled_in_training_mode():
    part, x = layer(), spikes(T, B, INPUTS)
    before, plastic = learned(part), part.plastic
    state, outputs = jsnn.unroll(part, x)
    expected, y = jsnn.unroll(plastic, x)
    np.testing.assert_array_equal(outputs, y)
    np.testing.assert_array_equal(part.weights[...], expected.weights)
    np.testing.assert_allclose(part.weights[...].sum(0), before[0].sum(0), rtol=1e-5)
    assert not np.allclose(before[0], part.weights[...])
    counts = y.sum(0).mean(0)
    np.testing.assert_allclose(part.threshold[...], np.maximum(0.5 + 0.3 * (counts / 0.1 - 1), 0.1), rtol=1e-5)
    assert state.weights.shape == (INPUTS, NEURONS)


def unroll_in_inference_mode(part):
    part.eval()
    jsnn.unroll(part, spikes(T, B, INPUTS))


@pytest.mark.parametrize(
    "use",
    [
        unroll_in_inference_mode,
        lambda part: part.step(part.init((B, INPUTS)), spikes(B, INPUTS)),
        lambda part: jsnn.unroll(at_plasticity(part, 0.0), 0 * spikes(T, B, INPUTS)),
        lambda part: jsnn.unroll(part.plastic, spikes(T, B, INPUTS)),
        lambda part: jsnn.unroll(part, spikes(T, 0, INPUTS)),
        lambda part: jsnn.unroll(part, spikes(0, B, INPUTS)),
    ],
)
def test_else_it_stays_as_it_is(use):
    part = layer()
    before = learned(part)
    use(part)
    np.testing.assert_allclose(part.weights[...], before[0], rtol=1e-6)
    np.testing.assert_array_equal(part.threshold[...], before[1])


@pytest.mark.parametrize("training", [True, False])
def test_steps_are_those_of_unroll(training):
    part, x = layer(), spikes(T, B, INPUTS)
    part.train() if training else part.eval()
    state, outputs = part.init((B, INPUTS)), []
    for t in range(T):
        state, y = part.step(state, x[t])
        outputs.append(y)
    static = jsnn.unroll(nnx.clone(part), x[0], num_steps=3)[1]
    tiled = jsnn.unroll(nnx.clone(part), jnp.stack([x[0]] * 3))[1]
    np.testing.assert_array_equal(static, tiled)
    np.testing.assert_array_equal(jsnn.unroll(part, x)[1], jnp.stack(outputs))


def test_only_the_readout_is_trained_by_gradients():
    network = competitive([INPUTS, NEURONS, 3], threshold=0.5, rngs=nnx.Rngs(0))
    params = nnx.state(network, nnx.Param)
    assert [leaf.shape for leaf in jax.tree.leaves(params)] == [(NEURONS, 3)]

    def loss(x):
        return jsnn.unroll(competitive([INPUTS, NEURONS, 3], threshold=0.5, rngs=nnx.Rngs(0)), x)[1].sum()

    assert not np.any(jax.grad(loss)(spikes(T, B, INPUTS)))


@pytest.mark.slow
def test_a_training_carries_it_on_and_resumes_to_the_same_bits(tmp_path):
    data = Dataset(np.asarray(spikes(40, INPUTS)), np.arange(40) % 3)

    def loss(network, x, targets, key):
        encoded = jsnn.encode.rate(key, x, num_steps=T)
        logits = jsnn.unroll(network, encoded)[1][-1]
        value = jsnn.losses.cross_entropy(logits, targets)
        return value, {"loss": value}

    def train(epochs, folder):
        network = competitive([INPUTS, NEURONS, 3], threshold=0.5, rngs=nnx.Rngs(0))
        options = {"optimizer": optax.adam(1e-2), "batch_size": 10, "show": False}
        checkpoints = Checkpoints(tmp_path / folder)
        fitted = jsnn.train.fit(network, loss, data, epochs=epochs, checkpoints=checkpoints, **options)
        checkpoints.close()
        return fitted.network

    whole = train(2, "whole")
    first = train(1, "parts").layers[1]
    resumed = train(2, "parts")
    assert not same(first, learned(layer()))
    assert not same(resumed.layers[1], learned(first))
    for one, other in zip(jax.tree.leaves(nnx.state(whole)), jax.tree.leaves(nnx.state(resumed)), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_neurons_become_digits():
    digits = jsnn.data.load("digits", "train")
    images = jnp.asarray(digits.inputs, jnp.float32).reshape(-1, 64) / digits.inputs.max()
    part = CompetitiveLayer(64, 30, threshold=4.0, inhibition=20.0, rngs=nnx.Rngs(0))

    def likeness():  # of each neuron to the image that it is most like
        weights = part.weights[...] / jnp.linalg.norm(part.weights[...], axis=0)
        return float(jnp.mean(jnp.max(images / jnp.linalg.norm(images, axis=1, keepdims=True) @ weights, axis=0)))

    before = likeness()
    for number, start in enumerate(range(0, 1400, 50)):
        part = at_plasticity(part, 1 - start / 1400)
        jsnn.unroll(part, jsnn.encode.rate(jax.random.key(number), images[start : start + 50] * 0.3, num_steps=30))
    assert before < 0.8
    assert likeness() > 0.9


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: layer(target=0.0), ValueError, "target must be > 0"),
        (lambda: layer(inhibition=-1.0), ValueError, "inhibition must be >= 0"),
        (lambda: layer(threshold_rate=-1.0), ValueError, "threshold_rate must be >= 0"),
        (lambda: layer(threshold=0.0), ValueError, "threshold must be > 0"),
        (lambda: layer(decay=1.5), ValueError, "decay must be in"),
        (lambda: layer(decay_pre=-1.0), ValueError, "decay_pre must be in"),
        (lambda: layer(total=0.0), ValueError, "total must be > 0"),
        (lambda: CompetitiveLayer(0, 3, rngs=nnx.Rngs(0)), ValueError, "sizes of 1 or more"),
        (lambda: jsnn.unroll(layer(), spikes(T, B, 3)), ValueError, "takes 12 channels"),
        (lambda: competitive([3, 2], rngs=nnx.Rngs(0)), ValueError, "three numbers"),
        (lambda: jsnn.energy.count(layer(), spikes(T, B, INPUTS)), ValueError, "in training mode"),
        (lambda: at_plasticity(layer(), -1.0), ValueError, "plasticity must be"),
        (lambda: at_plasticity(layer(), "a"), TypeError, "plasticity must be"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
