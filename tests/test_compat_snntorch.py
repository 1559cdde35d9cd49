"""snnTorch's own outputs and gradients, reproduced (golden vectors of snnTorch 1.0.0)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden import close

import jsnn
from jsnn import surrogate
from jsnn.compat import snntorch

STATES = {"mem": "v", "syn": "i", "syn_exc": "i_excitatory", "syn_inh": "i_inhibitory"}


def traces(neuron, inputs):
    """The spikes and the states of every step."""
    ((_, layer),) = jsnn.record(neuron, jnp.asarray(inputs, jnp.float32)).items()
    states = layer.states.neuron if isinstance(neuron, jsnn.Recurrent) else layer.states
    return layer.outputs, states


def rleaky(golden, all_to_all, **parameters):
    """`snntorch.rleaky` with the recurrent weights of a golden vector."""
    if not all_to_all:
        return snntorch.rleaky(0.85, V=0.4, all_to_all=False, **parameters)
    neuron = snntorch.rleaky(0.85, linear_features=5, rngs=nnx.Rngs(0), **parameters)
    neuron.synapse.kernel[...] = jnp.asarray(golden["rec_weight"].T)
    neuron.synapse.bias[...] = jnp.asarray(golden["rec_bias"])
    return neuron


RC = {"R": 5.0, "C": 2.0}
BETA, BETA_R, BETA_C = {"beta": 0.9}, {"beta": 0.8, "R": 3.0}, {"beta": 0.8, "C": 4.0, "time_step": 0.5}
GOLDEN = {
    "Leaky__inhibition": (snntorch.leaky, {"beta": 0.9, "inhibition": True}),
    "Leaky__none_delayTrue": (snntorch.leaky, {"beta": 0.9, "reset_mechanism": "none"}),
    "Leaky__subtract_delayTrue": (snntorch.leaky, {"beta": 0.9}),
    "Leaky__zero_delayFalse": (
        snntorch.leaky,
        {"beta": 0.9, "reset_mechanism": "zero", "reset_delay": False},
    ),
    "Lapicque__none_RC": (snntorch.lapicque, RC | {"reset_mechanism": "none"}),
    "Lapicque__none_beta": (snntorch.lapicque, BETA | {"reset_mechanism": "none"}),
    "Lapicque__none_betaR": (snntorch.lapicque, BETA_R | {"reset_mechanism": "none"}),
    "Lapicque__subtract_RC": (snntorch.lapicque, RC),
    "Lapicque__subtract_beta": (snntorch.lapicque, BETA),
    "Lapicque__subtract_betaC": (snntorch.lapicque, BETA_C),
    "Lapicque__zero_beta": (snntorch.lapicque, BETA | {"reset_mechanism": "zero"}),
    "Lapicque__zero_betaC": (snntorch.lapicque, BETA_C | {"reset_mechanism": "zero"}),
    "Lapicque__zero_betaR": (snntorch.lapicque, BETA_R | {"reset_mechanism": "zero"}),
    "Synaptic__none_delayTrue": (snntorch.synaptic, {"alpha": 0.8, "beta": 0.9, "reset_mechanism": "none"}),
    "Synaptic__subtract_delayTrue": (snntorch.synaptic, {"alpha": 0.8, "beta": 0.9}),
    "Synaptic__zero_delayFalse": (
        snntorch.synaptic,
        {"alpha": 0.8, "beta": 0.9, "reset_mechanism": "zero", "reset_delay": False},
    ),
    "Alpha__none": (snntorch.alpha, {"alpha": 0.9, "beta": 0.8, "reset_mechanism": "none"}),
    "Alpha__subtract": (snntorch.alpha, {"alpha": 0.9, "beta": 0.8, "reset_mechanism": "subtract"}),
}


def assert_traces_match(golden, spikes, states):
    np.testing.assert_array_equal(spikes, golden["spk_f32"])
    for name, field in STATES.items():
        if f"{name}_f32" in golden:
            close(getattr(states, field), golden[f"{name}_f32"])


@pytest.mark.rows(12)
@pytest.mark.parametrize("stem", GOLDEN)
def test_neurons_give_snntorchs_traces(parity, stem):
    golden = parity(f"snntorch_{stem}")
    make, parameters = GOLDEN[stem]
    assert_traces_match(golden, *traces(make(**parameters), golden["input"]))


@pytest.mark.rows(3)
@pytest.mark.parametrize("all_to_all", [False, True])
@pytest.mark.parametrize(("reset", "delay"), [("none", True), ("subtract", False), ("subtract", True)])
def test_rleaky_gives_snntorchs_traces(parity, reset, delay, all_to_all):
    golden = parity(f"snntorch_RLeaky__{reset}_delay{delay}_all2all{all_to_all}")
    neuron = rleaky(golden, all_to_all, reset_mechanism=reset, reset_delay=delay)
    assert_traces_match(golden, *traces(neuron, golden["input"]))


@pytest.mark.rows(3)
@pytest.mark.parametrize("all_to_all", [False, True])
@pytest.mark.parametrize("reset", ["none", "subtract", "zero"])
def test_rsynaptic_gives_snntorchs_traces(parity, reset, all_to_all):
    golden = parity(f"snntorch_RSynaptic__{reset}_all2all{all_to_all}")
    shape = {"linear_features": 5, "rngs": nnx.Rngs(0)} if all_to_all else {"all_to_all": False, "V": 0.4}
    neuron = snntorch.RSynaptic(0.5, 0.7, **shape, reset_mechanism=reset)
    if all_to_all:
        neuron.synapse.kernel[...] = jnp.asarray(golden["rec_weight"].T)
        neuron.synapse.bias[...] = jnp.asarray(golden["rec_bias"])
    assert_traces_match({f"{name}_f32": array for name, array in golden.items()}, *traces(neuron, golden["input"]))


SURROGATES = {"atan": surrogate.arctan(2.0), "fast_sigmoid": surrogate.fast_sigmoid(25.0)}
GRADIENTS = {
    "leaky_none_delayTrue_atan": ("none", True, "atan"),
    "leaky_subtract_delayFalse_fast_sigmoid": ("subtract", False, "fast_sigmoid"),
    "leaky_subtract_delayTrue_atan": ("subtract", True, "atan"),
    "leaky_subtract_delayTrue_fast_sigmoid": ("subtract", True, "fast_sigmoid"),
    "leaky_zero_delayFalse_atan": ("zero", False, "atan"),
    "leaky_zero_delayFalse_fast_sigmoid": ("zero", False, "fast_sigmoid"),
    "leaky_zero_delayTrue_atan": ("zero", True, "atan"),
    "synaptic_subtract_atan": ("subtract", True, "atan"),
}


@pytest.mark.rows(1)
@pytest.mark.parametrize("stem", GRADIENTS)
def test_gradients_through_two_layers(parity, stem):
    golden = parity(f"snntorch_bptt_{stem}")
    reset, delay, spike_grad = GRADIENTS[stem]

    def neuron(alpha, beta):
        learned = {"learn_beta": True, "learn_threshold": True, "spike_grad": SURROGATES[spike_grad]}
        resets = {"reset_mechanism": reset, "reset_delay": delay}
        if stem.startswith("synaptic"):
            return snntorch.synaptic(alpha, beta, learn_alpha=True, **learned, **resets)
        return snntorch.leaky(beta, **learned, **resets)

    def loss(weights, neurons, x):
        first, _ = traces(neurons[0], x @ weights["W1"].T + weights["b1"])
        spikes, states = traces(neurons[1], first @ weights["W2"].T + weights["b2"])
        outputs = jnp.stack([spikes, states.v], axis=1)
        return (outputs**2).sum(), (first, outputs)

    weights = {name: jnp.asarray(golden[name]) for name in ("W1", "b1", "W2", "b2")}
    neurons = (neuron(0.7, 0.9), neuron(0.6, 0.8))
    value_and_gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
    (value, (first, outputs)), gradients = value_and_gradient(weights, neurons, jnp.asarray(golden["x"]))
    np.testing.assert_array_equal(first, golden["z1_f32"])
    np.testing.assert_array_equal(outputs[:, 0], golden["out_f32"][:, 0])
    close(outputs, golden["out_f32"])
    close(value, golden["loss_f32"])
    gradient_weights, gradient_neurons, gradient_x = gradients
    close(gradient_x, golden["gX_f32"], 1e-4)
    for name, gradient in gradient_weights.items():
        close(gradient, golden[f"g{name}_f32"], 1e-4)
    for number, gradient in enumerate(gradient_neurons, start=1):
        close(gradient.decay[...], golden[f"gbeta{number}_f32"], 1e-4)
        close(gradient.threshold[...], golden[f"gthr{number}_f32"], 1e-4)
        if stem.startswith("synaptic"):
            close(gradient.decay_syn[...], golden[f"galpha{number}_f32"], 1e-4)


# What no open vector shows is held to the formulas of the parity README, in float64.


def simulate(name, inputs, reset, delay, alpha=0.9, beta=0.8, threshold=1.0):
    v = i = excitatory = inhibitory = spikes = np.zeros(inputs.shape[1:])
    tau = np.log(alpha) / (np.log(beta) - np.log(alpha)) + 1
    all_spikes, all_v = [], []
    for x in inputs:
        late = v > threshold
        if name == "alpha":
            before, x_inhibitory = inhibitory, beta * inhibitory - x
            excitatory, inhibitory = alpha * excitatory + x, x_inhibitory
            v = tau * (excitatory + inhibitory)
            if reset == "subtract":
                excitatory = excitatory - threshold * late
                inhibitory = inhibitory - x_inhibitory * late
                v = v + before * late
            elif reset == "zero":
                excitatory, inhibitory, v = (np.where(late, 0, y) for y in (excitatory, inhibitory, v))
        else:
            i = alpha * i + x + (-0.4 * spikes if name == "rsynaptic" else 0)
            current = {"leaky": x, "lapicque": 0.5 * x, "synaptic": i, "rsynaptic": i, "rleaky": x + 0.4 * spikes}[name]
            lost = {"none": 0.0, "subtract": threshold, "zero": beta * v + (name != "leaky") * current}[reset]
            v = beta * v + current - late * lost
        spikes = 1.0 * (v > threshold)
        if not delay:
            v = v - (spikes - late) * {"none": 0.0, "subtract": threshold, "zero": v}[reset]
        all_spikes.append(spikes)
        all_v.append(v)
    return np.stack(all_spikes), np.stack(all_v)


MAKE = {
    "leaky": lambda **reset: snntorch.leaky(0.8, **reset),
    "lapicque": lambda **reset: snntorch.lapicque(R=2.5, C=2.0, **reset),
    "synaptic": lambda **reset: snntorch.synaptic(0.9, 0.8, **reset),
    "rleaky": lambda **reset: snntorch.rleaky(0.8, V=0.4, all_to_all=False, **reset),
    "rsynaptic": lambda **reset: snntorch.rsynaptic(0.9, 0.8, V=-0.4, all_to_all=False, **reset),
}
INPUTS = np.random.default_rng(0).normal(0.3, 0.7, (60, 3, 5)).astype(np.float32)


@pytest.mark.rows(4)
@pytest.mark.parametrize("delay", [True, False])
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
@pytest.mark.parametrize("name", MAKE)
def test_every_reset_of_every_neuron(name, reset, delay):
    spikes, states = traces(MAKE[name](reset_mechanism=reset, reset_delay=delay), INPUTS)
    expected_spikes, expected_v = simulate(name, INPUTS.astype(float), reset, delay)
    assert 0.05 < expected_spikes.mean() < 0.95
    np.testing.assert_array_equal(spikes, expected_spikes)
    close(states.v, expected_v)


@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_every_reset_of_alpha(reset):
    spikes, states = traces(snntorch.alpha(0.9, 0.8, reset_mechanism=reset), INPUTS)
    expected_spikes, expected_v = simulate("alpha", INPUTS.astype(float), reset, delay=True)
    assert 0.05 < expected_spikes.mean() < 0.95
    np.testing.assert_array_equal(spikes, expected_spikes)
    close(states.v, expected_v)


def test_a_reset_that_came_for_nothing_is_taken_back():
    neuron = snntorch.leaky(1.0, reset_mechanism="subtract", reset_delay=False)
    spikes, states = traces(neuron, [[2.5], [-1.0], [0.0]])
    # 2.5 spikes, resets to 1.5; 1.5 - 1 - 1 (late) = -0.5 does not spike, + 1 = 0.5; stays
    np.testing.assert_array_equal(spikes[:, 0], [1, 0, 0])
    np.testing.assert_array_equal(states.v[:, 0], [1.5, 0.5, 0.5])


def test_inhibited_neurons_are_silent_but_reset():
    spikes, states = traces(snntorch.leaky(1.0, inhibition=True), [[[1.5, 2.0, 0.5]], [[0.0, 0.0, 0.0]]])
    np.testing.assert_array_equal(spikes[:, 0], [[0, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(states.v[:, 0], [[1.5, 2.0, 0.5], [0.5, 1.0, 0.5]])


def test_inhibition_compares_membranes_with_their_own_thresholds():
    neuron = snntorch.leaky(1.0, threshold=jnp.array([1.0, 3.0]), inhibition=True)
    np.testing.assert_array_equal(traces(neuron, [[[2.0, 3.5]]])[0][0, 0], [1, 0])


@pytest.mark.rows(1)
@pytest.mark.parametrize("field", ["alpha", "beta"])
def test_gradients_of_alphas_decays(field):
    def loss(**decays):
        return (simulate("alpha", INPUTS.astype(float), "none", True, **decays)[1] ** 2).sum()

    step = {"alpha": 0.9, "beta": 0.8}
    high, low = (loss(**step | {field: step[field] + change}) for change in (1e-5, -1e-5))
    neuron = snntorch.alpha(0.9, 0.8, learn_alpha=True, learn_beta=True, reset_mechanism="none")
    gradient = jax.jit(jax.grad(lambda neuron: (traces(neuron, INPUTS)[1].v ** 2).sum()))(neuron)
    close(getattr(gradient, field)[...], (high - low) / 2e-5, 1e-4)


NEURONS = {
    "leaky": lambda: snntorch.leaky(0.9, learn_beta=True, reset_mechanism="zero", inhibition=True),
    "lapicque": lambda: snntorch.lapicque(0.9),
    "synaptic": lambda: snntorch.synaptic(0.7, 0.9, learn_alpha=True),
    "alpha": lambda: snntorch.alpha(0.9, 0.8, learn_alpha=True),
    "rleaky": lambda: snntorch.rleaky(0.9, V=0.4, all_to_all=False, learn_threshold=True),
    "rsynaptic": lambda: snntorch.rsynaptic(0.7, 0.9, V=0.4, all_to_all=False, learn_alpha=True),
}


@pytest.mark.rows(2)
@pytest.mark.parametrize("name", NEURONS)
def test_jit_gives_the_same(name):
    eager = jsnn.unroll(NEURONS[name](), jnp.asarray(INPUTS))
    jitted = jax.jit(jsnn.unroll)(NEURONS[name](), jnp.asarray(INPUTS))
    np.testing.assert_array_equal(eager[1], jitted[1])
    jax.tree.map(close, eager[0], jitted[0])


@pytest.mark.rows(3)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", NEURONS)
def test_dtype_is_kept(name, dtype):
    with jax.enable_x64(dtype == jnp.float64):
        state, spikes = jsnn.unroll(NEURONS[name](), jnp.asarray(INPUTS, dtype))
        assert spikes.dtype == dtype
        assert {x.dtype for x in jax.tree.leaves(state)} == {jnp.promote_types(dtype, jnp.float32)}


def test_defaults_are_snntorchs():
    for neuron in (snntorch.leaky(0.9), snntorch.synaptic(0.9, 0.8), snntorch.lapicque(0.9)):
        assert (neuron.reset, neuron.reset_delay, neuron.threshold) == ("subtract", True, 1.0)
        assert neuron.surrogate == surrogate.arctan(2.0)
    assert snntorch.alpha(0.9, 0.8).reset == "zero"


@pytest.mark.parametrize(
    ("layer", "inputs", "shape"),
    [
        ({"linear_features": 100}, 100, (2, 100)),
        ({"conv2d_channels": 16, "kernel_size": 3}, 144, (2, 6, 6, 16)),
    ],
)
def test_recurrent_weights_are_drawn_as_pytorch_draws_them(layer, inputs, shape):
    neuron = snntorch.rleaky(0.9, **layer, rngs=nnx.Rngs(0))
    synapse = neuron.synapse
    for weights in (synapse.kernel, synapse.bias):
        assert np.abs(weights[...]).max() <= inputs**-0.5
    assert np.std(synapse.kernel[...]) == pytest.approx((3 * inputs) ** -0.5, rel=0.05)
    assert neuron.init(shape).outputs.shape == shape


@pytest.mark.parametrize("parameters", [{"linear_features": 5, "rngs": nnx.Rngs(0)}, {"all_to_all": False, "V": 0.4}])
def test_recurrent_weights_may_be_fixed(parameters):
    learned = snntorch.rleaky(0.9, **parameters)
    fixed = snntorch.rleaky(0.9, **parameters, learn_recurrent=False)
    assert jax.tree.leaves(nnx.state(learned, nnx.Param))
    assert not jax.tree.leaves(nnx.state(fixed, nnx.Param))
    assert jsnn.unroll(fixed, jnp.asarray(INPUTS))[1].shape == INPUTS.shape


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: snntorch.leaky(1.1), r"beta must be in \[0, 1\], got 1.1"),
        (lambda: snntorch.leaky(-0.1, learn_beta=True), r"beta must be in \[0, 1\], got -0.1"),
        (lambda: snntorch.leaky(0.9, threshold=-1.0), "threshold must be > 0, got -1.0"),
        (
            lambda: jsnn.unroll(snntorch.leaky(0.9, inhibition=True), jnp.ones(4)),
            "inhibition needs an axis of neurons, got an input without axes",
        ),
        (lambda: snntorch.leaky(0.9, reset_mechanism="hard"), "reset_mechanism must be .*, got 'hard'"),
        (lambda: snntorch.synaptic(1.2, 0.9), r"alpha must be in \[0, 1\], got 1.2"),
        (lambda: snntorch.alpha(0.75, 1.0), "alpha - beta must be > 0, got -0.25"),
        (lambda: snntorch.alpha(0.5, 0.5), "alpha - beta must be > 0, got 0.0"),
        (lambda: snntorch.alpha(1.5, 0.5), r"alpha must be in \[0, 1\], got 1.5"),
        (lambda: snntorch.lapicque(), "needs beta, or both R and C, got beta=None, R=None, C=None"),
        (lambda: snntorch.lapicque(C=2.0), "needs beta, or both R and C, got beta=None, R=None, C=2.0"),
        (lambda: snntorch.lapicque(1.0), r"beta must be in \(0, 1\), got 1.0"),
        (lambda: snntorch.lapicque(R=-5.0, C=2.0), "R must be > 0, got -5.0"),
        (lambda: snntorch.lapicque(0.9, R=0.0), "R must be > 0, got 0.0"),
        (lambda: snntorch.lapicque(0.9, C=0.0), "C must be > 0, got 0.0"),
        (lambda: snntorch.lapicque(R=0.5, C=1.0), r"R \* C must be >= time_step = 1.0, got 0.5"),
        (lambda: snntorch.lapicque(0.9, time_step=0.0), "time_step must be > 0, got 0.0"),
        (lambda: snntorch.rleaky(0.9, linear_features=5), "draws its weights: pass rngs"),
        (lambda: snntorch.rleaky(0.9, rngs=nnx.Rngs(0)), "needs linear_features, .*linear_features=None"),
        (lambda: snntorch.rleaky(0.9, conv2d_channels=2, rngs=nnx.Rngs(0)), "kernel_size=None"),
        (lambda: snntorch.rleaky(0.9, 1.0, True, 5, 2, 3, rngs=nnx.Rngs(0)), "linear_features=5, conv2d_ch"),
    ],
)
def test_bad_values_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
