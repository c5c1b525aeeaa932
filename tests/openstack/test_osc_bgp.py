"""`openstack bgp ...`: every command of python-openstackclient, unmodified."""

from __future__ import annotations

from tests.openstack.clients import Osc
from tests.openstack.daemon import LIMIT_S, Daemon, until


def test_a_speaker_is_created_set_listed_shown_and_deleted_by_its_name(osc: Osc) -> None:
    flags = ("--no-advertise-floating-ip-host-routes", "--no-advertise-tenant-networks")
    made = osc.json("bgp", "speaker", "create", "s6", "--local-as", "4200000001", "--ip-version", "6", *flags)
    assert (made["local_as"], made["ip_version"]) == (4200000001, 6)
    assert made["advertise_floating_ip_host_routes"] is made["advertise_tenant_networks"] is False
    osc.ok("bgp", "speaker", "set", "s6", "--name", "six", "--advertise-tenant-networks")
    shown = osc.json("bgp", "speaker", "show", "six")
    assert (shown["id"], shown["advertise_tenant_networks"]) == (made["id"], True)
    osc.ok("bgp", "speaker", "create", "s4", "--local-as", "64512")
    rows = {each["Name"]: (each["Local AS"], each["IP Version"]) for each in osc.json("bgp", "speaker", "list")}
    assert rows == {"six": (4200000001, 6), "s4": (64512, 4)}
    osc.ok("bgp", "speaker", "delete", "six")
    assert [each["Name"] for each in osc.json("bgp", "speaker", "list")] == ["s4"]


def test_a_peer_is_created_set_listed_shown_and_deleted_and_its_password_is_not_shown(daemon: Daemon, osc: Osc) -> None:
    where = ("--peer-ip", "192.0.2.1", "--remote-as", "64999")
    made = osc.json("bgp", "peer", "create", "p1", *where, "--auth-type", "md5", "--password", "s3cret")
    assert (made["peer_ip"], made["remote_as"], made["auth_type"]) == ("192.0.2.1", 64999, "md5")
    osc.ok("bgp", "peer", "set", "p1", "--name", "p2")
    osc.ok("bgp", "peer", "set", "p2", "--password", "n3w")
    assert "s3cret" not in osc.ok("bgp", "peer", "show", "p2")
    assert daemon.get("/v1/peers/p2")["password"] == "***"
    osc.ok("bgp", "peer", "create", "p3", "--peer-ip", "2001:db8::1", "--remote-as", "64999")
    assert {each["Peer IP"] for each in osc.json("bgp", "peer", "list")} == {"192.0.2.1", "2001:db8::1"}
    assert "not authenticated" in osc.refused("bgp", "peer", "set", "p3", "--password", "x")
    osc.ok("bgp", "peer", "delete", "p2")
    assert [each["Name"] for each in osc.json("bgp", "peer", "list")] == ["p3"]


def test_peers_and_networks_are_added_and_removed_and_the_one_agent_speaks_for_every_speaker(
    daemon: Daemon, osc: Osc
) -> None:
    speaker = osc.json("bgp", "speaker", "create", "s", "--local-as", "64512")
    peer = osc.json("bgp", "peer", "create", "p", "--peer-ip", "192.0.2.1", "--remote-as", "64999")
    network = osc.json("network", "create", "--external", "out")
    osc.ok("bgp", "speaker", "add", "peer", "s", "p")
    osc.ok("bgp", "speaker", "add", "network", "s", "out")
    shown = osc.json("bgp", "speaker", "show", "s")
    assert (shown["peers"], shown["networks"]) == ([peer["id"]], [network["id"]])
    assert daemon.get("/v1/peers/p")["admin_state_up"] is True
    assert "already configured" in osc.refused("bgp", "speaker", "add", "peer", "s", "p")

    (agent,) = osc.json("bgp", "dragent", "list")
    assert osc.json("bgp", "dragent", "list", "--bgp-speaker", "s") == [agent]
    assert [each["ID"] for each in osc.json("bgp", "speaker", "list", "--agent", agent["ID"])] == [speaker["id"]]
    osc.ok("bgp", "dragent", "add", "speaker", agent["ID"], "s")
    osc.ok("bgp", "dragent", "remove", "speaker", agent["ID"], "s")  # refused, which the client does not look at
    assert osc.json("bgp", "dragent", "list", "--bgp-speaker", "s") == [agent]

    osc.ok("bgp", "speaker", "remove", "peer", "s", "p")
    osc.ok("bgp", "speaker", "remove", "network", "s", "out")
    shown = osc.json("bgp", "speaker", "show", "s")
    assert (shown["peers"], shown["networks"]) == ([], [])
    assert daemon.get("/v1/peers/p")["admin_state_up"] is False


def test_a_speaker_lists_the_routes_of_floating_addresses_and_of_tenants_networks(osc: Osc) -> None:
    osc.ok("network", "create", "--external", "out")
    osc.ok("subnet", "create", "--network", "out", "--subnet-range", "192.0.2.0/24", "sout")
    osc.ok("network", "create", "in")
    osc.ok("subnet", "create", "--network", "in", "--subnet-range", "10.0.0.0/24", "sin")
    osc.ok("router", "create", "r", "--external-gateway", "out")
    osc.ok("router", "add", "subnet", "r", "sin")
    osc.ok("port", "create", "--network", "in", "p")
    floating = osc.json("floating", "ip", "create", "--port", "p", "out")
    osc.ok("bgp", "speaker", "create", "s", "--local-as", "64512")
    osc.ok("bgp", "peer", "create", "p", "--peer-ip", "127.0.0.9", "--remote-as", "64999")
    osc.ok("bgp", "speaker", "add", "network", "s", "out")
    osc.ok("bgp", "speaker", "add", "peer", "s", "p")
    (gateway,) = osc.json("router", "show", "r")["external_gateway_info"]["external_fixed_ips"]
    told = {"Destination": f"{floating['floating_ip_address']}/32", "Nexthop": gateway["ip_address"]}
    until(
        lambda: told in osc.json("bgp", "speaker", "list", "advertised", "routes", "s"),
        f"{told} is listed",
        LIMIT_S,
    )
