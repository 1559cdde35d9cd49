"""Arrays matched with the places of a network, put into them, and the report of it."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from jsnn.neurons import ParametricLIF
from jsnn.types import Shape
from jsnn.weights.files import Unordered, WeightsError
from jsnn.weights.fill import FIELDS, Draft, Move, fill, fill_neuron, filled, text_of
from jsnn.weights.modules import Arrays, Certainty, Module, keras_modules, ordered, torch_modules
from jsnn.weights.places import Place, once, places

Fits: TypeAlias = Callable[[Module, Place], bool]


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
        network: a `jsnn.Network`, `jsnn.Sequential` or `nnx.Sequential`, of `nnx.Linear`, `nnx.Conv` (also a depthwise
            one), `nnx.ConvTranspose`, normalisations, `nnx.PReLU`, neurons, `Recurrent` and functions. It stays as it
            is.
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


def _put(
    network: Any, modules: list[Module], found: list[Place], certainty: Certainty, *, channels_first: bool
) -> tuple[Any, Report]:
    draft = Draft(channels_first)
    unclear: list[tuple[Module, Module]] = []

    def fits(module: Module, place: Place) -> bool:
        trial = Draft(channels_first)
        (fill_neuron if module.kind == "neuron" else fill)(trial, module, place)
        return not trial.faults

    for kind in ("layer", "synapse", "norm"):
        theirs = [module for module in modules if module.kind == kind]
        ours = _as_many([place for place in found if place.kind == kind], theirs)
        theirs = _without_doubles(draft, theirs, len(ours))
        if certainty.order == "unknown" and not certainty.by_user:
            theirs = _by_shape(theirs, ours, fits)
        unclear += _unclear(list(zip(theirs, ours)), fits, certainty)
        for module, place in zip(theirs, ours):
            fill(draft, module, place)
        for module in theirs[len(ours) :]:
            draft.faults += [f"{text_of(source)} has no {kind} left to go to" for source in module.sources]
        for place in ours[len(theirs) :]:
            draft.faults.append(f"{place.name} ({type(place.part).__name__}) gets no weights")
    neurons = _fill_neurons(draft, [m for m in modules if m.kind == "neuron"], [p for p in found if p.kind == "neuron"])
    for pairs in neurons:
        unclear += _unclear(pairs, fits, certainty)
    changed = {}
    for key, (place, values) in draft.changes.items():
        try:
            changed[key] = filled(place, values)
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


def _without_doubles(draft: Draft, modules: list[Module], count: int) -> list[Module]:
    """Return so many modules, without those that PyTorch names again for a layer that stands in several places."""
    first = {id(module): next(other for other in modules if _equal(other, module)) for module in modules}
    left = [module for module in modules if first[id(module)] is module]
    if len(left) != count:
        return modules
    for module in modules:
        for source in module.sources if first[id(module)] is not module else ():
            draft.leave_out(source, f"the same as in {first[id(module)].name}")
    return left


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


def _fill_neurons(draft: Draft, modules: list[Module], found: list[Place]) -> list[list[tuple[Module, Place]]]:
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
        fill_neuron(draft, module, place)
    return kinds


def _takes(place: Place, slots: tuple[str, ...]) -> bool:
    if isinstance(place.part, ParametricLIF):
        return "w" in slots
    if "initial_level" in slots:
        return "initial_level" in place.slots  # of filters those that are trained
    return any(field in vars(place.part) for slot in slots if slot != "w" for field in FIELDS[slot])
