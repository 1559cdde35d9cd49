"""A neuron called like a layer, `self.lif(x)`, inside of a `jsnn.Network`: a primitive in its traced program."""

import math
from contextvars import ContextVar
from typing import Any, NoReturn

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jsnn.arguments import check
from jsnn.neurons.checks import check_is_neuron
from jsnn.neurons.shapes import refuse_call
from jsnn.types import Array, Neuron, Shape

# (input [B, ...], the neuron's arrays) -> its output at one step; the rest of the neuron is a parameter, `tree`
neuron_p = Primitive("neuron")

# how many time steps stand in the first axis of what is traced, with the batch; None where it is the batch alone
steps_in_first_axis: ContextVar[tuple[int, Shape] | None] = ContextVar("steps_in_first_axis", default=None)

# the names of the neurons that the function being traced has called, and the shapes of their outputs, for its errors
outputs_so_far: ContextVar[list[tuple[str, Shape]]] = ContextVar("outputs_so_far")


def call(neuron: Neuron, x: Array, name: str | None = None) -> Array:
    """Return what stands for the output of a neuron while a `jsnn.Network` is traced.

    Args:
        neuron: any Neuron.
        x: its input at one time step, `[B, ...]`.
        name: what `jsnn.record` calls it; by default the path of attributes that leads to it, or its position among
            the neurons and its class.

    Raises:
        TypeError: outside of a network, where nothing carries the neuron's state; or if an argument is of another type.
    """
    if getattr(x, "shape", None) is None:
        refuse_call(neuron)
    check_is_neuron("call", neuron)
    x = check("x", x, (Array,))
    if not isinstance(name, str | None):
        raise TypeError(f"name must be a string, got {type(name).__name__}")
    leaves, tree = jax.tree.flatten(neuron)
    given = outputs_so_far.get([])
    name = name or str(getattr(neuron, "_path", f"{len(given)}_{type(neuron).__name__}"))
    output = _output(neuron, x, steps_in_first_axis.get())
    y = neuron_p.bind(x, *leaves, tree=tree, name=name, shape=output.shape, dtype=output.dtype)
    given.append((name, y.shape))
    return y


def neuron_of(tree: Any, leaves: Any) -> Neuron:
    """Return the neuron of a call."""
    return jax.tree.unflatten(tree, leaves)


def _output(neuron: Neuron, x: Array, folded: tuple[int, Shape] | None) -> jax.ShapeDtypeStruct:
    """The shape and dtype of a neuron's output."""
    steps, batch = folded or (1, x.shape[:1])

    def first(neuron: Neuron, x: Array) -> Array:
        return neuron.step(neuron.init(x.shape, x.dtype), x)[1]

    token = steps_in_first_axis.set(None)  # for networks in the network
    try:
        y = jax.eval_shape(first, neuron, jax.ShapeDtypeStruct((*batch, *x.shape[1:]), x.dtype))
    finally:
        steps_in_first_axis.reset(token)
    shape = (steps * math.prod(batch), *y.shape[len(batch) :]) if folded else y.shape
    return jax.ShapeDtypeStruct(shape, y.dtype)


@neuron_p.def_abstract_eval
def _known(*operands: Any, shape: Shape, dtype: Any, **_: Any) -> Any:
    return jax.core.ShapedArray(shape, dtype)


def _refuse(*operands: Any, tree: Any, **_: Any) -> NoReturn:
    refuse_call(neuron_of(tree, operands[1:]))


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
