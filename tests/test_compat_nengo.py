"""nengo's own outputs, reproduced (golden vectors of nengo 3.2.0)."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import close

import jsnn
from jsnn.compat import nengo


def identity(x):
    return x


def currents(golden, dtype):
    return jnp.asarray(golden["J"], {"f32": jnp.float32, "f64": jnp.float64}[dtype])


def states_and_outputs(neuron, J):
    (layer,) = jsnn.record(neuron, J).values()
    return layer.states, layer.outputs


def states_and_outputs_op_by_op(neuron, J):
    """The same without jit. A loop of Python's, as lax.scan without jit compiles a slice for every step."""
    state, steps = neuron.init(J.shape[1:], J.dtype), []
    for row in np.asarray(J):
        state, output = neuron.step(state, jnp.asarray(row))
        steps.append((state, output))
    return jax.tree.map(lambda *values: np.stack(values), *steps)


# Under jit, v + rate * dt is rounded once and not twice, as nengo does it. Within 200 steps that makes up to 1e-5 in
# float32, less than the 5e-5 by which nengo's own float32 voltages are off its float64 ones. Spikes are the same.
@pytest.mark.rows(1)
@pytest.mark.parametrize(
    ("dtype", "jit", "tolerance"),
    [("f32", False, 0), ("f64", False, 0), ("f64", True, 1e-12), ("f32", True, 2e-5)],
)
@pytest.mark.parametrize("inputs", ["const_amp0.05", "const_amp1.0", "random_amp1.0"])
@pytest.mark.parametrize("name", ["SpikingRectifiedLinear", "RegularSpiking"])
def test_integrate_and_fire(parity, name, inputs, dtype, jit, tolerance):
    golden = parity(f"nengo_{name}__{inputs}")
    chosen = {"amplitude": float(inputs.partition("amp")[2]), "initial_voltage": golden["initial_voltage"]}
    with jax.enable_x64(dtype == "f64"), jax.disable_jit(not jit):
        if name == "SpikingRectifiedLinear":
            neuron = nengo.spiking_rectified_linear(**chosen)
        else:
            neuron = nengo.regular_spiking(identity, **chosen)  # J is the rate there
        run = states_and_outputs if jit else states_and_outputs_op_by_op
        states, outputs = run(neuron, currents(golden, dtype))
    np.testing.assert_allclose(outputs, golden[f"output_{dtype}"], rtol=2e-7)
    np.testing.assert_allclose(states.v, golden[f"voltage_{dtype}"], rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.slow
def test_all_that_records_runs_without_jit_too(parity, dtype):
    golden = parity("nengo_SpikingRectifiedLinear__const_amp0.05")
    neuron = nengo.spiking_rectified_linear(amplitude=0.05, initial_voltage=golden["initial_voltage"])
    with jax.enable_x64(dtype == "f64"), jax.disable_jit():
        J = currents(golden, dtype)[:20]
        jax.tree.map(
            np.testing.assert_array_equal, states_and_outputs(neuron, J), states_and_outputs_op_by_op(neuron, J)
        )


LIFS = {
    "const_default": {},
    "const_minv-0.5_ref5ms": {"min_voltage": -0.5, "tau_ref": 0.005, "tau_rc": 0.03, "amplitude": 0.5},
    "random_default": {},
    "random_minv-inf": {"min_voltage": -math.inf},
}


# A drive just above threshold blows up the last bit of expm1 and log1p: nengo's own float32 is off by 2e-5.
@pytest.mark.rows(2)
@pytest.mark.parametrize(("dtype", "tolerance"), [("f32", 5e-5), ("f64", 1e-12)])
@pytest.mark.parametrize("stem", LIFS)
def test_lif(parity, stem, dtype, tolerance):
    golden = parity(f"nengo_LIF__{stem}")
    with jax.enable_x64(dtype == "f64"):
        neuron = nengo.lif(**LIFS[stem], initial_voltage=golden["initial_voltage"])
        states, outputs = states_and_outputs(neuron, currents(golden, dtype))
    np.testing.assert_allclose(outputs, golden[f"output_{dtype}"], rtol=2e-7)
    close(states.v, golden[f"voltage_{dtype}"], tolerance)
    close(states.refractory_time, golden[f"refractory_time_{dtype}"], tolerance)


ADAPTIVE = {
    "AdaptiveLIF": {"v": "voltage", "refractory_time": "refractory_time", "adaptation": "adaptation"},
    "Izhikevich": {"v": "voltage", "u": "recovery"},
}


# Near their spikes nengo's own float32 voltages are as far off its float64 ones; the spikes are the same.
@pytest.mark.parametrize("name", ADAPTIVE)
def test_adaptive_neurons(parity, name):
    golden = parity(f"nengo_{name}__const")
    for dtype, tolerance in (("f32", 5e-5), ("f64", 1e-12)):
        with jax.enable_x64(dtype == "f64"):
            if name == "AdaptiveLIF":
                neuron = nengo.adaptive_lif(initial_voltage=golden["initial_voltage"])
            else:
                neuron = nengo.izhikevich(initial_voltage=-65.0, initial_recovery=-13.0)
            found, outputs = states_and_outputs(neuron, currents(golden, dtype))
        np.testing.assert_allclose(outputs, golden[f"output_{dtype}"], rtol=2e-7)
        for ours, theirs in ADAPTIVE[name].items():
            close(getattr(found, ours), golden[f"{theirs}_{dtype}"], tolerance)


def test_the_lowest_currents_of_izhikevich_s_neuron_count_as_minus_30():
    neuron = nengo.izhikevich(initial_voltage=-50.0)  # 0.04 * 50^2 - 5 * 50 + 140 = -10
    state, _ = neuron.step(neuron.init((2,)), jnp.array([-30.0, -1e6]))
    np.testing.assert_allclose(state.v, [-90, -90], rtol=1e-6)


@pytest.mark.slow
def test_rates(parity):
    golden = parity("nengo_rates")
    with jax.enable_x64(True):
        J = jnp.asarray(golden["J"])
        close(nengo.rectified_linear(J), golden["RectifiedLinear"], 1e-12)
        close(nengo.sigmoid(J), golden["Sigmoid"], 1e-12)
        close(nengo.tanh(J), golden["Tanh"], 1e-12)
        close(nengo.lif_rate(J), golden["LIFRate"], 1e-12)
        assert nengo.rectified_linear(J[-1:], amplitude=0.5) == 5


@pytest.mark.parametrize(("name", "make"), [
    ("StochasticSpiking", nengo.stochastic_spiking),
    ("PoissonSpiking", nengo.poisson_spiking),
])  # fmt: skip
@pytest.mark.slow
def test_random_spikes_have_nengos_statistics(parity, name, make):
    golden = parity(f"nengo_{name}__stats")
    neuron = make(jax.random.key(0), nengo.rectified_linear)
    _, outputs = jsnn.unroll(neuron, jnp.asarray(golden["rates"], jnp.float32), num_steps=20000)
    n = np.asarray(outputs, np.float64) * 1e-3
    np.testing.assert_allclose(n, np.round(n), atol=1e-5)
    # both are estimates from 20000 steps; of a Poisson variable's variance the variance is (r + 2 r^2) / steps
    mean_error = np.sqrt(golden["var_n"] / 20000)
    np.testing.assert_array_less(abs(n.mean(0) - golden["mean_n"]), 5 * 2**0.5 * mean_error + 1e-12)
    expected = golden["rates"] * 1e-3
    variance_error = np.sqrt((expected + 2 * expected**2) / 20000)
    np.testing.assert_array_less(abs(n.var(0) - golden["var_n"]), 5 * 2**0.5 * variance_error + 1e-12)
    np.testing.assert_allclose(n.min(0), golden["min_n"], atol=1e-5)
    if name == "StochasticSpiking":
        np.testing.assert_allclose(n.max(0), golden["max_n"], atol=1e-5)


@pytest.mark.rows(4)
@pytest.mark.parametrize("y0", ["zero", "default"])  # in the vectors the default is 0 as well
@pytest.mark.parametrize(
    "stem", ["Lowpass_0.005", "Lowpass_0.1", "Lowpass_0.00002", "Alpha_0.005", "Alpha_0.1", "Triangle_0.01"]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_synapses(parity, stem, y0, dtype):
    golden = parity("nengo_synapses")
    name, _, tau = stem.partition("_")
    with jax.enable_x64(dtype == "float64"):
        synapse = {"Lowpass": nengo.lowpass, "Alpha": nengo.alpha, "Triangle": nengo.triangle}[name](float(tau))
        _, outputs = jsnn.unroll(synapse, jnp.asarray(golden["input"], dtype))
    close(outputs, golden[f"{stem}_y0{y0}"], 1e-5 if dtype == "float32" else 1e-12)


def test_short_time_constants_pass_through():
    assert (nengo.lowpass(3e-5).tau, nengo.lowpass(3.1e-5).tau) == (0.0, 3.1e-5)
    assert nengo.alpha(0.02, dt=1.0).tau == 0.0
    x = jnp.asarray(np.random.default_rng(0).normal(0, 1, (20, 3)), jnp.float32)
    for make in (nengo.lowpass, nengo.alpha):
        np.testing.assert_array_equal(jsnn.unroll(make(2e-5, initial_level=1e6), x)[1], x)
    with pytest.raises(ValueError, match=r"tau must be >= 0, got -0\.1"):
        nengo.lowpass(-0.1)


@pytest.mark.slow
def test_a_triangle_starts_at_its_level_and_may_be_late():
    x = jnp.arange(1.0, 5.0)[:, None]
    np.testing.assert_allclose(jsnn.unroll(nengo.triangle(1e-3, initial_level=4.0), x)[1][:, 0] * 3, [6, 5, 8, 11])
    late = nengo.triangle(1e-3, initial_level=4.0, delay=True)
    np.testing.assert_allclose(jsnn.unroll(late, x)[1][:, 0] * 3, [12, 6, 5, 8])
    np.testing.assert_array_equal(jsnn.unroll(nengo.triangle(0.0), x)[1], x)
    jsnn.testing.check_neuron(late)
    with pytest.raises(ValueError, match=r"t must be >= 0, got -0\.1"):
        nengo.triangle(-0.1)


def test_each_synapse_on_a_connection_delays_by_a_step(parity):
    golden = parity("nengo_connection_delay")
    x = jnp.asarray(golden["x"], jnp.float32)[:, None]
    tau = -1e-3 / math.log(1 - golden["filt"][0] / golden["x"][0])
    close(jsnn.unroll(nengo.lowpass(tau), x)[1][:, 0], golden["filt"])
    connection = nengo.lowpass(tau, delay=True)
    close(jsnn.unroll(connection, x)[1][:, 0], golden["once"])
    close(jsnn.unroll(jsnn.Sequential(connection, connection), x)[1][:, 0], golden["twice"])


def test_parameters_are_handed_on():
    key = jax.random.key(0)
    for neuron in (nengo.stochastic_spiking(key, nengo.tanh, amplitude=2.0, dt=0.1),
                   nengo.poisson_spiking(key, nengo.tanh, amplitude=2.0, dt=0.1),
                   nengo.regular_spiking(nengo.tanh, amplitude=2.0, dt=0.1)):  # fmt: skip
        assert (neuron.activation, neuron.amplitude, neuron.dt) == (nengo.tanh, 2.0, 0.1)
    random = nengo.lif(initial_voltage=key, dt=0.1)
    assert random.dt == 0.1
    assert np.ptp(random.init((100,)).v) > 0.9


@pytest.mark.parametrize(("rate", "name", "value"), [
    (nengo.rectified_linear, "amplitude", 0.0), (nengo.sigmoid, "tau_ref", 0.0), (nengo.tanh, "tau_ref", -1.0),
    (nengo.lif_rate, "tau_rc", 0.0), (nengo.lif_rate, "tau_ref", -1.0), (nengo.lif_rate, "amplitude", -1.0),
])  # fmt: skip
def test_rates_refuse_numbers_out_of_range(rate, name, value):
    with pytest.raises(ValueError, match=rf"{name} must be >=? 0, got {value}"):
        rate(jnp.ones(2), **{name: value})
