"""N-MNIST, 1,000 recordings of an event camera to train: 97 and 98% of 100 others, in 3.5 min.

    python -m experiments.run configs/nmnist_small.py --data.name path/of/nmnist_small

Two runs, of 100 recordings one is 1%; after 20 epochs it was 99% and, with other batches, 95%. The second run took
203 s by the clock on 2 cores of a shared x86-64 machine, nearly free (2026-11-30).
"""

from experiments.config import Events, Experiment, Mean, Objective, Optimizer, SpikingResNet, Train


def get_config() -> Experiment:
    """Ten frames of 34x34 pixels and two polarities, 30 ms each, and a small spiking residual network."""
    return Experiment(
        name="nmnist_small",
        num_steps=10,
        data=Events(
            name="../shared/recordings/nmnist_small",
            shape=(34, 34, 2),
            window=30e3,
            start=0,
            length=10,
            merge=2,
            shift=1,
        ),
        network=SpikingResNet(depth=(1, 1), stem="small", channels=16),
        objective=Objective(decoder=Mean()),
        optimizer=Optimizer(
            name="muon",
            learning_rate=5e-3,
            options={"consistent_rms": 0.2, "weight_decay": 0.03},
            schedule="warmup_cosine",
            warmup=0.1,
        ),
        train=Train(epochs=36, batch_size=20),
    )
