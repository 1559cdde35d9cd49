"""The classes that `jsnn.compat.norse` uses: an AdEx in Norse's order, and recurrent weights without a diagonal."""

import jax
import jax.numpy as jnp
from flax import nnx

from jsnn.arguments import check_memory, checked
from jsnn.neurons import AdEx
from jsnn.types import Array


@nnx.dataclass
class LIFAdEx(AdEx):
    """`jsnn.AdEx` whose adaptation current is driven by the membrane before the update, as in Norse.

    w = w + (1 - decay_adaptation) * (coupling * (v - v_rest) - w)  with the v of before the step
    """

    def driver(self, before: Array, after: Array) -> Array:
        return before


class NoAutapses(nnx.Module):
    """Recurrent weights without a connection from a neuron to itself, `[B, N] -> [B, N]`."""

    @checked
    def __init__(self, size: int, scale: float, rngs: nnx.Rngs) -> None:
        check_memory("the recurrent weights", (size, size), copies=4)
        self.kernel = nnx.Param(scale * jax.random.normal(rngs.params(), (size, size)) * (1 - jnp.eye(size)))

    def __call__(self, spikes: Array) -> Array:
        kernel = self.kernel[...].astype(spikes.dtype)
        # masked in use as well: the diagonal gets no gradient and counts for nothing, whatever an optimiser does
        return spikes @ (kernel * (1 - jnp.eye(kernel.shape[0], dtype=kernel.dtype)))
