"""clock: the wall clock steps by a second, by ten years, back and forth.

libfaketime stands between the binary and the wall clock; time since boot is left as it is. P9:
neither within a run, nor over a restart, nor over a reboot (another boot id, by a bind mount)
does a step take an object's life or give one back. Only a reboot may add time, because nothing
but the wall clock knows how long the machine was away: at most a week, and then it says so.
"""

import contextlib
import email.utils
import glob
import os
import time

from harness.oracle import Broken, Oracle, Version
from harness.server import Server

NAME = "clock"
TIMES, SAMPLE = 60, 2
LIBRARY = "/usr/lib/*/faketime/libfaketime.so.1"
NEEDS = {(glob.glob(LIBRARY) or ["/usr/lib/libfaketime.so.1"])[0]: "libfaketime"}

SECOND, HOUR, DAY = 1, 3600, 86_400
STEPS_S = [sign * size for size in (SECOND, 60, HOUR, DAY, 30 * DAY, 365 * DAY, 3652 * DAY)
           for sign in (1, -1)]
AWAY_MAX_S = 7 * DAY
BOOT_ID = "/proc/sys/kernel/random/boot_id"
SHORT_S, LONG_S = 4, 30 * DAY


def runs(bench, times):
    steps = STEPS_S if not bench.sample else [3652 * DAY, -3652 * DAY]
    for turn in range(times):
        step_s = steps[turn % len(steps)]
        variant = VARIANTS[turn // len(steps) % 2 if not bench.sample else turn % 2]
        yield lambda step_s=step_s, variant=variant: one(bench, step_s, variant)


def one(bench, step_s, variant):
    with contextlib.ExitStack() as undo:
        try:
            variant(Clock(bench, undo), step_s)
        except Broken as cause:
            raise Broken(f"{variant.__name__} {step_s:+} s: {cause}") from cause


class Clock:
    """A store under a wall clock that can be set."""

    def __init__(self, bench, undo):
        self.bench, self.folder = bench, bench.folder(undo)
        self.offset = os.path.join(self.folder, "offset")
        self.boot = os.path.join(self.folder, "boot")
        self.oracle = Oracle(0, bench.random.getrandbits(60))
        self.free_key = 0
        self.undo = undo
        self.set(0)

    def set(self, offset_s):
        """Replaced as a whole: it is read at every look at the clock."""
        with open(self.offset + ".new", "w", encoding="ascii") as file:
            file.write(f"{offset_s:+}\n")
        os.replace(self.offset + ".new", self.offset)

    def start(self, boot):
        with open(self.boot, "w", encoding="ascii") as file:
            file.write(f"00000000-0000-4000-8000-{boot:012}\n")
        wrap = ("unshare", "--mount", "sh", "-c",
                f'mount --bind {self.boot} {BOOT_ID} && exec "$@"', "sh")
        environment = {"LD_PRELOAD": next(iter(NEEDS)), "FAKETIME_TIMESTAMP_FILE": self.offset,
                       "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                       "DONT_FAKE_MONOTONIC": "1"}
        server = Server(self.bench.binaries, os.path.join(self.folder, "data"),
                        os.path.join(self.folder, "stderr"), "32MiB", env=environment, wrap=wrap)
        self.undo.enter_context(server)
        return server

    def put(self, client, ttl_s):
        """A new object under a key of its own."""
        key, self.free_key = self.free_key, self.free_key + 1
        version = Version(self.bench.random.getrandbits(60), 5_000, ttl_s)
        self.oracle.put(client, key, version)
        if self.oracle.states[key] != [version]:
            raise Broken("a PUT was refused")
        return key

    def look(self, client):
        """Every object is there until its time, and not after."""
        for key in range(self.free_key):
            self.oracle.check(client, key)

    def outlive(self, client, key):
        """Until the object is gone, which must be at its time."""
        until_s = time.monotonic() + SHORT_S + 5
        while self.oracle.check(client, key) != 404:
            if time.monotonic() > until_s:
                raise Broken("it does not expire")
            time.sleep(0.1)


def within_a_boot(clock, step_s):
    server = clock.start(1)
    client = server.client()
    assert_clock(clock, client, clock.put(client, LONG_S), 0)
    brief = clock.put(client, SHORT_S)
    clock.set(step_s)
    clock.look(client)
    later = clock.put(client, SHORT_S)
    assert_clock(clock, client, clock.put(client, HOUR), step_s)
    clock.outlive(client, brief)
    clock.outlive(client, later)
    server.kill()
    # The same boot, the other time.
    client = clock.start(1).client()
    clock.look(client)
    clock.set(-step_s)
    clock.look(client)
    assert_clock(clock, client, clock.put(client, HOUR), -step_s)
    clock.outlive(client, clock.put(client, SHORT_S))
    clock.look(client)


def over_a_reboot(clock, step_s):
    server = clock.start(1)
    client = server.client()
    long, hour = clock.put(client, LONG_S), clock.put(client, HOUR)
    brief = clock.put(client, SHORT_S)
    clock.outlive(client, brief)
    server.kill()
    clock.set(step_s)
    server = clock.start(2)
    client = server.client()
    assert_clock(clock, client, clock.put(client, HOUR), step_s)
    for key in (long, brief) + ((hour,) if step_s < HOUR else ()):
        clock.oracle.check(client, key)
    if step_s > AWAY_MAX_S and "clock" not in server.complaints():
        raise Broken("a jump of the wall clock beyond a week is not told")
    clock.outlive(client, clock.put(client, SHORT_S))
    clock.oracle.check(client, brief)
    server.kill()
    # And back again, which must not give the brief one its life back.
    clock.set(0)
    client = clock.start(3).client()
    for key in (long, brief):
        clock.oracle.check(client, key)


def assert_clock(clock, client, key, offset_s):
    """Checks the checker: the binary really had that wall clock when it took the object."""
    told = client.get(clock.oracle.path(key)).headers["last-modified"]
    wall_s = email.utils.parsedate_to_datetime(told).timestamp()
    if abs(wall_s - time.time() - offset_s) > 60:
        raise Broken(f"the binary's clock is {wall_s - time.time():.0f} s off, not {offset_s}")


VARIANTS = (within_a_boot, over_a_reboot)
