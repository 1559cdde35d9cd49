"""Damage small files at random, and read them: `python tests/fuzz_files.py [CASES] [SEED] [FOLDER]`.

A reader may load the file, or raise an error of its own in one line. What else happens is printed: another error, a
file that takes longer than 20 s or more than 1 GiB, and a reader that dies. FOLDER keeps such files. Each process reads
many files, since starting one takes seconds.
"""

import collections
import itertools
import json
import random
import resource
import subprocess
import sys
import tempfile
import threading
import traceback
import zipfile
from pathlib import Path

DATA = Path(__file__).parent / "data"
SECONDS, BYTES = 20, 2**30
NUMBERS = [bytes(4), b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\1\0\0\0", b"\xff" * 8, bytes(8)]


def whole_files(folder):
    """Write a file of each kind into a folder, and return their contents by name."""
    import h5py
    import nir
    import numpy as np
    from event_writers import WRITERS, some_events, write_shd
    from scipy.io import wavfile

    for name, write in WRITERS.items():
        write(folder / name, some_events(50))
    write_shd(folder / "shd_train.h5", [0, 1, 2])
    wavfile.write(folder / "a.wav", 8000, np.arange(40, dtype=np.int16).reshape(20, 2))
    lif = nir.LIF(tau=np.full(3, 2e-3), r=np.ones(3), v_leak=np.zeros(3), v_threshold=np.ones(3))
    dense = nir.Affine(np.ones((3, 2)), np.ones(3))
    nir.write(folder / "dense.nir", nir.NIRGraph.from_list(dense, lif, nir.Linear(np.ones((2, 3)))))
    conv = nir.Conv2d((8, 8), np.ones((2, 1, 3, 3)), 1, 0, 1, 1, np.zeros(2))
    pool = nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    flat = nir.Flatten({"input": np.array([2, 3, 3])}, 0, -1)
    ends = {"input": nir.Input(np.array([1, 8, 8])), "output": nir.Output(np.array([18]))}
    names = ["input", "conv", "pool", "flat", "output"]
    nodes = {**ends, "conv": conv, "pool": pool, "flat": flat}
    nir.write(folder / "conv.nir", nir.NIRGraph(nodes, list(itertools.pairwise(names)), type_check=False))
    with h5py.File(folder / "three.h5", "w") as file:
        for name in ("layers/dense/vars/0", "layers/dense/vars/1", "layers/conv/vars/0"):
            file.create_dataset(name, data=np.arange(12.0).reshape(3, 4), compression="gzip")
    with h5py.File(folder / "two.h5", "w") as file:
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = [b"dense"]
        root["dense/dense/kernel:0"] = np.ones((2, 3))
        root["dense"].attrs["weight_names"] = [b"dense/kernel:0"]
    with zipfile.ZipFile(folder / "three.keras", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.write(folder / "three.h5", "model.weights.h5")
    np.savez_compressed(
        folder / "images_split.npz", x_train=np.arange(80).reshape(5, 4, 4).astype(np.uint8), y_train=np.arange(5)
    )
    np.savez(folder / "images.npz", images=np.ones((5, 4, 4, 1), np.float32), labels=np.arange(5))
    files = [*sorted(folder.iterdir()), *sorted(DATA.glob("*.npz")), *sorted(DATA.glob("*.safetensors"))]
    return {path.name: path.read_bytes() for path in files}


def damaged(content, others, draw):
    """Return a content with one to three kinds of damage."""
    content = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 3])):
        start = draw.randrange(len(content) or 1)
        kind = draw.choice(["flip", "flip", "cut", "number", "pointer", "pointer", "splice", "delete", "repeat"])
        if kind == "flip":
            for index in draw.sample(range(len(content)), min(draw.choice([1, 4, 30]), len(content))):
                content[index] ^= 1 << draw.randrange(8)
        elif kind == "cut":
            del content[start:]
        elif kind == "number":
            number = draw.choice(NUMBERS)
            content[start : start + len(number)] = number
        elif kind == "pointer":  # may lead to where it came from
            places = range(0, len(content) - 7, 8)
            if places:
                start, other = draw.choice(places), draw.choice(places)
                content[start : start + 8] = content[other : other + 8]
        elif kind == "splice":
            other = draw.choice(others)
            place = draw.randrange(len(other))
            content[start : start + 64] = other[place : place + 64]
        elif kind == "delete":
            del content[start : start + draw.choice([1, 8, 100])]
        else:
            content[start:start] = content[: draw.choice([1, 8, 100])]
    return bytes(content)


def outcome(read, path):
    """Return "loaded", "refused", or what is wrong with how a file was read."""
    try:
        read(path)
    except ImportError:
        return "refused"
    except (OSError, ValueError) as error:
        raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
        if "jsnn" in Path(raised_in).parts and "\n" not in str(error):
            return "refused"
        return f"from {raised_in}: {type(error).__name__}: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "loaded"


def work(folder, first, last, seed):
    """Read the cases from `first` to `last`, and print a line for each before and after."""
    from jsnn import data, nir, weights
    from jsnn.data.event_files import EVENT_READERS

    def read(path):
        if path.suffix == ".nir":
            nir.from_nir(path, 1e-3)
        elif "images" in path.name:
            data.load(path, "train")
        elif path.suffix == ".wav":
            data.read_sound(path)
        elif path.name.endswith("shd_train.h5"):
            list(data.load(path, "train"))
        elif path.suffix in EVENT_READERS:
            data.read_events(path)
        else:
            weights.load(path)

    files = {path.name: path.read_bytes() for path in sorted((folder / "whole").iterdir())}
    kinds = sorted({Path(name).suffix for name in files})
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + 2 * BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for case in range(first, last):
        draw = random.Random(f"{seed} {case}")
        kind = draw.choice(kinds)
        name = draw.choice([name for name in files if name.endswith(kind)])
        path = folder / f"case-{case}-{name}"
        path.write_bytes(damaged(files[name], list(files.values()), draw))
        print(json.dumps({"case": case, "file": path.name}), flush=True)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        found = outcome(read, path)
        more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
        if more > BYTES:
            found = f"took {more:,} bytes: {found}"
        print(json.dumps({"case": case, "file": path.name, "found": found}), flush=True)
        if found in ("loaded", "refused"):
            path.unlink()


def fuzz(cases, seed=0, keep=None):
    """Read that many damaged files, and return how often each outcome was seen, by the kind of file."""
    seen = collections.Counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(keep or temporary)
        whole = folder / "whole"
        whole.mkdir(parents=True)
        contents = whole_files(whole)
        for name, content in contents.items():
            (whole / name).write_bytes(content)
        first = 0
        while first < cases:
            command = [sys.executable, __file__, "--work", str(folder), str(first), str(cases), str(seed)]
            line, started = {}, True
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                while started:
                    timer = threading.Timer(SECONDS + 40 * (not line), process.kill)  # it also has to import
                    timer.start()
                    text = process.stdout.readline()
                    timer.cancel()
                    started = bool(text)
                    if started:
                        line = json.loads(text)
                        first = line["case"] + ("found" in line)
                        if "found" in line:
                            seen[Path(line["file"]).suffix, line["found"]] += 1
            code = process.returncode
            if first < cases:
                seen[Path(line["file"]).suffix, f"died of {code} at {line['file']}"] += 1
                first += 1
    return seen


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
    else:
        numbers = [int(text) for text in sys.argv[1:3]]
        for (kind, found), times in sorted(
            fuzz(*(numbers or [2000]), keep=sys.argv[3] if sys.argv[3:] else None).items()
        ):
            print(f"{times:5} {kind:13} {found}")
