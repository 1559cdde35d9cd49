"""`convert`: nengo_dl's Converter step by step, its options, and what it refuses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden import close

import jsnn

T = 30
GOLDEN = {  # the file's name: scale_firing_rates, synapse
    "noswap_rate_syn5ms": (20, 5e-3),
    "sfr20_syn5ms_v0random": (20, 5e-3),
    "sfr20_syn5ms_v0zero": (20, 5e-3),
    "sfr20_syn5ms_v0zero_max2avg": (20, 5e-3),
    "sfr20_syn5ms_v0zero_valid": (20, 5e-3),
    "sfr20_synNone_v0zero": (20, None),
    "sfrNone_syn5ms_v0zero": (None, 5e-3),
    "sfrNone_synNone_v0zero": (None, None),
}


def keras_network(g, padding="SAME", first_pool=jsnn.avg_pool):
    """The network whose weights the golden vectors hold."""
    weights = [jnp.asarray(g[f"W{index}"]) for index in range(8)]

    def convolve(x, kernel, padding):
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def network(x):
        x = first_pool(jax.nn.relu(convolve(x, weights[0], "SAME") + weights[1]))
        x = jsnn.avg_pool(jax.nn.relu(convolve(x, weights[2], padding) + weights[3]))
        x = jax.nn.relu(x.reshape(x.shape[0], -1) @ weights[4] + weights[5])
        return jax.nn.softmax(x @ weights[6] + weights[7])

    return network


@pytest.mark.rows(1)
@pytest.mark.parametrize(("case", "options"), GOLDEN.items(), ids=GOLDEN)
@pytest.mark.filterwarnings("ignore:softmax is kept")
def test_nengo_dl_converter(parity, case, options):
    g = parity(f"nengo_dl_Converter__{case}")
    scale, synapse = options
    pool = jsnn.max_pool if "max2avg" in case else jsnn.avg_pool  # which max_to_avg_pool exchanges
    x, model = jnp.asarray(g["x"]), keras_network(g, "VALID" if "valid" in case else "SAME", pool)
    swap = {jax.nn.relu: jax.nn.relu} if "noswap" in case else None
    swap = {jax.nn.relu: jsnn.SpikingActivation(), jsnn.max_pool: jsnn.avg_pool} if "max2avg" in case else swap
    shapes = [g[f"ann_{name}"].shape[1:] for name in ("c1", "c2", "d")]
    network = jsnn.convert(
        model,
        x,
        swap=swap,
        scale_firing_rates=scale,
        synapse=synapse,
        v_init=[g[f"v0_{n}"].reshape(s) for n, s in zip(("c1", "c2", "d"), shapes)] if "random" in case else None,
    )
    close(jax.jit(network.rates)(x)[1], g["ann_out"])

    records = jax.jit(lambda x: jsnn.record(network, x, num_steps=T, keep=["outputs"]))(x)
    np.testing.assert_allclose(records["output"].outputs.swapaxes(0, 1), g["out"], rtol=1e-5, atol=1e-5)
    for name, key in (("0_relu", "spk_c1"), ("1_relu", "spk_c2"), ("2_relu", "spk_d")):
        spikes = records[name].outputs.swapaxes(0, 1).reshape(g[key].shape)
        if "noswap" in case:
            close(spikes, g[key])
        else:
            late = np.round((spikes - g[key]) * (scale or 1) / 1e3)  # in spikes
            assert np.abs(np.cumsum(late, 1)).max() <= 1  # a tie, one in 20,000, that float32 decides otherwise
            assert (late != 0).mean() < 1e-4
            np.testing.assert_allclose(spikes - late * 1e3 / (scale or 1), g[key], rtol=1e-5, atol=1e-3)
    if synapse is not None:  # the synapse stands behind the first pooling
        pooled = records["0_relu/synapse"].outputs
        far = np.abs(pooled.reshape(T, len(x), -1).swapaxes(0, 1) - g["pool1"]) > 1e-4 + 1e-4 * np.abs(g["pool1"])
        assert far.mean() < 3e-4


W1, W2 = (jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32) for shape in ((4, 5), (5, 3)))
X = jnp.asarray(np.random.default_rng(1).normal(size=(6, 4)), jnp.float32)


def model(x):
    return jax.nn.relu(jax.nn.relu(x @ W1) @ W2)


def mixed(x):
    return jax.nn.sigmoid(jax.nn.relu(x @ W1) @ W2)


def swapping(*activations):
    return {activation: jsnn.SpikingActivation(activation) for activation in activations}


def convert(function=model, **options):
    return jsnn.convert(function, X, **options)


@functools.partial(jax.jit, static_argnames="steps")
def outputs(network, steps=4):
    return jsnn.unroll(network, X, num_steps=steps)[1]


@functools.partial(jax.jit, static_argnames="steps")
def spikes_of_the_first(network, steps):
    return jsnn.record(network, X, num_steps=steps)["0_relu"].outputs


def scales(network):
    return [neuron.scale for neuron in network.neurons]


def test_default_neuron():
    (first, second) = convert(dt=0.5).neurons
    assert first.neuron == second.neuron == jsnn.SpikingActivation(dt=0.5)
    assert (first.scale, first.bias, first.v_init) == (1.0, 0.0, None)


def test_each_activation_gets_its_own_neuron():
    swap = {jax.nn.relu: jsnn.IF(), jax.nn.sigmoid: jsnn.SpikingActivation(jax.nn.sigmoid, dt=7.0)}
    network = convert(mixed, swap=swap, dt=0.25)
    assert network.names == ("0_relu", "1_sigmoid")
    assert [neuron.neuron for neuron in network.neurons] == [jsnn.IF(), jsnn.SpikingActivation(jax.nn.sigmoid, 0.25)]


def test_another_activation_may_take_the_place():
    network = convert(mixed, swap={jax.nn.sigmoid: jnp.tanh, jax.nn.relu: jax.nn.relu})
    np.testing.assert_allclose(outputs(network, 1)[0], jnp.tanh(jax.nn.relu(X @ W1) @ W2), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(network.rates(X)[1], mixed(X), rtol=1e-5)
    assert [network.neurons[index].neuron for index in (0, 1)] == [jsnn.Rate(jax.nn.relu), jsnn.Rate(jnp.tanh)]


def test_only_what_is_named_is_swapped():
    network = convert(mixed, swap=swapping(jax.nn.sigmoid))
    assert (network.names, network.kept) == (("0_sigmoid",), ("relu",))


def test_a_function_of_ones_own():
    leaky = functools.partial(jax.nn.leaky_relu, negative_slope=0.2)
    network = convert(lambda x: leaky(x @ W1), swap=swapping(leaky), scale_firing_rates=10, dt=1.0)
    assert network.names == ("0_leaky_relu",)
    np.testing.assert_allclose(outputs(network, 50).mean(0), leaky(X @ W1), atol=1 / 500 + 1e-5)


def test_scale_by_a_number():
    plain, scaled = convert(dt=0.1), convert(dt=0.1, scale_firing_rates=8)
    assert scales(scaled) == [8.0, 8.0]
    assert scales(convert(scale_firing_rates=np.float32(8))) == [8.0, 8.0]
    spikes = np.asarray(spikes_of_the_first(scaled, 4))
    np.testing.assert_allclose(spikes * 0.8, np.round(spikes * 0.8), atol=1e-5)  # 1 / (0.1 * 8) high
    np.testing.assert_allclose(scaled.rates(X)[1], plain.rates(X)[1])
    far = [np.abs(np.mean(outputs(network), 0) - model(X)).mean() for network in (scaled, plain)]
    assert far[0] < far[1]


def test_scale_by_one_for_each():
    per_channel = jnp.array([1.0, 2.0, 4.0])
    network = convert(scale_firing_rates=[None, per_channel])
    assert scales(network)[0] == 1.0
    assert scales(network)[1] is per_channel
    assert scales(convert(scale_firing_rates=(3, 1))) == [3, 1]
    assert [float(scale) for scale in scales(convert(scale_firing_rates=np.array([3.0, 2.0])))] == [3.0, 2.0]


def test_scale_from_data():
    network = convert(scale_firing_rates="auto", dt=0.1)
    hidden = np.maximum(X @ W1, 0)
    expected = [10 / np.percentile(values, 99.9) for values in (hidden, np.maximum(hidden @ W2, 0))]
    np.testing.assert_allclose(scales(network), expected, rtol=1e-5)
    spikes = np.asarray(spikes_of_the_first(network, 20)) * scales(network)[0] * 0.1
    assert 0.98 < spikes.mean(0).max() < 1.02
    silent = jsnn.convert(lambda x: jax.nn.relu(-jnp.abs(x)), X, scale_firing_rates="auto", dt=0.5)
    assert scales(silent) == [2.0]  # of nothing
    leaky = jsnn.convert(
        lambda x: jax.nn.leaky_relu(-jnp.abs(x)),
        X,
        swap=swapping(jax.nn.leaky_relu),
        scale_firing_rates="auto",
    )
    assert scales(leaky)[0] > 0


def test_only_what_is_homogeneous_is_scaled():
    swap = swapping(jax.nn.relu, jax.nn.sigmoid)
    with pytest.warns(UserWarning, match=r"scale_firing_rates=20 leaves out 1_sigmoid: not positively homogeneous"):
        network = convert(mixed, swap=swap, scale_firing_rates=20)
    assert scales(network) == [20.0, 1.0]
    with pytest.warns(UserWarning, match=r"scale_firing_rates=auto leaves out 1_sigmoid"):
        network = convert(mixed, swap=swap, scale_firing_rates="auto")
    assert scales(network)[1] == 1.0
    assert scales(convert(mixed, swap=swap, scale_firing_rates=[20, None])) == [20, 1.0]
    assert scales(convert(mixed, swap=swap, scale_firing_rates=[20, 1])) == [20, 1]
    assert scales(convert(mixed, swap=swapping(jax.nn.sigmoid), scale_firing_rates=1)) == [1.0]


def test_synapse():
    assert list(convert(synapse=None).synapses) == [None, None]
    assert convert(synapse=0.2, dt=0.1).synapses[1] == jsnn.filters.Lowpass(0.2, 0.1, delay=True)
    network = convert(synapse=jsnn.filters.Alpha(0.2, dt=5.0), dt=0.1)
    assert network.synapses[0] == network.synapses[1] == jsnn.filters.Alpha(0.2, 0.1)
    np.testing.assert_array_equal(outputs(convert(synapse=0))[:2], 0)  # one step later for each
    np.testing.assert_array_equal(outputs(convert(synapse=0), 6)[1], 0)


def test_initial_membrane():
    assert convert().init(X.shape)[0][0].v.tolist() == np.zeros((6, 5)).tolist()
    states = convert(v_init=0.5).init(X.shape)
    assert [float(neuron.v.min()) for neuron, _ in states] == [0.5, 0.5]
    states = convert(swap={jax.nn.relu: jsnn.IF(threshold=3.0)}, v_init=0.5).init(X.shape)
    assert [float(neuron.v.max()) for neuron, _ in states] == [1.5, 1.5]

    (first, _), (second, _) = convert(v_init=jax.random.key(0)).init(X.shape)
    assert 0 <= first.v.min() < 0.2 < 0.8 < first.v.max() < 1
    assert not np.allclose(first.v[:, :3], second.v)
    np.testing.assert_array_equal(convert(v_init=jax.random.key(0)).init(X.shape)[1][0].v, second.v)

    each = [np.linspace(0, 1, 5, dtype=np.float32), None]
    (first, _), (second, _) = convert(v_init=each).init(X.shape)
    np.testing.assert_array_equal(first.v, np.tile(each[0], (6, 1)))
    assert not second.v.any()
    keep = convert(swap={jax.nn.relu: jsnn.SpikingActivation(v_init=0.25)})
    assert float(keep.init(X.shape)[0][0].v.max()) == 0.25


POISSON = jsnn.PoissonSpiking(jax.random.key(0), jax.nn.relu)
SIGMOID = {"function": jax.nn.sigmoid, "swap": swapping(jax.nn.sigmoid)}
MIXED = {"function": mixed, "swap": swapping(jax.nn.relu, jax.nn.sigmoid)}
REFUSED = [
    ({"dt": 0}, ValueError, "dt must be > 0 and finite, got 0"),
    ({"dt": -1e-3}, ValueError, "dt must be > 0 and finite, got -0.001"),
    ({"dt": float("nan")}, ValueError, "dt must be > 0 and finite, got nan"),
    ({"scale_firing_rates": 0}, ValueError, "scale_firing_rates must be > 0 and finite, got 0"),
    ({"scale_firing_rates": -20.0}, ValueError, "scale_firing_rates must be > 0 and finite, got -20.0"),
    ({"scale_firing_rates": float("nan")}, ValueError, "scale_firing_rates must be > 0 and finite, got nan"),
    ({"scale_firing_rates": [1, -2]}, ValueError, "the scale of 1_relu must be > 0 and finite, got -2"),
    ({"scale_firing_rates": [jnp.array([1.0, 0, 1, 1, 1]), 1]}, ValueError, "the scale of 0_relu must be > 0"),
    (
        {"scale_firing_rates": [1, 2, 3]},
        ValueError,
        "must be one number, or 2 of them, one for each of 0_relu, 1_relu; got 3",
    ),
    ({"scale_firing_rates": "automatic"}, ValueError, "a number, one for each activation, or 'auto', got 'automatic'"),
    ({**SIGMOID, "scale_firing_rates": 20}, ValueError, r"none of its activations \(0_sigmoid\) is positively homog"),
    ({**SIGMOID, "scale_firing_rates": "auto"}, ValueError, r"none of its activations \(0_sigmoid\) is positively"),
    ({**MIXED, "scale_firing_rates": [20, 20]}, ValueError, "1_sigmoid cannot be scaled by 20: a sigmoid of a times x"),
    ({"synapse": -5e-3}, ValueError, "synapse must be a time constant >= 0 in s, a filter or None, got -0.005"),
    ({"synapse": float("nan")}, ValueError, "synapse must be a time constant >= 0 .* got nan"),
    ({"synapse": jsnn.filters.Lowpass}, TypeError, r"got the class Lowpass: make one, Lowpass\(...\)"),
    ({"v_init": "random"}, ValueError, r"got 'random': for membranes that start at random, v_init=jax.random.key\(0\)"),
    ({"v_init": [0.5]}, ValueError, "v_init must be one value or 2, for 0_relu, 1_relu; got 1"),
    ({"v_init": jnp.zeros(7)}, ValueError, r"v_init of shape \(7,\) does not fit neurons \(6, 5\)"),
    ({"v_init": 0.5, "swap": {jax.nn.relu: jax.nn.relu}}, ValueError, "v_init needs a neuron with a membrane.* Rate"),
    ({"v_init": 0.5, "swap": {jax.nn.relu: POISSON}}, ValueError, "PoissonSpiking: give one value for each"),
    ({"v_init": jax.random.PRNGKey(0)}, TypeError, "make keys with jax.random.key, not with jax.random.PRNGKey"),
    ({"swap": jax.nn.relu}, TypeError, "swap must map activations to neurons"),
    ({"swap": {}}, TypeError, "swap must map activations to neurons"),
    ({"synapse": True}, TypeError, "synapse must be a time constant in s, a filter or None, got bool"),
    ({"scale_firing_rates": True}, TypeError, "scale_firing_rates must be a number or an array of numbers, got True"),
    ({"swap": {jax.nn.relu: nnx.PReLU()}}, TypeError, "swap maps relu to a PReLU, a module with weights of its own"),
    ({"swap": {jax.nn.relu: 20}}, TypeError, "swap must map relu to a neuron or another activation, got 20"),
    ({"swap": {jax.nn.relu: jsnn.IF}}, TypeError, "swap must map relu to a neuron or another activation, got <class"),
    ({"swap": {"relu": jsnn.IF()}}, TypeError, "the keys of swap must be functions such as jax.nn.relu, got 'relu'"),
    ({"swap": swapping(jax.nn.relu, jax.nn.gelu)}, ValueError, "there is no gelu to swap.*activations found: relu"),
    ({"function": "model"}, TypeError, "convert takes a function or a model, got str"),
    ({"function": jsnn.Sequential}, TypeError, r"got the class Sequential: make one, Sequential\(...\)"),
]


@pytest.mark.parametrize(("options", "error", "message"), REFUSED)
def test_refused(options, error, message):
    with pytest.raises(error, match=message):
        convert(**options)


def test_what_was_not_converted_cannot_be_calibrated():
    with pytest.raises(TypeError, match=r"calibrate\(\): network must be Converted, got LIF"):
        jsnn.conversion.calibrate(jsnn.LIF(), jnp.ones((2, 3)))


def test_what_has_no_membrane_is_not_started():
    swap = {jax.nn.relu: jsnn.SpikingActivation(), jax.nn.sigmoid: jax.nn.sigmoid}
    for start in (0.5, jax.random.key(0)):
        assert [neuron.v_init for neuron in convert(mixed, swap=swap, v_init=start).neurons][1] is None
    for neuron in (jax.nn.sigmoid, POISSON):
        calibrated = jsnn.conversion.calibrate(convert(mixed, swap=swap | {jax.nn.sigmoid: neuron}), X)
        assert [neuron.v_init for neuron in calibrated.neurons] == [0.5, None]
        calibrated.init(X.shape)


@pytest.mark.rows(1)
@pytest.mark.parametrize("options", [{"per_channel": True}, {"bias_steps": 2}])
def test_calibration_does_not_take_the_batch_for_channels(options):
    network = jsnn.convert(lambda x: jax.nn.relu(x.sum(-1)), X)  # one neuron: [B]
    calibrated = jsnn.conversion.calibrate(network, X, **options)
    assert calibrated.init((len(X) + 1, 4))[0][0].v.shape == (len(X) + 1,)
    assert jsnn.unroll(calibrated, X[:1], num_steps=2)[1].shape == (2, 1)


def test_calibration_draws_the_membranes_of_each_activation_anew():
    square = jsnn.convert(lambda x: jax.nn.relu(jax.nn.relu(x)), X)
    (first, _), (second, _) = jsnn.conversion.calibrate(square, X, v_init=jax.random.key(0)).init(X.shape)
    assert not np.allclose(first.v, second.v)


CALIBRATION = [
    ({"data": X[:0]}, ValueError, r"there must be calibration data, got an array of shape \(0, 4\)"),
    ({"percentile": "99"}, TypeError, r"calibrate\(\): percentile must be a number, got '99'"),
    ({"spikes_per_step": float("inf")}, ValueError, "spikes_per_step must be > 0 and finite, got inf"),
    ({"bias_steps": 0}, ValueError, "bias_steps must be >= 1 or None, got 0"),
    ({"bias_steps": 2.5}, TypeError, r"calibrate\(\): bias_steps must be an integer, got 2.5"),
    ({"v_init": jnp.zeros(7)}, ValueError, r"v_init of shape \(7,\) does not fit neurons \(6, 5\)"),
]


@pytest.mark.parametrize(("options", "error", "message"), CALIBRATION)
def test_calibration_refuses(options, error, message):
    with pytest.raises(error, match=message):
        jsnn.conversion.calibrate(convert(), **{"data": X} | options)


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf, -jnp.inf])
def test_data_that_are_not_finite(value):
    with pytest.raises(ValueError, match="the calibration data must be finite"):
        jsnn.convert(jax.nn.relu, X.at[0, 0].set(value), scale_firing_rates="auto")


def test_weights_that_are_not_finite():
    with pytest.raises(
        ValueError, match="the calibration data make 0_relu infinite or NaN: check them and the weights"
    ):
        jsnn.convert(lambda x: jax.nn.relu(x * jnp.inf), jnp.abs(X) + 1, scale_firing_rates="auto")


@pytest.mark.parametrize("example", [(X, X), [X, X], {"x": X}, {"x": 1.0}], ids=["tuple", "list", "dict", "numbers"])
def test_one_input(example):
    with pytest.raises(TypeError, match=rf"one input, .* got a {type(example).__name__} of {len(example)}"):
        jsnn.convert(model, example)


def test_an_example_without_values():
    with pytest.raises(TypeError, match=r"must have values, got ShapeDtypeStruct.*: give jnp.zeros\(\(2, 4\)\)"):
        jsnn.convert(model, jax.ShapeDtypeStruct((2, 4), jnp.float32))


def test_scales_from_data_need_values():
    with pytest.raises(TypeError, match=r"the calibration data must have values.* outside jax.jit"):
        jax.jit(lambda x: jsnn.convert(model, x, scale_firing_rates="auto").rates(x)[1])(X)


def test_examples():
    assert jsnn.convert(model, np.asarray(X).tolist()).names == ("0_relu", "1_relu")
    assert jsnn.convert(model, X.astype(jnp.bfloat16)).names == ("0_relu", "1_relu")
    with pytest.raises(ValueError, match=r"the example must be floating point, got int32: convert it, x.astype"):
        jsnn.convert(model, jnp.ones((2, 4), int))
    with pytest.raises(ValueError, match=r"cannot take an input of shape \(2, 3\)"):
        jsnn.convert(model, X[:2, :3])
