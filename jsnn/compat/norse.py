"""Norse's neurons by Norse's parameter names: the same numbers, step by step.

Norse integrates with Euler's method: `v += dt * tau_mem_inv * ((v_leak - v) + i)`, `i -= dt * tau_syn_inv * i`. The
input jumps the current before the membrane sees it; a spike (`v > v_th`) resets the membrane in the same step. So
`decay = 1 - dt * tau_mem_inv` and `gain = dt * tau_mem_inv`. Time constants are inverse, in 1/s; `dt` is in s.

Norse's own names lead to the same functions: `LIFCell` and `LIF`, for one step and for all, are `lif`, and so on. They
take the parameters themselves, not a `LIFParameters` of them. Of Norse's recurrent cells `lif_recurrent` is ready-made;
the others are `Recurrent` around the neuron, with the synapse in front of it.

Source: Norse 1.1.0 (Pehle and Pedersen), `norse.torch.functional`. Held to its outputs by `tests/test_compat_norse.py`.
"""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn import delays, layers, neurons, surrogate
from jsnn.arguments import check_memory, checked
from jsnn.compat import norse_neurons
from jsnn.encode.checks import at_least_float32, check_at_least, floating
from jsnn.neurons import wrappers
from jsnn.neurons.checks import check_decay, check_not_negative, check_positive
from jsnn.types import Array, SpikeFunction

METHODS = ("super", "super_released", "tanh", "circ", "heavi_erfc", "triangle", "logistic")


@checked
def threshold(method: str = "super", alpha: float = 100.0) -> SpikeFunction:
    """Return the surrogate that Norse calls `method`.

    `"super"` is the paper's 1 / (alpha |x| + 1)^2, as in Norse's repository; its released wheel 1.1.0 leaves alpha out,
    which is `"super_released"`.

    Examples:
        >>> threshold("super", alpha=100.0)
        superspike(slope=100.0)
    """
    check_positive("alpha", alpha)
    makers = {
        "super": lambda: surrogate.superspike(alpha),
        "super_released": lambda: surrogate.superspike(1.0),
        "tanh": lambda: surrogate.tanh(alpha),
        "circ": lambda: surrogate.circ(1 / alpha),
        "heavi_erfc": lambda: surrogate.erf(alpha, height=2 * math.pi**-0.5),
        "triangle": lambda: surrogate.triangular(1.0, height=alpha),
        "logistic": lambda: surrogate.logistic(alpha),
    }
    if method not in makers:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    return makers[method]()


@checked
def lif(
    *,
    tau_syn_inv: float = 200.0,
    tau_mem_inv: float = 100.0,
    v_leak: float = 0.0,
    v_th: float = 1.0,
    v_reset: float = 0.0,
    method: str = "super",
    alpha: float = 100.0,
    dt: float = 1e-3,
    detach_reset: bool = False,
) -> neurons.CuBaLIF:
    """Return Norse's `LIFCell`: a LIF neuron with an exponential synaptic current.

    `detach_reset` is Norse's choice inside a recurrent cell, see `lif_recurrent`.

    Examples:
        >>> lif(v_th=0.5).threshold
        0.5
    """
    return neurons.CuBaLIF(
        **_membrane(tau_mem_inv, v_leak, dt),
        decay_syn=_decay("tau_syn_inv", tau_syn_inv, dt),
        detach_reset=detach_reset,
        synapse_order="jump_then_decay",
        **_spiking(v_th, v_reset, method, alpha),
    )


lif_feed_forward = lif
"""The same as `lif`: Norse's `LIFCell` is its `lif_feed_forward_step` with a state."""


@checked
def lif_box(
    *,
    tau_mem_inv: float = 100.0,
    v_leak: float = 0.0,
    v_th: float = 1.0,
    v_reset: float = 0.0,
    method: str = "super",
    alpha: float = 100.0,
    dt: float = 1e-3,
) -> neurons.LIF:
    """Return Norse's `LIFBoxCell` and `lif_current_encoder`: a LIF neuron whose input is the current itself.

    Norse's encoders start it at v = 0, whatever `v_leak`; the same here as long as `v_leak` is 0.

    Examples:
        >>> lif_box(tau_mem_inv=250.0).decay
        0.75
    """
    return neurons.LIF(**_membrane(tau_mem_inv, v_leak, dt), **_spiking(v_th, v_reset, method, alpha))


lif_current_encoder = lif_box


@checked
def iaf(*, v_th: float = 1.0, v_reset: float = 0.0, method: str = "super", alpha: float = 100.0) -> neurons.LIF:
    """Return Norse's `IAFCell`: `v += x`, without a leak; the membrane starts at `v_reset`. It does not depend on dt.

    Examples:
        >>> iaf(v_reset=0.25).v_rest
        0.25
    """
    return neurons.LIF(decay=1.0, v_rest=v_reset, **_spiking(v_th, v_reset, method, alpha))


@checked
def lif_refrac(
    *, rho_reset: float = 5.0, tau_syn_inv: float = 200.0, dt: float = 1e-3, **parameters: Any
) -> layers.Sequential:
    """Return Norse's `LIFRefracCell`: `lif`, whose membrane is held for `rho_reset` steps after a spike.

    The synaptic current goes on meanwhile, so it is a layer of its own: its state is the current that the membrane
    sees, before it decays. Norse lets a surrogate gradient through the end of the rest; here none passes it.

    Args:
        rho_reset: how many steps the neuron rests.
        tau_syn_inv: inverse time constant of the synaptic current, in 1/s.
        dt: the length of a step, in s.
        parameters: those of `lif_box`.

    Examples:
        >>> lif_refrac(rho_reset=3.0).layers[1].period
        3.0
    """
    check_not_negative("rho_reset", rho_reset)
    return layers.Sequential(
        _synapse(tau_syn_inv, dt), wrappers.Refractory(lif_box(dt=dt, **parameters), period=rho_reset)
    )


@checked
def lif_ex(
    *,
    delta_T: float = 0.5,
    tau_syn_inv: float = 200.0,
    tau_mem_inv: float = 100.0,
    v_leak: float = 0.0,
    v_th: float = 1.0,
    v_reset: float = 0.0,
    method: str = "super",
    alpha: float = 100.0,
    dt: float = 1e-3,
) -> layers.Sequential:
    """Return Norse's `LIFExCell`: a synaptic current, see `lif_refrac`, and `jsnn.EIF`, whose rheobase is `v_th` too.

    Examples:
        >>> lif_ex(delta_T=0.25).layers[1].sharpness
        0.25
    """
    check_positive("delta_T", delta_T)
    neuron = neurons.EIF(
        **_membrane(tau_mem_inv, v_leak, dt), sharpness=delta_T, rheobase=v_th,
        **_spiking(v_th, v_reset, method, alpha),
    )  # fmt: skip
    return layers.Sequential(_synapse(tau_syn_inv, dt), neuron)


@checked
def lif_adex(
    *,
    adaptation_current: float = 4.0,
    adaptation_spike: float = 0.02,
    delta_T: float = 0.5,
    tau_ada_inv: float = 2.0,
    tau_syn_inv: float = 200.0,
    tau_mem_inv: float = 100.0,
    v_leak: float = 0.0,
    v_th: float = 1.0,
    v_reset: float = 0.0,
    method: str = "super",
    alpha: float = 100.0,
    dt: float = 1e-3,
) -> layers.Sequential:
    """Return Norse's `LIFAdExCell`: a synaptic current, see `lif_refrac`, and an AdEx neuron with `v_th` as rheobase.

    The adaptation current, Norse's `a`, is the neuron's `w`. The membrane of before the update drives it; that of
    `jsnn.AdEx` is driven by the one after.

    Examples:
        >>> lif_adex(adaptation_spike=0.5).layers[1].jump
        0.5
    """
    check_positive("delta_T", delta_T)
    neuron = norse_neurons.LIFAdEx(
        **_membrane(tau_mem_inv, v_leak, dt), sharpness=delta_T, rheobase=v_th,
        decay_adaptation=_decay("tau_ada_inv", tau_ada_inv, dt), coupling=adaptation_current, jump=adaptation_spike,
        **_spiking(v_th, v_reset, method, alpha),
    )  # fmt: skip
    return layers.Sequential(_synapse(tau_syn_inv, dt), neuron)


@checked
def lsnn(
    *,
    tau_syn_inv: float = 200.0,
    tau_mem_inv: float = 100.0,
    tau_adapt_inv: float = 1 / 800,
    v_leak: float = 0.0,
    v_th: float = 1.0,
    v_reset: float = 0.0,
    beta: float = 1.8,
    method: str = "super",
    alpha: float = 100.0,
    dt: float = 1e-3,
) -> layers.Sequential:
    """Return Norse's `LSNNCell`: a synaptic current, see `lif_refrac`, which is a step late here, and `jsnn.ALIF`.

    Norse's `b` is the threshold, `v_th` and what past spikes add to it: each adds `beta`, decayed once.

    Examples:
        >>> neuron = lsnn(tau_adapt_inv=250.0, beta=2.0).layers[2]
        >>> neuron.decay_adaptation, neuron.adaptation
        (0.75, 1.5)
    """
    decay_adaptation = _decay("tau_adapt_inv", tau_adapt_inv, dt)
    neuron = neurons.ALIF(
        **_membrane(tau_mem_inv, v_leak, dt), decay_adaptation=decay_adaptation,
        adaptation=beta * decay_adaptation, **_spiking(v_th, v_reset, method, alpha),
    )  # fmt: skip
    return layers.Sequential(_synapse(tau_syn_inv, dt), delays.Delay(1), neuron)


@checked
def li(
    *, tau_syn_inv: float = 200.0, tau_mem_inv: float = 100.0, v_leak: float = 0.0, dt: float = 1e-3
) -> neurons.CuBaLI:
    """Return Norse's `LICell`: a leaky integrator with an exponential synaptic current; its output is `v`."""
    return neurons.CuBaLI(
        **_membrane(tau_mem_inv, v_leak, dt),
        decay_syn=_decay("tau_syn_inv", tau_syn_inv, dt),
        synapse_order="jump_then_decay",
    )


@checked
def li_linear(input_size: int, hidden_size: int, *, rngs: nnx.Rngs, **parameters: Any) -> layers.Sequential:
    """Return Norse's `LILinearCell`: weights drawn as randn / sqrt(input_size), no bias, then `li`."""
    return layers.Sequential(_linear(input_size, hidden_size, input_size**-0.5, rngs), li(**parameters))


@checked
def lif_recurrent(
    input_size: int,
    hidden_size: int,
    *,
    rngs: nnx.Rngs,
    autapses: bool = False,
    input_scale: float = 1.0,
    recurrent_scale: float = 1.0,
    **parameters: Any,
) -> layers.Sequential:
    """Return Norse's `LIFRecurrentCell`: input weights, then `lif` with recurrent weights; the reset is detached.

    Both weight matrices are drawn as randn * sqrt(2 / hidden_size). Without `autapses` the diagonal of the recurrent
    weights is zero and stays zero. The weights are `layers[0].kernel` and `layers[1].synapse.kernel`, each the
    transpose of Norse's. `input_scale` and `recurrent_scale` are factors on what is drawn: Norse's own weights are
    large, and a recurrence of 100 neurons starts out chaotic; calmer ones learn faster.

    Examples:
        >>> from flax import nnx
        >>> network = lif_recurrent(784, 100, rngs=nnx.Rngs(0), v_th=0.5)
        >>> network.layers[1].synapse.kernel.shape
        (100, 100)
    """
    scale = (2 / hidden_size) ** 0.5
    inputs = _linear(input_size, hidden_size, scale * input_scale, rngs)
    recurrent = scale * recurrent_scale
    feedback = (
        _linear(hidden_size, hidden_size, recurrent, rngs)
        if autapses
        else norse_neurons.NoAutapses(hidden_size, recurrent, rngs)
    )
    return layers.Sequential(inputs, layers.Recurrent(lif(detach_reset=True, **parameters), feedback))


# Norse's names: cells run one step, modules without "Cell" all of them, as `jsnn.unroll` does with any neuron
LIF = LIFCell = lif
LIFBoxCell = lif_box
IAF = IAFCell = iaf
LIFRefracCell = lif_refrac
LIFEx = LIFExCell = lif_ex
LIFAdEx = LIFAdExCell = lif_adex
LSNN = LSNNCell = lsnn
LI = LICell = li
LILinearCell = li_linear
LIFRecurrent = LIFRecurrentCell = lif_recurrent


@checked
def population(
    x: Array,
    num_neurons: int,
    *,
    scale: float | Array | None = None,
    kernel: Callable[[Array], Array] = lambda distance: jnp.exp(-distance / 2),
) -> Array:
    """Return each value as the activity of a population of N neurons, without time; [B, ...] -> [B, ..., N].

        y_n = kernel(scale * (x - c_n)^2),  centres c_n evenly spaced from 0 to scale,  kernel(d) = exp(-d/2)

    Differentiable. Source: Norse's `PopulationEncoder`. New work takes `jsnn.encode.receptive_fields`.

    Args:
        x: the values, usually between 0 and `scale`.
        num_neurons: N.
        scale: the last centre, a positive scalar; None takes the largest of all values, which makes the code
            of one value depend on the others, and under `vmap` on those of its own slice.
        kernel: the activity at a scaled squared distance d; `lambda d: jnp.exp(-d / (2 * sigma**2))` sets the
            width.

    Raises:
        ValueError: if `num_neurons` is less than 1, or if `scale`, or the largest value for it, is not positive.

    Examples:
        >>> population(jnp.array([0.0, 1.0]), 3, scale=1.0).round(2)
        Array([[1.  , 0.88, 0.61],
               [0.61, 0.88, 1.  ]], dtype=float32)
    """
    x, dtype = at_least_float32(floating(x)), x.dtype
    check_at_least("num_neurons", num_neurons, 1)
    check_memory("the population", (*x.shape, num_neurons), copies=4)
    name, scale = ("the largest of x", jnp.max(x)) if scale is None else ("scale", scale)
    check_positive(name, scale)
    if np.size(scale) != 1:
        raise ValueError(f"scale must be one number, got shape {np.shape(scale)}")
    scale = jnp.asarray(scale, x.dtype)
    centres = jnp.linspace(0, scale, num_neurons, dtype=x.dtype)
    return kernel(scale * (x[..., None] - centres) ** 2).astype(dtype)


def _decay(name: str, inverse: float, dt: float) -> float:
    """Return the share that is left after a step of Euler's method; errors name what the user gave."""
    check_positive("dt", dt)
    check_decay(f"dt * {name}", dt * inverse)
    return 1 - dt * inverse


def _membrane(tau_mem_inv: float, v_leak: float, dt: float) -> dict[str, Any]:
    """Return the fields of `LeakyMembrane` for Norse's parameters."""
    return {"decay": _decay("tau_mem_inv", tau_mem_inv, dt), "gain": dt * tau_mem_inv, "v_rest": v_leak}


def _spiking(v_th: float, v_reset: float, method: str, alpha: float) -> dict[str, Any]:
    """Return the fields of `SpikingNeuron` for Norse's parameters."""
    check_positive("v_th", v_th)
    return {"threshold": v_th, "reset": "zero", "v_reset": v_reset, "surrogate": threshold(method, alpha)}


def _synapse(tau_syn_inv: float, dt: float) -> neurons.LI:
    """Return a synaptic current, which jumps by its input before the membrane sees it."""
    return neurons.LI(decay=_decay("tau_syn_inv", tau_syn_inv, dt))


def _linear(input_size: int, output_size: int, scale: float, rngs: nnx.Rngs) -> nnx.Linear:
    check_memory("the weights", (input_size, output_size), copies=4)
    initializer = nnx.initializers.normal(scale)
    return nnx.Linear(input_size, output_size, use_bias=False, kernel_init=initializer, rngs=rngs)
