"""Plasticity that lasts for less than a trial: short-term plasticity, and fast weights."""

from typing import Any, Literal, NamedTuple, Self

import jax.numpy as jnp
from flax import nnx

from jsnn.arguments import checked
from jsnn.neurons.base import decay_from_time_constant, leakage
from jsnn.neurons.ranges import SHARE, Range
from jsnn.plasticity.rule import Rule, decayed, outer, project
from jsnn.types import Array, Parameter, Shape


class ShortTermTraces(NamedTuple):
    """The traces of `ShortTerm`."""

    utilization: Array
    """The share u of the resources that the last spike could use, decayed since, [B, ..., I]."""
    resources: Array
    """The share x of the resources that are there, [B, ..., I]."""


@nnx.dataclass
class ShortTerm(Rule):
    """Short-term plasticity after Tsodyks and Markram: spikes tire a synapse (depression) or warm it up (facilitation).

    Each step, in this order, for presynaptic spikes s_i:

        u_i = decay_facilitation * u_i,  x_i = 1 - decay_recovery * (1 - x_i)
        u_i = u_i + use * (1 - u_i) * s_i
        released_i = u_i * x_i * s_i,  x_i = x_i - released_i
        current_j = sum over i of released_i * w_ij

    Before the first step u is 0 and x is 1. The weights stay as they are. With `decay_facilitation` 0 (the default) u
    is `use` at each spike, and the synapse only tires.

    Source: Tsodyks, Pawelzik and Markram, "Neural networks with dynamic synapses" (1998), equations 1 and 2.

    Attributes:
        use: the share of the resources that the first spike uses, in [0, 1].
        decay_recovery: the share of what resources lack that is left after one step, in [0, 1].
        decay_facilitation: the share of u that is left after one step, in [0, 1].

    Raises:
        ValueError: if one of them lies outside [0, 1].

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> synapse = jsnn.Plastic(jnp.ones((1, 1)), jsnn.plasticity.ShortTerm(use=0.5, decay_recovery=1.0))
        >>> jsnn.unroll(synapse, jnp.ones((4, 1)))[1][:, 0].tolist()  # the current
        [0.5, 0.25, 0.125, 0.0625]
    """

    use: Parameter = 0.5
    decay_recovery: Parameter = 0.99
    decay_facilitation: Parameter = 0.0

    needs_post = False

    def ranges(self) -> dict[str, Range]:
        return {**super().ranges(), "use": SHARE, "decay_recovery": SHARE, "decay_facilitation": SHARE}

    @classmethod
    @checked
    def from_time_constants(
        cls,
        tau_recovery: Parameter,
        tau_facilitation: Parameter | None = None,
        *,
        dt: float,
        use: Parameter = 0.5,
    ) -> Self:
        """Return the rule with time constants in seconds, for steps of `dt` seconds; None: no facilitation."""
        facilitation: Parameter = 0.0
        if tau_facilitation is not None:
            facilitation = decay_from_time_constant("tau_facilitation", tau_facilitation, dt)
        return cls(use, decay_from_time_constant("tau_recovery", tau_recovery, dt), facilitation)

    def init(self, pre: Shape, post: Shape, dtype: Any) -> ShortTermTraces:
        return ShortTermTraces(jnp.zeros(pre, dtype), jnp.ones(pre, dtype))

    def transmit(self, traces: ShortTermTraces, pre: Array) -> tuple[ShortTermTraces, Array]:
        u = decayed(traces.utilization, self.decay_facilitation)
        x = traces.resources + leakage(traces.resources, self.decay_recovery, 1.0)
        u = u + self.use * (1 - u) * pre
        released = u * x * pre
        return ShortTermTraces(u, x - released), released

    def update(self, weights: Array, traces: Any, pre: Array, post: Array) -> tuple[Array, Any]:  # type: ignore[override]
        return weights, traces


@nnx.dataclass
class FastWeights(Rule):
    """Fast weights: an associative memory that is written in one step and fades.

        "hebb":   w_ij = decay * w_ij + rate * x_i * y_j
        "delta":  w_ij = decay * w_ij + rate * x_i * (y_j - sum over k of x_k * w_kj)

    A step reads before it writes: its current is that of the weights of the step before. `"delta"` writes what the
    memory does not answer yet, and so overwrites; with a key x of length 1 and rate 1 it then answers y. Without a
    neuron, y comes from the input: {"input": keys [B, I], "post": values [B, N]}. In linear attention, keys and values
    are computed by slow weights.

    Source: Ba, Hinton, Mnih, Leibo and Ionescu, "Using fast weights to attend to the recent past" (2016), "hebb";
    Schlag, Irie and Schmidhuber, "Linear transformers are secretly fast weight programmers" (2021), "delta".

    Attributes:
        decay: the share of the weights that is left after one step, in [0, 1].
        rate: the factor on what is written.
        writes: `"hebb"` or `"delta"`.

    Raises:
        ValueError: if `decay` lies outside [0, 1], or `writes` is another name.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> memory = jsnn.Plastic(jnp.zeros((2, 1)), jsnn.plasticity.FastWeights(decay=1.0, rate=1.0, writes="delta"))
        >>> keys = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> values = jnp.array([[5.0], [7.0], [5.0]])
        >>> jsnn.unroll(memory, {"input": keys, "post": values})[1][:, 0].tolist()  # it remembers the first
        [0.0, 0.0, 5.0]
    """

    decay: Parameter = 0.95
    rate: Parameter = 0.5
    writes: Literal["hebb", "delta"] = nnx.static(default="hebb")

    def ranges(self) -> dict[str, Range]:
        return {**super().ranges(), "decay": SHARE}

    @classmethod
    @checked
    def from_time_constants(cls, tau: Parameter, *, dt: float, **parameters: Any) -> Self:
        """Return the rule with the time constant of forgetting in seconds, for steps of `dt` seconds."""
        return cls(decay_from_time_constant("tau", tau, dt), **parameters)

    def update(self, weights: Array, traces: Any, pre: Array, post: Array) -> tuple[Array, Any]:  # type: ignore[override]
        answer = project(pre, weights) if self.writes == "delta" else 0.0
        return decayed(weights, self.decay) + self.rate * outer(pre, post - answer, weights), traces
