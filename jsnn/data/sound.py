"""Sound from wav files."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from jsnn.arguments import checked
from jsnn.files import as_path
from jsnn.files.budget import reading


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
        with path.open("rb") as file:
            start = file.read(12)
        if start[:4] not in (b"RIFF", b"RIFX", b"RF64") or start[8:] != b"WAVE":
            raise ValueError(f"it is not a wav file: it begins with {start!r}")
        said, there = int.from_bytes(start[4:8], "big" if start[:4] == b"RIFX" else "little"), path.stat().st_size - 8
        if start[:4] != b"RF64" and said > there:
            raise ValueError(f"it is truncated: it says that {said:,} bytes follow, and there are {there:,}")
        sample_rate, samples = wavfile.read(path)
        if samples.size == 0 or sample_rate < 1:
            raise ValueError(f"it holds no sound: {len(samples)} samples at {sample_rate} Hz")
        if not np.isfinite(samples).all():
            raise ValueError("its samples must be finite")
        if samples.dtype == np.uint8:
            samples = samples.astype(np.int16) - 128
            samples = samples / np.float32(128)
        elif samples.dtype.kind == "i":
            samples = samples / np.float64(2.0 ** (8 * samples.dtype.itemsize - 1))
        samples = samples[:, None] if samples.ndim == 1 else samples
        return Sound(samples.astype(np.float32), int(sample_rate))
