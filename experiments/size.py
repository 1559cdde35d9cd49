"""Whether a run has room, and its parts fit together, before anything of it is made."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax

from experiments.config import Experiment, Sets
from jsnn import memory
from jsnn.train.steps import Loss, Network, metrics_of


def check_weights(experiment: Experiment, make: Callable[[], Any]) -> None:
    """Raise MemoryError if the networks of an experiment take more memory than the device has.

    Args:
        experiment: it says how many networks there are.
        make: makes the state of one, its weights and the optimiser's memory; it is traced only.
    """
    networks = experiment.seeds * max(1, len(experiment.learning_rates))
    one = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(jax.eval_shape(make)))
    what = "the network with its optimiser" if networks == 1 else f"the whole of {networks} networks"
    memory.check_fits(networks * one, what=what, cure="take fewer neurons or channels, or fewer seeds")


def check_batch(experiment: Experiment, network: Network, sets: Sets, losses: Sequence[Loss]) -> None:
    """Raise ValueError if the data, the encoder, the network and the loss do not fit together; they are traced only."""
    size, loss = experiment.train.batch_size, experiment.objective.loss
    for of_batch, dataset in zip((losses[0], losses[1], losses[1]), sets):
        if dataset is not None and loss.score not in metrics_of(of_batch, network, dataset, size):
            raise ValueError(f"objective.loss {loss.kind!r} must have its score {loss.score!r} among its metrics")
