"""KerasSpiking's own outputs and gradients, reproduced (golden vectors of keras-spiking 0.3.0)."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from golden import close

import jsnn
from jsnn.compat import keras_spiking

ACTIVATIONS = [
    "linear_dt0.001", "linear_dt0.01", "linear_dt0.1", "relu_dt0.001", "relu_dt0.01", "relu_dt1.0",
    "sigmoid_dt0.001", "sigmoid_dt0.01", "sigmoid_dt1.0", "tanh_dt0.001", "tanh_dt0.1", "tanh_dt1.0",
]  # fmt: skip


unroll = jax.jit(jsnn.unroll)


def time_first(x):
    return jnp.asarray(np.swapaxes(x, 0, 1))


def sum_of_squares(neuron, x):
    state, outputs = jsnn.unroll(neuron, x)
    return (outputs**2).sum(), (state, outputs)


sum_of_squares_and_gradient = jax.jit(jax.value_and_grad(sum_of_squares, argnums=1, has_aux=True))


@pytest.mark.rows(1)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("stem", ACTIVATIONS)
def test_spiking_activation(parity, stem, dtype):
    golden = parity(f"keras_spiking_SpikingActivation__{stem}")
    name, dt = stem.split("_dt")
    with jax.enable_x64(dtype == "f64"):
        x = time_first(golden["input"]).astype(golden[f"spikes_{dtype}"].dtype)
        make = functools.partial(
            keras_spiking.spiking_activation, name, dt=float(dt), initial_voltage=golden["initial_voltage"]
        )
        (_, (state, outputs)), gradient = sum_of_squares_and_gradient(make(), x)
        # a spike is 1 / dt high, which float32 rounds in one way or another
        np.testing.assert_allclose(outputs, time_first(golden[f"spikes_{dtype}"]), rtol=2e-7)
        assert outputs.dtype == golden[f"spikes_{dtype}"].dtype
        close(state.v, golden[f"final_voltage_{dtype}"], 1e-6 if dtype == "f32" else 1e-14)
        close(gradient, time_first(golden[f"grad_sumsq_spikeaware_{dtype}"]), 1e-4)

        training = make(spiking_aware_training=False, training=True)
        (_, (_, outputs)), gradient = sum_of_squares_and_gradient(training, x)
        close(outputs, time_first(golden[f"train_nonaware_out_{dtype}"]))
        close(gradient, time_first(golden[f"grad_sumsq_nonaware_{dtype}"]), 1e-4)
        inference = make(spiking_aware_training=False)
        np.testing.assert_allclose(jsnn.unroll(inference, x)[1], time_first(golden[f"spikes_{dtype}"]), rtol=2e-7)
        with pytest.raises(TypeError, match="spiking_aware=True"):
            sum_of_squares_and_gradient(inference, x)


def test_training_changes_nothing_for_spiking_aware_layers():
    for make in (keras_spiking.spiking_activation, functools.partial(keras_spiking.lowpass, 0.01)):
        assert repr(make(training=True)) == repr(make())


FILTERS = [
    "Alpha__tau0.005_dt0.001", "Alpha__tau0.01_dt0.001", "Alpha__tau0.1_dt0.001", "Alpha__tau0.1_dt0.01",
    "Lowpass__tau0.01_dt0.001", "Lowpass__tau0.1_dt0.001", "Lowpass__tau0.1_dt0.01",
]  # fmt: skip


@pytest.mark.rows(1)
@pytest.mark.parametrize("stem", FILTERS)
def test_filters(parity, stem):
    golden = parity(f"keras_spiking_{stem}")
    name, tau, dt = re.fullmatch(r"(\w+)__tau(.+)_dt(.+)", stem).groups()
    make = functools.partial({"Lowpass": keras_spiking.lowpass, "Alpha": keras_spiking.alpha}[name], float(tau))
    x = time_first(golden["input"])
    close(unroll(make(dt=float(dt)), x)[1], time_first(golden["output_zero_level"]))

    trained = make(6, dt=float(dt), level_initializer=golden["initial_level"])
    (of_filter, of_x), outputs = jax.jit(
        jax.grad(lambda f, x: (sum_of_squares(f, x)[0], jsnn.unroll(f, x)[1]), argnums=(0, 1), has_aux=True)
    )(trained, x)
    close(outputs, time_first(golden["output"]))
    close(of_x, time_first(golden["grad_x"]), 1e-4)
    close(of_filter.tau[...], golden["grad_tau"].reshape(6), 1e-4)
    close(of_filter.initial_level[...], golden["grad_level"].reshape(6), 1e-4)

    fixed = make(6, dt=float(dt), apply_during_training=False)
    assert not jax.tree.leaves(nnx.state(fixed, nnx.Param))
    close(unroll(fixed, x)[1], time_first(golden["output_zero_level"]))
    through = make(6, dt=float(dt), apply_during_training=False, training=True)
    np.testing.assert_array_equal(unroll(through, x)[1], x)


def dense(kernel, bias):
    layer = nnx.Linear(*kernel.shape, rngs=nnx.Rngs(0))
    layer.kernel[...], layer.bias[...] = jnp.asarray(kernel), jnp.asarray(bias)
    return layer


@functools.partial(jax.jit, static_argnames="num_steps")
@functools.partial(jax.value_and_grad, has_aux=True)
def loss_at_the_last_step(network, x, labels, num_steps):
    layers = jsnn.record(network, x, num_steps=num_steps)
    logits = list(layers.values())[-1].outputs
    loss = optax.softmax_cross_entropy_with_integer_labels(logits[-1], labels).mean()
    return loss, layers


@pytest.mark.rows(1)
@pytest.mark.parametrize("dt", ["0.001", "0.01", "0.1", "1.0", "lowpass"])
def test_fashion_mnist_tutorial(parity, dt):
    golden = parity("keras_spiking_tutorial_fashion16")
    lowpass = dt == "lowpass"
    network = jsnn.Sequential(
        dense(golden["W0"], golden["W1"]),
        keras_spiking.spiking_activation(
            "relu", dt=0.01 if lowpass else float(dt), initial_voltage=golden["initial_voltage"]
        ),
        *([keras_spiking.lowpass(0.1, 128, dt=0.01)] if lowpass else []),
        dense(golden["W2"], golden["W3"]),
    )
    x, labels = jnp.asarray(golden["x"]), jnp.asarray(golden["labels"], jnp.int32)
    (loss, layers), gradients = loss_at_the_last_step(network, x, labels, num_steps=10)
    first, *_, last = gradients.layers
    prefix, suffix = ("lp_", "") if lowpass else ("", f"_dt{dt}")

    spikes = layers["1_SpikingActivation"].outputs * (0.01 if lowpass else float(dt))
    np.testing.assert_array_equal(
        np.round(spikes), time_first(golden["n_spikes_dt0.01" if lowpass else f"n_spikes_dt{dt}"])
    )
    close(list(layers.values())[-1].outputs, time_first(golden[f"{prefix}logits{suffix}"]))
    close(loss, golden[f"{prefix}loss_last{suffix}"])
    trained = [first.kernel, first.bias, last.kernel, last.bias]
    if lowpass:
        trained += [gradients.layers[2].tau, gradients.layers[2].initial_level]
    for index, gradient in enumerate(trained):
        expected = golden[f"{prefix}grad{index}{suffix}"]
        close(gradient[...].reshape(expected.shape), expected, 1e-4)


REGULARIZERS = {
    "L1_0.01": keras_spiking.l1(),
    "L1_0.01_t10": keras_spiking.l1(target=10.0),
    "L1_0.01_t5_10": keras_spiking.l1(0.01, (5.0, 10.0)),
    "L2_0.01": keras_spiking.l2(),
    "L2_1e-3_t10": keras_spiking.l2(1e-3, 10.0),
    "L2_1e-3_t5_10": keras_spiking.l2(1e-3, (5.0, 10.0)),
    "L1L2": keras_spiking.l1l2(0.02, 0.003, 8.0),
    "P100_ax0_t5_10": keras_spiking.percentile(target=(5.0, 10.0), l2=0.01),
    "P100_ax01_t7": keras_spiking.percentile(axis=(0, 1), target=7.0, l1=0.01),
    "P50_ax0_t5": keras_spiking.percentile(50, target=5.0, l2=0.01),
    "P90_ax01_t5_10": keras_spiking.percentile(90, axis=(0, 1), target=(5.0, 10.0), l2=0.01),
    "P99_ax0_t5_l1": keras_spiking.percentile(99, target=5.0, l1=0.05),
}


@pytest.mark.rows(1)
@pytest.mark.parametrize("case", REGULARIZERS)
def test_regularizers(parity, case):
    golden = parity("keras_spiking_regularizers")
    outputs = time_first(golden["input"])  # [7, 5, 6]; Keras divides by the batch, which the vectors leave out
    value, gradient = jax.value_and_grad(REGULARIZERS[case])(outputs)
    close(value * 5, golden[f"{case}_value"])
    close(gradient * 5, time_first(golden[f"{case}_grad"]), 1e-4)


def test_activity_regularizer_of_a_layer(parity):
    golden = parity("keras_spiking_activity_reg__rsFalse")
    neuron = keras_spiking.spiking_activation("relu", dt=0.1, initial_voltage=golden["initial_voltage"])
    _, outputs = jsnn.unroll(neuron, time_first(golden["input"]))
    close(outputs[-1], golden["output"])
    close(keras_spiking.l2(1e-3, target=10.0)(outputs[-1:]), golden["layer_loss"].item())


def test_all_activations_are_keras_s():
    x = np.linspace(-2, 2, 9)
    expected = {
        "exponential": np.exp(x),
        "gelu": [-0.0455, -0.1002, -0.1587, -0.1543, 0, 0.3457, 0.8413, 1.3998, 1.9545],
        "linear": x,
        "softplus": np.log1p(np.exp(x)),
        "softsign": x / (1 + abs(x)),
        "swish": x / (1 + np.exp(-x)),
        "elu": np.where(x > 0, x, np.expm1(x)),
        "selu": 1.05070098 * np.where(x > 0, x, 1.67326324 * np.expm1(x)),
        "relu": np.maximum(x, 0),
        "sigmoid": 1 / (1 + np.exp(-x)),
        "tanh": np.tanh(x),
    }
    assert expected.keys() == keras_spiking.ACTIVATIONS.keys()
    for name, values in expected.items():
        rate = keras_spiking.spiking_activation(name, spiking_aware_training=False, training=True)
        np.testing.assert_allclose(rate.step((), jnp.asarray(x, jnp.float32))[1], values, atol=1e-4)
    assert keras_spiking.spiking_activation(jnp.sin).activation is jnp.sin


@pytest.mark.parametrize(("call", "message"), [
    (lambda: keras_spiking.spiking_activation("rleu"), "unknown activation 'rleu', did you mean 'relu'? Known: elu,"),
    (lambda: keras_spiking.spiking_activation(dt=0.0), "dt must be > 0, got 0.0"),
    (lambda: keras_spiking.lowpass(-0.1, 4), "tau must be >= 0, got [-0.1 -0.1 -0.1 -0.1]"),
    (lambda: keras_spiking.alpha(0.1, dt=-1), "dt must be > 0, got -1"),
    (lambda: keras_spiking.l1()(jnp.ones((4, 2))), "outputs must be [T, B, ...], got shape (4, 2): a single step is"),
    (lambda: keras_spiking.l2(-0.1), "strength must be >= 0, got -0.1"),
    (lambda: keras_spiking.percentile(l1=np.float32(-1)), "strength must be >= 0, got -1"),
    (lambda: keras_spiking.l1(target=(3.0, 1.0)), "low <= high, got (3.0, 1.0): swap"),
    (lambda: keras_spiking.percentile(101), "percentile must lie in [0, 100], got 101"),
    (lambda: keras_spiking.operations(jnp.sin, jnp.ones((1, 2)), dt=-1.0), "dt must be > 0 s, got -1.0"),
])  # fmt: skip
def test_errors(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
