"""An epoch of Norse's MNIST tutorial, beside Norse's own."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from configs import mnist_recurrent
from experiments import build
from experiments.benchmark.side import Side, threads
from jsnn import train
from jsnn.data import Dataset, epoch_permutation


def sides(examples: int, batch_size: int) -> dict[str, Side]:
    """An epoch of the recurrent network in both libraries."""
    whole = build.load_data(mnist_recurrent.get_config().data).train
    dataset = Dataset(whole.images[:examples], whole.labels[:examples])
    return {"jsnn": Side(jsnn_epoch(dataset, batch_size)), "norse": Side(norse_epoch(dataset, batch_size))}


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


def norse_epoch(dataset: Dataset, batch_size: int) -> Callable[[], float]:
    """The same with Norse and PyTorch."""
    import torch
    from norse.torch import ConstantCurrentLIFEncoder, LICell, LIFParameters, LIFRecurrentCell

    torch.set_num_threads(threads())
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
