"""From a config to jsnn objects: the data, the network, the optimiser and the loss."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import jsnn
from experiments import config
from jsnn import augment, data, decode, encode, losses, models, regularizers, surrogate
from jsnn.filters import Filter
from jsnn.metrics import is_correct
from jsnn.network import neurons_of
from jsnn.neurons.pytree import map_parts, with_dt
from jsnn.neurons.spiking_activation import InitialMembrane
from jsnn.precision import initial_state, reduce_precision
from jsnn.train import Loss, Metrics, Network, unchanged
from jsnn.types import Array, Neuron

Record: TypeAlias = Callable[..., dict[str, jsnn.LayerRecord]]  # `jsnn.record`, or what gives the same


class Sets(NamedTuple):
    """The data sets of an experiment."""

    train: data.Dataset
    test: data.Dataset
    validation: data.Dataset | None


def load_data(settings: config.Data) -> Sets:
    """The training, test and (where asked for) validation set."""
    train = data.load(settings.name, settings.train_split)
    test = data.load(settings.name, settings.test_split)
    validation = data.load(settings.name, settings.validation_split) if settings.validation_split else None
    images = jax.ShapeDtypeStruct((1, *train.images.shape[1:]), train.images.dtype)
    try:
        jax.eval_shape(lambda images: prepare_images(settings, jax.random.key(0), images, training=True), images)
    except ValueError as error:
        raise ValueError(f"the images of {settings.name} cannot be prepared as data says: {error}") from error
    return Sets(train, test, validation)


def make_network(settings: config.Model, image_shape: tuple[int, ...], classes: int, seed: int) -> Network:
    """The untrained network for images `[H, W, C]`: a Neuron, or a rate network, which knows no time."""
    rngs = nnx.Rngs(seed)
    pixels = image_shape[0] * image_shape[1] * image_shape[2]
    if isinstance(settings, config.RateConv):
        return models.rate_conv(
            settings.blocks,
            settings.dense,
            rngs=rngs,
            image_shape=image_shape,
            outputs=classes,
            batch_norm=settings.batch_norm,
        )
    if isinstance(settings, config.RateDense):
        return models.rate_dense((pixels, *settings.hidden, classes), rngs=rngs)
    if isinstance(settings, config.Feedforward):
        return models.feedforward(
            (pixels, *settings.hidden, classes),
            rngs=rngs,
            neuron=lambda: jsnn.LIF(settings.decay, surrogate=surrogate.fast_sigmoid(settings.slope)),
            readout=lambda: jsnn.LI(settings.readout_decay),
        )
    if isinstance(settings, config.SpikingDense):
        v_init = jax.random.key(seed) if settings.v_init == "random" else settings.v_init
        sizes = (pixels, *settings.hidden, classes)
        return models.spiking_dense(sizes, rngs=rngs, dt=settings.dt, v_init=v_init, tau=settings.tau)
    if isinstance(settings, config.SpikingResNet):
        return models.spiking_resnet(
            settings.depth,
            rngs=rngs,
            form=settings.form,
            stem=settings.stem,
            channels=settings.channels,
            inputs=image_shape[2],
            outputs=classes,
            neuron=lambda: jsnn.LIF(
                settings.decay, reset="zero", surrogate=surrogate.arctan(settings.slope), detach_reset=True
            ),
        )
    if isinstance(settings, config.Spikformer):
        return models.spikformer(
            settings.width,
            settings.depth,
            rngs=rngs,
            heads=settings.heads,
            hidden=settings.hidden,
            pool=settings.pool,
            inputs=image_shape[2],
            outputs=classes,
        )
    if isinstance(settings, config.NorseRecurrent):
        return models.norse_recurrent(
            pixels,
            settings.hidden,
            classes,
            rngs=rngs,
            alpha=settings.alpha,
            method=settings.method,
            v_th=settings.v_th,
            tau_mem_inv=settings.tau_mem_inv,
            tau_syn_inv=settings.tau_syn_inv,
            dt=settings.dt,
            input_scale=settings.input_scale,
            recurrent_scale=settings.recurrent_scale,
        )
    return models.norse_conv(
        rngs=rngs,
        image_size=image_shape[0],
        channels=image_shape[2],
        outputs=classes,
        alpha=settings.alpha,
        method=settings.method,
        v_th=settings.v_th,
        dt=settings.dt,
    )


def make_schedule(experiment: config.Experiment, total_steps: int) -> Callable[[Network, Array], Network]:
    """What of the network follows a schedule during training: the step dt, if the objective says so."""
    start, end = getattr(experiment.model, "dt", None), experiment.objective.dt_end
    if start is None or end is None:
        return unchanged
    schedule = optax.exponential_decay(start, total_steps, end / start)
    return lambda network, step: with_dt(network, schedule(step))


def encoded_shape(settings: config.Encoder, image_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape `[H, W, C]` of what the network receives at a step: populations multiply the channels."""
    if isinstance(settings, config.Population):
        return (*image_shape[:-1], image_shape[-1] * settings.num_neurons)
    return image_shape


def encode_images(settings: config.Encoder, key: Array, images: Array, num_steps: int) -> tuple[Array, int | None]:
    """What the network receives, and `num_steps` for `jsnn.unroll` where that is a static input."""
    if isinstance(settings, config.Direct):
        return images, num_steps
    if isinstance(settings, config.Poisson):
        return encode.poisson(key, images, num_steps, f_max=settings.f_max, dt=settings.dt), None
    if isinstance(settings, config.Rate):
        return encode.rate(key, images, num_steps, gain=settings.gain, offset=settings.offset), None
    if isinstance(settings, config.Latency):
        options = {"normalize": settings.normalize, "linear": settings.linear, "clip": settings.clip, "bypass": True}
        return encode.latency(images, num_steps, tau=settings.tau, threshold=settings.threshold, **options), None
    if isinstance(settings, config.Delta):
        return encode.delta(encode.repeat(images, num_steps), threshold=settings.threshold, off_spike=True), None
    if isinstance(settings, config.Burst):
        return encode.burst(images, num_steps, max_spikes=settings.max_spikes, min_interval=settings.min_interval), None
    if isinstance(settings, config.Phase):
        weights = encode.phase_weights(num_steps, num_phases=settings.num_phases)
        weights = weights.astype(images.dtype).reshape(-1, *[1] * images.ndim)
        return weights * encode.phase(images, num_steps, num_phases=settings.num_phases), None
    if isinstance(settings, config.Population):
        activity = encode.receptive_fields(images, settings.num_neurons, beta=settings.beta)  # [B, H, W, C, N]
        return encode.rate(key, activity.reshape(*images.shape[:-1], -1), num_steps), None
    encoder = encode.spike_latency_lif if isinstance(settings, config.SpikeLatencyLIF) else encode.constant_current
    spikes = encoder(images, num_steps, threshold=settings.threshold, tau_mem=settings.tau_mem, dt=settings.dt)
    return spikes, None


def make_loss(experiment: config.Experiment, *, training: bool, record: Record = jsnn.record) -> Loss:
    """The loss of a batch of images, with its metrics: accuracy and the firing rate of each hidden layer."""
    objective = experiment.objective
    reduced = training and experiment.train.precision == "bfloat16"

    def loss(network: Any, images: Array, labels: Array, key: Array) -> tuple[Array, Metrics]:
        augment_key, encode_key = jax.random.split(key)
        images = prepare_images(experiment.data, augment_key, images, training)
        if training:
            network.train()  # batch normalisation by the batch, whose averages jsnn.train keeps
        else:
            network = nnx.clone(network)  # the caller's stays as it is
            network.eval()
        if isinstance(network, Neuron):
            network = with_new_membranes(network, jax.random.fold_in(encode_key, 1))
            value, logits, rates = _spiking_loss(
                experiment, network, images, labels, encode_key, record, reduced=reduced
            )
        else:
            logits, rates = (reduce_precision(network) if reduced else network)(images), {}
            value = losses.cross_entropy(logits, labels)
        if objective.kernel_penalty and training:
            value = value + objective.kernel_penalty * sum(jnp.sum(kernel**2) for kernel in _kernels(network))
        correct = is_correct(logits, labels).astype(jnp.float32)
        return value, {"loss": value, "accuracy": correct, **rates}

    return loss


def _spiking_loss(
    experiment: config.Experiment,
    network: Neuron,
    images: Array,
    labels: Array,
    key: Array,
    record: Record,
    *,
    reduced: bool,
) -> tuple[Array, Array, Metrics]:
    """The loss of a network that runs over time, its logits, and the firing rates of its hidden layers."""
    objective = experiment.objective
    inputs, num_steps = encode_images(experiment.encoder, key, images, experiment.num_steps)
    state = None
    if reduced:
        state = initial_state(network, inputs.shape if num_steps else inputs.shape[1:])
        network = reduce_precision(network)
    method = experiment.train.method
    layers = record(network, inputs, state, num_steps=num_steps, keep=["outputs"], method=method)
    *_hidden, outputs = [layer.outputs for layer in layers.values()]
    logits = getattr(decode, objective.decoder)(outputs)
    if objective.loss == "cross_entropy":
        value = losses.cross_entropy(logits, labels)
    else:
        value = getattr(losses, objective.loss)(outputs, labels)
    metrics: Metrics = {}
    for name in hidden_neurons(network):
        spikes = layers[name].outputs.astype(jnp.float32)
        metrics[f"rate/{name}"] = jnp.mean(spikes, axis=(0, *range(2, spikes.ndim)))
        if objective.rate_penalty:
            rate = jnp.mean(spikes, axis=0)  # [B, ...]
            if objective.rate_over == "batch":
                rate = jnp.mean(rate, axis=0, keepdims=True)
            value = value + regularizers.l2(
                rate, strength=objective.rate_penalty / rate.shape[0], target=objective.rate_target
            )
    return value, logits, metrics


def hidden_neurons(network: Neuron) -> list[str]:
    """The names of the neurons of a network, a readout at the end of a `Sequential` excepted."""
    if not isinstance(network, jsnn.Network):
        return []
    last = network.names[-1] if isinstance(network, jsnn.Sequential) else ""
    return [name for name, part in neurons_of(network).items() if not isinstance(part, Filter) and name != last]


def prepare_images(settings: config.Data, key: Array, images: Array, training: bool) -> Array:
    """The images as the network is to see them: normalised and, for training, augmented."""
    images = augment.normalize(augment.to_float(images), settings.mean, settings.std)
    if training:
        flip_key, shift_key, cutout_key = jax.random.split(key, 3)
        if settings.flip:
            images = augment.random_flip(flip_key, images)
        if settings.shift:
            images = augment.random_shift(shift_key, images, settings.shift)
        if settings.cutout:
            images = augment.cutout(cutout_key, images, settings.cutout)
    return images


def _kernels(network: Network) -> list[Array]:
    """The weights of a network's layers without the biases."""
    flat = nnx.to_flat_state(nnx.state(network, nnx.Param))
    return [variable[...] for path, variable in flat if path[-1] == "kernel"]


def with_new_membranes(network: Neuron, key: Array) -> Neuron:
    """The network with other random initial membranes, where it has any: KerasSpiking draws them for every batch.

    All else is the network's own: what changes the averages of `nnx.BatchNorm` in one changes them in the other.
    """

    def is_random(part: Any) -> bool:
        return isinstance(part, InitialMembrane) and isinstance(part.v_init, jax.Array) and not part.v_init.ndim

    def change(part: Any) -> Any:
        return dataclasses.replace(part, v_init=jax.random.fold_in(key, jax.random.bits(part.v_init)))

    return map_parts(network, is_random, change)
