"""`report.html` of a run: what was run, what came out, and what the network does on the way there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.markup import escape

from experiments import config, energy_section, meaning, sections, spread
from experiments.loop import Run
from experiments.observe import Observation, observe, subject_of
from experiments.page import Page, link
from experiments.summary import command, format_metric, without_losses
from jsnn.files import as_path


def write(run: Run, summary: Mapping[str, Any], console: Console) -> None:
    """Makes the page of a finished run, from its summary and its weights.

    Raises:
        CheckpointError: if the weights cannot be read.
        OSError: if the page cannot be written.
    """
    _take_final_weights(run)
    experiment = run.experiment
    run = run.networks()[_best(summary)]
    with console.status("drawing report.html"):
        subject = subject_of(run)
        seen = observe(run, subject)
        page = Page(run.experiment.name, _lead(run, summary))
        warnings = sections.warnings(seen.layers)
        if missing := meaning.less(experiment):
            page.warn(meaning.warning(missing))
        for warning in warnings:
            page.warn(warning)
        _add_result(page, run, summary, seen)
        sections.add_seeds(page, run, summary)
        _add_what_was_run(page, run, summary)
        page.code(config.to_json(experiment), "config.json")
        sections.add_training(page, run)
        if run.experiment.conversion is not None:
            sections.add_conversion(page, run, subject, summary)
        sections.add_layers(page, subject, seen)
        energy_section.add(page, run, subject)
        sections.add_samples(page, run, subject, seen)
        sections.add_mistakes(page, run, seen)
        page.write(run.folder / "report.html")
    for warning in warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}", highlight=False)


def write_study(study: config.Study, folder: Path, summary: Mapping[str, Any]) -> None:
    """Makes the page of a study: one table of its stages, with links to their pages.

    Raises:
        OSError: if the page cannot be written.
    """
    page = Page(study.name, f"A study of {len(study.stages)} stages, {_duration(summary['seconds'])} in all.")
    page.section("Stages")
    varied = [name for name in _SETTINGS if any(row.get(name) is not None for row in summary["rows"])]
    rows = [
        {"stage": link(row["stage"], f"{row['stage']}/report.html")}
        | {name: format_metric(name, row.get(name)) for name in varied}
        | {name: format_metric(name, value) for name, value in row.items() if name not in ("stage", *_SETTINGS)}
        for row in summary["rows"]
    ]
    page.table(rows, "A row for each stage, which has a page of its own, and one for every setting of its sweep.")
    references, missing = [], []
    for stage in study.stages:
        prefix = f"{stage.name}/"
        metrics = {k.removeprefix(prefix): v for k, v in summary["final"].items() if k.startswith(prefix)}
        decided = meaning.decisions(stage)
        references += [
            {"stage": stage.name} | row | {"decided on": decided.get(row["metric"], "")}
            for row in meaning.references(stage, metrics)
        ]
        missing += [f"{stage.name}: {one}" for one in meaning.less(stage)]
    if missing:
        page.warn(meaning.warning(missing))
    if references:
        page.section("Beside the reference")
        page.table(references)
    page.section("What was run")
    page.facts(_origin(summary, folder))
    page.code(config.to_json(study), "config.json")
    page.write(folder / "report.html")


_SETTINGS = ("scale", "synapse", "dt", "num_steps")  # of a sweep


def _take_final_weights(run: Run) -> None:
    """Those that the summary's numbers belong to."""
    weights = run.experiment.train.weights
    if weights is not None:
        run.take_weights(as_path(weights))
    else:
        run.restore(run.chosen(run.records())["step"])


def _best(summary: Mapping[str, Any]) -> int:
    """Which of the networks the page looks into: the first of those with the best learning rate."""
    rows = summary.get("seeds", [])
    rates = [row["learning_rate"] for row in rows]
    return rates.index(spread.best(spread.spreads(rows)).learning_rate) if rows else 0


def _lead(run: Run, summary: Mapping[str, Any]) -> str:
    final, seconds = summary["final"], _duration(summary["seconds"])
    images = f"of the {len(run.sets.test):,} test images of {run.experiment.data.name}"
    if "seeds" in summary:
        images += f", the mean of {len(summary['seeds'])} networks"
    if run.experiment.conversion is None:
        return f"Right on {final['test_accuracy']:.2%} {images}, after {seconds} of training."
    name = meaning.headline(run.experiment)
    return (
        f"The rate network is right on {final['test_accuracy']:.2%}, the spiking one, by "
        f"{meaning.decisions(run.experiment)[name]}, on {final[name]:.2%} {images}, after {seconds} of training."
    )


def _add_result(page: Page, run: Run, summary: Mapping[str, Any], seen: Observation) -> None:
    page.section("Result")
    metrics = without_losses(summary["final"])
    if seen.layers:
        metrics = {"spikes_per_image": sum(layer.spikes for layer in seen.layers)} | metrics
    rows = {row["metric"]: row for row in meaning.references(run.experiment, metrics)}
    decided = meaning.decisions(run.experiment)
    for name in dict.fromkeys([*rows, "test_accuracy", *metrics]):
        plain = {"metric": name, "result": format_metric(name, metrics.get(name))}
        rows[name] = rows.get(name, plain) | {"decided on": decided.get(name, "")}
    page.table(list(rows.values()))


def _add_what_was_run(page: Page, run: Run, summary: Mapping[str, Any]) -> None:
    page.section("What was run")
    experiment = run.experiment
    parameters = sum(int(np.size(leaf)) for leaf in jax.tree.leaves(run.state.params))
    page.facts(
        {
            "network": f"{experiment.model.kind}, {parameters:,} parameters",
            "data": f"{experiment.data.name}: {len(run.sets.train):,} training, {len(run.sets.test):,} test images",
        }
        | _origin(summary, run.folder)
        | {"weights": experiment.train.weights}
    )


def _origin(summary: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Where a summary comes from. Those of older runs say less."""
    return {
        "command": summary.get("command"),
        "the same again": command([str(folder / "config.json")]),
        "seed": summary["seed"],
        "device": summary["device"],
        "training time": _duration(summary["seconds"]),
        "finished": summary.get("finished"),
        "git revision": summary.get("git_revision"),
        "versions": ", ".join(f"{name} {version}" for name, version in summary["versions"].items()),
    }


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
