"""The order in which training and evaluation visit the examples of a data set."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jsnn.arguments import check_memory, checked
from jsnn.data.dataset import Dataset, Padded
from jsnn.types import Array


@checked
def epoch_permutation(key: Array, n: int, batch_size: int) -> Array:
    """Return the batches of one training epoch: every example at most once, in random order, the remainder dropped.

    Returns:
        int32 indices [n // batch_size, batch_size], for `images[indices[step]]`. `key` is consumed.

    Raises:
        ValueError: `batch_size` is not within 1..n.

    Examples:
        >>> epoch_permutation(jax.random.key(0), 10, 4).shape
        (2, 4)
    """
    check_memory("the permutation", (n,), copies=4)
    if not 1 <= batch_size <= n:
        raise ValueError(f"batch_size must lie in 1..{n}, the number of examples, got {batch_size}")
    steps = n // batch_size
    order = jax.random.permutation(key, n)[: steps * batch_size]
    return order.reshape(steps, batch_size).astype(jnp.int32)


@checked
def pad_to_batches(n: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return batches of equal size for evaluation, with a mask that counts each of the `n` examples exactly once.

    Returns:
        int32 indices and a bool mask, both [ceil(n / batch_size), batch_size]; padding is index 0, False.

    Raises:
        ValueError: `n` or `batch_size` is less than 1.

    Examples:
        >>> indices, mask = pad_to_batches(5, 3)
        >>> indices.tolist(), mask.tolist()
        ([[0, 1, 2], [3, 4, 0]], [[True, True, True], [True, True, False]])
    """
    if n < 1 or batch_size < 1:
        raise ValueError(f"n and batch_size must be at least 1, got {n} and {batch_size}")
    steps = -(-n // batch_size)
    check_memory("the batches", (steps, batch_size))
    positions = np.arange(steps * batch_size, dtype=np.int32).reshape(steps, batch_size)
    mask = positions < n
    return positions * mask, mask


@checked
def batches(
    key: Array, dataset: Dataset, batch_size: int, *, drop_remainder: bool = True
) -> Iterator[tuple[np.ndarray | Padded, np.ndarray]]:
    """Stream one shuffled epoch from the host, in the order of `epoch_permutation` with the same key.

    An epoch repeats exactly where its key does, such as `jax.random.fold_in(jax.random.key(seed), epoch)`.

    Yields:
        images [batch_size, H, W, C], or other inputs, and labels [batch_size]; the last may be smaller if not dropped.
            Of a data set with `lengths` the first is `Padded(inputs, lengths)`, as a loss receives it in training.

    Raises:
        ValueError: at the call, `batch_size` is less than 1, or so large that nothing is left after dropping.

    Examples:
        >>> dataset = Dataset(np.zeros((10, 8, 8, 1)), np.arange(10))
        >>> [len(labels) for _, labels in batches(jax.random.key(0), dataset, 4, drop_remainder=False)]
        [4, 4, 2]
    """
    unit = batch_size if drop_remainder else min(batch_size, 1)
    order = np.asarray(epoch_permutation(key, len(dataset), unit)).ravel()
    chunks = (order[start : start + batch_size] for start in range(0, len(order), batch_size))
    return (dataset.rows(chunk) for chunk in chunks)
