"""What of Neutron's objects a node shall have, tried on a node's intent."""

from __future__ import annotations

from typing import Any

import attrs

from bgpvpn.intent import Intent
from bgpvpn.objects import KINDS, make, plural
from bgpvpn.openstack.translation import OWNER, Snapshot, wanted
from bgpvpn.replacing import replace

PROJECT = {"project_id": "blue", "tenant_id": "blue", "name": "the same name"}


def vpn(id_: str, **fields: Any) -> dict[str, Any]:
    names = "route_targets", "import_targets", "export_targets", "route_distinguishers"
    lists: dict[str, Any] = {name: [] for name in names}
    return {**PROJECT, "id": id_, "type": "l3", **lists, "vni": None, "local_pref": None, **fields}


def network(id_: str, **fields: Any) -> dict[str, Any]:
    return {**PROJECT, "id": id_, "admin_state_up": True, "mtu": 1450, **fields}


def subnet(id_: str, network_id: str, cidr: str, gateway_ip: str | None) -> dict[str, Any]:
    return {**PROJECT, "id": id_, "network_id": network_id, "cidr": cidr, "gateway_ip": gateway_ip}


def port(id_: str, network_id: str, host: str, *addresses: str, **fields: Any) -> dict[str, Any]:
    return {
        **PROJECT,
        "id": id_,
        "network_id": network_id,
        "binding:host_id": host,
        "device_owner": "compute:nova",
        "mac_address": f"02:00:00:00:{ord(id_[0]):02x}:{ord(id_[-1]):02x}",
        "fixed_ips": [{"subnet_id": "", "ip_address": each} for each in addresses],
        "admin_state_up": True,
        **fields,
    }


def bound(kind: str, vpn_id: str, id_: str, **fields: Any) -> dict[str, Any]:
    flags: dict[str, dict[str, Any]] = {
        "port": {"advertise_fixed_ips": True, "routes": []},
        "router": {"advertise_extra_routes": True},
        "network": {},
    }
    return {"id": f"{vpn_id}-{id_}", "bgpvpn_id": vpn_id, f"{kind}_id": id_, **flags[kind], **fields}


CLOUD = Snapshot(
    bgpvpns=[vpn("v1"), vpn("v2", vni=5), vpn("v3", type="l2", vni=6), vpn("v4"), vpn("v5", type="l2"), vpn("unused")],
    network_associations=[bound("network", "v1", "n1"), bound("network", "v3", "n1")],
    router_associations=[bound("router", "v2", "r1", advertise_extra_routes=False)],
    port_associations=[
        bound(
            "port",
            "v1",
            "p5",
            advertise_fixed_ips=False,
            routes=[
                {"type": "prefix", "prefix": "172.16.0.1/16", "local_pref": 0},
                {"type": "prefix", "prefix": "172.16.0.0/16", "local_pref": 7},
                {"type": "bgpvpn", "bgpvpn_id": "v4", "local_pref": None},
                {"type": "bgpvpn", "bgpvpn_id": "v1", "local_pref": None},
            ],
        ),
        bound("port", "v5", "p5", routes=[{"type": "prefix", "prefix": "172.16.0.0/16", "local_pref": None}]),
    ],
    networks=[network("n1"), network("n2", mtu=0), network("n3", admin_state_up=False), network("n4", name="a/b\n")],
    subnets=[
        subnet("s1", "n1", "10.1.0.0/24", "10.1.0.1"),
        subnet("s16", "n1", "2001:db8:1::/64", "2001:db8:1::1"),
        subnet("s2", "n2", "10.2.0.0/24", "10.2.0.1"),
        subnet("s3", "n3", "10.3.0.0/24", "10.3.0.1"),
        subnet("s4", "n4", "10.4.0.0/24", None),
    ],
    ports=[
        port("p1", "n1", "one", "10.1.0.5", "2001:db8:1::5"),
        port("p2", "n2", "two", "10.2.0.1"),
        port("r1-2", "n2", "one", "10.2.0.9", device_owner="network:router_interface"),
        port("p3", "n3", "two", "10.3.0.5"),
        port("p4", "n4", "two", "10.4.0.4"),
        port("p5", "n4", "two", "10.4.0.5"),
        port("p6", "n1", "", "10.1.0.6"),
        port("d1", "n1", "one", "10.1.0.2", device_owner="network:dhcp"),
    ],
    routers=[
        {
            **PROJECT,
            "id": "r1",
            "admin_state_up": True,
            "routes": [{"destination": "172.17.0.1/16", "nexthop": "10.2.0.7"}],
        }
    ],
    interfaces={"r1": ["s2", "s3"]},
)


def on(host: str) -> dict[str, dict[str, Any]]:
    """What a node has, by kind and by Neutron's id; it must be able to have it, all of it."""
    body = wanted(host, CLOUD)
    things = [make(kind, each) for kind in KINDS for each in body.get(plural(kind), ())]
    intent = Intent()
    found = replace(intent, OWNER, things, KINDS, (), 0.0)
    assert not found.refused
    intent.apply(intent.plan(found.wishes, 0.0))
    return {
        plural(kind): {
            id_.removeprefix("neutron."): attrs.asdict(each) for id_, each in intent.tables[kind].rows.items()
        }
        for kind in KINDS
    }


def test_a_node_has_what_vpns_touch_of_the_ports_that_are_on_its_host() -> None:
    for host, kinds in {
        "one": {
            "networks": "n1",
            "subnets": "s1 s16",
            "routers": "",
            "ports": "p1",
            "bgpvpns": "v1 v3",
            "associations": "v1-n1 v3-n1",
        },
        "two": {
            "networks": "n2 n3 n4",
            "subnets": "s2 s3 s4",
            "routers": "r1",
            "ports": "p2 p3 p5",
            "bgpvpns": "v1 v2 v4 v5",
            "associations": "v1-p5 v2-r1 v5-p5",
        },
        "three": dict.fromkeys(("networks", "subnets", "routers", "ports", "bgpvpns", "associations"), ""),
        "*": {"ports": "p1 p2 p3 p5", "bgpvpns": "v1 v2 v3 v4 v5"},
    }.items():
        node = on(host)
        for kind, ids in kinds.items():
            assert " ".join(sorted(node[kind])) == ids, (host, kind)


def test_fields_are_neutrons_in_the_terms_of_a_node() -> None:
    one, two, all_ = on("one"), on("two"), on("*")
    assert one["ports"]["p1"]["ip_addresses"] == ("10.1.0.5", "2001:db8:1::5")
    assert (one["ports"]["p1"]["interface"], one["ports"]["p1"]["host"]) == ("tapp1", "")
    assert {id_: each["host"] for id_, each in all_["ports"].items()} == {
        "p1": "one",
        "p2": "two",
        "p3": "two",
        "p5": "two",
    }
    assert one["networks"]["n1"]["mtu"] == 1450
    assert two["networks"]["n2"]["mtu"] is None
    assert two["networks"]["n4"]["name"] == "a_b_-n4"
    assert [each["name"] for each in two["bgpvpns"].values()] == [f"the same name-v{number}" for number in (1, 2, 4, 5)]
    assert two["bgpvpns"]["v2"]["technique"] == ("evpn-prefix",)
    assert one["bgpvpns"]["v3"]["vni"] == 6
    assert two["ports"]["p2"]["admin_state_up"] is True
    assert two["ports"]["p3"]["admin_state_up"] is False, "its network is down"
    assert one["subnets"]["s1"]["gateway_ip"] == "10.1.0.1"
    assert two["subnets"]["s2"]["gateway_ip"] is None, "a station has the address"
    assert two["routers"]["r1"]["subnet_ids"] == ("neutron.s2", "neutron.s3")
    assert [route["destination"] for route in two["routers"]["r1"]["routes"]] == ["172.17.0.0/16"]
    assert two["associations"]["v2-r1"]["advertise_extra_routes"] is False


def test_routes_of_a_port_that_mean_nothing_are_left_out() -> None:
    associations = on("two")["associations"]
    assert [
        (route["prefix"], route["bgpvpn_id"], route["local_pref"]) for route in associations["v1-p5"]["routes"]
    ] == [
        ("172.16.0.0/16", None, 0),
        (None, "neutron.v4", None),
    ]
    assert associations["v1-p5"]["advertise_fixed_ips"] is False
    assert associations["v5-p5"]["routes"] == ()
