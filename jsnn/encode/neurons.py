"""Values as currents: into a LIF neuron each, whose spikes are the code, or into the network itself."""

import jax.numpy as jnp

from jsnn.arguments import checked
from jsnn.encode.checks import check_num_steps, floating
from jsnn.encode.latencies import spike_latency
from jsnn.neurons import LIF
from jsnn.neurons.checks import check_positive
from jsnn.surrogate import superspike
from jsnn.types import Array, Parameter, SpikeFunction
from jsnn.unrolling import unroll

SUPERSPIKE = superspike(100.0)  # Norse's default


@checked
def constant_current(
    x: Array,
    *,
    num_steps: int,
    tau_mem: float = 1e-2,
    dt: float = 1e-3,
    threshold: Parameter = 1.0,
    surrogate: SpikeFunction = SUPERSPIKE,
) -> Array:
    """Return the spikes of a LIF neuron that receives each value as a constant current; [B, ...] -> [T, B, ...].

        v = v + dt/tau_mem * (x - v),  s = H(v - threshold),  v = 0 after a spike;  v starts at 0

    The membrane approaches `x`, so that a value at or below the threshold never spikes, and a larger one
    spikes earlier and more often. Differentiable through `surrogate`, through the reset as well. For another
    neuron call `unroll(neuron, x, num_steps=T)`, of which this is a case.

    Source: Norse's `ConstantCurrentLIFEncoder`, whose defaults these are.

    Args:
        x: the currents, in the unit of the threshold.
        num_steps: T.
        tau_mem: the membrane's time constant, in s.
        dt: the length of a step, in s; at most `tau_mem`.
        threshold: the membrane potential above which the neuron spikes.
        surrogate: the derivative of a spike, see `jsnn.surrogate`.

    Raises:
        ValueError: if `num_steps` is less than 1; if `tau_mem`, `dt` or `threshold` is not positive; if `dt`
            exceeds `tau_mem`.

    Examples:
        >>> constant_current(jnp.array([0.9, 4.0]), num_steps=6)
        Array([[0., 0.],
               [0., 0.],
               [0., 1.],
               [0., 0.],
               [0., 0.],
               [0., 1.]], dtype=float32)
    """
    x = floating(x)
    check_positive("tau_mem", tau_mem)
    neuron = LIF.from_time_constants(
        tau_mem,
        dt=dt,
        discretization="euler",
        gain=dt / tau_mem,
        threshold=threshold,
        reset="zero",
        surrogate=surrogate,
    )
    _, spikes = unroll(neuron, x, num_steps=num_steps)
    return spikes


@checked
def spike_latency_lif(
    x: Array,
    *,
    num_steps: int,
    tau_mem: float = 1e-2,
    dt: float = 1e-3,
    threshold: Parameter = 1.0,
    surrogate: SpikeFunction = SUPERSPIKE,
) -> Array:
    """Return the first spike of each neuron of `constant_current`: the larger, the earlier; [B, ...] -> [T, B, ...].

    Arguments and errors are those of `constant_current`, the gradient that of `spike_latency`.
    Source: Norse's `SpikeLatencyLIFEncoder`.

    Examples:
        >>> jnp.argmax(spike_latency_lif(jnp.array([1.5, 2.0, 4.0]), num_steps=20), axis=0).tolist()
        [10, 6, 2]
    """
    spikes = constant_current(x, num_steps=num_steps, tau_mem=tau_mem, dt=dt, threshold=threshold, surrogate=surrogate)
    return spike_latency(spikes)


@checked
def repeat(x: Array, *, num_steps: int) -> Array:
    """Return the same values at every step, of any dtype; [B, ...] -> [T, B, ...].

    A network needs no such copy: `unroll(network, x, num_steps=T)` gives the same result, and computes what
    comes before its first neuron once instead of T times.

    Examples:
        >>> repeat(jnp.array([1.0, 2.0]), num_steps=2).tolist()
        [[1.0, 2.0], [1.0, 2.0]]
    """
    check_num_steps(num_steps, x.shape)
    x = jnp.asarray(x)
    return jnp.broadcast_to(x, (num_steps, *x.shape))
