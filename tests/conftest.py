"""What every test may use: the golden vectors of the peers, the prepared data sets, and one cache of programs."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_configure(config: pytest.Config) -> None:
    """Compiles every program once for all the processes of the tests: more than half of their time is XLA's."""
    if not hasattr(config, "workerinput") and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = tempfile.mkdtemp(prefix="jsnn-tests-")
        os.environ |= {"JAX_COMPILATION_CACHE_DIR": folder, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.fixture(scope="session")
def parity() -> Callable[[str], dict[str, np.ndarray]]:
    """Loads one file of golden vectors by its stem, or skips where the folder is missing."""

    def load(stem: str) -> dict[str, np.ndarray]:
        path = Path(os.environ.get("JSNN_PARITY_DIR", SHARED / "parity")) / f"{stem}.npz"
        if not path.exists():
            pytest.skip(f"golden vectors not found at {path}: set JSNN_PARITY_DIR")
        with np.load(path) as arrays:
            return {name: arrays[name] for name in arrays.files}

    return load


@pytest.fixture(scope="session")
def data_dir() -> str:
    """The folder of prepared TFDS sets, or a skip where there is none."""
    path = Path(os.environ.get("TFDS_DATA_DIR", SHARED / "tensorflow_datasets"))
    if not path.is_dir():
        pytest.skip(f"no prepared data sets at {path}: set TFDS_DATA_DIR")
    return str(path)
