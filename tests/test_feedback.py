"""Gradients of recurrent neurons, whose weights are summed over all steps at once: those that JAX gives by itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jsnn
from jsnn import Recurrent, feedback

STEPS, BATCH, SIZE = 7, 2, 16
KEY = jax.random.key(0)


@pytest.fixture
def inputs():
    return 0.3 + 0.5 * jax.random.normal(KEY, (STEPS, BATCH, SIZE))


def weights():
    return jax.random.normal(jax.random.key(1), (SIZE, SIZE)) / SIZE**0.5


def both(monkeypatch, function, *arguments):
    """What a function gives with sums of all steps, and as JAX does it."""
    found = []
    for more in (feedback._MORE_WEIGHTS, 10**9):
        monkeypatch.setattr(feedback, "_MORE_WEIGHTS", more)
        found.append(jax.jit(lambda *given: function(*given))(*arguments))  # a new function is traced anew
    assert any(jnp.any(leaf != 0) for leaf in jax.tree.leaves(found[1]))
    return found


def is_summed_late(run, *arguments):
    """Whether there is a scan inside of a function with a derivative of its own."""
    program = jax.make_jaxpr(jax.jit(run))(*arguments)
    equations = [one for equation in program.jaxpr.eqns for one in jsnn.program.within(equation)]
    own = [one for one in equations if one.primitive.name == "custom_jvp_call"]
    return any(inner.primitive.name == "scan" for one in own for inner in list(jsnn.program.within(one))[1:])


NEURONS = {
    "LIF": lambda decay, w: Recurrent(jsnn.LIF(decay), lambda s: s @ w),
    "late reset": lambda decay, w: Recurrent(jsnn.LIF(decay, reset_delay=True), lambda s: s @ w),
    "not linear": lambda decay, w: Recurrent(jsnn.CuBaLIF(0.5, decay), lambda s: jnp.tanh(s @ w) + decay),
    "counts": lambda decay, w: Recurrent(jsnn.Refractory(jsnn.LIF(decay), 2), lambda s: s @ w),
    "random": lambda decay, w: Recurrent(jsnn.Stochastic(jsnn.LIF(decay), KEY), lambda s: s @ w),
    "nested": lambda decay, w: Recurrent(Recurrent(jsnn.LIF(decay), lambda s: s @ w), lambda s: s @ (w * decay)),
    "network": lambda decay, w: Recurrent(
        jsnn.Sequential(jsnn.LIF(decay), lambda s: s @ w, jsnn.LIF(0.5)), lambda s: s @ (w * decay)
    ),
    "delay": lambda decay, w: Recurrent(jsnn.LIF(decay), lambda s: s @ w, delay=3),
}


@pytest.mark.rows(6)
@pytest.mark.parametrize("name", NEURONS)
def test_gradients_are_those_of_the_loop(name, inputs, monkeypatch):
    def loss(decay, w, x):
        state, outputs = jsnn.unroll(NEURONS[name](decay, w), x)
        floating = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        return sum(jnp.sum(leaf**2) for leaf in [outputs, *floating])

    given = jnp.float32(0.8), weights(), inputs
    found, wanted = both(monkeypatch, jax.value_and_grad(loss, (0, 1, 2)), *given)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, wanted)


@pytest.mark.rows(4)
@pytest.mark.parametrize(
    "change",
    [
        lambda run: lambda w, x: jax.grad(lambda x: run(w, x))(x),  # of the inputs alone
        lambda run: lambda w, x: jax.vmap(jax.grad(run), (None, 0))(w, jnp.stack([x, 2 * x])),
        lambda run: jax.grad(lambda w, x: jax.vmap(run, (None, 0))(w, jnp.stack([x, 2 * x])).sum()),
        lambda run: jax.grad(jax.checkpoint(run)),
        lambda run: lambda w, x: jax.jvp(run, (w, x), (x[0, 0] * w, x)),
        lambda run: lambda w, x: jax.jvp(jax.grad(run), (w, x), (w, x)),
    ],
)
def test_any_derivative(change, inputs, monkeypatch):
    def loss(w, x):
        return jnp.sum(jsnn.unroll(NEURONS["LIF"](0.8, w), x)[1] ** 2)

    found, wanted = both(monkeypatch, change(loss), weights(), inputs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, wanted)


class Gated(Recurrent):
    """A layer whose outputs open and close its inputs."""

    def step(self, state, current):
        inner, outputs = self.neuron.step(state.neuron, current * (1 + self.feedback((), state.outputs)[1]))
        return state._replace(neuron=inner, outputs=outputs), outputs


def test_a_class_with_a_step_of_its_own(inputs, monkeypatch):
    def loss(w, x):
        return jnp.sum(jsnn.unroll(Gated(jsnn.LIF(0.8), lambda s: s @ w), x)[1] ** 2)

    found, wanted = both(monkeypatch, jax.grad(loss, (0, 1)), weights(), inputs)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_layers_of_flax(inputs, monkeypatch):
    graph, params = nnx.split(nnx.Linear(SIZE, SIZE, rngs=nnx.Rngs(0)))

    def loss(params, x):
        return jnp.sum(jsnn.unroll(Recurrent(jsnn.LIF(0.8), nnx.merge(graph, params)), x)[1] ** 2)

    found, wanted = both(monkeypatch, jax.grad(loss), params, inputs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, wanted)


def test_bfloat16_keeps_its_types(inputs, monkeypatch):
    def loss(w, x):
        return jnp.sum(jsnn.unroll(NEURONS["LIF"](0.8, w), x)[1].astype(jnp.float32) ** 2)

    arrays = [x.astype(jnp.bfloat16) for x in (weights(), inputs)]
    found, wanted = both(monkeypatch, jax.grad(loss, (0, 1)), *arrays)
    assert [x.dtype for x in found] == [jnp.bfloat16] * 2
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0.05, atol=0.05), found, wanted)


def test_who_is_summed_late(inputs):
    w = weights()
    few, many = inputs, jnp.tile(inputs, (1, 4, 1))
    assert is_summed_late(lambda x: jsnn.unroll(NEURONS["LIF"](0.8, w), x)[1], few)
    assert not is_summed_late(lambda x: jsnn.unroll(NEURONS["LIF"](0.8, w), x)[1], many)
    assert not is_summed_late(lambda x: jsnn.unroll(NEURONS["delay"](0.8, w), x)[1], few)
    wide = jnp.zeros((STEPS, 1, 512))
    layer = jsnn.Linear(512, 512, rngs=nnx.Rngs(0))  # its gradient is of reverse mode alone
    assert not is_summed_late(lambda x: jsnn.unroll(Recurrent(jsnn.LIF(0.8), layer), x)[1], wide)


def test_a_synapse_that_changes_itself_is_run_once(inputs):
    norm = nnx.BatchNorm(SIZE, rngs=nnx.Rngs(0))
    layer = nnx.Sequential(nnx.Linear(SIZE, SIZE, rngs=nnx.Rngs(0)), norm)
    with pytest.raises(ValueError, match="changes"):
        nnx.jit(lambda layer, x: jsnn.unroll(Recurrent(jsnn.LIF(0.8), layer), x)[1])(layer, inputs)
    layer.eval()
    assert nnx.jit(lambda layer, x: jsnn.unroll(Recurrent(jsnn.LIF(0.8), layer), x)[1])(layer, inputs).any()
