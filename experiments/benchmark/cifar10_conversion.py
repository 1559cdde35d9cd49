"""The network of NengoDL's CIFAR-10 tutorial, converted, for 30 steps, beside 30 passes of the rate network."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
from flax import nnx

import jsnn
from experiments.benchmark.peers import compare
from experiments.benchmark.side import Comparison, Setting, Side, check_batches, compiled
from jsnn import models

_STEPS = 30


def comparisons(setting: Setting, *, examples: int = 64, batch_size: int = 8) -> Iterator[Comparison]:
    """Return the images, batch by batch."""
    check_batches(examples, batch_size)
    model = models.rate_conv(rngs=nnx.Rngs(0))
    images = jax.random.normal(jax.random.key(0), (examples // batch_size, batch_size, 32, 32, 3))
    network = jsnn.convert(model, images[0], scale_firing_rates=20.0, synapse=5e-3)
    exact = jsnn.convert(model, images[0], scale_firing_rates=1e6)

    def as_a_user(x: Any) -> Any:
        return jsnn.unroll(network, x, num_steps=_STEPS)[1][-1]

    def all_at_once(x: Any) -> Any:  # who names a method gets each layer for all images and steps
        return jsnn.unroll(network, x, num_steps=_STEPS, method="scan")[1][-1]

    def details(seconds: float) -> dict[str, float]:
        return {"images/s": images.shape[0] * batch_size / seconds}

    sides = {
        "jsnn, 30 steps": _side(as_a_user, images, 1)._replace(details=details),
        "layer by layer": _side(all_at_once, images, 1, role="other")._replace(details=details),
        "rate network, 30 passes": _side(model, images, _STEPS, role="other")._replace(details=details),
    }
    outputs = jax.jit(lambda x: jsnn.unroll(exact, x, num_steps=1)[1][-1])(images[0])
    verdict = compare(jax.jit(model)(images[0]), outputs, "outputs", tolerance=0.005)
    note = f"with firing rates scaled by a million, and no filters, as the rate network to 0.5%: {verdict}"
    yield Comparison(f"{images.shape[0] * batch_size} images, batch {batch_size}", sides, (note,))


def _side(function: Callable[[Any], Any], images: Any, passes: int, **fields: Any) -> Side:
    program = compiled(function, images[0])
    return Side(
        lambda: jax.block_until_ready([program.call(batch) for batch in images for _ in range(passes)]),
        compile_seconds=program.compile_seconds,
        memory_bytes=program.memory_bytes,
        **fields,
    )
