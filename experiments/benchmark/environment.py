"""Where and with what a benchmark was run: without it no number means anything."""

import datetime
import shlex
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import jax

from experiments.benchmark.peers import PACKAGES, PEERS
from experiments.benchmark.side import Setting
from experiments.summary import git_revision
from jsnn.cache import count_cores

_PACKAGES = ("jsnn", "jax", "jaxlib", "flax", "optax", "numpy", "torch", *(PACKAGES.get(name, name) for name in PEERS))


def environment(setting: Setting, rounds: int, arguments: Sequence[str]) -> dict[str, Any]:
    """Return the device, the precision, the versions and the command, in words and numbers."""
    return {
        "device": _device(setting.device),
        "threads": count_cores(),
        "matmul precision": _precision(setting),
        "rounds": rounds,
        "versions": {"python": sys.version.split()[0], **_versions()},
        "command": shlex.join(["python", "-m", "experiments.benchmark", *arguments]),
        "git revision": git_revision(),
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def _precision(setting: Setting) -> str:
    explained = {
        "float32": "float32 (JAX: highest; PyTorch: highest)",
        "tf32": "TF32 products of float32 arrays (JAX: tensorfloat32; PyTorch: high)",
        "bf16": "bfloat16 weights, inputs, currents and spikes; float32 sums",
    }
    return explained[setting.precision]


def _device(device: jax.Device) -> str:
    if device.platform != "cpu":
        return f"{device.platform}: {device.device_kind}"
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"cpu: {models[0] if models else 'unknown'}"


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
