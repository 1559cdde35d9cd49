"""MNIST, Norse's convolutional network (conv 20-50, dense 500) with its tutorial's own settings, 48 steps of 1 ms."""

from experiments.config import ConstantCurrent, Data, Experiment, NorseConv, Optimizer, Train


def get_config() -> Experiment:
    """The tutorial's settings."""
    return Experiment(
        name="mnist_conv_tutorial",
        num_steps=48,
        data=Data(name="mnist", mean=(0.1307,), std=(0.3081,)),
        encoder=ConstantCurrent(),
        network=NorseConv(),
        optimizer=Optimizer(name="adam", learning_rate=1e-3),
        train=Train(epochs=5, batch_size=256),
    )
