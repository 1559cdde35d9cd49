"""One toolkit for traced programs: flat lists of operations that can be searched, cut and run."""

from jsnn.program.jaxpr import (
    Atom,
    Constant,
    Operation,
    Path,
    Program,
    bodies,
    called,
    flatten,
    inside,
    read,
    shape_of,
    splice,
    trace,
    unchanged,
)
from jsnn.program.linear import RANDOM, SUMS, is_linear

__all__ = [
    "RANDOM",
    "SUMS",
    "Atom",
    "Constant",
    "Operation",
    "Path",
    "Program",
    "bodies",
    "called",
    "flatten",
    "inside",
    "is_linear",
    "read",
    "shape_of",
    "splice",
    "trace",
    "unchanged",
]
