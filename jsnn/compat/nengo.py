"""nengo's neurons and synapses by nengo's parameter names: the same numbers, step by step.

nengo's neuron types take the current J = gain * input + bias: gain and bias belong to the layer before, here as there.
The rate functions are elementwise, J -> rate in Hz, and make a spiking neuron in `regular_spiking`,
`stochastic_spiking` and `poisson_spiking`; for other than the default parameters, use `functools.partial`. Two things
that belong to nengo's simulator are arguments here: `dt`, the length of a step in s, and `initial_voltage`, a number,
an array or a key made by `jax.random.key`. nengo draws the initial voltage uniformly from [0, 1) unless told otherwise
(as a key does here); the default here is 0.0.

nengo's own names lead to the same functions: `LIF` is `lif`, and so on, but for the rates, which are functions here.

In training the neurons put out spikes forwards, and have the derivative of their rate backwards. NengoDL trains with
the rate in both directions: for that, put `jsnn.Rate(rectified_linear)` in their place.

Source: nengo 3.2.0 (Bekolay et al., "Nengo: a Python tool for building large-scale functional brain models", 2014).
Held to its outputs by `tests/test_compat_nengo.py`.
"""

import jax
import jax.numpy as jnp

from jsnn import filters, neurons
from jsnn.arguments import check_memory, checked
from jsnn.compat import nengo_neurons
from jsnn.neurons.checks import check_not_negative, check_positive
from jsnn.neurons.spiking_activation import Activation
from jsnn.types import Array, Parameter

__all__ = [
    "LIF",
    "AdaptiveLIF",
    "Alpha",
    "Izhikevich",
    "Lowpass",
    "PoissonSpiking",
    "RegularSpiking",
    "SpikingRectifiedLinear",
    "StochasticSpiking",
    "Triangle",
    "adaptive_lif",
    "alpha",
    "izhikevich",
    "lif",
    "lif_rate",
    "lowpass",
    "poisson_spiking",
    "rectified_linear",
    "regular_spiking",
    "sigmoid",
    "spiking_rectified_linear",
    "stochastic_spiking",
    "tanh",
    "triangle",
]


@checked
def rectified_linear(J: Array, amplitude: float = 1.0) -> Array:
    """Return `RectifiedLinear` of nengo: `amplitude * max(J, 0)`."""
    check_positive("amplitude", amplitude)
    return amplitude * jax.nn.relu(J)


@checked
def sigmoid(J: Array, tau_ref: float = 0.0025) -> Array:
    """Return `Sigmoid` of nengo: `1 / (1 + exp(-J)) / tau_ref`, which is 1 / tau_ref Hz at most."""
    check_positive("tau_ref", tau_ref)
    return jax.nn.sigmoid(jnp.asarray(J, jnp.result_type(J, float))) / tau_ref


@checked
def tanh(J: Array, tau_ref: float = 0.0025) -> Array:
    """Return `Tanh` of nengo: `tanh(J) / tau_ref`, between -1 / tau_ref and 1 / tau_ref Hz."""
    check_positive("tau_ref", tau_ref)
    return jnp.tanh(J) / tau_ref


@checked
def lif_rate(J: Array, tau_rc: float = 0.02, tau_ref: float = 0.002, amplitude: float = 1.0) -> Array:
    """Return `LIFRate` of nengo: `jsnn.neurons.lif_rate`, with gradients that stay finite.

    Examples:
        >>> lif_rate(jnp.array([1.0, 1.5, 10.0])).round(1).tolist()
        [0.0, 41.7..., 243.5...]
    """
    check_positive("tau_rc", tau_rc)
    check_not_negative("tau_ref", tau_ref)
    check_positive("amplitude", amplitude)
    return neurons.lif_rate(J, tau_rc, tau_ref, amplitude)


@checked
def spiking_rectified_linear(
    *, amplitude: float = 1.0, initial_voltage: Parameter = 0.0, dt: Parameter = 1e-3
) -> neurons.SpikingActivation:
    """Return `SpikingRectifiedLinear` of nengo; `initial_voltage` is 0.0 here, uniformly random there.

    Examples:
        >>> import jsnn
        >>> state, outputs = jsnn.unroll(spiking_rectified_linear(dt=0.1), jnp.full((8, 1), 3.75))
        >>> outputs[:, 0].tolist()
        [0.0, 0.0, 10.0, 0.0, 0.0, 10.0, 0.0, 10.0]
    """
    return neurons.SpikingActivation(jax.nn.relu, dt, amplitude=amplitude, v_init=initial_voltage)


@checked
def regular_spiking(
    base_type: Activation, *, amplitude: float = 1.0, initial_voltage: Parameter = 0.0, dt: Parameter = 1e-3
) -> neurons.SpikingActivation:
    """Return `RegularSpiking` of nengo; `initial_voltage` is 0.0 here, uniformly random there.

    `base_type` is the function from current to rate in Hz, such as `lif_rate`.
    """
    return neurons.SpikingActivation(base_type, dt, amplitude=amplitude, v_init=initial_voltage)


@checked
def stochastic_spiking(
    key: Array, base_type: Activation, *, amplitude: float = 1.0, dt: Parameter = 1e-3
) -> neurons.StochasticSpiking:
    """Return `StochasticSpiking` of nengo: at each step the number of spikes is rounded up or down at random."""
    return neurons.StochasticSpiking(key, base_type, dt, amplitude=amplitude)


@checked
def poisson_spiking(
    key: Array, base_type: Activation, *, amplitude: float = 1.0, dt: Parameter = 1e-3
) -> neurons.PoissonSpiking:
    """Return `PoissonSpiking` of nengo. Negative rates count as 0; nengo refuses them."""
    return neurons.PoissonSpiking(key, base_type, dt, amplitude=amplitude)


@checked
def lif(
    *,
    tau_rc: Parameter = 0.02,
    tau_ref: Parameter = 0.002,
    min_voltage: Parameter = 0.0,
    amplitude: float = 1.0,
    initial_voltage: Parameter = 0.0,
    dt: Parameter = 1e-3,
) -> neurons.RefractoryLIF:
    """Return `LIF` of nengo; `initial_voltage` is 0.0 here, uniformly random there.

    Examples:
        >>> lif(tau_rc=0.03).tau_mem
        0.03
    """
    return neurons.RefractoryLIF(
        dt, tau_mem=tau_rc, tau_ref=tau_ref, min_voltage=min_voltage, amplitude=amplitude, v_init=initial_voltage
    )


@checked
def adaptive_lif(
    *,
    tau_n: Parameter = 1.0,
    inc_n: Parameter = 0.01,
    tau_rc: Parameter = 0.02,
    tau_ref: Parameter = 0.002,
    min_voltage: Parameter = 0.0,
    amplitude: float = 1.0,
    initial_voltage: Parameter = 0.0,
    dt: Parameter = 1e-3,
) -> neurons.AdaptiveRefractoryLIF:
    """Return `AdaptiveLIF` of nengo; `initial_voltage` is 0.0 here, uniformly random there.

    Examples:
        >>> adaptive_lif(inc_n=0.02).adaptation
        0.02
    """
    return neurons.AdaptiveRefractoryLIF(
        dt, tau_adaptation=tau_n, adaptation=inc_n, tau_mem=tau_rc, tau_ref=tau_ref, min_voltage=min_voltage,
        amplitude=amplitude, v_init=initial_voltage,
    )  # fmt: skip


@checked
def izhikevich(
    *,
    tau_recovery: Parameter = 0.02,
    coupling: Parameter = 0.2,
    reset_voltage: Parameter = -65.0,
    reset_recovery: Parameter = 8.0,
    initial_voltage: Parameter = 0.0,
    initial_recovery: Parameter = 0.0,
    dt: Parameter = 1e-3,
) -> neurons.Izhikevich:
    """Return `Izhikevich` of nengo: currents below -30 count as -30, and a spike is 1 / dt high.

    `initial_voltage`, in mV, is 0.0 here, uniformly random from [0, 1) there. A membrane at exactly 30 mV spikes
    there, not here.

    Examples:
        >>> izhikevich(reset_voltage=-50.0, reset_recovery=2.0).v_reset  # chattering
        -50.0
    """
    return nengo_neurons.Izhikevich(
        tau_recovery, coupling, reset_recovery, dt=dt, v_reset=reset_voltage,
        v_init=initial_voltage, u_init=initial_recovery,
    )  # fmt: skip


@checked
def lowpass(
    tau: float, *, dt: float = 1e-3, initial_level: Parameter = 0.0, delay: bool | None = None
) -> filters.Lowpass:
    """Return `Lowpass` of nengo, which passes its input through where `tau <= 0.03 * dt`.

    `initial_level` is what nengo's `filt` calls y0. `delay` adds the step by which each connection with a synapse is
    late in nengo's simulator; None, the default, adds it in a network that `jsnn.convert` makes, and nowhere else.

    Examples:
        >>> lowpass(0.005).tau
        0.005
    """
    return filters.Lowpass(_tau(tau, dt), dt, initial_level, delay)


@checked
def alpha(tau: float, *, dt: float = 1e-3, initial_level: Parameter = 0.0, delay: bool | None = None) -> filters.Alpha:
    """Return `Alpha` of nengo; see `lowpass` for the arguments.

    nengo keeps a transfer function with the coefficients of the past two steps, `jsnn.filters.Alpha` the levels after
    each of two lowpass filters: the same outputs.
    """
    return filters.Alpha(_tau(tau, dt), dt, initial_level, delay)


@checked
def triangle(
    t: float, *, dt: float = 1e-3, initial_level: Parameter = 0.0, delay: bool | None = None
) -> nengo_neurons.Triangle:
    """Return `Triangle` of nengo: a mean over the last `t` seconds in which the newest input weighs most.

    The other arguments are those of `lowpass`.

    Examples:
        >>> triangle(0.002).weights  # of the last three steps, the newest first
        (0.5, 0.3333333333333333, 0.16666666666666666)
    """
    check_not_negative("t", t)
    check_positive("dt", dt)
    if not t / dt < 2**31:
        raise ValueError(f"t must be less than 2^31 steps of dt = {dt}, got {t}")
    taps = round(t / dt) + 1
    check_memory("the weights", (taps,), copies=100)  # Python's numbers, and a state for each
    weights = tuple(tap / (taps * (taps + 1) / 2) for tap in range(taps, 0, -1))
    return nengo_neurons.Triangle(weights, initial_level, delay)


SpikingRectifiedLinear, RegularSpiking = spiking_rectified_linear, regular_spiking
StochasticSpiking, PoissonSpiking = stochastic_spiking, poisson_spiking
LIF, AdaptiveLIF, Izhikevich = lif, adaptive_lif, izhikevich
Lowpass, Alpha, Triangle = lowpass, alpha, triangle


def _tau(tau: float, dt: float) -> float:
    """Return the time constant, or None where it is too short to matter."""
    return 0.0 if 0 <= tau <= 0.03 * dt else tau
