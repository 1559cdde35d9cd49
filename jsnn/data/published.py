"""Published sets of events whose layout is their own: the Heidelberg sets SHD and SSC, and DVS128 Gesture."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jsnn.data.event_files import in_order, read_events, to_microseconds
from jsnn.data.recordings import Recordings, SplitRecordings
from jsnn.extras import require
from jsnn.files.budget import reading

_CHANNELS = 700  # of SHD and SSC
_GESTURES = (
    *("hand clapping", "right hand wave", "left hand wave", "right arm clockwise", "right arm counter clockwise"),
    *("left arm clockwise", "left arm counter clockwise", "arm roll", "air drums", "air guitar", "other gestures"),
)


def spikes_in_hdf5(files: Sequence[Path]) -> SplitRecordings:
    """Return SHD or SSC: files such as shd_train.h5, one a split (Cramer et al. 2022, arXiv:1910.07407)."""
    require("events", "h5py")
    import h5py

    from jsnn.files.hdf5 import check_heaps

    names = [one.stem.rpartition("_") for one in files]
    if len({name for name, *_ in names}) > 1:
        raise ValueError(
            f"{files[0].parent} must hold the files of one set, got {', '.join(one.name for one in files)}"
        )
    items: list[tuple[Path, int]] = []
    labels, splits, classes = [], [], ()
    for path, (*_, split) in zip(files, names):
        with reading(f"{path} cannot be read"):
            check_heaps(path)  # once, as it looks at the whole file
            with h5py.File(path, "r") as file:
                found = file["labels"][()]
                if not len(found) == len(file["spikes/times"]) == len(file["spikes/units"]):
                    raise ValueError("labels, spikes/times and spikes/units must be as many")
                classes = tuple(key.decode() for key in file["extra/keys"][()]) if "extra/keys" in file else classes
        items += [(path, index) for index in range(len(found))]
        labels.append(found)
        splits += ["validation" if split.lower() == "valid" else split.lower()] * len(found)
    name = names[0][0]
    recordings = Recordings(
        items, np.concatenate(labels), read_spikes, name, classes, files=tuple(path for path, _ in items)
    )
    return SplitRecordings(recordings, splits)


def read_spikes(item: tuple[Path, int]) -> np.ndarray:
    """Return one recording of a file as SHD has them: events [N] with t (µs) and x, the channel, 0 to 699."""
    import h5py

    path, index = item
    with reading(f"recording {index} of {path} cannot be read"):
        with h5py.File(path, "r") as file:
            times, channels = file["spikes/times"][index], file["spikes/units"][index]
        if len(times) != len(channels):
            raise ValueError(f"it has {len(times)} times and {len(channels)} channels")
        if len(channels) and not 0 <= channels.min() <= channels.max() < _CHANNELS:
            raise ValueError(f"channels must lie in 0..{_CHANNELS - 1}, got {channels.min()} to {channels.max()}")
        order = np.argsort(times, kind="stable")  # no clock says that they come in order
        return in_order({"t": to_microseconds(times[order].astype(np.float64), "s"), "x": channels[order]})


def cut_gestures(path: Path) -> SplitRecordings:
    """Return DVS128 Gesture as tonic has it, a file for each gesture: ibmGestureTrain/user01_led/0.npy."""
    found = [
        (split, int(file.stem), file)
        for split, folder in (("train", "ibmGestureTrain"), ("test", "ibmGestureTest"))
        for file in sorted((path / folder).glob("*/*.npy"))
        if file.stem.isdecimal()
    ]
    if not found:
        raise ValueError(f"{path} must hold folders of users with files 0.npy to 10.npy in ibmGestureTrain or -Test")
    splits, labels, files = zip(*found)
    return SplitRecordings(Recordings(files, labels, read_gesture, "dvs_gesture", _GESTURES, files=files), splits)


def read_gesture(path: Path) -> np.ndarray:
    """Return the events of a gesture from an array [N, 4] of x, y, p and t (ms)."""
    with reading(f"{path} cannot be read"):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if array.ndim != 2 or array.shape[1] != 4:
            raise ValueError(f"it must hold an array [N, 4] of x, y, p and t, got shape {array.shape}")
        if array.dtype.kind not in "iuf" or not (array[:, :3] == np.rint(array[:, :3])).all():
            raise ValueError(f"x, y and p must be whole numbers, got {array.dtype}")
        columns = {name: array[:, index].astype(np.int64) for index, name in enumerate("xyp")}
        return in_order({"t": to_microseconds(array[:, 3], "ms"), **columns})


def gesture_trials(path: Path) -> SplitRecordings:
    """Return DVS128 Gesture as IBM has it: user01_led.aedat, and when which gesture was, user01_led_labels.csv.

    A recording is cut from the file of its user, which is read as a whole for each.
    """
    items: list[tuple[Path, int, int]] = []
    labels, splits = [], []
    for split in ("train", "test"):
        lines = path / f"trials_to_{split}.txt"
        with reading(f"{lines} cannot be read"):
            names = lines.read_text("utf-8").split() if lines.is_file() else []
        for name in names:
            table = path / f"{Path(name).stem}_labels.csv"
            for one in (path / name, table):
                if not one.is_file():
                    raise FileNotFoundError(f"no file {one.absolute()}, which {lines} names")
            with reading(f"{table} cannot be read"), table.open(newline="") as file:
                for row in csv.DictReader(file):
                    label, start, end = (int(row[column]) for column in ("class", "startTime_usec", "endTime_usec"))
                    if not (1 <= label <= len(_GESTURES) and start < end):
                        raise ValueError(f"a class must be 1 to {len(_GESTURES)}, and end after its start, got {row}")
                    items.append((path / name, start, end))
                    labels.append(label - 1)
                    splits.append(split)
    files = tuple(file for file, *_ in items)
    return SplitRecordings(Recordings(items, labels, read_trial, "dvs_gesture", _GESTURES, files=files), splits)


def read_trial(item: tuple[Path, int, int]) -> np.ndarray:
    """Return the events from a start to an end (µs) in the recording of a user."""
    path, start, end = item
    events = read_events(path)
    first, last = np.searchsorted(events["t"], (start, end))
    return events[first:last]
