"""record: every layer's states and outputs, or what is asked for of them."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jsnn

T, B = 6, 3


def drawn(key, shape, dtype, *_):
    """An initialiser that takes less time to compile than JAX's."""
    return jnp.asarray(np.random.default_rng(0).normal(0, shape[-2] ** -0.5, shape), dtype)


def linear(size_in, size_out):
    return nnx.Linear(size_in, size_out, kernel_init=drawn, rngs=nnx.Rngs(0))


def network():
    block = jsnn.Sequential(linear(4, 5), jsnn.CuBaLIF(0.9, 0.8))
    return jsnn.Sequential(jnp.abs, linear(3, 4), jsnn.LIF(0.9, threshold=0.5), block, linear(5, 2), jsnn.LI())


unroll, record = jax.jit(jsnn.unroll), jax.jit(jsnn.record)  # under jit, the layers are in alphabetical order
NAMES = ["0_abs", "1_Linear", "2_LIF", "3_Sequential/0_Linear", "3_Sequential/1_CuBaLIF", "4_Linear", "5_LI"]
INPUTS = jnp.asarray(np.random.default_rng(0).normal(0, 3, (T, B, 3)), jnp.float32)


@pytest.mark.rows(1)
@pytest.mark.parametrize("num_steps", [None, T])
def test_is_unroll_and_shows_every_layer(num_steps):
    inputs = INPUTS if num_steps is None else INPUTS[0]
    layers = jsnn.record(network(), inputs, num_steps=num_steps)
    state, outputs = jsnn.unroll(network(), inputs, num_steps=num_steps)
    assert list(layers) == NAMES
    assert [layers[name].outputs.shape for name in NAMES] == [(T, B, n) for n in (3, 4, 4, 5, 5, 2, 2)]
    assert [jax.tree.map(jnp.shape, layers[name].states) for name in NAMES] == [
        (), (), ((T, B, 4),), (), ((T, B, 5), (T, B, 5)), (), ((T, B, 2),)
    ]  # fmt: skip
    np.testing.assert_array_equal(layers["5_LI"].outputs, outputs)
    np.testing.assert_array_equal(layers["5_LI"].states.v[-1], state[5].v)
    np.testing.assert_array_equal(layers["3_Sequential/1_CuBaLIF"].states.i[-1], state[3][1].i)
    np.testing.assert_allclose(layers["0_abs"].outputs, np.broadcast_to(abs(inputs), INPUTS.shape))
    spikes = layers["2_LIF"].outputs
    assert set(np.unique(spikes)) == {0.0, 1.0}
    # what one layer puts out is what the next takes in
    np.testing.assert_allclose(
        layers["3_Sequential/0_Linear"].outputs, network().layers[3].layers[0](spikes), rtol=1e-5, atol=1e-6
    )


def test_goes_on_from_a_state():
    state, _ = unroll(network(), INPUTS[:2])
    rest, whole = record(network(), INPUTS[2:], state), record(network(), INPUTS)
    for name in NAMES:
        np.testing.assert_allclose(rest[name].outputs, whole[name].outputs[2:], rtol=1e-5, atol=1e-5)


def test_goes_on_from_a_state_of_eventprop():
    net = jsnn.Sequential(linear(3, 4), jsnn.CuBaLIF(0.9, 0.8), jsnn.CuBaLI(0.9, 0.8))
    state, _ = jsnn.unroll(net, INPUTS, gradient="eventprop")
    layers = jsnn.record(net, INPUTS, state, keep=["outputs"])
    np.testing.assert_array_equal(layers["2_CuBaLI"].outputs, jsnn.unroll(net, INPUTS, state)[1])


def test_of_a_neuron_alone():
    layers = jsnn.record(jsnn.LIF(0.5), jnp.full((3, 1), 0.75))
    assert list(layers) == ["LIF"]
    assert layers["LIF"].states.v[:, 0].tolist() == [0.75, 0.125, 0.8125]
    assert layers["LIF"].outputs[:, 0].tolist() == [0.0, 1.0, 0.0]
    (name, recurrent), = jsnn.record(jsnn.Recurrent(jsnn.LIF(), linear(3, 3)), INPUTS).items()  # fmt: skip
    assert name == "Recurrent"
    np.testing.assert_array_equal(recurrent.states.outputs, recurrent.outputs)


def test_of_a_neuron_of_several_inputs():
    plastic = jsnn.Plastic(jnp.ones((3, 2)), jsnn.plasticity.STDP())
    given = {"input": INPUTS, "post": INPUTS[..., :2]}
    layer = jsnn.record(plastic, given)["Plastic"]
    np.testing.assert_allclose(layer.states.weights[-1], jsnn.unroll(plastic, given)[0].weights, rtol=1e-5)


@pytest.mark.parametrize("delay", [1, 3])
@pytest.mark.parametrize("options", [{}, {"every": 2}, {"keep": ["outputs"]}, {"neurons": [1]}], ids=str)
def test_a_network_in_a_recurrence_is_shown(delay, options):
    inner = jsnn.Sequential(linear(3, 3), ("lif", jsnn.LIF(0.5)))
    network = jsnn.Sequential(linear(3, 3), rec=jsnn.Recurrent(inner, linear(3, 3), delay=delay))
    shown = jsnn.record(network, 3 * INPUTS, **options)
    assert list(shown) == ["0_Linear", "rec", "rec/neuron/0_Linear", "rec/neuron/lif"]
    state, outputs = network.init(INPUTS.shape[1:]), []
    for t, x in enumerate(3 * INPUTS):
        state, y = network.step(state, x)
        outputs.append(y)
        if not options:
            np.testing.assert_allclose(shown["rec/neuron/lif"].states.v[t], state[1].neuron[1].v, atol=1e-5)
    found, expected = shown["rec/neuron/lif"].outputs, jnp.stack(outputs)[:: options.get("every", 1)]
    np.testing.assert_array_equal(found, expected[..., options.get("neurons", slice(None))])
    np.testing.assert_array_equal(found, shown["rec"].outputs)
    assert 0 < found.mean() < 1


def test_a_network_in_two_recurrences_is_shown():
    network = jsnn.Recurrent(jsnn.Recurrent(jsnn.Sequential(jsnn.LIF(0.5)), linear(3, 3)), linear(3, 3))
    shown = jsnn.record(network, 3 * INPUTS)
    assert list(shown) == ["Recurrent", "Recurrent/neuron", "Recurrent/neuron/neuron/0_LIF"]
    v = jsnn.unroll(network, 3 * INPUTS)[0].neuron.neuron[0].v
    np.testing.assert_allclose(shown["Recurrent/neuron/neuron/0_LIF"].states.v[-1], v, atol=1e-5)
    alone = jsnn.Recurrent(jsnn.Recurrent(jsnn.LIF(0.5), linear(3, 3)), linear(3, 3))
    assert list(jsnn.record(alone, INPUTS)) == ["Recurrent"]


def test_of_a_recurrence_alone_nothing_inside_is_computed(monkeypatch):
    network = jsnn.Sequential(rec=jsnn.Recurrent(jsnn.Sequential(jsnn.LIF(0.5)), linear(3, 3)))
    assert list(jsnn.record(network, INPUTS, keep={"rec/neuron/0_LIF": ["v"]})) == ["rec/neuron/0_LIF"]
    monkeypatch.setattr(jsnn.Recurrent, "inside", lambda *_: pytest.fail("it was"))
    assert list(jsnn.record(network, INPUTS, keep={"rec": ["outputs"]})) == ["rec"]


def test_refuses_what_unroll_refuses():
    with pytest.raises(TypeError, match="unroll takes a Neuron"):
        jsnn.record(linear(3, 3), INPUTS)
    with pytest.raises(ValueError, match="num_steps must be >= 1, got 0"):
        jsnn.record(network(), INPUTS, num_steps=0)


def test_keep_says_what_of_all_layers():
    whole = record(network(), INPUTS)
    layers = jsnn.record(network(), INPUTS, keep=["v"])
    assert list(layers) == ["2_LIF", "3_Sequential/1_CuBaLIF", "5_LI"]
    for name, layer in layers.items():
        np.testing.assert_array_equal(layer.states.v, whole[name].states.v)
        assert layer.outputs == ()
    assert layers["3_Sequential/1_CuBaLIF"].states.i is None
    outputs = jsnn.record(network(), INPUTS, keep=["outputs"])
    assert list(outputs) == NAMES
    assert outputs["2_LIF"].states == ()


def test_keep_says_what_of_each_layer():
    layers = jsnn.record(
        network(), INPUTS, keep={"3_Sequential/1_CuBaLIF": ["i", "outputs"], "5_LI": ["v"], "2_LIF": []}
    )
    assert list(layers) == ["3_Sequential/1_CuBaLIF", "5_LI"]
    assert jax.tree.map(jnp.shape, layers["3_Sequential/1_CuBaLIF"].states.i) == (T, B, 5)
    assert layers["3_Sequential/1_CuBaLIF"].states.v is None
    assert layers["3_Sequential/1_CuBaLIF"].outputs.shape == (T, B, 5)
    assert layers["5_LI"].outputs == ()


def test_keep_finds_what_a_state_holds_inside():
    neuron = jsnn.Recurrent(jsnn.LIF(0.9), linear(3, 3))
    (layer,) = jsnn.record(neuron, INPUTS, keep=["v"]).values()
    assert layer.states.neuron.v.shape == (T, B, 3)
    assert layer.states.outputs is None


@pytest.mark.parametrize("options", [{}, {"every": 2}, {"every": 9}, {"neurons": 1}], ids=str)
def test_layers_come_in_the_order_in_which_they_run(options):
    chain = jsnn.Sequential(*[jsnn.LIF(0.5)] * 11)
    assert list(jsnn.record(chain, INPUTS, keep=["outputs"], **options)) == [f"{index}_LIF" for index in range(11)]


@pytest.mark.rows(1)
@pytest.mark.parametrize(
    ("num_steps", "every", "neurons", "chosen"),
    [
        (None, 1, 2, [0, 3]),
        (None, 2, None, slice(None)),
        (None, 4, [3, 0], [3, 0]),
        (T, 1, [3, 0], [3, 0]),
        (T, 2, 2, [0, 3]),
        (T, 7, None, slice(None)),
    ],
)
def test_every_so_many_steps_and_some_neurons(num_steps, every, neurons, chosen):
    inputs = INPUTS if num_steps is None else INPUTS[0]
    whole = jsnn.record(network(), inputs, num_steps=num_steps)
    layers = jsnn.record(
        network(), inputs, num_steps=num_steps, every=every, neurons=neurons, keep={"2_LIF": ["v", "outputs"]}
    )
    assert list(layers) == ["2_LIF"]
    np.testing.assert_allclose(layers["2_LIF"].outputs, whole["2_LIF"].outputs[::every][..., chosen], atol=1e-6)
    np.testing.assert_allclose(layers["2_LIF"].states.v, whole["2_LIF"].states.v[::every][..., chosen], atol=1e-6)


def test_neurons_of_a_convolutional_layer_are_flat():
    conv = nnx.Conv(1, 4, (3, 3), kernel_init=drawn, rngs=nnx.Rngs(0))
    images = jnp.asarray(np.random.default_rng(0).normal(0, 3, (B, 5, 5, 1)), jnp.float32)
    layers = jsnn.record(jsnn.Sequential(conv, jsnn.LIF(0.9)), images, num_steps=T, neurons=[7, 99])
    whole = jsnn.record(jsnn.Sequential(conv, jsnn.LIF(0.9)), images, num_steps=T)["1_LIF"]
    np.testing.assert_allclose(layers["1_LIF"].states.v, whole.states.v.reshape(T, B, -1)[..., [7, 99]], atol=1e-6)


class Readout(nnx.Module):
    """A neuron that is called as the network's output is, and a value called as a neuron."""

    def __init__(self):
        self.output = jsnn.LI(0.5)

    def __call__(self, x):
        return jax.ad_checkpoint.checkpoint_name(3 * self.output(x), "output")


@pytest.mark.parametrize("options", [{}, {"neurons": [2]}, {"neurons": 2, "every": 2}])
def test_a_vector_without_a_batch_gives_what_a_batch_of_one_does(options):
    """It runs step by step, the batch layer by layer."""
    single, batch = (jsnn.record(jsnn.Network(Readout()), x, **options) for x in (INPUTS[:, 0], INPUTS[:, :1]))
    assert list(single) == list(batch) == ["output", "output:2", "output:3"]
    assert jax.tree.structure(single) == jax.tree.structure(batch)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y[:, 0], atol=1e-6), single, batch)


def test_some_neurons_of_an_empty_batch():
    assert jsnn.record(network(), INPUTS[:, :0], neurons=2)["2_LIF"].states.v.shape == (T, 0, 2)


def test_keys_in_a_state_are_left_whole():
    layers = jsnn.record(jsnn.StochasticSpiking(jax.random.key(0)), INPUTS, neurons=1)
    (layer,) = layers.values()
    assert layer.outputs.shape == (T, B, 1)


def test_what_is_left_out_takes_no_memory():
    """No array of all neurons for all steps is left in the compiled program."""
    wide = jsnn.Sequential(lambda x: jnp.repeat(x, 1000, axis=-1), jsnn.LIF(0.9))
    few = jax.jit(lambda x: jsnn.record(wide, x, num_steps=100, neurons=5, keep=["v"])["1_LIF"].states.v)
    memory = few.lower(INPUTS[0]).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 100 * B * 3000 * 4 / 10


BAD = {
    "a field that none has": (
        dict(keep=["v", "u", "voltage"]),
        "keep names u, voltage, but the layers have .*outputs, v",
    ),
    "a layer that is not there": (
        dict(keep={"1_LIF": ["v"]}),
        "keep names '1_LIF', but the layers are 0_abs, 1_Linear",
    ),
    "a field that it does not have": (dict(keep={"2_LIF": ["i"]}), "keep names i, but 2_LIF have outputs, v"),
    "too few neurons": (dict(neurons=[9]), r"0_abs has 3 neurons, got neurons=\[9\]"),
    "none": (dict(neurons=0), "neurons must be a number >= 1, or the indices of at least one, got 0"),
    "no indices": (dict(neurons=[]), r"the indices of at least one, got \[\]"),
    "every": (dict(every=0), "every must be >= 1, got 0"),
}


@pytest.mark.rows(4)
@pytest.mark.parametrize(("options", "message"), BAD.values(), ids=BAD)
def test_what_is_not_there_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        jsnn.record(network(), INPUTS, **options)


def test_keep_takes_names_and_not_one_string():
    for keep in ("v", {"1_LIF": "v"}):
        with pytest.raises(TypeError, match="got the one string 'v'"):
            jsnn.record(network(), INPUTS, keep=keep)


@pytest.mark.parametrize("kept", [None, 3, ["v", 3]])
def test_keep_takes_names_for_a_layer_and_nothing_else(kept):
    with pytest.raises(TypeError, match=re.escape(f"keep of '2_LIF', such as ('v',), got {kept!r}")):
        jsnn.record(network(), INPUTS, keep={"2_LIF": kept})


def test_a_method_is_passed_on():
    network = jsnn.Sequential(jsnn.LIF(), jsnn.Sequential(jsnn.LI()))
    for method, kernels in {"auto": 0, "scan": 0, "fused": 2}.items():
        record = functools.partial(jsnn.record, network, keep=["outputs"], method=method)
        assert str(jax.make_jaxpr(record)(jnp.ones((3, 2, 4)))).count("mpmd_map[") == kernels
    with pytest.raises(ValueError, match=r"record\(\): method must be 'auto', 'scan', "):
        jsnn.record(network, jnp.ones((3, 2, 4)), method="fast")


@pytest.mark.parametrize("keep", [lambda layer: {layer: ["v"]}, lambda layer: {layer}, lambda layer: [layer]])
@pytest.mark.parametrize("layer", [1, 2])
def test_keep_takes_the_names_of_layers_and_not_the_layers(keep, layer):
    made = network()
    with pytest.raises(TypeError, match=r"as '1_LIF'|layers by their names|must be a") as error:
        jsnn.record(made, INPUTS, keep=keep(made.layers[layer]))
    assert "\n" not in str(error.value)
