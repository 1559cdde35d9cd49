"""Every neuron of jsnn by itself: the bytes that it must move against the bandwidth of a copy.

Forward, a neuron reads its currents and writes its spikes. Forward+backward, it also reads the gradient of the spikes
and the currents again, and writes the gradient of the currents: five arrays [T, B, N]. Whatever else it moves, such as
states that are kept for the backward pass, counts for nothing: "of copy bandwidth" is what share of the speed of a copy
is left. The arrays should be larger than the caches.
"""

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

import jsnn
from experiments.benchmark.peers import check_name
from experiments.benchmark.side import Comparison, Setting, Side, jax_side
from jsnn.types import Array, Neuron


def comparisons(
    setting: Setting,
    *,
    kinds: Sequence[str] = (),
    neurons: Sequence[int] = (16_384,),
    steps: int = 100,
    batch_size: int = 16,
) -> Iterator[Comparison]:
    """Return all kinds of neurons (or those named) forward, then forward+backward."""
    known = every_neuron()
    for kind in kinds:
        check_name("neuron", kind, known)
    chosen = {kind: known[kind] for kind in kinds or known}
    dtype = jnp.bfloat16 if setting.precision == "bf16" else jnp.float32
    for size in neurons:
        currents = jax.random.uniform(jax.random.key(0), (steps, batch_size, size), dtype, 0.0, 0.5)
        gradient = jax.random.normal(jax.random.key(1), currents.shape, dtype)
        copy = jax_side(jnp.copy, currents, role="floor", moved_bytes=2 * currents.nbytes)
        for backward in (False, True):
            sides: dict[str, Side] = {}
            for name, neuron in chosen.items():
                sides[name] = side(neuron, currents, gradient) if backward else side(neuron, currents)
            what = "forward+backward" if backward else "forward"
            title = (
                f"{what}, {size:,} neurons, batch {batch_size}, {steps} steps, {currents.nbytes / 1e6:.0f} MB an array"
            )
            yield Comparison(title, sides | {"copy": copy})


def every_neuron() -> dict[str, Neuron]:
    """Return one of each kind that `jsnn.neurons` exports, by name, with default parameters.

    Raises:
        TypeError: if a kind has a parameter without a default that is not known here.
    """
    known = {"key": jax.random.key(0)}
    found = {}
    for name in jsnn.neurons.__all__:
        kind = getattr(jsnn.neurons, name)
        if not (isinstance(kind, type) and issubclass(kind, Neuron)):
            continue
        _self, *parameters = inspect.signature(kind.__init__).parameters.values()
        required = [p.name for p in parameters if p.default is p.empty]
        if unknown := set(required) - set(known):
            raise TypeError(f"{name} needs {', '.join(sorted(unknown))}: say what for in {__name__}.every_neuron")
        found[name] = kind(**{parameter: known[parameter] for parameter in required})
    return found


def side(neuron: Neuron, currents: Array, gradient: Array | None = None) -> Side:
    """Return the side that runs a neuron forward; and backward, if the gradient of its outputs is given."""

    def forward(currents: Array) -> Any:
        return jsnn.unroll(neuron, currents, neuron.init(currents.shape[1:]))[1]

    def forward_backward(currents: Array, gradient: Array) -> Any:
        outputs, backward = jax.vjp(forward, currents)
        return outputs, backward(gradient)

    if gradient is None:
        return jax_side(forward, currents, moved_bytes=2 * currents.nbytes)
    return jax_side(forward_backward, currents, gradient, moved_bytes=5 * currents.nbytes)
