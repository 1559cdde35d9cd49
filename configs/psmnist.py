"""Permuted sequential MNIST, one pixel a step, 69,386 parameters: 94.9%.

    python -m experiments.run configs/psmnist.py
    python -m experiments.run configs/psmnist.py --encoder.order None      (row by row, not trained here yet)

The neurons of the first layer learn which of the last 784 pixels each of them sees. After each of the five epochs 91.1,
93.0, 94.3, 94.5 and 94.9% of the test set, in about 100 minutes of processor time on 2 cores of a shared x86-64 machine
(2026-11-30). Other work ran beside it, and the run was stopped and resumed: how long five epochs take by the clock is
not measured. The first one, which had the machine nearly alone, took 17 minutes.
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
