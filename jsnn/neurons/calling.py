"""A neuron called like a layer, `self.lif(x)`, inside of a `jsnn.Network`: a primitive in its traced program."""

import functools
import itertools
import math
from collections.abc import Collection, Sequence
from contextvars import ContextVar
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jsnn.arguments import check
from jsnn.neurons.checks import check_is_neuron
from jsnn.neurons.shapes import has_shape, refuse_call
from jsnn.types import Array, Inputs, Neuron, Shape, Tree
from jsnn.varying import shaped

# (arrays of the input [B, ...], arrays of the neuron) -> arrays of the output at one step. The structures of the input
# and the neuron are the parameters `structure` and `tree`.
neuron_p = Primitive("neuron")
neuron_p.multiple_results = True

# how many time steps stand in the first axis of what is traced, with the batch; None where it is the batch alone
steps_in_first_axis: ContextVar[tuple[int, Shape] | None] = ContextVar("steps_in_first_axis", default=None)

# the names of the neurons that the function being traced has called, and the shapes of their outputs, for its errors
outputs_so_far: ContextVar[list[tuple[str, Shape]]] = ContextVar("outputs_so_far")


def call(neuron: Neuron, x: Inputs, name: str | None = None) -> Any:
    """Return what stands for the output of a neuron while a `jsnn.Network` is traced.

    Args:
        neuron: any Neuron.
        x: its input at one time step, `[B, ...]`; a network may take several as a pytree.
        name: what `jsnn.record` calls it; by default the path of attributes that leads to it, or its position among
            the neurons and its class.

    Raises:
        TypeError: outside of a network, where nothing carries the neuron's state; or if an argument is of another type.
    """
    if not has_shape(x):
        refuse_call(neuron)
    check_is_neuron("call", neuron)
    operands, structure = jax.tree.flatten(check("x", x, (Array, Tree)))
    if not isinstance(name, str | None):
        raise TypeError(f"name must be a string, got {type(name).__name__}")
    leaves, tree = _flatten(neuron)
    given = outputs_so_far.get([])
    name = name or str(getattr(neuron, "_path", f"{len(given)}_{type(neuron).__name__}"))
    output = output_of(neuron, x, steps_in_first_axis.get())
    types = tuple(jax.typeof(shaped(y, y.shape)) for y in jax.tree.leaves(output))
    results = neuron_p.bind(*operands, *leaves, structure=structure, tree=tree, name=name, types=types)
    given.extend((name, y.shape) for y in results)
    return jax.tree.unflatten(jax.tree.structure(output), results)


def free_name(name: str, taken: Collection[str]) -> str:
    """Return the name, or where it is taken already, the first of `name:2`, `name:3`, ... that is not."""
    numbered = (f"{name}:{number}" for number in itertools.count(2))
    return name if name not in taken else next(other for other in numbered if other not in taken)


class _Opaque:
    """A neuron that JAX does not know as a pytree, as a leaf of none: all of it is structure."""

    def __init__(self, neuron: Neuron) -> None:
        self.neuron = neuron


jax.tree_util.register_pytree_node(_Opaque, lambda part: ((), part.neuron), lambda neuron, _: _Opaque(neuron))


def _flatten(neuron: Neuron) -> tuple[list[Any], Any]:
    """Return the arrays of a neuron, and its structure, of which `neuron_of` makes it again."""
    return jax.tree.flatten(_Opaque(neuron) if jax.tree_util.all_leaves([neuron]) else neuron)


def neuron_of(tree: Any, arrays: Sequence[Any]) -> Neuron:
    """Return a neuron made of its structure and its arrays."""
    neuron = tree.unflatten(arrays)
    return neuron.neuron if isinstance(neuron, _Opaque) else neuron


def split_operands(params: dict[str, Any], operands: Sequence[Any]) -> tuple[Any, Neuron]:
    """Return the input and the neuron of a call, made of what stands for their arrays."""
    count = params["structure"].num_leaves
    return params["structure"].unflatten(operands[:count]), neuron_of(params["tree"], operands[count:])


def output_of(neuron: Neuron, x: Any, folded: tuple[int, Shape] | None = None) -> Any:
    """Return the shapes and dtypes of a neuron's output; `folded` is that of `steps_in_first_axis`."""
    steps, batch = folded or (1, ())
    if folded and any(leaf.shape[:1] != (steps * math.prod(batch),) for leaf in jax.tree.leaves(x)):
        raise ValueError(f"{type(neuron).__name__} is given {jax.tree.map(jnp.shape, x)}, without the batch first")
    leaves, structure = jax.tree.flatten(x)
    given = tuple(shaped(leaf, (*batch, *leaf.shape[1:]) if folded else leaf.shape) for leaf in leaves)
    arrays, tree = _flatten(neuron)
    token = steps_in_first_axis.set(None)  # for networks in the network
    try:
        find = _output_at_one_step if _is_hashable(tree) else _output_at_one_step.__wrapped__
        y = find(tree, tuple(map(jax.typeof, arrays)), structure, given)
    finally:
        steps_in_first_axis.reset(token)
    if folded is None:
        return y
    first_axis = steps * math.prod(batch)
    return jax.tree.map(lambda y: shaped(y, (first_axis, *y.shape[len(batch) :])), y)


@functools.lru_cache(maxsize=1024)
def _output_at_one_step(tree: Any, arrays: tuple[Any, ...], structure: Any, given: tuple[Any, ...]) -> Any:
    """Return the same for one time step; kept, since equal layers ask for it again and again."""

    def first(neuron: Neuron, x: Any) -> Any:
        return neuron.step(neuron.init(jax.tree.map(jnp.shape, x), jnp.result_type(*jax.tree.leaves(x))), x)[1]

    return jax.eval_shape(lambda arrays, x: first(neuron_of(tree, arrays), x), arrays, structure.unflatten(given))


def _is_hashable(tree: Any) -> bool:
    try:
        hash(tree)
    except TypeError:  # a user's neuron with an array in its structure
        return False
    return True


@neuron_p.def_abstract_eval
def _known(*_: Any, types: Sequence[Any], **__: Any) -> Any:
    return list(types)


def _refuse(*operands: Any, **params: Any) -> NoReturn:
    refuse_call(split_operands(params, operands)[1])


def _refuse_transform(transform: str) -> Any:
    def refuse(operands: Any, *_: Any, name: str, **__: Any) -> NoReturn:
        raise TypeError(
            f"{name} is called inside of jax.{transform}: transform the network as a whole, around jsnn.unroll"
        )

    return refuse


neuron_p.def_impl(_refuse)
mlir.register_lowering(neuron_p, lambda ctx, *operands, **params: _refuse(*operands, **params))
ad.primitive_jvps[neuron_p] = _refuse_transform("grad")
batching.primitive_batchers[neuron_p] = _refuse_transform("vmap")


def dotted(path: tuple[Any, ...]) -> str:
    """Return a path of attributes in a network as a name: the function in `Network(function)` goes without saying."""
    return ".".join(map(str, path[1:] if path[:1] == ("function",) else path))


def first_name(neuron: Neuron) -> str:
    """Return what a neuron is called that is itself the function of a network."""
    return f"0_{type(neuron).__name__}"
