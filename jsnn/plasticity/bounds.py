"""The bounds of plastic weights."""

import math
from typing import Any

import jax.numpy as jnp
from flax import nnx

from jsnn.neurons.checks import check_not_negative, value_of_parameter
from jsnn.neurons.pytree import FrozenPytree
from jsnn.types import Array, Parameter


@nnx.dataclass
class Bounds(FrozenPytree):
    """The bounds of weights: hard, soft, or in between.

        raised by d:   w = min(w + d * ((high - w) / (high - low))^softness, high)
        lowered by d:  w = max(w - d * ((w - low) / (high - low))^softness, low)

    With `softness` 0 the bounds are hard: a change does not depend on the weight, which stops at the bound. With 1 they
    are soft: the closer the weight is to a bound, the smaller the steps towards it.

    Source: Guetig, Aharonov, Rotter and Sompolinsky, "Learning input correlations through nonlinear temporally
    asymmetric Hebbian plasticity" (2003).

    Attributes:
        low: the smallest weight.
        high: the largest weight; above `low`. Infinite bounds must be hard.
        softness: the exponent, 0 or more.

    Raises:
        ValueError: if `high` is not above `low`, `softness` is negative, or soft bounds are infinite.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> weights = jnp.array([0.5, 0.75])
        >>> jsnn.plasticity.Bounds(0.0, 1.0).raised(weights, 0.5).tolist()
        [1.0, 1.0]
        >>> jsnn.plasticity.Bounds(0.0, 1.0, softness=1.0).raised(weights, 0.5).tolist()
        [0.75, 0.875]
    """

    low: Parameter = 0.0
    high: Parameter = 1.0
    softness: float = nnx.static(default=0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative("softness", self.softness)
        low, high = value_of_parameter(self.low), value_of_parameter(self.high)
        if low is None or high is None:
            return
        if not (low < high).all():
            raise ValueError(f"high must be above low, got low {low} and high {high}")
        if self.softness and not all(map(math.isfinite, (*low.ravel(), *high.ravel()))):
            raise ValueError(f"soft bounds must be finite, got low {low} and high {high}: take softness=0")

    def raised(self, weights: Array, change: Array) -> Array:
        """Return weights `[..., I, N]` that have gone up by a change; a negative one lowers them."""
        return self.clip(weights + self._softened(weights, change))

    def lowered(self, weights: Array, change: Array) -> Array:
        """Return weights `[..., I, N]` that have gone down by a change; a negative one raises them."""
        return self.clip(weights - self._softened(weights, change, is_down=True))

    def clip(self, weights: Array) -> Array:
        """Return the nearest weights within the bounds."""
        return jnp.clip(weights, jnp.asarray(self.low, weights.dtype), jnp.asarray(self.high, weights.dtype))

    def _softened(self, weights: Array, change: Array, *, is_down: bool = False) -> Array:
        """Return a change as large as the distance from the bound that it leads to allows."""
        if not self.softness:
            return change
        goes_down = jnp.less(change, 0) != is_down
        distance = jnp.where(goes_down, weights - self.low, self.high - weights)
        share = jnp.maximum(distance / (self.high - self.low), 0)
        if self.softness == 1:
            return change * share
        inside = share > 0  # the derivative of a power is infinite at 0
        return change * jnp.where(inside, jnp.where(inside, share, 1) ** self.softness, 0)


UNBOUNDED = Bounds(-math.inf, math.inf)


def check_bounds(bounds: Any) -> None:
    """Raise TypeError if a value is not `Bounds`."""
    if not isinstance(bounds, Bounds):
        raise TypeError(f"bounds must be jsnn.plasticity.Bounds(low, high), got {bounds!r}")
