"""A real Neutron, neutron-openvswitch-agent and Open vSwitch on one of our nodes of lab/l3vpn-evpn.

blue1 -- br-int -- br-tun -- br-mpls -- bgpvpnd -- MPLS/GRE -- node 2 -- blue2
                                                           '- FRR PE -- ce-pe
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml

from lab.runner import Lab, eventually, lab_of
from tests.interop.labs import Host, Node, connected, killed, reaches
from tests.interop.switch import RUN, Switch
from tests.openstack.clients import OPENSTACK
from tests.openstack.neutron.harness import HOST, Neutron

pytestmark = pytest.mark.long

LAB = Path(__file__).resolve().parent.parent.parent / "lab/l3vpn-evpn"
MAC, ADDRESS = "02:00:00:00:01:10", "10.1.1.10"  # of blue1 in the lab
BAGPIPE_PORT = 8082
AWAY = Host("blue2", 2, "02:00:00:00:01:20", ("10.1.2.10/24",), ("10.1.2.1",))
BEHIND_PE = "10.1.3.10"
RESTARTED = "OVS is restarted"  # says the agent
OURS = "0x62677670"  # with which the cookies of our flows begin
AGENT = {
    "OVS": f"local_ip = 192.0.2.11\ndatapath_type = netdev\novsdb_connection = unix:{RUN}/db.sock\n",
    "agent": "extensions = bagpipe_bgpvpn\ntunnel_types = vxlan\nl2_population = true\narp_responder = true\n"
    "root_helper = env\n",
    "ml2": "mechanism_drivers = openvswitch,l2population\n",
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(LAB, folder, dirs_exist_ok=True)
    with (folder / "node1.toml").open("a") as options:
        options.write(f'\n[bagpipe]\nlisten = "127.0.0.1:{BAGPIPE_PORT}"\n')
    file = folder / "l3vpn-evpn.clab.yml"
    plan = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**plan, "name": "neutron"}))
    with lab_of(file) as lab:
        Node(lab, 2).join_l3(AWAY)
        yield lab


@pytest.fixture(scope="module")
def switch(lab: Lab) -> Switch:
    """With the bridge that the operator makes; those of Neutron are its agent's."""
    switch = Switch(lab, "node1", "netdev")
    switch.start()
    switch.vsctl("add-br br-mpls", "set Bridge br-mpls datapath_type=netdev")
    return switch


@pytest.fixture(scope="module")
def neutron(lab: Lab, switch: Switch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neutron]:
    """It runs on node 1, beside the daemon."""
    if not (OPENSTACK / "installed").exists():
        pytest.fail(f"OpenStack's programs are not in {OPENSTACK}; lab/setup openstack installs them", pytrace=False)

    def start(words: Sequence[str], variables: Mapping[str, str], log: Any) -> subprocess.Popen[str]:
        given = [f"{name}={value}" for name, value in variables.items()]
        return lab.popen("node1", "env", *given, *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)

    folder = tmp_path_factory.mktemp("neutron")
    with Neutron.running(folder, BAGPIPE_PORT, start=start, settings=AGENT) as neutron:
        yield neutron


@attrs.frozen
class Tenant:
    """A network with one port, whose interface is in br-int, and a VPN that the network is in."""

    vpn: Any
    port: Any
    association: Any


@pytest.fixture(scope="module")
def tenant(switch: Switch, neutron: Neutron) -> Tenant:
    vpn = neutron.post("bgpvpns", name="blue", route_targets=["64512:100"])
    network = neutron.network("blue-net", "10.1.1.0/24")
    fixed = {"fixed_ips": [{"ip_address": ADDRESS}], "mac_address": MAC, "binding:host_id": HOST}
    port = neutron.post("ports", network_id=network["id"], device_owner="compute:nova", **fixed)
    [group] = port["security_groups"]
    for rule in ({"direction": "egress"}, {"direction": "ingress", "protocol": "icmp"}):
        neutron.post("security_group_rules", security_group_id=group, **rule)
    association = neutron.post("bgpvpns", vpn["id"], "network_associations", network_id=network["id"])
    ids = {"iface-id": port["id"], "attached-mac": MAC, "iface-status": "active"}
    words = " ".join(f"external_ids:{name}={value}" for name, value in ids.items())
    switch.vsctl("add-port br-int blue1", f"set Interface blue1 {words}")
    eventually(lambda: neutron.get("ports", port["id"])["status"] == "ACTIVE", 90, "the agent has wired the port")
    return Tenant(vpn, port, association)


def test_a_tenant_reaches_another_node_and_an_FRR_PE_through_the_bridges_of_the_agent(
    lab: Lab, switch: Switch, tenant: Tenant
) -> None:
    here = Node(lab, 1)
    [port] = here.api.get("ports")
    assert port["mac_address"] == MAC
    connected(lab, "blue1", AWAY.ips[0], BEHIND_PE, within_s=60)
    connected(lab, "ce-pe", ADDRESS)
    connected(lab, AWAY.name, ADDRESS)
    assert not reaches(lab, "red1", BEHIND_PE)
    eventually(lambda: here.ready, 10, "the node has nothing to say against it")
    assert here.api.get("ports")[0]["status"]["state"] == "ACTIVE"


def test_a_new_start_of_open_vswitch_needs_no_word_to_the_daemon(
    lab: Lab, switch: Switch, neutron: Neutron, tenant: Tenant
) -> None:
    here = Node(lab, 1)
    pid, ports = here.pid, here.api.get("ports")
    attached, restarts = neutron.asked("attach_localport"), neutron.log().count(RESTARTED)
    with neutron.frozen():  # so nobody else does anything
        switch.kill_switching()
        eventually(
            lambda: "Open vSwitch" in str(here.api.get("status")["degraded"]), 20, "the node says what is missing"
        )
        assert not reaches(lab, "blue1", BEHIND_PE)
        switch.start_switching()
        eventually(lambda: here.ready, 20, "the node has done its own part anew")
        assert OURS in switch.flows("br-mpls")
        assert not reaches(lab, "blue1", BEHIND_PE), "the agent has not done its own"
    written = lab.log("node1", "bgpvpnd").count("flows=written")
    eventually(lambda: neutron.log().count(RESTARTED) > restarts, 60, "the agent has seen it")
    connected(lab, "blue1", AWAY.ips[0], BEHIND_PE, within_s=120)
    connected(lab, "ce-pe", ADDRESS, within_s=120)
    eventually(lambda: neutron.asked("attach_localport") > attached, 120, "the agent attaches what it wires anew")
    assert here.pid == pid
    assert here.api.get("ports") == ports, "which was known"
    assert lab.log("node1", "bgpvpnd").count("flows=written") == written, "and was there"
    connected(lab, "blue1", AWAY.ips[0], BEHIND_PE, within_s=10)


def test_packets_of_a_tenant_go_on_while_the_daemon_is_killed_and_starts_anew(lab: Lab, tenant: Tenant) -> None:
    here = Node(lab, 1)
    pid = here.pid
    words = ("ping", "-n", "-q", "-i", "0.02", "-c", "800", BEHIND_PE)
    with lab.popen("blue1", *words, stdout=subprocess.PIPE) as ping:
        killed(lab, "node1", "bgpvpnd")
        lab.start("node1")
        said, _ = ping.communicate(timeout=60)
    assert " 0% packet loss" in said
    eventually(lambda: here.ready, 60, "the node has heard all")
    assert here.pid != pid
    assert "flows=written" not in lab.log("node1", "bgpvpnd").rpartition("state=started")[2]


def test_a_network_that_is_associated_no_more_leaves_nothing_behind(
    lab: Lab, switch: Switch, neutron: Neutron, tenant: Tenant
) -> None:
    here = Node(lab, 1)
    neutron.delete("bgpvpns", tenant.vpn["id"], "network_associations", tenant.association["id"])
    eventually(lambda: not here.api.get("bgpvpns") and not here.api.get("ports"), 30, "nothing is left")
    eventually(lambda: not reaches(lab, "ce-pe", ADDRESS), 20, "the PE leads there no more")
    eventually(lambda: OURS not in switch.flows("br-mpls"), 20, "no flow of ours is left")
    assert set(switch.vsctl("list-ports br-mpls").split()) == {"patch-from-tun", "patch-mpls-to-int"}
