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
    within,
)
from jsnn.program.linear import LINEAR, RANDOM, SUMS, SYNAPTIC, is_linear, is_random

__all__ = [
    "LINEAR",
    "RANDOM",
    "SUMS",
    "SYNAPTIC",
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
    "is_random",
    "read",
    "shape_of",
    "splice",
    "trace",
    "unchanged",
    "within",
]
