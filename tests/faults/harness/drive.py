"""The near end of a drive that fails on command, and the places a store can have on one."""

import fcntl
import json
import os
import signal
import struct
import subprocess
import sys

from . import machine
from .machine import Loop
from .oracle import Broken

FIEMAP, EXTENTS_MAX = 0xC020660B, 256
HERE = os.path.dirname(os.path.abspath(__file__))


class Drive:
    """A faulty drive of `size` bytes behind a loop device. Its contents outlive its daemon."""

    def __init__(self, folder, size, undo):
        self.folder, self.undo = folder, undo
        self.mount_point = os.path.join(folder, "fuse")
        self.backing = os.path.join(folder, "backing")
        os.makedirs(self.mount_point)
        machine.sparse(self.backing, size)
        self.daemon = self.loop = None
        undo.callback(self.remove)
        self.attach()

    def attach(self):
        """Starts the daemon, and the loop over it."""
        self.daemon = subprocess.Popen(
            [sys.executable, "-u", os.path.join(HERE, "fusedrive.py"), self.mount_point,
             self.backing], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()
        self.loop = Loop(os.path.join(self.mount_point, "disk"), self.undo, direct=True)
        # One request of the loop is one request to the daemon. Of one that is two, the second of
        # which fails, the loop driver of Linux 6.18 says that all of it was written.
        name = os.path.basename(self.loop.path)
        with open(f"/sys/block/{name}/queue/max_sectors_kb", "w", encoding="ascii") as limit:
            limit.write("512")

    @property
    def device(self):
        return self.loop.path

    def tell(self, **command):
        """Gives a command; the counts after it."""
        self.daemon.stdin.write(json.dumps(command) + "\n")
        self.daemon.stdin.flush()
        return self._answer()

    def _answer(self):
        line = self.daemon.stdout.readline()
        if not line:
            raise Broken("the faulty drive ended by itself")
        return json.loads(line)

    def fail(self, op, **how):
        return self.tell(rule={"op": op, **how})

    def heal(self):
        return self.tell(rules=[])

    def counts(self):
        return self.tell(count=True)

    def stop(self):
        """The drive hangs."""
        self.daemon.send_signal(signal.SIGSTOP)

    def resume(self):
        self.daemon.send_signal(signal.SIGCONT)

    def vanish(self):
        """The drive is gone; nothing was lost that had reached it."""
        self.daemon.kill()
        self.daemon.wait()
        machine.detach(self.mount_point)

    def replug(self):
        """The same drive, back again, as a fresh device. The old one must have no holder left."""
        if self.daemon.poll() is None:
            self.vanish()
        self.loop.close()
        self.attach()

    def remove(self):
        if self.daemon is not None and self.daemon.poll() is None:
            self.vanish()
        if self.loop is not None:
            self.loop.close()
        if os.path.exists(self.backing):
            os.remove(self.backing)


class Place:
    """Where a store lies on a drive: straight on the device, or in a file of ext4 or XFS."""

    KINDS = ("device", "ext4", "xfs")

    def __init__(self, kind, drive, undo):
        self.kind, self.drive = kind, drive
        self.mount_point = os.path.join(drive.folder, "fs")
        if kind not in self.KINDS:
            raise ValueError(kind)
        if kind != "device":
            machine.make_fs(kind, drive.device)
            machine.mount_fs(kind, drive.device, self.mount_point, undo)

    @property
    def data(self):
        """What `--data` gets."""
        return self.drive.device if self.kind == "device" else self.mount_point

    @property
    def volume(self):
        return self.data if self.kind == "device" else os.path.join(self.data, "volume-0.tape")

    def extents(self):
        """Where the volume lies on the drive: (offset in the volume, offset on the drive, bytes)
        each."""
        if self.kind == "device":
            return [(0, 0, 1 << 62)]
        with open(self.volume, "rb") as file:
            request = bytearray(struct.pack("<QQIIII", 0, (1 << 64) - 1, 0, 0, EXTENTS_MAX, 0)
                                + bytes(56 * EXTENTS_MAX))
            fcntl.ioctl(file, FIEMAP, request)
        count = struct.unpack_from("<I", request, 20)[0]
        return [struct.unpack_from("<QQQ", request, 32 + 56 * index) for index in range(count)]

    def on_drive(self, offset):
        """Where a byte of the volume lies on the drive."""
        for logical, physical, size in self.extents():
            if logical <= offset < logical + size:
                return physical + offset - logical
        raise ValueError(f"offset {offset} is a hole of {self.volume}")

    def replug(self):
        """The drive is taken off and put back, and its file system recovers from its journal."""
        if self.kind != "device":
            machine.umount(self.mount_point)
        self.drive.replug()
        self.mount_again()

    def mount_again(self):
        if self.kind != "device":
            machine.mount_fs(self.kind, self.drive.device, self.mount_point)


def drive_bytes(kind, capacity_bytes):
    """A drive large enough for a store of that capacity in that place."""
    size = capacity_bytes + (8 << 20)
    if kind == "device":
        return size
    return max(size + (40 << 20), machine.FS_BYTES_MIN[kind] + (4 << 20))
