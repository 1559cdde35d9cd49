"""A layer of given synapses: the sparse counterpart of a dense layer."""

import math
from collections.abc import Callable
from typing import Any, Self, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jsnn.arguments import check_memory, checked, is_traced
from jsnn.neurons.shapes import check_floating_dtype
from jsnn.sparse.connectivity import with_fan_in, with_probability
from jsnn.sparse.product import presynaptic, sparse_product
from jsnn.types import Array

Initializer: TypeAlias = Callable[..., Array]  # (key, shape, dtype) -> array

_lecun_normal = nnx.initializers.lecun_normal()
_zeros = nnx.initializers.zeros


class Sparse(nnx.Module):
    """A layer with the synapses that are given, and no others. Its memory is that of the synapses.

        y[b, j] = bias[j] + sum of kernel[s] * x[b, pre[s]] over the synapses s with post[s] = j

    Inputs [..., in_features] -> [..., out_features], as `jsnn.Linear`. The weights `kernel` and the bias are trained,
    the connectivity is not. Several synapses between the same two neurons add up.

    The gradient is as sparse: no array of in_features x out_features is made, forward or backward. On a CPU, where most
    inputs are 0 they are passed over, so a step takes time for the synapses of its spikes alone; 0 times a weight that
    is infinite or NaN is then 0, else NaN. Sums are in float32 or wider.

    Random synapses: `Sparse.random`; those of a matrix: `Sparse.from_dense`. As recurrent synapses with a delay:
    `jsnn.Recurrent(neuron, synapse, delay=15)`.

    Attributes:
        kernel: one weight for each synapse, [S], in the order of `pre` and `post`.
        post: the neuron that each synapse leads to, [S].
        starts: neuron i has the synapses starts[i], ..., starts[i + 1] - 1, [in_features + 1].
        bias: [out_features], or None.

    Args:
        in_features: the size of the last axis of the inputs.
        out_features: that of the outputs.
        indices: where synapses come from and lead to, [2, S]: integers from 0, of inputs and of outputs. In any order;
            the layer keeps them sorted by both.
        weights: one for each synapse, [S], or a number for all.
        bias: for each output, [out_features]; None for no bias.

    Raises:
        TypeError: if `indices` are not known integers.
        ValueError: if a size is below 1, an index is out of range, or the shapes do not fit.

    Examples:
        >>> import jax.numpy as jnp, jsnn
        >>> layer = jsnn.Sparse(3, 2, indices=[[0, 2, 2], [1, 0, 1]], weights=[0.5, 1.0, 2.0])
        >>> layer(jnp.array([[1.0, 5.0, 1.0]])).tolist()
        [[1.0, 2.5]]
    """

    @checked
    def __init__(
        self,
        in_features: int,
        out_features: int,
        indices: Array,
        weights: float | Array,
        *,
        bias: Array | None = None,
    ) -> None:
        _check_sizes(in_features, out_features)
        if is_traced(indices):
            raise TypeError("indices must be known when a Sparse layer is made: make it outside of jit and vmap")
        if indices.ndim != 2 or len(indices) != 2:
            raise ValueError(
                f"indices must be [2, S], where each synapse comes from and leads to, got shape {indices.shape}"
            )
        if not jnp.issubdtype(indices.dtype, jnp.integer) and indices.size:
            raise TypeError(f"indices must be integers, got {indices.dtype}")
        pre, post = np.asarray(indices, np.int32)
        for name, ends, size in (("indices[0]", pre, in_features), ("indices[1]", post, out_features)):
            if ends.size and not 0 <= ends.min() <= ends.max() < size:
                raise ValueError(f"{name} must be from 0 to {size - 1}, got {ends.min()} to {ends.max()}")
        weights = _floating(jnp.asarray(weights))
        if weights.shape not in ((), pre.shape):
            raise ValueError(f"weights must be a number or [S], {pre.shape} as the indices, got {weights.shape}")
        if bias is not None and bias.shape != (out_features,):
            raise ValueError(f"bias must have shape ({out_features},), got {bias.shape}")
        pairs = pre.astype(np.int64) * out_features + post
        if np.any(pairs[1:] < pairs[:-1]):
            order = np.argsort(pairs, kind="stable")
            pre, post, weights = pre[order], post[order], weights[order] if weights.ndim else weights
        self.in_features, self.out_features = in_features, out_features
        self.kernel = nnx.Param(jnp.broadcast_to(weights, post.shape))
        self.post = jnp.asarray(post)
        self.starts = jnp.asarray(np.searchsorted(pre, np.arange(in_features + 1)).astype(np.int32))
        self.bias = nnx.data(None) if bias is None else nnx.Param(_floating(bias))

    @classmethod
    @checked
    def random(
        cls,
        in_features: int,
        out_features: int,
        *,
        fan_in: int | None = None,
        probability: float | None = None,
        self_connections: bool = True,
        use_bias: bool = True,
        kernel_init: Initializer = _lecun_normal,
        bias_init: Initializer = _zeros,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> Self:
        """Return a layer with random synapses, no two of them between the same two neurons.

        Args:
            in_features: the size of the last axis of the inputs.
            out_features: that of the outputs.
            fan_in: how many inputs each output has, all different; or
            probability: with which there is each of the in_features x out_features synapses.
            self_connections: False for no synapse from a neuron to itself.
            use_bias: whether outputs have a bias.
            kernel_init: draws the weights: a function (key, shape, dtype) -> array, such as those of
                `nnx.initializers`. Its shape is [fan_in, ...], so that a scale goes by the inputs of a neuron.
            bias_init: draws the bias, [out_features].
            param_dtype: of weights and bias.
            rngs: where random numbers come from.

        Raises:
            ValueError: if not one of `fan_in` and `probability` is given, or it is out of range.
            TypeError: if `rngs` is traced, or `param_dtype` is not of floating-point numbers.

        Examples:
            >>> import jax.numpy as jnp, jsnn
            >>> from flax import nnx
            >>> synapse = jsnn.Sparse.random(1000, 1000, fan_in=100, use_bias=False, rngs=nnx.Rngs(0))
            >>> neuron = jsnn.Recurrent(jsnn.LIF(0.9), synapse, delay=15)
            >>> jsnn.unroll(neuron, jnp.ones((20, 2, 1000)))[1].shape, synapse.kernel.shape
            ((20, 2, 1000), (100000,))
        """
        _check_sizes(in_features, out_features)
        if (fan_in is None) == (probability is None):
            raise ValueError(f"give either fan_in or probability, got fan_in={fan_in}, probability={probability}")
        if not self_connections and in_features != out_features:
            raise ValueError(
                f"self_connections=False is for as many inputs as outputs, the same neurons, got {in_features} and "
                f"{out_features}"
            )
        check_floating_dtype("param_dtype", param_dtype)
        inputs = in_features if self_connections else in_features - 1
        key = rngs.params()
        if is_traced(key):
            raise TypeError("rngs must be known when a Sparse layer is made: make it outside of jit and vmap")
        draw = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        if fan_in is not None:
            if not 0 <= fan_in <= inputs:
                raise ValueError(f"fan_in must be from 0 to {inputs}, the inputs that there are, got {fan_in}")
            check_memory("the synapses", (fan_in, out_features), copies=6)
            pre, post = with_fan_in(draw, in_features, out_features, fan_in, self_connections)
        else:
            assert probability is not None
            if not 0 <= probability <= 1:
                raise ValueError(f"probability must be in [0, 1], got {probability}")
            fan_in = round(probability * inputs)
            check_memory("the synapses", (math.ceil(probability * in_features * out_features),), copies=8)
            pre, post = with_probability(draw, in_features, out_features, probability, self_connections)
        shape = (max(fan_in, 1), math.ceil(len(post) / max(fan_in, 1)))
        weights = _drawn("kernel_init", kernel_init, rngs, shape, param_dtype).ravel()[: len(post)]
        bias = _drawn("bias_init", bias_init, rngs, (out_features,), param_dtype) if use_bias else None
        return cls(in_features, out_features, jnp.asarray(np.stack([pre, post])), weights, bias=bias)

    @classmethod
    @checked
    def from_dense(cls, matrix: Array, *, bias: Array | None = None) -> Self:
        """Return a layer with a synapse for each number of a matrix that is not 0.

        Args:
            matrix: [in_features, out_features], as `nnx.Linear.kernel`.
            bias: for each output, [out_features]; None for no bias.

        Examples:
            >>> import jax.numpy as jnp, jsnn
            >>> layer = jsnn.Sparse.from_dense(jnp.array([[0.0, 2.0], [0.0, 0.0], [3.0, 0.0]]))
            >>> layer.kernel[...].tolist(), layer.to_dense().tolist()
            ([2.0, 3.0], [[0.0, 2.0], [0.0, 0.0], [3.0, 0.0]])
        """
        if matrix.ndim != 2:
            raise ValueError(f"matrix must be [in_features, out_features], got shape {matrix.shape}")
        if is_traced(matrix):
            raise TypeError("matrix must be known when a Sparse layer is made: make it outside of jit and vmap")
        pre, post = np.nonzero(np.asarray(matrix) != 0)
        indices = jnp.asarray(np.stack([pre, post]), jnp.int32)
        return cls(matrix.shape[0], matrix.shape[1], indices, matrix[pre, post], bias=bias)

    @property
    def pre(self) -> Array:
        """The neuron that each synapse comes from, [S]."""
        return presynaptic(self.starts, len(self.post))

    def to_dense(self) -> Array:
        """Return the matrix of the weights, [in_features, out_features]."""
        check_memory("the matrix", (self.in_features, self.out_features))
        kernel = self.kernel[...]
        return jnp.zeros((self.in_features, self.out_features), kernel.dtype).at[self.pre, self.post].add(kernel)

    @checked
    def __call__(self, x: Array) -> Array:
        """Return the outputs, [..., out_features], for inputs [..., in_features]."""
        if x.shape[-1:] != (self.in_features,):
            raise ValueError(f"Sparse takes [..., {self.in_features}], got shape {x.shape}")
        kernel = self.kernel[...]
        x = x.astype(jnp.result_type(x, kernel))
        rows = x.reshape(math.prod(x.shape[:-1]), self.in_features)
        y = sparse_product(rows, kernel, self.post, self.starts, self.out_features)
        y = y.reshape(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias[...].astype(y.dtype)


def _check_sizes(in_features: int, out_features: int) -> None:
    """Raise ValueError if a layer would have no inputs or outputs."""
    for name, size in (("in_features", in_features), ("out_features", out_features)):
        if size < 1:
            raise ValueError(f"{name} must be >= 1, got {size}")


def _floating(x: Array) -> Array:
    """Return numbers that can be trained."""
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.float32)


def _drawn(name: str, init: Initializer, rngs: nnx.Rngs, shape: tuple[int, ...], dtype: Any) -> Array:
    """Return what an initializer draws, checked."""
    if not math.prod(shape):
        return jnp.zeros(shape, dtype)
    try:
        drawn = jnp.asarray(init(rngs.params(), shape, dtype))
    except TypeError as error:
        raise TypeError(f"{name} must be a function (key, shape, dtype) -> array, got {init!r}: {error}") from error
    if drawn.shape != shape:
        raise ValueError(f"{name} must give an array of shape {shape}, got {drawn.shape}")
    return drawn
