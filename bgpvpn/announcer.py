"""What a VRF says: the routes of the endpoints of its segments, by VPN, and what leads to these in its own table.

    endpoints of the VRF's segments -> one route per address and VPN -> [originated]

One label leads into the whole VRF, where the address is looked up once more; a prefix behind a port has a label of
its own that leads straight to the port (RFC 4364 section 4.3.2). Of several ports that a prefix lies behind those with
the highest LOCAL_PREF carry it.

VPNs of one VRF that agree in LOCAL_PREF and route distinguisher share a route, which has the route targets of those
that it is announced into; those that differ get routes, and route distinguishers, of their own.  VPNs by the technique
evpn-prefix are announced over VXLAN (RFC 9136), the others over MPLS over GRE.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Iterable, Mapping

import attrs

from bgpvpn.desired import LabelRoute, ObjectKey, OnBridge, Via
from bgpvpn.instance import FAMILY_OF, NodeIdentity, Originated, Vias, targets
from bgpvpn.intent import Bgpvpn
from bgpvpn.objects import DEFAULT_LOCAL_PREF
from bgpvpn.prefixes import prefix_extra, prefix_key
from bgpvpn.segment import Endpoint, Prefix, Segment
from speaker.path import Attributes
from speaker.values import Family, RouteDistinguisher
from speaker.wire.attribute import Interner, make
from speaker.wire.community import ENCAPSULATION_GRE, ENCAPSULATION_VXLAN, encapsulation, routers_mac


@attrs.frozen
class ExportGroup:
    """VPNs of one VRF that share their routes."""

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
            text, local_pref = choose_distinguisher(vpn, router_id), vpn.effective_local_pref(None)
            keeps = preference_of.setdefault(text, local_pref) == local_pref
            grouped.setdefault((local_pref, text if keeps else ""), []).append(vpn)
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


FALLBACK_ADDRESSES: dict[Family, bytes] = {
    Family.VPNV4: ipaddress.ip_address("169.254.0.1").packed,
    Family.VPNV6: ipaddress.ip_address("fe80::ffff:1").packed,
}
"""Link-local addresses by which a VRF knows the router that gets what no VPN has a route for."""

EVERYTHING = b"\0"
"""The prefix of no octets, 0 bits."""


@attrs.frozen
class Announcement:
    """What a VRF or a port in it says: its routes, the label routes that they need, the routes to its own endpoints."""

    originated: dict[tuple[Family, bytes], Originated] = attrs.field(factory=dict)
    labels: dict[ObjectKey, LabelRoute] = attrs.field(factory=dict)
    statics: dict[tuple[str, Family, bytes], Via] = attrs.field(factory=dict)  # by VRF and prefix


@attrs.frozen
class Behind:
    """A port that a prefix lies behind."""

    port: str
    attachment: str
    bridge: str
    address: bytes  # of the port, in the prefix's address family
    label: int
    vpns: dict[str, int | None]  # that the prefix is announced into, each with the LOCAL_PREF there
    here: tuple[int | None, ...]  # LOCAL_PREFs of those for which it lies there for the port's own VRF too


class Announcer:
    """Works out what the endpoints of a VRF mean to others and to the VRF's own table.

    An address of a port is the matter of that port alone, so that one port more is little work; a prefix, and the
    subnet of an address, are that of all.
    """

    def __init__(
        self,
        vrf: str,
        label: int,
        segments: Iterable[Segment],
        endpoints: Callable[[], Iterable[Endpoint]],
        active: Callable[[str], bool],
        identity: NodeIdentity,
        distinguisher: Callable[[ExportGroup], RouteDistinguisher],
        port_label: Callable[[str, bytes], int],
        interner: Interner,
        vias: Vias,
        vni: int | None = None,
    ) -> None:
        """`endpoints` are all of the VRF; `active` tells whether an attachment forwards.

        `distinguisher` and `port_label` lease numbers.
        `vni` is that of the VRF, for VPNs by the technique evpn-prefix.
        """
        self.vrf = vrf
        self.label = label
        self.segments = {segment.name: segment for segment in segments}
        self.endpoints = endpoints
        self.active = active
        self.identity = identity
        self.port_label = port_label
        self.interner = interner
        self.vias = vias
        self.vpns = {vpn.id: vpn for segment in self.segments.values() for vpn in segment.of_type("l3")}
        self.vni = vni
        by_technique = {
            technique: [self.vpns[id_] for id_ in sorted(self.vpns) if technique in self.vpns[id_].technique]
            for technique in ("ipvpn", "evpn-prefix")
        }
        self.groups = [
            (group, distinguisher(group).wire, technique)
            for technique, vpns in by_technique.items()
            for group in export_groups(vpns, identity.router_id)
        ]
        self.distinguisher = distinguisher
        imports = targets((vpn for segment in self.segments.values() for vpn in segment.importing("l3")), "import")
        # The VRF hears what is announced into these, or is where their packets arrive: so its table must lead on.
        self.led = {
            vpn.id
            for vpn in self.vpns.values()
            if "evpn-prefix" in vpn.technique or not imports.isdisjoint(targets([vpn], "export"))
        }
        self.has_hosts_behind = False  # known once `of_all` was asked
        self.aggregates = any(vpn.aggregate != "none" for vpn in self.vpns.values())

    @property
    def frame(self) -> object:
        """What all the addresses are announced by: while that is the same, so are they."""
        return self.label, self.vni, self.segments, self.groups

    def of_all(self, carriers: Iterable[Endpoint]) -> Announcement:
        """Return what the VRF says of all its endpoints together; behind `carriers` lies something."""
        said = Announcement()
        if self.aggregates:
            self._subnets(said)
        for (family, prefix), behind in self._prefixes(carriers).items():
            self._prefix(said, family, prefix, behind)
        for segment in self.segments.values():
            if segment.fallback_mac is not None:
                for family, address in FALLBACK_ADDRESSES.items():
                    via = self.vias.to([OnBridge(segment.name, address)])
                    said.statics.setdefault((self.vrf, family, EVERYTHING), via)
        return said

    def of_port(self, endpoint: Endpoint) -> Announcement:
        """Return what the VRF says of the addresses of a port."""
        said = Announcement()
        self._addresses(said, endpoint)
        return said

    def _say(
        self,
        said: Announcement,
        of: tuple[ExportGroup, bytes, str],
        vpns: Iterable[str],
        at: tuple[Family, bytes],
        label: int,
        needs: Iterable[ObjectKey],
        local_pref: int | None,
        past: Via | None = None,
    ) -> None:
        """Announce a prefix with the targets of these VPNs of a group, and the label that leads to it.

        `past`: where it leads when that is not into the VRF.
        """
        group, rd, technique = of
        family, prefix = at
        needed = [("vrf", self.vrf), *needs]
        route_targets = frozenset[bytes]().union(*(group.vpns[vpn] for vpn in vpns))
        if technique == "ipvpn":
            key = (family, rd + prefix)
            path = attributes(route_targets, local_pref, self.identity, self.interner).path(label_field(label))
        else:
            assert self.vni is not None, "a VRF with such a VPN has a VNI"
            size = 4 if family is Family.VPNV4 else 16
            key = (Family.EVPN, prefix_key(rd, prefix, size))
            told = overlay_attributes(route_targets, local_pref, self.identity, self.interner)
            path = told.path(prefix_extra(self.vni, size))
            needed.append(("vxlan", str(self.vni)))
        if past is None:
            self.vias.own[path] = self.vrf
        else:
            self.vias.meaning[path] = past
        said.originated.setdefault(key, Originated(path, tuple(needed)))

    def _addresses(self, said: Announcement, endpoint: Endpoint) -> None:
        """Announce the addresses of a port, and lead to those that no subnet of its segment covers."""
        for address in endpoint.addresses:
            family = _family_of(address)
            prefix = address + bytes([len(address) * 8])
            subnet = covering(self.segments[endpoint.segment], address)
            into = {binding.bgpvpn_id for binding in endpoint.bindings if address in binding.addresses}
            if subnet is None and address in endpoint.routed:
                said.statics[(self.vrf, family, prefix)] = self.vias.to([OnBridge(endpoint.segment, address)])
            elif subnet is not None:
                into = {id_ for id_ in into if id_ in self.vpns and self.vpns[id_].aggregate != "subnet"}
            for of in self.groups:
                if vpns := into & of[0].vpns.keys():
                    needs: list[ObjectKey] = [("attachment", endpoint.attachment)]
                    self._say(said, of, vpns, (family, prefix), self.label, needs, of[0].local_pref)

    def _subnets(self, said: Announcement) -> None:
        """Announce the subnets of segments into the VPNs that want them, while a port announces an address there."""
        into: dict[tuple[str, Family, bytes], set[str]] = {}
        for endpoint in self.endpoints():
            for binding in endpoint.bindings:
                if binding.bgpvpn_id in self.vpns and self.vpns[binding.bgpvpn_id].aggregate != "none":
                    for address in binding.addresses:
                        if (subnet := covering(self.segments[endpoint.segment], address)) is not None:
                            at = (endpoint.segment, _family_of(address), subnet)
                            into.setdefault(at, set()).add(binding.bgpvpn_id)
        for (segment, family, subnet), ids in into.items():
            for of in self.groups:
                if vpns := ids & of[0].vpns.keys():
                    self._say(said, of, vpns, (family, subnet), self.label, [("bridge", segment)], of[0].local_pref)

    def _prefix(self, said: Announcement, family: Family, prefix: bytes, behind: list[Behind]) -> None:
        """Announce a prefix behind ports, and lead to it."""
        for each in behind:
            route = LabelRoute(each.label, each.bridge, each.address)
            said.labels[route.key] = route
        leading, _ = self._carrying((each, max(each.here, key=_degree)) for each in behind if each.here)
        is_host = bool(leading) and prefix[-1] == len(leading[0].address) * 8
        self.has_hosts_behind |= is_host
        if leading and not (is_host and any(prefix[:-1] in endpoint.addresses for endpoint in self.endpoints())):
            hops = [OnBridge(each.bridge, each.address) for each in leading]
            said.statics[(self.vrf, family, prefix)] = self.vias.to(dict.fromkeys(hops))
        for group, rd, technique in self.groups:
            # VPNs that have other ports, or another LOCAL_PREF, have a route of their own; the first keeps the group's.
            for number, ((ports, local_pref), vpns) in enumerate(self._ways(group, behind)):
                if number:
                    name = " ".join(["of", vpns[0], *(each.port for each in ports if not each.here)])
                    rd = self.distinguisher(attrs.evolve(group, name=name, route_distinguisher=None)).wire
                needs: list[ObjectKey] = [("attachment", each.attachment) for each in ports]
                label = self.label  # leads to the VRF's table, and that to all the ports
                if len(ports) == 1:
                    label = ports[0].label
                    needs.append(("label", str(label)))
                past = None if ports[0].here else self.vias.to([OnBridge(ports[0].bridge, ports[0].address)])
                self._say(said, (group, rd, technique), vpns, (family, prefix), label, needs, local_pref, past)

    def _ways(
        self, group: ExportGroup, behind: list[Behind]
    ) -> Iterable[tuple[tuple[tuple[Behind, ...], int | None], list[str]]]:
        """Return the ports that carry a prefix together and their LOCAL_PREF, each with the VPNs of a group for it.

        Only those to which the VRF's own table leads carry it together.
        """
        found: dict[tuple[tuple[str, ...], int | None], tuple[tuple[Behind, ...], list[str]]] = {}
        for vpn in group.vpns:
            ports, local_pref = self._carrying((each, each.vpns[vpn]) for each in behind if vpn in each.vpns)
            together = [tuple(ports)] if all(each.here for each in ports) else [(each,) for each in ports]
            for some in together if ports else ():
                names = tuple(each.port for each in some)
                found.setdefault((names, local_pref), (some, []))[1].append(vpn)
        return [((ports, local_pref), vpns) for (_, local_pref), (ports, vpns) in found.items()]

    def _carrying(self, ports: Iterable[tuple[Behind, int | None]]) -> tuple[list[Behind], int | None]:
        """Return who of the ports that forward, or of all if none does, has the highest LOCAL_PREF, and that."""
        found = list(ports)
        found = [each for each in found if self.active(each[0].attachment)] or found
        highest = max((local_pref for _, local_pref in found), key=_degree, default=None)
        return [port for port, local_pref in found if _degree(local_pref) == _degree(highest)], highest

    def _prefixes(self, carriers: Iterable[Endpoint]) -> dict[tuple[Family, bytes], list[Behind]]:
        """Return the further prefixes and the ports that each lies behind, if these have an address of its family."""
        found: dict[tuple[Family, bytes], list[Behind]] = {}
        for endpoint in carriers:
            vpns: dict[Prefix, dict[str, int | None]] = {each: {} for each in endpoint.behind}
            here: dict[Prefix, list[int | None]] = {each: [None] for each in endpoint.behind}
            for binding in endpoint.bindings:
                for prefix, local_pref in binding.prefixes:
                    vpns.setdefault(prefix, {})[binding.bgpvpn_id] = local_pref
                    if binding.sends or binding.bgpvpn_id in self.led:
                        here.setdefault(prefix, []).append(local_pref)
            for (version, octets), into in vpns.items():
                family = FAMILY_OF[version]
                address = address_of(endpoint, family)
                if address is not None:
                    leading = tuple(here.get((version, octets), ()))
                    # One label stands for one way: into the VRF, which leads on to the port, or past it.
                    label = self.port_label(endpoint.port if leading else f"past {endpoint.port}", address)
                    behind = Behind(endpoint.port, endpoint.attachment, endpoint.segment, address, label, into, leading)
                    found.setdefault((family, octets), []).append(behind)
        return found


def _degree(local_pref: int | None) -> int:
    return DEFAULT_LOCAL_PREF if local_pref is None else local_pref


def covering(segment: Segment, address: bytes) -> bytes | None:
    """Return the subnet of a segment's gateways that covers an address, as a prefix; None: none does."""
    number, bits = int.from_bytes(address, "big"), len(address) * 8
    for gateway in segment.gateways:
        if len(gateway.address) == len(address):
            shift = bits - gateway.prefix_length
            if (number ^ int.from_bytes(gateway.address, "big")) >> shift == 0:
                octets = (number >> shift << shift).to_bytes(len(address), "big")
                return octets[: (gateway.prefix_length + 7) // 8] + bytes([gateway.prefix_length])
    return None


def address_of(endpoint: Endpoint, family: Family) -> bytes | None:
    """Return the first address that a port has in a family."""
    return next((each for each in endpoint.addresses if _family_of(each) is family), None)


def _family_of(address: bytes) -> Family:
    return Family.VPNV4 if len(address) == 4 else Family.VPNV6


def attributes(
    route_targets: Iterable[bytes],
    local_pref: int | None,
    identity: NodeIdentity,
    interner: Interner,
    *further: bytes,
) -> Attributes:
    """Return the attributes of a route of this node over MPLS over GRE; `further` extended communities."""
    return make(
        interner,
        next_hop=identity.tunnel,
        local_pref=local_pref,
        ext_communities=(*sorted(route_targets), encapsulation(ENCAPSULATION_GRE), *further),
    )


def overlay_attributes(
    route_targets: Iterable[bytes], local_pref: int | None, identity: NodeIdentity, interner: Interner
) -> Attributes:
    """Return the attributes of a prefix of this node over VXLAN (RFC 9136 section 4.4.1)."""
    return make(
        interner,
        next_hop=identity.tunnel,
        local_pref=local_pref,
        ext_communities=(
            *sorted(route_targets),
            encapsulation(ENCAPSULATION_VXLAN),
            routers_mac(identity.router_mac),
        ),
    )


def label_field(label: int) -> bytes:
    """Return the 3 octets of a label at the bottom of the stack (RFC 8277 section 2.2)."""
    return (label << 4 | 1).to_bytes(3, "big")
