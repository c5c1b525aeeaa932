"""Other ways to the routes than the demo's: FRR as route reflector, eBGP behind it, RT membership with GoBGP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.runner import Lab, eventually
from tests.interop.labs import HUB, Hub, Node, Site, bridged, connected, gobgp, reaches, routed, star

BLUE = tuple(routed(f"blue{number}", number) for number in (1, 2, 3))
SEG = (bridged("seg1", 1), bridged("seg2", 2))
SECRET = "not-to-be-seen"


def frr() -> Hub:
    """FRR as reflector of nodes 1 and 2, and by eBGP with node 3, two hops away and with a password."""
    lines = [
        "router bgp 64512",
        f" bgp router-id {HUB}",
        " no bgp default ipv4-unicast",
        " no bgp ebgp-requires-policy",
        " bgp graceful-restart",
        *(f" neighbor 192.0.2.{number} remote-as 64512" for number in (1, 2)),
        " neighbor 192.0.2.3 remote-as 64513",
        " neighbor 192.0.2.3 ebgp-multihop 2",
        f" neighbor 192.0.2.3 password {SECRET}",
    ]
    for number in (1, 2, 3):
        lines += [f" neighbor 192.0.2.{number} {what}" for what in (f"update-source {HUB}", "timers connect 1")]
    for family in ("ipv4 vpn", "ipv6 vpn", "l2vpn evpn"):
        lines.append(f" address-family {family}")
        lines += [f"  neighbor 192.0.2.{number} activate" for number in (1, 2, 3)]
        lines += [f"  neighbor 192.0.2.{number} route-reflector-client" for number in (1, 2)]
        lines += [f"  neighbor 192.0.2.{number} attribute-unchanged next-hop" for number in (1, 2, 3)]
        lines.append(" exit-address-family")
    daemons = "zebra=yes\nbgpd=yes\nvtysh_enable=yes\n"
    return Hub("frr", {"/etc/frr/daemons": daemons, "/etc/frr/frr.conf": "\n".join([*lines, "exit", ""])})


@pytest.fixture(scope="module")
def behind_frr(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    sites = (Site(1), Site(2), Site(3, peers=(), local_as=64513))
    with star(tmp_path_factory.mktemp("frr"), "behind-frr", sites, BLUE + SEG, frr()) as lab:
        for number in (1, 2):
            Node(lab, number).join_l3(BLUE[number - 1])
            Node(lab, number).join_l2(SEG[number - 1])
        yield lab


def test_tenants_reach_each_other_through_frr_as_reflector(behind_frr: Lab) -> None:
    connected(behind_frr, "blue1", *BLUE[1].ips)
    connected(behind_frr, "seg1", *SEG[1].ips)
    assert Node(behind_frr, 1).ready
    assert Node(behind_frr, 2).ready


def test_own_routes_that_frr_reflects_are_refused_and_it_is_said(behind_frr: Lab) -> None:
    node = Node(behind_frr, 1)
    eventually(lambda: node.session()["routes_refused"] >= 2, 10, "our own routes came back")
    refused = node.api.get("explain", prefix="10.1.1.10/32")["refused"]
    assert [(each["source"], "ORIGINATOR_ID is ours" in each["reason"]) for each in refused] == [(HUB, True)]
    assert not [route for route in node.routes() if route["next_hop"] == "192.0.2.1"]


def test_tenants_reach_each_other_over_ebgp_of_several_hops_with_a_password(behind_frr: Lab) -> None:
    one, three = Node(behind_frr, 1), Node(behind_frr, 3)
    three.join_l3(BLUE[2])
    policies = {"import_policy": "accept", "export_policy": "accept"}  # else nothing passes (RFC 8212)
    three.make("peers", "pe", address=HUB, remote_as=64512, multihop_ttl=2, password="wrong", **policies)
    eventually(lambda: three.session()["last_error"], 20, "the wrong password leads nowhere")
    assert three.session()["state"] != "established"
    three.api.patch({"password": SECRET}, "peers", "pe")
    connected(behind_frr, "blue3", *BLUE[0].ips, *BLUE[1].ips)
    heard = [route for route in one.routes() if route["as_path"]]
    assert {(route["next_hop"], *route["as_path"]) for route in heard} == {("192.0.2.3", 64513)}
    assert SECRET not in str(three.api.get("peers")) + behind_frr.log("node3", "bgpvpnd")


@pytest.fixture(scope="module")
def behind_gobgp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    families = ("vpnv4", "vpnv6", "evpn", "rtc")
    peer = f'address = "{HUB}"\nremote_as = 64512\nfamilies = ["vpnv4", "vpnv6", "evpn", "rtc"]\n'
    reds = (routed("red1", 1), routed("red2", 2))
    blues = (routed("blue1", 1), routed("blue2", 2))
    hub = gobgp(2, families)
    sites = (Site(1, (peer,)), Site(2, (peer,)))
    with star(tmp_path_factory.mktemp("rtc"), "behind-gobgp", sites, (*blues, *reds), hub) as lab:
        for number in (1, 2):
            Node(lab, number).join_l3(blues[number - 1])
        Node(lab, 2).join_l3(reds[1], "red", "64512:200")
        yield lab


def test_node_receives_what_it_imports_and_a_bind_brings_more_in_the_same_session(behind_gobgp: Lab) -> None:
    one, two = Node(behind_gobgp, 1), Node(behind_gobgp, 2)
    connected(behind_gobgp, "blue1", *routed("blue2", 2).ips)
    eventually(lambda: one.ready and two.ready, 20, "all is settled")
    assert targets_sent_to(behind_gobgp, 1) == {"64512:100"}

    one.join_l3(routed("red1", 1), "red", "64512:200")
    connected(behind_gobgp, "red1", *routed("red2", 2).ips)
    assert targets_sent_to(behind_gobgp, 1) == {"64512:100", "64512:200"}
    assert {target for route in two.routes(family="vpnv4") for target in route["route_targets"]} == {
        "64512:100",
        "64512:200",
    }

    one.unbind("red")
    eventually(lambda: targets_sent_to(behind_gobgp, 1) == {"64512:100"}, 10, "the routes of red are taken back")
    eventually(lambda: not one.heard("10.1.2.10/32", rt="64512:200"), 10, "node1 has them no more")
    assert reaches(behind_gobgp, "blue1", *routed("blue2", 2).ips)
    assert [node.session()["established"] for node in (one, two)] == [1, 1]


def targets_sent_to(lab: Lab, number: int) -> set[str]:
    """The route targets of what the reflector tells a node, by its own word."""
    said = lab.run("hub", "gobgp", "neighbor", f"192.0.2.{number}", "adj-out", "-a", "vpnv4")
    return {target for target in ("64512:100", "64512:200") if target in said}
