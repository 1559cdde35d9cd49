"""A recurrent network of neurons that adapt."""

from collections.abc import Sequence

from flax import nnx

from jsnn import surrogate
from jsnn.arguments import check_memory, checked
from jsnn.layers import Layer, Recurrent, Sequential, flatten
from jsnn.linear import Linear
from jsnn.models.resnet import MakeNeuron
from jsnn.neurons import ALIF, LI


def adaptive_neuron() -> ALIF:
    """Return a neuron whose threshold rises with its spikes: decays 0.95 and 0.995 a step, triangular surrogate."""
    return ALIF(0.95, decay_adaptation=0.995, adaptation=0.1, surrogate=surrogate.triangular(1.0, height=0.3))


@checked
def adaptive_recurrent(
    sizes: Sequence[int],
    *,
    rngs: nnx.Rngs,
    neuron: MakeNeuron = adaptive_neuron,
    readout: MakeNeuron = lambda: LI(0.95),
) -> Sequential:
    """Return a recurrent network of adaptive neurons (LSNN): spikes `[B, ...]` -> membranes `[B, outputs]`.

    Each hidden layer is a dense layer, and neurons whose spikes come back to all of them one step later.

    Args:
        sizes: the number of inputs, of neurons in each hidden layer, and of outputs; at least three numbers.
        rngs: draws the weights.
        neuron: makes each hidden layer's neuron.
        readout: makes the neuron after the last dense layer, whose output is the network's.

    Raises:
        ValueError: if there are fewer than three sizes, or one is below 1.

    Source: Bellec et al., "Long short-term memory and learning-to-learn in networks of spiking neurons" (NeurIPS
    2018); Yin, Corradi and Bohté, "Accurate and efficient time-domain classification with adaptive spiking recurrent
    neural networks" (2021).

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> network = adaptive_recurrent([64, 32, 10], rngs=nnx.Rngs(0))
        >>> jsnn.unroll(network, jnp.ones((16, 4, 64)))[1].shape
        (16, 4, 10)
    """
    if len(sizes) < 3 or min(sizes) < 1:
        raise ValueError(
            f"sizes must be at least three numbers >= 1, (inputs, hidden, ..., outputs), got {tuple(sizes)}"
        )
    layers: list[Layer] = [flatten]
    inputs, *hidden, outputs = sizes
    for neurons in hidden:
        check_memory("the weights", (max(inputs, neurons), neurons), copies=4)
        layers.append(Linear(inputs, neurons, rngs=rngs))
        layers.append(Recurrent(neuron(), Linear(neurons, neurons, use_bias=False, rngs=rngs)))
        inputs = neurons
    return Sequential(*layers, Linear(inputs, outputs, rngs=rngs), readout())
