"""Readers of the files that event cameras and their data sets write, one recording in each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from jsnn.arguments import checked
from jsnn.data.aedat import read_aedat, read_aedat4
from jsnn.data.prophesee import read_dat, read_raw
from jsnn.extras import require
from jsnn.files import as_path
from jsnn.files.budget import reading

Unit: TypeAlias = Literal["s", "ms", "us", "ns"]

EVENTS = np.dtype([("t", np.int64), ("x", np.uint16), ("y", np.uint16), ("p", np.uint8)])
_NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_LONGEST = 86_400 * 10**6  # µs: no recording lasts longer than a day
_JITTER = 10_000  # µs by which an event may come late: the parts of a sensor are read one after the other


@checked
def read_events(path: str | Path, *, unit: Unit | None = None) -> np.ndarray:
    """Return the events of a recording from its file, in the order of their times.

    The ending of the file says how it is read:

    * `.bin`: N-MNIST's and N-Caltech101's 40 bits an event: x (8), y (8), polarity (1), time (23, microseconds). An
      event with y = 240 stands for no pixel: it adds 2^13 µs to its own time and all later ones.
    * `.dat`, `.raw`: Prophesee's formats, DAT, and EVT 2.0 or EVT 3.0 by the header of the file.
    * `.aedat4`: iniVation's AEDAT 4.0, by the package `aedat`. Of several streams of events, the first.
    * `.aedat`: AEDAT 3.1, as DVS128 Gesture has it, and AEDAT 2.0 of a DVS128, with columns as the chip counts them.
    * `.npy`: a structured array with fields t, x, y, p, of which y and p may be missing.

    Times are microseconds. Events that come up to 10 ms late are sorted in; events with equal times keep their order.

    Args:
        path: the file.
        unit: the unit of the times in an `.npy` file; None stands for microseconds if they are integers. Other files
            say it themselves.

    Returns:
        A structured array [N] with fields t (int64, µs), x, y (uint16) and p (uint8, 1 for brighter).

    Raises:
        FileNotFoundError: if there is no file.
        ImportError: if the package `aedat`, of the extra `events`, is needed and not installed.
        ValueError: if the ending is not known, the file is empty, truncated, damaged or of another format, its times
            run backwards, or cannot be in the unit.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "one.bin"
        ...     _ = file.write_bytes(bytes([3, 5, 128, 1, 2]))
        ...     print(read_events(file))
        [(258, 3, 5, 1)]
    """
    path = as_path(path)
    ending = path.suffix.lower()
    if ending not in EVENT_READERS:
        raise ValueError(f"{path} must end in {', '.join(EVENT_READERS)}, by which it is known how to read it")
    if unit is not None and (ending != ".npy" or unit not in _NANOSECONDS):
        raise ValueError(f"unit must be 's', 'ms', 'us' or 'ns', and is for .npy files alone, got {unit!r} for {path}")
    if not path.is_file():
        raise FileNotFoundError(f"no file {path.absolute()}: give the path of a recording")
    if ending == ".aedat4":
        require("events", "aedat")
    with reading(f"{path} cannot be read"):
        if path.stat().st_size == 0:
            raise ValueError("it is empty")
        columns = _read_npy(path, unit) if ending == ".npy" else EVENT_READERS[ending](path)
        return in_order(columns)


def in_order(columns: dict[str, np.ndarray]) -> np.ndarray:
    """Return events as a structured array, sorted where some come a little late.

    Raises:
        ValueError: if times run backwards by more than 10 ms, or a coordinate or polarity is out of range.
    """
    t = columns["t"]
    events = np.empty(len(t), [(name, EVENTS[name]) for name in EVENTS.names or () if name in columns])
    for name, values in columns.items():
        if name != "t" and len(t):
            largest = 1 if name == "p" else 2**16 - 1
            if not 0 <= values.min() <= values.max() <= largest:
                raise ValueError(f"{name} must lie in 0..{largest}, got values from {values.min()} to {values.max()}")
        events[name] = values
    late = np.maximum.accumulate(t) - t
    if np.any(late):
        first = int((late > _JITTER).argmax())
        if late[first] > _JITTER:
            raise ValueError(
                f"its times run backwards by {late[first]:,} µs at event {first:,}: the clock wrapped or was reset "
                "there, or two recordings follow each other: cut them apart"
            )
        events = events[np.argsort(t, kind="stable")]
    return events


def to_microseconds(t: np.ndarray, unit: Unit | None) -> np.ndarray:
    """Return times as int64 microseconds, rounded to the nearest.

    Raises:
        ValueError: if the unit is not given and times are not integers, or they cannot be in that unit: the recording
            would last longer than a day, or most different times would become equal.
    """
    if t.dtype.kind not in "iuf":
        raise ValueError(f"t must hold numbers, got {t.dtype}")
    if len(t) == 0:
        return t.astype(np.int64)
    if t.dtype.kind == "f" and unit is None:
        raise ValueError(
            f"its times are floating point, {t.min()} to {t.max()}: say their unit, such as unit='s'; of a folder by "
            "dataclasses.replace(recordings, read=functools.partial(read_events, unit='s'))"
        )
    if not np.isfinite(t).all():
        raise ValueError(f"t must be finite, got {t[~np.isfinite(t)][0]}")
    scale = _NANOSECONDS[unit or "us"]
    span = (t.max().item() - t.min().item()) * scale / 1000
    if span > _LONGEST or max(abs(t.min().item()), abs(t.max().item())) * max(scale / 1000, 1) >= 2**62:
        raise ValueError(f"its times go from {t.min()} to {t.max()}, which cannot be {unit or 'us'}: give another unit")
    if t.dtype.kind != "f":
        return t.astype(np.int64) * (scale // 1000) if scale >= 1000 else (t.astype(np.int64) + 500) // 1000
    rounded = np.rint(t.astype(np.float64) * (scale / 1000)).astype(np.int64)
    if scale > 1 and 2 * len(np.unique(rounded)) < len(np.unique(t)):
        raise ValueError(f"its times go from {t.min()} to {t.max()}, which cannot be {unit}: give another unit")
    return rounded


def _read_bin(path: Path) -> dict[str, np.ndarray]:
    size = path.stat().st_size
    if size % 5:
        raise ValueError(f"it is truncated, or of another format: an event has 5 bytes, and the file has {size:,}")
    data = np.fromfile(path, np.uint8).reshape(-1, 5).astype(np.int64)
    t = (data[:, 2] & 127) << 16 | data[:, 3] << 8 | data[:, 4]
    overflow = data[:, 1] == 240
    t += np.cumsum(overflow) * 2**13
    pixels = ~overflow
    return {"t": t[pixels], "x": data[pixels, 0], "y": data[pixels, 1], "p": data[pixels, 2] >> 7}


def _read_npy(path: Path, unit: Unit | None) -> dict[str, np.ndarray]:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    names = [name for name in EVENTS.names or () if name in (array.dtype.names or ())]
    if not {"t", "x"} <= set(names) or array.ndim != 1:
        raise ValueError(
            f"it must hold a structured array [N] with fields t, x, y, p, or t and x, got {array.dtype} of shape "
            f"{array.shape}"
        )
    for name in names[1:]:
        if array.dtype[name].kind not in "biu":
            raise ValueError(f"{name} must be integers, got {array.dtype[name]}")
        if name == "p" and len(array) and array["p"].min() < 0:
            raise ValueError(f"p must be 0 or 1, got {array['p'].min()}: map polarities -1, 1 to 0, 1 by (p + 1) // 2")
    return {name: to_microseconds(array["t"], unit) if name == "t" else np.asarray(array[name]) for name in names}


EVENT_READERS: dict[str, Callable[..., Any]] = {
    ".bin": _read_bin,
    ".dat": read_dat,
    ".raw": read_raw,
    ".aedat4": read_aedat4,
    ".aedat": read_aedat,
    ".npy": _read_npy,
}
"""The readers by the ending of a file."""
