"""Brunel's balanced network: 12,500 neurons with 1,250 random synapses each, in the asynchronous irregular state.

    python examples/brunel.py                # the whole network, for 1 s of its time
    python examples/brunel.py --scale 0.2    # a fifth of the neurons and of the synapses of each, which are stronger

10,000 excitatory and 2,500 inhibitory leaky integrate-and-fire neurons. Each has synapses from a tenth of both, with a
delay of 1.5 ms, and Poisson input from outside whose mean is twice what reaches the threshold. A spike moves the
membranes of its targets by 0.1 mV or -0.5 mV. Inhibition outweighs excitation and holds the mean below the threshold:
neurons spike by fluctuations, about 37 times a second, irregularly.

Source: Brunel, "Dynamics of sparsely connected networks of excitatory and inhibitory spiking neurons" (2000), Fig. 8C.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jsnn

DT, TAU, THRESHOLD, RESET = 1e-4, 20e-3, 20.0, 10.0  # s, s, mV, mV
DELAY, REFRACTORY = 15, 20  # steps
EXCITATORY, INHIBITORY, SHARE = 10_000, 2_500, 0.1  # neurons; of them, those that a neuron has synapses from
WEIGHT, INHIBITION, DRIVE = 0.1, 5.0, 2.0  # mV; how much stronger inhibition is; input in units of the threshold
STEPS = 100  # in one call of unroll, so that the input of all time need not be held


class Synapses(nnx.Module):
    """What all neurons get from the spikes of all, [B, N] -> [B, N]."""

    def __init__(self, scale: float, rngs: nnx.Rngs) -> None:
        sizes = [round(scale * size) for size in (EXCITATORY, INHIBITORY)]
        weights = [WEIGHT / scale, -INHIBITION * WEIGHT / scale]
        self.excitatory, self.inhibitory = (
            jsnn.Sparse.random(size, sum(sizes), fan_in=round(SHARE * size), kernel_init=w, use_bias=False, rngs=rngs)
            for size, w in zip(sizes, map(nnx.initializers.constant, weights))
        )

    def __call__(self, spikes: jax.Array) -> jax.Array:
        size = self.excitatory.in_features
        return self.excitatory(spikes[..., :size]) + self.inhibitory(spikes[..., size:])


def make_network(scale: float = 1.0, seed: int = 0) -> jsnn.Recurrent:
    """Return the network, a Neuron that takes the input from outside."""
    lif = jsnn.LIF.from_time_constants(TAU, dt=DT, threshold=THRESHOLD, reset="zero", v_reset=RESET)
    return jsnn.Recurrent(jsnn.Refractory(lif, REFRACTORY), Synapses(scale, nnx.Rngs(seed)), delay=DELAY)


def poisson(key: jax.Array, mean: float, shape: tuple[int, ...]) -> jax.Array:
    """Return Poisson numbers of one small mean, their probabilities rounded to 16 bits."""
    share = np.exp(-mean) * np.cumprod([1.0, *(mean / np.arange(1, 10 * mean + 20))])  # of 0, 1, 2, ...
    bits, above = jax.random.bits(key, shape, jnp.uint16), np.round(2**16 * np.cumsum(share))
    return sum((bits >= t).astype(jnp.uint8) for t in above[above < 2**16].astype(np.uint16)).astype(jnp.float32)


def simulate(network: jsnn.Recurrent, key: jax.Array, seconds: float, scale: float = 1.0) -> jax.Array:
    """Return the spikes of all neurons, [T, N]."""
    weight, size = WEIGHT / scale, round(scale * EXCITATORY) + round(scale * INHIBITORY)
    mean = DRIVE * THRESHOLD / (weight * TAU) * DT

    def run(state, key):
        drive = weight * poisson(key, mean, (STEPS, 1, size))
        state, spikes = jsnn.unroll(network, drive, state)
        return state, spikes[:, 0] > 0

    keys = jax.random.split(key, round(seconds / DT / STEPS))
    return jax.lax.scan(run, network.init((1, size)), keys)[1].reshape(-1, size)


def statistics(neurons: np.ndarray, times: np.ndarray, size: int, seconds: float) -> tuple[float, float]:
    """Return the mean rate in Hz and the mean coefficient of variation of the intervals between a neuron's spikes."""
    order = np.lexsort((times, neurons))
    trains = np.split(times[order], np.searchsorted(neurons[order], np.arange(1, size)))
    intervals = [np.diff(train) for train in trains if len(train) > 10]
    return len(times) / size / seconds, float(np.mean([np.std(each) / np.mean(each) for each in intervals]))


def main(scale: float = 1.0, seconds: float = 1.0) -> tuple[float, float]:
    """Simulate the network and say what it does."""
    network = make_network(scale)
    key = jax.random.key(1, impl="rbg")  # half of the time goes into random numbers with JAX's default
    run = jax.jit(simulate, static_argnames=("seconds", "scale")).lower(network, key, seconds, scale).compile()
    start, spikes = time.perf_counter(), np.asarray(run(network, key))
    print(f"{seconds:g} s of {spikes.shape[1]:,} neurons took {time.perf_counter() - start:.1f} s")
    steps, neurons = np.nonzero(spikes)
    rate, variation = statistics(neurons, DT * steps, spikes.shape[1], seconds)
    print(f"mean rate {rate:.1f} Hz, coefficient of variation of the intervals {variation:.2f}")
    return rate, variation


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("--scale", "--seconds"):
        parser.add_argument(name, type=float, default=1.0)
    main(**vars(parser.parse_args()))
