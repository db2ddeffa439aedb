"""io-errors: the drive answers EIO to a write, to a flush or to a read.

P7: a write that fails once is placed elsewhere within the PUT; nothing is refused. When every write
fails, nothing is acknowledged and reads go on. P5: after a failed flush, of which the drive forgets
what it had in its cache, nothing is acknowledged, nothing is written or flushed again, health is
red, reads go on; a restart finds everything that was acknowledged. P6: what cannot be read costs
that object and no other, and pushing it again heals it.
"""

import contextlib
import time

from harness.drive import Place
from harness.oracle import Broken, check_store
from harness.scene import Scene, assert_all_refused, assert_answered, assert_no_refusal

NAME = "io-errors"
TIMES, SAMPLE = 120, 5
NEEDS = {"mkfs.ext4": "e2fsprogs", "mkfs.xfs": "xfsprogs"}
ALL = ("PUT", "DELETE", "GET", "GONE")


def runs(bench, times):
    for turn in range(times):
        # In a sample, too, each variant and each place has its turn.
        kind = Place.KINDS[(turn + turn // len(VARIANTS)) % 3]
        variant = VARIANTS[turn % len(VARIANTS)]
        yield lambda kind=kind, variant=variant: one(bench, kind, variant)


def one(bench, kind, variant):
    with contextlib.ExitStack() as undo:
        scene = Scene(bench, undo, kind)
        scene.start()
        try:
            variant(bench, scene)
        except Broken as cause:
            raise Broken(f"{variant.__name__} on {kind}: {cause}") from cause


def a_write_fails_once(bench, scene):
    # Only within the volume: an error in a journal would be the file system's.
    logical, physical, size = max(scene.place.extents(), key=lambda extent: extent[2])
    with scene.load() as load:
        load.wait_acknowledged(20)
        scene.drive.fail("write", skip=bench.random.randrange(30), times=1,
                         **{"from": physical, "to": physical + size})
        load.wait(lambda _: scene.drive.counts()["failed"] == 1)
        load.wait_acknowledged(40)
    assert_no_refusal(load.since(0))
    check_store(scene.server, scene.oracles)
    scene.server.wait_health(200, 0)
    scene.restart()
    scene.fsck()


def every_write_fails(bench, scene):
    with scene.load() as load:
        load.wait_acknowledged(20)
    tolerate(scene)
    scene.drive.fail("write")
    begun_s = time.monotonic()
    with scene.load() as load:
        load.wait(lambda ops: sum(op.status >= 500 for op in ops) >= 12)
    assert_all_refused(load.since(begun_s))
    assert_answered(load.since(begun_s, ALL))
    read_everything(scene)
    scene.server.wait_health(503, 5)
    scene.drive.heal()
    scene.restart(replug=True)
    scene.goes_on()


def a_flush_fails_once(bench, scene):
    fenced(bench, scene, times=1)


def every_flush_fails(bench, scene):
    fenced(bench, scene, times=None)


def fenced(bench, scene, times):
    scene.drive.tell(cache="volatile")
    tolerate(scene)
    with scene.load() as load:
        load.wait_acknowledged(20)
        scene.drive.fail("flush", skip=bench.random.randrange(10), times=times)
        load.wait(lambda ops: any(op.status >= 500 for op in ops))
        refused_s = next(op.begun_s + op.took_s for op in load.since(0, ALL) if op.status >= 500)
        scene.server.wait_health(503, 5)
        begun_s = time.monotonic()
        bench.took("from the first refusal until red", begun_s - refused_s)
        before = scene.drive.counts()
        load.wait(lambda ops: sum(op.begun_s > begun_s for op in ops) >= 60)
    after = scene.drive.counts()
    assert_all_refused(load.since(begun_s))
    assert_answered(load.since(begun_s, ALL))
    said = scene.server.admin("/readyz")
    if said.status != 503 or "fenced" not in said.text():
        raise Broken(f"/readyz says {said.status} {said.text()!r}")
    # A file system has a mind of its own.
    if scene.place.kind == "device":
        for what in ("write", "flush"):
            if after[what] != before[what]:
                raise Broken(f"{after[what] - before[what]} times {what} after the fence")
    read_everything(scene)
    scene.drive.heal()
    scene.restart(replug=True)
    scene.goes_on()


def an_object_cannot_be_read(bench, scene):
    with scene.load() as load:
        load.wait_acknowledged(120)
    # A fresh server has nothing in memory.
    scene.restart("terminate")
    owner = bench.random.choice(scene.oracles)
    key = bench.random.choice([key for key in owner.expected_now() if owner.states[key][0].size])
    start, size = where(bench, scene, owner.path(key)[1:])
    # One bad block somewhere in the record, not the whole of it; often the first, which a read of
    # the record before it might touch.
    bad = start + 4096 * bench.random.choice((0, bench.random.randrange(size // 4096)))
    physical = scene.place.on_drive(bad)
    scene.drive.fail("read", **{"from": physical, "to": physical + 4096})
    client = scene.server.client()
    for oracle in scene.oracles:
        for other in range(len(oracle.states)):
            if (oracle, other) != (owner, key):
                oracle.check(client, other)
    with contextlib.suppress(Exception):
        answer = client.get(owner.path(key))
        if answer.status < 500 or "no-store" not in answer.headers["cache-control"]:
            raise Broken(f"an unreadable object: {answer.status} {answer.headers}")
    scene.server.wait_health(200, 0)
    owner.put(client, key, owner.new_version())
    check_store(scene.server, scene.oracles)
    scene.drive.heal()
    scene.restart()


def where(bench, scene, key):
    """Offset in the volume and length of the live record of a key."""
    volume = bench.binaries.inspect(scene.place.data)
    newest = bench.binaries.inspect(scene.place.data, "--key", key)["versions"][0]
    start = (1 << 20) + newest["zone"] * volume["zone_size"] + newest["zone_offset"]
    return start, newest["object"]["record_len"]


def tolerate(scene):
    for oracle in scene.oracles:
        oracle.errors = True


def read_everything(scene):
    """Reads do not need a drive that takes writes."""
    client = scene.server.client()
    for oracle in scene.oracles:
        oracle.check_all(client, settle=False)
    client.close()


VARIANTS = (a_write_fails_once, a_flush_fails_once, an_object_cannot_be_read, every_write_fails,
            every_flush_fails)
