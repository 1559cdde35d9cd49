"""Recordings of event cameras, binned into frames that a network can be unrolled over."""

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from jsnn import rounding
from jsnn.arguments import check_memory
from jsnn.types import as_shape

# A structured array or a mapping with fields t, x, y, p, or those four arrays in that order.
Events: TypeAlias = np.ndarray | Mapping[str, ArrayLike] | Sequence[ArrayLike]


def bin_events(
    events: Events,
    shape: tuple[int, int, int],
    *,
    num_bins: int | None = None,
    window: float | None = None,
    events_per_bin: int | None = None,
) -> np.ndarray:
    """Count the events of a recording per time bin, pixel and polarity; every event is counted exactly once.

    Exactly one option says how time is cut, t0 and t1 being the first and last time in the recording:

    * `num_bins`: T equal spans of t0..t1; an event at t1 belongs to the last.
    * `window`: bin k holds t0 + k*window <= t < t0 + (k+1)*window; T reaches up to the bin of t1.
    * `events_per_bin`: that many successive events each, the last bin perhaps fewer; equal times keep their
      order.

    Args:
        events: times `t` in any unit and any order, column `x`, row `y` and polarity `p` (integers or
            booleans): a structured array, a mapping, or a tuple (t, x, y, p), each array [N].
        shape: (H, W, P) of a frame, so that 0 <= y < H, 0 <= x < W, 0 <= p < P.
        num_bins: the number of frames.
        window: the length of a bin in the unit of `t`. Integer times, such as microseconds, with a whole window are
            cut exactly. Of times in seconds, one that lies before a bin by no more than the rounding of its dtype,
            8 eps max |t|, belongs to that bin: 0, 0.1, ..., 1.0 fill eleven windows of 0.1.
        events_per_bin: the number of events in a frame.

    Returns:
        float32 counts [T, H, W, P].

    Raises:
        TypeError: if times are not numbers, or the option is not one.
        ValueError: if there are no events, fields are missing or of unequal length, coordinates lie outside `shape`,
            times are not finite, not exactly one option is given, an option is not positive, or the frames would not
            fit into memory.

    Examples:
        >>> t, x, y, p = [0, 5, 9, 20], [0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 1, 1]
        >>> bin_events((t, x, y, p), (2, 2, 2), window=10).sum(axis=(1, 2, 3))
        array([3., 0., 1.], dtype=float32)
    """
    frame = as_shape(shape)
    if len(frame) != 3 or min(frame) < 1:
        raise ValueError(f"shape must be (H, W, P), each at least 1, got {shape}")
    t, x, y, p = _fields(events)
    for name, values, size in (("y", y, shape[0]), ("x", x, shape[1]), ("p", p, shape[2])):
        outside = (values < 0) | (values >= size)
        if outside.any():
            first = int(outside.argmax())
            cure = "; map polarities -1, 1 to 0, 1 by (p + 1) // 2" if name == "p" else ""
            raise ValueError(f"{name} must lie in 0..{size - 1}, got {values[first]} at event {first}{cure}")

    options = {"num_bins": num_bins, "window": window, "events_per_bin": events_per_bin}
    given = {name: value for name, value in options.items() if value is not None}
    if len(given) != 1:
        raise ValueError(f"give exactly one of num_bins, window and events_per_bin, got {list(given) or 'none'}")
    [(name, value)] = given.items()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not 0 < value < 1e300:
        raise ValueError(f"{name} must be positive, got {value}")
    if name != "window" and int(value) != value:
        raise ValueError(f"{name} must be a whole number, got {value}")

    bins, num_frames = _bins(name, value, t)
    frames = (num_frames, *frame)
    check_memory("frames", frames, copies=3)
    cells = np.ravel_multi_index((bins, y, x, p), frames)
    return np.bincount(cells, minlength=math.prod(frames)).astype(np.float32).reshape(frames)


def _bins(option: str, value: Any, t: np.ndarray) -> tuple[Any, int]:
    """Return the bin of each event, and how many bins there are. Integers are cut exactly, however large they are."""
    if option == "events_per_bin":
        bins = np.empty(len(t), np.int64)
        bins[np.argsort(t, kind="stable")] = np.arange(len(t)) // min(int(value), len(t))
        return bins, int(bins.max()) + 1
    is_whole = t.dtype.kind != "f"
    share = rounding.relative_error(t)
    t = t if is_whole else t.astype(np.float64)
    with np.errstate(over="ignore"):  # differences of 64-bit integers are right modulo 2^64
        elapsed = t.astype(np.uint64) - t.min().astype(np.uint64) if is_whole else t - t.min()
        duration = elapsed.max().item()
        if not math.isfinite(duration * float(value)):
            raise ValueError(f"t must span a time that a float64 can hold {value} times, got {t.min()} to {t.max()}")
    error = share * float(duration if is_whole else np.abs(t).max())  # of a time
    if option == "window":
        check_memory("frames", (duration / value,))
        if is_whole and value > duration:
            bins = np.zeros(len(t), np.int64)
        elif is_whole and value == int(value):
            bins = (elapsed // int(value)).astype(np.int64)
        else:
            bins = rounding.floor(elapsed / float(value), error / float(value))
        return bins, int(bins.max()) + 1
    count = int(value)
    check_memory("frames", (count,))
    if duration == 0:
        return np.zeros(len(t), np.int64), count
    if is_whole:
        # Python's integers have no bound
        bins = (elapsed.astype(object) if duration * count >= 2**64 else elapsed) * count // duration
    else:
        bins = rounding.floor(elapsed * count / duration, error * count / duration)
    return np.minimum(bins, count - 1).astype(np.int64), count


def _fields(events: Events) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the columns t, x, y and p (integers), checked to be as long as each other."""
    names = ("t", "x", "y", "p")
    if isinstance(events, Mapping) or (isinstance(events, np.ndarray) and events.dtype.names):
        present = events if isinstance(events, Mapping) else events.dtype.names or ()
        missing = [name for name in names if name not in present]
        if missing:
            raise ValueError(f"events must have fields t, x, y, p; missing {missing}, got {list(present)}")
        columns = [_column(name, events[name]) for name in names]
    elif isinstance(events, tuple | list) and len(events) == 4:
        columns = [_column(name, column) for name, column in zip(names, events)]
    else:
        raise ValueError(f"events must be a structured array, a mapping, or (t, x, y, p), got {type(events)}")
    shapes = {name: column.shape for name, column in zip(names, columns)}
    if len(set(shapes.values())) != 1 or columns[0].ndim != 1:
        raise ValueError(f"t, x, y, p must be arrays of one length [N], got shapes {shapes}")
    if len(columns[0]) == 0:
        raise ValueError("the recording holds no events")
    for name, column in zip(names[1:], columns[1:]):
        if column.dtype.kind not in "biu":
            raise ValueError(f"{name} must be integers, got {column.dtype}")
    t, x, y, p = columns
    if not np.isfinite(t).all():
        raise ValueError(f"t must be finite, got {t[~np.isfinite(t)][0]}")
    return t, x, y, p


def _column(name: str, values: ArrayLike) -> np.ndarray:
    try:
        column = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} must be an array [N], got {type(values).__name__}: {error}") from error
    if column.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold numbers, got {type(values).__name__} of dtype {column.dtype}")
    return column
