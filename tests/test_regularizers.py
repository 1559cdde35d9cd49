"""Regularisers against KerasSpiking's and snnTorch's golden vectors, hand-computed cases and errors."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import padded
import pytest

from jsnn import regularizers
from jsnn.regularizers import l1, l1_rate, l1_rate_sparsity, l2, l2_rate, percentile


def l1_l2(rates):
    return l1(rates, strength=0.02, target=8.0) + l2(rates, strength=0.003, target=8.0)


# name of the golden case -> the same penalty in jsnn
GOLDEN = {
    "L1_0.01": partial(l1, strength=0.01),
    "L1_0.01_t10": partial(l1, strength=0.01, target=10.0),
    "L1_0.01_t5_10": partial(l1, strength=0.01, target=(5.0, 10.0)),
    "L2_0.01": partial(l2, strength=0.01),
    "L2_1e-3_t10": partial(l2, strength=1e-3, target=10.0),
    "L2_1e-3_t5_10": partial(l2, strength=1e-3, target=(5.0, 10.0)),
    "L1L2": l1_l2,
    "P100_ax0_t5_10": lambda x: l2(percentile(x), target=(5.0, 10.0)),
    "P100_ax01_t7": lambda x: l1(percentile(x, axis=(0, 1)), target=7.0),
    "P50_ax0_t5": lambda x: l2(percentile(x, 50), target=5.0),
    "P90_ax01_t5_10": lambda x: l2(percentile(x, 90, axis=(0, 1)), target=(5.0, 10.0)),
    "P99_ax0_t5_l1": lambda x: l1(percentile(x, 99), strength=0.05, target=5.0),
}


@pytest.mark.rows(2)
@pytest.mark.parametrize("case", GOLDEN)
def test_keras_spiking(parity, case):
    golden = parity("keras_spiking_regularizers")
    value, gradient = jax.jit(jax.value_and_grad(GOLDEN[case]))(jnp.asarray(golden["input"]))
    np.testing.assert_allclose(value, golden[f"{case}_value"], rtol=1e-5)
    np.testing.assert_allclose(gradient, golden[f"{case}_grad"], rtol=1e-4, atol=1e-7)


def test_all_golden_cases_are_covered(parity):
    cases = {name.removesuffix("_value") for name in parity("keras_spiking_regularizers") if "value" in name}
    assert cases == set(GOLDEN)


def test_keras_spiking_activity_regularizer(parity):
    golden = parity("keras_spiking_activity_reg__rsFalse")
    output = jnp.asarray(golden["output"])  # [B, N] in Hz; Keras divides by B
    loss = l2(output, strength=1e-3, target=10.0) / len(output)
    np.testing.assert_allclose(loss, golden["layer_loss"].item(), rtol=1e-5)


def test_snntorch_l1_rate_sparsity(parity):
    golden = parity("snntorch_losses")
    np.testing.assert_allclose(l1_rate_sparsity(jnp.asarray(golden["spk"])), golden["l1_rate_sparsity"], rtol=1e-5)


# [T, B, N] = [2, 2, 2]: rates (0, 1) and (0.5, 0.5) spikes per step
SPIKES = jnp.array([[[0.0, 1.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]])


@pytest.mark.rows(2)
@pytest.mark.parametrize(
    ("penalty", "options", "expected"),
    [
        (l1_rate, {}, 0.01 * 2 / 2),
        (l1_rate, {"strength": 1.0, "target": 0.5}, 1 / 2),
        (l1_rate, {"strength": 1.0, "target": (0.25, 0.75)}, 0.5 / 2),
        (l1_rate, {"strength": 1.0, "target": 50.0, "dt": 0.01}, 100 / 2),
        (l2_rate, {}, 0.01 * 1.5 / 2),
        (l2_rate, {"strength": 2.0, "target": 0.5}, 2 * 0.5 / 2),
        (l2_rate, {"strength": 1.0, "target": (0.0, 0.75)}, 0.0625 / 2),
        (l2_rate, {"strength": 1.0, "target": (60.0, 90.0), "dt": 0.01}, (3600 + 100 + 200) / 2),
    ],
)
def test_rate_penalties_by_hand(penalty, options, expected):
    penalty = partial(penalty, **options)
    np.testing.assert_allclose(penalty(SPIKES), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(penalty)(SPIKES), expected, rtol=1e-6)


def test_rate_penalty_does_not_grow_with_the_batch():
    doubled = jnp.concatenate([SPIKES, SPIKES], axis=1)
    assert l2_rate(doubled, target=0.1) == pytest.approx(l2_rate(SPIKES, target=0.1))


def test_rate_penalty_pulls_towards_the_range():
    gradient = np.asarray(jax.jit(jax.grad(partial(l2_rate, target=(0.25, 0.75))))(SPIKES))
    assert (gradient[:, 0, 0] < 0).all()  # silent: more spikes
    assert (gradient[:, 0, 1] > 0).all()  # saturated: fewer
    assert (gradient[:, 1] == 0).all()  # within the range


def test_conv_shaped_spikes():
    assert l1_rate(jnp.ones((3, 2, 4, 4, 5)), strength=1.0) == 80


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
@pytest.mark.parametrize(
    "penalty",
    [l1, l2, partial(l1_rate, dt=1e-3), l2_rate, l1_rate_sparsity, lambda x: l2(percentile(x, 90))],
)
def test_dtype_is_kept(penalty, dtype):
    with jax.enable_x64(dtype == jnp.float64):
        spikes = jax.ShapeDtypeStruct(SPIKES.shape, dtype)
        value, gradient = jax.eval_shape(jax.value_and_grad(penalty), spikes)
        assert value.dtype == gradient.dtype == dtype


@pytest.mark.parametrize("strength", [1, np.float64(0.3), np.float32(0.3), jnp.bfloat16(0.3)])
@pytest.mark.parametrize("penalty", [l1, l2, l1_rate, l2_rate, l1_rate_sparsity])
def test_the_dtype_of_a_strength_changes_nothing(penalty, strength):
    for dtype, wanted in ((jnp.bfloat16, jnp.bfloat16), (jnp.int32, jnp.float32), (jnp.bool_, jnp.float32)):
        spikes = jnp.ones((3, 2, 43), dtype)  # 258 in all, which bfloat16 cannot hold
        found = penalty(spikes, strength=strength)
        expected = penalty(spikes.astype(jnp.float32), strength=float(strength)).astype(wanted)
        assert found.dtype == wanted
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.uint8, jnp.int32])
@pytest.mark.parametrize("penalty", [l1, l2])
def test_integers_do_not_wrap_around(penalty, dtype):
    rates = jnp.array([3, 7, 100], dtype)
    for target in (0, 5, (4, 6)):
        assert penalty(rates, target=target) == penalty(rates.astype(jnp.float32), target=target)


@pytest.mark.parametrize("penalty", [l1, l2, l1_rate, partial(l2_rate, dt=1e-3), l1_rate_sparsity])
def test_an_export_of_any_batch(penalty):
    (batch,) = jax.export.symbolic_shape("batch")
    exported = jax.export.export(jax.jit(penalty))(jax.ShapeDtypeStruct((4, batch, 3), jnp.float32))
    np.testing.assert_allclose(exported.call(jnp.ones((4, 2, 3))), penalty(jnp.ones((4, 2, 3))), rtol=1e-6)


def test_strength_may_follow_a_schedule():
    penalty = jax.jit(lambda strength: l1_rate_sparsity(SPIKES, strength=strength))
    np.testing.assert_allclose(penalty(0.5), 2.0)


@pytest.mark.parametrize("penalty", [l1, l2, l1_rate, l2_rate])
def test_wrong_target(penalty):
    with pytest.raises(ValueError, match=r"low <= high, got \(10.0, 5.0\): swap"):
        penalty(SPIKES, target=(10.0, 5.0))
    with pytest.raises(TypeError, match="target must be known when it is traced"):
        jax.jit(lambda high: penalty(SPIKES, target=(0.0, high)))(5.0)


@pytest.mark.parametrize("strength", [-0.1, np.float32(-0.1), jnp.array(-0.1)])
@pytest.mark.parametrize("penalty", [l1, l2, l1_rate, l2_rate, l1_rate_sparsity])
def test_wrong_strength(penalty, strength):
    with pytest.raises(ValueError, match=r"strength must be >= 0, got -0.1"):
        penalty(SPIKES, strength=strength)
    with pytest.raises(ValueError, match=r"strength must be one number, got shape \(2,\)"):
        penalty(SPIKES, strength=jnp.array([strength, 0.1]))


@pytest.mark.parametrize("penalty", [l1_rate, l2_rate])
def test_wrong_spikes_and_dt(penalty):
    with pytest.raises(ValueError, match=r"must be \[T, B, ...\], got shape \(2, 2\): put time first"):
        penalty(SPIKES[:, 0])
    with pytest.raises(ValueError, match="dt must be > 0 s, got 0"):
        penalty(SPIKES, dt=0)


@pytest.mark.parametrize("q", [-1, 100.5])
def test_wrong_percentile(q):
    with pytest.raises(ValueError, match=rf"q must lie in \[0, 100\], got {q}"):
        regularizers.percentile(SPIKES, q)


# Recordings of different lengths


@pytest.mark.rows(5)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
    ("penalty", "combine"),
    [
        (partial(l1_rate, strength=1.0, target=(-0.1, 0.2), dt=0.5), np.mean),
        (partial(l2_rate, strength=1.0, target=0.5), np.mean),
        (partial(l1_rate_sparsity, strength=0.5), np.sum),
        (lambda x, **lengths: jnp.sum(percentile(x, 70.0, axis=0, **lengths)), np.sum),
    ],
)
def test_a_padded_batch_has_the_penalties_of_its_recordings(penalty, combine, dtype):
    outputs, graded = padded.outputs(dtype), jax.value_and_grad(penalty)
    several = jnp.stack([padded.LENGTHS, np.minimum(padded.LENGTHS, 2)])
    together = jax.jit(jax.vmap(lambda lengths: graded(outputs, lengths=lengths)))(several)
    value, gradient = (both[0].astype(jnp.float32) for both in together)
    alone = jax.jit(lambda: [graded(padded.of_sample(outputs, sample)) for sample in range(4)])()
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == jnp.float32 else {"rtol": 2e-2, "atol": 2e-2}
    np.testing.assert_allclose(value, combine([float(one) for one, _ in alone]), **tolerance)
    for sample, (_, own) in enumerate(alone):
        found = padded.of_sample(gradient, sample) * (4 if combine is np.mean else 1)
        np.testing.assert_allclose(found, own.astype(jnp.float32), **tolerance)
        np.testing.assert_array_equal(gradient[padded.LENGTHS[sample] :, sample], 0)


def test_a_percentile_of_padded_recordings_is_that_of_one_after_the_other():
    outputs = padded.outputs()
    whole = np.concatenate([padded.of_sample(np.asarray(outputs), sample) for sample in range(4)])[:, 0]
    of_all = jax.jit(lambda outputs: percentile(outputs, 60.0, axis=(0, 1), lengths=padded.LENGTHS))
    np.testing.assert_allclose(of_all(outputs), percentile(whole, 60.0), rtol=1e-6)
    assert np.isnan(of_all(outputs.at[0, 0].set(jnp.nan))).all()
    with pytest.raises(ValueError, match="axis must name time, 0, where there are lengths, got 1"):
        percentile(outputs, axis=1, lengths=padded.LENGTHS)


@pytest.mark.parametrize("penalty", [l1_rate, l2_rate, l1_rate_sparsity, percentile])
def test_lengths(penalty):
    outputs, of_a_batch = np.nan_to_num(padded.outputs(), posinf=1, neginf=-1), jax.jit(penalty)
    np.testing.assert_allclose(of_a_batch(outputs, lengths=np.full(4, 6)), of_a_batch(outputs), rtol=1e-5, atol=1e-6)
    for lengths, error, message in padded.BAD_LENGTHS:
        with pytest.raises(error, match=message):
            penalty(outputs, lengths=lengths)
    with pytest.raises(
        ValueError, match=r"must be \[T, B, ...\]|arrays \[T, B, ...\], got shape \(6,\): put time first"
    ):
        penalty(outputs[:, 0, 0], lengths=[1] * 6)
