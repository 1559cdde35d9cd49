"""How the loss of a step reaches each layer."""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from jsnn.online import cells
from jsnn.online.parts import Split, Step
from jsnn.online.plan import Plan
from jsnn.online.walk import Hooks, walk
from jsnn.rounding import wide
from jsnn.types import Array, Neuron, State

StepLoss: TypeAlias = Callable[[Any, Any], Array]
"""(outputs of one step [B, ...], targets of that step [B, ...]) -> scalar."""


class _Signal(Hooks):
    """Hands the gradient of a step from neuron to neuron; `bumps` are added to their outputs to take it there."""

    def __init__(self, step: Step, bumps: dict[str, Array], at_once: dict[str, bool]) -> None:
        self.step, self.bumps, self.at_once = step, bumps, at_once

    def cell(self, name: str, neuron: Neuron, state: State, current: Array) -> tuple[State, Array]:
        known, *numbers = self.step.cells[name]
        before, at, output = jax.lax.stop_gradient(numbers)
        gain = jax.lax.stop_gradient(gain_of(known, before, at, self.at_once[name]))
        return state, output + self.bumps[name] + gain * (current - jax.lax.stop_gradient(current))

    def memory(self, name: str, known: Array) -> Array:
        return self.step.memories[name]

    def late(self, layer: Any, known: Array, current: Array) -> Array:
        """Return what the layer gives, with the gradient as if all that it ever gets of an input came at once."""
        axis = known.ndim - 2
        at_once = layer.of_window(jnp.broadcast_to(jnp.expand_dims(current, axis), known.shape)).astype(current.dtype)
        return super().late(layer, known, current) + at_once - jax.lax.stop_gradient(at_once)


def gain_of(neuron: Neuron, state: State, current: Array, at_once: bool) -> Array:
    """Return the answer of neurons to their current: in this step, or in the next of those that answer late."""
    if at_once:
        return cells.direct_gain(neuron, state, current)
    return cells.derivatives(neuron, state, current).instant


def signals_of(
    plan: Plan, parts: Split, loss: StepLoss, params: list[Array], step: Step, x: Any, targets: Any, error: Any
) -> tuple[dict[str, Array], list[Array]]:
    """Return the gradient of a step's loss with respect to what each layer put out, and gradients of 0 to add to.

    Those of the matrices that are trained to hand the error on are not 0.
    """
    rule, network = plan.rule, parts.network(params)
    at_once = {layer.name: layer.at_once for layer in plan.layers}
    gradients = [jnp.zeros(p.shape, jnp.promote_types(p.dtype, jnp.float32)) for p in params]
    bumps = {name: jnp.zeros_like(cell[3]) for name, cell in step.cells.items()}

    def bumped(bumps: dict[str, Array]) -> Any:
        return walk(network, None, x, _Signal(step, bumps, at_once))[1]

    signals = jax.vjp(bumped, bumps)[1](error)[0]
    hidden = [layer.name for layer in plan.layers if layer.name != plan.readout]
    if rule.signal == "space":
        return signals, gradients
    for number, name in enumerate(hidden):
        spikes = step.cells[name][3]
        rows = spikes.reshape(len(spikes), -1)
        if rule.trained:
            matrix, place = _feedback_of(network, parts, params, name)
            gradients[place] += wide(error).T @ wide(rows)
        else:
            key = jax.random.fold_in(jax.random.key(rule.seed), number)
            shape = (error.shape[-1], rows.shape[-1])
            scale = error.shape[-1] if rule.signal == "feedback" else rows.shape[-1]
            matrix = jax.random.normal(key, shape) / scale**0.5
        if rule.signal == "feedback":
            signal = wide(error) @ matrix
        else:
            signal = jax.grad(functools.partial(_local_loss, loss, matrix, targets))(rows)
        signals[name] = signal.reshape(spikes.shape)
    return signals, gradients


def _local_loss(loss: StepLoss, matrix: Array, targets: Any, rows: Array) -> Array:
    return loss(wide(rows) @ matrix.T, targets)


def _feedback_of(network: Any, parts: Split, params: list[Array], name: str) -> tuple[Array, int]:
    """Return the trained matrix that hands the error to a layer, and its place among the parameters."""
    matrices = getattr(network, "feedback", {})
    if name not in matrices:
        raise ValueError(
            f"rule 'eprop' with feedback='trained' needs a matrix for layer {name}: train "
            f"jsnn.online.with_feedback(network, inputs_shape, rngs=...)"
        )
    return matrices[name][...], parts.names.index(f"feedback.{name}")
