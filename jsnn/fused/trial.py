"""Whether `unroll` may take the kernels by itself: a test of them on the very GPU, before anybody relies on them.

Once in a process, a few neurons are run by the kernels and by a scan, and their spikes and gradients compared. Then the
kernels of each neuron of a user are compiled before they become part of the user's program. Whatever goes wrong, be it
an old driver or a state that is too large, is one warning, and the neuron is scanned.

All of it runs in a thread of its own, since `unroll` is called while JAX traces and differentiates other programs.
"""

import functools
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.files import one_line
from jsnn.fused import kernels
from jsnn.fused.program import trace
from jsnn.neurons.alif import ALIF
from jsnn.neurons.lif import LIF
from jsnn.neurons.pytree import as_data
from jsnn.types import Array, Neuron, State

Unroll = Callable[..., Any]  # (neuron, state, inputs, num_steps) -> (state, outputs)

NUM_STEPS, NUM_NEURONS = 16, 150  # more than a block of a kernel, and not a whole number of them
_COMPILED: dict[Any, bool] = {}


def is_trusted(run: Unroll, neuron: Neuron, state: State, inputs: Array, num_steps: int | None) -> bool:
    """Return whether `run`, the kernels, has passed the test on the default device, and can be compiled for a neuron.

    Args:
        run: `jsnn.fused.unroll`.
        neuron: anything with `init` and `step`.
        state: its state.
        inputs: `[T, B, ...]`; or, with `num_steps`, a static input `[B, ...]`. All three may be traced.
        num_steps: the number of steps of a static input.
    """
    device = default_device()
    if platform_of(device) != "cuda" or not _is_on_one_device():
        return False
    shape = inputs.shape if num_steps is not None else inputs.shape[1:]
    traced = trace(neuron, state, jax.ShapeDtypeStruct(shape, inputs.dtype))
    if traced is None or fault_of(run, device) is not None:
        return False
    # in a list, a neuron of a class that JAX does not know stays as it is
    given = jax.tree.map(_described, (nnx.List([as_data(neuron)]), state, inputs))
    key = device, num_steps, inputs.shape, str(traced[0])
    if key not in _COMPILED:
        has_gradient, wide = traced[0].backward is not None, jax.config.jax_enable_x64  # type: ignore[attr-defined]
        fault = _apart(lambda: _compile(run, given, num_steps, has_gradient, wide), device)
        _COMPILED[key] = fault is None
        if fault is not None:
            _warn(f"the fused kernel of {type(neuron).__name__} cannot be compiled for {device}", fault)
    return _COMPILED[key]


@functools.cache
def fault_of(run: Unroll, device: jax.Device) -> str | None:
    """Return what is wrong with the kernels on a device, after a warning; None if nothing is."""
    fault = (
        "this JAX has no Mosaic GPU, their compiler"
        if not kernels.is_available()
        else _apart(lambda: _test(run), device)
    )
    if fault is not None:
        _warn(f"the fused kernels do not pass their test on {device}", fault)
    return fault


def default_device() -> jax.Device:
    """Return where what is traced now will run, unless its arrays lie elsewhere."""
    device = jax.config.jax_default_device  # type: ignore[attr-defined]
    return device if isinstance(device, jax.Device) else jax.devices(device)[0]


def platform_of(device: jax.Device) -> str:
    """Return "cuda" for a GPU of NVIDIA, and for others what JAX calls their platform."""
    return "cuda" if device.platform == "gpu" and "cuda" in device.client.platform_version else device.platform


def _is_on_one_device() -> bool:
    """Return whether a program is that of one device: XLA cannot share a kernel out among several."""
    mesh = jax.sharding.get_abstract_mesh()
    return jax.device_count() == 1 or (not mesh.empty and set(mesh.manual_axes) == set(mesh.axis_names))


def _apart(action: Callable[[], str | None], device: jax.Device) -> str | None:
    """Return what an action says, or the error that it raises, in a thread apart from what JAX traces."""

    def act() -> str | None:
        try:
            with jax.default_device(device):
                return action()
        except Exception as error:  # a compiler has errors of many types
            return one_line(error)

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(act).result()


def examples() -> list[tuple[Any, State, Array]]:
    """Return the neurons of the test, with their states and inputs, for which no membrane comes near its threshold."""
    rng = np.random.default_rng(0)
    currents = jnp.asarray(rng.uniform(-0.2, 1.5, (NUM_STEPS, NUM_NEURONS)), jnp.float32)
    decay = jnp.asarray(rng.uniform(0.5, 0.9, NUM_NEURONS), jnp.float32)
    return [(neuron, neuron.init((NUM_NEURONS,)), currents) for neuron in (LIF(decay), ALIF())]


def _test(run: Unroll) -> str | None:
    """Return how spikes or gradients of a few neurons differ from those of a scan, None if they do not."""
    for arguments in examples():
        found, expected = (jax.jit(_with_gradients(each, None))(*arguments) for each in (run, _scan))
        for what, each, other in zip(("spikes", "gradients"), found, expected, strict=True):
            for array, wanted in zip(jax.tree.leaves(each), jax.tree.leaves(other), strict=True):
                close = 0.0 if what == "spikes" else 1e-4 * float(jnp.abs(wanted).max())
                if not bool((jnp.abs(array - wanted) <= close).all()):  # NaN is not close to anything
                    return f"the {what} of {type(arguments[0]).__name__} are not those of a scan"
    return None


def _compile(run: Unroll, given: Any, num_steps: int | None, has_gradient: bool, wide: bool) -> None:
    def listed(neurons: Any, state: State, inputs: Array, num_steps: int | None = num_steps) -> Any:
        return run(neurons[0], state, inputs, num_steps)

    with jax.enable_x64(wide):
        jax.jit(_with_gradients(listed, num_steps) if has_gradient else listed).lower(*given).compile()


def _scan(neuron: Neuron, state: State, inputs: Array, num_steps: int | None) -> tuple[State, Array]:
    return jax.lax.scan(neuron.step, state, inputs)


def _with_gradients(run: Unroll, num_steps: int | None) -> Callable[..., Any]:
    """Return `(neuron, state, inputs) -> (outputs, gradients)`, those of a loss of all outputs and the last state."""

    def loss(neuron: Neuron, state: State, inputs: Array) -> tuple[Array, Array]:
        last, outputs = run(neuron, state, inputs, num_steps)
        smooth = [x for x in (outputs, *jax.tree.leaves(last)) if jnp.issubdtype(x.dtype, jnp.inexact)]
        return sum((jnp.sin(x).sum() for x in smooth), jnp.zeros(())), outputs

    def outputs_and_gradients(neuron: Neuron, state: State, inputs: Array) -> tuple[Array, Any]:
        gradients, outputs = jax.grad(loss, (0, 1, 2), has_aux=True, allow_int=True)(neuron, state, inputs)
        return outputs, gradients

    return outputs_and_gradients


def _described(leaf: Any) -> Any:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if isinstance(leaf, jax.Array | np.ndarray) else leaf


def _warn(what: str, fault: str) -> None:
    warnings.warn(f'{what} ({fault}): method="auto" scans instead, which is slower on a GPU', stacklevel=2)
