"""Maximum pooling: named, exchanged by an average, and spiking."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jsnn
from jsnn.conversion import SpikingMaxPool

RELU = jax.nn.relu
SPIKING = jsnn.SpikingActivation()
X = jnp.asarray(np.random.default_rng(0).uniform(-1, 4, (2, 6, 6, 3)), jnp.float32)


def flax_pool(x):
    return nnx.max_pool(x, (2, 2), (2, 2))


def model(x, pool=jsnn.max_pool):
    return pool(RELU(x)).reshape(len(x), -1)


def overlapping(pool):
    return functools.partial(pool, window_shape=(3, 3))


POOLS = {
    "jsnn": (jsnn.max_pool, jsnn.max_pool, jsnn.avg_pool),
    "flax": (flax_pool, jsnn.max_pool, jsnn.avg_pool),
    "of 3": (functools.partial(jsnn.max_pool, window=3), None, functools.partial(jsnn.avg_pool, window=3)),
    "overlapping": (overlapping(nnx.max_pool), None, overlapping(nnx.avg_pool)),
    "of all": (lambda x: x.max((1, 2)), None, lambda x: x.mean((1, 2))),
}


@pytest.mark.slow
@pytest.mark.parametrize(("pool", "key", "average"), POOLS.values(), ids=POOLS)
def test_exchanged(pool, key, average):
    swap = {RELU: SPIKING, key or pool: average}
    network = jsnn.convert(functools.partial(model, pool=pool), X, swap=swap, scale_firing_rates=50.0, synapse=2e-3)
    averaged = jsnn.convert(functools.partial(model, pool=average), X, scale_firing_rates=50.0, synapse=2e-3)
    np.testing.assert_allclose(*(jsnn.unroll(one, X, num_steps=9)[1] for one in (network, averaged)), rtol=1e-6)
    np.testing.assert_allclose(network.rates(X)[1], model(X, pool), rtol=1e-6)  # what it was
    assert network.names == ("0_relu",)
    assert network.report.exchanged[0].startswith("lambda" if len(average(X).shape) == 2 else "max_pool")
    assert network.report.kept == ()
    assert "exchanged: " in str(network.report)


@pytest.mark.slow
@pytest.mark.parametrize("pool", [jsnn.max_pool, flax_pool])
def test_spiking_maximum_is_right_in_the_limit(pool):
    swap = {RELU: SPIKING, jsnn.max_pool: SpikingMaxPool()}
    network = jsnn.convert(functools.partial(model, pool=pool), X, swap=swap, scale_firing_rates=100.0, v_init=0.5)
    assert network.names == ("0_relu", "1_max_pool")
    steps = 1000
    mean = jsnn.unroll(network, X, num_steps=steps)[1].mean(0)
    np.testing.assert_allclose(mean, model(X), atol=0.5 * 1000 / 100 / steps + 1e-4)
    calibrated = jsnn.conversion.calibrate(network, X)
    np.testing.assert_allclose(jsnn.unroll(calibrated, X, num_steps=100)[1].mean(0), model(X), atol=0.1)
    diagnosis = jsnn.conversion.diagnose(network, X, num_steps=steps)
    assert [row.relative_error < 0.01 for row in diagnosis.activations] == [True, True]


@pytest.mark.slow
def test_any_pooling_spikes_if_it_is_the_one_that_was_there():
    for pool in (overlapping(nnx.max_pool), lambda x: x.max((1, 2))):
        swap = {RELU: jsnn.SpikingActivation(dt=16.0), pool: SpikingMaxPool(pool)}
        network = jsnn.convert(functools.partial(model, pool=pool), X, swap=swap, v_init=0.5)
        mean = jsnn.unroll(network, X, num_steps=64)[1].mean(0)
        np.testing.assert_allclose(mean, model(X, pool), atol=1 / 16 / 64)


def test_refused():
    pool = overlapping(nnx.max_pool)
    with pytest.raises(
        ValueError, match=r"1_max_pool is not the pooling of its SpikingMaxPool: give both one function"
    ):
        jsnn.convert(functools.partial(model, pool=pool), X, swap={RELU: SPIKING, pool: SpikingMaxPool()})
    with pytest.raises(ValueError, match="nothing would spike: swap names pooling alone"):
        jsnn.convert(model, X, swap={jsnn.max_pool: jsnn.avg_pool})
    with pytest.raises(ValueError, match=r"must give float32 of shape \(2, 3, 3, 3\), it gave"):
        jsnn.convert(model, X, swap={RELU: SPIKING, jsnn.max_pool: functools.partial(jsnn.avg_pool, window=3)})
    with pytest.raises(ValueError, match=r"1_max_pool must be replaced by a function or jsnn.conversion.Spik"):
        jsnn.convert(model, X, swap={RELU: SPIKING, jsnn.max_pool: jsnn.IF()})
