"""The common beginning of most faults: a faulty drive, a store on it, a server, and an oracle."""

import os
from collections import Counter

from .client import Gone
from .drive import Drive, Place, drive_bytes
from .load import Load
from .oracle import Broken, Oracle, check_store
from .server import Server

# Promise P8, and half a second for a machine that has other things to do.
ANSWER_MAX_S = 5.5


class Scene:
    """One store on a faulty drive, or on several of them."""

    def __init__(self, bench, undo, *kinds, capacity_mib=64, ram="64MiB", writers=3,
                 evicts=False):
        self.bench, self.ram, self.capacity = bench, ram, f"{capacity_mib}MiB"
        self.folder = bench.folder(undo)
        self.drives, self.places = [], []
        undo.callback(self.release)
        for kind in kinds:
            size = drive_bytes(kind, capacity_mib << 20)
            self.drives.append(Drive(bench.folder(undo), size, undo))
            self.places.append(Place(kind, self.drives[-1], undo))
        self.drive, self.place = self.drives[0], self.places[0]
        bench.binaries.format(self.data, self.capacity)
        self.oracles = [Oracle(writer, bench.random.getrandbits(60), evicts=evicts)
                        for writer in range(writers)]
        self.server = None
        undo.callback(self.stop)
        undo.push(self.explain)

    @property
    def data(self):
        return [place.data for place in self.places]

    def release(self):
        """Nothing may wait for a drive when things are taken down."""
        for drive in self.drives:
            if drive.daemon.poll() is None:
                drive.resume()
                drive.heal()

    def stop(self):
        self.release()
        if self.server is not None:
            self.server.kill()
            self.server = None

    def explain(self, _kind, cause, _trace):
        """What the server had to say, and what it answers for every key, goes with a failure: some
        come once in a thousand runs."""
        if cause is None or self.server is None:
            return
        said = "".join(self.server.banner) + self.server.complaints()[-2000:]
        cause.add_note(f"the server said: {said}")
        client = self.server.client(patience_s=1.0)
        try:
            for oracle in self.oracles:
                answers = Counter(client.get(path).status for path in oracle.paths())
                expected = len(oracle.expected_now())
                cause.add_note(f"writer {oracle.writer}, {expected} keys expected: "
                               f"{dict(answers)}")
        except Gone as gone:
            cause.add_note(f"no more answers: {gone}")
        finally:
            client.close()

    def start(self, data=None, args=()):
        log = os.path.join(self.folder, "stderr")
        self.server = Server(self.bench.binaries, data or self.data, log, self.capacity, self.ram,
                             args)
        return self.server

    def load(self, oracles=None, patience_s=30.0):
        return Load(self.server, oracles or self.oracles, patience_s)

    def restart(self, how="kill", replug=False):
        """A fresh server on the same store, and everything acknowledged read back."""
        if self.server is not None:
            if how == "kill":
                self.server.kill()
            elif (code := self.server.terminate()) != 0:
                raise Broken(f"SIGTERM: exit code {code}: {self.server.complaints()[-1000:]}")
            self.server = None
        if replug:
            for place in self.places:
                place.replug()
        self.start()
        for oracle in self.oracles:
            oracle.errors = False
        check_store(self.server, self.oracles)

    def goes_on(self, count=20):
        """The store takes new objects, and what it has stays right."""
        with self.load() as load:
            load.wait_acknowledged(count)
        assert_no_refusal(load.since(0))
        check_store(self.server, self.oracles)

    def fsck(self):
        self.bench.binaries.fsck(self.data)


def assert_no_refusal(ops):
    refused = [op for op in ops if op.status >= 500 or op.status == 0]
    if refused:
        raise Broken(f"{len(refused)} of {len(ops)} writes refused, first {refused[0]}")


def assert_all_refused(ops):
    """Of writes that were begun when nothing could be stored any more."""
    taken = [op for op in ops if 0 < op.status < 300]
    if taken:
        raise Broken(f"{len(taken)} of {len(ops)} writes acknowledged, first {taken[0]}")


def assert_answered(ops, limit_s=ANSWER_MAX_S):
    """The seconds of the slowest."""
    slow = [op for op in ops if op.took_s > limit_s]
    if slow:
        worst = max(slow, key=lambda op: op.took_s)
        raise Broken(f"{len(slow)} of {len(ops)} requests not answered within {limit_s} s, "
                     f"worst {worst}")
    return max((op.took_s for op in ops), default=0.0)
