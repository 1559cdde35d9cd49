"""Runs an experiment: `python -m experiments.run CONFIG [--field.subfield value ...]`.

CONFIG is a config file (`configs/digits.py`) or the `config.json` of an earlier run.

    --list                the configs, with what each reaches
    --workdir DIR         the run's folder, new or empty (default: runs/NAME-DATE-TIME)
    --resume RUN          goes on with a run that was stopped, to the same numbers
    --evaluate RUN        the metrics of a run's last checkpoint; nothing is changed
    --checkpoint best     with --evaluate: the best checkpoint instead
    --report RUN          makes report.html of a finished run again
    --distributed         this process is one of several, each started with the same command (docs/devices.md)
    CONFIG --seeds 8      trains eight networks at once: their mean and its confidence interval (docs/seeds.md)
    CONFIG --help         every field of the config, with its meaning

The run's folder holds `config.json` (which can itself be run), `metrics.jsonl`, `summary.json`, `checkpoints/`,
`tensorboard/`, and `report.html`, a page about all of it.
"""

import argparse
import ast
import datetime
import difflib
import importlib.util
import os
import sys
from pathlib import Path
from typing import NamedTuple

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from experiments import compiled, config, execute, gallery, processes, spread
from experiments.config import Config, Experiment, Study
from experiments.gallery import Gallery
from experiments.loop import Run
from experiments.seeds import open_run
from experiments.summary import command
from jsnn.checkpoint import CheckpointError

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0 done, 1 stopped by a fault, 2 a mistake, 130 interrupted."""
    console = Console(soft_wrap=True)
    arguments = sys.argv[1:] if arguments is None else arguments
    options, rest = _parse(arguments)
    name = rest.pop(0) if rest and not rest[0].startswith("-") else None
    if options.list:
        return _list_configs(console)
    if name is None and not (options.resume or options.evaluate or options.report):
        console.print(__doc__, markup=False, highlight=False)
        return 0 if {"--help", "-h"} & set(rest) else 2
    try:
        if options.distributed:
            processes.join()
            console.quiet = not processes.is_first()
        run = _prepare(options, name, rest, console)
        if isinstance(run, _Finished):
            return execute.report_again(run.experiment, run.folder, console)
    except (ValueError, OSError, CheckpointError) as error:
        console.quiet = False
        console.print(f"[red]error:[/] {escape(str(error))}", highlight=False)
        return 2
    if isinstance(run, _StudyRun):
        return execute.run_study(run.study, run.folder, console, command(arguments))
    if isinstance(run, Gallery):
        return run.draw(console)
    return _evaluate(run, console) if options.evaluate else execute.train(run, console, command(arguments))


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
        ValueError: if the file defines no experiment, or one with wrong or unknown fields.
    """
    file = Path(path)
    if not file.is_file():
        known = [os.path.relpath(p) for p in sorted(CONFIGS.glob("*.py"))]
        nearest = difflib.get_close_matches(path, known, n=1, cutoff=0.3)
        hint = f": did you mean {nearest[0]}?" if nearest else ""
        raise FileNotFoundError(f"there is no config {path}{hint} (python -m experiments.run --list shows all)")
    if file.suffix == ".json":
        try:
            return config.from_json(file.read_text())
        except ValueError as error:
            raise ValueError(f"{path} is not the config.json of a run: {error}") from error
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"a config must be a Python file or a config.json, got {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    get_config = getattr(module, "get_config", None)
    if get_config is None:
        raise ValueError(f"{path} must define get_config() -> Experiment, and does not")
    settings = get_config()
    if not isinstance(settings, Config):
        raise ValueError(f"get_config() of {path} must return an Experiment, a Study or a Gallery, got {settings!r}")
    return settings


def _parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The runner's own options, and what is left: the config's name and overrides."""
    parser = argparse.ArgumentParser(prog="python -m experiments.run", add_help=False, allow_abbrev=False)
    parser.add_argument("--list", action="store_true")
    for option in ("--workdir", "--resume", "--evaluate", "--report"):
        parser.add_argument(option)
    parser.add_argument("--distributed", action="store_true")
    parser.add_argument("--checkpoint", choices=("last", "best"), default="last")
    return parser.parse_known_args(arguments)


def _prepare(
    options: argparse.Namespace, name: str | None, overrides: list[str], console: Console
) -> Run | _StudyRun | _Finished | Gallery:
    """The run that the command asks for, its folder and state ready."""
    if options.report and options.distributed:
        raise ValueError("--report is for one process: leave out --distributed")
    existing = options.resume or options.evaluate or options.report
    if existing:
        if name is not None:
            raise ValueError(f"{existing} has a config of its own: leave out {name}, and override fields by name")
        folder = Path(existing)
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(f"{folder} is not the folder of a run: it has no config.json")
        experiment = _override(load_config(str(folder / "config.json")), overrides, existing)
        if isinstance(experiment, config.Gallery):
            raise ValueError(f"{folder} is a gallery, whole as it is: draw another with {folder / 'config.json'}")
        if options.report:
            return _Finished(experiment, folder)
        if isinstance(experiment, Study):
            if options.evaluate:
                stages = ", ".join(str(folder / stage.name) for stage in experiment.stages)
                raise ValueError(f"{folder} is a study: evaluate one of its stages, {stages}")
            return _StudyRun(experiment, folder)
        run = open_run(experiment, folder, console, read_only=bool(options.evaluate))
        if options.evaluate:
            run.restore(run.checkpoints.best if options.checkpoint == "best" else run.checkpoints.last)
        return run
    assert name is not None
    experiment = _override(load_config(name), overrides, name)
    if isinstance(experiment, config.Gallery) and options.distributed:
        raise ValueError(f"{name} is a gallery, drawn by one process: leave out --distributed")
    stamp = processes.of_first(datetime.datetime.now().strftime("%Y%m%d-%H%M%S"))
    folder = Path(options.workdir or f"runs/{experiment.name}-{stamp}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(
            f"the run folder {folder} exists: give another --workdir, or go on with --resume {folder}"
        )
    if isinstance(experiment, config.Gallery):
        return gallery.prepare(experiment, folder)
    if isinstance(experiment, Study):
        execute.start(experiment, folder)
        return _StudyRun(experiment, folder)
    run = open_run(experiment, folder, console)
    execute.start(experiment, folder)
    return run


def _override(experiment: Config, arguments: list[str], name: str) -> Config:
    return tyro.cli(
        type(experiment),
        default=experiment,
        args=arguments,
        prog=f"python -m experiments.run {name}",
        description=__doc__,
        config=(tyro.conf.AvoidSubcommands,),
    )


def _evaluate(run: Run, console: Console) -> int:
    try:
        found = spread.spreads(run.split(run.evaluate(run.sets.test)))
    except MemoryError as error:
        console.print(f"[red]error:[/] {escape(str(error))}", highlight=False)
        return 1
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
    sys.exit(main())
