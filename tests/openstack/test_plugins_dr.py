"""The real agent of neutron-dynamic-routing with our driver, beside a node that speaks with other daemons."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self

import attrs
import pytest

from tests.openstack.clients import OPENSTACK, ROOT
from tests.openstack.daemon import ADDRESS, Daemon, until

OURS, OTHERS, THEIRS = 64600, 64700, 65001
SECRET = "s3cret"
NEXT_HOP = "203.0.113.9"
HOLD_S = 5


class Agent:
    """The agent's process, by what a test has it do."""

    def __init__(self, folder: Path, node: Daemon, **options: Any) -> None:
        self._log = folder / "agent.log"
        options = {
            "bgp_router_id": "192.0.2.1",
            "bgpvpn_node": f"unix:{node.socket}",
            "bgpvpn_hold": HOLD_S,
            "bgpvpn_sync_interval": 1,
            **options,
        }
        words = [f"{name}={json.dumps(value)}" for name, value in options.items()]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [OPENSTACK / "bin/python", "-W", "ignore", "-m", "tests.openstack.dr_agent", *words],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._answer() == "ready"

    @classmethod
    @contextlib.contextmanager
    def running(cls, folder: Path, node: Daemon, **options: Any) -> Iterator[Self]:
        agent = cls(folder, node, **options)
        try:
            yield agent
            assert "Traceback" not in agent.log()
        except BaseException:
            print(agent.log()[-3000:])
            raise
        finally:
            agent.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self.log()
        return json.loads(line)

    def _tell(self, **what: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def hosts(self, *speakers: Any) -> None:
        """Neutron says that the agent hosts these, and the agent asks."""
        self._tell(server=speakers)
        self._tell(resync=True)

    def loses_the_bus(self) -> None:
        """Nobody answers the agent any more, and it asks."""
        self._tell(server=None)
        self._tell(resync=True)

    def is_told(self, name: str, **payload: Any) -> None:
        self._tell(notify=[name, payload])

    def driver(self, name: str, *arguments: Any) -> Any:
        return self._tell(ask=[name, arguments])


def speaker(number: int, *peers: Any, routes: tuple[str, ...] = ()) -> dict[str, Any]:
    """A speaker as Neutron tells its agent of it."""
    return {
        "id": f"speaker-{number}",
        "local_as": number,
        "peers": list(peers),
        "advertised_routes": [{"destination": each, "next_hop": NEXT_HOP} for each in routes],
    }


@attrs.frozen
class Router:
    """A daemon that speaks with the node, and hears what it tells."""

    daemon: Daemon
    address: str
    password: str | None = None

    @property
    def peer(self) -> dict[str, Any]:
        """It as a peer in Neutron."""
        auth = {"auth_type": "md5" if self.password else "none", "password": self.password or ""}
        return {"id": f"peer-{self.address}", "peer_ip": self.address, "remote_as": THEIRS, **auth}

    def hears(self, *prefixes: str, within_s: float = 30) -> None:
        """Wait until it has exactly these."""
        until(lambda: self.routes() == set(prefixes), f"{self.address} hears {prefixes}", within_s)

    def routes(self) -> set[str]:
        return {route["nlri"] for route in self.daemon.get("/v1/routes?family=ipv4") if route["source"] != "local"}

    def session(self) -> Any:
        [session] = self.daemon.get("/v1/sessions")
        return session


@contextlib.contextmanager
def router(folder: Path, remote_as: int, password: str | None = None) -> Iterator[Router]:
    """A router at an address of the loopback that nobody else has."""
    folder.mkdir()
    address = ".".join(["127", *(str(1 + secrets.randbelow(250)) for _ in range(3))])
    peer = [
        f'address = "{ADDRESS}"',
        f"remote_as = {remote_as}",
        'families = ["ipv4", "ipv6"]',
        'import_policy = "accept"',
        "passive = true",
    ]
    if password:
        (folder / "key").write_text(password)
        (folder / "key").chmod(0o600)
        peer.append('password_file = "key"')
    sections = {
        "node": f'router_id = "{address}"\nlocal_as = {THEIRS}\ntunnel_ip = "192.0.2.{1 + secrets.randbelow(200)}"',
        "bgp": f'listen = ["{address}"]\nport = 179\ndeferral_s = 1',
        "[peer]": "\n".join(peer),
    }
    with Daemon.running(folder, **sections) as daemon:
        yield Router(daemon, address, password)


def serial_of(node: Daemon) -> str:
    return str(node.get("/v1/intent?owner=ndr")["serial"])


def other_serial(node: Daemon, before: str) -> bool:
    return serial_of(node) != before


@pytest.fixture
def node(daemon: Daemon) -> Daemon:
    return daemon


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Router]:
    with router(tmp_path / "router", OURS, SECRET) as peer:
        yield peer


def test_sessions_and_routes_outlive_the_loss_of_the_message_bus(node: Daemon, peer: Router, tmp_path: Path) -> None:
    with Agent.running(tmp_path, node) as agent:
        agent.hosts(speaker(OURS, peer.peer, routes=("198.51.100.1/32", "198.51.100.2/32")))
        peer.hears("198.51.100.1/32", "198.51.100.2/32")
        for _ in range(3):
            agent.loses_the_bus()
        # Neutron took the speaker away from an agent that it did not hear of, and schedules it anew.
        agent.hosts()
        until(lambda: "speaker removed by a resync: AS 64600" in agent.log(), "the log tells")
        agent.hosts(speaker(OURS, peer.peer, routes=("198.51.100.2/32", "198.51.100.3/32")))
        peer.hears("198.51.100.1/32", "198.51.100.2/32", "198.51.100.3/32")
        peer.hears("198.51.100.2/32", "198.51.100.3/32", within_s=HOLD_S + 10)
        assert (peer.session()["established"], peer.session()["flaps"]) == (1, 0)
        assert peer.session()["agreed"] is not None
        assert peer.session()["graceful_restart_s"] == 120


def test_sessions_and_routes_outlive_the_agent(node: Daemon, peer: Router, tmp_path: Path) -> None:
    wanted = speaker(OURS, peer.peer, routes=("198.51.100.1/32",))
    with Agent.running(tmp_path, node, bgpvpn_hold=1) as agent:
        agent.hosts(wanted, speaker(OTHERS))
        peer.hears("198.51.100.1/32")
        ids = {each["id"] for each in node.get("/v1/speakers")}
        assert ids == {f"ndr.{number}.ipv{version}" for number in (OURS, OTHERS) for version in (4, 6)}
    with Agent.running(tmp_path, node, bgpvpn_hold=1) as agent:
        agent.loses_the_bus()
        for _ in range(3):  # more than the hold time
            until(partial(other_serial, node, serial_of(node)), "the driver pushes")
        assert peer.routes() == {"198.51.100.1/32"}
        agent.hosts(wanted)
        until(lambda: len(node.get("/v1/speakers")) == 2, "the speaker that nobody wants any more goes")
        assert peer.routes() == {"198.51.100.1/32"}
        assert (peer.session()["established"], peer.session()["flaps"]) == (1, 0)


def test_a_speaker_that_is_removed_on_purpose_goes_at_once_and_one_that_does_not_come_back_later(
    node: Daemon, peer: Router, tmp_path: Path
) -> None:
    with Agent.running(tmp_path, node, bgpvpn_hold=3600) as agent:
        agent.hosts(speaker(OURS, peer.peer, routes=("198.51.100.1/32",)))
        peer.hears("198.51.100.1/32")
        agent.is_told("bgp_speaker_remove_end", bgp_speaker={"id": f"speaker-{OURS}"})
        peer.hears()
        until(lambda: node.get("/v1/peers") == node.get("/v1/speakers") == [], "the node has nothing of it")
    with Agent.running(tmp_path, node, bgpvpn_hold=1) as agent:
        agent.hosts(speaker(OURS, peer.peer, routes=("198.51.100.1/32",)))
        peer.hears("198.51.100.1/32")
        agent.hosts()
        peer.hears()
        until(lambda: node.get("/v1/peers") == node.get("/v1/speakers") == [], "the node has nothing of it")


def test_several_speakers_have_their_own_peers_and_routes(node: Daemon, peer: Router, tmp_path: Path) -> None:
    with router(tmp_path / "other", OTHERS) as other, Agent.running(tmp_path, node) as agent:
        agent.hosts(
            speaker(OURS, peer.peer, routes=("198.51.100.1/32",)), speaker(OTHERS, other.peer, routes=("192.0.2.1/32",))
        )
        peer.hears("198.51.100.1/32")
        other.hears("192.0.2.1/32")
        route = {"destination": "198.51.100.2/32", "next_hop": NEXT_HOP}
        routes = {"speaker_id": f"speaker-{OURS}", "routes": [route]}
        agent.is_told("bgp_routes_advertisement_end", advertise_routes=routes)
        peer.hears("198.51.100.1/32", "198.51.100.2/32")
        agent.is_told("bgp_routes_withdrawal_end", withdraw_routes=routes)
        peer.hears("198.51.100.1/32")
        sessions = json.loads(agent.driver("get_bgp_speaker_statistics", OURS))
        assert [(each["address"], each["state"]) for each in sessions] == [(peer.address, "established")]
        assert json.loads(agent.driver("get_bgp_peer_statistics", OTHERS, other.address))["state"] == "established"
        gone = {"peer_ip": other.address, "speaker_id": f"speaker-{OTHERS}"}
        agent.is_told("bgp_peer_disassociation_end", bgp_peer=gone)
        other.hears()
        assert peer.routes() == {"198.51.100.1/32"}


def test_what_is_said_twice_is_said_once_and_what_cannot_be_is_refused(node: Daemon, tmp_path: Path) -> None:
    with Agent.running(tmp_path, node, bgpvpn_passive_peers=["192.0.2.8"]) as agent:
        said: list[tuple[Any, ...]] = [
            ("add_bgp_speaker", OURS),
            ("add_bgp_peer", OURS, "192.0.2.7", "65001"),
            ("add_bgp_peer", OURS, "192.0.2.8", 65002, "md5", SECRET),
            ("add_bgp_peer", OURS, "2001:db8::7", 65003),
            ("advertise_route", OURS, "198.51.100.0/24", NEXT_HOP),
            ("advertise_route", OURS, "2001:db8:1::1/64", "2001:db8::9"),
        ]
        for name, *arguments in [*said, *said]:
            assert agent.driver(name, *arguments) is None, name
        until(lambda: len(node.get("/v1/advertisements")) == 2, "the node has it")
        assert {each["destination"]: each["speaker_id"] for each in node.get("/v1/advertisements")} == {
            "198.51.100.0/24": f"ndr.{OURS}.ipv4",
            "2001:db8:1::/64": f"ndr.{OURS}.ipv6",
        }
        peers = {each["address"]: each for each in node.get("/v1/peers")}
        assert {address: each["passive"] for address, each in peers.items()} == {
            "192.0.2.7": False,
            "192.0.2.8": True,
            "2001:db8::7": False,
        }
        assert [peers[address]["password"] for address in sorted(peers)] == [None, "***", None]
        harmless: list[tuple[Any, ...]] = [
            ("delete_bgp_peer", OURS, "192.0.2.99"),
            ("withdraw_route", OURS, "192.0.2.0/24"),
            ("withdraw_route", OURS, "198.51.100.0/24", "192.0.2.99"),
        ]
        for name, *arguments in harmless:
            assert agent.driver(name, *arguments) is None, name
        refused: list[tuple[Any, ...]] = [
            ("BgpSpeakerNotAdded", "delete_bgp_speaker", OTHERS),
            ("BgpSpeakerNotAdded", "advertise_route", OTHERS, "192.0.2.0/24", NEXT_HOP),
            ("BgpPeerNotAdded", "get_bgp_peer_statistics", OURS, "192.0.2.99"),
            ("InvalidParamRange", "add_bgp_speaker", 0),
            ("InvalidParamType", "add_bgp_peer", OURS, "nonsense", 65001),
            ("PasswordNotSpecified", "add_bgp_peer", OURS, "192.0.2.9", 65001, "md5"),
            ("InvaildAuthType", "add_bgp_peer", OURS, "192.0.2.9", 65001, "sha1", SECRET),
            ("InvalidParamType", "advertise_route", OURS, "nonsense", NEXT_HOP),
        ]
        for words, name, *arguments in refused:
            assert agent.driver(name, *arguments).startswith(words), name
        assert len(node.get("/v1/advertisements")) == 2
        # Neutron's speakers for IPv4 and IPv6 may have one AS: it was added twice, and goes with the second.
        assert agent.driver("delete_bgp_speaker", OURS) is None
        assert agent.driver("advertise_route", OURS, "198.51.101.0/24", NEXT_HOP) is None
        assert agent.driver("delete_bgp_speaker", OURS) is None
        assert agent.driver("delete_bgp_speaker", OURS).startswith("BgpSpeakerNotAdded")
        until(lambda: node.get("/v1/speakers") == [], "nothing is left after the hold time")
