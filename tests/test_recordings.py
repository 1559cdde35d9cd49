"""Recordings of sound and events: the layouts of folders, arrays of one length, the cache, streaming, and bad input."""

import dataclasses
import functools
import importlib
import os
import shutil
import struct
import sys
import time
import tracemalloc
import wave
import zipfile
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from event_writers import as_aedat3, as_bin, some_events, write_shd
from scipy.io import wavfile

import jsnn
from jsnn import data, train
from jsnn.data import Frames, Recordings
from jsnn.data.cache import identity_of

KEY = jax.random.key(5)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache folder of this test alone."""
    monkeypatch.setenv("JSNN_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


# Sound


RAMP = np.array([[0, 0], [127, -128], [64, 32], [-128, 127]]) / 128  # which 8 bits hold


def write_pcm(path: Path, width: int, samples: np.ndarray, rate: int) -> None:
    """Integers of `width` bytes; one byte has its zero at 128."""
    numbers = np.round(samples * 2 ** (8 * width - 1)).astype(int) + 128 * (width == 1)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(b"".join(int(n).to_bytes(width, "little", signed=width > 1) for n in numbers.ravel()))


def as_rf64(wav: bytes, size: int) -> bytes:
    """A wav file of 16 bits as RF64, which says the size of its sound in a chunk of its own."""
    sizes = struct.pack("<4sIQQQI", b"ds64", 28, len(wav) + 28, size, size // 2, 0)
    return b"RF64" + b"\xff" * 4 + b"WAVE" + sizes + wav[12:40] + b"\xff" * 4 + wav[44:]


@pytest.mark.parametrize("rate", [8_000, 44_100])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kind", [1, 2, 3, 4, np.float32, np.float64])
def test_every_kind_of_wav_file_gives_the_same_sound(kind, channels, rate, tmp_path):
    samples, path = RAMP[:, :channels], tmp_path / "a.wav"
    if isinstance(kind, int):
        write_pcm(path, kind, samples, rate)
    else:
        wavfile.write(path, rate, samples[:, 0].astype(kind) if channels == 1 else samples.astype(kind))
    sound = data.read_sound(path)
    assert (sound.sample_rate, sound.samples.dtype) == (rate, np.float32)
    np.testing.assert_allclose(sound.samples, samples, atol=1e-7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: b"", "it is not a wav file: it begins with b''"),
        (lambda c: b"ID3 no wav file", "it is not a wav file: it begins with b'ID3"),
        (lambda c: c[:-1], "it is truncated: it says that 44 bytes follow, and there are 43"),
        (lambda c: c[:20], "it is truncated"),
        (lambda c: c[:4] + struct.pack("<I", 36) + c[8:40] + bytes(4), "it holds no sound: 0 samples at 8000 Hz"),
        (lambda c: c[:20] + b"\x07\xff" + c[22:], "Unknown wave file format"),
        (lambda c: c[:12] + bytes(len(c) - 12), "it has no chunk 'fmt '"),
        (lambda c: c[:36], "it is truncated"),
        (lambda c: c[:4] + struct.pack("<I", 28) + c[8:36], "it has no chunk 'data'"),
        (lambda c: c[:40] + struct.pack("<I", 99) + c[44:], "it is truncated: it says that 99 bytes follow"),
        (lambda c: c[:40] + struct.pack("<I", 3 * 2**30) + c[44:], "it is truncated: it says that 3,221,225,472 bytes"),
        (lambda c: as_rf64(c, 9), "it is truncated: it says that 9 bytes follow, and there are 8"),
        (lambda c: c[:22] + bytes(2) + c[24:], "its 8 bytes of sound must be whole frames, of 0 channels of 16 bits"),
        (lambda c: c[:32] + b"\3" + c[33:], "its 8 bytes of sound must be .* of 1 channels of 16 bits, in 3 bytes"),
    ],
)
def test_files_that_are_no_wav_files(change, message, tmp_path):
    write_pcm(tmp_path / "a.wav", 2, RAMP[:, :1], 8_000)
    (tmp_path / "a.wav").write_bytes(change((tmp_path / "a.wav").read_bytes()))
    with pytest.raises(ValueError, match=rf"a\.wav cannot be read: {message}"):
        data.read_sound(tmp_path / "a.wav")


@pytest.mark.parametrize(
    "change",
    [
        lambda c: as_rf64(c, 8),
        lambda c: c[:12] + b"bext\3\0\0\0old\0" + c[12:] + b"id3 ",
        lambda c: c[:4] + b"\xff" * 4 + c[8:40] + b"\xff" * 4 + c[44:],  # as ffmpeg writes into a pipe
        lambda c: c[:4] + b"\x24\xf0\xff\x7f" + c[8:40] + b"\0\xf0\xff\x7f" + c[44:],  # and SoX
        lambda c: c[:4] + b"\x24\0\0\x80" + c[8:40] + b"\0\0\0\x80" + c[44:],  # and arecord
    ],
)
@pytest.mark.filterwarnings("error")
def test_chunks_that_are_not_of_sound(change, tmp_path):
    write_pcm(tmp_path / "a.wav", 2, RAMP[:, :1], 8_000)
    (tmp_path / "a.wav").write_bytes(change((tmp_path / "a.wav").read_bytes()))
    np.testing.assert_array_equal(data.read_sound(tmp_path / "a.wav").samples, RAMP[:, :1])


@pytest.mark.parametrize("sample", [np.nan, np.inf, 1e300])
def test_sound_that_is_not_finite_or_not_there(sample, tmp_path):
    wavfile.write(tmp_path / "a.wav", 8_000, np.array([0, sample]))
    with pytest.raises(ValueError, match="its samples must be finite"):
        data.read_sound(tmp_path / "a.wav")
    with pytest.raises(FileNotFoundError, match=r"no file .*b\.wav"):
        data.read_sound(tmp_path / "b.wav")


# Folders with a folder for each class


def sounds(folder: Path, *names: str) -> Path:
    """Write short sounds, the n-th of n + 1 samples."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        wavfile.write(folder / name, 8_000, np.full(number + 1, 2**14, np.int16))
    return folder


WORDS = ("yes/a.wav", "yes/b.wav", "no/a.wav", "no/b.wav", "up/a.wav", "_background_noise_/hum.wav")


def test_spoken_digits(recordings_dir):
    folder = recordings_dir / "spoken_digits"
    train, test = (data.load(str(folder), split) for split in ("train", "test"))
    assert (len(train), len(test), train.num_classes) == (2_700, 300, 10)
    assert train.class_names == test.class_names
    assert train.class_names[:3] == ("eight", "five", "four")
    listed = {folder / line for line in (folder / "testing_list.txt").read_text().split()}
    assert set(test.files) == listed
    for one, label in zip(test.files, test.targets):
        assert one.parent.name == test.class_names[label]
    rate, samples = wavfile.read(test.files[7])
    assert test[7].sample_rate == rate == 8_000
    np.testing.assert_array_equal(test[7].samples[:, 0] * 2**15, samples)


def test_lists_of_splits(tmp_path):
    folder = sounds(tmp_path, *WORDS)
    assert len(data.load(folder, "train")) == 5
    (folder / "testing_list.txt").write_text("yes/b.wav\nno/a.wav\n\n")
    (folder / "validation_list.txt").write_text("no/b.wav")
    train, test, validation = (data.load(folder, split) for split in ("train", "test", "validation"))
    assert [one.relative_to(folder).as_posix() for one in train.files] == ["up/a.wav", "yes/a.wav"]
    assert train.class_names == test.class_names == validation.class_names == ("no", "up", "yes")
    assert (train.targets.tolist(), test.targets.tolist(), validation.targets.tolist()) == ([1, 2], [0, 2], [0])
    assert [len(sound.samples) for sound in test] == [3, 2]
    both = data.load(folder, "train[1:]+validation")
    assert [one.name for one in both.files] == ["a.wav", "b.wav"]


def test_a_recording_set_of_many_files_is_shown_in_few_words():
    files = tuple(Path(f"folder/{number}.wav") for number in range(2000))
    assert len(repr(Recordings(files, [0, 1] * 1000, files=files))) < 300


def test_nmnist(recordings_dir):
    folder = recordings_dir / "nmnist_small"
    train, test = (data.load(folder, split) for split in ("train", "test"))
    assert (len(train), len(test), train.name) == (1_000, 100, "nmnist_small")
    assert train.class_names == tuple("0123456789")
    assert [int(one.parent.name) for one in test.files] == test.targets.tolist()
    np.testing.assert_array_equal(test[3], data.read_events(test.files[3]))
    assert len(data.load(folder, "train[90%:]+test")) == 200


@pytest.mark.parametrize("ending", [".bin", ".npy", ".aedat"])
def test_folders_of_events(ending, tmp_path):
    write = {
        ".bin": lambda path, events: path.write_bytes(as_bin(events)),
        ".npy": np.save,
        ".aedat": as_aedat3,
    }[ending]
    for number, name in enumerate(("train/10/a", "train/9/a", "train/9/b", "Testing/10/a")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write((tmp_path / name).with_suffix(ending), some_events(number + 1))
    train, test = data.load(tmp_path, "train"), data.load(tmp_path, "test")
    assert train.class_names == test.class_names == ("9", "10")  # by their value
    assert [len(events) for events in train] == [2, 1, 3]
    assert (train.targets.tolist(), test.targets.tolist()) == ([0, 1, 0], [1])
    np.testing.assert_array_equal(test[0], some_events(4))
    whole = data.load(tmp_path / "train", "train")  # classes without splits
    np.testing.assert_array_equal(whole.targets, train.targets)


def test_a_part_of_a_split_has_its_share_of_each_class(tmp_path):
    for name, count in (("yes", 10), ("no", 20), ("up", 1)):
        sounds(tmp_path, *[f"{name}/{number:02}.wav" for number in range(count)])
    parts = [data.load(tmp_path, split) for split in ("train[:70%]", "train[70%:]")]
    assert [np.bincount(part.targets).tolist() for part in parts] == [[14, 1, 7], [6, 0, 3]]
    assert len({*parts[0].files, *parts[1].files}) == 31


def test_names_of_all_kinds(tmp_path):
    folder = sounds(tmp_path, "01/a b.wav", "1/é.wav", "10/c[1].wav", "d*/.hidden.WAV", "d*/x.WAV", "d*/._x.WAV")
    (folder / "testing_list.txt").write_bytes("\ufeffd*/x.WAV\r\n1/é.wav\r\n".encode())
    train, test = data.load(folder, "train"), data.load(folder, "test")
    assert train.class_names == ("01", "1", "10", "d*")  # in this order whatever the hashes of the names are
    assert [one.name for one in (*train.files, *test.files)] == ["a b.wav", "c[1].wav", "é.wav", "x.WAV"]
    assert [len(sound.samples) for sound in test] == [2, 5]


def write_bad_list(folder: Path) -> None:
    (sounds(folder, *WORDS) / "testing_list.txt").write_text("yes/a.wav\nyes/c.wav\nmaybe/a.wav")


def write_deep_list(folder: Path) -> None:
    sounds(folder, *WORDS, "yes/deep/a.wav")  # no recordings are looked for there, and paths are not simplified
    (folder / "testing_list.txt").write_text("yes/deep/a.wav\nyes/../yes/a.wav")


def write_two_lists(folder: Path) -> None:
    for name in ("testing_list.txt", "validation_list.txt"):
        (sounds(folder, *WORDS) / name).write_text("yes/a.wav")


def write_binary_list(folder: Path) -> None:
    (sounds(folder, *WORDS) / "testing_list.txt").write_bytes(b"\xff\xfe\0yes")


def write_two_kinds(folder: Path) -> None:
    np.save(sounds(folder, *WORDS) / "no" / "a.npy", some_events())


@pytest.mark.parametrize(
    ("write", "split", "error", "message"),
    [
        (
            lambda folder: None,
            "train",
            ValueError,
            "must hold a folder for each class, with files that end in .wav, .bin",
        ),
        (lambda folder: sounds(folder, "a.wav"), "train", ValueError, "a folder for each class.*; it holds a.wav"),
        (lambda folder: (folder / "no").mkdir(), "train", ValueError, "a folder for each class.*; it holds no"),
        (
            write_bad_list,
            "train",
            FileNotFoundError,
            r"testing_list.txt names 2 files that are not there, such as .*/yes/c",
        ),
        (
            write_two_lists,
            "train",
            ValueError,
            r"yes/a.wav must be in one split, and is listed for test and validation",
        ),
        (write_binary_list, "train", ValueError, r"testing_list.txt cannot be read: .* can't decode byte 0xff"),
        (write_two_kinds, "train", ValueError, r"must hold recordings of one kind, got .npy, .wav"),
        (
            write_deep_list,
            "test",
            FileNotFoundError,
            r"testing_list.txt names 2 files that are not there, such as .*deep",
        ),
        (
            lambda folder: sounds(folder, "train/a/a.wav", "val/a/a.wav", "Validation/b/a.wav"),
            "train",
            ValueError,
            "must hold one folder for each split, got Validation, train, val",
        ),
        (
            lambda folder: sounds(folder, *WORDS),
            "test",
            ValueError,
            r"bad split 'test' .* its splits are train \(5 examples\)",
        ),
        (lambda folder: folder.rmdir(), "train", FileNotFoundError, "no folder .*: give the path of a folder"),
    ],
)
def test_folders_that_are_no_recordings(write, split, error, message, tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    write(folder)
    with pytest.raises(error, match=f"(?s){message}"):
        data.load(folder, split)


def test_the_name_of_a_set_is_not_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sounds(tmp_path / "spoken_digit", *WORDS)
    sounds(tmp_path / "own_words", *WORDS)
    assert len(data.load("own_words", "train")) == len(data.load("./spoken_digit", "train")) == 5
    with pytest.raises(FileNotFoundError, match="data set 'spoken_digit' is not prepared"):
        data.load("spoken_digit", "train", tmp_path / "nothing")
    with pytest.raises(ValueError, match="unknown data set 'own_word', did you mean"):
        data.load("own_word", "train")
    with pytest.raises(FileNotFoundError, match=r"no folder .*own/words: give the path of a folder"):
        data.load("own/words", "train")


# Sets with a layout of their own


def test_shd(tmp_path):
    written = write_shd(tmp_path / "shd_train.h5", [2, 0, 1])
    write_shd(tmp_path / "shd_test.h5", [1, 1])
    write_shd(tmp_path / "shd_valid.h5", [0])
    train, test = data.load(tmp_path, "train"), data.load(tmp_path, "test")
    assert (train.name, train.class_names, train.num_classes) == ("shd", ("zero", "one", "two"), 3)
    assert (train.targets.tolist(), test.targets.tolist()) == ([2, 0, 1], [1, 1])
    assert len(data.load(tmp_path, "validation")) == 1
    for spikes, times in zip(train, written):
        assert spikes.dtype.names == ("t", "x")
        np.testing.assert_allclose(spikes["t"], times.astype(float) * 1e6, atol=0.5)
    dataset = train.to_dataset(Frames((700,), num_bins=100, start=0, stop=1_000_000))
    assert dataset.inputs.shape == (3, 100, 700)
    assert dataset.inputs.sum(axis=(1, 2)).tolist() == [0, 20, 40]
    assert data.load(str(tmp_path / "shd_test.h5"), "test").targets.tolist() == [1, 1]


def test_shd_from_another_system(tmp_path, monkeypatch):
    write_shd(tmp_path / "SHD_TRAIN.HDF5", [2, 0])
    (tmp_path / "._SHD_TRAIN.HDF5").write_bytes(b"\0\5\26\7")  # which macOS leaves beside each file
    monkeypatch.chdir(tmp_path)
    assert len(data.load(tmp_path, "train")) == len(data.load("SHD_TRAIN.HDF5", "train")) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": 900}, r"recording 2 of .*shd_train.h5 cannot be read: channels must lie in 0..699"),
        ({"missing": "labels"}, "shd_train.h5 cannot be read: .*labels"),
        ({"missing": "spikes/units"}, "shd_train.h5 cannot be read: .*units"),
    ],
)
def test_files_that_are_not_as_shd(options, message, tmp_path):
    write_shd(tmp_path / "shd_train.h5", [2, 0, 1], **options)
    with pytest.raises(ValueError, match=message):
        data.load(tmp_path, "train")[2]


def test_spikes_in_hdf5_come_in_any_order(tmp_path):
    write_shd(tmp_path / "shd_train.h5", [2, 0, 1])
    sorted_ = data.load(tmp_path, "train")[2]
    with pytest.importorskip("h5py").File(tmp_path / "shd_train.h5", "r+") as file:
        for name in ("times", "units"):
            file[f"spikes/{name}"][2] = np.roll(file[f"spikes/{name}"][2], 7)
    np.testing.assert_array_equal(data.load(tmp_path, "train")[2], sorted_)


def test_damaged_hdf5_files(tmp_path):
    write_shd(tmp_path / "shd_train.h5", [2, 0, 1])
    whole = (tmp_path / "shd_train.h5").read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"text"):
        (tmp_path / "shd_train.h5").write_bytes(content)
        with pytest.raises(ValueError, match=r"shd_train\.h5 cannot be read"):
            data.load(tmp_path, "train")
    (tmp_path / "shd_train.h5").write_bytes(whole)
    write_shd(tmp_path / "ssc_test.h5", [1])
    with pytest.raises(ValueError, match=r"must hold the files of one set, got shd_train.h5, ssc_test.h5"):
        data.load(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match=r"no file .*none\.h5"):
        data.load(tmp_path / "none.h5", "train")


def test_dvs_gesture_as_tonic_has_it(tmp_path):
    events = some_events()
    for name in ("ibmGestureTrain/user01_led/10", "ibmGestureTrain/user02_lab/0", "ibmGestureTest/user24_led/3"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        columns = [events["x"], events["y"], events["p"], events["t"] // 1000]  # ms
        np.save(tmp_path / name, np.stack(columns, axis=1).astype(float))
    train, test = data.load(tmp_path, "train"), data.load(tmp_path, "test")
    assert (train.targets.tolist(), test.targets.tolist()) == ([10, 0], [3])
    assert test.class_names[3] == "right arm clockwise"
    assert len(train.class_names) == 11
    np.testing.assert_array_equal(test[0]["t"], events["t"] // 1000 * 1000)
    np.testing.assert_array_equal(test[0]["y"], events["y"])
    for array, message in (
        (np.zeros((5, 3)), r"it must hold an array \[N, 4\] of x, y, p and t"),
        (np.full((5, 4), np.nan), "x, y and p must be whole numbers"),
        (np.full((5, 4), 1.4), "x, y and p must be whole numbers"),
        (np.full((5, 4), "a"), "x, y and p must be whole numbers, got <U1"),
    ):
        np.save(tmp_path / "ibmGestureTest/user24_led/3", array)
        with pytest.raises(ValueError, match=rf"3\.npy cannot be read: {message}"):
            test[0]


def test_dvs_gesture_as_ibm_has_it(tmp_path):
    events = some_events(2_000)
    as_aedat3(tmp_path / "user01_led.aedat", events)
    as_aedat3(tmp_path / "user24_lab.aedat", events)
    rows = "class,startTime_usec,endTime_usec\n"
    (tmp_path / "user01_led_labels.csv").write_text(f"{rows}1,1000,90000\n11,100000,200000\n")
    (tmp_path / "user24_lab_labels.csv").write_text(f"{rows}8,0,50000\n")
    (tmp_path / "trials_to_train.txt").write_text("user01_led.aedat\n")
    (tmp_path / "trials_to_test.txt").write_text("user24_lab.aedat\n")
    train, test = data.load(tmp_path, "train"), data.load(tmp_path, "test")
    assert (train.targets.tolist(), test.targets.tolist(), test.class_names[7]) == ([0, 10], [7], "arm roll")
    np.testing.assert_array_equal(train[1], events[(events["t"] >= 100_000) & (events["t"] < 200_000)])
    for row in ("0,0,50000", "12,0,50000", "8,50000,50000"):
        (tmp_path / "user24_lab_labels.csv").write_text(f"{rows}{row}\n")
        with pytest.raises(ValueError, match=r"labels.csv cannot be read: a class must be 1 to 11, and end after its"):
            data.load(tmp_path, "test")
    (tmp_path / "user24_lab.aedat").unlink()
    with pytest.raises(FileNotFoundError, match=r"no file .*user24_lab.aedat, which .*trials_to_test.txt names"):
        data.load(tmp_path, "test")


def test_tonic_sets_by_name(recordings_dir, tmp_path, monkeypatch):
    tonic = pytest.importorskip("tonic", reason="tonic is in the extra events")
    for name in ("NMNIST", "SHD"):
        monkeypatch.setattr(getattr(tonic.datasets, name), "_check_exists", lambda self: True)
    (tmp_path / "NMNIST").symlink_to(recordings_dir / "nmnist_small")
    train = data.load("tonic:NMNIST", "train", tmp_path)
    ours = data.load(recordings_dir / "nmnist_small", "train")
    assert train.class_names[2] == "2 - two"
    np.testing.assert_array_equal(train.targets, ours.targets)
    np.testing.assert_array_equal(train[17], ours[17])
    frames = Frames((34, 34, 2), num_bins=2)
    assert train[:3].to_dataset(frames).inputs.shape == (3, 2, 34, 34, 2)
    assert len(list((tmp_path / "cache").iterdir())) == 2
    (tmp_path / "SHD").mkdir()
    write_shd(tmp_path / "SHD/shd_train.h5", [2, 0, 1])
    with zipfile.ZipFile(tmp_path / "SHD/shd_test.h5.zip", "w"):
        write_shd(tmp_path / "SHD/shd_test.h5", [1])
    assert data.load("tonic:SHD", "train[:2]", tmp_path).targets.tolist() == [2, 0]
    with pytest.raises(
        ValueError, match="unknown data set 'tonic:MVSEC': those with a class for each recording are ASL"
    ):
        data.load("tonic:MVSEC", "train", tmp_path)


def test_a_tonic_set_that_cannot_be_fetched(tmp_path, monkeypatch):
    tonic = pytest.importorskip("tonic", reason="tonic is in the extra events")

    def no_network(self):
        raise ConnectionError("tests have no network")

    monkeypatch.setattr(tonic.datasets.DVSGesture, "download", no_network)
    with pytest.raises(
        FileNotFoundError, match=r"data set 'tonic:DVSGesture' cannot be fetched into .*tests have no network"
    ):
        data.load("tonic:DVSGesture", "train", tmp_path)


@pytest.fixture
def prepared(tmp_path) -> Path:
    """Five and two sounds that TFDS 4.9.10 prepared, with TensorFlow."""
    shutil.unpack_archive(Path(__file__).parent / "data" / "spoken_test.zip", tmp_path / "prepared")
    return tmp_path / "prepared"


def test_sets_of_sound_that_are_prepared_for_tfds(prepared, cache):
    train, test = (data.load("spoken_test", split, prepared) for split in ("train", "test"))
    assert (train.class_names, train.num_classes) == (("no", "yes"), 2)
    assert (train.targets.tolist(), test.targets.tolist()) == ([1, 0, 0, 1, 0], [0, 1])
    assert [len(sound.samples) for sound in train] == [13, 10, 12, 11, 14]
    np.testing.assert_array_equal(test[1].samples[:, 0] * 2**15, 1_000 * np.arange(15) - 3_000)
    assert test[0].sample_rate == 8_000
    assert len(list(cache.iterdir())) == 1  # the labels
    assert len(data.load("spoken_test:1.0.9", "train[1:]+test", prepared)) == 6


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("dataset_info.json", lambda text: text.replace("array_record", "tfrecord"), "--file_format=array_record"),
        ("dataset_info.json", lambda text: text[:99], "cannot be read"),
        ("features.json", lambda text: text.replace('"classLabel"', '"text"'), "of sound with a class label"),
        ("features.json", lambda text: text.replace('"NONE"', '"ZLIB"'), "its sound must be stored decoded"),
    ],
)
def test_prepared_sets_that_cannot_be_read(file, change, message, prepared):
    path = prepared / "spoken_test" / "1.0.9" / file
    path.write_text(change(path.read_text()))
    with pytest.raises(ValueError, match=f"the prepared files of data set 'spoken_test' in .*{message}"):
        data.load("spoken_test", "train", prepared)


def test_prepared_sets_with_long_names_of_classes_or_without_a_file(prepared):
    folder = prepared / "spoken_test" / "1.0.9"
    (names,) = folder.glob("*.labels.txt")
    names.write_text("oh no\nyes\n")
    assert data.load("spoken_test", "train", prepared).class_names == ("oh no", "yes")
    sorted(folder.glob("*-test.*-of-*"))[0].unlink()
    with pytest.raises(ValueError, match=r"split 'test' must be in [0-9]+ files, got [0-9]+"):
        data.load("spoken_test", "train", prepared)


# Recordings as a sequence


def made(lengths: tuple[int, ...] = (3, 5, 1, 4, 2, 7)) -> Recordings:
    """Recordings in memory, the n-th of `lengths[n]` steps, all n + 1."""
    arrays = [np.full((length, 2), number + 1, np.float32) for number, length in enumerate(lengths)]
    return Recordings(arrays, np.arange(len(lengths)) % 3, class_names=("a", "b", "c", "d"))


def itself(recording: np.ndarray) -> np.ndarray:
    return recording


def test_parts_of_recordings():
    whole = made()
    assert (len(whole), whole.num_classes, whole.targets.dtype) == (6, 4, np.int32)
    assert whole[-1].shape == (7, 2)
    for index in (slice(1, 6, 2), [1, 3, 5], np.array([1, 3, 5]), np.arange(6) % 2 == 1):
        part = whole[index]
        assert [len(one) for one in part] == [5, 4, 7]
        assert (part.targets.tolist(), part.class_names) == ([1, 0, 2], whole.class_names)
    with pytest.raises(IndexError):
        whole[6]
    with pytest.raises(IndexError, match="an index of recordings must be a number, a slice or an array"):
        whole[np.zeros((2, 2), int)]


def test_nothing_is_read_before_it_is_looked_at():
    read = []
    recordings = Recordings(["a", "b", "c"], [0, 1, 0], read.append)
    part = recordings[1:]
    assert not read
    _ = part[1]
    assert read == ["c"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([1, 2], [0]), ValueError, "as many"),
        (([1, 2], [0.5, 1.0]), TypeError, r"targets must be integers \[N\]"),
        (([1, 2], [[0], [1]]), ValueError, "classes must be integers"),
        (([1, 2], [0, -1]), ValueError, "classes must lie in"),
        (([], np.zeros(0, int)), ValueError, "holds no examples"),
        (([1, 2], [0, 5], itself, "set", ("a", "b")), ValueError, r"classes must lie in 0..1"),
        (
            ([1, 2], [0, 1], itself, "set", (), 0, (Path("a"),)),
            ValueError,
            "files must be as many as items, 2, or none",
        ),
    ],
)
def test_what_is_no_recordings(arguments, error, message):
    with pytest.raises(error, match=message):
        Recordings(*arguments)


# Arrays of one length


@pytest.mark.parametrize(
    ("length", "steps", "lengths"),
    [(None, 7, [3, 5, 1, 4, 2, 7]), (4, 4, [3, 4, 1, 4, 2, 4]), (9, 9, [3, 5, 1, 4, 2, 7])],
)
def test_recordings_are_padded_at_the_end(length, steps, lengths):
    dataset = made().to_dataset(itself, length=length)
    assert (dataset.inputs.shape, dataset.inputs.dtype) == ((6, steps, 2), np.float32)
    assert (dataset.lengths.tolist(), dataset.in_time, dataset.num_classes) == (lengths, True, 4)
    for number, (inputs, own) in enumerate(zip(dataset.inputs, lengths)):
        assert (inputs[:own] == number + 1).all()
        assert (inputs[own:] == 0).all()


@pytest.mark.parametrize(
    ("transform", "dtype", "shape"),
    [
        (lambda x: x.astype(np.uint8), np.uint8, (2,)),
        (lambda x: x > 1, np.float32, (2,)),
        (lambda x: x[:, 0], np.float32, (1,)),
        (lambda x: jax.numpy.tanh(x)[:, None], np.float32, (1, 2)),
    ],
)
def test_what_a_transform_may_return(transform, dtype, shape):
    dataset = made().to_dataset(transform)
    assert (dataset.inputs.dtype, dataset.inputs.shape) == (dtype, (6, 7, *shape))
    (padded, _), *_ = made().batches(KEY, 6, transform)
    assert (padded.inputs.dtype, padded.inputs.shape) == (dtype, (6, 7, *shape))


@pytest.mark.parametrize(
    ("transform", "options", "message"),
    [
        (itself, {"length": 0}, "length must be at least 1, got 0"),
        (
            lambda x: x[:0],
            {},
            r"recording 0: transform must return an array \[T, ...\] of at least one step, got \(0, 2\)",
        ),
        (lambda x: 3.0, {}, r"recording 0: transform must return an array \[T, ...\]"),
        (lambda x: x.astype(int), {}, "recording 0: inputs must be uint8 .* or floating point, got int64"),
        (lambda x: x[:, : len(x)], {}, r"differ in their length alone, got float32 of shape \(3, 2\) and .* \(1, 1\)"),
        (lambda x: x.astype(np.float64 if len(x) == 1 else np.float32), {}, "differ in their length alone.*float64"),
        (lambda x: np.broadcast_to(x[:1], (2**40, 2)), {}, "recordings in one array of shape .* would take .* GiB"),
        (Frames((2,), num_bins=3), {}, "recording 0: events must be a structured array"),
    ],
)
def test_what_a_transform_may_not_return(transform, options, message):
    with pytest.raises(ValueError, match=message):
        made().to_dataset(transform, **options)


def test_an_error_names_the_file(tmp_path):
    for number in range(3):
        (tmp_path / "0").mkdir(exist_ok=True)
        np.save(tmp_path / "0" / f"{number}.npy", some_events(size=(64 if number < 2 else 128, 64)))
    recordings = data.load(tmp_path, "train")
    for call in (recordings.to_dataset, lambda frames: list(recordings.batches(KEY, 3, frames))):
        with pytest.raises(ValueError, match=r"0/2\.npy: y must lie in 0..63, got"):
            call(Frames((64, 64, 2), num_bins=2))


def test_a_folder_of_times_in_another_unit(tmp_path):
    events = some_events(20)
    (tmp_path / "0").mkdir()
    in_floats = events.astype([("t", float), *[(name, events.dtype[name]) for name in "xyp"]])
    in_floats["t"] /= 1e6
    np.save(tmp_path / "0" / "a.npy", in_floats)
    recordings = data.load(tmp_path, "train")
    with pytest.raises(ValueError, match=r"say their unit, .*; of a folder by dataclasses.replace\(recordings, read="):
        recordings[0]
    in_seconds = dataclasses.replace(recordings, read=functools.partial(data.read_events, unit="s"))
    np.testing.assert_array_equal(in_seconds[0], events)


@pytest.mark.parametrize(
    "call",
    [
        lambda recordings: data.batches(KEY, recordings, 2),
        lambda recordings: data.subset(recordings, 2),
        lambda recordings: train.fit(jsnn.LIF(), itself, recordings, optimizer=optax.sgd(1.0), epochs=1),
    ],
)
def test_recordings_where_arrays_are_wanted(call):
    with pytest.raises(TypeError, match=r"must be Dataset, got Recordings.* by recordings.to_dataset\(transform\)"):
        call(made())


@pytest.mark.parametrize("error", [IndexError, ZeroDivisionError, RuntimeError])
def test_any_error_of_a_transform_names_the_recording(error):
    def transform(recording):
        if len(recording) == 5:
            raise error("no")
        return recording

    recordings = made()
    for call in (recordings.to_dataset, lambda transform: list(recordings.batches(KEY, 6, transform))):
        with pytest.raises(error, match="no") as found:
            call(transform)
        assert found.value.__notes__[0] == "from the transform of recording 1"  # Grain adds one of its own


# The cache


@dataclasses.dataclass(frozen=True)
class Repeat:
    """A transform that is known by its value."""

    count: int = 1

    def __call__(self, sound):
        return np.repeat(sound.samples, self.count, axis=0)


def test_arrays_are_kept(tmp_path, cache):
    recordings = data.load(sounds(tmp_path / "set", *WORDS), "train")
    first = recordings.to_dataset(Repeat(2))
    assert len(list(cache.iterdir())) == 2
    kept = dataclasses.replace(recordings, read=recordings.read)  # the same again
    again = kept.to_dataset(Repeat(2))
    assert isinstance(again.inputs, np.memmap) or isinstance(again.inputs.base, np.memmap)
    for name in ("inputs", "lengths", "targets"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
    for change in (
        lambda: recordings.to_dataset(Repeat(3)),
        lambda: recordings.to_dataset(Repeat(2), length=3),
        lambda: recordings[1:].to_dataset(Repeat(2)),
        lambda: os.utime(recordings.files[0], (1, 1)) or recordings.to_dataset(Repeat(2)),
    ):
        before = len(list(cache.iterdir()))
        change()
        assert len(list(cache.iterdir())) == before + 2


@dataclasses.dataclass(frozen=True)
class As:
    """A transform that changes the dtype."""

    dtype: str

    def __call__(self, sound):
        return 1e4 * sound.samples.astype(self.dtype)


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e5m2", "float16", ">f4", ">f8"])
def test_arrays_of_any_dtype_stay_what_they_are(dtype, tmp_path):
    recordings = data.load(sounds(tmp_path / "set", *WORDS), "train")
    for _ in range(2):  # the second time from the cache
        dataset = recordings.to_dataset(As(dtype))
        wanted = [As(dtype)(sound).astype(np.float32) for sound in recordings]
        for own, length, expected in zip(dataset.inputs, dataset.lengths, wanted):
            np.testing.assert_array_equal(own[:length].astype(np.float32), expected)
        assert jax.numpy.asarray(dataset.inputs[:1]).size  # JAX takes it


def heavy(recording: np.ndarray) -> np.ndarray:
    return np.ones((len(recording), 1000), np.float32)


def memory_of(items: int, length: int | None, tmp_path: Path) -> int:
    """Return the most bytes that numpy holds while recordings of 40 kB become a data set."""
    (tmp_path / "a").write_bytes(b"")
    sounds = [np.ones(1 + index % 10) for index in range(items)]
    recordings = Recordings(sounds, [0] * items, files=(tmp_path / "a",) * items)
    tracemalloc.start()
    dataset = recordings.to_dataset(heavy, length=length)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert dataset.inputs.sum() == 1000 * dataset.lengths.sum()
    return peak


@pytest.mark.parametrize("length", [None, 10])
def test_memory_does_not_grow_with_the_number_of_recordings(length, tmp_path, cache):
    few, many = (memory_of(items, length, tmp_path) for items in (20, 400))
    assert many < few + 400 * 1000  # of 16 MB; some bytes are the list's
    assert len(list(cache.iterdir())) == 4  # two files for each set, and nothing temporary


@pytest.mark.parametrize("break_it", ["full", "read-only"])
def test_without_room_on_the_disk_arrays_are_in_memory(break_it, tmp_path, monkeypatch):
    if break_it == "full":
        monkeypatch.setattr("jsnn.data.cache._SPARE", 2**80)
    else:
        (tmp_path / "no_folder").write_bytes(b"")
        monkeypatch.setenv("JSNN_CACHE_DIR", str(tmp_path / "no_folder"))
    assert memory_of(100, 10, tmp_path) > 4e6


def test_what_a_killed_process_left_is_removed(tmp_path, cache):
    recordings = data.load(sounds(tmp_path / "set", *WORDS), "train")
    for name, age in (("decoding-old", 90_000), ("decoding-new", 0), ("other", 90_000)):
        (cache / name).mkdir(parents=True)
        (cache / name / "0.npy").write_bytes(b"0")
        for path in (cache / name / "0.npy", cache / name):
            os.utime(path, (time.time() - age,) * 2)
    recordings.to_dataset(Repeat())
    assert {one.name for one in cache.iterdir() if one.is_dir()} == {"decoding-new", "other"}


def test_arrays_that_differ_in_one_number_are_others(tmp_path):
    file, found = sounds(tmp_path, "a.wav") / "a.wav", []
    for value in (0, 1):
        samples = np.zeros((5_000, 1), np.float32)  # of which numpy prints the first and the last
        samples[2_500] = value
        found.append(Recordings([samples], [0], files=(file,)).to_dataset(itself).inputs.max())
    assert found == [0, 1]


def test_what_may_have_changed_is_not_kept(tmp_path, cache):
    recordings = data.load(sounds(tmp_path / "set", *WORDS), "train")
    recordings.to_dataset(lambda sound: sound.samples)
    made().to_dataset(itself)  # from no file
    assert not cache.exists()


@dataclasses.dataclass
class Mutable:
    count: int = 1


@pytest.mark.parametrize(
    ("value", "known"),
    [
        (Repeat(2), True),
        (Frames((2, 2, 2), window=0.5), True),
        (functools.partial(data.read_events, unit="s"), True),
        (itself, True),
        ([1, "a", None, {"b": np.arange(3), "c": jax.numpy.ones(2)}, np.float32(2), Path("a")], True),
        (Mutable(), False),
        (lambda x: x, False),
        (eval("lambda x: x", {"__name__": "nowhere"}), False),  # as runpy and notebooks run code
        (Repeat(np.zeros(2, object)), False),
        (object(), False),
    ],
)
def test_what_is_known_by_its_value(value, known):
    assert (identity_of(value) is not None) == known


def test_a_transform_is_another_one_when_its_source_changes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    found = []
    for body in ("x", "x + 1", "x"):
        (tmp_path / "transforms_of_a_test.py").write_text(f"def change(x):\n    return {body}\n")
        sys.modules.pop("transforms_of_a_test", None)
        importlib.invalidate_caches()
        found.append(identity_of(importlib.import_module("transforms_of_a_test").change))
    assert found[0] == found[2] != found[1]


# Streams


@pytest.mark.parametrize("drop_remainder", [True, False])
def test_batches_are_those_of_the_arrays(drop_remainder):
    recordings, options = made(tuple(range(1, 24))), {"drop_remainder": drop_remainder}
    dataset = recordings.to_dataset(itself, length=12)
    streamed = recordings.batches(KEY, 4, itself, length=12, **options)
    for (padded, targets), (expected, labels) in zip(streamed, data.batches(KEY, dataset, 4, **options), strict=True):
        np.testing.assert_array_equal(padded.inputs, expected.inputs)
        np.testing.assert_array_equal(padded.lengths, expected.lengths)
        np.testing.assert_array_equal(targets, labels)
        assert (padded.inputs.dtype, padded.lengths.dtype, targets.dtype) == (np.float32, np.int32, np.int32)


def test_without_a_length_each_batch_is_as_long_as_its_longest():
    shapes = {padded.inputs.shape[1] - max(padded.lengths) for padded, _ in made().batches(KEY, 2, itself)}
    assert shapes == {0}


def test_a_stream_goes_on_where_it_was():
    recordings = made(tuple(range(1, 24)))
    whole = list(recordings.batches(KEY, 4, itself, length=9))
    stream = recordings.batches(KEY, 4, itself, length=9)
    for _ in range(2):
        next(stream)
    state = stream.get_state()
    resumed = recordings.batches(KEY, 4, itself, length=9)
    resumed.set_state(state)
    for rest in (stream, resumed):
        for (padded, targets), (expected, labels) in zip(rest, whole[2:], strict=True):
            np.testing.assert_array_equal(padded.inputs, expected.inputs)
            np.testing.assert_array_equal(targets, labels)


@pytest.mark.parametrize("batch_size", [1, 2, 6])
def test_batches_of_any_size_are_read_without_a_warning(batch_size, caplog, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert len(list(made().batches(KEY, batch_size, itself))) == 6 // batch_size
    assert not caplog.records


def test_a_stream_reads_two_batches_ahead_and_no_more():
    read = []
    recordings = Recordings(np.arange(1_000), np.zeros(1_000, int), lambda item: read.append(item) or np.ones((2, 1)))
    next(recordings.batches(KEY, 10, itself))
    assert 10 <= len(read) <= 10 + 2 * 10 + 16 + 1  # what is asked for, ahead, and one by each thread


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must lie in 1..6"),
        ({"batch_size": 7}, "batch_size must lie in 1..6"),
        ({"batch_size": -1, "drop_remainder": False}, "batch_size must lie in 1..6"),
        ({"length": -1}, "length must be at least 1, got -1"),
    ],
)
def test_bad_batches(arguments, message):
    with pytest.raises(ValueError, match=message):
        made().batches(KEY, **{"batch_size": 2, "transform": itself} | arguments)
