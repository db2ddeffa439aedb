"""two-drives: a store of two, one of which fails, hangs, is gone, or is missing at the start.

Only its volume is fenced: its objects answer a clear error within 5 s (or are served, where it can
be read), those of the other drive are served, and no PUT is refused, because what was under way to
the one drive is placed again on the other. `healthz` is red, `readyz` stays 200 and says so, and so
do the metrics. Everything acknowledged is there when both are back. A store that lacks a drive at
the start is refused unless told `--degraded`.
"""

import contextlib
import time

from harness.oracle import Broken, Oracle, check_store
from harness.scene import ANSWER_MAX_S, Scene, assert_answered, assert_no_refusal
from harness.server import Refused

NAME = "two-drives"
TIMES, SAMPLE = 100, 4
NEEDS = {"mkfs.ext4": "e2fsprogs", "mkfs.xfs": "xfsprogs"}

PLACES = (("device", "device"), ("ext4", "xfs"), ("xfs", "device"), ("ext4", "ext4"))
ZONES_MAX = 16
ALL = ("PUT", "DELETE", "GET", "GONE")


def runs(bench, times):
    for turn in range(times):
        variant = VARIANTS[turn % len(VARIANTS)]
        kinds = PLACES[(turn + turn // len(VARIANTS)) % len(PLACES)]
        yield lambda variant=variant, kinds=kinds, bad=turn % 2: one(bench, kinds, variant, bad)


def one(bench, kinds, variant, bad):
    with contextlib.ExitStack() as undo:
        scene = Scene(bench, undo, *kinds)
        scene.start()
        try:
            variant(bench, scene, bad)
        except Broken as cause:
            raise Broken(f"{variant.__name__}, drive {bad} of {kinds}: {cause}") from cause


def its_flush_fails(bench, scene, bad):
    fill(bench, scene)
    scene.drives[bad].tell(cache="volatile")
    with scene.load() as load:
        scene.drives[bad].fail("flush", skip=bench.random.randrange(6))
        red_s = wait_red(scene, bad, load)
        after_the_fault(scene, load, red_s)
    # It can be read, so nothing is missing.
    check_store(scene.server, scene.oracles)
    both_are_back(scene)


def its_writes_fail(bench, scene, bad):
    fill(bench, scene)
    with scene.load() as load:
        scene.drives[bad].fail("write", skip=bench.random.randrange(20))
        red_s = wait_red(scene, bad, load)
        after_the_fault(scene, load, red_s)
    check_store(scene.server, scene.oracles)
    both_are_back(scene)


def it_vanishes(bench, scene, bad):
    cold, homes = fill(bench, scene)
    with scene.load(scene.oracles[1:]) as load:
        load.wait_acknowledged(1 + bench.random.randrange(20))
        scene.drives[bad].vanish()
        red_s = wait_red(scene, bad, load)
        after_the_fault(scene, load, red_s)
    read_both(scene, cold, homes, bad)
    both_are_back(scene)


def it_hangs(bench, scene, bad):
    cold, homes = fill(bench, scene)
    with scene.load(scene.oracles[1:]) as load:
        load.wait_acknowledged(1 + bench.random.randrange(20))
        scene.drives[bad].stop()
        red_s = wait_red(scene, bad, load)
        after_the_fault(scene, load, red_s)
    read_both(scene, cold, homes, bad)
    scene.drives[bad].resume()
    both_are_back(scene)


def it_is_missing_at_the_start(bench, scene, bad):
    fill(bench, scene)
    scene.server.kill()
    scene.server = None
    good = scene.data[1 - bad]
    try:
        scene.start([good])
        raise Broken("half a store was served without --degraded")
    except Refused as refused:
        last = refused.said.strip().splitlines()[-1]
        if refused.code == 0 or "missing" not in last:
            raise Broken(f"refused with code {refused.code} and {last!r}") from refused
    scene.start([good], ["--degraded"])
    # What was on the missing drive is given up: absent, or an older version that was not on it.
    versions = {oracle: [list(states) for states in oracle.states] for oracle in scene.oracles}
    for oracle in scene.oracles:
        oracle.states = [[None] for _ in oracle.states]
    fresh = Oracle(9, bench.random.getrandbits(60))
    client = scene.server.client()
    served = 0
    for oracle in scene.oracles:
        for key, states in enumerate(versions[oracle]):
            answer = client.get(oracle.path(key))
            served += answer.status == 200
            if states != [None] and answer.status not in (200, 404):
                raise Broken(f"GET {oracle.path(key)}: {answer.status} {answer.text()}")
    if not served:
        raise Broken("nothing of the volume that is there is served")
    if not (ready := scene.server.admin("/readyz")).text().startswith("degraded"):
        raise Broken(f"/readyz says {ready.status} {ready.text()!r}")
    scene.server.wait_health(503, 0)
    for key in range(20):
        if fresh.put(client, key, fresh.new_version())[1] not in (201, 204):
            raise Broken("a PUT was refused")
    scene.server.kill()
    scene.server = None
    scene.start()
    check_store(scene.server, [fresh])
    if (ready := scene.server.admin("/readyz")).status != 200:
        raise Broken(f"with both drives /readyz says {ready.status} {ready.text()!r}")
    scene.server.wait_health(200, 0)


def fill(bench, scene):
    """Objects on both drives that no memory holds. Those of the first oracle are left alone from
    now on: it comes back with the drive of each key. And from now on an error is an honest answer
    to a GET."""
    cold = scene.oracles[0]
    for _ in range(ZONES_MAX):
        with scene.load() as load:
            load.wait_acknowledged(150)
        keys = [key for key in cold.expected_now() if cold.states[key][0].size]
        homes = {key: home(bench, scene, cold.path(key)) for key in keys}
        if min(list(homes.values()).count(drive) for drive in (0, 1)) >= 3:
            break
    else:
        raise Broken(f"the objects do not lie on both drives: {homes}")
    scene.restart()
    for oracle in scene.oracles:
        oracle.errors = True
    return cold, homes


def home(bench, scene, path):
    """The drive that an object lies on: zones are numbered through the volumes."""
    newest = bench.binaries.inspect(scene.data, "--key", path[1:])["versions"][0]
    stats = scene.server.metric("zones")
    return newest["zone"] // (int(stats) // len(scene.drives))


def wait_red(scene, bad, load):
    """Until the fence; when that was."""
    fault_s = time.monotonic()
    scene.server.wait_health(503, 10 if load.running else 0)
    name = f'volume_fenced{{volume="{bad}"}}'
    while scene.server.metric(name) != 1:
        if time.monotonic() > fault_s + 10:
            raise Broken(f"tapeloop_{name} is not 1")
        time.sleep(0.02)
    if scene.server.metric(f'volume_fenced{{volume="{1 - bad}"}}') != 0:
        raise Broken("the other volume is fenced, too")
    ready = scene.server.admin("/readyz")
    if ready.status != 200 or not ready.text().startswith("degraded"):
        raise Broken(f"/readyz says {ready.status} {ready.text()!r}")
    return time.monotonic()


def after_the_fault(scene, load, red_s):
    """Ingest goes on, on the other drive, and none of it was refused before either."""
    load.wait(lambda ops: sum(op.begun_s > red_s and op.kind == "PUT" for op in ops) >= 40)
    load.stop()
    assert_no_refusal(load.since(0))
    scene.bench.took("an answer", assert_answered(load.since(0, ALL)))
    scene.server.assert_running()


def read_both(scene, cold, homes, bad):
    """Objects of the good drive are served, those of the other are a clear error in time."""
    client = scene.server.client()
    for key, where in homes.items():
        begun_s = time.monotonic()
        status = cold.check(client, key, errors=where == bad)
        took_s = time.monotonic() - begun_s
        if where == bad and status < 500 or took_s > ANSWER_MAX_S:
            raise Broken(f"GET {cold.path(key)} on drive {where}: {status} after {took_s:.1f} s")
        which = "bad" if where == bad else "good"
        scene.bench.took(f"a read from the {which} drive", took_s)


def both_are_back(scene):
    for oracle in scene.oracles:
        oracle.errors = False
    scene.release()
    scene.restart(replug=True)
    scene.server.wait_health(200, 0)
    scene.goes_on()
    scene.fsck()


VARIANTS = (it_hangs, its_flush_fails, it_vanishes, it_is_missing_at_the_start, its_writes_fail)
