"""The inner hair cell: how the movement of the basilar membrane becomes transmitter, which adapts."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx

from jsnn.neurons.base import cast
from jsnn.neurons.pytree import FrozenPytree
from jsnn.neurons.ranges import POSITIVE, Range
from jsnn.types import Array, Parameter, Shape


class HairCellState(NamedTuple):
    """The state of `HairCell`."""

    free: Array
    """q: transmitter that is ready for release, [B, ...]."""
    store: Array
    """w: transmitter that has been taken up again and is being reprocessed, [B, ...]."""


@nnx.dataclass
class HairCell(FrozenPytree):
    """Inner hair cell: releases transmitter of which it has little, so that it adapts. Itself a Neuron.

    Each step, in this order, with a membrane that moves by s:

        k = g (s + A) / (s + A + B)  where s > -A, else 0          permeability: half of the wave is cut off
        e = q (1 - exp(-k dt))                                     release
        q = q - e + (1 - exp(-x dt)) w + (1 - exp(-y dt)) (1 - q)  reprocessed, and replenished from the factory
        w = exp(-x dt) w + r / (l + r) e                           taken up again; the rest is lost
        output = e / e_rest                                        1 in silence, e_rest being the release for s = 0

    It starts from rest. When a sound begins, the output peaks at once and falls as q empties: to a fifth within 10 ms,
    and more slowly over 200 ms. After the sound it is below that of silence for as long. Movements are in the unit of
    Meddis, in which a root mean square of 1 is a sound of 30 dB. Differentiable.

    Source: Meddis, "Simulation of mechanical to neural transduction in the auditory receptor", Journal of the
    Acoustical Society of America 1986, with its numbers, which Cramer et al. (2020) took for the Spiking Heidelberg
    Digits. Two changes let it take steps as long as 1 ms: each flow is solved exactly for one step, where Meddis takes
    Euler's; and the cleft, which empties in 1 / (l + r) = 0.1 ms, is empty at the end of each step.

    Attributes:
        dt: the length of a step, in s.
        permeability_a: A, in the unit of s; how much leaks in silence.
        permeability_b: B, in the unit of s; the movement at which half of `release` is reached.
        release: g, 1/s, the largest permeability.
        replenishment: y, 1/s.
        loss: l, 1/s.
        reprocessing: x, 1/s.
        recovery: r, 1/s.

    Raises:
        ValueError: if a parameter is not positive.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> state, release = jsnn.unroll(HairCell(dt=1e-3), jnp.repeat(jnp.array([0.0, 100.0, 0.0]), 200))
        >>> release[jnp.array([0, 199, 200, 210, 399, 400, 599])].round(2)
        Array([ 1.  ,  1.  , 12.54,  2.26,  1.53,  0.12,  0.94], dtype=float32)
    """

    dt: Parameter
    permeability_a: Parameter = 5.0
    permeability_b: Parameter = 300.0
    release: Parameter = 2000.0
    replenishment: Parameter = 5.05
    loss: Parameter = 2500.0
    reprocessing: Parameter = 66.31
    recovery: Parameter = 6580.0

    def ranges(self) -> dict[str, Range]:
        return {**super().ranges(), **dict.fromkeys(self.per_neuron(), POSITIVE)}

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> HairCellState:
        free, store, _ = self._at_rest(dtype)
        return HairCellState(jnp.broadcast_to(free, shape), jnp.broadcast_to(store, shape))

    def step(self, state: HairCellState, current: Array) -> tuple[HairCellState, Array]:
        free, store = state
        dtype = free.dtype
        released = free * self._share(self._permeability(current.astype(dtype)))
        reprocessed = store * self._share(cast(self.reprocessing, dtype))
        replenished = (1 - free) * self._share(cast(self.replenishment, dtype))
        state = HairCellState(
            free - released + reprocessed + replenished, store - reprocessed + self._kept(dtype) * released
        )
        return state, (released / self._at_rest(dtype)[2]).astype(current.dtype)

    def _permeability(self, movement: Array) -> Array:
        a, b, release = (cast(p, movement.dtype) for p in (self.permeability_a, self.permeability_b, self.release))
        opening = jnp.maximum(movement + a, 0)
        return release * opening / (opening + b)

    def _share(self, rate: Any) -> Array:
        """Return the share that flows in a step at a rate, 1/s."""
        return -jnp.expm1(-rate * self.dt)

    def _kept(self, dtype: Any) -> Any:
        """Return the share of what is released that is taken up again."""
        recovery = cast(self.recovery, dtype)
        return recovery / (cast(self.loss, dtype) + recovery)

    def _at_rest(self, dtype: Any) -> tuple[Array, Array, Array]:
        """Return the transmitter that is free, that in the store, and what is released in a step, all in silence."""
        release = self._share(self._permeability(jnp.zeros((), dtype)))
        replenishment = self._share(jnp.asarray(cast(self.replenishment, dtype), dtype))
        free = replenishment / (replenishment + (1 - self._kept(dtype)) * release)
        store = self._kept(dtype) * free * release / self._share(cast(self.reprocessing, dtype))
        return free, store, free * release
