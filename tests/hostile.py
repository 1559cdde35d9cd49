"""Files that were made to do harm, by the readers that must refuse them. Each function writes one to a path."""

import io
import struct
import zipfile
import zlib

import h5py
import numpy as np
from numpy.lib import format as npy

BIG = 2**31  # bytes that no reader may take
GOOD = {"x_train": np.zeros((2, 4, 4), np.uint8), "y_train": np.arange(2)}


def npy_bytes(shape, dtype="<f8", data=b"", fortran=False):
    """An .npy file that claims a shape, and holds `data`."""
    stream = io.BytesIO()
    npy.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": fortran, "shape": shape})
    return stream.getvalue() + data


def npz(entries, compression=zipfile.ZIP_DEFLATED):
    """Write an archive of these entries, bytes by name, beside a good x_train and y_train."""

    def write(path):
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, content in entries.items():
                archive.writestr(f"{name}.npy", content)
            for name in GOOD.keys() - entries.keys():
                with archive.open(f"{name}.npy", "w") as stream:
                    npy.write_array(stream, GOOD[name])

    return write


def spoilt(write, change):
    """Write a file, then put in its place what `change` makes of its bytes."""

    def spoil(path):
        write(path)
        path.write_bytes(change(path.read_bytes()))

    return spoil


def zeros(name, megabytes):
    """Write an .npz file with one honest array of zeros, which compresses to a thousandth."""

    def write(path):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            with archive.open(f"{name}.npy", "w") as stream:
                stream.write(npy_bytes((megabytes * 2**20,), "|u1"))
                for _ in range(megabytes):
                    stream.write(bytes(2**20))
            for key in GOOD.keys() - {name}:
                with archive.open(f"{key}.npy", "w") as stream:
                    npy.write_array(stream, GOOD[key])

    return write


DAMAGED_NPZ = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("PK, not"),
    "cut off": spoilt(npz({}), lambda old: old[:-40]),
    "directory alone": spoilt(npz({}), lambda old: old[old.index(b"PK\x01\x02") :]),
    "a byte in the data": spoilt(
        npz({"x_train": npy_bytes((2, 4, 4), "|u1", bytes(range(32)))}, zipfile.ZIP_STORED),
        lambda old: old.replace(bytes(range(32)), bytes(31) + b"\x07"),
    ),
    "bad zlib": spoilt(
        npz({"x_train": npy_bytes((64, 4, 4), "|u1", bytes(range(128)) * 8)}),
        lambda old: old[:60] + bytes(20) + old[80:],
    ),
    "unknown compression": spoilt(npz({}), lambda old: old.replace(b"\x14\0\0\0\x08\0", b"\x14\0\0\0\x63\0")),
    "encrypted": spoilt(npz({}), lambda old: old.replace(b"\x14\x03\x14\0\0\0", b"\x14\x03\x14\0\1\0")),
    "claims 238 GiB": npz({"x_train": npy_bytes((2**35, 1, 1), "<f8")}),
    "claims less than nothing": npz({"x_train": npy_bytes((-2, 4, 4), "|u1", bytes(32))}),
    "a number beyond 64 bits": npz({"x_train": npy_bytes((10**30, 0, 4), "|u1")}),
    "no header": npz({"x_train": b"not an array"}),
    "a header of code": npz({"x_train": npy.magic(1, 0) + struct.pack("<H", 30) + b"__import__('os').abort()      "}),
    "a nested header": npz({"x_train": npy.magic(1, 0) + struct.pack("<H", 9000) + b"(" * 9000}),
    "a long header": npz({"x_train": npy.magic(2, 0) + struct.pack("<I", 2**31) + b" " * 2**20}),
    "text as images": npz({"x_train": npy_bytes((2, 4, 4), "<U1", bytes(128))}),
    "a record": npz({"x_train": npy_bytes((2, 4, 4), [("a", "|u1")], bytes(32))}),
    "objects": npz({"x_train": npy_bytes((2, 4, 4), "|O", b"cos\nabort\n(tR.")}),
}  # fmt: skip


def hdf5(fill, **options):
    """Write an HDF5 file that `fill(file)` fills."""

    def write(path):
        with h5py.File(path, "w", **options) as file:
            fill(file, path)

    return write


def secret(path):
    """Another file beside the one at `path`, an HDF5 file with an array."""
    other = path.with_name("secret.h5")
    if not other.exists():
        with h5py.File(other, "w") as file:
            file["a"] = np.arange(10.0)
    return other


def external_storage(file, path):
    file.create_dataset("a", (4,), "u1", external=[(str(secret(path)), 0, 4)])


def virtual(file, path):
    layout = h5py.VirtualLayout((10,), "f8")
    layout[:] = h5py.VirtualSource(str(secret(path)), "a", (10,))
    file.create_virtual_dataset("a", layout)


def deep(count):
    def fill(file, path):
        group = file
        for _ in range(count):
            group = group.create_group("g")
        group["a"] = np.ones(2)

    return fill


def twice_at_each_level(file, path):
    group = file
    for _ in range(40):
        inner = group.create_group("a")
        group["b"] = inner
        group = inner


def in_itself(file, path):
    group = file.create_group("a")
    group["a"] = group


def shared_text(file, path):
    """Let all 50,000 elements of an array point to the same text of 1 MiB."""
    file.create_dataset("a", data=["x" * 2**20], dtype=h5py.string_dtype())
    file.create_dataset("b", data=["y"] * 50_000, dtype=h5py.string_dtype())
    source, target = (file[name].id.get_offset() for name in "ab")
    file.close()
    with path.open("r+b") as raw:
        raw.seek(source)
        pointer = raw.read(16)
        raw.seek(target)
        raw.write(pointer * 50_000)


def heap_without_end(file, path):
    """Let the free space of the heap of texts have no size, so that HDF5 never gets to its end."""
    file.create_dataset("a", data=["text"], dtype=h5py.string_dtype())
    file.close()
    content = bytearray(path.read_bytes())
    free = content.index(b"GCOL") + 16 + 16 + 8  # after the heap's header and the one text
    content[free : free + 16] = bytes(16)
    path.write_bytes(content)


def twice_compressed(file, path):
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((2**24,))
    plist.set_deflate(9)
    plist.set_deflate(9)
    space = h5py.h5s.create_simple((2**24,))
    dataset = h5py.h5d.create(file.id, b"a", h5py.h5t.NATIVE_UINT8, space, plist)
    once = zlib.compress(bytes(2**24), 9)
    dataset.write_direct_chunk((0,), zlib.compress(once, 9))


HOSTILE_HDF5 = {
    "a soft link": (lambda file, path: file.update({"a": h5py.SoftLink("/b"), "b": np.ones(2)}), "'a' is a link"),
    "an external link": (
        lambda file, path: file.update({"a": h5py.ExternalLink(str(secret(path)), "a")}), "'a' is a link"
    ),
    "a link to itself": (lambda file, path: file.update({"a": h5py.SoftLink("/a")}), "'a' is a link"),
    "external storage": (external_storage, "in other files"),
    "a virtual array": (virtual, "in other files"),
    "a group in itself": (in_itself, "more than one place"),
    "two ways to each group": (twice_at_each_level, "more than one place"),
    "2,000 levels": (deep(2_000), "more than 100 groups"),
    "nothing written": (lambda file, path: file.create_dataset("a", (BIG,), "u1"), "too large to be true"),
    "chunks not written": (
        lambda file, path: file.create_dataset("a", (BIG,), "u1", chunks=(2**20,), compression="gzip", fillvalue=7),
        "too large to be true",
    ),
    "a chunk larger than the array": (
        lambda file, path: file.create_dataset("a", (1,), "u1", maxshape=(None,), chunks=(BIG - 1,)),
        "too large to be true",
    ),
    "compressed twice": (twice_compressed, "filters"),
    "an unusual filter": (
        lambda file, path: file.create_dataset("a", data=np.arange(8), chunks=(8,), scaleoffset=0), "filters"
    ),
    "a huge text": (lambda file, path: file.create_dataset("a", (1,), f"S{BIG - 1}"), "too large to be true"),
    "one long text for all": (shared_text, "longer than the file"),
    "a heap without end": (heap_without_end, "a heap of texts is damaged"),
    "references": (
        lambda file, path: file.create_dataset("a", data=[file.ref], dtype=h5py.ref_dtype), "numbers or text"
    ),
    "a region": (
        lambda file, path: file.create_dataset(
            "a", data=file.create_dataset("b", data=np.ones(3)).regionref[:2], dtype=h5py.regionref_dtype
        ),
        "numbers or text",
    ),
    "a record": (lambda file, path: file.create_dataset("a", data=np.zeros(2, "f4,f4")), "numbers or text"),
    "lists": (lambda file, path: file.create_dataset("a", (2,), h5py.vlen_dtype("f4")), "numbers or text"),
    "no shape": (lambda file, path: file.create_dataset("a", data=h5py.Empty("f4")), "without a shape"),
}  # fmt: skip
