"""The first process of the user-mode-linux guest: pushes into tapeloop on a drive whose every write
is logged, and marks in that log what it asked for and what was acknowledged.

The guest's root is the host's, read-only. Its drives: ubdb, where the store lies, and ubdc, the
log. Argument: a file with a JSON object, see `powercut.py`. What it prints ends with `guest:
done`.
"""

import ctypes
import fcntl
import json
import os
import socket
import struct
import sys
import threading
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from harness import machine, oracle, server  # noqa: E402
from harness.client import Gone  # noqa: E402
from harness.devmapper import LogWrites  # noqa: E402

UBD_MAJOR, UBD_MINORS = 98, 16
FINIT_MODULE = 313
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
POWER_OFF = 0x4321FEDC


def furnish():
    """What an init has to see to."""
    for kind, target in (("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/dev"),
                         ("tmpfs", "/tmp"), ("tmpfs", "/run")):
        machine.mount(kind, target, kind)
    for name, major, minor in (("null", 1, 3), ("zero", 1, 5), ("random", 1, 8), ("urandom", 1, 9)):
        os.mknod(f"/dev/{name}", 0o666 | 0o020000, os.makedev(major, minor))
    for index, name in enumerate(("ubda", "ubdb", "ubdc")):
        os.mknod(f"/dev/{name}", 0o600 | 0o060000, os.makedev(UBD_MAJOR, UBD_MINORS * index))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack_from("H", fcntl.ioctl(sock, SIOCGIFFLAGS, request), 16)[0]
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


def load_module(name, folder):
    """A module and all it needs; what is built in is there already."""
    if not os.path.isdir(folder):
        return
    wanted, loaded = [], set()
    with open(os.path.join(folder, "modules.dep"), encoding="ascii") as table:
        for line in table:
            path, needs = line.split(":")
            if os.path.basename(path).split(".")[0].replace("_", "-") == name:
                wanted = [*reversed(needs.split()), path]
    with open("/proc/modules", encoding="ascii") as table:
        loaded = {line.split()[0].replace("_", "-") for line in table}
    for path in wanted:
        if os.path.basename(path).split(".")[0].replace("_", "-") in loaded:
            continue
        fd = os.open(os.path.join(folder, path), os.O_RDONLY)
        if machine.LIBC.syscall(FINIT_MODULE, fd, ctypes.c_char_p(b""), 0) != 0:
            raise OSError(f"{path}: {os.strerror(ctypes.get_errno())}")
        os.close(fd)


class Marker(oracle.Oracle):
    """An oracle that writes what it learns into the log of the drive."""

    def __init__(self, writer, seed, log, evicts):
        super().__init__(writer, seed, evicts=evicts, small=True)
        self.log = log
        self.number = 0

    def _write(self, kind, key, asked, send):
        self.number += 1
        name = f"{self.writer}.{self.number}"
        what = "-" if asked is None else f"{asked.seed:x}.{asked.size}"
        self.log.mark(f"begin.{name}.{key}.{what}")
        done = super()._write(kind, key, asked, send)
        if done[1] in (201, 204):
            self.log.mark(f"ack.{name}")
        return done


def push(plan, log, session, data):
    """One life of the server, ended by kill -9 under load, or by SIGTERM."""
    serving = server.Server(server.Binaries(plan["binaries"]), data, "/tmp/log",
                            capacity=plan["capacity"], ram="32MiB", args=plan["args"])
    if session == 0:
        print("guest: " + "; ".join(serving.complaints().split("\n")[:3]), flush=True)
    seed = plan["seed"] * 10 + session
    markers = [Marker(session * 10 + writer, seed * 10 + writer, log, plan["evicts"])
               for writer in range(plan["writers"])]
    for marker in markers:
        marker.reads = not plan["args"]
    stop = threading.Event()
    failures = []

    def write(marker):
        client = serving.client()
        try:
            while not stop.is_set():
                marker.step(client)
        except Gone:
            pass
        except Exception as cause:
            failures.append(cause)

    threads = [threading.Thread(target=write, args=(marker,)) for marker in markers]
    for thread in threads:
        thread.start()
    until_s = time.monotonic() + 60
    while sum(marker.acknowledged for marker in markers) < plan["acknowledged"]:
        if failures or time.monotonic() > until_s:
            break
        time.sleep(0.002)
    if session % 2 == 1:
        serving.kill()
    stop.set()
    for thread in threads:
        thread.join()
    if session % 2 == 0:
        serving.terminate()
    if failures:
        raise failures[0]
    print(f"guest: {sum(marker.acknowledged for marker in markers)} acknowledged", flush=True)


def main(plan):
    furnish()
    for name in ("dm-log-writes", plan["place"]):
        load_module(name, plan["modules"])
    log = LogWrites("logged", "/dev/ubdb", "/dev/ubdc")
    data = log.path
    if plan["place"] != "device":
        data = "/run/store"
        os.mkdir(data)
        machine.mount(log.path, data, plan["place"])
    for session in range(plan["sessions"]):
        push(plan, log, session, data)
    if plan["place"] != "device":
        machine.umount(data)
    log.remove()
    print("guest: done", flush=True)


if __name__ == "__main__":
    try:
        with open(sys.argv[1], encoding="ascii") as file:
            main(json.load(file))
    except BaseException:
        traceback.print_exc(file=sys.stdout)
    finally:
        sys.stdout.flush()
        machine.LIBC.reboot(POWER_OFF)
