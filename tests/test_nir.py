"""NIR both ways: other libraries' graphs and outputs, our networks out and back, and files that are no good."""

import functools
import itertools
import json
import sys
import warnings
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import nir
import numpy as np
import pytest
from flax import nnx
from golden import close

import jsnn
from jsnn.nir import Graph, NIRError, Scale, Threshold, from_nir, to_nir

DATA = Path(__file__).parent / "data"
GOLDENS = sorted(path.stem for path in DATA.glob("nir_*.npz"))
DT = 1e-3


def draw(key, shape, dtype=jnp.float32):
    """Weights, which NumPy draws faster than JAX compiles."""
    weights = np.random.default_rng(int(np.prod(shape))).standard_normal(shape)
    return jnp.asarray(weights / np.sqrt(np.prod(shape[:-1])), dtype)


OPTIONS = {"rngs": nnx.Rngs(0), "kernel_init": draw}
linear = functools.partial(nnx.Linear, **OPTIONS)
conv = functools.partial(jsnn.Conv, padding="VALID", **OPTIONS)


def written(network, shape, **options):
    """A graph of a network, without the warning that NIR knows no other reset than to a value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return to_nir(network, shape, DT, **options)


def there_and_back(network, shape, folder, **options):
    nir.write(folder / "graph.nir", written(network, shape, **options))
    return from_nir(folder / "graph.nir", DT, **options)


def random_inputs(shape, steps=12):
    return jnp.asarray(np.random.default_rng(1).uniform(0, 2, (steps, 2, *shape)), jnp.float32)


def outputs(network, x):
    return np.asarray(jax.jit(lambda x: jsnn.unroll(network, x)[1])(x))


# Graphs that other libraries have written


def test_there_are_goldens():
    assert {name.split("_")[1] for name in GOLDENS} == {"norse", "snntorch", "spikingjelly"}


@pytest.mark.rows(2)
@pytest.mark.parametrize("name", GOLDENS)
def test_others_graphs_give_their_outputs(name, tmp_path):
    with np.load(DATA / f"{name}.npz") as file:
        golden = dict(file)
    path = tmp_path / "graph.nir"
    path.write_bytes(golden["graph"].tobytes())
    network = from_nir(path, **json.loads(str(golden["settings"])))
    x = np.moveaxis(golden["inputs"].astype(np.float32) / 16, 2, -1)  # channels first
    found, expected = np.moveaxis(outputs(network, x), -1, 2), golden["outputs"]
    if expected.dtype == np.uint8:
        np.testing.assert_array_equal(found, expected)
        assert 0 < expected.mean() < 1
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


# There and back

BRANCHES = Graph(
    {"a": linear(3, 4), "lif": jsnn.LIF(0.9), "b": linear(4, 4), "slow": jsnn.LI(0.5), "c": linear(4, 2)},
    [("input", "a"), ("a", "lif"), ("lif", "b"), ("b", "c"), ("lif", "slow"), ("slow", "c"), ("c", "output")],
)
TWO_LAYERS_IN_A_RING = Graph(
    {
        "in": linear(3, 4), "one": jsnn.LIF(0.8), "on": linear(4, 4), "two": jsnn.LIF(0.9, threshold=0.5),
        "back": linear(4, 4), "late": jsnn.Delay(2), "step": Threshold(0.5), "half": Scale(jnp.array([0.5, 1, 1, 2])),
    },
    [
        ("input", "in"), ("in", "one"), ("one", "on"), ("on", "two"), ("two", "back"), ("back", "one"),
        ("two", "late"), ("late", "step"), ("one", "half"), ("step", "output"), ("half", "output"),
    ],
)  # fmt: skip
TWO_WAYS_INTO_A_RING = Graph(  # which of the ring's two edges closes it depends on the way that is gone first
    {"p": jsnn.LI(0.5), "q": jsnn.LI(0.25), "b": jsnn.LIF(0.5), "same": lambda x: x, "n": jsnn.LI(0.75)},
    [
        ("input", "q"), ("input", "p"), ("q", "b"), ("b", "same"), ("same", "n"), ("p", "n"), ("n", "b"),
        ("n", "output"),
    ],
)  # fmt: skip
NETWORKS = {
    "dense": (jsnn.Sequential(linear(3, 5), jsnn.LIF(0.9), linear(5, 2, use_bias=False), jsnn.LI(0.8)), (3,)),
    "current": (
        jsnn.Sequential(
            linear(3, 5),
            jsnn.CuBaLIF(0.9, jnp.linspace(0.5, 0.8, 5), gain=0.5, v_rest=0.1, reset="zero", v_reset=-0.2),
            linear(5, 2), jsnn.CuBaLI(nnx.Param(jnp.full(2, 0.9)), 0.7),
        ),
        (3,),
    ),
    "resets": (
        jsnn.Sequential(
            jsnn.IF(reset="zero"), jsnn.LIF(1.0, gain=0.5, reset="none"), jsnn.LIF(0.5, reset_delay=True),
            jsnn.LIF(0.0, threshold=0.5), jsnn.ParametricLIF(threshold=0.4),
        ),
        (3,),
    ),
    "images": (
        jsnn.Sequential(
            conv(2, 3, (2, 3)), jsnn.LIF(jnp.array([0.5, 0.6, 0.7]), threshold=0.2), jsnn.avg_pool,
            jsnn.flatten, linear(12, 9), jsnn.LIF(0.9, threshold=0.1),
        ),
        (5, 6, 2),
    ),
    "windows": (
        jsnn.Sequential(
            nnx.Conv(2, 4, (3, 2), strides=2, padding=((1, 1), (0, 0)), feature_group_count=2, **OPTIONS),
            jsnn.LIF(0.9, threshold=0.1), lambda x: nnx.avg_pool(x, (2, 2), (1, 1), ((1, 1), (1, 1))),
            lambda x: nnx.pool(x, 0.0, jax.lax.add, (2, 1), (1, 1), "VALID"), lambda x: 0.25 * x,
            jsnn.LIF(0.9, threshold=0.05),
        ),
        (5, 6, 2),
    ),
    "lines": (
        jsnn.Sequential(
            nnx.Conv(2, 4, (4,), kernel_dilation=1, padding="SAME", **OPTIONS), jsnn.LIF(0.9),
            nnx.Conv(4, 3, (2,), kernel_dilation=2, padding="VALID", **OPTIONS), jsnn.LIF(0.5, threshold=0.1),
            jsnn.flatten, linear(15, 2),
        ),
        (7, 2),
    ),
    "places": (
        jsnn.Sequential(conv(2, 3, (2, 3)), Scale(jnp.linspace(0.5, 2, 15).reshape(3, 5, 1)), jsnn.LIF(0.9)), (4, 7, 2),
    ),
    "pooled": (  # to a place that would hold larger windows as well
        jsnn.Sequential(
            functools.partial(jsnn.avg_pool, window=3), jsnn.LIF(0.9), jsnn.avg_pool, jsnn.LIF(0.8, threshold=0.5),
        ),
        (9, 11, 2),
    ),
    "pooled twice": (  # the mean of means is taken up by the next layer, and written once
        jsnn.Sequential(jsnn.avg_pool, lambda x: 2.0 * x, jsnn.avg_pool, jsnn.avg_pool, jsnn.LIF(0.9, threshold=2.0)),
        (8, 9, 2),
    ),
    "a row": (
        jsnn.Sequential(conv(1, 3, (2, 2)), jsnn.LIF(0.9), lambda x: jsnn.flatten(jnp.moveaxis(x, -1, 1))), (2, 4, 1),
    ),
    "recurrent": (
        jsnn.Sequential(linear(3, 4), jsnn.Recurrent(jsnn.LIF(0.9, threshold=0.5), linear(4, 4)), linear(4, 2)), (3,),
    ),
    "branches": (BRANCHES, (3,)),
    "ring": (TWO_LAYERS_IN_A_RING, (3,)),
    "two ways": (TWO_WAYS_INTO_A_RING, (3,)),
    "delay": (jsnn.Sequential(jsnn.LI(0.9), jsnn.Delay(jnp.array([0.0, 1.5, 3.0])), jsnn.LIF(0.5)), (3,)),
    "alone": (jsnn.LIF(0.9, reset="zero"), (3,)),
}  # fmt: skip


@pytest.mark.rows(1)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_comes_back_the_same(name, tmp_path):
    network, shape = NETWORKS[name]
    x = random_inputs(shape)
    expected, back = outputs(network, x), there_and_back(network, shape, tmp_path)
    np.testing.assert_array_equal(outputs(back, x), expected)
    assert expected.std() > 0.01
    assert type(back) is (Graph if type(network) is Graph else jsnn.Sequential)
    if name == "recurrent":
        assert [type(layer) for layer in back.layers] == [nnx.Linear, jsnn.Recurrent, nnx.Linear]


def test_an_exact_solution_is_said_in_seconds(tmp_path):
    network = jsnn.Sequential(
        jsnn.CuBaLIF.from_time_constants(10e-3, 5e-3, dt=DT, reset="zero"), jsnn.LI(jnp.exp(-0.5))
    )
    graph = written(network, (3,), discretization="exact")
    values = [graph.nodes["0_CuBaLIF"].tau_mem, graph.nodes["0_CuBaLIF"].tau_syn, graph.nodes["1_LI"].tau]
    np.testing.assert_allclose(values, [[10e-3] * 3, [5e-3] * 3, [2e-3] * 3], rtol=1e-6)
    x = random_inputs((3,))
    back = there_and_back(network, (3,), tmp_path, discretization="exact")
    np.testing.assert_allclose(outputs(back, x), outputs(network, x), rtol=1e-6)


def test_parameters_are_those_of_the_equations():
    network = jsnn.Sequential(
        jsnn.IF(threshold=0.5, reset="zero"),
        jsnn.LIF(0.9, gain=0.5, v_rest=0.1, reset="zero", v_reset=0.2),
        jsnn.CuBaLIF(0.9, 0.8, gain=2.0, reset="zero"),
    )
    nodes = {name: vars(node) for name, node in written(network, (1,)).nodes.items()}
    expected = {
        "0_IF": {"r": 1000, "v_threshold": 0.5, "v_reset": 0},
        "1_LIF": {"tau": 10e-3, "r": 5, "v_leak": 0.1, "v_threshold": 1, "v_reset": 0.2},
        "2_CuBaLIF": {"tau_mem": 10e-3, "tau_syn": 5e-3, "r": 10, "w_in": 10, "v_leak": 0, "v_threshold": 1},
    }
    for name, parameters in expected.items():
        for parameter, value in parameters.items():
            np.testing.assert_allclose(nodes[name][parameter], [value], rtol=1e-12, err_msg=f"{name}.{parameter}")
    assert all(node["metadata"] == {} for node in nodes.values())
    other = written(jsnn.neurons.eventprop.with_spike_time_gradients(network.layers[2]), (1,)).nodes
    (node,) = (node for node in other.values() if type(node).__name__ == "CubaLIF")
    np.testing.assert_array_equal(node.tau_mem, nodes["2_CuBaLIF"]["tau_mem"])  # its gradients are not written


def test_weights_in_bfloat16_are_written_as_float32(tmp_path):
    network = jsnn.Sequential(linear(3, 4, dtype=jnp.bfloat16), jsnn.LIF(0.9), linear(4, 2))
    back = there_and_back(network, (3,), tmp_path)
    np.testing.assert_array_equal(back.layers[0].kernel[...], network.layers[0].kernel[...].astype(jnp.bfloat16))


def test_what_nir_cannot_say_is_warned_of_and_kept():
    with pytest.warns(UserWarning, match="What differs in 1_LIF, 2_LIF is written as metadata"):
        graph = to_nir(jsnn.Sequential(jsnn.IF(reset="zero"), jsnn.LIF(0.9), jsnn.LIF(reset_delay=True)), (1,), DT)
    kept = [graph.nodes[name].metadata["jsnn"] for name in ("1_LIF", "2_LIF")]
    assert kept == [{"reset": "subtract"}, {"reset": "subtract", "reset_delay": True}]


def test_options_go_before_what_the_graph_says():
    graph = written(jsnn.LIF(0.9), (1,))
    network = from_nir(graph, DT, reset="zero", surrogate=jsnn.surrogate.superspike())
    assert network.layers[0].reset == "zero"
    assert network.layers[0].surrogate == jsnn.surrogate.superspike()


def test_a_batch_normalisation_joins_the_weights_before_it():
    norm = nnx.BatchNorm(3, rngs=OPTIONS["rngs"])
    norm.mean[...], norm.var[...] = jnp.array([0.1, 0.2, -0.1]), jnp.array([1.0, 2.0, 0.5])
    norm.eval()
    network = jsnn.Sequential(conv(2, 3, (2, 2)), norm, jsnn.LIF(0.9, threshold=0.1, reset="zero"))
    graph = written(network, (4, 5, 2))
    assert [type(node).__name__ for node in graph.nodes.values()] == ["Input", "Conv2d", "LIF", "Output"]
    graph.check_types()
    x = random_inputs((4, 5, 2))
    np.testing.assert_array_equal(outputs(from_nir(graph, DT), x), outputs(network, x))


class Residual(nnx.Module):
    """A rate network with two ways to the second activation, and enough channels for our own convolution."""

    def __init__(self):
        self.first, self.second = conv(2, 20, (3, 3)), jsnn.Conv(20, 20, (3, 3), use_bias=False, **OPTIONS)
        self.norm, self.last = nnx.BatchNorm(20, use_running_average=True, rngs=OPTIONS["rngs"]), linear(80, 3)

    def __call__(self, x):
        x = jax.nn.relu(self.norm(self.first(x)))
        return self.last(jsnn.flatten(jsnn.avg_pool(jax.nn.relu(self.second(x) + x))))


@pytest.mark.rows(1)
@pytest.mark.parametrize(
    "options",
    [
        {"scale_firing_rates": 200.0, "synapse": 5e-3, "v_init": 0.5},
        {"scale_firing_rates": 0.5, "swap": {jax.nn.relu: jsnn.IF(threshold=0.5)}},
        {"scale_firing_rates": 200.0, "swap": {jax.nn.relu: jsnn.BurstIF(max_spikes=2)}},
    ],
    ids=["default", "IF", "BurstIF"],
)
def test_a_converted_network_comes_back(options, tmp_path):
    images = random_inputs((6, 6, 2), 1)[0]
    network = jsnn.convert(Residual(), images, **options)
    back = there_and_back(network, (6, 6, 2), tmp_path)
    expected, found = (jax.jit(lambda x, n=n: jsnn.unroll(n, x, num_steps=12)[1])(images) for n in (network, back))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert expected.std() > 0.01


# Graphs


class Shortcut(nnx.Module):
    """A dense layer whose currents go to a neuron and around it, as in a residual network of the MS form."""

    def __init__(self):
        self.first, self.lif, self.second = linear(3, 4), jsnn.LIF(0.9), linear(4, 4)

    def __call__(self, x):
        y = self.first(x)
        return self.second(self.lif(y)) + y


def test_a_layer_that_two_layers_take_is_written_once(tmp_path):
    network, x = jsnn.Network(Shortcut()), random_inputs((3,))
    assert [name for name in written(network, (3,)).nodes if name[0] != "i"] == ["first", "lif", "second", "output"]
    np.testing.assert_array_equal(outputs(there_and_back(network, (3,), tmp_path), x), outputs(network, x))


def test_a_subgraph_is_opened_and_a_loop_is_recurrent():
    weight = np.array([[0.0, -1.0], [0.5, 0.0]])
    ones = np.ones(2)
    inner = nir.NIRGraph(
        {
            "in": nir.Input(np.array([2])), "out": nir.Output(np.array([2])), "w_rec": nir.Linear(weight),
            "lif": nir.LIF(tau=2e-3 * ones, r=ones, v_leak=0 * ones, v_threshold=0.5 * ones),
        },
        [("in", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "out")],
    )  # fmt: skip
    outer = nir.NIRGraph(
        {"input": nir.Input(np.array([2])), "layer": inner, "output": nir.Output(np.array([2]))},
        [("input", "layer"), ("layer", "output")],
    )
    network = from_nir(outer, DT)
    assert [type(layer) for layer in network.layers] == [jsnn.Recurrent]
    inputs = random_inputs((2,), 8)
    v, spikes, expected = np.zeros(2), np.zeros(2), []
    for x in np.asarray(inputs[:, 0]):
        v = v + 0.5 * (x + weight @ spikes - v)
        spikes = (v > 0.5).astype(float)
        v = np.where(spikes, 0, v)
        expected.append(spikes)
    np.testing.assert_array_equal(outputs(network, inputs)[:, 0], expected)


@pytest.mark.rows(2)
@pytest.mark.parametrize(
    ("start", "end", "shape"), [(0, -1, (24,)), (0, 1, (6, 4)), (1, -1, (2, 12)), (2, 2, (2, 3, 4))]
)
def test_axes_are_flattened_in_the_order_of_nir(start, end, shape):
    x = random_inputs((3, 4, 2), 2)
    expected = np.moveaxis(np.moveaxis(x, -1, 2).reshape(2, 2, *shape), 2, -1)
    graph = chain(nir.Flatten(None, start, end), nir.Scale(np.full(shape, 2.0)), shape=(2, 3, 4), output=shape)
    network = from_nir(graph, DT)
    np.testing.assert_array_equal(outputs(network, x), 2 * expected)
    np.testing.assert_array_equal(outputs(from_nir(written(network, (3, 4, 2)), DT), x), 2 * expected)


@pytest.mark.parametrize("batch", [(), (1,)], ids=["alone", "with the batch axis"])
def test_an_image_may_be_flattened_at_once(batch):
    weight = np.random.default_rng(0).standard_normal((3, 24))
    shape = (*batch, 2, 3, 4)
    network = from_nir(chain(nir.Flatten(np.array(shape), 0, -1), nir.Linear(weight), shape=shape), DT)
    x = random_inputs((3, 4, 2), 1)
    expected = np.moveaxis(x, -1, 2).reshape(2, 24) @ weight.T
    np.testing.assert_allclose(outputs(network, x)[0], expected, rtol=1e-5, atol=1e-5)


def test_a_subgraph_of_a_file_is_as_it_was_written(tmp_path):
    weight = np.random.default_rng(0).standard_normal((2, 1, 2, 3))  # nir itself takes all windows to be square
    shapes = (1, 5, 6), (2, 4, 4)
    layer = inner(convolution(input_shape=(5, 6), weight=weight, bias=np.zeros(2)), *shapes)
    graph = outer([("in", "layer"), ("layer", "out")], *shapes, layer=layer)
    nir.write(tmp_path / "graph.nir", graph)
    x = random_inputs((5, 6, 1), 3)
    expected = outputs(from_nir(graph, DT), x)
    assert expected.shape[2:] == (4, 4, 2)
    np.testing.assert_array_equal(outputs(from_nir(tmp_path / "graph.nir", DT), x), expected)


def test_a_ring_of_subgraphs_is_closed_by_the_same_edge_in_a_file(tmp_path):
    edges = [("in", "b"), ("in", "a"), ("a", "b"), ("b", "a"), ("b", "out")]  # a file has its nodes by the alphabet
    graph = outer(edges, b=inner(lif()), a=inner(nir.LI(tau=2e-3 * ONES, r=ONES, v_leak=0 * ONES)))
    nir.write(tmp_path / "graph.nir", graph)
    for network in (from_nir(graph, DT), from_nir(tmp_path / "graph.nir", DT)):
        assert network.late == (("a.node", "b.node"),)


def test_a_cycle_carries_the_last_steps_value():
    synapse = linear(3, 3)
    ring = Graph(
        {"lif": jsnn.LIF(0.9), "w": synapse}, [("input", "lif"), ("w", "lif"), ("lif", "w"), ("lif", "output")]
    )
    x = random_inputs((3,))
    np.testing.assert_array_equal(outputs(ring, x), outputs(jsnn.Recurrent(jsnn.LIF(0.9), synapse), x))


def test_a_loop_through_a_delay_takes_a_step_more():
    layers = {"now": jsnn.LI(0.0), "late": jsnn.Delay(2)}
    loop = Graph(layers, [("input", "now"), ("now", "late"), ("late", "now"), ("now", "output")])
    assert outputs(loop, jnp.eye(7)[0][:, None]).ravel().tolist() == [1, 0, 0, 1, 0, 0, 1]


@pytest.mark.rows(1)
@pytest.mark.parametrize("graph", [BRANCHES, TWO_LAYERS_IN_A_RING], ids=["branches", "ring"])
def test_a_graph_runs_alike_at_once_and_step_by_step(graph):
    x, step = random_inputs((3,), 5), jax.jit(graph.step)
    state, steps = graph.init((2, 3)), []
    for current in x:
        state, y = step(state, current)
        steps.append(y)
    last, at_once = jax.jit(lambda x: jsnn.unroll(graph, x))(x)
    np.testing.assert_allclose(at_once, np.stack(steps), rtol=1e-6, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), last, state)
    still = jax.jit(lambda x: jsnn.unroll(graph, x, num_steps=5)[1])(x[0])
    np.testing.assert_allclose(still, outputs(graph, np.stack([x[0]] * 5)), rtol=1e-6, atol=1e-6)


def test_a_cycle_shows_its_layers():
    """Each as it was in the graph: what it put out at each step, and the state after it."""
    graph, x = TWO_LAYERS_IN_A_RING, random_inputs((3,), 5)
    step = jax.jit(graph.step)
    state, expected = graph.init((2, 3)), []
    for current in x:
        state, _ = step(state, current)
        expected.append(state)
    records = jsnn.record(graph, x)
    assert tuple(records) == graph.names
    for index, name in enumerate(graph.names):
        states = [after.layers[index] for after in expected]
        jax.tree.map(lambda ours, *steps: close(ours, np.stack(steps)), records[name].states, *states)
    for name, late in zip(graph.remembered, zip(*(after.late for after in expected))):
        close(records[name].outputs, np.stack(late))


@pytest.mark.slow
def test_a_graph_shows_its_layers_and_is_trained():
    records = jsnn.record(BRANCHES, random_inputs((3,), 5))
    assert {name: record.outputs.shape for name, record in records.items()} == {
        name: (5, 2, 2 if name == "c" else 4) for name in BRANCHES.names
    }
    definition, parameters, rest = nnx.split(TWO_LAYERS_IN_A_RING, nnx.Param, ...)

    def loss(parameters):
        return jsnn.unroll(nnx.merge(definition, parameters, rest), random_inputs((3,), 5))[1].sum()

    gradients = jax.tree.leaves(jax.grad(loss)(parameters))
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    assert any(np.any(gradient != 0) for gradient in gradients)


# What cannot be written


@pytest.mark.parametrize(
    ("network", "shape", "message"),
    [
        (jsnn.Sequential(linear(3, 2), jsnn.ALIF()), (3,), "1_ALIF cannot be written as NIR: a ALIF has no node"),
        (jsnn.Sequential(jsnn.LIF(0.9), jsnn.max_pool), (4, 4, 1), "1_max_pool .* no operation that NIR"),
        (jsnn.LIF(0.9, threshold=jnp.array([1.0, jnp.inf])), (2,), "lif: v_threshold must be finite, got inf"),
        (lambda x: x @ jnp.array([[jnp.nan], [1.0]]), (2,), ": weight must be finite, got nan"),
        (jsnn.quant.integer(jsnn.quant.aware(jsnn.LIF(0.9))), (3,), "the network is Integer.* jsnn.quant.aware"),
        (jsnn.Sequential(jsnn.quant.aware(jsnn.LIF(0.9)), jsnn.LIF()), (3,), "0_Quant.* the whole .* jsnn.quant.aware"),
        (jsnn.LIF(0.9, reset=lambda v, spikes, threshold: v), (3,), "a reset that is a function"),
        (jsnn.LIF(0.9, surrogate=jax.nn.sigmoid), (3,), "its surrogate .* cannot be written: NIR knows spikes"),
        (jsnn.LI(1.0, v_rest=0.5), (3,), "v_rest = 0.5 does not fit decay = 1"),
        (jsnn.LIF(jnp.array([0.9, 1.0])), (2,), "decay = 1 has no time constant"),
        (jsnn.SpikingActivation(jax.nn.gelu), (3,), "other than jax.nn.relu"),
        (jsnn.SpikingActivation(dt=1e-2), (3,), "jsnn.with_dt"),
        (jsnn.SpikingActivation(v_init=jax.random.key(0)), (3,), "drawn at random"),
        (jsnn.filters.Alpha(1e-3), (3,), "a Alpha has no node in NIR"),
        (nnx.Conv(1, 1, (2, 2), padding=((0, 1), (0, 0)), **OPTIONS), (4, 4, 1), "pad both sides alike"),
        (nnx.ConvTranspose(1, 1, (2, 2), strides=(2, 2), **OPTIONS), (4, 4, 1), "transposed"),
        (linear(2, 2), (4, 4, 2), "put jsnn.flatten before it"),
        (lambda x: x + 1.0, (3,), "a constant is added"),
        (jnp.log, (4, 4, 2), "log is no operation that NIR has a node for"),
        (jax.nn.relu, (3,), "is no operation that NIR has a node for"),
        (jsnn.flatten, (2, 2, 2), "the output is a flattened image"),
        (linear(3, 2), (4,), "cannot be written as NIR"),
        (linear(3, 2), (0,), "shape must be"),
        (jsnn.Recurrent(jsnn.Network(lambda x: jsnn.LIF(0.9)(x) + x), linear(3, 3)), (3,), "no cycle without a neuron"),
        (jsnn.Sequential(jsnn.flatten, jsnn.Recurrent(jsnn.LIF(0.9), linear(8, 8))), (2, 2, 2), "back .* with weights"),
        (
            Graph(
                {"flat": jsnn.flatten, "dense": linear(8, 8), "n": jsnn.IF()},
                [("input", "flat"), ("flat", "dense"), ("flat", "n"), ("dense", "n"), ("n", "output")],
            ),
            (2, 2, 2),
            "sum .* with weights",
        ),
    ],
)
def test_what_cannot_be_written_is_named(network, shape, message):
    with pytest.raises(ValueError, match=message):
        written(network, shape)


ZOO = {
    "maximum pooling": (
        lambda rngs: jsnn.models.spiking_vgg(((2,),), dense=(), image_shape=(4, 4, 1), outputs=2, rngs=rngs),
        "2_max_pool cannot .* no operation that NIR has a node for, after 1_LIF: .*jsnn.avg_pool, not max_pool",
    ),
    "dense layers at every place": (
        lambda rngs: jsnn.models.spikformer(2, 1, heads=1, pool=(False,), inputs=1, outputs=2, rngs=rngs),
        "attention.qkv.linear: NIR's dense layers take vectors, .* convolution of size 1",
    ),
    "products of spikes": (
        lambda rngs: jsnn.models.spiking_resnet(
            (1,), stem="small", channels=2, inputs=1, outputs=2, connect="and", rngs=rngs
        ),
        "mul is no operation that NIR has a node for, after neuron and blocks.0.neurons.1: .*not of two values",
    ),
}  # fmt: skip


@pytest.mark.rows(1)
@pytest.mark.parametrize("name", ZOO)
def test_what_cannot_be_written_of_the_zoo_is_named_with_the_cure(name):
    make, message = ZOO[name]
    network = make(nnx.Rngs(0))
    network.eval()
    with pytest.raises(NIRError, match=message):
        written(network, (4, 4, 1))


@pytest.mark.parametrize("chain", [jsnn.Sequential, lambda *layers: jsnn.Network(nnx.Sequential(*layers))])
@pytest.mark.parametrize("layer", [nnx.BatchNorm(2, rngs=nnx.Rngs(0)), nnx.Dropout(0.5, rngs=nnx.Rngs(0))])
def test_a_network_in_training_mode_is_not_written(layer, chain):
    with pytest.raises(NIRError, match=r"training.* call model.eval\(\)"):
        written(chain(linear(3, 2), layer, jsnn.LIF(0.9)), (3,))


@pytest.mark.rows(4)
@pytest.mark.parametrize("shape", [(1,), (3,), (1, 1, 1)])
@pytest.mark.parametrize(
    "function",
    [
        jax.nn.relu, jnp.abs, lambda x: jnp.maximum(x, -5.0), lambda x: jnp.clip(x, -1e3, 1e3),
        lambda x: jnp.where(jnp.abs(x) < 1e-4, 0, x), lambda x: x.astype(int).astype(float),
    ],
    ids=["relu", "abs", "maximum", "clip", "dead zone", "integers"],
)  # fmt: skip
def test_what_changes_some_numbers_alone_is_not_left_out(function, shape):
    with pytest.raises(NIRError, match="no operation that NIR has a node for, after input"):
        written(jsnn.Sequential(function, jsnn.LIF(0.9)), shape)


def test_a_layer_that_adds_a_constant_is_named():
    with pytest.raises(NIRError, match=r"^1_<lambda>: a constant is added .* after a dense layer or a convolution"):
        written(jsnn.Sequential(jsnn.LIF(0.9), lambda x: x + 1, jsnn.LIF(0.9)), (3,))


@pytest.mark.parametrize("dt", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_step_must_be_one(dt):
    with pytest.raises(ValueError, match="dt must be > 0"):
        to_nir(jsnn.IF(), (1,), dt)
    with pytest.raises(ValueError, match="dt must be > 0"):
        from_nir(LIF_GRAPH(), dt)


@pytest.mark.parametrize("dt", [None, "1e-3", 1j, np.array([1e-3, 1e-4])])
def test_a_time_step_must_be_a_number(dt):
    with pytest.raises(TypeError, match="dt must be a number"):
        to_nir(jsnn.IF(), (1,), dt)
    with pytest.raises(TypeError, match="dt must be a number"):
        from_nir(LIF_GRAPH(), dt)


@pytest.mark.parametrize("discretization", [None, "midpoint", ["exact"], np.array(["exact", "euler"])])
def test_a_discretization_must_be_one(discretization):
    for call in (
        lambda **options: to_nir(jsnn.IF(), (1,), DT, **options),
        functools.partial(from_nir, LIF_GRAPH(), DT),
    ):
        with pytest.raises(ValueError, match="discretization must be 'exact' or 'euler', got"):
            call(discretization=discretization)


@pytest.mark.parametrize("shape", [None, 3, 784, "3", (2.5,), ("a",)])
def test_a_shape_must_be_a_tuple_of_whole_numbers(shape):
    with pytest.raises(TypeError, match="shape must be a tuple of whole numbers"):
        to_nir(jsnn.IF(), shape, DT)


# What cannot be read


def chain(*nodes, shape=(2,), output=None, edges=()):
    """A graph of these nodes, one after another, and of further edges, without any check."""
    named = {str(index): node for index, node in enumerate(nodes)}
    names = ["input", *named, "output"]
    ends = {"input": nir.Input(np.array(shape)), "output": nir.Output(None if output is None else np.array(output))}
    return nir.NIRGraph({**ends, **named}, [*itertools.pairwise(names), *edges], type_check=False)


def remembering(name, metadata):
    graph = chain(lif())
    graph.nodes[name].metadata["jsnn"] = metadata
    return graph


def lif(size=2, **parameters):
    values = {"tau": 1e-2, "r": 1.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0, **parameters}
    return nir.LIF(**{name: np.full(size, value) for name, value in values.items()})


def LIF_GRAPH(**parameters):
    return chain(lif(**parameters), output=(2,))


def convolution(**changes):
    values = {"input_shape": None, "weight": np.ones((3, 2, 3, 3)), "stride": 1, "padding": 0, "dilation": 1}
    return nir.Conv2d(**{**values, "groups": 1, "bias": np.ones(3), **changes})


def pool(**changes):
    return nir.AvgPool2d(**{"kernel_size": np.array([2, 2]), "stride": 2, "padding": 0, **changes})


def ring(*inner):
    """An edge from the input into a cycle of these nodes, and one out of it."""
    return chain(*inner, edges=[(str(len(inner) - 1), "0")])


def without(graph, *names):
    for name in names:
        del graph.nodes[name]
    graph.edges = [edge for edge in graph.edges if not set(edge) & set(names)]
    return graph


def renamed_edge():
    graph = LIF_GRAPH()
    graph.edges[0] = ("input", "nobody")
    return graph


def dead_end():
    graph = LIF_GRAPH()
    graph.nodes["aside"] = lif()
    graph.edges.append(("0", "aside"))
    return graph


def outer(edges, taken=(2,), given=(2,), **nodes):
    """A graph of these nodes, which may be graphs, that makes values of one shape of those of another."""
    ends = {"in": nir.Input(np.array(taken)), "out": nir.Output(np.array(given))}
    return nir.NIRGraph({**ends, **nodes}, edges, type_check=False)


def inner(node, *shapes):
    return outer([("in", "node"), ("node", "out")], *shapes, node=node)


EYE, ONES = np.eye(2), np.ones(2)
ENDS = [("in", "a"), ("a", "out")]
GRAPHS = {
    "a cycle without a state": (lambda: ring(nir.Linear(EYE), nir.Scale(ONES)), "cycle .* no delay and no neuron"),
    "a cycle with a state": (lambda: ring(nir.Linear(EYE), nir.Scale(ONES), lif()), None),
    "negative tau": (lambda: LIF_GRAPH(tau=-1.0), r"node '0' \(LIF\): tau must be > 0, got -1"),
    "zero tau": (lambda: LIF_GRAPH(tau=0.0), "tau must be > 0, got 0"),
    "NaN": (lambda: LIF_GRAPH(tau=np.nan), "tau must be finite, in float32, got nan"),
    "a number too large": (lambda: LIF_GRAPH(r=1e300), r"r must be finite, in float32, got 1e\+300"),
    "infinite weight": (lambda: chain(nir.Linear(np.full((2, 2), np.inf))), "weight must be finite"),
    "text for a number": (lambda: LIF_GRAPH(r="much"), "r must be numbers"),
    "tau below dt": (lambda: LIF_GRAPH(tau=1e-4), "shorter than dt = 0.001 s"),
    "threshold below rest": (lambda: LIF_GRAPH(v_threshold=-2.0, v_leak=-1.0), "v_threshold must lie above rest"),
    "IF at its threshold": (lambda: chain(nir.IF(np.ones(2), np.zeros(2))), "v_threshold must lie above rest"),
    "weights too wide": (lambda: chain(nir.Linear(np.ones((3, 5)))), "does not fit an input of shape"),
    "weights with too many axes": (lambda: chain(nir.Linear(np.ones((1, 2, 2)))), "weight of shape"),
    "bias too long": (lambda: chain(nir.Affine(EYE, np.ones(3))), "bias of shape"),
    "too many neurons": (lambda: chain(nir.Linear(EYE), lif(3)), "node '1' .* does not fit neurons of shape"),
    "kernel for other channels": (lambda: chain(convolution(), shape=(1, 5, 5)), "does not fit an input of shape"),
    "kernel larger than the image": (lambda: chain(convolution(), shape=(2, 2, 2)), r"windows of \(3, 3\) do not fit"),
    "kernel for another image": (lambda: chain(convolution(input_shape=(7, 7)), shape=(2, 5, 5)), "input_shape"),
    "padding of no kind": (lambda: chain(convolution(padding=np.array([0.5, 1])), shape=(2, 5, 5)), "padding must be"),
    "stride 0": (lambda: chain(pool(stride=0), shape=(1, 4, 4)), "stride must be 2 whole numbers >= 1"),
    "pooling of a vector": (lambda: chain(pool()), "pooling takes"),
    "axes in no order": (lambda: chain(nir.Flatten(None, 2, 1), shape=(2, 2, 2)), r"axes 2 to 1 of \(2, 2, 2\)"),
    "axes that are not there": (lambda: chain(nir.Flatten(None, 0, 3), shape=(2, 2, 2)), "axes 0 to 3 of"),
    "negative delay": (lambda: chain(nir.Delay(np.array([-1e-3, 0]))), "delay must be between"),
    "endless delay": (lambda: chain(nir.Delay(np.array([1e9, 0]))), "delay must be between"),
    "metadata of another kind": (lambda: remembering("0", 5), "node '0' .* names and values under 'jsnn', got 5"),
    "metadata of the input": (lambda: remembering("input", 5), "node 'input' .* names and values under 'jsnn', got 5"),
    "no input": (lambda: without(LIF_GRAPH(), "input"), "must have one Input node, got none"),
    "no output": (lambda: without(LIF_GRAPH(), "output"), "must have one Output node, got none"),
    "two nodes of one name": (
        lambda: outer([*ENDS[:1], ("a", "a.node"), ("a.node", "out")], **{"a": inner(lif()), "a.node": lif()}),
        "two nodes are named 'a.node'",
    ),
    "a way that does nothing beside another": (
        lambda: outer([*ENDS, ("in", "out")], a=outer([("in", "out")])),
        "two ways without a node lead from 'in' to 'out'",
    ),
    "an edge to nobody": (renamed_edge, "'nobody', which is no node"),
    "an edge to the input": (lambda: chain(lif(), edges=[("0", "input")]), "leads to the input or from the output"),
    "an edge from the output": (lambda: chain(lif(), edges=[("output", "0")]), "leads to the input or from the output"),
    "a dead end": (dead_end, "no way leads to the output from aside"),
    "input of shape 0": (lambda: chain(lif(), shape=(0,)), "whole numbers >= 1"),
    "input too large": (lambda: chain(lif(1), shape=(2**20, 2**20)), "too large to be true"),
    "another output": (lambda: chain(lif(), output=(3,)), r"must be of shape \(2,\), the graph says \(3,\)"),
    "an option that there is not": (LIF_GRAPH, "unexpected keyword argument"),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_a_bad_graph_is_refused(name):
    make, message = GRAPHS[name]
    options = {"colour": "red"} if name.startswith("an option") else {}
    if message is None:
        from_nir(make(), DT)
        return
    with pytest.raises(NIRError, match=message):
        from_nir(make(), DT, **options)


def test_an_unknown_node_is_named_with_its_type():
    class Astrocyte(nir.NIRNode):
        def __init__(self):
            self.input_type = self.output_type = {"input": np.array([2])}

    with pytest.raises(NIRError, match=r"node '0' \(Astrocyte\): jsnn cannot run a node of type Astrocyte"):
        from_nir(chain(Astrocyte()), DT)


def change(path, alter):
    with h5py.File(path, "r+") as file:
        alter(file)


def set_version(text):
    def alter(file):
        del file["version"]
        file["version"] = text

    return alter


def set_type(place):
    return lambda file: file[f"{place}/type"].write_direct(np.array(b"Astrocyte", object))


def claim_much(file):
    group = file["node/nodes/0"]
    del group["tau"]
    group.create_dataset("tau", shape=(2**20, 2**20), dtype="f8", chunks=(1024, 1024))


FILES = {
    "empty": (lambda path: path.write_bytes(b""), "no NIR graph that can be read"),
    "text": (lambda path: path.write_text("a graph"), "no NIR graph that can be read"),
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:3000]), "no NIR graph that can be read"),
    "overwritten": (lambda path: path.write_bytes(path.read_bytes().replace(b"TREE", b"LEAF")), "no NIR graph"),
    "no graph": (lambda path: change(path, lambda file: file.pop("node")), "no NIR graph that can be read"),
    "no version": (lambda path: change(path, lambda file: file.pop("version")), "unknown version 'None'"),
    "later version": (lambda path: change(path, set_version("2.0.0")), "unknown version '2.0.0' .* up to 1.x"),
    "odd version": (lambda path: change(path, set_version("newest")), "unknown version 'newest'"),
    "unknown type": (
        lambda path: change(path, set_type("node/nodes/0")),
        r"node '0' \(Astrocyte\): jsnn cannot run a node of type Astrocyte: it runs I, IF",
    ),
    "a parameter missing": (
        lambda path: change(path, lambda file: file["node/nodes/0"].pop("tau")),
        r"node '0' \(LIF\): .* missing .* 'tau'",
    ),
    "an unknown type further in": (
        lambda path: nir.write(path, outer(ENDS, a=inner(lif()))) or change(path, set_type("node/nodes/a/nodes/node")),
        r"node 'a.node' \(Astrocyte\): jsnn cannot run a node of type Astrocyte",
    ),
    "more than is there": (lambda path: change(path, claim_much), r"nodes/0/tau: .* too large to be true"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_refused(name, tmp_path):
    path = tmp_path / "graph.nir"
    nir.write(path, LIF_GRAPH())
    from_nir(path, DT)
    spoil, message = FILES[name]
    spoil(path)
    with pytest.raises(NIRError, match=message):
        from_nir(path, DT)


@pytest.mark.parametrize("ends", [(2,), (1, 2), (4, 50, 2)], ids=["alone", "batch", "batch and time"])
def test_ends_may_have_axes_of_batch_and_time(ends):
    """As Rockpool writes them."""
    graph = chain(nir.Linear(np.array([[1.0, 2.0], [0.0, 1.0]])), lif(r=6.0), shape=ends, output=ends)
    network = from_nir(graph, DT)  # in a step the membranes go up by 1.8 and 0.6
    assert outputs(network, jnp.ones((3, 1, 2)))[:, 0].tolist() == [[1, 0], [1, 1], [1, 0]]


def test_ends_of_other_shapes_are_refused():
    graph = chain(nir.Linear(EYE), lif(), shape=(4, 50, 3), output=(4, 50, 3))
    with pytest.raises(NIRError, match=r"does not fit an input of shape \(4, 50, 3\)"):
        from_nir(graph, DT)
    with pytest.raises(NIRError, match=r"the output must be of shape \(2,\), the graph says \(1, 1, 1, 2\)"):
        from_nir(chain(nir.Linear(EYE), lif(), output=(1, 1, 1, 2)), DT)


@pytest.mark.parametrize(
    ("node", "dt", "warns"),
    [
        (nir.IF(np.ones(2), np.ones(2)), 1.0, False),  # as Sinabs writes it
        (nir.IF(np.ones(2), np.ones(2)), 1e-4, True),
        (nir.IF(np.array([1.0, 1e4]), np.ones(2)), 1e-4, False),  # one of them is not far off
        (nir.IF(np.ones(2), np.full(2, 1e-4)), 1e-4, False),
        (lif(tau=20.0), 1.0, False),
        (lif(tau=20.0), 1e-4, True),
        (lif(tau=20e-3), 1e-4, False),
        (nir.CubaLIF(*(np.full(2, x) for x in (10e-3, 20e-3, 1.0, 0.0, 1.0))), 1e-4, False),
        (nir.CubaLIF(*(np.full(2, x) for x in (10.0, 20.0, 1.0, 0.0, 1.0))), 1e-4, True),
        (nir.LI(np.full(2, 20.0), np.ones(2), np.zeros(2)), 1e-4, False),  # has no threshold
    ],
)
def test_a_graph_for_another_dt_is_warned_of(node, dt, warns):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        from_nir(chain(node, output=(2,)), dt)
    assert [str(w.message)[:40] for w in caught] == ["an input of 1 moves the membranes of 0 l"] * warns


def test_sinabs_and_rockpool_with_what_docs_say_to_set():
    """Their equations, from their sources: Sinabs' LIF with norm_input, Rockpool's LIFTorch; a spike a step at most."""
    x = np.random.default_rng(0).uniform(0, 3, (40, 1, 2)).astype(np.float32)

    def spikes_of(integrate):
        v, i, spikes = np.zeros((1, 2)), np.zeros((1, 2)), []
        for current in x:
            v, i = integrate(v, i, current)
            spikes.append(v > 1)
            v = v - spikes[-1]
        return np.array(spikes)

    alpha = np.exp(-1 / 20)
    network = from_nir(chain(lif(tau=20.0)), 1.0, discretization="exact", reset="subtract")
    expected = spikes_of(lambda v, i, x: (alpha * v + (1 - alpha) * x, i))
    np.testing.assert_array_equal(outputs(network, x), expected)
    assert 0.02 < expected.mean() < 0.9

    dt, tau_mem, tau_syn = 1e-3, 20e-3, 10e-3
    alpha, beta = np.exp(-dt / tau_mem), np.exp(-dt / tau_syn)
    node = nir.CubaLIF(*(np.full(2, value) for value in (tau_syn, tau_mem, tau_mem * alpha / dt, 0.0, 1.0)))
    node.r = np.exp(-dt / node.tau_syn) / (np.expm1(-dt / node.tau_mem) * np.expm1(-dt / node.tau_syn))
    network = from_nir(chain(node), dt, discretization="exact", reset="subtract")
    expected = spikes_of(lambda v, i, x: (alpha * v + beta * (i + x / 20), beta * (i + x / 20)))
    np.testing.assert_array_equal(outputs(network, x / 20), expected)
    assert 0.02 < expected.mean() < 0.9


def test_no_file_and_no_graph(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no NIR file"):
        from_nir(tmp_path / "none.nir", DT)
    with pytest.raises(TypeError, match=r"takes a nir.NIRGraph or the path of one, got list"):
        from_nir([], DT)


def test_potentials_below_zero():
    volts = from_nir(LIF_GRAPH(v_leak=-65.0, v_threshold=-50.0, v_reset=-70.0, r=20.0), DT)
    shifted = from_nir(LIF_GRAPH(v_leak=0.0, v_threshold=15.0, v_reset=-5.0, r=20.0), DT)
    x = random_inputs((2,), 40)
    np.testing.assert_array_equal(outputs(volts, x), outputs(shifted, x))
    assert outputs(volts, x).any()


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([("input", "a"), ("a", "output"), ("b", "output")], "no way leads from the input to b"),
        ([("input", "a"), ("input", "b"), ("a", "output")], "no way leads to the output from b"),
        ([("input", "a"), ("a", "c"), ("a", "b"), ("b", "output")], "which is not one of"),
        ([("input", "a"), ("a", "b"), ("b", "a"), ("b", "output")], "the cycle .* has no delay and no neuron"),
        ([("a", "b"), ("b", "output")], "no way leads from the input"),
        ([("input", "a"), ("a", "b"), ("b", "input"), ("b", "output")], "'b' -> 'input' leads to the input"),
        ([("input", "a"), ("a", "b"), ("b", "output"), ("output", "a")], "'output' -> 'a' leads .* from the output"),
    ],
)
def test_a_graph_with_bad_edges_is_refused(edges, message):
    with pytest.raises(ValueError, match=message):
        Graph({"a": linear(2, 2), "b": linear(2, 2)}, edges)


def test_a_graph_names_the_layer_that_does_not_fit():
    with pytest.raises(ValueError, match="no layer can be named 'input'"):
        Graph({"input": linear(2, 2)}, [("input", "output")])
    graph = Graph({"a": linear(2, 3)}, [("input", "a"), ("input", "output"), ("a", "output")])
    with pytest.raises(ValueError, match="leads to 'output' must be of one shape"):
        graph.init((1, 2))
    with pytest.raises(ValueError, match="layer 'a' cannot take an input of shape"):
        graph.init((1, 4))


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(ImportError, match=r"pip install 'jsnn\[nir\]'"):
        to_nir(jsnn.IF(), (1,), DT)
    with pytest.raises(ImportError, match=r"pip install 'jsnn\[nir\]'"):
        from_nir("graph.nir", DT)
