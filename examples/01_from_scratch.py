"""A spiking network in JAX without jsnn: all that there is to it, in 60 lines.

    python examples/01_from_scratch.py

Leaky integrate-and-fire neurons, a surrogate gradient, a loop over time and a few epochs on scikit-learn's digits.
`02_by_hand.py` is the same network with jsnn.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

STEPS, HIDDEN, DECAY, EPOCHS, BATCH = 16, 128, 0.9, 10, 64


@jax.custom_jvp
def spike(v):
    """1 where the membrane potential is above the threshold, 0 elsewhere."""
    return (v > 0).astype(v.dtype)


@spike.defjvp
def spike_jvp(primals, tangents):
    """The step function has no useful derivative, so a smooth one stands in for it: 1 / (1 + 25 |v|)^2."""
    (v,), (dv,) = primals, tangents
    return spike(v), dv / (1 + 25 * jnp.abs(v)) ** 2


def network(params, x):
    """The logits of images [B, 64], the same at every step: [T, B, 10]."""
    current = x @ params["w1"] + params["b1"]  # constant, so computed once

    def step(state, _):
        v, readout = state
        v = DECAY * v + current
        s = spike(v - 1.0)
        v = v - s  # reset by subtracting the threshold
        readout = DECAY * readout + s @ params["w2"] + params["b2"]
        return (v, readout), readout

    start = jnp.zeros((len(x), HIDDEN)), jnp.zeros((len(x), 10))
    return jax.lax.scan(step, start, length=STEPS)[1]


def loss(params, x, y):
    """The cross-entropy of the readout's maximum over time."""
    return optax.softmax_cross_entropy_with_integer_labels(network(params, x).max(0), y).mean()


def main() -> float:
    """Train, and return the accuracy on images that were left out."""
    images, labels = load_digits(return_X_y=True)
    images = images.astype(np.float32) / 16
    train, test = np.split(np.random.default_rng(0).permutation(len(images)), [1437])
    k1, k2 = jax.random.split(jax.random.key(0))
    params = {
        "w1": jax.random.normal(k1, (64, HIDDEN)) / 8, "b1": jnp.zeros(HIDDEN),
        "w2": jax.random.normal(k2, (HIDDEN, 10)) / HIDDEN**0.5, "b2": jnp.zeros(10),
    }  # fmt: skip
    optimizer = optax.adam(3e-3)
    state = optimizer.init(params)

    @jax.jit
    def update(params, state, x, y):
        updates, state = optimizer.update(jax.grad(loss)(params, x, y), state)
        return optax.apply_updates(params, updates), state

    for epoch in range(EPOCHS):
        order = np.random.default_rng(epoch).permutation(train)
        for index in order[: len(order) // BATCH * BATCH].reshape(-1, BATCH):
            params, state = update(params, state, images[index], labels[index])
    accuracy = float((network(params, images[test]).max(0).argmax(-1) == labels[test]).mean())
    print(f"{accuracy:.1%} of the test images are recognised")
    return accuracy


if __name__ == "__main__":
    main()
