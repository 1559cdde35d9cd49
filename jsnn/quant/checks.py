"""What integers can run, and what is said of the rest."""

import functools
import math
from collections.abc import Collection
from typing import Any

import jax
import numpy as np
from flax import nnx

from jsnn.array_arguments import is_neuron
from jsnn.convolution import Conv
from jsnn.layers import Recurrent, Sequential, flatten, max_pool
from jsnn.linear import Linear
from jsnn.network import Network
from jsnn.neurons import IF, LI, LIF, CuBaLI, CuBaLIF, eventprop
from jsnn.neurons.base import SpikingNeuron
from jsnn.neurons.calling import dotted
from jsnn.neurons.checks import is_step, value_of_parameter
from jsnn.program import LINEAR, SUMS, Atom, Constant, Operation, Program, called, shape_of, within
from jsnn.quant.fixed import LARGEST, LARGEST_INPUT
from jsnn.quant.synapses import geometry_of
from jsnn.tracing import Traced

SYNAPSES = (nnx.Linear, Linear, nnx.Conv, Conv)
NEURONS = (IF, LIF, LI, CuBaLIF, CuBaLI)
_COMPARES = ("max", "min", "clamp", "select_n", "gt", "ge", "lt", "le", "eq", "ne", "pad", "concatenate")
# What gives the same for integers of any unit, or is one of the sums and products above; shifts are those of synapses.
_ANY_UNIT = {
    *_COMPARES, *LINEAR, "abs", "and", "argmax", "argmin", "cond", "conv_general_dilated", "cummax", "cummin",
    "dot_general", "dynamic_slice", "dynamic_update_slice", "gather", "is_finite", "mul", "neuron", "not", "or",
    "reduce_and", "reduce_max", "reduce_min", "reduce_or", "reduce_window_max", "reduce_window_min", "scan",
    "shift_left", "shift_right_arithmetic", "shift_right_logical", "sort", "while", "xor",
}  # fmt: skip
_FIT = (
    "jsnn.Linear, jsnn.Conv, jsnn.IF, LIF, LI, CuBaLIF, CuBaLI, Recurrent, flatten and max_pool fit, in a Sequential "
    "or a Network"
)


def after(name: str, layer: Any, kind: str) -> str:
    """Return what a layer puts out; ValueError if it cannot take what it is given."""
    if keeps(layer):
        return kind
    if type(layer) is Network:
        return "any"
    if type(layer) not in (*SYNAPSES, *NEURONS, Recurrent):
        raise TypeError(f"{name} is {type(layer).__name__}, which has no integer twin: {_FIT}")
    takes: tuple[str, ...] = ("input", "spikes") if type(layer) in SYNAPSES else ("input", "spikes", "current")
    takes = ("current",) if isinstance(layer, Recurrent) else takes
    if kind not in (*takes, "any"):
        given = {"input": "the input", "current": "currents", "membrane": "membranes"}.get(kind, kind)
        cure = "a layer with weights" if isinstance(layer, Recurrent) else "a spiking neuron"
        raise ValueError(f"{name} is given {given}, for which integers have no unit there: put {cure} before it")
    if type(layer) in SYNAPSES:
        return "current"
    return "spikes" if isinstance(getattr(layer, "neuron", layer), SpikingNeuron) else "membrane"


def keeps(layer: Any) -> bool:
    """Return whether a function does the same with integers."""
    return (layer.func if isinstance(layer, functools.partial) else layer) in (flatten, max_pool)


def check_parts(network: Any) -> None:
    """Raise TypeError or ValueError if a part of a network cannot be run in integers; it is named."""
    inside: list[Any] = []
    for path, part in nnx.iter_graph(network):
        name = dotted(path)
        for field in ("threshold", "gain", "v_rest", "v_reset") if type(part) in NEURONS else ():
            value = value_of(getattr(part, field, 0.0))
            if not np.isfinite(value).all():
                raise ValueError(f"{name}: {field} must be finite in integers, got {value}")
        if isinstance(part, Sequential):
            for label, layer in zip(part.names, part.layers):
                if not isinstance(layer, nnx.Pytree) and not keeps(layer):
                    raise TypeError(f"{label} has no integer twin: {_FIT}")
        if type(part) in SYNAPSES:
            inside += [value for value in vars(part).values() if isinstance(value, nnx.Variable)]
            geometry_of(part, name)
        elif isinstance(part, SpikingNeuron) and type(part) in NEURONS and not isinstance(part.reset, str):
            raise TypeError(f"{name}: reset must be 'subtract', 'zero' or 'none' in integers, got {part.reset!r}")
        elif isinstance(part, SpikingNeuron) and type(part) in NEURONS and not is_step(part.surrogate):
            raise TypeError(f"{name}: surrogate must be 0 below and 1 above the threshold, got {part.surrogate!r}")
        elif isinstance(part, Recurrent):
            if type(part.neuron) not in NEURONS or not isinstance(part.neuron, SpikingNeuron):
                raise TypeError(f"{name}: a Recurrent in integers takes IF, LIF or CuBaLIF, got {part.neuron!r}")
            if type(part.synapse) not in SYNAPSES:
                raise TypeError(f"{name}: a Recurrent in integers takes jsnn.Linear or jsnn.Conv, got {part.synapse!r}")
            if part.longest != 1 or np.any(value_of(part.delay) != 1):
                raise ValueError(f"{name}: a Recurrent in integers has a delay of 1 step, got {part.delay}")
        elif type(part) in NEURONS:
            inside += [value for value in vars(part).values() if isinstance(value, nnx.Variable)]
        elif type(part) is eventprop.CuBaLIF:
            raise TypeError(
                f"{name or 'the network'} has gradients of spike times, and rounded neurons have those of a surrogate: "
                f"take the network before with_spike_time_gradients"
            )
        elif is_neuron(part) and type(part) not in (Sequential, Network):
            raise TypeError(f"{name or 'the network'} is {type(part).__name__}, which has no integer twin: {_FIT}")
    known = [id(value) for value in inside]
    for path, part in nnx.iter_graph(network):
        if isinstance(part, nnx.Variable) and id(part) not in known:
            raise TypeError(f"{dotted(path)} is a parameter of a part that has no integer twin: {_FIT}")


def check_units(program: Program, inputs: Collection[int]) -> None:
    """Raise ValueError if the function of a `Network` makes integers of another unit than their dtype stands for."""
    dependent, function = program.depending_on(inputs), "the function of the network"
    constants, largest = _constants(program), dict[Any, int]()
    for operation in program.operations:
        given = [str(program.types[atom].dtype) for atom in operation.inputs if atom in dependent]
        made, name = [str(program.types[value].dtype) for value in operation.outputs], operation.name
        if not given or given[0] not in ("bool", "int8", "int16", "int32"):
            continue
        if name == "convert_element_type" and given[0] != "int32" and made[0] in ("int16", "int32"):
            raise ValueError(
                f"{function} makes {made[0]} of {given[0]}, as a sum or mean of spikes does, and they have other units "
                f"in integers: sum by a layer with weights"
            )
        if made == ["int8"]:
            largest[operation.outputs[0]] = _largest(program, operation, largest, function)
        if {"int16", "int32"}.isdisjoint(given):
            continue
        is_product = name in ("mul", "dot_general", "conv_general_dilated")
        if (is_product and len(given) == 2) or name in ("integer_pow", "square"):
            raise ValueError(f"{function} multiplies currents or membranes with each other, a unit that integers lack")
        values = [atom.value if isinstance(atom, Constant) else constants.get(atom) for atom in operation.inputs]
        numbers: list[Any] = [value for value in values if value is not None and np.any(value)]
        if name in ("add", "sub") and numbers:
            raise ValueError(
                f"{function} adds the number {np.max(numbers[0])} to currents or membranes, of which an integer counts "
                f"another unit: put it into a bias"
            )
        numbers = [number for number in numbers if np.any(np.abs(number) != LARGEST)]  # at which a synapse cuts off
        if (name in _COMPARES or operation.params.get("name") in ("clip", "_where")) and numbers:
            raise ValueError(
                f"{function} compares the number {np.max(numbers[0])} with currents or membranes, or puts it in their "
                f"place, and an integer counts another unit: take 0, or the threshold of a neuron"
            )
        inner = (one for one in within(operation.equation) if called(one) is None)
        if others := [one.primitive.name for one in inner if one.primitive.name not in _ANY_UNIT]:
            raise ValueError(
                f"{function} takes {others[0]} of currents or membranes, which is not the same in another unit, as "
                f"integers have: take sums, products with numbers, maxima and comparisons with 0"
            )


def check_rounded(traced: Traced, kinds: type | tuple[type, ...]) -> None:
    """Raise TypeError if the function of a `Network` calls a neuron of any other kind."""
    values = traced.parameters()
    for found in traced.calls.values():
        neuron = found.neuron(values)
        if not isinstance(neuron, kinds) and not isinstance(getattr(neuron, "neuron", None), kinds):
            raise TypeError(
                f"{found.name} is not rounded, as it is made inside the function of the network: make it an attribute "
                f"of the module"
            )


def _constants(program: Program) -> dict[Atom, Any]:
    """Return the values that are made of numbers alone, such as those of `jnp.ones` and `jnp.arange`."""
    found: dict[Any, Any] = {}
    for operation in program.operations:
        if all(isinstance(atom, Constant) or atom in found for atom in operation.inputs):
            with jax.ensure_compile_time_eval():
                operation.run(found)
    return found


def _largest(program: Program, operation: Operation, largest: dict[Any, int], function: str) -> int:
    """Return the largest int8 that an operation makes of spikes; raise ValueError if int8 does not hold it."""
    given = [largest.get(atom, 1) for atom in operation.inputs]
    found, what = max(given), ""
    if operation.name in SUMS:
        found, what = sum(given), f"adds up to {sum(given)} spikes"
    elif operation.name == "dot_general":
        axes = operation.params["dimension_numbers"][0][0]
        terms = math.prod(shape_of(program, operation.inputs[0])[axis] for axis in axes)
        found, what = terms * math.prod(given), f"sums {terms} products"
    if found > LARGEST_INPUT:
        raise ValueError(f"{function} {what} in int8, which holds {LARGEST_INPUT}")
    return found


def value_of(parameter: Any) -> np.ndarray:
    """Return the value of a parameter that is known."""
    value = value_of_parameter(parameter)
    assert value is not None
    return value


def power_of(threshold: Any) -> int:
    """Return the power of two that is not below the largest of a neuron's thresholds."""
    return math.ceil(math.log2(np.max(value_of(threshold))) - 0.01)  # so that its own rounding changes nothing
