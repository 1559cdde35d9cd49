"""CIFAR-10, the weights of cifar10_normalised.py, calibrated: ReLU network 77.1%, spiking after 30 steps 77.1%.

Integrate-and-fire neurons with at most one spike a step, 117,000 spikes for one image (the plain conversion takes
144,000), decided on the mean output. It trains first; `--train.weights RUN` takes the weights of a finished run of
cifar10_normalised.py. Measured on 2 cores of a shared, busy x86-64 machine (2026-11-22): 230 s for conversion and the
10,000 images.
"""

import dataclasses

from configs import cifar10_normalised
from experiments.config import Calibration, Conversion, Experiment


def get_config() -> Experiment:
    """Scales from the 99.9th percentile of 500 training images, half-threshold membranes, no filters."""
    return dataclasses.replace(
        cifar10_normalised.get_config(),
        name="cifar10_conversion_calibrated",
        conversion=Conversion(num_steps=30, neuron="if", v_init=0.5, calibration=Calibration(), last_steps=30),
    )
