"""Checkpoints of a training run, through orbax: the last and the best, each written whole or not at all.

Orbax writes to a temporary folder and renames it, and drops an old checkpoint only once a newer one is complete. So
a crash or a full disk in the middle of saving leaves the one before as it was.
"""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN
from orbax.checkpoint.options import MultiprocessingOptions

from jsnn.neurons.base import is_key
from jsnn.types import Shape, State

_TOGETHER = MultiprocessingOptions()
_NO_SCORE = -1e300  # orbax never drops a checkpoint without a score, so every one gets some


class CheckpointError(Exception):
    """A checkpoint that cannot be read or written. The message says which, and that nothing was overwritten."""


class Checkpoints:
    """The checkpoints of one run, in a folder of its own.

    Args:
        folder: where they lie, one folder for each step that was kept.
        read_only: refuse to save, and do not make the folder.

    A checkpoint holds a pytree of arrays and a dictionary of plain values (`info`). With a `score` it competes for
    `best`; the last one saved is always kept.

    Of several processes (`jax.distributed`) all open the folder, which all of them can reach, and save together: each
    writes what its devices hold. Those that open it for reading only read on their own. The devices may be others,
    and as many as one likes: what is restored lies where `like` does.
    """

    def __init__(self, folder: str | Path, *, read_only: bool = False) -> None:
        self.folder = Path(folder).resolve()
        self.read_only = read_only
        self._manager: ocp.CheckpointManager | None = None
        if not read_only or self.folder.is_dir():
            me = jax.process_index()
            processes = MultiprocessingOptions(primary_host=me, active_processes={me}) if read_only else _TOGETHER
            best = BestN(get_metric_fn=lambda metrics: metrics["score"], n=1)
            options = ocp.CheckpointManagerOptions(
                best_fn=lambda metrics: metrics["score"],
                best_mode="max",
                preservation_policy=None if read_only else AnyPreservationPolicy([LatestN(1), best]),
                enable_async_checkpointing=False,
                read_only=read_only,
                create=not read_only,
                multiprocessing_options=processes,
            )
            handlers = {
                "state": ocp.StandardCheckpointHandler(multiprocessing_options=processes),
                "info": ocp.JsonCheckpointHandler(multiprocessing_options=processes),
            }
            self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)

    @property
    def last(self) -> int | None:
        """The step of the last checkpoint, None where there is none."""
        return self._manager.latest_step() if self._manager else None

    @property
    def best(self) -> int | None:
        """The step of the checkpoint with the highest score, the last where none has a score."""
        return self._manager.best_step() if self._manager else None

    def save(self, step: int, state: State, info: dict[str, Any], score: float | None = None) -> None:
        """Saves a pytree of arrays, whole or not at all.

        Raises:
            CheckpointError: if it cannot be written (a full disk, a missing right); the ones before are untouched.
        """
        if self._manager is None or self.read_only:
            raise CheckpointError(f"{self.folder} was opened for reading only: nothing is saved there")
        items = ocp.args.Composite(state=ocp.args.StandardSave(_plain(state)), info=ocp.args.JsonSave(info))
        metrics = {"score": _NO_SCORE if score is None else float(score)}
        try:
            self._manager.save(step, args=items, metrics=metrics, force=True)
            self._manager.wait_until_finished()
        except Exception as error:
            raise CheckpointError(
                f"the checkpoint of step {step} could not be written to {self.folder}: {error}. "
                f"The checkpoint before it, step {self.last}, is untouched"
            ) from error

    def restore(self, step: int | None, like: State) -> tuple[State, dict[str, Any]]:
        """Reads the checkpoint of a step into the structure, shapes and dtypes of `like`.

        Raises:
            CheckpointError: if there is none, it is damaged, or it belongs to another network or optimiser.
        """
        if self._manager is None or step is None:
            raise CheckpointError(f"there is no checkpoint in {self.folder}")
        expected = _plain(like)
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, expected)
        items = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), info=ocp.args.JsonRestore())
        try:
            stored, wanted = _shapes(self._manager.item_metadata(step)["state"]), _shapes(expected)
            if stored != wanted:
                raise ValueError(f"it holds {_besides(wanted, stored)}, wanted is {_besides(stored, wanted)}")
            restored = self._manager.restore(step, args=items)
        except Exception as error:
            raise CheckpointError(
                f"the checkpoint of step {step} in {self.folder} is damaged, or was written by another network or "
                f"optimiser ({error}). It was left as it is"
            ) from error
        stored_leaves = restored["state"]
        leaves = [_like(leaf, stored_leaves[name]) for name, leaf in zip(expected, jax.tree.leaves(like))]
        return jax.tree.unflatten(jax.tree.structure(like), leaves), restored["info"]

    def close(self) -> None:
        """Waits for what is being written."""
        if self._manager is not None:
            self._manager.close()


def _plain(tree: State) -> dict[str, Any]:
    """A pytree as a flat dictionary by path: what is on disk does not depend on our or Flax's classes."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): jax.random.key_data(leaf) if is_key(leaf) else leaf for path, leaf in leaves}


def _like(leaf: Any, stored: Any) -> Any:
    """What was stored of a leaf, as the leaf was: keys are stored as numbers."""
    return jax.random.wrap_key_data(stored, impl=jax.random.key_impl(leaf)) if is_key(leaf) else stored


def _shapes(arrays: Any) -> dict[str, Shape]:
    return {name: tuple(array.shape) for name, array in arrays.items()}


def _besides(known: dict[str, Shape], shapes: dict[str, Shape]) -> str:
    """What is in the second that is not the same in the first."""
    more = [f"{name} {shape}" for name, shape in sorted(shapes.items()) if known.get(name) != shape]
    return ", ".join(more) or "nothing more"
