"""The benchmark: every case in a small size, how sides are measured, and what is written."""

import functools
import importlib.util
import itertools
import json
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jsnn
from experiments import datasets
from experiments.benchmark import (
    __main__,
    brunel,
    delays,
    fc_lif,
    figure,
    latency_peers,
    long,
    mnist_conv,
    peers,
    result,
    zoo,
)
from experiments.benchmark.cases import CASES, comparisons
from experiments.benchmark.measure import Timing, measure
from experiments.benchmark.side import Comparison, Setting, Side, compiled
from experiments.config import Sets
from jsnn import models
from jsnn.data import Dataset

CPU = Setting(jax.devices("cpu")[0])
SIZES = {
    "mnist_recurrent": {"examples": 4, "batch_size": 2},
    "cifar10_conversion": {"examples": 2, "batch_size": 2},
    "encode": {"examples": 4, "batch_size": 2},
    "long": {"lengths": (10,), "neurons": (8,)},
    "zoo": {"kinds": ("LIF",), "neurons": (8,), "steps": 2, "batch_size": 1},
    "repairs": {"examples": 4},
    "shapes": {"steps": 2, "batch_size": 2},
    "online": {"neurons": 4, "steps": 3, "batch_size": 2, "epochs": 1},
    "recurrent": {"neurons": (8,), "batch_size": 2, "steps": 3},
    "delays": {"neurons": (8,), "steps": 6, "batch_size": 2, "max_delay": 3},
    "brunel": {"scale": 0.02, "steps": 200},
}
HAVE_TESTS_OF_THEIR_OWN = {"fc_lif", "mnist_conv", "latency"}


@pytest.fixture
def small_mnist(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1), np.uint8)
    dataset = Dataset(images, np.arange(4, dtype=np.int32))
    monkeypatch.setattr(datasets, "load", lambda settings: Sets(dataset, dataset, dataset))


@pytest.fixture(autouse=True)
def settings(monkeypatch):
    """A quick compiler; and what the command sets for its process is set back."""
    for name, value in __main__.SHARING.items():
        monkeypatch.setenv(name, value)
    names = ("jax_disable_most_optimizations", "jax_enable_compilation_cache")
    before = {name: jax.config.values[name] for name in names}
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


# Cases


@pytest.mark.slow
@pytest.mark.parametrize("case", SIZES)
def test_a_case_without_peers_runs(case, small_mnist, monkeypatch):
    monkeypatch.setattr(long, "measured_peak", lambda *case: 100 if case[-1] else 2000)
    monkeypatch.setattr(models, "rate_conv", functools.partial(models.rate_conv, ((2,),), (8,)))
    found = list(itertools.islice(comparisons([case], CPU, SIZES[case]), 2 if case == "zoo" else 1))
    assert found
    for name, comparison in found:
        assert name == case
        ours, *others = comparison.sides.values()
        assert ours.role == "jsnn"
        assert others or case in ("mnist_recurrent", "brunel")  # all they have beside them are peers
        measured = result.result(case, comparison, measure(comparison.sides, 1))
        for row in measured.rows:
            assert row["median_s"] > 0
            assert row["compile_s"] >= 0
            assert all(math.isfinite(value) for value in row["details"].values())
        assert not any("DIFFERENT" in note or "nothing" in note for note in comparison.notes)


def test_all_cases_are_tested():
    assert {*SIZES, *HAVE_TESTS_OF_THEIR_OWN} == set(CASES)


@pytest.mark.slow
def test_mnist_conv_layer_by_layer_is_step_by_step(monkeypatch):
    make, seen, weights = mnist_conv.jsnn_side, {}, mnist_conv.random_weights()
    weights |= {"conv1": 20 * weights["conv1"], "dense": 10 * weights["dense"]}  # so that all layers spike

    def only_note(setting, network, forward, *arrays, accumulate=1, **fields):
        seen[len(seen)] = network, forward
        return Side(lambda: 0.0, **fields)

    monkeypatch.setattr(mnist_conv, "jsnn_side", only_note)
    monkeypatch.setattr(mnist_conv, "random_weights", lambda: weights)
    ((_, comparison),) = comparisons(["mnist_conv"], CPU, {"steps": 12, "batch_size": 1})
    assert [side.role for side in comparison.sides.values()] == ["jsnn", "other", "other", "other"]
    spikes, labels = mnist_conv.random_problem(12, 1)
    outputs = [jax.jit(forward)(network, spikes) for network, forward in seen.values()]
    assert np.any(outputs[0])
    for other in outputs[1:]:
        np.testing.assert_allclose(other, outputs[0], atol=1e-5)
    side = make(CPU, *seen[0], spikes, labels)
    first, second = (side.run()["loss"] for _ in range(2))
    assert second != first  # it trains


def test_fc_lif_does_what_it_says(monkeypatch):
    weights, spikes = fc_lif.random_problem(steps=6, batch_size=2, size=8)
    weights *= 5
    monkeypatch.setattr(fc_lif, "random_problem", lambda *sizes: (weights, spikes))
    forward, backward = [
        [side.run() for side in comparison.sides.values()]
        for _, comparison in comparisons(["fc_lif"], CPU, {"neurons": (8,), "steps": 6, "batch_size": 2})
    ]
    neuron = jsnn.LIF(0.9)

    def loss(weights):
        state, total = neuron.init((2, 8)), 0.0
        for frame in spikes:
            state, out = neuron.step(state, frame @ weights)
            total += jnp.sum(out**2)
        return total

    value, gradient = jax.jit(jax.value_and_grad(loss))(weights)
    assert value > 0
    np.testing.assert_allclose(forward[0].sum(), value)
    np.testing.assert_allclose(backward[0][0], value)
    np.testing.assert_allclose(backward[0][1], gradient, rtol=1e-4, atol=1e-5)
    for currents in (forward[1], backward[1][0]):
        np.testing.assert_allclose(currents, spikes @ weights, rtol=1e-4, atol=1e-5)
    assert backward[1][1].shape == weights.shape


def test_fc_lif_in_bfloat16():
    ours, floor = fc_lif.sides(CPU._replace(precision="bf16"), False, *fc_lif.random_problem(2, 1, 8)).values()
    assert ours.run().dtype == floor.run().dtype == jnp.bfloat16


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_jsnn_has_the_gradients_of_dcls():
    pytest.importorskip("DCLS")
    assert delays.check(steps=20, size=8, max_delay=4).startswith("same gradients")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("peer", fc_lif.LIKE_PEER)
def test_jsnn_has_a_peers_dynamics(peer):
    pytest.importorskip(peer)
    for verdict in fc_lif.check(peer).values():
        assert verdict.startswith("same spikes")
    if peer in mnist_conv.LIKE_PEER:
        assert mnist_conv.check(peer).startswith("same outputs")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("peer", fc_lif.LIKE_PEER)
def test_a_peer_makes_gradients(peer, precision):
    pytest.importorskip(peer)
    weights, spikes = fc_lif.random_problem(steps=20, batch_size=2, size=8)
    sides = fc_lif.sides(CPU._replace(peers=(peer,), precision=precision), True, 20 * weights, spikes)
    assert len(sides) > 2
    for loss, gradient in [side.run() for side in sides.values() if side.role == "peer"]:
        assert float(loss) > 0
        assert gradient.shape == weights.shape
        assert str(gradient.dtype).endswith("float32" if precision == "float32" else "bfloat16")
        assert 0 < float(abs(gradient).sum()) < math.inf


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("peer", latency_peers.STEPS)
def test_a_peer_streams(peer):
    pytest.importorskip(peer)
    random = np.random.default_rng(0)
    kernels = [random.uniform(0, 2, shape).astype(np.float32) for shape in ((6, 4), (4, 3))]
    step, state = latency_peers.STEPS[peer](CPU, kernels)
    for frame in random.uniform(0, 2, (50, 1, 6)).astype(np.float32):
        before, state = state, step(state, frame)
    earlier, later = (np.asarray(jax.tree.leaves(states)[-1]) for states in (before, state))  # of the readout
    assert later.shape == (1, 3)
    assert np.all(later > 0)
    assert np.all(np.isfinite(later))
    assert np.all(earlier != later)


def test_zoo_has_every_neuron():
    kinds = zoo.every_neuron()
    assert {"ALIF", "IF", "LI", "LIF", "CuBaLIF", "Rate", "PoissonSpiking"} <= set(kinds)
    assert "SpikingNeuron" not in kinds  # what the others share
    for neuron in kinds.values():
        jax.eval_shape(lambda neuron=neuron: neuron.step(neuron.init((2, 8)), jnp.ones((2, 8))))


@pytest.mark.slow
def test_long_measures_a_process(capsys):
    long.print_peak(2_000, 4, 500, False)
    one_array = 2_000 * 4 * 500 * 4
    assert one_array < int(capsys.readouterr().out) < 10 * one_array


def test_what_a_compiled_program_takes():
    program = compiled(lambda x: x + 1, jnp.zeros(1000))
    assert program.memory_bytes == 8000
    donated = compiled(jax.jit(lambda x: x + 1, donate_argnums=0), jnp.zeros(1000))
    assert donated.memory_bytes == 4000


# Measuring


@pytest.mark.slow
def test_sides_take_turns():
    calls = []

    def side(name):
        return Side(lambda: calls.append(name) or 1.0)

    timings = measure({"a": side("a"), "b": side("b")}, rounds=3)
    assert all(len(timing.wall) == len(timing.cpu) == 3 for timing in timings.values())
    turns = [name for name, _ in itertools.groupby(calls[4:])]  # after the first and the second run of each
    assert turns == ["a", "b", "a", "b"]  # a b, b a, a b


@pytest.mark.parametrize("made", [math.nan, {"spikes": jnp.array([1.0, jnp.inf])}, np.array([-np.inf, np.inf])])
def test_what_is_not_finite_is_refused(made):
    with pytest.raises(FloatingPointError, match="bad made numbers that are not finite"):
        measure({"good": Side(lambda: 1.0), "bad": Side(lambda: made)}, 1)


def test_no_rounds_are_refused():
    with pytest.raises(ValueError, match="rounds must be >= 1, got 0"):
        measure({"a": Side(lambda: 1.0)}, 0)


@pytest.mark.parametrize(("theirs", "verdict"), [((38.8, 0.5), "same"), ((38.9, 0.5), "DIFF"), ((37, 0.53), "DIFF")])
def test_rates_and_variations_are_compared(theirs, verdict):
    assert brunel.verdict((37.0, 0.5), theirs).startswith(verdict)


@pytest.mark.parametrize(
    ("theirs", "verdict"),
    [
        ([0.0, 1.0], "same spikes: largest difference 0,"),
        ([1.0, 1.0], "DIFFERENT spikes, 1 of them: largest difference 1,"),
    ],
)
def test_compare(theirs, verdict):
    assert peers.compare([0.0, 1.0], theirs).startswith(verdict)
    assert "shows nothing" in peers.compare([0.0, 0.0], [0.0, 0.0])


# Results


@pytest.fixture
def found():
    sides = {
        "jsnn": Side(float, "jsnn", 0.5, 2_000_000, moved_bytes=400, details=lambda seconds: {"images/s": 8 / seconds}),
        "floor": Side(float, "floor", 0.1, moved_bytes=100),
        "norse": Side(float, "peer"),
    }
    timings = {
        "jsnn": Timing([2.0, 4.0, 3.0], [1.0, 2.0, 1.5], 9.0),
        "floor": Timing([1.0, 1.0, 2.0], [1.0, 1.0, 1.0], 1.0),
        "norse": Timing([6.0, 4.0, 9.0], [3.0, 3.0, 2.0], 7.0),
    }
    return result.result("some", Comparison("a thing", sides, ("norse: same spikes",)), timings)


def test_the_rows_of_a_result(found):
    ours, floor, norse = found.rows
    assert (ours["median_s"], ours["lowest_s"], ours["highest_s"], ours["cpu_s"]) == (3.0, 2.0, 4.0, 1.0)
    assert ours["times_floor"] == 2.0  # of 2, 4 and 1.5, each within a round
    assert [row["times_jsnn"] for row in found.rows] == [1.0, 0.5, 3.0]
    assert [row["compile_s"] for row in found.rows] == [0.5, 0.1, 1.0]  # norse: 7 less its median
    assert ours["details"] == {"images/s": 8 / 3, "GB/s": 400 / 3 / 1e9, "of copy bandwidth": 2.0}
    assert norse["memory_bytes"] is None
    assert floor["details"]["of copy bandwidth"] == 1.0


def test_what_is_written(found, tmp_path):
    where = {
        "device": "cpu: some",
        "threads": 1,
        "matmul precision": "float32",
        "versions": {"jax": "1.2", "norse": "3"},
    }
    result.write(tmp_path, where, [found])
    kept = json.loads((tmp_path / "benchmark.json").read_text())
    assert kept["environment"] == where
    assert kept["results"][0]["rows"] == found.rows
    page = (tmp_path / "benchmark.md").read_text()
    assert "* versions: jax 1.2, norse 3" in page
    assert "| norse | 6,000 | 4,000 | 9,000 | 2,000 | 4.5 | 3 |  |  |  | n/a | 1 |" in page
    assert "* norse: same spikes" in page
    figure.draw(tmp_path / "benchmark.png", where, [found, found])
    assert (tmp_path / "benchmark.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in tmp_path.iterdir()} == {"benchmark.json", "benchmark.md", "benchmark.png"}


# The command line


@pytest.mark.slow
def test_the_command_measures_prints_and_keeps(tmp_path, capsys):
    options = ["--case", "latency", "--peers", "none", "--steps", "2", "--rounds", "1", "--allocator", "system"]
    __main__.main([*options, "--out", str(tmp_path / "new" / "folder")])
    printed = capsys.readouterr().out
    assert "matrix products" in printed
    kept = json.loads((tmp_path / "new" / "folder" / "benchmark.json").read_text())
    assert {"device", "threads", "matmul precision", "versions", "command", "git revision"} <= set(kept["environment"])
    assert "--steps 2" in kept["environment"]["command"]
    assert [row["side"] for row in kept["results"][0]["rows"]] == ["jsnn", "matrix products"]


@pytest.mark.rows(4)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--case", "fc_liff"], "no case is called 'fc_liff', did you mean fc_lif?"),
        (["--case", "xyz"], "no case is called 'xyz'. There are fc_lif, "),
        (["--case", "latency", "--peers", "nors"], "no peer is called 'nors', did you mean norse?"),
        (["--case", "zoo", "--kinds", "LIFF"], "no neuron is called 'LIFF', did you mean LIF?"),
        (
            ["--case", "latency", "--neurons", "8"],
            "--neurons is for fc_lif, delays, long, zoo, online, recurrent, and means nothing",
        ),
        (["--case", "repairs", "--examples", "3"], "examples must be a multiple of 4, got 3"),
        (["--case", "cifar10_conversion", "--examples", "3"], "batch_size must be from 1 to the number of examples, 3"),
        (["--case", "latency", "--precision", "bf16"], "precision bf16 is for the cases fc_lif, mnist_conv, zoo, not"),
        (["--case", "latency", "--precision", "tf32"], "precision tf32 is a GPU's"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message, tmp_path):
    peerless = [] if "--peers" in options else ["--peers", "none"]
    with pytest.raises(SystemExit) as refused:
        __main__.main([*options, *peerless, "--allocator", "system", "--out", str(tmp_path)])
    assert message in str(refused.value)


def test_what_no_case_can_do_leaves_no_folder(tmp_path):
    with pytest.raises(SystemExit, match="no case is called"):
        __main__.main(["--case", "latency", "xyz", "--peers", "none", "--out", str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()


def test_a_case_that_fails_or_comes_too_late_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    def fails(setting):
        yield Comparison("first", {"jsnn": Side(lambda: 1.0)})
        raise NotImplementedError("no Triton")

    def takes_long(setting):
        for title in ("a", "b"):
            clock.append(3600.0)
            yield Comparison(title, {"jsnn": Side(lambda: 1.0)})

    clock = [0.0]
    monkeypatch.setattr(__main__, "time", types.SimpleNamespace(monotonic=lambda: sum(clock)))
    monkeypatch.setattr(figure, "draw", lambda *_: None)
    monkeypatch.setattr(__main__, "measure", lambda sides, *_: dict.fromkeys(sides, Timing([1.0], [1.0], 1.0)))
    cases = {"bad": fails, "slow": takes_long, "last": takes_long}
    for name, case in cases.items():
        monkeypatch.setitem(CASES, name, case)
    options = ["--case", *cases, "--peers", "none", "--allocator", "system", "--out", str(tmp_path)]
    with pytest.raises(SystemExit, match="error: bad: NotImplementedError: no Triton"):
        __main__.main([*options, "--minutes", "50"])
    written = json.loads((tmp_path / "benchmark.json").read_text())
    assert [(one["case"], one["title"]) for one in written["results"]] == [("bad", "first"), ("slow", "a")]
    late = "the 50 minutes were over"
    missing = {"bad": "NotImplementedError: no Triton", "slow": late, "last": late}
    assert written["environment"]["not measured"] == missing
    assert "no Triton" in (tmp_path / "benchmark.md").read_text()


def test_a_gpu_that_is_not_there(monkeypatch):
    def devices(platform=None):
        if platform == "gpu":
            raise RuntimeError("Unknown backend gpu")
        return [CPU.device]

    monkeypatch.setattr(jax, "devices", devices)
    with pytest.raises(SystemExit, match="--device gpu: JAX sees only cpu here"):
        __main__.main(["--device", "gpu", "--allocator", "system"])


@pytest.mark.parametrize(
    ("python", "said"),
    [
        (
            (3, 11, 9),
            "without dcls, jaxpike, norse, spikingjelly, spyx, which are not installed: pip install -e '.[peers]'\n"
            "without brainpy, sparx, which need Python 3.12 or newer\n",
        ),
        (
            (3, 12, 0),
            "without brainpy, dcls, jaxpike, norse, sparx, spikingjelly, spyx, "
            "which are not installed: pip install -e '.[peers]'\n",
        ),
    ],
)
def test_missing_peers_are_named_and_left_out(python, said, monkeypatch, capsys):
    there = {"snntorch"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in there else None)
    monkeypatch.setattr(peers.sys, "version_info", python)
    assert peers.installed(None) == ("snntorch",)
    assert capsys.readouterr().err == said
    assert peers.installed(["snntorch"]) == ("snntorch",)
    assert capsys.readouterr().err == ""


def test_layers_keep_their_weights():
    network = mnist_conv.tutorial_network(mnist_conv.random_weights(), mnist_conv.norse_neurons())
    kernels = [layer.kernel[...].shape for layer in network.layers if isinstance(layer, nnx.Conv | nnx.Linear)]
    assert kernels == [(5, 5, 1, 20), (5, 5, 20, 50), (800, 500), (500, 10)]
