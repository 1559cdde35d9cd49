"""Losses against snnTorch's golden vectors (values and gradients), hand-computed cases, dtypes and errors."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import padded
import pytest

from jsnn import decode, losses, metrics
from jsnn.compat import snntorch_functional as functional

SPIKES = jnp.array([[[1.0, 0.0]], [[0.0, 1.0]], [[1.0, 0.0]], [[1.0, 0.0]]])  # [T, B, N] = [4, 1, 2]
LABELS = jnp.array([1])

POPULATION = {"num_classes": 5}
RATES = {"correct_rate": 0.8, "incorrect_rate": 0.2}
# name of the golden case, loss, its input, its options
GOLDEN = [
    ("ce_rate", losses.ce_rate_loss, "spk", {}),
    ("ce_count", losses.ce_count_loss, "spk", {}),
    ("ce_count_pop", losses.ce_count_loss, "spk20", POPULATION),
    ("ce_max_membrane", functional.ce_max_membrane_loss, "mem", {}),
    ("mse_count", losses.mse_count_loss, "spk", {}),
    ("mse_count_0.8_0.2", losses.mse_count_loss, "spk", RATES),
    ("mse_count_pop", losses.mse_count_loss, "spk20", POPULATION | RATES),
    ("mse_membrane", losses.mse_membrane_loss, "mem", {}),
    ("mse_membrane_on1.2_off0.3", losses.mse_membrane_loss, "mem", {"on_target": 1.2, "off_target": 0.3}),
    ("ce_temporal_negate", functional.ce_temporal_loss, "spk", {}),
    ("ce_temporal_reciprocal", functional.ce_temporal_loss, "spk", {"inverse": "reciprocal"}),
    # snnTorch's defaults make every wanted time 0
    ("mse_temporal", functional.mse_temporal_loss, "spk", {"on_target": 0, "off_target": 0}),
    (
        "mse_temporal_on2_off9_tol2",
        functional.mse_temporal_loss,
        "spk",
        {"on_target": 2, "off_target": 9, "tolerance": 2},
    ),
]


def check_golden(golden, case, loss, outputs, targets):
    value, gradient = jax.jit(jax.value_and_grad(loss))(jnp.asarray(outputs), jnp.asarray(targets))
    assert value.shape == ()
    np.testing.assert_allclose(value, golden[f"{case}_loss_f32"].item(), rtol=1e-5)
    np.testing.assert_allclose(gradient, golden[f"{case}_grad_f32"], rtol=1e-4, atol=1e-8)


@pytest.mark.rows(2)
@pytest.mark.parametrize(("case", "loss", "field", "options"), GOLDEN, ids=[row[0] for row in GOLDEN])
def test_snntorch(parity, case, loss, field, options):
    golden = parity("snntorch_losses")
    check_golden(golden, case, partial(loss, **options), golden[field], golden["targets"])


def test_snntorch_target_is_time(parity):
    golden = parity("snntorch_losses")
    loss = partial(functional.mse_temporal_loss, target_is_time=True)
    check_golden(golden, "mse_temporal_time", loss, golden["spk"], golden["target_times"])


@pytest.mark.rows(2)
@pytest.mark.parametrize(
    ("case", "loss", "field"),
    [
        ("ce_rate", losses.ce_rate_loss, "spk"),
        ("ce_count", losses.ce_count_loss, "spk"),
        ("ce_max_membrane", functional.ce_max_membrane_loss, "mem"),
    ],
)
def test_snntorch_weight(parity, case, loss, field):
    golden = parity("snntorch_losses")
    outputs, targets = jnp.asarray(golden[field]), jnp.asarray(golden["targets"])
    value = jax.jit(loss)(outputs, targets, weight=golden["weight"])
    np.testing.assert_allclose(value, golden[f"{case}_w_loss_f32"].item(), rtol=1e-5)


@pytest.mark.parametrize("ignore_label", [None, 1])
def test_snntorch_weight_of_times(ignore_label):  # of PyTorch's own cross-entropy: over the sum of the weights
    weight, counted = np.array([1.0, 0.25, 4.0], np.float32), np.asarray(GOOD) != ignore_label
    each = [functional.ce_temporal_loss(SAMPLES[:, b : b + 1], GOOD[b : b + 1]) for b in range(4)]
    expected = np.average(np.asarray(each)[counted], weights=weight[GOOD][counted])
    value = functional.ce_temporal_loss(SAMPLES, GOOD, weight=weight, ignore_label=ignore_label)
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def erased_as_in_snntorch(spikes: np.ndarray, num_spikes: int) -> np.ndarray:
    """The spikes that snnTorch 1.0.0 sees: once found, a spike is erased from all neurons of all samples."""
    remaining, seen = spikes.copy(), np.zeros_like(spikes)
    samples, neurons = np.indices(spikes.shape[1:])
    for _ in range(num_spikes):
        times = np.where(remaining.any(0), remaining.argmax(0), len(spikes) - 1)
        seen[times, samples, neurons] += remaining[times, samples, neurons]
        remaining[times] = 0
    return seen


def test_snntorch_multi_spike_but_for_its_erased_spikes(parity):
    golden = parity("snntorch_losses")
    targets = jnp.asarray(golden["targets"])
    options = {"on_target": [1, 4], "off_target": [8, 10], "multi_spike": True}
    seen = erased_as_in_snntorch(golden["spk"], 2)
    assert seen.sum() < np.minimum(golden["spk"].sum(0), 2).sum(), "snnTorch loses spikes here"
    loss = jax.jit(partial(functional.mse_temporal_loss, **options))
    expected = golden["mse_temporal_multi_loss_f32"]
    np.testing.assert_allclose(loss(jnp.asarray(seen), targets), expected, rtol=1e-5)
    assert abs(loss(jnp.asarray(golden["spk"]), targets) - expected) > 1e-3


@pytest.mark.rows(3)
@pytest.mark.parametrize(
    ("loss", "targets", "options", "expected"),
    [
        # counts (3, 1), wanted (0, 4)
        (losses.mse_count_loss, LABELS, {}, (9 + 9) / 2 / 4),
        # wanted int(4 * 0.2) = 0 and int(4 * 0.9) = 3
        (losses.mse_count_loss, LABELS, {"correct_rate": 0.9, "incorrect_rate": 0.2}, (9 + 4) / 2 / 4),
        (losses.mse_membrane_loss, LABELS, {}, 6 / 8),
        (losses.mse_membrane_loss, jnp.array([[0], [1], [0], [0]]), {}, 0.0),
        # first times (0, 1), wanted (3, 0)
        (functional.mse_temporal_loss, LABELS, {}, (9 + 1) / 2 / 16),
        (functional.mse_temporal_loss, LABELS, {"tolerance": 2}, 9 / 2 / 16),
        (functional.mse_temporal_loss, LABELS, {"tolerance": 1}, (9 + 1) / 2 / 16),
        (functional.mse_temporal_loss, LABELS, {"on_target": 1, "off_target": -4}, 0.0),
        (functional.mse_temporal_loss, jnp.array([[0, -3]]), {"target_is_time": True}, 0.0),
        # times (0, 1) and (2, 3), wanted (1, 0) and (2, 1)
        (
            functional.mse_temporal_loss,
            LABELS,
            {"on_target": [0, 1], "off_target": [1, 2], "multi_spike": True},
            (1 + 1 + 0 + 4) / 4 / 16,
        ),
        (
            functional.mse_temporal_loss,
            jnp.array([[[0, 1]], [[2, 3]], [[3, 3]]]),
            {"target_is_time": True, "multi_spike": True},
            0.0,
        ),
        (losses.ce_count_loss, LABELS, {}, np.log1p(np.exp(2.0))),
        (functional.ce_temporal_loss, LABELS, {}, np.log1p(np.exp(1.0))),
        (functional.ce_temporal_loss, LABELS, {"inverse": "reciprocal"}, np.log1p(np.exp(0.5))),
        # of one sample the mean weight is its own, in snnTorch too
        (functional.ce_temporal_loss, LABELS, {"weight": jnp.array([9.0, 0.5])}, np.log1p(np.exp(1.0))),
        (losses.ce_rate_loss, LABELS, {}, (3 * np.log1p(np.exp(1.0)) + np.log1p(np.exp(-1.0))) / 4),
        (functional.ce_max_membrane_loss, LABELS, {}, np.log(2.0)),
        (functional.ce_max_membrane_loss, LABELS, {"weight": jnp.array([9.0, 0.5])}, 0.5 * np.log(2.0)),
    ],
)
def test_by_hand(loss, targets, options, expected):
    np.testing.assert_allclose(jax.jit(partial(loss, **options))(SPIKES, targets), expected, rtol=1e-6)


def test_cross_entropy_of_logits_and_of_log_probabilities_is_the_same():
    log_probabilities = decode.spike_count(SPIKES, log_softmax=True)
    expected = losses.ce_count_loss(SPIKES, LABELS)
    np.testing.assert_allclose(losses.cross_entropy(log_probabilities, LABELS), expected, rtol=1e-6)


ALL = [
    losses.ce_rate_loss,
    losses.ce_count_loss,
    functional.ce_max_membrane_loss,
    functional.ce_temporal_loss,
    losses.mse_count_loss,
    losses.mse_membrane_loss,
    functional.mse_temporal_loss,
]
each_loss = pytest.mark.parametrize("loss", ALL, ids=lambda loss: loss.__name__)


SAMPLES = jnp.asarray(np.random.default_rng(0).integers(0, 2, (6, 4, 3)), jnp.float32)  # [T, B, N]
GOOD = jnp.array([0, 2, 1, 1])


@pytest.mark.slow
@pytest.mark.rows(1)
@each_loss
@pytest.mark.parametrize("label", [-1, -3, -100, 3, 255])
def test_a_label_that_is_no_class_never_counts_as_another(loss, label):
    """It makes the loss and its gradient NaN, or, where it is to be ignored, it is as if the sample were not there."""
    targets, others = GOOD.at[1].set(label), np.array([0, 2, 3])
    value, gradient = jax.value_and_grad(loss)(SAMPLES, targets)
    assert np.isnan(value)
    assert np.isnan(gradient[:, 1]).any()
    without = jax.value_and_grad(partial(loss, ignore_label=label))
    value, gradient = without(SAMPLES.at[:, 1].set(jnp.nan), targets)
    expected, expected_gradient = jax.value_and_grad(loss)(SAMPLES[:, others], GOOD[others])
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient[:, others], expected_gradient, atol=1e-6)
    assert not gradient[:, 1].any()


@pytest.mark.rows(2)
@each_loss
def test_what_is_left_out_makes_no_nan_on_the_way(loss):
    with jax.debug_nans(True):
        value, gradient = jax.value_and_grad(partial(loss, ignore_label=-1))(SAMPLES, GOOD.at[1].set(-1))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_labels_of_padding_make_no_nan_on_the_way():
    targets, lengths = jnp.array([[0, 2], [1, 1], [-1, 0]]), jnp.array([2, 3])
    with jax.debug_nans(True):
        loss = partial(losses.cross_entropy, SAMPLES[:3, :2], targets, lengths=lengths)
        gradient = jax.grad(lambda weight: loss(weight=weight))(jnp.ones(3))
    assert np.isfinite(gradient).all()


@pytest.mark.rows(1)
@pytest.mark.parametrize("label", [-1, -100, 3])
def test_the_same_rule_holds_for_logits_weights_and_small_dtypes(label):
    samples, good, chosen = np.asarray(SAMPLES[0]), np.asarray(GOOD, np.int16), [0, 2, 3]
    targets = np.where(np.arange(4) == 1, np.int16(label), good)
    weighted = partial(losses.cross_entropy, weight=jnp.array([1.0, 2.0, 3.0]))
    loss = jax.jit(weighted, static_argnames="ignore_label")
    assert np.isnan(loss(samples, targets))
    expected = loss(samples[chosen], good[chosen])
    np.testing.assert_allclose(loss(samples, targets, ignore_label=label), expected, rtol=1e-6)
    assert np.isnan(loss(samples, np.full(4, label), ignore_label=label))  # of no sample


@pytest.mark.parametrize(
    ("dtype", "label", "ignore_label"), [(np.uint8, 44, 300), (np.uint8, 255, -1), (np.int8, 9, 265)]
)
@pytest.mark.parametrize(
    "function",
    [
        losses.mse_count_loss,
        losses.mse_membrane_loss,
        losses.ce_rate_loss,
        lambda x, targets, **options: metrics.accuracy(x[0], targets, **options),
        lambda x, targets, **options: functional.targets_rate(targets, 300),
    ],
)
def test_labels_of_few_bits_for_many_classes(function, dtype, label, ignore_label):
    """Class 256 + 44 is not class 44, and -1 is not 255."""
    outputs = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 300)), jnp.float32)
    outputs, targets = outputs.at[0, 0, label].set(9), np.array([label, 3])
    for options in ({}, {"ignore_label": ignore_label}):
        found = function(outputs, targets.astype(dtype), **options)
        np.testing.assert_array_equal(found, function(outputs, targets, **options))


def test_ignored_steps_of_labels_in_time():
    targets = np.where(np.arange(6)[:, None] < 2, GOOD, -1)
    value = jax.jit(partial(losses.mse_membrane_loss, ignore_label=-1))(SAMPLES, targets)
    np.testing.assert_allclose(value, jax.jit(losses.mse_membrane_loss)(SAMPLES[:2], GOOD), rtol=1e-6)
    with pytest.raises(ValueError, match="ignore_label goes with labels, not with times"):
        functional.mse_temporal_loss(SAMPLES, SAMPLES[0], target_is_time=True, ignore_label=-1)


@pytest.mark.parametrize("function", [losses.cross_entropy, metrics.accuracy])
def test_outputs_that_are_not_decoded_are_named(function):
    with pytest.raises(
        ValueError, match=r"logits must be \[B, N\] .* got \(6, 4, 3\), \[T, B, N\]: decode the outputs"
    ):
        function(SAMPLES, GOOD)


@pytest.mark.rows(1)
@each_loss
def test_jit_and_vmap_equal_eager(loss):
    expected = loss(SPIKES, LABELS)
    both = jax.jit(jax.vmap(loss))(jnp.stack([SPIKES, SPIKES]), jnp.stack([LABELS, LABELS]))
    np.testing.assert_allclose(both, [expected, expected], rtol=1e-6)


@pytest.mark.rows(8)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
@pytest.mark.parametrize(
    "loss",
    [*ALL, *(partial(one, weight=np.array([1.0, 2.0])) for one in (losses.ce_count_loss, functional.ce_temporal_loss))],
)
def test_dtype_is_kept(loss, dtype):
    with jax.enable_x64(dtype == jnp.float64):
        outputs = jax.ShapeDtypeStruct(SPIKES.shape, dtype)
        value, gradient = jax.eval_shape(jax.value_and_grad(loss), outputs, LABELS)
        assert value.dtype == gradient.dtype == dtype


@each_loss
def test_dtypes_are_never_mixed(loss):
    with jax.numpy_dtype_promotion("strict"):
        jax.eval_shape(jax.grad(loss), SPIKES, LABELS)


@each_loss
def test_wrong_outputs_and_targets(loss):
    with pytest.raises(ValueError, match=r"must be \[T, B, N\], got shape \(4, 2\)"):
        loss(SPIKES[:, 0], LABELS)
    with pytest.raises(ValueError, match=r"at least one time step and one neuron, got shape \(4, 1, 0\)"):
        loss(SPIKES[..., :0], LABELS)
    with pytest.raises(ValueError, match="must not be empty, got shape"):
        loss(SPIKES[:, :0], LABELS[:0])
    with pytest.raises(TypeError, match="floating point, got int32"):
        loss(SPIKES.astype(jnp.int32), LABELS)
    with pytest.raises(TypeError, match=r"integer labels, got float32: take jnp.argmax"):
        loss(SPIKES, jnp.array([1.0]))
    with pytest.raises(ValueError, match=r"targets must have shape \(1,\).* got \(4,\).*time-major"):
        loss(SPIKES, jnp.zeros(4, int))


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        (losses.mse_count_loss, {"correct_rate": 1.5}, r"correct_rate must lie in \[0, 1\].*got 1.5"),
        (losses.mse_count_loss, {"incorrect_rate": -1}, r"incorrect_rate must lie in \[0, 1\].*got -1"),
        (losses.ce_count_loss, {"num_classes": 3}, "N=2 and num_classes=3"),
        (losses.ce_count_loss, {"weight": jnp.ones(3)}, r"weight must be \[N\] = \(2,\).*got shape \(3,\)"),
        (functional.ce_temporal_loss, {"inverse": "square"}, "'negate' or 'reciprocal', got 'square'"),
        (functional.mse_temporal_loss, {"tolerance": -1}, "tolerance must be >= 0 steps, got -1"),
        (functional.mse_temporal_loss, {"on_target": 4}, r"on_target must lie in .*= \[-4, 3\] steps, got 4"),
        (functional.mse_temporal_loss, {"off_target": -5}, r"off_target must lie in .*= \[-4, 3\] steps, got -5"),
        (
            functional.mse_temporal_loss,
            {"on_target": [0, 1], "off_target": [3], "multi_spike": True},
            r"same length, got \[0, 1\] and \[3\]",
        ),
        (
            functional.mse_temporal_loss,
            {"on_target": [0, 1], "off_target": [2, 3]},
            r"must be \[B, N\] with .*\(1, 2\), got shape \(2, 1, 2\): set multi_spike",
        ),
        (functional.mse_temporal_loss, {"multi_spike": True}, r"must be \[F, B, N\] with .*got shape \(1, 2\)"),
        (functional.mse_temporal_loss, {"target_is_time": True}, r"must be \[B, N\] with .*got shape \(1,\)"),
    ],
)
def test_wrong_options(loss, options, message):
    with pytest.raises(ValueError, match=message):
        loss(SPIKES, LABELS, **options)


def test_no_times_are_no_targets():
    with pytest.raises(ValueError, match=r"targets must not be empty, got shape \(0, 2\)"):
        functional.mse_temporal_loss(SPIKES[:, :0], jnp.zeros((0, 2)), target_is_time=True)


def test_a_negative_membrane_is_wanted_as_given():  # where snnTorch 1.0.0 wants 0
    membranes = jnp.array([[[0.5, -0.5]]])
    assert losses.mse_membrane_loss(membranes, jnp.array([0]), on_target=0.5, off_target=-0.5) == 0
    assert functional.targets_rate(jnp.array([0]), 2, off_target=-0.5).tolist() == [[1.0, -0.5]]


def test_wrong_targets_of_cross_entropy():
    with pytest.raises(ValueError, match=r"targets must have shape \(3,\).*got \(2,\)"):
        losses.cross_entropy(jnp.zeros((3, 5)), jnp.zeros(2, int))
    with pytest.raises(ValueError, match=r"got \(3, 1\): take targets\[..., 0\]"):
        losses.cross_entropy(jnp.zeros((3, 5)), jnp.zeros((3, 1), int))
    with pytest.raises(ValueError, match=r"got \(3, 5\): take jnp.argmax\(rows, -1\) of one-hot rows"):
        losses.cross_entropy(jnp.zeros((3, 5)), jnp.zeros((3, 5), int))
    with pytest.raises(TypeError, match=r"got bool: .* labels.astype\(int\) of labels"):
        losses.cross_entropy(jnp.zeros((3, 2)), jnp.zeros(3, bool))


# Recordings of different lengths

OWN = jnp.array([0, 3, 1, 1])
IN_TIME = jnp.where(jnp.arange(6)[:, None] < padded.LENGTHS, jnp.arange(24).reshape(6, 4) % 4, -7)  # [T, B]
PADDED = [
    (losses.cross_entropy, IN_TIME, {"weight": jnp.array([1.0, 2.0, 3.0, 4.0])}),
    (losses.ce_rate_loss, OWN, {"weight": jnp.array([1.0, 2.0, 3.0, 4.0])}),
    (losses.ce_count_loss, OWN, {"num_classes": 4}),
    (losses.mse_count_loss, OWN, {"correct_rate": 0.7, "incorrect_rate": 0.2}),
    (losses.mse_count_loss, OWN % 2, {"num_classes": 2}),
    (losses.mse_membrane_loss, OWN, {"on_target": 0.8, "off_target": 0.1}),
    (losses.mse_membrane_loss, IN_TIME, {}),
    (functional.ce_max_membrane_loss, OWN, {}),
    (functional.ce_temporal_loss, OWN, {"inverse": "reciprocal"}),
    (functional.mse_temporal_loss, OWN, {}),
    (functional.mse_temporal_loss, OWN, {"on_target": [0, 0], "off_target": [0, -1], "multi_spike": True}),
    (functional.mse_temporal_loss, jnp.full((4, 4), -1), {"target_is_time": True, "tolerance": 1.0}),
]
each_padded = pytest.mark.parametrize(
    ("loss", "targets", "options"), PADDED, ids=[f"{row[0].__name__}-{index}" for index, row in enumerate(PADDED)]
)


@pytest.mark.rows(8)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@each_padded
def test_a_padded_batch_has_the_mean_loss_of_its_recordings(loss, targets, options, dtype):
    outputs, graded = padded.outputs(dtype), jax.value_and_grad(partial(loss, **options))
    several = jnp.stack([padded.LENGTHS, np.minimum(padded.LENGTHS, 2)])
    together = jax.jit(jax.vmap(lambda lengths: graded(outputs, targets, lengths=lengths)))(several)
    value, gradient = (both[0].astype(jnp.float32) for both in together)
    alone = jax.jit(
        lambda: [graded(padded.of_sample(outputs, b), padded.of_sample(targets, b)) for b in range(len(padded.LENGTHS))]
    )()
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == jnp.float32 else {"rtol": 2e-2, "atol": 2e-2}
    np.testing.assert_allclose(value, np.mean([float(one) for one, _ in alone]), **tolerance)
    for sample, (_, own) in enumerate(alone):
        found = padded.of_sample(gradient, sample)
        np.testing.assert_allclose(4 * found, own.astype(jnp.float32), **tolerance)
        np.testing.assert_array_equal(gradient[padded.LENGTHS[sample] :, sample], 0)


@pytest.mark.rows(3)
@each_padded
def test_full_lengths_are_no_lengths(loss, targets, options):
    outputs, targets = np.nan_to_num(padded.outputs(), posinf=1, neginf=-1), np.maximum(targets, -1) % 4
    ignored = {} if "target_is_time" in options else {"ignore_label": 3}
    of_a_batch = jax.jit(partial(loss, **options, **ignored))
    value = of_a_batch(outputs, targets, lengths=np.full(4, 6))
    np.testing.assert_allclose(value, of_a_batch(outputs, targets), rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.uint16])
def test_lengths_of_few_bits_for_many_steps(dtype):
    outputs, lengths = jnp.ones((300, 2, 3)), np.array([127, 3], dtype)
    found = losses.mse_count_loss(outputs, jnp.array([0, 2]), lengths=lengths)
    assert found == losses.mse_count_loss(outputs, jnp.array([0, 2]), lengths=lengths.astype(int))


@pytest.mark.rows(3)
@each_padded
def test_wrong_lengths(loss, targets, options):
    for lengths, error, message in padded.BAD_LENGTHS:
        with pytest.raises(error, match=message):
            loss(padded.outputs(), targets, **options, lengths=lengths)


def test_ignored_samples_and_steps_of_padded_recordings():
    outputs = jnp.zeros((3, 2, 2)).at[2, 1].set(jnp.nan)
    options = {"on_target": 3.0, "off_target": 1.0, "ignore_label": -1, "lengths": jnp.array([3, 2])}
    membranes = jax.jit(partial(losses.mse_membrane_loss, **options))
    assert membranes(outputs, jnp.array([0, -1])) == 5
    errors = partial(membranes, outputs.at[0, 0].set(1.0))  # 2 at step 0 of sample 0, which is a third of it, else 5
    np.testing.assert_allclose(errors(jnp.zeros((3, 2), int)), ((2 + 5 + 5) / 3 + 5) / 2, rtol=1e-6)
    some = errors(jnp.array([[0, 0], [0, -1], [-1, 0]]))
    np.testing.assert_allclose(some, (2 / 3 + 5 / 3 + 5 / 2) / (2 / 3 + 1 / 2), rtol=1e-6)
    assert np.isnan(membranes(outputs, jnp.array([-1, -1])))


@pytest.mark.parametrize("function", [losses.cross_entropy, metrics.accuracy])
def test_lengths_of_decoded_outputs_are_for_the_decoder(function):
    with pytest.raises(ValueError, match=r"every step, \[T, B, N\], got shape \(4, 3\): give them to the decoder"):
        function(SAMPLES[0], GOOD, lengths=[1, 2, 3, 4])
