"""Permuted sequential MNIST, one pixel a step: delays of up to 783 steps.

python -m experiments.run configs/psmnist.py
python -m experiments.run configs/psmnist.py --encoder.order None      (row by row)
"""

from experiments.config import Data, Delayed, Experiment, Last, Objective, Optimizer, PixelByPixel, Train


def get_config() -> Experiment:
    """A layer whose synapses learn how far they look back, and a dense one; the last of 784 steps is the answer."""
    return Experiment(
        name="psmnist",
        num_steps=784,
        data=Data(name="mnist"),
        encoder=PixelByPixel(order=0),
        network=Delayed(hidden=(256, 128), max_delay=(783, 0, 0), width=0.5, decay=0.5, readout_decay=0.5),
        objective=Objective(decoder=Last()),
        optimizer=Optimizer(learning_rate=5e-3, schedule="cosine"),
        train=Train(epochs=5, batch_size=128),
    )
