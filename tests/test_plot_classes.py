"""Probabilities and outputs of classes, and confusion matrices."""

import jax
import numpy as np
import pytest
from golden import note_of

from jsnn import plot

LOGITS = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)


def curves(ax):
    return np.stack([line.get_ydata() for line in ax.lines], axis=1)


def test_logits_go_through_softmax():
    np.testing.assert_allclose(curves(plot.class_probabilities(LOGITS)), jax.nn.softmax(LOGITS), rtol=1e-5)
    np.testing.assert_allclose(curves(plot.class_probabilities(LOGITS + 1000)), jax.nn.softmax(LOGITS), atol=1e-3)


def test_probabilities_are_drawn_as_they_are():
    probabilities = np.asarray(jax.nn.softmax(LOGITS))
    np.testing.assert_allclose(curves(plot.class_probabilities(probabilities)), probabilities, rtol=1e-6)


def test_outputs_are_drawn_as_they_are():
    np.testing.assert_array_equal(curves(plot.output_traces(LOGITS)), LOGITS)


@pytest.mark.parametrize("picture", [plot.class_probabilities, plot.output_traces])
def test_target_and_names(picture):
    ax = picture(LOGITS, target=2, class_names=["a", "b", "c", "d", "e"])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b", "c (target)", "d", "e"]
    widths = [line.get_linewidth() for line in ax.lines]
    assert widths[2] > max(widths[:2] + widths[3:])


def test_of_many_classes_the_likely_ones_and_the_target_have_colour():
    logits = np.random.default_rng(0).normal(size=(20, 1000))
    logits[:, 500:509] += 9
    ax = plot.class_probabilities(logits, target=7)
    assert len(ax.lines) == 1000
    named = {line.get_label() for line in ax.lines if not line.get_label().startswith("_")}
    assert {*map(str, range(500, 509)), "7 (target)"} == named
    assert note_of(ax) == "in colour: 10 of 1,000 classes"


def test_a_single_step_is_seen():
    assert {line.get_marker() for line in plot.output_traces(LOGITS[:1]).lines} == {"o"}


@pytest.mark.parametrize("picture", [plot.class_probabilities, plot.output_traces])
def test_wrong_options(picture):
    with pytest.raises(ValueError, match=r"target must be in 0..4, got 5"):
        picture(LOGITS, target=5)
    with pytest.raises(ValueError, match="class_names must name the 5 classes of the outputs, got 6 names"):
        picture(LOGITS, class_names="abcdef")


def test_confusion_by_hand():
    ax = plot.confusion_matrix([0, 0, 0, 2, 2], [0, 0, 1, 2, 1])
    np.testing.assert_allclose(ax.images[0].get_array(), [[2 / 3, 1 / 3, 0], [0, 0, 0], [0, 0.5, 0.5]])
    numbers = {text.get_position()[::-1]: text.get_text() for text in ax.texts}
    assert numbers == {(0, 0): "2", (0, 1): "1", (2, 1): "1", (2, 2): "1"}
    assert note_of(ax) == "accuracy 60.00% of 5"


def test_confusion_with_names():
    ax = plot.confusion_matrix([0, 1], [0, 1], class_names=["cat", "dog", "horse"])
    assert ax.images[0].get_array().shape == (3, 3)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cat", "dog", "horse"]


def test_confusion_of_many_classes_has_no_numbers():
    assert len(plot.confusion_matrix(np.arange(100), np.arange(100)).texts) == 0


@pytest.mark.parametrize(
    ("targets", "predictions", "error", "message"),
    [
        ([0, 1], [0, 1, 1], ValueError, r"predictions must have shape \(2,\), got shape \(3,\)"),
        ([0, 1], [0, -1], ValueError, "predictions must be >= 0, got -1"),
        ([0, 1], [0.5, 1.0], TypeError, "predictions must be integer labels, got float64"),
        ([[0, 1]], [[0, 1]], ValueError, r"targets must be \[B\], got shape \(1, 2\)"),
        ([0, 3], [0, 1], ValueError, "class_names must name the 4 classes of the labels, got 2 names"),
    ],
)
def test_wrong_labels(targets, predictions, error, message):
    with pytest.raises(error, match=message):
        plot.confusion_matrix(targets, predictions, class_names=["a", "b"])
