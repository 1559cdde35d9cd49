"""The loop over time as one GPU kernel, for every neuron whose step is elementwise.

On a GPU a scan launches at least one kernel a step, and hands the state on through memory. Here each program of one
kernel takes a block of neurons, keeps their state in registers and loops over time itself:

    forward     for t = 0 .. T-1:  state, y[t] = step(state, x[t])      for a gradient it keeps the states before, too
    backward    for t = T-1 .. 0:  the gradients of x[t], of the state before and of the parameters, from those of
                                   y[t] and the state after

Nothing is written twice for this: a neuron's step and its gradient are traced once, at the neurons' own shape, and
where all they do is elementwise, the kernels do the same to a block. Parameters are broadcast to one value a neuron
outside of the kernels, so that what sums their gradients over the batch is JAX.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jax.extend.core import Jaxpr, JaxprEqn, Literal
from jax.interpreters import partial_eval

from jsnn.types import Array, Neuron, Shape, State

# One neuron a thread: a small layer spreads over all processors, and a large one hides the latency of memory behind
# its many programs. Neither number has met a GPU yet: tune them there. Triton demands powers of 2.
BLOCK = 128
NUM_WARPS = 4

# What Triton can do elementwise. The functions it has in 32 and 64 bits only.
_ARITHMETIC = {
    *("add", "add_any", "and", "clamp", "convert_element_type", "copy", "eq", "ge", "gt", "le", "lt", "max", "min"),
    *("mul", "ne", "neg", "not", "or", "select_n", "square", "stop_gradient", "sub", "xor"),
}
_FUNCTIONS = {
    *("abs", "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil", "cos", "cosh", "div", "exp"),
    *("exp2", "expm1", "floor", "integer_pow", "is_finite", "log", "log1p", "logistic", "pow", "rem", "rsqrt", "sign"),
    *("sin", "sinh", "sqrt", "tan", "tanh"),
}
# Calls are evaluated in place, so that a kernel sees what a function does, and not how it is differentiated.
_CALLS = {
    "jit": "jaxpr",
    "checkpoint": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}


class _Program(NamedTuple):
    """A step and its gradient. All their arrays have one shape, for which the kernels put that of a block.

    The backward part takes `(*constants, *state, x, *d_state, d_y)`, of which it reads only some. There are gradients,
    d_..., only of floating point numbers.
    """

    step: Jaxpr  # (*constants, *state, x) -> (*state, y)
    forward: Jaxpr  # the same without calls
    backward: Any  # Jaxpr (what it reads) -> (*d_constants, *d_state, d_x); None if the step refuses
    reads: list[bool]
    num_constants: int


def fits(neuron: Neuron, state: State, current: Any) -> bool:
    """Whether `unroll` can run a neuron: whether its step is elementwise.

    Then every neuron of a layer depends on its own state, current and parameters alone. Matrix products, random
    numbers and sums over neurons do not fit, and the state must be made of arrays of the current's shape.

    Args:
        neuron: anything with `init` and `step`.
        state: its state: arrays, or what stands for them (`jax.ShapeDtypeStruct`).
        current: the input of one step, `[B, ...]`; likewise.

    >>> import jax.numpy as jnp, jsnn
    >>> neuron, current = jsnn.LIF(), jnp.ones((2, 3))
    >>> fits(neuron, neuron.init(current.shape), current)
    True
    """
    return _trace(neuron, state, current) is not None


def unroll(
    neuron: Neuron, state: State, inputs: Array, num_steps: int | None, *, interpret: bool = False
) -> tuple[State, Array]:
    """Runs a neuron that `fits` over time, in one kernel forward and one backward: what `jsnn.unroll` does by a scan.

    It is differentiable, in reverse mode, with respect to neuron, state and inputs. One thing differs on a GPU: where
    an argument of `max`, `min` or `clip` is NaN, Triton takes the other.

    Args:
        neuron: anything with `init` and `step`.
        state: the state to go on from.
        inputs: `[T, B, ...]`; or, with `num_steps`, a static input `[B, ...]`, which is read once.
        num_steps: the number of steps T of a static input.
        interpret: run in Pallas' interpreter, slowly, on any device. Otherwise it takes an Nvidia GPU.

    Returns:
        `(state, outputs)`: the state after the last step, and the outputs `[T, B, ...]`.

    Raises:
        ValueError: if the neuron does not fit.

    >>> import jax.numpy as jnp, jsnn
    >>> neuron = jsnn.LIF(decay=0.5)
    >>> state, spikes = unroll(neuron, neuron.init((1,)), jnp.full((6, 1), 0.75), None, interpret=True)
    >>> spikes[:, 0].tolist()
    [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]
    """
    length = inputs.shape[0] if num_steps is None else num_steps
    shape = inputs.shape if num_steps is not None else inputs.shape[1:]
    traced = _trace(neuron, state, jax.ShapeDtypeStruct(shape, inputs.dtype))
    if traced is None:
        raise ValueError(
            f"the step of {type(neuron).__name__} is not elementwise in neurons of shape {shape}: use jsnn.unroll"
        )
    if length == 0 or math.prod(shape) == 0:  # nothing to do, and no kernel for it
        currents = inputs if num_steps is None else jnp.broadcast_to(inputs, (length, *shape))
        return jax.lax.scan(neuron.step, state, currents)
    program, constants = traced
    structure: Any
    leaves, structure = jax.tree.flatten(state)
    states, outputs = _differentiable(program, length, num_steps is not None, interpret)(
        [jnp.broadcast_to(constant, shape).reshape(-1) for constant in constants],
        [jnp.reshape(leaf, -1) for leaf in leaves],
        inputs.reshape(-1) if num_steps is not None else inputs.reshape(length, -1),
    )
    return structure.unflatten([leaf.reshape(shape) for leaf in states]), outputs.reshape(length, *shape)


# From a neuron to a program


def _trace(neuron: Neuron, state: State, current: Any) -> tuple[_Program, list[Any]] | None:
    """The program of a neuron and its constants, the arrays of the neuron that it uses; None if it does not fit."""
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

    if not shape or any(leaf.shape != shape for leaf in jax.tree.leaves(state)):
        return None
    if not _is_elementwise(jax.make_jaxpr(step)(arrays, state, current).jaxpr):
        return None  # before parameters are broadcast, with which a matrix product would make no sense
    wide = [_broadcast(jax.eval_shape(lambda x: x, array), shape) for array in arrays]
    closed, types = jax.make_jaxpr(step, return_shape=True)(wide, state, current)
    before, after = (jax.tree.flatten(jax.tree.map(_dtype, tree)) for tree in (state, types[0]))
    if before != after or not isinstance(types[1], jax.ShapeDtypeStruct):
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
        gradient = _gradient(whole)
    except TypeError:  # as a neuron says that is not to be differentiated
        return _Program(whole, forward, None, [True] * len(whole.invars), len(constants)), constants
    if gradient.constvars or not _is_elementwise(gradient):
        return None
    backward, reads = partial_eval.dce_jaxpr(_inline(gradient), [True] * len(gradient.outvars))
    if not _has_one_shape(backward, shape):
        return None
    return _Program(whole, forward, backward, reads, len(constants)), constants


def _broadcast(array: jax.ShapeDtypeStruct, shape: Shape) -> jax.ShapeDtypeStruct:
    """A parameter with one value a neuron; as it is where it cannot have one, such as a key."""
    try:
        fits = np.broadcast_shapes(array.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits or jnp.issubdtype(array.dtype, jax.dtypes.extended):
        return array
    return jax.ShapeDtypeStruct(shape, array.dtype, weak_type=array.weak_type)


def _gradient(step: Jaxpr) -> Jaxpr:
    """`(*inputs, *d_outputs) -> (*d_inputs)` of a step that is not inlined yet: it says how it is differentiated."""

    def gradient(inputs: list[Array], d_outputs: list[Array]) -> list[Array]:
        def smooth(*smooth_inputs: Array) -> list[Array]:
            given = iter(smooth_inputs)
            merged = [next(given) if _is_smooth(x) else x for x in inputs]
            return [y for y in jax.core.eval_jaxpr(step, [], *merged) if _is_smooth(y)]

        return jax.vjp(smooth, *filter(_is_smooth, inputs))[1](d_outputs)

    inputs, outputs = [[_abstract(var) for var in variables] for variables in (step.invars, step.outvars)]
    return jax.make_jaxpr(gradient)(inputs, [y for y in outputs if _is_smooth(y)]).jaxpr


def _dtype(x: Any) -> Any:
    return x.dtype


def _abstract(var: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(var.aval.shape, var.aval.dtype, weak_type=getattr(var.aval, "weak_type", False))


def _is_smooth(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.inexact)


def _is_elementwise(jaxpr: Jaxpr) -> bool:
    """Whether all operations are elementwise, those in calls included."""
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if name in _CALLS:
            if not _is_elementwise(_called(eqn)[0]):
                return False
        elif name == "broadcast_in_dim":  # along leading axes only, as parameters are broadcast
            given, wanted = (len(_abstract(var).shape) for var in (eqn.invars[0], eqn.outvars[0]))
            if eqn.params["broadcast_dimensions"] != tuple(range(wanted - given, wanted)):
                return False
        elif name not in _ARITHMETIC | _FUNCTIONS | {"name"}:
            return False
    return True


def _has_one_shape(jaxpr: Jaxpr, shape: Shape) -> bool:
    """Whether inputs and outputs have this shape, and all between them, too, or none."""
    between = [var for eqn in jaxpr.eqns for var in eqn.outvars]
    ends = [*jaxpr.invars, *jaxpr.outvars]
    return all(_abstract(var).shape in ((), shape) for var in between) and all(
        _abstract(var).shape == shape for var in ends
    )


def _called(eqn: JaxprEqn) -> tuple[Jaxpr, Sequence[Any]]:
    called = eqn.params[_CALLS[eqn.primitive.name]]
    return (called, []) if isinstance(called, Jaxpr) else (called.jaxpr, called.consts)


def _inline(jaxpr: Jaxpr) -> Jaxpr:
    """The same elementwise operations, without calls and names."""

    def evaluate(jaxpr: Jaxpr, consts: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
        values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *inputs], strict=True))
        for eqn in jaxpr.eqns:
            inputs = [_read(values, atom) for atom in eqn.invars]
            if eqn.primitive.name in _CALLS:
                outputs = evaluate(*_called(eqn), inputs)
            elif eqn.primitive.name == "name":
                outputs = inputs
            else:
                outputs = [eqn.primitive.bind(*inputs, **eqn.params)]
            values.update(zip(eqn.outvars, outputs, strict=True))
        return [_read(values, atom) for atom in jaxpr.outvars]

    return jax.make_jaxpr(lambda *inputs: evaluate(jaxpr, [], inputs))(*map(_abstract, jaxpr.invars)).jaxpr


def _read(values: dict[Any, Any], atom: Any) -> Any:
    return atom.val if isinstance(atom, Literal) else values[atom]


# From a program to kernels


def _evaluate(jaxpr: Jaxpr, args: Sequence[Array]) -> list[Array]:
    """What an elementwise jaxpr gives for a block of neurons."""
    values = dict(zip(jaxpr.invars, args, strict=True))
    for eqn in jaxpr.eqns:
        inputs, result = [_read(values, atom) for atom in eqn.invars], _abstract(eqn.outvars[0])
        if eqn.primitive.name == "broadcast_in_dim":
            output = jnp.asarray(inputs[0], result.dtype)
            output = jnp.broadcast_to(output, (BLOCK,)) if result.shape else output
        elif eqn.primitive.name in _FUNCTIONS:
            output = eqn.primitive.bind(*map(_at_least_32_bits, inputs), **eqn.params)
            output = jax.lax.convert_element_type(output, result.dtype)
        else:
            output = eqn.primitive.bind(*inputs, **eqn.params)
        values[eqn.outvars[0]] = output
    return [_read(values, atom) for atom in jaxpr.outvars]


def _at_least_32_bits(x: Any) -> Any:
    return jnp.asarray(x, _accumulator(x.dtype)) if _is_smooth(x) else x


def _accumulator(dtype: Any) -> Any:
    return jnp.promote_types(dtype, jnp.float32)


def _differentiable(program: _Program, length: int, is_static: bool, interpret: bool) -> Callable[..., Any]:
    """`(constants, states, x) -> (states, y)`, of flat arrays `[M]`, or `[T, M]` over time, with its gradient."""
    num_constants, num_states = program.num_constants, len(program.forward.outvars) - 1
    types = [_abstract(var).dtype for var in program.forward.invars]
    output_type = _abstract(program.forward.outvars[-1]).dtype
    *reads_states, reads_x = program.reads[num_constants : num_constants + num_states + 1]
    launch = functools.partial(_launch, length=length, interpret=interpret)

    def run(constants: list[Array], states: list[Array], x: Array, keep: Sequence[bool]) -> Any:
        def kernel(load: _Load, store: _Store) -> None:
            parameters = load("constants")
            static = load("x") if is_static else []

            def step(t: Array, state: list[Array]) -> list[Array]:
                store("kept", [s for s, is_kept in zip(state, keep, strict=True) if is_kept], t)
                *state, y = _evaluate(program.forward, [*parameters, *state, *(static if is_static else load("x", t))])
                store("y", [y], t)
                return state

            store("states", jax.lax.fori_loop(0, length, step, load("states")))

        state_types = types[num_constants:-1]
        kept_types = [dtype for dtype, is_kept in zip(state_types, keep, strict=True) if is_kept]
        outputs = launch(
            kernel,
            inputs={"constants": constants, "states": states, "x": [x]},
            outputs={"states": (state_types, False), "y": ([output_type], True), "kept": (kept_types, True)},
        )
        return outputs["states"], outputs["y"][0], outputs["kept"]

    @jax.custom_vjp
    def unrolled(constants: list[Array], states: list[Array], x: Array) -> tuple[list[Array], Array]:
        states, y, _ = run(constants, states, x, [False] * num_states)
        return states, y

    def forward(constants: list[Array], states: list[Array], x: Array) -> tuple[Any, Any]:
        if program.backward is None:
            _gradient(program.step)  # refuses in the neuron's own words
        states, y, kept = run(constants, states, x, reads_states)
        return (states, y), (constants, kept, [x] if reads_x else [])

    def backward(residuals: tuple[Any, ...], gradients: tuple[Any, Any]) -> tuple[Any, ...]:
        constants, kept, x = residuals
        is_smooth = [jnp.issubdtype(dtype, jnp.inexact) for dtype in types]
        smooth = [dtype for dtype, is_one in zip(types, is_smooth, strict=True) if is_one]
        num_sums = sum(is_smooth[:num_constants])
        d_states = [d for d, is_one in zip(gradients[0], is_smooth[num_constants:-1], strict=True) if is_one]
        d_y = [gradients[1]] if jnp.issubdtype(output_type, jnp.inexact) else []

        def kernel(load: _Load, store: _Store) -> None:
            parameters = load("constants")
            static = load("x") if is_static else []
            sums = [jnp.zeros(BLOCK, _accumulator(dtype)) for dtype in [*smooth[:num_sums], *smooth[-1:] * is_static]]

            def step(i: Array, carry: tuple[list[Array], list[Array]]) -> tuple[list[Array], list[Array]]:
                t = length - 1 - i
                sums, d_states = carry
                given = iter(load("kept", t))
                states = [next(given) if is_read else None for is_read in reads_states]
                current = (static if is_static else load("x", t)) if reads_x else [None]
                everything = [*parameters, *states, *current, *d_states, *load("d_y", t)]
                read = [value for value, is_read in zip(everything, program.reads, strict=True) if is_read]
                terms = _evaluate(program.backward, read)
                d_constants, d_states, d_x = terms[:num_sums], terms[num_sums:-1], terms[-1:]
                if not is_static:
                    store("d_x", d_x, t)
                terms = [*d_constants, *d_x * is_static]
                return [total + term for total, term in zip(sums, terms, strict=True)], d_states

            sums, d_states = jax.lax.fori_loop(0, length, step, (sums, load("d_states")))
            store("d_constants", sums[:num_sums])
            store("d_states", d_states)
            if is_static:
                store("d_x", sums[num_sums:])

        outputs = launch(
            kernel,
            inputs={"constants": constants, "kept": kept, "x": x, "d_states": d_states, "d_y": d_y},
            outputs={
                "d_constants": (smooth[:num_sums], False),
                "d_states": (smooth[num_sums:-1], False),
                "d_x": (smooth[-1:], not is_static),
            },
        )
        given = iter([*outputs["d_constants"], *outputs["d_states"], *outputs["d_x"]])
        d_all = [next(given) if is_one else None for is_one in is_smooth]  # an integer has no gradient
        return d_all[:num_constants], d_all[num_constants:-1], d_all[-1]

    unrolled.defvjp(forward, backward)
    return unrolled


_Load = Callable[..., list[Array]]  # (name, t=None) -> a block of each array of that name, at time t
_Store = Callable[..., None]  # (name, blocks, t=None)


def _launch(
    kernel: Callable[[_Load, _Store], None],
    *,
    inputs: dict[str, list[Array]],
    outputs: dict[str, tuple[Sequence[Any], bool]],  # dtypes, and whether they have a time axis
    length: int,
    interpret: bool,
) -> dict[str, list[Array]]:
    """Runs a kernel for all blocks of neurons; it finds inputs and outputs, `[M]` or `[T, M]`, by their names."""
    size = next(array.shape[-1] for arrays in inputs.values() for array in arrays)
    is_whole = size % BLOCK == 0
    shapes = {
        name: [jax.ShapeDtypeStruct((length, size) if over_time else (size,), dtype) for dtype in dtypes]
        for name, (dtypes, over_time) in outputs.items()
    }

    def block(array: Any) -> pl.BlockSpec:
        if len(array.shape) == 1:
            return pl.BlockSpec((BLOCK,), lambda index: (index,))
        return pl.BlockSpec((length, BLOCK), lambda index: (0, index))

    def body(inputs: dict[str, list[Any]], outputs: dict[str, list[Any]]) -> None:
        neurons = pl.program_id(0) * BLOCK + jax.lax.iota(jnp.int32, BLOCK)
        mask = None if is_whole else neurons < size

        def load(name: str, t: Array | None = None) -> list[Array]:
            return [triton.load(ref if t is None else ref.at[t], mask=mask) for ref in inputs[name]]

        def store(name: str, values: list[Array], t: Array | None = None) -> None:
            for ref, value in zip(outputs[name], values, strict=True):
                triton.store(ref if t is None else ref.at[t], value.astype(ref.dtype), mask=mask)

        kernel(load, store)

    return pl.pallas_call(
        body,
        grid=(pl.cdiv(size, BLOCK),),
        in_specs=[jax.tree.map(block, inputs)],
        out_specs=jax.tree.map(block, shapes),
        out_shape=shapes,
        compiler_params=triton.CompilerParams(num_warps=NUM_WARPS),
        interpret=interpret,
    )(inputs)
