"""Draws figures/neurons.png of the page on neurons: what each of them makes of a current that goes on and off.

Run it from the root of the repository: `python docs/neuron_figures.py`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import jsnn
from jsnn.plot.canvas import ACCENT, FAINT, INK, PALETTE, open_frame

FILE = Path(__file__).parent / "figures" / "neurons.png"
STEPS = 200  # of 1 ms
ON, OFF = 20, 150


class Panel(NamedTuple):
    """One neuron, its current [T] or the height of a step, and how its states are read."""

    title: str
    neuron: jsnn.Neuron
    current: float | np.ndarray
    membrane: Callable[[Any], Any] | None = lambda states: states.v
    threshold: Callable[[Any], Any] | None = lambda _: 1.0


def pulses(height: float, *times: int) -> np.ndarray:
    """A current that is zero but at some times."""
    current = np.zeros(STEPS)
    current[list(times)] = height
    return current


def panels() -> list[Panel]:
    """Every spiking neuron, with a current to which it responds as is typical of it."""
    resonator = jsnn.ResonateAndFire.from_frequency(50.0, tau_mem=30e-3, dt=1e-3)
    lif = jsnn.LIF(0.95, gain=0.05)
    changes = np.diff(step(1.0) * np.sin(np.pi * (np.arange(STEPS) - ON) / (OFF - ON)), prepend=0.0)
    return [
        Panel("IF", jsnn.IF(), 0.06),
        Panel("LIF", lif, 1.3),
        Panel("CuBaLIF", jsnn.CuBaLIF(0.95, 0.9, gain=0.05), 0.13),
        Panel("ParametricLIF", jsnn.ParametricLIF.from_time_constants(20e-3, dt=1e-3), 1.3),
        Panel("Refractory(LIF)", jsnn.Refractory(lif, period=20), 1.8),
        Panel(
            "ALIF: the threshold adapts",
            jsnn.ALIF(0.95, 0.99, adaptation=0.25, gain=0.05),
            2.5,
            threshold=lambda states: 1.0 + 0.25 * states.adaptation,
        ),
        Panel("ConductanceLIF", jsnn.ConductanceLIF(), 0.0025),
        Panel("SRM0: nothing is reset", jsnn.SRM0(0.9, 0.8, 0.95, gain=0.1, refractory=1.5), 0.35),
        Panel("EIF", jsnn.EIF(0.95, sharpness=0.1, threshold=1.4, gain=0.05), 1.0, threshold=lambda _: 1.4),
        Panel("QIF", jsnn.QIF(0.9, threshold=1.4, gain=0.1), 0.4, threshold=lambda _: 1.4),
        Panel(
            "AdEx: the current adapts",
            jsnn.AdEx(0.95, 0.99, sharpness=0.1, threshold=1.4, gain=0.05, jump=0.3),
            2.2,
            threshold=lambda _: 1.4,
        ),
        Panel("AdQIF", jsnn.AdQIF(0.9, 0.99, threshold=1.4, gain=0.1, jump=0.15), 0.8, threshold=lambda _: 1.4),
        Panel("RefractoryLIF", jsnn.RefractoryLIF(tau_ref=8e-3), 1.5),
        Panel("AdaptiveRefractoryLIF", jsnn.AdaptiveRefractoryLIF(tau_adaptation=0.1, adaptation=0.03), 3.0),
        Panel(
            "Izhikevich, regular spiking (mV)",
            jsnn.Izhikevich.preset("regular_spiking"),
            10.0,
            threshold=lambda _: 30.0,
        ),
        Panel("Izhikevich, chattering (mV)", jsnn.Izhikevich.preset("chattering"), 10.0, threshold=lambda _: 30.0),
        Panel("ResonateAndFire: a step", resonator, 0.25),
        Panel("ResonateAndFire: pairs of pulses", resonator, pulses(0.8, 20, 40, 110, 120)),
        Panel("SlidingPSN", jsnn.SlidingPSN.of_order(16), 0.6),
        Panel("SigmaDelta: the sum", jsnn.SigmaDelta(threshold=0.1), changes, lambda states: states.sigma, None),
        Panel("SpikingActivation", jsnn.SpikingActivation(), 60.0),
        Panel("BurstIF: several spikes a step", jsnn.BurstIF(), step(80.0) + pulses(2500.0, 60, 110)),
        Panel("StochasticSpiking", jsnn.StochasticSpiking(jax.random.key(0)), 100.0, None, None),
        Panel("PoissonSpiking", jsnn.PoissonSpiking(jax.random.key(1)), 600.0, None, None),
    ]


def step(height: float) -> np.ndarray:
    """A current that is switched on and off, [T]."""
    time = np.arange(STEPS)
    return height * ((time >= ON) & (time < OFF))


def draw(ax: Axes, panel: Panel) -> None:
    """The current below, the membrane above it, the spikes on top."""
    current = panel.current if isinstance(panel.current, np.ndarray) else step(panel.current)
    states, outputs = run(panel.neuron, current)
    open_frame(ax)
    ax.set_title(panel.title, fontsize=9, loc="left")
    time = np.arange(STEPS)
    low, high, ticks = 0.0, 1.0, []
    if panel.membrane:
        v = np.ravel(panel.membrane(states))
        ax.plot(time, v, color=INK, linewidth=1.0)
        shown, ticks = [v], [round(float(v[0]), 2)]
        if panel.threshold:
            threshold = np.broadcast_to(np.ravel(panel.threshold(states)), STEPS)
            ax.plot(time, threshold, "--", color=FAINT, linewidth=0.8)
            shown.append(threshold)
            ticks.append(threshold[0])
        low, high = float(np.min(shown)), float(np.max(shown))
    else:
        ax.text(85, 0.5, "no membrane", ha="center", va="center", color=FAINT, fontsize=8)
    span = high - low
    foot, head = low - 0.32 * span, high + 0.22 * span
    ax.fill_between(
        time, foot, foot + 0.22 * span * current / np.abs(current).max(), color=PALETTE[0], alpha=0.6, step="mid"
    )
    fired = np.flatnonzero(outputs)
    ax.vlines(fired, head, head + 0.2 * span * outputs[fired] / np.abs(outputs).max(), color=ACCENT, linewidth=1.0)
    ax.set(xlim=(0, STEPS), ylim=(foot - 0.24 * span * (current.min() < 0), high + 0.46 * span))
    ax.set_yticks(ticks, [f"{tick:.2g}" for tick in ticks])
    ax.tick_params(labelsize=7)


def run(neuron: jsnn.Neuron, current: np.ndarray) -> tuple[Any, np.ndarray]:
    """The states after every step and the outputs [T]."""
    layer = next(iter(jsnn.record(neuron, jnp.asarray(current, jnp.float32)[:, None]).values()))
    states = layer.states.neuron if isinstance(neuron, jsnn.Refractory) else layer.states
    return states, np.asarray(layer.outputs)[:, 0]


def main() -> None:
    """Draw all panels into one picture."""
    figure = Figure(figsize=(10, 11), layout="constrained")
    axes = figure.subplots(6, 4, sharex=True)
    for ax, panel in zip(axes.flat, panels(), strict=True):
        draw(ax, panel)
    for ax in axes[-1]:
        ax.set_xlabel("Time (ms)", fontsize=8)
    FILE.parent.mkdir(exist_ok=True)
    figure.savefig(FILE, dpi=110)


if __name__ == "__main__":
    main()
