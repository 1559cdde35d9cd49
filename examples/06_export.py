"""A trained network in one file, which runs without jsnn: see deploy.py.

    python examples/06_export.py digits.jsnn

The file holds the weights and the program of a step, in the form that compilers read (StableHLO), for CPU, GPU and TPU.
"""

import sys
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jsnn


def main(path: str | None = None) -> float:
    """Train on digits and write the network; return the accuracy of what was read back."""
    train, test = (jsnn.data.load("digits", split) for split in ("train", "test"))
    network = jsnn.models.feedforward([64, 128, 10], rngs=nnx.Rngs(0))

    def loss(network, images, labels, key):
        logits = jsnn.decode.max_over_time(jsnn.unroll(network, images / 255, num_steps=16)[1])
        value = jsnn.losses.cross_entropy(logits, labels)
        return value, {"loss": value, "accuracy": jsnn.metrics.is_correct(logits, labels)}

    fitted = jsnn.train.fit(network, loss, train, optimizer=optax.adam(3e-3), epochs=10, batch_size=64, show=False)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(path or f"{folder}/digits.jsnn")
        example = jnp.zeros((1, 8, 8, 1))  # a time step: one image or more, of this size
        jsnn.export.save(fitted.network, example, file, num_steps=16, is_static=True)
        print(f"{file} has {file.stat().st_size:,} bytes")
        loaded = jsnn.export.load(file)
    images = np.float32(test.images / 255)
    _, outputs = loaded.unroll(images)
    assert (outputs == jsnn.unroll(fitted.network, images, num_steps=16)[1]).mean() > 0.999
    accuracy = float(jsnn.metrics.accuracy(outputs.max(0), test.labels))
    print(f"{accuracy:.1%} of the test images are recognised by what was read back")
    return accuracy


if __name__ == "__main__":
    main(*sys.argv[1:])
