from __future__ import annotations

from pathlib import Path

import pytest

from lab import topology
from lab.topology import Bind, End, Link, TopologyError

GOOD = """
name: small
topology:
  defaults: {kind: linux, image: anything, env: {A: 1, B: 1}}
  kinds:
    linux:
      env: {B: 2}
      exec: ["ip link set lo up"]
  nodes:
    left:
      labels: {lab.run: frr}
      binds: ["left.conf:/etc/frr/frr.conf:ro"]
      exec: ["sh -c 'echo a b'"]
      env: {C: 3}
      ports: ["1:1"]
    right:
      sysctls: {net.ipv4.ip_forward: 1}
  links:
    - endpoints: ["left:eth1", "right:eth1"]
    - type: veth
      endpoints: [{node: left, interface: eth2, mac: 02:00:00:00:00:01}, {node: right, interface: eth2}]
      mtu: 1500
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "left.conf").write_text("hostname left\n")
    return tmp_path / "small.clab.yml"


def test_fields_of_defaults_kind_and_node_add_up(file: Path) -> None:
    file.write_text(GOOD)
    small = topology.load(file)
    left, right = small.nodes.values()
    assert (left.program, right.program) == ("frr", "host")
    assert left.env == {"A": "1", "B": "2", "C": "3"}
    assert left.commands == (("ip", "link", "set", "lo", "up"), ("sh", "-c", "echo a b"))
    assert left.binds == (Bind(file.parent / "left.conf", Path("/etc/frr/frr.conf")),)
    assert right.sysctls == {"net.ipv4.ip_forward": "1"}
    assert small.namespace("left") == "small-left"


def test_both_forms_of_links_are_read(file: Path) -> None:
    file.write_text(GOOD)
    assert topology.load(file).links == (
        Link((End("left", "eth1"), End("right", "eth1")), 9500),
        Link((End("left", "eth2", "02:00:00:00:00:01"), End("right", "eth2")), 1500),
    )


def test_what_the_runner_cannot_do_is_refused_by_name(file: Path) -> None:
    for good, bad, said in [
        ("name: small", "", "the file: name is missing"),
        ("name: small", "name: ../etc", "name: '../etc' is no name"),
        ("kind: linux, image", "kind: srl, image", "topology.nodes.left.kind: 'srl'"),
        ("    right:", "    right:\n      cpu: 2", "topology.nodes.right: cpu is not supported"),
        ("lab.run: frr", "lab.run: junos", "topology.nodes.left.labels: lab.run is 'junos'"),
        ("left.conf:", "absent.conf:", "absent.conf is not there"),
        ("/etc/frr/frr.conf", "/opt/frr.conf", "below /etc and /run only"),
        ("/etc/frr/frr.conf", "/etc/../root/x", "is not SOURCE:/TARGET"),
        ('"right:eth1"', '"right:eth2"', "right:eth2 is the end of more than one link"),
        ('"right:eth1"', '"middle:eth1"', "'middle' is no node"),
        ('"right:eth1"', '"right:a-name-too-long-for-linux"', "is no name of an interface"),
        ("type: veth", "type: macvlan", "topology.links[1].type: 'macvlan'"),
        ("mtu: 1500", "mtu: 15", "topology.links[1].mtu: 15"),
        ("env: {C: 3}", "env: [C]", "topology.nodes.left.env: ['C'] is no mapping"),
        ("name: small", "name: [", "not YAML"),
        ("    right:\n", "    right: here\n    middle:\n", "topology.nodes.right: 'here' is no mapping"),
        ("sh -c 'echo a b'", "sh -c 'echo", 'topology.nodes.left.exec: "sh -c \'echo": No closing quotation'),
    ]:
        assert good in GOOD
        file.write_text(GOOD.replace(good, bad, 1))
        with pytest.raises(TopologyError) as refused:
            topology.load(file)
        assert said in str(refused.value), bad


def test_a_file_of_another_shape_is_refused_by_name(file: Path) -> None:
    for fields, said in [
        ("nodes: [left]", "topology.nodes: ['left'] is no mapping"),
        ("nodes: {}, links: 7", "topology.links: 7 is no list"),
        ("nodes: {}, defaults: [linux]", "topology.defaults: ['linux'] is no mapping"),
        ("nodes: {left: {kind: [linux]}}", "topology.nodes.left.kind: ['linux']"),
    ]:
        file.write_text(f"name: small\ntopology: {{{fields}}}\n")
        with pytest.raises(TopologyError) as refused:
            topology.load(file)
        assert said in str(refused.value), fields
    file.write_bytes(b"name: \xff")
    with pytest.raises(TopologyError):
        topology.load(file)


def test_every_topology_of_the_tree_is_one() -> None:
    files = sorted(Path(topology.__file__).parent.glob("*/*.clab.yml"))
    assert files
    for file in files:
        assert file.name == f"{topology.load(file).name}.clab.yml"
