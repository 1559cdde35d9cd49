"""Traced programs: opened calls, constants, what depends on what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jsnn.program import Constant, bodies, flatten, read, shape_of, trace

X = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
W = jnp.asarray(np.arange(9.0).reshape(3, 3), jnp.float32)


@jax.custom_jvp
def straight_through(x):
    return jnp.round(x)


straight_through.defjvp(lambda primals, tangents: (straight_through(*primals), tangents[0]))


@jax.custom_vjp
def reversed_gradient(x):
    return 2 * x


reversed_gradient.defvjp(lambda x: (2 * x, None), lambda _, gradient: (-gradient,))


def program_of(function, opened=None):
    """The program with the calls at these paths opened; None opens all."""
    return flatten(trace(function, X)[0], lambda path, _: opened is None or path in opened)


def run(program, x):
    values = {**program.constants, program.inputs[0]: x}
    for operation in program.operations:
        operation.run(values)
    return [read(values, atom) for atom in program.outputs]


def names(program):
    return [operation.name for operation in program.operations]


CALLS = {
    "jit": jax.jit(lambda x: jnp.exp(x) + 1),
    "nested": jax.jit(lambda x: jax.jit(jnp.exp)(x) + 1),
    "remat": jax.checkpoint(lambda x: jnp.exp(x) + 1),
    "custom_jvp": lambda x: straight_through(jnp.exp(x)),
    "custom_vjp": lambda x: reversed_gradient(jnp.exp(x)),
    "closure": jax.jit(lambda x: x @ W),
    "loop": lambda x: lax.scan(lambda c, _: (jnp.exp(c), None), x, length=2)[0],
    "platform": lambda x: lax.platform_dependent(x, cpu=lambda x: lax.map(jnp.exp, x), default=jnp.exp),
    "literals": lambda x: 1 - 2 * x,
    "twice the same": lambda x: x * x,
    "results not used": lambda x: lax.top_k(x, 2)[1] + lax.split(x, [1, 2], 1)[1].astype(jnp.int32),
    "constant results": lambda x: (x, 3.0, jnp.ones(2)),
    "input unused": lambda x: jnp.zeros(3),
}


@pytest.mark.rows(8)
@pytest.mark.parametrize("opened", [None, ()], ids=["opened", "closed"])
@pytest.mark.parametrize("function", CALLS.values(), ids=CALLS)
def test_a_program_computes_what_its_function_does(function, opened):
    expected = jax.tree.leaves(function(X))
    for ours, theirs in zip(run(program_of(function, opened), X), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_calls_are_opened():
    for name in ("jit", "nested", "remat"):
        assert names(program_of(CALLS[name])) == ["exp", "add"], name
        assert len(program_of(CALLS[name], ()).operations) == 1, name
    assert names(program_of(CALLS["custom_jvp"])) == ["exp", "round"]
    assert names(program_of(CALLS["custom_jvp"], ())) == ["exp", "custom_jvp_call"]
    assert names(program_of(CALLS["custom_vjp"])) == ["exp", "mul"]
    assert names(program_of(CALLS["loop"])) == ["scan"]
    assert names(program_of(CALLS["platform"])) == ["exp"]  # what all platforms have in common
    assert names(program_of(CALLS["platform"], ())) == ["platform_index", "cond"]


def test_only_the_calls_named_are_opened():
    def function(x):
        return jax.jit(jnp.tanh)(jax.jit(lambda x: jax.jit(jnp.exp)(x) + 1)(x))

    assert [operation.path for operation in program_of(function).operations] == [(0, 0, 0), (0, 1), (1, 0)]
    assert names(program_of(function, [(0,)])) == ["jit", "add", "jit"]
    assert names(program_of(function, [(0,), (0, 0)])) == ["exp", "add", "jit"]
    assert names(program_of(function, [(1,)])) == ["jit", "tanh"]


def test_closed_calls_keep_their_derivatives():
    program = program_of(CALLS["custom_jvp"], ())
    np.testing.assert_allclose(jax.grad(lambda x: run(program, x)[0].sum())(X), np.exp(X), rtol=1e-6)
    opened = program_of(CALLS["custom_jvp"])
    assert not jax.grad(lambda x: run(opened, x)[0].sum())(X).any()


def test_constants_are_the_same_for_all_programs_and_each_there_once():
    bias = jnp.ones(3)
    inner = jax.jit(lambda x: x @ W + bias)

    def function(x):
        return jnp.tanh(inner(jax.jit(inner)(x)) @ W)

    for opened in (None, (), [(0,)]):
        constants = list(program_of(function, opened).constants.values())
        assert len(constants) == 2
        assert constants[0] is W
        assert constants[1] is bias


def test_what_the_outputs_do_not_need_is_left_out():
    def function(x):
        jnp.sin(x) + jax.random.normal(jax.random.key(0), x.shape)
        return jnp.exp(x)

    assert names(program_of(function)) == ["exp"]


def test_dependence():
    def function(x):
        weights = jnp.tanh(W) * 2
        return jnp.exp(x @ weights) + jnp.sum(weights)

    program = program_of(function)
    dependent = program.depending_on(program.inputs)
    assert [op.name for op in program.operations if set(op.outputs) & dependent] == ["dot_general", "exp", "add"]
    (constant,) = program.constants
    assert len(program.depending_on([constant]) - {constant}) == len(program.operations)
    assert program.depending_on([]) == set()

    exp = next(op for op in program.operations if op.name == "exp")
    needed = [program.operations[index].name for index in sorted(program.needed_for(exp.inputs))]
    assert needed == ["tanh", "mul", "dot_general"]
    assert program.needed_for([Constant(np.asarray(1.0))]) == set()
    assert program.needed_for(program.inputs) == set()
    assert program.operations[program.producers()[exp.outputs[0]]] is exp


def test_shapes_and_values():
    program = program_of(lambda x: 2 * x @ W)
    assert [shape_of(program, atom) for atom in program.operations[0].inputs] == [(), (2, 3)]
    assert [shape_of(program, atom) for atom in program.operations[1].inputs] == [(2, 3), (3, 3)]
    assert program.types[program.inputs[0]].dtype == jnp.float32
    assert read({3: "x"}, 3) == "x"
    assert read({}, Constant(np.asarray(2.5))) == 2.5


def test_tracing_computes_nothing_and_says_what_is_returned():
    jaxpr, returned = trace(lambda x: (x @ W, x), jax.ShapeDtypeStruct((4, 3), jnp.bfloat16))
    assert len(jaxpr.eqns) > 0
    assert [kind.shape for kind in returned] == [(4, 3), (4, 3)]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (CALLS["loop"], [["exp"]]),
        (lambda x: lax.cond(x.sum() > 0, jnp.exp, jnp.sin, x), [["sin"], ["exp"]]),
        (lambda x: lax.while_loop(lambda x: jnp.all(x < 2), jnp.exp, x), [["exp"], ["lt", "reduce_and"]]),
        (lambda x: lax.map(jax.jit(jnp.exp), x), [["exp"]]),
        (jnp.exp, []),
    ],
    ids=["scan", "cond", "while", "map", "none"],
)
def test_bodies_of_control_flow(function, expected):
    program = program_of(function)
    found = [names(flatten(body)) for operation in program.operations for body in bodies(operation)]
    assert sorted(found) == sorted(expected)
