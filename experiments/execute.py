"""Executes an experiment or a study in its folder, from training to the summary that is left there."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from experiments import config, evaluation, files, overrides, report, spread, system
from experiments.convert import convert, sweep
from experiments.evaluate import evaluate
from experiments.load import OWN_PARTS
from experiments.loop import NotCompiled, Run
from experiments.progress import headed, say
from experiments.seeds import open_run
from experiments.summary import command as command_line
from experiments.summary import format_metric, git_revision, summarise, without_losses
from experiments.testing import show, subject_of
from jsnn import weights
from jsnn.checkpoint import CheckpointError
from jsnn.train import Interrupted, NotFinite


def check_new(folder: Path) -> None:
    """Raise FileExistsError if a folder holds more than what a start leaves that was killed at once."""
    nothing = {files.LOCK, OWN_PARTS}
    nothing |= {files.temporary_of(folder / name).name for name in ("config.json", OWN_PARTS)}
    if folder.exists() and (not folder.is_dir() or {path.name for path in folder.iterdir()} - nothing):
        resume = f", or go on with --resume {folder}" * (folder / "config.json").exists()
        raise FileExistsError(f"the run folder {folder} exists: give another --workdir{resume}")


def start(experiment: config.Experiment | config.Study, folder: Path, source: Path) -> None:
    """Write the `config.json` of a new run into its folder, which is locked.

    Args:
        experiment: the config.
        folder: the run's.
        source: the file that defines the config's own parts, if it has any: a copy stays with the run.

    Raises:
        FileExistsError: if another command has been there meanwhile.
    """
    system.meet(f"before {folder}")  # each of them has looked whether it is there
    if system.is_first():
        check_new(folder)
        _write_config(experiment, folder, source)


def _write_config(experiment: config.Experiment | config.Study, folder: Path, source: Path) -> None:
    """Write `config.json`, and before it a copy of the file that defines parts of one's own, if there are any."""
    if config.has_own_parts(experiment):
        files.write_whole(folder / OWN_PARTS, source.read_bytes())
    files.write_sealed(folder / "config.json", config.to_values(experiment))


def begin_again(experiment: config.Experiment, folder: Path) -> None:
    """Write a new config into the folder of a run, and delete the results of the old one first."""
    if system.is_first():
        for name in ("summary.json", "sweep.csv"):
            (folder / name).unlink(missing_ok=True)
        files.write_sealed(folder / "config.json", config.to_values(experiment))


def train(run: Run, console: Console, command: str) -> int:
    """Train, convert and evaluate one experiment; return the exit status.

    Args:
        run: the experiment in its folder.
        console: where progress is shown.
        command: the command line that asked for it, for the summary.
    """
    console.print(f"run folder: {run.folder}")
    if len(jax.devices()) > 1:
        console.print(f"on {run.where}")
    again = command_line(["--resume", str(run.folder)])
    try:
        return _train(run, console, command)
    except (Interrupted, KeyboardInterrupt) as stop:
        saved = f", and saved at step {run.checkpoints.last}" if isinstance(stop, Interrupted) else ""
        console.print(f"stopped{saved}. resume with: {again}")
        return 130
    except (CheckpointError, NotCompiled, NotFinite, MemoryError, OSError) as error:
        if isinstance(error, CheckpointError) and error.whole is not None and run.experiment.train.weights is None:
            again = cure(error, "--resume", run.folder)
        then = "" if isinstance(error, NotCompiled | NotFinite) else f". resume with: {again}"
        console.print(headed("stopped:", "red", f"{error}{then}"))
        return 1


def cure(error: CheckpointError, option: str, folder: Path) -> str:
    """Return the command that goes round a damaged checkpoint of a run: from the last whole one, or from the start."""
    if error.whole:
        return command_line([option, str(folder), "--checkpoint", str(error.whole[-1])])
    return command_line([str(folder / "config.json")])


def _train(run: Run, console: Console, command: str) -> int:
    """Do what `train` does; raise its faults."""
    revision = git_revision()  # of the code that runs, whatever becomes of it meanwhile
    begin = time.monotonic()
    rows, seconds = run.fit()
    beside = _by_bptt(run, console)
    run = run.on_one_device()
    if not system.is_first():
        return 0
    chosen = [row["learning_rate"] for row in rows].index(_best(run, rows).learning_rate)
    networks = run.networks()
    seen = _evaluate(networks, rows, chosen, console)
    tried = sweep(run, console)
    best = _best(run, rows)
    seed = run.experiment.seed
    summary = summarise(run.experiment.name, best.means, seconds, seed, command=command, revision=revision)
    if len(rows) > 1:
        summary |= {"seeds": rows, "intervals": best.intervals()}
    if beside:
        summary["bptt"] = beside
    if tried:
        summary["sweep"] = tried
        _print_rows(console, f"{run.experiment.name}: sweep", tried)
    _save_weights(networks[chosen], rows[chosen])
    seen.save(run.folder)
    files.write_sealed(run.folder / "summary.json", summary)
    spread.print_spreads(console, run.experiment.name, rows)
    status = _try_to_report(run.experiment, run.folder, console)
    here = time.monotonic() - begin
    console.print(f"{seconds:.1f} s of training on {summary['device']}, {here:.1f} s in this command with its page")
    console.print(f"run folder: {run.folder}")
    return status


def _best(run: Run, rows: list[dict[str, float]]) -> spread.Spread:
    """Return the metrics of the networks with the best learning rate."""
    return spread.best(spread.spreads(rows), run.score, maximize=run.maximize)


def _by_bptt(run: Run, console: Console) -> dict[str, float]:
    """Train an experiment that learns online by backpropagation through time too; return its final metrics.

    {} where it does not ask for that. The second run has a folder of its own in that of the first.
    """
    learning = run.experiment.learning
    if not (isinstance(learning, config.Online) and learning.compare):
        return {}
    console.print(f"{run.experiment.name}, by backpropagation through time")
    other = dataclasses.replace(run.experiment, learning=config.Bptt())
    rows, _ = open_run(other, run.folder / "bptt", console).fit()
    return _best(run, rows).means


def _save_weights(run: Run, metrics: dict[str, float]) -> None:
    """Write the weights of a network into the folder of its run, as `jsnn.weights.load` reads them."""
    metadata = {"config": json.dumps(config.to_values(run.experiment)), run.score: str(metrics[f"test_{run.score}"])}
    weights.save(run.folder / "weights.safetensors", run.network(), metadata)


def _evaluate(
    networks: list[Run], rows: list[dict[str, float]], chosen: int, console: Console
) -> evaluation.Evaluation:
    """Evaluate every network on the test set, after its conversion if there is one; add the metrics to its row.

    Returns:
        what the chosen network did.
    """
    found = None
    for index, (network, row) in enumerate(zip(networks, rows)):
        settings = network.experiment.conversion
        converted = convert(network, settings) if settings is not None else None
        with console.status("evaluating on the test set"):
            if index == chosen:
                found = evaluate(network, converted, network.records())
                row |= found.metrics
            elif not network.experiment.network.is_rate or converted is not None:
                subject = subject_of(network, converted)
                row |= show(network, subject, [None])[0].metrics(subject)
        if index == chosen and found is not None and found.conversion is not None:
            console.print(found.conversion.replaced)
            what = f"on {found.conversion.examples} test images:\n{found.conversion.diagnosis}"
            console.print(what)
    assert found is not None
    return found


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
            system.meet(f"after {here}")
            if status:
                console.print(f"the study goes on with: {command_line(['--resume', str(folder)])}")
                return status
        if (here / "config.json").exists():
            _check_stage(stage, here)
        results[stage.name] = files.read_sealed(here / "summary.json")
    if not system.is_first():
        return 0
    rows: list[dict[str, Any]] = []
    final: dict[str, float] = {}
    for name, result in results.items():
        metrics = without_losses(result["final"])
        rows += [{"stage": name} | row for row in (metrics, *result.get("sweep", []))]
        final |= {f"{name}/{metric}": value for metric, value in metrics.items()}
    _print_rows(console, study.name, rows)
    score = f"test_{study.stages[0].objective.loss.score}"
    final[score] = final[f"{study.stages[0].name}/{score}"]
    seconds = sum(result["seconds"] for result in results.values())
    summary = summarise(study.name, final, seconds, study.stages[0].seed, command=command, revision=revision)
    summary["rows"] = rows
    files.write_sealed(folder / "summary.json", summary)
    status = _try_to_report(study, folder, console)
    console.print(f"{seconds:.1f} s in all, on {summary['device']}; run folder: {folder}")
    return status


def _run_stage(stage: config.Experiment, folder: Path, console: Console, command: str) -> int:
    """Train a stage of a study, or go on with it; returns the exit status."""
    try:
        with files.hold(folder):
            system.meet(f"before {folder}")
            if (folder / "config.json").exists():
                _check_stage(stage, folder)
            elif system.is_first():
                _write_config(stage, folder, folder.parent / OWN_PARTS)
            return train(open_run(stage, folder, console), console, command)
    except (ValueError, OSError, CheckpointError) as error:
        return say(console, str(error), 2)
    except KeyboardInterrupt:
        console.print("stopped")
        return 130


def _check_stage(stage: config.Experiment, folder: Path) -> None:
    """Raise ValueError if a stage was run by itself with another config than its study's."""
    files.read_sealed(folder / "config.json")
    changed = overrides.changes(stage, config.from_json((folder / "config.json").read_text(encoding="utf-8")))
    if changed:
        raise ValueError(
            f"the stage {folder} was run otherwise than its study says, with {', '.join(changed)}: move the folder "
            f"away, so that the study runs the stage anew"
        )


def _try_to_report(experiment: config.Experiment | config.Study, folder: Path, console: Console) -> int:
    """Make a page of results that are on the disk already, and are not lost with it; returns the exit status."""
    again = f"Try again: {command_line(['--report', str(folder)])}"
    try:
        report.make(experiment, folder, console, with_stages=False)
    except KeyboardInterrupt:
        console.print(f"stopped: the results are saved, report.html is not. {again}")
        return 130
    except Exception as error:  # whatever it is, the training must not look as if it had failed
        reason = f"{type(error).__name__}: {error}"
        console.print(headed("warning:", "yellow", f"no report.html, {reason}. {again}"))
        return 1 if isinstance(error, OSError) else 0  # a full disk is the user's to mend
    return 0


def _print_rows(console: Console, title: str, rows: list[dict[str, Any]]) -> None:
    """Print a column for every row, in several tables: there are more numbers to a row than fit beside each other."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = [[format_metric(name, row.get(name)) for name in names] for row in rows]
    room, borders = console.width - max(map(len, names)) - 4, 3
    fitting = max(1, room // (max(len(cell) for column in columns for cell in column) + borders))
    for start in range(0, len(columns), fitting):
        table = Table(show_header=False, title=title if start == 0 else None)
        for line in zip(names, *columns[start : start + fitting]):
            table.add_row(*line)
        console.print(table)
