"""Programs that treat the examples of a batch one by one, and those that do not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jsnn
from jsnn.batches import keeps_examples_apart

BATCH, OTHER = 4, 6  # 4: as long as another axis
SPARSE = jsnn.Sparse(32, 5, [[0, 3], [1, 4]], 0.5)


def is_apart(function, dtype=jnp.float32):
    programs = [jax.make_jaxpr(function)(jax.ShapeDtypeStruct((size, 4, 4, 2), dtype)) for size in (BATCH, OTHER)]
    return keeps_examples_apart(*programs, (BATCH, OTHER))


def repeated(x):
    return jax.lax.fori_loop(0, 2, lambda _, y: y[:, ::-1] + x, x)


def along_the_batch(x):
    """A convolution whose space is the batch."""
    rows = x.reshape(1, len(x), 32)
    numbers = ("NWC", "WIO", "NWC")
    return jax.lax.conv_general_dilated(
        rows, jnp.ones((3, 1, 32)), (1,), "SAME", dimension_numbers=numbers, feature_group_count=32
    ).reshape(x.shape)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x,
        lambda x: (x, jnp.tanh(x) + jnp.ones(x.shape)),
        lambda x: jnp.where(x > 0, x, 0.0) ** 3 / 4,
        lambda x: x[:, ::-1] + x[:, jnp.array([1, 0, 2, 3])] + x[:, 1:2],
        lambda x: jnp.sort(x, 1) + jnp.cumsum(x, -1) + jnp.roll(x, 1, 2),
        lambda x: jax.lax.top_k(x, 1)[0],
        lambda x: jnp.take_along_axis(x, jnp.argsort(x, 1), 1),
        lambda x: jnp.eye(2)[jnp.argmax(x, -1)],
        lambda x: x.at[:, 0].set(0.0).at[:, 1, 2].add(1.0).at[..., 0].multiply(2.0),
        lambda x: jax.lax.dynamic_update_slice_in_dim(x, x[:, :1], 1, 1),
        lambda x: jnp.pad(jnp.concatenate([x, x], 1), ((0, 0), (1, 1), (0, 2), (0, 0))),
        lambda x: x.reshape(x.shape[0], -1, 1).transpose(1, 0, 2).swapaxes(0, 1),
        lambda x: jnp.einsum("bhwc,bvwc->bhv", x, x),
        lambda x: nnx.softmax(x, (1, 2)),
        lambda x: jax.image.resize(x, (len(x), 8, 8, 2), "bilinear"),
        lambda x: nnx.avg_pool(x, (2, 2), (2, 2), "SAME") + nnx.max_pool(x, (2, 2), (2, 2), "SAME"),
        jax.vmap(lambda x: x @ jnp.ones((2, 3)) + x[jnp.argmax(x[:, 0, 0])][None, :, :1]),
        jax.jit(jax.checkpoint(repeated)),
        lambda x: jax.lax.scan(lambda y, row: (y + row, y), x[:, 0], x.swapaxes(0, 1))[0],
        nnx.GroupNorm(2, num_groups=1, rngs=nnx.Rngs(0)),
        jsnn.Sequential(lambda x: jnp.tile(x, 8), jsnn.Conv(16, 3, (3, 3), rngs=nnx.Rngs(0))).one_step,  # in chunks
        lambda x: SPARSE(jsnn.flatten(x)),
        lambda x: jsnn.Recurrent(jsnn.CuBaLIF(), nnx.Linear(2, 2, rngs=nnx.Rngs(0))).init(x.shape).outputs + x,
    ],
)
def test_examples_are_apart(function):
    assert is_apart(function)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[::-1],
        lambda x: x + jax.lax.cond(x.shape[1] > 3, lambda x: x[::-1], lambda x: x, x),
        lambda x: jnp.sort(x, 0),
        lambda x: x[jnp.argsort(x[:, 0, 0, 0])],
        lambda x: jnp.take(x, jnp.arange(len(x))[::-1], 0),
        lambda x: jnp.cumsum(x, 0),
        lambda x: jax.lax.cummax(x, 0),
        lambda x: jax.lax.associative_scan(jnp.add, x),
        lambda x: jax.lax.scan(lambda y, row: (y + row, y), x[0], x)[1],
        lambda x: x - x.mean(0),
        lambda x: x * jax.lax.stop_gradient(abs(x).max()),
        lambda x: jnp.any(x > 1),
        lambda x: x - x[:1],
        lambda x: x.at[0].set(0.0),
        lambda x: x + jnp.arange(len(x))[:, None, None, None],
        lambda x: x + np.arange(len(x), dtype=np.float32)[:, None, None, None],
        lambda x: x / len(x),
        lambda x: x ** len(x),
        lambda x: x + np.float32(len(x)) * np.ones(2, np.float32),
        lambda x: jnp.pad(x[1:], ((1, 0), (0, 0), (0, 0), (0, 0))),
        lambda x: jnp.pad(x, ((1, 0), (0, 0), (0, 0), (0, 0)))[:-1],
        lambda x: x.reshape(-1, len(x)).T.reshape(x.shape),
        lambda x: x.reshape(4, len(x), 8).swapaxes(0, 1),
        lambda x: x.swapaxes(0, 1),  # the batch is not first
        lambda x: (x, x[0]),
        lambda x: jnp.einsum("bc,c...->b...", jnp.einsum("b...,c...->bc", x, x), x),
        lambda x: jnp.abs(jnp.fft.fft(x, axis=0)),
        lambda x: jax.lax.reduce_window(x, 0.0, jax.lax.add, (3, 1, 1, 1), (1, 1, 1, 1), "SAME"),
        along_the_batch,
        lambda x: x if len(x) == BATCH else x + 1,
        lambda x: jax.pure_callback(lambda x: x[::-1], jax.ShapeDtypeStruct(x.shape, x.dtype), x),
        lambda x: jax.lax.while_loop(lambda y: jnp.sum(y) < 9, lambda y: y + 1, x),
    ],
)
def test_examples_meet(function):
    assert not is_apart(function)
