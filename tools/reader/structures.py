"""The structures of the disk format, decoded as docs/disk-format.md describes them.

Each `parse_*` takes bytes and returns a dict, or raises `Refused` with one line of cause. Nothing
here guesses: a reserved byte that is not zero refuses the whole structure. No I/O.
"""

import struct

from checksums import crc32, siphash128

BLOCK = 4096
CHUNK = 65536
JOURNAL_AT, JOURNAL_LEN = 65536, 983040
ZONES_AT = 1048576
FORMAT_VERSION = 1
KINDS = {1: "put", 2: "tombstone", 3: "carry", 4: "void"}
FIXED_LEN = 192
VOLUME_COUNT_MAX = 16
GROWING_MAX = (1 << 62) - 1


class Refused(Exception):
    """The structure does not count, and why. `kind` is `blank` for zeros, else `foreign`,
    `newer`, `damaged` or `elsewhere` (valid, but of another place, lap or store)."""

    def __init__(self, kind, why):
        super().__init__(why)
        self.kind = kind


def round_up(value, unit):
    return -(-value // unit) * unit


def is_zero(data):
    return not any(data)


def _need_zero(data, name):
    if not is_zero(data):
        raise Refused("damaged", "%s is not zero" % name)


def need_growing(structure, names):
    """Numbers that only grow never get there."""
    for name in names:
        if structure[name] > GROWING_MAX:
            raise Refused("damaged", "%s %d is beyond all bounds" % (name, structure[name]))


class Fields:
    """Little-endian fields of a buffer, by offset."""

    def __init__(self, data):
        self.data = data

    def u8(self, at):
        return self.data[at]

    def u16(self, at):
        return struct.unpack_from("<H", self.data, at)[0]

    def u32(self, at):
        return struct.unpack_from("<I", self.data, at)[0]

    def u64(self, at):
        return struct.unpack_from("<Q", self.data, at)[0]

    def raw(self, at, length):
        return bytes(self.data[at : at + length])


def salted(store_id, data):
    return crc32(data, crc32(store_id))


def _check_block(block, magic, crc, name):
    """The head and tail every one-block structure shares."""
    if is_zero(block):
        raise Refused("blank", "%s was never written" % name)
    if bytes(block[: len(magic)]) != magic:
        raise Refused("foreign", "%s has no magic" % name)
    stored = Fields(block).u32(BLOCK - 4)
    if stored != crc:
        why = "%s checksum is %#010x, its bytes give %#010x"
        raise Refused("damaged", why % (name, stored, crc))


# ---- Volume header and checkpoint ---------------------------------------------------------------


def parse_volume_header(block):
    f = Fields(block)
    if f.raw(0, 8) != b"TAPELOOP":
        raise Refused("blank" if is_zero(block) else "foreign", "no tapeloop volume header")
    if f.u32(8) > FORMAT_VERSION:
        raise Refused("newer", "format version %d is newer than %d" % (f.u32(8), FORMAT_VERSION))
    _check_block(block, b"TAPELOOP", crc32(block[: BLOCK - 4]), "volume header")
    header = {
        "store_id": f.raw(16, 16),
        "volume_index": f.u16(32),
        "volume_count": f.u16(34),
        "zone_count": f.u32(36),
        "zone_size": f.u64(40),
        "created_wall_ms": f.u64(48),
    }
    if f.u32(8) != FORMAT_VERSION or f.u32(12) != BLOCK:
        raise Refused("damaged", "volume header version or length is wrong")
    _need_zero(block[56 : BLOCK - 4], "volume header's reserved tail")
    size, count = header["zone_size"], header["zone_count"]
    if size & (size - 1) or not 65536 <= size <= 256 << 20 or not 4 <= count <= 4194304:
        raise Refused("damaged", "zone size %d or zone count %d is impossible" % (size, count))
    if not header["volume_index"] < header["volume_count"] <= VOLUME_COUNT_MAX:
        raise Refused("damaged", "volume index or count is impossible")
    return header


def parse_checkpoint(block, store_id, slot):
    _check_block(block, b"TLCHECKP", salted(store_id, block[: BLOCK - 4]), "checkpoint")
    f = Fields(block)
    if f.raw(8, 16) != store_id:
        raise Refused("elsewhere", "checkpoint is of another store")
    names = ("sequence", "incarnation")
    point = {name: f.u64(24 + 8 * i) for i, name in enumerate(names)}
    point["boot_id"] = f.raw(40, 16)
    names = ("boottime_ms", "store_ms", "wall_ms", "durable_lsn", "next_lsn", "next_base_position")
    point.update({name: f.u64(56 + 8 * i) for i, name in enumerate(names)})
    count = f.u16(104)
    if point["sequence"] < 1 or point["next_lsn"] < 1 or count > 64:
        raise Refused("damaged", "checkpoint has impossible numbers")
    if point["durable_lsn"] >= point["next_lsn"] or point["next_base_position"] % BLOCK:
        raise Refused("damaged", "checkpoint contradicts itself")
    if point["sequence"] % 2 != slot:
        raise Refused("elsewhere", "checkpoint %d is in slot %d" % (point["sequence"], slot))
    _need_zero(block[106:112], "checkpoint's reserved field")
    _need_zero(block[1776 : BLOCK - 4], "checkpoint's reserved tail")
    need_growing(point, ("sequence", "incarnation", "boottime_ms", "store_ms", "wall_ms"))
    need_growing(point, ("durable_lsn", "next_lsn", "next_base_position"))
    point["given_up"] = [f.u64(1648 + 8 * i) for i in range(VOLUME_COUNT_MAX)]
    if any(base % BLOCK for base in point["given_up"]):
        raise Refused("damaged", "checkpoint gives up a position that is no place")
    point["open_zones"] = {}
    for i in range(64):
        at = 112 + 24 * i
        if i >= count:
            _need_zero(block[at : at + 24], "unused open zone mark")
            continue
        lap, durable_len = f.u64(at + 8), f.u64(at + 16)
        _need_zero(block[at + 4 : at + 8], "open zone mark's reserved field")
        if lap < 1 or durable_len % BLOCK:
            raise Refused("damaged", "open zone mark has impossible numbers")
        point["open_zones"][(f.u32(at), lap)] = durable_len
    return point


# ---- Zone header and footer ---------------------------------------------------------------------


def parse_zone_header(block, store_id, zone):
    _check_block(block, b"TLZONEHD", salted(store_id, block[: BLOCK - 4]), "zone header")
    f = Fields(block)
    _need_zero(block[29:32], "zone header's reserved field")
    _need_zero(block[72 : BLOCK - 4], "zone header's reserved tail")
    if f.raw(8, 16) != store_id or f.u32(24) != zone:
        raise Refused("elsewhere", "zone header is of zone %d" % f.u32(24))
    header = {
        "zone": zone,
        "class_bucket": f.u8(28),
        "class_group": f.u64(32),
        "lap": f.u64(40),
        "base_position": f.u64(48),
        "opened_store_ms": f.u64(56),
        "incarnation": f.u64(64),
    }
    need_growing(header, ("lap", "base_position", "opened_store_ms", "incarnation"))
    if header["lap"] < 1 or header["class_bucket"] > 31 or header["base_position"] % BLOCK:
        raise Refused("damaged", "zone header has impossible numbers")
    return header


_TRAILER_U64 = {"class_group": 32, "lap": 40, "base_position": 48, "opened_store_ms": 64}
_TRAILER_U64.update({"sealed_store_ms": 72, "used_len": 80, "lsn_first": 88, "lsn_last": 96})
_TRAILER_U64["expires_ms_max"] = 104
_TRAILER_U32 = ("entry_count", "kill_count", "keys_len", "entries_offset", "kills_offset")
_TRAILER_U32 += ("keys_offset", "entries_crc", "kills_crc", "keys_crc")


def parse_trailer(block, store_id, zone, zone_size):
    _check_block(block, b"TLFOOTER", salted(store_id, block[: BLOCK - 4]), "footer trailer")
    f = Fields(block)
    _need_zero(block[29:32], "trailer's reserved field")
    _need_zero(block[148 : BLOCK - 4], "trailer's reserved tail")
    if f.raw(8, 16) != store_id or f.u32(24) != zone or f.u64(56) != zone_size:
        raise Refused("elsewhere", "trailer is of zone %d" % f.u32(24))
    t = {"zone": zone, "class_bucket": f.u8(28)}
    t.update({name: f.u64(at) for name, at in _TRAILER_U64.items()})
    t.update({name: f.u32(112 + 4 * i) for i, name in enumerate(_TRAILER_U32)})
    need_growing(t, ("lap", "base_position", "opened_store_ms", "sealed_store_ms"))
    need_growing(t, ("lsn_first", "lsn_last"))
    kills_at = t["entries_offset"] + round_up(40 * t["entry_count"], BLOCK)
    keys_at = kills_at + round_up(32 * t["kill_count"], BLOCK)
    end = keys_at + round_up(t["keys_len"], BLOCK)
    if (kills_at, keys_at, end) != (t["kills_offset"], t["keys_offset"], zone_size - BLOCK):
        raise Refused("damaged", "trailer's offsets do not follow from its counts")
    used = t["used_len"]
    if used % BLOCK or used < BLOCK or used > t["entries_offset"] or t["lap"] < 1:
        raise Refused("damaged", "trailer has impossible numbers")
    if t["entry_count"] > used // BLOCK - 1:
        raise Refused("damaged", "trailer has more entries than the zone has blocks of records")
    return t


def parse_kills(data):
    kills = []
    for at in range(0, len(data), 32):
        f = Fields(data[at : at + 32])
        kill = {"key_hash": f.raw(0, 16), "lsn": f.u64(16)}
        kill.update({"victim_zone": f.u32(24), "victim_lap_low": f.u32(28)})
        kills.append(kill)
    return kills


def parse_tables(zone_bytes, store_id, trailer):
    """Entries (with their keys) and kills of a footer whose trailer is valid."""
    t = trailer
    regions = {}
    ends = {"entries": t["kills_offset"], "kills": t["keys_offset"]}
    ends["keys"] = len(zone_bytes) - BLOCK
    used = {"entries": 40 * t["entry_count"], "kills": 32 * t["kill_count"], "keys": t["keys_len"]}
    for name, end in ends.items():
        region = zone_bytes[t[name + "_offset"] : end]
        got = salted(store_id, region)
        if got != t[name + "_crc"]:
            why = "footer %s checksum is %#010x, its bytes give %#010x"
            raise Refused("damaged", why % (name, t[name + "_crc"], got))
        _need_zero(region[used[name] :], "padding of footer %s" % name)
        regions[name] = region[: used[name]]
    entries, key_at = [], 0
    for at in range(0, used["entries"], 40):
        f = Fields(regions["entries"][at : at + 40])
        entry = {"key_hash": f.raw(0, 16), "lsn": f.u64(16), "offset": f.u32(24) * BLOCK}
        entry.update({"payload_len": f.u32(28), "expires_after_s": f.u32(32)})
        entry.update({"key_len": f.u16(36), "metadata_len": f.u16(38)})
        entry["key"] = bytes(regions["keys"][key_at : key_at + entry["key_len"]])
        key_at += entry["key_len"]
        if not BLOCK <= entry["offset"] < t["used_len"]:
            raise Refused("damaged", "footer entry outside the zone's records")
        entries.append(entry)
    if key_at != t["keys_len"]:
        raise Refused("damaged", "key blob is not as long as its keys")
    return entries, parse_kills(regions["kills"])


# ---- Records ------------------------------------------------------------------------------------


def parse_record(data, store_id):
    """A record that starts at `data[0]`; `data` reaches to the end of the zone (or journal).

    Header only: the payload is for `check_payload`. Place is for the caller (`is_at`).
    """
    if len(data) < BLOCK or bytes(data[:4]) != b"TLRC":
        raise Refused("foreign", "no record here")
    f = Fields(data)
    header_len, key_len, meta_len = f.u32(8), f.u16(14), f.u16(16)
    chunk_count, payload_len, record_len = f.u32(20), f.u64(24), f.u32(32)
    if f.u8(12) not in KINDS:
        raise Refused("damaged", "record kind %d" % f.u8(12))
    if header_len != FIXED_LEN + key_len + meta_len + 4 * chunk_count or header_len > len(data):
        raise Refused("damaged", "record header length does not follow from its parts")
    got = salted(store_id, data[8:header_len])
    if got != f.u32(4):
        why = "record header checksum is %#010x, its bytes give %#010x"
        raise Refused("damaged", why % (f.u32(4), got))
    record = {
        "kind": KINDS[f.u8(12)],
        "header_len": header_len,
        "payload_len": payload_len,
        "record_len": record_len,
        "key": f.raw(FIXED_LEN, key_len),
        "metadata": f.raw(FIXED_LEN + key_len, meta_len),
        "content_hash": int.from_bytes(f.raw(104, 16), "little"),
        "key_hash": f.raw(120, 16),
        "zone": f.u32(36),
        "victim_zone": f.u32(136),
        "victim_lap": f.u64(144),
    }
    names = ("lap", "position", "lsn", "incarnation", "durable_lsn", "stored_ms", "expires_ms")
    record.update({name: f.u64(40 + 8 * i) for i, name in enumerate(names)})
    record["created_wall_ms"] = f.u64(96)
    table_at = FIXED_LEN + key_len + meta_len
    record["chunk_crcs"] = struct.unpack_from("<%dI" % chunk_count, data, table_at)
    _check_record(record, f, data, store_id)
    return record


def _check_record(r, f, data, store_id):
    put, carry = r["kind"] == "put", r["kind"] == "carry"
    keyed = put or r["kind"] == "tombstone"
    need_growing(r, ("lap", "position", "lsn", "incarnation", "durable_lsn", "stored_ms"))
    _need_zero(f.raw(18, 2) + f.raw(140, 4) + f.raw(188, 4), "record's reserved field")

    def need(truth, why):
        if not truth:
            raise Refused("damaged", "record " + why)

    need(f.u8(13) == 0, "has flags")
    need(1 <= len(r["key"]) <= 1024 if keyed else not r["key"], "key length is wrong for its kind")
    need(len(r["metadata"]) <= (1024 if put else 0), "metadata length is wrong for its kind")
    length = r["payload_len"]
    need(put or (carry and length and length % 32 == 0) or length == 0, "payload length is wrong")
    need(len(r["chunk_crcs"]) == -(-length // CHUNK), "chunk count is not that of its payload")
    need(r["lap"] >= 1 and r["lsn"] >= 1, "lap or LSN is zero")
    need(r["victim_lap"] != 0 or r["victim_zone"] == 0, "victim has a zone and no lap")
    need(r["victim_lap"] == 0 or keyed, "kind has no victims")
    named = r["victim_lap"] != 0
    for i in range(3):
        lap, zone = f.u64(152 + 8 * i), f.u32(176 + 4 * i)
        need(lap == 0 or named, "names a victim behind none")
        need(lap != 0 or zone == 0, "victim has a zone and no lap")
        named = lap != 0
    need(put or r["content_hash"] == 0, "content hash is not zero")
    want = siphash128(store_id, r["key"]) if keyed else bytes(16)
    need(r["key_hash"] == want, "key hash is not that of its key")
    inline = r["header_len"] + length <= BLOCK
    r["payload_at"] = r["header_len"] if inline else round_up(r["header_len"], BLOCK)
    end = round_up(r["payload_at"] + length, BLOCK)
    if r["kind"] == "void":
        need(r["record_len"] >= BLOCK and r["record_len"] % BLOCK == 0, "void length is wrong")
        _need_zero(data[r["header_len"] : BLOCK], "padding of a void")
    else:
        need(r["record_len"] == end, "length does not follow from its payload")
        gap = data[r["header_len"] : min(r["payload_at"], len(data))]
        _need_zero(gap, "padding before the payload")
    need(r["record_len"] <= len(data), "ends beyond its zone")


def check_padding(record, data):
    """A bit in the padding costs nobody a byte, but the record is damaged all the same."""
    if record["kind"] != "void":
        end = record["payload_at"] + record["payload_len"]
        _need_zero(data[end : record["record_len"]], "padding behind the payload")


def check_payload(record, data, store_id):
    """Every chunk of the payload. `Refused` names the first thing wrong."""
    at, end = record["payload_at"], record["payload_at"] + record["payload_len"]
    for i, want in enumerate(record["chunk_crcs"]):
        got = salted(store_id, data[at + CHUNK * i : min(at + CHUNK * (i + 1), end)])
        if got != want:
            why = "payload chunk %d checksum is %#010x, its bytes give %#010x"
            raise Refused("damaged", why % (i, want, got))


def is_at(record, header, offset):
    """Whether a valid record belongs to the place it was found at."""
    place = (record["zone"], record["lap"], record["position"])
    return place == (header["zone"], header["lap"], header["base_position"] + offset)
