"""The parts of the ear: its filters beside their formulas, and the hair cell beside Meddis' equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tones import RATE, noise, tone

import jsnn
from jsnn import encode

# Filters


@pytest.mark.parametrize(("bank", "u"), [("gammatone", lambda f: np.log10(1 + 0.00437 * f)),
                                         ("mel", lambda f: np.log10(1 + f / 700))])  # fmt: skip
def test_centre_frequencies_are_evenly_spaced_to_the_ear(bank, u):
    frequencies = np.asarray(encode.center_frequencies(20, low=50, high=7000, bank=bank), np.float64)
    np.testing.assert_allclose(frequencies[[0, -1]], [50, 7000], rtol=1e-5)
    np.testing.assert_allclose(np.diff(u(frequencies)), np.ptp(u(frequencies)) / 19, rtol=1e-3)


def test_response_to_an_impulse_by_its_formula():
    impulse = np.zeros(1000, np.float32)
    impulse[0] = 1
    bands = encode.gammatone(impulse, RATE, num_channels=5, high=3000)
    n = np.arange(1000)
    for band, f in zip(bands.T, np.asarray(encode.center_frequencies(5, high=3000), np.float64)):
        decay = np.exp(-2 * np.pi * 1.019 * 24.7 * (1 + 0.00437 * f) / RATE)
        envelope = 2 * (1 - decay) ** 4 * (n + 1) * (n + 2) * (n + 3) / 6 * decay**n
        expected = envelope * np.cos(2 * np.pi * f * n / RATE)
        np.testing.assert_allclose(band, expected, atol=1e-4 * envelope.max())


@pytest.mark.parametrize("frequency", [200.0, 1000.0])
def test_frequency_response_beside_scipys_gammatone(frequency):
    scipy_signal = pytest.importorskip("scipy.signal")
    rate = 16_000.0
    theirs, _ = scipy_signal.gammatone(frequency, "fir", order=4, numtaps=4000, fs=rate)
    impulse = np.zeros(4000, np.float32)
    impulse[0] = 1
    ours = jsnn.unroll(encode.Gammatone(np.float32([frequency]), rate), impulse)[1][:, 0]
    near = np.abs(np.fft.rfftfreq(4000, 1 / rate) - frequency) < 60 + 0.1 * frequency
    ours, theirs = (20 * np.log10(np.abs(np.fft.rfft(np.asarray(x, np.float64)))[near]) for x in (ours, theirs))
    np.testing.assert_allclose(ours, theirs, atol=0.3)  # dB
    assert theirs.min() < -14


@pytest.mark.parametrize("bank", [encode.gammatone, encode.mel])
@pytest.mark.parametrize("rate", [RATE, 11_025])
def test_a_sine_keeps_its_amplitude_in_its_band_and_fades_in_others(bank, rate):
    frequencies = encode.center_frequencies(12, high=0.45 * rate, bank=bank.__name__)
    for channel in (2, 5, 9):
        bands = np.abs(bank(tone(float(frequencies[channel]), 0.3, 0.5, rate), rate, num_channels=12))
        loudest = bands[len(bands) // 2 :].max(0)
        np.testing.assert_allclose(loudest[channel], 0.5, rtol=0.03)
        assert loudest.argmax() == channel
        above_noise = np.maximum(loudest, 0.005)
        assert np.all(np.diff(above_noise[: channel + 1]) >= 0)
        assert np.all(np.diff(above_noise[channel:]) <= 0)


def test_mel_looks_back_only():
    click = np.zeros(800, np.float32)
    click[400] = 1.0  # at 50 ms
    heard = np.asarray(encode.mel(click, RATE)).max(1) > 1e-6
    assert np.flatnonzero(heard).tolist() == list(range(50, 75))


# The hair cell


def meddis(movement, rate):
    """Meddis (1986) by Euler's method in steps so small that they do not matter: what is released, 1 / s."""
    y, g, loss, r, x, a, b, h = 5.05, 2000.0, 2500.0, 6580.0, 66.31, 5.0, 300.0, 50_000.0
    k = g * a / (a + b)
    c = y * k / (loss * k + y * (loss + r))
    q, w = c * (loss + r) / k, c * r / x
    spikes = []
    for s in movement:
        k = g * (s + a) / (s + a + b) if s + a > 0 else 0.0
        q, c, w = (
            q + (y * (1 - q) + x * w - k * q) / rate,
            c + (k * q - (loss + r) * c) / rate,
            w + (r * c - x * w) / rate,
        )
        spikes.append(h * c)
    return np.array(spikes)


@pytest.mark.parametrize(("rate", "rtol"), [(20_000, 0.05), (1000, 0.12)])
def test_hair_cell_beside_meddis(rate, rtol):
    fine = 100_000
    levels = np.repeat([0.0, 30.0, 300.0, 0.0, -20.0, 100.0], fine // 50)  # 20 ms each
    expected = meddis(levels, fine)
    expected = expected.reshape(-1, fine // 1000).mean(1) / expected[0]  # in each ms, in units of that in silence
    movement = np.float32(levels[:: fine // rate])
    found = jsnn.unroll(encode.HairCell(dt=1 / rate), movement)[1].reshape(-1, rate // 1000).mean(1)
    settled = np.arange(120) % 20 > 0  # the cleft, which is left out, is filled within the ms after a change
    np.testing.assert_allclose(found[settled], expected[settled], rtol=rtol, atol=0.02)


@pytest.mark.parametrize("dt", [1e-5, 1e-3, 1.0])
def test_hair_cell_stays_at_rest(dt):
    release = jsnn.unroll(encode.HairCell(dt), np.zeros(500, np.float32))[1]
    np.testing.assert_allclose(release, 1, rtol=1e-3)


@pytest.mark.slow
def test_hair_cell_keeps_the_rules_of_neurons():
    jsnn.testing.check_neuron(encode.HairCell(dt=1e-3))


def test_gammatone_for_streams_and_trained():
    bank = encode.Gammatone(encode.center_frequencies(4), float(RATE))
    sound = noise(200, 3)  # [T, B]
    unroll = jax.jit(jsnn.unroll)
    whole = unroll(bank, sound)
    state, first = unroll(bank, sound[:90])
    state, second = unroll(bank, sound[90:], state)
    np.testing.assert_allclose(np.concatenate([first, second]), whole[1], atol=1e-6)
    trained = encode.Gammatone(nnx.Param(encode.center_frequencies(4)), float(RATE))
    gradient = jax.jit(jax.grad(lambda bank: jnp.sum(jsnn.unroll(bank, sound)[1] ** 2)))(trained).frequencies[...]
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).min() > 0
