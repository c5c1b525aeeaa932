"""The scenarios by which OpenStack judges a BGPVPN service, with network namespaces as its servers.

They are the 25 scenario tests of neutron-tempest-plugin for BGPVPN, which need virtual machines, replayed from what
they say that they do; the names are theirs.  Both nodes are told the same, as by one controller; servers of network A
are on one node and those of network B on the other.  Five are in every run, the others with --all.

Routers of Neutron are there for floating addresses; ours must not be disturbed by them, and one that is bound to a
VPN brings its networks with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pytest

from lab.runner import Lab, eventually
from tests.interop.labs import Host, Node, Site, connected, reaches, star

SITES = tuple(
    Site(number, (f'address = "192.0.2.{3 - number}"\nremote_as = 64512\n',), host=f"compute{number}")
    for number in (1, 2)
)
SERVERS = tuple(Host(f"s{n}", 2 - n % 2, f"02:00:00:00:05:0{n}", ()) for n in range(1, 6))
"""Odd ones are on node 1, even ones on node 2."""

SUBNETS = {"A": ["10.101.0.0/24", "10.102.0.0/24"], "B": ["10.104.0.0/24", "10.106.0.0/24"], "C": ["10.108.0.0/24"]}
LOOPBACK, BEHIND = "10.107.0.30", "10.107.0.0/24"
RT1, RT2, RT3, RT4 = (f"64512:90{n}" for n in range(1, 5))


class Cloud:
    """What a controller wants of all nodes."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.nodes = [Node(lab, 1), Node(lab, 2)]
        self.made: list[tuple[str, str]] = []

    def create(self, kind: str, id_: str, **fields: Any) -> str:
        for node in self.nodes:
            node.api.post({"id": id_, **fields}, kind)
        self.made.append((kind, id_))
        return id_

    def update(self, kind: str, id_: str, **fields: Any) -> None:
        for node in self.nodes:
            node.api.patch(fields, kind, id_)

    def delete(self, kind: str, id_: str) -> None:
        for node in self.nodes:
            node.api.delete(kind, id_)
        self.made.remove((kind, id_))

    def clear(self) -> None:
        """Remove everything, what refers to others first; nothing of it is left in a node."""
        for kind in ("associations", "bgpvpns", "routers", "ports", "networks"):
            for node in self.nodes:
                for each in node.api.get(kind):
                    node.api.delete(kind, each["id"])
        for node in self.nodes:
            eventually(lambda node=node: not node.api.get("instances"), 5, "nothing is left")  # type: ignore[misc]
        for host in SERVERS:
            self.lab.run(host.name, "sh", "-c", "ip address flush dev eth1; ip address flush dev lo scope global")
        self.made.clear()

    # Neutron's words

    def networks(self, *names: str, subnets: Sequence[str] | None = None) -> None:
        for name in names:
            cidrs = subnets or SUBNETS[name]
            self.create(
                "networks", name, subnets=[{"cidr": cidr, "gateway_ip": cidr.replace(".0/24", ".1")} for cidr in cidrs]
            )

    def server(self, number: int, network: str, address: str, forwards: bool = False) -> None:
        """Start a server: a namespace with an address, behind a port that is on its node."""
        host = SERVERS[number - 1]
        gateway = re.sub(r"\.\d+$", ".1", address)
        commands = f"ip address add {address}/24 dev eth1; ip route replace default via {gateway}"
        self.lab.run(host.name, "sh", "-c", f"{commands}; sysctl -qw net.ipv4.ip_forward={int(forwards)}")
        self.create(
            "ports",
            f"p{number}",
            network_id=network,
            interface=host.name,
            host=f"compute{host.node}",
            mac_address=host.mac,
            ip_addresses=[address],
        )

    def servers(self) -> None:
        self.server(1, "A", "10.101.0.10")
        self.server(2, "B", "10.104.0.20")

    def router(self, network: str) -> str:
        """Make a router on the first subnet of a network."""
        id_ = f"router-{network}"
        subnets = self.nodes[0].api.get("networks", network)["subnets"]
        first = next(each["cidr"] for each in subnets)
        for node in self.nodes:
            ids = [each["id"] for each in node.api.get("networks", network)["subnets"] if each["cidr"] == first]
            node.api.post({"id": id_, "subnet_ids": ids}, "routers")
        self.made.append(("routers", id_))
        return id_

    def bgpvpn(self, id_: str = "vpn", targets: Sequence[str] = (RT1,), **fields: Any) -> str:
        return self.create("bgpvpns", id_, route_targets=list(targets), **fields)

    def associate(self, what: str, ref: str, vpn: str = "vpn", **fields: Any) -> str:
        return self.create("associations", f"{vpn}-{ref}", bgpvpn_id=vpn, **{f"{what}_id": ref}, **fields)

    def associate_all(self) -> None:
        self.associate("network", "A")
        self.associate("network", "B")

    # What is seen

    def can(self, source: int, *addresses: str) -> None:
        """A server can ping addresses."""
        connected(self.lab, f"s{source}", *addresses, within_s=15)

    def cannot(self, source: int, address: str) -> None:
        """A server cannot ping an address, once the nodes have done all that they were told."""
        for node in self.nodes:
            eventually(lambda node=node: node.ready, 15, f"{node.name} is in order")  # type: ignore[misc]
        eventually(lambda: not reaches(self.lab, f"s{source}", address), 10, f"s{source} reaches {address} no more")
        assert not reaches(self.lab, f"s{source}", address)

    def pings(self, number: int) -> int:
        """How many pings a server has been asked."""
        text = self.lab.run(f"s{number}", "cat", "/proc/net/snmp")
        names, values = (line.split() for line in text.splitlines() if line.startswith("Icmp:"))
        return int(values[names.index("InEchos")])

    def answers(self, source: int, address: str, by: int) -> None:
        """It is this server that answers at an address."""

        def asked() -> bool:
            before = self.pings(by)
            return reaches(self.lab, f"s{source}", address) and self.pings(by) > before

        eventually(asked, 15, f"s{by} answers s{source} at {address}")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with star(tmp_path_factory.mktemp("scenarios"), "scenarios", SITES, SERVERS) as lab:
        yield lab


@pytest.fixture
def cloud(running: Lab) -> Iterator[Cloud]:
    cloud = Cloud(running)
    yield cloud
    cloud.clear()


ONE, TWO = "10.101.0.10", "10.104.0.20"

ORDERS = {
    "test_bgpvpn_basic": "servers vpn associate router-A",
    "test_bgpvpn_variant1": "vpn associate servers router-A",
    "test_bgpvpn_variant2": "servers router-B vpn associate router-A",
    "test_bgpvpn_variant3": "servers router-B vpn associate no-router-B router-A",
    "test_bgpvpn_variant4": "servers vpn associate router-B router-A",
    "test_bgpvpn_variant5": "router-B vpn associate servers router-A",
    "test_bgpvpn_variant6": "vpn associate router-B servers router-A",
}


OFTEN = ("test_bgpvpn_variant3",)


@pytest.mark.parametrize(
    "order",
    [pytest.param(order, id=name, marks=() if name in OFTEN else pytest.mark.long) for name, order in ORDERS.items()],
)
def test_the_order_in_which_things_are_made_does_not_matter(cloud: Cloud, order: str) -> None:
    cloud.networks("A", "B")
    steps = {
        "servers": cloud.servers,
        "vpn": cloud.bgpvpn,
        "associate": cloud.associate_all,
        "router-A": partial(cloud.router, "A"),
        "router-B": partial(cloud.router, "B"),
        "no-router-B": partial(cloud.delete, "routers", "router-B"),
    }
    for step in order.split():
        steps[step]()
    cloud.can(1, TWO)
    cloud.can(2, ONE)


DISJOINT = {"route_targets": [], "import_targets": [RT1], "export_targets": [RT2]}
SAME = {"route_targets": [RT1], "import_targets": [], "export_targets": []}


@pytest.mark.parametrize(
    ("between", "reaches_meanwhile"),
    [
        pytest.param(DISJOINT, False, id="test_bgpvpn_update_route_targets_disjoint_targets", marks=pytest.mark.long),
        pytest.param(
            {"route_targets": [RT1], "import_targets": [RT1], "export_targets": [RT2]},
            True,
            id="test_bgpvpn_update_route_targets_common_target",
            marks=pytest.mark.long,
        ),
    ],
)
def test_changed_route_targets_count_at_once(cloud: Cloud, between: dict[str, Any], reaches_meanwhile: bool) -> None:
    cloud.networks("A", "B")
    cloud.servers()
    cloud.bgpvpn()
    cloud.associate_all()
    cloud.router("A")
    cloud.can(1, TWO)
    cloud.update("bgpvpns", "vpn", **between)
    if reaches_meanwhile:
        cloud.can(1, TWO)
    else:
        cloud.cannot(1, TWO)
    cloud.update("bgpvpns", "vpn", **SAME)
    cloud.can(1, TWO)


@pytest.mark.long
def test_bgpvpn_update_route_targets_and_unassociated_net(cloud: Cloud) -> None:
    cloud.networks("A", "B")
    cloud.servers()
    cloud.bgpvpn(targets=[], import_targets=[RT1], export_targets=[RT2])
    cloud.associate("network", "A")
    cloud.router("A")
    cloud.cannot(1, TWO)
    cloud.associate("network", "B")
    cloud.cannot(1, TWO)
    cloud.update("bgpvpns", "vpn", **SAME)
    cloud.can(1, TWO)


@pytest.mark.parametrize(
    "by_router",
    [
        pytest.param(False, id="test_bgpvpn_update_rt_and_keep_local_connectivity_variant1", marks=pytest.mark.long),
        pytest.param(True, id="test_bgpvpn_update_rt_and_keep_local_connectivity_variant2", marks=pytest.mark.long),
    ],
)
def test_servers_of_a_network_reach_each_other_whatever_the_route_targets_are(cloud: Cloud, by_router: bool) -> None:
    cloud.networks("A", "B")
    cloud.bgpvpn(targets=[], import_targets=[RT1], export_targets=[RT2])
    cloud.servers()
    cloud.server(3, "A", "10.101.0.30")
    cloud.server(4, "B", "10.104.0.40")
    if by_router:
        cloud.router("A")
        cloud.router("B")
    cloud.associate("network", "A")
    cloud.cannot(1, TWO)
    cloud.can(1, "10.101.0.30")
    if by_router:
        cloud.associate("router", "router-B")
    else:
        cloud.associate("network", "B")
    cloud.cannot(1, TWO)
    cloud.can(4, TWO)
    cloud.update("bgpvpns", "vpn", **SAME)
    cloud.can(1, TWO, "10.101.0.30")
    cloud.can(4, TWO)


def prefix(local_pref: int | None = None, cidr: str = BEHIND) -> list[dict[str, Any]]:
    return [{"type": "prefix", "prefix": cidr, "local_pref": local_pref}]


def with_loopback(cloud: Cloud, number: int, *addresses: str) -> None:
    """A server answers at further addresses."""
    cloud.lab.run(f"s{number}", "sh", "-c", ";".join(f"ip address add {each}/32 dev lo" for each in addresses))


def test_bgpvpn_port_association_local_pref(cloud: Cloud) -> None:
    cloud.networks("A", "B")
    cloud.bgpvpn()
    cloud.server(1, "A", ONE)
    cloud.server(2, "B", TWO, forwards=True)
    cloud.server(4, "B", "10.104.0.40", forwards=True)
    for number in (2, 4):
        with_loopback(cloud, number, LOOPBACK)
    cloud.router("A")
    cloud.router("B")
    cloud.associate("network", "A")
    cloud.associate("port", "p2", routes=prefix(200))
    cloud.associate("port", "p4", routes=prefix(100))
    cloud.answers(1, LOOPBACK, by=2)
    cloud.update("associations", "vpn-p2", routes=prefix(100))
    cloud.update("associations", "vpn-p4", routes=prefix(200))
    cloud.answers(1, LOOPBACK, by=4)


def test_bgpvpn_project_separation_and_local_connectivity(cloud: Cloud) -> None:
    cloud.networks("A")
    cloud.networks("A-Bis", subnets=SUBNETS["A"])
    for vpn, target, network in (("vpn-a", RT1, "A"), ("vpn-b", RT2, "A-Bis")):
        cloud.bgpvpn(vpn, [target])
        cloud.associate("network", network, vpn)
    cloud.server(1, "A", "10.101.0.10")
    cloud.server(2, "A-Bis", "10.101.0.30")
    cloud.server(3, "A", "10.101.0.30")
    cloud.server(4, "A-Bis", "10.101.0.50")
    cloud.server(5, "A", "10.101.0.50")
    cloud.router("A")
    cloud.router("A-Bis")
    cloud.answers(1, "10.101.0.30", by=3)
    cloud.cannot(2, "10.101.0.10")
    cloud.answers(2, "10.101.0.30", by=2)
    cloud.answers(2, "10.101.0.50", by=4)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param("update", id="test_bgpvpn_port_association_create_and_update", marks=pytest.mark.long),
        pytest.param("delete", id="test_bgpvpn_port_association_create_and_delete", marks=pytest.mark.long),
        pytest.param("many", id="test_port_association_many_bgpvpn_routes", marks=pytest.mark.long),
    ],
)
def test_routes_of_a_port_association_come_and_go(cloud: Cloud, how: str) -> None:
    loopbacks = [f"10.107.0.{n}" for n in range(31, 121)] if how == "many" else [LOOPBACK]
    cloud.networks("A", "B")
    cloud.bgpvpn()
    cloud.servers()
    cloud.router("A")
    cloud.router("B")
    cloud.lab.run("s2", "sysctl", "-qw", "net.ipv4.ip_forward=1")
    with_loopback(cloud, 2, *loopbacks)
    cloud.associate("network", "A")
    cloud.cannot(1, loopbacks[0])
    routes = [route for each in loopbacks for route in prefix(cidr=f"{each}/32")] if how == "many" else prefix()
    cloud.associate("port", "p2", routes=routes)
    cloud.can(1, *loopbacks[:: max(1, len(loopbacks) // 10)])
    if how == "delete":
        cloud.delete("associations", "vpn-p2")
    else:
        cloud.update("associations", "vpn-p2", routes=[])
    cloud.cannot(1, loopbacks[0])
    cloud.cannot(1, loopbacks[-1])


def test_bgpvpn_port_association_bgpvpn_route(cloud: Cloud) -> None:
    """Server 1 reaches server 3 by way of server 2, and back; the original leaves the way back to its routers."""
    cloud.networks("A", "B", "C")
    to_a, from_a, to_c, from_c = RT1, RT2, RT3, RT4
    cloud.bgpvpn("vpn-a", [], import_targets=[to_a], export_targets=[from_a])
    cloud.bgpvpn("vpn-c", [], import_targets=[to_c], export_targets=[from_c])
    cloud.bgpvpn("vpn-b", [], import_targets=[from_c, from_a])
    cloud.bgpvpn("to-a", [], export_targets=[to_a])
    cloud.bgpvpn("to-c", [], export_targets=[to_c])
    cloud.server(1, "A", ONE)
    cloud.server(2, "B", TWO)
    cloud.server(3, "C", "10.108.0.30")
    for network in "ABC":
        cloud.router(network)
    for network in "abc":
        cloud.associate("network", network.upper(), f"vpn-{network}")
    leak = [{"type": "bgpvpn", "bgpvpn_id": "vpn-b"}]
    cloud.associate("port", "p2", "to-a", routes=leak)
    cloud.associate("port", "p2", "to-c", routes=leak)
    cloud.cannot(1, "10.108.0.30")  # server 2 does not forward
    cloud.lab.run("s2", "sysctl", "-qw", "net.ipv4.ip_forward=1")
    cloud.can(1, "10.108.0.30")
    cloud.lab.run("s2", "sysctl", "-qw", "net.ipv4.ip_forward=0")
    cloud.cannot(1, "10.108.0.30")
    cloud.lab.run("s2", "sysctl", "-qw", "net.ipv4.ip_forward=1")
    cloud.can(1, "10.108.0.30")
    cloud.delete("associations", "to-c-p2")
    cloud.cannot(1, "10.108.0.30")


@pytest.mark.long
def test_bgpvpn_negative_ping_to_unassociated_net(cloud: Cloud) -> None:
    cloud.networks("A", "B")
    cloud.bgpvpn()
    cloud.associate("network", "A")
    cloud.servers()
    cloud.router("A")
    cloud.cannot(1, TWO)


@pytest.mark.long
def test_bgpvpn_negative_disjoint_import_export(cloud: Cloud) -> None:
    cloud.networks("A", "B")
    cloud.bgpvpn(targets=[], import_targets=[RT1], export_targets=[RT2])
    cloud.associate_all()
    cloud.servers()
    cloud.router("A")
    cloud.cannot(1, TWO)


@pytest.mark.parametrize(
    "what",
    [
        pytest.param("bgpvpn", id="test_bgpvpn_negative_delete_bgpvpn", marks=pytest.mark.long),
        pytest.param("network", id="test_bgpvpn_negative_delete_net_association", marks=pytest.mark.long),
        pytest.param("router", id="test_bgpvpn_negative_delete_router_association"),
        pytest.param("disjoint", id="test_bgpvpn_negative_update_to_disjoint_import_export", marks=pytest.mark.long),
        pytest.param("empty", id="test_bgpvpn_negative_update_to_empty_rt_list", marks=pytest.mark.long),
    ],
)
def test_what_was_bound_is_reached_no_more(cloud: Cloud, what: str) -> None:
    cloud.networks("A", "B")
    if what == "router":
        cloud.router("B")
    cloud.bgpvpn()
    cloud.associate("network", "A")
    if what == "router":
        cloud.associate("router", "router-B")
    else:
        cloud.associate("network", "B")
    cloud.servers()
    cloud.router("A")
    cloud.can(1, TWO)
    if what == "bgpvpn":
        cloud.delete("bgpvpns", "vpn")
    elif what == "network":
        cloud.delete("associations", "vpn-A")
    elif what == "router":
        cloud.delete("associations", "vpn-router-B")
    elif what == "disjoint":
        cloud.update("bgpvpns", "vpn", **DISJOINT)
    else:
        cloud.update("bgpvpns", "vpn", route_targets=[])
    cloud.cannot(1, TWO)
