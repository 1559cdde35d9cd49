"""Delays for each synapse, each neuron and in recurrences, against single steps, `dcls` and finite differences."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from golden import close
from jax.test_util import check_grads

import jsnn
from jsnn import delays, train
from jsnn.delays import correlation, per_synapse
from jsnn.types import TimeParallel, Windowed

T, B, LONGEST = 9, 2, 5
GOLDEN = Path(__file__).with_name("data") / "delays_dcls.npz"


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def linear(inputs=3, outputs=4, max_delay=LONGEST, **options):
    return jsnn.DelayedLinear(inputs, outputs, max_delay=max_delay, rngs=nnx.Rngs(0), **options)


def conv(**options):
    return jsnn.DelayedConv(2, 3, (3, 2), max_delay=3, rngs=nnx.Rngs(0), **options)


VECTORS, IMAGES = draw(T, B, 3), draw(T, B, 5, 4, 2)
unroll = jax.jit(jsnn.unroll, static_argnames="method")
LAYERS = {
    "gaussian": (linear(), VECTORS),
    "conv with strides": (conv(strides=(2, 1), padding="VALID", interpolation="triangle", width=2.0), IMAGES),
    "triangle": (linear(interpolation="triangle"), VECTORS),
    "without delay": (linear(max_delay=0), VECTORS),
    "one vector": (linear(), VECTORS[:, 0]),
    "wide": (linear(width=2.5, use_bias=False), VECTORS),
    "conv": (conv(), IMAGES),
    "more axes": (linear(), draw(T, B, 2, 3)),
}
over_layers = pytest.mark.parametrize(("layer", "x"), LAYERS.values(), ids=LAYERS)


@pytest.fixture(params=[False, True], ids=["term by term", "by frequencies"])
def way(request, monkeypatch):
    """Both ways to take all steps at once, whichever is faster."""
    monkeypatch.setattr(per_synapse, "is_faster", lambda *_: request.param)


def by_hand(layer, x):
    """The equations, synapse by synapse, in float64."""
    kernel, delay = (np.asarray(p[...], np.float64) for p in (layer.kernel, layer.delay))
    width, y = float(layer.width), np.zeros((*x.shape[:-1], kernel.shape[1]))
    for i, j in np.ndindex(*kernel.shape):
        k = np.arange(layer.max_delay + 1)
        distance = k - delay[i, j]
        h = np.exp(-((distance / width) ** 2) / 2)
        if layer.interpolation == "triangle":
            h = np.maximum(0, width - np.abs(distance))
        for late, share in zip(k, h / h.sum()):
            y[late:, ..., j] += kernel[i, j] * share * np.asarray(x)[: len(x) - late, ..., i]
    return y + (0 if layer.bias is None else np.asarray(layer.bias[...]))


@pytest.mark.rows(5)
@over_layers
def test_all_steps_at_once_are_single_steps_and_go_on_from_a_state(layer, x, way):
    assert isinstance(layer, Windowed)
    first = state = layer.init(x.shape[1:])
    expected, step = [], jax.jit(layer.step)
    for current in x:
        state, y = step(state, current)
        expected.append(y)
    expected = np.stack(expected)
    assert np.all(expected.std(0) > 0)
    # a function of its own, as what was traced for the other way is not traced again
    unroll = jax.jit(lambda *arguments, **options: jsnn.unroll(*arguments, **options), static_argnames="method")
    after, y = unroll(layer, x)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    np.testing.assert_array_equal(after.past, state.past)
    parts, going = [], first
    for chunk in (x[:4], x[4:5], x[5:]):
        going, y = unroll(layer, chunk, going)
        parts.append(y)
    np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-5)
    np.testing.assert_array_equal(going.past, state.past)
    np.testing.assert_allclose(unroll(layer, x, method="scan")[1], expected, atol=1e-5)
    if "Linear" in type(layer).__name__:
        np.testing.assert_allclose(expected, by_hand(layer, x), atol=1e-5)


def test_a_convolution_with_one_delay_for_all_is_one_after_a_delay():
    layer = conv(interpolation="triangle", strides=(2, 2), delay_init=nnx.initializers.constant(1.5))
    rngs = nnx.Rngs(0)
    same = jsnn.Conv(2, 3, (3, 2), strides=(2, 2), kernel_init=lambda *_: layer.kernel[...], rngs=rngs)
    expected = unroll(jsnn.Sequential(jsnn.Delay(1.5), same), IMAGES)[1]
    np.testing.assert_allclose(unroll(layer, IMAGES)[1], expected, atol=1e-5)


@pytest.mark.rows(3)
@pytest.mark.parametrize(("steps", "taps"), [(3, 8), (1, 1), (40, 1), (100, 5), (301, 7), (250, 30)])
def test_the_way_through_frequencies_is_the_sum(steps, taps):
    x, h = draw(taps - 1 + steps, B, 3), draw(taps, 3, 2, seed=1)
    expected = sum(np.asarray(x[k : k + steps], float) @ np.asarray(h[k], float) for k in range(taps))
    found = jax.jit(lambda x, h: correlation.correlate(x, h, jax.vmap(jnp.matmul)))(x, h)
    np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(expected).max())


def test_the_way_that_is_taken():
    def is_faster(steps, batch, size, taps):
        x, h = (
            jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((taps - 1 + steps, batch, size), (taps, size, size))
        )
        return correlation.is_faster(jnp.zeros(x.shape), jnp.zeros(h.shape), batch * size)

    assert is_faster(100, 64, 64, 26)
    assert not is_faster(100, 64, 64, 1)
    assert not is_faster(100, 1, 64, 26)  # to transform the weights would take longer than to use them
    assert not is_faster(10, 2, 4, 5)  # and small examples come out exact


# Derivatives, and the authors' package


def in_float64(layer, **parameters):
    return layer.replaced(**{name: nnx.Param(jnp.asarray(value, jnp.float64)) for name, value in parameters.items()})


def unroll_in_float64(layer, kernel, delay, x):
    return jsnn.unroll(in_float64(layer, kernel=kernel, delay=delay), x)[1]


@pytest.mark.slow
@pytest.mark.parametrize(("layer", "x"), [LAYERS["gaussian"], LAYERS["conv with strides"]], ids=["dense", "conv"])
@pytest.mark.parametrize("method", ["auto", "scan"])
def test_gradients_are_those_of_finite_differences(layer, x, way, method):
    with jax.enable_x64(True):

        def run(kernel, delay, bias, x):
            return jsnn.unroll(in_float64(layer, kernel=kernel, delay=delay, bias=bias), x, method=method)[1]

        values = [jnp.asarray(p[...], jnp.float64) for p in (layer.kernel, layer.delay, layer.bias)]
        check_grads(jax.jit(run), (*values, x.astype(jnp.float64)), order=1, modes=["rev"], rtol=1e-6)


@pytest.mark.rows(3)
@pytest.mark.parametrize("case", [
    f"{version}.{width}.{taps}"
    for version, widths in (("gauss", (0.5, 3.0)), ("max", (1.0, 2.5))) for width in widths for taps in (6, 7)
])  # fmt: skip
def test_numbers_and_gradients_are_those_of_dcls(case, way):
    golden, (version, rest) = np.load(GOLDEN), case.split(".", 1)
    width, _, taps = rest.rpartition(".")
    kernel, delay, x, given, *expected = (
        golden[f"{case}.{name}"] for name in ("kernel", "delay", "x", "given", "y", "d_kernel", "d_delay", "d_x")
    )
    layer = linear(
        *kernel.shape, int(taps) - 1, width=float(width), use_bias=False,
        interpolation={"gauss": "gaussian", "max": "triangle"}[version],
    )  # fmt: skip
    with jax.enable_x64(True):

        @jax.jit
        def run(given, *inputs):
            y, back = jax.vjp(functools.partial(unroll_in_float64, layer), *inputs)
            return y, *back(given)

        found = run(*map(jnp.asarray, (given, kernel, delay, x)))
    for ours, theirs in zip(found, expected, strict=True):
        close(ours, theirs, relative=1e-6)  # dcls adds 1e-7 to a divisor of 0.2 or more


def test_delays_are_kept_in_their_range_and_their_gradient_leads_back():
    def layer(*values):
        made = linear(1, 3, max_delay=2, interpolation="triangle", use_bias=False)
        return made.replaced(kernel=nnx.Param(jnp.ones((1, 3))), delay=nnx.Param(jnp.array([values])))

    x = jnp.array([[1.0], [2.0], [4.0], [8.0]])
    astray, kept = layer(-1.0, 1.0, 9.0), layer(0.0, 1.0, 2.0)
    np.testing.assert_array_equal(unroll(astray, x)[1], unroll(kept, x)[1])
    np.testing.assert_array_equal(astray.within_ranges().delay[...], kept.delay[...])

    def gradient(sign):
        return jax.jit(jax.grad(lambda layer: sign * jsnn.unroll(layer, x)[1].sum()))(astray).delay[...][0]

    # a later delay makes the sum smaller: where more is wanted, the first is to stay out, and the last to come back
    more, less = gradient(-1), gradient(1)
    assert (more[0], less[2]) == (0, 0)
    assert more[2] > 0 > less[0]


def test_weights_and_delays_start_as_in_the_paper():
    layer = linear(600, 50, max_delay=24)
    kernel, delay = layer.kernel[...], layer.delay[...]
    bound = np.sqrt(6 / 600)  # PyTorch's kaiming_uniform_, of one weight a synapse
    assert 0.99 * bound < np.abs(kernel).max() <= bound
    np.testing.assert_allclose((kernel.std(), delay.mean(), delay.std()), (bound / 3**0.5, 12, 24 / 12**0.5), rtol=0.02)
    assert (delay.min() >= 0) & (delay.min() < 0.1) & (delay.max() > 23.9) & (delay.max() <= 24)
    assert not np.any(layer.bias[...])


# Widths and rounding


def test_rounded_synapses_see_one_input():
    layer = delays.rounded(linear(use_bias=False))
    whole = np.asarray(layer.delay[...])
    np.testing.assert_array_equal(whole, np.round(linear().delay[...]))
    impulse = jnp.zeros((T, 1, 3)).at[0].set(jnp.array([[1.0, 0.0, 0.0]]))
    y = np.asarray(unroll(layer, impulse)[1])[:, 0]
    expected = np.zeros_like(y)
    expected[whole[0].astype(int), range(4)] = layer.kernel[...][0]
    np.testing.assert_array_equal(y, expected)
    network = jsnn.Sequential(linear(), jsnn.LIF(0.5), conv := linear(4, 2))
    inner = delays.rounded(network).layers
    assert np.all(inner[0].delay[...] % 1 == 0)
    assert isinstance(inner[0].delay, nnx.Param)
    assert inner[2].kernel is conv.kernel


def test_the_width_follows_a_schedule_in_training():
    width = delays.shrinking_width(20, total_steps=16)
    np.testing.assert_allclose([width(step) for step in (0, 2, 4, 15)], [10, np.sqrt(5), 0.5, 0.5], rtol=1e-6)
    network, optimizer = jsnn.Sequential(linear(width=3.0), jsnn.LIF(0.5)), optax.sgd(0.1)
    graph, state = train.create(network, optimizer)
    seen = []

    def loss(network, x, labels, key):
        seen.append(network.layers[0].width)
        value = jnp.mean(jsnn.unroll(network, x)[1])
        return value, {"loss": value, "width": network.layers[0].width}

    step = jax.jit(train.make_step(graph, loss, optimizer, lambda network, step: delays.at_width(network, width(step))))
    for count in range(6):
        state, metrics = step(state, (VECTORS, jnp.zeros(B, int)), jax.random.key(0))
        np.testing.assert_allclose(metrics["width"], width(count), rtol=1e-6)
    assert isinstance(seen[0], jax.core.Tracer)
    np.testing.assert_allclose(train.network_of(graph, state).layers[0].width, 0.5)
    assert network.layers[0].width == 3.0
    x, first = VECTORS, network.layers[0]
    narrow = jax.jit(lambda width: jsnn.unroll(delays.at_width(first, width), x)[1])
    np.testing.assert_array_equal(narrow(0.0), narrow(0.27))  # a traced one cannot be refused
    assert np.any(narrow(0.27) != narrow(0.3))


# In networks


class Skip(nnx.Module):
    def __init__(self):
        self.delayed, self.lif = linear(4, 4), jsnn.LIF(0.5)

    def __call__(self, x):
        return self.lif(self.delayed(x)) + x


def network():
    return jsnn.Sequential(linear(), jsnn.LIF(0.5, threshold=0.2), jsnn.Network(Skip()), jnp.tanh)


@pytest.mark.rows(2)
@pytest.mark.parametrize("options", [{"remat": 4}, {"num_steps": T}, {"method": "scan"}], ids=str)
def test_networks_layer_by_layer_and_step_by_step(options):
    made = network()
    x = VECTORS[0] if "num_steps" in options else VECTORS
    state, y = jax.jit(functools.partial(jsnn.unroll, **options))(made, x)
    assert np.any(jnp.std(y, 0))
    before, step = made.init(VECTORS.shape[1:]), jax.jit(made.step)
    for t in range(T):
        before, expected = step(before, x if "num_steps" in options else x[t])
        np.testing.assert_allclose(y[t], expected, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), state, before)


def test_networks_are_recorded_and_estimated():
    layers = jsnn.record(network(), VECTORS)
    assert list(layers)[:3] == ["0_DelayedLinear", "1_LIF", "2_Network/delayed"]
    assert layers["0_DelayedLinear"].states.past.shape == (T, B, LONGEST, 3)
    assert jsnn.memory_estimate(linear(), (B, 3), T) > 0


@pytest.mark.parametrize("layer", [linear(max_delay=0), jsnn.Delay(0)], ids=["synapses", "neurons"])
def test_delays_of_no_steps_are_recorded(layer):
    record = jsnn.record(layer, VECTORS, neurons=[1])[type(layer).__name__]
    np.testing.assert_array_equal(record.outputs[..., 0], jsnn.unroll(layer, VECTORS)[1][..., 1])
    assert record.states.past.size == 0


def test_weights_and_delays_are_saved(tmp_path):
    made, other = linear(), jax.tree.map(lambda leaf: leaf + 0.25, linear())
    jsnn.weights.save(tmp_path / "weights.safetensors", made)
    arrays = jsnn.weights.load(tmp_path / "weights.safetensors")
    assert sorted(arrays) == ["bias", "delay", "kernel", "width"]
    again = jsnn.weights.from_jsnn(other, arrays)
    np.testing.assert_array_equal(jsnn.unroll(again, VECTORS)[1], jsnn.unroll(made, VECTORS)[1])


def test_a_spike_meets_each_rounded_synapse_once():
    spikes = jnp.zeros((T, 1, 3)).at[2, 0, 1].set(1.0)
    operations = jsnn.energy.count(delays.rounded(jsnn.Sequential(linear(), jsnn.LIF(0.5))), spikes)
    assert (operations.effective_acs, operations.neurons) == (4.0, 4)


@pytest.mark.parametrize("layer", [linear(), conv(), jsnn.Delay(2.5)], ids=["linear", "conv", "neurons"])
def test_a_batch_of_none(layer):
    x = (IMAGES if isinstance(layer, jsnn.DelayedConv) else VECTORS)[:, :0]
    y = jsnn.unroll(layer, x)[1]
    assert (y.shape[:2], layer.step(layer.init(x.shape[1:]), x[0])[1].shape) == ((T, 0), y.shape[1:])


def test_bfloat16_and_vmap():
    layer = linear()
    state, y = unroll(layer, VECTORS.astype(jnp.bfloat16))
    assert (state.past.dtype, y.dtype) == (jnp.float32, jnp.bfloat16)
    np.testing.assert_allclose(y.astype(jnp.float32), unroll(layer, VECTORS)[1], atol=0.05)
    graph, params, rest = nnx.split(layer, nnx.Param, ...)
    two = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), params)
    many = jax.vmap(lambda params: unroll(nnx.merge(graph, params, rest), VECTORS)[1])(two)
    np.testing.assert_allclose(many[0], unroll(layer, VECTORS)[1], atol=1e-6)
    assert np.any(many[1] != many[0])


@pytest.mark.parametrize(
    "part", [linear(), jsnn.Recurrent(jsnn.LIF(0.9), linear(3, 3)), network()], ids=["layer", "recurrent", "network"]
)
def test_recordings_are_longer_than_delays(part):
    x = VECTORS[:LONGEST]
    with pytest.raises(ValueError, match=f"max_delay must be less than the number of steps .* {LONGEST} for {LONGEST}"):
        jsnn.unroll(part, x)
    with pytest.raises(ValueError, match="max_delay must be less"):
        jsnn.record(part, x[0], num_steps=LONGEST)
    jax.eval_shape(jsnn.unroll, part, x, part.init(x.shape[1:]))  # as the first part of a stream
    jax.eval_shape(jsnn.unroll, part, VECTORS[: LONGEST + 1])


# One delay for each neuron, and recurrences


@pytest.mark.rows(3)
@pytest.mark.parametrize(
    "steps", [2, 0, np.array([0.0, 0.5, 3.0]), 1.25, nnx.Param(jnp.array([2.5])), np.ones((2, 1))], ids=str
)
def test_delays_of_neurons_at_once_are_single_steps(steps):
    neuron, x = jsnn.Delay(steps, longest=4), draw(T, B, 2, 3)
    assert isinstance(neuron, TimeParallel)
    state, y = unroll(neuron, x)
    scanned, expected = unroll(neuron, x, method="scan")
    np.testing.assert_allclose(y, expected, atol=1e-6)
    np.testing.assert_array_equal(state.past, scanned.past)
    np.testing.assert_array_equal(state.past, np.moveaxis(x[-4:], 0, 2))
    first, begun = unroll(neuron, x[:2], neuron.init(x.shape[1:]))
    np.testing.assert_allclose(np.concatenate([begun, unroll(neuron, x[2:], first)[1]]), y, atol=1e-6)
    if not isinstance(steps, nnx.Param):
        padded = np.concatenate([np.zeros((4, B, 2, 3)), x])
        whole = np.broadcast_to(np.floor(np.minimum(steps, 3)), (2, 3)).astype(int)
        share = np.broadcast_to(steps, (2, 3)) - whole
        for t in range(T):
            for i, j in np.ndindex(2, 3):
                near, far = (padded[4 + t - whole[i, j] - late, :, i, j] for late in (0, 1))
                np.testing.assert_allclose(y[t, :, i, j], (1 - share[i, j]) * near + share[i, j] * far, atol=1e-6)


SYNAPSE = nnx.Linear(3, 3, rngs=nnx.Rngs(0))


def recurrent_by_hand(neuron, arriving, x):
    """What a recurrence does; `arriving(outputs)` of all steps before."""
    state, outputs = neuron.init(x.shape[1:]), []
    for current in x:
        feedback = arriving(outputs)
        state, y = neuron.step(state, current + feedback)
        outputs.append(y)
    return jnp.stack(outputs)


@pytest.mark.rows(2)
@pytest.mark.parametrize("delay", [1, 2, np.array([1, 3, 2]), 4], ids=str)
def test_feedback_arrives_some_steps_later(delay):
    def arriving(outputs):
        each = [
            outputs[-d][:, i] if len(outputs) >= d else jnp.zeros(B) for i, d in enumerate(np.broadcast_to(delay, 3))
        ]
        return SYNAPSE(jnp.stack(each, -1))

    x, neuron = 2 * VECTORS, jsnn.LIF(0.9)
    expected = recurrent_by_hand(neuron, arriving, x)
    recurrent = jsnn.Recurrent(neuron, SYNAPSE, delay=delay)
    state, y = jsnn.unroll(recurrent, x)
    np.testing.assert_array_equal(y, expected)
    assert np.any(y)
    assert bool(jax.tree.leaves(state.late)) == (np.max(delay) > 1)
    first, begun = jsnn.unroll(recurrent, x[:3], recurrent.init(x.shape[1:]))
    np.testing.assert_array_equal(jnp.concatenate([begun, jsnn.unroll(recurrent, x[3:], first)[1]]), expected)


def test_a_synapse_may_have_delays_of_its_own():
    synapse, neuron = linear(3, 3), jsnn.LIF(0.9)

    def arriving(outputs):
        state, y = synapse.init((B, 3)), synapse.bias[...]
        for spikes in [jnp.zeros((B, 3)), *outputs]:
            state, y = synapse.step(state, spikes)
        return y

    y = jsnn.unroll(jsnn.Recurrent(neuron, synapse), 2 * VECTORS)[1]
    np.testing.assert_allclose(y, recurrent_by_hand(neuron, arriving, 2 * VECTORS), atol=1e-5)
    shifted = jsnn.unroll(jsnn.Recurrent(neuron, synapse, delay=2), 2 * VECTORS)[1]
    assert np.any(shifted != y)


@pytest.mark.slow
def test_delays_in_a_recurrence_are_learned():
    with jax.enable_x64(True):

        def per_neuron(delay):
            recurrent = jsnn.Recurrent(
                jsnn.LI(0.5), lambda y: y @ draw(3, 3).astype(float), nnx.Param(delay), longest=4
            )
            return jsnn.unroll(recurrent, VECTORS.astype(float))[1]

        def per_synapse_(delay):
            return jsnn.unroll(
                jsnn.Recurrent(jsnn.LI(0.5), in_float64(linear(3, 3), delay=delay)), VECTORS.astype(float)
            )[1]

        check_grads(per_neuron, (jnp.array([1.4, 2.5, 3.7]),), order=1, modes=["rev"], rtol=1e-5)
        check_grads(per_synapse_, (linear(3, 3).delay[...].astype(float),), order=1, modes=["rev"], rtol=1e-5)
    astray = jsnn.Recurrent(jsnn.LIF(0.9), SYNAPSE, delay=nnx.Param(jnp.ones(3)), longest=3)
    astray.delay[...] += jnp.array([-4.0, 0.0, 7.0])
    kept = jsnn.Recurrent(jsnn.LIF(0.9), SYNAPSE, delay=np.array([1, 1, 3]))
    np.testing.assert_array_equal(jsnn.unroll(astray, 2 * VECTORS)[1], jsnn.unroll(kept, 2 * VECTORS)[1])


def test_what_nir_can_say_of_delays():
    recurrent = jsnn.Recurrent(jsnn.LIF(0.9, reset="zero"), nnx.Linear(3, 3, use_bias=False, rngs=nnx.Rngs(0)), delay=3)
    graph = jsnn.nir.to_nir(recurrent, (3,), dt=1e-3)
    np.testing.assert_allclose(graph.nodes["delay"].delay, 2e-3)
    again = jsnn.nir.from_nir(graph, dt=1e-3)
    np.testing.assert_allclose(jsnn.unroll(again, 2 * VECTORS)[1], jsnn.unroll(recurrent, 2 * VECTORS)[1])
    with pytest.raises(
        jsnn.nir.NIRError, match="first cannot be written as NIR: NIR has no node with a delay for each"
    ):
        jsnn.nir.to_nir(jsnn.Sequential(first=linear(), then=jsnn.LIF(0.9)), (3,), dt=1e-3)


REFUSED = {
    "no inputs": (lambda: linear(inputs=0), "a kernel must have sizes of 1 or more, got (0, 4)"),
    "negative": (lambda: linear(max_delay=-1), "max_delay must be >= 0 and less than 2^20, got -1"),
    "in seconds": (lambda: linear(max_delay=0.02), "max_delay must be an integer, got 0.02"),
    "interpolation": (lambda: linear(interpolation="linear"), "interpolation must be 'gaussian' or 'triangle', got"),
    "narrow": (lambda: linear(width=0.0), "width must be a number >= 0.27 with 'gaussian' interpolation, got 0.0: for"),
    "nan": (lambda: linear(width=jnp.nan), "width must be a number, got NaN"),
    "narrow triangle": (lambda: linear(interpolation="triangle", width=0.5), "width must be a number >= 1.0 with 'tri"),
    "a width for each": (lambda: delays.at_width(linear(), jnp.ones(3)), "width must be a number"),
    "narrower": (lambda: delays.at_width(network(), 0.1), "got 0.1: for one input a synapse take jsnn.delays.rounded"),
    "no initializer": (lambda: linear(kernel_init=int), "kernel_init must be a function (key, shape, dtype) -> array"),
    "another shape": (lambda: linear(delay_init=lambda *_: jnp.ones(3)), "delay_init must give an array of shape (3,"),
    "kernel_size": (lambda: jsnn.DelayedConv(1, 1, (3,), max_delay=1, rngs=nnx.Rngs(0)), "kernel_size must be two"),
    "strides": (lambda: conv(strides=(0, 1)), "strides must be two numbers of 1 or more, for rows and columns"),
    "padding": (lambda: conv(padding="same"), "padding must be 'SAME' or 'VALID', got 'same'"),
    "channels": (lambda: jsnn.unroll(linear(), VECTORS[..., :2]), "DelayedLinear takes 3 channels, got shape (2, 2)"),
    "images": (lambda: jsnn.unroll(conv(), VECTORS), "DelayedConv takes [B, H, W, 2] at a step, got shape (2, 3)"),
    "state": (lambda: jsnn.unroll(linear(), VECTORS, linear(max_delay=3).init((B, 3))), "state must hold arrays of"),
    "schedule": (lambda: delays.shrinking_width(0, 10), "max_delay and total_steps must be >= 1, got 0 and 10"),
    "start": (lambda: delays.shrinking_width(5, 10, start=0.1), "start must be at least end, 0.5, and finite, got 0.1"),
    "endless": (lambda: delays.shrinking_width(5, 10, start=np.inf), "start must be at least end, 0.5, and finite"),
    "no end": (lambda: delays.shrinking_width(5, 10, end=np.inf), "end must be > 0 and finite"),
    "no width": (lambda: delays.at_width(network(), "wide"), "width must be a number"),
    "share": (lambda: delays.shrinking_width(5, 10, share=0.0), "end must be > 0 and finite, and share in (0, 1], got"),
    "at once": (lambda: jsnn.Recurrent(jsnn.LIF(), SYNAPSE, 0), "delay must be >= 1, as spikes cannot arrive before"),
    "trained": (lambda: jsnn.Recurrent(jsnn.LIF(), SYNAPSE, nnx.Param(jnp.ones(3))), "longest must be given where"),
    "too late": (lambda: jsnn.Recurrent(jsnn.LIF(), SYNAPSE, 4, longest=3), "delay must be <= longest = 3, got 4"),
    "never": (lambda: jsnn.Recurrent(jsnn.LIF(), SYNAPSE, nnx.Param(jnp.ones(3)), longest=0), "longest must be >= 1"),
    "negative longest": (lambda: jsnn.Delay(nnx.Param(jnp.ones(3)), longest=-1), "longest must be >= 0, got -1"),
    "another number": (lambda: jsnn.unroll(jsnn.Recurrent(jsnn.LIF(), SYNAPSE, np.ones(2)), VECTORS), "delay has"),
    "wider synapse": (lambda: jsnn.unroll(jsnn.Recurrent(jsnn.LIF(), linear()), VECTORS), "must give back the shape"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (jsnn.Delay(6), "steps must be less than the number of steps of a recording, got 6 for 6"),
        (jsnn.Delay(np.array([8.5, 6.5, 7.0])), "got 6.5 for 6"),
        (jsnn.Delay(nnx.Param(jnp.full(3, 9.0)), longest=7), "got 7 for 6"),
        (jsnn.Sequential(SYNAPSE, jsnn.Recurrent(jsnn.LIF(0.9), SYNAPSE, delay=6)), "layers.1: delay must be less"),
        (jsnn.Recurrent(jsnn.Sequential(jsnn.Delay(6)), SYNAPSE), "neuron.layers.0: steps must be less"),
    ],
    ids=["neurons", "each neuron", "learned", "recurrence", "inside"],
)
def test_delays_of_neurons_are_shorter_than_recordings(part, said):
    with pytest.raises(ValueError, match=f"{said}.* lets nothing through"):
        jsnn.unroll(part, VECTORS[:6])
    jax.eval_shape(jsnn.unroll, part, VECTORS[:6], part.init((B, 3)))  # as the first part of a stream


def test_a_number_is_known_in_a_trace_and_what_passes_something_is_not_refused():
    with pytest.raises(ValueError, match=r"steps must be less .* got 6 for 6"):
        unroll(jsnn.Delay(6), VECTORS[:6])
    for steps in (5.5, np.array([2, 6, 9]), nnx.Param(jnp.array(5.0))):
        jsnn.unroll(jsnn.Delay(steps, longest=9), VECTORS[:6])
    for delay in (1, np.array([1, 3, 9])):
        jsnn.unroll(jsnn.Recurrent(jsnn.LIF(0.9), SYNAPSE, delay=delay), VECTORS[:1])
    jsnn.unroll(jsnn.Delay(6), VECTORS[:0])


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(call, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert message in str(caught.value)
