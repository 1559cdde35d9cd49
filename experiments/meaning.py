"""What the numbers of a run mean: how each was decided, where its reference comes from, what the run had less of."""

import contextlib
import operator
from collections.abc import Mapping
from pathlib import Path

from experiments import config
from experiments.config import Experiment
from experiments.summary import format_metric

_UNKNOWN = "the config does not say"


def headline(experiment: Experiment) -> str:
    """Return the metric that stands for a network; of a converted one that with a reference, else that of the mean."""
    last, mean, test = (f"{name}_{experiment.objective.loss.score}" for name in ("last", "mean", "test"))
    if experiment.conversion is None:
        return test
    return last if last in experiment.reference and mean not in experiment.reference else mean


def decisions(experiment: Experiment) -> dict[str, str]:
    """Return what each accuracy of a run was decided on, by the name of the metric."""
    settings, loss = experiment.conversion, experiment.objective.loss
    if settings is not None:
        steps, last = settings.num_steps, min(settings.last_steps, settings.num_steps)
        mean = f"the last {last} of {steps} steps" if last < steps else f"all {steps} steps"
        return {
            f"test_{loss.score}": "the rate network's output",
            f"last_{loss.score}": config.Last.text.format(steps),
            f"mean_{loss.score}": f"the mean output over {mean}",
        }
    steps = experiment.num_steps
    if experiment.network.is_rate:
        return {f"test_{loss.score}": "the rate network's output"}
    every, decoder = f"the output of each of {steps} steps", experiment.objective.decoder
    decided = {
        f"test_{loss.score}": every if loss.in_time else decoder.text.format(steps),
        f"last_{loss.score}": config.Last.text.format(steps),
    }
    return decided if loss.in_time else decided | {f"mean_{loss.score}": config.Mean.text.format(steps)}


def references(experiment: Experiment, metrics: Mapping[str, float]) -> list[dict[str, str]]:
    """Return a row for each reference of an experiment: the metric, the result, the reference and its source."""
    return [
        {
            "metric": name,
            "result": format_metric(name, metrics.get(name)),
            "reference": format_metric(name, reference.value),
            "source of the reference": reference.source or _UNKNOWN,
        }
        for name, reference in experiment.reference.items()
    ]


def less(experiment: Experiment) -> list[str]:
    """Return what a run had less of than the config it came from, such as "train.epochs 1, not 10".

    Other data count as less, as the numbers are not those of the config. Weights that another run has trained had less
    if that run had, as long as its folder is there.
    """
    found = []
    for name, full in experiment.reduced_from.items():
        now = operator.attrgetter(name)(experiment)
        if now < full if isinstance(now, int) and isinstance(full, int) else now != full:
            found.append(f"{name} {now}, not {full}")
    if experiment.train.weights is not None:
        with contextlib.suppress(OSError, ValueError):
            trained = config.from_json((Path(experiment.train.weights) / "config.json").read_text("utf-8"))
            if isinstance(trained, Experiment):
                found += [f"weights trained with {one}" for one in less(trained)]
    return found


def warning(missing: list[str]) -> str:
    """Return a sentence for a run that had less than its config."""
    return (
        f"This run had less than the config that it came from: {', '.join(missing)}. Its numbers need not be those of "
        f"the config, and are not to be compared with any reference."
    )
