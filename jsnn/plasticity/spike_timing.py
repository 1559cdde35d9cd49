"""Spike-timing-dependent plasticity: by pairs and triplets of spikes, and with a reward.

In a step, traces decay first. Then come the presynaptic spikes: weights go down by the postsynaptic traces, and the
presynaptic traces rise. Then come the postsynaptic spikes: weights go up by the presynaptic traces, those of this step
among them, and the postsynaptic traces rise. So spikes at the same step count as "pre before post".
"""

import dataclasses
from typing import Any, NamedTuple, Self

import jax.numpy as jnp
from flax import nnx

from jsnn.arguments import checked
from jsnn.neurons.base import decay_from_time_constant
from jsnn.neurons.ranges import SHARE, Range
from jsnn.plasticity.bounds import UNBOUNDED, Bounds, check_bounds
from jsnn.plasticity.rule import Pairing, Rule, decayed, marked, outer, over_batch
from jsnn.types import Array, Parameter, Shape


class STDPTraces(NamedTuple):
    """The traces of `STDP`."""

    pre: Array
    """Of the presynaptic spikes, [B, ..., I]."""
    post: Array
    """Of the postsynaptic spikes, [B, ..., N]."""


@nnx.dataclass
class STDP(Rule):
    """Pair-based STDP: a synapse grows if "pre" spikes before "post", and shrinks if after.

    Each step, in this order, for presynaptic spikes s_i and postsynaptic spikes s_j:

        x_i = decay_pre * x_i,  y_j = decay_post * y_j
        w_ij goes down by depression * s_i * y_j;     x_i = x_i + s_i    ("nearest": x_i = 1 at a spike)
        w_ij goes up by potentiation * x_i * s_j;     y_j = y_j + s_j    ("nearest": y_j = 1 at a spike)

    Source: Song, Miller and Abbott, "Competitive Hebbian learning through spike-timing-dependent synaptic plasticity"
    (2000); with traces: Morrison, Diesmann and Gerstner, "Phenomenological models of synaptic plasticity based on spike
    timing" (2008), where "nearest" is called symmetric.

    Attributes:
        decay_pre: the share of the presynaptic trace that is left after one step, in [0, 1].
        decay_post: the same of the postsynaptic trace.
        potentiation: how far the weight goes up, in its own unit; negative for a rule the other way round.
        depression: how far it goes down.
        pairing: `"all"` pairs every spike with all spikes of the other side, `"nearest"` with the last one.
        bounds: those of the weights.

    Raises:
        ValueError: if a decay lies outside [0, 1], or there is no such pairing.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> rule = jsnn.plasticity.STDP(0.5, 0.5, potentiation=0.25, depression=0.25)
        >>> spikes = {"input": jnp.array([[1.0], [0.0], [0.0]]), "post": jnp.array([[0.0], [1.0], [0.0]])}
        >>> state, _ = jsnn.unroll(jsnn.Plastic(jnp.array([[0.5]]), rule), spikes)  # post 1 step after pre
        >>> state.weights.tolist()
        [[0.625]]
    """

    decay_pre: Parameter = 0.95
    decay_post: Parameter = 0.95
    potentiation: Parameter = dataclasses.field(default=0.01, kw_only=True)
    depression: Parameter = dataclasses.field(default=0.01, kw_only=True)
    pairing: Pairing = nnx.static(default="all", kw_only=True)
    bounds: Bounds = dataclasses.field(default=Bounds(), kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds(self.bounds)

    def ranges(self) -> dict[str, Range]:
        return {**super().ranges(), "decay_pre": SHARE, "decay_post": SHARE}

    @classmethod
    @checked
    def from_time_constants(
        cls, tau_pre: Parameter = 20e-3, tau_post: Parameter = 20e-3, *, dt: float, **parameters: Any
    ) -> Self:
        """Return the rule with time constants in seconds, for steps of `dt` seconds.

        Examples:
            >>> STDP.from_time_constants(20e-3, 20e-3, dt=1e-3).decay_pre
            0.951229424500714
        """
        decays = decay_from_time_constant("tau_pre", tau_pre, dt), decay_from_time_constant("tau_post", tau_post, dt)
        return cls(*decays, **parameters)

    def init(self, pre: Shape, post: Shape, dtype: Any) -> STDPTraces:
        return STDPTraces(jnp.zeros(pre, dtype), jnp.zeros(post, dtype))

    def update(  # type: ignore[override]
        self, weights: Array, traces: STDPTraces, pre: Array, post: Array
    ) -> tuple[Array, STDPTraces]:
        x, y = decayed(traces.pre, self.decay_pre), decayed(traces.post, self.decay_post)
        weights = self.bounds.lowered(weights, self.depression * outer(pre, y, weights))
        x = marked(x, pre, self.pairing)
        weights = self.bounds.raised(weights, self.potentiation * outer(x, post, weights))
        return weights, STDPTraces(x, marked(y, post, self.pairing))


class TripletTraces(NamedTuple):
    """The traces of `TripletSTDP`."""

    pre: Array
    """Of the presynaptic spikes, r1, [B, ..., I]."""
    post: Array
    """Of the postsynaptic spikes, o1, [B, ..., N]."""
    pre_slow: Array
    """A slower one of the presynaptic spikes, r2, [B, ..., I]."""
    post_slow: Array
    """A slower one of the postsynaptic spikes, o2, [B, ..., N]."""


@nnx.dataclass
class TripletSTDP(STDP):
    """Triplet STDP: what a pair of spikes does depends on the spike before them on the same side.

    Each step, in this order, after the four traces have decayed, for presynaptic spikes s_i and postsynaptic s_j:

        w_ij goes down by s_i * o1_j * (depression + depression_triplet * r2_i)
        r1_i = r1_i + s_i,  r2_i = r2_i + s_i                               ("nearest": 1 at a spike)
        w_ij goes up by s_j * r1_i * (potentiation + potentiation_triplet * o2_j)
        o1_j = o1_j + s_j,  o2_j = o2_j + s_j                               ("nearest": 1 at a spike)

    So r2 and o2 are read before the spike that asks for them. With both triplet amplitudes 0 it is `STDP`.

    Source: Pfister and Gerstner, "Triplets of spikes in a model of spike timing-dependent plasticity" (2006), equations
    3 and 4. Their fit to the visual cortex, all spikes: potentiation 5e-10, potentiation_triplet 6.2e-3, depression
    7e-3, depression_triplet 2.3e-4, and the time constants that are the defaults of `from_time_constants`.

    Attributes:
        decay_pre_slow: the share of r2 that is left after one step, in [0, 1].
        decay_post_slow: the same of o2.
        potentiation: A2+, a number, or one for each postsynaptic neuron, `[N]`.
        potentiation_triplet: A3+, of the same kind.
        depression: A2-, a number, or one for each presynaptic neuron, `[I]`.
        depression_triplet: A3-, of the same kind.

    `decay_pre` (r1), `decay_post` (o1), `pairing` and `bounds` are those of `STDP`.

    Raises:
        ValueError: as `STDP`.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> rule = jsnn.plasticity.TripletSTDP.from_time_constants(dt=1e-3)
        >>> spikes = {"input": jnp.ones((50, 1)), "post": jnp.ones((50, 1))}
        >>> state, _ = jsnn.unroll(jsnn.Plastic(jnp.array([[0.1]]), rule), spikes)
        >>> bool(state.weights[0, 0] > 0.1)  # high rates potentiate
        True
    """

    decay_pre_slow: Parameter = 0.99
    decay_post_slow: Parameter = 0.992
    potentiation: Parameter = dataclasses.field(default=5e-10, kw_only=True)
    potentiation_triplet: Parameter = dataclasses.field(default=6.2e-3, kw_only=True)
    depression: Parameter = dataclasses.field(default=7e-3, kw_only=True)
    depression_triplet: Parameter = dataclasses.field(default=2.3e-4, kw_only=True)

    def ranges(self) -> dict[str, Range]:
        return {**super().ranges(), "decay_pre_slow": SHARE, "decay_post_slow": SHARE}

    @classmethod
    @checked
    def from_time_constants(
        cls,
        tau_pre: Parameter = 16.8e-3,
        tau_post: Parameter = 33.7e-3,
        tau_pre_slow: Parameter = 101e-3,
        tau_post_slow: Parameter = 125e-3,
        *,
        dt: float,
        **parameters: Any,
    ) -> Self:
        """Return the rule with time constants in seconds, for steps of `dt` seconds."""
        taus = {
            "tau_pre": tau_pre,
            "tau_post": tau_post,
            "tau_pre_slow": tau_pre_slow,
            "tau_post_slow": tau_post_slow,
        }
        return cls(*(decay_from_time_constant(name, tau, dt) for name, tau in taus.items()), **parameters)

    def init(self, pre: Shape, post: Shape, dtype: Any) -> TripletTraces:  # type: ignore[override]
        r, o = jnp.zeros(pre, dtype), jnp.zeros(post, dtype)
        return TripletTraces(r, o, r, o)

    def update(  # type: ignore[override]
        self, weights: Array, traces: TripletTraces, pre: Array, post: Array
    ) -> tuple[Array, TripletTraces]:
        r1, o1 = decayed(traces.pre, self.decay_pre), decayed(traces.post, self.decay_post)
        r2, o2 = decayed(traces.pre_slow, self.decay_pre_slow), decayed(traces.post_slow, self.decay_post_slow)
        down = pre * (self.depression + self.depression_triplet * r2)
        weights = self.bounds.lowered(weights, outer(down, o1, weights))
        r1, r2 = marked(r1, pre, self.pairing), marked(r2, pre, self.pairing)
        up = post * (self.potentiation + self.potentiation_triplet * o2)
        weights = self.bounds.raised(weights, outer(r1, up, weights))
        return weights, TripletTraces(r1, marked(o1, post, self.pairing), r2, marked(o2, post, self.pairing))


class RewardTraces(NamedTuple):
    """The traces of `RewardSTDP`."""

    pre: Array
    """Of the presynaptic spikes, [B, ..., I]."""
    post: Array
    """Of the postsynaptic spikes, [B, ..., N]."""
    eligibility: Array
    """What STDP would have done, [B, ..., I, N]: for each sample its own, whether or not the weights are."""
    reward: Array
    """The trace of the reward, [B, ...]."""


@nnx.dataclass
class RewardSTDP(STDP):
    """STDP that a reward puts into effect: pairs of spikes leave an eligibility trace, and a reward turns it to weight.

    Each step, in this order:

        c_ij = decay_eligibility * c_ij, which then goes up and down as the weight would with `STDP`, without bounds
        d = decay_reward * d + reward
        w_ij goes up by rate * d * c_ij

    `jsnn.Plastic` takes {"input": spikes, "reward": [B]} at a step; a reward without axes is for all samples.

    Source: Izhikevich, "Solving the distal reward problem through linkage of STDP and dopamine signaling" (2007).

    Attributes:
        decay_eligibility: the share of the eligibility trace that is left after one step, in [0, 1].
        decay_reward: the share of the reward (dopamine) that is left after one step, in [0, 1]; 0: it acts at once.
        rate: the factor on the change of weights; dt, in s, for the paper's dw/dt = c * d.

    `decay_pre`, `decay_post`, `potentiation`, `depression`, `pairing` and `bounds` are those of `STDP`.

    Raises:
        ValueError: as `STDP`.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> rule = jsnn.plasticity.RewardSTDP(0.5, 0.5, 0.5, potentiation=0.5)
        >>> plastic = jsnn.Plastic(jnp.array([[0.5]]), rule)
        >>> inputs = {"input": jnp.array([[1.0], [0.0], [0.0]]), "post": jnp.array([[0.0], [1.0], [0.0]])}
        >>> state, _ = jsnn.unroll(plastic, {**inputs, "reward": jnp.array([0.0, 0.0, 1.0])})  # a reward 1 step late
        >>> state.weights.tolist()
        [[0.625]]
    """

    decay_eligibility: Parameter = 0.99
    decay_reward: Parameter = 0.0
    rate: Parameter = dataclasses.field(default=1.0, kw_only=True)

    factors = ("reward",)

    def ranges(self) -> dict[str, Range]:
        return {**super().ranges(), "decay_eligibility": SHARE, "decay_reward": SHARE}

    @classmethod
    @checked
    def from_time_constants(
        cls,
        tau_pre: Parameter = 20e-3,
        tau_post: Parameter = 20e-3,
        tau_eligibility: Parameter = 1.0,
        tau_reward: Parameter = 0.2,
        *,
        dt: float,
        **parameters: Any,
    ) -> Self:
        """Return the rule with time constants in seconds, for steps of `dt` seconds; its rate is `dt`."""
        taus = {
            "tau_pre": tau_pre,
            "tau_post": tau_post,
            "tau_eligibility": tau_eligibility,
            "tau_reward": tau_reward,
        }
        decays = (decay_from_time_constant(name, tau, dt) for name, tau in taus.items())
        return cls(*decays, **{"rate": dt, **parameters})

    def init(self, pre: Shape, post: Shape, dtype: Any) -> RewardTraces:  # type: ignore[override]
        x, y = super().init(pre, post, dtype)
        return RewardTraces(x, y, jnp.zeros((*pre, *post[-1:]), dtype), jnp.zeros(pre[:-1], dtype))

    def update(  # type: ignore[override]
        self, weights: Array, traces: RewardTraces, pre: Array, post: Array, *, reward: Array
    ) -> tuple[Array, RewardTraces]:
        eligibility, pairs = decayed(traces.eligibility, self.decay_eligibility), STDPTraces(traces.pre, traces.post)
        unbounded = self._changed({"bounds": UNBOUNDED})
        eligibility, pairs = STDP.update(unbounded, eligibility, pairs, pre, post)
        reward = decayed(traces.reward, self.decay_reward) + reward
        change = self.rate * over_batch(reward[..., None, None] * eligibility, weights.ndim)
        return self.bounds.raised(weights, change), RewardTraces(*pairs, eligibility, reward)
