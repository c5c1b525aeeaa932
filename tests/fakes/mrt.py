"""A reader of MRT table dumps, written from RFC 6396 and RFC 8050 without the project's codec.

for record in records(octets):
    record.subtype, record.family, record.nlri, record.entries
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import attrs

_SUBTYPES = {2: (1, 1, False), 4: (2, 1, False), 8: (1, 1, True), 10: (2, 1, True), 6: None, 12: None}


@attrs.frozen
class Entry:
    """What one peer said."""

    peer: int
    originated: int
    path_id: int | None
    attributes: dict[int, bytes]  # by code


@attrs.frozen
class Record:
    """One NLRI and what was said of it."""

    subtype: int
    family: tuple[int, int]  # AFI, SAFI
    sequence: int
    nlri: bytes  # as on the wire, without a path identifier
    entries: tuple[Entry, ...]


def cut(dump: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield subtype and body of each record; AssertionError if it is cut off or of another type."""
    while dump:
        _, kind, subtype, length = struct.unpack("!IHHI", dump[:12])
        assert kind == 13, kind
        assert len(dump) >= 12 + length, f"{len(dump) - 12} octets of {length}"
        yield subtype, dump[12 : 12 + length]
        dump = dump[12 + length :]


def records(dump: bytes) -> Iterator[Record]:
    """Yield all records behind the PEER_INDEX_TABLE."""
    for subtype, body in list(cut(dump))[1:]:
        (sequence,) = struct.unpack("!I", body[:4])
        body = body[4:]
        known = _SUBTYPES[subtype]
        if known is None:
            afi, safi = struct.unpack("!HB", body[:3])
            body, add_path = body[3:], subtype == 12
        else:
            afi, safi, add_path = known
        size = _nlri_size(afi, safi, body)
        nlri, body = body[:size], body[size:]
        (count,) = struct.unpack("!H", body[:2])
        body = body[2:]
        entries = []
        for _ in range(count):
            peer, originated = struct.unpack("!HI", body[:6])
            body, path_id = body[6:], None
            if add_path:
                path_id, body = int.from_bytes(body[:4], "big"), body[4:]
            (length,) = struct.unpack("!H", body[:2])
            entries.append(Entry(peer, originated, path_id, _attributes(body[2 : 2 + length])))
            body = body[2 + length :]
        assert body == b"", body.hex()
        yield Record(subtype, (afi, safi), sequence, nlri, tuple(entries))


def _nlri_size(afi: int, safi: int, octets: bytes) -> int:
    if (afi, safi) == (25, 70):  # route type, length
        return 2 + octets[1]
    if safi in (133, 134):  # a length of 1 or 2 octets (RFC 8955 section 4.1)
        return 1 + octets[0] if octets[0] < 0xF0 else 2 + ((octets[0] & 0x0F) << 8 | octets[1])
    return 1 + (octets[0] + 7) // 8


def _attributes(octets: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while octets:
        flags, code = octets[:2]
        head = 4 if flags & 0x10 else 3
        length = int.from_bytes(octets[2:head], "big")
        assert len(octets) >= head + length
        assert code not in found
        found[code] = octets[head : head + length]
        octets = octets[head + length :]
    return found
