"""An L3VPN over VXLAN (lab/evpn-prefix): two nodes of ours and an FRR leaf route for one VPN by EVPN type 5."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.runner import Lab, eventually, lab_of
from tests.interop.labs import Node, connected, killed

FILE = Path(__file__).resolve().parent.parent.parent / "lab/evpn-prefix/evpn-prefix.clab.yml"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with lab_of(FILE) as lab:
        for number in (1, 2):
            node = Node(lab, number)
            node.make("bgpvpns", "blue", route_targets=["64512:50"], technique=["evpn-prefix"], vni=5000)
            node.make(
                "networks",
                "n",
                subnets=[
                    {"cidr": f"10.1.{number}.0/24", "gateway_ip": f"10.1.{number}.1"},
                    {"cidr": f"2001:db8:{number}::/64", "gateway_ip": f"2001:db8:{number}::1"},
                ],
            )
            node.make(
                "ports",
                "p",
                network_id="n",
                interface=f"blue{number}",
                mac_address=f"02:00:00:00:01:{number}0",
                ip_addresses=[f"10.1.{number}.10", f"2001:db8:{number}::10"],
            )
            node.bind("blue", network_id="n")
        yield lab


@pytest.mark.parametrize(
    ("source", "address"),
    [
        ("blue1", "10.1.2.10"),
        ("blue1", "2001:db8:2::10"),
        ("blue1", "10.1.3.10"),
        ("ce-leaf", "10.1.1.10"),
        ("ce-leaf", "2001:db8:2::10"),
    ],
)
def test_hosts_of_the_vpn_reach_each_other_over_vxlan(lab: Lab, source: str, address: str) -> None:
    connected(lab, source, address)


def test_a_daemon_that_is_killed_finds_its_kernel_in_order_when_it_comes_back(lab: Lab) -> None:
    here = Node(lab, 1)
    connected(lab, "blue1", "10.1.3.10", "10.1.2.10")
    killed(lab, "node1", "bgpvpnd")
    lab.start("node1")
    eventually(lambda: here.ready, 60, "the node has heard all")
    assert not any(here.messages().values()), here.messages()
    connected(lab, "blue1", "10.1.3.10", "10.1.2.10")


def test_a_prefix_goes_when_the_leaf_takes_it_back(lab: Lab) -> None:
    def wanted() -> bool:
        instances = Node(lab, 1).api.get("explain", prefix="10.1.7.0/24")["instances"]
        return any(instance["candidates"] for instance in instances)

    lab.run("leaf", "ip", "address", "add", "10.1.7.1/24", "dev", "eth3")
    eventually(wanted, 20, "the prefix is there")
    lab.run("leaf", "ip", "address", "del", "10.1.7.1/24", "dev", "eth3")
    eventually(lambda: not wanted(), 20, "the prefix is gone")
