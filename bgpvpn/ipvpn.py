"""A VRF: L3VPN over MPLS over GRE (RFC 4364, RFC 4659, RFC 4023).

    received VPNv4, VPNv6 routes -> best per prefix -> [desired.routes of the VRF's table]
    endpoints of the segment     -> one route per address and VPN -> [originated]

One label leads into the whole VRF, where the address is looked up once more; a prefix behind a port has a label of
its own that leads straight to the port (RFC 4364 section 4.3.2).

VPNs of one segment that agree in LOCAL_PREF and route distinguisher share a route, which has the route targets of those
that it is announced into; those that differ get routes, and route distinguishers, of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

import attrs

from bgpvpn.desired import Afi, Desired, InVrf, Labelled, LabelRoute, NextHop, ObjectKey, OnBridge, Via
from bgpvpn.instance import Instance, NodeIdentity, Originated, Vias, targets, weighed
from bgpvpn.intent import Bgpvpn
from bgpvpn.segment import Endpoint
from speaker.decision import Candidate, tiers
from speaker.path import Attributes, Path
from speaker.rib import Interest, Rib
from speaker.values import Family, RouteDistinguisher
from speaker.wire.attribute import Interner, make
from speaker.wire.community import ENCAPSULATION_GRE, encapsulation, encapsulation_types, link_bandwidth

USABLE_ENCAPSULATIONS = frozenset({2, 10, 11})
"""GRE, MPLS and MPLS-in-GRE (RFC 9012 section 3): all mean MPLS over the tunnel that the nodes have; absent counts."""

FAMILY_OF: dict[int, Family] = {4: Family.VPNV4, 6: Family.VPNV6}
AFI_OF: dict[Family, Afi] = {Family.VPNV4: 4, Family.VPNV6: 6}

Keys = bytes | tuple[bytes, ...]
"""One NLRI key, as usual, or several, sorted."""

Choice = tuple[Via | None, tuple[int, ...]]
"""Where a prefix leads, and which of its NLRI keys, by position, have a route that this VRF imports."""


@attrs.frozen
class ExportGroup:
    """VPNs of one segment that share their routes."""

    name: str  # stable over restarts; a route distinguisher is leased by it
    vpns: Mapping[str, frozenset[bytes]]  # id -> export targets
    route_distinguisher: RouteDistinguisher | None  # None: leased
    local_pref: int | None


def export_groups(vpns: Iterable[Bgpvpn], router_id: bytes) -> list[ExportGroup]:
    """Group VPNs by what one route can say; VPNs without an export target announce nothing.

    A route has one LOCAL_PREF: of VPNs with one route distinguisher that differ in it, the first keeps that.
    """
    grouped: dict[tuple[int | None, str], list[Bgpvpn]] = {}
    preference_of: dict[str, int | None] = {}
    for vpn in vpns:
        if targets([vpn], "export"):
            text = choose_distinguisher(vpn, router_id)
            keeps = preference_of.setdefault(text, vpn.local_pref) == vpn.local_pref
            grouped.setdefault((vpn.local_pref, text if keeps else ""), []).append(vpn)
    return [
        ExportGroup(
            name="" if local_pref is None else str(local_pref),
            vpns={vpn.id: targets([vpn], "export") for vpn in members},
            route_distinguisher=RouteDistinguisher.parse(text) if text else None,
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
        super().__init__(name, rib, interest, vias)
        self.table = table
        self.usable = usable
        self.routes = {family: desired.routes_of(table, AFI_OF[family]) for family in AFI_OF}
        self.statics: dict[tuple[Family, bytes], Via] = {}  # to our own endpoints, where no connected route leads
        self.keys: dict[Family, dict[bytes, Keys]] = {family: {} for family in AFI_OF}
        self.dirty: dict[Family, dict[bytes, None]] = {family: {} for family in AFI_OF}
        self.rest: dict[Family, list[bytes]] = {family: [] for family in AFI_OF}  # becomes dirty in shares

    def __len__(self) -> int:
        return sum(map(len, self.dirty.values())) + sum(map(len, self.rest.values()))

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
            keys[prefix] = tuple(sorted((*_several(held), key)))

    def touch_all(self) -> None:
        """Note that every prefix is to be worked out again."""
        for family, keys in self.keys.items():
            self.rest[family] = list(keys)

    def set_statics(self, statics: dict[tuple[Family, bytes], Via]) -> None:
        """Say which routes lead to the segment's own endpoints."""
        changed = [at for at in {**self.statics, **statics} if self.statics.get(at) is not statics.get(at)]
        self.statics = statics
        for family, prefix in changed:
            self.dirty[family][prefix] = None

    def step(self, most: int) -> int:
        """Choose the best paths of up to `most` prefixes (hot)."""
        for family, rest in self.rest.items():
            if rest:
                self.dirty[family].update(dict.fromkeys(rest[-most:]))
                del rest[-most:]
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
        keys, routes, statics = self.keys[family], self.routes[family], self.statics
        gets = [table.rows.get for _, table in self.rib.sources(family)]
        chosen: dict[tuple[Path | None, ...], Choice] = {}
        new: dict[bytes, Via] = {}
        for prefix in dirty:
            held = keys.get(prefix)
            if isinstance(held, bytes):
                paths = tuple([get(held) for get in gets])
            else:
                paths = tuple([get(key) for key in held or () for get in gets])
            static = statics.get((family, prefix)) if statics else None
            # The same paths from the same sources, under keys in the same order, lead the same way.
            choice = chosen.get(paths) if static is None else None
            if choice is None:
                choice = self._best(family, _several(held), static)
                if static is None:
                    chosen[paths] = choice
            via, present = choice
            if held is not None and len(present) < (1 if isinstance(held, bytes) else len(held)):
                left = tuple(_several(held)[at] for at in present)
                if left:
                    keys[prefix] = left[0] if len(left) == 1 else left
                else:
                    del keys[prefix]
            if via is not None:
                new[prefix] = via
            else:
                routes.discard(prefix)
        routes.put_all(new)

    def _best(self, family: Family, keys: tuple[bytes, ...], static: Via | None) -> Choice:
        """Choose among all candidates of a prefix, the segment's own endpoints included."""
        candidates = self.candidates(family, keys)
        having = {candidate.key for candidate in candidates}
        present = tuple(at for at, key in enumerate(keys) if key in having)
        usable = [candidate for candidate in candidates if not self.refusal(candidate.path)]
        if len(usable) == 1 and (only := self.vias.meaning.get(usable[0].path)) is not None:
            return only, present
        found = tiers(usable)
        if not found:
            return static, present
        hops: list[list[NextHop]] = []
        own = self.vias.own
        for tier in found:
            if any(own.get(candidate.path) == self.name for candidate in tier):
                # Our own endpoints share with no other VRF: two that did so could send a packet round and round.
                if static is None:  # directly connected: needs no route, and nothing stands behind it
                    break
                hops.append(list(static.tiers[0]))
            else:
                shares = weights(tier)
                hops.append([weighed(self._hop(each.path), share) for each, share in zip(tier, shares, strict=True)])
        return self.vias.of(hops), present

    def _hop(self, path: Path) -> NextHop:
        segment = self.vias.own.get(path)
        return self.vias.meaning[path].tiers[0][0] if segment is None else InVrf(segment)

    def refusal(self, path: Path) -> str:
        """Tell why a path cannot be used, "" if it can; what a usable one means is then known to `vias`."""
        if path in self.vias.own or path in self.vias.meaning:
            return ""
        attributes = path.attributes
        refusal = self.vias.refusals.get(attributes)
        if refusal is None:
            kinds = encapsulation_types(attributes.ext_communities)
            if kinds and kinds.isdisjoint(USABLE_ENCAPSULATIONS):
                refusal = f"encapsulation {sorted(kinds)} is not MPLS over GRE"
            else:
                refusal = self.usable(attributes.next_hop)
            self.vias.refusals[attributes] = refusal
        label = int.from_bytes(path.extra, "big") >> 4
        if not refusal and label < 16:
            refusal = f"label {label} is reserved (RFC 3032 section 2.1)"
        if not refusal:
            self.vias.meaning[path] = self.vias.to([Labelled(attributes.next_hop, label)])
        return refusal


def weights(tier: Sequence[Candidate]) -> list[int]:
    """Return how equal paths share the traffic: by their link bandwidth where all tell one, else equally.

    The largest gets 255, the most that the kernel takes beside others (draft-ietf-idr-link-bandwidth section 3).
    """
    told = [link_bandwidth(candidate.path.attributes.ext_communities) for candidate in tier]
    bandwidths = [each for each in told if each]
    if len(bandwidths) < len(tier) or len(set(bandwidths)) == 1:
        return [1] * len(tier)
    largest = max(bandwidths)
    return [max(1, round(each / largest * 255)) for each in bandwidths]


def _several(held: Keys | None) -> tuple[bytes, ...]:
    return () if held is None else (held,) if isinstance(held, bytes) else held


@attrs.frozen
class Announcement:
    """All that a VRF says: its routes, the label routes that they need, the routes to its own endpoints."""

    originated: dict[tuple[Family, bytes], Originated]
    labels: dict[ObjectKey, LabelRoute]
    statics: dict[tuple[Family, bytes], Via]


@attrs.frozen
class Behind:
    """A port that a prefix lies behind."""

    port: str
    address: bytes  # of the port, in the prefix's address family
    label: int
    vpns: frozenset[str]  # that the prefix is announced into


def announce(
    segment: str,
    groups: Iterable[ExportGroup],
    endpoints: Sequence[Endpoint],
    connected: Callable[[bytes], bool],
    active: Callable[[str], bool],
    identity: NodeIdentity,
    vrf_label: int,
    distinguisher: Callable[[ExportGroup], RouteDistinguisher],
    port_label: Callable[[str, bytes], int],
    interner: Interner,
    vias: Vias,
) -> Announcement:
    """Work out what the endpoints of a segment mean to others and to the segment's own table.

    `connected` tells whether a subnet of the segment covers an address, `active` whether a port forwards;
    `distinguisher` and `port_label` lease numbers.
    """
    said = Announcement({}, {}, {})
    vrf_needs: ObjectKey = ("vrf", segment)
    distinguished = [(group, distinguisher(group).wire) for group in groups]

    def say(group: ExportGroup, vpns: Iterable[str], at: tuple[Family, bytes], label: int, *needs: ObjectKey) -> None:
        route_targets = frozenset[bytes]().union(*(group.vpns[vpn] for vpn in vpns))
        path = _attributes(group, route_targets, identity, interner).path(label_field(label))
        vias.own[path] = segment
        said.originated[at] = Originated(path, (vrf_needs, *needs))

    for endpoint in endpoints:
        announced = {binding.bgpvpn_id for binding in endpoint.bindings if binding.fixed_ips}
        for address in endpoint.addresses:
            family = _family_of(address)
            prefix = address + bytes([len(address) * 8])
            if not connected(address):
                said.statics[(family, prefix)] = vias.to([OnBridge(segment, address)])
            for group, rd in distinguished:
                if vpns := announced & group.vpns.keys():
                    say(group, vpns, (family, rd + prefix), vrf_label, ("attachment", endpoint.port))

    for (family, prefix), behind in _prefixes(endpoints, port_label).items():
        for each in behind:
            route = LabelRoute(each.label, segment, each.address)
            said.labels[route.key] = route
        carrying = [each for each in behind if active(each.port)] or behind
        own = prefix[:-1] if prefix[-1] == len(carrying[0].address) * 8 else None
        if not any(own in endpoint.addresses for endpoint in endpoints):
            said.statics[(family, prefix)] = vias.to([OnBridge(segment, each.address) for each in carrying])
        for group, rd in distinguished:
            ports = [each for each in carrying if each.vpns & group.vpns.keys()]
            if not ports or (family, rd + prefix) in said.originated:
                continue
            needs: list[ObjectKey] = [("attachment", each.port) for each in ports]
            label = vrf_label  # leads to the VRF's table, and that to all the ports
            if len(ports) == 1:
                label = ports[0].label
                needs.append(("label", str(label)))
            vpns = group.vpns.keys() & frozenset[str]().union(*(each.vpns for each in ports))
            say(group, vpns, (family, rd + prefix), label, *needs)
    return said


def _prefixes(
    endpoints: Iterable[Endpoint], port_label: Callable[[str, bytes], int]
) -> dict[tuple[Family, bytes], list[Behind]]:
    """Return the further prefixes and the ports that each lies behind; a prefix needs a port address of its family."""
    found: dict[tuple[Family, bytes], list[Behind]] = {}
    for endpoint in endpoints:
        vpns: dict[tuple[Family, bytes], set[str]] = {}
        for binding in endpoint.bindings:
            for version, prefix in binding.prefixes:
                vpns.setdefault((FAMILY_OF[version], prefix), set()).add(binding.bgpvpn_id)
        for (family, prefix), into in vpns.items():
            address = next((each for each in endpoint.addresses if _family_of(each) is family), None)
            if address is not None:
                label = port_label(endpoint.port, address)
                found.setdefault((family, prefix), []).append(Behind(endpoint.port, address, label, frozenset(into)))
    return found


def _family_of(address: bytes) -> Family:
    return Family.VPNV4 if len(address) == 4 else Family.VPNV6


def _attributes(
    group: ExportGroup, route_targets: Iterable[bytes], identity: NodeIdentity, interner: Interner
) -> Attributes:
    return make(
        interner,
        next_hop=identity.tunnel,
        local_pref=group.local_pref,
        ext_communities=(*sorted(route_targets), encapsulation(ENCAPSULATION_GRE)),
    )


def label_field(label: int) -> bytes:
    """Return the 3 octets of a label at the bottom of the stack (RFC 8277 section 2.2)."""
    return (label << 4 | 1).to_bytes(3, "big")
