"""MNIST: Norse's tutorial network, conv 20-50, dense 500."""

from experiments.config import ConstantCurrent, Data, Experiment, NorseConv, Objective, Optimizer, Train


def get_config() -> Experiment:
    """The tutorial's network."""
    return Experiment(
        name="mnist_conv",
        num_steps=16,
        data=Data(name="mnist", mean=(0.1307,), std=(0.3081,), shift=2),
        encoder=ConstantCurrent(),
        model=NorseConv(),
        objective=Objective(decoder="max_over_time"),
        optimizer=Optimizer(name="adam", learning_rate=2e-3, schedule="cosine"),
        train=Train(epochs=6, batch_size=32),
    )
