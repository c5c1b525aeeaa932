"""What others change in the kernel, as scopes: from notifications, less what we did and what we know already.

The kernel names the one who caused a change of a route, a next hop or a neighbour, and the socket drops ours.  It does
not for links, forwarding entries and IPv6 addresses: there a notification counts when it says something else than we
know, or than we did a moment ago.
"""

from __future__ import annotations

import errno
from collections.abc import Collection

import attrs

from bgpvpn.dataplane import decode
from bgpvpn.dataplane.encode import (
    ADDRESS,
    AF_BRIDGE,
    AF_MPLS,
    DELADDR,
    DELLINK,
    DELNEIGH,
    DELNEXTHOP,
    DELROUTE,
    NEWADDR,
    NEWLINK,
    NEWNEIGH,
    NEWNEXTHOP,
    NEWROUTE,
    NEXTHOP,
    NHA_ID,
    NUD_PERMANENT,
    TABLE_MAIN,
)
from bgpvpn.dataplane.links import IFF_UP, LINK
from bgpvpn.dataplane.rows import (
    NEXTHOP_BASE,
    PROTOCOL,
    ROUTE_METRIC,
    Attached,
    Key,
    Kind,
    Link,
    RouteTable,
    Scope,
    Value,
    VrfLink,
    VxlanLink,
)
from bgpvpn.dataplane.sockets import Notifications
from bgpvpn.dataplane.wire import Message, attributes, integer

KERNEL = 2  # RTPROT_KERNEL: routes that come with addresses
GROUPS = (1, 3, 5, 7, 9, 11, 27, 32)
"""RTNLGRP_*: links, neighbours, addresses and routes of IPv4, the same of IPv6, label routes, nexthop objects."""

Row = tuple[Kind, Key, Value]


@attrs.define
class Known:
    """What was last read of, or done to, the few rows by which others' changes are told from our own."""

    links: dict[int, tuple[str, Link]] = attrs.field(factory=dict)  # by index: name and row
    attached: dict[int, tuple[str, Attached]] = attrs.field(factory=dict)  # by index of the interface: port and row
    addresses: dict[tuple[str, bytes], int] = attrs.field(factory=dict)
    taken: dict[RouteTable, dict[bytes, int]] = attrs.field(factory=dict)
    """By table that was read: prefixes that have a route of another protocol with our metric, and that protocol."""

    @property
    def tables(self) -> set[int]:
        return {link.table for _, link in self.links.values() if isinstance(link, VrfLink)}


class Watch:
    """Reads notifications into scopes, which may be added to."""

    def __init__(self, known: Known, ours: int) -> None:
        self._socket = Notifications(GROUPS, ours)
        self._known = known
        self.scopes: set[Scope] = set()
        self._touched: set[int] = set()

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def note(self, done: Collection[Row] = (), devices: Collection[int] = ()) -> None:
        """Read what has come; rows just done (None: removed), and devices just worked on, are our own doing."""
        tables: set[int] = set()
        while True:
            try:
                for message in self._socket.drained():
                    tables = tables or self._known.tables
                    self._note(message, done, devices, tables)
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.scopes.add("all")  # some were lost; others are there still

    def taken(self) -> tuple[set[Scope], set[int]]:
        """Return (once) the scopes, and the indexes of links and attached interfaces that something was told of."""
        taken = self.scopes, self._touched
        self.scopes, self._touched = set(), set()
        return taken

    def _note(self, message: Message, done: Collection[Row], devices: Collection[int], tables: set[int]) -> None:
        match message.type:
            case _ if message.type in (NEWLINK, DELLINK):
                self._link(message, devices)
            case _ if message.type in (NEWADDR, DELADDR):
                self._address(message, devices)
            case _ if message.type in (NEWROUTE, DELROUTE):
                self._route(message, devices, tables)
            case _ if message.type in (NEWNEIGH, DELNEIGH):
                self._neighbour(message, done, devices)
            case _ if message.type in (NEWNEXTHOP, DELNEXTHOP):
                number = integer(attributes(message.body, NEXTHOP.size).get(NHA_ID, b""))
                if message.body[2] == PROTOCOL or number >= NEXTHOP_BASE:
                    # Its routes have gone with it, and of those the kernel tells nothing.
                    self.scopes.add("all" if message.type == DELNEXTHOP else "nexthop")

    def _link(self, message: Message, devices: Collection[int]) -> None:
        family, _, index, flags, _ = LINK.unpack_from(message.body)
        gone = message.type == DELLINK and family != AF_BRIDGE  # else it only left a bridge
        if index in devices:
            return
        if index in self._known.links:
            if gone:
                del self._known.links[index]
            if gone or not flags & IFF_UP:
                self.scopes.add("all")  # routes, next hops and entries have gone with it, without a word
            else:
                self._touched.add(index)
        elif index in self._known.attached:
            if gone:
                del self._known.attached[index]
                self.scopes |= {"attachment", "links"}
            else:
                self._touched.add(index)
        elif family != AF_BRIDGE:
            self.scopes |= {"links", "underlay"}

    def _address(self, message: Message, devices: Collection[int]) -> None:
        found = decode.address(message.body)
        index = ADDRESS.unpack_from(message.body)[4]
        if found is None or index in devices or index in self._known.attached:
            return
        if index not in self._known.links:
            self.scopes.add("underlay")
            return
        key = (self._known.links[index][0], found[1])
        if (self._known.addresses.get(key) == found[2]) == (message.type == DELADDR):
            self.scopes.add("address")

    def _route(self, message: Message, devices: Collection[int], tables: set[int]) -> None:
        if message.body[0] == AF_MPLS:
            self.scopes.add("mpls")
            return
        if message.body[4] == TABLE_MAIN and "underlay" in self.scopes:
            return
        route = decode.ip_route(message.body)
        if route is None or route.protocol == KERNEL:
            return
        if route.at[0] in tables:
            if decode.is_end(route):
                self.scopes.add("unreachable")
            elif route.metric == ROUTE_METRIC:
                taken = self._known.taken.get(route.at, {})
                if message.type == NEWROUTE and route.protocol != PROTOCOL:
                    taken[route.prefix] = route.protocol
                else:
                    taken.pop(route.prefix, None)
                self.scopes.add(route.at)
        elif route.at[0] == TABLE_MAIN and route.device not in self._known.links and route.device not in devices:
            self.scopes.add("underlay")

    def _neighbour(self, message: Message, done: Collection[Row], devices: Collection[int]) -> None:
        if message.body[0] != AF_BRIDGE:
            found = decode.neighbour(message.body)
            if found is not None and found[0] in self._known.links and found[0] not in devices:
                self.scopes.add("neighbour")
            return
        entry = decode.entry(message.body)
        if entry is None or entry.device in devices:
            return
        name, link = self._known.links.get(entry.device, ("", None))
        if not isinstance(link, VxlanLink):
            return
        removed = message.type == DELNEIGH
        if entry.vtep is None:  # the bridge's entry beside it, of which only the loss matters; or the same, told twice
            lost = removed and entry.bridge and not entry.state & NUD_PERMANENT
            if lost and ("fdb", (name, entry.mac), None) not in done:
                self.scopes.add("fdb")
            return
        vni = link.vni if entry.vni is None else entry.vni
        row: Row = ("flood", (name, entry.vtep), vni)
        if any(entry.mac):
            row = ("fdb", (name, entry.mac), (entry.vtep, vni))
        if (*row[:2], None if removed else row[2]) not in done:
            self.scopes.add(row[0])
