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
# # Spiking-aware training
#
# A network that was trained without spikes loses accuracy when it has to spike. Trained *with* spikes, it learns
# weights that can live with them. This follows [KerasSpiking's Fashion-MNIST
# example](https://www.nengo.ai/keras-spiking/examples/spiking-fashion-mnist.html): the same network of 128 neurons, the
# same stages, and for each stage the same pictures.
#
# Run it as a script, or open it as a notebook with jupytext. The figures below come from running it.

# %%
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from matplotlib.figure import Figure

import jsnn
from jsnn import augment, data, decode, losses, models, plot, regularizers, train

small = os.environ.get("JSNN_TUTORIAL") == "small"  # seconds instead of minutes, on 8x8 digits
epochs, num_hidden, num_test = (8, 32, 100) if small else (10, 128, 2000)
num_steps, batch_size = 10, 32 if small else 128

# %%
here = Path(globals().get("__file__", "")).parent  # a notebook has no __file__
folder = Path(os.environ.get("JSNN_TUTORIAL_FIGURES", here / "figures")) / "spiking_aware_fashion_mnist"
folder.mkdir(parents=True, exist_ok=True)


def save(figure, name):
    """Save a figure, and return it for a notebook to show."""
    figure.savefig(folder / f"{name}.png", dpi=80)
    return figure


# %% [markdown]
# ## The data
#
# Half of the training images, and 2,000 of the test images.

# %%
name = "digits" if small else "fashion_mnist"
training = data.subset(data.load(name, "train"), 2)
test = data.load(name, f"test[:{num_test}]")
class_names = test.class_names or [str(label) for label in range(test.num_classes)]
ax = plot.images(training.images[:25], captions=[class_names[label] for label in training.labels[:25]])
save(ax.figure, "images")

# %% [markdown]
# ![25 training images with their classes](figures/spiking_aware_fashion_mnist/images.png)
#
# ## The rate network
#
# Flatten, a dense layer with ReLU, a dense readout. It knows no time.

# %%
pixels = int(np.prod(training.images.shape[1:]))
sizes = (pixels, num_hidden, training.num_classes)


def rate_loss(network, images, labels, key):
    """The loss of a network without time."""
    logits = network(augment.to_float(images))
    value = losses.cross_entropy(logits, labels)
    return value, {"loss": value, "accuracy": (logits.argmax(-1) == labels).astype(jnp.float32)}


def fit(network, loss):
    """Train a network, and return it with its training accuracy by epoch."""
    steps = len(training) // batch_size
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, epochs * steps))
    graph, state = train.create(network, optimizer)
    advance = train.make_advance(graph, loss, optimizer)
    images, labels = jnp.asarray(training.images), jnp.asarray(training.labels)
    key, curve = jax.random.key(0), []
    for epoch in range(epochs):
        indices = data.epoch_permutation(jax.random.fold_in(key, epoch), len(training), batch_size)
        state, metrics = advance(state, images, labels, indices, key)
        curve.append(float(metrics["accuracy"].mean()))
    return train.network_of(graph, state), curve


# %%
rate_network, rate_curve = fit(models.rate_dense(sizes, rngs=nnx.Rngs(0)), rate_loss)
test_images, test_labels = augment.to_float(test.images), test.labels
rate_accuracy = float((rate_network(test_images).argmax(-1) == test_labels).mean())
print(f"rate network: {rate_accuracy:.1%}")

# %% [markdown]
# ## The same network in spikes
#
# `jsnn.convert` puts a `SpikingActivation` in the place of the ReLU: an activation of 10 becomes a neuron that spikes
# 10 times a second. How much of that ten steps can show depends on how long a step is. At `dt` = 1 ms they last 10 ms,
# in which hardly any neuron spikes; at 1 s a neuron may spike several times in a single step.
#
# `measure` runs a network on the test images, for ten steps, and keeps the spikes of the hidden layer and the output.


# %%
def measure(network, dt, spiking, readout):
    """Accuracies, rates in Hz and spikes for one image; the outputs [T, B, classes] and the spikes [T, B, N]."""
    keep = {spiking: ["outputs"], readout: ["outputs"]}
    layers = jax.jit(lambda network, x: jsnn.record(network, x, num_steps=num_steps, keep=keep))(network, test_images)
    outputs, spikes = layers[readout].outputs, jnp.round(layers[spiking].outputs * dt)  # one spike is 1 / dt high
    rates = spikes.sum(axis=0) / (num_steps * dt)
    result = {
        "last": float((outputs[-1].argmax(-1) == test_labels).mean()),
        "mean": float((outputs.mean(axis=0).argmax(-1) == test_labels).mean()),
        "rate": float(rates.mean()),
        "highest": float(rates.max()),
        "spikes": float(spikes.sum() / num_test),
    }
    return result, outputs, spikes


# %% [markdown]
# And one figure for each stage: four test images, what the network takes them for as time goes by, and how many spikes
# a neuron fires in a step.


# %%
results = {}


def stage(title, name, network, dt, spiking, readout):
    """Measure a network, print what came out and draw the stage's figure."""
    results[title], outputs, spikes = measure(network, dt, spiking, readout)
    values = results[title]
    print(
        f"{title:34} last step {values['last']:.1%}  mean {values['mean']:.1%}  {values['rate']:6.2f} Hz"
        f"  at most {values['highest']:7.1f} Hz  {values['spikes']:6.1f} spikes an image"
    )
    figure = Figure(figsize=(13, 4.4), layout="constrained")
    pictures, histogram = figure.subfigures(1, 2, width_ratios=[3, 1])
    above, below = pictures.subplots(2, 4, height_ratios=[1, 1.5])
    for sample, (image, curves) in enumerate(zip(above, below)):
        image.imshow(test.images[sample, ..., 0], cmap="gray")
        image.set_title(class_names[test_labels[sample]])
        image.axis("off")
        plot.class_probabilities(
            outputs, sample=sample, target=int(test_labels[sample]), class_names=class_names, dt=dt, ax=curves
        )
        curves.get_legend().remove()
        if sample > 0:
            curves.set_ylabel("")
            curves.set_yticklabels([])
    legend = pictures.legend(below[0].lines, class_names, loc="outside right lower", frameon=False, fontsize=8)
    for line in legend.legend_handles:
        line.set_linewidth(1.5)
    plot.spike_histogram(spikes, ax=histogram.subplots())
    figure.suptitle(f"{title}: {values['last']:.1%}, {values['rate']:.2f} Hz")
    return save(figure, name)


# %%
for dt in (0.001, 0.01, 0.1, 1.0):
    spiking_network = jsnn.convert(rate_network, test_images, dt=dt, v_init=jax.random.key(1))
    stage(f"rate network, dt {dt:g} s", f"rate_dt_{dt:g}", spiking_network, dt, "0_relu", "output")

# %% [markdown]
# ![The rate network at dt 0.001 s](figures/spiking_aware_fashion_mnist/rate_dt_0.001.png)
#
# Almost silent: the outputs stay what the biases make of them.
#
# ![The rate network at dt 0.01 s](figures/spiking_aware_fashion_mnist/rate_dt_0.01.png)
#
# ![The rate network at dt 0.1 s](figures/spiking_aware_fashion_mnist/rate_dt_0.1.png)
#
# Enough spikes for most of the answer, but each step sees others, and the outputs jump.
#
# ![The rate network at dt 1 s](figures/spiking_aware_fashion_mnist/rate_dt_1.png)
#
# Nearly the rate network. But a neuron that fires several times in a step is no longer sparse: what is left of spikes
# is a rounding of the activations.

# %% [markdown]
# ## Training with spikes
#
# The network of `models.spiking_dense` has the `SpikingActivation` in it from the start. Forwards it spikes, backwards
# each step has the derivative of the ReLU, so the weights are fitted to the spikes that they will meet. The decision is
# the output of the last step.


# %%
def spiking_loss(dt, penalty=None):
    """The loss of a network that runs for ten steps, with a penalty on the hidden layer's spikes, [T, B, N] in Hz."""

    def loss(network, images, labels, key):
        layers = jsnn.record(network, augment.to_float(images), num_steps=num_steps, keep=["outputs"])
        outputs = list(layers.values())[-1].outputs
        logits = decode.last(outputs)
        value = losses.cross_entropy(logits, labels)
        if penalty is not None:
            value = value + penalty(layers["2_SpikingActivation"].outputs)
        return value, {"loss": value, "accuracy": (logits.argmax(-1) == labels).astype(jnp.float32)}

    return loss


def spiking_network(dt, **options):
    """A new network, whose membranes start at random so that neurons of one rate do not spike in step."""
    return models.spiking_dense(sizes, rngs=nnx.Rngs(0), dt=dt, v_init=jax.random.key(1), **options)


# %%
aware, aware_curve = fit(spiking_network(dt=0.1), spiking_loss(dt=0.1))
stage("spiking-aware, dt 0.1 s", "spiking_aware", aware, 0.1, "2_SpikingActivation", "3_Linear")

# %% [markdown]
# ![Spiking-aware training at dt 0.1 s](figures/spiking_aware_fashion_mnist/spiking_aware.png)
#
# 81% instead of 60% at the same `dt`. The network has also learned to fire more, five times as many spikes: the loss
# asked for the right answer, and not for few spikes.

# %%
ax = plot.training_curves(
    {"rate network": rate_curve, "spiking-aware, dt 0.1 s": aware_curve},
    label="Training accuracy",
    epochs=np.arange(1, epochs + 1),
)
save(ax.figure, "training")

# %% [markdown]
# ![Training accuracy by epoch](figures/spiking_aware_fashion_mnist/training.png)
#
# ## Asking for a rate
#
# A penalty on the firing rates keeps them where they are wanted, here at 10 Hz. `l2_rate` penalises
# each neuron for each image that does not make it fire at 10 Hz over all steps, and so asks all images to look alike.
# The original's penalty is the same square, but of the output of the last step alone: its layer returns no other, and
# that is all that Keras's regulariser is shown.

# %%
each, _ = fit(
    spiking_network(dt=0.1), spiking_loss(dt=0.1, penalty=lambda s: regularizers.l2_rate(s, strength=1e-3, target=10.0))
)
stage("10 Hz for each image", "rate_10_hz", each, 0.1, "2_SpikingActivation", "3_Linear")

# %% [markdown]
# ![With a target of 10 Hz](figures/spiking_aware_fashion_mnist/rate_10_hz.png)
#
# Asking each neuron for 10 Hz on average over the batch leaves it free to tell images apart.

# %%
average, _ = fit(
    spiking_network(dt=0.1),
    spiking_loss(dt=0.1, penalty=lambda s: regularizers.l2(s.mean(axis=(0, 1)), strength=1e-3, target=10.0)),
)
stage("10 Hz on average", "mean_10_hz", average, 0.1, "2_SpikingActivation", "3_Linear")

# %% [markdown]
# ![With a target of 10 Hz on average](figures/spiking_aware_fashion_mnist/mean_10_hz.png)
#
# ## Smoothing with a filter
#
# A lowpass filter after the neurons averages their spikes over time. Its time constants, one for each neuron, and its
# initial levels are trained with the weights. Now `dt` can be 10 ms, a tenth of the time, and the last step still sees
# the spikes of all steps before it.

# %%
filtered, _ = fit(
    spiking_network(dt=0.01, tau=0.1),
    spiking_loss(dt=0.01, penalty=lambda s: regularizers.l2_rate(s, strength=2e-6)),
)
stage("lowpass, dt 0.01 s", "lowpass", filtered, 0.01, "2_SpikingActivation", "4_Linear")

# %% [markdown]
# ![With a trained lowpass filter at dt 0.01 s](figures/spiking_aware_fashion_mnist/lowpass.png)
#
# The probabilities move smoothly, and 51 spikes an image are enough for more accuracy than 448 without a filter.

# %%
taus = np.asarray(filtered.layers[3].tau[...])
print(f"time constants from 0.1 s to {taus.min():.3f} ... {taus.max():.3f} s")

# %% [markdown]
# ## All stages
#
# Of this run, on 2,000 test images; the rate network reaches 88.0%:
#
# | | last step | mean output | mean rate | spikes for one image |
# |---|---|---|---|---|
# | rate network, dt 0.001 s | 11.0% | 19.9% | 0.66 Hz | 0.8 |
# | rate network, dt 0.01 s | 20.0% | 62.2% | 0.67 Hz | 8.6 |
# | rate network, dt 0.1 s | 59.6% | 87.3% | 0.67 Hz | 85 |
# | rate network, dt 1 s | 87.4% | 88.1% | 0.67 Hz | 853 |
# | spiking-aware, dt 0.1 s | 81.1% | 85.2% | 3.50 Hz | 448 |
# | 10 Hz for each image | 72.9% | 83.7% | 8.39 Hz | 1,074 |
# | 10 Hz on average | 78.7% | 83.7% | 9.15 Hz | 1,172 |
# | lowpass, dt 0.01 s | 82.0% | 72.0% | 3.96 Hz | 51 |
#
# The full trainings, 30 epochs on all images, are one command, `python -m experiments.run
# configs/fashion_mnist_spiking.py`: 89.5% for the rate network, 86.0% spiking-aware, 77.7% and 83.8% with the two
# targets of 10 Hz, 85.9% with the filter; and 87.4% at 0.9 Hz with 512 neurons and a higher price for spikes.
