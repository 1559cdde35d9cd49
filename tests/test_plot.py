"""What all pictures have in common: Axes in, Axes out, any array, no state left behind, early errors."""

import io
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jsnn import plot, surrogate

RNG = np.random.default_rng(0)
SPIKES = (RNG.random((30, 4, 6)) < 0.2).astype(np.float32)  # [T, B, N]
MEMBRANES = RNG.normal(size=(30, 6)).astype(np.float32)
LABELS = RNG.integers(0, 3, 20)

# name -> (the picture of an array, the array, the labels of its axes)
PICTURES = {
    "raster": (plot.raster, SPIKES[:, 0], ("Time step", "Neuron")),
    "spike_counts": (plot.spike_counts, SPIKES[:, 0], ("Time step", "Spikes per step")),
    "spike_histogram": (plot.spike_histogram, SPIKES, ("Spikes of a neuron in a step", "Neurons and steps (%)")),
    "firing_rate_histogram": (
        plot.firing_rate_histogram,
        SPIKES,
        ("Firing rate (spikes per step)", "Neurons (%)"),
    ),
    "isi_histogram": (plot.isi_histogram, SPIKES, ("Inter-spike interval (steps)", "Intervals (%)")),
    "traces": (plot.traces, MEMBRANES, ("Time step", "Membrane potential of neuron")),
    "class_probabilities": (plot.class_probabilities, MEMBRANES, ("Time step", "Probability (%)")),
    "output_traces": (plot.output_traces, MEMBRANES, ("Time step", "Output")),
    "confusion_matrix": (lambda x, ax=None: plot.confusion_matrix(x, x, ax=ax), LABELS, ("Prediction", "Target")),
    "weights": (plot.weights, MEMBRANES, ("Output neuron", "Input neuron")),
    "weights of kernels": (plot.weights, MEMBRANES.reshape(3, 3, 4, 5), ("Output channel", "Input channel")),
    "feature_maps": (plot.feature_maps, MEMBRANES.reshape(5, 6, 6), ("", "")),
    "images": (plot.images, MEMBRANES.reshape(5, 6, 6), ("", "")),
    "input_reconstruction": (plot.input_reconstruction, SPIKES, ("", "")),
    "training_curves": (plot.training_curves, MEMBRANES[:, 0], ("Epoch", "Loss")),
    "accuracy_against_steps": (plot.accuracy_against_steps, SPIKES[:, 0, 0], ("Time steps", "Accuracy (%)")),
}
ALL = pytest.mark.parametrize(("picture", "array", "axis_labels"), PICTURES.values(), ids=PICTURES)
OF_BATCHES = ["spike_counts", "spike_histogram", "firing_rate_histogram", "isi_histogram"]  # [T, N] or [T, B, ...]
FINITE = {name: row for name, row in PICTURES.items() if name not in ("training_curves", "confusion_matrix")}


def rendered(ax):
    """The picture as bytes; drawing it raises where anything is wrong with its artists."""
    file = io.BytesIO()
    ax.figure.savefig(file, format="rgba", dpi=40)
    return file.getvalue()


@pytest.mark.rows(2)
@ALL
def test_makes_a_labelled_picture_of_its_own(picture, array, axis_labels):
    ax = picture(array)
    assert isinstance(ax, Axes)
    assert (ax.get_xlabel(), ax.get_ylabel()) == axis_labels
    pixels = np.frombuffer(rendered(ax), np.uint8)
    assert np.mean(pixels != 255) > 0.01  # something was drawn


@pytest.mark.rows(8)
@ALL
def test_draws_where_it_is_told(picture, array, axis_labels):
    left, right = Figure().subplots(1, 2)
    assert picture(array, ax=right) is right
    assert not left.has_data()
    assert right.has_data()


@ALL
@pytest.mark.slow
def test_draws_jax_arrays_alike(picture, array, axis_labels):
    assert rendered(picture(jnp.asarray(array))) == rendered(picture(array))


@pytest.mark.parametrize("name", ["raster", "traces", "class_probabilities", "spike_histogram", "feature_maps"])
@pytest.mark.slow
def test_draws_bfloat16(name):
    picture, array, _ = PICTURES[name]
    rounded = jnp.asarray(array, jnp.bfloat16)
    assert rendered(picture(rounded)) == rendered(picture(np.asarray(rounded, np.float32)))


@ALL
def test_refuses_empty_arrays(picture, array, axis_labels):
    with pytest.raises(ValueError, match="must not be empty, got shape"):
        picture(array[:0])


@pytest.mark.parametrize(("picture", "array", "axis_labels"), FINITE.values(), ids=FINITE)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_refuses_what_is_not_finite(picture, array, axis_labels, bad):
    spoilt = array.copy()
    spoilt.flat[5] = bad
    with pytest.raises(ValueError, match=rf"(must be finite|must be a fraction in \[0, 1\]), got {bad}"):
        picture(spoilt)


@ALL
def test_refuses_a_number(picture, array, axis_labels):
    with pytest.raises(ValueError, match=r"must be (\[|one number per step)"):
        picture(array.flat[0])


@pytest.mark.parametrize("name", sorted(set(PICTURES) - set(OF_BATCHES)))
def test_refuses_too_many_axes(name):
    picture, array, _ = PICTURES[name]
    with pytest.raises(ValueError, match=r"must be (\[|one number per step).*, got shape \(1, 1, 1, "):
        picture(array[None, None, None])


@ALL
def test_refuses_what_is_no_number(picture, array, axis_labels):
    for wrong in (["a", "b"], [[1, 2], [3]], np.zeros((2, 2), complex), object()):
        with pytest.raises(TypeError, match=r"must be (an array of numbers|real numbers)"):
            picture(wrong)


@ALL
def test_refuses_what_are_no_axes(picture, array, axis_labels):
    with pytest.raises(TypeError, match="ax must be matplotlib Axes, got ndarray: pass one of them"):
        picture(array, ax=Figure().subplots(1, 2))


@pytest.mark.parametrize("name", ["spike_counts", "traces", "class_probabilities", "output_traces", "training_curves"])
def test_a_single_step_is_seen(name):
    picture, array, _ = PICTURES[name]
    markers = [line.get_marker() for line in picture(array[:1]).lines if len(line.get_xdata()) == 1]
    assert set(markers) == {"o"}


LONG = "great white shark, white shark, man-eater, man-eating shark, Carcharodon carcharias, number"
NAMED = {
    "raster": lambda a, b: plot.raster({a: SPIKES[:, 0], b: SPIKES[:, 1]}),
    "spike_counts": lambda a, b: plot.spike_counts({a: SPIKES, b: SPIKES}),
    "firing_rate_histogram": lambda a, b: plot.firing_rate_histogram({a: SPIKES, b: SPIKES}),
    "class_probabilities": lambda a, b: plot.class_probabilities(MEMBRANES[:, :2], class_names=[a, b], target=0),
    "confusion_matrix": lambda a, b: plot.confusion_matrix([0, 1], [0, 1], class_names=[a, b]),
    "trade_off": lambda a, b: plot.trade_off([{"n": n, "spikes": 1, "accuracy": 0.5} for n in (a, b)], group="n"),
    "energy": lambda a, b: plot.energy({f"{n}{i}": {"cpu": 1.0, n: 2.0} for n in (a, b) for i in range(3)}),
}


@pytest.mark.parametrize("picture", NAMED.values(), ids=NAMED)
def test_long_names_leave_room_for_the_picture(picture):
    ax = picture(f"{LONG} 1", f"{LONG} 2")
    ax.figure.draw_without_rendering()
    legend = ax.get_legend()
    texts = [*ax.get_yticklabels(), *ax.get_xticklabels(), *(legend.get_texts() if legend else [])]
    boxes = [text.get_window_extent() for text in texts if "great white" in text.get_text()]
    assert boxes
    assert all(box.x0 > 0 and box.x1 < ax.figure.bbox.x1 and box.y0 > 0 for box in boxes)
    assert ax.get_window_extent().width > 0.2 * ax.figure.bbox.width


def test_long_captions_are_wrapped():
    ax = plot.images(MEMBRANES.reshape(5, 6, 6), captions=[f"{LONG}\n{k}" for k in range(5)])
    ax.figure.draw_without_rendering()
    first, second = (text.get_window_extent() for text in ax.texts[:2])
    assert first.x1 < second.x0
    assert all(text.get_window_extent().y1 <= ax.figure.bbox.y1 for text in ax.texts)


def test_tall_images_make_no_endless_figure():
    assert plot.feature_maps(np.ones((500, 1, 3))).figure.get_figheight() <= 12


KEPT = []  # matplotlib warns of an animation that was not kept


def sound_of(dots, ax):
    plot.sound(np.ones(100), 100, 2 * dots, dt=1 / len(dots), axes=(Figure().add_subplot(), ax))


def animation_of(dots, ax):
    KEPT.append(plot.animate(np.stack([0 * dots, dots], -1)[None], ax=ax))


@pytest.mark.parametrize(
    ("picture", "shape"),
    [
        *[(lambda dots, ax: plot.raster(dots, ax=ax), shape) for shape in ((900, 3000), (40, 3000), (5000, 30))],
        (sound_of, (2000, 30)),
        (animation_of, (480, 640)),
    ],
)
def test_a_dot_among_many_is_not_lost(picture, shape):
    dots, parts = np.zeros(shape), 4
    along = (np.arange(parts) + 0.5) / parts
    dots[(along * shape[0]).astype(int), (along * shape[1]).astype(int)] = 1  # one in each part of the diagonal
    ax = Figure(figsize=(5, 2.5)).add_axes((0, 0, 1, 1))
    picture(dots, ax)
    ax.set_aspect("auto")
    pixels = np.frombuffer(rendered(ax), np.uint8).reshape(100, 200, 4)[6:-6, 6:-6, :3].astype(int)
    for part in np.array_split(pixels, parts, axis=1):
        assert np.abs(part - np.median(part, axis=(0, 1))).max() > 4


@pytest.mark.parametrize("name", ["raster", "spike_counts", "traces", "class_probabilities", "output_traces"])
def test_time_has_a_unit(name):
    picture, array, _ = PICTURES[name]
    assert picture(array, dt=1e-3).get_xlim() == pytest.approx((-0.5, 29.5))
    assert picture(array, dt=1e-3).get_xlabel() == "Time (ms)"
    assert picture(array, dt=0.5).get_xlabel() == "Time (s)"
    with pytest.raises(ValueError, match="dt must be > 0 s, got 0"):
        picture(array, dt=0)


@pytest.mark.rows(1)
@pytest.mark.parametrize("name", ["spike_histogram", "spike_counts", "firing_rate_histogram"])
def test_height_of_a_spike(name):
    picture, array, _ = PICTURES[name]
    assert rendered(picture(array * 1000, height=1000)) == rendered(picture(array))
    assert rendered(picture(array * np.arange(1, 7), height=np.arange(1, 7))) == rendered(picture(array))
    with pytest.raises(ValueError, match=r"whole multiples .* got 1000 with height 3000: set height, 1 / dt"):
        picture(array * 1000, height=3000)
    with pytest.raises(ValueError, match="height must be > 0, got -1"):
        picture(array, height=-1)
    with pytest.raises(ValueError, match="height must fit the neurons of spikes"):
        picture(array, height=np.ones(5))


@pytest.mark.rows(1)
@pytest.mark.parametrize("name", ["raster", "traces", "class_probabilities", "output_traces"])
def test_sample_of_a_batch(name):
    picture, _, _ = PICTURES[name]
    batch = np.stack([SPIKES[:, 0], SPIKES[:, 1]], axis=1)
    assert rendered(picture(batch, sample=1)) == rendered(picture(SPIKES[:, 1]))
    assert rendered(picture(batch.reshape(30, 2, 3, 2), sample=1)) == rendered(picture(SPIKES[:, 1]))
    with pytest.raises(ValueError, match=r"must be \[T, N\], got shape \(30, 2, 6\): choose a sample .* sample=0..1"):
        picture(batch)
    with pytest.raises(ValueError, match=r"sample must be in 0..1, got 2"):
        picture(batch, sample=2)
    with pytest.raises(ValueError, match=r"must be \[T, B, ...\] for a sample to be chosen, got shape \(30, 2\)"):
        picture(batch[:, :, 0], sample=0)


@pytest.mark.parametrize("name", ["raster", *OF_BATCHES])
def test_layers_by_name(name):
    picture, array, _ = PICTURES[name]
    ax = picture({"hidden": array, "output": array[..., :2]})
    names = ax.get_yticklabels() if name == "raster" else ax.get_legend().get_texts()
    assert [text.get_text().split("\n")[0] for text in names] == ["hidden", "output"]
    with pytest.raises(ValueError, match=r"spikes\['output'\] must not be empty"):
        picture({"hidden": array, "output": array[:0]})
    with pytest.raises(ValueError, match="must not be empty, got no array by name"):
        picture({})


AFTER_DRAWING = """
import sys, numpy as np, matplotlib
matplotlib.use("Agg")  # reading rcParams would look for a backend, and load pyplot
before = dict(matplotlib.rcParams)
from jsnn import plot
plot.raster(np.eye(4)).figure.savefig("/dev/null", format="png")
plot.images(np.zeros((2, 4, 4)))
print("matplotlib.pyplot" in sys.modules, dict(matplotlib.rcParams) == before)
"""


@pytest.mark.slow
def test_leaves_no_state():
    done = subprocess.run([sys.executable, "-c", AFTER_DRAWING], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False True\n", "")


def test_every_public_function_is_in_the_table():
    others = {
        "animate",
        "to_html5",
        "surrogate_derivatives",
        "trade_off",
        "energy",
        "sound",
    }  # they take no array, or return no Axes or several
    assert set(plot.__all__) - others <= set(PICTURES)
    assert isinstance(plot.surrogate_derivatives(surrogate.arctan()), Axes)
    assert isinstance(plot.trade_off([{"spikes": 1, "accuracy": 0.5}]), Axes)
    assert isinstance(plot.energy({"spiking": {"cpu": 1e-6}}), Axes)
