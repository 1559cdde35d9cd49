"""Networks inside of `jax.shard_map`, which checks by default what is the same on all devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

import jsnn

MESH = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
EVERYWHERE, SHARED = PartitionSpec(), PartitionSpec("data")


class Block(nnx.Module):
    def __init__(self):
        self.conv, self.lif = jsnn.Conv(2, 2, (3, 3), rngs=nnx.Rngs(0)), jsnn.LIF(jnp.full(2, 0.5))

    def __call__(self, x):
        return self.lif(self.conv(x)) + x


def after_dense(*layers):
    return jsnn.Sequential(jsnn.flatten, nnx.Linear(32, 512, rngs=nnx.Rngs(0)), *layers)


NETWORKS = {
    "conv": jsnn.Sequential(jsnn.Conv(2, 8, (3, 3), rngs=nnx.Rngs(0)), jsnn.LIF(0.5)),
    "chunks": jsnn.Sequential(lambda x: jnp.tile(x, 4), jsnn.Conv(8, 2, (3, 3), rngs=nnx.Rngs(0)), jsnn.IF()),
    "nested": jsnn.Sequential(jsnn.Network(Block()), jsnn.Sequential(jsnn.LIF(0.5), jsnn.max_pool), jsnn.Delay(2)),
    "wide": after_dense(jsnn.LIF(0.5), jsnn.Linear(512, 512, rngs=nnx.Rngs(1))),
    "sparse": after_dense(jsnn.Recurrent(jsnn.LIF(0.5), jsnn.Sparse.random(512, 512, fan_in=3, rngs=nnx.Rngs(1)))),
    "spike times": after_dense(jsnn.CuBaLIF()),
    "linear": after_dense(jsnn.LI(0.5)),
    "fused": after_dense(jsnn.LIF(0.5)),
    "chopped": after_dense(jsnn.LIF(0.5)),
    "trained": jsnn.LIF(nnx.Param(jnp.float32(0.5))),
}
OPTIONS = {
    "spike times": {"gradient": "eventprop"}, "linear": {"method": "parallel"}, "fused": {"method": "fused"},
    "chopped": {"truncate": 2},
}  # fmt: skip


@pytest.mark.rows(1)
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_those_of_one_device(name):
    network, options = NETWORKS[name], OPTIONS.get(name, {})
    graph, parameters, rest = nnx.split(network, nnx.Param, ...)

    def loss(parameters, x):
        return jnp.sum(jsnn.unroll(nnx.merge(graph, parameters, rest), x, num_steps=3, **options)[1] ** 2)

    def part(parameters, x):
        value, gradients = jax.value_and_grad(loss, (0, 1))(parameters, x)
        return jax.lax.psum(value, "data"), gradients

    x = 2 * jax.random.normal(jax.random.key(0), (3, 4, 4, 2))
    specs = {"in_specs": (EVERYWHERE, SHARED), "out_specs": (EVERYWHERE, (EVERYWHERE, SHARED))}
    found = jax.jit(jax.shard_map(part, mesh=MESH, **specs))(parameters, x)
    wanted = jax.jit(jax.value_and_grad(loss, (0, 1)))(parameters, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * abs(b).max()), found, wanted)
    assert wanted[0] != 0


def test_records_and_steps():
    network, x = NETWORKS["conv"], jnp.ones((3, 4, 4, 2))

    def run(x):
        _, y = network.step(network.init(x.shape), x)
        return jsnn.record(network, x, num_steps=1, keep=["outputs"])["1_LIF"].outputs[0] - y

    assert not jnp.any(jax.jit(jax.shard_map(run, mesh=MESH, in_specs=SHARED, out_specs=SHARED))(x))
