"""The stage [segments], [endpoints] -> VRFs and EVIs, their objects in [desired], their routes in [originated].

A segment, a VRF and a port are units, each worked out as a whole when it changed: a port with plain addresses is no
matter of its VRF and its segment, so that one port more costs the same however many there are.  What a unit has made is
remembered by key, so that what it no longer makes is taken back.  One that cannot have a number that it needs stays as
it was, and is tried again.

A port that forwards is more than one that is wanted: only then its MAC has appeared on this node, and of several ports
that share a prefix only those carry it.  So a change of their status is a change here.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from bgpvpn.allocate import AllocationError, Leases
from bgpvpn.announcer import FALLBACK_ADDRESSES, Announcement, Announcer, ExportGroup, address_of
from bgpvpn.desired import (
    Attachment,
    Bridge,
    Desired,
    LabelRoute,
    Object,
    ObjectKey,
    OnBridge,
    Status,
    Via,
    Vrf,
    Vxlan,
)
from bgpvpn.evpn import Evi
from bgpvpn.instance import AFI_OF, Importing, Instance, NodeIdentity, Originated, OriginatedTable, Vias, targets
from bgpvpn.ipvpn import Ipvpn
from bgpvpn.leak import Into, Leak, Way
from bgpvpn.prefixes import Prefixes, overlay
from bgpvpn.segment import Binding, Endpoint, Leaked, Segment
from speaker.path import Path
from speaker.rib import Interest, Rib
from speaker.table import Table
from speaker.values import Family, RouteDistinguisher
from speaker.wire.attribute import Interner

K = TypeVar("K")
V = TypeVar("V")

Lease = Callable[[str, str], int]
"""(pool, purpose) -> number, for one unit at one time of day."""

Unit = tuple[str, str]
"""What is worked out as a whole: ("segment", name), ("vrf", name) or ("port", id)."""

RETRY_S = 10.0
"""How long a unit without a number waits for its next trial, if nothing changes meanwhile."""


class Shares(Generic[K, V]):
    """The rows of a table by the units that want them; of two that want one row, the lower name's counts."""

    def __init__(self, table: Table[K, V]) -> None:
        self.table = table
        self._of_unit: dict[Unit, Mapping[K, V]] = {}
        self._of_row: dict[K, dict[Unit, V]] = {}

    def set(self, unit: Unit, rows: Mapping[K, V], *, left: Container[K] = ()) -> None:
        """Say all rows that a unit wants now; others take care of those that are `left`."""
        seen = self._of_unit.pop(unit, {})
        if rows:
            self._of_unit[unit] = rows
        for key in seen:
            if key not in rows:
                del self._of_row[key][unit]
                self._write(key, key in left)
        for key, value in rows.items():
            self._of_row.setdefault(key, {})[unit] = value
            self._write(key)

    def values(self) -> Iterator[V]:
        """Yield all that is wanted, with what stands behind another's."""
        for wanted in self._of_row.values():
            yield from wanted.values()

    def _write(self, key: K, is_left: bool = False) -> None:
        wanted = self._of_row[key]
        if wanted:
            self.table.put(key, wanted[min(wanted)])
        else:
            del self._of_row[key]
            if not is_left:
                self.table.discard(key)


class Instances:
    """All VRFs of the node by their names, all EVIs by their segments, all leaks."""

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
        self.prefixes: dict[str, Prefixes] = {}  # the EVPN halves of VRFs, by their names
        self.evis: dict[str, Evi] = {}
        self.leaks: dict[str, dict[str, Leak]] = {}  # by VRF
        self.failed: dict[Unit, str] = {}  # why it is not built as it should be
        self._segments = segments.reader()
        self._endpoints = endpoints.reader()
        self._status = status.reader()
        self._objects: Shares[ObjectKey, Object] = Shares(desired.objects)
        self._routes: Shares[tuple[Family, bytes], Originated] = Shares(originated)
        self._neighbours: Shares[tuple[str, bytes], bytes] = Shares(desired.neighbours)
        self._statics: Shares[tuple[str, Family, bytes], Via] = Shares(Table())  # by VRF and prefix
        self._changed_statics = self._statics.table.reader()
        self._announcers: dict[str, Announcer] = {}  # by VRF
        self._members: dict[str, dict[str, None]] = {}  # segment -> ports
        self._behind: dict[str, dict[str, None]] = {}  # attachment -> ports
        self._vrf_of: dict[str, str] = {}  # segment -> the VRF that it is in
        self._in_vrf: dict[str, dict[str, None]] = {}  # the reverse
        self._carriers: dict[str, dict[str, None]] = {}  # segment -> ports that something lies behind
        self._evi_of: dict[str, Evi] = {}  # port -> the EVI that has it
        self._again: dict[str, None] = {}  # ports whose segment or VRF became another
        self._leased: dict[Unit, set[tuple[str, str]]] = {}
        self._retry_at = 0.0
        self._started = False

    def __iter__(self) -> Iterator[Instance]:
        yield from self.vrfs.values()
        yield from self.evis.values()
        yield from self.prefixes.values()
        for leaks in self.leaks.values():
            yield from leaks.values()

    def paths(self) -> Iterator[Path]:
        """Yield the paths of all routes that segments say, or would say if another did not say the same."""
        for said in (self.originated.rows.values(), self._routes.values()):
            yield from (originated.path for originated in said)

    def failure(self, segment: Segment) -> str:
        """Tell why a segment, or the VRF that it is in, is not built as it should be; "" if it is."""
        return self.failed.get(("segment", segment.name)) or self.failed.get(("vrf", segment.vrf)) or ""

    def segments_of(self, vrf: str) -> list[Segment]:
        """Return the segments that are in a VRF."""
        return [self.segments[name] for name in sorted(self._in_vrf.get(vrf, ())) if name in self.segments]

    def leaks_of(self, port: str, bgpvpn_id: str) -> Iterator[Leak]:
        """Yield what a port announces into a VPN of the routes of others."""
        for leaks in self.leaks.values():
            yield from (leak for name, leak in leaks.items() if name.startswith(f"{port} {bgpvpn_id} "))

    def step(self, wall: float) -> int:
        """Bring instances up to the segments; `wall` is the time of day in seconds, for leases."""
        units, ports = self._dirty()
        if self.failed and (units or wall >= self._retry_at):
            self._retry_at = wall + RETRY_S
            units.update(dict.fromkeys(self.failed))
        version = self.interest.version
        changed: list[Instance] = []
        # What fails is tried once more after the others: they may have given back what it needs.
        late = [unit for unit in units if not self._build(unit, wall, changed)]
        for unit in late:
            self._build(unit, wall, changed)
        ports = dict.fromkeys([*ports, *self._again])
        self._again = {}
        for port in ports:
            self._build_port(port)
        for vrf, family, prefix in self._changed_statics.take():
            if vrf in self.vrfs:
                self.vrfs[vrf].set_static(family, prefix, self._statics.table.get((vrf, family, prefix)))
        if self.interest.version != version:
            self.importing.rebuild(changed)
        if units and not self._started:
            self._started = True
            self.leases.keep(frozenset().union(*self._leased.values()), wall)  # what is left of an earlier life
        return len(units) + len(ports)

    def _dirty(self) -> tuple[dict[Unit, None], dict[str, None]]:
        """Return the segments that are to be worked out again, after them the VRFs; and the ports."""
        names = self._segments.take()
        vrfs: dict[str, None] = {}
        for name in names:
            segment = self.segments.get(name)
            vrf = segment.vrf if segment is not None and segment.of_type("l3") else None
            before = self._vrf_of.pop(name, None)
            if before is not None:
                vrfs[before] = None
                del self._in_vrf[before][name]
            if vrf is not None:
                vrfs[vrf] = None
                self._vrf_of[name] = vrf
                self._in_vrf.setdefault(vrf, {})[name] = None
        ports: dict[str, None] = {}
        for port, seen in self._endpoints.take().items():
            present = self.endpoints.get(port)
            ports[port] = None
            if seen is not None:
                _leave(self._members, seen.segment, port)
                _leave(self._behind, seen.attachment, port)
                _leave(self._carriers, seen.segment, port)
            if present is not None:
                self._members.setdefault(present.segment, {})[port] = None
                self._behind.setdefault(present.attachment, {})[port] = None
                if _carries(present):
                    self._carriers.setdefault(present.segment, {})[port] = None
            for endpoint in (seen, present):
                vrf = self._vrf_of.get(endpoint.segment) if endpoint is not None else None
                if vrf is not None and endpoint is not None and (_carries(endpoint) or self._looks_at_all(vrf)):
                    vrfs[vrf] = None
        for kind, attachment in self._status.take():
            for port in self._behind.get(attachment, ()) if kind == "attachment" else ():
                segment_name = self.endpoints[port].segment
                if segment_name in self.evis:
                    ports[port] = None
                if segment_name in self._vrf_of and port in self._carriers.get(segment_name, ()):
                    vrfs[self._vrf_of[segment_name]] = None
        return dict.fromkeys([*(("segment", name) for name in names), *(("vrf", vrf) for vrf in vrfs)]), ports

    def _looks_at_all(self, vrf: str) -> bool:
        """Tell whether what a VRF says of all its ports together depends on their plain addresses."""
        announcer = self._announcers.get(vrf)
        return announcer is not None and (announcer.aggregates or announcer.has_hosts_behind)

    def _endpoints_of(self, vrf: str, groups: Mapping[str, Mapping[str, None]]) -> list[Endpoint]:
        """Return those endpoints of a VRF that are in groups by segment, sorted."""
        names = sorted(self._in_vrf.get(vrf, ()))
        return [self.endpoints[port] for name in names for port in sorted(groups.get(name, ()))]

    def _build(self, unit: Unit, wall: float, changed: list[Instance]) -> bool:
        """Make a unit what it shall be, as far as there are numbers; False if it lacks one."""
        held: set[tuple[str, str]] = set()

        def lease(pool: str, purpose: str) -> int:
            number = self.leases.lease(pool, purpose, wall)
            held.add((pool, purpose))
            return number

        kind, name = unit
        try:
            changed += self._build_segment(name, lease) if kind == "segment" else self._build_vrf(name, lease)
        except AllocationError as error:
            self.failed[unit] = str(error)
            self._leased.setdefault(unit, set()).update(held)
            return False
        self.failed.pop(unit, None)
        for pool, purpose in sorted(self._leased.pop(unit, set()) - held):
            self.leases.release(pool, purpose, wall)
        if held:
            self._leased[unit] = held
        return True

    # Segments: a bridge, what is in it, and an EVI

    def _build_segment(self, name: str, lease: Lease) -> list[Instance]:
        """Make a segment what it shall be; return the instances whose import targets changed."""
        unit, segment = ("segment", name), self.segments.get(name)
        if segment is None:
            self._remove_evi(name)
            self._objects.set(unit, {})
            self._neighbours.set(unit, {})
            return []
        layer2, layer3 = segment.of_type("l2"), segment.of_type("l3")
        changed: list[Instance] = []

        # All numbers first: without one of them the segment stays as it was.
        number = lease("bridge", name)
        wanted: list[Object] = []
        if layer2:
            vni = self._vni(segment, lease)
            rd = self._automatic_rd(f"evi {name}", lease)
            wanted.append(Vxlan(vni, name, self.identity.tunnel, self.identity.vxlan_port))
        wanted.append(
            Bridge(
                name=name,
                number=number,
                vrf=segment.vrf if layer3 else None,
                gateways=segment.gateways if layer3 else (),
                gateway_mac=self.identity.gateway_mac if layer3 else None,
                mtu=segment.mtu,
            )
        )
        if ("bridge", name) not in self.desired.objects:
            self._again.update(self._members.get(name, {}))
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
                self._again.update(self._members.get(name, {}))
            evi.announce_with(targets(layer2, "export"))
            if self.interest.set(evi, targets(segment.importing("l2"), "import")):
                changed.append(evi)

        self._objects.set(unit, {thing.key: thing for thing in wanted})
        known = {}
        if layer3 and segment.fallback_mac is not None:
            known = {(name, address): segment.fallback_mac for address in FALLBACK_ADDRESSES.values()}
        self._neighbours.set(unit, known)
        return changed

    def _forwards(self, attachment: str) -> bool:
        status = self._status.table.get(("attachment", attachment))
        return status is not None and status.state == "active"

    def _vni(self, segment: Segment, lease: Lease) -> int:
        """Return the VNI that a VPN of the segment asks for, else a leased one."""
        name = segment.name
        vni = next((vpn.vni for vpn in segment.of_type("l2") if vpn.vni is not None), None)
        if vni is None:
            vni = lease("vni", name)
        else:
            self.leases.reserve("vni", [vni])
        self._check_vni(vni, ("segment", name))
        return vni

    def _check_vni(self, vni: int, wanting: Unit) -> None:
        """Refuse a VNI that another has."""
        having: list[tuple[int, Unit]] = [(evi.vni, ("segment", name)) for name, evi in self.evis.items()]
        having += [(half.vni, ("vrf", name)) for name, half in self.prefixes.items()]
        for number, unit in having:
            if number == vni and unit != wanting:
                raise AllocationError(f"VNI {vni} is wanted by {' '.join(wanting)}, but {' '.join(unit)} has it")

    def _remove_evi(self, name: str) -> None:
        evi = self.evis.pop(name, None)
        if evi is not None:
            self.interest.set(evi, frozenset())
            evi.close()
            for port in evi.endpoints:
                self._evi_of.pop(port, None)
            self._again.update(self._members.get(name, {}))

    # Ports: an attachment, and what is said of their addresses

    def _build_port(self, port: str) -> None:
        """Make a port what it shall be."""
        unit, endpoint = ("port", port), self.endpoints.get(port)
        evi = self.evis.get(endpoint.segment) if endpoint is not None else None
        before = self._evi_of.pop(port, None)
        if before is not None and before is not evi:
            before.set_local(port, None)
        if endpoint is None:
            self._objects.set(unit, {})
            self._neighbours.set(unit, {})
            self._routes.set(unit, {})
            self._statics.set(unit, {})
            return
        attachment = Attachment(endpoint.attachment, endpoint.interface, endpoint.netns, endpoint.segment)
        is_built = ("bridge", endpoint.segment) in self.desired.objects
        self._objects.set(unit, {attachment.key: attachment} if is_built else {})
        if evi is None:
            self._neighbours.set(unit, {(endpoint.segment, address): endpoint.mac for address in endpoint.addresses})
        else:  # which sees to its neighbours itself
            forwards = self._forwards(endpoint.attachment)
            self._evi_of[port] = evi
            evi.set_local(port, endpoint if forwards else None)
            left = {(endpoint.segment, address) for address in endpoint.addresses} if forwards else set()
            self._neighbours.set(unit, {}, left=left)
        announcer = self._announcers.get(self._vrf_of.get(endpoint.segment, ""))
        said = announcer.of_port(endpoint) if announcer is not None else Announcement()
        self._routes.set(unit, said.originated)
        self._statics.set(unit, said.statics)

    # VRFs: of one segment, or of those of a router

    def _build_vrf(self, name: str, lease: Lease) -> list[Instance]:
        """Make a VRF what it shall be; return the instances whose import targets changed."""
        unit = ("vrf", name)
        segments = [self.segments[each] for each in sorted(self._in_vrf.get(name, ()))]
        if not segments:
            self._in_vrf.pop(name, None)
            self._remove_vrf(name)
            for each in list(self.leaks.get(name, ())):
                self._remove_leak(name, each)
            self._announcers.pop(name, None)
            self._objects.set(unit, {})
            self._routes.set(unit, {})
            self._statics.set(unit, {})
            return []

        # All numbers first: without one of them the VRF stays as it was.
        vrf = Vrf(name, lease("table", name), label := lease("label", name))
        vni, overlaying = self._overlay(name, segments, lease)
        announcer = Announcer(
            vrf=name,
            label=label,
            segments=segments,
            endpoints=lambda: self._endpoints_of(name, self._members),
            active=self._forwards,
            identity=self.identity,
            distinguisher=lambda group: self._distinguisher(name, group, lease),
            port_label=lambda port, address: lease("label", f"{name} {port} {address.hex()}"),
            interner=self.interner,
            vias=self.vias,
            vni=vni,
        )
        carriers = self._endpoints_of(name, self._carriers)
        said = announcer.of_all(carriers)
        leaks, ways = self._wanted_leaks(name, announcer, carriers, lease)
        seen = self._announcers.get(name)
        self._announcers[name] = announcer
        if seen is None or seen.frame != announcer.frame:
            self._again.update((port, None) for each in segments for port in self._members.get(each.name, ()))

        changed: list[Instance] = []
        ipvpn = self.vrfs.get(name)
        if ipvpn is None:
            ipvpn = self.vrfs[name] = Ipvpn(
                name, vrf.table, self.rib, self.interest, self.desired, self.vias, self.usable
            )
        importing = [vpn for segment in segments for vpn in segment.importing("l3") if "ipvpn" in vpn.technique]
        if self.interest.set(ipvpn, targets(importing, "import")):
            changed.append(ipvpn)
        half = self.prefixes.get(name)
        if half is not None and half.vni != vni:
            self._remove_prefixes(name)
            half = None
        if vni is not None:
            if half is None:
                half = self.prefixes[name] = ipvpn.prefixes = Prefixes(
                    name=name,
                    vni=vni,
                    tunnel=self.identity.tunnel,
                    rib=self.rib,
                    interest=self.interest,
                    desired=self.desired,
                    vias=self.vias,
                    usable=self.usable,
                    dirty=ipvpn.touch_prefix,
                )
            by_evpn = [vpn for segment in segments for vpn in segment.importing("l3") if "evpn-prefix" in vpn.technique]
            if self.interest.set(half, targets(by_evpn, "import")):
                changed.append(half)
        for each in [each for each in self.leaks.get(name, ()) if each not in leaks]:
            self._remove_leak(name, each)
        for each, (leaked, into) in leaks.items():
            leak = self.leaks.setdefault(name, {}).get(each)
            if leak is None:
                leak = self.leaks[name][each] = Leak(
                    each, self.rib, self.interest, self.vias, self.originated, self.identity, self.interner
                )
            leak.announce_into(into)
            if self.interest.set(leak, leaked.imports):
                changed.append(leak)
        self._objects.set(unit, {vrf.key: vrf, **said.labels, **ways, **{each.key: each for each in overlaying}})
        self._routes.set(unit, said.originated)
        self._statics.set(unit, said.statics)
        return changed

    def _overlay(self, vrf: str, segments: Iterable[Segment], lease: Lease) -> tuple[int | None, list[Object]]:
        """Return the VNI of a VRF and the overlay segment by which it sends; None if it has no need of one."""
        vpns = [vpn for segment in segments for vpn in segment.of_type("l3") if "evpn-prefix" in vpn.technique]
        if not vpns:
            return None, []
        name, asked = overlay(vrf), sorted({vpn.vni for vpn in vpns if vpn.vni is not None})
        if len(asked) > 1:
            raise AllocationError(f"VRF {vrf} would have several VNIs: {', '.join(map(str, asked))}")
        if asked:
            vni = asked[0]
            self.leases.reserve("vni", asked)
        else:
            vni = lease("vni", name)
        self._check_vni(vni, ("vrf", vrf))
        return vni, [
            Bridge(name=name, number=lease("bridge", name), vrf=vrf, gateway_mac=self.identity.router_mac),
            Vxlan(vni, name, self.identity.tunnel, self.identity.vxlan_port),
        ]

    def _wanted_leaks(
        self, vrf: str, announcer: Announcer, carriers: Iterable[Endpoint], lease: Lease
    ) -> tuple[dict[str, tuple[Leaked, Into]], dict[ObjectKey, LabelRoute]]:
        """Return the leaks of a VRF, by a name that is stable over restarts, and the label routes that they need."""
        leaks: dict[str, tuple[Leaked, Into]] = {}
        routes: dict[ObjectKey, LabelRoute] = {}
        for endpoint, binding in ((each, one) for each in carriers for one in each.bindings):
            if not binding.leaks or not targets([announcer.vpns[binding.bgpvpn_id]], "export"):
                continue
            ways: dict[Family, Way] = {}
            for family in AFI_OF:
                address = address_of(endpoint, family)
                if address is not None:
                    route = LabelRoute(announcer.port_label(endpoint.port, address), endpoint.segment, address)
                    routes[route.key] = route
                    via = self.vias.to([OnBridge(endpoint.segment, address)])
                    ways[family] = Way(route.label, via, (("attachment", endpoint.attachment), route.key))
            for leaked in binding.leaks:
                name = leak_name(endpoint.port, binding, leaked)
                leaks[name] = leaked, self._into(vrf, name, announcer, binding, leaked, ways, lease)
        return leaks, routes

    def _into(
        self,
        vrf: str,
        name: str,
        announcer: Announcer,
        binding: Binding,
        leaked: Leaked,
        ways: dict[Family, Way],
        lease: Lease,
    ) -> Into:
        vpn = announcer.vpns[binding.bgpvpn_id]
        return Into(
            vrf=vrf,
            rd=self._automatic_rd(f"leak {vrf} {name}", lease).wire,
            targets=targets([vpn], "export"),
            local_pref=leaked.local_pref,
            ways=ways,
            refusal=vpn.refusal,
            terms=vpn.allowed_prefixes,
            most=vpn.max_prefixes,
        )

    def _remove_prefixes(self, name: str) -> None:
        half = self.prefixes.pop(name, None)
        if half is not None:
            self.interest.set(half, frozenset())
            half.close()
            self.vrfs[name].prefixes = None
            half.touch_all()  # the VRF goes on without them

    def _remove_vrf(self, name: str) -> None:
        self._remove_prefixes(name)
        vrf = self.vrfs.pop(name, None)
        if vrf is not None:
            self.interest.set(vrf, frozenset())
            for table in vrf.routes.values():
                table.discard_all(list(table.rows))

    def _remove_leak(self, vrf: str, name: str) -> None:
        leak = self.leaks[vrf].pop(name)
        self.interest.set(leak, frozenset())
        leak.close()
        if not self.leaks[vrf]:
            del self.leaks[vrf]

    def _distinguisher(self, name: str, group: ExportGroup, lease: Lease) -> RouteDistinguisher:
        return group.route_distinguisher or self._automatic_rd(f"vrf {name} {group.name}", lease)

    def _automatic_rd(self, purpose: str, lease: Lease) -> RouteDistinguisher:
        """Return a route distinguisher of type 1: router id and a leased index (RFC 4364 section 4.2)."""
        index = lease("rd", purpose)
        return RouteDistinguisher(b"\x00\x01" + self.identity.router_id + index.to_bytes(2, "big"))


def _carries(endpoint: Endpoint) -> bool:
    """Tell whether something lies behind a port: prefixes, or routes of another VPN."""
    return bool(endpoint.behind) or any(binding.prefixes or binding.leaks for binding in endpoint.bindings)


def _leave(groups: dict[str, dict[str, None]], name: str, member: str) -> None:
    """Take a member out of a group; a group without members is none."""
    group = groups.get(name, {})
    group.pop(member, None)
    if not group:
        groups.pop(name, None)


def leak_name(port: str, binding: Binding, leaked: Leaked) -> str:
    """Return the name of what a port announces into one VPN of the routes of another."""
    return f"{port} {binding.bgpvpn_id} {leaked.bgpvpn_id}"
