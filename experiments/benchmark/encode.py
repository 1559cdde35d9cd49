"""MNIST into 100 steps of spikes, beside snnTorch's encoders, and beside a mere copy of as many bytes."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs import mnist_recurrent
from experiments import build
from experiments.benchmark.side import Side, threads
from jsnn import encode
from jsnn.types import Array

_STEPS = 100
_LATENCY: dict[str, Any] = {
    "tau": 5.0,
    "threshold": 0.01,
    "normalize": True,
    "linear": True,
}  # as in snnTorch's tutorial


def sides(examples: int, batch_size: int) -> dict[str, Side]:
    """Rate and latency code in both libraries, batch by batch; in jsnn as bytes and as floats, which snnTorch makes."""
    images = build.load_data(mnist_recurrent.get_config().data).train.images[:examples]
    batches = [batch.reshape(len(batch), -1) / np.float32(255) for batch in _batches(images, batch_size)]
    spikes = _STEPS * images.size
    key = jax.random.key(0)

    def rate(x: Array, dtype: Any) -> Array:
        return encode.rate(key, x, _STEPS, dtype=dtype)

    def latency(x: Array, dtype: Any) -> Array:
        return encode.latency(x, _STEPS, dtype=dtype, **_LATENCY)

    ours = [jnp.asarray(batch) for batch in batches]
    trains = {len(batch): jnp.zeros((_STEPS, *batch.shape), jnp.bool_) for batch in batches}
    peers = _snntorch(batches)
    found = {
        "rate": Side(_for_each(ours, lambda x: rate(x, jnp.bool_)), "rate", spikes, spikes),
        "rate, float32": Side(_for_each(ours, lambda x: rate(x, jnp.float32)), "rate", spikes, 4 * spikes),
        "snnTorch rate": Side(peers["rate"], "rate", spikes, 4 * spikes) if peers else None,
        "latency": Side(_for_each(ours, lambda x: latency(x, jnp.bool_)), "latency", spikes, spikes),
        "latency, float32": Side(_for_each(ours, lambda x: latency(x, jnp.float32)), "latency", spikes, 4 * spikes),
        "snnTorch latency": Side(peers["latency"], "latency", spikes, 4 * spikes) if peers else None,
        "copy": Side(_for_each(ours, lambda x: jnp.copy(trains[len(x)])), "rate", spikes, spikes),
    }
    return {name: side for name, side in found.items() if side is not None}


def _snntorch(batches: list[np.ndarray]) -> dict[str, Callable[[], float]]:
    """The two encoders of snnTorch; none, which it says, where that is not installed."""
    try:
        import torch
        from snntorch import spikegen
    except ImportError as error:
        print(f"without snnTorch, which is not installed ({error}): pip install -e '.[peers]'", file=sys.stderr)
        return {}
    torch.set_num_threads(threads())
    tensors = [torch.tensor(batch) for batch in batches]
    return {
        "rate": _for_each(tensors, lambda x: spikegen.rate(x, num_steps=_STEPS)),
        "latency": _for_each(tensors, lambda x: spikegen.latency(x, num_steps=_STEPS, **_LATENCY)),
    }


def _for_each(batches: list[Any], encoder: Callable[[Any], Any]) -> Callable[[], float]:
    """A function that encodes batch after batch, keeps none, and returns one spike of the last."""

    def run() -> float:
        spike = 0.0
        for batch in batches:
            spike = float(encoder(batch)[-1, -1, -1])  # waits until it is there
        return spike

    return run


def _batches(images: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    for first in range(0, len(images), batch_size):
        yield images[first : first + batch_size]
