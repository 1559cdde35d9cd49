"""Targets against golden vectors and by hand; every bad input."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsnn import encode
from jsnn.compat import snntorch_functional as functional

LABELS = np.array([1, 0])


@pytest.mark.slow
def test_snntorch_targets(parity):
    golden = parity("snntorch_targets")
    held = 0
    for case in json.loads(str(golden["meta"]))["cases"]:
        options = {k: v for k, v in case.items() if k not in ("fn", "idx", "error", "num_classes")}
        # one-hot itself is jax.nn.one_hot, and snnTorch's rate targets other than one-hot fail or lose their shape
        if case["fn"] == "to_one_hot" or "error" in case or options.get("correct_rate"):
            continue
        actual = getattr(functional, case["fn"])(golden["targets"], case["num_classes"], **options)
        np.testing.assert_array_equal(actual, golden[f"out_{case['idx']}"], str(case))
        held += 1
    assert held == 12


@pytest.mark.parametrize("rate", ["0.1", "0.25", "0.3", "0.33", "0.5", "0.7", "0.8", "1"])
@pytest.mark.parametrize("first", [0, 3])
def test_snntorch_regular_spikes(parity, rate, first):
    golden = parity("snntorch_targets")[f"trc_r{rate}_f{first}"]
    np.testing.assert_array_equal(encode.regular_spikes(float(rate), num_steps=20, first_spike_time=first), golden)


def test_rates_by_hand():
    options = {"correct_rate": 1.0, "incorrect_rate": 0.5, "first_spike_time": 1, "on_target": 2.0}
    y = np.asarray(jax.jit(lambda labels: functional.targets_rate(labels, 2, 4, **options))(LABELS))
    np.testing.assert_array_equal(y[:, 0, 1], [0, 2, 2, 2])
    np.testing.assert_array_equal(y[:, 0, 0], [0, 2, 0, 2])
    np.testing.assert_array_equal(y[:, 1, ::-1], y[:, 0])
    silent = functional.targets_rate(LABELS, 2, 4, correct_rate=0.25, off_target=0.5)
    np.testing.assert_array_equal(silent[:, 0], [[0.5, 1], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5]])


def test_interpolated_rates_are_ramps():
    options = {"correct_rate": 1 / 3, "interpolate": True, "on_target": 1.5, "off_target": 0.5}
    y = np.asarray(jax.jit(lambda labels: functional.targets_rate(labels, 2, 7, **options))(LABELS))
    np.testing.assert_array_equal(y[:, 0, 1], [1.5, 0.5, 1.0, 1.5, 0.5, 1.0, 1.5])
    np.testing.assert_array_equal(y[:, 0, 0], np.full(7, 0.5))


def test_one_hot_in_time_has_a_time_axis():
    y = functional.targets_rate(LABELS, 3, 4)
    np.testing.assert_array_equal(y, np.broadcast_to(np.eye(3)[LABELS], (4, 2, 3)))


def test_random_targets_as_documented():
    rates = functional.targets_rate(LABELS, 2, on_target=800.0, off_target=200.0)  # Hz
    np.testing.assert_array_equal(rates, [[200, 800], [800, 200]])
    assert encode.random_spikes(jax.random.key(0), rates, num_steps=50).shape == (50, 2, 2)


def test_spike_times_for_losses_of_times():
    for clip, late in ((False, 9), (True, np.inf)):
        code = jax.jit(partial(functional.targets_latency, num_classes=3, num_steps=10, normalize=True, clip=clip))
        np.testing.assert_array_equal(encode.spikes_to_times(code(LABELS)), [[late, 0, late], [0, late, late]])


@pytest.mark.parametrize("code", ["rate", "latency"])
def test_jit_and_vmap(code):
    options = {"normalize": True} if code == "latency" else {"correct_rate": 0.5}
    convert = lambda labels: functional.targets_convert(labels, 3, code, 6, **options)  # noqa: E731
    expected = convert(LABELS)
    np.testing.assert_array_equal(jax.jit(convert)(LABELS), expected)
    np.testing.assert_array_equal(jax.jit(jax.vmap(convert, 0, 1))(LABELS), expected)
    assert expected.dtype == jnp.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: functional.targets_rate(LABELS, 1), r"targets must lie in 0..0, got 0 to 1"),
        (lambda: functional.targets_rate(-LABELS, 2), r"targets must lie in 0..1, got -1 to 0"),
        (lambda: functional.targets_rate(LABELS, 0), "num_classes must be >= 1, got 0"),
        (lambda: functional.targets_rate(LABELS[:0], 2), r"targets must not be empty, got shape \(0,\)"),
        (lambda: functional.targets_rate(LABELS, 2, 0), "num_steps must be >= 1, got 0"),
        (lambda: functional.targets_rate(LABELS, 2, correct_rate=0.5), "num_steps must be given for these rates"),
        (lambda: functional.targets_rate(LABELS, 2, first_spike_time=2), "num_steps must be given for these rates"),
        (
            lambda: functional.targets_rate(LABELS, 2, 5, first_spike_time=5),
            "first_spike_time must be below num_steps = 5",
        ),
        (
            lambda: functional.targets_rate(LABELS, 2, 5, correct_rate=1.5),
            r"correct_rate must lie in \[0, 1\], got 1.5",
        ),
        (
            lambda: functional.targets_rate(LABELS, 2, 5, incorrect_rate=-1),
            r"incorrect_rate must lie in \[0, 1\], got -1",
        ),
        (
            lambda: functional.targets_rate(LABELS, 2, 5, correct_rate=0.1, incorrect_rate=0.2),
            "incorrect_rate must be <= correct_rate = 0.1, got 0.2",
        ),
        (lambda: functional.targets_latency(LABELS, 2, 0, normalize=True), "num_steps must be >= 1, got 0"),
        (lambda: functional.targets_latency(LABELS, 2, 5, tau=-1.0), "tau must be > 0, got -1.0"),
        (lambda: functional.targets_latency(LABELS, 2, 5), "num_steps must be at least 13 .*, got 5"),
        (
            lambda: functional.targets_latency(
                LABELS, 2, 5, normalize=True, interpolate=True, on_target=0, off_target=0.5
            ),
            "on_target must be >= off_target = 0.5, got 0",
        ),
        (lambda: functional.targets_convert(LABELS, 2, "morse"), "code must be 'rate' or 'latency', got 'morse'"),
        (lambda: encode.regular_spikes(-0.1, num_steps=5), r"rate must lie in \[0, 1\], got -0.1"),
        (lambda: encode.regular_spikes(0.5, num_steps=0), "num_steps must be >= 1, got 0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_one_hot_labels_are_refused():
    with pytest.raises(TypeError, match=r"targets must be integer labels, got float32: .* take the argmax"):
        functional.targets_rate(np.eye(3, dtype=np.float32), 3)
