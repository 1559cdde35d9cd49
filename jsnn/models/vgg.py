"""Spiking VGG networks: stages of 3x3 convolutions with batch normalisation and neurons, and pooling between them."""

from collections.abc import Sequence

from flax import nnx

from jsnn.arguments import checked
from jsnn.layers import Layer, Sequential, flatten, max_pool
from jsnn.linear import Linear
from jsnn.models.resnet import ConvNorm, MakeNeuron, default_neuron
from jsnn.models.sequential import check_image, check_layer

_STAGES = {
    11: ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    13: ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)),
    16: ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
    19: ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4),
}


@checked
def spiking_vgg(
    depth: int | Sequence[Sequence[int]] = 11,
    *,
    rngs: nnx.Rngs,
    dense: Sequence[int] = (4096, 4096),
    image_shape: Sequence[int] = (224, 224, 3),
    outputs: int = 1000,
    neuron: MakeNeuron = default_neuron,
) -> Sequential:
    """Return a spiking VGG network: images `[B, H, W, C]` -> logits `[B, outputs]` at each time step.

    Args:
        depth: 11, 13, 16 or 19, as in Simonyan and Zisserman; or the channels of the convolutions in each stage, such
            as ((32,), (64, 64)). A stage ends with 2x2 maximum pooling.
        rngs: draws the weights.
        dense: the neurons in each dense layer before the readout.
        image_shape: (H, W, C) of the images.
        outputs: the number of classes.
        neuron: makes each neuron.

    Raises:
        ValueError: if `depth` is not in the table, if the images are too small for so many stages, or a layer would be
            empty.

    Source: Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition" (2015);
    Sengupta et al., "Going deeper in spiking neural networks: VGG and residual architectures" (2019).

    Examples:
        >>> import jax, jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> network = spiking_vgg(((4,), (8,)), dense=(16,), image_shape=(8, 8, 3), outputs=10, rngs=nnx.Rngs(0))
        >>> network.eval()  # batch normalisation by its averages
        >>> images = jnp.ones((2, 8, 8, 3))
        >>> jax.eval_shape(lambda x: jsnn.unroll(network, x, num_steps=4)[1], images).shape  # nothing is computed
        (4, 2, 10)
    """
    if isinstance(depth, int) and depth not in _STAGES:
        raise ValueError(f"depth must be one of {', '.join(map(str, _STAGES))}, or channels per stage, got {depth}")
    stages = _STAGES[depth] if isinstance(depth, int) else depth
    height, width, channels = check_image(image_shape, len(stages), "stages")
    layers: list[Layer] = []
    for stage in stages:
        for features in stage:
            layers += [ConvNorm(channels, features, rngs=rngs), neuron()]
            channels = features
        layers.append(max_pool)
        height, width = height // 2, width // 2
    layers.append(flatten)
    size = height * width * channels
    for features in dense:
        check_layer(size, features)
        layers += [Linear(size, features, rngs=rngs), neuron()]
        size = features
    check_layer(size, outputs)
    return Sequential(*layers, Linear(size, outputs, rngs=rngs))
