"""`openstack network|subnet|port|router|floating ip ...`, as far as VPNs and dynamic routing need them."""

from __future__ import annotations

from tests.openstack.clients import Osc
from tests.openstack.daemon import Daemon


def test_a_network_with_a_subnet_and_a_port_is_made_changed_found_and_removed(daemon: Daemon, osc: Osc) -> None:
    osc.ok("network", "create", "n1")
    osc.ok("network", "set", "--name", "n2", "--mtu", "1400", "n1")
    assert osc.json("network", "show", "n2")["mtu"] == 1400
    osc.ok("subnet", "create", "--network", "n2", "--subnet-range", "10.0.0.0/24", "--no-dhcp", "s1")
    osc.ok("subnet", "set", "--gateway", "10.0.0.254", "s1")
    assert osc.ok("subnet", "show", "s1", "-f", "value", "-c", "gateway_ip").strip() == "10.0.0.254"
    address = ("--fixed-ip", "subnet=s1,ip-address=10.0.0.7")
    binding = ("--mac-address", "fa:16:3e:00:00:09", "--binding-profile", "interface=veth9")
    port = osc.json("port", "create", "--network", "n2", *address, *binding, "p1")
    assert port["binding_profile"]["interface"] == "veth9"
    osc.ok("port", "set", "--name", "p2", "--fixed-ip", "subnet=s1,ip-address=10.0.0.8", "p1")
    osc.ok("port", "unset", "--fixed-ip", "subnet=s1,ip-address=10.0.0.7", "p2")
    (row,) = osc.json("port", "list", "--fixed-ip", "ip-address=10.0.0.8")
    assert (row["ID"], row["Name"]) == (port["id"], "p2")
    assert daemon.get("/v1/ports/p2")["ip_addresses"] == ["10.0.0.8"]
    assert [each["Name"] for each in osc.json("network", "list", "--name", "n2")] == ["n2"]
    assert [each["Name"] for each in osc.json("subnet", "list", "--network", "n2")] == ["s1"]
    assert "has ports: p2" in osc.refused("network", "delete", "n2")
    for kind, name in (("port", "p2"), ("subnet", "s1"), ("network", "n2")):
        osc.ok(kind, "delete", name)
        assert osc.json(kind, "list") == []


def test_a_router_has_interfaces_routes_and_a_way_out_with_floating_addresses(daemon: Daemon, osc: Osc) -> None:
    osc.ok("network", "create", "--external", "out")
    osc.ok("subnet", "create", "--network", "out", "--subnet-range", "192.0.2.0/24", "sout")
    osc.ok("network", "create", "n1")
    osc.ok("subnet", "create", "--network", "n1", "--subnet-range", "10.0.0.0/24", "s1")
    osc.ok("port", "create", "--network", "n1", "p1")
    osc.ok("router", "create", "r1")
    osc.ok("router", "set", "--external-gateway", "out", "r1")
    osc.ok("router", "add", "subnet", "r1", "s1")
    route = ("--route", "destination=10.9.0.0/16,gateway=10.0.0.2")
    osc.ok("router", "set", *route, "r1")
    osc.ok("router", "add", "route", "--route", "destination=10.8.0.0/16,gateway=10.0.0.2", "r1")
    osc.ok("router", "remove", "route", *route, "r1")
    shown = osc.json("router", "show", "r1")
    assert shown["routes"] == [{"destination": "10.8.0.0/16", "nexthop": "10.0.0.2"}]
    (interface,) = shown["interfaces_info"]
    assert interface["ip_address"] == "10.0.0.1"
    owners = {each["ID"]: each for each in osc.json("port", "list", "--router", "r1")}
    assert (len(owners), interface["port_id"] in owners) == (2, True)
    assert daemon.get("/v1/routers/r1")["gateway_ips"] == ["192.0.2.2"]

    made = osc.json("floating", "ip", "create", "--port", "p1", "out")
    address = made["floating_ip_address"]
    assert made["fixed_ip_address"] == "10.0.0.2"
    osc.ok("floating", "ip", "unset", "--port", address)
    assert osc.json("floating", "ip", "list")[0]["Port"] is None
    osc.ok("floating", "ip", "set", "--port", "p1", address)
    assert "floating" in osc.refused("router", "unset", "--external-gateway", "r1")
    osc.ok("floating", "ip", "delete", address)
    osc.ok("router", "unset", "--external-gateway", "r1")
    osc.ok("router", "set", "--no-route", "r1")
    osc.ok("router", "remove", "subnet", "r1", "s1")
    osc.ok("router", "delete", "r1")
    assert osc.json("router", "list") == []


def test_extensions_and_agents_are_listed(osc: Osc) -> None:
    aliases = {each["Alias"] for each in osc.json("extension", "list", "--network")}
    assert aliases >= {"bgpvpn", "bgpvpn-routes-control", "bgpvpn-vni", "bgp", "bgpvpnd"}
    assert osc.json("extension", "show", "bgpvpn")["name"] == "BGPVPN Extension"
    (agent,) = osc.json("network", "agent", "list")
    assert (agent["Binary"], agent["Alive"]) == ("bgpvpnd", True)
