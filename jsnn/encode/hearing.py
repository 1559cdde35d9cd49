"""The ear: a sound becomes spikes as the inner ear and the first nucleus of the brain behind it make them.

After the front end of the Spiking Heidelberg Digits: basilar membrane, inner hair cells, bushy cells. It is without
chance here: for the 40 hair cells of a bushy cell, which fire at random, stands their mean.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jsnn import rounding
from jsnn.arguments import check_parameters, checked
from jsnn.encode.filter_banks import center_frequencies, gammatone
from jsnn.encode.hair_cells import HairCell
from jsnn.encode.neurons import SUPERSPIKE
from jsnn.encode.sounds import Bank, check_channels, check_sound, cut, padded, samples_in, samples_of_fortieth
from jsnn.encode.spectra import mel
from jsnn.neurons import LIF
from jsnn.neurons.checks import check_positive, check_surrogate
from jsnn.types import Array, SpikeFunction
from jsnn.unrolling import unroll

_HOP = 1e-3  # s; of the mel bank, whose amplitudes change no faster
_RMS_1 = 30.0  # dB; the level of a root mean square of 1 in the unit of Meddis
_PASCAL = 94.0  # dB; that of a root mean square of 1 Pa
_QUIETEST = 1e-5  # the smallest root mean square that is raised to a level: below the resolution of 16 bits


@checked
def cochlea(
    sound: Array,
    sample_rate: float,
    *,
    dt: float = 1e-2,
    num_channels: int = 64,
    low: float = 100.0,
    high: float | None = None,
    bank: Bank = "gammatone",
    level: float | None = 70.0,
    tau_mem: float = 2e-3,
    threshold: float = 1.05,
    surrogate: SpikeFunction = SUPERSPIKE,
) -> Array:
    """Return a sound as counts of spikes in N channels of frequency, [S] -> [T, N] or [S, B] -> [T, B, N].

        a = 10^((level - 30) / 20) / rms                 loudness: rms is that of the loudest 0.1 s of each sound
        s_n = f_n / 1 kHz * band_n(a sound)              velocity of the basilar membrane at N places, see `gammatone`
        e_n = HairCell(s_n)                              half-wave rectification and adaptation; 1 in silence
        v_n = decay v_n + (1 - decay) e_n                bushy cells, LIF: decay = exp(-1 / (sample_rate tau_mem))
        spike where v_n > threshold, then v_n = 0        at every sample
        output_tn = spikes in [t dt, (t + 1) dt)         T = S / (sample_rate dt), rounded up

    Of the bank `"mel"` the velocity is s_n = f_n / 1 kHz * `mel`(a sound) / pi, the mean of a sine of that amplitude
    after half-wave rectification, and all that follows takes steps of 1 ms in place of samples: faster, and without
    the spikes' phase. Silence gives no spikes, and loud sounds more than soft ones where `level` is None. Silence after
    a sound changes nothing before. Differentiable through `surrogate`. It is compiled once for each 1/4 s of length.

    Source: Cramer, Stradmann, Schemmel and Zenke, "The Heidelberg spiking data sets for the systematic evaluation of
    spiking neural networks", IEEE TNNLS 2020. They have a hydrodynamic model of the membrane, 40 random hair cells for
    a bushy cell where their mean is here, and bushy cells with a synaptic current and a refractory time.

    Args:
        sound: samples; of several sounds each in its column. Mix channels of stereo first, `sound.mean(1)`.
        sample_rate: samples per second, Hz.
        dt: the length of an output step, in s.
        num_channels: N.
        low: the centre frequency of the first channel, Hz.
        high: that of the last; None for 0.45 of the sample rate, at most 8000 Hz.
        bank: the filters, `"gammatone"` or `"mel"`.
        level: the sound pressure level of the loudest 0.1 s, in dB; each sound is scaled to it. None takes the samples
            as they are, in Pa: a root mean square of 1 is then 94 dB.
        tau_mem: the membrane's time constant, in s.
        threshold: the membrane potential above which a bushy cell spikes; 1 is the potential in silence.
        surrogate: the derivative of a spike, see `jsnn.surrogate`.

    Returns:
        Whole numbers in the dtype of the sound.

    Raises:
        TypeError: if `sound` is not floating point.
        ValueError: if `sound` is empty or not finite, or not [S] or [S, B]; if `num_channels` is less than 2; if
            `low` is not positive, or `high` not between `low` and half the sample rate; if `dt` is less than a sample
            (`"mel"`: 1 ms), `tau_mem` is not positive, or `threshold` is not above 1.

    Examples:
        >>> tone = jnp.sin(2 * jnp.pi * 1000 * jnp.arange(4000) / 8000)  # 0.5 s of 1 kHz
        >>> spikes = cochlea(tone, 8000, num_channels=16)
        >>> spikes.shape, int(jnp.argmax(spikes.sum(0))), center_frequencies(16)[8].round()
        ((50, 16), 8, Array(989., dtype=float32))
    """
    options = Cochlea(num_channels, dt, low, high, bank, level, tau_mem, threshold, surrogate)
    return jnp.asarray(_spikes(options, sound, float(sample_rate)))


@dataclasses.dataclass(frozen=True)
class Cochlea:
    """`cochlea` as a transform of recordings: a `jsnn.data.Sound` -> counts of spikes [T, N], a NumPy array.

    The fields are the options of `cochlea`. Channels of stereo are mixed.

    Raises:
        ValueError: as `cochlea`.

    Examples:
        >>> import numpy as np
        >>> from jsnn.data import Sound
        >>> transform = Cochlea(num_channels=32)
        >>> transform(Sound(np.zeros((8000, 2), np.float32), sample_rate=8000)).shape
        (100, 32)
    """

    num_channels: int = 64
    dt: float = 1e-2
    low: float = 100.0
    high: float | None = None
    bank: Bank = "gammatone"
    level: float | None = 70.0
    tau_mem: float = 2e-3
    threshold: float = 1.05
    surrogate: SpikeFunction = SUPERSPIKE

    def __post_init__(self) -> None:
        check_parameters(self)
        for name in ("dt", "low", "high", "level", "tau_mem", "threshold"):
            value = getattr(self, name)  # an array of one number cannot be hashed, as what is compiled must be
            object.__setattr__(self, name, None if value is None else float(value))
        object.__setattr__(self, "num_channels", int(self.num_channels))
        check_positive("dt", self.dt)
        check_channels(self.num_channels, self.low, self.high, self.bank)
        if self.level is not None and not -100 <= self.level <= 200:
            raise ValueError(f"level must be in [-100, 200] dB, got {self.level}: speech has about 65 dB")
        check_surrogate(self.surrogate)
        check_positive("tau_mem", self.tau_mem)
        if not self.threshold > 1:
            raise ValueError(f"threshold must be above 1, the potential in silence, got {self.threshold}")

    def __call__(self, sound: Any) -> np.ndarray:
        """Return the spikes of a sound that has `samples` [S, C] and a `sample_rate`."""
        try:
            samples, sample_rate = np.asarray(sound.samples), float(sound.sample_rate)
        except AttributeError as error:
            cure = "pass a jsnn.data.Sound(samples, sample_rate), or call encode.cochlea(samples, sample_rate)"
            raise TypeError(f"sound must have samples and a sample_rate, got {type(sound).__name__}: {cure}") from error
        if samples.ndim != 2 or not samples.size:
            raise ValueError(f"samples of a sound must be [S, C], and not empty, got shape {samples.shape}")
        samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)  # JAX takes no other order
        mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(1, dtype=samples.dtype)
        return _spikes(self, mono, sample_rate)


def _spikes(options: Cochlea, sound: Any, sample_rate: float) -> Any:
    """Return the spikes of a sound, a NumPy array where the sound is one: then nothing is compiled for its length."""
    high = check_sound(sound, sample_rate, options.num_channels, options.low, options.high)
    hop = 1 if options.bank == "gammatone" else samples_in("a step", _HOP, sample_rate)
    if options.dt * sample_rate < hop * (1 - 1e-6):
        step = hop / sample_rate
        raise ValueError(f"dt must be at least a step of the {options.bank} bank, {step:g} s, got {options.dt} s")
    num_steps = max(1, -int(_bins(-len(sound), sample_rate, options.dt)))
    wave = padded(sound, sample_rate, options.num_channels)
    counts = _counts(wave, sample_rate, hop, dataclasses.replace(options, high=high))
    return cut(counts, num_steps, sound.dtype)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _counts(wave: Array, sample_rate: float, hop: int, options: Cochlea) -> Array:
    """Return the spikes of a padded sound, whose bands have steps of `hop` samples."""
    wave = wave * _gain(wave, sample_rate, options.level)
    channels: dict[str, Any] = {"num_channels": options.num_channels, "low": options.low, "high": options.high}
    if options.bank == "gammatone":
        bands = gammatone(wave, sample_rate, **channels)
    else:
        bands = mel(wave, sample_rate, hop=_HOP, **channels) / jnp.pi
    step = hop / sample_rate
    _, release = unroll(HairCell(step), bands * center_frequencies(bank=options.bank, **channels) / 1e3)
    bushy_cells = LIF.from_time_constants(
        options.tau_mem,
        dt=step,
        gain=-math.expm1(-step / options.tau_mem),
        threshold=options.threshold,
        reset="zero",
        surrogate=options.surrogate,
    )
    _, spikes = unroll(bushy_cells, release)
    bins = _bins(hop * np.arange(len(spikes)), sample_rate, options.dt)
    return jax.ops.segment_sum(spikes, bins, int(bins[-1]) + 1, indices_are_sorted=True)


def _bins(samples: Any, sample_rate: float, dt: float) -> np.ndarray:
    """Return the steps that samples fall into; a `dt` that was rounded to float32 means the number that it is near."""
    steps = np.asarray(samples / (sample_rate * dt))
    return rounding.floor(steps, 1e-6 * np.maximum(1, np.abs(steps)))


def _gain(wave: Array, sample_rate: float, level: float | None) -> Array | float:
    """Return the factor from samples to the unit of Meddis, one for each sound."""
    if level is None:
        return 10 ** ((_PASCAL - _RMS_1) / 20)
    length = samples_of_fortieth(sample_rate)
    energy = jnp.sum(wave.reshape(-1, length, *wave.shape[1:]) ** 2, axis=1)
    energy = jnp.pad(energy, [(0, 3), *[(0, 0)] * (energy.ndim - 1)])
    power = jnp.max(energy[:-3] + energy[1:-2] + energy[2:-1] + energy[3:], axis=0) / (4 * length)
    return 10 ** ((level - _RMS_1) / 20) / jnp.sqrt(jnp.maximum(power, _QUIETEST**2))
