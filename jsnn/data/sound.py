"""Sound from wav files."""

import io
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jsnn.arguments import checked
from jsnn.files import as_path
from jsnn.files.budget import reading

# sizes of the sound that SoX, arecord and ffmpeg say where they write into a pipe: up to the end
_NOT_KNOWN = (0x7FFFF000, 2**31, 2**32 - 1)
_HEADER = 256  # bytes by which the size of the file may be larger


class Sound(NamedTuple):
    """A recording of sound."""

    samples: np.ndarray
    """[S, C], float32, one column a channel; 1 is full scale."""
    sample_rate: int
    """Samples per second, Hz."""


@checked
def read_sound(path: str | Path) -> Sound:
    """Return the sound of a wav file: any sampling rate, any number of channels, integers or floating point.

    Integers are divided by their full scale, so that samples lie in [-1, 1): of 16 bits, by 32,768. Floating-point
    samples, whose full scale is 1, stay as they are.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if it is not a wav file, is truncated, or holds no samples.

    Examples:
        >>> import tempfile
        >>> from scipy.io import wavfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     wavfile.write(f"{folder}/one.wav", 8000, np.array([0, 16384, -32768], np.int16))
        ...     print(read_sound(f"{folder}/one.wav").samples[:, 0])
        [ 0.   0.5 -1. ]
    """
    from scipy.io import wavfile

    path = as_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path.absolute()}: give the path of a wav file")
    with reading(f"{path} cannot be read"):
        sample_rate, samples = wavfile.read(io.BytesIO(_format_and_sound(path.read_bytes())))
        if samples.size == 0 or sample_rate < 1:
            raise ValueError(f"it holds no sound: {len(samples)} samples at {sample_rate} Hz")
        if samples.dtype == np.uint8:
            samples = samples.astype(np.int16) - 128
            samples = samples / np.float32(128)
        elif samples.dtype.kind == "i":
            samples = samples / np.float64(2.0 ** (8 * samples.dtype.itemsize - 1))
        with np.errstate(over="ignore"):
            samples = (samples[:, None] if samples.ndim == 1 else samples).astype(np.float32)
        if not np.isfinite(samples).all():
            raise ValueError("its samples must be finite, and fit into float32")
        return Sound(samples, int(sample_rate))


def _format_and_sound(content: bytes) -> bytes:
    """Return a wav file that holds the format and the sound of another one alone, since scipy warns of what else is in.

    Raises:
        ValueError: if it is not a wav file, or truncated, which scipy tells of some files and not of others.
    """
    kind, order = content[:4], ">" if content[:4] == b"RIFX" else "<"
    if kind not in (b"RIFF", b"RIFX", b"RF64") or content[8:12] != b"WAVE":
        raise ValueError(f"it is not a wav file: it begins with {content[:12]!r}")

    def check_size(said: int, there: int) -> None:
        if there < said and not any(0 <= said - size < _HEADER for size in _NOT_KNOWN):
            raise ValueError(f"it is truncated: it says that {said:,} bytes follow, and there are {there:,}")

    if kind != b"RF64":
        check_size(int.from_bytes(content[4:8], "big" if kind == b"RIFX" else "little"), len(content) - 8)
    chunks: dict[bytes, memoryview] = {}
    place = 12
    while b"data" not in chunks and place + 8 <= len(content):
        name, size = struct.unpack_from(f"{order}4sI", content, place)
        if name == b"data" and kind == b"RF64":  # whose sizes may need 64 bits
            (size,) = struct.unpack_from("<8xQ", chunks[b"ds64"])
        place += 8
        check_size(size, len(content) - place)
        chunks[name] = memoryview(content)[place : place + size]
        place += size + size % 2
    if missing := [name for name in ("fmt ", "data") if name.encode() not in chunks]:
        raise ValueError(f"it has no chunk {missing[0]!r}")
    _, channels, _, _, frame, bits = struct.unpack_from(f"{order}HHIIHH", chunks[b"fmt "])
    if 0 in (channels, bits, frame) or len(chunks[b"data"]) % frame:
        raise ValueError(
            f"its {len(chunks[b'data']):,} bytes of sound must be whole frames, of {channels} channels of {bits} bits, "
            f"in {frame} bytes"
        )
    parts = [part for name in (b"fmt ", b"data") for part in (name, _size(order, chunks[name]), chunks[name])]
    return b"".join([kind.replace(b"RF64", b"RIFF"), _size(order, b"WAVE", *parts), b"WAVE", *parts])


def _size(order: str, *parts: bytes | memoryview) -> bytes:
    """Return how many bytes follow, as a wav file says it."""
    return struct.pack(f"{order}I", sum(map(len, parts)))
