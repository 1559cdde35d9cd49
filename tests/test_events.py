"""Event recordings in frames: counted by hand, and every bad input."""

import tracemalloc

import numpy as np
import pytest

from jsnn.events import Frames, bin_events

SHAPE = (2, 3, 2)  # H, W, P
T = np.array([100, 130, 109, 110, 100])  # unsorted, with a pair of equal times
X = np.array([0, 2, 1, 2, 0])
Y = np.array([0, 1, 0, 1, 0])
P = np.array([1, 0, 0, 0, 1])
RECORDING = (T, X, Y, P)


def frames(*cells: list[tuple[int, int, int]]) -> np.ndarray:
    """One frame per argument, which lists its events as (y, x, p)."""
    out = np.zeros((len(cells), *SHAPE), np.float32)
    for step, events in enumerate(cells):
        for event in events:
            out[(step, *event)] += 1
    return out


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"window": 10}, frames([(0, 0, 1), (0, 0, 1), (0, 1, 0)], [(1, 2, 0)], [], [(1, 2, 0)])),
        ({"window": 31}, frames([(0, 0, 1), (0, 0, 1), (0, 1, 0), (1, 2, 0), (1, 2, 0)])),
        ({"num_bins": 1}, frames([(0, 0, 1), (0, 0, 1), (0, 1, 0), (1, 2, 0), (1, 2, 0)])),
        ({"num_bins": 3}, frames([(0, 0, 1), (0, 0, 1), (0, 1, 0)], [(1, 2, 0)], [(1, 2, 0)])),
        ({"events_per_bin": 2}, frames([(0, 0, 1), (0, 0, 1)], [(0, 1, 0), (1, 2, 0)], [(1, 2, 0)])),
        ({"events_per_bin": 9}, frames([(0, 0, 1), (0, 0, 1), (0, 1, 0), (1, 2, 0), (1, 2, 0)])),
    ],
)
@pytest.mark.parametrize("time", [np.int64, np.uint32, np.float64])
def test_frames_by_hand(options, expected, time):
    result = bin_events((T.astype(time), X, Y, P), SHAPE, **options)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, expected)


def test_seconds_and_microseconds_agree():
    np.testing.assert_array_equal(
        bin_events((T * 1e-6, X, Y, P), SHAPE, window=9.5e-6), bin_events(RECORDING, SHAPE, window=9.5)
    )


def test_structured_arrays_mappings_and_tuples_are_the_same():
    structured = np.zeros(len(T), dtype=[("x", "u2"), ("y", "u2"), ("p", "?"), ("t", "i8")])
    for name, column in zip("txyp", RECORDING):
        structured[name] = column
    expected = bin_events(RECORDING, SHAPE, window=10)
    for events in (structured, {"t": T, "x": X, "y": Y, "p": P, "more": 0}, list(map(list, RECORDING))):
        np.testing.assert_array_equal(bin_events(events, SHAPE, window=10), expected)


@pytest.mark.parametrize(
    ("options", "steps"), [({"num_bins": 7}, 7), ({"window": 0.125}, 8), ({"events_per_bin": 64}, 16)]
)
def test_every_event_is_counted_once(options, steps):
    rng = np.random.default_rng(0)
    t, x, y, p = (rng.random(1000), *(rng.integers(0, size, 1000) for size in (3, 2, 2)))
    result = bin_events((t, x, y, p), SHAPE, **options)
    assert result.sum() == 1000
    assert len(result) == steps
    np.testing.assert_array_equal(result.sum(axis=(0, 1, 3)), np.bincount(x))


def test_a_single_event_fills_the_first_of_the_bins():
    result = bin_events(([5], [1], [0], [1]), SHAPE, num_bins=4)
    np.testing.assert_array_equal(result, frames([(0, 1, 1)], [], [], []))


@pytest.mark.parametrize(
    ("events", "shape", "options", "message"),
    [
        (RECORDING, SHAPE, {}, "exactly one of num_bins, window and events_per_bin, got none"),
        (RECORDING, SHAPE, {"num_bins": 2, "window": 1}, r"exactly one .* got \['num_bins', 'window'\]"),
        (RECORDING, SHAPE, {"window": -5}, "window must be positive, got -5"),
        (RECORDING, SHAPE, {"window": float("nan")}, "window must be positive, got nan"),
        (RECORDING, SHAPE, {"num_bins": 0}, "num_bins must be positive, got 0"),
        (RECORDING, SHAPE, {"num_bins": 2.5}, "num_bins must be a whole number, got 2.5"),
        (RECORDING, SHAPE, {"events_per_bin": -1}, "events_per_bin must be positive, got -1"),
        (RECORDING, (2, 3, 2, 1), {"window": 1}, r"shape must be \(H, W, P\), \(H, W\) or \(C,\)"),
        (RECORDING, (), {"window": 1}, r"shape must be \(H, W, P\)"),
        (RECORDING, (2, 0, 2), {"window": 1}, r"shape must be .*, each at least 1"),
        (
            RECORDING,
            (3,),
            {"window": 1},
            r"shape must be \(H, W, P\) or \(H, W\) for events that have rows y, got \(3,\)",
        ),
        ((T, X), (2, 3), {"window": 1}, r"or \(t, x, y\), for a frame of shape \(2, 3\)"),
        ({"t": T, "y": Y}, (3,), {"window": 1}, r"events must have fields t, x; missing \['x'\]"),
        (RECORDING, SHAPE, {"window": 1, "start": 5, "stop": 5}, "stop must be after start, got start 5 and stop 5"),
        (RECORDING, SHAPE, {"window": 1, "start": float("nan")}, "start must be finite, got nan"),
        (RECORDING, SHAPE, {"window": 1, "stop": float("inf")}, "stop must be finite, got inf"),
        (
            RECORDING,
            SHAPE,
            {"window": 1, "dtype": np.int32},
            "dtype must be float32 or uint8, got <class 'numpy.int32'>",
        ),
        (RECORDING, SHAPE, {"window": 1, "start": 131}, "no events between start 131 and stop None: give num_bins"),
        (RECORDING, SHAPE, {"events_per_bin": 1, "start": 0, "stop": 9}, "no events between start 0 and stop 9"),
        (RECORDING, (2, 2, 2), {"window": 1}, "x must lie in 0..1, got 2 at event 1"),
        (RECORDING, (1, 3, 2), {"window": 1}, "y must lie in 0..0, got 1 at event 1"),
        ((T, X, Y - 1, P), SHAPE, {"window": 1}, "y must lie in 0..1, got -1 at event 0"),
        ((T, X, Y, 2 * P - 1), SHAPE, {"window": 1}, "p must lie in 0..1, got -1 at event 1; map polarities"),
        ((T, X + 0.5, Y, P), SHAPE, {"window": 1}, "x must be integers, got float64"),
        ((T[:3], X, Y, P), SHAPE, {"window": 1}, "arrays of one length"),
        (([[0]], [[0]], [[0]], [[0]]), SHAPE, {"window": 1}, "arrays of one length"),
        (([], [], [], []), SHAPE, {"window": 1}, "the recording holds no events"),
        (
            (np.array([0.0, np.nan]), [0, 0], [0, 0], [0, 0]),
            SHAPE,
            {"window": 1},
            "t must be finite, got nan",
        ),
        ({"t": T, "x": X}, SHAPE, {"window": 1}, r"missing \['y', 'p'\], got \['t', 'x'\]"),
        ((T, X, Y), SHAPE, {"window": 1}, r"or \(t, x, y, p\)"),
        (np.stack(RECORDING), SHAPE, {"window": 1}, r"a structured array, a mapping, or \(t, x, y, p\)"),
    ],
)
def test_bad_input(events, shape, options, message):
    with pytest.raises(ValueError, match=message):
        bin_events(events, shape, **options)


@pytest.mark.parametrize("factor", [1, 2**55])
@pytest.mark.parametrize("time", [np.int64, np.uint64])
@pytest.mark.parametrize("option", ["num_bins", "window"])
def test_long_integer_times_are_cut_exactly(option, time, factor):
    expected = bin_events(RECORDING, SHAPE, **{option: 31})
    times = np.array([(t - 100) * factor for t in T.tolist()], time)
    value = 31 if option == "num_bins" else 31 * factor
    np.testing.assert_array_equal(bin_events((times, X, Y, P), SHAPE, **{option: value}), expected)


def test_times_over_the_whole_range_of_64_bits():
    for times in (np.array([-(2**63), 0, 2**63 - 1]), np.array([0, 2**63, 2**64 - 1], np.uint64)):
        counts = bin_events((times, [0, 0, 0], [0, 0, 0], [0, 0, 0]), (1, 1, 1), num_bins=2)
        assert counts.ravel().tolist() == [1, 2]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"events": (["a"] * 5, X, Y, P)}, TypeError, "t must hold numbers"),
        ({"events": ([None] * 5, X, Y, P)}, TypeError, "t must hold numbers"),
        ({"events": ([-1.7e308, 0, 0, 0, 1.7e308], X, Y, P)}, ValueError, "t must span a time that a float64 can hold"),
        ({"events": (T, np.full(5, 2**64 - 1, np.uint64), Y, P)}, ValueError, "must lie in 0..2, got 184467440737095"),
        ({"window": "1"}, TypeError, "window must be a number, got '1'"),
        ({"window": True}, TypeError, "window must be a number, got True"),
        ({"start": "0"}, TypeError, "start must be a number, got '0'"),
        ({"window": 0.5}, ValueError, "window must be in the unit of t, whose times are whole, and at least 1"),
        ({"window": 1e-9, "events": (T / 2, X, Y, P)}, ValueError, "frames of shape .* would take .* GiB"),
        ({"shape": 3}, TypeError, "shape must be a tuple of whole numbers"),
        ({"shape": None}, TypeError, "shape must be a tuple of whole numbers"),
    ],
)  # fmt: skip
def test_what_is_no_recording_is_refused(change, error, message):
    with pytest.raises(error, match=message):
        bin_events(**{"events": RECORDING, "shape": SHAPE, "window": 1} | change)


@pytest.mark.parametrize("offset", [0.0, 5.3, 1e5])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("options", "counts"), [({"window": 0.1}, [1] * 11), ({"num_bins": 10}, [1] * 9 + [2])])
def test_times_in_tenths_fill_their_windows(offset, dtype, options, counts):
    """Of times that are at the start of a bin but for rounding."""
    if offset == 1e5 and dtype == np.float32:
        pytest.skip("a float32 does not tell these times from each other")
    for times in (np.arange(11) * 0.1, np.arange(11) / 10):
        zeros = np.zeros(11, int)
        found = bin_events(((times + offset).astype(dtype), zeros, zeros, zeros), (1, 1, 1), **options)
        assert found.ravel().tolist() == counts


def test_whole_times_are_cut_exactly_however_large():
    times, zeros = np.array([0, 2**53 - 1, 2**53, 2**53 + 1]), np.zeros(4, int)
    for window in (2**53, 2.0**53):
        found = bin_events((times, zeros, zeros, zeros), (1, 1, 1), window=window)
        assert found.ravel().tolist() == [2, 2]


# A time and a length that all recordings share


EDGE = frames([(0, 0, 1), (0, 0, 1), (0, 1, 0)], [(1, 2, 0)], [])


@pytest.mark.parametrize("time", [np.int64, np.uint16, np.float64, np.float32])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"window": 10, "start": 100, "stop": 130}, EDGE),  # what is at stop is outside
        ({"window": 10, "start": 100, "stop": 131}, np.concatenate([EDGE, frames([(1, 2, 0)])])),
        ({"window": 10, "stop": 130}, EDGE),
        ({"window": 10, "start": 101}, frames([(0, 1, 0), (1, 2, 0)], [], [(1, 2, 0)])),
        ({"window": 10, "start": 90, "stop": 115}, frames([], [(0, 0, 1), (0, 0, 1), (0, 1, 0)], [(1, 2, 0)])),
        ({"num_bins": 3, "start": 100, "stop": 130}, EDGE),
        (
            {"num_bins": 2, "start": 109},
            frames([(0, 1, 0), (1, 2, 0)], [(1, 2, 0)]),
        ),  # what is last belongs to the last
        ({"num_bins": 2, "start": 99.5, "stop": 110.5}, frames([(0, 0, 1), (0, 0, 1)], [(0, 1, 0), (1, 2, 0)])),
        ({"events_per_bin": 2, "start": 101, "stop": 130}, frames([(0, 1, 0), (1, 2, 0)])),
    ],
)
def test_a_time_that_is_looked_at(options, expected, time):
    np.testing.assert_array_equal(bin_events((T.astype(time), X, Y, P), SHAPE, **options), expected)


@pytest.mark.parametrize("option", [{"num_bins": 6}, {"window": 0.1}, {"window": 0.11}])
def test_recordings_of_any_length_become_equally_long(option):
    rng = np.random.default_rng(1)
    for count in (0, 1, 50):
        times, channels = 2 * rng.random(count) - 0.5, rng.integers(0, 3, count)
        found = bin_events({"t": times, "x": channels}, (3,), start=0.2, stop=0.8, **option)
        assert found.shape == (6, 3)
        assert found.sum() == ((times >= 0.2) & (times < 0.8)).sum()


@pytest.mark.parametrize("stop", [0.3, 0.7, 1.1])
def test_the_end_is_outside_but_for_rounding(stop):
    """0.1 * 3 is above 0.3, and 0.1 * 7 above 0.7: the event at it is outside whichever way it was computed."""
    count = round(stop * 10)
    for times in (np.arange(12) * 0.1, np.arange(12) / 10, np.arange(12).astype(np.float32) / 10):
        found = bin_events((times, np.zeros(12, int)), (1,), window=0.1, start=0, stop=stop)
        assert found.ravel().tolist() == [1] * count


def test_events_without_rows_or_polarity():
    whole = bin_events(RECORDING, SHAPE, window=10)
    np.testing.assert_array_equal(bin_events(RECORDING, (2, 3), window=10), whole.sum(axis=3))
    np.testing.assert_array_equal(bin_events((T, X, Y), (2, 3), window=10), whole.sum(axis=3))
    for events in ((T, X), {"t": T, "x": X}, {"t": T, "x": X, "y": 0 * Y, "p": P}):
        np.testing.assert_array_equal(bin_events(events, (3,), window=10), whole.sum(axis=(1, 3)))


@pytest.mark.parametrize("count", [254, 255, 256, 70_000])
def test_a_count_of_uint8_stops_at_255(count):
    events = (np.zeros(count + 1, int), [0] * count + [1])
    assert bin_events(events, (2,), num_bins=1, dtype="uint8").tolist() == [[min(count, 255), 1]]
    assert bin_events(events, (2,), num_bins=1).tolist() == [[count, 1]]


@pytest.mark.parametrize(
    ("times", "start", "stop"),
    [
        (np.array([12, 300_000]), 0, 0.3),  # seconds for microseconds
        (np.array([5_000, 300_000]), 0, 300),  # milliseconds
        (np.array([0, 300_000]), 0, 0.3),  # seconds, the first event at 0
        (np.array([0.01, 0.3]), 0, 300_000),  # microseconds for seconds
        (np.array([0.01, 0.2]), 0, 300),  # milliseconds
    ],
)
def test_times_that_cannot_be_in_the_unit_of_start_and_stop(times, start, stop):
    with pytest.raises(ValueError, match=rf"start and stop must be in the unit of t: they are {start} and {stop}"):
        bin_events((times, [0, 0]), (1,), num_bins=3, start=start, stop=stop)


@pytest.mark.parametrize(
    ("times", "start", "stop", "counts"),
    [
        (np.array([95_333, 5_000_000, 9_986_451]), 1_000_000, 1_010_000, [0, 0]),  # one window of many, whole or not
        (np.array([95_333.0, 5_000_000.0, 9_986_451.0]), 1_000_000, 1_010_000, [0, 0]),
        (np.array([0.5, 0.5003]), 0, 1, [0, 2]),  # all at once
        (np.array([500_000.0, 500_001.0]), 0, 1_000_000, [0, 2]),
    ],
)
def test_a_part_of_a_recording_may_hold_nothing_and_a_recording_be_short(times, start, stop, counts):
    found = bin_events((times, np.zeros(len(times), int)), (1,), num_bins=2, start=start, stop=stop)
    assert found.ravel().tolist() == counts


def test_frames_are_the_options_of_bin_events():
    options = {"window": 10, "start": 100, "stop": 130, "dtype": "uint8"}
    transform = Frames(SHAPE, **options)
    np.testing.assert_array_equal(transform(RECORDING), bin_events(RECORDING, SHAPE, **options))
    assert transform == Frames(list(SHAPE), **options | {"dtype": np.uint8})
    assert repr(transform) == repr(Frames(np.array(SHAPE), **options))
    with pytest.raises(ValueError, match="exactly one of num_bins, window and events_per_bin"):
        Frames(SHAPE)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.float16, np.float32])
def test_options_of_any_dtype_are_the_numbers_that_they_hold(dtype):
    options = {"window": 10, "start": np.iinfo(dtype).min if dtype == np.int8 else 0, "stop": 120}
    given = {name: dtype(value) for name, value in options.items()}
    np.testing.assert_array_equal(bin_events(RECORDING, SHAPE, **given), bin_events(RECORDING, SHAPE, **options))


def test_no_more_memory_than_asked_for():
    events = (np.zeros(10, int), np.zeros(10, int))
    bin_events(events, (1,), num_bins=1)  # what is imported the first time
    tracemalloc.start()
    frames = bin_events(events, (2_000_000,), num_bins=5, dtype="uint8")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert frames.nbytes == 10_000_000
    assert peak < 1.1 * frames.nbytes
