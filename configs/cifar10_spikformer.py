"""CIFAR-10, a small Spikformer trained directly through 4 time steps: 79.8% after 18 of its 20 epochs.

    python -m experiments.run configs/cifar10_spikformer.py

Sixteen epochs with one time step and four with four; not trained to its end yet (2 cores, 2026-11-29).
"""

from experiments.config import Data, Experiment, Mean, Objective, Optimizer, Spikformer, Train


def get_config() -> Experiment:
    """64 patches of 96 features and one block of spiking self-attention; the image is the current at every step."""
    return Experiment(
        name="cifar10_spikformer",
        num_steps=4,
        data=Data(name="cifar10", mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616), flip=True, shift=3),
        network=Spikformer(width=96, depth=1, heads=4, pool=(True, False, True)),
        objective=Objective(decoder=Mean()),
        optimizer=Optimizer(
            name="muon",
            learning_rate=5e-3,
            options={"consistent_rms": 0.2, "weight_decay": 0.03},
            schedule="warmup_cosine",
            warmup=0.05,
        ),
        train=Train(epochs=20, short_epochs=16, short_steps=1, batch_size=100),
    )
