"""MNIST, Fashion-MNIST and CIFAR-10, fetched from where their authors put them; TensorFlow is not needed."""

import gzip
import hashlib
import os
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from jsnn.extras import require

Split: TypeAlias = tuple[np.ndarray, np.ndarray]  # images and labels


class File(NamedTuple):
    """A file on the web."""

    name: str
    md5: str
    addresses: Sequence[str]
    """Of the folders that have it; the first that answers is taken."""


class Source(NamedTuple):
    """Where one split of a data set comes from."""

    files: Sequence[File]
    read: Callable[..., Split]
    """Of the paths of the files."""
    digest: str
    """Of the decoded arrays, see `digest_of`."""
    size: int
    """Examples."""


def fetch(name: str, split: str, folder: Path) -> Split:
    """Return the images and labels of a split, in their authors' order; download the files that `folder` lacks.

    Args:
        name: one of `SOURCES`.
        split: "train" or "test".
        folder: where the downloaded files are kept.

    Raises:
        OSError: if a file cannot be downloaded.
        ValueError: if a file, or what is decoded from it, is not the data set's.
    """
    source = SOURCES[name][split]
    images, labels = source.read(*[_download(file, folder) for file in source.files])
    if digest_of(images, labels) != source.digest:
        raise ValueError(f"the files of data set {name!r} in {folder} hold other images than the set has: delete them")
    return images, labels


def digest_of(images: np.ndarray, labels: np.ndarray) -> str:
    """Return a checksum of uint8 images with their labels, the same in any order."""
    examples = (hashlib.sha256(image.tobytes() + bytes([label])).digest() for image, label in zip(images, labels))
    return hashlib.sha256(b"".join(sorted(examples))).hexdigest()


def _download(file: File, folder: Path) -> Path:
    """Return the path of a file in the folder; where it is not there, it is downloaded with a progress bar."""
    require("data", "pooch")
    import pooch

    for address in file.addresses:
        try:
            path = pooch.retrieve(
                address + file.name, f"md5:{file.md5}", file.name, os.fspath(folder), progressbar=True
            )
        except (OSError, ValueError) as error:  # no answer, or another file than the checksum says
            failure = error
        else:
            return Path(path)
    raise OSError(f"{type(failure).__name__} at {address}{file.name}") from failure


def _read_idx(images: Path, labels: Path) -> Split:
    """Return the arrays of two files as MNIST has them: a header, then a byte for each pixel or label."""
    pixels, classes = (np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8) for path in (images, labels))
    return pixels[16:].reshape(-1, 28, 28, 1), classes[8:]


def _read_cifar(archive: Path, members: str) -> Split:
    """Return the arrays of CIFAR-10's binary version: a byte for the label, then 3 x 32 x 32 pixels."""
    with tarfile.open(archive) as tar:
        files = [tar.extractfile(name) for name in sorted(tar.getnames()) if members in name]
        records = np.frombuffer(b"".join(file.read() for file in files if file), np.uint8).reshape(-1, 3073)
    return np.ascontiguousarray(records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), records[:, 0]


def _idx(addresses: Sequence[str], prefix: str, md5s: tuple[str, str], digest: str, size: int) -> Source:
    names = (f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz")
    return Source([File(name, md5, addresses) for name, md5 in zip(names, md5s)], _read_idx, digest, size)


_MNIST = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
_FASHION = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
_CIFAR = File("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", ["https://www.cs.toronto.edu/~kriz/"])

SOURCES: dict[str, dict[str, Source]] = {
    "mnist": {
        "train": _idx(
            _MNIST,
            "train",
            ("f68b3c2dcbeaaa9fbdd348bbdeb94873", "d53e105ee54ea40749a09fcbcd1e9432"),
            "54e1ab866c9484947dd4821c52bb7a43938f555d6b046be6af55247f8e6ffc64",
            60_000,
        ),
        "test": _idx(
            _MNIST,
            "t10k",
            ("9fb629c4189551a2d022fa330f9573f3", "ec29112dd5afa0611ce80d1b7f02629c"),
            "97b756d55950f1841ebd48df7379b9b2fc87a10d63e08d6213dad41d564e8508",
            10_000,
        ),
    },
    "fashion_mnist": {
        "train": _idx(
            _FASHION,
            "train",
            ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe"),
            "fb88a2f5c1b590c907f860b47803d006e4fa7b276cdb551799af9d443accdff7",
            60_000,
        ),
        "test": _idx(
            _FASHION,
            "t10k",
            ("bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310"),
            "0b381379398a0943a88bf3864ff3f5177903dcf178030b4b74c495294b38fa7c",
            10_000,
        ),
    },
    "cifar10": {
        "train": Source(
            [_CIFAR],
            lambda archive: _read_cifar(archive, "data_batch_"),
            "fd3c946e509ad794a334a99e983cc726a1a7cd541d1f52d23c4bc0a853fd16c4",
            50_000,
        ),
        "test": Source(
            [_CIFAR],
            lambda archive: _read_cifar(archive, "test_batch"),
            "1e17dc9f5cc6ce7cd0d0bb0000bbd275b71cd22c3b28ec96a94019904c263f6f",
            10_000,
        ),
    },
}
"""The sets that can be fetched, by the names that TFDS has for them, and their splits.

The images of a split are those that TFDS has, in another order: TFDS shuffles them.
"""
