"""A drive that fails on command: one file, `disk`, served by FUSE from a backing file.

Run as a process of its own, so that it can be stopped (SIGSTOP: the drive hangs) and killed (the
drive is gone). Commands come as JSON lines on stdin, one answer each on stdout:

  {"rule": {"op": "write", "errno": 5, "skip": 2, "times": 1, "from": 0, "to": 4096}}
      Operations of that kind that touch the range fail: after `skip` good ones, `times` of them,
      or all (no `times`). `"hold": true` instead of `errno`: they are not answered until released.
  {"rules": []}           no more rules; what is held is carried out
  {"count": true}         operations so far, by kind, and those answered with an error
  {"cache": "volatile"}   from now on writes can be lost until a flush; `"lying"`: and after it, too
  {"cut": N, "seed": S}   N operations from now the power goes: everything fails from then on, and
                          of what was written since the last flush any part is lost, at random
  {"lose": S}             that, at once, without failing anything: what a drive forgets
  {"thin": N}             N more units of 64 KiB can be written for the first time, the rest is
                          ENOSPC: thin provisioning over a pool that is running out

The model of the cache: writes reach the backing file at once and what they replaced is remembered
until a flush; a loss puts a random part of it back, in sectors. A write that was answered after a
flush began is not covered by that flush, because requests are taken one at a time.
"""

import errno
import json
import os
import random
import select
import stat
import struct
import sys

from machine import LIBC, detach, die_with_parent, mount

(LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, STATFS, RELEASE, FSYNC, FLUSH, INIT, OPENDIR,
 READDIR, RELEASEDIR, ACCESS, INTERRUPT, DESTROY, BATCH_FORGET) = (
     1, 2, 3, 4, 14, 15, 16, 17, 18, 20, 25, 26, 27, 28, 29, 34, 36, 38, 42)
ROOT, DISK = 1, 2
MAX_WRITE = 1 << 20
FOPEN_DIRECT_IO, FOPEN_PARALLEL_DIRECT_WRITES = 1, 64
# Asynchronous reads and direct writes, big writes, more pages to a request.
INIT_FLAGS = 1 << 0 | 1 << 5 | 1 << 15 | 1 << 22
FOREVER_S = 1 << 30
SECTOR, THIN_UNIT = 512, 64 << 10
PR_SET_IO_FLUSHER = 57
KINDS = {READ: "read", WRITE: "write", FSYNC: "flush"}


class Rule:
    """Which operations fail, and how."""

    def __init__(self, op, errno=errno.EIO, skip=0, times=None, hold=False, **span):
        self.op, self.errno, self.skip, self.times, self.hold = op, errno, skip, times, hold
        self.start, self.end = span.get("from", 0), span.get("to", 1 << 63)

    def strikes(self, op, start, size):
        if op != self.op or self.times == 0:
            return False
        if op != "flush" and not (start < self.end and start + size > self.start):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


class Drive:
    """The state of the drive and the loop that serves it."""

    def __init__(self, folder, backing):
        self.fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        self.backing = os.open(backing, os.O_RDWR)
        self.size = os.fstat(self.backing).st_size
        mount("faulty", folder, "fuse.faulty", 0,
              f"fd={self.fuse},rootmode=40000,user_id=0,group_id=0,max_read={MAX_WRITE}")
        self.rules, self.held = [], []
        self.cache, self.unflushed = None, []
        self.cut_after, self.random = None, None
        self.units, self.units_left = set(), 1 << 62
        self.counts = {"read": 0, "write": 0, "flush": 0, "failed": 0}
        self.buffer = bytearray(MAX_WRITE + 8192)

    def serve(self):
        poll = select.poll()
        poll.register(self.fuse, select.POLLIN)
        poll.register(0, select.POLLIN)
        commands = b""
        while True:
            for fd, _ in poll.poll():
                if fd == self.fuse:
                    if not self.take():
                        return
                    continue
                more = os.read(0, 65536)
                if not more:
                    return
                commands += more
                while b"\n" in commands:
                    line, commands = commands.split(b"\n", 1)
                    print(json.dumps(self.obey(json.loads(line))), flush=True)

    def obey(self, command):
        if "rule" in command:
            self.rules.append(Rule(**command["rule"]))
        if "rules" in command:
            self.rules = []
            held, self.held = self.held, []
            for unique, opcode, body in held:
                self.answer(unique, self.carry_out(opcode, memoryview(body)))
        if "cache" in command:
            self.cache, self.unflushed = command["cache"], []
        if "cut" in command:
            self.cut_after, self.random = command["cut"], random.Random(command["seed"])
        if "thin" in command:
            self.units_left = command["thin"]
        if "lose" in command:
            self.lose(random.Random(command["lose"]))
        return {**self.counts, "unflushed": len(self.unflushed), "is_cut": self.cut_after == 0}

    def take(self):
        """One request; false when there will be no more."""
        try:
            size = os.readv(self.fuse, [self.buffer])
        except OSError as cause:
            # Aborted between the poll and here, or unmounted.
            return cause.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN)
        opcode, unique, node = struct.unpack_from("<IQQ", self.buffer, 4)
        body = memoryview(self.buffer)[40:size]
        if opcode in (FORGET, BATCH_FORGET, INTERRUPT):
            return True
        if opcode not in KINDS:
            self.answer(unique, self.housekeeping(opcode, node, body))
            return opcode != DESTROY
        if (verdict := self.judge(opcode, body)) == "hold":
            self.held.append((unique, opcode, bytes(body)))
        elif verdict:
            self.counts["failed"] += 1
            self.answer(unique, -verdict)
        else:
            self.answer(unique, self.carry_out(opcode, body))
        return True

    def judge(self, opcode, body):
        """The errno of an operation that has to fail, "hold", or 0."""
        op = KINDS[opcode]
        self.counts[op] += 1
        if self.cut_after == 0:
            return errno.EIO
        if self.cut_after is not None:
            self.cut_after -= 1
            if self.cut_after == 0:
                # The operation under way may have got as far as the cache.
                if self.random.random() < 0.5:
                    self.carry_out(opcode, body)
                self.lose(self.random)
                return errno.EIO
        start, size = (0, 0) if opcode == FSYNC else struct.unpack_from("<QI", body, 8)
        if opcode == WRITE and not self.has_room(start, size):
            return errno.ENOSPC
        for rule in self.rules:
            if rule.strikes(op, start, size):
                if not rule.hold and op == "flush" and self.cache:
                    # What Linux does after a failed flush: the pages count as clean, and are not.
                    self.lose(random.Random(self.counts["flush"]))
                return "hold" if rule.hold else rule.errno
        return 0

    def has_room(self, start, size):
        units = set(range(start // THIN_UNIT, (start + size - 1) // THIN_UNIT + 1)) - self.units
        if len(units) > self.units_left:
            return False
        self.units_left -= len(units)
        self.units |= units
        return True

    def carry_out(self, opcode, body):
        """Bytes to answer with."""
        if opcode == FSYNC:
            os.fdatasync(self.backing)
            if self.cache != "lying":
                self.unflushed.clear()
            return b""
        start, size = struct.unpack_from("<QI", body, 8)
        if opcode == READ:
            return os.pread(self.backing, min(size, max(0, self.size - start)), start)
        data = body[40:40 + size]
        if self.cache:
            self.unflushed.append((start, os.pread(self.backing, size, start)))
        written = os.pwrite(self.backing, data, start)
        if written != size:
            # The loop driver would take it for a whole one: like any failure of the backing file,
            # this ends the drive.
            raise OSError(f"{written} of {size} bytes written to the backing file at {start}")
        return struct.pack("<II", size, 0)

    def lose(self, chance):
        """Puts back a random part of what the unflushed writes replaced, newest first. Each write
        is kept whole, lost whole or torn at a sector, also in the middle of its 4 KiB blocks. Only
        the block of a superblock is not torn: ext4 updates it in place and relies on that."""
        for start, old in reversed(self.unflushed):
            fate = chance.randrange(3)
            sectors = len(old) // SECTOR
            if fate == 0 or sectors == 0:
                continue
            first = 0 if fate == 1 or start < 4096 else chance.randrange(sectors)
            os.pwrite(self.backing, old[first * SECTOR:], start + first * SECTOR)
        self.unflushed.clear()

    def answer(self, unique, result):
        """A negative number is an error, bytes are the answer."""
        error, payload = (result, b"") if isinstance(result, int) else (0, result)
        head = struct.pack("<IiQ", 16 + len(payload), error, unique)
        try:
            os.writev(self.fuse, [head, payload])
        except OSError as cause:
            # Whoever asked was killed.
            if cause.errno not in (errno.ENOENT, errno.ENODEV):
                raise

    def housekeeping(self, opcode, node, body):
        if opcode == INIT:
            return struct.pack("<IIIIHHIIHHI", 7, 31, 128 << 10, INIT_FLAGS, 64, 48, MAX_WRITE, 1,
                               MAX_WRITE // 4096, 0, 0) + bytes(28)
        if opcode == LOOKUP:
            if bytes(body).rstrip(b"\0") != b"disk":
                return -errno.ENOENT
            return struct.pack("<QQQQII", DISK, 0, FOREVER_S, FOREVER_S, 0, 0) + self.attr(DISK)
        if opcode in (GETATTR, SETATTR):
            return struct.pack("<QII", FOREVER_S, 0, 0) + self.attr(node)
        if opcode in (OPEN, OPENDIR):
            flags = 0 if opcode == OPENDIR else FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES
            return struct.pack("<QII", 1, flags, 0)
        if opcode == STATFS:
            blocks = self.size // 4096
            return struct.pack("<5Q4I", blocks, 0, 0, 1, 0, 4096, 255, 4096, 0) + bytes(24)
        if opcode in (RELEASE, RELEASEDIR, FLUSH, ACCESS, DESTROY, READDIR):
            return b""
        return -errno.ENOSYS

    def attr(self, node):
        mode = stat.S_IFREG | 0o600 if node == DISK else stat.S_IFDIR | 0o700
        size = self.size if node == DISK else 0
        return struct.pack("<6Q10I", node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0,
                           4096, 0)


def main():
    die_with_parent()
    folder, backing = sys.argv[1:3]
    drive = Drive(folder, backing)
    # The kernel must never wait for this process to give it memory to write to this process.
    LIBC.prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0)
    try:
        print(json.dumps({"ready": True}), flush=True)
        drive.serve()
    finally:
        detach(folder)


if __name__ == "__main__":
    main()
