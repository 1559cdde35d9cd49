"""What all rules of plasticity share, and what they are made of: products over a batch, and traces.

A rule is a frozen pytree, as a neuron is: its parameters may each be a number, an array or an `nnx.Param` (trained),
and gradients flow through what it does. Arrays broadcast from the right: `[I]` is per presynaptic neuron, `[N]` per
postsynaptic one, `[I, N]` per synapse. The state of a rule is a pytree of arrays, its traces.
"""

import math
from typing import Any, ClassVar, Literal, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx

from jsnn.arguments import checked
from jsnn.neurons.base import leakage
from jsnn.neurons.pytree import FrozenPytree
from jsnn.types import Array, Parameter, Shape

Traces: TypeAlias = Any  # a pytree of arrays
Pairing: TypeAlias = Literal["all", "nearest"]


@nnx.dataclass
class Rule(FrozenPytree):
    """A rule of plasticity: how weights change with the activity on both of their sides.

    A rule of one's own derives from it and has a method `update`, and `init` if it has traces:

        @nnx.dataclass
        class Hebb(jsnn.plasticity.Rule):
            rate: float = 0.01

            def update(self, weights, traces, pre, post):
                return weights + self.rate * jsnn.plasticity.outer(pre, post, weights), traces

    In a step, `jsnn.Plastic` calls `transmit` before the postsynaptic neuron steps, and `update` after it.

    Attributes:
        needs_post: whether `update` looks at the postsynaptic activity. (Of the class.)
        factors: the names of further inputs that `update` takes, such as `("reward",)`. (Of the class.)

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> @nnx.dataclass
        ... class Hebb(jsnn.plasticity.Rule):
        ...     rate: float = 0.5
        ...
        ...     def update(self, weights, traces, pre, post):
        ...         return weights + self.rate * jsnn.plasticity.outer(pre, post, weights), traces
        >>> plastic = jsnn.Plastic(jnp.ones((2, 1)), Hebb(), jsnn.LIF(0.9))
        >>> state, spikes = jsnn.unroll(plastic, jnp.array([[[2.0, 0.0]]]))  # [T, B, I]
        >>> state.weights[0].tolist()
        [[2.0], [1.0]]
    """

    needs_post: ClassVar[bool] = True
    factors: ClassVar[tuple[str, ...]] = ()
    _checks: ClassVar[dict[str, Any]] = {}

    def init(self, pre: Shape, post: Shape, dtype: Any) -> Traces:
        """Return the traces before the first step.

        Args:
            pre: the shape of the presynaptic activity at a step, `[..., I]`.
            post: that of the postsynaptic activity, `[..., N]`.
            dtype: that of the traces.
        """
        return ()

    def transmit(self, traces: Traces, pre: Array) -> tuple[Traces, Array]:
        """Return the traces, and what the weights are to be multiplied with, `[..., I]`: by default the spikes."""
        return traces, pre

    def update(self, weights: Array, traces: Traces, pre: Array, post: Array, **factors: Array) -> tuple[Array, Traces]:
        """Return the weights and the traces after a step.

        Args:
            weights: `[..., I, N]`, for each sample its own, or `[I, N]` for all of them.
            traces: those of the step before, as `transmit` has changed them.
            pre: spikes or rates of the presynaptic neurons at this step, `[..., I]`.
            post: those of the postsynaptic neurons at this step, `[..., N]`.
            factors: the further inputs, each of shape `[...]`.

        Returns:
            `(weights, traces)`. If the weights are for all samples, one for each is right as well: their mean is taken.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method update(weights, traces, pre, post)")


@nnx.dataclass
class Chain(Rule):
    """Several rules for the same weights, one after another in each step.

    Attributes:
        rules: the rules; at least one.

    Raises:
        TypeError: if one of them is not a rule.
        ValueError: if there is none.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> rule = jsnn.plasticity.Chain((jsnn.plasticity.STDP(), jsnn.plasticity.Normalization(total=10.0)))
        >>> plastic = jsnn.Plastic(jnp.full((100, 3), 0.5), rule, jsnn.LIF(0.9))
        >>> state, spikes = jsnn.unroll(plastic, jnp.ones((5, 1, 100)))  # [T, B, I]
        >>> state.weights[0].sum(0).round(3).tolist()
        [10.0, 10.0, 10.0]
    """

    rules: tuple[Rule, ...] = nnx.data()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.rules, tuple | list):
            raise TypeError(f"Chain takes a tuple of rules, Chain((first, second)), got {self.rules!r}")
        if not self.rules:
            raise ValueError("Chain needs at least one rule, got none")
        for rule in self.rules:
            check_is_rule("Chain", rule)

    @property
    def needs_post(self) -> bool:  # type: ignore[override]
        """Whether one of the rules looks at the postsynaptic activity."""
        return any(rule.needs_post for rule in self.rules)

    @property
    def factors(self) -> tuple[str, ...]:  # type: ignore[override]
        """The further inputs of all rules."""
        return tuple(dict.fromkeys(name for rule in self.rules for name in rule.factors))

    def init(self, pre: Shape, post: Shape, dtype: Any) -> Traces:
        return tuple(rule.init(pre, post, dtype) for rule in self.rules)

    def transmit(self, traces: Traces, pre: Array) -> tuple[Traces, Array]:
        after = []
        for rule, own in zip(self.rules, traces, strict=True):
            own, pre = rule.transmit(own, pre)
            after.append(own)
        return tuple(after), pre

    def update(self, weights: Array, traces: Traces, pre: Array, post: Array, **factors: Array) -> tuple[Array, Traces]:
        after = []
        for rule, own in zip(self.rules, traces, strict=True):
            wanted = {name: factors[name] for name in rule.factors}
            weights, own = rule.update(weights, own, pre, post, **wanted)
            after.append(own)
        return weights, tuple(after)


@checked
def outer(pre: Array, post: Array, weights: Array) -> Array:
    """Return the products of all pairs of neurons, in the shape of the weights.

    Where the weights are for all samples, it is the mean of the products over the samples: one matrix product.

    Args:
        pre: of the presynaptic neurons, `[..., I]`.
        post: of the postsynaptic neurons, `[..., N]`.
        weights: `[..., I, N]` or `[I, N]`, of which only the number of axes matters.

    Raises:
        ValueError: if the shapes do not fit each other.

    Examples:
        >>> import jax.numpy as jnp
        >>> pre, post = jnp.array([[1.0, 0.0], [1.0, 1.0]]), jnp.array([[2.0], [4.0]])  # B = 2, I = 2, N = 1
        >>> outer(pre, post, jnp.zeros((2, 2, 1))).tolist()
        [[[2.0], [0.0]], [[4.0], [4.0]]]
        >>> outer(pre, post, jnp.zeros((2, 1))).tolist()
        [[3.0], [2.0]]
    """
    if pre.ndim == 0 or post.shape[:-1] != pre.shape[:-1] or post.ndim == 0:
        raise ValueError(f"pre and post must be [..., I] and [..., N], got shapes {pre.shape} and {post.shape}")
    if weights.ndim not in (2, pre.ndim + 1):
        raise ValueError(f"weights must be [..., I, N] or [I, N], got shape {weights.shape} for pre {pre.shape}")
    if pre.ndim + 1 == weights.ndim:
        return pre[..., :, None] * post[..., None, :]
    rows = math.prod(pre.shape[:-1])
    pre, post = pre.reshape(rows, pre.shape[-1]), post.reshape(rows, post.shape[-1])
    return jnp.matmul(pre.T, post, precision=jax.lax.Precision.HIGHEST) / max(rows, 1)


def project(pre: Array, weights: Array) -> Array:
    """Return the currents that activities `[..., I]` make through weights `[..., I, N]` or `[I, N]`, `[..., N]`."""
    if pre.ndim + 1 == weights.ndim:
        return jnp.einsum("...i,...in->...n", pre, weights)
    return jnp.matmul(pre, weights)


@checked
def over_batch(values: Array, ndim: int) -> Array:
    """Return the mean over the first axes of an array, of which as many are left as `ndim` says.

    Raises:
        ValueError: if `ndim` is negative, or more than there are axes.

    Examples:
        >>> import jax.numpy as jnp
        >>> over_batch(jnp.array([[1.0, 2.0], [3.0, 6.0]]), 1).tolist()
        [2.0, 4.0]
    """
    if not 0 <= ndim <= values.ndim:
        raise ValueError(f"ndim must be from 0 to the number of axes of values, {values.ndim}, got {ndim}")
    axes = tuple(range(values.ndim - ndim))
    count = math.prod(values.shape[: len(axes)])
    return jnp.sum(values, axes) / max(count, 1) if axes else values


def decayed(trace: Array, decay: Parameter) -> Array:
    """Return a trace one step later: the share `decay` of it."""
    return trace + leakage(trace, decay)


def marked(trace: Array, spikes: Array, pairing: Pairing) -> Array:
    """Return a trace after spikes: 1 higher where all of them count, or 1 where only the last one does."""
    return trace + spikes if pairing == "all" else trace + spikes * (1 - trace)


def check_is_rule(taker: str, rule: Any) -> None:
    """Raise TypeError, with the name of the taker, if a value is no rule."""
    if isinstance(rule, type):
        raise TypeError(f"{taker} takes a rule, got the class {rule.__name__}: make one, {rule.__name__}(...)")
    if not isinstance(rule, Rule):
        raise TypeError(
            f"{taker} takes a rule such as jsnn.plasticity.STDP(...), or one derived from jsnn.plasticity.Rule, "
            f"got {type(rule).__name__}"
        )
