"""A sound above its spikes: where a tone is drawn, the common axis of time, and what is refused."""

import numpy as np
import pytest
from golden import note_of
from matplotlib.figure import Figure

from jsnn import plot

RATE = 8000
TONE = np.sin(2 * np.pi * 1000 * np.arange(4000) / RATE) * (np.arange(4000) >= 2000)  # from 0.25 to 0.5 s
SPIKES = np.eye(50, 6)


def test_tone_is_drawn_at_its_frequency_and_time():
    above, below = plot.sound(TONE, RATE, SPIKES, dt=0.01)
    [image] = above.images
    left, right, bottom, top = image.get_extent()
    assert (left, right, bottom, top) == (-5.0, 495.0, 0.0, 4.0)  # ms, kHz; a step's mark stands in its middle
    levels = image.get_array()
    frequency, time = (np.linspace(*ends, size) for ends, size in zip(((0, 4), (0, 0.5)), levels.shape))
    loud = levels > -3
    assert np.abs(frequency[loud.any(1)] - 1).max() < 0.05
    assert abs(time[loud.any(0)].min() - 0.26) < 0.01
    assert levels.max() == pytest.approx(0, abs=0.01)
    assert (above.get_ylabel(), below.get_ylabel(), below.get_xlabel()) == ("Frequency (kHz)", "Channel", "Time (ms)")


@pytest.mark.parametrize("steps", [50, 80])
def test_axes_of_time_are_the_same_also_where_spikes_are_padded(steps):
    above, below = plot.sound(TONE, RATE, np.pad(SPIKES, ((0, steps - 50), (0, 0))), dt=0.01)
    assert above.get_xlim() == below.get_xlim() == (-5.0, 10.0 * steps - 5)
    assert above.images[0].get_extent()[1] == pytest.approx(495)
    assert above.get_position().x0 == below.get_position().x0


def test_counts_are_an_image_and_spikes_are_marks():
    counts = 3 * SPIKES + np.roll(SPIKES, 1)
    _, below = plot.sound(TONE, RATE, counts, dt=0.01)
    drawn = below.images[0].get_array()
    rows, columns = np.array(drawn.shape) // counts.T.shape  # of a dot
    np.testing.assert_array_equal(drawn[::rows, ::columns], counts.T)
    assert note_of(below) == "white: no spikes, black: 3 a step"
    _, below = plot.sound(TONE, RATE, SPIKES, dt=0.01)
    assert sum(len(marks.get_segments()) for marks in below.collections) == 6
    assert not below.images


def test_stereo_is_mixed_and_silence_is_said():
    mono, stereo = (plot.sound(x, RATE, SPIKES, dt=0.01)[0] for x in (TONE, np.stack([2 * TONE, 0 * TONE], 1)))
    np.testing.assert_allclose(mono.images[0].get_array(), stereo.images[0].get_array())
    above, below = plot.sound(0 * TONE, RATE, 0 * SPIKES, dt=0.01)
    assert [ax.texts[0].get_text() for ax in (above, below)] == ["silence", "no spikes"]


def test_into_given_axes():
    axes = Figure().subplots(2, 1)
    assert plot.sound(TONE, RATE, SPIKES, dt=0.01, axes=axes) == tuple(axes)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"samples": np.zeros((2, 2, 2))}, ValueError, "samples must be [S], or [S, C] of several channels"),
        ({"samples": np.array([np.nan])}, ValueError, "samples must be finite"),
        ({"samples": []}, ValueError, "samples must not be empty"),
        ({"spikes": np.full((50, 2), 0.5) + np.eye(50, 2) / 3}, ValueError, "spikes must be spikes"),
        (
            {"spikes": np.zeros((50, 2, 2))},
            ValueError,
            "spikes must be [T, N], got shape (50, 2, 2): choose one of the batch, spikes[:,",
        ),
        ({"sample_rate": 0.0}, ValueError, "sample_rate must be > 0, got 0"),
        ({"dt": -1.0}, ValueError, "dt must be > 0, got -1"),
        ({"dt": 1e-3}, ValueError, "spikes must go on to the end of the sound, 0.5 s, got 50 steps of dt = 0.001 s"),
        ({"axes": [None] * 3}, TypeError, "axes must be two Axes, got [None, None, None]: make them"),
        ({"axes": [None, 1]}, TypeError, "ax must be matplotlib Axes, got int"),
    ],
)
def test_refused(change, error, message):
    with pytest.raises(error) as caught:
        plot.sound(**{"samples": TONE, "sample_rate": RATE, "spikes": SPIKES, "dt": 0.01, **change})
    assert message in str(caught.value)
