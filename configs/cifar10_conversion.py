"""CIFAR-10, NengoDL's tutorial to the letter: a ReLU network (1,147,466 parameters), to be converted into spikes."""

from experiments.config import Conversion, Data, Experiment, Objective, Optimizer, RateConv, Train


def get_config() -> Experiment:
    """Pixels from 0 to 255 in the data set's order, as in the tutorial."""
    return Experiment(
        name="cifar10_conversion",
        data=Data(name="cifar10", std=(1 / 255,), shuffle=False),
        model=RateConv(),
        objective=Objective(kernel_penalty=0.005),
        optimizer=Optimizer(name="adam", learning_rate=1e-3, options={"eps": 1e-7}),
        train=Train(epochs=20, batch_size=128),
        conversion=Conversion(num_steps=30, dt=1e-3, scale=20.0, synapse=0.005, v_init="random"),
    )
