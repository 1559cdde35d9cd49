"""The times of all comparisons as bars, with their spread."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from experiments.benchmark.result import Result, number

_COLOURS = {"jsnn": "tab:blue", "floor": "tab:grey", "peer": "tab:orange", "other": "tab:green"}
_BAR = 0.32  # inches


def draw(path: Path, environment: Mapping[str, Any], results: Sequence[Result]) -> None:
    """Write a picture with one panel for each comparison."""
    heights = [len(found.rows) + 2.5 for found in results]
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(figsize=(9, _BAR * sum(heights) + 0.6), layout="constrained")
        panels = figure.subplots(len(results), 1, squeeze=False, height_ratios=heights)[:, 0]
        for panel, found in zip(panels, results):
            _bars(panel, found)
        figure.suptitle(f"{environment['device']}, {environment['threads']} threads; {environment['matmul precision']}")
        temporary = path.with_suffix(".tmp.png")
        figure.savefig(temporary, dpi=120)
    temporary.replace(path)


def _bars(panel: Any, found: Result) -> None:
    names = [row["side"] for row in found.rows]
    medians = [1e3 * row["median_s"] for row in found.rows]
    below = [m - 1e3 * row["lowest_s"] for m, row in zip(medians, found.rows)]
    above = [1e3 * row["highest_s"] - m for m, row in zip(medians, found.rows)]
    bars = panel.barh(
        names, medians, xerr=[below, above], color=[_COLOURS[row["role"]] for row in found.rows], ecolor="black"
    )
    panel.bar_label(bars, labels=[f" {number(m)}" for m in medians], padding=6)
    panel.set_title(f"{found.case}: {found.title}", loc="left", fontsize=9)
    panel.set_xlabel("ms")
    panel.margins(x=0.15)
    panel.invert_yaxis()
    panel.spines[["top", "right"]].set_visible(False)
