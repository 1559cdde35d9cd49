"""Which arrays of another library belong together, and what they are called here."""

import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from jsnn.weights.files import WeightsError, as_numbers, natural
from jsnn.weights.places import Kind, Place

Arrays: TypeAlias = Mapping[str, np.ndarray]

_TORCH_SLOTS = {
    "weight": "kernel", "input_weights": "kernel", "recurrent_weights": "kernel", "bias": "bias", "V": "V",
}  # fmt: skip
_TORCH_NORM_SLOTS = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}
_TORCH_NEURON = ("beta", "alpha", "threshold", "w")  # which may have an axis or three, per neuron
_KERAS_SLOTS = {
    "kernel": "kernel", "bias": "bias", "gamma": "scale", "beta": "bias", "moving_mean": "mean",
    "moving_variance": "var", "depthwise_kernel": "kernel", "alpha": "negative_slope",
}  # fmt: skip


class Source(NamedTuple):
    """An array of another library."""

    slot: str
    """The parameter's name here; "" is the next in order."""
    name: str
    value: np.ndarray


Order: TypeAlias = Literal["known", "of definition", "unknown"]


class Certainty(NamedTuple):
    """How sure it is that arrays come in the order in which their modules run."""

    given: Sequence[str]
    """Names of modules, in the order in which they are known to run."""
    by_user: bool
    """Whether the user has given them."""
    separator: str
    order: Order
    """That of the arrays."""
    is_subclassed: bool = False
    """See `Unordered`."""

    def of(self, first: str, second: str) -> Order:
        """Return what is known of the order of two modules, the second of which comes later in the arrays."""
        if self.order == "known" or self._rank(first) < self._rank(second):
            return "known"
        alike = re.sub(r"_?\d+", "", first) == re.sub(r"_?\d+", "", second)  # Keras counts dense, dense_1, ...
        if not alike or natural(first) > natural(second):
            return self.order
        return "of definition" if self.is_subclassed and first.startswith("layers/") else "known"

    def _rank(self, name: str) -> int:
        places = (
            index
            for index, module in enumerate(self.given)
            if name == module or name.startswith(module + self.separator)
        )
        return next(places, len(self.given))


class Module(NamedTuple):
    """The arrays of one layer."""

    kind: Kind
    name: str
    sources: list[Source]


def ordered(arrays: Arrays, order: Sequence[str], separator: str) -> dict[str, np.ndarray]:
    """Return the arrays of the modules in `order`, then the others."""
    values = as_numbers(arrays)
    if not isinstance(order, list | tuple) or not all(isinstance(module, str) for module in order):
        raise TypeError(f"order must be a list of the names of modules, got {order!r}")

    def of(module: str) -> list[str]:
        return [name for name in arrays if name.startswith(module + separator)]

    unknown = [module for module in order if not of(module)]
    if unknown:
        raise WeightsError(f"order names {unknown}, which have no arrays; there are {list(arrays)}")
    known = order or getattr(arrays, "order", ())
    first = [name for module in known for name in of(module)]
    return {name: values[name] for name in dict.fromkeys([*first, *arrays])}


def torch_modules(arrays: Arrays) -> list[Module]:
    """Return the modules by what stands before the last dot of a name."""
    norms = {
        name.rpartition(".")[0]
        for name, array in arrays.items()
        if name.endswith("running_mean") or (name.endswith("weight") and array.ndim == 1)
    }
    modules: dict[tuple[Kind, str], Module] = {}
    for name, array in arrays.items():
        owner, _, leaf = name.rpartition(".")
        kind: Kind = "layer"
        slot = _TORCH_SLOTS.get(leaf, leaf)
        if owner in norms:
            kind, slot = "norm", _TORCH_NORM_SLOTS.get(leaf, leaf)
        elif leaf == "recurrent_weights" or (owner.endswith("recurrent") and leaf in _TORCH_SLOTS):
            kind = "synapse"
        elif leaf == "V" and f"{owner}.recurrent.V".lstrip(".") not in arrays:
            kind = "synapse"  # the same array by its other name, the one that safetensors.torch.save_model keeps
        elif leaf in _TORCH_NEURON or leaf == "V" or (array.ndim < 2 and leaf not in _TORCH_SLOTS):
            kind = "neuron"
        modules.setdefault((kind, owner), Module(kind, owner, [])).sources.append(Source(slot, name, array))
    return list(modules.values())


def keras_modules(arrays: Arrays, places: list[Place]) -> list[Module]:
    """Return the modules by what stands before the last slash of a name, or by position."""
    if all(re.fullmatch(r"arr_\d+", name) for name in arrays):
        return _in_turn([Source("", name, arrays[name]) for name in sorted(arrays, key=natural)], places)
    modules: dict[str, list[Source]] = {}
    for name, array in arrays.items():
        owner, _, leaf = name.removesuffix(":0").rpartition("/")
        slot = "" if leaf.isdigit() else _KERAS_SLOTS.get(leaf, leaf)
        modules.setdefault(owner.removesuffix("/vars"), []).append(Source(slot, name, array))
    return [Module(_keras_kind(name, sources), name, sources) for name, sources in modules.items()]


def _keras_kind(name: str, sources: list[Source]) -> Kind:
    if "initial_level" in {source.slot for source in sources}:
        return "neuron"  # a filter of KerasSpiking
    is_prelu = sources[0].slot == "negative_slope" or re.fullmatch(r"(.*/)?p_re_lu(_\d+)?", name)
    return "norm" if is_prelu or all(source.value.ndim < 2 for source in sources) else "layer"


def _in_turn(sources: list[Source], places: list[Place]) -> list[Module]:
    """Return as many arrays for each layer as it has; what is left over is a layer too many."""
    modules = []
    for place in places:
        if sources and (place.kind in ("layer", "norm") or "initial_level" in place.slots):
            taken = [source._replace(slot=slot) for source, slot in zip(sources, place.slots)]
            sources = sources[len(taken) :]
            modules.append(Module(place.kind, taken[0].name, taken))
    return [*modules, Module("layer", sources[0].name, sources)] if sources else modules
