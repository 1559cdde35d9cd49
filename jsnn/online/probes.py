"""How the current of a layer depends on weights and inputs, found out by random numbers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jsnn.arguments import is_traced
from jsnn.neurons.checks import is_key
from jsnn.online.parts import Split, teach
from jsnn.types import Array

_TOLERANCE = 1e-3  # of what is compared with the random numbers
_ROUNDING = 0.02  # the same, of what is computed in another order, in bfloat16 at worst
_FAR = 100.0


class Probes:
    """Finds out by random numbers how the current of a layer depends on weights and inputs; all in one program."""

    is_affine: bool
    """Whether the current is affine in what it is made of."""
    with_offset: set[int]
    """The weights whose gradient is not 0 for an input of 0."""
    mixing: set[int]
    """The weights of which a number reaches another channel of the neurons than that of its own place."""
    outer: dict[int, int | None]
    """The weights whose gradient is an outer product of a source and the current's, see `Layer`."""

    def __init__(self, parts: Split, structure: Any, leaves: list[Any]) -> None:
        self.parts, self.structure, self.leaves = parts, structure, leaves

    def of(self, name: str, weights: tuple[int, ...], sources: tuple[int, ...]) -> None:
        """Probe the layer of this name."""
        with jax.ensure_compile_time_eval():  # also where the weights are traced
            current = self._current_of(name)
            is_known = not any(map(is_traced, jax.tree.leaves(self.parts.rest)))
            params = _drawn(0, self.parts.params)
            zero = [jnp.zeros(x.shape, x.dtype) for x in self.leaves]
            one, other = _drawn(1, self.leaves), _drawn(2, self.leaves)
            both = [a + b for a, b in zip(one, other)]
            ahead, back = ([far * a for a in one] for far in (_FAR, -_FAR))  # on both sides of any kink
            # of weights, which may be clipped or cut off, and of inputs: one case may be on one side of all kinks
            sizes, signs = jnp.array([1, -0.1, 0.01, -10]), jnp.array([1.0, -1, -1, 1])

            shape = jax.eval_shape(current, params, zero).shape
            draws = jnp.asarray(np.random.default_rng(3).normal(size=shape), jnp.float32)
            # whatever two channels, one of these has the one and not the other: those with a 0 or 1 at a binary place
            ones = np.arange(shape[-1]) >> np.arange(max(1, (shape[-1] - 1).bit_length()))[:, None] & 1 == 1
            some = jnp.asarray(np.concatenate([ones, ~ones]))

            @jax.jit
            def found(params: list[Array], *cases: list[Array]) -> Any:
                def of_case(factors: tuple[Array, Array]) -> Any:
                    scaled, leaves = (
                        [(x * factor).astype(x.dtype) for x in xs] for xs, factor in zip((params, cases[1]), factors)
                    )

                    def gradients_at(leaves: list[Array]) -> Callable[[Array], list[Array]]:
                        """Return a function from the gradient of the current to those of the layer's weights."""
                        pull = jax.vjp(lambda scaled: current(scaled, leaves), scaled)[1]

                        def gradients(cotangent: Array) -> list[Array]:
                            every = pull(cotangent)[0]
                            return [every[i] for i in weights]

                        return gradients

                    gradients = gradients_at(leaves)

                    def reaches_others(some: Array) -> list[Array | bool]:
                        """Return whether numbers of each weight reach some channels, in the place of others."""
                        parts = gradients(jnp.where(some, draws, 0))
                        return [g.shape[-1:] != some.shape or jnp.any(jnp.where(some, 0, g) != 0) for g in parts]

                    return jax.lax.map(reaches_others, some), gradients(draws), gradients_at(cases[0])(draws)

                currents = [current(params, leaves) for leaves in cases]
                return currents, *jax.lax.map(of_case, (sizes, signs))

            currents, mixed, whole, offsets = found(params, zero, one, other, both, ahead, back)
            nothing, first, second, of_both, of_ahead, of_back = currents
            cases = (of_both, first + second - nothing), (of_back, 2 * nothing - of_ahead)
            self.is_affine = all(
                bool(jnp.abs(y - expected).max(initial=0) <= _TOLERANCE * (jnp.abs(y).max(initial=0) + 1e-30))
                for y, expected in cases
            )
            self.with_offset = {i for i, g in zip(weights, offsets) if bool(jnp.any(g != 0))}
            self.mixing = {i for i, reaches in zip(weights, mixed) if bool(jnp.any(reaches))}
            if not is_known:  # other indices than the network's may have led a weight nowhere
                self.mixing |= {i for i, g in zip(weights, whole) if not bool(jnp.any(g != 0))}
            self.outer = {}
            axes = tuple(range(len(shape) - 1))
            for i, gradient in zip(weights, whole):
                products = {None: jnp.broadcast_to(jnp.sum(draws, axes), (len(signs), *shape[-1:]))} | {
                    j: jnp.stack([sign * jnp.tensordot(one[j], draws, (axes, axes)) for sign in signs])
                    for j in sources
                    if one[j].shape[:-1] == shape[:-1]
                }
                for source, product in products.items():
                    if product.shape == gradient.shape and bool(jnp.allclose(product, gradient, rtol=1e-4, atol=1e-4)):
                        self.outer[i] = source

    def is_by_example(self, name: str, sources: tuple[int, ...]) -> bool:
        """Return whether the current of each example is the one that it has in a batch of its own."""
        if not sources:
            return True
        with jax.ensure_compile_time_eval():
            current, params, leaves = self._current_of(name), _drawn(0, self.parts.params), _drawn(1, self.leaves)

            def of_example(rows: list[Array]) -> Array:
                few = [leaf[:1] for leaf in leaves]
                for i, row in zip(sources, rows, strict=True):
                    few[i] = row[None]
                return current(params, few)[0]

            try:
                alone = jax.jit(jax.vmap(of_example))([leaves[i] for i in sources])
            except (TypeError, ValueError):  # of a shape that is written down with the size of the batch
                return False
            among = current(params, leaves)
            if alone.shape != among.shape:
                return False
            error = jnp.abs(alone - among).max(initial=0)
            return bool(error <= _ROUNDING * (jnp.abs(among).max(initial=0) + 1e-30))

    def _current_of(self, name: str) -> Callable[[list[Array], list[Array]], Array]:
        """Return the current of a layer as a function of all weights and of what it is made of."""
        rest = jax.tree.map(_known, self.parts.rest)

        def current(params: list[Array], leaves: list[Array]) -> Array:
            network = self.parts.network(params, rest)
            return teach(network, *self.structure.unflatten(leaves)).currents[name].astype(jnp.float32)

        return current


def _drawn(seed: int, like: list[Any]) -> list[Array]:
    draws = np.random.default_rng(seed)
    return [jnp.asarray(draws.normal(size=x.shape), x.dtype) for x in like]


def _known(x: Any) -> Any:
    """Return an array that is no parameter, or something that can be told from numbers of 1 where it is traced."""
    if not is_traced(x):
        return x
    if is_key(x):
        return jax.random.split(jax.random.key(0), x.shape) if x.shape else jax.random.key(0)
    if jnp.issubdtype(x.dtype, jnp.floating):  # above 0, as a variance is
        return jnp.asarray(np.random.default_rng(4).uniform(0.5, 1.5, x.shape), x.dtype)
    turned = 1 - np.arange(x.size) % 2  # a mask, or indices of which none stands in its own place
    return jnp.asarray(turned.reshape(x.shape), x.dtype)
