"""The linear layer and the LIF layer in the libraries for PyTorch, each as its users would write it."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from experiments.benchmark.peers import prepare_torch, torch_dtype, torch_side
from experiments.benchmark.side import Setting, Side

Layer = Callable[[Any], Any]  # PyTorch's currents [T, B, N] -> spikes [T, B, N]


def norse_layer() -> Layer:
    """Norse's `LIF`, which takes all steps in one call."""
    import torch
    from norse.torch import LIF, LIFParameters

    lif = LIF(p=LIFParameters(method="super", alpha=torch.tensor(100.0)))
    return lambda currents: lif(currents)[0]


def norse_unbound_layer() -> Layer:
    """Return the same, written by hand around Norse's cell, without `currents[t]`."""
    import torch
    from norse.torch import LIFCell, LIFParameters

    cell = LIFCell(p=LIFParameters(method="super", alpha=torch.tensor(100.0)))
    return lambda currents: _loop(cell, None, currents.unbind())


def snntorch_layer() -> Layer:
    """`Leaky` of snnTorch, called step by step as in its tutorials."""
    import snntorch

    leaky = snntorch.Leaky(beta=0.9)
    return lambda currents: _loop(
        leaky.to(currents.device), leaky.init_leaky(), (currents[t] for t in range(len(currents)))
    )


def snntorch_unbound_layer() -> Layer:
    """Return the same without `currents[t]`."""
    import snntorch

    leaky = snntorch.Leaky(beta=0.9)
    return lambda currents: _loop(leaky.to(currents.device), leaky.init_leaky(), currents.unbind())


def _loop(step: Callable[[Any, Any], tuple[Any, Any]], state: Any, currents: Iterable[Any]) -> Any:
    import torch

    spikes = []
    for current in currents:
        out, state = step(current, state)
        spikes.append(out)
    return torch.stack(spikes)


def spikingjelly_layer() -> Layer:
    """SpikingJelly's node in its multi-step mode, which takes all steps in one call."""
    from spikingjelly.activation_based import functional, neuron, surrogate

    node = neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan(), step_mode="m")

    def run(currents: Any) -> Any:
        functional.reset_net(node)
        return node(currents)

    return run


# To take the currents of a step as `currents[t]` costs PyTorch dearly: backward, each makes an array of all steps.
_LAYERS: dict[str, dict[str, Callable[[], Layer]]] = {
    "norse": {"norse": norse_layer, "norse, by hand": norse_unbound_layer},
    "snntorch": {"snntorch": snntorch_layer, "snntorch, unbind": snntorch_unbound_layer},
    "spikingjelly": {"spikingjelly": spikingjelly_layer},
}


def _in_torch(setting: Setting, layer: Layer, weights: np.ndarray, spikes: np.ndarray) -> tuple[Any, Callable[[], Any]]:
    """PyTorch's weights, and a function that gives the spikes."""
    import torch

    device, dtype = prepare_torch(setting), torch_dtype(setting)
    linear = torch.nn.Linear(*weights.shape, bias=False, device=device, dtype=dtype)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor(weights.T))
    x = torch.tensor(spikes).to(device, dtype)
    return linear.weight, lambda: layer(linear(x))


def _torch_side(setting: Setting, layer: Layer, backward: bool, weights: np.ndarray, spikes: np.ndarray) -> Side:
    import torch

    weight, forward = _in_torch(setting, layer, weights, spikes)

    def infer() -> Any:
        with torch.no_grad():
            return forward()

    def train() -> Any:
        weight.grad = None
        loss = (forward().float() ** 2).sum()
        loss.backward()
        return loss.detach(), weight.grad

    return torch_side(setting, train if backward else infer)


def sides(setting: Setting, peer: str, backward: bool, weights: np.ndarray, spikes: np.ndarray) -> dict[str, Side]:
    """Return the sides of a peer."""
    return {name: _torch_side(setting, make(), backward, weights, spikes) for name, make in _LAYERS[peer].items()}


def forward(peer: str, weights: np.ndarray, spikes: np.ndarray) -> dict[str, np.ndarray]:
    """Return the spikes [T, B, N] of each of a peer's sides, on a CPU."""
    setting = Setting(jax.devices("cpu")[0])
    return {
        name: _in_torch(setting, make(), weights, spikes)[1]().detach().numpy() for name, make in _LAYERS[peer].items()
    }
