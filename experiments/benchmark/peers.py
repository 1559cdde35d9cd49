"""The other simulators: which are installed, and what those in PyTorch share."""

import difflib
import importlib.util
import math
import sys
import timeit
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import numpy as np

from experiments.benchmark.side import Setting, Side
from jsnn.cache import count_cores

PEERS = ("brainpy", "dcls", "jaxpike", "norse", "snntorch", "sparx", "spikingjelly", "spyx")
PACKAGES = {"sparx": "sparxml"}  # where the name of a peer is not that of its package
_MODULES = {"dcls": "DCLS"}  # or of its module
_FROM_PYTHON_3_12 = ("brainpy", "sparx")
TAU = -1 / math.log(0.9)  # steps, for those that ask for a time constant instead of a decay of 0.9
IN_TORCH = ("norse", "snntorch", "spikingjelly")


def installed(names: Sequence[str] | None) -> tuple[str, ...]:
    """Those of the peers (None: of all) that can be imported; it says which cannot, and why.

    Raises:
        ValueError: if a name is not that of a peer.
    """
    for name in names or ():
        check_name("peer", name, PEERS)
    wanted = PEERS if names is None else tuple(dict.fromkeys(names))
    missing = [name for name in wanted if importlib.util.find_spec(_MODULES.get(name, name)) is None]
    too_new = [name for name in missing if name in _FROM_PYTHON_3_12 and sys.version_info < (3, 12)]
    others = [name for name in missing if name not in too_new]
    reasons = ((others, "are not installed: pip install -e '.[peers]'"), (too_new, "need Python 3.12 or newer"))
    for left_out, why in reasons:
        if left_out:
            print(f"without {', '.join(left_out)}, which {why}", file=sys.stderr)
    return tuple(name for name in wanted if name not in missing)


def check_name(kind: str, name: str, known: Collection[str]) -> None:
    """Raise ValueError if a name is not known; the message has the nearest one that is."""
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f", did you mean {near[0]}?" if near else "."
        raise ValueError(f"no {kind} is called {name!r}{hint} There are {', '.join(known)}.")


def prepare_torch(setting: Setting) -> Any:
    """PyTorch's device for a setting, its threads and precision set.

    Raises:
        RuntimeError: if the setting is for a GPU and this PyTorch has none.
    """
    import torch

    torch.set_num_threads(count_cores())
    torch.set_float32_matmul_precision("high" if setting.precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = setting.precision == "tf32"
    if setting.device.platform == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise RuntimeError("this PyTorch sees no GPU: install its CUDA build, or name the peers to run with --peers")
    return torch.device("cuda")


def torch_dtype(setting: Setting) -> Any:
    """Return what PyTorch is to compute in."""
    import torch

    return torch.bfloat16 if setting.precision == "bf16" else torch.float32


def torch_side(setting: Setting, function: Callable[[], Any]) -> Side:
    """Return a peer's side; of its memory PyTorch tells only on a GPU."""
    import torch

    if setting.device.platform == "cpu":
        return Side(function, "peer")

    def run() -> Any:
        made = function()
        torch.cuda.synchronize()
        return made

    torch.cuda.reset_peak_memory_stats()
    seconds = [timeit.timeit(run, number=1) for _ in range(2)]
    return Side(run, "peer", max(0.0, seconds[0] - seconds[1]), torch.cuda.max_memory_allocated())


def compare(ours: Any, theirs: Any, what: str = "spikes", tolerance: float = 1e-4) -> str:
    """Return in words whether two sides made the same: all values within `tolerance` times the largest one, or 1.

    >>> compare(np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    'same spikes: largest difference 0, 2 values, 1 of them not 0'
    """
    a, b = (np.asarray(x, np.float32) for x in (ours, theirs))
    difference = float(np.max(np.abs(a - b)))
    differing = int(np.sum(np.abs(a - b) > tolerance * max(1.0, float(np.max(np.abs(a))))))
    verdict = f"same {what}" if not differing else f"DIFFERENT {what}, {differing:,} of them"
    if not np.any(a):
        verdict = f"no {what} at all, which shows nothing"
    return f"{verdict}: largest difference {difference:.2g}, {a.size:,} values, {np.count_nonzero(a):,} of them not 0"


def on_cpu(function: Callable[..., Any], *arguments: Any) -> np.ndarray:
    """Return what a JAX function makes on a CPU, in float32: the numbers that all platforms are held to."""
    with jax.default_device(jax.devices("cpu")[0]), jax.default_matmul_precision("float32"):
        return np.asarray(jax.jit(function)(*(np.asarray(x) for x in arguments)))
