"""Operations counted by hand, and KerasSpiking's joules."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jsnn
from jsnn import energy

T, B = 5, 2


def linear(weights):
    weights = jnp.asarray(weights, jnp.float32)
    layer = nnx.Linear(*weights.shape, use_bias=False, rngs=nnx.Rngs(0))
    layer.kernel[...] = weights
    return layer


ONES = np.ones((3, 2))
WEIGHTS = [[1.0, 2.0, 0.0], [0.0, 0.0, 5.0]]  # a spike of the first input does 2 operations, of the second 1


def test_by_hand():
    spikes = np.zeros((T, B, 2), np.float32)
    spikes[0, 0, 0] = spikes[1, 0] = spikes[4, 1, 1] = 1  # 2 + (2 + 1) and 1 operations
    hidden = jsnn.Sequential(linear(WEIGHTS), jsnn.IF(threshold=100.0), linear(np.ones((3, 4))), jsnn.LI(0.9))
    first, second = energy.count(hidden, spikes).synapses
    assert first == energy.Synapses(
        "dense [2, 3]", 6, T, 3.0, 0.2, True, 0.2, 0.5, weights_number=6, padding=0, wired=3
    )
    assert first.dense == 30
    assert (second.effective, second.dense) == (0.0, 12 * T)
    operations = energy.count(hidden, spikes)
    assert (operations.effective_acs, operations.effective_macs, operations.dense) == (3.0, 0.0, 90)
    assert (operations.neurons, operations.steps) == (3 + 4, T)
    assert operations.activation_sparsity == pytest.approx(1 - 0.2 * 30 / 90)


def test_a_static_input_passes_the_first_weights_once():
    network = jsnn.Sequential(linear(WEIGHTS), jsnn.IF(threshold=1.0), linear(np.ones((3, 4))))
    first, second = energy.count(network, jnp.array([[2.0, 0.0]]), num_steps=T).synapses
    assert (first.steps, first.effective, first.accumulates) == (1, 2.0, False)  # 2.0 is no spike
    assert (second.steps, second.effective) == (T, 2 * 4 * T)  # currents 2, 4, 0: two neurons fire at every step


def test_values_of_many_sizes_are_multiplied():
    (row,) = energy.count(linear(np.ones((3, 2))), jnp.array([[1.0, 2.0, 0.0]])).synapses
    assert not row.accumulates
    assert row.effective == 4.0
    assert energy.count(linear(np.ones((3, 2))), jnp.array([[1.0, 2.0, 0.0]])).effective_macs == 4.0


SPIKING = jsnn.SpikingActivation(jax.nn.relu, dt=0.5)  # spikes are 2.0 high


@pytest.mark.rows(1)
@pytest.mark.parametrize(
    ("first", "x", "kinds"),
    [
        (jsnn.IF(threshold=0.5), 1.0, "AC AC"),
        (jsnn.IF(threshold=0.5), -1.0, "AC AC"),
        (jsnn.IF(threshold=0.1), 0.5, "MAC AC"),
        (SPIKING, 1.0, "AC AC"),
        (jsnn.Rate(jax.nn.relu), 0.5, "MAC MAC"),
    ],
    ids=["spikes", "negative spikes", "one value that is no spike", "high spikes of neurons", "rates"],
)
def test_what_is_a_spike(first, x, kinds):
    """NeuroBench's rule: inputs in {-1, 0, 1}; beyond it, what neurons put out may have any one size."""
    network = jsnn.Sequential(linear(np.eye(3)), first, linear(np.ones((3, 2))))
    inputs = jnp.zeros((T, B, 3)).at[:, :, 0].set(x)
    rows = energy.count(network, inputs).synapses
    assert " ".join("AC" if row.accumulates else "MAC" for row in rows) == kinds


TWO = jsnn.Network(lambda x: jsnn.LIF(0.9)(jsnn.LIF(0.9)(x)))


@pytest.mark.rows(2)
@pytest.mark.parametrize(
    ("layer", "neurons"),
    [
        (jsnn.LIF(0.9), 3), (jsnn.LI(0.9), 3), (jsnn.Rate(jax.nn.relu), 3), (jsnn.Refractory(jsnn.LIF(0.9), 2), 3),
        (jsnn.Stochastic(jsnn.LIF(0.9), jax.random.key(0)), 3), (jsnn.Delay(2), 0), (jsnn.filters.Lowpass(0.1), 0),
        (jsnn.Dropout(0.5, jax.random.key(0)), 0), (jax.nn.relu, 0),
        (jsnn.Plastic(jnp.ones((3, 3)), jsnn.plasticity.ShortTerm()), 0),
        (jsnn.Plastic(jnp.ones((3, 3)), jsnn.plasticity.ShortTerm(), jsnn.LIF(0.9)), 3),
        (jsnn.Recurrent(TWO, linear(np.ones((3, 3)))), 6),
        (jsnn.Recurrent(jsnn.Recurrent(TWO, linear(np.ones((3, 3)))), linear(np.ones((3, 3)))), 6),
    ],
    ids=["LIF", "LI", "Rate", "Refractory", "Stochastic", "Delay", "Lowpass", "Dropout", "function", "plastic synapses",
         "Plastic", "Recurrent", "two Recurrents"],
)  # fmt: skip
def test_what_is_a_neuron(layer, neurons):
    network = jsnn.Sequential(linear(WEIGHTS), layer, linear(np.ones((3, 4))), jsnn.LIF(0.9))
    assert energy.count(network, jnp.ones((T, B, 2))).neurons == neurons + 4


def test_shares_are_exact():
    operations = energy.count(linear([[1.0, 0.0, 0.0], [0.0, 0.0, 2.0], [0.0] * 3]), jnp.ones((1, 3)).at[0, 0].set(0.0))
    assert operations.connection_sparsity == 1 - 2 / 9
    assert operations.activation_sparsity == 1 - 2 / 3
    nothing = energy.count(jsnn.LIF(0.9), jnp.ones((T, B, 2)))  # no weights, and no zeros among what meets them
    assert (nothing.connection_sparsity, nothing.activation_sparsity) == (0.0, 0.0)


def test_one_number_of_a_whole_batch_counts():
    (row,) = energy.count(lambda x: x * jnp.vdot(x[0], x[0]), jnp.array([[0.0, 3.0], [1.0, 2.0]])).synapses
    assert (row.connections, row.effective) == (1, 0.5)


@pytest.mark.slow
def test_more_operations_than_an_int32_holds():
    image, conv = jnp.ones((1, 512, 512, 96)), nnx.Conv(96, 96, (1, 1), rngs=nnx.Rngs(0))
    (row,) = energy.count(conv, image).synapses
    assert row.connections == row.wired == row.effective == 512 * 512 * 96 * 96 > 2**31


def test_weights_in_front_and_no_weights_at_all():
    weights = jnp.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
    x = jnp.array([[0.5, 0.0], [0.0, 4.0]])
    (row,) = energy.count(lambda x: (weights @ x.T).T, x).synapses
    assert (row.weights, row.connections, row.nonzero_weights, row.weights_number) == ("dense [3, 2]", 6, 0.5, 6)
    assert row.effective == 3 / 2  # the first of two samples meets weights that are not 0
    attention = energy.count(lambda x: jnp.einsum("bi,bj->bij", x, x), x)
    (row,) = attention.synapses
    assert (row.weights, row.connections, row.weights_number) == ("dense two inputs", 4, 0)
    assert (row.effective, attention.connection_sparsity) == (1.0, 0.0)


def test_a_convolution_by_hand():
    conv = nnx.Conv(1, 2, (3, 3), use_bias=False, rngs=nnx.Rngs(0))
    image = jnp.zeros((B, 4, 4, 1)).at[:, 1, 1, 0].set(1.0).at[:, 0, 0, 0].set(1.0)
    (row,) = energy.count(conv, image).synapses
    assert row.connections == 4 * 4 * 9 * 2
    assert row.dense == (4 * 9 + 8 * 6 + 4 * 4) * 2  # in the middle, at edges, in corners
    assert row.effective == (9 + 4) * 2  # one in the middle, one in a corner
    assert row.weights == "convolution [3, 3, 1, 2]"


def test_a_convolution_that_chooses_its_program_by_the_platform_counts_as_any_other():
    ours, flax = (conv(8, 2, (3, 3), rngs=nnx.Rngs(0)) for conv in (jsnn.Conv, nnx.Conv))
    images = jnp.asarray(np.random.default_rng(0).integers(0, 2, (B, 4, 4, 8)), jnp.float32)
    (row,) = energy.count(ours, images).synapses
    assert row == energy.count(flax, images).synapses[0]
    assert row.connections == 4 * 4 * 9 * 8 * 2


@pytest.mark.rows(1)
@pytest.mark.parametrize("conv", [nnx.Conv, jsnn.Conv], ids=["flax", "ours"])
def test_a_convolution_of_many_channels_by_hand(conv):
    """Ours is computed in chunks on a CPU."""
    layer = conv(32, 2, (3, 3), use_bias=False, rngs=nnx.Rngs(0))
    (row,) = energy.count(layer, jnp.zeros((1, 4, 4, 32)).at[0, 1, 1, 5].set(1.0)).synapses
    assert (row.weights, row.connections) == ("convolution [3, 3, 32, 2]", 4 * 4 * 9 * 32 * 2)
    assert row.effective == 9 * 2


def test_recurrent_synapses_count_too():
    network = jsnn.Recurrent(jsnn.IF(threshold=0.5), linear(np.ones((2, 2))))
    spikes = jnp.zeros((T, 1, 2)).at[0, 0, 0].set(1.0)
    (row,) = energy.count(network, spikes).synapses
    assert row.connections == 4
    assert row.effective == 2.0 + 4.0 * (T - 2)  # one spike after the first step, two after each that follows


def test_a_cycle_of_layers_by_hand():
    layers = {"a": jsnn.IF(threshold=0.5), "w": linear(np.ones((2, 3))), "b": jsnn.IF(threshold=0.5), "v": linear(ONES)}
    edges = [("input", "a"), ("a", "w"), ("w", "b"), ("b", "v"), ("v", "a"), ("b", "output")]
    spikes = jnp.zeros((T, 1, 2)).at[0, 0, 0].set(1.0)
    operations = energy.count(jsnn.nir.Graph(layers, edges), spikes)
    assert operations.neurons == 2 + 3
    # one spike of a in the first step, two in each that follows; all of b spike at every step
    assert {row.weights: row.effective for row in operations.synapses} == {
        "dense [2, 3]": 3.0 + 6.0 * (T - 1), "dense [3, 2]": 6.0 * T
    }  # fmt: skip


def test_a_converted_network_and_its_rate_network():
    model = jsnn.models.rate_dense([2, 3, 2], rngs=nnx.Rngs(0))
    x = jnp.ones((B, 2))
    network = jsnn.convert(model, x, synapse=5e-3, scale_firing_rates=1000.0)
    spiking, rate = energy.count(network, x, num_steps=T), energy.count(model, x)
    assert [row.connections for row in spiking.synapses] == [row.connections for row in rate.synapses]
    assert (spiking.neurons, rate.neurons) == (3, 3)
    assert rate.steps == 1
    filtered = jsnn.convert(model, x, synapse=jsnn.LI(0.5))  # a neuron elsewhere
    assert energy.count(filtered, x, num_steps=T).neurons == 3


def test_it_prints():
    text = str(energy.count(jsnn.Sequential(linear(WEIGHTS), jsnn.IF()), np.ones((T, B, 2), np.float32)))
    assert "dense [2, 3]" in text
    assert text.splitlines()[-1] == "0 MACs and 15 ACs of 30 dense; 3 neurons, 5 steps"


def test_joules_of_keras_spiking(parity):
    """Its spikes are 1 / dt high, and it takes the mean input, in Hz, for the rate of events."""
    g = parity("keras_spiking_ModelEnergy")
    meta = json.loads(str(g["meta"]))
    results = meta["results"]["spiking"]
    layers = (
        (jsnn.Sequential(linear(g["W1"]), jsnn.SpikingActivation(jax.nn.relu, dt=0.01)), g["example"]),
        (jsnn.Sequential(linear(g["W2"])), g["spikes"]),  # theirs, from initial voltages that they drew
    )
    first, second = (
        jsnn.compat.keras_spiking.operations(layer, jnp.asarray(x.reshape(8, 10, -1).swapaxes(0, 1)), dt=0.01)
        for layer, x in layers
    )
    operations = first._replace(synapses=first.synapses + second.synapses)
    for device, theirs in results["energy"].items():
        assert energy.joules(operations, device) == pytest.approx(theirs, rel=1e-5)


@pytest.mark.slow
def test_joules_of_keras_spiking_for_convolutions(parity):
    """Its connections include those with the padding, and every pooling is free."""
    expected = json.loads(str(parity("keras_spiking_ModelEnergy")["meta"]))["results"]
    rngs = nnx.Rngs(0)

    def neuron():
        return jsnn.SpikingActivation(jax.nn.relu)

    network = jsnn.Sequential(
        jsnn.Conv(3, 32, (3, 3), rngs=rngs), neuron(), jsnn.avg_pool, jsnn.Conv(32, 64, (3, 3), rngs=rngs), neuron(),
        jsnn.avg_pool, jsnn.flatten, nnx.Linear(4096, 10, rngs=rngs),
    )  # fmt: skip
    operations = energy.count(network, jnp.ones((1, 1, 32, 32, 3)))
    stats = expected["conv_stats"].values()
    assert [row.connections for row in operations.synapses] == [s["connections"] for s in stats if s["connections"]]
    assert operations.neurons == sum(s["neurons"] for s in stats)
    assert energy.joules(operations, "cpu") == pytest.approx(expected["conv_cpu"], rel=1e-12)


@pytest.mark.slow
def test_joules_of_keras_spiking_for_a_rate_network():
    """The model of its tutorial "Estimating model energy": its activations count as neurons."""
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(
        nnx.Conv(1, 2, (7, 7), padding="VALID", rngs=rngs), nnx.relu, jsnn.flatten, nnx.Linear(968, 128, rngs=rngs),
        nnx.relu, nnx.Linear(128, 10, rngs=rngs),
    )  # fmt: skip
    x = jnp.full((4, 28, 28, 1), 5.0)
    operations = jsnn.compat.keras_spiking.operations(model, x, dt=1e-3)
    connections = [22 * 22 * 2 * 49, 968 * 128, 128 * 10]
    assert [row.connections for row in operations.synapses] == connections
    assert operations.neurons == 968 + 128
    assert energy.joules(operations, "cpu") == pytest.approx(8.6e-9 * (sum(connections) + 968 + 128), rel=1e-12)
    assert operations.synapses[0].effective == pytest.approx(connections[0] * 5.0 * 1e-3)  # 5 Hz


def test_a_device_of_one_s_own():
    operations = energy.count(jsnn.Sequential(linear(WEIGHTS), jsnn.IF()), np.ones((T, B, 2), np.float32))
    assert energy.joules(operations, energy.Device("mine", 2.0, 1.0, spiking=True)) == 2 * 15 + 3 * T
    assert energy.joules(operations, energy.Device("mine", 2.0, 1.0, spiking=False)) == 2 * 6 + 3


def test_what_is_not_there_is_refused():
    operations = energy.count(linear(WEIGHTS), jnp.ones((1, 2)))
    with pytest.raises(ValueError, match="there is no device 'loihy', did you mean 'loihi'"):
        energy.joules(operations, "loihy")
    with pytest.raises(TypeError, match=r"device must be the name of one, or a jsnn.energy.Device, got 3"):
        energy.joules(operations, 3)
    with pytest.raises(ValueError, match=r"neuronal of the device 'mine' must be finite and >= 0 J, got -1"):
        energy.joules(operations, energy.Device("mine", 1.0, -1.0, spiking=True))
    for device, message in {
        energy.Device("mine", "1 pJ", 1.0, spiking=True): "synaptic of the device 'mine' must be a number, got '1 pJ'",
        energy.Device("mine", 1.0, None, spiking=True): "neuronal of the device 'mine' must be a number, got None",
        energy.Device("mine", 1.0, 1.0, spiking="no"): "spiking of the device 'mine' must be True or False, got 'no'",
        energy.Device(3, 1.0, 1.0, spiking=True): "name of the device 3 must be a name, got 3",
    }.items():
        with pytest.raises(TypeError, match=message):
            energy.joules(operations, device)
    with pytest.raises(TypeError, match="count takes a Neuron or a function, got int"):
        energy.count(3, jnp.ones((1, 2)))
    with pytest.raises(ValueError, match=r"no inputs to count with: their shape is \(0, 2\)"):
        energy.count(linear(WEIGHTS), jnp.ones((0, 2)))
    network = jsnn.Sequential(linear(WEIGHTS), jsnn.IF())
    for inputs, num_steps in ((jnp.ones((T, 2)), None), (jnp.ones(2), T)):
        with pytest.raises(ValueError, match=r"inputs must have a batch axis, \[T, B, ...\].*, got shape \("):
            energy.count(network, inputs, num_steps=num_steps)


@pytest.mark.parametrize("chain", [lambda loaded: loaded, lambda loaded: jsnn.Sequential(loaded, jsnn.LIF(0.9))])
def test_a_loaded_network_is_not_counted_as_one_without_weights(chain, tmp_path):
    network = jsnn.Sequential(linear(ONES), jsnn.LIF(0.9))
    jsnn.export.save(network, jnp.ones((B, 3)), tmp_path / "network.jsnn", platforms=["cpu"])
    with pytest.raises(ValueError, match="loaded from a file cannot be seen: count the saved one"):
        energy.count(chain(jsnn.export.load(tmp_path / "network.jsnn")), jnp.ones((T, B, 3)))


WEIGHTS_INSIDE = {
    "scan": lambda x: jax.lax.scan(lambda x, _: (x @ jnp.eye(2), None), x, length=3)[0],
    "cond": lambda x: jax.lax.cond(x.sum() > 0, lambda x: x @ jnp.eye(2), lambda x: x, x),
    "while": lambda x: jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: jax.jit(jnp.matmul)(x, 2 * jnp.eye(2)), x),
}


@pytest.mark.parametrize("name", WEIGHTS_INSIDE)
def test_weights_that_would_not_be_counted_are_refused(name):
    with pytest.raises(ValueError, match=f"weights inside lax.{name} cannot be counted"):
        energy.count(WEIGHTS_INSIDE[name], jnp.ones((B, 2)))


def test_a_network_in_training_mode_is_refused():
    network = jsnn.Sequential(linear(WEIGHTS), nnx.BatchNorm(3, rngs=nnx.Rngs(0)), jsnn.IF())
    with pytest.raises(ValueError, match=r"the network is in training mode .* call model.eval\(\) first"):
        energy.count(network, jnp.ones((T, B, 2)))
    network.eval()
    assert energy.count(network, jnp.ones((T, B, 2))).neurons == 3
