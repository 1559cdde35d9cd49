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
# # Spike encodings
#
# A spiking network runs over time, and an image does not. This page turns MNIST's digits into spikes in every way that
# [snnTorch's tutorial 1](https://snntorch.readthedocs.io/en/latest/tutorials/tutorial_1.html) does, with its settings
# of the codes and its pictures, but of other images and another signal, and in some further ways. Nothing is trained.
#
# Run it as a script, or open it as a notebook with jupytext. The figures below come from running it. MNIST is
# downloaded once, or read from a folder of TFDS that `TFDS_DATA_DIR` names. `python -m experiments.run
# configs/encoding_mnist.py` runs this page for any data set and with any of the settings below, and writes what comes
# out as one HTML page.

# %%
import os
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import jsnn
from jsnn import augment, decode, encode, plot

here = Path(globals().get("__file__", "")).parent  # a notebook has no __file__

# %% tags=["parameters"]
small = os.environ.get("JSNN_TUTORIAL") == "small"  # seconds, on 8x8 digits that need no download
folder = Path(os.environ.get("JSNN_TUTORIAL_FIGURES", here / "figures")) / "encode_mnist"
seed = 0
data, split, subset = "digits" if small else "mnist", "train", 10  # every 10th image
num_steps, batch_size, tau = (16, 16, 1.0) if small else (100, 128, 5.0)
image, pixel = 0, None  # which image of the batch is drawn, and which of its pixels; None: one of a middle grey
gain, threshold, change, probability = 0.25, 0.01, 4.0, 0.5
signal = (0.0, 0.5, -0.5, 1.0, 8.0, 7.0, -13.0, 9.0, 3.0, 3.5, 0.0, 0.5)
frames_per_second = 20.0

# %%
folder.mkdir(parents=True, exist_ok=True)


def save(figure, name):
    """Save a figure, and return it for a notebook to show."""
    figure.savefig(folder / f"{name}.png", dpi=90)
    return figure


def animate(spikes, name):
    """Save an animation of spikes, [T, H, W], a frame a step."""
    ax = panels(1, width=2.2, height=2.4)[1][0]
    plot.animate(spikes, folder / f"{name}.gif", frames_per_second=frames_per_second, ax=ax)


def panels(rows, columns=1, width=7.0, height=3.4, **options):
    """A figure and its Axes, in one list."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, np.ravel(figure.subplots(rows, columns, **options))


# %% [markdown]
# ## Images
#
# To look at codes a part of the data is plenty: `data.subset` keeps every tenth image, 6,000 of MNIST's 60,000 (the
# original keeps the first 6,000). Pixels become floating point from 0 to 1, because encoders refuse integers, and
# colours become grey.

# %%
part = jsnn.data.subset(jsnn.data.load(data, split), subset)
images = augment.to_float(jnp.asarray(part.images[:batch_size])).mean(-1)  # [B, H, W]
names = part.class_names or [str(label) for label in range(part.num_classes)]
labels = [names[label].replace("$", r"\$") for label in part.labels[:batch_size]]
picture = images[image]
print(f"{len(part):,} images; the one that is drawn is of class {labels[image]}")

# %%
figure, [ax] = panels(1, height=3.4)
plot.images(images, captions=labels, limit=32, ax=ax)
save(figure, "images")

# %% [markdown]
# ![Images side by side with their classes](figures/encode_mnist/images.png)
#
# *The first images of the batch. All pictures below show one of them.*
#
# ## Rate code
#
# The simplest code: a value is the probability of a spike, at every step anew. How well does the number of spikes tell
# the value? The value 0.5 in ten steps may well fire six times or four; the longer one counts, the closer the share of
# steps with a spike comes to 0.5.

# %%
keys = jax.random.split(jax.random.key(seed), 9)
half = np.asarray(encode.rate(keys[8], jnp.full(5, 0.5), num_steps=1000))  # five neurons, [T, 5]
half[:10].mean(0), half[:100].mean(0), half.mean(0)

# %%
steps = np.arange(1, 1001)
figure, [ax] = panels(1, height=2.8)
ax.fill_between(steps, 0.5 - 0.5 / np.sqrt(steps), 0.5 + 0.5 / np.sqrt(steps), color="#dfe3e8", linewidth=0)
ax.plot(steps, half.cumsum(0) / steps[:, None])
ax.set(xscale="log", xlim=(1, 1000), ylim=(0, 1), xlabel="Time steps", ylabel="Share with a spike")
save(figure, "rate_share")

# %% [markdown]
# ![Five lines that approach 0.5 within a narrowing band](figures/encode_mnist/rate_share.png)
#
# *Five neurons with the value 0.5. The band is the standard deviation, 0.5 / sqrt(T): four times as many steps for
# twice the precision.*
#
# A white pixel has the value 1 and fires at every step, a black one never. `encode.rate` takes a whole batch, puts time
# in front, and draws all spikes at once. It takes a random key first, as everything random in jsnn does: the same key
# gives the same spikes. `gain` is a factor on the values.

# %%
rates = encode.rate(keys[0], images, num_steps=num_steps)  # [T, B, H, W]
print(rates.shape)
spikes = rates[:, image]
sparse = encode.rate(keys[1], picture, num_steps=num_steps, gain=gain)

# %%
animate(spikes, "rate")
animate(sparse, "rate_gain")

# %% [markdown]
# ![Animation of an image whose bright parts are always there](figures/encode_mnist/rate.gif)
#
# *Gain 1, a frame for each step: what is white is always there, and only what is grey flickers.*
#
# ![Animation of an image in a few flickering dots](figures/encode_mnist/rate_gain.gif)
#
# *With the smaller gain (0.25 here) there are fewer spikes, and each frame alone is hard to read.*
#
# Averaged over time, both give the image back. The fewer the spikes, the more noise there is in it:

# %%
figure, [ax] = panels(1, height=2.6)
plot.input_reconstruction({"gain 1": spikes, f"gain {gain:g}": sparse}, original=picture, ax=ax)
save(figure, "rate_reconstruction")

# %% [markdown]
# ![The image, and two reconstructions](figures/encode_mnist/rate_reconstruction.png)
#
# *The image, and the mean of its spikes over all steps, for the two gains; each drawn from black to its own maximum.*
#
# A raster shows all spikes in one still picture, a row for each neuron. Here a neuron is a pixel, counted row by row.

# %%
figure, [ax] = panels(1)
plot.raster(sparse.reshape(num_steps, -1), ax=ax)
ax.set_ylabel("Pixel")
save(figure, "rate_raster")

# %% [markdown]
# ![Raster with bands of random spikes](figures/encode_mnist/rate_raster.png)
#
# *With the smaller gain. Each band is a row of the image that crosses the digit; between the bands, and above and below
# the digit, the black background is silent.*
#
# One neuron alone, a pixel of a middle grey:

# %%
row, column = divmod(int(np.abs(picture - 0.5).argmin()) if pixel is None else pixel, picture.shape[1])
figure, axes = panels(2, height=2.4, sharex=True)
for ax, train, name in zip(axes, (spikes, sparse), ("gain 1", f"gain {gain:g}")):
    plot.raster(train[:, row, column, None], ax=ax)
    ax.set(yticks=[], ylabel="", title=name)
axes[0].set_xlabel("")
save(figure, "rate_pixel")

# %% [markdown]
# ![Two rows of vertical marks](figures/encode_mnist/rate_pixel.png)
#
# *Its spikes come at random times: only their number means anything. That makes the code robust, because one lost spike
# among many does no harm, and expensive, because it takes many spikes.*
#
# ## Latency code
#
# A single spike can carry a value by its time. Let the value be a current that charges a leaky capacitor. The voltage
# rises towards the value, `v(t) = x (1 - exp(-t / tau))`, and reaches a threshold at
#
#     t = tau log(x / (x - threshold))
#
# so that large values fire early, values just above the threshold very late, and values below it never.

# %%
figure, [left, right] = panels(1, 2, height=2.8)
for factor in (5.0, 2.0, 1.25, 1.05):
    x = factor * threshold
    arrival = float(encode.latency_times(jnp.array([x]), tau=tau, threshold=threshold)[0])
    time = np.linspace(0, arrival, 200)
    [line] = left.plot(time, x * -np.expm1(-time / tau), label=f"x = {x:.3g}")
    left.plot(arrival, threshold, "o", color=line.get_color())
left.axhline(threshold, color="#bd1f01", linestyle="--", linewidth=1)
left.set(xlabel="Time step", ylabel="Voltage", title="charging")
left.legend(frameon=False, fontsize="small")

values = jnp.geomspace(threshold / 3, 1, 500)
right.plot(values, encode.latency_times(values, tau=tau, threshold=threshold), label="capacitor")
right.plot(values, encode.latency_times(values, tau=tau, threshold=threshold, linear=True), label="linear")
right.set(xscale="log", xlabel="Value", ylabel="Spike time (steps)", title="time of the spike")
right.legend(frameon=False, fontsize="small")
save(figure, "latency_times")

# %% [markdown]
# ![Charging curves, and spike time against value](figures/encode_mnist/latency_times.png)
#
# *Left: four values charge the capacitor; dots mark the spike times from `encode.latency_times`. Right: the time
# of the spike for all values. Those below the threshold are all given the same last time. The linear code is
# simply `tau (1 - x)`.*
#
# `encode.latency` makes spikes of the times. Its options, one after the other:

# %%
latency = partial(encode.latency, picture, num_steps=num_steps, tau=tau, threshold=threshold)
codes = {
    "logarithmic": latency(),
    "linear": latency(linear=True),
    "linear, normalize": latency(linear=True, normalize=True),
    "linear, normalize, clip": latency(linear=True, normalize=True, clip=True),
}

# %%
figure, axes = panels(2, 2, height=5.6, sharex=True, sharey=True)
for ax, (title, code) in zip(axes, codes.items()):
    plot.raster(code.reshape(num_steps, -1), ax=ax)
    ax.set(ylabel="Pixel")
    ax.set_title("", loc="right")
    ax.set_title(title)
    ax.label_outer()
save(figure, "latency_rasters")

# %% [markdown]
# ![Four rasters of latency codes](figures/encode_mnist/latency_rasters.png)
#
# *Logarithmic: most pixels of MNIST are black or white, so nearly all spikes crowd into the first steps (white) and
# the last (black). `linear=True` spreads the greys, but `tau` steps are soon over. `normalize=True` stretches them
# over all steps. `clip=True` removes the last column, the background, which carries no information: what is left
# is one spike for each pixel of the digit.*

# %%
clipped = codes["linear, normalize, clip"]
animate(clipped, "latency")

# %% [markdown]
# ![Animation in which each pixel lights up once](figures/encode_mnist/latency.gif)
#
# *The same in motion: nearly the whole digit in the first frame, then its edges, pixel by pixel.*

# %% [markdown]
# ## Delta modulation
#
# Signals that change in time can spike where they change, as the eye does: what stays as it is needs no spikes.
# `encode.delta` fires where a value exceeds the one before by at least the threshold.

# %%
on = encode.delta(jnp.array(signal), threshold=change)
on_and_off = encode.delta(jnp.array(signal), threshold=change, off_spike=True)
print(on_and_off.tolist())

# %%
figure, axes = panels(3, height=4.4, sharex=True, height_ratios=(3, 1, 1))
axes[0].plot(signal, "o-", color="#1b2a41", markersize=4)
axes[0].set_ylabel("Signal")
for ax, code, title in zip(axes[1:], (on, on_and_off), ("on-spikes", "on- and off-spikes")):
    plot.raster(code[:, None], ax=ax)
    ax.set(yticks=[], ylabel="", title=title)
axes[1].set_xlabel("")
save(figure, "delta")

# %% [markdown]
# ![A signal above two rasters of its changes](figures/encode_mnist/delta.png)
#
# *Rises by at least the threshold fire; small changes do not. Falls are lost, unless `off_spike=True` gives them spikes
# of -1, drawn in red.*
#
# `delta` compares neighbouring steps, so that a slow change leaves no trace however far it goes. `encode.step_forward`
# compares with what the spikes so far add up to, and `encode.delta_inverse` gets the signal back from them:

# %%
time = jnp.linspace(0, 1, 200)
slow = jnp.sin(2 * jnp.pi * time) + 0.4 * jnp.sin(6 * jnp.pi * time)
steps_of_slow = encode.step_forward(slow, threshold=0.1)
recovered = encode.delta_inverse(steps_of_slow, threshold=0.1, initial=slow[0])

# %%
figure, axes = panels(2, height=3.8, sharex=True, height_ratios=(3, 1))
axes[0].plot(slow, color="#1b2a41", label="signal")
axes[0].plot(recovered, color="#ffa90e", label="recovered")
axes[0].legend(frameon=False)
plot.raster(steps_of_slow[:, None], ax=axes[1])
axes[1].set(yticks=[], ylabel="")
save(figure, "step_forward")

# %% [markdown]
# ![A smooth signal, its recovery in steps, and the spikes](figures/encode_mnist/step_forward.png)
#
# *Each spike stands for a step of 0.1, up or down (red). `delta` with the same threshold would not fire once here. As
# `encode.StepForward` the code is a Neuron, for streams that are still coming in.*
#
# ## Spikes out of nothing
#
# Sometimes one wants spikes that encode nothing, to test a network or as noise. Probabilities that have a time axis
# already go to `encode.rate` with `num_steps=None`; for rates in Hz there is `encode.random_spikes`.

# %%
probabilities = probability * jax.random.uniform(keys[2], (num_steps, *picture.shape))
noise = encode.rate(keys[3], probabilities, num_steps=None)
animate(noise[: num_steps // 2], "random")

# %%
figure, [ax] = panels(1)
plot.raster(noise.reshape(num_steps, -1), ax=ax)
ax.set_ylabel("Pixel")
save(figure, "random_raster")

# %% [markdown]
# ![Animation of noise](figures/encode_mnist/random.gif)
#
# *Noise, a frame for each step.*
#
# ![Raster of noise](figures/encode_mnist/random_raster.png)
#
# *No pixel and no step stands out.*
#
# ## More codes
#
# jsnn has more ways to say a value. One picture compares them: 64 grey levels, from black at the bottom to white on
# top.


# %%
def others(key, x):
    """Spikes of values x in the codes that snnTorch's tutorial does not have."""
    return {
        "poisson, 200 Hz": encode.poisson(key, x, num_steps=num_steps, f_max=200.0, dt=1e-3),
        "constant_current": encode.constant_current(3 * x, num_steps=num_steps),
        "burst": encode.burst(x, num_steps=num_steps),
        "phase": encode.phase(x, num_steps=num_steps),
    }


grey = jnp.linspace(0, 1, 64)
levels = {
    "rate": encode.rate(keys[4], grey, num_steps=num_steps),
    "latency": encode.latency(grey, num_steps=num_steps, threshold=threshold, linear=True, normalize=True),
    **others(keys[5], grey),
}

# %%
figure, axes = panels(3, 2, height=7.0, sharex=True, sharey=True)
for ax, (name, code) in zip(axes, levels.items()):
    plot.raster(code, ax=ax)
    ax.set(title=name, ylabel="Grey level", yticks=[0, 31.5, 63], yticklabels=["0", "0.5", "1"])
    ax.label_outer()
save(figure, "levels")

# %% [markdown]
# ![Six rasters of grey levels](figures/encode_mnist/levels.png)
#
# *`poisson` is the rate code with a rate in Hz. `constant_current` lets each value drive a LIF neuron: regular spikes,
# the faster the larger the value, and none where it stays below the threshold. `burst` gives a value more and closer
# spikes from the first step on. `phase` sends the binary digits of the value, over and over.*
#
# Last, many neurons can represent a value, each with a favourite value of its own. `encode.receptive_fields` gives
# their activities, which any of the codes above turns into spikes:

# %%
rising = jnp.linspace(0, 1, num_steps)
activity = encode.receptive_fields(rising, 8)  # [T, 8]
population = encode.rate(keys[6], activity, num_steps=None)

# %%
figure, axes = panels(2, height=4.4)
axes[0].plot(rising, activity)
axes[0].set(xlim=(0, 1), xlabel="Value", ylabel="Activity")
plot.raster(population, ax=axes[1])
save(figure, "population")

# %% [markdown]
# ![Bell curves, and a raster with a rising diagonal](figures/encode_mnist/population.png)
#
# *Above: eight neurons and the values they like. Below: their spikes while a value rises from 0 to 1; one neuron after
# the other takes over.*
#
# ## And back
#
# A code is only as good as what can be read out of it: the mean over time of a rate code, the time of the spike in a
# latency code, the weighted digits in a phase code.

# %%
more = others(keys[7], picture)
early = 1 - decode.first_spike_time(clipped.reshape(num_steps, 1, -1)) / (num_steps - 1)
read = {
    "original": picture,
    "rate": spikes.mean(0),
    f"rate, {min(10, num_steps)} steps": spikes[:10].mean(0),
    "latency": early.reshape(picture.shape),
    **{name: code.mean(0) for name, code in more.items()},
    "phase": jnp.tensordot(encode.phase_weights(num_steps=num_steps), more["phase"], 1),
}
figure, [ax] = panels(1, height=4.0)
plot.images(jnp.stack([x / jnp.maximum(x.max(), 1e-9) for x in read.values()]), captions=list(read), ax=ax)
save(figure, "read")

# %% [markdown]
# ![The image as read out of its codes](figures/encode_mnist/read.png)
#
# *The rate code needs all its steps for the greys; after 10 steps they are coarse. The latency code has them from one
# spike a pixel, the phase code from 8 steps. The neurons of the constant current stay silent below their threshold.*
#
# ## What they cost
#
# On hardware made for spikes each spike costs energy. The time of the last spike is the time it takes to read the code.

# %%
every = {"rate": spikes, f"rate, gain {gain:g}": sparse, **{f"latency, {name}": code for name, code in codes.items()}}
costs = []
for name, code in {**every, **more}.items():
    train = np.asarray(code).reshape(num_steps, -1) != 0
    costs.append(
        {
            "code": name,
            "spikes": int(train.sum()),
            "spikes a pixel": round(float(train.sum() / train.shape[1]), 2),
            "pixels that fire": f"{train.any(0).mean():.0%}",
            "last spike at step": int(np.flatnonzero(train.any(1)).max(initial=0)),
        }
    )
    print(*costs[-1].values(), sep=" | ")

# %% [markdown]
# For the 7 of MNIST that is about 16,000 and 4,000 spikes in the rate codes, 784 in the latency code, one for each
# pixel, and 204 with `clip`.
#
# ## Where to go on
#
# [Training a spiking network](train_mnist.py) feeds such spikes to networks. [Encoders](../encoders.md) lists all of
# them, with the names that snnTorch and Norse give them.
