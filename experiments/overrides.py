"""Which fields of an existing run may be changed: only those that do not change the numbers it has trained."""

import dataclasses
import math
import operator
from typing import Any

from experiments import config
from experiments.config import Experiment

_WHERE = ("mesh", "data.residence")  # where a run lies changes its numbers by rounding alone
# what is made of the trained weights, anew at every end
_AFTERWARDS = ("name", "logger", "reference", "reduced_from", "conversion", "sweep")
_SIZE = ("train.epochs", "data.name", "data.train_split", "data.test_split")  # what a run may have less of
_SHOWN = ("data", "encoder", "num_steps", "train.eval_batch_size")  # what an evaluation shows the network


class _Nothing:
    """The value of a field that is not there, which is no None."""

    def __str__(self) -> str:
        return "nothing"


_NOTHING = _Nothing()


def changes(before: config.Config, after: config.Config) -> list[str]:
    """Return what differs between two configs, such as "train.epochs 20 in place of 10"."""
    found = _differences("", config.to_values(before), config.to_values(after))
    return [f"{name} {now} in place of {then}" for name, then, now in found]


def remember(before: config.Config, after: config.Config) -> config.Config:
    """Return `after` with what `before` has more of, its epochs and data, so that the run's page can say so."""
    if isinstance(before, config.Study) and isinstance(after, config.Study):
        stages: Any = tuple(map(remember, before.stages, after.stages))
        return dataclasses.replace(after, stages=stages)
    if not (isinstance(before, Experiment) and isinstance(after, Experiment)):
        return after
    old, new = (dict(zip(_SIZE, operator.attrgetter(*_SIZE)(one))) for one in (before, after))
    changed = {name: value for name, value in old.items() if value != new[name]}
    return dataclasses.replace(after, reduced_from=changed | before.reduced_from)


def check_resume(before: Experiment, after: Experiment, trained: int) -> None:
    """Raise ValueError if a run cannot go on with another config, as the result would be that of neither.

    Args:
        before: what was trained.
        after: what is to be trained.
        trained: the epochs that are done or begun.
    """
    free = [*_WHERE, *_AFTERWARDS]
    own = type(after.network).at_step, type(after.optimizer).make  # may depend on how many steps there are in all
    steady = own == (config.Network.at_step, config.Optimizer.make)
    steady &= after.optimizer.schedule == "constant" and after.objective.dt_end is None
    steady &= after.train.short_epochs not in (
        before.train.epochs,
        after.train.epochs,
    )  # if all are, they have scores
    if steady and after.train.epochs >= trained:  # the steps that are done do not depend on those to come
        free.append("train.epochs")
    if (after.train.patience or math.inf) >= (before.train.patience or math.inf):
        free.append("train.patience")
    refused = _refused(before, after, free)
    if refused and not steady and any(name.startswith("train.epochs") for name in refused):
        refused.append("the schedule of the training depends on its epochs")
    if refused:
        raise ValueError(
            f"{', '.join(refused)}: {trained} epochs were trained otherwise, and a run is of one piece. Leave it out, "
            f"or begin a new run: the run's config.json is a config too"
        )


def check_evaluate(before: Experiment, after: Experiment) -> None:
    """Raise ValueError if an override says how the network was trained, or has no part in an evaluation."""
    refused = _refused(before, after, [*_WHERE, *_SHOWN])
    if refused:
        raise ValueError(
            f"{', '.join(refused)}: an evaluation takes the trained network as it is. Only {', '.join(_SHOWN)} and "
            f"{' and '.join(_WHERE)} can be others"
        )


def check_study(before: config.Study, after: config.Study) -> None:
    """Raise ValueError if a study is to go on with other settings."""
    refused = _refused(before, after, [])
    if refused:
        raise ValueError(f"{', '.join(refused)}: a study goes on as it was begun. Leave it out, or begin a new one")


def _refused(before: config.Config, after: config.Config, free: list[str]) -> list[str]:
    within = tuple(f"{name}." for name in free)
    return [text for text in changes(before, after) if not f"{text.split(' ', 1)[0]}.".startswith(within)]


def _differences(name: str, old: Any, new: Any) -> list[tuple[str, Any, Any]]:
    """Return the dotted name, of which `name` is the beginning, and both values of each field that differs."""
    if _are_stages(old) and _are_stages(new):
        old, new = dict(enumerate(old)), dict(enumerate(new))
    if isinstance(old, dict) and isinstance(new, dict):
        pairs = [(f"{name}.{key}".lstrip("."), old.get(key, _NOTHING), new.get(key, _NOTHING)) for key in old | new]
        return [one for pair in pairs for one in _differences(*pair)]
    return [] if old == new else [(name, old, new)]


def _are_stages(value: Any) -> bool:
    """Return whether a value is a list of settings, such as the stages of a study."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)
