"""Times jsnn beside a peer, alternately in one process: `python -m experiments.benchmark [--rounds 3]`.

One case so far: an epoch of Norse's recurrent MNIST tutorial, encoder, gradients and optimiser included, on images that
both libraries hold in memory. The two run the same network on batches of the same size; the first round warms up and
is not counted. Needs the extra `peers` (install torch first, see pyproject.toml).
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from configs import mnist_recurrent
from experiments import build
from jsnn import train
from jsnn.data import Dataset, epoch_permutation


def jsnn_epoch(dataset: Dataset, batch_size: int) -> Callable[[], float]:
    """A function that trains for one epoch and returns its last loss."""
    experiment = mnist_recurrent.get_config()
    network = build.make_network(experiment.model, dataset.images.shape[1:], 10, seed=0)
    steps = len(dataset) // batch_size
    optimizer = build.make_optimizer(experiment.optimizer, steps)
    graph, state = train.create(network, optimizer)
    advance = train.make_advance(graph, build.make_loss(experiment, training=True), optimizer)
    images, labels = jnp.asarray(dataset.images), jnp.asarray(dataset.labels)
    key = jax.random.key(0)

    def run() -> float:
        nonlocal state
        order = epoch_permutation(key, len(dataset), batch_size)
        state, metrics = advance(state, images, labels, order, key)
        return float(metrics["loss"][-1])

    return run


def norse_epoch(dataset: Dataset, batch_size: int, threads: int) -> Callable[[], float]:
    """The same with Norse and PyTorch."""
    import torch
    from norse.torch import ConstantCurrentLIFEncoder, LICell, LIFParameters, LIFRecurrentCell

    torch.set_num_threads(threads)
    hidden = LIFRecurrentCell(784, 100, p=LIFParameters(alpha=torch.tensor(100.0), v_th=torch.tensor(0.5)))
    linear, readout, encoder = torch.nn.Linear(100, 10, bias=False), LICell(), ConstantCurrentLIFEncoder(32)
    optimizer = torch.optim.Adam([*hidden.parameters(), *linear.parameters()], lr=2e-3)
    images = torch.tensor(dataset.images).reshape(len(dataset), -1)
    labels = torch.tensor(dataset.labels, dtype=torch.int64)

    def run() -> float:
        loss = torch.tensor(0.0)
        for index in torch.randperm(len(dataset))[: len(dataset) // batch_size * batch_size].split(batch_size):
            spikes = encoder((images[index] / 255.0 - 0.1307) / 0.3081)
            state = readout_state = None
            voltages = []
            for step in spikes:
                z, state = hidden(step, state)
                v, readout_state = readout(linear(z), readout_state)
                voltages.append(v)
            loss = torch.nn.functional.cross_entropy(torch.stack(voltages).max(0)[0], labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.item()

    return run


def main() -> None:
    """Prints medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--examples", type=int, default=60_000)
    parser.add_argument("--batch-size", type=int, default=256)
    options = parser.parse_args()
    whole = build.load_data(mnist_recurrent.get_config().data).train
    dataset = Dataset(whole.images[: options.examples], whole.labels[: options.examples])
    threads = len(os.sched_getaffinity(0))
    cases = {
        "jsnn": jsnn_epoch(dataset, options.batch_size),
        "norse": norse_epoch(dataset, options.batch_size, threads),
    }
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for round_number in range(options.rounds + 1):
        for name, run in cases.items():
            start = time.perf_counter()
            loss = run()
            if not np.isfinite(loss):
                raise FloatingPointError(f"{name} ended round {round_number} with loss {loss}")
            if round_number:
                seconds[name].append(time.perf_counter() - start)
    table = Table("library", "median s", "lowest", "highest", "times jsnn", title=f"epoch, {threads} threads")
    ours = statistics.median(seconds["jsnn"])
    for name, values in seconds.items():
        median = statistics.median(values)
        table.add_row(name, *(f"{v:.2f}" for v in (median, min(values), max(values), median / ours)))
    Console().print(table)


if __name__ == "__main__":
    main()
