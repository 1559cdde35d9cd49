"""What a spiking network does on the test set: its decisions, and how often its neurons fire for them."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

import jsnn
from experiments import build, figures
from experiments.loop import Run
from jsnn.data import pad_to_batches
from jsnn.metrics import is_correct
from jsnn.types import Array, Neuron


class Measures:
    """Sums over batches, and the metrics that come of them.

    Args:
        num_steps: how long each image was shown.
        dt: the length of a step, s.
        last_steps: the second decision is taken on the mean output of so many last steps.
    """

    def __init__(self, num_steps: int, dt: float, last_steps: int) -> None:
        self.num_steps, self.dt, self.last_steps = num_steps, dt, last_steps
        self.images = self.neurons = 0
        self.correct = np.zeros(num_steps)
        self.mean_correct = self.spikes = 0.0
        self.fewest, self.most = np.inf, -np.inf

    def add(self, outputs: np.ndarray, labels: np.ndarray, spikes: Mapping[str, np.ndarray | Array]) -> None:
        """Takes one batch: outputs [T, B, classes], labels [B], and how often each neuron spiked, [B, ...] by layer."""
        classes, mean = jnp.asarray(labels), outputs[-self.last_steps :].mean(0)
        self.correct += np.asarray(is_correct(jnp.asarray(outputs), classes)).sum(1)
        self.mean_correct += float(is_correct(jnp.asarray(mean), classes).sum())
        counts = np.concatenate([np.asarray(layer).reshape(len(labels), -1) for layer in spikes.values()], axis=1)
        self.spikes += float(counts.sum(dtype=np.float64))
        self.fewest, self.most = min(self.fewest, counts.min()), max(self.most, counts.max())
        self.images += len(labels)
        self.neurons = counts.shape[1]

    @property
    def accuracy_by_step(self) -> list[float]:
        """Deciding on the output of each step, [T]."""
        return (self.correct / self.images).tolist()

    def metrics(self) -> dict[str, float]:
        """Accuracy on the last step and on the mean of the last steps; rates of a neuron for an image; spikes."""
        seconds = self.num_steps * self.dt
        return {
            "last_accuracy": float(self.correct[-1] / self.images),
            "mean_accuracy": float(self.mean_correct / self.images),
            "rate_min_hz": float(self.fewest / seconds),
            "rate_mean_hz": float(self.spikes / self.images / self.neurons / seconds),
            "rate_max_hz": float(self.most / seconds),
            "spikes_per_image": float(self.spikes / self.images),
        }


def measure(run: Run, dt: float) -> dict[str, float]:
    """The metrics of a network of `SpikingActivation`s that a run has trained, all its steps counted as the last."""
    experiment = run.experiment
    network = run.network()
    assert isinstance(network, Neuron)
    names = build.hidden_neurons(network)

    @jax.jit
    def respond(images: Array, key: Array) -> tuple[Array, dict[str, Array]]:
        images = build.prepare_images(experiment.data, key, images, training=False)
        renewed = build.with_new_membranes(network, key)
        layers = jsnn.record(renewed, images, num_steps=experiment.num_steps, keep=["outputs"])
        *_others, outputs = [layer.outputs for layer in layers.values()]
        return outputs, {name: jnp.round(layers[name].outputs * dt) for name in names}  # spikes, [T, B, ...]

    dataset = run.sets.test
    measures = Measures(experiment.num_steps, dt, last_steps=experiment.num_steps)
    batches, masks = pad_to_batches(len(dataset), min(experiment.train.eval_batch_size, len(dataset)))
    for index, mask in zip(batches, masks):
        outputs, spikes = respond(jnp.asarray(dataset.images[index]), jax.random.fold_in(run.key, int(index[0])))
        counted = {name: np.asarray(layer.sum(0))[mask] for name, layer in spikes.items()}
        measures.add(np.asarray(outputs)[:, mask], dataset.labels[index][mask], counted)
    outputs, spikes = respond(jnp.asarray(dataset.images[batches[0]]), run.key)
    figures.of_histogram(run.folder, {name: np.asarray(layer) for name, layer in spikes.items()})
    figures.of_probabilities(run.folder, np.asarray(outputs), dataset.labels, figures.class_names(dataset), dt)
    return measures.metrics()
