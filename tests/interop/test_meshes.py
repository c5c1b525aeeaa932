"""Three nodes that speak with each other over an IPv6-only underlay: L3VPN, EVPN, and a MAC address that moves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.runner import Lab, eventually
from tests.interop.labs import Host, Node, Site, bridged, connected, pinging, reaches, routed, star, tunnel_ip

BLUE = (routed("blue1", 1), routed("blue2", 2))
SEG = {number: bridged(f"seg{number}", number) for number in (1, 2, 3)}
NEAR = Host("near1", 1, "02:00:00:00:03:01", ("10.2.0.11/24", "2001:db8:2::11/64"))
MOVED = Host("moved1", 2, SEG[1].mac, SEG[1].addresses)
NUMBERS = (1, 2, 3)


def site(number: int) -> Site:
    others = [other for other in NUMBERS if other != number]
    return Site(number, tuple(f'address = "{tunnel_ip(other, 6)}"\nremote_as = 64512\n' for other in others))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    hosts = (*BLUE, *SEG.values(), NEAR, MOVED)
    with star(tmp_path_factory.mktemp("mesh"), "mesh", tuple(map(site, NUMBERS)), hosts, version=6) as lab:
        for number in NUMBERS:
            if number < 3:
                Node(lab, number).join_l3(BLUE[number - 1])
            Node(lab, number).join_l2(SEG[number])
        yield lab


def test_tenants_reach_each_other_over_an_ipv6_underlay(lab: Lab) -> None:
    connected(lab, "blue1", *BLUE[1].ips)
    connected(lab, "blue2", *BLUE[0].ips)
    for number in (2, 3):
        connected(lab, "seg1", *SEG[number].ips)
    eventually(lambda: all(Node(lab, number).ready for number in NUMBERS), 10, "all is settled")


def test_mac_that_moves_is_followed_while_its_old_port_is_still_there(lab: Lab) -> None:
    """As a virtual machine in its migration: it is at both nodes for a while, then only at the new one."""
    one, two, three = (Node(lab, number) for number in NUMBERS)
    one.attach(NEAR, "seg-net")
    for source in ("seg3", "near1"):
        connected(lab, source, SEG[1].ips[0])
    assert behind(three, SEG[1].mac) == {tunnel_ip(1, 6): ""}

    with pinging(lab, "seg3", SEG[1].ips[0]) as from_afar, pinging(lab, "near1", SEG[1].ips[0]) as from_nearby:
        two.attach(MOVED, "seg-net")
        eventually(lambda: behind(three, SEG[1].mac) == {tunnel_ip(2, 6): "mac-mobility:1"}, 5, "the new place wins")
        leads = f"its MAC {SEG[1].mac} lives behind VTEP {tunnel_ip(2, 6)} now"
        eventually(lambda: leads in str(one.api.get("explain", port="seg1")), 5, "the old node knows and says so")
        eventually(lambda: one.ready and three.ready, 5, "the kernels follow")
        lab.run("seg1", "ip", "address", "flush", "dev", "eth1")
        assert reaches(lab, "seg3", *SEG[1].ips)
        assert reaches(lab, "near1", *SEG[1].ips)
        one.api.delete("ports", "seg1")
        assert reaches(lab, "seg3", *SEG[1].ips)
        assert reaches(lab, "near1", *SEG[1].ips)
    assert (from_afar.lost, from_nearby.lost) == (0, 0)
    assert behind(three, SEG[1].mac) == {tunnel_ip(2, 6): "mac-mobility:1"}


def behind(node: Node, mac: str) -> dict[str, str]:
    """VTEPs by which a MAC address is announced, with the community that tells how often it moved."""
    return {
        route["next_hop"]: "".join(each for each in route["extended_communities"] if each.startswith("mac-mobility"))
        for route in node.routes(family="evpn")
        if f"[{mac}]" in route["nlri"]
    }
