"""Histograms of spikes, rates and intervals, against counts by hand and the statistics of known processes."""

import numpy as np
import pytest
from golden import note_of

from jsnn import plot
from jsnn.plot.rates import intervals


def stairs(ax):
    return [(patch.get_data().values, patch.get_data().edges) for patch in ax.patches]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_spikes_per_step():
    [(shares, edges)] = stairs(plot.spike_histogram(np.array([[0, 1, 3], [0, -1, 0]])))
    np.testing.assert_allclose(shares, [3 / 6, 2 / 6, 0, 1 / 6])
    np.testing.assert_allclose(edges, [-0.5, 0.5, 1.5, 2.5, 3.5])


def test_spikes_per_step_of_several():
    (few, _), (many, edges) = stairs(plot.spike_histogram({"few": np.eye(2), "many": np.full((2, 2), 4)}))
    assert (few.tolist(), many.tolist()) == ([0.5, 0.5, 0, 0, 0], [0, 0, 0, 0, 1.0])
    assert len(edges) == 6


def test_firing_rates():
    spikes = np.zeros((10, 2, 4))
    spikes[:, :, 1] = 1
    spikes[0, 0, 2] = 1  # one spike in 20 steps of 10 ms: 5 Hz
    ax = plot.firing_rate_histogram(spikes, dt=1e-2)
    [(shares, edges)] = stairs(ax)
    assert legend(ax) == ["mean 26.2 Hz\n50% never fire"]
    assert shares.sum() == pytest.approx(1)
    assert (shares[0], shares[1], shares[-1]) == (0.5, 0.25, 0.25)
    np.testing.assert_allclose(np.diff(edges), 5.0)
    assert ax.lines[0].get_xdata()[0] == pytest.approx(26.25)


def test_numbers_have_no_exponent():
    assert legend(plot.firing_rate_histogram(np.ones((5, 3)), dt=1e-3)) == ["mean 1000 Hz\n0% never fire"]
    trains = np.zeros((2001, 1))
    trains[[0, 2000]] = 1
    assert legend(plot.isi_histogram(trains, dt=1e-3)) == ["mean 2000 ms\nno CV\n1 intervals"]
    ax = plot.spike_histogram(np.array([0, 0, 0, 1, 1]))
    ax.figure.draw_without_rendering()
    labels = {label.get_text() for label in ax.get_yticklabels(which="both")} - {""}
    assert {"20", "50", "100"} <= labels
    assert all(float(label) for label in labels)  # 0.6 was shown as 6 x 10^-1, and the axis is in percent


def test_each_bin_of_rates_holds_as_many_rates():
    spikes = np.random.default_rng(0).random((1000, 2000)) < np.linspace(0, 0.5, 2000)
    [(shares, edges)] = stairs(plot.firing_rate_histogram(spikes, bins=30))
    np.testing.assert_allclose(np.diff(edges) * 1000, round(np.diff(edges)[0] * 1000), rtol=1e-6)
    assert len(shares) <= 31
    assert shares[:-2].min() > 0.6 / len(shares)  # the rates are spread evenly, and no bin is starved


def test_rates_of_a_dead_layer():
    ax = plot.firing_rate_histogram({"dead": np.zeros((5, 3)), "alive": np.ones((5, 2))})
    assert legend(ax) == [
        "dead\nmean 0 spikes per step\n100% never fire",
        "alive\nmean 1 spikes per step\n0% never fire",
    ]
    assert legend(plot.firing_rate_histogram(np.zeros((5, 3)))) == ["mean 0 spikes per step\n100% never fire"]


def test_each_layer_has_bins_of_its_own():
    """A layer of 1 to 10 Hz beside one of 500 Hz was a single bar; so were short intervals beside long ones."""
    slow = np.zeros((1000, 10))
    for neuron in range(10):
        slow[: neuron + 1, neuron] = 1
    fast = np.tile([[1.0], [0.0]], (500, 3))
    layers = stairs(plot.firing_rate_histogram({"slow": slow, "fast": fast}, dt=1e-3, bins=10))
    np.testing.assert_allclose(layers[0][0], [0, *[0.1] * 10])
    np.testing.assert_allclose(layers[1][0][-1], 1)
    long = np.zeros((1000, 1))
    long[[0, 400, 999]] = 1
    short, wide = stairs(plot.isi_histogram({"short": slow[:, 1:] + fast[:, :1], "long": long}, bins=10))
    np.testing.assert_allclose(np.diff(short[1]), 1)
    assert np.count_nonzero(short[0]) == 2
    assert np.count_nonzero(wide[0]) == 2


def test_one_neuron_needs_no_axis():
    train = np.array([0, 1, 0, 1])
    for picture in (plot.spike_histogram, plot.firing_rate_histogram, plot.isi_histogram):
        [(shares, _)], [(same, _)] = stairs(picture(train)), stairs(picture(train[:, None]))
        np.testing.assert_array_equal(shares, same)


def test_intervals_by_hand():
    trains = np.zeros((12, 4))
    trains[[0, 3, 6, 9], 0] = 1  # a clock
    trains[[1, 2, 5], 1] = 1  # 1 and 3: mean 2, standard deviation 1
    trains[[4, 6], 2] = 1  # one interval has no CV
    found, variation = intervals(trains)
    assert found.tolist() == [3, 3, 3, 1, 3, 2]
    np.testing.assert_allclose(variation, [0, 0.5], atol=1e-7)


def test_interval_histogram():
    trains = np.zeros((12, 2))
    trains[[0, 3, 6, 9], 0] = 5
    trains[[1, 2, 5], 1] = 5
    ax = plot.isi_histogram(trains, dt=1e-3)
    [(shares, edges)] = stairs(ax)
    np.testing.assert_allclose(shares, [1 / 5, 0, 4 / 5])
    np.testing.assert_allclose(edges, [0.5, 1.5, 2.5, 3.5])
    assert legend(ax) == ["mean 2.6 ms\nCV 0.25\n5 intervals"]


def test_intervals_of_a_bernoulli_process():
    spikes = np.random.default_rng(0).random((2000, 300)) < 0.1
    found, variation = intervals(spikes)
    # geometric: mean 1/p, CV sqrt(1 - p); both tolerances are over five standard errors
    assert found.mean() == pytest.approx(10, rel=0.03)
    assert variation.mean() == pytest.approx(np.sqrt(0.9), rel=0.02)
    ax = plot.isi_histogram(spikes, bins=20)
    assert note_of(ax).startswith("not shown: the longest 0.")
    assert len(stairs(ax)[0][0]) <= 20


def test_samples_are_trains_of_their_own():
    spikes = np.zeros((6, 2, 1))
    spikes[[1, 4], [0, 1], 0] = 1  # one spike in each sample: no interval
    ax = plot.isi_histogram(spikes)
    assert legend(ax) == ["no neuron fires twice\nno CV\n0 intervals"]
    assert [text.get_text() for text in ax.texts] == ["no neuron fires twice"]


@pytest.mark.parametrize("picture", [plot.firing_rate_histogram, plot.isi_histogram])
def test_wrong_options(picture):
    with pytest.raises(ValueError, match=r"dt must be > 0 s, got -0.1"):
        picture(np.eye(3), dt=-0.1)
    with pytest.raises(ValueError, match="bins must be >= 1, got 0"):
        picture(np.eye(3), bins=0)


def test_intervals_of_membranes_are_refused():
    with pytest.raises(ValueError, match=r"spikes must be spikes, zeros and whole multiples of one height"):
        plot.isi_histogram(np.random.default_rng(0).normal(size=(20, 3)))
