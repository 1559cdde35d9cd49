"""What additions and multiplications of a bit width cost."""

from typing import NamedTuple

from jsnn.energy.operations import Operations


class Arithmetic(NamedTuple):
    """The energies of one addition and one multiplication."""

    addition: float
    """J, in the width of a sum."""
    multiplication: float
    """J, in the width of the weights."""


ARITHMETIC = {
    "float32": Arithmetic(0.9e-12, 3.7e-12),
    "float16": Arithmetic(0.9e-12, 1.1e-12),
    "int8": Arithmetic(0.1e-12, 0.2e-12),
}
"""Energies at 45 nm and 0.9 V by the type of the weights. Sums are in float32 for floating point, in int32 for int8."""


def arithmetic(operations: Operations) -> float:
    """Return what the additions and multiplications of one inference cost in an ASIC at 45 nm, in J.

    An effective accumulate is an addition, an effective multiply-accumulate a multiplication as well, both in the bit
    widths that the network computes with: the weights of a network by `jsnn.quant.integer` are int8. Reading weights
    and states from memory, which usually costs more, is left out, and so are the updates of the neurons.

    Args:
        operations: what `count` has counted.

    Raises:
        TypeError: if it is something else.
        ValueError: if the weights are of a type whose energy is not known.

    Source: Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> layer = nnx.Linear(4, 3, kernel_init=nnx.initializers.ones, rngs=nnx.Rngs(0))
        >>> network = jsnn.quant.aware(jsnn.Sequential(layer, jsnn.LIF(0.9)))
        >>> spikes = jnp.zeros((10, 1, 4)).at[2, 0, 1].set(1.0)  # one spike, 3 additions
        >>> float(f"{arithmetic(jsnn.energy.count(network, spikes)):.2g}")
        2.7e-12
        >>> float(f"{arithmetic(jsnn.energy.count(jsnn.quant.integer(network), spikes)):.2g}")
        3e-13
    """
    if not isinstance(operations, Operations):
        raise TypeError(f"operations must be what jsnn.energy.count returns, got {type(operations).__name__}")
    total = 0.0
    for row in operations.synapses:
        kind = "float16" if row.dtype == "bfloat16" else row.dtype
        if kind not in ARITHMETIC:
            raise ValueError(
                f"the energy of {row.weights} in {row.dtype} is not known: known are {', '.join(ARITHMETIC)}"
            )
        cost = ARITHMETIC[kind]
        total += row.effective * (cost.addition + (0 if row.accumulates else cost.multiplication))
    return total
