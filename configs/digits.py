"""Handwritten digits, 8x8 pixels, feedforward: 97.2 ± 0.3% of the test set in 13 s.

    python -m experiments.run configs/digits.py

Measured on 360 test images of scikit-learn's set: the mean of 8 seeds with its 95% interval (`--seeds 8`, 33 s). The
time is that of one network, from the command to its page, on 2 cores of a shared x86-64 machine (2026-11-30); it is 9 s
once the compiled programs are in the cache.
"""

from experiments.config import Data, Experiment, Feedforward, Optimizer, Train


def get_config() -> Experiment:
    """The default experiment: needs no download."""
    return Experiment(
        name="digits",
        num_steps=16,
        data=Data(name="digits"),
        network=Feedforward(hidden=(128,)),
        optimizer=Optimizer(learning_rate=3e-3, schedule="cosine"),
        train=Train(epochs=20, batch_size=64),
    )
