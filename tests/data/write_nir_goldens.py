"""Writes the golden files of `tests/test_nir.py`, with Norse, snnTorch and SpikingJelly installed.

    python tests/data/write_nir_goldens.py           writes graphs of theirs, and what they compute on random inputs
    python tests/data/write_nir_goldens.py --check   loads graphs of ours into them, and compares what they compute

A golden file holds the bytes of the `.nir` file, the inputs and outputs `[T, B, ...]`, channels first, and what
`from_nir` is to be told. Written with norse 1.1.0, snntorch 1.0.0, spikingjelly 2.0.0, nirtorch 2.6 and nir 1.0.8.
"""

import contextlib
import io
import json
import sys
import tempfile
import warnings
from pathlib import Path

import jax
import nir
import norse.torch as norse
import numpy as np
import snntorch
import torch
from flax import nnx
from snntorch.export_nir import export_to_nir as from_snntorch
from snntorch.import_nir import import_from_nir as to_snntorch
from snntorch.utils import reset
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.nir_exchange import export_to_nir as from_spikingjelly
from spikingjelly.activation_based.nir_exchange import import_from_nir as to_spikingjelly
from torch import nn

import jsnn
import jsnn.nir

HERE = Path(__file__).parent
STEPS, BATCH = 24, 2


def inputs(shape, seed=0, steps=STEPS, batch=BATCH):
    """Random inputs [T, B, ...], coarse so that they take little room."""
    values = np.random.default_rng(seed).integers(-8, 25, (steps, batch, *shape)) / 16
    return torch.tensor(values, dtype=torch.float32)


def stateful(network, x):
    """What a network puts out that takes and gives back its state."""
    state, outputs = None, []
    for current in x:
        y, state = network(current, state)
        outputs.append(y.to_dense() if y.is_sparse else y)
    return torch.stack(outputs).detach()


def stateless(network, x):
    """What a network puts out that keeps its state."""
    outputs = []
    for current in x:
        y = network(current)
        outputs.append(y[0] if isinstance(y, tuple) else y)
    return torch.stack(outputs).detach()


# Norse. One threshold for all neurons would be written as an array without axes, which nir cannot save.


def box(shape, tau, v_th=0.5):
    values = norse.LIFBoxParameters(
        tau_mem_inv=torch.full(shape, 1 / tau), v_leak=torch.zeros(shape), v_th=torch.full(shape, v_th)
    )
    return norse.LIFBoxCell(values)


def norse_dense():
    readout = norse.LIBoxCell(norse.LIBoxParameters(tau_mem_inv=torch.full((3,), 100.0), v_leak=torch.zeros(3)))
    network = norse.SequentialState(nn.Linear(4, 6), box((6,), 5e-3, 0.3), nn.Linear(6, 3), readout)
    x = inputs((4,))
    # Norse writes dt * tau for tau: at its default dt = 1e-3 that is dt ** 2 for dt
    return norse.to_nir(network, x[0, 0]), x, stateful(network, x), {"dt": 1e-6}


def norse_seconds():
    network = norse.SequentialState(nn.Linear(4, 6), box((6,), 5e-3, 0.3), nn.Linear(6, 3), box((3,), 3e-3, 0.1))
    x = inputs((4,))
    # at dt = 1 it writes tau; the batch axis goes with the shapes of input and output
    return norse.to_nir(network, x[0], dt=1.0), x, stateful(network, x), {"dt": 1e-3}


def norse_conv():
    def integrator(shape):
        return norse.IAFCell(norse.IAFParameters(v_th=torch.full(shape, 1.5)))

    network = norse.SequentialState(
        nn.Conv2d(2, 3, 3), integrator((3, 3, 4)), nn.Conv2d(3, 2, 2, 2, 1), integrator((2, 2, 3))
    )
    x = inputs((2, 5, 6))
    graph = norse.to_nir(network, x[0, 0])
    graph.infer_types()  # input_shape is None otherwise, which nir cannot save
    return graph, x, stateful(network, x), {"dt": 1.0}  # r = 1: the input is added in every step


def norse_cuba():
    values = norse.LIFParameters(
        tau_syn_inv=torch.full((5,), 200.0), tau_mem_inv=torch.full((5,), 100.0),
        v_leak=torch.zeros(5), v_th=torch.full((5,), 0.4), v_reset=torch.zeros(5),
    )  # fmt: skip
    network = norse.SequentialState(nn.Linear(4, 5), norse.LIFCell(values))
    x = inputs((4,))
    graph = norse.to_nir(network, x[0, 0], dt=1.0)
    for node in graph.nodes.values():
        if isinstance(node, nir.CubaLIF):  # Norse's current jumps by its input, but it writes w_in = 1
            node.w_in = np.asarray(node.tau_syn) / 1e-3
    return graph, x, stateful(network, x), {"dt": 1e-3}


# snnTorch, whose graphs are for dt = 1e-4

AS_WRITTEN = {"reset_mechanism": "zero", "reset_delay": False}  # which is what the files say, and not its default
BY_DEFAULT = {"dt": 1e-4, "reset": "subtract", "reset_delay": True}


def each(value, *shape):
    return torch.full(shape, value)


def hidden(neuron, *args, **kwargs):
    return neuron(*args, **kwargs, init_hidden=True)


def snntorch_case(network, shape, **settings):
    x = inputs(shape)
    reset(network)
    outputs = stateless(network, x)
    graph = from_snntorch(network, x[0, :1], ignore_dims=[0])
    return graph, x, outputs, settings


def snntorch_dense():
    network = nn.Sequential(
        nn.Linear(4, 6), hidden(snntorch.Leaky, each(0.9, 6), each(0.6, 6), **AS_WRITTEN),
        nn.Linear(6, 3, bias=False), hidden(snntorch.Synaptic, each(0.8, 3), each(0.9, 3), each(0.5, 3), **AS_WRITTEN),
    )  # fmt: skip
    return snntorch_case(network, (4,), dt=1e-4)


def snntorch_default():
    network = nn.Sequential(
        nn.Linear(4, 6), hidden(snntorch.Leaky, each(0.9, 6), each(0.6, 6)),
        nn.Linear(6, 3), hidden(snntorch.Synaptic, each(0.8, 3), each(0.9, 3), each(0.5, 3)),
    )  # fmt: skip
    return snntorch_case(network, (4,), **BY_DEFAULT)


def snntorch_conv():
    network = nn.Sequential(
        nn.Conv2d(2, 3, 3), hidden(snntorch.Leaky, each(0.8, 3, 4, 4), each(0.5, 3, 4, 4), **AS_WRITTEN),
        nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(12, 3), hidden(snntorch.Leaky, each(0.9, 3), each(0.2, 3), **AS_WRITTEN),
    )  # fmt: skip
    return snntorch_case(network, (2, 6, 6), dt=1e-4)


def snntorch_recurrent():
    network = nn.Sequential(
        nn.Linear(4, 5), hidden(snntorch.RLeaky, 0.9, threshold=0.6, linear_features=5),
        nn.Linear(5, 3), hidden(snntorch.RSynaptic, 0.8, 0.9, threshold=0.5, linear_features=3),
    )  # fmt: skip
    return snntorch_case(network, (4,), **BY_DEFAULT)  # a hidden RSynaptic fails with reset_delay=False


# SpikingJelly


def spikingjelly_case(network, shape):
    x = inputs(shape)
    functional.reset_net(network)
    outputs = stateless(network, x)
    functional.reset_net(network)
    return from_spikingjelly(network, x[0]), x, outputs, {"dt": 1e-4}


def spikingjelly_dense():
    network = nn.Sequential(
        layer.Linear(4, 6), neuron.IFNode(v_threshold=0.8), layer.Linear(6, 5, bias=False),
        neuron.LIFNode(tau=3.0, v_threshold=0.3, v_reset=0.1), layer.Linear(5, 3),
        neuron.CUBALIFNode(c_decay=0.5, v_decay=0.7, v_threshold=0.5),
    )  # fmt: skip
    return spikingjelly_case(network, (4,))


def spikingjelly_conv():
    network = nn.Sequential(
        layer.Conv2d(2, 3, 3, padding=1, bias=False), neuron.ParametricLIFNode(v_threshold=0.1), layer.AvgPool2d(2),
        layer.Flatten(), layer.Linear(18, 3), neuron.LIFNode(tau=3.0, decay_input=False, v_threshold=0.1),
    )  # fmt: skip
    return spikingjelly_case(network, (2, 4, 6))


def spikingjelly_conv1d():
    network = nn.Sequential(layer.Conv1d(2, 3, 3, stride=2, padding=1), neuron.IFNode(v_threshold=0.3))
    return spikingjelly_case(network, (2, 7))


CASES = (
    norse_dense, norse_seconds, norse_conv, norse_cuba,
    snntorch_dense, snntorch_default, snntorch_conv, snntorch_recurrent,
    spikingjelly_dense, spikingjelly_conv, spikingjelly_conv1d,
)  # fmt: skip


def write(case):
    torch.manual_seed(0)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        graph, x, outputs, settings = case()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.nir"
        nir.write(path, graph)
        content = np.frombuffer(path.read_bytes(), np.uint8)
    name = HERE / f"nir_{case.__name__}.npz"
    spikes = np.asarray(outputs)
    is_binary = set(np.unique(spikes)) <= {0, 1}
    np.savez_compressed(
        name, graph=content, inputs=(np.asarray(x) * 16).astype(np.int8),
        outputs=spikes.astype(np.uint8) if is_binary else spikes, settings=json.dumps(settings),
    )  # fmt: skip
    print(f"{name.name}: {name.stat().st_size:,} bytes, mean output {spikes.mean():.3f}")
    assert not is_binary or 0.02 < spikes.mean() < 0.9, "too quiet or too loud to tell anything"


# Ours in theirs


# What they cannot have, and why; read in their sources
KNOWN = {
    ("gain 1", "norse"): "takes r for 1, with a warning",
    ("recurrent", "norse"): "takes r for 1, with a warning",
    ("average", "norse"): "has no AvgPool2d",
    ("flat", "norse"): "has no AvgPool2d",
    ("branches", "norse"): "runs a layer before all that leads to it has run",
    ("integrate", "snntorch"): "takes no r but 1, and makes a leaky neuron of it",
    ("loop", "snntorch"): "leads the input to the recurrent weights, not to the neuron",
    ("recurrent", "snntorch"): "makes a subgraph of it, as it writes one itself, which nirtorch does not load",
}


def ours():
    """Networks of ours, and the shape of their inputs."""
    rngs = nnx.Rngs(0)

    def linear(*sizes, **options):
        return nnx.Linear(*sizes, rngs=rngs, **options)

    def conv(*sizes):
        return jsnn.Conv(*sizes, padding="VALID", rngs=rngs)

    def lif(decay, threshold, gain=None):  # with a gain of 1 - decay, r = 1, the only r that Norse takes
        return jsnn.LIF(decay, gain=1 - decay if gain is None else gain, threshold=threshold, reset="zero")

    def cuba(threshold):
        return jsnn.CuBaLIF(0.9, 0.8, threshold=threshold, reset="zero")

    def sum_pool(x):
        return nnx.pool(x, 0.0, jax.lax.add, (2, 2), (2, 2), "VALID")

    def pooled(pool):
        return jsnn.Sequential(conv(2, 4, (3, 3)), lif(0.8, 0.05), pool, conv(4, 6, (2, 2)), lif(0.8, 0.01))

    def flat(pool):
        return jsnn.Sequential(conv(2, 3, (3, 3)), lif(0.8, 0.05), pool, jsnn.flatten, linear(12, 3), lif(0.9, 0.01))

    branches = {"a": linear(4, 5), "lif": lif(0.8, 0.1), "b": linear(5, 5), "c": linear(4, 5), "out": lif(0.8, 0.1)}
    edges = [("input", "a"), ("a", "lif"), ("lif", "b"), ("b", "out"), ("input", "c"), ("c", "out"), ("out", "output")]
    recurrent = jsnn.Recurrent(lif(0.8, 0.5, 1.0), linear(5, 5, use_bias=False))
    return {
        "dense": (jsnn.Sequential(linear(4, 6), lif(0.9, 0.05), linear(6, 3), lif(0.8, 0.05)), (4,)),
        "gain 1": (jsnn.Sequential(linear(4, 6), lif(0.9, 0.5, 1.0), linear(6, 3), lif(0.8, 0.3, 1.0)), (4,)),
        "current": (jsnn.Sequential(linear(4, 6), cuba(0.3), linear(6, 3), cuba(0.1)), (4,)),
        "average": (pooled(jsnn.avg_pool), (6, 6, 2)),
        "sum": (pooled(sum_pool), (6, 6, 2)),
        "flat": (flat(jsnn.avg_pool), (6, 6, 2)),
        "flat sums": (flat(sum_pool), (6, 6, 2)),
        "integrate": (jsnn.Sequential(linear(4, 5), jsnn.IF(threshold=1.0, reset="zero")), (4,)),
        "branches": (jsnn.nir.Graph(branches, edges), (4,)),
        "loop": (jsnn.Recurrent(lif(0.8, 0.11), linear(4, 4, use_bias=False)), (4,)),
        "recurrent": (jsnn.Sequential(linear(4, 5), recurrent, linear(5, 3), lif(0.8, 0.2, 1.0)), (4,)),
    }


def in_norse(graph, x, dt):
    return stateful(norse.from_nir(graph, dt=dt, ignore_warnings=True), x)


def in_snntorch(graph, x, dt):
    network = to_snntorch(graph)
    reset(network)
    return stateful(network, x)


def in_spikingjelly(graph, x, dt):
    return stateful(to_spikingjelly(graph, dt=dt), x[:, None])[:, 0]  # it leaves the batch axis out of the flattening


def saved(graph):
    """A graph, written to a file and read again."""
    with tempfile.TemporaryDirectory() as folder:
        nir.write(f"{folder}/graph.nir", graph)
        return nir.read(f"{folder}/graph.nir")


def check():
    dt = 1e-4  # which snnTorch has no choice of
    for name, (network, shape) in ours().items():
        x = inputs((*shape[-1:], *shape[:-1]))
        _, expected = jsnn.unroll(network, np.moveaxis(x.numpy(), 2, -1))
        expected = np.moveaxis(np.asarray(expected), -1, 2)
        assert 0.02 < expected.mean() < 0.98, f"{name}: too quiet or too loud to tell anything"
        for peer, run in {"norse": in_norse, "snntorch": in_snntorch, "spikingjelly": in_spikingjelly}.items():
            outputs = None
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                with contextlib.suppress(AssertionError, AttributeError, RuntimeError):  # what they have not
                    # Norse and snnTorch flatten the batch axis with the others
                    one_by_one = [run(saved(jsnn.nir.to_nir(network, shape, dt)), x[:, n], dt) for n in range(BATCH)]
                    outputs = torch.stack(one_by_one, 1).numpy()
            agree = outputs is not None and np.array_equal(outputs, expected)
            print(f"{name:10} {peer:13} {'the same spikes' if agree else KNOWN.get((name, peer), 'DIFFERENT')}")
            assert agree != ((name, peer) in KNOWN), (name, peer, outputs)


if __name__ == "__main__":
    if "--check" in sys.argv:
        check()
    else:
        for case in CASES:
            write(case)
