"""Brunel's balanced network, 12,500 neurons with 1,250 synapses each, for 1 s of its time: `examples/brunel.py`.

The peer is Brian2, in an interpreter of its own that `--brian2` names: `pip install brian2 'numpy<2.3'`. It gets the
same synapses, and draws its input itself. What is timed is its Cython runtime. The C++ program that it can make, whose
start cannot be told from its loop from outside, reports the processor time of its loop on one core, in the notes. Rates
and coefficients of variation are those of the first run of both.
"""

import functools
import json
import runpy
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.benchmark.side import Comparison, Setting, Side, jax_side

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "brunel.py"
_TOLERANCE = 0.05  # of a rate, and of a coefficient of variation


def comparisons(setting: Setting, *, scale: float = 1.0, steps: int = 10_000, brian2: str = "") -> Iterator[Comparison]:
    """Return one comparison."""
    example = runpy.run_path(str(EXAMPLE))
    network, key, seconds = example["make_network"](scale), jax.random.key(1, impl="rbg"), steps * example["DT"]
    simulate = functools.partial(example["simulate"], seconds=seconds, scale=scale)
    sides, notes = {"jsnn": jax_side(simulate, network, key)}, []
    if brian2:
        spikes = np.asarray(sides["jsnn"].run())
        size = spikes.shape[1]
        times, neurons = np.nonzero(spikes)
        ours = example["statistics"](neurons, times * example["DT"], size, seconds)
        path = Path(tempfile.mkdtemp()) / "synapses.npz"
        np.savez(path, **synapses_of(example, network, scale))
        child = Brian2(brian2, path, "cython")
        answer = child.run(seconds)
        theirs = example["statistics"](*child.spikes(), size, seconds)
        notes.append(f"brian2 {answer['version']}: {verdict(ours, theirs)}")
        notes.append(f"brian2 in C++: {Brian2(brian2, path, 'cpp_standalone').run(seconds)['seconds']:.1f} s of CPU")
        sides["brian2"] = Side(lambda: child.run(seconds)["spikes"], "peer")
    yield Comparison(f"{network.synapse.excitatory.out_features:,} neurons, {seconds:g} s", sides, tuple(notes))


def synapses_of(example: dict[str, Any], network: Any, scale: float) -> dict[str, Any]:
    """Return the network's numbers and synapses, as the peer takes them."""
    weight, dt = example["WEIGHT"] / scale, example["DT"]
    found = {
        "size": network.synapse.excitatory.out_features,
        "dt": dt,
        "tau": example["TAU"],
        "threshold": example["THRESHOLD"],
        "reset": example["RESET"],
        "refractory": example["REFRACTORY"] * dt,
        "delay": example["DELAY"] * dt,
        "weight": weight,
        "mean": example["DRIVE"] * example["THRESHOLD"] / (weight * example["TAU"]) * dt,
        "excitatory_weight": weight,
        "inhibitory_weight": -example["INHIBITION"] * weight,
    }
    for name in ("excitatory", "inhibitory"):
        layer = getattr(network.synapse, name)
        found |= {name: layer.in_features, f"{name}_pre": layer.pre, f"{name}_post": layer.post}
    return {name: np.asarray(value) for name, value in found.items()}


def verdict(ours: tuple[float, float], theirs: tuple[float, float]) -> str:
    """Return in words whether rates and coefficients of variation are the same.

    >>> verdict((37.0, 0.5), (37.4, 0.5))
    'same within 5%: 37.0 Hz and 37.4 Hz, CV 0.500 and 0.500'
    """
    is_same = all(abs(a - b) <= _TOLERANCE * abs(a) for a, b in zip(ours, theirs, strict=True))
    words = f"same within {_TOLERANCE:.0%}" if is_same else f"DIFFERENT by more than {_TOLERANCE:.0%}"
    return f"{words}: {ours[0]:.1f} Hz and {theirs[0]:.1f} Hz, CV {ours[1]:.3f} and {theirs[1]:.3f}"


class Brian2:
    """Brian2 in its own process, which keeps its network."""

    def __init__(self, python: str, path: Path, target: str) -> None:
        script = Path(__file__).with_name("brunel_brian2.py")
        arguments = [python, "-E", str(script), str(path), target]  # without our PYTHONPATH
        self.path = path
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, seconds: float) -> dict[str, Any]:
        """Return what it says of so many seconds of the network's time.

        Raises:
            RuntimeError: if it fails.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(seconds, file=self.process.stdin, flush=True)
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"Brian2 stopped with exit code {self.process.wait()}: see above")

    def spikes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the neurons and the times of its spikes in all runs."""
        with np.load(f"{self.path}.spikes.npz") as found:
            return found["neurons"], found["times"]
