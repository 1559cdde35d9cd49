"""Rounded networks and their integer twins: the same to the bit, trained through the rounding, and clear errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jsnn
from jsnn.quant.fixed import LARGEST, divided, factor_of, power_of_two, rescaled, shifted

T, B, N = 60, 3, 20


def dense(inputs, outputs, seed=0, **options):
    return nnx.Linear(inputs, outputs, rngs=nnx.Rngs(seed), **options)


def spikes(*shape, share=0.3):
    return (jax.random.uniform(jax.random.key(1), shape) < share).astype(jnp.float32)


class Skip(nnx.Module):
    """A neuron that is called twice, and spikes passed by a layer."""

    def __init__(self):
        self.linear, self.lif = dense(N, N), jsnn.LIF(nnx.Param(jnp.asarray(0.9)), threshold=0.7)
        self.rest = jsnn.Sequential(jsnn.Linear(N, N, rngs=nnx.Rngs(1)), jsnn.CuBaLIF(0.8, 0.8))

    def __call__(self, x):
        return {"sum": self.rest(self.lif(self.linear(x))) + x, "again": self.lif(self.linear(x) + self.linear(x))}


def with_neuron(neuron, readout=None):
    layers = [] if readout is None else [dense(N, 7, 2), readout]
    return lambda: jsnn.Sequential(dense(N, N), neuron, *layers)


def recurrent(neuron):
    return lambda: jsnn.Sequential(
        dense(N, N), jsnn.Recurrent(neuron, jsnn.Linear(N, N, use_bias=False, rngs=nnx.Rngs(3))),
        dense(N, 5), jsnn.LI(0.95, v_rest=0.1),
    )  # fmt: skip


def convolutional():
    return jsnn.Sequential(
        jsnn.Conv(2, 9, (3, 3), rngs=nnx.Rngs(0)), jsnn.IF(threshold=0.8), functools.partial(jsnn.max_pool, window=2),
        nnx.Conv(9, 4, (3, 3), strides=2, padding=1, kernel_dilation=2, rngs=nnx.Rngs(1)),
        jsnn.LIF(jnp.array([0.5, 0.6, 0.7, 0.8])), jsnn.Conv(4, 8, (2, 2), feature_group_count=2, rngs=nnx.Rngs(2)),
        jsnn.LIF(0.9), jsnn.flatten, jsnn.Sequential(dense(8, 10)),
    )  # fmt: skip


NETWORKS = {
    "LIF": (with_neuron(jsnn.LIF(0.9)), (N,)),
    "IF zero": (with_neuron(jsnn.IF(reset="zero", v_reset=-0.2), jsnn.LI(0.9, gain=0.1)), (N,)),
    "LIF late": (with_neuron(jsnn.LIF(0.95, v_rest=-0.3, gain=-0.7, reset_delay=True), jsnn.CuBaLI(0.9, 0.5)), (N,)),
    "LIF none": (with_neuron(jsnn.LIF(0.0, reset="none", threshold=jnp.linspace(0.1, 3.0, N))), (N,)),
    "CuBaLIF": (with_neuron(jsnn.CuBaLIF(0.9, 0.8, gain=0.1, threshold=0.2), jsnn.CuBaLI(0.999, 0.9)), (N,)),
    "CuBaLIF after": (with_neuron(jsnn.CuBaLIF(0.9, 0.8, synapse_order="jump_then_decay")), (N,)),
    "Recurrent LIF": (recurrent(jsnn.LIF(0.9)), (N,)),
    "Recurrent CuBaLIF": (recurrent(jsnn.CuBaLIF(0.9, 0.7, gain=0.3)), (N,)),
    "convolutional": (convolutional, (8, 8, 2)),
    "Network": (lambda: jsnn.Network(Skip()), (N,)),
    "in a Sequential": (lambda: jsnn.Sequential(dense(N, N), jsnn.LIF(0.9), jsnn.Network(Skip())), (N,)),
    "neuron": (lambda: jsnn.LIF(0.9, gain=0.3), (N,)),
    "neuron after neuron": (with_neuron(jsnn.Sequential(jsnn.LIF(0.9), jsnn.LIF(0.9, gain=0.4))), (N,)),
}
OPTIONS = [
    {}, {"weights": 4, "states": 8}, {"weights": 3, "states": 8, "per_channel": False},
    {"power_of_two": True, "readout_range": 0.5},
]  # fmt: skip


def run(network, x):
    return jax.jit(lambda x: jsnn.unroll(network, x))(x)


@pytest.mark.parametrize("outputs", [[1], jnp.ones(3)])
def test_what_has_no_unit_is_refused(outputs):
    with pytest.raises(TypeError, match=r"outputs must be int8, int16 or int32, as .*, got (int|float32)$"):
        jsnn.quant.integer(jsnn.quant.aware(jsnn.LIF())).real(outputs)


def check_equal(rounded, twin, x):
    """Outputs and states, and that there is something to compare."""
    (states, expected), (twin_states, outputs) = run(rounded, x), run(twin, x)
    jax.tree.map(np.testing.assert_array_equal, twin.real(outputs), expected)
    assert {leaf.dtype.kind for leaf in jax.tree.leaves((outputs, twin_states))} == {"i"}
    for whole, real in zip(jax.tree.leaves(twin_states), jax.tree.leaves(states), strict=True):
        whole, real = np.asarray(whole, np.float32).ravel(), np.asarray(real).ravel()
        unit = real[whole != 0][:1] / whole[whole != 0][:1] if whole.any() else np.float32(0.5)
        assert np.all(np.frexp(unit)[0] == 0.5)  # a power of two
        np.testing.assert_array_equal(whole * unit, real)
    for y in jax.tree.leaves(expected):
        assert len(np.unique(y)) > 1


def test_a_membrane_at_its_threshold_spikes_in_the_twin_too():  # of SpikingJelly's neurons, after two inputs of 0.5
    layer = dense(1, 1, use_bias=False, kernel_init=nnx.initializers.ones)
    network = jsnn.Sequential(layer, jsnn.compat.spikingjelly.if_node())
    rounded = jsnn.quant.aware(network, input_scale=0.5)
    check_equal(rounded, jsnn.quant.integer(rounded), jnp.full((4, 1, 1), 0.5))
    assert run(rounded, jnp.full((4, 1, 1), 0.5))[1].ravel().tolist() == [0, 1, 0, 1]


@pytest.mark.rows(3)
@pytest.mark.parametrize("name", ["LIF late", "CuBaLIF", "Recurrent LIF", "Network", "neuron"])
def test_the_twin_is_equal(name):
    make, shape = NETWORKS[name]
    rounded = jsnn.quant.aware(make())
    check_equal(rounded, jsnn.quant.integer(rounded), spikes(T, B, *shape))


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: " ".join(options) or "default")
@pytest.mark.parametrize("name", NETWORKS)
def test_the_twin_is_equal_for_10_000_steps(name, options):
    make, shape = NETWORKS[name]
    rounded = jsnn.quant.aware(make(), **options)
    check_equal(rounded, jsnn.quant.integer(rounded), spikes(10_000, 2, *shape))


@pytest.mark.rows(1)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("scale", [1 / 127, 0.03])
def test_real_inputs_are_rounded_to_a_scale(scale, dtype):
    x = jax.random.normal(jax.random.key(0), (T, B, N)).astype(dtype)
    rounded = jsnn.quant.aware(recurrent(jsnn.LIF(0.9))(), input_scale=scale)
    check_equal(rounded, jsnn.quant.integer(rounded), x)
    whole = jnp.clip(jnp.round(x.astype(jnp.float32) / scale), -127, 127) * scale
    np.testing.assert_array_equal(run(rounded, whole)[1], run(rounded, x)[1])


def test_integers_have_no_nan_and_take_it_for_0():
    x = spikes(T, B, N)
    twin, missing = jsnn.quant.integer(jsnn.quant.aware(jsnn.LIF(0.9, gain=0.3))), x > jnp.roll(x, 1, 0)
    np.testing.assert_array_equal(*(run(twin, jnp.where(missing, y, x))[1] for y in (jnp.nan, 0.0)))


def test_a_twin_computes_with_integers_alone():
    twin = jsnn.quant.integer(jsnn.quant.aware(recurrent(jsnn.CuBaLIF(0.9, 0.8))()))
    state, x = twin.init((B, N)), spikes(B, N)
    lines = str(jax.make_jaxpr(twin.step)(state, x)).splitlines()
    floating = [line.strip() for line in lines if "f32" in line and "lambda" not in line]
    assert len(floating) < 10  # the input becomes int8
    assert not any(f" {word}" in line for line in floating for word in ("dot_general", "add", "sub", "div", "gt"))
    assert sum("preferred_element_type=int32" in line for line in lines) == 3  # two layers, and one back


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Recurrent CuBaLIF", "convolutional", "Network"])
def test_one_step_after_another_and_other_ways(name):
    make, shape = NETWORKS[name]
    rounded = jsnn.quant.aware(make(), states=10)
    x = spikes(8, B, *shape)
    for network in (rounded, jsnn.quant.integer(rounded)):
        check_ways(network, x)
        assert list(jsnn.record(network, x)) == list(jsnn.record(make(), x))


def check_ways(network, x):
    _, expected = jsnn.unroll(network, x)
    same = functools.partial(jax.tree.map, np.testing.assert_array_equal, expected)
    state, outputs = network.init(x.shape[1:], jnp.bfloat16), []
    step = jax.jit(network.step)
    for current in x:
        state, y = step(state, current)
        outputs.append(y)
    same(jax.tree.map(lambda *ys: jnp.stack(ys), *outputs))
    same(jsnn.unroll(network, x, remat=3)[1])
    same(jax.vmap(lambda x: jax.tree.map(lambda y: y[:, 0], jsnn.unroll(network, x[:, None])[1]), 1, 1)(x))
    assert jax.tree.leaves(jsnn.unroll(network, x[:, :0])[1])[0].shape[:2] == (len(x), 0)


# Rounding


def test_factors_and_shifts_are_rounded():
    values = np.random.default_rng(0).lognormal(0, 4, (1000, 2)).astype(np.float32) * [1, -1]
    factor = factor_of(np.clip(values, -1e6, 1e6))
    np.testing.assert_allclose(factor.value, np.clip(values, -1e6, 1e6), rtol=2.0**-8, atol=2.0**-24)
    assert (float(factor_of(0.0).value), float(factor_of(1.0).value)) == (0, 1)
    assert int(abs(factor.multiplier).max()) < 256
    assert shifted(jnp.array([-6, -5, -3, -2, 2, 3, 5, 6]), 2).tolist() == [-1, -1, -1, 0, 1, 1, 1, 2]
    assert power_of_two(jnp.array([0.0, 0.25, 0.26, 1.0, 3.0, 1e-30])).value.tolist() == [0, 0.25, 0.5, 1, 4, 0]
    x = np.random.default_rng(1).integers(-LARGEST, LARGEST + 1, 10_000).astype(np.int32)
    for value in (1.0, 0.1, 0.9961, 255 / 256, 3e-7, 1.9, -0.3, 200.0, 5000.0, 1e20):
        factor = factor_of(value)
        exact = np.clip(np.floor(x * np.float64(factor.value) + 0.5), -LARGEST, LARGEST)
        np.testing.assert_array_equal(np.asarray(rescaled(x, factor)), exact)
        if value > 0:
            np.testing.assert_allclose(divided(jnp.float32(value), factor), value / factor.value, rtol=1e-6)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("options", [{}, {"power_of_two": True}, {"per_channel": False}])
def test_weights_are_within_half_a_step(bits, options):
    layer = dense(30, 9)
    layer.kernel[...] = layer.kernel[...] * jnp.logspace(-2, 1, 9).at[4].set(0)
    layer.bias[...] = jnp.linspace(-2, 2, 9)
    rounded = jsnn.quant.aware(jsnn.Sequential(layer, jsnn.LIF(0.9)), weights=bits, **options).layers[0]
    whole, factor = rounded.quantized()
    step = factor.value * rounded.unit
    assert abs(whole).max() <= 2 ** (bits - 1) - 1
    assert len(np.unique(step)) == (1 if "per_channel" in options else 9)
    assert np.all(abs(rounded.weights() - layer.kernel[...]) <= step * (0.5 + 2.0 ** (bits - 9)))
    again = jsnn.quant.aware(jsnn.Sequential(layer, jsnn.LIF(0.9)), weights=bits, **options).layers[0]
    again.layer.kernel[...] = rounded.weights()
    np.testing.assert_array_equal(again.weights(), rounded.weights())


def test_states_and_parameters_of_enough_bits_are_those_of_the_network():
    network = with_neuron(jsnn.LIF(0.8, reset="none", threshold=0.5))()
    x = spikes(30, B, N)
    fine, rounded = (jsnn.record(net, x)["1_LIF"].states.v for net in (network, jsnn.quant.aware(network)))
    np.testing.assert_allclose(fine, rounded, atol=0.05)
    coarse = jsnn.record(jsnn.quant.aware(network, states=4), 50 * x)["1_LIF"].states.v
    assert float(abs(coarse).max()) == 7 * 0.5 / 2  # 7 units, of which two are a threshold


# Training


@pytest.mark.slow
def test_gradients_pass_through_the_rounding():
    network = jsnn.Sequential(
        dense(N, 5), jsnn.CuBaLI(nnx.Param(jnp.full(5, 0.9)), 0.8, gain=nnx.Param(jnp.array(0.5)))
    )
    x = jax.random.normal(jax.random.key(0), (30, B, N))

    def gradients(network, x):
        graph, params, rest = nnx.split(network, nnx.Param, ...)
        return jax.grad(lambda p, x: (jsnn.unroll(nnx.merge(graph, p, rest), x)[1] ** 2).mean(), (0, 1))(params, x)

    rounded = jsnn.quant.aware(network, input_scale=1 / 30, readout_range=100.0)
    for ours, theirs in zip(
        jax.tree.leaves(gradients(rounded, x)), jax.tree.leaves(gradients(network, x)), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=0.05 * float(abs(theirs).max()))


def loss(network, images, labels, key):
    _, outputs = jsnn.unroll(network, images.reshape(len(images), -1) / 255, num_steps=8)
    value = jsnn.losses.cross_entropy(outputs.mean(0), labels)
    return value, {"loss": value, "accuracy": jsnn.metrics.is_correct(outputs.mean(0), labels)}


@pytest.mark.slow
@pytest.mark.parametrize(("weights", "states", "power"), [(8, 16, False), (4, 8, False), (4, 16, True)])
def test_training_reaches_the_accuracy_of_float32(weights, states, power):
    digits, test = (jsnn.data.load("digits", split) for split in ("train", "test"))
    fit = functools.partial(jsnn.train.fit, loss=loss, data=digits, test=test, epochs=8, show=False)
    layers = dense(64, 64), jsnn.LIF(nnx.Param(jnp.full(64, 0.9)), threshold=nnx.Param(jnp.ones(64)))
    fitted = fit(jsnn.Sequential(*layers, dense(64, 10), jsnn.LI(0.9)), optimizer=optax.adam(5e-3))
    rounded = jsnn.quant.aware(fitted.network, weights, states, power_of_two=power, input_scale=1 / 127)
    tuned = fit(rounded, optimizer=optax.adam(1e-3))
    before, after = (found.history[-1]["test_accuracy"] for found in (fitted, tuned))
    assert before > 0.9
    assert after > before - 0.02
    moved = jax.tree.map(lambda a, b: float(abs(a - b).max()), nnx.state(rounded), nnx.state(tuned.network))
    assert all(change > 0 for change in jax.tree.leaves(moved))
    twin = jsnn.quant.integer(tuned.network)
    x = jnp.asarray(test.inputs[:50]).reshape(50, -1) / 255
    np.testing.assert_array_equal(
        twin.real(jsnn.unroll(twin, x, num_steps=16)[1]), jsnn.unroll(tuned.network, x, num_steps=16)[1]
    )


def test_the_network_stays_as_it_is():
    network = with_neuron(jsnn.LIF(nnx.Param(jnp.asarray(0.9))))()
    before = jax.tree.map(jnp.copy, nnx.state(network))
    rounded = jsnn.quant.aware(network)
    rounded.layers[0].layer.kernel[...] += 1
    jax.tree.map(np.testing.assert_array_equal, before, nnx.state(network))


def test_a_trained_parameter_out_of_its_range_is_projected():
    rounded = jsnn.quant.aware(with_neuron(jsnn.LIF(nnx.Param(jnp.asarray(0.9)), threshold=nnx.Param(jnp.ones(N))))())
    rounded.layers[1].neuron.decay[...] = jnp.asarray(1.2)
    rounded.layers[1].neuron.threshold[...] = -jnp.ones(N)
    check_equal(rounded, jsnn.quant.integer(rounded), spikes(50, B, N))


# Errors


def late():
    return jsnn.Recurrent(jsnn.LIF(0.9), dense(N, N), delay=2)


@pytest.mark.parametrize(
    ("make", "options", "error", "text"),
    [
        (lambda: dense(3, 3), {}, TypeError, "quant.aware takes a Neuron"),
        (lambda: jsnn.LIF(), {"weights": 9}, ValueError, "weights must have 2 to 8 bits, got 9"),
        (lambda: jsnn.LIF(), {"weights": 1}, ValueError, "weights must have 2 to 8 bits, got 1"),
        (lambda: jsnn.LIF(), {"states": 17}, ValueError, "states must have 4 to 16 bits, got 17"),
        (lambda: jsnn.LIF(), {"states": 8.5}, TypeError, "states"),
        (lambda: jsnn.LIF(), {"input_scale": 0.0}, ValueError, "input_scale must be finite and > 0, got 0.0"),
        (lambda: jsnn.LIF(), {"readout_range": -1.0}, ValueError, "readout_range must be finite and > 0, got -1.0"),
        (lambda: jsnn.quant.aware(jsnn.LIF()), {}, TypeError, "not rounded yet, got QuantizedSequential"),
        (lambda: jsnn.ALIF(), {}, TypeError, "0_ALIF|ALIF.*no integer twin.*jsnn.IF, LIF"),
        (with_neuron(jsnn.ALIF()), {}, TypeError, "layers.1 is ALIF, which has no integer twin"),
        (lambda: jsnn.Sequential(dense(3, 3), jsnn.avg_pool), {}, TypeError, "1_avg_pool has no integer twin"),
        (lambda: jsnn.Sequential(nnx.BatchNorm(3, rngs=nnx.Rngs(0))), {}, TypeError, "layers.0.* has no integer twin"),
        (lambda: jsnn.Sequential(nnx.Dropout(0.5)), {}, TypeError, "0_Dropout is Dropout, which has no integer twin"),
        (with_neuron(jsnn.LIF(reset=lambda v, s, t: v)), {}, TypeError, "reset must be 'subtract', 'zero' or 'none'"),
        (with_neuron(jsnn.LIF(surrogate=jax.nn.sigmoid)), {}, TypeError, "surrogate must be 0 below and 1 above"),
        (lambda: jsnn.Sequential(dense(3, 3), dense(3, 3)), {}, ValueError, "1_Linear is given currents"),
        (with_neuron(jsnn.Sequential(jsnn.LI(), dense(N, 3))), {}, ValueError, "1_Linear is given membranes"),
        (lambda: jsnn.Recurrent(jsnn.LIF(), dense(3, 3)), {}, ValueError, "Recurrent is given the input.*with weights"),
        (with_neuron(late()), {}, ValueError, "layers.1: a Recurrent in integers has a delay of 1 step, got 2"),
        (with_neuron(jsnn.Recurrent(jsnn.LI(), dense(N, N))), {}, TypeError, "takes IF, LIF or CuBaLIF, got LI"),
        (with_neuron(jsnn.Recurrent(jsnn.LIF(), jsnn.flatten)), {}, TypeError, "takes jsnn.Linear or jsnn.Conv, got"),
        (with_neuron(jsnn.LIF(threshold=1e-3), jsnn.LIF()), {}, ValueError, "thresholds lie too far apart"),
        (lambda: jsnn.LIF(threshold=jnp.array([1.0, jnp.inf])), {}, ValueError, "layers.0: threshold must be finite"),
        (lambda: jsnn.CuBaLIF(gain=jnp.inf), {}, ValueError, "layers.0: gain must be finite in integers, got inf"),
        (lambda: jsnn.Network(Skip()), {"input_scale": 0.1}, ValueError, "input_scale is for a Sequential"),
        (
            lambda: jsnn.Sequential(nnx.Conv(1, 1, (3, 3), padding="CIRCULAR", rngs=nnx.Rngs(0))),
            {}, ValueError, "layers.0 has the padding 'CIRCULAR'",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(make, options, error, text):
    with pytest.raises(error, match=text):
        jsnn.quant.aware(make(), **options)


def not_finite():
    rounded = jsnn.quant.aware(with_neuron(jsnn.LIF())())
    rounded.layers[0].layer.kernel[...] = jnp.full((N, N), jnp.nan)
    return rounded


def far_too_wide():
    layer = dense(600, 2, kernel_init=nnx.initializers.ones)
    return jsnn.quant.aware(jsnn.Sequential(layer, jsnn.LIF()))


def test_a_wide_layer_for_spikes_has_a_twin():
    wide = dense(600, 2, kernel_init=nnx.initializers.ones)
    rounded = jsnn.quant.aware(jsnn.Sequential(dense(N, 600), jsnn.LIF(0.9), wide, jsnn.LI(0.5)), readout_range=1e3)
    check_equal(rounded, jsnn.quant.integer(rounded), spikes(8, B, N))


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (with_neuron(jsnn.LIF()), TypeError, "quant.integer takes what jsnn.quant.aware returns, got Sequential"),
        (not_finite, ValueError, "layers.0 has parameters that are not finite"),
        (far_too_wide, ValueError, r"layers.0: its sums can reach 9677400 .*above 2\*\*23"),
    ],
)
def test_a_network_without_a_twin_is_refused(make, error, text):
    with pytest.raises(error, match=text):
        jsnn.quant.integer(make())


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda self, x: self.lif(self.linear(x) + x), "float|promot"),
        (lambda self, x: self.lif(self.linear(self.linear(x))), "put a neuron before it"),
        (lambda self, x: self.lif(x), "put a layer before it"),
        (lambda self, x: self.lif(self.linear(0.5 * x)), "float|promot"),
        (lambda self, x: self.lif(self.linear(x)).sum(-1, keepdims=True), "makes int32 of int8, as a sum"),
        (lambda self, x: self.lif((self.linear(x) > 0).sum(-1, keepdims=True)), "makes int32 of bool"),
        (lambda self, x: self.lif(1 - self.linear(x)), "adds the number 1 to currents or membranes"),
        (lambda self, x: self.lif(jnp.clip(self.linear(x), -1, 1)), "compares the number -1 with currents or mem"),
        (lambda self, x: self.lif(jnp.minimum(self.linear(x), 1)), "compares the number 1 with currents or membranes"),
        (lambda self, x: self.lif(jnp.where(x > 0, self.linear(x), 1)), "compares the number 1 with currents or mem"),
        (lambda self, x: self.lif(jnp.where(self.linear(x) > 1, self.linear(x), 0)), "compares the number 1 with curr"),
        (lambda self, x: self.lif(self.linear(x) + 2**23), "adds the number 8388608 to currents or membranes"),
        (lambda self, x: self.lif(self.linear(x) * self.linear(x)), "multiplies currents or membranes with each other"),
        (lambda self, x: self.lif(self.linear(x) ** 2), "multiplies currents or membranes with each other"),
        (lambda self, x: jsnn.LIF(0.9)(self.linear(x).astype(jnp.float32)), "LIF is not rounded, as it is made inside"),
        (lambda self, x: self.linear((jnp.tile(x, 7) @ jnp.tile(x, 7).T) @ x), "sums 140 products in int8"),
        (lambda self, x: self.lif(self.linear(sum([x] * 130))), "adds up to 128 spikes in int8, which holds 127"),
        (lambda self, x: self.lif(self.linear(x) // 2), "takes (div|floor|sign|rem) of currents or membranes"),
        (lambda self, x: self.lif(self.linear(x) % 2), "takes rem of currents or membranes"),
        (lambda self, x: self.lif(jnp.sign(self.linear(x))), "takes sign of currents or membranes"),
        (lambda self, x: self.lif(jnp.cumprod(self.linear(x), -1)), "takes cumprod of currents or membranes"),
        (lambda self, x: self.lif(self.linear(x) @ self.linear(x).T @ self.linear(x)), "multiplies currents or membr"),
        (lambda self, x: self.lif(self.linear(x) + jnp.ones_like(self.linear(x))), "adds the number 1 to currents"),
        (lambda self, x: self.lif(self.linear(x) - jnp.arange(N, dtype=self.linear(x).dtype)), "adds the number 19 to"),
        (lambda self, x: self.lif(jnp.maximum(self.linear(x), jnp.ones_like(self.linear(x)))), "compares the number 1"),
    ],
)
def test_sums_of_unlike_units_are_refused(function, text):
    rounded = jsnn.quant.aware(jsnn.Network(type("Odd", (Skip,), {"__call__": function})()))
    with pytest.raises((TypeError, ValueError), match=text):
        jsnn.unroll(jsnn.quant.integer(rounded), spikes(4, B, N))


def test_a_neuron_that_is_made_inside_of_a_function_is_refused_when_it_would_not_be_rounded():
    network = jsnn.Network(type("Odd", (Skip,), {"__call__": lambda self, x: jsnn.LIF(0.9)(self.linear(x))})())
    with pytest.raises(TypeError, match=r"^0_LIF|LIF.* is not rounded, as it is made inside the function"):
        jsnn.unroll(jsnn.quant.aware(network), spikes(4, B, N))


def convolution(padding="SAME"):
    return jsnn.Sequential(nnx.Conv(3, 2, (3, 3), strides=2, padding=padding, rngs=nnx.Rngs(0)), jsnn.LIF(0.9))


@pytest.mark.parametrize("shape", [(4, 4, 3), (2, 1, 4, 4, 3)])
def test_images_of_other_axes_are_refused(shape):
    rounded = jsnn.quant.aware(convolution())
    for network in rounded, jsnn.quant.integer(rounded):
        with pytest.raises(ValueError, match=r"0_Conv .*takes \[B, \*space, C\] at each time step, 4 axes, got shape"):
            jsnn.unroll(network, spikes(2, *shape))


def test_paddings_by_their_other_names():
    x = spikes(4, 4, 4, 3)
    for name in ("same", "SAME_LOWER"):
        padding = jax.lax.padtype_to_pads((4, 4), (3, 3), (2, 2), name)
        layers = [jsnn.quant.aware(convolution(one)).layers[0] for one in (name, padding)]
        np.testing.assert_array_equal(*(layer(x) for layer in layers))


@pytest.mark.parametrize("transform", [jax.jit, jax.grad])
def test_they_are_made_outside_of_traced_functions(transform):
    def make(weight):
        layer = dense(N, N)
        layer.kernel[...] = layer.kernel[...] * weight
        jsnn.quant.aware(jsnn.Sequential(layer, jsnn.LIF()))
        return weight

    with pytest.raises(TypeError, match=r"outside of jax\.jit"):
        transform(make)(1.0)


@pytest.mark.parametrize("derivative", [jax.grad, jax.jacfwd])
@pytest.mark.parametrize("run", [jsnn.unroll, lambda network, x: network.step(network.init(x.shape[1:]), x[0])])
def test_a_twin_is_not_differentiated(derivative, run):
    twin = jsnn.quant.integer(jsnn.quant.aware(with_neuron(jsnn.LIF(0.9), jsnn.LI(0.9))()))
    x = spikes(4, B, N)
    jax.jit(lambda x: run(twin, x)[1])(x)
    with pytest.raises(TypeError, match="an integer twin has no gradient: differentiate the network"):
        derivative(lambda x: twin.real(run(twin, x)[1]).sum())(x)


# Export


def test_an_exported_twin_is_the_twin(tmp_path):
    twin = jsnn.quant.integer(jsnn.quant.aware(recurrent(jsnn.LIF(0.9))()))
    jsnn.export.save(twin, jnp.zeros((1, N)), tmp_path / "twin.jsnn", platforms=["cpu"])
    loaded, x = jsnn.export.load(tmp_path / "twin.jsnn"), spikes(20, B, N)
    state, (_, expected) = loaded.init(batch_size=B), jsnn.unroll(twin, x)
    for current, y in zip(x, expected):
        state, output = loaded.step(state, current)
        np.testing.assert_array_equal(output, y)
    assert {leaf.dtype.kind for leaf in jax.tree.leaves(state)} == {"i"}


def images():
    return jsnn.Sequential(
        jsnn.Conv(2, 4, (3, 3), rngs=nnx.Rngs(0)),
        jsnn.LIF(0.9, reset="zero"),
        jsnn.flatten,
        dense(256, 5),
        jsnn.LI(0.9),
    )


@pytest.mark.rows(2)
@pytest.mark.parametrize("name", ["Recurrent CuBaLIF", "images", "CuBaLIF after", "LIF late"])
@pytest.mark.filterwarnings("ignore:NIR's neurons reset")
def test_nir_keeps_the_integers(name, tmp_path):
    nir = pytest.importorskip("nir")
    make, shape = NETWORKS.get(name, (images, (8, 8, 2)))
    rounded = jsnn.quant.aware(make(), weights=5, states=12)
    graph = jsnn.nir.to_nir(rounded, shape, dt=1e-3)
    nir.write(tmp_path / "rounded.nir", graph)
    read = jsnn.nir.from_nir(tmp_path / "rounded.nir", dt=1e-3)
    x = spikes(20, B, *shape)
    np.testing.assert_array_equal(*(run(jsnn.quant.integer(network), x)[1] for network in (rounded, read)))
    np.testing.assert_array_equal(*(run(network, x)[1] for network in (rounded, read)))
    node = graph.nodes[make().names[0]]
    whole = np.moveaxis(node.weight, 0, -1) / node.metadata["jsnn"]["scale"]
    assert abs(whole).max() <= 15
    np.testing.assert_allclose(whole, np.round(whole), atol=1e-5)


# Energy


@pytest.mark.slow
def test_energy_is_counted_in_the_bit_widths():
    layers = dense(4, 3, kernel_init=nnx.initializers.ones), jsnn.LIF(0.9), dense(3, 2), jsnn.LI(0.9)
    network = jsnn.Sequential(*layers)
    rounded = jsnn.quant.aware(network)
    x = jnp.zeros((10, 1, 4)).at[2, 0, 1].set(1.0)  # three neurons fire, each once
    pairs = (network, 1e-12), (rounded, 1e-12), (jsnn.quant.integer(rounded), 0.1e-12 / 0.9)
    for one, addition in pairs:
        operations = jsnn.energy.count(one, x)
        assert operations.effective_acs + operations.effective_macs == 3.0
        assert jsnn.energy.arithmetic(operations) == pytest.approx(3 * 0.9 * addition)
    many = jnp.full((1, 1, 4), 5.0).at[0, 0, 0].set(3.0)
    counted = [jsnn.energy.count(one, many) for one, _ in pairs]
    macs = [jsnn.energy.arithmetic(one._replace(synapses=one.synapses[:1])) for one in counted]
    assert macs == pytest.approx([12 * 4.6e-12, 12 * 4.6e-12, 12 * 0.3e-12])
    row = operations.synapses[0]._replace(dtype="float64")
    with pytest.raises(ValueError, match="in float64 is not known: known are float32, float16, int8"):
        jsnn.energy.arithmetic(operations._replace(synapses=[row]))
    with pytest.raises(TypeError, match=r"what jsnn\.energy\.count returns, got Sequential"):
        jsnn.energy.arithmetic(network)
