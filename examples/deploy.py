"""A network that runs without jsnn: a file that `jsnn.export.save` wrote, JAX and the standard library.

    python examples/06_export.py digits.jsnn      # where jsnn is installed: trains a network and writes it
    pip install jax flatbuffers                   # on another machine; flatbuffers is what JAX reads programs with
    python deploy.py digits.jsnn

`load` is all that is needed; the format is that of `jsnn/export/__init__.py`.
"""

import functools
import hashlib
import json
import math
import sys

import jax
import jax.numpy as jnp
from jax import export

SEVEN = "........ ..+###+. ..+++##. .....##. ...+###+ ...+#+.. ...##... ..+#+..."


def load(path):
    """Return what a file says of itself, and its functions by name: init, step and, if it was written, unroll."""
    with open(path, "rb") as file:
        magic, version, checksum = file.readline(100).split()
        content = file.read()
    if (magic, version) != (b"jsnn-export", b"1"):
        raise ValueError(f"{path} has another format: {magic!r}, version {version!r}")
    if hashlib.blake2b(content, digest_size=16).hexdigest() != checksum.decode():
        raise ValueError(f"{path} is damaged")
    text, _, body = content.partition(b"\n")
    header, parts, weights = json.loads(text), {}, []
    for name, size in header["parts"]:
        parts[name], body = body[:size], body[size:]
    numbers = parts.pop("weights")
    for one in header["weights"]:
        array = jnp.frombuffer(numbers, jnp.dtype(one["dtype"]), math.prod(one["shape"])).reshape(one["shape"])
        numbers = numbers[array.nbytes :]
        weights.append(array)
    called = {name: export.deserialize(bytearray(part)).call for name, part in parts.items()}
    return header, {name: jax.jit(functools.partial(call, weights)) for name, call in called.items()}


def main(path="digits.jsnn"):
    """Show the network a digit for 16 steps, one by one and at once; return what it takes it for."""
    header, functions = load(path)
    print(f"{header['network']} for {', '.join(header['platforms'])}: state {[one['name'] for one in header['state']]}")
    image = jnp.array([".+#".index(pixel) / 2 for pixel in SEVEN.replace(" ", "")]).reshape(1, 8, 8, 1)
    state, outputs = functions["init"](jnp.zeros(1)), []  # a batch of one
    for _ in range(header["num_steps"]):
        state, output = functions["step"](state, image)
        outputs.append(output)
    _, at_once = functions["unroll"](functions["init"](jnp.zeros(1)), image)
    digit = int(at_once.max(0).argmax())
    print(f"it takes the digit for a {digit}; step by step {int(jnp.stack(outputs).max(0).argmax())}")
    return digit


if __name__ == "__main__":
    main(*sys.argv[1:])
