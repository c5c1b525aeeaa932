"""Flow specifications (RFC 8955 section 4.2, RFC 8956 section 3): the components of one, checked and put into words.

    octets behind the length (and the route distinguisher) --cut--> components, all of them well formed
                                                           --text--> "dst 10.0.0.0/24 proto =tcp dport >=1024&<=2000"

A component is a type and either a prefix or a list of operators with values.  What the RFCs say SHOULD be (a protocol
in one octet, a port in two) is not asked for, what MUST be is; bits that are to be ignored are ignored.
"""

from __future__ import annotations

import ipaddress

DESTINATION, SOURCE, PROTOCOL, TCP_FLAGS, DSCP, FRAGMENT, FLOW_LABEL = 1, 2, 3, 9, 11, 12, 13

_NAMES = {
    DESTINATION: "dst",
    SOURCE: "src",
    PROTOCOL: "proto",  # the last next header in IPv6
    4: "port",
    5: "dport",
    6: "sport",
    7: "icmp-type",
    8: "icmp-code",
    TCP_FLAGS: "tcp-flags",
    10: "length",
    DSCP: "dscp",
    FRAGMENT: "fragment",
    FLOW_LABEL: "flow-label",
}
_ONE_OCTET, _TWO_OCTETS, _ANY_OCTETS = 0b0001, 0b0011, 0b1111
_SIZES = {kind: _ANY_OCTETS for kind in _NAMES if kind > SOURCE} | {
    TCP_FLAGS: _TWO_OCTETS,
    DSCP: _ONE_OCTET,
    FRAGMENT: _ONE_OCTET,
}
"""Which lengths the values of a type may have: bit n stands for 1 << n octets (RFC 8955 section 4.2.2)."""

_END, _AND = 0x80, 0x40  # of an operator octet (RFC 8955 section 4.2.1); its length is in the bits 0x30
_RELATIONS = ("false", "=", ">", ">=", "<", "<=", "!=", "true")  # by the bits less, greater, equal
_MATCHES = ("", "=", "!", "!=")  # by the bits not, match: without match one bit of the value is enough
_PROTOCOLS = {
    1: "icmp",
    2: "igmp",
    4: "ipip",
    6: "tcp",
    17: "udp",
    41: "ipv6",
    47: "gre",
    50: "esp",
    51: "ah",
    58: "icmpv6",
    89: "ospf",
    103: "pim",
    112: "vrrp",
    132: "sctp",
}
_FLAGS = {
    TCP_FLAGS: ("fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"),
    FRAGMENT: ("dont-fragment", "is-fragment", "first-fragment", "last-fragment"),
}
"""Names of the bits, the lowest first (RFC 8955 sections 4.2.2.9 and 4.2.2.12)."""


class FlowSpecificationError(ValueError):
    """Octets that are no flow specification; the message says what is wrong with which component."""


def cut(octets: bytes, width: int) -> list[tuple[int, int, int]]:
    """Return (type, start, end) of each component; `width` is 32 for IPv4 and 128 for IPv6.

    FlowSpecificationError if there is none, one is malformed or unknown, or the order is wrong (RFC 8955 section 4.2).
    """
    parts: list[tuple[int, int, int]] = []
    at, end, last = 0, len(octets), 0
    while at < end:
        kind, start = octets[at], at + 1
        if kind not in _NAMES or (kind == FLOW_LABEL and width == 32):
            raise FlowSpecificationError(f"component of the unknown type {kind}")
        if kind <= last:
            raise FlowSpecificationError(f"component of type {kind} behind one of type {last}")
        at = _end_of_list(octets, start, kind) if kind > SOURCE else _end_of_prefix(octets, start, width)
        parts.append((kind, start, at))
        last = kind
    if not parts:
        raise FlowSpecificationError("no component")
    return parts


def _end_of_prefix(octets: bytes, at: int, width: int) -> int:
    """Return where a prefix ends: length, for IPv6 an offset, and the octets of what is between both."""
    length = octets[at] if at < len(octets) else width + 1
    if width == 32:
        end = at + 1 + (length + 7 >> 3)
        if length > 32 or end > len(octets):
            raise FlowSpecificationError(f"prefix of {length} bits in {len(octets) - at} octets")
        return end
    offset = octets[at + 1] if at + 1 < len(octets) else 0
    end = at + 2 + (length - offset + 7 >> 3)
    if length > 128 or end > len(octets) or (offset >= length and (length or offset)):  # RFC 8956 section 3.1
        raise FlowSpecificationError(f"prefix of {length} bits from bit {offset} in {len(octets) - at} octets")
    return end


def _end_of_list(octets: bytes, at: int, kind: int) -> int:
    """Return where a list of operators and values ends: behind the one with the end-of-list bit."""
    sizes, end = _SIZES[kind], len(octets)
    while at < end:
        operator = octets[at]
        size = operator >> 4 & 3
        if not sizes >> size & 1:
            raise FlowSpecificationError(f"{_NAMES[kind]} has a value of {1 << size} octets")
        at += 1 + (1 << size)
        if operator & _END:
            if at <= end:
                return at
            break
    raise FlowSpecificationError(f"the list of {_NAMES[kind]} has no end")


def _steps(kind: int) -> bytes:
    """Return how many octets each operator takes with its value, 0 for those that the type may not have."""
    return bytes((1 + (1 << (n >> 4 & 3))) * (_SIZES[kind] >> (n >> 4 & 3) & 1) for n in range(256))


_STEPS = {width: {kind: _steps(kind) for kind in _SIZES if kind != FLOW_LABEL or width == 128} for width in (32, 128)}


def well_formed(octets: bytes, width: int, at: int = 0) -> bool:
    """Say whether `cut` takes the octets from `at` on (hot): one UPDATE may have 20,000 for which it does not."""
    end, last, steps_of = len(octets), 0, _STEPS[width]
    while at < end:
        kind = octets[at]
        at += 1
        if kind <= last or at >= end:
            return False
        last = kind
        if kind > SOURCE:
            steps = steps_of.get(kind)
            if steps is None:
                return False
            while at < end:
                operator = octets[at]
                step = steps[operator]
                if not step:
                    return False
                at += step
                if operator & _END:
                    break
            else:
                return False
        else:
            length, offset = octets[at], 0
            if width == 128:
                at += 1
                if at >= end:
                    return False
                offset = octets[at]
            if length > width or (offset >= length and offset):
                return False
            at += 1 + (length - offset + 7 >> 3)
    return at == end and last > 0


def text(octets: bytes, width: int) -> str:
    """Return a flow specification in words.

    Operators are =, !=, <, <=, >, >=, joined by & (and) or a comma (or, which binds less); those of flags are none
    (one of the bits is set), = (all are), ! and != (the opposites).  An IPv6 pattern that does not begin at bit 0 is
    written with its offset as RFC 8956 does: ::1234:5678:9a00:0/64-104.
    FlowSpecificationError if it is none.
    """
    words = []
    for kind, start, end in cut(octets, width):
        part = octets[start:end]
        words.append(f"{_NAMES[kind]} {_prefix_text(part, width) if kind <= SOURCE else _list_text(part, kind)}")
    return " ".join(words)


def _prefix_text(octets: bytes, width: int) -> str:
    length, offset, pattern = (octets[0], 0, octets[1:]) if width == 32 else (octets[0], octets[1], octets[2:])
    bits = length - offset
    number = int.from_bytes(pattern, "big") >> len(pattern) * 8 - bits << width - length
    address = ipaddress.IPv4Address(number) if width == 32 else ipaddress.IPv6Address(number)
    return f"{address}/{offset}-{length}" if offset else f"{address}/{length}"


def _list_text(octets: bytes, kind: int) -> str:
    words: list[str] = []
    at = 0
    while at < len(octets):
        operator = octets[at]
        after = at + 1 + (1 << (operator >> 4 & 3))
        value = int.from_bytes(octets[at + 1 : after], "big")
        if at:  # the first operator follows nothing, whatever its bit
            words.append("&" if operator & _AND else ",")
        if kind in _FLAGS:
            words.append(_MATCHES[operator & 3] + _flags_text(value, _FLAGS[kind]))
        else:
            words.append(_RELATIONS[operator & 7])
            if operator & 7 not in (0, 7):
                words.append(_PROTOCOLS.get(value, str(value)) if kind == PROTOCOL else str(value))
        at = after
    return "".join(words)


def _flags_text(value: int, names: tuple[str, ...]) -> str:
    said = [name for bit, name in enumerate(names) if value >> bit & 1]
    others = value >> len(names) << len(names)
    if others or not said:
        said.append(f"0x{others:x}")
    return "+".join(said)
