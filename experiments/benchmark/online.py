"""A loss and its gradient by each online rule, beside backpropagation through time, whose time is the unit.

A dense layer of LIF neurons, spikes in a tenth of all steps, a squared error at each. Notes say how the gradient of a
recurrent network that was trained on the digits points beside that of backpropagation through time: the cosine of all
weights together.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jsnn
from experiments.benchmark.side import Comparison, Setting, jax_side
from jsnn import online, train
from jsnn.types import Array

RULES = ("rtrl", "eprop", "ottt", "sltt", "decolle")


def comparisons(
    setting: Setting,
    *,
    neurons: int = 256,
    steps: int = 100,
    batch_size: int = 16,
    epochs: int = 10,
) -> Iterator[Comparison]:
    """Return the gradient of a layer by every rule."""
    draws = np.random.default_rng(0)
    shape = (steps, batch_size, neurons)
    spikes = jnp.asarray(draws.random(shape) < 0.1, jnp.float32)
    targets = jnp.asarray(draws.normal(size=shape), jnp.float32)
    network = jsnn.Sequential(jsnn.Linear(neurons, neurons, rngs=nnx.Rngs(0)), jsnn.LIF(0.9))
    graph, params, rest = nnx.split(network, nnx.Param, ...)  # type: ignore[misc]
    sides = {"BPTT": jax_side(lambda params: by_bptt(nnx.merge(graph, params, rest), squares, spikes, targets), params)}
    for rule in RULES:
        learn = online.gradient(network, squares, rule=rule)
        sides[rule] = jax_side(
            lambda params, learn=learn: learn(nnx.merge(graph, params, rest), spikes, targets), params, role="other"
        )
    title = f"a loss and its gradient, {neurons} to {neurons} neurons, batch {batch_size}, {steps} steps"
    yield Comparison(title, sides, tuple(cosines(epochs)))


def squares(outputs: Array, targets: Array) -> Array:
    """Return the mean squared error."""
    return jnp.mean((outputs - targets) ** 2)


def by_bptt(network: Any, loss: Callable[..., Array], inputs: Array, targets: Array) -> Any:
    """Return the mean of the losses of all steps and its gradient, by `jax.grad`."""

    def total(network: Any) -> Array:
        return jnp.mean(jax.vmap(loss)(jsnn.unroll(network, inputs)[1], targets))

    return nnx.value_and_grad(total)(network)


def cosines(epochs: int) -> Iterator[str]:
    """Return how the gradient of each rule points beside that of backpropagation through time, in a trained network."""
    digits: Any = jsnn.data.load("digits", "train")
    steps = 8

    def rows(images: Array) -> Array:
        return jnp.moveaxis(images[..., 0] / 255, 1, 0)  # a row a step, [8, B, 8]

    def loss(network: Any, images: Array, labels: Array, key: Array) -> Any:
        outputs = jsnn.unroll(network, rows(images))[1]
        value = jsnn.losses.ce_rate_loss(outputs, labels)
        return value, {"loss": value, "accuracy": jsnn.metrics.is_correct(outputs[-1], labels)}

    network = jsnn.models.adaptive_recurrent([8, 64, 10], rngs=nnx.Rngs(0), neuron=lambda: jsnn.LIF(0.9))
    fitted = train.fit(network, loss, digits, optimizer=optax.adam(5e-3), epochs=epochs, batch_size=64, show=False)
    images, labels = rows(jnp.asarray(digits.inputs[:256])), jnp.asarray(digits.targets[:256])
    every = jnp.broadcast_to(labels, (steps, len(labels)))
    _, expected = by_bptt(fitted.network, jsnn.losses.cross_entropy, images, every)
    accuracy = fitted.history[-1]["train_accuracy"]
    yield f"cosines with BPTT in a recurrent network that is right on {accuracy:.1%} of the training digits:"
    for rule in RULES:
        learn = online.gradient(fitted.network, jsnn.losses.cross_entropy, rule=rule)
        _, found = nnx.jit(learn)(fitted.network, images, labels)
        yield f"{rule}: {_cosine(found, expected):.3f}"


def _cosine(one: Any, other: Any) -> float:
    one, other = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (one, other))
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))
