"""What stands in the place of activations: keys and dt, scales, amplitudes, and the dtype in which it adds up."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jsnn
from jsnn.compat import nengo

KEY = jax.random.key(0)
FIVE = jnp.full((1, 4000), 5.0)
RANDOM = {
    "StochasticSpiking": (jsnn.StochasticSpiking(KEY, dt=0.1), 0),
    "PoissonSpiking": (jsnn.PoissonSpiking(KEY, dt=0.1), 0),
    "random start": (jsnn.SpikingActivation(dt=0.1, v_init=KEY), 0),
    "Stochastic": (jsnn.Stochastic(jsnn.IF(), KEY), 0),
    "in a network": (jsnn.Sequential(jsnn.SpikingActivation(dt=0.1), jsnn.Dropout(0.5, KEY)), 0),
}


def twice(x):
    return jax.nn.relu(2 * jax.nn.relu(x))


def outputs(network, x, steps=1):
    return jsnn.unroll(network, x, num_steps=steps)[1]


def keys_of(part):
    leaves = [leaf for leaf in jax.tree.leaves(part) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)]
    return [tuple(jax.random.key_data(key).ravel().tolist()) for key in leaves]


@pytest.mark.rows(3)
@pytest.mark.parametrize("neuron", [neuron for neuron, _ in RANDOM.values()], ids=RANDOM)
def test_each_place_has_a_key_of_its_own(neuron):
    network = jsnn.convert(twice, FIVE[:, :3], swap={jax.nn.relu: neuron})
    first, second = (keys_of(place) for place in network.neurons)
    assert first
    assert first != second
    alone = jsnn.convert(jax.nn.relu, FIVE[:, :3], swap={jax.nn.relu: neuron})
    assert keys_of(alone.neurons[0]) == keys_of(neuron)


def test_random_filters_have_a_key_each():
    synapse = jsnn.Sequential(jsnn.filters.Lowpass(0.01), jsnn.Dropout(0.5, KEY))
    first, second = jsnn.convert(twice, FIVE[:, :3], synapse=synapse).synapses
    assert keys_of(first) != keys_of(second)


@nnx.dataclass
class Noisy(jsnn.SpikingActivation):
    """A user's neuron, with keys of the old style, and several of the new."""

    raw: jax.Array = dataclasses.field(default_factory=lambda: jax.random.PRNGKey(0), kw_only=True)
    many: jax.Array = dataclasses.field(default_factory=lambda: jax.random.split(KEY, 3), kw_only=True)


def test_keys_of_any_kind():
    first, second = (place.neuron for place in jsnn.convert(twice, FIVE, swap={jax.nn.relu: Noisy()}).neurons)
    assert first.raw.tolist() != second.raw.tolist()
    assert first.many.shape == (3,)
    assert len(set(keys_of(first) + keys_of(second))) == 2


@pytest.mark.parametrize("kind", [jsnn.StochasticSpiking, pytest.param(jsnn.PoissonSpiking, marks=pytest.mark.slow)])
def test_noise_of_two_places_is_independent(kind):
    """With one key for both, the mean of the first is 16.7 and 20.2, and the variance of the second 0."""
    swap = {jax.nn.relu: kind(KEY, dt=0.1)}
    y = outputs(jsnn.convert(twice, FIVE, swap=swap), FIVE)
    assert abs(float(y.mean()) - 10) < 4 * float(y.std()) / 4000**0.5
    scaled = jsnn.convert(lambda x: jax.nn.relu(x) - jax.nn.relu(x + 1e-6), FIVE, swap=swap, scale_firing_rates=100.0)
    expected = 2 * (0 if kind is jsnn.StochasticSpiking else 5 / 0.1 / 100)
    assert abs(float(outputs(scaled, FIVE).var()) - expected) < 0.1 * expected + 1e-3


DTS = {  # swap's neuron, synapse, convert's dt: the network's
    "neuron": (jsnn.SpikingActivation(dt=0.1), None, None, 0.1),
    "filter": (None, jsnn.filters.Lowpass(0.1, dt=0.1), None, 0.1),
    "both": (jsnn.SpikingActivation(dt=0.1), jsnn.filters.Lowpass(0.1, dt=0.1), None, 0.1),
    "neuron and number": (jsnn.SpikingActivation(dt=0.1), 0.1, None, 0.1),
    "neither": (None, 0.1, None, 1e-3),
    "no dt": (jsnn.IF(), None, 0.1, 0.1),
    "all of them": (jsnn.SpikingActivation(dt=0.1), jsnn.filters.Lowpass(0.1, dt=0.2), 0.5, 0.5),
    "inside": (jsnn.Refractory(jsnn.SpikingActivation(dt=0.1), 2), 0.1, None, 0.1),
}


@pytest.mark.parametrize(("neuron", "synapse", "dt", "expected"), DTS.values(), ids=DTS)
def test_dt_is_that_of_neurons_and_filters(neuron, synapse, dt, expected):
    swap = None if neuron is None else {jax.nn.relu: neuron}
    network = jsnn.convert(twice, FIVE, swap=swap, synapse=synapse, dt=dt)
    parts = jsnn.neurons.pytree.parts_with_dt(network)
    assert {float(part.dt) for part in parts} <= {expected}
    assert network.dt == expected
    assert f"dt: {expected:g} s" in str(network.report)


def test_two_dt_that_differ():
    with pytest.raises(ValueError, match=r"one dt, got 0.1 s in SpikingActivation and 0.001 s in Lowpass: .*dt="):
        jsnn.convert(
            jax.nn.relu, FIVE, swap={jax.nn.relu: jsnn.SpikingActivation(dt=0.1)}, synapse=jsnn.filters.Lowpass(0.1)
        )


def test_rates_in_hz_are_by_the_dt_of_the_network():
    network = jsnn.convert(jax.nn.relu, FIVE, swap={jax.nn.relu: jsnn.SpikingActivation(dt=0.1)})
    assert jsnn.conversion.diagnose(network, FIVE, num_steps=10).activations[0].rate == pytest.approx(5.0)
    with pytest.raises(ValueError, match=r"dt = 0.001 is not the dt = 0.1 of the network"):
        jsnn.conversion.diagnose(network, FIVE, num_steps=10, dt=1e-3)
    with pytest.raises(ValueError, match=r"batch_size must be >= 1, got 0"):
        jsnn.conversion.diagnose(network, FIVE, num_steps=10, batch_size=0)
    without = jsnn.convert(jax.nn.relu, FIVE / 10, swap={jax.nn.relu: jsnn.IF()}, dt=0.1)
    found = jsnn.conversion.diagnose(without, FIVE / 10, num_steps=11)
    assert found.activations[0].rate == pytest.approx(5 / 1.1)


@pytest.mark.rows(2)
@pytest.mark.parametrize(
    ("synapse", "late"),
    [
        (0.005, True), (nengo.lowpass(0.005), True), (nengo.alpha(0.005), True), (nengo.triangle(0.005), True),
        (nengo.lowpass(0.005, delay=False), False), (jsnn.filters.Lowpass(0.005), False),
        (jsnn.filters.Alpha(0.005, delay=True), True),
    ],
)  # fmt: skip
def test_nengos_filters_are_a_step_late_in_a_network(synapse, late):
    x = jnp.array([[2000.0]])
    network = jsnn.convert(jax.nn.relu, x, synapse=synapse)
    own = nengo.lowpass(synapse) if isinstance(synapse, float) else dataclasses.replace(synapse, delay=False)
    prompt = jsnn.unroll(own, jnp.full((6, 1, 1), 2000.0))[1]  # two spikes at each step
    expected = jnp.concatenate([jnp.zeros((1, 1, 1)), prompt[:-1]]) if late else prompt
    np.testing.assert_allclose(outputs(network, x, 6), expected, rtol=1e-5)


RELU = jax.nn.relu
NOT_HOMOGENEOUS = {
    "tanh": jnp.tanh,
    "SpikingActivation(tanh)": jsnn.SpikingActivation(jnp.tanh),
    "PoissonSpiking(sigmoid)": jsnn.PoissonSpiking(KEY, jax.nn.sigmoid),
    "RefractoryLIF": jsnn.RefractoryLIF(),
    "AdaptiveRefractoryLIF": jsnn.AdaptiveRefractoryLIF(),
    "LIF": jsnn.LIF(0.9),
    "CuBaLIF": jsnn.CuBaLIF(),
    "Refractory": jsnn.Refractory(jsnn.IF(), 2),
    "LIF in a Sequential": jsnn.Sequential(jsnn.LIF(0.9), jsnn.Delay(1)),
}
HOMOGENEOUS = {
    "IF": jsnn.IF(),
    "LIF without a leak": jsnn.LIF(1.0),
    "BurstIF": jsnn.BurstIF(),
    "relu": RELU,
    "leaky relu": jsnn.SpikingActivation(jax.nn.leaky_relu),
    "StochasticSpiking": jsnn.StochasticSpiking(KEY),
    "Stochastic": jsnn.Stochastic(jsnn.IF(), KEY),
    "Sequential": jsnn.Sequential(jsnn.IF(), jsnn.Delay(1)),
}


@pytest.mark.rows(3)
@pytest.mark.parametrize(("name", "neuron"), NOT_HOMOGENEOUS.items(), ids=NOT_HOMOGENEOUS)
def test_a_replacement_that_cannot_be_scaled(name, neuron):
    convert = functools.partial(jsnn.convert, RELU, FIVE[:, :2], swap={RELU: neuron})
    network, name = convert(), name.split(" in ")[0]
    for scale in (20, "auto"):
        with pytest.raises(ValueError, match=rf"0_relu, for its {name.split('(')[0]}.*is positively homogeneous"):
            convert(scale_firing_rates=scale)
    for scale in ([20], {"0_relu": 20}):
        with pytest.raises(ValueError, match=rf"0_relu cannot be scaled by 20: a {name.split('(')[0]}"):
            convert(scale_firing_rates=scale)
    assert jsnn.conversion.calibrate(network, FIVE[:, :2], v_init=None).neurons[0].scale == 1.0


@pytest.mark.parametrize("neuron", HOMOGENEOUS.values(), ids=HOMOGENEOUS)
def test_a_replacement_that_can_be_scaled(neuron):
    network = jsnn.convert(RELU, FIVE[:, :2], swap={RELU: neuron}, scale_firing_rates=20)
    assert network.neurons[0].scale == 20


def test_scales_by_name():
    network = jsnn.convert(twice, FIVE, scale_firing_rates={"1_relu": 3.0})
    assert [place.scale for place in network.neurons] == [1.0, 3.0]
    with pytest.raises(ValueError, match=r"no activation 'relu' to scale: the report's names are 0_relu, 1_relu"):
        jsnn.convert(twice, FIVE, scale_firing_rates={"relu": 3.0})


AMPLITUDES = {
    "half": nengo.spiking_rectified_linear(amplitude=0.5, dt=0.1),
    "twice": jsnn.SpikingActivation(amplitude=2.0, dt=0.1),
    "BurstIF": jsnn.BurstIF(amplitude=0.5, dt=0.1),
    "threshold": jsnn.IF(threshold=3.0),
}


@pytest.mark.rows(1)
@pytest.mark.parametrize("neuron", AMPLITUDES.values(), ids=AMPLITUDES)
def test_one_spike_a_step_whatever_the_amplitude(neuron):
    """In the first place and in the second, which sees what the first says."""
    x = jnp.array([[4.0, 8.0]])
    network = jsnn.convert(twice, x, swap={RELU: neuron}, scale_firing_rates="auto")
    calibrated = jsnn.conversion.calibrate(network, x, percentile=100)
    for one in (calibrated, jsnn.conversion.calibrate(network, x, percentile=100, bias_steps=10)):
        spikes = jsnn.conversion.respond(one, x, 10).spikes
        for name in ("0_relu", "1_relu"):
            np.testing.assert_allclose(spikes[name], [[5, 10]], atol=1e-4)


NARROW = (jnp.bfloat16, jnp.float16)
ACCUMULATORS = {
    "LI": (jsnn.LI(0.999), 1.0, (1 - 0.999**2000) / 0.001),
    "SpikingActivation": (jsnn.SpikingActivation(), 0.5, None),
    "BurstIF": (jsnn.BurstIF(), 0.5, None),
    "Lowpass": (jsnn.filters.Lowpass(1.0), 1.0, 1 - np.exp(-2.0)),
    "Alpha": (jsnn.filters.Alpha(0.5), 1.0, 1 - 5 * np.exp(-4.0)),
    "IF": (jsnn.IF(threshold=1000.0, reset="none"), 1.0, None),
}


@pytest.mark.rows(2)
@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize(("neuron", "x", "level"), ACCUMULATORS.values(), ids=ACCUMULATORS)
def test_sums_over_time_are_float32(neuron, x, level, dtype):
    state, y = jsnn.unroll(neuron, jnp.full((1,), x, dtype), num_steps=2000)
    assert y.dtype == dtype
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype(jnp.float32)}
    if level is None:
        assert float(jnp.count_nonzero(y)) == {0.5: 1, 1.0: 1000}[x]
    else:
        np.testing.assert_allclose(float(y[-1, 0]), level, rtol=8e-3)
    narrow = jsnn.unroll(neuron, jnp.full((1,), x, dtype), neuron.init((1,), dtype), num_steps=3)[0]
    assert {leaf.dtype for leaf in jax.tree.leaves(narrow)} == {jnp.dtype(dtype)}  # asked for


@pytest.mark.rows(1)
@pytest.mark.parametrize("dtype", NARROW)
def test_a_narrow_model_spikes_as_it_should(dtype):
    weights = jnp.asarray([[1.0, 0.5], [0.25, 2.0]], dtype)

    def model(x):
        return jax.nn.relu(jax.nn.relu(x.astype(dtype) @ weights) @ weights)

    x = jnp.array([[1.0, 3.0]])
    network = jsnn.convert(model, x, synapse=0.01)
    wide = {leaf.dtype for leaf in jax.tree.leaves(network.init(x.shape))}
    assert wide == {jnp.dtype(jnp.float32)}
    response = jsnn.conversion.respond(network, x, 4000)
    np.testing.assert_allclose(response.means["0_relu"], jax.nn.relu(x @ weights.astype(jnp.float32)), rtol=0.15)
    plain = jsnn.convert(lambda x: jax.nn.relu(x.astype(dtype)), x, scale_firing_rates=1000.0)
    found = jsnn.conversion.diagnose(plain, x, num_steps=1000)
    assert found.activations[0].spikes == pytest.approx(4000, rel=2e-3)  # 1000 and 3000
    calibrated = jsnn.conversion.calibrate(plain, x)
    assert jsnn.conversion.diagnose(calibrated, x, num_steps=1000).activations[0].relative_error < 5e-3
