"""Random synapses, sorted by the neuron that they come from, then by the one that they lead to."""

import numpy as np


def with_fan_in(
    draw: np.random.Generator, inputs: int, outputs: int, fan_in: int, self_connections: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return where synapses come from and lead to, [S] each: for every output, `fan_in` different inputs.

    Inputs that come twice are drawn again until none does, which prefers none; above half of all, a permutation is cut.
    """
    choices = inputs if self_connections else inputs - 1
    if 2 * fan_in > choices:
        pre = draw.permuted(np.tile(np.arange(choices, dtype=np.int32), (outputs, 1)), axis=1)[:, :fan_in]
    else:
        pre = draw.integers(0, max(choices, 1), (outputs, fan_in), np.int32)
        todo = np.arange(outputs)
        while len(todo):
            rows = np.sort(pre[todo], axis=1)
            twice = rows[:, 1:] == rows[:, :-1]
            rows[:, 1:][twice] = draw.integers(0, max(choices, 1), np.count_nonzero(twice), np.int32)
            pre[todo] = rows
            todo = todo[twice.any(axis=1)]
    if not self_connections:
        pre = pre + (pre >= np.arange(outputs)[:, None])
    pairs = pre.astype(np.int64) * outputs + np.arange(outputs)[:, None]
    return _split(np.sort(pairs, axis=None), outputs)


def with_probability(
    draw: np.random.Generator, inputs: int, outputs: int, probability: float, self_connections: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the same, with each synapse at a probability: from one to the next it is a geometric number of pairs."""
    pairs, total, last = [np.zeros(0, np.int64)], inputs * outputs, -1
    while probability > 0 and last < total - 1:
        expected = (total - 1 - last) * probability
        gaps = draw.geometric(probability, int(expected + 5 * expected**0.5) + 10)
        pairs.append(last + np.cumsum(np.minimum(gaps, total + 1)))
        last = int(pairs[-1][-1])
    found = np.concatenate(pairs)
    pre, post = _split(found[found < total], outputs)
    kept = slice(None) if self_connections else pre != post
    return pre[kept], post[kept]


def _split(pairs: np.ndarray, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the two neurons of pairs that are numbered row by row."""
    pre, post = np.divmod(pairs, outputs)
    return pre.astype(np.int32), post.astype(np.int32)
