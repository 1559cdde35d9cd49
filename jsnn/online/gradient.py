"""The gradient of a loss over time, gathered step by step in memory that does not grow with the time."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx

from jsnn.arguments import checked
from jsnn.online import cells
from jsnn.online.plan import Layer, Plan, Split, Step, for_traces, make_plan, observed, run_step, split, teach
from jsnn.online.rules import Rule, as_rule
from jsnn.online.targets import check_loss, in_time
from jsnn.online.walk import walk
from jsnn.rounding import wide
from jsnn.types import Array, Inputs, Neuron, State
from jsnn.unrolling import count_steps, of_step, prepare

StepLoss: TypeAlias = Callable[[Any, Any], Array]
"""(outputs of one step [B, ...], targets of that step [B, ...]) -> scalar."""


class Carry(NamedTuple):
    """What goes from step to step."""

    state: State
    """Of the network."""
    traces: dict[str, Any]
    """Of each layer, by its name."""


class Gathered(NamedTuple):
    """What one step gives."""

    value: Array
    gradients: list[Array]
    outputs: Any
    spikes: dict[str, Array]
    """What each layer put out, [B, ...]."""


class _Signal:
    """Hands the gradient of a step from neuron to neuron; `bumps` are added to their outputs to take it there."""

    def __init__(self, step: Step, bumps: dict[str, Array], at_once: dict[str, bool]) -> None:
        self.step, self.bumps, self.at_once = step, bumps, at_once

    def cell(self, name: str, neuron: Neuron, state: State, current: Array) -> tuple[State, Array]:
        known, before, at, output = jax.lax.stop_gradient(self.step.cells[name])
        gain = jax.lax.stop_gradient(_gain(known, before, at, self.at_once[name]))
        return state, output + self.bumps[name] + gain * (current - jax.lax.stop_gradient(current))

    def memory(self, name: str, known: Array) -> Array:
        return self.step.memories[name]

    def late(self, layer: Any, known: Array, current: Array) -> Array:
        """Return what the layer gives, with the gradient as if all that it ever gets of an input came at once."""
        axis = known.ndim - 2
        at_once = layer.of_window(jnp.broadcast_to(jnp.expand_dims(current, axis), known.shape)).astype(current.dtype)
        return layer.of_window(known).astype(current.dtype) + at_once - jax.lax.stop_gradient(at_once)


def _gain(neuron: Neuron, state: State, current: Array, at_once: bool) -> Array:
    if at_once:
        return cells.direct_gain(neuron, state, current)
    return cells.derivatives(neuron, state, current).instant


def start(plan: Plan, parts: Split, x: Any, state: State) -> Carry:
    """Return what goes into the first step."""
    step = observed(parts.network(parts.params), state, x)
    found = step.cells
    data = jax.tree.leaves((x, {name: cell[3] for name, cell in found.items()}, step.memories))
    traces: dict[str, Any] = {}
    readout = found[plan.readout][1] if plan.filtered and plan.readout else ()
    of_readout = len(jax.tree.leaves(readout))
    for layer in plan.layers:
        _, before, current, _ = found[layer.name]
        count = len([v for v in jax.tree.leaves(before) if jnp.issubdtype(v.dtype, jnp.inexact)])
        own: dict[str, Any] = {}
        if layer.kept == "factorised":
            own["inputs"] = [[_zeros(data[i].shape) for i in layer.sources] for _ in range(count)]
            own["ones"] = [_zeros(()) for _ in range(count)]
        elif layer.kept == "full":
            shapes = [(*current.shape[:-1], *parts.params[i].shape) for i in layer.weights]
            own["weights"] = [[_zeros(shape) for shape in shapes] for _ in range(count)]
        if layer.own and layer.kept != "nothing" and plan.rule.traces != "leaky":
            own["own"] = [[_zeros(current.shape) for _ in layer.own] for _ in range(count)]
        if plan.filtered and layer.name != plan.readout:
            kept = [part for name in ("weights", "own") for part in own.get(name, [[]])[0]]
            own["readout"] = [[jnp.zeros_like(part) for part in kept] for _ in range(of_readout)]
        traces[layer.name] = own
    return Carry(state, traces)


def _zeros(shape: Any) -> Array:
    return jnp.zeros(shape, jnp.float32)


def advance(
    plan: Plan, parts: Split, loss: StepLoss, params: list[Array], carry: Carry, x: Any, targets: Any
) -> tuple[Carry, Gathered]:
    """Run one step; return what goes on, and the gradient of the loss of this step."""
    network = parts.network(params)
    step = run_step(network, carry.state, x)
    value, error = jax.value_and_grad(loss)(step.outputs, targets)
    spikes = {name: cell[3] for name, cell in step.cells.items()}
    signals, gradients = _signals(plan, parts, loss, params, step, x, targets, error)
    data = jax.tree.leaves((x, spikes, step.memories))
    structure = jax.tree.structure((x, spikes, step.memories))

    def taught(name: str, params: list[Array], leaves: list[Array]) -> Any:
        return teach(parts.network(params), *structure.unflatten(leaves)).currents[name]

    def current_of(layer: Layer, weights: list[Array], sources: list[Array]) -> Array:
        """Return the current of a layer for some of the parameters and inputs; the others are as they are."""
        known, given = list(params), list(data)
        for i, weight in zip(layer.weights, weights, strict=True):
            known[i] = weight
        for i, source in zip(layer.sources, sources, strict=True):
            given[i] = source.astype(data[i].dtype)
        return taught(layer.name, known, given)

    if plan.readout_weights:
        _add(gradients, plan.readout_weights, _of_outputs(plan, parts, params, step, x, spikes, error))
    traces = {}
    filters = None
    if plan.filtered and plan.readout is not None:
        filters = cells.leak_of(step.cells[plan.readout][0], step.cells[plan.readout][2])
    for layer in plan.layers:
        neuron, state, current, _ = step.cells[layer.name]
        signal = signals[layer.name].astype(jnp.float32)
        weights = [params[i] for i in layer.weights]
        sources = [data[i] for i in layer.sources]
        before, own = carry.traces[layer.name], for_traces(plan.rule, neuron)
        if layer.kept != "full":
            gain = _gain(neuron, state, current, layer.at_once)
            after, present, ones = _filtered(own, current, before, sources, keeps=layer.kept == "factorised")
            cotangent = (signal * gain).astype(current.dtype)
            pull = jax.vjp(lambda w: current_of(layer, w, present), weights)[1]
            found = list(map(wide, pull(cotangent)[0]))
            if layer.kept == "factorised" and layer.with_offset:
                nothing = [jnp.zeros_like(source) for source in sources]
                rest = jax.vjp(lambda w: current_of(layer, w, nothing), weights)[1](cotangent)[0]
                found = [
                    g + (ones - 1) * r if i in layer.with_offset else g for i, g, r in zip(layer.weights, found, rest)
                ]
            if layer.own:
                after, of_own = _own_traces(layer, own, state, current, before, after, keeps="own" in before)
                _add_own(gradients, parts, params, step, x, spikes, layer, [signal * e for e in of_own])
            _add(gradients, layer.weights, found)
            traces[layer.name] = after
            continue
        slopes = cells.derivatives(own, state, current)
        jacobian = _jacobian(layer, current_of, weights, sources, current)
        after, eligible = _pushed(slopes, before["weights"], jacobian, current)
        kept: dict[str, Any] = {"weights": after}
        of_own: list[Array] = []
        if layer.own:
            kept, of_own = _own_traces(layer, own, state, current, before, kept, keeps="own" in before)
        if filters is not None and layer.name != plan.readout:
            both = [*eligible, *of_own]
            kept["readout"], both = _through_readout(filters, before["readout"], both)
            eligible, of_own = both[: len(eligible)], both[len(eligible) :]
        _add(gradients, layer.weights, [_contract(signal, e, current) for e in eligible])
        if layer.own:
            _add_own(gradients, parts, params, step, x, spikes, layer, [signal * e for e in of_own])
        traces[layer.name] = kept
    carry = jax.lax.stop_gradient(Carry(step.state, traces))
    return carry, Gathered(value, gradients, step.outputs, spikes)


def _signals(
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

            def local(rows: Array) -> Array:
                return loss(wide(rows) @ matrix.T, targets)

            signal = jax.grad(local)(rows)
        signals[name] = signal.reshape(spikes.shape)
    return signals, gradients


def _of_outputs(
    plan: Plan, parts: Split, params: list[Array], step: Step, x: Any, spikes: dict[str, Array], error: Any
) -> list[Array]:
    """Return the gradient of the weights that lead to the outputs with no neuron after them."""

    def outputs(weights: list[Array]) -> Any:
        known = list(params)
        for i, weight in zip(plan.readout_weights, weights, strict=True):
            known[i] = weight
        return teach(parts.network(known), x, spikes, step.memories).outputs

    return jax.vjp(outputs, [params[i] for i in plan.readout_weights])[1](error)[0]


def _filtered(
    neuron: Neuron, current: Array, before: dict[str, Any], sources: list[Array], *, keeps: bool
) -> tuple[dict[str, Any], list[Array], Array]:
    """Return the traces after a step, and what the weights see: the sources, and what is left of those before."""
    if not keeps:
        return {}, sources, jnp.ones(())
    leak = cells.leak_of(neuron, current)
    assert leak is not None  # as the plan has found

    def push(past: list[Array], now: Array) -> tuple[list[Array], Array]:
        now = wide(now)
        after = [sum(a * p for a, p in zip(row, past)) + b * now for row, b in zip(leak.state, leak.drive)]
        return after, leak.present * now + sum(share * p for share, p in zip(leak.past, past))

    pushed = [push(list(past), now) for past, now in zip(zip(*before["inputs"]), sources)]
    ones, one = push(before["ones"], jnp.ones(()))
    count = len(before["ones"])
    return (
        {"inputs": [[after[m] for after, _ in pushed] for m in range(count)], "ones": ones},
        [seen for _, seen in pushed],
        one,
    )


def _jacobian(
    layer: Layer, current_of: Callable[..., Array], weights: list[Array], sources: list[Array], current: Array
) -> list[Array]:
    """Return the derivative of each neuron's current with respect to its own weights, `[B, ..., *weight.shape]`.

    An axis along which nothing changes may be of size 1. A weight leads to one channel of neurons, on the last axis of both, so that one pass backwards serves all channels.
    """

    others = [number for number, i in enumerate(layer.weights) if i not in layer.outer]

    def of_example(sources: list[Array]) -> list[Array]:
        def current_of_others(some: list[Array]) -> Array:
            known = list(weights)
            for number, weight in zip(others, some, strict=True):
                known[number] = weight
            return current_of(layer, known, [source[None] for source in sources])

        current, pull = jax.vjp(current_of_others, [weights[number] for number in others])
        places = current.shape[1:-1]
        count = 1
        for size in places:
            count *= size
        chosen = jnp.eye(count, dtype=current.dtype).reshape(count, 1, *places, 1)
        rows = jax.vmap(lambda place: pull(jnp.broadcast_to(place, current.shape))[0])(chosen)
        return [wide(row).reshape(*places, *row.shape[1:]) for row in rows]

    found = dict(zip(others, jax.vmap(of_example)(sources) if others else []))
    for number, i in enumerate(layer.weights):
        if i in layer.outer:
            source = layer.outer[i]
            known = None if source is None else wide(sources[layer.sources.index(source)])
            found[number] = jnp.ones((1,) * current.ndim) if known is None else known[..., None]
    return [found[number] for number in range(len(weights))]


def _pushed(
    slopes: cells.Derivatives, before: list[list[Array]], jacobian: list[Array], current: Array
) -> tuple[list[list[Array]], list[Array]]:
    """Return the traces of all weights after a step, and the derivatives of the outputs with respect to them."""

    def times(slope: Array, trace: Array) -> Array:
        return _beside(wide(slope), trace, current) * trace

    after = [
        [sum(times(a, old[w]) for a, old in zip(row, before)) + times(b, j) for w, j in enumerate(jacobian)]
        for row, b in zip(slopes.state, slopes.drive)
    ]
    eligible = [
        sum(times(c, old[w]) for c, old in zip(slopes.output, before)) + times(slopes.direct, j)
        for w, j in enumerate(jacobian)
    ]
    return after, eligible


def _beside(slope: Array, trace: Array, current: Array) -> Array:
    """Return slopes `[B, ..., N]` with axes for the weights between the places and the channels of a trace."""
    missing = trace.ndim - current.ndim
    return slope.reshape(*current.shape[:-1], *(1,) * missing, current.shape[-1])


def _contract(signal: Array, eligible: Array, current: Array) -> Array:
    """Return the gradient of weights: the signal times what is eligible, summed over batch and places."""
    return jnp.sum(_beside(signal, eligible, current) * eligible, axis=tuple(range(current.ndim - 1)))


def _own_traces(
    layer: Layer,
    neuron: Neuron,
    state: State,
    current: Array,
    before: dict[str, Any],
    after: dict[str, Any],
    *,
    keeps: bool,
) -> tuple[dict[str, Any], list[Array]]:
    """Return the traces with those of the neuron's own trained parameters, and the outputs' derivatives to these."""
    leaves, structure = jax.tree.flatten(neuron)
    moved, seen = [], []
    for index in layer.own:

        def make(value: Array, index: int = index) -> Neuron:
            return structure.unflatten([value if i == index else leaf for i, leaf in enumerate(leaves)])

        drive, direct = cells.of_parameter(neuron, state, current, make, leaves[index])
        moved.append(list(map(wide, drive)))
        seen.append(wide(direct))
    if not keeps:
        return after, seen
    slopes = jax.tree.map(wide, cells.derivatives(neuron, state, current))
    past = before["own"]
    new = [
        [sum(a * old[w] for a, old in zip(row, past)) + drive[m] for w, drive in enumerate(moved)]
        for m, row in enumerate(slopes.state)
    ]
    eligible = [direct + sum(c * old[w] for c, old in zip(slopes.output, past)) for w, direct in enumerate(seen)]
    return {**after, "own": new}, eligible


def _through_readout(
    leak: cells.Leak, before: list[list[Array]], eligible: list[Array]
) -> tuple[list[list[Array]], list[Array]]:
    """Return the traces of the readout's membrane after a step, and what its output makes of them."""
    after = [
        [sum(a * old[w] for a, old in zip(row, before)) + b * e for w, e in enumerate(eligible)]
        for row, b in zip(leak.state, leak.drive)
    ]
    seen = [
        leak.present * e + sum(share * old[w] for share, old in zip(leak.past, before)) for w, e in enumerate(eligible)
    ]
    return after, seen


def _add(gradients: list[Array], places: tuple[int, ...], found: list[Array]) -> None:
    for place, gradient in zip(places, found, strict=True):
        gradients[place] = gradients[place] + gradient


def _add_own(
    gradients: list[Array],
    parts: Split,
    params: list[Array],
    step: Step,
    x: Any,
    spikes: dict[str, Array],
    layer: Layer,
    found: list[Array],
) -> None:
    """Add the gradient of a neuron's own parameters, of which `found` has one for each neuron and example."""

    def own(params: list[Array]) -> list[Array]:
        leaves = teach(parts.network(params), x, spikes, step.memories).neurons[layer.name]
        return [leaves[i] for i in layer.own]

    values, pull = jax.vjp(own, params)
    cotangents = [_summed_to(gradient, value.shape).astype(value.dtype) for gradient, value in zip(found, values)]
    for i, gradient in enumerate(pull(cotangents)[0]):
        gradients[i] = gradients[i] + gradient


def _summed_to(x: Array, shape: Any) -> Array:
    """Return a sum over the axes along which an array of `shape` was broadcast."""
    x = x.sum(axis=tuple(range(x.ndim - len(shape))))
    return x.sum(axis=tuple(i for i, size in enumerate(shape) if size == 1 and x.shape[i] != 1), keepdims=True)


def _feedback_of(network: Any, parts: Split, params: list[Array], name: str) -> tuple[Array, int]:
    """Return the trained matrix that hands the error to a layer, and its place among the parameters."""
    matrices = getattr(network, "feedback", {})
    if name not in matrices:
        raise ValueError(
            f"rule 'eprop' with feedback='trained' needs a matrix for layer {name}: train "
            f"jsnn.online.with_feedback(network, inputs_shape, rngs=...)"
        )
    paths = [path for path, _ in nnx.to_flat_state(jax.tree.unflatten(parts.structure, params))]
    return matrices[name][...], paths.index(("feedback", name))


@checked
def gradient(network: Neuron, loss: StepLoss, *, rule: str | Rule = "rtrl", with_outputs: bool = False) -> Any:
    """Return a function that gives a loss and its gradient, step by step, in memory that does not grow with time.

    It stands in the place of `jax.value_and_grad` of a loss of an unroll:

        L = (1/T) sum_t loss(outputs_t, targets_t)

    Args:
        network: a neuron or network with something to train; its shape decides what the rule does.
        loss: a function of the outputs and targets of one step, `([B, ...], [B, ...]) -> scalar`, such as
            `jsnn.losses.cross_entropy`. One that needs all steps looks ahead in time, and is refused.
        rule: `"rtrl"`, `"eprop"`, `"ottt"`, `"sltt"` or `"decolle"`, or what the functions of these names return;
            each says what it is exact for, what it neglects and how much it remembers.
        with_outputs: return the outputs of all steps as well, whose memory does grow.

    Returns:
        a function `(network, inputs, targets, state=None, num_steps=None) -> (value, gradient)`; with `with_outputs`
        it is `((value, outputs [T, B, ...]), gradient)`. The arguments are those of `jsnn.unroll`. `targets` are
        `[T, B, ...]`, a target for each step, or `[B, ...]`, which stays the same; a pytree may hold both. The gradient
        is an `nnx.State` of the network's `nnx.Param`s, as from `nnx.value_and_grad`, for any optimiser of optax.

    Raises:
        TypeError: if an argument is of another type.
        ValueError: if the rule does not fit a layer or a neuron, with the rules that do; if `loss` is not one of a
            single step; if `targets` fit neither the steps nor the batch.

    Source: of the sensitivities, Williams and Zipser (1989); the rules name their own.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> network = jsnn.models.feedforward([4, 8, 3], rngs=nnx.Rngs(0))
        >>> learn = gradient(network, jsnn.losses.cross_entropy, rule="ottt")
        >>> value, gradients = learn(network, jnp.ones((10, 2, 4)), jnp.array([0, 2]))
        >>> gradients["layers"][1]["kernel"].shape
        (4, 8)
    """
    chosen = as_rule(rule)

    def value_and_grad(
        network: Neuron, inputs: Inputs, targets: Any, state: State = None, num_steps: int | None = None
    ) -> tuple[Any, nnx.State]:
        found = gather(network, loss, chosen, inputs, targets, state, num_steps, keeps_outputs=with_outputs)
        return ((found.value, found.outputs) if with_outputs else found.value), found.gradient

    return value_and_grad


@checked
def differentiable(loss: StepLoss, *, rule: str | Rule = "rtrl") -> Callable[..., tuple[Array, Any]]:
    """Return a loss over time whose derivative, by `jax.grad`, is that of a rule: for trainers such as `jsnn.train.fit`.

    Only the network's `nnx.Param`s have a gradient, inputs and state have none.

    Args:
        loss: as in `gradient`.
        rule: as in `gradient`.

    Returns:
        a function `(network, inputs, targets, state=None, num_steps=None) -> (value, outputs [T, B, ...])`.

    Raises:
        ValueError: as in `gradient`.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> network = jsnn.models.feedforward([4, 8, 3], rngs=nnx.Rngs(0))
        >>> value = differentiable(jsnn.losses.cross_entropy, rule="ottt")
        >>> gradients = nnx.grad(lambda network: value(network, jnp.ones((10, 2, 4)), jnp.array([0, 2]))[0])(network)
        >>> gradients["layers"][1]["kernel"].shape
        (4, 8)
    """
    chosen = as_rule(rule)

    def value(
        network: Neuron, inputs: Inputs, targets: Any, state: State = None, num_steps: int | None = None
    ) -> tuple[Array, Any]:
        found = gather(network, loss, chosen, inputs, targets, state, num_steps, keeps_outputs=True)
        params, gradients = split(network).params, jax.tree.leaves(found.gradient)
        slope = sum(jnp.sum((p - jax.lax.stop_gradient(p)) * g) for p, g in zip(params, gradients, strict=True))
        return found.value + slope.astype(found.value.dtype), found.outputs  # type: ignore[union-attr]

    return value


class Found(NamedTuple):
    """The result of all steps."""

    value: Array
    gradient: nnx.State
    outputs: Any
    """Of all steps, [T, B, ...], or None."""
    state: State


def gather(
    network: Neuron,
    loss: StepLoss,
    rule: Rule,
    inputs: Inputs,
    targets: Any,
    state: State,
    num_steps: int | None,
    *,
    keeps_outputs: bool,
) -> Found:
    """Run all steps, and return the mean of the loss and of its gradient. Nothing here has a derivative of its own."""
    inputs, state = prepare(network, inputs, state, num_steps)
    x, steps = of_step(inputs, num_steps), count_steps(inputs, num_steps)
    if steps < 1 or not jax.tree.leaves(x)[0].shape:
        raise ValueError(f"inputs must be [T, B, ...] of one step or more, got {jax.tree.map(jnp.shape, inputs)}")
    plan, parts = make_plan(network, x, rule), split(network)
    wanted = in_time(targets, steps, jax.tree.leaves(x)[0].shape[0])
    dtype = check_loss(loss, network, state, x, wanted.at(wanted.first))
    parts = parts._replace(params=list(map(_fixed, parts.params)), rest=jax.tree.map(_fixed, parts.rest))
    inputs, state, changing, held = jax.tree.map(_fixed, (inputs, state, wanted.changing, wanted.held))
    wanted, params = wanted._replace(held=held), parts.params

    def body(carry: Any, step: Any) -> Any:
        running, value, total = carry
        x, now = (inputs, step) if num_steps is not None else step
        running, found = advance(plan, parts, loss, params, running, x, wanted.at(now))
        total = [old + new for old, new in zip(total, found.gradients)]
        return (running, value + found.value, total), found.outputs if keeps_outputs else None

    zeros = [jnp.zeros(p.shape, jnp.promote_types(p.dtype, jnp.float32)) for p in params]
    first = (start(plan, parts, x, state), jnp.zeros((), dtype), zeros)
    scanned = changing if num_steps is not None else (inputs, changing)
    (running, value, total), outputs = jax.lax.scan(body, first, scanned, length=steps)
    gradients = [(g / steps).astype(p.dtype) for g, p in zip(total, params)]
    return Found(value / steps, jax.tree.unflatten(parts.structure, gradients), outputs, running.state)


def _fixed(x: Any) -> Any:
    """Return an array without a gradient."""
    return jax.lax.stop_gradient(x) if jnp.issubdtype(x.dtype, jnp.inexact) else x
