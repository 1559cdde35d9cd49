"""CIFAR-10, a small SEW-ResNet trained directly through 4 time steps: a draft, not trained to its end yet."""

from experiments.config import Data, Experiment, Objective, Optimizer, SpikingResNet, Train


def get_config() -> Experiment:
    """Three stages of one block each, 40 to 160 channels; the image is the current at every step."""
    return Experiment(
        name="cifar10_sew_resnet",
        num_steps=4,
        data=Data(name="cifar10", mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616), flip=True, shift=2),
        model=SpikingResNet(depth=(1, 1, 1), form="sew", stem="pooled", channels=40),
        objective=Objective(decoder="mean"),
        optimizer=Optimizer(
            name="muon",
            learning_rate=5e-3,
            options={"consistent_rms": 0.2, "weight_decay": 0.01},
            schedule="warmup_cosine",
            warmup=0.05,
        ),
        train=Train(epochs=15, batch_size=100),
    )
