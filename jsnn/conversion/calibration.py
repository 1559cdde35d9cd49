"""Calibration of a converted network on data, so that few steps suffice. The weights stay as they are.

Sources: Diehl et al., "Fast-classifying, high-accuracy spiking deep networks through weight and threshold balancing"
(2015); Rueckauer et al. (2017), for percentiles instead of maxima; Deng and Gu, "Optimal conversion of conventional
artificial neural networks to spiking neural networks" (2021), for the membrane that starts at half a threshold; Li et
al., "A free lunch from ANN: towards efficient, accurate spiking neural networks calibration" (2021), for the biases.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from jsnn.arguments import checked
from jsnn.conversion.diagnosis import respond
from jsnn.conversion.network import Converted, replace
from jsnn.conversion.place import Scaled
from jsnn.conversion.pooling import SpikingMaxPool
from jsnn.conversion.scale import balance
from jsnn.neurons.checks import is_key
from jsnn.types import Array, Neuron, Parameter, Shape, State


@checked
def calibrate(
    network: Converted,
    data: Array,
    *,
    percentile: float = 99.9,
    spikes_per_step: float = 1.0,
    per_channel: bool = False,
    v_init: Parameter | None = 0.5,
    bias_steps: int | None = None,
) -> Converted:
    """Return a copy of a converted network with firing-rate scales, initial membranes and input biases fitted to data.

    Args:
        network: what `jsnn.convert` made.
        data: inputs `[N, ...]` like those the network will see; some hundred do.
        percentile: which of an activation's values, over neurons and data, is to spike `spikes_per_step` times a step
            (threshold balancing). Values above it saturate a neuron that spikes at most once a step.
        spikes_per_step: see `percentile`. More spikes, and fewer steps for the same precision.
        per_channel: one scale for each channel (the last axis, but for that of the batch) instead of one for each
            activation.
        v_init: the membrane before the first step in units of the threshold; a random key is split among the
            activations. 0.5 makes the number of spikes the rounded, not the truncated, one. None leaves it as it is, as
            that of neurons without a membrane is left.
        bias_steps: correct each activation's input, channel by channel, by what its mean output over so many steps
            falls short of the rate network's; None does not.

    Activations that are not positively homogeneous keep their scale.

    Raises:
        TypeError: if `network` was not made by `jsnn.convert`.
        ValueError: if a number is out of its range, there are no data, or they make an activation infinite or NaN.

    Examples:
        >>> import jax, jax.numpy as jnp, jsnn
        >>> network = jsnn.convert(jax.nn.relu, jnp.ones((1, 2)), swap={jax.nn.relu: jsnn.IF()})
        >>> network = calibrate(network, jnp.array([[2.0, 8.0]]), percentile=100)
        >>> float(network.neurons[0].scale)  # 8 spikes at every step
        0.125
    """
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile must be in (0, 100], got {percentile}")
    if not 0 < spikes_per_step < math.inf:
        raise ValueError(f"spikes_per_step must be > 0 and finite, got {spikes_per_step}")
    if bias_steps is not None and bias_steps < 1:
        raise ValueError(f"bias_steps must be >= 1 or None, got {bias_steps}")
    network = balance(network, data, percentile, spikes_per_step=spikes_per_step, per_channel=per_channel)
    if v_init is not None:
        count = len(network.neurons)
        each = jax.random.split(v_init, count) if is_key(v_init) else [v_init] * count
        network = replace(network, neurons=list(map(_started, network.neurons, network.shapes, each)))
    return network if bias_steps is None else _correct_biases(network, data, bias_steps)


def _started(scaled: Scaled, shape: Shape, v_init: Parameter) -> Scaled:
    """Return a neuron whose membrane, if it has one, starts elsewhere."""

    def state_of(neuron: Neuron) -> State:
        return jax.eval_shape(lambda: neuron.init(shape))

    if isinstance(scaled.neuron, SpikingMaxPool) or "v" not in getattr(state_of(scaled.neuron), "_fields", ()):
        return scaled
    started = dataclasses.replace(scaled, v_init=v_init)
    state_of(started)  # a v_init that does not fit shows here
    return started


def _correct_biases(network: Converted, data: Array, num_steps: int) -> Converted:
    """Correct biases layer by layer, since a correction changes what the layers after it see."""
    rates, _ = network.rates(data, with_gain=True)
    means_of = jax.jit(lambda network: respond(network, data, num_steps).means)
    for index, name in enumerate(network.names):
        means = means_of(network)[name]
        missing = jnp.mean(rates[name] - means, axis=tuple(range(max(means.ndim - 1, 1))))
        neurons = list(network.neurons)
        bias = neurons[index].bias + missing / neurons[index].gain
        neurons[index] = dataclasses.replace(neurons[index], bias=bias)
        network = replace(network, neurons=neurons)
    return network
