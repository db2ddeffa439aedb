"""Writers that go on in threads until they are told to stop or the server is gone."""

import threading
import time
from collections import namedtuple

from .client import Client, Gone
from .oracle import Broken

# One operation, by the monotonic clock. Status 0 is an answer that never came.
Op = namedtuple("Op", "kind status begun_s took_s")


class Load:
    """Runs every oracle's writer. Use as a context: leaving it stops the writers."""

    def __init__(self, server, oracles, patience_s=30.0):
        self.addr = server.data_addr
        self.oracles = oracles
        self.patience_s = patience_s
        self.ops = []
        self.broken = []
        self.stopping = threading.Event()
        self.changed = threading.Condition()
        self.threads = [threading.Thread(target=self._write, args=(oracle,), daemon=True)
                        for oracle in oracles]
        self.running = len(self.threads)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def _write(self, oracle):
        client = Client(self.addr, self.patience_s)
        try:
            while not self.stopping.is_set():
                begun_s = time.monotonic()
                try:
                    kind, status, took_s = oracle.step(client)
                except Gone as cause:
                    # A refusal whose body was not read ends with a reset: ask again. Only when
                    # nobody listens any more is it over.
                    if isinstance(cause.__cause__, ConnectionRefusedError):
                        return
                    kind, status, took_s = "GONE", 0, time.monotonic() - begun_s
                with self.changed:
                    self.ops.append(Op(kind, status, begun_s, took_s))
                    self.changed.notify_all()
        except Broken as cause:
            self.broken.append(cause)
        finally:
            client.close()
            with self.changed:
                self.running -= 1
                self.changed.notify_all()

    def wait(self, wanted, patience_s=30.0):
        """Until `wanted(ops)` holds; all writers ending early is an error."""
        until_s = time.monotonic() + patience_s
        with self.changed:
            while not wanted(self.ops):
                left_s = until_s - time.monotonic()
                if self.broken:
                    raise self.broken[0]
                if self.running == 0:
                    raise Broken("the server hung up on every writer")
                if left_s <= 0:
                    raise Broken(f"not seen in {patience_s} s; last: {self.ops[-5:]}")
                self.changed.wait(left_s)

    def wait_acknowledged(self, count, patience_s=60.0):
        """Until so many more writes than now are acknowledged."""
        goal = self.acknowledged() + count
        self.wait(lambda _: self.acknowledged() >= goal, patience_s)

    def acknowledged(self):
        return sum(oracle.acknowledged for oracle in self.oracles)

    def stop(self):
        """Lets every writer finish what it has begun."""
        self.stopping.set()
        for thread in self.threads:
            thread.join(self.patience_s + 10)
            if thread.is_alive():
                raise Broken("a writer does not come back")
        if self.broken:
            raise self.broken[0]

    def since(self, begun_s, kinds=("PUT", "DELETE")):
        """Operations of these kinds begun at or after a moment."""
        with self.changed:
            return [op for op in self.ops if op.begun_s >= begun_s and op.kind in kinds]
