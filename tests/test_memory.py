"""A run takes what was predicted, what does not fit is refused, and what the documentation says is kept is kept."""

import dataclasses
import math
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import jsnn
from jsnn import memory
from jsnn.neurons.pytree import FrozenPytree

ROOT = Path(__file__).parent.parent


# Predicted and measured

# Prints each case's prediction and its peak. The first run is not measured: it loads code, which stays.
MEASURE = """
import ctypes, gc
import jax, jax.numpy as jnp
import jsnn
from flax import nnx

def resident(name):
    (line,) = (line for line in open("/proc/self/status") if line.startswith(name))
    return int(line.split()[1]) * 1024

def measure(network, inputs, remat, backward):
    graph, parameters = nnx.split(network)

    def forward(parameters, inputs):
        return jsnn.unroll(nnx.merge(graph, parameters), inputs, remat=remat)

    def loss(parameters, inputs):
        return (forward(parameters, inputs)[1] ** 2).sum()

    run, make = jax.jit(jax.value_and_grad(loss) if backward else forward), jax.jit(lambda: jnp.full(inputs, 0.1))
    for _ in range(2):
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew
        before = resident("VmRSS")
        jax.block_until_ready(run(parameters, make()))
    return resident("VmHWM") - before + sum(p.nbytes for p in jax.tree.leaves(parameters))

dense = jsnn.Sequential(nnx.Linear(100, 500, rngs=nnx.Rngs(0)), jsnn.LIF())
images = jsnn.Sequential(jsnn.Conv(20, 32, (5, 5), padding="VALID", rngs=nnx.Rngs(0)), jsnn.LIF())
for network, shape, steps, remat, backward in [
    (dense, (16, 100), 1000, False, True),
    (dense, (16, 100), 1000, 25, True),
    (images, (32, 12, 12, 20), 50, False, False),
]:
    print(jsnn.memory_estimate(network, shape, steps, remat=remat, backward=backward),
          measure(network, (steps, *shape), remat, backward))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_what_is_predicted_is_what_a_run_takes():
    done = subprocess.run([sys.executable, "-c", MEASURE], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    without, remat, images = ([int(word) for word in line.split()] for line in done.stdout.splitlines())
    for predicted, measured in (without, remat, images):
        assert measured > 40e6
        assert predicted == pytest.approx(measured, rel=0.2)
    assert remat[1] < 0.6 * without[1]


def test_estimate_grows_with_steps_and_with_what_is_trained():
    network = jsnn.Sequential(nnx.Linear(4, 8, rngs=nnx.Rngs(0)), jsnn.LIF())
    inputs = 100 * 2 * 4 * 4

    def estimate(**options):
        return jsnn.memory_estimate(network, (2, 4), **{"num_steps": 100, **options})

    assert estimate(num_steps=1000) == pytest.approx(10 * estimate(), rel=0.1)
    assert estimate(backward=False) < estimate()
    assert estimate(backward=False, dtype=jnp.bfloat16) == pytest.approx(estimate(backward=False) - inputs / 2, rel=0.1)
    # nothing to train: the gradient is that of the inputs, one more array of their size
    bare = [jsnn.memory_estimate(jsnn.LIF(), (2, 4), 100, backward=backward) for backward in (False, True)]
    assert bare[1] - bare[0] >= inputs


def test_donated_arguments_count_once_and_need_no_second_compilation():
    x = jax.ShapeDtypeStruct((1000,), jnp.float32)
    traced = []

    def increment(x):
        traced.append(x)
        return x + 1

    jitted = jax.jit(increment, donate_argnums=0)
    assert memory.of_function(increment, x) == 8000
    assert memory.of_function(jitted, x) == 4000
    traced.clear()
    assert jitted(jnp.zeros(1000))[0] == 1
    assert not traced


def test_estimate_of_a_network_that_normalises_leaves_its_averages():
    network = jsnn.Sequential(nnx.Linear(4, 8, rngs=nnx.Rngs(0)), nnx.BatchNorm(8, rngs=nnx.Rngs(0)), jsnn.LIF())
    assert jsnn.memory_estimate(network, (2, 4), 100) > jsnn.memory_estimate(network, (2, 4), 100, backward=False)
    assert not network.layers[1].mean[...].any()


def test_what_cannot_be_estimated_is_refused():
    with pytest.raises(TypeError, match=r"shape must be a tuple of whole numbers, such as \(784,\) .* got 4"):
        jsnn.memory_estimate(jsnn.LIF(), 4, 10)
    with pytest.raises(ValueError, match="num_steps must be >= 1, got 0"):
        jsnn.memory_estimate(jsnn.LIF(), (2, 4), 0)
    with pytest.raises(ValueError, match="takes 4 channels, got 5"):
        jsnn.memory_estimate(jsnn.Sequential(nnx.Linear(4, 8, rngs=nnx.Rngs(0)), jsnn.LIF()), (2, 5), 10)
    twin = jsnn.quant.integer(jsnn.quant.aware(jsnn.LIF()))
    with pytest.raises(
        ValueError, match="outputs of the network are integers, which have no gradient: pass backward=False"
    ):
        jsnn.memory_estimate(twin, (2, 4), 10)
    assert jsnn.memory_estimate(twin, (2, 4), 10, backward=False) > 0


class Counter:
    """A neuron of a class that JAX does not know."""

    def init(self, shape, dtype=jnp.float32):
        return jnp.zeros(shape, dtype)

    def step(self, state, current):
        return state + current, state


def test_a_neuron_of_any_class_is_estimated():
    assert jsnn.memory_estimate(Counter(), (2, 4), 10) > 2 * 10 * 2 * 4 * 4


WRONG = {
    "integers": (lambda: jsnn.memory_estimate(jsnn.LIF(), (2, 4), 10, dtype=jnp.int8), "floating point, .* got .*int8"),
    "complex": (lambda: jsnn.memory_estimate(jsnn.LIF(), (2, 4), 10, dtype=complex), "floating point, .* got .*comp"),
    "no shape": (lambda: jsnn.memory_estimate(jsnn.LIF(), None, 10), "shape must be .* got None"),
    "no function": (lambda: memory.of_function(None), "function must be a function, got None"),
    "bytes by name": (lambda: memory.check_fits("1 GB"), "needed must be a number, got '1 GB'"),
    "a device by name": (lambda: memory.check_fits(1, "cpu"), "device must be Device, got 'cpu'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_types_are_refused(name):
    call, message = WRONG[name]
    with pytest.raises(TypeError, match=message):
        call()


def test_sizes_below_0_are_refused():
    with pytest.raises(ValueError, match=r"shape must have sizes of 0 or more, got \(-2, 4\)"):
        jsnn.memory_estimate(jsnn.LIF(), (-2, 4), 10)


def device(stats: dict[str, int] | None) -> mock.MagicMock:
    gpu = mock.MagicMock(spec=jax.Device, platform="gpu")
    gpu.memory_stats.return_value = stats
    gpu.__str__.return_value = "gpu:0"
    return gpu


def test_what_does_not_fit_is_refused_with_the_numbers_and_the_cures():
    memory.check_fits(2 * 2**30, device({"bytes_limit": 2 * 2**30}))
    with pytest.raises(MemoryError, match=r"takes 2.1 GiB.* gpu:0 has 2.0 GiB: take a smaller batch.*remat=True"):
        memory.check_fits(int(2.1 * 2**30), device({"bytes_limit": 2 * 2**30}))
    memory.check_fits(2**80, device(None))  # one that does not tell
    memory.check_fits(1)
    with pytest.raises(MemoryError, match=r"GiB of memory, and .* has [\d,.]+ GiB: take"):
        memory.check_fits(2**60)


# What the documentation says that the backward pass keeps

SHAPE = (50, 2, 3)  # [T, B, N]
ARGUMENTS = {
    "Lowpass": {"tau": 0.1},
    "Alpha": {"tau": 0.1},
    "PoissonSpiking": {"key": jax.random.key(0)},
    "StochasticSpiking": {"key": jax.random.key(0)},
    "Recurrent": {"neuron": jsnn.LIF(), "synapse": nnx.Linear(3, 3, rngs=nnx.Rngs(0))},
}


def neuron_classes():
    """Every neuron and filter by name; of what is put around one, `Recurrent`."""
    everything = [jsnn.Recurrent, *vars(jsnn.neurons).values(), *vars(jsnn.filters).values()]
    classes = {c.__name__: c for c in everything if isinstance(c, type) and issubclass(c, FrozenPytree)}
    return {name: c for name, c in classes.items() if issubclass(c, jsnn.Neuron)}


def kept(neuron):
    """How many numbers a neuron keeps for the backward pass at each step, on average."""
    graph, parameters, rest = nnx.split(neuron, nnx.Param, ...)

    def residuals(parameters, inputs):
        return jax.vjp(lambda p, x: jsnn.unroll(nnx.merge(graph, p, rest), x)[1], parameters, inputs)[1]

    arrays = jax.tree.leaves(jax.eval_shape(residuals, parameters, jax.ShapeDtypeStruct(SHAPE, jnp.float32)))
    return sum(x.size for x in arrays if x.size >= math.prod(SHAPE)) / math.prod(SHAPE)


def with_trained_time_constants(neuron):
    names = [f.name for f in dataclasses.fields(neuron) if f.name.startswith(("decay", "tau"))]
    values = {name: getattr(neuron, name) for name in names}
    trained = {name: nnx.Param(jnp.asarray(value)) for name, value in values.items() if type(value) is float}
    return dataclasses.replace(neuron, **trained)


@pytest.mark.slow
def test_documented_table_of_what_is_kept_is_measured():
    page = (ROOT / "docs/memory.md").read_text("utf-8")
    documented = dict(re.findall(r"^\| `(\w+)` (\| .+ \|)$", page, re.MULTILINE))
    measured = {}
    for name, neuron_class in sorted(neuron_classes().items()):
        neuron = neuron_class(**ARGUMENTS.get(name, {}))
        measured[name] = f"| {kept(neuron):g} | {kept(with_trained_time_constants(neuron)):g} |"
    rows = "\n".join(f"| `{name}` {numbers}" for name, numbers in measured.items())
    assert documented == measured, f"the table of docs/memory.md must be\n{rows}"
