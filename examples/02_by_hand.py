"""The network of `01_from_scratch.py` with jsnn and Flax's optimiser: a training loop written by hand.

    python examples/02_by_hand.py

It trains on handwritten digits, and takes some seconds.
"""

import jax
import optax
from flax import nnx

import jsnn


def main() -> tuple[jsnn.Network, float]:
    """Train, and return the network and its accuracy on the test images."""
    train, test = (jsnn.data.load("digits", split) for split in ("train", "test"))
    network = jsnn.models.feedforward([64, 128, 10], rngs=nnx.Rngs(0))  # flatten, linear, LIF, linear, LI
    optimizer = nnx.Optimizer(network, optax.adam(3e-3), wrt=nnx.Param)

    def logits(network, images):
        _, outputs = jsnn.unroll(network, images / 255, num_steps=16)  # [T, B, 10]
        return jsnn.decode.max_over_time(outputs)

    @nnx.jit
    def update(network, optimizer, images, labels):
        gradients = nnx.grad(lambda net: jsnn.losses.cross_entropy(logits(net, images), labels))(network)
        optimizer.update(network, gradients)

    for epoch in range(10):
        for images, labels in jsnn.data.batches(jax.random.key(epoch), train, batch_size=64):
            update(network, optimizer, images, labels)
    accuracy = float(jsnn.metrics.accuracy(logits(network, test.images), test.labels))
    print(f"{accuracy:.1%} of the test images are recognised")
    return network, accuracy


if __name__ == "__main__":
    main()
