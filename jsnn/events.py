"""Recordings of events, such as those of an event camera, binned into frames that a network can be unrolled over."""

import contextlib
import dataclasses
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from jsnn import rounding
from jsnn.arguments import check_memory
from jsnn.types import Shape, as_shape

__all__ = ["Frames", "bin_events"]

# A structured array or a mapping with fields t, x, y, p, or these arrays in that order.
Events: TypeAlias = np.ndarray | Mapping[str, ArrayLike] | Sequence[ArrayLike]
_FIELDS = {1: ("t", "x"), 2: ("t", "y", "x"), 3: ("t", "y", "x", "p")}  # by the number of axes of a frame
_IN_ORDER = ("t", "x", "y", "p")  # as a tuple has them


def bin_events(
    events: Events,
    shape: tuple[int, ...],
    *,
    num_bins: int | None = None,
    window: float | None = None,
    events_per_bin: int | None = None,
    start: float | None = None,
    stop: float | None = None,
    dtype: Any = np.float32,
) -> np.ndarray:
    """Count the events of a recording per time bin and place; every event is counted exactly once.

    `start` and `stop` leave out what is not in start <= t < stop. Where they are None, the time looked at begins with
    the first event, and ends with the last one, at t1. Exactly one option says how it is cut:

    * `num_bins`: T equal spans of start..stop; an event at t1 belongs to the last.
    * `window`: bin k holds start + k*window <= t < start + (k+1)*window; T reaches up to `stop`, or the bin of t1.
    * `events_per_bin`: that many successive events each, the last bin perhaps fewer; equal times keep their
      order.

    With `num_bins`, or with `window`, `start` and `stop`, all recordings become arrays of one length, and a recording
    without events becomes zeros.

    Args:
        events: times `t` in any unit and any order, column or channel `x`, row `y` and polarity `p` (integers or
            booleans): a structured array, a mapping, or a tuple (t, x, y, p), each array [N]. `y` and `p` may be
            missing where `shape` has no axis for them.
        shape: of a frame: (H, W, P), so that 0 <= y < H, 0 <= x < W, 0 <= p < P; (H, W), which counts both polarities
            together; or (C,) for channels, 0 <= x < C.
        num_bins: the number of frames.
        window: the length of a bin in the unit of `t`. Integer times, such as microseconds, with a whole window are
            cut exactly. Of times in seconds, one that lies before a bin by no more than the rounding of its dtype,
            8 eps max |t|, belongs to that bin: 0, 0.1, ..., 1.0 fill eleven windows of 0.1.
        events_per_bin: the number of events in a frame.
        start: where the first bin begins, in the unit of `t`.
        stop: where the last bin ends, in the unit of `t`.
        dtype: float32, or uint8 for a quarter of the memory, in which a count stops at 255.

    Returns:
        Counts [T, *shape].

    Raises:
        TypeError: if times are not numbers, or an option is not one.
        ValueError: if fields are missing or of unequal length, coordinates lie outside `shape`, times are not finite,
            or they cannot be in the unit of `start` and `stop`; if not exactly one of `num_bins`, `window` and
            `events_per_bin` is given, or it is not positive; if the length of the recording is not known, or `stop` is
            not after `start`; if the frames would not fit into memory.

    Examples:
        >>> t, x, y, p = [0, 5, 9, 20], [0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 1, 1]
        >>> bin_events((t, x, y, p), (2, 2, 2), window=10).sum(axis=(1, 2, 3))
        array([3., 0., 1.], dtype=float32)
        >>> bin_events((t, x), (2,), window=10, start=0, stop=20, dtype="uint8")
        array([[1, 2],
               [0, 0]], dtype=uint8)
    """
    return Frames(shape, num_bins, window, events_per_bin, start, stop, dtype)(events)


@dataclasses.dataclass(frozen=True)
class Frames:
    """A transform that turns each recording of `jsnn.data.Recordings` into frames, by `bin_events`.

    Raises:
        TypeError: if an option is not a number.
        ValueError: as `bin_events`, for all that is wrong whatever the events are.

    Examples:
        >>> frames = Frames((2, 2, 2), window=10, start=0, stop=30)
        >>> frames(([0, 5, 9, 20], [0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 1, 1])).shape
        (3, 2, 2, 2)
    """

    shape: tuple[int, ...]
    """Of a frame: (H, W, P), (H, W) or (C,)."""
    num_bins: int | None = None
    window: float | None = None
    """In the unit of the times, which is the microsecond in recordings from files."""
    events_per_bin: int | None = None
    start: float | None = None
    stop: float | None = None
    dtype: Any = "float32"
    """"float32" or "uint8"."""

    def __post_init__(self) -> None:
        frame = as_shape(self.shape)
        if len(frame) not in _FIELDS or min(frame) < 1:
            raise ValueError(f"shape must be (H, W, P), (H, W) or (C,), each at least 1, got {self.shape}")
        for field in dataclasses.fields(self):
            if isinstance(number := getattr(self, field.name), np.number):  # a narrow one, such as int8, would overflow
                object.__setattr__(self, field.name, number.item())
        options: dict[str, Any] = {name: getattr(self, name) for name in ("num_bins", "window", "events_per_bin")}
        given = {name: value for name, value in options.items() if value is not None}
        if len(given) != 1:
            raise ValueError(f"give exactly one of num_bins, window and events_per_bin, got {list(given) or 'none'}")
        [option] = given
        value: Any = given[option]
        ends = {name: getattr(self, name) for name in ("start", "stop") if getattr(self, name) is not None}
        for name, number in (given | ends).items():
            is_number = isinstance(number, numbers.Real) and not isinstance(number, bool)
            if not is_number:
                raise TypeError(f"{name} must be a number, got {number!r}")
            if not -1e300 < number < 1e300:
                raise ValueError(f"{name} must be {'positive' if name == option else 'finite'}, got {number}")
        if not value > 0:
            raise ValueError(f"{option} must be positive, got {value}")
        if option != "window" and int(value) != value:
            raise ValueError(f"{option} must be a whole number, got {value}")
        if len(ends) == 2 and not ends["start"] < ends["stop"]:
            raise ValueError(f"stop must be after start, got start {self.start} and stop {self.stop}")
        dtype = ""
        with contextlib.suppress(TypeError, ValueError):  # of what is no dtype at all
            dtype = np.dtype(self.dtype).name
        if dtype not in ("float32", "uint8"):
            raise ValueError(f"dtype must be float32 or uint8, got {self.dtype!r}")
        object.__setattr__(self, "shape", frame)
        object.__setattr__(self, "dtype", dtype)

    def __call__(self, events: Events) -> np.ndarray:
        """Return the counts of a recording, [T, *shape]."""
        t, *places = _columns(events, self.shape)
        ends = (self.start, self.stop)
        inside = _inside(t, *ends)
        t, *places = (column[inside] for column in (t, *places))
        if len(t) == 0 and self.num_bins is None and (self.window is None or None in ends):
            where = "" if inside.all() else f" between start {self.start} and stop {self.stop}"
            raise ValueError(f"the recording holds no events{where}: give num_bins, or window, start and stop")
        bins, num_frames = self._bins(t)
        frames = (num_frames, *self.shape)
        counts_as = np.dtype(self.dtype)
        check_memory("frames", frames, copies=1, itemsize=counts_as.itemsize)
        counts = np.zeros(math.prod(frames), counts_as)
        cells = np.ravel_multi_index((bins, *places), frames)
        if counts_as == np.float32 and len(cells) < 2**24:  # up to which adding 1 to a float32 is exact
            np.add.at(counts, cells, np.float32(1))
        else:
            cells, totals = np.unique(cells, return_counts=True)
            counts[cells] = totals if counts_as == np.float32 else np.minimum(totals, 255)
        return counts.reshape(frames)

    def _bins(self, t: np.ndarray) -> tuple[Any, int]:
        """Return the bin of each event, and how many bins there are. Integers are cut exactly, however large."""
        if self.events_per_bin is not None:
            bins: Any = np.empty(len(t), np.int64)
            bins[np.argsort(t, kind="stable")] = np.arange(len(t)) // min(int(self.events_per_bin), len(t))
            return bins, int(bins.max()) + 1
        seen = (t.min().item(), t.max().item()) if len(t) else (0, 0)
        first, last = (own if own is not None else found for own, found in zip((self.start, self.stop), seen))
        value: Any = self.num_bins or self.window
        is_whole = t.dtype.kind != "f" and first == int(first) and last == int(last)
        with np.errstate(over="ignore"):  # differences of 64-bit integers are right modulo 2^64
            elapsed = t.astype(np.uint64) - np.uint64(int(first) % 2**64) if is_whole else t.astype(np.float64) - first
            duration = int(last) - int(first) if is_whole else float(last) - float(first)
            if not math.isfinite(duration * float(value)):
                raise ValueError(f"t must span a time that a float64 can hold {value} times, got {first} to {last}")
        if self.window is not None and is_whole and self.window < 1 and duration > 1:
            raise ValueError(
                f"window must be in the unit of t, whose times are whole, and at least 1, got {self.window}"
            )
        error = rounding.relative_error(t) * float(duration if is_whole else max(abs(first), abs(last)))  # of a time
        if self.num_bins is None:
            check_memory("frames", (duration / value,), itemsize=1)
            if is_whole and value == int(value):
                value = int(value)
                bins = elapsed // value if value <= duration else np.zeros(len(t), np.int64)
                count = -(-duration // value)
            else:
                bins = rounding.floor(elapsed / float(value), error / float(value))
                count = -int(rounding.floor(-duration / float(value), error / float(value)))
            if self.stop is None:
                count = int(bins.max()) + 1
        else:
            count = int(value)
            check_memory("frames", (count,), itemsize=1)
            if duration <= 0:
                return np.zeros(len(t), np.int64), count
            if is_whole:
                # Python's integers have no bound
                bins = (elapsed.astype(object) if duration * count >= 2**64 else elapsed) * count // duration
            else:
                bins = rounding.floor(elapsed * count / duration, error * count / duration)
        return np.clip(bins, 0, max(count, 1) - 1).astype(np.int64), max(count, 1)


def _inside(t: np.ndarray, start: float | None, stop: float | None) -> np.ndarray:
    """Return which times are in start <= t < stop, where these are given; floats up to their rounding."""
    is_whole = t.dtype.kind != "f"
    margin = 0 if is_whole or not len(t) else rounding.relative_error(t) * float(np.abs(t).max())
    inside = np.ones(len(t), bool)
    if start is not None:
        inside &= t >= (math.ceil(start) if is_whole else start - margin)
    if stop is not None:
        inside &= t < (math.ceil(stop) if is_whole else stop - margin)
    if start is not None and stop is not None and len(t):
        span, asked = float(t.max()) - float(t.min()), float(stop - start)
        # seconds or milliseconds for microseconds; and the other way round, where whole times may be short
        is_longer, is_shorter = span >= 100 * asked, not is_whole and 0 < 1000 * span < asked
        is_one_time = is_whole and asked <= 1 and is_longer  # such as the very first
        is_strange = (is_longer and not inside.any()) or is_shorter
        # a part of a recording may hold nothing, and a recording be short: in another unit it must fit
        fits_otherwise = any(
            start * longer <= np.median(t) * shorter <= stop * longer
            for longer, shorter in ((factor, 1) if is_longer else (1, factor) for factor in (1e3, 1e6, 1e9))
        )
        if is_one_time or (is_strange and fits_otherwise):
            raise ValueError(
                f"start and stop must be in the unit of t: they are {start} and {stop}, and t goes from {t.min()} to "
                f"{t.max()}"
            )
    return inside


def _columns(events: Events, shape: Shape) -> list[np.ndarray]:
    """Return t, and the places on the axes of `shape`, each [N], checked."""
    names = _FIELDS[len(shape)]
    wanted = ", ".join(name for name in _IN_ORDER if name in names)
    if isinstance(events, Mapping) or (isinstance(events, np.ndarray) and events.dtype.names):
        present = list(events if isinstance(events, Mapping) else events.dtype.names or ())
        missing = [name for name in wanted.split(", ") if name not in present]
        if missing:
            raise ValueError(f"events must have fields {wanted}; missing {missing}, got {present}")
        found = {name: events[name] for name in _IN_ORDER if name in present}
    elif isinstance(events, tuple | list) and len(wanted.split(", ")) <= len(events) <= len(_IN_ORDER):
        found = dict(zip(_IN_ORDER, events))
    else:
        raise ValueError(
            f"events must be a structured array, a mapping, or ({wanted}), for a frame of shape {shape}, "
            f"got {type(events)}"
        )
    columns = {name: _column(name, values) for name, values in found.items()}
    lengths = {name: column.shape for name, column in columns.items()}
    if len(set(lengths.values())) != 1 or columns["t"].ndim != 1:
        raise ValueError(f"{', '.join(lengths)} must be arrays of one length [N], got shapes {lengths}")
    t = columns["t"]
    if not np.isfinite(t).all():
        raise ValueError(f"t must be finite, got {t[~np.isfinite(t)][0]}")
    if len(shape) == 1 and "y" in columns and np.any(columns["y"]):
        raise ValueError(f"shape must be (H, W, P) or (H, W) for events that have rows y, got {shape}")
    return [t, *(_place(name, columns[name], size) for name, size in zip(names[1:], shape))]


def _place(name: str, values: np.ndarray, size: int) -> np.ndarray:
    """Return the places of the events on one axis of a frame, checked to lie on it."""
    if len(values) == 0:
        return values.astype(np.int64)
    if values.dtype.kind not in "biu":
        raise ValueError(f"{name} must be integers, got {values.dtype}")
    outside = (values < 0) | (values >= size)
    if outside.any():
        first = int(outside.argmax())
        cure = "; map polarities -1, 1 to 0, 1 by (p + 1) // 2" if name == "p" else ""
        raise ValueError(f"{name} must lie in 0..{size - 1}, got {values[first]} at event {first}{cure}")
    return values


def _column(name: str, values: ArrayLike) -> np.ndarray:
    try:
        column = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} must be an array [N], got {type(values).__name__}: {error}") from error
    if column.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold numbers, got {type(values).__name__} of dtype {column.dtype}")
    return column
