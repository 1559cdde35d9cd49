"""The fast dense layer against XLA's own: the same values, and the same gradients but for rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jsnn

WIDE = 512


def layers(features, **options):
    return [kind(6, features, rngs=nnx.Rngs(0), **options) for kind in (jsnn.Linear, nnx.Linear)]


def value_and_gradients(layer, x, wrap=lambda function: function):
    """The outputs, and the gradients of the parameters and the inputs of a loss that weighs every output otherwise."""
    graph, params = nnx.split(layer)

    def loss(params, x):
        y = wrap(nnx.merge(graph, params))(x)
        return jnp.sum(y * jnp.cos(jnp.arange(y.size)).reshape(y.shape).astype(y.dtype)), y

    (_, y), gradients = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(params, x)
    return y, *jax.tree.leaves(gradients)


def inputs(shape, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), dtype)


@pytest.mark.rows(1)
@pytest.mark.parametrize("shape", [(3, 6), (4, 3, 6), (6,), (0, 6)])
@pytest.mark.parametrize("features", [WIDE, 5])
def test_values_and_gradients_are_xla_s(features, shape):
    ours, xla = (value_and_gradients(layer, inputs(shape)) for layer in layers(features))
    np.testing.assert_array_equal(ours[0], xla[0])
    for actual, expected in zip(ours[1:], xla[1:], strict=True):
        assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_allclose(
            actual, expected, rtol=0, atol=1e-6 * max(1, abs(np.asarray(expected)).max(initial=0))
        )


def test_no_features_in():
    layer = jsnn.Linear(0, WIDE, kernel_init=nnx.initializers.zeros, rngs=nnx.Rngs(0))
    y, _, kernel, x = value_and_gradients(layer, jnp.zeros((3, 0)))
    assert (y.shape, kernel.shape, x.shape) == ((3, WIDE), (0, WIDE), (3, 0))


def test_bfloat16():
    options = {"dtype": jnp.bfloat16, "use_bias": False}
    ours, xla = (value_and_gradients(layer, inputs((3, 6))) for layer in layers(WIDE, **options))
    for actual, expected in zip(ours, xla, strict=True):
        assert actual.dtype == expected.dtype
        np.testing.assert_allclose(np.float32(actual), np.float32(expected), rtol=0, atol=0.02 * abs(expected).max())


def test_vmap():
    ours, xla = (value_and_gradients(layer, inputs((2, 3, 6)), jax.vmap) for layer in layers(WIDE))
    for actual, expected in zip(ours, xla, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_the_transposition_stays_out_of_the_product():
    """Folded into it, it would be slow again: XLA folds what nothing holds back."""
    layer = jsnn.Linear(6, WIDE, use_bias=False, rngs=nnx.Rngs(0))
    graph, params = nnx.split(layer)
    program = jax.jit(jax.grad(lambda params, x: jnp.sum(nnx.merge(graph, params)(x) ** 2)))
    text = program.lower(params, inputs((3, 6))).as_text()
    assert "optimization_barrier" in text


def test_a_narrow_layer_keeps_forward_mode():
    layer = jsnn.Linear(6, 5, rngs=nnx.Rngs(0))
    tangent = jax.jvp(layer, (inputs((3, 6)),), (inputs((3, 6)),))[1]
    np.testing.assert_allclose(tangent, inputs((3, 6)) @ layer.kernel[...], rtol=1e-5, atol=1e-6)


def test_a_product_of_one_s_own_is_kept():
    def doubled(*arguments, **options):
        return 2 * jax.lax.dot_general(*arguments, **options)

    ours, xla = layers(WIDE, dot_general=doubled, use_bias=False)
    np.testing.assert_array_equal(ours(inputs((3, 6))), xla(inputs((3, 6))))


def test_what_reads_layers_takes_it_for_a_dense_one():
    network = jsnn.Sequential(jsnn.Linear(6, WIDE, rngs=nnx.Rngs(0)), jsnn.LIF(0.9, reset="zero"))
    twin = jsnn.Sequential(nnx.Linear(6, WIDE, rngs=nnx.Rngs(0)), jsnn.LIF(0.9, reset="zero"))
    x = (inputs((4, 3, 6)) > 0).astype(jnp.float32)
    counted, expected = (jsnn.energy.count(net, x) for net in (network, twin))
    assert (counted.dense, counted.effective_acs) == (expected.dense, expected.effective_acs)
    graph, expected = (jsnn.nir.to_nir(net, (6,), dt=1e-3) for net in (network, twin))
    assert graph.edges == expected.edges
    np.testing.assert_array_equal(graph.nodes["0_Linear"].weight, expected.nodes["0_Linear"].weight)
