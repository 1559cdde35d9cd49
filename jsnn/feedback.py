"""Recurrent neurons whose weights get their gradient from all time steps at once.

JAX differentiates a loop step by step: it adds up the gradient of the weights, one small product at each step. For a
few examples that takes longer than the steps themselves. Here the backward loop gives only the gradient of the current
of each step, and one product of all steps makes that of the weights.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import ClosedJaxpr

from jsnn.program import trace, within
from jsnn.recurrence import one_step_late
from jsnn.types import Array, Neuron, State
from jsnn.varying import alike, shaped

Scan: TypeAlias = Callable[..., tuple[State, Array]]  # (neuron, state, inputs [T, B, ...])

# So many times more weights than neurons of all examples make the gradient faster. Measured for 256 neurons.
_MORE_WEIGHTS = 4


def scan_feedback(neuron: Neuron, state: Any, inputs: Any, scan: Scan) -> tuple[State, Array]:
    """Return `scan(neuron, state, inputs)`, whose gradient is faster for a few examples; numbers are equal to rounding.

    JAX alone differentiates what is outside of `jax.jit`, a synapse that has a memory or a delay of its own, and what
    has a gradient of reverse mode alone, as `jsnn.Conv`.
    """
    programs = _programs(neuron, state, inputs, scan)
    if programs is None:
        return scan(neuron, state, inputs)
    synapse, program, returned = programs
    operands = (*program.consts, *synapse.consts, *jax.tree.leaves(state), inputs)
    weights = range(len(program.consts), len(program.consts) + len(synapse.consts))
    last = len(operands) - 1

    def evaluate(*operands: Array) -> list[Array]:
        others = weights.start
        return jax.core.eval_jaxpr(program.jaxpr, operands[:others], *operands[others:])

    def derivative(primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
        varying = [index for index, tangent in enumerate(tangents) if not isinstance(tangent, SymbolicZero)]
        stepwise = [*(index for index in varying if index not in weights and index != last), last]
        outputs, push = jax.linearize(_of_some(evaluate, primals, stepwise), *(primals[index] for index in stepwise))
        x = primals[last]
        current = tangents[last] if last in varying else alike(jnp.zeros_like(x), x)
        learned = [index for index in varying if index in weights]
        if learned:
            spikes = one_step_late(outputs[-1], primals[last - 1]).astype(x.dtype)

            def feedback(*operands: Array) -> Array:
                given = operands[weights.start : weights.stop]
                return jax.vmap(functools.partial(_send, synapse, given))(spikes)

            own, directions = ([values[index] for index in learned] for values in (primals, tangents))
            current = current + jax.jvp(_of_some(feedback, primals, learned), own, directions)[1].astype(x.dtype)
        return outputs, push(*(tangents[index] for index in stepwise[:-1]), current)

    run = jax.custom_jvp(evaluate)
    run.defjvp(derivative, symbolic_zeros=True)
    return jax.tree.unflatten(jax.tree.structure(returned), run(*operands))


def _programs(neuron: Any, state: Any, inputs: Array, scan: Scan) -> tuple[ClosedJaxpr, ClosedJaxpr, Any] | None:
    """Return the programs of the synapse and of the scan, and what the scan returns; None where JAX differentiates."""
    in_jit = isinstance(jnp.zeros(()), jax.core.Tracer)
    if not in_jit or state.late != () or state.synapse != () or isinstance(neuron.synapse, Neuron):
        return None
    try:
        synapse, _ = trace(neuron.synapse, shaped(inputs, state.outputs.shape))
        if sum(x.size for x in synapse.consts) < _MORE_WEIGHTS * state.outputs.size:
            return None

        def steps(weights: Sequence[Array], state: Any, inputs: Array) -> tuple[State, Array]:
            return scan(dataclasses.replace(neuron, synapse=functools.partial(_send, synapse, weights)), state, inputs)

        program, returned = trace(steps, synapse.consts, state, inputs)
    except Exception:  # it changes itself; what is wrong with it shows in the scan
        return None
    is_plain = not (program.effects or _has_custom_vjp(program))
    return (synapse, program, returned) if is_plain else None


def _send(synapse: ClosedJaxpr, weights: Sequence[Array], spikes: Array) -> Array:
    """Return what a synapse with these weights makes of spikes [B, ...]."""
    current: Array = jax.core.eval_jaxpr(synapse.jaxpr, weights, spikes)[0]
    return current


def _of_some(function: Callable[..., Any], operands: Sequence[Any], indices: Sequence[int]) -> Callable[..., Any]:
    """Return a function of the operands at these positions alone; the others keep their values."""

    def of_some(*values: Any) -> Any:
        other = dict(zip(indices, values, strict=True))
        return function(*(other.get(index, operand) for index, operand in enumerate(operands)))

    return of_some


def _has_custom_vjp(program: ClosedJaxpr) -> bool:
    """Return whether something in a program has a gradient of reverse mode alone."""
    names = (one.primitive.name for equation in program.jaxpr.eqns for one in within(equation))
    return any(name.startswith("custom_vjp") for name in names)
