"""Sets of images that are prepared for TensorFlow Datasets (TFDS), or come from the web; TensorFlow is not needed."""

import difflib
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from jsnn.data.cache import cached
from jsnn.data.dataset import Dataset
from jsnn.data.download import SOURCES, Split, fetch
from jsnn.data.splits import intervals
from jsnn.files import FileError, as_path, cache_folder, one_line

_CLASS_NAMES = {  # of sets that may have been prepared without their names
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "fashion_mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
}
_IMAGES = ("images", "labels")


def load_images(name: str, split: str, data_dir: str | os.PathLike[str] | None) -> Dataset:
    """Return one split of a set of images, as `load` does."""
    given, data_dir = data_dir, data_dir or os.environ.get("TFDS_DATA_DIR")
    builder = _tfds_builder(name, data_dir)
    info = builder.info
    if not builder.is_prepared() or info.file_format.value == "tfrecord":  # which has no random access
        if given is None and name in SOURCES:
            return _fetch(name, split, not_prepared(name, data_dir, builder.data_dir))
        raise FileNotFoundError(f"data set {name!r} {not_prepared(name, data_dir, builder.data_dir)}")
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
        title, identity = f"{info.full_name}-{key}", (files, start, stop)
        images, labels = cached(title, identity, lambda _: decode(key, start, stop), _IMAGES, stop - start)
        return images, labels

    ranges = intervals(name, split, {key: part.shard_lengths for key, part in info.splits.items()})
    classes = info.features[label_key]
    return _joined(
        name,
        [read(*interval) for interval in ranges],
        classes.num_classes,
        _class_names(name, tuple(classes.names or ())),
    )


def known_sets() -> list[str]:
    """Return the names that are known without a look at any folder."""
    import tensorflow_datasets as tfds

    return ["digits", "yin_yang", *tfds.list_builders(with_community_datasets=False)]


def _joined(name: str, parts: Sequence[Split], num_classes: int, class_names: tuple[str, ...]) -> Dataset:
    """Return a data set of the parts that a split names; one alone is not copied, so that it can stay on disk."""
    images, labels = parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts))
    return Dataset(images, labels, name, num_classes, class_names)


def not_prepared(name: str, data_dir: str | os.PathLike[str] | None, looked: object) -> str:
    """Return what is missing of a TFDS set, and how to get it."""
    return (
        f"is not prepared in the array_record format: looked for {looked}. {_folder_above(name, data_dir)}Point "
        f"data_dir or TFDS_DATA_DIR at the folder that holds it so, or prepare it, with TensorFlow and a network, by: "
        f"tfds build {name} --file_format=array_record"
    )


def _fetch(name: str, split: str, missing: str) -> Dataset:
    """Return a data set from the web, or from the cache where it was fetched before."""
    sizes = {key: source.size for key, source in SOURCES[name].items()}
    folder = cache_folder() / "downloads" / name  # two sets have files of the same names

    def read(key: str, start: int, stop: int) -> Split:
        source = SOURCES[name][key]
        images, labels = cached(f"{name}-{key}", source.digest, lambda _: fetch(name, key, folder), _IMAGES, sizes[key])
        return images[start:stop], labels[start:stop]

    try:
        parts = [read(*interval) for interval in intervals(name, split, {key: [n] for key, n in sizes.items()})]
    except OSError as error:
        files = [file for source in SOURCES[name].values() for file in source.files]
        links = ", ".join(dict.fromkeys(file.addresses[0] + file.name for file in files))
        raise FileNotFoundError(
            f"data set {name!r} cannot be fetched ({error}). Connect to a network and try again; or put "
            f"{links} into {folder}; or give the path of an .npz file with x_train, y_train, x_test and y_test; or "
            f"take 'digits', which needs no download. For TensorFlow Datasets, it {missing}"
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
        known = known_sets()
        base = re.split("[/:]", name)[0]
        if base in known:  # the version or the variant is wrong, and TFDS says which there are
            raise ValueError(f"unknown data set {name!r}: {error}") from error
        nearest = difflib.get_close_matches(base, known, n=1, cutoff=0.0)[0]
        raise ValueError(
            f"unknown data set {name!r}, did you mean {nearest!r}? "
            "Known are digits, yin_yang, the path of an .npz file or of a folder of recordings, sets of tonic such as "
            "tonic:NMNIST, and the image-classification sets of TFDS"
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
