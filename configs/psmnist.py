"""Permuted sequential MNIST, one pixel a step, 69,386 parameters: 93.3%; row by row 95.3%.

    python -m experiments.run configs/psmnist.py
    python -m experiments.run configs/psmnist.py --encoder.order None      (row by row)

The neurons of the first layer learn which of the last 784 pixels each of them sees. After each of the three epochs
90.1, 93.3 and 93.3% of the test set, 28 min by the clock from the command to its page, on 2 free cores of a shared
x86-64 machine; row by row 92.5, 95.1 and 95.3% (2026-11-30; one run each). Five epochs reached 94.9%.
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
        train=Train(epochs=3, batch_size=128),
    )
