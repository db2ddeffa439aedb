"""vanished: the drive, or the file system on it, is gone from one moment to the next.

P8: requests that need it fail within 5 s, what is in memory is still served, health goes red, and
nothing is acknowledged any more. P1: when it is back, everything acknowledged is there.
"""

import contextlib
import time

from harness import machine
from harness.oracle import Broken
from harness.scene import Scene, assert_all_refused, assert_answered

NAME = "vanished"
TIMES, SAMPLE = 100, 3
NEEDS = {"xfs_io": "xfsprogs", "mkfs.xfs": "xfsprogs", "mkfs.ext4": "e2fsprogs"}

VARIANTS = (("device", "killed"), ("ext4", "shutdown"), ("xfs", "killed"), ("xfs", "shutdown"),
            ("ext4", "killed"))


def runs(bench, times):
    for turn in range(times):
        kind, how = VARIANTS[turn % len(VARIANTS)]
        yield lambda kind=kind, how=how: one(bench, kind, how)


def one(bench, kind, how):
    with contextlib.ExitStack() as undo:
        scene = Scene(bench, undo, kind)
        scene.start()
        try:
            vanish(bench, scene, how)
        except Broken as cause:
            raise Broken(f"{how} on {kind}: {cause}") from cause


def vanish(bench, scene, how):
    with scene.load() as load:
        load.wait_acknowledged(60)
    # Half of the writers' objects are on the drive only, the others in memory, too.
    scene.restart()
    cold, hot = scene.oracles[:1], scene.oracles[1:]
    with scene.load(hot) as load:
        load.wait_acknowledged(60)
    for oracle in scene.oracles:
        oracle.errors = True
    with scene.load(hot) as load:
        load.wait_acknowledged(1 + bench.random.randrange(40))
        if how == "killed":
            scene.drive.vanish()
        else:
            machine.run("xfs_io", "-x", "-c", "shutdown", scene.place.mount_point)
        gone_s = time.monotonic()
        scene.server.wait_health(503, 5)
        red_s = time.monotonic()
        bench.took("until red", red_s - gone_s)
        load.wait(lambda ops: sum(op.begun_s > red_s for op in ops) >= 40)
    every = ("PUT", "DELETE", "GET", "GONE")
    bench.took("an answer", assert_answered(load.since(gone_s - 5, every)))
    assert_all_refused(load.since(red_s))
    read_what_can_be_read(scene, cold)
    scene.server.assert_running()
    if how == "killed":
        scene.restart(replug=True)
    else:
        scene.server.kill()
        scene.server = None
        machine.umount(scene.place.mount_point)
        scene.place.mount_again()
        scene.restart()
    scene.goes_on()


def read_what_can_be_read(scene, cold):
    """An object in memory is served, one on the drive is an error within 5 s, and no wrong byte."""
    client = scene.server.client()
    for oracle in scene.oracles:
        for key in range(len(oracle.states)):
            begun_s = time.monotonic()
            status = oracle.check(client, key, errors=True)
            if (took_s := time.monotonic() - begun_s) > 5.5:
                raise Broken(f"GET {oracle.path(key)}: {status} after {took_s:.1f} s")
    served = [oracle.check(client, key, errors=True) == 200
              for oracle in scene.oracles if oracle not in cold for key in oracle.expected_now()]
    if not any(served):
        raise Broken("nothing is served from memory any more")
    client.close()
