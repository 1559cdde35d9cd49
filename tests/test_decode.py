"""Decoders against hand-computed values, their gradients, dtypes and errors."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import padded
import pytest

from jsnn import decode

# [T, B, N] = [3, 1, 4]: spikes at steps (0, 2), (1), none, (1, 2)
SPIKES = jnp.array([[[1.0, 0.0, 0.0, 0.0]], [[0.0, 1.0, 0.0, 1.0]], [[1.0, 0.0, 0.0, 1.0]]])
MEMBRANES = jnp.array([[[0.5, -1.0]], [[2.0, -3.0]], [[-1.0, -2.0]]])

DECODERS = [
    decode.max_over_time,
    decode.last,
    decode.mean,
    decode.sum,
    decode.spike_count,
    decode.first_spike_time,
]
each_decoder = pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: decoder.__name__)


@pytest.mark.rows(3)
@pytest.mark.parametrize(
    ("decoder", "outputs", "expected"),
    [
        (decode.max_over_time, MEMBRANES, [2.0, -1.0]),
        (decode.last, MEMBRANES, [-1.0, -2.0]),
        (decode.mean, MEMBRANES, [0.5, -2.0]),
        (decode.sum, MEMBRANES, [1.5, -6.0]),
        (decode.spike_count, SPIKES, [2.0, 1.0, 0.0, 2.0]),
        (decode.first_spike_time, SPIKES, [0.0, 1.0, 2.0, 1.0]),
    ],
)
def test_values(decoder, outputs, expected):
    np.testing.assert_array_equal(decoder(outputs), [expected])


@pytest.mark.rows(4)
@each_decoder
def test_log_softmax(decoder):
    decoded = decoder(SPIKES)
    logits = -decoded if decoder is decode.first_spike_time else decoded
    log_probabilities = decoder(SPIKES, log_softmax=True)
    np.testing.assert_allclose(log_probabilities, jax.nn.log_softmax(logits), rtol=1e-6)
    np.testing.assert_allclose(jnp.exp(log_probabilities).sum(-1), 1, rtol=1e-6)


def test_earliest_neuron_is_most_probable():
    assert jnp.argmax(decode.first_spike_time(SPIKES, log_softmax=True)) == 0


@each_decoder
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_dtype_is_kept(decoder, dtype):
    with jax.enable_x64(dtype == jnp.float64):
        outputs = jax.ShapeDtypeStruct(SPIKES.shape, dtype)
        decoded, pullback = jax.eval_shape(lambda x: jax.vjp(decoder, x), outputs)
        assert decoded.dtype == jax.eval_shape(pullback, decoded)[0].dtype == dtype


@pytest.mark.rows(2)
@each_decoder
def test_jit_and_vmap_equal_eager(decoder):
    expected = decoder(SPIKES)
    np.testing.assert_allclose(jax.jit(decoder)(SPIKES), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(decoder)(SPIKES[None]), expected[None], rtol=1e-6)


@each_decoder
def test_an_export_of_any_batch(decoder):
    (batch,) = jax.export.symbolic_shape("batch")
    outputs = jax.ShapeDtypeStruct((4, batch, 3), jnp.float32)
    assert jax.export.export(jax.jit(decoder))(outputs).out_avals[0].shape == (batch, 3)


def test_max_over_time_gives_the_gradient_to_the_first_of_equals():
    gradient = jax.grad(lambda x: decode.max_over_time(x).sum())(jnp.array([[[1.0]], [[2.0]], [[2.0]]]))
    np.testing.assert_array_equal(gradient.ravel(), [0, 1, 0])


@pytest.mark.rows(1)
@pytest.mark.parametrize("num_spikes", [1, 3])
def test_spike_times_and_their_gradient(num_spikes):
    spikes = (np.random.default_rng(0).random((6, 4, 3)) < 0.3).astype(np.float32)
    spikes[:, 0, 0], spikes[:, 0, 1] = 0, 1
    weight = jnp.arange(1.0, 1 + num_spikes).reshape(-1, 1, 1)
    times, pullback = jax.vjp(lambda x: decode.spike_times(x, num_spikes), jnp.asarray(spikes))
    (gradient,) = pullback(jnp.broadcast_to(weight, times.shape))
    for sample, neuron in np.ndindex(4, 3):
        steps = [*np.flatnonzero(spikes[:, sample, neuron]), 5, 5, 5][:num_spikes]
        expected = np.zeros(6)
        np.add.at(expected, steps, -weight.ravel())
        np.testing.assert_array_equal(times[:, sample, neuron], steps)
        np.testing.assert_array_equal(gradient[:, sample, neuron], expected)


def test_height_of_a_spike_does_not_change_its_time():
    np.testing.assert_array_equal(decode.first_spike_time(20 * SPIKES), decode.first_spike_time(SPIKES))


def test_population_code_adds_neighbouring_neurons():
    counts = decode.spike_count(SPIKES, num_classes=2)
    np.testing.assert_array_equal(counts, [[3.0, 2.0]])


@pytest.mark.parametrize("shape", [(3,), (3, 4), (3, 1, 4, 4)])
@each_decoder
def test_wrong_rank(decoder, shape):
    with pytest.raises(ValueError, match=r"must be \[T, B, N\], got shape \(3,.*put time first"):
        decoder(jnp.zeros(shape))


@each_decoder
def test_outputs_of_no_neuron_or_no_step(decoder):
    for shape in ((0, 1, 4), (3, 1, 0)):
        with pytest.raises(ValueError, match="at least one time step and one neuron, got shape"):
            decoder(jnp.zeros(shape))
    assert decoder(jnp.zeros((3, 0, 4))).shape == (0, 4)  # an empty batch has results, as many


@pytest.mark.parametrize("dtype", ["bool", "int32"])
@each_decoder
def test_wrong_dtype(decoder, dtype):
    with pytest.raises(TypeError, match=rf"must be floating point, got {dtype}: use .astype"):
        decoder(jnp.zeros((3, 1, 4), dtype))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 3}, "got N=4 and num_classes=3"),
        ({"num_classes": 0}, "got N=4 and num_classes=0"),
    ],
)
def test_wrong_population_code(options, message):
    with pytest.raises(ValueError, match=message):
        decode.spike_count(SPIKES, **options)


def test_wrong_number_of_spikes():
    with pytest.raises(ValueError, match="num_spikes must be >= 1, got 0"):
        decode.spike_times(SPIKES, 0)


# Recordings of different lengths

PADDED = {decoder.__name__: decoder for decoder in DECODERS} | {
    "spike_times": partial(decode.spike_times, num_spikes=3),
    "population": partial(decode.spike_count, num_classes=2),
    **{f"{decoder.__name__}-log_softmax": partial(decoder, log_softmax=True) for decoder in DECODERS},
}
each_padded = pytest.mark.parametrize("decoder", PADDED.values(), ids=PADDED)


def value_and_gradient(decoder, outputs, weights, **options):
    value, pullback = jax.vjp(lambda x: decoder(x, **options), outputs)
    return value, *pullback(weights)


@pytest.mark.rows(7)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@each_padded
def test_a_padded_batch_gives_what_its_recordings_give_one_by_one(decoder, dtype):
    outputs = padded.outputs(dtype)
    shape = jax.eval_shape(decoder, outputs).shape
    weights = jnp.cos(jnp.arange(np.prod(shape))).reshape(shape).astype(dtype)
    several = jnp.stack([padded.LENGTHS, np.minimum(padded.LENGTHS, 2)])
    together = jax.jit(jax.vmap(lambda lengths: value_and_gradient(decoder, outputs, weights, lengths=lengths)))
    values, gradients = (both[0].astype(jnp.float32) for both in together(several))

    def alone(sample):
        own = padded.of_sample(outputs, sample)
        return value_and_gradient(decoder, own, weights[..., sample : sample + 1, :])

    tolerance = {"rtol": 1e-6, "atol": 1e-6} if dtype == jnp.float32 else {"rtol": 1e-2, "atol": 1e-2}
    for sample, (value, gradient) in enumerate(jax.jit(lambda: list(map(alone, range(4))))()):
        np.testing.assert_allclose(values[..., sample : sample + 1, :], value.astype(jnp.float32), **tolerance)
        found = padded.of_sample(gradients, sample)
        np.testing.assert_allclose(found, gradient.astype(jnp.float32), **tolerance)
        np.testing.assert_array_equal(gradients[padded.LENGTHS[sample] :, sample], 0)


@pytest.mark.rows(4)
@each_padded
def test_full_lengths_are_no_lengths(decoder):
    np.testing.assert_allclose(decoder(SPIKES, lengths=jnp.array([3])), decoder(SPIKES), rtol=1e-6)


@each_padded
def test_wrong_lengths(decoder):
    outputs = padded.outputs()
    for lengths, error, message in padded.BAD_LENGTHS:
        with pytest.raises(error, match=message):
            decoder(outputs, lengths=lengths)
        known_by_value = "lie in" in message
        traced = partial(jax.eval_shape, lambda lengths: decoder(outputs, lengths=lengths), jnp.asarray(lengths))
        if known_by_value:
            assert traced().shape == jax.eval_shape(decoder, outputs).shape
        else:
            with pytest.raises(error, match=message):
                traced()
