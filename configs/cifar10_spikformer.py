"""CIFAR-10, a small Spikformer trained directly through 4 time steps: 78.5%.

    python -m experiments.run configs/cifar10_spikformer.py

Fifteen epochs with one time step, 161 to 171 s each, and two with four, 550 and 558 s: 64 min by the clock, from the
command to its page, on 2 cores of a shared x86-64 machine with other work beside it (2026-12-01; one run, 76.6, 78.1
and 78.5% after the last three epochs). An earlier run had 78.1%; another, planned with 16 and 4 epochs, 79.8% after 18
epochs.
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
        train=Train(epochs=17, short_epochs=15, batch_size=100),
    )
