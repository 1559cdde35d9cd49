"""CIFAR-10, the network of NengoDL's tutorial with normalised images in random order, to be converted into spikes."""

import dataclasses

from configs import cifar10_conversion
from experiments.config import Conversion, Data, Experiment, Objective, Optimizer


def get_config() -> Experiment:
    """The same network and length of training; the learning rate falls to zero."""
    return dataclasses.replace(
        cifar10_conversion.get_config(),
        name="cifar10_normalised",
        data=Data(name="cifar10", mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.2435, 0.2616)),
        objective=Objective(kernel_penalty=0.001),
        optimizer=Optimizer(name="adam", learning_rate=1e-3, schedule="cosine"),
        conversion=Conversion(num_steps=30, scale=200.0, synapse=0.005, v_init="random"),
    )
