"""The results of a trained network on the test set, and their file, from which the page of a run is made."""

import io
import json
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np
import pydantic
from pydantic.dataclasses import dataclass

from experiments.files import write_whole
from jsnn.files import FileError, Npz

NAME = "evaluation.npz"
_TEXT = "values"  # the name of all that is not an array, in the file


def _put(array: np.ndarray, info: pydantic.FieldSerializationInfo) -> str:
    arrays: Any = info.context
    name = str(len(arrays))
    arrays[name] = array
    return name


def _get(value: Any, info: pydantic.ValidationInfo) -> np.ndarray:
    arrays: Any = info.context
    return value if isinstance(value, np.ndarray) else arrays[value]


Values: TypeAlias = Annotated[np.ndarray, pydantic.PlainValidator(_get), pydantic.PlainSerializer(_put)]


@dataclass(frozen=True)
class LayerActivity:
    """How the neurons of a layer fired for the test examples."""

    name: str
    rates: Values  # [N], spikes per step
    silent: Values  # [N], no spike for any example
    saturated: Values  # [N], at least as many spikes as steps, for every example
    spikes: float  # of the whole layer for one example


@dataclass(frozen=True)
class LayerTrace:
    """The spikes and states of a layer of neurons for one example."""

    spikes: Values  # [T, N], how many
    traced: Values  # [K], a few of the N neurons
    states: dict[str, Values]  # [T, K] of these by name, such as "v"
    threshold: Values | None  # [K], of v


@dataclass(frozen=True)
class Sample:
    """The outputs and layers of a network for one example."""

    index: int  # in the test set
    example: Values  # [H, W, C] of an image
    inputs: Values | None  # [T, N], the spikes that the network received; None of currents
    outputs: Values  # [T, ...]
    prediction: Values
    layers: dict[str, LayerTrace]


@dataclass(frozen=True)
class Activation:
    """An activation of a converted network beside the rate that it stands for, see jsnn.conversion.diagnose."""

    name: str
    relative_error: float
    cosine_similarity: float
    silent: float
    saturated: float
    rate: float
    spikes: float
    output_error: float


@dataclass(frozen=True)
class ConversionReport:
    """Which activations a conversion replaced, and the error of each."""

    replaced: str
    diagnosis: str
    activations: list[Activation]
    examples: int  # that the diagnosis is of


@dataclass(frozen=True)
class NetworkEnergy:
    """What one inference of a network takes, see jsnn.energy.compare."""

    name: str
    metrics: dict[str, int | float | None]
    weights: list[dict[str, Any]]  # a row for each array of weights
    joules: dict[str, float | None]  # by device


@dataclass(frozen=True)
class Evaluation:
    """The results of a trained network for the N test examples, each shown for T steps."""

    data: str
    training_examples: int
    parameters: int
    dt: float | None  # s, None where the network knows only steps
    class_names: list[str]  # empty where the targets are not classes
    score: str  # the metric by which answers are compared, such as "accuracy"
    score_by_step: Values  # [T], deciding on the output of each step
    mean_score_by_step: Values  # [T], deciding on the mean output up to each step
    targets: Values  # [N, ...]
    predictions: Values  # [N, ...]
    losses: Values  # [N]
    layers: list[LayerActivity]
    metrics: dict[str, float]
    samples: list[Sample]
    worst: list[int]  # the examples whose answers are most wrong
    worst_examples: Values  # [K, H, W, C] of images
    energy: list[NetworkEnergy]
    conversion: ConversionReport | None
    history: list[dict[str, Any]]  # what was written down of the epochs
    lengths: Values | None = None  # [N], steps that are not padding
    delays: dict[str, Values] = pydantic.Field(default_factory=dict)  # learned ones by layer, in steps
    # learned without labels, of one-channel images, by layer, [H, W, 1, N]
    receptive_fields: dict[str, Values] = pydantic.Field(default_factory=dict)

    @property
    def answered(self) -> np.ndarray:
        """Return whether each target counts, `[N, ...]`: those of steps in the padding do not."""
        return answered(self.targets, self.lengths)

    @property
    def is_right(self) -> np.ndarray:
        """Whether each answer of a class is right, `[answers]`; one whose loss is NaN is not."""
        finite = ~np.isnan(self.losses).reshape(-1, *[1] * (self.targets.ndim - 1))
        return ((self.predictions == self.targets) & finite)[self.answered]

    def save(self, folder: Path) -> None:
        """Write the file into the folder of a run, whole or not at all.

        Raises:
            OSError: if it cannot be written.
        """
        arrays: dict[str, np.ndarray] = {}
        text = json.dumps(_ADAPTER.dump_python(self, context=arrays))
        buffer = io.BytesIO()
        arrays[_TEXT] = np.frombuffer(text.encode(), np.uint8)
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        write_whole(folder / NAME, buffer.getvalue())


def answered(targets: np.ndarray, lengths: np.ndarray | None) -> np.ndarray:
    """Return whether each class, [N] or [N, T], counts: those of steps after the `lengths` [N] of an example do not."""
    if lengths is None or targets.ndim == 1:
        return np.ones(targets.shape, bool)
    return np.arange(targets.shape[1]) < lengths[:, None]


_ADAPTER = pydantic.TypeAdapter(Evaluation)


def load(folder: Path) -> Evaluation:
    """Return the evaluation of a run that has finished.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if its file is damaged.
    """
    path = folder / NAME
    again = f"make it again with --resume {folder}"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {NAME}, which earlier versions did not write: {again}")
    try:
        with Npz(path) as file:
            arrays = {name: file.read(name) for name in file.names}
        return _ADAPTER.validate_python(json.loads(arrays.pop(_TEXT).tobytes()), context=arrays)
    except (FileError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}: {error}): {again}") from error
