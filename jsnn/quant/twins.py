"""Networks in integers alone."""

import functools
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.arguments import checked, is_array, is_traced
from jsnn.layers import Recurrent, Sequential
from jsnn.network import Network
from jsnn.neurons.calling import dotted
from jsnn.neurons.pytree import map_parts
from jsnn.neurons.shapes import described
from jsnn.quant.checks import check_rounded, check_units
from jsnn.quant.fixed import LARGEST, LARGEST_INPUT, integers
from jsnn.quant.neurons import IntegerNeuron, IntegerRecurrent, QuantizedNeuron
from jsnn.quant.synapses import IntegerSynapse, QuantizedSynapse
from jsnn.quant.training import Quantized, Units
from jsnn.tracing import trace_network
from jsnn.types import Array, State


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _rounded(x: Array, scale: float) -> Array:
    """Return inputs as int8; raises TypeError if they are differentiated, which would give 0 in silence."""
    return jnp.where(jnp.isnan(x), 0, integers(x, scale, LARGEST_INPUT)).astype(jnp.int8)


@_rounded.defjvp
def _refuse(*_: Any) -> NoReturn:
    raise TypeError("an integer twin has no gradient: differentiate the network that jsnn.quant.aware has made")


class Integers:
    """A network in integers: takes floating-point inputs, which it rounds to int8, and puts out integers.

    One inside of another takes integers.
    """

    units: Units | None = None

    def one_step(self, x: Any) -> Any:
        """Return the function of one time step, in integers alone."""
        if self.units is not None:
            scale = self.units.input_scale
            x = jax.tree.map(lambda x: _rounded(x, scale), x)
        with jax.numpy_dtype_promotion("strict"):  # spikes and currents have other units, and other dtypes
            try:
                return super().one_step(x)  # type: ignore[misc]
            except jax.dtypes.TypePromotionError as error:
                raise ValueError(
                    "spikes (int8), membranes (int16), currents (int32) and numbers of floating point have other units "
                    f"in integers, and cannot be joined: {str(error).partition(' have no ')[0]}, without promotion"
                ) from error

    def init(self, shape: Any, dtype: Any = jnp.float32) -> State:
        """Return the state before the first step, for inputs of `shape`, `[B, ...]`: integers."""
        network: Any = self
        traced = trace_network(network, described(shape, dtype))
        check_units(traced.program, traced.inputs)
        check_rounded(traced, (IntegerNeuron, IntegerRecurrent, Integers))
        values, states = traced.parameters(), {}
        for found in traced.calls.values():
            x = found.x(traced.program.types.__getitem__)
            kind = {x.dtype for x in jax.tree.leaves(x)}.pop()
            states[found.name] = found.neuron(values).init(jax.tree.map(jnp.shape, x), kind)
        return network.pack(states)

    def real(self, outputs: Any) -> Any:
        """Return what the rounded network puts out: integers in their units, as float32.

        Spikes are int8 and have the unit 1, membranes are int16, currents int32.
        """
        assert self.units is not None
        units = {"int8": 1.0, "int16": self.units.readout, "int32": self.units.current}

        def change(y: Array) -> Array:
            kind = str(getattr(y, "dtype", type(y).__name__))
            if kind not in units:
                raise TypeError(f"outputs must be int8, int16 or int32, as the network gives them, got {kind}")
            return y.astype(jnp.float32) * np.float32(units[kind])

        return jax.tree.map(change, outputs)


class IntegerSequential(Integers, Sequential):
    """The integer twin of a `Sequential`."""


class IntegerNetwork(Integers, Network):
    """The integer twin of a `Network`."""


@checked
def integer(network: Any) -> Any:
    """Return the integer twin of a network that `aware` has made: a network that computes in integers alone.

    It takes the same inputs, as floating-point numbers, and rounds them to int8; from there on all is int8 (weights,
    spikes), int16 (states) and int32 (sums, currents). Its spikes are int8, the membranes that it puts out int16, and
    currents int32. `twin.real(outputs)` gives the outputs of the rounded network, to the bit; so does each state times
    its unit. It can be run, recorded and exported, not differentiated. Integers have no NaN: an input of NaN is 0 here,
    while the rounded network keeps it in its membranes.

    Raises:
        TypeError: if `network` does not come from `aware`, or is traced.
        ValueError: if a weight is not finite, or the sums of a layer could leave the range in which float32 and int32
            are exact, 2**23: that of 66,000 of the largest weights of 8 bits for the spikes of the layer before, and
            that of 520 for inputs up to 127.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> network = jsnn.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), jsnn.LIF(0.9))
        >>> rounded = jsnn.quant.aware(network)
        >>> twin = jsnn.quant.integer(rounded)
        >>> state, spikes = jsnn.unroll(twin, jnp.ones((10, 2, 3)))
        >>> str(spikes.dtype), bool((spikes == jsnn.unroll(rounded, jnp.ones((10, 2, 3)))[1]).all())
        ('int8', True)
    """
    if not isinstance(network, Quantized):
        raise TypeError(f"quant.integer takes what jsnn.quant.aware returns, got {type(network).__name__}")
    if any(map(is_traced, jax.tree.leaves(network))):
        raise TypeError("quant.integer takes a network with known weights: call it outside of jax.jit")
    for path, part in nnx.iter_graph(network):
        leaves = [leaf for leaf in jax.tree.leaves(part) if is_array(leaf)] if type(part) is QuantizedNeuron else []
        leaves += [part.layer.kernel, part.layer.bias] if isinstance(part, QuantizedSynapse) else []
        if any(leaf is not None and not bool(jnp.isfinite(leaf[...]).all()) for leaf in leaves):
            raise ValueError(f"{dotted(path)} has parameters that are not finite")
        if isinstance(part, QuantizedSynapse):
            whole = abs(np.asarray(part.quantized()[0], np.float64))
            total = part.most * whole.sum(tuple(range(whole.ndim - 1))).max(initial=0)
            if total > LARGEST:
                raise ValueError(
                    f"{dotted(path)}: its sums can reach {total:.0f} with inputs of {part.most}, above 2**23: "
                    f"split the layer, or take fewer bits"
                )

    def change(part: Any) -> Any:
        if isinstance(part, QuantizedSynapse):
            return IntegerSynapse(part)
        if isinstance(part, QuantizedNeuron):
            return IntegerNeuron.of(part)
        if isinstance(part, Sequential):
            return IntegerSequential(*zip(part.names, part.layers))
        return (
            IntegerNetwork(part.function) if isinstance(part, Network) else IntegerRecurrent(part.neuron, part.synapse)
        )

    kinds = (QuantizedSynapse, QuantizedNeuron, Recurrent, Network)
    twin = map_parts(network, lambda part: isinstance(part, kinds), change)
    twin.units = network.units
    return twin
