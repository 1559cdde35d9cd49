"""What the ear makes of tones, of their loudness and their onset; lengths, batches, gradients; and what is refused."""

import dataclasses
import inspect
import os
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tones import RATE, noise, tone

import jsnn
from jsnn import encode
from jsnn.data import Sound
from jsnn.encode import hearing

BANKS = ["gammatone", "mel"]
DIGITS = Path(os.environ.get("JSNN_RECORDINGS", "/work/shared/recordings")) / "spoken_digits"


def assert_same_spikes(found, expected):
    """Rounding, which differs from program to program, may move a spike here and there."""
    assert found.shape == expected.shape
    different = np.abs(np.asarray(found, np.float64) - np.asarray(expected, np.float64))
    assert different.max() <= 1
    assert different.mean() < 5e-3


@pytest.mark.parametrize("bank", BANKS)
@pytest.mark.parametrize("frequency", [180, 440, 1000, 2050, 3100])
def test_a_tone_excites_the_nearest_channel(bank, frequency):
    # soft, so that the channel does not saturate; its velocity is the same for all frequencies
    spikes = encode.cochlea(tone(frequency, amplitude=10 / frequency), RATE, num_channels=16, bank=bank, level=None)
    distance = np.abs(encode.center_frequencies(16, bank=bank) - frequency)
    assert spikes.sum() > 0
    assert spikes.sum(0).argmax() == distance.argmin()


@pytest.mark.rows(1)
@pytest.mark.parametrize("bank", BANKS)
def test_louder_sounds_spike_more_unless_their_level_is_set(bank):
    amplitudes = [0.0, 1e-3, 3e-3, 1e-2, 1e-1, 1.0]
    sounds = np.stack([tone(1000, amplitude=a) for a in amplitudes], axis=1)
    as_it_is, levelled = (
        encode.cochlea(sounds, RATE, num_channels=16, bank=bank, level=level).sum((0, 2)) for level in (None, 60.0)
    )
    assert as_it_is[0] == levelled[0] == 0  # silence
    assert np.all(np.diff(as_it_is[1:]) > 0)
    np.testing.assert_allclose(levelled[1:], levelled[1], rtol=0.01)


def test_level_is_that_of_the_loudest_tenth_of_a_second():
    # 60 dB is a root mean square of 0.02 Pa
    sound = np.concatenate([tone(1000, 0.2, 0.3), tone(1000, 0.1, 0.9), tone(1000, 0.2, 0.3)])
    in_pascal = sound * (0.02 * 2**0.5 / 0.9)
    assert_same_spikes(encode.cochlea(sound, RATE, level=60.0), encode.cochlea(np.float32(in_pascal), RATE, level=None))


@pytest.mark.rows(1)
@pytest.mark.parametrize("bank", BANKS)
def test_adaptation(bank):
    spikes = encode.cochlea(tone(1000, 0.5), RATE, bank=bank).sum(1)
    onset, sustained, late = spikes[:5].mean(), spikes[10:25].mean(), spikes[35:].mean()
    assert onset > 1.4 * sustained > 1.4 * late > 0
    after = np.concatenate([tone(1000, 0.3), np.zeros(2000), tone(1000, 0.1)]).astype(np.float32)
    spikes = encode.cochlea(after, RATE, bank=bank).sum(1)
    assert spikes[35:54].sum() == 0  # nothing in the pause
    assert late < spikes[55:60].mean() < 1.1 * onset  # the cell has recovered


@pytest.mark.rows(1)
@pytest.mark.parametrize("bank", BANKS)
def test_a_batch_gives_the_spikes_of_each_sound_and_jit_those_of_a_call(bank):
    sounds = noise(3000, 3)

    def code(sound):
        return encode.cochlea(sound, RATE, num_channels=12, bank=bank)

    spikes = code(sounds)
    assert spikes.shape == (38, 3, 12)
    for b in range(3):
        assert_same_spikes(spikes[:, b], code(sounds[:, b]))
    assert_same_spikes(jax.jit(code)(sounds), spikes)
    assert_same_spikes(jax.vmap(code, 1, 1)(sounds), spikes)


def test_its_parts_hear_a_stream_chunk_by_chunk():
    sound, frequencies = noise(2400), encode.center_frequencies(12)
    bushy_cells = jsnn.LIF.from_time_constants(2e-3, dt=1 / RATE, gain=-np.expm1(-1 / 16), threshold=1.05, reset="zero")
    ear = jsnn.Sequential(
        encode.Gammatone(frequencies, float(RATE)),
        lambda bands: 10**3.2 * frequencies / 1e3 * bands,  # a pascal is 94 dB, and Meddis has 1 at 30 dB
        encode.HairCell(1 / RATE),
        bushy_cells,
    )
    state, counts, listen = ear.init(()), [], jax.jit(lambda state, chunk: jsnn.unroll(ear, chunk, state))
    for chunk in sound.reshape(-1, 80):  # 10 ms
        state, spikes = listen(state, chunk)
        counts.append(spikes.sum(0))
    assert_same_spikes(np.stack(counts), encode.cochlea(sound, RATE, num_channels=12, level=None))


@pytest.mark.rows(4)
@pytest.mark.parametrize("bank", BANKS)
@pytest.mark.parametrize("silence", [1, 700, 5000])
def test_silence_after_a_sound_changes_nothing_before(bank, silence):
    sound = noise(3000)
    longer = encode.cochlea(np.pad(sound, (0, silence)), RATE, num_channels=12, bank=bank)
    spikes = encode.cochlea(sound, RATE, num_channels=12, bank=bank)
    assert_same_spikes(longer[: len(spikes)], spikes)


@pytest.mark.parametrize(
    ("samples", "rate", "dt", "steps"),
    [
        (1, 8000, 0.01, 1), (80, 8000, 0.01, 1), (81, 8000, 0.01, 2), (2400, 8000, 0.1, 3), (2401, 8000, 0.1, 4),
        (4410, 44_100, 0.01, 10), (3308, 11_025, 0.1, 4), (3307, 11_025, 0.1, 3), (2320, 8000, 0.29, 1),
        (50, 8000, 1 / 8000, 50), (100, 8000, 1e6, 1),
    ],
)  # fmt: skip
def test_number_of_steps(samples, rate, dt, steps):
    assert jax.eval_shape(lambda x: encode.cochlea(x, rate, dt=dt), np.zeros(samples, np.float32)).shape == (steps, 64)


def test_numbers_may_be_arrays_and_float32():
    expected = encode.cochlea(noise(2400), RATE, num_channels=4, dt=0.1, level=60.0)
    for number in (np.float32, jnp.float32, np.array):
        found = encode.cochlea(
            noise(2400), number(RATE), num_channels=jnp.array(4), dt=number(0.1), level=number(60.0), low=number(100.0)
        )
        assert_same_spikes(found, expected)
    assert encode.mel(noise(400), jnp.array(RATE), low=jnp.array(200.0)).shape == (50, 64)


@pytest.mark.parametrize("channels", [1, 2])
def test_sound_in_another_order_of_bytes(channels):
    samples = np.repeat(noise(2400)[:, None], channels, axis=1)
    found, expected = (encode.Cochlea(4)(Sound(samples.astype(dtype), RATE)) for dtype in (">f4", np.float32))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.rows(3)
@pytest.mark.parametrize("bank", BANKS)
@pytest.mark.parametrize("rate", [RATE, 11_025])
def test_long_steps_count_the_spikes_of_short_ones(bank, rate):
    sound = noise(rate // 2)
    short, long = (encode.cochlea(sound, rate, num_channels=12, dt=dt, bank=bank) for dt in (2e-3, 1e-2))
    assert short.shape == (250, 12)
    np.testing.assert_array_equal(short.reshape(50, 5, 12).sum(1), long)
    assert long.sum() > 100


def test_lengths_within_a_quarter_of_a_second_are_compiled_once():
    before = hearing._counts._cache_size()
    for samples in (2001, 2500, 3333, 4000):
        encode.Cochlea(num_channels=3)(Sound(noise(samples)[:, None], RATE))
    assert hearing._counts._cache_size() == before + 1


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64])
def test_dtype_is_that_of_the_sound(dtype):
    with jax.enable_x64(dtype == jnp.float64):
        for function in (encode.cochlea, encode.gammatone, encode.mel):
            shape = jax.eval_shape(lambda x, f=function: f(x, RATE), np.zeros((100, 2), dtype))
            assert shape.dtype == dtype
        assert encode.cochlea(jnp.zeros(100, dtype), RATE, num_channels=2).dtype == dtype


@pytest.mark.rows(3)
@pytest.mark.parametrize("bank", BANKS)
@pytest.mark.parametrize("level", [None, 70.0])
def test_gradients_are_finite_and_reach_the_sound(bank, level):
    def total(sound):
        return encode.cochlea(sound, RATE, num_channels=4, bank=bank, level=level).sum()

    assert np.isfinite(jax.grad(total)(np.zeros(400, np.float32))).all()
    gradient = jax.grad(total)(tone(1000, 0.05))
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


def test_transform_of_recordings():
    sound = noise(4000, 2)  # stereo
    transform = encode.Cochlea(num_channels=8, dt=0.02, bank="mel", level=60.0)
    spikes = transform(Sound(sound, RATE))
    expected = encode.cochlea(sound.mean(1), RATE, num_channels=8, dt=0.02, bank="mel", level=60.0)
    np.testing.assert_array_equal(spikes, expected)
    assert transform == dataclasses.replace(transform)
    dataset = jsnn.data.Recordings([Sound(sound, RATE), Sound(sound[:1000], RATE)], [0, 1]).to_dataset(transform)
    assert (dataset.inputs.shape, dataset.lengths.tolist()) == ((2, 25, 8), [25, 7])


def test_options_of_the_function_and_the_transform_are_the_same():
    options = {name: p.default for name, p in inspect.signature(encode.cochlea).parameters.items() if p.kind == 3}
    assert options == {field.name: field.default for field in dataclasses.fields(encode.Cochlea)}


SOUND = np.zeros(800, np.float32)


@pytest.mark.parametrize("function", [encode.cochlea, encode.gammatone, encode.mel])
@pytest.mark.parametrize(
    ("sound", "options", "error", "message"),
    [
        (np.zeros(800, np.int16), {}, TypeError, "divide it by 32768"),
        (np.zeros(800, np.uint8), {}, TypeError, "take (sound.astype(float) - 128) / 128"),
        (np.full(800, 1e20, np.float32), {}, ValueError, "sound must be in [-1, 1], or near it, got values up to 1e+"),
        (SOUND[:0], {}, ValueError, "sound must not be empty, got shape (0,)"),
        (np.full(800, np.nan, np.float32), {}, ValueError, "sound must be finite, got nan"),
        (np.full(800, np.inf, np.float32), {}, ValueError, "sound must be finite, got inf"),
        (SOUND.reshape(2, 400), {}, ValueError, "time first, [S, B], got shape (2, 400): transpose it with sound.T"),
        (SOUND.reshape(200, 2, 2), {}, ValueError, "sound must be [S], or [S, B] of several sounds, got shape (200"),
        (SOUND, {"sample_rate": 0}, ValueError, "sample_rate must be above 0 and finite, got 0"),
        (SOUND, {"sample_rate": float("inf")}, ValueError, "sample_rate must be above 0 and finite, got inf"),
        (SOUND, {"sample_rate": 200}, ValueError, "sample_rate must be above 222.222 Hz for low = 100 Hz, got 200"),
        (SOUND, {"sample_rate": 1e12}, ValueError, "GiB of memory"),
        (SOUND, {"high": 4000.0}, ValueError, "must be below half the sample rate, 4000 Hz, got 4000 Hz: lower it"),
        (SOUND, {"high": 50.0}, ValueError, "high must be above low = 100 Hz, got 50 Hz"),
        (SOUND, {"low": 0.0}, ValueError, "low must be > 0, got 0"),
        (SOUND, {"num_channels": 1}, ValueError, "num_channels must be >= 2, got 1"),
    ],
)
def test_bad_sounds_and_frequencies(function, sound, options, error, message):
    with pytest.raises(error) as caught:
        function(sound, **{"sample_rate": RATE, **options})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dt": 0.0}, "dt must be > 0, got 0"),
        ({"dt": -1.0}, "dt must be > 0, got -1"),
        ({"dt": 1e-4}, "dt must be at least a step of the gammatone bank, 0.000125 s, got 0.0001 s"),
        ({"dt": 5e-4, "bank": "mel"}, "dt must be at least a step of the mel bank, 0.001 s, got 0.0005 s"),
        ({"bank": "bark"}, "bank must be 'gammatone' or 'mel', got 'bark'"),
        ({"level": 1000.0}, "level must be in [-100, 200] dB, got 1000"),
        ({"tau_mem": 0.0}, "tau_mem must be > 0, got 0"),
        ({"threshold": 1.0}, "threshold must be above 1, the potential in silence, got 1"),
    ],
)
def test_bad_options(options, message):
    for function in (
        lambda: encode.cochlea(SOUND, RATE, **options),
        lambda: encode.Cochlea(**options)(Sound(SOUND[:, None], RATE)),
    ):
        with pytest.raises((TypeError, ValueError)) as caught:
            function()
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: encode.Cochlea()(Sound(SOUND, RATE)), "samples of a sound must be [S, C], and not empty, got shape"),
        (lambda: encode.Cochlea(surrogate=3), "surrogate must be a function such as jsnn.surrogate.arctan(), got 3"),
        (lambda: encode.Cochlea()(SOUND), "must have samples and a sample_rate, got ndarray: pass a jsnn.data.Sound("),
        (lambda: encode.Cochlea()(Sound(np.ones((9, 2), np.int16), RATE)), "got int16: divide it by 32768"),
        (lambda: encode.mel(SOUND, RATE, hop=1e-5), "hop must be at least a sample, 0.000125 s, got 1e-05 s"),
        (lambda: encode.mel(SOUND, RATE, window=1e300), "GiB of memory"),
        (lambda: encode.mel(SOUND, RATE, window=1e-3, hop=1e-2), "window must be at least hop = 0.01 s, got 0.001 s"),
        (lambda: encode.Gammatone(np.float32([5000.0]), 8000.0), "below half the sample rate, 4000 Hz, got 5000 Hz"),
        (lambda: encode.Gammatone(np.float32([[500.0]]), 8000.0), "frequencies must be [N], got shape (1, 1)"),
        (lambda: encode.Gammatone(np.float32([]), 8000.0), "frequencies must be [N], got shape (0,)"),
        (lambda: encode.mel(SOUND, RATE, window=-float("inf")), "window must be at least a sample"),
        (lambda: encode.Gammatone(np.float32([-1.0]), 8000.0), "frequencies must be > 0"),
        (lambda: encode.HairCell(dt=0.0), "dt must be > 0"),
        (lambda: encode.center_frequencies(4, low=10.0, high=5.0), "high must be above low = 10 Hz, got 5 Hz"),
    ],
)
def test_bad_parts(call, message):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        call()


@pytest.mark.slow
@pytest.mark.skipif(not DIGITS.is_dir(), reason="no recordings of spoken digits")
@pytest.mark.parametrize("bank", BANKS)
def test_spoken_digits_can_be_told_apart(bank):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    def features(split):
        recordings = jsnn.data.load(str(DIGITS), split)
        return [in_tenths(encode.Cochlea(bank=bank)(sound)) for sound in recordings], recordings.targets

    def in_tenths(spikes):
        edges = np.linspace(0, len(spikes), 11)
        total = np.concatenate([np.zeros((1, spikes.shape[1])), np.cumsum(spikes, 0)])
        sums = np.stack([np.interp(edges, np.arange(len(total)), column) for column in total.T], axis=1)
        return np.sqrt(np.diff(sums, axis=0) / len(spikes)).ravel()

    classifier = make_pipeline(StandardScaler(), SVC(C=10)).fit(*features("train"))
    assert classifier.score(*features("test")) > 0.96
