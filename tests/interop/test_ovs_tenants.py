"""Tenants behind Open vSwitch, where Neutron's agent hands their frames over: br-mpls for L3, br-tun for EVPN.

vm1, router (VLAN 31), seg1 (VLAN 32) -- Open vSwitch of node1 -- bgpvpnd -- MPLS/GRE, VXLAN -- node2 -- blue2, seg2
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from lab.runner import Lab, eventually
from tests.interop.labs import Host, Node, Site, bridged, connected, reaches, routed, star
from tests.interop.switch import FALLBACK_MAC, Switch

VM = Host("vm1", 1, "02:00:00:00:31:10", ("10.1.1.10/24",), ("10.1.1.1",))
ROUTER = Host("router", 1, "02:00:00:00:31:01", ("10.1.1.1/24",))
SEG, FAR_SEG, FAR = bridged("seg1", 1), bridged("seg2", 2), routed("blue2", 2)
MESH = Host("mesh", 1, "02:00:00:00:32:50", ("10.2.0.50/24",))
OUTSIDE = "203.0.113.9"  # behind the router

SITES = (
    Site(1, ('address = "192.0.2.2"\nremote_as = 64512\n',), bgp='[bagpipe]\nlisten = "127.0.0.1:8082"\n'),
    Site(2, ('address = "192.0.2.1"\nremote_as = 64512\n',)),
)
MARK = "0x62677670"
"""What the cookies of our flows begin with."""

POST = """\
import sys, urllib.request
request = urllib.request.Request("http://127.0.0.1:8082/" + sys.argv[1], sys.argv[2].encode())
urllib.request.urlopen(request, timeout=20).read()
"""


def ask(lab: Lab, verb: str, **body: Any) -> None:
    """Say something to node1 as the agent extension does."""
    lab.run("node1", sys.executable, "-c", POST, verb, json.dumps(body))


def l3(switch: Switch, **more: Any) -> dict[str, Any]:
    plug = {"plugged": True, "port_number": switch.number("patch-from-tun"), "vlan": 31}
    return {
        "vpn_type": "ipvpn",
        "vpn_instance_id": "ipvpn_n1",
        "mac_address": VM.mac,
        "ip_address": VM.ips[0],
        "gateway_ip": "10.1.1.1",
        "local_port": {"linuxif": "patch2tun:31", "ovs": plug},
        "import_rt": ["64512:100"],
        "export_rt": ["64512:100"],
        **more,
    }


def l2() -> dict[str, Any]:
    return {
        "vpn_type": "evpn",
        "vpn_instance_id": "evpn_n2",
        "mac_address": SEG.mac,
        "ip_address": SEG.ips[0],
        "gateway_ip": None,
        "local_port": {"linuxif": "patch2tun:32", "vlan": 32},
        "import_rt": ["64512:300"],
        "export_rt": ["64512:300"],
        "vni": 300,
    }


def fallback(switch: Switch) -> dict[str, Any]:
    number = switch.number("patch-mpls-to-int")
    return {"dst_mac": ROUTER.mac, "src_mac": FALLBACK_MAC, "ovs_port_number": number}


@pytest.fixture(scope="module", params=["system", pytest.param("netdev", marks=pytest.mark.long)])
def switch(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Switch]:
    hosts = (VM, ROUTER, SEG, MESH, FAR, FAR_SEG)
    with star(tmp_path_factory.mktemp("ovs"), f"ovs-{request.param}", SITES, hosts) as lab:
        switch = Switch(lab, "node1", request.param)
        switch.start()
        switch.wire({"vm1": 31, "router": 31, "seg1": 32}, "mesh")
        switch.agent(31, "mesh", 32)
        lab.run("router", "ip", "address", "add", OUTSIDE, "dev", "lo")
        Node(lab, 2).join_l3(FAR)
        Node(lab, 2).join_l2(FAR_SEG)
        yield switch


def test_a_port_on_br_mpls_reaches_the_vpn_by_the_gateway_that_the_agent_answers_for(switch: Switch) -> None:
    lab, here = switch.lab, Node(switch.lab, 1)
    lab.run("router", "ip", "link", "set", "eth1", "down")
    switch.answer_for(31, "10.1.1.1")
    ask(lab, "attach_localport", **l3(switch))
    connected(lab, "vm1", *FAR.ips[:1])
    connected(lab, "blue2", *VM.ips)
    eventually(lambda: here.ready, 10, "the node has nothing to say against it")
    assert {port["status"]["state"] for port in here.api.get("ports")} == {"ACTIVE"}


def test_what_the_vpn_has_no_route_for_goes_to_the_router(switch: Switch) -> None:
    lab = switch.lab
    lab.run("router", "ip", "link", "set", "eth1", "up")
    lab.run("vm1", "ip", "neigh", "flush", "all")
    switch.sh("ovs-ofctl del-flows br-tun table=21,arp")
    switch.flow("br-tun", "table=21,priority=0,actions=resubmit(,22)")
    switch.redirect(31, ROUTER.mac)
    switch.firewall("vm1", 31, ROUTER.mac)
    assert not reaches(lab, "vm1", OUTSIDE)
    ask(lab, "attach_localport", **l3(switch, fallback=fallback(switch)))
    connected(lab, "vm1", OUTSIDE, *FAR.ips[:1])
    lab.run("router", "ip", "neigh", "flush", "all")  # it asks for the tenant anew, and gets an answer
    connected(lab, "vm1", OUTSIDE)


def test_a_port_on_br_tun_is_in_one_segment_with_that_of_another_node(switch: Switch) -> None:
    lab = switch.lab
    connected(lab, "seg1", "10.2.0.50")  # by the agent's own mesh
    ask(lab, "attach_localport", **l2())
    connected(lab, "seg1", "10.2.0.2")
    connected(lab, "seg2", "10.2.0.1")
    for host in ("seg1", "seg2", "mesh"):
        lab.run(host, "ip", "neigh", "flush", "all")
    connected(lab, "seg1", "10.2.0.50")
    said = lab.run("seg1", "ping", "-n", "-c", "5", "-i", "0.1", "10.2.0.2")
    assert " 0% packet loss" in said
    assert "DUP" not in said
    assert not reaches(lab, "mesh", "10.2.0.2"), "what comes by a tunnel of the agent goes into no other"


def test_a_new_start_of_open_vswitch_needs_nothing_else_to_be_started(switch: Switch) -> None:
    lab, here = switch.lab, Node(switch.lab, 1)
    before, pid = switch.number("patch-from-tun"), here.pid
    switch.kill_switching()
    eventually(lambda: "Open vSwitch" in str(here.api.get("status")["degraded"]), 20, "the node says what is missing")
    waiting = [port["status"] for port in here.api.get("ports")]
    assert {status["state"] for status in waiting} == {"PENDING"}
    assert all("Open vSwitch" in status["reason"] for status in waiting)
    switch.sh("ovs-vsctl --no-wait set Interface patch-from-tun ofport_request=77")
    switch.start_switching()
    assert switch.number("patch-from-tun") == 77 != before
    switch.agent(31, "mesh", 32)
    switch.redirect(31, ROUTER.mac)
    switch.firewall("vm1", 31, ROUTER.mac)
    connected(lab, "vm1", *FAR.ips[:1], OUTSIDE)
    connected(lab, "seg1", "10.2.0.2", "10.2.0.50")
    eventually(lambda: here.ready, 20, "the node has nothing to say against it")
    assert here.pid == pid


def test_flows_that_somebody_removes_come_back(switch: Switch) -> None:
    lab = switch.lab
    for bridge in ("br-tun", "br-mpls"):
        assert switch.flows(bridge).count(MARK) > 1
        switch.sh(f"ovs-ofctl del-flows {bridge} cookie={MARK}00000000/0xffffffff00000000")
    connected(lab, "vm1", *FAR.ips[:1], OUTSIDE, within_s=10)
    connected(lab, "seg1", "10.2.0.2", within_s=10)


def test_a_daemon_that_is_stopped_leaves_its_ports_forwarding_and_finds_them_in_order(switch: Switch) -> None:
    lab, here = switch.lab, Node(switch.lab, 1)
    lab.stop("node1", "bgpvpnd")
    before = switch.flows("br-mpls").count("priority")
    assert reaches(lab, "vm1", OUTSIDE)
    lab.start("node1")
    eventually(lambda: here.ready, 60, "the node has heard all")
    assert switch.flows("br-mpls").count("priority") == before
    assert "flows=written" not in lab.log("node1", "bgpvpnd").rpartition("state=started")[2]
    connected(lab, "vm1", *FAR.ips[:1], OUTSIDE)


def test_a_drain_takes_ports_and_flows_away(switch: Switch) -> None:
    switch.sh("bgpvpnd --config /etc/bgpvpn/bgpvpn.toml --drain")
    assert set(switch.vsctl("list-ports br-mpls").split()) == {"patch-from-tun", "patch-mpls-to-int"}
    assert "actions" not in switch.flows("br-mpls")
    assert MARK not in switch.flows("br-tun")
