"""The stage [segments], [endpoints] -> VRFs and EVIs, their objects in [desired], their routes in [originated].

Only the segments that changed are worked out again; what a segment has made is remembered by key, so that what it no
longer makes is taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bgpvpn.allocate import Leases
from bgpvpn.desired import Attachment, Bridge, Desired, Object, ObjectKey, Vrf, Vxlan
from bgpvpn.evpn import Evi
from bgpvpn.instance import Importing, Instance, NodeIdentity, Originated, OriginatedTable, Vias, targets
from bgpvpn.ipvpn import ExportGroup, Ipvpn, announce, export_groups
from bgpvpn.segment import Endpoint, Segment
from speaker.rib import Interest, Rib
from speaker.table import Table
from speaker.values import Family, RouteDistinguisher
from speaker.wire.attribute import Interner


class Instances:
    """All VRFs and EVIs of the node, by segment name."""

    def __init__(
        self,
        segments: Table[str, Segment],
        endpoints: Table[str, Endpoint],
        leases: Leases,
        rib: Rib,
        interest: Interest,
        importing: Importing,
        desired: Desired,
        originated: OriginatedTable,
        identity: NodeIdentity,
        interner: Interner,
        vias: Vias,
        usable: Callable[[bytes], str],
    ) -> None:
        self.segments = segments
        self.endpoints = endpoints
        self.leases = leases
        self.rib = rib
        self.interest = interest
        self.importing = importing
        self.desired = desired
        self.originated = originated
        self.identity = identity
        self.interner = interner
        self.vias = vias
        self.usable = usable
        self.vrfs: dict[str, Ipvpn] = {}
        self.evis: dict[str, Evi] = {}
        self._segments = segments.reader()
        self._endpoints = endpoints.reader()
        self._members: dict[str, dict[str, None]] = {}  # segment -> ports
        self._objects: dict[str, set[ObjectKey]] = {}  # segment -> what it made
        self._routes: dict[str, set[tuple[Family, bytes]]] = {}
        self._neighbours: dict[str, set[bytes]] = {}

    def __iter__(self) -> Iterator[Instance]:
        yield from self.vrfs.values()
        yield from self.evis.values()

    def step(self, wall: float) -> int:
        """Bring instances up to the segments; `wall` is the time of day, for leases."""
        names = dict.fromkeys(self._segments.take())
        for port, seen in self._endpoints.take().items():
            present = self.endpoints.get(port)
            if seen is not None:
                self._members.get(seen.segment, {}).pop(port, None)
                names[seen.segment] = None
            if present is not None:
                self._members.setdefault(present.segment, {})[port] = None
                names[present.segment] = None
        version = self.interest.version
        changed: list[Instance] = []
        for name in names:
            segment = self.segments.get(name)
            if segment is None:
                self._remove(name, wall)
            else:
                changed += self._work_out(segment, wall)
        if self.interest.version != version:
            self.importing.rebuild(changed)
        return len(names)

    def _work_out(self, segment: Segment, wall: float) -> list[Instance]:
        """Make a segment what it shall be; return the instances whose import targets changed."""
        name = segment.name
        endpoints = [self.endpoints[port] for port in self._members.get(name, ())]
        layer2, layer3 = segment.of_type("l2"), segment.of_type("l3")
        changed: list[Instance] = []
        objects: dict[ObjectKey, Object] = {}

        def add(thing: Object) -> None:
            objects[thing.key] = thing

        add(
            Bridge(
                name=name,
                number=self.leases.lease("bridge", name, wall),
                vrf=name if layer3 else None,
                gateways=segment.gateways if layer3 else (),
                gateway_mac=self.identity.gateway_mac if layer3 else None,
                mtu=segment.mtu,
            )
        )
        for endpoint in endpoints:
            add(Attachment(endpoint.port, endpoint.interface, endpoint.netns, name))

        routes: dict[tuple[Family, bytes], Originated] = {}
        if layer3:
            label = self.leases.lease("label", name, wall)
            vrf = self.vrfs.get(name)
            if vrf is None:
                table = self.leases.lease("table", name, wall)
                vrf = self.vrfs[name] = Ipvpn(
                    name, table, self.rib, self.interest, self.desired, self.vias, self.usable
                )
            add(Vrf(name, vrf.table, label))
            said = announce(
                segment=name,
                groups=export_groups(layer3, self.identity.router_id),
                endpoints=endpoints,
                connected=_covers(segment),
                identity=self.identity,
                vrf_label=label,
                distinguisher=lambda group: self._distinguisher(name, group, wall),
                port_label=lambda port, address: self.leases.lease("label", f"{port} {address.hex()}", wall),
                interner=self.interner,
                vias=self.vias,
            )
            routes = said.originated
            objects.update(said.labels)
            vrf.set_statics(said.statics)
            if self.interest.set(vrf, targets(layer3, "import")):
                changed.append(vrf)
        else:
            self._remove_vrf(name, wall)

        if layer2:
            vni = next((vpn.vni for vpn in layer2 if vpn.vni is not None), None)
            if vni is None:
                vni = self.leases.lease("vni", name, wall)
            evi = self.evis.get(name)
            if evi is not None and evi.vni != vni:
                self._remove_evi(name, wall)
                evi = None
            if evi is None:
                evi = self.evis[name] = Evi(
                    name=name,
                    vni=vni,
                    rd=self._automatic_rd(f"evi {name}", wall),
                    rib=self.rib,
                    interest=self.interest,
                    desired=self.desired,
                    originated=self.originated,
                    identity=self.identity,
                    interner=self.interner,
                    vias=self.vias,
                )
            add(Vxlan(vni, name, self.identity.tunnel, self.identity.vxlan_port))
            evi.set_local(targets(layer2, "export"), endpoints)
            if self.interest.set(evi, targets(layer2, "import")):
                changed.append(evi)
        else:
            self._remove_evi(name, wall)

        self._say(name, objects, routes)
        known = {} if layer2 else {ip: endpoint.mac for endpoint in endpoints for ip in endpoint.addresses}
        self._know(name, known, keep=bool(layer2))
        return changed

    def _say(self, name: str, objects: dict[ObjectKey, Object], routes: dict[tuple[Family, bytes], Originated]) -> None:
        """Write what a segment made, and take back what it made before and does not make any more."""
        for key in self._objects.get(name, set()) - objects.keys():
            self.desired.objects.discard(key)
        for object_key, thing in objects.items():
            self.desired.objects.put(object_key, thing)
        for at in self._routes.get(name, set()) - routes.keys():
            self.originated.discard(at)
        for at, originated in routes.items():
            self.originated.put(at, originated)
        self._objects[name], self._routes[name] = set(objects), set(routes)

    def _know(self, name: str, known: dict[bytes, bytes], keep: bool) -> None:
        """Write the neighbours of a segment without an EVI, which else would see to them."""
        if not keep:
            for address in self._neighbours.get(name, set()) - known.keys():
                self.desired.neighbours.discard((name, address))
        for address, mac in known.items():
            self.desired.neighbours.put((name, address), mac)
        self._neighbours[name] = set(known)

    def _remove(self, name: str, wall: float) -> None:
        self._remove_vrf(name, wall)
        self._remove_evi(name, wall)
        self._say(name, {}, {})
        self._know(name, {}, keep=False)
        self.leases.release("bridge", name, wall)
        for index in (self._objects, self._routes, self._neighbours, self._members):
            index.pop(name, None)

    def _remove_vrf(self, name: str, wall: float) -> None:
        vrf = self.vrfs.pop(name, None)
        if vrf is None:
            return
        self.interest.set(vrf, frozenset())
        for table in vrf.routes.values():
            table.discard_all(list(table.rows))
        for pool, purpose in list(self.leases.table.rows):
            if (pool, purpose) in (("label", name), ("table", name)) or (
                pool == "rd" and purpose.startswith(f"vrf {name} ")
            ):
                self.leases.release(pool, purpose, wall)

    def _remove_evi(self, name: str, wall: float) -> None:
        evi = self.evis.pop(name, None)
        if evi is None:
            return
        self.interest.set(evi, frozenset())
        evi.close()
        self.leases.release("vni", name, wall)
        self.leases.release("rd", f"evi {name}", wall)

    def _distinguisher(self, name: str, group: ExportGroup, wall: float) -> RouteDistinguisher:
        return group.route_distinguisher or self._automatic_rd(f"vrf {name} {group.name}", wall)

    def _automatic_rd(self, purpose: str, wall: float) -> RouteDistinguisher:
        """Return a route distinguisher of type 1: router id and a leased index (RFC 4364 section 4.2)."""
        index = self.leases.lease("rd", purpose, wall)
        return RouteDistinguisher(b"\x00\x01" + self.identity.router_id + index.to_bytes(2, "big"))


def _covers(segment: Segment) -> Callable[[bytes], bool]:
    """Return a test whether a subnet of a segment's gateways covers an address."""

    def covered(address: bytes) -> bool:
        number, bits = int.from_bytes(address, "big"), len(address) * 8
        return any(
            len(gateway.address) == len(address)
            and (number ^ int.from_bytes(gateway.address, "big")) >> (bits - gateway.prefix_length) == 0
            for gateway in segment.gateways
        )

    return covered
