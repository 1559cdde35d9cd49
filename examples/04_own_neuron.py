"""A neuron of one's own, checked, and trained in a network with a decay and a threshold for each neuron.

    python examples/04_own_neuron.py

It trains on handwritten digits, and takes some seconds.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import jsnn


@nnx.dataclass
class Fatigue(nnx.Pytree):
    """A leaky neuron that tires: each of its spikes makes the next current count for less, for a while.

    v = decay v + (1 - a) x;  spike where v > threshold, reset to 0;  a = recovery a + cost * spike, at most 1
    """

    decay: Any = 0.9
    threshold: Any = 1.0
    recovery: Any = 0.8
    cost: Any = 0.2

    def init(self, shape: tuple[int, ...], dtype: Any = jnp.float32) -> tuple[jax.Array, jax.Array]:
        """Return the membrane potential and the fatigue before the first step, both [B, ...]."""
        return jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)

    def step(self, state: Any, current: jax.Array) -> tuple[Any, jax.Array]:
        """Return the state after a step, and the spikes, [B, ...]."""
        v, fatigue = state
        v = self.decay * v + (1 - fatigue) * current
        spikes = jsnn.surrogate.fast_sigmoid()(v - self.threshold)
        fatigue = jnp.minimum(self.recovery * fatigue + self.cost * spikes, 1.0)
        return ((v * (1 - spikes)).astype(v.dtype), fatigue.astype(v.dtype)), spikes.astype(current.dtype)


class Net(nnx.Module):
    """One time step of the network: dense layers, and neurons that are called like layers."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.hidden, self.out = nnx.Linear(64, 128, rngs=rngs), nnx.Linear(128, 10, rngs=rngs)
        self.neuron = Fatigue(nnx.Param(jnp.full(128, 0.9)), nnx.Param(jnp.ones(128)))  # trained, neuron by neuron
        self.readout = jsnn.LI(0.9)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the readout, `[B, 8, 8, 1] -> [B, 10]`."""
        spikes = jsnn.neurons.call(self.neuron, self.hidden(x.reshape(len(x), -1)))
        return self.readout(self.out(spikes))


def main() -> float:
    """Train, and return the accuracy on the test images."""
    jsnn.testing.check_neuron(Fatigue())  # says what is wrong with a neuron, if anything is
    train, test = (jsnn.data.load("digits", split) for split in ("train", "test"))

    def loss(network, images, labels, key):
        logits = jsnn.decode.max_over_time(jsnn.unroll(network, images / 255, num_steps=16)[1])
        value = jsnn.losses.cross_entropy(logits, labels)
        return value, {"loss": value, "accuracy": jsnn.metrics.is_correct(logits, labels)}

    fitted = jsnn.train.fit(
        jsnn.Network(Net(nnx.Rngs(0))), loss, train, optimizer=optax.adam(3e-3), epochs=10, batch_size=64, test=test
    )
    accuracy = fitted.history[-1]["test_accuracy"]
    thresholds = fitted.network.function.neuron.threshold[...]
    print(f"{accuracy:.1%} of the test images are recognised")
    print(f"the thresholds, 1 before the training, are now {thresholds.min():.2f} to {thresholds.max():.2f}")
    return accuracy


if __name__ == "__main__":
    main()
