"""Trains, goes on with, evaluates or draws what a command line asks for."""

import argparse
import contextlib
import datetime
import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from experiments import config, datasets, execute, files, gallery, overrides, spread, system
from experiments.config import Experiment, Study
from experiments.fields import override
from experiments.load import OWN_PARTS, blame, check_run, load_config, load_run
from experiments.loop import NotCompiled, Run
from experiments.progress import say
from experiments.seeds import open_run
from experiments.summary import command
from jsnn.checkpoint import CheckpointError
from jsnn.files import as_path


class Request(NamedTuple):
    """A command line, taken apart."""

    options: argparse.Namespace  # the runner's own
    name: str | None  # the config, or None for a run that exists
    fields: list[str]  # the rest of the command line, which sets fields of the config
    line: list[str]  # the whole command line, for the summary
    usage: str  # what --help says before the fields
    console: Console  # where progress is shown


def run(request: Request) -> int:
    """Run a command that needs a network; return the exit status."""
    options, console = request.options, request.console
    system.keep_compiled()
    system.quiet_orbax()
    status, existing = 2, options.existing
    with contextlib.ExitStack() as held:
        try:
            if options.distributed:
                system.join()
                console.quiet = not system.is_first()
            ready = _begin(request, held) if existing is None else _take_up(request, held)
            status = 1
            return ready()
        except (CheckpointError, MemoryError, NotCompiled, ValueError, OSError) as error:
            text = str(error)
            if isinstance(error, CheckpointError) and error.whole is not None and existing:
                option = "--evaluate" if options.evaluate is not None else "--resume"
                text += f". Instead: {execute.cure(error, option, Path(existing))}"
            return say(console, text, 1 if isinstance(error, MemoryError | NotCompiled) else status)
        except Exception as error:
            if (blamed := blame(error)) is None:
                raise
            return say(console, blamed, status)


def _begin(request: Request, held: contextlib.ExitStack) -> Callable[[], int]:
    """Return what trains or draws a config, in a new folder that is locked."""
    name, options, console = request.name, request.options, request.console
    assert name is not None
    before = load_config(name)
    experiment = overrides.remember(before, override(before, request.fields, name, request.usage))
    if isinstance(experiment, config.Gallery) and options.distributed:
        raise ValueError(f"{name} is a gallery, drawn by one process: leave out --distributed")
    stamp = system.of_first(datetime.datetime.now().strftime("%Y%m%d-%H%M%S"))
    folder = Path(f"runs/{experiment.name}-{stamp}") if options.workdir is None else as_path(options.workdir)
    execute.check_new(folder)
    if isinstance(experiment, config.Gallery):
        gallery.check(experiment)
        return functools.partial(gallery.draw, experiment, folder, console)
    ready = _open(experiment, folder, request.line, console)
    held.enter_context(files.hold(folder))
    source = as_path(name)
    execute.start(experiment, folder, source if source.suffix == ".py" else source.with_name(OWN_PARTS))
    return ready


def _open(experiment: Experiment | Study, folder: Path, line: list[str], console: Console) -> Callable[[], int]:
    """Return what trains an experiment or a study; what is missing is reported before the folder is made."""
    if isinstance(experiment, Study):
        for stage in experiment.stages:
            stage.optimizer.make(1)
            datasets.load(stage)
        return functools.partial(execute.run_study, experiment, folder, console, command(line))
    run = open_run(experiment, folder, console)
    if experiment.train.weights is not None:
        run.take_weights(as_path(experiment.train.weights))
    return lambda: execute.train(run, console, command(line))


def _take_up(request: Request, held: contextlib.ExitStack) -> Callable[[], int]:
    """Return what goes on with a run that exists, or evaluates it."""
    existing, options, console, line = request.options.existing, request.options, request.console, request.line
    if request.name is not None:
        raise ValueError(f"{existing} has a config of its own: leave out {request.name}, and override fields by name")
    folder, evaluates = as_path(existing), options.evaluate is not None
    check_run(folder)
    if not evaluates:  # which only reads, also beside a training
        held.enter_context(files.hold(folder))
    before = load_run(folder)
    experiment = overrides.remember(before, override(before, request.fields, existing, request.usage))
    if isinstance(experiment, Study):
        if evaluates or options.checkpoint != "last":
            stages = ", ".join(str(folder / stage.name) for stage in experiment.stages)
            what = "evaluate" if evaluates else f"give --checkpoint {options.checkpoint} with"
            raise ValueError(f"{folder} is a study: {what} one of its stages, {stages}")
        assert isinstance(before, Study)
        overrides.check_study(before, experiment)
        return functools.partial(execute.run_study, experiment, folder, console, command(line))
    assert isinstance(before, Experiment)
    assert isinstance(experiment, Experiment)
    if evaluates:
        overrides.check_evaluate(before, experiment)
    run = open_run(experiment, folder, console, read_only=evaluates)
    if evaluates:
        run.restore(_step(run, options.checkpoint))
    else:
        _go_on(run, before, options.checkpoint)
    for change in overrides.changes(before, experiment):
        console.print(f"with {change}")
    return (lambda: _evaluate(run, console)) if evaluates else (lambda: execute.train(run, console, command(line)))


def _step(run: Run, checkpoint: str | int) -> int | None:
    """Return the step of a checkpoint that is chosen by the option --checkpoint."""
    return checkpoint if isinstance(checkpoint, int) else getattr(run.checkpoints, checkpoint)


def _go_on(run: Run, before: Experiment, checkpoint: str | int) -> None:
    """Make a run ready to go on from a checkpoint, as its config says now."""
    step = None if before.train.weights is not None else _step(run, checkpoint)
    if step is not None:
        info = run.checkpoints.info(step)
        overrides.check_resume(before, run.experiment, len(info.get("records", ())) + bool(info.get("sums")))
    if checkpoint != "last":
        run.checkpoints.go_back(step, run.state)
    if overrides.changes(before, run.experiment):
        if step is not None:
            run.check_examples(run.restore(step))  # so that nothing is changed where nothing can go on
        execute.begin_again(run.experiment, run.folder)


def _evaluate(run: Run, console: Console) -> int:
    rows = run.split(run.evaluate(run.sets.test))
    spread.print_spreads(console, f"{run.experiment.name}, step {run.step}", rows)
    return 0
