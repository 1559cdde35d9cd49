"""Rules for rates: Oja's, BCM's, and two that keep neurons in their working range.

The activities that they see are rates, or spikes that a lowpass makes rates: `decay` is the share of the lowpass that
is left after one step, and 0 takes the activity of the step as it is. In a step, the lowpasses take the activity first;
then the weights change.
"""

import dataclasses
from typing import Any, NamedTuple, Self

import jax.numpy as jnp
from flax import nnx

from jsnn.arguments import checked
from jsnn.neurons.base import decay_from_time_constant, leakage
from jsnn.neurons.ranges import NOT_NEGATIVE, POSITIVE, SHARE, Range
from jsnn.plasticity.bounds import UNBOUNDED, Bounds, check_bounds
from jsnn.plasticity.rule import Rule, outer, over_batch
from jsnn.types import Array, Parameter, Shape


class RateTraces(NamedTuple):
    """The traces of `Oja`."""

    pre: Array
    """The presynaptic rates, [B, ..., I]."""
    post: Array
    """The postsynaptic rates, [B, ..., N]."""


@nnx.dataclass
class Oja(Rule):
    """Oja's rule: Hebb's, with a decay that keeps the weights of a neuron at length 1.

        x_i = lowpass of s_i,  y_j = lowpass of s_j
        w_ij goes up by rate * y_j * (x_i - y_j * w_ij)

    One linear neuron finds the first principal component of its inputs.

    Source: Oja, "A simplified neuron model as a principal component analyzer" (1982).

    Attributes:
        rate: the factor on the change of weights.
        decay: that of the lowpasses, in [0, 1]; 0: none.
        bounds: those of the weights; by default there are none.

    Raises:
        ValueError: if `decay` lies outside [0, 1].

    Examples:
        >>> import jax, jax.numpy as jnp, jsnn
        >>> x = jax.random.normal(jax.random.key(0), (2000, 2)) * jnp.array([2.0, 0.5])  # [T, I]
        >>> linear = jsnn.LI(decay=0.0)
        >>> state, _ = jsnn.unroll(jsnn.Plastic(jnp.full((2, 1), 0.5), jsnn.plasticity.Oja(0.01), linear), x)
        >>> bool(jnp.abs(state.weights[:, 0] - jnp.array([1.0, 0.0])).max() < 0.1)
        True
    """

    rate: Parameter = 0.01
    decay: Parameter = 0.0
    bounds: Bounds = dataclasses.field(default=UNBOUNDED, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds(self.bounds)

    def ranges(self) -> dict[str, Range]:
        return {**super().ranges(), "decay": SHARE}

    @classmethod
    @checked
    def from_time_constants(cls, tau: Parameter = 20e-3, *, dt: float, **parameters: Any) -> Self:
        """Return the rule with the time constant of the lowpasses in seconds, for steps of `dt` seconds."""
        return cls(**{"decay": decay_from_time_constant("tau", tau, dt), **parameters})

    def init(self, pre: Shape, post: Shape, dtype: Any) -> RateTraces:
        return RateTraces(jnp.zeros(pre, dtype), jnp.zeros(post, dtype))

    def update(  # type: ignore[override]
        self, weights: Array, traces: RateTraces, pre: Array, post: Array
    ) -> tuple[Array, RateTraces]:
        x, y = lowpass(traces.pre, pre, self.decay), lowpass(traces.post, post, self.decay)
        squares = over_batch(jnp.square(y), weights.ndim - 1)[..., None, :]
        return self.bounds.raised(weights, self.rate * (outer(x, y, weights) - squares * weights)), RateTraces(x, y)


class BCMTraces(NamedTuple):
    """The traces of `BCM`."""

    pre: Array
    """The presynaptic rates, [B, ..., I]."""
    post: Array
    """The postsynaptic rates, [B, ..., N]."""
    threshold: Array
    """What the postsynaptic rate must be above for potentiation, [B, ..., N]."""


@nnx.dataclass
class BCM(Rule):
    """The rule of Bienenstock, Cooper and Munro: potentiation above a threshold that slides with the activity.

        x_i = lowpass of s_i,  y_j = lowpass of s_j
        w_ij goes up by rate * x_i * y_j * (y_j - theta_j)              theta: as the step before has left it
        theta_j = decay_threshold * theta_j + (1 - decay_threshold) * y_j^2 / target

    A neuron becomes selective for one of its inputs. The threshold must slide faster than the weights change.

    Source: Bienenstock, Cooper and Munro, "Theory for the development of neuron selectivity" (1982); a threshold of
    the mean square: Intrator and Cooper, "Objective function formulation of the BCM theory" (1992).

    Attributes:
        rate: the factor on the change of weights.
        decay_threshold: the share of the threshold that is left after one step, in [0, 1].
        decay: that of the lowpasses, in [0, 1]; 0: none.
        target: the rate at which the threshold settles; above 0.
        bounds: those of the weights; by default they are 0 or more.

    Raises:
        ValueError: if a decay lies outside [0, 1], or `target` is not positive.

    Examples:
        >>> import jax, jax.numpy as jnp, jsnn
        >>> x = jax.nn.one_hot(jax.random.randint(jax.random.key(0), 4000, 0, 2), 2)  # [T, I]: one of two inputs
        >>> neuron, rule = jsnn.LI(decay=0.0), jsnn.plasticity.BCM(0.02, 0.9)
        >>> state, _ = jsnn.unroll(jsnn.Plastic(jnp.array([[0.6], [0.5]]), rule, neuron), x)
        >>> state.weights[:, 0].round().tolist()  # it answers to one of them, 1 / probability high
        [2.0, 0.0]
    """

    rate: Parameter = 0.01
    decay_threshold: Parameter = 0.99
    decay: Parameter = 0.0
    target: Parameter = dataclasses.field(default=1.0, kw_only=True)
    bounds: Bounds = dataclasses.field(default=Bounds(0.0, jnp.inf), kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds(self.bounds)

    def ranges(self) -> dict[str, Range]:
        return {**super().ranges(), "decay": SHARE, "decay_threshold": SHARE, "target": POSITIVE}

    @classmethod
    @checked
    def from_time_constants(
        cls, tau_threshold: Parameter, tau: Parameter = 20e-3, *, dt: float, **parameters: Any
    ) -> Self:
        """Return the rule with time constants in seconds, for steps of `dt` seconds.

        `tau` is that of the lowpasses.
        """
        decay = decay_from_time_constant("tau", tau, dt)
        slow = decay_from_time_constant("tau_threshold", tau_threshold, dt)
        return cls(**{"decay": decay, "decay_threshold": slow, **parameters})

    def init(self, pre: Shape, post: Shape, dtype: Any) -> BCMTraces:
        y = jnp.zeros(post, dtype)
        return BCMTraces(jnp.zeros(pre, dtype), y, y)

    def update(  # type: ignore[override]
        self, weights: Array, traces: BCMTraces, pre: Array, post: Array
    ) -> tuple[Array, BCMTraces]:
        x, y = lowpass(traces.pre, pre, self.decay), lowpass(traces.post, post, self.decay)
        weights = self.bounds.raised(weights, self.rate * outer(x, y * (y - traces.threshold), weights))
        threshold = lowpass(traces.threshold, jnp.square(y) / self.target, self.decay_threshold)
        return weights, BCMTraces(x, y, threshold)


class ScalingTraces(NamedTuple):
    """The traces of `HomeostaticScaling`."""

    post: Array
    """The postsynaptic rates, in spikes a step, [B, ..., N]."""


@nnx.dataclass
class HomeostaticScaling(Rule):
    """Synaptic scaling: all weights of a neuron grow if it is too quiet, and shrink if it is too active.

        y_j = lowpass of s_j
        w_ij = w_ij * (1 + rate * (target - y_j))

    The ratios of a neuron's weights stay. In a `Chain` with STDP it keeps neurons from falling silent or running away.

    Source: van Rossum, Bi and Turrigiano, "Stable Hebbian learning from spike timing-dependent plasticity" (2000), its
    term of first order; Turrigiano et al., "Activity-dependent scaling of quantal amplitude" (1998).

    Attributes:
        target: the rate that is aimed at, in spikes a step; 0 or more.
        rate: the factor on the change of weights.
        decay: that of the lowpass, in [0, 1]; 0: none.

    Raises:
        ValueError: if `target` is negative, or `decay` lies outside [0, 1].

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> rule = jsnn.plasticity.HomeostaticScaling(target=0.2, rate=0.05, decay=0.95)
        >>> plastic = jsnn.Plastic(jnp.ones((1, 1)), rule, jsnn.LIF(0.9))
        >>> state, spikes = jsnn.unroll(plastic, jnp.ones((2000, 1)))
        >>> bool(jnp.abs(spikes[-1000:].mean() - 0.2) < 0.01)
        True
    """

    target: Parameter
    rate: Parameter = 1e-3
    decay: Parameter = 0.999

    def ranges(self) -> dict[str, Range]:
        return {**super().ranges(), "target": NOT_NEGATIVE, "decay": SHARE}

    @classmethod
    @checked
    def from_time_constants(cls, target: Parameter, tau: Parameter = 1.0, *, dt: float, **parameters: Any) -> Self:
        """Return the rule with the target in Hz and a time constant in seconds, for steps of `dt` seconds."""
        return cls(target * dt, **{"decay": decay_from_time_constant("tau", tau, dt), **parameters})

    def init(self, pre: Shape, post: Shape, dtype: Any) -> ScalingTraces:
        return ScalingTraces(jnp.zeros(post, dtype))

    def update(  # type: ignore[override]
        self, weights: Array, traces: ScalingTraces, pre: Array, post: Array
    ) -> tuple[Array, ScalingTraces]:
        y = lowpass(traces.post, post, self.decay)
        missing = over_batch(self.target - y, weights.ndim - 1)[..., None, :]
        return weights * (1 + self.rate * missing), ScalingTraces(y)


@nnx.dataclass
class Normalization(Rule):
    """Keeps the sum of a neuron's weights: after each step, w_ij = w_ij * total / sum over i of w_ij.

    For weights of 0 or more. In a `Chain` after STDP it makes the synapses of a neuron compete. A neuron whose weights
    are all 0 keeps them.

    Source: Diehl and Cook, "Unsupervised learning of digit recognition using spike-timing-dependent plasticity" (2015),
    where it follows each image.

    Attributes:
        total: the sum; above 0.

    Raises:
        ValueError: if `total` is not positive.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> plastic = jsnn.Plastic(jnp.array([[1.0], [3.0]]), jsnn.plasticity.Normalization(2.0), jsnn.LIF(0.9))
        >>> jsnn.unroll(plastic, jnp.zeros((1, 2)))[0].weights.tolist()
        [[0.5], [1.5]]
    """

    total: Parameter

    needs_post = False

    def ranges(self) -> dict[str, Range]:
        return {**super().ranges(), "total": POSITIVE}

    def update(self, weights: Array, traces: Any, pre: Array, post: Array) -> tuple[Array, Any]:  # type: ignore[override]
        sums = jnp.sum(weights, -2, keepdims=True)
        is_empty = sums == 0
        return weights * jnp.where(is_empty, 1, self.total / jnp.where(is_empty, 1, sums)), traces


def lowpass(value: Array, x: Array, decay: Parameter) -> Array:
    """Return decay * value + (1 - decay) * x."""
    return value + leakage(value, decay, x)
