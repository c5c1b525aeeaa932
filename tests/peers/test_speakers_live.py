"""Dynamic routing with FRR and GoBGP as the peers of four speakers: IPv4 and IPv6, signed, connecting and passive.

The daemon, FRR and gobgpd have a network namespace each; two links lead from the daemon to the others.
"""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.kernel.namespaces import inside, namespaces, sh, within
from tests.openstack.daemon import Daemon, until

SECRET = "s3cret"
OURS = 64600
OUT4, OUT6 = "203.0.113.5", "2001:db8:ffff::5"  # the gateway addresses of the router
TOLD: dict[str, dict[str, str]] = {
    "frr4": {"10.1.0.0/24": OUT4, "203.0.113.77/32": OUT4},
    "frr6": {"2001:db8:1::/64": OUT6},
    "gobgp4": {"192.0.2.0/24": "198.51.100.9"},
    "gobgp6": {"2001:db8:99::/48": "2001:db8:fffe::9"},
}
"""What each speaker tells, by the peer that is in it."""

THEIRS = {
    "frr4": "100.64.1.0/24",
    "frr6": "2001:db8:6401::/48",
    "gobgp4": "100.64.2.0/24",
    "gobgp6": "2001:db8:6402::/48",
}
ADDRESSES = {"frr4": "198.18.1.2", "frr6": "fd00:198:18:1::2", "gobgp4": "198.18.2.2", "gobgp6": "fd00:198:18:2::2"}
OWN_ADDRESSES = {name: f"{address[:-1]}1" for name, address in ADDRESSES.items()}
AS = {"frr": 65001, "gobgp": 65002}

FRR = f"""router bgp {AS["frr"]}
 bgp router-id 192.0.2.2
 no bgp default ipv4-unicast
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor OURS peer-group
 neighbor OURS remote-as {OURS}
 neighbor OURS password {SECRET}
 neighbor OURS timers 3 9
 neighbor OURS timers connect 1
 neighbor {OWN_ADDRESSES["frr4"]} peer-group OURS
 neighbor {OWN_ADDRESSES["frr6"]} peer-group OURS
 address-family ipv4 unicast
  network {THEIRS["frr4"]}
  neighbor {OWN_ADDRESSES["frr4"]} activate
 address-family ipv6 unicast
  network {THEIRS["frr6"]}
  neighbor {OWN_ADDRESSES["frr6"]} activate
"""


def gobgp() -> str:
    """The configuration of gobgpd, which waits for us."""
    lines = ["[global.config]", f"as = {AS['gobgp']}", 'router-id = "192.0.2.3"']
    for version in (4, 6):
        lines += [
            "[[neighbors]]",
            "[neighbors.config]",
            f'neighbor-address = "{OWN_ADDRESSES[f"gobgp{version}"]}"',
            f"peer-as = {OURS}",
            f'auth-password = "{SECRET}"',
            "[neighbors.timers.config]",
            "hold-time = 9",
            "keepalive-interval = 3",
            "connect-retry = 1",
            "idle-hold-time-after-reset = 1",
            "[neighbors.transport.config]",
            "passive-mode = true",
            "[neighbors.graceful-restart.config]",
            "enabled = true",
            "restart-time = 60",
            "[[neighbors.afi-safis]]",
            "[neighbors.afi-safis.config]",
            f'afi-safi-name = "ipv{version}-unicast"',
            "[neighbors.afi-safis.mp-graceful-restart.config]",
            "enabled = true",
        ]
    return "\n".join(lines)


@attrs.frozen
class Far:
    """FRR and gobgpd in their namespaces."""

    folder: Path
    mark: str

    def frr(self, command: str) -> Any:
        words = ["vtysh", "--vty_socket", str(self.folder), "-d", "bgpd", "-c", f"{command} json"]
        return json.loads(self._at("frr", *words))

    def gobgp(self, *words: str) -> str:
        return self._at("gobgp", "gobgp", "-j", *words)

    def _at(self, name: str, *command: str) -> str:
        words = ["ip", "netns", "exec", f"{self.mark}-{name}", *command]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    def heard(self, peer: str) -> dict[str, str]:
        """What a session of theirs was told of us: destinations and next hops."""
        version = int(peer[-1])
        if peer.startswith("frr"):
            rows = self.frr(f"show bgp ipv{version} unicast")["routes"]
            return {
                prefix: next(hop["ip"] for hop in path["nexthops"] if hop.get("scope") != "link-local")
                for prefix, paths in rows.items()
                for path in paths
                if path.get("peerId") == OWN_ADDRESSES[peer]
            }
        rows = json.loads(self.gobgp("global", "rib", "-a", f"ipv{version}"))
        return {
            prefix: next(attr["nexthop"] for attr in path["attrs"] if "nexthop" in attr)
            for prefix, paths in rows.items()
            for path in paths
            if path.get("neighbor-ip") == OWN_ADDRESSES[peer]
        }

    def stale(self) -> bool:
        """Whether anything that we told is held although nobody says it any more."""
        frr = [self.frr(f"show bgp ipv{version} unicast")["routes"] for version in (4, 6)]
        gobgp = [self.gobgp("global", "rib", "-a", f"ipv{version}") for version in (4, 6)]
        return '"stale": true' in json.dumps(frr) or '"stale":true' in "".join(gobgp)


@contextmanager
def far(mark: str, folder: Path) -> Iterator[Far]:
    """The programs, answering, and their routes."""
    (folder / "bgpd.conf").write_text(FRR)
    (folder / "gobgpd.toml").write_text(gobgp())
    shutil.chown(folder, "frr", "frr")
    folder.chmod(0o755)
    files = ("-f", f"{folder}/bgpd.conf", "-i", f"{folder}/pid", "--vty_socket", str(folder), "-A", "127.0.0.1")
    commands = {
        "frr": ["/usr/lib/frr/bgpd", "-Z", *files, "--log", "stdout", "-S", "-u", "frr", "-g", "frr"],
        "gobgp": ["gobgpd", "-f", f"{folder}/gobgpd.toml", "--log-plain"],
    }
    processes = []
    found = Far(folder, mark)
    try:
        for name, command in commands.items():
            with (folder / f"{name}.log").open("ab") as log:
                words = ["ip", "netns", "exec", f"{mark}-{name}", *command]
                processes.append(subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL))
        for ask in (lambda: found.frr("show bgp neighbors"), lambda: found.gobgp("neighbor")):
            until(lambda ask=ask: answered(ask), "FRR and gobgpd answer")  # type: ignore[misc]
        found.gobgp("global", "rib", "add", THEIRS["gobgp4"], "-a", "ipv4")
        found.gobgp("global", "rib", "add", THEIRS["gobgp6"], "-a", "ipv6", "nexthop", ADDRESSES["gobgp6"])
        yield found
    finally:
        for process in processes:
            process.kill()
            process.wait()


def answered(ask: Any) -> bool:
    try:
        ask()
    except (subprocess.CalledProcessError, ValueError):
        return False
    return True


def peer(name: str) -> dict[str, Any]:
    """The wish for a peer; FRR connects to us, and we to gobgpd."""
    return {
        "id": name,
        "name": name,
        "address": ADDRESSES[name],
        "local_address": OWN_ADDRESSES[name],
        "remote_as": AS[name[:-1]],
        "families": [f"ipv{name[-1]}"],
        "password": SECRET,
        "hold_time_s": 9,
        "import_policy": "accept",
        "passive": name.startswith("frr"),
    }


def wishes() -> Iterator[tuple[str, dict[str, Any]]]:
    """What is wanted of the daemon, in order."""
    yield "networks", {"id": "out", "external": True}
    yield "networks", {"id": "red"}
    for id_, network, cidr in (
        ("out4", "out", "203.0.113.0/24"),
        ("out6", "out", "2001:db8:ffff::/64"),
        ("red4", "red", "10.1.0.0/24"),
        ("red6", "red", "2001:db8:1::/64"),
    ):
        yield "subnets", {"id": id_, "network_id": network, "cidr": cidr}
    router = {"id": "r", "subnet_ids": ["red4", "red6"], "gateway_network_id": "out", "gateway_ips": [OUT4, OUT6]}
    yield "routers", router
    yield "floating_ips", {"id": "f", "network_id": "out", "address": "203.0.113.77", "router_id": "r"}
    for name in ADDRESSES:
        yield "peers", peer(name)
        outside = ["out"] if name.startswith("frr") else []
        speaker = {"id": name, "local_as": OURS, "ip_version": int(name[-1]), "networks": outside, "peers": [name]}
        yield "speakers", speaker
    for name in ("gobgp4", "gobgp6"):
        ((destination, hop),) = TOLD[name].items()
        yield "advertisements", {"id": name, "speaker_id": name, "destination": destination, "next_hop": hop}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Daemon, Far]]:
    """The daemon without a wish, and its peers, which are not let in yet."""
    mark = f"spk-{secrets.token_hex(2)}"
    folder = Path("/run") / f"{mark}-far"
    with namespaces(mark, f"{mark}-frr", f"{mark}-gobgp"):
        for number, name in enumerate(("frr", "gobgp"), 1):
            sh(f"ip link add {name} netns {mark} type veth peer name eth0 netns {mark}-{name}")
            for where, link, host in ((mark, name, 1), (f"{mark}-{name}", "eth0", 2)):
                within(
                    where,
                    f"link set {link} up",
                    f"address add 198.18.{number}.{host}/24 dev {link}",
                    f"address add fd00:198:18:{number}::{host}/64 dev {link} nodad",
                )
        listen = "listen = [{}]\nport = 179\ndeferral_s = 1".format(
            ", ".join(f'"{address}"' for address in OWN_ADDRESSES.values())
        )
        folder.mkdir()
        try:
            with far(mark, folder) as peers, inside(mark), Daemon.running(tmp_path, bgp=listen) as daemon:
                yield daemon, peers
        finally:
            shutil.rmtree(folder)


def test_four_speakers_with_FRR_and_GoBGP(place: tuple[Daemon, Far]) -> None:
    daemon, peers = place
    for kind, body in wishes():
        daemon.post(f"/v1/{kind}", body)
    for name, told in TOLD.items():
        until(lambda name=name, told=told: peers.heard(name) == told, f"{name} hears its speaker")  # type: ignore[misc]

    def of_speaker(name: str) -> dict[str, Any]:
        return daemon.get(f"/v1/speakers/{name}/routes")  # type: ignore[no-any-return]

    for name, theirs in THEIRS.items():
        until(lambda name=name: of_speaker(name)["learned"], f"{name} is heard")  # type: ignore[misc]
        (row,) = of_speaker(name)["learned"]
        assert (row["destination"], row["peer"], row["best"]) == (theirs, ADDRESSES[name], True)
        assert (row["as_path"], row["next_hop"]) == ([AS[name[:-1]]], ADDRESSES[name])
        assert {each["destination"]: each["told_to"] for each in of_speaker(name)["advertised"]} == {
            destination: [ADDRESSES[name]] for destination in TOLD[name]
        }
        assert daemon.get(f"/v1/speakers/{name}")["status"]["state"] == "ACTIVE"
    paths = peers.frr("show bgp ipv4 unicast 10.1.0.0/24")["paths"]
    assert [path["aspath"]["string"] for path in paths] == [str(OURS)], "from its own speaker, and from nobody else"

    # The daemon is killed, and starts again: its peers keep what it told (RFC 4724).
    daemon.stop()
    until(peers.stale, "the peers have lost us")
    for name, told in TOLD.items():
        assert peers.heard(name) == told, f"{name} keeps it"
    lost: list[str] = []

    def back() -> bool:
        lost.extend(name for name, told in TOLD.items() if peers.heard(name) != told)
        return not peers.stale()

    daemon.start()
    until(back, "the peers hear all again")
    assert lost == []

    # Another flag and another membership: at once, and the sessions stay.
    flaps = {each["address"]: each["flaps"] for each in daemon.get("/v1/sessions")}
    daemon.ask("PATCH", "/v1/speakers/frr4", {"advertise_tenant_networks": False}).raise_for_status()
    until(lambda: peers.heard("frr4") == {"203.0.113.77/32": OUT4}, "the subnet goes")
    daemon.ask("PATCH", "/v1/speakers/frr6", {"networks": []}).raise_for_status()
    until(lambda: peers.heard("frr6") == {}, "all that the speaker said goes")
    assert peers.heard("gobgp4") == TOLD["gobgp4"]
    assert flaps == {each["address"]: each["flaps"] for each in daemon.get("/v1/sessions")}
