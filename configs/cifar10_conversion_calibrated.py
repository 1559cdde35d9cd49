"""CIFAR-10, the weights of cifar10_normalised.py, converted into integrate-and-fire neurons and calibrated."""

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
