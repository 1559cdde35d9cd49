"""Networks of any shape: a chain as `Network` beside `Sequential`, a small SEW-ResNet beside SpikingJelly's."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jsnn
from experiments.benchmark import mnist_conv
from experiments.benchmark.peers import prepare_torch, torch_side
from experiments.benchmark.side import Comparison, Setting, Side
from jsnn import models
from jsnn.neurons import call

_STEPS = 4
_CHANNELS = 32


class Chain(nnx.Module):
    """The layers of a `Sequential`, called one after another."""

    def __init__(self, sequential: jsnn.Sequential) -> None:
        self.layers = sequential.layers

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the outputs of one time step."""
        for layer in self.layers:
            x = call(layer, x) if isinstance(layer, jsnn.types.Neuron) else layer(x)
        return x


def comparisons(setting: Setting, *, steps: int = 16, batch_size: int = 32) -> Iterator[Comparison]:
    """Return one training step of each."""
    spikes, labels = mnist_conv.random_problem(steps, batch_size)
    weights = mnist_conv.random_weights()

    def chain() -> jsnn.Sequential:
        return mnist_conv.tutorial_network(weights, [*(jsnn.LIF(0.9) for _ in range(3)), jsnn.LI(0.9)])

    sides = {
        "Network": mnist_conv.jsnn_side(
            setting, jsnn.Network(Chain(chain())), mnist_conv.layer_by_layer, spikes, labels
        ),
        "Sequential": mnist_conv.jsnn_side(setting, chain(), mnist_conv.layer_by_layer, spikes, labels, role="other"),
    }
    yield Comparison(f"MNIST's convolutional network, training step, T={steps}, B={batch_size}", sides)

    images = np.random.default_rng(0).normal(size=(batch_size, 32, 32, 3)).astype(np.float32)
    network = models.spiking_resnet((1, 1, 1), stem="pooled", channels=_CHANNELS, outputs=10, rngs=nnx.Rngs(0))
    sides = {"jsnn": mnist_conv.jsnn_side(setting, network, _over_time, images, labels)}
    if "spikingjelly" in setting.peers:
        sides["spikingjelly"] = _spikingjelly(setting, images, labels)
    yield Comparison(f"SEW-ResNet, {_CHANNELS} channels, training step, T={_STEPS}, B={batch_size}", sides)


def _over_time(network: Any, images: jax.Array) -> jax.Array:
    return jnp.mean(jsnn.unroll(network, images, num_steps=_STEPS)[1], axis=0, keepdims=True)


def _spikingjelly(setting: Setting, images: np.ndarray, labels: np.ndarray) -> Side:
    """The same network of SpikingJelly's blocks in its multi-step mode; the stem sees the image once, as here."""
    import torch
    from spikingjelly.activation_based import functional, layer, neuron, surrogate
    from spikingjelly.activation_based.model.sew_resnet import BasicBlock, conv1x1

    def lif(**_: Any) -> Any:
        return neuron.LIFNode(tau=2.0, decay_input=False, detach_reset=True, surrogate_function=surrogate.ATan())

    def block(inputs: int, outputs: int, stride: int) -> Any:
        skip = torch.nn.Sequential(conv1x1(inputs, outputs, stride), layer.BatchNorm2d(outputs))
        return BasicBlock(inputs, outputs, stride, skip if stride > 1 else None, cnf="ADD", spiking_neuron=lif)

    device = prepare_torch(setting)
    stem = torch.nn.Sequential(
        torch.nn.Conv2d(3, _CHANNELS, 3, padding=1, bias=False),
        torch.nn.BatchNorm2d(_CHANNELS),
        torch.nn.MaxPool2d(2),
    )
    widths = [_CHANNELS, 2 * _CHANNELS, 4 * _CHANNELS]
    blocks = torch.nn.Sequential(
        lif(), block(widths[0], widths[0], 1), block(widths[0], widths[1], 2), block(widths[1], widths[2], 2)
    )
    readout = torch.nn.Linear(widths[2], 10)
    functional.set_step_mode(blocks, "m")
    modules = torch.nn.ModuleList([stem, blocks, readout]).to(device)
    x = torch.tensor(images.transpose(0, 3, 1, 2)).contiguous().to(device)
    targets = torch.tensor(labels, dtype=torch.int64, device=device)
    optimizer = torch.optim.Adam(modules.parameters(), 1e-3)

    def train() -> Any:
        functional.reset_net(blocks)
        spikes = blocks(stem(x).unsqueeze(0).repeat(_STEPS, 1, 1, 1, 1))
        loss = torch.nn.functional.cross_entropy(readout(spikes.mean((3, 4))).mean(0), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return torch_side(setting, train)
