"""What a layer keeps of its past, and the gradient that it gives."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jsnn.online import cells
from jsnn.online.between import Between
from jsnn.online.parts import Split, observed, run_step
from jsnn.online.plan import Layer, Plan, for_traces
from jsnn.online.signals import gain_of
from jsnn.rounding import wide
from jsnn.types import Array, Neuron, State


class Traces(NamedTuple):
    """What a layer keeps, each of them a list for each variable of a state, or nothing."""

    inputs: list[list[Array]] = []  # noqa: RUF012
    """Of the neuron: the sources of the current, filtered, `[B, ...]`."""
    ones: list[Array] = []  # noqa: RUF012
    """Of the neuron: an input of 1, filtered."""
    weights: list[list[Array]] = []  # noqa: RUF012
    """Of the neuron: the derivatives with respect to its weights, `[B, ..., *weight.shape]`."""
    own: list[list[Array]] = []  # noqa: RUF012
    """Of the neuron: the derivatives with respect to its own parameters, `[B, ...]`."""
    readout: list[list[Array]] = []  # noqa: RUF012
    """Of the readout: the derivatives of the layer's outputs with respect to all of these, filtered."""


def start(plan: Plan, parts: Split, x: Any, state: State, *, is_at_rest: bool) -> dict[str, Traces]:
    """Return the traces before the first step by the names of the layers.

    They are 0, but for those of the neurons' own parameters that say where a state starts, if it is at rest.
    """
    network = parts.network(parts.params)
    step, live = observed(network, state, x), {}
    if is_at_rest and any(layer.own for layer in plan.layers):
        live = run_step(network, state, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), x)).cells
    data = jax.tree.leaves((x, {name: cell[3] for name, cell in step.cells.items()}, step.memories))
    readout = len(cells.variables_of(step.cells[plan.readout][1])) if plan.filtered and plan.readout else 0
    found = {}
    for layer in plan.layers:
        _, before, current, _ = step.cells[layer.name]
        count = len(cells.variables_of(before))
        dtype = jnp.result_type(jnp.float32, current.dtype, *(parts.params[i].dtype for i in layer.weights))
        zeros, traces = functools.partial(jnp.zeros, dtype=dtype), Traces()
        if layer.kept == "factorised":
            inputs = [[zeros(data[i].shape) for i in layer.sources] for _ in range(count)]
            traces = Traces(inputs=inputs, ones=[zeros(()) for _ in range(count)])
        elif layer.kept == "full":
            shapes = [(*current.shape[:-1], *parts.params[i].shape) for i in layer.weights]
            traces = Traces(weights=[[zeros(shape) for shape in shapes] for _ in range(count)])
        if layer.own and plan.rule.traces in ("own", "detached"):
            own = [[zeros(current.shape) for _ in layer.own] for _ in range(count)]
            if live:
                moved = [_of_rest(live[layer.name][0], index, current, dtype) for index in layer.own]
                own = [[part[m] for part in moved] for m in range(count)]
            traces = traces._replace(own=own)
        if plan.filtered and layer.name != plan.readout:
            kept = [*traces.weights[0], *(traces.own[0] if traces.own else [])]
            traces = traces._replace(readout=[[jnp.zeros_like(part) for part in kept] for _ in range(readout)])
        found[layer.name] = traces
    return found


def _of_rest(neuron: Neuron, index: int, current: Any, dtype: Any) -> list[Array]:
    """Return the derivatives of the variables at rest with respect to one of the neuron's own arrays."""
    at = jnp.asarray(jax.tree.leaves(neuron)[index])

    def variables(value: Array) -> list[Array]:
        return [v.astype(dtype) for v in cells.variables_of(_replaced(neuron, index, value).init(current.shape, dtype))]

    return jax.jvp(variables, (at,), (jnp.ones_like(at),))[1]


def _replaced(neuron: Neuron, index: int, value: Array) -> Neuron:
    """Return a neuron with another array in one place."""
    structure: Any
    arrays, structure = jax.tree.flatten(neuron)
    return structure.unflatten([value if i == index else array for i, array in enumerate(arrays)])


class Change(NamedTuple):
    """What a step changes for a layer."""

    traces: Traces
    weights: list[Array]
    """The gradients of its weights."""
    own: list[Array]
    """Those of its neuron's own parameters, for each neuron and example, `[B, ...]`."""


def push(
    plan: Plan,
    layer: Layer,
    between: Between,
    cell: tuple[Neuron, State, Array, Array],
    signal: Array,
    traces: Traces,
    readout: cells.Leak | None,
) -> Change:
    """Return the traces of a layer after a step, and the gradients of its loss.

    Args:
        plan: of the network.
        layer: which one.
        between: how currents depend on weights.
        cell: the neuron, its state before the step, its current and its output.
        signal: the gradient of the step's loss with respect to that output.
        traces: those before the step.
        readout: the leak of the readout through which the traces pass, if they do.
    """
    original, state, current, _ = cell
    neuron, signal = for_traces(plan.rule, original), wide(signal)
    weights, sources = [between.params[i] for i in layer.weights], [between.data[i] for i in layer.sources]
    own, eligible_own = _push_own(layer, neuron, state, current, traces.own)
    after = traces._replace(own=own)
    if layer.kept == "full":
        slopes = cells.derivatives(neuron, state, current)
        jacobian = _jacobian(layer, between, sources, current)
        pushed, eligible = _push_weights(slopes, traces.weights, jacobian, current)
        after = after._replace(weights=pushed)
        if readout is not None:
            filtered, both = through(readout, traces.readout, [*eligible, *eligible_own])
            after = after._replace(readout=filtered)
            eligible, eligible_own = both[: len(eligible)], both[len(eligible) :]
        found = [_contract(signal, part, current) for part in eligible]
    else:
        scale = jnp.ones(())
        if layer.kept == "factorised":
            leak = cells.leak_of(neuron, current)
            assert leak is not None  # as the plan has found
            inputs, sources = through(leak, traces.inputs, list(map(wide, sources)))
            ones, (scale,) = through(leak, [[one] for one in traces.ones], [scale])
            after = after._replace(inputs=inputs, ones=[one for (one,) in ones])
        cotangent = (signal * gain_of(original, state, current, layer.at_once)).astype(current.dtype)
        found = _pulled(layer, between, weights, sources, cotangent)
        if layer.kept == "factorised" and layer.with_offset:
            nothing = _pulled(layer, between, weights, [jnp.zeros_like(source) for source in sources], cotangent)
            rest = [(scale - 1) * g if i in layer.with_offset else 0 for i, g in zip(layer.weights, nothing)]
            found = [g + r for g, r in zip(found, rest)]
    after = jax.tree.map(lambda new, old: new.astype(old.dtype), after, traces)
    return Change(after, found, [signal * part for part in eligible_own])


def through(leak: cells.Leak, before: list[list[Array]], inputs: list[Array]) -> tuple[list[list[Array]], list[Array]]:
    """Return the variables of leaky neurons after a step, and their outputs, both as multiples of what is put in.

    Args:
        leak: the dynamics.
        before: for each variable of the state, what it is for each input.
        inputs: what is put in.
    """
    after = [
        [sum(a * old[n] for a, old in zip(row, before)) + drive * x for n, x in enumerate(inputs)]
        for row, drive in zip(leak.state, leak.drive)
    ]
    outputs = [leak.present * x + sum(c * old[n] for c, old in zip(leak.past, before)) for n, x in enumerate(inputs)]
    return after, outputs


def _pulled(
    layer: Layer, between: Between, weights: list[Array], sources: list[Array], cotangent: Array
) -> list[Array]:
    """Return the gradients of weights for that of the current that they make of the sources."""
    return list(
        map(wide, jax.vjp(lambda w: between.current(layer, layer.weights, w, sources), weights)[1](cotangent)[0])
    )


def _jacobian(layer: Layer, between: Between, sources: list[Array], current: Array) -> list[Array]:
    """Return the derivative of each neuron's current with respect to its own weights, `[B, ..., *weight.shape]`.

    An axis along which nothing changes may be of size 1. A weight leads to one channel of neurons, on the last axis of
    both, so that one pass backwards serves all channels.
    """
    others = [i for i in layer.weights if i not in layer.outer]

    def of_example(sources: list[Array]) -> list[Array]:
        one, pull = jax.vjp(
            lambda weights: between.current(layer, others, weights, [source[None] for source in sources]),
            [between.params[i] for i in others],
        )
        places = one.shape[1:-1]
        chosen = jnp.eye(math.prod(places), dtype=one.dtype).reshape(-1, 1, *places, 1)
        rows = jax.vmap(lambda place: pull(jnp.broadcast_to(place, one.shape))[0])(chosen)
        return [wide(row).reshape(*places, *row.shape[1:]) for row in rows]

    found = dict(zip(others, jax.vmap(of_example)(sources) if others else []))
    for i, source in layer.outer.items():
        found[i] = jnp.ones((1,) * current.ndim) if source is None else wide(between.data[source])[..., None]
    return [found[i] for i in layer.weights]


def _push_weights(
    slopes: cells.Derivatives, before: list[list[Array]], jacobian: list[Array], current: Array
) -> tuple[list[list[Array]], list[Array]]:
    """Return the traces of all weights after a step, and the derivatives of the outputs with respect to them."""

    def times(slope: Array, trace: Array) -> Array:
        return _beside(wide(slope), trace, current) * trace

    after = [
        [sum(times(a, old[w]) for a, old in zip(row, before)) + times(drive, j) for w, j in enumerate(jacobian)]
        for row, drive in zip(slopes.state, slopes.drive)
    ]
    eligible = [
        sum(times(c, old[w]) for c, old in zip(slopes.output, before)) + times(slopes.direct, j)
        for w, j in enumerate(jacobian)
    ]
    return after, eligible


def _beside(slope: Array, trace: Array, current: Array) -> Array:
    """Return slopes `[B, ..., N]` with axes for the weights between the places and the channels of a trace."""
    return slope.reshape(*current.shape[:-1], *(1,) * (trace.ndim - current.ndim), current.shape[-1])


def _contract(signal: Array, eligible: Array, current: Array) -> Array:
    """Return the gradient of weights: the signal times what is eligible, summed over batch and places."""
    return jnp.sum(_beside(signal, eligible, current) * eligible, axis=tuple(range(current.ndim - 1)))


def _push_own(
    layer: Layer, neuron: Neuron, state: State, current: Array, before: list[list[Array]]
) -> tuple[list[list[Array]], list[Array]]:
    """Return the traces of the neuron's own parameters after a step, and the outputs' derivatives to these."""
    moved, eligible = [], []
    for index in layer.own:
        make, at = functools.partial(_replaced, neuron, index), jax.tree.leaves(neuron)[index]
        drive, direct = cells.of_parameter(neuron, state, current, make, at)
        moved.append(list(map(wide, drive)))
        eligible.append(wide(direct))
    if not before:
        return [], eligible
    slopes = jax.tree.map(wide, cells.derivatives(neuron, state, current))
    after = [
        [sum(a * old[w] for a, old in zip(row, before)) + drive[m] for w, drive in enumerate(moved)]
        for m, row in enumerate(slopes.state)
    ]
    return after, [e + sum(c * old[w] for c, old in zip(slopes.output, before)) for w, e in enumerate(eligible)]
