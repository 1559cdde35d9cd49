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
    CONFIG --network KIND another network, with its defaults; so too --encoder, --objective.loss, --conversion None, ...
    CONFIG --seeds 8      trains eight networks at once: their mean and its confidence interval (docs/seeds.md)
    CONFIG --help         every field of the config, with its meaning, and the kinds of its parts

The run's folder holds `config.json` (which can itself be run), `metrics.jsonl`, `summary.json`, `checkpoints/`,
`weights.safetensors`, `tensorboard/`, and `report.html`, a page about all of it.
"""

import sys

try:
    import argparse
    import ast
    import gc
    import os

    from rich.console import Console
    from rich.table import Column, Table

    from experiments import CONFIGS
    from experiments.progress import say
except KeyboardInterrupt:  # as main does
    sys.exit(130)

# Commands are imported when they are chosen: --list, --help and --report need no JAX, which takes seconds to import.


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status: 0 done, 1 stopped by a fault, 2 a mistake, 130 interrupted."""
    console = Console(soft_wrap=True, highlight=False, markup=False)  # a path may hold [ and ]
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        options, rest = _parse(arguments)
        if options.list:
            return _list_configs(console)
        name = rest.pop(0) if rest and not rest[0].startswith("-") else None
        wants_help = bool({"--help", "-h"} & set(rest))
        if name is None and options.existing is None:
            if rest and not wants_help:
                raise ValueError(f"{rest[0]} needs a config in front, such as configs/digits.py, or --help alone")
            console.print(__doc__)
            return 0 if wants_help else 2
        if wants_help and name is not None:
            from experiments.fields import override
            from experiments.load import load_config

            override(load_config(name), rest, name, __doc__)  # which prints it, and ends the process
        if options.report is not None:
            return _report(options, name, rest, console)
        from experiments import commands

        return commands.run(commands.Request(options, name, rest, arguments, __doc__ or "", console))
    except (ValueError, OSError, SyntaxError, argparse.ArgumentError) as error:
        return say(console, str(error), 2)
    except KeyboardInterrupt:
        console.print("stopped")
        return 130


def _parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the runner's own options, and what is left: the config's name and overrides."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
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


def _which_checkpoint(text: str) -> str | int:
    if text in ("last", "best"):
        return text
    if text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(f"it must be last, best or a step, got {text}")


def _report(options: argparse.Namespace, name: str | None, arguments: list[str], console: Console) -> int:
    """Make the page of a finished run, or of a study and its stages, from its files."""
    from experiments import files, report
    from experiments.load import load_run
    from jsnn.files import as_path

    folder = as_path(options.report)
    if options.distributed:
        raise ValueError("--report is for one process: leave out --distributed")
    if name is not None or arguments:
        given = name or arguments[0]
        raise ValueError(f"the page is about the run as it was: leave out {given}, or begin a new run")
    experiment = load_run(folder)
    with files.hold_alone(folder):
        report.make(experiment, folder, console)
    console.print(f"look at {folder / 'report.html'}")
    return 0


def _list_configs(console: Console) -> int:
    table = Table(Column("config", no_wrap=True), "claim")
    for path in sorted(CONFIGS.glob("*.py")):
        claim = ast.get_docstring(ast.parse(path.read_text("utf-8"), str(path))) or ""
        if path.stem != "__init__":
            table.add_row(os.path.relpath(path), claim.split("\n\n")[0].replace("\n", " "))
    console.print(table)
    return 0


if __name__ == "__main__":
    status = main()
    gc.freeze()  # or the interpreter looks through all objects once more before it ends, which takes a second
    sys.exit(status)
