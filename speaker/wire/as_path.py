"""AS paths on the wire (RFC 4271 section 4.3, RFC 5065 section 3): segments, and 4-octet AS numbers (RFC 6793).

octets --read--> segments --write, write_narrow--> octets
AS_PATH of a 2-octet speaker and AS4_PATH --merge--> the true path
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from speaker.errors import TreatAsWithdraw
from speaker.path import AS_CONFED_SEQUENCE, AS_CONFED_SET, AS_SEQUENCE, AS_SET, AsPath
from speaker.wire.framing import SHOWN_OCTETS

AS_TRANS = 23456  # RFC 6793 section 9
_CONFEDERATION = (AS_CONFED_SEQUENCE, AS_CONFED_SET)
_NARROW = tuple(struct.Struct(f"!{count}H").unpack_from for count in range(256))
_WIDE = tuple(struct.Struct(f"!{count}I").unpack_from for count in range(256))
"""Readers of so many AS numbers of 2 and 4 octets."""

_KINDS = (AS_SET, AS_SEQUENCE, *_CONFEDERATION)


def read(value: bytes, size: int, name: str) -> AsPath:
    """Read segments of AS numbers of 2 or 4 octets; TreatAsWithdraw by RFC 7606 section 7.2 and RFC 7607."""
    readers = _WIDE if size == 4 else _NARROW
    segments: list[tuple[int, tuple[int, ...]]] = []
    at = 0
    while at < len(value):
        if at + 2 > len(value):
            raise TreatAsWithdraw(f"{name} ends within a segment header: {value[at:].hex()}")
        kind, count = value[at], value[at + 1]
        end = at + 2 + count * size
        if kind not in _KINDS:
            raise TreatAsWithdraw(f"{name} has a segment of type {kind}: {value[at : at + SHOWN_OCTETS].hex()}")
        if count == 0 or end > len(value):
            raise TreatAsWithdraw(f"{name} has a segment of {count} numbers in {len(value) - at - 2} octets")
        numbers = readers[count](value, at + 2)
        if 0 in numbers:
            raise TreatAsWithdraw(f"{name} holds AS 0 (RFC 7607)")
        segments.append((kind, numbers))
        at = end
    return tuple(segments)


def confederate(as_path: AsPath) -> bool:
    """Tell whether a path has segments of a confederation."""
    return any(kind in _CONFEDERATION for kind, _ in as_path)


def without_confederation(as_path: AsPath) -> AsPath:
    """Return a path as it is told outside a confederation, as AS4_PATH always is (RFC 6793 section 3)."""
    return tuple(each for each in as_path if each[0] not in _CONFEDERATION)


def write(as_path: AsPath) -> bytes:
    """Write segments of 4-octet AS numbers."""
    return b"".join(bytes((kind, len(part))) + struct.pack(f"!{len(part)}I", *part) for kind, part in _cut(as_path))


def write_narrow(as_path: AsPath) -> bytes:
    """Write segments of 2-octet AS numbers, AS_TRANS for those above."""
    out: list[bytes] = []
    for kind, numbers in _cut(as_path):
        narrow = [number if number <= 0xFFFF else AS_TRANS for number in numbers]
        out.append(bytes((kind, len(narrow))) + struct.pack(f"!{len(narrow)}H", *narrow))
    return b"".join(out)


def _cut(as_path: AsPath) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield segments of at most 255 numbers."""
    for kind, numbers in as_path:
        for at in range(0, len(numbers), 255):
            yield kind, numbers[at : at + 255]


def merge(as_path: AsPath, as4_path: AsPath) -> AsPath:
    """Put the 4-octet AS numbers that went around a 2-octet speaker in their place (RFC 6793 section 4.2.3)."""
    surplus = _length(as_path) - _length(as4_path)
    if not as4_path or surplus < 0:
        return as_path
    leading: list[tuple[int, tuple[int, ...]]] = []
    for kind, numbers in as_path:
        if kind in _CONFEDERATION:
            leading.append((kind, numbers))
        elif surplus <= 0:
            break
        elif kind == AS_SET:
            leading.append((kind, numbers))
            surplus -= 1
        else:
            leading.append((kind, numbers[:surplus]))
            surplus -= len(numbers)
    if leading and leading[-1][0] == AS_SEQUENCE == as4_path[0][0]:
        as4_path = ((AS_SEQUENCE, leading.pop()[1] + as4_path[0][1]), *as4_path[1:])
    return (*leading, *as4_path)


def _length(as_path: AsPath) -> int:
    return sum(1 if kind == AS_SET else len(numbers) for kind, numbers in as_path if kind in (AS_SET, AS_SEQUENCE))
