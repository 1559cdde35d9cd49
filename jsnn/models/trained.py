"""Networks that come with their weights, trained by configs of jsnn."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from flax import nnx

from jsnn import augment, surrogate, weights
from jsnn.arguments import checked
from jsnn.models.resnet import spiking_resnet
from jsnn.models.transformer import spikformer
from jsnn.network import Network
from jsnn.neurons import LIF
from jsnn.types import Array

_FOLDER = Path(__file__).parent / "weights"
_NETWORKS: dict[str, Callable[..., Network]] = {
    "sew_resnet_cifar10": functools.partial(
        spiking_resnet,
        (1, 1, 1),
        stem="pooled",
        channels=48,
        outputs=10,
        neuron=functools.partial(LIF, 1.0, v_rest=0.5, surrogate=surrogate.arctan(2.0)),
    ),
    "spikformer_cifar10": functools.partial(spikformer, 96, depth=1, heads=4, pool=(True, False, True), outputs=10),
}


class Pretrained(NamedTuple):
    """A trained network, how good it is, and how it was trained."""

    network: Network
    """In inference mode."""
    accuracy: float
    """On the data set's test images, between 0 and 1."""
    config: dict[str, Any]
    """Of its training, which `experiments.run` takes as a JSON file."""

    @property
    def num_steps(self) -> int:
        """The time steps that it was trained and tested with."""
        return self.config["num_steps"]

    def prepare(self, images: Array) -> Array:
        """Return images `[B, H, W, C]`, of bytes or of numbers from 0 to 1, as the network takes them: normalised."""
        data = self.config["data"]
        return augment.normalize(augment.to_float(images), tuple(data["mean"]), tuple(data["std"]))


@checked
def pretrained(name: str) -> Pretrained:
    """Return a trained network, its accuracy and its config.

    Args:
        name: "sew_resnet_cifar10", trained by `configs/cifar10_sew_resnet.py`, or "spikformer_cifar10", by
            `configs/cifar10_spikformer.py`.

    Raises:
        ValueError: if there is no network of this name.

    Examples:
        >>> import jax, jax.numpy as jnp, jsnn
        >>> found = pretrained("sew_resnet_cifar10")
        >>> images = found.prepare(jnp.zeros((1, 32, 32, 3), jnp.uint8))
        >>> run = jax.jit(lambda x: jsnn.unroll(found.network, x, num_steps=found.num_steps)[1])
        >>> run(images).mean(0).shape, found.accuracy > 0.8
        ((1, 10), True)
    """
    if name not in _NETWORKS:
        raise ValueError(f"name must be one of {', '.join(_NETWORKS)}, got {name!r}")
    path = _FOLDER / f"{name}.safetensors"
    metadata = weights.read_metadata(path)
    shapes = nnx.eval_shape(lambda: _NETWORKS[name](rngs=nnx.Rngs(0)))  # no weights are drawn that are not used
    network = weights.from_jsnn(shapes, weights.load(path))
    network.eval()
    return Pretrained(network, float(metadata["accuracy"]), json.loads(metadata["config"]))
