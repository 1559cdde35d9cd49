"""Brunel's network in Brian2, run by an interpreter of its own: it needs an older NumPy than JAX does.

    python brunel_brian2.py SYNAPSES.npz TARGET

Each line on its input asks for so many seconds of the network's time; the answer is a line of JSON. TARGET is "cython",
whose network goes on where it was, or "cpp_standalone", a program of C++ that is compiled and run once.
"""

import json
import sys
import tempfile
import time
from typing import Any

import brian2 as b
import numpy as np


def network(synapses: Any) -> tuple[b.Network, b.SpikeMonitor]:
    """Return the network as Brian2's documentation has it, but for the synapses, which are given."""
    size = int(synapses["size"])
    b.defaultclock.dt = float(synapses["dt"]) * b.second
    parameters = {name: float(synapses[name]) for name in ("tau", "threshold", "reset", "weight", "mean")}
    neurons = b.NeuronGroup(
        size,
        "dv/dt = -v / tau : 1 (unless refractory)",
        threshold="v > threshold",
        reset="v = reset",
        refractory=float(synapses["refractory"]) * b.second,
        method="exact",
        namespace=parameters | {"tau": parameters["tau"] * b.second},
    )
    parts: list[Any] = [neurons]
    for name, first in (("excitatory", 0), ("inhibitory", int(synapses["excitatory"]))):
        last = first + int(synapses[name])
        weight = float(synapses[f"{name}_weight"])
        part = b.Synapses(
            neurons[first:last], neurons, on_pre=f"v_post += {weight}", delay=float(synapses["delay"]) * b.second
        )
        part.connect(i=synapses[f"{name}_pre"], j=synapses[f"{name}_post"])
        parts.append(part)
    inputs = 1000  # to each neuron, whose spikes together are as many as a Poisson number
    rate = parameters["mean"] / inputs / float(synapses["dt"]) * b.Hz
    parts.append(b.PoissonInput(neurons, "v", inputs, rate, weight=parameters["weight"]))
    monitor = b.SpikeMonitor(neurons)
    return b.Network(*parts, monitor), monitor


def main(path: str, target: str) -> None:
    """Answer until the input ends."""
    b.seed(1)
    if target == "cython":
        b.prefs.codegen.target = "cython"
    else:
        b.set_device(target, directory=tempfile.mkdtemp(), build_on_run=True)
    net, monitor = network(np.load(path))
    for number, line in enumerate(sys.stdin):
        start = time.perf_counter()
        net.run(float(line) * b.second)
        seconds = time.perf_counter() - start
        if target != "cython":
            seconds = b.device._last_run_time  # of the loop over time, without compiling and making synapses
        if number == 0:
            np.savez(f"{path}.spikes.npz", neurons=np.asarray(monitor.i), times=np.asarray(monitor.t / b.second))
        answer = {"seconds": seconds, "spikes": int(monitor.num_spikes), "version": b.__version__}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
