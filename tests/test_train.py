import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jsnn
from jsnn import decode, losses, models, train


def loss(network, images, labels, key):
    logits = decode.max_over_time(jsnn.unroll(network, images, num_steps=6)[1])
    noise = 0.0 * jax.random.normal(key, ())
    value = losses.cross_entropy(logits, labels) + noise
    return value, {"loss": value, "correct": (jnp.argmax(logits, -1) == labels).astype(jnp.float32)}


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    labels = jnp.asarray(rng.integers(0, 3, 48), jnp.int32)
    images = jnp.asarray(np.eye(3)[np.asarray(labels)] + 0.1 * rng.normal(size=(48, 3)), jnp.float32)
    return images, labels


def fresh(optimizer):
    return train.create(models.feedforward([3, 8, 3], rngs=nnx.Rngs(0)), optimizer)


def test_scan_over_steps_equals_single_steps(problem):
    images, labels = problem
    optimizer, key = optax.adam(1e-2), jax.random.key(1)
    indices = jnp.arange(48, dtype=jnp.int32).reshape(4, 12)
    graph, state = fresh(optimizer)
    step = jax.jit(train.make_step(graph, loss, optimizer))
    expected = []
    for row in indices:
        state, metrics = step(state, (images[row], labels[row]), key)
        expected.append(float(metrics["loss"]))
    _, scanned = fresh(optimizer)
    scanned, metrics = train.make_advance(graph, loss, optimizer)(scanned, images, labels, indices, key)
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-6)
    assert int(scanned.step) == int(state.step) == 4
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), scanned.params, state.params)


def test_training_learns_and_changes_only_parameters(problem):
    images, labels = problem
    optimizer, key = optax.adam(3e-2), jax.random.key(0)
    graph, state = fresh(optimizer)
    before = jax.device_get(state.rest)
    advance = train.make_advance(graph, loss, optimizer)
    indices = jnp.tile(jnp.arange(48, dtype=jnp.int32).reshape(2, 24), (20, 1))
    state, metrics = advance(state, images, labels, indices, key)
    assert metrics["loss"][-1] < 0.2 * metrics["loss"][0]
    assert metrics["correct"][-1] == 1
    jax.tree.map(np.testing.assert_array_equal, before, jax.device_get(state.rest))


def test_the_state_is_donated(problem):
    images, labels = problem
    optimizer = optax.sgd(1e-2)
    graph, state = fresh(optimizer)
    indices = jnp.zeros((1, 4), jnp.int32)
    train.make_advance(graph, loss, optimizer)(state, images, labels, indices, jax.random.key(0))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))


def test_evaluation_counts_every_example_once(problem):
    images, labels = problem
    graph, state = fresh(optax.sgd(1e-2))
    network = train.network_of(graph, state)
    value, metrics = loss(network, images[:20], labels[:20], jax.random.key(0))
    indices = jnp.asarray([[*range(8)], [*range(8, 16)], [16, 17, 18, 19, 0, 0, 0, 0]], jnp.int32)
    mask = jnp.asarray([[True] * 8, [True] * 8, [True] * 4 + [False] * 4])

    def exact(network, images, labels, key):  # per-example metrics only: their sums must not depend on the batches
        return loss(network, images, labels, key)[0], {"correct": loss(network, images, labels, key)[1]["correct"]}

    sums = train.make_evaluate(graph, exact)(state, images, labels, indices, mask, jax.random.key(0))
    assert float(sums["count"]) == 20
    assert float(sums["correct"]) == float(metrics["correct"].sum())
    assert np.isfinite(value)


def test_randomness_depends_on_the_step_alone():
    def noisy(network, images, labels, key):
        value = jax.random.normal(key, ()) + 0.0 * jsnn.unroll(network, images, num_steps=1)[1].sum()
        return value, {"loss": value}

    optimizer = optax.sgd(0.0)
    graph, state = fresh(optimizer)
    advance = train.make_advance(graph, noisy, optimizer)
    images, labels, key = jnp.ones((2, 3)), jnp.zeros(2, jnp.int32), jax.random.key(7)
    _, whole = advance(state, images, labels, jnp.zeros((4, 2), jnp.int32), key)
    _, state = fresh(optimizer)
    state, first = advance(state, images, labels, jnp.zeros((3, 2), jnp.int32), key)
    _, rest = advance(state, images, labels, jnp.zeros((1, 2), jnp.int32), key)
    np.testing.assert_array_equal(whole["loss"], np.concatenate([first["loss"], rest["loss"]]))
    assert len(set(np.asarray(whole["loss"]).tolist())) == 4
