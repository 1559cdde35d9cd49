"""The leaky integrator: a membrane without a threshold, used to read a spiking network out."""

from typing import Any, Self

import jax.numpy as jnp
from flax import nnx

from jsnn.arguments import checked
from jsnn.neurons.base import Discretization, LeakyMembrane, decay_from_time_constant
from jsnn.neurons.lif import LIFState
from jsnn.types import Array, Parameter, Shape


@nnx.dataclass
class LI(LeakyMembrane):
    """Leaky integrator; its output is its membrane potential.

        v = v_rest + decay * (v - v_rest) + gain * x,  output v

    The readout of choice for classification: logits that remember. `CuBaLI` adds a synaptic current.

    Attributes:
        decay: the share of the membrane potential that is left after one step, in [0, 1].
        gain: the factor on the input; 1 - decay makes the output a running mean.
        v_rest: where the membrane starts and to which it decays.

    Raises:
        ValueError: if `decay` lies outside [0, 1].

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> state, v = jsnn.unroll(jsnn.LI(decay=0.5), jnp.ones((3, 1)))
        >>> v[:, 0].tolist()
        [1.0, 1.5, 1.75]
    """

    @classmethod
    @checked
    def from_time_constants(
        cls, tau_mem: Parameter, *, dt: float, discretization: Discretization = "exact", **parameters: Any
    ) -> Self:
        """Return the integrator that decays with `tau_mem` seconds, in steps of `dt` seconds; see `LIF`."""
        return cls(decay_from_time_constant("tau_mem", tau_mem, dt, discretization), **parameters)

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> LIFState:
        return LIFState(v=self.rest(shape, dtype))

    def step(self, state: LIFState, current: Array) -> tuple[LIFState, Array]:
        v = self.integrate(state.v, current)
        return LIFState(v), v.astype(current.dtype)

    @property
    def is_linear(self) -> bool:
        return True

    def all_steps(self, state: LIFState, currents: Array) -> tuple[LIFState, Array]:
        v = self.integrate_all(state.v, currents)
        return LIFState(v[-1]), v.astype(currents.dtype)
