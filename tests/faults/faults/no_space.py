"""no-space: the space below the store runs out, although its file system promised it.

A loop device over a file of holes on a tmpfs that is too small: ext4 and XFS hand out blocks that
nobody has. P7: a format that does not fit is refused and leaves nothing; one that was done has all
its space, however full the tmpfs gets afterwards; and a device that has less space than it says
(thin) may refuse writes, but nothing acknowledged is lost.

The thin device is not a loop over that tmpfs, because the loop driver of Linux 6.18 says yes to a
write that was cut short for want of space: what it lost no store could keep.
"""

import contextlib
import os
import subprocess

from harness import machine
from harness.load import Load
from harness.oracle import Broken, Oracle, check_store
from harness.scene import Scene, assert_no_refusal
from harness.server import Server

NAME = "no-space"
TIMES, SAMPLE = 40, 4
NEEDS = {"mkfs.ext4": "e2fsprogs", "mkfs.xfs": "xfsprogs"}

CAPACITY_MIB = 64


def runs(bench, times):
    turns = (("ext4", too_small), ("xfs", filled_later), ("device", thin), ("ext4", filled_later),
             ("xfs", too_small))
    for turn in range(times):
        kind, variant = turns[turn % len(turns)]
        yield lambda kind=kind, variant=variant: one(bench, kind, variant)


def one(bench, kind, variant):
    with contextlib.ExitStack() as undo:
        try:
            if variant is thin:
                thin(bench, undo)
            else:
                variant(bench, Pool(bench, kind, undo))
        except Broken as cause:
            raise Broken(f"{variant.__name__} on {kind}: {cause}") from cause


class Pool:
    """A small tmpfs, a large file of holes on it, and a file system in that."""

    def __init__(self, bench, kind, undo):
        self.bench = bench
        folder = bench.folder(undo)
        self.small = os.path.join(folder, "small")
        os.makedirs(self.small)
        machine.mount("tmpfs", self.small, "tmpfs", 0, "size=512m")
        undo.callback(machine.umount, self.small)
        machine.sparse(os.path.join(self.small, "disk"), 400 << 20)
        self.loop = machine.Loop(os.path.join(self.small, "disk"), undo)
        self.log = os.path.join(folder, "stderr")
        self.data = os.path.join(folder, "fs")
        machine.make_fs(kind, self.loop.path)
        machine.mount_fs(kind, self.loop.path, self.data, undo)
        self.oracles = [Oracle(writer, bench.random.getrandbits(60), evicts=True)
                        for writer in range(3)]

    def leave(self, mib):
        """No more than so much is left from now on."""
        status = os.statvfs(self.small)
        free = status.f_bavail * status.f_frsize
        filler = os.path.join(self.small, "filler")
        with open(filler, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(4096, free - (mib << 20)))

    def start(self):
        return Server(self.bench.binaries, self.data, self.log, f"{CAPACITY_MIB}MiB")


def too_small(bench, pool):
    pool.leave(bench.random.randrange(4, CAPACITY_MIB - 4))
    before = sorted(os.listdir(pool.data))
    command = [bench.binaries.tapectl, "format", pool.data, "--capacity", f"{CAPACITY_MIB}MiB",
               "--yes"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 2:
        raise Broken(f"format: exit code {done.returncode}: {done.stdout}{done.stderr}")
    # The file system may have shut down over it; then nobody can look.
    with contextlib.suppress(OSError):
        if (after := sorted(os.listdir(pool.data))) != before:
            raise Broken(f"format failed and left {after}")


def filled_later(bench, pool):
    bench.binaries.format(pool.data, f"{CAPACITY_MIB}MiB")
    os.sync()
    pool.leave(0)
    with pool.start() as server:
        with Load(server, pool.oracles) as load:
            # More than once around the ring.
            load.wait(lambda _: server_bytes(server) > (CAPACITY_MIB * 3 << 19), 120)
        assert_no_refusal(load.since(0))
        check_store(server, pool.oracles)
        server.wait_health(200, 0)
        server.kill()
    with pool.start() as server:
        check_store(server, pool.oracles)


def server_bytes(server):
    return server.metric("bytes_written_total")


def thin(bench, undo):
    """A device that was formatted and has not all the space it says it has."""
    scene = Scene(bench, undo, "device", capacity_mib=CAPACITY_MIB, evicts=True)
    scene.drive.tell(thin=bench.random.randrange(64, 640))
    for oracle in scene.oracles:
        oracle.errors = True
    server = scene.start()
    with scene.load() as load:
        load.wait(lambda ops: sum(op.status >= 500 for op in ops) >= 20
                  or server_bytes(server) > (CAPACITY_MIB * 3 << 19), 120)
    client = server.client()
    for oracle in scene.oracles:
        oracle.check_all(client, settle=False)
    scene.drive.tell(thin=1 << 40)
    scene.restart()
    scene.goes_on()
