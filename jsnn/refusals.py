"""Errors for what a network may not do when it is traced; each says what to do instead."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend.core import ClosedJaxpr

from jsnn.neurons.calling import dotted, neuron_p, outputs_so_far, split_operands, steps_in_first_axis
from jsnn.program import called, within
from jsnn.types import Shape

NEEDS_VALUES = (
    jax.errors.ConcretizationTypeError,  # TracerBoolConversionError among them
    jax.errors.NonConcreteBooleanIndexError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


def explained(function: Callable[[Any], Any], x: Any, folded: tuple[int, Shape] | None) -> Any:
    """Return function(x), with an error that names the neurons whose outputs do not fit."""
    tokens = outputs_so_far.set([]), steps_in_first_axis.set(folded)
    try:
        return function(x)
    except NEEDS_VALUES as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"the structure of a network cannot depend on values, which are not known when it is traced: choose with "
            f"jnp.where or jax.lax.cond, or loop with jax.lax.fori_loop, without a neuron inside, and compute with "
            f"jax.numpy in place of NumPy ({reason})"
        ) from error
    except (TypeError, ValueError) as error:
        given = [("the input", shape) for shape in map(jnp.shape, jax.tree.leaves(x))] + outputs_so_far.get()
        meant = [f"{name} has shape {shape}" for name, shape in given if str(shape) in str(error)]
        if not meant and "shape" in str(error):  # of a part of them, such as the channels: the last one was at fault
            meant = [f"{name} has shape {shape}" for name, shape in given[-1:]]
        if meant:
            raise ValueError(f"{str(error).removesuffix('.')}. Here {', '.join(meant)}") from error
        raise
    finally:
        outputs_so_far.reset(tokens[0])
        steps_in_first_axis.reset(tokens[1])


def attributes(network: Any) -> dict[tuple[Any, ...], Any]:
    """Return all that a network holds, by its path, but what Flax notes of its modules."""
    notes = ("_pytree__", "_object__", "_length")
    return {path: part for path, part in nnx.iter_graph(network) if path and not str(path[-1]).startswith(notes)}


def refuse_changes(before: dict[tuple[Any, ...], Any], after: dict[tuple[Any, ...], Any]) -> None:
    """Raise ValueError if a network has changed, in its call, anything but the values of variables."""

    def is_same(old: Any, new: Any) -> bool:
        plain = bool | int | float | str
        are_equal = isinstance(old, plain) and isinstance(new, plain) and old == new
        return old is new or are_equal or isinstance(new, nnx.Variable)

    changed = [path for path in before | after if not is_same(before.get(path, before), after.get(path, after))]
    if changed:
        raise ValueError(
            f"a network cannot change its attribute {dotted(min(changed, key=len))} when it is called, since it is "
            f"traced and the change is lost: make it an nnx.Variable, whose value is kept; what changes at every step "
            f"belongs into the state of a neuron"
        )


def refuse_custom_derivatives(jaxpr: ClosedJaxpr) -> None:
    """Raise ValueError if a neuron is called inside a function with a derivative of its own, which would be lost."""
    for equation in jaxpr.jaxpr.eqns:
        inner = called(equation)
        if inner is None or not (name := first_neuron(inner)):
            continue
        if equation.primitive.name.startswith("custom_"):
            raise ValueError(
                f"{name} is called inside a function with a derivative of its own (jax.custom_vjp or jax.custom_jvp), "
                f"which would be lost: call it outside"
            )
        refuse_custom_derivatives(inner)


def first_neuron(jaxpr: ClosedJaxpr) -> str | None:
    """Return the class name of the first neuron that a program calls; None if it calls none."""
    every = (inner for equation in jaxpr.jaxpr.eqns for inner in within(equation))
    found = (split_operands(inner.params, inner.invars)[1] for inner in every if inner.primitive is neuron_p)
    return next((type(neuron).__name__ for neuron in found), None)
