"""The product of inputs and a sparse matrix, and its derivatives: one primitive, in loops over synapses.

The sum over examples b and synapses s, from the neuron pre[s] to post[s],

    sum of inputs[b, pre[s]] * weights[s] * outputs[b, post[s]]

is linear in each of its three factors. Its derivative with respect to `outputs` is the product of inputs and matrix,
the other two are what its gradient needs, and their derivatives are among the three again. Each takes time and memory
in proportion to the synapses and the examples: no matrix is ever made.

Synapses are sorted by pre: those of neuron i are starts[i], ..., starts[i + 1] - 1. On a CPU, XLA makes plain loops of
nested `fori_loop`s over numbers, 3 to 5 ns a synapse, for any numbers of synapses and spikes (docs/sparse.md compares
other forms). So, where few inputs are not 0, only their synapses are visited.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax.export import is_symbolic_dim
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jsnn.rounding import wide
from jsnn.types import Array
from jsnn.varying import alike

Factor: TypeAlias = Literal["inputs", "weights", "outputs"]

_GIVEN: dict[Factor, tuple[Factor, Factor]] = {
    "outputs": ("inputs", "weights"),
    "inputs": ("outputs", "weights"),
    "weights": ("inputs", "outputs"),
}
_BLOCK = 32  # inputs that are looked at together, whether all are 0
_EXAMPLES = 8  # so many examples take as long in one vector as one input alone
_MOST = 2**24  # numbers held at once on accelerators

# (first factor, second factor, post [S], starts [I + 1]) -> the third, which `wanted` names. inputs are [B, I],
# outputs [B, N], weights [S].
sparse_product_p = Primitive("sparse_product")


def sparse_product(x: Array, weights: Array, post: Array, starts: Array, out_features: int) -> Array:
    """Return inputs [B, I] times the matrix of the synapses, [B, N], in the dtype of the two together."""
    return sparse_product_p.bind(*alike((x, weights, post, starts)), wanted="outputs", size=out_features)


def presynaptic(starts: Array, synapses: int) -> Array:
    """Return the neuron that each synapse comes from, [S]."""
    return jnp.repeat(jnp.arange(len(starts) - 1), jnp.diff(starts), total_repeat_length=synapses)


def _shape(a: Any, b: Any, post: Any, starts: Any, wanted: Factor, size: int) -> tuple[int, ...]:
    return post.shape if wanted == "weights" else (a.shape[0], size if wanted == "outputs" else starts.shape[0] - 1)


@sparse_product_p.def_abstract_eval
def _known(a: Any, b: Any, post: Any, starts: Any, **params: Any) -> Any:
    dtype = jnp.result_type(a.dtype, b.dtype)
    return a.update(shape=_shape(a, b, post, starts, **params), dtype=dtype, weak_type=False)


sparse_product_p.def_impl(jax.jit(sparse_product_p.bind, static_argnames=("wanted", "size")))


# Derivatives


def _jvp(primals: Any, tangents: Any, **params: Any) -> tuple[Any, Any]:
    a, b, *synapses = primals
    y = sparse_product_p.bind(a, b, *synapses, **params)
    parts = [
        sparse_product_p.bind(*factors, *synapses, **params).astype(y.dtype)
        for factors, tangent in (((tangents[0], b), tangents[0]), ((a, tangents[1]), tangents[1]))
        if not isinstance(tangent, ad.Zero)
    ]
    return y, sum(parts[1:], parts[0]) if parts else ad.Zero(jax.typeof(y).to_tangent_aval())


def _transpose(cotangent: Any, a: Any, b: Any, *synapses: Any, wanted: Factor, size: int) -> list[Any]:
    first_is_linear = ad.is_undefined_primal(a)
    linear, other = (a, b) if first_is_linear else (b, a)
    role, other_role = _GIVEN[wanted] if first_is_linear else _GIVEN[wanted][::-1]
    found: Any = ad.Zero(linear.aval)
    if not isinstance(cotangent, ad.Zero):
        factors = {wanted: cotangent, other_role: other}
        found = sparse_product_p.bind(*(factors[name] for name in _GIVEN[role]), *synapses, wanted=role, size=size)
        found = found.astype(linear.aval.dtype)
    return [*((found, None) if first_is_linear else (None, found)), *[None] * len(synapses)]


def _batch(operands: Any, axes: Any, *, wanted: Factor, size: int) -> tuple[Array, int]:
    bind = functools.partial(sparse_product_p.bind, wanted=wanted, size=size)
    moved = [x if axis is None else jnp.moveaxis(x, axis, 0) for x, axis in zip(operands, axes)]
    if wanted != "weights" and all(axis is None for axis in axes[1:]):
        x = moved[0]  # several batches are one
        y = bind(x.reshape(math.prod(x.shape[:2]), x.shape[2]), *moved[1:])
        return y.reshape(*x.shape[:2], y.shape[-1]), 0
    batched = [index for index, axis in enumerate(axes) if axis is not None]

    def one(parts: list[Array]) -> Array:
        return bind(*(parts[batched.index(i)] if i in batched else x for i, x in enumerate(moved)))

    return jax.lax.map(one, [moved[index] for index in batched]), 0


ad.primitive_jvps[sparse_product_p] = _jvp
ad.primitive_transposes[sparse_product_p] = _transpose
batching.primitive_batchers[sparse_product_p] = _batch


# Loops for CPUs


def _zeros(shape: Any, x: Array) -> Array:
    """Return zeros of the same type as an array, which the loops fill."""
    return alike(jnp.zeros(shape, x.dtype), x)


def _on_cpu(a: Array, b: Array, post: Array, starts: Array, *, wanted: Factor, size: int) -> Array:
    shape = _shape(a, b, post, starts, wanted, size)
    if wanted == "inputs":
        return _all_inputs(a, b, post, starts)
    by_events, all_rows = (_events_outputs, _all_outputs) if wanted == "outputs" else (_events_weights, _all_weights)
    examples, inputs = a.shape
    if examples == 1:
        return by_events(a, b, post, starts, shape)
    few = jnp.count_nonzero(a) <= inputs * (1 + examples // _EXAMPLES)
    branches = [functools.partial(way, a, b, post, starts, shape) for way in (by_events, all_rows)]
    return jax.lax.cond(few, *branches)


def _over_events(x: Array, starts: Array, visit: Callable[[Array, Array, Array, Array], Array], found: Array) -> Array:
    """Visit the synapses of the inputs that are not 0: visit(found, synapse, input, example) -> found."""
    x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % _BLOCK)))
    width = x.shape[1]
    busy = jnp.any(x.reshape(-1, width // _BLOCK, _BLOCK) != 0, 2).ravel()
    x = x.ravel()

    def block(index: Array, found: Array) -> Array:
        first = index * _BLOCK
        return jax.lax.fori_loop(first, jnp.where(busy[index], first + _BLOCK, first), one, found)

    def one(index: Array, found: Array) -> Array:
        example, neuron = index // width, index % width
        value, start = x[index], starts[neuron]
        end = jnp.where(value != 0, starts[neuron + 1], start)
        return jax.lax.fori_loop(start, end, lambda s, found: visit(found, s, value, example), found)

    return jax.lax.fori_loop(0, busy.shape[0], block, found)


def _over_rows(starts: Array, visit: Callable[[Array, Array, Array], Array], found: Array) -> Array:
    """Visit all synapses: visit(found, synapse, neuron) -> found."""

    def one(neuron: Array, found: Array) -> Array:
        return jax.lax.fori_loop(starts[neuron], starts[neuron + 1], lambda s, found: visit(found, s, neuron), found)

    return jax.lax.fori_loop(0, len(starts) - 1, one, found)


def _events_outputs(x: Array, weights: Array, post: Array, starts: Array, shape: Any) -> Array:
    def visit(y: Array, s: Array, value: Array, example: Array) -> Array:
        return y.at[example * shape[1] + post[s]].add(value * weights[s])

    return _over_events(x, starts, visit, _zeros(math.prod(shape), x)).reshape(shape)


def _events_weights(x: Array, outputs: Array, post: Array, starts: Array, shape: Any) -> Array:
    size, outputs = outputs.shape[1], outputs.ravel()

    def visit(found: Array, s: Array, value: Array, example: Array) -> Array:
        return found.at[s].add(value * outputs[example * size + post[s]])

    return _over_events(x, starts, visit, _zeros(shape, x))


def _all_outputs(x: Array, weights: Array, post: Array, starts: Array, shape: Any) -> Array:
    x = x.T
    y = _zeros(shape[::-1], x)
    return _over_rows(starts, lambda y, s, neuron: y.at[post[s]].add(weights[s] * x[neuron]), y).T


def _all_weights(x: Array, outputs: Array, post: Array, starts: Array, shape: Any) -> Array:
    x, outputs = x.T, outputs.T
    found = _zeros(shape, x)
    return _over_rows(starts, lambda found, s, neuron: found.at[s].set(jnp.sum(x[neuron] * outputs[post[s]])), found)


def _all_inputs(outputs: Array, weights: Array, post: Array, starts: Array) -> Array:
    outputs = outputs.T

    def one(neuron: Array, x: Array) -> Array:
        total = jax.lax.fori_loop(
            starts[neuron],
            starts[neuron + 1],
            lambda s, total: total + weights[s] * outputs[post[s]],
            _zeros(outputs.shape[1], outputs),
        )
        return x.at[neuron].set(total)

    return jax.lax.fori_loop(0, len(starts) - 1, one, _zeros((len(starts) - 1, outputs.shape[1]), outputs)).T


# Gathers and scatters for accelerators, which do many synapses at once


def _on_accelerators(a: Array, b: Array, post: Array, starts: Array, *, wanted: Factor, size: int) -> Array:
    shape = _shape(a, b, post, starts, wanted, size)
    synapses, examples = post.shape[0], a.shape[0]
    pre = presynaptic(starts, synapses)
    if wanted == "weights":
        a, b = a.T, b.T
        pieces = _pieces(synapses, examples)
        return jax.lax.map(lambda ends: jnp.vdot(a[ends[0]], b[ends[1]]), (pre, post), batch_size=pieces)
    source, target = (pre, post) if wanted == "outputs" else (post, pre)

    def one(x: Array) -> Array:
        return jnp.zeros(shape[1], x.dtype).at[target].add(b * x[source])

    return jax.lax.map(one, a, batch_size=_pieces(examples, synapses))


def _pieces(count: int, numbers: int) -> int | None:
    """Return how many to take at once of something with so many numbers each; with a batch of any size, one by one."""
    return None if any(map(is_symbolic_dim, (count, numbers))) else max(1, min(count, _MOST // numbers))


def _lowering(way: Callable[..., Array]) -> Any:
    """Return the lowering of the product by a way for numbers in float32 or wider, of which there are some."""

    def product(a: Array, b: Array, post: Array, starts: Array, **params: Any) -> Array:
        dtype, shape = jnp.result_type(a, b), _shape(a, b, post, starts, **params)
        if 0 in (*shape, *a.shape, *b.shape):
            return jnp.zeros(shape, dtype)
        return way(*(wide(x.astype(dtype)) for x in (a, b)), post, starts, **params).astype(dtype)

    return mlir.lower_fun(product, multiple_results=False)


mlir.register_lowering(sparse_product_p, _lowering(_on_accelerators))
mlir.register_lowering(sparse_product_p, _lowering(_on_cpu), platform="cpu")
