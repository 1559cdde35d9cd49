"""The files that other libraries keep their weights in."""

import io
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jsnn.arguments import checked
from jsnn.files import Budget, Npz, as_path, one_line

if TYPE_CHECKING:
    from jsnn.files.hdf5 import Hdf5

_KERAS_WEIGHTS = "model.weights.h5"  # in a .keras file


class WeightsError(ValueError):
    """A file that cannot be read, or weights that do not fit a network; it names every one that does not."""


@checked
def load(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a weights file, by name.

    * `.safetensors`, the best choice: `safetensors.torch.save_file(network.state_dict(), path)`. Such a file keeps no
      order; the arrays come sorted by name, with numbers by value.
    * `.npz`, with no objects in it.
    * `.pt` and `.pth`: a `state_dict`, if PyTorch is installed, and only its arrays. A pickle that would run code is
      refused.
    * `.h5` and `.keras`: Keras' weights, or a whole model, of which only the weights are read.

    No code of a file is run, and no link in one is followed. Sizes are checked before anything is read: an array must
    not take more than 2,000 times its bytes in the file, nor all arrays more than half of the free memory.

    Raises:
        WeightsError: if the file cannot be read, is too large, or is of another kind.
        FileNotFoundError: if there is no such file.
        ImportError: if a package is missing: `pip install 'jsnn[weights]'` installs safetensors and h5py.
    """
    path = as_path(path)
    kind = path.suffix.lower()
    if kind not in _READERS:
        raise WeightsError(f"{path.name}: weights are read from {', '.join(_READERS)} files; save it as .safetensors")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        return _READERS[kind](path)
    except (ImportError, WeightsError):
        raise
    except Exception as error:  # each library has errors of its own for a broken file
        raise WeightsError(f"{path.name} cannot be read as a {kind} file: {one_line(error)}") from error


def _load_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        from safetensors.numpy import load_file
    except ModuleNotFoundError as error:
        raise ImportError(f"{path.name} needs the package safetensors: pip install 'jsnn[weights]'") from error
    Budget(path).take("the file", path.stat().st_size, path.stat().st_size)
    return dict(sorted(load_file(path).items(), key=lambda item: natural(item[0])))


def _load_npz(path: Path) -> dict[str, np.ndarray]:
    with Npz(path) as file:
        return {name: file.read(name) for name in file.names}


def _load_torch(path: Path) -> dict[str, np.ndarray]:
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
    if not (isinstance(content, Mapping) and all(isinstance(value, torch.Tensor) for value in content.values())):
        found = f"the keys {list(content)}" if isinstance(content, Mapping) else type(content).__name__
        raise WeightsError(f"{path.name} must hold a state_dict, arrays by name, got {found}: {cure}")
    budget = Budget(path)
    for name, t in content.items():  # a tensor may repeat its values
        budget.take(f"array {name!r}", t.numel() * max(t.element_size(), 4), t.untyped_storage().nbytes())
    return {name: (t.float() if t.is_floating_point() else t).numpy() for name, t in content.items()}


def _load_keras(path: Path) -> dict[str, np.ndarray]:
    try:
        from jsnn.files.hdf5 import open_hdf5
    except ModuleNotFoundError as error:
        raise ImportError(f"{path.name} needs the package h5py: pip install 'jsnn[weights]'") from error
    source: Path | io.BytesIO = path
    budget = Budget(path)
    if path.suffix.lower() == ".keras" and zipfile.is_zipfile(path):  # Keras 2 may write an .h5 file by that name
        with zipfile.ZipFile(path) as archive:
            entry = archive.getinfo(_KERAS_WEIGHTS)
            budget.take(entry.filename, entry.file_size, entry.compress_size)
            source = io.BytesIO(archive.read(entry))
    with open_hdf5(source, budget) as file:
        root = "model_weights/" if file.is_group("model_weights") else ""
        if file.has_attribute(root.rstrip("/"), "layer_names"):  # Keras 2's format, which keeps the order
            layers = [f"{root}{layer}" for layer in _names(file, root.rstrip("/"), "layer_names")]
            places = {name: f"{layer}/{name}" for layer in layers for name in _names(file, layer, "weight_names")}
            return {name.removesuffix(":0"): np.asarray(file.read(place)) for name, place in places.items()}
        start = len(root)
        names = [name[start:] for name in file.names if file.is_array(name) and name.startswith(root)]
        found = {name: np.asarray(file.read(root + name)) for name in names if not name.startswith("optimizer")}
    return dict(sorted(found.items(), key=lambda item: natural(item[0])))


_READERS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    ".safetensors": _load_safetensors, ".npz": _load_npz, ".pt": _load_torch, ".pth": _load_torch,
    ".h5": _load_keras, ".keras": _load_keras,
}  # fmt: skip


def _names(file: "Hdf5", group: str, attribute: str) -> list[str]:
    """Return the names in an attribute of a group, each once."""
    names = np.ravel(file.attribute(group, attribute)).tolist()
    return list(dict.fromkeys(name.decode() if isinstance(name, bytes) else str(name) for name in names))


def natural(name: str) -> list[tuple[str, int]]:
    """A key that sorts "2" before "10", and "dense" before "dense_1"."""
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d*)", name)]
