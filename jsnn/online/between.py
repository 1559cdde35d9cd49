"""What a network computes between its neurons in one step, as a function of weights and inputs."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from jsnn.online.parts import Split, Step, teach
from jsnn.online.plan import Layer
from jsnn.types import Array


class Between(NamedTuple):
    """The maps from weights and inputs to currents and outputs, at one step."""

    parts: Split
    params: list[Array]
    data: list[Array]
    """The arrays of the input, of what the layers put out, and of what they remember, in this order."""
    structure: Any

    @classmethod
    def of(cls, parts: Split, params: list[Array], step: Step, x: Any) -> "Between":
        """Return the maps at a step that was run with input `x`."""
        data, structure = jax.tree.flatten((x, {name: cell[3] for name, cell in step.cells.items()}, step.memories))
        return cls(parts, params, data, structure)

    def current(self, layer: Layer, places: Sequence[int], weights: list[Array], sources: list[Array]) -> Array:
        """Return the current of a layer, `[B, ...]`, for other weights in these places and other inputs.

        The inputs may be of fewer examples.
        """
        is_part = any(len(source) < len(self.data[i]) for i, source in zip(layer.sources, sources))
        data = [array[: len(sources[0])] if is_part else array for array in self.data]
        for i, source in zip(layer.sources, sources, strict=True):
            data[i] = source.astype(data[i].dtype)
        return self._taught(self._with(places, weights), data).currents[layer.name]

    def outputs(self, places: tuple[int, ...], weights: list[Array]) -> Any:
        """Return the outputs for other weights in these places."""
        return self._taught(self._with(places, weights), self.data).outputs

    def own(self, layer: Layer, params: list[Array]) -> list[Array]:
        """Return the trained arrays of a layer's neuron for other parameters of the network."""
        arrays = self._taught(params, self.data).neurons[layer.name]
        return [arrays[i] for i in layer.own]

    def _with(self, places: Sequence[int], weights: list[Array]) -> list[Array]:
        params = list(self.params)
        for i, weight in zip(places, weights, strict=True):
            params[i] = weight
        return params

    def _taught(self, params: list[Array], data: list[Array]) -> Any:
        return teach(self.parts.network(params), *self.structure.unflatten(data))
