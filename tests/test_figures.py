"""The figures of a run: which neurons they show, and on which axes."""

import numpy as np
import pytest

from experiments.evaluate import from_quiet_to_busy
from experiments.report import figures


def test_each_layer_of_rates_has_an_axis_of_its_own():
    slow, fast = np.linspace(0, 2, 50), np.linspace(0, 500, 50)
    first, second = figures.rates({"slow": slow, "fast": fast}, "Hz").axes
    assert first.get_xlim()[1] < 3 < 400 < second.get_xlim()[1]
    assert sum(bar.get_height() > 0 for bar in first.patches) == 40  # not squeezed into one bar
    assert first.get_xlabel() == second.get_xlabel() == "Firing rate (Hz)"


def trains(*counts, steps=10):
    """Neurons that fire at so many of the first steps, [T, N]."""
    return (np.arange(steps)[:, None] < np.array(counts)).astype(float)


@pytest.mark.parametrize(
    ("spikes", "chosen"),
    [
        (trains(10, 1, 2, 3, 0, 4, 5, 6, 10), [1, 2, 3, 5, 6, 7]),
        (trains(10, 1, 0, 10, 0, 2, 0, 0), [2, 4, 6, 7, 1, 5]),  # the silent before the saturated
        (trains(10, 10, 3), [2, 0, 1]),  # nothing else is there
        (3 * trains(4, *[10] * 8, 5), [0, 9, 1, 2, 3, 4]),  # several spikes in a step
        (np.stack([4.0 * np.eye(10)[0], *[np.ones(10) - np.eye(10)[1]] * 8], 1), None),  # 4 spikes in one step
    ],
)
def test_saturated_neurons_are_the_last_to_be_traced(spikes, chosen):
    found = from_quiet_to_busy(spikes).tolist()
    assert found[0] == 0 if chosen is None else sorted(found) == sorted(chosen)
    counts = spikes.sum(0)[found]
    assert np.all(np.diff(counts) >= 0)


@pytest.mark.parametrize(
    ("image", "drawn"),
    [
        (np.array([[[0.25, 0.0, 1.0]]]), [0.25, 0.0, 1.0]),
        (np.array([[[51, 0, 255]]], np.uint8), [0.2, 0.0, 1.0]),
        (np.array([[[-1.0, 0.0, 3.0]]]), [0.0, 0.25, 1.0]),
        (np.array([[[0.0, 50.0, 100.0]]]), [0.0, 0.5, 1.0]),
    ],
)
def test_colours_of_any_range_are_drawn(image, drawn):
    """Such as standardised images, and what an autoencoder makes of them."""
    shown = np.ravel(figures._colours(image))
    np.testing.assert_allclose(shown / (255 if shown.dtype == np.uint8 else 1), drawn)
    figures.pictures(image[None], ["one"])
    figures.answer(image, image.ravel())
