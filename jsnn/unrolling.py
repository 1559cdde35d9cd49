"""The one loop over time.

`unroll` runs any Neuron over a whole input: `run` scans `step`, and hands a network the neurons in it one by one.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from flax.errors import TraceContextError

from jsnn import fused, rounding
from jsnn.arguments import TooLarge, check_memory, checked
from jsnn.cache import in_cache
from jsnn.chunks import RunSteps, count_steps, in_chunks, rematerialised, without_gradient_of_state
from jsnn.delays import check_recording
from jsnn.fused.trial import default_device, is_trusted
from jsnn.neurons.base import MEMBRANE
from jsnn.neurons.calling import output_of
from jsnn.neurons.checks import check_is_neuron
from jsnn.neurons.eventprop import check_is_changed, has_shifts, with_shifts, with_spike_time_gradients
from jsnn.neurons.pytree import for_unroll
from jsnn.neurons.shapes import check_floating, check_state
from jsnn.types import FeedsBack, Inputs, Layered, Neuron, RunPart, State, TimeParallel, Windowed
from jsnn.varying import alike, shaped

Method: TypeAlias = Literal["auto", "scan", "fused", "parallel"]
Gradient: TypeAlias = Literal["surrogate", "eventprop"]

# what `truncate` is where it is not given: `with truncation(k):` says so for all unrolls in a loss
truncation = jax.make_user_context(default_value=None)

# The backward pass keeps the membranes as they were before they fired, and the matrix products of a recurrence. The
# rest of a step is elementwise, and cheaper to compute again than to read from memory; most neurons need nothing else
# for it. Of a step that names no membrane, its input and the state before it are kept.
_SAVED = jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.dots_saveable, jax.checkpoint_policies.save_only_these_names(MEMBRANE)
)


@checked
def unroll(
    neuron: Neuron,
    inputs: Inputs,
    state: State = None,
    *,
    num_steps: int | None = None,
    remat: bool | int = False,
    method: Method = "auto",
    gradient: Gradient = "surrogate",
    truncate: int | None = None,
) -> tuple[State, Any]:
    """Run a neuron or a network over time.

    Args:
        neuron: anything with `init` and `step`.
        inputs: what it receives, floating point: `[T, B, ...]`, one slice a step; or, with `num_steps`, a static
            input `[B, ...]` that stays the same at every step. A static input is never tiled: a network computes
            everything before its first neuron once. A `jsnn.Network` may take several, as a dict or another pytree.
        state: the state to go on from; None starts from `neuron.init`, in float32 or wider, since a membrane adds up
            many small currents. Pass `neuron.init(shape, jnp.bfloat16)` for a state as narrow as that.
        num_steps: the number of steps T of a static input.
        remat: save memory in the backward pass. The steps are taken in chunks of this length (True: about sqrt(T)),
            only the states between chunks are kept, and each chunk is run again when its gradient is due. Memory
            grows with sqrt(T) instead of T, for one more forward pass. What a static input passes before the first
            neuron is then computed once a chunk.
        method: how a neuron is run. `"scan"` takes step after step. `"fused"` does so within one GPU kernel, if a step
            is elementwise (`jsnn.fused`); on a CPU it is interpreted, slowly. `"parallel"` takes all steps at once, if
            the state is linear in the state before (`jsnn.types.TimeParallel`). `"auto"` takes `"parallel"` where that
            is faster. On a GPU by NVIDIA it takes `"fused"`, if a test on that very GPU, once in a process, finds the
            spikes and gradients of a few neurons equal to those of a scan, and the neuron's own kernel can be compiled;
            if not, one warning says why. Of several devices, so it does within `jax.shard_map` alone. Else it scans.
            On a CPU, inside `jax.jit` and for no gradient, it runs a convolutional network for a few examples at a
            time, whose spikes stay in the cache (`jsnn.cache`).
            What only sees its last inputs, as delays do (`jsnn.types.Windowed`), is scanned by `"scan"` alone.
            A neuron that does not admit a method is scanned, and so is `"fused"` where JAX has no compiler for the
            kernel. All give the same numbers, to rounding, and the same gradients; `jax.jvp`, `jax.jacfwd` and
            `jax.hessian` take another method than `"fused"`, and on a GPU than `"auto"`.
        gradient: what a derivative of spikes is. `"surrogate"`: that of each neuron's surrogate function.
            `"eventprop"`: that of the times of the spikes, as in continuous time (`jsnn.neurons.eventprop`); the
            neurons that spike must be `jsnn.CuBaLIF`, and the state that returns is theirs, with one array more.
        truncate: the most steps that a gradient flows back in time. The state is handed on from chunk to chunk of this
            length without its gradient. None: all steps, unless `jsnn.train` was told another number.

    Returns:
        `(state, outputs)`: the state after the last step, and the outputs `[T, B, ...]`.

    Raises:
        TypeError: if `neuron` is not a neuron, or `inputs` are not floating point, or `"fused"` meets another
            derivative than that of `jax.grad` or `jax.vjp`.
        ValueError: if there is no time axis and no `num_steps`; if `num_steps`, `remat` or `truncate` is below 1; if
            there is no such `method` or `gradient`, or a neuron does not fit the gradient; if `state` does not fit, or
            is None where a delay is as long as the recording and lets nothing through; if `remat` or `truncate` meets
            a layer that changes itself, as `nnx.BatchNorm` does in training.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> neuron = jsnn.LIF(decay=0.5)
        >>> state, spikes = jsnn.unroll(neuron, jnp.ones((10, 2, 3)))  # T = 10 steps for a batch of 2, 3 neurons
        >>> spikes.shape
        (10, 2, 3)
        >>> state, more_spikes = jsnn.unroll(neuron, jnp.ones((2, 3)), state, num_steps=5)  # goes on, static input
        >>> more_spikes.shape
        (5, 2, 3)
    """
    inputs, state = prepare(neuron, inputs, state, num_steps)
    if gradient == "eventprop":
        neuron = with_spike_time_gradients(neuron)
    if gradient == "eventprop" or has_shifts(state):
        state = with_shifts(neuron, state, of_step(inputs, num_steps))
    neuron = for_unroll(neuron)
    if remat is not False and remat < 1:
        raise ValueError(f"remat must be True or a chunk length of at least 1, got {remat}")
    truncate = truncation.value if truncate is None else truncate
    check_truncate(truncate)
    with explaining(neuron, state, inputs, num_steps):
        run_steps: RunSteps = functools.partial(run, neuron, method=method, gradient=gradient)
        if remat is not False:
            run_steps = in_chunks(run_steps, remat, rematerialised(remat))
        if truncate is not None:
            run_steps = in_chunks(run_steps, truncate, without_gradient_of_state, least=1)
        if remat is False and truncate is None and method == "auto":
            run_steps = in_cache(neuron, run_steps)
        return run_steps(state, inputs, num_steps)


def run(
    neuron: Neuron,
    state: State,
    inputs: Inputs,
    num_steps: int | None,
    run_part: RunPart | None = None,
    method: Method = "auto",
    gradient: Gradient = "surrogate",
) -> tuple[State, Any]:
    """Run a neuron over inputs already checked: a network layer by layer, anything else step by step.

    `run_part` is for looking into a network; by default its parts are run by this function.
    """
    if isinstance(neuron, Layered) and (run_part or neuron.is_layered):
        return neuron.run_layers(state, inputs, num_steps, run_part or functools.partial(_run_part, method, gradient))
    if gradient == "eventprop":
        check_is_changed(neuron)
    x = of_step(inputs, num_steps)
    check_state(neuron, state, x)
    steps = count_steps(inputs, num_steps)
    if steps and isinstance(neuron, TimeParallel) and neuron.is_linear and _takes_all(neuron, method, state, steps):
        return neuron.all_steps(state, over_time(inputs, num_steps))
    if method == "fused" and isinstance(inputs, jax.Array) and fused.is_available() and fused.fits(neuron, state, x):
        return fused.unroll(neuron, state, inputs, num_steps)
    if (
        method == "auto"
        and isinstance(inputs, jax.Array)
        and is_trusted(fused.unroll, neuron, state, inputs, num_steps)
    ):
        in_kernels = functools.partial(fused.unroll, neuron, num_steps=num_steps)
        return jax.lax.platform_dependent(
            state, inputs, cuda=in_kernels, default=functools.partial(_scan, neuron, num_steps=num_steps)
        )
    return _scan(neuron, state, inputs, num_steps)


def _scan(neuron: Neuron, state: State, inputs: Inputs, num_steps: int | None) -> tuple[State, Any]:
    if isinstance(neuron, FeedsBack) and num_steps is None:
        return neuron.scan(state, inputs, _scan_steps)
    return _scan_steps(neuron, state, inputs, num_steps)


def _scan_steps(neuron: Neuron, state: State, inputs: Inputs, num_steps: int | None = None) -> tuple[State, Any]:
    step = jax.checkpoint(neuron.step, prevent_cse=False, policy=_SAVED)
    if num_steps is None:
        return jax.lax.scan(step, state, inputs)
    return jax.lax.scan(lambda state, _: step(state, inputs), state, length=num_steps)


def _takes_all(neuron: TimeParallel, method: Method, state: State, steps: int) -> bool:
    """Return whether a neuron is to take all time steps at once."""
    if isinstance(neuron, Windowed):
        return method != "scan"
    return method == "parallel" or (method == "auto" and _parallel_is_faster(_default_platform(), state, steps))


def _default_platform() -> str:
    """Return the platform of the default device, on which a traced function will run: "cpu", "gpu", ..."""
    return default_device().platform


def _parallel_is_faster(platform: str, state: State, steps: int) -> bool:
    """Return whether all steps at once take less time than one after the other.

    Measured on CPUs, where they seldom do; elsewhere a guess: few neurons leave most of a device without work.
    """
    size = max(leaf.size for leaf in jax.tree.leaves(state))
    return size == 1 and steps >= 5000 if platform == "cpu" else size <= 2**12 and steps >= 1000


def _run_part(
    method: Method,
    gradient: Gradient,
    name: str,
    neuron: Neuron | None,
    state: State,
    inputs: Inputs,
    num_steps: int | None,
) -> tuple[State, Any]:
    return (state, inputs) if neuron is None else run(neuron, state, inputs, num_steps, None, method, gradient)


def over_time(x: Any, num_steps: int | None) -> Any:
    """Return what a static `x` looks like with a time axis; others, with `num_steps` None, have one."""
    return x if num_steps is None else jax.tree.map(lambda x: jnp.broadcast_to(x, (num_steps, *x.shape)), x)


def of_step(inputs: Inputs, num_steps: int | None) -> Any:
    """Return the shapes and dtypes of the input of one time step."""
    axes = 1 if num_steps is None else 0
    return jax.tree.map(lambda x: shaped(x, x.shape[axes:]), inputs)


def check_truncate(truncate: int | None) -> None:
    """Raise ValueError if a gradient is to flow back for less than a step."""
    if truncate is not None and truncate < 1:
        raise ValueError(f"truncate must be a number of steps >= 1, or None for all, got {truncate}")


@checked
def prepare(neuron: Neuron, inputs: Inputs, state: State, num_steps: int | None) -> tuple[Any, State]:
    """Return the inputs of `unroll`, checked, and the state to start from."""
    check_is_neuron("unroll", neuron)
    arrays = jax.tree.leaves(inputs)
    check_floating(arrays)
    for x in arrays:
        if num_steps is None and x.ndim == 0:
            raise ValueError("inputs must have a time axis, [T, ...], got a scalar: pass num_steps for a static input")
        if num_steps is None and not isinstance(x.shape[0], int):
            raise ValueError(f"inputs must have a known number of time steps, got {x.shape}: jax.export takes one T")
    if num_steps is None and len({len(x) for x in arrays}) > 1:
        shapes = jax.tree.map(jnp.shape, inputs)
        raise ValueError(
            f"inputs must all have the same number of time steps, [T, ...], got shapes {shapes}: give one that "
            f"is static the time axis by jnp.broadcast_to(x, (T, *x.shape))"
        )
    if num_steps is not None and num_steps < 1:
        raise ValueError(f"num_steps must be >= 1, got {num_steps}")
    if num_steps is not None and not isinstance(arrays[0], jax.core.Tracer):
        try:
            check_memory("the outputs", (num_steps, *arrays[0].shape))
        except TooLarge:  # unless a layer makes them smaller than the inputs
            for y in jax.tree.leaves(output_of(neuron, of_step(inputs, num_steps))):
                check_memory("the outputs", (num_steps, *y.shape))
    if state is None:
        check_recording(neuron, count_steps(inputs, num_steps))
        x = of_step(inputs, num_steps)
        try:
            at_rest = neuron.init(jax.tree.map(jnp.shape, x), jnp.result_type(*arrays))
        except TraceContextError as error:
            raise of_changes(error) from error
        state = jax.tree.map(rounding.wide, at_rest)
    return inputs, alike(state, (neuron, inputs))


class ChangesItself(ValueError):
    """A network that changes its variables inside of jit or a loop; Flax's own error is its cause."""


def of_changes(error: TraceContextError) -> ChangesItself:
    """Return the error for a network that changes its variables inside of jit or a loop."""
    return ChangesItself(
        f"a network that changes itself is run as a whole, outside of jax.jit and jax.lax.scan, and not in parts by "
        f"truncate= or record's neurons= or every=: leave them out, use nnx.jit, make what changes an attribute of the "
        f"module, or call network.eval() if it is for nnx.BatchNorm or nnx.Dropout ({error})"
    )


@contextmanager
def explaining(neuron: Neuron, state: State, inputs: Inputs, num_steps: int | None) -> Iterator[None]:
    """Raise an error from inside with its cause, if that is a derivative or the structure of the state."""
    try:
        yield
    except TraceContextError as error:
        raise of_changes(error) from error
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
        if isinstance(error, TypeError) and "custom_vjp" in str(error):
            raise TypeError(
                'method="fused" has first derivatives alone, by jax.grad or jax.vjp, and so has method="auto" on a '
                'GPU: use method="scan"'
            ) from error
        check_state(neuron, state, of_step(inputs, num_steps), error)
        raise
