"""Activations to train with, whose spiking counterparts are nearly lossless in 4 to 16 steps.

Both have a threshold that is trained with the weights; it becomes the threshold of the neuron that takes their place.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jsnn.arguments import check_broadcasts, checked
from jsnn.neurons.pytree import Ranged
from jsnn.neurons.ranges import POSITIVE, Range
from jsnn.neurons.spiking_activation import differentiated_as
from jsnn.types import Array


@checked
def clip_floor_relu(x: Array, threshold: Array, levels: float | Array) -> Array:
    """Return x clipped and rounded to what an IF neuron can send in `levels` steps.

        y = threshold * clip(floor(levels * x / threshold + 1/2) / levels, 0, 1)

    The floor has the derivative 1 (straight through), so that of y with respect to x is that of the clip,

        1  where -threshold / (2 levels) < x < threshold - threshold / (2 levels),  0 elsewhere

    as in the paper. There the derivative with respect to the threshold is (y - x) / threshold; above it is 1, below 0.
    A trained threshold that is not positive is used as `jsnn.neurons.ranges.SMALLEST`.

    Source: Bu et al., "Optimal ANN-SNN conversion for high-accuracy and ultra-low-latency spiking neural networks"
    (2022).
    """
    check_broadcasts("threshold", threshold, x.shape, "x")
    check_broadcasts("levels", levels, x.shape, "x")
    threshold = POSITIVE.project(threshold)
    share, shift = x / threshold, 0.5 / levels
    steps = jnp.clip(jnp.floor(share * levels + 0.5) / levels, 0, 1)
    return threshold * differentiated_as(steps, _inside(share, -shift, 1 - shift))


@checked
def clip_relu(x: Array, threshold: Array) -> Array:
    """Return x clipped at a threshold: threshold * clip(x / threshold, 0, 1).

    On both bounds, and outside of them, the derivative with respect to x is 0, as that of a relu is at 0.
    A trained threshold that is not positive is used as `jsnn.neurons.ranges.SMALLEST`.
    """
    check_broadcasts("threshold", threshold, x.shape, "x")
    threshold = POSITIVE.project(threshold)
    share = x / threshold
    return threshold * differentiated_as(jnp.clip(share, 0, 1), _inside(share, 0, 1))


def _inside(x: Array, low: Any, high: Any) -> Array:
    """Return x between two bounds, and outside a constant: `jnp.clip` has half a derivative on its bounds."""
    return jnp.where((x > low) & (x < high), x, jnp.where(x >= high, 1, 0))


class ClipFloorReLU(Ranged, nnx.Module):
    """A drop-in for relu: `clip_floor_relu` with a trained threshold.

    Converted, it becomes `jsnn.IF` with that threshold, starting at half of it. With a constant input and `levels`
    steps the neuron's mean output is then exactly what this activation gives.

    Args:
        levels: into how many steps the values between 0 and the threshold are rounded.
        threshold: what the threshold starts from.

    Raises:
        ValueError: if `levels` is below 1 or `threshold` not positive.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> activation = jsnn.conversion.ClipFloorReLU(levels=4, threshold=2.0)
        >>> x = jnp.array([[-1.0, 0.6, 1.3, 9.0]])
        >>> activation(x).tolist()
        [[0.0, 0.5, 1.5, 2.0]]
        >>> network = jsnn.convert(activation, x)
        >>> jsnn.unroll(network, x, num_steps=4)[1].mean(0).tolist()
        [[0.0, 0.5, 1.5, 2.0]]
    """

    @checked
    def __init__(self, levels: int = 8, threshold: float = 1.0) -> None:
        _check(levels, threshold)
        self.levels = levels
        self.threshold = nnx.Param(jnp.asarray(threshold))

    def ranges(self) -> dict[str, Range]:
        return {"threshold": POSITIVE}

    def __call__(self, x: Array) -> Array:
        return clip_floor_relu(x, self.threshold[...], self.levels)


class NoisyReLU(Ranged, nnx.Module):
    """A drop-in for relu: clipped at a trained threshold; in training with noise as large as the rounding of spikes.

        y = threshold * clip(x / threshold + u, 0, 1),  u uniform in [-1/2, 1/2) / levels, 0 in inference

    What a neuron loses by rounding, the network has learned to bear. Converted, it becomes `jsnn.IF` with that
    threshold, starting at half of it. `model.train()` and `model.eval()` switch the noise, as for `nnx.Dropout`.

    Source: Li et al., "Noise adaptor: enhancing low-latency spiking neural networks through noise-injected low-bit ANN
    conversion" (2024), for the idea.

    Args:
        levels: how many steps the converted network is to have.
        threshold: what the threshold starts from.
        rngs: draws the noise.

    Raises:
        ValueError: if `levels` is below 1 or `threshold` not positive.
    """

    @checked
    def __init__(self, levels: int = 8, threshold: float = 1.0, *, rngs: nnx.Rngs) -> None:
        _check(levels, threshold)
        self.levels = levels
        self.threshold = nnx.Param(jnp.asarray(threshold))
        self.deterministic = False
        self.rngs = rngs.fork() if isinstance(rngs, nnx.Rngs) else rngs

    def ranges(self) -> dict[str, Range]:
        return {"threshold": POSITIVE}

    def __call__(self, x: Array) -> Array:
        if self.deterministic:
            return clip_relu(x, self.threshold[...])
        noise = jax.random.uniform(self.rngs.default(), x.shape, x.dtype, -0.5, 0.5) / self.levels
        return clip_relu(x + POSITIVE.project(self.threshold[...]) * noise, self.threshold[...])


def _check(levels: int, threshold: float) -> None:
    if levels < 1:
        raise ValueError(f"levels must be >= 1, got {levels}")
    if not threshold > 0:
        raise ValueError(f"threshold must be > 0, got {threshold}")
