"""The network of `latency` in the other libraries, each as its users would stream through it."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from experiments.benchmark.peers import TAU, prepare_torch
from experiments.benchmark.side import Setting, compiled

Step = Callable[[Any, np.ndarray], Any]  # (state, frame [1, I]) -> state, when the output is there


def norse_step(setting: Setting, kernels: list[np.ndarray]) -> tuple[Step, Any]:
    """Return Norse's cells, and the state they start from."""
    from norse.torch import LICell, LIFCell

    return _torch_step(setting, kernels, LIFCell(), LICell())


def snntorch_step(setting: Setting, kernels: list[np.ndarray]) -> tuple[Step, Any]:
    """Return snnTorch's `Leaky`, and the state it starts from."""
    import snntorch

    device = prepare_torch(setting)
    hidden = snntorch.Leaky(beta=0.9).to(device)
    readout = snntorch.Leaky(beta=0.9, reset_mechanism="none").to(device)

    def with_start(leaky: Any) -> Callable[[Any, Any], Any]:
        return lambda x, membrane: leaky(x, leaky.init_leaky() if membrane is None else membrane)

    return _torch_step(setting, kernels, with_start(hidden), with_start(readout))


def _torch_step(setting: Setting, kernels: list[np.ndarray], hidden: Any, readout: Any) -> tuple[Step, Any]:
    import torch

    device = prepare_torch(setting)
    layers = [torch.nn.Linear(*kernel.shape, device=device) for kernel in kernels]
    with torch.no_grad():
        for layer, kernel in zip(layers, kernels):
            layer.weight.copy_(torch.tensor(kernel.T))

    def step(state: Any, frame: np.ndarray) -> Any:
        with torch.no_grad():
            z, hidden_state = hidden(layers[0](torch.from_numpy(frame).to(device)), state[0])
            v, readout_state = readout(layers[1](z), state[1])
            v.cpu()  # waits for it
        return hidden_state, readout_state

    return step, (None, None)


def spyx_step(setting: Setting, kernels: list[np.ndarray]) -> tuple[Step, Any]:
    """Return Spyx's network, compiled, and the state it starts from."""
    import spyx
    from flax import nnx

    rngs = nnx.Rngs(0)
    linear = [nnx.Linear(*kernel.shape, kernel_init=lambda *_, kernel=kernel: kernel, rngs=rngs) for kernel in kernels]
    lif = spyx.nn.LIF(kernels[0].shape[1:], beta=0.9, rngs=rngs)
    network = spyx.nn.Sequential(linear[0], lif, linear[1], spyx.nn.LI(kernels[1].shape[1:], beta=0.9, rngs=rngs))
    return _jax_step(lambda state, frame: network(frame, state)[::-1], network.initial_state(1), len(kernels[0]))


def sparx_step(setting: Setting, kernels: list[np.ndarray]) -> tuple[Step, Any]:
    """Return sparx's network, which carries its state in a collection of Flax, compiled, and that state at rest."""
    import sparx
    from flax import linen

    first, second = (linen.Dense(kernel.shape[1], kernel_init=lambda *_, kernel=kernel: kernel) for kernel in kernels)
    network = linen.Sequential([first, sparx.nn.LIF(tau=TAU), second, sparx.nn.LI(tau=TAU)])
    silence = np.zeros((1, 1, kernels[0].shape[0]), np.float32)
    weights = network.init(jax.random.key(0), silence)

    def advance(state: Any, frame: Any) -> tuple[Any, Any]:
        out, state = network.apply({**weights, **state}, frame[None], mutable=["state"])
        return state, out

    return _jax_step(advance, advance({}, silence[0])[0], len(kernels[0]))


def jaxpike_step(setting: Setting, kernels: list[np.ndarray]) -> tuple[Step, Any]:
    """Return jaxpike's network, compiled, and the state it starts from."""
    import equinox
    import jaxpike

    def dense(kernel: np.ndarray) -> Any:
        layer = jaxpike.Dense(*kernel.shape, key=jax.random.key(0))
        return equinox.tree_at(lambda layer: layer.weight, layer, jax.numpy.asarray(kernel.T))

    lif, readout = jaxpike.LIF(tau=TAU), jaxpike.LeakyIntegrator(tau=TAU)
    network = jaxpike.Sequential(dense(kernels[0]), lif, dense(kernels[1]), readout)
    inputs = len(kernels[0])
    return _jax_step(lambda state, frame: network(state, frame), network.init_state((1, inputs)), inputs)


def _jax_step(function: Callable[[Any, Any], Any], start: Any, inputs: int) -> tuple[Step, Any]:
    program = compiled(function, start, np.zeros((1, inputs), np.float32))  # (state, frame) -> (state, output)
    return lambda state, frame: jax.block_until_ready(program.call(state, frame))[0], start


STEPS: dict[str, Callable[[Setting, list[np.ndarray]], tuple[Step, Any]]] = {
    "norse": norse_step,
    "snntorch": snntorch_step,
    "spyx": spyx_step,
    "sparx": sparx_step,
    "jaxpike": jaxpike_step,
}
