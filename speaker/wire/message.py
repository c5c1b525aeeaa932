"""BGP messages but UPDATE (RFC 4271 section 4, RFC 2918): bytes to values and back; cutting a stream into messages.

Every decoder takes the body, without the header of 19 octets, and raises SessionReset with the code, subcode and
data that RFC 4271 section 6 names.  `encode` gives the whole message.
"""

from __future__ import annotations

import attrs

from speaker.errors import SessionReset
from speaker.wire.capability import Capability, decode_capability

MARKER = b"\xff" * 16
HEADER_SIZE = 19
MESSAGE_LIMIT = 4096  # RFC 4271 section 4.1
EXTENDED_LIMIT = 65535  # RFC 8654 section 4

OPEN, UPDATE, NOTIFICATION, KEEPALIVE_TYPE, ROUTE_REFRESH = 1, 2, 3, 4, 5

_SHORTEST = {OPEN: 29, UPDATE: 23, NOTIFICATION: 21, KEEPALIVE_TYPE: 19, ROUTE_REFRESH: 19}

_CAPABILITIES = 2  # the optional parameter of RFC 5492
_EXTENDED = 255  # in place of the parameters' length: RFC 9072


def message(kind: int, body: bytes) -> bytes:
    """Return the whole message."""
    return MARKER + (HEADER_SIZE + len(body)).to_bytes(2, "big") + bytes((kind,)) + body


KEEPALIVE = message(KEEPALIVE_TYPE, b"")


def split(buffer: bytes, limit: int = MESSAGE_LIMIT) -> tuple[list[tuple[int, bytes]], int]:
    """Cut whole messages off a stream: (type, body) of each, and how many octets they took (hot: once per read).

    A broken header raises SessionReset (RFC 4271 section 6.1) when it is the first in the buffer; the messages before
    it are returned first.  `limit` is that of the session; an OPEN has 4096 octets at most (RFC 8654 section 4).
    """
    messages: list[tuple[int, bytes]] = []
    at, size = 0, len(buffer)
    while size - at >= HEADER_SIZE:
        length = buffer[at + 16] << 8 | buffer[at + 17]
        kind = buffer[at + 18]
        if (
            buffer[at : at + 16] != MARKER
            or not HEADER_SIZE <= length <= (MESSAGE_LIMIT if kind == OPEN else limit)
            or length < _SHORTEST.get(kind, 65536)
        ):
            if messages:
                break
            raise _broken_header(buffer[at : at + HEADER_SIZE], limit)
        if kind == KEEPALIVE_TYPE and length != HEADER_SIZE:
            if messages:
                break
            raise _bad_length(length)
        end = at + length
        if end > size:
            break
        messages.append((kind, buffer[at + HEADER_SIZE : end]))
        at = end
    return messages, at


def _broken_header(header: bytes, limit: int) -> SessionReset:
    length, kind = int.from_bytes(header[16:18], "big"), header[18]
    if header[:16] != MARKER:
        return SessionReset(1, 1, f"the marker is {header[:16].hex()}, not all ones")
    if kind not in _SHORTEST and HEADER_SIZE <= length <= limit:
        return SessionReset(1, 3, f"message type {kind} does not exist", bytes((kind,)))
    return _bad_length(length)


def _bad_length(length: int) -> SessionReset:
    return SessionReset(1, 2, f"a message of its type cannot have {length} octets", length.to_bytes(2, "big"))


@attrs.frozen
class Open:
    """The first message of each side (RFC 4271 section 4.2)."""

    my_as: int  # 2 octets; AS_TRANS for a larger one
    hold_s: int
    router_id: bytes  # 4 octets
    capabilities: tuple[Capability, ...] = ()

    def encode(self) -> bytes:
        """Return the whole message: all capabilities in one optional parameter, extended (RFC 9072) when it must be."""
        capabilities = b"".join(each.encode() for each in self.capabilities)
        head = b"\x04" + self.my_as.to_bytes(2, "big") + self.hold_s.to_bytes(2, "big") + self.router_id
        if not capabilities:
            parameters = b"\0"
        elif len(capabilities) <= 253:
            parameters = bytes((len(capabilities) + 2, _CAPABILITIES, len(capabilities))) + capabilities
        else:
            size = len(capabilities)
            parameters = bytes((_EXTENDED, _EXTENDED)) + (size + 3).to_bytes(2, "big")
            parameters += bytes((_CAPABILITIES,)) + size.to_bytes(2, "big") + capabilities
        return message(OPEN, head + parameters)

    @classmethod
    def decode(cls, body: bytes) -> Open:
        """Read and check what can be checked without knowing the neighbour (RFC 4271 section 6.2)."""
        if len(body) < 10:
            raise SessionReset(1, 2, f"an OPEN of {len(body)} octets", (len(body) + HEADER_SIZE).to_bytes(2, "big"))
        if body[0] != 4:
            raise SessionReset(2, 1, f"BGP version {body[0]}, not 4", b"\x00\x04")
        my_as, hold_s, router_id = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big"), body[5:9]
        if hold_s in (1, 2):
            raise SessionReset(2, 6, f"hold time {hold_s} s is neither 0 nor at least 3 s")
        if router_id == bytes(4):
            raise SessionReset(2, 3, "BGP identifier 0.0.0.0")
        opened = cls(my_as, hold_s, router_id, tuple(_parameters(body[9:])))
        if my_as == 0:
            raise SessionReset(2, 2, "AS number 0")
        return opened


def _parameters(octets: bytes) -> list[Capability]:
    """Read the optional parameters, from their length on."""
    length, rest, size = octets[0], octets[1:], 1
    if length and rest[:1] == b"\xff":  # RFC 9072 section 2: the type alone tells, whatever the length
        if len(rest) < 3:
            raise SessionReset(2, 0, f"extended optional parameters are cut off: {rest.hex()}")
        length, rest, size = int.from_bytes(rest[1:3], "big"), rest[3:], 2
    if length != len(rest):
        raise SessionReset(2, 0, f"optional parameters of {len(rest)} octets say that they have {length}")
    capabilities: list[Capability] = []
    while rest:
        end = 1 + size + int.from_bytes(rest[1 : 1 + size], "big")
        if len(rest) < 1 + size or len(rest) < end:
            raise SessionReset(2, 0, f"an optional parameter is cut off: {rest[:32].hex()}")
        if rest[0] != _CAPABILITIES:
            raise SessionReset(2, 4, f"optional parameter {rest[0]} is not known")
        capabilities += _capabilities(rest[1 + size : end])
        rest = rest[end:]
    return capabilities


def _capabilities(octets: bytes) -> list[Capability]:
    found: list[Capability] = []
    while octets:
        end = 2 + octets[1] if len(octets) > 1 else 2
        if len(octets) < end:
            raise SessionReset(2, 0, f"a capability is cut off: {octets[:32].hex()}")
        found.append(decode_capability(octets[0], octets[2:end]))
        octets = octets[end:]
    return found


@attrs.frozen
class Notification:
    """Why a session ends (RFC 4271 section 4.5)."""

    code: int
    subcode: int
    data: bytes = b""

    def encode(self, limit: int = MESSAGE_LIMIT) -> bytes:
        """Return the whole message, the data cut to what fits."""
        return message(NOTIFICATION, bytes((self.code, self.subcode)) + self.data[: limit - HEADER_SIZE - 2])

    @classmethod
    def decode(cls, body: bytes) -> Notification:
        """Read it; `split` has seen to its length."""
        return cls(body[0], body[1], body[2:])


@attrs.frozen
class RouteRefresh:
    """Ask for all routes of a family again (RFC 2918 section 3); `family` is AFI * 256 + SAFI."""

    family: int
    subtype: int = 0  # 1 and 2: begin and end of the refresh (RFC 7313 section 3.2)

    def encode(self) -> bytes:
        """Return the whole message."""
        return message(
            ROUTE_REFRESH, bytes((self.family >> 16, self.family >> 8 & 0xFF, self.subtype, self.family & 0xFF))
        )

    @classmethod
    def decode(cls, body: bytes) -> RouteRefresh:
        """Read it; a wrong length is error 7/1 with the whole message (RFC 7313 section 5)."""
        if len(body) != 4:
            raise SessionReset(7, 1, f"a ROUTE-REFRESH of {len(body)} octets", message(ROUTE_REFRESH, body))
        return cls(body[0] << 16 | body[1] << 8 | body[3], body[2])
