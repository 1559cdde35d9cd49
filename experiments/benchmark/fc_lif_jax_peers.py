"""The linear layer and the LIF layer in the other libraries for JAX, each as its users would write it.

A library that has several ways has a side for each: which one is the fastest depends on the size and on JAX's version.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmark.peers import TAU, on_cpu
from experiments.benchmark.side import Setting, Side, jax_side
from jsnn.types import Array

Layer = Callable[[Array, Array], Array]  # weights [N, N], spikes [T, B, N] -> spikes [T, B, N]


def spyx_layer(outside: bool = False) -> Layer:
    """Spyx's network, scanned by its `run`; or its neuron alone, the product done before for all steps."""
    import spyx
    from flax import nnx

    def run(weights: Array, spikes: Array) -> Array:
        linear = nnx.Linear(*weights.shape, use_bias=False, kernel_init=lambda *_: weights, rngs=nnx.Rngs(0))
        lif = spyx.nn.LIF(weights.shape[1:], beta=0.9, activation=spyx.axn.superspike(), rngs=nnx.Rngs(0))
        if outside:
            return spyx.nn.run(lif, linear(spikes))[0]
        return spyx.nn.run(spyx.nn.Sequential(linear, lif), spikes)[0]

    return run


def sparx_layer() -> Layer:
    """The `LIF` of sparx, a Flax module that takes all steps in one call."""
    import sparx
    from flax import linen

    def run(weights: Array, spikes: Array) -> Any:
        network = linen.Sequential([linen.Dense(weights.shape[1], use_bias=False), sparx.nn.LIF(tau=TAU)])
        return network.apply({"params": {"layers_0": {"kernel": weights}}}, spikes)

    return run


def jaxpike_layer(**options: Any) -> Layer:
    """The `unroll` of jaxpike, which does the product for all steps; by default its loop holds eight steps at once."""
    import equinox
    import jaxpike

    lif = jaxpike.LIF(tau=TAU)  # not in `run`: it looks at the value of its time constant

    def run(weights: Array, spikes: Array) -> Array:
        dense = jaxpike.Dense(*weights.shape, use_bias=False, key=jax.random.key(0))
        dense = equinox.tree_at(lambda layer: layer.weight, dense, weights.T)
        return jaxpike.unroll(jaxpike.Sequential(dense, lif), spikes, **options)[0]

    return run


def brainpy_layer(outside: bool = False) -> Layer:
    """BrainX's neuron in its loop over time, with units; the product in the loop or before it."""
    import brainpy
    import brainstate
    import brainunit

    def run(weights: Array, spikes: Array) -> Array:
        with brainstate.environ.context(dt=1.0 * brainunit.ms):
            linear = brainstate.nn.Linear(*weights.shape, w_init=lambda *_: weights, b_init=None)
            lif = brainpy.state.LIF(weights.shape[1], tau=TAU * brainunit.ms)
            lif.init_state(spikes.shape[1])
            loop = brainstate.transform.for_loop

            def currents(x: Array) -> Any:  # float32 for any precision of the products, as the neuron needs them
                return linear(x).astype(jnp.float32) * brainunit.mA

            return loop(lif, currents(spikes)) if outside else loop(lambda frame: lif(currents(frame)), spikes)

    return run


_LAYERS: dict[str, dict[str, Callable[[], Layer]]] = {
    "spyx": {"spyx": spyx_layer, "spyx, product outside": lambda: spyx_layer(outside=True)},
    "sparx": {"sparx": sparx_layer},
    "jaxpike": {
        "jaxpike": jaxpike_layer,
        "jaxpike, step by step": lambda: jaxpike_layer(scan_unroll=1, remat_step=True),
    },
    "brainpy": {"brainpy": brainpy_layer, "brainpy, product outside": lambda: brainpy_layer(outside=True)},
}


def sides(setting: Setting, peer: str, backward: bool, weights: np.ndarray, spikes: np.ndarray) -> dict[str, Side]:
    """Return the sides of a peer."""
    dtype = jnp.bfloat16 if setting.precision == "bf16" else jnp.float32
    arrays = jnp.asarray(weights, dtype), jnp.asarray(spikes, dtype)

    def side(layer: Layer) -> Side:
        def energy(weights: Array, spikes: Array) -> Array:
            return jnp.sum(layer(weights, spikes).astype(jnp.float32) ** 2)

        return jax_side(jax.value_and_grad(energy) if backward else layer, *arrays, role="peer")

    return {name: side(make()) for name, make in _LAYERS[peer].items()}


def forward(peer: str, weights: np.ndarray, spikes: np.ndarray) -> dict[str, np.ndarray]:
    """Return the spikes [T, B, N] of each of a peer's sides, on a CPU."""
    return {name: on_cpu(make(), weights, spikes) for name, make in _LAYERS[peer].items()}
