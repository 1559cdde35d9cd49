"""CIFAR-10, a small SEW-ResNet trained directly through 4 time steps: 84.3%.

    python -m experiments.run configs/cifar10_sew_resnet.py

Thirty epochs in which every neuron sends its mean rate over four steps in one, 120 to 130 s each where the machine was
nearly free, and three with four time steps, 440 s, on 2 cores of a shared x86-64 machine: 87 min added up. This run
had other work beside it and took 128 min (2026-11-30; one run). After the epochs with rates 85.4% of the test images
were right, after each of the epochs with four steps 84.3%. With 40 channels, no cutout, and 15 and 5 epochs it was
83.1%; with LIF neurons and one time step instead of rates, for twenty epochs, 81.8%.
"""

from experiments.config import Data, Experiment, Mean, Objective, Optimizer, SpikingResNet, Train


def get_config() -> Experiment:
    """Three stages of one block each, 48 to 192 channels; the image is the current at every step."""
    return Experiment(
        name="cifar10_sew_resnet",
        num_steps=4,
        data=Data(
            name="cifar10", mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616), flip=True, shift=3, cutout=8
        ),
        network=SpikingResNet(
            depth=(1, 1, 1),
            form="sew",
            stem="pooled",
            channels=48,
            decay=1.0,
            v_rest=0.5,
            reset="subtract",
            detach_reset=False,
        ),
        objective=Objective(decoder=Mean()),
        optimizer=Optimizer(
            name="muon",
            learning_rate=5e-3,
            options={"consistent_rms": 0.2, "weight_decay": 0.03},
            schedule="warmup_cosine",
            warmup=0.05,
        ),
        train=Train(epochs=33, short_epochs=30, short_rates=True, batch_size=100),
    )
