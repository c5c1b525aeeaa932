"""`openstack bgpvpn ...`: every command of python-openstackclient, unmodified."""

from __future__ import annotations

from typing import Any

import pytest

from tests.openstack.clients import Osc
from tests.openstack.daemon import Daemon

LISTS = ("Route Targets", "Import Targets", "Export Targets", "Route Distinguishers")


@pytest.fixture
def place(osc: Osc) -> dict[str, Any]:
    """A network, a router and a port by themselves, and a VPN: their ids by name."""
    made = {"n1": osc.json("network", "create", "n1"), "r1": osc.json("router", "create", "r1")}
    osc.ok("subnet", "create", "--network", "n1", "--subnet-range", "10.0.0.0/24", "s1")
    made["p1"] = osc.json("port", "create", "--network", "n1", "p1")
    made["v1"] = osc.json("bgpvpn", "create", "--name", "v1", "--route-target", "64512:1")
    return {name: thing["id"] for name, thing in made.items()}


def test_a_bgpvpn_is_created_set_unset_listed_shown_and_deleted_by_its_name(osc: Osc) -> None:
    targets = ("--route-target", "64512:1", "--import-target", "64512:2", "--export-target", "4200000000:3")
    more = ("--route-distinguisher", "192.0.2.1:4", "--local-pref", "150", "--type", "l2", "--vni", "77")
    made = osc.json("bgpvpn", "create", "--name", "blue", *targets, *more)
    assert made["route_targets"] == ["64512:1"]
    assert (made["type"], made["vni"], made["local_pref"]) == ("l2", 77, 150)
    osc.ok("bgpvpn", "create", "--name", "red")

    osc.ok("bgpvpn", "set", "blue", "--name", "navy", "--route-target", "64512:9", "--local-pref", "0")
    osc.ok("bgpvpn", "unset", "navy", "--import-target", "64512:2", "--all-route-distinguisher")
    osc.ok("bgpvpn", "set", "navy", "--no-export-target")
    shown = osc.json("bgpvpn", "show", "navy")
    assert shown["id"] == made["id"]
    assert sorted(shown["route_targets"]) == ["64512:1", "64512:9"]
    assert [shown[name] for name in ("import_targets", "export_targets", "route_distinguishers")] == [[], [], []]
    assert shown["local_pref"] == 0

    assert {each["Name"] for each in osc.json("bgpvpn", "list")} == {"navy", "red"}
    (row,) = osc.json("bgpvpn", "list", "--long", "--property", "type=l2")
    assert (row["ID"], row["VNI"], row["Local Pref"]) == (made["id"], 77, 0)
    (row,) = osc.json("bgpvpn", "list", "--property", "name=red")
    assert row["Name"] == "red"
    assert "read-only" in osc.refused("bgpvpn", "set", "navy", "--vni", "78")
    assert "100L:5" in osc.refused("bgpvpn", "create", "--route-target", "100L:5")

    osc.ok("bgpvpn", "delete", "navy", "red")
    assert osc.json("bgpvpn", "list") == []
    assert "navy" in osc.refused("bgpvpn", "show", "navy")


def test_network_associations_are_created_listed_shown_and_deleted(osc: Osc, place: dict[str, Any]) -> None:
    made = osc.json("bgpvpn", "network", "association", "create", "v1", "n1")
    assert made["network_id"] == place["n1"]
    assert osc.json("bgpvpn", "network", "association", "show", made["id"], "v1") == made
    (row,) = osc.json("bgpvpn", "network", "association", "list", "v1", "--long")
    assert row.items() >= {"ID": made["id"], "Network ID": place["n1"], "Project": "default"}.items()
    wanted = ("--property", f"network_id={place['n1']}")
    assert len(osc.json("bgpvpn", "network", "association", "list", "v1", *wanted)) == 1
    assert osc.json("bgpvpn", "network", "association", "list", "v1", "--property", "network_id=x") == []
    (row,) = osc.json("bgpvpn", "list", "--long", "--property", f"networks={place['n1']}")
    assert row["Associated Networks"] == [place["n1"]]
    assert "already associated" in osc.refused("bgpvpn", "network", "association", "create", "v1", "n1")
    assert "both be in l3 VPNs" not in osc.ok("bgpvpn", "network", "association", "delete", made["id"], "v1")
    assert osc.json("bgpvpn", "network", "association", "list", "v1") == []


def test_router_associations_are_created_set_unset_listed_shown_and_deleted(osc: Osc, place: dict[str, Any]) -> None:
    flag = "advertise_extra_routes"
    made = osc.json("bgpvpn", "router", "association", "create", "v1", "r1", "--advertise_extra_routes")
    assert (made["router_id"], made[flag]) == (place["r1"], True)
    for command, option, expected in (
        ("set", "--no-advertise_extra_routes", False),
        ("unset", "--no-advertise_extra_routes", True),
        ("unset", "--advertise_extra_routes", False),
        ("set", "--advertise_extra_routes", True),
    ):
        osc.ok("bgpvpn", "router", "association", command, made["id"], "v1", option)
        shown = osc.json("bgpvpn", "router", "association", "show", made["id"], "v1")
        assert shown[flag] is expected, (command, option)
    (row,) = osc.json("bgpvpn", "router", "association", "list", "v1", "--long")
    assert (row["Router ID"], row["Advertise extra routes"]) == (place["r1"], True)
    osc.ok("bgpvpn", "router", "association", "delete", made["id"], "v1")

    made = osc.json("bgpvpn", "router", "association", "create", "v1", "r1", "--no-advertise_extra_routes")
    assert made[flag] is False, "U2: networking-bgpvpn stores true"
    osc.ok("router", "add", "subnet", "r1", "s1")
    said = osc.refused("bgpvpn", "network", "association", "create", "v1", "n1")
    assert "'n1' and its router r1 would both be in l3 VPNs" in said


def test_port_associations_are_created_set_unset_listed_shown_and_deleted(
    daemon: Daemon, osc: Osc, place: dict[str, Any]
) -> None:
    osc.ok("bgpvpn", "create", "--name", "v2")
    words = ("--no-advertise-fixed-ips", "--prefix-route", "prefix=10.9.0.0/16,local_pref=7")
    more = ("--prefix-route", "prefix=10.8.0.0/16", "--bgpvpn-route", "bgpvpn=v2,local_pref=5")
    made = osc.json("bgpvpn", "port", "association", "create", "v1", "p1", *words, *more)
    assert (made["port_id"], made["advertise_fixed_ips"]) == (place["p1"], False)
    path = f"/v2.0/bgpvpn/bgpvpns/{place['v1']}/port_associations/{made['id']}"

    def routes() -> list[tuple[str, int | None]]:
        """As the client asks for them; its own show prints none."""
        found = daemon.get(path)["port_association"]["routes"]
        return sorted((each.get("prefix", "v2"), each.get("local_pref")) for each in found)

    assert routes() == [("10.8.0.0/16", None), ("10.9.0.0/16", 7), ("v2", 5)]
    osc.ok("bgpvpn", "port", "association", "set", made["id"], "v1", "--advertise-fixed-ips")
    assert daemon.get(path)["port_association"]["advertise_fixed_ips"] is True
    assert routes() == [("10.8.0.0/16", None), ("10.9.0.0/16", 7), ("v2", 5)]
    osc.ok("bgpvpn", "port", "association", "set", made["id"], "v1", "--prefix-route", "prefix=10.7.0.0/16")
    osc.ok("bgpvpn", "port", "association", "unset", made["id"], "v1", "--prefix-route", "10.8.0.0/16")
    assert routes() == [("10.7.0.0/16", None), ("10.9.0.0/16", 7), ("v2", 5)]
    osc.ok("bgpvpn", "port", "association", "unset", made["id"], "v1", "--all-bgpvpn-routes")
    osc.ok("bgpvpn", "port", "association", "set", made["id"], "v1", "--no-prefix-route")
    assert routes() == []

    (row,) = osc.json("bgpvpn", "port", "association", "list", "v1")
    assert (row["ID"], row["Port ID"]) == (made["id"], place["p1"])
    assert osc.json("bgpvpn", "port", "association", "show", made["id"], "v1")["port_id"] == place["p1"]
    (row,) = osc.json("bgpvpn", "list", "--long", "--property", f"ports={place['p1']}")
    assert row["Associated Ports"] == [place["p1"]], "U4: networking-bgpvpn finds none by ports"
    osc.ok("bgpvpn", "port", "association", "delete", made["id"], "v1")
    assert osc.json("bgpvpn", "port", "association", "list", "v1") == []


def test_what_the_client_made_is_what_our_own_api_has_and_is_there_after_a_restart(
    daemon: Daemon, osc: Osc, place: dict[str, Any]
) -> None:
    osc.ok("bgpvpn", "network", "association", "create", "v1", "n1")
    ours = daemon.get("/v1/bgpvpns/v1")
    assert (ours["id"], ours["route_targets"]) == (place["v1"], ["64512:1"])
    (association,) = daemon.get("/v1/associations")
    assert association["network_id"] == place["n1"]
    daemon.restart()
    assert osc.json("bgpvpn", "list", "--long")[0]["Associated Networks"] == [place["n1"]]
