"""Where data sets come from: scikit-learn, a user's own file, TensorFlow Datasets (without TensorFlow), or the web."""

import dataclasses
import difflib
import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from jsnn.arguments import checked
from jsnn.data.dataset import Dataset
from jsnn.data.download import SOURCES, Split, fetch
from jsnn.extras import require
from jsnn.files import FileError, Header, Npz, as_path, cache_folder, one_line

_CLASS_NAMES = {  # of sets that may have been prepared without their names
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "fashion_mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
}


@checked
def load(name: str | os.PathLike[str], split: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Return one split of a data set, in memory.

    Args:
        name: "digits": the 1,797 handwritten digits of 8x8 pixels in scikit-learn (UCI Optical Recognition of
            Handwritten Digits, the test part), their values 0..16 scaled to 0..255, split once and for all
            into 1,437 "train" and 360 "test" images with equal shares of the classes.
            A path that ends in ".npz", in which ~ is the home folder: arrays `images` and `labels`, or `inputs` and
            `targets`, are its "train" split, arrays `x_NAME` and `y_NAME` (as Keras writes them: x_train, y_train,
            x_test, y_test) its split NAME. An array `in_time` that holds True says that the second axis of the inputs
            is time, [N, T, ...].
            "mnist", "fashion_mnist" and "cifar10" come from a prepared TFDS folder if there is one, else from the
            web. Any other image-classification set that is prepared for TFDS, such as "emnist/letters".
        split: in the syntax of TFDS: "train", "train[:1000]", "train[90%:]", "train+test", "all".
        data_dir: the folder of prepared TFDS sets, and then nothing is fetched; where None, the environment variable
            TFDS_DATA_DIR, else ~/tensorflow_datasets.

    Downloaded files and decoded images are kept in the folder JSNN_CACHE_DIR (~/.cache/jsnn where unset), which may
    be deleted at any time. From there an image is read when it is first looked at, unless `split` joins several
    parts: of several processes each reads its own. Sets from the web keep the order of their authors, which is not
    that of TFDS, so a part such as "train[:1000]" holds other images.

    Raises:
        FileNotFoundError: a file is missing, or a set is not prepared and cannot be fetched.
        ValueError: an unknown data set or split, not a set of equally large images with one label each, or a file that
            is damaged or too large, as `jsnn.files.Budget` says.

    Examples:
        >>> digits = load("digits", "train[:90%]")
        >>> digits.images.shape, digits.images.dtype, digits.num_classes
        ((1293, 8, 8, 1), dtype('uint8'), 10)
    """
    require("data", "sklearn", "tensorflow_datasets")
    name = os.fspath(name)
    if name == "digits":
        return _select(name, split, _read_digits(), class_names=tuple("0123456789"))
    if name.lower().endswith(".npz"):
        return _load_npz(name, split)
    return _load_tfds(name, split, data_dir)


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
            return _select(name, split, splits, read=lambda key: file.read(pairs[key][0]), in_time=in_time)
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
    *,
    in_time: bool = False,
) -> Dataset:
    """Return the part that `split` names. `read` gives the inputs of a split where `splits` has stand-ins for them."""
    whole = {key: Dataset(*arrays, name, in_time=in_time) for key, arrays in splits.items()}
    intervals = _intervals(name, split, {key: [len(part)] for key, part in whole.items()})
    if read is not None:
        whole |= {key: dataclasses.replace(whole[key], inputs=read(key)) for key in {key for key, *_ in intervals}}
    inputs = np.concatenate([whole[key].inputs[start:stop] for key, start, stop in intervals])
    targets = np.concatenate([whole[key].targets[start:stop] for key, start, stop in intervals])
    return Dataset(inputs, targets, name, max(part.num_classes for part in whole.values()), class_names, in_time)


def _intervals(name: str, split: str, shards: Mapping[str, Sequence[int]]) -> list[tuple[str, int, int]]:
    """Return the ranges of examples that `split` names, as (split, start, stop); `shards` has their sizes by split."""
    from tensorflow_datasets.core import ReadInstruction, SplitInfo

    infos = {key: SplitInfo(name=key, shard_lengths=list(each), num_bytes=0) for key, each in shards.items()}
    sizes = {key: sum(each) for key, each in shards.items()}
    try:
        parts = ReadInstruction.from_spec(split).to_absolute(infos)
    except (AssertionError, NotImplementedError, ValueError) as error:
        available = ", ".join(f"{key} ({size:,} examples)" for key, size in sizes.items())
        raise ValueError(
            f"bad split {split!r} of data set {name!r}: {error}; its splits are {available}, "
            "and parts are written as train[:1000] or train[90%:]"
        ) from error
    ranges = [(p.splitname, *slice(p.from_, p.to).indices(sizes[p.splitname])[:2]) for p in parts]
    ranges = [(key, start, stop) for key, start, stop in ranges if start < stop]
    if not ranges:
        raise ValueError(f"split {split!r} of data set {name!r} holds no examples")
    return ranges


def _load_tfds(name: str, split: str, data_dir: str | os.PathLike[str] | None) -> Dataset:
    given, data_dir = data_dir, data_dir or os.environ.get("TFDS_DATA_DIR")
    builder = _tfds_builder(name, data_dir)
    info = builder.info
    if not builder.is_prepared() or info.file_format.value == "tfrecord":  # which has no random access
        if given is None and name in SOURCES:
            return _fetch(name, split, _not_prepared(name, data_dir, builder.data_dir))
        raise FileNotFoundError(f"data set {name!r} {_not_prepared(name, data_dir, builder.data_dir)}")
    image_key, label_key = info.supervised_keys

    def decode(key: str, start: int, stop: int) -> Split:
        with _prepared(name), _without_advice():
            examples = builder.as_data_source(split=key).__getitems__(range(start, stop))
        shapes = sorted({example[image_key].shape for example in examples})
        if len(shapes) > 1:
            raise ValueError(
                f"the images of data set {name!r} differ in size, such as {shapes[0]} and {shapes[-1]}: "
                "resize them to one size and load them from an .npz file"
            )
        images = np.stack([example[image_key] for example in examples])
        return images, np.array([example[label_key] for example in examples], np.int32)

    def read(key: str, start: int, stop: int) -> Split:
        stats = [(os.fspath(path), os.stat(path)) for path in info.splits[key].filepaths]
        files = [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]
        return _cached(f"{info.full_name}-{key}", (files, start, stop), stop - start, lambda: decode(key, start, stop))

    intervals = _intervals(name, split, {key: part.shard_lengths for key, part in info.splits.items()})
    classes = info.features[label_key]
    return _joined(
        name,
        [read(*interval) for interval in intervals],
        classes.num_classes,
        _class_names(name, tuple(classes.names or ())),
    )


def _joined(name: str, parts: Sequence[Split], num_classes: int, class_names: tuple[str, ...]) -> Dataset:
    """Return a data set of the parts that a split names; one alone is not copied, so that it can stay on disk."""
    images, labels = parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts))
    return Dataset(images, labels, name, num_classes, class_names)


def _not_prepared(name: str, data_dir: str | os.PathLike[str] | None, looked: object) -> str:
    """Return what is missing of a TFDS set, and how to get it."""
    return (
        f"is not prepared in the array_record format: looked for {looked}. {_folder_above(name, data_dir)}Point "
        f"data_dir or TFDS_DATA_DIR at the folder that holds it so, or prepare it, with TensorFlow and a network, by: "
        f"tfds build {name} --file_format=array_record"
    )


def _fetch(name: str, split: str, not_prepared: str) -> Dataset:
    """Return a data set from the web, or from the cache where it was fetched before."""
    sizes = {key: source.size for key, source in SOURCES[name].items()}
    folder = cache_folder() / "downloads" / name  # two sets have files of the same names

    def read(key: str, start: int, stop: int) -> Split:
        source = SOURCES[name][key]
        images, labels = _cached(f"{name}-{key}", source.digest, sizes[key], lambda: fetch(name, key, folder))
        return images[start:stop], labels[start:stop]

    try:
        parts = [read(*interval) for interval in _intervals(name, split, {key: [n] for key, n in sizes.items()})]
    except OSError as error:
        files = [file for source in SOURCES[name].values() for file in source.files]
        links = ", ".join(dict.fromkeys(file.addresses[0] + file.name for file in files))
        raise FileNotFoundError(
            f"data set {name!r} cannot be fetched ({error}). Connect to a network and try again; or put "
            f"{links} into {folder}; or give the path of an .npz file with x_train, y_train, x_test and y_test; or "
            f"take 'digits', which needs no download. For TensorFlow Datasets, it {not_prepared}"
        ) from error
    return _joined(name, parts, 10, _class_names(name, tuple("0123456789")))


def _class_names(name: str, prepared: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of a set's classes: the prepared ones, but those we know where these are only numbers."""
    numbered = prepared == tuple(map(str, range(len(prepared))))  # as TFDS names them where it has no file of names
    return _CLASS_NAMES.get(re.split("[/:]", name)[0], prepared) if numbered else prepared


@contextmanager
def _prepared(name: str) -> Iterator[None]:
    """Raise ValueError in one line for what TFDS raises at damaged files of a prepared set."""
    try:
        yield
    except (AssertionError, MemoryError, OSError, ValueError):
        raise
    except Exception as error:
        raise FileError(f"the prepared files of data set {name!r} are damaged: {one_line(error)}") from error


@contextmanager
def _without_advice() -> Iterator[None]:
    """Keep TFDS from logging that OpenCV is missing: Pillow, which jsnn installs, decodes the same images."""

    def is_other(record: logging.LogRecord) -> bool:
        return "OpenCV is not installed" not in record.getMessage()

    logger = logging.getLogger("absl")  # TFDS logs there
    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)


def _folder_above(name: str, data_dir: str | os.PathLike[str] | None) -> str:
    """Return a sentence for an error if `data_dir` is the folder of the set itself, otherwise nothing."""
    folder = as_path(data_dir or ".").absolute()
    base = re.split("[/:]", name)[0]
    root = next((place.parent for place in (folder, *folder.parents) if place.name == base), None)
    if root is None or not any(any(folder.glob(f"{depth}dataset_info.json")) for depth in ("", "*/", "*/*/")):
        return ""
    return f"{folder} is the folder of the set itself: give the folder above it, {root}. "


def _tfds_builder(name: str, data_dir: str | os.PathLike[str] | None) -> Any:
    import tensorflow_datasets as tfds

    try:
        with _prepared(name):
            builder = tfds.builder(name, data_dir=as_path(data_dir) if data_dir else None)
    except FileError:
        raise
    except (AssertionError, ValueError) as error:
        known = ["digits", *tfds.list_builders(with_community_datasets=False)]
        base = re.split("[/:]", name)[0]
        if base in known:  # the version or the variant is wrong, and TFDS says which there are
            raise ValueError(f"unknown data set {name!r}: {error}") from error
        nearest = difflib.get_close_matches(base, known, n=1, cutoff=0.0)[0]
        raise ValueError(
            f"unknown data set {name!r}, did you mean {nearest!r}? "
            "Known are digits, the path of an .npz file, and the image-classification sets of TFDS"
        ) from error
    features, keys = builder.info.features, builder.info.supervised_keys
    if (
        keys is None
        or len(keys) != 2
        or not isinstance(features[keys[0]], tfds.features.Image)
        or not isinstance(features[keys[1]], tfds.features.ClassLabel)
    ):
        raise ValueError(f"data set {name!r} is not one of images with a class label, but of {features}")
    return builder


def _cached(title: str, identity: object, count: int, read: Callable[[], Split]) -> Split:
    """Return `read()`, `count` examples, and keep it on disk.

    Decoding the PNG files of MNIST takes 10 s, mapping the arrays into memory no time.
    """
    folder = cache_folder()
    digest = hashlib.sha256(repr(identity).encode()).hexdigest()[:16]
    names = [f"{title.replace('/', '-')}-{digest}-{what}.npy" for what in ("images", "labels")]
    with suppress(EOFError, OSError, TypeError, ValueError):  # what numpy raises at a damaged file
        images, labels = (np.load(folder / file, mmap_mode="r", allow_pickle=False) for file in names)
        if len(images) == len(labels) == count:
            return images, labels
    arrays = read()
    # A read-only home or a full disk costs time at the next run, and nothing else.
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            for name, array in zip(names, arrays):
                np.save(Path(temporary) / name, array)
                os.replace(Path(temporary) / name, folder / name)
    return arrays
