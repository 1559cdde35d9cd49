"""Runs an experiment: `python -m experiments.run CONFIG [--field.subfield value ...]`.

CONFIG is a config file (`configs/digits.py`) or the `config.json` of an earlier run.

    --list                the configs, with what each reaches
    --workdir DIR         the run's folder, new or empty (default: runs/NAME-DATE-TIME)
    --resume RUN          goes on with a run that was stopped, to the same numbers
    --evaluate RUN        the metrics of a run's last checkpoint; nothing is changed
    --checkpoint best     with --evaluate: the best checkpoint instead
    CONFIG --help         every field of the config, with its meaning

The run's folder holds `config.json` (which can itself be run), `metrics.jsonl`, `summary.json`, `checkpoints/` and
`tensorboard/`.
"""

import argparse
import ast
import datetime
import difflib
import importlib.util
import json
import os
import shlex
import sys
import time
from importlib import metadata
from pathlib import Path

import jax
import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments import config, conversion
from experiments.config import Experiment
from experiments.loop import Interrupted, NotFinite, Run
from jsnn.checkpoint import CheckpointError

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
_PACKAGES = ("jsnn", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0 done, 1 stopped by a fault, 2 a mistake, 130 interrupted."""
    console = Console(soft_wrap=True)
    options, rest = _parse(sys.argv[1:] if arguments is None else arguments)
    name = rest.pop(0) if rest and not rest[0].startswith("-") else None
    if options.list:
        return _list_configs(console)
    if name is None and not (options.resume or options.evaluate):
        console.print(__doc__, markup=False, highlight=False)
        return 0 if {"--help", "-h"} & set(rest) else 2
    try:
        run = _prepare(options, name, rest, console)
    except (ValueError, FileNotFoundError, FileExistsError, CheckpointError) as error:
        console.print(f"[red]error:[/] {escape(str(error))}", highlight=False)
        return 2
    return _evaluate(run, console) if options.evaluate else _train(run, console)


def load_config(path: str) -> Experiment:
    """The experiment of a config file or of a run's `config.json`.

    Raises:
        FileNotFoundError: if there is no such file; it names the nearest config.
        ValueError: if the file defines no experiment, or one with wrong or unknown fields.
    """
    file = Path(path)
    if not file.is_file():
        known = [os.path.relpath(p) for p in sorted(CONFIGS.glob("*.py"))]
        nearest = difflib.get_close_matches(path, known, n=1, cutoff=0.3)
        hint = f": did you mean {nearest[0]}?" if nearest else ""
        raise FileNotFoundError(f"there is no config {path}{hint} (python -m experiments.run --list shows all)")
    if file.suffix == ".json":
        return config.from_json(file.read_text())
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"a config must be a Python file or a config.json, got {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    get_config = getattr(module, "get_config", None)
    if get_config is None:
        raise ValueError(f"{path} must define get_config() -> Experiment, and does not")
    return get_config()


def _parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The runner's own options, and what is left: the config's name and overrides."""
    parser = argparse.ArgumentParser(prog="python -m experiments.run", add_help=False, allow_abbrev=False)
    parser.add_argument("--list", action="store_true")
    for option in ("--workdir", "--resume", "--evaluate"):
        parser.add_argument(option)
    parser.add_argument("--checkpoint", choices=("last", "best"), default="last")
    return parser.parse_known_args(arguments)


def _prepare(options: argparse.Namespace, name: str | None, overrides: list[str], console: Console) -> Run:
    """The run that the command asks for, its folder and state ready."""
    existing = options.resume or options.evaluate
    if existing:
        folder = Path(existing)
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(f"{folder} is not the folder of a run: it has no config.json")
        experiment = _override(load_config(str(folder / "config.json")), overrides, existing)
        run = Run(experiment, folder, console, read_only=bool(options.evaluate))
        if options.evaluate:
            run.restore(run.checkpoints.best if options.checkpoint == "best" else run.checkpoints.last)
        return run
    assert name is not None
    experiment = _override(load_config(name), overrides, name)
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = Path(options.workdir or f"runs/{experiment.name}-{stamp}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(
            f"the run folder {folder} exists: give another --workdir, or go on with --resume {folder}"
        )
    run = Run(experiment, folder, console)
    _write(folder / "config.json", config.to_json(experiment))
    return run


def _override(experiment: Experiment, arguments: list[str], name: str) -> Experiment:
    return tyro.cli(
        Experiment,
        default=experiment,
        args=arguments,
        prog=f"python -m experiments.run {name}",
        description=__doc__,
        config=(tyro.conf.AvoidSubcommands,),
    )


def _train(run: Run, console: Console) -> int:
    console.print(f"run folder: {run.folder}", highlight=False)
    resume = f"resume with: python -m experiments.run --resume {shlex.quote(str(run.folder))}"
    start = time.monotonic()
    try:
        final, seconds = run.fit()
        if run.experiment.conversion is not None:
            final |= conversion.report(run, console, run.folder)
    except Interrupted:
        console.print(f"stopped, and saved at step {run.checkpoints.last}. {resume}", highlight=False)
        return 130
    except (NotFinite, CheckpointError) as error:
        console.print(f"[red]stopped:[/] {escape(str(error))}. {resume}", highlight=False)
        return 1
    summary = {
        "name": run.experiment.name,
        "final": final,
        "seconds": seconds,
        "device": _device(),
        "versions": {package: _version(package) for package in _PACKAGES} | {"python": sys.version.split()[0]},
        "seed": run.experiment.seed,
    }
    _write(run.folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    _print_table(console, run.experiment.name, final)
    console.print(
        f"{time.monotonic() - start:.1f} s here, {seconds:.1f} s in all, on {summary['device']}",
        highlight=False,
    )
    console.print(f"run folder: {run.folder}", highlight=False)
    return 0


def _evaluate(run: Run, console: Console) -> int:
    metrics = run.evaluate(run.sets.test)
    _print_table(console, f"{run.experiment.name}, step {int(run.state.step)}", metrics)
    return 0


def _list_configs(console: Console) -> int:
    table = Table("config", "claim")
    for path in sorted(CONFIGS.glob("*.py")):
        claim = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0].replace("\n", " ")
        if path.stem != "__init__":
            table.add_row(os.path.relpath(path), escape(claim))
    console.print(table)
    return 0


def _print_table(console: Console, title: str, metrics: dict[str, float]) -> None:
    table = Table("metric", "value", title=title)
    for name, value in metrics.items():
        table.add_row(name, f"{value:.2%}" if name.endswith("accuracy") else f"{value:.4f}")
    console.print(table)


def _device() -> str:
    devices = jax.devices()
    kind = devices[0].device_kind
    return f"{len(devices)} x {kind}" if kind != "cpu" else f"cpu, {os.cpu_count()} cores"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def _write(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


if __name__ == "__main__":
    sys.exit(main())
