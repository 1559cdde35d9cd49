"""Data sets: the real ones, the user's own, splits, batches, and every bad input."""

import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsnn import data
from jsnn.data import Dataset, download
from jsnn.data.tfds_images import _class_names

SMALL = Dataset(np.arange(10, dtype=np.uint8)[:, None, None, None], np.arange(10))


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache folder of this test alone."""
    monkeypatch.setenv("JSNN_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


# Real sets


@pytest.mark.parametrize(
    ("name", "shape", "first_class"),
    [
        ("mnist", (28, 28, 1), "0"),
        ("fashion_mnist", (28, 28, 1), "T-shirt/top"),
        ("cifar10", (32, 32, 3), "airplane"),
    ],
)
def test_tfds_sets(name, shape, first_class, data_dir, cache):
    dataset = data.load(name, "test[:300]", data_dir)
    assert dataset.images.shape == (300, *shape)
    assert dataset.images.dtype == np.uint8
    assert dataset.images.max() > 200
    assert dataset.labels.shape == (300,)
    assert dataset.labels.dtype == np.int32
    assert set(dataset.labels) == set(range(10))
    assert (dataset.name, dataset.num_classes, len(dataset)) == (name, 10, 300)
    assert (dataset.class_names[0], len(dataset.class_names)) == (first_class, 10)


@pytest.mark.slow
def test_a_subset_is_a_stride_and_snntorchs_a_block():
    train = data.load("digits", "train")
    np.testing.assert_array_equal(data.subset(train, 10).labels, train.labels[::10])
    block = len(train) // 10
    np.testing.assert_array_equal(data.load("digits", f"train[:{block}]").labels, train.labels[:block])


NUMBERS = tuple(map(str, range(10)))


@pytest.mark.parametrize(
    ("name", "prepared", "last"),
    [
        ("cifar10", NUMBERS, "truck"),
        ("cifar10:3.0.2", (), "truck"),
        ("fashion_mnist/plain", NUMBERS, "Ankle boot"),
        ("cifar10", tuple("abcdefghij"), "j"),
        ("mnist", NUMBERS, "9"),
        ("cifar100", NUMBERS, "9"),
    ],
)
def test_classes_have_names_where_tfds_has_none(name, prepared, last):
    names = _class_names(name, prepared)
    assert (len(names), names[-1]) == (10, last)


def test_tfds_splits_agree_with_each_other_and_with_the_cache(data_dir, cache):
    whole = data.load("mnist", "test[100:300]", data_dir)
    again = data.load("mnist", "test[100:300]", data_dir)
    assert len(list(cache.glob("mnist-3.0.1-test-*-images.npy"))) == 1
    assert len(list(cache.iterdir())) == 2  # its labels
    np.testing.assert_array_equal(whole.images, again.images)
    np.testing.assert_array_equal(whole.labels, again.labels)
    assert isinstance(again.images.base, np.memmap)  # what is not looked at is not read
    parts = data.load("mnist", "test[100:150]+test[150:300]", data_dir)
    np.testing.assert_array_equal(whole.images, parts.images)
    assert len(data.load("mnist", "train[99%:]", data_dir)) == 600


def test_the_folder_of_sets_comes_from_the_environment(data_dir, cache, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", data_dir)
    assert len(data.load("mnist", "test[:7]")) == 7
    monkeypatch.setenv("TFDS_DATA_DIR", "/nowhere")
    assert len(data.load("mnist", "test[:7]", data_dir)) == 7
    with pytest.raises(FileNotFoundError, match="/elsewhere/mnist"):
        data.load("mnist", "test[:7]", "/elsewhere")  # nothing is fetched


FETCHED = ("mnist", "fashion_mnist", "cifar10")


def fill(downloads, name, dataset, monkeypatch):
    """Write the files that `load` fetches for a test split, in another order than TFDS has; return their digest."""
    images, labels = dataset.images[::-1], dataset.labels[::-1].astype(np.uint8)
    downloads.mkdir(parents=True)
    if name == "cifar10":
        records = np.column_stack([labels, images.transpose(0, 3, 1, 2).reshape(len(labels), -1)])
        with tarfile.open(downloads / "cifar-10-binary.tar.gz", "w:gz", compresslevel=1) as tar:
            for member in ("batches.meta.txt", "test_batch.bin"):
                info = tarfile.TarInfo(f"cifar-10-batches-bin/{member}")
                info.size = records.nbytes
                tar.addfile(info, io.BytesIO(records.tobytes()))
    else:
        for what, header, array in (("images-idx3", 16, images), ("labels-idx1", 8, labels)):
            file = downloads / f"t10k-{what}-ubyte.gz"
            file.write_bytes(gzip.compress(bytes(header) + array.tobytes(), compresslevel=1))
    source = download.SOURCES[name]["test"]
    files = [f._replace(md5=hashlib.md5((downloads / f.name).read_bytes()).hexdigest()) for f in source.files]
    monkeypatch.setitem(download.SOURCES, name, {"test": source._replace(files=files)})


@pytest.mark.rows(1)
@pytest.mark.parametrize("name", FETCHED)
def test_sets_that_are_not_prepared_are_fetched(name, data_dir, cache, monkeypatch):
    expected = data.load(name, "test", data_dir)
    monkeypatch.setenv("TFDS_DATA_DIR", "/nowhere")
    fill(cache / "downloads" / name, name, expected, monkeypatch)
    found = data.load(name, "test")
    np.testing.assert_array_equal(found.images, expected.images[::-1])
    np.testing.assert_array_equal(found.labels, expected.labels[::-1])
    assert (found.class_names, found.num_classes) == (expected.class_names, 10)
    shutil.rmtree(cache / "downloads")  # the decoded arrays are kept
    np.testing.assert_array_equal(data.load(name, "test[10:20]").labels, found.labels[10:20])
    np.testing.assert_array_equal(data.load(name, "test[:5]+test[90%:]").images[5:], found.images[9000:])


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", FETCHED)
def test_a_prepared_set_has_the_checksum_that_a_fetched_one_must_have(name, split, data_dir):
    dataset = data.load(name, split, data_dir)
    assert download.digest_of(dataset.images, dataset.labels) == download.SOURCES[name][split].digest


@pytest.mark.slow
def test_fetched_files_with_other_images_are_refused(data_dir, cache, monkeypatch):
    other = data.load("fashion_mnist", "test", data_dir)
    monkeypatch.setenv("TFDS_DATA_DIR", "/nowhere")
    fill(cache / "downloads" / "mnist", "mnist", other, monkeypatch)
    with pytest.raises(ValueError, match=r"data set 'mnist' in .*downloads/mnist hold other images .* delete them"):
        data.load("mnist", "test")


def test_without_a_network_every_other_way_is_named(cache, monkeypatch):
    asked = []

    def retrieve(address, *_, **__):
        asked.append(address)
        raise [ConnectionError("no route"), ValueError("another checksum")][len(asked) % 2]

    monkeypatch.setattr("pooch.retrieve", retrieve)
    monkeypatch.setenv("TFDS_DATA_DIR", "/nowhere")
    with pytest.raises(FileNotFoundError) as caught:
        data.load("mnist", "test[:7]")
    assert [address.split("/")[2] for address in asked] == ["ossci-datasets.s3.amazonaws.com", "storage.googleapis.com"]
    for part in (
        *("data set 'mnist' cannot be fetched (ConnectionError at https://storage.googleapis.com", "network"),
        *("mnist/t10k-labels-idx1-ubyte.gz into", str(cache / "downloads"), ".npz file", "digits", "TFDS_DATA_DIR"),
        *("tfds build mnist", "/nowhere/mnist"),
    ):
        assert part in str(caught.value)


def test_a_damaged_or_unwritable_cache_is_no_error(data_dir, cache, monkeypatch, tmp_path):
    expected = data.load("mnist", "test[:20]", data_dir).labels
    for file in sorted(cache.iterdir()):
        file.write_bytes(file.read_bytes()[:100])
        np.testing.assert_array_equal(data.load("mnist", "test[:20]", data_dir).labels, expected)
        assert len(np.load(file)) == 20
    (tmp_path / "file").touch()
    monkeypatch.setenv("JSNN_CACHE_DIR", str(tmp_path / "file"))
    np.testing.assert_array_equal(data.load("mnist", "test[:20]", data_dir).labels, expected)


def test_another_prepared_file_is_not_served_from_the_cache(data_dir, cache, tmp_path):
    prepared = tmp_path / "prepared" / "mnist" / "3.0.1"
    prepared.mkdir(parents=True)
    for source in (Path(data_dir) / "mnist" / "3.0.1").iterdir():
        (prepared / source.name).write_bytes(source.read_bytes())
    data.load("mnist", "test[:20]", tmp_path / "prepared")
    os.utime(prepared / "mnist-test.array_record-00000-of-00001", (1, 1))
    data.load("mnist", "test[:20]", tmp_path / "prepared")
    assert len(list(cache.iterdir())) == 4


@pytest.mark.slow
def test_tensorflow_is_not_imported(data_dir, cache):
    code = (
        "import sys; from jsnn import data; assert 'tensorflow_datasets' not in sys.modules;"
        f"data.load('mnist', 'test[:5]', {data_dir!r}); data.load('digits', 'test');"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


def test_digits():
    train, test = data.load("digits", "train"), data.load("digits", "test")
    assert (len(train), len(test)) == (1437, 360)
    assert train.images.shape[1:] == (8, 8, 1)
    assert train.images.dtype == np.uint8
    assert (train.images.min(), train.images.max()) == (0, 255)
    assert train.num_classes == test.num_classes == 10
    assert train.class_names[3] == "3"
    shares = np.bincount(train.labels) / np.bincount(np.concatenate([train.labels, test.labels]))
    np.testing.assert_allclose(shares, 0.8, atol=0.01)


def test_digits_hold_every_image_of_scikit_learn_once():
    from sklearn.datasets import load_digits

    both = data.load("digits", "all")
    pixels, labels = load_digits(return_X_y=True)
    ours = np.column_stack([np.round(both.images.reshape(-1, 64) / (255 / 16)), both.labels])
    theirs = np.column_stack([pixels, labels])
    assert sorted(map(tuple, ours)) == sorted(map(tuple, theirs))


@pytest.mark.rows(3)
@pytest.mark.parametrize(
    ("split", "start", "stop"),
    [("train[:100]", 0, 100), ("train[90%:]", 1293, 1437), ("train[-10:]", 1427, 1437), ("train[5:9]", 5, 9)],
)
def test_parts_of_a_split(split, start, stop):
    train = data.load("digits", "train")
    np.testing.assert_array_equal(data.load("digits", split).images, train.images[start:stop])
    np.testing.assert_array_equal(data.load("digits", split).labels, train.labels[start:stop])


# The user's own


def test_npz_as_keras_writes_it(tmp_path):
    images = np.arange(6 * 4 * 4, dtype=np.uint8).reshape(6, 4, 4)
    labels = np.array([[0], [1], [2], [0], [1], [5]])  # a column, as in Keras's CIFAR-10
    path = tmp_path / "own.npz"
    np.savez(path, x_train=images[:4], y_train=labels[:4], x_test=images[4:], y_test=labels[4:])
    train, test = data.load(path, "train"), data.load(str(path), "test")
    np.testing.assert_array_equal(train.images, images[:4, ..., None])
    np.testing.assert_array_equal(test.labels, [1, 5])
    assert train.num_classes == test.num_classes == 6
    assert len(data.load(path, "train[:50%]+test")) == 4


def test_npz_of_images_and_labels_is_one_split(tmp_path):
    images = np.linspace(0, 1, 5 * 2 * 2 * 3, dtype=np.float32).reshape(5, 2, 2, 3)
    np.savez(tmp_path / "own.npz", images=images, labels=np.arange(5))
    loaded = data.load(tmp_path / "own.npz", "train[1:]")
    np.testing.assert_array_equal(loaded.images, images[1:])
    assert loaded.images.dtype == np.float32


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros(3)}, r"must hold arrays images and labels.* it holds \['a'\]"),
        ({"images": np.zeros((3, 2, 2))}, r"lacks \['labels'\]"),
        ({"x_train": np.zeros((3, 2, 2)), "y_test": np.zeros(3)}, r"lacks \['y_train'\]"),
        ({"images": np.zeros((3, 2, 2)), "labels": np.array([{}] * 3)}, "not an .npz file of plain arrays"),
        ({"x_all": np.zeros((3, 2)), "y_all": np.zeros(3)}, "no split .* may be called 'all', which stands for all"),
        (
            {"x_a": np.zeros((3, 2)), "y_a": np.zeros(3), "x_b": np.zeros((1, 4)), "y_b": np.zeros(1)},
            r"one shape to be joined, got {'a': \(2,\), 'b': \(4,\)}: load them one by one",
        ),
    ],
)
def test_npz_with_other_arrays(tmp_path, arrays, message):
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        data.load(tmp_path / "own.npz", "all")


def test_npz_missing_or_damaged(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*/own.npz"):
        data.load(tmp_path / "own.npz", "train")
    for content in (b"", b"text", b"PK\x03\x04text"):
        (tmp_path / "own.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"is not an .npz file"):
            data.load(tmp_path / "own.npz", "train")
    with (tmp_path / "own.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match=r"is not an .npz file"):
        data.load(tmp_path / "own.npz", "train")


@pytest.mark.parametrize(
    ("images", "labels", "options", "message"),
    [
        (np.zeros(2), [0, 1], {}, r"inputs must have shape \[N, H, W, C\] or \[N, F\], got \(2,\)"),
        (np.zeros(2), [0, 1], {"in_time": True}, r"inputs must have shape \[N, T, ...\], got \(2,\)"),
        (np.zeros((2, 8, 8), np.int64), [0, 1], {}, "inputs must be uint8 .* got int64"),
        (np.zeros((2, 8, 8)), [0.0, 1.0], {"num_classes": 2}, "targets must be integers where there are classes"),
        (np.zeros((2, 8, 8)), [0.0, np.nan], {}, "targets must be finite, got nan"),
        (np.array([[0.0, np.nan], [0, 0]]), [0, 1], {}, "inputs must be finite, got nan"),
        (np.array([[0.0, -np.inf], [0, 0]], np.float16), [0, 1], {}, "inputs must be finite, got -inf"),
        (np.zeros((2, 8, 8)), [0, 1], {"num_classes": 3, "class_names": ("a", "b")}, "class_names must be one for"),
        (np.zeros((2, 8, 8)), [True, False], {}, r"targets must be integers \(classes\) or floating point"),
        (np.zeros((2, 8, 8)), np.eye(2, dtype=int), {}, r"of shape \(2, 2\): one-hot classes"),
        (np.zeros((2, 8)), np.ones((2, 1), int), {}, r"of shape \(2, 1\): take targets\[..., 0\]"),
        (np.zeros((2, 8)), np.ones(2), {"num_classes": 2}, r"got float64 of shape \(2,\): take targets.astype\(int\)"),
        (np.zeros((2, 8)), np.array(["cat", "dog"]), {}, r"got <U3: take np.unique\(targets, return_inverse=True\)"),
        (np.zeros((2, 8, 3)), np.eye(2, dtype=int), {"in_time": True}, r"of shape \(2, 2\): one-hot classes"),
        (np.zeros((2, 8, 8)), [0, 1, 1], {}, r"as many, got shapes \(2, 8, 8\) and \(3,\)"),
        (np.zeros((0, 8, 8)), np.zeros(0, int), {}, "holds no examples"),
        (np.zeros((2, 8, 8)), [0, -1], {}, r"classes must lie in 0..0, got values from -1 to 0"),
        (np.zeros((2, 8, 8)), [-1, -1], {}, r"classes must lie in 0..0, got values from -1 to -1"),
        (np.zeros((2, 8, 8), complex), [0, 1], {}, "inputs must be uint8 .* got complex128"),
        (np.zeros((2, 8, 8)), [0, 2**40], {}, "classes must lie in 0..2147483646, got values from 0 to 1099511627776"),
        (np.zeros((2, 8, 8)), [0, 7], {"num_classes": 5}, r"classes must lie in 0..4, got values from 0 to 7"),
        (np.zeros((2, 8, 8)), [0, 2], {"class_names": ("a", "b")}, r"classes must lie in 0..1"),
    ],
)
def test_bad_arrays(images, labels, options, message):
    with pytest.raises(ValueError, match=message):
        Dataset(images, labels, **options)


@pytest.mark.parametrize(
    ("inputs", "targets", "options", "shapes"),
    [
        (np.zeros((2, 64)), [0.5, 1.5], {}, ((2, 64), (2,))),
        (np.zeros((2, 9)) > 0, [0, 1], {"in_time": True}, ((2, 9, 1), (2,))),
        (np.zeros((2, 9, 3)), np.zeros((2, 9), int), {"in_time": True}, ((2, 9, 3), (2, 9))),
        (np.zeros((2, 9, 3)), np.zeros((2, 9, 4)), {"in_time": True}, ((2, 9, 3), (2, 9, 4))),
    ],
)
def test_examples_in_time_and_targets_that_are_values(inputs, targets, options, shapes, tmp_path):
    made = Dataset(inputs, targets, **options)
    assert (made.inputs.shape, made.targets.shape) == shapes
    assert made.inputs.dtype in (np.float32, np.float64)
    assert (made.targets.dtype == np.float32) == (made.num_classes == 0)
    np.savez(tmp_path / "own.npz", inputs=made.inputs, targets=made.targets, in_time=made.in_time)
    read = data.load(tmp_path / "own.npz", "train")
    np.testing.assert_array_equal(read.inputs, made.inputs)
    np.testing.assert_array_equal(read.targets, made.targets)
    assert (read.in_time, read.num_classes) == (made.in_time, made.num_classes)


def recordings(count=6, steps=4, **options):
    """Recordings whose numbers are their index, with lengths that tell it too."""
    index = np.arange(count)
    inputs = np.broadcast_to(index[:, None, None], (count, steps, 2)).astype(np.float32)
    return Dataset(inputs, index, in_time=True, lengths=index % steps + 1, **options)


def test_lengths_are_kept_with_their_recordings():
    made = recordings()
    assert made.lengths.dtype == np.int32
    for part in (made, data.subset(made, 2)):
        np.testing.assert_array_equal(part.lengths, part.targets % 4 + 1)
        assert isinstance(part.examples, data.Padded)
        np.testing.assert_array_equal(part.examples.lengths, part.lengths)
    assert isinstance(SMALL.examples, np.ndarray)
    for padded, labels in data.batches(jax.random.key(0), made, 4, drop_remainder=False):
        np.testing.assert_array_equal(padded.inputs[:, 0, 0], labels)
        np.testing.assert_array_equal(padded.lengths, labels % 4 + 1)


@pytest.mark.parametrize("train_alone", [False, True])
def test_npz_with_lengths(tmp_path, train_alone):
    made, arrays = recordings(), {"in_time": True}
    for name, part in {"train": slice(0, 4), "test": slice(4, 6)}.items():
        arrays |= {
            f"x_{name}": made.inputs[part],
            f"y_{name}": made.targets[part],
            f"lengths_{name}": made.lengths[part],
        }
    if train_alone:
        del arrays["lengths_test"]
    np.savez(tmp_path / "own.npz", **arrays)
    for split, indices in {"train[1:3]": [1, 2], "test[1:]+train[:2]": [5, 0, 1]}.items():
        read = data.load(tmp_path / "own.npz", split)
        np.testing.assert_array_equal(read.targets, indices)
        own = np.where((read.targets > 3) & train_alone, 4, read.targets % 4 + 1)
        np.testing.assert_array_equal(read.lengths, own)
    np.savez(tmp_path / "one.npz", inputs=made.inputs, targets=made.targets, lengths=made.lengths, in_time=True)
    np.testing.assert_array_equal(data.load(tmp_path / "one.npz", "train[2:]").lengths, made.lengths[2:])


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ({"lengths": [1, 2]}, ValueError, r"lengths are for recordings, inputs \[N, T, ...\]: set in_time=True"),
        ({"lengths": [1, 5], "in_time": True}, ValueError, r"lengths must lie in 1\.\.4, .* got 5"),
        ({"lengths": [0, 4], "in_time": True}, ValueError, r"lengths must lie in 1\.\.4, .* got 0"),
        ({"lengths": [1, 2, 3], "in_time": True}, ValueError, r"lengths must have shape \(2,\), .* got \(3,\)"),
        ({"lengths": [1.0, 2.0], "in_time": True}, TypeError, "lengths must be integers, .* got float64"),
        ({"lengths": [True, True], "in_time": True}, TypeError, "lengths must be integers, .* got bool"),
        (
            {"lengths_test": [1, 2], "in_time": True},
            ValueError,
            r"holds \['lengths_test'\] of no split: .* lengths_NAME",
        ),
        (
            {"lengths": [1, 2], "in_time": True, "targets": np.array([[0, 1, 1, 1], [0, 0, -1, -1]])},
            ValueError,
            r"classes must lie in 0..1, got values from -1 to 1: padding takes any class, such as 0",
        ),
    ],
)
def test_bad_lengths(tmp_path, arrays, error, message):
    arrays = {"inputs": np.zeros((2, 4, 3)), "targets": np.arange(2)} | arrays
    if "lengths" in arrays:
        with pytest.raises(error, match=message):
            Dataset(**arrays)
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(error, match=message):
        data.load(tmp_path / "own.npz", "train")


# Names and splits that are not there


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnistt", "unknown data set 'mnistt', did you mean 'mnist'"),
        ("digit", "did you mean 'digits'"),
        ("cifar-10", "did you mean 'cifar10'"),
        ("", "unknown data set ''"),
        ("mnist:9.9.9", "unknown data set 'mnist:9.9.9'.*3.0.1"),
        ("mnist/no_such", "unknown data set 'mnist/no_such'.*no_such not found"),
        ("imdb_reviews", "not one of images with a class label"),
        ("celeb_a", "not one of images with a class label"),
    ],
)
def test_unknown_names(name, message, data_dir):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        data.load(name, "train", data_dir)


@pytest.mark.parametrize("name", ["digits", "yin_yang", "own.npz", Path("folder"), "./folder", "spikes.h5"])
def test_a_folder_of_prepared_sets_where_there_are_none(name, tmp_path):
    with pytest.raises(
        ValueError, match=rf"only for data sets of TFDS and tonic: leave it out for '{re.escape(str(name))}'"
    ):
        data.load(name, "train", tmp_path)


def test_a_set_that_is_not_prepared_says_where_and_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        data.load("cifar100", "train", tmp_path)
    for part in (str(tmp_path / "cifar100"), "TFDS_DATA_DIR", "data_dir", "tfds build cifar100"):
        assert part in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("given", ["mnist", "mnist/3.0.1"])
def test_a_folder_that_is_the_set_itself_is_named_with_the_one_above(given, tmp_path):
    (tmp_path / "mnist" / "3.0.1").mkdir(parents=True)
    (tmp_path / "mnist" / "3.0.1" / "dataset_info.json").write_text("{}")
    message = f"{tmp_path / given} is the folder of the set itself: give the folder above it, {tmp_path}\\."
    with pytest.raises(FileNotFoundError, match=message):
        data.load("mnist", "train", tmp_path / given)


def test_no_advice_to_install_opencv(data_dir, cache, caplog, monkeypatch):
    from absl import logging

    monkeypatch.setattr(logging, "log_first_n", lambda level, message, n, *args: logging.log(level, message, *args))
    with caplog.at_level("WARNING"):
        data.load("mnist", "train[:2]", data_dir)
    assert "OpenCV" not in caplog.text


def test_a_set_prepared_without_random_access_is_refused(data_dir, tmp_path):
    prepared = tmp_path / "mnist" / "3.0.1"
    prepared.mkdir(parents=True)
    for source in (Path(data_dir) / "mnist" / "3.0.1").glob("*.json"):
        (prepared / source.name).write_text(source.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(FileNotFoundError, match="not prepared in the array_record format"):
        data.load("mnist", "train", tmp_path)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("trian", r"'trian'.*train \(1,437 examples\), test \(360 examples\)"),
        ("train[:9999]", "9999.*1437 examples"),
        ("train[::2]", "bad split"),
        ("train[5", "bad split"),
        ("", "bad split"),
        ("train[20:10]", "holds no examples"),
    ],
)
def test_bad_splits(split, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        data.load("digits", split)


def test_bad_split_of_a_tfds_set(data_dir):
    with pytest.raises(ValueError, match=r"(?s)'valid' of data set 'mnist'.*test \(10,000 examples\)"):
        data.load("mnist", "valid", data_dir)


# Batches


@pytest.mark.rows(2)
@pytest.mark.parametrize(("n", "batch_size", "steps"), [(10, 3, 3), (10, 5, 2), (7, 7, 1), (5, 1, 5)])
def test_epoch_permutation_visits_each_example_at_most_once(n, batch_size, steps):
    permutation = jax.jit(data.epoch_permutation, static_argnums=(1, 2))
    indices = permutation(jax.random.key(0), n, batch_size)
    assert indices.shape == (steps, batch_size)
    assert indices.dtype == jnp.int32
    assert len(set(np.ravel(indices))) == steps * batch_size
    assert set(np.ravel(indices)) <= set(range(n))
    np.testing.assert_array_equal(indices, data.epoch_permutation(jax.random.key(0), n, batch_size))


def test_epoch_permutation_differs_from_key_to_key():
    first, second = (data.epoch_permutation(jax.random.key(seed), 1000, 10) for seed in (0, 1))
    assert (first != second).mean() > 0.9


@pytest.mark.parametrize(("n", "batch_size"), [(1, 1), (10, 3), (9, 3), (2, 5)])
def test_pad_to_batches_counts_each_example_once(n, batch_size):
    indices, mask = data.pad_to_batches(n, batch_size)
    assert indices.shape == mask.shape == (-(-n // batch_size), batch_size)
    assert (indices.dtype, mask.dtype) == (np.int32, np.bool_)
    np.testing.assert_array_equal(indices[mask], np.arange(n))
    assert (indices[~mask] == 0).all()


def test_batches_stream_the_order_of_epoch_permutation():
    key = jax.random.fold_in(jax.random.key(3), 7)
    streamed = list(data.batches(key, SMALL, 4))
    for (images, labels), indices in zip(streamed, data.epoch_permutation(key, 10, 4), strict=True):
        np.testing.assert_array_equal(labels, indices)
        np.testing.assert_array_equal(images[:, 0, 0, 0], indices)
    whole = np.concatenate([labels for _, labels in data.batches(key, SMALL, 4, drop_remainder=False)])
    np.testing.assert_array_equal(whole[:8], np.concatenate([labels for _, labels in streamed]))
    assert sorted(whole) == list(range(10))


def test_a_set_smaller_than_a_batch_is_one_batch_when_nothing_is_dropped():
    [(images, labels)] = data.batches(jax.random.key(0), SMALL, 64, drop_remainder=False)
    assert images.shape == (10, 1, 1, 1)
    assert sorted(labels) == list(range(10))


def test_subset_keeps_every_so_manyth_example():
    whole = Dataset(SMALL.images, SMALL.labels, "ten", 12)
    part = data.subset(whole, 4)
    np.testing.assert_array_equal(part.labels, [0, 4, 8])
    np.testing.assert_array_equal(part.images[:, 0, 0, 0], [0, 4, 8])
    assert (part.name, part.num_classes) == ("ten", 12)
    assert len(data.subset(whole, 1)) == 10
    assert len(data.subset(whole, 10)) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: data.subset(SMALL, 0), r"factor must lie in 1..10, .* got 0"),
        (lambda: data.subset(SMALL, 11), r"factor must lie in 1..10, .* got 11"),
        (lambda: data.epoch_permutation(jax.random.key(0), 10, 0), r"must lie in 1..10, .* got 0"),
        (lambda: data.epoch_permutation(jax.random.key(0), 10, 11), r"must lie in 1..10, .* got 11"),
        (lambda: data.pad_to_batches(0, 4), "n and batch_size must be at least 1, got 0 and 4"),
        (lambda: data.pad_to_batches(4, -1), "n and batch_size must be at least 1, got 4 and -1"),
        (lambda: data.batches(jax.random.key(0), SMALL, 11), "got 11"),
        (lambda: data.batches(jax.random.key(0), SMALL, -3, drop_remainder=False), "got -3"),
    ],
)
def test_bad_batches(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("split", "indices"), [
    ("train[:1shard]", range(3)), ("train[1shard:]", range(3, 10)), ("train[1shard:2shard]", range(3, 8)),
    ("train[-1shard:]", range(8, 10)), ("train[:2shard]+test[:1shard]", [*range(8), 0]),
    ("train[:4]", range(4)), ("train", range(10)),
])  # fmt: skip
def test_shards_of_a_set_in_several_files(cache, monkeypatch, split, indices):
    """The train split of this set lies in three files of 3, 5 and 2 images, each of its index."""
    paths = [cache.parent / f"part{index}" for index in range(3)]
    for path in paths:
        path.touch()

    def images(key):
        examples = [{"image": np.full((2, 2, 1), index, np.uint8), "label": index} for index in range(10)]
        return SimpleNamespace(__getitems__=lambda rows: [examples[row] for row in rows])

    splits = {
        key: SimpleNamespace(shard_lengths=lengths, num_examples=sum(lengths), filepaths=paths)
        for key, lengths in {"train": [3, 5, 2], "test": [1]}.items()
    }
    info = SimpleNamespace(
        splits=splits, supervised_keys=("image", "label"), full_name="sharded/1.0.0",
        features={"label": SimpleNamespace(num_classes=10, names=None)},
        file_format=SimpleNamespace(value="array_record"),
    )  # fmt: skip
    builder = SimpleNamespace(info=info, is_prepared=lambda: True, as_data_source=lambda split: images(split))
    monkeypatch.setattr("jsnn.data.tfds_images._tfds_builder", lambda name, data_dir: builder)
    found = data.load("sharded", split)
    assert found.labels.tolist() == found.images[:, 0, 0, 0].tolist() == list(indices)


def test_yin_yang_is_made_by_its_key():
    points = data.yin_yang(jax.random.key(3), 600)
    again, other = data.yin_yang(jax.random.key(3), 600), data.yin_yang(jax.random.key(4), 600)
    np.testing.assert_array_equal(points.inputs, again.inputs)
    assert not np.array_equal(points.inputs, other.inputs)
    assert points.inputs.dtype == np.float32
    np.testing.assert_allclose(points.inputs[:, 2:], 1 - points.inputs[:, :2])
    assert (np.hypot(*(points.inputs[:, :2] - 0.5).T) <= 0.5).all()
    assert np.bincount(points.targets).min() > 160
    assert [len(data.load("yin_yang", split)) for split in ("train", "validation", "test")] == [5000, 1000, 1000]
    part = data.load("yin_yang", "test[:10]")
    np.testing.assert_array_equal(part.inputs, data.load("yin_yang", "test").inputs[:10])
    with pytest.raises(ValueError, match="num_examples must be >= 1, got 0"):
        data.yin_yang(jax.random.key(0), 0)


@pytest.mark.parametrize(
    ("point", "name"),
    [
        *[((0.5, 0.9), "yang"), ((0.25, 0.65), "yang"), ((0.1, 0.5), "yang"), ((0.6, 0.9), "yang")],
        *[((0.5, 0.1), "yin"), ((0.75, 0.35), "yin"), ((0.9, 0.5), "yin"), ((0.75, 0.65), "yin")],
        *[((0.25, 0.5), "dot"), ((0.75, 0.59), "dot")],
    ],
)
def test_yin_yang_has_the_classes_of_its_figure(point, name):
    found = data.yin_yang(jax.random.key(0), 6000)
    nearest = np.argmin(np.hypot(*(found.inputs[:, :2] - point).T))
    assert found.class_names[found.targets[nearest]] == name
