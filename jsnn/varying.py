"""What JAX knows of arrays inside of `jax.shard_map`: along which axes of devices their numbers differ."""

from typing import Any

import jax

from jsnn.arguments import is_array
from jsnn.types import Shape


def shaped(x: Any, shape: Shape) -> jax.ShapeDtypeStruct:
    """Return what describes an array of another shape, which differs along the same axes of devices as `x`."""
    kind = jax.typeof(x).update(shape=shape)
    if not kind.manual_axis_type.varying:
        return jax.ShapeDtypeStruct(shape, x.dtype)
    return jax.ShapeDtypeStruct(shape, x.dtype, sharding=kind.sharding, manual_axis_type=kind.manual_axis_type)


def alike(tree: Any, others: Any = ()) -> Any:
    """Return arrays that all vary over the axes of a mesh over which any of them, or of the others, varies.

    The gradient of one that was the same on all devices is then summed over them.
    """
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return tree

    def varying(x: Any) -> frozenset[str]:
        return jax.typeof(x).manual_axis_type.varying

    axes = frozenset().union(*map(varying, filter(is_array, jax.tree.leaves((tree, others)))))

    def cast(x: Any) -> Any:
        missing = tuple(axes - varying(x)) if is_array(x) else ()
        return jax.lax.pcast(x, missing, to="varying") if missing else x

    return jax.tree.map(cast, tree)
