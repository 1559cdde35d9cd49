"""Arrays of another library put into one layer or neuron: with its order of axes, and errors for what does not fit."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.types import Shape
from jsnn.weights.files import holds
from jsnn.weights.modules import Module, Source
from jsnn.weights.places import Place

FIELDS = {
    "beta": ("decay", "beta"), "alpha": ("decay_syn", "alpha"), "threshold": ("threshold",), "w": ("w",),
    "initial_level": ("initial_level",), "tau": ("tau",),
}  # fmt: skip
_DECAYS = ("decay", "decay_syn", "alpha", "beta")
_SNNTORCH_RESETS = {0: "subtract", 1: "zero", 2: "none"}


class Move(NamedTuple):
    """Where one array went."""

    source: str
    """The array's name."""
    source_shape: Shape
    target: str
    """Where in the network it is now, or "" if it was left out."""
    target_shape: Shape
    action: str
    """How the array was changed on the way, or why it was left out."""


class Draft:
    """The planned moves of arrays into layers, and the faults that were found."""

    def __init__(self, channels_first: bool) -> None:
        self.channels_first = channels_first
        self.moves: dict[str, Move] = {}
        self.faults: list[str] = []
        self.changes: dict[int, tuple[Place, dict[str, np.ndarray]]] = {}

    def put(self, source: Source, place: Place, slot: str, value: np.ndarray, action: str) -> None:
        values = self.changes.setdefault(id(place.part), (place, {}))[1]
        if not np.array_equal(values.setdefault(slot, value), value):
            self.faults.append(
                f"{text_of(source)} is another array for {place.name}.{slot}, which the network has in several places: "
                f"give each its own layer"
            )
        self.moves[source.name] = Move(source.name, source.value.shape, f"{place.name}.{slot}", value.shape, action)

    def leave_out(self, source: Source, reason: str) -> None:
        self.moves[source.name] = Move(source.name, source.value.shape, "", (), reason)


def text_of(source: Source) -> str:
    """Return what an error calls an array."""
    return f"{source.name} {source.value.shape}"


def fill(draft: Draft, module: Module, place: Place) -> None:
    """Put the arrays of one layer into it."""
    missing = list(place.slots)
    for position, source in enumerate(module.sources):
        slot = source.slot or (place.slots[position] if position < len(place.slots) else "")
        if isinstance(place.part, nnx.PReLU):  # PyTorch calls it its weight
            slot = "negative_slope"
        if slot == "num_batches_tracked":
            draft.leave_out(source, "only counts")
            continue
        if slot not in missing:
            cure = ": if a normalisation follows, subtract this bias from its running mean, and leave the bias out"
            draft.faults.append(
                f"{text_of(source)} has no counterpart in {place.name} ({type(place.part).__name__})"
                + cure * (slot == "bias" and place.kind == "layer")
            )
            continue
        missing.remove(slot)
        value, action = (_turned if draft.channels_first else _of_keras)(source.value, slot, place)
        expected = getattr(place.part, slot).shape
        is_forward = isinstance(place.part, nnx.ConvTranspose) and not place.part.transpose_kernel
        if is_forward and slot == "kernel" and value.ndim == len(expected):
            value, action = np.flip(value, tuple(range(value.ndim - 2))).swapaxes(-1, -2), "flipped"
        if slot == "negative_slope" and value.size == math.prod(expected):
            value = value.reshape(expected)
        if value.shape != expected:
            becomes = f", here {value.shape}," if value.shape != source.value.shape else ""
            draft.faults.append(f"{text_of(source)}{becomes} does not fit {place.name}.{slot} {expected}")
            continue
        if not holds(kind := getattr(place.part, slot).dtype, value):
            draft.faults.append(
                f"{text_of(source)} has values that are too large for {kind}, the dtype of {place.name}"
            )
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


def _of_keras(value: np.ndarray, slot: str, place: Place) -> tuple[np.ndarray, str]:
    """Return an array of Keras', and a word on what was done: of a depthwise kernel, [..., I, multiplier]."""
    channels = getattr(place.part, "in_features", 1)
    is_depthwise = channels > 1 and getattr(place.part, "feature_group_count", 1) == channels
    if slot == "kernel" and is_depthwise and value.ndim > 2 and value.shape[-2] == channels:
        return value.reshape(*value.shape[:-2], 1, -1), "channels and multipliers in one"
    return value, ""


def _channels_last(value: np.ndarray, axis: int, image: Shape | None) -> tuple[np.ndarray, bool]:
    """Return an array whose axis is a flattened image, that image flattened in our order."""
    if image is None or value.ndim <= axis or value.shape[axis] != np.prod(image):
        return value, False
    before, after = value.shape[:axis], value.shape[axis + 1 :]
    images = value.reshape(*before, image[-1], *image[:-1], *after)
    return np.moveaxis(images, axis, axis + len(image) - 1).reshape(value.shape), True


def fill_neuron(draft: Draft, module: Module, place: Place) -> None:
    """Put the parameters of one neuron into it."""
    is_lapicque = "R" in {source.slot for source in module.sources}  # whose decay is not a beta
    reset = getattr(place.part, "reset", None)
    for source in module.sources:
        field = next((name for name in FIELDS.get(source.slot, ()) if name in vars(place.part)), None)
        if source.slot == "reset_mechanism_val" and isinstance(reset, str) and reset != _reset(source.value):
            draft.faults.append(f"{text_of(source)} says reset={_reset(source.value)!r}, {place.name} has {reset!r}")
        if source.slot == "graded_spikes_factor" and np.any(source.value != 1):
            draft.faults.append(
                f"{text_of(source)} is {source.value}, but spikes here are 1: multiply the weights of the layer after "
                f"{place.name} by it, and take it out"
            )
        if field is None or (is_lapicque and source.slot == "beta"):
            draft.leave_out(source, f"no such parameter in {type(place.part).__name__}")
            continue
        value, action = _per_neuron(source.value, place) if draft.channels_first else (source.value, "")
        if value.size == np.prod(place.shape):  # KerasSpiking's have an axis too many, or all in one
            value = value.reshape(place.shape)
        if value.ndim and not _broadcasts(value.shape, place.shape):
            draft.faults.append(f"{text_of(source)} does not fit {place.name}, neurons {place.shape}")
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
    return _SNNTORCH_RESETS.get(int(number), str(number))


def filled(place: Place, values: dict[str, np.ndarray]) -> Any:
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
