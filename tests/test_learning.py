"""Learning rules in an experiment: which steps the loss counts, and where its gradient comes from."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jsnn
from experiments import build, config
from jsnn.data import Dataset, Padded

STEPS, BATCH = 6, 3
KINDS = [config.Rtrl, config.Eprop, config.Ottt, config.Sltt, config.Decolle]


def experiment(learning, **changes):
    network = config.Feedforward(hidden=(5,))
    return config.Experiment(num_steps=STEPS, network=network, learning=learning, **changes)


def problem(one):
    random = np.random.default_rng(0)
    dataset = Dataset(random.random((BATCH, STEPS, 4), np.float32), np.arange(BATCH, dtype=np.int32), in_time=True)
    return build.make_network(one, dataset), jnp.asarray(dataset.inputs), jnp.asarray(dataset.targets)


def value_of(one, network, inputs, targets):
    loss = build.make_loss(one, in_time=True, training=True)
    return jax.jit(loss)(network, inputs, targets, jax.random.key(0))[0]


def test_a_rule_of_ones_own_needs_no_field_of_the_others(monkeypatch):
    monkeypatch.setattr(config.Learning, "kinds", dict(config.Learning.kinds))

    class Own(config.Learning):
        def make(self):
            return jsnn.online.sltt()

    one = experiment(Own())
    loss = build.make_loss(one, in_time=True, training=True)
    assert jax.eval_shape(loss, *problem(one), jax.random.key(0))[0].shape == ()


@pytest.mark.rows(1)
@pytest.mark.parametrize(("burn_in", "first"), [(None, 3), (0.0, 0), (0.4, 2), (0.99, 5)])
def test_the_loss_is_the_mean_of_the_steps_after_the_burn_in(burn_in, first):
    one = experiment(config.Sltt(burn_in=burn_in))
    network, inputs, labels = problem(one)
    outputs = jsnn.unroll(network, jnp.moveaxis(inputs, 1, 0))[1]
    steps = optax.softmax_cross_entropy_with_integer_labels(outputs, jnp.broadcast_to(labels, (STEPS, BATCH)))
    np.testing.assert_allclose(value_of(one, network, inputs, labels), steps[first:].mean(), rtol=1e-5)


def test_a_padded_recording_counts_as_it_does_by_itself():
    one = experiment(config.Sltt())
    network, inputs, labels = problem(one)
    lengths = jnp.array([6, 3, 1])
    found = value_of(one, network, Padded(inputs, lengths), labels)
    alone = [
        value_of(dataclasses.replace(one, num_steps=int(n)), network, inputs[i : i + 1, :n], labels[i : i + 1])
        for i, n in enumerate(lengths)
    ]
    np.testing.assert_allclose(found, np.mean(alone), rtol=1e-5)


def test_every_step_counts_where_each_has_a_target():
    one = experiment(config.Sltt(), objective=config.Objective(loss=config.MseInTime()))
    random = np.random.default_rng(0)
    dataset = Dataset(*(random.random((BATCH, STEPS, size), np.float32) for size in (4, 2)), in_time=True)
    network, inputs, targets = build.make_network(one, dataset), *map(jnp.asarray, (dataset.inputs, dataset.targets))
    outputs = jsnn.unroll(network, jnp.moveaxis(inputs, 1, 0))[1]
    wanted = jnp.mean((outputs - jnp.moveaxis(targets, 1, 0)) ** 2)
    np.testing.assert_allclose(value_of(one, network, inputs, targets), wanted, rtol=1e-5)


@pytest.mark.rows(2)
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_the_rules_own(kind):
    one = experiment(kind(burn_in=0.5))
    network, inputs, labels = problem(one)

    def of_step(outputs, given):
        labels, weight = given
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(outputs, labels) * weight)

    weights = jnp.where(jnp.arange(STEPS) < 3, 0.0, 2.0)[:, None] * jnp.ones(BATCH)
    wanted = jsnn.online.gradient(network, of_step, rule=one.learning.make())(
        network, jnp.moveaxis(inputs, 1, 0), (jnp.broadcast_to(labels, (STEPS, BATCH)), weights)
    )[1]
    found = jax.jit(jax.grad(lambda network: value_of(one, network, inputs, labels)))(network)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("burn_in", [1.0, -0.1])
def test_a_burn_in_of_all_steps_is_refused(burn_in):
    with pytest.raises(ValueError, match="burn_in must be"):
        config.Eprop(burn_in=burn_in)
