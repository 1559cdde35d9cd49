"""Exported networks: they are the networks, run without jsnn, and refuse what does not fit."""

import copy
import json
import os
import pickle
import runpy
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from test_neurons import NEURONS

import jsnn
from jsnn.export import load, loading, save
from jsnn.files import FileError

ROOT = Path(__file__).resolve().parents[1]
B, T = 3, 12


def rngs():
    return nnx.Rngs(0)


class Skip(nnx.Module):
    """A neuron that is called twice, a connection around it, several inputs and outputs."""

    def __init__(self):
        self.linear, self.lif = nnx.Linear(4, 4, rngs=rngs()), jsnn.LIF(nnx.Param(jnp.asarray(0.8)))

    def __call__(self, x):
        once = self.lif(self.linear(x["sound"]))
        return {"out": self.lif(self.linear(once)) + x["light"], "all": (once,)}


def recurrent():
    return jsnn.Sequential(
        nnx.Linear(4, 8, rngs=rngs()), jsnn.Recurrent(jsnn.ALIF(), nnx.Linear(8, 8, rngs=rngs())), jsnn.LI(0.9)
    )


def convolution():
    return jsnn.Sequential(
        jsnn.Conv(1, 8, (3, 3), rngs=rngs()), jsnn.LIF(0.9), jsnn.Conv(8, 8, (3, 3), strides=2, rngs=rngs()),
        nnx.BatchNorm(8, rngs=rngs()), jsnn.LIF(0.9), jsnn.max_pool, jsnn.flatten,
        jsnn.Linear(32, 512, rngs=rngs()), jsnn.LIF(0.9), jsnn.Dropout(0.5, jax.random.key(0)),
        nnx.Dropout(0.5, rngs=rngs()), nnx.Linear(512, 4, rngs=rngs()), jsnn.LI(0.9),
    )  # fmt: skip


def converted():
    dense = nnx.Sequential(nnx.Linear(4, 16, rngs=rngs()), jax.nn.relu, nnx.Linear(16, 4, rngs=rngs()))
    return jsnn.convert(dense, jnp.ones((1, 4)), swap={jax.nn.relu: jsnn.IF()}, v_init=0.5)


NETWORKS = {
    "LIF": (lambda: jsnn.LIF(0.9), (4,)),
    "ALIF": (lambda: jsnn.Sequential(nnx.Linear(4, 8, rngs=rngs()), jsnn.ALIF()), (4,)),
    "convolution": (convolution, (8, 8, 1)),
    "recurrent": (recurrent, (4,)),
    "delays": (lambda: jsnn.Sequential(jsnn.DelayedLinear(4, 6, max_delay=5, rngs=rngs()), jsnn.LIF(0.9)), (4,)),
    "skip": (lambda: jsnn.Network(Skip()), {"sound": (4,), "light": (4,)}),
    "converted": (converted, (4,)),
    "plastic": (lambda: jsnn.Plastic(jnp.full((4, 3), 0.3), jsnn.plasticity.STDP(), jsnn.LIF(0.9)), (4,)),
    "random": (lambda: jsnn.Stochastic(jsnn.LIF(0.9), jax.random.key(3)), (4,)),
}


def drawn(shape, *axes):
    """Inputs of a shape, or of several."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda one: jnp.asarray(rng.uniform(-0.5, 2, (*axes, *one)), jnp.float32),
        shape,
        is_leaf=lambda one: isinstance(one, tuple),
    )


def in_use(network):
    """A network as one evaluates it."""
    if isinstance(network, nnx.Module):
        network.eval()

    def without_key(part):
        return jsnn.Dropout(part.rate) if isinstance(part, jsnn.Dropout) else part

    return jax.tree.map(without_key, network, is_leaf=lambda part: isinstance(part, jsnn.Dropout))


def assert_equal(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def compare(make, shape, path, num_steps):
    """Step by step and at once, the network and what was loaded give the same bits, for two sizes of a batch."""
    save(make(), drawn(shape, 1), path, num_steps=num_steps)
    loaded, network = load(path), in_use(make())
    step = jax.jit(lambda network, state, x: network.step(state, x))
    xs = drawn(shape, num_steps, B)
    first = jax.tree.map(lambda x: x[0], xs)
    state, own = loaded.init(B), network.init(jax.tree.map(jnp.shape, first))
    total = 0.0
    for t in range(num_steps):
        x = jax.tree.map(lambda x: x[t], xs)  # noqa: B023
        (state, y), (own, expected) = loaded.step(state, x), step(network, own, x)
        assert_equal(y, expected)
        total += sum(float(jnp.abs(leaf).sum()) for leaf in jax.tree.leaves(y))
    assert total > 0
    assert_equal(
        loaded.unroll(xs)[1], jax.jit(jsnn.unroll)(network, xs, network.init(jax.tree.map(jnp.shape, first)))[1]
    )
    assert jax.tree.leaves(loaded.step(loaded.init(1), jax.tree.map(lambda x: x[:1], first))[1])[0].shape[0] == 1


@pytest.mark.rows(2)
@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_loaded_is_the_network(name, tmp_path):
    compare(*NETWORKS[name], tmp_path / "network.jsnn", T)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_over_10_000_steps(name, tmp_path):
    compare(*NETWORKS[name], tmp_path / "network.jsnn", 10_000)


@pytest.mark.slow
@pytest.mark.parametrize("name", NEURONS)
def test_every_neuron(name, tmp_path):
    compare(lambda: NEURONS[name], (4,), tmp_path / "network.jsnn", T)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A network with four steps of a static input."""
    path = tmp_path_factory.mktemp("export") / "network.jsnn"
    network = jsnn.Sequential(nnx.Linear(4, 5, rngs=rngs()), jsnn.LIF(0.9))
    save(network, jnp.ones((1, 4)), path, num_steps=4, is_static=True)
    return path


def test_what_a_file_says(file):
    loaded = load(file)
    header = loaded.header
    assert header["platforms"] == ["cpu", "cuda", "rocm", "tpu"]
    assert (header["batch_size"], header["num_steps"]) == (None, 4)
    assert header["state"] == [{"name": "1.v", "shape": ["b", 5], "dtype": "float32"}]
    assert header["input"] == header["unroll_input"] == [{"name": "", "shape": ["b", 4], "dtype": "float32"}]
    assert [one["shape"] for one in header["weights"]] == [[5], [4, 5]]
    assert loaded.unroll(np.ones((2, 4)))[1].shape == (4, 2, 5)


def test_it_runs_inside_of_jit_and_goes_on_from_a_state(file):
    loaded, x = load(file), drawn((4,), B)
    state, spikes = jax.jit(lambda state, x: loaded.unroll(x, state))(loaded.init(B), x)
    stepped = jax.lax.scan(lambda state, _: loaded.step(state, x), loaded.init(B), length=8)[1]
    assert_equal(jnp.concatenate([spikes, loaded.unroll(x, state)[1]]), stepped)


@pytest.mark.rows(1)
@pytest.mark.parametrize("any_batch", [False, True])
def test_it_is_a_neuron_too(any_batch, tmp_path):
    network = jsnn.Sequential(nnx.Linear(4, 5, rngs=rngs()), jsnn.LIF(0.9))
    save(network, jnp.ones((B, 4)), tmp_path / "a.jsnn", platforms=["cpu"], any_batch=any_batch)
    loaded, x = load(tmp_path / "a.jsnn"), drawn((4,), T, B)
    assert_equal(jsnn.unroll(loaded, x)[1], jsnn.unroll(network, x)[1])
    assert_equal(jsnn.record(loaded, x)["Exported"].outputs, jsnn.unroll(network, x)[1])
    followed = [jsnn.Sequential(one, jsnn.LI(0.5)) for one in (loaded, network)]
    assert_equal(*(jsnn.unroll(one, x[0], num_steps=4)[1] for one in followed))
    without_batch = r"float32\[b, 4\], got float32\[4\]" if any_batch else "batch_size must be 3, got 4"
    for wrong, message in ((x[..., :3], r"x must be float32\[3, 4\]"), (x[:, 0], without_batch)):
        with pytest.raises(ValueError, match=message):
            jsnn.unroll(loaded, wrong)


def test_unroll_runs_one_of_several_inputs(tmp_path):
    network = jsnn.Network(lambda x: jsnn.LIF(0.9)(x["a"] + x["b"]))
    inputs = {"a": drawn((4,), T, B), "b": drawn((4,), T, B) + 1}
    save(network, jax.tree.map(lambda x: x[0], inputs), tmp_path / "a.jsnn", platforms=["cpu"])
    assert_equal(jsnn.unroll(load(tmp_path / "a.jsnn"), inputs)[1], jsnn.unroll(network, inputs)[1])


@pytest.mark.parametrize("any_batch", [True, False])
def test_under_vmap_it_runs_once_for_each(any_batch, tmp_path):
    network = jsnn.Sequential(nnx.Linear(4, 5, rngs=rngs()), jsnn.LIF(0.9))
    save(network, jnp.ones((B, 4)), tmp_path / "a.jsnn", num_steps=4, platforms=["cpu"], any_batch=any_batch)
    loaded, x = load(tmp_path / "a.jsnn"), drawn((4,), 3, 4, B)
    states = jax.tree.map(lambda v: jnp.stack([v, v, v + 0.5]), loaded.init(B))
    run = jax.jit(jax.vmap(lambda x, state: loaded.unroll(x, state), (0, 0)))
    one_by_one = [loaded.unroll(x[i], jax.tree.map(lambda v: v[i], states)) for i in range(3)]  # noqa: B023
    assert_equal(run(x, states), jax.tree.map(lambda *each: jnp.stack(each), *one_by_one))
    assert_equal(jax.vmap(loaded.unroll)(x)[1], jnp.stack([loaded.unroll(each)[1] for each in x]))
    stepped = jax.vmap(loaded.step, (None, 0))(loaded.init(B), x[:, 0])[1]
    assert_equal(stepped, jnp.stack([loaded.step(loaded.init(B), each)[1] for each in x[:, 0]]))


def test_the_network_stays_in_training(tmp_path):
    network = jsnn.Sequential(nnx.BatchNorm(4, rngs=rngs()), jsnn.LIF(0.9), jsnn.Dropout(0.5, jax.random.key(0)))
    save(network, X, tmp_path / "a.jsnn", platforms=["cpu"])
    assert not network.layers[0].use_running_average
    assert network.layers[2].key is not None


def twice(x, lif=jsnn.LIF(0.9)):  # noqa: B008
    return lif(jnp.concatenate([x, -x]))[: x.shape[0]]


@pytest.mark.parametrize("name", ["its synapse in training", "a state of two batches"])
def test_unusual_networks(name, tmp_path):
    network = jsnn.Network(twice)
    if name == "its synapse in training":  # of what is no module itself
        dropout = nnx.Dropout(0.5, rngs=rngs())
        network = jsnn.Recurrent(jsnn.LIF(0.9), nnx.Sequential(nnx.Linear(4, 4, rngs=rngs()), dropout))
    save(network, X, tmp_path / "a.jsnn", platforms=["cpu"])
    if name == "its synapse in training":
        assert not dropout.deterministic
        network.synapse.eval()
    loaded, x, ys = load(tmp_path / "a.jsnn"), drawn((4,), T, B), []
    state = loaded.init(B)
    for now in x:
        state, y = loaded.step(state, now)
        ys.append(y)
    assert_equal(jnp.stack(ys), jsnn.unroll(network, x)[1])


def test_a_loaded_network_can_be_copied(file):
    loaded, x = load(file), drawn((4,), B)
    for copied in copy.deepcopy(loaded), pickle.loads(pickle.dumps(loaded)):
        assert_equal(copied.unroll(x), loaded.unroll(x))


@pytest.mark.parametrize("decay", [0.5, jnp.asarray(0.5), np.full(4, 0.5)], ids=["number", "weak", "float64"])
def test_bfloat16(decay, tmp_path):
    x = drawn((4,), 6, B).astype(jnp.bfloat16)
    save(jsnn.LIF(decay), x[0], tmp_path / "a.jsnn", num_steps=6, platforms=["cpu"])
    actual = load(tmp_path / "a.jsnn").unroll(x)
    state, spikes = jax.jit(jsnn.unroll)(jsnn.LIF(decay), x)
    assert (spikes.dtype, state.v.dtype) == (jnp.bfloat16, jnp.float32)
    assert_equal((actual[0]["v"], actual[1]), (state.v, spikes))


def of_whole_batch(x):
    return jnp.tile(x.mean(0), (len(x), 1))


def test_a_network_that_has_to_know_the_size_of_a_batch(tmp_path):
    network, path = jsnn.Sequential(of_whole_batch, jsnn.LIF(0.9)), tmp_path / "a.jsnn"
    with pytest.raises(ValueError, match=r"Sequential cannot be exported: .*it can be with any_batch=False, or"):
        save(network, jnp.ones((2, 4)), path)
    save(network, jnp.ones((2, 4)), path, any_batch=False)
    loaded = load(path)
    assert loaded.step(loaded.init(), jnp.ones((2, 4)))[1].shape == (2, 4)
    with pytest.raises(ValueError, match="batch_size must be 2, got 3"):
        loaded.init(3)
    save(jsnn.LIF(0.9), jnp.ones(()), path, any_batch=False)  # one neuron, without a batch
    loaded = load(path)
    assert loaded.step(loaded.init(), jnp.ones(()))[1].shape == ()


class Changing(nnx.Module):
    def __init__(self):
        self.count, self.lif = nnx.Variable(jnp.zeros(())), jsnn.LIF(0.9)

    def __call__(self, x):
        self.count[...] = self.count[...] + 1
        return self.lif(x)


def called(x):
    return jax.pure_callback(lambda x: x, x, x)


X = jnp.ones((1, 4))
SMALL = jsnn.Sequential(nnx.Linear(4, 5, rngs=rngs()), jsnn.LIF(0.9))


@pytest.mark.parametrize(
    ("network", "example", "options", "error", "message"),
    [
        (nnx.Linear(4, 5, rngs=rngs()), X, {}, TypeError, "takes a Neuron, .*, got Linear"),
        (SMALL, jnp.ones((1, 3)), {}, ValueError, "layer 0_Linear takes 4 channels, got 3"),
        (SMALL, jnp.ones((1, 4), int), {}, TypeError, "inputs must be floating point, got int32"),
        (SMALL, [[1.0, 2.0, 3.0, 4.0]], {}, TypeError, "example must be made of arrays of numbers or .*, got 1.0"),
        (SMALL, np.array([["a"]]), {}, TypeError, "example must be made of arrays of numbers or .*, got array"),
        (SMALL, None, {}, TypeError, "example must have an array, got None"),
        (jsnn.LIF(), jnp.ones(()), {}, ValueError, "example must have one batch axis"),
        (SMALL, {"a": X, "b": jnp.ones((2, 4))}, {}, ValueError, "example must have one batch axis"),
        (SMALL, X[:0], {"any_batch": False}, ValueError, "a batch of 1 or more"),
        (SMALL, X, {"num_steps": 0}, ValueError, "num_steps must be >= 1, got 0"),
        (SMALL, X, {"is_static": True}, ValueError, "pass num_steps as well"),
        (SMALL, X, {"platforms": ["gpu"]}, ValueError, "platforms must be some of cpu, cuda, rocm, tpu, got"),
        (SMALL, X, {"platforms": "cpu"}, ValueError, "platforms must be some of"),
        (jsnn.Network(Changing()), X, {}, ValueError, "a network that changes itself"),
        (jsnn.Sequential(called, jsnn.LIF()), X, {}, ValueError, r"cannot be exported: .*callback$"),
    ],
)
def test_what_is_not_exported(network, example, options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        save(network, example, tmp_path / "a.jsnn", **options)
    assert not list(tmp_path.iterdir())


def test_paths(tmp_path):
    for path, error in ((tmp_path, ValueError), (tmp_path / "nowhere" / "a.jsnn", FileNotFoundError)):
        with pytest.raises(error, match="folder"):
            save(SMALL, X, path)
    with pytest.raises(ValueError, match="path must name a file, got the folder"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load(tmp_path / "a.jsnn")
    with pytest.raises(TypeError, match=r"call save outside of jax\.jit"):
        jax.jit(lambda network: save(network, X, tmp_path / "a.jsnn"))(SMALL)
    with pytest.raises(TypeError, match="network has shapes and no weights"):
        save(nnx.eval_shape(lambda: nnx.clone(SMALL)), X, tmp_path / "a.jsnn")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda net, state: net.init(), TypeError, "batch_size must be a whole number, got None"),
        (lambda net, state: net.init(0), ValueError, "batch_size must be >= 1, got 0"),
        (
            lambda net, state: net.step(state, np.ones((3, 5))),
            ValueError,
            r"x must be float32\[3, 4\], got float32\[3, 5",
        ),
        (lambda net, state: net.step(state, np.ones(4)), ValueError, r"x must be float32\[b, 4\], got float32\[4\]"),
        (lambda net, state: net.step(state, np.ones((3, 4), int)), TypeError, r"x must be float32\[3, 4\], got int32"),
        (lambda net, state: net.step(state, np.ones((2, 4))), ValueError, r"state '1.v' must be float32\[2, 5\], got"),
        (
            lambda net, state: net.step(state, np.ones((0, 4))),
            ValueError,
            r"x must have a batch of 1 or more, got float32\[0, 4\]",
        ),
        (
            lambda net, state: jax.grad(lambda x: net.step(state, x)[1].sum())(np.ones((3, 4), np.float32)),
            TypeError,
            "a loaded network has no gradient: train the network that was saved",
        ),
        (lambda net, state: net.step({}, np.ones((3, 4))), ValueError, "state must be a tree of 1.v, got a tree of no"),
        (
            lambda net, state: net.step(state, {"a": np.ones((3, 4))}),
            ValueError,
            "x must be one array, got a tree of a",
        ),
        (
            lambda net, state: net.unroll(np.ones((4, 3, 4))),
            ValueError,
            r"x must be float32\[b, 4\], got float32\[4, 3",
        ),
    ],
)
def test_calls_that_do_not_fit(call, error, message, file):
    loaded = load(file)
    with pytest.raises(error, match=message):
        call(loaded, loaded.init(3))


def test_without_unroll(tmp_path):
    save(SMALL, X, tmp_path / "a.jsnn", platforms=["cpu"])
    with pytest.raises(ValueError, match="the file has no unroll"):
        load(tmp_path / "a.jsnn").unroll(jnp.ones((4, 2, 4)))


def test_damaged_files(file, tmp_path):
    content, path = file.read_bytes(), tmp_path / "a.jsnn"
    rng = np.random.default_rng(0)
    damaged = [b"", b"hello", content[:-1], content + b"\n", content[:20], rng.bytes(1000)]
    for place in [*range(0, 60, 4), *rng.integers(0, len(content), 50)]:
        damaged.append(content[:place] + bytes([content[place] ^ 2]) + content[place + 1 :])
    for one in damaged:
        path.write_bytes(one)
        with pytest.raises(FileError, match=r"is not a file that|is damaged or incomplete|has version"):
            load(path)


def rewritten(content, change):
    """A file with another header and a checksum that fits."""
    _, _, rest = content.partition(b"\n")
    text, _, body = rest.partition(b"\n")
    rest = json.dumps(change(json.loads(text))).encode() + b"\n" + body
    return f"jsnn-export 1 {loading.checksum(rest)}\n".encode() + rest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: header | {"platforms": ["tpu"]}, "it was written for tpu, and JAX runs on cpu"),
        (lambda header: header | {"parts": [["weights", 96]]}, "cannot be read"),
        (lambda header: header | {"parts": [[name, 10**15] for name, _ in header["parts"]]}, "cannot be read"),
        (lambda header: header | {"weights": [{"name": "a", "shape": [10**15], "dtype": "float32"}]}, "cannot be read"),
        (lambda header: header | {"weights": [{"name": "a", "shape": [2], "dtype": "object"}]}, "cannot be read"),
        (lambda header: header | {"weights": [{"name": "a", "shape": [2], "dtype": "float64"}]}, "jax_enable_x64"),
        (lambda header: [], "cannot be read"),
        (lambda header: {}, "cannot be read"),
        (lambda header: header | {"parts": header["parts"][:1]}, "it lacks init, step"),
        (lambda header: {name: one for name, one in header.items() if name != "input"}, "it lacks input"),
    ],
)
def test_headers_that_lie(change, message, file, tmp_path):
    path = tmp_path / "a.jsnn"
    path.write_bytes(rewritten(file.read_bytes(), lambda header: header))
    load(path)
    path.write_bytes(rewritten(file.read_bytes(), change))
    with pytest.raises(FileError, match=message):
        load(path)


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (b"2", "has version 2 of the format, later than 1: update jsnn"),
        (b"0", "has version 0 of the format, and the first is 1: it is damaged"),
    ],
)
def test_another_version(version, message, file, tmp_path):
    path = tmp_path / "a.jsnn"
    path.write_bytes(file.read_bytes().replace(b"jsnn-export 1", b"jsnn-export " + version, 1))
    with pytest.raises(FileError, match=message):
        load(path)


ALONE = """
import runpy, sys
sys.modules |= dict.fromkeys(["jsnn", "flax", "optax", "orbax", "psutil"])  # as if they were not installed
main = runpy.run_path(sys.argv[1])["main"]
assert main(sys.argv[2]) == 7
"""


@pytest.mark.slow
def test_the_example_runs_without_jsnn(tmp_path):
    assert runpy.run_path(str(ROOT / "examples" / "06_export.py"))["main"](tmp_path / "digits.jsnn") > 0.9
    arguments = [ROOT / "examples" / "deploy.py", tmp_path / "digits.jsnn"]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *map(str, arguments)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "it takes the digit for a 7; step by step 7" in done.stdout
    arguments[1].write_bytes(arguments[1].read_bytes()[:-1])
    with pytest.raises(ValueError, match="is damaged"):
        runpy.run_path(str(arguments[0]))["load"](arguments[1])
