"""A layer of recurrent LIF neurons alone: the part of a recurrent network that must go step by step.

Each side is given the same currents and feeds its spikes back by the same weights. Spyx's neuron has jsnn's dynamics
with a late reset, which is checked before the times are taken; Norse's has a synaptic current and a product with the
input besides, so it has more to do.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jsnn
from experiments.benchmark.peers import compare, on_cpu, prepare_torch, torch_side
from experiments.benchmark.side import Comparison, Setting, Side, jax_side
from jsnn.types import Array


def comparisons(
    setting: Setting, *, neurons: Sequence[int] = (256,), batch_size: int | None = None, steps: int = 100
) -> Iterator[Comparison]:
    """Forward, then forward+backward, for each number of neurons and each batch: 1, 16 and 256, or one size."""
    notes = (f"spyx: {check()}",) if "spyx" in setting.peers else ()
    for size in neurons:
        for batch in (1, 16, 256) if batch_size is None else (batch_size,):
            weights, currents = random_problem(steps, batch, size)
            for backward in (False, True):
                what = "forward+backward" if backward else "forward"
                title = f"{what}, {size:,} neurons, batch {batch}, {steps} steps"
                yield Comparison(title, sides(setting, backward, weights, currents), notes)


def random_problem(steps: int, batch_size: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Recurrent weights [N, N] and currents [T, B, N]."""
    random = np.random.default_rng(0)
    weights = random.normal(size=(size, size)) / size**0.5
    return weights.astype(np.float32), random.normal(0.2, 0.5, (steps, batch_size, size)).astype(np.float32)


def sides(setting: Setting, backward: bool, weights: np.ndarray, currents: np.ndarray) -> dict[str, Side]:
    """Return jsnn, the products alone, and the peers."""
    arrays = jnp.asarray(weights), jnp.asarray(currents)

    def of(function: Any, **fields: Any) -> Side:
        def energy(weights: Array, currents: Array) -> Array:
            return jnp.sum(function(weights, currents) ** 2)

        return jax_side(jax.value_and_grad(energy, (0, 1)) if backward else function, *arrays, **fields)

    found = {"jsnn": of(forward), "products alone": of(products, role="floor")}
    if "spyx" in setting.peers:
        found["spyx"] = of(spyx_forward, role="peer")
    if "norse" in setting.peers:
        found["norse"] = norse_side(setting, backward, weights, currents)
    return found


def forward(weights: Array, currents: Array, reset_delay: bool = False) -> Array:
    """Return the spikes [T, B, N] of jsnn."""
    neuron = jsnn.LIF(0.9, reset_delay=reset_delay)
    return jsnn.unroll(jsnn.Recurrent(neuron, lambda spikes: spikes @ weights), currents)[1]


def products(weights: Array, currents: Array) -> Array:
    """Return the product of each step, one after another, of what the step before gave."""
    return jax.lax.scan(lambda s, x: (jnp.tanh(x + s @ weights),) * 2, jnp.zeros(currents.shape[1:]), currents)[1]


def spyx_forward(weights: Array, currents: Array) -> Array:
    """Return the spikes [T, B, N] of Spyx."""
    import spyx

    neuron = spyx.nn.RLIF(weights.shape[1:], beta=0.9, activation=spyx.axn.superspike(), rngs=nnx.Rngs(0))
    neuron.recurrent_w[...] = weights
    return spyx.nn.run(neuron, currents)[0]


def norse_side(setting: Setting, backward: bool, weights: np.ndarray, currents: np.ndarray) -> Side:
    """Return Norse's recurrent layer, which takes all steps in one call."""
    import torch
    from norse.torch import LIFRecurrent

    device = prepare_torch(setting)
    layer = LIFRecurrent(*weights.shape, autapses=True).to(device)
    with torch.no_grad():
        layer.recurrent_weights.copy_(torch.tensor(weights.T))
    inputs = torch.tensor(currents, device=device, requires_grad=True)

    def infer() -> Any:
        with torch.no_grad():
            return layer(inputs)[0]

    def train() -> Any:
        layer.zero_grad(set_to_none=True)
        inputs.grad = None
        layer(inputs)[0].pow(2).sum().backward()
        return inputs.grad

    return torch_side(setting, train if backward else infer)


def check() -> str:
    """Return whether jsnn with Spyx's dynamics makes Spyx's spikes, on a small example."""
    problem = random_problem(50, 4, 32)
    ours = on_cpu(lambda weights, currents: forward(weights, currents, reset_delay=True), *problem)
    return f"{compare(ours[:-1], on_cpu(spyx_forward, *problem)[1:])}, one step later (jsnn with its dynamics)"
