"""A converted network is a Neuron like any other: it runs, streams, trains and is saved."""

import copy
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jsnn
from jsnn.checkpoint import Checkpoints
from jsnn.conversion.network import replace
from jsnn.network import neurons_of
from jsnn.neurons.pytree import with_dt

T, B = 6, 2
SHAPE = (4,)


def drawn(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


INPUTS = drawn(B, *SHAPE)
MOVING = drawn(T, B, *SHAPE)  # inputs that vary in time


def initial(key, shape, dtype, *_):
    """An initialiser that takes less time to compile than JAX's."""
    return drawn(*shape, seed=sum(shape)).astype(dtype)


def linear(size_in, size_out):
    return nnx.Linear(size_in, size_out, kernel_init=initial, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def model():
    first, second, last = linear(4, 5), linear(5, 6), linear(6, 3)
    model = nnx.Sequential(first, nnx.BatchNorm(5, rngs=nnx.Rngs(0)), nnx.relu, second, nnx.relu, last)
    model.eval()
    return model


@pytest.fixture(scope="module")
def network(model):
    return jsnn.convert(model, INPUTS, scale_firing_rates=4, synapse=2.0, dt=1.0, v_init=0.5)


@functools.partial(jax.jit, static_argnames=("num_steps", "remat"))
def unroll(network, x, **options):
    return jsnn.unroll(network, x, **options)[1]


def static(network, x=INPUTS, **options):
    return unroll(network, x, num_steps=T, **options)


def step_by_step(network, moving):
    state, outputs = network.init(moving.shape[1:], moving.dtype), []
    for x in moving:
        state, y = network.step(state, x)
        outputs.append(y)
    return jnp.stack(outputs)


def close(ours, theirs, tolerance=1e-5):
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def test_step_by_step(network):
    outputs = jax.jit(step_by_step)(network, MOVING)
    assert outputs.shape == (T, B, 3)
    assert len(np.unique(np.asarray(outputs), axis=0)) > 2
    close(outputs, unroll(network, MOVING))


def test_jit_and_a_static_input(network):
    eager = jsnn.unroll(network, INPUTS, num_steps=T)[1]
    close(static(network), eager)
    close(unroll(network, np.broadcast_to(INPUTS, (T, *INPUTS.shape))), eager)


def test_vmap(network):
    batches = drawn(3, *INPUTS.shape)
    close(jax.jit(jax.vmap(lambda x: static(network, x)))(batches), [static(network, x) for x in batches])


def test_each_input_of_a_batch_is_on_its_own(network):
    many = drawn(4, *SHAPE, seed=3)
    close(np.asarray(static(network, many))[:, 1:3], static(network, many[1:3]))


def test_going_on_from_a_state(network):
    run = jax.jit(jsnn.unroll)
    state, first = run(network, MOVING[:3])
    last, second = run(network, MOVING[3:], state)
    everything, outputs = run(network, MOVING)
    close(np.concatenate([first, second]), outputs)
    assert jax.tree.structure(state) == jax.tree.structure(network.init(INPUTS.shape)) == jax.tree.structure(last)
    jax.tree.map(close, last, everything)


def test_state_is_a_pair_for_each_activation(network):
    states = network.init(INPUTS.shape)
    assert [(neuron.v.shape, synapse.y.shape) for neuron, synapse in states] == [
        (shape, shape) for shape in network.shapes
    ]
    assert network.shapes == ((B, 5), (B, 6))
    alone = jsnn.convert(jax.nn.relu, INPUTS)
    assert alone.init((7,), jnp.bfloat16)[0][0].v.dtype == jnp.bfloat16
    assert alone.init((7,))[0][1] == ()


@pytest.mark.slow
def test_a_shape_first_seen_inside_jit(model):
    network = jsnn.convert(model, INPUTS)
    x = drawn(3, *SHAPE)
    close(static(network, x), jax.vmap(lambda x: static(network, x[None])[:, 0], out_axes=1)(x))
    assert network.rates(x)[1].shape == (3, 3)


def test_bfloat16():
    weights = drawn(4, 3)

    def model(x):
        return jax.nn.relu(x) @ weights.astype(x.dtype)

    x = drawn(B, 4).astype(jnp.bfloat16)
    network = jsnn.convert(model, drawn(B, 4), dt=64.0, v_init=0.5)
    outputs = static(network, x)
    assert outputs.dtype == jnp.bfloat16
    close(outputs.mean(0).astype(jnp.float32), model(x).astype(jnp.float32), 0.05)
    assert network.rates(x)[1].dtype == jnp.bfloat16
    assert jsnn.convert(model, x).init((B, 4), jnp.bfloat16)[0][0].v.dtype == jnp.bfloat16


def products(jaxpr):
    """The shapes that convolutions and matrix products take, outside of loops."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("conv_general_dilated", "dot_general"):
            yield equation.invars[0].aval.shape
        for name in ("jaxpr", "call_jaxpr"):
            if name in equation.params and equation.primitive.name != "scan":
                inner = equation.params[name]
                yield from products(getattr(inner, "jaxpr", inner))


def convolve(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def test_what_is_static_is_computed_once_and_the_rest_for_all_steps_at_once():
    first, second, dense = drawn(3, 3, 2, 3), drawn(3, 3, 3, 4), drawn(64, 5)

    def model(x):
        x = jax.nn.relu(convolve(jax.nn.relu(convolve(x, first)), second))
        return x.reshape(x.shape[0], -1) @ dense

    image = drawn(B, 4, 4, 2)
    network = jsnn.convert(model, image)
    jaxpr = jax.make_jaxpr(lambda x: static(network, x))(image)
    assert list(products(jaxpr.jaxpr)) == [(B, 4, 4, 2), (T * B, 4, 4, 3), (T * B, 64)]
    jaxpr = jax.make_jaxpr(lambda x: unroll(network, x))(drawn(T, B, 4, 4, 2))
    assert list(products(jaxpr.jaxpr)) == [(T * B, 4, 4, 2), (T * B, 4, 4, 3), (T * B, 64)]


def test_a_branch_that_stays_static():
    first, second = drawn(4, 3), drawn(4, 3, seed=1)
    network = jsnn.convert(lambda x: jax.nn.relu(x @ first) + x @ second, drawn(B, 4), dt=100.0)
    jaxpr = jax.make_jaxpr(lambda x: static(network, x))(drawn(B, 4))
    assert list(products(jaxpr.jaxpr)) == [(B, 4), (B, 4)]
    state = network.init((B, 4))
    close(static(network, drawn(B, 4))[0], network.step(state, drawn(B, 4))[1])


def test_record(network):
    records = jsnn.record(network, INPUTS, num_steps=T)
    names = [f"{index}_relu{part}" for index in range(2) for part in ("", "/synapse")]
    assert list(records) == [*names, "output"]
    assert records["0_relu"].outputs.shape == records["0_relu"].states.v.shape == (T, B, 5)
    assert records["1_relu/synapse"].states.y.shape == (T, B, 6)
    close(records["output"].outputs, static(network))
    spikes = records["0_relu"].outputs * 4  # 1 / (scale * dt) high
    close(spikes, spikes.round())
    assert spikes.max() > 1
    lowpass = jsnn.filters.Lowpass(2.0, 1.0, delay=True)
    close(records["0_relu/synapse"].outputs, unroll(lowpass, records["0_relu"].outputs))
    assert jsnn.record(network, MOVING, keep=["outputs"])["1_relu"].states == ()


@pytest.mark.slow
def test_as_a_layer(network):
    layers = jsnn.Sequential(network, jsnn.LI(0.5))
    records = jax.jit(lambda layers: jsnn.record(layers, INPUTS, num_steps=T))(layers)
    assert sorted(records)[::4] == ["0_Converted/0_relu", "0_Converted/output"]
    close(records["1_LI"].outputs, unroll(jsnn.LI(0.5), static(network)))
    close(jax.jit(step_by_step)(layers, MOVING), unroll(layers, MOVING))


def test_rates(network, model):
    rates, outputs = network.rates(INPUTS)
    assert [(name, x.shape) for name, x in rates.items()] == list(zip(network.names, network.shapes))
    close(outputs, model(INPUTS), 1e-6)
    close(rates["0_relu"], jax.nn.relu(model.layers[1](model.layers[0](INPUTS))), 1e-6)


@pytest.mark.slow
def test_remat(network):
    graph, params, rest = nnx.split(network, nnx.Param, ...)

    def loss(params, **options):
        return jnp.mean(static(nnx.merge(graph, params, rest), **options) ** 2)

    plain = jax.jit(jax.value_and_grad(loss))(params)
    jax.tree.map(close, jax.jit(jax.value_and_grad(lambda params: loss(params, remat=4)))(params), plain)


def test_gradients(network):
    graph, params, rest = nnx.split(network, nnx.Param, ...)

    def loss(run, params, x):
        return jnp.mean(run(nnx.merge(graph, params, rest), x) ** 2)

    layerwise = jax.jit(jax.grad(lambda *args: loss(unroll, *args), (0, 1)))(params, MOVING)
    stepwise = jax.jit(jax.grad(lambda *args: loss(step_by_step, *args), (0, 1)))(params, MOVING)
    jax.tree.map(lambda ours, theirs: close(ours, theirs, 1e-4), layerwise, stepwise)
    for gradient in jax.tree.leaves(layerwise):
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 0


@pytest.mark.slow
def test_gradients_of_convolutions():
    """Their derivatives are jsnn's own, and run for all time steps at once."""
    convolution = jsnn.Conv(1, 2, (3, 3), use_bias=False, kernel_init=initial, rngs=nnx.Rngs(0))
    moving = drawn(3, 1, 4, 4, 1)
    network = jsnn.convert(lambda x: jax.nn.relu(convolution(x)), moving[0])
    kernel = convolution.kernel[...]
    (expected,) = jax.vjp(lambda kernel: jax.nn.relu(convolve(moving[:, 0], kernel)), kernel)[1](jnp.ones((3, 4, 4, 2)))

    (gradient,) = jax.tree.leaves(jax.grad(lambda network: unroll(network, moving).sum())(network))
    close(gradient, expected)


@pytest.mark.slow
def test_fine_tuning_saving_and_restoring(network, model, tmp_path):
    labels = jnp.array([2, 0])

    def loss(network, inputs, labels, key):
        losses = optax.softmax_cross_entropy_with_integer_labels(static(network, inputs).mean(0), labels)
        return losses.mean(), {"loss": losses}

    optimizer = optax.adam(0.03)
    graph, state = jsnn.train.create(network, optimizer)
    step = jax.jit(jsnn.train.make_step(graph, loss, optimizer))
    losses = []
    for _ in range(10):
        state, metrics = step(state, (INPUTS, labels), jax.random.key(0))
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.7 * losses[0]
    statistics = nnx.state(jsnn.train.network_of(graph, state), nnx.BatchStat)["weights"]
    jax.tree.map(np.testing.assert_array_equal, statistics, nnx.state(model, nnx.BatchStat))

    Checkpoints(tmp_path).save(10, state, {})
    fresh = jsnn.convert(model, INPUTS, scale_firing_rates=4, synapse=2.0, dt=1.0, v_init=0.5)
    graph, like = jsnn.train.create(fresh, optimizer)
    restored, _ = Checkpoints(tmp_path, read_only=True).restore(10, like)
    tuned = static(jsnn.train.network_of(graph, state))
    np.testing.assert_array_equal(static(jsnn.train.network_of(graph, restored)), tuned)
    assert not np.allclose(tuned, static(network))


@pytest.mark.slow
def test_weights_of_a_closure_are_trained_too():
    weights = drawn(4, 3)
    x = drawn(B, 4)
    network = jsnn.convert(lambda x: jax.nn.relu(x @ weights) @ weights.T, x, dt=100.0, v_init=0.5)
    graph, params, rest = nnx.split(network, nnx.Param, ...)

    def loss(params):
        return jnp.mean(static(nnx.merge(graph, params, rest), x) ** 2)

    (gradient,) = jax.tree.leaves(jax.grad(loss)(params))

    def rate_loss(weights):
        return jnp.mean((jax.nn.relu(x @ weights) @ weights.T) ** 2)

    close(gradient, jax.grad(rate_loss)(weights), 0.05)


@pytest.mark.slow
def test_parameters_of_neurons_and_filters_are_trained_each_for_itself(model):
    amplitude, tau = nnx.Param(jnp.ones(())), nnx.Param(jnp.full((), 2.0))
    network = jsnn.convert(
        model,
        INPUTS,
        swap={jax.nn.relu: jsnn.SpikingActivation(amplitude=amplitude)},
        synapse=jsnn.filters.Lowpass(tau),
        dt=1.0,
        v_init=0.5,
    )
    graph, params, rest = nnx.split(network, nnx.Param, ...)
    gradient = jax.grad(lambda params: jnp.mean(static(nnx.merge(graph, params, rest)) ** 2))(params)
    for part, name in (("neurons", "neuron"), ("synapses", None)):
        first, second = (gradient[part][index][name] if name else gradient[part][index] for index in range(2))
        assert jax.tree.leaves(first) != jax.tree.leaves(second)


def test_replace_leaves_the_original(network):
    silent = replace(network, neurons=network.neurons, synapses=[None] * 2)
    assert [synapse is None for synapse in silent.synapses] == [True] * 2
    assert all(synapse is not None for synapse in network.synapses)
    close(silent.rates(INPUTS)[1], network.rates(INPUTS)[1])
    assert not np.allclose(static(silent), static(network))


def test_another_dt(network, model):
    slower = with_dt(network, 0.5)
    fresh = jsnn.convert(model, INPUTS, scale_firing_rates=4, synapse=2.0, dt=0.5, v_init=0.5)
    close(static(slower), static(fresh))
    close(jax.jit(lambda dt: jsnn.unroll(with_dt(network, dt), INPUTS, num_steps=T)[1])(0.5), static(fresh))


@pytest.mark.parametrize("around", [lambda network: network, jsnn.Sequential], ids=["alone", "inside"])
def test_a_deep_copy_is_a_network_of_its_own(network, around):
    network = around(network)
    twin, neuron = copy.deepcopy((network, jsnn.SpikingActivation()))
    parts, others = ({id(p) for _, p in nnx.iter_graph(n) if isinstance(p, nnx.Pytree)} for n in (network, twin))
    assert parts.isdisjoint(others)
    jax.tree.map(np.testing.assert_array_equal, (twin, neuron), (network, jsnn.SpikingActivation()))
    assert type(copy.deepcopy(nnx.Dict(network=network)).network) is type(network)


def test_its_neurons_have_the_names_of_the_report(network):
    found = neurons_of(jsnn.Sequential(network))
    assert list(found) == [f"0_Converted/{row.name}" for row in network.report.rows]
    assert list(found.values()) == list(network.neurons)


def test_it_prints(network):
    assert "SpikingActivation" in repr(network)
