"""From a program to two kernels: forward and backward in time, for a block of neurons each."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jax.extend.core import Jaxpr

from jsnn.fused.program import FUNCTIONS, Program, abstract, gradient_of, is_smooth, read
from jsnn.types import Array

# One neuron a thread: a small layer spreads over all processors, and a large one hides the latency of memory behind
# its many programs. Neither number has met a GPU yet: tune them there. Triton demands powers of 2.
BLOCK = 128
NUM_WARPS = 4


def _evaluate(jaxpr: Jaxpr, args: Sequence[Array]) -> list[Array]:
    """What an elementwise jaxpr gives for a block of neurons."""
    values = dict(zip(jaxpr.invars, args, strict=True))
    for eqn in jaxpr.eqns:
        inputs, result = [read(values, atom) for atom in eqn.invars], abstract(eqn.outvars[0])
        if eqn.primitive.name == "broadcast_in_dim":
            output = jnp.asarray(inputs[0], result.dtype)
            output = jnp.broadcast_to(output, (BLOCK,)) if result.shape else output
        elif eqn.primitive.name in FUNCTIONS:
            output = eqn.primitive.bind(*map(_at_least_32_bits, inputs), **eqn.params)
            output = jax.lax.convert_element_type(output, result.dtype)
        else:
            output = eqn.primitive.bind(*inputs, **eqn.params)
        values[eqn.outvars[0]] = output
    return [read(values, atom) for atom in jaxpr.outvars]


def _at_least_32_bits(x: Any) -> Any:
    return jnp.asarray(x, _accumulator(x.dtype)) if is_smooth(x) else x


def _accumulator(dtype: Any) -> Any:
    return jnp.promote_types(dtype, jnp.float32)


def differentiable(program: Program, length: int, is_static: bool) -> Callable[..., Any]:
    """`(constants, states, x) -> (states, y)`, of flat arrays `[M]`, or `[T, M]` over time, with its gradient."""
    num_constants, num_states = program.num_constants, len(program.forward.outvars) - 1
    types = [abstract(var).dtype for var in program.forward.invars]
    output_type = abstract(program.forward.outvars[-1]).dtype
    *reads_states, reads_x = program.reads[num_constants : num_constants + num_states + 1]
    launch = functools.partial(_launch, length=length)

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
            gradient_of(program.step)  # refuses in the neuron's own words
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
                used = [value for value, is_read in zip(everything, program.reads, strict=True) if is_read]
                terms = _evaluate(program.backward, used)
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

    def call(interpret: bool) -> Callable[..., Any]:
        return pl.pallas_call(
            body,
            grid=(pl.cdiv(size, BLOCK),),
            in_specs=[jax.tree.map(block, inputs)],
            out_specs=jax.tree.map(block, shapes),
            out_shape=shapes,
            compiler_params=triton.CompilerParams(num_warps=NUM_WARPS),
            interpret=interpret,
        )

    compiled = call(interpret=False)
    return jax.lax.platform_dependent(inputs, cuda=compiled, rocm=compiled, default=call(interpret=True))
