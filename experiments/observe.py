"""What a trained network does with test images: what it decides, and what each of its layers does on the way."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jsnn
from experiments import build, config, conversion
from experiments.loop import Run
from experiments.meaning import headline
from jsnn import decode, energy
from jsnn.conversion import Converted, respond
from jsnn.conversion.place import Scaled
from jsnn.data import pad_to_batches
from jsnn.energy import Comparison
from jsnn.metrics import is_correct
from jsnn.network import neurons_of
from jsnn.neurons.base import SpikingNeuron, cast
from jsnn.neurons.spiking_activation import InitialMembrane, RateCoded
from jsnn.types import Array, Neuron, Parameter

_CONVERTED_IMAGES = 1000  # a converted network is large, and runs for long
_COUNTED_IMAGES = 16  # whose operations are counted


class Subject(NamedTuple):
    """A trained network with all that it takes to show it images."""

    network: Neuron  # a rate network is one of a single step
    present: Callable[[Array, Array], tuple[Array, int | None]]  # (key, images) -> inputs and num_steps of unroll
    decide: Callable[[Array], Array]  # outputs [T, B, classes] -> logits [B, classes]
    dt: float | None  # s, None where the network knows only steps
    batch_size: int
    limit: int | None  # of the test images


class LayerActivity(NamedTuple):
    """How the neurons of a layer fired for many images."""

    name: str
    rates: np.ndarray  # [N], spikes per step
    silent: np.ndarray  # [N], no spike for any image
    saturated: np.ndarray  # [N], at least as many spikes as steps, for every image
    spikes: float  # of the whole layer for one image

    @property
    def is_dead(self) -> bool:
        """Whether no neuron fired at all."""
        return bool(self.silent.all())


class Observation(NamedTuple):
    """What a network did with N test images."""

    predictions: np.ndarray  # [N]
    losses: np.ndarray  # [N], cross-entropy
    labels: np.ndarray  # [N]
    accuracy_by_step: np.ndarray  # [T], deciding on the output of each step
    mean_accuracy_by_step: np.ndarray  # [T], deciding on the mean output up to each step
    layers: list[LayerActivity]

    @property
    def accuracy(self) -> float:
        """The share of right predictions; where the outputs are NaN, and so the loss, none is right."""
        return float(np.mean((self.predictions == self.labels) & ~np.isnan(self.losses)))


class LayerTrace(NamedTuple):
    """What a layer of neurons did with one image."""

    spikes: np.ndarray  # [T, N], how many
    states: dict[str, np.ndarray]  # [T, N] by name, such as "v"
    threshold: np.ndarray | None  # [N], of v


class Sample(NamedTuple):
    """What a network did with one image."""

    inputs: np.ndarray | None  # [T, N], the spikes that an encoder made of it; None of a static input
    outputs: np.ndarray  # [T, classes]
    prediction: int
    layers: dict[str, LayerTrace]


def subject_of(run: Run) -> Subject:
    """What a run has trained, and converted if it says so."""
    experiment, settings = run.experiment, run.experiment.conversion
    if settings is not None:
        network: Neuron = conversion.convert(run, settings)

        def converted_inputs(key: Array, images: Array) -> tuple[Array, int | None]:
            return build.prepare_images(experiment.data, key, images, training=False), settings.num_steps

        steps = 1 if headline(experiment) == "last_accuracy" else settings.last_steps

        def mean_of_last(outputs: Array) -> Array:
            return jnp.mean(outputs[-steps:], axis=0)

        return Subject(network, converted_inputs, mean_of_last, settings.dt, settings.batch_size, _CONVERTED_IMAGES)
    trained, batch_size = run.network(), experiment.train.eval_batch_size
    if not isinstance(trained, Neuron):
        assert callable(trained)

        def one_step(key: Array, images: Array) -> tuple[Array, int | None]:
            return build.prepare_images(experiment.data, key, images, training=False), 1

        return Subject(jsnn.Sequential(trained), one_step, decode.last, None, batch_size, None)

    def encoded(key: Array, images: Array) -> tuple[Array, int | None]:
        augment_key, encode_key = jax.random.split(key)
        images = build.prepare_images(experiment.data, augment_key, images, training=False)
        return build.encode_images(experiment.encoder, encode_key, images, experiment.num_steps)

    decide = getattr(decode, experiment.objective.decoder)
    return Subject(trained, encoded, decide, _dt(experiment), batch_size, None)


def observe(run: Run, subject: Subject) -> Observation:
    """Shows a network the test images; of its neurons only counts are kept.

    Random encoders and membranes draw what they drew in the run's evaluation.
    """
    dataset = run.sets.test
    count = min(len(dataset), subject.limit or len(dataset))
    neurons = spiking_layers(subject.network)
    totals = dict.fromkeys(neurons, np.zeros(()))
    fewest = dict.fromkeys(neurons, np.full((), np.inf))
    logits: list[np.ndarray] = []
    right = mean_right = np.zeros(())

    @jax.jit
    def see(network: Neuron, images: Array, labels: Array, mask: Array, key: Array) -> tuple[Any, ...]:
        outputs, spikes = _count(*_fresh(subject, network, images, key))
        steps = jnp.arange(1, len(outputs) + 1).reshape(-1, 1, 1)
        everywhere = jnp.broadcast_to(labels, outputs.shape[:2])
        correct = [is_correct(x, everywhere) for x in (outputs, jnp.cumsum(outputs, 0) / steps)]
        weights = mask.astype(jnp.float32)
        total = {name: jnp.tensordot(weights, n, 1) for name, n in spikes.items()}
        least = {name: jnp.min(n, 0, initial=jnp.inf, where=_column(mask, n)) for name, n in spikes.items()}
        return subject.decide(outputs), *(jnp.sum(x & mask, 1) for x in correct), total, least

    for index, mask in zip(*pad_to_batches(count, min(subject.batch_size, count))):
        key = jax.random.fold_in(jax.random.fold_in(run.key, 2**31), int(index[0]))
        images, labels = jnp.asarray(dataset.images[index]), jnp.asarray(dataset.labels[index])
        batch = jax.device_get(see(subject.network, images, labels, jnp.asarray(mask), key))
        decided, correct, mean_correct, total, least = batch
        logits.append(decided[mask])
        right, mean_right = right + correct, mean_right + mean_correct
        totals = {name: totals[name] + total[name] for name in neurons}
        fewest = {name: np.minimum(fewest[name], least[name]) for name in neurons}
    scores, targets = np.concatenate(logits).astype(np.float64), dataset.labels[:count]
    num_steps = len(right)
    layers = [
        LayerActivity(
            name,
            rates=(totals[name] / count / num_steps).ravel(),
            silent=(totals[name] == 0).ravel(),
            saturated=(fewest[name] >= num_steps).ravel(),
            spikes=float(totals[name].sum(dtype=np.float64) / count),
        )
        for name in neurons
    ]
    shifted = scores - scores.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(count), targets]
    return Observation(scores.argmax(1), losses, targets, right / count, mean_right / count, layers)


def record_samples(run: Run, subject: Subject, indices: list[int]) -> list[Sample]:
    """Every layer's spikes and states for a few test images."""
    images = jnp.asarray(run.sets.test.images[indices])
    network, inputs, num_steps = _fresh(subject, subject.network, images, run.key)
    records = jsnn.record(network, inputs, num_steps=num_steps)
    outputs = list(records.values())[-1].outputs
    predictions = np.asarray(subject.decide(outputs)).argmax(-1)
    neurons = spiking_layers(network)
    return [
        Sample(
            np.sign(_flat(inputs, sample)) if num_steps is None else None,
            _flat(outputs, sample),
            int(predictions[sample]),
            {name: _trace(neuron, records[name], sample) for name, neuron in neurons.items()},
        )
        for sample in range(len(indices))
    ]


def compare_energy(run: Run, subject: Subject) -> Comparison:
    """What a network and its rate twin take for a test image, a mean over a few; a rate network stands alone."""
    images = jnp.asarray(run.sets.test.images[:_COUNTED_IMAGES])
    network, inputs, num_steps = _fresh(subject, subject.network, images, run.key)
    trained = run.network()
    if run.experiment.conversion is None and not isinstance(trained, Neuron):
        assert callable(trained)
        return energy.compare(trained, inputs)
    return energy.compare(network, inputs, num_steps=num_steps)


def _trace(neuron: Neuron, layer: jsnn.LayerRecord, sample: int) -> LayerTrace:
    shape = layer.outputs.shape
    states = {
        path[-1].name: _flat(leaf, sample)
        for path, leaf in jax.tree_util.tree_leaves_with_path(layer.states)
        if isinstance(path[-1], jax.tree_util.GetAttrKey) and path[-1].name != "outputs" and leaf.shape == shape
    }
    return LayerTrace(
        np.round(_flat(layer.outputs / spike_size(neuron), sample)), states, _threshold(neuron, shape[2:])
    )


def _flat(values: Array, sample: int) -> np.ndarray:
    """One sample of [T, B, ...], as [T, N]."""
    return np.asarray(values[:, sample]).reshape(len(values), -1)


def spiking_layers(network: Neuron) -> dict[str, Neuron]:
    """A network's neurons that spike, by the names that `jsnn.record` gives them.

    >>> import jsnn
    >>> inner = jsnn.Sequential(jsnn.LIF(0.9), jsnn.flatten)
    >>> list(spiking_layers(jsnn.Sequential(jsnn.flatten, inner, jsnn.IF(), jsnn.LI(0.9))))
    ['1_Sequential/0_LIF', '2_IF']
    """
    if isinstance(network, Converted):
        return dict(zip(network.names, network.neurons))
    found = neurons_of(network) if isinstance(network, jsnn.Network) else {type(network).__name__: network}
    return {name: neuron for name, neuron in found.items() if _spikes(neuron)}


def spike_size(neuron: Neuron) -> Parameter:
    """What one spike in a step adds to a neuron's output."""
    if isinstance(neuron, Scaled):
        return neuron.spike_size
    if isinstance(neuron, jsnn.Recurrent):
        return spike_size(neuron.neuron)
    return neuron.amplitude / neuron.dt if isinstance(neuron, RateCoded) else 1.0


def _spikes(neuron: Neuron) -> bool:
    if isinstance(neuron, jsnn.Recurrent | Scaled):
        return _spikes(neuron.neuron)
    return isinstance(neuron, SpikingNeuron | RateCoded)


def _threshold(neuron: Neuron, shape: tuple[int, ...]) -> np.ndarray | None:
    """The membrane potential at which each neuron of a layer spikes, [N]; None where it is no constant."""
    if isinstance(neuron, jsnn.Recurrent | Scaled):
        return _threshold(neuron.neuron, shape)
    if isinstance(neuron, jsnn.ALIF):
        return None
    if isinstance(neuron, SpikingNeuron):
        return np.broadcast_to(np.asarray(cast(neuron.threshold, jnp.float32)), shape).ravel()
    return np.ones(shape).ravel() if isinstance(neuron, InitialMembrane) else None


def _fresh(subject: Subject, network: Neuron, images: Array, key: Array) -> tuple[Neuron, Array, int | None]:
    """A network with new random membranes, if it has any, and what it receives."""
    if not isinstance(network, Converted):  # which keeps those it was made with
        network = build.with_new_membranes(network, jax.random.fold_in(jax.random.split(key)[1], 1))
    return network, *subject.present(key, images)


def _count(network: Neuron, inputs: Array, num_steps: int | None) -> tuple[Array, dict[str, Array]]:
    """A network's outputs [T, B, classes], and how often each neuron spiked, [B, ...] by layer."""
    if isinstance(network, Converted):
        assert num_steps is not None
        response = respond(network, inputs, num_steps)
        return response.outputs, {name: jnp.round(spikes) for name, spikes in response.spikes.items()}
    layers = jsnn.record(network, inputs, num_steps=num_steps, keep=["outputs"])
    spikes = {
        name: jnp.round(jnp.sum(jnp.abs(layers[name].outputs), 0) / spike_size(neuron))
        for name, neuron in spiking_layers(network).items()
    }
    return list(layers.values())[-1].outputs, spikes


def _dt(experiment: config.Experiment) -> float | None:
    if experiment.objective.dt_end is not None:
        return experiment.objective.dt_end
    return getattr(experiment.model, "dt", None)


def _column(mask: Array, like: Array) -> Array:
    """A mask [B] that broadcasts against [B, ...]."""
    return mask.reshape(-1, *[1] * (like.ndim - 1))
