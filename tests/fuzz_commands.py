"""Runs hostile command lines through the runner, in this process, and says which of them it does not take well.

    python tests/fuzz_commands.py 1000 --seed 0

Each command must end with the status 0, 1, 2 or 130, within a minute, without an exception. A mistake (2) must be said
in one line and leave no folder. Training is left out, except in a small share of the commands.
"""

import argparse
import collections
import contextlib
import dataclasses
import io
import json
import os
import random
import shlex
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from experiments import commands as runner
from experiments import config, execute, fields, gallery, load, run, system

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 60  # for one command
STATUSES = (0, 1, 2, 130)
NUMBERS = [0, -1, 1, 2, 3, 0.5, -0.5, 1e-300, 1e-45, 1e39, 1e308, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63, -(2**63)]
NUMBERS += [10**9, 10**12, 10**18, 10**40, 10**5000, float("inf"), float("-inf"), float("nan")]
TEXTS = ["", " ", "many", "None", "True", "1e-3", "1,2", "a/b", "../..", "/", "~", "~nobody7", "-1", "--", "--list"]
TEXTS += ["nul\0", "\ud800", "é☃𝄞", "line\nbreak", "\x1b[31m", "[bold]", "x" * 300, "%s{}", "random", "last", "direct"]
TEXTS += ["train[:10]", "train[", "test+train", "train[90%:]", "digits", "digitz", "mnist", "configs/digits.py"]
OPTIMISERS = ["adam", "adamm", "contrib", "chain", "masked", "lbfgs", "polyak_sgd", "sgd", "scale_by_adam", "_src"]
VALUES: list[Any] = [*NUMBERS, *TEXTS, *OPTIMISERS, None, True, False, [], {}, [[]], [1, "a"], {"b1": 2}, {"x": {}}]
SMALL = [0, 1, 2, 3, 5, 0.1, 0.5, 0.9, True, False]
ENCODERS = (config.Direct(), config.ConstantCurrent(), config.SpikeLatencyLIF(), config.Poisson(), config.Rate())
ENCODERS += (config.Latency(), config.Delta(), config.Burst(), config.Phase(), config.Population())
RATE_MODELS = (config.RateConv(blocks=((2,),), dense=(5,)), config.RateDense(hidden=(5,)))
MODELS = (config.Feedforward(hidden=(5,)), config.NorseRecurrent(hidden=5), config.NorseConv(), config.SpikingDense())
CONVERSIONS = (config.Conversion(), config.Conversion(calibration=config.Calibration(images=5)))
PARTS = {"encoder": ENCODERS, "network": MODELS + RATE_MODELS, "conversion": CONVERSIONS}


class Hang(BaseException):
    """A command took too long."""


class Outcome(NamedTuple):
    """What a command came to: its exit status, or what is wrong with how it ended."""

    arguments: list[str]
    status: int | None
    fault: str
    seconds: float
    printed: str


def tiny() -> dict[str, Any]:
    """The JSON of an experiment that trains in a moment."""
    experiment = config.Experiment(
        name="tiny",
        num_steps=3,
        data=config.Data(train_split="train[:40]", test_split="test[:20]"),
        network=config.Feedforward(hidden=(5,)),
        train=config.Train(epochs=1, batch_size=20),
    )
    return json.loads(config.to_json(experiment))


class Commands:
    """Draws command lines.

    Args:
        seed: of the draws.
        folder: where files for them are written.
        finished: the folder of a finished run.
    """

    def __init__(self, seed: int, folder: Path, finished: Path) -> None:
        self.random, self.folder, self.finished = random.Random(seed), folder, finished
        self.count = 0

    def draw(self) -> list[str]:
        """One command line, always with a folder of its own."""
        self.count += 1
        some = self.random
        kinds = [self._with_fields, self._with_json, self._with_file, self._with_run, self._with_options]
        (make,) = some.choices(kinds, (6, 8, 2, 3, 2))
        arguments = make()
        if make != self._with_run and some.random() < 0.95:
            arguments += ["--workdir", str(self.workdir)]
        return arguments

    @property
    def workdir(self) -> Path:
        """The folder of the present command's run."""
        return self.folder / f"run{self.count}"

    def _with_fields(self) -> list[str]:
        """A config with fields of the command line."""
        if self.random.random() < 0.5:
            path = self.random.choice(sorted((ROOT / "configs").glob("[!_]*.py")))
        else:
            path = self._write(json.dumps(self._experiment()).encode())
        return [str(path), *self._overrides(load.load_config(str(path)))]

    def _overrides(self, settings: config.Config) -> list[str]:
        some, found = self.random, []
        flags = fields.flags(dataclasses.asdict(settings))
        for _ in range(some.choice((1, 1, 2, 3))):
            flag = some.choice(flags)
            if some.random() < 0.15:
                flag = self._misspelt(flag)
            if some.random() < 0.5:
                flag = flag.replace("-", "_").replace("__", "--", 1)
            choices = some.choice((VALUES, SMALL))
            values = [as_argument(some.choice(choices)) for _ in range(some.choice((0, 1, 1, 1, 1, 1, 1, 1, 2, 3)))]
            if flag.endswith("optimizer.name"):
                values = [some.choice(OPTIMISERS)]
            if flag.endswith("options"):
                values = [some.choice(("b1", "eps", "bb", "mu_dtype", "")), *values]
            found += [f"{flag}={values[0]}", *values[1:]] if values and some.random() < 0.2 else [flag, *values]
        return found

    def _misspelt(self, word: str) -> str:
        at = self.random.randrange(2, len(word))
        return self.random.choice((word[:at] + word[at + 1 :], word[:at] + "z" + word[at:], word[:at]))

    def _experiment(self) -> dict[str, Any]:
        """The JSON of a small experiment, study or gallery of random parts."""
        some, settings = self.random, tiny()
        for name, choices in PARTS.items():
            if name != "conversion" or (settings["network"]["kind"].startswith("rate") and some.random() < 0.5):
                part = some.choice(choices)
                kind = {"kind": part.kind} if isinstance(part, config.Part) else {}
                settings[name] = json.loads(json.dumps(kind | dataclasses.asdict(part)))
        if settings["network"]["kind"].startswith("rate"):
            settings["encoder"] = {"kind": "direct"}
        which = some.random()
        if which < 0.15:
            return {"name": "study", "stages": [settings, settings | {"name": "other"}]}
        if which < 0.3:
            return json.loads(config.to_json(config.Gallery(data="digits", num_steps=60, batch_size=4)))
        return settings

    def _with_json(self) -> list[str]:
        """A config.json with hostile values, fields or bytes."""
        some, settings = self.random, self._experiment()
        for _ in range(some.choice((1, 1, 1, 2, 3))):
            self._spoil(settings)
        text = json.dumps(settings, ensure_ascii=some.random() < 0.9).encode("utf-8", "surrogatepass")
        if some.random() < 0.1:
            at = some.randrange(len(text))
            text = some.choice((text[:at], text[:at] + bytes([some.randrange(256)]) + text[at + 1 :], text[at:]))
        return [str(self._write(text))]

    def _spoil(self, settings: dict[str, Any]) -> None:
        """Change, add, rename or remove one value, anywhere in a config."""
        some = self.random
        places = list(_places(settings))
        container, key = some.choice(places)
        action = some.random()
        if action < 0.4:
            container[key] = self._near(container[key])
        elif action < 0.75 or not isinstance(container, dict):
            container[key] = some.choice(VALUES)
        elif action < 0.85:
            container[self._misspelt(f"  {key}").strip()] = container.pop(key)
        elif action < 0.95:
            del container[key]
        else:
            container[some.choice(TEXTS)] = some.choice(VALUES)

    def _near(self, value: Any) -> Any:
        """Another value of the same type, which may well be allowed."""
        some = self.random
        if isinstance(value, bool) or value is None:
            return some.choice((True, False, None, 2))
        if isinstance(value, int | float):
            return some.choice((value + 1, value - 1, 2 * value, value // 2, 10 * value, 1000 * value))
        if isinstance(value, list):
            return some.choice((value[1:], [*value, *value], [*value, 1], [self._near(part) for part in value]))
        return value

    def _with_file(self) -> list[str]:
        """What is no config, or one that fails."""
        some = self.random
        code = [b"", b"def get_config(: pass", b"def get_config(): return 3", b"import nothing_of_this_name", b"\xff\0"]
        code += [b"def get_config():\n    return 1 / 0", b"raise SystemExit(7)", b"get_config = 3", b"x = '\xe9'"]
        code += [b"def get_config(n): pass", b"def get_config(): raise KeyboardInterrupt", b"assert False, 'a\\nb'"]
        text = some.choice((*code, b"[]", b"null", b"{}", b"3", b"[" * 5000, b'{"stages": []}', b'{"signal": 3}'))
        suffix = some.choice((".py", ".json", ".txt", ""))
        places = [str(self._write(text, suffix)), str(self.folder), "nowhere.py", "configs", *TEXTS]
        return [some.choice((places[0], some.choice(places)))]

    def _with_run(self) -> list[str]:
        """A command about an earlier run."""
        some = self.random
        folder = some.choice([str(self.finished)] * 4 + ["nowhere", str(self.folder), sys.executable, "", *TEXTS[:12]])
        arguments = [some.choice(("--resume", "--evaluate", "--report")), folder]
        for options in (["--checkpoint", some.choice(("best", "last", "worst"))], ["--workdir", "x"], ["--list"]):
            arguments += options if some.random() < 0.15 else []
        if some.random() < 0.6:
            arguments += self._overrides(config.from_json(json.dumps(tiny())))
        return arguments

    def _with_options(self) -> list[str]:
        """The runner's own options in any order, with and without values."""
        some = self.random
        words = ["configs/digits.py", "--list", "--help", "--resume", "--evaluate", "--report", "--checkpoint", "best"]
        words += [
            "--workdir",
            str(self._write(b"")),
            "--distributed",
            "--seeds",
            "0",
            "--tyro-print-completion",
            *TEXTS,
        ]
        return [as_argument(some.choice(words)) for _ in range(some.randrange(6))]

    def _write(self, text: bytes, suffix: str = ".json") -> Path:
        path = self.folder / f"config{self.count}{suffix}"
        path.write_bytes(text)
        return path


def as_argument(value: Any) -> str:
    """A value as it stands on a command line, which holds no zero bytes."""
    sys.set_int_max_str_digits(0)
    return str(value).replace("\0", "")


def _places(settings: Any) -> Any:
    """Every (container, key) in a JSON value."""
    items = settings.items() if isinstance(settings, dict) else enumerate(settings)
    for key, value in list(items):
        yield settings, key
        if isinstance(value, dict | list):
            yield from _places(value)


def check(arguments: list[str], workdir: Path, *, trains: bool) -> Outcome:
    """Run one command line; one that trains is interrupted first, as a training may be long."""
    started, status, fault = time.monotonic(), None, ""
    printed = io.StringIO()

    def stop(*_: Any) -> None:
        if not trains or time.monotonic() - started > 1.5 * SECONDS:
            raise Hang
        signal.alarm(SECONDS)
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                status = run.main(arguments)
            except SystemExit as stopped:
                status = stopped.code or 0
    except Hang:
        fault = f"took more than {SECONDS} s"
    except KeyboardInterrupt:
        status = 130  # what a shell says of it
    except BaseException:
        fault = traceback.format_exc()
    finally:
        signal.alarm(0)
    text = printed.getvalue()
    if not fault and status not in STATUSES:
        fault = f"status {status}"
    if status == 2 and "Runs an experiment" not in text:
        if len(text.splitlines()) != 1 or not text.startswith("error: ") or text.strip() == "error:" or "-----" in text:
            fault = f"its message is not one line: {text}"
        elif workdir.exists():
            fault = f"left {workdir} after: {text}"
    return Outcome(arguments, status, fault, time.monotonic() - started, text)


def fuzz(count: int, seed: int, trained: float = 0.0) -> list[Outcome]:
    """Run so many command lines; `trained` is the share of them that train, evaluate and draw for real."""
    found = []
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(ROOT):
        folder = Path(temporary)
        (folder / "tiny.json").write_text(json.dumps(tiny()))
        with mock.patch("experiments.report.write"), contextlib.redirect_stdout(io.StringIO()):
            assert run.main([str(folder / "tiny.json"), "--workdir", str(folder / "finished")]) == 0
        commands = Commands(seed, folder, folder / "finished")
        os.chdir(folder)  # for what is written to runs/
        for name in ("configs", "experiments"):
            os.symlink(ROOT / name, folder / name)
        refuse = mock.Mock(side_effect=ValueError("no other process"))
        with contextlib.ExitStack() as always:
            always.enter_context(mock.patch("experiments.report.write"))
            always.enter_context(mock.patch.object(system, "join", refuse))
            for _ in range(count):
                arguments = commands.draw()
                trains = commands.random.random() < trained and str(ROOT) not in " ".join(arguments)
                with contextlib.ExitStack() as stubs:
                    if not trains:
                        stubs.enter_context(mock.patch.object(execute, "train", return_value=0))
                        stubs.enter_context(mock.patch.object(execute, "run_study", return_value=0))
                        stubs.enter_context(mock.patch.object(runner, "_evaluate", return_value=0))
                        stubs.enter_context(mock.patch.object(gallery, "draw", return_value=0))
                    found.append(check(arguments, commands.workdir, trains=trains))
                if found[-1].fault:
                    report(found[-1])
    return found


def report(outcome: Outcome) -> None:
    """Print what is wrong with how a command ended."""
    line = shlex.join(outcome.arguments).encode("utf-8", "backslashreplace").decode()
    fault = outcome.fault.encode("utf-8", "backslashreplace").decode()
    print(f"--- {line[:1000]}\n{fault[-2500:]}", flush=True)


def main() -> int:
    """Run the commands that are asked for; return 1 if one of them did not end well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", action="store_true", help="print every command with its message")
    parser.add_argument("--trained", type=float, default=0.03, help="the share that trains (default: %(default)s)")
    options = parser.parse_args()
    found = fuzz(options.count, options.seed, options.trained)
    for outcome in found if options.show else []:
        report(outcome._replace(fault=f"{outcome.status}, {outcome.seconds:.1f} s: {outcome.printed[:300]}"))
    faults = [outcome for outcome in found if outcome.fault]
    slowest = max(found, key=lambda outcome: outcome.seconds)
    print(dict(collections.Counter(outcome.status for outcome in found)), f"{len(faults)} faults")
    print(f"slowest: {slowest.seconds:.1f} s, {shlex.join(slowest.arguments)[:300]!r}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
