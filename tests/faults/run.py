#!/usr/bin/env python3
"""Real faults on the real binary: `cargo xtask faults [--times N] [NAME...]` calls this.

Each fault is a module of `faults/`. Each of its runs ends as promised or is reported with its seed
and its cause; the last line of a fault is `NAME: N runs, N as promised`. Exit code 0: all were as
promised. 1: some were not. 2: could not run, with the line that brings what is missing.
"""

import argparse
import contextlib
import importlib
import os
import queue
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback

from harness import machine
from harness.server import Binaries

MODULES = ("kill9", "powercut", "cut", "io_errors", "vanished", "hung", "two_drives", "hung_p99",
           "scrub", "no_space", "clock", "foreign", "second", "checker")
RAM_BYTES = 3 << 30


class Bench:
    """What a fault gets to work with."""

    def __init__(self, binaries, disk, ram, seed, sample):
        self.binaries, self.disk, self.ram = binaries, disk, ram
        self.seed, self.sample = seed, sample
        self.random = random.Random(seed)
        self.name = ""
        self.longest_s = {}

    def folder(self, undo, on_disk=False):
        """A folder of a run's own, in memory or on the disk of the build."""
        folder = tempfile.mkdtemp(dir=self.disk if on_disk else self.ram)
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def say(self, text):
        print(f"  {self.name}: {text}", flush=True)

    def took(self, what, seconds):
        """The longest of its kind is told at the end."""
        self.longest_s[what] = max(seconds, self.longest_s.get(what, 0.0))

    def complain(self, number, cause):
        self.say(f"run {number}: {type(cause).__name__}: {cause}")
        if os.environ.get("TAPELOOP_TRACE"):
            # With its notes.
            return traceback.print_exception(cause)
        for note in getattr(cause, "__notes__", ()):
            self.say(f"run {number}: {note}")


def arguments(names):
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(names)}")
    parser.add_argument("--times", type=int, help="runs of each fault, instead of its full count")
    parser.add_argument("--sample", action="store_true", help="few runs of each, as in CI")
    parser.add_argument("--seed", type=int, help="as printed by an earlier run")
    parser.add_argument("--jobs", type=int, default=1, help="faults at a time (default 1)")
    parser.add_argument("--binaries", required=True, help="folder of tapeloop and tapectl")
    parser.add_argument("--check", action="store_true", help="only see whether the tools are there")
    given = parser.parse_args()
    if unknown := set(given.names) - set(names):
        parser.error(f"no fault is called {', '.join(sorted(unknown))}; there are: "
                     f"{', '.join(names)}")
    return given


def check_machine(faults):
    """Everything that is missing, in one message."""
    if os.geteuid() != 0:
        raise machine.Missing("mounts and loop devices need root: run it with sudo -E")
    tools = {}
    for fault in faults:
        tools |= fault.NEEDS
    machine.need(tools)
    for device in ("/dev/loop-control", "/dev/fuse"):
        if not os.path.exists(device):
            raise machine.Missing(f"{device} is not there: this kernel cannot run the faults")


def run_fault(bench, fault, times):
    """Whether every run ended as promised."""
    bench.name = fault.NAME
    begun_s = time.monotonic()
    count = good = 0
    todo = fault.runs(bench, times)
    while True:
        try:
            attempt = next(todo, None)
        except Exception as cause:
            # What it still had to do was not done.
            count += 1
            bench.complain(count, cause)
            break
        if attempt is None:
            break
        count += 1
        try:
            attempt()
            good += 1
        except Exception as cause:
            bench.complain(count, cause)
    took_s = time.monotonic() - begun_s
    if bench.longest_s:
        bench.say("the longest: " + ", ".join(
            f"{what} {seconds:.1f} s" for what, seconds in bench.longest_s.items()))
    verified = bench.binaries.verified
    print(f"{fault.NAME}: {count} runs, {good} as promised ({took_s:.0f} s"
          f"{f', {verified} objects verified' if verified else ''})", flush=True)
    return good == count >= times


def run_all(given, benches):
    """`--jobs` faults at a time; whether all went well."""
    waiting, verdicts = queue.SimpleQueue(), []
    for task in benches.items():
        waiting.put(task)

    def work():
        with contextlib.suppress(queue.Empty):
            while True:
                fault, bench = waiting.get_nowait()
                times = given.times or (fault.SAMPLE if given.sample else fault.TIMES)
                verdicts.append(run_fault(bench, fault, times))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(given.jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(verdicts) == len(benches) and all(verdicts)


def main():
    # SIGTERM and SIGINT unwind like any other failure.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(3))
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    all_faults = {}
    for module in MODULES:
        fault = importlib.import_module(f"faults.{module}")
        all_faults[fault.NAME] = fault
    given = arguments(list(all_faults))
    faults = [fault for name, fault in all_faults.items() if not given.names or name in given.names]
    try:
        check_machine(faults)
        if given.check:
            return 0
        machine.own_mounts()
    except machine.Missing as missing:
        print(missing, file=sys.stderr)
        return 2
    seed = given.seed if given.seed is not None else random.SystemRandom().getrandbits(32)
    print(f"seed {seed}", flush=True)
    with contextlib.ExitStack() as undo:
        disk = tempfile.mkdtemp(prefix="tapeloop-faults-", dir=given.binaries)
        undo.callback(shutil.rmtree, disk, ignore_errors=True)
        ram = os.path.join(disk, "ram")
        os.mkdir(ram)
        machine.mount("tmpfs", ram, "tmpfs", 0, f"size={RAM_BYTES}")
        undo.callback(machine.umount, ram)
        folder = os.path.abspath(given.binaries)
        benches = {fault: Bench(Binaries(folder), disk, ram, f"{seed} {fault.NAME}", given.sample)
                   for fault in faults}
        return 0 if run_all(given, benches) else 1


if __name__ == "__main__":
    sys.exit(main())
