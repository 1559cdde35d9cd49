"""`report.html` of a run: what was run, what came out, and what the network does on the way there.

It is made of the files of the run alone, without its network, its data or JAX.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments import config, evaluation, files, meaning
from experiments.evaluation import Evaluation
from experiments.progress import headed
from experiments.report import energy, sections
from experiments.report.page import Page, link
from experiments.summary import command, format_metric, without_losses


def make(
    experiment: config.Experiment | config.Study, folder: Path, console: Console, *, with_stages: bool = True
) -> None:
    """Make the page of a finished run or study from its files, and print what is wrong with the network.

    Args:
        experiment: the config.
        folder: the run's.
        console: where warnings are printed.
        with_stages: of a study, make the pages of its stages too.

    Raises:
        FileNotFoundError: if the run has not finished.
        ValueError: if one of its files is damaged.
        OSError: if a page cannot be written.
    """
    if not (folder / "summary.json").is_file():
        raise FileNotFoundError(f"{folder} has no summary.json: finish the run with --resume {folder}")
    summary = files.read_sealed(folder / "summary.json")
    if isinstance(experiment, config.Study):
        for stage in experiment.stages if with_stages else ():
            make(stage, folder / stage.name, console)
        write_study(experiment, folder, summary)
        return
    seen = evaluation.load(folder)
    with console.status("drawing report.html"):
        write(experiment, folder, summary, seen, console)
    for warning in sections.warnings(seen.layers):
        console.print(headed("warning:", "yellow", warning))


def write(
    experiment: config.Experiment, folder: Path, summary: Mapping[str, Any], seen: Evaluation, console: Console
) -> None:
    """Write the page of a finished run into its folder, and its figures.

    Where a part of it cannot be made, the page says why, and so does the console; the other parts are there.

    Raises:
        OSError: if they cannot be written.
    """
    page = Page(experiment.name, _lead(experiment, summary, seen))
    if missing := meaning.less(experiment):
        page.warn(meaning.warning(missing))
    for warning in sections.warnings(seen.layers):
        page.warn(warning)

    def add(what: str, make: Callable[..., None], *arguments: Any, **options: Any) -> None:
        try:
            make(page, *arguments, **options)
        except Exception as error:  # such as matplotlib's about numbers that cannot be drawn
            text = f"the page is without {what}, which could not be made: {type(error).__name__}: {error}"
            page.warn(text)
            console.print(headed("warning:", "yellow", text))

    add("the result", _add_result, experiment, summary)
    add("the seeds", sections.add_seeds, experiment, summary)
    page.section("What was run")
    page.facts(
        {
            "network": f"{experiment.network.kind}, {seen.parameters:,} parameters",
            "data": f"{seen.data}: {seen.training_examples:,} training, {len(seen.targets):,} test examples",
        }
        | _origin(summary, folder)
        | {"weights": experiment.train.weights}
    )
    page.code(config.to_json(experiment), "config.json")
    add("the training", sections.add_training, seen.history, seen.score)
    if seen.conversion is not None:
        add("the conversion", sections.add_conversion, seen.conversion)
        add("the sweep", sections.add_sweep, summary.get("sweep", []), seen.score, summary["final"])
    add("the layers", sections.add_layers, seen)
    add("the delays", sections.add_delays, seen)
    add("the receptive fields", sections.add_receptive_fields, seen)
    add("the energy", energy.add, seen.energy, is_converted=seen.conversion is not None)
    add("the examples", sections.add_samples, seen)
    add("the mistakes", sections.add_mistakes, experiment, seen)
    page.write(folder / "report.html")


def write_study(study: config.Study, folder: Path, summary: Mapping[str, Any]) -> None:
    """Write the page of a study: one table of its stages, with links to their pages.

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


def _lead(experiment: config.Experiment, summary: Mapping[str, Any], seen: Evaluation) -> str:
    final, seconds, score = summary["final"], _duration(summary["seconds"]), seen.score
    examples = f"of the {len(seen.targets):,} test examples of {seen.data}"
    if "seeds" in summary:
        examples += f", the mean of {len(summary['seeds'])} networks"
    name = meaning.headline(experiment)
    if score != "accuracy":
        text = format_metric(score, final[name])
        return f"A mean {score} of {text} {examples.replace('of', 'on', 1)}, after {seconds} of training."
    if experiment.conversion is None:
        return f"Right on {final['test_accuracy']:.2%} {examples}, after {seconds} of training."
    return (
        f"The rate network is right on {final['test_accuracy']:.2%}, the spiking one, by "
        f"{meaning.decisions(experiment)[name]}, on {final[name]:.2%} {examples}, after {seconds} of training."
    )


def _add_result(page: Page, experiment: config.Experiment, summary: Mapping[str, Any]) -> None:
    page.section("Result")
    metrics = without_losses(summary["final"])
    rows = {row["metric"]: row for row in meaning.references(experiment, metrics)}
    decided = meaning.decisions(experiment)
    beside = summary.get("bptt", {})
    for name in dict.fromkeys([*rows, *metrics]):
        plain = {"metric": name, "result": format_metric(name, metrics.get(name))}
        by_bptt = {"by backpropagation through time": format_metric(name, beside.get(name))} if beside else {}
        rows[name] = rows.get(name, plain) | by_bptt | {"decided on": decided.get(name, "")}
    page.table(list(rows.values()))


def _origin(summary: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return where a summary comes from. Those of older runs say less."""
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
