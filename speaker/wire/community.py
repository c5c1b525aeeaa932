"""Extended communities (RFC 4360): 8 octets each, built, found and put into words.

Route targets have a value class of their own in `speaker.values`; here is what else a BGP VPN says of a route, and what
shall be done with the packets of a flow (RFC 8955 section 7).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable

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


def route_target_record(route_target: bytes) -> bytes:
    """Return the record of a route target that a route had before it was announced anew with another one.

    It is a route target with another subtype, and ends loops between those who announce routes anew, as the BGP VPN
    implementation of OpenStack does.
    """
    return route_target[:1] + b"\x13" + route_target[2:]


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


def routers_mac(mac: bytes) -> bytes:
    """Return the community that tells the MAC of a router, 6 octets (RFC 9135 section 8.1)."""
    return _ROUTER_MAC + mac


def router_mac(communities: Iterable[bytes]) -> bytes | None:
    """Return the first MAC of a router that a route tells; None: it tells none."""
    return next((each[2:] for each in communities if each[:2] == _ROUTER_MAC), None)


def link_bandwidth(communities: Iterable[bytes]) -> float | None:
    """Return the octets per second of the first link bandwidth community (draft-ietf-idr-link-bandwidth section 2).

    None: the route has none, or one that is no positive number.
    """
    for each in communities:
        if each[:2] in _LINK_BANDWIDTHS:
            rate = _rate(each)
            return rate if 0 < rate < math.inf else None
    return None


def _rate(community: bytes) -> float:
    """Read the number behind an AS number of 2 octets: IEEE 754, 32 bits."""
    (rate,) = struct.unpack_from("!f", community, 4)
    return float(rate)


def community_text(community: bytes) -> str:
    """Return an extended community as people read it, in hex where this file does not know it."""
    words = _WORDS.get(community[:2])
    return words(community) if words is not None else f"0x{community.hex()}"


def _administrated(name: str) -> Callable[[bytes], str]:
    """Words for what has the three forms of a route target, whatever the other bits of its type."""

    def words(community: bytes) -> str:
        return f"{name}:{RouteTarget(bytes((community[0] & 0x3F, 2)) + community[2:])}"

    return words


def _rated(name: str, behind: str = "") -> Callable[[bytes], str]:
    """Words for an AS number and a number for each second."""

    def words(community: bytes) -> str:
        return f"{name}:{int.from_bytes(community[2:4], 'big')}:{_rate(community):.9g}{behind}"

    return words


def _named(bits: int, names: tuple[str, ...]) -> str:
    """Put the bits that are set into words, the lowest first."""
    return "+".join(name for bit, name in enumerate(names) if bits >> bit & 1) or "none"


def _encapsulation_words(community: bytes) -> str:
    number = int.from_bytes(community[6:], "big")
    return f"encapsulation:{ENCAPSULATION_NAMES.get(number, number)}"


def _mac_mobility_words(community: bytes) -> str:
    return f"mac-mobility:{int.from_bytes(community[4:], 'big')}{' sticky' if community[2] & STICKY else ''}"


def _esi_label_words(community: bytes) -> str:
    mode = "single-active" if community[2] & 1 else "all-active"
    return f"esi-label:{int.from_bytes(community[5:], 'big') >> 4} {mode}"


def _layer_2_words(community: bytes) -> str:
    flags, mtu = int.from_bytes(community[2:4], "big"), int.from_bytes(community[4:6], "big")
    return f"layer-2:{_named(flags, ('backup', 'primary', 'control-word'))} mtu {mtu}"


def _df_election_words(community: bytes) -> str:
    algorithm, capabilities = community[2] & 0x1F, int.from_bytes(community[3:5], "big")
    said = _named(capabilities >> 14, ("ac-df", "do-not-preempt"))  # bits 1 and 0 of the bitmap
    name, preference = _DF_ALGORITHMS.get(algorithm, algorithm), int.from_bytes(community[6:], "big")
    return f"df-election:{name} {said} preference {preference}"


def _redirect_words(name: str) -> Callable[[bytes], str]:
    """Words for a redirection of the packets themselves or of copies, by the last bit."""

    def words(community: bytes) -> str:
        to = f":{address_text(community[2:6])}" if community[0] == 1 else ""
        return f"{name}{to}{' copy' if community[7] & 1 else ''}"

    return words


_DF_ALGORITHMS = {0: "modulo", 1: "hrw", 2: "highest-preference", 3: "lowest-preference"}
_WORDS: dict[bytes, Callable[[bytes], str]] = {
    _LINK_BANDWIDTHS[0]: _rated("link-bandwidth"),
    _LINK_BANDWIDTHS[1]: _rated("link-bandwidth", " transitive"),
    b"\x01\x0b": lambda each: f"vrf-route-import:{address_text(each[2:6])}:{int.from_bytes(each[6:], 'big')}",
    b"\x01\x0c": _redirect_words("redirect-to-ip"),  # draft-ietf-idr-flowspec-redirect-ip
    b"\x08\x00": _redirect_words("redirect-to-next-hop"),  # draft-simpson-idr-flowspec-redirect
    _ENCAPSULATION: _encapsulation_words,
    b"\x03\x0d": lambda each: "default-gateway",  # RFC 7432 section 7.8
    _MAC_MOBILITY: _mac_mobility_words,
    b"\x06\x01": _esi_label_words,  # RFC 7432 section 7.5
    b"\x06\x02": lambda each: f"es-import:{Mac(each[2:])}",  # RFC 7432 section 7.6
    _ROUTER_MAC: lambda each: f"router-mac:{Mac(each[2:])}",
    b"\x06\x04": _layer_2_words,  # RFC 8214 section 3.1
    b"\x06\x06": _df_election_words,  # RFC 8584 section 2.2, RFC 9785 section 3
    b"\x80\x06": _rated("traffic-rate-bytes"),  # RFC 8955 section 7.1, and the next ones up to 7.5
    b"\x80\x0c": _rated("traffic-rate-packets"),
    b"\x80\x07": lambda each: f"traffic-action:{_named(each[7], ('terminal', 'sample'))}",
    b"\x80\x09": lambda each: f"traffic-marking:{each[7] & 0x3F}",
}
for _form in range(3):  # of the administrator: AS, IPv4, 4-octet AS
    _WORDS[bytes((_form, 0x02))] = _administrated("target")
    _WORDS[bytes((_form, 0x03))] = _administrated("origin")  # RFC 4360 section 5
    _WORDS[bytes((0x80 | _form, 0x08))] = _administrated("rt-redirect")  # RFC 8955 section 7.4
