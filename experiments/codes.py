"""An image, and a signal, in every code: what a gallery shows."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import config
from jsnn import decode, encode
from jsnn.types import Array

GREY_LEVELS = 64  # in the comparison of the codes
FIELDS = 8  # neurons of the population code


class Codes(NamedTuple):
    """Images, and their spikes as T frames."""

    sizes: tuple[int, int]  # images in the data set, and in its subset
    images: np.ndarray  # the batch, [B, H, W] in [0, 1]
    labels: list[str]  # the class of each, B
    image: np.ndarray  # the one that is drawn, [H, W]
    pixel: tuple[int, int]  # the one whose spikes are drawn alone
    half: Array  # [1000, 5], rate-coded trains of the value 0.5
    rate: dict[str, Array]  # {"gain 1": [T, H, W], ...}
    latency: dict[str, Array]  # [T, H, W] by options, the last with all of them
    delta: dict[str, Array]  # of the signal, without and with off-spikes
    random: Array  # [T, H, W]
    others: dict[str, Array]  # [T, H, W], what snnTorch's tutorial does not have
    levels: dict[str, Array]  # [T, GREY_LEVELS], of rising grey levels
    population: Array  # [T, FIELDS], of a value that rises with time

    def read(self) -> dict[str, np.ndarray]:
        """Return the image as it can be read out of each code, from 0 to the highest value."""
        full = next(iter(self.rate.values()))
        *_, latency = self.latency.values()
        early = 1 - decode.first_spike_time(latency.reshape(len(latency), 1, -1)) / (len(latency) - 1)
        phases = self.others["phase"]
        images = {
            "original": self.image,
            "rate": np.mean(full, axis=0),
            "latency": np.asarray(early).reshape(self.image.shape),
            **{name: np.mean(spikes, axis=0) for name, spikes in self.others.items()},
            "phase": np.tensordot(encode.phase_weights(num_steps=len(phases)), phases, 1),
        }
        return {name: image / (image.max() or 1) for name, image in images.items()}

    def costs(self) -> list[dict[str, Any]]:
        """Return what each code of the image takes, as the rows of a table."""
        every = {f"rate, {name}": spikes for name, spikes in self.rate.items()}
        every |= {f"latency, {name}": spikes for name, spikes in self.latency.items()} | self.others
        rows = []
        for name, spikes in every.items():
            train = np.asarray(spikes).reshape(len(spikes), -1) != 0
            rows.append(
                {
                    "code": name,
                    "spikes": int(train.sum()),
                    "spikes a pixel": float(train.sum() / train.shape[1]),
                    "pixels that fire": f"{train.any(0).mean():.0%}",
                    "last spike at step": int(np.flatnonzero(train.any(1)).max(initial=0)),
                }
            )
        return rows


def encode_images(settings: config.Gallery, sizes: tuple[int, int], images: Array, labels: list[str]) -> Codes:
    """Return a batch of images [B, H, W] in all codes, of which the one image is kept that is drawn.

    Raises:
        ValueError: if there is no such image or pixel, or an encoder refuses a setting.
    """
    if settings.image >= len(images):
        raise ValueError(f"image must be below the {len(images)} images of the subset, got {settings.image}")
    steps, image = settings.num_steps, images[settings.image]
    keys = jax.random.split(jax.random.key(settings.seed), 9)

    def rate(key: Array, gain: float) -> Array:
        return encode.rate(key, images, num_steps=steps, gain=gain)[:, settings.image]

    def latency(**options: bool) -> Array:
        spikes = encode.latency(images, num_steps=steps, tau=settings.tau, threshold=settings.threshold, **options)
        return spikes[:, settings.image]

    signal = jnp.asarray(settings.signal)
    probability = settings.probability * jax.random.uniform(keys[2], (steps, *image.shape))
    grey = jnp.linspace(0.0, 1.0, GREY_LEVELS)
    rising = encode.receptive_fields(jnp.linspace(0.0, 1.0, steps), FIELDS)  # [T, 8]
    return Codes(
        sizes=sizes,
        images=np.asarray(images),
        labels=labels,
        image=np.asarray(image),
        pixel=_pixel(settings.pixel, np.asarray(image)),
        half=encode.rate(keys[3], jnp.full(5, 0.5), num_steps=1000),
        rate={"gain 1": rate(keys[0], 1.0), f"gain {settings.gain:g}": rate(keys[1], settings.gain)},
        latency={
            "logarithmic": latency(),
            "linear": latency(linear=True),
            "linear, normalized": latency(linear=True, normalize=True),
            "linear, normalized, clipped": latency(linear=True, normalize=True, clip=True),
        },
        delta={
            "on-spikes": encode.delta(signal, threshold=settings.change),
            "with off-spikes": encode.delta(signal, threshold=settings.change, off_spike=True),
        },
        random=encode.rate(keys[4], probability, num_steps=None),
        others=_others(keys[5], image, steps),
        levels={
            "rate": encode.rate(keys[6], grey, num_steps=steps),
            "latency": encode.latency(grey, num_steps=steps, threshold=settings.threshold, linear=True, normalize=True),
            **_others(keys[7], grey, steps),
        },
        population=encode.rate(keys[8], rising, num_steps=None),
    )


def _others(key: Array, x: Array, steps: int) -> dict[str, Array]:
    """Return the codes for still images that the tutorial does not have."""
    return {
        "Poisson": encode.poisson(key, x, num_steps=steps, f_max=200.0),
        "constant current": encode.constant_current(3.0 * x, num_steps=steps),
        "burst": encode.burst(x, num_steps=steps),
        "phase": encode.phase(x, num_steps=steps),
    }


def _pixel(index: int | None, image: np.ndarray) -> tuple[int, int]:
    """Return the row and the column of a pixel."""
    if index is None:
        index = int(np.abs(image - 0.5).argmin())
    if index >= image.size:
        raise ValueError(f"pixel must be below the {image.size} pixels of an image, got {index}")
    row, column = divmod(index, image.shape[1])
    return row, column
