"""MNIST: Norse's tutorial network, recurrent LIF-100, T = 32."""

from experiments.config import ConstantCurrent, Data, Experiment, NorseRecurrent, Objective, Optimizer, Train


def get_config() -> Experiment:
    """The tutorial to the letter: constant-current encoder, Adam 2e-3, batches of 256."""
    return Experiment(
        name="mnist_recurrent",
        num_steps=32,
        data=Data(name="mnist", mean=(0.1307,), std=(0.3081,), shift=1),
        encoder=ConstantCurrent(),
        model=NorseRecurrent(alpha=5.0, input_scale=0.35, recurrent_scale=0.3),
        objective=Objective(decoder="max_over_time"),
        optimizer=Optimizer(name="adam", learning_rate=2e-3, schedule="cosine"),
        train=Train(epochs=10, batch_size=256),
    )
