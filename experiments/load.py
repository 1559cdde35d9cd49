"""Reads a config: a file in Python, or the `config.json` of an earlier run."""

import difflib
import importlib.util
import inspect
import os
import sys
import traceback
from pathlib import Path
from typing import Any, get_args

from experiments import CONFIGS, config, files
from experiments.config import Config, Experiment, Part, Study
from jsnn.files import as_path

_HERE = Path(__file__).resolve().parent
OWN_PARTS = "own_parts.py"  # a copy of the config file, beside a config.json with parts of one's own


def load_config(path: str) -> Config:
    """Return the experiment, study or gallery of a config file or of a run's `config.json`.

    Raises:
        FileNotFoundError: if there is no such file; it names the nearest config.
        ValueError: if the file defines no experiment, fails, or has wrong or unknown fields.
    """
    file = as_path(path)
    if not file.is_file():
        known = [os.path.relpath(p) for p in sorted(CONFIGS.glob("[!_]*.py"))]
        known += [str(file / "config.json")] if (file / "config.json").is_file() else []
        like = difflib.get_close_matches(path, known, n=1, cutoff=0.3)
        hint = f": did you mean {like[0]}?" if like else ""
        raise FileNotFoundError(f"there is no config {path}{hint} (python -m experiments.run --list shows all)")
    if file.suffix.lower() == ".json":
        if (own := file.with_name(OWN_PARTS)).is_file():
            _execute(own, str(own))
        try:
            return config.from_json(file.read_text("utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is not the config.json of a run: {error}") from error
    settings = _execute(file, path)
    if type(settings) not in get_args(Config):
        raise ValueError(f"get_config() of {path} must return an Experiment, a Study or a Gallery, got {settings!r}")
    return settings


def _execute(file: Path, path: str) -> Any:
    """Return what `get_config()` of a config file returns; the parts that it defines are known from now on."""
    spec = importlib.util.spec_from_file_location(f"config_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"a config must be a Python file or a config.json, got {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where the annotations of the classes in it are looked up
    try:
        spec.loader.exec_module(module)
        settings: Any = module.get_config() if hasattr(module, "get_config") else None
    except (Exception, SystemExit) as error:  # the code is the user's, and can raise anything
        raise ValueError(_located(error, {str(file)}) or f"{path}: {type(error).__name__}: {error}") from error
    if not hasattr(module, "get_config"):
        raise ValueError(f"{path} must define get_config() -> Experiment, and does not")
    return settings


def blame(error: Exception) -> str | None:
    """Return what went wrong in parts of one's own, or with what they gave, and where; None if there are no such parts.

    Their code is the user's, and can raise anything.
    """
    kinds = [kind for family in Part.__subclasses__() for kind in family.kinds.values()]
    own = {inspect.getfile(kind) for kind in kinds if not kind.__module__.startswith("experiments.")}
    return (_located(error, own) or _located(error, set(map(str, _HERE.rglob("*.py"))))) if own else None


def _located(error: BaseException, files: set[str]) -> str | None:
    """Return an error after the last line of these files that it came through; None if it came through none of them."""
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    if not lines:
        return None
    name, number, _, line = lines[-1]
    return f"{os.path.relpath(name)}, line {number}: {type(error).__name__}: {error}, in {line!r}"


def check_run(folder: Path) -> None:
    """Raise FileNotFoundError if a folder is not that of a run."""
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder} is not the folder of a run: it has no config.json. A run that was stopped before it "
            f"had one is begun anew, with its config and --workdir {folder}"
        )


def load_run(folder: Path) -> Experiment | Study:
    """Return the config of a run that exists.

    Raises:
        FileNotFoundError: if the folder is not that of a run.
        ValueError: if its `config.json` is damaged, or was changed by hand, or it is a gallery.
    """
    check_run(folder)
    files.read_sealed(folder / "config.json")
    settings = load_config(str(folder / "config.json"))
    if isinstance(settings, config.Gallery):
        raise ValueError(f"{folder} is a gallery, whole as it is: draw another with {folder / 'config.json'}")
    return settings
