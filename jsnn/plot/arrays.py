"""What the pictures accept: arrays checked early, with errors that name the value and the cure."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from jsnn.arguments import is_traced


def numbers(name: str, values: ArrayLike) -> np.ndarray:
    """Return a NumPy or JAX array, or a list, as a NumPy array of booleans, integers or floats that is not empty."""
    if is_traced(values):
        raise TypeError(f"{name} must be known to be drawn, got a traced array: draw outside of jit")
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be an array of numbers, got {type(values).__name__}: {error}") from error
    if array.dtype.kind not in "biuf":
        if "float" not in array.dtype.name:
            raise TypeError(f"{name} must be real numbers, got {type(values).__name__} of dtype {array.dtype}")
        array = array.astype(np.float32)  # bfloat16 and its like, which matplotlib does not know
    if array.size == 0:
        raise ValueError(f"{name} must not be empty, got shape {array.shape}")
    return array


def finite(name: str, values: ArrayLike) -> np.ndarray:
    """Return what `numbers` does; raise ValueError if a value is NaN or infinite."""
    array = numbers(name, values)
    bad = ~np.isfinite(array)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(f"{name} must be finite, got {array[where]} at {list(where)}")
    return array


def by_name(name: str, values: ArrayLike | Mapping[str, ArrayLike]) -> dict[str, tuple[str, ArrayLike]]:
    """Return one array or several with names, as {what a legend calls it: (what an error calls it, array)}."""
    if not isinstance(values, Mapping):
        return {"": (name, values)}
    if not values:
        raise ValueError(f"{name} must not be empty, got no array by name")
    return {str(key): (f"{name}[{key!r}]", array) for key, array in values.items()}


def one_sample(name: str, values: ArrayLike, sample: int | None) -> np.ndarray:
    """Return [T, N] as it is, or one sample of [T, B, ...], all its neurons in one axis."""
    array = finite(name, values)
    if sample is None and array.ndim != 2:
        cure = f"choose a sample of the batch, sample=0..{array.shape[1] - 1}" if array.ndim > 2 else "put time first"
        raise ValueError(f"{name} must be [T, N], got shape {array.shape}: {cure}")
    if sample is None:
        return array
    if array.ndim < 3:
        raise ValueError(f"{name} must be [T, B, ...] for a sample to be chosen, got shape {array.shape}: leave it out")
    if not 0 <= sample < array.shape[1]:
        raise ValueError(f"sample must be in 0..{array.shape[1] - 1}, got {sample}")
    return array[:, sample].reshape(len(array), -1)


def of_neurons(name: str, values: ArrayLike, sample: int | None) -> np.ndarray:
    """Return what `one_sample` does; [T] is one neuron, [T, 1]."""
    array = finite(name, values)
    return one_sample(name, array[:, None] if array.ndim == 1 and sample is None else array, sample)


def all_samples(name: str, values: ArrayLike) -> np.ndarray:
    """Return [T, B, ...] as [T, B, N]; [T, N] is one sample, [T] one neuron of it."""
    array = finite(name, values)
    if array.ndim == 0:
        raise ValueError(f"{name} must be [T], [T, N] or [T, B, ...], got one number")
    array = array[:, None] if array.ndim == 1 else array
    return array.reshape(len(array), -1 if array.ndim > 2 else 1, int(np.prod(array.shape[2:] or array.shape[1:])))


def check_spikes(name: str, values: np.ndarray) -> None:
    """Raise ValueError if values [T, ...] do not look like spikes.

    Spikes are whole numbers; or, where a spike has another height, half of the values or more are zero, and each
    neuron's others are multiples of its lowest. (The height may differ between neurons, as in a converted network.)
    """
    if np.allclose(values, np.round(values), rtol=1e-6, atol=0):
        return
    magnitudes = np.abs(values.reshape(len(values), -1)).astype(np.float64)
    lowest = np.min(np.where(magnitudes > 0, magnitudes, np.inf), axis=0)
    counts = magnitudes / lowest
    fractional = np.abs(counts - np.round(counts)) > 0.05  # bfloat16 is that coarse
    if np.mean(values == 0) >= 0.5 and not fractional.any():
        return
    train = values.reshape(len(values), -1)[:, fractional.any(axis=0).argmax()]
    examples = ", ".join(f"{value:.4g}" for value in train[train != 0][:3])
    raise ValueError(
        f"{name} must be spikes, zeros and whole multiples of one height, got {examples}: draw membranes and rates "
        f"with plot.traces, or make spikes of them, v > threshold; pass spikes of several heights as spikes != 0"
    )


def spike_numbers(name: str, values: np.ndarray, height: ArrayLike) -> np.ndarray:
    """Return how many spikes stand in each value: |values| / height, rounded to whole numbers."""
    height = finite("height", height)
    if np.any(height <= 0):
        raise ValueError(f"height must be > 0, got {height.min()}")
    try:
        counts = np.abs(values.astype(np.float64)) / height
    except ValueError as error:
        raise ValueError(f"height must fit the neurons of {name} {values.shape}, got shape {height.shape}") from error
    if counts.max() >= 2**31:
        raise ValueError(f"{name} must be below 2^31 spikes a step, got {counts.max():.4g}: set height")
    whole = np.round(counts)
    wrong = np.abs(counts - whole) > 0.05
    if wrong.any():
        where = tuple(np.argwhere(wrong)[0])
        raise ValueError(
            f"{name} must be whole multiples of the height of a spike, got {values[where]:.4g} with height "
            f"{np.broadcast_to(height, values.shape)[where]:.4g}: set height, 1 / dt for a SpikingActivation"
        )
    return whole


def labels(name: str, values: ArrayLike, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Return integer labels >= 0, [B] or of the shape given."""
    array = numbers(name, values)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integer labels, got {array.dtype}")
    if (array.ndim != 1) if shape is None else (array.shape != shape):
        wanted = "be [B]" if shape is None else f"have shape {shape}"
        raise ValueError(f"{name} must {wanted}, got shape {array.shape}")
    if array.min() < 0:
        raise ValueError(f"{name} must be >= 0, got {array.min()}")
    return array
