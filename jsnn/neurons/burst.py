"""An integrate-and-fire neuron that may spike several times in a step."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jsnn.neurons.base import cast
from jsnn.neurons.spiking_activation import InitialMembrane, RateCoded, SpikingActivationState
from jsnn.types import Array, Shape


@nnx.dataclass
class BurstIF(InitialMembrane, RateCoded):
    """Integrates its signed current, and spikes as often in a step as it has reached the threshold.

    Each step, in this order:

        v = v + x * dt                            integrate
        n = clip(floor(v), 0, max_spikes)         as many spikes as fit
        v = v - n                                 keep the rest, which may be far below zero
        y = amplitude * n / dt

    It stands for a relu whose input fluctuates: `SpikingActivation` rectifies the input of every single step, and so
    puts out too much where the input's mean is near zero; this neuron rectifies what has been integrated. With
    `max_spikes=1` it is `IF`, in units of a rate. Backwards, y has the derivative of amplitude * relu(x).

    Source: Li and Zeng, "Efficient and accurate conversion of spiking neural network with burst spikes" (2022).

    Attributes:
        dt: the length of a step, in s; a number or an array, which may be traced and so follow a schedule.
        spiking_aware: differentiate `amplitude * relu(x)` in place of the spikes; False refuses.
        amplitude: the integral of one spike over time.
        v_init: the membrane before the first step, see `SpikingActivation`. 0.5 rounds to whole spikes.
        max_spikes: the most spikes in a step, a whole number, or infinite.

    Raises:
        ValueError: if `dt` is not positive, or `max_spikes` is below 1 or not whole.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> neuron = jsnn.BurstIF(dt=0.1)
        >>> state, outputs = jsnn.unroll(neuron, jnp.array([[25.0], [-10.0], [10.0], [10.0]]))  # [T, N] -> [T, N]
        >>> outputs[:, 0].tolist()
        [20.0, 0.0, 0.0, 10.0]
    """

    max_spikes: float = dataclasses.field(default=float("inf"), kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_spikes < 1 or self.max_spikes % 1 > 0:
            raise ValueError(f"max_spikes must be a whole number >= 1, or infinite, got {self.max_spikes}")

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> SpikingActivationState:
        return SpikingActivationState(v=self.initial_membrane(shape, dtype))

    def step(self, state: SpikingActivationState, current: Array) -> tuple[SpikingActivationState, Array]:
        x = current.astype(state.v.dtype)
        v = jax.lax.stop_gradient(state.v + x * cast(self.dt, x.dtype))
        spikes = jnp.clip(jnp.floor(v), 0, self.max_spikes)
        return SpikingActivationState(v - spikes), self.emit(spikes, jax.nn.relu(x)).astype(current.dtype)
