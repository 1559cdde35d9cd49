"""The examples: short, and they do what they say."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

import jsnn

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
ACCURACY = {  # from what each returns
    "01_from_scratch": lambda accuracy: accuracy,
    "02_by_hand": lambda found: found[1],
    "03_convert": lambda by_steps: by_steps[16],
    "04_own_neuron": lambda accuracy: accuracy,
    "05_online": lambda found: found[0] if found[1] < 1e-4 else 0.0,
    "06_export": lambda accuracy: accuracy,
    "quantise": lambda found: found[0] if found[1] else 0.0,
    "streaming": lambda found: found[0] if found[1] < 1e-5 else 0.0,
}


def test_every_example_is_short_and_run():
    files = {path.stem: path for path in EXAMPLES.glob("*.py")}
    assert files.keys() == ACCURACY.keys() | {"brunel", "deploy"}  # which tests/test_export.py runs
    assert all(len(path.read_text().splitlines()) < 100 for path in files.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ACCURACY)
def test_an_example_recognises_what_it_learned(name):
    found = runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]()
    assert ACCURACY[name](found) > 0.9


@pytest.mark.slow
def test_a_balanced_network_is_irregular():
    rate, variation = runpy.run_path(str(EXAMPLES / "brunel.py"))["main"](scale=0.1, seconds=0.3)
    assert 40 < rate < 65  # Hz; 37 in the whole network
    assert 0.8 < variation < 1.6  # strong synapses, and few, make it more irregular


@pytest.mark.slow
def test_a_stream_of_spoken_digits(recordings_dir, capsys):
    accuracy, difference = runpy.run_path(str(EXAMPLES / "streaming.py"))["main"](recordings_dir / "spoken_digits")
    assert accuracy > 0.85
    assert difference < 1e-5
    assert re.search(r"after 0.1 s: \w+\n.*it was '\w+'; \d+ µs a step", capsys.readouterr().out, re.DOTALL)


@pytest.mark.slow
def test_a_stream_of_chunks_that_are_not_whole_samples(tmp_path):
    for index in range(8):
        (tmp_path / ("train", "test")[index % 2] / "word").mkdir(parents=True, exist_ok=True)
        wavfile.write(
            tmp_path / ("train", "test")[index % 2] / "word" / f"{index}.wav", 22_050, np.ones(1000, np.int16)
        )
    with pytest.raises(SystemExit, match="a chunk of 10 ms must be whole samples, which they are not at 22,050 Hz"):
        runpy.run_path(str(EXAMPLES / "streaming.py"))["main"](tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 44_100])
def test_an_ear_in_chunks_has_the_spikes_of_cochlea(sample_rate):
    example = runpy.run_path(str(EXAMPLES / "streaming.py"))
    size = sample_rate // 100
    sound = np.random.default_rng(0).normal(0, np.repeat([0.01, 0.1], 10 * size)).astype(np.float32)
    options = {"num_channels": example["CHANNELS"], "low": example["LOW"], "high": example["HIGH"]}
    whole = jsnn.encode.cochlea(sound, sample_rate, dt=example["DT"], level=None, **options)
    ear = example["make_ear"](sample_rate)
    state, counts = ear.init((1,)), []
    for chunk in sound.reshape(20, size):
        state, spikes = jsnn.unroll(ear, chunk[:, None], state)
        counts.append(spikes.sum(0)[0])
    assert whole.sum() > 1_000
    assert (np.stack(counts) != whole).mean() < 1e-3  # rounding alone
