"""The yin-yang task: points in the plane, in three classes that no straight lines part. Made, not loaded."""

import jax
import numpy as np

from jsnn.arguments import check_memory, checked
from jsnn.data.dataset import Dataset
from jsnn.types import Array

CLASS_NAMES = ("yin", "yang", "dot")
SPLITS = {"train": 5000, "validation": 1000, "test": 1000}


@checked
def yin_yang(key: Array, num_examples: int) -> Dataset:
    """Return points of the yin-yang symbol as (x, y, 1 - x, 1 - y), and the part of it in which each lies.

    The symbol is the circle around (0.5, 0.5) with radius 0.5; its dots, around (0.25, 0.5) and (0.75, 0.5), have
    radius 0.1. The classes have equal probabilities, and the points of a class are spread evenly over its part. For a
    network of spikes the four numbers are times of spikes, with one more spike, at 0, for a bias.

    `jsnn.data.load("yin_yang", split)` has 5,000 for "train", and 1,000 each for "validation" and "test", always the
    same.

    Source: Kriener, Göltz and Petrovici, "The Yin-Yang dataset" (NICE 2022), whose numbers of the classes these are.

    Args:
        key: made by `jax.random.key`.
        num_examples: N, at least 1.

    Returns:
        inputs `[N, 4]`, float32, and classes 0..2: yin, yang, dot.

    Raises:
        ValueError: if `num_examples` is below 1.

    Examples:
        >>> import jax
        >>> points = yin_yang(jax.random.key(0), 300)
        >>> points.inputs.shape, points.class_names
        ((300, 4), ('yin', 'yang', 'dot'))
    """
    if num_examples < 1:
        raise ValueError(f"num_examples must be >= 1, got {num_examples}")
    check_memory("the points", (num_examples, 4), copies=16)
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    labels = random.integers(0, 3, num_examples)
    points = np.empty((num_examples, 2), np.float32)
    for label in range(3):
        missing = np.flatnonzero(labels == label)
        while len(missing):
            drawn = random.random((16 * len(missing), 2), np.float32)
            found = drawn[_class_of(drawn) == label][: len(missing)]
            points[missing[: len(found)]] = found
            missing = missing[len(found) :]
    return Dataset(np.concatenate([points, 1 - points], 1), labels, "yin_yang", 3, CLASS_NAMES)


def _class_of(points: np.ndarray) -> np.ndarray:
    """Return the class of points [N, 2], -1 outside of the circle."""
    x, y = points.astype(float).T - 0.5
    left, right = np.hypot(x + 0.25, y), np.hypot(x - 0.25, y)  # distances from the dots
    is_yang = (left <= 0.25) | ((y > 0) & (right > 0.25))
    is_dot = np.minimum(left, right) <= 0.1
    return np.where(np.hypot(x, y) > 0.5, -1, np.where(is_dot, 2, is_yang))


def read_split(split: str) -> Dataset:
    """Return one of the splits that `jsnn.data.load` has."""
    return yin_yang(jax.random.key(list(SPLITS).index(split)), SPLITS[split])
