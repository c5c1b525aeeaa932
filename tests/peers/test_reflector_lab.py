"""A route reflector of ours between four makers (lab/reflector): every route reaches all who have its family."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.runner import Lab, eventually, lab_of

FILE = Path(__file__).resolve().parent.parent.parent / "lab/reflector/reflector.clab.yml"

ROUTES = {
    "ipv4": {
        "frr": "198.51.100.0/26",
        "gobgp": "198.51.100.64/26",
        "bird": "198.51.100.128/26",
        "exabgp": "198.51.100.192/26",
    },
    "ipv6": {
        "frr": "2001:db8:100::/48",
        "gobgp": "2001:db8:200::/48",
        "bird": "2001:db8:300::/48",
        "exabgp": "2001:db8:400::/48",
    },
    "vpnv4": {"frr": "10.1.1.0/24", "gobgp": "10.1.2.0/24", "bird": "10.1.3.0/24", "exabgp": "10.1.4.0/24"},
    "vpnv6": {
        "frr": "2001:db8:1::/64",
        "gobgp": "2001:db8:2::/64",
        "bird": "2001:db8:3::/64",
        "exabgp": "2001:db8:4::/64",
    },
    "evpn": {"frr": "10.1.1.0", "gobgp": "02:00:00:00:00:02"},
    "ipv4-flowspec": {"gobgp": "198.51.100.64/26", "bird": "198.51.100.128/26", "exabgp": "198.51.100.192/26"},
    "ipv6-flowspec": {"gobgp": "2001:db8:200::/48", "bird": "2001:db8:300::/48", "exabgp": "2001:db8:400::/48"},
    "vpnv4-flowspec": {"gobgp": "10.1.2.0/24"},
    "vpnv6-flowspec": {"gobgp": "2001:db8:2::/64"},
}
"""By family and client: what the route that it says is called everywhere."""

ADDRESSES = {"frr": "192.0.2.1", "gobgp": "192.0.2.2", "bird": "192.0.2.3", "exabgp": "192.0.2.4"}
FRR = {
    "ipv4": "ipv4 unicast",
    "ipv6": "ipv6 unicast",
    "vpnv4": "ipv4 vpn",
    "vpnv6": "ipv6 vpn",
    "evpn": "l2vpn evpn route",
    "ipv4-flowspec": "ipv4 flowspec",
    "ipv6-flowspec": "ipv6 flowspec",
}
GOBGP = {
    "vpnv4-flowspec": "ipv4-l3vpn-flowspec",
    "vpnv6-flowspec": "ipv6-l3vpn-flowspec",
}
BIRD = {
    "ipv4": "master4",
    "ipv6": "master6",
    "vpnv4": "labelled4",
    "vpnv6": "labelled6",
    "ipv4-flowspec": "flows4",
    "ipv6-flowspec": "flows6",
}
HAVE = {"frr": set(FRR), "gobgp": set(ROUTES), "bird": set(BIRD), "exabgp": set(ROUTES)}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with lab_of(FILE) as lab:
        yield lab


def held(lab: Lab, client: str, family: str) -> str:
    """What a client holds of a family, in its own words."""
    match client:
        case "frr":
            return lab.run("frr", "vtysh", "-c", f"show bgp {FRR[family]}")
        case "gobgp":
            return lab.run("gobgp", "gobgp", "global", "rib", "-a", GOBGP.get(family, family))
        case "bird":
            socket = "/run/bird/bird.ctl"
            return lab.run("bird", "birdc", "-s", socket, "show", "route", "table", BIRD[family], "all")
        case _:
            return (lab.folder / "exabgp/run/exabgp/heard").read_text()


def missing(lab: Lab) -> list[str]:
    """Which routes have not come to whom."""
    return [
        f"{family} of {teller} at {client}"
        for family, routes in ROUTES.items()
        for client in ADDRESSES
        if family in HAVE[client]
        for text in [held(lab, client, family)]
        for teller, route in routes.items()
        if teller != client and route not in text
    ]


def test_every_route_reaches_every_client_that_has_its_family(lab: Lab) -> None:
    last: list[str] = []

    def all_there() -> bool:
        last[:] = missing(lab)
        return not last

    try:
        eventually(all_there, 60, "all routes at all clients")
    finally:
        assert not last, last
    sessions = json.loads(lab.run("rr", "bgpvpn", "-f", "json", "show", "sessions"))
    assert {each["peer"]: (each["state"], each["malformed"], each["flaps"]) for each in sessions} == dict.fromkeys(
        ADDRESSES, ("established", 0, 0)
    )


def test_a_reflected_route_says_where_it_came_from_and_through_whom(lab: Lab) -> None:
    route = json.loads(lab.run("gobgp", "gobgp", "global", "rib", "-a", "vpnv4", "-j"))
    paths = {nlri.rpartition(":")[2]: paths for nlri, paths in route.items()}
    (path,) = paths[ROUTES["vpnv4"]["frr"]]
    said = {attribute["type"]: attribute for attribute in path["attrs"]}
    assert said[9]["value"] == ADDRESSES["frr"]
    assert said[10]["value"] == ["192.0.2.100"]
    assert said[14]["nexthop"] == ADDRESSES["frr"]
    assert said[14]["value"][0]["labels"] == [101]
    told = held(lab, "bird", "vpnv4")
    assert "BGP.originator_id: 192.0.2.1" in told
    assert "BGP.cluster_list: 192.0.2.100" in told


def test_a_route_that_goes_is_gone_everywhere(lab: Lab) -> None:
    lab.run("gobgp", "gobgp", "global", "rib", "del", "-a", "vpnv4", "10.1.2.0/24", "label", "201", "rd", "64512:2")
    route = ROUTES["vpnv4"]["gobgp"]
    eventually(lambda: all(route not in held(lab, client, "vpnv4") for client in ("frr", "bird")), 10, "it is gone")
    withdrawn = held(lab, "exabgp", "vpnv4").splitlines()[-1]
    assert "withdraw" in withdrawn
    assert route in withdrawn
