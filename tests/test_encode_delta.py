"""Codes of change against golden vectors and by hand; what they recover, transforms, every bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsnn import encode
from jsnn.types import Neuron
from jsnn.unrolling import unroll

CODERS = [encode.SendOnDelta(0.3), encode.StepForward(0.3)]
each_coder = pytest.mark.parametrize("coder", CODERS, ids=lambda coder: type(coder).__name__)
ENCODERS = [encode.delta, encode.send_on_delta, encode.step_forward, encode.time_contrast]
each_encoder = pytest.mark.parametrize("encoder", ENCODERS, ids=lambda encoder: encoder.__name__)
# multiples of 1/8, so that differences are exact
WALK = np.cumsum(np.random.default_rng(0).integers(-3, 4, (40, 2, 3)), axis=0).astype(np.float32) / 8


@pytest.mark.rows(8)
@pytest.mark.parametrize("threshold", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("off_spike", [False, True])
def test_snntorch_delta(parity, threshold, padding, off_spike):
    golden = parity("snntorch_delta")
    case = f"t{threshold}_pad{padding}_off{off_spike}"
    options = {"threshold": threshold, "padding": padding, "off_spike": off_spike}
    np.testing.assert_array_equal(encode.delta(golden["input"], **options), golden[f"out_{case}"])
    np.testing.assert_array_equal(encode.delta(golden["example"], **options), golden[f"ex_{case}"])


def test_the_threshold_itself_is_a_change():
    x = np.float32([0.5, 1.0, 0.5, 0.75])
    np.testing.assert_array_equal(encode.delta(x, threshold=0.5, off_spike=True), [1, 1, -1, 0])


def test_a_threshold_for_each_neuron():
    x = np.float32([[0.0, 0.0], [0.5, 0.5]])
    np.testing.assert_array_equal(encode.delta(x, threshold=np.float32([0.25, 1.0])), [[0, 0], [1, 0]])


def test_delta_inverse_is_exact_where_changes_are_thresholds():
    x = np.cumsum(np.random.default_rng(1).integers(-1, 2, (50, 4)), axis=0) * np.float32(0.25) + 3
    spikes = encode.delta(x, threshold=0.25, padding=True, off_spike=True)
    np.testing.assert_array_equal(encode.delta_inverse(spikes, threshold=0.25, initial=x[0]), x)


def test_send_on_delta_by_hand():
    x = np.float32([0.0, 0.2, 0.4, 0.5, 1.5, 1.4, 1.0, 1.2])
    np.testing.assert_array_equal(encode.send_on_delta(x, threshold=0.4), [0, 0, 1, 0, 1, 0, -1, 0])


def test_slow_changes_escape_delta_but_not_send_on_delta():
    x = np.linspace(0, 1, 65, dtype=np.float32)  # steps of 1/64
    assert not np.asarray(encode.delta(x, threshold=0.25)).any()
    np.testing.assert_array_equal(np.flatnonzero(encode.send_on_delta(x, threshold=0.25)), [16, 32, 48, 64])


def test_step_forward_is_recovered_within_a_threshold():
    spikes = encode.step_forward(WALK, threshold=0.375)  # WALK changes by no more a step
    recovered = encode.delta_inverse(spikes, threshold=0.375, initial=WALK[0])
    assert set(np.unique(spikes)) == {-1.0, 0.0, 1.0}
    assert np.abs(recovered - WALK).max() <= 0.375
    # without the reference, the error of the same spikes grows
    spikes = jax.jit(lambda x: encode.delta(x, threshold=0.375, off_spike=True))(WALK)
    drift = np.asarray(encode.delta_inverse(spikes, threshold=0.375))
    assert np.abs(drift - WALK).max() > 0.375


def test_time_contrast_by_hand():
    x = np.float32([0.0, 1.0, 1.0, 5.0, 1.0])  # |d| = 1, 0, 4, 4
    threshold = np.mean([1, 0, 4, 4]) + 0.5 * np.std([1, 0, 4, 4])
    np.testing.assert_allclose(encode.contrast_threshold(x, factor=0.5), threshold, rtol=1e-6)
    np.testing.assert_array_equal(encode.time_contrast(x, factor=0.5), [0, 0, 0, 1, -1])
    np.testing.assert_array_equal(encode.time_contrast(1000 * x, factor=0.5), encode.time_contrast(x, factor=0.5))
    np.testing.assert_array_equal(encode.time_contrast(np.ones(5, np.float32)), np.zeros(5))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("x", [np.linspace(0, 1, 100), -0.1 * np.arange(100), np.tile([3.7, 3.1], 50), np.full(9, 0.3)])
def test_changes_that_are_all_the_same_are_not_large(x, dtype):
    assert not np.asarray(encode.time_contrast(jnp.asarray(x, dtype))).any()
    spike = jnp.asarray(x, dtype).at[5].add(2)
    assert np.asarray(encode.time_contrast(spike)).astype(float)[5:7].tolist() == [1, -1]


# As Neurons, under transforms


@pytest.mark.rows(1)
@each_coder
def test_coders_are_neurons_that_stream(coder):
    assert isinstance(coder, Neuron)
    state, whole = unroll(coder, WALK)
    stream, step = coder.init(WALK.shape[1:]), jax.jit(coder.step)
    for x, spikes in zip(np.asarray(WALK), np.asarray(whole), strict=True):
        stream, now = step(stream, x)
        np.testing.assert_array_equal(now, spikes)
    np.testing.assert_array_equal(stream.reference, state.reference)
    assert jax.tree.structure(coder.init((2,))) == jax.tree.structure(state)


@pytest.mark.rows(1)
@each_encoder
def test_jit_and_vmap_are_an_eager_loop(encoder):
    loop = np.stack([encoder(WALK[:, :, n]) for n in range(3)], axis=-1)
    np.testing.assert_array_equal(jax.jit(jax.vmap(encoder, -1, -1))(WALK), loop)


@each_encoder
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64])
def test_shape_and_dtype(encoder, dtype):
    with jax.enable_x64(dtype == jnp.float64):
        spikes = jax.eval_shape(encoder, WALK.astype(dtype))
        assert (spikes.shape, spikes.dtype) == (WALK.shape, dtype)
        assert jax.eval_shape(encode.delta_inverse, spikes).dtype == dtype


# Bad input


@each_encoder
def test_bad_signals(encoder):
    with pytest.raises(ValueError, match=r"x must have a time axis, \[T, ...\], got a scalar"):
        encoder(0.5)
    with pytest.raises(ValueError, match="x must not hold NaN, got 1 of 3"):
        encoder(np.float32([0.0, np.nan, 1.0]))
    with pytest.raises(ValueError, match=r"x must not be empty, got shape \(0, 2\)"):
        encoder(np.zeros((0, 2), np.float32))
    with pytest.raises(TypeError, match="x must be floating point, got uint8"):
        encoder(np.zeros((4, 2), np.uint8))


def test_errors_about_spikes_name_spikes():
    with pytest.raises(TypeError, match=r"spikes must be floating point, got int32: use spikes.astype\(jnp.float32\)$"):
        encode.delta_inverse(np.ones(3, np.int32))
    with pytest.raises(ValueError, match=r"spikes must have a time axis, \[T, ...\], got a scalar"):
        encode.delta_inverse(1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: encode.delta(WALK, threshold=-0.1), "threshold must be > 0, got -0.1"),
        (lambda: encode.delta(WALK, threshold=0.0), "threshold must be > 0, got 0.0"),
        (lambda: encode.delta_inverse(WALK, threshold=-1.0), "threshold must be > 0, got -1.0"),
        (lambda: encode.send_on_delta(WALK, threshold=-1.0), "threshold must be > 0, got -1.0"),
        (lambda: encode.StepForward(0.0), "threshold must be > 0, got 0.0"),
        (lambda: encode.time_contrast(WALK, factor=-0.5), "factor must be >= 0, got -0.5"),
        (lambda: encode.time_contrast(WALK[:1]), r"x must have at least 2 steps .*, got shape \(1, 2, 3\)"),
    ],
)
def test_bad_parameters(call, message):
    with pytest.raises(ValueError, match=message):
        call()
