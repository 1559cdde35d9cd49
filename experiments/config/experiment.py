"""A training run, and a study of several."""

from typing import Annotated, Any

import pydantic
import tyro
from pydantic import AfterValidator, PositiveFloat, PositiveInt

from experiments.config.conversion import Conversion, Sweep
from experiments.config.training import Mesh, Train
from experiments.parts.base import LARGEST_SEED, Name, OneOf, Seed, Settings, unique
from experiments.parts.data import Data, Examples
from experiments.parts.encoders import Direct, Encoder
from experiments.parts.learning import Bptt, Learning
from experiments.parts.loggers import Logger, Tensorboard
from experiments.parts.networks import Feedforward, Network
from experiments.parts.objectives import Objective
from experiments.parts.optimizer import Optimizer


class Reference(Settings):
    """What others reach, to stand beside a result."""

    value: float
    source: str = ""
    """Where the number comes from, such as "run with its own library on the same files"; "" where nobody says."""


def _as_reference(value: Any) -> Any:
    """Return a number alone, as older configs have it, as the fields of a `Reference`."""
    return value if isinstance(value, dict | Reference) else {"value": value}


class Experiment(Settings):
    """One training run, from data set to numbers."""

    name: Name = "experiment"
    """Names the run's folder."""
    seed: Seed = 0
    """Of the weights, the order of the data, and every random encoder."""
    seeds: PositiveInt = 1
    """How many networks are trained at once, with the seeds from `seed` on; what is reported is their mean."""
    learning_rates: Annotated[tuple[PositiveFloat, ...], AfterValidator(unique)] = ()
    """Train the networks with each of these, all at once, and report that of the best; () for optimizer's alone."""
    num_steps: PositiveInt = 32
    """Time steps T of the simulation."""
    data: Annotated[Examples, OneOf(Examples)] = Data()
    encoder: Annotated[Encoder, OneOf(Encoder)] = Direct()
    network: Annotated[Network, OneOf(Network)] = Feedforward()
    objective: Objective = Objective()
    learning: Annotated[Learning, OneOf(Learning)] = Bptt()
    optimizer: Annotated[Optimizer, OneOf(Optimizer)] = Optimizer()
    train: Train = Train()
    mesh: Mesh = Mesh()
    logger: Annotated[Logger, OneOf(Logger)] = Tensorboard()
    conversion: Conversion | None = None
    """What becomes of a rate network when it is trained; None leaves it as it is."""
    sweep: Sweep = Sweep()
    reference: dict[str, Annotated[Reference, pydantic.BeforeValidator(_as_reference)]] = pydantic.Field(
        default_factory=dict
    )
    """What others reach, by the name of the metric in the summary, to stand beside the result."""
    reduced_from: tyro.conf.Suppress[dict[str, int | str]] = pydantic.Field(default_factory=dict)
    """What the config had where the command line set fewer epochs or other data; the runner writes it."""

    def __post_init__(self) -> None:
        data, encoder, network, train = self.data, self.encoder, self.network, self.train
        if encoder.needs_unit_range and isinstance(data, Data) and (any(data.mean) or set(data.std) != {1.0}):
            raise ValueError(
                f"encoder {encoder.kind!r} needs pixels in [0, 1], got data.mean {data.mean} and "
                f"data.std {data.std}: leave them at 0 and 1"
            )
        if self.conversion is not None and not network.is_rate:
            raise ValueError(f"conversion needs a rate network, such as rate_conv or rate_dense, got {network.kind!r}")
        if network.is_rate and encoder != Direct():
            raise ValueError(
                f"a rate network sees the images themselves: leave encoder at 'direct', got {encoder.kind!r}"
            )
        if network.is_rate and train.gradient != "surrogate":
            raise ValueError(f"train.gradient {train.gradient!r} needs a spiking network, got {network.kind!r}")
        rates = {"train.short_rates": train.short_rates, "objective.rate_penalty": self.objective.rate_penalty}
        for key, rate in rates.items():
            if rate and train.gradient == "eventprop":  # of spike times, which a rate does not know
                raise ValueError(
                    f"train.gradient 'eventprop' has no gradients of rates, got {key} = {rate}: leave it out, or "
                    f"take train.gradient 'surrogate'"
                )
        if not isinstance(self.learning, Bptt):  # whose rule is not made here, as that takes JAX
            for name, value, needed in (
                ("train.precision", train.precision, "float32"),
                ("train.gradient", train.gradient, "surrogate"),
                ("train.method", train.method == "fused", False),
                ("network.is_rate", network.is_rate, False),
                ("objective.rate_penalty", self.objective.rate_penalty, 0.0),
            ):
                if value != needed:
                    raise ValueError(
                        f"learning {self.learning.kind!r} needs {name} {needed}, got {value}: it sees a step at a time"
                    )
        if data.reconstruct and self.objective.loss.of_classes:
            raise ValueError(f"data.reconstruct needs a loss of values, such as mse, got {self.objective.loss.kind!r}")
        if self.conversion is None and self.sweep != Sweep():
            raise ValueError(f"sweep needs a conversion to vary, got conversion None and {self.sweep}")
        if self.objective.dt_end is not None and not hasattr(network, "dt"):
            raise ValueError(f"objective.dt_end needs a network with a dt, got {network.kind!r}")
        if train.short_epochs > train.epochs:
            raise ValueError(
                f"train.short_epochs must be at most train.epochs, got {train.short_epochs} of {train.epochs}"
            )
        if train.patience is not None and data.validation_split is None:
            raise ValueError(
                "train.patience needs data.validation_split, got None: set aside a part of the training set, as in "
                "--data.validation-split train[90%:] --data.train-split train[:90%]"
            )
        if self.seed + self.seeds - 1 > LARGEST_SEED:
            raise ValueError(f"seed + seeds - 1 must be at most {LARGEST_SEED}, got {self.seed} + {self.seeds} - 1")
        if self.seeds > 1 or self.learning_rates:
            if self.sweep != Sweep():
                raise ValueError(f"sweep needs seeds 1 and no learning_rates, got {self.seeds}, {self.learning_rates}")
            if self.mesh != Mesh():
                raise ValueError(f"several seeds or learning rates share the devices: leave mesh out, got {self.mesh}")


class Study(Settings):
    """Several experiments, one after the other, with one table at the end."""

    name: Name
    """Names the run's folder."""
    stages: tuple[Experiment, ...]
    """What is run, each in a folder of its own name."""

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        taken = {name.lower() for name in names} - {"config.json", "own_parts.py", "summary.json", "report.html"}
        if not names or len(taken) < len(names):
            raise ValueError(f"the stages of a study need names of their own, got {names}")
