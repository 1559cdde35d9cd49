"""MNIST: a recurrent network of the tutorial's size, tuned."""

import dataclasses

from configs import mnist_recurrent
from experiments.config import Direct, Experiment


def get_config() -> Experiment:
    """The tutorial's network; longer, with a falling learning rate and shifted images."""
    base = mnist_recurrent.get_config()
    return dataclasses.replace(
        base,
        name="mnist_recurrent_tuned",
        encoder=Direct(),
        objective=dataclasses.replace(base.objective, decoder="mean"),
        data=dataclasses.replace(base.data, shift=1),
        optimizer=dataclasses.replace(base.optimizer, learning_rate=4e-3, schedule="cosine", clip_norm=1.0),
        train=dataclasses.replace(base.train, epochs=20),
    )
