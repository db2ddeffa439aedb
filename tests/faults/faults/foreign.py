"""foreign: files that are not this store, of a newer release, cut short, or of another place.

P10 and P23: the server ends with an exit code other than 0 and one line of cause, tapectl does not
crash on it and does not format over it, and afterwards the file has the SHA-256 it had before.
"""

import contextlib
import gzip
import hashlib
import io
import os
import struct
import tarfile
import zlib

from harness import machine
from harness.load import Load
from harness.oracle import Broken, Oracle
from harness.server import Refused, Server

NAME = "foreign"
# One run is one file.
TIMES, SAMPLE = 80, 12
NEEDS = {"mkfs.ext4": "e2fsprogs", "mkfs.xfs": "xfsprogs"}

CAPACITY = "32MiB"
MIB = 1 << 20
BLOCK = 4096
# Fields of the volume header, see docs/disk-format.md.
VERSION_AT, STORE_ID_AT, INDEX_AT, COUNT_AT, CRC_AT = 8, 16, 32, 34, 4092


def runs(bench, times):
    with contextlib.ExitStack() as undo:
        folder = bench.folder(undo)
        stores = [store(bench, folder, name) for name in ("ours", "theirs")]
        cases = list(all_cases(bench, folder, *stores))
        if bench.sample:
            bench.random.shuffle(cases)
        for turn in range(times):
            name, make = cases[turn % len(cases)]
            yield lambda name=name, make=make: one(bench, folder, name, make)


def store(bench, folder, name):
    """The volume of a store that has something in it."""
    data = os.path.join(folder, name)
    os.mkdir(data)
    bench.binaries.format(data, CAPACITY)
    with Server(bench.binaries, data, os.path.join(folder, "stderr"), CAPACITY) as server:
        with Load(server, [Oracle(0, bench.random.getrandbits(60))]) as load:
            load.wait_acknowledged(60)
        server.terminate()
    return os.path.join(data, "volume-0.tape")


def one(bench, folder, name, make):
    data = os.path.join(folder, "case")
    os.mkdir(data)
    volume = os.path.join(data, "volume-0.tape")
    try:
        with open(volume, "wb") as file:
            make(file)
        untouched(bench, folder, name, volume)
    except Broken as cause:
        raise Broken(f"{name}: {cause}") from cause
    finally:
        machine.run("rm", "-r", data)


def untouched(bench, folder, name, volume):
    data = os.path.dirname(volume)
    before = sha256(volume)
    try:
        with Server(bench.binaries, data, os.path.join(folder, "stderr"), CAPACITY):
            raise Broken("it was opened and served")
    except Refused as refused:
        lines = [line for line in refused.said.splitlines() if line.strip()]
        causes = [line for line in lines if line.startswith("tapeloop: ")]
        if refused.code in (0, 101) or len(causes) != 1 or lines[-1] != causes[0]:
            raise Broken(f"refused with code {refused.code} and {refused.said!r}") from refused
    # A volume that lacks its companions is clean in itself.
    bench.binaries.ctl("fsck", data, ok=(0, 1, 2) if "of two" in name else (1, 2))
    bench.binaries.ctl("inspect", data, ok=(0, 1, 2))
    bench.binaries.ctl("format", data, "--capacity", CAPACITY, "--yes", ok=(2,))
    if sha256(volume) != before:
        raise Broken("the file was changed")
    if sorted(os.listdir(data)) != ["volume-0.tape"]:
        raise Broken(f"left behind: {sorted(os.listdir(data))}")


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def all_cases(bench, folder, ours, theirs):
    """Names, and what writes each file."""
    yield from strangers(bench, folder)
    yield from newer(ours)
    yield from truncated(bench, ours)
    yield from swapped(ours, theirs)


def strangers(bench, folder):
    random = bench.random
    write = lambda text: lambda file: file.write(text)
    yield "empty", write(b"")
    yield "one byte", write(b"T")
    yield "the magic alone", write(b"TAPELOOP")
    yield "zeros, less than a block", write(bytes(4095))
    yield "zeros, one block", write(bytes(4096))
    yield "zeros, as long as a volume", lambda file: file.truncate(33 * MIB + BLOCK)
    yield "noise", write(random.randbytes(MIB))
    yield "noise behind the magic", write(b"TAPELOOP" + random.randbytes(2 * MIB - 8))
    yield "text", write(b"tapeloop = 'not a volume'\n" * 50_000)
    yield "a program", lambda file: copy_head(bench.binaries.tapectl, file, 2 * MIB)
    yield "SQLite", write(b"SQLite format 3\0" + random.randbytes(8 * BLOCK - 16))
    yield "gzip", write(gzip.compress(random.randbytes(MIB)))
    yield "tar", write(tar(random.randbytes(MIB)))
    yield "a transport stream", write((b"\x47" + random.randbytes(187)) * 5577)
    yield "an MP4", write(b"\0\0\0\x18ftypmp42" + random.randbytes(MIB))
    for kind, size in (("ext4", 32 * MIB), ("xfs", 300 * MIB)):
        image = os.path.join(folder, kind)
        machine.sparse(image, size)
        machine.make_fs(kind, image)
        yield kind, lambda file, image=image: machine.run("cp", "--sparse=auto", image, file.name)


def copy_head(path, file, size=-1):
    with open(path, "rb") as source:
        file.write(source.read(size))


def tar(text):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("volume-0.tape")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
    return buffer.getvalue()


def patched(ours, *changes, copies="AB", seal=True):
    """Our volume with other bytes in the copies of its header, and a checksum that agrees."""
    def make(file):
        copy_head(ours, file)
        size = file.tell()
        for copy in copies:
            start = 0 if copy == "A" else size - BLOCK
            with open(ours, "rb") as source:
                source.seek(start)
                header = bytearray(source.read(BLOCK))
            for at, text in changes:
                header[at:at + len(text)] = text
            if seal:
                header[CRC_AT:] = struct.pack("<I", zlib.crc32(header[:CRC_AT]))
            file.seek(start)
            file.write(header)
    return make


def newer(ours):
    for version in (2, 3, 255, 256, 1 << 31, (1 << 32) - 1):
        field = (VERSION_AT, struct.pack("<I", version))
        yield f"version {version}", patched(ours, field)
        # A newer release may have another idea of where checksums are.
        yield f"version {version}, unsealed", patched(ours, field, seal=False)
    yield "version 2 in copy A", patched(ours, (VERSION_AT, b"\2"), copies="A")
    yield "version 0", patched(ours, (VERSION_AT, b"\0"))
    for bit in range(0, 64, 9):
        with open(ours, "rb") as source:
            magic = bytearray(source.read(8))
        magic[bit // 8] ^= 1 << bit % 8
        yield f"magic with bit {bit} flipped", patched(ours, (0, magic))
    yield "magic in small letters", patched(ours, (0, b"tapeloop"))
    yield "the other end first", patched(ours, (VERSION_AT, struct.pack(">I", 1)))


def truncated(bench, ours):
    size = os.path.getsize(ours)
    cuts = [512, BLOCK, 2 * BLOCK, 64 << 10, MIB - 1, MIB, MIB + BLOCK, 9 * MIB, size // 2,
            size - BLOCK - 1, size - BLOCK, size - 512, size - 1]
    cuts += [bench.random.randrange(BLOCK, size) for _ in range(8)]
    for cut in cuts:
        yield f"cut at {cut}", lambda file, cut=cut: copy_head(ours, file, cut)


def swapped(ours, theirs):
    yield "the first of two", patched(ours, (COUNT_AT, b"\2\0"))
    yield "the second of two", patched(ours, (INDEX_AT, b"\1\0\2\0"))
    yield "the third of two", patched(ours, (INDEX_AT, b"\2\0\2\0"))
    yield "of a store of none", patched(ours, (COUNT_AT, b"\0\0"))
    with open(theirs, "rb") as source:
        source.seek(STORE_ID_AT)
        store_id = source.read(16)
    yield "our body under their name", patched(ours, (STORE_ID_AT, store_id))
    yield "shifted by a sector", shifted(ours, 512)
    yield "shifted by a block", shifted(ours, BLOCK)


def shifted(ours, by):
    def make(file):
        file.write(bytes(by))
        copy_head(ours, file)
    return make
