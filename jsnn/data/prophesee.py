"""The formats of Prophesee's event cameras: DAT, EVT 2.0 and EVT 3.0."""

import re
from pathlib import Path

import numpy as np

_CHANGES = (0, 12)  # the types of events in a DAT file that are changes of brightness


def read_dat(path: Path) -> dict[str, np.ndarray]:
    """Return the columns t, x, y, p of a .dat file: 8 bytes an event, time, then x (14 bits), y (14), polarity (4).

    Raises:
        ValueError: if the file is damaged, truncated, or of another format.
    """
    _, content = _parts(path)
    if len(content) < 2 or content[0] not in _CHANGES or content[1] != 8:
        raise ValueError(f"after its header, it must say that events of 8 bytes follow, got {content[:2]!r}")
    t, data = _words(content[2:], "<u4", 8).reshape(-1, 2).T
    return {"t": t, "x": data & 0x3FFF, "y": data >> 14 & 0x3FFF, "p": data >> 28}


def read_raw(path: Path) -> dict[str, np.ndarray]:
    """Return the columns t, x, y, p of a .raw file in EVT 2.0 or EVT 3.0, as its header says.

    Raises:
        ValueError: if the file is damaged, truncated, of another format, or a pixel is outside of the sensor.
    """
    header, content = _parts(path)
    version = re.search(r"(?:% evt |format evt)(2\.0|3\.0|2|3)\s*[;\n]", header)
    if not version:
        raise ValueError("its header must say evt 2.0 or evt 3.0")
    columns = _evt2(_words(content, "<u4", 4)) if version[1].startswith("2") else _evt3(_words(content, "<u2", 2))
    size = re.search(r"geometry[: ](\d+)x(\d+)|width=(\d+);height=(\d+)|height=(\d+);width=(\d+)", header)
    if size and len(columns["t"]):
        sides = [int(side) for side in size.groups() if side]
        sides = sides[::-1] if size[5] else sides
        for name, side in zip("xy", sides):
            if columns[name].max() >= side:
                raise ValueError(f"{name} must be below {side}, as the header says, got {columns[name].max()}")
    return columns


def _evt2(words: np.ndarray) -> dict[str, np.ndarray]:
    """Return the events of 32-bit words: 4 bits say what it is, an event has the last 6 bits of its time, x and y."""
    kind = words >> 28
    turn = np.cumsum(kind == 8)  # after each new upper part of the time
    events = (kind <= 1) & (turn > 0)
    data, high = words[events], words[kind == 8][turn[events] - 1] & 0xFFFFFFF
    return {"t": high << 6 | data >> 22 & 63, "x": data >> 11 & 2047, "y": data & 2047, "p": data >> 28}


def _evt3(words: np.ndarray) -> dict[str, np.ndarray]:
    """Return the events of 16-bit words, each of which changes a part of the state: time, row, or column.

    A word of a column is an event. A word of a vector has 12 or 8 bits, each for an event in the next column.
    """
    kind, value = words >> 12, words & 0xFFF
    width = np.array([0, 0, 0, 0, 12, 8, *[0] * 10])[kind]
    rows, bases, highs = (np.cumsum(kind == code) for code in (0, 3, 8))
    complete = (rows > 0) & (highs > 0)
    singles = np.flatnonzero((kind == 2) & complete)
    vectors = np.flatnonzero((width > 0) & complete & (bases > 0))
    bits = (value[vectors, None] >> np.arange(12) & 1).astype(bool) & (np.arange(12) < width[vectors, None])
    which, column = np.nonzero(bits)
    base = np.flatnonzero(kind == 3)[bases[vectors] - 1]
    passed = np.cumsum(width) - width  # columns of the vectors before
    start = (value[base] & 2047) + passed[vectors] - passed[base]

    places = np.concatenate([singles, vectors[which]])
    x = np.concatenate([value[singles] & 2047, start[which] + column])
    p = np.concatenate([value[singles] >> 11, value[base[which]] >> 11])
    order = np.argsort(places, kind="stable")
    places = places[order]
    y = value[kind == 0][rows[places] - 1] & 2047
    return {"t": _clock(kind, value, places), "x": x[order], "y": y, "p": p[order]}


def _clock(kind: np.ndarray, value: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the times (µs) at some places among the words of EVT 3.0, each after the first upper half of a time.

    A time is an upper and a lower half of 12 bits. An upper half that changes sets the lower one to 0. The upper half
    wraps every 16.8 s, and the lower one every 4 ms, which some writers do not follow by a new upper half.
    """
    if len(places) == 0:  # as in a file without a time
        return places
    highs = np.flatnonzero(kind == 8)
    is_new = kind == 6
    is_new[highs[np.diff(value[highs], prepend=-1) != 0]] = True
    is_high, number = kind[is_new] == 8, value[is_new]
    upper = number[is_high]
    upper = upper + 4096 * np.cumsum(np.diff(upper, prepend=upper[:1]) <= -2048)
    lower = np.where(is_high, 0, number)
    lower = lower + 4096 * np.cumsum(~is_high & (np.diff(lower, prepend=lower[:1]) < 0))
    turn = np.cumsum(is_high)
    first = np.flatnonzero(is_high)[turn - 1]  # of a turn, where the wraps of the turns before count no more
    times = (upper[turn - 1] << 12) + lower - lower[first]
    return times[np.cumsum(is_new)[places] - 1]


def _parts(path: Path) -> tuple[str, bytes]:
    """Return the header of a file, lines that begin with % up to "% end", in small letters, and what follows it."""
    content = path.read_bytes()
    start, line = 0, b""
    while content[start : start + 2] == b"% " and line != b"% end":  # an event may begin with the byte of a %, too
        stop = content.find(b"\n", start) + 1 or len(content)
        start, line = stop, content[start:stop].strip().lower()
    if not start:
        raise ValueError("it must begin with the lines of a header, each with a %")
    return content[:start].decode("latin-1").lower(), content[start:]


def _words(content: bytes, dtype: str, size: int) -> np.ndarray:
    if len(content) % size:
        raise ValueError(f"it is truncated: {len(content):,} bytes follow the header, no multiple of {size}")
    return np.frombuffer(content, dtype).astype(np.int64)
