"""Ready networks: the two of Norse's MNIST tutorial, and a plain feedforward one.

Each is a `Sequential`, so a Neuron: `jsnn.unroll(network, spikes)` gives its readout's membranes `[T, B, classes]`.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from flax import nnx

from jsnn import surrogate
from jsnn.compat import norse
from jsnn.convolution import Conv
from jsnn.layers import Layer, Sequential, flatten, max_pool
from jsnn.neurons import LI, LIF
from jsnn.types import Array, Neuron

_TORCH_INIT = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # uniform in +-1/sqrt(fan_in)


def feedforward(
    sizes: Sequence[int],
    *,
    rngs: nnx.Rngs,
    neuron: Callable[[], Neuron] = lambda: LIF(0.9, surrogate=surrogate.fast_sigmoid(25.0)),
    readout: Callable[[], Neuron] = lambda: LI(0.9),
) -> Sequential:
    """A dense network: flatten, then a `nnx.Linear` and a neuron for each of the sizes after the first.

    Args:
        sizes: the number of inputs, of neurons in each hidden layer, and of outputs; at least two numbers.
        rngs: draws the weights.
        neuron: makes the neuron behind each hidden layer.
        readout: makes the neuron behind the last layer, whose output is the network's.

    Raises:
        ValueError: if there are fewer than two sizes, or one is below 1.

    >>> import jax.numpy as jnp, jsnn
    >>> from flax import nnx
    >>> network = feedforward([64, 32, 10], rngs=nnx.Rngs(0))
    >>> jsnn.unroll(network, jnp.ones((4, 8, 8, 1)), num_steps=16)[1].shape  # a static image
    (16, 4, 10)
    """
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"sizes must be at least two numbers >= 1, (inputs, ..., outputs), got {tuple(sizes)}")
    layers: list[Layer] = [flatten]
    for index, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        is_last = index == len(sizes) - 2
        layers += [nnx.Linear(inputs, outputs, rngs=rngs), readout() if is_last else neuron()]
    return Sequential(*layers)


def norse_recurrent(
    inputs: int = 784,
    hidden: int = 100,
    outputs: int = 10,
    *,
    rngs: nnx.Rngs,
    alpha: float = 100.0,
    v_th: float = 0.5,
    dt: float = 1e-3,
    **parameters: Any,
) -> Sequential:
    """The recurrent network of Norse's MNIST tutorial: `lif_recurrent`, a linear layer, a leaky integrator.

    `parameters` (`tau_mem_inv`, `recurrent_scale`, ...) go to `jsnn.compat.norse.lif_recurrent`.

    Spikes [T, B, 28, 28, 1] (or any shape with as many values) -> membranes [T, B, outputs].

    Source: Norse's notebook "Training an SNN on MNIST".
    """
    linear = nnx.Linear(hidden, outputs, use_bias=False, kernel_init=_TORCH_INIT, rngs=rngs)
    cell = norse.lif_recurrent(inputs, hidden, rngs=rngs, alpha=alpha, v_th=v_th, dt=dt, **parameters)
    return Sequential(flatten, *cell.layers, linear, norse.li(dt=dt))


def norse_conv(
    *,
    rngs: nnx.Rngs,
    image_size: int = 28,
    channels: int = 1,
    outputs: int = 10,
    alpha: float = 80.0,
    dt: float = 1e-3,
    **parameters: Any,
) -> Sequential:
    """The convolutional network of Norse's MNIST tutorial.

    conv 5x5x20, LIF, pool, conv 5x5x50 times 10, LIF, pool, dense 500, LIF, relu, dense, leaky integrator.
    `parameters` go to the LIF neurons, see `jsnn.compat.norse.lif`. The relu changes no spike; it stops the gradient of
    the silent neurons on its way back, as in the tutorial. Spikes [T, B, H, W, C] -> membranes [T, B, outputs].

    Source: Norse's notebook "Training an SNN on MNIST".
    """

    def conv(inputs: int, outputs: int) -> Conv:
        return Conv(inputs, outputs, (5, 5), padding="VALID", kernel_init=_TORCH_INIT, rngs=rngs)

    def lif() -> Neuron:
        return norse.lif(alpha=alpha, dt=dt, **parameters)

    side = ((image_size - 4) // 2 - 4) // 2
    dense = nnx.Linear(side * side * 50, 500, kernel_init=_TORCH_INIT, rngs=rngs)
    return Sequential(
        conv(channels, 20),
        lif(),
        max_pool,
        conv(20, 50),
        times_ten,
        lif(),
        max_pool,
        flatten,
        dense,
        lif(),
        nnx.relu,
        *norse.li_linear(500, outputs, rngs=rngs, dt=dt).layers,
    )


def times_ten(x: Array) -> Array:
    """The tutorial's factor on its second convolution."""
    return 10 * x
