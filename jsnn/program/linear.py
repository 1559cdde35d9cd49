"""Which operations of a program are linear in the values that vary."""

from collections.abc import Collection
from typing import Any

import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from jsnn.program.jaxpr import Operation, Program, called, flatten, within

RANDOM = ("random_", "threefry", "rng_")  # how the names of operations begin that draw random numbers
SUMS = ("add", "add_any", "sub")
LINEAR = (
    *SUMS, "broadcast_in_dim", "concatenate", "convert_element_type", "copy", "copy_p", "cumsum", "device_put",
    "expand_dims", "mesh_cast", "name", "neg", "optimization_barrier", "pad", "reduce_precision", "reduce_sum",
    "reduce_window_sum", "reshape", "reshard", "rev", "scatter-add", "sharding_constraint", "slice", "split", "squeeze",
    "stop_gradient", "transpose",
)  # fmt: skip
# products with weights, and what their layers are called
SYNAPTIC = {"dot_general": "dense", "conv_general_dilated": "convolution", "sparse_product": "sparse"}
_LINEAR_IN_ONE = (*SYNAPTIC, "mul", "dynamic_update_slice")
_LINEAR_IN_FIRST = ("div", "dynamic_slice", "gather")


def is_random(equation: JaxprEqn) -> bool:
    """Return whether an operation draws random numbers, in its loops and calls too."""
    return any(inner.primitive.name.startswith(RANDOM) for inner in within(equation))


def is_linear(program: Program, operation: Operation, dependent: Collection[int]) -> bool:
    """Return whether an operation is known to be linear (or affine) in those of its inputs that are among `dependent`.

    Of a call, that is whether all in it is.
    """

    def is_floating(value: Any) -> bool:
        return jnp.issubdtype(program.types[value].dtype, jnp.floating)

    varies = [atom in dependent for atom in operation.inputs]
    if not any(is_floating(atom) for atom in operation.inputs if atom in dependent):
        return True  # it does not vary, or was made of what is not linear already
    if not all(map(is_floating, operation.outputs)):
        return False
    if operation.name in _LINEAR_IN_ONE:
        return sum(varies) == 1
    if operation.name in _LINEAR_IN_FIRST:
        return not any(varies[1:])
    if operation.name == "select_n":
        return not varies[0]
    inner = called(operation.equation)
    if inner is None:
        return operation.name in LINEAR
    opened = flatten(inner)
    given = zip(opened.inputs, varies[len(varies) - len(opened.inputs) :], strict=True)
    varying = opened.depending_on([number for number, is_varying in given if is_varying])
    return all(is_linear(opened, part, varying) for part in opened.operations)
