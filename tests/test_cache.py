"""Networks run in parts that stay in a CPU's cache: the same numbers, and as they are where that would not hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jsnn
from jsnn import cache

pytestmark = pytest.mark.skipif(
    jax.default_backend() != "cpu" or jax.device_count() > 1, reason="parts are taken on one CPU"
)


class Skip(nnx.Module):
    """A residual network with normalisation, and what a test adds after it."""

    def __init__(self, after=lambda x: x):
        self.conv = jsnn.Conv(1, 2, (3, 3), rngs=nnx.Rngs(0))
        self.norm = nnx.BatchNorm(2, rngs=nnx.Rngs(1))
        self.lif, self.out = jsnn.LIF(0.5), jsnn.LI(0.9)
        self.after = after

    def __call__(self, x):
        current = self.norm(self.conv(x))
        return self.out(jsnn.flatten(self.after(self.lif(current) + current)))


def sequential(neuron=None):
    return jsnn.Sequential(
        jsnn.Conv(1, 2, (3, 3), rngs=nnx.Rngs(0)), neuron or jsnn.LIF(0.8), jsnn.max_pool, jsnn.flatten,
        jsnn.Linear(8, 3, rngs=nnx.Rngs(1)), jsnn.LI(0.9),
    )  # fmt: skip


def converted():
    model = nnx.Sequential(
        nnx.Conv(1, 2, (3, 3), rngs=nnx.Rngs(0)), nnx.relu, jsnn.flatten, nnx.Linear(32, 3, rngs=nnx.Rngs(1))
    )
    return jsnn.convert(model, jnp.ones((1, 4, 4, 1)), scale_firing_rates=500.0, synapse=5e-3)


def residual():
    network = jsnn.Network(Skip())
    network.eval()
    return network


def delayed():
    return jsnn.Sequential(jsnn.Conv(1, 2, (3, 3), rngs=nnx.Rngs(0)), jsnn.LIF(0.8), jsnn.Delay(5))


def images(batch, steps=None):
    return 3 * jax.random.normal(jax.random.key(batch), (*([steps] if steps else []), batch, 4, 4, 1))


def runs_in_parts(run, *arguments):
    return " either[" in str(jax.make_jaxpr(run)(*arguments))


@pytest.fixture
def small_cache(monkeypatch):
    """Room for two examples of the first layer at three steps."""
    monkeypatch.setattr(cache, "_BYTES", 2 * 3 * 4 * 4 * 2 * 4)


@pytest.mark.rows(6)
@pytest.mark.parametrize(("batch", "steps", "in_parts"), [(1, 6, False), (1, 8, True), (5, 3, True), (5, 8, True)])
@pytest.mark.parametrize("is_static", [True, False])
@pytest.mark.parametrize("make", [sequential, converted, residual])
def test_parts_give_the_same_numbers(make, is_static, batch, steps, in_parts, monkeypatch, small_cache):
    network, x = make(), images(batch, None if is_static else steps)

    def run(state, x):
        return jsnn.unroll(network, x, state, num_steps=steps if is_static else None)

    state = network.init((batch, 4, 4, 1))
    assert runs_in_parts(run, state, x) == in_parts
    found = jax.jit(run)(state, x)
    monkeypatch.setattr(cache, "_BYTES", 2**40)
    wanted = jax.jit(lambda *given: run(*given))(state, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, wanted)
    assert jnp.any(wanted[1] != 0)
    assert jax.tree.structure(found) == jax.tree.structure(wanted)


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize("make", [sequential, converted, residual])
def test_a_gradient_is_that_of_the_whole(make, cores, monkeypatch, small_cache):
    monkeypatch.setattr(cache, "count_cores", lambda: cores)
    monkeypatch.setattr(cache, "_PARTS", 2)
    network, x = make(), images(5)
    graph, params, rest = nnx.split(network, nnx.Param, ...)

    def loss(params, x):
        return jnp.sum(jsnn.unroll(nnx.merge(graph, params, rest), x, num_steps=4)[1] ** 2)

    found = jax.jit(jax.value_and_grad(loss, (0, 1)))(params, x)
    monkeypatch.setattr(cache, "_BYTES", 2**40)
    wanted = jax.jit(jax.value_and_grad(lambda p, x: loss(p, x), (0, 1)))(params, x)
    close = {1: {"rtol": 1e-5, "atol": 1e-5}, 2: {"rtol": 0}}[cores]  # on one core, sums of parts
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **close), found, wanted)


@pytest.mark.parametrize(("cores", "parts", "loops"), [(1, 2, 5), (1, 99, 1), (2, 2, 1)])
def test_one_core_differentiates_many_parts_one_by_one(cores, parts, loops, monkeypatch, small_cache):
    monkeypatch.setattr(cache, "count_cores", lambda: cores)
    monkeypatch.setattr(cache, "_PARTS", parts)
    program = jax.make_jaxpr(jax.jit(jax.grad(lambda x: jsnn.unroll(sequential(), x, num_steps=4)[1].sum())))(images(5))
    assert ("length=5" in str(program)) == (loops == 5)


def test_weights_that_a_function_closes_over_are_differentiated(small_cache):
    lif, x = jsnn.LIF(0.5), images(5)

    def loss(weight):
        network = jsnn.Network(lambda x: jsnn.neurons.call(lif, x * weight))
        return jsnn.unroll(network, x, num_steps=4)[1].sum()

    assert jax.jit(jax.grad(loss))(jnp.float32(1.0)) != 0
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(1.0), jax.grad(loss)(1.0), rtol=1e-6)


def forward_mode():
    """A network without `jsnn.Conv`, whose gradients are of reverse mode."""
    return jsnn.Sequential(nnx.Conv(1, 2, (3, 3), rngs=nnx.Rngs(0)), jsnn.LIF(0.8), jsnn.flatten, jsnn.LI(0.9))


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.rows(4)
@pytest.mark.parametrize(
    ("make", "change"),
    [
        (sequential, jax.vmap),
        (sequential, lambda run: jax.vmap(jax.grad(lambda x: run(x).sum()))),
        (sequential, lambda run: jax.grad(lambda x: jax.vmap(run)(x).sum())),
        (sequential, lambda run: jax.grad(lambda x: jax.vmap(jax.checkpoint(jax.jit(run)), 1)(x).sum())),
        (forward_mode, lambda run: jax.vmap(lambda x: jax.jvp(run, (x,), (x,)))),
        (forward_mode, lambda run: lambda x: jax.jvp(jax.jit(jax.vmap(run)), (x,), (x,))),
        (forward_mode, lambda run: lambda x: jax.jvp(jax.grad(lambda x: jax.vmap(run)(x).sum()), (x,), (x,))),
    ],
)
def test_networks_are_mapped_and_differentiated(make, change, cores, monkeypatch, small_cache):
    monkeypatch.setattr(cache, "count_cores", lambda: cores)
    monkeypatch.setattr(cache, "_PARTS", 2)
    network, x, found = make(), images(9, 3), []
    for size in (cache._BYTES, 2**40):
        monkeypatch.setattr(cache, "_BYTES", size)
        found.append(jax.jit(change(lambda x: jsnn.unroll(network, x, num_steps=4)[1]))(x))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *found)
    assert any(map(jnp.any, jax.tree.leaves(found)))


def test_an_export_of_any_batch(small_cache):
    network, (batch,) = sequential(), jax.export.symbolic_shape("batch")
    run = jax.jit(lambda x: jsnn.unroll(network, x, num_steps=4)[1])
    exported = jax.export.export(run)(jax.ShapeDtypeStruct((batch, 4, 4, 1), jnp.float32))
    np.testing.assert_allclose(exported.call(images(5)), run(images(5)), rtol=1e-5, atol=1e-6)


def test_bfloat16_stays(small_cache):
    network, x = sequential(), images(5).astype(jnp.bfloat16)
    state, outputs = jax.jit(lambda x: jsnn.unroll(network, x, num_steps=4))(x)
    assert outputs.dtype == jsnn.unroll(network, x, num_steps=4)[1].dtype
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("float32")}


def noisy(x):
    return x + jax.random.normal(jax.random.key(0), x.shape)


def similar(x):
    """Attention between examples."""
    return jnp.einsum("bc,c...->b...", jax.nn.softmax(jnp.einsum("b...,c...->bc", x, x / 99)), x)


def none_under_four(x):
    if len(x) < 4:
        raise ValueError("at least four")
    return x


@pytest.mark.rows(3)
@pytest.mark.parametrize(
    "make",
    [
        lambda: sequential(jsnn.Stochastic(jsnn.LIF(0.8), jax.random.key(0))),  # its key is not one of examples
        lambda: jsnn.Sequential(noisy, *sequential().layers),
        lambda: jsnn.Sequential(lambda x: x - x.mean(0), *sequential().layers),  # examples meet
        lambda: jsnn.Sequential(jax.jit(lambda x: x / abs(x).max()), *sequential().layers),
        lambda: jsnn.Sequential(similar, *sequential().layers),
        lambda: jsnn.Sequential(lambda x: x + jnp.roll(x, 1, 0), *sequential().layers),
        lambda: jsnn.Sequential(lambda x: x[::-1], *sequential().layers),  # examples meet, and the shapes do not tell
        lambda: jsnn.Sequential(lambda x: jnp.cumsum(x, 0), *sequential().layers),
        lambda: jsnn.Sequential(none_under_four, *sequential().layers),
        lambda: jsnn.Network(Skip(noisy)),
        lambda: jsnn.Network(Skip()),  # in training: the averages of the batch
        lambda: jsnn.Network(Skip(nnx.Dropout(0.5, rngs=nnx.Rngs(2)))),
        lambda: jsnn.Network(Skip(lambda x: x.reshape(-1, 5, 32).reshape(-1, 4, 4, 2))),  # it wants fives
        delayed,  # its buffer has an axis as long as the batch, 5
        lambda: jsnn.Sequential(jsnn.flatten, jsnn.Linear(16, 16, rngs=nnx.Rngs(0)), jsnn.LIF(0.8)),
        lambda: jsnn.LIF(0.8),
    ],
)
def test_what_cannot_be_taken_apart_is_run_as_it_is(make, monkeypatch, small_cache):
    x, found = images(5), []
    for size in (cache._BYTES, 2**40):
        monkeypatch.setattr(cache, "_BYTES", size)
        network = make()
        found.append(nnx.jit(lambda network, x: jsnn.unroll(network, x, num_steps=6))(network, x))
        found.append(nnx.state(network) if isinstance(network, nnx.Module) else ())
    plain = [jax.random.key_data(x) if jsnn.neurons.checks.is_key(x) else x for x in jax.tree.leaves(found)]
    for one, other in zip(plain[: len(plain) // 2], plain[len(plain) // 2 :], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("options", [{"remat": 2}, {"truncate": 2}, {"method": "scan"}])
def test_who_chooses_by_hand_gets_that(options, small_cache):
    network = sequential()
    assert not runs_in_parts(lambda x: jsnn.unroll(network, x, num_steps=4, **options), images(5))


def test_what_calls_back_is_called_once(small_cache):
    network, calls = jsnn.Sequential(*sequential().layers[:2]), []

    def run(x):
        return jsnn.unroll(jsnn.Sequential(report, *network.layers), x)[1]

    def report(x):
        jax.debug.callback(lambda x: calls.append(x.shape), x)
        return x

    jax.jit(run)(images(5, 6))
    jax.effects_barrier()
    assert calls == [(30, 4, 4, 1)]


class Counted:
    """A neuron that counts steps, which are not of examples."""

    def init(self, shape, dtype=jnp.float32):
        return jnp.zeros(shape, dtype), jnp.zeros((), dtype)

    def step(self, state, x):
        return (state[0] + x, state[1] + 1), x


def test_a_state_may_hold_plain_numbers(small_cache):
    network, x = jsnn.Sequential(jsnn.Conv(1, 2, (3, 3), rngs=nnx.Rngs(0)), Counted()), images(5)
    ((v, _),) = filter(None, network.init(x.shape))
    (_, (_, count)), _ = jax.jit(lambda x: jsnn.unroll(network, x, ((), (v, 0.0)), num_steps=6))(x)
    assert count == 6


def test_one_number_for_all_neurons(small_cache):
    network = jsnn.Network(lambda x: jsnn.neurons.call(jsnn.LIF(0.5), jnp.ones((2, 4, 4, 2)) * x))
    assert jax.jit(lambda x: jsnn.unroll(network, x)[1])(jnp.ones(8)).shape == (8, 2, 4, 4, 2)


@pytest.mark.parametrize("change", [lambda run: run, jax.vmap, lambda run: jax.grad(lambda x: run(x).sum())])
def test_eager_calls_are_run_as_they_are(change, monkeypatch, small_cache):
    network, x = sequential(), images(5, 3)
    monkeypatch.setattr(cache, "_either", None)
    jax.block_until_ready(change(lambda x: jsnn.unroll(network, x, num_steps=4)[1])(x[0] if change != jax.vmap else x))
