"""A config of nothing but parts of its own: a network, an encoder, a loss and a data set, small enough to be killed."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jsnn
from experiments.config import Data, Encoder, Experiment, Loss, Network, Objective, Optimizer, Sets, Train
from jsnn.data import Dataset


class Block(nnx.Module):
    """One time step of a network with a skip connection."""

    def __init__(self, inputs: int, width: int, outputs: int, rngs: nnx.Rngs) -> None:
        self.first, self.second = nnx.Linear(inputs, width, rngs=rngs), nnx.Linear(width, width, rngs=rngs)
        self.lif1, self.lif2, self.readout = jsnn.LIF(0.9), jsnn.LIF(0.9), nnx.Linear(width, outputs, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.lif1(self.first(x.reshape(len(x), -1)))
        return self.readout(x + self.lif2(self.second(x)))


class Skipping(Network):
    """A network with a skip connection."""

    width: int = 8
    """Neurons in each layer."""

    def make(self, inputs: tuple[int, ...], outputs: int, rngs: nnx.Rngs) -> jsnn.Network:
        return jsnn.Network(Block(math.prod(inputs), self.width, outputs, rngs))


class Flicker(Encoder):
    """The image as a current that is there at random steps."""

    share: float = 0.5
    """Of the steps at which it is there."""

    def make(self, num_steps: int) -> Callable[[jax.Array, jax.Array], jax.Array]:
        def encode(key: jax.Array, x: jax.Array) -> jax.Array:
            there = jax.random.bernoulli(key, self.share, (num_steps, len(x)))
            return there.reshape(num_steps, len(x), *[1] * (x.ndim - 1)) * x

        return encode


class Hinge(Loss):
    """The squared distance by which the right class does not lead the others by a margin."""

    of_classes: ClassVar[bool | None] = True
    margin: float = 1.0
    """The lead that costs nothing."""

    def make(self) -> Callable[..., tuple[Any, dict[str, Any]]]:
        def loss(outputs: jax.Array, decoded: jax.Array, labels: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
            right = jnp.take_along_axis(decoded, labels[:, None], 1)
            lead = jnp.where(jnp.arange(decoded.shape[1]) == labels[:, None], jnp.inf, right - decoded)
            accuracy = (decoded.argmax(-1) == labels).astype(jnp.float32)
            return jnp.mean(jnp.maximum(self.margin - lead, 0) ** 2), {"accuracy": accuracy}

        return loss


class Stripes(Data):
    """Noisy pictures of stripes, upright or level."""

    count: int = 256
    """How many there are to train with."""

    def make(self) -> Sets:
        return Sets(self._draw(0, self.count), self._draw(1, 96), self._draw(2, 96))

    def _draw(self, seed: int, count: int) -> Dataset:
        draw = np.random.default_rng(seed)
        labels = draw.integers(0, 2, count, np.int32)
        stripes = np.tile(np.arange(6) % 2, (6, 1))
        images = np.where(labels[:, None, None] == 1, stripes, stripes.T) + draw.normal(0, 0.5, (count, 6, 6))
        return Dataset(images[..., None].astype(np.float32), labels, ("level", "upright"))


def get_config() -> Experiment:
    return Experiment(
        name="own_parts",
        num_steps=4,
        data=Stripes(),
        encoder=Flicker(),
        network=Skipping(),
        objective=Objective(loss=Hinge()),
        optimizer=Optimizer(learning_rate=1e-2, schedule="cosine"),
        train=Train(epochs=4, batch_size=32),
    )
