"""A delay for each synapse, of dense and convolutional layers."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Self, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx

from jsnn.arguments import check_memory, checked
from jsnn.convolution import conv_general_dilated
from jsnn.delays.correlation import correlate, is_faster
from jsnn.delays.state import DelayState, Late, empty, pushed, pushed_all
from jsnn.neurons.calling import call
from jsnn.neurons.pytree import Ranged
from jsnn.neurons.ranges import Range
from jsnn.neurons.shapes import check_floating, check_order, check_state
from jsnn.types import Array, Inputs, Shape, as_shape

Interpolation: TypeAlias = Literal["gaussian", "triangle"]
Initializer: TypeAlias = Callable[..., Array]  # (key, shape, dtype) -> array

_he_uniform = nnx.initializers.he_uniform()
_NARROWEST = {"gaussian": 0.27, "triangle": 1.0}  # a delay halfway between two steps keeps its weight


def check_width(width: Any, interpolation: str) -> None:
    """Raise ValueError if a width is known and too small."""
    narrowest = _NARROWEST[interpolation]
    if not isinstance(width, jax.core.Tracer) and not (jnp.ndim(width) == 0 and narrowest <= width < jnp.inf):
        raise ValueError(
            f"width must be a number >= {narrowest} with {interpolation!r} interpolation, got {width}: for one input a "
            f"synapse take jsnn.delays.rounded(network)"
        )


def _drawn(name: str, init: Initializer, rngs: nnx.Rngs, shape: Shape) -> Array:
    """Return what an initializer draws, checked."""
    try:
        drawn = jnp.asarray(init(rngs.params(), shape, jnp.float32))
    except TypeError as error:
        raise TypeError(f"{name} must be a function (key, shape, dtype) -> array, got {init!r}: {error}") from error
    if drawn.shape != shape:
        raise ValueError(f"{name} must give an array of shape {shape}, got {drawn.shape}")
    return drawn


class Delayed(Late, Ranged, nnx.Module):
    """What layers with a delay for every synapse share: all but the product of an input and a kernel."""

    def __init__(
        self,
        shape: Shape,
        max_delay: int,
        interpolation: str,
        width: Any,
        use_bias: bool,
        kernel_init: Initializer,
        delay_init: Initializer | None,
        rngs: nnx.Rngs,
    ) -> None:
        if min(shape) < 1:
            raise ValueError(f"a kernel must have sizes of 1 or more, got {shape}")
        if not 0 <= max_delay < 2**20:
            raise ValueError(f"max_delay must be >= 0 and less than 2^20, got {max_delay}")
        check_memory("the weights of all steps", (max_delay + 1, *shape), copies=4)
        width = max(0.5, _NARROWEST[interpolation]) if width is None else width
        check_width(width, interpolation)
        delay_init = delay_init or nnx.initializers.uniform(float(max_delay))
        self.max_delay, self.interpolation = max_delay, interpolation
        self.kernel = nnx.Param(_drawn("kernel_init", kernel_init, rngs, shape))
        self.delay = nnx.Param(_drawn("delay_init", delay_init, rngs, shape))
        self.bias = nnx.Param(jnp.zeros(shape[-1])) if use_bias else nnx.data(None)
        self.width = nnx.data(jnp.asarray(width, jnp.float32))  # Flax does not see that in nnx.eval_shape
        self.taps: Any = nnx.data(None)  # known only while `unroll` runs

    is_linear = True

    @property
    def window(self) -> int:
        """How many inputs a step sees."""
        return self.max_delay + 1

    def shortest(self) -> tuple[str, float]:
        """Return how long a delay can be: those of synapses differ, and are learned."""
        return "max_delay", self.max_delay

    def ranges(self) -> dict[str, Range]:
        """Return the ranges of the parameters that have one."""
        rule = f"must be in [0, {self.max_delay}]"
        return {"delay": Range(rule, lambda x: (x >= 0) & (x <= self.max_delay), 0.0, float(self.max_delay))}

    def replaced(self, **changes: Any) -> Self:
        """Return a layer with some attributes changed, which shares the others."""
        return self._changed(changes)

    def for_unroll(self) -> Self:
        """Return the layer with the weights of all steps computed, for all steps of an unroll."""
        return self.replaced(taps=self._taps())

    def __call__(self, x: Inputs) -> Any:
        """Return what stands for the output at one time step, while a `jsnn.Network` is traced.

        See `jsnn.neurons.call`.
        """
        return call(self, x)

    def init(self, shape: Shape, dtype: Any = jnp.float32) -> DelayState:
        """Return the state before the first step, for inputs of `shape`."""
        self._check(as_shape(shape))
        return empty(self.max_delay, as_shape(shape), dtype)

    def step(self, state: DelayState, current: Array) -> tuple[DelayState, Array]:
        """Run one time step."""
        check_order(self, state, current)
        check_floating(current)
        self._check(current.shape)
        check_state(self, state, current)
        state, known = self.pushed(state, current)
        return state, self.of_window(known).astype(current.dtype)

    def pushed(self, state: DelayState, current: Array) -> tuple[DelayState, Array]:
        """Return the state after a step, and the inputs that the step sees, `[B, ..., K, I]`, the oldest first."""
        return pushed(state, current)

    def all_steps(self, state: DelayState, currents: Array) -> tuple[DelayState, Array]:
        """Run all time steps, `[T, B, ...]`, at once."""
        self._check(currents.shape[1:])
        state, known = pushed_all(state, currents)
        taps = jnp.moveaxis(self._taps_for(known.dtype), -3, 0)
        known = known.astype(taps.dtype)
        if is_faster(known, taps, jax.eval_shape(self._product, known[0], taps[0]).size):
            y = self._with_bias(correlate(known, taps, self._products))
        else:
            seen = jnp.arange(len(currents))[:, None] + jnp.arange(self.window)
            y = self.of_window(jnp.moveaxis(known[seen], 1, -2))
        return state, y.astype(currents.dtype)

    def _taps(self) -> Array:
        """Return the weights of all inputs that each synapse sees, the oldest first, `[..., K, I, O]`."""
        kernel, delay = self.kernel[...], self.ranges()["delay"].project(self.delay[...])
        dtype = jnp.result_type(kernel, delay, jnp.float32)
        width = jnp.maximum(jax.lax.stop_gradient(self.width), _NARROWEST[self.interpolation]).astype(dtype)
        ago = jnp.arange(self.max_delay, -1, -1, dtype=dtype)[:, None, None]
        distance = ago - delay.astype(dtype)[..., None, :, :]
        if self.interpolation == "gaussian":
            share = jnp.exp(-jnp.square(distance / width) / 2)
        else:
            share = jnp.maximum(width - jnp.abs(distance), 0)
        return kernel.astype(dtype)[..., None, :, :] * (share / jnp.sum(share, axis=-3, keepdims=True))

    def _taps_for(self, dtype: Any) -> Array:
        """Return the weights of `_taps` for inputs of a dtype."""
        return (self._taps() if self.taps is None else self.taps).astype(jnp.promote_types(dtype, jnp.float32))

    def of_window(self, known: Array) -> Array:
        """Return the output for all inputs that a step sees, `[B, ..., K, I]`."""
        taps = self._taps_for(known.dtype)
        x = known.astype(taps.dtype).reshape(*known.shape[:-2], known.shape[-2] * known.shape[-1])
        return self._with_bias(self._product(x, taps.reshape(*taps.shape[:-3], -1, taps.shape[-1])))

    def _with_bias(self, y: Array) -> Array:
        return y if self.bias is None else y + self.bias[...].astype(y.dtype)

    def _check(self, shape: Shape) -> None:
        """Raise ValueError if inputs of this shape at a step do not fit."""
        raise NotImplementedError

    def _product(self, x: Array, kernel: Array) -> Array:
        """Return what the layer gives without delays and a bias."""
        raise NotImplementedError

    def _products(self, x: Array, kernels: Array) -> Array:
        """Return many products, each of an input and a kernel of its own."""
        raise NotImplementedError


class DelayedLinear(Delayed):
    """A dense layer with a delay for every synapse, learned like its weight. A Neuron without spikes of its own.

        y[t, j] = bias[j] + sum over i and k of kernel[i, j] * h[k, i, j] * x[t - k, i],  k = 0, ..., max_delay
        gaussian: h[k] ~ exp(-((k - delay) / width)^2 / 2);  triangle: h[k] ~ max(0, width - |k - delay|)

    The h of a synapse, over all k, sum to 1. While they are wide, a delay is drawn to inputs far from where it is now;
    narrow, they come close to one input. So the width is to shrink in training, `jsnn.delays.at_width`, and delays are
    rounded for inference, `jsnn.delays.rounded`. A triangle of width 1 is the straight line of `jsnn.Delay`. Delays are
    kept in [0, max_delay] where they are used. Before the first step there was nothing but 0.

    `jsnn.unroll` takes all steps at once, those of large layers through their frequencies: it rounds to about 1e-6 of
    the largest input of all, and an input that is not finite makes earlier steps NaN as well, so pad recordings with
    zeros. In a step, weights meet the last max_delay + 1 inputs.

    Source: Hammouamri, Khalfaoui-Hassani and Masquelier (ICLR 2024). Their package `dcls` gives the same numbers:
    `Dcls1d(..., kernel_count=1, dilated_kernel_size=max_delay + 1)` has P = max_delay - delay - (max_delay + 1) // 2,
    and |SIG| = width - 0.27 in its version "gauss", width - 1 in "max". It also adds 1e-7 to the sum of the h.

    Args:
        in_features: I, the size of the last axis of the inputs.
        out_features: O, that of the outputs.
        max_delay: the largest delay, in steps. `unroll` refuses recordings that are no longer than it.
        interpolation: `"gaussian"` or `"triangle"`.
        width: in steps: the Gaussian's standard deviation, from 0.27, or half of the triangle's base, from 1; None is
            0.5 for the Gaussian, 1 for the triangle.
        use_bias: whether outputs have a bias, which has no delay.
        kernel_init: draws the weights `kernel`, [I, O]; by default as in the paper, after He et al.
        delay_init: draws the delays `delay`, [I, O]; by default uniform in [0, max_delay], as in the paper.
        rngs: where random numbers come from.

    Raises:
        ValueError: if a size is below 1, `max_delay` is negative, or `width` too small.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> layer = jsnn.DelayedLinear(700, 128, max_delay=24, rngs=nnx.Rngs(0))
        >>> network = jsnn.Sequential(layer, jsnn.LIF(0.9))
        >>> state, spikes = jsnn.unroll(network, jnp.ones((100, 2, 700)))
        >>> spikes.shape, state[0].past.shape
        ((100, 2, 128), (2, 24, 700))
    """

    @checked
    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        max_delay: int,
        interpolation: Interpolation = "gaussian",
        width: float | Array | None = None,
        use_bias: bool = True,
        kernel_init: Initializer = _he_uniform,
        delay_init: Initializer | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        self.in_features, self.out_features = in_features, out_features
        shape = (in_features, out_features)
        super().__init__(shape, max_delay, interpolation, width, use_bias, kernel_init, delay_init, rngs)

    def _check(self, shape: Shape) -> None:
        if shape[-1:] != (self.in_features,):
            raise ValueError(f"DelayedLinear takes {self.in_features} channels, got shape {shape} at a step")

    def _product(self, x: Array, kernel: Array) -> Array:
        return jnp.matmul(x, kernel)

    def _products(self, x: Array, kernels: Array) -> Array:
        return jax.vmap(jnp.matmul)(x, kernels)


class DelayedConv(Delayed):
    """A two-dimensional convolution with a delay for every synapse of its kernel: see `DelayedLinear`.

    Inputs [B, H, W, in_features] at a step -> [B, H', W', out_features]; `kernel` and `delay` are [kh, kw, I, O].

    Args:
        in_features: I, the number of input channels.
        out_features: O, the number of output channels.
        kernel_size: (kh, kw).
        max_delay: as in `DelayedLinear`, and so are `interpolation`, `width`, `use_bias`, the initializers and `rngs`.
        strides: how far apart the places of the kernel are, in rows and columns.
        padding: `"SAME"` or `"VALID"`.

    Raises:
        ValueError: if a size is below 1, `max_delay` is negative, `width` too small, or `padding` another one.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> from flax import nnx
        >>> layer = jsnn.DelayedConv(2, 8, (3, 3), max_delay=5, strides=(2, 2), rngs=nnx.Rngs(0))
        >>> jsnn.unroll(layer, jnp.ones((10, 1, 34, 34, 2)))[1].shape
        (10, 1, 17, 17, 8)
    """

    @checked
    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: Sequence[int],
        *,
        max_delay: int,
        strides: Sequence[int] = (1, 1),
        padding: Literal["SAME", "VALID"] = "SAME",
        interpolation: Interpolation = "gaussian",
        width: float | Array | None = None,
        use_bias: bool = True,
        kernel_init: Initializer = _he_uniform,
        delay_init: Initializer | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        for name, sizes in (("kernel_size", kernel_size), ("strides", strides)):
            if len(sizes) != 2 or min(sizes) < 1:
                raise ValueError(f"{name} must be two numbers of 1 or more, for rows and columns, got {sizes}")
        self.in_features, self.out_features = in_features, out_features
        self.strides, self.padding = (int(strides[0]), int(strides[1])), padding
        shape = (int(kernel_size[0]), int(kernel_size[1]), in_features, out_features)
        super().__init__(shape, max_delay, interpolation, width, use_bias, kernel_init, delay_init, rngs)

    def _check(self, shape: Shape) -> None:
        if len(shape) != 4 or shape[-1] != self.in_features:
            raise ValueError(f"DelayedConv takes [B, H, W, {self.in_features}] at a step, got shape {shape}")

    def _product(self, x: Array, kernel: Array) -> Array:
        images = x.reshape(-1, *x.shape[-3:])
        dimensions = ("NHWC", "HWIO", "NHWC")
        y = conv_general_dilated(images, kernel, self.strides, self.padding, dimension_numbers=dimensions)
        return y.reshape(*x.shape[:-3], *y.shape[1:])

    def _products(self, x: Array, kernels: Array) -> Array:
        # one after another: XLA makes a grouped convolution of many at once, which is slow on CPUs
        return jax.lax.map(lambda pair: self._product(*pair), (x, kernels))
