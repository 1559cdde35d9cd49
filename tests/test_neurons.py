"""Every neuron through one table of properties, then each of them against traces worked out by hand.

A new neuron is one row in `NEURONS` and one in `TRACES`.
"""

import dataclasses
import math
import re
from copy import deepcopy
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

import jsnn
from jsnn import surrogate
from jsnn.arguments import parameters_of

T, B, N = 8, 3, 4
PER_NEURON = np.linspace(0.3, 0.9, N)  # or per channel


def linear(seed):
    weights = np.random.default_rng(seed).normal(0, 0.8, (N, N)).astype(np.float32)
    return nnx.Linear(N, N, use_bias=False, kernel_init=lambda *_: jnp.asarray(weights), rngs=nnx.Rngs(0))


def trained():
    return nnx.Param(jnp.asarray(PER_NEURON))


def halfway_to_rest(v, spikes, threshold):
    return v - spikes * (v - threshold / 2)


class UserState(NamedTuple):
    trace: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class UserDefined:
    """What a user writes: no base class, only `init` and `step`."""

    rate: float = 0.5

    def init(self, shape, dtype=jnp.float32):
        return UserState(jnp.zeros(shape, dtype))

    def step(self, state, current):
        trace = state.trace + self.rate * (current.astype(state.trace.dtype) - state.trace)
        return UserState(trace), jax.nn.relu(trace).astype(current.dtype)


NEURONS = {
    "IF": jsnn.IF(),
    "IF_zero_delayed": jsnn.IF(threshold=0.7, reset="zero", reset_delay=True),
    "LIF": jsnn.LIF(0.9),
    "LIF_zero": jsnn.LIF(0.9, reset="zero", v_reset=-0.25),
    "LIF_none": jsnn.LIF(0.5, reset="none"),
    "LIF_function": jsnn.LIF(0.9, reset=halfway_to_rest),
    "LIF_delayed": jsnn.LIF(0.9, reset_delay=True),
    "LIF_detached": jsnn.LIF(0.9, detach_reset=True),
    "LIF_arrays": jsnn.LIF(
        PER_NEURON, threshold=jnp.asarray(PER_NEURON), gain=PER_NEURON, v_rest=-PER_NEURON, v_reset=-PER_NEURON
    ),
    "LIF_trained": jsnn.LIF(trained(), threshold=trained(), reset="zero"),
    "LIF_seconds": jsnn.LIF.from_time_constants(PER_NEURON, dt=0.1),
    "CuBaLIF": jsnn.CuBaLIF(0.9, trained()),
    "CuBaLIF_jump": jsnn.CuBaLIF(0.9, 0.6, synapse_order="jump_then_decay", reset="zero"),
    "ALIF": jsnn.ALIF(trained(), 0.9, adaptation=trained()),
    "ALIF_delayed": jsnn.ALIF(0.9, 0.9, reset_delay=True, detach_reset=True),
    "EIF": jsnn.EIF(0.8, sharpness=PER_NEURON, gain=0.5),
    "EIF_delayed": jsnn.EIF(trained(), rheobase=trained(), reset="subtract", reset_delay=True),
    "QIF": jsnn.QIF(0.5, v_critical=PER_NEURON, v_reset=-0.1),
    "QIF_trained": jsnn.QIF(0.75, curvature=trained(), v_rest=0.1, detach_reset=True),
    "AdEx": jsnn.AdEx(0.8, 0.9, coupling=PER_NEURON, gain=0.5),
    "AdQIF": jsnn.AdQIF(0.75, trained(), coupling=0.5, jump=trained(), threshold=0.25, detach_reset=True),
    "ParametricLIF": jsnn.ParametricLIF(threshold=0.5),
    "ParametricLIF_zero": jsnn.ParametricLIF(trained(), decay_input=False, reset="zero", v_rest=-PER_NEURON),
    "Izhikevich": jsnn.Izhikevich(v_init=-20 * PER_NEURON, dt=5e-4),
    "Izhikevich_trained": jsnn.Izhikevich(
        trained(), trained(), trained(), v_init=10.0, v_reset=10.0, detach_reset=True
    ),
    "AdaptiveRefractoryLIF": jsnn.AdaptiveRefractoryLIF(
        0.25, tau_mem=0.25, tau_ref=0.125, v_init=0.875, tau_adaptation=PER_NEURON
    ),
    "ResonateAndFire": jsnn.ResonateAndFire(trained(), trained()),
    "ResonateAndFire_delayed": jsnn.ResonateAndFire(0.9, PER_NEURON, reset="subtract", reset_delay=True),
    "ConductanceLIF": jsnn.ConductanceLIF(trained(), trained(), e_inhibitory=-PER_NEURON),
    "ConductanceLIF_subtract": jsnn.ConductanceLIF(PER_NEURON, reset="subtract", v_rest=PER_NEURON, detach_reset=True),
    "SigmaDelta": jsnn.SigmaDelta(threshold=PER_NEURON, bias=trained()),
    "SigmaDelta_tanh": jsnn.SigmaDelta(jnp.tanh, trained()),
    "SRM0": jsnn.SRM0(trained(), 0.8, trained(), refractory=trained()),
    "SRM0_jump": jsnn.SRM0(PER_NEURON, v_rest=0.25, synapse_order="jump_then_decay", detach_reset=True),
    "SlidingPSN": jsnn.SlidingPSN(),
    "SlidingPSN_one": jsnn.SlidingPSN(jnp.ones((1, N)), nnx.Param(jnp.asarray(PER_NEURON))),
    "LI": jsnn.LI(trained(), gain=PER_NEURON, v_rest=0.25),
    "CuBaLI": jsnn.CuBaLI(0.9, trained()),
    "CuBaLI_jump": jsnn.CuBaLI(0.9, 0.6, synapse_order="jump_then_decay"),
    "BurstIF": jsnn.BurstIF(dt=0.5, v_init=0.5),
    "BurstIF_limited": jsnn.BurstIF(PER_NEURON, max_spikes=1),
    "SpikingActivation": jsnn.SpikingActivation(dt=0.5),
    "SpikingActivation_arrays": jsnn.SpikingActivation(
        jnp.tanh, jnp.asarray(PER_NEURON), amplitude=trained(), v_init=PER_NEURON
    ),
    "Rate": jsnn.Rate(jnp.tanh),
    "RefractoryLIF": jsnn.RefractoryLIF(0.25, tau_mem=0.25, tau_ref=0.125, v_init=0.875),
    "RefractoryLIF_trained": jsnn.RefractoryLIF(
        PER_NEURON, tau_mem=trained(), tau_ref=trained(), amplitude=trained(), v_init=0.99, min_voltage=-math.inf
    ),
    "Lowpass": jsnn.filters.Lowpass(trained(), dt=0.1, initial_level=trained()),
    "Lowpass_delayed": jsnn.filters.Lowpass(0.2, jnp.array(0.1), PER_NEURON, delay=True),
    "Alpha": jsnn.filters.Alpha(trained(), dt=0.1, initial_level=trained()),
    "Alpha_delayed": jsnn.filters.Alpha(PER_NEURON, dt=0.1, delay=True),
    "Recurrent": jsnn.Recurrent(jsnn.LIF(0.9), linear(0)),
    "Recurrent_ALIF": jsnn.Recurrent(jsnn.ALIF(0.9, trained()), linear(1)),
    "Refractory": jsnn.Refractory(jsnn.CuBaLIF(0.9, trained(), threshold=0.5), period=np.arange(4.0)),
    "MeanRate": jsnn.MeanRate(jsnn.LIF(trained(), v_rest=PER_NEURON), num_steps=3),
    "Delay": jsnn.Delay(2),
    "Delay_trained": jsnn.Delay(trained(), longest=1),
    "Delay_arrays": jsnn.Delay(4 * PER_NEURON),
    "DelayedLinear": jsnn.DelayedLinear(N, N, max_delay=3, rngs=nnx.Rngs(6)),
    "DelayedLinear_triangle": jsnn.DelayedLinear(N, N, max_delay=2, interpolation="triangle", rngs=nnx.Rngs(7)),
    "Recurrent_late": jsnn.Recurrent(jsnn.LIF(0.9), linear(0), delay=nnx.Param(jnp.full(N, 1.5)), longest=3),
    "Recurrent_DelayedLinear": jsnn.Recurrent(jsnn.LIF(0.9), jsnn.DelayedLinear(N, N, max_delay=3, rngs=nnx.Rngs(8))),
    "user_defined": UserDefined(0.25),
    "Sequential": jsnn.Sequential(linear(2), jsnn.LIF(trained()), linear(3), jsnn.CuBaLI()),
    "Sequential_nested": jsnn.Sequential(
        jsnn.Sequential(linear(4), jsnn.Recurrent(jsnn.CuBaLIF(), linear(5))), jnp.tanh, jsnn.LIF(PER_NEURON)
    ),
}


def over_neurons(*without, variants=()):
    """Every neuron by its name; `variants` marks other settings of a class, such as IF_zero_delayed."""
    chosen = [
        pytest.param(neuron, id=name, marks=variants if "_" in name and name != "user_defined" else ())
        for name, neuron in NEURONS.items()
        if not name.startswith(without)
    ]
    return pytest.mark.parametrize("neuron", chosen)


CURRENTS = jnp.asarray(np.random.default_rng(0).uniform(-0.2, 1.5, (T, B, N)), jnp.float32)
step = jax.jit(lambda neuron, state, current: neuron.step(state, current))
unroll = jax.jit(jsnn.unroll)  # the neuron is an argument, so that one compilation serves every test of a shape


def assert_trees_close(actual, expected, tolerance=1e-5):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), actual, expected)


def types(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


@pytest.mark.rows(12)
@over_neurons(" ", variants=pytest.mark.slow)
def test_jit_is_eager_and_unroll_is_a_loop_of_steps(neuron):
    assert isinstance(neuron, jsnn.Neuron)
    state, outputs = neuron.init((B, N)), []
    for current in CURRENTS:
        state, output = neuron.step(state, current)
        outputs.append(output)
    assert np.any(outputs)
    assert_trees_close(unroll(neuron, CURRENTS), (state, jnp.stack(outputs)))


@pytest.mark.rows(12)
@over_neurons(" ", variants=pytest.mark.slow)
def test_vmap_is_a_batch(neuron):
    state, _ = unroll(neuron, CURRENTS)
    assert_trees_close(jax.vmap(neuron.step)(state, CURRENTS[0]), neuron.step(state, CURRENTS[0]))


@pytest.mark.rows(12)
@over_neurons(" ")
def test_after_a_convolution_parameters_are_per_channel(neuron):
    def to_images(x):
        return x[None, :, None]  # [B, H, W, C]

    state, _ = unroll(neuron, CURRENTS)
    images = jax.tree.map(to_images, state)
    assert types(neuron.init((1, B, 1, N))) == types(images)
    expected = jax.tree.map(to_images, step(neuron, state, CURRENTS[0]))
    assert_trees_close(step(neuron, images, to_images(CURRENTS[0])), expected)


@over_neurons(" ")
def test_a_step_keeps_the_state_s_structure_shapes_and_dtypes(neuron):
    state = neuron.init((B, N))
    after, output = jax.eval_shape(neuron.step, state, CURRENTS[0])
    assert types(after) == types(state)
    assert types(output) == ((B, N), jnp.float32)


@over_neurons("Sequential", "user_defined", "DelayedLinear", variants=pytest.mark.slow)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_numbers_of_numpy_are_those_of_python(neuron, dtype):
    names = [name for name in parameters_of(type(neuron)) if isinstance(getattr(neuron, name), float)]
    given = dataclasses.replace(neuron, **{name: np.float64(getattr(neuron, name)) for name in names})
    assert given == neuron
    with jax.enable_x64(dtype == "float32"):  # each is narrower than what it is multiplied with
        state = given.init((B, N), dtype)
        assert types(jax.eval_shape(given.step, state, jnp.ones((B, N), dtype))[0]) == types(state)


@over_neurons(" ", variants=pytest.mark.slow)
@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float32", marks=pytest.mark.slow), "float64"])
def test_outputs_have_the_dtype_of_the_input_and_states_that_or_float32(neuron, dtype):
    with jax.enable_x64(True):
        if isinstance(neuron, jsnn.Sequential):  # the dtype of its layers' weights decides, as in Flax
            neuron = jax.tree.map(lambda p: jnp.asarray(p, dtype), neuron)
        currents = CURRENTS.astype(dtype)
        state, outputs = jax.eval_shape(jsnn.unroll, neuron, currents)
    assert outputs.dtype == dtype
    wide = "float32" if dtype == "bfloat16" else dtype  # what adds up needs more than 8 bits
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} <= {jnp.dtype(wide)}  # Rate has no state


@over_neurons("Sequential")
def test_a_state_may_be_more_precise_than_the_input(neuron):
    state = neuron.init((B, N), jnp.float32)
    after, outputs = jax.eval_shape(jsnn.unroll, neuron, CURRENTS.astype(jnp.bfloat16), state)
    assert outputs.dtype == jnp.bfloat16
    assert types(after) == types(state)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_spikes_are_the_same_in_every_dtype(dtype):
    currents = jnp.round(CURRENTS * 4) / 4  # halved in each of five steps they are exact, even in bfloat16
    neuron = jsnn.LIF(np.full(N, 0.5), threshold=0.75)
    with jax.enable_x64(True):
        _, spikes = jsnn.unroll(neuron, currents[:5].astype(dtype))
        assert spikes.dtype == dtype
    np.testing.assert_array_equal(np.asarray(spikes, np.float32), unroll(neuron, currents)[1][:5])


def loss(neuron, currents):
    state, total = neuron.init((B, N)), 0
    for current in currents:  # not `unroll`, which would be compiled anew for every neuron
        state, output = neuron.step(state, current)
        total += (output**2).sum()
    return total


@pytest.mark.rows(12)
@over_neurons(" ", variants=pytest.mark.slow)
def test_gradients_are_finite_and_reach_all_that_is_trained(neuron):
    gradients = jax.jit(jax.grad(loss, argnums=(0, 1)))(neuron, CURRENTS[-3:])
    for gradient in jax.tree.leaves(gradients, is_leaf=lambda x: isinstance(x, nnx.Variable)):
        assert np.isfinite(gradient).all()
        assert not isinstance(gradient, nnx.Variable) or np.any(gradient)
    assert np.any(gradients[1])


@pytest.mark.parametrize("make", [
    lambda a, b: jsnn.LI(nnx.Param(a), gain=b, v_rest=b),
    lambda a, b: jsnn.CuBaLI(nnx.Param(a), nnx.Param(b), v_rest=a),
    lambda a, b: jsnn.CuBaLI(a, b, synapse_order="jump_then_decay"),
])  # fmt: skip
def test_gradients_without_spikes_are_those_of_finite_differences(make):
    with jax.enable_x64(True):
        currents = CURRENTS[:4, :1].astype(jnp.float64)
        parameters = jnp.asarray(PER_NEURON), jnp.asarray(PER_NEURON[::-1])
        run = jax.jit(lambda a, b, x: jsnn.unroll(make(a, b), x))
        check_grads(run, (*parameters, currents), order=1, modes=["rev"], rtol=1e-6)


@pytest.mark.parametrize("neuron", NEURONS.values(), ids=NEURONS)
def test_dtypes_are_never_mixed(neuron):
    with jax.numpy_dtype_promotion("strict"):
        jax.eval_shape(lambda x: jsnn.unroll(neuron, x), jnp.ones((T, B, N)))


@over_neurons("Sequential", "DelayedLinear")
def test_neurons_cannot_be_changed_but_replaced(neuron):
    before = repr(neuron)
    for field in dataclasses.fields(neuron):
        with pytest.raises(dataclasses.FrozenInstanceError, match=field.name):
            setattr(neuron, field.name, 0.5)
        assert field.name in before
    assert repr(neuron) == before
    copy = dataclasses.replace(neuron)
    assert type(copy) is type(neuron)
    assert repr(copy) == before


def test_replace_checks_the_new_value():
    neuron = dataclasses.replace(jsnn.LIF(0.5), threshold=2.0)
    assert (neuron.decay, neuron.threshold) == (0.5, 2.0)
    with pytest.raises(ValueError, match="threshold must be > 0"):
        dataclasses.replace(neuron, threshold=-1.0)


@over_neurons(" ", variants=pytest.mark.slow)
def test_neurons_are_pytrees(neuron):
    leaves, structure = jax.tree.flatten(neuron)
    copies = [jax.tree.unflatten(structure, leaves)]
    if isinstance(neuron, nnx.Pytree):
        copies.append(nnx.merge(*nnx.split(neuron, nnx.Param, ...)))
    for copy in copies:
        assert jax.tree.structure(copy) == structure  # all that is static is in there
        steps = (step(one, one.init((B, N)), CURRENTS[0]) for one in (copy, neuron))
        assert_trees_close(*steps)


@over_neurons("Sequential", "user_defined")
@pytest.mark.parametrize("dtype", ["int32", "bool"])
def test_a_step_of_integers_is_refused_as_by_unroll(neuron, dtype):
    with pytest.raises(TypeError, match=f"inputs must be floating point, got {dtype}"):
        neuron.step(neuron.init((B, N)), CURRENTS[0].astype(dtype))


@over_neurons("Sequential", "DelayedLinear", "user_defined")
@pytest.mark.parametrize("given", [jnp.nan, jnp.array([1.0, jnp.nan]), nnx.Param(jnp.array(jnp.nan, jnp.bfloat16))])
def test_nan_is_no_parameter(neuron, given):
    fields = {field.name: getattr(neuron, field.name) for field in dataclasses.fields(neuron)}
    for name in parameters_of(type(neuron)):
        with pytest.raises(ValueError, match=f"{name} must .*, got .*nan"):
            type(neuron)(**fields | {name: given})


def test_a_parameter_that_training_has_led_to_nan_is_copied():
    neuron = jax.tree.map(lambda p: p * jnp.nan, jsnn.LIF(trained(), gain=trained()))
    copy = dataclasses.replace(neuron, threshold=2.0)
    assert copy.gain is neuron.gain
    assert np.isnan(copy.decay[...]).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda x: jsnn.Delay(jnp.array([x, 1.0])),
        lambda x: jsnn.LIF(nnx.Param(jnp.array([x, 1.0]))),
        lambda x: jsnn.Refractory(jsnn.LIF(np.array([x, 1.0])), 2),
        lambda x: jsnn.SpikingActivation(v_init=jax.random.key(round(2 * x))),
        lambda x: jsnn.LIF(x),
    ],
)
def test_neurons_are_equal_if_all_their_parameters_are(make):
    assert make(0.5) == make(0.5) == deepcopy(make(0.5))
    assert make(0.5) != make(1.0)
    assert make(0.5) != jsnn.IF()


def test_numbers_are_fixed_and_only_params_are_trained():
    neuron = jsnn.LIF(0.5, threshold=nnx.Param(jnp.ones(N)), gain=jnp.ones(N))
    assert [leaf.shape for leaf in jax.tree.leaves(neuron)] == [(N,), (N,)]
    _, params, rest = nnx.split(neuron, nnx.Param, ...)
    assert list(params) == ["threshold"]
    assert list(rest) == ["gain"]


# By hand. Powers of two throughout, so that every number is exact.
TRACES = {
    # a membrane at its threshold is silent (the second step)
    "IF": (jsnn.IF(), [0.75, 0.25, 0.25, 0.75], [0, 0, 1, 0], [0.75, 1, 0.25, 1]),
    "LIF": (jsnn.LIF(0.5), [1, 1, 1, -1], [0, 1, 1, 0], [1, 0.5, 0.25, -0.875]),
    "threshold": (jsnn.LIF(0.5, threshold=0.5), [0.5, 0.5, 0.5], [0, 1, 1], [0.5, 0.25, 0.125]),
    # spikes are 0 or 1: what is left stays, and fires again
    "one_spike_a_step": (jsnn.LIF(1.0), [3.5, 0, 0, 0], [1, 1, 1, 0], [2.5, 1.5, 0.5, 0.5]),
    # 0.5 * 4 = 2 fires; 0.5 * 1 + 0.5 * 4 = 2.5 fires
    "gain": (jsnn.LIF(0.5, gain=0.5), [4, 4], [1, 1], [1, 1.5]),
    # starts at rest and stays; 0.5 + 0.25; halfway back; 0.5625 + 1 fires
    "v_rest": (jsnn.LIF(0.5, v_rest=0.5), [0, 0.25, 0, 1], [0, 0, 0, 1], [0.5, 0.75, 0.625, 0.5625]),
    "zero": (jsnn.LIF(0.5, reset="zero"), [1, 1, 1, 1], [0, 1, 0, 1], [1, 0, 1, 0]),
    "zero_v_reset": (jsnn.LIF(0.5, reset="zero", v_reset=-0.25), [1, 1, 1], [0, 1, 0], [1, -0.25, 0.875]),
    "none": (jsnn.LIF(0.5, reset="none"), [1, 1, 1], [0, 1, 1], [1, 1.5, 1.75]),
    "function": (jsnn.LIF(0.5, reset=halfway_to_rest), [1, 1, 1], [0, 1, 1], [1, 0.5, 0.5]),
    # the spike shows above threshold; a step later leak and input come first: 0.5 * 1.5 + 1 - 1 = 0.75
    "delayed": (jsnn.LIF(0.5, reset_delay=True), [1, 1, 1, 1], [0, 1, 0, 1], [1, 1.5, 0.75, 1.375]),
    # and set to zero after the input, which is lost
    "delayed_zero": (jsnn.LIF(0.5, reset="zero", reset_delay=True), [1, 1, 1, 1], [0, 1, 0, 0], [1, 1.5, 0, 1]),
    "delayed_none": (jsnn.LIF(0.5, reset="none", reset_delay=True), [1, 1, 1], [0, 1, 1], [1, 1.5, 1.75]),
    "IF_delayed": (jsnn.IF(reset_delay=True), [1.5, 0, 1, 0.25], [1, 0, 1, 0], [1.5, 0.5, 1.5, 0.75]),
    # i = 1, 0.5, 1.25, 0.625; v = 1, 0.5 + 0.5, 0.5 + 1.25 fires, 0.375 + 0.625
    "CuBaLIF": (jsnn.CuBaLIF(0.5, 0.5), [1, 0, 1, 0], [0, 0, 1, 0], [1, 1, 0.75, 1]),
    "CuBaLIF_jump": (
        jsnn.CuBaLIF(0.5, 0.5, synapse_order="jump_then_decay"), [1, 0, 1, 0], [0, 0, 1, 0], [1, 1, 0.75, 1]
    ),
    "CuBaLIF_zero": (jsnn.CuBaLIF(0.5, 0.5, reset="zero"), [1, 0, 1, 0], [0, 0, 1, 0], [1, 1, 0, 0.625]),
    # a = 0, 1, 0.5, 1.25; thresholds 1, 1.5 (a tie), 1.25, 1.625; the reset takes away the risen threshold
    "ALIF": (
        jsnn.ALIF(1.0, 0.5, adaptation=0.5), [1.25, 1.25, 1.25, 1.25], [1, 0, 1, 1], [0.25, 1.5, 1.5, 1.125]
    ),
    # at v = rheobase = 0 the upstroke adds 0.5 * 0.5 * exp(0) = 0.25
    "EIF": (jsnn.EIF(0.5, sharpness=0.5, rheobase=0.0), [1, -0.25, 0.75], [1, 0, 0], [0, 0, 1]),
    # half of v * (v - 0.5): of 0.75 * 0.25 = 0.1875; from below -0.5 * -1
    "QIF": (
        jsnn.QIF(0.5, v_critical=0.5, v_reset=-0.5), [0.75, 0, 1, 0], [0, 0, 1, 0], [0.75, 0.84375, -0.5, -0.25]
    ),
    # v = 0.25 + x - w at v = 0; w = 0.625 + 1 with the spike, then 0.8125
    "AdEx": (
        jsnn.AdEx(0.5, 0.5, sharpness=0.5, rheobase=0.0, coupling=1.0, jump=1.0),
        [1, 1.375, 1.3125], [1, 0, 0], [0, 0, 0.75],
    ),
    # w = 0.25, then 0.125 + 0.5 * 1.75 + 1 with the spike
    "AdQIF": (
        jsnn.AdQIF(0.5, 0.5, v_critical=0.5, coupling=1.0, jump=1.0), [0.5, 1.5, 1], [0, 1, 0], [0.5, 0, -1]
    ),
    "ParametricLIF": (jsnn.ParametricLIF(), [2, 2, 1], [0, 1, 0], [1, 0.5, 0.75]),
    "ParametricLIF_input": (jsnn.ParametricLIF(decay_input=False), [1, 1, -1], [0, 1, 0], [1, 0.5, -0.75]),
    # u = -50, -50 + 8, -27.25; 0.04 v^2 + 5 v is -100 both at -100 and at -25; a membrane at 30 is silent
    "Izhikevich": (
        jsnn.Izhikevich(0.5, 0.5, 8.0, v_init=-100.0, v_reset=-100.0),
        [50, -7, -12.25], [1, 0, 0], [-100, -25, 30],
    ),
    # so fast that v = x - n, and not refractory; n = 0.25, 0.125, 0.3125
    "AdaptiveRefractoryLIF": (
        jsnn.AdaptiveRefractoryLIF(1.0, tau_mem=1e-6, tau_ref=0.0, tau_adaptation=2.0, adaptation=0.5),
        [2, 0.75, 1.5, 1.25], [1, 0, 1, 0], [0, 0.5, 0, 0.9375],
    ),
    # g_e = 1, 0.5, 0.5, 0.25; g_i = 0, 1, 0.5, 0.25; v = 4 / 2, (2 - 2) / 2.5, (2 - 1) / 2, (0.25 + 1 - 0.5) / 1.5
    "ConductanceLIF": (
        jsnn.ConductanceLIF(0.5, 0.5, 0.5, e_excitatory=4.0), [1, -1, 0.25, 0], [1, 0, 0, 0], [0, 0, 0.5, 0.5]
    ),
    # a change by the threshold is kept for later; its first state is the sum of its inputs
    "SigmaDelta": (
        jsnn.SigmaDelta(threshold=0.25), [1, 0.25, 0.125, -3], [1, 0, 0.375, -1.375], [1, 1.25, 1.375, -1.625]
    ),
    # i = 1, 1.5, 0.75, -0.625; response 1, 2, 1.75, 0.25; less 0, 0, 0.5, 0.75
    "SRM0": (jsnn.SRM0(0.5, 0.5, 0.5), [1, 1, 0, -1], [0, 1, 1, 0], [1, 2, 1.25, -0.5]),
    "SlidingPSN": (
        jsnn.SlidingPSN(jnp.array([0.25, 0.5, 1.0])), [1, 1, -0.5, 0.5], [0, 1, 0, 0], [1, 1.5, 0.25, 0.5]
    ),
    "LI": (jsnn.LI(0.5, gain=0.5), [1, 1, 0], [0.5, 0.75, 0.375], [0.5, 0.75, 0.375]),
    "LI_v_rest": (jsnn.LI(0.5, v_rest=1.0), [0, 1, 0], [1, 2, 1.5], [1, 2, 1.5]),
    "CuBaLI": (jsnn.CuBaLI(0.5, 0.5), [1, 0, 0], [1, 1, 0.75], [1, 1, 0.75]),
    # v = 0.5, 1 (a tie: spikes), 1.5, 0.5; spikes are 1 / dt = 2 high
    "BurstIF": (jsnn.BurstIF(dt=0.5), [5, -2, 2, 2], [4, 0, 0, 2], [0.5, -0.5, 0.5, 0.5]),
    "BurstIF_limited": (jsnn.BurstIF(dt=0.5, max_spikes=1), [5, -2, 2, 2], [2, 0, 2, 2], [1.5, 0.5, 0.5, 0.5]),
    "SpikingActivation": (jsnn.SpikingActivation(dt=0.5), [1, 1, 3, -5], [0, 2, 2, 0], [0.5, 0, 0.5, 0.5]),
    # v = 0.5 - 0.75 and 0.75 + 4.75: floor(-0.25) = -1 spikes, then 5 at once
    "SpikingActivation_many": (
        jsnn.SpikingActivation(jnp.negative, dt=0.5, amplitude=0.25, v_init=0.5), [1.5, -9.5], [-0.5, 2.5], [0.75, 0.5]
    ),
    # a membrane so fast that v = x; after a spike it is held for 1.5 s, from the step's start, then from its middle
    "RefractoryLIF": (
        jsnn.RefractoryLIF(1.0, tau_mem=1e-6, tau_ref=1.5, min_voltage=-0.25, amplitude=2.0),
        [0.5, 1, -1, 2, 2, 2, 2], [0, 0, 0, 2, 2, 0, 2], [0.5, 1, -0.25, 0, 0, 0, 0],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("neuron", "inputs", "outputs", "v"), TRACES.values(), ids=TRACES.keys())
def test_traces_by_hand(neuron, inputs, outputs, v):
    state = neuron.init((1,))
    for step, x in enumerate(inputs):
        state, output = neuron.step(state, jnp.array([x], jnp.float32))
        assert (output.item(), state[0].item()) == (outputs[step], v[step])


@pytest.mark.parametrize(("order", "currents"), [
    ("decay_then_jump", [1, 0.5, 1.25, 0.625]),
    ("jump_then_decay", [0.5, 0.25, 0.625, 0.3125]),  # one decay further on
])  # fmt: skip
def test_synaptic_current_by_hand(order, currents):
    neuron = jsnn.CuBaLIF(0.5, 0.5, synapse_order=order)
    state = neuron.init((1,))
    for x, expected in zip([1, 0, 1, 0], currents):
        state, _ = neuron.step(state, jnp.array([x], jnp.float32))
        assert state.i.item() == expected


def test_adaptation_by_hand():
    neuron = jsnn.ALIF(1.0, 0.5, adaptation=0.5)
    state, adaptation = neuron.init((1,)), []
    for _ in range(4):
        state, _ = neuron.step(state, jnp.array([1.25]))
        adaptation.append(state.adaptation.item())
    assert adaptation == [0, 1, 0.5, 1.25]


# v1 = x1 = 1.25 fires, and H'(1.25 - 1) = 1 for this triangle, which is 0 where v2 lies. v2 = 0.5 * reset(v1) has
#   subtract   0.5 * (1 - H')                                 = 0,      detached 0.5
#   zero       0.5 * ((1 - s) - H' * v1 + H' * v_reset)       = -0.625, detached 0
#   delayed    0.5 - H', as the reset is taken from v2        = -0.5,   detached 0.5
@pytest.mark.parametrize(("choices", "attached", "detached"), [
    ({"reset": "subtract"}, 0.0, 0.5),
    ({"reset": "zero"}, -0.625, 0.0),
    ({"reset": "zero", "v_reset": 0.5}, -0.375, 0.0),
    ({"reset": "none"}, 0.5, 0.5),
    ({"reset": lambda v, spikes, threshold: v - 2 * spikes}, -0.5, 0.5),
    ({"reset_delay": True}, -0.5, 0.5),
])  # fmt: skip
def test_gradient_through_the_reset_by_hand(choices, attached, detached):
    def v2(x1, **more):
        neuron = jsnn.LIF(0.5, surrogate=surrogate.triangular(2.0), **choices, **more)
        state, _ = neuron.step(neuron.init(()), x1)
        return neuron.step(state, jnp.zeros(()))[0].v

    assert jax.grad(v2)(1.25) == attached
    assert jax.grad(lambda x1: v2(x1, detach_reset=True))(1.25) == detached


def test_gradient_of_parameters_by_hand():
    def step(parameters):
        neuron = jsnn.LIF(**parameters, surrogate=surrogate.triangular())
        state = neuron.init(())._replace(v=jnp.array(1.0))
        state, spike = neuron.step(state, jnp.array(0.75))
        return state.v, spike

    # v = 0.5 * 1 + 0.75 = 1.25 fires, H'(0.25) = 0.75; after the reset v - s * threshold
    by_reset, by_spike = jax.jacrev(step)({"decay": 0.5, "threshold": 1.0, "gain": 1.0})
    assert by_spike == {"decay": 0.75, "threshold": -0.75, "gain": 0.75 * 0.75}
    assert by_reset == {"decay": 0.25, "threshold": -1 + 0.75, "gain": 0.25 * 0.75}


def test_custom_reset_is_given_the_risen_threshold():
    seen = []

    def reset(v, spikes, threshold):
        seen.append(threshold)
        return v

    neuron = jsnn.ALIF(adaptation=0.5, reset=reset)
    neuron.step(neuron.init((1,))._replace(spikes=jnp.ones(1)), jnp.ones(1))
    assert seen[0].tolist() == [1.5]


# a quarter turn and half of it in a step: i, v = -v / 2 + x, i / 2; a spike leaves i = 0, v = 1
def test_resonance_by_hand():
    neuron = jsnn.ResonateAndFire(0.5, math.pi / 2)
    state, trace = neuron.init((1,)), []
    for x in (4, 0, 1, 0):
        state, spikes = neuron.step(state, jnp.array([x], jnp.float32))
        trace.append((spikes.item(), state.v.item(), state.i.item()))
    np.testing.assert_allclose(trace, [(0, 0, 4), (1, 1, 0), (0, 0, 0.5), (0, 0.25, 0)], atol=1e-6)


# at v_reset = 1, far above these thresholds, one spike would call forth the next for ever
@pytest.mark.parametrize("threshold", [0.25, 0.5, 2.0])
def test_a_resonator_is_reset_to_its_threshold(threshold):
    neuron = jsnn.ResonateAndFire(threshold=threshold)
    layer = jsnn.record(neuron, jnp.zeros((12, 1)).at[0].set(4 * threshold))["ResonateAndFire"]
    assert layer.outputs.sum() == 1
    assert layer.states.v[jnp.argmax(layer.outputs)] == threshold


def test_without_a_reset_the_exponential_neuron_stays_finite():
    neuron = jsnn.EIF(0.5, sharpness=0.125, reset="none")
    v, gradient = jax.value_and_grad(lambda x: jsnn.unroll(neuron, x)[0].v)(jnp.full(50, 2.0))
    assert 1e5 < v < 1e20
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(("name", "spikes"), [
    ("regular_spiking", 5), ("intrinsically_bursting", 8), ("chattering", 17), ("fast_spiking", 22),
    ("low_threshold_spiking", 16), ("thalamo_cortical", 40), ("resonator", 29),
])  # fmt: skip
def test_presets_of_izhikevich_s_neuron(name, spikes):
    neuron = jsnn.Izhikevich.preset(name)
    arrays = {name: jnp.array(getattr(neuron, name)) for name in ("a", "b", "d", "v_init", "v_reset")}
    neuron = dataclasses.replace(neuron, **arrays)  # one compilation for all
    assert unroll(neuron, jnp.full((200, 1), 10.0))[1].sum() == spikes
    assert unroll(neuron, jnp.zeros((200, 1)))[1].sum() == 0


def test_a_window_of_currents_goes_on_where_it_ended():
    neuron = jsnn.SlidingPSN(jnp.asarray(np.random.default_rng(0).normal(0, 1, (4, N)), jnp.float32))
    state, spikes = unroll(neuron, CURRENTS)
    middle, first = jsnn.unroll(neuron, CURRENTS[:2])  # shorter than the window
    assert_trees_close(jsnn.unroll(neuron, CURRENTS[2:], middle), (state, spikes[2:]))
    np.testing.assert_array_equal(first, spikes[:2])


@pytest.mark.parametrize(("offset", "same_as"), [(1.0, 1.0), (-1.0, 0.0)])
def test_trained_decays_are_clipped_where_they_are_used(offset, same_as):
    for make in (jsnn.LI, jsnn.ALIF, lambda decay: jsnn.CuBaLI(0.5, decay)):
        led_astray = jax.tree.map(lambda p: p + offset, make(nnx.Param(jnp.full(N, 0.5))))
        assert_trees_close(unroll(led_astray, CURRENTS), unroll(make(jnp.full(N, same_as)), CURRENTS))


def test_a_decay_close_to_one_loses_no_precision():
    state, _ = jsnn.unroll(jsnn.LI(0.9999), jnp.zeros((2000, 1)), jsnn.LI().init((1,))._replace(v=jnp.ones(1)))
    np.testing.assert_allclose(state.v, 0.9999**2000, rtol=1e-5)  # 0.9999 in float32 would be off by 2e-5


@pytest.mark.parametrize("discretization", ["exact", "euler"])
@pytest.mark.parametrize("tau", [2e-3, 10.0, 1e4])
def test_a_time_constant_of_any_length_loses_no_precision(tau, discretization):
    choices, taus = {"dt": 1e-3, "discretization": discretization}, np.full(2, tau)
    leak = 1e-3 / tau if discretization == "euler" else -math.expm1(-1e-3 / tau)
    trained = jsnn.ParametricLIF.from_time_constants(taus, **choices)
    np.testing.assert_allclose(jax.nn.sigmoid(trained.w[...]), leak, rtol=1e-5)
    decaying = jsnn.LI.from_time_constants(taus, **choices, v_rest=1.0).step(jsnn.LI().init((2,)), jnp.zeros(2))[1]
    np.testing.assert_allclose(decaying, leak, rtol=1e-6)


def test_a_time_constant_far_below_a_step_is_a_finite_logit():
    w = jsnn.ParametricLIF.from_time_constants(1e-6, dt=1e-3, discretization="exact").w[...]
    assert w == pytest.approx(1000.0)


@pytest.mark.parametrize(("discretization", "decay", "decay_slow"), [
    ("exact", math.exp(-0.1), math.exp(-0.05)),
    ("euler", 0.9, 0.95),
])  # fmt: skip
def test_from_time_constants(discretization, decay, decay_slow):
    one, two = (10e-3,), (10e-3, 20e-3)
    choices = {"dt": 1e-3, "discretization": discretization}
    assert jsnn.LIF.from_time_constants(*one, **choices).decay == pytest.approx(decay)
    assert jsnn.LI.from_time_constants(*one, **choices, gain=0.5).gain == 0.5
    adaptive = jsnn.ALIF.from_time_constants(*two, **choices, threshold=2.0)
    assert (adaptive.decay, adaptive.decay_adaptation, adaptive.threshold) == pytest.approx((decay, decay_slow, 2.0))
    for cuba in (jsnn.CuBaLIF, jsnn.CuBaLI):
        neuron = cuba.from_time_constants(*two, **choices)
        assert (neuron.decay, neuron.decay_syn) == pytest.approx((decay, decay_slow))
    per_neuron = jsnn.LIF.from_time_constants(jnp.array([10e-3, 20e-3]), **choices)
    np.testing.assert_allclose(per_neuron.decay, [decay, decay_slow], rtol=1e-6)
    for other in (jsnn.EIF, jsnn.QIF):
        assert other.from_time_constants(*one, **choices).decay == pytest.approx(decay)
    for other in (jsnn.AdEx, jsnn.AdQIF):
        neuron = other.from_time_constants(*two, **choices)
        assert (neuron.decay, neuron.decay_adaptation) == pytest.approx((decay, decay_slow))
    own = jsnn.ParametricLIF.from_time_constants(*one, **choices)
    np.testing.assert_allclose(jax.nn.sigmoid(own.w[...]), 1 - decay, rtol=1e-6)
    own = jsnn.ParametricLIF.from_time_constants(np.array([2e-3, 5e-3]), dt=1e-3)
    np.testing.assert_allclose(jax.nn.sigmoid(own.w[...]), [0.5, 0.2], rtol=1e-6)
    traced = jax.jit(lambda tau: jsnn.LIF.from_time_constants(tau, **choices).decay)(10e-3)
    assert traced == pytest.approx(decay)


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: jsnn.LIF(threshold=-1.0), ValueError, "threshold must be > 0, got -1.0"),
    (lambda: jsnn.IF(threshold=0.0), ValueError, "threshold must be > 0, got 0.0"),
    (lambda: jsnn.ALIF(threshold=float("nan")), ValueError, "threshold must be > 0, got nan"),
    (lambda: jsnn.LIF(threshold=jnp.array([1.0, -2.0])), ValueError, "threshold must be > 0, got [ 1. -2.]"),
    (lambda: jsnn.LIF(threshold=nnx.Param(jnp.zeros(1))), ValueError, "threshold must be > 0, got [0.]"),
    (lambda: jsnn.LIF(1.5), ValueError, "decay must be in [0, 1], got 1.5"),
    (lambda: jsnn.LI(-0.5), ValueError, "decay must be in [0, 1], got -0.5"),
    (lambda: jsnn.LIF(nnx.Param(jnp.array([0.5, 2.0]))), ValueError, "decay must be in [0, 1], got [0.5 2. ]"),
    (lambda: jsnn.CuBaLIF(0.5, 1.5), ValueError, "decay_syn must be in [0, 1], got 1.5"),
    (lambda: jsnn.CuBaLI(0.5, -1.0), ValueError, "decay_syn must be in [0, 1], got -1.0"),
    (lambda: jsnn.ALIF(0.5, 1.5), ValueError, "decay_adaptation must be in [0, 1], got 1.5"),
    (lambda: jsnn.EIF(sharpness=0.0), ValueError, "sharpness must be > 0, got 0.0"),
    (lambda: jsnn.QIF(1.5), ValueError, "decay must be in [0, 1], got 1.5"),
    (lambda: jsnn.QIF(curvature=-1.0), ValueError, "curvature must be > 0, got -1.0"),
    (lambda: jsnn.EIF.from_time_constants(1e-4, dt=1e-3), ValueError, "tau_mem = 0.0001 is shorter than dt = 0.001"),
    (lambda: jsnn.AdEx(0.5, 1.5), ValueError, "decay_adaptation must be in [0, 1], got 1.5"),
    (lambda: jsnn.ParametricLIF.from_time_constants(1e-3, dt=1e-3), ValueError,
     "tau_mem must be > dt = 0.001, as the leak dt / tau_mem is below 1, got 0.001"),
    (lambda: jsnn.Izhikevich(a=0.0), ValueError, "a must be > 0, got 0.0"),
    (lambda: jsnn.Izhikevich(dt=-1.0), ValueError, "dt must be > 0, got -1.0"),
    (lambda: jsnn.Izhikevich.preset("chatering"), ValueError, "no preset 'chatering': did you mean 'chattering'?"),
    (lambda: jsnn.AdaptiveRefractoryLIF(tau_adaptation=0.0), ValueError, "tau_adaptation must be > 0, got 0.0"),
    (lambda: jsnn.AdaptiveRefractoryLIF(adaptation=-0.5), ValueError, "adaptation must be >= 0, got -0.5"),
    (lambda: jsnn.ResonateAndFire(2.0), ValueError, "decay must be in [0, 1], got 2.0"),
    (lambda: jsnn.ResonateAndFire.from_frequency(-1.0, 0.01, 1e-3), ValueError, "frequency must be >= 0, got -1.0"),
    (lambda: jsnn.ResonateAndFire.from_frequency(501.0, 0.01, 1e-3), ValueError, "frequency must be <= 1 / (2 dt)"),
    (lambda: jsnn.ConductanceLIF(0.5, 0.5, 1.5), ValueError, "decay_inhibitory must be in [0, 1], got 1.5"),
    (lambda: jsnn.SigmaDelta(threshold=0.0), ValueError, "threshold must be > 0, got 0.0"),
    (lambda: jsnn.BurstIF(max_spikes=0), ValueError, "max_spikes must be a whole number >= 1, or infinite, got 0"),
    (lambda: jsnn.BurstIF(max_spikes=1.5), ValueError, "max_spikes must be a whole number >= 1, or infinite, got 1.5"),
    (lambda: jsnn.SigmaDelta(surrogate=None), TypeError, "such as jsnn.surrogate.arctan(), got None"),
    (lambda: jsnn.SRM0(decay_refractory=-1.0), ValueError, "decay_refractory must be in [0, 1], got -1.0"),
    (lambda: jsnn.SRM0(refractory=-1.0), ValueError, "refractory must be >= 0, got -1.0"),
    (lambda: jsnn.SlidingPSN(0.5), ValueError, "weights must be an array [k] or [k, N], k at least 1, got 0.5"),
    (lambda: jsnn.SlidingPSN.of_order(0), ValueError, "k must be >= 1, got 0"),
    (lambda: jsnn.LIF(reset="soft"), ValueError,
     "reset must be 'subtract', 'zero', 'none' or a function (v, spikes, threshold) -> v, got 'soft'"),
    (lambda: jsnn.IF(surrogate="atan"), TypeError, "such as jsnn.surrogate.arctan(), got 'atan'"),
    (lambda: jsnn.CuBaLIF(synapse_order="last"), ValueError,
     "synapse_order must be 'decay_then_jump' or 'jump_then_decay', got 'last'"),
    (lambda: jsnn.LIF(surrogate=surrogate.arctan), TypeError, "such as jsnn.surrogate.arctan(), got <function arctan"),
    (lambda: jsnn.SRM0(surrogate=surrogate.erf), TypeError, "such as jsnn.surrogate.erf(), got <function erf"),
    (lambda: jsnn.LIF("0.9"), TypeError, "decay must be a number, an array or an nnx.Param, got '0.9'"),
    (lambda: jsnn.LIF([0.5, 0.9]), TypeError, "decay must be a number, an array or an nnx.Param, got [0.5, 0.9]"),
    (lambda: jsnn.LIF(nnx.Param(jnp.full(3, 0.5))).init((2, 4)), ValueError,
     "decay has shape (3,), which does not fit neurons of shape (2, 4): give a number, or one for each on the last"),
    (lambda: jsnn.CuBaLI(gain=jnp.ones(4)).init((2, 1)), ValueError, "gain has shape (4,), which does not fit"),
    (lambda: jsnn.ALIF(v_rest=jnp.zeros((1, 4))).init((4,)), ValueError, "v_rest has shape (1, 4), which does not"),
    (lambda: jsnn.LIF.from_time_constants(-0.01, dt=1e-3), ValueError, "tau_mem must be > 0, got -0.01"),
    (lambda: jsnn.LI.from_time_constants(0.01, dt=0.0), ValueError, "dt must be > 0, got 0.0"),
    (lambda: jsnn.CuBaLI.from_time_constants(0.01, -0.005, dt=1e-3), ValueError, "tau_syn must be > 0, got -0.005"),
    (lambda: jsnn.ALIF.from_time_constants(0.01, 0.0, dt=1e-3), ValueError, "tau_adaptation must be > 0, got 0.0"),
    (lambda: jsnn.LIF.from_time_constants(0.01, dt=0.02, discretization="euler"), ValueError,
     "tau_mem = 0.01 is shorter than dt = 0.02, for which Euler's step is unstable: take a smaller dt or"),
    (lambda: jsnn.LIF.from_time_constants(0.01, dt=1e-3, discretization="rk4"), ValueError,
     "discretization must be 'exact' or 'euler', got 'rk4'"),
])  # fmt: skip
def test_bad_parameters_are_named_with_their_cure(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()


@pytest.mark.parametrize(
    "neuron",
    [jsnn.QIF(), jsnn.QIF(reset="none"), jsnn.AdQIF(), jsnn.Izhikevich(), jsnn.EIF(), jsnn.ConductanceLIF()],
    ids=lambda neuron: type(neuron).__name__,
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_states_stay_finite_under_extreme_currents(neuron, dtype):
    currents = jnp.broadcast_to(jnp.array([1e20, -1e20, 3e38, 1e4], dtype), (20, 4))
    currents = currents.at[:, 2].set(3e38 if isinstance(neuron, jsnn.ConductanceLIF) else 1e10)
    state, spikes = jsnn.unroll(neuron, currents)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves((state, spikes)))


def test_poisson_spikes_beyond_int32_are_what_is_expected():
    neuron = jsnn.PoissonSpiking(jax.random.key(0), dt=1.0)
    outputs = jsnn.unroll(neuron, jnp.array([[1e12, 1e20, jnp.inf]]))[1]
    np.testing.assert_array_equal(outputs, np.array([[1e12, 1e20, jnp.inf]], np.float32))


# Shapes that do not fit

STATEFUL = ("MeanRate", "Rate", "user_defined")  # these have no state, or check nothing themselves


@pytest.mark.rows(12)
@over_neurons(*STATEFUL)
def test_a_state_of_another_batch_is_refused(neuron):
    for batch, other in ((1, 8), (8, 1)):
        state = jax.eval_shape(lambda batch=batch: neuron.init((batch, N)))
        currents = jax.ShapeDtypeStruct((T, other, N), jnp.float32)
        for run in (jsnn.unroll, jsnn.record):
            with pytest.raises(ValueError, match="state must hold arrays of shapes"):
                jax.eval_shape(run, neuron, currents, state)
        with pytest.raises(ValueError, match=r"state must hold arrays of shapes|cannot take"):
            jax.eval_shape(neuron.step, state, jax.ShapeDtypeStruct((other, N), jnp.float32))


@pytest.mark.rows(12)
@over_neurons(*STATEFUL)
def test_a_state_of_integers_is_refused(neuron):
    def whole(leaf):
        is_float = jnp.issubdtype(leaf.dtype, jnp.inexact)
        return jax.ShapeDtypeStruct(leaf.shape, jnp.int32) if is_float else leaf

    state = jax.tree.map(whole, jax.eval_shape(lambda: neuron.init((B, N))))
    for run, current in ((jsnn.unroll, CURRENTS), (neuron.step, CURRENTS[0])):
        with pytest.raises(TypeError, match="state must be floating point, got int32: convert it with"):
            jax.eval_shape(run, *((neuron, current, state) if run is jsnn.unroll else (state, current)))


@over_neurons("user_defined")
def test_state_and_current_in_the_other_order_are_named(neuron):
    with pytest.raises((TypeError, ValueError), match=r"step takes \(state, current\), .* got (ArrayImpl and|shapes)"):
        neuron.step(CURRENTS[0], neuron.init((B, N)))
    with pytest.raises(TypeError, match=rf"^{type(neuron).__name__} is not called, .* jsnn.unroll\(network, inputs\)"):
        neuron(CURRENTS[0])


def test_states_of_another_kind_are_named():
    with pytest.raises(ValueError, match=r"state must be LIFState, as LIF.init gives it, got ArrayImpl"):
        jsnn.LIF().step(CURRENTS[0], CURRENTS[0])
    with pytest.raises(ValueError, match=r"state must hold .*\[\(3, 4\), \(3, 4\)\].* got \[\(3, 4\)\]"):
        jsnn.CuBaLIF().step(jsnn.LIF().init((B, N)), CURRENTS[0])


PARAMETERS = [
    (type(neuron), name)
    for neuron in (
        jsnn.IF(), jsnn.LIF(), jsnn.CuBaLIF(), jsnn.ALIF(), jsnn.EIF(), jsnn.QIF(), jsnn.AdEx(), jsnn.AdQIF(),
        jsnn.ParametricLIF(), jsnn.Izhikevich(), jsnn.AdaptiveRefractoryLIF(), jsnn.ResonateAndFire(),
        jsnn.ConductanceLIF(),
        jsnn.SigmaDelta(), jsnn.SRM0(), jsnn.SlidingPSN(), jsnn.LI(), jsnn.CuBaLI(), jsnn.BurstIF(),
        jsnn.SpikingActivation(), jsnn.RefractoryLIF(), jsnn.filters.Lowpass(0.1), jsnn.filters.Alpha(0.1),
    )
    for name in neuron.per_neuron() if "weights" not in name
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), PARAMETERS, ids=lambda value: getattr(value, "__name__", value))
@pytest.mark.parametrize("shape", [(N - 1,), (8, N)])
def test_no_parameter_is_broadcast_against_the_batch(kind, name, shape):
    arguments = {name: np.full(shape, 0.5)} | ({"tau": 0.1} if "filters" in kind.__module__ and name != "tau" else {})
    neuron, state = kind(**arguments), kind(**arguments | {name: 0.5}).init((1, N))
    wanted = re.escape(f"{name} has shape {shape}, which does not fit neurons of shape (1, {N})")
    for run in (lambda: neuron.init((1, N)), lambda: neuron.step(state, CURRENTS[0, :1])):
        with pytest.raises(ValueError, match=wanted):
            run()


@pytest.mark.parametrize("neuron", [
    jsnn.Refractory(jsnn.LIF(), np.arange(3.0)), jsnn.Stochastic(jsnn.LIF(), jax.random.key(0), np.ones((8, N))),
    jsnn.Delay(np.ones(3)), jsnn.SlidingPSN(jnp.ones((2, 3))), jsnn.PoissonSpiking(jax.random.key(0), dt=np.ones(3)),
    jsnn.Recurrent(jsnn.LIF(threshold=np.ones(3)), linear(0)), jsnn.Sequential(linear(0), jsnn.LIF(gain=np.ones(3))),
    jsnn.compat.snntorch.leaky(0.5, np.ones(3)), jsnn.compat.snntorch.alpha(np.full(3, 0.5), 0.25),
    jsnn.compat.spikingjelly.qif_node(v_threshold=np.ones((8, N))), jsnn.compat.nengo.lif(tau_rc=np.ones(3)),
    jsnn.compat.nengo.triangle(0.002, initial_level=np.ones(3)),
], ids=lambda neuron: type(neuron).__name__)  # fmt: skip
def test_nor_is_one_of_a_wrapper_a_network_or_a_preset(neuron):
    with pytest.raises(ValueError, match=r"has shape .* which does not fit neurons of shape \(1, 4\)"):
        jsnn.unroll(neuron, CURRENTS[:, :1])


IN_SECONDS = {
    "LIF": lambda dt: jsnn.LIF.from_time_constants(20e-3, dt=dt),
    "LI": lambda dt: jsnn.LI.from_time_constants(20e-3, dt=dt, discretization="euler"),
    "CuBaLIF": lambda dt: jsnn.CuBaLIF.from_time_constants(20e-3, 5e-3, dt=dt, gain=dt / 20e-3),
    "CuBaLI": lambda dt: jsnn.CuBaLI.from_time_constants(20e-3, 5e-3, dt=dt, gain=dt / 20e-3),
    "ALIF": lambda dt: jsnn.ALIF.from_time_constants(20e-3, 50e-3, dt=dt),
    "EIF": lambda dt: jsnn.EIF.from_time_constants(20e-3, dt=dt),
    "QIF": lambda dt: jsnn.QIF.from_time_constants(20e-3, dt=dt),
    "AdEx": lambda dt: jsnn.AdEx.from_time_constants(20e-3, 50e-3, dt=dt, coupling=0.5, gain=dt / 20e-3),
    "AdQIF": lambda dt: jsnn.AdQIF.from_time_constants(20e-3, 50e-3, dt=dt, coupling=0.5, gain=dt / 20e-3),
    "ParametricLIF": lambda dt: jsnn.ParametricLIF.from_time_constants(20e-3, dt=dt),
    "ConductanceLIF": lambda dt: jsnn.ConductanceLIF.from_time_constants(20e-3, 5e-3, 10e-3, dt=dt, e_excitatory=0.2,
                                                                        e_inhibitory=0.2),
    "SRM0": lambda dt: jsnn.SRM0.from_time_constants(20e-3, 5e-3, dt=dt, gain=dt / 20e-3),
    "SRM0_refractory": lambda dt: jsnn.SRM0.from_time_constants(20e-3, 5e-3, dt=dt, gain=0.0, tau_refractory=8e-3),
    "ResonateAndFire": lambda dt: jsnn.ResonateAndFire.from_frequency(20.0, 20e-3, dt),
    "norse_lif": lambda dt: jsnn.compat.norse.lif(dt=dt),
    "norse_li": lambda dt: jsnn.compat.norse.li(dt=dt),
    "norse_lif_current_encoder": lambda dt: jsnn.compat.norse.lif_current_encoder(dt=dt),
    "snntorch_lapicque": lambda dt: jsnn.compat.snntorch.lapicque(R=4.0, C=5e-3, time_step=dt),
    "nengo_lif": lambda dt: jsnn.compat.nengo.lif(dt=dt, initial_voltage=0.2),
    "nengo_lowpass": lambda dt: jsnn.compat.nengo.lowpass(0.01, dt=dt),
    "Izhikevich": lambda dt: jsnn.Izhikevich(dt=dt / 10),
}  # fmt: skip


@pytest.mark.parametrize("make", IN_SECONDS.values(), ids=IN_SECONDS.keys())
def test_what_is_given_in_seconds_does_not_depend_on_dt(make):
    def after_5_ms(dt):
        neuron = make(dt)
        state = jax.tree.map(lambda x: jnp.full_like(x, 0.2), neuron.init((1, 1)))
        for _ in range(round(5e-3 / dt)):
            state, _ = neuron.step(state, jnp.zeros((1, 1)))
        return state

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0.1, atol=0.005), after_5_ms(1e-3), after_5_ms(0.5e-3)
    )


def test_srm0_forgets_its_spikes_with_a_time_constant_of_its_own():
    neuron = jsnn.SRM0.from_time_constants(20e-3, 5e-3, dt=1e-3)
    assert neuron.decay_refractory == neuron.decay == pytest.approx(math.exp(-1 / 20))
    assert jsnn.SRM0.from_time_constants(20e-3, 5e-3, dt=1e-3, decay_refractory=0.5).decay_refractory == 0.5
    with pytest.raises(TypeError, match="give tau_refractory or decay_refractory, got both"):
        jsnn.SRM0.from_time_constants(20e-3, 5e-3, dt=1e-3, tau_refractory=1e-2, decay_refractory=0.5)


@pytest.mark.parametrize(("make", "cure"), [
    (lambda: jsnn.LIF(beta=0.9), "'beta': did you mean 'decay'?"),
    (lambda: jsnn.LIF(0.9, init_hidden=True),
     "'init_hidden': no state is hidden, jsnn.unroll(neuron, inputs) carries it"),
    (lambda: jsnn.LIF(tau=0.01), "'tau': time constants go to LIF.from_time_constants(...)"),
    (lambda: jsnn.LIF(treshold=1.0), "'treshold': did you mean 'threshold'?"),
    (lambda: jsnn.LIF.from_time_constants(0.01, dt=1e-3, v_th=1.0),
     "'v_th': did you mean 'threshold'?"),
    (lambda: jsnn.CuBaLIF(alpha=0.9), "'alpha': did you mean 'decay_syn'?"),
    (lambda: jsnn.Refractory(jsnn.LIF(), time=3), "'time'"),
    (lambda: dataclasses.replace(jsnn.LIF(), spike_grad=None), "'spike_grad': did you mean 'surrogate'?"),
    (lambda: jsnn.compat.snntorch.leaky(0.9, init_hidden=True), "'init_hidden': no state is"),
    (lambda: jsnn.compat.snntorch.leaky(decay=0.9), "'decay': did you mean 'beta'?"),
    (lambda: jsnn.compat.snntorch.lapicque(0.9, learn_beta=True), "'learn_beta': what is "),
    (lambda: jsnn.compat.norse.lif(threshold=0.5), "'threshold': did you mean 'v_th'?"),
    (lambda: jsnn.compat.spikingjelly.lif_node(step_mode="m"), "'step_mode': jsnn.unroll("),
    (lambda: jsnn.compat.nengo.lif(v_init=0.5), "'v_init': did you mean 'initial_voltage'?"),
    (lambda: jsnn.compat.keras_spiking.lowpass(tau=0.1), "'tau'"),
])  # fmt: skip
def test_an_unknown_keyword_is_answered_with_the_one_that_is_meant(make, cure):
    with pytest.raises(TypeError, match=re.escape(f"() got an unexpected keyword argument {cure}")) as error:
        make()
    assert "\n" not in str(error.value)


def test_a_call_with_a_state_is_answered_with_how_a_neuron_is_run():
    def cell(x):
        return jsnn.LIF(0.9)(x, jnp.zeros((B, N)))

    message = r"LIF is not called, as its state is passed in and out: .* in a jsnn.Network it is called with its input"
    with pytest.raises(TypeError, match=message):
        cell(CURRENTS[0])
    with pytest.raises(ValueError, match=message):
        jsnn.unroll(jsnn.Network(cell), CURRENTS)
