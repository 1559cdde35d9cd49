"""The sliding parallel spiking neuron, which weighs its last inputs instead of remembering a membrane."""

import dataclasses
from typing import Any, NamedTuple, Self

import jax.numpy as jnp
from flax import nnx

from jsnn import surrogate as surrogates
from jsnn.arguments import check_memory, checked
from jsnn.neurons.base import cast
from jsnn.neurons.checks import check_surrogate
from jsnn.neurons.pytree import FrozenPytree
from jsnn.neurons.ranges import POSITIVE, Range
from jsnn.types import Array, Parameter, Shape, SpikeFunction


class SlidingPSNState(NamedTuple):
    """The state of `SlidingPSN`."""

    v: Array
    """Membrane potential of the last step; the next does not need it, [B, ...]."""
    window: tuple[Array, ...]
    """The last k - 1 currents, the oldest first, each [B, ...]."""


def _halving(k: int = 4) -> nnx.Param:
    return nnx.Param(0.5 ** jnp.arange(k - 1, -1, -1, dtype=float))


@nnx.dataclass
class SlidingPSN(FrozenPytree):
    """Sliding parallel spiking neuron: a membrane that is a weighted sum of the last k currents, and is never reset.

        v[t] = weights[0] * x[t-k+1] + ... + weights[k-1] * x[t],  s[t] = H(v[t] - threshold)

    Currents before the first step count as 0. As no spike acts back on the state, `unroll` computes all time steps at
    once. The gradient of H is the surrogate's; there is no reset for it to flow through. Potentials have the unit of
    the threshold.

    Source: Fang et al., "Parallel spiking neurons with high efficiency and ability to learn long-term dependencies"
    (NeurIPS 2023); there the threshold is trained as well: `threshold=nnx.Param(jnp.array(1.0))`.

    Attributes:
        weights: the weight of each of the k currents, the oldest first, `[k]`, or `[k, N]` for one set per neuron;
            trained, (1/8, 1/4, 1/2, 1) by default.
        threshold: the membrane potential above which the neuron spikes; must be positive.
        surrogate: the derivative that stands in for the Heaviside's, see `jsnn.surrogate`.

    Raises:
        ValueError: if `weights` is not an array of at least one weight, or `threshold` is not positive.
        TypeError: if `surrogate` is not a function.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> state, spikes = jsnn.unroll(jsnn.SlidingPSN(jnp.array([0.25, 0.5, 1.0])), jnp.full((4, 1), 0.625))
        >>> spikes[:, 0].tolist(), state.v.tolist()
        ([0.0, 0.0, 1.0, 1.0], [1.09375])
    """

    weights: Parameter = dataclasses.field(default_factory=_halving)
    threshold: Parameter = 1.0
    surrogate: SpikeFunction = nnx.static(default=surrogates.arctan(), kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not jnp.ndim(self.weights) or not len(self.weights):  # type: ignore[arg-type]
            raise ValueError(f"weights must be an array [k] or [k, N], k at least 1, got {self.weights!r}")
        check_surrogate(self.surrogate)

    def ranges(self) -> dict[str, Range]:
        return {**super().ranges(), "threshold": POSITIVE}

    @classmethod
    @checked
    def of_order(cls, k: int, **parameters: Any) -> Self:
        """Return the neuron that sees the last `k` currents, with trained weights, each half of the one after it.

        Examples:
            >>> SlidingPSN.of_order(3).weights[...].tolist()
            [0.25, 0.5, 1.0]
        """
        if k < 1:
            raise ValueError(f"k must be >= 1, got {k}")
        check_memory("the weights", (k,), copies=4)
        return cls(_halving(k), **parameters)

    def per_neuron(self) -> dict[str, Any]:
        return super().per_neuron() | {"weights[0]": self.weights[0], "weights": 1.0}  # type: ignore[index]

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> SlidingPSNState:
        zeros = jnp.zeros(shape, dtype)
        return SlidingPSNState(v=zeros, window=(zeros,) * (len(self.weights) - 1))  # type: ignore[arg-type]

    def step(self, state: SlidingPSNState, current: Array) -> tuple[SlidingPSNState, Array]:
        currents = (*state.window, current.astype(state.v.dtype))
        v = self._weigh(currents)
        return SlidingPSNState(v, currents[1:]), self._fire(v).astype(current.dtype)

    @property
    def is_linear(self) -> bool:
        return True

    def all_steps(self, state: SlidingPSNState, currents: Array) -> tuple[SlidingPSNState, Array]:
        past, steps = len(state.window), len(currents)
        inputs = jnp.concatenate([*(x[None] for x in state.window), currents.astype(state.v.dtype)])
        v = self._weigh(tuple(inputs[start : start + steps] for start in range(past + 1)))
        return SlidingPSNState(v[-1], tuple(inputs[steps:])), self._fire(v).astype(currents.dtype)

    def _weigh(self, currents: tuple[Array, ...]) -> Array:
        weights = jnp.asarray(self.weights, currents[0].dtype)
        v = weights[0] * currents[0]
        for weight, x in zip(weights[1:], currents[1:]):
            v = v + weight * x
        return v

    def _fire(self, v: Array) -> Array:
        return self.surrogate(v - cast(self.threshold, v.dtype))
