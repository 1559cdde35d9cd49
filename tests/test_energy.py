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
    assert (first.steps, first.effective, first.accumulates) == (1, 2.0, True)
    assert (second.steps, second.effective) == (T, 2 * 4 * T)  # currents 2, 4, 0: two neurons fire at every step


def test_values_of_many_sizes_are_multiplied():
    (row,) = energy.count(linear(np.ones((3, 2))), jnp.array([[1.0, 2.0, 0.0]])).synapses
    assert not row.accumulates
    assert row.effective == 4.0
    assert energy.count(linear(np.ones((3, 2))), jnp.array([[1.0, 2.0, 0.0]])).effective_macs == 4.0


def test_a_convolution_by_hand():
    conv = nnx.Conv(1, 2, (3, 3), use_bias=False, rngs=nnx.Rngs(0))
    image = jnp.zeros((1, 4, 4, 1)).at[0, 1, 1, 0].set(1.0).at[0, 0, 0, 0].set(1.0)
    (row,) = energy.count(conv, image).synapses
    assert row.connections == 4 * 4 * 9 * 2
    assert row.effective == (9 + 4) * 2  # one in the middle, one in a corner
    assert row.weights == "convolution [3, 3, 1, 2]"


def test_a_convolution_that_chooses_its_program_by_the_platform_counts_as_any_other():
    ours, flax = (conv(8, 2, (3, 3), rngs=nnx.Rngs(0)) for conv in (jsnn.Conv, nnx.Conv))
    images = jnp.asarray(np.random.default_rng(0).integers(0, 2, (B, 4, 4, 8)), jnp.float32)
    (row,) = energy.count(ours, images).synapses
    assert row == energy.count(flax, images).synapses[0]
    assert row.connections == 4 * 4 * 9 * 8 * 2


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


def test_a_converted_network_and_its_rate_network():
    model = jsnn.models.rate_dense([2, 3, 2], rngs=nnx.Rngs(0))
    x = jnp.ones((B, 2))
    network = jsnn.convert(model, x, synapse=5e-3, scale_firing_rates=1000.0)
    spiking, rate = energy.count(network, x, num_steps=T), energy.count(model, x)
    assert [row.connections for row in spiking.synapses] == [row.connections for row in rate.synapses]
    assert (spiking.neurons, rate.neurons) == (3, 0)
    assert rate.steps == 1


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


def test_a_device_of_one_s_own():
    operations = energy.count(jsnn.Sequential(linear(WEIGHTS), jsnn.IF()), np.ones((T, B, 2), np.float32))
    assert energy.joules(operations, energy.Device("mine", 2.0, 1.0, spiking=True)) == 2 * 15 + 3 * T
    assert energy.joules(operations, energy.Device("mine", 2.0, 1.0, spiking=False)) == 2 * 6 + 3


def test_what_is_not_there_is_refused():
    operations = energy.count(linear(WEIGHTS), jnp.ones((1, 2)))
    with pytest.raises(ValueError, match="there is no device 'loihy', did you mean 'loihi'"):
        energy.joules(operations, "loihy")
    with pytest.raises(TypeError, match="count takes a Neuron or a function, got int"):
        energy.count(3, jnp.ones((1, 2)))
    with pytest.raises(ValueError, match=r"no inputs to count with: their shape is \(0, 2\)"):
        energy.count(linear(WEIGHTS), jnp.ones((0, 2)))
