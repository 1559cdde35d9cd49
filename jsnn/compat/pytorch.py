"""PyTorch's initial weights and biases, which the networks of the libraries built on it start from."""

from typing import Any

import jax
from flax import nnx

from jsnn.types import Array, Shape


def initializers(inputs: int) -> dict[str, Any]:
    """Return `kernel_init` and `bias_init` of PyTorch's linear and convolutional layers: uniform in +-1/sqrt(inputs).

    Args:
        inputs: the number of inputs of each neuron; for a convolution, channels times the size of the kernel.
    """

    def bias(key: Array, shape: Shape, dtype: Any, out_sharding: Any = None) -> Array:
        return jax.random.uniform(key, shape, dtype, -(inputs**-0.5), inputs**-0.5)

    return {"kernel_init": nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform"), "bias_init": bias}
