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
# # Training a spiking network
#
# From one neuron to a network that reads handwritten digits: the way of
# [Norse's tutorial](https://norse.github.io/notebooks/mnist_classifiers.html), with the same networks and encoders.
#
# Run it as a script, or open it as a notebook with jupytext. The figures below come from running it, about two minutes
# of computing. MNIST is downloaded once, or read from a folder of TFDS that `TFDS_DATA_DIR` names. The configs
# `configs/mnist_*.py` train the same networks for longer, from the command line.

# %%
import os
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from matplotlib.figure import Figure

import jsnn
from jsnn import augment, compat, data, decode, encode, losses, metrics, models, plot, train

small = os.environ.get("JSNN_TUTORIAL") == "small"  # seconds, on 8x8 digits that need no download
num_steps, hidden, epochs = (12, 32, 1) if small else (32, 100, 2)
batch_size = 32 if small else 256

# %%
here = Path(globals().get("__file__", "")).parent  # a notebook has no __file__
folder = Path(os.environ.get("JSNN_TUTORIAL_FIGURES", here / "figures")) / "train_mnist"
folder.mkdir(parents=True, exist_ok=True)


def save(figure, name):
    """Save a figure, and return it for a notebook to show."""
    figure.savefig(folder / f"{name}.png", dpi=90)
    return figure


def panels(rows, columns=1, width=7.0, height=3.4, **options):
    """A figure and its Axes, in one list."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, np.ravel(figure.subplots(rows, columns, **options))


# %% [markdown]
# ## One neuron
#
# A leaky integrate-and-fire (LIF) neuron adds up its input and forgets some of it at every step. Above its threshold it
# fires a spike, and its membrane is set back:
#
#     v = decay v + gain x,    spike if v > threshold,    then v = 0
#
# Here the membrane forgets with a time constant of 10 ms, and a step is 1 ms. `gain` is `1 - decay`, so that a constant
# input x is the potential that the membrane approaches: an input above the threshold makes it fire, one below it never
# does. `jsnn.record` runs it and keeps its states.

# %%
neuron = jsnn.LIF.from_time_constants(tau_mem=10e-3, dt=1e-3, gain=float(-np.expm1(-0.1)), reset="zero")
currents = jnp.array([0.9, 1.1, 2.0])
traced = jsnn.record(neuron, currents, num_steps=100)["LIF"]
traced.states.v.shape, traced.outputs.sum(0).tolist()

# %%
figure, axes = panels(3, height=5.6, sharex=True)
for index, ax in enumerate(axes):
    v, fired = traced.states.v[:, index, None], traced.outputs[:, index, None]
    plot.traces(v, spikes=fired, threshold=1.0, dt=1e-3, label="v", ax=ax)
    ax.set_title(f"current {currents[index]:.1f}", loc="left")
for ax in axes[:-1]:
    ax.set_xlabel("")
    ax.get_legend().remove()
save(figure, "neuron")

# %% [markdown]
# ![Three membrane traces](figures/train_mnist/neuron.png)
#
# *The membrane approaches the current. 0.9 stays below the threshold, 1.1 reaches it once in a while, 2.0 soon and
# often. The marks above are the spikes.*
#
# ## Digits as spikes
#
# Images must become something that goes on in time. Norse's tutorial uses three encoders. Pixels are standardised
# first, which makes the background slightly negative and white about 2.8.

# %%
name = "digits" if small else "mnist"
training, test = data.load(name, "train"), data.load(name, "test")
x_train, y_train = jnp.asarray(training.images), jnp.asarray(training.labels)
x_test, y_test = jnp.asarray(test.images), jnp.asarray(test.labels)


def standardise(images):
    """Pixels 0..255 with about zero mean and unit variance, as MNIST's are usually given."""
    return augment.normalize(augment.to_float(images), 0.1307, 0.3081)


sample, label = standardise(x_test[:1]), int(y_test[0])  # [1, H, W, 1]
sample.shape, label

# %%
encoders = {
    "constant current": lambda key, images: encode.constant_current(images, num_steps=num_steps),
    "Poisson": lambda key, images: encode.poisson(key, images, num_steps=num_steps, f_max=20.0),
    "spike latency": lambda key, images: encode.spike_latency_lif(images, num_steps=num_steps),
}

# %%
figure, axes = panels(2, 2, height=5.8)
plot.images(sample[0, None, ..., 0], ax=axes[0])
axes[0].set_title(f"the image, a {label}")
for ax, (title, encoder) in zip(axes[1:], encoders.items()):
    plot.raster(encoder(jax.random.key(0), sample), sample=0, dt=1e-3, ax=ax)
    ax.set_ylabel("Pixel")
    ax.set_title("", loc="right")
    ax.set_title(title)
save(figure, "encoders")

# %% [markdown]
# ![An image, and rasters of its three codes](figures/train_mnist/encoders.png)
#
# *Constant current: each pixel drives a LIF neuron, and bright ones fire in step with each other. Poisson, up to 20 Hz
# for a pixel of value 1: few spikes at random times. Spike latency: only the first spike of the constant-current code,
# the brighter the earlier.*
#
# ## A recurrent network
#
# 100 LIF neurons see the pixels' spikes and, one step late, their own. Ten leaky integrators, one for each digit, read
# them out: like the neuron above but without a threshold, so that their membranes are smooth. A network is a neuron
# too, and `jsnn.unroll` runs either.
#
# `compat.norse` has Norse's neurons under Norse's names: `lif_recurrent` is its `LIFRecurrentCell`, `li` its `LICell`.
# Norse's random weights are large, and a recurrence of them starts out chaotic; with smaller ones training is faster.

# %%
features = sample.size


def make_recurrent(seed):
    """The network of the tutorial, spikes [T, B, H, W, 1] -> membranes [T, B, 10]."""
    rngs = nnx.Rngs(seed)
    scales = {"input_scale": 0.35, "recurrent_scale": 0.3}
    return jsnn.Sequential(
        jsnn.flatten,
        *compat.norse.lif_recurrent(features, hidden, rngs=rngs, v_th=0.5, alpha=5.0, **scales).layers,
        nnx.Linear(hidden, 10, use_bias=False, rngs=rngs),
        compat.norse.li(),
    )


network = make_recurrent(0)
network.names

# %% [markdown]
# What does it do with the image before it has learnt anything?

# %%
spikes = encoders["constant current"](jax.random.key(0), sample)
layers = jsnn.record(network, spikes)
states = layers["2_Recurrent"].states.neuron  # v and i, [T, 1, 100]

# %%
figure, axes = panels(2, 2, width=8.0, height=5.6)
plot.traces(states.i, sample=0, dt=1e-3, label="Synaptic current", ax=axes[0])
plot.traces(states.v, sample=0, dt=1e-3, label="Membrane", ax=axes[1])
plot.raster(layers["2_Recurrent"].outputs, sample=0, dt=1e-3, ax=axes[2])
plot.output_traces(layers["4_CuBaLI"].outputs, sample=0, target=label, dt=1e-3, label="Readout", ax=axes[3])
axes[3].get_legend().remove()
save(figure, "untrained")

# %% [markdown]
# ![Currents, membranes, spikes and readouts of the untrained network](figures/train_mnist/untrained.png)
#
# *The hidden layer's synaptic currents (top left), in time with the pixels' volleys, charge its membranes (top right).
# A few of these fire (bottom left). The readouts (bottom right) follow, a line for each class; the right one, thick, is
# one among ten.*
#
# ## Reading an answer
#
# Ten membranes over time have to become one decision. The tutorial takes each one's maximum over time;
# `decode.last` and `decode.mean` are other ways. What comes out is a logit for each class, and the loss is the usual
# cross-entropy.
#
# ## Training
#
# A spike is a step, whose derivative is zero nearly everywhere. In the backward pass a smooth surrogate stands in for
# it, which the neuron carries with it; `alpha` above is its steepness. Everything else is ordinary JAX: a loss, its
# gradient through all time steps, optax's Adam. `jsnn.train` puts these into a `lax.scan`, so that an epoch is one
# compiled call.


# %%
def make_loss(encoder, augmented=False):
    """The loss of a batch, and its accuracy."""

    def loss(network, images, labels, key):
        shift_key, encoder_key = jax.random.split(key)
        images = augment.random_shift(shift_key, images, 1) if augmented else images
        _, membranes = jsnn.unroll(network, encoder(encoder_key, standardise(images)))
        logits = decode.max_over_time(membranes)
        value = losses.cross_entropy(logits, labels)
        return value, {"loss": value, "accuracy": metrics.accuracy(logits, labels)}

    return loss


def fit(network, loss, images, labels, epochs, batch_size, learning_rate=2e-3, seed=0):
    """Train for some epochs; return the trained network, in place of the one given, and the loss of every step."""
    steps = len(labels) // batch_size
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, epochs * steps))
    graph, state = train.create(network, optimizer)
    advance = train.make_advance(graph, loss, optimizer)
    history = []
    for epoch, key in enumerate(jax.random.split(jax.random.key(seed), epochs)):
        order_key, step_key = jax.random.split(key)
        order = data.epoch_permutation(order_key, len(labels), batch_size)
        state, measured = advance(state, images, labels, order, step_key)
        history.append(np.asarray(measured["loss"]))
        print(f"epoch {epoch + 1}: loss {history[-1].mean():.3f}, accuracy {measured['accuracy'].mean():.1%}")
    return train.network_of(graph, state), np.concatenate(history)


@partial(jax.jit, static_argnums=1)
def predict(network, encoder, images, key):
    """The class of each image, [B]."""
    _, membranes = jsnn.unroll(network, encoder(key, standardise(images)))
    return decode.max_over_time(membranes).argmax(-1)


def predict_all(network, encoder, images, batch_size=500):
    """The same for any number of images."""
    parts = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    return np.concatenate([predict(network, encoder, part, jax.random.key(0)) for part in parts])


# %%
encoder = encoders["constant current"]
trained, history = fit(network, make_loss(encoder, augmented=True), x_train, y_train, epochs, batch_size)

# %%
predictions = predict_all(trained, encoder, x_test)
print(f"test accuracy {np.mean(predictions == y_test):.2%}")

# %% [markdown]
# After two epochs it reads 94.6% of the 10,000 test images rightly. After ten, with `configs/mnist_recurrent.py`, it is
# 97.0%.

# %%
figure, axes = panels(1, 2, height=3.6, width=9.0)
plot.training_curves({"training": history}, per="Step of the optimiser", ax=axes[0])
plot.confusion_matrix(test.labels, predictions, ax=axes[1])
save(figure, "training")

# %% [markdown]
# ![Loss against steps, and confusion matrix](figures/train_mnist/training.png)
#
# *Left: the loss of every batch, and its running mean. Right: which digits (rows) are taken for which (columns).*
#
# What has become of the image?

# %%
layers = jsnn.record(trained, spikes)
figure, axes = panels(1, 3, height=3.2, width=10.5)
plot.raster(layers["2_Recurrent"].outputs, sample=0, dt=1e-3, ax=axes[0])
membranes = layers["4_CuBaLI"].outputs
plot.output_traces(membranes, sample=0, target=label, dt=1e-3, label="Readout", ax=axes[1])
axes[1].get_legend().remove()
plot.class_probabilities(membranes, sample=0, target=label, dt=1e-3, ax=axes[2])
save(figure, "trained")

# %% [markdown]
# ![Spikes, readouts and class probabilities of the trained network](figures/train_mnist/trained.png)
#
# *Many more neurons fire now (left). They drive the readout of the right class up (middle, thick); that of the 9, which
# looks much like a 4, goes along for a while. In probabilities (right) the 4 wins as soon as spikes arrive.*
#
# ## Another encoder
#
# The encoder is one argument, so each is quickly tried: here two epochs on a tenth of the data.

# %%
tenth = data.subset(training, 4 if small else 10)
x_tenth, y_tenth = jnp.asarray(tenth.images), jnp.asarray(tenth.labels)
curves, accuracies = {}, {}
for title, code in encoders.items():
    print(title)
    settings = {"epochs": 2, "batch_size": 32, "learning_rate": 4e-3}
    learnt, curves[title] = fit(make_recurrent(0), make_loss(code), x_tenth, y_tenth, **settings)
    accuracies[title] = np.mean(predict_all(learnt, code, x_test) == y_test)
    print(f"test accuracy {accuracies[title]:.2%}")

# %%
figure, axes = panels(1, 2, height=2.8, width=9.0, width_ratios=(3, 2))
plot.training_curves(curves, per="Step of the optimiser", ax=axes[0])
bars = axes[1].barh(list(accuracies), [100 * accuracy for accuracy in accuracies.values()], color="#3f90da")
axes[1].bar_label(bars, fmt="%.1f%%", padding=3)
axes[1].set(xlabel="Test accuracy (%)", xlim=(0, 115))
axes[1].spines[["top", "right"]].set_visible(False)
axes[1].invert_yaxis()
save(figure, "encoders_compared")

# %% [markdown]
# ![Losses and accuracies with three encoders](figures/train_mnist/encoders_compared.png)
#
# *Left: the losses, each with its running mean. Right: the accuracies. The constant current carries the most; Poisson
# spikes are few and random, one spike a pixel takes longer to learn from. Over five epochs of the whole set they come
# to 95.9%, 91.2% and, for the latencies, 94.3%, means of several seeds (`configs/mnist_recurrent_poisson.py`,
# `mnist_recurrent_latency.py`).*
#
# ## A convolutional network
#
# Layers without memory know nothing of time: a convolution sees all time steps as one large batch, and only the
# neurons are stepped. Max pooling of spikes is a logical or. `models.norse_conv` is the tutorial's network, two
# convolutions with 20 and 50 channels and a dense layer of 500.
#
# It needs no encoder: the image itself is the current of the first layer, the same at every step. With
# `num_steps`, `unroll` computes the first convolution once and not at every step, and six steps of 4 ms are enough.

# %%
conv_steps = 4 if small else 6
if small:  # 8x8 pixels are too few for two 5x5 convolutions
    rngs = nnx.Rngs(0)
    conv = jsnn.Sequential(
        jsnn.Conv(1, 8, (3, 3), rngs=rngs),
        compat.norse.lif(dt=4e-3, v_th=0.25, alpha=10.0),
        jsnn.max_pool,
        jsnn.flatten,
        nnx.Linear(4 * 4 * 8, 10, rngs=rngs),
        compat.norse.li(dt=4e-3),
    )
else:
    conv = models.norse_conv(rngs=nnx.Rngs(0), dt=4e-3, v_th=0.25, alpha=10.0)
conv.names


# %%
def conv_loss(network, images, labels, key):
    """As above, of a static image."""
    _, membranes = jsnn.unroll(network, standardise(images), num_steps=conv_steps)
    logits = decode.max_over_time(membranes)
    value = losses.cross_entropy(logits, labels)
    return value, {"loss": value, "accuracy": metrics.accuracy(logits, labels)}


before = jsnn.record(conv, sample, num_steps=conv_steps)  # fit takes over the network's arrays
trained_conv, _ = fit(conv, conv_loss, x_tenth, y_tenth, epochs=2, batch_size=32)

# %%
classify = jax.jit(lambda network, x: jsnn.unroll(network, standardise(x), num_steps=conv_steps)[1].max(0).argmax(-1))
count = 100 if small else 2000
parts = [classify(trained_conv, x_test[start : start + 100]) for start in range(0, count, 100)]
print(f"accuracy on {count} test images {np.mean(np.concatenate(parts) == y_test[:count]):.2%}")

# %% [markdown]
# Two epochs on 6,000 images, 374 steps of the optimiser, bring it to about 95%. After six epochs on all images, with
# `configs/mnist_conv.py`, it is 99.2%.

# %%
after = jsnn.record(trained_conv, sample, num_steps=conv_steps)
names = list(after)
figure, axes = panels(1, 2, height=3.2, width=9.0, sharey=True)
for ax, records, title in zip(axes, (before, after), ("before training", "after training")):
    plot.output_traces(records[names[-1]].outputs, sample=0, target=label, dt=4e-3, label="Readout", ax=ax)
    ax.set_title(title)
axes[0].get_legend().remove()
axes[1].set_ylabel("")
save(figure, "conv_readouts")

# %% [markdown]
# ![Readouts before and after training](figures/train_mnist/conv_readouts.png)
#
# *The readouts for the image. Before training (left) they hardly move; after it (right) the right class leads within
# a step or two.*

# %%
figure, [ax] = panels(1, height=4.4)
plot.feature_maps(after[names[1]].outputs[:, 0], ax=ax)  # of [T, H, W, C]
save(figure, "feature_maps")

# %% [markdown]
# ![Maps of the first layer's spikes](figures/train_mnist/feature_maps.png)
#
# *Where the neurons of the first layer fire, spikes per step for each of its channels: some look for edges of one
# direction, some for the strokes themselves, some for the background.*
#
# ## Where to go on
#
# Other neurons (`jsnn.ALIF`, `jsnn.RefractoryLIF`), other surrogates (`jsnn.surrogate`), penalties on firing rates
# (`jsnn.regularizers`) fit into the same loop. [Spike encodings](encode_mnist.py) has more codes.
# [Converting a trained network](convert_cifar10.py) shows the other road to a spiking network.
