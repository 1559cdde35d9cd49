"""The network with delays in PyTorch, with the authors' package `dcls`, as its users would write it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.benchmark.peers import prepare_torch, torch_side
from experiments.benchmark.side import Setting, Side

DECAY, WIDTH = 0.9, 3.0  # of the membranes in a step; of the delays, in steps


class Layer(NamedTuple):
    """The parameters of a layer with delays."""

    kernel: np.ndarray
    """[I, O]."""
    delay: np.ndarray
    """[I, O], in steps."""
    max_delay: int


def network(layers: Sequence[Layer], device: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Modules, and the function from spikes [T, B, I] to outputs [T, B, O]."""
    import torch
    from DCLS.construct.modules import Dcls1d

    class Arctan(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, v: Any) -> Any:
            context.save_for_backward(v)
            return (v > 0).to(v)

        @staticmethod
        def backward(context: Any, gradient: Any) -> Any:
            (v,) = context.saved_tensors
            return gradient / (1 + (torch.pi * v) ** 2)

    modules = torch.nn.ModuleList()
    for kernel, delay, max_delay in layers:
        taps = max_delay + 1
        module = Dcls1d(*kernel.shape, kernel_count=1, dilated_kernel_size=taps, bias=False, version="gauss")
        with torch.no_grad():
            module.weight.copy_(torch.tensor(kernel.T[..., None]))
            module.P.copy_(torch.tensor((max_delay - delay - taps // 2).T[None, ..., None]))
            module.SIG.fill_(WIDTH - 0.27)
        module.SIG.requires_grad = False
        modules.append(module)
    modules.to(device)

    def forward(x: Any) -> Any:
        for index, module in enumerate(modules):
            padded = torch.nn.functional.pad(x.permute(1, 2, 0), (module.dilated_kernel_size[0] - 1, 0))
            currents = module(padded).permute(2, 0, 1)
            v, outputs = torch.zeros_like(currents[0]), []
            for current in currents.unbind():
                v = DECAY * v + current
                if index + 1 == len(modules):
                    outputs.append(v)
                else:
                    outputs.append(Arctan.apply(v - 1))
                    v = v - outputs[-1]
            x = torch.stack(outputs)
        return x

    return modules, forward


def side(setting: Setting, layers: Sequence[Layer], spikes: np.ndarray, labels: np.ndarray) -> Side:
    """Return the side that trains the network."""
    import torch

    device = prepare_torch(setting)
    modules, forward = network(layers, device)
    x, targets = torch.tensor(spikes, device=device), torch.tensor(labels, dtype=torch.int64, device=device)
    optimizer = torch.optim.Adam([each for each in modules.parameters() if each.requires_grad], 1e-3)

    def train() -> Any:
        loss = torch.nn.functional.cross_entropy(forward(x).mean(0), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for module in modules:
            module.clamp_parameters()
        return loss.detach()

    return torch_side(setting, train)


def gradients(layers: Sequence[Layer], spikes: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """Return the gradients of weights and delays, layer by layer, [I, O] each, on a CPU."""
    import torch

    modules, forward = network(layers, prepare_torch(Setting(jax.devices("cpu")[0])))
    outputs = forward(torch.tensor(spikes)).mean(0)
    torch.nn.functional.cross_entropy(outputs, torch.tensor(labels, dtype=torch.int64)).backward()
    found = []
    for module in modules:  # a position lies as far from the end as a delay from the beginning
        found += [module.weight.grad[..., 0].T.numpy(), -module.P.grad[0, ..., 0].T.numpy()]
    return found
