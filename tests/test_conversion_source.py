"""Any function can be converted: modules, closures, what models are made of; and what cannot be is refused."""

import functools

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

import jsnn

B, STEPS = 2, 64
FINE = 256.0  # a spike of a relu is 1 / dt high: so small that it hardly quantises


def drawn(key, shape, dtype=jnp.float32, *_):
    """An initialiser that takes less time to compile than JAX's."""
    return jnp.asarray(np.random.default_rng(sum(shape)).normal(0, shape[0] ** -0.5, shape), dtype)


def inputs(*shape):
    return jnp.asarray(np.random.default_rng(1).normal(size=shape), jnp.float32)


def linear(size_in, size_out):
    return nnx.Linear(size_in, size_out, kernel_init=drawn, bias_init=drawn, rngs=nnx.Rngs(0))


def trained(model):
    """With running averages that are not those of the start, in inference mode."""
    for path, variable in nnx.iter_graph(model):
        if isinstance(variable, nnx.BatchStat):
            variable[...] = drawn(None, variable.shape) ** 2 + 0.5 * len(path)
    model.eval()
    return model


def closure(model):
    return lambda x: model(x)


class Residual(nnx.Module):
    def __init__(self):
        self.first, self.second, self.last = linear(4, 4), linear(4, 4), linear(4, 3)

    def __call__(self, x):
        x = x + self.second(nnx.relu(self.first(x)))
        return self.last(nnx.relu(x))


class Transformer(nnx.Module):
    def __init__(self):
        self.attention = nnx.MultiHeadAttention(
            2, 4, decode=False, deterministic=True, kernel_init=drawn, rngs=nnx.Rngs(0)
        )
        self.norm = nnx.LayerNorm(4, rngs=nnx.Rngs(0))
        self.up, self.down = linear(4, 6), linear(6, 4)
        self.dropout = nnx.Dropout(0.5, deterministic=True, rngs=nnx.Rngs(0))

    def __call__(self, x):
        x = x + self.attention(self.norm(x))
        return x + self.dropout(self.down(nnx.relu(self.up(x))))


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x, train=False, drop=False):
        x = linen.Dense(4)(x)
        x = linen.BatchNorm(use_running_average=not train)(x)
        x = linen.Dropout(0.5, deterministic=not drop)(linen.relu(x))
        return linen.Dense(3)(x)


LINEN = Linen()
VARIABLES = {
    "params": {
        "Dense_0": {"kernel": drawn(0, (4, 4)), "bias": drawn(0, (4,))},
        "BatchNorm_0": {"scale": 1 + drawn(0, (4,)), "bias": drawn(0, (4,))},
        "Dense_1": {"kernel": drawn(0, (4, 3)), "bias": drawn(0, (3,))},
    },
    "batch_stats": {"BatchNorm_0": {"mean": drawn(0, (4,)), "var": drawn(0, (4,)) ** 2}},
}
W1, W2, B1 = drawn(0, (4, 5)), drawn(0, (5, 3)), drawn(0, (5,))


def dense(x):
    return jax.nn.relu(x @ W1 + B1) @ W2


def concatenated(x):
    return jnp.concatenate([jax.nn.relu(x @ W1), x, jax.nn.relu(-x @ W1)], -1) @ jnp.ones((14, 3))


def shared(x):
    hidden = jax.nn.relu(x @ W1)
    return hidden @ W2 + jax.nn.relu(hidden - hidden.mean(-1, keepdims=True)) @ W2


def attention(x):
    x = x + jax.nn.softmax(x @ x.mT) @ x
    return jax.nn.relu(x @ W1) @ W2


def pooled(x):
    return lax.reduce_window(jax.nn.relu(x), -jnp.inf, lax.max, (1, 2), (1, 2), "VALID")


def unrolled_loop(x):
    """A loop without an activation stays as it is."""
    x = jax.nn.relu(x @ W1)
    return lax.fori_loop(0, 3, lambda _, x: 0.5 * x + 1, x) @ W2


def rate_conv(batch_norm):
    return trained(
        jsnn.models.rate_conv(((3,),), (5,), image_shape=(4, 4, 2), outputs=3, batch_norm=batch_norm, rngs=nnx.Rngs(0))
    )


IMAGES, VECTORS = (4, 4, 2), (4,)
NORM = ("layer norm",)
MODELS = {
    "residual": (Residual, VECTORS, ["0_relu", "1_relu"], ()),
    "rate_conv": (lambda: rate_conv(False), IMAGES, ["0_relu", "1_relu"], ()),
    "rate_conv with batch_norm": (lambda: rate_conv(True), IMAGES, ["0_relu", "1_relu"], ()),
    "rate_dense": (lambda: jsnn.models.rate_dense([4, 5, 5, 3], rngs=nnx.Rngs(0)), VECTORS, ["0_relu", "1_relu"], ()),
    "layer norm": (lambda: lambda x: jax.nn.relu(nnx.LayerNorm(4, rngs=nnx.Rngs(0))(x)), VECTORS, ["0_relu"], NORM),
    "attention": (lambda: attention, (3, 4), ["0_relu"], ("dot_general", "softmax", "dot_general")),
    "transformer": (Transformer, (3, 4), ["0_relu"], None),
    "closure over a module": (lambda: closure(Residual()), VECTORS, ["0_relu", "1_relu"], ()),
    "linen": (lambda: functools.partial(LINEN.apply, VARIABLES), VECTORS, ["0_relu"], ()),
    "function": (lambda: dense, VECTORS, ["0_relu"], ()),
    "jitted layers": (lambda: lambda x: jax.jit(dense)(jax.jit(jnp.negative)(x)), VECTORS, ["0_relu"], ()),
    "rematerialised": (lambda: jax.checkpoint(dense), VECTORS, ["0_relu"], ()),
    "branches": (lambda: concatenated, VECTORS, ["0_relu", "1_relu"], ()),
    "used twice": (lambda: shared, VECTORS, ["0_relu", "1_relu"], ()),
    "only a relu": (lambda: jax.nn.relu, VECTORS, ["0_relu"], ()),
    "module without weights": (lambda: nnx.Sequential(nnx.relu), VECTORS, ["0_relu"], ()),
    "max pooling": (lambda: pooled, VECTORS, ["0_relu"], ("max_pool",)),
    "loop": (lambda: unrolled_loop, VECTORS, ["0_relu"], ("scan",)),
    "NumPy weights": (lambda: lambda x: jax.nn.relu(x @ np.asarray(W1)) @ np.asarray(W2), VECTORS, ["0_relu"], ()),
}


@pytest.mark.rows(1)
@pytest.mark.parametrize(("make", "shape", "names", "kept"), MODELS.values(), ids=MODELS)
@pytest.mark.filterwarnings("ignore:.*is kept and sees")
def test_models(make, shape, names, kept):
    model, x = make(), inputs(B, *shape)
    network = jsnn.convert(model, x, dt=FINE, v_init=0.5)
    assert list(network.names) == names
    assert kept is None or network.kept == kept

    @jax.jit
    def both(x):
        return model(x), network.rates(x)

    expected, (operands, rates) = both(x)
    np.testing.assert_allclose(rates, expected, rtol=1e-6, atol=1e-6)
    assert sorted(operands) == names

    @jax.jit
    def layer_by_layer_and_step_by_step(x):
        state, first = network.step(network.init(x.shape), x)
        return jsnn.unroll(network, x, num_steps=STEPS)[1], jnp.stack([first, network.step(state, x)[1]])

    outputs, first_outputs = layer_by_layer_and_step_by_step(x)
    assert outputs.shape == (STEPS, *expected.shape)
    np.testing.assert_allclose(outputs.mean(0), expected, atol=2e-3)
    np.testing.assert_allclose(first_outputs, outputs[:2], rtol=1e-5, atol=1e-5)

    expected, (_, rates) = both(inputs(B + 1, *shape))
    np.testing.assert_allclose(rates, expected, rtol=1e-6, atol=1e-6)


def test_weights_are_those_of_the_function():
    model = rate_conv(True)
    network = jsnn.convert(model, inputs(B, *IMAGES))
    weights = nnx.state(network, nnx.Param)["weights"]
    jax.tree.map(np.testing.assert_array_equal, weights, nnx.state(model, nnx.Param))

    network = jsnn.convert(jax.jit(dense), inputs(B, 4))
    weights = jax.tree.leaves(nnx.state(network, nnx.Param))
    assert [weight.shape for weight in weights] == [(4, 5), (5,), (5, 3)]
    np.testing.assert_array_equal(weights[0], W1)


@pytest.mark.slow
def test_the_function_stays_as_it_was():
    model, x = rate_conv(True), inputs(B, *IMAGES)
    before, expected = jax.tree.map(jnp.array, nnx.state(model)), model(x)
    network = jsnn.convert(model, x)
    network.weights.layers[0].kernel[...] = jnp.zeros_like(network.weights.layers[0].kernel[...])
    assert not np.allclose(network.rates(x)[1], expected)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(model), before)
    np.testing.assert_array_equal(model(x), expected)


def test_weights_are_those_of_now():
    model, x = linear(4, 3), inputs(B, 4)

    def function(x):
        return jax.nn.relu(model(x))

    before = jsnn.convert(function, x)
    model.kernel[...] = 2 * model.kernel[...]
    np.testing.assert_allclose(jsnn.convert(function, x).rates(x)[1], function(x), rtol=1e-6)
    assert not np.allclose(before.rates(x)[1], function(x))


def test_tied_weights_stay_tied():
    model = Residual()
    model.second.kernel = model.first.kernel
    network = jsnn.convert(model, inputs(B, 4), scale_firing_rates=2)
    assert len(jax.tree.leaves(nnx.state(network, nnx.Param))) == 5
    assert network.weights.second.kernel is network.weights.first.kernel


def test_a_weight_used_twice_is_one():
    square = drawn(0, (4, 4))
    network = jsnn.convert(lambda x: jax.jit(lambda x: jax.nn.relu(x @ square))(x) @ square, inputs(B, 4))
    assert len(jax.tree.leaves(nnx.state(network, nnx.Param))) == 1


def test_only_floating_constants_are_trained():
    order, scale = jnp.array([2, 0, 1, 3]), jnp.ones(4, jnp.bfloat16)
    network = jsnn.convert(lambda x: jax.nn.relu(x[:, order] * scale), inputs(B, 4))
    assert [weight.dtype for weight in jax.tree.leaves(nnx.state(network, nnx.Param))] == [jnp.bfloat16]
    assert len(jax.tree.leaves(network.weights)) == 2


def test_derivatives_that_a_function_defines_are_kept():
    @jax.custom_jvp
    def doubled(x):
        return 2 * x

    doubled.defjvp(lambda primals, tangents: (doubled(*primals), 7 * tangents[0]))
    x = jnp.array([[1.0, -1.0]])
    network = jsnn.convert(lambda x: doubled(jax.nn.relu(doubled(x))), x)
    gradient = jax.grad(lambda x: jsnn.unroll(network, x, num_steps=3)[1].sum())(x)
    assert gradient.tolist() == [[3 * 49.0, 0.0]]


def test_a_number_made_inside_a_call():
    zero = jax.jit(lambda x: jnp.zeros_like(x))
    network = jsnn.convert(lambda x: jnp.maximum(x, zero(x)), inputs(B, 4))
    assert network.names == ("0_relu",)
    assert network.rates(inputs(B, 4))[1].shape == (B, 4)


def test_what_is_kept_is_not_swapped_in_part():
    """A mish holds a tanh, which is not meant where tanh is named."""

    def mish(x):
        return x * jnp.tanh(jax.nn.softplus(x))

    network = jsnn.convert(lambda x: jnp.tanh(mish(x)), inputs(B, 4), swap={jnp.tanh: jnp.tanh})
    assert network.names == ("0_tanh",)
    assert network.kept == ("mish",)


def in_loop(x):
    return lax.while_loop(lambda x: x.max() < 0, jax.nn.relu, x)


def random(key):
    return lambda x: jax.nn.relu(x) * jax.random.bernoulli(key, 0.5, x.shape)


def batch_norm():
    return nnx.Sequential(linear(4, 4), nnx.BatchNorm(4, rngs=nnx.Rngs(0)), nnx.relu)


def dropout():
    return nnx.Sequential(linear(4, 4), nnx.relu, nnx.Dropout(0.5, rngs=nnx.Rngs(0)))


class ComputedThreshold(nnx.Module):
    def __init__(self):
        self.log = nnx.Param(jnp.zeros(()))

    def __call__(self, x):
        return jsnn.conversion.clip_relu(x, jnp.exp(self.log[...]))


CURE = r"call model\.eval\(\) first; a Linen model takes use_running_average=True and deterministic=True"
REFUSED = {
    "batch norm in training": (batch_norm, rf"it changes \.layers\[1\]\.mean.*: {CURE}"),
    "dropout on": (dropout, rf"it changes \.layers\[2\]\.rngs.*: {CURE}"),
    "closure over batch norm": (lambda: closure(batch_norm()), rf"Cannot mutate BatchStat.*: {CURE}"),
    "closure over dropout": (lambda: closure(dropout()), rf"Cannot mutate RngCount.*: {CURE}"),
    "linen batch norm": (lambda: lambda x: LINEN.apply(VARIABLES, x, train=True), rf"batch_stats.*: {CURE}"),
    "linen dropout without key": (lambda: lambda x: LINEN.apply(VARIABLES, x, drop=True), rf"dropout.*: {CURE}"),
    "linen dropout": (
        lambda: lambda x: LINEN.apply(VARIABLES, x, drop=True, rngs={"dropout": jax.random.key(0)}),
        rf"draws random numbers \(random_.*\), as dropout does: {CURE}",
    ),
    "linen updates": (
        lambda: lambda x: LINEN.apply(VARIABLES, x, train=True, mutable=["batch_stats"]),
        "must return one array, got a tuple.*takes no mutable",
    ),
    "linen unbound": (lambda: LINEN, "cannot take an input of shape.*unbound"),
    "a key": (lambda: random(jax.random.key(0)), rf"draws random numbers \(random_bits\), as dropout does: {CURE}"),
    "a key in a loop": (lambda: lambda x: lax.map(random(jax.random.key(0)), x), "draws random numbers"),
    "two results": (lambda: lambda x: (jax.nn.relu(x), x), "must return one array, got a tuple: pick one"),
    "a dictionary": (lambda: lambda x: {"logits": jax.nn.relu(x)}, "must return one array, got a dict"),
    "no activation": (lambda: lambda x: x @ W1, "there is no relu to swap in the function; activations found: none"),
    "another activation": (lambda: jax.nn.gelu, "no relu.*found: gelu. Name what is there in swap, as in swap={jax"),
    "an activation without effect": (lambda: lambda x: (jax.nn.relu(x), x)[1], "there is no relu to swap"),
    "a constant": (lambda: lambda x: 1.0, "there is no relu to swap"),
    "a chain of ours": (lambda: jsnn.Sequential(jax.nn.relu), "calls a neuron, Sequential.* in place of .* nnx.Seq"),
    "a neuron beside": (lambda: lambda x: jax.nn.relu(jax.jit(jsnn.LIF(0.9))(x)), "calls a neuron, LIF, and convert"),
    "wrong shape": (lambda: linear(3, 4), r"cannot take an input of shape \(2, 4\) \(float32\): dot_general"),
    "wrong shape for linen": (
        lambda: lambda x: LINEN.apply(VARIABLES, x[:, :3]),
        r"cannot take an input of shape \(2, 4\) \(float32\): For parameter",
    ),
    "loop": (lambda: in_loop, "a relu inside lax.while cannot be swapped.*write the loop out"),
    "loop in a scan": (lambda: lambda x: lax.map(in_loop, x), "a relu inside lax.while"),
    "a computed threshold": (ComputedThreshold, "what clip_relu is given besides its input is computed"),
    "cond": (lambda: lambda x: lax.cond(x.sum() > 0, jax.nn.relu, jnp.sin, x), "a relu inside lax.cond"),
    "while": (
        lambda: lambda x: lax.while_loop(lambda x: x.sum() < 0, lambda x: jax.nn.relu(x) + 1, x),
        "a relu inside lax.while",
    ),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(make, message):
    with pytest.raises(ValueError, match=message):
        jsnn.convert(make(), inputs(B, 4))


def test_training_mode_is_left_as_the_cure_says():
    for model in (batch_norm(), dropout()):
        with pytest.raises(ValueError, match="training mode"):
            jsnn.convert(closure(model), inputs(B, 4))
        model.eval()
        assert jsnn.convert(model, inputs(B, 4)).names == ("0_relu",)
        assert jsnn.convert(closure(model), inputs(B, 4)).names == ("0_relu",)


def test_loops_may_hold_activations_of_the_weights_and_others():
    network = jsnn.convert(lambda x: jax.nn.relu(x) @ in_loop(W1), inputs(B, 4))
    assert (network.names, network.kept) == (("0_relu",), ())
    network = jsnn.convert(
        lambda x: jax.nn.sigmoid(lax.map(jax.nn.silu, x)), inputs(B, 4), swap={jax.nn.sigmoid: jnp.tanh}
    )
    assert (network.names, network.kept) == (("0_sigmoid",), ("scan",))


def test_later_inputs_must_fit_too():
    network = jsnn.convert(lambda x: jax.nn.relu(x + np.arange(x.shape[0])[:, None]), inputs(B, 4))
    with pytest.raises(ValueError, match=r"other constants for inputs of shape \(3, 4\)"):
        network.init((3, 4))
    network = jsnn.convert(lambda x: jax.nn.relu(x + jnp.arange(x.shape[0])[:, None]), inputs(B, 4))
    assert network.rates(inputs(3, 4))[1].shape == (3, 4)
    with pytest.raises(ValueError, match=r"cannot take an input of shape \(2, 3\)"):
        jsnn.unroll(jsnn.convert(dense, inputs(B, 4)), inputs(B, 3), num_steps=2)


class Block(nnx.Module):
    """Calls its layers plainly; the others do so inside nnx.jit and nnx.remat."""

    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(3, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs)])
        self.dropout, self.out = nnx.Dropout(0.5, rngs=rngs), nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.out(self.dropout(jax.nn.relu(x)))


class Jitted(Block):
    __call__ = nnx.jit(Block.__call__)


class Rematerialised(Block):
    __call__ = nnx.remat(Block.__call__)


class Partly(Block):
    def __call__(self, x):
        return self.out(nnx.jit(lambda layers, x: jax.nn.relu(layers[0](x)))(self.layers, x))


class Scanned(nnx.Module):
    """Equal blocks in one nnx.scan, their weights stacked."""

    def __init__(self, rngs):
        make = nnx.vmap(lambda rngs: Norm(rngs), in_axes=0, out_axes=0)
        self.blocks = nnx.split_rngs(splits=2)(make)(rngs)

    def __call__(self, x):
        scan = nnx.scan(lambda x, block: block(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        return scan(x, self.blocks)


class Norm(nnx.Module):
    def __init__(self, rngs):
        self.linear, self.norm = nnx.Linear(3, 3, rngs=rngs), nnx.BatchNorm(3, rngs=rngs)

    def __call__(self, x):
        return jax.nn.relu(self.norm(self.linear(x))) + x


def test_a_module_with_blocks_in_nnx_scan_converts():
    model, x = Scanned(nnx.Rngs(0)), jnp.ones((2, 3))
    changed = r"\(it changes .blocks.norm.mean.value, .blocks.norm.var.value\)"
    with pytest.raises(ValueError, match=f"training mode {changed}"):
        jsnn.convert(model, x)
    model.eval()
    network = jsnn.convert(model, x)
    assert len(network.names) == 2
    np.testing.assert_allclose(network.rates(x)[1], model(x), rtol=1e-6)


@pytest.mark.rows(2)
@pytest.mark.parametrize("kind", [Jitted, Rematerialised, Partly])
def test_modules_inside_nnx_jit_and_remat_convert(kind):
    model, x = kind(nnx.Rngs(0)), jnp.ones((2, 3))
    if kind is not Partly:
        with pytest.raises(ValueError, match=r"training mode \(it changes .*.layers\[1\].mean.value, .*model.eval"):
            jsnn.convert(model, x)
    model.eval()
    expected = model(x)
    network = jsnn.convert(model, x)
    np.testing.assert_allclose(network.rates(x)[1], expected, rtol=1e-6)
    for function in (lambda x: model(x), model.__call__, functools.partial(kind.__call__, model)):
        before = jax.tree.leaves(model)  # which a call of nnx.jit replaces by itself
        with pytest.raises(ValueError, match=r"inside nnx.jit or nnx.remat: pass the module itself to convert"):
            jsnn.convert(function, x)
        assert all(one is other for one, other in zip(before, jax.tree.leaves(model), strict=True))
        np.testing.assert_array_equal(model(x), expected)
