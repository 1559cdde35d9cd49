"""Several devices and several processes: the numbers of one device, from programs that exchange little.

The number of devices is fixed when JAX starts, so what needs several runs in processes of its own, few and shared.
"""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jsnn
from jsnn.sharding import Layout

ROOT = Path(__file__).resolve().parents[1]

# Random numbers in the images and in their code, a test set that no number of devices divides. SGD, as Adam makes large
# steps of rounding errors where a gradient is nearly 0: a spike more or less, and two runs are no longer one.
CONFIG = """
from experiments.config import Data, Experiment, Feedforward, Optimizer, Poisson, Train

def get_config():
    return Experiment(
        num_steps=3,
        data=Data(train_split="train[:64]", test_split="test[:51]", shift=1),
        encoder=Poisson(f_max=500.0),
        network=Feedforward(hidden=(512,)),
        optimizer=Optimizer(name="sgd", learning_rate=0.3),
        train=Train(epochs=3, batch_size=16, eval_batch_size=30),
    )
"""

ONE_PROCESS = """
import re, sys
from pathlib import Path
from rich.console import Console
from experiments import load, report, run
from experiments.loop import Run

report.write = lambda *_: None  # the page takes longer than these runs
config, folder = sys.argv[1:]
alone, moved, split = [folder + "/" + name for name in ("alone", "moved", "split")]
for command in (
    f"{config} --workdir {alone} --mesh.data 1",
    f"{config} --workdir {moved} --train.epochs 1",
    f"--resume {moved} --train.epochs 2 --mesh.data 4",
    f"--resume {moved} --train.epochs 3 --mesh.data 1",
    f"{config} --workdir {split} --mesh.data 2 --mesh.model 2",
    f"{config} --workdir x --mesh.data 9",
    f"{config} --workdir x --mesh.data 3",
    f"{config} --workdir x --mesh.data 2 --mesh.model 2 --network.hidden 511",
):
    print("status", run.main(command.split()))
whole = Run(load.load_config(config), Path("x"), Console(), read_only=True)
placed = whole.place(whole.sets.train, whole.order(0))
program = whole.programs(0)[0].lower(whole.state, *placed, whole.key).compile().as_text()
print("exchanged:", re.findall(r"(all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)\\(", program))
"""

ONE_OF_TWO = """
import json, sys
import numpy as np
from experiments import datasets, report, run

report.write = lambda *_: None
touched = {}

class Watched(np.ndarray):
    def __getitem__(self, index):
        touched.setdefault(len(self), set()).update(np.arange(len(self))[index].tolist())
        return np.asarray(super().__getitem__(index))

load_data = datasets.load

def load_watched(settings):
    sets = load_data(settings)
    for dataset in (sets.train, sets.test):
        object.__setattr__(dataset, "inputs", dataset.inputs.view(Watched))
    return sets

datasets.load = load_watched
status = run.main(sys.argv[2:])
json.dump({size: sorted(rows) for size, rows in touched.items()}, open(sys.argv[1], "w"))
sys.exit(status)
"""


def start(script: str, arguments: list[object], **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def output_of(process: subprocess.Popen[str]) -> str:
    try:
        output, _ = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, output
    return output


def curves(run: Path) -> dict[str, list[float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {name: [line[name] for line in lines] for name in lines[0] if name != "seconds"}


def assert_same_curves(run: Path, alone: Path) -> None:
    found, expected = curves(run), curves(alone)
    assert found.keys() == expected.keys()
    assert len(found["epoch"]) == 3
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, err_msg=name)
    found, expected = (json.loads((folder / "summary.json").read_text())["final"] for folder in (run, alone))
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("config") / "config.py"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def devices(config) -> tuple[str, Path]:
    """What one process with eight devices printed, and its runs."""
    process = start(ONE_PROCESS, [config, config.parent], JAX_NUM_CPU_DEVICES="8")
    return re.sub(r"\s+", " ", output_of(process)), config.parent


@pytest.mark.slow
def test_eight_devices_and_then_four_and_then_one(devices):
    printed, runs = devices
    assert "on 8 of 8 devices: each batch in 8 parts" in printed
    assert "on 4 of 8 devices: each batch in 4 parts (train.batch_size is 16)" in printed
    assert "on 1 of 8 devices" in printed
    assert_same_curves(runs / "moved", runs / "alone")


@pytest.mark.slow
def test_wide_layers_in_two_parts(devices):
    printed, runs = devices
    assert "on 4 of 8 devices: each batch in 2 parts, layers of 512 neurons or more in 2" in printed
    assert_same_curves(runs / "split", runs / "alone")


@pytest.mark.slow
def test_devices_exchange_nothing_but_gradients(devices):
    assert "exchanged: ['all-reduce']" in devices[0]


@pytest.mark.slow
def test_mistakes_are_named(devices):
    printed, _ = devices
    assert re.findall(r"status (\d)", printed) == list("00000222")
    assert "data x model must be <= the 8 devices that JAX sees, got 9 x 1: ask for fewer, or" in printed
    assert "JAX_NUM_CPU_DEVICES=8" in printed
    assert "data must divide batch_size 16, got 3: the next smaller is 2" in printed
    assert "model must be 1 where no layer has 512 neurons or more, in a number divisible by it, got 2" in printed


@pytest.mark.slow
def test_two_processes_each_with_its_part_of_the_data(devices, config):
    _, runs = devices
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    processes = [
        start(
            ONE_OF_TWO,
            [runs / f"{index}.json", config, "--workdir", runs / "two", "--distributed"],
            JAX_NUM_CPU_DEVICES="1",
            JAX_COORDINATOR_ADDRESS=address,
            JAX_NUM_PROCESSES="2",
            JAX_PROCESS_ID=str(index),
        )
        for index in range(2)
    ]
    first, second = map(output_of, processes)
    assert "on 2 of 2 devices" in first
    assert "epoch" not in second  # the first process speaks for both
    assert_same_curves(runs / "two", runs / "alone")
    rows = [json.loads((runs / f"{index}.json").read_text()) for index in range(2)]
    assert rows[0] == {"64": list(range(32)), "51": list(range(51))}  # the whole test set in the end, for the page
    assert rows[1] == {"64": list(range(32, 64)), "51": list(range(26, 51))}


NORMALISED = """
import jax, jax.numpy as jnp, jsnn, numpy as np
from flax import nnx
from jsnn.sharding import Layout

class Block(nnx.Module):
    def __init__(self):
        self.linear = nnx.Linear(4, 4, rngs=nnx.Rngs(0))
        self.norm, self.lif = nnx.BatchNorm(4, rngs=nnx.Rngs(0)), jsnn.LIF(0.9)

    def __call__(self, x):
        return self.lif(self.norm(self.linear(x["a"]))) + x["b"]

x = {name: jax.random.normal(jax.random.key(n), (5, 8, 4)) for n, name in enumerate("ab")}
layout = Layout.over(8)
assert layout.parts == 4
for train in (True, False):
    one, shared = jsnn.Network(Block()), jsnn.Network(Block())
    for network, record in ((one, jsnn.record), (shared, layout.record)):
        network.train() if train else network.eval()
        records = nnx.jit(lambda network, x, record=record: record(network, x))(network, x)
        print({name: round(float(jnp.sum(layer.outputs)), 3) for name, layer in records.items()})
    averages = [np.asarray(network.function.norm.mean[...]).round(5).tolist() for network in (one, shared)]
    print(averages[0] == averages[1], any(averages[0]))
"""


@pytest.mark.slow
def test_batch_normalisation_sees_the_batches_of_all_devices():
    lines = output_of(start(NORMALISED, [], JAX_NUM_CPU_DEVICES="4")).splitlines()
    assert lines[0] == lines[1]
    assert lines[2] == "True True"
    assert lines[3] == lines[4]
    assert lines[5] == "True False"


ANY_NETWORK = """
import jax, jax.numpy as jnp, jsnn, numpy as np
from flax import nnx
from jsnn.sharding import Layout

class Counter:  # of which JAX knows nothing
    def init(self, shape, dtype=jnp.float32):
        return jnp.zeros(shape, dtype)

    def step(self, state, current):
        return state + current, state

def plastic(shared):
    return jsnn.Plastic(nnx.Linear(8, 8, rngs=nnx.Rngs(0)), jsnn.plasticity.STDP(), jsnn.LIF(0.9), shared=shared)

layout, x = Layout.over(8), 2 * jax.random.normal(jax.random.key(0), (3, 8, 8))
chain = jsnn.Sequential(*[jsnn.LIF(0.9)] * 11, nnx.Linear(8, 3, rngs=nnx.Rngs(0)))
one_size = jsnn.LIF(threshold=jnp.ones((8, 8)))
inputs_of_chain = [(chain, x), (chain, x[:, :5]), (chain, x[:, 0]), (chain, x[:, :0])]
others = [(network, x) for network in (one_size, Counter(), plastic(False), plastic(True))]
for network, inputs in [*inputs_of_chain, *others, (jsnn.LIF(), x[:, 0, 0])]:
    found, expected = layout.record(network, inputs), jsnn.record(network, inputs)
    assert list(found) == list(expected)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-5), found, expected)
try:
    layout.record(chain, x, chain.init((3, 8)))
except ValueError as error:
    print(error)
"""


@pytest.mark.slow
def test_any_network_and_input_is_recorded_as_on_one_device_outside_of_jit_too():
    assert "state must hold arrays of shapes" in output_of(start(ANY_NETWORK, [], JAX_NUM_CPU_DEVICES="4"))


@pytest.mark.parametrize("arguments", [("8",), (8.0,), (None,), (8, 2.0), (8, 1, None)])
def test_what_is_no_number_of_devices_is_refused(arguments):
    with pytest.raises(TypeError, match=r"Layout.over\(\): \w+ must be an integer, got"):
        Layout.over(*arguments)


def test_what_is_no_mesh_is_refused():
    for mesh in (4, jax.make_mesh((1,), ("x",))):
        with pytest.raises(TypeError, match="mesh must be a mesh with the axes 'data' and 'model', got"):
            Layout(mesh)


@pytest.mark.parametrize(("batch_size", "data", "model"), [(0, None, 1), (8, 0, 1), (8, -1, 1), (8, None, 0)])
def test_numbers_below_1_are_refused(batch_size, data, model):
    message = f"batch_size, data and model must be >= 1, got {batch_size}, {data} and {model}"
    with pytest.raises(ValueError, match=message):
        Layout.over(batch_size, data, model)


def test_one_device_is_left_alone():
    """The same objects, so the same program."""
    layout, state = Layout.over(batch_size=7, data=1), {"kernel": jnp.ones((2, 1024))}

    def function(*_): ...

    assert layout == Layout()
    assert (layout.parts, layout.size) == (1, 1)
    assert layout.place(state) is layout.gather(state) is state
    assert layout.share_out(function) is layout.hold(function, state) is function
    np.testing.assert_array_equal(layout.examples(np.arange(5), np.array([3, 1])), [3, 1])
    network, images = jsnn.models.feedforward([4, 3, 2], rngs=nnx.Rngs(0)), jnp.ones((2, 4))
    found, expected = (record(network, images, num_steps=3) for record in (layout.record, jsnn.record))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
