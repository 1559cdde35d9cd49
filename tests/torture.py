"""Kills, bit flips, corruptions and races: what a run's folder must outlive. By hand, with the counts to run:

    python tests/torture.py kills 50
    python tests/torture.py own_kills 20
    python tests/torture.py flips 600
    python tests/torture.py corruptions 600
    python tests/torture.py pairs 20

Each prints a line for every fault that it finds, then a count of what came out, and exits with 1 if there was a fault.
`--seed N` draws others, `--folder DIR` keeps the folders. A small part of it is among the slow tests.
"""

import argparse
import collections
import contextlib
import dataclasses
import functools
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np
from rich.console import Console

from experiments import config, progress, report, run, system
from experiments.config import (
    Conversion,
    Data,
    Experiment,
    Feedforward,
    Optimizer,
    RateDense,
    Study,
    Sweep,
    Train,
)
from experiments.load import load_config
from experiments.loop import Run
from experiments.progress import stop_signals
from experiments.report import energy, sections
from jsnn.checkpoint import CheckpointError, Checkpoints

ROOT = Path(__file__).resolve().parents[1]
DATA = Data(name="digits", train_split="train[:256]", validation_split="train[1300:]", test_split="test[:100]", shift=1)
TRAINING = Experiment(
    name="training",
    num_steps=4,
    data=DATA,
    network=Feedforward(hidden=(8,)),
    optimizer=Optimizer(schedule="cosine"),
    train=Train(epochs=4, batch_size=32),
)
SEEDS = dataclasses.replace(TRAINING, name="seeds", seeds=4)
SWEEP = dataclasses.replace(
    TRAINING,
    name="sweep",
    network=RateDense(hidden=(8,)),
    conversion=Conversion(num_steps=8, scale=100.0),
    sweep=Sweep(scale=(10.0, 100.0), steps=(4, 8)),
)
STUDY = Study(name="study", stages=(SWEEP, TRAINING))
OWN_PARTS = Path(__file__).with_name("own_parts.py")
GALLERY = config.Gallery(data="digits", batch_size=8, num_steps=12, tau=0.5, image=3)
_WITHOUT_PAGE = "from experiments import report, run; report.write = lambda *_: None"
_START = f"import sys; {_WITHOUT_PAGE}; sys.exit(run.main(sys.argv[1:]))"


def kills(count: int, folder: Path, draw: random.Random, *, own_alone: bool = False) -> Iterator[str]:
    """Kill commands at random moments and at file events, and go on: the result must have the same bits."""
    wanted, files = {}, {}
    own = load_config(str(OWN_PARTS))
    kinds: list[config.Config] = [own] if own_alone else [own, SEEDS, STUDY, SWEEP]
    for kind in kinds:
        whole = folder / f"whole-{kind.name}"
        begin = time.monotonic()
        process = _start(_write(folder, kind), "--workdir", str(whole))
        files[kind.name] = len(list(_events(process, whole)))
        assert process.returncode == 0, _output(process)
        wanted[kind.name] = (_result(whole), time.monotonic() - begin)
    for number in range(count):
        kind = kinds[number % len(kinds)]
        result, seconds = wanted[kind.name]
        here = folder / f"{number}-{kind.name}"
        process = _start(_write(folder, kind), "--workdir", str(here))
        if draw.random() < 0.5:
            moment = f"at {draw.uniform(0.3, 1) * seconds:.1f} s"
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(float(moment.split()[1]))
        else:
            event = draw.randrange(1, files[kind.name])
            moment = f"at file event {event}"
            for happened, _ in enumerate(_events(process, here), 1):
                if happened == event:
                    break
        process.kill()
        _output(process)
        begun = (here / "config.json").exists()
        again = ["--resume", str(here)] if begun else [_write(folder, kind), "--workdir", str(here)]
        status, printed = _call(*again)
        if status != 0:
            yield f"FAULT {kind.name} killed {moment}: {printed[-300:]}"
        elif _result(here) != result:
            yield f"FAULT {kind.name} killed {moment}: other numbers"
        else:
            yield f"{kind.name}, the same bits"
        shutil.rmtree(here)


def flips(count: int, folder: Path, draw: random.Random) -> Iterator[str]:
    """Flip single bits in a folder of checkpoints: what is restored must be what was saved, or an error."""
    finished = _finish(folder, TRAINING) / "checkpoints"
    like = Run(TRAINING, folder / "none", Console(quiet=True), read_only=True).state
    intact = Checkpoints(finished, read_only=True)
    steps = {"last": intact.last, "best": intact.best}
    wanted = {name: intact.restore(step, like) for name, step in steps.items()}
    paths = sorted(path for path in finished.rglob("*") if path.is_file() and path.stat().st_size)
    for _ in range(count):
        path = draw.choices(paths, [1 if draw.random() < 0.5 else path.stat().st_size for path in paths])[0]
        whole = path.read_bytes()
        place, bit = draw.randrange(len(whole)), draw.randrange(8)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
        what = f"bit {bit} of byte {place} of {path.relative_to(finished)}"
        for name in steps:
            try:
                checkpoints = Checkpoints(finished, read_only=True)
                state, info = checkpoints.restore(getattr(checkpoints, name), like)
                same = jax.tree.map(np.array_equal, state, wanted[name][0])
                if not all(jax.tree.leaves(same)) or info != wanted[name][1]:
                    yield f"FAULT {what}: {name} is silently other"
                else:
                    yield "the same bits"
            except CheckpointError:
                yield "refused"
            except Exception:
                yield f"FAULT {what}: {name}, {traceback.format_exc()[-300:]}"
        path.write_bytes(whole)


def corruptions(count: int, folder: Path, draw: random.Random) -> Iterator[str]:
    """Flip bytes of, cut or delete files of a run: each command gives the same numbers or a line that says why not."""
    finished = {kind.name: _finish(folder, kind) for kind in (TRAINING, SEEDS, STUDY)}
    stopped = folder / "stopped"
    _call(_write(folder, TRAINING), "--workdir", str(stopped), stop=True)
    cases = [("--resume", finished["training"]), ("--evaluate", finished["training"]), ("--report", finished["seeds"])]
    cases += [("--resume", finished["study"]), ("--resume", stopped), ("--report", finished["training"])]
    wanted = {}
    for option, where in cases:
        here = folder / "intact"
        shutil.copytree(where, here)
        status, printed = _call(option, str(here))
        assert status == 0, printed
        wanted[option, where] = (_plain(printed) if option == "--evaluate" else "", _result(here), _page(here))
        shutil.rmtree(here)
    for number in range(count):
        option, where = cases[number % len(cases)]
        here = folder / "intact"  # the same name, so that what is printed is the same
        shutil.copytree(where, here)
        files = sorted(path for path in here.rglob("*") if path.is_file() and path.stat().st_size)
        plain = [path for path in files if "checkpoints" not in path.parts]
        path = draw.choice(plain if draw.random() < 0.6 else files)
        how = draw.choice([_flip_byte, _cut, _delete])
        what = f"{option} {where.name}, {how.__name__} {path.relative_to(here)} {how(path, draw)}"
        try:
            status, printed = _call(option, str(here))
        except BaseException:
            yield f"FAULT {what}: {traceback.format_exc()[-400:]}"
        else:
            printed_then, result, page = wanted[option, where]
            if "Traceback" in printed or (status != 0 and not re.search("error:|stopped:", printed)):
                yield f"FAULT {what}: status {status}, {printed[-400:]}"
            elif status != 0 and printed.count("\n") > 12:
                yield f"FAULT {what}: a long error, {printed}"
            elif status != 0:
                yield "refused"
            elif option == "--evaluate" and _plain(printed) != printed_then:
                yield f"FAULT {what}: silently evaluated to {printed}"
            elif option == "--resume" and not _same(_result(here), result, path.relative_to(here)):
                yield f"FAULT {what}: silently resumed to other numbers"
            elif option == "--report" and _page(here) != page:
                yield f"FAULT {what}: silently another page"
            else:
                yield "the same numbers"
        shutil.rmtree(here)


def pairs(count: int, folder: Path, draw: random.Random) -> Iterator[str]:
    """Start two commands in one folder: one does its work, the other is refused in a line."""
    finished = _finish(folder, SWEEP)
    for number in range(count):
        here = folder / f"pair-{number}"
        kind = ("training", "resume", "study", "sweep", "start and resume", "gallery")[number % 6]
        if "resume" in kind:
            shutil.copytree(finished, here)
            (here / "summary.json").unlink()
        configs = {"training": TRAINING, "study": STUDY, "sweep": SWEEP, "start and resume": SWEEP, "gallery": GALLERY}
        begin = [_write(folder, configs[kind]), "--workdir", str(here)] if kind in configs else ["--resume", str(here)]
        two = [_start(*begin), _start(*(["--resume", str(here)] if "resume" in kind else begin))]
        printed = [_output(process) for process in two]
        statuses = sorted(process.returncode for process in two)
        refusals = [text for text in printed if re.search("in use by another|exists: give|was made by another", text)]
        refused_in_a_line = len(refusals) == 1 and "Traceback" not in "".join(printed)
        ended = (here / ("report.html" if kind == "gallery" else "summary.json")).exists()
        if statuses in ([0, 1], [0, 2]) and refused_in_a_line and ended:
            yield f"{kind}, one refusal"
        else:
            yield f"FAULT {kind}: statuses {statuses}, {printed}"


def _start(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "COLUMNS": "300", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", _START, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=environment,
    )


def _output(process: subprocess.Popen[str]) -> str:
    try:
        return process.communicate(timeout=600)[0]
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        raise


def _events(process: subprocess.Popen[str], folder: Path) -> Iterator[int]:
    """Something for every change of the files in a folder that is seen while a process runs."""
    before: set[str] = set()
    while process.poll() is None:
        now = {name for at, _, files in os.walk(folder) for name in [at, *(os.path.join(at, file) for file in files)]}
        if now != before:
            before = now
            yield len(now)
        time.sleep(0.001)


@contextlib.contextmanager
def _quick_pages() -> Iterator[None]:
    """Of a page, only what says the numbers."""
    with contextlib.ExitStack() as patches:
        for part in ("layers", "samples", "mistakes"):
            patches.enter_context(mock.patch.object(sections, f"add_{part}"))
        patches.enter_context(mock.patch.object(energy, "add"))
        yield


def _call(*arguments: str, stop: bool = False) -> tuple[int, str]:
    """The exit status of a command in this process and what it printed; `stop` as if it were interrupted at once."""
    text = io.StringIO()
    asked = threading.Event()
    asked.set()
    stopping = functools.partial(contextlib.nullcontext, asked)
    pages: Any = _quick_pages() if "--report" in arguments else mock.patch.object(report, "write")
    with (
        contextlib.redirect_stdout(text),
        contextlib.redirect_stderr(text),
        pages,
        mock.patch.object(progress, "stop_signals", side_effect=stopping if stop else stop_signals),
        mock.patch.dict(os.environ, COLUMNS="300"),
    ):
        status = run.main(list(arguments))
    return status, text.getvalue()


def _write(folder: Path, settings: config.Config) -> str:
    if config.has_own_parts(settings):
        return str(shutil.copy(OWN_PARTS, folder))
    path = folder / f"{settings.name}.json"
    path.write_text(config.to_json(settings))
    return str(path)


def _finish(folder: Path, settings: config.Config) -> Path:
    where = folder / f"finished-{settings.name}"
    status, printed = _call(_write(folder, settings), "--workdir", str(where))
    assert status == 0, printed
    return where


def _result(folder: Path) -> dict[str, Any]:
    """The numbers of a run or a study, and the checksums of its weights."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("summary.json")):
        found[str(path.relative_to(folder))] = {
            name: value for name, value in json.loads(path.read_text()).items() if name in ("final", "seeds", "sweep")
        }
    for path in sorted(folder.rglob("metrics.jsonl")):
        text = re.sub(r'"seconds": [^,}]*', "", path.read_text(errors="replace"))  # a damaged one is not read at all
        found[str(path.relative_to(folder))] = text
    for path in sorted(folder.rglob("checkpoints/*/info/metadata")):
        with contextlib.suppress(ValueError):  # a checkpoint that no command had to read may be damaged still
            found[str(path.relative_to(folder))] = json.loads(path.read_text()).get("leaves")
    return found


def _same(found: dict[str, Any], wanted: dict[str, Any], damaged: Path | None = None) -> bool:
    """Whether two results are the same.

    The journals of a study's stages are left alone once the stages are done, and so is a damaged checkpoint from which
    nothing is read.
    """
    is_study = "summary.json" in wanted and "metrics.jsonl" not in wanted
    names = [name for name in wanted if not (is_study and name.endswith("metrics.jsonl"))]
    if damaged is not None and "checkpoints" in damaged.parts:
        names = [name for name in names if name != str(damaged)]
    return all(found.get(name) == wanted[name] for name in names)


def _plain(printed: str) -> str:
    return re.sub(r"\s+", " ", printed)


def _page(folder: Path) -> str:
    page = folder / "report.html"
    return re.sub(r'src="[^"]*"', "", page.read_text()) if page.exists() else ""


def _flip_byte(path: Path, draw: random.Random) -> str:
    data = bytearray(path.read_bytes())
    place = draw.randrange(len(data))
    data[place] ^= draw.randrange(1, 256)
    path.write_bytes(bytes(data))
    return f"at {place}"


def _cut(path: Path, draw: random.Random) -> str:
    size = draw.randrange(path.stat().st_size)
    path.write_bytes(path.read_bytes()[:size])
    return f"to {size}"


def _delete(path: Path, draw: random.Random) -> str:
    path.unlink()
    return ""


TORTURES: dict[str, Callable[[int, Path, random.Random], Iterator[str]]] = {
    "kills": kills,
    "own_kills": functools.partial(kills, own_alone=True),
    "flips": flips,
    "corruptions": corruptions,
    "pairs": pairs,
}


def main() -> int:
    """Run one torture; returns 1 if it found a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("torture", choices=TORTURES)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    system.quiet_orbax()  # as the runner does
    folder = options.folder or Path(tempfile.mkdtemp(prefix="torture-"))
    folder.mkdir(parents=True, exist_ok=True)
    counts = collections.Counter[str]()
    for outcome in TORTURES[options.torture](options.count, folder, random.Random(options.seed)):
        if outcome.startswith("FAULT"):
            print(outcome, flush=True)
        counts["FAULT" if outcome.startswith("FAULT") else outcome] += 1
    print(f"{options.torture} {options.count}, seed {options.seed}: {dict(counts)}")
    if options.folder is None:
        shutil.rmtree(folder)
    return int(counts["FAULT"] > 0)


if __name__ == "__main__":
    sys.exit(main())
