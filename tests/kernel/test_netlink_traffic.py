"""What rows alone do to packets: two nodes, each with a dataplane of its own, and tenants behind them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from bgpvpn.dataplane.netlink import Netlink
from bgpvpn.dataplane.rows import (
    NEXTHOP_BASE,
    UNREACHABLE_METRIC,
    Attached,
    BridgeLink,
    Group,
    Leaf,
    MplsRoute,
    Operation,
    TunnelLink,
    VrfLink,
    VxlanLink,
)
from tests.kernel.namespaces import answers, inside, ip, namespaces, prefix, sh, silent, within

NODES = ("rows-left", "rows-right")
TENANTS = ("rows-a", "rows-b")
GATEWAY_MAC = b"\2\0\0\0\0\1"
LEAF4, LEAF6, GROUP4, GROUP6 = (NEXTHOP_BASE + at for at in range(1, 5))


@pytest.fixture(autouse=True)
def nodes() -> Iterator[None]:
    """Two nodes with an underlay between them; interface tap0 of each leads to a tenant's eth0."""
    with namespaces(*NODES, *TENANTS):
        sh("ip link add core netns rows-left type veth peer name core netns rows-right")
        for at, (node, tenant) in enumerate(zip(NODES, TENANTS, strict=True), start=1):
            within(
                node,
                f"link add tap0 type veth peer name eth0 netns {tenant} address 02:00:00:00:01:0{at}",
                f"address add 192.0.2.{at}/24 dev core",
                f"address add 2001:db8::{at}/64 dev core nodad",
                "link set core up",
            )
            within(tenant, "link set eth0 up")
        yield


@contextmanager
def dataplanes(*operations: list[Operation]) -> Iterator[list[Netlink]]:
    """Do operations in each node; the dataplanes are to be used inside theirs."""
    with ExitStack() as stack:
        opened = []
        for node, wanted in zip(NODES, operations, strict=True):
            with inside(node):
                netlink = stack.enter_context(contextlib.closing(Netlink(labels=range(16, 10_000))))
                assert netlink.apply(wanted) == {}
                opened.append(netlink)
        yield opened


def made(*rows: tuple[object, ...]) -> list[Operation]:
    return [(*row, None) for row in rows]


def vpn(here: int, there: int, core: str) -> list[Operation]:
    """A VRF with a gateway for 10.0.HERE.0/24 and fd00:HERE::/64, and routes to those of the other node."""
    local, remote = ip(f"{core}{here}"), ip(f"{core}{there}")
    return made(
        ("link", "bv-vrf100", VrfLink("bgpvpn:vrf:blue", 100)),
        ("unreachable", (100, 4), UNREACHABLE_METRIC),
        ("unreachable", (100, 6), UNREACHABLE_METRIC),
        ("link", "bv-br1", BridgeLink("bgpvpn:bridge:net", GATEWAY_MAC, None, "bv-vrf100", gateway=True)),
        ("link", "bv-gto", TunnelLink("bgpvpn:tunnel:to", local, remote)),
        ("link", "bv-grx", TunnelLink("bgpvpn:tunnel:rx", local, bytes(len(local)))),
        ("address", ("bv-br1", ip(f"10.0.{here}.1")), 24),
        ("address", ("bv-br1", ip(f"fd00:{here}::1")), 64),
        ("attachment", "port", Attached("tap0", "", "bv-br1")),
        ("nexthop", LEAF4, Leaf(4, "bv-gto", label=1000 + there)),
        ("nexthop", LEAF6, Leaf(6, "bv-gto", label=1000 + there)),
        ("nexthop", GROUP4, Group((LEAF4,))),
        ("nexthop", GROUP6, Group((LEAF6,))),
        ("mpls", 1000 + here, MplsRoute("bv-vrf100")),
    )


def tenants_of_a_vpn() -> None:
    for at, tenant in enumerate(TENANTS, start=1):
        within(
            tenant,
            f"address add 10.0.{at}.5/24 dev eth0",
            f"address add fd00:{at}::5/64 dev eth0 nodad",
            f"route add default via 10.0.{at}.1",
            f"route add default via fd00:{at}::1",
        )


@pytest.mark.parametrize("core", ["192.0.2.", "2001:db8::"])
def test_tenants_of_two_nodes_reach_each_other_by_mpls_over_gre(core: str) -> None:
    with dataplanes(vpn(1, 2, core), vpn(2, 1, core)) as planes:
        tenants_of_a_vpn()
        for node, plane, there in zip(NODES, planes, (2, 1), strict=True):
            with inside(node):
                assert plane.write_routes((100, 4), {GROUP4: [prefix(f"10.0.{there}.0/24")]}) == {}
                assert plane.write_routes((100, 6), {GROUP6: [prefix(f"fd00:{there}::/64")]}) == {}
        with inside("rows-a"):
            assert answers("10.0.2.5")
            assert answers("fd00:2::5")
        with inside("rows-left"):
            # The loss of the PE: what the routes lead to changes, and no route.
            blackhole = [("nexthop", LEAF4, Leaf(4, None), Leaf(4, "bv-gto", label=1002))]
            assert planes[0].apply(blackhole) == {}
        with inside("rows-a"):
            assert silent("10.0.2.5")
            assert answers("fd00:2::5")


def test_tenants_reach_a_neighbour_by_its_own_label() -> None:
    with dataplanes(vpn(1, 2, "192.0.2."), vpn(2, 1, "192.0.2.")) as (left, right):
        tenants_of_a_vpn()
        with inside("rows-right"):
            right.write_routes((100, 4), {GROUP4: [prefix("10.0.1.0/24")]})
            right.write_routes((100, 6), {GROUP6: [prefix("fd00:1::/64")]})
            assert right.apply(made(("mpls", 2004, MplsRoute("bv-br1", ip("10.0.2.5"))))) == {}
            assert right.apply(made(("mpls", 2006, MplsRoute("bv-br1", ip("fd00:2::5"))))) == {}
        with inside("rows-left"):
            for leaf, afi, label in ((LEAF4, 4, 2004), (LEAF6, 6, 2006)):
                assert left.apply([("nexthop", leaf, Leaf(afi, "bv-gto", label=label), 0)]) == {}
            left.write_routes((100, 4), {GROUP4: [prefix("10.0.2.5/32")]})
            left.write_routes((100, 6), {GROUP6: [prefix("fd00:2::5/128")]})
        with inside("rows-a"):
            assert answers("10.0.2.5")
            assert answers("fd00:2::5")


def test_tenants_do_not_reach_the_node_nor_its_networks() -> None:
    with dataplanes(vpn(1, 2, "192.0.2."), vpn(2, 1, "192.0.2.")) as (left, right):
        tenants_of_a_vpn()
        sh("ip -n rows-left address add 10.0.2.5/32 dev core")  # an address that a tenant elsewhere has too
        sh("ip -n rows-right route add 10.0.1.0/24 via 192.0.2.1")  # so that the network could answer
        with inside("rows-left"):
            left.write_routes((100, 4), {GROUP4: [prefix("10.0.2.0/24")]})
        with inside("rows-a"):
            assert answers("10.0.1.1")  # its gateway
            assert answers("fd00:1::1")
            for address in ("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"):
                assert silent(address), address
        with inside("rows-right"):
            right.write_routes((100, 4), {GROUP4: [prefix("10.0.1.0/24")]})
        with inside("rows-a"):
            assert answers("10.0.2.5")
        assert received("rows-right", "bv-gto") > 0  # it was the tenant elsewhere who answered, not the node


def received(node: str, device: str) -> int:
    """Packets that a device has received."""
    (link,) = json.loads(sh(f"ip -n {node} -s -j link show {device}"))
    return int(link["stats64"]["rx"]["packets"])


@pytest.mark.parametrize("core", ["192.0.2.", "2001:db8::"])
def test_one_tunnel_receives_from_all(core: str) -> None:
    way_back = {"bv-gto", LEAF4, LEAF6, GROUP4, GROUP6}
    no_way_back = [operation for operation in vpn(2, 1, core) if operation[1] not in way_back]
    with dataplanes(vpn(1, 2, core), no_way_back) as (left, _):
        tenants_of_a_vpn()
        with inside("rows-left"):
            left.write_routes((100, 4), {GROUP4: [prefix("10.0.2.0/24")]})
        with inside("rows-a"):
            assert silent("10.0.2.5")
        assert received("rows-right", "bv-grx") == 1
        assert received("rows-b", "eth0") > 0


def segment(here: int, there: int, core: str, master: str | None) -> list[Operation]:
    """A bridge with VXLAN to the other node, that knows the other's tenant 10.0.0.THERE."""
    vtep, mac = ip(f"{core}{there}"), bytes((2, 0, 0, 0, 1, there))
    vrf = made(("link", "bv-vrf100", VrfLink("bgpvpn:vrf:blue", 100)), ("unreachable", (100, 4), UNREACHABLE_METRIC))
    return (vrf if master else []) + made(
        ("link", "bv-br1", BridgeLink("bgpvpn:bridge:net", master=master)),
        ("link", "bv-vx5", VxlanLink("bgpvpn:vxlan:5", 5, ip(f"{core}{here}"), 4789, "bv-br1")),
        ("attachment", "port", Attached("tap0", "", "bv-br1")),
        ("fdb", ("bv-vx5", mac), (vtep, 5)),
        ("neighbour", ("bv-br1", ip(f"10.0.0.{there}")), mac),
        ("neighbour", ("bv-br1", ip(f"fd00::{there}")), mac),
    )


def tenants_of_a_segment() -> None:
    for at, tenant in enumerate(TENANTS, start=1):
        within(tenant, f"address add 10.0.0.{at}/24 dev eth0", f"address add fd00::{at}/64 dev eth0 nodad")


@pytest.mark.parametrize(("core", "master"), [("192.0.2.", None), ("2001:db8::", "bv-vrf100")])
def test_tenants_of_one_segment_reach_each_other_by_vxlan_without_flooding(core: str, master: str | None) -> None:
    with dataplanes(segment(1, 2, core, master), segment(2, 1, core, master)):
        tenants_of_a_segment()
        with inside("rows-a"):
            assert answers("10.0.0.2")  # there is no flooding: the bridge answered ARP and neighbour discovery
            assert answers("fd00::2")
            assert silent("10.0.0.9")


def test_a_segment_floods_to_the_nodes_that_it_is_told() -> None:
    with dataplanes(segment(1, 2, "192.0.2.", None)[:3], segment(2, 1, "192.0.2.", None)[:3]) as planes:
        tenants_of_a_segment()
        with inside("rows-a"):
            assert silent("10.0.0.2")
        for node, plane, there in zip(NODES, planes, (2, 1), strict=True):
            with inside(node):
                assert plane.apply(made(("flood", ("bv-vx5", ip(f"192.0.2.{there}")), 5))) == {}
        with inside("rows-a"):
            assert answers("10.0.0.2")
            assert answers("fd00::2")


def test_a_bridge_without_a_vrf_routes_nothing() -> None:
    with dataplanes(segment(1, 2, "192.0.2.", None), segment(2, 1, "192.0.2.", None)):
        tenants_of_a_segment()
        bridge = sh("ip -n rows-left -o link show bv-br1").split("link/ether ")[1].split()[0]
        within(
            "rows-a",
            f"neighbour add 10.0.0.99 lladdr {bridge} dev eth0",
            f"neighbour add fd00::99 lladdr {bridge} dev eth0",
            "route add 192.0.2.0/24 via 10.0.0.99",
            "route add 2001:db8::/64 via fd00::99",
        )
        # So that answers could find their way.
        within("rows-left", "route add 10.0.0.0/24 dev bv-br1", "route add fd00::/64 dev bv-br1")
        within("rows-right", "route add 10.0.0.0/24 via 192.0.2.1", "route add fd00::/64 via 2001:db8::1")
        sh("ip netns exec rows-left sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
        with inside("rows-a"):
            for address in ("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"):
                assert silent(address), address
