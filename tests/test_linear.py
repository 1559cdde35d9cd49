"""The fast dense layer against XLA's own: the same values and gradients, but for rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jsnn
from jsnn import linear

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


# rows that come in parts: all parts full, some left over, so many parts that they do not fit, and rows on two axes
@pytest.mark.rows(1)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("shape", [(5, 307, WIDE), (1024, 6), (1025, WIDE), (3001, 3), (1, 1, 2047, 6)])
def test_many_rows_are_as_close_to_the_exact_numbers_as_xla_s(shape, dtype):
    kernel, weights = inputs((shape[-1], WIDE), dtype), inputs((*shape[:-1], WIDE), dtype)
    x = inputs(shape, dtype)
    found = [
        (y, *derivative(weights))
        for y, derivative in (jax.vjp(product, x, kernel) for product in (jax.jit(wide_product), jnp.matmul))
    ]
    x, kernel, weights = (np.float64(value) for value in (x, kernel, weights))
    exact = x @ kernel, weights @ kernel.T, np.tensordot(x, weights, (range(x.ndim - 1),) * 2)
    for ours, xla, value in zip(*found, exact, strict=True):
        assert (ours.shape, ours.dtype) == (xla.shape, xla.dtype)
        own = abs(np.float64(xla) - value).max()
        assert abs(np.float64(ours) - value).max() <= max(1.1 * own, 1e-6 * abs(value).max())


def wide_product(x, kernel):
    return linear.dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))


def test_many_rows_under_vmap_and_twice_differentiated():
    x, kernel = inputs((2, 1030, 4)), inputs((2, 4, WIDE))
    for mapped, gradients in ((jax.vmap(wide_product), False), (jax.vmap(slope_of(wide_product)), True)):
        expected = jax.vmap(slope_of(jnp.matmul) if gradients else jnp.matmul)(x, kernel)
        actual = mapped(x, kernel)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * abs(expected).max())


def slope_of(product):
    """The gradient of the squared norm of a gradient, which differentiates each product of the backward pass too."""
    return jax.grad(
        lambda x, kernel: jnp.sum(jax.grad(lambda k: jnp.sum(product(x, k) ** 2) / 1e3)(kernel) ** 2) / 1e3, 1
    )


def test_not_a_number_stays_in_its_row():
    y = wide_product(inputs((1100, 6)).at[777, 2].set(jnp.nan), inputs((6, WIDE)))
    np.testing.assert_array_equal(jnp.isnan(y).all(1).nonzero()[0], [777])
    np.testing.assert_array_equal(jnp.isnan(y).any(1).nonzero()[0], [777])


def test_an_export_without_a_number_of_rows():
    rows, *_ = jax.export.symbolic_shape("rows")
    arguments = jax.ShapeDtypeStruct((rows, 6), jnp.float32), inputs((6, WIDE))
    for function in (wide_product, jax.grad(lambda x, kernel: jnp.sum(wide_product(x, kernel) ** 2), 1)):
        y = jax.export.export(jax.jit(function))(*arguments).call(inputs((1100, 6)), arguments[1])
        np.testing.assert_allclose(y, function(inputs((1100, 6)), arguments[1]), rtol=1e-5, atol=1e-3)


def test_one_device_of_a_mesh_takes_parts_too():
    mesh = jax.make_mesh((1,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.PartitionSpec("rows")
    mapped = jax.shard_map(wide_product, mesh=mesh, in_specs=(rows, jax.sharding.PartitionSpec()), out_specs=rows)
    x, kernel = inputs((1100, 6)), inputs((6, WIDE))
    np.testing.assert_allclose(jax.jit(mapped)(x, kernel), x @ kernel, rtol=0, atol=1e-5)


def test_eight_bits():
    x, kernel = inputs((1100, 6), jnp.float8_e4m3fn), inputs((6, WIDE), jnp.float8_e4m3fn)
    ours, xla = (
        jax.jit(
            lambda x, kernel, product=product: jax.vjp(product, x, kernel)[1](kernel[:1] + jnp.zeros_like(x[:, :1]))
        )
        for product in (wide_product, jnp.matmul)
    )
    for actual, expected in zip(ours(x, kernel), xla(x, kernel), strict=True):
        assert actual.dtype == expected.dtype
        np.testing.assert_allclose(np.float32(actual), np.float32(expected), rtol=0.13)


def lowered(shape, platform):
    """The program of a gradient of the kernel, as it goes to XLA's compiler."""
    gradient = jax.jit(jax.grad(lambda kernel, x: jnp.sum(wide_product(x, kernel) ** 2)))
    return gradient.trace(inputs((shape[-1], WIDE)), inputs(shape)).lower(lowering_platforms=(platform,)).as_text()


def test_wide_rows_are_longer_in_the_kernel_s_gradient_on_cpus():
    """Read down its columns, a row of 512 numbers would be slow again."""
    for features, padded in ((WIDE, 2), (6, 1)):
        text = lowered((3, features), "cpu")
        assert text.count(f"tensor<3x{WIDE + 16}xf32>") >= padded
        assert text.count("stablehlo.pad") + text.count("call @_pad") >= padded
        assert "stablehlo.pad" not in lowered((3, features), "cuda")


def test_many_rows_come_in_parts_on_cpus_alone():
    """The outputs and the sum of the kernel's gradient."""
    assert lowered((1100, 6), "cpu").count("stablehlo.while") == 2
    assert "stablehlo.while" not in lowered((1100, 6), "cuda") + lowered((1023, 6), "cpu")


def test_rows_of_several_devices_stay_where_they_are(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    assert "stablehlo.while" not in lowered((1101, 6), "cpu")


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
