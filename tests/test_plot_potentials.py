"""Traces of one neuron, of a few and of many."""

import numpy as np
import pytest
from golden import note_of
from matplotlib.colors import to_hex

from jsnn import plot
from jsnn.plot.canvas import ACCENT

V = np.array([[0.0, 0.5], [0.5, 1.0], [0.0, 0.5]])  # [T, N]
SPIKES = np.array([[0, 0], [0, 1], [1, 0]])


def test_one_neuron_has_the_axis_for_itself():
    ax = plot.traces(V[:, :1], spikes=SPIKES[:, :1] * 1000.0, threshold=0.8, label="Voltage (mV)", dt=1e-3)
    trace, threshold = ax.lines
    np.testing.assert_allclose(trace.get_xydata(), [[0, 0], [1, 0.5], [2, 0]])
    np.testing.assert_allclose(threshold.get_ydata(), 0.8)
    [spikes] = ax.collections
    [(start, end)] = spikes.get_segments()
    assert start[0] == end[0] == 2
    assert start[1] > 0.8  # above what it marks
    assert ax.get_ylabel() == "Voltage (mV)"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["threshold", "spike"]


def test_lanes_have_one_scale():
    ax = plot.traces(V)
    first, second, bar = ax.lines
    np.testing.assert_allclose(first.get_ydata(), V[:, 0])
    offset = second.get_ydata() - V[:, 1]
    np.testing.assert_allclose(offset, offset[0])
    assert offset[0] > 1  # lanes do not overlap
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0", "1"]
    assert [text.get_text() for text in ax.texts] == ["1"]
    height = np.ptp(bar.get_ydata()) * np.ptp(ax.get_ylim())
    assert height == pytest.approx(1)
    assert ax.get_legend() is None


@pytest.mark.parametrize(("scale", "size"), [(0.07, "0.05"), (3.0, "2"), (900.0, "500")])
def test_scale_bar_is_round(scale, size):
    assert plot.traces(V * scale).texts[0].get_text() == size


@pytest.mark.parametrize("threshold", [0.9, [0.9, 0.9], np.full((3, 2), 0.9)])
def test_thresholds_of_any_shape(threshold):
    lines = plot.traces(V, threshold=threshold).lines
    levels = [line.get_ydata() for line in lines if to_hex(line.get_color()) == ACCENT]
    np.testing.assert_allclose(levels[0], 0.9)
    np.testing.assert_allclose(levels[1], levels[1][0])
    assert len(levels) == 2


def test_threshold_of_a_sample():
    batch = np.stack([V, V + 1], axis=1)
    ax = plot.traces(batch, threshold=batch + 0.25, spikes=np.stack([SPIKES, SPIKES], axis=1), sample=1)
    np.testing.assert_allclose(ax.lines[1].get_ydata() - ax.lines[0].get_ydata(), 0.25)


@pytest.mark.parametrize("neurons", [1, 2, 3])
def test_the_label_fits(neurons):
    ax = plot.traces(np.random.default_rng(0).normal(size=(9, neurons)))
    ax.figure.draw_without_rendering()
    box = ax.yaxis.label.get_window_extent()
    assert 0 <= box.y0 < box.y1 <= ax.figure.bbox.y1


@pytest.mark.parametrize("level", [0.0, 2.5, -3.0])
def test_a_constant_trace_has_a_scale(level):
    plot.traces(np.full((5, 3), level)).figure.draw_without_rendering()


def test_ten_thousand_neurons_are_a_heat_map():
    values = np.random.default_rng(0).normal(size=(30, 10_000))
    ax = plot.traces(values, threshold=4.0, dt=1e-3)
    [image] = ax.images
    np.testing.assert_array_equal(image.get_array(), values.T)
    assert image.get_clim()[1] == 4.0
    assert note_of(ax) == "red in the colour bar: threshold 4"
    bar = ax.figure.axes[1]
    assert bar.get_ylabel() == "Membrane potential"
    assert [line.get_ydata()[0] for line in bar.lines if to_hex(line.get_color()) == ACCENT] == [4.0]


def test_heat_map_keeps_its_contrast():
    values = np.random.default_rng(0).uniform(size=(30, 100))
    values[3, 4] = 1e6
    assert plot.traces(values).images[0].get_clim()[1] < 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spikes": SPIKES[:2]}, r"spikes must have the shape of values, \(3, 2\), got \(2, 2\)"),
        ({"spikes": [[0.1, 1], [0.27, 0], [0.93, 1]]}, "spikes must be spikes"),
        (
            {"threshold": [1.0, 2.0, 3.0]},
            r"threshold must be a number, \[N\] or \[T, N\] for values \(3, 2\), got \(3,\)",
        ),
        ({"threshold": np.nan}, "threshold must be finite, got nan"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        plot.traces(V, **options)


def test_one_neuron_needs_no_axis():
    threshold = [1.0, 0.9, 0.8]
    ax = plot.traces(V[:, 0], spikes=SPIKES[:, 0], threshold=threshold)
    same = plot.traces(V[:, :1], spikes=SPIKES[:, :1], threshold=np.array(threshold)[:, None])
    for line, other in zip(ax.lines, same.lines, strict=True):
        np.testing.assert_array_equal(line.get_xydata(), other.get_xydata())
