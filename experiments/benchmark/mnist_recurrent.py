"""An epoch of Norse's MNIST tutorial's recurrent network, data loading included, beside Norse's own.

Both find the images as bytes in the host's memory; an epoch shuffles them, gathers the batches, normalises and encodes
them (32 steps), and takes an optimiser step for each. What reading them from disk takes is not in it.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jsnn
from configs import mnist_recurrent as config
from experiments import build, datasets
from experiments.benchmark.peers import compare, on_cpu, prepare_torch, torch_side
from experiments.benchmark.side import Comparison, Setting, Side, check_batches, compiled
from jsnn import train
from jsnn.data import Dataset, epoch_permutation


def comparisons(setting: Setting, *, examples: int = 60_000, batch_size: int = 256) -> Iterator[Comparison]:
    """Return an epoch."""
    check_batches(examples, batch_size)
    whole = datasets.load(config.get_config()).train
    dataset = Dataset(whole.images[:examples], whole.labels[:examples])

    def details(seconds: float) -> dict[str, float]:
        return {"images/s": len(dataset) // batch_size * batch_size / seconds}

    sides = {"jsnn": jsnn_side(dataset, batch_size)._replace(details=details)}
    notes: tuple[str, ...] = ()
    if "norse" in setting.peers:
        sides["norse"] = norse_side(setting, dataset, batch_size)._replace(details=details)
        notes = (f"norse: {check(dataset.images[:16])}",)
    yield Comparison(f"an epoch of {len(dataset):,} images, batch {batch_size}", sides, notes)


def jsnn_side(dataset: Dataset, batch_size: int) -> Side:
    """Return the side that trains the config's network as the runner does; each run goes on from the one before."""
    experiment = config.get_config()
    network = build.make_network(experiment, dataset)
    optimizer = experiment.optimizer.make(len(dataset) // batch_size)
    graph, state = train.create(network, optimizer)
    advance = train.make_advance(graph, build.make_loss(experiment, training=True), optimizer)
    key = jax.random.key(0)

    def load() -> tuple[Any, Any, Any]:
        order = epoch_permutation(key, len(dataset), batch_size)
        return jnp.asarray(dataset.images), jnp.asarray(dataset.labels), order

    program = compiled(advance, state, *load(), key)

    def run() -> Any:
        nonlocal state
        state, metrics = program.call(state, *load(), key)
        return jax.block_until_ready(metrics["loss"])

    return Side(run, compile_seconds=program.compile_seconds, memory_bytes=program.memory_bytes)


def norse_side(setting: Setting, dataset: Dataset, batch_size: int) -> Side:
    """Return the same with Norse and PyTorch."""
    import torch

    device = prepare_torch(setting)
    modules, forward = norse_network()
    modules.to(device)
    optimizer = torch.optim.Adam(modules.parameters(), lr=2e-3)

    def run() -> Any:
        images = torch.tensor(dataset.images).to(device)
        labels = torch.tensor(dataset.labels, dtype=torch.int64).to(device)
        order = torch.randperm(len(dataset))[: len(dataset) // batch_size * batch_size]
        for index in order.to(device).split(batch_size):
            outputs = forward(images[index].reshape(batch_size, -1) / 255.0)
            loss = torch.nn.functional.cross_entropy(outputs.max(0)[0], labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.detach()

    return torch_side(setting, run)


def norse_network() -> tuple[Any, Callable[[Any], Any]]:
    """Norse's modules (recurrent cell, linear, readout), and their outputs [T, B, 10] for images [B, 784] in [0, 1]."""
    import torch
    from norse.torch import ConstantCurrentLIFEncoder, LICell, LIFParameters, LIFRecurrentCell

    hidden = LIFRecurrentCell(784, 100, p=LIFParameters(alpha=torch.tensor(100.0), v_th=torch.tensor(0.5)))
    linear, readout, encoder = torch.nn.Linear(100, 10, bias=False), LICell(), ConstantCurrentLIFEncoder(32)

    def forward(images: Any) -> Any:
        state = readout_state = None
        outputs = []
        for spikes in encoder((images - 0.1307) / 0.3081):
            z, state = hidden(spikes, state)
            v, readout_state = readout(linear(z), readout_state)
            outputs.append(v)
        return torch.stack(outputs)

    return torch.nn.ModuleList([hidden, linear, readout]), forward


def check(images: np.ndarray) -> str:
    """Return whether jsnn's network with Norse's weights makes Norse's outputs."""
    import torch

    experiment = config.get_config()
    modules, forward = norse_network()
    weights = [w.detach().numpy().T for w in modules.parameters()]
    network: Any = build.make_network(experiment, Dataset(images, np.arange(len(images)) % 10))
    _, inputs, recurrent, linear, _ = network.layers
    for layer, kernel in zip((inputs, recurrent.synapse, linear), weights, strict=True):
        layer.kernel[...] = jnp.asarray(kernel)

    def outputs(images: Any) -> Any:
        prepared = experiment.data.prepare(jax.random.key(0), images, training=False)
        spikes, _ = build.encode(experiment, jax.random.key(0), prepared)
        return jsnn.unroll(network, spikes)[1]

    with torch.no_grad():
        theirs = forward(torch.tensor(images).reshape(len(images), -1) / 255.0)
    return compare(on_cpu(outputs, images), theirs.numpy(), "outputs")
