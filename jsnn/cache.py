"""All time steps of a convolutional network in parts that stay in a CPU's cache, where no gradient is wanted."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax.errors import TraceContextError
from jax.extend.core import ClosedJaxpr

from jsnn.chunks import RunSteps, count_steps, in_chunks
from jsnn.program import RANDOM, bodies, called, trace
from jsnn.types import Array, Inputs, Layered, Neuron, State

_BYTES = 2**22  # of what the largest layer puts out in one part; measured, see docs/speed.md


def in_cache(neuron: Neuron, run: RunSteps) -> RunSteps:
    """Return a run of a network that is faster on a CPU where no gradient is wanted; its numbers are equal to rounding.

    Layer by layer, the spikes of a convolutional network at all steps go through memory from each layer to the next.
    So a few examples are run at a time, and of many steps a few. As it is runs

    * what is differentiated, or stands on another device or on several, or outside of `jax.jit`,
    * a network without space axes: a dense layer has large weights, and wants all examples at once,
    * a network that changes itself, draws random numbers, or has a state that is not one of examples.
    """

    def run_in_cache(state: State, inputs: Inputs, num_steps: int | None) -> tuple[State, Any]:
        part = _in_parts(neuron, run, state, inputs, num_steps)
        if part is None:
            return run(state, inputs, num_steps)
        try:
            whole, parts = (
                trace(lambda state, inputs, one=one: one(state, inputs, num_steps), state, inputs)
                for one in (run, part)
            )
        except TraceContextError:  # it changes itself
            return run(state, inputs, num_steps)
        return run(state, inputs, num_steps) if _is_random(whole[0]) else _either(*whole, parts[0], state, inputs)

    return run_in_cache


def _in_parts(neuron: Neuron, run: RunSteps, state: State, inputs: Inputs, num_steps: int | None) -> RunSteps | None:
    """Return the run in parts; None where they would not be faster, or not the same."""
    steps, leaves, arrays = count_steps(inputs, num_steps), jax.tree.leaves(state), jax.tree.leaves(inputs)
    traced = any(isinstance(x, jax.core.Tracer) for x in (*leaves, *arrays))
    if not (traced and steps and isinstance(neuron, Layered) and neuron.is_layered and jax.device_count() == 1):
        return None
    one = jax.tree.map(lambda x: x.shape[num_steps is None :], inputs)
    batch = arrays[0].shape[num_steps is None :][:1]
    images = [x for x in leaves if x.ndim >= 4]
    if not images or not all(batch) or not _is_of_examples(neuron, state, one, batch):
        return None
    of_example = max(x.size * x.dtype.itemsize for x in images) // batch[0]  # bytes at one step
    length = max(_BYTES // of_example, 1)
    size = max(length // steps, 1)
    if length < steps:
        run = in_chunks(run, -(-steps // -(-steps // length)), lambda run: run)  # about equal ones
    if size < batch[0]:
        return _in_batches(run, batch[0], size)
    return run if length < steps else None


def _is_of_examples(neuron: Neuron, state: State, shape: Any, batch: tuple[int, ...]) -> bool:
    """Return whether the first axis of all that a state holds, and no other, is that of the examples."""
    is_shape = {"is_leaf": lambda x: isinstance(x, tuple) and all(isinstance(size, int) for size in x)}
    longer = jax.tree.map(lambda shape: (batch[0] + 1, *shape[1:]), shape, **is_shape)
    try:
        other = jax.tree.leaves(jax.eval_shape(lambda: neuron.init(longer)))
    except (TypeError, ValueError):  # the network takes batches of this size alone
        return False
    return [x.shape for x in other] == [(batch[0] + 1, *x.shape[1:]) for x in jax.tree.leaves(state) if x.ndim]


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


def _is_random(jaxpr: ClosedJaxpr) -> bool:
    """Return whether a program draws random numbers, in its loops and calls too."""
    for equation in jaxpr.jaxpr.eqns:
        inner = called(equation)
        if equation.primitive.name.startswith(RANDOM) or any(map(_is_random, [inner] if inner else bodies(equation))):
            return True
    return False


def _either(whole: ClosedJaxpr, returned: Any, parts: ClosedJaxpr, state: State, inputs: Inputs) -> tuple[State, Any]:
    """Run the program in parts on a CPU, and the whole one for a derivative and on other devices.

    What they close over, such as weights, are arguments here: it may be differentiated.
    """

    def run(program: ClosedJaxpr, constants: list[Array], arguments: list[Array]) -> list[Array]:
        return jax.core.eval_jaxpr(program.jaxpr, constants, *arguments)

    @jax.custom_jvp
    def either(*given: Any) -> list[Array]:
        return jax.lax.platform_dependent(
            *given,
            cpu=lambda _, constants, arguments: run(parts, constants, arguments),
            default=lambda constants, _, arguments: run(whole, constants, arguments),
        )

    @either.defjvp
    def derivative(primals: Any, tangents: Any) -> Any:
        return jax.jvp(functools.partial(run, whole), primals[::2], tangents[::2])

    outputs = either(whole.consts, parts.consts, jax.tree.leaves((state, inputs)))
    return jax.tree.unflatten(jax.tree.structure(returned), outputs)
