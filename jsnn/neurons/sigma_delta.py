"""The sigma-delta neuron, which says only by how much its activation has changed."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx

from jsnn import surrogate as surrogates
from jsnn.neurons.base import cast
from jsnn.neurons.checks import check_surrogate
from jsnn.neurons.ranges import POSITIVE, Range
from jsnn.neurons.spiking_activation import Activated
from jsnn.types import Array, Parameter, Shape, SpikeFunction


class SigmaDeltaState(NamedTuple):
    """The state of `SigmaDelta`."""

    sigma: Array
    """The sum of all inputs, [B, ...]."""
    sent: Array
    """The sum of all outputs, what the receivers believe the activation to be, [B, ...]."""


@nnx.dataclass
class SigmaDelta(Activated):
    """Sums up the changes it receives, and sends the change of its activation once that is large enough.

    Each step, in this order:

        sigma = sigma + x                                   sigma: the input, from its changes
        d = activation(sigma + bias) - sent                 what the receivers do not know yet
        y = d where |d| > threshold, else 0                 delta: a graded spike
        sent = sent + y                                     reset: the error starts anew

    The sum of its outputs differs from the activation by the threshold at most. A network of sigma-delta neurons with
    layers without bias between them computes what the network of the activations would, and is silent where nothing
    changes: its input are changes too (`x[t] - x[t-1]`, or a constant given at the first step only). y has the
    derivative of d * H(|d| - threshold), with the surrogate's for H's; it also flows through `sent`. Values have the
    unit of the input; signed.

    Source: Lava's `SigmaDelta` (its `cum_error=False`; it sends at |d| = threshold too); O'Connor and Welling, "Sigma
    delta quantized networks" (2017).

    Attributes:
        activation: any elementwise function.
        threshold: the change up to which the neuron is silent; must be positive.
        bias: added to the sum of the inputs.
        surrogate: the derivative that stands in for the Heaviside's, see `jsnn.surrogate`.

    Raises:
        ValueError: if `threshold` is not positive.
        TypeError: if `activation` or `surrogate` is not a function.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> changes = jnp.array([[1.0], [0.0625], [0.0625], [0.0], [-2.0]])
        >>> state, outputs = jsnn.unroll(jsnn.SigmaDelta(threshold=0.1), changes)  # of a relu
        >>> outputs[:, 0].tolist()
        [1.0, 0.0, 0.125, 0.0, -1.125]
    """

    threshold: Parameter = 0.1
    bias: Parameter = dataclasses.field(default=0.0, kw_only=True)
    surrogate: SpikeFunction = nnx.static(default=surrogates.arctan(), kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_surrogate(self.surrogate)

    def ranges(self) -> dict[str, Range]:
        return {**super().ranges(), "threshold": POSITIVE}

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> SigmaDeltaState:
        return SigmaDeltaState(sigma=jnp.zeros(shape, dtype), sent=jnp.zeros(shape, dtype))

    def step(self, state: SigmaDeltaState, current: Array) -> tuple[SigmaDeltaState, Array]:
        dtype = state.sigma.dtype
        sigma = state.sigma + current.astype(dtype)
        unsent = self.activation(sigma + cast(self.bias, dtype)) - state.sent
        y = unsent * self.surrogate(jnp.abs(unsent) - cast(self.threshold, dtype))
        return SigmaDeltaState(sigma, state.sent + y), y.astype(current.dtype)
