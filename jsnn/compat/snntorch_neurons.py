"""The neurons that `jsnn.compat.snntorch` uses: jsnn's own with snnTorch's late reset, and its Alpha."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jsnn.neurons import LIF, CuBaLIF, LIFState, SpikingNeuron
from jsnn.neurons.base import cast, leakage
from jsnn.neurons.checks import check_positive
from jsnn.neurons.ranges import SHARE, SMALLEST, Range
from jsnn.types import Array, Parameter, Shape


@nnx.dataclass(kw_only=True)
class LateReset(SpikingNeuron):
    """The reset of snnTorch, for any neuron.

    It comes late, in the next step; without `reset_delay` in the step itself as well, less what came late.
    """

    inhibition: bool = nnx.static(default=False)

    def fire_and_reset(self, v: Array, last_spikes: Array, threshold: Parameter) -> tuple[Array, Array]:
        last_spikes = jax.lax.stop_gradient(last_spikes)
        return self.fire_and_reset_now(self.apply_reset(v, last_spikes, threshold), last_spikes, threshold)

    def fire_and_reset_now(self, v: Array, late: Array, threshold: Parameter) -> tuple[Array, Array]:
        """Return the second half of the step, for a membrane that has had its `late` reset."""
        spikes = self.fire(v, threshold)
        if self.inhibition:
            if v.ndim == 0:
                raise ValueError("inhibition needs an axis of neurons, got an input without axes")
            spikes *= jax.nn.one_hot(jnp.argmax(v - threshold, axis=-1), v.shape[-1], dtype=v.dtype)
        return (v if self.reset_delay else self.apply_reset(v, spikes - late, threshold)), spikes


@nnx.dataclass
class Lapicque(LateReset, LIF):
    """`jsnn.LIF` with snnTorch's reset."""


@nnx.dataclass
class RLeaky(LateReset, LIF):
    """`jsnn.LIF` with snnTorch's reset."""


@nnx.dataclass
class Synaptic(LateReset, CuBaLIF):
    """`jsnn.CuBaLIF` with snnTorch's reset."""


@nnx.dataclass
class RSynaptic(LateReset, CuBaLIF):
    """`jsnn.CuBaLIF` with snnTorch's reset."""


@nnx.dataclass
class Leaky(LateReset, LIF):
    """`jsnn.LIF` with snnTorch's reset; the late reset `"zero"` keeps the input of the step."""

    def step(self, state: LIFState, current: Array) -> tuple[LIFState, Array]:
        if self.reset != "zero":
            return super().step(state, current)
        threshold = cast(self.threshold, state.v.dtype)
        late = jax.lax.stop_gradient(self.fire(state.v, threshold))
        v, spikes = self.fire_and_reset_now(self.integrate((1 - late) * state.v, current), late, threshold)
        return LIFState(v), spikes.astype(current.dtype)


class AlphaState(NamedTuple):
    """The state of `Alpha`."""

    v: Array
    """Membrane potential, [B, ...]."""
    i_excitatory: Array
    """SnnTorch's `syn_exc`, [B, ...]."""
    i_inhibitory: Array
    """SnnTorch's `syn_inh`, [B, ...]."""


@nnx.dataclass
class Alpha(LateReset):
    """A neuron whose membrane is the difference of two filtered inputs.

        exc = alpha * exc + x,  inh = beta * inh - x
        v = tau * (exc + inh),  tau = log(alpha) / (log(beta) - log(alpha)) + 1

    The late reset `"subtract"` takes the threshold from exc, `beta * inh - x` from inh and `-inh` from v,
    where inh is the one of before the update; `"zero"` clears all three.

    Source: snnTorch's `Alpha`, a spike response model with an alpha kernel.

    Attributes:
        alpha: the share of exc that is left after one step, in [0, 1]; above `beta`.
        beta: the share of inh that is left after one step, in [0, 1].
        inhibition: as in `alpha`, the function.
        threshold: as in `alpha`, the function.
        reset: as in `alpha`, the function.
        surrogate: as in `alpha`, the function.
    """

    alpha: Parameter = 0.9
    beta: Parameter = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("alpha - beta", self.alpha - self.beta)

    def ranges(self) -> dict[str, Range]:
        """Return ranges in which a trained `alpha` stays above `beta`, and a trained `beta` leaves room for it."""
        highest = 1.0 if isinstance(self.alpha, nnx.Param) else jnp.min(jnp.asarray(self.alpha), initial=1.0)
        beta = SHARE._replace(high=jax.lax.stop_gradient(highest) - SMALLEST)
        least = jnp.minimum(jnp.max(jnp.asarray(self.beta), initial=0.0), beta.high) + SMALLEST
        return {**super().ranges(), "alpha": SHARE._replace(low=jax.lax.stop_gradient(least)), "beta": beta}

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> AlphaState:
        zeros = jnp.zeros(shape, dtype)
        return AlphaState(zeros, zeros, zeros)

    def step(self, state: AlphaState, current: Array) -> tuple[AlphaState, Array]:
        dtype = state.v.dtype
        threshold = cast(self.threshold, dtype)
        late = jax.lax.stop_gradient(self.fire(state.v, threshold))
        x = current.astype(dtype)
        excitatory = state.i_excitatory + leakage(state.i_excitatory, self.alpha) + x
        inhibitory = state.i_inhibitory + leakage(state.i_inhibitory, self.beta) - x
        v = cast(self.kernel_factor(), dtype) * (excitatory + inhibitory)
        if self.reset == "subtract":
            v += late * state.i_inhibitory
            excitatory -= late * threshold
            inhibitory *= 1 - late
        elif self.reset == "zero":
            v, excitatory, inhibitory = ((1 - late) * value for value in (v, excitatory, inhibitory))
        v, spikes = self.fire_and_reset_now(v, late, threshold)
        return AlphaState(v, excitatory, inhibitory), spikes.astype(current.dtype)

    def kernel_factor(self) -> Array:
        """Return tau in the equation above."""
        log_alpha, log_beta = (jnp.log(jnp.asarray(decay)) for decay in (self.alpha, self.beta))
        return log_alpha / (log_beta - log_alpha) + 1


class OneToOne(nnx.Module):
    """The recurrence of `rleaky(all_to_all=False)`: each neuron hears only itself, with weight `V`."""

    def __init__(self, V: float | Array = 1.0) -> None:
        self.V = trainable(V)

    def __call__(self, spikes: Array) -> Array:
        return spikes * self.V[...].astype(spikes.dtype)


def trainable(value: float | Array) -> nnx.Param:
    """Return a parameter of snnTorch's that is to be learned."""
    return nnx.Param(jnp.asarray(value, jnp.result_type(value, float)))


class Fixed(nnx.Variable):
    """A weight that training does not change: its gradient is 0."""

    def get_value(self, **index: Any) -> Any:
        return jax.lax.stop_gradient(super().get_value(**index))
