"""Attributes and Path: what a route says of itself, held once however many routes say it.

An UPDATE's attribute block is decoded once and interned by its bytes; a Path is an attribute block
together with what one NLRI carries beside its key (labels, ESI, gateway), and is interned per block.
A route is then a key and a pointer, and two routes with equal paths have the same path object.

Shapes used everywhere (hot, so plain bytes):

    prefix     octets of the prefix, truncated to its length, then one octet with the length in bits:
               10.1.0.0/16 is 0a 01 10.  Address family by context.
    NLRI key   unicast: prefix.  VPNv4, VPNv6: 8 octets of RD, prefix.
               EVPN: route type, RD, then the fields that RFC 7432 section 7 counts as the key:
                 1  ESI 10, Ethernet tag 4
                 2  Ethernet tag 4, 48, MAC 6, IP length in bits, IP 0, 4 or 16
                 3  Ethernet tag 4, IP length in bits, IP
                 4  ESI 10, IP length in bits, IP
                 5  Ethernet tag 4, prefix length in bits, IP 4 or 16      (RFC 9136)
               RT membership: the octets sent, then the length in bits (0, 32 to 96).
               Flow specifications: the octets sent behind their length: RD 8 in the VPN families, then components.
    extra      what is beside the key.  VPN: label field 3.  EVPN 1: label 3.  2: ESI 10, label 3 or 6.
               3, 4: empty.  5: ESI 10, gateway 4 or 16, label 3.  Others: empty.
"""

from __future__ import annotations

import attrs

AS_SET, AS_SEQUENCE, AS_CONFED_SEQUENCE, AS_CONFED_SET = 1, 2, 3, 4

AsPath = tuple[tuple[int, tuple[int, ...]], ...]
"""Segments: (segment type, AS numbers); RFC 4271 section 4.3 and RFC 5065."""


@attrs.define(slots=True, eq=False, kw_only=True)
class Attributes:
    """The path attributes of a route, decoded; compared by identity because they are interned.

    Made by `speaker.wire.attribute` only.  Absent optional attributes are None or empty.
    """

    next_hop: bytes  # 4 or 16 octets; empty where the family has none
    origin: int = 0
    as_path: AsPath = ()
    med: int | None = None
    local_pref: int | None = None
    atomic_aggregate: bool = False
    aggregator: tuple[int, bytes] | None = None  # AS number, 4 octets of address
    communities: tuple[int, ...] = ()
    ext_communities: tuple[bytes, ...] = ()  # 8 octets each, in wire order
    large_communities: tuple[tuple[int, int, int], ...] = ()
    originator_id: bytes | None = None  # 4 octets
    cluster_list: tuple[bytes, ...] = ()  # 4 octets each
    pmsi: tuple[int, int, bytes, bytes] | None = None  # flags, tunnel type, label field 3, tunnel id (RFC 6514 5)
    only_to_customer: int | None = None  # AS number (RFC 9234 section 5)
    unknown: tuple[tuple[int, int, bytes], ...] = ()  # flags, code, value of attributes not decoded
    partial: frozenset[int] = frozenset()  # codes of decoded ones that went through somebody who does not know them
    discarded: tuple[tuple[str, bytes], ...] = ()  # why attributes were dropped, and these (RFC 7606 section 2)

    route_targets: frozenset[bytes] = frozenset()  # the route targets among ext_communities, 8 octets each
    # Worked out once per block by the importer; `imports_version` says when (see rib.py).
    importers: tuple[object, ...] = ()
    imports_version: int = -1
    paths: dict[bytes, Path] = attrs.field(factory=dict)

    def path(self, extra: bytes) -> Path:
        """Return the one Path with these attributes and this extra part."""
        path = self.paths.get(extra)
        if path is None:
            path = self.paths[extra] = Path(self, extra)
        return path

    def as_path_length(self) -> int:
        """Count ASes as RFC 4271 section 9.1.2.2 a does: a set is one, confederation segments nothing."""
        return sum(
            1 if kind == AS_SET else len(numbers) if kind == AS_SEQUENCE else 0 for kind, numbers in self.as_path
        )

    def neighbour_as(self) -> int:
        """Return the AS next to us on the path, 0 for our own (for MED, RFC 4271 section 9.1.2.2 c).

        A path that is empty or begins with an AS_SET was made in our own AS, by aggregation: so says the RFC.
        """
        for kind, numbers in self.as_path:
            if kind in (AS_SET, AS_SEQUENCE):
                return numbers[0] if kind == AS_SEQUENCE and numbers else 0
        return 0


class Path:
    """Attributes and the part of an NLRI beside its key; interned by `Attributes.path`, equal if identical."""

    __slots__ = ("attributes", "extra")

    def __init__(self, attributes: Attributes, extra: bytes) -> None:
        self.attributes = attributes
        self.extra = extra

    def __repr__(self) -> str:
        return f"Path(next_hop={self.attributes.next_hop.hex()}, extra={self.extra.hex()})"
