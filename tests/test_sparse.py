"""Sparse layers against the dense product: values, gradients, transformations; random synapses; what reads layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export
from jax.test_util import check_grads

import jsnn
from jsnn.sparse.product import _on_accelerators, _on_cpu, sparse_product

IN, OUT = 70, 33


def layer(**options):
    options = {"probability": 0.2, "rngs": nnx.Rngs(0)} | options
    return jsnn.Sparse.random(IN, OUT, bias_init=nnx.initializers.normal(), **options)


def dense_twin(sparse):
    twin = nnx.Linear(
        sparse.in_features,
        sparse.out_features,
        use_bias=sparse.bias is not None,
        param_dtype=sparse.kernel[...].dtype,
        rngs=nnx.Rngs(0),
    )
    twin.kernel[...] = sparse.to_dense()
    if sparse.bias is not None:
        twin.bias[...] = sparse.bias[...]
    return twin


def inputs(*shape, density=0.5, dtype=jnp.float32):
    draw = np.random.default_rng(0)
    return jnp.asarray(draw.normal(size=shape) * (draw.random(shape) < density), dtype)


def value_and_gradients(module, x, wrap=lambda function: function):
    """The outputs, and the gradients of kernel, bias and inputs of a loss that weighs every output otherwise."""
    graph, params, rest = nnx.split(module, nnx.Param, ...)

    def loss(params, x):
        y = wrap(nnx.merge(graph, params, rest))(x)
        return jnp.sum(y * jnp.cos(jnp.arange(y.size)).reshape(y.shape).astype(y.dtype)), y

    (_, y), (of_params, of_x) = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(params, x)
    return y, of_params["kernel"][...], of_params["bias"][...], of_x


def check_against_dense(sparse, x, wrap=lambda function: function, tolerance=1e-5):
    ours, dense = (value_and_gradients(module, x, wrap) for module in (sparse, dense_twin(sparse)))
    dense = (dense[0], dense[1][sparse.pre, sparse.post], *dense[2:])
    for actual, expected in zip(ours, dense, strict=True):
        assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
        scale = max(1.0, np.abs(np.asarray(expected, np.float32)).max(initial=0))
        np.testing.assert_allclose(*(np.asarray(a, np.float32) for a in (actual, expected)), atol=tolerance * scale)


# The product


@pytest.mark.parametrize(
    ("shape", "density"),
    [((IN,), 0.5), ((1, IN), 0), ((1, IN), 1), ((40, IN), 0.02), ((40, IN), 1), ((4, 3, IN), 0.5), ((0, IN), 1)],
    ids=str,
)
def test_values_and_gradients_are_those_of_the_dense_product(shape, density):
    check_against_dense(layer(), inputs(*shape, density=density))


def test_bfloat16():
    sparse = layer(param_dtype=jnp.bfloat16)
    check_against_dense(sparse, inputs(5, IN, dtype=jnp.bfloat16), tolerance=0.02)
    assert sparse(inputs(5, IN)).dtype == jnp.float32
    many = jsnn.Sparse(5000, 1, [list(range(5000)), [0] * 5000], jnp.ones((), jnp.bfloat16))
    assert many(jnp.ones((1, 5000), jnp.bfloat16)) == 4992  # 5000, rounded once; a sum in bfloat16 stays at 256


@pytest.mark.parametrize("x", [jnp.arange(IN) % 3, jnp.arange(IN) % 2 == 0], ids=["integers", "bool"])
def test_inputs_that_are_not_floating_point(x):
    np.testing.assert_allclose(layer()(x), dense_twin(layer())(x.astype(jnp.float32)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("density", [0.02, 1])
def test_vmap_is_a_batch(density):
    check_against_dense(layer(), inputs(3, 20, IN, density=density), wrap=jax.vmap)
    check_against_dense(layer(), inputs(3, IN, 4, density=density), wrap=lambda f: jax.vmap(f, 2, 1))


@pytest.mark.slow
def test_vmap_over_layers_and_examples():
    layers = [layer(fan_in=5, probability=None, rngs=nnx.Rngs(seed)) for seed in range(3)]
    graph, *_ = (nnx.split(one)[0] for one in layers)
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(nnx.split(one)[1] for one in layers))
    together = jax.vmap(lambda state, x: nnx.merge(graph, state)(x), (0, None))(states, inputs(4, IN))
    for y, one in zip(together, layers, strict=True):
        np.testing.assert_allclose(y, one(inputs(4, IN)), atol=1e-6)
    sparse = layers[0]

    def loss(kernel, x):
        return jnp.sum(sparse_product(x[None], kernel, sparse.post, sparse.starts, OUT) ** 2)

    each = jax.vmap(jax.grad(loss), (None, 0))(sparse.kernel[...], inputs(4, IN))
    alone = [jax.grad(loss)(sparse.kernel[...], x) for x in inputs(4, IN)]
    np.testing.assert_allclose(each, jnp.stack(alone), rtol=1e-5, atol=1e-5)


def test_derivatives_of_both_modes_and_orders():
    sparse = layer()

    def product(x, kernel):
        return sparse_product(x, kernel, sparse.post, sparse.starts, OUT)

    check_grads(product, (inputs(3, IN), sparse.kernel[...]), order=2, modes=["fwd", "rev"], atol=0.02, rtol=0.02)


@pytest.mark.parametrize("wanted", ["outputs", "inputs", "weights"])
@pytest.mark.parametrize("examples", [1, 30])
def test_accelerators_get_the_same(wanted, examples, monkeypatch):
    monkeypatch.setattr("jsnn.sparse.product._MOST", 1000)  # so that it is done in pieces
    sparse = layer()
    factors = {"inputs": inputs(examples, IN), "weights": sparse.kernel[...], "outputs": inputs(examples, OUT)}
    given = [factor for name, factor in factors.items() if name != wanted]
    given = given[::-1] if wanted == "inputs" else given
    one, other = (
        jax.jit(way, static_argnames=("wanted", "size"))(*given, sparse.post, sparse.starts, wanted=wanted, size=OUT)
        for way in (_on_cpu, _on_accelerators)
    )
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_it_lowers_for_gpus_and_tpus():
    sparse = layer()
    program = jax.jit(jax.grad(lambda x: jnp.sum(sparse(x) ** 2))).trace(inputs(4, IN))
    for platform in ("cuda", "tpu"):
        assert "scatter" in program.lower(lowering_platforms=(platform,)).as_text()


def test_it_exports_for_batches_of_any_size():
    sparse = layer()
    x = jax.ShapeDtypeStruct(export.symbolic_shape(f"b, {IN}"), jnp.float32)
    program = export.export(jax.jit(sparse), platforms=("cpu", "cuda", "tpu"))(x)
    for examples in (1, 3, 50):
        np.testing.assert_allclose(program.call(inputs(examples, IN)), sparse(inputs(examples, IN)), atol=1e-5)


def test_its_gradient_exports_for_batches_of_any_size():
    graph, params, rest = nnx.split(layer(), nnx.Param, ...)
    gradient = jax.jit(jax.grad(lambda params, x: jnp.sum(nnx.merge(graph, params, rest)(x) ** 2)))
    x = jax.ShapeDtypeStruct(export.symbolic_shape(f"b, {IN}"), jnp.float32)
    platforms = ("cpu", "cuda", "tpu")
    program = export.export(jax.jit(lambda x: jax.tree.leaves(gradient(params, x))), platforms=platforms)(x)
    for actual, expected in zip(
        program.call(inputs(3, IN)), jax.tree.leaves(gradient(params, inputs(3, IN))), strict=True
    ):
        np.testing.assert_allclose(actual, expected, atol=1e-4)


@pytest.mark.parametrize("examples", [1, 64])
def test_memory_is_that_of_the_synapses(examples):
    size, fan_in = 4000, 10
    sparse = jsnn.Sparse.random(size, size, fan_in=fan_in, rngs=nnx.Rngs(0))
    graph, params, rest = nnx.split(sparse, nnx.Param, ...)

    def loss(params, x):
        return jnp.sum(nnx.merge(graph, params, rest)(x) ** 2)

    plan = jax.jit(jax.grad(loss, (0, 1))).lower(params, jnp.ones((examples, size))).compile().memory_analysis()
    arrays = size * (fan_in + 8 * examples)  # a dense kernel has 16 million numbers, [B, S] 2.6 million
    assert plan.temp_size_in_bytes + plan.output_size_in_bytes < 4 * arrays < 4 * examples * size * fan_in + 10**6


def test_zero_inputs_hide_weights_that_are_not_finite():
    sparse = jsnn.Sparse(2, 1, [[0, 1], [0, 0]], [jnp.nan, 2.0])
    assert sparse(jnp.array([0.0, 3.0])) == 6
    assert jnp.isnan(sparse(jnp.array([1.0, 3.0])))[0]
    assert jnp.isnan(sparse(jnp.array([0.0, jnp.nan])))[0]


# In networks


@pytest.mark.parametrize("delay", [1, 15])
def test_recurrent(delay):
    sparse = jsnn.Sparse.random(20, 20, fan_in=5, rngs=nnx.Rngs(1))
    currents = jnp.abs(inputs(40, 3, 20))

    def run(synapse):
        graph, params, rest = nnx.split(jsnn.Recurrent(jsnn.LIF(0.8), synapse, delay=delay), nnx.Param, ...)

        def loss(params):
            spikes = jsnn.unroll(nnx.merge(graph, params, rest), currents)[1]
            return jnp.sum(spikes * jnp.cos(jnp.arange(spikes.size)).reshape(spikes.shape)), spikes

        return jax.jit(jax.grad(loss, has_aux=True))(params)

    (ours, spikes), (dense, expected) = run(sparse), run(dense_twin(sparse))
    np.testing.assert_array_equal(spikes, expected)
    assert 0 < spikes.mean() < 1
    of_kernel = dense["synapse"]["kernel"][...][sparse.pre, sparse.post]
    np.testing.assert_allclose(ours["synapse"]["kernel"][...], of_kernel, rtol=1e-4, atol=1e-4)


def networks():
    sparse = layer()
    return [jsnn.Sequential(one, jsnn.LIF(0.9, reset="zero")) for one in (sparse, dense_twin(sparse))]


def test_layer_by_layer_is_step_by_step():
    network, twin = networks()
    x = inputs(12, 3, IN)
    spikes, (state, steps) = jsnn.unroll(network, x)[1], (network.init((3, IN)), [])
    for frame in x:
        state, y = network.step(state, frame)
        steps.append(y)
    np.testing.assert_array_equal(spikes, jnp.stack(steps))
    np.testing.assert_array_equal(spikes, jsnn.unroll(twin, x)[1])
    assert jnp.any(spikes)


def test_energy_counts_synapses():
    network, twin = networks()
    x = (inputs(6, 2, IN) > 0).astype(jnp.float32)
    counted, expected = (jsnn.energy.count(one, x) for one in (network, twin))
    synapses = network.layers[0].kernel.size
    assert (counted.dense, expected.dense) == (6 * synapses, 6 * IN * OUT)
    assert counted.effective_acs == expected.effective_acs > 0
    assert counted.synapses[0].weights == f"sparse [{synapses}]"
    assert counted.synapses[0].wired == synapses


def test_nir_writes_a_dense_node():
    ours, dense = (jsnn.nir.to_nir(network, (IN,), dt=1e-3) for network in networks())
    ours, dense = (next(n for name, n in graph.nodes.items() if name.startswith("0_")) for graph in (ours, dense))
    np.testing.assert_allclose(ours.weight, dense.weight)
    np.testing.assert_allclose(ours.bias, dense.bias)


def test_nir_refuses_a_matrix_that_is_too_large(monkeypatch):
    monkeypatch.setattr("jsnn.nir.trace._LARGEST", IN * OUT - 1)
    with pytest.raises(jsnn.nir.NIRError, match="NIR has no sparse layers, and a dense one of 70 x 33 weights"):
        jsnn.nir.to_nir(networks()[0], (IN,), dt=1e-3)


def test_weights_in_a_file(tmp_path):
    first, second = (layer(fan_in=5, probability=None, rngs=nnx.Rngs(seed)) for seed in (0, 1))
    assert not np.array_equal(first.post, second.post)
    jsnn.weights.save(tmp_path / "a.safetensors", first)
    again = jsnn.weights.from_jsnn(second, jsnn.weights.load(tmp_path / "a.safetensors"))
    np.testing.assert_array_equal(again.to_dense(), first.to_dense())
    np.testing.assert_array_equal(again(inputs(3, IN)), first(inputs(3, IN)))


def test_only_weights_are_trained():
    optimizer_sees = nnx.to_flat_state(nnx.split(layer(), nnx.Param, ...)[1])
    assert sorted(path for path, _ in optimizer_sees) == [("bias",), ("kernel",)]


# Making layers


@pytest.mark.parametrize("fan_in", [0, 1, 20, 40, 69])
@pytest.mark.parametrize("self_connections", [True, False])
def test_random_with_a_fan_in(fan_in, self_connections):
    sparse = jsnn.Sparse.random(IN, IN, fan_in=fan_in, self_connections=self_connections, rngs=nnx.Rngs(0))
    pairs = np.zeros((IN, IN), int)
    np.add.at(pairs, (np.asarray(sparse.pre), np.asarray(sparse.post)), 1)
    assert pairs.max() <= 1
    assert (pairs.sum(0) == fan_in).all()
    if fan_in == 20:
        assert np.trace(pairs) == 0 or self_connections
        np.testing.assert_allclose(pairs.sum(1), fan_in, atol=16)  # 4 standard deviations


@pytest.mark.slow
def test_random_with_a_probability():
    sparse = jsnn.Sparse.random(400, 300, probability=0.1, rngs=nnx.Rngs(0))
    assert abs(sparse.kernel.size - 12_000) < 4 * (12_000 * 0.9) ** 0.5
    assert (np.asarray(sparse.to_dense()) != 0).sum() == sparse.kernel.size
    np.testing.assert_allclose(np.bincount(sparse.post, minlength=300).std(), (400 * 0.09) ** 0.5, rtol=0.2)
    other = jsnn.Sparse.random(400, 300, probability=0.1, rngs=nnx.Rngs(1))
    again = jsnn.Sparse.random(400, 300, probability=0.1, rngs=nnx.Rngs(0))
    assert not np.array_equal(sparse.post[:99], other.post[:99])
    np.testing.assert_array_equal(sparse.post, again.post)
    for probability, size in ((0, 0), (1e-12, 0), (1, 12)):
        assert jsnn.Sparse.random(4, 3, probability=probability, rngs=nnx.Rngs(0)).kernel.size == size
    none = jsnn.Sparse.random(5, 5, probability=1.0, self_connections=False, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(none.to_dense() != 0, ~np.eye(5, dtype=bool))


def test_initial_weights_go_by_the_inputs_of_a_neuron():
    """As in a dense layer with so many inputs: the variance of what comes out is that of what goes in."""
    for options in ({"fan_in": 50}, {"probability": 0.025}):
        sparse = jsnn.Sparse.random(2000, 1000, **options, use_bias=False, rngs=nnx.Rngs(0))
        assert sparse.bias is None
        np.testing.assert_allclose(sparse.kernel[...].std(), 50**-0.5, rtol=0.02)


def test_given_synapses_in_any_order():
    draw = np.random.default_rng(0)
    indices, weights = np.stack([draw.integers(0, 6, 50), draw.integers(0, 4, 50)]), draw.normal(size=50)
    matrix = np.zeros((6, 4))
    np.add.at(matrix, tuple(indices), weights)  # several between the same two add up
    sparse = jsnn.Sparse(6, 4, indices, weights, bias=jnp.arange(4))
    np.testing.assert_allclose(sparse.to_dense(), matrix, rtol=1e-5)
    np.testing.assert_allclose(sparse(inputs(3, 6)), inputs(3, 6) @ matrix + np.arange(4), rtol=1e-4, atol=1e-5)
    pairs = list(zip(sparse.pre.tolist(), sparse.post.tolist(), strict=True))
    assert pairs == sorted(pairs)
    np.testing.assert_array_equal(jsnn.Sparse.from_dense(matrix).to_dense(), jnp.asarray(matrix))
    assert jsnn.Sparse(6, 4, indices, 0.5).kernel[...].tolist() == [0.5] * 50
    assert jsnn.Sparse(6, 4, np.zeros((2, 0), int), 0.5)(inputs(3, 6)).tolist() == [[0.0] * 4] * 3


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: jsnn.Sparse(3, 2, [[0, 3], [0, 1]], 1.0), ValueError, r"indices\[0\] must be from 0 to 2, got 0 to 3"),
        (lambda: jsnn.Sparse(3, 2, [[0, 1], [0, -1]], 1.0), ValueError, r"indices\[1\] must be from 0 to 1, got -1 to"),
        (lambda: jsnn.Sparse(3, 2, [0, 1], 1.0), ValueError, r"indices must be \[2, S\]"),
        (lambda: jsnn.Sparse(3, 2, [[0.0], [1.0]], 1.0), TypeError, "indices must be integers, got float32"),
        (lambda: jsnn.Sparse(3, 2, [[0], [1]], [1.0, 2.0]), ValueError, r"weights must be a number or \[S\]"),
        (lambda: jsnn.Sparse(0, 2, [[0], [1]], 1.0), ValueError, "in_features must be >= 1, got 0"),
        (lambda: jsnn.Sparse(3, 2, [[0], [1]], 1.0, bias=[1.0]), ValueError, r"bias must have shape \(2,\), got"),
        (lambda: jsnn.Sparse(3, 2, [[0], [1]], "abc"), TypeError, "weights must be a number or an array"),
        (lambda: jsnn.Sparse.from_dense(jnp.ones(3)), ValueError, r"matrix must be \[in_features, out_features\]"),
        (lambda: jax.jit(lambda m: jsnn.Sparse.from_dense(m)(m))(jnp.ones((3, 3))), TypeError, "matrix must be known"),
        (lambda: layer(fan_in=3), ValueError, "give either fan_in or probability, got fan_in=3, probability=0.2"),
        (lambda: layer(probability=None), ValueError, "give either fan_in or probability"),
        (lambda: layer(param_dtype=int), TypeError, "param_dtype must be a floating-point dtype"),
        (lambda: layer(probability=None, fan_in=71), ValueError, "fan_in must be from 0 to 70"),
        (lambda: layer(probability=1.1), ValueError, r"probability must be in \[0, 1\], got 1.1"),
        (lambda: layer(self_connections=False), ValueError, "self_connections=False is for as many inputs as outputs"),
        (lambda: layer(kernel_init=lambda *_: jnp.ones(3)), ValueError, "kernel_init must give an array of shape"),
        (lambda: layer(kernel_init=3), TypeError, "kernel_init must be a function"),
        (lambda: jsnn.Sparse.random(10**6, 10**6, probability=0.9, rngs=nnx.Rngs(0)), ValueError, "GiB of memory"),
        (lambda: nnx.eval_shape(layer), TypeError, "rngs must be known when a Sparse layer is made"),
        (lambda: layer()(jnp.ones((3, 4))), ValueError, r"Sparse takes \[..., 70\], got shape \(3, 4\)"),
        (lambda: layer()(jnp.ones(())), ValueError, "Sparse takes"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
