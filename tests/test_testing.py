"""Neurons that are right pass; each planted fault is named."""

import dataclasses
import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jsnn
from jsnn.testing import NeuronError, check_neuron


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Integrator:
    """Right in all; the faults below replace one of its methods each."""

    rate: jax.Array = dataclasses.field(default_factory=lambda: jnp.full(4, 0.5))

    def init(self, shape, dtype=jnp.float32):
        return jnp.zeros(shape, dtype)

    def step(self, state, current):
        v = state + self.rate.astype(state.dtype) * current.astype(state.dtype)
        return v, jnp.tanh(v).astype(current.dtype)


def fault(**methods):
    return jax.tree_util.register_dataclass(
        dataclasses.dataclass(type("Faulty", (Integrator,), methods)), data_fields=["rate"], meta_fields=[]
    )()


def state_in_numpy(self, shape, dtype=jnp.float32):
    return np.zeros(shape, dtype)


def mutated_state(self, state, current):
    state += np.asarray(current)
    return state.copy(), jnp.asarray(state)


def mutated_neuron(self, state, current):
    object.__setattr__(self, "rate", self.rate + 1)
    return Integrator.step(self, state, current)


def wrong_output_dtype(self, state, current):
    v, y = Integrator.step(self, state, current)
    return v, y.astype(jnp.float32)


def wrong_state_dtype(self, state, current):
    v, y = Integrator.step(self, state, current)
    return v.astype(current.dtype), y


def state_of_fixed_dtype(self, shape, dtype=jnp.float32):
    return jnp.zeros(shape)


def nan_gradient(self, state, current):
    v, y = Integrator.step(self, state, current)
    return v, y + jnp.sqrt(jnp.maximum(-jnp.abs(current), 0))


def state_over_the_batch(self, shape, dtype=jnp.float32):
    return jnp.zeros((shape[0] * shape[1],), dtype)


def flat_step(self, state, current):
    v = state + current.reshape(-1).astype(state.dtype)
    return v, v.reshape(current.shape).astype(current.dtype)


def batch_mean(self, state, current):
    v, y = Integrator.step(self, state, current)
    return v - v.mean(0), y


def impure(self, state, current, calls=[]):  # noqa: B006
    calls.append(1)
    v, y = Integrator.step(self, state, current)
    return v, y + len(calls)


def fixed_rank(self, state, current):
    v, y = Integrator.step(self, state, current)
    return v, jnp.einsum("bn->bn", y)


def nan_gradient_at_zero(self, state, current):
    v, y = Integrator.step(self, state, current)
    return v, y + jnp.where(current > 0, jnp.log(current), 0)


def state_by_batch_size(self, shape, dtype=jnp.float32):
    return jnp.full(shape, 1 / shape[0], dtype)


def random_state(self, shape, dtype=jnp.float32, generator=np.random.default_rng(0)):  # noqa: B008
    return jnp.asarray(generator.uniform(size=shape), dtype)


def random_step(self, state, current, generator=np.random.default_rng(0)):  # noqa: B008
    return Integrator.step(self, state, current + generator.normal())


def state_on_self(self, shape, dtype=jnp.float32):
    object.__setattr__(self, "v", jnp.zeros(shape, dtype))
    return ()


def branching(self, state, current):
    v, y = Integrator.step(self, state, current)
    return v, (y if v.max() > 1 else 0 * y)


def swapped(self, state, current):
    return Integrator.step(self, state, current)[::-1]


def number_of_numpy(self, state, current):
    v = np.exp(-0.1) * state + current.astype(state.dtype)
    return v, jnp.tanh(v).astype(current.dtype)


def swapped_with_named_state(self, state, current):
    v, y = Integrator.step(self, state["v"], current)
    return y, {"v": v}


@pytest.mark.rows(2)
@pytest.mark.parametrize(("methods", "message"), [
    ({"init": state_in_numpy, "step": mutated_state}, "changed what it was given"),
    ({"step": mutated_neuron}, "step changed what it was given, the neuron's rate: what changes belongs into the"),
    ({"step": wrong_output_dtype}, "outputs must have the current's dtype, got float32 for bfloat16"),
    ({"step": wrong_state_dtype}, "a current in bfloat16 turned a state float32[2,4] into bfloat16[2,4]"),
    ({"init": state_of_fixed_dtype}, "the dtype given, got float32 for float32 and float32 for bfloat16"),
    ({"step": nan_gradient}, "a gradient for its currents is not finite"),
    ({"init": state_over_the_batch, "step": flat_step}, "must be the batch, got shape (8,) for 2 and (12,) for 3"),
    ({"step": batch_mean}, "under vmap it gives other numbers"),
    ({"step": impure}, "two steps from one state with one current differ"),
    ({"step": fixed_rank}, "after a convolution it raised"),
    ({"step": lambda self, state, current: (state.sum(), current)}, "step turned a state float32[2,4] into float32[]"),
    ({"step": lambda self, state, current: (state, current[0])}, "no batch axis"),
    ({"step": lambda self, state, current: (state, current / 0)}, "an output is not finite"),
    ({"init": lambda self, shape: 0}, "init raised TypeError"),
    ({"init": lambda self, shape, dtype: 0.0}, "init must return arrays, such as jnp.zeros(shape, dtype), got 0.0"),
    ({"init": state_by_batch_size}, "the state depends on the batch size"),
    ({"init": lambda self, shape, dtype: jnp.zeros((), dtype)}, "must be the batch, got shape () for 2 and () for 3"),
    ({"init": random_state}, "two calls of init give different states: to draw them, the neuron needs a key"),
    ({"step": random_step}, "two steps from one state with one current differ: randomness needs a key in the state"),
    ({"init": state_on_self}, "init changed the neuron, its v: what changes belongs into the state"),
    ({"step": branching}, "step looks at the values of arrays (if, while, float(), a mask as an index), which"),
    ({"step": number_of_numpy}, "turned a state bfloat16[2,4] into float32[2,4]: compute in the state's dtype, by"),
    ({"step": swapped}, "step returned (output, state): the order is (state, output)"),
    ({"init": lambda self, shape, dtype: {"v": jnp.zeros(shape, dtype)}, "step": swapped_with_named_state},
     "step returned (output, state): the order is (state, output)"),
    ({"step": lambda self, state, current: state}, "step must return (state, output), got ArrayImpl(float32[2,4])"),
    ({"step": lambda self, state, current: (state, None)}, "step gave no output but None"),
    ({"step": lambda self, state, current: (state, current.sum(-1))}, "of the current, (2, 4), got (2,)"),
    ({"step": lambda self, state, current: (state / 0, current)}, "a state is NaN after a step"),
    ({"step": nan_gradient_at_zero}, "a gradient for its currents is not finite: mind sqrt, log and / at 0"),
    ({"is_linear": True, "all_steps": lambda self, state, currents: (state, currents)},
     "in an unroll by all_steps it gives other numbers than step by step"),
])  # fmt: skip
def test_a_planted_fault_is_named(methods, message):
    with pytest.raises(NeuronError) as caught:
        check_neuron(fault(**methods))
    assert message in str(caught.value)


@pytest.mark.parametrize("nothing", [jsnn.LIF, object(), functools.partial(jsnn.LIF)])
def test_what_is_no_neuron_is_refused(nothing):
    with pytest.raises(NeuronError, match="no methods init"):
        check_neuron(nothing)


def test_what_is_no_pytree_is_refused():
    class Plain:
        init, step = Integrator.init, Integrator.step

    with pytest.raises(NeuronError, match="not a pytree"):
        check_neuron(Plain())


@pytest.mark.rows(1)
@pytest.mark.parametrize("neuron", [
    Integrator(),
    jsnn.LIF(nnx.Param(jnp.full(4, 0.9)), reset="zero"),
    jsnn.Recurrent(jsnn.LIF(0.9), nnx.Linear(4, 4, rngs=nnx.Rngs(0))),
    jsnn.StochasticSpiking(jax.random.key(0)),
    jsnn.Rate(jnp.tanh),
    jsnn.Delay(np.arange(4.0)),
    jsnn.Refractory(jsnn.Refractory(jsnn.LIF(0.9), 1), 2),
    jsnn.DelayedLinear(4, 4, max_delay=3, rngs=nnx.Rngs(0)),
    jsnn.Recurrent(jsnn.LIF(0.9), jsnn.DelayedLinear(4, 4, max_delay=3, rngs=nnx.Rngs(0)), delay=2),
])  # fmt: skip
def test_right_neurons_pass(neuron):
    check_neuron(neuron)


@pytest.mark.slow
def test_a_network_after_an_image():
    network = jsnn.Sequential(jsnn.avg_pool, jsnn.flatten, nnx.Linear(2, 3, rngs=nnx.Rngs(0)), jsnn.LIF(0.9))
    check_neuron(network, (2, 2, 2))


@pytest.mark.slow
def test_the_documentation_s_neuron_passes_and_has_ten_lines():
    page = Path(__file__).parents[1] / "docs" / "neurons.md"
    imports, code = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)[:2]
    assert len([line for line in code.splitlines() if line.strip() and '"""' not in line]) <= 10
    found: dict = {}
    exec(imports + code, found)
    check_neuron(found["Cubic"]())
    check_neuron(found["Cubic"](nnx.Param(jnp.full(4, 0.9, jnp.float32)), nnx.Param(jnp.ones(4, jnp.float32))))


@pytest.mark.slow
def test_what_runs_away_is_warned_of():
    with pytest.warns(UserWarning, match="Izhikevich: a gradient is not finite .* under a current of 100:"):
        check_neuron(jsnn.Izhikevich())
    check_neuron(jsnn.QIF())
