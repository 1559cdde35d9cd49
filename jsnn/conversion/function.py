"""The function that is converted, traced: without its weights, and refused in training mode."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import errors, nnx

from jsnn.program import Program, is_random, trace, unchanged
from jsnn.refusals import first_neuron
from jsnn.types import Array, Shape

CURE = "call model.eval() first; a Linen model takes use_running_average=True and deterministic=True"
_LIFTED = "or its module is called inside nnx.jit or nnx.remat: pass the module itself to convert, not a function of it"
TRAINING = (errors.TraceContextError, errors.ModifyScopeVariableError, errors.InvalidRngError)


class Function:
    """A `nnx.Module`, or any function of one array, that can be traced. Holds no weights of a module.

    Attributes:
        module: of a module, only its structure; else None.
    """

    def __init__(self, function: Callable[[Array], Array]) -> None:
        self._function: Any = function
        self.module: Any = None
        self._leaves: dict[str, jax.ShapeDtypeStruct] = {}
        if isinstance(function, nnx.Module):
            self._function, self.module = None, jax.tree.structure(function)
            self._leaves = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in _named_leaves(function)}

    def trace(self, shape: Shape, dtype: Any) -> Any:
        """Return the program for inputs of this shape.

        Raises:
            ValueError: if the function cannot take such inputs, calls a neuron, or is in training mode.
        """
        x = jax.ShapeDtypeStruct(shape, dtype)
        changed: list[str] = []

        def call(leaves: list[Array], x: Array) -> Array:
            if self.module is None:
                return self._function(x)  # not traced itself, since a trace of it would be kept, with its weights
            copy = self.module.unflatten(leaves)
            outputs = copy(x)
            after = dict(_named_leaves(copy))
            changed.extend(name for name, old in zip(self._leaves, leaves) if after.get(name) is not old)
            return outputs

        try:
            with unchanged(self._function):
                jaxpr, returned = trace(call, list(self._leaves.values()), x)
        except TRAINING as error:
            raise ValueError(f"the function is in training mode ({error}): {CURE}; {_LIFTED}") from error
        except Exception as error:  # whatever a user's function may raise
            raise ValueError(f"the function cannot take an input of shape {shape} ({dtype}): {error}") from error
        if name := first_neuron(jaxpr):
            raise ValueError(
                f"the function calls a neuron, {name}, and convert takes what has none: of a jsnn.Network give its "
                f"function, and in place of a jsnn.Sequential an nnx.Sequential"
            )
        changed = self._really_changed(changed, x)
        if changed:
            raise ValueError(f"the function is in training mode (it changes {', '.join(changed)}): {CURE}")
        if not isinstance(returned, jax.ShapeDtypeStruct):
            raise ValueError(
                f"the function must return one array, got a {type(returned).__name__}: pick one, as in "
                f"lambda x: model(x)[0]; a Linen model in inference mode takes no mutable=..."
            )
        return jaxpr

    def trace_written_out(self, shape: Shape, dtype: Any) -> Any:
        """Return the program with each `lax.scan` written out, step after step."""
        with jax.disable_jit():
            return self.trace(shape, dtype)

    def _really_changed(self, names: list[str], x: jax.ShapeDtypeStruct) -> list[str]:
        """Return the leaves that get another value: nnx.jit, nnx.remat and nnx.scan hand on copies of the same."""
        if not names:
            return []

        def is_same(leaves: list[Array], x: Array) -> dict[str, Array]:
            copy = self.module.unflatten(leaves)
            copy(x)
            before, after = dict(zip(self._leaves, leaves)), dict(_named_leaves(copy))
            return {name: (after[name] == before[name]).all() for name in names if name in after}

        halves = [
            jnp.full_like(leaf, 0.5) if jnp.issubdtype(leaf.dtype, jnp.floating) else jnp.zeros_like(leaf)
            for leaf in self._leaves.values()
        ]
        with jax.disable_jit(False):
            same = jax.jit(is_same)(halves, jnp.ones(x.shape, x.dtype))
        return [name for name in names if not same.get(name, False)]


def _named_leaves(module: Any) -> list[tuple[str, Any]]:
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(module)]


def refuse_random(program: Program) -> None:
    """Raise ValueError if a program draws random numbers."""
    for operation in program.operations:
        if is_random(operation.equation):
            raise ValueError(f"the function draws random numbers ({operation.name}), as dropout does: {CURE}")
