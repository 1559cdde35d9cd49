"""Exported networks read from their files, and run."""

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.custom_batching import sequential_vmap

from jsnn.arguments import checked
from jsnn.extras import require
from jsnn.files import FileError, as_path, one_line
from jsnn.types import Array

MAGIC, VERSION = "jsnn-export", 1
_LONGEST_LINE = 100  # bytes


class Exported:
    """A network that was read from a file, by `load`.

    Its methods can be called inside of `jax.jit`. They have no gradient, and under `jax.vmap` run one after another: a
    larger batch is faster.

    Attributes:
        header: what the file says of itself: `platforms`, `num_steps` (None: no unroll), `batch_size` (None: any), and
            the `name`, `shape` and `dtype` of all arrays of `input`, `unroll_input`, `state`, `output` and `weights`.
            "b" in a shape stands for the size of the batch.
    """

    def __init__(self, header: dict[str, Any], weights: list[Array], programs: dict[str, bytes]) -> None:
        self.header, self._weights, self._programs = header, weights, programs
        functions = {name: export.deserialize(bytearray(program)) for name, program in programs.items()}
        self._functions = {name: jax.jit(_without_gradient(one.call)) for name, one in functions.items()}

    def __reduce__(self) -> Any:
        return Exported, (self.header, self._weights, self._programs)  # JAX's functions can not be copied

    def init(self, batch_size: Any = None, dtype: Any = None) -> dict[str, Array]:
        """Return the state before the first step: a dict of arrays by name.

        Args:
            batch_size: how many inputs are run together, or the shape of a step's input, `[B, ...]`, or the shapes of
                several, as `jsnn.unroll` gives them; a file for batches of one size needs neither.
            dtype: not used: the header says the dtypes of all arrays.

        Raises:
            TypeError: if it is not a whole number.
            ValueError: if it is below 1, or not that of the file.
        """
        only = self.header["batch_size"]
        size = next(iter(jax.tree.leaves(batch_size)), only)
        if isinstance(size, bool) or not isinstance(size, int | np.integer):
            raise TypeError(f"batch_size must be a whole number, got {size!r}")
        if size < 1 or only not in (None, size):
            raise ValueError(f"batch_size must be {'>= 1' if only is None else only}, got {size}")
        return self._functions["init"](self._weights, jnp.zeros(size, jnp.float32))

    def step(self, state: dict[str, Array], x: Any) -> tuple[dict[str, Array], Any]:
        """Run one time step, `x` [B, ...]: return the state after it and the output.

        Raises:
            TypeError: if an array has another dtype than the header says.
            ValueError: if an array is missing, or has another shape.
        """
        x, size = self._fitting("x", x, "input")
        state, _ = self._fitting("state", state, "state", size)
        return self._functions["step"](self._weights, state, x)

    def unroll(self, x: Any, state: dict[str, Array] | None = None) -> tuple[dict[str, Array], Any]:
        """Run all T time steps that the file was written for.

        Args:
            x: the input, `[T, B, ...]`; or `[B, ...]`, if the file was written for a static one.
            state: the state to go on from; None starts from `init`.

        Returns:
            `(state, outputs)`: the state after the last step, and the outputs `[T, B, ...]`.

        Raises:
            TypeError: if an array has another dtype than the header says.
            ValueError: if an array is missing, or has another shape; or if the file has no `unroll`.
        """
        if "unroll" not in self._functions:
            raise ValueError("the file has no unroll: write it by jsnn.export.save(..., num_steps=T)")
        x, size = self._fitting("x", x, "unroll_input")
        state, _ = self._fitting("state", self.init(size) if state is None else state, "state", size)
        return self._functions["unroll"](self._weights, state, x)

    def _fitting(self, what: str, tree: Any, part: str, size: int | None = None) -> tuple[Any, int | None]:
        """Return arrays that are as the header says, and the size of their batch."""
        tree = jax.tree.map(jnp.asarray, tree)
        found, wanted = named(tree), {one["name"]: one for one in self.header[part]}
        if found.keys() != wanted.keys():
            raise ValueError(f"{what} must be {_texts(wanted) or 'one array'}, got {_texts(found) or 'one array'}")
        for name, one in wanted.items():
            array, lengths = found[name], one["shape"]
            if size is None and "b" in lengths and array.ndim == len(lengths):
                size = array.shape[lengths.index("b")]
                if size == 0:
                    raise ValueError(f"{what} must have a batch of 1 or more, got {_text(array.dtype, array.shape)}")
            shape = tuple(size or length if length == "b" else length for length in lengths)
            fits = array.ndim == len(shape) and all(  # a length such as "2*b" is left to the program
                isinstance(length, str) or length == own for length, own in zip(shape, array.shape)
            )
            if not fits or array.dtype.name != one["dtype"]:
                texts = f"{_text(one['dtype'], shape)}, got {_text(array.dtype, array.shape)}"
                error = TypeError if fits else ValueError
                raise error(f"{what}{name and f' {name!r}'} must be {texts}")
        return tree, size


def _without_gradient(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the same function, which raises TypeError with the reason when its gradient is taken.

    JAX has no rule for `jax.vmap` of an exported program either, so it is mapped over the axis.
    """
    run = jax.custom_vjp(sequential_vmap(function))

    def refuse(*_: Any) -> NoReturn:
        raise TypeError("a loaded network has no gradient: train the network that was saved, or take its stop_gradient")

    run.defvjp(refuse, refuse)
    return run


def _text(dtype: Any, shape: Any) -> str:
    return f"{dtype}[{', '.join(map(str, shape))}]"


def _texts(names: Any) -> str:
    return "" if list(names) == [""] else f"a tree of {', '.join(names) or 'no arrays'}"


@checked
def load(path: str | Path) -> Exported:
    """Read a file that `save` wrote. `examples/deploy.py` does so without jsnn.

    Args:
        path: the file. It holds a program of JAX and no Python code.

    Raises:
        FileNotFoundError: if there is no such file.
        FileError: a ValueError, if it is another kind of file, damaged, of a later version of the format, or was not
            written for the platform that JAX runs on.
        ImportError: if the package flatbuffers is missing.
    """
    path = as_path(path)
    if path.is_dir():
        raise ValueError(f"path must name a file, got the folder {path}")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    require("export", "flatbuffers")
    with path.open("rb") as file:
        line = file.readline(_LONGEST_LINE).split()
        if len(line) != 3 or line[0] != MAGIC.encode() or not line[1].isdigit():
            raise FileError(f"{path} is not a file that jsnn.export.save wrote")
        if int(line[1]) > VERSION:
            raise FileError(f"{path} has version {int(line[1])} of the format, later than {VERSION}: update jsnn")
        if int(line[1]) < 1:
            raise FileError(f"{path} has version {int(line[1])} of the format, and the first is 1: it is damaged")
        content = file.read()
    if checksum(content).encode() != line[2]:
        raise FileError(f"{path} is damaged or incomplete: its checksum does not fit")
    try:
        return _read(content)
    except Exception as error:  # a JAX that cannot read what another wrote says so by errors of many types
        raise FileError(f"{path} cannot be read: {one_line(error)}") from error


def _read(content: bytes) -> Exported:
    text, _, body = content.partition(b"\n")
    header = json.loads(text)
    platform = export.default_export_platform()
    if platform not in header["platforms"]:
        names = " and ".join(header["platforms"])
        raise ValueError(f"it was written for {names}, and JAX runs on {platform}: save(..., platforms=[{platform!r}])")
    parts, end = {}, 0
    for name, size in header["parts"]:
        parts[name], end = body[end : end + size], end + size
    weights, start = [], 0
    for one in header["weights"]:
        array = np.frombuffer(parts["weights"], jnp.dtype(one["dtype"]), math.prod(one["shape"]), start)
        weights.append(jnp.asarray(array.reshape(one["shape"])))
        start += array.nbytes
        if weights[-1].dtype != array.dtype:
            raise ValueError(f"{one['name']} is {array.dtype}: call jax.config.update('jax_enable_x64', True) first")
    programs = {name: part for name, part in parts.items() if name != "weights"}
    lacking = {"init", "step"} - programs.keys() | {"batch_size", "input", "state", "unroll_input"} - header.keys()
    if lacking:
        raise ValueError(f"it lacks {', '.join(sorted(lacking))}")
    return Exported(header, weights, programs)


def checksum(content: bytes) -> str:
    """Return the checksum that stands in the first line of a file, of all that follows."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def named(tree: Any) -> dict[str, Any]:
    """Return the leaves of a pytree by their paths, such as "1.v"; a single array has the name ""."""
    paths, leaves = zip(*jax.tree_util.tree_leaves_with_path(tree)) if jax.tree.leaves(tree) else ((), ())
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path in paths]
    if len(set(names)) < len(names):
        names = [jax.tree_util.keystr(path) for path in paths]
    return dict(zip(names, leaves, strict=True))
