"""An encoder of BGP messages of the suite's own: octets exactly as a case wants them, also wrong ones.

It shares nothing with `speaker.wire`, so that a misreading of an RFC there is not repeated here. Every length that a
message says can be told another value than the true one.
"""

from __future__ import annotations

import ipaddress

OPEN, UPDATE, NOTIFICATION, KEEPALIVE, ROUTE_REFRESH = 1, 2, 3, 4, 5
MARKER = b"\xff" * 16

FAMILIES = {
    "ipv4": (1, 1),
    "ipv6": (2, 1),
    "vpnv4": (1, 128),
    "vpnv6": (2, 128),
    "evpn": (25, 70),
    "rtc": (1, 132),
    "ipv4-flowspec": (1, 133),
    "ipv6-flowspec": (2, 133),
}
"""Names of families, with AFI and SAFI."""


def u8(number: int) -> bytes:
    return number.to_bytes(1, "big")


def u16(number: int) -> bytes:
    return number.to_bytes(2, "big")


def u24(number: int) -> bytes:
    return number.to_bytes(3, "big")


def u32(number: int) -> bytes:
    return number.to_bytes(4, "big")


def ip(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def message(kind: int, body: bytes = b"", *, length: int | None = None, marker: bytes = MARKER) -> bytes:
    """A message (RFC 4271 section 4.1)."""
    return marker + u16(19 + len(body) if length is None else length) + u8(kind) + body


def keepalive() -> bytes:
    return message(KEEPALIVE)


def notification(code: int, subcode: int, data: bytes = b"") -> bytes:
    return message(NOTIFICATION, u8(code) + u8(subcode) + data)


def refresh(family: str, subtype: int = 0) -> bytes:
    """A ROUTE-REFRESH (RFC 2918 section 3, RFC 7313 section 3.2)."""
    afi, safi = FAMILIES[family]
    return message(ROUTE_REFRESH, u16(afi) + u8(subtype) + u8(safi))


# OPEN


def capability(code: int, value: bytes = b"", *, length: int | None = None) -> bytes:
    """One capability (RFC 5492 section 4)."""
    return u8(code) + u8(len(value) if length is None else length) + value


def multiprotocol(family: str) -> bytes:
    afi, safi = FAMILIES[family]
    return capability(1, u16(afi) + u8(0) + u8(safi))


def four_octet_as(asn: int) -> bytes:
    return capability(65, u32(asn))


def graceful(time_s: int, families: dict[str, bool], *, restarting: bool = False, notify: bool = False) -> bytes:
    """Graceful restart (RFC 4724 section 3, RFC 8538 section 2); families with their F bit."""
    value = u16((0x8000 if restarting else 0) | (0x4000 if notify else 0) | time_s)
    for family, forwarding in families.items():
        afi, safi = FAMILIES[family]
        value += u16(afi) + u8(safi) + u8(0x80 if forwarding else 0)
    return capability(64, value)


def long_lived(stale_s: int, families: dict[str, bool]) -> bytes:
    """Long-lived graceful restart (RFC 9494 section 3); families with their F bit."""
    value = b""
    for family, forwarding in families.items():
        afi, safi = FAMILIES[family]
        value += u16(afi) + u8(safi) + u8(0x80 if forwarding else 0) + u24(stale_s)
    return capability(71, value)


def add_path(family: str, mode: int) -> bytes:
    """ADD-PATH (RFC 7911 section 4); mode 1 receive, 2 send, 3 both."""
    afi, safi = FAMILIES[family]
    return capability(69, u16(afi) + u8(safi) + u8(mode))


def parameter(kind: int, value: bytes, *, length: int | None = None) -> bytes:
    """An optional parameter of OPEN (RFC 4271 section 4.2)."""
    return u8(kind) + u8(len(value) if length is None else length) + value


def extended_parameter(kind: int, value: bytes, *, length: int | None = None) -> bytes:
    """An optional parameter in an extended OPEN (RFC 9072 section 2)."""
    return u8(kind) + u16(len(value) if length is None else length) + value


def open_body(
    asn: int, hold_s: int, router_id: bytes, parameters: bytes, *, version: int = 4, length: int | None = None
) -> bytes:
    head = u8(version) + u16(asn if asn < 65536 else 23456) + u16(hold_s) + router_id
    return head + u8(len(parameters) if length is None else length) + parameters


def extended_parameters(parameters: bytes, *, length: int | None = None, plain_length: int = 255) -> bytes:
    """The end of an OPEN from the parameters' length on, in the extended form (RFC 9072 section 2)."""
    return u8(plain_length) + u8(255) + u16(len(parameters) if length is None else length) + parameters


# UPDATE

OPTIONAL, TRANSITIVE, PARTIAL, EXTENDED = 0x80, 0x40, 0x20, 0x10
WELL_KNOWN, NON_TRANSITIVE, OPTIONAL_TRANSITIVE = 0x40, 0x80, 0xC0


def attribute(flags: int, code: int, value: bytes, *, length: int | None = None) -> bytes:
    """A path attribute (RFC 4271 section 4.3); the extended length is used when it is asked for, or needed."""
    size = len(value) if length is None else length
    if size > 255:
        flags |= EXTENDED
    return u8(flags) + u8(code) + (u16(size) if flags & EXTENDED else u8(size)) + value


def update(
    attributes: bytes = b"",
    nlri: bytes = b"",
    withdrawn: bytes = b"",
    *,
    withdrawn_length: int | None = None,
    attributes_length: int | None = None,
) -> bytes:
    body = u16(len(withdrawn) if withdrawn_length is None else withdrawn_length) + withdrawn
    body += u16(len(attributes) if attributes_length is None else attributes_length) + attributes + nlri
    return message(UPDATE, body)


def segment(kind: int, numbers: list[int], *, size: int = 4, count: int | None = None) -> bytes:
    """An AS_PATH segment: 1 AS_SET, 2 AS_SEQUENCE, 3 and 4 of confederations (RFC 5065)."""
    count = len(numbers) if count is None else count
    return u8(kind) + u8(count) + b"".join(number.to_bytes(size, "big") for number in numbers)


def prefix(text: str) -> bytes:
    """A prefix as NLRI: its length in bits and as few octets as hold it (RFC 4271 section 4.3)."""
    network = ipaddress.ip_network(text)
    return u8(network.prefixlen) + network.network_address.packed[: (network.prefixlen + 7) // 8]


def rd(number: int) -> bytes:
    """Route distinguisher 64512:number (RFC 4364 section 4.2, type 0)."""
    return u16(0) + u16(64512) + u32(number)


def route_target(number: int) -> bytes:
    """Route target 64512:number (RFC 4360 section 4)."""
    return b"\x00\x02" + u16(64512) + u32(number)


def vpn_prefix(number: int, text: str, label: bytes = b"\x00\x06\x41") -> bytes:
    """A labelled VPN route (RFC 8277 section 2, RFC 4364 section 4.3.4)."""
    plain = prefix(text)
    return u8(plain[0] + 64 + 8 * len(label)) + label + rd(number) + plain[1:]


def evpn(kind: int, value: bytes, *, length: int | None = None) -> bytes:
    """An EVPN route (RFC 7432 section 7)."""
    return u8(kind) + u8(len(value) if length is None else length) + value


def mp_reach(
    family: str,
    next_hop: bytes,
    nlri: bytes,
    *,
    reserved: int = 0,
    next_hop_length: int | None = None,
    flags: int = NON_TRANSITIVE,
) -> bytes:
    """MP_REACH_NLRI (RFC 4760 section 3)."""
    afi, safi = FAMILIES[family]
    size = len(next_hop) if next_hop_length is None else next_hop_length
    return attribute(flags, 14, u16(afi) + u8(safi) + u8(size) + next_hop + u8(reserved) + nlri)


def mp_unreach(family: str, nlri: bytes = b"", *, flags: int = NON_TRANSITIVE) -> bytes:
    """MP_UNREACH_NLRI (RFC 4760 section 4)."""
    afi, safi = FAMILIES[family]
    return attribute(flags, 15, u16(afi) + u8(safi) + nlri)


def end_of_rib(family: str) -> bytes:
    """RFC 4724 section 2."""
    return update() if family == "ipv4" else update(mp_unreach(family))


def attributes_of(octets: bytes) -> dict[int, bytes]:
    """Return path attributes that are right, by their code: the octet of their flags, and the value."""
    found = {}
    while octets:
        size = 2 if octets[0] & EXTENDED else 1
        end = 2 + size + int.from_bytes(octets[2 : 2 + size], "big")
        found[octets[1]] = octets[:1] + octets[2 + size : end]
        octets = octets[end:]
    return found
