"""The mel filter bank: a sound's spectrum, window by window, in bands as wide as the ear has them."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from jsnn.arguments import check_memory, checked
from jsnn.encode.filter_banks import hertz, mels, spaced
from jsnn.encode.sounds import check_sound, cut, padded, samples_in
from jsnn.types import Array


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
        >>> from jsnn.encode import center_frequencies
        >>> amplitudes = mel(tone, 8000, num_channels=16)
        >>> amplitudes.shape, int(jnp.argmax(amplitudes[50])), center_frequencies(16, bank="mel")[7].round()
        ((100, 16), 7, Array(1054., dtype=float32))
    """
    sample_rate = float(sample_rate)
    high = float(check_sound(sound, sample_rate, num_channels, low, high))
    step, length = samples_in("hop", hop, sample_rate), samples_in("window", window, sample_rate)
    if length < step:
        raise ValueError(f"window must be at least hop = {hop} s, got {window} s")
    wave = padded(sound, sample_rate)
    size = _size_of_transform(length, sample_rate, spaced(num_channels, low, high, "mel"))
    check_memory("the spectra", (len(wave) // step, *wave.shape[1:], size), copies=3)
    amplitudes = _amplitudes(wave, sample_rate, int(num_channels), float(low), high, length, step)
    return jnp.asarray(cut(amplitudes, -(-len(sound) // step), sound.dtype))


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
    centers = spaced(num_channels, low, high, "mel")
    size = _size_of_transform(len(window), sample_rate, centers)
    frequencies = np.arange(size // 2 + 1)[:, None] * sample_rate / size
    spacing = mels(centers[1]) - mels(centers[0])
    edges = hertz(np.concatenate([[mels(low) - spacing], mels(centers), [mels(high) + spacing]]))
    widths = np.diff(edges)
    rising, falling = (frequencies - edges[:-2]) / widths[:-1], (edges[2:] - frequencies) / widths[1:]
    weights = np.maximum(0, np.minimum(rising, falling))
    time = np.arange(len(window))[:, None] / sample_rate
    sines = window[:, None] * np.exp(2j * np.pi * centers * time) / 2  # one at the centre of each band
    spectra = np.fft.fft(sines, size, axis=0)[: size // 2 + 1]
    return weights / np.sum(weights * np.abs(spectra) ** 2, axis=0), size


def _size_of_transform(length: int, sample_rate: float, centers: np.ndarray) -> int:
    """Return a power of 2 that gives each band a frequency of its own."""
    return 1 << (max(length, math.ceil(sample_rate / (centers[1] - centers[0]))) - 1).bit_length()
