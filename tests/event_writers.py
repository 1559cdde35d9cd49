"""Small event files, written as their formats are specified."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jsnn.data.event_files import EVENTS


def some_events(count: int = 500, *, size: tuple[int, int] = (128, 128), stop: int = 300_000) -> np.ndarray:
    """Events at random, in the order of their times."""
    rng = np.random.default_rng(count)
    events = np.empty(count, EVENTS)
    events["t"] = np.sort(rng.integers(0, stop, count))
    for name, largest in zip("yxp", (*size, 2)):
        events[name] = rng.integers(0, largest, count)
    return events


def as_bin(events: np.ndarray, *, overflows: bool = False) -> bytes:
    """N-MNIST's 40 bits, big endian. An overflow event stands before each span of 2^13 µs, if these are asked for."""
    rows, passed = [], 0
    for t, x, y, p in events.tolist():
        while overflows and t - passed >= 2**13:
            passed += 2**13
            rows.append((0 << 32) | (240 << 24))
        rows.append(x << 32 | y << 24 | p << 23 | (t - passed))
    return b"".join(row.to_bytes(5, "big") for row in rows)


def as_npy(path: Path, events: np.ndarray) -> None:
    np.save(path, events)


def as_prophesee(encoding: str) -> Callable[[Path, np.ndarray], None]:
    def write(path: Path, events: np.ndarray) -> None:
        wizard = pytest.importorskip("expelliarmus", reason="expelliarmus is in the extra events").Wizard(encoding)
        wizard.save(path, events.astype([("t", "i8"), ("x", "i2"), ("y", "i2"), ("p", "u1")]))

    return write


def as_aedat4(path: Path, events: np.ndarray, *, width: int = 128, height: int = 128) -> None:
    """AEDAT 4.0 without compression: two flatbuffers, the header of the file and one packet of events."""
    pytest.importorskip("aedat", reason="aedat is in the extra events")
    sides = "".join(f'<attr key="size{side}" type="int">{n}</attr>' for side, n in (("X", width), ("Y", height)))
    stream = f'<attr key="typeIdentifier" type="string">EVTS</attr><node name="info" path="/0/info/">{sides}</node>'
    info = f'<dv version="2.0"><node name="outInfo" path="/"><node name="0" path="/0/">{stream}</node></node></dv>'
    header = struct.pack("<I4s5H6x", 24, b"IOHE", 10, 24, 16, 8, 4)  # root, identifier, table of offsets
    header += struct.pack("<iIqi4xI", 16, 20, -1, 0, len(info)) + info.encode() + b"\0"
    elements = np.zeros(len(events), [("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "u1"), ("padding", "V3")])
    for name in "txyp":
        elements[name] = events[name]
    packet = struct.pack("<I4s3H2xiI4xI", 16, b"EVTS", 6, 8, 4, 8, 8, len(events)) + elements.tobytes()
    sizes = struct.pack("<I", len(header)), struct.pack("<iiI", 0, len(packet) + 4, len(packet))
    path.write_bytes(b"#!AER-DAT4.0\r\n" + sizes[0] + header + sizes[1] + packet)


def as_aedat3(path: Path, events: np.ndarray) -> None:
    """AEDAT 3.1: packets of 100 events, among them one of another type and one event that is marked as invalid."""
    content = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"
    for start in range(0, len(events), 100):
        part = events[start : start + 100].astype([("t", "i8"), ("x", "i8"), ("y", "i8"), ("p", "i8")])
        words = np.empty((len(part) + 1, 2), "<u4")
        words[:-1, 0] = part["x"] << 17 | part["y"] << 2 | part["p"] << 1 | 1
        words[:-1, 1] = part["t"] & (2**31 - 1)
        words[-1] = 5 << 17, part["t"][-1] & (2**31 - 1)
        overflow = int(part["t"][0]) >> 31
        content += struct.pack("<hhiiiiii", 1, 1, 8, 4, overflow, len(words), len(words), len(part)) + words.tobytes()
        content += struct.pack("<hhiiiiii", 0, 1, 8, 4, 0, 1, 1, 1) + bytes(8)
    path.write_bytes(content)


def as_aedat2(path: Path, events: np.ndarray) -> None:
    """AEDAT 2.0 of a DVS128, whose bit of polarity is 0 for brighter; with one signal from outside, no event."""
    part = events.astype([("t", "i8"), ("x", "i8"), ("y", "i8"), ("p", "i8")])
    words = np.empty((len(part) + 1, 2), ">i4")
    words[1:] = np.stack([part["y"] << 8 | part["x"] << 1 | 1 - part["p"], part["t"]], axis=1)
    words[0] = 1 << 15, 0
    path.write_bytes(b"#!AER-DAT2.0\r\n# AEChip: ch.unizh.ini.jaer.chip.retina.DVS128\r\n" + words.tobytes())


WRITERS = {
    "nmnist.bin": lambda path, events: path.write_bytes(as_bin(events)),
    "overflows.bin": lambda path, events: path.write_bytes(as_bin(events, overflows=True)),
    "prophesee.dat": as_prophesee("dat"),
    "evt2.raw": as_prophesee("evt2"),
    "evt3.raw": as_prophesee("evt3"),
    "inivation.aedat4": as_aedat4,
    "gesture.aedat": as_aedat3,
    "dvs128.aedat": as_aedat2,
    "structured.npy": as_npy,
    "capitals.NPY": as_npy,
}


def write_shd(path: Path, labels: list[int], *, units: int = 700, missing: str = "") -> list[np.ndarray]:
    """Write spikes as the Heidelberg sets have them, float16 seconds and uint16 channels; return what was written."""
    h5py = pytest.importorskip("h5py", reason="h5py is in the extra events")
    rng = np.random.default_rng(len(labels))
    written = []
    with h5py.File(path, "w") as file:
        spikes = file.create_group("spikes")
        arrays = {name: spikes.create_dataset(name, (len(labels),), dtype=h5py.vlen_dtype(dtype))
                  for name, dtype in (("times", np.float16), ("units", np.uint16))}  # fmt: skip
        for index in range(len(labels)):
            times = np.sort(rng.random(20 * index)).astype(np.float16)
            arrays["times"][index], arrays["units"][index] = times, rng.integers(0, units, len(times))
            written.append(times)
        file["labels"] = np.array(labels)
        file["extra/keys"] = [b"zero", b"one", b"two"]
        file["extra/speaker"] = np.zeros(len(labels), np.uint16)
        if missing:
            del file[missing]
    return written
