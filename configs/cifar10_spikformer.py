"""CIFAR-10, a small Spikformer trained directly through 4 time steps: a draft, not trained to its end yet."""

from experiments.config import Data, Experiment, Objective, Optimizer, Spikformer, Train


def get_config() -> Experiment:
    """64 patches of 96 features and one block of spiking self-attention; the image is the current at every step."""
    return Experiment(
        name="cifar10_spikformer",
        num_steps=4,
        data=Data(name="cifar10", mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616), flip=True, shift=2),
        model=Spikformer(width=96, depth=1, heads=4, pool=(True, False, True)),
        objective=Objective(decoder="mean"),
        optimizer=Optimizer(
            name="muon",
            learning_rate=5e-3,
            options={"consistent_rms": 0.2, "weight_decay": 0.01},
            schedule="warmup_cosine",
            warmup=0.05,
        ),
        train=Train(epochs=10, batch_size=100),
    )
