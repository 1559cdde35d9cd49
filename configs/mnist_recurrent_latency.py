"""MNIST: Norse's tutorial network with one spike a pixel, the brighter the earlier."""

import dataclasses

from configs import mnist_recurrent
from experiments.config import Experiment, SpikeLatencyLIF


def get_config() -> Experiment:
    """`mnist_recurrent` with the spike-latency encoder, 5 epochs."""
    base = mnist_recurrent.get_config()
    train = dataclasses.replace(base.train, epochs=5)
    return dataclasses.replace(base, name="mnist_recurrent_latency", encoder=SpikeLatencyLIF(), train=train)
