"""A network that learns delays."""

from collections.abc import Sequence

from flax import nnx

from jsnn import surrogate
from jsnn.arguments import checked
from jsnn.delays import DelayedLinear
from jsnn.layers import Layer, Sequential, flatten
from jsnn.models.recurrent import MakeNeuron
from jsnn.neurons import LI, LIF


@checked
def delayed_feedforward(
    sizes: Sequence[int],
    *,
    max_delay: int | Sequence[int],
    rngs: nnx.Rngs,
    dropout: float = 0.0,
    neuron: MakeNeuron = lambda: LIF(0.9, surrogate=surrogate.arctan(5.0)),
    readout: MakeNeuron = lambda: LI(0.9),
) -> Sequential:
    """Return a network without recurrence in which each synapse has a delay: spikes `[B, ...]` -> `[B, outputs]`.

    Each hidden layer is a `DelayedLinear` without bias, batch normalisation, neurons, and dropout.

    Args:
        sizes: the number of inputs, of neurons in each hidden layer, and of outputs; at least two numbers.
        max_delay: the largest delay, in steps; a sequence has one for each layer, the last one included.
        rngs: draws the weights, the delays and what is dropped.
        dropout: the share of hidden spikes that training leaves out, drawn for each step, in [0, 1).
        neuron: makes each hidden layer's neuron.
        readout: makes the neuron after the last layer, whose output is the network's.

    Raises:
        ValueError: if there are fewer than two sizes, one is below 1, `dropout` is outside [0, 1), or `max_delay` is
            negative or a sequence of another length than that of the layers.

    Source: Hammouamri, Khalfaoui-Hassani and Masquelier, "Learning delays in spiking neural networks using dilated
    convolutions with learnable spacings" (ICLR 2024).

    Examples:
        >>> import jax, jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> network = delayed_feedforward([64, 32, 10], max_delay=8, rngs=nnx.Rngs(0))
        >>> jax.eval_shape(jsnn.unroll, network, jnp.ones((16, 4, 64)))[1].shape  # nothing is computed
        (16, 4, 10)
    """
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"sizes must be at least two numbers >= 1, (inputs, ..., outputs), got {tuple(sizes)}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")
    longest = [max_delay] * (len(sizes) - 1) if isinstance(max_delay, int) else list(max_delay)
    if len(longest) != len(sizes) - 1:
        raise ValueError(f"max_delay must be a number, or one for each of {len(sizes) - 1} layers, got {max_delay}")
    layers: list[Layer] = [flatten]
    for inputs, neurons, steps in zip(sizes, sizes[1:-1], longest):
        layers.append(DelayedLinear(inputs, neurons, max_delay=steps, use_bias=False, rngs=rngs))
        layers += [nnx.BatchNorm(neurons, rngs=rngs), neuron()]
        layers += [nnx.Dropout(dropout, rngs=rngs)] if dropout else []
    return Sequential(*layers, DelayedLinear(*sizes[-2:], max_delay=longest[-1], rngs=rngs), readout())
