"""The machine under the faults: loop devices, file systems, and nothing left behind.

Invariants:
- The runner has a mount namespace of its own, its loop devices clear themselves when nobody holds
  them, and its children die with it. So whatever ends the runner, SIGKILL included, also takes its
  mounts, loops and processes away.
- Everything is also undone in order, and on a failure too: whoever makes something registers the
  way back in an ExitStack first.
"""

import ctypes
import fcntl
import os
import shutil
import signal
import struct
import subprocess
import time

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS = 0x20000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
MNT_DETACH = 2
PR_SET_PDEATHSIG = 1
LOOP_CONFIGURE, LOOP_CTL_GET_FREE, LOOP_SET_CAPACITY = 0x4C0A, 0x4C82, 0x4C07
LO_FLAGS_AUTOCLEAR, LO_FLAGS_DIRECT_IO = 4, 16


class Missing(Exception):
    """A tool is not there; the text says how to get it."""


# In front of a command: it dies with the thread that started it.
DYING_WITH_US = ("setpriv", "--pdeathsig", "KILL")


def die_with_parent():
    """The same for a process that is running already."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def need(tools):
    """`tools`: program -> Debian package. Programs of the sbin folders count."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    missing = sorted({package for tool, package in tools.items()
                      if not (os.path.exists(tool) if tool.startswith("/") else
                              shutil.which(tool))})
    if missing:
        raise Missing(f"missing: {', '.join(missing)}. Install with:\n"
                      f"  sudo apt-get install -y {' '.join(missing)}")


def own_mounts():
    """From here on nobody else sees what is mounted."""
    if LIBC.unshare(CLONE_NEWNS) != 0:
        raise Missing(f"no mount namespace: {os.strerror(ctypes.get_errno())}; run it as root")
    mount("none", "/", None, MS_REC | MS_PRIVATE)


def mount(source, target, kind, flags=0, data=None):
    encode = lambda text: None if text is None else os.fsencode(text)
    if LIBC.mount(encode(source), encode(target), encode(kind), flags, encode(data)) != 0:
        cause = ctypes.get_errno()
        raise OSError(cause, f"mount {source} on {target}: {os.strerror(cause)}")


def umount(target):
    """Waits for a busy mount: the rings of a process that was just killed let go one by one."""
    for _ in range(600):
        if LIBC.umount2(os.fsencode(target), 0) == 0:
            return
        cause = ctypes.get_errno()
        if cause == 22:
            return
        time.sleep(0.05)
    detach(target)


def detach(target):
    """For a mount whose last user, a loop device, lets go later."""
    LIBC.umount2(os.fsencode(target), MNT_DETACH)


def run(*command, ok=(0,)):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True,
                          check=False, stdin=subprocess.DEVNULL)
    if done.returncode not in ok:
        raise OSError(f"{' '.join(map(str, command))}: exit code {done.returncode}: "
                      f"{done.stderr.strip()}")
    return done.stdout


class Loop:
    """A loop device over a file. It clears itself when its last holder lets go."""

    def __init__(self, path, undo, direct=False):
        flags = LO_FLAGS_AUTOCLEAR | (LO_FLAGS_DIRECT_IO if direct else 0)
        backing = os.open(path, os.O_RDWR | (os.O_DIRECT if direct else 0))
        try:
            self.fd, self.path = self._configure(backing, flags)
        finally:
            os.close(backing)
        undo.callback(self.close)

    @staticmethod
    def _configure(backing, flags):
        info = struct.pack("<5Q4I", 0, 0, 0, 0, 0, 0, 0, 0, flags) + bytes(160 + 16)
        config = struct.pack("<II", backing, 0) + info + bytes(64)
        with open("/dev/loop-control", "rb") as control:
            for _ in range(50):
                path = f"/dev/loop{fcntl.ioctl(control, LOOP_CTL_GET_FREE)}"
                fd = os.open(path, os.O_RDWR)
                try:
                    fcntl.ioctl(fd, LOOP_CONFIGURE, config)
                    return fd, path
                except OSError:
                    # Somebody else was faster.
                    os.close(fd)
        raise OSError("no free loop device")

    def close(self):
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


MAKE = {
    # Journals are written out at once, so that a later lack of space below cannot hit them.
    "ext4": ("mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"),
    "xfs": ("mkfs.xfs", "-q", "-f", "-K"),
}
# What mkfs.xfs makes at least.
FS_BYTES_MIN = {"ext4": 8 << 20, "xfs": 300 << 20}


def make_fs(kind, device):
    run(*MAKE[kind], device)


def mount_fs(kind, device, target, undo=None):
    """`undo` for the first time; whoever mounts it again has the way back already."""
    os.makedirs(target, exist_ok=True)
    mount(device, target, kind, 0, "errors=remount-ro" if kind == "ext4" else None)
    if undo is not None:
        undo.callback(umount, target)


def sparse(path, size):
    """A file of holes."""
    with open(path, "wb") as file:
        file.truncate(size)


def copy_sparse(source, target):
    run("cp", "--sparse=auto", source, target)
