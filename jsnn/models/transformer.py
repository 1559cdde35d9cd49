"""Spikformer: a vision transformer whose queries, keys and values are spikes, so that attention needs no softmax."""

import itertools
from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx

from jsnn import surrogate
from jsnn.arguments import checked
from jsnn.linear import Linear
from jsnn.models.resnet import ConvNorm, MakeNeuron
from jsnn.models.sequential import check_layer
from jsnn.network import Network
from jsnn.neurons import LIF
from jsnn.neurons.calling import call
from jsnn.types import Array

_SCALE = 0.125  # of the products of queries, keys and values, as in the paper


def spikformer_neuron(threshold: float = 1.0) -> LIF:
    """Return the paper's neuron: `v = (v + x) / 2`, reset to zero, no gradient through the reset."""
    return LIF(0.5, threshold=threshold, gain=0.5, reset="zero", surrogate=surrogate.sigmoid(4.0), detach_reset=True)


@checked
def spikformer(
    width: int = 384,
    depth: int = 4,
    *,
    rngs: nnx.Rngs,
    heads: int = 12,
    hidden: int | None = None,
    pool: Sequence[bool] = (False, False, True, True),
    inputs: int = 3,
    outputs: int = 10,
    neuron: MakeNeuron = spikformer_neuron,
    attention_neuron: MakeNeuron = lambda: spikformer_neuron(0.5),
) -> Network:
    """Return a Spikformer: images `[B, H, W, inputs]` -> logits `[B, outputs]` at each time step.

    Convolutions make patches of the image, one patch for each position that is left after the pooling; then come
    `depth` blocks of spiking self-attention and a perceptron of two layers, each with a skip connection, and the mean
    over all patches. The default network is the paper's Spikformer-4-384 for CIFAR-10.

    Args:
        width: features of a patch.
        depth: the number of blocks.
        rngs: draws the weights.
        heads: of the attention; they divide `width`.
        hidden: neurons in the perceptron's first layer; by default four times `width`.
        pool: for each convolution of the stem, whether 3x3 pooling of stride 2 halves the image after it. Each
            convolution has twice the channels of the one before it, and the last has `width`.
        inputs: channels of the images.
        outputs: the number of classes.
        neuron: makes each neuron.
        attention_neuron: makes the neuron after the product of queries, keys and values.

    Raises:
        ValueError: if `heads` does not divide `width`, if `width` is too small for so many convolutions, or if a layer
            would be empty.

    Source: Zhou et al., "Spikformer: when spiking neural network meets transformer" (ICLR 2023).

    Examples:
        >>> import jax, jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> network = spikformer(8, 1, heads=2, pool=(True, True), rngs=nnx.Rngs(0))
        >>> network.eval()  # batch normalisation by its averages
        >>> images = jnp.ones((2, 8, 8, 3))
        >>> jax.eval_shape(lambda x: jsnn.unroll(network, x, num_steps=4)[1], images).shape  # nothing is computed
        (4, 2, 10)
    """
    if width < 1 or heads < 1 or width % heads:
        raise ValueError(f"width must be a multiple of heads, got width {width} and heads {heads}")
    if depth < 1 or len(pool) == 0 or width % 2 ** (len(pool) - 1):
        raise ValueError(
            f"depth must be at least 1, and width a multiple of {2 ** (len(pool) - 1)} for {len(pool)} convolutions, "
            f"got depth {depth} and width {width}"
        )
    check_layer(width, outputs)
    stem = PatchStem(inputs, width, pool, neuron=neuron, rngs=rngs)
    hidden = 4 * width if hidden is None else hidden
    blocks = [SpikformerBlock(width, heads, hidden, neuron, attention_neuron, rngs=rngs) for _ in range(depth)]
    return Network(Spikformer(stem, blocks, Linear(width, outputs, rngs=rngs)))


class Spikformer(nnx.Module):
    """One time step of `spikformer`."""

    def __init__(self, stem: "PatchStem", blocks: list["SpikformerBlock"], readout: Linear) -> None:
        self.stem, self.blocks, self.readout = stem, nnx.List(blocks), readout

    def __call__(self, x: Array) -> Array:
        """Return the logits, `[B, H, W, C] -> [B, outputs]`."""
        x = self.stem(x)
        x = x.reshape(x.shape[0], x.shape[1] * x.shape[2], x.shape[3])
        for block in self.blocks:
            x = block(x)
        return self.readout(x.mean(axis=1))


class PatchStem(nnx.Module):
    """Makes patches of an image by convolutions, and adds to each what a convolution says of its position."""

    def __init__(self, inputs: int, width: int, pool: Sequence[bool], *, neuron: MakeNeuron, rngs: nnx.Rngs) -> None:
        widths = [inputs, *[width // 2**n for n in reversed(range(len(pool)))]]
        self.pool = tuple(pool)
        self.convs = nnx.List([ConvNorm(i, o, rngs=rngs) for i, o in itertools.pairwise(widths)])
        self.neurons = nnx.List([neuron() for _ in self.convs])
        self.position, self.position_neuron = ConvNorm(width, width, rngs=rngs), neuron()

    def __call__(self, x: Array) -> Array:
        """Return the spikes of the patches, `[B, H, W, C] -> [B, H', W', width]`."""
        for conv, neuron, pool in zip(self.convs, self.neurons, self.pool):
            x = conv(x)
            if pool:
                x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
            x = call(neuron, x)
        return x + call(self.position_neuron, self.position(x))


class SpikformerBlock(nnx.Module):
    """Spiking self-attention and a perceptron, each with a skip connection."""

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        neuron: MakeNeuron,
        attention_neuron: MakeNeuron,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.attention = SpikingSelfAttention(width, heads, neuron, attention_neuron, rngs=rngs)
        self.linear1, self.neuron1 = LinearNorm(width, hidden, rngs=rngs), neuron()
        self.linear2, self.neuron2 = LinearNorm(hidden, width, rngs=rngs), neuron()

    def __call__(self, x: Array) -> Array:
        """Return the spikes, `[B, patches, width]`, added up over the layers."""
        x = x + self.attention(x)
        return x + call(self.neuron2, self.linear2(call(self.neuron1, self.linear1(x))))


class SpikingSelfAttention(nnx.Module):
    """Self-attention of spikes without a softmax: `y = lif(q (k^T v) / 8)` for each head.

    q, k and v are spikes, so that their product counts coincidences and is never negative. `k^T v` comes first: the
    cost grows with the number of patches, and not with its square.

    Source: Zhou et al., "Spikformer: when spiking neural network meets transformer" (ICLR 2023).
    """

    def __init__(
        self, width: int, heads: int, neuron: MakeNeuron, attention_neuron: MakeNeuron, *, rngs: nnx.Rngs
    ) -> None:
        self.heads = heads
        self.qkv, self.qkv_neuron = LinearNorm(width, 3 * width, rngs=rngs), neuron()
        self.attention_neuron = attention_neuron()
        self.projection, self.projection_neuron = LinearNorm(width, width, rngs=rngs), neuron()

    def __call__(self, x: Array) -> Array:
        """Return the spikes, `[B, patches, width]`."""
        batch, patches, width = x.shape
        qkv = call(self.qkv_neuron, self.qkv(x)).reshape(batch, patches, 3, self.heads, width // self.heads)
        q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]  # each [B, patches, heads, features]
        y = jnp.einsum("bnhd,bhde->bnhe", q, jnp.einsum("bnhd,bnhe->bhde", k, v)) * _SCALE
        y = call(self.attention_neuron, y.reshape(batch, patches, width))
        return call(self.projection_neuron, self.projection(y))


class LinearNorm(nnx.Module):
    """A dense layer without bias, and batch normalisation."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs) -> None:
        check_layer(inputs, outputs)
        self.linear = Linear(inputs, outputs, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(outputs, momentum=0.9, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """Return the currents, `[..., inputs] -> [..., outputs]`."""
        return self.norm(self.linear(x))
