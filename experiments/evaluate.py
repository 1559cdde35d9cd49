"""The evaluation that a report shows: one pass over the test set, and a closer look at a few examples."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from scipy.special import log_softmax

import jsnn
from experiments import build
from experiments.evaluation import (
    Activation,
    ConversionReport,
    Evaluation,
    LayerTrace,
    NetworkEnergy,
    Sample,
    answered,
)
from experiments.loop import Run
from experiments.testing import Pass, Subject, present, show, spike_size, spiking_layers, subject_of, threshold_of
from jsnn import conversion, energy
from jsnn.conversion import Converted
from jsnn.models import CompetitiveLayer
from jsnn.network import neurons_of
from jsnn.types import Array, Neuron

_COUNTED = 16  # examples whose operations are counted
_SAMPLES = 1  # of the first test examples, beside the worst mistake
_WORST = 15  # examples that are kept to be shown
_FIELDS = 100  # neurons whose receptive fields are shown
_TRACED = 6  # neurons of a layer whose states are kept


def evaluate(run: Run, converted: Converted | None, history: list[dict[str, Any]]) -> Evaluation:
    """Show a trained network the test set, and look into it for a few examples.

    Random encoders and membranes draw what they drew in the evaluations of the training.
    """
    subject, dataset = subject_of(run, converted), run.sets.test
    [seen] = show(run, subject, [None])
    is_of_classes = run.experiment.data.has_classes(dataset)
    predictions = seen.answers.argmax(-1) if is_of_classes else seen.answers
    counted = answered(seen.targets, dataset.lengths)
    losses = _cross_entropies(seen, counted) if is_of_classes else seen.errors
    wrong = np.arange(len(dataset))
    if is_of_classes:
        is_wrong = (predictions != seen.targets) & counted
        wrong = np.flatnonzero(is_wrong.reshape(len(dataset), -1).any(1))
    worst = wrong[np.argsort(-losses[wrong], kind="stable")][:_WORST]
    chosen = list(dict.fromkeys([*range(min(_SAMPLES, len(dataset))), *worst[:1].tolist()]))
    names: list[str] = []
    if is_of_classes:  # a network may have further outputs
        names += dataset.class_names
        names += map(str, range(len(names), max(dataset.num_classes, seen.answers.shape[-1])))
    return Evaluation(
        data=run.experiment.data.name,
        training_examples=len(run.sets.train),
        parameters=sum(int(np.size(leaf)) for leaf in jax.tree.leaves(run.state.params)),
        dt=subject.dt,
        class_names=names,
        score=subject.score,
        score_by_step=seen.scores["step"],
        mean_score_by_step=seen.scores["mean"],
        targets=seen.targets,
        predictions=predictions,
        losses=losses,
        layers=seen.layers,
        metrics=seen.metrics(subject),
        samples=_record(run, subject, chosen) if seen.layers else [],
        worst=worst.tolist(),
        worst_examples=np.asarray(dataset.inputs[np.sort(worst)])[np.argsort(np.argsort(worst))],
        energy=_energy(run, subject),
        conversion=None if converted is None else _diagnose(run, converted),
        history=history,
        lengths=dataset.lengths,
        delays=_delays(subject.network),
        receptive_fields=_receptive_fields(subject.network, dataset.inputs.shape[1:]),
    )


def _delays(network: Neuron) -> dict[str, np.ndarray]:
    """Return the learned delays of each layer that has some, in steps."""
    found: dict[str, Neuron] = {}
    if isinstance(network, jsnn.Network) and not isinstance(network, Converted):
        found = neurons_of(network)
    learned = {name: getattr(part, "delay", getattr(part, "steps", None)) for name, part in found.items()}
    return {name: np.ravel(delay[...]) for name, delay in learned.items() if isinstance(delay, nnx.Param)}


def _receptive_fields(network: Neuron, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Return the weights of layers that learn by themselves, as images: those of some neurons."""
    if not isinstance(network, jsnn.Sequential) or len(shape) != 3 or shape[-1] != 1:
        return {}
    layers = {name: part for name, part in neurons_of(network).items() if isinstance(part, CompetitiveLayer)}
    shown = {name: np.asarray(layer.weights[...])[:, :_FIELDS] for name, layer in layers.items()}
    return {name: fields.reshape(*shape, -1) for name, fields in shown.items() if len(fields) == np.prod(shape)}


def _cross_entropies(seen: Pass, counted: np.ndarray) -> np.ndarray:
    """Return the cross-entropy of each answer, as logits, and its class, [N]; the mean over the steps of a sequence."""
    logs = log_softmax(seen.answers.astype(np.float64), axis=-1)
    losses = -np.take_along_axis(logs, seen.targets[..., None], axis=-1).reshape(len(logs), -1)
    return losses.mean(1, where=counted.reshape(len(logs), -1))


def _record(run: Run, subject: Subject, indices: list[int]) -> list[Sample]:
    """Return every layer's spikes, and states of a few neurons, for a few test examples."""
    examples, padded = build.parted(run.sets.test.rows(indices)[0])
    _, network, inputs, num_steps = present(subject, subject.network, jnp.asarray(examples), run.key)
    records = jsnn.record(network, inputs, num_steps=num_steps)
    outputs = list(records.values())[-1].outputs
    is_in_time = run.experiment.objective.loss.in_time
    is_of_classes = run.experiment.data.has_classes(run.sets.test)
    answers = np.asarray(jnp.moveaxis(outputs, 0, 1) if is_in_time else subject.decide(outputs, **padded))
    answers = answers.argmax(-1) if is_of_classes else answers
    neurons = spiking_layers(network)
    are_spikes = num_steps is None and (not run.sets.test.in_time or bool(jnp.all(inputs == jnp.round(inputs))))
    lengths = padded.get("lengths", np.full(len(indices), len(outputs)))  # padding is not shown
    return [
        Sample(
            index,
            np.asarray(examples[sample]),
            np.sign(_flat(inputs, sample))[:length] if are_spikes else None,
            np.asarray(outputs[:length, sample]),
            np.asarray(answers[sample, :length] if is_in_time else answers[sample]),
            {name: _trace(neuron, records[name], sample, length) for name, neuron in neurons.items()},
        )
        for sample, (index, length) in enumerate(zip(indices, lengths))
    ]


def _trace(neuron: Neuron, layer: jsnn.LayerRecord, sample: int, length: int) -> LayerTrace:
    shape = layer.outputs.shape
    spikes = np.round(_flat(layer.outputs / spike_size(neuron), sample)).astype(np.int32)[:length]
    traced = from_quiet_to_busy(np.abs(spikes))
    states = {
        path[-1].name: _flat(leaf, sample)[:length, traced]
        for path, leaf in jax.tree_util.tree_leaves_with_path(layer.states)
        if isinstance(path[-1], jax.tree_util.GetAttrKey) and path[-1].name != "outputs" and leaf.shape == shape
    }
    threshold = threshold_of(neuron, shape[2:])
    return LayerTrace(spikes, traced, states, None if threshold is None else threshold[traced])


def from_quiet_to_busy(spikes: np.ndarray) -> np.ndarray:
    """Return a few neurons of [T, N], [K], from the quietest to the busiest.

    They are spread evenly over those that fired at some steps and not at others, as far as there are so many; then
    come those that never fired, and at last those that fired at every step.
    """
    counts, steps = spikes.sum(0), np.count_nonzero(spikes, axis=0)
    order = np.argsort(counts, kind="stable")
    silent, saturated = order[steps[order] == 0], order[steps[order] == len(spikes)]
    telling = order[~np.isin(order, [*silent, *saturated])]
    if len(telling) < _TRACED:
        rest = np.concatenate([telling, silent, saturated])[:_TRACED]
        return rest[np.argsort(counts[rest], kind="stable")]
    return telling[np.linspace(0, len(telling) - 1, _TRACED).round().astype(int)]


def _energy(run: Run, subject: Subject) -> list[NetworkEnergy]:
    """Return operations and energy for an example, a mean over a few, of a network and its rate twin, if it has one.

    Of recordings of different lengths, these are some of about the mean length, without padding.
    """
    inputs, lengths = run.sets.test.inputs, run.sets.test.lengths
    if lengths is None:
        examples = jnp.asarray(inputs[:_COUNTED])
    else:
        some = np.sort(np.argsort(np.abs(lengths - lengths.mean()), kind="stable")[:_COUNTED])
        examples = jnp.asarray(inputs[some][:, : lengths[some].min()])
    _, network, inputs, num_steps = present(subject, subject.network, examples, run.key)
    trained = run.network()
    if run.experiment.conversion is None and not isinstance(trained, Neuron):
        assert callable(trained)
        compared = energy.compare(trained, inputs)
    else:
        compared = energy.compare(network, inputs, num_steps=num_steps)
    joules = compared.joules()
    return [
        NetworkEnergy(
            one.name,
            one.values(compared.devices),
            [
                {
                    "weights": row.weights,
                    "passes": row.steps,
                    "dense": f"{row.dense:,}",
                    "effective": f"{row.effective:,.0f}",
                    "kind": "AC" if row.accumulates else "MAC",
                    "inputs not 0": f"{row.nonzero_inputs:.1%}",
                }
                for row in one.operations.synapses
            ],
            joules[one.name],
        )
        for one in compared.networks
    ]


def _diagnose(run: Run, network: Converted) -> ConversionReport:
    """Return where a conversion loses, on a few test images."""
    settings, test = run.experiment.conversion, run.sets.test
    assert settings is not None
    some = slice(0, settings.batch_size)
    images = run.experiment.data.prepare(run.key, jnp.asarray(test.inputs[some]), training=False)
    labels = test.targets[some] if run.experiment.data.has_classes(test) else None
    found = conversion.diagnose(network, images, labels, num_steps=settings.num_steps, dt=settings.dt)
    activations = [Activation(**row._asdict()) for row in found.activations]
    return ConversionReport(str(network.report), str(found), activations, len(images))


def _flat(values: Array, sample: int) -> np.ndarray:
    """Return one sample of [T, B, ...], as [T, N]."""
    return np.asarray(values[:, sample]).reshape(len(values), -1)
