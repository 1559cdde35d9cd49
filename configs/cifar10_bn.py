"""CIFAR-10, batch normalisation and augmentation, a network one would really use: to be measured."""

from experiments.config import Calibration, Conversion, Data, Experiment, Optimizer, RateConv, Train


def get_config() -> Experiment:
    """Five convolutions; converted with bursts, calibrated, and decided on the mean output of 16 steps."""
    return Experiment(
        name="cifar10_bn",
        data=Data(name="cifar10", mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.2435, 0.2616), flip=True, shift=2),
        model=RateConv(blocks=((32,), (64, 64), (128, 128)), dense=(), batch_norm=True),
        optimizer=Optimizer(
            name="adamw", learning_rate=3e-3, options={"weight_decay": 0.02}, schedule="warmup_cosine", warmup=0.15
        ),
        train=Train(epochs=11, batch_size=128),
        conversion=Conversion(
            num_steps=16,
            neuron="burst_if",
            v_init=0.5,
            calibration=Calibration(spikes_per_step=4.0),
            last_steps=16,
        ),
    )
