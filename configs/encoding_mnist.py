"""MNIST in spikes: every figure and animation of snnTorch's tutorial on spike encoding, and those of our other codes.

    python -m experiments.run configs/encoding_mnist.py
    python -m experiments.run configs/encoding_mnist.py --data digits  # needs no download

Nothing is trained: the page is `docs/tutorials/encode_mnist.py`, run with these settings. The run's folder holds
`report.html`, the page to look at, and `figures/`. From snnTorch's tutorial are the batches of 128, 100 steps, gain
0.25, tau 5, the thresholds 0.01 and 4, and random spikes of up to 0.5. Ours are the images, every tenth in TFDS's order
where the tutorial shuffles the first tenth of torchvision's; the signal that delta modulation encodes; and 20 frames a
second, not 25. Measured on a shared, busy x86-64 machine (2026-11-30): 31 s of computing on one core.
"""

from experiments.config import Gallery


def get_config() -> Gallery:
    """The tutorial's codes, for other images and another signal."""
    return Gallery(
        name="encoding_mnist",
        data="mnist",
        subset=10,
        batch_size=128,
        num_steps=100,
        gain=0.25,
        tau=5.0,
        threshold=0.01,
    )
