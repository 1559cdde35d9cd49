"""Training curves, accuracy against steps, surrogate derivatives, trade-offs."""

import numpy as np
import pytest

from jsnn import plot, surrogate


def points(ax):
    """The curves that a legend names, by name."""
    return {line.get_label(): line.get_xydata().tolist() for line in ax.lines if not line.get_label().startswith("_")}


def test_training():
    ax = plot.training_curves({"training": [3, 2, 1], "test": [3, 2.5]}, label="Cross-entropy (nats)", per="Step")
    assert points(ax) == {"training": [[1, 3], [2, 2], [3, 1]], "test": [[1, 3], [2, 2.5]]}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Step", "Cross-entropy (nats)")


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_ticks_are_whole_epochs(epochs):
    ax = plot.training_curves(np.ones(epochs))
    low, high = ax.get_xlim()
    assert [tick for tick in ax.get_xticks() if low <= tick <= high] == list(range(1, epochs + 1))


def test_training_at_given_epochs():
    ax = plot.training_curves([0.5, 0.6], epochs=[10, 20])
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[10, 0.5], [20, 0.6]])


def test_training_that_diverges_is_drawn():
    ax = plot.training_curves([1.0, np.nan, np.inf, 2.0])
    ax.figure.draw_without_rendering()
    assert ax.get_ylim()[1] < 3


def test_long_curves_are_smoothed():
    noise = np.random.default_rng(0).normal(size=5000)
    raw, smooth = plot.training_curves(1 + noise).lines
    np.testing.assert_array_equal(raw.get_ydata(), 1 + noise)
    np.testing.assert_allclose(smooth.get_ydata(), 1, atol=0.6)  # 100 values to a mean: six standard errors
    np.testing.assert_allclose(plot.training_curves(np.ones(5000)).lines[1].get_ydata(), 1)


@pytest.mark.parametrize("picture", [plot.training_curves, plot.accuracy_against_steps])
def test_wrong_curves(picture):
    with pytest.raises(ValueError, match=r"curves\['a'\] must be one number per step, \[T\], got shape \(2, 2\)"):
        picture({"a": np.ones((2, 2))})
    option = "epochs" if picture is plot.training_curves else "steps"
    with pytest.raises(ValueError, match=rf"{option} must be as many as the values, 2, got shape \(3,\)"):
        picture([0.1, 0.2], **{option: [1, 2, 3]})


def test_accuracy():
    ax = plot.accuracy_against_steps({"a": [0.1, 0.9]}, steps=[15, 30], reference={"rate network": 0.95})
    assert points(ax)["a"] == [[15, 0.1], [30, 0.9]]
    assert [y for _, y in points(ax)["rate network"]] == [0.95, 0.95]
    assert ax.yaxis.get_major_formatter()(0.07) == "7"


@pytest.mark.parametrize("wrong", [71.2, -0.1, np.nan])
def test_percentages_are_refused(wrong):
    message = f"must be a fraction in .0, 1., got {wrong:.4g}: divide percentages by 100"
    with pytest.raises(ValueError, match=f"curves {message}"):
        plot.accuracy_against_steps([0.5, wrong])
    with pytest.raises(ValueError, match=f"rate network {message}"):
        plot.accuracy_against_steps([0.5], reference={"rate network": wrong})
    with pytest.raises(ValueError, match=r"must be (a fraction|finite)"):
        plot.trade_off([{"spikes": 1, "accuracy": wrong}])


def test_surrogates():
    triangle = surrogate.triangular(2.0)
    curves = points(plot.surrogate_derivatives([triangle, surrogate.straight_through()], limit=1.0))
    np.testing.assert_allclose([y for x, y in curves["triangular(slope=2.0)"] if abs(x) < 1e-6], [2.0], rtol=1e-5)
    assert {y for _, y in curves["straight_through()"]} == {1.0}
    x = np.array(curves["triangular(slope=2.0)"])[:, 0]
    assert (x[0], x[-1]) == (-1, 1)
    assert list(points(plot.surrogate_derivatives(triangle))) == ["triangular(slope=2.0)"]


@pytest.mark.parametrize(
    ("surrogates", "limit", "error", "message"),
    [
        ([surrogate.arctan], 1.0, TypeError, "surrogates must be made by a factory .* got <function arctan"),
        ([], 1.0, ValueError, "surrogates must not be empty"),
        (surrogate.arctan(), 0, ValueError, "limit must be > 0, got 0"),
    ],
)
def test_wrong_surrogates(surrogates, limit, error, message):
    with pytest.raises(error, match=message):
        plot.surrogate_derivatives(surrogates, limit=limit)


ROWS = [
    {"scale": 20, "synapse": 0.005, "steps": 30, "spikes": 300, "accuracy": 0.6},
    {"scale": 20, "synapse": 0.005, "steps": 15, "spikes": 100, "accuracy": 0.4},
    {"scale": 50, "synapse": 0.005, "steps": 15, "spikes": 400, "accuracy": 0.5},  # beaten by the first
    {"scale": 50, "synapse": 0.005, "steps": 30, "spikes": 2000, "accuracy": 0.7},
]


def test_trade_off():
    curves = points(plot.trade_off(ROWS, group="scale", reference={"rate network": 0.71}))
    assert curves["scale 20"] == [[100, 0.4], [300, 0.6]]  # joined along the cost
    assert curves["scale 50"] == [[400, 0.5], [2000, 0.7]]
    assert curves["not beaten"] == [[100, 0.4], [300, 0.6], [2000, 0.7]]
    assert {y for _, y in curves["rate network"]} == {0.71}


def test_trade_off_by_several_keys():
    assert list(points(plot.trade_off(ROWS, group=["scale", "synapse"])))[:2] == [
        "scale 20, synapse 0.005",
        "scale 50, synapse 0.005",
    ]


def test_axis_of_the_cost():
    wide, narrow = plot.trade_off(ROWS), plot.trade_off(ROWS, x="steps")
    assert (wide.get_xscale(), wide.get_xlabel()) == ("log", "Spikes per inference")
    assert (narrow.get_xscale(), narrow.get_xlabel()) == ("linear", "Time steps")
    assert wide.xaxis.get_major_formatter()(2000) == "2k"
    assert plot.trade_off(ROWS, x="scale", y="spikes").get_xlabel() == "scale"


def test_equal_rows_are_ringed_once():
    assert points(plot.trade_off([ROWS[0], ROWS[0]]))["not beaten"] == [[300, 0.6]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "rows must not be empty, got none: sweep at least one setting"),
        ([ROWS[0], {"accuracy": 0.5}], r"row 1 must have \['spikes'\], got \['accuracy'\]"),
        ([{"spikes": np.nan, "accuracy": 0.5}], "spikes must be finite, got nan"),
    ],
)
def test_wrong_rows(rows, message):
    with pytest.raises(ValueError, match=message):
        plot.trade_off(rows)
