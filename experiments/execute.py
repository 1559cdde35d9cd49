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

from experiments import config, conversion, files, lock, overrides, processes, report, spread
from experiments.loop import Interrupted, NotCompiled, NotFinite, Run
from experiments.measure import measure
from experiments.seeds import open_run
from experiments.summary import format_metric, git_revision, summarise, without_losses
from jsnn import weights
from jsnn.checkpoint import CheckpointError


def check_new(folder: Path) -> None:
    """Raise FileExistsError if a folder holds more than what a start leaves that was killed at once."""
    nothing = {lock.NAME, files.temporary_of(folder / "config.json").name}
    if folder.exists() and (not folder.is_dir() or {path.name for path in folder.iterdir()} - nothing):
        resume = f", or go on with --resume {folder}" * (folder / "config.json").exists()
        raise FileExistsError(f"the run folder {folder} exists: give another --workdir{resume}")


def start(experiment: config.Experiment | config.Study, folder: Path) -> None:
    """Write the `config.json` of a new run into its folder, which is locked.

    Raises:
        FileExistsError: if another command has been there meanwhile.
    """
    processes.meet(f"before {folder}")  # each of them has looked whether it is there
    if processes.is_first():
        check_new(folder)
        files.write_sealed(folder / "config.json", config.to_values(experiment))


def begin_again(experiment: config.Experiment, folder: Path) -> None:
    """Write another config into the folder of a run; a summary, which is not of it, is taken away first."""
    if processes.is_first():
        (folder / "summary.json").unlink(missing_ok=True)
        files.write_sealed(folder / "config.json", config.to_values(experiment))


def train(run: Run, console: Console, command: str) -> int:
    """Trains, converts and measures one experiment; returns the exit status.

    Args:
        run: the experiment in its folder.
        console: where progress is shown.
        command: the command line that asked for it, for the summary.
    """
    console.print(f"run folder: {run.folder}", highlight=False)
    if len(jax.devices()) > 1:
        console.print(f"on {run.where}", highlight=False)
    resume = f"resume with: {_again('--resume', run.folder)}"
    try:
        return _train(run, console, command)
    except Interrupted:
        console.print(f"stopped, and saved at step {run.checkpoints.last}. {resume}", highlight=False)
        return 130
    except KeyboardInterrupt:
        console.print(f"stopped. {resume}", highlight=False)
        return 130
    except CheckpointError as error:
        own = run.experiment.train.weights is None
        resume = f"resume with: {cure(error, '--resume', run.folder)}" if own and error.whole is not None else resume
        console.print(f"[red]stopped:[/] {escape(str(error))}. {resume}", highlight=False)
        return 1
    except NotCompiled as error:
        console.print(f"[red]stopped:[/] {escape(str(error))}", highlight=False)
        return 1
    except (NotFinite, MemoryError, OSError) as error:
        console.print(f"[red]stopped:[/] {escape(str(error))}. {resume}", highlight=False)
        return 1


def cure(error: CheckpointError, option: str, folder: Path) -> str:
    """Return the command that goes round a damaged checkpoint of a run: from the last whole one, or from the start."""
    if error.whole:
        return _again(option, folder, "--checkpoint", str(error.whole[-1]))
    return shlex.join(["python", "-m", "experiments.run", str(folder / "config.json")])


def _again(option: str, folder: Path, *more: str) -> str:
    return shlex.join(["python", "-m", "experiments.run", option, str(folder), *more])


def _train(run: Run, console: Console, command: str) -> int:
    """As `train`; faults are raised."""
    revision = git_revision()  # of the code that runs, whatever becomes of it meanwhile
    begin = time.monotonic()
    rows, seconds = run.fit()
    run = run.on_one_device()
    if not processes.is_first():
        return 0
    sweep: list[dict[str, float | None]] = []
    for network, row in reversed(list(zip(run.networks(), rows))):  # the figures that stay are those of the first
        metrics, sweep = _test_spikes(network, console)
        row |= metrics
    found = spread.spreads(rows)
    best = spread.best(found)
    seed = run.experiment.seed
    summary = summarise(run.experiment.name, best.means, seconds, seed, command=command, revision=revision)
    if len(rows) > 1:
        summary |= {"seeds": rows, "intervals": best.intervals()}
    if sweep:
        summary["sweep"] = sweep
        _print_rows(console, f"{run.experiment.name}: sweep", sweep)
    _save_weights(run.networks()[0], rows[0])
    files.write_sealed(run.folder / "summary.json", summary)
    spread.print_spreads(console, run.experiment.name, found)
    status = _try_to_report(lambda: report.write(run, summary, console), run.folder, console)
    here = time.monotonic() - begin
    console.print(
        f"{seconds:.1f} s of training on {summary['device']}, {here:.1f} s in this command with its page",
        highlight=False,
    )
    console.print(f"run folder: {run.folder}", highlight=False)
    return status


def _save_weights(run: Run, metrics: dict[str, float]) -> None:
    """Write the weights into the folder of a run, the first of several seeds, as `jsnn.weights.load` reads them."""
    metadata = {"config": json.dumps(config.to_values(run.experiment)), "accuracy": str(metrics["test_accuracy"])}
    weights.save(run.folder / "weights.safetensors", run.network(), metadata)


def _test_spikes(run: Run, console: Console) -> tuple[dict[str, float], list[dict[str, float | None]]]:
    """The metrics of a network that is converted or counts its spikes, and the rows of a sweep."""
    if run.experiment.conversion is not None:
        return conversion.report(run, console)
    if isinstance(run.experiment.model, config.SpikingDense):
        return measure(run, run.experiment.objective.dt_end or run.experiment.model.dt), []
    return {}, []


def run_study(study: config.Study, folder: Path, console: Console, command: str) -> int:
    """Run the stages of a study that have not finished, each in its own folder; returns the exit status.

    Raises:
        ValueError: if a stage's summary is damaged, or it was run with another config.
        OSError: if the study's summary cannot be written.
    """
    revision = git_revision()
    results: dict[str, dict[str, Any]] = {}
    for stage in study.stages:
        here = folder / stage.name
        if not (here / "summary.json").exists():
            status = _run_stage(stage, here, console, command)
            processes.meet(f"after {here}")
            if status:
                console.print(f"the study goes on with: {_again('--resume', folder)}", highlight=False)
                return status
        results[stage.name] = _summary_of(stage, here)
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
    files.write_sealed(folder / "summary.json", summary)
    status = _try_to_report(lambda: report.write_study(study, folder, summary), folder, console)
    console.print(f"{seconds:.1f} s in all, on {summary['device']}; run folder: {folder}", highlight=False)
    return status


def _run_stage(stage: config.Experiment, folder: Path, console: Console, command: str) -> int:
    """Train a stage of a study, or go on with it; returns the exit status."""
    try:
        with lock.hold(folder):
            processes.meet(f"before {folder}")
            if (folder / "config.json").exists():
                _check_stage(stage, folder)
            elif processes.is_first():
                files.write_sealed(folder / "config.json", config.to_values(stage))
            return train(open_run(stage, folder, console), console, command)
    except (ValueError, OSError, CheckpointError) as error:
        console.print(f"[red]error:[/] {escape(str(error))}", highlight=False)
        return 2
    except KeyboardInterrupt:
        console.print("stopped", highlight=False)
        return 130


def _summary_of(stage: config.Experiment, folder: Path) -> dict[str, Any]:
    """The summary of a stage that has finished."""
    if (folder / "config.json").exists():
        _check_stage(stage, folder)
    return files.read_sealed(folder / "summary.json")


def _check_stage(stage: config.Experiment, folder: Path) -> None:
    """Raise ValueError if a stage was run by itself with another config than its study's."""
    files.read_sealed(folder / "config.json")
    changed = overrides.changes(stage, config.from_json((folder / "config.json").read_text(encoding="utf-8")))
    if changed:
        raise ValueError(
            f"the stage {folder} was run otherwise than its study says, with {', '.join(changed)}: move the folder "
            f"away, so that the study runs the stage anew"
        )


def report_again(experiment: config.Experiment | config.Study, folder: Path, console: Console) -> int:
    """Make the page of a finished run anew, and those of a study's stages; returns the exit status.

    Raises:
        FileNotFoundError: if the run has not finished, or its data are not there.
        ValueError: if its summary is damaged.
        CheckpointError: if its weights cannot be read.
        OSError: if a page cannot be written.
    """
    if not (folder / "summary.json").is_file():
        raise FileNotFoundError(f"{folder} has no summary.json: finish the run with --resume {folder}")
    summary = files.read_sealed(folder / "summary.json")
    if isinstance(experiment, config.Study):
        for stage in experiment.stages:
            report_again(stage, folder / stage.name, console)
        report.write_study(experiment, folder, summary)
    else:
        report.write(open_run(experiment, folder, console, read_only=True, alone=True), summary, console)
    console.print(f"look at {folder / 'report.html'}", highlight=False)
    return 0


def _try_to_report(make: Callable[[], None], folder: Path, console: Console) -> int:
    """Make a page of results that are on the disk already, and are not lost with it; returns the exit status."""
    again = f"Try again: {_again('--report', folder)}"
    try:
        make()
    except KeyboardInterrupt:
        console.print(f"stopped: the results are saved, report.html is not. {again}", highlight=False)
        return 130
    except Exception as error:  # whatever it is, the training must not look as if it had failed
        reason = escape(f"{type(error).__name__}: {error}")
        console.print(f"[yellow]warning:[/] no report.html, {reason}. {again}", highlight=False)
        return 1 if isinstance(error, OSError) else 0  # a full disk is the user's to mend
    return 0


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
