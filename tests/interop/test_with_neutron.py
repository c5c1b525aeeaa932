"""A real Neutron on one of our nodes: what its agent attaches sends packets to another node and to an FRR PE.

It is the lab of lab/l3vpn-evpn. Of Open vSwitch nothing is there: the tenant's interface stands, under the name that
the agent's plug has with us, where otherwise frames of its network come out of br-mpls.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.runner import Lab, eventually, lab_of
from tests.interop.labs import Host, Node, connected, reaches
from tests.openstack import clients
from tests.openstack.clients import OPENSTACK, Osc, Shell
from tests.openstack.neutron.harness import HOST, Neutron

LAB = Path(__file__).resolve().parent.parent.parent / "lab/l3vpn-evpn"
MAC, ADDRESS = "02:00:00:00:01:10", "10.1.1.10"  # of blue1 in the lab
BAGPIPE_PORT = 8082
AWAY = Host("blue2", 2, "02:00:00:00:01:20", ("10.1.2.10/24",), ("10.1.2.1",))
BEHIND_PE = "10.1.3.10"
PYTHON = str(OPENSTACK / "bin/python")


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
def neutron(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neutron]:
    """It runs on node 1, beside the daemon."""
    if not (OPENSTACK / "installed").exists():
        pytest.fail(f"OpenStack's programs are not in {OPENSTACK}; lab/setup openstack installs them", pytrace=False)

    def start(words: Sequence[str], variables: Mapping[str, str], log: Any) -> subprocess.Popen[str]:
        given = [f"{name}={value}" for name, value in variables.items()]
        return lab.popen("node1", "env", *given, *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)

    with Neutron.running(tmp_path_factory.mktemp("neutron"), BAGPIPE_PORT, start=start) as neutron:
        yield neutron


@pytest.fixture(scope="module")
def osc(lab: Lab, neutron: Neutron) -> Iterator[Osc]:
    """The openstack command, on node 1."""
    words = (PYTHON, "-W", "ignore", str(Path(clients.__file__).with_name("shell_loop.py")))
    process = lab.popen("node1", *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield Osc(Shell(process), neutron.url)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.long
def test_a_tenant_of_neutron_reaches_another_node_and_an_FRR_PE_while_its_network_is_associated(
    lab: Lab, neutron: Neutron, osc: Osc
) -> None:
    here = Node(lab, 1)
    vpn = osc.json("bgpvpn", "create", "--name", "blue", "--route-target", "64512:100")
    network = osc.json("network", "create", "red-net")
    osc.ok("subnet", "create", "--network", network["id"], "--subnet-range", "10.1.1.0/24", "red-subnet")
    fixed = ("--fixed-ip", f"ip-address={ADDRESS}", "--mac-address", MAC, "--host", HOST)
    port = osc.json("port", "create", "--network", network["id"], *fixed, "--device-owner", "compute:nova", "vm1")
    neutron.plug(port["id"])
    osc.ok("bgpvpn", "network", "association", "create", vpn["id"], network["id"])

    attached = eventually(lambda: here.api.get("ports"), 20, "the agent has attached the port")[0]
    assert attached["mac_address"] == MAC
    for change in (("down",), ("name", attached["interface"]), ("up",)):
        lab.run("node1", "ip", "link", "set", "blue1" if change[0] != "up" else attached["interface"], *change)
    connected(lab, "blue1", AWAY.ips[0], BEHIND_PE, within_s=60)
    connected(lab, "ce-pe", ADDRESS)
    connected(lab, AWAY.name, ADDRESS)
    assert not reaches(lab, "red1", BEHIND_PE)

    [association] = osc.json("bgpvpn", "network", "association", "list", vpn["id"])
    osc.ok("bgpvpn", "network", "association", "delete", association["ID"], vpn["id"])
    eventually(lambda: not reaches(lab, "ce-pe", ADDRESS), 20, "the PE leads there no more")
    eventually(lambda: not here.api.get("bgpvpns") and not here.api.get("ports"), 20, "nothing is left")
