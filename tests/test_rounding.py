"""Whole numbers made of floats, and sums of half precision."""

from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest

import jsnn
from jsnn import encode, losses, rounding
from jsnn.compat import snntorch_functional as functional


def test_floors_of_hundredths_are_exact():
    for steps in range(5, 201):
        found = rounding.floor(np.arange(101) / 100 * steps)
        assert found.tolist() == [k * steps // 100 for k in range(101)]


@pytest.mark.parametrize(("x", "margin", "expected"), [
    (0.29 * 100, None, 29), (28.9, None, 28), (-0.5, None, -1), (-1e-17, None, 0), (2.0**52 + 1, None, 2**52 + 1),
    (0.99, 0.02, 1), (0.7, 3.0, 0), ([0.1 + 0.2, 1 - 1e-16], None, [0, 1]),
])  # fmt: skip
def test_floor(x, margin, expected):
    assert rounding.floor(x, margin).tolist() == expected


def test_spread_is_even():
    for count, size in ((1, 5), (4, 10), (7, 50), (512, 1000)):
        found = rounding.spread(count, size)
        assert found.tolist() == [int(Fraction(k * (size - 1), max(count - 1, 1))) for k in range(count)]


def regular(rate, num_steps):
    """The steps of a regular train, in rational numbers."""
    times = (int(k / rate) for k in range(num_steps)) if rate else ()
    return [step for step in times if step < num_steps]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [float, np.float32])
def test_regular_spikes_of_all_hundredths(dtype, monkeypatch):
    monkeypatch.setattr("jsnn.encode.regular.jnp", np)  # a thousand transfers less
    for num_steps in (*range(5, 30), 50, 99, 100, 128, 150, 199, 200):
        for k in range(101):
            spikes = encode.regular_spikes(dtype(k / 100), num_steps=num_steps)
            assert np.flatnonzero(spikes).tolist() == regular(Fraction(k, 100), num_steps), (k, num_steps)


def test_regular_spikes_as_the_issue_names_them():
    assert encode.regular_spikes(0.52, num_steps=25).sum() == 13
    targets = functional.targets_rate(jnp.array([0, 1]), 2, 25, correct_rate=0.28)
    assert np.flatnonzero(targets[:, 0, 0]).tolist() == regular(Fraction(28, 100), 25) == [0, 3, 7, 10, 14, 17, 21]


@pytest.mark.rows(2)
@pytest.mark.parametrize("num_steps", [25, 50, 100, 200])
@pytest.mark.parametrize("classes", [1, 2])  # with two neurons each, a population code
def test_the_wanted_count_is_a_whole_number_of_spikes(num_steps, classes):
    for k in range(0, 101, 7):
        neurons = 4 // classes
        wanted = k * num_steps * neurons // 100
        spikes = (np.arange(num_steps * neurons) < wanted).reshape(num_steps, 1, neurons)
        spikes = np.concatenate([spikes, np.zeros((num_steps, 1, 4 - neurons))], -1).astype(np.float32)
        options = {"num_classes": classes}
        assert losses.mse_count_loss(spikes, jnp.array([0]), correct_rate=k / 100, **options) == 0


def test_29_percent_of_100_steps_are_29_spikes():
    spikes = (jnp.arange(100) < 29).astype(jnp.float32)[:, None, None]
    assert losses.mse_count_loss(spikes, jnp.array([0]), correct_rate=0.29) == 0
    assert losses.mse_count_loss(spikes.at[28].set(0.0), jnp.array([0]), correct_rate=0.29) == pytest.approx(0.01)


@pytest.mark.slow
def test_a_burst_has_as_many_spikes_as_its_value_says():
    values = np.arange(101) / 100
    assert encode.burst(jnp.asarray(values), num_steps=250, max_spikes=100).sum(0).tolist() == list(range(101))


# Half precision: the numbers of float32, to the rounding of the result
ONES = jnp.ones((300, 2, 10))
LABELS = jnp.array([0, 3])
SUMS = {
    "mse_count_loss": lambda x: losses.mse_count_loss(x, LABELS),
    "mse_membrane_loss": lambda x: losses.mse_membrane_loss(300 * x, LABELS),
    "mse_temporal_loss": lambda x: functional.mse_temporal_loss(x, LABELS),
    "ce_count_loss": lambda x: losses.ce_count_loss(x.at[:, 0, 0].set(0), LABELS),
    "ce_temporal_loss": lambda x: functional.ce_temporal_loss(x.at[:290, 0].set(0), LABELS),
    "l1": lambda x: jsnn.regularizers.l1(1000 * x),
    "l2": lambda x: jsnn.regularizers.l2(1000 * x),
    "l1_rate": lambda x: jsnn.regularizers.l1_rate(x, dt=1e-3),
    "l2_rate": lambda x: jsnn.regularizers.l2_rate(x, dt=1e-3, strength=1.0),
    "l1_rate_sparsity": lambda x: jsnn.regularizers.l1_rate_sparsity(jnp.tile(x, (20, 1, 1)), strength=1.0),
    "keras_l2": lambda x: jsnn.compat.keras_spiking.l2(1.0)(100 * x),
    "firing_rate": lambda x: jsnn.metrics.firing_rate(x, dt=1e-5),
    "accuracy_rate": lambda x: functional.accuracy_rate(x.at[0].set(0).at[0, :, 2].set(1), jnp.array([2, 2])),
    "accuracy_temporal": lambda x: functional.accuracy_temporal(x.at[:259].set(0).at[258, :, 1].set(1), LABELS),
    "mean": lambda x: jsnn.decode.mean(200 * x),
    "sum": lambda x: jsnn.decode.sum(x),
    "spike_count": lambda x: jsnn.decode.spike_count(x, num_classes=5),
    "log_softmax": lambda x: jsnn.decode.sum(x.at[0, :, 2].set(0), log_softmax=True),
}  # fmt: skip


@pytest.mark.rows(1)
@pytest.mark.parametrize("compute", SUMS.values(), ids=SUMS.keys())
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_sums_of_half_precision_are_those_of_float32(compute, dtype):
    found = compute(ONES.astype(dtype))
    np.testing.assert_allclose(np.asarray(found, np.float32), compute(ONES), rtol=float(jnp.finfo(dtype).eps))
