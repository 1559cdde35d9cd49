"""Sets of event recordings that the library tonic downloads and reads."""

import dataclasses
import functools
import inspect
import os
from pathlib import Path
from typing import Any

import numpy as np

from jsnn.data.event_files import EVENTS, in_order
from jsnn.data.published import spikes_in_hdf5
from jsnn.data.recordings import Recordings, SplitRecordings
from jsnn.extras import require
from jsnn.files import cache_folder

# those whose recordings have one class each
_SETS = ("ASLDVS", "CIFAR10DVS", "DVSGesture", "DVSLip", "NCALTECH101", "NMNIST", "POKERDVS", "SHD", "SSC")
_OPTIONS: dict[str, dict[str, Any]] = {  # how a set says which part it is, if it has several
    "train": {"train": True, "test": False},
    "split": {"train": "train", "validation": "valid", "test": "test"},
}


def tonic_recordings(name: str, folder: Path | None) -> SplitRecordings:
    """Return a set of `tonic.datasets`, such as "NMNIST"; it is downloaded where `folder` does not hold it.

    Raises:
        FileNotFoundError: if it cannot be downloaded.
        ImportError: if tonic is not installed.
        ValueError: if tonic has no such set with classes.
    """
    require("events", "tonic", "h5py")
    if name not in _SETS:
        raise ValueError(
            f"unknown data set 'tonic:{name}': those with a class for each recording are {', '.join(_SETS)}"
        )
    read = TonicReader(name, os.fspath(folder or cache_folder() / "downloads" / "tonic"))
    try:
        sets = {split: read.dataset(split) for split in read.splits}
    except OSError as error:
        raise FileNotFoundError(f"data set 'tonic:{name}' cannot be fetched into {read.folder}: {error}") from error
    if name in ("SHD", "SSC"):
        return spikes_in_hdf5([Path(one.location_on_system, one.data_filename) for one in sets.values()])
    items = [(split, index) for split, one in sets.items() for index in range(len(one.targets))]
    found = [target for one in sets.values() for target in one.targets]
    classes = getattr(next(iter(sets.values())), "classes", None) or sorted(set(map(str, found)))
    labels = [list(classes).index(one) if isinstance(one, str) else int(one) for one in found]
    data = [one for part in sets.values() for one in part.data]
    files = tuple(map(Path, data)) if all(isinstance(one, str) for one in data) else ()
    recordings = Recordings(items, labels, read, f"tonic:{name}", tuple(map(str, classes)), files=files)
    return SplitRecordings(recordings, [split for split, _ in items]).in_turns()


@dataclasses.dataclass(frozen=True)
class TonicReader:
    """What reads a recording (split, index) of a set of tonic."""

    name: str
    folder: str

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the parts that the set has."""
        return tuple(_OPTIONS.get(self._option, {"train": None}))

    @property
    def _option(self) -> str:
        import tonic

        parameters = inspect.signature(getattr(tonic.datasets, self.name)).parameters
        return next((option for option in _OPTIONS if option in parameters), "")

    def dataset(self, split: str) -> Any:
        """Return a part of the set as tonic has it."""
        return _dataset(self.name, self.folder, self._option, _OPTIONS.get(self._option, {}).get(split))

    def __call__(self, item: tuple[str, int]) -> np.ndarray:
        """Return the events of a recording."""
        split, index = item
        events = self.dataset(split)[index][0]
        return in_order({name: np.asarray(events[name]) for name in EVENTS.names or ()})


@functools.lru_cache(maxsize=8)
def _dataset(name: str, folder: str, option: str, value: Any) -> Any:
    import tonic

    return getattr(tonic.datasets, name)(save_to=folder, **({option: value} if option else {}))
