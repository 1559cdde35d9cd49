"""SpikingJelly's own outputs, reproduced (golden vectors of SpikingJelly 2.0.0)."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import close

import jsnn
from jsnn import surrogate
from jsnn.compat import spikingjelly

CASES = {
    "IFNode__vreset-0.2_detachFalse": spikingjelly.if_node(v_reset=-0.2),
    "IFNode__vreset0.0_detachFalse": spikingjelly.if_node(),
    "IFNode__vreset0.0_detachTrue": spikingjelly.if_node(detach_reset=True),
    "IFNode__vresetNone_detachFalse": spikingjelly.if_node(v_reset=None),
    "IFNode__vresetNone_detachTrue": spikingjelly.if_node(v_reset=None, detach_reset=True),
    "LIFNode__ATan_tau2": spikingjelly.lif_node(surrogate_function=surrogate.arctan(2.0)),
    "LIFNode__vreset-0.2_decayFalse_detachFalse": spikingjelly.lif_node(2.5, False, v_reset=-0.2),
    "LIFNode__vreset-0.2_decayTrue_detachTrue": spikingjelly.lif_node(2.5, v_reset=-0.2, detach_reset=True),
    "LIFNode__vreset0.0_decayFalse_detachFalse": spikingjelly.lif_node(2.5, False),
    "LIFNode__vreset0.0_decayFalse_detachTrue": spikingjelly.lif_node(2.5, False, detach_reset=True),
    "LIFNode__vreset0.0_decayTrue_detachFalse": spikingjelly.lif_node(2.5),
    "LIFNode__vresetNone_decayFalse_detachFalse": spikingjelly.lif_node(2.5, False, v_reset=None),
    "LIFNode__vresetNone_decayFalse_detachTrue": spikingjelly.lif_node(2.5, False, v_reset=None, detach_reset=True),
    "LIFNode__vresetNone_decayTrue_detachTrue": spikingjelly.lif_node(2.5, v_reset=None, detach_reset=True),
    "ParametricLIFNode__vreset0.0_decayFalse": spikingjelly.parametric_lif_node(decay_input=False),
    "ParametricLIFNode__vreset0.0_decayTrue": spikingjelly.parametric_lif_node(),
    "ParametricLIFNode__vresetNone_decayFalse": spikingjelly.parametric_lif_node(decay_input=False, v_reset=None),
    "QIFNode__vreset-0.1": spikingjelly.qif_node(),
    "EIFNode__vreset-0.1": spikingjelly.eif_node(),
    "IzhikevichNode__a0.0_b0.0": spikingjelly.izhikevich_node(),
}


@jax.jit
def spikes_voltages_and_gradients(neuron, x, weights):
    def loss(neuron, x):
        (layer,) = jsnn.record(neuron, x).values()
        return (layer.outputs * weights).sum(), (layer.outputs, layer.states.v)

    return jax.grad(loss, argnums=(0, 1), has_aux=True)(neuron, x)


@pytest.mark.rows(2)
@pytest.mark.parametrize("stem", CASES)
def test_spikes_voltages_and_gradients(parity, stem):
    golden, neuron = parity(f"sj_{stem}"), CASES[stem]
    numbers = {field.name: getattr(neuron, field.name) for field in dataclasses.fields(neuron)}
    arrays = {name: jnp.asarray(value) for name, value in numbers.items() if isinstance(value, float)}
    neuron = dataclasses.replace(neuron, **arrays)  # so that one compilation serves all that differ in numbers
    (by_neuron, by_x), (spikes, v) = spikes_voltages_and_gradients(neuron, golden["input"], golden["grad_out"])
    np.testing.assert_array_equal(spikes, golden["spk_f32"])
    close(v, golden["v_f32"], 1e-5)
    close(by_x, golden["gx_f32"], 1e-4)
    if "gparam_w_f32" in golden:
        close(by_neuron.w[...], golden["gparam_w_f32"], 1e-4)


# By hand: v - v_c = -1 and -0.5 at v = 0 and 0.5. v = 0.5 at first; then 0.5 + (4 - 0.25 - 0.25) / 2 fires
def test_adaptation_sees_the_membrane_before_its_reset():
    neuron = spikingjelly.izhikevich_node(v_c=1.0, v_rest=0.0, tau_w=2.0, a=1.0, b=0.125)
    state, trace = neuron.init((1,)), []
    for x in (1.0, 4.0, 0.0):
        state, spikes = neuron.step(state, jnp.array([x]))
        trace.append((spikes.item(), state.v.item(), state.w.item()))
    assert trace == [(0, 0.5, 0.25), (1, 0, 0.125 + 2.25 / 2 + 0.125), (0, -0.6875, 0.6875 - 0.6875 / 2)]


# h = (1 + 3) / 2 fires; dh/dx = 1/2, H'(1) = 1/4, and ds/dx = 1/8: v = (1 - s) h changes by -h ds/dx, or not at all
@pytest.mark.rows(1)
@pytest.mark.parametrize(("detach_reset", "by_v"), [(False, -0.25), (True, 0.0)])
def test_detach_reset_leaves_the_gradient_of_the_jump(detach_reset, by_v):
    def after_a_step(x):
        quarter = surrogate.custom(lambda x: jnp.full_like(x, 0.25))
        neuron = spikingjelly.izhikevich_node(
            v_rest=0.0, a0=1.0, b=0.5, w_rest=-3.0, surrogate_function=quarter, detach_reset=detach_reset
        )
        return neuron.step(neuron.init(()), x)[0]

    by_x = jax.jacrev(after_a_step)(1.0)
    assert (by_x.v, by_x.w) == (by_v, 0.5 / 8)


def test_starts_where_spikingjelly_starts():
    state = spikingjelly.izhikevich_node(v_reset=-0.5, v_rest=-0.25, w_rest=0.75).init((2,))
    assert (state.v.tolist(), state.w.tolist()) == ([-0.5, -0.5], [0.75, 0.75])
    assert spikingjelly.eif_node(v_reset=None, v_rest=0.25).init((1,)).v.tolist() == [0]
    assert spikingjelly.if_node(v_reset=-0.5).init((1,)).v.tolist() == [-0.5]


def test_a_membrane_at_its_threshold_spikes():
    x = jnp.array([-0.5, 0.0, 0.5])
    inclusive = spikingjelly.if_node(surrogate_function=surrogate.arctan(2.0)).surrogate
    assert inclusive(x).tolist() == [0, 1, 1]
    by_x = jax.grad(lambda x: inclusive(x).sum())(x)
    np.testing.assert_allclose(by_x, surrogate.arctan(2.0).derivative(x), rtol=1e-6)
    assert hash(spikingjelly.if_node().surrogate) == hash(spikingjelly.qif_node().surrogate)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: spikingjelly.lif_node(tau=0.5), "tau must be >= 1 step, got 0.5"),
    (lambda: spikingjelly.qif_node(tau=0.0), "tau must be >= 1 step, got 0.0"),
    (lambda: spikingjelly.izhikevich_node(tau_w=-1.0), "tau_w must be >= 1 step, got -1.0"),
    (lambda: spikingjelly.parametric_lif_node(1.0), "init_tau must be > 1 and finite, got 1.0"),
    (lambda: spikingjelly.parametric_lif_node(float("inf")), "init_tau must be > 1 and finite, got inf"),
    (lambda: spikingjelly.eif_node(delta_T=0.0), "sharpness must be > 0, got 0.0"),
])  # fmt: skip
def test_bad_parameters_are_named(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


@pytest.mark.parametrize("name", [name for name in spikingjelly.__all__ if name.endswith("node")])
def test_what_makes_a_surrogate_is_not_taken_for_one(name):
    with pytest.raises(TypeError, match=r"surrogate must be a function such as jsnn.surrogate.arctan\(\), got"):
        getattr(spikingjelly, name)(surrogate_function=surrogate.arctan)
