"""Dumps of routing tables in MRT format, TABLE_DUMP_V2 (RFC 6396 section 4.3, with path identifiers RFC 8050).

    common header 12         seconds since 1970 4, type 2, subtype 2, length of the rest 4
    PEER_INDEX_TABLE         our BGP identifier, name of the view, then a peer for each index
    RIB_IPV4_UNICAST ...     sequence number 4, NLRI, then an entry for each peer that told it
    RIB_GENERIC              the same with AFI and SAFI in front of the NLRI, for every other family
    ..._ADDPATH              the same with a path identifier in each entry

Every function returns a whole record.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache

import attrs

from speaker.path import Attributes
from speaker.values import Family
from speaker.wire import nlri
from speaker.wire.attribute import MP_REACH, OPTIONAL, attribute, block

TABLE_DUMP_V2 = 13
PEER_INDEX_TABLE = 1
RIB_IPV4_UNICAST, RIB_IPV6_UNICAST, RIB_GENERIC = 2, 4, 6
_SUBTYPES = {Family.IPV4: RIB_IPV4_UNICAST, Family.IPV6: RIB_IPV6_UNICAST}
_WITH_PATHS = {RIB_IPV4_UNICAST: 8, RIB_IPV6_UNICAST: 10, RIB_GENERIC: 12}  # RFC 8050 section 4

_IPV6_ADDRESS, _AS4 = 1, 2

_V4_MAPPED = bytes(10) + b"\xff\xff"


@attrs.frozen(kw_only=True)
class IndexedPeer:
    """One entry of a PEER_INDEX_TABLE."""

    address: bytes  # 4 or 16 octets
    asn: int
    router_id: bytes  # 4 octets

    def encode(self) -> bytes:
        """Return type, BGP identifier, address and a 4-octet AS number (section 4.3.1)."""
        kind = _AS4 | (_IPV6_ADDRESS if len(self.address) == 16 else 0)
        return bytes((kind,)) + self.router_id + self.address + self.asn.to_bytes(4, "big")


@attrs.frozen
class Entry:
    """What one peer says of a destination (section 4.3.4)."""

    peer: int  # its place in the PEER_INDEX_TABLE
    originated: int  # seconds since 1970
    attributes: Attributes
    path_identifier: bytes = b""  # 4 octets, or none


def _record(wall: int, subtype: int, body: bytes) -> bytes:
    return struct.pack("!IHHI", wall, TABLE_DUMP_V2, subtype, len(body)) + body


def peer_index_table(wall: int, router_id: bytes, peers: Sequence[IndexedPeer], view: str = "") -> bytes:
    """Return the first record: who the entries of all others are from (section 4.3.1)."""
    name = view.encode()
    head = router_id + len(name).to_bytes(2, "big") + name + len(peers).to_bytes(2, "big")
    return _record(wall, PEER_INDEX_TABLE, head + b"".join(peer.encode() for peer in peers))


def rib(wall: int, sequence: int, family: Family, key: bytes, extra: bytes, entries: Iterable[Entry]) -> bytes:
    """Return the record of one NLRI (sections 4.3.2 and 4.3.3), whose entries all have path identifiers or all none."""
    entries = list(entries)
    subtype = _SUBTYPES.get(family, RIB_GENERIC)
    (told,) = nlri.encode(family, [(key, extra)])
    if subtype == RIB_GENERIC:
        told = struct.pack("!HB", family.afi, family.safi) + told
    if entries and entries[0].path_identifier:
        subtype = _WITH_PATHS[subtype]
    body = b"".join(_entry(family, entry) for entry in entries)
    return _record(wall, subtype, struct.pack("!I", sequence) + told + len(entries).to_bytes(2, "big") + body)


def _entry(family: Family, entry: Entry) -> bytes:
    attributes = _attributes(family, entry.attributes)
    head = struct.pack("!HI", entry.peer, entry.originated) + entry.path_identifier
    return head + len(attributes).to_bytes(2, "big") + attributes


@lru_cache(maxsize=1024)  # many routes in a row have the same ones
def _attributes(family: Family, attributes: Attributes) -> bytes:
    """Return the attributes with 4-octet AS numbers; MP_REACH_NLRI has the next hop and no more (section 4.3.4)."""
    next_hop = attributes.next_hop
    classic = family is Family.IPV4 and len(next_hop) == 4
    others = block(attributes, as4=True, next_hop=classic)
    if classic:
        return others
    if family in (Family.IPV6, Family.VPNV6) and len(next_hop) == 4:
        next_hop = _V4_MAPPED + next_hop  # RFC 4659 section 3.2.1.2, RFC 4291 section 2.5.5.2
    if family in (Family.VPNV4, Family.VPNV6):
        next_hop = bytes(8) + next_hop
    return attribute(OPTIONAL, MP_REACH, bytes((len(next_hop),)) + next_hop) + others
