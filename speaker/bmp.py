"""BGP Monitoring Protocol, version 3: the messages to a monitoring station (RFC 7854 section 4, RFC 9069).

    common header 6      version 3, length of the whole 4, type
    per-peer header 42   type, flags, distinguisher 8, address 16, AS 4, BGP identifier 4, seconds 4, microseconds 4

Every function returns a whole message.  The protocol goes one way: a station says nothing, so there is no decoder here.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Mapping

import attrs

from speaker.values import Family

VERSION = 3

ROUTE_MONITORING, STATISTICS_REPORT, PEER_DOWN, PEER_UP, INITIATION, TERMINATION = range(6)

GLOBAL_INSTANCE, LOC_RIB_INSTANCE = 0, 3
"""Peer types (RFC 7854 section 4.2, RFC 9069 section 4.1)."""

IPV6, POST_POLICY = 0x80, 0x40
"""Flags V and L of a peer of the global instance.  A is never set: AS_PATH has 4-octet numbers for every peer."""

STRING, SYS_DESCR, SYS_NAME, TABLE_NAME = 0, 1, 2, 3
"""Types of information (RFC 7854 section 4.4, RFC 9069 section 5.2.1)."""

ADMINISTRATIVELY_CLOSED = 0
"""A reason of a Termination (RFC 7854 section 4.5)."""

LOCAL_NOTIFICATION, LOCAL_SILENT, REMOTE_NOTIFICATION, REMOTE_SILENT, DE_CONFIGURED, LOCAL_WITH_DATA = range(1, 7)
"""Reasons of a Peer Down (RFC 7854 section 4.9, RFC 9069 section 5.3)."""

REJECTED_BY_POLICY, ADJ_RIB_IN_ROUTES, LOC_RIB_ROUTES, TREATED_AS_WITHDRAW = 0, 7, 8, 11
ADJ_RIB_IN_ROUTES_OF, LOC_RIB_ROUTES_OF = 9, 10  # of one family
"""Types of statistics (RFC 7854 section 4.8)."""

_COUNTERS = {REJECTED_BY_POLICY, TREATED_AS_WITHDRAW}  # 32 bits; the others are gauges of 64


@attrs.frozen(kw_only=True)
class PeerHeader:
    """Which peer, or which RIB of ours, a message is about."""

    kind: int  # GLOBAL_INSTANCE or LOC_RIB_INSTANCE
    flags: int = 0
    address: bytes = bytes(16)  # an IPv4 address stands in the last 4 octets
    asn: int
    router_id: bytes  # 4 octets

    @classmethod
    def of_peer(cls, address: str, asn: int, router_id: bytes) -> PeerHeader:
        """Return the header of a neighbour with this address."""
        packed = ipaddress.ip_address(address).packed
        return cls(
            kind=GLOBAL_INSTANCE,
            flags=IPV6 if len(packed) == 16 else 0,
            address=packed.rjust(16, b"\0"),
            asn=asn,
            router_id=router_id,
        )

    @classmethod
    def of_loc_rib(cls, asn: int, router_id: bytes) -> PeerHeader:
        """Return the header of our own Loc-RIB, whole (flag F is 0) and of the global table (RFC 9069 section 4)."""
        return cls(kind=LOC_RIB_INSTANCE, asn=asn, router_id=router_id)

    def post_policy(self) -> PeerHeader:
        """Return the header for what the import policy left."""
        return attrs.evolve(self, flags=self.flags | POST_POLICY)

    def encode(self, wall: float) -> bytes:
        """Return the 42 octets; `wall` is seconds since 1970, 0: not known."""
        microseconds = int(wall * 1_000_000)
        return struct.pack(
            "!BB8x16sI4sII",
            self.kind,
            self.flags,
            self.address,
            self.asn,
            self.router_id,
            microseconds // 1_000_000 & 0xFFFFFFFF,
            microseconds % 1_000_000,
        )


def _message(kind: int, body: bytes) -> bytes:
    return struct.pack("!BIB", VERSION, 6 + len(body), kind) + body


def _information(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value


def initiation(sys_name: str, sys_descr: str) -> bytes:
    """Say who we are; the first message (section 4.3)."""
    description = _information(SYS_DESCR, sys_descr.encode()) + _information(SYS_NAME, sys_name.encode())
    return _message(INITIATION, description)


def termination(reason: int = ADMINISTRATIVELY_CLOSED) -> bytes:
    """Say why nothing comes any more; the last message (section 4.5)."""
    return _message(TERMINATION, _information(1, reason.to_bytes(2, "big")))


def peer_up(
    header: PeerHeader,
    sent: bytes,
    received: bytes,
    *,
    local: tuple[str, int] | None = None,
    remote_port: int = 0,
    table: str = "",
    wall: float,
) -> bytes:
    """Say that a session is up, with both OPEN messages whole (section 4.10); `table` for a Loc-RIB (RFC 9069 5.2)."""
    address = bytes(16) if local is None else ipaddress.ip_address(local[0]).packed.rjust(16, b"\0")
    ports = struct.pack("!HH", 0 if local is None else local[1], remote_port)
    named = _information(TABLE_NAME, table.encode()) if table else b""
    return _message(PEER_UP, header.encode(wall) + address + ports + sent + received + named)


def peer_down(header: PeerHeader, reason: int, after: bytes = b"", *, wall: float) -> bytes:
    """Say that a session ended (section 4.9).

    `after` is the whole NOTIFICATION for reasons 1 and 3, a 2-octet FSM event for 2, nothing for 4 and 5.
    """
    return _message(PEER_DOWN, header.encode(wall) + bytes((reason,)) + after)


def loc_rib_down(header: PeerHeader, table: str, *, wall: float) -> bytes:
    """Say that the Loc-RIB is told no more (RFC 9069 section 5.3)."""
    return peer_down(header, LOCAL_WITH_DATA, _information(TABLE_NAME, table.encode()), wall=wall)


def route_monitoring(header: PeerHeader, updates: Iterable[bytes], *, wall: float) -> bytes:
    """Pass whole UPDATE messages on, each in a message of its own (section 4.6) (hot)."""
    head = header.encode(wall)
    return b"".join(_message(ROUTE_MONITORING, head + update) for update in updates)


def statistics_report(header: PeerHeader, values: Mapping[int | tuple[int, Family], int], *, wall: float) -> bytes:
    """Tell numbers by their type, or by type and family (section 4.8)."""
    told = b""
    for key, value in values.items():
        if isinstance(key, tuple):
            kind, family = key
            told += _information(kind, struct.pack("!HBQ", family.afi, family.safi, value))
        else:
            counter = key in _COUNTERS
            told += _information(key, struct.pack("!I", value & 0xFFFFFFFF) if counter else struct.pack("!Q", value))
    return _message(STATISTICS_REPORT, header.encode(wall) + len(values).to_bytes(4, "big") + told)
