"""What a gallery shows, section by section: each figure as a file and on the page, with a sentence on what one sees."""

import functools
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import config
from experiments.codes import FIELDS, GREY_LEVELS, Codes
from experiments.report import figures
from experiments.report.page import DPI, Page
from jsnn import encode, plot, rounding
from jsnn.plot.canvas import ACCENT, INK, colors, legend_beside, open_frame
from jsnn.types import Array

_FRAMES = 4  # of a film strip
_draw = functools.partial(figures.draw, width=6.4)
_panels = functools.partial(figures.panels, width=6.4)


def draw(settings: config.Gallery, codes: Codes, folder: Path) -> None:
    """Write `figures/`, `config.json` and `report.html` into a folder."""
    (folder / "figures").mkdir()
    lead = (
        f"How images of {settings.data} become spikes over {settings.num_steps} steps. The image is number "
        f"{settings.image} of the batch, of class {codes.labels[settings.image]}."
    )
    sheet = _Sheet(Page(settings.name, lead), folder / "figures", settings.frames_per_second)
    _images(sheet, settings, codes)
    _rate(sheet, settings, codes)
    _latency(sheet, settings, codes)
    _delta(sheet, settings, codes)
    _random(sheet, settings, codes)
    _others(sheet, codes)
    _costs(sheet, codes)
    text = config.to_json(settings)
    (folder / "config.json").write_text(text)
    sheet.page.section("Settings", "Every one can be set from the command line, and the file can be run again.")
    sheet.page.code(text, "config.json")
    sheet.page.write(folder / "report.html")


class _Sheet:
    """A page, and the folder of the animations that stand on it."""

    def __init__(self, page: Page, folder: Path, frames_per_second: float) -> None:
        self.page, self.folder, self.frames_per_second = page, folder, frames_per_second

    def raster(self, name: str, spikes: Array, title: str, caption: str) -> None:
        """Draw the spikes of all pixels, [T, H, W]."""
        trains = spikes.reshape(len(spikes), -1)
        height = min(max(3.6, 1.6 + trains.shape[1] / DPI), 6.4)  # MNIST has 784 rows
        figure = _draw(_raster, trains, title, "Pixel", height=height)
        self.page.figure(name, figure, caption, f"Raster of all pixels, {title}")

    def animation(self, name: str, spikes: Array, title: str, caption: str) -> None:
        """Animate the spikes of all pixels, [T, H, W], a frame a step."""
        path = self.folder / f"{name}.gif"
        ax = Figure(figsize=(2.6, 2.9)).add_axes((0.02, 0.02, 0.96, 0.88))
        plot.animate(np.asarray(spikes), path, frames_per_second=self.frames_per_second, ax=ax)
        self.page.figure(name, path, f"{title.capitalize()}: {caption}", f"Animation of the spikes, {title}")


def _raster(spikes: Array, title: str, rows: str, *, ax: Axes) -> None:
    plot.raster(np.asarray(spikes), ax=ax)
    ax.set_ylabel(rows)
    ax.set_title(title, loc="left", fontsize="medium")


def _images(sheet: _Sheet, settings: config.Gallery, codes: Codes) -> None:
    whole, part = codes.sizes
    sheet.page.section(
        "Images",
        f"Of the {whole:,} images one in {settings.subset} is kept, {part:,}. The first {len(codes.images)} of them "
        f"are a batch, which is encoded at once.",
    )
    figure = _draw(plot.images, codes.images, captions=codes.labels, limit=32, height=3.4)
    sheet.page.figure("images", figure, "Images of the batch, with their classes.", "Digits side by side")


def _rate(sheet: _Sheet, settings: config.Gallery, codes: Codes) -> None:
    full, reduced = codes.rate
    sheet.page.section(
        "Rate code",
        "Each pixel is the probability of a spike at every step: a white one always fires, a black one never. With a "
        f"gain of {settings.gain:g} all fire less often, and the image costs fewer spikes.",
    )
    figure = _draw(_share, np.asarray(codes.half))
    sheet.page.figure(
        "rate_share",
        figure,
        "Five neurons with the value 0.5: the share of steps at which each has fired comes closer to 0.5 the longer "
        "one counts. The band is the standard deviation, 0.5 / sqrt(T).",
        "Five jagged lines that approach 0.5 within a narrowing band",
    )
    shown = rounding.spread(_FRAMES, settings.num_steps)
    still = np.repeat(codes.image[None], _FRAMES, axis=0)
    both = np.concatenate([still, np.asarray(codes.rate[full])[shown]])
    figure = _draw(plot.images, both, captions=[f"step {step}" for step in shown] + [""] * _FRAMES, height=3.6)
    sheet.page.figure(
        "rate_frames",
        figure,
        "What a network is given at some steps: the image itself, a still film (above), or spikes, which are new at "
        "every step (below).",
        "A row of equal images above a row of black and white ones that differ",
    )
    sheet.animation("rate", codes.rate[full], full, "the white strokes fire at every step, their grey edges flicker.")
    sheet.animation("rate_gain", codes.rate[reduced], reduced, "the same image in fewer spikes.")
    spikes = {name: np.asarray(one) for name, one in codes.rate.items()}
    figure = _draw(plot.input_reconstruction, spikes, original=codes.image, height=2.9)
    sheet.page.figure(
        "rate_reconstruction",
        figure,
        "The mean of the spikes over time gives the image back, the noisier the fewer there are.",
        f"The image, and the means of its spikes at {full} and {reduced}",
    )
    sheet.raster(
        "rate_raster",
        codes.rate[reduced],
        f"rate, {reduced}",
        "Spikes of all pixels, counted row by row: bands where a row crosses the digit, nothing in the background.",
    )
    row, column = codes.pixel
    figure = _draw(plot.raster, {name: one[:, row, column] for name, one in spikes.items()}, height=2.4)
    sheet.page.figure(
        "rate_pixel",
        figure,
        f"One pixel alone, in row {row} and column {column}, of value {codes.image[row, column]:.2f}: its spikes have "
        f"no order, only a number.",
        "Two rasters of one pixel",
    )


def _share(spikes: np.ndarray, *, ax: Axes) -> None:
    """Draw the running mean of trains, [T, N]."""
    steps = np.arange(1, len(spikes) + 1)
    spread = 0.5 / np.sqrt(steps)
    open_frame(ax)
    ax.fill_between(steps, 0.5 - spread, 0.5 + spread, color=INK, alpha=0.12, linewidth=0)
    ax.set_prop_cycle(color=colors(spikes.shape[1]))
    ax.plot(steps, np.cumsum(spikes, axis=0) / steps[:, None], linewidth=1.4)
    ax.set(xscale="log", xlim=(1, len(spikes)), ylim=(0, 1), xlabel="Time steps", ylabel="Share with a spike")


def _latency(sheet: _Sheet, settings: config.Gallery, codes: Codes) -> None:
    sheet.page.section(
        "Latency code",
        "Each pixel fires once, the brighter the earlier: it charges a leaky capacitor, which spikes at a threshold of "
        f"{settings.threshold:g}. The time constant is {settings.tau:g} steps.",
    )
    figure = _draw(_charging, settings)
    sheet.page.figure(
        "latency_charging",
        figure,
        "Four values charge the capacitor; a dot marks the spike, at tau log(x / (x - threshold)). A value just above "
        "the threshold takes very long, one below it would never get there.",
        "Four rising curves that end on a dashed line, the steepest first",
    )
    figure = _draw(_times, settings)
    sheet.page.figure(
        "latency_times",
        figure,
        "When a value spikes, by the capacitor and by the simpler linear code. Values below the threshold all spike at "
        "the same time, the last.",
        "Spike time against value: two falling curves, the capacitor's steep above the threshold",
    )
    seen = {
        "logarithmic": "bright pixels crowd in the first steps; those below the threshold fire last, all at once.",
        "linear": f"the bright ones spread out, but the code uses no more than {settings.tau:g} steps.",
        "linear, normalized": "the same stretched over all steps; the black background still fires at the end.",
        "linear, normalized, clipped": "what lies below the threshold does not fire, and the digit alone is left.",
    }
    for name, spikes in codes.latency.items():
        file = "latency_raster_" + name.split(", ")[-1]
        sheet.raster(file, spikes, name, f"{name.capitalize()}: {seen[name]}")
    sheet.animation("latency", spikes, name, "the white strokes light up at once, their grey edges one by one.")


def _charging(settings: config.Gallery, *, ax: Axes) -> None:
    open_frame(ax)
    factors = (5.0, 2.0, 1.25, 1.05)
    for factor, color in zip(factors, colors(len(factors))):
        end = settings.tau * np.log(factor / (factor - 1))
        time = np.linspace(0, end, 200)
        value = factor * settings.threshold
        ax.plot(time, value * -np.expm1(-time / settings.tau), color=color, linewidth=1.6, label=f"{value:.3g}")
        ax.plot(end, settings.threshold, "o", color=color, clip_on=False)
    ax.axhline(settings.threshold, color=ACCENT, linestyle="--", linewidth=1.2, label="threshold")
    ax.set(xlim=(0, None), ylim=(0, 1.15 * settings.threshold), xlabel="Time step", ylabel="Voltage")
    legend_beside(ax, "Value")


def _times(settings: config.Gallery, *, ax: Axes) -> None:
    open_frame(ax)
    x = jnp.geomspace(settings.threshold / 3, 1, 500)
    for name, color in zip(("capacitor", "linear"), colors(2)):
        times = encode.latency_times(x, tau=settings.tau, threshold=settings.threshold, linear=name == "linear")
        ax.plot(x, times, color=color, linewidth=1.8, label=name)
    ax.axvline(settings.threshold, color=ACCENT, linestyle="--", linewidth=1.2, label="threshold")
    ax.set(
        xscale="log", xlim=(float(x[0]), 1), ylim=(0, None), xlabel="Value of the pixel", ylabel="Spike time (steps)"
    )
    legend_beside(ax)


def _delta(sheet: _Sheet, settings: config.Gallery, codes: Codes) -> None:
    sheet.page.section(
        "Delta modulation",
        "Signals that change in time spike where they change: here by at least "
        f"{settings.change:g} from one step to the next.",
    )
    figure, [above, below] = _panels(2, height=4.6, sharex=True, height_ratios=(3, 2))
    open_frame(above)
    above.plot(settings.signal, "o-", color=INK, linewidth=1.4, markersize=4)
    above.set_ylabel("Signal")
    plot.raster({name: np.asarray(spikes) for name, spikes in codes.delta.items()}, ax=below)
    sheet.page.figure(
        "delta",
        figure,
        "A signal, and its spikes: a rise by the threshold fires, small steps leave no trace. A fall is lost, unless "
        "there are off-spikes, which count as -1 (red).",
        "A jagged signal above two rasters, the lower one with red marks where the signal falls",
    )


def _random(sheet: _Sheet, settings: config.Gallery, codes: Codes) -> None:
    sheet.page.section(
        "Random spikes",
        "Trains that encode nothing, a test input or background noise: at each step each pixel has a new probability "
        f"of a spike, between 0 and {settings.probability:g}.",
    )
    sheet.animation("random", codes.random, "random", "noise all over the image.")
    sheet.raster("random_raster", codes.random, "random", "No pixel and no step stands out.")


def _others(sheet: _Sheet, codes: Codes) -> None:
    sheet.page.section(
        "Other codes",
        "What jsnn.encode has beyond the tutorial: Poisson spikes at up to 200 Hz (1 ms a step), LIF neurons that the "
        "image drives as a constant current, bursts, the binary digits of each pixel in phases of 8 steps, and "
        "populations.",
    )
    figure, axes = _panels(6, 2, height=7.2, sharex=True, sharey=True)
    for ax, (name, spikes) in zip(axes, codes.levels.items()):
        _raster(spikes, name, "Grey level", ax=ax)
        ax.set_yticks(np.linspace(0, GREY_LEVELS - 1, 3), ["0", "0.5", "1"])
        ax.label_outer()
    sheet.page.figure(
        "levels",
        figure,
        f"{GREY_LEVELS} grey levels, from black at the bottom to white on top, in six codes: what a value becomes.",
        "Six rasters of rising grey levels",
    )
    read = codes.read()
    figure = _draw(plot.images, np.stack(list(read.values())), captions=list(read), height=2.9)
    sheet.page.figure(
        "reconstructions",
        figure,
        "What a receiver reads out of each: means over time, for latency the time of the spike, for phase the sum of "
        "the weighted digits. Random codes are noisy; the current's neurons stay silent below their threshold.",
        "The digit as each code gives it back",
    )
    figure, axes = _panels(2, height=4.4)
    _fields(axes[0])
    _raster(codes.population, "spikes of a value that rises from 0 to 1", "Neuron", ax=axes[1])
    sheet.page.figure(
        "population",
        figure,
        f"A value seen by {FIELDS} neurons, each with its favourite (above): as the value rises, one after the other "
        "takes over (below).",
        "Overlapping bell curves above a raster with a diagonal of spikes",
    )


def _fields(ax: Axes) -> None:
    x = jnp.linspace(0, 1, 300)
    open_frame(ax)
    ax.set_prop_cycle(color=colors(FIELDS))
    ax.plot(x, encode.receptive_fields(x, FIELDS), linewidth=1.6)
    ax.set(xlim=(0, 1), ylim=(0, None), xlabel="Value", ylabel="Probability of a spike")


def _costs(sheet: _Sheet, codes: Codes) -> None:
    sheet.page.section(
        "What they cost",
        "On hardware made for spikes each one costs energy, and the last one says how long the code takes to be read.",
    )
    sheet.page.table(codes.costs(), "The image in each code.")
