"""What jsnn does without the packages of its extras, and what a wheel of it holds."""

import fnmatch
import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest

import jsnn

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SPIKES = np.eye(4)

# what is called, the package that it misses, and the extra that has it
CALLS = {
    "plot": (lambda path: jsnn.plot.raster(SPIKES), "matplotlib", "plot"),
    "animation": (lambda path: jsnn.plot.animate(SPIKES[:, None], path / "spikes.gif"), "PIL", "plot"),
    "energy plot": (lambda path: jsnn.plot.energy({"spiking": {"cpu": 1.0}}), "matplotlib", "plot"),
    "data": (lambda path: jsnn.data.load("digits", "train"), "sklearn", "data"),
    "event files": (lambda path: jsnn.data.read_events(path / "w.aedat4"), "aedat", "events"),
    "spikes in HDF5": (lambda path: jsnn.data.load(path / "w.h5", "train"), "h5py", "events"),
    "tonic": (lambda path: jsnn.data.load("tonic:NMNIST", "train", path), "tonic", "events"),
    "streams": (lambda path: jsnn.data.Recordings([SPIKES], [0]).batches(jax.random.key(0), 1, len), "grain", "data"),
    "weights": (lambda path: jsnn.weights.save(path / "w.safetensors", jsnn.LIF(SPIKES)), "safetensors", "weights"),
    "weights of Keras": (lambda path: jsnn.weights.load(path / "w.h5"), "h5py", "weights"),
    "NIR": (lambda path: jsnn.nir.to_nir(jsnn.Sequential(jsnn.LIF()), (4,), dt=1e-3), "nir", "nir"),
}


@pytest.mark.parametrize(("call", "package", "extra"), CALLS.values(), ids=CALLS)
def test_a_missing_package_is_named_with_its_extra(call, package, extra, monkeypatch, tmp_path):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    for name in ("w.h5", "w.aedat4"):
        (tmp_path / name).write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(ImportError, match=rf"needs {package}: pip install 'jsnn\[{extra}\]'"):
        call(tmp_path)
    assert extra in PROJECT["project"]["optional-dependencies"]


BLOCKED = """
import sys, importlib
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
import jsnn
for name in jsnn.__all__:
    getattr(jsnn, name)
"""


def test_every_public_name_can_be_imported_without_the_extras():
    data = {"aedat", "grain", "h5py", "pooch", "sklearn", "tonic"}
    extras = {"matplotlib", "nir", "PIL", "pydantic", "safetensors", "tyro"} | data
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED.format(names=extras)], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_wheel_holds_jsnn_alone():
    patterns = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    packages = [path.parent.name for path in ROOT.glob("*/__init__.py")]
    assert {name for name in packages if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)} == {"jsnn"}


def test_a_wheel_holds_the_trained_weights():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["jsnn"]
    names = {path.relative_to(ROOT / "jsnn").as_posix() for path in (ROOT / "jsnn").rglob("*.safetensors")}
    assert names
    assert all(any(fnmatch.fnmatch(name, pattern) for pattern in patterns) for name in names)
