"""second: a second process on the store, a start right after kill -9, and SIGTERM under load.

P11: the second is refused with the pid of the first, which does not notice; a start that begins
while the killed one still has writes under way succeeds. P20: SIGTERM ends it with exit code 0, and
nothing acknowledged is missing afterwards.
"""

import contextlib
import os

from harness.load import Load
from harness.oracle import Broken, Oracle, check_store
from harness.scene import assert_no_refusal
from harness.server import Refused, Server

NAME = "second"
TIMES, SAMPLE = 60, 3
NEEDS = {}


def runs(bench, times):
    for turn in range(times):
        variant = VARIANTS[turn % len(VARIANTS)]
        yield lambda variant=variant: one(bench, variant)


def one(bench, variant):
    with contextlib.ExitStack() as undo:
        # On the disk, so that there are writes under way for long enough.
        folder = bench.folder(undo, on_disk=True)
        data, log = os.path.join(folder, "data"), os.path.join(folder, "stderr")
        oracles = [Oracle(writer, bench.random.getrandbits(60)) for writer in range(4)]
        start = lambda name="stderr": undo.enter_context(
            Server(bench.binaries, data, os.path.join(folder, name), "256MiB"))
        try:
            variant(bench, start, oracles, data)
        except Broken as cause:
            raise Broken(f"{variant.__name__}: {cause}; {tail(log)}") from cause


def tail(log):
    with open(log, encoding="utf-8", errors="replace") as file:
        return file.read()[-500:]


def a_second_one_is_refused(bench, start, oracles, data):
    server = start()
    with Load(server, oracles) as load:
        load.wait_acknowledged(10)
        for attempt in range(3):
            try:
                start(f"second-{attempt}")
                raise Broken("two servers on one store")
            except Refused as refused:
                last = refused.said.strip().splitlines()[-1]
                if refused.code == 0 or str(server.child.pid) not in last:
                    raise Broken(f"refused with code {refused.code} and {last!r}") from refused
            load.wait_acknowledged(10)
        # A tool that would write is refused, too.
        bench.binaries.ctl("format", data, "--capacity", "64MiB", "--yes", ok=(2,))
        load.wait_acknowledged(10)
    assert_no_refusal(load.since(0))
    check_store(server, oracles)


def a_start_right_after_a_kill(bench, start, oracles, _):
    server = start()
    for _ in range(3):
        with Load(server, oracles) as load:
            load.wait_acknowledged(1 + bench.random.randrange(60))
            server.child.kill()
            # Not reaped: the kernel may still be busy with what it left.
            successor = start()
        server.reap()
        server = successor
        check_store(server, oracles)


def sigterm_under_load(bench, start, oracles, _):
    server = start()
    with Load(server, oracles) as load:
        load.wait_acknowledged(1 + bench.random.randrange(100))
        if (code := server.terminate()) != 0:
            raise Broken(f"SIGTERM: exit code {code}")
    check_store(start(), oracles)


VARIANTS = (a_second_one_is_refused, a_start_right_after_a_kill, sigterm_under_load)
