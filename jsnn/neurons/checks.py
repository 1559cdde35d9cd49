"""Checks of what neurons are made with, and what can be checked of a parameter."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn import surrogate as surrogates
from jsnn.neurons.ranges import NOT_NEGATIVE, POSITIVE, SHARE
from jsnn.types import Array, Neuron, Parameter, SpikeFunction


def has_field(part: Any, name: str) -> bool:
    """Return whether a part is a dataclass with a field of that name."""
    return dataclasses.is_dataclass(part) and name in {field.name for field in dataclasses.fields(part)}


def is_key(value: Any) -> TypeGuard[Array]:
    """Return whether a value is a key made by `jax.random.key`."""
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def is_function(value: Any) -> bool:
    """Return whether a value can be called as a function, which classes, parameters and neurons cannot."""
    return callable(value) and not isinstance(value, nnx.Variable | type | Neuron)


def check_is_neuron(taker: str, value: Any) -> None:
    """Raise TypeError, with the name of the taker, if a value is no Neuron."""
    if isinstance(value, type):
        raise TypeError(f"{taker} takes a neuron, got the class {value.__name__}: make one, {value.__name__}(...)")
    if not isinstance(value, Neuron):
        raise TypeError(
            f"{taker} takes a Neuron, an object with init and step, got {type(value).__name__}: "
            f"put layers without memory into jsnn.Sequential"
        )


def check_surrogate(surrogate: Any) -> None:
    """Raise TypeError if a value is not a function, or one that would make a surrogate if it were called."""
    name = getattr(surrogate, "__name__", "")
    if not is_function(surrogate) or vars(surrogates).get(name) is surrogate:
        raise TypeError(f"surrogate must be a function such as jsnn.surrogate.{name or 'arctan'}(), got {surrogate!r}")


def is_step(surrogate: SpikeFunction) -> bool:
    """Return whether a surrogate is 0 below the threshold and 1 above it, as spikes are."""
    with jax.ensure_compile_time_eval():  # of one number at a time: one of a user's may have a slope for each neuron
        return all(bool(jnp.all(surrogate(jnp.asarray(x)) == (x > 0))) for x in (-1.0, -1e-3, 1e-3, 1.0))


def check_positive(name: str, parameter: Parameter) -> None:
    """Raise ValueError if a parameter has a value that is not above 0 everywhere."""
    check_holds(name, parameter, POSITIVE.holds, POSITIVE.rule)


def check_not_negative(name: str, parameter: Parameter) -> None:
    """Raise ValueError if a parameter has a value that is not 0 or above everywhere."""
    check_holds(name, parameter, NOT_NEGATIVE.holds, NOT_NEGATIVE.rule)


def check_decay(name: str, parameter: Parameter) -> None:
    """Raise ValueError if a parameter has a value that is not in [0, 1] everywhere."""
    check_holds(name, parameter, SHARE.holds, SHARE.rule)


def check_holds(name: str, parameter: Parameter, holds: Callable[[np.ndarray], Any], rule: str) -> None:
    """Raise ValueError if a parameter has a value for which the rule does not hold, TypeError if it is not a number."""
    value = value_of_parameter(parameter)
    if value is None:
        return
    if isinstance(parameter, (list, tuple)) or is_key(parameter) or not jnp.issubdtype(value.dtype, jnp.number):
        raise TypeError(f"{name} must be a number, an array or an nnx.Param, got {parameter!r}")
    with np.errstate(invalid="ignore"):  # which bfloat16 warns of at NaN
        kept = np.all(holds(value))
    if not kept:
        raise ValueError(f"{name} {rule}, got {value}")


def value_of_parameter(parameter: Parameter) -> np.ndarray | None:
    """Return what can be checked of a parameter.

    None if it was made inside a traced function, where it has no value yet.
    """
    value = parameter[...] if isinstance(parameter, nnx.Variable) else parameter
    return (
        None
        if isinstance(value, jax.core.Tracer)
        else np.asarray(jax.random.key_data(value) if is_key(value) else value)
    )
