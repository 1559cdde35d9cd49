"""What every test may use: the golden vectors of other libraries, the prepared data sets, and a quick compiler."""

import functools
import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pooch
import pytest
from jax._src.interpreters import mlir

HERE = Path(__file__).resolve().parent
collect_ignore = ["own_parts.py"]  # whose parts would be known to all tests
SHARED = HERE.parents[1] / "shared"
QUICK = [
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_prefer_vector_width=128",
    "--xla_cpu_parallel_codegen_split_count=1",
]
if jax.__version_info__ < (0, 11):  # XLA ends the process at a flag that it does not know
    QUICK += ["--xla_cpu_use_fusion_emitters=false"]
SETTINGS = {
    "XLA_FLAGS": " ".join(QUICK),  # optimising takes longer than these small programs run
    # every program is compiled once for all processes of the tests, and for the next run of the tests
    "JAX_COMPILATION_CACHE_DIR": str(HERE.parent / ".cache" / "compiled"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_TRACEBACK_IN_LOCATIONS_LIMIT": "0",  # which take a twelfth of the time to write into each program
}


def pytest_configure(config: pytest.Config) -> None:
    """Set how JAX compiles in the processes of the tests, unless the environment says otherwise."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    # Tracing makes many objects, and to look for cycles among them took a fifth of the time,
    gc.set_threshold(50_000, 50)
    # and so did a context of the compiler for every program, where one serves all, and less memory is kept.
    if hasattr(mlir, "make_ir_context"):
        mlir.make_ir_context = _sharing(mlir.make_ir_context)


def _sharing(make: Callable[[], Any]) -> Callable[[], Any]:
    """Return a function that makes one context for all programs, but for those made while another is being written."""
    shared = functools.cache(make)

    def choose() -> Any:
        return shared() if mlir.ir.Context.current is None else make()

    return choose


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what is slow
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what a test with the mark `rows(n)` has besides n of its rows, which are spread over the table."""
    tables: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("rows"):
            tables.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for table in tables.values():
        (count,) = table[0].get_closest_marker("rows").args  # type: ignore[union-attr]
        chosen = {index * len(table) // count for index in range(count)}
        for index, item in enumerate(table):
            if index not in chosen:
                item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def parity() -> Callable[[str], dict[str, np.ndarray]]:
    """Load one file of golden vectors by its stem, or skip where there is none of that name."""
    named = os.environ.get("JSNN_PARITY_DIR")
    folders = [Path(named)] if named else [HERE / "data" / "parity", SHARED / "parity"]

    def load(stem: str) -> dict[str, np.ndarray]:
        for folder in folders:
            if (folder / f"{stem}.npz").exists():
                with np.load(folder / f"{stem}.npz") as arrays:
                    return {name: arrays[name] for name in arrays.files}
        pytest.skip(f"the golden vectors {stem} are not in the repository: set JSNN_PARITY_DIR")

    return load


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be downloaded."""

    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("tests have no network")

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", refuse)


@pytest.fixture(scope="session")
def data_dir() -> str:
    """The folder of prepared TFDS sets, or a skip where there is none."""
    path = Path(os.environ.get("TFDS_DATA_DIR", SHARED / "tensorflow_datasets"))
    if not path.is_dir():
        pytest.skip(f"no prepared data sets at {path}: set TFDS_DATA_DIR")
    return str(path)


@pytest.fixture(scope="session")
def recordings_dir() -> Path:
    """The folder of real recordings, spoken digits and N-MNIST, or a skip where there is none."""
    path = Path(os.environ.get("JSNN_RECORDINGS_DIR", SHARED / "recordings"))
    if not path.is_dir():
        pytest.skip(f"no recordings at {path}: set JSNN_RECORDINGS_DIR")
    return path
