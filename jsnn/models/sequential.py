"""Ready networks: a plain feedforward one, the two of Norse's MNIST tutorial, and rate networks to be converted.

A spiking network is a `Sequential`, so a Neuron: `jsnn.unroll(network, spikes)` gives its readout's membranes
`[T, B, classes]`. A rate network is a `nnx.Sequential`, a function of images `[B, H, W, C]` that knows no time and
gives logits `[B, classes]`; `jsnn.convert` makes it spike.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jsnn import surrogate
from jsnn.arguments import check_memory, checked
from jsnn.compat import norse, pytorch
from jsnn.convolution import Conv
from jsnn.filters import Lowpass
from jsnn.layers import Layer, Sequential, avg_pool, flatten, max_pool
from jsnn.linear import Linear
from jsnn.neurons import LI, LIF, SpikingActivation
from jsnn.neurons.checks import is_key
from jsnn.types import Array, Neuron


@checked
def feedforward(
    sizes: Sequence[int],
    *,
    rngs: nnx.Rngs,
    neuron: Callable[[], Neuron] = lambda: LIF(0.9, surrogate=surrogate.fast_sigmoid(25.0)),
    readout: Callable[[], Neuron] = lambda: LI(0.9),
) -> Sequential:
    """Return a dense network: flatten, then a `nnx.Linear` and a neuron for each of the sizes after the first.

    Args:
        sizes: the number of inputs, of neurons in each hidden layer, and of outputs; at least two numbers.
        rngs: draws the weights.
        neuron: makes the neuron after each hidden layer.
        readout: makes the neuron after the last layer, whose output is the network's.

    Raises:
        ValueError: if there are fewer than two sizes, or one is below 1.

    Examples:
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
        check_layer(inputs, outputs)
        is_last = index == len(sizes) - 2
        layers += [Linear(inputs, outputs, rngs=rngs), readout() if is_last else neuron()]
    return Sequential(*layers)


@checked
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
    """Return the recurrent network of Norse's MNIST tutorial: `lif_recurrent`, a linear layer, a leaky integrator.

    `parameters` (`tau_mem_inv`, `recurrent_scale`, ...) go to `jsnn.compat.norse.lif_recurrent`.

    Spikes [T, B, 28, 28, 1] (or any shape with as many values) -> membranes [T, B, outputs].

    Source: Norse's notebook "Training an SNN on MNIST".
    """
    check_layer(inputs, hidden)
    check_layer(hidden, outputs)
    linear = Linear(hidden, outputs, use_bias=False, **pytorch.initializers(hidden), rngs=rngs)
    cell = norse.lif_recurrent(inputs, hidden, rngs=rngs, alpha=alpha, v_th=v_th, dt=dt, **parameters)
    return Sequential(flatten, *cell.layers, linear, norse.li(dt=dt))


@checked
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
    """Return the convolutional network of Norse's MNIST tutorial.

    conv 5x5x20, LIF, pool, conv 5x5x50 times 10, LIF, pool, dense 500, LIF, relu, dense, leaky integrator.
    `parameters` go to the LIF neurons, see `jsnn.compat.norse.lif`. The relu changes no spike; it stops the gradient of
    the silent neurons on its way back, as in the tutorial. Weights and biases are drawn as PyTorch draws them: without
    the biases hardly a neuron spikes at first. Spikes [T, B, H, W, C] -> membranes [T, B, outputs].

    Source: Norse's notebook "Training an SNN on MNIST".
    """

    def conv(inputs: int, outputs: int) -> Conv:
        return Conv(inputs, outputs, (5, 5), padding="VALID", **pytorch.initializers(25 * inputs), rngs=rngs)

    def lif() -> Neuron:
        return norse.lif(alpha=alpha, dt=dt, **parameters)

    side = ((image_size - 4) // 2 - 4) // 2
    check_layer(channels, outputs)
    check_layer(side, side)
    features = side * side * 50
    dense = Linear(features, 500, **pytorch.initializers(features), rngs=rngs)
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


@checked
def times_ten(x: Array) -> Array:
    """Return x times the tutorial's factor on its second convolution."""
    return 10 * x


@checked
def rate_dense(sizes: Sequence[int], *, rngs: nnx.Rngs) -> nnx.Sequential:
    """Return a dense rate network: flatten, then `nnx.Linear` and ReLU for each of the sizes but the first and last.

    Raises:
        ValueError: if there are fewer than two sizes, or one is below 1.

    Examples:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> rate_dense([64, 32, 10], rngs=nnx.Rngs(0))(jnp.ones((4, 8, 8, 1))).shape
        (4, 10)
    """
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"sizes must be at least two numbers >= 1, (inputs, ..., outputs), got {tuple(sizes)}")
    layers: list[Callable[[Array], Array]] = [flatten]
    for inputs, outputs in itertools.pairwise(sizes):
        check_layer(inputs, outputs)
        layers += [Linear(inputs, outputs, kernel_init=nnx.initializers.glorot_uniform(), rngs=rngs), nnx.relu]
    return nnx.Sequential(*layers[:-1])


@checked
def spiking_dense(
    sizes: Sequence[int], *, rngs: nnx.Rngs, dt: float = 0.1, v_init: Any = 0.0, tau: float | None = None
) -> Sequential:
    """Return the network of `rate_dense` with `SpikingActivation` in place of the ReLUs; its readout has no neuron.

    Args:
        sizes: the number of inputs, of neurons in each hidden layer, and of outputs.
        rngs: draws the weights.
        dt: the length of a step, s.
        v_init: the membrane before the first step, see `SpikingActivation`.
        tau: time constant, in s, of a `Lowpass` after every neuron, trained with its initial level; None for none.

    Source: KerasSpiking's tutorial "Classifying Fashion MNIST with spiking activations".

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> network = spiking_dense([64, 32, 10], rngs=nnx.Rngs(0), tau=0.1)
        >>> jsnn.unroll(network, jnp.ones((4, 8, 8, 1)), num_steps=10)[1].shape
        (10, 4, 10)
    """
    rate_network = rate_dense(sizes, rngs=rngs)
    layers: list[Layer] = []
    for layer in rate_network.layers:
        if layer is not nnx.relu:
            layers.append(layer)
            continue
        layers.append(SpikingActivation(dt=dt, v_init=_own(v_init, len(layers))))
        if tau is not None:
            neurons = layers[-2].out_features  # type: ignore[union-attr]
            level, taus = jnp.zeros(neurons), jnp.full(neurons, tau)
            layers.append(Lowpass(nnx.Param(taus), dt, initial_level=nnx.Param(level)))
    return Sequential(*layers)


def _own(v_init: Any, index: int) -> Any:
    """Return a key of its own for a layer."""
    return jax.random.fold_in(v_init, index) if is_key(v_init) else v_init


@checked
def rate_conv(
    blocks: Sequence[Sequence[int]] = ((32,), (64,), (128,)),
    dense: Sequence[int] = (512,),
    *,
    rngs: nnx.Rngs,
    image_shape: Sequence[int] = (32, 32, 3),
    outputs: int = 10,
    batch_norm: bool = False,
) -> nnx.Sequential:
    """Return a convolutional rate network.

    By default it is that of NengoDL's CIFAR-10 tutorial, with 1,147,466 parameters.

    Each block is 3x3 convolutions that keep the size, each with ReLU, and then 2x2 average pooling. Behind them come
    dense layers with ReLU and a dense readout. Weights are drawn He-uniformly.

    Args:
        blocks: the channels of each convolution in each block.
        dense: the neurons in each dense layer.
        rngs: draws the weights.
        image_shape: (H, W, C) of the images.
        outputs: the number of classes.
        batch_norm: put `nnx.BatchNorm` between each convolution and its ReLU.

    Raises:
        ValueError: if the images are too small for so many blocks.

    Examples:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> rate_conv(rngs=nnx.Rngs(0))(jnp.ones((4, 32, 32, 3))).shape
        (4, 10)
    """
    height, width, channels = check_image(image_shape, len(blocks), "blocks")
    init = nnx.initializers.he_uniform()
    layers: list[Callable[[Array], Array]] = []
    for block in blocks:
        for features in block:
            check_layer(channels, features)
            layers.append(
                Conv(channels, features, (3, 3), padding="SAME", use_bias=not batch_norm, kernel_init=init, rngs=rngs)
            )
            layers += [nnx.BatchNorm(features, momentum=0.9, rngs=rngs), nnx.relu] if batch_norm else [nnx.relu]
            channels = features
        layers.append(avg_pool)
        height, width = height // 2, width // 2
    layers.append(flatten)
    sizes = (height * width * channels, *dense, outputs)
    for inputs, neurons in itertools.pairwise(sizes):
        check_layer(inputs, neurons)
        layers += [Linear(inputs, neurons, kernel_init=init, rngs=rngs), nnx.relu]
    return nnx.Sequential(*layers[:-1])


def check_image(image_shape: Sequence[int], count: int, halving: str) -> Sequence[int]:
    """Return (H, W, C); raise ValueError if it is not the shape of images, or they are too small to be halved."""
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise ValueError(f"image_shape must be (H, W, C), each at least 1, got {tuple(image_shape)}")
    if min(image_shape[:2]) < 2**count:
        raise ValueError(f"{count} {halving} halve an image too often for shape {tuple(image_shape)}")
    return image_shape


def check_layer(inputs: int, outputs: int) -> None:
    """Raise ValueError or MemoryError if a dense layer has no inputs or outputs, or more weights than fit."""
    if inputs < 1 or outputs < 1:
        raise ValueError(
            f"a layer must have at least 1 input and 1 output, got {inputs} and {outputs}: take larger sizes"
        )
    check_memory("the weights", (inputs, outputs), copies=4)
