"""Small frozen values of BGP VPNs, and their text: families, route distinguishers, route targets, MACs, ESIs, prefixes.

Each value is its octets, as on the wire, so that comparing, hashing and indexing need no thought.  `parse` reads what
people write, `str` writes what they read, and one undoes the other.
"""

from __future__ import annotations

import ipaddress
import re
from enum import IntEnum
from typing import Literal

import attrs

from speaker import flowspec


class ValueTextError(ValueError):
    """A text or octets that do not make the value; the message names it."""


class Family(IntEnum):
    """An address family and subsequent address family (RFC 4760); the number is AFI * 256 + SAFI."""

    IPV4 = 1 << 8 | 1
    IPV6 = 2 << 8 | 1
    VPNV4 = 1 << 8 | 128  # RFC 4364
    VPNV6 = 2 << 8 | 128  # RFC 4659
    EVPN = 25 << 8 | 70  # RFC 7432
    RTC = 1 << 8 | 132  # RFC 4684
    IPV4_FLOWSPEC = 1 << 8 | 133  # RFC 8955
    IPV6_FLOWSPEC = 2 << 8 | 133  # RFC 8956
    VPNV4_FLOWSPEC = 1 << 8 | 134  # RFC 8955 section 8
    VPNV6_FLOWSPEC = 2 << 8 | 134  # RFC 8956

    @property
    def afi(self) -> int:
        """Return the address family identifier."""
        return self >> 8

    @property
    def safi(self) -> int:
        """Return the subsequent address family identifier."""
        return self & 0xFF

    @property
    def text(self) -> str:
        """Return the name that configuration and API use, for example "vpnv4" or "ipv4-flowspec"."""
        return self.name.lower().replace("_", "-")

    @classmethod
    def parse(cls, text: str) -> Family:
        """Return the family of that name."""
        try:
            return cls[text.strip().upper().replace("-", "_")]
        except KeyError:
            names = ", ".join(family.text for family in cls)
            raise ValueTextError(f"{text!r} is not a family; there are {names}") from None


def _wire(size: int) -> object:
    def check(instance: object, attribute: object, value: bytes) -> None:
        if len(value) != size:
            name = type(instance).__name__
            raise ValueTextError(f"{name} takes {size} octets, not {len(value)}: {bytes(value).hex()!r}")

    return attrs.field(validator=check)


_NUMBER = r"(0|[1-9][0-9]*)"
_ADMINISTRATED = re.compile(rf"(?P<adm>{_NUMBER}(\.{_NUMBER}){{0,3}})(?P<long>L?):(?P<num>{_NUMBER})")


def _parse_administrated(what: str, text: str) -> tuple[int, bytes]:
    """Read "ADMINISTRATOR:NUMBER"; return the type (0 two-octet AS, 1 IPv4, 2 four-octet AS) and the 6 octets."""
    found = _ADMINISTRATED.fullmatch(text)
    if found is None:
        raise ValueTextError(f"{text!r} is not a {what}: it takes AS:NUMBER, as 64512:100, or ADDRESS:NUMBER")
    administrator, number = found["adm"], int(found["num"])
    parts = [int(part) for part in administrator.split(".")]
    if len(parts) == 4 and not found["long"]:
        limit, kind, size = (1 << 16) - 1, 1, 2
        if max(parts) > 255:
            raise ValueTextError(f"{text!r} is not a {what}: {administrator} is not an IPv4 address")
        octets = bytes(parts)
    elif len(parts) <= 2:
        if len(parts) == 2 and max(parts) > 0xFFFF:
            raise ValueTextError(f"{text!r} is not a {what}: {administrator} is not an AS number")
        asn = parts[0] if len(parts) == 1 else parts[0] << 16 | parts[1]
        if asn > 0xFFFFFFFF:
            raise ValueTextError(f"{text!r} is not a {what}: AS {asn} is above 4294967295")
        if asn > 0xFFFF or found["long"] or len(parts) == 2:
            limit, kind, octets, size = (1 << 16) - 1, 2, asn.to_bytes(4, "big"), 2
        else:
            limit, kind, octets, size = (1 << 32) - 1, 0, asn.to_bytes(2, "big"), 4
    else:
        raise ValueTextError(f"{text!r} is not a {what}: {administrator} is neither an AS nor an IPv4 address")
    if number > limit:
        raise ValueTextError(f"{text!r} is not a {what}: the number {number} is above {limit}")
    return kind, octets + number.to_bytes(size, "big")


def _text_administrated(kind: int, six: bytes) -> str:
    if kind == 0:
        return f"{int.from_bytes(six[:2], 'big')}:{int.from_bytes(six[2:], 'big')}"
    if kind == 1:
        return f"{ipaddress.IPv4Address(six[:4])}:{int.from_bytes(six[4:], 'big')}"
    asn = int.from_bytes(six[:4], "big")
    return f"{asn}{'L' if asn <= 0xFFFF else ''}:{int.from_bytes(six[4:], 'big')}"


@attrs.frozen(cache_hash=True)
class RouteDistinguisher:
    """Makes equal prefixes of different VPNs different (RFC 4364 section 4.2)."""

    wire: bytes = _wire(8)  # type: ignore[assignment]  # type 2, administrator and number 6

    @classmethod
    def parse(cls, text: str) -> RouteDistinguisher:
        """Read "64512:100", "192.0.2.1:100", "4200000000:100", or "100L:5" for a small AS in its 4-octet form."""
        kind, six = _parse_administrated("route distinguisher", text)
        return cls(kind.to_bytes(2, "big") + six)

    def __str__(self) -> str:
        kind = int.from_bytes(self.wire[:2], "big")
        return _text_administrated(kind, self.wire[2:]) if kind <= 2 else f"0x{self.wire.hex()}"


@attrs.frozen(cache_hash=True)
class RouteTarget:
    """Which VPNs a route belongs to (RFC 4360 section 4, RFC 5668); compared, hashed and indexed by its octets."""

    wire: bytes = _wire(8)  # type: ignore[assignment]  # type, sub-type 2, administrator, number

    @classmethod
    def parse(cls, text: str) -> RouteTarget:
        """Read "64512:100", "192.0.2.1:100", "4200000000:100", "1.10:5" (asdot) or "100L:5"."""
        kind, six = _parse_administrated("route target", text)
        return cls(bytes((kind, 2)) + six)

    def __str__(self) -> str:
        kind = self.wire[0]
        return _text_administrated(kind, self.wire[2:]) if kind <= 2 else f"0x{self.wire.hex()}"


@attrs.frozen(cache_hash=True)
class Mac:
    """An Ethernet address."""

    wire: bytes = _wire(6)  # type: ignore[assignment]

    @classmethod
    def parse(cls, text: str) -> Mac:
        """Read six pairs of hex digits, separated by colons or dashes."""
        if re.fullmatch(r"[0-9A-Fa-f]{2}([:-])[0-9A-Fa-f]{2}(\1[0-9A-Fa-f]{2}){4}", text) is None:
            raise ValueTextError(
                f"{text!r} is not a MAC address: it takes six pairs of hex digits, as fa:16:3e:00:00:01"
            )
        return cls(bytes.fromhex(text.replace(":", "").replace("-", "")))

    def __str__(self) -> str:
        return self.wire.hex(":")


@attrs.frozen(cache_hash=True)
class Esi:
    """An Ethernet segment identifier (RFC 7432 section 5)."""

    wire: bytes = _wire(10)  # type: ignore[assignment]

    @classmethod
    def parse(cls, text: str) -> Esi:
        """Read ten pairs of hex digits, separated by colons."""
        if re.fullmatch(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){9}", text) is None:
            raise ValueTextError(f"{text!r} is not an ESI: it takes ten pairs of hex digits with colons")
        return cls(bytes.fromhex(text.replace(":", "")))

    def __str__(self) -> str:
        return self.wire.hex(":")


def prefix_bytes(text: str) -> bytes:
    """Return the prefix octets, truncated to the length, and one octet with the length.

    ValueTextError if it is none.
    """
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise ValueTextError(f"{text!r} is not a prefix: {error}") from None
    length = network.prefixlen
    return network.network_address.packed[: (length + 7) // 8] + bytes([length])


def prefix_text(prefix: bytes, afi: Literal[4, 6]) -> str:
    """Return a prefix as people write it; `afi` is 4 or 6."""
    size = 4 if afi == 4 else 16
    return f"{ipaddress.ip_address(prefix[:-1].ljust(size, bytes(1)))}/{prefix[-1]}"


def address_text(octets: bytes) -> str:
    """Return an address of 4 or 16 octets as people write it, others in hex."""
    return str(ipaddress.ip_address(octets)) if len(octets) in (4, 16) else octets.hex()


def key_text(family: Family, key: bytes) -> str:
    """Return an NLRI key (see speaker.path) as people read it, for example "64512:1 10.0.0.0/24".

    Nothing of it is what a peer wrote: all is made of numbers, addresses and names of ours.
    """
    match family:
        case Family.IPV4 | Family.IPV6:
            return prefix_text(key, 4 if family is Family.IPV4 else 6)
        case Family.VPNV4 | Family.VPNV6:
            return f"{RouteDistinguisher(key[:8])} {prefix_text(key[8:], 4 if family is Family.VPNV4 else 6)}"
        case Family.RTC:
            if key[-1] == 96:
                return f"{int.from_bytes(key[:4], 'big')} {RouteTarget(key[4:12])}"
            return f"0x{key[:-1].hex()}/{key[-1]}" if key[-1] else "default"
        case Family.EVPN:
            return _evpn_text(key)
        case Family.IPV4_FLOWSPEC | Family.IPV6_FLOWSPEC:
            return _flowspec_text(family, key)
        case Family.VPNV4_FLOWSPEC | Family.VPNV6_FLOWSPEC:
            return f"{RouteDistinguisher(key[:8])} {_flowspec_text(family, key[8:])}"


def _flowspec_text(family: Family, components: bytes) -> str:
    """Return a flow specification in words, a malformed one (which can be withdrawn only) in hex."""
    try:
        return flowspec.text(components, 32 if family.afi == 1 else 128)
    except flowspec.FlowSpecificationError:
        return f"0x{components.hex()}"


def _evpn_text(key: bytes) -> str:
    rd, rest = str(RouteDistinguisher(key[1:9])), key[9:]

    def tag(octets: bytes) -> str:
        return f"[{int.from_bytes(octets, 'big')}]"

    match key[0]:
        case 1:
            return f"[1]:[{rd}]:[{Esi(rest[:10])}]:{tag(rest[10:14])}"
        case 2:
            text = f"[2]:[{rd}]:{tag(rest[:4])}:[48]:[{Mac(rest[5:11])}]"
            return f"{text}:[{rest[11]}]:[{address_text(rest[12:])}]" if rest[11] else text
        case 3:
            return f"[3]:[{rd}]:{tag(rest[:4])}:[{rest[4]}]:[{address_text(rest[5:])}]"
        case 4:
            return f"[4]:[{rd}]:[{Esi(rest[:10])}]:[{rest[10]}]:[{address_text(rest[11:])}]"
        case 5:
            return f"[5]:[{rd}]:{tag(rest[:4])}:[{rest[4]}]:[{address_text(rest[5:])}]"
        case kind:
            return f"[{kind}]:0x{key[1:].hex()}"
