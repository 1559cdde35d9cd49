"""Reads a NIR graph, from a file or in memory, and makes it flat: one dictionary of nodes, one list of edges."""

import functools
import math
import os
import re
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from jsnn.files import Budget, as_path, one_line
from jsnn.nir.graph import INPUT, OUTPUT
from jsnn.nir.library import NIRError, library
from jsnn.nir.neurons import kept
from jsnn.nir.nodes import check_kind
from jsnn.types import Shape

Edge: TypeAlias = tuple[str, str]

_NEWEST = 1  # the major version of the format that is known
_DEEPEST = 50  # graphs in each other
_LARGEST = 2**31 - 1  # values in one array


class Flat(NamedTuple):
    """A graph without subgraphs."""

    nodes: dict[str, Any]
    """Neither inputs nor outputs."""
    edges: list[Edge]
    """By the nodes' names, "input" and "output"."""
    input_shape: Shape
    output_shape: Shape | None
    metadata: dict[str, Any]
    """What jsnn has kept of the whole network."""


def read(graph: Any) -> Flat:
    """Return a graph, checked, from a `nir.NIRGraph` or the path of a file.

    Raises:
        NIRError: if it cannot be read; it says why.
        FileNotFoundError: if there is no such file.
    """
    nir = library()
    if isinstance(graph, str | os.PathLike):
        graph = _load(as_path(graph))
    if not isinstance(graph, nir.NIRGraph):
        raise TypeError(f"from_nir takes a nir.NIRGraph or the path of one, got {type(graph).__name__}")
    ends = {
        kind: [name for name, node in graph.nodes.items() if isinstance(node, kind)] for kind in (nir.Input, nir.Output)
    }
    hint = ": the package nir adds one to each node without an edge to or from it, take out what is not used"
    for kind, found in ends.items():
        if len(found) != 1:
            got = f"{', '.join(found)}{hint}" if found else "none"
            raise NIRError(f"a graph must have one {kind.__name__} node, got {got}")
    (start,), (end,) = ends[nir.Input], ends[nir.Output]
    shape = _shape(start, graph.nodes[start].input_type.get("input"))
    if shape is None:
        raise NIRError(f"node {start!r} says no shape of the input")
    nodes, edges = _flat("", graph)
    names = {start: INPUT, end: OUTPUT}
    for name in names:
        del nodes[name]
    if taken := {INPUT, OUTPUT} & set(nodes):
        raise NIRError(f"a node that is neither an input nor an output is named {taken.pop()!r}")
    edges = [(names.get(source, source), names.get(target, target)) for source, target in edges]
    output_shape = _shape(end, graph.nodes[end].output_type.get("output"))
    try:
        return Flat(nodes, edges, shape, output_shape, kept(graph.nodes[start]))
    except NIRError as error:
        raise NIRError(f"node {start!r} (Input): {error}") from error


def _load(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"there is no NIR file {path}")
    try:
        return _built(path, "", _content(path))
    except NIRError:
        raise
    except Exception as error:  # whatever a file of any content may raise
        raise NIRError(f"{path} is no NIR graph that can be read: {one_line(error)}") from error


def _content(path: Path) -> dict[str, Any]:
    """Return the groups and arrays of a file as nested dictionaries; text becomes str."""
    from jsnn.files.hdf5 import open_hdf5  # needs h5py, which comes with the package nir

    content: dict[str, Any] = {}
    with open_hdf5(path, Budget(path)) as file:
        version = _text(file.read("version")) if file.is_array("version") else None
        major = re.match(r"(\d+)\.", str(version))
        if major is None or int(major[1]) > _NEWEST:
            raise NIRError(
                f"{path} is of the unknown version {str(version)!r} of NIR: known are those up to {_NEWEST}.x; "
                f"write it with the package nir, version {_NEWEST}"
            )
        for name in file.names:
            *groups, key = name.split("/")
            place = functools.reduce(dict.__getitem__, groups, content)
            place[key] = {} if file.is_group(name) else _text(file.read(name))
    return content["node"]


def _built(path: Path, name: str, content: Any) -> Any:
    """Return the node that a dictionary describes. `nir.read` does not say which node is wrong, nor what is wrong.

    Its check of types is left out: it takes all windows to be square, and it gets the inputs of groups wrong.
    """
    nir = library()
    kind = content.get("type") if isinstance(content, dict) else None
    if not isinstance(kind, str):
        raise NIRError(f"{path}: node {name!r} has no type")
    if kind == "NIRGraph":
        inside, ends = content.get("nodes"), np.asarray(content.get("edges"))
        if not isinstance(inside, dict) or (ends.size and ends.shape[1:] != (2,)):
            raise NIRError(f"{path}: the graph {name!r} must have nodes, and edges of two names each")
        prefix = f"{name}." if name else ""
        nodes = {key: _built(path, f"{prefix}{key}", node) for key, node in inside.items()}
        edges = [(str(_text(source)), str(_text(target))) for source, target in ends.tolist()]
        return nir.NIRGraph(nodes, edges, type_check=False)
    try:
        if kind not in ("Input", "Output"):
            check_kind(kind)
        return nir.dict2NIRNode(content)
    except Exception as error:
        raise NIRError(f"{path}: node {name!r} ({kind}): {one_line(error)}") from error


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _shape(name: str, value: Any) -> Shape | None:
    """Return the shape that an input or output says it has."""
    if value is None:
        return None
    sizes = np.atleast_1d(np.asarray(value))
    whole = sizes.dtype.kind in "fiu" and bool(np.all(np.isfinite(sizes)) and np.all(sizes == np.round(sizes)))
    if sizes.ndim != 1 or not sizes.size or not whole or np.any(sizes < 1):
        raise NIRError(f"node {name!r} must have a shape of whole numbers >= 1, got {value}")
    if math.prod(map(int, sizes)) > _LARGEST:
        raise NIRError(f"node {name!r} has the shape {value}, which is too large to be true")
    return tuple(int(size) for size in sizes)


def _flat(prefix: str, graph: Any, depth: int = 0) -> tuple[dict[str, Any], list[Edge]]:
    """Return all nodes of a graph and its subgraphs, these with their graph's name in front, and all edges."""
    if depth > _DEEPEST:
        raise NIRError(f"more than {_DEEPEST} graphs are in each other, or a graph is in itself: {prefix[:50]!r}...")
    nir = library()
    nodes: dict[str, Any] = {}
    edges: list[Edge] = []
    inside: dict[str, tuple[str, str]] = {}  # the input and output of each subgraph
    for name, node in graph.nodes.items():
        full, found = f"{prefix}{name}", {f"{prefix}{name}": node}
        if isinstance(node, nir.NIRGraph):
            found, edges_inside = _flat(f"{full}.", node, depth + 1)
            ends = [[key for key, end in found.items() if isinstance(end, kind)] for kind in (nir.Input, nir.Output)]
            if [len(names) for names in ends] != [1, 1]:
                raise NIRError(f"the subgraph {full!r} must have one Input and one Output node, got {ends}")
            inside[full] = (ends[0][0], ends[1][0])
            edges += edges_inside
        if twice := nodes.keys() & found.keys():
            raise NIRError(
                f"two nodes are named {twice.pop()!r}, as a subgraph's name stands in front of its nodes': rename one"
            )
        nodes |= found
    for source, target in dict.fromkeys(map(tuple, graph.edges)):
        source, target = f"{prefix}{source}", f"{prefix}{target}"
        for name in (source, target):
            if name not in nodes and name not in inside:
                raise NIRError(f"the edge {source!r} -> {target!r} names {name!r}, which is no node of the graph")
        edges.append((inside.get(source, ("", source))[1], inside.get(target, (target, ""))[0]))
    for start, end in inside.values():
        del nodes[start], nodes[end]
        edges = _bridged(end, _flipped(_bridged(start, _flipped(edges))))  # in the places of the edges outside
    if len(set(edges)) < len(edges):
        source, target = next(edge for edge in edges if edges.count(edge) > 1)
        raise NIRError(f"two ways without a node lead from {source!r} to {target!r}: put a Scale by 1 into one of them")
    return nodes, edges


def _bridged(name: str, edges: list[Edge]) -> list[Edge]:
    """Return edges around a node that does nothing, in the places of those after it."""
    sources = [source for source, target in edges if target == name]
    bridged: list[Edge] = []
    for source, target in edges:
        if source == name:
            bridged += [(before, target) for before in sources]
        elif target != name:
            bridged.append((source, target))
    return bridged


def _flipped(edges: list[Edge]) -> list[Edge]:
    return [(target, source) for source, target in edges]
