"""Checks of sounds for all sound encoders, and their padding to a few lengths."""

import math
from typing import Any, Literal, TypeAlias, get_args

import jax.numpy as jnp
import numpy as np
from jax.export import is_symbolic_dim

from jsnn.arguments import check_memory
from jsnn.encode.checks import check_at_least, is_known
from jsnn.neurons.checks import check_positive

Bank: TypeAlias = Literal["gammatone", "mel"]

_HIGHEST = 8000.0  # Hz; little of speech is above
_LOUDEST = 1e12  # whose energy float32 can hold


def check_sound(sound: Any, sample_rate: float, num_channels: int, low: float, high: float | None) -> float:
    """Return the highest centre frequency, after a check of the sound and of all frequencies."""
    if not 0 < sample_rate < math.inf:
        raise ValueError(f"sample_rate must be above 0 and finite, got {sample_rate} Hz")
    if not jnp.issubdtype(sound.dtype, jnp.floating):
        top = 2 ** (8 * sound.dtype.itemsize - 1)
        cure = f"divide it by {top}" if sound.dtype.kind == "i" else f"take (sound.astype(float) - {top}) / {top}"
        raise TypeError(f"sound must be floating point, in [-1, 1], got {sound.dtype}: {cure}")
    if sound.size == 0:
        raise ValueError(f"sound must not be empty, got shape {sound.shape}")
    if is_known(sound):
        values = np.asarray(sound, np.float64)  # NumPy compiles nothing for each new length
        if not np.isfinite(values).all():
            raise ValueError(f"sound must be finite, got {values[~np.isfinite(values)][0]}: cut out what is broken")
        if np.abs(values).max() > _LOUDEST:
            raise ValueError(f"sound must be in [-1, 1], or near it, got values up to {np.abs(values).max():g}")
    if sound.ndim not in (1, 2):
        raise ValueError(f"sound must be [S], or [S, B] of several sounds, got shape {sound.shape}")
    if sound.ndim == 2 and not is_symbolic_dim(sound.shape[1]) and sound.shape[0] < sound.shape[1]:
        raise ValueError(f"sound must have time first, [S, B], got shape {sound.shape}: transpose it with sound.T")
    if high is None:
        high = min(0.45 * sample_rate, _HIGHEST)
        if high <= low:
            raise ValueError(f"sample_rate must be above {low / 0.45:g} Hz for low = {low:g} Hz, got {sample_rate:g}")
    check_channels(num_channels, low, high)
    if high >= sample_rate / 2:
        raise ValueError(too_high(high, sample_rate))
    return high


def check_channels(num_channels: int, low: float, high: float | None, bank: str = "gammatone") -> None:
    """Raise ValueError if channels are too few, their frequencies do not rise, or there is no such bank."""
    if bank not in get_args(Bank):
        raise ValueError(f"bank must be {' or '.join(map(repr, get_args(Bank)))}, got {bank!r}")
    check_at_least("num_channels", num_channels, 2)
    check_positive("low", low)
    if high is not None and not high > low:
        raise ValueError(f"high must be above low = {low:g} Hz, got {high:g} Hz")


def padded(sound: Any, sample_rate: float, num_channels: int = 1) -> Any:
    """Return a sound in float32 or wider, with silence up to a multiple of 1/4 s.

    So not every length is compiled anew; nor is what pads and cuts, which is NumPy where the sound is known.

    Raises:
        ValueError: if so many channels of it do not fit into memory.
    """
    unit = 10 * samples_of_fortieth(sample_rate)
    check_memory("the bands", (len(sound) + unit, *sound.shape[1:], num_channels), copies=3)
    margins = [(0, -len(sound) % unit), *[(0, 0)] * (sound.ndim - 1)]
    dtype = jnp.promote_types(sound.dtype, jnp.float32)
    return np.pad(np.asarray(sound, dtype), margins) if is_known(sound) else jnp.pad(sound.astype(dtype), margins)


def cut(result: Any, length: int, dtype: Any) -> Any:
    """Return the first steps of what was computed of a padded sound, in its dtype."""
    return (np.asarray(result) if is_known(result) else result)[:length].astype(dtype)


def samples_of_fortieth(sample_rate: float) -> int:
    """Return the number of samples in 1/40 s, at least 1."""
    return max(1, round(sample_rate / 40))


def samples_in(name: str, duration: float, sample_rate: float) -> int:
    """Return the number of samples in some seconds."""
    samples = round(min(max(duration * sample_rate, 0), 2.0**62))
    if samples < 1:
        raise ValueError(f"{name} must be at least a sample, {1 / sample_rate:g} s, got {duration} s")
    return samples


def too_high(frequency: float, sample_rate: float) -> str:
    """Return the text of an error about a frequency that the sound cannot hold."""
    return (
        f"the highest frequency must be below half the sample rate, {sample_rate / 2:g} Hz, got {frequency:g} Hz: "
        f"lower it, or take a sound of a higher sample rate"
    )
