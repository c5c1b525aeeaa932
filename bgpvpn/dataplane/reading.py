"""Reading our rows out of the kernel; what was read of links and of others' routes is kept in `Known`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

from bgpvpn.dataplane import attachments, decode, words
from bgpvpn.dataplane.decode import Route
from bgpvpn.dataplane.devices import Devices
from bgpvpn.dataplane.encode import (
    ADDRESS,
    AF_BRIDGE,
    AF_MPLS,
    FAMILY,
    GETADDR,
    GETNEIGH,
    GETNEXTHOP,
    GETROUTE,
    NEIGHBOUR,
    NEXTHOP,
    ROUTE,
    RTA_TABLE,
    RTN_UNREACHABLE,
)
from bgpvpn.dataplane.links import NOWHERE, NOWHERE_LINK
from bgpvpn.dataplane.linux import AFIS
from bgpvpn.dataplane.rows import (
    KINDS,
    PROTOCOL,
    ROUTE_METRIC,
    UNREACHABLE_METRIC,
    Actual,
    BridgeLink,
    RouteTable,
    Scope,
    VxlanLink,
)
from bgpvpn.dataplane.sockets import Requests
from bgpvpn.dataplane.watch import KERNEL, Known
from bgpvpn.dataplane.wire import Message, number

T = TypeVar("T")


class Reading:
    """Reads rows by kind, and routes by table."""

    def __init__(self, requests: Requests, devices: Devices, known: Known) -> None:
        self._requests = requests
        self._devices = devices
        self._known = known

    def actual(self, scopes: Collection[Scope]) -> Actual:
        """Read all ("all"), or the kinds and tables among the scopes."""
        everything = "all" in scopes
        actual = Actual()
        kinds = [kind for kind in KINDS if everything or kind in scopes]
        if kinds and kinds != ["unreachable"]:
            names = self._links()
        for kind in kinds:
            match kind:
                case "link":
                    actual.rows[kind] = dict(self._known.links.values())
                case "attachment":
                    actual.rows[kind] = dict(self._known.attached.values())
                case "unreachable":
                    actual.rows[kind] = self._ends()
                case "address":
                    actual.rows[kind] = self._known.addresses = self._addresses()
                case "nexthop":
                    body = NEXTHOP.pack(0, 0, 0, 0, 0)
                    actual.rows[kind] = dict(self._each(GETNEXTHOP, body, lambda body: decode.nexthop(body, names)))
                case "mpls":
                    body = ROUTE.pack(AF_MPLS, 0, 0, 0, 0, 0, 0, 0, 0)
                    actual.rows[kind] = dict(self._each(GETROUTE, body, lambda body: decode.label_route(body, names)))
                case "neighbour":
                    actual.rows[kind] = self._neighbours()
        if "fdb" in kinds or "flood" in kinds:
            fdb, flood = self._forwarding()
            actual.rows |= {kind: rows for kind, rows in (("fdb", fdb), ("flood", flood)) if kind in kinds}
        if everything:
            actual.routes = self._routes()
        else:
            actual.routes = {at: self.table(at) for at in scopes if isinstance(at, tuple)}
        return actual

    def _links(self) -> dict[int, str]:
        """Read all devices, learn which are ours or attached, and return the names of all by index."""
        devices = self._devices.all()
        names = {index: device.name for index, device in devices.items()}
        known = self._known
        known.links, known.attached = {}, {}
        for index, device in devices.items():
            if device.ours and device.name != NOWHERE and (link := self._devices.row(device, names)) is not None:
                known.links[index] = (device.name, link)
            elif (attached := attachments.row(device, names)) is not None:
                known.attached[index] = attached
        return names

    def _each(self, kind: int, body: bytes, decoded: Callable[[bytes], T | None]) -> list[T]:
        def take(messages: Iterable[Message]) -> list[T]:
            return [row for message in messages if (row := decoded(message.body)) is not None]

        return self._requests.dump(kind, body, take)

    def _addresses(self) -> dict[tuple[str, bytes], int]:
        return {
            (name, address): length
            for index, address, length in self._each(GETADDR, ADDRESS.pack(0, 0, 0, 0, 0), decode.address)
            for name, link in [self._known.links.get(index, ("", None))]
            if isinstance(link, BridgeLink)
        }

    def _neighbours(self) -> dict[tuple[str, bytes], bytes]:
        return {
            (self._known.links[index][0], address): mac
            for afi in AFIS
            for index, address, mac in self._each(GETNEIGH, NEIGHBOUR.pack(FAMILY[afi], 0, 0, 0, 0), decode.neighbour)
            if index in self._known.links
        }

    def _forwarding(self) -> tuple[dict[tuple[str, bytes], tuple[bytes, int]], dict[tuple[str, bytes], int]]:
        vxlans = {
            index: (name, link.vni) for index, (name, link) in self._known.links.items() if isinstance(link, VxlanLink)
        }
        body = NEIGHBOUR.pack(AF_BRIDGE, 0, 0, 0, 0)
        return self._requests.dump(GETNEIGH, body, lambda messages: decode.forwarding(messages, vxlans))

    def _ends(self) -> dict[RouteTable, int]:
        ends: dict[RouteTable, int] = {}
        for afi in AFIS:
            body = ROUTE.pack(FAMILY[afi], 0, 0, 0, 0, PROTOCOL, 0, RTN_UNREACHABLE, 0)
            for route in self._each(GETROUTE, body, decode.ip_route):
                if decode.is_end(route) and route.at[0] != NOWHERE_LINK.table:
                    ends[route.at] = UNREACHABLE_METRIC
        return ends

    def _routes(self) -> dict[RouteTable, dict[bytes, int]]:
        """Read our routes in all tables, also in those that are no VRF's any more."""
        self._known.taken = {}
        found: dict[RouteTable, dict[bytes, int]] = {(table, afi): {} for table in self._known.tables for afi in AFIS}
        for afi in AFIS:
            body = ROUTE.pack(FAMILY[afi], 0, 0, 0, 0, PROTOCOL, 0, 0, 0)
            found |= self._requests.dump(GETROUTE, body, decode.split_routes)[0]
        return found

    def table(self, at: RouteTable) -> dict[bytes, int]:
        """Read the routes of one table, and learn where others' are in the way of ours."""
        ours, others = self._table(at)
        self._known.taken[at] = {
            route.prefix: route.protocol
            for route in others
            if route.metric == ROUTE_METRIC and route.protocol != PROTOCOL
        }
        return ours

    def foreign(self) -> list[str]:
        """Describe others' routes in our tables, and others' devices in our bridges."""
        names = self._links()
        found = [
            f"{words.route(at, route.prefix)}: of protocol {route.protocol}"
            for at in ((table, afi) for table in self._known.tables for afi in AFIS)
            for route in self._table(at)[1]
            if route.protocol not in (PROTOCOL, KERNEL)
        ]
        for device in self._devices.all().values():
            if device.master in self._known.links and not device.ours and device.index not in self._known.attached:
                found.append(f"{device.name} in {names[device.master]}: not attached by us")
        return sorted(found)

    def _table(self, at: RouteTable) -> tuple[dict[bytes, int], list[Route]]:
        table, afi = at
        body = ROUTE.pack(FAMILY[afi], 0, 0, 0, 0, 0, 0, 0, 0) + number(RTA_TABLE, table)
        ours, others = self._requests.dump(GETROUTE, body, decode.split_routes)
        return ours.get(at, {}), others
