"""A spiking network beside its rate twin: NeuroBench's metrics counted by hand."""

import csv
import math

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jsnn
from jsnn import energy

T = 4
FIRST = [[1.0, 0.0], [2.0, 3.0], [0.0, 0.0]]  # 3 of 6 are 0
SECOND = [[0.0], [5.0]]  # 1 of 2


def linear(weights):
    weights = jnp.asarray(weights, jnp.float32)
    layer = nnx.Linear(*weights.shape, use_bias=False, rngs=nnx.Rngs(0))
    layer.kernel[...] = weights
    return layer


@pytest.fixture(scope="module")
def small():
    """3 inputs, 2 neurons without memory that fire above 0.5, 1 readout; one sample."""
    spikes = np.zeros((T, 1, 3), np.float32)
    spikes[0, 0, 0] = 1  # 1 operation, to the first neuron, whose spike meets a weight of 0
    spikes[1, 0, 1] = 1  # 2 operations, to both neurons; the spike of the second does 1
    spikes[3, 0, 2] = 1  # no operation
    neuron = jsnn.LIF(0.0, threshold=0.5, reset="zero")
    return energy.compare(jsnn.Sequential(linear(FIRST), neuron, linear(SECOND), jsnn.LI(0.9)), spikes)


def test_a_small_network_by_hand(small):
    spiking, rate = small.networks
    assert [row.effective for row in spiking.operations.synapses] == [3.0, 1.0]
    assert (spiking.dense, spiking.effective_acs, spiking.effective_macs) == ((6 + 2) * T, 4.0, 0.0)
    assert spiking.activation_sparsity == 1 - 3 / (2 * T)  # 3 spikes of the 2 neurons; the readout has none
    assert spiking.connection_sparsity == rate.connection_sparsity == pytest.approx(4 / 8)
    assert spiking.footprint == 4 * (6 + 2) + 4 * (2 + 1)  # weights, and three membranes
    assert (rate.dense, rate.effective_acs, rate.effective_macs) == (6 + 2, 0.0, 3 + 1)
    assert (rate.activation_sparsity, rate.footprint) == (0.0, 4 * (6 + 2))
    assert (spiking.operations.neurons, rate.operations.neurons) == (3, 3)


def test_neurons_of_a_network_in_a_recurrence_are_seen():
    inner = jsnn.Sequential(jsnn.IF(threshold=0.5), lambda x: x / 4, jsnn.IF(threshold=0.5))  # the second spikes less
    network, inputs = jsnn.Recurrent(inner, lambda spikes: spikes / 8), jnp.full((12, 2, 3), 0.3)
    shown = jsnn.record(network, inputs)
    outputs = [shown[f"Recurrent/neuron/{name}"].outputs for name in ("0_IF", "2_IF")]
    spiking = jsnn.energy.compare(network, inputs).networks[0]
    assert spiking.activation_sparsity == pytest.approx(1 - sum(y.mean() for y in outputs) / 2)
    assert outputs[0].mean() > outputs[1].mean() > 0
    assert spiking.operations.neurons == 6


def test_joules_by_hand(small):
    spiking, rate = small.networks
    events, dense = energy.Device("events", 2.0, 10.0, spiking=True), energy.Device("dense", 2.0, 10.0, spiking=False)
    assert spiking.joules(events) == 2 * 4 + 10 * 3 * T
    assert spiking.joules(dense) == 2 * 8 * T + 10 * 3 * T
    assert (rate.joules(events), rate.joules(dense)) == (None, 2 * 8 + 10 * 3)
    assert small.joules()["rate twin"]["loihi"] is None
    assert small.joules()["spiking"]["loihi"] == pytest.approx(27.1e-12 * 4 + 81e-12 * 12)
    with pytest.raises(ValueError, match="did you mean 'loihi'"):
        rate.joules("loihy")


@pytest.mark.slow
def test_a_small_convolution_by_hand():
    conv = nnx.Conv(1, 1, (3, 3), use_bias=False, rngs=nnx.Rngs(0))
    conv.kernel[...] = jnp.ones((3, 3, 1, 1)).at[0].set(0.0)  # what comes from the row above counts for nothing
    image = jnp.zeros((1, 3, 3, 1)).at[0, 0, 0, 0].set(1.0)  # a corner
    network = jsnn.Sequential(conv, jsnn.LIF(0.0, threshold=0.5, reset="zero"), jsnn.flatten, linear(np.ones((9, 2))))
    spiking, rate = energy.compare(network, image, num_steps=T).networks
    first, second = spiking.operations.synapses
    inside = 4 * 4 + 4 * 6 + 9  # corners, edges, the middle
    assert (first.connections, first.padding, first.steps) == (81, 81 - inside, 1)
    # outputs that see the corner: itself, right and below it, by the middle row or the row above; two rows of weights
    assert first.effective == 2.0
    assert second.effective == 2 * 2 * T  # both neurons that see it fire at every step
    assert first.wired == (3 + 2) * 7  # pairs of rows that meet, and pairs of columns
    assert spiking.dense == inside + 18 * T
    assert rate.dense == inside + 18
    assert spiking.activation_sparsity == 1 - 2 / 9
    assert spiking.connection_sparsity == pytest.approx(3 / 27)


@pytest.mark.slow
def test_a_converted_network_stands_beside_its_rate_network():
    model = nnx.Sequential(linear([[1.0, -1.0], [1.0, -1.0]]), nnx.relu, linear(np.ones((2, 3))))
    x = jnp.array([[0.25, 0.5], [1.0, 2.0]])
    network = jsnn.convert(model, x, scale_firing_rates=[jnp.full(2, 1000.0)])  # which the twin does not need
    spiking, rate = energy.compare(network, x, num_steps=T).networks
    assert rate.activation_sparsity == 0.5  # of two neurons one is never above 0
    assert (rate.effective_macs, rate.effective_acs) == (4.0 + 3.0, 0.0)
    assert (rate.dense, spiking.dense) == (4 + 6, 4 + 6 * T)  # the static input passes the first weights once
    assert rate.footprint == 4 * (4 + 6) < spiking.footprint
    assert spiking.activation_sparsity >= 0.5


def test_a_rate_network_stands_alone():
    (rate,) = energy.compare(linear(FIRST), jnp.array([[1.0, 2.0, 0.0]])).networks
    assert (rate.name, rate.dense, rate.effective_macs, rate.footprint) == ("rate", 6, 3.0, 24)
    assert math.isnan(rate.activation_sparsity)
    assert rate.values()["activation_sparsity"] is None


def test_table_and_csv(small, tmp_path):
    lines = str(small).splitlines()
    assert lines[0].split() == ["spiking", "rate", "twin"]
    assert lines[3].split() == ["dense", "32", "8"]
    assert lines[6].split() == ["activation_sparsity", "62.5%", "0.0%"]
    assert lines[-1].split()[-1] == "-"
    small.to_csv(tmp_path / "energy.csv")
    with (tmp_path / "energy.csv").open(newline="") as file:
        spiking, rate = csv.DictReader(file)
    assert (spiking["network"], float(spiking["effective_acs"]), rate["joules_loihi"]) == ("spiking", 4.0, "")
    assert float(rate["joules_cpu"]) == pytest.approx(8.6e-9 * (8 + 3))


def test_devices_of_one_s_own_stand_beside_the_known():
    mine, loihi = energy.Device("mine", 2.0, 10.0, spiking=True), energy.Device("loihi", 1.0, 0.0, spiking=True)
    spikes = jnp.ones((T, 1, 3))
    network = jsnn.Sequential(linear(np.ones((3, 2))), jsnn.LIF(0.9))
    compared = energy.compare(network, spikes, devices=[mine, loihi])
    costs = compared.joules()["spiking"]
    assert list(costs) == ["cpu", "gpu", "arm", "loihi", "spinnaker", "spinnaker2", "mine"]
    assert (costs["mine"], costs["loihi"]) == (2 * 6 * T + 10 * 2 * T, 6 * T)
    assert str(compared).splitlines()[-1].split() == ["joules_mine", "128", "-"]
    assert compared.csv().splitlines()[0].endswith(",joules_mine")
    with pytest.raises(TypeError, match=r"must be the name of one, or a jsnn\.energy\.Device, got 3"):
        energy.compare(network, spikes, devices=[3])
    for alone in (mine, "loihi"):
        with pytest.raises(TypeError, match=r"devices must be a list, got .* alone: put it into one, devices=\[...\]"):
            energy.compare(network, spikes, devices=alone)
    assert energy.compare(network, spikes, devices=["loihi"]).joules() == energy.compare(network, spikes).joules()
    assert compared.networks[0].values(["loihi"])["joules_loihi"] == pytest.approx(27.1e-12 * 6 * T + 81e-12 * 2 * T)
    with pytest.raises(TypeError, match="path must be Path or a name, got None"):
        compared.to_csv(None)


def test_a_footprint_is_that_of_the_states_as_they_are_run():
    spiking, _ = energy.compare(jsnn.LIF(0.9), jnp.ones((T, 1, 3), jnp.bfloat16)).networks
    state, _ = jsnn.unroll(jsnn.LIF(0.9), jnp.ones((T, 1, 3), jnp.bfloat16))
    assert spiking.footprint == state.v.nbytes == 12


class Showing:
    """A neuron of two outputs, its spikes and its membrane."""

    def init(self, shape, dtype=jnp.float32):
        return jnp.zeros(shape, dtype)

    def step(self, state, current):
        return state + current, {"spikes": (state > 1).astype(current.dtype), "v": state}


def test_a_neuron_may_have_several_outputs():
    (spiking, _) = energy.compare(Showing(), jnp.ones((T, 1, 3))).networks  # v is 0, 1, 2, 3
    assert (spiking.operations.neurons, spiking.activation_sparsity) == (3, 3 / 8)


def test_without_activations_their_sparsity_is_not_known():
    networks = energy.compare(jsnn.Sequential(linear(FIRST), jsnn.LI(0.9)), jnp.ones((T, 1, 3))).networks
    assert [one.values(())["activation_sparsity"] for one in networks] == [None, None]


def test_what_is_no_neuron_has_no_activations():
    spikes = jnp.zeros((T, 1, 3)).at[0].set(1.0)
    layers = jsnn.LIF(0.0, threshold=0.5), jsnn.Delay(2), jsnn.Dropout(0.5), jsnn.filters.Lowpass(0.1), jsnn.LI(0.9)
    spiking, _ = energy.compare(jsnn.Sequential(linear(np.ones((3, 2))), *layers), spikes).networks
    assert spiking.activation_sparsity == 1 - 1 / T
    assert spiking.operations.neurons == 2 + 2
