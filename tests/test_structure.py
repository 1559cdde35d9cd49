"""What may import what, docstrings on all that is public, and an import without side effects."""

import ast
import graphlib
import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# A module imports from floors below its own, or from its own without going round in a circle.
FLOORS = {
    6: ["configs", "experiments"],
    5.5: ["jsnn"],  # jsnn/__init__.py alone: it offers all of jsnn, so nothing in jsnn imports from it
    5: ["jsnn.checkpoint", "jsnn.data", "jsnn.sharding", "jsnn.train"],
    4: [
        "jsnn.compat", "jsnn.conversion", "jsnn.energy", "jsnn.export", "jsnn.models", "jsnn.nir",
        "jsnn.online", "jsnn.precision", "jsnn.quant", "jsnn.weights",
    ],
    3: ["jsnn.layers", "jsnn.network", "jsnn.refusals", "jsnn.testing", "jsnn.tracing"],
    2: [
        "jsnn.augment", "jsnn.batches", "jsnn.cache", "jsnn.convolution", "jsnn.decode", "jsnn.delays", "jsnn.encode",
        "jsnn.events", "jsnn.feedback", "jsnn.filters", "jsnn.fused", "jsnn.linear", "jsnn.losses", "jsnn.memory",
        "jsnn.metrics", "jsnn.normalization", "jsnn.plasticity", "jsnn.plot", "jsnn.recording", "jsnn.sparse",
        "jsnn.unrolling",
    ],
    1: ["jsnn.neurons", "jsnn.recurrence", "jsnn.regularizers", "jsnn.surrogate"],
    0: [
        "jsnn.arguments", "jsnn.array_arguments", "jsnn.checksum", "jsnn.chunks", "jsnn.extras", "jsnn.files",
        "jsnn.keywords", "jsnn.padding", "jsnn.program", "jsnn.rounding", "jsnn.types", "jsnn.varying",
    ],
}  # fmt: skip
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names}
PACKAGES = ["configs", "experiments", "jsnn"]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}


# Imports


def imports(module: str, source: str) -> set[str]:
    """The modules of ours that a module's source names in an import, wherever in it the import stands."""
    is_package = module in MODULES and MODULES[module].name == "__init__.py"
    package = module if is_package else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parent = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            children = {f"{parent}.{alias.name}" for alias in node.names}
            found |= {child if child in MODULES else parent for child in children}
    return {name for name in found if name.split(".")[0] in PACKAGES}


def floor_of(module: str) -> float | None:
    parts = module.split(".")
    return FLOOR_OF.get(".".join(parts[:2]) if parts[0] == "jsnn" else parts[0])


def faults(module: str, source: str) -> list[str]:
    """What is wrong with a module's place and its imports, one sentence each."""
    floor = floor_of(module)
    if floor is None:
        return [f"{module} is on no floor: put it on one, in FLOORS of tests/test_structure.py"]
    found = []
    for imported in sorted(imports(module, source)):
        target = floor_of(imported)
        if target is None:
            found.append(f"{module} imports {imported}, which is on no floor: put it on one, in FLOORS")
        elif target > floor:
            found.append(f"{module} (floor {floor}) must not import {imported} (floor {target}), above it")
    return found


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, or [] where there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_imports_come_from_below():
    found = [fault for module, path in MODULES.items() for fault in faults(module, path.read_text("utf-8"))]
    assert not found, "\n".join(found)


def test_no_circle_of_imports():
    graph = {module: imports(module, path.read_text("utf-8")) for module, path in MODULES.items()}
    assert circle(graph) == []


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("jsnn.types", "import jsnn.surrogate", "(floor 0) must not import jsnn.surrogate (floor 1)"),
        ("jsnn.types", "import numpy, jsnn.unrolling as loop", "must not import jsnn.unrolling"),
        ("jsnn.neurons.new", "from jsnn.layers import Sequential", "must not import jsnn.layers (floor 3)"),
        ("jsnn.neurons.new", "from jsnn import layers", "must not import jsnn.layers"),
        ("jsnn.neurons.new", "from ..unrolling import run", "must not import jsnn.unrolling"),
        ("jsnn.neurons", "from .. import compat", "must not import jsnn.compat"),
        ("jsnn.unrolling", "def f():\n    from jsnn.compat import norse", "must not import jsnn.compat.norse"),
        ("jsnn.unrolling", "if TYPE_CHECKING:\n    from jsnn import layers", "must not import jsnn.layers"),
        ("jsnn.unrolling", "try:\n    import jsnn.models\nfinally: ...", "must not import jsnn.models"),
        ("jsnn.train", "import jsnn", "must not import jsnn (floor 5.5)"),
        ("jsnn.train", "from jsnn import LIF", "must not import jsnn (floor 5.5)"),
        ("jsnn.train", "from configs.digits import get_config", "must not import configs.digits (floor 6)"),
        ("jsnn", "from experiments import run", "jsnn (floor 5.5) must not import experiments"),
        ("jsnn.attic", "", "jsnn.attic is on no floor: put it on one"),
        ("jsnn.train", "import jsnn.attic", "jsnn.attic, which is on no floor: put it on one"),
    ],
)
def test_planted_import_is_refused(module, source, fault):
    (found,) = faults(module, source)
    assert fault in found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("jsnn.neurons.new", "import jax\nfrom jsnn import surrogate\nfrom jsnn.types import Array"),
        ("jsnn.neurons.new", "from .base import SpikingNeuron\nfrom jsnn.neurons.lif import LIFState"),
        ("jsnn.metrics", "from jsnn import decode"),
        ("jsnn", "from jsnn import surrogate\nfrom jsnn.layers import Sequential"),
        ("experiments.new", "import jsnn\nfrom jsnn import LIF, models\nfrom configs import digits"),
        ("configs.new", "from experiments.run import main"),
    ],
)
def test_planted_import_is_allowed(module, source):
    assert faults(module, source) == []


def test_planted_circle_is_found():
    tree = {"jsnn.a": {"jsnn.b", "jsnn.c"}, "jsnn.b": {"jsnn.c"}, "jsnn.c": set()}
    assert circle(tree) == []
    assert set(circle(tree | {"jsnn.c": {"jsnn.a"}})) >= {"jsnn.a", "jsnn.c"}


# Docstrings


def undocumented(source: str) -> list[str]:
    """The public functions and classes that a source defines without a docstring.

    Public is what `__all__` lists or, where there is none, what has no leading underscore. The source is
    read, not imported, because dataclasses and named tuples write themselves a docstring.
    """
    body = ast.parse(source).body
    definitions = {
        node.name: ast.get_docstring(node)
        for node in body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    }
    public = [name for name in definitions if not name.startswith("_")]
    for node in body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            public = [name for name in ast.literal_eval(node.value) if name in definitions]
    return [name for name in public if not definitions[name]]


def test_public_names_have_docstrings():
    ours = {module: path for module, path in MODULES.items() if module.split(".")[0] == "jsnn"}
    gaps = {module: undocumented(path.read_text("utf-8")) for module, path in ours.items()}
    assert {module: names for module, names in gaps.items() if names} == {}


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("def f(): ...\ndef _g(): ...\nclass A: ...", ["f", "A"]),
        ("def f():\n    'What f does.'\nclass A(NamedTuple):\n    v: int", ["A"]),
        ("__all__ = ['CONSTANT', 'A']\nclass A: ...\ndef f(): ...", ["A"]),
        ("def f():\n    ''", ["f"]),
    ],
)
def test_planted_gap_in_docstrings_is_found(source, names):
    assert undocumented(source) == names


# What `import jsnn` does

AFTER_IMPORT = """
import sys, jsnn
print({"jax", "flax", "matplotlib", "numpy"} & set(sys.modules))  # a name is imported when it is first used
import jax
for name in jsnn.__all__:
    getattr(jsnn, name)
heavy = {
    "aedat", "array_record", "grain", "h5py", "jax.experimental.pallas", "matplotlib", "nir", "sklearn", "tensorflow",
    "tensorflow_datasets", "tonic", "torch",
}
print(heavy & set(sys.modules))
jax.config.update("jax_num_cpu_devices", 2)  # JAX refuses it once an array has been made
"""


def test_import_is_light_and_silent():
    done = subprocess.run([sys.executable, "-c", AFTER_IMPORT], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("set()\nset()\n", "")


def test_no_function_hides_a_module():
    for name in filter(lambda name: name.startswith("jsnn."), MODULES):
        module, (package, _, attribute) = importlib.import_module(name), name.rpartition(".")
        assert getattr(sys.modules[package], attribute) is module, name
