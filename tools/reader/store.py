"""A store of one or more volumes, read by the rules of docs/disk-format.md. Never writes.

`Store(paths)` maps the volumes, reads every zone, and leaves: `objects` (live ones, each verified
or with the cause why not), `findings` (damage, each a dict) and `notes` (what is no damage: torn
writes). Raises `CannotRead` when there is nothing to read at all.
"""

import mmap
import os
import time

from checksums import xxh3_128
from structures import (
    BLOCK, JOURNAL_AT, JOURNAL_LEN, ZONES_AT, Refused, check_padding, check_payload, is_at,
    parse_checkpoint, parse_kills, parse_record, parse_tables, parse_trailer, parse_volume_header,
    parse_zone_header,
)


AWAY_MS_MIN, AWAY_MS_MAX = 10_000, 7 * 24 * 3600 * 1000


class CannotRead(Exception):
    """Not a store, or not one this reader understands."""


class Volume:
    """One file or device, mapped read-only, and its header."""

    def __init__(self, path):
        self.path = path
        with open(path, "rb") as file:
            length = file.seek(0, os.SEEK_END)
            if length < ZONES_AT:
                raise CannotRead("%s: too short for a volume" % path)
            self.data = memoryview(mmap.mmap(file.fileno(), length, prot=mmap.PROT_READ))
        self.findings = []
        self.header = self._read_header()
        self.zone_size, self.zone_count = self.header["zone_size"], self.header["zone_count"]
        self.index = self.header["volume_index"]
        self.store_id = self.header["store_id"]
        if length < self.copy_b_at() + BLOCK:
            why = "%s: %d bytes, its header says %d: it was truncated"
            raise CannotRead(why % (path, length, self.copy_b_at() + BLOCK))
        self._check_both_headers()

    def copy_b_at(self):
        return ZONES_AT + self.zone_size * self.zone_count

    def block(self, at):
        return self.data[at : at + BLOCK]

    def zone_bytes(self, local):
        at = ZONES_AT + self.zone_size * local
        return self.data[at : at + self.zone_size]

    def _copy_b_candidates(self):
        """Where copy B is when copy A cannot say: the last block, or as computed for a device."""
        length = len(self.data)
        yield length // BLOCK * BLOCK - BLOCK
        capacity = length - ZONES_AT - BLOCK
        size = 8 << 20
        while size * 2 <= min(capacity // 16, 256 << 20):
            size *= 2
        yield ZONES_AT + capacity // size * size

    def _read_header(self):
        try:
            return parse_volume_header(self.block(0))
        except Refused as refused:
            if refused.kind == "newer":
                raise CannotRead("%s: %s" % (self.path, refused))
            cause = refused
        for at in self._copy_b_candidates():
            try:
                return parse_volume_header(self.block(at))
            except Refused as refused:
                if refused.kind == "newer":
                    raise CannotRead("%s: %s" % (self.path, refused))
        raise CannotRead("%s: not a tapeloop volume: %s" % (self.path, cause))

    def _check_both_headers(self):
        for copy, at in (("A", 0), ("B", self.copy_b_at())):
            try:
                if parse_volume_header(self.block(at)) != self.header:
                    raise Refused("damaged", "the copies differ")
            except Refused as refused:
                finding = {"structure": "volume header", "copy": copy, "volume_offset": at}
                self.findings.append({**finding, "why": str(refused)})


class Zone:
    """What was read of one zone. `state` is unused, unreadable, open, sealed or given up."""

    def __init__(self, number, state, header=None):
        self.number, self.state, self.header = number, state, header
        self.trailer, self.entries, self.kills, self.records, self.gaps = None, None, [], {}, []
        self.table_is_good = False
        self.durable_len, self.listed, self.is_sure = 0, {}, True


class Store:
    def __init__(self, paths, store_ms=None):
        self.findings, self.notes = [], []
        volumes = [Volume(path) for path in expand(paths)]
        self.volumes = self._one_store(volumes)
        first = volumes[0]
        self.store_id = first.store_id
        self.zone_size, self.zone_count = first.zone_size, first.zone_count
        points = {v.index: self._checkpoint_of(v) for v in volumes}
        age = lambda p: (p["incarnation"] >> 32, p["store_ms"], p["incarnation"], p["next_lsn"])
        self.checkpoint = max(filter(None, points.values()), key=age, default=None)
        # A volume without a checkpoint of the newest incarnation refused to be flushed then.
        newest = self.checkpoint and self.checkpoint["incarnation"]
        self.is_sure = {i: not newest or (p or {}).get("incarnation") == newest
                        for i, p in points.items()}
        self.watermark = self.checkpoint["durable_lsn"] if self.checkpoint else 0
        self.zones, self.journal = {}, {}
        for volume in volumes:
            self.findings += [dict(f, volume=volume.index) for f in volume.findings]
            self.journal[volume.index] = self._read_journal(volume)
            for local in range(self.zone_count):
                zone = self._read_zone(volume, local)
                self.zones[zone.number] = zone
        self._judge_gaps()
        self.store_ms = self._store_time() if store_ms is None else store_ms
        self._resolve()

    # -- volumes, checkpoints, journal --

    def _one_store(self, volumes):
        by_index = {}
        first = volumes[0].header
        for volume in volumes:
            for field in ("store_id", "volume_count", "zone_count", "zone_size"):
                if volume.header[field] != first[field]:
                    raise CannotRead("%s: not of this store: %s differs" % (volume.path, field))
            if volume.index in by_index:
                raise CannotRead("%s: volume %d is given twice" % (volume.path, volume.index))
            by_index[volume.index] = volume
        for index in range(first["volume_count"]):
            if index not in by_index:
                self.findings.append({"structure": "volume", "volume": index, "why": "missing"})
        return by_index

    def _checkpoint_of(self, volume):
        best = None
        for slot in (0, 1):
            at = BLOCK * (1 + slot)
            try:
                point = parse_checkpoint(volume.block(at), self.store_id, slot)
                if best is None or point["sequence"] > best["sequence"]:
                    best = point
            except Refused as refused:
                if refused.kind != "blank":
                    self._damaged("checkpoint", volume, at, str(refused), slot=slot)
        return best

    def _damaged(self, structure, volume, at, why, **more):
        finding = {"structure": structure, "volume": volume.index, "volume_offset": at, "why": why}
        self.findings.append({**finding, **more})

    def _read_journal(self, volume):
        carries, at = [], 0
        region = volume.data[JOURNAL_AT : JOURNAL_AT + JOURNAL_LEN]
        while at < JOURNAL_LEN:
            try:
                record = parse_record(region[at:], self.store_id)
                check_payload(record, region[at:], self.store_id)
                if record["kind"] != "carry":
                    raise Refused("damaged", "a %s in the carry journal" % record["kind"])
            except Refused:
                break  # The end of the list: what lies behind is of earlier times.
            record["kills"] = self._kills_of(record, region[at:])
            if record["position"] >= self._given_up(volume.index):
                carries.append(record)
            at += record["record_len"]
        return carries

    # -- zones --

    def _read_zone(self, volume, local):
        number = volume.index * self.zone_count + local
        data = volume.zone_bytes(local)
        at = ZONES_AT + self.zone_size * local
        header = trailer = None
        header_why = None
        try:
            header = parse_zone_header(data[:BLOCK], self.store_id, number)
        except Refused as refused:
            header_why = refused
        try:
            trailer = parse_trailer(data[-BLOCK:], self.store_id, number, self.zone_size)
        except Refused as refused:
            if refused.kind == "damaged":
                note = {"what": "footer trailer does not verify", "zone": number}
                self.notes.append({**note, "why": str(refused)})
        if header and trailer and trailer["lap"] > header["lap"]:
            header, header_why = None, Refused("damaged", "its footer is of a later lap")
        if header is None:
            header = self._stand_in(number, data, trailer)
            if header is None and header_why.kind == "blank":
                return Zone(number, "unused")
            self._damaged("zone header", volume, at, str(header_why), zone=number)
            if header is None:
                return Zone(number, "unreadable")
        if header["base_position"] < self._given_up(volume.index):
            return Zone(number, "given up", header)
        if trailer and trailer["lap"] == header["lap"]:
            return self._read_sealed(volume, number, data, header, trailer)
        zone = Zone(number, "open", header)
        point = self.checkpoint
        marks = point["open_zones"] if point else {}
        counted_len, floor = marks.get((number, header["lap"]), 0), 0
        zone.is_sure = self.is_sure[volume.index]
        zone.durable_len = counted_len if zone.is_sure else 0
        if point and self._may_have_been_open(header):
            floor = point["incarnation"]
        elif point and zone.is_sure:
            at += self.zone_size - BLOCK
            why = "the zone was sealed and has no footer"
            self._damaged("footer", volume, at, why, zone=number)
        self._scan(zone, data, self.zone_size, counted_len, floor)
        return zone

    def _stand_in(self, number, data, trailer):
        """What a lost zone header said, as far as its first record or its footer knows."""
        try:
            record = parse_record(data[BLOCK:], self.store_id)
        except Refused:
            record = None
        if record and (record["zone"] != number or record["position"] < BLOCK):
            record = None
        if trailer and (record is None or record["lap"] <= trailer["lap"]):
            stand_in = {k: trailer[k] for k in ("zone", "lap", "base_position", "opened_store_ms")}
            return {**stand_in, "incarnation": 0}
        if record is None:
            return None
        stand_in = {"zone": number, "lap": record["lap"], "opened_store_ms": record["stored_ms"]}
        stand_in["base_position"] = record["position"] - BLOCK
        return {**stand_in, "incarnation": 0}

    def _may_have_been_open(self, header):
        """Was the lap open at the newest checkpoint, or opened since?"""
        is_marked = (header["zone"], header["lap"]) in self.checkpoint["open_zones"]
        return is_marked or header["base_position"] >= self.checkpoint["next_base_position"]

    def _given_up(self, index):
        return self.checkpoint["given_up"][index] if self.checkpoint else 0

    def _read_sealed(self, volume, number, data, header, trailer):
        zone = Zone(number, "sealed", header)
        zone.trailer = trailer
        for field in ("class_bucket", "class_group", "base_position", "opened_store_ms"):
            if field in header and header[field] != trailer[field]:
                at = ZONES_AT + self.zone_size * (number % self.zone_count + 1) - BLOCK
                why = "trailer's %s is not the header's" % field
                self._damaged("footer", volume, at, why, zone=number)
        try:
            zone.entries, zone.kills = parse_tables(data, self.store_id, trailer)
            zone.listed = {e["offset"]: e["lsn"] for e in zone.entries}
            zone.table_is_good = True
        except Refused as refused:
            at = ZONES_AT + self.zone_size * (number % self.zone_count) + trailer["entries_offset"]
            self._damaged("footer", volume, at, str(refused), zone=number)
        # Without its tables the records must speak for themselves, payload and all.
        zone.durable_len = trailer["used_len"] if zone.table_is_good else 0
        self._scan(zone, data, trailer["used_len"], 0, 0)
        return zone

    def _scan(self, zone, data, end, counted_len, floor):
        """Records by offset, and the gaps between them. Records at or beyond the zone's
        `durable_len` must verify whole; at or beyond `counted_len` they must have at least the
        incarnation `floor`."""
        at, gap_from = BLOCK, None
        last_end = BLOCK
        while at < end:
            record = self._record_at(zone, data, at)
            if record and at >= counted_len and record["incarnation"] < floor:
                record = None
            if record is None:
                at += BLOCK
                continue
            if at > last_end:
                zone.gaps.append({"offset": last_end, "len": at - last_end, "in_front": True})
            zone.records[at] = record
            self.watermark = max(self.watermark, record["durable_lsn"])
            at += record["record_len"]
            last_end = at
        if zone.trailer is not None and last_end < end:
            zone.gaps.append({"offset": last_end, "len": end - last_end, "in_front": False})
        elif last_end < zone.durable_len:
            gap = {"offset": last_end, "len": zone.durable_len - last_end, "in_front": False}
            zone.gaps.append(gap)

    def _record_at(self, zone, data, at):
        view = data[at:]
        if bytes(view[:4]) != b"TLRC":
            return None
        try:
            record = parse_record(view, self.store_id)
        except Refused as refused:
            note = {"what": "no record", "zone": zone.number, "offset": at}
            self.notes.append({**note, "why": str(refused)})
            return None
        if not is_at(record, zone.header, at):
            return None
        record["payload_why"] = None
        try:
            check_payload(record, view, self.store_id)
            if record["kind"] == "put":
                start = record["payload_at"]
                got = xxh3_128(view[start : start + record["payload_len"]])
                if got != record["content_hash"]:
                    raise Refused("damaged", "content hash is %032x" % got)
        except Refused as refused:
            record["payload_why"] = str(refused)
        try:
            check_padding(record, view)
            record["padding_why"] = None
        except Refused as refused:
            record["padding_why"] = str(refused)
        if at >= zone.durable_len and record["payload_why"]:
            return None
        if record["kind"] == "carry":
            record["kills"] = [] if record["payload_why"] else self._kills_of(record, view)
        return record

    @staticmethod
    def _kills_of(carry, view):
        start = carry["payload_at"]
        return parse_kills(view[start : start + carry["payload_len"]])

    # -- judging --

    def _damaged_in(self, zone, offset, why, **more):
        volume, at = self._place(zone, offset)
        self._damaged("record", volume, at, why, zone=zone.number, offset=offset, **more)

    def _place(self, zone, offset):
        volume = self.volumes[zone.number // self.zone_count]
        local = zone.number % self.zone_count
        return volume, ZONES_AT + self.zone_size * local + offset

    def _judge_gaps(self):
        for zone in self.zones.values():
            for gap in zone.gaps:
                self._judge_gap(zone, gap)
            for offset, record in zone.records.items():
                why = record["payload_why"] or record["padding_why"]
                if why is None and zone.table_is_good and record["kind"] == "put":
                    listed = zone.listed.get(offset)
                    why = None if listed == record["lsn"] else "the footer does not list it"
                if why:
                    self._damaged_in(zone, offset, why, key=record["key"])

    def _owed_len(self, zone):
        """Bytes of a carry that is meant for the start of this lap of the zone."""
        for carry in (c for carries in self.journal.values() for c in carries):
            if zone.state == "open" and is_at(carry, zone.header, BLOCK):
                return carry["record_len"]
        return 0

    def _judge_gap(self, zone, gap):
        start, end = gap["offset"], gap["offset"] + gap["len"]
        entries = [e for e in zone.entries or [] if start <= e["offset"] < end]
        if zone.table_is_good:
            is_damage = True  # In a sealed zone every block belongs to a record.
        else:
            later = (r["lsn"] <= self.watermark for at, r in zone.records.items() if at >= end)
            is_damage = start < zone.durable_len or (zone.is_sure and any(later))
        if start == BLOCK and gap["len"] <= self._owed_len(zone):
            is_damage = False  # Its carry is in the journal, and the next start writes it.
        if not is_damage:
            self.notes.append({"what": "torn", "zone": zone.number, **gap})
        elif not entries:
            self._damaged_in(zone, start, "no record in %d bytes" % gap["len"])
        for e in entries:
            why = "the footer's entry has no record"
            self._damaged_in(zone, e["offset"], why, key=e["key"])

    def _store_time(self):
        seen = 0
        for zone in self.zones.values():
            if zone.header:
                seen = max(seen, zone.header["opened_store_ms"])
            if zone.trailer:
                seen = max(seen, zone.trailer["sealed_store_ms"])
            seen = max([seen] + [r["stored_ms"] for r in zone.records.values()])
        point = self.checkpoint
        if point is None:
            return seen
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            boot_id = bytes.fromhex(file.read().decode().strip().replace("-", ""))
        boottime_ms = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000000
        if boot_id == point["boot_id"] and boottime_ms >= point["boottime_ms"]:
            passed = boottime_ms - point["boottime_ms"]
        else:
            away = int(time.time() * 1000) - point["wall_ms"]
            passed = min(max(away, AWAY_MS_MIN), AWAY_MS_MAX)
        return max(seen, point["store_ms"] + passed)

    # -- the newest version of each key --

    def _puts_and_kills(self):
        newest, killed_below = {}, {}

        def kill(key_hash, lsn):
            killed_below[key_hash] = max(killed_below.get(key_hash, 0), lsn)

        def put(zone, offset, record, entry):
            source = record or entry
            old = newest.get(source["key_hash"])
            if old is None or old["lsn"] < source["lsn"]:
                if record:
                    expires_ms = record["expires_ms"]
                elif entry["expires_after_s"] == 0xFFFFFFFF:
                    expires_ms = 1 << 64
                else:
                    expires_ms = zone.header["opened_store_ms"] + 1000 * entry["expires_after_s"]
                found = {"zone": zone, "offset": offset, "record": record, "entry": entry}
                found.update({"lsn": source["lsn"], "expires_ms": expires_ms})
                newest[source["key_hash"]] = found

        for carries in self.journal.values():
            for carry in carries:
                for k in carry["kills"]:
                    kill(k["key_hash"], k["lsn"])
        for zone in self.zones.values():
            for k in zone.kills:
                kill(k["key_hash"], k["lsn"])
            if zone.table_is_good:
                for entry in zone.entries:
                    put(zone, entry["offset"], self._record_of(zone, entry), entry)
                continue
            for offset, record in zone.records.items():
                if record["victim_lap"]:
                    kill(record["key_hash"], record["lsn"])
                for k in record.get("kills", ()):
                    kill(k["key_hash"], k["lsn"])
                if record["kind"] == "put":
                    put(zone, offset, record, None)
        return newest, killed_below

    def _record_of(self, zone, entry):
        """The record an entry points at, if it is there and says the same."""
        record = zone.records.get(entry["offset"])
        if record is None:
            return None
        for field in ("key_hash", "lsn", "payload_len", "key"):
            if record[field] != entry[field]:
                volume, at = self._place(zone, entry["offset"])
                why = "the footer's entry and the record differ in %s" % field
                self._damaged("footer", volume, at, why, zone=zone.number, offset=entry["offset"])
                return None
        return record

    def _resolve(self):
        newest, killed_below = self._puts_and_kills()
        self.objects = []
        for key_hash, found in newest.items():
            if killed_below.get(key_hash, 0) > found["lsn"] or self.store_ms >= found["expires_ms"]:
                continue
            self.objects.append(self._object(found))
        self.objects.sort(key=lambda o: o["key"])

    def _object(self, found):
        record, entry, zone = found["record"], found["entry"], found["zone"]
        source = record or entry
        out = {"key": source["key"], "len": source["payload_len"], "lsn": found["lsn"]}
        out.update({"zone": zone.number, "offset": found["offset"]})
        out["expires_ms"] = found["expires_ms"]
        out["damage"] = record["payload_why"] if record else "its record cannot be read"
        out["content_hash"] = record["content_hash"] if record else None
        out["metadata"] = record["metadata"] if record else None
        out["created_wall_ms"] = record["created_wall_ms"] if record else None
        out["payload_at"] = record["payload_at"] if record else None
        return out

    def payload(self, obj):
        """The bytes of an object without damage (verified when the zone was read)."""
        assert obj["damage"] is None
        volume, at = self._place(self.zones[obj["zone"]], obj["offset"] + obj["payload_at"])
        return volume.data[at : at + obj["len"]]


def expand(paths):
    """Directories mean their `*.tape` files."""
    out = []
    for path in paths:
        if os.path.isdir(path):
            out += sorted(os.path.join(path, n) for n in os.listdir(path) if n.endswith(".tape"))
        else:
            out.append(path)
    if not out:
        raise CannotRead("no volume in %s" % ", ".join(paths))
    return out
