"""power-cut: the log of everything a drive was told, replayed up to every point of no return.

A user-mode-linux guest runs the release binary on a drive under device-mapper's log-writes:
straight on the device, on ext4 and on XFS. Clients in the guest mark in the same log what they
asked for and what was acknowledged. Afterwards, on the host, the log is replayed onto the drive
as it was before, up to a flush or FUA write, or beyond it with a random part of what was not
flushed yet, torn at sectors. Each such state is mounted (ext4 and XFS replay their journals),
opened by the release binary, and every key is read: what was acknowledged before that point is
there, byte for byte.
"""

import contextlib
import glob
import json
import os
import random
import subprocess
import sys

from harness import dmlog, machine
from harness.drive import drive_bytes
from harness.oracle import Broken, Oracle, Version, check_store
from harness.server import Refused, Server

NAME = "power-cut"
TIMES, SAMPLE = 1500, 24
NEEDS = {"linux.uml": "user-mode-linux", "mkfs.ext4": "e2fsprogs", "mkfs.xfs": "xfsprogs"}

PLACES = ("ext4", "xfs", "device")
CAPACITY = "64MiB"
POINTS_PER_RECORD = 60
RECORD_PATIENCE_S = 300
HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def runs(bench, times):
    """One crash point after the other; ext4 and XFS get most of them."""
    done, turn = 0, 0
    points = min(POINTS_PER_RECORD, max(1, times // 3))
    while done < times:
        place = ("ext4", "xfs", "ext4", "xfs", "device")[turn % 5] if times > 100 else PLACES[
            turn % 3]
        count = min(points, times - done)
        with contextlib.ExitStack() as undo:
            folder = bench.folder(undo)
            plan = make_plan(bench, place, turn)
            record = Record(bench, plan, folder)
            for index in range(count):
                yield lambda record=record, index=index: record.crash(bench, index)
        done += count
        turn += 1


def make_plan(bench, place, turn, args=()):
    """Every third record wraps its ring, every fourth makes its store under the log, too."""
    modules = sorted(glob.glob("/usr/lib/uml/modules/*"))
    evicts = turn % 3 == 2
    return {
        "seed": bench.random.getrandbits(40), "place": place, "evicts": evicts,
        "binaries": os.path.dirname(bench.binaries.tapeloop),
        "capacity": CAPACITY, "writers": 4, "sessions": 3, "args": list(args),
        "acknowledged": 500 if evicts else 120, "modules": modules[-1] if modules else "",
        "is_young": turn % 4 == 3 and place != "device",
    }


class Record:
    """One run of the guest and its log."""

    def __init__(self, bench, plan, folder):
        self.plan, self.folder = plan, folder
        self.base = os.path.join(folder, "base")
        self.log = os.path.join(folder, "log")
        self.random = random.Random(plan["seed"])
        machine.sparse(self.base, drive_bytes(plan["place"], 64 << 20))
        self._prepare(bench)
        drive = os.path.join(folder, "drive")
        machine.copy_sparse(self.base, drive)
        machine.sparse(self.log, 3 << 30)
        self._run_guest(drive)
        os.remove(drive)
        self.entries = dmlog.read_log(self.log)
        self.points = dmlog.crash_points(self.entries)
        self.random.shuffle(self.points)
        marks = sum(entry.mark is not None and entry.mark.startswith("ack")
                    for entry in self.entries)
        bench.say(f"{plan['place']}: {len(self.entries)} log entries, {len(self.points)} flush "
                  f"points, {marks} acknowledgements")
        if marks == 0:
            raise Broken("the guest acknowledged nothing")

    def _prepare(self, bench):
        """File system and store as they are before the log begins."""
        with contextlib.ExitStack() as undo:
            loop = machine.Loop(self.base, undo)
            if self.plan["place"] == "device":
                bench.binaries.format(loop.path, CAPACITY)
                return
            machine.make_fs(self.plan["place"], loop.path)
            if not self.plan["is_young"]:
                target = os.path.join(self.folder, "mnt")
                machine.mount_fs(self.plan["place"], loop.path, target, undo)
                bench.binaries.format(target, CAPACITY)

    def _run_guest(self, drive):
        plan = os.path.join(self.folder, "plan.json")
        with open(plan, "w", encoding="ascii") as file:
            json.dump(self.plan, file)
        command = [*machine.DYING_WITH_US, "linux.uml", "mem=768M", "rootfstype=hostfs",
                   "rootflags=/", "ro", "quiet", f"ubdb={drive}", f"ubdc={self.log}", "con=null",
                   "con0=null,fd:1", "ssl=null", f"umid={os.path.basename(self.folder)}",
                   f"init={sys.executable}", "--", "-uB",
                   os.path.join(HERE, "harness", "guest.py"), plan]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=RECORD_PATIENCE_S, check=False,
                              env={**os.environ, "HOME": self.folder})
        said = done.stdout.decode("utf-8", "replace")
        if "guest: done" not in said:
            raise Broken(f"the guest did not get to its end: {said[-3000:]}")

    def crash(self, bench, index):
        """Replays to a point, and looks."""
        chance = self.random
        point = self.points[index % len(self.points)]
        image = os.path.join(self.folder, "crashed")
        machine.copy_sparse(self.base, image)
        replay = dmlog.Replay(self.log, image)
        for entry in self.entries[:point]:
            replay.apply(entry)
        until = point
        if chance.random() < 0.5:
            window = dmlog.unflushed(self.entries, point)
            if window:
                until = self.entries.index(window[-1], point)
            for entry in window:
                keep(chance, replay, entry)
        replay.close()
        oracles = history(self.entries, point, until, self.plan["evicts"])
        try:
            self._look(bench, image, oracles, index)
        except (Broken, Refused, OSError) as cause:
            raise Broken(f"{self.plan['place']}, seed {self.plan['seed']}, entry {point} of "
                         f"{len(self.entries)}: {cause}") from cause
        finally:
            os.remove(image)

    def _look(self, bench, image, oracles, index):
        place = self.plan["place"]
        log_path = os.path.join(self.folder, "stderr")
        with contextlib.ExitStack() as undo:
            loop = machine.Loop(image, undo)
            data = loop.path
            if place != "device":
                data = os.path.join(self.folder, "mnt")
                machine.mount_fs(place, loop.path, data, undo)
            if index % 8 == 3:
                # Recovery may be cut short, too.
                Server(bench.binaries, data, log_path, CAPACITY).kill()
            if index % 8 == 5 and not self.plan["is_young"]:
                bench.binaries.fsck(data)
            with Server(bench.binaries, data, log_path, CAPACITY) as server:
                check_store(server, oracles)


def keep(chance, replay, entry):
    """A write that no flush has covered: all of it, none of it, or up to or from a sector. The
    block of a superblock comes whole: ext4 updates it in place, and a torn one is fsck's
    business."""
    fate, sector = chance.randrange(4), 512 * chance.randrange(entry.size // 512 or 1)
    if fate == 0 or entry.offset < 4096 and fate < 3:
        replay.apply(entry)
    elif fate == 1:
        replay.apply(entry, end=sector)
    elif fate == 2:
        replay.apply(entry, start=sector)


def history(entries, point, until, evicts):
    """What may be expected: everything acknowledged before `point`; what was begun before `until`
    is in doubt."""
    begun, oracles = {}, {}
    for at, entry in enumerate(entries[:until]):
        what, *fields = (entry.mark or "").split(".")
        if what == "begin":
            writer, number, key = map(int, fields[:3])
            asked = None if fields[3] == "-" else Version(int(fields[3], 16), int(fields[4]))
            if writer not in oracles:
                oracles[writer] = Oracle(writer, 0, evicts=evicts)
            oracles[writer].states[key] = oracles[writer].states[key] + [asked]
            begun[writer, number] = (key, asked)
        elif what == "ack" and at < point:
            writer, number = map(int, fields)
            key, asked = begun[writer, number]
            oracles[writer].states[key] = [asked]
    return list(oracles.values())
