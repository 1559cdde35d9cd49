"""The weights of a network of jsnn in a file, and back: all its arrays by their paths."""

import dataclasses
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.arguments import checked
from jsnn.extras import require
from jsnn.files import as_path, one_line
from jsnn.network import Network
from jsnn.neurons.calling import dotted
from jsnn.neurons.checks import is_key
from jsnn.neurons.pytree import FrozenPytree, within_ranges
from jsnn.weights.files import WeightsError, as_numbers, holds


@checked
def save(path: str | Path, network: Any, metadata: Mapping[str, str] | None = None) -> None:
    """Write the arrays of a network to a `.safetensors` file: weights, averages of normalisations, decays.

    A trained parameter that lies out of its range is written with the nearest value inside, with which it is used.

    Each is named by its path, such as `"blocks.0.lif1.decay"`. Random keys are left out. `from_jsnn` puts the arrays
    of the file, as `load` reads them, into a network that is built in the same way.

    Args:
        path: the file, with the suffix `.safetensors`. One that is there is replaced once the new one is complete.
        network: any network or module of Flax.
        metadata: texts that are kept with the arrays, see `read_metadata`.

    Raises:
        ValueError: if the suffix is another one, or the network has no arrays.
        FileNotFoundError: if there is no such folder.
        TypeError: if `network` is not a module of Flax or is traced, or `metadata` holds anything but texts.

    Examples:
        >>> import tempfile, jsnn
        >>> from flax import nnx
        >>> first, second = (jsnn.models.feedforward([4, 3, 2], rngs=nnx.Rngs(seed)) for seed in (0, 1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(f"{folder}/weights.safetensors", first, {"accuracy": "97%"})
        ...     arrays = jsnn.weights.load(f"{folder}/weights.safetensors")
        >>> second = from_jsnn(second, arrays)
        >>> sorted(arrays)
        ['layers.1.bias', 'layers.1.kernel', 'layers.3.bias', 'layers.3.kernel']
    """
    path = as_path(path)
    if path.suffix.lower() != ".safetensors":
        raise ValueError(f"path must end in .safetensors, got {path.name}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}: make it first")
    for name, text in (metadata or {}).items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise TypeError(f"metadata must map texts to texts, got {name!r}: {text!r}")
    require("weights", "safetensors")
    from safetensors.numpy import save_file

    found = _arrays_of(network).items()
    if any(isinstance(x, jax.core.Tracer) for _, x in found):
        raise TypeError("the arrays of the network must have values, got traced ones: call save outside jax.jit")
    if shapes := [name for name, x in found if isinstance(x, jax.ShapeDtypeStruct)]:
        raise ValueError(f"{type(network).__name__} has no arrays to save: {shapes[0]} is a shape without values")
    arrays = {name: _as_numpy(x) for name, x in _arrays_of(within_ranges(network)).items()}
    if not arrays:
        raise ValueError(f"{type(network).__name__} has no arrays to save")
    with tempfile.TemporaryDirectory(dir=path.parent) as temporary:  # gone if writing fails
        save_file(arrays, Path(temporary) / path.name, dict(metadata or {}))
        os.replace(Path(temporary) / path.name, path)


def from_jsnn(network: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Return a copy of a network with the arrays that `save` wrote of one that is built in the same way.

    Args:
        network: the network, which stays as it is; the shapes of one, from `nnx.eval_shape`, will do.
        arrays: by their paths, as `load` reads them.

    Raises:
        WeightsError: if an array is missing, has another shape or values that are too large, or belongs nowhere; all
            of them are named. Or if a parameter that is not trained would lie out of its range.
        TypeError: if `network` is not a module of Flax, or `arrays` is not a dictionary of arrays of numbers.
    """
    arrays, own = as_numbers(arrays, kinds="biufc"), _arrays_of(network)
    of_keys = ", as files hold no random keys: build the network without nnx.eval_shape"
    faults = [
        f"{name} {x.shape} is missing" + of_keys * jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        for name, x in own.items()
        if name not in arrays
    ]
    for name, x in arrays.items():
        if name not in own:
            faults.append(f"{name} {x.shape} belongs nowhere")
        elif x.shape != own[name].shape:
            faults.append(f"{name} has shape {x.shape}, the network's has {own[name].shape}")
        elif _rank(x.dtype) > _rank(own[name].dtype):
            faults.append(f"{name} is {x.dtype}, the network's {own[name].dtype}: a part of it would be cut off")
        elif not holds(own[name].dtype, x):
            faults.append(f"{name} has values that are too large for {own[name].dtype}, the network's dtype")
    if faults:
        raise WeightsError("the weights do not fit the network:\n  " + "\n  ".join(faults))
    graph, state = nnx.split(network)

    def put(path: tuple[Any, ...], leaf: Any) -> Any:
        name = _name(network, path)
        if name not in own:
            return leaf
        value = jnp.asarray(arrays[name], own[name].dtype)
        return leaf.replace(value) if isinstance(leaf, nnx.Variable) else value

    flat = [(path, put(path, leaf)) for path, leaf in nnx.to_flat_state(state)]
    filled = nnx.merge(graph, nnx.from_flat_state(flat), copy=True)
    for path, part in nnx.iter_graph(filled):
        if isinstance(part, FrozenPytree):
            try:
                dataclasses.replace(cast(Any, part))  # for the checks of its numbers
            except ValueError as error:
                raise WeightsError(f"the weights do not fit {dotted(path) or 'the network'}: {error}") from error
    return filled


@checked
def read_metadata(path: str | Path) -> dict[str, str]:
    """Return the texts that `save` wrote into a `.safetensors` file beside the arrays.

    Raises:
        FileNotFoundError: if there is no such file.
        WeightsError: if the file is broken, or no `.safetensors` file.
    """
    path = as_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    require("weights", "safetensors")
    from safetensors import safe_open

    try:
        with safe_open(path, "numpy") as file:
            return dict(file.metadata() or {})
    except Exception as error:  # safetensors has an error of its own
        raise WeightsError(f"{path.name} cannot be read as a .safetensors file: {one_line(error)}") from error


def _arrays_of(network: Any) -> dict[str, Any]:
    """Return the arrays of a network, or their shapes, by their paths, but for random keys."""
    if not isinstance(network, nnx.Pytree) or isinstance(network, nnx.Variable):
        raise TypeError(f"network must be a network or a module of Flax, got {type(network).__name__}")
    flat = nnx.to_flat_state(nnx.split(network)[1])
    arrays = {_name(network, path): leaf.get_value() if isinstance(leaf, nnx.Variable) else leaf for path, leaf in flat}
    if len(arrays) < len(flat):
        names = [_name(network, path) for path, _ in flat]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two arrays of the network are named {twice!r}: take the dots out of the keys of nnx.Dict")
    kinds = jax.Array | np.ndarray | jax.ShapeDtypeStruct
    return {name: x for name, x in arrays.items() if isinstance(x, kinds) and not is_key(x)}


def _rank(dtype: Any) -> int:
    """Return a number that is larger for a dtype that holds more: real numbers more than whole ones, say."""
    kinds = (jnp.bool_, jnp.integer, jnp.floating, jnp.complexfloating)
    return next(rank for rank, kind in enumerate(kinds) if jnp.issubdtype(dtype, kind))


def _name(network: Any, path: tuple[Any, ...]) -> str:
    return dotted(path) if isinstance(network, Network) else ".".join(map(str, path))


def _as_numpy(x: jax.Array) -> np.ndarray:
    """Return an array as NumPy has it, which has no bfloat16 and no numbers of fewer bits."""
    wide = np.float32 if jnp.issubdtype(x.dtype, jnp.floating) else np.int8
    return np.asarray(x, None if x.dtype.isbuiltin == 1 else wide)
