"""A trained network in integers: 4-bit weights, 8-bit states, the same spikes to the bit.

    python examples/quantise.py

Train in float32, round, train on for a few epochs with the rounding, and turn the network into its integer twin.
"""

import jax.numpy as jnp
import optax
from flax import nnx

import jsnn

STEPS, SCALE = 16, 1 / 127  # pixels in [0, 1] become integers from 0 to 127


def loss(network, images, labels, key):
    _, outputs = jsnn.unroll(network, images.reshape(len(images), -1) / 255, num_steps=STEPS)
    logits = outputs.mean(0)
    value = jsnn.losses.cross_entropy(logits, labels)
    return value, {"loss": value, "accuracy": jsnn.metrics.is_correct(logits, labels)}


def main() -> tuple[float, bool]:
    """Train and round; return the accuracy of the integer twin, and whether its outputs are equal."""
    train, test = (jsnn.data.load("digits", split) for split in ("train", "test"))
    rngs = nnx.Rngs(0)
    network = jsnn.Sequential(
        jsnn.Linear(64, 128, rngs=rngs), jsnn.LIF(0.9), jsnn.Linear(128, 10, rngs=rngs), jsnn.LI(0.9)
    )
    network = jsnn.train.fit(network, loss, train, optimizer=optax.adam(5e-3), epochs=10, test=test).network

    rounded = jsnn.quant.aware(network, weights=4, states=8, input_scale=SCALE)
    rounded = jsnn.train.fit(rounded, loss, train, optimizer=optax.adam(1e-3), epochs=3, test=test).network

    twin = jsnn.quant.integer(rounded)
    images = jnp.asarray(test.inputs).reshape(len(test.targets), -1) / 255
    _, expected = jsnn.unroll(rounded, images, num_steps=STEPS)
    _, outputs = jsnn.unroll(twin, images, num_steps=STEPS)  # int16, in units of twin.units.readout
    accuracy = float((outputs.sum(0, dtype=jnp.int32).argmax(-1) == test.targets).mean())
    is_equal = bool((twin.real(outputs) == expected).all())
    print(f"{accuracy:.1%} in {outputs.dtype}; equal to the rounded network in every bit: {is_equal}")
    return accuracy, is_equal


if __name__ == "__main__":
    main()
