"""cut: the drive loses power in the middle of whatever it is told, on this kernel.

The drive keeps writes in a cache until a flush. At a random operation the power goes: nothing is
answered any more, and of what was not flushed any part is lost, torn at sectors. Then it is
plugged in again (ext4 and XFS replay their journals), and the store opened: everything
acknowledged is there. Where `power-cut` has each point of a log of an older kernel, this has
io_uring as it is here.
"""

import contextlib

from harness.drive import Place
from harness.oracle import Broken
from harness.scene import Scene

NAME = "cut"
TIMES, SAMPLE = 150, 3
NEEDS = {"mkfs.ext4": "e2fsprogs", "mkfs.xfs": "xfsprogs"}

CUTS_PER_STORE = 10


def runs(bench, times):
    per_store = 1 if bench.sample else CUTS_PER_STORE
    for first in range(0, times, per_store):
        kind = Place.KINDS[first // per_store % 3]
        with contextlib.ExitStack() as undo:
            scene = Scene(bench, undo, kind, evicts=first // per_store % 2 == 1)
            for _ in range(min(per_store, times - first)):
                yield lambda scene=scene: cut(bench, scene, "volatile")


def cut(bench, scene, cache):
    """One cut, and the restart after it."""
    if scene.server is None:
        scene.start()
    scene.drive.tell(cache=cache)
    for oracle in scene.oracles:
        oracle.errors = True
    with scene.load() as load:
        load.wait_acknowledged(1 + bench.random.randrange(60))
        scene.drive.tell(cut=1 + bench.random.randrange(40), seed=bench.random.getrandbits(32))
        load.wait(lambda ops: any(op.status >= 500 for op in ops))
        scene.server.kill()
    if not scene.drive.counts()["is_cut"]:
        raise Broken("a write was refused before the power was gone")
    scene.server = None
    scene.restart(replug=True)
    if bench.random.randrange(4) == 0:
        scene.fsck()
