"""Checkpoints of a training run, through orbax: the last and the best, each written whole or not at all.

Orbax writes to a temporary folder and renames it, and drops an old checkpoint only once a newer one is complete. So
a crash or a full disk in the middle of saving leaves the one before as it was. Every array and all values beside them
have a checksum, which is compared when they are read: a damaged checkpoint is refused, never restored as other weights.
"""

import json
import math
import os
import re
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint.options import MultiprocessingOptions

from jsnn import checksum
from jsnn.files import as_path
from jsnn.neurons.checks import is_key
from jsnn.types import State

_TOGETHER = MultiprocessingOptions()
_NAMED = 3  # how many leaves an error names
_DROPPED = ".dropped"  # where what is deleted is moved first: a kill leaves no half of a checkpoint


class CheckpointError(Exception):
    """A checkpoint that cannot be read or written. The message says which, and that nothing was overwritten.

    Attributes:
        whole: the steps of the other checkpoints in the folder, if one is damaged and these are not; otherwise None.
    """

    def __init__(self, message: str, whole: Sequence[int] | None = None) -> None:
        super().__init__(message)
        self.whole = whole


class _Leaf(NamedTuple):
    """What is written down of an array; earlier versions wrote no checksum."""

    dtype: str
    shape: tuple[int, ...]
    checksum: str | None

    def __str__(self) -> str:
        return str(self.shape) + f" {self.dtype}" * (self.dtype != "float32")


class _Record(NamedTuple):
    """What is written down beside the arrays of a checkpoint."""

    info: dict[str, Any]
    score: float | None
    leaves: dict[str, _Leaf]


class Checkpoints:
    """The checkpoints of one run, in a folder of its own.

    Args:
        folder: where they lie, one folder for each step that was kept.
        read_only: refuse to save, and do not make the folder.

    A checkpoint holds a pytree of arrays and a dictionary of JSON values (`info`). With a finite `score` it competes
    for `best`; the last one saved is always kept.

    Of several processes (`jax.distributed`) all open the folder, which all of them can reach, and save together: each
    writes what its devices hold. Those that open it for reading only read on their own. The devices may be others,
    and as many as one likes: what is restored lies where `like` does.

    Raises:
        CheckpointError: if the folder cannot be opened.
    """

    def __init__(self, folder: str | Path, *, read_only: bool = False) -> None:
        self.folder = as_path(folder).resolve()
        self.read_only = read_only
        self._records: dict[int, _Record] = {}
        self._manager: ocp.CheckpointManager | None = None
        if self.folder.exists() and not self.folder.is_dir():
            raise CheckpointError(f"{self.folder} cannot be opened for checkpoints: it is not a folder")
        if "\\" in self.folder.as_posix():
            raise CheckpointError(f"{self.folder} cannot be opened for checkpoints: orbax takes \\ for /, rename it")
        if not read_only and self.folder.is_dir() and not os.access(self.folder, os.W_OK):
            raise CheckpointError(f"{self.folder} cannot be opened for checkpoints: it may not be written to")
        if not read_only or self.folder.is_dir():
            me = jax.process_index()
            processes = MultiprocessingOptions(primary_host=me, active_processes={me}) if read_only else _TOGETHER
            options = ocp.CheckpointManagerOptions(
                preservation_policy=None if read_only else _LastAndBest(self),
                enable_async_checkpointing=False,
                todelete_subdir=None if read_only else _DROPPED,
                read_only=read_only,
                create=not read_only,
                multiprocessing_options=processes,
            )
            handlers = {
                "state": ocp.PyTreeCheckpointHandler(  # the database would be looked for with the path as a pattern
                    use_ocdbt=not re.search(r"[*?[\]]", str(self.folder)), multiprocessing_options=processes
                ),
                "info": ocp.JsonCheckpointHandler(multiprocessing_options=processes),
            }
            try:
                self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)
            except Exception as error:
                raise CheckpointError(f"{self.folder} cannot be opened for checkpoints: {_brief(error)}") from error
            self._clear()

    @property
    def steps(self) -> list[int]:
        """The steps of the checkpoints in the folder, damaged ones too, in ascending order."""
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted(int(path.name) for path in found if path.name.isdigit())

    @property
    def last(self) -> int | None:
        """The step of the last checkpoint, None where there is none."""
        return max(self.steps, default=None)

    @property
    def best(self) -> int | None:
        """The step of the checkpoint with the highest score, the first of equals; the last where none has a score.

        Raises:
            CheckpointError: if one is damaged, so that its score is not known.
        """
        return self._best_of(self.steps)

    def info(self, step: int | None) -> dict[str, Any]:
        """Return the values that were saved beside the arrays of a step.

        Raises:
            CheckpointError: if there is no such checkpoint, or they are damaged.
        """
        return self._record(self._known(step)).info

    def save(self, step: int, state: State, info: dict[str, Any], score: float | None = None) -> None:
        """Save a pytree of arrays, whole or not at all. A score that is not finite counts as none.

        Raises:
            CheckpointError: if it cannot be written (a full disk, a missing right); the ones before are untouched.
            TypeError: if something in the pytree is neither an array nor a number.
            ValueError: if the step is below 0, or below that of a checkpoint in the folder.
        """
        if step < 0:
            raise ValueError(f"step must be >= 0, got {step}")
        if self._manager is None or self.read_only:
            raise CheckpointError(f"{self.folder} was opened for reading only: nothing is saved there")
        if self.last is not None and step < self.last:
            raise ValueError(
                f"step must be at least {self.last}, that of the last checkpoint in {self.folder}, got {step}: restore "
                f"it and go on from there, or take another folder"
            )
        score = float(score) if score is not None and math.isfinite(score) else None
        arrays = _plain(state)
        record = _Record(info, score, {name: _leaf(array) for name, array in arrays.items()})
        items = ocp.args.Composite(
            state=ocp.args.PyTreeSave({name: array for name, array in arrays.items() if array.size}),
            info=ocp.args.JsonSave(checksum.seal(record._asdict())),
        )
        self._best_of(self.steps)  # a damaged one must not be dropped for a score that nobody knows
        try:
            self._records[step] = record
            self._manager.save(step, args=items, force=True)
            self._manager.wait_until_finished()
            self._clear()
        except Exception as error:
            self._records.pop(step, None)
            raise CheckpointError(
                f"the checkpoint of step {step} could not be written to {self.folder}: {_brief(error)}"
                + (f". The checkpoint before it, step {self.last}, is untouched" if self.last is not None else "")
            ) from error

    def restore(self, step: int | None, like: State) -> tuple[State, dict[str, Any]]:
        """Read the checkpoint of a step into the structure, shapes and dtypes of `like`; returns its `info` as well.

        Raises:
            CheckpointError: if there is none, it is damaged, or it belongs to another network or optimiser.
        """
        state = self._restore(step, like, exactly=True)
        return state, self.info(step)

    def restore_part(self, step: int | None, like: State) -> State:
        """Read only the arrays of a checkpoint that `like` has, such as the parameters for another optimiser.

        Examples:
            >>> import tempfile, jax.numpy as jnp
            >>> checkpoints = Checkpoints(tempfile.mkdtemp())
            >>> checkpoints.save(1, {"params": jnp.ones(2), "optimizer": jnp.zeros(5)}, {})
            >>> checkpoints.restore_part(1, {"params": jnp.zeros(2), "optimizer": None})["params"]
            Array([1., 1.], dtype=float32)

        Raises:
            CheckpointError: as `restore`, if one of these arrays is missing or of another shape or dtype.
        """
        return self._restore(step, like, exactly=False)

    def go_back(self, step: int | None, like: State) -> None:
        """Make the checkpoint of a step the last: those after it are deleted, and others that are damaged.

        Raises:
            CheckpointError: if it cannot be restored like `like`; nothing is deleted then.
        """
        if self._manager is None or self.read_only:
            raise CheckpointError(f"{self.folder} was opened for reading only: nothing is deleted there")
        step = self._known(step)
        self._restore(step, like, exactly=True)
        whole = self._whole()
        for other in self.steps:
            if other > step or other not in whole:
                self._manager.delete(other)
                self._records.pop(other, None)
        self._clear()

    def close(self) -> None:
        """Wait for what is being written."""
        if self._manager is not None:
            self._manager.close()

    def _clear(self) -> None:
        if not self.read_only:
            shutil.rmtree(self.folder / _DROPPED, ignore_errors=True)

    def _known(self, step: int | None) -> int:
        if step is None or step not in self.steps:
            there = ", ".join(map(str, self.steps))
            of = "" if step is None else f" of step {step}"
            raise CheckpointError(f"there is no checkpoint{of} in {self.folder}" + f": there are {there}" * bool(there))
        return step

    def _best_of(self, steps: Sequence[int]) -> int | None:
        scores = {step: self._record(step).score for step in sorted(steps)}
        scored = {step: score for step, score in scores.items() if score is not None}
        return max(scored, key=lambda step: scored[step]) if scored else max(steps, default=None)

    def _record(self, step: int) -> _Record:
        """Return what is written down of a step, read once."""
        if step not in self._records:
            try:
                self._records[step] = self._read_record(step)
            except Exception as error:
                raise self._damaged(step, error) from error
        return self._records[step]

    def _read_record(self, step: int) -> _Record:
        assert self._manager is not None
        stored = self._manager.restore(step, args=ocp.args.Composite(info=ocp.args.JsonRestore()))["info"]
        values = checksum.unseal(stored)
        if set(values) == set(_Record._fields):
            leaves = {name: _Leaf(dtype, tuple(shape), text) for name, (dtype, shape, text) in values["leaves"].items()}
            return _Record(values["info"], values["score"], leaves)
        warnings.warn(
            f"the checkpoint of step {step} in {self.folder} is of an earlier version, without checksums: nobody can "
            f"tell whether it is damaged",
            stacklevel=2,
        )
        score = json.loads((self.folder / str(step) / "metrics" / "metrics").read_text())["score"]
        metadata = self._manager.item_metadata(step)["state"]
        leaves = {name: _Leaf(np.dtype(one.dtype).name, tuple(one.shape), None) for name, one in metadata.items()}
        return _Record(values, score if score > -1e300 else None, leaves)

    def _restore(self, step: int | None, like: State, *, exactly: bool) -> State:
        step = self._known(step)
        expected = _plain(like)
        stored, wanted = self._record(step).leaves, {name: _unread(array) for name, array in expected.items()}
        unlike = {n for n, leaf in wanted.items() if n not in stored or stored[n][:2] != leaf[:2]}
        unlike |= set(stored) - set(wanted) if exactly else set()
        if unlike:
            raise CheckpointError(
                f"the checkpoint of step {step} in {self.folder} is damaged, or was written by another network or "
                f"optimiser (it holds {_some(stored, unlike)}, wanted is {_some(wanted, unlike)}). It was left as it is"
            )
        try:
            arrays = self._read_arrays(step, expected)
        except Exception as error:
            raise self._damaged(step, error) from error
        leaves = [_like(leaf, arrays[name]) for name, leaf in zip(expected, jax.tree.leaves(like))]
        return jax.tree.unflatten(jax.tree.structure(like), leaves)

    def _read_arrays(self, step: int, like: dict[str, Any]) -> dict[str, Any]:
        """Return arrays of a checkpoint by name, compared with their checksums.

        They are read one after the other: when one of several readers fails, orbax leaves the others behind, and each
        of them prints a traceback.
        """
        assert self._manager is not None
        arrays: dict[str, Any] = {}
        leaves = self._record(step).leaves
        for name, array in like.items():
            if array.size == 0:  # which orbax does not write
                arrays[name] = jnp.zeros(array.shape, array.dtype)
                continue
            abstract = {name: ocp.utils.to_shape_dtype_struct(array)}
            restore_args = ocp.checkpoint_utils.construct_restore_args(abstract)
            items = ocp.args.PyTreeRestore(abstract, restore_args=restore_args, partial_restore=True)
            arrays |= self._manager.restore(step, args=ocp.args.Composite(state=items))["state"]
        changed = {name for name in like if leaves[name].checksum not in (None, _leaf(arrays[name]).checksum)}
        if changed:
            raise ValueError(f"other values than were saved: {_some(leaves, changed)}")
        return arrays

    def _whole(self) -> list[int]:
        """Return the steps of all checkpoints that are not damaged."""
        whole = []
        for step in self.steps:
            try:
                leaves = self._read_record(step).leaves
                self._read_arrays(step, {name: np.empty(leaf.shape, leaf.dtype) for name, leaf in leaves.items()})
                whole.append(step)
            except Exception:  # whatever is wrong with it
                continue
        return whole

    def _damaged(self, step: int, reason: Exception) -> CheckpointError:
        if isinstance(reason, CheckpointError):
            return reason
        whole = [other for other in self._whole() if other != step]
        others = f"whole: step {', '.join(map(str, whole))}" if whole else "no other is whole"
        return CheckpointError(
            f"the checkpoint of step {step} in {self.folder} is damaged ({_brief(reason)}). It was left as it is; "
            f"{others}",
            whole,
        )


class _LastAndBest:
    """Which checkpoints orbax keeps; the scores are ours, since its own have no checksum."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any = None) -> list[bool]:
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = {max(steps, default=None), self._checkpoints._best_of(steps)}
        return [step in kept for step in steps]


def _plain(tree: State) -> dict[str, Any]:
    """Return a pytree as a flat dictionary by path: what is on disk does not depend on our or Flax's classes."""
    plain = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path)
        if isinstance(leaf, int | float | complex | np.generic):
            leaf = np.asarray(leaf)
        if not isinstance(leaf, jax.Array | np.ndarray | jax.ShapeDtypeStruct):
            raise TypeError(f"a checkpoint holds arrays and numbers, got {leaf!r} as {name}")
        plain[name] = jax.random.key_data(leaf) if is_key(leaf) else leaf
    return plain


def _like(leaf: Any, stored: Any) -> Any:
    """Return a stored leaf in the form in which it was saved: random keys are stored as numbers."""
    return jax.random.wrap_key_data(stored, impl=jax.random.key_impl(leaf)) if is_key(leaf) else stored


def _unread(array: Any) -> _Leaf:
    return _Leaf(np.dtype(array.dtype).name, tuple(array.shape), None)


def _leaf(array: Any) -> _Leaf:
    """Return what is written down of an array.

    One that several processes share is gathered: devices change no checksum.
    """
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        array = multihost_utils.process_allgather(array, tiled=True)
    return _unread(array)._replace(checksum=checksum.of_array(np.asarray(array)))


def _some(leaves: dict[str, _Leaf], names: set[str]) -> str:
    """Return the first leaves of these names, and how many there are besides."""
    found = sorted(name for name in names if name in leaves)
    named = ", ".join(f"{name} {leaves[name]}" for name in found[:_NAMED])
    return (named or "nothing more") + f" and {len(found) - _NAMED} more" * (len(found) > _NAMED)


def _brief(error: Exception) -> str:
    """Return what an error of a library says, on one line."""
    text = " ".join(str(error).split()).partition(". See full")[0] or type(error).__name__
    return text if len(text) <= 200 else text[:200] + "..."
