"""The energy of networks by device."""

import pytest

from jsnn import plot

JOULES = {"spiking": {"cpu": 2e-4, "loihi": 1e-7}, "rate twin": {"cpu": 1e-5, "loihi": None}}


def test_a_point_for_each_network_that_a_device_runs():
    ax = plot.energy(JOULES)
    points = {line.get_label(): [*zip(line.get_xdata(), line.get_ydata())] for line in ax.lines[1:]}
    assert points == {"spiking": [(2e-4, 0), (1e-7, 1)], "rate twin": [(1e-5, 0)]}
    assert list(ax.lines[0].get_xdata()) == [1e-5, 2e-4]  # joins the two on the CPU
    assert [text.get_text() for text in ax.texts] == ["200.0 \N{MICRO SIGN}J", "100.0 nJ", "10.0 \N{MICRO SIGN}J"]
    assert ax.get_xscale() == "log"
    low, high = ax.get_xlim()
    assert low < 1e-7 < 2e-4 < high


def test_what_is_no_energy_is_refused():
    with pytest.raises(ValueError, match=r"must name networks and devices, got \{\}"):
        plot.energy({})
    with pytest.raises(ValueError, match="the energy of spiking on cpu must be finite and > 0 J, got 0"):
        plot.energy({"spiking": {"cpu": 0.0}})
    with pytest.raises(TypeError, match="the energy of spiking on cpu must be real numbers, got str"):
        plot.energy({"spiking": {"cpu": "low"}})
