"""What is put around a neuron, by traces worked out by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

import jsnn

unroll = jax.jit(jsnn.unroll, static_argnames="num_steps")


def column(*values):
    return jnp.asarray(values, jnp.float32)[:, None]


def outputs(neuron, currents):
    return unroll(neuron, currents)[1].ravel().tolist()


def test_refractory_rests_and_keeps_its_state():
    neuron = jsnn.Refractory(jsnn.LIF(0.5, threshold=1.0, reset="none"), period=2)
    currents = column(2.0, 9.0, 9.0, 0.0, 0.0)
    layer = jsnn.record(neuron, currents)["Refractory"]
    assert layer.outputs.ravel().tolist() == [1, 0, 0, 0, 0]  # at step 3 v = 1.0, not above the threshold
    assert layer.states.neuron.v.ravel().tolist() == [2.0, 2.0, 2.0, 1.0, 0.5]
    assert layer.states.wait.ravel().tolist() == [2, 1, 0, 0, 0]


# Norse's `lif_refrac_feed_forward_step`: the current goes on while the membrane is held
def test_refractory_behind_a_synapse_is_norse_s():
    currents = jnp.asarray(np.random.default_rng(0).uniform(0, 1, (40, 5)), jnp.float32)
    v, i, wait, expected = np.zeros(5), np.zeros(5), np.zeros(5), []
    for x in np.asarray(currents, np.float64):
        i = i + x
        charged = v + 0.25 * (i - v)
        i = 0.75 * i
        spikes = (charged > 1) & (wait == 0)
        v = np.where(wait > 0, v, np.where(spikes, 0, charged))
        wait = np.where(spikes, 3, np.maximum(wait - 1, 0))
        expected.append(spikes)
    neuron = jsnn.Refractory(jsnn.LIF(0.75, gain=0.25, reset="zero"), period=3)
    np.testing.assert_array_equal(unroll(jsnn.Sequential(jsnn.LI(0.75), neuron), currents)[1], expected)


def test_refractory_periods_may_differ_by_neuron():
    neuron = jsnn.Refractory(jsnn.IF(threshold=0.5, reset="zero"), period=np.array([0, 1, 3]))
    spikes = unroll(neuron, jnp.ones((8, 3)))[1]
    assert spikes.sum(0).tolist() == [8, 4, 2]


def test_refractory_rests_for_ever():
    layer = jsnn.record(jsnn.Refractory(jsnn.IF(), np.inf), column(0.5, 2.0, 2.0))["Refractory"]
    assert layer.outputs.ravel().tolist() == [0, 1, 0]
    assert layer.states.wait.ravel().tolist() == [0, np.inf, np.inf]


def test_refractory_counts_a_long_period_in_bfloat16():
    neuron, currents = jsnn.Refractory(jsnn.IF(), period=300), jnp.full((602, 1), 2.0, jnp.bfloat16)
    spikes = unroll(neuron, currents, neuron.init((1,), jnp.bfloat16))[1]
    assert jnp.flatnonzero(spikes).tolist() == [0, 301]


def test_no_gradient_from_a_step_of_rest():
    neuron = jsnn.Refractory(jsnn.LIF(0.5), period=1)
    gradient = jax.grad(lambda x: unroll(neuron, x)[1].sum())(column(2.0, 2.0, 0.1))
    assert gradient[1] == 0
    assert gradient[2] != 0


def test_stochastic_without_noise_is_the_neuron_inside():
    currents = jnp.asarray(np.random.default_rng(0).uniform(-0.2, 1.5, (20, 5)), jnp.float32)
    inside = jsnn.CuBaLIF(0.9, 0.8, reset="subtract")
    neuron = jsnn.Stochastic(inside, jax.random.key(0), width=1e-6)
    np.testing.assert_array_equal(unroll(neuron, currents)[1], unroll(inside, currents)[1])


def test_stochastic_resets_by_its_threshold_and_spikes_by_its_key():
    neuron = jsnn.Stochastic(jsnn.IF(threshold=1.0), jax.random.key(1), width=0.5)
    currents = jnp.full((2000, 1), 0.25)
    state, spikes = unroll(neuron, currents)
    np.testing.assert_allclose(state.neuron.v[0], 2000 * 0.25 - spikes.sum(), atol=1e-3)  # none is lost
    np.testing.assert_array_equal(unroll(neuron, currents)[1], spikes)
    other = dataclasses.replace(neuron, key=jax.random.key(2))
    assert (unroll(other, currents)[1] != spikes).any()
    gradient = jax.grad(lambda x: unroll(neuron, x)[1].sum())(currents[:5])
    assert np.isfinite(gradient).all()
    assert gradient.any()


@pytest.mark.rows(1)
@pytest.mark.parametrize("neuron", [
    jsnn.SRM0(0.5, 0.5, refractory=0.0),
    jsnn.SlidingPSN(jnp.array([0.5, 0.5])),
    jsnn.ALIF(0.5, reset=lambda v, spikes, threshold: v, reset_delay=True, adaptation=0.0, gain=0.5),
])  # fmt: skip
def test_stochastic_around_all_that_compare_with_a_threshold(neuron):
    _, spikes = unroll(jsnn.Stochastic(neuron, jax.random.key(0), width=0.5), jnp.full((4000, 1), 0.5))
    v = jsnn.unroll(neuron, jnp.full((100, 1), 0.5))[0].v
    assert abs(spikes.mean() - jax.nn.sigmoid((v - 1) / 0.5)) < 0.03


def test_stochastic_takes_a_decay_that_training_has_led_astray():
    neuron = jsnn.Stochastic(jsnn.LIF(nnx.Param(jnp.array(0.95))), jax.random.key(0))
    neuron.neuron.decay[...] += 0.5  # as an optimiser may; it is clipped where it is used
    same = jsnn.Stochastic(jsnn.LIF(nnx.Param(jnp.array(1.0))), jax.random.key(0))
    currents = jnp.full((8, 3), 0.3)
    np.testing.assert_array_equal(jsnn.unroll(neuron, currents)[1], jsnn.unroll(same, currents)[1])


def test_delays():
    currents = column(1.0, 2.0, 4.0, 8.0)
    assert outputs(jsnn.Delay(0), currents) == [1, 2, 4, 8]
    assert outputs(jsnn.Delay(2), currents) == [0, 0, 1, 2]
    assert outputs(jsnn.Delay(1.25), currents) == [0, 0.75, 1.75, 3.5]
    assert unroll(jsnn.Delay(9), currents, jsnn.Delay(9).init((1,)))[1].tolist() == [[0]] * 4  # the first part of more
    each = unroll(jsnn.Delay(np.array([0, 1, 3])), jnp.tile(currents, (1, 3)))[1]
    assert each[-1].tolist() == [8, 4, 1]


@pytest.mark.slow
def test_a_delay_can_be_learned():
    currents = jnp.asarray(np.random.default_rng(0).normal(size=(6, 2)), jnp.float32)

    def run(steps):
        return jsnn.unroll(jsnn.Delay(nnx.Param(steps), longest=3), currents)[1]

    check_grads(run, (jnp.array([0.4, 1.7]),), order=1, modes=["rev"], rtol=1e-2)
    for whole in (0.0, 1.0, 3.0):  # a straight line from there to the next, or from the one before
        to, sign = (whole - 0.5, -1) if whole == 3 else (whole + 0.5, 1)
        by_steps = jax.jvp(run, (jnp.full(2, whole),), (jnp.ones(2),))[1]
        np.testing.assert_allclose(by_steps, sign * 2 * (run(jnp.full(2, to)) - run(jnp.full(2, whole))), atol=1e-5)
    np.testing.assert_array_equal(run(jnp.array([0.0, 5.0])), unroll(jsnn.Delay(np.array([0, 3])), currents)[1])


@pytest.mark.slow
def test_a_long_delay_is_exact_in_bfloat16():
    impulse = jnp.zeros((300, 1), jnp.bfloat16).at[0].set(1)
    assert jnp.argmax(unroll(jsnn.Delay(257), impulse)[1]) == 257  # which bfloat16 rounds to 256


def test_dropout_has_one_mask_for_all_steps_and_none_without_a_key():
    dropout = jsnn.Dropout(0.25, jax.random.key(0))
    masks = unroll(dropout, jnp.ones((3, 400)))[1]
    assert (masks == masks[0]).all()
    assert set(np.unique(masks)) == {0.0, np.float32(1 / 0.75)}
    assert abs(masks.mean() - 1) < 0.1
    assert (unroll(dataclasses.replace(dropout, key=None), jnp.ones((3, 4)))[1] == 1).all()


def test_threshold_batch_norm_takes_time_and_batch_together():
    norm = jsnn.ThresholdBatchNorm(3, threshold=0.5, alpha=0.5, rngs=nnx.Rngs(0))
    network = jsnn.Sequential(norm, jsnn.LIF(0.9, threshold=0.5))
    currents = jnp.asarray(np.random.default_rng(0).normal(3, 2, (10, 4, 3)), jnp.float32)
    normalised = jsnn.record(network, currents)["0_ThresholdBatchNorm"].outputs
    np.testing.assert_allclose(normalised.mean((0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(normalised.std((0, 1)), 0.25, rtol=1e-3)


@pytest.mark.parametrize("neuron", [jsnn.LIF(0.9), jsnn.ALIF(0.9, 0.8), jsnn.CuBaLIF(0.9, 0.5, reset="zero")])
def test_mean_rate_is_that_of_as_many_steps_and_has_its_gradient(neuron):
    x = jax.random.normal(jax.random.key(0), (3, 2, 5)) + 0.5
    rate = jsnn.MeanRate(neuron, 4)
    found = jax.jit(jax.value_and_grad(lambda x: jnp.vdot(unroll(rate, x)[1], x)))(x)
    wanted = jax.jit(
        jax.value_and_grad(lambda x: sum(jnp.vdot(unroll(neuron, y, num_steps=4)[1].mean(0), y) for y in x))
    )(x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, wanted)
    assert unroll(rate, x.astype(jnp.bfloat16))[1].dtype == jnp.bfloat16


def test_mean_rate_of_many_steps_is_exact_in_bfloat16():
    rate = jsnn.MeanRate(jsnn.Delay(0), 300)  # 256 + 1 is 256 there
    x = jnp.ones((2, 3), jnp.bfloat16)
    mean = rate.step(rate.init(x.shape), x)[1]
    np.testing.assert_array_equal(mean, x)
    assert mean.dtype == x.dtype


def test_mean_rate_of_several_outputs():
    network = jsnn.Network(lambda x: {"s": jsnn.neurons.call(jsnn.IF(), x), "x": (x,)})
    found = unroll(jsnn.MeanRate(network, 4), jnp.full((1, 2, 3), 0.5))[1]
    jax.tree.map(lambda y, mean: np.testing.assert_array_equal(y, mean), found, {"s": 0.25, "x": (0.5,)})


@pytest.mark.parametrize("around", [lambda neuron: neuron, lambda neuron: jsnn.Refractory(neuron, 1)])
def test_mean_rate_draws_other_noise_at_each_step(around):
    neuron = around(jsnn.Stochastic(jsnn.LIF(0.5), jax.random.key(0), width=1.0))
    rate, x = jsnn.MeanRate(neuron, 2), jnp.full((1, 50), 0.5)
    state, found = unroll(rate, x, num_steps=4)
    assert len({tuple(y) for y in found[:, 0].tolist()}) == 4
    np.testing.assert_array_equal(found[0], unroll(neuron, x, num_steps=2)[1].mean(0))
    again = unroll(rate, x, unroll(rate, x, num_steps=1)[0], num_steps=3)
    np.testing.assert_array_equal(again[1], found[1:])
    assert jax.tree.structure(again[0]) == jax.tree.structure(state)


def test_mean_rate_of_a_perfect_integrator_is_clip_floor_relu():
    x = jax.random.normal(jax.random.key(0), (1, 100))
    rate = jsnn.MeanRate(jsnn.LIF(1.0, v_rest=0.5), 8)
    wanted = jsnn.conversion.clip_floor_relu(x, 1.0, 8)
    np.testing.assert_allclose(unroll(rate, x, num_steps=1)[1][0], wanted, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("neuron", [
    jsnn.Stochastic(jsnn.LIF(0.9), jax.random.key(0)),
    jsnn.Dropout(0.5, jax.random.key(0)),
], ids=["Stochastic", "Dropout"])  # fmt: skip
def test_what_holds_a_key_is_a_neuron(neuron):  # the others are in the table of test_neurons.py
    jsnn.testing.check_neuron(neuron)


@pytest.mark.parametrize("array", [jnp.array, np.array])
def test_what_must_be_known_may_be_an_array_of_one_number(array):
    assert jsnn.Dropout(array(0.5)) == jsnn.Dropout(0.5)
    assert jsnn.MeanRate(jsnn.IF(), array(2)) == jsnn.MeanRate(jsnn.IF(), 2)
    assert dataclasses.replace(jsnn.Delay(1), longest=array(3)) == jsnn.Delay(1, longest=3)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: jsnn.Refractory(jsnn.IF(), -1), "period must be >= 0, got -1"),
    (lambda: jsnn.MeanRate(jsnn.IF(), 0), "num_steps must be >= 1, got 0"),
    (lambda: jsnn.MeanRate(jsnn.IF, 2), "MeanRate takes a neuron, got the class IF: make one, IF(...)"),
    (lambda: jsnn.Refractory(jsnn.IF, 1), "Refractory takes a neuron, got the class IF: make one, IF(...)"),
    (lambda: jsnn.Refractory(1, jsnn.IF()), "Refractory takes a Neuron, an object with init and step, got int"),
    (lambda: jsnn.Stochastic(jsnn.LI(), jax.random.key(0)), "must have a field `surrogate`, as jsnn.LIF has, got LI"),
    (lambda: jsnn.Stochastic(jsnn.IF(reset_delay=True), jax.random.key(0)), "must have reset_delay=False, got IF with"),
    (lambda: jsnn.Stochastic(jsnn.IF(), 3), "key must be made by jax.random.key, got 3"),
    (lambda: jsnn.Stochastic(jsnn.IF(), jax.random.key(0), 0.0), "width must be > 0, got 0.0"),
    (lambda: jsnn.Delay(-2), "steps must be >= 0, got -2"),
    (lambda: jsnn.Delay(4, longest=3), "steps must be <= longest = 3, got 4"),
    (lambda: jsnn.Delay(nnx.Param(jnp.ones(2))), "longest must be given"),
    (lambda: jsnn.Dropout(1.0), "rate must be in [0, 1), got 1.0"),
    (lambda: jax.jit(lambda rate: jsnn.Dropout(rate).rate)(0.5), "rate must be known when the function is traced"),
    (lambda: jsnn.Dropout(0.5, 7), "key must be made by jax.random.key, or None, got 7"),
    (lambda: jsnn.ThresholdBatchNorm(2, threshold=0.0, rngs=nnx.Rngs(0)), "threshold must be > 0, got 0.0"),
])  # fmt: skip
def test_wrong_parameters_are_refused(make, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    assert message in str(caught.value)
