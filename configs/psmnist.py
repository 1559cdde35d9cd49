"""Permuted sequential MNIST, one pixel a step: ready to run, not trained here yet.

    python -m experiments.run configs/psmnist.py
    python -m experiments.run configs/psmnist.py --encoder.order None      (row by row)

A target of 90% in two hours on two cores is not measured yet.
"""

from experiments.config import Data, Experiment, Mean, Objective, Optimizer, PixelByPixel, Recurrent, Train


def get_config() -> Experiment:
    """One recurrent layer of 200 adaptive neurons, 42,410 parameters, 784 steps."""
    return Experiment(
        name="psmnist",
        num_steps=784,
        data=Data(name="mnist"),
        encoder=PixelByPixel(order=0),
        network=Recurrent(hidden=(200,), decay=0.95, adaptation=0.2, decay_adaptation=0.996, readout_decay=0.99),
        objective=Objective(decoder=Mean()),
        optimizer=Optimizer(learning_rate=3e-3, schedule="cosine", clip_norm=1.0),
        train=Train(epochs=10, batch_size=128),
    )
