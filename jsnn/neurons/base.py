"""What all neurons share: they are frozen pytrees, and those that spike fire and reset in one way.

Conventions of the whole library, so that no neuron's docstring has to repeat them:

* One Heaviside. A neuron spikes where `v - threshold > 0`, strictly: a membrane exactly at its threshold is silent.
* Parameters may each be a number (fixed, and part of the compiled program), an array (fixed) or an `nnx.Param`
  (trained). Arrays broadcast against the state from the right: `[N]` is per neuron after a dense layer, `[C]` per
  channel after a convolution.
* A trained parameter that an optimiser leads out of its range is used with the nearest value inside, and its gradient
  leads it back (`jsnn.neurons.ranges`); so no optimiser step makes a neuron explode. Every copy holds that value.
* Only an `nnx.Param` has a gradient. That of an array which a neuron holds is stopped.
* The state has the dtype that `init` was given, and keeps it; the output has the dtype of the current. The state that
  `unroll` starts from by itself is float32 or wider, since a sum over time needs more than the 8 bits of bfloat16.
* Nothing is broadcast against the batch: `init` and `step` raise ValueError if a parameter does not fit the neurons,
  and `step` if the state is not one for its input.
"""

import copy
import dataclasses
import functools
import sys
from collections.abc import Callable
from typing import Any, Literal, Self, TypeAlias, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from jsnn import surrogate as surrogates
from jsnn.arguments import check_keywords, check_parameters, parameters_of
from jsnn.neurons.ranges import NOT_NEGATIVE, POSITIVE, SHARE, Range
from jsnn.neurons.shapes import fitting_init, fitting_step, refuse_call, refuse_hash
from jsnn.recurrence import linear_recurrence
from jsnn.types import Array, Neuron, Parameter, Shape, SpikeFunction

ResetFunction: TypeAlias = Callable[[Array, Array, Array], Array]  # (v, spikes, threshold) -> v
Reset: TypeAlias = Literal["subtract", "zero", "none"] | ResetFunction
Discretization: TypeAlias = Literal["exact", "euler"]


MEMBRANE = "membrane"  # by this name `unroll` finds what its backward pass keeps of a step


class Ranged:
    """The part of anything with parameters that says which ranges they have."""

    def ranges(self) -> dict[str, Range]:
        """The ranges of the parameters that have one, by name."""
        return {}

    def within_ranges(self) -> Self:
        """The same with its trained parameters within their ranges; itself, if it has none."""
        changes = {
            name: _projected(parameter, allowed)
            for name, allowed in self.ranges().items()
            if isinstance(parameter := vars(self).get(name), nnx.Param)
        }
        return self._changed(changes) if changes else self

    def _changed(self, changes: dict[str, Any]) -> Self:
        changed = copy.copy(self)
        for name, value in changes.items():
            object.__setattr__(changed, name, value)
        return changed


class FrozenPytree(Ranged, nnx.Pytree):
    """A Flax pytree whose attributes are set once, when it is made.

    `dataclasses.replace(neuron, threshold=0.5)` makes a changed copy. The methods `init`, `step`, `all_steps` and
    `__call__` of every subclass see the parameters as `in_use` gives them; `init` and `step` check first that
    parameters, state and input fit each other.
    """

    # The arrays that were passed in from inside a traced function. They have a gradient: to stop it would be to give
    # wrong derivatives of that function.
    _free: frozenset[str] = frozenset()
    _is_in_use: bool = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, check in (("init", fitting_init), ("step", fitting_step)):
            if name in vars(cls):
                setattr(cls, name, check(vars(cls)[name]))
        for name in ("init", "step", "all_steps", "__call__"):
            if name in vars(cls):
                setattr(cls, name, _with_parameters_in_use(vars(cls)[name]))
        setattr(cls, "__hash__", refuse_hash)  # noqa: B010

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        takes_seconds = "from_time_constants" in dir(cls)
        check_keywords(cls, kwargs, f"{cls.__name__}.from_time_constants" if takes_seconds else "")
        return super().__new__(cls)

    __call__ = refuse_call

    def per_neuron(self) -> dict[str, Any]:
        """The parameters by name, each a number or an array that broadcasts against the neurons."""
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
        for name, allowed in self.ranges().items():
            self._check_range(name, allowed)
        free = frozenset(name for name, value in vars(self).items() if _is_differentiated(value))
        if free:
            object.__setattr__(self, "_free", free)

    def in_use(self) -> Self:
        """The part as a step uses it: trained parameters within their ranges, no gradient for what is fixed."""
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
        if isinstance(parameter, nnx.Param) and _is_being_copied():
            value, low, high = (value_of_parameter(part) for part in (parameter, allowed.low, allowed.high))
            if value is None or low is None or high is None or not np.all(np.clip(value, low, high) == value):
                object.__setattr__(self, name, _projected(parameter, allowed))
        else:
            _check(name, parameter, allowed.holds, allowed.rule)


def _with_parameters_in_use(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: FrozenPytree, *args: Any, **kwargs: Any) -> Any:
        return method(self.in_use(), *args, **kwargs)

    return call


def _projected(parameter: nnx.Param, allowed: Range) -> nnx.Param:
    return parameter.copy(allowed.project(parameter[...]))  # type: ignore[return-value]


def _is_differentiated(value: Any) -> bool:
    """Whether a value is a fixed array inside of a traced function, which may be about to be differentiated."""
    return isinstance(value, jax.core.Tracer) and jnp.issubdtype(value.dtype, jnp.inexact)


def _is_being_copied() -> bool:
    """Whether `dataclasses.replace` calls: what was trained is then no mistake, as in a call by the user."""
    frame: Any = sys._getframe(1)
    while frame is not None and (
        frame.f_code.co_name in ("_check_range", "__post_init__", "__init__")
        or frame.f_globals.get("__name__", "").startswith("flax.")
    ):
        frame = frame.f_back
    return frame is not None and frame.f_globals.get("__name__") == "dataclasses"


def map_parts(tree: Any, is_wanted: Callable[[Any], bool], change: Callable[[Any], Any]) -> Any:
    """Return a network in which some parts are changed, the innermost first; the others stay the same objects."""
    structure: Any
    children, structure = jax.tree.flatten(tree, is_leaf=lambda node: node is not tree)
    if isinstance(tree, nnx.Variable) or (len(children) == 1 and children[0] is tree):
        return tree
    changed = [map_parts(child, is_wanted, change) for child in children]
    if any(new is not old for new, old in zip(changed, children)):
        tree = structure.unflatten(changed)
    return change(tree) if is_wanted(tree) else tree


def within_ranges(tree: Any) -> Any:
    """A network in which all trained parameters are within their ranges.

    `unroll` begins with it, so that the gradient of all time steps is looked at as a whole: whether it leads back.
    """
    return map_parts(tree, lambda part: isinstance(part, Ranged), lambda part: part.within_ranges())


def as_data(value: Any) -> Any:
    """A value as Flax takes it for an attribute.

    Flax knows arrays and its own modules for data, but not what stands for an array inside a traced function, nor
    another pytree that holds arrays, such as a user's neuron.
    """
    holds_arrays = any(isinstance(leaf, jax.Array | np.ndarray) for leaf in jax.tree.leaves(value))
    return nnx.data(value) if holds_arrays and not nnx.is_data(value) else value


def with_dt(network: Any, dt: Parameter) -> Any:
    """A neuron, a filter or a whole network with another time step `dt`, s, in all parts that have one.

    `dt` may be traced, and so follow a schedule during training. Neurons whose decay was computed from a time constant
    once (`LIF.from_time_constants`) have no `dt` and stay as they are.
    """

    def change(part: Any) -> Any:
        return dataclasses.replace(part, dt=dt) if _has_dt(part) else part

    return jax.tree.map(change, network, is_leaf=_has_dt)


def parts_with_dt(network: Any) -> list[Any]:
    """The parts of a neuron, a filter or a whole network that `with_dt` changes."""
    return [part for part in jax.tree.leaves(network, is_leaf=_has_dt) if _has_dt(part)]


def _has_dt(part: Any) -> bool:
    return isinstance(part, FrozenPytree) and has_field(part, "dt")


@nnx.dataclass(kw_only=True)
class SpikingNeuron(FrozenPytree):
    """The part of a neuron that turns a membrane potential into spikes and resets it.

    Attributes:
        threshold: the membrane potential above which the neuron spikes; must be positive.
        reset: what a spike does to the membrane: `"subtract"` takes the threshold away, `"zero"` sets it to
            `v_reset`, `"none"` leaves it, and a function `(v, spikes, threshold) -> v` does what it likes.
        v_reset: where the reset `"zero"` puts the membrane.
        reset_delay: False resets in the step of the spike, so that the state returned is after the reset. True
            applies the reset in the next step, after leak and input (snnTorch's order): the state returned is
            before it, and shows the membrane above threshold.
        detach_reset: stop the gradient that flows through the spikes into the reset (not the one that flows
            through the membrane).
        surrogate: the derivative that stands in for the Heaviside's, see `jsnn.surrogate`.
    """

    threshold: Parameter = 1.0
    reset: Reset = nnx.static(default="subtract")
    v_reset: Parameter = 0.0
    reset_delay: bool = nnx.static(default=False)
    detach_reset: bool = nnx.static(default=False)
    surrogate: SpikeFunction = nnx.static(default=surrogates.arctan())

    def __post_init__(self) -> None:
        super().__post_init__()
        known = isinstance(self.reset, str) and self.reset in ("subtract", "zero", "none")
        if not known and (not callable(self.reset) or isinstance(self.reset, nnx.Variable)):
            raise ValueError(
                f"reset must be 'subtract', 'zero', 'none' or a function (v, spikes, threshold) -> v, "
                f"got {self.reset!r}"
            )
        check_surrogate(self.surrogate)

    def ranges(self) -> dict[str, Range]:
        return {**super().ranges(), "threshold": POSITIVE}

    def fire(self, v: Array, threshold: Parameter) -> Array:
        """Spikes in {0, 1} where `v > threshold`, with the surrogate's derivative."""
        return self.surrogate(v - threshold)

    def fire_at_all_steps(self, v: Array) -> Array:
        """The spikes of membranes [T, B, ...] on which no spike has acted."""
        if self.reset != "none":
            raise ValueError(f"all_steps needs reset='none', got {self.reset!r}: run it with jsnn.unroll")
        return self.fire(v, cast(self.threshold, v.dtype))

    def fire_and_reset(self, v: Array, last_spikes: Array, threshold: Parameter) -> tuple[Array, Array]:
        """Returns `(v, spikes)` for a membrane `v` that has just taken its input.

        `last_spikes` are those of the step before; they matter only with `reset_delay`.
        """
        v = checkpoint_name(v, MEMBRANE)
        if self.reset_delay:
            v = self.apply_reset(v, last_spikes, threshold)
            return v, self.fire(v, threshold)
        spikes = self.fire(v, threshold)
        return self.apply_reset(v, spikes, threshold), spikes

    def apply_reset(self, v: Array, spikes: Array, threshold: Parameter) -> Array:
        """The membrane after the reset that `spikes` call for."""
        if self.detach_reset:
            spikes = jax.lax.stop_gradient(spikes)
        if callable(self.reset):
            return self.reset(v, spikes, jnp.asarray(threshold, v.dtype))
        if self.reset == "subtract":
            return v - spikes * threshold
        if self.reset == "zero":
            return (1 - spikes) * v + spikes * cast(self.v_reset, v.dtype)
        return v


@nnx.dataclass
class LeakyMembrane(FrozenPytree):
    """The part of a neuron that leaks towards rest and takes its input.

    Attributes:
        decay: the share of the membrane potential that is left after one step, in [0, 1].
        gain: the factor on the input; 1 - decay makes a constant input the potential that is approached.
        v_rest: the resting potential, where the membrane starts and to which it decays.
    """

    decay: Parameter = 0.9
    gain: Parameter = dataclasses.field(default=1.0, kw_only=True)
    v_rest: Parameter = dataclasses.field(default=0.0, kw_only=True)

    def ranges(self) -> dict[str, Range]:
        return {**super().ranges(), "decay": SHARE}

    def rest(self, shape: Shape, dtype: Any) -> Array:
        """The membrane before the first step."""
        return jnp.broadcast_to(jnp.asarray(self.v_rest, dtype), shape)

    def integrate(self, v: Array, current: Array) -> Array:
        """v_rest + decay * (v - v_rest) + gain * current, in the dtype of `v`."""
        return v + (leakage(v, self.decay, self.v_rest) + cast(self.gain, v.dtype) * current.astype(v.dtype))

    def integrate_all(self, v: Array, currents: Array) -> Array:
        """The membrane after each of all steps, from `v` before the first and `currents` [T, B, ...]."""
        rest, inputs = cast(self.v_rest, v.dtype), cast(self.gain, v.dtype) * currents.astype(v.dtype)
        return rest + linear_recurrence(leak(self.decay, v.dtype), inputs, v - rest)


def leakage(value: Array, decay: Parameter, rest: Parameter = 0.0) -> Array:
    """What a step of `decay` towards `rest` adds to a value, (1 - decay) * (rest - value)."""
    return leak(decay, value.dtype) * (cast(rest, value.dtype) - value)


def leak(decay: Parameter, dtype: Any) -> Parameter:
    """The share that leaks in a step, 1 - decay.

    Computed with it a decay close to 1 loses no precision, because 1 - decay is taken before it is rounded to `dtype`:
    0.999 in float32 is off by 1e-8, little for the decay, but 1e-5 of what leaks.
    """
    return cast(1 - (decay[...] if isinstance(decay, nnx.Variable) else decay), dtype)


def cast(parameter: Parameter, dtype: Any) -> Parameter:
    """A parameter ready for arithmetic in `dtype`; numbers stay numbers, so that they promote nothing."""
    return parameter if isinstance(parameter, (int, float)) else jnp.asarray(parameter, dtype)


def decay_from_time_constant(
    name: str, tau: Parameter, dt: float, discretization: Discretization = "exact"
) -> Parameter:
    """The factor by which a leaky variable shrinks in `dt` seconds: exp(-dt/tau), or 1 - dt/tau (Euler).

    Raises:
        ValueError: if `tau` or `dt` is not positive, or if Euler's step is longer than `tau`.
    """
    if isinstance(tau, nnx.Variable):
        raise TypeError(
            f"{name} must be a number or an array, got an nnx.Param: what can be trained is the decay, as in "
            f"LIF(decay=nnx.Param(jnp.exp(-dt / {name})))"
        )
    check_positive("dt", dt)
    check_positive(name, tau)
    if discretization not in ("exact", "euler"):
        raise ValueError(f"discretization must be 'exact' or 'euler', got {discretization!r}")
    if discretization == "euler":
        value = value_of_parameter(tau)
        if value is not None and np.any(value < dt):
            raise ValueError(
                f"{name} = {value} is shorter than dt = {dt}, for which Euler's step is unstable: "
                f"take a smaller dt or discretization='exact'"
            )
        return 1 - dt / tau
    return float(np.exp(-dt / tau)) if isinstance(dt / tau, float) else jnp.exp(-dt / tau)


def bounded(v: Array, bound: float = 1e9) -> Array:
    """Return a potential cut at +-bound, or where its square would overflow, for use in a square: it stays finite.

    No potential in use is as large. Beyond it the square has no gradient.
    """
    bound = min(bound, float(jnp.finfo(v.dtype).max) ** 0.5 / 2)
    return jnp.clip(v, -bound, bound)


def has_field(part: Any, name: str) -> bool:
    """Whether a part is a dataclass with a field of that name."""
    return dataclasses.is_dataclass(part) and name in {field.name for field in dataclasses.fields(part)}


def is_key(value: Any) -> TypeGuard[Array]:
    """Whether a value is a key made by `jax.random.key`."""
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def check_is_neuron(taker: str, value: Any) -> None:
    """Refuses what is no Neuron, for whom it was given to."""
    if isinstance(value, type):
        raise TypeError(f"{taker} takes a neuron, got the class {value.__name__}: make one, {value.__name__}(...)")
    if not isinstance(value, Neuron):
        raise TypeError(
            f"{taker} takes a Neuron, an object with init and step, got {type(value).__name__}: "
            f"put layers without memory into jsnn.Sequential"
        )


def check_surrogate(surrogate: Any) -> None:
    """Refuses what is no function, and what would make one if it were called."""
    name = getattr(surrogate, "__name__", "")
    if not callable(surrogate) or isinstance(surrogate, nnx.Variable | type) or vars(surrogates).get(name) is surrogate:
        raise TypeError(f"surrogate must be a function such as jsnn.surrogate.{name or 'arctan'}(), got {surrogate!r}")


def check_positive(name: str, parameter: Parameter) -> None:
    """Raise ValueError if a parameter has a value that is not above 0 everywhere."""
    _check(name, parameter, POSITIVE.holds, POSITIVE.rule)


def check_not_negative(name: str, parameter: Parameter) -> None:
    """Raise ValueError if a parameter has a value that is not 0 or above everywhere."""
    _check(name, parameter, NOT_NEGATIVE.holds, NOT_NEGATIVE.rule)


def check_decay(name: str, parameter: Parameter) -> None:
    """Raise ValueError if a parameter has a value that is not in [0, 1] everywhere."""
    _check(name, parameter, SHARE.holds, SHARE.rule)


def _check(name: str, parameter: Parameter, holds: Callable[[np.ndarray], Any], rule: str) -> None:
    value = value_of_parameter(parameter)
    if value is None:
        return
    if isinstance(parameter, (list, tuple)) or is_key(parameter) or not jnp.issubdtype(value.dtype, jnp.number):
        raise TypeError(f"{name} must be a number, an array or an nnx.Param, got {parameter!r}")
    if not np.all(holds(value)):
        raise ValueError(f"{name} {rule}, got {value}")


def value_of_parameter(parameter: Parameter) -> np.ndarray | None:
    """What can be checked of a parameter; None if it was made inside a traced function, where it has no value yet."""
    value = parameter[...] if isinstance(parameter, nnx.Variable) else parameter
    return (
        None
        if isinstance(value, jax.core.Tracer)
        else np.asarray(jax.random.key_data(value) if is_key(value) else value)
    )
