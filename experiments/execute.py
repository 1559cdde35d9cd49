"""Executes an experiment or a study in its folder, from training to the summary that is left there."""

import json
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments import config, conversion, processes, report, spread
from experiments.files import write_whole
from experiments.loop import Interrupted, NotCompiled, NotFinite, Run
from experiments.measure import measure
from experiments.seeds import open_run
from experiments.summary import format_metric, git_revision, summarise, without_losses
from jsnn.checkpoint import CheckpointError


def start(experiment: config.Experiment | config.Study, folder: Path) -> None:
    """Makes the folder of a run, with its `config.json` in it."""
    processes.meet(f"before {folder}")  # each of them has looked whether it is there
    if not processes.is_first():
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "config.json", config.to_json(experiment))


def train(run: Run, console: Console, command: str) -> int:
    """Trains, converts and measures one experiment; returns the exit status.

    Args:
        run: the experiment in its folder.
        console: where progress is shown.
        command: the command line that asked for it, for the summary.
    """
    revision = git_revision()  # of the code that runs, whatever becomes of it meanwhile
    console.print(f"run folder: {run.folder}", highlight=False)
    if len(jax.devices()) > 1:
        console.print(f"on {run.where}", highlight=False)
    resume = f"resume with: python -m experiments.run --resume {shlex.quote(str(run.folder))}"
    begin = time.monotonic()
    try:
        rows, seconds = run.fit()
        run = run.on_one_device()
        if not processes.is_first():
            return 0
        sweep: list[dict[str, float | None]] = []
        for network, row in reversed(list(zip(run.networks(), rows))):  # the figures that stay are those of the first
            metrics, sweep = _test_spikes(network, console)
            row |= metrics
    except Interrupted:
        console.print(f"stopped, and saved at step {run.checkpoints.last}. {resume}", highlight=False)
        return 130
    except (NotFinite, MemoryError, CheckpointError) as error:
        console.print(f"[red]stopped:[/] {escape(str(error))}. {resume}", highlight=False)
        return 1
    except NotCompiled as error:
        console.print(f"[red]stopped:[/] {escape(str(error))}", highlight=False)
        return 1
    found = spread.spreads(rows)
    best = spread.best(found)
    seed = run.experiment.seed
    summary = summarise(run.experiment.name, best.means, seconds, seed, command=command, revision=revision)
    if len(rows) > 1:
        summary |= {"seeds": rows, "intervals": best.intervals()}
    if sweep:
        summary["sweep"] = sweep
        _print_rows(console, f"{run.experiment.name}: sweep", sweep)
    write_whole(run.folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    spread.print_spreads(console, run.experiment.name, found)
    _try_to_report(lambda: report.write(run, summary, console), run.folder, console)
    here = time.monotonic() - begin
    console.print(
        f"{seconds:.1f} s of training on {summary['device']}, {here:.1f} s in this command with its page",
        highlight=False,
    )
    console.print(f"run folder: {run.folder}", highlight=False)
    return 0


def _test_spikes(run: Run, console: Console) -> tuple[dict[str, float], list[dict[str, float | None]]]:
    """The metrics of a network that is converted or counts its spikes, and the rows of a sweep."""
    if run.experiment.conversion is not None:
        return conversion.report(run, console)
    if isinstance(run.experiment.model, config.SpikingDense):
        return measure(run, run.experiment.objective.dt_end or run.experiment.model.dt), []
    return {}, []


def run_study(study: config.Study, folder: Path, console: Console, command: str) -> int:
    """Runs the stages of a study that have not finished, each in its own folder; returns the exit status."""
    revision = git_revision()
    results: dict[str, dict[str, Any]] = {}
    for stage in study.stages:
        here = folder / stage.name
        if not (here / "summary.json").exists():
            if not (here / "config.json").exists():
                start(stage, here)
            status = train(open_run(stage, here, console), console, command)
            processes.meet(f"after {here}")
            if status:
                console.print(f"the study goes on with: python -m experiments.run --resume {shlex.quote(str(folder))}")
                return status
        results[stage.name] = json.loads((here / "summary.json").read_text())
    if not processes.is_first():
        return 0
    rows: list[dict[str, Any]] = []
    for name, result in results.items():
        rows.append({"stage": name} | without_losses(result["final"]))
        rows += [{"stage": name} | row for row in result.get("sweep", [])]
    _print_rows(console, study.name, rows)
    final = {
        f"{name}/{metric}": value
        for name, result in results.items()
        for metric, value in without_losses(result["final"]).items()
    }
    final["test_accuracy"] = results[study.stages[0].name]["final"]["test_accuracy"]
    seconds = sum(result["seconds"] for result in results.values())
    summary = summarise(study.name, final, seconds, study.stages[0].seed, command=command, revision=revision)
    summary["rows"] = rows
    write_whole(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    _try_to_report(lambda: report.write_study(study, folder, summary), folder, console)
    console.print(f"{seconds:.1f} s in all, on {summary['device']}; run folder: {folder}", highlight=False)
    return 0


def report_again(experiment: config.Experiment | config.Study, folder: Path, console: Console) -> int:
    """Makes the page of a finished run anew, and those of a study's stages; returns the exit status.

    Raises:
        FileNotFoundError: if the run has not finished, or its data are not there.
        CheckpointError: if its weights cannot be read.
        OSError: if a page cannot be written.
    """
    if not (folder / "summary.json").is_file():
        raise FileNotFoundError(f"{folder} has no summary.json: finish the run with --resume {folder}")
    summary = json.loads((folder / "summary.json").read_text())
    if isinstance(experiment, config.Study):
        for stage in experiment.stages:
            report_again(stage, folder / stage.name, console)
        report.write_study(experiment, folder, summary)
    else:
        report.write(open_run(experiment, folder, console, read_only=True, alone=True), summary, console)
    console.print(f"look at {folder / 'report.html'}", highlight=False)
    return 0


def _try_to_report(make: Callable[[], None], folder: Path, console: Console) -> None:
    """Makes a page of results that are on the disk already, and are not lost with it."""
    try:
        make()
    except Exception as error:  # whatever it is, the training must not look as if it had failed
        again = f"python -m experiments.run --report {shlex.quote(str(folder))}"
        reason = escape(f"{type(error).__name__}: {error}")
        console.print(f"[yellow]warning:[/] no report.html, {reason}. Try again: {again}", highlight=False)


def _print_rows(console: Console, title: str, rows: list[dict[str, Any]]) -> None:
    """A column for every row, as there are more numbers to a row than fit beside each other; several tables of them."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = [[format_metric(name, row.get(name)) for name in names] for row in rows]
    room, borders = console.width - max(map(len, names)) - 4, 3
    fitting = max(1, room // (max(len(cell) for column in columns for cell in column) + borders))
    for start in range(0, len(columns), fitting):
        table = Table(show_header=False, title=title if start == 0 else None)
        for line in zip(names, *columns[start : start + fitting]):
            table.add_row(*line)
        console.print(table)
