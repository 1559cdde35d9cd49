"""From a neuron to a program: its step and the gradient of its step as elementwise jaxprs."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn, Literal
from jax.interpreters import partial_eval

from jsnn.fused.operations import ARITHMETIC, FUNCTIONS, REWRITTEN
from jsnn.program import called
from jsnn.types import Array, Neuron, Shape, State


class Program(NamedTuple):
    """A step and its gradient. All their arrays have one shape, for which the kernels put that of a block.

    The backward part takes `(*constants, *state, x, *d_state, d_y)`, of which it reads only some. There are gradients,
    d_..., only of floating point numbers.
    """

    step: Jaxpr
    """(*constants, *state, x) -> (*state, y)."""
    forward: Jaxpr
    """The same without calls."""
    backward: Any
    """Jaxpr (what it reads) -> (*d_constants, *d_state, d_x); None if the step refuses."""
    reads: list[bool]
    num_constants: int


def trace(neuron: Neuron, state: State, current: Any) -> tuple[Program, list[Any]] | None:
    """Return the program of a neuron and its constants, the arrays of the neuron that it uses.

    None if it does not fit.
    """
    shape = current.shape
    structure: Any
    leaves, structure = jax.tree.flatten(neuron)
    where = [
        index for index, leaf in enumerate(leaves) if isinstance(leaf, jax.Array | np.ndarray | jax.ShapeDtypeStruct)
    ]
    arrays = [leaves[index] for index in where]

    def step(arrays: list[Any], state: State, current: Array) -> tuple[State, Any]:
        parts = dict(zip(where, arrays, strict=True))
        neuron = structure.unflatten([parts.get(index, leaf) for index, leaf in enumerate(leaves)])
        return neuron.step(state, current)

    if not shape or not all(isinstance(size, int) for size in shape):  # as in an export for batches of any size
        return None
    if any(leaf.shape != shape for leaf in jax.tree.leaves(state)):
        return None
    if not _is_elementwise(jax.make_jaxpr(step)(arrays, state, current).jaxpr):
        return None  # before parameters are broadcast, with which a matrix product would make no sense
    wide = [_broadcast(jax.eval_shape(lambda x: x, array), shape) for array in arrays]
    try:
        closed, types = jax.make_jaxpr(step, return_shape=True)(wide, state, current)
    except Exception:  # the step minds what shape its parameters have
        return None
    before, after = (jax.tree.flatten(jax.tree.map(_dtype, tree)) for tree in (state, types[0]))
    if before != after or not isinstance(types[1], jax.ShapeDtypeStruct) or not _is_elementwise(closed.jaxpr):
        return None

    constants = [*closed.consts, *arrays]
    whole = closed.jaxpr.replace(
        constvars=[],
        invars=[*closed.jaxpr.constvars, *closed.jaxpr.invars],
        debug_info=closed.jaxpr.debug_info.with_unknown_names(),
    )
    keep = [index >= len(constants) for index in range(len(whole.invars))]
    whole, used = partial_eval.dce_jaxpr(whole, [True] * len(whole.outvars), instantiate=keep)
    constants = [constant for constant, is_used in zip(constants, used, strict=False) if is_used]
    forward = _inline(whole)
    if not _has_one_shape(forward, shape):
        return None
    try:
        gradient = gradient_of(whole)
    except TypeError:  # as a neuron says that is not to be differentiated
        return Program(whole, forward, None, [True] * len(whole.invars), len(constants)), constants
    if gradient.constvars or not _is_elementwise(gradient):
        return None
    backward, reads = partial_eval.dce_jaxpr(_inline(gradient), [True] * len(gradient.outvars))
    if not _has_one_shape(backward, shape):
        return None
    return Program(whole, forward, backward, reads, len(constants)), constants


def _broadcast(array: jax.ShapeDtypeStruct, shape: Shape) -> jax.ShapeDtypeStruct:
    """Return a parameter with one value a neuron; as it is where it cannot have one, such as a key."""
    try:
        fits = np.broadcast_shapes(array.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits or jnp.issubdtype(array.dtype, jax.dtypes.extended):
        return array
    return jax.ShapeDtypeStruct(shape, array.dtype, weak_type=array.weak_type)


def gradient_of(step: Jaxpr) -> Jaxpr:
    """Return `(*inputs, *d_outputs) -> (*d_inputs)` of a step that is not inlined yet, which says its derivative."""

    def gradient(inputs: list[Array], d_outputs: list[Array]) -> list[Array]:
        def smooth(*smooth_inputs: Array) -> list[Array]:
            given = iter(smooth_inputs)
            merged = [next(given) if is_smooth(x) else x for x in inputs]
            return [y for y in jax.core.eval_jaxpr(step, [], *merged) if is_smooth(y)]

        return jax.vjp(smooth, *filter(is_smooth, inputs))[1](d_outputs)

    inputs, outputs = [[abstract(var) for var in variables] for variables in (step.invars, step.outvars)]
    return jax.make_jaxpr(gradient)(inputs, [y for y in outputs if is_smooth(y)]).jaxpr


def _dtype(x: Any) -> Any:
    return x.dtype


def abstract(var: Any) -> jax.ShapeDtypeStruct:
    """Return the shape and dtype of a variable or constant of a jaxpr."""
    return jax.ShapeDtypeStruct(var.aval.shape, var.aval.dtype, weak_type=getattr(var.aval, "weak_type", False))


def is_smooth(x: Any) -> bool:
    """Return whether there is a gradient of an array: whether its numbers are floating point."""
    return jnp.issubdtype(x.dtype, jnp.inexact)


def _is_elementwise(jaxpr: Jaxpr) -> bool:
    """Return whether all operations are elementwise, those in calls included."""
    for eqn in jaxpr.eqns:
        name, inner = eqn.primitive.name, called(eqn)
        if inner is not None:
            if not _is_elementwise(inner.jaxpr):
                return False
        elif name == "broadcast_in_dim":  # along leading axes only, as parameters are broadcast
            given, wanted = (len(abstract(var).shape) for var in (eqn.invars[0], eqn.outvars[0]))
            if eqn.params["broadcast_dimensions"] != tuple(range(wanted - given, wanted)):
                return False
        elif name == "reshape":  # to the same shape: so the gradient of a step says on which devices it lies
            if abstract(eqn.invars[0]).shape != abstract(eqn.outvars[0]).shape:
                return False
        elif name not in ARITHMETIC | FUNCTIONS | REWRITTEN.keys():
            return False
    return True


def _has_one_shape(jaxpr: Jaxpr, shape: Shape) -> bool:
    """Return whether inputs and outputs have this shape, and all between them, too, or none."""
    between = [var for eqn in jaxpr.eqns for var in eqn.outvars]
    ends = [*jaxpr.invars, *jaxpr.outvars]
    return all(abstract(var).shape in ((), shape) for var in between) and all(
        abstract(var).shape == shape for var in ends
    )


def _inline(jaxpr: Jaxpr) -> Jaxpr:
    """Return the same elementwise operations in terms of those that a kernel has, without calls and names."""

    def evaluate(jaxpr: Jaxpr, consts: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
        values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *inputs], strict=True))
        for eqn in jaxpr.eqns:
            inputs = [read(values, atom) for atom in eqn.invars]
            inner = called(eqn)
            if inner is not None:
                outputs = evaluate(inner.jaxpr, inner.consts, inputs)
            elif eqn.primitive.name == "reshape":
                outputs = inputs
            else:
                outputs = [_apply(eqn, inputs)]
            values.update(zip(eqn.outvars, outputs, strict=True))
        return [read(values, atom) for atom in jaxpr.outvars]

    return jax.make_jaxpr(lambda *inputs: evaluate(jaxpr, [], inputs))(*map(abstract, jaxpr.invars)).jaxpr


def _apply(eqn: JaxprEqn, inputs: Sequence[Any]) -> Any:
    """Return what an operation gives; functions are computed in 32 bits or more, as by XLA."""
    name = eqn.primitive.name
    if name not in FUNCTIONS | REWRITTEN.keys():
        return eqn.primitive.bind(*inputs, **eqn.params)
    inputs = [
        jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32)) if is_smooth(x) else jnp.asarray(x) for x in inputs
    ]
    output = REWRITTEN[name](*inputs, **eqn.params) if name in REWRITTEN else eqn.primitive.bind(*inputs, **eqn.params)
    return jax.lax.convert_element_type(output, abstract(eqn.outvars[0]).dtype)


def read(values: dict[Any, Any], atom: Any) -> Any:
    """Return the value of a variable or constant of a jaxpr."""
    return atom.val if isinstance(atom, Literal) else values[atom]
