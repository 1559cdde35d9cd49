"""What the layers of a network did over time: all of it, or only what one asks for."""

import functools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn import rounding
from jsnn.arguments import checked
from jsnn.chunks import in_chunks
from jsnn.neurons.calling import free_name
from jsnn.neurons.eventprop import has_shifts, with_shifts
from jsnn.neurons.pytree import FrozenPytree, for_unroll
from jsnn.types import Around, Array, Inputs, Layered, Neuron, Shape, State
from jsnn.unrolling import Method, explaining, of_step, over_time, prepare, run, truncation

_OUTPUTS = frozenset({"outputs"})

Keep: TypeAlias = Sequence[str] | Mapping[str, Sequence[str]] | None


class LayerRecord(NamedTuple):
    """What `record` keeps of one layer."""

    states: State
    """The state after every step, each array [T, B, ...]; () for a layer without memory."""
    outputs: Array
    """[T, B, ...]."""


@checked
def record(
    network: Neuron,
    inputs: Inputs,
    state: State = None,
    *,
    num_steps: int | None = None,
    keep: Keep = None,
    neurons: int | Sequence[int] | None = None,
    every: int = 1,
    method: Method = "auto",
) -> dict[str, LayerRecord]:
    """Unroll a network, and return every layer's states and outputs by the layer's name.

    The layers of a `Sequential` are named by position and class (`"1_LIF"`), those of a `Sequential` inside another
    after its name (`"2_Sequential/0_Linear"`), in a `Recurrent` so too (`"1_Recurrent/neuron/0_LIF"`), a bare neuron by
    its class. The first arguments are those of `jsnn.unroll`, the others choose: what they leave out is not held in
    memory.

    Args:
        network: any Neuron.
        inputs: `[T, B, ...]`, or `[B, ...]` with `num_steps`; a network may take several as a pytree.
        state: the state to go on from.
        num_steps: the number of steps T of a static input.
        keep: `"outputs"` (the spikes), and names in the states, such as `"v"` and `"i"`: `("outputs", "v")` for all
            layers, or `{"1_LIF": ("v",)}` for some, and nothing of the others. What is not kept is None in its state,
            and `outputs` are then `()`.
        neurons: how many neurons of each layer, evenly spread, or the indices of some. The axes after the batch are
            then one, `[T, B, neurons]`, in the order of `reshape`; `[T, neurons]` for a single vector, without a batch.
        every: keep every k-th step, from the first on.
        method: as in `jsnn.unroll`. A neuron of which states are kept is scanned.

    Returns:
        the layers' records by name, in the order in which they run; arrays are `[ceil(T / every), B, ...]`. A state is
        that of the end of its step: where a neuron that resets at once has spiked, its membrane is the reset one.

    Raises:
        ValueError: if `keep` names what is not there, `neurons` is not in a layer, `every` is below 1, or there is no
            such `method`.

    With `neurons` or `every`, no more than `every` steps are computed at once.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> network = jsnn.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), jsnn.LIF(0.9))
        >>> layers = jsnn.record(network, jnp.ones((10, 4, 2)))
        >>> list(layers), layers["1_LIF"].states.v.shape
        (['0_Linear', '1_LIF'], (10, 4, 3))
        >>> layers = jsnn.record(network, jnp.ones((10, 4, 2)), keep={"1_LIF": ["v"]}, neurons=[2], every=5)
        >>> layers["1_LIF"].states.v.shape
        (2, 4, 1)
    """
    if every < 1:
        raise ValueError(f"every must be >= 1, got {every}")
    if (isinstance(neurons, int) and neurons < 1) or (neurons is not None and np.size(neurons) == 0):
        raise ValueError(f"neurons must be a number >= 1, or the indices of at least one, got {neurons}")
    if truncation.value is not None:
        raise ValueError(
            f"truncate is for losses that call jsnn.unroll, and this one calls jsnn.record, got {truncation.value}"
        )
    for name, kept in keep.items() if isinstance(keep, Mapping) else ():
        if not isinstance(name, str):
            raise TypeError(f"keep takes layers by their names, such as '1_LIF', got {type(name).__name__}")
        if not isinstance(kept, Collection) or not all(isinstance(one, str) for one in kept):
            raise TypeError(f"keep takes names of what to keep of {name!r}, such as ('v',), got {kept!r}")
    inputs, state = prepare(network, inputs, state, num_steps)
    if has_shifts(state):
        state = with_shifts(network, state, of_step(inputs, num_steps))
    network = for_unroll(network)
    names: list[str] = []

    def run_some(
        state: State, x: Any, steps: int | None, network: Neuron = network
    ) -> tuple[State, dict[str, LayerRecord]]:
        state, records = _run_watched(network, state, x, steps, keep, method)
        names.extend(records)
        if neurons is not None:
            axes = 1 + any(len(leaf.shape) > 1 for leaf in jax.tree.leaves(of_step(x, steps)))
            records = {name: _some(name, neurons, axes, layer) for name, layer in records.items()}
        return state, records

    def run_first(state: State, x: Any, steps: int | None) -> tuple[State, dict[str, LayerRecord]]:
        state, records = run_some(state, x, steps)
        return state, jax.tree.map(lambda y: y[:1], records)

    with explaining(network, state, inputs, num_steps):
        if neurons is not None or every > 1:
            records = in_chunks(run_first, every, lambda run: run)(state, inputs, num_steps)[1]
            return {name: records[name] for name in dict.fromkeys(names)}  # a scan sorts them
        if keep is not None and not isinstance(jax.tree.leaves(inputs)[0], jax.core.Tracer):
            # what is misspelt is found before anything is computed; in a trace nothing is computed yet
            jax.eval_shape(lambda state, x: run_some(state, x, num_steps, _copy(network)), state, inputs)
        return run_some(state, inputs, num_steps)[1]


def _copy(network: Neuron) -> Neuron:
    """Return a network to try something with, made within the trace: running averages, for one, stay as they were."""
    return nnx.clone(network) if isinstance(network, nnx.Module) else network


def _run_watched(
    network: Neuron, state: State, inputs: Inputs, num_steps: int | None, keep: Keep, method: Method
) -> tuple[State, dict[str, LayerRecord]]:
    """Run a network with a look into each of its layers."""
    records: dict[str, LayerRecord] = {}
    there: dict[str, set[str]] = {}  # what each layer has

    def add(name: str, states: State, outputs: Any, kept: frozenset[str] | None) -> None:
        if kept is not None and "outputs" not in kept:
            outputs = ()
        layer = LayerRecord(states, outputs)
        if jax.tree.leaves(layer):
            records[name] = layer

    def run_part(
        prefix: str, name: str, layer: Neuron | None, state: State, x: Inputs, num_steps: int | None
    ) -> tuple[State, Any]:
        name = free_name(f"{prefix}/{name}".strip("/"), there)
        if isinstance(layer, Layered):
            return run(layer, state, x, num_steps, functools.partial(run_part, name), method)
        asked, before = keep.get(name, ()) if isinstance(keep, Mapping) else keep, state
        kept = None if asked is None else frozenset(asked)  # None is all
        there[name] = {"outputs", *_names(state)}
        if layer is None:
            states, outputs = (), over_time(x, num_steps)
        elif kept == _OUTPUTS:
            states, (state, outputs) = (), run(layer, state, x, num_steps, None, method)
        else:
            state, (states, outputs) = run(_StatesToo(layer, kept), state, x, num_steps, None, method)
        add(name, states, outputs, kept)
        is_asked = not isinstance(keep, Mapping) or any(other.startswith(f"{name}/") for other in keep)
        if is_asked and isinstance(layer, Around) and (inside := layer.inside(before, x, num_steps)):
            run_part(name, "neuron", *inside, None)
        return state, outputs

    name = "" if isinstance(network, Layered) else type(network).__name__
    state, _ = run_part("", name, network, state, inputs, num_steps)
    _check_kept(keep, there)
    return state, records


def _check_kept(keep: Keep, there: Mapping[str, Collection[str]]) -> None:
    everywhere = sorted(set().union(*there.values()))
    for name, kept in keep.items() if isinstance(keep, Mapping) else [("", keep or ())]:
        if isinstance(kept, str):
            raise TypeError(f"keep takes names, such as ({kept!r},), got the one string {kept!r}")
        if name and name not in there:
            raise ValueError(f"keep names {name!r}, but the layers are {', '.join(there)}")
        known = sorted(there[name]) if name else everywhere
        if unknown := sorted(set(kept) - set(known)):
            raise ValueError(f"keep names {', '.join(unknown)}, but {name or 'the layers'} have {', '.join(known)}")


@nnx.dataclass
class _StatesToo(FrozenPytree):
    """A neuron whose outputs come with what is to be kept of its states."""

    neuron: Neuron
    kept: frozenset[str] | None = nnx.static()
    _checks: ClassVar[dict[str, Any]] = {}  # the neuron has its own

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> State:
        return self.neuron.init(shape, dtype)

    def step(self, state: State, current: Any) -> tuple[State, tuple[State, Any]]:
        state, outputs = self.neuron.step(state, current)
        return state, (_select(state, self.kept), outputs)


def _select(state: State, kept: frozenset[str] | None) -> State:
    """Return a state with None for what is not kept; () for one of which nothing is."""
    if kept is None:
        return state

    def choose(path: tuple[Any, ...], leaf: Array) -> Array | None:
        return None if kept.isdisjoint(_names_on(path)) else leaf

    selected = jax.tree_util.tree_map_with_path(choose, state)
    return selected if jax.tree.leaves(selected) else ()


def _names(state: State) -> set[str]:
    """Return the names of what is in a state, at any depth."""
    return {name for path, _ in jax.tree_util.tree_leaves_with_path(state) for name in _names_on(path)}


def _names_on(path: tuple[Any, ...]) -> list[str]:
    return [key.name for key in path if isinstance(key, jax.tree_util.GetAttrKey)]


def _some(name: str, neurons: int | Sequence[int], axes: int, layer: LayerRecord) -> LayerRecord:
    """Return some neurons of a layer, all axes after those of time and batch as one."""

    def take(x: Array) -> Array:
        size = math.prod(x.shape[axes:])
        if x.ndim < 2 or size == 0:
            return x  # a number or a key that all neurons share, or a memory of no steps
        flat = x.reshape(*x.shape[:axes], size)
        chosen = rounding.spread(min(neurons, size), size) if isinstance(neurons, int) else np.asarray(neurons, int)
        if not (chosen.size and (chosen >= 0).all() and (chosen < size).all()):
            raise ValueError(f"{name} has {size} neurons, got neurons={neurons}: indices start at 0")
        return flat[..., chosen]

    return jax.tree.map(take, layer)
