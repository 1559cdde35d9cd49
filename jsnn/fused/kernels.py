"""From a program to two kernels: forward and backward in time, for a block of neurons each."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr

from jsnn.fused.program import Program, abstract, gradient_of, read
from jsnn.types import Array

# One neuron for each of the 128 threads of a warpgroup: a small layer spreads over all processors, and a large one
# hides the latency of memory by its many programs. No GPU has run it yet: tune it there.
BLOCK = 128


def _evaluate(jaxpr: Jaxpr, args: Sequence[Array]) -> list[Array]:
    """Return what an elementwise jaxpr gives for a block of neurons."""
    values = dict(zip(jaxpr.invars, args, strict=True))
    for eqn in jaxpr.eqns:
        inputs, result = [read(values, atom) for atom in eqn.invars], abstract(eqn.outvars[0])
        if eqn.primitive.name == "broadcast_in_dim":
            output = jnp.asarray(inputs[0], result.dtype)
            output = jnp.broadcast_to(output, (BLOCK,)) if result.shape else output
        else:
            if eqn.primitive.name in ("clamp", "select_n") and result.shape:
                inputs = _whole(inputs)  # Mosaic broadcasts no number for these two
            output = eqn.primitive.bind(*inputs, **eqn.params)
        values[eqn.outvars[0]] = output
    return [read(values, atom) for atom in jaxpr.outvars]


def is_available() -> bool:
    """Return whether this JAX has Mosaic, the compiler of the kernels; Pallas' parts change from version to version."""
    try:
        from jax.experimental.pallas import mosaic_gpu
    except ImportError:
        return False
    return hasattr(mosaic_gpu, "kernel")


def _accumulator(dtype: Any) -> Any:
    return jnp.promote_types(dtype, jnp.float32)


def differentiable(program: Program, length: int, is_static: bool) -> Callable[..., Any]:
    """Return `(constants, states, x) -> (states, y)` of flat arrays `[M]`, or `[T, M]` over time, with its gradient."""
    num_constants, num_states = program.num_constants, len(program.forward.outvars) - 1
    types = [abstract(var).dtype for var in program.forward.invars]
    output_type = abstract(program.forward.outvars[-1]).dtype
    *reads_states, reads_x = program.reads[num_constants : num_constants + num_states + 1]
    launch = functools.partial(_launch, length=length)

    def run(constants: list[Array], states: list[Array], x: Array, keep: Sequence[bool]) -> Any:
        def kernel(load: _Load, store: _Store, spread: _Spread) -> None:
            parameters = load("constants")
            static = load("x") if is_static else []

            def step(t: Array, state: list[Array]) -> list[Array]:
                store("kept", [s for s, is_kept in zip(state, keep, strict=True) if is_kept], t)
                *state, y = _evaluate(program.forward, [*parameters, *state, *(static if is_static else load("x", t))])
                store("y", [y], t)
                return spread(state)

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

        def kernel(load: _Load, store: _Store, spread: _Spread) -> None:
            parameters = load("constants")
            static = load("x") if is_static else []
            sum_types = map(_accumulator, [*smooth[:num_sums], *smooth[-1:] * is_static])
            sums = spread([jnp.zeros((), dtype) for dtype in sum_types])

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
                return [total + term for total, term in zip(sums, terms, strict=True)], spread(d_states)

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
_Spread = Callable[[list[Array]], list[Array]]  # one value a neuron, each in its own thread, as a loop carries them


def _launch(
    kernel: Callable[[_Load, _Store, _Spread], None],
    *,
    inputs: dict[str, list[Array]],
    outputs: dict[str, tuple[Sequence[Any], bool]],  # dtypes, and whether they have a time axis
    length: int,
) -> dict[str, list[Array]]:
    """Run a kernel for all blocks of neurons; it finds inputs and outputs, `[M]` or `[T, M]`, by their names."""
    from jax.experimental import pallas as pl  # here, as `import jsnn` works without it
    from jax.experimental.pallas import mosaic_gpu

    size = next(array.shape[-1] for arrays in inputs.values() for array in arrays)
    blocks = -(-size // BLOCK)

    def stored(array: Array) -> Array:
        """Return the array in whole blocks, and without booleans: a GPU's memory has no place for one bit."""
        array = jnp.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, blocks * BLOCK - size)])
        return array.astype(_memory_type(array.dtype))

    structure: Any
    output_structure: Any
    given, structure = jax.tree.flatten(jax.tree.map(stored, inputs))
    flat_shapes, output_structure = jax.tree.flatten(
        {
            name: [
                jax.ShapeDtypeStruct((length,) * over_time + (blocks * BLOCK,), _memory_type(dtype)) for dtype in dtypes
            ]
            for name, (dtypes, over_time) in outputs.items()
        }
    )
    shapes = tuple(flat_shapes)
    input_types = jax.tree.map(lambda array: array.dtype, inputs)

    def body(start: Any, spread: _Spread, *refs: Any) -> None:
        input_refs = structure.unflatten(refs[: len(given)])
        output_refs = output_structure.unflatten(refs[len(given) :])
        block = pl.ds(start, BLOCK)

        def load(name: str, t: Array | None = None) -> list[Array]:
            here = block if t is None else (t, block)
            return [
                value != 0 if _is_bool(dtype) else value
                for dtype, value in zip(input_types[name], [ref[here] for ref in input_refs[name]], strict=True)
            ]

        def store(name: str, values: list[Array], t: Array | None = None) -> None:
            here = block if t is None else (t, block)
            for ref, value in zip(output_refs[name], values, strict=True):
                ref[here] = value.astype(ref.dtype)

        kernel(load, store, spread)

    def compiled(*arrays: Array) -> Any:
        threads = mosaic_gpu.Layout.WG_STRIDED((BLOCK,), vec_size=1)

        def spread(values: list[Array]) -> list[Array]:
            return [mosaic_gpu.layout_cast(value, threads) for value in _whole(values)]

        return mosaic_gpu.kernel(
            lambda *refs: body(jax.lax.axis_index("block") * BLOCK, spread, *refs),
            out_type=shapes,
            grid=(blocks,),
            grid_names=("block",),
        )(*arrays)

    def interpreted(*arrays: Array) -> Any:
        def block(array: Any) -> pl.BlockSpec:
            shape = (*array.shape[:-1], BLOCK)
            return pl.BlockSpec(shape, lambda index: (*[0] * (len(shape) - 1), index))

        return pl.pallas_call(
            lambda *refs: body(0, _whole, *refs),
            grid=(blocks,),
            in_specs=[block(array) for array in arrays],
            out_specs=[block(shape) for shape in shapes],
            out_shape=shapes,
            interpret=True,
        )(*arrays)

    @jax.custom_jvp
    def run(*arrays: Array) -> Any:
        return jax.lax.platform_dependent(*arrays, cuda=compiled, default=interpreted)

    @run.defjvp
    def no_second_derivative(arrays: Any, tangents: Any) -> Any:
        raise TypeError('method="fused" has first derivatives alone, by jax.grad or jax.vjp: use method="scan"')

    results = output_structure.unflatten(run(*given))
    return {
        name: [array[..., :size].astype(dtype) for array, dtype in zip(results[name], dtypes, strict=True)]
        for name, (dtypes, _) in outputs.items()
    }


def _whole(values: list[Array]) -> list[Array]:
    return [jnp.broadcast_to(value, (BLOCK,)) for value in values]


def _is_bool(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.bool_)


def _memory_type(dtype: Any) -> Any:
    return jnp.int32 if _is_bool(dtype) else dtype
