"""The leaky integrate-and-fire neuron whose leak is a trained number."""

import dataclasses
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.arguments import checked
from jsnn.neurons.base import Discretization, SpikingNeuron, cast, decay_from_time_constant
from jsnn.neurons.checks import check_positive
from jsnn.neurons.lif import LIFState
from jsnn.types import Array, Parameter, Shape


def _untrained() -> nnx.Param:
    return nnx.Param(jnp.zeros(()))


@nnx.dataclass
class ParametricLIF(SpikingNeuron):
    """Leaky integrate-and-fire neuron that trains its time constant.

    Each step, in this order:

        v = v + sigmoid(w) * (v_rest - v + x)               leak and input ("decay_input")
        s = H(v - threshold)                                spike
        v = v - s * threshold                               reset ("subtract"; see `SpikingNeuron` for the others)

    The leak sigmoid(w) = dt / tau stays between 0 and 1, whatever the optimiser makes of w. Without `decay_input` the
    input is not scaled, v = v + sigmoid(w) * (v_rest - v) + x. The gradient of H is the surrogate's; it also flows
    through the reset unless `detach_reset`. Potentials have the unit of the threshold.

    Source: Fang et al., "Incorporating learnable membrane time constant to enhance learning of spiking neural networks"
    (2021), and SpikingJelly's `ParametricLIFNode`. One w serves a layer; an array `[N]` gives each neuron its own.

    Attributes:
        w: the logit of the leak; trained, 0 by default, which is a leak of 0.5 (tau = 2 dt).
        decay_input: whether the leak scales the input too.
        v_rest: the resting potential, where the membrane starts and to which it decays.

    `threshold`, `reset`, `v_reset`, `reset_delay`, `detach_reset` and `surrogate` are those of `SpikingNeuron`.

    Raises:
        ValueError: if `threshold` is not positive.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> neuron = jsnn.ParametricLIF(threshold=1.0)
        >>> state, spikes = jsnn.unroll(neuron, jnp.full((6, 1), 1.5))  # [T, N] -> [T, N]
        >>> spikes[:, 0].tolist()
        [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]
    """

    w: Parameter = dataclasses.field(default_factory=_untrained)
    decay_input: bool = nnx.static(default=True, kw_only=True)
    v_rest: Parameter = dataclasses.field(default=0.0, kw_only=True)

    @classmethod
    @checked
    def from_time_constants(
        cls, tau_mem: Parameter, *, dt: float, discretization: Discretization = "euler", **parameters: Any
    ) -> Self:
        """Return the neuron that starts with a membrane of `tau_mem` seconds, simulated in steps of `dt` seconds.

        The leak is dt / tau_mem ("euler", as in SpikingJelly) or 1 - exp(-dt / tau_mem) ("exact"). An array `[N]` gives
        each neuron its own.

        Raises:
            ValueError: if `dt` is not positive, or `tau_mem` is not longer than `dt`, which "exact" does not ask for.

        Examples:
            >>> ParametricLIF.from_time_constants(tau_mem=4e-3, dt=1e-3).w[...]
            Array(-1.0986123, dtype=float32)
        """
        check_positive("dt", dt)
        if isinstance(tau_mem, jax.core.Tracer):
            raise TypeError("tau_mem must be known, got a traced array: make the neuron outside of jit")
        taus: Any = np.asarray(tau_mem, float)
        if discretization == "euler" and not np.all(taus > dt):
            raise ValueError(f"tau_mem must be > dt = {dt}, as the leak dt / tau_mem is below 1, got {tau_mem}")
        decay_from_time_constant("tau_mem", taus, dt, discretization)  # checks them
        ratio = dt / taus
        logit = np.log(ratio) - np.log1p(-ratio) if discretization == "euler" else np.log(-np.expm1(-ratio)) + ratio
        return cls(nnx.Param(jnp.asarray(logit, float)), **parameters)

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> LIFState:
        return LIFState(v=jnp.broadcast_to(jnp.asarray(self.v_rest, dtype), shape))

    def step(self, state: LIFState, current: Array) -> tuple[LIFState, Array]:
        dtype = state.v.dtype
        threshold, leak, x = (
            cast(self.threshold, dtype),
            jax.nn.sigmoid(jnp.asarray(self.w, dtype)),
            current.astype(dtype),
        )
        last_spikes = self.fire(state.v, threshold)
        leakage = leak * (cast(self.v_rest, dtype) - state.v)
        v = state.v + (leakage + (leak * x if self.decay_input else x))
        v, spikes = self.fire_and_reset(v, last_spikes, threshold)
        return LIFState(v), spikes.astype(current.dtype)
