"""Augmentation of recordings [B, T, ...]: spikes or counts of events in time bins.

Where recordings are padded, their lengths stay as they are: a step that moves beyond the length of its recording is
left out like one that moves beyond T.
"""

import math

import jax
import jax.numpy as jnp

from jsnn.arguments import checked
from jsnn.rounding import wide
from jsnn.types import Array


@checked
def time_shift(key: Array, inputs: Array, steps: int) -> Array:
    """Shift each recording of [B, T, ...] in time by whole steps, uniform in -steps..steps; what enters is 0.

    Raises:
        ValueError: inputs that are not [B, T, ...], or `steps` negative or not less than T.

    Examples:
        >>> time_shift(jax.random.key(0), jnp.ones((4, 10, 3)), 2).shape
        (4, 10, 3)
    """
    _check_recordings(inputs)
    return _shift(key, inputs, steps, 1, "steps")


@checked
def channel_shift(key: Array, inputs: Array, channels: int) -> Array:
    """Shift each recording of [B, T, ..., C] along its channels, uniform in -channels..channels; what enters is 0.

    Channels in the order of their frequency, as those of a cochlea, move as if the voice were higher or lower.

    Raises:
        ValueError: inputs that are not [B, T, ..., C], or `channels` negative or not less than C.

    Examples:
        >>> channel_shift(jax.random.key(0), jnp.ones((4, 10, 700)), 20).shape
        (4, 10, 700)
    """
    _check_recordings(inputs, 3)
    return _shift(key, inputs, channels, inputs.ndim - 1, "channels")


@checked
def time_stretch(key: Array, inputs: Array, factor: float) -> Array:
    """Stretch each recording of [B, T, ...] in time by s, log-uniform in 1/factor..factor.

    The values of step t move to step floor((t + 1/2) s). Values that meet are added. No spike is doubled; those that
    would come after T are lost.

    Raises:
        ValueError: inputs that are not [B, T, ...], or `factor` less than 1 or infinite.

    Examples:
        >>> time_stretch(jax.random.key(0), jnp.ones((4, 10, 3)), 1.2).shape
        (4, 10, 3)
    """
    _check_recordings(inputs)
    if not 1 <= factor < math.inf:
        raise ValueError(f"factor must be at least 1 and finite, got {factor}")
    batch, num_steps = inputs.shape[:2]
    scale = jnp.exp(jax.random.uniform(key, (batch, 1), minval=-1, maxval=1) * math.log(factor))
    moved_to = jnp.floor((jnp.arange(num_steps) + 0.5) * scale).astype(jnp.int32)  # [B, T]

    def move(recording: Array, places: Array) -> Array:
        return jnp.zeros_like(recording).at[places].add(recording, mode="drop")

    return _as(inputs, jax.vmap(move)(_summable(inputs), moved_to))


@checked
def jitter(key: Array, inputs: Array, steps: int) -> Array:
    """Move what is in each place of [B, T, ...] in time by whole steps of its own, uniform in -steps..steps.

    Values that meet are added; those that would leave 0..T-1 are lost. The events of a place and step move together.

    Raises:
        ValueError: inputs that are not [B, T, ...], or `steps` negative or not less than T.

    Examples:
        >>> jitter(jax.random.key(0), jnp.ones((4, 10, 3)), 1).shape
        (4, 10, 3)
    """
    _check_recordings(inputs)
    _check_shift("steps", steps, inputs.shape[1])
    offsets = jax.random.randint(key, inputs.shape, -steps, steps + 1)
    x = _summable(inputs)
    sides = [(0, 0), (steps, steps)] + [(0, 0)] * (inputs.ndim - 2)

    def add(index: Array, total: Array) -> Array:
        moving = jnp.pad(jnp.where(offsets == index - steps, x, 0), sides)
        return total + jax.lax.dynamic_slice_in_dim(moving, 2 * steps - index, x.shape[1], axis=1)

    return _as(inputs, jax.lax.fori_loop(0, 2 * steps + 1, add, jnp.zeros_like(x)))


@checked
def drop(key: Array, inputs: Array, probability: float, *, axes: tuple[int, ...] | None = None) -> Array:
    """Set each place of each recording [B, T, ...] to 0 with a probability.

    Args:
        key: consumed.
        inputs: [B, T, ...].
        probability: in [0, 1].
        axes: the axes along which one place is dropped and another is not: (1,) drops whole steps, (-1,) whole
            channels at all steps. None for all axes.

    Raises:
        ValueError: inputs that are not [B, T, ...], a probability outside [0, 1], or axes that inputs do not have.

    Examples:
        >>> drop(jax.random.key(0), jnp.ones((4, 10, 3)), 0.1, axes=(1,)).shape
        (4, 10, 3)
    """
    _check_recordings(inputs)
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must lie in [0, 1], got {probability}")
    chosen = range(inputs.ndim) if axes is None else _axes(inputs, axes)
    shape = [size if axis == 0 or axis in chosen else 1 for axis, size in enumerate(inputs.shape)]
    return jnp.where(jax.random.bernoulli(key, float(probability), shape), jnp.zeros((), inputs.dtype), inputs)


@checked
def cutmix(key: Array, inputs: Array, targets: Array, *, axes: tuple[int, ...] = (1,)) -> tuple[Array, Array]:
    """Replace a part of each recording [B, T, ...] by the same part of another one of the batch, and mix the targets.

    The part is an interval of time, or with other `axes` a box: (2, 3) a rectangle of [B, T, H, W, C] at all steps,
    (1, 2, 3) one that comes and goes. Its share of the recording is uniform in [0, 1], rounded to whole places, and
    its place is uniform (CutMix of Yun et al. 2019, arXiv:1905.04899; of events, Shen et al. 2023, arXiv:2205.11943).
    Padding is mixed and counted like the rest: cut recordings of different lengths to one length before.

    Args:
        key: consumed.
        inputs: [B, T, ...].
        targets: classes [B], integers: the class of the recording with the larger share stays. Or probabilities
            [B, N], floating point: their mean, weighted by the shares.
        axes: those along which the part is bounded.

    Returns:
        The mixed inputs and targets, of the shapes and dtypes that they had.

    Raises:
        ValueError: inputs that are not [B, T, ...], targets of another shape, or axes that inputs do not have.

    Examples:
        >>> mixed, targets = cutmix(jax.random.key(0), jnp.ones((4, 10, 3)), jnp.arange(4))
        >>> mixed.shape, targets.shape
        ((4, 10, 3), (4,))
    """
    _check_recordings(inputs)
    are_classes = jnp.issubdtype(targets.dtype, jnp.integer)
    fits = are_classes or jnp.issubdtype(targets.dtype, jnp.floating)
    if not fits or targets.shape[:1] != inputs.shape[:1] or targets.ndim != (1 if are_classes else 2):
        raise ValueError(
            f"targets must be integers [B] or floating point [B, N] for inputs {inputs.shape}, got {targets.dtype} of "
            f"shape {targets.shape}"
        )
    chosen = _axes(inputs, axes)
    batch = len(inputs)
    partner_key, share_key, place_key = jax.random.split(key, 3)
    partner = jax.random.permutation(partner_key, batch)
    side = jax.random.uniform(share_key, (batch,)) ** (1 / len(chosen))
    inside, share = jnp.ones((), bool), jnp.ones(batch)
    for axis, place in zip(chosen, jax.random.uniform(place_key, (len(chosen), batch))):
        size = inputs.shape[axis]
        length = jnp.round(side * size)
        start = jnp.floor(place * (size - length + 1))
        positions = jnp.arange(size)
        along = (positions >= start[:, None]) & (positions < (start + length)[:, None])
        inside &= along.reshape(batch, *[size if other == axis else 1 for other in range(1, inputs.ndim)])
        share *= length / size
    mixed = jnp.where(inside, inputs[partner], inputs)
    if are_classes:
        return mixed, jnp.where(share > 0.5, targets[partner], targets)
    weight = share[:, None]
    return mixed, ((1 - weight) * targets + weight * targets[partner]).astype(targets.dtype)


def _shift(key: Array, inputs: Array, largest: int, axis: int, name: str) -> Array:
    """Return each recording shifted along an axis, with zeros where nothing was."""
    size = inputs.shape[axis]
    _check_shift(name, largest, size)
    sides = [(largest, largest) if own == axis else (0, 0) for own in range(inputs.ndim)]
    starts = jax.random.randint(key, inputs.shape[:1], 0, 2 * largest + 1)

    def crop(recording: Array, start: Array) -> Array:
        return jax.lax.dynamic_slice_in_dim(recording, start, size, axis - 1)

    return jax.vmap(crop)(jnp.pad(inputs, sides), starts)


def _summable(x: Array) -> Array:
    """Return an array in a dtype that sums do not leave: float32 at least, or int32."""
    return wide(x) if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.int32)


def _as(inputs: Array, sums: Array) -> Array:
    """Return sums in the dtype of the inputs; integers stop at the ends of its range."""
    if jnp.issubdtype(inputs.dtype, jnp.integer) and inputs.dtype.itemsize < sums.dtype.itemsize:
        sums = jnp.clip(sums, jnp.iinfo(inputs.dtype).min, jnp.iinfo(inputs.dtype).max)
    return sums.astype(inputs.dtype)


def _axes(inputs: Array, axes: tuple[int, ...]) -> list[int]:
    """Return axes counted from the front, each once, after a check that they are not the batch."""
    found = sorted({axis % inputs.ndim for axis in axes if -inputs.ndim <= axis < inputs.ndim})
    if len(found) != len(axes) or not found or found[0] == 0:
        raise ValueError(f"axes must name axes of inputs {inputs.shape}, each once and without the batch, got {axes}")
    return found


def _check_shift(name: str, largest: int, size: int) -> None:
    if not 0 <= largest < size:
        raise ValueError(f"{name} must be at least 0 and less than {size}, the size of the axis, got {largest}")


def _check_recordings(inputs: Array, axes: int = 2) -> None:
    if inputs.ndim < axes or inputs.size == 0:
        wanted = "[B, T, ...]" if axes == 2 else "[B, T, ..., C]"
        raise ValueError(f"inputs must have shape {wanted}, none of its sizes 0, got {inputs.shape}")
