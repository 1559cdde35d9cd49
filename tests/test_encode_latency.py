"""Latency codes, spike times and ramps against golden vectors and by hand; every bad input."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsnn import encode

OPTIONS = ("tau", "threshold", "first_spike_time", "clip", "normalize", "linear", "bypass", "interpolate")


def steps(spikes):
    """The step of each neuron's one spike, -1 for none; fails on a second one."""
    spikes = np.asarray(spikes)
    assert set(np.unique(spikes)) <= {0.0, 1.0}
    assert spikes.sum(axis=0).max() <= 1
    return np.where(spikes.any(axis=0), spikes.argmax(axis=0), -1)


# Golden vectors


@pytest.mark.rows(1)
@pytest.mark.parametrize("first", range(0, 512, 64))
def test_snntorch_latency_grid(parity, first):
    golden = parity("snntorch_latency_grid")
    for case in json.loads(str(golden["meta"]))["cases"][first : first + 64]:
        options = {name: case[name] for name in OPTIONS}
        if "error" in case:
            with pytest.raises(ValueError, match="num_steps"):
                encode.latency(golden["input"], num_steps=case["num_steps"] or None, **options)
            continue
        spikes = encode.latency(golden["input"], num_steps=case["num_steps"] or None, **options)
        assert len(spikes) == case["T"]
        np.testing.assert_array_equal(steps(spikes), golden[f"spike_step_{case['idx']}"], str(case))


@pytest.mark.rows(2)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("latency_tau5_thr0.01", {"tau": 5.0, "threshold": 0.01}),
        ("latency_norm_linear", {"tau": 5.0, "threshold": 0.01, "normalize": True, "linear": True}),
        ("latency_clip_norm_linear", {"tau": 5.0, "threshold": 0.01, "clip": True, "normalize": True, "linear": True}),
    ],
)
def test_snntorch_tutorial(parity, name, options):
    golden = parity("snntorch_tutorial_mnist4")
    np.testing.assert_array_equal(steps(encode.latency(golden["x"], num_steps=100, **options)), golden[name])


# By hand


def test_times_by_hand():
    x = np.array([0.05, 0.2, 0.5, 1.0], np.float32)
    expected = 3 + 2 * np.log(x[1:] / (x[1:] - 0.1))
    times = jax.jit(lambda x: encode.latency_times(x, tau=2.0, threshold=0.1, first_spike_time=3))(x)
    np.testing.assert_allclose(times[1:], expected, rtol=1e-5)
    linear = jax.jit(lambda x: encode.latency_times(x, tau=10.0, threshold=0.1, linear=True, clip=True))(x)
    np.testing.assert_allclose(linear, [np.inf, 8.0, 5.0, 0.0], rtol=1e-6)
    late = encode.latency_times(np.float32([0.0, 1.0]), threshold=0.25, epsilon=0.25)
    np.testing.assert_allclose(late[0], np.log(2), rtol=1e-6)  # d = 0.5


def test_times_of_half_precision_are_not_rounded():
    x = jnp.array([0.5, 1.0], jnp.bfloat16)
    times = encode.latency_times(x, num_steps=1001, threshold=0.25, normalize=True)
    assert times.dtype == jnp.float32
    assert steps(encode.latency(x, num_steps=1001, threshold=0.25, normalize=True)).tolist() == [1000, 415]


def test_times_that_are_not_finite_are_refused_under_jit_but_not_where_they_do_not_occur():
    with pytest.raises(ValueError, match="times must be finite in float32, got inf"):
        jax.jit(lambda x: encode.latency(x, num_steps=5, epsilon=1e-12))(np.float32([0.1, 0.9]))
    linear = encode.latency_times(np.float32([0.0, 1.0]), num_steps=5, tau=np.inf, linear=True, normalize=True)
    np.testing.assert_allclose(linear, [3.96, 0.0], rtol=1e-6)
    slope = jax.grad(lambda tau: encode.latency_times(np.float32([0.5, 1.0]), tau=tau)[0])(2.0)  # tau may be traced
    np.testing.assert_allclose(slope, np.log(0.5 / 0.49), rtol=1e-5)


def test_normalized_times_end_at_the_last_step():
    x = np.linspace(0, 1, 9, dtype=np.float32)
    for linear in (False, True):
        options = {"num_steps": 50, "threshold": 0.1, "first_spike_time": 7, "normalize": True, "linear": linear}
        times = np.asarray(jax.jit(lambda x, options=options: encode.latency_times(x, **options))(x))
        assert times.max() < 49.001
        assert times[0] == pytest.approx(49 if not linear else 7 + 42 * 0.9)
        assert times.min() >= 7


@pytest.mark.rows(2)
@pytest.mark.parametrize("dtype", [jnp.bool_, jnp.uint8, jnp.bfloat16])
def test_spikes_may_be_stored_small(dtype):
    x = np.array([0.2, 0.9], np.float32)
    spikes = encode.latency(x, num_steps=5, linear=True, normalize=True, dtype=dtype)
    assert spikes.dtype == dtype
    np.testing.assert_array_equal(spikes, encode.latency(x, num_steps=5, linear=True, normalize=True).astype(dtype))


def test_late_spikes_are_left_out_under_jit():
    late = jax.jit(lambda x: encode.latency(x, num_steps=3, tau=10.0, linear=True))(np.float32([0.2, 0.9]))
    assert steps(late).tolist() == [-1, 1]


def test_interpolated_latency_is_a_ramp():
    code = jax.jit(lambda x: encode.latency(x, num_steps=5, linear=True, tau=4.0, interpolate=True))
    ramp = code(np.float32([1.0, 0.5, 0.0]))
    np.testing.assert_allclose(ramp, [[1, 0, 0], [0, 0.5, 0.25], [0, 1, 0.5], [0, 0, 0.75], [0, 0, 1]], rtol=1e-6)


# Times and ramps


def test_times_to_spikes_and_back():
    times = np.array([0.0, 3.0, 6.0, np.inf], np.float32)
    spikes = encode.times_to_spikes(times, num_steps=7)
    np.testing.assert_array_equal(steps(spikes), [0, 3, 6, -1])
    np.testing.assert_array_equal(encode.spikes_to_times(spikes), times)
    np.testing.assert_array_equal(encode.spikes_to_times(spikes.astype(jnp.bool_)), times)


def test_times_are_rounded_half_to_even_and_others_left_out():
    times = np.array([-0.5, 0.5, 1.5, 2.51, 3.5, -0.6, -np.inf, 1e30], np.float32)
    assert steps(encode.times_to_spikes(times, num_steps=4)).tolist() == [0, 0, 2, 3, -1, -1, -1, -1]


def test_several_spikes_a_neuron():
    times = jnp.array([[0.0, 1.0], [2.0, jnp.inf]])  # [K, N]
    spikes = jax.vmap(encode.times_to_spikes, (0, None))(times, 3).max(0)
    np.testing.assert_array_equal(spikes, [[1, 0], [0, 1], [1, 0]])
    np.testing.assert_array_equal(encode.spikes_to_times(spikes), [0, 1])


@pytest.mark.rows(1)
@pytest.mark.parametrize(
    ("spikes", "options", "expected"),
    [
        ([1, 0, 0, 0, 1], {}, [1, 0, 1 / 3, 2 / 3, 1]),
        ([1, 0, 0, 0, 1], {"on_target": 1.25, "off_target": 0.25}, [1.25, 0.25, 0.25 + 1 / 3, 0.25 + 2 / 3, 1.25]),
        ([0, 0, 1, 1, 0, 1, 0], {}, [0, 0.5, 1, 1, 0, 1, 0]),
        ([0, 0, 0], {"off_target": 0.5}, [0.5, 0.5, 0.5]),
        ([1], {}, [1]),
    ],
)
def test_ramps_by_hand(spikes, options, expected):
    for dtype in (np.float32, np.bool_):
        ramp = jax.jit(lambda s: encode.interpolate_spikes(s, **options))(np.array(spikes, dtype))
        np.testing.assert_allclose(ramp, expected, rtol=1e-6)
    batched = jax.jit(jax.vmap(lambda s: encode.interpolate_spikes(s, **options)))(np.array([spikes] * 2, np.float32))
    np.testing.assert_allclose(batched, [expected] * 2, rtol=1e-6)


# Bad input

OK = np.array([0.1, 0.9], np.float32)


@pytest.mark.parametrize("function", [encode.latency, encode.latency_times])
@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (OK, {"tau": -1.0}, "tau must be > 0, got -1.0"),
        (OK, {"tau": 0.0}, "tau must be > 0, got 0.0"),
        (OK, {"epsilon": 0.0}, "epsilon must be > 0, got 0.0"),
        (OK, {"threshold": -0.1}, r"threshold must lie in \(0, 1\), got -0.1"),
        (OK, {"threshold": 1e-9, "normalize": True}, r"threshold must be at least 1.2e-07 .* float32, got 1e-09"),
        (OK, {"threshold": 1.0}, r"threshold must lie in \(0, 1\), got 1.0"),
        (OK, {"threshold": 0.95}, r"threshold must be below the largest value of x, 0.9, got 0.95"),
        (np.float32([0.25, 0.5]), {"threshold": 0.5}, r"threshold must be below the largest value of x, 0.5, got 0.5"),
        (np.zeros(3, np.float32), {}, r"threshold must be below the largest value of x, 0, got 0.01"),
        (OK, {"first_spike_time": -1}, "first_spike_time must be >= 0, got -1"),
        (OK, {"first_spike_time": 50}, "first_spike_time must be below num_steps = 50, got 50"),
        (np.float32([0.5, 1.5]), {}, r"x must lie in \[0, 1\], got values from 0.5 to 1.5: rescale"),
        (np.float32([-0.5, 0.5]), {"normalize": True}, r"x must lie in \[0, 1\], got values from -0.5 to 0.5"),
        (np.float32([0.5, np.inf]), {}, r"x must lie in \[0, 1\], got values from 0.5 to inf"),
        (np.float32([0.5, np.nan]), {}, "x must not hold NaN, got 1 of 2"),
        (np.zeros((0, 3), np.float32), {}, r"x must not be empty, got shape \(0, 3\)"),
        (OK, {"epsilon": 1e-12}, r"times must be finite in float32, got inf .* epsilon = 1e-12: take epsilon = 1e-7"),
        (OK, {"epsilon": 1e-12, "normalize": True, "clip": True}, "times must be finite in float32, got nan"),
        (OK, {"epsilon": np.inf}, "times must be finite in float32, got nan .* epsilon = inf"),
        (OK, {"tau": np.inf}, "times must be finite in float32, got inf .* tau / dt = inf"),
        (OK, {"tau": 1e39, "linear": True}, r"times must be finite in float32, got inf .* tau / dt = 1e\+39"),
        (OK, {"tau": 1e-50, "normalize": True}, "times must be finite in float32, got nan .* tau / dt = 1e-50"),
    ],
)
def test_bad_latency(function, x, options, message):
    with pytest.raises(ValueError, match=message):
        function(x, num_steps=50, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: encode.latency(OK, num_steps=None), "num_steps must be given, got None: pass it, or bypass=True"),
        (lambda: encode.latency(OK, num_steps=None, bypass=True, normalize=True), "normalize needs num_steps"),
        (lambda: encode.latency_times(OK, normalize=True), "normalize needs num_steps"),
        (
            lambda: encode.latency(OK, num_steps=3, tau=10.0, linear=True),
            "num_steps must be at least 10 .*, got 3: .*bypass",
        ),
        (
            lambda: jax.jit(lambda x: encode.latency(x, num_steps=None, bypass=True))(OK),
            "num_steps must be given under jit, got None",
        ),
        (lambda: encode.times_to_spikes(OK, num_steps=0), "num_steps must be >= 1, got 0"),
        (
            lambda: encode.times_to_spikes(np.float32([np.nan]), num_steps=3),
            r"times must not hold NaN, got 1 of 1: jnp.nan_to_num\(times\)",
        ),
        (lambda: encode.spikes_to_times(np.float32(1.0)), r"spikes must have a time axis, \[T, ...\], got a scalar"),
        (lambda: encode.spikes_to_times(np.zeros((0, 2))), r"spikes must have at least one step, got shape \(0, 2\)"),
        (lambda: encode.interpolate_spikes(np.float32(1.0)), "spikes must have a time axis"),
        (
            lambda: encode.interpolate_spikes(OK, on_target=0.5, off_target=0.75),
            "on_target must be >= off_target = 0.75, got 0.5",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_integers_are_refused():
    with pytest.raises(TypeError, match=r"x must be floating point, got uint8: .* by 255"):
        encode.latency_times(np.ones(3, np.uint8))
    with pytest.raises(TypeError, match="times must be floating point, got int32"):
        encode.times_to_spikes(np.ones(3, np.int32), num_steps=4)
