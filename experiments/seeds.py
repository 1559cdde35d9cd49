"""Several networks of one experiment, trained at once: seeds and learning rates are one more axis of all arrays.

Each network starts from the weights, sees the batches and draws the random numbers that a run of its own with its seed
would. Where JAX sees several devices, they share the networks out.
"""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from rich.console import Console

from experiments.config import Experiment
from experiments.loop import Run
from jsnn.train import NotFinite
from jsnn.types import Array

_AXIS = "networks"
_NETWORKS = PartitionSpec(_AXIS)


def open_run(experiment: Experiment, folder: Path, console: Console, *, read_only: bool = False) -> Run:
    """Return the run of an experiment, of one network or of several; the arguments are those of `Run`."""
    several = experiment.seeds > 1 or experiment.learning_rates
    return (Seeds if several else Run)(experiment, folder, console, read_only=read_only)


def members(experiment: Experiment) -> list[Experiment]:
    """Return the experiments of one network each, every seed with the first learning rate, then with the next."""
    return [
        dataclasses.replace(
            experiment,
            seed=experiment.seed + index,
            seeds=1,
            learning_rates=(),
            optimizer=dataclasses.replace(experiment.optimizer, learning_rate=rate),
        )
        for rate in experiment.learning_rates or (experiment.optimizer.learning_rate,)
        for index in range(experiment.seeds)
    ]


class Seeds(Run):
    """A run of several networks; the arguments are those of `Run`.

    Its state, keys and batches have an axis of networks in front; its metrics are lists with a value for each.

    Raises:
        ValueError: if it is one of several processes.
    """

    def __init__(self, experiment: Experiment, folder: Path, console: Console, *, read_only: bool = False) -> None:
        if jax.process_count() > 1:
            raise ValueError(
                "seeds and learning_rates share the devices of one process: start it without --distributed"
            )
        super().__init__(experiment, folder, console, read_only=read_only, alone=True)
        self.runs = [
            Run(one, folder, console, read_only=True, alone=True, sets=self.sets) for one in members(experiment)
        ]
        devices = jax.devices()[: math.gcd(len(self.runs), len(jax.devices()))]
        self._mesh = Mesh(np.asarray(devices), (_AXIS,))
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[(run.state, run.key) for run in self.runs])
        self.state, self.key = jax.device_put(stacked, NamedSharding(self._mesh, _NETWORKS))
        rates = [jax.tree.leaves(run.state.optimizer) for run in self.runs[:: experiment.seeds]]  # of one seed
        if len(rates) > 1 and all((a == b).all() for a, b in zip(*rates[:2])):
            raise ValueError(
                f"learning_rates need an optimiser with the rate in its state: return optax.inject_hyperparams(...)("
                f"learning_rate=self.learning_rate) from {type(experiment.optimizer).__name__}.make"
            )
        for run in self.runs:
            del run.state  # the device holds them once
        self.pairs = [
            (
                jax.jit(self._for_each(advance, (0, None, None, 0, 0)), donate_argnums=0),
                jax.jit(self._for_each(sum_metrics, (0, None, None, None, None, 0, None))),
            )
            for advance, sum_metrics in self.runs[0].pairs
        ]

    @property
    def step(self) -> int:
        return int(self.state.step[0])

    @property
    def where(self) -> str:
        return f"{self._mesh.size} devices: {len(self.runs)} networks"

    def networks(self) -> list[Run]:
        for index, run in enumerate(self.runs):
            run.state = jax.tree.map(lambda leaf, i=index: jax.device_put(leaf[i], self._mesh.devices[0]), self.state)
        return self.runs

    def split(self, metrics: dict[str, Any]) -> list[dict[str, float]]:
        return [
            row
            for index, run in enumerate(self.runs)
            for row in run.split({name: values[index] for name, values in metrics.items()})
        ]

    def order(self, epoch: int) -> np.ndarray:
        return np.stack([run.order(epoch) for run in self.runs])

    def key_of(self, number: int) -> Array:
        return jax.vmap(lambda key: jax.random.fold_in(key, number))(self.key)

    def send(self, array: np.ndarray, rows: np.ndarray | None = None) -> Array:
        return jax.device_put(array if rows is None else array[rows], NamedSharding(self._mesh, PartitionSpec()))

    def finish_epoch(self, epoch: int, sums: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Return the means over the networks, for what is shown on the way, and the metrics of each in "networks"."""
        record = super().finish_epoch(epoch, sums, seconds)
        values = {name: value for name, value in record.items() if isinstance(value, list)}
        means = {name: float(np.mean(value)) for name, value in values.items()}
        return record | means | {"networks": self.split(values)}

    def check_finite(self, losses: np.ndarray) -> None:
        for run, of_one in zip(self.runs, losses):
            try:
                super().check_finite(of_one)
            except NotFinite as error:
                of_what = f"seed {run.experiment.seed}, learning rate {run.experiment.optimizer.learning_rate:g}"
                raise NotFinite(f"{of_what}: {error}") from None

    def _for_each(self, function: Callable[..., Any], axes: tuple[int | None, ...]) -> Callable[..., Any]:
        """Return a function of one network as a function of all; `axes` are those of `jax.vmap`, each 0 or None."""
        each = _one_by_one if self._mesh.devices[0].platform == "cpu" else jax.vmap
        specs = tuple(PartitionSpec() if axis is None else _NETWORKS for axis in axes)
        return jax.shard_map(
            each(function, axes), mesh=self._mesh, in_specs=specs, out_specs=_NETWORKS, check_vma=False
        )


def _one_by_one(function: Callable[..., Any], axes: tuple[int | None, ...]) -> Callable[..., Any]:
    """Return what `jax.vmap` would, computed one network after another: on a CPU batched products save no time.

    So done, each network gets the numbers of a run of its own, to the last bit. A batched product rounds otherwise.
    """

    def of_all(*arguments: Any) -> Any:
        def of_one(mapped: list[Any]) -> Any:
            rest = iter(mapped)
            return function(*(value if axis is None else next(rest) for value, axis in zip(arguments, axes)))

        return jax.lax.map(of_one, [value for value, axis in zip(arguments, axes) if axis is not None])

    return of_all
