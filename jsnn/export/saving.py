"""Networks written to files that run by JAX alone."""

import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import export

from jsnn import rounding
from jsnn.arguments import checked, is_array, is_real, is_traced
from jsnn.export.loading import MAGIC, VERSION, checksum, named
from jsnn.extras import require
from jsnn.files import as_path, one_line
from jsnn.neurons.checks import check_is_neuron, is_key
from jsnn.neurons.pytree import map_parts
from jsnn.neurons.wrappers import Dropout
from jsnn.types import Array, Neuron, State
from jsnn.unrolling import unroll

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


@checked
def save(
    network: Neuron,
    example: Any,
    path: str | Path,
    *,
    num_steps: int | None = None,
    is_static: bool = False,
    any_batch: bool = True,
    platforms: Sequence[str] = PLATFORMS,
) -> None:
    """Write a network to a file that runs by JAX alone: its weights, `init`, `step` and, if wanted, `unroll`.

    It is written in inference mode: `nnx.BatchNorm` takes its averages, and no dropout drops anything. The network
    itself stays as it is. The loaded network can be run, but has no gradient.

    Args:
        network: any Neuron.
        example: the input of one time step, `[B, ...]`, of which only shape and dtype are read: an array, a
            `jax.ShapeDtypeStruct`, or a dict or tuple of them for a network that takes several.
        path: the file. One that is there is replaced once the new one is complete.
        num_steps: the number of steps T of `unroll`; None leaves it out.
        is_static: whether the input of `unroll` is static, `[B, ...]`; otherwise it is `[T, B, ...]`.
        any_batch: whether batches may have any size; otherwise all have that of the example.
        platforms: where it is to run, some of `PLATFORMS`. The machine that writes the file needs none of them.

    Raises:
        TypeError: if `network` is not a Neuron or is traced, or `example` is not made of floating-point arrays.
        ValueError: if `example` does not fit the network; if `path` is a folder, `num_steps` is below 1, or a platform
            is unknown; or if the network cannot be exported, because it has to know the size of a batch (then
            `any_batch=False` helps), calls Python, or puts out something other than arrays, dicts, lists and tuples.
        FileNotFoundError: if there is no such folder.
        ImportError: if the package flatbuffers is missing, by which JAX writes programs.

    Examples:
        >>> import tempfile, jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> network = jsnn.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), jsnn.LIF(decay=0.9))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     jsnn.export.save(network, jnp.ones((1, 3)), f"{folder}/network.jsnn")
        ...     loaded = jsnn.export.load(f"{folder}/network.jsnn")
        >>> state, spikes = loaded.step(loaded.init(batch_size=2), jnp.ones((2, 3)))
        >>> sorted(state), spikes.shape
        (['1.v'], (2, 4))
    """
    check_is_neuron("export.save", network)
    path = as_path(path)
    if path.is_dir():
        raise ValueError(f"path must name a file, got the folder {path}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}")
    if not platforms or isinstance(platforms, str) or not set(platforms) <= set(PLATFORMS):
        raise ValueError(f"platforms must be some of {', '.join(PLATFORMS)}, got {platforms!r}")
    if num_steps is not None and num_steps < 1:
        raise ValueError(f"num_steps must be >= 1, got {num_steps}")
    if is_static and num_steps is None:
        raise ValueError("is_static=True is about unroll: pass num_steps as well")
    if any(map(is_traced, jax.tree.leaves(network))):
        raise TypeError("network must have known weights: call save outside of jax.jit")
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(network)):
        raise TypeError("network has shapes and no weights, as by nnx.eval_shape: put weights into it first")
    require("export", "flatbuffers")
    x = _shapes_of(example, any_batch)
    network = _for_inference(network)
    with _on_cpu():  # where `unroll` chooses what all platforms can do
        _check_example(network, x)
        header, parts = _exported(network, x, num_steps, is_static, any_batch, list(dict.fromkeys(platforms)))
    header["parts"] = [(name, len(part)) for name, part in parts.items()]
    content = json.dumps(header).encode() + b"\n" + b"".join(parts.values())
    with tempfile.TemporaryDirectory(dir=path.parent) as temporary:  # gone if writing fails
        complete = Path(temporary) / path.name
        complete.write_bytes(f"{MAGIC} {VERSION} {checksum(content)}\n".encode() + content)
        os.replace(complete, path)


def _on_cpu() -> AbstractContextManager[Any]:
    try:
        return jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:  # as with JAX_PLATFORMS=cuda
        return nullcontext()


def _shapes_of(example: Any, any_batch: bool) -> Any:
    """Return the shapes and dtypes of an example, checked."""
    leaves = jax.tree.leaves(example)
    for leaf in leaves:
        if not (is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)) or not is_real(leaf):
            raise TypeError(f"example must be made of arrays of numbers or jax.ShapeDtypeStruct, got {leaf!r}")
    if not leaves:
        raise TypeError(f"example must have an array, got {example!r}")
    sizes = {leaf.shape[:1] for leaf in leaves}
    if any_batch and (len(sizes) > 1 or () in sizes):
        shapes = ", ".join(str(leaf.shape) for leaf in leaves)
        raise ValueError(f"example must have one batch axis, [B, ...], got {shapes}: or pass any_batch=False")
    if not any_batch and (0,) in sizes:
        raise ValueError("example must have a batch of 1 or more with any_batch=False, got none")
    return jax.eval_shape(lambda x: x, example)


def _for_inference(network: Any) -> Any:
    """Return a copy of a network that is in inference mode."""

    def change(part: Any) -> Any:
        if isinstance(part, nnx.Module):
            part = nnx.clone(part)
            part.eval()
        return part

    # `jsnn.Recurrent`, for one, is no module, but may hold some
    network = jax.tree.map(change, network, is_leaf=lambda part: isinstance(part, nnx.Module))
    return map_parts(network, lambda part: isinstance(part, Dropout), lambda part: dataclasses.replace(part, key=None))


def _check_example(network: Any, x: Any) -> None:
    """Raise TypeError or ValueError, in the words of `unroll`, if a network cannot run for a step as it is."""
    state = jax.eval_shape(lambda: _at_rest(network, x))
    jax.eval_shape(lambda state, x: unroll(network, x, state, num_steps=1), state, x)


def _at_rest(network: Any, x: Any) -> State:
    """Return the state that `unroll` begins with."""
    leaves = jax.tree.leaves(x)
    state = network.init(jax.tree.map(lambda leaf: leaf.shape, x), jnp.result_type(*leaves))
    return jax.tree.map(rounding.wide, state)


def _of_batch(x: Any, batch: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((*batch, *leaf.shape[1:]), leaf.dtype), x)


def _exported(
    network: Any, example: Any, num_steps: int | None, is_static: bool, any_batch: bool, platforms: list[str]
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the header of a file, and its parts."""
    structure: Any
    leaves, structure = jax.tree.flatten(network)
    kinds = [_kind(leaf) if is_array(leaf) else None for leaf in leaves]
    weights = [_plain(leaf) for leaf in leaves if is_array(leaf)]
    state_kinds: dict[str, Any] = {}

    def at_rest() -> State:
        state = _at_rest(network, example)
        state_kinds.update({name: _kind(leaf) for name, leaf in named(state).items()})
        return state

    state_structure = jax.tree.structure(jax.eval_shape(at_rest))

    def built(weights: list[Array]) -> Any:
        given = iter(weights)
        return structure.unflatten([_like(kind, next(given)) if kind else leaf for kind, leaf in zip(kinds, leaves)])

    def pack(state: State) -> dict[str, Array]:
        return {name: _plain(leaf) for name, leaf in named(state).items()}

    def unpack(state: dict[str, Array]) -> State:
        return jax.tree.unflatten(state_structure, [_like(kind, state[name]) for name, kind in state_kinds.items()])

    def init(weights: list[Array], rows: Array) -> dict[str, Array]:
        return pack(_at_rest(built(weights), _of_batch(example, rows.shape) if any_batch else example))

    def step(weights: list[Array], state: dict[str, Array], x: Any) -> tuple[dict[str, Array], Any]:
        after, y = built(weights).step(unpack(state), x)
        return pack(after), y

    def unroll_all(weights: list[Array], state: dict[str, Array], x: Any) -> tuple[dict[str, Array], Any]:
        after, y = unroll(built(weights), x, unpack(state), num_steps=num_steps if is_static else None)
        return pack(after), y

    def traced(function: Callable[..., Any], *arguments: Any) -> export.Exported:
        return export.export(jax.jit(function), platforms=platforms)(weights, *arguments)

    own = jax.tree.leaves(example)[0].shape[:1] or (1,)
    batch = export.symbolic_shape("b", constraints=["b >= 1"]) if any_batch else own
    x = _of_batch(example, batch) if any_batch else example
    steps = () if is_static else (num_steps or 1,)
    inputs = jax.tree.map(lambda leaf: leaf.update(shape=(*steps, *leaf.shape)), x)
    try:
        functions = {"init": traced(init, jax.ShapeDtypeStruct(batch, jnp.float32))}
        state = _results(functions["init"])
        functions["step"] = traced(step, state, x)
        if num_steps is not None:
            functions["unroll"] = traced(unroll_all, state, inputs)
        parts = {name: bytes(function.serialize()) for name, function in functions.items()}
    except Exception as error:  # whatever the code of a network raises where the size of a batch is not a number
        cure = ""
        if any_batch and _is_exportable(network, example, num_steps, is_static, False, platforms):
            cure = "; it can be with any_batch=False, or where its code has no len(x) of a batch, but x.shape[0]"
        raise ValueError(f"{type(network).__name__} cannot be exported: {one_line(error)}{cure}") from error
    header = {
        "network": type(network).__name__,
        "jax": jax.__version__,
        "platforms": platforms,
        "batch_size": None if any_batch else own[0],
        "num_steps": num_steps,
        "input": _described(named(x)),
        "unroll_input": _described(named(inputs)) if num_steps else None,
        "output": _described(named(_results(functions["step"])[1])),
        "state": _described(named(state)),
        "weights": _described({name: _plain(leaf) for name, leaf in named(network).items() if is_array(leaf)}),
    }
    return header, {"weights": b"".join(np.asarray(array).tobytes() for array in weights), **parts}


def _is_exportable(*arguments: Any) -> bool:
    try:
        _exported(*arguments)
    except ValueError:
        return False
    return True


def _results(function: export.Exported) -> Any:
    """Return the shapes and dtypes of what an exported function returns."""
    results = [jax.ShapeDtypeStruct(one.shape, one.dtype) for one in function.out_avals]
    return jax.tree.unflatten(function.out_tree, results)


def _described(arrays: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the names, shapes and dtypes of arrays as they stand in a header."""
    return [
        {
            "name": name,
            "shape": [size if isinstance(size, int) else str(size) for size in array.shape],
            "dtype": array.dtype.name,
        }
        for name, array in arrays.items()
    ]


def _kind(leaf: Any) -> Any:
    """Return "array", or for a random key the name that `jax.random.wrap_key_data` needs."""
    return jax.random.key_impl(leaf) if is_key(leaf) else "array"


def _plain(leaf: Any) -> Array:
    """Return an array, or the numbers that a random key is made of."""
    return jax.random.key_data(leaf) if is_key(leaf) else jnp.asarray(leaf)


def _like(kind: Any, array: Array) -> Array:
    """Return what `_plain` made an array of: the array, or a random key."""
    return array if kind == "array" else jax.random.wrap_key_data(array, impl=kind)
