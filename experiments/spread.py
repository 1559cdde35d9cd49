"""Several networks of one experiment as one result: the mean over their seeds, and how sure it is."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from experiments.summary import format_metric

CONFIDENCE = 0.95


class Spread(NamedTuple):
    """The metrics of networks that differ in their seeds alone."""

    learning_rate: float
    seeds: list[int]
    means: dict[str, float]
    margins: dict[str, float]  # the mean is this far from the true one at most, with 95% confidence; {} of one seed

    def text(self, name: str) -> str:
        """Return one metric for people, such as "97.10% ± 0.35%"."""
        mean = format_metric(name, self.means[name])
        return f"{mean} ± {format_metric(name, self.margins[name])}" if self.margins else mean

    def intervals(self) -> dict[str, list[float]]:
        """Return the confidence interval of each mean, [low, high]."""
        return {name: [self.means[name] - margin, self.means[name] + margin] for name, margin in self.margins.items()}


def spreads(rows: Sequence[Mapping[str, Any]]) -> list[Spread]:
    """Return one for each learning rate, of a row `{"seed", "learning_rate", metrics...}` for each network."""
    found = []
    for rate in dict.fromkeys(row["learning_rate"] for row in rows):
        group = [row for row in rows if row["learning_rate"] == rate]
        values = {name: [row[name] for row in group] for name in group[0] if name not in ("seed", "learning_rate")}
        means = {name: float(np.mean(some)) for name, some in values.items()}
        margins = {name: margin(some) for name, some in values.items()} if len(group) > 1 else {}
        found.append(Spread(rate, [row["seed"] for row in group], means, margins))
    return found


def margin(values: Sequence[float]) -> float:
    """Return half the width of the 95% confidence interval of a mean, by Student's t distribution with n - 1 degrees.

    Examples:
        >>> round(margin([0.96, 0.97, 0.98]), 4)
        0.0248
    """
    from scipy.special import stdtrit  # half a second, for several seeds alone

    quantile = stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)
    return float(quantile * np.std(values, ddof=1) / math.sqrt(len(values)))


def best(found: Sequence[Spread], score: str = "accuracy", *, maximize: bool = True) -> Spread:
    """Return the one with the best score on the validation set, or on the test set where there is no other."""

    def quality(one: Spread) -> float:
        value = one.means.get(f"validation_{score}", one.means[f"test_{score}"])
        return (value if maximize else -value) if math.isfinite(value) else -math.inf

    return max(found, key=quality)


def print_spreads(console: Console, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the `spreads` of rows as a table, with a column for each learning rate."""
    found = spreads(rows)
    names = [f"learning rate {one.learning_rate:g}" for one in found] if len(found) > 1 else ["value"]
    if (count := len(found[0].seeds)) > 1:
        title += f", {count} seeds ({CONFIDENCE:.0%} confidence)"
    table = Table("metric", *names, title=title)
    for name in found[0].means:
        table.add_row(name, *(one.text(name) for one in found))
    console.print(table)
