"""A neuron called like a layer, `self.lif(x)`, inside of a `jsnn.Network`: a primitive in its traced program."""

from contextvars import ContextVar
from typing import Any, NoReturn

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jsnn.neurons.shapes import refuse_call
from jsnn.types import Array, Neuron, Shape

# (input [B, ...], the neuron's arrays) -> its output at one step; the rest of the neuron is a parameter, `tree`
neuron_p = Primitive("neuron")


# the names of the neurons that the function being traced has called, and the shapes of their outputs, for its errors
outputs_so_far: ContextVar[list[tuple[str, Shape]]] = ContextVar("outputs_so_far")


def call(neuron: Neuron, x: Array) -> Array:
    """Return what stands for the output of a neuron while a `jsnn.Network` is traced.

    Raises:
        TypeError: outside of a network, where nothing carries the neuron's state.
    """
    if getattr(x, "shape", None) is None:
        refuse_call(neuron)
    leaves, tree = jax.tree.flatten(neuron)
    y = neuron_p.bind(x, *leaves, tree=tree)
    given = outputs_so_far.get([])
    given.append((getattr(neuron, "_path", f"{len(given)}_{type(neuron).__name__}"), y.shape))
    return y


def neuron_of(tree: Any, leaves: Any) -> Neuron:
    """Return the neuron of a call."""
    return jax.tree.unflatten(tree, leaves)


@neuron_p.def_abstract_eval
def _output(x: Any, *leaves: Any, tree: Any) -> Any:
    neuron = neuron_of(tree, [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves])

    def first(neuron: Neuron, x: Array) -> Array:
        return neuron.step(neuron.init(x.shape, x.dtype), x)[1]

    y = jax.eval_shape(first, neuron, jax.ShapeDtypeStruct(x.shape, x.dtype))
    return jax.core.ShapedArray(y.shape, y.dtype)


def _refuse(*operands: Any, tree: Any) -> NoReturn:
    refuse_call(neuron_of(tree, operands[1:]))


def _refuse_transform(transform: str) -> Any:
    def refuse(operands: Any, *_: Any, tree: Any) -> NoReturn:
        name = type(neuron_of(tree, operands[1:])).__name__
        raise TypeError(
            f"{name} is called inside of jax.{transform}: transform the network as a whole, around jsnn.unroll"
        )

    return refuse


neuron_p.def_impl(_refuse)
mlir.register_lowering(neuron_p, lambda ctx, *operands, tree: _refuse(*operands, tree=tree))
ad.primitive_jvps[neuron_p] = _refuse_transform("grad")
batching.primitive_batchers[neuron_p] = _refuse_transform("vmap")
