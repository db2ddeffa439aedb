"""hung-p99: what the other drive's clients notice when one of two drives hangs.

PUTs of 256 KiB and GETs of objects on the good drive, none of them in memory, all due by the clock
(a stall shows in every request it delays). A window before the hang, one after it, the same load in
both. The one second in which the hang is noticed counts to neither: its PUTs to the hung drive wait
for the fence, and how long is printed. The last run demands that the median of p99 after is at most
twice the median of p99 before, for PUT and for GET.
"""

import contextlib
import statistics
import threading
import time

from harness.client import Gone
from harness.oracle import Broken, Oracle
from harness.scene import Scene

from . import two_drives

NAME = "hung-p99"
TIMES, SAMPLE = 7, 1
NEEDS = two_drives.NEEDS

WINDOW_S, SAMPLE_WINDOW_S = 20.0, 5.0
PUTS_PER_S, GETS_PER_S = 20, 60
# No request waits for a lane that waits for the drive.
LANES = PUTS_PER_S
OBJECT_BYTES = 256 << 10
RATIO_MAX = 2.0


def runs(bench, times):
    figures = []
    for turn in range(times):
        is_last = turn == times - 1 and not bench.sample
        yield lambda bad=turn % 2, is_last=is_last: one(bench, bad, figures, is_last)


def one(bench, bad, figures, is_last):
    with contextlib.ExitStack() as undo:
        scene = Scene(bench, undo, "device", "device", capacity_mib=512, ram="64MiB")
        scene.start()
        keys = prepare(bench, scene, bad)
        window_s = SAMPLE_WINDOW_S if bench.sample else WINDOW_S
        before = Window(scene.server, keys, window_s, "before")
        before.run()
        scene.drives[bad].stop()
        caught = Window(scene.server, keys, 1.0, "caught")
        waits = threading.Thread(target=caught.run)
        waits.start()
        time.sleep(1.0)
        after = Window(scene.server, keys, window_s, "after")
        after.run()
        waits.join()
        scene.drives[bad].resume()
    row = {"before": before.p99(), "after": after.p99()}
    figures.append(row)
    bench.say("p99 in ms before -> after: " + ", ".join(
        f"{kind} {row['before'][kind]:.2f} -> {row['after'][kind]:.2f}" for kind in ("PUT", "GET"))
        + f"; PUTs caught by the hang: {caught.slow()} of {caught.count('PUT')}, the longest "
        f"{caught.longest_s():.1f} s; refused {caught.refused + after.refused}")
    if before.refused or after.refused or caught.refused:
        raise Broken("requests that do not need the hung drive were refused")
    if is_last:
        judge(bench, figures)


def judge(bench, figures):
    for kind in ("PUT", "GET"):
        medians = [statistics.median(row[when][kind] for row in figures)
                   for when in ("before", "after")]
        ranges = [f"[{min(row[when][kind] for row in figures):.2f}-"
                  f"{max(row[when][kind] for row in figures):.2f}]" for when in ("before", "after")]
        bench.say(f"{kind} p99 over {len(figures)} runs: {medians[0]:.2f} ms {ranges[0]} before, "
                  f"{medians[1]:.2f} ms {ranges[1]} after: {medians[1] / medians[0]:.2f}x")
        if medians[1] > RATIO_MAX * medians[0]:
            raise Broken(f"{kind} p99 grew more than {RATIO_MAX} times")


def prepare(bench, scene, bad):
    """Keys of objects on the good drive that are not in memory."""
    oracle, client = Oracle(0, 1), scene.server.client()
    body = bench.random.randbytes(OBJECT_BYTES)
    paths = [f"/faults/cold-{number}" for number in range(400)]
    for path in paths:
        if client.put(path, body).status not in (201, 204):
            raise Broken("a PUT was refused")
    client.close()
    scene.oracles = [oracle]
    scene.restart("terminate")
    sample = bench.random.sample(paths, 120)
    keys = [path for path in sample if two_drives.home(bench, scene, path) != bad]
    if not 20 <= len(keys) <= 100:
        raise Broken(f"{len(keys)} of 120 objects lie on one drive")
    return keys


class Window:
    """An open loop of PUTs and GETs for a while."""

    def __init__(self, server, keys, window_s, name):
        self.server, self.keys, self.window_s, self.name = server, keys, window_s, name
        self.took_s = {"PUT": [], "GET": []}
        self.refused = 0
        self.lock = threading.Lock()

    def run(self):
        begun_s = time.monotonic()
        threads = [threading.Thread(target=self._lane, args=(kind, rate, lane, begun_s))
                   for kind, rate in (("PUT", PUTS_PER_S), ("GET", GETS_PER_S))
                   for lane in range(LANES)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _lane(self, kind, rate, lane, begun_s):
        client, body = self.server.client(), bytes(OBJECT_BYTES)
        for turn in range(lane, int(rate * self.window_s), LANES):
            due_s = begun_s + turn / rate
            time.sleep(max(0.0, due_s - time.monotonic()))
            try:
                if kind == "PUT":
                    answer = client.put(f"/faults/{self.name}-{turn % 400}", body)
                else:
                    answer = client.get(self.keys[turn * 7 % len(self.keys)])
                is_good = answer.status in (200, 201, 204)
            except Gone:
                is_good = False
            with self.lock:
                self.took_s[kind].append(time.monotonic() - due_s)
                self.refused += not is_good
        client.close()

    def p99(self):
        """Milliseconds by kind."""
        return {kind: sorted(took_s)[int(len(took_s) * 0.99)] * 1000
                for kind, took_s in self.took_s.items()}

    def count(self, kind):
        return len(self.took_s[kind])

    def slow(self):
        return sum(took_s > 0.5 for took_s in self.took_s["PUT"])

    def longest_s(self):
        return max(self.took_s["PUT"])
