"""Training as pure functions, and `fit`, which calls them for whole trainings."""

from jsnn.train.fitting import Fitted, fit
from jsnn.train.steps import (
    TrainState,
    create,
    make_advance,
    make_evaluate,
    make_step,
    network_of,
    unchanged,
)
from jsnn.train.trainer import Interrupted, NotFinite, Trainer

__all__ = [
    "Fitted",
    "Interrupted",
    "NotFinite",
    "TrainState",
    "Trainer",
    "create",
    "fit",
    "make_advance",
    "make_evaluate",
    "make_step",
    "network_of",
    "unchanged",
]
