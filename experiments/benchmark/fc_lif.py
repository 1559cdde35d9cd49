"""One linear layer without a bias and one LIF layer, forward and forward+backward: the published comparison's workload.

The loss is the sum of the squared spikes, its gradient that of the weights alone. The floor is the matrix products that
cannot be avoided: currents = inputs @ weights, and backward inputs^T @ (gradient of the currents). All sides have the
same weights and inputs, and each library its own LIF neuron as it comes. So, before the times are taken, jsnn runs each
peer's dynamics on a small example, and its spikes are held to the peer's.
"""

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jsnn
from experiments.benchmark import fc_lif_jax_peers, fc_lif_peers
from experiments.benchmark.peers import IN_TORCH, compare, on_cpu
from experiments.benchmark.side import Comparison, Setting, Side, jax_side
from jsnn.types import Array, Neuron

LIKE_PEER: dict[str, Neuron] = {  # jsnn's neuron with each peer's dynamics
    "norse": jsnn.compat.norse.lif(),
    "snntorch": jsnn.compat.snntorch.leaky(beta=0.9),
    "spikingjelly": jsnn.LIF(decay=0.5, gain=0.5, reset="zero"),
    "spyx": jsnn.LIF(decay=0.9, reset_delay=True),  # whose spikes Spyx shows one step later
    "sparx": jsnn.LIF(decay=0.9),
    "jaxpike": jsnn.LIF(decay=0.9, gain=0.1),
    "brainpy": jsnn.LIF(decay=0.9, gain=0.1),
}
_MODULE = {peer: fc_lif_peers if peer in IN_TORCH else fc_lif_jax_peers for peer in LIKE_PEER}  # where its sides are


def comparisons(
    setting: Setting, *, neurons: Sequence[int] = (1024,), steps: int = 500, batch_size: int = 16
) -> Iterator[Comparison]:
    """Forward, then forward+backward, for each number of neurons."""
    compared = filter(LIKE_PEER.get, setting.peers)
    notes = tuple(f"{side}: {verdict}" for peer in compared for side, verdict in check(peer).items())
    for size in neurons:
        for backward in (False, True):
            what = "forward+backward" if backward else "forward"
            title = f"{what}, {size:,} neurons, batch {batch_size}, {steps} steps"
            yield Comparison(title, sides(setting, backward, *random_problem(steps, batch_size, size)), notes)


def random_problem(steps: int, batch_size: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights [N, N] as PyTorch draws them, and spikes [T, B, N], a tenth of them 1."""
    random = np.random.default_rng(0)
    weights = random.uniform(-1, 1, (size, size)) / size**0.5
    return weights.astype(np.float32), (random.random((steps, batch_size, size), np.float32) < 0.1).astype(np.float32)


def sides(setting: Setting, backward: bool, weights: np.ndarray, spikes: np.ndarray) -> dict[str, Side]:
    """jsnn, the matrix products, and the peers."""
    dtype = jnp.bfloat16 if setting.precision == "bf16" else jnp.float32
    w, x = jnp.asarray(weights, dtype), jnp.asarray(spikes, dtype)
    gradient = jax.random.normal(jax.random.key(0), x.shape, dtype)

    def products(w: Array, x: Array, gradient: Array) -> tuple[Array, Array]:
        return x @ w, jnp.einsum("tbi,tbj->ij", x, gradient)

    neuron = jsnn.LIF(0.9)
    found = {
        "jsnn": jax_side(jax.value_and_grad(lambda *a: energy(neuron, *a)), w, x)
        if backward
        else jax_side(lambda *a: forward(neuron, *a), w, x),
        "matrix products": jax_side(products, w, x, gradient, role="floor")
        if backward
        else jax_side(jnp.matmul, x, w, role="floor"),
    }
    for peer in filter(LIKE_PEER.get, setting.peers):
        found |= _MODULE[peer].sides(setting, peer, backward, weights, spikes)
    return found


def forward(neuron: Neuron, weights: Array, spikes: Array) -> Array:
    """Return the layer's outputs, [T, B, N]; membranes are float32 for any precision of the products."""
    linear = jsnn.Linear(*weights.shape, use_bias=False, kernel_init=lambda *_: weights, rngs=nnx.Rngs(0))
    network = jsnn.Sequential(linear, neuron)
    return jsnn.unroll(network, spikes, network.init(spikes.shape[1:]))[1]


def energy(neuron: Neuron, weights: Array, spikes: Array) -> Array:
    """Return the loss."""
    return jnp.sum(forward(neuron, weights, spikes).astype(jnp.float32) ** 2)


def check(peer: str) -> dict[str, str]:
    """Return for each of a peer's sides whether jsnn with its dynamics makes its spikes, on a small example."""
    weights, spikes = random_problem(steps=100, batch_size=4, size=64)
    weights *= 10  # so that they spike often enough
    theirs = _MODULE[peer].forward(peer, weights, spikes)
    ours = on_cpu(lambda *a: forward(LIKE_PEER[peer], *a), weights, spikes)
    late, how = (1, ", one step later") if peer == "spyx" else (0, "")
    return {
        side: f"{compare(ours[: len(ours) - late], made[late:])}{how} (jsnn with its dynamics)"
        for side, made in theirs.items()
    }
