import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jsnn
from jsnn import decode, losses, models, train
from jsnn.neurons.checks import is_key
from jsnn.neurons.pytree import within_ranges


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


@pytest.mark.slow
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


@pytest.mark.parametrize("accumulate", [2, 12])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(problem, accumulate):
    images, labels = problem
    key, optimizer = jax.random.key(1), optax.sgd(0.5)
    graph, state = fresh(optimizer)
    batch = images[:12], labels[:12]
    whole, metrics = jax.jit(train.make_step(graph, loss, optimizer))(state, batch, key)
    parts, found = jax.jit(train.make_step(graph, loss, optimizer, accumulate=accumulate))(state, batch, key)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), (whole, metrics), (parts, found))


def test_parts_of_a_batch_are_normalised_one_after_another():
    class Normalised(nnx.Module):
        def __init__(self):
            self.norm, self.lif = nnx.BatchNorm(3, momentum=0.5, rngs=nnx.Rngs(0)), jsnn.LIF(0.5)

        def __call__(self, x):
            return self.lif(self.norm(x))

    def loss(network, images, labels, key):
        value = jnp.mean(jsnn.unroll(network, images, num_steps=2)[1])
        return value, {"loss": value, "key": jax.random.uniform(key)}

    graph, state = train.create(jsnn.Network(Normalised()), optax.sgd(0.0))
    images = jnp.arange(12.0).reshape(4, 3)
    step = jax.jit(train.make_step(graph, loss, optax.sgd(0.0), accumulate=2))
    state, _ = step(state, (images, jnp.zeros(4)), jax.random.key(0))
    mean = train.network_of(graph, state).function.norm.mean[...]
    np.testing.assert_allclose(mean, 0.25 * images[::2].mean(0) + 0.5 * images[1::2].mean(0))


def test_parts_of_a_batch_must_be_equal(problem):
    graph, state = fresh(optax.sgd(0.1))
    with pytest.raises(ValueError, match="accumulate must be >= 1, got 0"):
        train.make_step(graph, loss, optax.sgd(0.1), accumulate=0)
    step = train.make_step(graph, loss, optax.sgd(0.1), accumulate=5)
    with pytest.raises(ValueError, match="batch_size must be a multiple of accumulate = 5, got 48"):
        step(state, problem, jax.random.key(0))


class Counting(nnx.Module):
    def __init__(self, numbers):
        self.linear = nnx.Linear(3, 3, rngs=nnx.Rngs(0))
        self.count = numbers

    def __call__(self, x):
        return self.linear(x)


def cross_entropy(network, images, labels, key):
    value = losses.cross_entropy(network(images), labels)
    return value, {"loss": value}


def forgetful(network, images, labels, key):
    del network.count
    return cross_entropy(network, images, labels, key)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"optimizer": optax.polyak_sgd()}, TypeError, "optimizer.update.* failed, .* argument: 'value'"),
        ({"loss": lambda *of: (jnp.sum(of[2]), {})}, TypeError, "loss must return a floating-point scalar.* got int32"),
        ({"loss": lambda *of: (None, {})}, TypeError, r"loss must return \(scalar, metrics\), got None"),
        ({"loss": forgetful}, ValueError, "loss must not remove anything from the network .* it removed count"),
        ({"numbers": nnx.Param(jnp.arange(3))}, TypeError, "an nnx.Param must be floating point .* int32 in count"),
    ],
)
def test_what_cannot_be_trained(problem, changes, error, message):
    given = {"loss": cross_entropy, "optimizer": optax.sgd(0.1), "numbers": nnx.BatchStat(jnp.arange(3))} | changes
    graph, state = train.create(Counting(given["numbers"]), given["optimizer"])
    with pytest.raises(error, match=message):
        train.make_step(graph, given["loss"], given["optimizer"])(state, problem, jax.random.key(0))


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
    value, metrics = jax.jit(loss)(network, images[:20], labels[:20], jax.random.key(0))
    indices = np.asarray([[*range(8)], [*range(8, 16)], [16, 17, 18, 19, 0, 0, 0, 0]], np.int32)
    mask = np.asarray([[True] * 8, [True] * 8, [True] * 4 + [False] * 4])

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
    state, first = advance(state, images, labels, jnp.zeros((2, 2), jnp.int32), key)
    _, rest = advance(state, images, labels, jnp.zeros((2, 2), jnp.int32), key)
    np.testing.assert_array_equal(whole["loss"], np.concatenate([first["loss"], rest["loss"]]))
    assert len(set(np.asarray(whole["loss"]).tolist())) == 4


# Only an nnx.Param is trained, whichever way


def with_keys():
    """A network with everything that is not to be trained: keys, fixed arrays, running averages, a fixed synapse."""
    rngs = nnx.Rngs(0)
    return jsnn.Sequential(
        nnx.Linear(3, 4, use_bias=False, rngs=rngs),  # its bias would have no gradient but rounding
        nnx.BatchNorm(4, rngs=rngs),
        jsnn.LIF(nnx.Param(jnp.full(4, 0.99)), threshold=jnp.full(4, 0.5)),
        jsnn.Dropout(0.25, jax.random.key(1)),
        jsnn.compat.snntorch.rleaky(0.5, linear_features=4, learn_recurrent=False, rngs=rngs),
        jsnn.Stochastic(jsnn.LIF(0.5), jax.random.key(2)),
        jsnn.StochasticSpiking(jax.random.key(3), dt=0.5),
        jsnn.filters.Lowpass(jnp.full(4, 0.5), 0.5),
        nnx.Linear(4, 3, rngs=rngs),
        jsnn.LI(nnx.Param(jnp.array(1.0))),
    )


STEPS = 4


def by_flax(network, optimizer, images, labels, key):
    optimizer = nnx.Optimizer(network, optimizer, wrt=nnx.Param)

    @nnx.jit
    def step(network, optimizer, key):
        gradients, _ = nnx.grad(loss, has_aux=True)(network, images, labels, key)
        optimizer.update(network, gradients)

    for number in range(STEPS):
        step(network, optimizer, jax.random.fold_in(key, number))
    return network


def by_split(network, optimizer, images, labels, key):
    graph, params, rest = nnx.split(network, nnx.Param, ...)
    state = optimizer.init(params)

    @jax.jit
    def step(params, rest, state, key):
        def objective(params):
            network = nnx.merge(graph, params, rest, copy=True)
            value, _ = loss(network, images, labels, key)
            return value, nnx.split(network, nnx.Param, ...)[2]

        gradients, rest = jax.grad(objective, has_aux=True)(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), rest, state

    for number in range(STEPS):
        params, rest, state = step(params, rest, state, jax.random.fold_in(key, number))
    return nnx.merge(graph, params, rest)


def by_jsnn(network, optimizer, images, labels, key):
    graph, state = train.create(network, optimizer)
    indices = jnp.tile(jnp.arange(len(images)), (STEPS, 1))
    state, _ = train.make_advance(graph, loss, optimizer)(state, images, labels, indices, key)
    return train.network_of(graph, state)


def numbers(network, kind):
    """The arrays of a network by their paths, keys as numbers; no `dt`, which is an array in one network alone."""
    found = {path: variable[...] for path, variable in nnx.to_flat_state(nnx.state(network, kind)) if "dt" not in path}
    return {path: jax.random.key_data(x) if is_key(x) else x for path, x in found.items()}


@pytest.mark.slow
@pytest.mark.parametrize("make", [optax.adam, optax.sgd, optax.adamw])
def test_three_roads_give_the_same_numbers(problem, make):
    images, labels = (x[:12] for x in problem)
    roads = [road(with_keys(), make(1e-2), images, labels, jax.random.key(5)) for road in (by_flax, by_split, by_jsnn)]
    roads, before = [within_ranges(network) for network in roads], with_keys()
    for network in roads:
        for kind in (nnx.Param, nnx.BatchStat):
            now, first, start = (numbers(net, kind) for net in (network, roads[0], before))
            assert now.keys() == first.keys()
            for path, value in now.items():
                np.testing.assert_allclose(value, first[path], rtol=1e-4, atol=1e-6, err_msg=str(path))
                assert not np.array_equal(value, start[path]), path
        start = numbers(before, ...)
        for path, value in numbers(network, nnx.All(nnx.Not(nnx.Param), nnx.Not(nnx.BatchStat))).items():
            np.testing.assert_array_equal(value, start[path], err_msg=str(path))


# The state is nobody else's


def test_the_state_shares_no_array_with_anything(problem):
    images, labels = problem
    key, weights = jax.random.key(0), jnp.full(3, 0.5)
    network = jsnn.Sequential(
        jsnn.LIF(nnx.Param(weights), gain=weights), jsnn.Dropout(0.5, key), jsnn.Stochastic(jsnn.LIF(0.5), key)
    )
    sibling = jsnn.Sequential(jsnn.Dropout(0.5, key), jsnn.LI(weights))

    def mean(network, images, labels, key):
        value = jsnn.unroll(network, images, num_steps=2)[1].mean()
        return value, {"loss": value}

    graph, state = train.create(network, optax.adam(1e-2))
    advance = train.make_advance(graph, mean, optax.adam(1e-2))
    networks = []
    for _ in range(2):
        networks.append(train.network_of(graph, state))
        state, _ = advance(state, images, labels, jnp.zeros((1, 4), jnp.int32), key)
    for leaf in jax.tree.leaves((network, sibling, networks, key, weights)):
        assert not leaf.is_deleted()


@pytest.mark.slow
def test_training_a_conversion_leaves_the_rate_network_and_its_twin():
    model = models.rate_dense([3, 4, 2], rngs=nnx.Rngs(0))
    images, labels = jnp.ones((8, 3)), jnp.zeros(8, jnp.int32)
    network = jsnn.convert(model, images)
    calibrated = jsnn.conversion.calibrate(network, images)
    optimizer = optax.adam(1e-2)
    graph, state = train.create(calibrated, optimizer)
    train.make_advance(graph, loss, optimizer)(state, images, labels, jnp.zeros((2, 4), jnp.int32), jax.random.key(0))
    assert model(images).shape == (8, 2)
    for one in (network, calibrated):
        assert jsnn.unroll(one, images, num_steps=2)[1].shape == (2, 8, 2)


# Schedules


@pytest.mark.slow
@pytest.mark.parametrize("dt", [0.5, jnp.array(0.5)])
def test_the_network_has_the_dt_that_it_was_trained_with_last(problem, dt):
    images, labels = problem
    neurons = jsnn.SpikingActivation(dt=dt), jsnn.filters.Lowpass(0.1, dt)
    network = jsnn.Sequential(nnx.Linear(3, 3, rngs=nnx.Rngs(0)), *neurons)
    optimizer = optax.adam(1e-2)
    graph, state = train.create(network, optimizer)
    np.testing.assert_allclose(train.network_of(graph, state).layers[1].dt, 0.5)

    def at_step(network, step):
        return jsnn.with_dt(network, 0.5 / (step + 1))

    advance = train.make_advance(graph, loss, optimizer, at_step)
    state, _ = advance(state, images, labels, jnp.zeros((4, 4), jnp.int32), jax.random.key(0))
    trained = train.network_of(graph, state)
    np.testing.assert_allclose([trained.layers[1].dt, trained.layers[2].dt], 0.5 / 4, rtol=1e-6)
    state, _ = advance(state, images, labels, jnp.zeros((1, 4), jnp.int32), jax.random.key(0))
    np.testing.assert_allclose(train.network_of(graph, state).layers[1].dt, 0.5 / 5, rtol=1e-6)
    np.testing.assert_allclose(network.layers[1].dt, 0.5)


def test_another_schedule_is_asked_for_the_last_step(problem):
    images, labels = problem
    optimizer = optax.adam(1e-2)
    graph, state = train.create(jsnn.Sequential(nnx.Linear(3, 3, rngs=nnx.Rngs(0)), jsnn.LIF()), optimizer)

    def at_step(network, step):
        return jsnn.Sequential(network.layers[0], dataclasses.replace(network.layers[1], threshold=1.0 + step))

    step = jax.jit(train.make_step(graph, loss, optimizer, at_step))
    for _ in range(3):
        state, _ = step(state, (images[:4], labels[:4]), jax.random.key(0))
    assert train.network_of(graph, state, at_step).layers[1].threshold == 3.0


@pytest.mark.slow
def test_truncation_reaches_every_unroll_of_a_loss(problem):
    images, labels = problem
    optimizer, key = optax.sgd(1.0), jax.random.key(0)

    def truncated(network, images, labels, key, truncate=2):
        outputs = jsnn.unroll(network, images, num_steps=6, truncate=truncate)[1]
        value = losses.cross_entropy(decode.max_over_time(outputs), labels)
        return value, {"loss": value}

    # of a jitted loss each number has a program of its own; what a loss says itself wins
    by_keyword = functools.partial(truncated, truncate=None)
    for loss_of_one in (jax.jit(by_keyword), by_keyword):
        trained = {}
        for name, step_loss, options in [
            ("whole", loss_of_one, {}),
            ("by keyword", loss_of_one, {"truncate": 2}),
            ("own", truncated, {"truncate": 5}),
        ]:
            graph, state = fresh(optimizer)
            step = jax.jit(train.make_step(graph, step_loss, optimizer, **options))
            trained[name] = jax.tree.leaves(step(state, (images, labels), key)[0].params)
        for a, b in zip(trained["by keyword"], trained["own"], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        assert not all(map(np.allclose, trained["whole"], trained["own"]))


def test_truncation_of_fit_is_checked_and_refuses_record(problem):
    data = jsnn.data.Dataset(*map(np.asarray, problem))

    def recorded(network, images, labels, key):
        outputs = list(jsnn.record(network, images, num_steps=6).values())[-1].outputs
        return outputs.mean(), {"loss": outputs.mean()}

    network, options = models.feedforward([3, 8, 3], rngs=nnx.Rngs(0)), {"optimizer": optax.sgd(0.1), "epochs": 1}
    for truncate, message in [(0, "truncate must be a number of steps >= 1"), (3, "truncate is for losses that call")]:
        with pytest.raises(ValueError, match=message):
            train.fit(network, recorded, data, truncate=truncate, batch_size=16, show=False, **options)
