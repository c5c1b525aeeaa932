"""From what users want to segments: which ports of this node are together, and in which VPNs.

A segment is one broadcast domain on this node.  It has one bridge, one VRF if it is in any l3 VPN, and one EVI
if it is in any l2 VPN.  Ports of a network share a segment, named after the network, so that binding
the network to one more VPN changes route targets and nothing else.  A port that is bound to more VPNs than
its network leaves it for a segment of its own kind, named after the network and those VPNs; a port without a
network is a segment by itself.

    effective VPNs of a port = its own associations, and those of its network

A segment exists while it has a VPN and a port that is administratively up.
"""

from __future__ import annotations

import hashlib
import ipaddress
from functools import lru_cache
from typing import TypeVar

import attrs

from bgpvpn.desired import Gateway
from bgpvpn.intent import Association, Bgpvpn, Intent, Port, Subnet
from speaker.table import Table
from speaker.values import Mac, prefix_bytes

T = TypeVar("T")


@attrs.frozen
class Binding:
    """What an endpoint announces into one VPN."""

    bgpvpn_id: str
    fixed_ips: bool
    prefixes: tuple[tuple[int, bytes], ...] = ()  # (4 or 6, prefix), further prefixes behind the port


@attrs.frozen
class Endpoint:
    """A port as its segment sees it."""

    port: str
    segment: str
    interface: str
    netns: str
    mac: bytes
    addresses: tuple[bytes, ...]
    bindings: tuple[Binding, ...]


@attrs.frozen
class Segment:
    """A broadcast domain of this node and the VPNs that it is in."""

    name: str
    owner: str  # network id, or port id for a port by itself
    title: str  # for people
    vpns: tuple[Bgpvpn, ...]  # by id
    gateways: tuple[Gateway, ...]
    mtu: int | None = None

    def of_type(self, kind: str) -> tuple[Bgpvpn, ...]:
        """Return the VPNs of type "l2" or "l3"."""
        return tuple(vpn for vpn in self.vpns if vpn.type == kind)


class Segments:
    """The stage [intent] -> [segments] and [endpoints]; only what a change touches is worked out again."""

    def __init__(self, intent: Intent) -> None:
        self.intent = intent
        self.segments: Table[str, Segment] = Table()
        self.endpoints: Table[str, Endpoint] = Table()
        self._networks = intent.networks.reader()
        self._subnets = intent.subnets.reader()
        self._ports = intent.ports.reader()
        self._associations = intent.associations.reader()
        self._bgpvpns = intent.bgpvpns.reader()
        # Indexes of what the tables hold: owner id -> ids.
        self._ports_of: dict[str, dict[str, None]] = {}
        self._subnets_of: dict[str, dict[str, None]] = {}
        self._bound: dict[str, dict[str, None]] = {}  # network or port id -> association ids
        self._of_vpn: dict[str, dict[str, None]] = {}  # bgpvpn id -> association ids
        self._made: dict[str, tuple[set[str], set[str]]] = {}  # owner -> its segment names, its port ids

    def step(self) -> int:
        """Bring segments and endpoints up to the intent; return how many owners were looked at."""
        owners: dict[str, None] = {}
        for id_ in self._networks.take():
            owners[id_] = None
        for id_, seen_subnet in self._subnets.take().items():
            subnet = self.intent.subnets.get(id_)
            for each in _differing(seen_subnet, subnet):
                _index(self._subnets_of, each.network_id, id_, present=each is subnet)
                owners[each.network_id] = None
        for id_, seen_port in self._ports.take().items():
            port = self.intent.ports.get(id_)
            for every in _differing(seen_port, port):
                owner = every.network_id or every.id
                _index(self._ports_of, owner, id_, present=every is port)
                owners[owner] = None
        for id_, seen_association in self._associations.take().items():
            association = self.intent.associations.get(id_)
            for one in _differing(seen_association, association):
                bound = one.network_id or one.port_id or ""
                _index(self._bound, bound, id_, present=one is association)
                _index(self._of_vpn, one.bgpvpn_id, id_, present=one is association)
                owners[self.owner(one)] = None
        for id_ in self._bgpvpns.take():
            for association_id in self._of_vpn.get(id_, ()):
                owners[self.owner(self.intent.associations[association_id])] = None
        for owner in owners:
            self._work_out(owner)
        return len(owners)

    def of(self, owner: str) -> list[Segment]:
        """Return the segments of a network, or of a port by itself."""
        return [self.segments[name] for name in sorted(self._made.get(owner, (set(), set()))[0])]

    def owner(self, association: Association) -> str:
        """Return whose segments an association is about: a network's, or those of a port by itself."""
        if association.network_id is not None:
            return association.network_id
        port = self.intent.ports.get(association.port_id or "")
        return (port.network_id if port is not None else None) or association.port_id or ""

    def _work_out(self, owner: str) -> None:
        """Write the segments and endpoints of one network, or of one port by itself."""
        segments: dict[str, Segment] = {}
        endpoints: dict[str, Endpoint] = {}
        network = self.intent.networks.get(owner)
        shared = self._vpns_bound(owner) if network is not None else {}
        for port_id in self._ports_of.get(owner, ()):
            port = self.intent.ports[port_id]
            own = self._vpns_bound(port_id)
            vpns = {**shared, **own}
            if not vpns or not port.admin_state_up:
                continue
            extra = sorted(set(own) - set(shared))
            name = owner
            if network is not None and extra:
                name = f"{owner}+{hashlib.sha256(' '.join(extra).encode()).hexdigest()[:8]}"
            if name not in segments:
                segments[name] = Segment(
                    name=name,
                    owner=owner,
                    title=(network.name if network is not None else port.name) or owner,
                    vpns=tuple(vpns[id_] for id_ in sorted(vpns)),
                    gateways=self._gateways(owner, port),
                    mtu=network.mtu if network is not None else None,
                )
            endpoints[port_id] = Endpoint(
                port=port_id,
                segment=name,
                interface=port.interface,
                netns=port.netns,
                mac=_mac(port.mac_address),
                addresses=tuple(map(_address, port.ip_addresses)),
                bindings=self._bindings(owner, port_id, vpns),
            )
        old_segments, old_endpoints = self._made.get(owner, (set(), set()))
        for port_id in old_endpoints - endpoints.keys():
            self.endpoints.discard(port_id)
        for name in old_segments - segments.keys():
            self.segments.discard(name)
        for name, segment in segments.items():
            self.segments.put(name, segment)
        for port_id, endpoint in endpoints.items():
            self.endpoints.put(port_id, endpoint)
        if segments:
            self._made[owner] = (set(segments), set(endpoints))
        else:
            self._made.pop(owner, None)

    def _vpns_bound(self, bound: str) -> dict[str, Bgpvpn]:
        """Return the VPNs that a network or a port is bound to and that are administratively up."""
        found = {}
        for association_id in self._bound.get(bound, ()):
            vpn = self.intent.bgpvpns.get(self.intent.associations[association_id].bgpvpn_id)
            if vpn is not None and vpn.admin_state_up:
                found[vpn.id] = vpn
        return found

    def _bindings(self, owner: str, port_id: str, vpns: dict[str, Bgpvpn]) -> tuple[Binding, ...]:
        fixed: dict[str, bool] = dict.fromkeys(sorted(vpns), False)
        prefixes: dict[str, dict[tuple[int, bytes], None]] = {id_: {} for id_ in fixed}
        for association_id in (*self._bound.get(owner, ()), *self._bound.get(port_id, ())):
            association = self.intent.associations[association_id]
            if association.bgpvpn_id not in fixed:
                continue
            fixed[association.bgpvpn_id] |= association.advertise_fixed_ips
            for text in (route.prefix for route in association.routes if route.prefix is not None):
                version = ipaddress.ip_network(text).version
                prefixes[association.bgpvpn_id][(version, prefix_bytes(text))] = None
        return tuple(Binding(id_, fixed[id_], tuple(prefixes[id_])) for id_ in fixed)

    def _gateways(self, owner: str, port: Port) -> tuple[Gateway, ...]:
        found: set[Gateway] = set()
        if port.network_id is not None:
            for subnet_id in self._subnets_of.get(owner, ()):
                subnet: Subnet = self.intent.subnets[subnet_id]
                if subnet.gateway_ip is not None:
                    length = ipaddress.ip_network(subnet.cidr).prefixlen
                    found.add(Gateway(ipaddress.ip_address(subnet.gateway_ip).packed, length))
        else:
            for text in port.gateway_ips:
                gateway = ipaddress.ip_address(text)
                for address in port.ip_addresses:
                    interface = ipaddress.ip_interface(address)
                    if gateway in interface.network:
                        found.add(Gateway(gateway.packed, interface.network.prefixlen))
        return tuple(sorted(found, key=lambda gateway: (len(gateway.address), gateway.address, gateway.prefix_length)))


@lru_cache(65536)
def _mac(text: str) -> bytes:
    return Mac.parse(text).wire


@lru_cache(65536)
def _address(text: str) -> bytes:
    return ipaddress.ip_interface(text).ip.packed


def _differing(seen: T | None, present: T | None) -> list[T]:
    return [each for each in (seen, present) if each is not None]


def _index(index: dict[str, dict[str, None]], of: str, id_: str, present: bool) -> None:
    if present:
        index.setdefault(of, {})[id_] = None
    elif id_ in index.get(of, {}):
        del index[of][id_]
        if not index[of]:
            del index[of]
