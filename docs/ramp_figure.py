"""Draws figures/lif_ramp.png of the page on neurons: one LIF under a ramp in three libraries, and its exact solution.

It needs Norse and snnTorch (`pip install "jsnn[peers]"`). Run it from the root of the repository:
`python docs/ramp_figure.py`. It prints the differences that the page names.
"""

import math
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import norse.torch as norse
import numpy as np
import snntorch
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import brentq

import jsnn
from jsnn.plot.canvas import FAINT, INK, PALETTE, legend_beside, open_frame

FILE = Path(__file__).parent / "figures" / "lif_ramp.png"
TAU, DT, STEPS = 10.0, 1.0, 100  # ms
SLOPE = 0.02  # of the current, thresholds per ms
TIME = DT * np.arange(1, STEPS + 1)  # the ends of the steps
CURRENT = SLOPE * (TIME - DT / 2)  # its mean over each step


class Response(NamedTuple):
    """What a neuron did."""

    v: np.ndarray  # [T], at the ends of the steps
    spikes: np.ndarray  # their times in ms


def exact() -> Response:
    """The solution of TAU dv/dt = SLOPE t - v with v = 0 at 0 and after each time at which v reaches 1."""

    def v_since(start: float, time: np.ndarray | float) -> np.ndarray | float:
        lagging = SLOPE * (start - TAU)
        return SLOPE * (time - TAU) - lagging * np.exp((start - time) / TAU)

    starts, end = [0.0], TIME[-1]
    while v_since(starts[-1], end) > 1:  # it rises from every start on, so it crosses once
        starts.append(brentq(lambda time: v_since(starts[-1], time) - 1, starts[-1], end, xtol=1e-12))
    last = np.asarray(starts)[np.searchsorted(starts, TIME, side="right") - 1]
    return Response(np.asarray(v_since(last, TIME)), np.asarray(starts[1:]))


def in_jsnn(discretization: str) -> Response:
    """The LIF of jsnn; `gain` makes a constant current the potential that is approached."""
    decay = jsnn.LIF.from_time_constants(TAU, dt=DT, discretization=discretization).decay
    neuron = jsnn.LIF(decay, gain=1 - decay, reset="zero")
    layer = jsnn.record(neuron, jnp.asarray(CURRENT, jnp.float32)[:, None])["LIF"]
    return _response(layer.states.v, layer.outputs)


def in_norse() -> Response:
    """Norse's LIF without a synapse, which it has as an encoder of currents."""
    parameters = norse.LIFParameters(tau_mem_inv=torch.tensor(1e3 / TAU))
    encoder = norse.functional.lif.lif_current_encoder
    v, potentials, spikes = torch.zeros(1), [], []
    for current in torch.tensor(CURRENT, dtype=torch.float32):
        fired, v = encoder(current, v, parameters, dt=1e-3 * DT)
        potentials.append(v.item())
        spikes.append(fired.item())
    return _response(potentials, spikes)


def in_snntorch() -> Response:
    """The Leaky of snnTorch, whose current is scaled by hand; it hands out v before its reset."""
    beta = math.exp(-DT / TAU)
    neuron = snntorch.Leaky(beta, reset_mechanism="zero")
    v, potentials, spikes = torch.zeros(1), [], []
    for current in torch.tensor(CURRENT, dtype=torch.float32):
        fired, v = neuron((1 - beta) * current, v)
        potentials.append(v.item())
        spikes.append(fired.item())
    return _response(potentials, spikes)


def _response(v: object, outputs: object) -> Response:
    return Response(np.ravel(v).astype(float), TIME[np.flatnonzero(np.ravel(outputs))])


def draw(ax: Axes, spikes: Axes, below: Axes, truth: Response, responses: dict[str, Response]) -> None:
    """Membranes and spikes, and below how far the membranes are off."""
    styles = ({"linestyle": "-"}, {"linestyle": "-"}, {"marker": "x"}, {"marker": "o", "markerfacecolor": "none"})
    for axes in (ax, spikes, below):
        open_frame(axes)
    ax.plot(TIME, SLOPE * TIME, ":", color=FAINT, label="current")
    ax.axhline(1.0, linestyle="--", color=FAINT, linewidth=0.8, label="threshold")
    fine, v = _with_resets(truth)
    ax.plot(fine, v, color=INK, alpha=0.25, linewidth=5, label="exact solution")
    spikes.vlines(truth.spikes, -0.4, len(responses) + 0.4, color=INK, alpha=0.25, linewidth=3)
    for row, (style, colour, (name, response)) in enumerate(zip(styles, PALETTE, responses.items())):
        style = {"linestyle": "none", "linewidth": 1.4, "markersize": 4.5, "color": colour} | style
        ax.plot(TIME, response.v, label=name, **style)
        below.plot(TIME, np.abs(response.v - truth.v), **style)
        spikes.vlines(response.spikes, row + 0.6, row + 1.4, color=colour, linewidth=2)
    spikes.set_yticks([0, *range(1, len(responses) + 1)], ["exact solution", *responses])
    spikes.invert_yaxis()
    spikes.grid(visible=False)
    ax.set_ylabel("Membrane potential")
    below.set(yscale="log", ylim=(1e-5, 3), ylabel="|v - exact solution|", xlabel="Time (ms)", xlim=(0, TIME[-1] + 0.5))
    legend_beside(ax)


def _with_resets(truth: Response) -> tuple[np.ndarray, np.ndarray]:
    """The exact solution with its peaks at 1 and its falls to 0."""
    time = np.concatenate([TIME, truth.spikes, truth.spikes])
    v = np.concatenate([truth.v, np.ones_like(truth.spikes), np.zeros_like(truth.spikes)])
    order = np.argsort(time, kind="stable")
    return time[order], v[order]


def report(truth: Response, responses: dict[str, Response]) -> None:
    """The numbers that the page names."""
    print("exact spikes (ms):", truth.spikes.round(3))
    silent = truth.spikes[0] > TIME
    for name, response in responses.items():
        off = np.abs(response.v - truth.v)
        both = min(len(truth.spikes), len(response.spikes))
        late = response.spikes[:both] - truth.spikes[:both]
        print(
            f"{name}: before the first spike {off[silent].max():.2e}, in all {off.max():.3f}, late {late.round(2)} ms"
        )


def main() -> None:
    """Run all neurons, draw the figure and print the report."""
    truth = exact()
    responses = {
        "jsnn, exact": in_jsnn("exact"),
        "jsnn, Euler": in_jsnn("euler"),
        "Norse": in_norse(),
        "snnTorch": in_snntorch(),
    }
    figure = Figure(figsize=(9, 7.5), layout="constrained")
    draw(*figure.subplots(3, 1, sharex=True, height_ratios=(3, 1.2, 2)), truth, responses)
    FILE.parent.mkdir(exist_ok=True)
    figure.savefig(FILE, dpi=120)
    report(truth, responses)


if __name__ == "__main__":
    main()
