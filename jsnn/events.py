"""Recordings of event cameras, binned into frames that a network can be unrolled over."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

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
    """Counts the events of a recording per time bin, pixel and polarity; every event is counted exactly once.

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
        window: the length of a bin in the unit of `t`. Integer times, such as microseconds, with an integer
            window are cut exactly, times in seconds up to rounding.
        events_per_bin: the number of events in a frame.

    Returns:
        float32 counts [T, H, W, P].

    Raises:
        ValueError: no events, fields missing or of unequal length, coordinates outside `shape`, times that
            are not finite, not exactly one option, or an option that is not positive.

    >>> t, x, y, p = [0, 5, 9, 20], [0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 1, 1]
    >>> bin_events((t, x, y, p), (2, 2, 2), window=10).sum(axis=(1, 2, 3))
    array([3., 0., 1.], dtype=float32)
    """
    if len(shape) != 3 or min(shape) < 1:
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
    if not (value > 0 and np.isfinite(value)):
        raise ValueError(f"{name} must be positive, got {value}")
    if name != "window" and int(value) != value:
        raise ValueError(f"{name} must be a whole number, got {value}")

    elapsed, duration = t - t.min(), t.max() - t.min()
    if name == "num_bins":
        bins = np.minimum(elapsed * value // (duration or 1), value - 1)
    elif name == "window":
        bins = elapsed // value
    else:
        bins = np.empty(len(t))
        bins[np.argsort(t, kind="stable")] = np.arange(len(t)) // value
    bins = bins.astype(np.int64)
    frames = (int(value) if name == "num_bins" else int(bins.max()) + 1, *shape)
    cells = np.ravel_multi_index((bins, y, x, p), frames)
    return np.bincount(cells, minlength=int(np.prod(frames))).astype(np.float32).reshape(frames)


def _fields(events: Events) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The columns t (int64 or float64) and x, y, p (int64), checked to be as long as each other."""
    names = ("t", "x", "y", "p")
    if isinstance(events, Mapping) or (isinstance(events, np.ndarray) and events.dtype.names):
        present = events if isinstance(events, Mapping) else events.dtype.names or ()
        missing = [name for name in names if name not in present]
        if missing:
            raise ValueError(f"events must have fields t, x, y, p; missing {missing}, got {list(present)}")
        columns = [np.asarray(events[name]) for name in names]
    elif isinstance(events, tuple | list) and len(events) == 4:
        columns = [np.asarray(column) for column in events]
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
    t = columns[0].astype(np.int64 if columns[0].dtype.kind in "biu" else np.float64)
    if not np.isfinite(t).all():
        raise ValueError(f"t must be finite, got {t[~np.isfinite(t)][0]}")
    x, y, p = (column.astype(np.int64) for column in columns[1:])
    return t, x, y, p
