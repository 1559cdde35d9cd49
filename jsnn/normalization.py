"""Batch normalisation for networks that run over time."""

from typing import Any

from flax import nnx

from jsnn.arguments import check_memory, checked
from jsnn.neurons.checks import check_positive

__all__ = ["ThresholdBatchNorm"]


class ThresholdBatchNorm(nnx.BatchNorm):
    """Threshold-dependent batch normalisation (tdBN): currents as wide as the threshold they are to cross.

        y = scale * (x - mean) / sqrt(variance + epsilon) + bias,  scale = alpha * threshold before training

    In a `jsnn.Sequential` mean and variance are taken over the batch and all time steps at once, because a layer
    without memory sees `[T*B, ...]` there. So each channel has one pair of them, not one for each step; step by step,
    as in streaming, a network must use the running averages, `network.eval()`.

    Source: Zheng et al., "Going deeper with directly-trained larger spiking neural networks" (AAAI 2021).

    Args:
        num_features: the number of channels.
        threshold: that of the neurons after, above 0.
        alpha: 1, or 1 / sqrt(n) where n such layers are added up, as in residual networks.
        rngs: as in `nnx.BatchNorm`; so are all other arguments.

    Raises:
        ValueError: if `threshold` or `alpha` is not positive.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> norm = jsnn.ThresholdBatchNorm(2, threshold=0.5, rngs=nnx.Rngs(0))
        >>> norm(jnp.array([[1.0, 10.0], [3.0, 30.0]])).round(3).tolist()
        [[-0.5, -0.5], [0.5, 0.5]]
    """

    @checked
    def __init__(
        self, num_features: int, *, threshold: float = 1.0, alpha: float = 1.0, rngs: nnx.Rngs, **parameters: Any
    ) -> None:
        check_memory("the statistics", (num_features,), copies=8)
        check_positive("threshold", threshold)
        check_positive("alpha", alpha)
        scale = nnx.initializers.constant(alpha * threshold)
        super().__init__(num_features, scale_init=scale, rngs=rngs, **parameters)
