"""Where data sets come from: scikit-learn, a user's own file or folder, TensorFlow Datasets, tonic, or the web."""

import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from jsnn.arguments import checked
from jsnn.data.dataset import Dataset
from jsnn.data.download import Split
from jsnn.data.folders import HDF5, find_recordings
from jsnn.data.points import CLASS_NAMES, SPLITS, read_split
from jsnn.data.recordings import Recordings, SplitRecordings
from jsnn.data.splits import intervals
from jsnn.data.tfds_audio import AUDIO_SETS, prepared_sound, sound_recordings
from jsnn.data.tfds_images import known_sets, load_images, not_prepared
from jsnn.data.tonic_sets import tonic_recordings
from jsnn.extras import require
from jsnn.files import FileError, Header, Npz, as_path


@checked
def load(
    name: str | os.PathLike[str], split: str, data_dir: str | os.PathLike[str] | None = None
) -> Dataset | Recordings:
    """Return one split of a data set: arrays in memory, or recordings, which are read when they are looked at.

    Args:
        name: "digits": the 1,797 handwritten digits of 8x8 pixels in scikit-learn (UCI Optical Recognition of
            Handwritten Digits, the test part), their values 0..16 scaled to 0..255, split once and for all
            into 1,437 "train" and 360 "test" images with equal shares of the classes.
            "yin_yang": points in the plane, see `yin_yang`.
            A path that ends in ".npz", in which ~ is the home folder: arrays `images` and `labels`, or `inputs` and
            `targets`, are its "train" split, arrays `x_NAME` and `y_NAME` (as Keras writes them: x_train, y_train,
            x_test, y_test) its split NAME. An array `in_time` that holds True says that the second axis of the inputs
            is time, [N, T, ...]. Recordings that are padded at the end have an array `lengths` beside `inputs`, or
            `lengths_NAME` beside `x_NAME`: [N], the steps of each that are not padding.
            "mnist", "fashion_mnist" and "cifar10" come from a prepared TFDS folder if there is one, else from the
            web. Any other image-classification set that is prepared for TFDS, such as "emnist/letters".
            For recordings, the path of a folder, a set of sound that is prepared for TFDS ("speech_commands",
            "spoken_digit"), or a set that tonic downloads ("tonic:NMNIST", "tonic:SHD", "tonic:DVSGesture"; see below).
        split: in the syntax of TFDS: "train", "train[:1000]", "train[90%:]", "train+test", "all".
        data_dir: the folder of prepared TFDS sets, and then nothing is fetched; where None, the environment variable
            TFDS_DATA_DIR, else ~/tensorflow_datasets. For a set of tonic, the folder in which tonic keeps its files.
            Of no other sets.

    A folder of recordings is given by a `Path`, or a text that begins with /, ~ or ., or is not the name of a set. It
    has one of these layouts, in which folders whose names begin with _ or . are left out:

    * a folder for each class with `.wav` files, as Speech Commands has it, or with files that `read_events` knows, as
      N-Caltech101 has it; `testing_list.txt` and `validation_list.txt`, where they are there, name the files of the
      splits "test" and "validation", a path such as zero/one.wav in each line, and "train" is the rest;
    * the same in folders Train and Test (and Validation), as N-MNIST has it;
    * `shd_train.h5`, `shd_test.h5`, as the Heidelberg sets SHD and SSC have it; the path of one such file will do, too;
    * DVS128 Gesture, as IBM or tonic has it: `user01_led.aedat` with `user01_led_labels.csv` and `trials_to_train.txt`,
      or `ibmGestureTrain/user01_led/0.npy`.

    Whole times in `.npy` files are microseconds. Those in another unit, such as seconds, are read by
    `dataclasses.replace(recordings, read=functools.partial(jsnn.data.read_events, unit="s"))`.

    Classes are numbered in the order of the names of their folders, and numbers by their value. Where
    recordings lie class by class, classes take turns, so that a part such as "train[90%:]" has its share of each.

    Downloaded files and decoded images are kept in the folder JSNN_CACHE_DIR (~/.cache/jsnn where unset), which may
    be deleted at any time. From there an image is read when it is first looked at, unless `split` joins several
    parts: of several processes each reads its own. Sets from the web keep the order of their authors, which is not
    that of TFDS, so a part such as "train[:1000]" holds other images.

    Raises:
        FileNotFoundError: a file is missing, or a set is not prepared and cannot be fetched.
        ImportError: a package that reads a set is not installed; it names the extra.
        ValueError: an unknown data set or split, a `data_dir` for a set that has none, not a set of equally large
            images with one label each, a folder in none of the layouts, or a file that is damaged or too large, as
            `jsnn.files.Budget` says.

    Examples:
        >>> digits = load("digits", "train[:90%]")
        >>> digits.images.shape, digits.images.dtype, digits.num_classes
        ((1293, 8, 8, 1), dtype('uint8'), 10)
    """
    require("data", "sklearn", "tensorflow_datasets")
    text = os.fspath(name)
    is_npz = text.lower().endswith(".npz")
    is_path = not is_npz and _is_path(name)
    if data_dir is not None and (is_npz or is_path or text in ("digits", "yin_yang")):
        raise ValueError(f"data_dir is only for data sets of TFDS and tonic: leave it out for {text!r}")
    if is_npz:
        return _load_npz(text, split)
    recordings = find_recordings(as_path(text).absolute()) if is_path else _prepared_recordings(text, data_dir)
    if recordings is not None:
        return recordings.select(text, split)
    if text == "digits":
        return _select(text, split, _read_digits(), class_names=tuple("0123456789"))
    if text == "yin_yang":
        parts = {name: read_split(name) for name in SPLITS}
        pairs = {name: (part.inputs, part.targets) for name, part in parts.items()}
        return _select(text, split, pairs, class_names=CLASS_NAMES)
    return load_images(text, split, data_dir)


def _is_path(name: str | os.PathLike[str]) -> bool:
    """Return whether a name is the path of a folder of recordings, or of a file that holds many."""
    text = os.fspath(name)
    path = as_path(text)
    if text.startswith("tonic:") or not text:
        return False
    if isinstance(name, os.PathLike) or path.is_absolute() or text.startswith(".") or path.suffix.lower() in HDF5:
        return True
    return (path.is_dir() or ("/" in text and ":" not in text)) and _base(text) not in known_sets()


def _base(name: str) -> str:
    """Return the name of a data set without its configuration and version."""
    return re.split("[/:]", name)[0]


def _prepared_recordings(name: str, data_dir: str | os.PathLike[str] | None) -> SplitRecordings | None:
    """Return the recordings of a set of sound or events, or None for what is a set of images."""
    if name.startswith("tonic:"):
        return tonic_recordings(name.removeprefix("tonic:"), as_path(data_dir) if data_dir else None)
    there = data_dir or os.environ.get("TFDS_DATA_DIR")
    folder = prepared_sound(name, there)
    if folder is None and _base(name) in AUDIO_SETS:
        looked = as_path(there or "~/tensorflow_datasets") / _base(name)
        raise FileNotFoundError(f"data set {name!r} {not_prepared(name, there, looked)}")
    return None if folder is None else sound_recordings(name, folder)


def _read_digits() -> dict[str, Split]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    images = np.round(images.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    train, test = train_test_split(np.arange(len(labels)), test_size=0.2, random_state=0, stratify=labels)
    return {"train": (images[train], labels[train]), "test": (images[test], labels[test])}


def _load_npz(name: str, split: str) -> Dataset:
    path = as_path(name)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path.absolute()}: give the path of an .npz file")
    try:
        with Npz(path) as file:
            pairs = _pairs(path, file.names)
            splits = {key: (_stand_in(file.header(x)), _column(file.read(y))) for key, (x, y) in pairs.items()}
            in_time = "in_time" in file.names and bool(np.all(file.read("in_time")))
            lengths = {key: file.read(own) for key, own in _lengths(path, file.names, pairs).items()}
            return _select(name, split, splits, (), lambda key: file.read(pairs[key][0]), in_time, lengths)
    except FileError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _pairs(path: Path, names: list[str]) -> dict[str, tuple[str, str]]:
    """Return the names of the arrays of inputs and of targets, for each split."""
    pairs = {key[2:]: (key, f"y_{key[2:]}") for key in names if key.startswith("x_")}
    for inputs, targets in (("images", "labels"), ("inputs", "targets")):
        pairs = {"train": (inputs, targets), **pairs} if inputs in names else pairs
    missing = sorted({key for pair in pairs.values() for key in pair} - set(names))
    if missing or not pairs:
        raise ValueError(
            f"{path} must hold arrays images and labels, inputs and targets, or x_train, y_train, x_test, y_test; "
            f"it holds {sorted(names)}" + (f" and lacks {missing}" if missing else "")
        )
    return pairs


def _lengths(path: Path, names: list[str], pairs: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Return the name of the array of lengths for each split that has one."""
    found = {key: "lengths" + inputs[1:] * inputs.startswith("x_") for key, (inputs, _) in pairs.items()}
    unknown = sorted({name for name in names if name.startswith("lengths")} - set(found.values()))
    if unknown:
        raise ValueError(f"{path} holds {unknown} of no split: lengths go with inputs, lengths_NAME with x_NAME")
    return {key: name for key, name in found.items() if name in names}


def _stand_in(header: Header) -> np.ndarray:
    """Return an array of this shape and dtype that takes no memory, for the checks before the array is read."""
    return np.broadcast_to(np.zeros((), header.dtype), header.shape)


def _column(labels: np.ndarray) -> np.ndarray:
    """Return classes without their second axis, if its size is 1: Keras stores those of CIFAR-10 as a column."""
    return labels[:, 0] if labels.dtype.kind in "iu" and labels.ndim == 2 and labels.shape[1] == 1 else labels


def _select(
    name: str,
    split: str,
    splits: Mapping[str, Split],
    class_names: tuple[str, ...] = (),
    read: Callable[[str], np.ndarray] | None = None,
    in_time: bool = False,
    lengths: Mapping[str, np.ndarray] | None = None,
) -> Dataset:
    """Return the part that `split` names. `read` gives the inputs of a split where `splits` has stand-ins for them.

    Where one split has `lengths`, a split without has T for each example.
    """
    given = lengths or {}
    whole = {key: Dataset(*pair, name, in_time=in_time, lengths=given.get(key)) for key, pair in splits.items()}
    ranges = intervals(name, split, {key: [len(part)] for key, part in whole.items()})
    if read is not None:
        whole |= {key: dataclasses.replace(whole[key], inputs=read(key)) for key in {key for key, *_ in ranges}}
    shapes = {key: whole[key].inputs.shape[1:] for key, *_ in ranges}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"splits must have examples of one shape to be joined, got {shapes}: load them one by one")
    inputs = np.concatenate([whole[key].inputs[start:stop] for key, start, stop in ranges])
    targets = np.concatenate([whole[key].targets[start:stop] for key, start, stop in ranges])
    num_classes = max(part.num_classes for part in whole.values())
    if not given:
        return Dataset(inputs, targets, name, num_classes, class_names, in_time)
    steps = [given.get(key, np.full(len(whole[key]), inputs.shape[1]))[start:stop] for key, start, stop in ranges]
    return Dataset(inputs, targets, name, num_classes, class_names, in_time, np.concatenate(steps))
