"""The layers of NIR that have no counterpart elsewhere in jsnn."""

from flax import nnx

from jsnn import surrogate as surrogates
from jsnn.neurons.base import cast
from jsnn.neurons.checks import check_surrogate
from jsnn.neurons.pytree import FrozenPytree
from jsnn.types import Array, Parameter, SpikeFunction


@nnx.dataclass
class Scale(FrozenPytree):
    """Multiplies what it is given, `[B, ...]`, elementwise.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> jsnn.nir.Scale(2.0)(jnp.ones((1, 2))).tolist()
        [[2.0, 2.0]]
    """

    scale: Parameter

    def __call__(self, x: Array) -> Array:
        return x * cast(self.scale, x.dtype)


@nnx.dataclass
class Threshold(FrozenPytree):
    """Spikes in {0, 1} where what it is given, `[B, ...]`, lies above a threshold: a neuron without a membrane.

    Attributes:
        threshold: any number, or one for each neuron or channel.
        surrogate: the derivative that stands in for the step's.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> jsnn.nir.Threshold(1.0)(jnp.array([[0.5, 1.0, 1.5]])).tolist()
        [[0.0, 0.0, 1.0]]
    """

    threshold: Parameter
    surrogate: SpikeFunction = nnx.static(default=surrogates.arctan())

    def __post_init__(self) -> None:
        super().__post_init__()
        check_surrogate(self.surrogate)

    def __call__(self, x: Array) -> Array:
        return self.surrogate(x - cast(self.threshold, x.dtype))
