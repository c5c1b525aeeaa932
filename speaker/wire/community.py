"""Extended communities (RFC 4360): 8 octets each, built, found and put into words.

Route targets have a value class of their own in `speaker.values`; here is what else a BGP VPN says of a route.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from speaker.values import Mac, RouteTarget, address_text

ENCAPSULATION_GRE = 2
ENCAPSULATION_VXLAN = 8
ENCAPSULATION_MPLS = 10
ENCAPSULATION_MPLS_IN_GRE = 11
ENCAPSULATION_MPLS_IN_UDP = 13
ENCAPSULATION_NAMES = {
    ENCAPSULATION_GRE: "gre",
    ENCAPSULATION_VXLAN: "vxlan",
    9: "nvgre",
    ENCAPSULATION_MPLS: "mpls",
    ENCAPSULATION_MPLS_IN_GRE: "mpls-in-gre",
    12: "vxlan-gpe",
    ENCAPSULATION_MPLS_IN_UDP: "mpls-in-udp",
}
"""Tunnel types of the IANA registry "BGP Tunnel Encapsulation Attribute Tunnel Types"."""

NON_TRANSITIVE = 0x40  # of the type octet: not for other ASes (RFC 4360 section 2)

_ENCAPSULATION = b"\x03\x0c"  # RFC 9012 section 4.1
_MAC_MOBILITY = b"\x06\x00"  # RFC 7432 section 7.7
_ROUTER_MAC = b"\x06\x03"  # RFC 9135 section 8.1
_LINK_BANDWIDTHS = (b"\x40\x04", b"\x00\x04")  # non-transitive, and as some vendors send it

STICKY = 0x01


def is_route_target(community: bytes) -> bool:
    """Tell whether 8 octets are a route target, of any of the three forms (RFC 4360 section 4, RFC 5668)."""
    return community[1] == 0x02 and community[0] <= 0x02


def encapsulation(tunnel_type: int) -> bytes:
    """Return the community that says how packets to this route are to be wrapped (RFC 9012 section 4.1)."""
    return _ENCAPSULATION + bytes(4) + tunnel_type.to_bytes(2, "big")


def encapsulation_types(communities: Iterable[bytes]) -> frozenset[int]:
    """Return the tunnel types named; empty if the route leaves it open."""
    return frozenset(int.from_bytes(each[6:], "big") for each in communities if each[:2] == _ENCAPSULATION)


def mac_mobility(sequence: int, sticky: bool = False) -> bytes:
    """Return the MAC mobility community; `sequence` counts the moves of a MAC, 32 bits (RFC 7432 section 7.7)."""
    return _MAC_MOBILITY + bytes((STICKY if sticky else 0, 0)) + sequence.to_bytes(4, "big")


def mobility(communities: Iterable[bytes]) -> tuple[int, bool] | None:
    """Return (sequence number, sticky) of the first MAC mobility community; None: the route has none."""
    for each in communities:
        if each[:2] == _MAC_MOBILITY:
            return int.from_bytes(each[4:], "big"), bool(each[2] & STICKY)
    return None


def link_bandwidth(communities: Iterable[bytes]) -> float | None:
    """Return the octets per second of the first link bandwidth community (draft-ietf-idr-link-bandwidth section 2).

    None: the route has none, or one that is no positive number.
    """
    for each in communities:
        if each[:2] in _LINK_BANDWIDTHS:
            (value,) = struct.unpack("!f", each[4:])
            return value if 0 < value < float("inf") else None
    return None


def community_text(community: bytes) -> str:
    """Return an extended community as people read it, in hex where this file does not know it."""
    if is_route_target(community):
        return f"target:{RouteTarget(community)}"
    kind, value = community[:2], community[2:]
    match kind:
        case b"\x00\x03" | b"\x01\x03" | b"\x02\x03":
            return f"origin:{RouteTarget(community)}"  # in the forms of a route target (RFC 4360 section 5)
        case _ if kind == _ENCAPSULATION:
            number = int.from_bytes(value[4:], "big")
            return f"encapsulation:{ENCAPSULATION_NAMES.get(number, number)}"
        case _ if kind == _MAC_MOBILITY:
            return f"mac-mobility:{int.from_bytes(value[2:], 'big')}{' sticky' if value[0] & STICKY else ''}"
        case _ if kind == _ROUTER_MAC:
            return f"router-mac:{Mac(value)}"
        case b"\x03\x0d":
            return "default-gateway"  # RFC 7432 section 7.8
        case b"\x06\x02":
            return f"es-import:{Mac(value)}"  # RFC 7432 section 7.6
        case b"\x01\x0b":  # RFC 6514 section 7
            return f"vrf-route-import:{address_text(value[:4])}:{int.from_bytes(value[4:], 'big')}"
        case _:
            return f"0x{community.hex()}"
