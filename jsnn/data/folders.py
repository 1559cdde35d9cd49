"""Folders of recordings, with a folder for each class, or in the layout of a published set."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsnn.data.event_files import EVENT_READERS, read_events
from jsnn.data.published import cut_gestures, gesture_trials, spikes_in_hdf5
from jsnn.data.recordings import Recordings, SplitRecordings
from jsnn.data.sound import read_sound
from jsnn.files.budget import reading

_SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("validation", "valid", "val"), "validation"
)
HDF5 = (".h5", ".hdf5")
"""The endings of files that hold many recordings."""
_LISTS = {"testing_list.txt": "test", "validation_list.txt": "validation"}
_READERS: dict[str, Callable[[Path], Any]] = {".wav": read_sound, **dict.fromkeys(EVENT_READERS, read_events)}


def find_recordings(path: Path) -> SplitRecordings:
    """Return the recordings of a folder, or of a file that holds many, in one of the layouts that `load` describes.

    Raises:
        FileNotFoundError: if there is neither a folder nor a file, or a list of a split names files that are missing.
        ValueError: if the layout is none of these.
    """
    if path.suffix.lower() in HDF5:
        if not path.is_file():
            raise FileNotFoundError(f"no file {path}: give the path of a folder or of an .h5 file")
        return spikes_in_hdf5([path])
    if not path.is_dir():
        raise FileNotFoundError(f"no folder {path}: give the path of a folder of recordings")
    if spikes := [one for one in _visible(path) if one.suffix.lower() in HDF5]:
        return spikes_in_hdf5(spikes)
    if (path / "trials_to_train.txt").is_file():
        return gesture_trials(path)
    folders = _folders(path)
    names = [folder.name.lower() for folder in folders]
    splits = [_SPLITS[name] for name in names if name in _SPLITS]
    if any(name.startswith("ibmgesture") for name in names):
        return cut_gestures(path)
    if names and len(splits) == len(names):
        if len(set(splits)) < len(splits):
            raise ValueError(f"{path} must hold one folder for each split, got {', '.join(f.name for f in folders)}")
        parts = dict(zip(splits, map(_files_by_class, folders)))
    else:
        parts = _by_lists(path, _files_by_class(path))
    classes = sorted({name for part in parts.values() for name in part}, key=_in_order)
    found = [
        (split, label, file)
        for split, part in parts.items()
        for label, name in enumerate(classes)
        for file in part.get(name, ())
    ]
    files = tuple(file for *_, file in found)
    endings = sorted({file.suffix.lower() for file in files})
    if len(endings) > 1:
        raise ValueError(f"{path} must hold recordings of one kind, got {', '.join(endings)}")
    labels, read = [label for _, label, _ in found], _READERS[endings[0]]
    recordings = Recordings(files, labels, read, path.resolve().name, tuple(classes), files=files)
    return SplitRecordings(recordings, [split for split, *_ in found]).in_turns()


def _folders(path: Path) -> list[Path]:
    """Return the folders in a folder, without those such as _background_noise_."""
    return [one for one in _visible(path) if one.is_dir() and one.name[0] != "_"]


def _visible(path: Path) -> list[Path]:
    """Return what is in a folder, without what systems hide there, such as .DS_Store and ._one.wav."""
    return sorted(one for one in path.iterdir() if one.name[0] != ".")


def _files_by_class(path: Path) -> dict[str, list[Path]]:
    """Return the recordings in each folder that holds some, by its name."""
    found = {}
    for folder in _folders(path):
        if files := [one for one in _visible(folder) if one.suffix.lower() in _READERS]:
            found[folder.name] = files
    if not found:
        raise ValueError(
            f"{path} must hold a folder for each class, with files that end in {', '.join(_READERS)}; it holds "
            f"{', '.join(one.name for one in _visible(path)[:5]) or 'nothing'}"
        )
    return found


def _by_lists(path: Path, files: dict[str, list[Path]]) -> dict[str, dict[str, list[Path]]]:
    """Return the files of each split and class; what no list names is for training."""
    split_of: dict[Path, str] = {}
    known = {one for members in files.values() for one in members}
    for name, split in _LISTS.items():
        if not (path / name).is_file():
            continue
        with reading(f"{path / name} cannot be read"):
            lines = (path / name).read_text("utf-8-sig").splitlines()
        listed = [path / line.strip() for line in lines if line.strip()]
        missing = [one for one in listed if one not in known]
        if missing:
            raise FileNotFoundError(
                f"{path / name} names {len(missing)} files that are not there, such as {missing[0]}: a line is the "
                "path of a file in the folder of a class, such as zero/one.wav"
            )
        if twice := [one for one in listed if one in split_of]:
            raise ValueError(f"{twice[0]} must be in one split, and is listed for {split_of[twice[0]]} and {split}")
        split_of |= dict.fromkeys(listed, split)
    parts: dict[str, dict[str, list[Path]]] = {}
    for name, members in files.items():
        for one in members:
            parts.setdefault(split_of.get(one, "train"), {}).setdefault(name, []).append(one)
    return parts


def _in_order(name: str) -> tuple[int, str]:
    """Return what sorts names by themselves, and numbers before them by their value."""
    return (int(name) if name.isdecimal() else 2**63, name)
