"""Fashion-MNIST, every stage of KerasSpiking's tutorial: rate network, spikes at four dt, spiking-aware, filtered."""

from typing import Any

from experiments.config import (
    Conversion,
    Data,
    Experiment,
    Objective,
    Optimizer,
    RateDense,
    SpikingDense,
    Study,
    Sweep,
    Train,
)

DATA = Data(name="fashion_mnist")
OPTIMIZER = Optimizer(name="adam", learning_rate=3e-3, schedule="cosine")
TRAIN = Train(epochs=30, batch_size=128)


def spiking(name: str, model: SpikingDense, **objective: Any) -> Experiment:
    """A stage that is trained with spikes: ten steps of the static image, decided on the last."""
    return Experiment(
        name=name,
        num_steps=10,
        data=DATA,
        model=model,
        objective=Objective(decoder="last", **objective),
        optimizer=OPTIMIZER,
        train=TRAIN,
    )


def get_config() -> Study:
    """The tutorial's stages in its order, and two of our own: another 10 Hz penalty, and few spikes."""
    rate = Experiment(
        name="rate",
        data=DATA,
        model=RateDense(),
        optimizer=OPTIMIZER,
        train=TRAIN,
        conversion=Conversion(num_steps=10, dt=1e-3, v_init="random", batch_size=500),
        sweep=Sweep(dt=(0.001, 0.01, 0.1, 1.0)),
    )
    return Study(
        name="fashion_mnist_spiking",
        stages=(
            rate,
            spiking("spiking_aware", SpikingDense(dt=0.1)),
            spiking("each_image_10_hz", SpikingDense(dt=0.1), rate_penalty=1e-3, rate_target=10.0),
            spiking("mean_10_hz", SpikingDense(dt=0.1), rate_penalty=1e-3, rate_target=10.0, rate_over="batch"),
            spiking("lowpass", SpikingDense(dt=0.01, tau=0.1), rate_penalty=2e-6),
            spiking("few_spikes", SpikingDense(hidden=(512,), dt=0.01, tau=0.1), rate_penalty=8e-6),
        ),
    )
