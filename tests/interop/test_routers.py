"""Routers, shared interfaces, leaks and ways out, live on two nodes that speak with each other and nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lab.runner import Lab, eventually
from tests.interop.labs import Host, Node, Site, connected, reaches, star

SITES = tuple(Site(n, (f'address = "192.0.2.{3 - n}"\nremote_as = 64512\n',), host=f"n{n}") for n in (1, 2))
MAC = "02:00:00:00:07:{:02x}".format


def host(name: str, node: int, subnet: int, last: int) -> Host:
    """A host with an address of each family in a subnet, and the way out of it."""
    return Host(
        name,
        node,
        MAC(subnet << 4 | last),
        (f"10.7.{subnet}.{last}/24", f"2001:db8:7{subnet}::{last}/64"),
        (f"10.7.{subnet}.1", f"2001:db8:7{subnet}::1"),
    )


ONE, TWO, FAR = host("one", 1, 1, 5), host("two", 1, 2, 5), host("far", 2, 3, 5)
WALL = host("wall", 1, 4, 5)  # forwards, when it is told to
BOTH = Host("both", 1, MAC(0x50), ())  # a switch with two machines
HOSTS = (ONE, TWO, FAR, WALL, BOTH)
X, Y = {"import_targets": ["64512:71"], "export_targets": ["64512:72"]}, {"route_targets": ["64512:73"]}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with star(tmp_path_factory.mktemp("routers"), "routers", SITES, HOSTS) as lab:
        yield lab


class Wished:
    """What is wished of both nodes, as by one controller."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.nodes = [Node(lab, 1), Node(lab, 2)]

    def make(self, kind: str, id_: str, **fields: Any) -> None:
        for node in self.nodes:
            node.api.post({"id": id_, **fields}, kind)

    def change(self, kind: str, id_: str, **fields: Any) -> None:
        for node in self.nodes:
            node.api.patch(fields, kind, id_)

    def remove(self, kind: str, id_: str) -> None:
        for node in self.nodes:
            node.api.delete(kind, id_)

    def network(self, id_: str, *hosts: Host, **more: Any) -> None:
        """Make a network with the subnets and ports of hosts."""
        of = hosts[0]
        self.make("networks", id_, **more)
        for address, gateway in zip(of.addresses, of.gateways, strict=True):
            version = 6 if ":" in address else 4
            self.make("subnets", f"{id_}-{version}", network_id=id_, cidr=prefix_of(address), gateway_ip=gateway)
        for each in hosts:
            self.port(each.name, id_, each)

    def port(self, id_: str, network: str, of: Host, **more: Any) -> None:
        fields = {"mac_address": of.mac, "ip_addresses": list(of.ips), **more}
        self.make("ports", id_, network_id=network, interface=of.name, host=f"n{of.node}", **fields)

    def bind(self, vpn: str, kind: str, of: str, **more: Any) -> None:
        self.make("associations", f"{vpn}-{of}", bgpvpn_id=vpn, **{f"{kind}_id": of}, **more)

    def clear(self) -> None:
        for kind in ("associations", "bgpvpns", "routers", "ports", "networks"):
            for node in self.nodes:
                for each in node.api.get(kind):
                    node.api.delete(kind, each["id"])
        for node in self.nodes:
            eventually(lambda node=node: not node.api.get("instances"), 5, "nothing is left")  # type: ignore[misc]

    def cannot(self, source: str, address: str) -> None:
        """Wait until a host does not reach an address, though the nodes have done all that they were told."""
        for node in self.nodes:
            eventually(lambda node=node: node.ready, 15, f"{node.name} is in order")  # type: ignore[misc]
        eventually(lambda: not reaches(self.lab, source, address), 10, f"{source} does not reach {address}")


def prefix_of(address: str) -> str:
    return address.replace(".5/24", ".0/24").replace("::5/64", "::/64")


@pytest.fixture
def wished(running: Lab) -> Iterator[Wished]:
    wished = Wished(running)
    yield wished
    wished.clear()


def test_networks_of_a_router_reach_each_other_here_whatever_the_targets_and_elsewhere_by_common_ones(
    wished: Wished,
) -> None:
    lab = wished.lab
    wished.network("n1", ONE)
    wished.network("n2", TWO)
    wished.network("n3", FAR)
    wished.make("routers", "r", subnet_ids=["n1-4", "n1-6", "n2-4", "n2-6", "n3-4", "n3-6"])
    wished.make("bgpvpns", "x", **X)
    wished.cannot("one", TWO.ips[0])
    wished.bind("x", "router", "r")
    connected(lab, "one", *TWO.ips)
    connected(lab, "two", *ONE.ips)
    wished.cannot("one", FAR.ips[0])
    wished.change("bgpvpns", "x", import_targets=["64512:72"])
    connected(lab, "one", *FAR.ips)
    connected(lab, "far", *TWO.ips)
    wished.change("routers", "r", subnet_ids=["n1-4", "n1-6", "n3-4"])
    wished.cannot("one", TWO.ips[0])
    wished.cannot("one", FAR.ips[1])
    connected(lab, "one", FAR.ips[0])


def test_extra_routes_of_a_router_lead_to_their_next_hop_from_here_and_from_there(wished: Wished) -> None:
    lab = wished.lab
    lab.run("two", "ip", "address", "replace", "10.77.0.1/32", "dev", "lo")
    wished.network("n1", ONE)
    wished.network("n2", TWO)
    wished.network("n3", FAR)
    extra = [{"destination": "10.77.0.0/16", "nexthop": TWO.ips[0]}]
    wished.make("routers", "r", subnet_ids=["n1-4", "n2-4", "n3-4"], routes=extra)
    wished.make("bgpvpns", "x", route_targets=["64512:71"])
    wished.bind("x", "router", "r", advertise_extra_routes=False)
    connected(lab, "one", "10.77.0.1")
    wished.cannot("far", "10.77.0.1")
    wished.change("associations", "x-r", advertise_extra_routes=True)
    connected(lab, "far", "10.77.0.1")
    wished.change("routers", "r", routes=[])
    wished.cannot("one", "10.77.0.1")
    wished.cannot("far", "10.77.0.1")


def test_two_vpns_reach_each_other_both_ways_through_a_port_that_forwards(wished: Wished) -> None:
    lab = wished.lab
    wished.network("n1", ONE)
    wished.network("n3", FAR)
    wished.network("n4", WALL)
    wished.make("bgpvpns", "x", route_targets=["64512:71"])
    wished.make("bgpvpns", "y", **Y)
    wished.bind("x", "network", "n1")
    wished.bind("y", "network", "n3")
    for vpn, leaked in (("x", "y"), ("y", "x")):
        wished.bind(vpn, "port", "wall", routes=[{"type": "bgpvpn", "bgpvpn_id": leaked}])
    connected(lab, "one", *WALL.ips)
    connected(lab, "far", *WALL.ips)
    for family, address in (("ipv4.ip_forward", FAR.ips[0]), ("ipv6.conf.all.forwarding", FAR.ips[1])):
        wished.cannot("one", address)
        lab.run("wall", "sysctl", "-qw", f"net.{family}=1")
        connected(lab, "one", address)
        lab.run("wall", "sysctl", "-qw", f"net.{family}=0")
        wished.cannot("one", address)
    lab.run("wall", "sysctl", "-qw", "net.ipv4.ip_forward=1")
    connected(lab, "far", ONE.ips[0])
    wished.change("associations", "x-wall", routes=[])
    wished.cannot("far", ONE.ips[0])
    wished.change("associations", "x-wall", routes=[{"type": "bgpvpn", "bgpvpn_id": "y"}])
    connected(lab, "far", ONE.ips[0])
    wished.remove("ports", "wall")
    wished.cannot("far", ONE.ips[0])
    lab.run("wall", "sysctl", "-qw", "net.ipv4.ip_forward=0")


def test_what_no_vpn_has_goes_to_the_router_outside(wished: Wished) -> None:
    lab = wished.lab
    lab.run("wall", "sh", "-c", "ip address replace 10.7.1.77/24 dev eth1; ip address replace 203.0.113.1/32 dev lo")
    outside = Host("wall", 1, WALL.mac, ("10.7.1.77/24",))
    try:
        wished.network("n1", ONE)
        wished.network("n3", FAR)
        wished.port("outside", "n1", outside, device_owner="network:router_interface")
        wished.make("bgpvpns", "x", route_targets=["64512:71"])
        wished.bind("x", "network", "n1")
        wished.bind("x", "network", "n3")
        connected(lab, "one", *FAR.ips)
        wished.cannot("one", "203.0.113.1")
        wished.change("networks", "n1", fallback_mac=WALL.mac)
        connected(lab, "one", "203.0.113.1")
        wished.cannot("far", "203.0.113.1")
        assert reaches(lab, "one", *FAR.ips)
        wished.change("networks", "n1", fallback_mac=None)
        wished.cannot("one", "203.0.113.1")
    finally:
        lab.run("wall", "ip", "address", "del", "10.7.1.77/24", "dev", "eth1")


def test_stations_behind_one_interface_are_reached_each_and_share_what_one_is_bound_to(wished: Wished) -> None:
    lab, here = wished.lab, wished.nodes[0]
    macs = [MAC(0x60 + n) for n in range(2)]
    lines = []
    for n, mac in enumerate(macs):
        lines += [
            f"ip link add m{n} link eth1 address {mac} type macvlan mode bridge",
            f"ip link add v{n} type vrf table {10 + n}",
            f"ip link set v{n} up",
            f"ip link set m{n} master v{n}",
            f"ip link set m{n} up",
            f"ip address add 10.7.1.{20 + n}/24 dev m{n}",
            f"ip route add default via 10.7.1.1 table {10 + n}",
        ]
    lab.run("both", "sh", "-ec", ";".join(lines))
    wished.network("n1", ONE)
    wished.network("n3", FAR)
    wished.make("bgpvpns", "x", route_targets=["64512:71"])
    for network in ("n1", "n3"):
        wished.bind("x", "network", network)
    station = [{"mac_address": mac, "ip_addresses": [f"10.7.1.{20 + n}"]} for n, mac in enumerate(macs)]
    wished.port("b0", "n1", BOTH, **station[0])
    connected(lab, "far", "10.7.1.20")
    wished.cannot("far", "10.7.1.21")
    before = here.messages()["attachment"]
    wished.port("b1", "n1", BOTH, **station[1])
    connected(lab, "far", "10.7.1.20", "10.7.1.21")
    connected(lab, "one", "10.7.1.20", "10.7.1.21")
    assert here.messages()["attachment"] == before + 2, "one mark for another"
    assert here.state_of("ports", "b1") == ("ACTIVE", "")
    wished.make("bgpvpns", "y", **Y)
    wished.bind("y", "port", "b0", direction="to-port")
    state = here.kernel()
    lab.stop("node1", "bgpvpnd")
    lab.start("node1")
    eventually(lambda: here.ready, 20, "the node is in order")
    assert not any(here.messages().values()), "it finds what it left"
    assert here.changes(state) == []
    connected(lab, "far", "10.7.1.20", "10.7.1.21")
    wished.remove("ports", "b0")
    wished.cannot("far", "10.7.1.20")
    assert reaches(lab, "far", "10.7.1.21")


def test_of_two_ports_with_one_prefix_the_preferred_one_has_all_its_packets(wished: Wished) -> None:
    lab = wished.lab
    for each in ("one", "two"):
        lab.run(each, "ip", "address", "replace", "10.78.0.1/32", "dev", "lo")
    wished.network("n1", ONE)
    wished.network("n2", TWO)
    wished.network("n3", FAR)
    wished.make("routers", "r", subnet_ids=["n1-4", "n2-4"])
    wished.make("bgpvpns", "x", route_targets=["64512:71"])
    wished.bind("x", "router", "r")
    wished.bind("x", "network", "n3")

    def route(local_pref: int) -> list[dict[str, Any]]:
        return [{"type": "prefix", "prefix": "10.78.0.0/24", "local_pref": local_pref}]

    for each, local_pref in (("one", 200), ("two", 100)):
        wished.bind("x", "port", each, routes=route(local_pref))

    def asked(of: str) -> bool:
        before = echoes(lab, of)
        return reaches(lab, "far", "10.78.0.1") and echoes(lab, of) > before

    eventually(lambda: asked("one"), 15, "the first answers")
    wished.change("associations", "x-one", routes=route(50))
    eventually(lambda: asked("two"), 15, "the other answers")
    lab.run("node1", "ip", "link", "set", "two", "down")
    lab.run("node1", "ip", "link", "set", "two", "up")
    wished.remove("associations", "x-two")
    eventually(lambda: asked("one"), 15, "the first answers again")


def echoes(lab: Lab, host: str) -> int:
    """How many pings a host has been asked."""
    lines = [line.split() for line in lab.run(host, "cat", "/proc/net/snmp").splitlines()]
    names, values = (words for words in lines if words[0] == "Icmp:")
    return int(values[names.index("InEchos")])
