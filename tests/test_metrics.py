"""Metrics against snnTorch's golden accuracies, hand-computed cases and errors."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import padded
import pytest

from jsnn import metrics
from jsnn.compat import snntorch_functional as functional

SPIKES = jnp.array([[[0.0, 1.0, 0.0]], [[0.0, 1.0, 0.0]], [[0.0, 1.0, 1.0]], [[0.0, 1.0, 1.0]]])


@pytest.mark.rows(1)
@pytest.mark.parametrize("case", [0, 1, 2])
def test_snntorch(parity, case):
    golden = parity("snntorch_accuracy")
    spikes, population = jnp.asarray(golden[f"spk_{case}"]), jnp.asarray(golden[f"spkpop_{case}"])
    targets = jnp.asarray(golden[f"targets_{case}"])
    accuracy = jax.jit(functional.accuracy_rate, static_argnames="num_classes")
    rate = accuracy(spikes, targets)
    temporal = jax.jit(functional.accuracy_temporal)(spikes, targets)
    by_population = accuracy(population, targets, num_classes=spikes.shape[-1])
    np.testing.assert_allclose(rate, golden[f"acc_rate_{case}"], rtol=1e-6)
    np.testing.assert_allclose(temporal, golden[f"acc_temporal_{case}"], rtol=1e-6)
    np.testing.assert_allclose(by_population, golden[f"acc_rate_pop_{case}"], rtol=1e-6)
    assert accuracy(spikes, jnp.asarray(golden[f"pred_rate_{case}"])) == 1


def test_snntorch_small_case(parity):
    golden = parity("snntorch_losses")
    targets = jnp.asarray(golden["targets"])
    rate = jax.jit(functional.accuracy_rate, static_argnames="num_classes")
    rates = rate(golden["spk"], targets)
    populations = rate(golden["spk20"], targets, num_classes=5)
    temporal = jax.jit(functional.accuracy_temporal)(golden["spk"], targets)
    expected = [golden["acc_rate"], golden["acc_rate_pop"], golden["acc_temporal"]]
    np.testing.assert_allclose([rates, populations, temporal], expected, rtol=1e-6)


OUTPUTS = jnp.array([[[0.0, 0.6], [0.0, 0.0]], [[0.9, 0.6], [0.0, 0.0]]])  # the second sample ties: class 0


@pytest.mark.rows(1)
@pytest.mark.parametrize(
    ("accuracy", "targets", "expected"),
    [
        (functional.accuracy_max_membrane, [0, 0], 1.0),
        (functional.accuracy_max_membrane, [1, 0], 0.5),
        (functional.accuracy_rate, [1, 0], 1.0),
        (functional.accuracy_rate, [1, 1], 0.5),
        (functional.accuracy_temporal, [1, 0], 1.0),
        (functional.accuracy_temporal, [0, 1], 0.0),
    ],
)
def test_accuracy_by_hand(accuracy, targets, expected):
    targets = jnp.array(targets)
    assert accuracy(OUTPUTS, targets) == jax.jit(accuracy)(OUTPUTS, targets) == expected


def test_accuracy_of_logits_of_every_step():
    assert metrics.accuracy(jnp.eye(3)[None], jnp.array([[0, 1, 1]])) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 0.5),
        ({"dt": 1e-3}, 500.0),
        ({"axis": (0, 1)}, [0.0, 1.0, 0.5]),
        ({"axis": (0, 1), "dt": 0.5}, [0.0, 2.0, 1.0]),
        ({"axis": 0}, [[0.0, 1.0, 0.5]]),
    ],
)
def test_firing_rate(options, expected):
    np.testing.assert_allclose(metrics.firing_rate(SPIKES, **options), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_firing_rate_keeps_dtype(dtype):
    assert metrics.firing_rate(SPIKES.astype(dtype), dt=1e-3).dtype == dtype


def test_firing_rate_after_a_convolution():
    assert metrics.firing_rate(jnp.ones((5, 2, 4, 4, 3)), axis=(0, 1)).shape == (4, 4, 3)


def test_silent_and_saturated_fraction():
    assert metrics.silent_fraction(SPIKES) == pytest.approx(1 / 3)
    assert metrics.saturated_fraction(SPIKES) == pytest.approx(1 / 3)
    both = jnp.concatenate([SPIKES, 1 - SPIKES], axis=1)  # each neuron fires for one of two samples
    assert metrics.silent_fraction(both) == metrics.saturated_fraction(both) == 0


@pytest.mark.parametrize("dt", [0, -0.1])
def test_wrong_dt(dt):
    with pytest.raises(ValueError, match=f"dt must be > 0 s, got {dt}"):
        metrics.firing_rate(SPIKES, dt=dt)


@pytest.mark.rows(2)
@pytest.mark.parametrize(
    "accuracy", [functional.accuracy_rate, functional.accuracy_max_membrane, functional.accuracy_temporal]
)
def test_wrong_input(accuracy):
    with pytest.raises(ValueError, match=r"must be \[T, B, N\], got shape \(4, 3\)"):
        accuracy(SPIKES[:, 0], jnp.array([0]))
    with pytest.raises(ValueError, match=r"targets must have shape \(1,\).*got \(2,\)"):
        accuracy(SPIKES, jnp.array([0, 1]))
    with pytest.raises(TypeError, match="targets must be integer labels, got float32"):
        accuracy(SPIKES, jnp.array([0.0]))


def test_wrong_population():
    with pytest.raises(ValueError, match="N=3 and num_classes=2"):
        functional.accuracy_rate(SPIKES, jnp.array([0]), num_classes=2)


@pytest.mark.parametrize("metric", [metrics.accuracy, metrics.is_correct])
def test_labels_are_integers(metric):
    for wrong in (jnp.array([0.0, 1.0]), jnp.array([True, False])):
        with pytest.raises(TypeError, match="targets must be integer labels, got"):
            metric(jnp.eye(2), wrong)


@pytest.mark.parametrize("label", [0, 1])
def test_a_sample_with_nan_is_never_right(label):
    logits = jnp.array([[jnp.nan, jnp.nan], [jnp.nan, 1.0]])
    assert metrics.accuracy(logits, jnp.full(2, label)) == 0
    assert functional.accuracy_max_membrane(logits[None], jnp.full(2, label)) == 0
    assert functional.accuracy_rate(logits[None], jnp.full(2, label)) == 0
    assert functional.accuracy_temporal(logits[None], jnp.full(2, label)) == 0


@pytest.mark.parametrize("metric", [metrics.firing_rate, metrics.silent_fraction, metrics.saturated_fraction])
def test_a_rate_of_nan_is_nan(metric):
    assert jnp.isnan(metric(SPIKES.at[0, 0, 0].set(jnp.nan)))


@pytest.mark.rows(4)
@pytest.mark.parametrize("accuracy", [
    functional.accuracy_rate, functional.accuracy_max_membrane, functional.accuracy_temporal,
    lambda outputs, targets, **options: metrics.accuracy(outputs[0], targets, **options),
])  # fmt: skip
@pytest.mark.parametrize("label", [-1, -100, 3, 255])
def test_a_label_that_is_no_class_is_wrong_or_left_out(accuracy, label):
    spikes = np.tile(np.eye(3, dtype=np.float32)[None, [0, 2, 2, 1]], (2, 1, 1))  # all four right
    targets, of = np.array([0, 2, 2, label]), jax.jit(accuracy, static_argnames="ignore_label")
    assert of(spikes, targets) == 0.75
    assert of(spikes, targets, ignore_label=label) == 1
    assert np.isnan(of(spikes, np.full(4, label), ignore_label=label))


# Recordings of different lengths

OWN = jnp.array([0, 3, 1, 1])
IN_TIME = jnp.where(jnp.arange(6)[:, None] < padded.LENGTHS, jnp.arange(24).reshape(6, 4) % 4, -7)  # [T, B]


def together(metric, *arguments):
    """The metric of a batch, beside another batch, traced."""
    several = jnp.stack([padded.LENGTHS, np.minimum(padded.LENGTHS, 2)])
    return jax.jit(jax.vmap(lambda lengths: metric(*arguments, lengths=lengths)))(several)[0]


@pytest.mark.parametrize(
    ("accuracy", "targets"),
    [
        (metrics.accuracy, IN_TIME),
        (partial(metrics.accuracy, ignore_label=-7), IN_TIME),
        (functional.accuracy_rate, OWN),
        (functional.accuracy_max_membrane, OWN),
        (functional.accuracy_temporal, OWN),
    ],
)
def test_a_padded_batch_has_the_mean_accuracy_of_its_recordings(accuracy, targets):
    outputs = padded.outputs()
    alone = jax.jit(lambda: [accuracy(*(padded.of_sample(a, one) for a in (outputs, targets))) for one in range(4)])()
    assert 0 < np.mean(alone) < 1
    np.testing.assert_allclose(together(accuracy, outputs, targets), np.mean(alone), rtol=1e-6)


@pytest.mark.parametrize(("axis", "others"), [(None, (0, 1)), ((0, 1), 0), ((-1, -3), 1), (0, ())])
def test_a_padded_batch_has_the_firing_rates_of_its_recordings(axis, others):
    rate = partial(metrics.firing_rate, dt=0.5)
    alone = [rate(padded.of_sample(padded.outputs(), sample), axis=0)[0] for sample in range(4)]
    found = together(partial(rate, axis=axis), padded.outputs())
    np.testing.assert_allclose(found, np.mean(alone, axis=others), rtol=1e-5)


@pytest.mark.parametrize("metric", [metrics.silent_fraction, metrics.saturated_fraction])
def test_padding_neither_fires_nor_is_silent(metric):
    counted = jnp.arange(6)[:, None, None] < padded.LENGTHS[:, None]
    spikes = jnp.where(counted, jnp.array([0.0, 0.0, 1.0, 1.0]), jnp.array([jnp.nan, 1.0, 0.0, jnp.nan]))
    assert metric(spikes, lengths=padded.LENGTHS) == together(metric, spikes) == 0.5
    assert jnp.isnan(metric(spikes.at[0, 0, 0].set(jnp.nan), lengths=padded.LENGTHS))


@pytest.mark.parametrize("metric", [metrics.firing_rate, metrics.silent_fraction, metrics.saturated_fraction])
def test_wrong_lengths(metric):
    for lengths, error, message in padded.BAD_LENGTHS:
        with pytest.raises(error, match=message):
            metric(padded.outputs(), lengths=lengths)


def test_a_rate_of_every_step_has_no_lengths():
    with pytest.raises(ValueError, match=r"axis must name time, 0, where there are lengths, got \(1, 2\)"):
        metrics.firing_rate(padded.outputs(), axis=(1, 2), lengths=padded.LENGTHS)
