"""A VRF: L3VPN over MPLS over GRE (RFC 4364, RFC 4659, RFC 4023).

    received VPNv4, VPNv6 routes -> best per prefix -> [desired.routes of the VRF's table]
    endpoints of the segment     -> one route per address and VPN -> [originated]

One label leads into the whole VRF, where the address is looked up once more; a prefix behind a port has a label of
its own that leads straight to the port (RFC 4364 section 4.3.2).

VPNs of one segment that agree in LOCAL_PREF and route distinguisher share one route with all their route targets;
those that differ get routes, and route distinguishers, of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from itertools import islice

import attrs

from bgpvpn.desired import Afi, Desired, InVrf, Labelled, LabelRoute, NextHop, ObjectKey, OnBridge, Via
from bgpvpn.instance import Instance, NodeIdentity, Originated, Vias, targets
from bgpvpn.intent import Bgpvpn
from bgpvpn.segment import Endpoint
from speaker.decision import LOCAL, Candidate, tiers
from speaker.path import Attributes, Path
from speaker.rib import Interest, Rib
from speaker.values import Family, RouteDistinguisher
from speaker.wire.attribute import Interner, make
from speaker.wire.community import ENCAPSULATION_GRE, encapsulation, encapsulation_types

USABLE_ENCAPSULATIONS = frozenset({2, 10, 11})
"""GRE, MPLS and MPLS-in-GRE (RFC 9012 section 3): all mean MPLS over the tunnel that the nodes have; absent counts."""

FAMILY_OF: dict[int, Family] = {4: Family.VPNV4, 6: Family.VPNV6}
AFI_OF: dict[Family, Afi] = {Family.VPNV4: 4, Family.VPNV6: 6}

Keys = bytes | tuple[bytes, ...]


@attrs.frozen
class ExportGroup:
    """VPNs of one segment that share their routes."""

    name: str  # stable over restarts; a route distinguisher is leased by it
    vpns: frozenset[str]
    route_distinguisher: RouteDistinguisher | None  # None: leased
    route_targets: frozenset[bytes]
    local_pref: int | None


def export_groups(vpns: Iterable[Bgpvpn], router_id: bytes) -> list[ExportGroup]:
    """Group VPNs by what one route can say; VPNs without an export target announce nothing."""
    grouped: dict[tuple[int | None, str], list[Bgpvpn]] = {}
    for vpn in vpns:
        if targets([vpn], "export"):
            grouped.setdefault((vpn.local_pref, choose_distinguisher(vpn, router_id)), []).append(vpn)
    return [
        ExportGroup(
            name="" if local_pref is None else str(local_pref),
            vpns=frozenset(vpn.id for vpn in members),
            route_distinguisher=RouteDistinguisher.parse(text) if text else None,
            route_targets=targets(members, "export"),
            local_pref=local_pref,
        )
        for (local_pref, text), members in grouped.items()
    ]


def choose_distinguisher(vpn: Bgpvpn, router_id: bytes) -> str:
    """Return the one of a VPN's route distinguishers that this node uses, "" for none.

    Nodes choose by a hash of their router id, so that two nodes that announce one prefix tend to differ.
    """
    return max(
        vpn.route_distinguishers,
        key=lambda text: hashlib.sha256(router_id + text.encode()).digest(),
        default="",
    )


class Ipvpn(Instance):
    """The VRF of one segment."""

    families = frozenset({Family.VPNV4, Family.VPNV6})

    def __init__(
        self,
        name: str,
        table: int,
        rib: Rib,
        interest: Interest,
        desired: Desired,
        vias: Vias,
        usable: Callable[[bytes], str],
    ) -> None:
        """`usable` says why a PE address may not be tunnelled to, "" if it may."""
        super().__init__(name, rib, interest)
        self.table = table
        self.vias = vias
        self.usable = usable
        self.routes = {family: desired.routes_of(table, AFI_OF[family]) for family in AFI_OF}
        self.statics: dict[tuple[Family, bytes], Via] = {}  # to our own endpoints, where no connected route leads
        self.keys: dict[Family, dict[bytes, Keys]] = {family: {} for family in AFI_OF}
        self.dirty: dict[Family, dict[bytes, None]] = {family: {} for family in AFI_OF}

    def __len__(self) -> int:
        return sum(map(len, self.dirty.values()))

    def touch(self, family: Family, key: bytes, path: Path | None) -> None:
        """Note that the route under this NLRI key changed (hot)."""
        prefix = key[8:]
        self.dirty[family][prefix] = None
        if path is None:
            return
        keys = self.keys[family]
        held = keys.get(prefix)
        if held is None:
            keys[prefix] = key
        elif held != key and (type(held) is bytes or key not in held):
            keys[prefix] = (held, key) if isinstance(held, bytes) else (*held, key)

    def touch_all(self) -> None:
        """Note that every prefix is to be worked out again."""
        for family, keys in self.keys.items():
            self.dirty[family].update(dict.fromkeys(keys))

    def set_statics(self, statics: dict[tuple[Family, bytes], Via]) -> None:
        """Say which routes lead to the segment's own endpoints."""
        changed = [at for at in {**self.statics, **statics} if self.statics.get(at) is not statics.get(at)]
        self.statics = statics
        for family, prefix in changed:
            self.dirty[family][prefix] = None

    def step(self, most: int) -> int:
        """Choose the best paths of up to `most` prefixes (hot)."""
        done = 0
        for family, dirty in self.dirty.items():
            if not dirty or done >= most:
                continue
            if len(dirty) <= most - done:
                self.dirty[family] = {}
            else:
                dirty = dict(islice(dirty.items(), most - done))
                for prefix in dirty:
                    del self.dirty[family][prefix]
            done += len(dirty)
            self._choose(family, dirty)
        return done

    def _choose(self, family: Family, dirty: Iterable[bytes]) -> None:
        keys, routes = self.keys[family], self.routes[family]
        tables = [(source, table.rows.get) for source, table in self.rib.sources(family)]
        importers_of = self.interest.of
        known, statics = self.vias.meaning, self.statics
        new: dict[bytes, Via] = {}
        for prefix in dirty:
            held = keys.get(prefix)
            if type(held) is bytes:
                # The usual case: one route distinguisher, and one source that has it.
                only: Path | None = None
                for source, get in tables:
                    path = get(held)
                    if path is not None and self in importers_of(path.attributes):
                        if only is not None or source == LOCAL:
                            break
                        only = path
                else:
                    if only is not None and not statics:
                        meaning = known.get(only)
                        if meaning is not None:
                            new[prefix] = meaning
                            continue
            via = self._best(family, prefix, held)
            if via is not None:
                new[prefix] = via
            else:
                routes.discard(prefix)
        routes.put_all(new)

    def _best(self, family: Family, prefix: bytes, held: Keys | None) -> Via | None:
        """Choose among all candidates of a prefix, the segment's own endpoints included."""
        static = self.statics.get((family, prefix))
        listed = () if held is None else (held,) if isinstance(held, bytes) else held
        candidates = self.candidates(family, listed)
        present = tuple(dict.fromkeys(candidate.key for candidate in candidates))
        if present:
            self.keys[family][prefix] = present[0] if len(present) == 1 else present
        else:
            self.keys[family].pop(prefix, None)
        found = tiers([candidate for candidate in candidates if not self.refusal(candidate.path)])
        if not found:
            return static
        hops: list[list[NextHop]] = []
        for tier in found:
            hops.append([])
            for candidate in tier:
                hop = self._hops(candidate, static)
                if hop is None:  # our own and directly connected: nothing is better, nothing stands behind it
                    return static if not any(hops) else self.vias.of(hops)
                hops[-1].extend(hop)
        return self.vias.of(hops)

    def _hops(self, candidate: Candidate, static: Via | None) -> tuple[NextHop, ...] | None:
        segment = self.vias.own.get(candidate.path)
        if segment == self.name:
            return static.tiers[0] if static is not None else None
        if segment is not None:
            return (InVrf(segment),)
        via = self.vias.meaning.get(candidate.path)
        return via.tiers[0] if via is not None else ()

    def refusal(self, path: Path) -> str:
        """Tell why a path cannot be used, "" if it can; what a usable one means is then known to `vias`."""
        if path in self.vias.own or path in self.vias.meaning:
            return ""
        attributes = path.attributes
        kinds = encapsulation_types(attributes.ext_communities)
        if kinds and kinds.isdisjoint(USABLE_ENCAPSULATIONS):
            return f"encapsulation {sorted(kinds)} is not MPLS over GRE"
        label = int.from_bytes(path.extra, "big") >> 4
        if label < 16:
            return f"label {label} is reserved (RFC 3032 section 2.1)"
        refusal = self.usable(attributes.next_hop)
        if not refusal:
            via = self.vias.of([[Labelled(attributes.next_hop, label)]])
            assert via is not None
            self.vias.meaning[path] = via
        return refusal


@attrs.frozen
class Announcement:
    """All that a VRF says: its routes, the label routes that they need, the routes to its own endpoints."""

    originated: dict[tuple[Family, bytes], Originated]
    labels: dict[ObjectKey, LabelRoute]
    statics: dict[tuple[Family, bytes], Via]


def announce(
    segment: str,
    groups: Iterable[ExportGroup],
    endpoints: Iterable[Endpoint],
    connected: Callable[[bytes], bool],
    identity: NodeIdentity,
    vrf_label: int,
    distinguisher: Callable[[ExportGroup], RouteDistinguisher],
    port_label: Callable[[str, bytes], int],
    interner: Interner,
    vias: Vias,
) -> Announcement:
    """Work out what the endpoints of a segment mean to others and to the segment's own table.

    `connected` tells whether a subnet of the segment covers an address; `distinguisher` and `port_label` lease numbers.
    """
    announcement = Announcement({}, {}, {})
    vrf_needs: ObjectKey = ("vrf", segment)
    prefix_hops: dict[tuple[Family, bytes], list[NextHop]] = {}
    groups = list(groups)
    made = {group: _attributes(group, identity, interner) for group in groups}
    for endpoint in endpoints:
        attached: ObjectKey = ("attachment", endpoint.port)
        for address in endpoint.addresses:
            family = Family.VPNV4 if len(address) == 4 else Family.VPNV6
            prefix = address + bytes([len(address) * 8])
            static = None
            if not connected(address):
                static = vias.of([[OnBridge(segment, address)]])
                assert static is not None
                announcement.statics[(family, prefix)] = static
            for group in groups:
                if any(binding.fixed_ips and binding.bgpvpn_id in group.vpns for binding in endpoint.bindings):
                    path = made[group].path(_label_field(vrf_label))
                    vias.own[path] = segment
                    key = distinguisher(group).wire + prefix
                    announcement.originated[(family, key)] = Originated(path, (vrf_needs, attached))
        for binding in endpoint.bindings:
            for version, prefix in binding.prefixes:
                address = next((a for a in endpoint.addresses if len(a) == (4 if version == 4 else 16)), b"")
                if not address:
                    continue
                family = FAMILY_OF[version]
                label = port_label(endpoint.port, address)
                route = LabelRoute(label, segment, address)
                announcement.labels[route.key] = route
                hops = prefix_hops.setdefault((family, prefix), [])
                if OnBridge(segment, address) not in hops:
                    hops.append(OnBridge(segment, address))
                for group in groups:
                    if binding.bgpvpn_id not in group.vpns:
                        continue
                    at = (family, distinguisher(group).wire + prefix)
                    path = made[group].path(_label_field(label))
                    needs: tuple[ObjectKey, ...] = (vrf_needs, attached, route.key)
                    if at in announcement.originated:
                        # Several ports share the prefix: the VRF's label leads to its table, and that to all of them.
                        path, needs = made[group].path(_label_field(vrf_label)), (vrf_needs,)
                    vias.own[path] = segment
                    announcement.originated[at] = Originated(path, needs)
    for where, several in prefix_hops.items():
        via = vias.of([several])
        assert via is not None
        announcement.statics[where] = via
    return announcement


def _attributes(group: ExportGroup, identity: NodeIdentity, interner: Interner) -> Attributes:
    return make(
        interner,
        next_hop=identity.tunnel,
        local_pref=group.local_pref,
        ext_communities=(*sorted(group.route_targets), encapsulation(ENCAPSULATION_GRE)),
    )


def _label_field(label: int) -> bytes:
    """Return the 3 octets of a label at the bottom of the stack (RFC 8277 section 2.2)."""
    return (label << 4 | 1).to_bytes(3, "big")
