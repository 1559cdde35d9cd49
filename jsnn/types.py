"""The protocol that every neuron and network keeps, and the aliases used beside it."""

import operator
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.export import is_symbolic_dim

Array: TypeAlias = jax.Array
State: TypeAlias = Any  # a pytree of arrays: what `Neuron.init` returns and `Neuron.step` takes and gives back
Shape: TypeAlias = tuple[int, ...]
Parameter: TypeAlias = float | Array | nnx.Param  # fixed number, fixed array, or trainable array
SpikeFunction: TypeAlias = Callable[[Array], Array]  # v - threshold [...] -> spikes [...] in {0, 1}


class Tree(Protocol):
    """Several arrays in one: a dict, a tuple or another pytree, no list. For annotations alone."""


Inputs: TypeAlias = Array | Tree  # of a network: one array, or several whose first axes are the same


def as_shape(shape: Any) -> Shape:
    """Return a shape given by a user as a tuple of whole numbers.

    Raises:
        TypeError: if it is not one; 784, for one, is not (784,).
        ValueError: if a size is negative.
    """
    sizes = as_whole("shape", shape)
    if any(isinstance(size, int) and size < 0 for size in sizes):
        raise ValueError(f"shape must have sizes of 0 or more, got {sizes}")
    return sizes


def as_whole(name: str, values: Any) -> tuple[int, ...]:
    """Return what a user gave as a tuple of whole numbers, such as axes.

    Raises:
        TypeError: if it is not one.
    """
    try:
        return tuple(value if is_symbolic_dim(value) else operator.index(value) for value in values)  # type: ignore[misc]
    except TypeError as error:
        examples, hint = "(1,) or (2, 3)", ""
        if name.endswith("shape"):
            examples = "(784,) or (28, 28, 1)"
            hint = " (several inputs, in a dict or a tuple, are for a jsnn.Network whose function takes them)"
        raise TypeError(f"{name} must be a tuple of whole numbers, such as {examples}, got {values!r}{hint}") from error


@runtime_checkable
class Neuron(Protocol):
    """Anything that carries a state through time: a neuron, a filter, or a whole network.

    Both methods are pure: the state goes in and comes out, and the object never changes.
    """

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> State:
        """Return the state before the first step, for input currents of `shape` (without a time axis)."""
        ...

    def step(self, state: State, current: Array) -> tuple[State, Any]:
        """Run one time step, `current` [B, ...] -> (state, output): the order that `jax.lax.scan` wants."""
        ...


@runtime_checkable
class TimeParallel(Neuron, Protocol):
    """A Neuron that can take all time steps at once, if its state is linear in the state before.

    A class derived from one that changes `step` changes `all_steps` as well.
    """

    @property
    def is_linear(self) -> bool:
        """Whether the state is linear with the neuron's parameters: it is not where spikes act back on the state."""
        ...

    def all_steps(self, state: State, currents: Array) -> tuple[State, Any]:
        """Return what a scan of `step` gives, to rounding: `currents` [T, B, ...] -> (state, outputs [T, B, ...])."""
        ...


@runtime_checkable
class Windowed(TimeParallel, Protocol):
    """A TimeParallel Neuron that sees only its last inputs: `unroll` takes all steps at once, unless it is to scan."""

    @property
    def window(self) -> int:
        """How many inputs a step sees, the current one among them."""
        ...


@runtime_checkable
class FeedsBack(Neuron, Protocol):
    """A Neuron that gets its outputs back through a layer, as `jsnn.Recurrent`, and runs its own loop over time."""

    def scan(self, state: State, inputs: Any, scan: Callable[..., tuple[State, Any]]) -> tuple[State, Any]:
        """Return what `scan(neuron, state, inputs)` does, which calls `step` for each of the inputs [T, B, ...]."""
        ...


# (name, neuron, state, its input [T, B, ...], None) -> (state, outputs [T, B, ...]); a static input [B, ...] comes with
# the number of steps. Without a neuron (None, ()), the input is what a layer without memory puts out, to be looked at.
RunPart: TypeAlias = Callable[[str, Neuron | None, State, Any, int | None], tuple[State, Any]]


@runtime_checkable
class Layered(Neuron, Protocol):
    """A Neuron made of parts, which `jsnn.record` looks into: a network."""

    @property
    def is_layered(self) -> bool:
        """Whether `unroll` runs it part by part; else its step is scanned, and only `record` takes it apart."""
        ...

    def run_layers(self, state: State, inputs: Any, num_steps: int | None, run_part: RunPart) -> tuple[State, Any]:
        """Run all time steps: return what `unroll` returns. Each part is run by `run_part`, under a name of its own."""
        ...


@runtime_checkable
class Around(Neuron, Protocol):
    """A Neuron around another, which `jsnn.record` looks into where that is a network, or has one inside."""

    def inside(self, state: State, inputs: Any, num_steps: int | None) -> tuple[Neuron, State, Array] | None:
        """Return the neuron inside, its state, and what it is given at all steps, `[T, B, ...]`.

        None where there is no network inside.
        """
        ...
