"""Recordings with a class each, read from their files when they are looked at."""

import collections
import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, overload

import numpy as np

from jsnn.arguments import check_parameters, checked
from jsnn.data.cache import Allocate, cached, identity_of, in_memory
from jsnn.data.dataset import Dataset, Padded
from jsnn.data.order import epoch_permutation
from jsnn.data.splits import intervals
from jsnn.extras import require
from jsnn.types import Array

Recording: TypeAlias = Any  # a `Sound`, a structured array of events, or what else a reader returns
Transform: TypeAlias = Callable[[Recording], Any]  # a recording -> an array [T, ...]


def _itself(item: Any) -> Any:
    return item


@dataclasses.dataclass(frozen=True, eq=False)
class Recordings:
    """N recordings and their classes; a recording is read when it is looked at, and not kept.

    `recordings[i]` is one of them: a `Sound`, or events in a structured array with the fields t (µs), x, y and p (see
    `read_events`). `recordings[start:stop]`, or an array of indices or of N booleans, gives `Recordings` again.

    Raises:
        TypeError: if targets are not integers.
        ValueError: if targets are not [N], not from 0 on, not as many as items, or there are none.

    Examples:
        >>> sounds = [np.ones((3, 1), np.float32), np.ones((5, 1), np.float32)]
        >>> recordings = Recordings(sounds, [0, 1], class_names=("short", "long"))
        >>> recordings[1].shape, recordings[:1].targets
        ((5, 1), array([0], dtype=int32))
        >>> dataset = recordings.to_dataset(lambda sound: sound)
        >>> dataset.inputs.shape, dataset.lengths
        ((2, 5, 1), array([3, 5], dtype=int32))
    """

    items: Sequence[Any] = dataclasses.field(repr=False)
    """What `read` is called with, one for each recording, such as a path; by default, the recordings themselves."""
    targets: Any
    """[N], integers from 0, kept as int32: the classes."""
    read: Callable[[Any], Recording] = _itself
    name: str = "recordings"
    class_names: tuple[str, ...] = ()
    """Empty where unknown."""
    num_classes: int = 0
    """0 stands for one more than the largest class."""
    files: tuple[Path, ...] = dataclasses.field(default=(), repr=False)
    """The file of each recording, as its name may say more, such as who speaks; empty where there are none."""

    def __post_init__(self) -> None:
        check_parameters(self)
        sizes = [len(one) if isinstance(one, Sequence | np.ndarray) else None for one in (self.items, self.files)]
        if None in sizes or not callable(self.read):
            raise TypeError("items must be a list or a NumPy array, read a function, and files a tuple of paths")
        if sizes[1] not in (0, sizes[0]):
            raise ValueError(f"files must be as many as items, {sizes[0]}, or none, got {sizes[1]}")
        # the rules for classes are those of any data set
        checked_targets = Dataset(
            np.zeros((len(self.items), 1), np.uint8), self.targets, self.name, self.num_classes, self.class_names
        )
        if not checked_targets.num_classes or checked_targets.targets.ndim != 1:
            raise TypeError(f"targets must be integers [N], the classes, got {np.asarray(self.targets).dtype}")
        for field in ("targets", "num_classes"):
            object.__setattr__(self, field, getattr(checked_targets, field))
        object.__setattr__(self, "class_names", tuple(self.class_names))

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Recording: ...

    @overload
    def __getitem__(self, index: slice | np.ndarray | Sequence[int]) -> "Recordings": ...

    def __getitem__(self, index: Any) -> Any:
        chosen = np.arange(len(self))[index]
        if chosen.ndim == 0:
            return self.read(self.items[chosen])
        if chosen.ndim > 1:
            raise IndexError(f"an index of recordings must be a number, a slice or an array [n], got {index!r}")
        return dataclasses.replace(
            self,
            items=[self.items[one] for one in chosen],
            targets=self.targets[chosen],
            files=tuple(self.files[one] for one in chosen) if self.files else (),
        )

    def __iter__(self) -> Iterator[Recording]:
        return (self.read(item) for item in self.items)

    @checked
    def to_dataset(self, transform: Transform, *, length: int | None = None) -> Dataset:
        """Return all recordings as arrays in memory, each as `transform` makes it, zeros after its end.

        They are kept in the folder JSNN_CACHE_DIR, as decoded images are (see `load`), known by the files (path, size
        and time of change) and the transform. Of a transform nothing is known, and nothing kept, unless it is a
        function of a module or an object of a frozen dataclass, such as `Frames`. It is another one when the source
        file that defines it changes, or another file of that package.

        Args:
            transform: a function of one recording, which returns an array [T, ...], uint8 or floating point. T may
                differ from recording to recording, the other sizes may not.
            length: the number of steps of all: what is longer is cut off at the end. None for that of the longest.

        Returns:
            A data set with a time axis, inputs [N, T, ...], and `lengths` [N], the steps that are not padding.

        Raises:
            ValueError: `length` is less than 1, the results differ in more than their length, have no steps, or would
                not fit into memory; or from reading or transforming, with the file that it was.
        """
        _check_length(length)
        kind = identity_of((transform, self.read, tuple(self.items))) if self.files else None
        files = sorted(set(map(os.fspath, self.files)))
        if kind is None:
            inputs, lengths = self._padded(transform, length, in_memory)
        else:
            stats = [(file, stat.st_size, stat.st_mtime_ns) for file, stat in zip(files, map(os.stat, files))]
            identity = (stats, kind, length)
            names = ("inputs", "lengths")
            read = functools.partial(self._padded, transform, length)
            inputs, lengths = cached(self.name, identity, read, names, len(self))
        return Dataset(inputs, self.targets, self.name, self.num_classes, self.class_names, True, lengths=lengths)

    @checked
    def batches(
        self,
        key: Array,
        batch_size: int,
        transform: Transform,
        *,
        length: int | None = None,
        drop_remainder: bool = True,
    ) -> Iterator[tuple[Padded, np.ndarray]]:
        """Stream one shuffled epoch from the files, in the order of `jsnn.data.batches` with the same key.

        What is in memory does not grow with the number of recordings: threads read and transform those of the next two
        batches. An epoch repeats exactly where its key does, such as `jax.random.fold_in(jax.random.key(seed), epoch)`.
        The iterator is one of Grain: `get_state()` says where it is, and after `set_state(...)` another one, of the
        same arguments, goes on there with the same batches.

        Args:
            key: of the order.
            batch_size: recordings in a batch.
            transform: as of `to_dataset`.
            length: as of `to_dataset`; None for that of the longest of each batch, so that `jit` compiles for each.
            drop_remainder: leave out the last batch if it is smaller.

        Yields:
            `Padded(inputs [B, T, ...], lengths [B])` and targets [B].

        Raises:
            ImportError: if Grain is not installed.
            ValueError: at the call, `length` is less than 1, `batch_size` is less than 1, or so large that nothing is
                left after dropping; later, as `to_dataset` does.
        """
        require("data", "grain")
        import grain

        _check_length(length)

        def pad(examples: list[tuple[np.ndarray, np.ndarray]]) -> tuple[Padded, np.ndarray]:
            results, targets = zip(*examples)
            return Padded(*_pad(iter(results), len(results), length, in_memory)), np.stack(targets)

        order = np.asarray(epoch_permutation(key, len(self), batch_size if drop_remainder else min(batch_size, 1)))
        examples = grain.MapDataset.source(order.ravel()).map(
            lambda index: (self._transformed(int(index), transform, length), self.targets[index])
        )
        threads = min(16, 2 * (os.cpu_count() or 1), 2 * batch_size)  # more of them than are read ahead would idle
        ahead = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * batch_size)
        batched = examples.to_iter_dataset(ahead).batch(batch_size, drop_remainder=drop_remainder, batch_fn=pad)
        return iter(batched)

    def _padded(self, transform: Transform, length: int | None, allocate: Allocate) -> tuple[np.ndarray, np.ndarray]:
        """Return inputs [N, T, ...] and lengths [N] of all recordings."""
        results = (self._transformed(index, transform, length) for index in range(len(self)))
        return _pad(results, len(self), length, allocate)

    def _transformed(self, index: int, transform: Transform, length: int | None) -> np.ndarray:
        """Return what the transform makes of a recording, [T, ...], as a `Dataset` has it, cut to `length`."""
        recording, where = self.read(self.items[index]), self.files[index] if self.files else f"recording {index}"
        try:
            found = np.asarray(transform(recording))
            if found.ndim == 0 or len(found) == 0:
                raise ValueError(f"transform must return an array [T, ...] of at least one step, got {found.shape}")
            found = Dataset(found[None], np.zeros(1, int), in_time=True).inputs[0]
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: {error}") from error
        except Exception as error:
            error.add_note(f"from the transform of {where}")
            raise
        return found[:length]


class SplitRecordings(NamedTuple):
    """All recordings of a set, and the split that each is of."""

    recordings: Recordings
    splits: Sequence[str]

    def in_turns(self) -> "SplitRecordings":
        """Return the same with classes that take turns, so that a part such as "train[:90%]" has its share of each."""
        keys = list(zip(self.splits, self.recordings.targets.tolist()))
        counts, seen = collections.Counter(keys), collections.Counter[tuple[str, int]]()
        places = []
        for index, key in enumerate(keys):
            places.append((seen[key] / counts[key], key[1], index))
            seen[key] += 1
        order = [index for *_, index in sorted(places)]
        return SplitRecordings(self.recordings[order], [self.splits[index] for index in order])

    def select(self, name: str, split: str) -> Recordings:
        """Return those that `split` names, in the syntax of TFDS; `name` is what errors call the set."""
        places = {key: np.flatnonzero(np.array(self.splits) == key) for key in dict.fromkeys(self.splits)}
        ranges = intervals(name, split, {key: [len(found)] for key, found in places.items()})
        return self.recordings[np.concatenate([places[key][start:stop] for key, start, stop in ranges])]


def _pad(
    results: Iterator[np.ndarray], count: int, length: int | None, allocate: Allocate
) -> tuple[np.ndarray, np.ndarray]:
    """Return `count` arrays [T, ...] in one, [N, T, ...] with zeros at the end, and their lengths [N]."""
    first = next(results)
    lengths = np.zeros(count, np.int32)
    padded = allocate((count, length or len(first), *first.shape[1:]), first.dtype)
    for index, result in enumerate(itertools.chain([first], results)):
        if (result.shape[1:], result.dtype) != (first.shape[1:], first.dtype):
            raise ValueError(
                f"transform must return arrays that differ in their length alone, got {first.dtype} of shape "
                f"{first.shape} and {result.dtype} of shape {result.shape}"
            )
        if len(result) > padded.shape[1]:  # happens about log(count) times
            shorter, padded = padded, allocate((count, *result.shape), first.dtype)
            padded[:index, : shorter.shape[1]] = shorter[:index]
        padded[index, : len(result)] = result
        lengths[index] = len(result)
    return padded, lengths


def _check_length(length: int | None) -> None:
    if length is not None and length < 1:
        raise ValueError(f"length must be at least 1, got {length}")
