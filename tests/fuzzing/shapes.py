"""Messages as trees of what their length fields enclose: a mutation changes a thing and keeps its frame, or breaks it.

Cut and joined without the project's codec, which is under test. `cut` takes whole messages that are in order; `octets`
writes a tree, with lengths that fit.
"""

from __future__ import annotations

import struct

import attrs

MARKER = b"\xff" * 16
OPEN, UPDATE = 1, 2
EXTENDED = 0x10
MP_REACH, MP_UNREACH = 14, 15
EVPN = (25, 70)
FLOW_SPECIFICATIONS = (133, 134)


@attrs.define
class Attribute:
    """A path attribute; of the MP attributes, the NLRI apart from what stands in front of them."""

    flags: int
    code: int
    value: bytes  # MP_REACH_NLRI, MP_UNREACH_NLRI: what is in front of the NLRI
    routes: list[bytes] = attrs.field(factory=list)  # NLRI, each with its length

    @property
    def family(self) -> tuple[int, int]:
        """AFI and SAFI of an MP attribute."""
        return int.from_bytes(self.value[:2], "big"), int.from_bytes(self.value[2:3], "big")

    def octets(self) -> bytes:
        """As on the wire."""
        value = self.value + b"".join(self.routes)
        if self.flags & EXTENDED or len(value) > 255:
            return struct.pack("!BBH", self.flags | EXTENDED, self.code, len(value) & 0xFFFF) + value
        return bytes((self.flags, self.code, len(value))) + value


@attrs.define
class Routes:
    """The parts of an UPDATE."""

    withdrawn: list[bytes]
    attributes: list[Attribute]
    announced: list[bytes]
    paths: bool = False  # the NLRI have path identifiers

    def octets(self) -> bytes:
        """The body."""
        withdrawn = b"".join(self.withdrawn)
        attributes = b"".join(each.octets() for each in self.attributes)
        lengths = struct.pack("!H", len(withdrawn) & 0xFFFF), struct.pack("!H", len(attributes) & 0xFFFF)
        return lengths[0] + withdrawn + lengths[1] + attributes + b"".join(self.announced)

    def copy(self) -> Routes:
        """One that can be changed."""
        attributes = [Attribute(each.flags, each.code, each.value, list(each.routes)) for each in self.attributes]
        return Routes(list(self.withdrawn), attributes, list(self.announced), self.paths)


@attrs.define
class Introduction:
    """The parts of an OPEN."""

    head: bytes  # version, AS, hold time, identifier
    capabilities: list[tuple[int, bytes]]
    together: bool = True  # in one optional parameter, else in one each
    extended: bool = False  # in the form of RFC 9072

    def octets(self) -> bytes:
        """The body."""
        told = [bytes((code, len(value) & 0xFF)) + value for code, value in self.capabilities]
        parameters = [b"".join(told)] if self.together and told else told
        if self.extended or sum(map(len, parameters)) + 2 * len(parameters) > 254:
            rest = b"".join(struct.pack("!BH", 2, len(each) & 0xFFFF) + each for each in parameters)
            return self.head + b"\xff\xff" + struct.pack("!H", len(rest) & 0xFFFF) + rest
        rest = b"".join(bytes((2, len(each))) + each for each in parameters)
        return self.head + bytes((len(rest),)) + rest

    def copy(self) -> Introduction:
        """One that can be changed."""
        return Introduction(self.head, list(self.capabilities), self.together, self.extended)


Tree = Routes | Introduction


def message(kind: int, body: bytes) -> bytes:
    """A whole message; its length is wrong where there is none for so long a body."""
    return MARKER + struct.pack("!HB", 19 + len(body) & 0xFFFF, kind) + body


def cut(octets: bytes, *, paths: bool = False) -> Tree | None:
    """The tree of one message, with NLRI that have path identifiers or not; None if it is neither OPEN nor UPDATE."""
    body = octets[19:]
    match octets[18]:
        case 1:  # OPEN
            return _introduction(body)
        case 2:
            return _routes(body, paths)
    return None


def _introduction(body: bytes) -> Introduction:
    extended = body[9:11] == b"\xff\xff"
    rest, size = (body[13:], 2) if extended else (body[10:], 1)
    told: list[tuple[int, bytes]] = []
    parameters = 0
    while rest:
        end = 1 + size + int.from_bytes(rest[1 : 1 + size], "big")
        capabilities, rest = rest[1 + size : end], rest[end:]
        parameters += 1
        while capabilities:
            end = 2 + capabilities[1]
            told.append((capabilities[0], capabilities[2:end]))
            capabilities = capabilities[end:]
    return Introduction(body[:9], told, parameters < 2, extended)


def _routes(body: bytes, paths: bool) -> Routes:
    at = 2 + int.from_bytes(body[:2], "big")
    end = at + 2 + int.from_bytes(body[at : at + 2], "big")
    return Routes(
        nlri(body[2:at], (1, 1), paths=paths),
        _attributes(body[at + 2 : end], paths),
        nlri(body[end:], (1, 1), paths=paths),
        paths,
    )


def _attributes(octets: bytes, paths: bool) -> list[Attribute]:
    found = []
    while octets:
        start = 4 if octets[0] & EXTENDED else 3
        end = start + int.from_bytes(octets[2:start], "big")
        attribute = Attribute(octets[0], octets[1], octets[start:end])
        if attribute.code in (MP_REACH, MP_UNREACH):
            value = attribute.value
            head = 5 + value[3] if attribute.code == MP_REACH else 3
            attribute.value = value[:head]
            attribute.routes = nlri(value[head:], (value[0] << 8 | value[1], value[2]), paths=paths)
        found.append(attribute)
        octets = octets[end:]
    return found


def nlri(octets: bytes, family: tuple[int, int], *, paths: bool) -> list[bytes]:
    """NLRI one by one, each with its path identifier if there are `paths`; octets that make none are the last one."""
    found = []
    while octets:
        at = 4 if paths else 0
        if family == EVPN:
            end = at + 2 + int.from_bytes(octets[at + 1 : at + 2], "big")
        elif family[1] in FLOW_SPECIFICATIONS:
            long = octets[at : at + 1] >= b"\xf0"
            size = int.from_bytes(octets[at : at + 2], "big") & 0xFFF if long else octets[at]
            end = at + (2 if long else 1) + size
        else:
            end = at + 1 + (int.from_bytes(octets[at : at + 1], "big") + 7) // 8
        found.append(octets[:end])
        octets = octets[end:]
    return found
