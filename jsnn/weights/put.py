"""Arrays into the places of a network, and the report of it."""

import dataclasses
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.neurons import ParametricLIF
from jsnn.types import Shape
from jsnn.weights.files import Unordered, WeightsError
from jsnn.weights.modules import Arrays, Certainty, Module, Source, keras_modules, ordered, torch_modules
from jsnn.weights.places import Place, once, places

_FIELDS = {
    "beta": ("decay", "beta"), "alpha": ("decay_syn", "alpha"), "threshold": ("threshold",), "w": ("w",),
    "initial_level": ("initial_level",), "tau": ("tau",),
}  # fmt: skip
Fits: TypeAlias = Callable[[Module, Place], bool]

_DECAYS = ("decay", "decay_syn", "alpha", "beta")
_SNNTORCH_RESETS = ("subtract", "zero", "none")  # by snnTorch's numbers


class Move(NamedTuple):
    """Where one array went."""

    source: str
    """The array's name."""
    source_shape: Shape
    target: str
    """Where in the network it is now, or "" if it was left out."""
    target_shape: Shape
    action: str
    """What was done to it, or why it was left out."""


class Report(NamedTuple):
    """Where every array went; `print(report)` shows it as a table."""

    moves: tuple[Move, ...]

    @property
    def left_out(self) -> tuple[str, ...]:
        """The names of the arrays that went nowhere."""
        return tuple(move.source for move in self.moves if not move.target)

    def __str__(self) -> str:
        rows = [
            (f"{m.source} {m.source_shape}", f"{m.target} {m.target_shape}" if m.target else "left out", m.action)
            for m in self.moves
        ]
        widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
        return "\n".join(f"{a:{widths[0]}}  ->  {b:{widths[1]}}  {c}".rstrip() for a, b, c in rows)


def from_torch(network: Any, arrays: Arrays, shape: Shape, *, order: Sequence[str] = ()) -> tuple[Any, Report]:
    """Return a network with the weights of a PyTorch `state_dict`, and a report of what went where.

    Weights of layers, of recurrent synapses, of normalisations and of neurons are matched apart from each other, each
    in order. Of neurons, these are taken: snnTorch's `beta`, `alpha` and `threshold`, and SpikingJelly's `w`; others
    are left out, and the report says so. Norse's `state_dict` holds none: give them to `jsnn.compat.norse`.

    Args:
        network: a `jsnn.Network`, `jsnn.Sequential` or `nnx.Sequential`, of `nnx.Linear`, `nnx.Conv`, normalisations,
            neurons, `Recurrent` and functions; it stays as it is.
        arrays: by the names in the `state_dict`, such as `"0.weight"`; see `load`.
        shape: that of one input, without time and batch: `(N,)` or `(H, W, C)`. From it follows which image a dense
            layer gets flattened.
        order: names of modules (`"encoder"`), in the network's order, which come first. For arrays whose own order is
            another, as that of a `.safetensors` file is, or of modules that are defined in another order than they run.

    Without `order`, arrays of a file that keeps none go where their shapes fit, and a `state_dict` is taken in the
    order in which its modules are defined. Modules that fit in each other's place are told apart by the numbers in
    their names alone (`"fc1"`, `"fc2"`). Where that does not tell, the first is an error and the second warns.

    Raises:
        WeightsError: if anything does not fit, or could stand in two places; it names every array and every layer that
            does not.
        TypeError: if the network uses parameters that are of no such layer, or `arrays` is not a dictionary of arrays
            of numbers, or `shape` is not a tuple.

    Examples:
        >>> import numpy as np, jsnn
        >>> from flax import nnx
        >>> network = jsnn.Sequential(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), jsnn.compat.snntorch.leaky(beta=0.9))
        >>> arrays = {"0.weight": np.ones((2, 3)), "0.bias": np.zeros(2), "1.beta": np.array(0.5)}
        >>> network, report = from_torch(network, arrays, shape=(3,))
        >>> print(report)
        0.weight (2, 3)  ->  layers[0].kernel (3, 2)  transposed
        0.bias (2,)      ->  layers[0].bias (2,)
        1.beta ()        ->  layers[1].decay ()
    """
    modules = torch_modules(ordered(arrays, order, "."))
    certainty = Certainty(order, bool(order), ".", "unknown" if isinstance(arrays, Unordered) else "of definition")
    return _put(network, modules, places(network, shape), certainty, channels_first=True)


def from_keras(network: Any, arrays: Arrays, shape: Shape, *, order: Sequence[str] = ()) -> tuple[Any, Report]:
    """Return a network with the weights of a Keras model, and a report of what went where.

    The arguments are those of `from_torch`.

    Arrays are named `"dense/kernel"`, `"batch_normalization/gamma"`, ..., or by their position: `"dense/vars/0"`, as
    Keras 3 does, or `"arr_0"`, as in a file of `np.savez(path, *model.get_weights())`. KerasSpiking's trained filters
    belong into those of `jsnn.compat.keras_spiking.lowpass` and `alpha`.

    Examples:
        >>> import numpy as np
        >>> from flax import nnx
        >>> network = nnx.Sequential(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), nnx.relu)
        >>> print(from_keras(network, {"arr_0": np.ones((3, 2)), "arr_1": np.zeros(2)}, shape=(3,))[1])
        arr_0 (3, 2)  ->  layers[0].kernel (3, 2)
        arr_1 (2,)    ->  layers[0].bias (2,)
    """
    found = places(network, shape)
    modules = keras_modules(ordered(arrays, order, "/"), once(found))
    kept = order or getattr(arrays, "order", ())
    is_unknown, is_subclassed = isinstance(arrays, Unordered), getattr(arrays, "is_subclassed", False)
    certainty = Certainty(kept, bool(order), "/", "unknown" if is_unknown else "known", is_subclassed)
    return _put(network, modules, found, certainty, channels_first=False)


class _Draft:
    """What is to be put where, and what is wrong with it."""

    def __init__(self, channels_first: bool) -> None:
        self.channels_first = channels_first
        self.moves: dict[str, Move] = {}
        self.faults: list[str] = []
        self.changes: dict[int, tuple[Place, dict[str, np.ndarray]]] = {}

    def put(self, source: Source, place: Place, slot: str, value: np.ndarray, action: str) -> None:
        values = self.changes.setdefault(id(place.part), (place, {}))[1]
        if not np.array_equal(values.setdefault(slot, value), value):
            self.faults.append(
                f"{_said(source)} is another array for {place.name}.{slot}, which the network has in several places: "
                f"give each its own layer"
            )
        self.moves[source.name] = Move(source.name, source.value.shape, f"{place.name}.{slot}", value.shape, action)

    def leave_out(self, source: Source, reason: str) -> None:
        self.moves[source.name] = Move(source.name, source.value.shape, "", (), reason)


def _put(
    network: Any, modules: list[Module], found: list[Place], certainty: Certainty, *, channels_first: bool
) -> tuple[Any, Report]:
    draft = _Draft(channels_first)
    unclear: list[tuple[Module, Module]] = []

    def fits(module: Module, place: Place) -> bool:
        trial = _Draft(channels_first)
        (_fit_neuron if module.kind == "neuron" else _fit)(trial, module, place)
        return not trial.faults

    for kind in ("layer", "synapse", "norm"):
        theirs = [module for module in modules if module.kind == kind]
        ours = _as_many([place for place in found if place.kind == kind], theirs)
        if certainty.order == "unknown" and not certainty.by_user:
            theirs = _by_shape(theirs, ours, fits)
        unclear += _unclear(list(zip(theirs, ours)), fits, certainty)
        for module, place in zip(theirs, ours):
            _fit(draft, module, place)
        for module in theirs[len(ours) :]:
            draft.faults += [f"{_said(source)} has no {kind} left to go to" for source in module.sources]
        for place in ours[len(theirs) :]:
            draft.faults.append(f"{place.name} ({type(place.part).__name__}) gets no weights")
    neurons = _fit_neurons(draft, [m for m in modules if m.kind == "neuron"], [p for p in found if p.kind == "neuron"])
    for pairs in neurons:
        unclear += _unclear(pairs, fits, certainty)
    changed = {}
    for key, (place, values) in draft.changes.items():
        try:
            changed[key] = _changed(place, values)
        except (TypeError, ValueError) as error:
            draft.faults.append(f"{place.name} does not take its weights: {error}")
    if draft.faults:
        raise WeightsError(
            "the weights do not fit the network, and nothing was changed:\n  "
            + "\n  ".join(draft.faults)
            + "\nIf only their order is another, give it: order=(names of modules)."
        )
    if unclear:
        first, second = max(unclear, key=lambda pair: certainty.of(pair[0].name, pair[1].name) == "unknown")
        said = (
            f"{first.name!r} and {second.name!r} fit in each other's place, {len(unclear)} such pairs in all: give the "
            f"order in which the modules run, order=({first.name!r}, {second.name!r}, ...)"
        )
        if certainty.of(first.name, second.name) == "unknown":
            raise WeightsError(f"the file does not say in which order its layers run, and nothing was changed: {said}")
        warnings.warn(f"weights are taken in the order in which the modules are defined, but {said}", stacklevel=3)
    parts = jax.tree.map(lambda part: changed.get(id(part), part), network, is_leaf=lambda part: id(part) in changed)
    names = [source.name for module in modules for source in module.sources]
    return parts, Report(tuple(draft.moves[name] for name in names))


def _as_many(places: list[Place], modules: list[Module]) -> list[Place]:
    """Return as many places as there are modules, or each part once."""
    return places if len(places) == len(modules) else once(places)


def _by_shape(modules: list[Module], places: list[Place], fits: Fits) -> list[Module]:
    """Return modules in the order of the places that their shapes fit; those that fit nowhere last."""
    left, found = list(modules), []
    for place in places:
        module = next((module for module in left if fits(module, place)), None)
        if module is None:
            return modules  # as they were: the errors name what stands in each place
        left.remove(module)
        found.append(module)
    return found + left


def _unclear(pairs: list[tuple[Module, Place]], fits: Fits, certainty: Certainty) -> list[tuple[Module, Module]]:
    """Return pairs of modules with other values that could change places, and whose names do not say which is first."""
    return [
        (first, second)
        for index, (first, place) in enumerate(pairs)
        for second, other in pairs[index + 1 :]
        if certainty.of(first.name, second.name) != "known"
        and not _equal(first, second)
        and fits(first, other)
        and fits(second, place)
    ]


def _equal(first: Module, second: Module) -> bool:
    """Return whether two modules hold the same values, so that it is all the same which is where."""
    pairs = zip(first.sources, second.sources)
    return len(first.sources) == len(second.sources) and all(np.array_equal(a.value, b.value) for a, b in pairs)


def _fit(draft: _Draft, module: Module, place: Place) -> None:
    """Put the arrays of one layer into it."""
    missing = list(place.slots)
    for position, source in enumerate(module.sources):
        slot = source.slot or (place.slots[position] if position < len(place.slots) else "")
        if slot == "num_batches_tracked":
            draft.leave_out(source, "only counts")
            continue
        if slot not in missing:
            draft.faults.append(f"{_said(source)} has no counterpart in {place.name} ({type(place.part).__name__})")
            continue
        missing.remove(slot)
        value, action = _turned(source.value, slot, place) if draft.channels_first else (source.value, "")
        expected = getattr(place.part, slot).shape
        if value.shape != expected:
            becomes = f", here {value.shape}," if value.shape != source.value.shape else ""
            draft.faults.append(f"{_said(source)}{becomes} does not fit {place.name}.{slot} {expected}")
            continue
        draft.put(source, place, slot, value, action)
    draft.faults += [f"{place.name}.{slot} gets no weights from {module.name or 'the file'}" for slot in missing]


def _turned(value: np.ndarray, slot: str, place: Place) -> tuple[np.ndarray, str]:
    """Return an array of PyTorch's with its axes in the order of ours, and a word on what was done."""
    if slot == "V":
        return _per_neuron(value, place)
    actions = []
    if slot == "kernel" and value.ndim > 1:
        value = np.transpose(value, (*range(2, value.ndim), 1, 0))
        actions.append("transposed")
        if isinstance(place.part, nnx.Linear) and math.prod(value.shape[:-2]) == 1:  # a convolution of size 1
            value = value.reshape(value.shape[-2:])
    of_inputs = {"layer": (0,) if slot == "kernel" else (), "synapse": range(value.ndim)}.get(place.kind, (0,))
    for axis in of_inputs:
        value, reordered = _channels_last(value, axis, place.image)
        actions += ["from (C, H, W) to (H, W, C)"] if reordered else []
    return value, ", ".join(dict.fromkeys(actions))


def _channels_last(value: np.ndarray, axis: int, image: Shape | None) -> tuple[np.ndarray, bool]:
    """Return an array whose axis is a flattened image, that image flattened in our order."""
    if image is None or value.ndim <= axis or value.shape[axis] != np.prod(image):
        return value, False
    before, after = value.shape[:axis], value.shape[axis + 1 :]
    images = value.reshape(*before, image[-1], *image[:-1], *after)
    return np.moveaxis(images, axis, axis + len(image) - 1).reshape(value.shape), True


def _fit_neurons(draft: _Draft, modules: list[Module], found: list[Place]) -> list[list[tuple[Module, Place]]]:
    """Put the parameters of neurons, leave out those that have no counterpart, and return what went where, by kind."""
    kinds: list[list[tuple[Module, Place]]] = []
    for slots in (("w",), ("beta", "threshold"), ("initial_level",)):
        theirs = [module for module in modules if {source.slot for source in module.sources} & set(slots)]
        modules = [module for module in modules if module not in theirs]
        ours = _as_many([place for place in found if _takes(place, slots)], theirs)
        if len(theirs) == len(ours):
            kinds.append(list(zip(theirs, ours)))
            continue
        for source in (source for module in theirs for source in module.sources):
            draft.leave_out(source, f"{len(theirs)} such neurons there, {len(ours)} here")
    for source in (source for module in modules for source in module.sources):
        draft.leave_out(source, "not known of any neuron")
    for module, place in (pair for pairs in kinds for pair in pairs):
        _fit_neuron(draft, module, place)
    return kinds


def _takes(place: Place, slots: tuple[str, ...]) -> bool:
    if isinstance(place.part, ParametricLIF):
        return "w" in slots
    if "initial_level" in slots:
        return "initial_level" in place.slots  # of filters those that are trained
    return any(field in vars(place.part) for slot in slots if slot != "w" for field in _FIELDS[slot])


def _fit_neuron(draft: _Draft, module: Module, place: Place) -> None:
    is_lapicque = "R" in {source.slot for source in module.sources}  # whose decay is not a beta
    reset = getattr(place.part, "reset", None)
    for source in module.sources:
        field = next((name for name in _FIELDS.get(source.slot, ()) if name in vars(place.part)), None)
        if source.slot == "reset_mechanism_val" and isinstance(reset, str) and reset != _reset(source.value):
            draft.faults.append(f"{_said(source)} says reset={_reset(source.value)!r}, {place.name} has {reset!r}")
        if source.slot == "graded_spikes_factor" and np.any(source.value != 1):
            draft.faults.append(
                f"{_said(source)} is {source.value}, but spikes here are 1: multiply the weights of the layer after "
                f"{place.name} by it, and take it out"
            )
        if field is None or (is_lapicque and source.slot == "beta"):
            draft.leave_out(source, f"no such parameter in {type(place.part).__name__}")
            continue
        value, action = _per_neuron(source.value, place) if draft.channels_first else (source.value, "")
        if value.size == np.prod(place.shape):  # KerasSpiking's have an axis too many, or all in one
            value = value.reshape(place.shape)
        if value.ndim and not _broadcasts(value.shape, place.shape):
            draft.faults.append(f"{_said(source)} does not fit {place.name}, neurons {place.shape}")
            continue
        draft.put(source, place, field, value, action)


def _per_neuron(value: np.ndarray, place: Place) -> tuple[np.ndarray, str]:
    """Return a neuron's parameter, which broadcasts from the right: against (C, H, W) there, (H, W, C) here."""
    if value.size == 1:
        return value.reshape(()), ""
    if len(place.shape) > 1:
        padded = value.reshape((1,) * (len(place.shape) - value.ndim) + value.shape)
        return np.moveaxis(padded, 0, -1), "from (C, H, W) to (H, W, C)"
    value, reordered = _channels_last(value, value.ndim - 1, place.image)
    return value, "from (C, H, W) to (H, W, C)" if reordered else ""


def _broadcasts(shape: Shape, target: Shape) -> bool:
    try:
        return np.broadcast_shapes(shape, target) == target
    except ValueError:
        return False


def _reset(number: np.ndarray) -> str:
    known = dict(enumerate(_SNNTORCH_RESETS))
    return known.get(int(number), str(number))


def _changed(place: Place, values: dict[str, np.ndarray]) -> Any:
    """Return a copy of a layer or a neuron with other values."""
    if place.kind != "neuron":
        layer = nnx.clone(place.part)
        for slot, value in values.items():
            variable = getattr(layer, slot)
            variable[...] = jnp.asarray(value, variable.dtype)
        return layer
    return dataclasses.replace(
        place.part, **{field: _parameter(getattr(place.part, field), field, value) for field, value in values.items()}
    )


def _parameter(old: Any, field: str, value: np.ndarray) -> Any:
    """Return a value of the old one's sort: trained, or fixed.

    The library snnTorch clips its decays to [0, 1], as we do trained ones.
    """
    if isinstance(old, nnx.Variable):
        return old.copy(jnp.asarray(value, old.dtype))
    if field in _DECAYS:
        value = np.clip(value, 0, 1)
    return jnp.asarray(value, jnp.float32) if value.ndim else float(value)


def _said(source: Source) -> str:
    return f"{source.name} {source.value.shape}"
