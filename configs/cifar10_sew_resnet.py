"""CIFAR-10, a small SEW-ResNet trained directly through 4 time steps: 69% after 4 of its 14 epochs.

A draft: it has not been trained to its end yet. An epoch took 430 s on 2 cores of an x86-64 machine with AVX2
(2026-11-29).
"""

from experiments.config import Data, Experiment, Objective, Optimizer, SpikingResNet, Train


def get_config() -> Experiment:
    """Three stages of one block each, 40 to 160 channels; the image is the current at every step."""
    return Experiment(
        name="cifar10_sew_resnet",
        num_steps=4,
        data=Data(name="cifar10", mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616), flip=True, shift=4),
        model=SpikingResNet(depth=(1, 1, 1), form="sew", stem="pooled", channels=40),
        objective=Objective(decoder="mean"),
        optimizer=Optimizer(
            name="adamw", learning_rate=3e-3, options={"weight_decay": 0.02}, schedule="warmup_cosine", warmup=0.05
        ),
        train=Train(epochs=14, batch_size=100),
    )
