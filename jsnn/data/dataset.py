"""Examples and their targets as plain arrays."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jsnn.arguments import check_parameters, checked, is_traced
from jsnn.padding import check_lengths


class Padded(NamedTuple):
    """Examples of different lengths, padded at the end: what a loss receives of a data set that has `lengths`."""

    inputs: Any
    """[B, T, ...]."""
    lengths: Any
    """[B], the steps that are not padding."""


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Examples and their targets in memory.

    `inputs` [N, ...] are uint8 in 0..255, floating point, or booleans such as spikes, which become float32: images
    [N, H, W, C], where [N, H, W] gains a channel axis, features [N, F], or with `in_time` signals [N, T, ...], where
    [N, T] gains an axis of one channel.

    `targets` are classes or values. Classes are integers from 0, kept as int32: [N], or, in time, [N, T] with one for
    each step. Values are floating point, kept as float32: [N, ...], or [N, T, ...] with some for each step.
    `num_classes` 0 stands for one more than the largest class; it stays 0 where the targets are values.

    Recordings of different lengths are padded at the end with finite numbers, and targets of each step with any class
    or value, such as 0. Their `lengths` are integers in 1..T, kept as int32.

    Raises:
        TypeError: if `lengths` are not integers.
        ValueError: for another shape or type, no examples at all, classes outside 0..num_classes - 1, inputs in memory
            or values that are not finite, `lengths` outside 1..T, or `lengths` of examples that are not in time.

    Examples:
        >>> Dataset(np.zeros((2, 8, 8), np.uint8), np.array([0, 3])).num_classes
        4
        >>> Dataset(np.zeros((2, 100, 3)), np.zeros((2, 100)), in_time=True).num_classes
        0
        >>> Dataset(np.zeros((2, 100, 3)), np.array([0, 3]), in_time=True, lengths=np.array([80, 100])).lengths.tolist()
        [80, 100]
    """

    inputs: np.ndarray
    """[N, ...], uint8 or floating point."""
    targets: np.ndarray
    """[N, ...], int32 or float32."""
    name: str = "arrays"
    num_classes: int = 0
    class_names: tuple[str, ...] = ()
    """Empty where unknown."""
    in_time: bool = False
    """The second axis of the inputs is time."""
    lengths: np.ndarray | None = None
    """[N], int32, the steps of each example that are not padding; None stands for all T."""

    def __post_init__(self) -> None:
        check_parameters(self)
        if not isinstance(self.class_names, tuple | list):
            raise TypeError(f"class_names must be a tuple of names, got {self.class_names!r}")
        if any(map(is_traced, (self.inputs, self.targets, self.lengths))):
            raise TypeError("inputs and targets must be known, got traced arrays: make a Dataset outside of jit")
        try:
            inputs, targets, lengths = map(np.asarray, (self.inputs, self.targets, self.lengths))
        except (TypeError, ValueError) as error:
            raise TypeError(f"inputs, targets and lengths must be arrays of numbers: {error}") from error
        object.__setattr__(self, "inputs", self._as_inputs(inputs))
        if targets.shape[:1] != inputs.shape[:1]:
            raise ValueError(f"inputs and targets must be as many, got shapes {inputs.shape} and {targets.shape}")
        if len(inputs) == 0:
            raise ValueError(f"data set {self.name!r} holds no examples")
        if self.lengths is not None:
            if not self.in_time:
                raise ValueError("lengths are for recordings, inputs [N, T, ...]: set in_time=True")
            check_lengths(lengths, inputs.shape[1], len(inputs))
            object.__setattr__(self, "lengths", lengths.astype(np.int32))
        if np.issubdtype(targets.dtype, np.integer):
            num_classes = self._count_classes(targets)
            object.__setattr__(self, "targets", targets.astype(np.int32))
            object.__setattr__(self, "num_classes", num_classes)
            return
        if not jnp.issubdtype(targets.dtype, jnp.floating):
            cure = "take np.unique(targets, return_inverse=True)[1] of names and booleans"
            raise ValueError(
                f"targets must be integers (classes) or floating point (values), got {targets.dtype}: {cure}"
            )
        if self.num_classes or self.class_names:
            raise ValueError(
                f"targets must be integers where there are classes, got {targets.dtype} of shape {targets.shape}: "
                f"{_cure(targets)}"
            )
        if not np.isfinite(targets).all():
            raise ValueError(f"targets must be finite, got {targets[~np.isfinite(targets)][0]}")
        object.__setattr__(self, "targets", targets.astype(np.float32))

    def _as_inputs(self, inputs: np.ndarray) -> np.ndarray:
        if inputs.ndim == (2 if self.in_time else 3):
            inputs = inputs[..., None]
        if inputs.ndim < (3 if self.in_time else 2):
            wanted = "[N, T, ...]" if self.in_time else "[N, H, W, C] or [N, F]"
            raise ValueError(f"inputs must have shape {wanted}, got {inputs.shape}")
        if inputs.dtype == np.bool_:
            return inputs.astype(np.float32)
        inputs = inputs.astype(inputs.dtype.newbyteorder("="), copy=False)  # JAX takes no other order
        if inputs.dtype != np.uint8 and not jnp.issubdtype(inputs.dtype, jnp.floating):
            raise ValueError(f"inputs must be uint8 (0..255) or floating point, got {inputs.dtype}: convert them")
        on_disk = any(isinstance(one, np.memmap) for one in (self.inputs, getattr(self.inputs, "base", None)))
        if inputs.size and inputs.dtype != np.uint8 and not on_disk:  # which is read when it is looked at
            once = inputs[tuple(slice(None if stride else 1) for stride in inputs.strides)]  # a broadcast has copies
            for bound in (once.min(), once.max()):
                if not np.isfinite(bound):
                    raise ValueError(f"inputs must be finite, got {bound}")
        return inputs

    def _count_classes(self, targets: np.ndarray) -> int:
        of_steps = self.in_time and targets.shape == self.inputs.shape[:2]
        if targets.ndim != 1 and not of_steps:
            raise ValueError(
                f"classes must be integers of shape [N], or [N, T] in time, got {targets.dtype} of shape "
                f"{targets.shape}: {_cure(targets)}"
            )
        num_classes = self.num_classes or len(self.class_names) or min(max(int(targets.max()) + 1, 1), 2**31 - 1)
        if self.class_names and len(self.class_names) != num_classes:
            raise ValueError(f"class_names must be one for each of {num_classes} classes, got {self.class_names}")
        if targets.min() < 0 or targets.max() >= num_classes:
            raise ValueError(
                f"classes must lie in 0..{num_classes - 1}, got values from {targets.min()} to {targets.max()}"
                + ": padding takes any class, such as 0" * (of_steps and self.lengths is not None)
            )
        return num_classes

    @property
    def examples(self) -> np.ndarray | Padded:
        """The inputs, with their lengths where they have any: what training hands to a loss."""
        return self.inputs if self.lengths is None else Padded(self.inputs, self.lengths)

    def rows(self, index: Any) -> tuple[Any, np.ndarray]:
        """Return some examples and their targets, as a loss receives them."""
        if self.lengths is None:
            return self.inputs[index], self.targets[index]
        return Padded(self.inputs[index], self.lengths[index]), self.targets[index]

    @property
    def images(self) -> np.ndarray:
        """The inputs, by the name that fits images."""
        return self.inputs

    @property
    def labels(self) -> np.ndarray:
        """The targets, by the name that fits classes."""
        return self.targets

    def __len__(self) -> int:
        return len(self.targets)


def _cure(targets: np.ndarray) -> str:
    """Return how targets become classes."""
    if targets.shape[-1:] == (1,):
        return "take targets[..., 0].astype(int)"
    return "take targets.astype(int)" if targets.ndim == 1 else "one-hot classes become integers by targets.argmax(-1)"


@checked
def subset(dataset: Dataset, factor: int) -> Dataset:
    """Return every `factor`-th example, 1/factor of the data set; the number of classes stays.

    snnTorch's `utils.data_subset` takes as many, but as a block, the first of them: `load(name, "train[:6000]")`.

    Raises:
        ValueError: `factor` is not within 1..N.

    Examples:
        >>> import jsnn
        >>> digits = jsnn.data.load("digits", "train")
        >>> len(digits), len(subset(digits, 10))
        (1437, 144)
    """
    if not 1 <= factor <= len(dataset):
        raise ValueError(f"factor must lie in 1..{len(dataset)}, the number of examples, got {factor}")
    lengths = None if dataset.lengths is None else dataset.lengths[::factor]
    return dataclasses.replace(
        dataset, inputs=dataset.inputs[::factor], targets=dataset.targets[::factor], lengths=lengths
    )
