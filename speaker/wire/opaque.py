"""Attributes that are carried without being understood: when one of them is malformed, and what then.

They stay octets, in `Attributes.unknown`.  To pass a malformed one on would only move the fault to where it does harm,
so what the RFC of each says of malformed ones is done here, as far as it can be told by cutting them.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from speaker.errors import AttributeDiscard, BgpError, TreatAsWithdraw
from speaker.wire.framing import SHOWN_OCTETS

TUNNEL_ENCAPSULATION, IPV6_EXT_COMMUNITIES, AIGP, PREFIX_SID, ATTR_SET = 23, 25, 26, 40, 128


@attrs.frozen
class Carried:
    """What is known of an optional attribute that is carried as it is."""

    name: str
    transitive: bool
    wrong: Callable[[bytes], str]  # what is malformed in a value, empty if nothing
    reaction: type[BgpError]


def _ipv6_ext_communities(value: bytes) -> str:
    return "" if value and len(value) % 20 == 0 else f"{len(value)} octets, not a multiple of 20"


def _tunnel_encapsulation(value: bytes) -> str:
    """Cut tunnels and what is said of each; the last octet of a tunnel is its last sub-TLV's (RFC 9012 section 13)."""
    at, size = 0, len(value)
    while at < size:
        end = at + 4 + int.from_bytes(value[at + 2 : at + 4], "big")
        if at + 4 > size or end > size:
            return f"a tunnel beyond the end: {value[at : at + SHOWN_OCTETS].hex()}"
        part = at + 4
        while part < end:
            head = 2 if value[part] < 128 else 3
            after = part + head + int.from_bytes(value[part + 1 : part + head], "big")
            if after > end:
                return f"a sub-TLV beyond its tunnel: {value[part : part + SHOWN_OCTETS].hex()}"
            part = after
        at = end
    return "" if value else "no tunnel"


def _aigp(value: bytes) -> str:
    """Cut TLVs whose lengths count their heads of 3 octets; metrics have 11 octets (RFC 7311 section 3).

    Of no kind there may be too many, and kinds that are not known are no fault (RFC 7311 section 3.2).
    """
    at, size = 0, len(value)
    while at < size:
        length = int.from_bytes(value[at + 1 : at + 3], "big")
        if at + 3 > size or length < 3 or at + length > size:
            return f"a TLV cut off: {value[at : at + SHOWN_OCTETS].hex()}"
        if value[at] == 1 and length != 11:
            return f"a metric of {length} octets, not 11"
        at += length
    return "" if value else "no TLV"


def _prefix_sid(value: bytes) -> str:
    """Cut TLVs; a label index has 7 octets, an originator SRGB 2 and 6 for each range (RFC 8669 sections 3.1, 3.2)."""
    at, size = 0, len(value)
    while at < size:
        length = int.from_bytes(value[at + 1 : at + 3], "big")
        if at + 3 > size or at + 3 + length > size:
            return f"a TLV cut off: {value[at : at + SHOWN_OCTETS].hex()}"
        if value[at] == 1 and length != 7:
            return f"a label index of {length} octets, not 7"
        if value[at] == 3 and (length < 8 or length % 6 != 2):
            return f"an SRGB of {length} octets, not 2 and 6 for each range"
        at += 3 + length
    return "" if value else "no TLV"


CARRIED = {
    TUNNEL_ENCAPSULATION: Carried("Tunnel Encapsulation", True, _tunnel_encapsulation, TreatAsWithdraw),
    IPV6_EXT_COMMUNITIES: Carried("IPv6 EXTENDED COMMUNITIES", True, _ipv6_ext_communities, TreatAsWithdraw),
    AIGP: Carried("AIGP", False, _aigp, AttributeDiscard),
    PREFIX_SID: Carried("Prefix-SID", True, _prefix_sid, AttributeDiscard),
}
"""By code.  RFC 9012 section 13, RFC 7606 section 7.15, RFC 7311 section 3.2, RFC 8669 section 6."""
