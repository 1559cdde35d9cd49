"""A converted network: a program with neurons in it, itself a Neuron."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import nnx

from jsnn.conversion.exact import Turn
from jsnn.conversion.place import Filtered, Scaled, agreed_dt
from jsnn.conversion.report import Report, Row
from jsnn.conversion.source import Place, Plan, Source
from jsnn.network import Network, check_tuple, shown
from jsnn.neurons.base import cast
from jsnn.neurons.calling import call, steps_in_first_axis
from jsnn.program import Constant, read
from jsnn.tracing import States
from jsnn.types import Array, Neuron, Parameter, State


class Converted(Network):
    """A network made by `convert`: a Neuron, whose weights, neurons and filters can be trained and saved.

    Its state holds one `(neuron, synapse)` pair for each activation. `jsnn.record` shows each neuron's output under the
    name that the report gives it, such as `"0_relu"`, and its filter's under `"0_relu/synapse"`. Where the function
    pools right after an activation, a linear filter stands after the pooling: the two commute, and less is filtered.
    """

    def __init__(
        self,
        source: Source,
        weights: nnx.Module | nnx.List,
        neurons: Sequence[Scaled],
        synapses: Sequence[Neuron | None],
        plan: Plan,
        dt: Parameter = 1e-3,
    ) -> None:
        self.source = source
        self.weights = weights
        self.neurons = nnx.List(neurons)
        self.synapses = nnx.List(synapses)
        self.names = tuple(place.name for place in plan.places)
        self.kept = tuple(plan.kept)
        self.exact = tuple(plan.exact)
        self.turns = tuple(turn.name for turn in plan.turns)
        self.exchanged = tuple(plan.exchanged)
        self.default_dt = dt
        self.kinds = tuple(place.activation for place in plan.places)
        self.parameters = tuple(place.parameters for place in plan.places)
        self.shapes = tuple(place.shape for place in plan.places)
        self.where = tuple(place.where for place in plan.places)

    @property
    def activations(self) -> list[Callable[[Array], Array]]:
        """The activation that each neuron stands for, with the parameters it was trained to."""
        weights = jax.tree.leaves(self.weights)
        return [
            functools.partial(_call, kind, tuple(value_of(weights, parameter) for parameter in parameters))
            if parameters
            else kind
            for kind, parameters in zip(self.kinds, self.parameters, strict=True)
        ]

    @property
    def layers(self) -> Sequence[Scaled]:
        """The neurons, one for each of the `names`."""
        return self.neurons

    @property
    def report(self) -> Report:
        """What was replaced by what, and what was kept."""
        rows = [
            Row(name, name.partition("_")[2], shape, neuron.neuron, neuron.scale, synapse, where)
            for name, shape, where, neuron, synapse in zip(
                self.names, self.shapes, self.where, self.neurons, self.synapses
            )
        ]
        return Report(rows, self.kept, self.dt, self.exchanged, self.exact)

    @property
    def dt(self) -> Parameter:
        """The length of a step, in s: that of the neurons and filters, or the one the network was made with."""
        return agreed_dt([self.neurons, self.synapses], self.default_dt)

    def one_step(self, x: Array) -> Array:
        """Return the rate network's function, with neurons and filters in the place of its activations."""
        _, batch = steps_in_first_axis.get() or (1, x.shape[:1])
        places = self.source.plan((*batch, *x.shape[1:]), x.dtype).places  # neurons run for one step's batch

        def respond(part: Place | Turn, x: Array) -> Array:
            if isinstance(part, Turn):
                return call(part.neuron(), x, part.name)
            index = self.names.index(part.name)
            return call(self.filtered(index, places[index]), x, part.name)

        return shown("output", self._evaluate(self.source.plan(x.shape, x.dtype), x, respond))

    def pack(self, states: States) -> tuple[State, ...]:
        """Return the states of each activation, a pair (neuron, synapse); without a synapse, its state is `()`.

        Then come the states of what works on means, see `jsnn.conversion.exact`.
        """
        return tuple(states[name] for name in (*self.names, *self.turns))

    def unpack(self, state: tuple[State, ...]) -> States:
        """Return the pairs by the names of the activations."""
        names = (*self.names, *self.turns)
        check_tuple(state, len(names), "activation")
        return dict(zip(names, state))

    def filtered(self, index: int, place: Place) -> Filtered:
        """Return what stands in the place of an activation."""
        return Filtered(self.neurons[index], self.synapses[index], place.tail)

    def rates(self, inputs: Array, *, with_gain: bool = False) -> tuple[dict[str, Array], Array]:
        """Return what the rate network computes, `[B, ...]`: each activation by name, and the output.

        With `with_gain`, what the neurons say on average, where one with an amplitude says another multiple.
        """
        activations, rates = self.activations, {}

        def respond(part: Place | Turn, x: Array) -> Array:
            if isinstance(part, Turn):
                return x  # what does not vary is its own mean
            index = self.names.index(part.name)
            y = activations[index](x)
            rates[part.name] = y * cast(self.neurons[index].gain, y.dtype) if with_gain else y
            return part.tail.apply(rates[part.name])

        plan = self.source.plan(inputs.shape, inputs.dtype)
        return rates, self._evaluate(plan if with_gain else plan.original or plan, inputs, respond)

    def _evaluate(self, plan: Plan, x: Array, respond: Callable[[Place | Turn, Array], Array]) -> Array:
        """Return the output of the program, with `respond` for the activations, and where means begin and end."""
        weights = dict(zip(plan.weights, jax.tree.leaves(self.weights), strict=True))
        values = {**plan.program.constants, **weights, plan.program.inputs[-1]: x}
        for part in plan.parts:
            if isinstance(part, Place | Turn):
                result = part.tail.result if isinstance(part, Place) else part.result
                values[result] = respond(part, values[part.operand])
            else:
                part.run(values)
        return read(values, plan.program.outputs[0])


def _call(activation: Callable[..., Array], parameters: tuple[Any, ...], x: Array) -> Array:
    return activation(x, *parameters)


def value_of(weights: list[Array], parameter: int | Constant) -> Any:
    """Return what an activation is given besides its operand."""
    return parameter.value if isinstance(parameter, Constant) else weights[parameter]


def replace(
    network: Converted, *, neurons: Sequence[Scaled] | None = None, synapses: Sequence[Neuron | None] | None = None
) -> Converted:
    """Return a copy of a converted network with other neurons or filters, and the same weights."""
    copy = nnx.clone(network)
    if neurons is not None:
        copy.neurons = nnx.List(neurons)
    if synapses is not None:
        copy.synapses = nnx.List(synapses)
    return copy
