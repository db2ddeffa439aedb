"""What the outside world may expect: the acknowledged state of every key, and what is in doubt.

Invariants:
- A key belongs to one writer, which has at most one operation under way.
- From the first byte sent until the answer an operation is in doubt: the key may be as before or as
  asked. A 2xx settles it as asked. Any other end leaves it in doubt until a restart shows one.
- Bytes follow from a version's seed, so every byte that is read back can be checked.
"""

import hashlib
import random
import time

from .client import Gone

# Keys of one writer. Few enough that most PUTs are overwrites.
KEYS = 40
# How inexactly an expiry may be kept from outside: stored times are whole seconds, rounded up.
SLACK_S = 2.5


class Broken(Exception):
    """A promise was broken."""


class Version:
    """An object, known by what its bytes follow from."""

    def __init__(self, seed, size, ttl_s=None):
        self.seed = seed
        self.size = size
        self.ttl_s = ttl_s
        self.begun_s = self.ended_s = time.monotonic()

    def bytes(self):
        return hashlib.shake_128(self.seed.to_bytes(16, "little")).digest(self.size)

    def must_be_there(self, now_s):
        return self.ttl_s is None or now_s < self.begun_s + self.ttl_s - SLACK_S

    def may_be_there(self, now_s):
        return self.ttl_s is None or now_s < self.ended_s + self.ttl_s + SLACK_S

    def __repr__(self):
        return f"<{self.size} bytes, seed {self.seed:x}>"


class Oracle:
    """The keys of one writer. `None` stands for a key that is not there."""

    def __init__(self, writer, seed, evicts=False, small=False):
        self.writer = writer
        self.random = random.Random(seed)
        self.evicts = evicts
        self.small = small
        # Each key's possible states; more than one is doubt.
        self.states = [[None] for _ in range(KEYS)]
        # While a fault is in force: a 5xx to a GET is honest.
        self.errors = False
        # Whether the writer also reads. Acknowledged early, an object may not be seen at once.
        self.reads = True
        self.acknowledged = 0
        # Objects compared byte by byte with what was put.
        self.verified = 0

    def path(self, key):
        return f"/faults/w{self.writer}/key-{key}.m4s"

    def paths(self):
        return [self.path(key) for key in range(KEYS)]

    def new_version(self):
        roll, upto = self.random.randrange(16), self.random.randrange
        if roll == 0:
            size = 0
        elif roll < 8:
            size = upto(4_000)
        elif roll < 14 or self.small:
            size = upto(60_000)
        elif roll == 14:
            size = upto(400_000)
        else:
            size = 65_536 * upto(4)
        return Version(self.random.getrandbits(120), size)

    def step(self, client):
        """One operation at random: the kind, the status and the seconds it took."""
        key, roll = self.random.randrange(KEYS), self.random.randrange(8)
        if roll == 0:
            return self.delete(client, key)
        if roll < 3 and self.reads:
            begun_s = time.monotonic()
            status = self.check(client, key, errors=self.errors)
            return "GET", status, time.monotonic() - begun_s
        return self.put(client, key, self.new_version(), chunked=roll == 3)

    def put(self, client, key, version, chunked=False):
        query = f"?ttl_seconds={version.ttl_s}" if version.ttl_s else ""
        version.begun_s = time.monotonic()
        send = lambda: client.put(self.path(key) + query, version.bytes(), chunked)
        return self._write("PUT", key, version, send)

    def delete(self, client, key):
        return self._write("DELETE", key, None, lambda: client.delete(self.path(key)))

    def _write(self, kind, key, asked, send):
        before = self.states[key]
        self.states[key] = before + [asked]
        begun_s = time.monotonic()
        answer = send()
        took_s = time.monotonic() - begun_s
        if kind == "DELETE" and answer.status == 404:
            if None not in before and not self.evicts and self._all_alive(before):
                raise Broken(f"DELETE {self.path(key)}: 404, and {before} was acknowledged")
            self.states[key] = [None]
        elif answer.status in (201, 204):
            self.states[key] = [asked]
            self.acknowledged += 1
            if asked is not None:
                asked.ended_s = time.monotonic()
        elif answer.status < 500:
            raise Broken(f"{kind} {self.path(key)}: {answer.status} {answer.text()}")
        return kind, answer.status, took_s

    @staticmethod
    def _all_alive(states):
        now_s = time.monotonic()
        return all(state is None or state.must_be_there(now_s) for state in states)

    def check(self, client, key, settle=False, errors=False):
        """Reads a key that nothing is under way for. `settle`: after a restart what is seen is so
        for good. `errors`: an honest 5xx is no lie."""
        path, states = self.path(key), self.states[key]
        answer = client.get(path)
        seen = self._judge(states, answer)
        if seen is _WRONG:
            if errors and answer.status >= 500:
                return answer.status
            said = f" ({answer.text()[:200]})" if answer.status >= 400 else ""
            raise Broken(f"{path}: {answer.status} with {len(answer.body)} bytes{said}, "
                         f"none of {states}")
        if settle or seen is None and len(states) == 1:
            self.states[key] = [seen]
        self.verified += seen is not None
        return answer.status

    def _judge(self, states, answer):
        now_s = time.monotonic()
        if answer.status == 404:
            gone = self.evicts or None in states or not self._all_alive(states)
            return None if gone else _WRONG
        if answer.status != 200:
            return _WRONG
        for state in reversed(states):
            if state is None or len(answer.body) != state.size or not state.may_be_there(now_s):
                continue
            if answer.body == state.bytes():
                return state
        return _WRONG

    def check_all(self, client, settle=True, errors=False):
        """Every key; the number that answered with an error, when that is allowed."""
        failed = 0
        for key in range(KEYS):
            failed += self.check(client, key, settle, errors) >= 500
        return failed

    def in_doubt(self):
        return sum(len(states) > 1 for states in self.states)

    def expected_now(self):
        """Keys that must be there."""
        return [key for key, states in enumerate(self.states) if None not in states]


_WRONG = object()


def check_store(server, oracles, errors=False):
    """After a restart: reads every key of every writer."""
    failed, before = 0, sum(oracle.verified for oracle in oracles)
    for oracle in oracles:
        client = server.client()
        try:
            failed += oracle.check_all(client, errors=errors)
        except Gone as cause:
            raise Broken(f"no answer to a read after the restart: {cause}") from cause
        finally:
            client.close()
    server.binaries.verified += sum(oracle.verified for oracle in oracles) - before
    return failed
