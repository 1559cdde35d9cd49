"""Executes an experiment or a study in its folder, from training to the summary that is left there."""

import json
import os
import shlex
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments import config, conversion
from experiments.loop import Interrupted, NotFinite, Run
from experiments.measure import measure
from jsnn.checkpoint import CheckpointError

_PACKAGES = ("jsnn", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def start(experiment: config.Experiment | config.Study, folder: Path) -> None:
    """Makes the folder of a run, with its `config.json` in it."""
    _write(folder / "config.json", config.to_json(experiment))


def train(run: Run, console: Console) -> int:
    """Trains, converts and measures one experiment; returns the exit status."""
    console.print(f"run folder: {run.folder}", highlight=False)
    resume = f"resume with: python -m experiments.run --resume {shlex.quote(str(run.folder))}"
    begin = time.monotonic()
    try:
        final, seconds = run.fit()
        sweep: list[dict[str, float | None]] = []
        if run.experiment.conversion is not None:
            metrics, sweep = conversion.report(run, console)
            final |= metrics
        if isinstance(run.experiment.model, config.SpikingDense):
            final |= measure(run, run.experiment.objective.dt_end or run.experiment.model.dt)
    except Interrupted:
        console.print(f"stopped, and saved at step {run.checkpoints.last}. {resume}", highlight=False)
        return 130
    except (NotFinite, CheckpointError) as error:
        console.print(f"[red]stopped:[/] {escape(str(error))}. {resume}", highlight=False)
        return 1
    summary = _summarise(run.experiment.name, final, seconds, run.experiment.seed)
    if sweep:
        summary["sweep"] = sweep
        _print_rows(console, f"{run.experiment.name}: sweep", sweep)
    _write(run.folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    print_table(console, run.experiment.name, final)
    console.print(
        f"{time.monotonic() - begin:.1f} s here, {seconds:.1f} s in all, on {summary['device']}",
        highlight=False,
    )
    console.print(f"run folder: {run.folder}", highlight=False)
    return 0


def run_study(study: config.Study, folder: Path, console: Console) -> int:
    """Runs the stages of a study that have not finished, each in its own folder; returns the exit status."""
    results: dict[str, dict[str, Any]] = {}
    for stage in study.stages:
        here = folder / stage.name
        if not (here / "summary.json").exists():
            if not (here / "config.json").exists():
                start(stage, here)
            status = train(Run(stage, here, console), console)
            if status:
                console.print(f"the study goes on with: python -m experiments.run --resume {shlex.quote(str(folder))}")
                return status
        results[stage.name] = json.loads((here / "summary.json").read_text())
    rows: list[dict[str, Any]] = []
    for name, result in results.items():
        rows.append({"stage": name} | _without_losses(result["final"]))
        rows += [{"stage": name} | row for row in result.get("sweep", [])]
    _print_rows(console, study.name, rows)
    final = {
        f"{name}/{metric}": value
        for name, result in results.items()
        for metric, value in _without_losses(result["final"]).items()
    }
    final["test_accuracy"] = results[study.stages[0].name]["final"]["test_accuracy"]
    seconds = sum(result["seconds"] for result in results.values())
    summary = _summarise(study.name, final, seconds, study.stages[0].seed) | {"rows": rows}
    _write(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    console.print(f"{seconds:.1f} s in all, on {summary['device']}; run folder: {folder}", highlight=False)
    return 0


def _without_losses(metrics: dict[str, float]) -> dict[str, float]:
    return {
        name: value for name, value in metrics.items() if not name.startswith(("train_", "test_loss", "test_rate/"))
    }


def _print_rows(console: Console, title: str, rows: list[dict[str, Any]]) -> None:
    """A table with a column for every row, because there are more numbers to a row than fit beside each other."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(show_header=False, title=title)
    for name in names:
        cells = (row.get(name) for row in rows)
        table.add_row(name, *("" if cell is None else format_metric(name, cell) for cell in cells))
    console.print(table)


def format_metric(name: str, value: float | str) -> str:
    """A metric for people."""
    if isinstance(value, str):
        return value
    return f"{value:.2%}" if "accuracy" in name else f"{value:.4g}"


def print_table(console: Console, title: str, metrics: dict[str, float]) -> None:
    """Metrics as a table."""
    table = Table("metric", "value", title=title)
    for name, value in metrics.items():
        table.add_row(name, format_metric(name, value))
    console.print(table)


def _summarise(name: str, final: dict[str, float], seconds: float, seed: int) -> dict[str, Any]:
    return {
        "name": name,
        "final": final,
        "seconds": seconds,
        "device": _device(),
        "versions": {package: _version(package) for package in _PACKAGES} | {"python": sys.version.split()[0]},
        "seed": seed,
    }


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
