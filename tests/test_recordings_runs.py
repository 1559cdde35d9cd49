"""Experiments on recordings: every config on small files of its layout, augmentation, stop and resume, bad values."""

import dataclasses
import json
import re
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from event_writers import as_aedat3, as_bin, some_events, write_shd
from scipy.io import wavfile

from experiments import build, config, datasets, report, run
from experiments.loop import Run
from jsnn import weights
from jsnn.data import Dataset, Frames

ROOT = Path(__file__).resolve().parents[1]
COUNTS = {"train": 12, "test": 5}
WORDS = ("low", "mid", "high")


@pytest.fixture(autouse=True)
def in_checkout(monkeypatch, tmp_path):
    """Relative paths are those of the checkout, and nothing that an earlier test decoded is taken."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("JSNN_CACHE_DIR", str(tmp_path / "cache"))


def new(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def heidelberg(folder: Path, name: str) -> Path:
    for split, count in {**COUNTS, **({"valid": 4} if name == "ssc" else {})}.items():
        write_shd(folder / f"{name}_{split}.h5", [index % 3 for index in range(count)])
    return folder


def gestures_of_tonic(folder: Path) -> Path:
    for split, count in COUNTS.items():
        for index in range(count):
            events = some_events(300 + index)
            columns = np.stack([events["x"], events["y"], events["p"], events["t"] // 1000], axis=1)  # ms
            path = new(folder / f"ibmGesture{split.title()}" / f"user{index // 11}_led" / f"{index % 11}.npy")
            np.save(path, columns.astype(float))
    return folder


def gestures_of_ibm(folder: Path) -> Path:
    for split, count in COUNTS.items():
        as_aedat3(folder / f"{split}_led.aedat", some_events(2_000))
        rows = [f"{index % 11 + 1},{20_000 * index},{20_000 * index + 60_000}" for index in range(count)]
        (folder / f"{split}_led_labels.csv").write_text("\n".join(["class,startTime_usec,endTime_usec", *rows]))
        (folder / f"trials_to_{split}.txt").write_text(f"{split}_led.aedat\n")
    return folder


def nmnist(folder: Path) -> Path:
    for split, count in COUNTS.items():
        for index in range(count):
            events = some_events(200 + index, size=(34, 34))
            new(folder / split.title() / str(index % 4) / f"{index:05}.bin").write_bytes(as_bin(events))
    return folder


def images(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    arrays = {f"x_{split}": rng.integers(0, 256, (count, 28, 28), np.uint8) for split, count in COUNTS.items()}
    np.savez(folder / "images.npz", **arrays, **{f"y_{split}": np.arange(n) % 5 for split, n in COUNTS.items()})
    return folder / "images.npz"


def words(folder: Path) -> Path:
    """Tones of three heights, of different lengths and sampling rates."""
    for split, count in COUNTS.items():
        for index in range(count):
            rate = (8_000, 16_000)[index % 2]
            wave = np.sin(2 * np.pi * (300, 700, 1500)[index % 3] * np.arange((index + 1) * rate // 50) / rate)
            wavfile.write(new(folder / split / WORDS[index % 3] / f"{index}.wav"), rate, wave)
    return folder


LAYOUTS = {
    "shd": lambda folder: heidelberg(folder, "shd"),
    "ssc": lambda folder: heidelberg(folder, "ssc"),
    "tonic": gestures_of_tonic,
    "ibm": gestures_of_ibm,
    "nmnist": nmnist,
    "words": words,
    "images": images,
}
DELAYED = "--network.hidden 6 5 --network.max-delay 4"
CONVOLUTION = "--network.channels 2 --network.depth 1"
SPEECH = "--data speech --data.dt 0.02 --data.num-channels 8 --data.length 10 --num-steps 10"
RUNS = [  # the config, what it is trained on, and how it is made small
    ("shd", "shd", DELAYED),
    ("ssc", "ssc", f"{DELAYED} --data.validation-split validation"),
    ("dvs_gesture", "tonic", CONVOLUTION),
    ("dvs_gesture", "ibm", f"{CONVOLUTION} --data.residence host"),
    ("nmnist_small", "nmnist", CONVOLUTION),
    ("nmnist_small", "nmnist", f"{CONVOLUTION} --data.shape 34 34 --data.flip"),
    ("psmnist", "images", "--network.hidden 6 --network.max-delay 20"),
    ("digits", "words", f"{SPEECH} --network.hidden 6"),
    ("digits", "words", f"{SPEECH} --network recurrent --network.hidden 6 --seeds 2"),
]


def command(settings: str, layout: str, options: str, folder: Path) -> list[str]:
    """Return a command without its --workdir, after writing the files of its data."""
    (folder / "set").mkdir()
    path = str(LAYOUTS[layout](folder / "set"))
    small = ("--train.epochs", "1", "--train.batch-size", "4", "--data.name", path)
    return [f"configs/{settings}.py", *small, *options.split()]


def final_of(folder: Path) -> dict[str, float]:
    return json.loads((folder / "summary.json").read_text())["final"]


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "layout", "options"), RUNS)
def test_a_config_trains_on_files_of_its_layout(settings, layout, options, tmp_path, capsys):
    folder = tmp_path / "run"
    assert run.main([*command(settings, layout, options, tmp_path), "--workdir", str(folder)]) == 0
    assert "no report.html" not in capsys.readouterr().out
    final = final_of(folder)
    assert {"train_loss", "test_accuracy"} <= set(final)
    assert all(map(np.isfinite, final.values()))
    assert (folder / "report.html").stat().st_size > 10_000
    assert run.main(["--evaluate", str(folder)]) == 0
    assert f"{final['test_accuracy']:.2%}" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "layout", "options"), [RUNS[0], RUNS[7]])
def test_a_stopped_run_goes_on_to_the_same_bits(settings, layout, options, tmp_path, monkeypatch, capsys):
    options += " --data.time-shift 2 --data.jitter 1 --data.drop 0.1 --train.epochs 3"
    arguments = command(settings, layout, options, tmp_path)
    monkeypatch.setattr(report, "write", lambda *_: None)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert run.main([*arguments, "--workdir", str(whole)]) == 0
    on_epoch = Run.on_epoch

    def stop(self, record):
        on_epoch(self, record)
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "on_epoch", stop)
        assert run.main([*arguments, "--workdir", str(stopped)]) == 130
    assert "--resume" in capsys.readouterr().out
    assert not (stopped / "summary.json").exists()
    assert run.main(["--resume", str(stopped)]) == 0
    assert final_of(stopped) == final_of(whole)
    first, again = (weights.load(folder / "weights.safetensors") for folder in (whole, stopped))
    assert first.keys() == again.keys()
    for key, array in first.items():
        np.testing.assert_array_equal(array, again[key])


@pytest.mark.rows(11)
@pytest.mark.parametrize(
    ("settings", "layout", "options", "message"),
    [
        ("shd", "shd", "--data.length 50", "num_steps must be data.length, 50, got 100"),
        ("digits", "words", f"{SPEECH} --num-steps 11", "num_steps must be data.length, 10, got 11"),
        ("shd", "images", "", "data.name must be recordings, such as the path of their folder, got '"),
        ("shd", "shd", "--data.name /nowhere/here", "no folder /nowhere/here: give the path of a folder of recordings"),
        ("digits", "nmnist", "", "holds recordings: take data 'speech' for sound, or 'events'"),
        ("digits", "nmnist", SPEECH, "00000.bin: sound must have samples"),
        ("nmnist_small", "words", "", ".wav: events must be a structured array"),
        ("shd", "shd", "--data.test-split validation", "bad split 'validation' of data set"),
        ("shd", "shd", "--data.shape 600", "shd_train.h5: x must lie in 0..599, got"),
        ("shd", "shd", "--data.shape 34 34 2", "shd_train.h5: events must have fields t, x, y, p; missing ['y', 'p']"),
        ("shd", "shd", "--data.shape 1 2 3 4", "data.shape must be (H, W, P), (H, W) or (C,), got (1, 2, 3, 4)"),
        ("shd", "shd", "--data.merge 701", "data.merge must be at most 700, of shape (700,), got 701"),
        ("shd", "shd", "--data.merge 0", "data.merge must be greater than 0, got 0"),
        ("shd", "shd", "--data.shift 1", "flip and shift need recordings of pixels, got shape (700,"),
        ("shd", "shd", "--data.window 1e-6", "shd_train.h5: start and stop must be in the unit of t: they are 0.0 and"),
        ("shd", "shd", "--data.start None", "shd_train.h5: the recording holds no events: give num_bins, or window,"),
        ("shd", "shd", "--data.jitter 100", "cannot be prepared as data says: steps must be at least 0 and less than "),
        ("shd", "shd", "--data.time-stretch 0.5", "data.time_stretch must be greater than or equal to 1, got 0.5"),
        ("shd", "shd", "--data.drop 1.5", "data.drop must be less than or equal to 1, got 1.5"),
        ("shd", "shd", "--encoder poisson", "encoder 'poisson' is for examples without a time axis"),
        ("shd", "shd", "--network.max-delay 100", "max_delay must be less than the number of steps of a recording"),
        ("shd", "shd", "--train.short-epochs 1", "train.short_epochs must be 0 for examples with a time axis"),
        ("nmnist_small", "nmnist", "--data.shape 16 34 2", "00000.bin: y must lie in 0..15, got"),
        ("nmnist_small", "nmnist", "--data.shape 34 34 1", "00000.bin: p must lie in 0..0, got 1"),
        ("nmnist_small", "shd", "", "shd_train.h5: events must have fields t, x, y, p; missing ['y', 'p']"),
        ("shd", "nmnist", "", "00000.bin: shape must be (H, W, P) or (H, W) for events that have rows y"),
        ("nmnist_small", "nmnist", "--data.shift 17", "as data says: pixels must be at least 0 and less than H and W"),
        ("digits", "words", f"{SPEECH} --data.dt 1e-5", ".wav: dt must be at least a step of the gammatone bank"),
        ("digits", "words", f"{SPEECH} --data.num-channels 1", "num_channels must be >= 2, got 1"),
        ("digits", "words", f"{SPEECH} --data.channel-shift 8", "channels must be at least 0 and less than 8"),
        ("digits", "words", f"{SPEECH} --network rate_dense", "network 'rate_dense' knows no time, and"),
        ("psmnist", "images", "--num-steps 28", "num_steps must be 784, the number of pixels of an image, got 28"),
        ("psmnist", "images", "--encoder.order -1", "encoder.order must be greater than or equal to 0, got -1"),
    ],
)
def test_bad_values_are_named_in_one_line(settings, layout, options, message, tmp_path, capsys):
    arguments = command(settings, layout, options, tmp_path)
    assert run.main([*arguments, "--workdir", str(tmp_path / "run")]) == 2
    printed = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert printed.startswith("error: ")
    assert message in printed
    assert not (tmp_path / "run").exists()


TALK = config.Speech(num_channels=12, length=20)
CAMERA = config.Events(shape=(6, 8, 2), length=20)


@pytest.mark.rows(2)
@pytest.mark.parametrize(
    ("data", "shape"),
    [(TALK, (12,)), (CAMERA, (6, 8, 2)), (config.Events(shape=(6, 8), length=20), (6, 8, 1))],
    ids=["speech", "events", "events without polarity"],
)
def test_augmentation_changes_training_and_not_evaluation(data, shape):
    key = jax.random.key(3)
    inputs = jax.random.poisson(key, 0.3, (4, 20, *shape)).astype("uint8")
    plain = np.asarray(inputs, np.float32)
    own = {"channel_shift": 3} if isinstance(data, config.Speech) else {"flip": True, "shift": 2}
    options = {"time_shift": 3, "time_stretch": 1.5, "jitter": 2, "drop": 0.3, **own}
    augmented = {name: dataclasses.replace(data, **{name: value}) for name, value in options.items()}
    train = jax.jit(lambda inputs: {name: one.prepare(key, inputs, training=True) for name, one in augmented.items()})
    for name, changed in train(inputs).items():
        assert (changed.shape, changed.dtype) == (plain.shape, plain.dtype)
        assert (changed != plain).any(), name
        assert 0 < changed.sum() <= plain.sum(), name  # events move, or leave, and none is doubled
        np.testing.assert_array_equal(augmented[name].prepare(key, inputs, training=False), plain)
    np.testing.assert_array_equal(data.prepare(key, inputs, training=True), plain)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("test", "message"),
    [
        ({"in_time": True, "lengths": np.full(9, 2)}, "'cross_entropy' takes no lengths, and the recordings of digits"),
        ({}, "all sets of digits must be in_time, or none, got test False"),
    ],
)
def test_test_sets_that_differ_from_the_training_set(test, message, monkeypatch):
    x, y = np.zeros((9, 2, 3, 1)), np.arange(9) % 3
    sets = config.Sets(Dataset(x, y, in_time=True), Dataset(x, y, **test))
    monkeypatch.setattr(config.Data, "make", lambda self: sets)
    monkeypatch.setattr(config.CrossEntropy, "make", lambda self: lambda outputs, decoded, labels: None)
    with pytest.raises(ValueError, match=message):
        datasets.load(config.Experiment(num_steps=2))


def test_augmentation_enters_the_loss_of_training_alone():
    experiment = config.Experiment(num_steps=20, data=TALK)
    inputs = jax.random.poisson(jax.random.key(0), 0.3, (6, 20, 12)).astype("float32")
    dataset = Dataset(np.asarray(inputs), np.arange(6), in_time=True)
    network = build.make_network(experiment, dataset)

    def loss(data, training):
        changed = dataclasses.replace(experiment, data=data)
        evaluate = build.make_loss(changed, in_time=True, training=training)
        return float(evaluate(network, inputs, dataset.targets, jax.random.key(1))[0])

    augmented = dataclasses.replace(TALK, time_shift=5, channel_shift=3)
    assert loss(TALK, training=True) == loss(TALK, training=False) == loss(augmented, training=False)
    assert loss(augmented, training=True) != loss(TALK, training=True)


@pytest.mark.parametrize(
    ("shape", "merge", "merged"), [((7,), 3, (3,)), ((5, 4), 2, (3, 2, 1)), ((5, 4, 2), 4, (2, 1, 2)), ((3,), 1, (3,))]
)
def test_neighbours_are_merged_and_no_event_is_lost(shape, merge, merged):
    events = some_events(200, size=shape[:2] if len(shape) > 1 else (1, *shape))
    found = config.Events(shape=shape, merge=merge, length=6).transform()(events)
    for name in "yx":
        events[name] //= merge
    whole = Frames(merged[: len(shape)], num_bins=6)(events)
    np.testing.assert_array_equal(found, whole.reshape(6, *merged))
