"""Our netlink messages against an obvious way to make and read them, and against pyroute2."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpvpn.dataplane import decode, encode, links
from bgpvpn.dataplane.rows import (
    NEXTHOP_BASE,
    PROTOCOL,
    ROUTE_METRIC,
    UNREACHABLE_METRIC,
    Afi,
    BridgeLink,
    Operation,
    TunnelLink,
    VrfLink,
    VxlanLink,
)
from bgpvpn.dataplane.wire import CREATE, REPLACE, Message, attribute, messages, number
from bgpvpn.dataplane.wire import encode as whole

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
    from pyroute2.netlink.rtnl.ndmsg import ndmsg
    from pyroute2.netlink.rtnl.rtmsg import rtmsg


@st.composite
def prefixes(draw: st.DrawFn, afi: Afi) -> bytes:
    bits = 32 if afi == 4 else 128
    length = draw(st.integers(0, bits))
    value = draw(st.integers(0, 2**bits - 1)) >> (bits - length) << (bits - length)
    return value.to_bytes(bits // 8, "big")[: (length + 7) // 8] + bytes((length,))


def obvious(at: tuple[int, Afi], nexthop: int | None, prefix: bytes) -> bytes:
    """What `encode.routes` makes, put together attribute by attribute."""
    table, afi = at
    size = 4 if afi == 4 else 16
    removing = nexthop is None
    body = encode.ROUTE.pack(encode.FAMILY[afi], prefix[-1], 0, 0, 0, PROTOCOL, 255 if removing else 0, 1, 0)
    body += attribute(encode.RTA_DST, prefix[:-1].ljust(size, b"\0"))
    body += number(encode.RTA_TABLE, table) + number(encode.RTA_PRIORITY, ROUTE_METRIC)
    if nexthop is not None:
        body += number(encode.RTA_NH_ID, nexthop)
        return whole((encode.NEWROUTE, CREATE | REPLACE, body), 0)
    return whole((encode.DELROUTE, 0, body), 0)


@pytest.mark.parametrize("afi", [4, 6])
@given(st.data())
def test_routes_are_encoded_as_if_attribute_by_attribute(afi: Afi, data: st.DataObject) -> None:
    at = (data.draw(st.integers(1, 2**32 - 1)), afi)
    for nexthop in (None, data.draw(st.integers(1, 2**32 - 1))):
        chosen = data.draw(st.lists(prefixes(afi), max_size=5))
        made = encode.routes(at, nexthop, chosen)
        assert made == [obvious(at, nexthop, prefix) for prefix in chosen]
        assert [encode.prefix_of(message) for message in made] == chosen
        assert {len(message) for message in made} <= {encode.route_size(afi, nexthop is None)}
        assert all(encode.removes(message) == (nexthop is None) for message in made)


@pytest.mark.parametrize("afi", [4, 6])
@given(st.data())
def test_routes_are_decoded_whatever_the_order_of_their_attributes(afi: Afi, data: st.DataObject) -> None:
    chosen = data.draw(st.dictionaries(prefixes(afi), st.integers(1, 2**32 - 1), max_size=5))
    shuffled = random.Random(data.draw(st.integers(0, 1000)))
    for mixed in (False, True):
        found, others = decode.split_routes(told(afi, chosen, shuffled if mixed else None))
        assert found == ({(100, afi): chosen} if chosen else {})
        assert [route.protocol for route in others] == [4]


def told(afi: Afi, routes: dict[bytes, int], shuffled: random.Random | None) -> Iterator[Message]:
    """A dump as the kernel gives it, with a route of somebody else's at its end."""
    size = 4 if afi == 4 else 16
    for protocol, prefix, nexthop in [(PROTOCOL, *route) for route in routes.items()] + [(4, bytes(1), 7)]:
        parts = [number(encode.RTA_TABLE, 100)]
        parts += [attribute(encode.RTA_DST, prefix[:-1].ljust(size, b"\0"))] if prefix[-1] else []
        parts += [number(encode.RTA_PRIORITY, ROUTE_METRIC), number(encode.RTA_NH_ID, nexthop)]
        parts += [number(encode.RTA_OIF, 3), attribute(20, bytes(1))]
        if shuffled:
            shuffled.shuffle(parts)
        head = encode.ROUTE.pack(encode.FAMILY[afi], prefix[-1], 0, 0, 100, protocol, 0, 1, 0)
        yield from messages(whole((encode.NEWROUTE, 0, head + b"".join(parts)), 0))


def read(kind: type, operation: Operation) -> list[object]:
    """What pyroute2 reads in the messages of an operation on device 7."""
    made = []
    for request in encode.requests(operation, lambda _: 7):
        message = kind(whole(request, 1))
        message.decode()
        made.append(message)
    return made


def test_pyroute2_reads_in_our_messages_what_we_mean() -> None:
    (route,) = read(rtmsg, ("unreachable", (100, 6), UNREACHABLE_METRIC, None))
    assert (route["family"], route["dst_len"], route["proto"], route["type"]) == (10, 0, PROTOCOL, 7)
    assert (route.get_attr("RTA_TABLE"), route.get_attr("RTA_PRIORITY")) == (100, UNREACHABLE_METRIC)

    (address,) = read(ifaddrmsg, ("address", ("br", bytes((10, 0, 0, 1))), 24, None))
    assert (address["index"], address["prefixlen"], address.get_attr("IFA_LOCAL")) == (7, 24, "10.0.0.1")

    (neighbour,) = read(ndmsg, ("neighbour", ("br", bytes((10, 0, 0, 9))), b"\2\0\0\0\0\1", None))
    assert (neighbour["ifindex"], neighbour["state"], neighbour["flags"]) == (7, 0x80, 0)
    assert (neighbour.get_attr("NDA_DST"), neighbour.get_attr("NDA_LLADDR")) == ("10.0.0.9", "02:00:00:00:00:01")

    (entry,) = read(ndmsg, ("fdb", ("vx", b"\2\0\0\0\0\1"), (bytes((192, 0, 2, 2)), 77), None))
    assert (entry["family"], entry["ifindex"], entry["flags"]) == (7, 7, 0x02 | 0x04 | 0x40)
    assert (entry.get_attr("NDA_LLADDR"), entry.get_attr("NDA_VNI")) == ("02:00:00:00:00:01", 77)

    message = rtmsg(encode.routes((100, 4), NEXTHOP_BASE, [b"\x0a\x01\x10"])[0])
    message.decode()
    assert (message["dst_len"], message.get_attr("RTA_DST")) == (16, "10.1.0.0")
    assert (message.get_attr("RTA_TABLE"), message.get_attr("RTA_PRIORITY")) == (100, ROUTE_METRIC)


def test_pyroute2_reads_in_what_makes_a_link_what_we_mean() -> None:
    v4, v6 = bytes((192, 0, 2, 1)), bytes.fromhex("20010db8") + bytes(11) + b"\1"
    for link, kind, expected in [
        (VrfLink("", 100), "vrf", {"IFLA_VRF_TABLE": 100}),
        (TunnelLink("", v4, bytes(4)), "gre", {"IFLA_GRE_LOCAL": "192.0.2.1", "IFLA_GRE_REMOTE": "0.0.0.0"}),
        (TunnelLink("", v6, v6), "ip6gre", {"IFLA_IP6GRE_LOCAL": "2001:db8::1", "IFLA_IP6GRE_TTL": 64}),
        (
            BridgeLink(""),
            "bridge",
            {"IFLA_BR_STP_STATE": 0, "IFLA_BR_MCAST_SNOOPING": 0, "IFLA_BR_VLAN_DEFAULT_PVID": 0},
        ),
        (
            VxlanLink("", 5, v4, 4790, "br"),
            "vxlan",
            {"IFLA_VXLAN_ID": 5, "IFLA_VXLAN_PORT": 4790, "IFLA_VXLAN_LEARNING": 0},
        ),
    ]:
        message = ifinfmsg(whole(links.creation("bv-x", link), 1))
        message.decode()
        assert message.get_attr("IFLA_IFNAME") == "bv-x"
        assert message.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") == kind
        found = message.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA")
        assert {name: found.get_attr(name) for name in expected} == expected, kind
