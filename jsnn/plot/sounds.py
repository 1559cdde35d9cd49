"""Sounds: what is heard above what spikes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from jsnn.arguments import checked
from jsnn.extras import require
from jsnn.plot.arrays import check_spikes, finite, of_neurons
from jsnn.plot.canvas import SEQUENTIAL, axes_or_new, enlarged, note, say_empty, time_axis, whole_numbers
from jsnn.plot.spikes import raster

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WINDOW, _HOP = 0.025, 0.002  # s
_RANGE = 70.0  # dB below the loudest that are shown


@checked
def sound(
    samples: ArrayLike,
    sample_rate: float,
    spikes: ArrayLike,
    *,
    dt: float,
    axes: "Sequence[Axes] | None" = None,
) -> "tuple[Axes, Axes]":
    """Draw the spectrogram of a sound above the raster of its spikes, on one axis of time.

    The spectrogram is that of Hann windows of 25 ms, in dB below its loudest point, down to 70 dB.

    Args:
        samples: the sound, [S], or [S, C] of several channels, whose mean is drawn.
        sample_rate: samples per second, Hz.
        spikes: what `jsnn.encode.cochlea` or a layer made of it, [T, N]; counts above 1 are drawn as an image. They
            may go on after the sound, as in a padded batch.
        dt: the length of a step of the spikes, in s.
        axes: two Axes to draw into; None makes a figure.

    Returns:
        The Axes of the spectrogram, and those of the raster.

    Raises:
        ValueError: if the shapes are others, the arrays are empty or not finite; if the spikes end before the sound.

    Examples:
        >>> import numpy as np
        >>> from jsnn import encode, plot
        >>> tone = np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000, dtype=np.float32)
        >>> above, below = plot.sound(tone, 8000, encode.cochlea(tone, 8000), dt=0.01)
        >>> above.get_ylabel(), below.get_ylabel(), below.get_xlabel()
        ('Frequency (kHz)', 'Channel', 'Time (ms)')
    """
    wave = finite("samples", samples).astype(np.float64)
    if wave.ndim not in (1, 2):
        raise ValueError(f"samples must be [S], or [S, C] of several channels, got shape {wave.shape}")
    wave = wave if wave.ndim == 1 else wave.mean(axis=1)
    if np.ndim(spikes) == 3:
        raise ValueError(f"spikes must be [T, N], got shape {np.shape(spikes)}: choose one of the batch, spikes[:, 0]")
    trains = of_neurons("spikes", spikes, None)
    for name, value in (("sample_rate", sample_rate), ("dt", dt)):
        if not 0 < value < 1e30:
            raise ValueError(f"{name} must be > 0, got {value}")
    if (len(trains) + 1) * dt < len(wave) / sample_rate:
        raise ValueError(
            f"spikes must go on to the end of the sound, {len(wave) / sample_rate:g} s, got {len(trains)} steps of "
            f"dt = {dt:g} s: give the dt that they were made with, and the whole sound's spikes"
        )
    above, below = _two_axes(axes)
    if trains.max() > 1:
        _counts(below, trains, dt)
    else:
        raster(trains, dt=dt, ax=below)
    below.set_ylabel("Channel")

    levels, highest = _spectrogram(wave, sample_rate)
    left, right = below.get_xlim()
    end = left + (right - left) * len(wave) / sample_rate / (len(trains) * dt)
    above.imshow(
        levels,
        extent=(left, end, 0, highest / 1e3),
        origin="lower",
        aspect="auto",
        cmap=SEQUENTIAL,
        vmin=-_RANGE,
        vmax=0,
    )
    above.set_xlim(left, right)
    above.spines[["top", "right"]].set_visible(False)
    above.tick_params(labelbottom=False)
    above.set_ylabel("Frequency (kHz)")
    if not wave.any():
        say_empty(above, "silence")
    return above, below


def _counts(ax: "Axes", counts: np.ndarray, dt: float) -> None:
    """Draw counts of spikes [T, N] as an image."""
    check_spikes("spikes", counts)
    length = time_axis(ax, len(counts), dt)
    extent = (-0.5 * length, (len(counts) - 0.5) * length, -0.5, counts.shape[1] - 0.5)
    ax.imshow(enlarged(counts.T, 240, 1000), extent=extent, origin="lower", aspect="auto", cmap="Greys", vmin=0)
    ax.spines[["top", "right"]].set_visible(False)
    whole_numbers(ax.yaxis)
    note(ax, f"white: no spikes, black: {counts.max():g} a step")


def _two_axes(axes: "Sequence[Axes] | None") -> "tuple[Axes, Axes]":
    """Return the two Axes given, or those of a new figure, one above the other."""
    require("plot", "matplotlib")
    from matplotlib.figure import Figure

    if axes is None:
        above, below = Figure(figsize=(6.4, 5.4), layout="constrained").subplots(2, 1)
        return above, below
    if not isinstance(axes, Sequence | np.ndarray) or len(axes) != 2:
        raise TypeError(f"axes must be two Axes, got {axes!r}: make them with plt.subplots(2, 1)")
    return axes_or_new(axes[0]), axes_or_new(axes[1])


def _spectrogram(wave: np.ndarray, sample_rate: float) -> tuple[np.ndarray, float]:
    """Return levels [F, K] in dB below the highest, each at the middle of its window, and the highest frequency."""
    length, hop = max(4, round(_WINDOW * sample_rate)), max(1, round(_HOP * sample_rate), len(wave) // 4000)
    around = np.pad(wave, (length // 2, length))
    frames = np.lib.stride_tricks.sliding_window_view(around, length)[: len(wave) : hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(length), 4 * length, axis=1).T) ** 2
    return 10 * np.log10(power / (power.max() or 1) + 10 ** (-_RANGE / 10 - 1)), sample_rate / 2
