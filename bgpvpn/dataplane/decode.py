"""What the kernel holds, as rows: routes, next hops, label routes, addresses, neighbours, forwarding entries.

Each function takes the body of a message; None: it is not ours, or of no interest.  Links are in `links.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from bgpvpn.dataplane.encode import (
    ADDRESS,
    AF_BRIDGE,
    AF_INET,
    AF_INET6,
    AF_MPLS,
    IFA_ADDRESS,
    IFA_LOCAL,
    MEMBER,
    NDA_DST,
    NDA_LLADDR,
    NDA_MASTER,
    NDA_PROTOCOL,
    NDA_VNI,
    NEIGHBOUR,
    NEXTHOP,
    NHA_BLACKHOLE,
    NHA_ENCAP,
    NHA_GATEWAY,
    NHA_GROUP,
    NHA_ID,
    NHA_OIF,
    NTF_SELF,
    NUD_NOARP,
    NUD_PERMANENT,
    ROUTE,
    RTA_DST,
    RTA_NH_ID,
    RTA_OIF,
    RTA_PRIORITY,
    RTA_TABLE,
    RTA_VIA,
    RTN_UNREACHABLE,
)
from bgpvpn.dataplane.rows import (
    PROTOCOL,
    ROUTE_METRIC,
    UNREACHABLE_METRIC,
    Afi,
    Group,
    Leaf,
    MplsRoute,
    RouteTable,
)
from bgpvpn.dataplane.wire import Message, attributes, integer

AFI: dict[int, Afi] = {AF_INET: 4, AF_INET6: 6}
LENGTHS = [bytes((length,)) for length in range(129)]

Names = Mapping[int, str]
"""From a device's index to its name."""


class Route(NamedTuple):
    """An IP route, ours or not."""

    at: RouteTable
    prefix: bytes
    protocol: int
    type: int
    metric: int
    nexthop: int  # 0: none
    device: int  # index, 0: none that it names


def _head(attribute_head: tuple[int, int]) -> int:
    head: int = struct.unpack("=I", struct.pack("=HH", *attribute_head))[0]  # length and kind, compared as one number
    return head


_TABLE, _METRIC, _NEXTHOP = (_head((8, kind)) for kind in (RTA_TABLE, RTA_PRIORITY, RTA_NH_ID))
_FAST = {  # four attributes in a row, the head of the second, the size of a body that has them
    AF_INET: (struct.Struct("=III4sIIII"), _head((8, RTA_DST)), 44),
    AF_INET6: (struct.Struct("=III16sIIII"), _head((20, RTA_DST)), 56),
}
_SLOW = (struct.Struct("=I"), 0, 1 << 32)


def split_routes(messages: Iterable[Message]) -> tuple[dict[RouteTable, dict[bytes, int]], list[Route]]:
    """Return our routes by table, prefix to nexthop id, and all other routes (hot).

    The kernel writes table, destination, metric and next-hop object at the same places in every such route.
    """
    found: dict[RouteTable, dict[bytes, int]] = {}
    others: list[Route] = []
    ids: dict[int, int] = {}
    tables: dict[tuple[int, int], dict[bytes, int]] = {}
    for message in messages:
        body = message.body
        family, length, protocol = body[0], body[1], body[5]
        shape, size, least = _FAST.get(family, _SLOW)
        if length and protocol == PROTOCOL and len(body) >= least:
            one, table, two, octets, three, metric, four, nexthop = shape.unpack_from(body, 12)
            if one == _TABLE and two == size and three == _METRIC and four == _NEXTHOP and metric == ROUTE_METRIC:
                into = tables.get((table, family))
                if into is None:
                    into = tables[(table, family)] = found.setdefault((table, AFI[family]), {})
                into[octets[: (length + 7) >> 3] + LENGTHS[length]] = ids.setdefault(nexthop, nexthop)
                continue
        route = ip_route(body)
        if route is None:
            continue
        if route.protocol == PROTOCOL and route.metric == ROUTE_METRIC:
            found.setdefault(route.at, {})[route.prefix] = route.nexthop
        else:
            others.append(route)
    return found, others


def ip_route(body: bytes) -> Route | None:
    """Decode any route of IPv4 or IPv6."""
    family, length, _, _, short, protocol, _, kind, flags = ROUTE.unpack_from(body)
    if family not in AFI or flags & 0x200:  # cloned: a cache of IPv6
        return None
    found = attributes(body, ROUTE.size)
    octets = (length + 7) // 8
    return Route(
        at=(integer(found.get(RTA_TABLE, bytes((short,)))), AFI[family]),
        prefix=found.get(RTA_DST, b"").ljust(octets, b"\0")[:octets] + LENGTHS[length],
        protocol=protocol,
        type=kind,
        metric=integer(found.get(RTA_PRIORITY, b"\0")),
        nexthop=integer(found.get(RTA_NH_ID, b"\0")),
        device=integer(found.get(RTA_OIF, b"\0")),
    )


def is_end(route: Route) -> bool:
    """Whether a route is the unreachable default that we end a VRF with."""
    return (
        route.protocol == PROTOCOL
        and route.type == RTN_UNREACHABLE
        and route.metric == UNREACHABLE_METRIC
        and route.prefix == LENGTHS[0]
    )


def nexthop(body: bytes, names: Names) -> tuple[int, Leaf | Group] | None:
    """Decode a nexthop object of ours."""
    family, _, protocol, _, _ = NEXTHOP.unpack_from(body)
    if protocol != PROTOCOL:
        return None
    found = attributes(body, NEXTHOP.size)
    key = integer(found[NHA_ID])
    if (members := found.get(NHA_GROUP)) is not None:
        ids, weights, *_ = zip(*MEMBER.iter_unpack(members), strict=True)
        return key, Group(ids, tuple(weight + 1 for weight in weights) if any(weights) else ())
    afi = AFI[family]
    if NHA_BLACKHOLE in found:
        return key, Leaf(afi, None)
    label = None
    if (encapsulation := found.get(NHA_ENCAP)) is not None:
        label = _label(attributes(encapsulation).get(1, b""))
    return key, Leaf(afi, _named(found[NHA_OIF], names), label, found.get(NHA_GATEWAY))


def label_route(body: bytes, names: Names) -> tuple[int, MplsRoute] | None:
    """Decode a label route of ours."""
    if body[0] != AF_MPLS or body[5] != PROTOCOL:
        return None
    found = attributes(body, ROUTE.size)
    label = _label(found.get(RTA_DST, b""))
    if label is None:
        return None
    via = found.get(RTA_VIA)
    return label, MplsRoute(_named(found.get(RTA_OIF, b""), names), via[2:] if via else None)


def address(body: bytes) -> tuple[int, bytes, int] | None:
    """Decode an address that is not link-local: device index, address, prefix length."""
    _, length, _, _, device = ADDRESS.unpack_from(body)
    found = attributes(body, ADDRESS.size)
    octets = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS)
    if octets is None or (octets[0] == 0xFE and octets[1] & 0xC0 == 0x80 and len(octets) == 16):
        return None
    return device, octets, length


def neighbour(body: bytes) -> tuple[int, bytes, bytes] | None:
    """Decode a neighbour of ours: device index, IP address, MAC."""
    family, device, state, _, _ = NEIGHBOUR.unpack_from(body)
    if family not in AFI:
        return None
    found = attributes(body, NEIGHBOUR.size)
    if found.get(NDA_PROTOCOL) != bytes((PROTOCOL,)):
        return None
    return device, found[NDA_DST], found.get(NDA_LLADDR, b"") if state & NUD_PERMANENT else b""


class Entry(NamedTuple):
    """A forwarding entry, of a VXLAN device (`vtep`) or of a bridge."""

    device: int  # index: the VXLAN device, or the port of the bridge
    mac: bytes
    vtep: bytes | None
    vni: int | None  # None: that of the device
    bridge: int  # index; 0 for the entry of a VXLAN device
    state: int


def entry(body: bytes) -> Entry | None:
    """Decode a forwarding entry."""
    family, device, state, flags, _ = NEIGHBOUR.unpack_from(body)
    if family != AF_BRIDGE:
        return None
    found = attributes(body, NEIGHBOUR.size)
    mac = found.get(NDA_LLADDR)
    if mac is None:
        return None
    vni = found.get(NDA_VNI)
    return Entry(
        device,
        mac,
        found.get(NDA_DST) if flags & NTF_SELF else None,
        None if vni is None else integer(vni),
        integer(found.get(NDA_MASTER, b"\0")),
        state,
    )


def forwarding(
    messages: Iterable[Message], vxlans: Mapping[int, tuple[str, int]]
) -> tuple[dict[tuple[str, bytes], tuple[bytes, int]], dict[tuple[str, bytes], int]]:
    """Return the fdb and the flood rows of the VXLAN devices, given by index as (name, VNI).

    A MAC of which the bridge has no entry at that port is half there: its row has no VTEP, and so is never in order.
    """
    fdb: dict[tuple[str, bytes], tuple[bytes, int]] = {}
    flood: dict[tuple[str, bytes], int] = {}
    bridged: set[tuple[str, bytes]] = set()
    for message in messages:
        seen = entry(message.body)
        if seen is None:
            continue
        if seen.device not in vxlans:
            continue
        device, vni = vxlans[seen.device]
        if seen.bridge:
            bridged.add((device, seen.mac))
        elif seen.vtep is not None:
            vni = vni if seen.vni is None else seen.vni
            if any(seen.mac):
                fdb[(device, seen.mac)] = (seen.vtep if seen.state & NUD_NOARP else b"", vni)  # else it would age
            else:
                flood[(device, seen.vtep)] = vni
    for key, (_, vni) in fdb.items():
        if key not in bridged:
            fdb[key] = (b"", vni)
    return fdb, flood


def _label(stack: bytes) -> int | None:
    return int.from_bytes(stack, "big") >> 12 if len(stack) == 4 else None


def _named(index: bytes, names: Names) -> str:
    return names.get(integer(index), f"#{integer(index)}")
