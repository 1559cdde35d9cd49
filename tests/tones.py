"""Sounds to hear: tones and noise."""

import numpy as np

RATE = 8000


def tone(frequency, seconds=0.25, amplitude=0.01, rate=RATE):
    """A sine, in float32."""
    return np.float32(amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate))


def noise(samples, *shape):
    """Noise that comes and goes."""
    swell = np.sin(np.linspace(0, 9, samples)) ** 2
    return np.float32(0.1 * np.random.default_rng(0).normal(size=(*shape, samples)) * swell).T
