"""The pure middle of a node with its three doors in hand: wishes and heard routes go in, tables are looked at."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from bgpvpn.allocate import Leases
from bgpvpn.announcer import label_field
from bgpvpn.desired import Desired, NextHop, ObjectKey, Status
from bgpvpn.evpn import NO_ESI, mac_key, multicast_key
from bgpvpn.instance import AFI_OF, FAMILY_OF, NodeIdentity
from bgpvpn.intent import (
    Association,
    Bgpvpn,
    Intent,
    Kind,
    Network,
    Object,
    Port,
    Removal,
    Router,
    StoredLease,
    Subnet,
)
from bgpvpn.node import Node, NodeSettings
from speaker.decision import LOCAL
from speaker.path import Attributes, Path
from speaker.table import Table
from speaker.values import Family, Mac, RouteDistinguisher, RouteTarget, key_text, prefix_bytes, prefix_text
from speaker.wire.attribute import Interner, make

SELF = ipaddress.ip_address("10.0.0.1").packed
RANGES = {
    "label": range(16000, 17000),
    "vni": range(8000000, 8001000),
    "rd": range(1, 1000),
    "table": range(100000, 101000),
    "bridge": range(1, 1000),
}


def packed(address: str) -> bytes:
    """Return an address as octets."""
    return ipaddress.ip_address(address).packed


def vpn_key(rd: str, prefix: str) -> tuple[Family, bytes]:
    """Return the family and NLRI key of a VPNv4 or VPNv6 route."""
    family = FAMILY_OF[ipaddress.ip_network(prefix).version]
    return family, RouteDistinguisher.parse(rd).wire + prefix_bytes(prefix)


def mac_route(rd: str, mac: str, address: str = "") -> bytes:
    """Return the NLRI key of an EVPN route of type 2."""
    return mac_key(RouteDistinguisher.parse(rd).wire, Mac.parse(mac).wire, packed(address) if address else b"")


def flood_route(rd: str, vtep: str) -> bytes:
    """Return the NLRI key of an EVPN route of type 3."""
    return multicast_key(RouteDistinguisher.parse(rd).wire, packed(vtep))


class Middle:
    """A Node that is stepped by hand; objects become active when `settle` is told so, as it is usually."""

    def __init__(
        self,
        leases: Iterable[StoredLease] = (),
        identity: NodeIdentity = NodeIdentity(SELF, SELF),  # noqa: B008  frozen
        underlay: Iterable[str] = (),
        ranges: dict[str, range] | None = None,
        hold_s: float = 600.0,
        host: str = "",
    ) -> None:
        self.intent = Intent()
        self.leases = Leases(ranges or RANGES, hold_s)
        self.leases.load(leases)
        self.status: Table[ObjectKey, Status] = Table()
        self.desired = Desired()
        self.interner = Interner()
        prefixes = [ipaddress.ip_network(text) for text in underlay]
        settings = NodeSettings(
            identity, 64512, tuple((each.network_address.packed, each.prefixlen) for each in prefixes), host
        )
        self.node = Node(settings, self.intent, self.leases, self.status, self.desired, self.interner)
        self.down: set[ObjectKey] = set()  # objects that do not become active
        self.now = 0.0
        self.wall = 1000.0

    # In

    def want(self, *wishes: Object | Removal) -> None:
        """Do what users wish."""
        self.intent.apply(self.intent.plan(wishes, self.wall))

    def drop(self, kind: Kind, id_: str) -> None:
        """Remove what a user made."""
        self.want(Removal(kind, id_))

    def attributes(
        self, next_hop: str, targets: Iterable[str], further: Iterable[bytes] = (), **more: Any
    ) -> Attributes:
        """Return the attributes of a route with these route targets."""
        communities = (*(RouteTarget.parse(text).wire for text in targets), *further)
        return make(self.interner, next_hop=packed(next_hop), ext_communities=communities, **more)

    def hear(
        self,
        prefix: str,
        *targets: str,
        rd: str = "64512:9",
        pe: str = "192.0.2.9",
        label: int = 900,
        source: str = "peer-1",
        **more: Any,
    ) -> None:
        """A peer announces a VPNv4 or VPNv6 route."""
        family, key = vpn_key(rd, prefix)
        path = self.attributes(pe, targets, **more).path(label_field(label))
        self.node.rib.table(family, source).put(key, path)

    def lose(self, prefix: str, rd: str = "64512:9", source: str = "peer-1") -> None:
        """A peer withdraws a VPNv4 or VPNv6 route."""
        family, key = vpn_key(rd, prefix)
        self.node.rib.table(family, source).discard(key)

    def hear_mac(
        self,
        mac: str,
        *targets: str,
        address: str = "",
        rd: str = "64512:9",
        vtep: str = "192.0.2.9",
        vni: int = 77,
        source: str = "peer-1",
        **more: Any,
    ) -> None:
        """A peer announces a MAC, or a MAC with an address."""
        path = self.attributes(vtep, targets, **more).path(NO_ESI + vni.to_bytes(3, "big"))
        self.evpn(source).put(mac_route(rd, mac, address), path)

    def hear_flood(
        self,
        vtep: str,
        *targets: str,
        rd: str = "64512:9",
        vni: int = 77,
        kind: int = 6,
        tunnel: str | None = None,
        source: str = "peer-1",
    ) -> None:
        """A peer announces where broadcast frames go."""
        pmsi = (0, kind, vni.to_bytes(3, "big"), packed(tunnel or vtep))
        self.evpn(source).put(flood_route(rd, vtep), self.attributes(vtep, targets, pmsi=pmsi).path(b""))

    def evpn(self, source: str = "peer-1") -> Table[bytes, Path]:
        """Return what a peer told of EVPN."""
        return self.node.rib.table(Family.EVPN, source)

    def settle(self, most: int = 2000) -> None:
        """Step until nothing is to be done; objects are made meanwhile, but for those that are `down`."""
        for _ in range(10_000):
            if not (self.node.step(self.now, self.wall, most) or self._make_objects()):
                return
        raise AssertionError("the node never comes to rest")

    def _make_objects(self) -> int:
        """Be the reconciler; return how many statuses changed."""
        changed = 0
        for key in [key for key in self.status if key not in self.desired.objects]:
            changed += self.status.discard(key)
        for key in self.desired.objects:
            state = Status("pending", "it is down") if key in self.down else Status("active")
            changed += self.status.put(key, state)
        return changed

    def fail(self, *keys: ObjectKey) -> None:
        """Objects stop to forward."""
        self.down.update(keys)
        self.settle()

    def repair(self, *keys: ObjectKey) -> None:
        """Objects forward again."""
        self.down.difference_update(keys)
        self.settle()

    # Out

    def said(self) -> dict[str, tuple[set[str], int | None]]:
        """Return our own announced routes with their route targets and LOCAL_PREF."""
        return {
            nlri: ({str(RouteTarget(each)) for each in path.attributes.route_targets}, path.attributes.local_pref)
            for nlri, path in self.told().items()
        }

    def routes(self, segment: str) -> dict[str, tuple[tuple[NextHop, ...], ...]]:
        """Return the routes of a segment's VRF: prefix -> tiers of next hops."""
        found = {}
        for family, table in self.node.instances.vrfs[segment].routes.items():
            for prefix, via in table.rows.items():
                text = prefix_text(prefix, AFI_OF[family])
                assert prefix == prefix_bytes(text), "a prefix has one form"
                found[text] = via.tiers
        return found

    def told(self, *families: Family) -> dict[str, Path]:
        """Return our own announced routes by their text."""
        found = {}
        for family in families or (Family.VPNV4, Family.VPNV6, Family.EVPN):
            for key, path in self.node.rib.table(family, LOCAL).rows.items():
                text = key_text(family, key)
                assert family not in AFI_OF or (family, key) == vpn_key(*text.split()), "an NLRI has one form"
                found[text] = path
        return found

    def kept(self) -> list[StoredLease]:
        """Return the leases as the store keeps them."""
        return [(*key, lease.number, lease.released_at) for key, lease in self.leases.table.rows.items()]

    def held(self) -> dict[tuple[str, str], int]:
        """Return the leases that are in use."""
        return {key: lease.number for key, lease in self.leases.table.rows.items() if lease.released_at is None}


def network(id_: str, cidr: str = "10.1.0.0/24", gateway: str | None = "10.1.0.1", **more: Any) -> list[Object]:
    """Return a network and its subnet."""
    return [Network(id=id_, **more), Subnet(id=f"{id_}-s", network_id=id_, cidr=cidr, gateway_ip=gateway)]


def port(id_: str, of: str | None, *addresses: str, **more: Any) -> Port:
    """Return a port; its MAC follows from its id."""
    number = int.from_bytes(id_.encode()[-2:], "big")
    fields: dict[str, Any] = {
        "id": id_,
        "network_id": of,
        "interface": f"tap-{id_}",
        "mac_address": f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}",
        "ip_addresses": addresses,
    }
    return Port(**{**fields, **more})


def vpn(id_: str, *targets: str, **more: Any) -> Bgpvpn:
    """Return a VPN that imports and exports route targets."""
    return Bgpvpn(id=id_, route_targets=targets, **more)


def bind(vpn_id: str, of: str, **more: Any) -> Association:
    """Return the association of a network with a VPN."""
    return Association(id=f"{vpn_id}-{of}", bgpvpn_id=vpn_id, network_id=of, **more)


def bind_port(vpn_id: str, of: str, *prefixes: str, **more: Any) -> Association:
    """Return the association of a port with a VPN, with prefixes behind the port."""
    routes = tuple({"type": "prefix", "prefix": prefix} for prefix in prefixes)
    return Association(id=f"{vpn_id}-{of}", bgpvpn_id=vpn_id, port_id=of, routes=routes, **more)


def router(id_: str, *networks: str, routes: dict[str, str] | None = None, **more: Any) -> Router:
    """Return a router on the subnets that `network` made for these networks; `routes`: destination -> next hop."""
    extra = [{"destination": destination, "nexthop": hop} for destination, hop in (routes or {}).items()]
    return Router(id=id_, subnet_ids=[f"{each}-s" for each in networks], routes=extra, **more)


def bind_router(vpn_id: str, of: str, **more: Any) -> Association:
    """Return the association of a router with a VPN."""
    return Association(id=f"{vpn_id}-{of}", bgpvpn_id=vpn_id, router_id=of, **more)


def bind_leak(vpn_id: str, of: str, *leaked: str, local_pref: int | None = None, **more: Any) -> Association:
    """Return the association of a port with a VPN into which it announces the routes of others."""
    routes = [{"type": "bgpvpn", "bgpvpn_id": each, "local_pref": local_pref} for each in leaked]
    return Association(id=f"{vpn_id}-{of}", bgpvpn_id=vpn_id, port_id=of, routes=routes, **more)


def retold(path: Path, to: Middle) -> Path:
    """Return a path as another node holds it; attributes know who imports them."""
    told = path.attributes
    return make(
        to.interner,
        next_hop=told.next_hop,
        local_pref=told.local_pref,
        ext_communities=told.ext_communities,
        pmsi=told.pmsi,
    ).path(path.extra)


def exchange(*nodes: Middle) -> None:
    """Let nodes tell each other what they announce until nobody has anything new to say."""
    for _ in range(20):
        for each in nodes:
            each.settle()
        before = [each.told() for each in nodes]
        for teller in nodes:
            source = ipaddress.ip_address(teller.node.settings.identity.tunnel).exploded
            for hearer in nodes:
                for family in (Family.VPNV4, Family.VPNV6, Family.EVPN) if hearer is not teller else ():
                    rows = teller.node.rib.table(family, LOCAL).rows
                    hearer.node.rib.table(family, source).sync({key: retold(rows[key], hearer) for key in rows})
        for each in nodes:
            each.settle()
        if [each.told() for each in nodes] == before:
            return
    raise AssertionError("the nodes never agree")
