"""iniVation's formats of event files: AEDAT 4.0, 3.1 and 2.0."""

import struct
from pathlib import Path

import numpy as np

from jsnn.files import one_line

_PACKET = struct.Struct("<hhiiiiii")  # of AEDAT 3.1: type, source, size, offset and overflow of times, capacity, number


def read_aedat4(path: Path) -> dict[str, np.ndarray]:
    """Return the columns t, x, y, p of the first stream of events in an .aedat4 file.

    Raises:
        ValueError: if the file is damaged, truncated, of another format, or a pixel is outside of the sensor.
    """
    import aedat

    _check_packets(path.read_bytes())
    try:
        decoder = aedat.Decoder(path)
        streams = {key: stream for key, stream in decoder.id_to_stream().items() if stream["type"] == "events"}
        chosen = min(streams, default=None)
        packets = [packet["events"] for packet in decoder if packet["stream_id"] == chosen]
    except BaseException as error:  # a panic of Rust is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise ValueError(f"it is truncated, damaged or not AEDAT 4.0: {one_line(error)}") from error
    if chosen is None:
        raise ValueError("it holds no stream of events")
    events = np.concatenate(packets) if packets else np.zeros(0, [("t", "u8"), ("x", "u2"), ("y", "u2"), ("on", "?")])
    for name, side in (("x", "width"), ("y", "height")):
        if len(events) and events[name].max() >= streams[chosen][side]:
            raise ValueError(f"{name} must be below {streams[chosen][side]}, the {side}, got {events[name].max()}")
    return {"t": events["t"].astype(np.int64), "x": events["x"], "y": events["y"], "p": events["on"]}


def _check_packets(content: bytes) -> None:
    """Raise ValueError for what would end the process in the package `aedat`: wrong sizes, and text that is none.

    After 14 bytes of text, a flatbuffer of a size says what streams there are, in XML, and where the packets end.
    """
    if not content.startswith(b"#!AER-DAT4.0"):
        raise ValueError(f"it must begin with #!AER-DAT4.0, got {content[:12]!r}")

    def number(layout: str, place: int) -> int:
        return struct.unpack_from(layout, content, place)[0]

    table = 18 + number("<I", 18)
    fields = table - number("<i", table)
    text = table + number("<H", fields + 8)
    text += number("<I", text)
    content[text + 4 : text + 4 + number("<I", text)].decode("utf-8")
    place = number("<H", fields + 6)  # of the end, if it is given
    end = number("<q", table + place) if place else -1
    start, size = 18 + number("<I", 14), 0
    while size >= 0 and start < (len(content) if end < 0 else end):
        size = number("<i", start + 4)
        start += 8 + size
    if size < 0 or start > len(content):
        raise ValueError("it is truncated, or a size in it is wrong")


def read_aedat(path: Path) -> dict[str, np.ndarray]:
    """Return the columns t, x, y, p of an .aedat file, in AEDAT 3.1 or, of a DVS128, AEDAT 2.0.

    An address of a DVS128 has 0 for brighter (as jAER, which wrote these files, reads it) and 1 for darker. Its columns
    and rows stay as the chip counts them, while jAER shows the picture mirrored.

    Raises:
        ValueError: if the file is damaged, truncated or of another format.
    """
    content = path.read_bytes()
    if content.startswith(b"#!AER-DAT3.1"):
        end = content.find(b"#!END-HEADER\r\n")
        if end < 0:
            raise ValueError("its header has no end")
        return _read_aedat3(content, end + len(b"#!END-HEADER\r\n"))
    if not content.startswith(b"#!AER-DAT2.0"):
        raise ValueError(f"it must begin with #!AER-DAT3.1 or #!AER-DAT2.0, got {content[:12]!r}")
    start = 0
    while content[start : start + 1] == b"#":
        start = content.find(b"\n", start) + 1 or len(content)
    if b"AEChip" in content[:start] and b"DVS128" not in content[:start]:
        raise ValueError("AEDAT 2.0 is read of a DVS128 alone: what an address means differs from camera to camera")
    if (len(content) - start) % 8:
        raise ValueError(f"it is truncated: {len(content) - start:,} bytes follow the header, no multiple of 8")
    address, t = np.frombuffer(content, ">i4", offset=start).reshape(-1, 2).astype(np.int64).T
    pixels = (address >> 15) == 0  # other addresses are of signals from outside
    address = address[pixels]
    return {"t": t[pixels], "x": address >> 1 & 127, "y": address >> 8 & 127, "p": ~address & 1}


def _read_aedat3(content: bytes, start: int) -> dict[str, np.ndarray]:
    """Return the polarity events of packets; each has a header, then events of 8 bytes."""
    parts: list[np.ndarray] = [np.zeros((2, 0), np.int64)]
    while start < len(content):
        if start + _PACKET.size > len(content):
            raise ValueError("it is truncated in the header of a packet")
        kind, _, size, _, overflow, capacity, number, _ = _PACKET.unpack_from(content, start)
        start += _PACKET.size
        if size < 1 or not 0 <= number <= capacity or overflow < 0:
            raise ValueError("the header of a packet is damaged")
        if start + size * capacity > len(content):
            raise ValueError("it is truncated in a packet of events")
        if kind == 1:
            if size != 8:
                raise ValueError(f"an event must have 8 bytes, got {size}")
            words = np.frombuffer(content, "<u4", 2 * number, start).reshape(-1, 2).astype(np.int64).T
            words[1] += overflow << 31
            parts.append(words[:, words[0] & 1 == 1])  # the others are marked as invalid
        start += size * capacity
    data, t = np.concatenate(parts, axis=1)
    return {"t": t, "x": data >> 17 & 0x7FFF, "y": data >> 2 & 0x7FFF, "p": data >> 1 & 1}
