"""SpikingJelly's neurons by SpikingJelly's parameter names: the same numbers, step by step.

SpikingJelly charges (leak and input together), fires and resets in one step; the state holds the membrane after the
reset. A membrane exactly at its threshold spikes, `v >= v_threshold`: here alone, everywhere else in jsnn it is silent.
Time constants are in steps, and everything else is dimensionless. Common arguments:

* `v_threshold`, and `v_reset`, the potential after a spike, at which the membrane also starts; None subtracts the
  threshold instead, and starts at 0.
* `surrogate_function`: a surrogate of `jsnn.surrogate`, by default `sigmoid(4.0)`, as SpikingJelly's.
* `detach_reset`: whether the gradient through the spikes into the reset is stopped. By default it flows. (That into
  the jump of w always does.)

SpikingJelly's own names lead to the same functions: `LIFNode` is `lif_node`, and so on. Currents `[B, ...]` go in,
spikes `[B, ...]` come out. SpikingJelly's `v` and `w` are the state's `v` and `w`, both to
be read with `jsnn.record`. For its step modes there is `jsnn.unroll`.

Source: SpikingJelly 2.0.0 (Fang et al., "SpikingJelly: an open-source machine learning infrastructure platform for
spike-based intelligence", 2023), `activation_based.neuron`. Held to its outputs by
`tests/test_compat_spikingjelly.py`.
"""

import math
from typing import Any

from jsnn import neurons, surrogate
from jsnn.arguments import checked
from jsnn.compat import spikingjelly_neurons
from jsnn.neurons.checks import check_surrogate
from jsnn.types import Parameter, SpikeFunction

__all__ = [
    "EIFNode",
    "IFNode",
    "IzhikevichNode",
    "LIFNode",
    "ParametricLIFNode",
    "QIFNode",
    "eif_node",
    "if_node",
    "izhikevich_node",
    "lif_node",
    "parametric_lif_node",
    "qif_node",
]


@checked
def if_node(
    v_threshold: Parameter = 1.0,
    v_reset: float | None = 0.0,
    surrogate_function: SpikeFunction | None = None,
    detach_reset: bool = False,
) -> neurons.LIF:
    """Return `IFNode` of SpikingJelly: `v = v + x`.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> jsnn.unroll(if_node(), jnp.full((4, 1), 0.5))[1][:, 0].tolist()  # a membrane at its threshold spikes
        [0.0, 1.0, 0.0, 1.0]
    """
    spiking = _spiking(v_threshold, v_reset, surrogate_function, detach_reset)
    return neurons.LIF(decay=1.0, v_rest=spiking["v_reset"], **spiking)


@checked
def lif_node(
    tau: float = 2.0,
    decay_input: bool = True,
    v_threshold: Parameter = 1.0,
    v_reset: float | None = 0.0,
    surrogate_function: SpikeFunction | None = None,
    detach_reset: bool = False,
) -> neurons.LIF:
    """Return `LIFNode` of SpikingJelly: `v = v + (v_reset - v + x) / tau`, or without `decay_input` x is not divided.

    It leaks towards `v_reset`, or towards 0 where that is None.

    Examples:
        >>> neuron = lif_node(tau=4.0)
        >>> neuron.decay, neuron.gain
        (0.75, 0.25)
    """
    spiking = _spiking(v_threshold, v_reset, surrogate_function, detach_reset)
    gain = 1 / tau if decay_input else 1.0
    return neurons.LIF(decay=_decay("tau", tau), gain=gain, v_rest=spiking["v_reset"], **spiking)


@checked
def parametric_lif_node(
    init_tau: float = 2.0,
    decay_input: bool = True,
    v_threshold: Parameter = 1.0,
    v_reset: float | None = 0.0,
    surrogate_function: SpikeFunction | None = None,
    detach_reset: bool = False,
) -> neurons.ParametricLIF:
    """Return `ParametricLIFNode` of SpikingJelly: `lif_node` with 1 / tau = sigmoid(w), and w trained.

    Examples:
        >>> round(parametric_lif_node(init_tau=4.0).w[...].item(), 3)  # -log(init_tau - 1)
        -1.099
    """
    if not 1 < init_tau < math.inf:
        raise ValueError(f"init_tau must be > 1 and finite, got {init_tau}")
    spiking = _spiking(v_threshold, v_reset, surrogate_function, detach_reset)
    return neurons.ParametricLIF.from_time_constants(
        init_tau, dt=1.0, decay_input=decay_input, v_rest=spiking["v_reset"], **spiking
    )


@checked
def qif_node(
    tau: float = 2.0,
    v_c: Parameter = 0.8,
    a0: Parameter = 1.0,
    v_threshold: Parameter = 1.0,
    v_rest: Parameter = 0.0,
    v_reset: float | None = -0.1,
    surrogate_function: SpikeFunction | None = None,
    detach_reset: bool = False,
) -> neurons.QIF:
    """Return `QIFNode` of SpikingJelly: `v = v + (x + a0 * (v - v_rest) * (v - v_c)) / tau`.

    Examples:
        >>> qif_node(v_c=0.7).v_critical
        0.7
    """
    return spikingjelly_neurons.QIFNode(
        decay=_decay("tau", tau), gain=1 / tau, curvature=a0, v_critical=v_c, v_rest=v_rest,
        **_spiking(v_threshold, v_reset, surrogate_function, detach_reset),
    )  # fmt: skip


@checked
def eif_node(
    tau: float = 2.0,
    delta_T: Parameter = 1.0,
    theta_rh: Parameter = 0.8,
    v_threshold: Parameter = 1.0,
    v_rest: Parameter = 0.0,
    v_reset: float | None = -0.1,
    surrogate_function: SpikeFunction | None = None,
    detach_reset: bool = False,
) -> neurons.EIF:
    """Return `EIFNode` of SpikingJelly: `v = v + (x + v_rest - v + delta_T * exp((v - theta_rh) / delta_T)) / tau`.

    Examples:
        >>> eif_node(delta_T=0.5).sharpness
        0.5
    """
    return spikingjelly_neurons.EIFNode(
        decay=_decay("tau", tau), gain=1 / tau, sharpness=delta_T, rheobase=theta_rh, v_rest=v_rest,
        **_spiking(v_threshold, v_reset, surrogate_function, detach_reset),
    )  # fmt: skip


@checked
def izhikevich_node(
    tau: float = 2.0,
    v_c: Parameter = 0.8,
    a0: Parameter = 1.0,
    v_threshold: Parameter = 1.0,
    v_reset: float | None = 0.0,
    v_rest: Parameter = -0.1,
    w_rest: Parameter = 0.0,
    tau_w: float = 2.0,
    a: Parameter = 0.0,
    b: Parameter = 0.0,
    surrogate_function: SpikeFunction | None = None,
    detach_reset: bool = False,
) -> neurons.AdQIF:
    """Return `IzhikevichNode` of SpikingJelly: `qif_node` with an adaptation current w, which starts at `w_rest`.

    It is taken from x; then `w = w + (a * (v - v_rest) - w) / tau_w` with the new v before its reset, and a spike adds
    b. (Izhikevich's own parameters a to d, in mV, has `jsnn.Izhikevich`.)

    Examples:
        >>> izhikevich_node(a=0.5).coupling
        0.5
    """
    return spikingjelly_neurons.IzhikevichNode(
        decay=_decay("tau", tau), gain=1 / tau, curvature=a0, v_critical=v_c, v_rest=v_rest,
        decay_adaptation=_decay("tau_w", tau_w), coupling=a, jump=b, w_rest=w_rest,
        **_spiking(v_threshold, v_reset, surrogate_function, detach_reset),
    )  # fmt: skip


IFNode, LIFNode, ParametricLIFNode = if_node, lif_node, parametric_lif_node
QIFNode, EIFNode, IzhikevichNode = qif_node, eif_node, izhikevich_node


def _spiking(
    v_threshold: Parameter, v_reset: float | None, surrogate_function: SpikeFunction | None, detach_reset: bool
) -> dict[str, Any]:
    """Return the fields of `SpikingNeuron` for SpikingJelly's arguments."""
    inner = surrogate.sigmoid(4.0) if surrogate_function is None else surrogate_function
    check_surrogate(inner)
    return {
        "threshold": v_threshold,
        "reset": "subtract" if v_reset is None else "zero",
        "v_reset": 0.0 if v_reset is None else v_reset,
        "surrogate": spikingjelly_neurons.Inclusive(inner),
        "detach_reset": detach_reset,
    }


def _decay(name: str, tau: float) -> float:
    if not tau >= 1:
        raise ValueError(f"{name} must be >= 1 step, got {tau}")
    return 1 - 1 / tau
