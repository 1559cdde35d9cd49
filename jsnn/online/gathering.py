"""The gradient of a loss over time, gathered step by step in memory that does not grow with the time."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jsnn.arguments import checked
from jsnn.online import cells
from jsnn.online.between import Between
from jsnn.online.parts import Split, observed, run_step, split
from jsnn.online.plan import Plan, make_plan
from jsnn.online.rules import Rule, as_rule
from jsnn.online.signals import StepLoss, signals_of
from jsnn.online.targets import check_loss, in_time
from jsnn.online.traces import Traces, push, start
from jsnn.rounding import wide
from jsnn.types import Array, Inputs, Neuron, State
from jsnn.unrolling import count_steps, of_step, prepare


class Carry(NamedTuple):
    """What goes from step to step."""

    state: State
    """Of the network."""
    traces: dict[str, Traces]
    """Of each layer, by its name."""


class Gathered(NamedTuple):
    """What one step gives."""

    value: Array
    """The loss of the step."""
    gradients: list[Array]
    """One for each parameter of the network."""
    outputs: Any
    spikes: dict[str, Array]
    """What each layer put out, [B, ...]."""


def advance(
    plan: Plan, parts: Split, loss: StepLoss, params: list[Array], carry: Carry, x: Any, targets: Any
) -> tuple[Carry, Gathered]:
    """Run one step; return what goes on, and the gradient of the loss of this step."""
    step = run_step(parts.network(params), carry.state, x)
    value, error = jax.value_and_grad(loss)(step.outputs, targets)
    signals, gradients = signals_of(plan, parts, loss, params, step, x, targets, error)
    between = Between.of(parts, params, step, x)
    readout = None
    if plan.filtered and plan.readout is not None:
        readout = cells.leak_of(step.cells[plan.readout][0], step.cells[plan.readout][2])
    traces = {}
    for layer in plan.layers:
        name = layer.name
        leak = None if name == plan.readout else readout
        change = push(plan, layer, between, step.cells[name], signals[name], carry.traces[name], leak)
        traces[name] = change.traces
        _add(gradients, layer.weights, change.weights)
        if layer.own:
            arrays, pull = jax.vjp(lambda params, layer=layer: between.own(layer, params), params)
            found = [_summed_to(g, a.shape).astype(a.dtype) for g, a in zip(change.own, arrays)]
            _add(gradients, tuple(range(len(params))), pull(found)[0])
    if plan.readout_weights:
        weights = [params[i] for i in plan.readout_weights]
        pull = jax.vjp(lambda weights: between.outputs(plan.readout_weights, weights), weights)[1]
        _add(gradients, plan.readout_weights, pull(error)[0])
    carry = jax.lax.stop_gradient(Carry(step.state, traces))
    spikes = {name: cell[3] for name, cell in step.cells.items()}
    return carry, Gathered(value, gradients, step.outputs, spikes)


def _add(gradients: list[Array], places: tuple[int, ...], found: list[Array]) -> None:
    for place, gradient in zip(places, found, strict=True):
        gradients[place] = gradients[place] + gradient.astype(gradients[place].dtype)


def _summed_to(x: Array, shape: Any) -> Array:
    """Return a sum over the axes along which an array of `shape` was broadcast."""
    x = x.sum(axis=tuple(range(x.ndim - len(shape))))
    return x.sum(axis=tuple(i for i, size in enumerate(shape) if size == 1 and x.shape[i] != 1), keepdims=True)


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
            each documents where it is exact, what it neglects and how much memory it takes.
        with_outputs: return the outputs of all steps as well, whose memory does grow.

    Returns:
        a function `(network, inputs, targets, state=None, num_steps=None) -> (value, gradient)`; with `with_outputs`
        it is `((value, outputs [T, B, ...]), gradient)`. The arguments are those of `jsnn.unroll`. `targets` are
        `[T, B, ...]`, a target for each step, or `[B, ...]`, which stays the same; a pytree may hold both. What could
        be either, as T = B, is taken as a target for each step. The gradient is an `nnx.State` of the network's
        `nnx.Param`s, as from `nnx.value_and_grad`, for any optimiser of optax.

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
def differentiable(loss: StepLoss, *, rule: str | Rule = "rtrl") -> Callable[..., "Found"]:
    """Return a loss over time whose derivative, by `jax.grad`, is that of a rule: for trainers as `jsnn.train.fit`.

    Only the network's `nnx.Param`s have a gradient, inputs and state have none.

    Args:
        loss: as in `gradient`.
        rule: as in `gradient`.

    Returns:
        a function `(network, inputs, targets, state=None, num_steps=None) -> Found`: its `value` has the derivative,
        `outputs` are those of all steps, `[T, B, ...]`, `rates` what each layer put out in a mean step, `[B, ...]`.

    Raises:
        ValueError: as in `gradient`.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> network = jsnn.models.feedforward([4, 8, 3], rngs=nnx.Rngs(0))
        >>> value = differentiable(jsnn.losses.cross_entropy, rule="ottt")
        >>> gradients = nnx.grad(lambda network: value(network, jnp.ones((10, 2, 4)), jnp.array([0, 2])).value)(network)
        >>> gradients["layers"][1]["kernel"].shape
        (4, 8)
    """
    chosen = as_rule(rule)

    def value(
        network: Neuron, inputs: Inputs, targets: Any, state: State = None, num_steps: int | None = None
    ) -> Found:
        found = gather(network, loss, chosen, inputs, targets, state, num_steps, keeps_outputs=True)
        params, gradients = split(network).params, jax.tree.leaves(found.gradient)
        slope = sum(jnp.sum((p - jax.lax.stop_gradient(p)) * g) for p, g in zip(params, gradients, strict=True))
        return found._replace(value=found.value + jnp.asarray(slope, found.value.dtype))

    return value


class Found(NamedTuple):
    """The result of all steps."""

    value: Array
    """The mean loss of a step."""
    gradient: nnx.State
    """Of the network's `nnx.Param`s."""
    outputs: Any
    """Of all steps, [T, B, ...], or None."""
    rates: dict[str, Array]
    """The mean over all steps of what each layer put out, [B, ...], by name."""
    state: State
    """Of the network, after the last step."""


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
    # a long time needs no memory where no outputs are kept
    few = num_steps if keeps_outputs or num_steps is None else min(num_steps, 1_000)
    is_at_rest = state is None
    inputs, state = prepare(network, inputs, state, few)
    x, steps = of_step(inputs, num_steps), count_steps(inputs, num_steps)
    if steps < 1:
        raise ValueError(f"inputs must be [T, B, ...] of one step or more, got {jax.tree.map(jnp.shape, inputs)}")
    plan, parts = make_plan(network, x, rule), split(network)
    wanted = in_time(targets, steps, jax.tree.leaves(x)[0].shape[0])
    dtype = jnp.promote_types(check_loss(loss, network, state, x, wanted.at(wanted.first)), jnp.float32)
    parts = parts._replace(params=list(map(_fixed, parts.params)), rest=jax.tree.map(_fixed, parts.rest))
    inputs, state, changing, held = jax.tree.map(_fixed, (inputs, state, wanted.changing, wanted.held))
    wanted, params = wanted._replace(held=held), parts.params

    def body(carry: Any, step: Any) -> Any:
        running, total = carry
        x, now = (inputs, step) if num_steps is not None else step
        running, found = advance(plan, parts, loss, params, running, x, wanted.at(now))
        new = wide(found.value), found.gradients, jax.tree.map(wide, found.spikes)
        return (running, jax.tree.map(jnp.add, total, new)), found.outputs if keeps_outputs else None

    zeros = [jnp.zeros(p.shape, jnp.promote_types(p.dtype, jnp.float32)) for p in params]
    outputs_of = {name: cell[3] for name, cell in observed(network, state, x).cells.items()}
    spikes = {name: jnp.zeros(y.shape, jnp.promote_types(y.dtype, jnp.float32)) for name, y in outputs_of.items()}
    first = Carry(state, start(plan, parts, x, state, is_at_rest=is_at_rest)), (jnp.zeros((), dtype), zeros, spikes)
    scanned = changing if num_steps is not None else (inputs, changing)
    (running, (value, total, spikes)), outputs = jax.lax.scan(body, first, scanned, length=steps)
    gradients = [(g / steps).astype(p.dtype) for g, p in zip(total, params)]
    rates = {name: count / steps for name, count in spikes.items()}
    return Found(value / steps, jax.tree.unflatten(parts.structure, gradients), outputs, rates, running.state)


def _fixed(x: Any) -> Any:
    """Return an array without a gradient."""
    return jax.lax.stop_gradient(x) if jnp.issubdtype(x.dtype, jnp.inexact) else x
