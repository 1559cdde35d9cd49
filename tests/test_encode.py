"""Encoders against golden vectors, hand-computed cases and binomial laws; dtypes, transforms, errors."""

import functools
import inspect
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from binomial import assert_spike_probability
from flax import nnx

from jsnn import encode
from jsnn.compat import norse

KEY = jax.random.key(7)

OPTIONS = (
    "num_steps",
    "num_neurons",
    "tau_mem",
    "dt",
    "f_max",
    "gain",
    "offset",
    "first_spike_time",
    "scale",
)


def compiled(encoder):
    """One compilation in place of one for each operation, where an eager call spends most of its time."""
    parameters = inspect.signature(encoder).parameters
    return jax.jit(encoder, static_argnames=[name for name in OPTIONS if name in parameters])


def inside(x):
    """Values squeezed into (0, 1); what is not floating point stays as it is, to be refused."""
    return jax.nn.sigmoid(jnp.asarray(x)) if jnp.issubdtype(jnp.asarray(x).dtype, jnp.floating) else x


X = jnp.array([[-0.5, 0.0, 0.3], [1.0, 1.7, 4.0]])
ENCODERS = {
    "constant_current": lambda key, x, num_steps=12: encode.constant_current(x, num_steps=num_steps),
    "spike_latency_lif": lambda key, x, num_steps=12: encode.spike_latency_lif(x, num_steps=num_steps),
    "repeat": lambda key, x, num_steps=12: encode.repeat(x, num_steps=num_steps),
    "poisson": lambda key, x, num_steps=12: encode.poisson(key, x, num_steps=num_steps),
    "signed_poisson": lambda key, x, num_steps=12: encode.signed_poisson(key, x, num_steps=num_steps),
    "rate": lambda key, x, num_steps=12: encode.rate(key, inside(x), num_steps=num_steps),
    "latency": lambda key, x, num_steps=12: encode.latency(inside(x), num_steps=num_steps, tau=2.0, bypass=True),
    "latency_normalized": lambda key, x, num_steps=12: encode.latency(inside(x), num_steps=num_steps, normalize=True),
    "latency_ramps": lambda key, x, num_steps=12: encode.latency(
        inside(x), num_steps=num_steps, normalize=True, linear=True, interpolate=True
    ),
    "burst": lambda key, x, num_steps=12: encode.burst(inside(x), num_steps=num_steps),
    "phase": lambda key, x, num_steps=12: encode.phase(inside(x), num_steps=num_steps),
    "rate_after_blanks": lambda key, x, num_steps=12: encode.rate(
        key, inside(x), num_steps=num_steps, first_spike_time=5
    ),
}
each_encoder = pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)


MORE = {
    "times_to_spikes": lambda key, x: encode.times_to_spikes(x, num_steps=4),
    "interpolated_rate": lambda key, x: encode.interpolated_rate(key, jnp.stack([inside(x)] * 3), num_steps=4),
    "receptive_fields": lambda key, x: encode.receptive_fields(x, 4),
    "receptive_field_grid": lambda key, x: encode.receptive_field_grid(x, (3, 4, 5)),
    "cochlea": lambda key, x: encode.cochlea(jnp.tile(x, (1, 100)).T, 8000, num_channels=4, bank="mel"),
}


@pytest.mark.rows(6)
@pytest.mark.parametrize("encoder", (ENCODERS | MORE).values(), ids=ENCODERS | MORE)
def test_an_export_of_any_batch(encoder):
    batch = jax.ShapeDtypeStruct((*jax.export.symbolic_shape("batch"), 3), jnp.float32)
    exported = jax.export.export(jax.jit(functools.partial(encoder, KEY)))(batch)
    np.testing.assert_allclose(exported.call(X), jax.jit(encoder)(KEY, X), atol=1e-6)


# Golden vectors


@pytest.mark.rows(3)
@pytest.mark.parametrize("case", ["T32_mnistnorm256", "T32_range", "T48_mnistnorm256"])
@pytest.mark.parametrize(
    ("encoder", "name"),
    [
        (encode.constant_current, "ConstantCurrentLIFEncoder"),
        (encode.spike_latency_lif, "SpikeLatencyLIFEncoder"),
    ],
)
def test_norse_lif_encoders(parity, encoder, name, case):
    golden = parity(f"norse_{name}__{case}")
    spikes = compiled(encoder)(golden["input"], num_steps=len(golden["spikes"]))
    np.testing.assert_array_equal(spikes, golden["spikes"])
    assert golden["spikes"].any()


@pytest.mark.rows(3)
@pytest.mark.parametrize(
    ("case", "parameters"),
    [
        ("default_dt0.001", {}),
        ("default_dt0.002", {"dt": 2e-3}),
        ("tut_vth05_alpha100_dt0.001", {"threshold": 0.5}),
    ],
)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_norse_lif_current_encoder(parity, case, parameters, dtype):
    golden = parity(f"norse_lif_current_encoder__{case}")
    with jax.enable_x64(dtype == "f64"):
        currents = golden["input_current"].astype({"f32": np.float32, "f64": np.float64}[dtype])
        spikes = compiled(encode.constant_current)(currents, num_steps=50, **parameters)
        np.testing.assert_array_equal(spikes, golden[f"z_{dtype}"])


def test_norse_spike_latency(parity):
    golden = parity("norse_SpikeLatencyEncoder")
    np.testing.assert_array_equal(compiled(encode.spike_latency)(golden["input"]), golden["spikes"])


@pytest.mark.parametrize("f_max", [20, 1000])
def test_norse_poisson(parity, f_max):
    golden = parity(f"norse_Poisson__fmax{f_max}")
    spikes = compiled(encode.poisson)(KEY, golden["input"], num_steps=20_000, f_max=f_max, dt=1e-3)
    assert_spike_probability(spikes, golden["expected_poisson"])
    signed = compiled(encode.signed_poisson)(KEY, golden["input"], num_steps=20_000, f_max=f_max, dt=1e-3)
    assert_spike_probability(np.abs(signed), np.abs(golden["expected_signed"]))
    np.testing.assert_array_equal(signed, np.abs(signed) * np.sign(golden["input"]))


@pytest.mark.parametrize("scale", [None, 1.0])
def test_norse_population(parity, scale):
    golden = parity(f"norse_PopulationEncoder__scale{scale}")
    activity = compiled(norse.population)(golden["input"], 9, scale=scale)
    np.testing.assert_allclose(activity, golden["output"], rtol=1e-5)


@pytest.mark.parametrize(("gain", "offset"), [(0.25, 0), (1, 0), (2, -0.1)])
def test_snntorch_rate(parity, gain, offset):
    golden = parity(f"snntorch_rate__gain{gain}_off{offset}")
    spikes = compiled(encode.rate)(KEY, golden["input"], num_steps=20_000, gain=gain, offset=offset)
    assert_spike_probability(spikes, golden["expected"])


def test_snntorch_rate_first_spike_time(parity):
    golden = parity("snntorch_rate__first_spike_time")
    static = compiled(encode.rate)(KEY, golden["input"], num_steps=10, first_spike_time=4)
    varying = compiled(encode.rate)(KEY, golden["tv"], num_steps=None, first_spike_time=3)
    for ours, theirs, blank in [(static, golden["out_static"], 4), (varying, golden["out_tv"], 3)]:
        spikes = np.asarray(ours)
        assert spikes.shape == theirs.shape
        assert not spikes[:blank].any()
        assert not theirs[:blank].any()
        assert spikes[blank].any()


# Values


def test_constant_current_by_hand():
    # decay = gain = 1/2, x = 1.5: v = 0.75, 1.125 (spike), 0.75, ...; x = 1 never exceeds the threshold
    spikes = encode.constant_current(jnp.array([1.5, 1.0]), num_steps=200, tau_mem=2e-3, dt=1e-3)
    np.testing.assert_array_equal(spikes[:, 0], [0.0, 1.0] * 100)
    assert not spikes[:, 1].any()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.uint8, jnp.bool_])
def test_spike_latency_keeps_first_spikes(dtype):
    spikes = np.array([[0, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 1]], dtype)
    first = compiled(encode.spike_latency)(spikes)
    assert first.dtype == dtype
    np.testing.assert_array_equal(first, [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])


def test_spike_latency_keeps_negative_spikes():
    np.testing.assert_array_equal(encode.spike_latency(jnp.array([0.0, -1.0, 1.0])), [0.0, -1.0, 0.0])


def test_population_by_hand():
    activity = norse.population(jnp.array([[1.0], [2.0]]), 3)  # scale 2, centres 0, 1, 2
    np.testing.assert_allclose(activity[0, 0], np.exp([-1.0, 0.0, -1.0]), rtol=1e-6)
    np.testing.assert_allclose(activity[1, 0], np.exp([-4.0, -1.0, 0.0]), rtol=1e-6)
    boxes = norse.population(jnp.array([1.0]), 3, scale=2.0, kernel=lambda d: (d < 1.0).astype(d.dtype))
    np.testing.assert_array_equal(boxes, [[0.0, 1.0, 0.0]])


def test_repeat():
    images = jnp.array([[0, 255]], jnp.uint8)
    np.testing.assert_array_equal(encode.repeat(images, num_steps=3), [[[0, 255]]] * 3)
    assert encode.repeat(images, num_steps=3).dtype == jnp.uint8


# Randomness


def test_small_probabilities_are_exact_in_half_precision():
    x = np.full(50, 0.03125, jnp.bfloat16)
    assert_spike_probability(compiled(encode.poisson)(KEY, x, num_steps=20_000), np.full(50, 0.003125))
    assert_spike_probability(compiled(encode.rate)(KEY, x, num_steps=20_000, gain=0.1), np.full(50, 0.003125))


HALF = {  # what a number of half precision is too coarse for: places, centres, sums
    "receptive_fields": lambda x: encode.receptive_fields(x, 3000, high=60.0),
    "receptive_field_grid": lambda x: encode.receptive_field_grid(x[:, None], (3000,), low=0.3, high=60.1),
    "population": lambda x: norse.population(x, 300, scale=60.0),
    "population of its own scale": lambda x: norse.population(x, 300),
    "step_forward": lambda x: encode.step_forward(x, threshold=0.1),
    "send_on_delta": lambda x: encode.send_on_delta(x, threshold=0.3),
    "delta_inverse": lambda x: encode.delta_inverse(jnp.sign(x - 20), threshold=0.1, initial=0.3),
}


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("code", HALF.values(), ids=HALF)
def test_half_precision_is_computed_in_float32(code, dtype):
    x = jnp.asarray(np.linspace(0, 60, 600), dtype)
    found = code(x)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, code(x.astype(jnp.float32)).astype(dtype))


@pytest.mark.parametrize("axis", [0, 1])
def test_spikes_are_independent_over_time_and_neurons(axis):
    # neighbours of fair coins differ like fair coins
    spikes = np.asarray(compiled(encode.rate)(KEY, np.full(200, 0.5), num_steps=1000))
    changes = np.diff(spikes, axis=axis) != 0
    assert_spike_probability(changes.reshape(-1, 1), [0.5])


@pytest.mark.parametrize("encoder", [encode.rate, functools.partial(encode.poisson, f_max=1e3)])
def test_time_varying_probabilities(encoder):
    x = np.repeat([[0.0], [0.3], [1.0]], 20_000, axis=1)  # [T, N]
    spikes = np.asarray(compiled(encoder)(KEY, x, num_steps=None))
    assert spikes.shape == x.shape
    assert_spike_probability(spikes.T, [0.0, 0.3, 1.0])


@pytest.mark.parametrize("encoder", [encode.rate, encode.poisson, encode.signed_poisson])
def test_key_decides(encoder):
    x = np.full(3, 0.5, np.float32)
    encoder = compiled(encoder)
    spikes = np.asarray(encoder(KEY, x, num_steps=64))
    np.testing.assert_array_equal(spikes, encoder(KEY, x, num_steps=64))
    assert (spikes != np.asarray(encoder(jax.random.key(8), x, num_steps=64))).any()


# Gradients


@pytest.mark.rows(1)
@pytest.mark.parametrize("encoder", [encode.constant_current, encode.spike_latency_lif])
def test_gradient_of_lif_encoders(encoder):
    x, v, dv, expected = 3.0, 0.0, 0.0, []
    for _ in range(4):
        v, dv = 0.9 * v + 0.1 * x, 0.9 * dv + 0.1
        spike, d_spike = float(v > 1), dv / (100 * abs(v - 1) + 1) ** 2
        expected.append(d_spike)
        v, dv = (1 - spike) * v, (1 - spike) * dv - v * d_spike  # the reset is not detached
    np.testing.assert_array_equal(compiled(encoder)(x, num_steps=4), [0.0, 0.0, 0.0, 1.0])
    np.testing.assert_allclose(jax.jacobian(functools.partial(compiled(encoder), num_steps=4))(x), expected, rtol=1e-4)


def test_gradient_of_spike_latency_ends_with_the_first_spike():
    spikes = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    gradient = jax.jit(jax.grad(lambda spikes: encode.spike_latency(spikes).sum()))(spikes)
    np.testing.assert_array_equal(gradient, [[1.0, 1.0], [1.0, 1.0], [0.0, 1.0], [0.0, 1.0]])


@pytest.mark.parametrize("encoder", [encode.rate, encode.poisson])
def test_no_gradient_through_random_encoders(encoder):
    gradient = jax.jit(jax.grad(lambda x, key: encoder(key, x, num_steps=12).sum()))(X, KEY)
    np.testing.assert_array_equal(gradient, jnp.zeros_like(X))


def test_gradient_of_population():
    gradient = jax.jit(jax.grad(lambda x: norse.population(x, 3, scale=1.0)[0]))(0.5)
    np.testing.assert_allclose(gradient, -0.5 * np.exp(-0.125), rtol=1e-5)


# Transforms and dtypes


@pytest.mark.rows(1)
@each_encoder
def test_jit_and_vmap_are_an_eager_loop(encoder):
    keys = jax.random.split(KEY, len(X))
    loop = [encoder(key, x) for key, x in zip(keys, X, strict=True)]
    np.testing.assert_array_equal(jax.jit(jax.vmap(encoder))(keys, X), loop)


def test_population_under_transforms():
    encoder = functools.partial(norse.population, num_neurons=5, scale=2.0)
    np.testing.assert_allclose(jax.jit(jax.vmap(encoder))(X), encoder(X), rtol=1e-6)


@each_encoder
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64])
def test_shape_and_dtype(encoder, dtype):
    with jax.enable_x64(dtype == jnp.float64):
        spikes = jax.eval_shape(encoder, KEY, np.asarray(X).astype(dtype))
        assert spikes.dtype == dtype
        assert spikes.shape == (12, 2, 3)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
@pytest.mark.parametrize("scale", [None, 2.0, np.float32(2.0)])
def test_population_shape_and_dtype(dtype, scale):
    with jax.enable_x64(dtype == jnp.float64):
        encoder = functools.partial(norse.population, num_neurons=5, scale=scale)
        activity = jax.eval_shape(encoder, np.asarray(X).astype(dtype))
        assert activity.dtype == dtype
        assert activity.shape == (2, 3, 5)


@each_encoder
def test_numpy_and_scalars_are_accepted(encoder):
    assert jax.eval_shape(lambda key: encoder(key, np.asarray(X)), KEY).shape == (12, 2, 3)
    assert jax.eval_shape(lambda key: encoder(key, 0.5), KEY).shape == (12,)


# Bad input


@each_encoder
@pytest.mark.parametrize("num_steps", [0, -3])
def test_num_steps_must_be_positive(encoder, num_steps):
    with pytest.raises(ValueError, match=f"num_steps must be >= 1, got {num_steps}"):
        encoder(KEY, X, num_steps=num_steps)


@pytest.mark.parametrize("name", sorted(ENCODERS.keys() - {"repeat"}))
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.bool_])
def test_images_of_integers_are_refused(name, dtype):
    with pytest.raises(TypeError, match=rf"x must be floating point, got {np.dtype(dtype)}: .* by 255"):
        ENCODERS[name](KEY, np.ones((2, 3), dtype))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: encode.constant_current(X, num_steps=5, tau_mem=-1e-2), r"tau_mem must be > 0, got -0.01"),
        (lambda: encode.constant_current(X, num_steps=5, tau_mem=0.0), r"tau_mem must be > 0, got 0.0"),
        (lambda: encode.constant_current(X, num_steps=5, dt=-1e-3), r"dt must be > 0, got -0.001"),
        (lambda: encode.constant_current(X, num_steps=5, dt=0.02), r"tau_mem = 0.01 is shorter than dt = 0.02"),
        (lambda: encode.constant_current(X, num_steps=5, threshold=-1.0), r"threshold must be > 0, got -1.0"),
        (lambda: encode.spike_latency_lif(X, num_steps=5, tau_mem=-1.0), r"tau_mem must be > 0, got -1.0"),
        (
            lambda: encode.spike_latency(jnp.array(1.0)),
            r"spikes must have a time axis, \[T, ...\], got a scalar",
        ),
        (lambda: encode.poisson(KEY, X, num_steps=5, f_max=-1.0), r"f_max must be > 0, got -1.0"),
        (lambda: encode.poisson(KEY, X, num_steps=5, dt=-1.0), r"dt must be > 0, got -1.0"),
        (lambda: encode.signed_poisson(KEY, X, num_steps=5, f_max=-1.0), r"f_max must be > 0, got -1.0"),
        (lambda: encode.poisson(KEY, 0.5, num_steps=None), r"x must have a time axis.* pass num_steps"),
        (lambda: encode.rate(KEY, 0.5, num_steps=None), r"x must have a time axis.* pass num_steps"),
        (lambda: encode.rate(KEY, X, num_steps=5, first_spike_time=-1), r"first_spike_time must be >= 0, got -1"),
        (
            lambda: encode.rate(KEY, X, num_steps=5, first_spike_time=5),
            r"first_spike_time must be below num_steps = 5, got 5",
        ),
        (lambda: norse.population(X, 0), r"num_neurons must be >= 1, got 0"),
        (lambda: norse.population(X, 3, scale=-1.0), r"scale must be > 0, got -1.0"),
    ],
)
def test_bad_parameters(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_what_is_no_key_or_no_number_of_steps_is_refused():
    with pytest.raises(TypeError, match=r"key, the first argument, must be made by jax.random.key\(seed\), got 0"):
        encode.poisson(0, X, num_steps=5)
    with pytest.raises(TypeError, match=r"got nnx.Rngs: call them for a key, rngs\(\)"):
        encode.poisson(nnx.Rngs(0), X, num_steps=5)
    with pytest.raises(TypeError, match=r"num_steps must be an integer, got 5.0"):
        encode.repeat(X, num_steps=5.0)
    keys = jax.random.PRNGKey(0), jax.random.key(0)
    np.testing.assert_array_equal(*[encode.poisson(key, X, num_steps=5) for key in keys])


@pytest.mark.parametrize("name", sorted(ENCODERS.keys() - {"repeat"}))
def test_missing_values_are_refused(name):
    with pytest.raises(ValueError, match=r"x must not be empty, got shape \(0, 3\)"):
        ENCODERS[name](KEY, np.zeros((0, 3), np.float32))
    with pytest.raises(ValueError, match=r"x must not hold NaN, got 1 of 2: jnp.nan_to_num"):
        ENCODERS[name](KEY, np.array([0.5, np.nan], np.float32))


@each_encoder
@pytest.mark.slow
def test_values_closed_over_by_a_jitted_function_are_fine(encoder):
    np.testing.assert_array_equal(jax.jit(lambda key: encoder(key, X))(KEY), encoder(KEY, X))


@pytest.mark.parametrize(
    "encoder", [*ENCODERS.values(), MORE["interpolated_rate"], lambda _, x: encode.spikes_to_times(x)]
)
def test_dtypes_are_never_mixed(encoder):
    with jax.numpy_dtype_promotion("strict"):
        jax.eval_shape(encoder, KEY, X)


def test_all_public_names_are_listed_and_there():
    assert encode.__all__ == sorted(encode.__all__)
    assert all(callable(getattr(encode, name)) for name in encode.__all__)


def test_all_names_are_in_the_table_of_encoders():
    page = (Path(__file__).resolve().parents[1] / "docs" / "encoders.md").read_text("utf-8")
    assert [name for name in encode.__all__ if f"`{name}`" not in page and f"`encode.{name}" not in page] == []
    assert set(re.findall(r"encode\.(\w+)", page)) <= set(encode.__all__)


def test_population_of_integers_is_refused():
    with pytest.raises(TypeError, match="x must be floating point, got uint8"):
        norse.population(np.ones(3, np.uint8), 4)


@pytest.mark.parametrize("encoder", [
    encode.rate, encode.poisson, encode.signed_poisson, encode.random_spikes, encode.interpolated_rate,
])  # fmt: skip
def test_a_key_that_is_left_out_is_named(encoder):
    for arguments, options in (((X,), {"num_steps": 10}), ((X, 10), {}), ((), {"num_steps": 10})):
        with pytest.raises(TypeError, match=r"\(\): key, the first argument, must be made by jax.random.key\(seed\)"):
            encoder(*arguments, **options)
