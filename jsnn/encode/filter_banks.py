"""Filter banks: a sound in many bands of frequency, as the basilar membrane of the inner ear splits it.

sound [S] -> bands [S, N],  sounds [S, B] -> [S, B, N];  N centre frequencies, from low to high
"""

import functools
import math
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.arguments import check_memory, checked
from jsnn.encode.checks import check_at_least, is_known
from jsnn.neurons.checks import check_positive, value_of_parameter
from jsnn.neurons.pytree import FrozenPytree
from jsnn.neurons.ranges import POSITIVE, Range
from jsnn.types import Array, Shape
from jsnn.unrolling import unroll

Bank: TypeAlias = Literal["gammatone", "mel"]

_HIGHEST = 8000.0  # Hz; little of speech is above


@checked
def center_frequencies(
    num_channels: int, *, low: float = 100.0, high: float = 3600.0, bank: Bank = "gammatone"
) -> Array:
    """Return N frequencies in Hz from `low` to `high`, evenly spaced as the ear tells them apart; -> [N], float32.

        gammatone:  u = 21.4 log10(1 + 0.00437 f), in equivalent rectangular bandwidths (ERB)
        mel:        u = 2595 log10(1 + f / 700), in mel

    with steps of u that are all the same.

    Source: Glasberg and Moore, "Derivation of auditory filter shapes from notched-noise data", Hearing Research 1990;
    O'Shaughnessy, "Speech communication" (1987), for the mel.

    Args:
        num_channels: N.
        low: the first frequency, Hz.
        high: the last, Hz.
        bank: whose scale.

    Raises:
        ValueError: if `num_channels` is less than 2, `low` is not positive, or `high` is not above `low`.

    Examples:
        >>> center_frequencies(4, low=100.0, high=3600.0).round().tolist()
        [100.0, 516.0, 1460.0, 3600.0]
    """
    check_channels(num_channels, low, high)
    check_memory("the frequencies", (num_channels,), copies=4, itemsize=8)
    return jnp.asarray(_frequencies(num_channels, low, high, bank), jnp.float32)


class GammatoneState(NamedTuple):
    """The state of `Gammatone`: its four filters in a row, each [B, ..., N] and complex."""

    first: Array
    second: Array
    third: Array
    fourth: Array


@nnx.dataclass
class Gammatone(FrozenPytree):
    """Gammatone filter bank, for streams: a Neuron that receives a sample at each step, [B, ...] -> [B, ..., N].

        z1 = p z1 + 2 (1 - |p|)^4 x,  z2 = p z2 + z1,  z3 = p z3 + z2,  z4 = p z4 + z3;  the output is Re z4
        p = exp(2 pi (i f - b) / sample_rate),  b = 1.019 * 24.7 (1 + 0.00437 f)

    with a centre frequency f and a bandwidth b, in Hz, for each of N channels. A sine of amplitude 1 at f comes out
    with amplitude 1. The response to an impulse is t^3 exp(-2 pi b t) cos(2 pi f t) up to a factor, with t^3 as
    (n + 1)(n + 2)(n + 3) at sample n: the movement of the basilar membrane at a place, as measured in nerve fibres.

    Source: Patterson et al., "Complex sounds and auditory images" (1992); these four filters are those of Hohmann,
    "Frequency analysis and synthesis using a gammatone filterbank", Acta Acustica 2002.

    Attributes:
        frequencies: f, [N], such as `center_frequencies` gives them; may be an `nnx.Param`.
        sample_rate: samples per second, Hz.

    Raises:
        ValueError: if `frequencies` are not [N], or not between 0 and half the sample rate.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> bank = Gammatone(jnp.array([500.0, 1000.0, 2000.0]), sample_rate=8000.0)
        >>> tone = jnp.sin(2 * jnp.pi * 1000 * jnp.arange(800) / 8000)
        >>> state, bands = jsnn.unroll(bank, tone)
        >>> jnp.abs(bands[400:]).max(0).round(2).tolist()
        [0.0, 1.0, 0.0]
    """

    frequencies: Array | nnx.Param
    sample_rate: float

    def __post_init__(self) -> None:
        super().__post_init__()
        frequencies = value_of_parameter(self.frequencies)
        if np.ndim(self.frequencies) != 1:
            raise ValueError(f"frequencies must be [N], got shape {np.shape(self.frequencies)}")
        if frequencies is not None and frequencies.max() >= self.sample_rate / 2:
            raise ValueError(_too_high(float(frequencies.max()), self.sample_rate))

    def ranges(self) -> dict[str, Range]:
        return {**super().ranges(), "frequencies": POSITIVE, "sample_rate": POSITIVE}

    def per_neuron(self) -> dict[str, Any]:
        return {}  # the frequencies have an axis of their own, which the input lacks

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> GammatoneState:
        zeros = jnp.zeros((*shape, *np.shape(self.frequencies)), jnp.result_type(dtype, jnp.complex64))
        return GammatoneState(zeros, zeros, zeros, zeros)

    def step(self, state: GammatoneState, current: Array) -> tuple[GammatoneState, Array]:
        dtype = state.first.real.dtype
        f = jnp.asarray(self.frequencies, dtype)
        damping = 2 * jnp.pi * 1.019 * 24.7 * (1 + 0.00437 * f) / self.sample_rate
        pole = jnp.exp(-damping) * jnp.exp(2j * jnp.pi * f / self.sample_rate)
        x = 2 * jnp.expm1(-damping) ** 4 * current.astype(dtype)[..., None]
        filtered = []
        for z in state:
            x = pole * z + x
            filtered.append(x)
        return GammatoneState(*filtered), x.real.astype(current.dtype)


@checked
def gammatone(
    sound: Array, sample_rate: float, *, num_channels: int = 64, low: float = 100.0, high: float | None = None
) -> Array:
    """Return a sound in the N bands of a `Gammatone` filter bank, [S] -> [S, N] or [S, B] -> [S, B, N].

    Args:
        sound: samples.
        sample_rate: samples per second, Hz.
        num_channels: N.
        low: the centre frequency of the first band, Hz.
        high: that of the last; None for 0.45 of the sample rate, at most 8000 Hz.

    Raises:
        TypeError: if `sound` is not floating point.
        ValueError: if `sound` is empty or not finite, or not [S] or [S, B]; if `num_channels` is less than 2; if `low`
            is not positive, or `high` not between `low` and half the sample rate.

    Examples:
        >>> tone = jnp.sin(2 * jnp.pi * 1000 * jnp.arange(800) / 8000)
        >>> bands = gammatone(tone, 8000, num_channels=16)
        >>> int(jnp.argmax(jnp.abs(bands[400:]).max(0))), center_frequencies(16)[8].round()
        (8, Array(989., dtype=float32))
    """
    high = check_sound(sound, sample_rate, num_channels, low, high)
    bank = Gammatone(center_frequencies(num_channels, low=low, high=high), sample_rate)
    return jnp.asarray(cut(_bands(bank, padded(sound, sample_rate, num_channels)), len(sound), sound.dtype))


@checked
def mel(
    sound: Array,
    sample_rate: float,
    *,
    num_channels: int = 64,
    low: float = 100.0,
    high: float | None = None,
    window: float = 0.025,
    hop: float = 1e-3,
) -> Array:
    """Return the amplitudes of a sound in N bands of equal width in mel, [S] -> [K, N] or [S, B] -> [K, B, N].

        X_k = the Fourier transform of the last `window` seconds, under a Hann window, at step k
        y_kn = sqrt(sum_f W_nf |X_kf|^2)

    with a triangle W_n for each band, from the centre of the band below to that of the band above, so scaled that a
    sine of amplitude 1 at the centre of a band has amplitude 1 there. There are K = S / hop steps, rounded up.

    Source: Davis and Mermelstein, "Comparison of parametric representations for monosyllabic word recognition in
    continuously spoken sentences", IEEE Transactions on Acoustics, Speech, and Signal Processing 1980.

    Args:
        sound: samples.
        sample_rate: samples per second, Hz.
        num_channels: N.
        low: the centre frequency of the first band, Hz.
        high: that of the last; None for 0.45 of the sample rate, at most 8000 Hz.
        window: the part of the sound that a step looks at, s; rounded to whole samples.
        hop: the length of a step, s; rounded to whole samples.

    Raises:
        TypeError: if `sound` is not floating point.
        ValueError: as `gammatone`; or if `hop` is less than a sample, or `window` less than `hop`.

    Examples:
        >>> tone = jnp.sin(2 * jnp.pi * 1000 * jnp.arange(800) / 8000)
        >>> amplitudes = mel(tone, 8000, num_channels=16)
        >>> amplitudes.shape, int(jnp.argmax(amplitudes[50])), center_frequencies(16, bank="mel")[7].round()
        ((100, 16), 7, Array(1054., dtype=float32))
    """
    high = check_sound(sound, sample_rate, num_channels, low, high)
    step, length = samples_in("hop", hop, sample_rate), samples_in("window", window, sample_rate)
    if length < step:
        raise ValueError(f"window must be at least hop = {hop} s, got {window} s")
    wave = padded(sound, sample_rate)
    size = _size_of_transform(length, sample_rate, _frequencies(num_channels, low, high, "mel"))
    check_memory("the spectra", (len(wave) // step, *wave.shape[1:], size), copies=3)
    amplitudes = _amplitudes(wave, sample_rate, num_channels, low, high, length, step)
    return jnp.asarray(cut(amplitudes, -(-len(sound) // step), sound.dtype))


def check_sound(sound: Any, sample_rate: float, num_channels: int, low: float, high: float | None) -> float:
    """Return the highest centre frequency, after a check of the sound and of all frequencies."""
    check_positive("sample_rate", sample_rate)
    if not jnp.issubdtype(sound.dtype, jnp.floating):
        top = 2 ** (8 * sound.dtype.itemsize - 1)
        raise TypeError(f"sound must be floating point, in [-1, 1], got {sound.dtype}: divide it by {top}")
    if sound.size == 0:
        raise ValueError(f"sound must not be empty, got shape {sound.shape}")
    if is_known(sound):
        values = np.asarray(sound, np.float64)  # NumPy compiles nothing for each new length
        if not np.isfinite(values).all():
            raise ValueError(f"sound must be finite, got {values[~np.isfinite(values)][0]}: cut out what is broken")
    if sound.ndim not in (1, 2):
        raise ValueError(f"sound must be [S], or [S, B] of several sounds, got shape {sound.shape}")
    if sound.ndim == 2 and sound.shape[0] < sound.shape[1]:
        raise ValueError(f"sound must have time first, [S, B], got shape {sound.shape}: transpose it with sound.T")
    if high is None:
        high = min(0.45 * sample_rate, _HIGHEST)
        if high <= low:
            raise ValueError(f"sample_rate must be above {low / 0.45:g} Hz for low = {low:g} Hz, got {sample_rate:g}")
    check_channels(num_channels, low, high)
    if high >= sample_rate / 2:
        raise ValueError(_too_high(high, sample_rate))
    return high


def check_channels(num_channels: int, low: float, high: float | None) -> None:
    """Raise ValueError if channels are too few or their frequencies do not rise."""
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


def cut(result: Array, length: int, dtype: Any) -> Any:
    """Return the first steps of what was computed of a padded sound, in its dtype."""
    return (np.asarray(result) if is_known(result) else result)[:length].astype(dtype)


def samples_of_fortieth(sample_rate: float) -> int:
    """Return the number of samples in 1/40 s, at least 1."""
    return max(1, round(sample_rate / 40))


def samples_in(name: str, duration: float, sample_rate: float) -> int:
    """Return the number of samples in some seconds."""
    samples = round(min(duration * sample_rate, 2.0**62))
    if samples < 1:
        raise ValueError(f"{name} must be at least a sample, {1 / sample_rate:g} s, got {duration} s")
    return samples


@jax.jit
def _bands(bank: Gammatone, sound: Array) -> Array:
    return unroll(bank, sound)[1]


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4, 5, 6))
def _amplitudes(
    sound: Array, sample_rate: float, num_channels: int, low: float, high: float, length: int, step: int
) -> Array:
    steps = -(-len(sound) // step)
    before = jnp.pad(sound, [(length - step, steps * step - len(sound)), *[(0, 0)] * (sound.ndim - 1)])
    frames = before[step * np.arange(steps)[:, None] + np.arange(length)]  # [K, W, (B)]
    window = np.hanning(length + 2)[1:-1]
    weights, size = _triangles(window, sample_rate, num_channels, low, high)
    spectra = jnp.fft.rfft(jnp.moveaxis(frames, 1, -1) * window.astype(sound.dtype), size)
    energy = (spectra.real**2 + spectra.imag**2) @ weights.astype(sound.dtype)
    heard = energy > 0  # the slope of a root is infinite at 0
    return jnp.where(heard, jnp.sqrt(jnp.where(heard, energy, 1)), 0)


def _triangles(
    window: np.ndarray, sample_rate: float, num_channels: int, low: float, high: float
) -> tuple[np.ndarray, int]:
    """Return the weights [F, N] of the frequencies of a Fourier transform in each band, and its size."""
    centers = _frequencies(num_channels, low, high, "mel")
    size = _size_of_transform(len(window), sample_rate, centers)
    frequencies = np.arange(size // 2 + 1)[:, None] * sample_rate / size
    ratio = (_mel(high) - _mel(low)) / (num_channels - 1)
    edges = _hertz(np.concatenate([[_mel(low) - ratio], _mel(centers), [_mel(high) + ratio]]))
    rising, falling = (
        (frequencies - edges[:-2]) / np.diff(edges)[:-1],
        (edges[2:] - frequencies) / np.diff(edges)[1:],
    )
    weights = np.maximum(0, np.minimum(rising, falling))
    time = np.arange(len(window))[:, None] / sample_rate
    sines = window[:, None] * np.exp(2j * np.pi * centers * time) / 2  # one at the centre of each band
    spectra = np.fft.fft(sines, size, axis=0)[: size // 2 + 1]
    return weights / np.sum(weights * np.abs(spectra) ** 2, axis=0), size


def _size_of_transform(length: int, sample_rate: float, centers: np.ndarray) -> int:
    """Return a power of 2 that gives each band a frequency of its own."""
    return 1 << (max(length, math.ceil(sample_rate / (centers[1] - centers[0]))) - 1).bit_length()


def _frequencies(num_channels: int, low: float, high: float, bank: Bank) -> np.ndarray:
    if bank == "mel":
        return _hertz(np.linspace(_mel(low), _mel(high), num_channels))
    return (np.geomspace(1 + 0.00437 * low, 1 + 0.00437 * high, num_channels) - 1) / 0.00437


def _mel(frequency: Any) -> Any:
    return 2595 * np.log10(1 + np.asarray(frequency) / 700)


def _hertz(mel: np.ndarray) -> np.ndarray:
    return 700 * (10 ** (mel / 2595) - 1)


def _too_high(frequency: float, sample_rate: float) -> str:
    return (
        f"the highest frequency must be below half the sample rate, {sample_rate / 2:g} Hz, got {frequency:g} Hz: "
        f"lower it, or take a sound of a higher sample rate"
    )
