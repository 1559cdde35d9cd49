"""Filter banks: a sound in many bands of frequency, as the basilar membrane of the inner ear splits it.

sound [S] -> bands [S, N],  sounds [S, B] -> [S, B, N];  N centre frequencies, from low to high
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.arguments import check_memory, checked
from jsnn.encode.sounds import Bank, check_channels, check_sound, cut, padded, too_high
from jsnn.neurons.checks import value_of_parameter
from jsnn.neurons.pytree import FrozenPytree
from jsnn.neurons.ranges import POSITIVE, Range
from jsnn.types import Array, Shape
from jsnn.unrolling import unroll


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
    check_channels(num_channels, low, high, bank)
    check_memory("the frequencies", (num_channels,), copies=4, itemsize=8)
    return jnp.asarray(spaced(num_channels, low, high, bank), jnp.float32)


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
        if np.ndim(self.frequencies) != 1 or np.size(self.frequencies) == 0:
            raise ValueError(f"frequencies must be [N], got shape {np.shape(self.frequencies)}")
        if frequencies is not None and frequencies.max() >= self.sample_rate / 2:
            raise ValueError(too_high(float(frequencies.max()), self.sample_rate))

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
    sample_rate = float(sample_rate)
    high = float(check_sound(sound, sample_rate, num_channels, low, high))
    bank = Gammatone(center_frequencies(num_channels, low=low, high=high), sample_rate)
    return jnp.asarray(cut(_bands(bank, padded(sound, sample_rate, num_channels)), len(sound), sound.dtype))


@jax.jit
def _bands(bank: Gammatone, sound: Array) -> Array:
    return unroll(bank, sound)[1]


def spaced(num_channels: int, low: float, high: float, bank: Bank) -> np.ndarray:
    """Return what `center_frequencies` does, in float64."""
    if bank == "mel":
        return hertz(np.linspace(mels(low), mels(high), num_channels))
    return (np.geomspace(1 + 0.00437 * low, 1 + 0.00437 * high, num_channels) - 1) / 0.00437


def mels(frequency: Any) -> Any:
    """Return a frequency in Hz in mel."""
    return 2595 * np.log10(1 + np.asarray(frequency) / 700)


def hertz(mel: np.ndarray) -> np.ndarray:
    """Return a frequency in mel in Hz."""
    return 700 * (10 ** (mel / 2595) - 1)
