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
# # Converting a trained network
#
# A rate network that classifies CIFAR-10 is trained as any network is, and then made to spike: no weight changes. This
# follows [R. Gaurav's tutorial on
# NengoDL](https://r-gaurav.github.io/2021/03/07/Spiking-Neural-Nets-for-Image-Classification-in-Nengo-DL.html), with
# the same convolutional network and the same pictures, and goes on to what decides how much accuracy the spikes cost.
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
from jsnn import augment, conversion, data, losses, models, plot, train

small = os.environ.get("JSNN_TUTORIAL") == "small"  # seconds instead of minutes, on 8x8 digits
epochs, num_test, num_steps = (4, 40, 12) if small else (8, 500, 30)
batch_size, test_batch_size = (32, 20) if small else (128, 50)
dt = 1e-3  # s

# %%
here = Path(globals().get("__file__", "")).parent  # a notebook has no __file__
folder = Path(os.environ.get("JSNN_TUTORIAL_FIGURES", here / "figures")) / "convert_cifar10"
folder.mkdir(parents=True, exist_ok=True)


def save(figure, name):
    """Save a figure, and return it for a notebook to show."""
    figure.savefig(folder / f"{name}.png", dpi=80)
    return figure


# %% [markdown]
# ## The data
#
# A quarter of the training images is enough to see everything here, and trains in minutes on two cores.

# %%
name = "digits" if small else "cifar10"
training = data.subset(data.load(name, "train"), 1 if small else 4)
test = data.load(name, f"test[:{num_test}]")
class_names = test.class_names
training.images.shape

# %%
pixels = np.asarray(augment.to_float(training.images))
mean, std = pixels.mean(axis=(0, 1, 2)), pixels.std(axis=(0, 1, 2))


def prepare(images):
    """Pixels 0..255 as numbers around 0, the same for training and for spikes."""
    return augment.normalize(augment.to_float(images), mean, std)


# %% [markdown]
# ## The rate network
#
# Three convolutions with 32, 64 and 128 channels, each with ReLU and average pooling, a dense layer of 512 and a dense
# readout: 1,147,466 parameters. `models.rate_conv` builds it from `nnx` layers; any JAX function would do.

# %%
shape = training.images.shape[1:]
size = {"blocks": ((8,),), "dense": (32,)} if small else {}
model = models.rate_conv(**size, rngs=nnx.Rngs(0), image_shape=shape, outputs=training.num_classes)


# %% [markdown]
# `jsnn.train` wants a loss that also returns what is to be reported. An epoch is one call: a scan over the batches.


# %%
def loss(network, images, labels, key):
    """Cross-entropy of a batch, with what is to be reported."""
    logits = network(prepare(images))
    value = losses.cross_entropy(logits, labels)
    return value, {"loss": value, "accuracy": (logits.argmax(-1) == labels).astype(jnp.float32)}


steps = epochs * (len(training) // batch_size)
optimizer = optax.adamw(optax.cosine_decay_schedule(5e-3 if small else 1e-3, steps), weight_decay=0.02)
graph, state = train.create(model, optimizer)
advance = train.make_advance(graph, loss, optimizer)

# %%
images, labels = jnp.asarray(training.images), jnp.asarray(training.labels)
key, curve = jax.random.key(0), []
for epoch in range(epochs):
    indices = data.epoch_permutation(jax.random.fold_in(key, epoch), len(training), batch_size)
    state, metrics = advance(state, images, labels, indices, key)
    curve.append(float(metrics["accuracy"].mean()))
    print(f"epoch {epoch + 1}: training accuracy {curve[-1]:.1%}")

# %%
model = train.network_of(graph, state)
model.eval()
test_images, test_labels = prepare(test.images), test.labels
accuracy = float((model(test_images).argmax(-1) == test_labels).mean())
print(f"rate network: {accuracy:.1%} of {num_test} test images")

# %%
ax = plot.training_curves({"training accuracy": curve}, label="Accuracy", epochs=np.arange(1, epochs + 1))
ax.axhline(accuracy, linestyle="--", color="gray")
ax.annotate("test images, at the end", (1, accuracy), va="bottom", color="gray")
save(ax.figure, "training")

# %% [markdown]
# ![Accuracy of the rate network by epoch](figures/convert_cifar10/training.png)
#
# On a quarter of the images the network learns too much by heart. The whole training set and 20 epochs give 77.1% on
# the whole test set, with 75.8% in spikes: `python -m experiments.run configs/cifar10_normalised.py`.
# `configs/cifar10_conversion.py` repeats the original exactly: pixels from 0 to 255, and images in TFDS's order,
# without shuffling. It reaches 68.3% and 59.0%.

# %% [markdown]
# ## Into spikes
#
# `jsnn.convert` traces the model, finds each ReLU, and puts a neuron in its place. An activation of 5 becomes a neuron
# that spikes at 5 Hz: far too rarely for 30 steps of 1 ms. So each neuron's input is scaled up, and its output down,
# here by 200. The spikes are smoothed by a lowpass filter with a time constant of 5 ms, and the membranes start at
# random.

# %%
network = jsnn.convert(model, test_images, scale_firing_rates=200.0, synapse=5e-3, dt=dt, v_init=jax.random.key(1))
print(network.report)

# %% [markdown]
# The report lists each activation, its shape, and what replaced it. The image does not change, so `num_steps` shows it
# to the network again and again; the first convolution still runs once only.


# %%
@jax.jit
def respond(network, images):
    """Run a network over time, and count its spikes on the way."""
    return conversion.respond(network, images, num_steps)


def measure(network):
    """Accuracy on the output of each step, [T], and on the mean of all outputs; spikes for one image."""
    correct, correct_mean, spikes = np.zeros(num_steps), 0.0, 0.0
    for start in range(0, num_test, test_batch_size):
        response = respond(network, test_images[start : start + test_batch_size])
        targets = test_labels[start : start + test_batch_size]
        correct += (response.outputs.argmax(-1) == targets).sum(axis=1)
        correct_mean += float((response.outputs.mean(axis=0).argmax(-1) == targets).sum())
        spikes += sum(float(count.sum()) for count in response.spikes.values())
    return correct / num_test, correct_mean / num_test, spikes / num_test


# %%
by_step, by_mean, spikes = measure(network)
print(f"last step {by_step[-1]:.1%}, mean output {by_mean:.1%}, {spikes:,.0f} spikes an image")

# %% [markdown]
# ## The spikes
#
# `jsnn.record` keeps the output of a layer at each step. The first convolution has 32,768 neurons; 512 of them, evenly
# spread, say enough, and the others are never held in memory.

# %%
first, last = network.names[0], network.names[-1]
layers = jsnn.record(
    network, test_images[:1], num_steps=num_steps, keep={first: ["outputs"], last: ["outputs"]}, neurons=512
)
figure = Figure(figsize=(8, 7), layout="constrained")
for ax, layer, title in zip(figure.subplots(2), (first, last), ("first convolution", "dense layer before the readout")):
    plot.raster(layers[layer].outputs, sample=0, dt=dt, ax=ax)
    ax.set_title(f"{title} ({layer})", loc="left")
save(figure, "raster")

# %% [markdown]
# ![Rasters of the first convolution and of the penultimate dense layer](figures/convert_cifar10/raster.png)
#
# Every row is a neuron, every mark a spike. The first layer sees the image from the first step on, and is busy all the
# time; half of its neurons never spike for this image. The dense layer has to wait until the filters in front of it
# have filled.

# %% [markdown]
# ## The decision over time
#
# Softmax of the output at each step, for the test images 0 and 19 and for the first two that are decided rightly. The
# original shows its images 0 and 19, which are others: TFDS has another order. The thick line is the right class.

# %%
outputs = respond(network, test_images[:test_batch_size]).outputs
right = np.flatnonzero(outputs[-1].argmax(-1) == test_labels[:test_batch_size])
figure = Figure(figsize=(11, 6.4), layout="constrained")
for ax, sample in zip(figure.subplots(2, 2, sharex=True, sharey=True).flat, (0, 19, *right[:2])):
    target = int(test_labels[sample])
    plot.class_probabilities(outputs, sample=sample, target=target, class_names=class_names, dt=dt, ax=ax)
    ax.set_title(f"test image {sample}: {class_names[target]}", loc="left")
save(figure, "class_probabilities")

# %% [markdown]
# ![Class probabilities over time of four test images](figures/convert_cifar10/class_probabilities.png)
#
# Nothing is known at first: four filters lie between the image and the output, and the signal has to pass each. Then
# the probabilities move apart, and go on trembling with the spikes.

# %% [markdown]
# ## Scale, synapse, calibration
#
# The same weights once more, with other settings. `calibrate` looks at some training images: it sets each layer's scale
# so that its 99.9th percentile is one spike a step, and starts the membranes at half a threshold, so that spike counts
# are rounded and not cut off. `IF` integrates its input before it rectifies, and so forgives what comes out of order.

# %%
settings = {
    "scale 200, synapse 5 ms": {"scale_firing_rates": 200.0, "synapse": 5e-3},
    "scale 200": {"scale_firing_rates": 200.0},
    "scale 1": {},
    "scale 1, synapse 5 ms": {"synapse": 5e-3},
    "scale 1000, synapse 5 ms": {"scale_firing_rates": 1000.0, "synapse": 5e-3},
}
if small:
    settings = dict(list(settings.items())[:2])
networks = {
    setting: jsnn.convert(model, test_images, dt=dt, v_init=jax.random.key(1), **options)
    for setting, options in settings.items()
}

# %%
some = prepare(training.images[: 4 * batch_size])
networks["calibrated IF"] = conversion.calibrate(jsnn.convert(model, some, swap={jax.nn.relu: jsnn.IF()}, dt=dt), some)

# %%
curves = {}
for setting, converted in networks.items():
    curves[setting], by_mean, spikes = measure(converted)
    print(f"{setting:26} last step {curves[setting][-1]:.1%}  mean {by_mean:.1%}  {spikes:10,.0f} spikes an image")

# %%
ax = plot.accuracy_against_steps(curves, reference={"rate network": accuracy})
ax.figure.set_size_inches(9, 4)
save(ax.figure, "accuracy")

# %% [markdown]
# ![Accuracy on the output of each step, by setting](figures/convert_cifar10/accuracy.png)
#
# On 500 test images, for this run:
#
# | | last step | mean output | spikes for one image |
# |---|---|---|---|
# | rate network | 58.8% | | |
# | scale 1 | 10.0% | 11.4% | 6,138 |
# | scale 1, synapse 5 ms | 13.6% | 13.0% | 1,920 |
# | scale 200 | 31.2% | 46.8% | 167,489 |
# | scale 200, synapse 5 ms | 58.0% | 53.2% | 140,411 |
# | scale 1000, synapse 5 ms | 58.6% | 55.2% | 698,834 |
# | calibrated IF | 44.4% | 59.0% | 118,850 |
#
# Without a scale the neurons are all but silent. Without a filter the last step shows only who happens to spike just
# then; the mean over all steps averages that away. With filters the last step has the average in it already, and the
# mean takes in the first steps, in which the filters were still empty. A higher scale buys little, and is paid for with
# five times the spikes. Calibrated neurons, decided on the mean, lose nothing, with the fewest spikes of those that
# work.
#
# ## Where it is lost
#
# `diagnose` compares each activation with the rate that it stands for, and asks how much the output suffers when this
# activation alone spikes.

# %%
diagnosis = conversion.diagnose(networks["scale 200"], test_images[:100], test_labels[:100], num_steps=num_steps, dt=dt)
print(diagnosis)

# %%
figure = Figure(figsize=(8, 3.2), layout="constrained")
ax = figure.subplots()
rows = np.arange(len(diagnosis.activations))
ax.barh(rows - 0.2, [row.relative_error for row in diagnosis.activations], 0.38, label="its mean output")
ax.barh(rows + 0.2, [row.output_error for row in diagnosis.activations], 0.38, label="the output, if it alone spikes")
ax.set_yticks(rows, [row.name for row in diagnosis.activations])
ax.invert_yaxis()
ax.set_xlabel("Relative error")
figure.legend(loc="outside upper center", ncols=2, frameon=False)
save(figure, "diagnosis")

# %% [markdown]
# ![Relative error of each activation, and of the output if it alone spikes](figures/convert_cifar10/diagnosis.png)
#
# The first convolution makes more than half of the spikes, and its mean output is off by 5% only. The errors grow from
# layer to layer, because each sees the spikes of those before it; but the last two, alone, hardly touch the output. If
# anything gets higher rates, it should be the first two: `scale_firing_rates` takes a sequence as well, a scale for
# each activation.
#
# [From a rate network to spikes](../conversion.md) lists every remedy with its price. With `--sweep.synapse 0.005 0.01
# --sweep.scale 20 50 --sweep.steps 15 30 60`, `python -m experiments.run configs/cifar10_conversion.py` draws the whole
# trade-off between accuracy, steps and spikes.
