"""A recogniser of words that hears a wav file chunk by chunk, as a microphone delivers sound.

    python examples/streaming.py                          # learns tones that it makes
    python examples/streaming.py path/of/spoken_digits    # or words: a folder of wav files for each

The ear and the network are neurons: all that they need of the past is in their states. So a chunk of 10 ms is enough
for a step, and nothing is approximated: the spikes are those that `jsnn.encode.cochlea` makes of the whole sound, and
the outputs those of `jsnn.unroll`, up to the rounding of float32. But `cochlea` scales whole sounds to one loudness,
unless `level=None` takes them as they are. A stream cannot, so the training does not either.
"""

import math
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from scipy.io import wavfile

import jsnn

DT, CHANNELS, LOW, HIGH = 1e-2, 64, 100.0, 3600.0  # s, number, Hz, Hz


def make_tones(folder: Path) -> None:
    """Write 320 tones in noise, of different lengths and pitch; the last 80 are for testing."""
    rng = np.random.default_rng(0)
    for index in range(320):
        word, first, last = [("rise", 400, 900), ("fall", 900, 400), ("low", 400, 400), ("high", 900, 900)][index % 4]
        pitch = rng.uniform(0.8, 1.25) * np.geomspace(first, last, rng.integers(2000, 4000))
        wave = 0.1 * np.sin(2 * np.pi * np.cumsum(pitch) / 8000) + 0.01 * rng.standard_normal(len(pitch))
        file = folder / ("train" if index < 240 else "test") / word / f"{index}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        wavfile.write(file, 8000, wave.astype(np.float32))


def make_ear(sample_rate: float) -> jsnn.Network:
    """Return the ear that `cochlea` has, which receives a sample at each step: [B] -> spikes [B, CHANNELS]."""
    frequencies, step = jsnn.encode.center_frequencies(CHANNELS, low=LOW, high=HIGH), 1 / sample_rate
    unit = 10 ** ((94 - 30) / 20)  # a root mean square of 1 is 94 dB, and in the unit of the hair cells 30 dB
    return jsnn.Sequential(
        jsnn.encode.Gammatone(frequencies, sample_rate),
        lambda bands: unit * frequencies / 1e3 * bands,
        jsnn.encode.HairCell(step),
        jsnn.LIF.from_time_constants(2e-3, dt=step, gain=-math.expm1(-step / 2e-3), threshold=1.05, reset="zero"),
    )


def main(path: str | None = None) -> tuple[float, float]:
    """Train, and stream a recording; return the accuracy, and how far the stream is from the whole, relatively."""
    cochlea = jsnn.encode.Cochlea(CHANNELS, DT, LOW, HIGH, level=None)
    with tempfile.TemporaryDirectory() as made:
        if path is None:
            make_tones(Path(made))
        train, test = (jsnn.data.load(Path(path or made), split) for split in ("train", "test"))
        train = train[np.random.default_rng(0).permutation(len(train))[:700]]  # of a large set a part is enough
        training, testing = (part.to_dataset(lambda sound: cochlea(sound), length=60) for part in (train, test))
        sound, word = test[3], test.class_names[test.targets[3]]
    ear, samples, size = make_ear(sound.sample_rate), sound.samples.mean(1), round(DT * sound.sample_rate)
    if sound.sample_rate % 100:  # at 8, 16, 44.1 and 48 kHz they are whole
        raise SystemExit(f"a chunk of 10 ms must be whole samples, which they are not at {sound.sample_rate:,} Hz")

    def loss(network, examples, labels, key):
        logits = jsnn.decode.mean(jsnn.unroll(network, examples.inputs.swapaxes(0, 1))[1], lengths=examples.lengths)
        value = jsnn.losses.cross_entropy(logits, labels)
        return value, {"loss": value, "accuracy": jsnn.metrics.is_correct(logits, labels)}

    network = jsnn.models.adaptive_recurrent([CHANNELS, 128, train.num_classes], rngs=nnx.Rngs(0))
    fitted = jsnn.train.fit(network, loss, training, optimizer=optax.adam(3e-3), epochs=10, batch_size=32, test=testing)
    network, accuracy = fitted.network, fitted.history[-1]["test_accuracy"]
    print(f"{accuracy:.1%} of {len(test)} test recordings are recognised")

    @jax.jit
    def hear(states, chunk):
        heard, spikes = jsnn.unroll(ear, chunk[:, None], states[0])  # of one sound: [S, 1] -> [S, 1, CHANNELS]
        state, output = network.step(states[1], spikes.sum(0))
        return (heard, state), output

    states, outputs, seconds = (ear.init((1,)), network.init((1, CHANNELS))), [], []
    for number, chunk in enumerate(np.pad(samples, (0, -len(samples) % size)).reshape(-1, size), start=1):
        begin = time.perf_counter()
        states, output = jax.block_until_ready(hear(states, chunk))
        seconds.append(time.perf_counter() - begin)
        outputs.append(output)
        if number % 10 == 0:
            print(f"after {number * DT:.1f} s: {train.class_names[int(sum(outputs)[0].argmax())]}")
    whole = jsnn.unroll(network, cochlea(sound)[:, None])[1]
    difference = float(jnp.abs(jnp.stack(outputs) - whole).max() / jnp.abs(whole).max())
    print(f"it was {word!r}; {1e6 * np.median(seconds):.0f} µs a step; unroll differs by {difference:.0e}")
    return accuracy, difference


if __name__ == "__main__":
    main(*sys.argv[1:])
