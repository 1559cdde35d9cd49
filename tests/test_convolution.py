"""The fast convolution against XLA's own: the same values, and the same gradients but for rounding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export

import jsnn
from jsnn import convolution

OURS, XLA = convolution.conv_general_dilated, jax.lax.conv_general_dilated
FLAX_LAYOUT = ("NHWC", "HWIO", "NHWC")


def normal(seed, shape, dtype="float32"):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)  # jax.random is slow to compile


@functools.partial(jax.jit, static_argnums=0, static_argnames=("strides", "padding", "layout", "options"))
def value_and_gradients(convolve, images, kernel, strides=(1, 1), padding="VALID", layout=FLAX_LAYOUT, options=()):
    def run(images, kernel):
        return convolve(images, kernel, strides, padding, dimension_numbers=layout, **dict(options))

    y, pullback = jax.vjp(run, images, kernel)
    return y, *pullback(jnp.cos(jnp.arange(y.size)).reshape(y.shape).astype(y.dtype))


def assert_close(actual, expected, relative=1e-5):
    """Within `relative` of the largest number, to which the rounding of a sum is relative."""
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=relative * abs(expected).max(initial=0))


def assert_is_xla(*arguments, relative=1e-5, **options):
    ours, xla = (value_and_gradients(convolve, *arguments, **options) for convolve in (OURS, XLA))
    for actual, expected in zip(ours, xla, strict=True):
        assert_close(actual, expected, relative)


@pytest.mark.rows(1)
@pytest.mark.parametrize(("batch", "size", "padding"), [  # the kernel's gradient takes chunks of 16 images
    (3, (7, 6), "VALID"),  # a kernel as large as the image
    (16, (2, 4), "SAME"),
    (32, (5, 1), ((5, 0), (0, 3))),  # beyond the kernel
    (37, (3, 2), ((-1, 0), (1, -2))),  # cut off
])  # fmt: skip
def test_both_gradients_are_xla_s(batch, size, padding):
    assert_is_xla(normal(0, (batch, 7, 6, 3)), normal(1, (*size, 3, 5)), padding=padding)


@pytest.mark.rows(2)
@pytest.mark.parametrize(("strides", "size", "padding"), [
    ((2, 2), (3, 3), ((1, 1), (1, 1))),  # rows and columns at the end that no window sees
    ((2, 1), (1, 1), "VALID"),  # columns between the windows, too
    ((3, 2), (2, 3), "SAME"),
    ((2, 2), (7, 6), ((3, 2), (-1, 3))),
])  # fmt: skip
def test_gradients_with_strides_are_xla_s(strides, size, padding):
    assert_is_xla(normal(0, (17, 8, 7, 3)), normal(1, (*size, 3, 5)), strides=strides, padding=padding)


@pytest.mark.rows(2)
@pytest.mark.parametrize(("strides", "size", "padding"), [
    ((1, 1), (3, 3), "SAME"),  # the images' gradient is a convolution
    ((2, 2), (3, 2), ((2, -1), (1, 1))),
    ((1, 1), (5, 4), "VALID"),  # it is a product
    ((1, 2), (7, 5), ((0, 1), (-1, 0))),
])  # fmt: skip
def test_gradients_of_many_channels_are_xla_s(strides, size, padding):
    assert_is_xla(normal(0, (17, 8, 7, 9)), normal(1, (*size, 9, 5)), strides=strides, padding=padding)


@pytest.mark.parametrize("padding", [((3, 1), (1, 2)), ((-1, 2), (0, -1))])  # wider than the kernel; cut off
def test_padding_is_that_of_images_padded_before(padding):
    images, kernel = normal(0, (20, 10, 7, 8)), normal(1, (3, 2, 8, 8))

    def run(convolve, padding, before):  # XLA itself reads what is not there, on a CPU with JAX 0.10
        def padded(images, kernel, *arguments, **options):
            zero = jnp.zeros((), images.dtype)
            return convolve(jax.lax.pad(images, zero, [(0, 0, 0), *before, (0, 0, 0)]), kernel, *arguments, **options)

        return value_and_gradients(padded, images, kernel, padding=padding)

    ours = run(OURS, padding, [(0, 0, 0)] * 2)
    for actual, expected in zip(ours, run(OURS, "VALID", [(*pad, 0) for pad in padding]), strict=True):
        assert_close(actual, expected)


def test_no_images():
    _, images, kernel = value_and_gradients(OURS, jnp.zeros((0, 7, 6, 3)), jnp.ones((3, 3, 3, 5)))
    assert images.shape == (0, 7, 6, 3)
    assert not kernel.any()


@pytest.mark.parametrize("channels", [3, 8])
def test_kernels_larger_than_the_images(channels):
    assert_is_xla(normal(0, (18, 4, 6, channels)), normal(1, (5, 2, channels, 5)))  # [18, 0, 5, 5]


EXPLICIT = ((1, 2), (0, 1))


@pytest.mark.rows(3)
@pytest.mark.parametrize(("images", "kernel", "arguments"), [
    ((5, 7, 6, 4), (3, 3, 4, 6), {"options": (("rhs_dilation", (2, 1)),)}),
    ((5, 7, 6, 4), (3, 3, 4, 6), {"padding": EXPLICIT, "options": (("lhs_dilation", (1, 2)),)}),
    ((5, 7, 6, 4), (3, 3, 2, 6), {"options": (("feature_group_count", 2),)}),
    ((6, 7, 6, 4), (3, 3, 4, 6), {"options": (("batch_group_count", 2),)}),
    ((5, 7, 6, 4), (3, 3, 4, 6), {"options": (("preferred_element_type", jnp.float32),)}),
    ((5, 4, 7, 6), (6, 4, 3, 3), {"layout": None}),  # channels first
    ((5, 7, 6, 0), (3, 3, 0, 6), {}),
    ((5, 7, 6, 4), (3, 3, 4, 0), {}),
    ((5, 0, 6, 4), (2, 2, 4, 6), {"padding": ((1, 1), (0, 0))}),
    ((5, 7, 4), (3, 4, 6), {"strides": (1,), "layout": ("NWC", "WIO", "NWC")}),
    ((3, 5, 5, 5, 2), (3, 3, 3, 2, 2), {"strides": (1, 1, 1), "layout": ("NDHWC", "DHWIO", "NDHWC")}),
])  # fmt: skip
def test_all_else_is_xla_s_own_program(images, kernel, arguments):
    def program(convolve):
        run = functools.partial(value_and_gradients, convolve, **arguments)
        return str(jax.make_jaxpr(run)(jnp.ones(images), jnp.ones(kernel)))

    assert program(OURS) == program(XLA)


def test_a_gradient_exports_for_images_of_any_size():
    kernel, x = normal(1, (3, 3, 8, 5)), normal(0, (2, 6, 7, 8))

    def gradient(convolve):
        return jax.jit(
            jax.grad(lambda x: jnp.sum(convolve(x, kernel, (1, 1), "SAME", dimension_numbers=FLAX_LAYOUT) ** 2))
        )

    described = jax.ShapeDtypeStruct(export.symbolic_shape("2, h, w, 8"), jnp.float32)
    assert_close(export.export(gradient(OURS))(described).call(x), gradient(XLA)(x))


def test_bfloat16_is_no_less_precise_than_xla():
    images = normal(0, (640, 7, 6, 3), "bfloat16") + 1  # a mean, for rounding errors that add up
    assert_is_xla(images, normal(1, (3, 2, 3, 5), "bfloat16"), relative=2**-8)


def test_float64():
    with jax.enable_x64(True):
        arguments = jnp.ones((17, 7, 6, 3), "float64"), jnp.ones((3, 3, 3, 5), "float64")
        outputs = jax.eval_shape(functools.partial(value_and_gradients, OURS), *arguments)
    assert {str(output.dtype) for output in outputs} == {"float64"}


@pytest.mark.rows(1)
@pytest.mark.parametrize("options", [{"padding": "CIRCULAR"}, {"padding": EXPLICIT, "use_bias": False}], ids=str)
def test_conv_is_flax_s(options):
    images = normal(0, (18, 7, 6, 2))
    options = options | {"kernel_init": lambda key, shape, dtype: normal(1, shape, dtype), "rngs": nnx.Rngs(0)}
    graph, ours = nnx.split(jsnn.Conv(2, 4, (3, 3), **options))
    flax_graph, flax = nnx.split(nnx.Conv(2, 4, (3, 3), **options))
    assert jax.tree.structure(ours) == jax.tree.structure(flax)  # so that checkpoints fit both

    def value_and_gradients(graph, params):
        def loss(params, images):
            y = nnx.merge(graph, params)(images)
            return (y**2 * jnp.cos(jnp.arange(y.size)).reshape(y.shape)).sum(), y

        return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(params, images)

    jax.tree.map(assert_close, value_and_gradients(graph, ours), value_and_gradients(flax_graph, flax))


def test_conv_takes_flax_s_other_arguments():
    options = {"strides": 2, "padding": 1, "feature_group_count": 2, "rngs": nnx.Rngs(0)}
    images = normal(0, (2, 7, 6, 4))
    ours = jsnn.Conv(4, 6, (3, 3), **options)
    flax = nnx.merge(nnx.graphdef(nnx.Conv(4, 6, (3, 3), **options)), nnx.state(ours))
    assert_close(ours(images), flax(images))


def test_gradients_inside_a_scan_and_under_vmap():
    images, kernels = normal(0, (3, 18, 7, 6, 2)), normal(1, (3, 3, 3, 2, 2))

    def through_time(convolve, kernel):
        def step(state, x):
            state = jnp.tanh(convolve(state + x, kernel, (1, 1), "SAME", dimension_numbers=FLAX_LAYOUT))
            return state, state

        return (jax.lax.scan(step, jnp.zeros_like(images[0]), images)[1] ** 2).mean()

    def gradients(convolve):
        return jax.jit(jax.vmap(jax.grad(functools.partial(through_time, convolve))))(kernels)

    assert_close(gradients(OURS), gradients(XLA))


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_vmap_over_images_and_kernels(axes):
    images, kernels = normal(0, (2, 17, 7, 6, 3)), normal(1, (2, 3, 2, 3, 5))
    arguments = [x if axis == 0 else x[0] for x, axis in zip((images, kernels), axes, strict=True)]

    def run(convolve):
        return jax.jit(jax.vmap(functools.partial(value_and_gradients, convolve), in_axes=axes))(*arguments)

    for actual, expected in zip(run(OURS), run(XLA), strict=True):
        assert_close(actual, expected)


@pytest.mark.parametrize(("count", "chunk"), [(1, 1), (6, 3), (100, 4), (101, 3), (400, 4), (0, 1)])
def test_chunks_are_of_one_size_where_a_divisor_is_near(count, chunk):
    assert convolution._chunk(jnp.zeros((count, 16, 16, 96)), (3, 3, 48, 96)) == chunk
