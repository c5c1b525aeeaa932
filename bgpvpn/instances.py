"""The stage [segments], [endpoints] -> VRFs and EVIs, their objects in [desired], their routes in [originated].

Only the segments that changed are worked out again; what a segment has made is remembered by key, so that what it no
longer makes is taken back.  A segment that cannot have a number that it needs stays as it was, and is tried again.

A port that forwards is more than one that is wanted: only then its MAC has appeared on this node, and of several ports
that share a prefix only those carry it.  So a change of their status is a change here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from bgpvpn.allocate import AllocationError, Leases
from bgpvpn.desired import Attachment, Bridge, Desired, Object, ObjectKey, Status, Vrf, Vxlan
from bgpvpn.evpn import Evi
from bgpvpn.instance import Importing, Instance, NodeIdentity, Originated, OriginatedTable, Vias, targets
from bgpvpn.ipvpn import Announcement, ExportGroup, Ipvpn, announce, export_groups
from bgpvpn.segment import Endpoint, Segment
from speaker.path import Path
from speaker.rib import Interest, Rib
from speaker.table import Table
from speaker.values import Family, RouteDistinguisher
from speaker.wire.attribute import Interner

K = TypeVar("K")
V = TypeVar("V")

Lease = Callable[[str, str], int]
"""(pool, purpose) -> number, for one segment at one time of day."""

RETRY_S = 10.0
"""How long a segment without a number waits for its next trial, if nothing changes meanwhile."""


class Shares(Generic[K, V]):
    """The rows of a table by the segments that want them; of two that want one row, the lower name's counts."""

    def __init__(self, table: Table[K, V]) -> None:
        self.table = table
        self._of_segment: dict[str, dict[K, V]] = {}
        self._of_row: dict[K, dict[str, V]] = {}

    def set(self, segment: str, rows: dict[K, V]) -> None:
        """Say all rows that a segment wants now."""
        seen = self._of_segment.pop(segment, {})
        if rows:
            self._of_segment[segment] = rows
        for key in seen:
            if key not in rows:
                del self._of_row[key][segment]
                self._write(key)
        for key, value in rows.items():
            self._of_row.setdefault(key, {})[segment] = value
            self._write(key)

    def values(self) -> Iterator[V]:
        """Yield all that is wanted, with what stands behind another's."""
        for wanted in self._of_row.values():
            yield from wanted.values()

    def _write(self, key: K) -> None:
        wanted = self._of_row[key]
        if wanted:
            self.table.put(key, wanted[min(wanted)])
        else:
            del self._of_row[key]
            self.table.discard(key)


class Instances:
    """All VRFs and EVIs of the node, by segment name."""

    def __init__(
        self,
        segments: Table[str, Segment],
        endpoints: Table[str, Endpoint],
        status: Table[ObjectKey, Status],
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
        self.failed: dict[str, str] = {}  # segment -> why it is not built as it should be
        self._segments = segments.reader()
        self._endpoints = endpoints.reader()
        self._status = status.reader()
        self._objects: Shares[ObjectKey, Object] = Shares(desired.objects)
        self._routes: Shares[tuple[Family, bytes], Originated] = Shares(originated)
        self._members: dict[str, dict[str, None]] = {}  # segment -> ports
        self._neighbours: dict[str, set[bytes]] = {}
        self._leased: dict[str, set[tuple[str, str]]] = {}
        self._retry_at = 0.0
        self._started = False

    def __iter__(self) -> Iterator[Instance]:
        yield from self.vrfs.values()
        yield from self.evis.values()

    def paths(self) -> Iterator[Path]:
        """Yield the paths of all routes that segments say, or would say if another did not say the same."""
        for said in (self.originated.rows.values(), self._routes.values()):
            yield from (originated.path for originated in said)

    def step(self, wall: float) -> int:
        """Bring instances up to the segments; `wall` is the time of day in seconds, for leases."""
        names = self._dirty()
        if self.failed and (names or wall >= self._retry_at):
            self._retry_at = wall + RETRY_S
            names.update(dict.fromkeys(self.failed))
        version = self.interest.version
        changed: list[Instance] = []
        # What fails is tried once more after the others: they may have given back what it needs.
        late = [name for name in names if not self._build(name, wall, changed)]
        for name in late:
            self._build(name, wall, changed)
        if self.interest.version != version:
            self.importing.rebuild(changed)
        if names and not self._started:
            self._started = True
            self.leases.keep(frozenset().union(*self._leased.values()), wall)  # what is left of an earlier life
        return len(names)

    def _dirty(self) -> dict[str, None]:
        """Return the names of the segments that are to be worked out again."""
        names = dict.fromkeys(self._segments.take())
        for port, seen in self._endpoints.take().items():
            present = self.endpoints.get(port)
            if seen is not None:
                self._members.get(seen.segment, {}).pop(port, None)
                names[seen.segment] = None
            if present is not None:
                self._members.setdefault(present.segment, {})[port] = None
                names[present.segment] = None
        for kind, port in self._status.take():
            endpoint = self.endpoints.get(port) if kind == "attachment" else None
            if endpoint is None:
                continue
            if endpoint.segment in self.evis or any(binding.prefixes for binding in endpoint.bindings):
                names[endpoint.segment] = None
        return names

    def _build(self, name: str, wall: float, changed: list[Instance]) -> bool:
        """Make a segment what it shall be, as far as there are numbers; False if it lacks one."""
        segment = self.segments.get(name)
        held: set[tuple[str, str]] = set()

        def lease(pool: str, purpose: str) -> int:
            number = self.leases.lease(pool, purpose, wall)
            held.add((pool, purpose))
            return number

        try:
            if segment is None:
                self._remove(name)
            else:
                changed += self._work_out(segment, lease)
        except AllocationError as error:
            self.failed[name] = str(error)
            self._leased.setdefault(name, set()).update(held)
            return False
        self.failed.pop(name, None)
        for pool, purpose in sorted(self._leased.pop(name, set()) - held):
            self.leases.release(pool, purpose, wall)
        if held:
            self._leased[name] = held
        return True

    def _work_out(self, segment: Segment, lease: Lease) -> list[Instance]:
        """Make a segment what it shall be; return the instances whose import targets changed."""
        name = segment.name
        endpoints = [self.endpoints[port] for port in sorted(self._members.get(name, ()))]
        layer2, layer3 = segment.of_type("l2"), segment.of_type("l3")
        changed: list[Instance] = []

        # All numbers first: without one of them the segment stays as it was.
        number = lease("bridge", name)
        said = Announcement({}, {}, {})
        wanted: list[Object] = []
        if layer3:
            vrf = Vrf(name, lease("table", name), lease("label", name))
            wanted.append(vrf)
            said = self._announcement(segment, endpoints, vrf, lease)
        if layer2:
            vni = self._vni(segment, lease)
            rd = self._automatic_rd(f"evi {name}", lease)
            wanted.append(Vxlan(vni, name, self.identity.tunnel, self.identity.vxlan_port))
        wanted.append(
            Bridge(
                name=name,
                number=number,
                vrf=name if layer3 else None,
                gateways=segment.gateways if layer3 else (),
                gateway_mac=self.identity.gateway_mac if layer3 else None,
                mtu=segment.mtu,
            )
        )
        wanted += [Attachment(each.port, each.interface, each.netns, name) for each in endpoints]

        if layer3:
            ipvpn = self.vrfs.get(name)
            if ipvpn is None:
                ipvpn = self.vrfs[name] = Ipvpn(
                    name, vrf.table, self.rib, self.interest, self.desired, self.vias, self.usable
                )
            ipvpn.set_statics(said.statics)
            if self.interest.set(ipvpn, targets(layer3, "import")):
                changed.append(ipvpn)
        else:
            self._remove_vrf(name)

        evi = self.evis.get(name)
        if evi is not None and (not layer2 or evi.vni != vni):
            self._remove_evi(name)
            evi = None
        if layer2:
            if evi is None:
                evi = self.evis[name] = Evi(
                    name=name,
                    vni=vni,
                    rd=rd,
                    rib=self.rib,
                    interest=self.interest,
                    desired=self.desired,
                    originated=self.originated,
                    identity=self.identity,
                    interner=self.interner,
                    vias=self.vias,
                    usable=self.usable,
                )
            evi.set_local(targets(layer2, "export"), [each for each in endpoints if self._forwards(each.port)])
            if self.interest.set(evi, targets(layer2, "import")):
                changed.append(evi)

        self._objects.set(name, {**{thing.key: thing for thing in wanted}, **said.labels})
        self._routes.set(name, said.originated)
        self._know(name, endpoints, evi)
        return changed

    def _announcement(self, segment: Segment, endpoints: list[Endpoint], vrf: Vrf, lease: Lease) -> Announcement:
        name = segment.name
        assert vrf.label is not None
        return announce(
            segment=name,
            groups=export_groups(segment.of_type("l3"), self.identity.router_id),
            endpoints=endpoints,
            connected=_covers(segment),
            active=self._forwards,
            identity=self.identity,
            vrf_label=vrf.label,
            distinguisher=lambda group: self._distinguisher(name, group, lease),
            port_label=lambda port, address: lease("label", f"{name} {port} {address.hex()}"),
            interner=self.interner,
            vias=self.vias,
        )

    def _forwards(self, port: str) -> bool:
        status = self._status.table.get(("attachment", port))
        return status is not None and status.state == "active"

    def _vni(self, segment: Segment, lease: Lease) -> int:
        """Return the VNI that a VPN of the segment asks for, else a leased one."""
        name = segment.name
        vni = next((vpn.vni for vpn in segment.of_type("l2") if vpn.vni is not None), None)
        if vni is None:
            vni = lease("vni", name)
        else:
            self.leases.reserve("vni", [vni])
        for evi in self.evis.values():
            if evi.vni == vni and evi.name != name:
                raise AllocationError(f"VNI {vni} is wanted by segment {name}, but segment {evi.name} has it")
        return vni

    def _know(self, name: str, endpoints: list[Endpoint], evi: Evi | None) -> None:
        """Write the neighbours of a segment without an EVI, which else sees to them."""
        told = endpoints if evi is None else evi.endpoints.values()
        known = {address: endpoint.mac for endpoint in told for address in endpoint.addresses}
        for address in self._neighbours.pop(name, set()) - known.keys():
            self.desired.neighbours.discard((name, address))
        if evi is None and known:
            for address, mac in known.items():
                self.desired.neighbours.put((name, address), mac)
            self._neighbours[name] = set(known)

    def _remove(self, name: str) -> None:
        self._remove_vrf(name)
        self._remove_evi(name)
        self._objects.set(name, {})
        self._routes.set(name, {})
        self._know(name, [], None)
        self._members.pop(name, None)

    def _remove_vrf(self, name: str) -> None:
        vrf = self.vrfs.pop(name, None)
        if vrf is not None:
            self.interest.set(vrf, frozenset())
            for table in vrf.routes.values():
                table.discard_all(list(table.rows))

    def _remove_evi(self, name: str) -> None:
        evi = self.evis.pop(name, None)
        if evi is not None:
            self.interest.set(evi, frozenset())
            evi.close()

    def _distinguisher(self, name: str, group: ExportGroup, lease: Lease) -> RouteDistinguisher:
        return group.route_distinguisher or self._automatic_rd(f"vrf {name} {group.name}", lease)

    def _automatic_rd(self, purpose: str, lease: Lease) -> RouteDistinguisher:
        """Return a route distinguisher of type 1: router id and a leased index (RFC 4364 section 4.2)."""
        index = lease("rd", purpose)
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
