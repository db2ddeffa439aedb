"""The log of device-mapper's log-writes target: what was written to a drive, in the order in which
it became durable. Format: Documentation/admin-guide/device-mapper/log-writes.rst.

The target logs a write when a flush that covers it has completed, and a FUA write at its
completion. So the entries before a flush are what that flush made durable, and the state after
replaying up to an entry is a drive that kept nothing it did not have to keep. A mark stands where
it was made: all that was durable then stands before it.
"""

import struct
from collections import namedtuple

MAGIC, VERSION = 0x6A736677736872, 1
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8

# `at` is the offset of the data in the log; `mark` the text of a mark.
Entry = namedtuple("Entry", "flags offset size at mark")


def read_log(path):
    """All entries of a log."""
    with open(path, "rb") as log:
        magic, version, count, sector = struct.unpack("<QQQI", log.read(28))
        if magic != MAGIC or version != VERSION:
            raise ValueError(f"{path}: not a log of log-writes: {magic:x}, version {version}")
        entries, at = [], sector
        for _ in range(count):
            log.seek(at)
            block = log.read(sector)
            start, sectors, flags, size = struct.unpack_from("<QQQQ", block)
            at += sector
            mark = None
            if flags & MARK:
                mark = block[32:32 + size].rstrip(b"\0").decode()
            entries.append(Entry(flags, start * sector, sectors * sector, at, mark))
            if not flags & DISCARD:
                at += sectors * sector
        return entries


class Replay:
    """Applies a log to an image, step by step."""

    def __init__(self, log_path, image_path):
        self.log = open(log_path, "rb")
        self.image = open(image_path, "r+b", buffering=0)

    def apply(self, entry, start=0, end=None):
        """Writes an entry, or a part of it, onto the image."""
        write_entry(self.log, self.image, entry, start, end)

    def close(self):
        self.log.close()
        self.image.close()


def write_entry(log, image, entry, start=0, end=None):
    end = entry.size if end is None else end
    if entry.flags & MARK or end <= start:
        return
    image.seek(entry.offset + start)
    if entry.flags & DISCARD:
        image.write(bytes(end - start))
        return
    log.seek(entry.at + start)
    image.write(log.read(end - start))


def crash_points(entries):
    """Where the power may go: behind every entry that made something durable."""
    return [index + 1 for index, entry in enumerate(entries) if entry.flags & (FLUSH | FUA)]


def unflushed(entries, point):
    """Writes that may or may not be on the drive when the power goes between `point` and the next
    flush or FUA write: the entries from `point` up to that one, and itself if it is a write."""
    window = []
    for entry in entries[point:]:
        if entry.flags & MARK:
            continue
        if entry.size:
            window.append(entry)
        if entry.flags & (FLUSH | FUA):
            break
    return window
