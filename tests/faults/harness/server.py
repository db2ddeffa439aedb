"""The real `tapeloop` on a store that outlives it, and `tapectl` beside it."""

import json
import os
import re
import signal
import subprocess
import threading
import time

from .client import Client, Gone
from .machine import DYING_WITH_US
from .oracle import Broken

# A start that takes longer has failed, on any machine.
PATIENCE_S = 60.0


class Refused(Exception):
    """tapeloop ended instead of serving."""

    def __init__(self, code, said):
        super().__init__(f"exit code {code}: {said}")
        self.code = code
        self.said = said


class Binaries:
    """What is tested. `verified` counts the objects that came out of it whole after a restart."""

    def __init__(self, folder):
        self.verified = 0
        self.tapeloop = os.path.join(folder, "tapeloop")
        self.tapectl = os.path.join(folder, "tapectl")
        for path in (self.tapeloop, self.tapectl):
            if not os.access(path, os.X_OK):
                raise SystemExit(f"{path} is not there: cargo build --release builds it")

    def ctl(self, *args, ok=(0,), patience_s=120):
        """Runs tapectl; its stdout."""
        done = subprocess.run([self.tapectl, *map(str, args)], capture_output=True, text=True,
                              timeout=patience_s, check=False, stdin=subprocess.DEVNULL)
        if done.returncode not in ok:
            raise Broken(f"tapectl {' '.join(map(str, args))}: exit code {done.returncode}: "
                         f"{done.stdout[-1500:]}{done.stderr[-500:]}")
        return done.stdout

    def format(self, paths, capacity):
        self.ctl("format", *each(paths), "--capacity", capacity, "--yes")

    def fsck(self, paths):
        self.ctl("fsck", *each(paths))

    def inspect(self, paths, *args, ok=(0,)):
        return json.loads(self.ctl("inspect", *each(paths), "--json", *args, ok=ok))


def each(paths):
    """One path, or those of several drives."""
    return [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)


class Server:
    """A running server. It dies with the runner."""

    def __init__(self, binaries, data, log_path, capacity="64MiB", ram="64MiB", args=(),
                 env=None, wrap=()):
        self.binaries, self.log_path = binaries, log_path
        begun_s = time.monotonic()
        command = [*DYING_WITH_US, *wrap, binaries.tapeloop, "--listen", "127.0.0.1:0",
                   "--admin-listen", "127.0.0.1:0", "--ram", ram, "--threads", "2",
                   "--capacity", capacity, *args]
        for volume in each(data):
            command += ["--data", str(volume)]
        with open(log_path, "ab") as log:
            self.log_start = log.tell()
            self.child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                env={**os.environ, "NO_COLOR": "1", **(env or {})})
        self.addrs = []
        # What it prints at start.
        self.banner = []
        self.told = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self._wait_for_addresses()
        self.data_addr, self.admin_addr = self.addrs[:2]
        self.started_s = time.monotonic() - begun_s

    def _read(self):
        """The pipe is read to its end, so that the server never blocks on it."""
        for line in self.child.stdout:
            self.banner.append(line.decode("utf-8", "replace"))
            found = re.search(rb"^(?:data|admin) plane +http://([0-9.]+):(\d+)", line)
            if found:
                with self.told:
                    self.addrs.append((found[1].decode(), int(found[2])))
                    self.told.notify_all()
        with self.told:
            self.addrs.append(None)
            self.told.notify_all()

    def _wait_for_addresses(self):
        with self.told:
            self.told.wait_for(lambda: len(self.addrs) >= 2 or None in self.addrs, PATIENCE_S)
        if None in self.addrs:
            raise Refused(self.child.wait(PATIENCE_S), self.complaints())
        if len(self.addrs) < 2:
            self.kill()
            raise Broken(f"tapeloop does not start: {self.complaints()}")

    def complaints(self):
        """What this server has written to stderr."""
        with open(self.log_path, "rb") as log:
            log.seek(self.log_start)
            return log.read().decode("utf-8", "replace")

    def client(self, patience_s=30.0):
        return Client(self.data_addr, patience_s)

    def admin(self, path):
        """An answer of the admin plane; it must come whatever the drive does."""
        client = Client(self.admin_addr, 5.0)
        try:
            return client.get(path)
        except Gone as cause:
            raise Broken(f"the admin plane does not answer: {cause}") from cause
        finally:
            client.close()

    def metric(self, name):
        """The value of `tapeloop_NAME`, labels included in the name if there are any."""
        for line in self.admin("/metrics").text().splitlines():
            if line.startswith(f"tapeloop_{name} "):
                return float(line.rsplit(" ", 1)[1])
        raise Broken(f"no metric tapeloop_{name}")

    def wait_health(self, status, patience_s, path="/healthz"):
        """Until a health page answers so; its text."""
        until_s = time.monotonic() + patience_s
        while True:
            answer = self.admin(path)
            if answer.status == status:
                return answer.text()
            if time.monotonic() > until_s:
                raise Broken(f"{path} still says {answer.status} {answer.text()!r} after "
                             f"{patience_s} s, not {status}")
            time.sleep(0.02)

    def is_running(self):
        return self.child.poll() is None

    def assert_running(self):
        if not self.is_running():
            raise Broken(f"tapeloop ended by itself, code {self.child.returncode}: "
                         f"{self.complaints()[-2000:]}")

    def kill(self):
        self.child.kill()
        self.reap()

    def reap(self, patience_s=PATIENCE_S):
        code = self.child.wait(patience_s)
        self.reader.join(patience_s)
        return code

    def terminate(self, patience_s=30.0):
        """SIGTERM; the exit code."""
        self.child.send_signal(signal.SIGTERM)
        try:
            return self.reap(patience_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Broken(f"SIGTERM has not ended it within {patience_s} s") from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.is_running():
            self.kill()
