"""A trained rate network becomes a spiking one: how many steps does it need, and how many spikes?

    python examples/03_convert.py

It trains on handwritten digits, and takes some seconds.
"""

import jax
import optax
from flax import nnx

import jsnn


def train_rate_network(dataset: jsnn.data.Dataset) -> nnx.Module:
    """Return an ordinary network of ReLUs, trained on images."""
    network = jsnn.models.rate_dense([64, 128, 10], rngs=nnx.Rngs(0))

    def loss(network, images, labels, key):
        value = jsnn.losses.cross_entropy(network(images / 255), labels)
        return value, {"loss": value}

    return jsnn.train.fit(network, loss, dataset, optimizer=optax.adam(3e-3), epochs=10, batch_size=64).network


def main() -> dict[int, float]:
    """Convert, and return the accuracy on the test images by the number of steps."""
    train, test = (jsnn.data.load("digits", split) for split in ("train", "test"))
    rate = train_rate_network(train)
    images = test.images / 255
    print(f"rate network: {float(jsnn.metrics.accuracy(rate(images), test.labels)):.1%}")

    spiking = jsnn.convert(rate, images[:1], swap={jax.nn.relu: jsnn.IF()}, v_init=0.5)
    spiking = jsnn.conversion.calibrate(spiking, train.images[:500] / 255)  # firing-rate scales from data
    print(spiking.report)

    found = {}
    for steps in (1, 2, 4, 8, 16):
        layers = jsnn.record(spiking, images, num_steps=steps, keep=["outputs"])
        *hidden, outputs = [layer.outputs for layer in layers.values()]
        found[steps] = float(jsnn.metrics.accuracy(jsnn.decode.mean(outputs), test.labels))
        spikes = sum(float((layer != 0).sum()) for layer in hidden) / len(images)
        print(f"{steps:2} steps: {found[steps]:.1%}, {spikes:.0f} spikes for one image")
    return found


if __name__ == "__main__":
    main()
