"""From a config to jsnn objects: the network, its schedule and the loss of a batch; and whether they fit."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import jsnn
from experiments import config
from jsnn import memory, regularizers
from jsnn.data import Dataset, Padded
from jsnn.filters import Filter
from jsnn.network import neurons_of
from jsnn.neurons.checks import has_field
from jsnn.neurons.eventprop import with_spike_time_gradients
from jsnn.neurons.pytree import map_parts, with_dt
from jsnn.neurons.spiking_activation import InitialMembrane
from jsnn.padding import mean_over_time
from jsnn.precision import initial_state, reduce_precision
from jsnn.train.steps import Loss, Metrics, Network, check_result, in_mode, metrics_of
from jsnn.types import Array, Neuron

Record: TypeAlias = Callable[..., dict[str, jsnn.LayerRecord]]  # `jsnn.record`, or what gives the same


def make_network(experiment: config.Experiment, train: Dataset) -> Network:
    """Return the untrained network for examples of a data set: a Neuron, or a rate network, which knows no time.

    It has an output for each class; where the targets are values, one for each value at one step.
    """
    shape = train.inputs.shape[2 if train.in_time else 1 :]
    values = (
        shape if experiment.data.reconstruct else train.targets.shape[2 if experiment.objective.loss.in_time else 1 :]
    )
    outputs = train.num_classes if experiment.data.has_classes(train) else math.prod(values)
    inputs, rngs = experiment.encoder.shape(shape), nnx.Rngs(experiment.seed)
    kind = experiment.network
    network = kind.make(inputs, outputs, rngs)
    if isinstance(network, Neuron) == kind.is_rate:
        a_neuron = "a Neuron, such as jsnn.Network(module), as is_rate is not True"
        wanted = "a function without time, as is_rate is True" if kind.is_rate else a_neuron
        raise ValueError(f"{type(kind).__name__}.make must return {wanted}, got {type(network).__name__}")
    return experiment.learning.prepare(network, (1, *inputs), rngs)


def make_schedule(experiment: config.Experiment, total_steps: int) -> Callable[[Network, Array], Network]:
    """Return what sets the parts of the network that follow a schedule: those of its kind, and the step dt."""
    start, end = getattr(experiment.network, "dt", None), experiment.objective.dt_end

    def at_step(network: Network, step: Array) -> Network:
        network = experiment.network.at_step(network, step, total_steps)
        if start is None or end is None:
            return network
        return with_dt(network, optax.exponential_decay(start, total_steps, end / start)(step))

    return at_step


def encode(
    experiment: config.Experiment, key: Array, inputs: Array, *, in_time: bool = False
) -> tuple[Array, int | None]:
    """Return what the network receives of examples `[B, ...]`, or `[B, T, ...]` in time.

    Returns:
        currents or spikes `[T, B, ...]` and None; or a static input `[B, ...]` and the `num_steps` of `jsnn.unroll`.
    """
    if in_time:
        return experiment.encoder.make_in_time()(key, jnp.moveaxis(inputs, 1, 0)), None
    encoded = experiment.encoder.make(experiment.num_steps)(key, inputs)
    return encoded, experiment.num_steps if experiment.encoder.is_static else None


def make_loss(
    experiment: config.Experiment,
    *,
    in_time: bool = False,
    num_classes: int = 0,
    training: bool,
    record: Record = jsnn.record,
    rate_steps: int | None = None,
) -> Loss:
    """Return the loss of a batch, with its metrics: those of the objective, and the firing rate of each hidden layer.

    Args:
        experiment: it says what the loss is.
        in_time: whether the examples have a time axis.
        num_classes: how many outputs the network must have, at least.
        training: whether they are augmented, and batch normalisation sees the batch.
        record: `jsnn.record`, or what gives the same on several devices.
        rate_steps: over how many steps the neurons send their mean rate; by default they send spikes.
    """
    objective, rule = experiment.objective, experiment.learning.make()
    reduced = training and experiment.train.precision == "bfloat16"
    decode, evaluate = objective.decoder.make(), objective.loss.make()

    def loss(network: Any, inputs: Array, targets: Array, key: Array) -> tuple[Array, Metrics]:
        augment_key, encode_key = jax.random.split(key)
        inputs, padded = parted(inputs)
        inputs = experiment.data.prepare(augment_key, inputs, training=training)
        targets = inputs if experiment.data.reconstruct else targets
        network = in_mode(network, training=training and rule is None)
        network = network if training else experiment.network.for_inference(network)
        hidden: dict[str, Array] = {}
        if isinstance(network, Neuron):
            network = with_new_membranes(network, jax.random.fold_in(encode_key, 1))
            if training and experiment.train.gradient == "eventprop":
                network = with_spike_time_gradients(network)
            if rate_steps is not None:
                network = with_mean_rates(network, rate_steps)
            encoded = encode(experiment, encode_key, inputs, in_time=in_time)
            if training and rule is not None:
                return _learned_online(experiment, network, *encoded, targets, padded)
            outputs, hidden = _run(network, *encoded, experiment.train.method, record, reduced=reduced)
            decoded = decode(outputs, **padded)
        else:
            decoded = (reduce_precision(network) if reduced else network)(inputs)
            outputs = decoded[None]
        if outputs.shape[-1] < num_classes:
            raise ValueError(f"the network must give {num_classes} outputs, one for each class, got {outputs.shape}")
        value, metrics = check_result(evaluate(outputs, decoded, targets, **padded), inputs)
        for name, spikes in hidden.items():
            rate = mean_over_time(spikes, padded.get("lengths"))  # [B, ...]
            metrics[f"rate/{name}"] = jnp.mean(rate, axis=range(1, rate.ndim))
            value = value + _rate_penalty(objective, rate)
        if objective.kernel_penalty and training:
            value = value + objective.kernel_penalty * sum(jnp.sum(kernel**2) for kernel in _kernels(network))
        return value, {"loss": value, **metrics}

    return loss


def _learned_online(
    experiment: config.Experiment,
    network: Neuron,
    inputs: Array,
    num_steps: int | None,
    targets: Array,
    padded: dict[str, Array],
) -> tuple[Array, Metrics]:
    """Return the loss of a batch with the derivative of a learning rule, and the metrics.

    The loss is that of every step by itself, as if it were a recording of one step; steps in the padding, and those of
    the burn-in, do not count.
    """
    objective = experiment.objective
    decode, evaluate = objective.decoder.make(), objective.loss.make()
    steps = num_steps or len(inputs)
    lengths = padded.get("lengths", jnp.full(len(targets), steps))
    burn_in = getattr(experiment.learning, "burn_in", None)
    if burn_in is None:
        burn_in = 0.0 if objective.loss.in_time else 0.5
    step, first = jnp.arange(steps)[:, None], jnp.floor(burn_in * lengths)
    weights = jnp.where((step >= first) & (step < lengths), steps / (lengths - first), 0.0)

    def of_example(outputs: Array, target: Array) -> Array:
        outputs = outputs[None, None]
        return evaluate(outputs, decode(outputs), target[None, None] if objective.loss.in_time else target[None])[0]

    def of_step(outputs: Array, given: tuple[Array, Array]) -> Array:
        target, weight = given
        return jnp.mean(jax.vmap(of_example)(outputs, target) * weight)

    in_time = jnp.moveaxis(targets, 1, 0) if objective.loss.in_time else targets
    learn = jsnn.online.differentiable(of_step, rule=experiment.learning.make())
    found = learn(network, inputs, (in_time, weights), num_steps=num_steps)
    _, metrics = evaluate(found.outputs, decode(found.outputs, **padded), targets, **padded)
    value = found.value
    if objective.kernel_penalty:
        value = value + objective.kernel_penalty * sum(jnp.sum(kernel**2) for kernel in _kernels(network))
    rates = {
        f"rate/{name}": jnp.mean(found.rates[name], range(1, found.rates[name].ndim))
        for name in hidden_neurons(network)
    }
    return value, {"loss": value, **metrics, **rates}


def with_mean_rates(network: Neuron, num_steps: int) -> Any:
    """Return a network whose spiking neurons send their mean rates over `num_steps` steps, see `jsnn.MeanRate`.

    It goes around what is put around a neuron, such as `Recurrent`.
    """

    def is_around_mean_rate(part: Any) -> bool:
        return has_field(part, "neuron") and isinstance(part.neuron, jsnn.MeanRate)

    def is_wanted(part: Any) -> bool:
        return has_field(part, "surrogate") or is_around_mean_rate(part)

    def change(part: Any) -> jsnn.MeanRate:
        part = dataclasses.replace(part, neuron=part.neuron.neuron) if is_around_mean_rate(part) else part
        return jsnn.MeanRate(part, num_steps=num_steps)

    return map_parts(network, is_wanted, change)


def parted(examples: Any) -> tuple[Array, dict[str, Array]]:
    """Return the inputs of examples, and their `lengths`, by that name, where they are padded."""
    return (examples.inputs, {"lengths": examples.lengths}) if isinstance(examples, Padded) else (examples, {})


def _run(
    network: Neuron, inputs: Array, num_steps: int | None, method: Any, record: Record, *, reduced: bool
) -> tuple[Array, dict[str, Array]]:
    """Return the outputs of a network over time, [T, B, ...], and those of its hidden neurons by name."""
    state = None
    if reduced:
        state = initial_state(network, inputs.shape if num_steps else inputs.shape[1:])
        network = reduce_precision(network)
    layers = record(network, inputs, state, num_steps=num_steps, keep=["outputs"], method=method)
    hidden = {name: layers[name].outputs.astype(jnp.float32) for name in hidden_neurons(network)}
    return list(layers.values())[-1].outputs, hidden


def _rate_penalty(objective: config.Objective, rate: Array) -> Array | float:
    """Return the price of the firing rates of a layer, [B, ...]."""
    if not objective.rate_penalty:
        return 0.0
    if objective.rate_over == "batch":
        rate = jnp.mean(rate, axis=0, keepdims=True)
    return regularizers.l2(rate, strength=objective.rate_penalty / rate.shape[0], target=objective.rate_target)


def hidden_neurons(network: Neuron) -> list[str]:
    """Return the names of the neurons of a network, a readout at the end of a `Sequential` excepted."""
    if not isinstance(network, jsnn.Network):
        return []
    last = network.names[-1] if isinstance(network, jsnn.Sequential) else ""
    silent = (Filter, jsnn.Delay, jsnn.delays.Delayed)
    return [name for name, part in neurons_of(network).items() if not isinstance(part, silent) and name != last]


def _kernels(network: Network) -> list[Array]:
    """Return the weights of a network's layers without the biases."""
    flat = nnx.to_flat_state(nnx.state(network, nnx.Param))
    return [variable[...] for path, variable in flat if path[-1] == "kernel"]


def with_new_membranes(network: Neuron, key: Array) -> Neuron:
    """Return the network with other random initial membranes, where it has any.

    KerasSpiking draws them for every batch.

    All else is the network's own: what changes the averages of `nnx.BatchNorm` in one changes them in the other.
    """

    def is_random(part: Any) -> bool:
        return isinstance(part, InitialMembrane) and isinstance(part.v_init, jax.Array) and not part.v_init.ndim

    def change(part: Any) -> Any:
        return dataclasses.replace(part, v_init=jax.random.fold_in(key, jax.random.bits(part.v_init)))

    return map_parts(network, is_random, change)


def check_weights(experiment: config.Experiment, make: Callable[[], Any]) -> None:
    """Raise MemoryError if the networks of an experiment take more memory than the device has.

    Args:
        experiment: it says how many networks there are.
        make: makes the state of one, its weights and the optimiser's memory; it is traced only.
    """
    networks = experiment.seeds * max(1, len(experiment.learning_rates))
    one = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(jax.eval_shape(make)))
    what = "the network with its optimiser" if networks == 1 else f"the whole of {networks} networks"
    memory.check_fits(networks * one, what=what, cure="take fewer neurons or channels, or fewer seeds")


def check_batch(experiment: config.Experiment, network: Network, sets: config.Sets, losses: Sequence[Loss]) -> None:
    """Raise ValueError if the data, the encoder, the network and the loss do not fit together; they are traced only."""
    size, loss = experiment.train.batch_size, experiment.objective.loss
    for of_batch, dataset in zip((losses[0], losses[1], losses[1]), sets):
        if dataset is not None and loss.score not in metrics_of(of_batch, network, dataset, size):
            raise ValueError(f"objective.loss {loss.kind!r} must have its score {loss.score!r} among its metrics")
