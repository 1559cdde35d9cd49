"""Frozen pytrees, which all neurons and filters are: their parameters are set once, and used within their ranges."""

import copy
import dataclasses
import functools
import sys
from collections.abc import Callable
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.arguments import check_parameters, is_array, is_traced, parameters_of
from jsnn.keywords import check_keywords
from jsnn.neurons.calling import call
from jsnn.neurons.checks import check_holds, has_field, is_key, value_of_parameter
from jsnn.neurons.ranges import NUMBER, Range
from jsnn.neurons.shapes import fitting_init, fitting_step, refuse_call, refuse_hash
from jsnn.types import Array, Parameter


class Ranged:
    """The part of anything with parameters that says which ranges they have."""

    def ranges(self) -> dict[str, Range]:
        """Return the ranges of the parameters that have one, by name."""
        return {}

    def within_ranges(self) -> Self:
        """Return the same with its trained parameters within their ranges; itself, if it has none."""
        changes = {
            name: _projected(parameter, allowed)
            for name, allowed in self.ranges().items()
            if isinstance(parameter := vars(self).get(name), nnx.Param)
        }
        return self._changed(changes) if changes else self

    def for_unroll(self) -> Self:
        """Return the same for all steps of an unroll: within its ranges, and with all computed that no step changes."""
        return self.within_ranges()

    def _changed(self, changes: dict[str, Any]) -> Self:
        changed = copy.copy(self)
        for name, value in changes.items():
            object.__setattr__(changed, name, value)
        return changed


class FrozenPytree(Ranged, nnx.Pytree):
    """A Flax pytree whose attributes are set once, when it is made.

    `dataclasses.replace(neuron, threshold=0.5)` makes a changed copy. The methods `init`, `step`, `all_steps`,
    `__call__`, `transmit` and `update` of every subclass see the parameters as `in_use` gives them; before them stand
    `_checks`: in `init` and `step`, that parameters, state and input fit each other.
    """

    # The arrays that were passed in from inside a traced function. They have a gradient: to stop it would be to give
    # wrong derivatives of that function.
    _free: frozenset[str] = frozenset()
    _is_in_use: bool = False
    _takes_integers: ClassVar[bool] = False
    _checks: ClassVar[dict[str, Callable[..., Any]]] = {"init": fitting_init, "step": fitting_step}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in vars(cls).keys() & {"init", "step", "all_steps", "__call__", "transmit", "update"}:
            method = vars(cls)[name]
            checked = cls._checks[name](method) if name in cls._checks else method
            setattr(cls, name, _with_parameters_in_use(checked))
        setattr(cls, "__hash__", refuse_hash)  # noqa: B010
        if "__eq__" not in vars(cls):  # that of a dataclass asks arrays whether they are true
            setattr(cls, "__eq__", _equal)  # noqa: B010

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        check_keywords(cls, kwargs)
        return super().__new__(cls)

    def __call__(self, x: Array, *state: Any) -> Array:
        """Return what stands for the output at one time step, while a `jsnn.Network` is traced.

        See `jsnn.neurons.call`. A state, as other libraries pass it, is refused.
        """
        if state:
            refuse_call(self)
        return call(self, x)  # type: ignore[arg-type]

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return nnx.clone(self)  # Flax would copy functions as well, and JAX's are then no longer the same

    def per_neuron(self) -> dict[str, Any]:
        """Return the parameters by name, each a number or an array that broadcasts against the neurons."""
        return {name: getattr(self, name) for name in parameters_of(type(self))}

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            if name not in {field.name for field in dataclasses.fields(type(self))}:  # type: ignore[arg-type]
                raise AttributeError(f"{type(self).__name__} has no parameter {name!r}")
            if name in vars(self):
                raise dataclasses.FrozenInstanceError(
                    f"{type(self).__name__}.{name} cannot be changed: "
                    f"make a copy with dataclasses.replace(neuron, {name}=...)"
                )
        super().__setattr__(name, as_data(value))

    def __post_init__(self) -> None:
        """Check the numbers of all parts; their own checks call this one first."""
        check_parameters(self)
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value: Any = vars(self).get(field.name) if field.metadata.get("static") else None
            if is_array(value) and value.ndim == 0 and not is_key(value):  # which Flax does not take
                if is_traced(value):
                    raise TypeError(
                        f"{type(self).__name__}: {field.name} must be known when the function is traced, so make it "
                        f"static under jit"
                    )
                object.__setattr__(self, field.name, value.item())
        for name, value in vars(self).items():
            if isinstance(value, nnx.Variable) and not hasattr(value.get_value(), "dtype"):
                raise TypeError(
                    f"{name} must hold a number or an array, got {type(value).__name__}({value.get_value()!r})"
                )
        for name, allowed in (dict.fromkeys(parameters_of(type(self)), NUMBER) | self.ranges()).items():
            self._check_range(name, allowed)
        free = frozenset(name for name, value in vars(self).items() if _is_differentiated(value))
        if free:
            original = _original()
            if isinstance(original, FrozenPytree):  # what was fixed in it stays fixed in a copy
                held = {name for name in free if vars(self)[name] is vars(original).get(name)}
                free -= held - original._free
            object.__setattr__(self, "_free", free)

    def in_use(self) -> Self:
        """Return the part as a step uses it: trained parameters within their ranges, no gradient for what is fixed."""
        if self._is_in_use:
            return self
        ranges = self.ranges()
        changes: dict[str, Any] = {}
        for name, value in vars(self).items():
            if isinstance(value, nnx.Param):
                if name in ranges:
                    changes[name] = _projected(value, ranges[name])
            elif isinstance(value, nnx.Variable):
                changes[name] = value.copy(jax.lax.stop_gradient(value[...]))
            elif name not in self._free and _is_differentiated(value):
                changes[name] = jax.lax.stop_gradient(value)
        return self._changed({**changes, "_is_in_use": True}) if changes else self

    def _check_range(self, name: str, allowed: Range) -> None:
        """Raise ValueError if a parameter has a value out of its range; but project what was trained."""
        parameter = getattr(self, name)
        if parameter is None or is_key(parameter):
            return
        if isinstance(parameter, nnx.Param) and _original() is not None:
            if allowed is NUMBER:
                return
            value, low, high = (value_of_parameter(part) for part in (parameter, allowed.low, allowed.high))
            if value is None or low is None or high is None or not np.all(np.clip(value, low, high) == value):
                object.__setattr__(self, name, _projected(parameter, allowed))
        else:
            check_holds(name, parameter, allowed.holds, allowed.rule)


def _with_parameters_in_use(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: FrozenPytree, *args: Any, **kwargs: Any) -> Any:
        return method(self.in_use(), *args, **kwargs)

    return call


def _equal(part: Any, other: Any) -> Any:
    """Return whether a part is of the same class as another, with the same parameters: arrays are compared whole."""
    if type(part) is not type(other):
        return NotImplemented
    return all(_same(getattr(part, field.name), getattr(other, field.name)) for field in dataclasses.fields(part))


def _same(value: Any, other: Any) -> bool:
    if isinstance(value, nnx.Variable) and type(value) is type(other):
        value, other = value[...], other[...]
    if is_array(value) or is_array(other):
        value, other = (jax.random.key_data(x) if is_key(x) else x for x in (value, other))
        return np.array_equal(value, other)
    return bool(value == other)


def _projected(parameter: nnx.Param, allowed: Range) -> nnx.Param:
    return parameter.copy(allowed.project(parameter[...]))  # type: ignore[return-value]


def _is_differentiated(value: Any) -> bool:
    """Return whether a value is a fixed array inside of a traced function, which may be about to be differentiated."""
    return isinstance(value, jax.core.Tracer) and jnp.issubdtype(value.dtype, jnp.inexact)


def _original() -> Any:
    """Return the part of which `dataclasses.replace` makes this copy, or None: then the part is made anew.

    In a copy, a trained value out of its range is no mistake.
    """
    frame: Any = sys._getframe(1)
    while frame is not None and (
        frame.f_code.co_name in ("_check_range", "__post_init__", "__init__")
        or frame.f_globals.get("__name__", "").startswith("flax.")
    ):
        frame = frame.f_back
    if frame is None or frame.f_globals.get("__name__") != "dataclasses":
        return None
    return frame.f_locals[frame.f_code.co_varnames[0]]  # the first argument, whose name depends on Python's version


def map_parts(tree: Any, is_wanted: Callable[[Any], bool], change: Callable[[Any], Any]) -> Any:
    """Return a network in which some parts are changed, the innermost first; the others stay the same objects.

    A part that stands in two places is changed once, and both places get the same new part.
    """
    done: dict[int, tuple[Any, Any]] = {}  # by identity; the part itself is held, so that no other gets its number

    def visit(tree: Any) -> Any:
        if id(tree) in done:
            return done[id(tree)][1]
        structure: Any
        children, structure = jax.tree.flatten(tree, is_leaf=lambda node: node is not tree)
        if isinstance(tree, nnx.Variable) or (len(children) == 1 and children[0] is tree):
            return tree
        changed, found = [visit(child) for child in children], tree
        if any(new is not old for new, old in zip(changed, children)):
            found = structure.unflatten(changed)
        done[id(tree)] = tree, change(found) if is_wanted(found) else found
        return done[id(tree)][1]

    return visit(tree)


def within_ranges(tree: Any) -> Any:
    """Return a network in which all trained parameters are within their ranges."""
    return map_parts(tree, lambda part: isinstance(part, Ranged), lambda part: part.within_ranges())


def for_unroll(tree: Any) -> Any:
    """Return a network as all time steps of an unroll use it.

    `unroll` begins with it, so that the gradient of all time steps is looked at as a whole: whether it leads back.
    """
    return map_parts(tree, lambda part: isinstance(part, Ranged), lambda part: part.for_unroll())


def as_data(value: Any) -> Any:
    """Return a value as Flax takes it for an attribute.

    Flax knows arrays and its own modules for data, but not what stands for an array inside a traced function, nor
    another pytree that holds arrays, such as a user's neuron. A number in a variable, as in `nnx.Param(0.9)`, becomes
    an array, which can be indexed and trained; and whole numbers in an `nnx.Param` floating point, as they are trained.
    A number of NumPy, as `np.exp` returns, becomes one of Python: in bfloat16, only those keep a product narrow.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, nnx.Variable):
        number = value.get_value()
        is_number = isinstance(number, int | float | list | tuple) and not isinstance(number, bool)
        dtype = getattr(number, "dtype", None) if isinstance(value, nnx.Param) else None
        is_whole = dtype is not None and jnp.issubdtype(dtype, jnp.integer)
        if is_number or is_whole:
            value.set_value(jnp.asarray(number, float))
    holds_arrays = any(isinstance(leaf, jax.Array | np.ndarray) for leaf in jax.tree.leaves(value))
    return nnx.data(value) if holds_arrays and not nnx.is_data(value) else value


def with_dt(network: Any, dt: Parameter) -> Any:
    """Return a neuron, a filter or a whole network with another time step `dt`, s, in all parts that have one.

    `dt` may be traced, and so follow a schedule during training. Neurons whose decay was computed from a time constant
    once (`LIF.from_time_constants`) have no `dt` and stay as they are.
    """

    def change(part: Any) -> Any:
        return dataclasses.replace(part, dt=dt) if _has_dt(part) else part

    return jax.tree.map(change, network, is_leaf=_has_dt)


def parts_with_dt(network: Any) -> list[Any]:
    """Return the parts of a neuron, a filter or a whole network that `with_dt` changes."""
    return [part for part in jax.tree.leaves(network, is_leaf=_has_dt) if _has_dt(part)]


def _has_dt(part: Any) -> bool:
    return isinstance(part, FrozenPytree) and has_field(part, "dt")
