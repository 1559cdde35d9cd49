"""Sequential, Recurrent and pooling."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jsnn

T, B = 6, 3


def drawn(key, shape, dtype, *_):
    """An initialiser that takes less time to compile than JAX's."""
    return jnp.asarray(np.random.default_rng(0).normal(0, shape[-2] ** -0.5, shape), dtype)


def linear(size_in, size_out, *, kernel_init=drawn, **options):
    return nnx.Linear(size_in, size_out, kernel_init=kernel_init, rngs=nnx.Rngs(0), **options)


def conv(channels=2):
    return nnx.Conv(channels, 4, (3, 3), kernel_init=drawn, rngs=nnx.Rngs(0))


def network():
    block = jsnn.Sequential(linear(4, 5), jsnn.CuBaLIF(0.9, 0.8))
    return jsnn.Sequential(jnp.abs, linear(3, 4), jsnn.LIF(0.9, threshold=0.5), block, linear(5, 2), jsnn.LI())


NAMES = ["0_abs", "1_Linear", "2_LIF", "3_Sequential/0_Linear", "3_Sequential/1_CuBaLIF", "4_Linear", "5_LI"]
INPUTS = jnp.asarray(np.random.default_rng(0).normal(0, 3, (T, B, 3)), jnp.float32)
IMAGES = jnp.ones((T, B, 6, 6, 2))


def test_names_are_positions_and_classes_or_functions():
    def centre(x):
        return x - x.mean()

    layers = [jsnn.LIF(), jsnn.max_pool, jsnn.flatten, centre, lambda x: x, functools.partial(centre)]
    names = jsnn.Sequential(*layers).names
    assert names == ("0_LIF", "1_max_pool", "2_flatten", "3_centre", "4_<lambda>", "5_partial")
    assert network().names == ("0_abs", "1_Linear", "2_LIF", "3_Sequential", "4_Linear", "5_LI")


def test_init_gives_one_state_for_each_layer():
    states = network().init((B, 3), jnp.float32)
    assert [jax.tree.map(jnp.shape, state) for state in states] == [
        (), (), ((B, 4),), ((), ((B, 5), (B, 5))), (), ((B, 2),)
    ]  # fmt: skip
    rest = jsnn.Sequential(linear(3, 4), jsnn.LIF(v_rest=0.5)).init((B, 3))[1]
    assert rest.v.tolist() == [[0.5] * 4] * B


def test_by_hand():
    # 2 * x; LIF: v = 2, 0.5 + 1 -> spikes 1, 1 and, from v = 0.75, none; LI: 1, 1.5, 0.75
    hidden = jsnn.LIF(0.5, threshold=1.0)
    state, v = jsnn.unroll(jsnn.Sequential(lambda x: 2 * x, hidden, jsnn.LI(0.5)), jnp.array([[1.0], [0.5], [0.0]]))
    assert v[:, 0].tolist() == [1.0, 1.5, 0.75]
    assert state[1].v.tolist() == [0.25]


def test_layers_without_memory_see_time_and_batch_as_one():
    seen = []

    def probe(x):
        seen.append(x.shape)
        return x

    for inputs, expected in ((IMAGES, (T * B, 6, 6, 2)), (INPUTS, (T * B, 3)), (INPUTS[:, 0], (3,))):
        layers = jsnn.Sequential(probe, jsnn.LIF())
        state = layers.init(inputs.shape[1:])
        seen.clear()
        jsnn.unroll(layers, inputs, state)
        assert seen[-1] == expected  # a vector has no batch that time could join


def test_a_layer_may_have_no_neurons():
    layers = jsnn.Sequential(lambda x: x[..., :0], jsnn.LIF(0.9), jnp.sin, jsnn.LI())
    assert jsnn.unroll(layers, INPUTS)[1].shape == (T, B, 0)


@pytest.mark.slow
def test_vectors_may_do_without_a_batch():
    state, outputs = jsnn.unroll(network(), INPUTS[:, 0])
    expected_state, expected = jsnn.unroll(network(), INPUTS)
    np.testing.assert_allclose(outputs, expected[:, 0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state[2].v, expected_state[2].v[0], rtol=1e-5, atol=1e-6)


@pytest.mark.rows(8)
@pytest.mark.parametrize(("run", "error", "message"), [
    (lambda: jsnn.Sequential(), ValueError, "Sequential needs at least one layer, got none"),
    (lambda: jsnn.Sequential(linear(3, 3), 0.9), TypeError,
     "layer 1 must be a neuron or a function of one array, got float"),
    (lambda: jsnn.Sequential(linear(3, 3), jsnn.LIF), TypeError, "layer 1 is the class LIF: make one, LIF(...)"),
    (lambda: jsnn.Sequential((linear(3, 3), jsnn.LIF())), TypeError,
     "layer 0 must be a layer or (name, layer), got a name of type Linear"),
    (lambda: jsnn.Recurrent(jsnn.LIF, linear(3, 3)), TypeError, "Recurrent takes a neuron, got the class LIF: make"),
    (lambda: jsnn.Recurrent(linear(3, 3), jsnn.LIF()), TypeError, "Recurrent takes a Neuron, an object with init and"),
    (lambda: jsnn.Recurrent(jsnn.LIF(), 0.5), TypeError, "synapse must be a layer without memory, such as nnx.Linear"),
    (lambda: network().step(INPUTS[0], network().init((B, 3))), ValueError,
     "step takes (state, current), the state a tuple of"),
    (lambda: network().step(network().init((B, 3))[:2], INPUTS[0]), ValueError, "one for each layer, as init gives it"),
    (lambda: jsnn.unroll(jsnn.Sequential(linear(3, 4), jsnn.LIF(), linear(5, 2)), INPUTS), ValueError,
     "layer 2_Linear takes 5 channels, got 4 (shape (3, 4))"),
    (lambda: jsnn.unroll(jsnn.Sequential(conv(1)), IMAGES), ValueError,
     "layer 0_Conv takes 1 channels, got 2 (shape (3, 6, 6, 2))"),
    (lambda: network().init((B, 7)), ValueError, "layer 1_Linear takes 3 channels, got 7"),
    (lambda: network().step(network().init((B, 3)), jnp.ones((B, 7))), ValueError, "layer 1_Linear takes 3 channels"),
    (lambda: jsnn.unroll(jsnn.Sequential(jsnn.Sequential(linear(4, 4))), INPUTS), ValueError,
     "layer 0_Sequential cannot take an input of shape (3, 3): layer 0_Linear takes 4 channels, got 3"),
    (lambda: jsnn.unroll(jsnn.Sequential(conv()), INPUTS), ValueError,
     "layer 0_Conv takes [B, *space, C] at each time step, 4 axes, got shape (3, 3)"),
    (lambda: jsnn.unroll(jsnn.Sequential(jsnn.LIF(), jsnn.max_pool), INPUTS), ValueError,
     "layer 1_max_pool cannot take an input of shape (3, 3): pooling takes [B, H, W, C]"),
    (lambda: jsnn.unroll(jsnn.Sequential(linear(3, 4), jsnn.LIF(jnp.full(5, 0.9))), INPUTS), ValueError,
     "layer 1_LIF cannot take an input of shape (3, 4)"),
    (lambda: jsnn.unroll(jsnn.Sequential(jnp.ravel, jsnn.LIF()), IMAGES), ValueError,
     "layer 0_ravel must keep the batch axis, it made (216,) of (3, 6, 6, 2)"),
    (lambda: jsnn.unroll(jsnn.Sequential(lambda x: x.mean(0), jsnn.LIF()), INPUTS[0, :2], num_steps=T), ValueError,
     "layer 0_<lambda> must keep the batch axis, it made (3,) of (2, 3)"),
    (lambda: jsnn.unroll(jsnn.Recurrent(jsnn.LIF(), linear(3, 4)), INPUTS), ValueError,
     "the synapse of Recurrent must give back the shape of the current, (3, 3), got (3, 4)"),
    (lambda: jsnn.unroll(jsnn.Recurrent(jsnn.Network(lambda x: jsnn.LIF()(x)[:, :2]), linear(3, 3)), INPUTS),
     ValueError, "the neuron of Recurrent must give back the shape of the current, (3, 3), got (3, 2)"),
    (lambda: jsnn.unroll(jsnn.Recurrent(jsnn.Network(lambda x: {"a": jsnn.LIF()(x)}), linear(3, 3)), INPUTS),
     ValueError, "the neuron of Recurrent must give back the shape of the current, (3, 3), got {'a': (3, 3)}"),
    (lambda: jsnn.unroll(jsnn.Refractory(jsnn.Network(lambda x: jsnn.LIF()(x)[:, :1]), 2), INPUTS), ValueError,
     "the neuron of Refractory must give back the shape of the current, (3, 3), got (3, 1)"),  # which would broadcast
    (lambda: jsnn.unroll(jsnn.Recurrent(jsnn.LIF(), linear(4, 3)), INPUTS), ValueError,
     "layer synapse takes 4 channels, got 3"),
    (lambda: jsnn.max_pool(jnp.ones((B, 6, 6))), ValueError,
     "pooling takes [B, H, W, C] with H and W of at least 2, got shape (3, 6, 6)"),
    (lambda: jsnn.avg_pool(IMAGES[0], 7), ValueError,
     "pooling takes [B, H, W, C] with H and W of at least 7, got shape (3, 6, 6, 2)"),
    (lambda: jsnn.max_pool(IMAGES[0], 0), ValueError, "pooling takes [B, H, W, C] with H and W of at least 0"),
])  # fmt: skip
def test_mistakes_are_named_with_their_layer(run, error, message):
    with pytest.raises(error, match=re.escape(message)):
        run()


def test_recurrent_by_hand():
    # The last spikes come back with weight 0.5: x = 1, 0 + 0.5, 0.5 + 0.5
    # v = 1.5 fires -> 0.5; 0.25 + 0 + 0.5 = 0.75; 0.375 + 1 + 0 fires -> 0.375
    neuron = jsnn.Recurrent(jsnn.LIF(0.5), lambda spikes: spikes / 2)
    state, spikes = jsnn.unroll(neuron, jnp.array([[[1.5]], [[0.0]], [[1.0]]]))
    assert spikes.ravel().tolist() == [1.0, 0.0, 1.0]
    assert state.neuron.v.item() == 0.375
    assert state.outputs.item() == 1.0


def test_recurrent_weights_mix_neurons():
    synapse = linear(2, 2, use_bias=False, kernel_init=lambda *_: jnp.array([[0.0, 2.0], [0.0, 0.0]]))
    neuron = jsnn.Recurrent(jsnn.IF(), synapse)  # neuron 0 excites neuron 1, a step later
    _, spikes = jsnn.unroll(neuron, jnp.zeros((3, 1, 2)).at[0, 0, 0].set(1.5))
    assert spikes[:, 0].tolist() == [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]


def test_recurrent_keeps_the_dtype_of_its_current():
    neuron = jsnn.Recurrent(jsnn.LIF(0.9), linear(3, 3))  # whose weights are float32
    state, spikes = jsnn.unroll(neuron, INPUTS.astype(jnp.bfloat16))
    assert spikes.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("float32")}
    narrow = jsnn.unroll(neuron, INPUTS.astype(jnp.bfloat16), neuron.init(INPUTS.shape[1:], jnp.bfloat16))
    assert {leaf.dtype for leaf in jax.tree.leaves(narrow)} == {jnp.dtype("bfloat16")}


@pytest.mark.rows(2)
@pytest.mark.parametrize(("shape", "window"), [((2, 7, 5, 3), 2), ((1, 7, 9, 2), 3), ((1, 3, 3, 1), 1)])
def test_pools_are_flax_s(shape, window):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    windows = (window, window), (window, window)
    ours = jax.jit(lambda x: (jsnn.max_pool(x, window), jsnn.avg_pool(x, window)))(x)
    flax = jax.jit(lambda x: (nnx.max_pool(x, *windows), nnx.avg_pool(x, *windows)))(x)
    np.testing.assert_array_equal(ours[0], flax[0])
    np.testing.assert_allclose(ours[1], flax[1], rtol=1e-5, atol=1e-6)


@pytest.mark.rows(1)
@pytest.mark.parametrize("window", [2, 3])
def test_the_gradient_of_max_pool_goes_to_the_first_of_equal_values(window):
    x = np.float32(np.random.default_rng(1).random((4, 7, 8, 3)) < 0.3)  # spikes: ties everywhere
    weights = jnp.cos(jnp.arange(x.size)).reshape(x.shape)[:, : 7 // window, : 8 // window]

    def gradient(pool):
        return jax.jit(jax.grad(lambda x: (weights * pool(x)).sum()))(x)

    ours = gradient(functools.partial(jsnn.max_pool, window=window))
    np.testing.assert_array_equal(ours, gradient(lambda x: nnx.max_pool(x, (window, window), (window, window))))
    first = jax.grad(lambda x: jsnn.max_pool(x).sum())(jnp.ones((1, 2, 2, 1)))
    assert first.ravel().tolist() == [1.0, 0.0, 0.0, 0.0]


def test_max_pool_of_spikes_is_a_logical_or():
    spikes = np.random.default_rng(0).random((2, 4, 6, 3)) < 0.3
    expected = spikes.reshape(2, 2, 2, 3, 2, 3).any((2, 4))
    np.testing.assert_array_equal(jsnn.max_pool(jnp.float32(spikes)), expected)


@pytest.mark.rows(2)
@pytest.mark.parametrize("layer", [jsnn.max_pool, jsnn.avg_pool, jsnn.flatten])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_pools_keep_the_dtype(layer, dtype):
    assert layer(IMAGES[0].astype(dtype)).dtype == dtype


def test_flatten_keeps_the_batch():
    x = jnp.arange(24.0).reshape(2, 3, 4)
    assert jsnn.flatten(x).tolist() == [list(range(12)), list(range(12, 24))]
    assert jsnn.flatten(x[:, 0, 0]).shape == (2, 1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Users:
    """A neuron that is a pytree, but none of Flax's."""

    decay: nnx.Param

    def init(self, shape, dtype=jnp.float32):
        return jnp.zeros(shape, dtype)

    def step(self, v, current):
        v = self.decay * v + current
        return v, v


@pytest.mark.parametrize("around", [jsnn.Sequential, lambda neuron: jsnn.Recurrent(neuron, jnp.sin)])
def test_a_user_s_neuron_of_arrays_is_part_of_a_network(around):
    neuron = Users(nnx.Param(jnp.array([0.5, 0.25, 0.0])))
    graph, params, rest = nnx.split(around(neuron), nnx.Param, ...)
    assert [leaf.shape for leaf in jax.tree.leaves((params, rest))] == [(3,)]
    gradients = jax.grad(lambda params: jsnn.unroll(nnx.merge(graph, params, rest), INPUTS)[1].sum())(params)
    assert all(map(np.any, jax.tree.leaves(gradients)))


@pytest.mark.slow
def test_networks_are_pytrees_that_optax_can_train():
    model = jsnn.Sequential(linear(3, 4), jsnn.LIF(nnx.Param(jnp.full(4, 0.9)), gain=jnp.ones(4)), linear(4, 2))
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    assert len(jax.tree.leaves(params)) == 5  # two kernels, two biases, one decay; the gain is fixed
    assert [leaf.shape for leaf in jax.tree.leaves(rest)] == [(4,)]

    def loss(params):
        return ((jsnn.unroll(nnx.merge(graph, params, rest), INPUTS)[1] - 1) ** 2).mean()

    optimizer = optax.adam(0.02)

    @jax.jit
    def update(params, optimizer_state):
        value, gradients = jax.value_and_grad(loss)(params)
        updates, optimizer_state = optimizer.update(gradients, optimizer_state, params)
        return optax.apply_updates(params, updates), optimizer_state, value

    trained, optimizer_state, losses = params, optimizer.init(params), []
    for _ in range(20):
        trained, optimizer_state, value = update(trained, optimizer_state)
        losses.append(float(value))
    assert losses[-1] < 0.7 * losses[0]
    assert jax.tree.structure(trained) == jax.tree.structure(params)
    assert all(np.any(a != b) for a, b in zip(jax.tree.leaves(trained), jax.tree.leaves(params)))


class Block(nnx.Module):
    """A layer that calls a neuron."""

    def __init__(self):
        self.lif = jsnn.LIF()

    def __call__(self, x):
        return self.lif(x)


@pytest.mark.parametrize("layer", [Block(), lambda x: jsnn.LIF()(x), nnx.Sequential(jnp.abs, jsnn.LIF())])
def test_a_layer_that_calls_a_neuron_is_put_into_a_network(layer):
    x = jnp.abs(INPUTS)
    with pytest.raises(ValueError, match=r"calls a neuron, .*, whose state would be lost: put the layer into a jsnn"):
        jsnn.unroll(jsnn.Sequential(layer, jsnn.LI()), x)
    _, spikes = jsnn.unroll(jsnn.Sequential(jsnn.Network(layer)), x)
    np.testing.assert_array_equal(spikes, jsnn.unroll(jsnn.LIF(), x)[1])


def test_names_of_their_own():
    linear = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
    named = jsnn.Sequential(linear, ("hidden", jsnn.LIF()), jnp.tanh, readout=jsnn.LI(0.9))
    assert list(jsnn.record(named, INPUTS)) == ["0_Linear", "hidden", "2_tanh", "readout"]
    plain = jsnn.Sequential(linear, jsnn.LIF(), jnp.tanh, jsnn.LI(0.9))
    np.testing.assert_array_equal(jsnn.unroll(named, INPUTS)[1], jsnn.unroll(plain, INPUTS)[1])
    for layers in ((("a", linear), ("a", jsnn.LIF())), (("a/b", linear),)):
        with pytest.raises(ValueError, match="layers need names of their own, without '/', got a"):
            jsnn.Sequential(*layers)


def test_layers_may_be_added_and_removed_where_they_have_no_names_of_their_own():
    changed = jsnn.Sequential(linear(3, 2), jsnn.LIF(0.9), jsnn.LI())
    changed.layers.pop()
    changed.layers.append(linear(2, 1))
    assert list(jsnn.record(changed, INPUTS)) == ["0_Linear", "1_LIF", "2_Linear"]
    changed.layers.append(jsnn.LI())
    assert jsnn.unroll(changed, INPUTS)[1].shape == (T, B, 1)
    named = jsnn.Sequential(linear(3, 2), hidden=jsnn.LIF(0.9))
    named.layers.insert(0, linear(3, 3))
    with pytest.raises(ValueError, match="cannot be added or removed, they were 2 and are 3: make another Sequential"):
        jsnn.unroll(named, INPUTS)
