"""Netlink messages as bytes: headers, attributes and errors (linux/netlink.h); no sockets and no rows here.

All numbers are in the byte order of the machine, except where the kernel's headers say network order.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator
from typing import NamedTuple

NOOP, ERROR, DONE = 1, 2, 3
REQUEST, MULTI, ACK, DUMP_INTR, DUMP = 0x1, 0x2, 0x4, 0x10, 0x300
REPLACE, EXCL, CREATE, APPEND = 0x100, 0x200, 0x400, 0x800
CAPPED, ACK_TLVS = 0x100, 0x200  # flags of an error: it echoes the header only; the kernel's words follow it

HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, port id
_ATTRIBUTE = struct.Struct("=HH")
_NUMBER = struct.Struct("=HHI")
_NESTED = 0x8000
_KIND = 0x3FFF
_WORDS = 1  # NLMSGERR_ATTR_MSG
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")

Request = tuple[int, int, bytes]
"""(message type, flags beside REQUEST, all after the header)."""


class Message(NamedTuple):
    """A message that was received."""

    type: int
    flags: int
    sequence: int
    port: int  # whose request caused it; 0: the kernel's own doing
    body: bytes  # all after the header


class Failure(NamedTuple):
    """Why the kernel refused a request."""

    errno: int
    words: str


def encode(request: Request, sequence: int) -> bytes:
    """Return the whole message of a request."""
    kind, flags, body = request
    return HEADER.pack(16 + len(body), kind, flags | REQUEST, sequence, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    """Return an attribute, padded to four octets."""
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + _PADDING[len(value) & 3]


def number(kind: int, value: int) -> bytes:
    """Return an attribute of 32 bits."""
    return _NUMBER.pack(8, kind, value)


def octet(kind: int, value: int) -> bytes:
    """Return an attribute of 8 bits."""
    return attribute(kind, bytes((value,)))


def text(kind: int, value: str) -> bytes:
    """Return an attribute that is a string with a zero at its end."""
    return attribute(kind, value.encode() + b"\0")


def nest(kind: int, *inner: bytes) -> bytes:
    """Return an attribute that holds attributes."""
    return attribute(kind | _NESTED, b"".join(inner))


def each_attribute(octets: bytes, at: int = 0) -> Iterator[tuple[int, bytes]]:
    """Give the attributes that stand from an offset to the end, as (kind, value)."""
    end = len(octets)
    while at + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(octets, at)
        if length < 4:
            return
        yield kind & _KIND, octets[at + 4 : at + length]
        at += (length + 3) & ~3


def attributes(octets: bytes, at: int = 0) -> dict[int, bytes]:
    """Return the attributes that stand from an offset to the end, by kind; of a repeated kind the last."""
    return dict(each_attribute(octets, at))


def integer(octets: bytes) -> int:
    """Return a number of whatever size in the machine's order."""
    return int.from_bytes(octets, sys.byteorder)


def string(octets: bytes) -> str:
    """Return the text of a string attribute."""
    return octets.rstrip(b"\0").decode(errors="replace")


def messages(octets: bytes) -> Iterator[Message]:
    """Cut what was received into messages (hot when routes are read)."""
    at, end = 0, len(octets)
    unpack = HEADER.unpack_from
    while at + 16 <= end:
        length, kind, flags, sequence, port = unpack(octets, at)
        if length < 16:
            return
        yield Message(kind, flags, sequence, port, octets[at + 16 : at + length])
        at += (length + 3) & ~3


def error_number(message: Message) -> int:
    """Return the number at the beginning of an ERROR or DONE message, 0 for none."""
    return -int.from_bytes(message.body[:4], sys.byteorder, signed=True)


def failure(message: Message) -> Failure | None:
    """Return what an ERROR message reports; None for an acknowledgement."""
    code = error_number(message)
    if code == 0:
        return None
    words = ""
    if message.flags & ACK_TLVS:
        echoed = 0 if message.flags & CAPPED else len(echo(message)) - 16
        words = string(attributes(message.body, 20 + ((echoed + 3) & ~3)).get(_WORDS, b""))
    return Failure(code, words or os.strerror(code))


def echo(message: Message) -> bytes:
    """Return the request, header and all, that an ERROR message answers."""
    length = HEADER.unpack_from(message.body, 4)[0]
    return message.body[4 : 4 + length]
