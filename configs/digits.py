"""Handwritten digits, 8x8 pixels: a feedforward spiking network.

python -m experiments.run configs/digits.py
"""

from experiments.config import Data, Experiment, Feedforward, Optimizer, Train


def get_config() -> Experiment:
    """The default experiment: needs no download."""
    return Experiment(
        name="digits",
        num_steps=16,
        data=Data(name="digits"),
        model=Feedforward(hidden=(128,)),
        optimizer=Optimizer(learning_rate=3e-3, schedule="cosine"),
        train=Train(epochs=20, batch_size=64),
    )
