"""One training step of a network with a learned delay for every synapse, the optimiser (Adam) included.

128 inputs, two hidden layers of LIF neurons and a leaky readout, each with delays of up to 25 steps in front of it, as
Hammouamri et al. (ICLR 2024) have them for spoken digits; the loss is the cross entropy of the mean output. The peer is
the authors' package `dcls` in PyTorch. "term by term" is jsnn with the sum over all delays written out. Before the
times are taken, the peer's outputs and its gradients of weights and delays are held to jsnn's on a small example.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jsnn
from experiments.benchmark import delays_peers
from experiments.benchmark.delays_peers import DECAY, WIDTH, Layer
from experiments.benchmark.peers import compare
from experiments.benchmark.side import Comparison, Setting, Side, compiled
from jsnn import train
from jsnn.types import Array

_INPUTS, _OUTPUTS, _HIDDEN_LAYERS = 128, 20, 2


def comparisons(
    setting: Setting,
    *,
    neurons: Sequence[int] = (256,),
    steps: int = 100,
    batch_size: int = 64,
    max_delay: int = 25,
) -> Iterator[Comparison]:
    """Return a training step for each number of neurons in a hidden layer."""
    peers = ["dcls"] if "dcls" in setting.peers else []
    notes = tuple(f"{peer}: {check(steps=30, size=16, max_delay=5)}" for peer in peers)
    for size in neurons:
        layers, spikes, labels = random_problem(steps, batch_size, size, max_delay)
        sides = {
            "jsnn": jsnn_side(layers, spikes, labels),
            "term by term": jsnn_side(layers, spikes, labels, method="scan", role="other"),
            **{peer: delays_peers.side(setting, layers, spikes, labels) for peer in peers},
        }
        title = f"a training step, 2 x {size:,} neurons, batch {batch_size}, {steps} steps, {max_delay} of delay"
        yield Comparison(title, sides, notes)


def random_problem(
    steps: int, batch_size: int, size: int, max_delay: int
) -> tuple[list[Layer], np.ndarray, np.ndarray]:
    """Weights and delays of all layers, spikes [T, B, 128], a twentieth of them 1, and labels [B]."""
    random = np.random.default_rng(0)
    sizes = [_INPUTS, *[size] * _HIDDEN_LAYERS, _OUTPUTS]
    layers = [
        Layer(
            random.uniform(-1, 1, shape).astype(np.float32) * np.float32((6 / shape[0]) ** 0.5),
            random.uniform(0, max_delay, shape).astype(np.float32),
            max_delay,
        )
        for shape in itertools.pairwise(sizes)
    ]
    spikes = random.random((steps, batch_size, _INPUTS), np.float32) < 0.05
    return layers, spikes.astype(np.float32), random.integers(0, _OUTPUTS, batch_size).astype(np.int32)


def network_of(layers: Sequence[Layer]) -> jsnn.Sequential:
    """Return jsnn's network with given weights and delays."""
    parts: list[Any] = []
    for kernel, delay, max_delay in layers:
        layer = jsnn.DelayedLinear(
            *kernel.shape,
            max_delay=max_delay,
            width=WIDTH,
            use_bias=False,
            kernel_init=lambda *_, kernel=kernel: jnp.asarray(kernel),
            delay_init=lambda *_, delay=delay: jnp.asarray(delay),
            rngs=nnx.Rngs(0),
        )
        parts += [layer, jsnn.LIF(DECAY)]
    return jsnn.Sequential(*parts[:-1], jsnn.LI(DECAY))


def loss(network: jsnn.Network, spikes: Array, labels: Array, key: Any = None, method: Any = "auto") -> Any:
    """Return the loss of a batch, and its metrics."""
    value = jsnn.losses.cross_entropy(jsnn.unroll(network, spikes, method=method)[1].mean(0), labels)
    return value, {"loss": value}


def jsnn_side(
    layers: Sequence[Layer], spikes: np.ndarray, labels: np.ndarray, method: str = "auto", **fields: Any
) -> Side:
    """Return the side that trains by `jsnn.train`; each run goes on from the one before."""
    optimizer = optax.adam(1e-3)
    graph, state = train.create(network_of(layers), optimizer)
    step = jax.jit(train.make_step(graph, functools.partial(loss, method=method), optimizer), donate_argnums=0)
    batch, key = (jnp.asarray(spikes), jnp.asarray(labels)), jax.random.key(0)
    program = compiled(step, state, batch, key)

    def run() -> Any:
        nonlocal state
        state, metrics = program.call(state, batch, key)
        return jax.block_until_ready((state.params, metrics))[1]

    return Side(run, compile_seconds=program.compile_seconds, memory_bytes=program.memory_bytes, **fields)


def check(steps: int, size: int, max_delay: int) -> str:
    """Return whether jsnn makes the peer's loss and gradients, on a small example."""
    layers, spikes, labels = random_problem(steps, 4, size, max_delay)
    layers = [layer._replace(kernel=2 * layer.kernel) for layer in layers]  # so that all layers spike
    with jax.default_device(jax.devices("cpu")[0]), jax.default_matmul_precision("float32"):
        network = network_of(layers)
        gradient = nnx.grad(lambda network: loss(network, jnp.asarray(spikes), jnp.asarray(labels))[0])(network)
    ours = [gradient["layers"][2 * index][name][...] for index in range(len(layers)) for name in ("kernel", "delay")]
    theirs = delays_peers.gradients(layers, spikes, labels)
    sizes = [np.abs(array).max() for array in theirs]
    first, second = (np.concatenate([np.ravel(x) / size for size, x in zip(sizes, side)]) for side in (ours, theirs))
    return compare(first, second, "gradients")
