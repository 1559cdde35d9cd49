"""One training step of Norse's MNIST tutorial's convolutional network, the optimiser (Adam) included.

Conv 5x5x20, LIF, pool, conv 5x5x50, LIF, pool, dense 500, LIF, dense 10, LI; the loss is the cross entropy of the
largest output over time. jsnn has Norse's neurons here. Beside the peers stands the same network with the batch seen in
eight parts (`accumulate`), and taken step by step, with every layer within the loop over time: once with jsnn's
convolution and pooling, and once with those of Flax, which is how Spyx does it. Before the times are taken, jsnn runs
the network with each peer's neurons on a small example, with the same weights, and its outputs are held to the peer's.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jsnn
from experiments.benchmark import mnist_conv_peers
from experiments.benchmark.peers import compare, on_cpu
from experiments.benchmark.side import Comparison, Setting, Side, compiled
from jsnn import compat, train
from jsnn.models import times_ten
from jsnn.types import Array, Neuron

Weights = dict[str, np.ndarray]
Forward = Callable[[Any, Array], Array]  # (network, spikes [T, B, 28, 28, 1]) -> outputs [T, B, 10]


def norse_neurons() -> list[Neuron]:
    """Of the tutorial: three LIF and a LI, each with a synaptic current."""
    return [*(compat.norse.lif(alpha=80.0) for _ in range(3)), compat.norse.li()]


LIKE_PEER: dict[str, Callable[[], list[Neuron]]] = {  # the neurons of each peer's network, as jsnn's
    "norse": norse_neurons,
    "snntorch": lambda: [*(compat.snntorch.synaptic(alpha=0.8, beta=0.9) for _ in range(3)), jsnn.LI(0.9)],
    "spikingjelly": lambda: [*(jsnn.LIF(0.5, gain=0.5, reset="zero") for _ in range(3)), jsnn.LI(0.0)],
}


def comparisons(setting: Setting, *, steps: int = 32, batch_size: int = 32) -> Iterator[Comparison]:
    """Return a training step."""
    peers = [peer for peer in setting.peers if peer in LIKE_PEER]
    notes = [f"{peer}: {check(peer)}" for peer in peers]
    if "spikingjelly" in peers:
        notes.append("spikingjelly's outputs are those of the last dense layer: it has less to do")
    spikes, labels = random_problem(steps, batch_size)
    weights = random_weights()
    sides = {
        "jsnn": jsnn_side(setting, tutorial_network(weights, norse_neurons()), layer_by_layer, spikes, labels),
        "the batch in 8 parts": jsnn_side(
            setting,
            tutorial_network(weights, norse_neurons()),
            layer_by_layer,
            spikes,
            labels,
            accumulate=math.gcd(8, batch_size),
            role="other",
        ),
        "step by step": jsnn_side(
            setting, tutorial_network(weights, norse_neurons()), step_by_step, spikes, labels, role="other"
        ),
        "step by step, Flax's layers": jsnn_side(
            setting,
            tutorial_network(weights, norse_neurons(), nnx.Conv, flax_max_pool),
            step_by_step,
            spikes,
            labels,
            role="other",
        ),
        **{peer: mnist_conv_peers.side(setting, peer, weights, spikes, labels) for peer in peers},
    }
    yield Comparison(f"a training step, batch {batch_size}, {steps} steps", sides, tuple(notes))


def random_problem(steps: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Spikes [T, B, 28, 28, 1], a fifth of them 1, and labels [B]."""
    random = np.random.default_rng(1)
    spikes = random.random((steps, batch_size, 28, 28, 1)) < 0.2
    return spikes.astype(np.float32), random.integers(0, 10, batch_size).astype(np.int32)


def random_weights() -> Weights:
    """Kernels as Flax has them, [kh, kw, in, out] and [in, out], and biases, drawn as PyTorch does."""
    random = np.random.default_rng(0)
    shapes = {"conv1": (5, 5, 1, 20), "conv2": (5, 5, 20, 50), "dense": (800, 500), "readout": (500, 10)}
    weights = {}
    for name, shape in shapes.items():
        bound = np.prod(shape[:-1]) ** -0.5
        weights[name] = random.uniform(-bound, bound, shape).astype(np.float32)
        weights[f"{name} bias"] = random.uniform(-bound, bound, shape[-1]).astype(np.float32)
    return weights


def tutorial_network(
    weights: Weights, neurons: list[Neuron], conv: Any = jsnn.Conv, max_pool: Callable[[Array], Array] = jsnn.max_pool
) -> jsnn.Sequential:
    """Return the network with given weights and neurons. Norse's LI has no bias, so the last layer has none."""

    def parameters(name: str) -> dict[str, Any]:
        return {
            "kernel_init": lambda *_: jnp.asarray(weights[name]),
            "bias_init": lambda *_: jnp.asarray(weights[f"{name} bias"]),
            "rngs": nnx.Rngs(0),
        }

    first, second, third, last = neurons
    return jsnn.Sequential(
        conv(1, 20, (5, 5), padding="VALID", **parameters("conv1")),
        first,
        max_pool,
        conv(20, 50, (5, 5), padding="VALID", **parameters("conv2")),
        times_ten,
        second,
        max_pool,
        jsnn.flatten,
        nnx.Linear(800, 500, **parameters("dense")),
        third,
        nnx.Linear(500, 10, use_bias=False, **parameters("readout")),
        last,
    )


def flax_max_pool(x: Array) -> Array:
    """Flax's pooling, for 2x2 windows."""
    return nnx.max_pool(x, (2, 2), (2, 2))


def layer_by_layer(network: jsnn.Sequential, spikes: Array) -> Array:
    """Return how jsnn does it: each layer sees all steps at once."""
    return jsnn.unroll(network, spikes)[1]


def step_by_step(network: jsnn.Sequential, spikes: Array) -> Array:
    """All layers within the loop over time."""
    return jax.lax.scan(network.step, network.init(spikes.shape[1:]), spikes)[1]


def jsnn_side(
    setting: Setting,
    network: jsnn.Network,
    forward: Forward,
    spikes: np.ndarray,
    labels: np.ndarray,
    *,
    accumulate: int = 1,
    **fields: Any,
) -> Side:
    """Return the side that trains a network by `jsnn.train`; each run goes on from the one before."""
    optimizer = optax.adam(1e-3)
    graph, state = train.create(network, optimizer)

    def loss(network: jsnn.Network, x: Array, labels: Array, key: Array) -> tuple[Array, dict[str, Array]]:
        if setting.precision == "bf16":
            network, x = jsnn.precision.reduce_precision(network), x.astype(jnp.bfloat16)
        value = jsnn.losses.cross_entropy(forward(network, jnp.moveaxis(x, 1, 0)).max(0), labels)
        return value, {"loss": value}

    step = jax.jit(train.make_step(graph, loss, optimizer, accumulate=accumulate), donate_argnums=0)
    batch, key = (jnp.asarray(np.moveaxis(spikes, 0, 1)), jnp.asarray(labels)), jax.random.key(0)
    program = compiled(step, state, batch, key)

    def run() -> Any:
        nonlocal state
        state, metrics = program.call(state, batch, key)
        return jax.block_until_ready((state.params, metrics))[1]

    return Side(run, compile_seconds=program.compile_seconds, memory_bytes=program.memory_bytes, **fields)


def check(peer: str) -> str:
    """Return whether jsnn with a peer's neurons makes the peer's outputs, on a small example."""
    spikes, _ = random_problem(steps=16, batch_size=2)
    weights = random_weights()
    weights |= {"conv1": 20 * weights["conv1"], "dense": 10 * weights["dense"]}  # so that all layers spike
    network = tutorial_network(weights, LIKE_PEER[peer]())
    rates = jax.jit(lambda x: [layer.outputs.mean() for layer in jsnn.record(network, x).values()])(spikes)
    theirs = mnist_conv_peers.forward(peer, weights, spikes)
    verdict = compare(on_cpu(lambda x: layer_by_layer(network, x), spikes), theirs, "outputs")
    return f"{verdict}; {', '.join(f'{rate:.1%}' for rate in np.asarray(rates)[[1, 5, 9]])} of the neurons spike"
