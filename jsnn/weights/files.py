"""The files that other libraries keep their weights in."""

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from jsnn.arguments import checked
from jsnn.extras import require
from jsnn.files import Budget, Npz, as_path, one_line

if TYPE_CHECKING:
    from jsnn.files.hdf5 import Hdf5

_KERAS_WEIGHTS, _KERAS_CONFIG = "model.weights.h5", "config.json"  # in a .keras file
_LONGEST_CONFIG = 2**24  # bytes; read as JSON it takes some fifty times as many


class WeightsError(ValueError):
    """A file that cannot be read, or weights that do not fit a network; the message names all of them."""


class Unordered(dict[str, np.ndarray]):
    """Arrays by name, of a file that does not keep the order in which the layers run; they are sorted by name.

    Attributes:
        order: the names of modules whose order is known from elsewhere in the file, in that order.
        is_subclassed: whether it is a Keras model with a `call` of its own, whose layers are numbered in the order in
            which they were made.
    """

    def __init__(
        self, arrays: Mapping[str, np.ndarray], order: Sequence[str] = (), is_subclassed: bool = False
    ) -> None:
        super().__init__(sorted(arrays.items(), key=lambda item: natural(item[0])))
        self.order, self.is_subclassed = tuple(order), is_subclassed


@checked
def load(path: str | Path, *, key: str | None = None) -> dict[str, np.ndarray]:
    """Return the arrays of a weights file, by name.

    * `.safetensors`, the best choice: `safetensors.torch.save_file(network.state_dict(), path)`. Such a file keeps no
      order; the arrays come sorted by name, with numbers by value, and `from_torch` asks for the order where neither
      numbers in the names nor shapes tell it.
    * `.npz`, with no objects in it.
    * `.pt`, `.pth` and `.ckpt`: a `state_dict`, if PyTorch is installed, and only its arrays; with `key` the one under
      that key of a dictionary, such as `key="state_dict"` for PyTorch Lightning. A pickle that would run code is
      refused.
    * `.h5` and `.keras`: Keras' weights, or a whole model, of which the weights are read, and from a `.keras` file the
      order of its layers. A `.weights.h5` file keeps no order.

    Suffixes may be in capitals, and a leading ~ is the home folder.

    No code of a file is run, and no link in one is followed. Sizes are checked before anything is read: an array must
    not take more than 2,000 times its bytes in the file, nor all arrays more than half of the free memory.

    Raises:
        WeightsError: if the file cannot be read, is too large, or is of another kind, or there is nothing under `key`.
        FileNotFoundError: if there is no such file.
        ImportError: if a package is missing: `pip install 'jsnn[weights]'` installs h5py.
    """
    path = as_path(path)
    kind = path.suffix.lower()
    if kind not in _READERS:
        raise WeightsError(f"{path.name}: weights are read from {', '.join(_READERS)} files; save it as .safetensors")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if key is not None and _READERS[kind] is not _load_torch:
        raise WeightsError(f"key={key!r} is for files of PyTorch, .pt, .pth and .ckpt, got {path.name}: leave it out")
    try:
        return _load_torch(path, key) if _READERS[kind] is _load_torch else _READERS[kind](path)
    except (ImportError, WeightsError):
        raise
    except Exception as error:  # each library has errors of its own for a broken file
        raise WeightsError(f"{path.name} cannot be read as a {kind} file: {one_line(error)}") from error


def _load_safetensors(path: Path) -> dict[str, np.ndarray]:
    require("weights", "safetensors")
    from safetensors.numpy import load_file

    Budget(path).take("the file", path.stat().st_size, path.stat().st_size)
    return Unordered(load_file(path))


def _load_npz(path: Path) -> dict[str, np.ndarray]:
    with Npz(path) as file:
        return {name: file.read(name) for name in file.names}


def _load_torch(path: Path, key: str | None = None) -> dict[str, np.ndarray]:
    cure = "save it as .safetensors, with safetensors.torch.save_file(network.state_dict(), 'weights.safetensors')"
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ImportError(f"{path.name} is a pickle, read only with PyTorch, which is not installed: {cure}") from error
    if zipfile.is_zipfile(path):
        budget = Budget(path)
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                budget.take(repr(entry.filename), entry.file_size, entry.compress_size)
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # PyTorch's own text proposes to run the code
        raise WeightsError(
            f"{path.name} is refused, as it is broken or holds more than arrays and may run code: {cure}"
        ) from error

    def is_state_dict(value: Any) -> bool:
        return isinstance(value, Mapping) and all(isinstance(array, torch.Tensor) for array in value.values())

    inside = [name for name, value in content.items() if is_state_dict(value)] if isinstance(content, Mapping) else []
    if key is not None:
        if key not in inside:
            raise WeightsError(f"{path.name} holds no state_dict under key={key!r}, there is one under {inside}")
        content = content[key]
    if not is_state_dict(content):
        found = f"the keys {list(content)}" if isinstance(content, Mapping) else type(content).__name__
        cure = f"give one of the keys, key={inside[0]!r}" if inside else cure
        raise WeightsError(f"{path.name} must hold a state_dict, arrays by name, got {found}: {cure}")
    budget = Budget(path)
    for name, t in content.items():  # a tensor may repeat its values
        budget.take(f"array {name!r}", t.numel() * max(t.element_size(), 4), t.untyped_storage().nbytes())
    return {name: (t.float() if t.is_floating_point() else t).detach().numpy() for name, t in content.items()}


def _load_keras(path: Path) -> dict[str, np.ndarray]:
    require("weights", "h5py")
    from jsnn.files.hdf5 import open_hdf5

    source: Path | io.BytesIO = path
    order: list[str] = []
    budget = Budget(path)
    if path.suffix.lower() == ".keras" and zipfile.is_zipfile(path):  # Keras 2 may write an .h5 file by that name
        with zipfile.ZipFile(path) as archive:
            entry = archive.getinfo(_KERAS_WEIGHTS)
            budget.take(entry.filename, entry.file_size, entry.compress_size)
            source = io.BytesIO(archive.read(entry))
            configuration = archive.NameToInfo.get(_KERAS_CONFIG)
            if configuration is not None and configuration.file_size <= _LONGEST_CONFIG:
                budget.take(_KERAS_CONFIG, configuration.file_size, configuration.compress_size)
                with suppress(ValueError, RecursionError):  # without it the weights can still be read
                    order = list(_layer_names(json.loads(archive.read(configuration)), ""))
    with open_hdf5(source, budget) as file:
        root = "model_weights/" if file.is_group("model_weights") else ""
        if file.has_attribute(root.rstrip("/"), "layer_names"):  # Keras 2's format, which keeps the order
            layers = [f"{root}{layer}" for layer in _names(file, root.rstrip("/"), "layer_names")]
            places = {name: f"{layer}/{name}" for layer in layers for name in _names(file, layer, "weight_names")}
            return {name.removesuffix(":0"): np.asarray(file.read(place)) for name, place in places.items()}
        start = len(root)
        names = [name[start:] for name in file.names if file.is_array(name) and name.startswith(root)]
        found = {name: np.asarray(file.read(root + name)) for name in names if not name.startswith("optimizer")}
        model = file.attribute("vars", "name") if file.is_group("vars") and file.has_attribute("vars", "name") else ""
    is_subclassed = not order and bool(model) and not str(model).startswith(("sequential", "functional"))
    return Unordered(found, order, is_subclassed)


def _layer_names(model: Any, prefix: str) -> Iterator[str]:
    """Return the names that a model's layers have in its weights file, in the order of its configuration.

    Keras names them by their classes, and numbers those of one class: dense, dense_1, ...
    """
    settings = model.get("config") if isinstance(model, dict) else None
    layers = settings.get("layers") if isinstance(settings, dict) else None
    if not isinstance(layers, list):
        if prefix:
            yield prefix.rstrip("/")
        return
    seen: dict[str, int] = {}
    for layer in layers:
        name = _snake_case(str(layer.get("class_name"))) if isinstance(layer, dict) else ""
        number = seen[name] = seen.get(name, -1) + 1
        yield from _layer_names(layer, f"{prefix}layers/{name}{f'_{number}' if number else ''}/")


def _snake_case(name: str) -> str:
    """Return a class's name as Keras writes it: BatchNormalization becomes batch_normalization."""
    return re.sub("([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))).lower()


_READERS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    ".safetensors": _load_safetensors, ".npz": _load_npz, ".pt": _load_torch, ".pth": _load_torch,
    ".ckpt": _load_torch,
    ".h5": _load_keras, ".keras": _load_keras,
}  # fmt: skip


def _names(file: "Hdf5", group: str, attribute: str) -> list[str]:
    """Return the names in an attribute of a group, each once."""
    names = np.ravel(file.attribute(group, attribute)).tolist()
    return list(dict.fromkeys(name.decode() if isinstance(name, bytes) else str(name) for name in names))


def as_numbers(arrays: Mapping[str, Any], kinds: str = "biuf") -> dict[str, np.ndarray]:
    """Return arrays by name as those of NumPy.

    Raises:
        TypeError: if `arrays` is not a dictionary, a name is not a text, or a value is not an array of numbers of these
            `kinds`, as NumPy calls them: real numbers, or complex ones as well, "biufc".
    """
    if not isinstance(arrays, Mapping):
        raise TypeError(f"arrays must be a dictionary, got {type(arrays).__name__}: read a file with jsnn.weights.load")
    found = {}
    for name, value in arrays.items():
        if not isinstance(name, str):
            raise TypeError(f"the names of arrays must be texts, such as '0.weight', got {name!r}")
        if isinstance(value, Mapping):
            raise TypeError(f"{name!r} is no array but a {type(value).__name__} of {len(value)}: give what is in it")
        try:
            found[name] = np.asarray(value)
        except (TypeError, ValueError, RuntimeError) as error:  # PyTorch's, of a bfloat16 or with a gradient
            raise TypeError(f"{name!r} is no array ({error}); of a PyTorch tensor give x.detach().float()") from error
        if found[name].dtype.kind not in kinds and not jnp.issubdtype(found[name].dtype, jnp.floating):
            raise TypeError(f"{name!r} must be an array of real numbers, got {found[name].dtype}")
    return found


def holds(dtype: Any, x: np.ndarray) -> bool:
    """Return whether a dtype holds all values of an array: integers to the last digit, others as finite numbers."""
    with np.errstate(over="ignore", invalid="ignore"):
        put = x.astype(dtype)
    return bool(np.all(put == x if jnp.issubdtype(dtype, jnp.integer) else np.isfinite(put) | ~np.isfinite(x)))


def natural(name: str) -> list[tuple[str, int]]:
    """Return a key that sorts "2" before "10", and "dense" before "dense_1"."""
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d*)", name)]
