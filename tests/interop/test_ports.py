"""Ports of every kind, live on two nodes that speak with each other and nobody else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.runner import Lab, eventually
from tests.interop.labs import Host, Node, Site, connected, reaches, routed, star

ONE, TWO = routed("blue1", 1), routed("blue2", 2)
AWAY = Host("away1", 1, "02:00:00:00:01:30", ("10.1.1.30/24", "2001:db8:1::30/64"), ONE.gateways)
ALONE = Host("alone1", 1, "02:00:00:00:01:40", ("10.1.4.10/24", "2001:db8:4::10/64"), ("10.1.4.1", "2001:db8:4::1"))

SITES = (
    Site(1, ('address = "192.0.2.2"\nremote_as = 64512\n',)),
    Site(2, ('address = "192.0.2.1"\nremote_as = 64512\n',)),
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with star(tmp_path_factory.mktemp("ports"), "ports", SITES, (ONE, TWO, AWAY, ALONE)) as lab:
        for number, host in ((1, ONE), (2, TWO)):
            Node(lab, number).join_l3(host)
        connected(lab, "blue2", *ONE.ips)
        yield lab


def test_port_waits_for_its_interface_and_is_announced_while_it_is_there(lab: Lab) -> None:
    here, there = Node(lab, 1), Node(lab, 2)
    late = Host("late1", 1, "02:00:00:00:01:20", ("10.1.1.20/24",))
    here.attach(late, "blue-net")
    assert here.state_of("ports", "late1") == (
        "PENDING",
        f"port {here.id_of('ports', 'late1')}: there is no interface late1",
    )
    for _ in range(2):
        lab.run("node1", "ip", "link", "add", "late1", "type", "dummy")
        eventually(lambda: here.state_of("ports", "late1")[0] == "ACTIVE", 5, "the port is active")
        eventually(lambda: there.heard("10.1.1.20/32"), 5, "the other node hears of it")
        lab.run("node1", "ip", "link", "delete", "late1")
        eventually(lambda: here.state_of("ports", "late1")[0] == "PENDING", 5, "the port waits again")
        eventually(lambda: not there.heard("10.1.1.20/32"), 5, "the other node hears of it no more")
    here.api.delete("ports", "late1")


def test_interface_of_another_namespace_is_used_and_given_back(lab: Lab) -> None:
    here = Node(lab, 1)

    def inside(*command: str) -> str:
        """Namespaces are mounts, and each process of a node has mounts of its own: these are the daemon's."""
        return lab.run("node1", "nsenter", f"--mount=/proc/{here.pid}/ns/mnt", *command)

    inside("ip", "netns", "add", "tenant")
    inside("ip", "link", "set", "away1", "netns", "tenant")
    here.make(
        "ports",
        "away1",
        network_id="blue-net",
        interface="away1",
        netns="tenant",
        mac_address=AWAY.mac,
        ip_addresses=AWAY.ips,
    )
    connected(lab, "blue2", *AWAY.ips)
    assert "away1" not in inside("ip", "-n", "tenant", "link", "show")
    here.api.delete("ports", "away1")
    eventually(lambda: "away1" in inside("ip", "-n", "tenant", "link", "show"), 5, "the interface is back")
    assert "bgpvpn" not in inside("ip", "-n", "tenant", "-details", "link", "show", "away1")
    inside("ip", "netns", "delete", "tenant")


def test_port_without_a_network_is_bound_straight_to_a_vpn(lab: Lab) -> None:
    here = Node(lab, 1)
    here.make(
        "ports",
        "alone1",
        interface="alone1",
        mac_address=ALONE.mac,
        ip_addresses=ALONE.addresses,
        gateway_ips=ALONE.gateways,
    )
    assert here.state_of("ports", "alone1")[0] == "DOWN"
    here.bind("blue", port_id="alone1")
    connected(lab, "blue2", *ALONE.ips)
    connected(lab, "blue1", *ALONE.ips)  # from another segment of the same node
    here.api.delete("ports", "alone1")
    eventually(lambda: not reaches(lab, "blue2", ALONE.ips[0]), 5, "it is gone")


def test_prefixes_behind_a_port_are_reached_from_the_other_node(lab: Lab) -> None:
    here, there = Node(lab, 1), Node(lab, 2)
    for address in ("10.9.0.1/24", "2001:db8:9::1/64"):
        lab.run("blue1", "ip", "address", "add", address, "dev", "lo")
    binding = here.bind(
        "blue",
        port_id="blue1",
        routes=[{"type": "prefix", "prefix": each} for each in ("10.9.0.0/24", "2001:db8:9::/64")],
    )
    connected(lab, "blue2", "10.9.0.1", "2001:db8:9::1")
    here.api.delete("associations", binding["id"])
    eventually(lambda: not there.heard("10.9.0.0/24") and not there.heard("2001:db8:9::/64"), 5, "they are withdrawn")
    assert reaches(lab, "blue2", *ONE.ips)
