#!/usr/bin/env python3
"""Compares our verdicts on request heads with those of h11 (pip install h11).

usage: cargo run --release -p tapeloop-fuzz --example verdicts -- FOLDER... | differential.py

What we accept and h11 refuses or reads otherwise is printed and makes the exit code 1, with one
exception: an empty line before the request, which RFC 9112, section 2.2, asks a server to ignore
and h11 refuses. What h11 accepts and we refuse is counted by our cause: there we are stricter.
"""
import collections
import json
import sys

import h11
from h11._connection import _body_framing


def theirs(data):
    connection = h11.Connection(our_role=h11.SERVER, max_incomplete_event_size=64 << 10)
    try:
        connection.receive_data(data)
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        return {"verdict": "refused", "why": str(error)}
    if event is h11.NEED_DATA:
        return {"verdict": "more"}
    kind, args = _body_framing(event.method, event)
    return {
        "verdict": "accepted",
        "method": event.method.decode(),
        "target": event.target.decode(),
        "version": event.http_version.decode(),
        "framing": "chunked" if kind == "chunked" else f"length {args[0]}",
    }


def main():
    both = collections.Counter()
    stricter = collections.Counter()
    empty_lines = unexplained = 0
    for line in sys.stdin:
        entry = json.loads(line)
        ours = entry["ours"]
        with open(entry["path"], "rb") as file:
            data = file.read()
        other = theirs(data[: ours["len"]] if ours["verdict"] == "accepted" else data)
        both[ours["verdict"], other["verdict"]] += 1
        if ours["verdict"] == "accepted":
            why = other.get("why")
            is_empty_line = data.startswith(b"\r\n") and why == "no request line received"
            same = all(other.get(name) == value for name, value in ours.items() if name != "len")
            empty_lines += is_empty_line
            if not same and not is_empty_line:
                unexplained += 1
                print("ours only:", data[: ours["len"]], ours, other)
        elif other["verdict"] == "accepted":
            stricter[ours.get("why", "needs more")] += 1
    for (ours, other), count in sorted(both.items()):
        print(f"{count:8} ours {ours}, h11 {other}")
    print(f"{empty_lines:8} ours only: an empty line before the request")
    for why, count in stricter.most_common():
        print(f"{count:8} h11 only: {why}")
    sys.exit(1 if unexplained else 0)


if __name__ == "__main__":
    main()
