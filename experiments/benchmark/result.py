"""What a benchmark found: a row for each side, shown as a table and kept as JSON and Markdown."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from rich.table import Table

from experiments.benchmark.measure import Timing
from experiments.benchmark.side import Comparison
from experiments.files import write_whole

Row: TypeAlias = dict[str, Any]

READING = """\
Times are medians over the rounds, "lowest" and "highest" their spread; "CPU" is the time of all cores together, the
lowest of the rounds, which other programs disturb less. "x floor" and "x jsnn" are how many times as long a side took
as the floor and as jsnn (the first row): the median over the rounds of the ratio within a round. "memory" is the peak
that the compiled program plans, or what PyTorch allocated on a GPU; n/a where nobody tells. "compile" is tracing,
lowering and compiling for JAX, and otherwise what the first run took more than the median. The first run is not
counted."""


class Result(NamedTuple):
    """One comparison, measured."""

    case: str
    title: str
    notes: Sequence[str]
    rows: Sequence[Row]


def result(case: str, comparison: Comparison, timings: Mapping[str, Timing]) -> Result:
    """Return the rows of a comparison, jsnn's first."""
    sides = comparison.sides
    ours = next(iter(sides)) if any(side.role in ("peer", "other") for side in sides.values()) else None
    floor = next((name for name, side in sides.items() if side.role == "floor"), None)
    rows = []
    for name, side in sides.items():
        timing = timings[name]
        median = statistics.median(timing.wall)
        compile_seconds = side.compile_seconds
        row: Row = {
            "side": name,
            "role": side.role,
            "median_s": median,
            "lowest_s": min(timing.wall),
            "highest_s": max(timing.wall),
            "cpu_s": min(timing.cpu),
            "times_floor": floor and _times(timing, timings[floor]),
            "times_jsnn": ours and _times(timing, timings[ours]),
            "memory_bytes": side.memory_bytes,
            "compile_s": max(0.0, timing.first - median) if compile_seconds is None else compile_seconds,
            "details": dict(side.details(median)),
        }
        if side.moved_bytes:
            row["details"]["GB/s"] = side.moved_bytes / median / 1e9
            if floor:
                share = side.moved_bytes / sides[floor].moved_bytes / row["times_floor"]
                row["details"]["of copy bandwidth"] = share
        rows.append(row)
    return Result(case, comparison.title, comparison.notes, rows)


def _times(timing: Timing, other: Timing) -> float:
    return statistics.median(a / b for a, b in zip(timing.wall, other.wall))


def cells(found: Result) -> tuple[list[str], list[list[str]]]:
    """Return the head and the lines of a result's table; columns in which nothing stands are left out."""
    details = list(dict.fromkeys(name for row in found.rows for name in row["details"]))
    head = ["", "median ms", "lowest", "highest", "CPU ms", "x floor", "x jsnn", *details, "memory MB", "compile s"]
    lines = []
    for row in found.rows:
        times = [1e3 * row[name] for name in ("median_s", "lowest_s", "highest_s", "cpu_s")]
        memory = None if row["memory_bytes"] is None else row["memory_bytes"] / 1e6
        more = [row["details"].get(name) for name in details]
        lines.append(
            [
                row["side"],
                *map(number, times),
                number(row["times_floor"], ""),
                number(row["times_jsnn"], ""),
                *(number(value, "") for value in more),
                number(memory),
                number(row["compile_s"]),
            ]
        )
    kept = [i for i in range(len(head)) if any(line[i] for line in lines)]
    return [head[i] for i in kept], [[line[i] for i in kept] for line in lines]


def number(value: float | None, missing: str = "n/a") -> str:
    """Return a number with three figures, or all before the point.

    >>> number(1234.5), number(12.345), number(0.012345), number(0.0), number(None)
    ('1,234', '12.3', '0.0123', '0', 'n/a')
    """
    if value is None:
        return missing
    return f"{value:,.0f}" if abs(value) >= 100 or value == 0 else f"{value:.3g}"


def table(found: Result) -> Table:
    """For the screen."""
    head, lines = cells(found)
    shown = Table(*head, title=f"{found.case}: {found.title}", caption="\n".join(found.notes), caption_justify="left")
    for column in shown.columns[1:]:
        column.justify = "right"
    for line in lines:
        shown.add_row(*line)
    return shown


def write(folder: Path, environment: Mapping[str, Any], results: Sequence[Result]) -> None:
    """`benchmark.json` and `benchmark.md`."""
    content = {"environment": environment, "results": [found._asdict() for found in results]}
    write_whole(folder / "benchmark.json", json.dumps(content, indent=1) + "\n")
    write_whole(folder / "benchmark.md", markdown(environment, results))


def markdown(environment: Mapping[str, Any], results: Sequence[Result]) -> str:
    """Return a page: where it was measured, how to read it, and a table for each comparison."""
    lines = ["# Benchmark", "", *(f"* {line}" for line in describe(environment)), "", READING]
    for found in results:
        head, rows = cells(found)
        lines += ["", f"## {found.case}: {found.title}", "", "| " + " | ".join(head) + " |"]
        lines += ["|" + "|".join(["---"] + ["---:"] * (len(head) - 1)) + "|"]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
        lines += ["", *(f"* {note}" for note in found.notes)] if found.notes else []
    return "\n".join(lines) + "\n"


def describe(environment: Mapping[str, Any]) -> list[str]:
    """Return the environment in lines of text.

    >>> describe({"threads": 2, "versions": {"jax": "0.10", "jsnn": "0.1"}})
    ['threads: 2', 'versions: jax 0.10, jsnn 0.1']
    """

    def text(value: Any) -> str:
        return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, Mapping) else str(value)

    return [f"{name}: {text(value)}" for name, value in environment.items()]
