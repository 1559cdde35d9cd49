"""The one check of the arguments of public functions, and that every room has it."""

import types
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from fuzz_calls import fuzz

import jsnn
from jsnn import augment, decode, encode, events, losses, metrics, regularizers
from jsnn.arguments import check_memory, checked
from jsnn.compat import norse
from jsnn.compat import snntorch_functional as functional
from jsnn.types import Array, Parameter

OUTPUTS, LABELS, KEY = jnp.ones((4, 2, 3)), jnp.array([0, 2]), jax.random.key(0)


Form: TypeAlias = Literal["sew", "ms", "own"]


@checked
def function(
    x: Array,
    steps: int = 1,
    *,
    dt: float | None = None,
    on: bool = False,
    gain: Parameter = 1.0,
    form: Form = "sew",
    scale: float | Literal["auto"] = 1.0,
) -> Array:
    """A function with an argument of each kind."""
    return x


@pytest.mark.parametrize(
    "x", [[1, 2], (1.0, 2.0), np.arange(2, dtype=">i2"), [jnp.ones(()), 2.0], 3, np.float32(0.5), jnp.ones(2)]
)
def test_array_likes_become_arrays(x):
    assert isinstance(function(x), jax.Array)
    np.testing.assert_array_equal(function(x), np.asarray(x))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": None}, TypeError, "function(): x must be an array of numbers, got None: pass a JAX or NumPy array"),
        ({"x": "abc"}, TypeError, "x must be an array of numbers, got 'abc'"),
        ({"x": ["a"]}, TypeError, "x must be an array of numbers, got ['a']"),
        ({"x": [[1.0], [1.0, 2.0]]}, TypeError, "x must be an array of numbers"),
        ({"x": jnp.ones(2, complex)}, TypeError, "x must be an array of numbers"),
        ({"x": KEY}, TypeError, "x must be an array of numbers"),
        ({"x": np.array([2**40])}, ValueError, "x must fit into int32, got values from 1099511627776"),
        ({"steps": 2.0}, TypeError, "function(): steps must be an integer, got 2.0"),
        ({"steps": True}, TypeError, "steps must be an integer, got True"),
        ({"steps": None}, TypeError, "steps must be an integer, got None"),
        ({"steps": 10**12}, ValueError, "steps must lie between -2^31 and 2^31, got 1000000000000"),
        ({"dt": "1"}, TypeError, "dt must be a number, got '1'"),
        ({"dt": jnp.ones(2)}, TypeError, "dt must be a number"),
        ({"dt": float("nan")}, ValueError, "dt must be a number, got NaN"),
        ({"dt": 10**400}, ValueError, "dt must be a number below 1e308"),
        ({"on": "no"}, TypeError, "on must be True or False, got 'no'"),
        ({"gain": [1.0]}, TypeError, "gain must be a number, an array or an nnx.Param, got [1.0]"),
        ({"form": "SEW"}, ValueError, "function(): form must be 'sew', 'ms' or 'own', got 'SEW'"),
        ({"form": None}, TypeError, "form must be 'sew', 'ms' or 'own', got None"),
        ({"scale": "no"}, ValueError, "scale must be a number or 'auto', got 'no'"),
    ],
)
def test_what_does_not_fit_is_named(arguments, error, message):
    with pytest.raises(error) as raised:
        function(**{"x": 1.0} | arguments)
    assert message in str(raised.value)


def test_traced_values_pass_and_static_ones_are_asked_for():
    assert jax.jit(lambda x, dt: function(x, dt=dt, gain=dt))(jnp.ones(2), 0.5).shape == (2,)
    with pytest.raises(TypeError, match=r"steps must be an integer, got .* make it static under jit"):
        jax.jit(lambda steps: function(1.0, steps))(3)
    with pytest.raises(TypeError, match=r"x must be an array of numbers, got .*complex64.*: pass a JAX or NumPy array"):
        jax.jit(function)(jnp.ones(2, complex))


def test_python_says_what_is_missing():
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        function()


@pytest.fixture
def of_8_gib(monkeypatch):
    """A machine that has 8 GiB of memory free, whatever it has."""
    monkeypatch.setattr("psutil.virtual_memory", lambda: types.SimpleNamespace(available=2**33))


@pytest.mark.usefixtures("of_8_gib")
def test_an_array_beyond_the_memory_is_refused_before_it_is_made():
    check_memory("spikes", (1000, 1000))
    with pytest.raises(ValueError, match=r"spikes of shape \(1000000, 1000000\) would take .* GiB of memory"):
        check_memory("spikes", (10**6, 10**6))


@pytest.mark.parametrize("bad", [None, "abc", {}, ["a"]], ids=repr)
@pytest.mark.parametrize(
    "call",
    [
        decode.last, decode.mean, lambda x: decode.spike_times(x, 2), lambda x: losses.cross_entropy(x, LABELS),
        lambda x: losses.mse_count_loss(OUTPUTS, x), lambda x: metrics.accuracy(x, LABELS), metrics.firing_rate,
        regularizers.l1_rate, lambda x: regularizers.percentile(x), lambda x: augment.random_flip(KEY, x),
        augment.to_float, lambda x: encode.rate(KEY, x, num_steps=4), lambda x: norse.population(x, 4),
        encode.spikes_to_times,
        lambda x: functional.targets_rate(x, 3), jsnn.flatten, jsnn.max_pool, lambda x: jsnn.unroll(jsnn.LIF(0.9), x),
        lambda x: jsnn.record(jsnn.LIF(0.9), x), lambda x: jsnn.LIF(gain=x or "x"), lambda x: jsnn.filters.Lowpass(x),
    ],
)  # fmt: skip
def test_every_room_refuses_what_is_no_array(call, bad):
    with pytest.raises(TypeError, match=r"\(\): \w+ must be"):
        call(bad)


@pytest.mark.rows(8)
@pytest.mark.usefixtures("of_8_gib")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: norse.population(jnp.ones(3), 10**9), "the population of shape .* GiB"),
        (lambda: encode.repeat(jnp.ones(9), num_steps=2**31 - 1), "the spikes of shape .* GiB"),
        (lambda: encode.latency(jnp.ones((3, 9)), num_steps=2**31 - 1), "the spikes of shape .* GiB"),
        (lambda: functional.targets_rate(LABELS, 3, 2**31 - 1), "of shape .* GiB"),
        (lambda: decode.spike_times(OUTPUTS, 2**31 - 1), "GiB"),
        (lambda: jsnn.unroll(jsnn.LIF(0.9), jnp.ones(9), num_steps=2**31 - 1), "the outputs of shape .* GiB"),
        (lambda: jsnn.compat.norse.lif_recurrent(3, 10**6, rngs=nnx.Rngs(0)), "weights of shape .* GiB"),
        (lambda: events.bin_events(([0, 10**15], [0, 0], [0, 0], [0, 0]), (2, 2, 2), window=1), "frames of .* GiB"),
        *[(lambda f=f: f(jnp.zeros((0, 2, 3))), "at least one time step") for f in (decode.last, decode.sum)],
        (lambda: metrics.accuracy(jnp.zeros((0, 3)), jnp.zeros(0, int)), "targets must not be empty"),
        (lambda: losses.cross_entropy(jnp.zeros((0, 3)), jnp.zeros(0, int)), "targets must not be empty"),
        (lambda: metrics.firing_rate(jnp.zeros((0, 2, 3))), "spikes must not be empty"),
        (lambda: regularizers.l1_rate(jnp.zeros((4, 0, 3))), "spikes must not be empty"),
        (lambda: encode.spike_latency(jnp.zeros((0, 3))), "spikes must not be empty"),
        (lambda: metrics.firing_rate(OUTPUTS, axis=3), "axis must name axes of an array of shape"),
        (lambda: encode.send_on_delta(jnp.ones((4, 3)), threshold=jnp.ones(7)), "threshold has shape"),
    ],
)  # fmt: skip
def test_sizes_and_emptiness_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
def test_no_exception_from_inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some calls write files
    ends, faults = fuzz(1000, seed=0)
    assert faults == {}
    assert set(ends) == {"returned", "refused"}


@pytest.mark.rows(1)
@pytest.mark.parametrize(
    ("by_position", "by_name", "names"),
    [
        (
            lambda: encode.rate(KEY, OUTPUTS[0] * 0, 4),
            lambda: encode.rate(KEY, OUTPUTS[0] * 0, num_steps=4),
            "num_steps=",
        ),
        (lambda: encode.repeat(OUTPUTS, 2), lambda: encode.repeat(OUTPUTS, num_steps=2), "num_steps="),
        (lambda: encode.phase_weights(8), lambda: encode.phase_weights(num_steps=8), "num_steps="),
        (
            lambda: jsnn.LIF.from_time_constants(20e-3, 1e-3).decay,
            lambda: jsnn.LIF.from_time_constants(20e-3, dt=1e-3).decay,
            "dt=",
        ),
    ],
)
def test_what_earlier_versions_took_by_position_is_deprecated(by_position, by_name, names):
    with pytest.warns(DeprecationWarning, match=f"by name: {names}"):
        found = by_position()
    np.testing.assert_array_equal(found, by_name())


@pytest.mark.parametrize(
    "call",
    [
        lambda: encode.repeat(OUTPUTS, 2, 3),
        lambda: jsnn.compat.nengo.lif(0.02),  # whose next argument is tau_rc, not dt
        lambda: jsnn.compat.norse.lsnn(0.5),
        lambda: metrics.firing_rate(OUTPUTS, 1),
        lambda: regularizers.l1_rate(OUTPUTS, 0.5),
        lambda: encode.poisson(KEY, OUTPUTS[0], 4, 20.0),
        lambda: encode.latency(jnp.ones(3), 9, 5.0),
    ],
)
def test_an_argument_too_many_is_said_by_python_and_is_no_dt(call):
    with pytest.raises(TypeError, match="positional argument"):
        call()
