"""The syntax in which a part of a data set is named, that of TensorFlow Datasets."""

from collections.abc import Mapping, Sequence


def intervals(name: str, split: str, shards: Mapping[str, Sequence[int]]) -> list[tuple[str, int, int]]:
    """Return the ranges of examples that `split` names, as (split, start, stop); `shards` has their sizes by split."""
    from tensorflow_datasets.core import ReadInstruction, SplitInfo

    infos = {key: SplitInfo(name=key, shard_lengths=list(each), num_bytes=0) for key, each in shards.items()}
    if "all" in shards:  # which TFDS would look up without an end
        raise ValueError(f"no split of data set {name!r} may be called 'all', which stands for all of them: rename it")
    sizes = {key: sum(each) for key, each in shards.items()}
    try:
        parts = ReadInstruction.from_spec(split).to_absolute(infos)
    except (AssertionError, NotImplementedError, ValueError) as error:
        available = ", ".join(f"{key} ({size:,} examples)" for key, size in sizes.items())
        raise ValueError(
            f"bad split {split!r} of data set {name!r}: {error}; its splits are {available}, "
            "and parts are written as train[:1000] or train[90%:]"
        ) from error
    ranges = [(p.splitname, *slice(p.from_, p.to).indices(sizes[p.splitname])[:2]) for p in parts]
    ranges = [(key, start, stop) for key, start, stop in ranges if start < stop]
    if not ranges:
        raise ValueError(f"split {split!r} of data set {name!r} holds no examples")
    return ranges
