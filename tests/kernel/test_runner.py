from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lab import topology
from lab.runner import Lab, LabError, lab_of

PAIR = """
name: pair
topology:
  defaults: {kind: linux}
  nodes:
    left:
      binds: ["greeting:/etc/greeting/text"]
      sysctls: {net.ipv4.ip_forward: 1}
      exec: ["ip address add 10.9.9.1/24 dev eth1"]
    right:
      env: {COLOUR: red}
      exec: ["ip address add 10.9.9.2/24 dev eth1"]
  links:
    - endpoints: ["left:eth1", "right:eth1"]
      mtu: 1400
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "greeting").write_text("hello\n")
    file = tmp_path / "pair.clab.yml"
    file.write_text(PAIR)
    return file


def remains(lab: Lab) -> list[str]:
    namespaces = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout.split()
    return [name for name in namespaces if name.startswith("pair-")] + [str(path) for path in lab.folder.glob("**/*")]


def test_nodes_have_their_links_files_and_settings(file: Path) -> None:
    with lab_of(file) as lab:
        assert "1 received" in lab.run("left", "ping", "-c", "1", "-W", "1", "10.9.9.2")
        assert "mtu 1400" in lab.run("right", "ip", "link", "show", "eth1")
        assert lab.run("left", "cat", "/etc/greeting/text") == "hello\n"
        assert lab.call("right", "cat", "/etc/greeting/text").returncode != 0
        assert lab.run("left", "sysctl", "-n", "net.ipv4.ip_forward") == "1\n"
        assert lab.run("right", "sh", "-c", "echo $COLOUR; hostname") == "red\nright\n"
        lab.run("left", "touch", "/run/mine", "/var/lib/bgpvpn/mine")
        assert lab.call("right", "ls", "/run/mine").returncode != 0
    assert remains(lab) == []


def test_down_ends_processes_that_will_not_end(file: Path) -> None:
    with lab_of(file) as lab:
        deaf = lab.spawn("left", "deaf", ["sh", "-c", "trap '' TERM; while true; do sleep 1; done"])
        stray = lab.popen("right", "sleep", "100")
        assert deaf.alive
    assert not deaf.alive
    assert stray.wait(5) != 0
    assert remains(lab) == []


def test_up_undoes_itself_when_a_command_fails_and_names_it(file: Path) -> None:
    file.write_text(PAIR.replace("10.9.9.2/24", "10.9.9.2/99"))
    lab = Lab(topology.load(file))
    with pytest.raises(LabError, match=r"(?s)right: .*in: ip address add 10\.9\.9\.2/99 dev eth1"):
        lab.up()
    assert remains(lab) == []


def test_a_lab_comes_up_once(file: Path) -> None:
    with lab_of(file) as lab:
        with pytest.raises(LabError, match="is up already"):
            Lab(topology.load(file)).up()
        assert "1 received" in lab.run("left", "ping", "-c", "1", "-W", "1", "10.9.9.2")


def test_nothing_runs_in_a_lab_that_is_not_up(file: Path) -> None:
    with pytest.raises(LabError, match="pair is not up"):
        Lab(topology.load(file)).run("left", "true")


def test_down_twice_is_down(file: Path) -> None:
    lab = Lab(topology.load(file))
    lab.up()
    lab.down()
    lab.down()
    assert remains(lab) == []
