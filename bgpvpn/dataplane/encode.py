"""Rows that are many, as requests to the kernel: routes, next hops, label routes, neighbours, forwarding entries.

Links are in `links.py`.  Pure; devices are asked for by name, in the hope of an index.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Collection
from itertools import repeat

from bgpvpn.dataplane.rows import (
    PROTOCOL,
    ROUTE_METRIC,
    UNREACHABLE_METRIC,
    Afi,
    Group,
    Kind,
    Leaf,
    MplsRoute,
    Operation,
    RouteTable,
)
from bgpvpn.dataplane.wire import APPEND, CREATE, EXCL, HEADER, REPLACE, REQUEST, Request, attribute, nest, number

# linux/rtnetlink.h
NEWLINK, DELLINK, GETLINK, SETLINK = 16, 17, 18, 19
NEWADDR, DELADDR, GETADDR = 20, 21, 22
NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
NEWNEIGH, DELNEIGH, GETNEIGH = 28, 29, 30
NEWNEXTHOP, DELNEXTHOP, GETNEXTHOP = 104, 105, 106
NEWLINKPROP, DELLINKPROP = 108, 109

REMOVALS = frozenset({DELADDR, DELROUTE, DELNEIGH, DELNEXTHOP})

AF_INET, AF_INET6, AF_BRIDGE, AF_MPLS = 2, 10, 7, 28
FAMILY: dict[int, int] = {4: AF_INET, 6: AF_INET6}
FAMILY_OF_LENGTH = {4: AF_INET, 16: AF_INET6}

RTA_DST, RTA_OIF, RTA_PRIORITY, RTA_TABLE, RTA_VIA, RTA_NH_ID = 1, 4, 6, 15, 18, 30
RTN_UNICAST, RTN_LOCAL, RTN_UNREACHABLE = 1, 2, 7
SCOPE_UNIVERSE, SCOPE_NOWHERE = 0, 255
TABLE_MAIN = 254
NHA_ID, NHA_GROUP, NHA_BLACKHOLE, NHA_OIF, NHA_GATEWAY, NHA_ENCAP_TYPE, NHA_ENCAP = 1, 2, 4, 5, 6, 7, 8
NDA_DST, NDA_LLADDR, NDA_VNI, NDA_MASTER, NDA_PROTOCOL = 1, 2, 7, 9, 12
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
NTF_SELF, NTF_MASTER, NTF_STICKY = 0x02, 0x04, 0x40
NUD_REACHABLE, NUD_NOARP, NUD_PERMANENT = 0x02, 0x40, 0x80

ROUTE = struct.Struct("=BBBBBBBBI")  # family, length, length of source, TOS, table, protocol, scope, type, flags
NEIGHBOUR = struct.Struct("=BxxxiHBB")  # family, ifindex, state, flags, type
ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, ifindex
NEXTHOP = struct.Struct("=BBBBI")  # family, scope, protocol, reserved, flags
MEMBER = struct.Struct("=IBBH")  # id, weight less one, reserved
_STACK = struct.Struct("!I")
_FAMILY = struct.Struct("=H")

_ENCAP_MPLS, _MPLS_DST, _ONLINK, _NODAD = 1, 1, 4, 2
_NO_MAC = bytes(6)

Index = Callable[[str], int]
"""From a device's name to its index; raises when there is none."""


def label_stack(label: int) -> bytes:
    """Return a label as the one entry of a stack (RFC 3032 section 2.1), TTL and traffic class 0."""
    return _STACK.pack(label << 12 | 0x100)


@functools.cache
def _heads(afi: Afi, removing: bool) -> list[bytes]:
    kind, flags = (DELROUTE, REQUEST) if removing else (NEWROUTE, REQUEST | CREATE | REPLACE)
    scope = SCOPE_NOWHERE if removing else SCOPE_UNIVERSE  # "nowhere" finds any
    size = 4 if afi == 4 else 16
    header = HEADER.pack(route_size(afi, removing), kind, flags, 0, 0)
    return [
        header
        + ROUTE.pack(FAMILY[afi], length, 0, 0, 0, PROTOCOL, scope, RTN_UNICAST, 0)
        + attribute(RTA_DST, bytes(size))[:4]
        for length in range(size * 8 + 1)
    ]


def route_size(afi: Afi, removing: bool = False) -> int:
    """Return the octets of one message that `routes` makes."""
    return 16 + ROUTE.size + (8 if afi == 4 else 20) + 16 + (0 if removing else 8)


def routes(at: RouteTable, nexthop: int | None, prefixes: Collection[bytes]) -> list[bytes]:
    """Return whole messages that point prefixes of a table at a next hop, or remove them (hot).

    A message is the head for the prefix length, the prefix, zeros up to an address, and the same end for all.
    """
    table, afi = at
    heads = _heads(afi, nexthop is None)
    end = number(RTA_TABLE, table) + number(RTA_PRIORITY, ROUTE_METRIC)
    if nexthop is not None:
        end += number(RTA_NH_ID, nexthop)
    size = 4 if afi == 4 else 16
    ends = [bytes(size - (length + 7) // 8) + end for length in range(size * 8 + 1)]
    return [heads[prefix[-1]] + prefix[:-1] + ends[prefix[-1]] for prefix in prefixes]


def prefix_of(message: bytes) -> bytes:
    """Return the prefix in a message of `routes`."""
    length = message[17]
    return message[32 : 32 + (length + 7) // 8] + bytes((length,))


def removes(message: bytes) -> bool:
    """Whether a message of `routes` removes its prefix."""
    return bool(HEADER.unpack_from(message)[1] == DELROUTE)


def requests(operation: Operation, index: Index) -> list[Request]:
    """Return what does an operation of any kind but link and attachment.

    What is believed not to be there is made only if it is not there: the kernel answers EEXIST rather than give
    somebody else's object another content.
    """
    kind, key, wanted, believed = operation
    removing = wanted is None
    flags = 0 if removing else CREATE | (EXCL if believed is None and kind in EXCLUSIVE else REPLACE)
    match kind:
        case "unreachable":
            table, afi = key
            scope = SCOPE_NOWHERE if removing else SCOPE_UNIVERSE
            body = ROUTE.pack(FAMILY[afi], 0, 0, 0, 0, PROTOCOL, scope, RTN_UNREACHABLE, 0)
            body += number(RTA_TABLE, table) + number(RTA_PRIORITY, UNREACHABLE_METRIC)
            return [(DELROUTE if removing else NEWROUTE, flags, body)]
        case "nexthop":
            if removing:
                return [(DELNEXTHOP, 0, NEXTHOP.pack(0, 0, 0, 0, 0) + number(NHA_ID, key))]
            body = _group(key, wanted) if isinstance(wanted, Group) else _leaf(key, wanted, index)
            return [(NEWNEXTHOP, flags, body)]
        case "mpls":
            return [(DELROUTE if removing else NEWROUTE, flags, _label_route(key, wanted, index))]
        case "address":
            device, address = key
            made = [(NEWADDR, CREATE | REPLACE, ip_address(index(device), address, wanted))] if not removing else []
            if believed is None or believed == wanted:
                return made
            return [(DELADDR, 0, ip_address(index(device), address, believed)), *made]
        case "neighbour":
            device, address = key
            mac = attribute(NDA_LLADDR, wanted) + attribute(NDA_PROTOCOL, bytes((PROTOCOL,))) if not removing else b""
            head = NEIGHBOUR.pack(FAMILY_OF_LENGTH[len(address)], index(device), NUD_PERMANENT, 0, 0)
            return [(DELNEIGH if removing else NEWNEIGH, flags, head + attribute(NDA_DST, address) + mac)]
        case "fdb":
            device, mac = key
            if removing:  # apart: the bridge may have lost its entry, and the other must go all the same
                return [
                    (DELNEIGH, 0, _entry(index(device), mac, where, None, None)) for where in (NTF_MASTER, NTF_SELF)
                ]
            return [(NEWNEIGH, flags, _entry(index(device), mac, NTF_SELF | NTF_MASTER, *wanted))]
        case "flood":
            device, vtep = key
            made = []
            if wanted is not None:
                made.append((NEWNEIGH, CREATE | APPEND, _entry(index(device), _NO_MAC, NTF_SELF, vtep, wanted)))
            if believed is not None and believed != wanted:
                made.append((DELNEIGH, 0, _entry(index(device), _NO_MAC, NTF_SELF, vtep, believed)))
            return made
    raise AssertionError(f"rows of kind {kind} are not made here")


EXCLUSIVE: frozenset[Kind] = frozenset({"unreachable", "nexthop", "mpls"})
"""Kinds of which somebody else may have an object with our key."""


def ip_address(device: int, address: bytes, prefix_length: int) -> bytes:
    """Return the body for an address of ours: usable at once, as the same address on other nodes is no duplicate."""
    local = attribute(IFA_LOCAL, address) + attribute(IFA_ADDRESS, address)
    if len(address) == 16:
        local += number(IFA_FLAGS, _NODAD)
    return ADDRESS.pack(FAMILY_OF_LENGTH[len(address)], prefix_length, 0, 0, device) + local


def _leaf(number_of: int, leaf: Leaf, index: Index) -> bytes:
    body = number(NHA_ID, number_of)
    if leaf.device is None:
        return NEXTHOP.pack(FAMILY[leaf.afi], 0, PROTOCOL, 0, 0) + body + attribute(NHA_BLACKHOLE, b"")
    body += number(NHA_OIF, index(leaf.device))
    flags = 0
    if leaf.gateway is not None:
        body += attribute(NHA_GATEWAY, leaf.gateway)
        flags = _ONLINK
    if leaf.label is not None:
        body += attribute(NHA_ENCAP_TYPE, _FAMILY.pack(_ENCAP_MPLS))
        body += nest(NHA_ENCAP, attribute(_MPLS_DST, label_stack(leaf.label)))
    return NEXTHOP.pack(FAMILY[leaf.afi], 0, PROTOCOL, 0, flags) + body


def _group(number_of: int, group: Group) -> bytes:
    shares = zip(group.members, group.weights or repeat(1), strict=False)
    members = b"".join(MEMBER.pack(member, weight - 1, 0, 0) for member, weight in shares)
    return NEXTHOP.pack(0, 0, PROTOCOL, 0, 0) + number(NHA_ID, number_of) + attribute(NHA_GROUP, members)


def _label_route(label: int, route: MplsRoute | None, index: Index) -> bytes:
    body = ROUTE.pack(AF_MPLS, 20, 0, 0, TABLE_MAIN, PROTOCOL, SCOPE_UNIVERSE, RTN_UNICAST, 0)
    body += attribute(RTA_DST, label_stack(label))
    if route is None:
        return body
    body += number(RTA_OIF, index(route.device))
    if route.gateway is not None:
        body += attribute(RTA_VIA, _FAMILY.pack(FAMILY_OF_LENGTH[len(route.gateway)]) + route.gateway)
    return body


def _entry(device: int, mac: bytes, where: int, vtep: bytes | None, vni: int | None) -> bytes:
    # "No ARP" and reachable: static, so it does not age; permanent would mean an address of the bridge itself.  Sticky:
    # a frame from this MAC at another port, as that from which it has moved away, does not make the bridge send there.
    sticky = NTF_STICKY if any(mac) else 0
    body = NEIGHBOUR.pack(AF_BRIDGE, device, NUD_NOARP | NUD_REACHABLE, where | sticky, 0) + attribute(NDA_LLADDR, mac)
    if vtep is not None and vni is not None:
        body += attribute(NDA_DST, vtep) + number(NDA_VNI, vni)
    return body
