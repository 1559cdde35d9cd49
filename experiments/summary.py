"""What a run leaves in `summary.json`: its numbers, and where, when and with what they were made."""

import datetime
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("jsnn", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
_ROOT = Path(__file__).resolve().parents[1]


def command(arguments: Sequence[str]) -> str:
    """Return the command line that the runner was given.

    Examples:
        >>> command(["configs/digits.py", "--workdir", "my runs"])
        "python -m experiments.run configs/digits.py --workdir 'my runs'"
    """
    return shlex.join(["python", "-m", "experiments.run", *arguments])


def git_revision(folder: Path = _ROOT) -> str | None:
    """Return the commit of the code, "with uncommitted changes" if there are any.

    Outside a repository of its own, return None.
    """

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    top, revision = git("rev-parse", "--show-toplevel"), git("rev-parse", "HEAD")
    if not revision or top is None or Path(top).resolve() != folder.resolve():  # a clone that jsnn is installed in
        return None
    code = [name for name in ("jsnn", "experiments", "configs") if (folder / name).is_dir()]
    changes = git("status", "--porcelain", "--", *code)
    return f"{revision} with uncommitted changes" if changes else revision


def summarise(
    name: str, final: Mapping[str, float], seconds: float, seed: int, *, command: str, revision: str | None
) -> dict[str, Any]:
    """Return the summary of a run that has finished."""
    return {
        "name": name,
        "final": dict(final),
        "seconds": seconds,
        "device": _device(),
        "versions": {package: _version(package) for package in _PACKAGES} | {"python": sys.version.split()[0]},
        "seed": seed,
        "command": command,
        "git_revision": revision,
        "finished": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def without_losses(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics that a table of several runs has room for."""
    return {
        name: value for name, value in metrics.items() if not name.startswith(("train_", "test_loss", "test_rate/"))
    }


def format_metric(name: str, value: float | str | None) -> str:
    """Return a metric for people.

    Examples:
        >>> format_metric("test_accuracy", 0.98), format_metric("spikes_per_image", 359004.5)
        ('98.00%', '359,004')
        >>> format_metric("loss", 0.1234)
        '0.1234'
    """
    if value is None or isinstance(value, str):
        return value or ""
    if "accuracy" in name:
        return f"{value:.2%}"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def _device() -> str:
    import jax  # the page of a run is made without it

    devices = jax.devices()
    kind = devices[0].device_kind
    return f"{len(devices)} x {kind}" if kind != "cpu" else f"cpu, {os.cpu_count()} cores"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"
