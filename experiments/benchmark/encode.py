"""MNIST into 100 steps of spikes, by rate and by latency, beside snnTorch's encoders and a copy of as many bytes."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs import mnist_recurrent
from experiments import datasets
from experiments.benchmark.peers import compare, prepare_torch, torch_side
from experiments.benchmark.side import Comparison, Setting, Side
from jsnn import encode

_STEPS = 100
_LATENCY: dict[str, Any] = {
    "tau": 5.0,
    "threshold": 0.01,
    "normalize": True,
    "linear": True,
}  # as in snnTorch's tutorial


def comparisons(setting: Setting, *, examples: int = 60_000, batch_size: int = 250) -> Iterator[Comparison]:
    """Return each code in both libraries, batch by batch; in jsnn as bytes and as floats, which snnTorch makes."""
    images = datasets.load(mnist_recurrent.get_config()).train.images[:examples]
    pixels = images.reshape(len(images), -1) / np.float32(255)
    batches = [pixels[first : first + batch_size] for first in range(0, len(pixels), batch_size)]
    spikes = _STEPS * images.size
    key = jax.random.key(0)

    codes: dict[str, Callable[[Any, Any], Any]] = {
        "rate": lambda x, dtype: encode.rate(key, x, num_steps=_STEPS, dtype=dtype),
        "latency": lambda x, dtype: encode.latency(x, num_steps=_STEPS, dtype=dtype, **_LATENCY),
    }
    on_device = [jnp.asarray(batch) for batch in batches]
    trains = {len(batch): jnp.zeros((_STEPS, *batch.shape), jnp.bool_) for batch in batches}

    def ours(code: str, dtype: Any) -> Side:
        return Side(_for_each(on_device, lambda x: codes[code](x, dtype)), details=_rates(spikes, dtype))

    for code in codes:
        sides = {
            "jsnn, bytes": ours(code, jnp.bool_),
            "jsnn, float32": ours(code, jnp.float32),
            "copy of the bytes": Side(
                _for_each(on_device, lambda x: jnp.copy(trains[len(x)])), "floor", details=_rates(spikes, jnp.bool_)
            ),
        }
        notes: tuple[str, ...] = ()
        if "snntorch" in setting.peers:
            sides["snntorch"], encoder = _snntorch_side(setting, code, batches)
            sides["snntorch"] = sides["snntorch"]._replace(details=_rates(spikes, jnp.float32))
            made = np.asarray(codes[code](on_device[0], jnp.float32)), encoder(batches[0])
            notes = (
                f"snntorch: {compare(*made)}"
                if code == "latency"
                else f"snntorch draws other spikes: {made[1].mean():.4f} of them, jsnn {made[0].mean():.4f}",
            )
        yield Comparison(f"{code} code, {len(images):,} images, batch {batch_size}, {_STEPS} steps", sides, notes)


def _rates(spikes: int, dtype: Any) -> Callable[[float], dict[str, float]]:
    size = jnp.dtype(dtype).itemsize
    return lambda seconds: {"Gspikes/s": spikes / seconds / 1e9, "GB/s": size * spikes / seconds / 1e9}


def _snntorch_side(
    setting: Setting, code: str, batches: list[np.ndarray]
) -> tuple[Side, Callable[[np.ndarray], np.ndarray]]:
    """Return the encoder of snnTorch for all batches, and as a function of one."""
    import torch
    from snntorch import spikegen

    device = prepare_torch(setting)
    encoders: dict[str, Callable[[Any], Any]] = {
        "rate": lambda x: spikegen.rate(x, num_steps=_STEPS),
        "latency": lambda x: spikegen.latency(x, num_steps=_STEPS, **_LATENCY),
    }
    tensors = [torch.tensor(batch).to(device) for batch in batches]
    side = torch_side(setting, _for_each(tensors, encoders[code]))
    return side, lambda batch: encoders[code](torch.tensor(batch).to(device)).cpu().numpy()


def _for_each(batches: list[Any], encoder: Callable[[Any], Any]) -> Callable[[], float]:
    """Return a function that encodes batch after batch, keeps none, and returns one spike of the last."""

    def run() -> float:
        spike = 0.0
        for batch in batches:
            spike = float(encoder(batch)[-1, -1, -1])  # waits until it is there
        return spike

    return run
