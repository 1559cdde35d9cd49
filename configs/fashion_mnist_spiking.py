"""Fashion-MNIST, every stage of KerasSpiking's tutorial: rate network, spikes at four dt, spiking-aware, filtered."""

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
OPTIMIZER = Optimizer(name="adam", learning_rate=1e-3, options={"eps": 1e-7})
TRAIN = Train(epochs=10, batch_size=32)


def spiking(name: str, model: SpikingDense, objective: Objective) -> Experiment:
    """A stage that is trained with spikes: ten steps of the static image."""
    return Experiment(
        name=name, num_steps=10, data=DATA, model=model, objective=objective, optimizer=OPTIMIZER, train=TRAIN
    )


def get_config() -> Study:
    """The tutorial's stages in its order."""
    return Study(
        name="fashion_mnist_spiking",
        stages=(
            Experiment(
                name="rate",
                data=DATA,
                model=RateDense(),
                optimizer=OPTIMIZER,
                train=TRAIN,
                conversion=Conversion(num_steps=10, dt=1e-3, v_init="random", batch_size=500),
                sweep=Sweep(dt=(0.001, 0.01, 0.1, 1.0)),
            ),
            spiking("spiking_aware", SpikingDense(dt=0.1), Objective(decoder="last")),
            spiking("rate_10_hz", SpikingDense(dt=0.1), Objective(decoder="last", rate_penalty=1e-3, rate_target=10.0)),
            spiking("lowpass", SpikingDense(dt=0.01, tau=0.1), Objective(decoder="last")),
        ),
    )
