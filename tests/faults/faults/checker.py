"""checker: the faults find what they look for, and the faulty drive adds no fault of its own.

A run is as promised when the lie that was planted is found: a drive that says it has flushed and
has not, acknowledgements before the flush (`ack = "buffered"`) under kill -9 and in a replayed
log. And bytes that went through the faulty drive, many at a time, come back as they were.
"""

import contextlib
import mmap
import os
import random
import threading

from harness.drive import Drive
from harness.oracle import Broken
from harness.scene import Scene
from harness.server import Refused

from . import cut, kill9, powercut

NAME = "checker"
TIMES, SAMPLE = 20, 4
NEEDS = powercut.NEEDS

# Many, because a busy machine may flush as fast as it acknowledges; how many it took is told.
LIES_MAX = 200
BLOCK = 4096
BUFFERED = '[namespaces.faults]\nack = "buffered"\n'


def runs(bench, times):
    for turn in range(times):
        variant = VARIANTS[turn % len(VARIANTS)]

        def attempt(variant=variant):
            with contextlib.ExitStack() as undo:
                variant(bench, undo)
        yield attempt


def must_find(bench, what, attempt):
    """The lie shows within so many attempts."""
    for number in range(1, LIES_MAX + 1):
        try:
            attempt()
        except (Broken, Refused):
            bench.say(f"{what}: found at attempt {number}")
            return
    raise Broken(f"{what} was not found in {LIES_MAX} attempts")


def a_drive_that_lies_about_flushes(bench, undo):
    scene = Scene(bench, undo, "device")
    must_find(bench, "a lying drive", lambda: cut.cut(bench, scene, "lying"))


def acknowledged_before_the_flush_and_killed(bench, undo):
    folder = bench.folder(undo, on_disk=True)
    life = kill9.Life(bench, folder, False, ("--config", config(folder)))
    undo.callback(life.end)
    must_find(bench, "early acknowledgement, killed", life.kill)


def acknowledged_before_the_flush_and_cut(bench, undo):
    folder = bench.folder(undo)
    plan = powercut.make_plan(bench, "ext4", 0, ("--config", config(folder)))
    record = powercut.Record(bench, plan, folder)
    points = iter(range(LIES_MAX))
    must_find(bench, "early acknowledgement, cut", lambda: record.crash(bench, next(points)))


def config(folder):
    path = os.path.join(folder, "config.toml")
    with open(path, "w", encoding="ascii") as file:
        file.write(BUFFERED)
    return path


def the_faulty_drive_keeps_what_it_is_given(bench, undo):
    size, lanes = 64 << 20, 8
    drive = Drive(bench.folder(undo), size, undo)
    drive.tell(cache="volatile")
    broken = []

    def lane(number):
        chance = random.Random(number)
        fd = os.open(drive.device, os.O_RDWR | os.O_DIRECT)
        start, span = number * size // lanes, size // lanes
        wanted, buffer = bytearray(span), mmap.mmap(-1, 1 << 20)
        for _ in range(300):
            count = BLOCK * (1 + chance.randrange(128))
            at = BLOCK * chance.randrange((span - count) // BLOCK)
            text = chance.randbytes(count)
            wanted[at:at + count] = text
            buffer[:count] = text
            os.pwritev(fd, [memoryview(buffer)[:count]], start + at)
            if chance.randrange(20) == 0:
                os.fdatasync(fd)
        for at in range(0, span, 1 << 20):
            os.preadv(fd, [buffer], start + at)
            if buffer[:] != wanted[at:at + (1 << 20)]:
                broken.append(f"lane {number}, offset {at}")
        os.close(fd)

    threads = [threading.Thread(target=lane, args=(number,)) for number in range(lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if broken:
        raise Broken(f"the faulty drive changed bytes: {broken}")


VARIANTS = (a_drive_that_lies_about_flushes, acknowledged_before_the_flush_and_cut,
            the_faulty_drive_keeps_what_it_is_given, acknowledged_before_the_flush_and_killed)
