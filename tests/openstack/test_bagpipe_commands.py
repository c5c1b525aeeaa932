"""The commands of networking-bagpipe, unmodified, with bgpvpnd in the place of bagpipe-bgp.

They read their port from /etc/bagpipe-bgp/bgp.conf: each runs where that is another file.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.openstack.clients import LIMIT_S, OPENSTACK
from tests.openstack.daemon import ADDRESS, Daemon, free_ports, until

MAC = "52:54:00:00:00:01"


@attrs.frozen
class Commands:
    """The commands, the file that they read, and the daemon that they speak to."""

    conf: Path
    port: int
    daemon: Daemon

    def run(self, name: str, *words: str) -> str:
        """Run one; it must end well. Return what it printed."""
        etc = self.conf.parent.parent
        mounted = f'mount -t overlay -o lowerdir={etc}:/etc overlay /etc && exec "$@"'
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", mounted, "sh", OPENSTACK / "bin" / name, *words],
            text=True,
            capture_output=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def attach(self, *words: str) -> str:
        """Run bagpipe-rest-attach, and return the last line."""
        return self.run("bagpipe-rest-attach", *words).splitlines()[-1]

    def routes(self) -> dict[str, Any]:
        """Return the routes of the daemon, by their NLRI."""
        return {each["nlri"]: each for each in self.daemon.get("/v1/routes")}

    def look(self, path: str) -> Any:
        """Ask without a command."""
        with urllib.request.urlopen(f"http://{ADDRESS}:{self.port}/{path}", timeout=LIMIT_S) as answer:
            return json.load(answer)


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    """The commands, and a daemon with the same bgp.conf."""
    (port,) = free_ports(1)
    conf = tmp_path / "etc" / "bagpipe-bgp" / "bgp.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text(f"[BGP]\nlocal_address=192.0.2.250\nmy_as=64512\npeers=192.0.2.251\n[API]\nport={port}\n")
    with Daemon.running(tmp_path, bagpipe=f'listen = "{ADDRESS}:{port}"') as daemon:
        yield Commands(conf, port, daemon)


def test_ports_are_attached_looked_at_and_detached_by_bagpipes_own_commands(commands: Commands) -> None:
    ipvpn = ("--network-type", "ipvpn", "--port", "tap1", "--ip", "10.1.0.5", "--mac", MAC, "--rt", "64512:79")
    evpn = ("--network-type", "evpn", "--port", "tap2", "--ip", "10.2.0.5", "--mac", MAC, "--rt", "64512:80")
    station = f":[0]:[48]:[{MAC}]:[32]:[10.2.0.5]"
    leak = ("--readv-from-rt", "64512:81", "--readv-to-rt", "64512:82", "--local-pref", "50")
    assert commands.attach("--attach", *ipvpn, *leak) == "response: 200 b'null'"
    assert commands.attach("--attach", *evpn, "--vni", "77") == "response: 200 b'null'"
    until(lambda: any(nlri.endswith(station) for nlri in commands.routes()), "the station of the EVPN is announced")
    routes = commands.routes()
    assert routes["192.0.2.250:1 10.1.0.5/32"]["route_targets"] == ["64512:79"]
    assert routes["192.0.2.250:1 10.1.0.5/32"]["local_pref"] == 50

    shown = commands.run("bagpipe-looking-glass", "--recurse")
    assert "ipv4/mpls-vpn,*: \n" in shown
    assert "vpn_instances_count: 2" in shown
    assert commands.run("bagpipe-looking-glass", "vpns", "instances", "ipvpn-bagpipe-test", "gateway_ip") == (
        "10.1.0.254\n"
    )
    listed = commands.run("bagpipe-looking-glass", "vpns", "instances").split()
    assert {"ipvpn-bagpipe-test", "evpn-bagpipe-test"} <= set(listed)
    assert "No such looking glass path" in commands.run("bagpipe-looking-glass", "vpns", "nothing")

    graph = commands.run("bagpipe-impex2dot", "--server", ADDRESS).splitlines()
    server = ADDRESS.replace(".", "_")
    for edge in (
        f"rt_64512_79 -> vpn_{server}__ipvpn_bagpipe_test:0 ",
        f"vpn_{server}__evpn_bagpipe_test:0 -> rt_64512_80 ",
        f"rt_64512_81 -> vpn_{server}__ipvpn_bagpipe_test:readv ",
        f"vpn_{server}__ipvpn_bagpipe_test -> port_{server}_tap1 ",
    ):
        assert any(line.strip().startswith(edge) for line in graph), edge

    ping = commands.look("ping")
    commands.daemon.restart()
    assert commands.look("ping") == ping
    until(lambda: set(commands.routes()) == set(routes), "the same is announced")

    for words in (ipvpn, evpn, ipvpn):  # twice is as good as once
        assert commands.attach("--detach", *words) == "response: 200 b'null'"
    assert commands.look("looking-glass/vpns/instances") == []
    assert commands.daemon.get("/v1/networks") == []


def test_what_cannot_be_attached_is_said_with_the_reason(commands: Commands) -> None:
    words = ("--network-type", "ipvpn", "--port", "tap1", "--ip", "10.1.0.254/24", "--gateway-ip", "10.1.0.254")
    with pytest.raises(AssertionError, match="error 400, reason: Bad Request"):
        commands.attach("--attach", *words)
    assert commands.look("looking-glass/vpns/instances") == []
    assert "10.1.0.254 is the gateway of subnet" in commands.run("bagpipe-looking-glass", "logs")


def test_the_daemon_runs_by_the_bgp_conf_that_is_there(commands: Commands, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "bgpvpn.daemon", "--bagpipe-config", str(commands.conf)]
    said = subprocess.run(
        [*words, "--check-config"], text=True, capture_output=True, timeout=LIMIT_S, check=True
    ).stdout
    assert f'listen = "{ADDRESS}:{commands.port}"' in said

    (port,) = free_ports(1)
    commands.conf.write_text(commands.conf.read_text().replace(str(commands.port), str(port)))
    (tmp_path / "paths.toml").write_text(
        f'[store]\npath = "{tmp_path}/other/intent.db"\n[api]\nsocket = "{tmp_path}/other/api.sock"\n'
    )
    with (tmp_path / "other.log").open("wb") as log:
        process = subprocess.Popen([*words, "--config", str(tmp_path / "paths.toml")], stderr=log)
    try:
        until(lambda: _reachable(process, port), "bagpipe-bgp's port answers")
        with urllib.request.urlopen(f"http://{ADDRESS}:{port}/looking-glass/bgp/peers", timeout=LIMIT_S) as answer:
            assert [each["id"] for each in json.load(answer)] == ["192.0.2.251"]
    finally:
        process.kill()
        process.wait()


def _reachable(process: subprocess.Popen[bytes], port: int) -> bool:
    assert process.poll() is None
    with socket.socket() as probe:
        return probe.connect_ex((ADDRESS, port)) == 0
