"""The one loop over time: layer by layer or step by step, static inputs, rematerialisation, and what it refuses."""

import dataclasses
import functools
import importlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jsnn

T, B = 10, 3


def drawn(seed):
    """An initialiser that takes less time to compile than JAX's."""
    return lambda key, shape, dtype, *_: jnp.asarray(np.random.default_rng(seed).normal(0, 0.4, shape), dtype)


def linear(size_in, size_out, seed=0):
    bias = nnx.initializers.constant(0.3)
    return nnx.Linear(size_in, size_out, kernel_init=drawn(seed), bias_init=bias, rngs=nnx.Rngs(0))


def convolutional():
    conv = jsnn.Conv(2, 4, (3, 3), padding="VALID", kernel_init=drawn(0), rngs=nnx.Rngs(0))
    per_channel = nnx.Param(jnp.array([0.5, 0.8, 0.9, 1.0]))
    return jsnn.Sequential(
        conv, jsnn.LIF(per_channel, threshold=0.3), jsnn.max_pool, jsnn.flatten, linear(16, 3), jsnn.LIF(0.9)
    )


def recurrent():
    hidden = jsnn.Recurrent(jsnn.ALIF(0.9, nnx.Param(jnp.full(6, 0.9)), adaptation=0.3), linear(6, 6, 1))
    return jsnn.Sequential(linear(5, 6), hidden, linear(6, 3, 2), jsnn.LIF(0.8, reset_delay=True))


def nested():
    block = jsnn.Sequential(linear(5, 6), jsnn.Sequential(jsnn.CuBaLIF(), linear(6, 6, 1)), jsnn.LIF(0.5))
    return jsnn.Sequential(jnp.sin, block, linear(6, 3, 2), jsnn.LI())


VECTORS = jnp.asarray(np.random.default_rng(0).uniform(0, 2, (T, B, 5)), jnp.float32)
IMAGES = jnp.asarray(np.random.default_rng(1).uniform(0, 2, (T, B, 6, 6, 2)), jnp.float32)
NETWORKS = {
    "convolutional": (convolutional, IMAGES),
    "recurrent": (recurrent, VECTORS),
    "nested": (nested, VECTORS),
}
EVERY_NETWORK = pytest.mark.parametrize(("make", "inputs"), NETWORKS.values(), ids=NETWORKS.keys())


def step_by_step(network, inputs):
    """The network as a stream would run it, one step through all layers at a time."""
    state = network.init(inputs.shape[1:])
    return jax.lax.scan(network.step, state, inputs)


unroll = jax.jit(jsnn.unroll, static_argnames=("num_steps", "remat", "method"))


@functools.partial(jax.jit, static_argnums=0, static_argnames=("num_steps", "remat", "method", "truncate"))
def outputs_and_gradients(run, network, inputs, **options):
    def loss(network, inputs):
        state, outputs = run(network, inputs, **options)
        weights = jnp.cos(jnp.arange(outputs.size)).reshape(outputs.shape)  # so that steps and neurons differ
        return (outputs * weights).sum(), (state, outputs)

    gradients, results = jax.grad(loss, argnums=(0, 1), has_aux=True)(network, inputs)
    return results, gradients


def assert_trees_close(actual, expected, tolerance=1e-5):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), actual, expected)


@pytest.mark.rows(1)
@EVERY_NETWORK
def test_layer_by_layer_is_step_by_step(make, inputs):
    network = make()
    by_layer, gradients = outputs_and_gradients(jsnn.unroll, network, inputs)
    by_step, expected_gradients = outputs_and_gradients(step_by_step, network, inputs)
    assert np.any(by_layer[1])
    assert_trees_close(by_layer, by_step)
    assert all(np.any(gradient) for gradient in jax.tree.leaves(gradients))
    assert_trees_close(gradients, expected_gradients, tolerance=1e-4)


@pytest.mark.rows(1)
@EVERY_NETWORK
def test_a_static_input_is_the_same_input_at_every_step(make, inputs):
    network, still = make(), inputs[0]
    results, (gradients, gradient) = outputs_and_gradients(jsnn.unroll, network, still, num_steps=T)
    tiled = jnp.broadcast_to(still, inputs.shape)
    expected, (expected_gradients, tiled_gradient) = outputs_and_gradients(jsnn.unroll, network, tiled)
    assert_trees_close(results, expected)
    assert_trees_close((gradients, gradient), (expected_gradients, tiled_gradient.sum(0)), tolerance=1e-4)


@pytest.mark.rows(1)
@pytest.mark.parametrize(("remat", "num_steps"), [(True, None), (5, None), (4, None), (True, T)])  # 4 leaves a rest
def test_remat_changes_nothing_but_memory(remat, num_steps):
    network = jsnn.Sequential(linear(5, 6), jsnn.LIF(nnx.Param(jnp.full(6, 0.9))))
    inputs = VECTORS if num_steps is None else VECTORS[0]
    expected = outputs_and_gradients(jsnn.unroll, network, inputs, num_steps=num_steps)
    assert_trees_close(outputs_and_gradients(jsnn.unroll, network, inputs, num_steps=num_steps, remat=remat), expected)


@pytest.mark.rows(1)
@pytest.mark.parametrize("method", ["scan", "fused", "parallel"])
def test_every_method_gives_the_same_numbers(method):
    network = jsnn.Sequential(
        jsnn.CuBaLIF(reset="none"), linear(5, 6), jsnn.LIF(), jsnn.LI(nnx.Param(jnp.full(6, 0.9)))
    )
    expected = outputs_and_gradients(jsnn.unroll, network, VECTORS)
    assert_trees_close(outputs_and_gradients(jsnn.unroll, network, VECTORS, method=method), expected, tolerance=1e-5)
    program = str(jax.make_jaxpr(lambda x: jsnn.unroll(network, x, method=method, remat=5)[1])(VECTORS))
    loops = {"scan": 1 + 3, "fused": 1 + 2 * 3, "parallel": 1 + 1}  # one over the chunks, then one for each neuron
    kernels = 3 if method == "fused" else 0  # each compiled on a GPU, and interpreted elsewhere
    counts = [program.count(word) for word in ("scan[", "mpmd_map[", "pallas_call[")]
    assert counts == [loops[method], kernels, kernels]


@pytest.mark.rows(2)
@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
def test_auto_takes_no_kernel_anywhere(platform, monkeypatch):
    module = importlib.import_module("jsnn.unrolling")
    monkeypatch.setattr(module, "_default_platform", lambda: platform)
    run = functools.partial(jsnn.unroll, jsnn.LIF())
    assert "pallas" not in str(jax.make_jaxpr(run)(VECTORS))
    jax.eval_shape(lambda x: jax.jvp(run, (x,), (x,)), VECTORS)
    jax.eval_shape(jax.hessian(lambda x: run(x)[1].sum()), VECTORS)


def test_a_method_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"method must be 'auto', 'scan', .*, got 'fast'"):
        jsnn.unroll(jsnn.LIF(), VECTORS, method="fast")


def test_remat_refuses_averages_of_a_chunk():
    network = jsnn.Sequential(linear(5, 6), jsnn.ThresholdBatchNorm(6, rngs=nnx.Rngs(0)), jsnn.LIF())
    with pytest.raises(ValueError, match=r"remat=5 takes layers that change nothing, .* call network.eval\(\)"):
        jsnn.unroll(network, VECTORS, remat=5)
    network.eval()
    assert_trees_close(unroll(network, VECTORS, remat=5), unroll(network, VECTORS))


@pytest.mark.rows(2)
@pytest.mark.parametrize("remat", [1, T, 100])
def test_remat_with_chunks_of_any_length(remat):
    assert_trees_close(jsnn.unroll(jsnn.LIF(), VECTORS, remat=remat), jsnn.unroll(jsnn.LIF(), VECTORS))


@pytest.mark.slow
def test_remat_saves_memory():
    def memory(remat):
        def loss(inputs):
            return (jsnn.unroll(jsnn.ALIF(), inputs, num_steps=400, remat=remat)[0].v ** 2).sum()

        return jax.jit(jax.grad(loss)).lower(jnp.ones((8, 64))).compile().memory_analysis().temp_size_in_bytes

    assert memory(True) < 0.25 * memory(False)


@pytest.mark.rows(1)
@pytest.mark.parametrize("remat", [False, 3])
def test_going_on_from_a_state_is_one_longer_run(remat):
    network = jsnn.Sequential(jsnn.CuBaLIF(), jsnn.ALIF(reset_delay=True), jsnn.LI())
    expected = unroll(network, VECTORS)
    state, first = unroll(network, VECTORS[:4], remat=remat)
    state, second = unroll(network, VECTORS[4:], state, remat=remat)
    assert_trees_close((state, np.concatenate([first, second])), expected)


def test_the_state_given_is_where_it_starts():
    state = jsnn.LIF().init((2,))._replace(v=jnp.array([0.0, 1.0]))
    after, spikes = jsnn.unroll(jsnn.LIF(0.5), jnp.full((1, 2), 0.75), state)
    assert spikes.tolist() == [[0.0, 1.0]]
    assert after.v.tolist() == [0.75, 0.25]


def test_layers_before_the_first_neuron_see_a_static_input_once():
    network = jsnn.Sequential(jnp.sin, jsnn.LIF(), jnp.sin, jsnn.LIF(), jnp.sin)

    def computed(inputs, num_steps):
        program = jax.make_jaxpr(lambda x: jsnn.unroll(network, x, num_steps=num_steps))(inputs)
        return [equation.invars[0].aval.shape for equation in program.eqns if equation.primitive.name == "sin"]

    assert computed(VECTORS[0], T) == [(B, 5), (T * B, 5), (T * B, 5)]
    assert computed(VECTORS, None) == [(T * B, 5)] * 3


@pytest.mark.parametrize(("inputs", "num_steps", "batch"), [(IMAGES[0], T, B), (IMAGES, None, T * B)])
def test_the_program_convolves_a_static_image_once(inputs, num_steps, batch):
    network = jsnn.Sequential(
        nnx.Conv(2, 4, (3, 3), padding="VALID", kernel_init=drawn(0), rngs=nnx.Rngs(0)), jsnn.LIF()
    )
    program = str(jax.make_jaxpr(lambda x: jsnn.unroll(network, x, num_steps=num_steps))(inputs))
    assert re.findall(r"f32\[([\d,]+)\] = conv_general_dilated", program) == [f"{batch},4,4,4"]


def test_a_static_input_is_not_tiled_for_a_neuron():
    program = str(jax.make_jaxpr(lambda x: jsnn.unroll(jsnn.LIF(), x, num_steps=77)[0])(VECTORS[0]))
    assert "broadcast_in_dim[broadcast_dimensions=(1, 2) shape=(77" not in program


def test_jit_vmap_and_grad_go_through():
    network = jsnn.Sequential(linear(5, 6), jsnn.LIF(0.9))
    by_batch = jax.vmap(lambda x: jsnn.unroll(network, x)[1], in_axes=1, out_axes=1)
    np.testing.assert_allclose(jax.jit(by_batch)(VECTORS), unroll(network, VECTORS)[1], rtol=1e-5, atol=1e-5)
    ensemble = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), network)
    both = jax.jit(jax.vmap(jsnn.unroll, in_axes=(0, None)))(ensemble, VECTORS)[1]
    twice = jax.tree.map(lambda p: 2 * p, network)
    np.testing.assert_allclose(both[1], unroll(twice, VECTORS)[1], rtol=1e-5, atol=1e-5)


def test_outputs_may_be_any_pytree():
    @dataclasses.dataclass(frozen=True)
    class Both:
        def init(self, shape, dtype=jnp.float32):
            return jnp.zeros(shape, dtype)

        def step(self, state, current):
            return state + current, {"sum": state + current, "difference": state - current}

    for remat in (False, 4):
        _, outputs = jsnn.unroll(Both(), jnp.ones((T, 2)), remat=remat)
        assert outputs["sum"][:, 0].tolist() == list(range(1, T + 1))
        assert outputs["difference"][:, 0].tolist() == list(range(-1, T - 1))


def test_shapes_without_a_batch_and_without_steps():
    assert jsnn.unroll(jsnn.LIF(), jnp.ones(T))[1].shape == (T,)
    assert jsnn.unroll(jsnn.LIF(), jnp.float32(0.5), num_steps=T)[1].shape == (T,)
    for remat in (False, True, 3):
        state, spikes = jsnn.unroll(jsnn.LIF(), jnp.ones((0, B, 5)), remat=remat)
        assert spikes.shape == (0, B, 5)
        assert not state.v.any()
    state, v = jsnn.unroll(jsnn.LI(v_rest=0.5), jnp.ones((0, B, 5)), method="parallel")
    assert v.shape == (0, B, 5)
    assert (state.v == 0.5).all()


def test_an_unknown_number_of_steps_is_named():
    x = jax.ShapeDtypeStruct(jax.export.symbolic_shape("t, 3, 5"), jnp.float32)
    with pytest.raises(ValueError, match=r"must have a known number of time steps, got \(t, 3, 5\): .* one T"):
        jax.export.export(jax.jit(lambda x: jsnn.unroll(LIF, x)))(x)


LIF = jsnn.LIF()


@pytest.mark.parametrize(("arguments", "options", "error", "message"), [
    ((linear(5, 5), VECTORS), {}, TypeError,
     "unroll takes a Neuron, an object with init and step, got Linear: put layers without memory into jsnn.Sequential"),
    ((LIF, VECTORS.astype(int)), {}, TypeError,
     "inputs must be floating point, got int32: convert them with x.astype(jnp.float32)"),
    ((LIF, VECTORS > 1), {}, TypeError, "inputs must be floating point, got bool"),
    ((LIF, jnp.float32(1)), {}, ValueError,
     "inputs must have a time axis, [T, ...], got a scalar: pass num_steps for a static input"),
    ((LIF, VECTORS), {"num_steps": 0}, ValueError, "num_steps must be >= 1, got 0"),
    ((LIF, VECTORS), {"num_steps": -3}, ValueError, "num_steps must be >= 1, got -3"),
    ((LIF, VECTORS), {"num_steps": 2.5}, TypeError, "num_steps must be an integer, got 2.5"),
    ((jsnn.LIF, VECTORS), {}, TypeError, "unroll takes a neuron, got the class LIF: make one, LIF(...)"),
    ((LIF, VECTORS, LIF.init((B, 1))), {}, ValueError,
     "state must hold arrays of shapes [(3, 5)], as init gives it for inputs of shape (3, 5) at a step, got [(3, 1)]"),
    ((LIF, VECTORS, jsnn.CuBaLIF().init((B, 5))), {}, ValueError, "got [(3, 5), (3, 5)]"),
    ((LIF, VECTORS[0], T), {}, ValueError, "got [()]: num_steps=10 is passed by name"),
    ((LIF, VECTORS), {"remat": 0}, ValueError, "remat must be True or a chunk length of at least 1, got 0"),
    ((LIF, VECTORS), {"remat": 2.7}, TypeError, "remat must be True or False or an integer, got 2.7"),
    ((LIF, VECTORS), {"remat": None}, TypeError, "remat must be True or False or an integer, got None"),
    ((LIF, VECTORS), {"remat": 10**12}, ValueError, "remat must lie between -2^31 and 2^31"),
    ((LIF, VECTORS), {"remat": -2}, ValueError, "remat must be True or a chunk length of at least 1, got -2"),
    ((LIF, VECTORS[0]), {"remat": 0, "num_steps": T}, ValueError, "remat must be True or a chunk length"),
    ((convolutional(), IMAGES[0]), {}, ValueError, "layer 0_Conv takes [B, *space, C] at each time step, 4 axes, got "
     "shape (6, 6, 2): inputs that vary in time are [T, B, *space, C]; a static input [B, *space, C] needs num_steps"),
    ((convolutional(), IMAGES), {"num_steps": T}, ValueError,
     "4 axes, got shape (10, 3, 6, 6, 2): inputs that vary in time are [T, B, *space, C]; a static input"),
])  # fmt: skip
def test_bad_input_is_named_with_its_cure(arguments, options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        jsnn.unroll(*arguments, **options)


@pytest.mark.rows(2)
@pytest.mark.parametrize("remat", [False, True, 3])
@pytest.mark.parametrize("shape", [(0, 2, 5), (4, 0, 5)])
def test_no_steps_or_no_samples(shape, remat):
    assert jsnn.unroll(LIF, jnp.ones(shape), remat=remat)[1].shape == shape
    network = jsnn.Sequential(jsnn.flatten, linear(5, 3), jsnn.LIF(0.9))
    assert jsnn.unroll(network, jnp.ones(shape), remat=remat)[1].shape == (*shape[:2], 3)


def rate_network(x):
    return jax.nn.relu(jax.nn.relu(x) * 2) + 1


NETWORKS_OF_ALL_KINDS = {
    "Sequential": lambda: jsnn.Sequential(linear(5, 5), jsnn.LIF(), jsnn.Recurrent(jsnn.ALIF(), linear(5, 5))),
    "converted": lambda: jsnn.convert(rate_network, VECTORS[0], synapse=0.005, dt=1e-3),
    "nir": lambda: jsnn.nir.Graph({"a": jsnn.LI(0.5)}, [("input", "a"), ("a", "output")]),
    "nir_cycle": lambda: jsnn.nir.Graph(
        {"a": jsnn.LI(0.5), "b": jsnn.LI(0.1)}, [("input", "a"), ("a", "b"), ("b", "a"), ("b", "output")]
    ),
}


@pytest.mark.rows(1)
@pytest.mark.parametrize("make", NETWORKS_OF_ALL_KINDS.values(), ids=NETWORKS_OF_ALL_KINDS.keys())
def test_networks_refuse_a_state_of_another_batch_and_the_other_order(make):
    network = make()
    state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(lambda: network.init((8, 5))))
    for run in (jsnn.unroll, jsnn.record):
        with pytest.raises(ValueError, match=r"state must hold arrays of shapes .* got .*\(8, 5\)"):
            run(network, VECTORS[:, :1], state)
        with pytest.raises(ValueError, match="state must hold arrays of shapes"):
            run(network, VECTORS[0, :1], state, num_steps=T)
    with pytest.raises(ValueError, match=r"state must hold arrays of shapes|must be of one shape"):
        network.step(state, VECTORS[0, :1])
    with pytest.raises((TypeError, ValueError), match=r"step takes \(state, current\), "):
        network.step(VECTORS[0], state)
    with pytest.raises(TypeError, match=rf"{type(network).__name__} is not called, as its state is passed in and out"):
        network(VECTORS[0])
    state, outputs = jax.eval_shape(network.step, network.init((B, 5)), VECTORS[0])
    assert jax.eval_shape(jsnn.unroll, network, VECTORS, state)[1].shape == (T, *outputs.shape)


@pytest.mark.parametrize("options", [{}, {"remat": 2}], ids=["at once", "in chunks"])
def test_a_number_that_no_array_holds_is_not_a_state(options):
    with pytest.raises(ValueError, match="state must hold arrays of shapes"):
        jsnn.unroll(jsnn.LIF(), jnp.ones((2, 3)), 10**39, num_steps=4, **options)


# Truncated backpropagation through time


def in_parts(network, inputs, num_steps=None, *, truncate):
    """What a training loop does by hand: a part after the other, the state handed on without its gradient."""
    total = len(inputs) if num_steps is None else num_steps
    state, outputs = None, []
    for start in range(0, total, truncate):
        stop = min(start + truncate, total)
        x, steps = (inputs[start:stop], None) if num_steps is None else (inputs, stop - start)
        state, y = jsnn.unroll(network, x, state, num_steps=steps)
        outputs.append(y)
        if stop < total:
            state = jax.tree.map(jax.lax.stop_gradient, state)
    return state, jnp.concatenate(outputs)


@pytest.mark.rows(1)
@pytest.mark.parametrize("truncate", [4, 1, 5, 10, 64])
@pytest.mark.parametrize(("make", "num_steps"), [(nested, T), (recurrent, None)])
def test_truncation_is_a_loop_over_parts(make, num_steps, truncate):
    network, inputs = make(), VECTORS if num_steps is None else VECTORS[0]
    by_hand = functools.partial(in_parts, truncate=truncate)
    expected = outputs_and_gradients(by_hand, network, inputs, num_steps=num_steps)
    found = outputs_and_gradients(jsnn.unroll, network, inputs, num_steps=num_steps, truncate=truncate)
    assert_trees_close(found, expected)
    whole = outputs_and_gradients(jsnn.unroll, network, inputs, num_steps=num_steps)
    assert_trees_close(found[0], whole[0])
    gradients = zip(*map(jax.tree.leaves, (found[1], whole[1])))
    assert all(np.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in gradients) == (truncate >= T)


def test_truncation_keeps_the_gradient_of_the_first_state_and_of_the_last():
    neuron = jsnn.LI(0.5)

    def last(v, **options):
        state, outputs = jsnn.unroll(neuron, VECTORS, neuron.init((B, 5))._replace(v=v), truncate=4, **options)
        return outputs[3].sum(), state.v.sum()

    first, after = jax.jacrev(last)(jnp.zeros((B, 5)))
    np.testing.assert_allclose(first, 0.5**4)
    assert not after.any()
    for remat in (False, 3):
        gradient = jax.grad(lambda x: jsnn.unroll(neuron, x, truncate=4, remat=remat)[0].v.sum())(VECTORS)  # noqa: B023
        np.testing.assert_allclose(gradient[:, 0, 0], [*[0.0] * 8, 0.5, 1.0])  # of the last of the chunks of 4, 4 and 2


@pytest.mark.parametrize("truncate", [0, -3])
def test_a_truncation_below_one_step_is_refused(truncate):
    with pytest.raises(ValueError, match=f"truncate must be a number of steps >= 1, .* got {truncate}"):
        jsnn.unroll(jsnn.LIF(), VECTORS, truncate=truncate)


def test_a_large_static_input_of_a_network_with_few_outputs():
    sums = jsnn.Sequential(lambda x: x.sum(-1, keepdims=True), jsnn.LI(0.5))
    outputs = jsnn.unroll(sums, jnp.ones((1, 2**22)), num_steps=2**18)[1]  # tiled over time it would take 4 TiB
    assert outputs.shape == (2**18, 1, 1)
