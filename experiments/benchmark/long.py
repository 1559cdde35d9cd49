"""Runs of 100 to 20,000 steps: time and memory of forward+backward as they grow, with and without `remat`.

The network is dense 32-N, LIF, dense N-10, LI; the loss is the mean square of the outputs, its gradient that of all
weights. "us a step" that stays the same means time linear in T. "memory" is the plan of the compiled program; for the
longest run, a process of its own says how much really was taken.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import jsnn
from experiments.benchmark.side import Comparison, Setting, compiled, jax_side
from jsnn.types import Array

_INPUTS, _OUTPUTS = 32, 10


def comparisons(
    setting: Setting,
    *,
    lengths: Sequence[int] = (100, 1_000, 5_000, 20_000),
    neurons: Sequence[int] = (1_000,),
    batch_size: int = 4,
) -> Iterator[Comparison]:
    """Return all lengths, with and without `remat`."""
    for size in neurons:
        sides = {}
        for length in lengths:
            for remat in (False, True):
                name = f"T={length:,}{', remat' * remat}"
                sides[name] = jax_side(
                    *gradient(length, batch_size, size, remat),
                    details=lambda seconds, length=length: {"us a step": 1e6 * seconds / length},
                )
        longest = f"T={max(lengths):,}"
        planned = [sides[name].memory_bytes or 0 for name in (longest, f"{longest}, remat")]
        notes = [f"{longest}: {memory_note(planned)} as planned"]
        if setting.device.platform == "cpu":
            measured = [measured_peak(max(lengths), batch_size, size, remat) for remat in (False, True)]
            notes.append(f"{longest}: {memory_note(measured)} as measured in a process of its own")
        yield Comparison(f"{size:,} neurons, batch {batch_size}, forward+backward", sides, tuple(notes))


def gradient(length: int, batch_size: int, neurons: int, remat: bool) -> tuple[Any, ...]:
    """Return a function that gives the loss and its gradient, and its arguments: weights and spikes [T, B, 32]."""
    rngs = nnx.Rngs(0)
    network = jsnn.Sequential(
        nnx.Linear(_INPUTS, neurons, rngs=rngs), jsnn.LIF(0.9), nnx.Linear(neurons, _OUTPUTS, rngs=rngs), jsnn.LI(0.9)
    )
    graph, weights = nnx.split(network)

    def loss(weights: nnx.State, spikes: Array) -> Array:
        return jnp.mean(jsnn.unroll(nnx.merge(graph, weights), spikes, remat=remat)[1] ** 2)

    spikes = jax.random.bernoulli(jax.random.key(0), 0.2, (length, batch_size, _INPUTS)).astype(jnp.float32)
    return jax.value_and_grad(loss), weights, spikes


def memory_note(peaks: Sequence[int]) -> str:
    """Return the peaks without and with `remat`, in words.

    >>> memory_note([1_000_000_000, 20_000_000])
    '1,000 MB, with remat 20 MB, 1/50 of it,'
    """
    whole, chunks = peaks
    return f"{whole / 1e6:,.0f} MB, with remat {chunks / 1e6:,.0f} MB, 1/{whole / chunks:.0f} of it,"


def measured_peak(*case: Any) -> int:
    """Return the bytes that a run took at its peak, in a process of its own that has done nothing else."""
    code = f"from experiments.benchmark import long; long.print_peak{case}"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the process that was to measure memory failed: {done.stderr[-500:]}")
    return int(done.stdout)


def print_peak(*case: Any) -> None:
    """What `measured_peak` runs: the memory that the process grew by in the first call, and its arguments."""
    function, *arguments = gradient(*case)
    program = compiled(function, *arguments)
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # starts the count of the peak anew
    jax.block_until_ready(program.call(*arguments))
    print(_memory("VmHWM") - before + sum(leaf.nbytes for leaf in jax.tree.leaves(arguments)))


def _memory(name: str) -> int:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(lines[name].split()[0])
