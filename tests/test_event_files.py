"""Readers of event files: real recordings, small files written as their formats say, and every kind of bad file."""

import struct

import numpy as np
import pytest
from event_writers import WRITERS, as_aedat3, as_aedat4, some_events

from jsnn import data
from jsnn.data.event_files import EVENTS, to_microseconds


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_events_that_were_written(name, tmp_path):
    events = some_events()
    WRITERS[name](tmp_path / name.replace(".NPY", ".npy"), events)
    (tmp_path / name.replace(".NPY", ".npy")).rename(tmp_path / name)
    found = data.read_events(tmp_path / name)
    assert found.dtype == EVENTS
    np.testing.assert_array_equal(found, events)


def test_times_of_aedat3_go_on_after_31_bits(tmp_path):
    events = some_events(300)
    events["t"] += 2**31 - events["t"][100]
    as_aedat3(tmp_path / "long.aedat", events)
    np.testing.assert_array_equal(data.read_events(tmp_path / "long.aedat"), events)


def evt3_stream(seed: int) -> tuple[bytes, np.ndarray]:
    """Words of EVT 3.0 as Prophesee specifies them, and their events: each part of the state is sent when it changes.

    A new upper half of the time comes before the lower one, and at times once more; among the words are triggers. The
    time wraps after 2^24 us.
    """
    rng = np.random.default_rng(seed)
    t, state, words, events = 2**24 - 40_000, {}, [5, 2 << 12 | 3], []  # an event without a time is left out

    def send(code: int, value: int) -> None:
        if state.get(code) != value:
            state[code] = value
            words.append(code << 12 | value)
            state.pop(6, None) if code == 8 else None

    for _ in range(600):
        t += int(rng.integers(0, 5_000)) if rng.random() < 0.1 else int(rng.integers(0, 30))
        x, y, p = (int(rng.integers(0, size)) for size in (1200, 720, 2))
        send(8, t >> 12 & 4095)
        send(6, t & 4095)
        send(0, y)
        if rng.random() < 0.2:
            words += [8 << 12 | t >> 12 & 4095, 0xA << 12 | 1, 0xE << 12 | 5, 7 << 12 | 3]
        if rng.random() < 0.5:
            words.append(2 << 12 | p << 11 | x)
            events.append((t, x, y, p))
            continue
        words.append(3 << 12 | p << 11 | x)
        for code, width in ((4, 12), (4, 12), (5, 8)):
            bits = int(rng.integers(0, 2**width))
            words.append(code << 12 | bits)
            events += [(t, x + column, y, p) for column in range(width) if bits >> column & 1]
            x += width
    return np.array(words, "<u2").tobytes(), np.array(events, EVENTS)


@pytest.mark.parametrize("header", ["% evt 3.0\n% geometry 1280x720\n", "% format EVT3;height=720;width=1280\n% end\n"])
def test_evt3_as_it_is_specified(header, tmp_path):
    words, events = evt3_stream(len(header))
    (tmp_path / "a.raw").write_bytes(header.encode() + words)
    np.testing.assert_array_equal(data.read_events(tmp_path / "a.raw"), events)
    (tmp_path / "a.raw").write_bytes(header.replace("1280", "1000").encode() + words)
    with pytest.raises(ValueError, match=r"x must be below 1000, as the header says, got 1[0-9]{3}"):
        data.read_events(tmp_path / "a.raw")


@pytest.mark.parametrize("last_line", ["% end\n", ""])
@pytest.mark.parametrize("version", [2, 3])
def test_events_that_begin_with_the_byte_of_a_percent_sign(last_line, version, tmp_path):
    words = np.array([0x80000025, 0x10001803], "<u4") if version == 2 else np.array([0x8025, 0x6000, 3, 0x2803], "<u2")
    (tmp_path / "a.raw").write_bytes(f"% evt {version}.0\n{last_line}".encode() + words.tobytes() + words.tobytes())
    assert data.read_events(tmp_path / "a.raw")[["x", "y", "p"]].tolist() == [(3, 3, 1)] * 2


@pytest.mark.parametrize("words", [[0x6001], [0x6001, 0x0003, 0x2803], [0x0003, 0x2803], [0x8001], [0x3805, 0x4FFF]])
def test_evt3_without_a_whole_event_has_none(words, tmp_path):
    (tmp_path / "a.raw").write_bytes(b"% evt 3.0\n% end\n" + np.array(words, "<u2").tobytes())
    assert len(data.read_events(tmp_path / "a.raw")) == 0


def test_nmnist_is_what_tonic_reads(recordings_dir):
    tonic = pytest.importorskip("tonic", reason="tonic is in the extra events")
    files = sorted((recordings_dir / "nmnist_small").glob("*/*/*.bin"))[::20]
    assert len(files) == 55
    for file in files:
        theirs, ours = tonic.io.read_mnist_file(str(file), tonic.datasets.NMNIST.dtype), data.read_events(file)
        for name in "txyp":
            np.testing.assert_array_equal(ours[name], theirs[name])


@pytest.mark.slow
def test_all_of_nmnist_is_what_tonic_read(recordings_dir):
    """The number is of tonic 1.7.0: the sum over all events of a polynomial in their fields."""
    total = 0
    for file in sorted((recordings_dir / "nmnist_small").glob("*/*/*.bin")):
        t, x, y, p = (data.read_events(file)[name].astype(np.int64) for name in "txyp")
        total = (31 * total + int(((t * 34 + x) * 34 + y) @ (2 * np.arange(len(t)) + p + 1))) % (2**61 - 1)
    assert total == 925_567_999_947_318_163


# Order and units of times


def test_events_that_come_a_little_late_are_sorted_in(tmp_path):
    events = some_events(5)
    events["t"] = [100, 200, 150, 200, 10_000]
    np.save(tmp_path / "late.npy", events)
    found = data.read_events(tmp_path / "late.npy")
    np.testing.assert_array_equal(found, events[[0, 2, 1, 3, 4]])


def test_times_that_run_backwards_in_small_steps(tmp_path):
    events = some_events(30)
    events["t"] = np.arange(30, 0, -1) * 1_000  # each step is less than what an event may come late
    np.save(tmp_path / "backwards.npy", events)
    with pytest.raises(ValueError, match="its times run backwards by 11,000 µs at event 11"):
        data.read_events(tmp_path / "backwards.npy")


@pytest.mark.parametrize("fields", ["tx", "txp", "txy", "ptyx"])
def test_fields_that_are_missing_or_in_another_order(fields, tmp_path):
    events = structured(**{name: some_events()[name] for name in fields})
    np.save(tmp_path / "some.npy", events)
    found = data.read_events(tmp_path / "some.npy")
    assert found.dtype.names == tuple(name for name in "txyp" if name in fields)
    for name in fields:
        np.testing.assert_array_equal(found[name], events[name])


@pytest.mark.parametrize(
    ("times", "unit", "expected"),
    [
        (np.array([0, 7], np.uint32), None, [0, 7]),
        (np.array([0, 7]), "us", [0, 7]),
        (np.array([0, 7]), "ms", [0, 7_000]),
        (np.array([0, 7]), "s", [0, 7_000_000]),
        (np.array([0, 499, 7_999]), "ns", [0, 0, 8]),
        (np.array([2**61, 2**61 + 1_000], np.uint64), "ns", [2**61 // 1000 + 1, 2**61 // 1000 + 2]),
        (np.array([0.1, 0.29]), "s", [100_000, 290_000]),  # 0.29e6 is below 290,000
        (np.array([0.5, 1.25], np.float16), "s", [500_000, 1_250_000]),
        (np.array([-0.5, 2.0]), "ms", [-500, 2_000]),
        (np.array([2.0, 2.6]), "us", [2, 3]),
        (np.array([]), "s", []),
    ],
)
def test_times_in_any_unit_become_microseconds(times, unit, expected, tmp_path):
    assert to_microseconds(times, unit).tolist() == expected
    events = np.zeros(len(times), [("t", times.dtype), ("x", "u2")])
    events["t"] = times
    np.save(tmp_path / "timed.npy", events)
    assert data.read_events(tmp_path / "timed.npy", unit=unit)["t"].tolist() == expected


# Bad files


def structured(**columns: object) -> np.ndarray:
    arrays = {name: np.asarray(column) for name, column in columns.items()}
    made = np.empty(len(arrays["t"]), [(name, array.dtype) for name, array in arrays.items()])
    for name, array in arrays.items():
        made[name] = array
    return made


PIXELS = {"x": [0, 1], "y": [0, 1], "p": [0, 1]}


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 4)), r"structured array \[N\] with fields t, x, y, p, or t and x, got float64 of shape \(3, 4\)"),
        (structured(t=[0], y=[0], p=[0]), "structured array"),
        (structured(t=[0, 1], **PIXELS).reshape(1, 2), "structured array"),
        (structured(t=[0.0, 1.0], **PIXELS), "times are floating point, 0.0 to 1.0: say their unit"),
        (structured(t=[0, np.nan], **PIXELS), "say their unit"),
        (structured(t=["a", "b"], **PIXELS), "t must hold numbers"),
        (structured(t=[0, 1], **PIXELS | {"x": [0.0, 1.0]}), "x must be integers, got float64"),
        (structured(t=[0, 1], **PIXELS | {"x": [-1, 0]}), "x must lie in 0..65535, got values from -1 to 0"),
        (structured(t=[0, 1], **PIXELS | {"y": [0, 70_000]}), "y must lie in 0..65535, got values from 0 to 70000"),
        (structured(t=[0, 1], **PIXELS | {"p": [-1, 1]}), r"p must be 0 or 1, got -1: map polarities"),
        (structured(t=[0, 1], **PIXELS | {"p": [0, 2]}), "p must lie in 0..1, got values from 0 to 2"),
        (structured(t=[0, 2**40], **PIXELS), "cannot be us"),
        (structured(t=[20_000, 1], **PIXELS), "times run backwards by 19,999 µs at event 1"),
        (np.array([{}]), "Python objects in dtype"),
    ],
)
def test_arrays_that_are_no_events(array, message, tmp_path):
    np.save(tmp_path / "bad.npy", array)
    with pytest.raises(ValueError, match=rf"(?s)bad\.npy cannot be read: .*({message})"):
        data.read_events(tmp_path / "bad.npy")


@pytest.mark.parametrize(
    ("times", "unit", "message"),
    [
        ([0, 300_000], "s", "its times go from 0 to 300000, which cannot be s"),  # microseconds: 83 hours
        ([0.0, 0.1, 0.2, 0.3, 0.4], "us", "its times go from 0.0 to 0.4, which cannot be us"),  # seconds
        ([0.0, np.inf], "s", "t must be finite, got inf"),
        (np.array([2**63], np.uint64), "ns", "cannot be ns"),
        ([0, 1], "minutes", "unit must be 's', 'ms', 'us' or 'ns'"),
    ],
)
def test_units_that_cannot_be_right(times, unit, message, tmp_path):
    np.save(tmp_path / "bad.npy", structured(t=times, x=np.zeros(len(times), int)))
    with pytest.raises(ValueError, match=message):
        data.read_events(tmp_path / "bad.npy", unit=unit)


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "capitals.NPY"])
@pytest.mark.parametrize("damage", ["empty", "truncated", "text", "zeros"])
def test_damaged_files(name, damage, tmp_path):
    path = tmp_path / name
    WRITERS[name](path, some_events())
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "truncated": whole[:-1], "text": b"no events\n" * 50, "zeros": bytes(503)}[damage])
    if name.endswith(".bin") and damage == "text":
        path.write_bytes(b"no events\n" * 50 + b"!")  # nothing in the format tells text from events but its size
    with pytest.raises(ValueError, match=rf"{name} cannot be read: \S+"):
        data.read_events(path)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("gesture.aedat", lambda c: c.replace(b"#!END-HEADER", b"#!END"), "its header has no end"),
        ("gesture.aedat", lambda c: c.replace(b"DAT3.1", b"DAT3.0"), "it must begin with #!AER-DAT3.1 or #!AER-DAT2.0"),
        ("gesture.aedat", lambda c: c + bytes(20), "truncated in the header of a packet"),
        ("gesture.aedat", lambda c: c + struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, 9, 9, 9), "truncated in a packet"),
        (
            "gesture.aedat",
            lambda c: c + struct.pack("<hhiiiiii", 1, 1, 0, 4, 0, 9, 9, 9),
            "header of a packet is damaged",
        ),
        ("dvs128.aedat", lambda c: c.replace(b"DVS128", b"Davis346"), "AEDAT 2.0 is read of a DVS128 alone"),
        ("prophesee.dat", lambda c: c.replace(b"\n\x00\x08", b"\n\x07\x08"), "must say that events of 8 bytes follow"),
        ("evt2.raw", lambda c: c.replace(b"evt 2.0", b"evt 2.1"), "header must say evt 2.0 or evt 3.0"),
        ("evt3.raw", lambda c: c[200:], "header"),
        ("nmnist.bin", lambda c: c + c[:5], "times run backwards by .* the clock wrapped or was reset there"),
    ],
)
def test_wrong_headers_and_clocks(name, change, message, tmp_path):
    path = tmp_path / name
    WRITERS[name](path, some_events())
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"{name} cannot be read: .*{message}"):
        data.read_events(path)


def test_events_beyond_the_size_of_the_sensor(tmp_path):
    as_aedat4(tmp_path / "wide.aedat4", some_events(), width=100)
    with pytest.raises(ValueError, match="x must be below 100, the width, got 127"):
        data.read_events(tmp_path / "wide.aedat4")


def test_paths_that_are_no_recordings(tmp_path):
    (tmp_path / "events.txt").touch()
    with pytest.raises(ValueError, match=r"events.txt must end in .bin, .dat, .raw, .aedat4, .aedat, .npy"):
        data.read_events(tmp_path / "events.txt")
    with pytest.raises(FileNotFoundError, match=r"no file .*missing.bin"):
        data.read_events(tmp_path / "missing.bin")
    (tmp_path / "one.bin").write_bytes(bytes(5))
    with pytest.raises(ValueError, match=r"unit must be .* for .npy files alone, got 's'"):
        data.read_events(tmp_path / "one.bin", unit="s")
