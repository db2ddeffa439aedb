"""kill9: kill -9 under load, again and again, also while it recovers.

Writers PUT, overwrite, DELETE and GET until the server is gone. After the restart every
acknowledged object is there byte for byte, every deleted one is gone, and what was under way has
happened wholly or not at all. Two thirds of the stores are large enough that absence is loss; the
others wrap their ring all the time, where an object may be gone but an older version must never
come back.
"""

import contextlib
import os

from harness.load import Load
from harness.oracle import Oracle, check_store
from harness.server import Server

NAME = "kill9"
TIMES, SAMPLE = 1000, 20
NEEDS = {}

KILLS_PER_STORE = 20
ACKNOWLEDGED_MAX = 200


def runs(bench, times):
    for first in range(0, times, KILLS_PER_STORE):
        evicts = first // KILLS_PER_STORE % 3 == 2
        with contextlib.ExitStack() as undo:
            # On the disk, so that writes and flushes are under way when the kill comes.
            data = bench.folder(undo, on_disk=True)
            life = Life(bench, data, evicts)
            undo.callback(life.end)
            for _ in range(min(KILLS_PER_STORE, times - first)):
                yield life.kill


class Life:
    """One store and its servers."""

    def __init__(self, bench, folder, evicts, args=()):
        self.bench, self.args = bench, args
        self.data, self.log = os.path.join(folder, "data"), os.path.join(folder, "stderr")
        self.capacity = "32MiB" if evicts else "512MiB"
        self.oracles = [Oracle(writer, bench.random.getrandbits(60), evicts=evicts)
                        for writer in range(4)]
        for oracle in self.oracles:
            oracle.reads = not args
        self.server = None

    def start(self):
        return Server(self.bench.binaries, self.data, self.log, self.capacity,
                      args=self.args)

    def end(self):
        if self.server is not None:
            self.server.kill()

    def kill(self):
        chance = self.bench.random
        if self.server is None:
            self.server = self.start()
        with Load(self.server, self.oracles) as load:
            load.wait_acknowledged(1 + chance.randrange(ACKNOWLEDGED_MAX))
            self.server.kill()
        if chance.randrange(4) == 0:
            self.start().kill()
        if chance.randrange(8) == 0:
            self.bench.binaries.fsck(self.data)
        self.server = None
        self.server = self.start()
        check_store(self.server, self.oracles)
