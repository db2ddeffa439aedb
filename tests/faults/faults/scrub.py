"""scrub: bits flip, blocks cannot be read any more, or the drive hangs under a scrub.

P4: the scrub names exactly the objects that are damaged, whatever damaged them, and healed they are
named no more. P8: a drive that hangs pauses the scrub of its own volume, keeps no other volume from
its cycle and the process not from ending.
"""

import contextlib
import json
import os
import time

from harness.client import Client
from harness.drive import Place
from harness.oracle import Broken, Version, check_store
from harness.scene import Scene

from .io_errors import where

NAME = "scrub"
TIMES, SAMPLE = 60, 3
NEEDS = {"mkfs.ext4": "e2fsprogs", "mkfs.xfs": "xfsprogs"}

# A cycle over a small store, on a busy machine.
CYCLE_MAX_S = 60.0
# From a read that does not come back to a scrub that says so.
PAUSED_MAX_S = 15.0
# SIGTERM while a drive hangs.
END_MAX_S = 20.0


def runs(bench, times):
    for turn in range(times):
        variant = VARIANTS[turn % len(VARIANTS)]
        kind = Place.KINDS[(turn + turn // len(VARIANTS)) % 3]
        yield lambda variant=variant, kind=kind: one(bench, kind, variant)


def one(bench, kind, variant):
    kinds = (kind, "device") if variant is one_drive_of_two_hangs else (kind,)
    with contextlib.ExitStack() as undo:
        scene = Scene(bench, undo, *kinds)
        scene.start()
        with scene.load() as load:
            load.wait_acknowledged(150)
        fill_both(bench, scene)
        scene.restart()
        try:
            variant(bench, scene)
        except Broken as cause:
            raise Broken(f"{variant.__name__} on {kinds}: {cause}") from cause


def fill_both(bench, scene):
    """More than a zone takes: the next one is on the other drive, if there is one."""
    if len(scene.drives) > 1:
        client = scene.server.client()
        for key in range(16):
            version = Version(bench.random.getrandbits(120), 700_000)
            scene.oracles[0].put(client, key, version)
        client.close()


def bits_flip_and_blocks_die(bench, scene):
    chosen = [(oracle, key) for oracle in scene.oracles for key in oracle.expected_now()
              if oracle.states[key][0].size]
    chosen = bench.random.sample(chosen, 10)
    flips, dead = [], set()
    for turn, (oracle, key) in enumerate(chosen):
        start, size = where(bench, scene, oracle.path(key)[1:])
        if turn % 2:
            flips.append((scene.place.on_drive(start + bench.random.randrange(size)),
                          1 << bench.random.randrange(8)))
        else:
            bad = scene.place.on_drive(start + 4096 * bench.random.randrange(size // 4096))
            scene.drive.fail("read", **{"from": bad, "to": bad + 4096})
            dead.add(oracle.path(key)[1:])
    flip(scene, flips)
    report = cycle(scene)
    named = sorted(one["key"] for one in report["damage"])
    expected = sorted(oracle.path(key)[1:] for oracle, key in chosen)
    if named != expected or report["damage_count"] != len(expected):
        raise Broken(f"the scrub names {report['damage']}, damaged are {expected}")
    unread = {one["key"] for one in report["damage"] if "cannot be read" in one["reason"]}
    if unread != dead:
        raise Broken(f"cannot be read: {dead}, the scrub says so of {unread}")
    admin = "http://{}:{}".format(*scene.server.admin_addr)
    said = bench.binaries.ctl("scrub", "--admin", admin, ok=(1,))
    if not all(f"key {key}:" in said for key in expected):
        raise Broken(f"tapectl scrub says {said}")
    flip(scene, flips)
    scene.drive.heal()
    if "\nclean\n" not in (said := bench.binaries.ctl("scrub", "--now", "--admin", admin)):
        raise Broken(f"healed, tapectl scrub --now says {said}")
    check_store(scene.server, scene.oracles)


def flip(scene, flips):
    backing = os.open(scene.drive.backing, os.O_RDWR)
    for offset, bit in flips:
        byte = os.pread(backing, 1, offset)
        os.pwrite(backing, bytes([byte[0] ^ bit]), offset)
    os.close(backing)


def the_drive_hangs(bench, scene):
    if scene.place.kind == "device" and bench.random.random() < 0.5:
        scene.drive.stop()
    else:
        # A file system whose journal hangs holds up whoever writes, a closing store for one.
        for _, physical, size in scene.place.extents():
            scene.drive.fail("read", hold=True, **{"from": physical, "to": physical + size})
    begin(scene)
    wait(scene, PAUSED_MAX_S, "its pause", lambda volume: volume["state"] == "paused")
    begun_s = time.monotonic()
    if (code := scene.server.terminate(END_MAX_S)) != 0:
        raise Broken(f"SIGTERM: exit code {code}: {scene.server.complaints()[-1000:]}")
    bench.took("SIGTERM on a hung drive", time.monotonic() - begun_s)
    scene.release()
    scene.server = None
    scene.restart()
    if (report := cycle(scene))["damage_count"]:
        raise Broken(f"after the drive hung the scrub names {report['damage']}")


def one_drive_of_two_hangs(_, scene):
    scene.drives[1].stop()
    numbers = begin(scene)
    done = lambda volume: volume["last"] and volume["last"]["cycle"] >= numbers[volume["volume"]]
    wait(scene, CYCLE_MAX_S, "the cycle of the good volume", done, only=0)
    wait(scene, PAUSED_MAX_S, "the pause of the bad one",
         lambda volume: volume["state"] == "paused" and not done(volume), only=1)
    scene.drives[1].resume()
    wait(scene, CYCLE_MAX_S, "the end of both cycles", done)
    if (report := ask(scene, "GET"))["damage_count"]:
        raise Broken(f"a drive that hung for a while: the scrub names {report['damage']}")
    check_store(scene.server, scene.oracles)


def ask(scene, method):
    client = Client(scene.server.admin_addr, 5.0)
    try:
        answer = client.ask(method, "/api/v1/scrub", "Content-Length: 0\r\n")
    finally:
        client.close()
    if answer.status not in (200, 202):
        raise Broken(f"{method} /api/v1/scrub: {answer.status} {answer.text()}")
    return json.loads(answer.body)


def begin(scene):
    """Begins a cycle; its number, by volume."""
    return {one["volume"]: one["cycle"] for one in ask(scene, "POST")["cycles"]}


def wait(scene, patience_s, what, wanted, only=None):
    until_s = time.monotonic() + patience_s
    while True:
        report = ask(scene, "GET")
        volumes = [one for one in report["volumes"] if only in (None, one["volume"])]
        if volumes and all(wanted(one) for one in volumes):
            return report
        if time.monotonic() > until_s:
            raise Broken(f"not within {patience_s} s: {what}: {report['volumes']}")
        time.sleep(0.05)


def cycle(scene):
    """A whole cycle; the report after it."""
    numbers = begin(scene)
    return wait(scene, CYCLE_MAX_S, "the end of the cycle",
                lambda one: one["last"] and one["last"]["cycle"] >= numbers[one["volume"]])


VARIANTS = (bits_flip_and_blocks_die, the_drive_hangs, one_drive_of_two_hangs)
