"""Dense and convolutional layers with rounded weights, and with integers alone."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.neurons.spiking_activation import differentiated_as
from jsnn.quant.fixed import (
    LARGEST,
    Factor,
    divided,
    factor_of,
    integers,
    largest,
    power_of_two,
    rescaled,
    straight_through,
)
from jsnn.types import Array


class Geometry(NamedTuple):
    """How a convolution lies on its input."""

    strides: tuple[int, ...]
    padding: Any
    input_dilation: tuple[int, ...]
    kernel_dilation: tuple[int, ...]
    groups: int


def geometry_of(layer: Any, name: str = "the layer") -> Geometry | None:
    """Return the geometry of a convolution, None of a dense layer; ValueError if its padding is not of zeros."""
    if isinstance(layer, nnx.Linear):
        return None
    axes, padding = len(layer.kernel_size), layer.padding

    def each(value: Any) -> tuple[int, ...]:
        return (1 if value is None else value,) * axes if value is None or isinstance(value, int) else tuple(value)

    if isinstance(padding, str):
        if padding.upper() not in ("SAME", "SAME_LOWER", "VALID"):
            raise ValueError(f"{name} has the padding {padding!r}: in integers 'SAME', 'VALID' and numbers fit")
    else:
        padding = tuple((pad, pad) if isinstance(pad, int) else tuple(pad) for pad in each(padding))
    dilations = each(layer.input_dilation), each(layer.kernel_dilation)
    return Geometry(each(layer.strides), padding, *dilations, layer.feature_group_count)


def product(x: Array, kernel: Array, geometry: Geometry | None, layer: Any = None) -> Array:
    """Return the sums of a layer, in float32 by its own product, in int32 of int8 without a layer."""
    wide: dict[str, Any] = {"preferred_element_type": jnp.int32} if layer is None else {}
    if geometry is None:
        dot = jax.lax.dot_general if layer is None else layer.dot_general
        return dot(x, kernel, (((x.ndim - 1,), (0,)), ((), ())), **wide)
    if x.ndim != kernel.ndim:
        raise ValueError(f"it takes [B, *space, C] at each time step, {kernel.ndim} axes, got shape {x.shape}")
    axes = x.ndim - 2
    numbers = jax.lax.ConvDimensionNumbers(
        (0, axes + 1, *range(1, axes + 1)), (axes + 1, axes, *range(axes)), (0, axes + 1, *range(1, axes + 1))
    )
    convolve = jax.lax.conv_general_dilated if layer is None else layer.conv_general_dilated
    return convolve(
        x,
        kernel,
        geometry.strides,
        geometry.padding,
        lhs_dilation=geometry.input_dilation,
        rhs_dilation=geometry.kernel_dilation,
        dimension_numbers=numbers,
        feature_group_count=geometry.groups,
        **wide,
    )


class QuantizedSynapse(nnx.Module):
    """A dense or convolutional layer whose weights, bias and output are rounded; its gradients pass through.

    Inputs are rounded to multiples of `input_scale`, of which spikes have 0 or 1. All is computed in float32, in which
    the sums are exact.

    Attributes:
        layer: the layer, whose parameters are trained.
        bits: of a weight.
        unit: the unit of the currents that it puts out, a power of two.
        input_scale: the unit of its inputs.
        most: the largest input, in its unit: 1 of spikes.
    """

    def __init__(
        self,
        layer: Any,
        *,
        bits: int,
        per_channel: bool,
        power_of_two: bool,
        unit: float,
        input_scale: float,
        most: int,
    ) -> None:
        self.layer, self.bits, self.per_channel, self.power_of_two = layer, bits, per_channel, power_of_two
        self.unit, self.input_scale, self.most, self.geometry = unit, input_scale, most, geometry_of(layer)

    def quantized(self) -> tuple[Array, Factor]:
        """Return the weights as whole numbers in float32, and what one of them adds to the current, in units."""
        kernel = self.layer.kernel[...].astype(jnp.float32)
        if getattr(self.layer, "mask", None) is not None:
            kernel = kernel * self.layer.mask
        kernel = kernel * np.float32(self.input_scale / self.unit)
        axes = tuple(range(kernel.ndim - self.per_channel))
        size = jnp.max(abs(jax.lax.stop_gradient(kernel)), axes, initial=0.0) * np.float32(1 / largest(self.bits))
        # not above the size, so that the largest weight is the largest integer: rounded twice, weights stay the same
        factor = power_of_two(size) if self.power_of_two else factor_of(size, jnp.floor)
        factor = Factor(*(jnp.broadcast_to(part, kernel.shape[-1:]) for part in factor))
        smooth = divided(kernel, factor)
        return differentiated_as(jnp.clip(jnp.round(smooth), -largest(self.bits), largest(self.bits)), smooth), factor

    def bias(self) -> Array | None:
        """Return the bias in units, int32."""
        bias = self.layer.bias
        return None if bias is None else integers(bias[...], self.unit, LARGEST)

    def weights(self) -> Array:
        """Return the weights as they are used, in the units of the layer's own."""
        whole, factor = self.quantized()
        return whole * factor.value * np.float32(self.unit / self.input_scale)

    def __call__(self, x: Array) -> Array:
        kernel, factor = self.quantized()
        x = x.astype(jnp.float32) * np.float32(1 / self.input_scale)
        x = straight_through(integers(x, 1.0, self.most), 1.0, x)
        total = product(x, kernel, self.geometry, self.layer)
        current, smooth = rescaled(integers(total, 1.0), factor), total * (factor.value * np.float32(self.unit))
        if (bias := self.bias()) is not None:
            current = jnp.clip(current + bias, -LARGEST, LARGEST)
            smooth = smooth + self.layer.bias[...].astype(jnp.float32)
        return straight_through(current, self.unit, smooth)


class IntegerSynapse(nnx.Module):
    """A dense or convolutional layer of int8 weights: int8 `[B, ...]` -> int32 `[B, ...]`, sums in int32.

    Attributes:
        kernel: int8.
        factor: what a weight adds to the current, in its units, for each channel.
        bias: int32, in units of the current, or None.
    """

    def __init__(self, synapse: QuantizedSynapse) -> None:
        kernel, factor = synapse.quantized()
        self.kernel, self.factor = kernel.astype(jnp.int8), nnx.data(factor)
        self.bias = nnx.data(synapse.bias())
        self.geometry = synapse.geometry

    def __call__(self, x: Array) -> Array:
        if x.dtype != jnp.int8:
            raise TypeError(f"an integer layer takes spikes or inputs, int8, got {x.dtype}: put a neuron before it")
        current = rescaled(product(x, self.kernel, self.geometry), self.factor)
        return current if self.bias is None else jnp.clip(current + self.bias, -LARGEST, LARGEST)
