"""Norse's neurons by Norse's parameter names: the same numbers, step by step.

Norse integrates with Euler's method: `v += dt * tau_mem_inv * ((v_leak - v) + i)`, `i -= dt * tau_syn_inv * i`. The
input jumps the current before the membrane sees it; a spike (`v > v_th`) resets the membrane in the same step. So
`decay = 1 - dt * tau_mem_inv` and `gain = dt * tau_mem_inv`. Time constants are inverse, in 1/s; `dt` is in s.

Source: Norse 1.1.0 (Pehle and Pedersen), `norse.torch.functional`. Held to its outputs by `tests/test_compat_norse.py`.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jsnn import surrogate
from jsnn.arguments import check_memory, checked
from jsnn.layers import Recurrent, Sequential
from jsnn.neurons import LIF, CuBaLI, CuBaLIF
from jsnn.types import Array, SpikeFunction

METHODS = ("super", "super_released", "tanh", "circ", "heavi_erfc", "triangle", "logistic")


@checked
def threshold(method: str = "super", alpha: float = 100.0) -> SpikeFunction:
    """The surrogate that Norse calls `method`.

    `"super"` is the paper's 1 / (alpha |x| + 1)^2, as in Norse's repository; its released wheel 1.1.0 leaves alpha out,
    which is `"super_released"`.

    >>> threshold("super", alpha=100.0)
    superspike(slope=100.0)
    """
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
) -> CuBaLIF:
    """Norse's `LIFCell`: a LIF neuron with an exponential synaptic current.

    `detach_reset` is Norse's choice inside a recurrent cell, see `lif_recurrent`.

    >>> lif(v_th=0.5).threshold
    0.5
    """
    return CuBaLIF(
        decay=1 - dt * tau_mem_inv,
        decay_syn=1 - dt * tau_syn_inv,
        gain=dt * tau_mem_inv,
        v_rest=v_leak,
        threshold=v_th,
        reset="zero",
        v_reset=v_reset,
        detach_reset=detach_reset,
        surrogate=threshold(method, alpha),
        synapse_order="jump_then_decay",
    )


lif_feed_forward = lif  # `LIFCell` is Norse's `lif_feed_forward_step` with a state


@checked
def lif_current_encoder(
    *,
    tau_mem_inv: float = 100.0,
    v_leak: float = 0.0,
    v_th: float = 1.0,
    v_reset: float = 0.0,
    method: str = "super",
    alpha: float = 100.0,
    dt: float = 1e-3,
) -> LIF:
    """Norse's `lif_current_encoder`: a LIF neuron whose input is the current itself.

    Norse's encoders start it at v = 0, whatever `v_leak`; the same here as long as `v_leak` is 0.
    """
    return LIF(
        decay=1 - dt * tau_mem_inv,
        gain=dt * tau_mem_inv,
        v_rest=v_leak,
        threshold=v_th,
        reset="zero",
        v_reset=v_reset,
        surrogate=threshold(method, alpha),
    )


@checked
def li(*, tau_syn_inv: float = 200.0, tau_mem_inv: float = 100.0, v_leak: float = 0.0, dt: float = 1e-3) -> CuBaLI:
    """Norse's `LICell`: a leaky integrator with an exponential synaptic current; its output is `v`."""
    return CuBaLI(
        decay=1 - dt * tau_mem_inv,
        decay_syn=1 - dt * tau_syn_inv,
        gain=dt * tau_mem_inv,
        v_rest=v_leak,
        synapse_order="jump_then_decay",
    )


@checked
def li_linear(input_size: int, hidden_size: int, *, rngs: nnx.Rngs, **parameters: Any) -> Sequential:
    """Norse's `LILinearCell`: weights drawn as randn / sqrt(input_size), no bias, then `li`."""
    return Sequential(_linear(input_size, hidden_size, input_size**-0.5, rngs), li(**parameters))


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
) -> Sequential:
    """Norse's `LIFRecurrentCell`: input weights, then `lif` with recurrent weights, its reset's gradient detached.

    Both weight matrices are drawn as randn * sqrt(2 / hidden_size). Without `autapses` the diagonal of the recurrent
    weights is zero and stays zero. The weights are `layers[0].kernel` and `layers[1].synapse.kernel`, each the
    transpose of Norse's. `input_scale` and `recurrent_scale` are factors on what is drawn: Norse's own weights are
    large, and a recurrence of 100 neurons starts out chaotic; calmer ones learn faster.

    >>> from flax import nnx
    >>> network = lif_recurrent(784, 100, rngs=nnx.Rngs(0), v_th=0.5)
    >>> network.layers[1].synapse.kernel.shape
    (100, 100)
    """
    scale = (2 / hidden_size) ** 0.5
    inputs = _linear(input_size, hidden_size, scale * input_scale, rngs)
    recurrent = scale * recurrent_scale
    feedback = (
        _linear(hidden_size, hidden_size, recurrent, rngs) if autapses else NoAutapses(hidden_size, recurrent, rngs)
    )
    return Sequential(inputs, Recurrent(lif(detach_reset=True, **parameters), feedback))


class NoAutapses(nnx.Module):
    """Recurrent weights without a connection from a neuron to itself, `[B, N] -> [B, N]`."""

    @checked
    def __init__(self, size: int, scale: float, rngs: nnx.Rngs) -> None:
        check_memory("the recurrent weights", (size, size), copies=4)
        self.kernel = nnx.Param(scale * jax.random.normal(rngs.params(), (size, size)) * (1 - jnp.eye(size)))

    def __call__(self, spikes: Array) -> Array:
        kernel = self.kernel[...].astype(spikes.dtype)
        # masked in use as well: the diagonal gets no gradient and counts for nothing, whatever an optimiser does
        return spikes @ (kernel * (1 - jnp.eye(kernel.shape[0], dtype=kernel.dtype)))


def _linear(input_size: int, output_size: int, scale: float, rngs: nnx.Rngs) -> nnx.Linear:
    check_memory("the weights", (input_size, output_size), copies=4)
    initializer = nnx.initializers.normal(scale)
    return nnx.Linear(input_size, output_size, use_bias=False, kernel_init=initializer, rngs=rngs)
