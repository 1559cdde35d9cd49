"""The files that other libraries keep their weights in."""

import io
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jsnn.arguments import checked


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

    Raises:
        WeightsError: if the file cannot be read, or is of another kind.
        ImportError: if a package is missing: `pip install 'jsnn[weights]'` installs safetensors and h5py.
    """
    path = Path(path)
    if path.suffix not in _READERS:
        raise WeightsError(f"{path.name}: weights are read from {', '.join(_READERS)} files; save it as .safetensors")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        return _READERS[path.suffix](path)
    except (ImportError, WeightsError):
        raise
    except Exception as error:  # each library has errors of its own for a broken file
        raise WeightsError(f"{path.name} cannot be read as a {path.suffix} file: {error}") from error


def _load_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        from safetensors.numpy import load_file
    except ModuleNotFoundError as error:
        raise ImportError(f"{path.name} needs the package safetensors: pip install 'jsnn[weights]'") from error
    return dict(sorted(load_file(path).items(), key=lambda item: natural(item[0])))


def _load_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _load_torch(path: Path) -> dict[str, np.ndarray]:
    cure = "save it as .safetensors, with safetensors.torch.save_file(network.state_dict(), 'weights.safetensors')"
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ImportError(f"{path.name} is a pickle, read only with PyTorch, which is not installed: {cure}") from error
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # PyTorch's own text proposes to run the code
        raise WeightsError(
            f"{path.name} is refused, as it is broken or holds more than arrays and may run code: {cure}"
        ) from error
    if not (isinstance(content, Mapping) and all(isinstance(value, torch.Tensor) for value in content.values())):
        found = f"the keys {list(content)}" if isinstance(content, Mapping) else type(content).__name__
        raise WeightsError(f"{path.name} must hold a state_dict, arrays by name, got {found}: {cure}")
    return {name: (t.float() if t.is_floating_point() else t).numpy() for name, t in content.items()}


def _load_keras(path: Path) -> dict[str, np.ndarray]:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise ImportError(f"{path.name} needs the package h5py: pip install 'jsnn[weights]'") from error
    source: Any = path
    if path.suffix == ".keras" and zipfile.is_zipfile(path):  # Keras 2 may write an .h5 file by that name
        with zipfile.ZipFile(path) as archive:
            source = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(source, "r") as file:
        root = file.get("model_weights", file)
        if "layer_names" in root.attrs:  # Keras 2's format, which keeps the order
            layers = [root[_text(name)] for name in root.attrs["layer_names"]]
            return {
                _text(name).removesuffix(":0"): np.asarray(layer[_text(name)])
                for layer in layers
                for name in layer.attrs["weight_names"]
            }
        found: dict[str, np.ndarray] = {}

        def keep(name: str, value: Any) -> None:
            if isinstance(value, h5py.Dataset) and not name.startswith("optimizer"):
                found[name] = np.asarray(value)

        root.visititems(keep)
    return dict(sorted(found.items(), key=lambda item: natural(item[0])))


_READERS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    ".safetensors": _load_safetensors, ".npz": _load_npz, ".pt": _load_torch, ".pth": _load_torch,
    ".h5": _load_keras, ".keras": _load_keras,
}  # fmt: skip


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def natural(name: str) -> list[tuple[str, int]]:
    """A key that sorts "2" before "10", and "dense" before "dense_1"."""
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d*)", name)]
