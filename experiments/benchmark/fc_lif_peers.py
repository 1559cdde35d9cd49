"""The linear layer and the LIF layer in the other libraries, each as its users would write it."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmark.peers import on_cpu, prepare_torch, torch_dtype, torch_side
from experiments.benchmark.side import Setting, Side, jax_side
from jsnn.types import Array

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


def _spyx_forward(weights: Array, spikes: Array) -> Array:
    import spyx
    from flax import nnx

    size = weights.shape[1]
    linear = nnx.Linear(*weights.shape, use_bias=False, kernel_init=lambda *_: weights, rngs=nnx.Rngs(0))
    lif = spyx.nn.LIF((size,), beta=0.9, activation=spyx.axn.superspike(), rngs=nnx.Rngs(0))
    return spyx.nn.run(spyx.nn.Sequential(linear, lif), spikes)[0]


def _spyx_side(setting: Setting, backward: bool, weights: np.ndarray, spikes: np.ndarray) -> Side:
    dtype = jnp.bfloat16 if setting.precision == "bf16" else jnp.float32
    arrays = jnp.asarray(weights, dtype), jnp.asarray(spikes, dtype)

    def energy(weights: Array, spikes: Array) -> Array:
        return jnp.sum(_spyx_forward(weights, spikes).astype(jnp.float32) ** 2)

    return jax_side(jax.value_and_grad(energy) if backward else _spyx_forward, *arrays, role="peer")


def sides(setting: Setting, peer: str, backward: bool, weights: np.ndarray, spikes: np.ndarray) -> dict[str, Side]:
    """Return the sides of a peer."""
    if peer == "spyx":
        return {peer: _spyx_side(setting, backward, weights, spikes)}
    return {name: _torch_side(setting, make(), backward, weights, spikes) for name, make in _LAYERS[peer].items()}


def forward(peer: str, weights: np.ndarray, spikes: np.ndarray) -> np.ndarray:
    """Return a peer's spikes [T, B, N], on a CPU."""
    if peer == "spyx":
        return on_cpu(_spyx_forward, weights, spikes)
    _, function = _in_torch(Setting(jax.devices("cpu")[0]), _LAYERS[peer][peer](), weights, spikes)
    return function().detach().numpy()
