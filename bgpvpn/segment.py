"""From what users want to segments: which ports of this node are together, and in which VPNs.

A segment is one broadcast domain on this node.  It has one bridge, a VRF if it is in any l3 VPN, and one EVI
if it is in any l2 VPN.  Ports of a network share a segment, named after the network, so that binding
the network to one more VPN changes route targets and nothing else.  A port that sends by more VPNs than
its network leaves it for a segment of its own kind, named after the network and those VPNs; a port without a
network is a segment by itself.  Stations behind one interface cannot be parted: what one sends by, all do.

    VPNs of a port = its own associations, those of its network, and those of a router on its network

A VRF is that of one segment, or that of a router: the segments of the networks of a router that is in l3 VPNs share it,
so that they reach each other whatever the route targets say.

A segment exists while it has a VPN and a port on this node that is administratively up.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TypeVar

import attrs

from bgpvpn.desired import Gateway
from bgpvpn.instance import targets
from bgpvpn.intent import Association, Bgpvpn, Intent, Network, Port, Router
from bgpvpn.objects import DEFAULT_LOCAL_PREF, title
from speaker.table import Table
from speaker.values import Mac, prefix_bytes

T = TypeVar("T")

Prefix = tuple[int, bytes]
"""(4 or 6, prefix)"""


@attrs.frozen
class Leaked:
    """A VPN whose routes are announced anew, as lying behind a port."""

    bgpvpn_id: str
    imports: frozenset[bytes]  # its route targets, 8 octets each
    local_pref: int | None


@attrs.frozen
class Refused:
    """A prefix that an association wants announced, and why the VPN does not take it."""

    association: str
    prefix: str
    reason: str


@attrs.frozen
class Binding:
    """What an endpoint announces into one VPN."""

    bgpvpn_id: str
    addresses: tuple[bytes, ...] = ()
    prefixes: tuple[tuple[Prefix, int | None], ...] = ()  # that lie behind the port, each with its LOCAL_PREF
    leaks: tuple[Leaked, ...] = ()
    refused: tuple[Refused, ...] = ()
    sends: bool = True  # the port sends by the VPN as well: what lies behind it lies there for its own VRF too


@attrs.frozen
class Endpoint:
    """A port as its segment sees it."""

    port: str
    segment: str
    attachment: str  # the name of the Attachment that it is behind
    interface: str
    netns: str
    mac: bytes
    addresses: tuple[bytes, ...]
    bindings: tuple[Binding, ...]
    routed: tuple[bytes, ...] = ()  # the addresses that an l3 VPN is about, announced or not
    behind: tuple[Prefix, ...] = ()  # prefixes that its router leads to it, announced or not


@attrs.frozen
class Segment:
    """A broadcast domain of this node and the VPNs that it is in."""

    name: str
    owner: str  # network id, or port id for a port by itself
    title: str  # for people
    vpns: tuple[Bgpvpn, ...]  # by id: those that it sends by, and those that its ports are only announced into
    imports: frozenset[str]  # ids of those that it sends by
    gateways: tuple[Gateway, ...]
    vrf: str  # the name of its VRF, if it is in an l3 VPN
    mtu: int | None = None
    fallback_mac: bytes | None = None  # who gets what no VPN has a route for

    def of_type(self, kind: str) -> tuple[Bgpvpn, ...]:
        """Return the VPNs of type "l2" or "l3"."""
        return tuple(vpn for vpn in self.vpns if vpn.type == kind)

    def importing(self, kind: str) -> tuple[Bgpvpn, ...]:
        """Return the VPNs of a type that it sends by."""
        return tuple(vpn for vpn in self.of_type(kind) if vpn.id in self.imports)


@attrs.frozen
class Bound:
    """An association whose VPN is up, and what it covers of the ports that it is about."""

    association: Association
    vpn: Bgpvpn
    router: Router | None = None
    subnets: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()  # of the router, in the network
    extra: Mapping[bytes, Sequence[str]] = {}  # of the router: next hop -> the destinations behind it
    beyond: Container[str] = ()  # destinations that are more than the VPN takes of an association

    def covers(self, address: bytes) -> bool:
        """Tell whether an address of a port is one that the association is about."""
        return self.router is None or any(ipaddress.ip_address(address) in subnet for subnet in self.subnets)

    def behind(self, addresses: Iterable[bytes]) -> list[str]:
        """Return where the router's extra routes over these addresses lead."""
        return [destination for address in addresses for destination in self.extra.get(address, ())]


Interface = tuple[str, str]
"""(network namespace, name)"""


@attrs.frozen
class Group:
    """What the stations behind one interface come to."""

    segment: str
    ports: tuple[str, ...]  # that are endpoints
    vpns: frozenset[str]
    by_itself: bool  # a port is in an l3 VPN by an association of its own


@attrs.frozen
class Owner:
    """A network, or a port by itself: what all its ports have in common, and what became of them."""

    id: str
    network: Network | None
    shared: Sequence[Bound]
    router: Router | None  # by which it is in l3 VPNs
    groups: dict[Interface, Group] = attrs.field(factory=dict)
    kinds: dict[str, Counter[Group]] = attrs.field(factory=dict)  # segment -> its groups, but for their ports

    def put(self, at: Interface, group: Group | None) -> Group | None:
        """Say what the stations of an interface come to; return what they came to before."""
        before = self.groups.pop(at, None)
        if before is not None:
            kinds = self.kinds[before.segment]
            kinds[attrs.evolve(before, ports=())] -= 1
            self.kinds[before.segment] = +kinds
            if not self.kinds[before.segment]:
                del self.kinds[before.segment]
        if group is not None:
            self.groups[at] = group
            self.kinds.setdefault(group.segment, Counter())[attrs.evolve(group, ports=())] += 1
        return before


class Segments:
    """The stage [intent] -> [segments] and [endpoints]; only what a change touches is worked out again.

    A change of a port is one of its interface, and costs the same however many others its network has.
    """

    def __init__(self, intent: Intent, host: str = "") -> None:
        """`host` is the name of this node: ports of another are not here."""
        self.intent = intent
        self.host = host
        self.segments: Table[str, Segment] = Table()
        self.endpoints: Table[str, Endpoint] = Table()
        self._networks = intent.networks.reader()
        self._subnets = intent.subnets.reader()
        self._routers = intent.routers.reader()
        self._ports = intent.ports.reader()
        self._associations = intent.associations.reader()
        self._bgpvpns = intent.bgpvpns.reader()
        self._owners: dict[str, Owner] = {}  # those that have a segment
        self._plugged: dict[str, dict[Interface, dict[str, None]]] = {}  # owner -> its ports that are up on this node

    def step(self) -> int:
        """Bring segments and endpoints up to the intent; return how many owners were looked at."""
        owners = self._dirty()
        made: dict[str, Endpoint] = {}
        unmade: dict[str, None] = {}
        names: dict[str, Segment | None] = {}
        for owner, interfaces in owners.items():
            names |= self._work_out(owner, interfaces, made, unmade)
        for port_id in unmade.keys() - made.keys():  # one may have come to another network
            self.endpoints.discard(port_id)
        for name, segment in names.items():
            if segment is None:
                self.segments.discard(name)
            else:
                self.segments.put(name, segment)
        for port_id, endpoint in made.items():
            self.endpoints.put(port_id, endpoint)
        return len(owners)

    def of(self, owner: str) -> list[Segment]:
        """Return the segments of a network, or of a port by itself."""
        return [self.segments[name] for name in sorted(self._owners[owner].kinds)] if owner in self._owners else []

    def owners(self, association: Association) -> list[str]:
        """Return whose segments an association is about: those of networks, or of a port by itself."""
        kind, id_ = association.bound
        if kind == "router":
            router = self.intent.routers.get(id_)
            return [] if router is None else self._networks_of(router)
        port = self.intent.ports.get(id_) if kind == "port" else None
        return [(port.network_id if port is not None else None) or id_]

    def _networks_of(self, router: Router) -> list[str]:
        subnets = (self.intent.subnets.get(id_) for id_ in router.subnet_ids)
        return list(dict.fromkeys(subnet.network_id for subnet in subnets if subnet is not None))

    def _dirty(self) -> dict[str, set[Interface] | None]:
        """Return the owners that something changed of, and the interfaces that it is about; None: about all."""
        intent = self.intent
        found: dict[str, set[Interface] | None] = dict.fromkeys(self._networks.take())

        def about(port: Port) -> None:
            if port.network_id is None:
                found[port.id] = None
            elif (interfaces := found.setdefault(port.network_id, set())) is not None:
                interfaces.add((port.netns, port.interface))

        for id_, seen_subnet in self._subnets.take().items():
            for subnet in _differing(seen_subnet, intent.subnets.get(id_)):
                found[subnet.network_id] = None
        for id_, seen_router in self._routers.take().items():
            for router in _differing(seen_router, intent.routers.get(id_)):
                found.update(dict.fromkeys(self._networks_of(router)))
        for id_, seen_port in self._ports.take().items():
            if seen_port is not None:
                about(seen_port)
                self._plug(seen_port, False)
            if (port := intent.ports.get(id_)) is not None:
                about(port)
                self._plug(port, True)
        associations = [
            association
            for id_, seen in self._associations.take().items()
            for association in _differing(seen, intent.associations.get(id_))
        ]
        for id_ in self._bgpvpns.take():
            associations += intent.referring("bgpvpn", id_, "association")
        for association in associations:
            bound = intent.ports.get(association.port_id or "")
            if bound is not None:
                about(bound)
            else:
                found.update(dict.fromkeys(self.owners(association)))
        return found

    def _plug(self, port: Port, is_there: bool) -> None:
        """Note whether a port that is up on this node is behind its interface."""
        if not port.admin_state_up or port.host not in ("", self.host):
            return
        owner, at = port.network_id or port.id, (port.netns, port.interface)
        plugged = self._plugged.setdefault(owner, {})
        stations = plugged.setdefault(at, {})
        if is_there:
            stations[port.id] = None
        else:
            stations.pop(port.id, None)
        if not stations:
            del plugged[at]
        if not plugged:
            del self._plugged[owner]

    def _work_out(
        self, id_: str, interfaces: set[Interface] | None, made: dict[str, Endpoint], unmade: dict[str, None]
    ) -> dict[str, Segment | None]:
        """Return the segments that changed of one network, or of one port by itself; None: it is no more.

        What becomes of its ports comes to be in `made` and `unmade`.
        """
        plugged, owner = self._plugged.get(id_, {}), self._owners.pop(id_, None)
        names: dict[str, Segment | None] = {}
        if interfaces is None or owner is None:
            interfaces = set(plugged)
            for before in owner.groups.values() if owner is not None else ():
                names[before.segment] = None
                unmade.update(dict.fromkeys(before.ports))
            network = self.intent.networks.get(id_)
            shared = self._bound_network(network) if network is not None else []
            router = next((each.router for each in shared if each.router is not None), None)
            owner = Owner(id_, network, shared, router)
        for at in interfaces:
            stations = [self.intent.ports[port_id] for port_id in plugged.get(at, ())]
            group = self._group(owner, stations, made) if stations else None
            for each in (group, owner.put(at, group)):
                if each is not None:
                    names[each.segment] = None
                    if each is not group:
                        unmade.update(dict.fromkeys(each.ports))
        if owner.groups:
            self._owners[id_] = owner
        return {name: self._segment(owner, name) if name in owner.kinds else None for name in names}

    def _group(self, owner: Owner, stations: Sequence[Port], made: dict[str, Endpoint]) -> Group | None:
        """Make the endpoints of the stations behind one interface; None if none is bound to a VPN."""
        own = {port.id: self._bound("port", port.id) for port in stations}
        extra = {each.vpn.id for bound in own.values() for each in bound if _imports(each)}
        name = owner.id + (_suffix(extra - {each.vpn.id for each in owner.shared}) if owner.network is not None else "")
        vpns: set[str] = set()
        ports = []
        for port in stations:
            if bound := [*owner.shared, *own[port.id]]:
                vpns.update(each.vpn.id for each in bound)
                ports.append(port.id)
                made[port.id] = self._endpoint(port, name, bound, alone=len(stations) == 1)
        by_itself = any(each.vpn.type == "l3" for bound in own.values() for each in bound)
        return Group(name, tuple(ports), frozenset(vpns), by_itself) if ports else None

    def _segment(self, owner: Owner, name: str) -> Segment:
        network, kinds = owner.network, owner.kinds[name]
        vpns = sorted(frozenset[str]().union(*(group.vpns for group in kinds)))
        imports = {each.vpn.id for each in owner.shared}
        for at, group in owner.groups.items() if name != owner.id or network is None else ():
            if group.segment == name:  # all of them send by the same
                stations = self._plugged[owner.id][at]
                bound = (each for port_id in stations for each in self._bound("port", port_id))
                imports.update(each.vpn.id for each in bound if _imports(each))
                break
        # Of a network that is in l3 VPNs by its router alone, the router's subnets alone have gateways.
        through = None if any(group.by_itself for group in kinds) else owner.router
        return Segment(
            name=name,
            owner=owner.id,
            title=(network.name if network is not None else self.intent.ports[owner.id].name) or owner.id,
            vpns=tuple(self.intent.bgpvpns[id_] for id_ in vpns),
            imports=frozenset(imports),
            gateways=self._gateways(owner, through),
            vrf=(f"router/{owner.router.id}" if owner.router is not None else owner.id) + name[len(owner.id) :],
            mtu=network.mtu if network is not None else None,
            fallback_mac=_mac(network.fallback_mac) if network is not None and network.fallback_mac else None,
        )

    def _endpoint(self, port: Port, segment: str, bound: Sequence[Bound], alone: bool) -> Endpoint:
        addresses = tuple(map(_address, port.ip_addresses))
        return Endpoint(
            port=port.id,
            segment=segment,
            # One that others may share is named after what it is, so that it stays when ports come and go.
            attachment=port.id if alone and port.ovs is None else f"{port.netns}/{port.interface}",
            interface=port.interface,
            netns=port.netns,
            mac=_mac(port.mac_address),
            addresses=addresses,
            bindings=self._bindings(port, addresses, bound),
            routed=tuple(
                address
                for address in addresses
                if any(each.vpn.type == "l3" and each.covers(address) for each in bound)
            ),
            behind=tuple(dict.fromkeys(_prefix(text) for each in bound for text in each.behind(addresses))),
        )

    def _bound(self, kind: str, id_: str, router: Router | None = None, network_id: str = "") -> list[Bound]:
        """Return the associations of a network, router or port whose VPNs are administratively up, by VPN."""
        found = []
        subnets: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
        extra: dict[bytes, list[str]] = {}
        if router is not None:
            within = (self.intent.subnets[id_] for id_ in router.subnet_ids)
            subnets = tuple(ipaddress.ip_network(each.cidr) for each in within if each.network_id == network_id)
            for route in router.routes:
                extra.setdefault(_address(route.nexthop), []).append(route.destination)
        for association in self.intent.referring(kind, id_, "association"):  # type: ignore[arg-type]
            vpn = self.intent.bgpvpns.get(association.bgpvpn_id)
            if vpn is not None and vpn.admin_state_up:
                told = [route.destination for route in router.routes] if router is not None else _told(association)
                found.append(Bound(association, vpn, router, subnets, extra, _beyond(told, vpn)))
        return sorted(found, key=lambda each: each.vpn.id)

    def _bound_network(self, network: Network) -> list[Bound]:
        found = self._bound("network", network.id)
        for router in self.intent.routers_of(network.id):
            if router.admin_state_up:
                found += self._bound("router", router.id, router, network.id)
        return found

    def _bindings(self, port: Port, addresses: tuple[bytes, ...], bound: Sequence[Bound]) -> tuple[Binding, ...]:
        """Return what a port announces into each VPN: several associations with one VPN come to one binding."""
        by_vpn: dict[str, list[Bound]] = {}
        for each in bound:
            if each.association.direction != "from-port":
                by_vpn.setdefault(each.vpn.id, []).append(each)
        return tuple(self._binding(port, addresses, by_vpn[id_]) for id_ in sorted(by_vpn))

    def _binding(self, port: Port, addresses: tuple[bytes, ...], bound: Sequence[Bound]) -> Binding:
        vpn = bound[0].vpn
        announced: dict[bytes, None] = {}
        prefixes: dict[Prefix, int | None] = {}
        leaks: dict[str, Leaked] = {}
        refused: list[Refused] = []
        for each in bound:
            association = each.association
            if association.advertise_fixed_ips and not port.device_owner.startswith("network:"):
                announced.update(dict.fromkeys(address for address in addresses if each.covers(address)))
            wanted = [(route.prefix, route.local_pref) for route in association.routes if route.prefix is not None]
            if association.advertise_extra_routes:
                wanted += [(text, None) for text in each.behind(addresses)]
            for text, local_pref in wanted:
                reason = vpn.refusal(text)
                if text in each.beyond:
                    reason = f"VPN {title(vpn)!r} takes at most {vpn.max_prefixes} of an association"
                if reason:
                    refused.append(Refused(association.id, text, reason))
                    continue
                prefix, value = _prefix(text), vpn.effective_local_pref(local_pref)
                prefixes[prefix] = _higher(prefixes[prefix], value) if prefix in prefixes else value
            for route in association.routes:
                leaked = self.intent.bgpvpns.get(route.bgpvpn_id or "")
                if leaked is not None and leaked.admin_state_up:
                    local_pref = vpn.effective_local_pref(route.local_pref)
                    leaks[leaked.id] = Leaked(leaked.id, targets([leaked], "import"), local_pref)
        return Binding(
            bgpvpn_id=vpn.id,
            addresses=tuple(announced),
            prefixes=tuple(prefixes.items()),
            leaks=tuple(leaks[id_] for id_ in sorted(leaks)),
            refused=tuple(refused),
            sends=any(each.association.direction == "both" for each in bound),
        )

    def _gateways(self, owner: Owner, through: Router | None) -> tuple[Gateway, ...]:
        """Return the gateways of a segment; `through`: only those of this router."""
        found: set[Gateway] = set()
        if owner.network is not None:
            for subnet in self.intent.referring("network", owner.id, "subnet"):
                if subnet.gateway_ip is not None and (through is None or subnet.id in through.subnet_ids):
                    length = ipaddress.ip_network(subnet.cidr).prefixlen
                    found.add(Gateway(ipaddress.ip_address(subnet.gateway_ip).packed, length))
        else:
            port = self.intent.ports[owner.id]
            for text in port.gateway_ips:
                gateway = ipaddress.ip_address(text)
                for address in port.ip_addresses:
                    interface = ipaddress.ip_interface(address)
                    if gateway in interface.network:
                        found.add(Gateway(gateway.packed, interface.network.prefixlen))
        return tuple(sorted(found, key=lambda gateway: (len(gateway.address), gateway.address, gateway.prefix_length)))


def _suffix(extra: set[str]) -> str:
    """Return what ends the name of a segment that sends by these VPNs beside those of its network."""
    return f"+{hashlib.sha256(' '.join(sorted(extra)).encode()).hexdigest()[:8]}" if extra else ""


def _imports(bound: Bound) -> bool:
    """Tell whether a port would send otherwise for an association."""
    vpn = bound.vpn
    return bound.association.direction != "to-port" and bool(vpn.route_targets or vpn.import_targets)


def _told(association: Association) -> list[str]:
    return [route.prefix for route in association.routes if route.prefix is not None]


def _beyond(told: Sequence[str], vpn: Bgpvpn) -> frozenset[str]:
    """Return what of the prefixes of an association a VPN does not take because there are so many."""
    if vpn.max_prefixes is None:
        return frozenset()
    return frozenset(list(dict.fromkeys(text for text in told if not vpn.refusal(text)))[vpn.max_prefixes :])


def _higher(one: int | None, other: int | None) -> int | None:
    """Return the higher of two LOCAL_PREFs; None is what BGP takes where nothing is said."""
    return max(one, other, key=lambda value: DEFAULT_LOCAL_PREF if value is None else value)


@lru_cache(65536)
def _prefix(text: str) -> Prefix:
    return ipaddress.ip_network(text).version, prefix_bytes(text)


@lru_cache(65536)
def _mac(text: str) -> bytes:
    return Mac.parse(text).wire


@lru_cache(65536)
def _address(text: str) -> bytes:
    return ipaddress.ip_interface(text).ip.packed


def _differing(seen: T | None, present: T | None) -> list[T]:
    return [each for each in (seen, present) if each is not None]
