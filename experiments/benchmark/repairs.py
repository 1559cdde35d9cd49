"""What XLA is slow at on a CPU, as it does it and as jsnn does: gradients of layers and pooling, and the scan.

Forward+backward, with images of the MNIST tutorial's sizes. XLA's own are `nnx.Conv`, `nnx.Linear`, `nnx.max_pool`
and a `lax.scan` of the neuron's step; jsnn's are `jsnn.Conv`, `jsnn.Linear`, `jsnn.max_pool` and `jsnn.unroll`. On a
GPU, the layers are the same.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jsnn
from experiments.benchmark.mnist_conv import flax_max_pool
from experiments.benchmark.peers import compare
from experiments.benchmark.side import Comparison, Setting, jax_side
from jsnn.types import Array

_IN_LOOP = 4  # turns, each with a quarter of the images


def comparisons(setting: Setting, *, examples: int = 1024) -> Iterator[Comparison]:
    """Return one comparison for each repair."""
    if examples < 1 or examples % _IN_LOOP:
        raise ValueError(f"examples must be a multiple of {_IN_LOOP}, got {examples}")
    wide = jax.random.normal(jax.random.key(0), (examples, 12, 12, 20))
    images = jax.random.normal(jax.random.key(1), (examples, 28, 28, 1))
    pooled = jax.random.bernoulli(jax.random.key(2), 0.3, (examples, 24, 24, 20)).astype(jnp.float32)
    currents = jax.random.uniform(jax.random.key(3), (32, max(1, examples // 32), 24 * 24 * 20), maxval=0.5)
    neuron = jsnn.LIF(0.9)

    def scanned(x: Array) -> Array:
        return jax.lax.scan(neuron.step, neuron.init(x.shape[1:]), x)[1]

    kernel = _kernel(20, 50)
    yield before_and_after(
        f"conv 5x5 1-20, {examples} images, the kernel's gradient", convolve, (_kernel(1, 20), images)
    )
    yield before_and_after(f"conv 5x5 20-50, {examples} images, both gradients", convolve, (kernel, wide), (0, 1))
    yield before_and_after(
        f"conv 5x5 20-50 in a loop, {examples} images, both gradients", convolve_in_loop, (kernel, wide), (0, 1)
    )
    weights = jax.random.normal(jax.random.key(6), (1024, 1024)) / 32
    rows = jax.random.normal(jax.random.key(5), (examples, 1024))
    yield before_and_after(f"dense 1024-1024, {examples} rows, the kernel's gradient", multiply, (weights, rows))
    yield before_and_after(
        f"2x2 max pooling, {examples} images of 24x24x20",
        lambda ours: jsnn.max_pool if ours else flax_max_pool,
        (pooled,),
    )
    yield before_and_after(
        f"scan of a LIF neuron, {currents.size / 1e6:.1f} M neuron-steps",
        lambda ours: (lambda x: jsnn.unroll(neuron, x)[1]) if ours else scanned,
        (currents,),
    )


def before_and_after(
    title: str, make: Callable[[bool], Callable[..., Array]], arguments: tuple[Array, ...], of: tuple[int, ...] = (0,)
) -> Comparison:
    """Return a function as jsnn (True) and as XLA (False) does it, with the gradients of some of its arguments."""
    outputs = jax.eval_shape(make(False), *arguments)
    gradient = jax.random.normal(jax.random.key(4), outputs.shape)

    def with_gradients(ours: bool) -> Callable[..., tuple[Array, tuple[Array, ...]]]:
        def function(gradient: Array, *arguments: Array) -> tuple[Array, tuple[Array, ...]]:
            def chosen(*varied: Array) -> Array:
                return make(ours)(*(dict(zip(of, varied)).get(i, x) for i, x in enumerate(arguments)))

            made, backward = jax.vjp(chosen, *(arguments[i] for i in of))
            return made, backward(gradient)

        return function

    sides = {
        "jsnn": jax_side(with_gradients(True), gradient, *arguments),
        "XLA": jax_side(with_gradients(False), gradient, *arguments, role="other"),
    }
    ours, theirs = (side.run()[1] for side in sides.values())
    notes = []
    for mine, other in zip(ours, theirs):
        scale = float(np.max(np.abs(other)))
        notes.append(compare(np.asarray(mine) / scale, np.asarray(other) / scale, "gradient, its largest value as 1"))
    return Comparison(title, sides, tuple(notes))


def convolve(ours: bool) -> Callable[[Array, Array], Array]:
    """Return a convolution of images with a kernel."""
    kind: Any = jsnn.Conv if ours else nnx.Conv

    def function(kernel: Array, images: Array) -> Array:
        *size, inputs, outputs = kernel.shape
        layer = kind(
            inputs, outputs, size, padding="VALID", use_bias=False, kernel_init=lambda *_: kernel, rngs=nnx.Rngs(0)
        )
        return layer(images)

    return function


def multiply(ours: bool) -> Callable[[Array, Array], Array]:
    """Return a dense layer."""
    kind = jsnn.Linear if ours else nnx.Linear

    def function(kernel: Array, rows: Array) -> Array:
        return kind(*kernel.shape, use_bias=False, kernel_init=lambda *_: kernel, rngs=nnx.Rngs(0))(rows)

    return function


def convolve_in_loop(ours: bool) -> Callable[[Array, Array], Array]:
    """Return the same, a part of the images at a time."""

    def function(kernel: Array, images: Array) -> Array:
        parts = images.reshape(_IN_LOOP, -1, *images.shape[1:])
        return jax.lax.map(lambda part: convolve(ours)(kernel, part), parts)

    return function


def _kernel(inputs: int, outputs: int) -> Array:
    return jax.random.normal(jax.random.key(5), (5, 5, inputs, outputs)) / (25 * inputs) ** 0.5
