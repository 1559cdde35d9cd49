"""Image-classification sets as plain arrays, and the order in which training and evaluation visit them.

`load` gives a `Dataset` of numpy arrays from scikit-learn's digits, from any image-classification set that
TensorFlow Datasets (TFDS) knows (TensorFlow itself is not needed), or from the user's own `.npz` file.
`epoch_permutation` and `pad_to_batches` give indices for data that lie on the device; `batches` streams data
that do not fit there, in the same order.
"""

import dataclasses
import difflib
import hashlib
import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jsnn.types import Array


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Images and their labels in memory.

    `images` [N, H, W, C] are uint8 in 0..255, or floating point; [N, H, W] gains a channel axis. `labels` [N]
    are integers from 0, kept as int32. `num_classes` 0 stands for one more than the largest label.

    Raises:
        ValueError: for another shape or type, no images at all, or labels outside 0..num_classes - 1.

    >>> Dataset(np.zeros((2, 8, 8), np.uint8), np.array([0, 3])).num_classes
    4
    """

    images: np.ndarray  # [N, H, W, C], uint8 or floating point
    labels: np.ndarray  # [N], int32
    name: str = "arrays"
    num_classes: int = 0
    class_names: tuple[str, ...] = ()  # empty where unknown

    def __post_init__(self) -> None:
        images, labels = np.asarray(self.images), np.asarray(self.labels)
        images = images[..., None] if images.ndim == 3 else images
        if images.ndim != 4:
            raise ValueError(f"images must have shape [N, H, W, C] or [N, H, W], got {images.shape}")
        if images.dtype != np.uint8 and not jnp.issubdtype(images.dtype, jnp.floating):
            raise ValueError(f"images must be uint8 (0..255) or floating point, got {images.dtype}: convert them")
        if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(
                f"labels must be integers of shape [N], got {labels.dtype} of shape {labels.shape}: "
                "one-hot labels become integers by labels.argmax(-1)"
            )
        if len(images) != len(labels):
            raise ValueError(f"images and labels must be as many, got {len(images)} and {len(labels)}")
        if len(images) == 0:
            raise ValueError(f"data set {self.name!r} holds no images")
        num_classes = self.num_classes or len(self.class_names) or int(labels.max()) + 1
        if labels.min() < 0 or labels.max() >= num_classes:
            raise ValueError(
                f"labels must lie in 0..{num_classes - 1}, got values from {labels.min()} to {labels.max()}"
            )
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "labels", labels.astype(np.int32))
        object.__setattr__(self, "num_classes", num_classes)

    def __len__(self) -> int:
        return len(self.labels)


def load(name: str | os.PathLike[str], split: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Loads one split of a data set into memory.

    Args:
        name: "digits": the 1,797 handwritten digits of 8x8 pixels in scikit-learn (UCI Optical Recognition of
            Handwritten Digits, the test part), their values 0..16 scaled to 0..255, split once and for all
            into 1,437 "train" and 360 "test" images with equal shares of the classes.
            A path that ends in ".npz": arrays `images` and `labels` are its "train" split, arrays `x_NAME`
            and `y_NAME` (as Keras writes them: x_train, y_train, x_test, y_test) its split NAME.
            Any image-classification set of TFDS, such as "mnist", "cifar10", "emnist/letters".
        split: in the syntax of TFDS: "train", "train[:1000]", "train[90%:]", "train+test", "all".
        data_dir: the folder of prepared TFDS sets; where None, the environment variable TFDS_DATA_DIR, else
            ~/tensorflow_datasets.

    Decoded images of TFDS sets are kept in the folder JSNN_CACHE_DIR (~/.cache/jsnn where unset), which may
    be deleted at any time. From there an image is read when it is first looked at, unless `split` joins several
    parts: of several processes each reads its own. Nothing is ever downloaded.

    Raises:
        FileNotFoundError: a file is missing or a set is not prepared.
        ValueError: an unknown data set or split, or not a set of equally large images with one label each.

    >>> digits = load("digits", "train[:90%]")
    >>> digits.images.shape, digits.images.dtype, digits.num_classes
    ((1293, 8, 8, 1), dtype('uint8'), 10)
    """
    name = os.fspath(name)
    if name == "digits":
        return _select(name, split, _read_digits(), class_names=tuple("0123456789"))
    if name.endswith(".npz"):
        return _select(name, split, _read_npz(Path(name)))
    return _load_tfds(name, split, data_dir)


def subset(dataset: Dataset, factor: int) -> Dataset:
    """Every `factor`-th example, 1/factor of the data set; the number of classes stays.

    Source: snnTorch's `utils.data_subset`.

    Raises:
        ValueError: `factor` is not within 1..N.

    >>> digits = load("digits", "train")
    >>> len(digits), len(subset(digits, 10))
    (1437, 144)
    """
    if not 1 <= factor <= len(dataset):
        raise ValueError(f"factor must lie in 1..{len(dataset)}, the number of examples, got {factor}")
    return dataclasses.replace(dataset, images=dataset.images[::factor], labels=dataset.labels[::factor])


Split = tuple[np.ndarray, np.ndarray]  # images and labels
_DAMAGED = (
    EOFError,
    KeyError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
)  # what numpy raises at a bad .npz file


def _read_digits() -> dict[str, Split]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    images = np.round(images.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    train, test = train_test_split(np.arange(len(labels)), test_size=0.2, random_state=0, stratify=labels)
    return {"train": (images[train], labels[train]), "test": (images[test], labels[test])}


def _read_npz(path: Path) -> dict[str, Split]:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path.absolute()}: give the path of an .npz file")
    try:
        with path.open("rb") as stream, np.load(stream) as file:
            arrays = {key: file[key] for key in file.files}
    except _DAMAGED as error:
        raise ValueError(f"{path} is not an .npz file of plain arrays: {error}") from error
    pairs = {key[2:]: (key, f"y_{key[2:]}") for key in arrays if key.startswith("x_")}
    pairs = {"train": ("images", "labels"), **pairs} if "images" in arrays else pairs
    missing = sorted({key for pair in pairs.values() for key in pair} - set(arrays))
    if missing or not pairs:
        raise ValueError(
            f"{path} must hold arrays images and labels, or x_train, y_train, x_test, y_test; "
            f"it holds {sorted(arrays)}" + (f" and lacks {missing}" if missing else "")
        )
    splits = {split: (arrays[x], arrays[y]) for split, (x, y) in pairs.items()}
    # Keras stores the labels of CIFAR-10 as a column.
    return {split: (x, y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y) for split, (x, y) in splits.items()}


def _select(name: str, split: str, splits: Mapping[str, Split], class_names: tuple[str, ...] = ()) -> Dataset:
    whole = {key: Dataset(images, labels, name) for key, (images, labels) in splits.items()}
    intervals = _intervals(name, split, {key: len(part) for key, part in whole.items()})
    images = np.concatenate([whole[key].images[start:stop] for key, start, stop in intervals])
    labels = np.concatenate([whole[key].labels[start:stop] for key, start, stop in intervals])
    return Dataset(images, labels, name, max(part.num_classes for part in whole.values()), class_names)


def _intervals(name: str, split: str, sizes: Mapping[str, int]) -> list[tuple[str, int, int]]:
    """The ranges of examples that `split` names, as (split, start, stop)."""
    from tensorflow_datasets.core import ReadInstruction, SplitInfo

    infos = {key: SplitInfo(name=key, shard_lengths=[size], num_bytes=0) for key, size in sizes.items()}
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
    builder = _tfds_builder(name, data_dir or os.environ.get("TFDS_DATA_DIR"))
    info = builder.info
    if not builder.is_prepared() or info.file_format.value == "tfrecord":  # which has no random access
        raise FileNotFoundError(
            f"data set {name!r} is not prepared in the array_record format: looked for {builder.data_dir}. "
            "Point data_dir or TFDS_DATA_DIR at the folder that holds it so, or prepare it, with TensorFlow "
            f"and a network, by: tfds build {name} --file_format=array_record"
        )
    image_key, label_key = info.supervised_keys

    def decode(key: str, start: int, stop: int) -> Split:
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
        return _cached(f"{info.full_name}-{key}", (files, start, stop), lambda: decode(key, start, stop))

    intervals = _intervals(name, split, {key: part.num_examples for key, part in info.splits.items()})
    parts = [read(*interval) for interval in intervals]
    images, labels = parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts))
    classes = info.features[label_key]
    class_names = tuple(classes.names or ())
    return Dataset(images, labels, name, classes.num_classes, class_names)


def _tfds_builder(name: str, data_dir: str | os.PathLike[str] | None) -> Any:
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=Path(data_dir).expanduser() if data_dir else None)
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


def _cached(title: str, identity: object, read: Callable[[], Split]) -> Split:
    """`read()`, kept on disk: decoding the PNG files of MNIST takes 10 s, mapping the arrays into memory no time."""
    folder = Path(os.environ.get("JSNN_CACHE_DIR", "~/.cache/jsnn")).expanduser()
    digest = hashlib.sha256(repr(identity).encode()).hexdigest()[:16]
    names = [f"{title.replace('/', '-')}-{digest}-{what}.npy" for what in ("images", "labels")]
    with suppress(OSError, *_DAMAGED):
        return np.load(folder / names[0], mmap_mode="r"), np.load(folder / names[1])
    arrays = read()
    # A read-only home or a full disk costs time at the next run, and nothing else.
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            for name, array in zip(names, arrays):
                np.save(Path(temporary) / name, array)
                os.replace(Path(temporary) / name, folder / name)
    return arrays


def epoch_permutation(key: Array, n: int, batch_size: int) -> Array:
    """The batches of one training epoch: every example at most once, in random order, the remainder dropped.

    Returns:
        int32 indices [n // batch_size, batch_size], for `images[indices[step]]`. `key` is consumed.

    Raises:
        ValueError: `batch_size` is not within 1..n.

    >>> epoch_permutation(jax.random.key(0), 10, 4).shape
    (2, 4)
    """
    if not 1 <= batch_size <= n:
        raise ValueError(f"batch_size must lie in 1..{n}, the number of examples, got {batch_size}")
    steps = n // batch_size
    order = jax.random.permutation(key, n)[: steps * batch_size]
    return order.reshape(steps, batch_size).astype(jnp.int32)


def pad_to_batches(n: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Batches of equal size for evaluation, with a mask that counts each of the `n` examples exactly once.

    Returns:
        int32 indices and a bool mask, both [ceil(n / batch_size), batch_size]; padding is index 0, False.

    Raises:
        ValueError: `n` or `batch_size` is less than 1.

    >>> indices, mask = pad_to_batches(5, 3)
    >>> indices.tolist(), mask.tolist()
    ([[0, 1, 2], [3, 4, 0]], [[True, True, True], [True, True, False]])
    """
    if n < 1 or batch_size < 1:
        raise ValueError(f"n and batch_size must be at least 1, got {n} and {batch_size}")
    steps = -(-n // batch_size)
    positions = np.arange(steps * batch_size, dtype=np.int32).reshape(steps, batch_size)
    mask = positions < n
    return positions * mask, mask


def batches(
    key: Array, dataset: Dataset, batch_size: int, *, drop_remainder: bool = True
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Streams one shuffled epoch from the host, in the order of `epoch_permutation` with the same key.

    An epoch repeats exactly where its key does, such as `jax.random.fold_in(jax.random.key(seed), epoch)`.

    Yields:
        images [batch_size, H, W, C] and labels [batch_size]; the last may be smaller if not dropped.

    Raises:
        ValueError: at the call, `batch_size` is less than 1, or so large that nothing is left after dropping.

    >>> dataset = Dataset(np.zeros((10, 8, 8, 1)), np.arange(10))
    >>> [len(labels) for _, labels in batches(jax.random.key(0), dataset, 4, drop_remainder=False)]
    [4, 4, 2]
    """
    unit = batch_size if drop_remainder else min(batch_size, 1)
    order = np.asarray(epoch_permutation(key, len(dataset), unit)).ravel()
    chunks = (order[start : start + batch_size] for start in range(0, len(order), batch_size))
    return ((dataset.images[chunk], dataset.labels[chunk]) for chunk in chunks)
