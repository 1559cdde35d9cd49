"""All time steps of a convolutional network in parts that stay in a CPU's cache."""

import os
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Primitive
from jax.interpreters import ad, batching, mlir

from jsnn.batches import keeps_examples_apart
from jsnn.chunks import RunSteps, count_steps, divisor_below, in_chunks
from jsnn.fused.trial import default_device
from jsnn.program import is_random, trace
from jsnn.types import Array, Inputs, Layered, Neuron, State
from jsnn.varying import shaped

Run: TypeAlias = Callable[..., list[Array]]

# How many bytes the outputs of the largest layer may take in one part. From 2 to 8 MB took the same time, to 5%, on an
# AMD EPYC; on an Intel Xeon with larger caches 8 MB took 5% less than 4, and 12% less than 2.
_BYTES = 2**23
_PARTS = 4  # so many and more make a gradient faster: one core, T from 4 to 100, outputs of 8 to 190 MB


def in_cache(neuron: Neuron, run: RunSteps) -> RunSteps:
    """Return a run of a network that is faster on a CPU; its numbers are equal to rounding.

    Layer by layer, the spikes of a convolutional network at all steps go through memory from each layer to the next.
    So a few examples are run at a time, and of many steps a few. These are run as a whole:

    * what stands on another device or on several, or outside of `jax.jit`,
    * what is differentiated: gradients are faster only with many parts and on one core, as XLA shares the loops of a
      part less well among several,
    * a network without space axes: a dense layer has large weights, and is faster with all examples at once,
    * a network that changes itself, draws random numbers, prints, lets examples meet, such as in the mean of a batch,
      or has a state that is not one of examples.
    """

    def run_in_cache(state: State, inputs: Inputs, num_steps: int | None) -> tuple[State, Any]:
        found = _programs(neuron, run, state, inputs, num_steps)
        return _either(*found, state, inputs) if found else run(state, inputs, num_steps)

    return run_in_cache


def _programs(
    neuron: Neuron, run: RunSteps, state: State, inputs: Inputs, num_steps: int | None
) -> tuple[ClosedJaxpr, ClosedJaxpr, Any, bool] | None:
    """Return the program of a run, the program in parts, what they return, and whether the parts are many.

    Return None where the run is to stay as it is.
    """
    try:
        found = _in_parts(neuron, run, state, inputs, num_steps)
        if found is None:
            return None
        part, are_many = found
        whole, returned = trace(lambda state, inputs: run(state, inputs, num_steps), state, inputs)
        if whole.effects or any(map(is_random, whole.jaxpr.eqns)):
            return None
        parts, _ = trace(lambda state, inputs: part(state, inputs, num_steps), state, inputs)
        return whole, parts, returned, are_many
    except Exception:  # it changes itself, or takes batches of some sizes alone; what is wrong with it shows in the run
        return None


def _in_parts(
    neuron: Neuron, run: RunSteps, state: State, inputs: Inputs, num_steps: int | None
) -> tuple[RunSteps, bool] | None:
    """Return the run in parts, and whether they are many; None where they would not be faster, or not the same."""
    steps = count_steps(inputs, num_steps)
    images = [x for x in jax.tree.leaves(state) if jnp.ndim(x) >= 4]
    if not (images and steps and isinstance(neuron, Layered) and neuron.is_layered and jax.device_count() == 1):
        return None
    one = jax.tree.map(lambda x: shaped(x, x.shape[num_steps is None :]), inputs)
    batch: Any = next(iter(jax.tree.leaves(one)[0].shape), None)
    in_jit = isinstance(jnp.zeros(()), jax.core.Tracer)
    if not (in_jit and isinstance(batch, int) and batch):  # in an export it may be unknown
        return None
    of_example = max(x.size * x.dtype.itemsize for x in images) // batch  # bytes at one step
    length = max(_BYTES // max(of_example, 1), 1)
    size = divisor_below(batch, max(length // steps, 1))
    if (length >= steps and size >= batch) or not _is_of_examples(neuron, state, one, batch, size):
        return None
    if length < steps:
        run = in_chunks(run, -(-steps // -(-steps // length)), lambda run: run)  # about equal ones
    are_many = of_example * batch * steps >= _PARTS * _BYTES
    run = _in_batches(run, batch, size) if size < batch else run
    return run, are_many


def _is_of_examples(neuron: Neuron, state: State, x: Any, batch: int, size: int) -> bool:
    """Return whether examples never meet, and the first axis of all that a state holds, and no other, is theirs."""

    def step(x: Any) -> tuple[State, Any]:
        return neuron.step(neuron.init(jax.tree.map(jnp.shape, x)), x)

    # Both sizes are above 1 where that is possible: with one example, any axis of length 1 could be theirs.
    other = size if 1 < size < batch else batch + 1
    more = jax.tree.map(lambda x: shaped(x, (other, *x.shape[1:])), x)
    (one, (after, _)), (another, _) = trace(step, x), trace(step, more)
    shapes = jax.tree.map(jnp.shape, state), jax.tree.map(jnp.shape, after)
    return shapes[0] == shapes[1] and keeps_examples_apart(one, another, (batch, other))


def _in_batches(run: RunSteps, batch: int, size: int) -> RunSteps:
    """Return a run of so many examples at a time; the last one is repeated where some are missing."""
    count = -(-batch // size)

    def apart(x: Array, axis: int) -> Array:
        x = jnp.pad(x, [(0, (count * size - batch) * (axis == one)) for one in range(x.ndim)], mode="edge")
        return jnp.moveaxis(x.reshape(*x.shape[:axis], count, size, *x.shape[axis + 1 :]), axis, 0)

    def together(x: Array, axis: int) -> Array:
        x = jnp.moveaxis(x, 0, axis)
        x = x.reshape(*x.shape[:axis], count * size, *x.shape[axis + 2 :])
        return jax.lax.slice_in_dim(x, 0, batch, axis=axis)

    def run_batches(state: State, inputs: Inputs, num_steps: int | None) -> tuple[State, Any]:
        axis = 1 if num_steps is None else 0
        parts = jax.tree.map(lambda x: apart(x, 0), state), jax.tree.map(lambda x: apart(x, axis), inputs)
        state, outputs = jax.lax.map(lambda part: run(part[0], part[1], num_steps), parts)
        return jax.tree.map(lambda x: together(x, 0), state), jax.tree.map(lambda x: together(x, 1), outputs)

    return run_batches


def _either(
    whole: ClosedJaxpr, parts: ClosedJaxpr, returned: Any, are_many: bool, state: State, inputs: Inputs
) -> tuple[State, Any]:
    """Run the program in parts on a CPU, and the whole one on other devices; `_jvp` chooses for derivatives.

    What they close over, such as weights, are operands: it may be differentiated.
    """
    first, second = len(whole.consts), len(whole.consts) + len(parts.consts)

    def run_whole(*operands: Any) -> list[Array]:
        return jax.core.eval_jaxpr(whole.jaxpr, operands[:first], *operands[second:])

    def run_parts(*operands: Any) -> list[Array]:
        return jax.core.eval_jaxpr(parts.jaxpr, operands[first:second], *operands[second:])

    operands = (*whole.consts, *parts.consts, *jax.tree.leaves((state, inputs)))
    types = tuple(whole.out_avals)
    outputs = either_p.bind(*operands, whole=run_whole, parts=run_parts, are_many=are_many, types=types)
    return jax.tree.unflatten(jax.tree.structure(returned), outputs)


# Two functions of the same operands that give the same values, of these types. Not `jax.custom_jvp`: JAX cannot map its
# derivative where there is a `jax.custom_vjp` in it, as in `jsnn.Conv`.
either_p = Primitive("either")
either_p.multiple_results = True
either_p.def_impl(lambda *operands, whole, **_: whole(*operands))
either_p.def_abstract_eval(lambda *_, types, **__: list(types))


def _lowered(*operands: Array, whole: Run, parts: Run, **_: Any) -> list[Array]:
    return jax.lax.platform_dependent(*operands, cpu=parts, default=whole)


def _jvp(primals: Any, tangents: Any, *, whole: Run, parts: Run, are_many: bool, **_: Any) -> Any:
    chosen = parts if are_many and _is_on_one_core() else whole
    varying = [index for index, tangent in enumerate(tangents) if not isinstance(tangent, ad.Zero)]

    def run(*given: Any) -> list[Array]:
        values = dict(zip(varying, given, strict=True))
        return chosen(*(values.get(index, x) for index, x in enumerate(primals)))

    return jax.jvp(run, [primals[index] for index in varying], [tangents[index] for index in varying])


def _is_on_one_core() -> bool:
    """Return whether programs run on a CPU with one core."""
    return default_device().platform == "cpu" and count_cores() == 1


def count_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # of Linux alone
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _batch(operands: Any, axes: Any, *, whole: Run, parts: Run, types: Any, **options: Any) -> Any:
    size = next(x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None)
    whole, parts = (jax.vmap(run, axes) for run in (whole, parts))
    types = tuple(one.update(shape=(size, *one.shape)) for one in types)
    return either_p.bind(*operands, whole=whole, parts=parts, types=types, **options), [0] * len(types)


mlir.register_lowering(either_p, mlir.lower_fun(_lowered))
ad.primitive_jvps[either_p] = _jvp
batching.primitive_batchers[either_p] = _batch
