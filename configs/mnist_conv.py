"""MNIST: Norse's tutorial network, conv 20-50, dense 500."""

from experiments.config import Data, Direct, Experiment, NorseConv, Objective, Optimizer, Train


def get_config() -> Experiment:
    """The tutorial's network."""
    return Experiment(
        name="mnist_conv",
        num_steps=6,
        data=Data(name="mnist", mean=(0.1307,), std=(0.3081,), shift=1),
        encoder=Direct(),
        model=NorseConv(dt=4e-3, v_th=0.25, alpha=10.0),
        objective=Objective(decoder="max_over_time"),
        optimizer=Optimizer(name="adam", learning_rate=2e-3, schedule="warmup_cosine"),
        train=Train(epochs=6, batch_size=32),
    )
