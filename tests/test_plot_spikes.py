"""Rasters and spike counts: what is drawn, for ten neurons and for ten thousand, and what is refused."""

import numpy as np
import pytest
from golden import note_of
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from jsnn import plot
from jsnn.plot.canvas import ACCENT, INK, PALETTE

SPIKES = np.array([[0, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]])  # [T, N]


def axes(width, height):
    """Axes of 100 times as many pixels."""
    return Figure(figsize=(width, height), dpi=100).add_axes((0, 0, 1, 1))


def marks(ax):
    """The spikes drawn one by one: (time, neuron, colour), in order of time."""
    found = []
    for collection in ax.collections:
        color = tuple(collection.get_color()[0][:3])
        for start, end in collection.get_segments():
            found.append((float(start[0]), round(float(start[1] + end[1]) / 2, 6), color))
    return sorted(found)


@pytest.mark.parametrize("spikes", [SPIKES, SPIKES.astype(bool), SPIKES * 1000.0, SPIKES * np.array([0.3, 0.7, 2.0])])
def test_a_mark_for_every_spike(spikes):
    ax = plot.raster(spikes)
    assert marks(ax) == [(0.0, 1.0, to_rgb(INK)), (1.0, 0.0, to_rgb(INK)), (2.0, 1.0, to_rgb(INK))]
    assert (ax.get_xlim(), ax.get_ylim()) == ((-0.5, 3.5), (-0.5, 2.5))
    assert ax.get_legend() is None


def test_time_in_ms():
    assert [time for time, _, _ in marks(plot.raster(SPIKES, dt=2e-3))] == [0.0, 2.0, 4.0]


def test_colours_of_classes():
    ax = plot.raster(SPIKES, classes=[3, 0, 1])
    assert marks(ax) == [(0.0, 1.0, to_rgb(PALETTE[0])), (1.0, 0.0, to_rgb(PALETTE[3])), (2.0, 1.0, to_rgb(PALETTE[0]))]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["0", "1", "3"]


def test_more_classes_than_the_palette_has_colours():
    ax = plot.raster(np.eye(40), classes=np.arange(40))
    assert len({color for _, _, color in marks(ax)}) == 40
    assert ax.get_legend() is None
    _, bar = ax.figure.axes
    assert bar.get_ylabel() == "Class"
    shown = ax.figure.axes[1]._colorbar.mappable  # its colours are those of the marks
    for _, neuron, color in marks(ax):
        np.testing.assert_allclose(shown.to_rgba(neuron)[:3], color, atol=1e-6)


def test_negative_spikes_have_a_colour_of_their_own():
    ax = plot.raster(SPIKES - 2 * (np.arange(4) == 2)[:, None] * SPIKES)
    assert [color for _, _, color in marks(ax)] == [to_rgb(INK), to_rgb(INK), to_rgb(ACCENT)]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["on", "off"]


def test_layers_stand_above_each_other():
    ax = plot.raster({"first": SPIKES, "second": np.eye(2)}, classes={"second": [0, 1]})
    assert [label.get_text() for label in ax.get_yticklabels()] == ["first\n[3]", "second\n[2]"]
    heights = [(height, color) for _, height, color in marks(ax)]
    assert sum(-0.5 < height < 0.5 and color == to_rgb(INK) for height, color in heights) == 3
    assert sum(-1.5 < height < -0.5 and color != to_rgb(INK) for height, color in heights) == 2
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["none", "0", "1"]


def test_a_layer_by_name_alone():
    assert plot.raster({"hidden": SPIKES}).get_ylabel() == "Neuron of hidden"


def test_ten_thousand_neurons_are_an_image():
    spikes = np.zeros((20, 10_000), bool)
    spikes[:, :5000] = np.random.default_rng(0).random((20, 5000)) < 0.1
    ax = plot.raster(spikes, classes=np.arange(10_000) // 5000, ax=axes(4, 2.4))
    [image] = ax.images
    pixels = image.get_array()
    assert pixels.shape == (240, 1000, 4)  # each step is 50 columns wide
    assert image.get_extent() == [-0.5, 19.5, -0.5, 9999.5]
    assert np.all(pixels[120:, :, 3] == 0)  # the silent half shows nothing
    assert np.mean(pixels[:120, :, 3] > 0) > 0.9
    np.testing.assert_allclose(pixels[0, 0, :3], to_rgb(PALETTE[0]), atol=1e-6)
    assert note_of(ax).startswith("neurons x steps a dot: 42 x 1; darkest:")


def test_opacity_is_the_root_of_the_share_that_fires():
    spikes = np.zeros((2, 480))
    spikes[0] = 1  # both neurons of each row
    spikes[1, ::2] = 1  # one of them
    [image] = plot.raster(spikes, ax=axes(4, 2.4)).images
    np.testing.assert_allclose(image.get_array()[:, ::500, 3], [[1.0, 0.5**0.5]] * 240)


@pytest.mark.rows(2)
@pytest.mark.parametrize("loc", ["left", "center", "right"])
def test_a_title_stands_above_the_note(loc):
    ax = plot.raster(np.eye(600))
    title = ax.set_title("a title of the user's that is as long as the picture is wide", loc=loc)
    ax.figure.draw_without_rendering()
    [above] = ax.child_axes
    assert note_of(ax).startswith("neurons x steps a dot")
    assert not title.get_window_extent().overlaps(above.xaxis.label.get_window_extent())
    assert title.get_window_extent().y1 <= ax.figure.bbox.y1


def test_pictures_drawn_one_after_the_other_have_one_note():
    ax = plot.raster(np.eye(300), ax=axes(6, 2.4))
    assert len(plot.raster(np.eye(600), ax=ax).child_axes) == 1


@pytest.mark.rows(2)
@pytest.mark.parametrize(
    ("size", "layers", "rows"),
    [((4, 5), 1, 240), ((4, 12), 1, 784), ((4, 12), 2, 784 // 2 - 5), ((4, 3), 3, 100)],
)
def test_rows_merge_only_where_the_pixels_are_fewer(size, layers, rows):
    ax = axes(size[0], 0.67 * size[1])
    spikes = np.ones((50, rows))
    plot.raster({str(layer): spikes for layer in range(layers)} if layers > 1 else spikes, ax=ax)
    for image in ax.images:  # of so many spikes
        assert image.get_array().shape[0] == rows
    ax = plot.raster(np.ones((50, 5000)), ax=axes(*size))
    assert ax.images[0].get_array().shape[0] == max(240, round(100 * size[1]))


def test_as_many_steps_as_the_axes_have_pixels():
    ax = plot.raster(np.ones((3000, 20)), ax=axes(40, 3))
    assert ax.images[0].get_array().shape[1] == 3000


def test_one_neuron_needs_no_axis():
    train = np.array([0, 1, 1, 0])
    assert marks(plot.raster(train)) == marks(plot.raster(train[:, None]))
    assert marks(plot.raster({"a": train, "b": np.eye(4)}))
    assert plot.spike_counts(train).lines[0].get_ydata().tolist() == [0, 1, 1, 0]
    with pytest.raises(ValueError, match=r"spikes must be \[T, N\], got shape \(\)"):
        plot.raster(np.array(1))


@pytest.mark.parametrize("shape", [(5000, 3), (400, 200)])
def test_many_steps_or_spikes_are_an_image(shape):
    [image] = plot.raster(np.ones(shape)).images
    rows, columns = image.get_array().shape[:2]
    assert (rows % shape[1], columns % min(shape[0], 1000)) == (0, 0)


def test_silence_is_said():
    for picture in (plot.raster, plot.spike_counts):
        assert [text.get_text() for text in picture(np.zeros((5, 3))).texts] == ["no spikes"]
    assert plot.raster(np.zeros((5, 3000))).images[0].get_array()[..., 3].max() == 0


@pytest.mark.parametrize(
    "spikes",
    [
        np.random.default_rng(0).normal(size=(20, 3)),
        np.random.default_rng(0).random((20, 3)),
        np.maximum(np.random.default_rng(0).normal(-1, 1, size=(20, 3)), 0),  # a rate, often zero
        np.stack([np.eye(9)[0], np.linspace(0.1, 0.8, 9) ** 2], axis=1),  # one neuron of two
        np.linspace(0, 1, 11)[:, None],
        np.full((4, 3), 0.5),
        np.array([[0.0, 0.3], [0.5, 0.9]]),
    ],
)
def test_membranes_are_refused(spikes):
    with pytest.raises(ValueError, match=r"spikes must be spikes, .* draw membranes .* plot.traces, .* v > threshold"):
        plot.raster(spikes)
    with pytest.raises(ValueError, match=r"spikes\['readout'\] must be spikes"):
        plot.raster({"hidden": np.eye(3), "readout": spikes})
    assert marks(plot.raster(spikes != 0))


@pytest.mark.parametrize("heights", [1.0, 1000, 1 / np.float32(0.001), np.linspace(0.1, 7, 50)])
def test_several_spikes_in_a_step_are_spikes(heights):
    counts = np.random.default_rng(0).poisson(0.4, (40, 50))
    assert counts.max() > 2
    spikes = (counts * heights).astype(np.float32)
    assert len(marks(plot.raster(spikes))) == np.count_nonzero(counts)


@pytest.mark.parametrize(
    ("classes", "error", "message"),
    [
        ([0, 1], ValueError, r"classes must have shape \(3,\), got shape \(2,\)"),
        ([0, -1, 1], ValueError, "classes must be >= 0, got -1"),
        ([0.0, 1.0, 1.0], TypeError, "classes must be integer labels, got float64"),
        ({"output": [0, 1, 1]}, ValueError, r"must be given by the names of layers, \[''\], got \['output'\]"),
    ],
)
def test_wrong_classes(classes, error, message):
    with pytest.raises(error, match=message):
        plot.raster(SPIKES, classes=classes)


def test_counts():
    ax = plot.spike_counts(SPIKES * 500, height=500, dt=1e-3)
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[0, 1], [1, 1], [2, 1], [3, 0]])


def test_counts_of_a_batch():
    batch = np.stack([np.ones((5, 4)), np.zeros((5, 4))], axis=1)  # [T, 2, 4]
    ax = plot.spike_counts(batch)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), 2.0)
    vertices = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (vertices.min(), vertices.max()) == pytest.approx((0.4, 3.6))
    assert "percentile" in note_of(ax)


def test_counts_of_layers_are_per_neuron():
    ax = plot.spike_counts({"all": np.ones((5, 7)), "none": np.zeros((9, 2))})
    assert [line.get_ydata().tolist() for line in ax.lines] == [[1.0] * 5, [0.0] * 9]
    assert ax.get_ylabel() == "Spikes per neuron and step"
