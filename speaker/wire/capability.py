"""Capabilities that OPEN messages carry (RFC 5492): what a speaker can do beyond RFC 4271.

Received capabilities are read liberally: one that is not known, or that has a wrong length, is kept as `Unknown`
and has no effect, as RFC 5492 section 3 wants it.  One that says all by being there counts whatever its value is.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import ClassVar

import attrs


class Capability:
    """One capability: a code and a value."""

    code: ClassVar[int]

    def value(self) -> bytes:
        """Return the octets after code and length."""
        return b""

    def encode(self) -> bytes:
        """Return code, length and value."""
        value = self.value()
        return bytes((self.code, len(value))) + value


def _afi_safi(family: int) -> tuple[int, int]:
    return family >> 8, family & 0xFF


@attrs.frozen
class Multiprotocol(Capability):
    """Routes of this family can be exchanged (RFC 4760 section 8); `family` is AFI * 256 + SAFI."""

    code = 1
    family: int

    def value(self) -> bytes:
        """Return AFI 2, reserved 1, SAFI 1."""
        return struct.pack("!HxB", *_afi_safi(self.family))


@attrs.frozen
class RouteRefreshCapability(Capability):
    """ROUTE-REFRESH messages are understood (RFC 2918 section 2)."""

    code = 2


@attrs.frozen
class ExtendedNextHop(Capability):
    """Routes of these families may have an IPv6 next hop although they are of IPv4 (RFC 8950 section 4)."""

    code = 5
    families: frozenset[int]

    def value(self) -> bytes:
        """Return AFI 2, SAFI 2, next hop AFI 2 of each family."""
        return b"".join(struct.pack("!HHH", *_afi_safi(family), 2) for family in sorted(self.families))


@attrs.frozen
class ExtendedMessage(Capability):
    """Messages may have up to 65535 octets, OPEN and KEEPALIVE excepted (RFC 8654 section 3)."""

    code = 6


@attrs.frozen
class RoleCapability(Capability):
    """What the sender is to us: 0 provider, 1 route server, 2 its client, 3 customer, 4 peer (RFC 9234 section 4.1)."""

    code = 9
    role: int

    def value(self) -> bytes:
        """Return the role, 1 octet."""
        return bytes((self.role,))


@attrs.frozen
class AddPath(Capability):
    """Several paths of one destination can be told (RFC 7911 section 4)."""

    code = 69
    RECEIVE: ClassVar = 1
    SEND: ClassVar = 2
    modes: Mapping[int, int]  # family: RECEIVE, SEND or both added

    def value(self) -> bytes:
        """Return AFI 2, SAFI 1, mode 1 of each family."""
        return b"".join(struct.pack("!HBB", *_afi_safi(family), mode) for family, mode in self.modes.items())


@attrs.frozen
class EnhancedRouteRefresh(Capability):
    """The begin and the end of a refresh are told (RFC 7313 section 3.1)."""

    code = 70


@attrs.frozen
class LongLivedGracefulRestart(Capability):
    """How long stale routes shall be kept when the restart time is over (RFC 9494 section 3.1)."""

    code = 71
    families: Mapping[int, tuple[bool, int]]  # family: was its forwarding state preserved, stale time in s (24 bits)

    def value(self) -> bytes:
        """Return AFI 2, SAFI 1, flags 1, stale time 3 of each family."""
        return b"".join(
            struct.pack("!HBB", *_afi_safi(family), 0x80 if preserved else 0) + time_s.to_bytes(3, "big")
            for family, (preserved, time_s) in self.families.items()
        )


@attrs.frozen
class GracefulRestart(Capability):
    """What happens to routes and to forwarding when the session restarts (RFC 4724 section 3, RFC 8538 section 2)."""

    code = 64
    restarting: bool  # the R bit: the sender comes from a restart
    time_s: int  # 12 bits: how long its routes shall be kept
    forwarding: Mapping[int, bool]  # family: was its forwarding state preserved
    notification: bool = False  # the N bit

    def value(self) -> bytes:
        """Return flags and time 2, then AFI 2, SAFI 1, flags 1 of each family."""
        head = self.time_s | (0x8000 if self.restarting else 0) | (0x4000 if self.notification else 0)
        families = (
            struct.pack("!HBB", *_afi_safi(family), 0x80 if preserved else 0)
            for family, preserved in self.forwarding.items()
        )
        return struct.pack("!H", head) + b"".join(families)


@attrs.frozen
class FourOctetAs(Capability):
    """AS numbers have 4 octets, and this is the sender's (RFC 6793 section 3)."""

    code = 65
    asn: int

    def value(self) -> bytes:
        """Return the AS number."""
        return self.asn.to_bytes(4, "big")


@attrs.frozen
class Fqdn(Capability):
    """The sender's host and domain name, for people (draft-walton-bgp-hostname-capability).

    As sent, not to be trusted.
    """

    code = 73
    host: str
    domain: str

    def value(self) -> bytes:
        """Return both names, each after its length."""
        host, domain = self.host.encode()[:64], self.domain.encode()[:64]
        return bytes((len(host),)) + host + bytes((len(domain),)) + domain


@attrs.frozen
class Unknown(Capability):
    """A capability that has no effect here."""

    number: int
    octets: bytes

    def value(self) -> bytes:
        """Return the octets as they came."""
        return self.octets

    def encode(self) -> bytes:
        """Return code, length and value as they came."""
        return bytes((self.number, len(self.octets))) + self.octets


def _multiprotocol(value: bytes) -> Capability:
    afi, safi = struct.unpack("!HxB", value)
    return Multiprotocol(afi << 8 | safi)


def _graceful_restart(value: bytes) -> Capability:
    (head,) = struct.unpack_from("!H", value)
    families = {afi << 8 | safi: bool(flags & 0x80) for afi, safi, flags in struct.iter_unpack("!HBB", value[2:])}
    return GracefulRestart(bool(head & 0x8000), head & 0x0FFF, families, bool(head & 0x4000))


def _extended_next_hop(value: bytes) -> Capability:
    return ExtendedNextHop(
        frozenset(afi << 8 | safi for afi, safi, hop in struct.iter_unpack("!HHH", value) if hop == 2)
    )


def _role(value: bytes) -> Capability:
    (role,) = struct.unpack("!B", value)
    return RoleCapability(role)


def _add_path(value: bytes) -> Capability:
    modes = {afi << 8 | safi: mode for afi, safi, mode in struct.iter_unpack("!HBB", value)}
    if not all(1 <= mode <= 3 for mode in modes.values()):  # RFC 7911 section 4: not understood, as a whole
        return Unknown(AddPath.code, value)
    return AddPath(modes)


def _long_lived(value: bytes) -> Capability:
    families = {
        afi << 8 | safi: (bool(flags & 0x80), int.from_bytes(time, "big"))
        for afi, safi, flags, time in struct.iter_unpack("!HBB3s", value)
    }
    return LongLivedGracefulRestart(families)


def _four_octet_as(value: bytes) -> Capability:
    (asn,) = struct.unpack("!I", value)
    return FourOctetAs(asn)


def _fqdn(value: bytes) -> Capability:
    host_end = 1 + value[0]
    host = value[1:host_end]
    domain = value[host_end + 1 : host_end + 1 + value[host_end]]
    return Fqdn(host.decode("utf-8", "backslashreplace"), domain.decode("utf-8", "backslashreplace"))


_DECODERS: dict[int, Callable[[bytes], Capability]] = {
    1: _multiprotocol,
    2: lambda value: RouteRefreshCapability(),
    5: _extended_next_hop,
    6: lambda value: ExtendedMessage(),
    9: _role,
    64: _graceful_restart,
    65: _four_octet_as,
    69: _add_path,
    70: lambda value: EnhancedRouteRefresh(),
    71: _long_lived,
    73: _fqdn,
}


def decode_capability(code: int, value: bytes) -> Capability:
    """Return the capability, `Unknown` if it is not known or its value is not as its RFC says; never raises."""
    try:
        return _DECODERS[code](value)
    except (KeyError, struct.error, IndexError):
        return Unknown(code, value)
