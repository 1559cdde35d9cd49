"""Kept non-linear functions of a converted network: exact in the mean over time, however they are put together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jsnn
from jsnn.conversion.exact import Growth

B, N = 3, 8
X = jnp.asarray(np.random.default_rng(0).normal(size=(B, 5, N)), jnp.float32)


class Attention(nnx.Module):
    """A block of a transformer: layer norm, softmax attention, a skip connection, gelu and relu."""

    def __init__(self, rngs):
        self.embed, self.qkv, self.out = (nnx.Linear(N, n, rngs=rngs) for n in (N, 3 * N, N))
        self.norm1, self.norm2 = (nnx.LayerNorm(N, rngs=rngs) for _ in range(2))
        self.up, self.down = nnx.Linear(N, 2 * N, rngs=rngs), nnx.Linear(2 * N, N, rngs=rngs)

    def __call__(self, x):
        x = jax.nn.relu(self.embed(x))
        q, k, v = jnp.split(self.qkv(self.norm1(x)), 3, axis=-1)
        weights = jax.nn.softmax(jnp.einsum("bqd,bkd->bqk", q, k))
        x = x + self.out(jax.nn.relu(weights @ v))
        return x + self.down(jax.nn.gelu(self.up(self.norm2(x))))


class VisionTransformer(nnx.Module):
    """Patches, two blocks, and a dense readout of the mean over patches."""

    def __init__(self, rngs):
        self.patches = nnx.Conv(1, N, (4, 4), strides=4, rngs=rngs)
        self.blocks, self.readout = nnx.List([Attention(rngs) for _ in range(2)]), nnx.Linear(N, 3, rngs=rngs)

    def __call__(self, x):
        x = self.patches(x)
        x = x.reshape(x.shape[0], -1, N)
        for block in self.blocks:
            x = block(x)
        return self.readout(x.mean(axis=1))


IMAGES = jnp.asarray(np.random.default_rng(1).uniform(size=(B, 8, 8, 1)), jnp.float32)
GATED = np.random.default_rng(2).normal(size=(N, N)).astype(np.float32)
MODELS = {
    "attention": (Attention, X),
    "vision transformer": (VisionTransformer, IMAGES),
    "product": (lambda rngs: lambda x: jax.nn.relu(x @ GATED) * jax.nn.relu(-x @ GATED + 1), X),
    "flax's attention": (
        lambda rngs: nnx.Sequential(
            nnx.Linear(N, N, rngs=rngs), nnx.relu, nnx.MultiHeadAttention(2, N, decode=False, rngs=nnx.Rngs(0))
        ),
        X,
    ),
}


def model_of(name):
    """A model, and what it takes."""
    make, x = MODELS[name]
    return make(nnx.Rngs(0)), x


def error(network, model, x, steps):
    mean = jsnn.unroll(network, x, num_steps=steps)[1].mean(0)
    return float(jnp.linalg.norm(mean - model(x)) / jnp.linalg.norm(model(x)))


NEURONS = {"SpikingActivation": jsnn.SpikingActivation(dt=1.0), "IF": jsnn.IF(), "BurstIF": jsnn.BurstIF()}


@pytest.mark.slow
@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("name", MODELS)
def test_the_error_falls_as_one_over_the_number_of_steps(name, neuron):
    model, x = model_of(name)
    # an IF spikes at most once a step: its rates must stay below that
    options = {"swap": {jax.nn.relu: NEURONS[neuron]}, "scale_firing_rates": 0.2 if neuron == "IF" else "auto"}
    network = jsnn.convert(model, x, **options, v_init=0.5)
    errors = [error(network, model, x, steps) for steps in (64, 256, 1024)]
    assert errors[1] < 0.45 * errors[0]
    assert errors[2] < 0.45 * errors[1]
    assert errors[2] < 0.02


@pytest.mark.slow
def test_an_attention_block_is_within_a_percent_after_256_steps():
    model, x = model_of("attention")
    options = {"dt": 1.0, "scale_firing_rates": "auto", "v_init": 0.5}
    assert error(jsnn.convert(model, x, **options), model, x, 256) < 0.01
    with pytest.warns(UserWarning, match="is kept and sees the spikes of single steps"):
        as_is = jsnn.convert(model, x, **options, kept="as is")
    assert error(as_is, model, x, 256) > 0.1


@pytest.mark.slow
def test_step_by_step_and_inputs_that_vary():
    network = jsnn.convert(*model_of("attention"), dt=1.0)
    inputs = jnp.asarray(np.random.default_rng(3).normal(size=(6, *X.shape)), jnp.float32)
    state, outputs = network.init(X.shape), []
    for x in inputs:
        state, y = network.step(state, x)
        outputs.append(y)
    after, together = jsnn.unroll(network, inputs)
    np.testing.assert_allclose(together, jnp.stack(outputs), rtol=1e-4, atol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), after, state)


def test_what_is_masked_stays_so_and_what_was_not_a_number_spoils_no_later_step():
    network = jsnn.convert(lambda x: jnp.where(jnp.arange(N) < N // 2, jnp.tanh(jax.nn.relu(x)), -jnp.inf), X)
    assert (jsnn.unroll(network, X, num_steps=3)[1][..., N // 2 :] == -jnp.inf).all()
    y = jsnn.unroll(Growth(), jnp.asarray([[jnp.nan], [2.0], [3.0]]))[1][:, 0]  # 0 / 0 before the first spike
    np.testing.assert_array_equal(y, [jnp.nan, 4.0, 5.0])


def test_it_is_diagnosed_and_calibrated():
    x = X[:, 0]
    network = jsnn.convert(lambda x: jnp.tanh(jax.nn.relu(x)) @ GATED, x, dt=0.1)
    calibrated = jsnn.conversion.calibrate(network, x, percentile=100, bias_steps=2)
    found = jsnn.conversion.diagnose(calibrated, x, num_steps=50)
    assert [row.name for row in found.activations] == ["0_relu"]
    assert found.activations[0].relative_error < 0.15


def test_the_report_names_what_is_exact():
    model, x = model_of("attention")
    network = jsnn.convert(model, x)
    assert "kept, exact in the mean over time: layer norm (2 times), dot_general (2 times), softmax, gelu" in str(
        network.report
    )
    plain = jsnn.convert(lambda x: jax.nn.relu(jnp.tanh(x)), X)
    assert "kept as they are: tanh" in str(plain.report)  # before the first neuron it sees no spikes
    swap = {jax.nn.relu: jsnn.IF(), jax.nn.sigmoid: jsnn.SpikingActivation(jax.nn.sigmoid)}  # one that gives the output
    swapped = jsnn.convert(lambda x: jax.nn.sigmoid(jnp.tanh(jax.nn.relu(x)) @ GATED), X, swap=swap)
    assert swapped.report.exact == ("tanh",)
    with pytest.raises(ValueError, match="kept must be 'exact', 'as is' or None, got 'exactly'"):
        jsnn.convert(model, x, kept="exactly")


@pytest.mark.slow
def test_a_softmax_that_gives_the_output_stays_one_unless_told():
    def model(x):
        return jax.nn.softmax(jax.nn.relu(x @ GATED))

    probabilities = jsnn.unroll(jsnn.convert(model, X, dt=1.0), X, num_steps=8)[1]
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)
    network = jsnn.convert(model, X, dt=1.0, scale_firing_rates=8.0, kept="exact")
    assert error(network, model, X, 256) < 0.01


def test_equal_layers_in_a_scan_are_written_out():
    weights = jnp.asarray(np.random.default_rng(4).normal(size=(3, N, N)) / 2, jnp.float32)

    def model(x):
        return jax.lax.scan(lambda x, w: (jax.nn.relu(x @ w), x.sum()), x, weights)[0]

    network = jsnn.convert(model, X, dt=1.0, scale_firing_rates=50.0)
    assert network.names == ("0_relu", "1_relu", "2_relu")
    np.testing.assert_allclose(jsnn.unroll(network, X, num_steps=100)[1].mean(0), model(X), atol=0.02)
