"""Online learning: neurons and rules against backpropagation through time, or against a paper's formula by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from test_neurons import NEURONS

import jsnn
from jsnn import online

T, B, IN, N = 12, 3, 5, 4
DRAWS = np.random.default_rng(0)
INPUTS = jnp.asarray(DRAWS.random((T, B, IN)) < 0.4, jnp.float32)
TARGETS = jnp.asarray(DRAWS.normal(size=(T, B, N)), jnp.float32)
IMAGES = jnp.asarray(DRAWS.random((T, B, 4, 4, 2)) < 0.4, jnp.float32)
RULES = ["rtrl", "eprop", "ottt", "sltt", "decolle"]
CHAOTIC = {"Izhikevich": 1e-4, "Izhikevich_trained": 1e-4}


def squares(outputs, targets):
    return jnp.mean((outputs - targets) ** 2)


def dense(neuron, inputs=IN, scale=1.0, **options):
    init = {"kernel_init": nnx.initializers.normal(scale), "bias_init": nnx.initializers.normal(0.1)}
    return jsnn.Sequential(nnx.Linear(inputs, N, rngs=nnx.Rngs(1), **init, **options), neuron)


def conv(neuron, scale=0.5):
    init = {"kernel_init": nnx.initializers.normal(scale), "bias_init": nnx.initializers.normal(0.1)}
    return jsnn.Sequential(jsnn.Conv(2, N, (3, 3), strides=2, rngs=nnx.Rngs(1), **init), neuron)


def two_layers(hidden=None, readout=None, neurons=6):
    hidden, readout = hidden or jsnn.LIF(0.9, threshold=0.5), readout or jsnn.LI(0.8)
    first, second = nnx.Linear(IN, neurons, rngs=nnx.Rngs(2)), nnx.Linear(neurons, N, rngs=nnx.Rngs(3))
    return jsnn.Sequential(first, hidden, second, readout)


def recurrent(neuron=None):
    neuron = neuron or jsnn.ALIF(0.9, threshold=0.4)
    return two_layers(jsnn.Recurrent(neuron, nnx.Linear(6, 6, rngs=nnx.Rngs(4))))


@functools.partial(jax.jit, static_argnums=0)
def _bptt(graph, params, rest, inputs, targets):
    def loss(params):
        outputs = jsnn.unroll(nnx.merge(graph, params, rest), inputs)[1]
        return jnp.mean(jax.vmap(squares)(outputs, targets))

    return jax.value_and_grad(loss)(params)


def bptt(network, inputs=INPUTS, targets=TARGETS):
    graph, params, rest = nnx.split(network, nnx.Param, ...)
    return _bptt(graph, params, rest, inputs, targets)


def learned(network, rule, inputs=INPUTS, targets=TARGETS, loss=squares):
    graph, params, rest = nnx.split(network, nnx.Param, ...)
    learn = online.gradient(network, loss, rule=rule)
    return jax.jit(lambda params, *data: learn(nnx.merge(graph, params, rest), *data))(params, inputs, targets)


def flat(gradient):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(gradient)])


def assert_equal(found, expected, tolerance=1e-5):
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    expected, found = flat(expected[1]), flat(found[1])
    assert np.abs(expected).max() > 0
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


def cosine(one, other):
    one, other = flat(one[1]), flat(other[1])
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


WITH_MEMORIES = ("SlidingPSN", "Recurrent", "Delay", "Sequential")
ELEMENTWISE = [name for name in NEURONS if not name.startswith(WITH_MEMORIES)]


@pytest.mark.rows(6)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_rtrl_of_a_dense_layer_of_any_neuron_is_exact(name):
    network = dense(NEURONS[name], scale=20.0 if name in CHAOTIC else 1.0)
    assert_equal(learned(network, "rtrl"), bptt(network), CHAOTIC.get(name, 1e-5))


@pytest.mark.rows(2)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_rtrl_of_a_convolution_of_any_neuron_is_exact(name):
    network, targets = conv(NEURONS[name], 20.0 if name in CHAOTIC else 0.5), TARGETS[:, :, None, None]
    targets = jnp.broadcast_to(targets, (T, B, 2, 2, N))
    assert_equal(learned(network, "rtrl", IMAGES, targets), bptt(network, IMAGES, targets), CHAOTIC.get(name, 1e-5))


def delayed():
    return jsnn.Sequential(jsnn.DelayedLinear(IN, N, max_delay=3, rngs=nnx.Rngs(0)), jsnn.LIF(0.9, threshold=0.5))


def normalised():
    network = dense(jsnn.LIF(0.9))
    layers = [network.layers[0], nnx.BatchNorm(N, rngs=nnx.Rngs(0)), network.layers[1]]
    network = jsnn.Sequential(*layers)
    network.eval()
    return network


class Skipping(nnx.Module):
    """Two products that are added, one of them scaled by a parameter of each neuron."""

    def __init__(self):
        self.one, self.other = (nnx.Linear(IN, N, rngs=nnx.Rngs(seed)) for seed in (0, 1))
        self.scale, self.lif = nnx.Param(jnp.linspace(0.5, 1.5, N)), jsnn.LIF(0.8)

    def __call__(self, x):
        return self.lif(self.one(x) * self.scale[...] + self.other(x))


class Fixed(nnx.Module):
    """A product whose weights, or what it gives, are multiplied with fixed numbers."""

    def __init__(self, mask, scale):
        self.linear, self.lif = nnx.Linear(IN, N, rngs=nnx.Rngs(0)), jsnn.LIF(0.9)
        self.mask, self.scale = nnx.data(mask), nnx.Variable(scale)

    def __call__(self, x):
        return self.lif((x @ (self.linear.kernel[...] * self.mask) + self.linear.bias[...]) * self.scale[...])


class Turned(nnx.Module):
    """Weights of each channel, whose channels then change places."""

    def __init__(self, places):
        self.weight, self.lif, self.places = nnx.Param(jnp.linspace(0.5, 1.5, N)), jsnn.LIF(0.9), jnp.array(places)

    def __call__(self, x):
        return self.lif((x[..., :N] * self.weight[...])[..., self.places])


class Function(nnx.Module):
    """A function of what it has besides neurons, and of an input."""

    def __init__(self, function, neuron=None, **arrays):
        self.function, self.neuron = function, neuron or jsnn.LIF(0.9, threshold=0.5)
        for name, array in arrays.items():
            setattr(self, name, nnx.Param(array))

    def __call__(self, x):
        return self.function(self, x)


KERNEL = jnp.asarray(DRAWS.normal(size=(IN, N)), jnp.float32)
KINKS = {
    "large weights are clipped": (lambda m, x: m.neuron(x @ jnp.clip(m.w[...], -5, 5)), 5),
    "small weights are cut off": (lambda m, x: m.neuron(x @ (m.w[...] * (jnp.abs(m.w[...]) > 0.02))), 0.05),
    "inputs switch": (lambda m, x: m.neuron(jnp.where(x[:, :1] > 0, x @ m.w[...], 2 * x @ m.w[...])), 1),
}


@pytest.mark.parametrize("name", KINKS)
def test_weights_and_inputs_may_have_kinks_of_any_size(name):
    function, scale = KINKS[name]
    network = jsnn.Network(Function(function, w=scale * KERNEL))
    assert_equal(learned(network, "rtrl"), bptt(network))


def test_a_kink_is_found_in_a_single_weight():
    function = lambda m, x: m.neuron(x[:, :1] + jnp.minimum(m.w[...], 0))  # noqa: E731
    network = jsnn.Network(Function(function, jsnn.LIF(0.9, reset="none"), w=jnp.array([-0.5])))
    assert_equal(learned(network, "rtrl", targets=TARGETS[..., :1]), bptt(network, targets=TARGETS[..., :1]))


def sparse(post):
    return jsnn.Sequential(jsnn.Sparse(IN, N, [range(N), post], jnp.linspace(0.5, 1.5, N)), jsnn.LIF(0.9))


class Plain(jsnn.Neuron):
    """A neuron that JAX does not know as a pytree."""

    def init(self, shape, dtype=jnp.float32):
        return jnp.zeros(shape, dtype)

    def step(self, state, current):
        v = 0.9 * state + current
        return v - jnp.tanh(v), jax.nn.sigmoid(v)


class ByName(nnx.Module):
    """What `two_layers` is, as a function; the readout has a path for a name."""

    def __init__(self):
        self.first, self.hidden, self.second, self.readout = two_layers().layers

    def __call__(self, x):
        return self.readout(self.second(self.hidden(self.first(x))))


def ten_layers_more():
    first, hidden, *last = two_layers().layers
    return jsnn.Sequential(first, hidden, *[lambda x: 1.0 * x] * 10, *last)


EXACT = {
    "a class of one's own": lambda: dense(Plain()),
    "a readout in a network of any shape": lambda: jsnn.Network(ByName()),
    "many layers, whose names sort otherwise": ten_layers_more,
    "a readout that leaks": two_layers,
    "a readout with a current": lambda: two_layers(readout=jsnn.CuBaLI(0.9, 0.7)),
    "a function of a readout": lambda: jsnn.Sequential(
        *two_layers().layers, jax.nn.softmax, nnx.Linear(N, N, rngs=nnx.Rngs(4))
    ),
    "a readout without memory": lambda: jsnn.Sequential(*two_layers().layers[:3]),
    "an early current": lambda: two_layers(readout=jsnn.CuBaLI(0.9, 0.7, synapse_order="jump_then_decay")),
    "delays": delayed,
    "batch normalisation": normalised,
    "a network of any shape": lambda: jsnn.Network(Skipping()),
    "a fixed mask": lambda: jsnn.Network(Fixed(DRAWS.random((IN, N)) < 0.5, jnp.ones(N))),
    "fixed scales": lambda: jsnn.Network(Fixed(jnp.ones((IN, N)), jnp.linspace(0.5, 1.5, N))),
    "synapses from one to one": lambda: sparse(range(N)),
    "a network in a network": lambda: jsnn.Sequential(dense(jsnn.LIF(0.9))),
    "trained neurons": lambda: two_layers(jsnn.LIF(nnx.Param(jnp.array(0.9)), threshold=nnx.Param(jnp.full(6, 0.5)))),
}


@pytest.mark.rows(3)
@pytest.mark.parametrize("name", EXACT)
def test_rtrl_is_exact_where_it_says_so(name):
    network = EXACT[name]()
    assert_equal(learned(network, "rtrl"), bptt(network))


@pytest.mark.parametrize("name", ["a fixed mask", "fixed scales"])
def test_what_is_fixed_may_be_traced(name):
    network = EXACT[name]()
    found = nnx.jit(online.gradient(network, squares))(network, INPUTS, TARGETS)
    assert_equal(found, bptt(network))


@pytest.mark.parametrize("is_traced", [False, True])
@pytest.mark.parametrize("make", [lambda: jsnn.Network(Turned([2, 1, 0, 3])), lambda: sparse([2, 1, 0, 3])])
def test_channels_that_change_places_are_told_from_those_that_do_not(make, is_traced):
    network = make()
    learn = online.gradient(network, squares)
    with pytest.raises(ValueError, match="does not lead to one channel of its neurons alone"):
        (nnx.jit(learn) if is_traced else learn)(network, INPUTS, TARGETS)


def test_a_kink_is_found_in_a_single_number():
    network = jsnn.Sequential(nnx.Linear(1, 1, rngs=nnx.Rngs(0)), jax.nn.relu, jsnn.LIF(0.9, reset="none"))
    assert {online.make_plan(network, jnp.ones((1, 1)), "rtrl").layers[0].kept} == {"full"}


@pytest.mark.slow
def test_pooling_between_a_convolution_and_its_neurons():
    layers = [jsnn.Conv(2, N, (3, 3), rngs=nnx.Rngs(0)), jsnn.max_pool, jsnn.LIF(0.9, threshold=0.3)]
    network, targets = jsnn.Sequential(*layers), jnp.ones((T, B, 2, 2, N))
    assert_equal(learned(network, "rtrl", IMAGES, targets), bptt(network, IMAGES, targets))


def traces_by_hand(network, decay, memory):
    """The gradient of a layer without reset, from the formulas of the papers, step by step in numpy."""
    kernel = np.asarray(network.layers[0].kernel[...])
    neuron, v, trace = network.layers[1], np.zeros((B, N)), np.zeros((B, IN))
    slope = jax.vmap(jax.vmap(jax.grad(lambda v: neuron.surrogate(v))))
    total = np.zeros_like(kernel)
    for x, target in zip(np.asarray(INPUTS), np.asarray(TARGETS)):
        v = decay * v + x @ kernel + np.asarray(network.layers[0].bias[...])
        z, psi = (v > 1).astype(float), np.asarray(slope(jnp.asarray(v - 1.0, jnp.float32)))
        trace = decay * trace * memory + x
        total += trace.T @ (2 * (z - target) / (B * N) * psi)
        v -= z
    return total / T


@pytest.mark.parametrize(("rule", "memory"), [("ottt", 1), ("sltt", 0), ("eprop", 1)])
def test_a_rule_is_the_formula_of_its_paper(rule, memory):
    network = dense(jsnn.LIF(0.9))
    found = learned(network, rule)[1]["layers"][0]["kernel"][...]
    np.testing.assert_allclose(found, traces_by_hand(network, 0.9, memory), rtol=1e-4, atol=1e-7)


def test_eprop_filters_the_traces_by_the_readout():
    network = two_layers()
    hidden, readout = network.layers[1], network.layers[3]
    slope = jax.vmap(jax.vmap(jax.grad(lambda v: hidden.surrogate(v))))
    first, second = (np.asarray(network.layers[i].kernel[...]) for i in (0, 2))
    v, y, total = np.zeros((B, 6)), np.zeros((B, N)), np.zeros((IN, 6))
    trace, eligible = np.zeros((B, IN)), np.zeros((B, IN, 6))
    for x, target in zip(np.asarray(INPUTS), np.asarray(TARGETS)):
        v = 0.9 * v + x @ first
        z, psi = (v > 0.5).astype(float), np.asarray(slope(jnp.asarray(v - 0.5, jnp.float32)))
        v -= 0.5 * z
        y = readout.decay * y + z @ second
        trace = 0.9 * trace + x
        eligible = readout.decay * eligible + trace[:, :, None] * psi[:, None]
        signal = (2 * (y - target) / (B * N)) @ second.T
        total += np.einsum("bij,bj->ij", eligible, signal)
    found = learned(network, "eprop")[1]["layers"][0]["kernel"][...]
    np.testing.assert_allclose(found, total / T, rtol=1e-4, atol=1e-6)


@pytest.mark.rows(2)
@pytest.mark.parametrize("rule", [*RULES, online.eprop(feedback="random"), online.rtrl(readout_memory=False)], ids=str)
def test_rules_point_the_way_of_bptt_in_a_recurrent_network(rule):
    network = recurrent()
    found, expected = learned(network, rule), bptt(network)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    if getattr(rule, "signal", "space") != "feedback":  # a random matrix points anywhere before training
        assert cosine(found, expected) > 0.2
    last = [gradient["layers"][2]["kernel"][...] for gradient in (found[1], expected[1])]
    if rule != "sltt":  # the readout's own weights are exact by all others
        np.testing.assert_allclose(*last, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_recurrent_layers_with_delays_learn():
    synapse = jsnn.DelayedLinear(6, 6, max_delay=2, rngs=nnx.Rngs(0))
    network = two_layers(jsnn.Recurrent(jsnn.LIF(0.9, threshold=0.4), synapse, delay=2))
    found, expected = learned(network, "rtrl"), bptt(network)
    assert cosine(found, expected) > 0.5
    assert np.abs(found[1]["layers"][1]["synapse"]["kernel"][...]).max() > 0


@pytest.mark.slow
def test_trained_feedback_is_part_of_the_network_and_follows_the_readout():
    network = two_layers()
    with pytest.raises(ValueError, match="with_feedback"):
        online.gradient(network, squares, rule=online.eprop(feedback="trained"))(network, INPUTS, TARGETS)
    network = online.with_feedback(network, (B, IN), rngs=nnx.Rngs(7))
    np.testing.assert_array_equal(jsnn.unroll(network, INPUTS)[1], jsnn.unroll(two_layers(), INPUTS)[1])
    rule = online.eprop(feedback="trained", readout_memory=False)
    gradient = learned(network, rule)[1]
    assert gradient["feedback"]["1_LIF"].shape == (N, 6)
    assert np.abs(gradient["feedback"]["1_LIF"][...]).max() > 0


PLANS = {
    "a reset": (lambda: dense(jsnn.LIF(0.9)), "rtrl", "full", B * IN * N + B * N),
    "no reset": (lambda: dense(jsnn.LIF(0.9, reset="none")), "rtrl", "factorised", B * IN),
    "a detached reset": (lambda: dense(jsnn.LIF(0.9, detach_reset=True)), "rtrl", "factorised", B * IN),
    "a reset left out": (
        lambda: dense(jsnn.CuBaLIF(reset="zero")),
        online.eprop(readout_memory=False),
        "factorised",
        2 * B * IN,
    ),
    "two variables": (lambda: dense(jsnn.CuBaLIF(reset="none")), "rtrl", "factorised", 2 * B * IN),
    "a decay for each": (lambda: dense(jsnn.LIF(jnp.full(N, 0.9), reset="none")), "rtrl", "full", B * (IN + 1) * N),
    "a leak": (lambda: dense(jsnn.ALIF()), "ottt", "factorised", 3 * B * IN),
    "nothing": (lambda: dense(jsnn.Izhikevich()), "sltt", "nothing", 0),
}


@pytest.mark.parametrize("case", PLANS)
def test_traces_are_as_small_as_the_neuron_allows(case):
    make, rule, kept, floats = PLANS[case]
    rule = online.RULES[rule]() if isinstance(rule, str) else rule
    plan = online.make_plan(make(), jax.ShapeDtypeStruct((B, IN), jnp.float32), rule)
    assert (plan.layers[0].kept, plan.layers[0].floats) == (kept, floats)
    assert kept in str(plan)


@pytest.mark.rows(1)
@pytest.mark.parametrize("rule", ["rtrl", "ottt"])
def test_memory_does_not_grow_with_time(rule):
    network = two_layers()
    graph, params, rest = nnx.split(network, nnx.Param, ...)
    learn = online.gradient(network, squares, rule=rule)

    def bytes_for(steps):
        def run(params):
            return learn(nnx.merge(graph, params, rest), INPUTS[0], TARGETS[0], num_steps=steps)

        return jax.jit(run).lower(params).compile().memory_analysis().temp_size_in_bytes

    assert bytes_for(1_000_000) == bytes_for(1_000)


def test_a_static_input_is_one_that_stays():
    network = two_layers()
    held = online.gradient(network, squares, rule="rtrl")(network, INPUTS[0], TARGETS[0], num_steps=T)
    tiled = learned(network, "rtrl", jnp.broadcast_to(INPUTS[0], INPUTS.shape), TARGETS[0])
    assert_equal(held, tiled, 1e-6)


def test_a_state_goes_on_where_it_was_left():
    network = dense(jsnn.LIF(0.9, reset="none"))
    state, _ = jsnn.unroll(network, INPUTS[:5])
    learn = online.gradient(network, squares, rule="sltt", with_outputs=True)
    (_, outputs), _ = learn(network, INPUTS[5:], TARGETS[5:], state)
    np.testing.assert_allclose(outputs, jsnn.unroll(network, INPUTS)[1][5:], rtol=1e-5)


@pytest.mark.slow
def test_a_derivative_by_jax_is_the_rule_s():
    network = recurrent()
    value = online.differentiable(squares, rule="ottt")
    found = nnx.value_and_grad(lambda network: value(network, INPUTS, TARGETS).value)(network)
    assert_equal(found, learned(network, "ottt"), 1e-6)
    rates = value(network, INPUTS, TARGETS).rates
    _, layers = jsnn.record(network, INPUTS), jsnn.record(network, INPUTS)
    np.testing.assert_allclose(rates["1_Recurrent"], layers["1_Recurrent"].outputs.mean(0), rtol=1e-5)


def test_fit_trains_by_a_rule():
    labels = np.tile(np.arange(4), 20)
    data = jsnn.data.Dataset(np.eye(4, IN, dtype=np.float32)[labels], labels)
    value = online.differentiable(jsnn.losses.cross_entropy, rule="ottt")

    def loss(network, inputs, labels, key):
        found = value(network, inputs, labels, num_steps=5)
        accuracy = jsnn.metrics.is_correct(found.outputs[-1], labels)
        return found.value, {"loss": found.value, "accuracy": accuracy}

    fitted = jsnn.train.fit(two_layers(), loss, data, optimizer=optax.adam(2e-2), epochs=10, batch_size=20, show=False)
    assert fitted.history[-1]["train_accuracy"] > 0.9


@pytest.mark.rows(1)
@pytest.mark.parametrize("every", [3, 1])
def test_a_learner_takes_the_steps_of_a_loop_by_hand(every):
    network = dense(jsnn.LIF(0.9, reset="none"))
    learner = online.Learner(network, squares, optax.sgd(0.0), rule="ottt", every=every)
    frozen, step = learner.init((B, IN)), jax.jit(learner.step)
    for x, y in zip(INPUTS, TARGETS):
        frozen, outputs = step(frozen, x, y)
    np.testing.assert_allclose(outputs, jsnn.unroll(network, INPUTS)[1][-1], rtol=1e-5)

    learner = online.Learner(network, squares, optax.sgd(0.5), rule="sltt", every=every)
    state, step = learner.init((B, IN)), jax.jit(learner.step)
    by_hand, kept, memory, total = network, [], network.init((B, IN)), 0
    for index, (x, y) in enumerate(zip(INPUTS[:6], TARGETS)):
        state, _ = step(state, x, y)
        _, gradient = online.gradient(by_hand, squares, rule="sltt")(by_hand, x[None], y[None], memory)
        memory, _ = by_hand.step(memory, x)
        kept.append(gradient)
        if (index + 1) % every == 0:
            mean = jax.tree.map(lambda *g: sum(g) / every, *kept)
            params = jax.tree.map(lambda p, g: p - 0.5 * g, nnx.state(by_hand, nnx.Param), mean)
            by_hand, kept, total = nnx.clone(by_hand), [], total + 1
            nnx.update(by_hand, params)
    assert total == 6 // every
    np.testing.assert_allclose(
        learner.network(state).layers[0].kernel[...], by_hand.layers[0].kernel[...], rtol=1e-5, atol=1e-7
    )


def test_a_learner_learns_from_a_stream():
    network = two_layers(neurons=32)
    learner = online.Learner(network, jsnn.losses.cross_entropy, optax.adam(1e-2), rule="rtrl")
    state, step, draws = learner.init((8, IN)), jax.jit(learner.step), np.random.default_rng(0)
    right = []
    for _ in range(60):
        labels = draws.integers(0, N, 8)
        for _ in range(4):
            state, outputs = step(state, jnp.asarray(np.eye(N, IN)[labels], jnp.float32), jnp.asarray(labels))
        right.append(float(jsnn.metrics.accuracy(outputs, jnp.asarray(labels))))
    assert np.mean(right[-20:]) > 0.6  # a quarter by chance
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, learner.init((8, IN)))


def test_bfloat16_inputs_keep_traces_and_states_in_float32():
    network = dense(jsnn.LIF(0.9, reset="none"))
    found = learned(network, "rtrl", INPUTS.astype(jnp.bfloat16))
    assert cosine(found, bptt(network)) > 0.99
    state = online.Learner(network, squares, optax.sgd(0.0)).init((B, IN), jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.carry)} == {jnp.dtype(jnp.float32)}


def test_a_loss_in_bfloat16_is_summed_in_float32():
    network, x, y = dense(jsnn.LI(0.0)), jnp.ones((B, IN)), jnp.ones((B, N))
    learn = online.gradient(network, lambda outputs, targets: jnp.bfloat16(0.75) + 0 * outputs.sum().astype("bfloat16"))
    assert learn(network, x, y, num_steps=1000)[0] == 0.75


@pytest.mark.rows(1)
@pytest.mark.parametrize("rule", ["rtrl", "ottt"])
def test_float64_is_kept(rule):
    with jax.enable_x64(True):
        network = dense(jsnn.LIF(0.9, reset="none"))
        nnx.update(network, jax.tree.map(lambda p: p.astype(jnp.float64), nnx.state(network, nnx.Param)))
        data = INPUTS.astype(jnp.float64), TARGETS.astype(jnp.float64)
        assert_equal(learned(network, rule, *data), bptt(network, *data), 1e-12)


def test_a_learner_sums_gradients_in_float32():
    network = dense(jsnn.LIF(0.9), param_dtype=jnp.bfloat16)
    state = online.Learner(network, squares, optax.sgd(0.1), every=2).init((B, IN))
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype(jnp.bfloat16)}
    assert {leaf.dtype for leaf in jax.tree.leaves(state.gradient)} == {jnp.dtype(jnp.float32)}


def mixing():
    return jsnn.Sequential(nnx.Linear(IN, 6, rngs=nnx.Rngs(0)), nnx.Linear(6, N, rngs=nnx.Rngs(1)), jsnn.LIF(0.9))


def late():
    return jsnn.Sequential(nnx.Linear(IN, N, rngs=nnx.Rngs(0)), jsnn.Delay(2), jsnn.LIF(0.9))


def in_training():
    network = normalised()
    network.train()
    return network


def centred(x):
    return x - x.mean(0)


def of(function):
    return lambda: jsnn.Network(Function(function, w=KERNEL))


def tuned_by_inputs(m, x):
    return jsnn.LIF(0.9, threshold=1 + jnp.abs(x @ m.w[...]))(x @ m.w[...])


MIXES = "the current of an example alone, in a batch of 1, is not what it is among others.*ottt"
ONE = {"inputs": INPUTS[:, 0], "targets": TARGETS[:, 0]}
FAULTS = {
    "mixed examples": (of(lambda m, x: m.neuron(centred(x) @ m.w[...])), {}, MIXES),
    "mixed currents": (of(lambda m, x: m.neuron(centred(x @ m.w[...]))), {}, MIXES),
    "a batch in a shape": (of(lambda m, x: m.neuron(jnp.tanh(x.reshape(B, IN) @ m.w[...]))), {}, MIXES),
    "parameters of data": (of(tuned_by_inputs), {}, "0_LIF: the parameters of LIF change with the inputs"),
    "no batch": (lambda: dense(jsnn.LIF(0.9)), ONE, r"inputs must be \[T, B, ...\].*inputs\[:, None\]"),
    "a rule": (lambda: dense(jsnn.LIF(0.9)), {"rule": "bptt"}, "rule must be one of rtrl, eprop, ottt, sltt, decolle"),
    "a leak": (lambda: dense(jsnn.Izhikevich()), {"rule": "ottt"}, "'ottt' does not fit layer 1_Izhikevich.*rtrl"),
    "many leaks": (lambda: dense(jsnn.LIF(jnp.full(N, 0.9))), {"rule": "decolle"}, "no constant leak.*rtrl, eprop"),
    "a window": (lambda: dense(jsnn.SlidingPSN()), {"rule": "rtrl"}, "1_SlidingPSN: SlidingPSN does not learn online"),
    "mixed channels": (mixing, {"rule": "rtrl"}, r"a number of layers.0.bias does not lead to one channel.*ottt"),
    "lost weights": (late, {"rule": "ottt"}, r"layer 1_Delay: layers.0.bias leads into its delay.*jsnn.DelayedLinear"),
    "training mode": (in_training, {"rule": "ottt"}, r"layers.1: BatchNorm in training mode.*network.eval\(\)"),
    "no weights": (lambda: jsnn.Sequential(jsnn.LIF(0.9)), {"rule": "rtrl"}, "has nothing to train"),
    "a loss ahead": (
        lambda: dense(jsnn.LIF(0.9)),
        {"rule": "ottt", "loss": lambda outputs, targets: jsnn.losses.ce_count_loss(outputs, targets[:, 0] > 0)},
        "loss must be one of a single step.*may not look ahead in time",
    ),
    "no number": (lambda: dense(jsnn.LIF(0.9)), {"loss": lambda y, t: (y - t) ** 2}, "loss must return a number"),
    "targets": (lambda: dense(jsnn.LIF(0.9)), {"targets": jnp.ones((T + 1, B, N))}, r"targets must be \[T, B, ...\]"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_named_with_its_cure(case):
    make, options, message = FAULTS[case]
    network, options = make(), {"rule": "rtrl", "loss": squares, "inputs": INPUTS, "targets": TARGETS} | options
    with pytest.raises(ValueError, match=message):
        online.gradient(network, options["loss"], rule=options["rule"])(network, options["inputs"], options["targets"])


@pytest.mark.parametrize(("x", "y"), [(jnp.ones((0, B, IN)), TARGETS[:0]), (INPUTS[:, :0], TARGETS[:, :0])])
def test_inputs_hold_one_step_and_one_example_or_more(x, y):
    with pytest.raises(ValueError, match="or more, got"):
        online.gradient(dense(jsnn.LIF(0.9)), squares)(dense(jsnn.LIF(0.9)), x, y)


def test_a_long_time_needs_no_memory_for_outputs():
    network, x, y = dense(jsnn.LIF(0.9, reset="none")), INPUTS[0], TARGETS[0]
    jax.eval_shape(lambda: online.gradient(network, squares, rule="ottt")(network, x, y, num_steps=2 * 10**9)[0])


def test_a_learner_takes_several_inputs():
    class Both(nnx.Module):
        def __init__(self):
            self.one, self.other = (nnx.Linear(IN, N, rngs=nnx.Rngs(i)) for i in range(2))
            self.neuron = jsnn.LI(0.5)

        def __call__(self, inputs):
            return self.neuron(self.one(inputs["a"]) + self.other(inputs["b"]))

    learner = online.Learner(jsnn.Network(Both()), squares, optax.sgd(0.1), rule="ottt", every=2)
    state = learner.init({"a": (B, IN), "b": (B, IN)})
    x = {"a": INPUTS, "b": INPUTS[::-1]}
    state, outputs = jax.lax.scan(lambda state, now: learner.step(state, *now), state, (x, TARGETS))
    assert outputs.shape == (T, B, N)
    before = nnx.state(Both(), nnx.Param)
    assert all(not jnp.allclose(a, b) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(state.params)))


def test_a_learner_gives_parameters_within_their_ranges():
    learner = online.Learner(dense(jsnn.LI(nnx.Param(jnp.full(N, 0.9)))), squares, optax.sgd(1e3), rule="sltt")
    state, step = learner.init((B, IN)), jax.jit(learner.step)
    for x, target in zip(INPUTS[:2], TARGETS):
        state, _ = step(state, x, target)
    for params, inside in ((state.params, False), (nnx.state(learner.network(state), nnx.Param), True)):
        decay = params["layers"][1]["decay"][...]
        assert bool(((decay >= 0) & (decay <= 1)).all()) == inside


@pytest.mark.parametrize(
    ("network", "x", "message"),
    [
        (nnx.Linear(IN, N, rngs=nnx.Rngs(0)), INPUTS[0], "make_plan takes a Neuron"),
        (dense(jsnn.LIF(0.9)), INPUTS[0].astype(int), "inputs must be floating point"),
    ],
)
def test_a_plan_is_of_a_network_and_its_inputs(network, x, message):
    with pytest.raises(TypeError, match=message):
        online.make_plan(network, x, "rtrl")


LEARNER_FAULTS = {
    "a shape": (lambda learner: learner.init(3), TypeError, "shape must be a tuple"),
    "no examples": (lambda learner: learner.init((0, IN)), ValueError, "one example or more"),
    "integers": (lambda learner: learner.init((B, IN), jnp.int32), TypeError, "inputs must be floating point"),
    "all steps": (
        lambda learner: learner.step(learner.init((B, IN)), INPUTS[0], TARGETS),
        ValueError,
        r"targets must be \[B, ...\] = \(3, ...\)",
    ),
    "another batch": (
        lambda learner: learner.step(learner.init((B, IN)), INPUTS[0, :2], TARGETS[0, :2]),
        ValueError,
        r"state must be one of this learner for inputs of shape \(2, 5\) at a step: begin anew",
    ),
    "another rule": (
        lambda learner: learner.step(
            online.Learner(dense(jsnn.LIF(0.9)), squares, optax.sgd(0.1), rule="sltt").init((B, IN)),
            INPUTS[0],
            TARGETS[0],
        ),
        ValueError,
        "state must be one of this learner",
    ),
}


@pytest.mark.parametrize("case", LEARNER_FAULTS)
def test_a_learner_refuses(case):
    call, error, message = LEARNER_FAULTS[case]
    with pytest.raises(error, match=message):
        call(online.Learner(dense(jsnn.LIF(0.9, reset="none")), squares, optax.sgd(0.1), rule="ottt"))


def test_feedback_is_one_of_three():
    with pytest.raises(ValueError, match="feedback must be 'symmetric', 'random' or 'trained', got 'none'"):
        online.eprop(feedback="none")


def test_a_learner_updates_after_one_step_or_more():
    with pytest.raises(ValueError, match="every must be >= 1, got 0"):
        online.Learner(dense(jsnn.LIF(0.9)), squares, optax.sgd(0.1), every=0)
