"""How much memory a run takes, before it runs, and an error where that is more than there is.

XLA plans the memory of a program when it compiles it. So the program is compiled for arrays that are only described,
none of them is made, and the plan is read: what goes in, what comes out, and all that lives in between, at its peak.
What does not stand in the plan: the program itself and the libraries after it (some 15 MB in the first run), and, on
CPUs, the copies of its images that `nnx.Conv` makes where `jsnn.Conv` makes none.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import psutil
from flax import nnx

from jsnn.arguments import checked
from jsnn.neurons.checks import check_is_neuron
from jsnn.neurons.pytree import as_data
from jsnn.neurons.shapes import described
from jsnn.types import Array, Neuron
from jsnn.unrolling import Method, unroll

__all__ = ["check_fits", "memory_estimate", "of_function"]

_CURE = "take a smaller batch or fewer steps, unroll with remat=True, use bfloat16, or share the batch out over devices"


@checked
def memory_estimate(
    network: Neuron,
    shape: Any,
    num_steps: int,
    *,
    dtype: Any = jnp.float32,
    remat: bool | int = False,
    backward: bool = True,
    method: Method = "auto",
) -> int:
    """Return the bytes that unrolling a network takes at its peak, inputs, parameters and gradients included.

    With the backward pass, that of a loss of all outputs (the sum of their squares) for the gradient of the parameters,
    or of the inputs where a network has none to train. A loss that needs its outputs only once, or an optimiser with a
    state, takes less or more: for those, or a static input, see `of_function`.

    Args:
        network: any Neuron.
        shape: that of the input of one time step, `[B, ...]`; of several, a pytree of shapes.
        num_steps: the number of steps T.
        dtype: that of the inputs.
        remat: as in `jsnn.unroll`.
        backward: False for the forward pass alone, as in evaluation.
        method: as in `jsnn.unroll`.

    Raises:
        TypeError: if `shape` is not a tuple, or `dtype` is not of floating-point numbers.
        ValueError: if `num_steps` is below 1, the network cannot take inputs of `shape`, or `backward` is set for a
            network whose outputs are integers, as those of the twins of `jsnn.quant` are.

    Nothing is run, and no array is made; it takes as long as compiling does, for any T.

    Examples:
        >>> import jsnn
        >>> from flax import nnx
        >>> network = jsnn.Sequential(nnx.Linear(100, 1000, rngs=nnx.Rngs(0)), jsnn.LIF(0.9))
        >>> for num_steps in (100, 1_000, 10_000):
        ...     bytes_needed = jsnn.memory_estimate(network, (16, 100), num_steps)
        ...     print(f"{bytes_needed / 2**30:.2f} GiB")
        0.0... GiB
        0.3... GiB
        3... GiB
    """
    check_is_neuron("memory_estimate", network)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"dtype must be that of the inputs, floating point, such as jnp.float32, got {dtype!r}")
    if shape is None:
        raise TypeError("shape must be that of the input of one time step, such as (32, 784), got None")
    if num_steps < 1:
        raise ValueError(f"num_steps must be >= 1, got {num_steps}")
    # in a list, a neuron of a class that JAX does not know stays as it is
    graph, parameters, rest = nnx.split(nnx.List([as_data(network)]), nnx.Param, ...)  # type: ignore[misc]
    of_step = described(shape, dtype)
    inputs = jax.tree.map(lambda x: jax.ShapeDtypeStruct((num_steps, *x.shape), x.dtype), of_step)

    def forward(parameters: nnx.State, rest: nnx.State, inputs: Any) -> Any:
        (copy,) = nnx.merge(graph, parameters, rest, copy=True)
        return unroll(copy, inputs, remat=remat, method=method)

    def loss(parameters: nnx.State, rest: nnx.State, inputs: Any) -> Array:
        _, outputs = forward(parameters, rest, inputs)
        return sum((jnp.sum(y**2) for y in jax.tree.leaves(outputs) if _has_gradient(y)), jnp.zeros(()))

    if backward and not any(map(_has_gradient, jax.tree.leaves(jax.eval_shape(forward, parameters, rest, inputs)[1]))):
        raise ValueError("the outputs of the network are integers, which have no gradient: pass backward=False")
    trained = 0 if jax.tree.leaves(parameters) else 2
    return of_function(jax.value_and_grad(loss, trained) if backward else forward, parameters, rest, inputs)


def _has_gradient(y: Any) -> bool:
    return jnp.issubdtype(y.dtype, jnp.floating)


@checked
def of_function(function: Callable[..., Any], *arguments: Any) -> int:
    """Return the bytes that a call of any function of arrays takes at its peak, arguments and results included.

    On several devices, the bytes on each of them.

    Args:
        function: one that `jax.jit` takes. If it is jitted already, its donated arguments are counted once, and its
            first call after this one need not compile it again.
        arguments: as in a call; `jax.ShapeDtypeStruct` can stand for any array.

    Raises:
        TypeError: if `function` is not a function.
        NotImplementedError: if the device does not tell.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> of_function(lambda x: x + 1, jax.ShapeDtypeStruct((1000,), jnp.float32))
        8000
    """
    jitted = function if isinstance(function, jax.stages.Wrapped) else jax.jit(function)
    plan = jitted.lower(*arguments).compile().memory_analysis()
    if plan is None:
        raise NotImplementedError(f"{jax.default_backend()} does not tell how much memory a program takes")
    between = plan.temp_size_in_bytes - plan.alias_size_in_bytes
    return plan.argument_size_in_bytes + plan.output_size_in_bytes + between


@checked
def check_fits(needed: float, device: jax.Device | None = None, *, what: str = "this", cure: str = _CURE) -> None:
    """Raise MemoryError if something takes more memory than a device has.

    Args:
        needed: bytes, such as `memory_estimate` gives.
        device: where it is to run; None is where JAX runs things. A CPU has what the machine has free now, others what
            JAX may use of them.
        what: names it in the message.
        cure: what helps, for the message.

    Raises:
        MemoryError: if it does not fit; the message says by how much, and what helps.
        TypeError: if `needed` is not a number, or `device` not a device.

    Examples:
        >>> check_fits(2**60)
        Traceback (most recent call last):
            ...
        MemoryError: this takes 1,073,741,824.0 GiB of memory, and ... has ... GiB: take a smaller batch or ...
    """
    device = device or jax.local_devices()[0]
    limit = (device.memory_stats() or {}).get("bytes_limit", math.inf)
    there = psutil.virtual_memory().available if device.platform == "cpu" else limit
    needed = float(needed)
    if needed > there:
        raise MemoryError(
            f"{what} takes {needed / 2**30:,.1f} GiB of memory, and {device} has {there / 2**30:,.1f} GiB: {cure}"
        )
