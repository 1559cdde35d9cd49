"""The spike response neuron: kernels for what inputs and spikes do to the membrane, and nothing that is reset."""

import dataclasses
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
from flax import nnx

from jsnn import surrogate as surrogates
from jsnn.arguments import checked
from jsnn.neurons.base import Discretization, cast, decay_from_time_constant, leakage
from jsnn.neurons.checks import check_surrogate
from jsnn.neurons.cuba import CuBaState, CurrentSynapse
from jsnn.neurons.ranges import NOT_NEGATIVE, POSITIVE, SHARE, Range
from jsnn.types import Array, Parameter, Shape, SpikeFunction


class SRM0State(NamedTuple):
    """The state of `SRM0`."""

    v: Array
    """Membrane potential, [B, ...]."""
    response: Array
    """What the inputs have made of it, without any spike, [B, ...]."""
    i: Array
    """Synaptic current, [B, ...]."""
    refractoriness: Array
    """Trace of past spikes, [B, ...]."""


@nnx.dataclass
class SRM0(CurrentSynapse):
    """Spike response neuron of order zero; with decay = decay_syn its response to an input is an alpha function.

    Each step, in this order:

        i = decay_syn * i + x                                   synapse
        p = v_rest + decay * (p - v_rest) + gain * i            response of the membrane to its input
        r = decay_refractory * (r + s)                          s: the spikes of the step before
        v = p - refractory * r                                  less the response to its own spikes
        s = H(v - threshold)                                    spike

    So v[t] = v_rest + sum over inputs of eps[t - t_in] x[t_in] - sum over spikes of eta[t - t_spike], with
    eps[n] = gain * (decay^(n+1) - decay_syn^(n+1)) / (decay - decay_syn), or gain * (n + 1) * decay^n where the decays
    are equal, and eta[n] = refractory * decay_refractory^n, n > 0. Nothing is reset: the response knows nothing of the
    spikes. The gradient of H is the surrogate's; it also flows through r unless `detach_reset`. Potentials have the
    unit of the threshold. (For the reset "subtract" of a LIF, decay_refractory = decay and refractory = threshold.)

    Source: Gerstner and Kistler, "Spiking neuron models" (2002), section 4.2.3.

    Attributes:
        decay: the share of the response that is left after one step, in [0, 1].
        decay_syn: the share of the synaptic current that is left after one step, in [0, 1].
        decay_refractory: the share of the refractoriness that is left after one step, in [0, 1].
        gain: the factor from current to membrane.
        v_rest: the resting potential, where the membrane starts and to which it decays.
        synapse_order: when the current decays, see `CuBaLIF`.
        threshold: the membrane potential above which the neuron spikes; must be positive.
        refractory: the height of eta, how far a spike pulls the membrane down; not negative.
        detach_reset: stop the gradient that flows through the spikes into r.
        surrogate: the derivative that stands in for the Heaviside's, see `jsnn.surrogate`.

    Raises:
        ValueError: if a decay lies outside [0, 1], `threshold` is not positive, or `refractory` is negative.
        TypeError: if `surrogate` is not a function.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> impulse = jnp.zeros((5, 1)).at[0].set(0.5)
        >>> states = jsnn.record(jsnn.SRM0(decay=0.5, decay_syn=0.5), impulse)["SRM0"].states
        >>> states.v[:, 0].tolist()  # 0.5 * (n + 1) * 0.5^n
        [0.5, 0.5, 0.375, 0.25, 0.15625]
    """

    decay: Parameter = 0.8
    decay_refractory: Parameter = 0.8
    threshold: Parameter = dataclasses.field(default=1.0, kw_only=True)
    refractory: Parameter = dataclasses.field(default=1.0, kw_only=True)
    detach_reset: bool = nnx.static(default=False, kw_only=True)
    surrogate: SpikeFunction = nnx.static(default=surrogates.arctan(), kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_surrogate(self.surrogate)

    @classmethod
    @checked
    def from_time_constants(
        cls,
        tau_mem: Parameter,
        tau_syn: Parameter,
        *,
        dt: float,
        tau_refractory: Parameter | None = None,
        discretization: Discretization = "exact",
        **parameters: Any,
    ) -> Self:
        """Return the neuron with time constants in seconds, simulated in steps of `dt` seconds; see `LIF`.

        `tau_refractory` is that of the membrane where it is None, unless `decay_refractory` is given.

        Raises:
            TypeError: if both `tau_refractory` and `decay_refractory` are given.

        Examples:
            >>> round(SRM0.from_time_constants(20e-3, 5e-3, dt=1e-3, tau_refractory=10e-3).decay_refractory, 4)
            0.9048
        """
        if "decay_refractory" not in parameters:
            tau = tau_mem if tau_refractory is None else tau_refractory
            parameters["decay_refractory"] = decay_from_time_constant("tau_refractory", tau, dt, discretization)
        elif tau_refractory is not None:
            raise TypeError("give tau_refractory or decay_refractory, got both")
        return super().from_time_constants(tau_mem, tau_syn, dt=dt, discretization=discretization, **parameters)

    def ranges(self) -> dict[str, Range]:
        own = {"decay_refractory": SHARE, "threshold": POSITIVE, "refractory": NOT_NEGATIVE}
        return {**super().ranges(), **own}

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> SRM0State:  # type: ignore[override]
        v, i = super().init(shape, dtype)
        return SRM0State(v, response=v, i=i, refractoriness=jnp.zeros(shape, dtype))

    def step(self, state: SRM0State, current: Array) -> tuple[SRM0State, Array]:
        dtype = state.v.dtype
        response, i = self.integrate_current(CuBaState(state.response, state.i), current)
        refractoriness = state.refractoriness + leakage(state.refractoriness, self.decay_refractory)
        v = response - cast(self.refractory, dtype) * refractoriness
        spikes = self.surrogate(v - cast(self.threshold, dtype))
        acting = jax.lax.stop_gradient(spikes) if self.detach_reset else spikes
        return SRM0State(v, response, i, refractoriness + acting), spikes.astype(current.dtype)
