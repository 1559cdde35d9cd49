"""Learning delays: from wide to narrow, and to whole steps at the end."""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import nnx

from jsnn.arguments import checked
from jsnn.delays.per_synapse import Delayed, check_width
from jsnn.delays.state import Late
from jsnn.neurons.pytree import map_parts
from jsnn.types import Array


@checked
def shrinking_width(
    max_delay: int, total_steps: int, *, start: float | None = None, end: float = 0.5, share: float = 0.25
) -> Callable[[Any], Array]:
    """Return the width of delays as a function of the optimiser step: it shrinks exponentially, then stays.

        width(step) = start * (end / start)^min(1, step / (share * total_steps))

    Source: Hammouamri et al. (2024), with their numbers: from half of the largest delay to 0.5, in the first quarter
    of training. (Their code has width - 0.27 shrink so, once an epoch.)

    Args:
        max_delay: that of the layers, above 0.
        total_steps: optimiser steps in the whole training.
        start: the width at the beginning; None takes max_delay / 2, but not less than `end`.
        end: the width after it has shrunk, above 0.
        share: the share of the steps in which it shrinks, in (0, 1].

    Raises:
        ValueError: if a number lies outside of its range.

    Examples:
        >>> width = shrinking_width(24, total_steps=1000)
        >>> [round(float(width(step)), 2) for step in (0, 125, 250, 1000)]
        [12.0, 2.45, 0.5, 0.5]
    """
    if min(max_delay, total_steps) < 1:
        raise ValueError(f"max_delay and total_steps must be >= 1, got {max_delay} and {total_steps}")
    if not (0 < end < math.inf and 0 < share <= 1):
        raise ValueError(f"end must be > 0 and finite, and share in (0, 1], got {end} and {share}")
    if start is not None and not end <= start < math.inf:
        raise ValueError(f"start must be at least end, {end}, and finite, got {start}")
    first = max(max_delay / 2, end) if start is None else start
    return lambda step: first * (end / first) ** jnp.minimum(1.0, step / (share * total_steps))


@checked
def at_width(network: Any, width: float | Array) -> Any:
    """Return a network with another width of the delays of its synapses; everything else is the network's own.

    Args:
        network: a `DelayedLinear` or `DelayedConv`, or any network with such layers in it.
        width: see `DelayedLinear`. A traced one is used as it is, but never below the smallest.

    Raises:
        ValueError: if the width is too small for a layer.

    Examples:
        >>> import jsnn
        >>> from flax import nnx
        >>> network = jsnn.Sequential(jsnn.DelayedLinear(2, 3, max_delay=4, rngs=nnx.Rngs(0)), jsnn.LIF(0.9))
        >>> float(at_width(network, 2.0).layers[0].width)
        2.0
    """

    def change(layer: Delayed) -> Delayed:
        check_width(width, layer.interpolation)
        return layer.replaced(width=jnp.asarray(width, jnp.float32))

    return map_parts(network, lambda part: isinstance(part, Delayed), change)


def rounded(network: Any) -> Any:
    """Return a network with the delays of its synapses rounded to whole steps, for inference.

    Then a synapse sees one input, as in the paper and on neuromorphic chips. `Delay`, one for each neuron, stays as it
    is.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> layer = jsnn.DelayedLinear(
        ...     1, 1, max_delay=3, kernel_init=nnx.initializers.ones, delay_init=nnx.initializers.constant(1.8),
        ...     rngs=nnx.Rngs(0),
        ... )
        >>> jsnn.unroll(rounded(layer), jnp.array([[1.0], [0.0], [0.0], [0.0]]))[1].ravel().tolist()
        [0.0, 0.0, 1.0, 0.0]
    """

    def change(layer: Delayed) -> Delayed:
        whole = layer.delay.copy(jnp.round(layer.within_ranges().delay[...]))
        return layer.replaced(delay=whole, interpolation="triangle", width=jnp.ones(()))

    return map_parts(network, lambda part: isinstance(part, Delayed), change)


@checked
def check_recording(network: Any, num_steps: int) -> None:
    """Raise ValueError if a delay in a network is longer than a recording, and so lets nothing through.

    Of synapses the longest delay that there can be must be shorter, of neurons the shortest one, if it is known.

    Args:
        network: any network.
        num_steps: the number of steps of the recording, from its beginning.
    """
    for path, part in nnx.iter_graph(network):
        name, steps = part.shortest() if isinstance(part, Late) else ("", 0)
        if 0 < num_steps <= steps:
            where = f"{'.'.join(map(str, path))}: " if path else ""
            raise ValueError(
                f"{where}{name} must be less than the number of steps of a recording, got {steps:g} for {num_steps}: "
                f"a longer delay lets nothing through. If these steps are only the first of more, start from a state, "
                f"state=network.init(shape)"
            )
