"""Maximum pooling of what spikes say, and not of the spikes of each step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jsnn.layers import max_pool
from jsnn.neurons.checks import is_function
from jsnn.neurons.pytree import FrozenPytree
from jsnn.types import Array, Shape


class SpikingMaxPoolState(NamedTuple):
    """The state of `SpikingMaxPool`."""

    total: Array
    """The sum of all inputs, [B, H, W, C]."""
    sent: Array
    """The sum of all outputs, [B, H // window, W // window, C]."""


@nnx.dataclass
class SpikingMaxPool(FrozenPytree):
    """Max pooling of spikes: the mean of its outputs over time is the maximum of the means of its inputs.

        total = total + x,  y = pool(total) - sent,  sent = sent + y

    The largest total of a window grows by a spike where the input that leads it spikes, so the outputs of spikes are
    spikes. The maximum of the spikes of one step, which is their logical or, would be too large.

    Source: Rueckauer et al. (2017), who gate the input with the largest rate so far.

    Attributes:
        pool: a maximum over windows, or another function with f(a x) = a f(x) for a > 0.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> spikes = jnp.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]).reshape(4, 1, 2, 2, 1)
        >>> state, outputs = jsnn.unroll(jsnn.conversion.SpikingMaxPool(), spikes)
        >>> outputs.ravel().tolist()  # the second input spikes most, twice
        [1.0, 0.0, 1.0, 0.0]
    """

    pool: Callable[[Array], Array] = nnx.static(default=max_pool)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_function(self.pool):
            raise TypeError(f"pool must be a function such as jsnn.max_pool, got {self.pool!r}")

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> SpikingMaxPoolState:
        pooled = jax.eval_shape(self.pool, jax.ShapeDtypeStruct(shape, dtype))
        return SpikingMaxPoolState(jnp.zeros(shape, dtype), jnp.zeros(pooled.shape, dtype))

    def step(self, state: SpikingMaxPoolState, current: Array) -> tuple[SpikingMaxPoolState, Array]:
        total = state.total + current.astype(state.total.dtype)
        largest = self.pool(total)
        return SpikingMaxPoolState(total, largest), (largest - state.sent).astype(current.dtype)
