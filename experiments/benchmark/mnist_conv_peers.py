"""The convolutional network in the libraries on PyTorch, each as its users would write it."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from experiments.benchmark.peers import prepare_torch, torch_dtype, torch_side
from experiments.benchmark.side import Setting, Side

Weights = dict[str, np.ndarray]


def _layers(weights: Weights) -> list[Any]:
    """Two convolutions and two dense layers, with weights given as Flax has them."""
    import torch

    def with_weights(layer: Any, name: str, kernel: np.ndarray) -> Any:
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(kernel))
            if layer.bias is not None:
                layer.bias.copy_(torch.tensor(weights[f"{name} bias"]))
        return layer

    # PyTorch's images are [C, H, W], and so is what it flattens
    dense = weights["dense"].reshape(4, 4, 50, 500).transpose(3, 2, 0, 1).reshape(500, 800)
    return [
        with_weights(torch.nn.Conv2d(1, 20, 5), "conv1", weights["conv1"].transpose(3, 2, 0, 1)),
        with_weights(torch.nn.Conv2d(20, 50, 5), "conv2", weights["conv2"].transpose(3, 2, 0, 1)),
        with_weights(torch.nn.Linear(800, 500), "dense", dense),
        with_weights(torch.nn.Linear(500, 10, bias=False), "readout", weights["readout"].T),
    ]


def norse_network(weights: Weights) -> tuple[Any, Callable[[Any], Any]]:
    """Norse's cells, called step by step, as in its tutorial."""
    import torch
    from norse.torch import LICell, LIFCell, LIFParameters

    conv1, conv2, dense, readout = _layers(weights)
    parameters = LIFParameters(method="super", alpha=torch.tensor(80.0))
    cells = [*(LIFCell(p=parameters) for _ in range(3)), LICell()]

    def forward(frames: Any) -> Any:
        states: list[Any] = [None] * 4
        outputs = []
        for frame in frames:
            z, states[0] = cells[0](conv1(frame), states[0])
            z, states[1] = cells[1](10 * conv2(torch.nn.functional.max_pool2d(z, 2)), states[1])
            z, states[2] = cells[2](dense(torch.nn.functional.max_pool2d(z, 2).flatten(1)), states[2])
            v, states[3] = cells[3](readout(z), states[3])
            outputs.append(v)
        return torch.stack(outputs)

    return torch.nn.ModuleList([conv1, conv2, dense, readout, *cells]), forward


def snntorch_network(weights: Weights) -> tuple[Any, Callable[[Any], Any]]:
    """Return the neurons of snnTorch with a synaptic current, called step by step, as in its tutorials."""
    import snntorch
    import torch

    conv1, conv2, dense, readout = _layers(weights)
    neurons = [snntorch.Synaptic(alpha=0.8, beta=0.9) for _ in range(3)]
    leaky = snntorch.Leaky(beta=0.9, reset_mechanism="none")

    def forward(frames: Any) -> Any:
        states = [neuron.init_synaptic() for neuron in neurons]
        v, outputs = leaky.init_leaky(), []
        for frame in frames:
            z, *states[0] = neurons[0](conv1(frame), *states[0])
            z, *states[1] = neurons[1](10 * conv2(torch.nn.functional.max_pool2d(z, 2)), *states[1])
            z, *states[2] = neurons[2](dense(torch.nn.functional.max_pool2d(z, 2).flatten(1)), *states[2])
            _, v = leaky(readout(z), v)
            outputs.append(v)
        return torch.stack(outputs)

    return torch.nn.ModuleList([conv1, conv2, dense, readout, *neurons, leaky]), forward


def spikingjelly_network(weights: Weights) -> tuple[Any, Callable[[Any], Any]]:
    """SpikingJelly's multi-step mode, in which each layer takes all steps in one call."""
    import torch
    from spikingjelly.activation_based import functional, neuron, surrogate

    conv1, conv2, dense, readout = _layers(weights)
    nodes = [neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan(), step_mode="m") for _ in range(3)]

    def forward(frames: Any) -> Any:
        functional.reset_net(modules)
        each = functional.seq_to_ann_forward  # folds time into the batch
        z = nodes[0](each(frames, conv1))
        z = nodes[1](10 * each(z, [torch.nn.MaxPool2d(2), conv2]))
        z = nodes[2](each(z, [torch.nn.MaxPool2d(2), torch.nn.Flatten(), dense]))
        return each(z, readout)

    modules = torch.nn.ModuleList([conv1, conv2, dense, readout, *nodes])
    return modules, forward


NETWORKS = {"norse": norse_network, "snntorch": snntorch_network, "spikingjelly": spikingjelly_network}


def side(setting: Setting, peer: str, weights: Weights, spikes: np.ndarray, labels: np.ndarray) -> Side:
    """Return the side that trains a peer's network."""
    import torch

    device, dtype = prepare_torch(setting), torch_dtype(setting)
    modules, forward = NETWORKS[peer](weights)
    modules.to(device)
    frames = torch.tensor(spikes.transpose(0, 1, 4, 2, 3)).contiguous().to(device)
    targets = torch.tensor(labels, dtype=torch.int64, device=device)
    optimizer = torch.optim.Adam(modules.parameters(), 1e-3)

    def train() -> Any:
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            outputs = forward(frames)
        loss = torch.nn.functional.cross_entropy(outputs.float().max(0)[0], targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return torch_side(setting, train)


def forward(peer: str, weights: Weights, spikes: np.ndarray) -> np.ndarray:
    """Return the outputs of a peer's network, [T, B, 10], on a CPU."""
    import torch

    prepare_torch(Setting(jax.devices("cpu")[0]))
    frames = torch.tensor(spikes.transpose(0, 1, 4, 2, 3)).contiguous()
    with torch.no_grad():
        return NETWORKS[peer](weights)[1](frames).numpy()
