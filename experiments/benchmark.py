"""Times jsnn beside another way to the same end, alternately in one process: `python -m experiments.benchmark [CASE]`.

    mnist_recurrent    an epoch of Norse's MNIST tutorial beside Norse's own: the same network and batches, encoder,
                       gradients and optimiser included, on images that both hold in memory. Needs the extra `peers`
                       (install torch first, see pyproject.toml).
    conversion         the network of NengoDL's CIFAR-10 tutorial, converted, for 30 steps with filters, beside 30
                       passes of the rate network.

The first round warms up and is not counted. For one core, start it with `taskset -c 0`.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from rich.console import Console
from rich.table import Table

import jsnn
from configs import mnist_recurrent
from experiments import build
from jsnn import models, train
from jsnn.data import Dataset, epoch_permutation

_STEPS = 30


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


def conversion_cases(examples: int, batch_size: int) -> dict[str, Callable[[], float]]:
    """The converted network, and as many passes of the rate network as it takes steps."""
    model = models.rate_conv(rngs=nnx.Rngs(0))
    images = jax.random.normal(jax.random.key(0), (examples // batch_size, batch_size, 32, 32, 3))
    network = jsnn.convert(model, images[0], scale_firing_rates=20.0, synapse=5e-3)
    # remat=1 takes the steps one by one, which keeps what lies between two neurons in a CPU's cache
    spiking = jax.jit(lambda network, x: jsnn.unroll(network, x, num_steps=_STEPS, remat=1)[1][-1].sum())
    rate = jax.jit(lambda model, x: model(x).sum())

    def run_spiking() -> float:
        return float(sum(spiking(network, batch) for batch in images))

    def run_rate() -> float:
        return float(sum(rate(model, batch) for batch in images for _ in range(_STEPS)))

    return {"jsnn, 30 steps": run_spiking, "rate network, 30 passes": run_rate}


def recurrent_cases(examples: int, batch_size: int) -> dict[str, Callable[[], float]]:
    """An epoch of the recurrent network in both libraries."""
    whole = build.load_data(mnist_recurrent.get_config().data).train
    dataset = Dataset(whole.images[:examples], whole.labels[:examples])
    return {"jsnn": jsnn_epoch(dataset, batch_size), "norse": norse_epoch(dataset, batch_size, _threads())}


CASES = {"mnist_recurrent": (recurrent_cases, 60_000, 256), "conversion": (conversion_cases, 64, 8)}


def main() -> None:
    """Prints medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="?", choices=CASES, default="mnist_recurrent")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--examples", type=int)
    parser.add_argument("--batch-size", type=int)
    options = parser.parse_args()
    make, examples, batch_size = CASES[options.case]
    examples = options.examples or examples
    cases = make(examples, options.batch_size or batch_size)
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for round_number in range(options.rounds + 1):
        for name, run in cases.items():
            start = time.perf_counter()
            value = run()
            if not np.isfinite(value):
                raise FloatingPointError(f"{name} ended round {round_number} with {value}")
            if round_number:
                seconds[name].append(time.perf_counter() - start)
    columns = ("median s", "lowest", "highest", "images/s", "times jsnn")
    table = Table("", *columns, title=f"{options.case}, {_threads()} threads")
    ours = statistics.median(next(iter(seconds.values())))
    for name, values in seconds.items():
        median = statistics.median(values)
        numbers = (median, min(values), max(values), examples / median, median / ours)
        table.add_row(name, *(f"{number:.2f}" for number in numbers))
    Console().print(table)


def _threads() -> int:
    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    main()
