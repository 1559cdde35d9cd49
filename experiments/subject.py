"""A trained network with all that it takes to show it examples, and which of its layers spike."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jsnn
from experiments import build
from experiments.loop import Run
from experiments.meaning import headline
from jsnn import decode
from jsnn.conversion import Converted
from jsnn.conversion.place import Scaled
from jsnn.models import CompetitiveLayer
from jsnn.network import neurons_of
from jsnn.neurons.base import SpikingNeuron, cast
from jsnn.neurons.spiking_activation import InitialMembrane, RateCoded
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
    if isinstance(neuron, jsnn.Recurrent | CompetitiveLayer):
        return spike_size(neuron.neuron)
    return neuron.amplitude / neuron.dt if isinstance(neuron, RateCoded) else 1.0


def threshold_of(neuron: Neuron, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the membrane potential at which each neuron of a layer spikes, [N]; None where it is not a constant."""
    if isinstance(neuron, jsnn.Recurrent | Scaled | CompetitiveLayer):
        return threshold_of(neuron.neuron, shape)
    if isinstance(neuron, jsnn.ALIF):
        return None
    if isinstance(neuron, SpikingNeuron):
        return np.broadcast_to(np.asarray(cast(neuron.threshold, jnp.float32)), shape).ravel()
    return np.ones(shape).ravel() if isinstance(neuron, InitialMembrane) else None


def _spikes(neuron: Neuron) -> bool:
    if isinstance(neuron, jsnn.Recurrent | Scaled | CompetitiveLayer):
        return _spikes(neuron.neuron)
    return isinstance(neuron, SpikingNeuron | RateCoded)
