"""Spiking residual networks: the SEW and the MS form, of any depth, for large images and for CIFAR's.

A block is two convolutions (three in a bottleneck), each with batch normalisation and a neuron, and a skip connection.
In the SEW form (spike-element-wise) the neurons come after the normalisation and the skip connection adds spikes:
`y = neuron(bn(conv(...))) + x`. In the MS form (membrane shortcut) the neurons come before the convolution, and the
skip connection adds currents: `y = bn(conv(neuron(...))) + x`.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from flax import nnx

from jsnn import surrogate
from jsnn.arguments import checked
from jsnn.convolution import Conv
from jsnn.layers import apply, max_pool
from jsnn.linear import Linear
from jsnn.models.sequential import check_layer
from jsnn.network import Network
from jsnn.neurons import LIF
from jsnn.neurons.calling import call
from jsnn.types import Array, Neuron

Form: TypeAlias = Literal["sew", "ms"]
Connect: TypeAlias = Literal["add", "and", "iand"]
Stem: TypeAlias = Literal["large", "small", "pooled"]
MakeNeuron: TypeAlias = Callable[[], Neuron]

_DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
_INIT = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")


def default_neuron() -> LIF:
    """Return the neuron of the networks here: decay 0.5, arctan surrogate, no gradient through the reset."""
    return LIF(0.5, reset="zero", surrogate=surrogate.arctan(2.0), detach_reset=True)


@checked
def spiking_resnet(
    depth: int | Sequence[int] = 18,
    *,
    rngs: nnx.Rngs,
    form: Form = "sew",
    connect: Connect = "add",
    stem: Stem = "large",
    channels: int = 64,
    strides: Sequence[int] | None = None,
    bottleneck: bool | None = None,
    inputs: int = 3,
    outputs: int = 1000,
    neuron: MakeNeuron = default_neuron,
) -> Network:
    """Return a spiking residual network: images `[B, H, W, inputs]` -> logits `[B, outputs]` at each time step.

    Args:
        depth: 18, 34, 50, 101 or 152, as in He et al.; or the number of blocks in each stage, such as (2, 2, 2).
            Each stage has twice the channels of the one before it.
        rngs: draws the weights.
        form: "sew" adds spikes at the skip connections, "ms" currents.
        connect: how the SEW form joins the block's spikes y and its input x: "add" x + y, "and" x * y,
            "iand" x * (1 - y).
        stem: "large" begins with a 7x7 convolution of stride 2 and 3x3 pooling of stride 2, as for ImageNet; "small"
            with a 3x3 convolution of stride 1, as for CIFAR; "pooled" with that and 2x2 pooling before the neuron,
            so that a static image is pooled once and not at each step.
        channels: those of the first stage.
        strides: of the first convolution in each stage; by default 1 in the first stage and 2 in the others.
        bottleneck: blocks of 1x1, 3x3 and 1x1 convolutions with four times as many outputs; by default from depth 50.
        inputs: channels of the images.
        outputs: the number of classes.
        neuron: makes each neuron.

    Raises:
        ValueError: if `depth` is not in the table, if it or `strides` does not fit, if `connect` is set for "ms", or
            if a layer would be empty.

    Source: Fang et al., "Deep residual learning in spiking neural networks" (NeurIPS 2021); Hu et al., "Advancing
    spiking neural networks toward deep residual learning" (TNNLS 2024).

    Examples:
        >>> import jax, jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> network = spiking_resnet((1, 1), stem="small", channels=4, outputs=10, rngs=nnx.Rngs(0))
        >>> network.eval()  # batch normalisation by its averages
        >>> images = jnp.ones((2, 8, 8, 3))  # static
        >>> jax.eval_shape(lambda x: jsnn.unroll(network, x, num_steps=4)[1], images).shape  # nothing is computed
        (4, 2, 10)
    """
    if isinstance(depth, int):
        if depth not in _DEPTHS:
            raise ValueError(f"depth must be one of {', '.join(map(str, _DEPTHS))}, or blocks per stage, got {depth}")
        bottleneck = depth >= 50 if bottleneck is None else bottleneck
        depth = _DEPTHS[depth]
    if len(depth) == 0 or min(depth) < 1:
        raise ValueError(f"depth must be at least one number >= 1, the blocks in each stage, got {tuple(depth)}")
    strides = (1, *[2] * (len(depth) - 1)) if strides is None else tuple(strides)
    if len(strides) != len(depth) or min(strides) < 1:
        raise ValueError(f"strides must be {len(depth)} numbers >= 1, one for each stage, got {strides}")
    if form == "ms" and connect != "add":
        raise ValueError(f"connect is for the form 'sew', and 'ms' always adds: got connect {connect!r}")
    make_block = functools.partial(SEWBlock, connect=connect) if form == "sew" else MSBlock
    blocks, width = [], channels
    for stage, (count, stride) in enumerate(zip(depth, strides)):
        for index in range(count):
            size = channels * 2**stage
            widths = (width, size, size, 4 * size) if bottleneck else (width, size, size)  # before and after each layer
            blocks.append(make_block(widths, stride if index == 0 else 1, neuron=neuron, rngs=rngs))
            width = widths[-1]
    return Network(ResNet(form, stem, (inputs, channels, width, outputs), blocks, neuron=neuron, rngs=rngs))


class ResNet(nnx.Module):
    """One time step of `spiking_resnet`."""

    def __init__(
        self,
        form: Form,
        stem: Stem,
        widths: Sequence[int],
        blocks: Sequence[nnx.Module],
        *,
        neuron: MakeNeuron,
        rngs: nnx.Rngs,
    ) -> None:
        inputs, channels, features, outputs = widths
        check_layer(features, outputs)
        size, stride = (7, 2) if stem == "large" else (3, 1)
        self.form, self.stem = form, stem
        self.conv = ConvNorm(inputs, channels, size, stride, rngs=rngs)
        self.blocks = nnx.List(blocks)
        self.neuron = neuron()  # after the stem in the SEW form, before the readout in the MS form
        self.readout = Linear(features, outputs, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """Return the logits, `[B, H, W, C] -> [B, outputs]`."""
        x = self.conv(x)
        if self.stem == "pooled":
            x = max_pool(x)
        if self.form == "sew":
            x = call(self.neuron, x)
        if self.stem == "large":
            x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for block in self.blocks:
            x = block(x)
        if self.form == "ms":
            x = call(self.neuron, x)
        return self.readout(x.mean(axis=(1, 2)))


class SEWBlock(nnx.Module):
    """A residual block that joins its spikes with those of its input."""

    def __init__(
        self, widths: Sequence[int], stride: int, *, connect: Connect, neuron: MakeNeuron, rngs: nnx.Rngs
    ) -> None:
        self.connect = connect
        self.convs = _convs(widths, stride, rngs=rngs)
        self.neurons = nnx.List([neuron() for _ in self.convs])
        self.skip = _skip(widths, stride, rngs=rngs)
        self.skip_neuron = neuron() if self.skip is not None else None

    def __call__(self, x: Array) -> Array:
        """Return the spikes, `[B, H, W, C] -> [B, H', W', C']`; with "add" they can be more than one at a time."""
        y = x
        for conv, neuron in zip(self.convs, self.neurons):
            y = call(neuron, conv(y))
        if self.skip is not None and self.skip_neuron is not None:
            x = call(self.skip_neuron, self.skip(x))
        if self.connect == "add":
            return x + y
        return x * y if self.connect == "and" else x * (1 - y)


class MSBlock(nnx.Module):
    """A residual block that adds its current to that of its input."""

    def __init__(self, widths: Sequence[int], stride: int, *, neuron: MakeNeuron, rngs: nnx.Rngs) -> None:
        self.convs = _convs(widths, stride, rngs=rngs)
        self.neurons = nnx.List([neuron() for _ in self.convs])
        self.skip = _skip(widths, stride, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """Return the currents, `[B, H, W, C] -> [B, H', W', C']`."""
        y = x
        for conv, neuron in zip(self.convs, self.neurons):
            y = conv(call(neuron, y))
        return y + (x if self.skip is None else self.skip(x))


class ConvNorm(nnx.Module):
    """A convolution without bias, and batch normalisation."""

    def __init__(self, inputs: int, outputs: int, size: int = 3, stride: int = 1, *, rngs: nnx.Rngs) -> None:
        check_layer(size * size * inputs, outputs)
        pad = size // 2
        self.conv = Conv(
            inputs, outputs, (size, size), stride, padding=((pad, pad), (pad, pad)), use_bias=False,
            kernel_init=_INIT, rngs=rngs,
        )  # fmt: skip
        self.norm = nnx.BatchNorm(outputs, momentum=0.9, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """Return the currents, `[B, H, W, C] -> [B, H', W', C']`."""
        return self.norm(apply("conv", self.conv, x))


def _convs(widths: Sequence[int], stride: int, *, rngs: nnx.Rngs) -> nnx.List:
    sizes, strides = ((3, 3), (stride, 1)) if len(widths) == 3 else ((1, 3, 1), (1, stride, 1))
    pairs = itertools.pairwise(widths)
    return nnx.List([ConvNorm(*pair, size, step, rngs=rngs) for pair, size, step in zip(pairs, sizes, strides)])


def _skip(widths: Sequence[int], stride: int, *, rngs: nnx.Rngs) -> ConvNorm | None:
    """Return what turns a block's input into the shape of its output; None where it has it already."""
    if stride == 1 and widths[0] == widths[-1]:
        return None
    return ConvNorm(widths[0], widths[-1], 1, stride, rngs=rngs)
