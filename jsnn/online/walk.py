"""One time step of a network, taken apart: its elementwise neurons, and the last inputs that layers keep."""

from typing import Any

import jax
import jax.numpy as jnp

from jsnn.delays import Delay, Delayed
from jsnn.fused.operations import ARITHMETIC, FUNCTIONS, REWRITTEN
from jsnn.layers import Recurrent, RecurrentState
from jsnn.network import Network
from jsnn.program import RANDOM, Program, flatten, trace
from jsnn.tracing import trace_network
from jsnn.types import Array, Neuron, State

# what a step may consist of, if each neuron is to depend on itself alone
_ELEMENTWISE = {
    *ARITHMETIC, *FUNCTIONS, *REWRITTEN, "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "broadcast_in_dim",
    "cbrt", "copy_p", "device_put", "digamma", "erf_inv", "erfc", "expand_dims", "iota", "lgamma", "nextafter",
    "optimization_barrier", "reduce_precision", "reshape", "shift_left", "shift_right_arithmetic",
    "shift_right_logical", "squeeze",
}  # fmt: skip


class Hooks:
    """Base of what is done at the neurons and memories of a step."""

    def cell(self, name: str, neuron: Neuron, state: State, current: Array) -> tuple[State, Array]:
        """Return the state and the output of an elementwise neuron."""
        raise NotImplementedError

    def memory(self, name: str, known: Array) -> Array:
        """Return the last inputs that a layer keeps, the present one among them where it has a delay."""
        raise NotImplementedError

    def late(self, layer: Any, known: Array, current: Array) -> Array:
        """Return the output of a layer with delays for the inputs that it keeps, the present one among them."""
        return layer.of_window(known).astype(current.dtype)


def walk(neuron: Neuron, state: State, x: Any, hooks: Hooks, name: str = "") -> tuple[State, Any]:
    """Run one time step with `hooks` in the place of neurons and memories.

    Args:
        neuron: any neuron or network.
        state: its state; None starts from rest.
        x: its input at this step, `[B, ...]`.
        hooks: are called in the order in which the network runs.
        name: of the neuron; of a network, what stands before the names of its neurons.

    Raises:
        ValueError: if a neuron is not elementwise; it is named.
    """
    if isinstance(neuron, Network):
        return _walk_network(neuron, state, x, hooks, f"{name}/" if name else "")
    name = name or type(neuron).__name__
    state = neuron.init(jnp.shape(x), x.dtype) if state is None else state
    if isinstance(neuron, Recurrent):
        memory, arriving = neuron.arriving(state, lambda known: hooks.memory(f"{name}.spikes", known))
        arriving, synapse = arriving.astype(x.dtype), state.synapse
        if isinstance(neuron.synapse, Neuron):
            synapse, feedback = walk(neuron.synapse, synapse, arriving, hooks, f"{name}.synapse")
        else:
            feedback = neuron.feedback(synapse, arriving)[1]
        inner, outputs = walk(neuron.neuron, state.neuron, x + feedback.astype(x.dtype), hooks, name)
        return RecurrentState(inner, outputs.astype(state.outputs.dtype), memory, synapse), outputs
    if isinstance(neuron, Delay | Delayed):
        memory, known = neuron.pushed(state, x)
        return memory, hooks.late(neuron, hooks.memory(name, known), x)
    return hooks.cell(name, neuron, state, x)


def _walk_network(network: Network, state: State, x: Any, hooks: Hooks, prefix: str) -> tuple[State, Any]:
    traced = trace_network(network, x)
    states = {found.name: None for found in traced.calls.values()}
    states = states if state is None else traced.checked(network.unpack(state))
    states, outputs, _ = traced.run_step(
        states, x, lambda name, neuron, state, x: walk(neuron, state, x, hooks, prefix + name)
    )
    return network.pack(states), outputs


def check_elementwise(name: str, neuron: Neuron, state: State, current: Any) -> None:
    """Raise ValueError unless each neuron of a layer depends on its own state and current alone."""
    program = step_program(neuron, state, current)
    others = {operation.name for operation in program.operations} - _ELEMENTWISE
    others = {other for other in others if not other.startswith(RANDOM)}
    sizes = {jnp.shape(leaf) for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.inexact)}
    if others or sizes - {current.shape}:
        why = f"its step has {', '.join(sorted(others))}" if others else f"its state has shapes {sorted(sizes)}"
        raise ValueError(
            f"{name}: {type(neuron).__name__} does not learn online, as {why}: a neuron must depend on its own state "
            f"and current alone, element by element. Train it by jax.grad through jsnn.unroll"
        )


def step_program(neuron: Neuron, state: State, current: Any) -> Program:
    """Return the program of a neuron's step: takes the arrays of the state and the current."""
    structure: Any
    leaves, structure = jax.tree.flatten(state)

    def step(leaves: list[Array], current: Array) -> Any:
        return neuron.step(structure.unflatten(leaves), current)

    return flatten(trace(step, leaves, current)[0])
