"""Call the public functions of jsnn with drawn arguments, and say which raise an exception from inside.

    python tests/fuzz_calls.py --count 5000 --seed 0

Each call starts from arguments that are right; then one or two of them are replaced by something else: another type,
rank, dtype or length, NaN, infinity, 0, a negative or huge number, nothing, text, a list. Some calls are traced by
`jax.jit`. A call may return, or raise a TypeError or ValueError by a `raise` statement of jsnn. Everything else is a
fault: an exception from JAX, NumPy or Python, a call that takes longer than the limit, one that eats up the memory.
"""

import argparse
import collections
import contextlib
import inspect
import linecache
import os
import random
import resource
import signal
import sys
import tempfile
import traceback
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jsnn

SOURCE = str(Path(jsnn.__file__).parent)
SECONDS = 60  # a call that compiles a program takes a few
DELIBERATE = (TypeError, ValueError, OSError, MemoryError, jsnn.testing.NeuronError, jsnn.nir.NIRError)
MODULES = (
    jsnn, jsnn.augment, jsnn.conversion, jsnn.data, jsnn.decode, jsnn.delays, jsnn.encode, jsnn.energy, jsnn.events,
    jsnn.export, jsnn.filters, jsnn.losses, jsnn.memory, jsnn.metrics, jsnn.models, jsnn.neurons, jsnn.nir,
    jsnn.plasticity, jsnn.plot, jsnn.precision, jsnn.quant, jsnn.regularizers, jsnn.surrogate, jsnn.testing, jsnn.train,
    jsnn.weights,
    jsnn.compat.keras_spiking, jsnn.compat.nengo, jsnn.compat.norse, jsnn.compat.snntorch, jsnn.compat.spikingjelly,
)  # fmt: skip
# what takes no arguments of users, runs for seconds whatever it is given, or writes and reads files
LEFT_OUT = {
    "ActivationDiagnosis", "Arithmetic", "Comparison", "Complexity", "Conv", "Converted", "Delayed", "Diagnosis",
    "Exported", "Filter", "Fitted", "Graph", "LayerRecord", "Linear", "Move", "Neuron", "Operations", "Pretrained",
    "Report", "Response", "Row", "Rule", "SpikingNeuron", "Surrogate", "Synapses", "TrainState", "Trainer", "animate",
    "check_fits", "check_neuron", "fit", "from_nir", "network_of", "of_function", "to_html5", "unchanged",
}  # fmt: skip


def network() -> Any:
    """A small network."""
    return jsnn.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), jsnn.LIF(0.9))


def exported() -> Any:
    """The file of a small network."""
    path = Path("loaded.jsnn")
    if not path.exists():
        jsnn.export.save(network(), array(2, 3), path, platforms=["cpu"])
    return path


def array(*shape: int) -> Any:
    """Numbers in [0, 1]."""
    return jnp.asarray(np.random.default_rng(0).random(shape), jnp.float32)


def spikes(*shape: int) -> Any:
    """Zeros and ones."""
    return jnp.round(array(*shape))


RIGHT: dict[str, Callable[[], Any]] = {
    "outputs": lambda: array(4, 2, 6), "membranes": lambda: array(4, 2, 6), "spikes": lambda: spikes(4, 2, 6),
    "logits": lambda: array(2, 6), "targets": lambda: jnp.array([0, 3]), "rates": lambda: array(2, 6),
    "x": lambda: array(3, 4), "times": lambda: array(3, 4), "inputs": lambda: array(5, 2, 3), "J": lambda: array(3),
    "images": lambda: array(2, 6, 6, 1), "key": lambda: jax.random.key(0), "num_steps": lambda: 5,
    "rngs": lambda: nnx.Rngs(0), "num_classes": lambda: 6, "num_neurons": lambda: 4, "num_spikes": lambda: 2,
    "num_examples": lambda: 6,
    "neuron": lambda: jsnn.LIF(0.9), "network": network, "size": lambda: 3, "pixels": lambda: 2, "mean": lambda: 0.5,
    "std": lambda: 0.5, "rate": lambda: 0.5, "slope": lambda: 2.0, "derivative": lambda: jnp.ones_like,
    "surrogate": lambda: jsnn.surrogate.arctan(), "tau": lambda: 0.01, "tau_mem": lambda: 0.02,
    "tau_syn": lambda: 0.01, "dt": lambda: 1e-3, "frequency": lambda: 50.0, "tau_adaptation": lambda: 0.1,
    "tau_excitatory": lambda: 0.01, "tau_inhibitory": lambda: 0.02, "decay": lambda: 0.9,
    "tau_initializer": lambda: 0.01, "tau_refractory": lambda: 0.02, "tau_threshold": lambda: 0.1, "steps": lambda: 2,
    "period": lambda: 2, "synapse": lambda: lambda x: x, "k": lambda: 3, "n": lambda: 10, "batch_size": lambda: 4,
    "factor": lambda: 2, "dataset": lambda: jsnn.data.Dataset(np.zeros((10, 4, 4)), np.arange(10)),
    "sizes": lambda: [4, 3, 2], "input_size": lambda: 3, "hidden_size": lambda: 4, "alpha": lambda: 0.9,
    "beta": lambda: 0.8, "threshold": lambda: 0.5, "levels": lambda: 4.0, "base_type": lambda: jax.nn.relu,
    "t": lambda: 0.002, "fn": lambda: jax.nn.relu, "example": lambda: array(1, 3), "device": lambda: "cpu",
    "optimizer": lambda: optax.sgd(0.1), "graph": lambda: nnx.split(network())[0], "loss": lambda: jnp.mean,
    "data": lambda: array(2, 3), "name": lambda: "digits", "split": lambda: "train", "num_features": lambda: 3,
    "in_features": lambda: 3, "out_features": lambda: 4, "shape": lambda: (2, 2, 2), "kernel_size": lambda: (3, 3),
    "events": lambda: ([0, 5, 9], [0, 1, 1], [0, 0, 1], [1, 0, 1]), "num_bins": lambda: 2,
    "labels": lambda: np.array([0, 1]), "predictions": lambda: [0, 1], "layers": lambda: jsnn.LIF(0.9),
    "q": lambda: 50.0, "operations": lambda: jsnn.energy.count(network(), array(5, 2, 3)),
    "values": lambda: array(4, 6), "potentials": lambda: array(4, 6), "max_spikes": lambda: 3.0,
    "synaptic": lambda: 1e-9, "neuronal": lambda: 1e-9, "spiking": lambda: True, "scale": lambda: 1.0,
    "training": lambda: [1.0, 0.5], "validation": lambda: [1.0, 0.5], "bias": lambda: 0.0,
    "rows": lambda: [{"spikes": 1.0, "accuracy": 0.5}], "curves": lambda: [0.1, 0.5],
    "kernel": lambda: array(3, 3, 1, 4), "accuracies": lambda: [0.1, 0.5], "arrays": dict,
    "path": lambda: "/nowhere.npz", "preset": lambda: "chattering", "model": network,
    "joules": lambda: {"a": {"cpu": 1.0}}, "surrogates": lambda: [jsnn.surrogate.arctan()],
    "lengths": lambda: jnp.array([4, 2]), "channels": lambda: 1, "probability": lambda: 0.5,
    "items": lambda: [np.ones((3, 1)), np.ones((2, 1))], "samples": lambda: np.ones((9, 1)),
    "sample_rate": lambda: 8000, "max_delay": lambda: 3, "total_steps": lambda: 10, "width": lambda: 1.0,
    "sound": lambda: array(400), "frequencies": lambda: array(3) + 100,
    "rule": lambda: jsnn.plasticity.STDP(), "rules": lambda: (jsnn.plasticity.STDP(),), "pre": lambda: array(2, 3),
    "post": lambda: array(2, 4), "weights": lambda: array(3, 4), "target": lambda: 0.1, "total": lambda: 1.0,
    "tau_recovery": lambda: 0.1, "plasticity": lambda: 0.5,
}  # fmt: skip
OF_FUNCTION: dict[str, dict[str, Callable[[], Any]]] = {
    "diagnose": {"network": lambda: jsnn.convert(jax.nn.relu, array(1, 3), dt=0.1), "data": lambda: array(2, 3)},
    "calibrate": {"fn": lambda: jax.nn.relu, "data": lambda: array(2, 3)},
    "initial_state": {"shape": lambda: (2, 3)},
    "memory_estimate": {"shape": lambda: (2, 3)}, "max_pool": {"x": lambda: array(2, 4, 4, 1)},
    "avg_pool": {"x": lambda: array(2, 4, 4, 1)},
    "receptive_field_grid": {"x": lambda: array(3, 2), "num_neurons": lambda: (3, 4)},
    "pretrained": {"name": lambda: "sew_resnet_cifar10"},
    "confusion_matrix": {"targets": lambda: [0, 1]}, "accuracy": {"logits": lambda: array(2, 6)},
    "Dataset": {"inputs": lambda: np.zeros((2, 4, 4), np.uint8), "targets": lambda: np.array([0, 1])},
    "random_spikes": {"rates": lambda: 100 * array(3)}, "Sequential": {"layers": lambda: jsnn.LIF(0.9)},
    "Network": {"function": lambda: jax.nn.relu},
    "norse.threshold": {"method": lambda: "super"}, "alpha": {"tau": lambda: 0.01}, "Dropout": {"rate": lambda: 0.5},
    "convert": {"fn": lambda: jax.nn.relu},
    "respond": {"network": lambda: jsnn.convert(jax.nn.relu, array(1, 3), dt=0.1), "inputs": lambda: array(2, 3)},
    "raster": {"spikes": lambda: spikes(4, 6)},
    "sound": {"samples": lambda: array(30), "spikes": lambda: spikes(4, 6)}, "clip_relu": {"threshold": lambda: 1.0},
    "interpolated_rate": {"x": lambda: array(3, 4)}, "triangle": {"t": lambda: 0.002}, "of_order": {"k": lambda: 3},
    "cutmix": {"inputs": lambda: array(2, 5, 3)}, "jitter": {"inputs": lambda: array(2, 5, 3)},
    "time_shift": {"inputs": lambda: array(2, 5, 3)}, "channel_shift": {"inputs": lambda: array(2, 5, 3)},
    "Recordings": {"targets": lambda: [0, 1]}, "center_frequencies": {"num_channels": lambda: 4},
    "Sparse": {"indices": lambda: jnp.array([[0, 2, 2], [3, 0, 0]]), "weights": lambda: array(3)},
    "from_dense": {"matrix": lambda: array(3, 4)},
    "Stochastic": {"width": lambda: 0.1}, "Plastic": {"synapse": lambda: array(3, 4)},
    "aware": {"weights": lambda: 8}, "integer": {"network": lambda: jsnn.quant.aware(network())},
    "export.save": {"example": lambda: array(2, 3), "path": lambda: "network.jsnn", "platforms": lambda: ["cpu"]},
    "export.load": {"path": exported}, "over_batch": {"values": lambda: array(2, 3), "ndim": lambda: 1},
}  # fmt: skip
WRONG: list[Callable[[], Any]] = [
    lambda: None, lambda: "abc", lambda: "", lambda: 0, lambda: -1, lambda: 1, lambda: 3, lambda: 2.7, lambda: -0.5,
    lambda: True, lambda: False, lambda: 10**9, lambda: 10**12, lambda: -(10**12), lambda: 10**400, lambda: 1e30,
    lambda: float("nan"), lambda: float("inf"), lambda: -float("inf"), lambda: 1j, list, lambda: (), dict,
    lambda: object(), lambda: int, lambda: [1, 2], lambda: [0.5, 0.25], lambda: ["a"], lambda: [None],
    lambda: [[1.0], [1.0, 2.0]], lambda: (1, 2), lambda: (2, 1), lambda: (5.0, 1.0), lambda: b"abc", lambda: {"a": 1},
    lambda: np.float32(0.5), lambda: np.int64(3), lambda: np.arange(3), lambda: np.array([2**40]),
    lambda: np.array(["a"]), lambda: np.array([None]), lambda: jnp.zeros(()), lambda: jnp.zeros(0),
    lambda: jnp.zeros((0, 2, 6)), lambda: jnp.zeros((4, 0, 6)), lambda: jnp.zeros((4, 2, 0)),
    lambda: jnp.zeros((4, 2, 6), int), lambda: jnp.ones((4, 2, 6), bool), lambda: jnp.ones((2, 2, 2, 2, 2)),
    lambda: jnp.ones((4, 6)), lambda: jnp.ones(7), lambda: jnp.full((4, 2, 6), jnp.nan),
    lambda: jnp.full((4, 2, 6), jnp.inf), lambda: jnp.full((4, 2, 6), -1e20),
    lambda: jnp.ones((4, 2, 6), jnp.bfloat16), lambda: jnp.ones((4, 2, 6), jnp.float16), lambda: np.ones((4, 2, 6)),
    lambda: np.ones((4, 2, 6)).tolist(), lambda: jnp.ones((4, 2, 6), complex), lambda: jnp.array([-1, 99]),
    lambda: jnp.array([0, 3]), lambda: jax.random.key(0), lambda: jax.random.split(jax.random.key(0)),
    lambda: jsnn.LIF, lambda: jsnn.LIF(0.9), lambda: nnx.Param(jnp.ones(6)),
    lambda: jnp.zeros((2, 6, 6, 1), jnp.uint8), lambda: jnp.ones((2, 0, 6, 1)),
]  # fmt: skip


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """The public functions, classes and makers of neurons, each once."""
    seen: set[int] = set()
    for module in MODULES:
        for name in getattr(module, "__all__", None) or sorted(vars(module)):
            value = getattr(module, name)
            home = getattr(value, "__module__", "") or ""
            ours = home.startswith("jsnn") if hasattr(module, "__all__") else home == module.__name__
            if name.startswith("_") or not ours or name in LEFT_OUT or name.endswith(("State", "Traces")):
                continue
            if not (inspect.isfunction(value) or inspect.isclass(value)) or id(value) in seen:
                continue
            if inspect.isclass(value) and issubclass(value, Exception):
                continue
            seen.add(id(value))
            title = f"{module.__name__}.{name}"
            yield title, value
            for maker in ("from_time_constants", "from_frequency", "of_order", "preset", "from_dense"):
                if inspect.isclass(value) and hasattr(value, maker):
                    yield f"{title}.{maker}", getattr(value, maker)


def parameters_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """What can be passed by name, and the positional rest; a class of Flax tells it in its `__init__` alone."""
    made = inspect.isclass(function) and issubclass(function, nnx.Pytree)
    found = dict(inspect.signature(function.__init__ if made else function).parameters)
    found.pop("self", None)
    return {name: one for name, one in found.items() if one.kind is not one.VAR_KEYWORD}


def right_arguments(title: str, function: Callable[..., Any], draw: random.Random) -> dict[str, Any] | None:
    """Arguments that are right, and some that may be left out; None if it is not known what to pass."""
    found = {}
    name = title.rpartition(".")[2]
    makers = OF_FUNCTION.get(name, {}) | OF_FUNCTION.get(".".join(title.split(".")[-2:]), {})
    for parameter in parameters_of(function).values():
        maker = makers.get(parameter.name) or RIGHT.get(parameter.name)
        needed = parameter.default is parameter.empty
        if maker is None and needed:
            return None
        if needed:
            found[parameter.name] = maker() if maker else None
        elif draw.random() < 0.15:
            found[parameter.name] = parameter.default
    if name in ("bin_events", "Frames"):
        found["num_bins"] = 2
    return found


def call(function: Callable[..., Any], arguments: dict[str, Any], traced: list[str]) -> Any:
    """The result, with some arguments traced; positional arguments stay so."""
    parameters = parameters_of(function)

    def run(**arrays: Any) -> Any:
        positional, named = [], {}
        for name, value in (arguments | arrays).items():
            if parameters[name].kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL):
                positional.append(value)
            else:
                named[name] = value
        result = function(*positional, **named)
        # an array, or nothing that jit would have to return
        return result if not traced or isinstance(result, jax.Array) else 0

    result = jax.jit(run)(**{name: arguments[name] for name in traced}) if traced else run()
    if isinstance(result, types.GeneratorType):
        result = list(result)
    return jax.block_until_ready(result) if isinstance(result, jax.Array) else result


def is_deliberate(error: BaseException) -> bool:
    """Whether a `raise` statement of jsnn raised it."""
    frame = list(traceback.walk_tb(error.__traceback__))[-1]
    line = linecache.getline(frame[0].f_code.co_filename, frame[1]).strip()
    return isinstance(error, DELIBERATE) and frame[0].f_code.co_filename.startswith(SOURCE) and line.startswith("raise")


class Hang(BaseException):
    """A call that takes too long."""


def _stop(*_: Any) -> None:
    raise Hang(f"took longer than {SECONDS} s")


def fuzz(count: int, seed: int, only: str = "", log: str = os.devnull) -> tuple[collections.Counter, dict[str, str]]:
    """Return how many calls ended how, and the faults by function and exception."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    jax.config.update("jax_traceback_filtering", "off")
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _stop)
    table = [(title, function) for title, function in functions() if only in title]
    # not on a large machine either is a call to run for long
    jsnn.arguments.psutil = types.SimpleNamespace(virtual_memory=lambda: types.SimpleNamespace(available=2**31))
    ends: collections.Counter = collections.Counter()
    faults: dict[str, str] = {}
    for number in range(count):
        draw = random.Random(f"{seed} {number}")
        title, function = table[number % len(table)]
        arguments = right_arguments(title, function, draw)
        if arguments is None:
            ends["not known how to call"] += 1
            faults.setdefault(f"(unknown) {title}", "")
            continue
        names = list(parameters_of(function))
        changed = draw.sample(names, min(len(names), draw.choice((0, 1, 1, 1, 2))))
        for name in changed:
            arguments[name] = draw.choice(WRONG)()
        arrays = [name for name, value in arguments.items() if isinstance(value, jax.Array) and name != "key"]
        traced = arrays if draw.random() < 0.15 and "rngs" not in arguments else []
        told = ", ".join(f"{name}={_short(value)}" for name, value in arguments.items())
        told = f"{title}({told}){' traced' * bool(traced)}"
        Path(log).write_text(f"call {number}: {told}\n")
        signal.alarm(SECONDS)
        try:
            call(function, arguments, traced)
            ends["returned"] += 1
        except (Exception, Hang) as error:
            if is_deliberate(error):
                ends["refused"] += 1
            else:
                ends["faults"] += 1
                where = traceback.extract_tb(error.__traceback__)
                ours = [frame for frame in where if frame.filename.startswith(SOURCE)][-1:]
                at = f"{Path(ours[0].filename).name}:{ours[0].lineno}" if ours else "before jsnn"
                text = str(error).partition("\n")[0][:150]
                fault = f"{title} {type(error).__name__} at {at}"
                if fault not in faults:
                    faults[fault] = f"call {number}: {told}\n      {text}"
                    print(f"{fault}\n      {faults[fault]}", flush=True)
        finally:
            signal.alarm(0)
            plt.close("all")
    return ends, faults


def _short(value: Any) -> str:
    if isinstance(value, jax.Array | np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    return repr(value)[:40]


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of a function's name")
    parser.add_argument(
        "--log", default=os.devnull, help="a file for the call that is running, should the process be killed"
    )
    options = parser.parse_args()
    memory = 16 * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    log = str(Path(options.log).resolve())
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # some calls write files
        ends, _faults = fuzz(options.count, options.seed, options.only, log)
    print(f"{options.count} calls, seed {options.seed}: " + ", ".join(f"{n} {end}" for end, n in ends.items()))
    sys.exit(ends["faults"] > 0)


if __name__ == "__main__":
    main()
