#!/usr/bin/env python3
"""Reads a tapeloop store without tapeloop. Written from docs/disk-format.md alone.

    read_store.py list PATH...             every live object
    read_store.py extract PATH... --to DIR every live object that verifies, as a file
    read_store.py check PATH...            every checksum of everything
    read_store.py selftest                 its own checksums against published vectors

Several paths are the volumes of one store; a directory means its *.tape files. It never writes to a
store. Exit code 0: clean, 1: damage found (named on stderr), 2: could not read.
"""

import argparse
import json
import os
import sys

from checksums import self_test
from store import CannotRead, Store


def main():
    raw_text = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw_text)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("list", "extract", "check"):
        command = commands.add_parser(name)
        command.add_argument("paths", nargs="+")
        command.add_argument("--json", action="store_true")
        command.add_argument("--store-ms", type=int, help="judge expiry at this store time")
        if name == "extract":
            command.add_argument("--to", required=True, metavar="DIR")
    commands.add_parser("selftest")
    args = parser.parse_args()
    wrong = self_test()
    for line in wrong:
        print("checksum self-test: %s" % line, file=sys.stderr)
    if wrong:
        return 2
    if args.command == "selftest":
        print("all checksums agree with their published vectors")
        return 0
    try:
        return run(args)
    except (CannotRead, OSError) as error:
        print("read_store: %s" % error, file=sys.stderr)
        return 2


def run(args):
    store = Store(args.paths, args.store_ms)
    if args.command == "extract":
        extract(store, args.to)
    if args.json:
        print(json.dumps(as_json(store)))
    elif args.command == "list":
        for obj in store.objects:
            what = (hash_text(obj), obj["len"], name_of(obj["key"]), damage_text(obj))
            print("%s  %10d  %s%s" % what)
    else:
        good = sum(obj["damage"] is None for obj in store.objects)
        counts = (len(store.objects), good, len(store.findings))
        print("%d live objects, %d of them verified, %d findings" % counts)
    for finding in store.findings:
        print("damaged %s" % finding_text(finding), file=sys.stderr)
    return 1 if store.findings else 0


def hash_hex(number):
    """As it lies in the record, which is how the ETag and tapectl show it."""
    return number.to_bytes(16, "little").hex()


def hash_text(obj):
    return "-" * 32 if obj["content_hash"] is None else hash_hex(obj["content_hash"])


def damage_text(obj):
    return "  DAMAGED: %s" % obj["damage"] if obj["damage"] else ""


def finding_text(finding):
    rest = [(k, v) for k, v in finding.items() if k not in ("structure", "why")]
    places = ", ".join("%s %s" % (k, name_of(v) if k == "key" else v) for k, v in rest)
    return "%s, %s: %s" % (finding["structure"], places, finding["why"])


def name_of(key):
    """A key as text for people: letters, digits and -_./ stand for themselves, all else is %XX."""
    safe = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./"
    return "".join(chr(b) if b in safe else "%%%02X" % b for b in key)


def extract(store, folder):
    """`N` for the N-th live object, and index.json to tell which it is."""
    os.makedirs(folder, exist_ok=False)
    index = []
    for number, obj in enumerate(store.objects):
        if obj["damage"]:
            continue
        with open(os.path.join(folder, "%08d" % number), "xb") as file:
            file.write(store.payload(obj))
        index.append({"file": "%08d" % number, **object_json(obj)})
    with open(os.path.join(folder, "index.json"), "x") as file:
        json.dump(index, file, indent=1)


def object_json(obj):
    same = ("len", "lsn", "zone", "offset", "expires_ms", "damage", "created_wall_ms")
    out = {k: obj[k] for k in same}
    out["key_hex"] = obj["key"].hex()
    out["content_hash"] = None if obj["content_hash"] is None else hash_hex(obj["content_hash"])
    out["metadata_hex"] = None if obj["metadata"] is None else obj["metadata"].hex()
    return out


def as_json(store):
    plain = lambda value: value.hex() if isinstance(value, bytes) else value
    findings = [{k: plain(v) for k, v in f.items()} for f in store.findings]
    zones = [{"zone": z.number, "state": z.state, "lap": z.header["lap"] if z.header else 0}
             for _, z in sorted(store.zones.items())]
    return {
        "store_id": store.store_id.hex(),
        "store_ms": store.store_ms,
        "objects": [object_json(obj) for obj in store.objects],
        "findings": findings,
        "notes": store.notes,
        "zones": zones,
    }


if __name__ == "__main__":
    sys.exit(main())
