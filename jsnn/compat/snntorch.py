"""snnTorch's neurons by snnTorch's parameter names: the same numbers, step by step.

snnTorch compares the membrane with its threshold after the update, returns it before its reset, and applies the reset,
its gradient stopped, in the next step: `reset_delay=True`, its default and ours here. Its `reset_delay=False` resets in
the same step as well as in the next, and counts the first against the second; its zero reset also throws away the input
of the step, except in `leaky`. jsnn's own neurons have neither habit, so the two are written down here.

Source: snnTorch 1.0.0 (Eshraghian et al.), `snntorch._neurons`. Held to its outputs by `tests/test_compat_snntorch.py`.
"""

import math
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx

from jsnn import surrogate
from jsnn.layers import Recurrent
from jsnn.neurons import LIF, CuBaLIF, LIFState, SpikingNeuron
from jsnn.neurons.base import cast, check_decay
from jsnn.types import Array, Parameter, Shape, SpikeFunction

ResetMechanism: TypeAlias = Literal["subtract", "zero", "none"]


def leaky(
    beta: float | Array,
    threshold: float | Array = 1.0,
    *,
    spike_grad: SpikeFunction | None = None,
    inhibition: bool = False,
    learn_beta: bool = False,
    learn_threshold: bool = False,
    reset_mechanism: ResetMechanism = "subtract",
    reset_delay: bool = True,
) -> LIF:
    """snnTorch's `Leaky`: `mem = beta * mem + x`.

    >>> leaky(beta=0.9).decay
    0.9
    """
    return _Leaky(
        decay=_parameter(beta, learn_beta),
        inhibition=inhibition,
        **_spiking(threshold, learn_threshold, spike_grad, reset_mechanism),
        instant=not reset_delay,
    )


def lapicque(
    beta: float | None = None,
    R: float | None = None,
    C: float | None = None,
    *,
    time_step: float = 1.0,
    threshold: float | Array = 1.0,
    spike_grad: SpikeFunction | None = None,
    learn_threshold: bool = False,
    reset_mechanism: ResetMechanism = "subtract",
    reset_delay: bool = True,
) -> LIF:
    """snnTorch's `Lapicque`: an RC circuit, `mem = x * time_step / C + (1 - time_step / (R * C)) * mem`.

    Of `R` (resistance), `C` (capacitance) and `beta` = exp(-time_step / (R * C)) some must be given: `beta` alone takes
    R = 1, `beta` with one of the two gives the other, and `R` with `C` gives beta.

    >>> round(lapicque(R=5.0, C=2.0).decay, 3)
    0.9
    """
    R, C = _resistance_and_capacitance(beta, R, C, time_step)
    return _SnnTorchLIF(
        decay=1 - time_step / (R * C),
        gain=time_step / C,
        **_spiking(threshold, learn_threshold, spike_grad, reset_mechanism),
        instant=not reset_delay,
    )


def synaptic(
    alpha: float | Array,
    beta: float | Array,
    threshold: float | Array = 1.0,
    *,
    spike_grad: SpikeFunction | None = None,
    learn_alpha: bool = False,
    learn_beta: bool = False,
    learn_threshold: bool = False,
    reset_mechanism: ResetMechanism = "subtract",
    reset_delay: bool = True,
) -> CuBaLIF:
    """snnTorch's `Synaptic`: `syn = alpha * syn + x`, `mem = beta * mem + syn`."""
    return _Synaptic(
        decay=_parameter(beta, learn_beta),
        decay_syn=_parameter(alpha, learn_alpha),
        **_spiking(threshold, learn_threshold, spike_grad, reset_mechanism),
        instant=not reset_delay,
    )


def rleaky(
    beta: float | Array,
    synapse: Any,
    threshold: float | Array = 1.0,
    *,
    spike_grad: SpikeFunction | None = None,
    learn_beta: bool = False,
    learn_threshold: bool = False,
    reset_mechanism: ResetMechanism = "subtract",
    reset_delay: bool = True,
) -> Recurrent:
    """snnTorch's `RLeaky`: `mem = beta * mem + x + synapse(last spikes)`.

    `synapse` is the recurrent layer, `[B, N] -> [B, N]`: an `nnx.Linear(N, N)` for snnTorch's `all_to_all=True` (it has a
    bias there), or `OneToOne(V)` for `all_to_all=False`.
    """
    neuron = _SnnTorchLIF(
        decay=_parameter(beta, learn_beta),
        **_spiking(threshold, learn_threshold, spike_grad, reset_mechanism),
        instant=not reset_delay,
    )
    return Recurrent(neuron, synapse)


class OneToOne(nnx.Module):
    """The recurrence of `RLeaky(all_to_all=False)`: each neuron hears only itself, with weight `V`."""

    def __init__(self, V: float | Array = 1.0) -> None:
        self.V = nnx.Param(jnp.asarray(V, jnp.float32))

    def __call__(self, spikes: Array) -> Array:
        return spikes * self.V[...].astype(spikes.dtype)


class AlphaState(NamedTuple):
    """The state of `alpha`."""

    v: Array  # membrane potential, [B, ...]
    excitation: Array  # [B, ...]
    inhibition: Array  # [B, ...]


def alpha(
    alpha: float | Array,
    beta: float | Array,
    threshold: float | Array = 1.0,
    *,
    spike_grad: SpikeFunction | None = None,
    learn_threshold: bool = False,
    reset_mechanism: ResetMechanism = "subtract",
) -> "Alpha":
    """snnTorch's `Alpha`: the membrane is an alpha-shaped filter of the input; `alpha` must be above `beta`."""
    return Alpha(
        decay_excitation=alpha,
        decay_inhibition=beta,
        **_spiking(threshold, learn_threshold, spike_grad, reset_mechanism),
    )


@nnx.dataclass
class Alpha(SpikingNeuron):
    """A neuron whose membrane is the difference of two filtered inputs.

        exc = a * exc + x,  inh = b * inh - x,  v = tau * (exc + inh),  tau = log a / (log b - log a) + 1

    The reset "subtract", one step late as everywhere in snnTorch, takes the threshold from `exc`, `b * inh - x` from
    `inh` and `-inh` from v (values of before the update); "zero" clears all three.

    Source: snnTorch's `Alpha`, a spike response model with an alpha kernel.
    """

    decay_excitation: Parameter = 0.9
    decay_inhibition: Parameter = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_decay("alpha", self.decay_excitation)
        check_decay("beta", self.decay_inhibition)
        if not jnp.all(jnp.asarray(self.decay_excitation) > jnp.asarray(self.decay_inhibition)):
            raise ValueError(
                f"alpha must be > beta, got alpha={self.decay_excitation}, beta={self.decay_inhibition}"
            )

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> AlphaState:
        zeros = jnp.zeros(shape, dtype)
        return AlphaState(zeros, zeros, zeros)

    def step(self, state: AlphaState, current: Array) -> tuple[AlphaState, Array]:
        dtype = state.v.dtype
        x = current.astype(dtype)
        a, b = cast(self.decay_excitation, dtype), cast(self.decay_inhibition, dtype)
        threshold = cast(self.threshold, dtype)
        reset = jax.lax.stop_gradient(self.fire(state.v, threshold))
        tau = jnp.log(a) / (jnp.log(b) - jnp.log(a)) + 1
        excitation = a * state.excitation + x
        inhibition = b * state.inhibition - x
        v = jnp.asarray(tau, dtype) * (excitation + inhibition)
        if self.reset == "subtract":
            v = v + state.inhibition * reset
            excitation = excitation - threshold * reset
            inhibition = inhibition - (b * state.inhibition - x) * reset
        elif self.reset == "zero":
            excitation, inhibition, v = (y - reset * y for y in (excitation, inhibition, v))
        return AlphaState(v, excitation, inhibition), self.fire(v, threshold).astype(current.dtype)


@nnx.dataclass(kw_only=True)
class _SnnTorchReset(SpikingNeuron):
    """The delayed reset always applies; with `instant` the new spikes reset too, less what it has already done."""

    instant: bool = nnx.static(default=False)

    def fire_and_reset(self, v: Array, last_spikes: Array, threshold: Parameter) -> tuple[Array, Array]:
        v, spikes = super().fire_and_reset(v, last_spikes, threshold)
        return self.reset_instantly(v, spikes, last_spikes, threshold), spikes

    def reset_instantly(self, v: Array, spikes: Array, last_spikes: Array, threshold: Parameter) -> Array:
        if not self.instant or self.reset == "none":
            return v
        amount = v if self.reset == "zero" else threshold
        return v - (spikes - jax.lax.stop_gradient(last_spikes)) * amount  # gives back where only the last spiked


@nnx.dataclass
class _SnnTorchLIF(LIF, _SnnTorchReset):
    """`LIF` with snnTorch's reset."""


@nnx.dataclass
class _Synaptic(CuBaLIF, _SnnTorchReset):
    """`CuBaLIF` with snnTorch's reset."""


@nnx.dataclass
class _Leaky(_SnnTorchLIF):
    """A zero reset that keeps the step's input; with `inhibition` only the highest membrane's spike gets out."""

    inhibition: bool = nnx.static(default=False, kw_only=True)

    def step(self, state: LIFState, current: Array) -> tuple[LIFState, Array]:
        if self.reset == "zero":
            threshold = cast(self.threshold, state.v.dtype)
            last_spikes = jax.lax.stop_gradient(self.fire(state.v, threshold))
            v = self.integrate((1 - last_spikes) * state.v, current)
            spikes = self.fire(v, threshold)
            state = LIFState(self.reset_instantly(v, spikes, last_spikes, threshold))
        else:
            state, spikes = super().step(state, current)
        if self.inhibition:
            spikes = spikes * jax.nn.one_hot(jnp.argmax(state.v, axis=-1), state.v.shape[-1], dtype=spikes.dtype)
        return state, spikes.astype(current.dtype)


def _spiking(
    threshold: float | Array,
    learn_threshold: bool,
    spike_grad: SpikeFunction | None,
    reset_mechanism: ResetMechanism,
) -> dict[str, Any]:
    """The fields of `SpikingNeuron` for snnTorch's arguments."""
    return {
        "threshold": _parameter(threshold, learn_threshold),
        "surrogate": surrogate.arctan(2.0) if spike_grad is None else spike_grad,
        "reset": reset_mechanism,
        "reset_delay": True,
        "detach_reset": True,
    }


def _resistance_and_capacitance(
    beta: float | None, R: float | None, C: float | None, time_step: float
) -> tuple[float, float]:
    if beta is None:
        if R is None or C is None:
            raise ValueError(f"lapicque needs beta, or both R and C, got beta={beta}, R={R}, C={C}")
        return R, C
    if not 0 < beta < 1:
        raise ValueError(f"beta must be in (0, 1), got {beta}")
    time_constant = -time_step / math.log(beta)
    if R is None:
        R = 1.0 if C is None else time_constant / C
    return R, time_constant / R if C is None else C


def _parameter(value: float | Array, learn: bool) -> Parameter:
    return nnx.Param(jnp.asarray(value, jnp.float32)) if learn else value
