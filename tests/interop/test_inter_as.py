"""One VPN over two ASes (lab/inter-as): a reflector of ours rewrites route targets between our node and an FRR PE."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.runner import Lab, eventually, lab_of

FILE = Path(__file__).resolve().parent.parent.parent / "lab/inter-as/inter-as.clab.yml"
WISHES = (
    "network create n --subnet 10.1.1.0/24 --gateway 10.1.1.1",
    "port create p --network n --interface blue1 --mac 02:00:00:00:01:10 --ip 10.1.1.10",
    "create blue --route-target 64512:100",
    "bind n blue",
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with lab_of(FILE) as lab:
        for wish in WISHES:
            lab.run("node", "bgpvpn", *wish.split())
        yield lab


def reflected(lab: Lab) -> dict[str, dict[str, Any]]:
    """The routes of the reflector, by prefix."""
    routes = json.loads(lab.run("rr", "bgpvpn", "-f", "json", "show", "routes"))
    return {route["nlri"].split()[-1]: route for route in routes if route["family"] == "vpnv4"}


def test_tenants_of_two_ASes_reach_each_other(lab: Lab) -> None:
    eventually(
        lambda: lab.call("ce-node", "ping", "-c", "1", "-W", "1", "10.1.3.10").returncode == 0, 60, "the ping passes"
    )
    assert "5 received" in lab.run("ce-pe", "ping", "-c", "5", "-i", "0.2", "-W", "1", "10.1.1.10")


def test_next_hops_stay_and_route_targets_are_rewritten_both_ways(lab: Lab) -> None:
    routes = reflected(lab)
    assert {prefix: (route["next_hop"], route["route_targets"]) for prefix, route in routes.items()} == {
        "10.1.1.10/32": ("192.0.2.11", ["64512:100"]),
        "10.1.3.0/24": ("192.0.2.1", ["64512:100"]),
    }
    told = json.loads(lab.run("pe", "vtysh", "-c", "show bgp ipv4 vpn 10.1.1.10/32 json"))
    (paths,) = [each["paths"] for each in told.values() if isinstance(each, dict) and "paths" in each] or [
        told["paths"]
    ]
    (path,) = paths
    assert path["aspath"]["string"] == "64512"
    assert "RT:64513:100" in path["extendedCommunity"]["string"]
    assert [hop["ip"] for hop in path["nexthops"]] == ["192.0.2.11"]


def test_what_the_policy_does_not_name_stays_in_its_as(lab: Lab) -> None:
    lab.run("pe", "ip", "address", "add", "10.1.4.129/25", "dev", "eth2")
    lab.run("pe", "ip", "address", "add", "10.1.5.1/24", "dev", "eth2")
    eventually(lambda: "10.1.5.0/24" in reflected(lab), 20, "the shorter prefix arrives")
    assert "10.1.4.128/25" not in reflected(lab)
