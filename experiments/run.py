"""Runs an experiment: `python -m experiments.run CONFIG [--field.subfield value ...]`.

CONFIG is a config file (`configs/digits.py`) or the `config.json` of an earlier run.

    --list                the configs, with what each reaches
    --workdir DIR         the run's folder, new or empty (default: runs/NAME-DATE-TIME)
    --resume RUN          goes on with a run that was stopped, to the same numbers
    --evaluate RUN        the metrics of a run's last checkpoint; nothing is changed
    --checkpoint best     with --evaluate or --resume: the best checkpoint instead, or that of a step, such as 440;
                          a run that goes on from it drops those after it
    --report RUN          makes report.html of a finished run again
    --distributed         this process is one of several, each started with the same command (docs/devices.md)
    CONFIG --seeds 8      trains eight networks at once: their mean and its confidence interval (docs/seeds.md)
    CONFIG --help         every field of the config, with its meaning

The run's folder holds `config.json` (which can itself be run), `metrics.jsonl`, `summary.json`, `checkpoints/`,
`weights.safetensors`, `tensorboard/`, and `report.html`, a page about all of it.
"""

import argparse
import ast
import contextlib
import datetime
import difflib
import importlib.util
import os
import sys
import traceback
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, get_args

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from experiments import build, compiled, config, execute, files, gallery, lock, overrides, processes, quiet, spread
from experiments.config import Config, Experiment, Study
from experiments.fields import override
from experiments.gallery import Gallery
from experiments.loop import NotCompiled, Run
from experiments.optimizer import make_optimizer
from experiments.seeds import open_run
from experiments.summary import command
from jsnn.checkpoint import CheckpointError

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status: 0 done, 1 stopped by a fault, 2 a mistake, 130 interrupted."""
    console = Console(soft_wrap=True)
    arguments = sys.argv[1:] if arguments is None else arguments
    status, existing, option = 2, None, "--resume"
    with contextlib.ExitStack() as held:
        try:
            options, rest = _parse(arguments)
            if options.list:
                return _list_configs(console)
            name = rest.pop(0) if rest and not rest[0].startswith("-") else None
            if name is None and options.existing is None:
                console.print(__doc__, markup=False, highlight=False)
                return 0 if {"--help", "-h"} & set(rest) else 2
            existing, option = options.existing, "--evaluate" if options.evaluate is not None else "--resume"
            if options.distributed:
                processes.join()
                console.quiet = not processes.is_first()
            run = _prepare(options, name, rest, console, held)
            if isinstance(run, _Finished):
                return execute.report_again(run.experiment, run.folder, console)
            status = 1
            if isinstance(run, _StudyRun):
                return execute.run_study(run.study, run.folder, console, command(arguments))
            if isinstance(run, Gallery):
                return run.draw(console)
            if option == "--evaluate":
                return _evaluate(run, console)
            return execute.train(run, console, command(arguments))
        except CheckpointError as error:
            again = execute.cure(error, option, Path(existing)) if error.whole is not None and existing else ""
            return _say(console, f"{error}. Instead: {again}" if again else str(error), status)
        except (MemoryError, NotCompiled) as error:
            return _say(console, str(error), 1)
        except (ValueError, OSError) as error:
            return _say(console, str(error), status)
        except KeyboardInterrupt:
            console.print("stopped", highlight=False)
            return 130


def _say(console: Console, message: str, status: int) -> int:
    """Print an error as one line that any terminal can show; return the exit status."""
    console.quiet = False
    text = " ".join(message.split()).encode(console.encoding, "backslashreplace").decode(console.encoding)
    console.print(f"[red]error:[/] {escape(text)}", highlight=False)
    return status


class _StudyRun(NamedTuple):
    """A study that is to be run, and where."""

    study: Study
    folder: Path


class _Finished(NamedTuple):
    """A run or a study whose page is to be made, and where it is."""

    experiment: Experiment | Study
    folder: Path


def load_config(path: str) -> Config:
    """The experiment, study or gallery of a config file or of a run's `config.json`.

    Raises:
        FileNotFoundError: if there is no such file; it names the nearest config.
        ValueError: if the file defines no experiment, fails, or has wrong or unknown fields.
    """
    file = _path(path)
    if not file.is_file():
        known = [os.path.relpath(p) for p in sorted(CONFIGS.glob("[!_]*.py"))]
        known += [str(file / "config.json")] if (file / "config.json").is_file() else []
        like = difflib.get_close_matches(path, known, n=1, cutoff=0.3)
        hint = f": did you mean {like[0]}?" if like else ""
        raise FileNotFoundError(f"there is no config {path}{hint} (python -m experiments.run --list shows all)")
    if file.suffix.lower() == ".json":
        try:
            return config.from_json(file.read_text("utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is not the config.json of a run: {error}") from error
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"a config must be a Python file or a config.json, got {path}")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        settings: Any = module.get_config() if hasattr(module, "get_config") else None
    except (Exception, SystemExit) as error:  # the code is the user's, and can raise anything
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        where = f"{path}, line {lines[-1]}" if lines else path
        raise ValueError(f"{where}: {type(error).__name__}: {error}") from error
    if not hasattr(module, "get_config"):
        raise ValueError(f"{path} must define get_config() -> Experiment, and does not")
    if type(settings) not in get_args(Config):
        raise ValueError(f"get_config() of {path} must return an Experiment, a Study or a Gallery, got {settings!r}")
    return settings


class _Parser(argparse.ArgumentParser):
    """Raises what argparse would print in two lines before it ends the process."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def _parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The runner's own options, and what is left: the config's name and overrides."""
    parser = _Parser(prog="python -m experiments.run", add_help=False, allow_abbrev=False)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true")
    for option in ("--workdir", "--resume", "--evaluate", "--report"):
        what.add_argument(option)
    parser.add_argument("--distributed", action="store_true")
    parser.add_argument("--checkpoint", type=_which_checkpoint)
    options, rest = parser.parse_known_args(arguments)
    if options.checkpoint is not None and options.evaluate is None and options.resume is None:
        raise ValueError(f"--checkpoint {options.checkpoint} needs --evaluate RUN or --resume RUN")
    options.checkpoint = "last" if options.checkpoint is None else options.checkpoint
    given = (options.resume, options.evaluate, options.report)
    options.existing = next((folder for folder in given if folder is not None), None)
    return options, rest


def _path(text: str) -> Path:
    """The path that a user gave, in which ~ is the home folder."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # there is no such user
        raise ValueError(f"{text}: {error}") from None


def _which_checkpoint(text: str) -> str | int:
    if text in ("last", "best"):
        return text
    if text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(f"it must be last, best or a step, got {text}")


def _prepare(
    options: argparse.Namespace, name: str | None, arguments: list[str], console: Console, held: contextlib.ExitStack
) -> Run | _StudyRun | _Finished | Gallery:
    """The run that the command asks for, its folder and state ready, and locked where it will be written to."""
    if options.report is not None and options.distributed:
        raise ValueError("--report is for one process: leave out --distributed")
    existing = options.existing
    if existing is not None:
        if name is not None:
            raise ValueError(f"{existing} has a config of its own: leave out {name}, and override fields by name")
        folder = _path(existing)
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(
                f"{folder} is not the folder of a run: it has no config.json. A run that was stopped before it "
                f"had one is begun anew, with its config and --workdir {folder}"
            )
        if options.evaluate is None:  # which only reads, also beside a training
            held.enter_context(lock.hold(folder))
        files.read_sealed(folder / "config.json")
        before = load_config(str(folder / "config.json"))
        experiment = overrides.remember(before, override(before, arguments, existing, __doc__))
        if isinstance(experiment, config.Gallery):
            raise ValueError(f"{folder} is a gallery, whole as it is: draw another with {folder / 'config.json'}")
        if options.report is not None:
            overrides.check_report(before, experiment)
            return _Finished(experiment, folder)
        if isinstance(experiment, Study):
            if options.evaluate is not None:
                stages = ", ".join(str(folder / stage.name) for stage in experiment.stages)
                raise ValueError(f"{folder} is a study: evaluate one of its stages, {stages}")
            assert isinstance(before, Study)
            overrides.check_study(before, experiment)
            return _StudyRun(experiment, folder)
        assert isinstance(before, Experiment)
        assert isinstance(experiment, Experiment)
        if options.evaluate is not None:
            overrides.check_evaluate(before, experiment)
        run = open_run(experiment, folder, console, read_only=options.evaluate is not None)
        if options.evaluate is not None:
            run.restore(_step(run, options.checkpoint))
        else:
            _go_on(run, before, options.checkpoint)
        for change in overrides.changes(before, experiment):
            console.print(f"with {change}", highlight=False, markup=False)
        return run
    assert name is not None
    before = load_config(name)
    experiment = overrides.remember(before, override(before, arguments, name, __doc__))
    if isinstance(experiment, config.Gallery) and options.distributed:
        raise ValueError(f"{name} is a gallery, drawn by one process: leave out --distributed")
    stamp = processes.of_first(datetime.datetime.now().strftime("%Y%m%d-%H%M%S"))
    folder = Path(f"runs/{experiment.name}-{stamp}") if options.workdir is None else _path(options.workdir)
    execute.check_new(folder)
    if isinstance(experiment, config.Gallery):
        return gallery.prepare(experiment, folder)
    ready = _open(experiment, folder, console)
    held.enter_context(lock.hold(folder))
    execute.start(experiment, folder)
    return ready


def _open(experiment: Experiment | Study, folder: Path, console: Console) -> Run | _StudyRun:
    """Return the run of a new folder; what is missing is reported before the folder is made or a stage is trained."""
    if isinstance(experiment, Study):
        for stage in experiment.stages:
            make_optimizer(stage.optimizer, 1)
            build.load_data(stage.data)
        return _StudyRun(experiment, folder)
    run = open_run(experiment, folder, console)
    if experiment.train.weights is not None:
        run.take_weights(_path(experiment.train.weights))
    return run


def _step(run: Run, checkpoint: str | int) -> int | None:
    """The step of a checkpoint that is chosen by the option --checkpoint."""
    return checkpoint if isinstance(checkpoint, int) else getattr(run.checkpoints, checkpoint)


def _go_on(run: Run, before: Experiment, checkpoint: str | int) -> None:
    """Make a run ready to go on from a checkpoint, as its config says now."""
    step = None if before.train.weights is not None else _step(run, checkpoint)
    if step is not None:
        overrides.check_resume(before, run.experiment, len(run.checkpoints.info(step).get("records", ())))
    if checkpoint != "last":
        run.go_back(step)
    if overrides.changes(before, run.experiment):
        if step is not None:
            run.restore(step)  # so that nothing is changed where nothing can go on
        execute.begin_again(run.experiment, run.folder)


def _evaluate(run: Run, console: Console) -> int:
    try:
        found = spread.spreads(run.split(run.evaluate(run.sets.test)))
    except MemoryError as error:
        return _say(console, str(error), 1)
    spread.print_spreads(console, f"{run.experiment.name}, step {run.step}", found)
    return 0


def _list_configs(console: Console) -> int:
    table = Table(Column("config", no_wrap=True), "claim")
    for path in sorted(CONFIGS.glob("*.py")):
        claim = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0].replace("\n", " ")
        if path.stem != "__init__":
            table.add_row(os.path.relpath(path), escape(claim))
    console.print(table)
    return 0


if __name__ == "__main__":
    compiled.keep()
    quiet.about_orbax()
    sys.exit(main())
