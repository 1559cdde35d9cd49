"""Times jsnn, the least that any simulator must do, and other simulators, alternately in one process.

    python -m experiments.benchmark --case fc_lif --neurons 256 1024
    taskset -c 0 python -m experiments.benchmark --case mnist_conv --peers norse snntorch     # on one core
    python -m experiments.benchmark --device gpu                  # all cases in 9 minutes: send in benchmark.json
    python -m experiments.benchmark --device gpu --case fc_lif --neurons 16384 --precision tf32

Results are printed, and kept as benchmark.json, benchmark.md and benchmark.png. A case that fails does not stop the
others; the files say why, and which cases the time was too short for. Peers come with
`pip install -e '.[peers]'` (install a CPU build of torch first where there is no GPU); it says which are missing, and
leaves them out.
"""

import argparse
import datetime
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from experiments.benchmark import figure, result
from experiments.benchmark.allocator import keep_freed_memory
from experiments.benchmark.cases import CASES, comparisons, options_of, own_options
from experiments.benchmark.environment import environment
from experiments.benchmark.measure import measure
from experiments.benchmark.peers import PEERS, installed
from experiments.benchmark.side import Setting

PRECISIONS = {"float32": "highest", "tf32": "tensorfloat32", "bf16": None}  # JAX's names

_GPU_MINUTES = 8.5  # by default: with the last comparison, 9 minutes, for which a machine is lent

SHARING = {  # so that JAX and PyTorch can live in one process; what the user has set stays
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # JAX would take most of a GPU's memory
    # PyTorch's threads would wait for each other, and for more work, by spinning: dear where a core is shared
    "OMP_WAIT_POLICY": "PASSIVE",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the cases that the command line names."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = vars(_parser().parse_args(arguments))
    try:
        run(arguments, **{name: value for name, value in options.items() if value is not None})
    except (ValueError, RuntimeError, OSError, MemoryError, ArithmeticError) as error:
        raise SystemExit(f"error: {error}") from None


def run(
    arguments: Sequence[str],
    *,
    case: Sequence[str] = tuple(CASES),
    peers: Sequence[str] | None = None,
    device: str = "cpu",
    precision: str = "float32",
    rounds: int = 5,
    minutes: float | None = None,
    allocator: str = "keep",
    out: Path | None = None,
    **options: Any,
) -> None:
    """Measure, print and write down one comparison after another; what is done is kept if the next one fails.

    Raises:
        ValueError: if the options fit no case, the device or each other.
        RuntimeError: at the end, if cases failed.
    """
    for name, value in SHARING.items():
        os.environ.setdefault(name, value)
    kept = allocator == "keep" and keep_freed_memory()
    setting = Setting(_device(device), () if peers == ["none"] else installed(peers), precision)
    if precision == "tf32" and device == "cpu":
        raise ValueError("precision tf32 is a GPU's: a CPU has float32 and bf16")
    comparisons(case, setting, options)  # what cannot be is found before anything is measured
    where = environment(setting, rounds, arguments)
    where["environment"] = {name: os.environ[name] for name in SHARING}
    where["freed memory"] = "kept in the process, for all sides" if kept else "as the system has it"
    folder = out or Path("runs") / f"benchmark_{datetime.datetime.now():%Y%m%d_%H%M%S}"
    folder.mkdir(parents=True, exist_ok=True)
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    console.print(*result.describe(where), sep="\n", soft_wrap=True)
    found: list[result.Result] = []
    failed: dict[str, str] = {}
    where["not measured"] = missing = {}
    minutes = _GPU_MINUTES if minutes is None and device == "gpu" else minutes
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes

    def keep() -> None:
        result.write(folder, where, found)
        if found:
            figure.draw(folder / "benchmark.png", where, found)

    jax.config.update("jax_enable_compilation_cache", False)  # else compile times would not be those of compiling
    with jax.default_device(setting.device), jax.default_matmul_precision(PRECISIONS[precision]):
        for name in case:
            try:
                waiting = comparisons([name], setting, own_options(name, options))
                while time.monotonic() < deadline:
                    _, comparison = next(waiting, (name, None))
                    if comparison is None:
                        break
                    found.append(result.result(name, comparison, measure(comparison.sides, rounds, deadline)))
                    console.print(result.table(found[-1]))
                    keep()
                else:
                    missing[name] = f"the {minutes:g} minutes were over"
            except Exception as error:  # each compiler and library has its own
                missing[name] = failed[name] = f"{type(error).__name__}: {error}"
                keep()
    keep()
    console.print(f"{folder}/benchmark.json, .md, .png", soft_wrap=True)
    if failed:
        raise RuntimeError("; ".join(f"{name}: {reason}" for name, reason in failed.items()))


def _device(name: str) -> jax.Device:
    try:
        return jax.devices(name)[0]
    except RuntimeError as error:
        seen = ", ".join(sorted({device.platform for device in jax.devices()}))
        raise ValueError(f"--device {name}: JAX sees only {seen} here ({error})") from None


def _positive(text: str) -> int:
    """Return the whole number above 0 that an option needs."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be >= 1, got {number}")
    return number


def _positive_number(text: str) -> float:
    """Return the number above 0 that an option needs."""
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be > 0 and finite, got {number}")
    return number


def _parser() -> argparse.ArgumentParser:
    def names(function: Any) -> str:
        return " ".join(function)

    def shown(default: Any) -> str:
        return " ".join(map(str, default)) or "(all)" if isinstance(default, tuple) else str(default)

    about = [__doc__, "cases and their own options, with their defaults:"]
    for name, case in CASES.items():
        doc = (sys.modules[case.__module__].__doc__ or "").partition("\n")[0]
        own = ", ".join(
            f"--{option.replace('_', '-')} {shown(default)}" for option, default in options_of(name).items()
        )
        about.append(f"    {name:<20}{doc}\n{'':24}{own}")
    parser = argparse.ArgumentParser(
        "python -m experiments.benchmark",
        description="\n".join(map(str, about)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--case", nargs="+", action="extend", metavar="NAME", help=f"default: all of {names(CASES)}")
    parser.add_argument("--peers", nargs="+", metavar="NAME", help=f"{names(PEERS)}, or none; default: all installed")
    parser.add_argument("--device", choices=["cpu", "gpu"], help="default: cpu; for one core, start with taskset -c 0")
    parser.add_argument("--precision", choices=PRECISIONS, help="of matrix products; default: float32")
    parser.add_argument("--rounds", type=_positive, help="default: 5, after one that warms up")
    parser.add_argument(
        "--minutes",
        type=_positive_number,
        help=f"no comparison begins after so many; default: {_GPU_MINUTES:g} on a GPU, else no limit",
    )
    parser.add_argument(
        "--allocator",
        choices=["keep", "system"],
        help="what becomes of freed memory; default: it is kept",
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: runs/benchmark_DATE_TIME")
    parser.add_argument("--neurons", type=_positive, nargs="+", metavar="N")
    parser.add_argument("--kinds", nargs="+", metavar="NEURON")
    parser.add_argument("--lengths", type=_positive, nargs="+", metavar="T")
    parser.add_argument("--steps", type=_positive, metavar="T")
    parser.add_argument("--batch-size", type=_positive, metavar="B")
    parser.add_argument("--max-delay", type=_positive, metavar="STEPS")
    parser.add_argument("--examples", type=_positive, metavar="N")
    parser.add_argument("--scale", type=float, metavar="SHARE", help="of the neurons of brunel")
    parser.add_argument("--brian2", metavar="PYTHON", help="an interpreter that has Brian2, for brunel")
    return parser


if __name__ == "__main__":
    main()
