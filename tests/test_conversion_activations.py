"""Activations are found by what they compute, however they are written."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from jax import lax

from jsnn.conversion.activations import KNOWN, PARAMETERS, find, is_homogeneous, name_of, not_linear
from jsnn.program import flatten, trace

W = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)), jnp.float32)


def look(function, *more, shape=(2, 3), dtype=jnp.float32):
    """The program of a function, its inputs, and the activations found in it, KNOWN or more."""
    jaxpr, _ = trace(function, jax.ShapeDtypeStruct(shape, dtype))
    program = flatten(jaxpr)
    return program, find(program, [*more, *KNOWN.values()], program.inputs)


def found(function, *more, **options):
    return [match.name for match in look(function, *more, **options)[1]]


def kept(function, *swapped, **options):
    program, matches = look(function, *swapped, **options)
    return not_linear(program, matches, swapped, program.inputs)


@jax.jit
def jitted_relu(x):
    return jax.nn.relu(x)


def shifted(function):
    """With something before and behind it."""
    return lambda x: 2 * function(x @ W + 1) - 3


PLAIN = {name: function for name, function in KNOWN.items() if function not in PARAMETERS}  # take one array alone
WRITTEN = [
    ("relu", jax.nn.relu),
    ("relu", nnx.relu),
    ("relu", linen.relu),
    ("relu", jitted_relu),
    ("relu", jax.checkpoint(jax.nn.relu)),
    ("relu", jax.vmap(jax.nn.relu)),
    ("relu", lambda x: jnp.maximum(x, 0)),
    ("relu", lambda x: jnp.maximum(0.0, x)),
    ("relu", lambda x: jnp.maximum(x, jnp.zeros_like(x))),
    ("relu", lambda x: jnp.maximum(x, np.float32(0))),
    ("relu", lambda x: lax.max(x, 0.0)),
    ("relu", lambda x: jnp.clip(x, 0)),
    ("relu", lambda x: jnp.where(x > 0, x, 0)),
    ("relu", lambda x: jnp.where(x >= 0, x, 0.0)),
    ("relu", lambda x: x * (x > 0)),
    ("relu", lambda x: x * (x >= 0)),
    ("relu", lambda x: jnp.where(x < 0, 0.0, x)),
    ("relu", lambda x: jnp.where(x <= 0, 0, x)),
    ("relu", lambda x: jnp.clip(x, 0, jnp.inf)),
    ("relu6", lambda x: jnp.minimum(jnp.maximum(x, 0), 6)),
    ("relu6", lambda x: jnp.minimum(6.0, jax.nn.relu(x))),
    ("relu6", lambda x: jnp.clip(x, 0, 6)),
    ("leaky_relu", nnx.leaky_relu),
    ("leaky_relu", lambda x: jax.nn.leaky_relu(x, 0.01)),
    ("leaky_relu", lambda x: jnp.where(x > 0, x, 0.01 * x)),
    ("leaky_relu", lambda x: jnp.where(x < 0, 0.01 * x, x)),
    ("leaky_relu", lambda x: jnp.maximum(0.01 * x, x)),
    ("gelu", nnx.gelu),
    ("gelu (exact)", lambda x: jax.nn.gelu(x, approximate=False)),
    ("silu", jax.nn.swish),
    ("silu", lambda x: x * jax.nn.sigmoid(x)),
    ("silu", lambda x: lax.logistic(x) * x),
    ("sigmoid", lax.logistic),
    ("sigmoid", lambda x: 1 / (1 + jnp.exp(-x))),
    ("tanh", linen.tanh),
    ("softplus", lambda x: jnp.logaddexp(x, 0)),
    ("softmax", lambda x: jax.nn.softmax(x, axis=1)),
]


@pytest.mark.parametrize(("name", "function"), [*WRITTEN, *PLAIN.items()])
def test_found_however_written(name, function):
    assert found(shifted(function)) == [name]
    assert kept(shifted(function)) == [name]
    assert kept(shifted(function), KNOWN[name]) == []


@pytest.mark.parametrize("options", [{"dtype": jnp.bfloat16}, {"shape": (2, 4, 4, 3)}, {"shape": (3,)}], ids=str)
@pytest.mark.parametrize("name", PLAIN)
def test_found_in_any_dtype_and_shape(name, options):
    assert found(KNOWN[name], **options) == [name]


NONE = {
    "another number": (lambda x: jnp.maximum(x, 1), ["max"]),
    "another slope": (lambda x: jax.nn.leaky_relu(x, 0.2), ["ge", "select_n"]),
    "of the weights": (lambda x: x @ jax.nn.relu(W), []),
    "of what is of another shape": (lambda x: jnp.maximum(x[:1], jnp.zeros((2, 3))), ["max"]),
    "a clip": (lambda x: jnp.clip(x, 0, 1), ["clip"]),
    "a clip by hand": (lambda x: jnp.minimum(jax.nn.relu(x), 20.0), ["max", "min"]),
    "of two values": (lambda x: jnp.where(x > 0, x + 1, 0), ["gt", "select_n"]),
    "fast variance": (nnx.LayerNorm(3, rngs=nnx.Rngs(0)), ["layer norm"]),
    "linen's variance": (
        lambda x: linen.LayerNorm().apply({"params": {"scale": jnp.ones(3), "bias": jnp.ones(3)}}, x),
        ["layer norm"],
    ),
    "group norm": (
        nnx.GroupNorm(3, num_groups=3, rngs=nnx.Rngs(0)),
        ["layer norm"],
    ),
    "standardize": (jax.nn.standardize, ["layer norm"]),
    "rms norm": (nnx.RMSNorm(3, rngs=nnx.Rngs(0)), ["rms norm"]),
    "max pooling": (
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 3), (1, 3), "VALID"),
        ["max_pool"],
    ),
    "product": (lambda x: x * (x @ W), ["mul"]),
    "attention": (lambda x: x @ x.T @ x, ["dot_general", "dot_general"]),
    "quotient": (lambda x: 1 / x, ["div"]),
    "rounding": (lambda x: x.astype(int).astype(float), ["convert_element_type"]),
    "choice": (lambda x: W[jnp.argmax(x, 1)], ["argmax"]),
    "loop": (lambda x: lax.scan(lambda c, _: (jnp.sin(c), None), x, length=2)[0], ["scan"]),
    "linear": (lambda x: jnp.concatenate([x.T.reshape(2, 3), -x[::-1] / 2], 1).mean(0)[1:].sum(), []),
    "a mask": (lambda x: jnp.where(W[:2] > 0, x, 0).astype(jnp.bfloat16), []),
}


@pytest.mark.rows(8)
@pytest.mark.parametrize(("function", "others"), NONE.values(), ids=NONE)
def test_not_taken_for_an_activation_and_yet_not_passed_over(function, others):
    assert found(function) == []
    assert kept(function) == others


def test_functions_of_ones_own_are_found():
    leaky = functools.partial(jax.nn.leaky_relu, negative_slope=0.2)

    def cube(x):
        return jnp.where(x > 0, x**3, 0)

    def network(x):
        return cube(leaky(x @ W) @ W)

    assert found(network, leaky, cube) == ["leaky_relu", "cube"]
    assert [match.function for match in look(network, leaky, cube)[1]] == [leaky, cube]
    written_again = functools.partial(jax.nn.leaky_relu, negative_slope=0.2)
    assert found(network, written_again) == ["leaky_relu"]
    for written in (lambda x: jnp.where(x > 0, x, 0.2 * x), lambda x: jnp.maximum(x, 0.2 * x)):
        assert found(written, leaky) == ["leaky_relu"]
        assert found(written, functools.partial(jax.nn.leaky_relu, negative_slope=0.3)) == []
    steep = functools.partial(jax.nn.leaky_relu, negative_slope=2.0)
    assert found(lambda x: jnp.maximum(x, 2.0 * x), steep) == []  # which is 2 x where x is positive
    assert found(network) == []
    assert found(lambda x: jnp.clip(x, 0, 1), lambda x: jnp.clip(x, 0, 1)) == ["lambda"]


def test_one_of_ones_own_is_preferred_to_a_known_one():
    def mine(x):
        return jnp.maximum(x, 0)

    assert found(jax.nn.relu, mine) == ["mine"]


def test_the_larger_one_is_meant():
    assert found(lambda x: jax.nn.silu(x) + jax.nn.sigmoid(x)) == ["silu", "sigmoid"]
    assert found(jax.nn.mish, jnp.tanh, jax.nn.softplus) == ["mish"]
    assert found(jax.nn.hard_silu, jax.nn.relu6) == ["hard_silu"]
    assert found(lambda x: jax.nn.glu(jnp.concatenate([x, x], 1))) == ["sigmoid"]


def test_in_the_order_of_the_program():
    def network(x):
        x = jnp.tanh(jax.nn.relu(x) @ W)
        return jax.nn.softmax(jax.nn.relu(x) + jax.nn.gelu(x))

    assert found(network) == ["relu", "tanh", "relu", "gelu", "softmax"]
    assert kept(network, jax.nn.relu) == ["tanh", "gelu", "softmax"]
    assert kept(lambda x: jnp.sin(jax.nn.relu(jnp.cos(x))), jax.nn.relu) == ["cos", "sin"]
    assert found(lambda x: jax.nn.relu(jax.nn.relu(x))) == ["relu", "relu"]


def test_an_activation_whose_inside_is_used_elsewhere_is_none():
    def inside_used(x):
        positive = jnp.maximum(x, 0)
        return jnp.minimum(positive, 6) + positive

    assert found(inside_used) == []  # neither a relu6 nor a relu, from which a min takes the top

    def gate_used(x):
        gate = jax.nn.sigmoid(x)
        return x * gate + gate

    assert found(gate_used) == ["sigmoid"]


def test_an_operand_or_a_result_may_be_used_elsewhere():
    def network(x):
        y = jax.nn.relu(x)
        return jnp.tanh(x) + y * W[0] + y

    assert found(network) == ["relu", "tanh"]


def test_matches_say_where():
    program, (match,) = look(jax.jit(lambda x: jnp.exp(jax.nn.silu(x + 1))))
    operations = [program.operations[index] for index in sorted(match.operations)]
    assert [operation.name for operation in operations] == ["logistic", "mul"]
    assert match.operand == program.operations[0].outputs[0]
    assert match.result == operations[-1].outputs[0]
    assert match.path == operations[-1].path


@pytest.mark.rows(8)
@pytest.mark.parametrize("name", KNOWN)
def test_homogeneity_of_the_known(name):
    assert is_homogeneous(KNOWN[name]) == (name in ("relu", "leaky_relu"))


def test_homogeneity():
    assert is_homogeneous(functools.partial(jax.nn.leaky_relu, negative_slope=0.2))
    assert is_homogeneous(jnp.abs)
    assert not is_homogeneous(lambda x: jnp.clip(x, 0, 1000))
    assert not is_homogeneous(lambda x: jnp.where(x > 0.01, x, 0))
    assert jax.jit(lambda x: x if is_homogeneous(lambda x: -x) else 0 * x)(1.0) == 1


def test_names():
    assert [name_of(function) for function in KNOWN.values()] == list(KNOWN)
    assert name_of(functools.partial(jnp.clip, min=0)) == "clip"
    assert name_of(functools.partial(functools.partial(jnp.clip, min=0), max=1)) == "clip"
    assert name_of(lambda x: x) == "lambda"
    assert name_of(nnx.Linear(1, 1, rngs=nnx.Rngs(0))) == "Linear"
