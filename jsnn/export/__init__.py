"""A network in one file that runs by JAX alone, without jsnn and without the Python code that it was made of.

The file has a line of text, a header in one line of JSON, and then parts one after another:

    jsnn-export 1 CHECKSUM     the format, its version, and the BLAKE2b checksum (32 digits) of all that follows
    {"parts": [["weights", SIZE], ["init", SIZE], ["step", SIZE], ...], "weights": [...], "state": [...], ...}
    weights                    the arrays of the network in the order of the header, little-endian, C order
    init, step, unroll         what `jax.export.Exported.serialize` writes: StableHLO for several platforms

    init(weights, rows) -> state               rows: zeros [B], which say how large the batch is
    step(weights, state, x) -> (state, y)      weights: a list; state: a dict, one array for each name in the header
    unroll(weights, state, x) -> (state, y)    over T steps; only where it was asked for

`examples/deploy.py` reads it with JAX and the standard library.
"""

from jsnn.export.loading import Exported, load
from jsnn.export.saving import PLATFORMS, save

__all__ = ["PLATFORMS", "Exported", "load", "save"]
