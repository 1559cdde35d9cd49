"""A trained network with all that it takes to show it examples, and one pass of it over the test set."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jsnn
from experiments import build
from experiments.evaluation import LayerActivity
from experiments.loop import Run
from experiments.meaning import headline
from jsnn import conversion, decode
from jsnn.conversion import Converted
from jsnn.conversion.place import Scaled
from jsnn.models import CompetitiveLayer
from jsnn.network import neurons_of
from jsnn.neurons.base import SpikingNeuron, cast
from jsnn.neurons.checks import has_field
from jsnn.neurons.spiking_activation import InitialMembrane, RateCoded
from jsnn.padding import fill_padding
from jsnn.train.trainer import as_float
from jsnn.types import Array, Neuron, Parameter


class Subject(NamedTuple):
    """A trained network with all that it takes to show it examples."""

    network: Neuron  # a rate network is one of a single step
    prepare: Callable[[Array, Array], Array]  # (key, inputs) -> inputs, normalised
    encode: Callable[[Array, Array], tuple[Array, int | None]]  # (key, prepared) -> inputs and num_steps of unroll
    decide: Callable[..., Array]  # outputs [T, B, ...] -> answers [B, ...], with `lengths=` where they are padded
    measure: Callable[..., tuple[Any, dict[str, Array]]]  # the loss of the experiment
    score: str  # its metric by which answers are compared
    last_steps: int | None  # the second decision is taken on the mean output of so many; None for all
    dt: float | None  # s, None where the network knows only steps
    batch_size: int


def subject_of(run: Run, converted: Converted | None = None) -> Subject:
    """Return what a run has trained, or the network that it was converted to."""
    experiment, settings = run.experiment, run.experiment.conversion
    loss, batch_size = experiment.objective.loss, experiment.train.eval_batch_size
    measure, score = loss.make(), loss.score

    def prepare(key: Array, examples: Array) -> Array:
        return experiment.data.prepare(key, examples, training=False)

    if converted is not None:
        assert settings is not None
        last = settings.last_steps
        steps = 1 if headline(experiment).startswith("last_") else last
        return Subject(
            converted,
            prepare,
            lambda key, images: (images, settings.num_steps),
            lambda outputs: jnp.mean(outputs[-steps:], axis=0),
            *(measure, score, last, settings.dt, settings.batch_size),
        )
    trained = run.network()
    if not isinstance(trained, Neuron):
        assert callable(trained)
        network = jsnn.Sequential(trained)
        still = (prepare, lambda key, images: (images, 1), decode.last)
        return Subject(network, *still, measure, score, None, None, batch_size)

    def encode(key: Array, examples: Array) -> tuple[Array, int | None]:
        return build.encode(experiment, key, examples, in_time=run.sets.test.in_time)

    dt = experiment.objective.dt_end or getattr(experiment.network, "dt", None) or getattr(experiment.data, "dt", None)
    decoder = experiment.objective.decoder.make()
    return Subject(trained, prepare, encode, decoder, measure, score, None, dt, batch_size)


def present(subject: Subject, network: Neuron, inputs: Array, key: Array) -> tuple[Array, Neuron, Array, int | None]:
    """Return inputs as prepared, a network with new random membranes, if it has any, and what it receives of them."""
    augment_key, encode_key = jax.random.split(key)
    if not isinstance(network, Converted):  # which keeps those it was made with
        network = build.with_new_membranes(network, jax.random.fold_in(encode_key, 1))
    inputs = subject.prepare(augment_key, inputs)
    return inputs, network, *subject.encode(encode_key, inputs)


def spiking_layers(network: Neuron) -> dict[str, Neuron]:
    """Return a network's neurons that spike, by the names that `jsnn.record` gives them.

    Examples:
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
    """Return what one spike in a step adds to a neuron's output."""
    if isinstance(neuron, Scaled):
        return neuron.spike_size
    neuron = _inner(neuron)
    return neuron.amplitude / neuron.dt if isinstance(neuron, RateCoded) else 1.0


def threshold_of(neuron: Neuron, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the membrane potential at which each neuron of a layer spikes, [N]; None where it is not a constant."""
    is_drawn = any(isinstance(part, jsnn.Stochastic) for _, part in nnx.iter_graph(neuron))
    neuron = _inner(neuron)
    if is_drawn or isinstance(neuron, jsnn.ALIF):
        return None
    if isinstance(neuron, SpikingNeuron):
        return np.broadcast_to(np.asarray(cast(neuron.threshold, jnp.float32)), shape).ravel()
    return np.ones(shape).ravel() if isinstance(neuron, InitialMembrane) else None


def _spikes(neuron: Neuron) -> bool:
    neuron = _inner(neuron)
    is_graded = isinstance(neuron, jsnn.SigmaDelta)
    return isinstance(neuron, RateCoded) or (has_field(neuron, "surrogate") and not is_graded)


def _inner(neuron: Any) -> Any:
    """Return the neuron that a wrapper such as `jsnn.Recurrent` holds; any other neuron is returned as it is."""
    is_around = isinstance(neuron, CompetitiveLayer) or has_field(neuron, "neuron")
    return _inner(neuron.neuron) if is_around and not isinstance(neuron, jsnn.MeanRate) else neuron


class Pass(NamedTuple):
    """The results of a network for N examples, after T steps."""

    answers: np.ndarray  # [N, ...], what the outputs are decoded to; [N, T, ...] where every step has a target
    targets: np.ndarray  # [N, ...]
    errors: np.ndarray  # [N], the score of each answer
    scores: dict[str, np.ndarray]  # by step [T] "step" and "mean"; "tail" [1] of the last steps' mean, not of sequences
    layers: list[LayerActivity]
    fewest: float  # spikes of a neuron for an example; for a shorter one, as many as it would have in T steps
    most: float

    def metrics(self, subject: Subject) -> dict[str, float]:
        """Return scores on the last step and on the mean of the last, and how the neurons fire; {} without any."""
        if not self.layers:
            return {}
        steps = len(self.scores["step"])
        spikes, neurons = sum(layer.spikes for layer in self.layers), sum(layer.rates.size for layer in self.layers)
        found = {f"last_{subject.score}": float(self.scores["step"][-1])}
        if "tail" in self.scores:
            found[f"mean_{subject.score}"] = float(self.scores["tail"][0])
        if subject.dt is not None:
            seconds = steps * subject.dt
            found["rate_min_hz"] = self.fewest / seconds
            found["rate_mean_hz"] = float(sum(layer.rates.sum() for layer in self.layers)) / neurons / subject.dt
            found["rate_max_hz"] = self.most / seconds
        return found | {"spikes_per_image": spikes}


def show(run: Run, subject: Subject, lengths: Sequence[int | None]) -> list[Pass]:
    """Show a network the test set, and return what it did within each of these numbers of steps.

    A converted network is simulated once for all of them; None stands for the steps of the subject. Of the neurons only
    counts are kept.
    """
    dataset = run.sets.test
    totals: list[dict[str, Any]] = [{} for _ in lengths]
    answers: list[list[list[np.ndarray]]] = [[] for _ in lengths]

    @jax.jit
    def see(network: Neuron, examples: Any, targets: Array, key: Array) -> list[tuple[Any, ...]]:
        examples, padded = build.parted(examples)
        examples, network, inputs, num_steps = present(subject, network, examples, key)
        targets = examples if run.experiment.data.reconstruct else targets
        found = []
        for outputs, counts in _count(network, inputs, [length or num_steps for length in lengths], **padded):
            decided = subject.decide(outputs, **padded)
            score = subject.measure(outputs, decided, targets, **padded)[1][subject.score]
            answers = jnp.moveaxis(outputs, 0, 1) if run.experiment.objective.loss.in_time else decided
            steps = jnp.arange(1, len(outputs) + 1).reshape(-1, *[1] * (outputs.ndim - 1))
            share = len(outputs) / padded.get("lengths", jnp.full(len(targets), len(outputs)))
            columns = {name: share.reshape(-1, *[1] * (n.ndim - 1)) for name, n in counts.items()}
            spikes = {name: n * columns[name] for name, n in counts.items()}  # as if all examples took all steps
            mean = _held(jnp.cumsum(outputs, 0) / steps, **padded)
            outputs = _held(outputs, **padded)
            if run.experiment.objective.loss.in_time:
                targets = jnp.moveaxis(_held(jnp.moveaxis(targets, 1, 0), **padded), 0, 1)
            sums = {
                "step": scores(outputs, targets),
                "mean": scores(mean, targets),
                "total": {name: jnp.sum(n, 0) for name, n in spikes.items()},
                "spikes": {name: jnp.sum(n) for name, n in counts.items()},
            }
            if not run.experiment.objective.loss.in_time:  # a mean over steps has no target of its own
                last = subject.last_steps or len(outputs)
                tail = jnp.mean(outputs[-last:], 0, keepdims=True) if not padded else mean[-1:]
                sums["tail"] = scores(tail, targets)
            least = {name: jnp.min(n, 0) for name, n in spikes.items()}
            most = {name: jnp.max(n, 0) for name, n in spikes.items()}
            found.append(((answers, targets, jnp.broadcast_to(score, len(targets))), sums, least, most))
        return found

    def scores(outputs: Array, targets: Array) -> Array:
        """Return the sum over the examples of the score of deciding on each step's output, [T]."""
        is_in_time = run.experiment.objective.loss.in_time

        def of_step(output: Array, step: Array) -> Array:
            wanted = jax.lax.dynamic_slice_in_dim(targets, step, 1, axis=1) if is_in_time else targets
            score = subject.measure(output[None], output, wanted)[1][subject.score]
            return jnp.sum(jnp.broadcast_to(score, len(wanted)))  # of a number that is the batch's mean, as in training

        return jax.lax.map(lambda pair: of_step(*pair), (outputs, jnp.arange(len(outputs))))

    for first in range(0, len(dataset), subject.batch_size):
        key = jax.random.fold_in(jax.random.fold_in(run.key, 2**31), first)
        examples, targets = jax.tree.map(jnp.asarray, dataset.rows(slice(first, first + subject.batch_size)))
        batch = jax.device_get(see(subject.network, examples, targets, key))
        for total, kept, (answered, sums, least, most) in zip(totals, answers, batch):
            kept.append(answered)
            for name, combine, values in zip(
                ("sums", "least", "most"), (np.add, np.minimum, np.maximum), (sums, least, most)
            ):
                values = jax.tree.map(as_float, values)
                total[name] = jax.tree.map(combine, total[name], values) if name in total else values
    return [
        _pass(np.concatenate(a), np.concatenate(t), np.concatenate(e), total)
        for (a, t, e), total in zip((zip(*kept, strict=True) for kept in answers), totals)
    ]


def _pass(answers: np.ndarray, targets: np.ndarray, errors: np.ndarray, total: dict[str, Any]) -> Pass:
    """Return sums over examples as what they say of a network."""
    sums, least, most = total["sums"], total["least"], total["most"]
    steps, count = len(sums["step"]), len(targets)
    layers = [
        LayerActivity(
            name,
            rates=(spikes / count / steps).ravel(),
            silent=(spikes == 0).ravel(),
            saturated=(least[name] > steps - 0.5).ravel(),
            spikes=float(sums["spikes"][name] / count),
        )
        for name, spikes in sums["total"].items()
    ]
    scores = {name: sums[name] / count for name in ("step", "mean", "tail") if name in sums}
    fewest = min((float(n.min()) for n in least.values()), default=0.0)
    highest = max((float(n.max()) for n in most.values()), default=0.0)
    return Pass(answers, targets, errors, scores, layers, fewest, highest)


def _held(values: Array, lengths: Array | None = None) -> Array:
    """Return outputs [T, B, ...] in which each example keeps those of its last step after its end."""
    if lengths is None:
        return values
    steps = jnp.minimum(jnp.arange(len(values))[:, None], lengths - 1)
    return jnp.take_along_axis(values, steps.reshape(*steps.shape, *[1] * (values.ndim - 2)), axis=0)


def _count(
    network: Neuron, inputs: Array, num_steps: list[int | None], lengths: Array | None = None
) -> list[tuple[Array, dict[str, Array]]]:
    """Return the outputs [T, B, ...] within each number of steps, and each neuron's spikes, [B, ...] by layer.

    The spikes of a padded example, which ends after `lengths` [B] steps, are counted up to there.
    """
    if not isinstance(network, Converted):
        [steps] = num_steps
        layers = jsnn.record(network, inputs, num_steps=steps, keep=["outputs"])
        spikes = {
            name: jnp.round(jnp.sum(jnp.abs(fill_padding(layers[name].outputs, lengths)), 0) / spike_size(neuron))
            for name, neuron in spiking_layers(network).items()
        }
        return [(list(layers.values())[-1].outputs, spikes)]
    found: list[tuple[Array, dict[str, Array]]] = []
    parts, state, done = [], None, 0
    for steps in num_steps:
        assert steps is not None
        response = conversion.respond(network, inputs, steps - done, state)
        state, done = response.state, steps
        parts.append(response.outputs)
        found.append((jnp.concatenate(parts), {name: jnp.round(n) for name, n in response.spikes.items()}))
    return found
