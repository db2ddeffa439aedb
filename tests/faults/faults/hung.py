"""hung: the drive does not answer, and after a while goes on as if nothing had been.

P8: requests that need it fail within 5 s, what is in memory is served at once, health goes red.
When the drive goes on so does the store, by itself, and everything acknowledged is there.
"""

import contextlib
import threading
import time

from harness.drive import Place
from harness.oracle import Broken, check_store
from harness.scene import ANSWER_MAX_S, Scene, assert_all_refused, assert_answered

NAME = "hung"
TIMES, SAMPLE = 60, 2
NEEDS = {"mkfs.ext4": "e2fsprogs", "mkfs.xfs": "xfsprogs"}

# What is in memory does not wait for the drive; this is for a busy machine.
MEMORY_MAX_S = 1.0


def runs(bench, times):
    for turn in range(times):
        kind = Place.KINDS[turn % 3]
        yield lambda kind=kind: one(bench, kind)


def one(bench, kind):
    with contextlib.ExitStack() as undo:
        scene = Scene(bench, undo, kind)
        scene.start()
        try:
            hang(bench, scene)
        except Broken as cause:
            raise Broken(f"on {kind}: {cause}") from cause


def hang(bench, scene):
    with scene.load() as load:
        load.wait_acknowledged(60)
    scene.restart()
    cold, hot, busy = scene.oracles
    client = scene.server.client()
    for key in range(8):
        hot.put(client, key, hot.new_version())
    busy.errors = True
    with scene.load([busy]) as load:
        load.wait_acknowledged(1 + bench.random.randrange(40))
        scene.drive.stop()
        hung_s = time.monotonic()
        slow = Readers(bench, scene.server, cold)
        scene.server.wait_health(503, ANSWER_MAX_S)
        red_s = time.monotonic()
        bench.took("until red", red_s - hung_s)
        for key in range(8):
            begun_s = time.monotonic()
            hot.check(client, key)
            if (took_s := time.monotonic() - begun_s) > MEMORY_MAX_S:
                raise Broken(f"a read from memory took {took_s:.2f} s")
            bench.took("a read from memory", took_s)
        slow.finish()
        load.wait(lambda ops: sum(op.begun_s > red_s for op in ops) >= 10)
        every = load.since(hung_s - 5, ("PUT", "DELETE", "GET", "GONE"))
        bench.took("an answer to a writer", assert_answered(every))
        assert_all_refused(load.since(red_s))
        scene.drive.resume()
        scene.server.wait_health(200, ANSWER_MAX_S)
        load.wait_acknowledged(20)
    scene.server.assert_running()
    for oracle in scene.oracles:
        oracle.errors = False
    check = scene.server.client()
    for oracle in scene.oracles:
        oracle.check_all(check, settle=False)
    scene.restart()
    check_store(scene.server, scene.oracles)


class Readers:
    """Reads of objects that are on the drive only, all at once."""

    def __init__(self, bench, server, oracle, count=6):
        self.bench, self.broken = bench, []
        keys = [key for key in oracle.expected_now() if oracle.states[key][0].size][:count]
        self.threads = [threading.Thread(target=self._read, args=(server, oracle, key))
                        for key in keys]
        for thread in self.threads:
            thread.start()

    def _read(self, server, oracle, key):
        client, begun_s = server.client(), time.monotonic()
        try:
            answer = client.get(oracle.path(key))
            took_s = time.monotonic() - begun_s
            self.bench.took("an answer from the drive", took_s)
            if answer.status not in (503, 504) or took_s > ANSWER_MAX_S:
                self.broken.append(f"GET from a hung drive: {answer.status} after {took_s:.1f} s")
        except Exception as cause:
            self.broken.append(f"GET from a hung drive: {cause}")
        finally:
            client.close()

    def finish(self):
        for thread in self.threads:
            thread.join()
        if self.broken:
            raise Broken(self.broken[0])
