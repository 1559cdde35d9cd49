"""The network of NengoDL's CIFAR-10 tutorial, converted, beside as many passes of the rate network."""

import jax
from flax import nnx

import jsnn
from experiments.benchmark.side import Side
from jsnn import models

_STEPS = 30


def sides(examples: int, batch_size: int) -> dict[str, Side]:
    """The converted network, and as many passes of the rate network as it takes steps."""
    model = models.rate_conv(rngs=nnx.Rngs(0))
    images = jax.random.normal(jax.random.key(0), (examples // batch_size, batch_size, 32, 32, 3))
    network = jsnn.convert(model, images[0], scale_firing_rates=20.0, synapse=5e-3)
    # remat=1 takes the steps one by one, which keeps what lies between two neurons in a CPU's cache
    spiking = jax.jit(lambda network, x: jsnn.unroll(network, x, num_steps=_STEPS, remat=1)[1][-1].sum())
    rate = jax.jit(lambda model, x: model(x).sum())

    def run_spiking() -> float:
        return float(sum(spiking(network, batch) for batch in images))

    def run_rate() -> float:
        return float(sum(rate(model, batch) for batch in images for _ in range(_STEPS)))

    return {"jsnn, 30 steps": Side(run_spiking), "rate network, 30 passes": Side(run_rate)}
