"""Training as pure functions: a state, a step, and the scan over steps that makes up an epoch.

    graph, state = create(network, optimizer)
    advance = make_advance(graph, loss, optimizer)                       # jitted, the state donated
    state, metrics = advance(state, images, labels, indices, key)        # one optimiser step for each row of indices

The state carries `nnx.split` parameters, not the network: taking a module apart in Python at every call costs more
than a small training step. Randomness comes from `jax.random.fold_in(key, step)`, so a run that goes on from a saved
state draws the same numbers as one that was never stopped.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jsnn.arguments import check_accumulate, checked
from jsnn.data import Dataset
from jsnn.neurons.pytree import FrozenPytree, map_parts, within_ranges
from jsnn.types import Array, Neuron
from jsnn.unrolling import check_truncate, truncation

Metrics: TypeAlias = dict[str, Array]
Network: TypeAlias = Neuron | nnx.Module
"""One that runs over time, or a rate network, a function of images."""
Loss: TypeAlias = Callable[[Any, Array, Array, Array], tuple[Array, Metrics]]
"""(network, images [B, ...], labels [B], key) -> (scalar loss, metrics that are scalars or [B]), "loss" among them.

In place of the images there may be a pytree of arrays, such as `jsnn.data.Padded`, here and in what follows.
"""


class TrainState(NamedTuple):
    """Everything that training changes, a plain pytree of arrays, which it shares with nothing outside."""

    step: Array
    """Shape=(), dtype=int32: optimiser steps taken."""
    params: nnx.State
    """The network's `nnx.Param`s."""
    rest: nnx.State
    """Its other arrays, which no gradient reaches: constants, running averages."""
    optimizer: optax.OptState


@checked
def create(network: Network, optimizer: optax.GradientTransformation) -> tuple[nnx.GraphDef, TrainState]:
    """Split a network into its structure and the state before the first step.

    The state holds copies, so the network stays as it is while the state is trained and donated. A number `dt` becomes
    an array, which has room for what a schedule sets.

    Examples:
        >>> import jsnn, optax
        >>> from flax import nnx
        >>> network = jsnn.models.feedforward([4, 3, 2], rngs=nnx.Rngs(0))
        >>> graph, state = create(network, optax.adam(1e-3))
        >>> int(state.step)
        0
    """
    graph, params, rest = nnx.split(_with_dt_as_arrays(network), nnx.Param, ...)  # type: ignore[misc]
    return graph, _copied(TrainState(jnp.zeros((), jnp.int32), params, rest, optimizer.init(params)))


def network_of(graph: nnx.GraphDef, state: TrainState, at_step: Callable[[Any, Array], Any] | None = None) -> Any:
    """Return the network of a state, as it was trained last: with a `dt` as the schedule has set it.

    It is a copy: to go on training the state does not touch it. Trained parameters are within their ranges.

    Args:
        graph: the structure, from `create`.
        state: the state.
        at_step: that of `make_step`, if it sets more than `dt`: it is called with the last step that was taken.
    """
    network = within_ranges(nnx.merge(graph, *_copied((state.params, state.rest))))
    return network if at_step is None else at_step(network, jnp.maximum(state.step - 1, 0))


def in_mode(network: Any, *, training: bool) -> Any:
    """Return a network in training mode, itself, or a copy of it in inference mode.

    What training changes in it, such as the averages of `nnx.BatchNorm`, is kept; evaluations change nothing. A network
    that is not an `nnx.Module` has no modes.
    """
    if not isinstance(network, nnx.Module):
        return network
    if training:
        network.train()
        return network
    network = nnx.clone(network)
    network.eval()
    return network


def unchanged(network: Network, step: Array) -> Network:
    """Return the network unchanged: the default `at_step`, for training without a schedule."""
    return network


@checked
def make_step(
    graph: nnx.GraphDef,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    at_step: Callable[[Any, Array], Any] = unchanged,
    *,
    truncate: int | None = None,
    accumulate: int = 1,
) -> Callable[[TrainState, tuple[Array, Array], Array], tuple[TrainState, Metrics]]:
    """Return a pure optimiser step, `(state, (images [B, ...], labels [B]), key) -> (state, metrics)`, not yet jitted.

    The metrics are those of `loss`, averaged over the batch. What `loss` changes in the network it is given, such as
    the running averages of `nnx.BatchNorm`, goes into the returned state; but not an `nnx.Param`, which the optimiser
    alone changes.

    `at_step(network, step)` is the network as it is to be at a step: what follows a schedule is set here, as in
    `lambda network, step: jsnn.with_dt(network, schedule(step))`.

    `truncate` is that of `jsnn.unroll`, for each unroll in the loss that has none of its own: truncated backpropagation
    through time, with one optimiser step for the whole recording.

    `accumulate` is the number of equal parts of a batch that are seen one after another. Their gradients are averaged,
    which is the gradient of the whole batch where the loss is a mean over examples. It takes that much less memory.
    Batch normalisation sees a part at a time, and each part has a random key of its own.

    The step raises TypeError if the loss or a parameter is not floating point, or `optimizer` asks for more than
    gradients, its state and the parameters, such as the loss; and what `check_result` raises.
    """
    check_truncate(truncate)
    if accumulate < 1:
        raise ValueError(f"accumulate must be >= 1, got {accumulate}")

    def step(state: TrainState, batch: tuple[Array, Array], key: Array) -> tuple[TrainState, Metrics]:
        def objective(
            params: nnx.State, rest: nnx.State, batch: tuple[Array, Array], key: Array
        ) -> tuple[Array, tuple[Metrics, nnx.State]]:
            network = at_step(nnx.merge(graph, params, rest, copy=True), state.step)
            with truncation(truncate):
                found = loss(network, *batch, key)
            value, metrics = check_result(found, batch[0])
            if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
                raise TypeError(
                    f"loss must return a floating-point scalar, which has a gradient, got {jnp.result_type(value)}"
                )
            return value, (jax.tree.map(jnp.mean, metrics), _rest_of(network, rest))

        _check_trained(state.params)
        differentiate, key = jax.grad(objective, has_aux=True), jax.random.fold_in(key, state.step)

        def of_part(rest: nnx.State, part: tuple[Any, Array]) -> tuple[nnx.State, Any]:
            batch, number = part
            gradients, (metrics, rest) = differentiate(state.params, rest, batch, jax.random.fold_in(key, number))
            return rest, (gradients, metrics)

        if accumulate == 1:
            gradients, (metrics, rest) = differentiate(state.params, state.rest, batch, key)
        else:
            rest, (gradients, metrics) = _mean_over_parts(of_part, state.rest, batch, accumulate)
        try:
            updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.params)
        except TypeError as error:
            raise TypeError(
                f"optimizer.update(gradients, state, parameters) failed, and a training step gives it no more than "
                f"these three: {error}"
            ) from error
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, rest, optimizer_state), metrics

    return step


def _mean_over_parts(function: Callable[..., Any], carry: Any, batch: Any, count: int) -> tuple[Any, Any]:
    """Return the last carry and the mean y of a function `(carry, (part, number)) -> (carry, y)` over the parts."""
    check_accumulate(len(jax.tree.leaves(batch)[0]), count)
    # example k is in part k % count: so each device of several keeps its own
    parts = jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, count, *x.shape[1:]), 1, 0), batch), jnp.arange(count)
    of_one = jax.eval_shape(function, carry, jax.tree.map(lambda x: x[0], parts))[1]

    total = jax.tree.map(lambda y: jnp.zeros(y.shape, jnp.promote_types(y.dtype, jnp.float32)), of_one)

    def add(carry: tuple[Any, Any], part: Any) -> tuple[tuple[Any, Any], None]:
        after, y = function(carry[0], part)
        return (after, jax.tree.map(lambda total, y: total + y / count, carry[1], y)), None

    (carry, total), _ = jax.lax.scan(add, (carry, total), parts)
    return carry, jax.tree.map(lambda total, y: total.astype(y.dtype), total, of_one)


@checked
def make_advance(
    graph: nnx.GraphDef,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    at_step: Callable[[Any, Array], Any] = unchanged,
    *,
    truncate: int | None = None,
    accumulate: int = 1,
) -> Callable[[TrainState, Array, Array, Array, Array], tuple[TrainState, Metrics]]:
    """Return a jitted scan: `(state, images [N, ...], labels [N], indices [S, B], key) -> (state, metrics [S])`.

    Each row of `indices` is one batch of the data, which lies on the device; a set too large for it is sent in parts,
    a few batches at a time. The arguments are those of `make_step`. The state is donated: use the one returned, and
    not the one passed in.
    """
    step = make_step(graph, loss, optimizer, at_step, truncate=truncate, accumulate=accumulate)

    def advance(
        state: TrainState, images: Array, labels: Array, indices: Array, key: Array
    ) -> tuple[TrainState, Metrics]:
        def body(state: TrainState, index: Array) -> tuple[TrainState, Metrics]:
            return step(state, jax.tree.map(lambda array: array[index], (images, labels)), key)

        return jax.lax.scan(body, state, indices)

    return jax.jit(advance, donate_argnums=0)


@checked
def make_evaluate(graph: nnx.GraphDef, loss: Loss) -> Callable[..., Metrics]:
    """Return a jitted sum of metrics, `(state, images, labels, indices [S, B], mask [S, B], key) -> {name: sum}`.

    The metrics are those of `loss`; one of shape [B] is summed over the examples that `mask` admits, a scalar is taken
    to be the batch's mean and weighted with their number. `"count"` is the number of examples, the divisor.

    Each batch has a random key of its own, by the number of its first example: that of `indices`, or, where a part of a
    set was sent, that in the whole set, `start` [S], a last argument.
    """

    def evaluate(
        state: TrainState,
        images: Array,
        labels: Array,
        indices: Array,
        mask: Array,
        key: Array,
        start: Array | None = None,
    ) -> Metrics:
        network = network_of(graph, state)

        def body(nothing: None, batch: tuple[Array, Array, Array]) -> tuple[None, Metrics]:
            index, admitted, number = batch
            weights = admitted.astype(jnp.float32)
            inputs, targets = jax.tree.map(lambda array: array[index], (images, labels))
            _, metrics = check_result(loss(network, inputs, targets, jax.random.fold_in(key, number)), inputs)
            sums = {name: jnp.sum(jnp.asarray(value) * weights) for name, value in metrics.items()}
            return nothing, {**sums, "count": jnp.sum(weights)}

        _, sums = jax.lax.scan(body, None, (indices, mask, indices[:, 0] if start is None else start))
        return jax.tree.map(jnp.sum, sums)

    return jax.jit(evaluate)


def check_result(found: Any, inputs: Any) -> tuple[Array, Metrics]:
    """Return what a loss gave for inputs `[B, ...]`.

    Raises:
        TypeError: if it is not `(scalar, metrics)`.
        ValueError: if the loss is not a scalar, or a metric neither a scalar nor `[B]`.
    """
    is_pair = isinstance(found, tuple | list) and len(found) == 2
    if not is_pair or not isinstance(found[1], Mapping):
        parts = found if is_pair else [found]
        kinds = ["an array" if isinstance(part, jax.Array) else type(part).__name__ for part in parts]
        given = f"({', '.join(kinds)})" if is_pair else kinds[0]
        raise TypeError(f'loss must return (scalar, metrics), as in (value, {{"loss": value}}), got {given}')
    value, metrics = found
    if value is None:
        raise TypeError("loss must return (scalar, metrics), got None in place of the scalar")
    if jnp.shape(value) != ():
        raise ValueError(f"loss must return a scalar, got shape {jnp.shape(value)}: take the mean over the batch")
    batch = jnp.shape(jax.tree.leaves(inputs)[0])[:1]
    for name, metric in metrics.items():
        is_number = isinstance(metric, jax.Array | np.ndarray | np.generic | int | float)
        if not is_number or jnp.shape(metric) not in ((), batch):
            given = f"shape {jnp.shape(metric)}" if is_number else f"a {type(metric).__name__}"
            raise ValueError(f"metric {name!r} of the loss must be a scalar or of shape [B] = {batch}, got {given}")
    if "count" in metrics:
        raise ValueError("a metric of the loss may not be called 'count', the number of examples: give it another name")
    return value, metrics


def metrics_of(loss: Loss, network: Any, dataset: Dataset, batch_size: int) -> Metrics:
    """Return the shapes of the metrics of a batch, of which nothing is computed: what is wrong is found at once.

    Raises:
        TypeError: as `check_result`.
        ValueError: as `check_result`, or what the loss raises.
    """

    def found(network: Any, inputs: Any, targets: Array) -> Metrics:
        return check_result(loss(network, inputs, targets, jax.random.key(0)), inputs)[1]

    def rows(array: np.ndarray) -> jax.ShapeDtypeStruct:
        dtype = jax.dtypes.canonicalize_dtype(array.dtype)  # float64 becomes what JAX makes of it
        return jax.ShapeDtypeStruct((batch_size, *array.shape[1:]), dtype)

    return jax.eval_shape(found, network, *jax.tree.map(rows, (dataset.examples, dataset.targets)))


def _check_trained(params: nnx.State) -> None:
    for path, leaf in nnx.to_flat_state(params):
        for x in jax.tree.leaves(leaf):
            if not jnp.issubdtype(x.dtype, jnp.inexact):
                raise TypeError(
                    f"an nnx.Param must be floating point to be trained, got {x.dtype} in {'.'.join(map(str, path))}: "
                    f"keep it as a plain array, or as another nnx.Variable"
                )


def _rest_of(network: Network, before: nnx.State) -> nnx.State:
    """Return what a network holds besides its parameters, of all that it held before.

    A schedule may have added to it.
    """
    rest = nnx.split(_with_dt_as_arrays(network), nnx.Param, ...)[2]  # type: ignore[misc]
    after = dict(nnx.to_flat_state(rest))
    if missing := [".".join(map(str, path)) for path, _ in nnx.to_flat_state(before) if path not in after]:
        raise ValueError(
            f"loss must not remove anything from the network that it is given, it removed {', '.join(missing)}"
        )
    return nnx.from_flat_state([(path, after[path]) for path, _ in nnx.to_flat_state(before)])


def _with_dt_as_arrays(network: Network) -> Network:
    """Return the network with arrays for the numbers `dt` in it: what is not an array is part of the structure."""

    def is_number(part: Any) -> bool:
        return isinstance(part, FrozenPytree) and isinstance(getattr(part, "dt", None), int | float)

    def change(part: Any) -> Any:
        return dataclasses.replace(part, dt=jnp.asarray(part.dt, float))

    return map_parts(network, is_number, change)


def _copied(tree: Any) -> Any:
    """Return a copy of a tree, in which each leaf is an array of its own."""
    return jax.tree.map(lambda leaf: jnp.copy(leaf) if isinstance(leaf, jax.Array | np.ndarray) else leaf, tree)
