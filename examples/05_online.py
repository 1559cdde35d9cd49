"""A network that runs step by step, as data come in: its state is all that it needs of the past.

    python examples/05_online.py

A stream of digits, one row of pixels at a time. The network is trained on whole images by `jsnn.unroll`, and then used
on the stream by `step`: the same numbers, in memory that does not grow.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jsnn


def rows(images: np.ndarray) -> jax.Array:
    """Images [B, 8, 8, 1] as a stream of rows, [T, B, 8]; a blank row follows each image's eight."""
    return jnp.pad(jnp.moveaxis(jnp.asarray(images[..., 0] / 255), 1, 0), ((0, 1), (0, 0), (0, 0)))


def main() -> tuple[float, float]:
    """Train on whole images; return the accuracy, and the largest difference between stream and whole."""
    train, test = (jsnn.data.load("digits", split) for split in ("train", "test"))
    rngs = nnx.Rngs(0)
    network = jsnn.Sequential(
        nnx.Linear(8, 128, rngs=rngs),
        jsnn.Recurrent(jsnn.LIF(0.9), nnx.Linear(128, 128, rngs=rngs)),  # what it remembers of the rows before
        nnx.Linear(128, 10, rngs=rngs),
        jsnn.LI(0.9),
    )

    def loss(network, images, labels, key):
        logits = jsnn.decode.last(jsnn.unroll(network, rows(images))[1])
        value = jsnn.losses.cross_entropy(logits, labels)
        return value, {"loss": value, "accuracy": jsnn.metrics.is_correct(logits, labels)}

    fitted = jsnn.train.fit(
        network, loss, train, optimizer=optax.adam(5e-3), epochs=30, batch_size=64, test=test, show=False
    )
    network, accuracy = fitted.network, fitted.history[-1]["test_accuracy"]
    print(f"{accuracy:.1%} of the test images are recognised")

    step = jax.jit(network.step)
    state = network.init((1, 8))
    print(f"the state is {sum(leaf.nbytes for leaf in jax.tree.leaves(state)):,} bytes, however long the stream")
    outputs = []
    for row in rows(test.images[:1]):  # as a sensor would deliver them
        state, output = step(state, row)
        outputs.append(output)
    whole = jsnn.unroll(network, rows(test.images[:1]))[1]
    difference = float(jnp.abs(jnp.stack(outputs) - whole).max())
    print(f"class {int(outputs[-1].argmax())} after {len(outputs)} rows; unroll differs by {difference:.0e}")
    return accuracy, difference


if __name__ == "__main__":
    main()
