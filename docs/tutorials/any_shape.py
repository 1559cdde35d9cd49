# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A network of any shape
#
# A residual block, spiking self-attention and a readout, written as one function of a time step and trained on 8x8
# digits in half a minute. [Networks of any shape](../any_shape.md) has the rules.

# %%
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from matplotlib.figure import Figure

import jsnn
from jsnn import data, losses, metrics, plot, train

epochs, num_steps = (2 if os.environ.get("JSNN_TUTORIAL") == "small" else 20), 6
here = Path(globals().get("__file__", "")).parent  # a notebook has no __file__
folder = Path(os.environ.get("JSNN_TUTORIAL_FIGURES", here / "figures")) / "any_shape"
folder.mkdir(parents=True, exist_ok=True)


# %% [markdown]
# Neurons are attributes, and are called like layers. The function sees one time step, `[B, 8, 8, 1]`.


# %%
class Classifier(nnx.Module):
    """A residual block, attention between the 64 pixels, and the mean over them."""

    def __init__(self, width, *, rngs):
        self.stem, self.conv = (jsnn.Conv(n, width, (3, 3), rngs=rngs) for n in (1, width))
        self.qkv, self.readout = jsnn.Linear(width, 3 * width, rngs=rngs), jsnn.Linear(width, 10, rngs=rngs)
        self.lif_stem, self.lif_conv, self.lif_qkv = jsnn.LIF(0.5), jsnn.LIF(0.5), jsnn.LIF(0.5)
        self.lif_attention = jsnn.LIF(0.5, threshold=0.5)

    def __call__(self, x):
        x = self.lif_stem(self.stem(x))
        x = x + self.lif_conv(self.conv(x))  # a skip connection
        tokens = x.reshape(x.shape[0], 64, -1)
        q, k, v = jnp.split(self.lif_qkv(self.qkv(tokens)), 3, axis=-1)
        tokens = tokens + self.lif_attention(q @ (k.mT @ v) / 8)  # of spikes, without a softmax
        return self.readout(tokens.mean(axis=1))


# %% [markdown]
# A loss, optax's Adam and `jsnn.train`, as for any network. The image is the current at every step.


# %%
def loss(network, images, labels, key):
    """The cross-entropy of the mean over time, and the accuracy."""
    _, logits = jsnn.unroll(network, images / 255.0, num_steps=num_steps)
    value = losses.cross_entropy(logits.mean(0), labels)
    return value, {"loss": value, "accuracy": metrics.accuracy(logits.mean(0), labels)}


training, test = data.load("digits", "train"), data.load("digits", "test")
images, labels = jnp.asarray(training.images, jnp.float32), jnp.asarray(training.labels)
optimizer = optax.adam(3e-3)
graph, state = train.create(jsnn.Network(Classifier(16, rngs=nnx.Rngs(0))), optimizer)
advance, history = train.make_advance(graph, loss, optimizer), []
for epoch in range(epochs):
    order = data.epoch_permutation(jax.random.key(epoch), len(labels), 32)
    state, measured = advance(state, images, labels, order, jax.random.key(epoch))
    history += measured["loss"].tolist()

network = train.network_of(graph, state)
x_test, y_test = jnp.asarray(test.images, jnp.float32), jnp.asarray(test.labels)
print(f"test accuracy {loss(network, x_test, y_test, None)[1]['accuracy']:.1%}")

# %%
layers = jsnn.record(network, x_test[:1] / 255.0, num_steps=num_steps, keep=["outputs"])
print({name: round(float(layer.outputs.mean()), 3) for name, layer in layers.items() if "lif" in name})  # rates
figure = Figure(figsize=(9, 3), layout="constrained")
axes = figure.subplots(1, 2)
plot.training_curves({"training": history}, per="Step of the optimiser", ax=axes[0])
plot.output_traces(layers["output"].outputs, sample=0, target=int(y_test[0]), label="Logit", ax=axes[1])
figure.savefig(folder / "training.png", dpi=90)

# %% [markdown]
# ![Loss against steps, and the logits of one image over time](figures/any_shape/training.png)
