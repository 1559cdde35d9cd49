"""How a neuron's state depends on its own past: its derivatives at a step, and where they are constants."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jsnn.neurons.checks import has_field
from jsnn.online.walk import step_program
from jsnn.program import flatten, trace
from jsnn.types import Array, Neuron, State


class Derivatives(NamedTuple):
    """The derivatives of one step of elementwise neurons, each of the shape of the current, `[B, ...]`."""

    state: list[list[Array]]
    """Of each variable of the state, with respect to each of the state before."""
    drive: list[Array]
    """Of each variable of the state, with respect to the current."""
    output: list[Array]
    """Of the output, with respect to each variable of the state before."""
    direct: Array
    """Of the output, with respect to the current."""

    @property
    def instant(self) -> Array:
        """The output's answer to the current: in this step, or of neurons that answer a step later, in the next."""
        return self.direct + sum(o * d for o, d in zip(self.output, self.drive))


class Leak(NamedTuple):
    """The dynamics of neurons that all leak alike, whatever they do: numbers in the place of arrays."""

    state: list[list[Array]]
    drive: list[Array]
    past: list[Array]
    """How much each variable of the state before counts in the output, as a multiple of the gain."""
    present: Array
    """How much the current counts."""


@jax.custom_jvp
def _straight(v: Array) -> Array:
    return (v > 0).astype(v.dtype)


_straight.defjvp(lambda primals, tangents: (_straight(*primals), tangents[0]))


def _silent(v: Array) -> Array:
    return jax.lax.stop_gradient((v > 0).astype(v.dtype))


def changed(neuron: Neuron, **fields: Any) -> Neuron:
    """Return a neuron with those of the fields that it has set to other values."""
    own = {name: value for name, value in fields.items() if has_field(neuron, name)}
    return dataclasses.replace(neuron, **own) if own else neuron  # type: ignore[type-var]


def detached(neuron: Neuron) -> Neuron:
    """Return a neuron whose derivatives do not know of its reset, the same one if it has none.

    A reset at the end of a step is left out; one in the next step, on which the output depends, has no gradient.
    """
    late = getattr(neuron, "reset_delay", False)
    return changed(neuron, detach_reset=True) if late else changed(neuron, detach_reset=True, reset="none")


def derivatives(neuron: Neuron, state: State, current: Array) -> Derivatives:
    """Return the derivatives of a step of elementwise neurons, by one forward derivative for each variable."""
    take, variables = _variables(neuron, state)
    zeros, one = [jnp.zeros_like(v) for v in variables], jnp.ones_like(current)

    def pushed(index: int | None) -> tuple[list[Array], Array]:
        tangents = [jnp.ones_like(v) if m == index else zero for m, (v, zero) in enumerate(zip(variables, zeros))]
        moved = one if index is None else jnp.zeros_like(current)
        return jax.jvp(take, (variables, current), (tangents, moved))[1]

    columns = [pushed(index) for index in range(len(variables))]
    drive, direct = pushed(None)
    rows = [[column[0][m] for column in columns] for m in range(len(variables))]
    return Derivatives(rows, drive, [column[1] for column in columns], direct)


def direct_gain(neuron: Neuron, state: State, current: Array) -> Array:
    """Return the derivative of the output with respect to the current, `[B, ...]`."""
    return jax.jvp(lambda x: neuron.step(state, x)[1], (current,), (jnp.ones_like(current),))[1]


def of_parameter(neuron: Neuron, state: State, current: Array, make: Callable[[Array], Neuron], at: Array) -> Any:
    """Return the derivatives of the variables and of the output with respect to a parameter of the neuron's own."""
    _, variables = _variables(neuron, state)

    def step(value: Array) -> Any:
        return _variables(make(value), state)[0](variables, current)

    return jax.jvp(step, (at,), (jnp.ones_like(at),))[1]


def answers_at_once(neuron: Neuron, state: State, current: Any) -> bool:
    """Return whether the output of a step depends on its current; of others it does so a step later."""
    program = step_program(neuron, state, current)
    return program.outputs[-1] in program.depending_on([program.inputs[-1]])


def leak_of(neuron: Neuron, current: Any) -> Leak | None:
    """Return the dynamics of neurons if all leak alike at all times; None if they do not.

    Args:
        neuron: the neuron, its reset left out or detached.
        current: an array, or what has its shape.
    """
    shape = (1,) * len(current.shape)
    x = jnp.zeros(shape, jnp.promote_types(current.dtype, jnp.float32))
    try:
        state = neuron.init(shape, x.dtype)
    except ValueError:  # it has a parameter for each neuron
        return None
    straight = changed(neuron, surrogate=_straight)
    variables = variables_of(state)

    def found(variables: list[Array], x: Array) -> Any:
        whole = _with(state, variables)
        own, other = derivatives(neuron, whole, x), derivatives(straight, whole, x)
        return own.state, own.drive, other.output, other.direct

    program = flatten(trace(found, variables, x)[0])
    varying = program.depending_on(program.inputs)
    if any(atom in varying for atom in program.outputs if isinstance(atom, int)):
        return None
    rows, drive, output, direct = jax.tree.map(lambda y: y.reshape(()), found(variables, x))
    at_once = answers_at_once(neuron, state, x)
    gain = direct if at_once else sum(o * d for o, d in zip(output, drive))
    return Leak(rows, drive, [o / gain for o in output], direct / gain)


def is_silent(neuron: Neuron, state: State, current: Any) -> bool:
    """Return whether the output is linear in state and current: a readout, which only leaks."""
    variables = variables_of(state)

    def found(variables: list[Array], x: Array) -> Any:
        own = derivatives(neuron, _with(state, variables), x)
        return own.output, own.direct

    program = flatten(trace(found, variables, current)[0])
    varying = program.depending_on(program.inputs)
    return not any(atom in varying for atom in program.outputs if isinstance(atom, int))


def leaky(neuron: Neuron) -> Neuron:
    """Return what is left of a neuron without reset, and without what its spikes do to its own state."""
    return changed(neuron, reset="none", surrogate=_silent)


def _variables(neuron: Neuron, state: State) -> tuple[Callable[..., tuple[list[Array], Array]], list[Array]]:
    """Return the step as a function of those arrays of the state that have a derivative, and these."""

    def step(variables: list[Array], current: Array) -> tuple[list[Array], Array]:
        after, output = neuron.step(_with(state, variables), current)
        return variables_of(after), output

    return step, variables_of(state)


def variables_of(state: State) -> list[Array]:
    """Return those arrays of a state that have a derivative."""
    return [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.inexact)]


def _with(state: State, variables: list[Array]) -> State:
    """Return a state with other arrays in the place of those that have a derivative."""
    given = iter(variables)
    return jax.tree.map(lambda leaf: next(given) if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf, state)
