"""Files from elsewhere: damaged, hostile or too large ones are refused in one line, by all readers."""

import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import nir
import numpy as np
import psutil
import pytest
from fuzz_files import fuzz
from hostile import DAMAGED_NPZ, HOSTILE_HDF5, hdf5, npy_bytes, npz, secret, zeros
from safetensors.numpy import save_file

import jsnn
from jsnn import data, weights
from jsnn.checkpoint import Checkpoints
from jsnn.files import Budget, FileError, Npz, as_path, cache_folder, one_line
from jsnn.nir import NIRError, from_nir


def test_a_variable_that_is_empty_names_no_folder(monkeypatch):
    monkeypatch.setenv("JSNN_CACHE_DIR", "")
    assert cache_folder() == as_path("~/.cache/jsnn")


def test_a_budget_is_spent(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(bytes(1000))
    budget = Budget(path)
    budget.take("a", 2_000_000, 1000)
    with pytest.raises(FileError, match="b of 1,500,000 bytes is too large: 1,048,576 bytes are left"):
        budget.take("b", 1_500_000, 1000)
    with pytest.raises(FileError, match="c of 1,100,000 bytes is too large to be true: the file holds 5 bytes"):
        budget.take("c", 1_100_000, 5)
    with pytest.raises(FileError, match="the file holds 1,000 bytes"):
        budget.take("d", 10**10, 10**9)  # more than the file is long
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 2000}))
    with pytest.raises(FileError, match="a needs 1,001 bytes, more than half of the free memory: 1,000 bytes"):
        Budget(path).take("a", 1001, 1000)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("a\n\x1b[31m b"), "a [31m b"),
        (KeyError("tau"), "KeyError: 'tau'"),
        (MemoryError(), "MemoryError"),
        (OSError("x" * 400), "x" * 300 + "..."),
    ],
)
def test_errors_become_one_line(error, line):
    assert one_line(error) == line


# Paths


def write_graph(path):
    nir.write(path, jsnn.nir.to_nir(jsnn.Sequential(jsnn.IF(reset="zero")), (2,), 1e-3))


def write_arrays(path):
    with path.open("wb") as file:  # numpy would add another .npz to the name
        np.savez(file, images=np.zeros((2, 3, 3, 1), np.uint8), labels=np.arange(2))


def write_hdf5(path):
    with h5py.File(path, "w") as file:
        file["a"] = np.ones(2)


def write_energies(path):
    jsnn.energy.compare(jsnn.Sequential(jsnn.IF()), np.ones((2, 1, 3))).to_csv(path)


HOMES = {  # what writes a file, and what takes its path
    "data.NPZ": (write_arrays, lambda path: data.load(path, "train")),
    "weights.NPZ": (write_arrays, weights.load),
    "weights.SafeTensors": (lambda path: save_file({"a": np.ones(2)}, path), weights.load),
    "weights.H5": (write_hdf5, weights.load),
    "weights.KERAS": (write_hdf5, weights.load),
    "graph.nir": (write_graph, lambda path: from_nir(path, 1e-3)),
    "energies.csv": (None, write_energies),
    "moving.GIF": (None, lambda path: jsnn.plot.animate(np.eye(4)[None], path)),
    "checkpoints": (None, Checkpoints),
}


@pytest.mark.rows(4)
@pytest.mark.parametrize("name", HOMES)
def test_a_path_may_start_with_the_home_folder_and_end_in_capitals(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    write, use = HOMES[name]
    if write is not None:
        write(tmp_path / name)
    use(f"~/{name}")
    assert (tmp_path / name).exists()
    assert not list(Path().iterdir())


def test_a_home_folder_of_nobody_is_a_name_like_others():
    assert as_path("~nobody_of_that_name/a.npz") == Path("~nobody_of_that_name/a.npz")


# .npz


@pytest.mark.parametrize("name", DAMAGED_NPZ)
def test_a_damaged_npz_is_refused(name, tmp_path):
    path = tmp_path / "a.npz"
    DAMAGED_NPZ[name](path)
    whole = name in ("empty", "text", "cut off")
    message = "is not an .npz file of plain arrays" if whole else r"array '[xy]_train'"
    with pytest.raises(ValueError, match=rf"a.npz cannot be read: .*{message}") as error:
        data.load(path, "train")
    assert "\n" not in str(error.value)
    with pytest.raises(weights.WeightsError, match=rf"a.npz cannot be read as a .npz file: .*{message}"):
        weights.load(path)


def test_an_npz_reads_only_what_is_asked_for(tmp_path):
    path = tmp_path / "a.npz"
    npz({"unused": b"not an array", "x_test": npy_bytes((3, 4, 4), "|u1"), "y_test": npy_bytes((3,), "|u1", bytes(3))})(
        path
    )
    with pytest.raises(ValueError, match=r"array 'x_test': .* but 0 bytes are there"):
        data.load(path, "train")
    npz({"unused": b"", "x_test": npy_bytes((3, 4, 4), "|u1", bytes(48)), "y_test": npy_bytes((3,), "|u1", bytes(3))})(
        path
    )
    assert len(data.load(path, "train+test")) == 5
    path.write_bytes(path.read_bytes().replace(b"y_test", b"z_test"))
    with pytest.raises(ValueError, match=r"lacks \['y_test'\]"):
        data.load(path, "train")


def test_the_shape_of_unread_images_is_checked(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=np.zeros((2, 4, 4)), y_train=[0, 1], x_test=np.zeros((3, 4, 4)), y_test=[0])
    with pytest.raises(ValueError, match=r"inputs and targets must be as many, got shapes \(3, 4, 4\) and \(1,\)"):
        data.load(tmp_path / "a.npz", "train")


def test_names_that_look_like_paths_are_only_names(tmp_path):
    names = ("../up", "/root", "C:\\a", "a/b", "")
    npz({name: npy_bytes((2,), "|u1", b"\1\2") for name in names})(tmp_path / "in.npz")
    loaded = weights.load(tmp_path / "in.npz")
    assert set(names) < set(loaded)
    assert [path.name for path in tmp_path.iterdir()] == ["in.npz"]
    assert len(data.load(tmp_path / "in.npz", "train")) == 2


def test_an_npz_needs_no_more_memory_than_there_is(tmp_path, monkeypatch):
    zeros("x_train", 4)(tmp_path / "a.npz")
    with Npz(tmp_path / "a.npz") as file:
        assert file.header("x_train").shape == (2**22,)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 2**22}))
    with (
        Npz(tmp_path / "a.npz") as file,
        pytest.raises(FileError, match="'x_train' needs 4,194,304 bytes, more than half"),
    ):
        file.read("x_train")


def test_a_damaged_cache_of_images_is_read_anew(data_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("JSNN_CACHE_DIR", str(tmp_path))
    expected = data.load("mnist", "test[:4]", data_dir).labels
    for file in sorted(tmp_path.iterdir()):
        for content in (npy_bytes((2**35,), "<f8"), npy_bytes((1,), "<i4", bytes(4)), npy_bytes((4,), "|O", b"cos\n.")):
            file.write_bytes(content)
            np.testing.assert_array_equal(data.load("mnist", "test[:4]", data_dir).labels, expected)


@pytest.mark.parametrize("name", ["dataset_info.json", "mnist-test.array_record-00000-of-00001"])
def test_a_damaged_prepared_set_is_refused(name, data_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("JSNN_CACHE_DIR", str(tmp_path / "cache"))
    folder = tmp_path / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    for path in (Path(data_dir) / "mnist" / "3.0.1").iterdir():
        if "train" not in path.name:
            content = bytearray(path.read_bytes())
            for place in range(100, len(content), 300) if path.name == name else ():
                content[place] ^= 0x81
            (folder / path.name).write_bytes(content)
    with pytest.raises(ValueError, match="the prepared files of data set 'mnist' are damaged") as error:
        data.load("mnist", "test[:4]", tmp_path)
    assert "\n" not in str(error.value)


# HDF5: weights and graphs


@pytest.mark.parametrize("name", HOSTILE_HDF5)
@pytest.mark.parametrize("suffix", [".h5", ".keras", ".nir"])
def test_a_hostile_hdf5_file_is_refused(name, suffix, tmp_path):
    fill, message = HOSTILE_HDF5[name]
    path = tmp_path / f"a{suffix}"
    hdf5(fill)(tmp_path / "a.h5")
    if suffix == ".keras":
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(tmp_path / "a.h5", "model.weights.h5")
    elif suffix == ".nir":
        path.write_bytes((tmp_path / "a.h5").read_bytes())
        with h5py.File(path, "r+") as file:
            file["version"] = "1.0"
    with pytest.raises(ValueError, match=message) as error:
        from_nir(path, 1e-3) if suffix == ".nir" else weights.load(path)
    assert "\n" not in str(error.value)
    assert isinstance(error.value, NIRError if suffix == ".nir" else weights.WeightsError)


def test_names_in_attributes_lead_to_no_other_file(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"dense"]
        file.create_group("dense").attrs["weight_names"] = [b"../../secret.h5/a"]
    secret(path)
    with pytest.raises(weights.WeightsError, match=r"KeyError: 'dense/../../secret.h5/a'"):
        weights.load(path)
    with h5py.File(path, "r+") as file:
        del file["dense"]
        file["dense"] = h5py.ExternalLink("secret.h5", "/")
    with pytest.raises(weights.WeightsError, match="'dense' is a link"):
        weights.load(path)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "model.weights.h5"),
        ({"model.weights.h5": b"no file"}, "not an HDF5 file"),
        ({"model.weights.h5": bytes(2**20), "config.json": b"[" * 10**6}, "not an HDF5 file"),
        ({"../../model.weights.h5": b"", "/model.weights.h5": b""}, "model.weights.h5"),
    ],
)
def test_a_hostile_keras_archive_is_refused(entries, message, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    with pytest.raises(weights.WeightsError, match=message) as error:
        weights.load(tmp_path / "a.keras")
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.keras"]


def test_an_archive_that_says_more_than_it_holds_is_refused(tmp_path):
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(1000))
    size = struct.pack("<I", 1000)
    path.write_bytes(path.read_bytes().replace(size, struct.pack("<I", 2**31)))
    with pytest.raises(
        weights.WeightsError, match=r"model\.weights\.h5 of 2,147,483,648 bytes is too large to be true"
    ):
        weights.load(path)


# .safetensors


def safetensors(header):
    return struct.pack("<Q", len(header)) + header + bytes(16)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        bytes(4),
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 100) + b"{}",
        safetensors(b"[" * 1000),
        safetensors(b"{" + b'"a":{' * 1000),
        safetensors(b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,99]}}'),
        safetensors(b'{"a":{"dtype":"F32","shape":[99],"data_offsets":[0,16]}}'),
        safetensors(b'{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,16]}}'),
        safetensors(b'{"a":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}}'),
        safetensors(b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}}'),
        safetensors(b'{"a":{"dtype":"X","shape":[4],"data_offsets":[0,16]}}'),
        safetensors(
            b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}'
        ),
    ],
)
def test_a_hostile_safetensors_file_is_refused(content, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(weights.WeightsError, match=r"a\.safetensors cannot be read as a \.safetensors file") as error:
        weights.load(tmp_path / "a.safetensors")
    assert "\n" not in str(error.value)


def test_a_file_of_holes_is_refused(tmp_path):
    save_file({"a": np.ones(2, np.float32)}, tmp_path / "a.safetensors")
    with (tmp_path / "a.safetensors").open("r+b") as file:
        file.truncate(2**43)  # takes no space on the disk
    with pytest.raises(weights.WeightsError, match="more than half of the free memory"):
        weights.load(tmp_path / "a.safetensors")


# NIR


ENDS = {"input": nir.Input(np.array([2])), "output": nir.Output(np.array([2]))}
CHAIN = [("input", "a"), ("a", "output")]


def written(path, change):
    lif = nir.LIF(tau=np.full(2, 2e-3), r=np.ones(2), v_leak=np.zeros(2), v_threshold=np.ones(2))
    nir.write(path, nir.NIRGraph({**ENDS, "a": lif}, CHAIN))
    with h5py.File(path, "r+") as file:
        change(file["node"])


def replace(name, **values):
    def change(node):
        for key, value in values.items():
            place = f"{name}/{key}".lstrip("/")
            if place in node:
                del node[place]
            if value is not None:
                node[place] = value

    return change


def nested(count):
    def change(node):
        graph = node
        for _ in range(count):
            graph = graph.create_group("nodes/sub")
            graph["type"] = "NIRGraph"
            graph["edges"] = np.empty((0, 2), "S1")
        graph.create_group("nodes")

    return change


@pytest.mark.rows(8)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replace("nodes/a", type=None), "node 'a' has no type"),
        (replace("nodes/a", type=3.5), "node 'a' has no type"),
        (replace("nodes", a=np.ones(3)), "node 'a' has no type"),
        (replace("nodes/a", tau="long"), r"node 'a' \(LIF\)"),
        (replace("nodes/a", tau=np.ones((1,) * 30)), r"node 'a' \(LIF\)"),
        (replace("nodes/a", metadata="text"), r"node 'a' \(LIF\)"),
        (replace("nodes/a", unknown=1), r"node 'a' \(LIF\): .*unknown"),
        (replace("", nodes=1), "must have nodes, and edges"),
        (replace("", edges=None), "must have nodes, and edges"),
        (replace("", edges=np.ones(7)), "must have nodes, and edges"),
        (replace("", edges=np.ones((3, 2))), "names '1.0'"),
        (replace("", edges=[b"input", b"a"]), "must have nodes, and edges"),
        (replace("nodes/input", shape=[2**31, 2**31]), "too large to be true"),
        (replace("nodes/input", shape=[2.5]), "whole numbers"),
        (replace("nodes/input", shape="two"), "whole numbers"),
        (nested(30), "must have one Input and one Output"),
        (nested(60), "groups are in each other"),
    ],
)
def test_a_hostile_graph_is_refused(change, message, tmp_path):
    written(tmp_path / "a.nir", change)
    with pytest.raises(NIRError, match=message) as error:
        from_nir(tmp_path / "a.nir", 1e-3)
    assert "\n" not in str(error.value)


def test_a_graph_in_itself_is_refused():
    lif = nir.LIF(tau=np.full(2, 2e-3), r=np.ones(2), v_leak=np.zeros(2), v_threshold=np.ones(2))
    graph = nir.NIRGraph({**ENDS, "a": lif}, CHAIN)
    graph.nodes["a"] = graph
    with pytest.raises(NIRError, match=r"more than 50 graphs are in each other, or a graph is in itself: 'a\.a\.a"):
        from_nir(graph, 1e-3)


def test_parameters_are_not_broadcast_to_an_absurd_shape(tmp_path):
    shape = (2, 2**14, 2**14)
    values = {name: np.array([0.5, 0.25]).reshape(2, 1, 1) for name in ("tau", "r", "v_leak", "v_threshold")}
    ends = {"input": nir.Input(np.array(shape)), "output": nir.Output(np.array(shape))}
    graph = nir.NIRGraph({**ends, "a": nir.LIF(**values)}, CHAIN, type_check=False)
    assert jsnn.unroll(from_nir(graph, 1e-3), np.ones((1, 1, 3, 3, 2), np.float32))[1].shape == (1, 1, 3, 3, 2)


# Memory


LIMITED = """
import resource, sys
from pathlib import Path
from fuzz_files import fuzz
from hostile import HOSTILE_HDF5, DAMAGED_NPZ, hdf5, zeros
from jsnn import data, weights
from jsnn.nir import from_nir

folder = Path(sys.argv[1])
small = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
zeros("unused", 1500)(folder / "a.npz")
assert (folder / "a.npz").stat().st_size < 2**21
assert len(data.load(folder / "a.npz", "train")) == 2
for name, write in DAMAGED_NPZ.items():
    write(folder / "a.npz")
    try:
        weights.load(folder / "a.npz")
    except ValueError:
        pass
for name, (fill, message) in HOSTILE_HDF5.items():
    hdf5(fill)(folder / "a.h5")
    try:
        weights.load(folder / "a.h5")
    except ValueError:
        (folder / "a.h5").unlink()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - small) // 1024)
"""


@pytest.mark.slow
def test_hostile_files_take_little_memory(tmp_path):
    here = Path(__file__).parent
    code = f"import sys; sys.path.insert(0, {str(here)!r})\n{LIMITED}"
    done = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=here.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 300  # MiB


@pytest.mark.slow
def test_damaged_files_are_loaded_or_refused():
    seen = fuzz(600)
    assert sum(seen.values()) == 600
    assert not {found for _, found in seen} - {"loaded", "refused"}, seen
