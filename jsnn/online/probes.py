"""How the current of a layer depends on weights and inputs, found out by random numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jsnn.online.parts import Split, teach
from jsnn.types import Array

_TOLERANCE = 1e-3  # of what is compared with the random numbers


class Probes:
    """Finds out by random numbers how the current of a layer depends on weights and inputs; all in one program."""

    is_affine: bool
    """Whether the current is affine in what it is made of."""
    with_offset: set[int]
    """The weights whose gradient is not 0 for an input of 0."""
    mixing: set[int]
    """The weights of which a number reaches several channels of the neurons."""
    outer: dict[int, int | None]
    """The weights whose gradient is an outer product of a source and the current's, see `Layer`."""

    def __init__(self, parts: Split, structure: Any, leaves: list[Any]) -> None:
        self.parts, self.structure, self.leaves = parts, structure, leaves

    def of(self, name: str, weights: tuple[int, ...], sources: tuple[int, ...]) -> None:
        """Probe the layer of this name."""
        with jax.ensure_compile_time_eval():  # also where the weights are traced
            rest = jax.tree.map(_plain, self.parts.rest)
            params = _drawn(0, self.parts.params)
            zero = [jnp.zeros(x.shape, x.dtype) for x in self.leaves]
            one, other = _drawn(1, self.leaves), _drawn(2, self.leaves)
            both = [a + b for a, b in zip(one, other)]

            def current(params: list[Array], leaves: list[Array]) -> Array:
                network = self.parts.network(params, rest)
                return teach(network, *self.structure.unflatten(leaves)).currents[name].astype(jnp.float32)

            shape = jax.eval_shape(current, params, zero).shape
            draws = jnp.asarray(np.random.default_rng(3).normal(size=shape), jnp.float32)
            half = jnp.arange(shape[-1]) % 2 == 0

            @jax.jit
            def found(params: list[Array], *cases: list[Array]) -> Any:
                def gradient(cotangent: Array, leaves: list[Array]) -> list[Array]:
                    return jax.vjp(lambda params: current(params, leaves), params)[1](cotangent)[0]

                return (
                    [current(params, leaves) for leaves in cases],
                    gradient(draws, cases[0]),
                    gradient(jnp.where(half, draws, 0), cases[1]),
                    gradient(draws, cases[1]),
                )

            (nothing, first, second, sum_of_both), offsets, halves, whole = found(params, zero, one, other, both)
            error = jnp.abs(sum_of_both - first - second + nothing).max(initial=0)
            self.is_affine = bool(error <= _TOLERANCE * (jnp.abs(sum_of_both).max(initial=0) + 1e-30))
            self.with_offset = {i for i, g in enumerate(offsets) if bool(jnp.any(g != 0))}
            self.mixing = {
                i
                for i, g in enumerate(halves)
                if i in weights and (g.shape[-1:] != shape[-1:] or bool(jnp.any(jnp.where(half, 0, g) != 0)))
            }
            self.outer = {}
            for i in weights:
                alone = jnp.sum(draws, tuple(range(len(shape) - 1)))
                products = {None: alone} | {
                    j: jnp.tensordot(one[j], draws, (tuple(range(len(shape) - 1)),) * 2)
                    for j in sources
                    if one[j].shape[:-1] == shape[:-1]
                }
                for source, product in products.items():
                    if product.shape == whole[i].shape and bool(jnp.allclose(product, whole[i], rtol=1e-4, atol=1e-4)):
                        self.outer[i] = source


def _drawn(seed: int, like: list[Any]) -> list[Array]:
    draws = np.random.default_rng(seed)
    return [jnp.asarray(draws.normal(size=x.shape), x.dtype) for x in like]


def _plain(x: Any) -> Any:
    """Return numbers in the place of an array that may not be known."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.split(jax.random.key(0), x.shape) if x.shape else jax.random.key(0)
    return jnp.ones(x.shape, jax.dtypes.canonicalize_dtype(x.dtype))
