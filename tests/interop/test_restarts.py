"""The route reflector goes and comes back: what two nodes do as helpers of its restart (RFC 4724 section 4.2)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.runner import Lab, eventually
from tests.interop.labs import (
    Node,
    Site,
    Stream,
    bridged,
    connected,
    gobgp,
    gobgp_settings,
    killed,
    reaches,
    routed,
    star,
)

FAMILIES = ("vpnv4", "vpnv6", "evpn")
BLUE, SEG = (routed("blue1", 1), routed("blue2", 2)), (bridged("seg1", 1), bridged("seg2", 2))
GOBGPD = ("gobgpd", "-f", "/etc/gobgp/gobgpd.toml", "--api-hosts", "127.0.0.1:50051", "--log-plain")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with star(tmp_path_factory.mktemp("restarts"), "restarts", (Site(1), Site(2)), BLUE + SEG, gobgp(2)) as lab:
        for number in (1, 2):
            node = Node(lab, number)
            node.join_l3(BLUE[number - 1])
            node.join_l2(SEG[number - 1])
        connected(lab, "blue1", *BLUE[1].ips)
        connected(lab, "seg1", *SEG[1].ips)
        eventually(lambda: all(node.ready for node in nodes(lab)), 10, "all is settled")
        yield lab


def nodes(lab: Lab) -> tuple[Node, Node]:
    return Node(lab, 1), Node(lab, 2)


def kill_reflector(lab: Lab) -> None:
    killed(lab, "hub", "gobgpd")
    eventually(lambda: all(node.session()["state"] != "established" for node in nodes(lab)), 5, "the loss is seen")


def start_reflector(lab: Lab) -> None:
    """Start it as one that was there before: `-r` says in its OPEN that it kept its forwarding state."""
    lab.spawn("hub", "gobgpd", (*GOBGPD, "-r"))


def refreshed(node: Node) -> bool:
    session = node.session()
    return session["state"] == "established" and session["synced"] and not session["routes_stale"]


def test_nothing_is_lost_and_nothing_written_while_the_reflector_restarts(lab: Lab) -> None:
    kernel = [node.kernel() for node in nodes(lab)]
    written = [node.messages() for node in nodes(lab)]
    routes = [node.routes() for node in nodes(lab)]
    stream = Stream(lab, "blue1", "blue2", BLUE[1].ips[0], 12)
    kill_reflector(lab)
    assert [node.session()["routes_stale"] for node in nodes(lab)] == [len(each) for each in routes]
    start_reflector(lab)
    for node in nodes(lab):
        eventually(lambda node=node: refreshed(node), 20, f"{node.name} has all routes anew")  # type: ignore[misc]
    assert stream.flows
    assert [node.routes() for node in nodes(lab)] == routes
    assert [node.messages() for node in nodes(lab)] == written
    assert [node.changes(state) for node, state in zip(nodes(lab), kernel, strict=True)] == [[], []]
    assert stream.lost() == []


def test_route_that_the_reflector_does_not_know_any_more_is_swept_at_its_end_of_rib(lab: Lab) -> None:
    one, two = nodes(lab)
    kill_reflector(lab)
    two.unbind("seg")
    assert one.heard(SEG[1].mac, family="evpn")
    start_reflector(lab)
    eventually(lambda: refreshed(one), 20, "node1 has all routes anew")
    eventually(lambda: not one.heard(SEG[1].mac, family="evpn"), 5, "the route is swept")
    assert reaches(lab, "blue1", *BLUE[1].ips)
    two.bind("seg", network_id="seg-net")
    connected(lab, "seg1", *SEG[1].ips)


def test_routes_go_when_the_reflector_is_gone_for_longer_than_its_restart_time(lab: Lab) -> None:
    one, _ = nodes(lab)
    settings = lab.folder / "hub/etc/gobgp/gobgpd.toml"
    settings.write_text(gobgp_settings(2, FAMILIES, 3))
    kill_reflector(lab)
    start_reflector(lab)
    eventually(lambda: all(refreshed(node) for node in nodes(lab)), 20, "the restart time is the new one")
    kernel = one.kernel()
    kill_reflector(lab)
    assert reaches(lab, "blue1", BLUE[1].ips[0])
    eventually(lambda: not one.routes(), 10, "the routes are swept")
    assert not reaches(lab, "blue1", BLUE[1].ips[0])
    start_reflector(lab)
    connected(lab, "blue1", *BLUE[1].ips)
    connected(lab, "seg1", *SEG[1].ips)
    one.comes_back_to(kernel)
