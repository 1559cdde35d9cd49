"""A converted network: a program with neurons in it, itself a Neuron."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jsnn.conversion.place import Filtered, Scaled, agreed_dt
from jsnn.conversion.report import Report, Row
from jsnn.conversion.source import Place, Plan, Source
from jsnn.neurons.base import cast
from jsnn.neurons.call import call
from jsnn.neurons.shapes import check_order
from jsnn.program import Constant, read
from jsnn.types import Array, Neuron, Parameter, Shape, State
from jsnn.unroll import Method, Watch, over_time, run


class Converted(nnx.Module):
    """A network made by `convert`: a Neuron, whose weights, neurons and filters can be trained and saved.

    Its state holds one `(neuron, synapse)` pair for each activation. `jsnn.record` shows each neuron's output under the
    name that the report gives it, such as `"0_relu"`, and its filter's under `"0_relu/synapse"`. Where the function
    pools right behind an activation, a linear filter stands behind the pooling: the two commute, and less is filtered.
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
        self.exchanged = tuple(plan.exchanged)
        self.default_dt = dt
        self.kinds = tuple(place.activation for place in plan.places)
        self.parameters = tuple(place.parameters for place in plan.places)
        self.shapes = tuple(place.shape for place in plan.places)
        self.where = tuple(place.where for place in plan.places)

    __call__ = call

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
    def report(self) -> Report:
        """What was replaced by what, and what was kept."""
        rows = [
            Row(name, name.partition("_")[2], shape, neuron.neuron, neuron.scale, synapse, where)
            for name, shape, where, neuron, synapse in zip(
                self.names, self.shapes, self.where, self.neurons, self.synapses
            )
        ]
        return Report(rows, self.kept, self.dt, self.exchanged)

    @property
    def dt(self) -> Parameter:
        """The length of a step, in s: that of the neurons and filters, or the one the network was made with."""
        return agreed_dt([self.neurons, self.synapses], self.default_dt)

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> tuple[tuple[State, State], ...]:
        """One (neuron, synapse) pair of states for each activation; the synapse's is `()` where there is none.

        Membranes and filters have this dtype, or that of the model where it is wider: float32 also where the model
        computes in bfloat16. For inputs in bfloat16 that adds up too little; `jsnn.unroll` starts from float32.
        """
        plan = self.source.plan(shape, dtype)
        states = []
        for index, place in enumerate(plan.places):
            kind = plan.program.types[place.operand]
            wider = jnp.promote_types(kind.dtype, dtype)
            states.append(self.filtered(index, place).init(tuple(kind.shape), wider, of_input=kind.dtype))
        return tuple(states)

    def step(self, state: tuple[tuple[State, State], ...], current: Array) -> tuple[Any, Array]:
        """One time step, `current` [B, ...]."""
        check_order(self, state, current)
        states = []

        def respond(index: int, place: Place, x: Array, is_static: bool) -> Array:
            after, outputs = self.filtered(index, place).step(state[index], x)
            states.append(after)
            return outputs

        outputs, _ = self._evaluate(self.source.plan(current.shape, current.dtype), current, respond)
        return tuple(states), outputs

    def filtered(self, index: int, place: Place) -> Filtered:
        """What stands in the place of an activation."""
        return Filtered(self.neurons[index], self.synapses[index], place.tail)

    def rates(self, inputs: Array, *, with_gain: bool = False) -> tuple[dict[str, Array], Array]:
        """What the rate network computes, `[B, ...]`: each activation by name, and the output.

        With `with_gain`, what the neurons say on average, where one with an amplitude says another multiple.
        """
        activations, rates = self.activations, {}

        def respond(index: int, place: Place, x: Array, is_static: bool) -> Array:
            y = activations[index](x)
            rates[place.name] = y * cast(self.neurons[index].gain, y.dtype) if with_gain else y
            return place.tail.apply(rates[place.name])

        plan = self.source.plan(inputs.shape, inputs.dtype)
        outputs, _ = self._evaluate(plan if with_gain else plan.original or plan, inputs, respond)
        return rates, outputs

    def _evaluate(
        self,
        plan: Plan,
        inputs: Array,
        respond: Callable[[int, Place, Array, bool], Array],
        *,
        input_varies: bool = False,
        responses_vary: bool = False,
    ) -> tuple[Array, bool]:
        """Runs the program, with `respond` for the activations; returns the output, and whether it has a time axis.

        What varies in time has a time axis in front. An operation on such values runs for all time steps at once.
        """
        weights = dict(zip(plan.weights, jax.tree.leaves(self.weights), strict=True))
        values = {**plan.program.constants, **weights, plan.program.inputs[-1]: inputs}
        varying = {plan.program.inputs[-1]} if input_varies else set()
        index = 0
        for part in plan.parts:
            if isinstance(part, Place):
                is_static = part.operand not in varying
                values[part.tail.result] = respond(index, part, values[part.operand], is_static)
                if responses_vary:
                    varying.add(part.tail.result)
                index += 1
                continue
            axes = [0 if atom in varying else None for atom in part.inputs]
            is_static = all(axis is None for axis in axes)
            operation = part if is_static else jax.vmap(part.__call__, in_axes=axes)
            values.update(zip(part.outputs, operation(*(read(values, atom) for atom in part.inputs)), strict=True))
            if not is_static:
                varying |= set(part.outputs)
        output = plan.program.outputs[0]
        return read(values, output), output in varying


def _call(activation: Callable[..., Array], parameters: tuple[Any, ...], x: Array) -> Array:
    return activation(x, *parameters)


def value_of(weights: list[Array], parameter: int | Constant) -> Any:
    """What an activation is given besides its operand."""
    return parameter.value if isinstance(parameter, Constant) else weights[parameter]


def replace(
    network: Converted, *, neurons: Sequence[Scaled] | None = None, synapses: Sequence[Neuron | None] | None = None
) -> Converted:
    """A copy of a converted network with other neurons or filters, and the same weights."""
    copy = nnx.clone(network)
    if neurons is not None:
        copy.neurons = nnx.List(neurons)
    if synapses is not None:
        copy.synapses = nnx.List(synapses)
    return copy


@run.register
def _run_converted(
    network: Converted,
    state: tuple[tuple[State, State], ...],
    inputs: Array,
    num_steps: int | None,
    watch: Watch | None = None,
    method: Method = "auto",
) -> tuple[tuple[tuple[State, State], ...], Array]:
    states: list[tuple[State, State]] = []

    def respond(index: int, place: Place, x: Array, is_static: bool) -> Array:
        filtered, steps = network.filtered(index, place), num_steps if is_static else None
        if watch is None:
            after, outputs = run(filtered, state[index], x, steps, method=method)
        else:
            after, outputs = _run_watched(place.name, filtered, state[index], x, steps, watch)
        states.append(after)
        return outputs

    plan = network.source.plan(inputs.shape if num_steps is not None else inputs.shape[1:], inputs.dtype)
    outputs, varies = network._evaluate(plan, inputs, respond, input_varies=num_steps is None, responses_vary=True)
    outputs = outputs if varies else over_time(outputs, num_steps)
    if watch is not None:
        watch.keep("output", outputs)
    return tuple(states), outputs


def _run_watched(
    name: str, filtered: Filtered, state: tuple[State, State], x: Array, num_steps: int | None, watch: Watch
) -> tuple[tuple[State, State], Array]:
    before, behind = filtered.around
    neuron, x = watch.run(name, filtered.neuron, state[0], x, num_steps)
    if filtered.synapse is None:
        return (neuron, ()), jax.vmap(filtered.tail.apply)(x)
    synapse, x = watch.run(f"{name}/synapse", filtered.synapse, state[1], jax.vmap(before)(x), None)
    return (neuron, synapse), jax.vmap(behind)(x)
