"""Trained parameters past their bounds, and on them; and that what is fixed has no gradient."""

import copy
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jsnn
from jsnn.compat import snntorch
from jsnn.filters import Alpha, Lowpass
from jsnn.neurons.ranges import SMALLEST, project

ONES = jnp.ones((5, 1))


def led_to(neuron, value):
    """The neuron after an optimiser has led all that is trained in it to a value."""
    return jax.tree.map(lambda leaf: jnp.full_like(leaf, value), neuron)


def gradient(neuron, sign=1.0, x=ONES, **options):
    by_neuron = jax.grad(lambda neuron: sign * jsnn.unroll(neuron, x, **options)[1].sum())
    return jax.tree.leaves(jax.jit(by_neuron)(neuron))[0]


@pytest.mark.parametrize(("given", "held"), [
    (0.5, 0.5), (1, 1.0), ([0.2, 0.8], [0.2, 0.8]), (np.float64(0.5), 0.5), (np.ones(2, int), [1.0, 1.0]),
    (jnp.array(1), 1.0), (np.int64(1), 1.0),
])  # fmt: skip
def test_a_number_can_be_trained(given, held):
    shared = nnx.Param(given)
    neuron = jsnn.LI(shared)
    assert neuron.decay is shared
    assert neuron.decay[...].tolist() == pytest.approx(held)
    assert jax.grad(lambda neuron: jsnn.unroll(neuron, jnp.ones((3, 2)))[1].sum())(neuron).decay[...].shape == np.shape(
        given
    )


@pytest.mark.parametrize("held", ["a", None, True])
def test_what_a_trained_parameter_cannot_hold(held):
    with pytest.raises(TypeError, match=f"decay must hold a number or an array, got Param\\({held!r}\\)"):
        jsnn.LI(nnx.Param(held))


# The membrane of a leaky integrator on five ones is 1 + d + ... + d^t: d/dd of their sum is 4 + 6 d + 6 d^2 + 4 d^3.
@pytest.mark.rows(1)
@pytest.mark.parametrize("method", ["scan", "parallel", "fused"])
@pytest.mark.parametrize(("decay", "up", "down"), [
    (0.0, 4.0, 4.0), (1.0, 20.0, 20.0),  # on the bounds, whole
    (1.001, 20.0, 0.0), (-0.1, 0.0, 4.0),  # outside, where descent leads back
])  # fmt: skip
def test_gradient_of_a_decay_on_and_past_its_bounds(decay, up, down, method):
    neuron = led_to(jsnn.LI(nnx.Param(jnp.array(0.5))), decay)
    np.testing.assert_allclose(gradient(neuron, method=method), up, rtol=1e-6)
    np.testing.assert_allclose(-gradient(neuron, -1.0, method=method), down, rtol=1e-6)


@pytest.mark.slow
def test_the_gradient_of_all_steps_decides_whether_it_leads_back():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(20, 2, 3)), jnp.float32)
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(20, 2, 3)), jnp.float32)

    def of(decay, sign):
        return jax.grad(lambda n: sign * (weights * jsnn.unroll(n, x, method="scan")[1]).sum())(decay).decay[...]

    inside, outside = (led_to(jsnn.LI(nnx.Param(jnp.full(3, 0.5))), decay) for decay in (1.0, 1.1))
    for sign in (1.0, -1.0):
        whole = of(inside, sign)
        np.testing.assert_allclose(of(outside, sign), jnp.where(whole > 0, whole, 0), rtol=1e-5)


@pytest.mark.rows(1)
@pytest.mark.parametrize("value", [-1.0, 0.0, 0.5, 1.0, 2.0])
def test_forward_mode_passes_straight_through(value):
    assert jax.jvp(lambda x: project(x, 0.0, 1.0), (value,), (3.0,)) == (min(max(value, 0.0), 1.0), 3.0)
    neuron = led_to(jsnn.LI(nnx.Param(jnp.array(0.5))), value)
    bounded = led_to(neuron, min(max(value, 0.0), 1.0))
    forward = jax.jit(jax.jacfwd(lambda neuron: jsnn.unroll(neuron, ONES)[1].sum()))
    assert jax.tree.leaves(forward(neuron)) == jax.tree.leaves(forward(bounded))
    several = jax.tree.map(lambda p: p[None], neuron)
    np.testing.assert_array_equal(jax.jit(jax.vmap(gradient))(several), gradient(neuron)[None])


def trained(value):
    return nnx.Param(jnp.asarray(value, jnp.float32))


# (a neuron, the parameter, where it is led, what is used in its place)
PARAMETERS = {
    "LIF.decay": (jsnn.LIF(trained(0.5)), "decay", 1.5, 1.0),
    "LIF.threshold": (jsnn.LIF(0.5, threshold=trained(1.0)), "threshold", -0.5, SMALLEST),
    "CuBaLIF.decay_syn": (jsnn.CuBaLIF(0.5, trained(0.5)), "decay_syn", -1.0, 0.0),
    "ALIF": (jsnn.ALIF(0.5, trained(0.5)), "decay_adaptation", 2.0, 1.0),
    "AdEx": (jsnn.AdEx(0.5, sharpness=trained(0.5)), "sharpness", -1.0, SMALLEST),
    "AdQIF": (jsnn.AdQIF(0.5, curvature=trained(0.5)), "curvature", -1.0, SMALLEST),
    "ConductanceLIF": (jsnn.ConductanceLIF(decay_excitatory=trained(0.5)), "decay_excitatory", 2.0, 1.0),
    "Izhikevich": (jsnn.Izhikevich(dt=trained(1e-3)), "dt", -1.0, SMALLEST),
    "ResonateAndFire": (jsnn.ResonateAndFire(trained(0.5)), "decay", 2.0, 1.0),
    "SRM0": (jsnn.SRM0(refractory=trained(1.0)), "refractory", -1.0, 0.0),
    "SlidingPSN": (jsnn.SlidingPSN(jnp.ones(2), trained(1.0)), "threshold", -1.0, SMALLEST),
    "SigmaDelta": (jsnn.SigmaDelta(threshold=trained(1.0)), "threshold", -1.0, SMALLEST),
    "RefractoryLIF": (jsnn.RefractoryLIF(tau_ref=trained(2e-3)), "tau_ref", -1.0, 0.0),
    "AdaptiveRefractoryLIF": (
        jsnn.AdaptiveRefractoryLIF(tau_adaptation=trained(1.0)), "tau_adaptation", -1.0, SMALLEST
    ),
    "SpikingActivation": (jsnn.SpikingActivation(dt=trained(0.1)), "dt", -1.0, SMALLEST),
    "Lowpass": (Lowpass(trained(0.1)), "tau", -1.0, 1e-8),
    "Alpha.dt": (Alpha(0.1, trained(0.1)), "dt", -1.0, SMALLEST),
    "Delay": (jsnn.Delay(trained(2.0), longest=4), "steps", 5.3, 4.0),
    "Refractory": (jsnn.Refractory(jsnn.LIF(0.5), trained(2.0)), "period", -1.0, 0.0),
    "Stochastic": (jsnn.Stochastic(jsnn.LIF(0.5), jax.random.key(0), trained(0.1)), "width", -1.0, SMALLEST),
    "snntorch.alpha": (snntorch.alpha(0.9, 0.8, learn_alpha=True), "alpha", 0.5, 0.8 + SMALLEST),
    "snntorch.beta": (snntorch.alpha(0.9, 0.8, learn_beta=True), "beta", 2.0, 0.9 - SMALLEST),
}  # fmt: skip


@pytest.fixture(params=PARAMETERS.values(), ids=PARAMETERS)
def astray(request):
    neuron, name, value, used = request.param
    _, params, rest = nnx.split(neuron, nnx.Param, ...)
    graph = nnx.split(neuron, nnx.Param, ...)[0]
    return nnx.merge(graph, led_to(params, value), rest), name, used


@pytest.mark.rows(4)
def test_copies_hold_what_is_used(astray):
    neuron, name, used = astray
    copies = {
        "replace": dataclasses.replace(neuron),
        "with_dt": jsnn.with_dt(neuron, 0.01) if name != "dt" else dataclasses.replace(neuron),
        "jit": jax.jit(dataclasses.replace)(neuron),
        "of a copy": dataclasses.replace(dataclasses.replace(neuron)),
    }
    if hasattr(copy, "replace"):  # Python 3.13
        copies["copy.replace"] = copy.replace(neuron)
    has_dt = any(field.name == "dt" for field in dataclasses.fields(neuron))
    for way, one in copies.items():
        if way == "with_dt" and not has_dt:
            continue
        np.testing.assert_allclose(getattr(one, name)[...], used, rtol=1e-6, err_msg=way)
        assert isinstance(getattr(one, name), nnx.Param)


@pytest.mark.slow
def test_what_is_led_astray_runs_as_its_copy(astray):
    neuron, _, _ = astray
    x = jnp.asarray(np.random.default_rng(0).normal(1, 1, (8, 2, 3)), jnp.float32)
    state, y = jsnn.unroll(neuron, x)
    _, z = jsnn.unroll(dataclasses.replace(neuron), x)
    np.testing.assert_array_equal(y, z)
    before = neuron.init((2, 3))
    np.testing.assert_allclose(neuron.step(before, x[0])[1], y[0], rtol=1e-6)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating))


def test_a_new_parameter_out_of_range_is_an_error():
    with pytest.raises(ValueError, match="threshold must be > 0"):
        jsnn.IF(threshold=nnx.Param(jnp.array(-0.5)))
    with pytest.raises(ValueError, match="threshold must be > 0"):
        dataclasses.replace(jsnn.IF(threshold=nnx.Param(jnp.array(0.5))), threshold=-1.0)


def test_a_threshold_below_zero_makes_no_membrane_grow():
    neuron = led_to(jsnn.IF(threshold=trained(1.0)), -0.5)
    state, spikes = jsnn.unroll(neuron, jnp.zeros((1000, 1)))
    assert (state.v, spikes.sum()) == (0, 0)
    leaky = led_to(jsnn.LIF(0.5, threshold=trained(1.0)), -0.5)
    assert jsnn.unroll(leaky, jnp.ones((1000, 1)))[0].v < 2


@pytest.mark.rows(1)
@pytest.mark.parametrize("make", [jsnn.conversion.ClipFloorReLU, lambda: jsnn.conversion.NoisyReLU(rngs=nnx.Rngs(0))])
def test_a_trained_activation_past_its_bound(make):
    activation = make()
    activation.eval()
    activation.threshold[...] = jnp.array(-0.5)
    x = jnp.array([[-1.0, 0.5, 2.0]])
    np.testing.assert_allclose(activation(x), [[0, SMALLEST, SMALLEST]])
    by = nnx.jit(nnx.grad(lambda activation: -activation(x).sum()))(activation)
    np.testing.assert_allclose(by["threshold"][...], -2)  # of the two values above it: it rises again
    network = jsnn.convert(activation, x)
    converted = jax.jit(lambda x: jsnn.unroll(network, x, num_steps=4)[1].mean(0))(x)
    np.testing.assert_allclose(converted, activation(x), atol=1e-9)


def test_a_trained_delay_and_neuron_are_written_as_they_run():
    network = jsnn.Sequential(
        led_to(jsnn.Delay(trained(2.0), longest=4), 5.3), led_to(jsnn.LIF(trained(0.5), threshold=trained(1.0)), -0.5)
    )
    with pytest.warns(UserWarning, match="reset"):
        graph = jsnn.nir.to_nir(network, (1,), dt=1e-3)
    delay, neuron = graph.nodes["0_Delay"], graph.nodes["1_LIF"]
    np.testing.assert_allclose((delay.delay, neuron.tau, neuron.v_threshold), [[4e-3], [1e-3], [SMALLEST]], rtol=1e-6)


def test_weights_of_another_library_are_taken_projected():
    network = jsnn.Sequential(nnx.Linear(1, 1, rngs=nnx.Rngs(0)), snntorch.leaky(0.9, learn_beta=True))
    arrays = {"0.weight": np.ones((1, 1)), "0.bias": np.zeros(1), "1.beta": np.array(1.01)}
    assert jsnn.weights.from_torch(network, arrays, (1,))[0].layers[1].decay[...] == 1.0


# Only an nnx.Param is trained


FIXED = {
    "leaky": lambda: snntorch.leaky(jnp.array([0.5, 0.9])),
    "Delay": lambda: jsnn.Delay(jnp.array([0.5, 1.5])),
    "Lowpass": lambda: Lowpass(jnp.array([2e-3, 5e-3]), initial_level=jnp.array([1.0, 2.0])),
    "rleaky": lambda: snntorch.rleaky(0.5, linear_features=2, learn_recurrent=False, rngs=nnx.Rngs(0)),
    "LIF": lambda: jsnn.LIF(jnp.full(2, 0.5), threshold=jnp.ones(2), gain=jnp.ones(2), v_rest=jnp.zeros(2)),
    "Scale": lambda: jsnn.Sequential(jsnn.LI(0.5), jsnn.nir.Threshold(jnp.array([0.1, 0.2]))),
}


@pytest.mark.rows(1)
@pytest.mark.parametrize("make", FIXED.values(), ids=FIXED)
def test_the_gradient_of_what_is_fixed_is_stopped(make):
    network = jsnn.Sequential(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), make())
    x = jnp.asarray(np.random.default_rng(0).normal(1, 1, (6, 3, 2)), jnp.float32)

    def loss(network):
        return ((jsnn.unroll(network, x)[1] - 0.3) ** 2).sum()

    optimizer = optax.adam(0.1)
    gradients, state = jax.jit(jax.grad(loss))(network), jax.jit(optimizer.init)(network)
    after = optax.apply_updates(network, jax.jit(optimizer.update)(gradients, state)[0])
    assert not np.allclose(after.layers[0].kernel[...], network.layers[0].kernel[...])
    jax.tree.map(np.testing.assert_array_equal, after.layers[1], network.layers[1])


COPIED = {
    "with_dt": (Lowpass(jnp.full(2, 5e-3)), lambda neuron: jsnn.with_dt(neuron, jnp.array(2e-3))),
    "replace": (jsnn.LI(jnp.full(2, 0.9)), lambda neuron: dataclasses.replace(neuron, gain=jnp.array(2.0))),
    "Stochastic": (jsnn.LIF(jnp.full(2, 0.9)), lambda neuron: jsnn.Stochastic(neuron, jax.random.key(0), 0.5)),
}


@pytest.mark.parametrize(("neuron", "change"), COPIED.values(), ids=COPIED)
def test_what_is_fixed_stays_fixed_in_a_copy_made_within_a_loss(neuron, change):
    gradient = jax.grad(lambda neuron: jsnn.unroll(change(neuron), 0.2 * jnp.ones((6, 2)))[1].sum())(neuron)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_what_is_changed_in_a_copy_has_its_derivative():
    def loss(dt):
        return jsnn.unroll(dataclasses.replace(jsnn.with_dt(Lowpass(5e-3), dt), initial_level=2.0), ONES)[1].sum()

    close = np.testing.assert_allclose
    close(jax.grad(loss)(jnp.array(1e-3)), (loss(1.01e-3) - loss(0.99e-3)) / 2e-5, rtol=1e-2)


@pytest.mark.slow
def test_no_autapse_is_trained():
    network = jsnn.compat.norse.lif_recurrent(2, 3, rngs=nnx.Rngs(0), v_th=0.1)
    x = jnp.asarray(np.random.default_rng(0).normal(0, 3, (6, 3, 2)), jnp.float32)
    gradients = jax.grad(lambda network: jsnn.unroll(network, x)[1].sum())(network)
    updates, _ = optax.adam(0.1).update(gradients, optax.adam(0.1).init(network))
    after = optax.apply_updates(network, updates).layers[1].synapse.kernel[...]
    assert np.any(after != network.layers[1].synapse.kernel[...])
    np.testing.assert_array_equal(jnp.diag(after), 0)


def test_an_array_that_a_function_is_given_has_its_derivative():
    derivative = jax.jit(jax.grad(lambda decay: jsnn.unroll(jsnn.LI(decay), ONES)[1].sum()))
    np.testing.assert_allclose(derivative(jnp.array(1.0)), 20, rtol=1e-6)
