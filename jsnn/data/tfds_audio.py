"""Sets of sound that are prepared for TensorFlow Datasets, read without TensorFlow, which TFDS needs for sound."""

import functools
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jsnn.data.cache import cached
from jsnn.data.recordings import Recordings, SplitRecordings
from jsnn.data.sound import Sound
from jsnn.files import as_path
from jsnn.files.budget import reading

AUDIO_SETS = ("speech_commands", "spoken_digit")
"""Names that are known to be sets of sound, whether they are prepared or not."""
_FULL_SCALE = 2**15


class Place(NamedTuple):
    """Where a recording is, and what it is."""

    file: Path
    number: int
    key: str
    sample_rate: int
    channels: int


def prepared_sound(name: str, data_dir: str | os.PathLike[str] | None) -> Path | None:
    """Return the folder of a prepared set of sound with a class each, of its newest version; None if there is none.

    Args:
        name: as TFDS has it: "speech_commands", "speech_commands:0.0.3", "set/config:1.0.0".
        data_dir: the folder of the prepared sets; None for ~/tensorflow_datasets.
    """
    place, _, version = name.partition(":")
    found = sorted((as_path(data_dir or "~/tensorflow_datasets") / place).glob(f"{version or '*'}/features.json"))
    folders = [one.parent for one in found if '"audio"' in one.read_text("utf-8", "replace")]
    return max(folders, key=lambda one: [int(part) for part in one.name.split(".") if part.isdecimal()], default=None)


def sound_recordings(name: str, folder: Path) -> SplitRecordings:
    """Return the recordings of a prepared set, in the array_record format.

    Raises:
        ValueError: if its files are damaged or in another format, or it is not of sound with a class each.
    """
    with reading(f"the prepared files of data set {name!r} in {folder} cannot be read"):
        info = json.loads((folder / "dataset_info.json").read_text("utf-8"))
        features = json.loads((folder / "features.json").read_text("utf-8"))["featuresDict"]["features"]
        keys = [item["featureKey"] for item in info["supervisedKeys"]["tuple"]["items"]]
        if len(keys) != 2 or "audio" not in features[keys[0]] or "classLabel" not in features[keys[1]]:
            raise ValueError(f"it must be of sound with a class label, got {keys}")
        if info["fileFormat"] != "array_record":
            raise ValueError(f"it must be prepared with --file_format=array_record, got {info['fileFormat']}")
        about = features[keys[0]]["audio"]
        if about.get("lazyDecode") or about.get("encoding", "NONE") != "NONE":
            raise ValueError("its sound must be stored decoded")
        sizes = [int(size) for size in about["shape"]["dimensions"]]
        shards: list[tuple[str, Path, int]] = []
        for split in info["splits"]:
            found, lengths = sorted(folder.glob(f"{info['name']}-{split['name']}.*-of-*")), split["shardLengths"]
            if len(found) != len(lengths):
                raise ValueError(f"split {split['name']!r} must be in {len(lengths)} files, got {len(found)}")
            shards += [(split["name"], file, int(length)) for file, length in zip(found, lengths)]
        items = [
            Place(file, index, keys[0], int(about["sampleRate"]), sizes[1] if len(sizes) > 1 else 1)
            for _, file, length in shards
            for index in range(length)
        ]
        # labels are read once, since the sound of each stands beside them
        stats = [(os.fspath(file), file.stat().st_size, file.stat().st_mtime_ns) for _, file, _ in shards]
        (labels,) = cached(
            f"{name}-sound",
            stats,
            lambda _: (np.array([_label(item, keys[1]) for item in items]),),
            ["labels"],
            len(items),
        )
        names = folder / f"{keys[1]}.labels.txt"
        classes = tuple(names.read_text("utf-8").splitlines()) if names.is_file() else ()
        files = tuple(item.file for item in items)
        count = int(features[keys[1]]["classLabel"]["numClasses"])
        recordings = Recordings(items, labels, read_prepared, name, classes, count, files)
        return SplitRecordings(recordings, [split for split, _, length in shards for _ in range(length)])


def read_prepared(item: Place) -> Sound:
    """Return a recording of a prepared set, whose integers are those of 16 bits."""
    with reading(f"recording {item.number} of {item.file} cannot be read"):
        values = _features(item)[item.key]
        samples = np.array(values.float_list.value or values.int64_list.value, np.float32).reshape(-1, item.channels)
        if values.int64_list.value:
            if np.abs(samples).max() > _FULL_SCALE:
                raise ValueError(f"samples must have 16 bits, got values up to {np.abs(samples).max():.0f}")
            samples /= _FULL_SCALE
        if len(samples) == 0:
            raise ValueError("it holds no sound")
        return Sound(samples, item.sample_rate)


def _label(item: Place, key: str) -> int:
    return _features(item)[key].int64_list.value[0]


def _features(item: Place) -> Any:
    """Return the features of an example by name, as its record has them."""
    from tensorflow_datasets.proto import tf_example_pb2

    return tf_example_pb2.Example.FromString(_records(item.file)[item.number]).features.feature


@functools.lru_cache(maxsize=16)
def _records(file: Path) -> Any:
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    return ArrayRecordDataSource([os.fspath(file)])
