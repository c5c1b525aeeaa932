"""The programs that can be tested: how each is configured, started, asked for its routes, and ended."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import ipaddress
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.conformance.place import CASE_PORT, EBGP_AS, PEER_AS, Peering, Routes

LIMIT_S = 20.0
POLL_S = 0.1
TREE = Path(__file__).parents[2]
Peers = dict[str, Peering]
"""By the address of the case."""

OWN = "192.0.2.128/25"
"""The IPv4 route that the program announces by itself, where it can."""


class Subject(ABC):
    """A program under test; its process is ended by its own id."""

    name = ""
    address = "127.0.0.1"
    families: frozenset[str] = frozenset()
    knows: frozenset[int] = frozenset()  # optional attributes
    options: frozenset[str] = frozenset()  # what of Peering beside AS, families and times can be configured
    own = ""  # the family of the route that it announces by itself

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0
        self._asking = asyncio.Lock()
        self._shown: Routes = Counter()
        self._shown_at = 0.0
        self._shown_of: frozenset[str] = frozenset()
        self._wanted: Counter[str] = Counter()

    @abstractmethod
    def command(self, peers: Peers) -> list[str]:
        """Write the configuration and return the command."""

    @abstractmethod
    def show(self, families: frozenset[str]) -> Routes:
        """Return the routes; an exception when the program does not answer."""

    def after_start(self) -> None:  # noqa: B027
        """Do what the configuration cannot, if anything."""

    def start(self, peers: Peers) -> None:
        """Start the program; it answers when this returns."""
        self.started += 1
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(peers),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(TREE)},
            )
        deadline = time.monotonic() + LIMIT_S
        while True:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.end()
                raise RuntimeError(f"{self.name} does not start: {self.log()}")
            try:
                self.show(self.families)
                break
            except (OSError, subprocess.SubprocessError, ValueError):
                time.sleep(0.1)
        self.after_start()

    def log(self, size: int = 3000) -> str:
        """Return the end of what the program printed."""
        return (self.folder / "log").read_text(errors="replace")[-size:]

    def last_words(self) -> str:
        """Return the line of the log that tells why the program died, as far as it can be found."""
        told = re.findall(r"^.*(?:panic: |[Aa]ssert|fatal error|signal ).*$", self.log(20_000), re.MULTILINE)
        return f" ({told[0][:160]})" if told else ""

    def lives(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def end(self) -> None:
        """End the program, at once."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGKILL)
            self.process.wait(LIMIT_S)
            self.process = None

    async def seen(self, enough: Callable[[Routes], bool], families: frozenset[str], within_s: float) -> Routes:
        """Return what the looking glass shows as soon as it is enough, or when the time is over.

        All who wait share one look at a time, of the families that any of them waits for.
        """
        loop = asyncio.get_running_loop()
        asked, deadline = loop.time(), loop.time() + within_s
        self._wanted.update(families)
        try:
            while True:
                async with self._asking:
                    if self._shown_at < asked or not families <= self._shown_of:
                        await self._look(loop)
                shown = self._shown
                if enough(shown) or loop.time() >= deadline:
                    return shown
                await asyncio.sleep(POLL_S)
                asked = loop.time() - POLL_S / 2
        finally:
            self._wanted.subtract(families)

    async def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        families = frozenset(name for name, count in self._wanted.items() if count > 0) & self.families
        began = loop.time()
        try:
            self._shown = await asyncio.to_thread(self.show, families)
        except (OSError, subprocess.SubprocessError, ValueError):
            self._shown = Counter()
        self._shown_at, self._shown_of = began, frozenset(self._wanted)


def run(*command: str) -> str:
    """Return what a command prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT_S).stdout


class Ours(Subject):
    """The daemon of this tree, with the dataplane that only prints."""

    name = "ours"
    knows = frozenset({22, 25, 26, 32, 35})
    own = "vpnv4"

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder, port)
        from bgpvpn.config import PEER_OPTIONS
        from speaker.values import Family

        self.peer_options = PEER_OPTIONS
        self.families = frozenset(
            family.text for family in Family if not family.text.startswith("vpnv") or "-" not in family.text
        )
        self.options = frozenset(
            name
            for name, option in {
                "role": "role",
                "strict_role": "strict_role",
                "add_path": "add_path_receive",
                "long_lived": "long_lived_s",
                "limit": "prefix_limits",
                "client": "route_reflector_client",
            }.items()
            if option in PEER_OPTIONS
        )

    def command(self, peers: Peers) -> list[str]:
        shutil.rmtree(self.folder / "state", ignore_errors=True)
        lines = [
            "[node]",
            'router_id = "192.0.2.1"',
            f"local_as = {PEER_AS}",
            'tunnel_ip = "192.0.2.1"',
            "[bgp]",
            f'listen = ["{self.address}"]',
            f"port = {self.port}",
            "deferral_s = 1",
            "[store]",
            f'path = "{self.folder}/state/intent.db"',
            "[api]",
            f'socket = "{self.folder}/run/api.sock"',
            "[dataplane]",
            'kind = "dryrun"',
            "[log]",
            'level = "warning"',
        ]
        policies = ("import_policy", "export_policy")
        accepting = [f'{name} = "accept"' for name in policies if name in self.peer_options]  # RFC 8212
        for address, peering in peers.items():
            lines += [
                "[[peer]]",
                f'address = "{address}"',
                f"remote_as = {PEER_AS if peering.ibgp else EBGP_AS}",
                f"families = {json.dumps(sorted(peering.families))}",
                f"hold_time_s = {peering.hold_s}",
                f"restart_time_s = {peering.restart_s}",
                f"port = {CASE_PORT}",
                f"passive = {json.dumps(not peering.connects)}",
                f'local_address = "{self.address}"',
                *([f'role = "{peering.role}"'] if peering.role else []),
                *(["strict_role = true"] if peering.strict_role else []),
                *([f"add_path_receive = {json.dumps(sorted(peering.families))}"] if peering.add_path else []),
                *(["route_reflector_client = true"] if peering.client else []),
                *([f"long_lived_s = {peering.long_lived_s}"] if peering.long_lived_s else []),
                *(
                    [f'prefix_limits = {{ ipv4 = {{ most = {peering.limit}, action = "restart" }} }}']
                    if peering.limit
                    else []
                ),
                *(accepting if not peering.ibgp else []),
            ]
        (self.folder / "bgpvpn.toml").write_text("\n".join(lines) + "\n")
        return [sys.executable, "-m", "bgpvpn.daemon", "--config", f"{self.folder}/bgpvpn.toml"]

    def ask(self, path: str, body: object = None) -> Any:
        """Return an answer of the API."""
        connection = http.client.HTTPConnection("node", timeout=LIMIT_S)
        connection.sock = socket.socket(socket.AF_UNIX)
        with contextlib.closing(connection):
            connection.sock.connect(f"{self.folder}/run/api.sock")
            if body is None:
                connection.request("GET", f"/v1{path}")
            else:
                connection.request("POST", f"/v1{path}", json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        if answer.status >= 400:
            raise OSError(f"{path}: {answer.status} {text.decode()}")
        return json.loads(text)

    def after_start(self) -> None:
        for path, body in (
            ("/networks", {"id": "n"}),
            ("/subnets", {"id": "s", "network_id": "n", "cidr": "10.254.0.0/24", "gateway_ip": "10.254.0.1"}),
            (
                "/ports",
                {
                    "id": "p",
                    "network_id": "n",
                    "interface": "tap1",
                    "mac_address": "02:00:00:00:00:01",
                    "ip_addresses": ["10.254.0.5"],
                },
            ),
            ("/bgpvpns", {"id": "v", "type": "l3", "route_targets": ["64512:1"]}),
            ("/associations", {"id": "a", "bgpvpn_id": "v", "network_id": "n"}),
        ):
            self.ask(path, body)

    def show(self, families: frozenset[str]) -> Routes:
        found: Routes = Counter()
        for family in families:
            for route in self.ask(f"/routes?family={family}&limit=10000"):
                nlri = route["nlri"]
                if family.endswith("flowspec"):
                    token = re.sub(r".*?([0-9a-f.:]+/[0-9]+).*", r"\1", nlri)
                elif family in ("ipv4", "ipv6"):
                    token = nlri
                else:
                    numbers = re.findall(r"64512:\d+", nlri)
                    token = numbers[0] if numbers else nlri
                found[(family, token)] += 1
        return found


class Frr(Subject):
    """FRR's bgpd alone: without zebra it holds every next hop for reachable."""

    name = "frr"
    address = "198.18.0.1"
    families = frozenset({"ipv4", "ipv6", "vpnv4", "vpnv6", "evpn"})
    knows = frozenset({22, 25, 26, 32, 35})
    options = frozenset({"role", "strict_role", "add_path", "client", "long_lived", "limit"})
    own = "ipv4"
    words = {
        "ipv4": "ipv4 unicast",
        "ipv6": "ipv6 unicast",
        "vpnv4": "ipv4 vpn",
        "vpnv6": "ipv6 vpn",
        "evpn": "l2vpn evpn",
    }

    roles = {
        "provider": "provider",
        "customer": "customer",
        "peer": "peer",
        "route-server": "rs-server",
        "route-server-client": "rs-client",
    }

    def command(self, peers: Peers) -> list[str]:
        lines = [
            f"router bgp {PEER_AS}",
            " bgp router-id 192.0.2.1",
            " no bgp default ipv4-unicast",
            " no bgp ebgp-requires-policy",
            " no bgp network import-check",
            " coalesce-time 50",  # milliseconds; by default it grows to 10 s with the number of peers
            " bgp graceful-restart",
            " bgp graceful-restart restart-time 20",
            " bgp graceful-restart select-defer-time 0",
            " bgp long-lived-graceful-restart stale-time 6",
            " bgp graceful-restart notification",
            " bgp graceful-restart preserve-fw-state",
        ]
        activated: dict[str, list[str]] = {family: [] for family in self.families}
        for address, peering in peers.items():
            role = self.roles.get(peering.role, "") + (" strict-mode" if peering.strict_role else "")
            lines += [
                f" neighbor {address} remote-as {PEER_AS if peering.ibgp else EBGP_AS}",
                f" neighbor {address} timers {max(1, peering.hold_s // 3)} {peering.hold_s}",
                f" neighbor {address} timers connect 1",
                f" neighbor {address} port {CASE_PORT}",
                *([] if peering.ibgp else [f" neighbor {address} ebgp-multihop 255"]),
                *([] if peering.connects else [f" neighbor {address} passive"]),
                *([] if peering.restart_s else [f" neighbor {address} graceful-restart-disable"]),
                *([f" neighbor {address} local-role {role}"] if role else []),
            ]
            for family in peering.families:
                if family in self.families:
                    activated[family].append(f"  neighbor {address} activate")
                    if peering.limit and family == "ipv4":
                        activated[family].append(f"  neighbor {address} maximum-prefix {peering.limit}")
                    if peering.client:
                        activated[family].append(f"  neighbor {address} route-reflector-client")
                    elif family == "ipv4" and not peering.told_all:
                        activated[family].append(f"  neighbor {address} prefix-list OWN out")
        for family, each in activated.items():
            lines += [f" address-family {self.words[family]}", *each]
            if family == "ipv4":
                lines.append(f"  network {OWN}")
            lines.append(" exit-address-family")
        lines += ["exit", f"ip prefix-list OWN seq 1 permit {OWN}"]
        (self.folder / "bgpd.conf").write_text("\n".join(lines) + "\n")
        shutil.chown(self.folder, "frr", "frr")
        self.folder.chmod(0o755)
        folder = str(self.folder)
        return [
            *("/usr/lib/frr/bgpd", "-Z", "-f", f"{folder}/bgpd.conf", "-i", f"{folder}/pid", "--vty_socket", folder),
            *("-A", "127.0.0.1", "-p", str(self.port), "--log", "stdout", "-S", "-u", "frr", "-g", "frr"),
        ]

    def show(self, families: frozenset[str]) -> Routes:
        found: Routes = Counter()
        for family in families:
            asked = f"show bgp {self.words[family]} json"
            text = run("vtysh", "--vty_socket", str(self.folder), "-d", "bgpd", "-c", asked)
            for token, count in self._tokens(family, json.loads(text or "{}")):
                found[(family, token)] += count
        return found

    @staticmethod
    def _tokens(family: str, answer: dict[str, Any]) -> Iterator[tuple[str, int]]:
        if family in ("ipv4", "ipv6"):
            for prefix, paths in answer.get("routes", {}).items():
                yield prefix, len(paths)
        elif family in ("vpnv4", "vpnv6"):
            for number, routes in answer.get("routes", {}).get("routeDistinguishers", {}).items():
                for paths in routes.values():
                    yield number, len(paths)
        else:
            for number, routes in answer.items():
                if isinstance(routes, dict):
                    for route in routes.values():
                        if isinstance(route, dict) and "paths" in route:
                            yield number, len(route["paths"])


class Gobgp(Subject):
    """GoBGP's daemon, asked by its command."""

    name = "gobgp"
    address = "198.18.0.1"
    families = frozenset({"ipv4", "ipv6", "vpnv4", "vpnv6", "evpn", "rtc", "ipv4-flowspec", "ipv6-flowspec"})
    knows = frozenset({22, 25, 26, 32})
    options = frozenset({"add_path", "client", "long_lived", "limit"})
    own = "ipv4"
    words = {
        "ipv4": ("ipv4-unicast", "ipv4"),
        "ipv6": ("ipv6-unicast", "ipv6"),
        "vpnv4": ("l3vpn-ipv4-unicast", "vpnv4"),
        "vpnv6": ("l3vpn-ipv6-unicast", "vpnv6"),
        "evpn": ("l2vpn-evpn", "evpn"),
        "rtc": ("rtc", "rtc"),
        "ipv4-flowspec": ("ipv4-flowspec", "ipv4-flowspec"),
        "ipv6-flowspec": ("ipv6-flowspec", "ipv6-flowspec"),
    }

    def command(self, peers: Peers) -> list[str]:
        lines = ["[global.config]", f"as = {PEER_AS}", 'router-id = "192.0.2.1"', f"port = {self.port}"]
        lines += [f'local-address-list = ["{self.address}"]']
        for address, peering in peers.items():
            lines += [
                "[[neighbors]]",
                "[neighbors.config]",
                f'neighbor-address = "{address}"',
                f"peer-as = {PEER_AS if peering.ibgp else EBGP_AS}",
                "[neighbors.timers.config]",
                f"hold-time = {peering.hold_s}",
                f"keepalive-interval = {max(1, peering.hold_s // 3)}",
                "connect-retry = 1",
                "idle-hold-time-after-reset = 1",
                "[neighbors.transport.config]",
                f"passive-mode = {json.dumps(not peering.connects)}",
                f"remote-port = {CASE_PORT}",
                f'local-address = "{self.address}"',
                *([] if peering.ibgp else ["[neighbors.ebgp-multihop.config]", "enabled = true", "multihop-ttl = 255"]),
                *(["[neighbors.add-paths.config]", "receive = true"] if peering.add_path else []),
                *(
                    [
                        "[neighbors.route-reflector.config]",
                        "route-reflector-client = true",
                        'route-reflector-cluster-id = "192.0.2.1"',
                    ]
                    if peering.client
                    else []
                ),
            ]
            if peering.restart_s:
                lines += [
                    "[neighbors.graceful-restart.config]",
                    "enabled = true",
                    "notification-enabled = true",
                    f"restart-time = {peering.restart_s}",
                ]
            for family in peering.families:
                if family in self.families:
                    lines += ["[[neighbors.afi-safis]]", "[neighbors.afi-safis.config]"]
                    lines += [f'afi-safi-name = "{self.words[family][0]}"']
                    if peering.limit and family == "ipv4":
                        lines += ["[neighbors.afi-safis.prefix-limit.config]", f"max-prefixes = {peering.limit}"]
                    if peering.long_lived_s:
                        lines += ["[neighbors.afi-safis.long-lived-graceful-restart.config]", "enabled = true"]
                        lines += [f"restart-time = {peering.long_lived_s}"]
                    if peering.restart_s:
                        lines += ["[neighbors.afi-safis.mp-graceful-restart.config]", "enabled = true"]
        (self.folder / "gobgpd.toml").write_text("\n".join(lines) + "\n")
        return ["gobgpd", "-f", f"{self.folder}/gobgpd.toml", "--log-plain", "--log-level", "warn"]

    def after_start(self) -> None:
        run("gobgp", "global", "rib", "add", OWN, "nexthop", "192.0.2.1", "-a", "ipv4")

    def show(self, families: frozenset[str]) -> Routes:
        found: Routes = Counter()
        for family in families:
            answer = json.loads(run("gobgp", "-j", "global", "rib", "-a", self.words[family][1]) or "{}")
            for key, paths in answer.items():
                if family in ("ipv4", "ipv6"):
                    token = key
                elif family.endswith("flowspec"):
                    match = re.search(r"destination: ?([0-9a-f.:]+/\d+)", key)
                    token = match[1] if match else key
                else:
                    numbers = re.findall(r"64512:\d+$" if family == "rtc" else r"64512:\d+", key)
                    token = numbers[0] if numbers else key
                found[(family, token)] += len(paths)
        return found


class Bird(Subject):
    """BIRD 2, asked by birdc."""

    name = "bird"
    address = "198.18.0.1"
    families = frozenset({"ipv4", "ipv6", "vpnv4", "vpnv6", "ipv4-flowspec", "ipv6-flowspec"})
    knows = frozenset({26, 32, 35})
    options = frozenset({"role", "strict_role", "add_path", "client", "long_lived", "limit"})
    own = "ipv4"
    words = {
        "ipv4": "ipv4",
        "ipv6": "ipv6",
        "vpnv4": "vpn4 mpls",
        "vpnv6": "vpn6 mpls",
        "ipv4-flowspec": "flow4",
        "ipv6-flowspec": "flow6",
    }
    tables = {
        "ipv4": "master4",
        "ipv6": "master6",
        "vpnv4": "tvpn4",
        "vpnv6": "tvpn6",
        "ipv4-flowspec": "tflow4",
        "ipv6-flowspec": "tflow6",
    }
    roles = {
        "provider": "provider",
        "customer": "customer",
        "peer": "peer",
        "route-server": "rs_server",
        "route-server-client": "rs_client",
    }

    def command(self, peers: Peers) -> list[str]:
        lines = ["router id 192.0.2.1;", "vpn4 table tvpn4;", "vpn6 table tvpn6;"]
        lines += ["flow4 table tflow4;", "flow6 table tflow6;", "protocol device {}"]
        lines += [f"protocol static own {{ ipv4; route {OWN} blackhole; }}"]
        for number, (address, peering) in enumerate(peers.items()):
            lines += [
                f"protocol bgp p{number} {{",
                f"  local {self.address} port {self.port} as {PEER_AS};",
                f"  neighbor {address} port {CASE_PORT} as {PEER_AS if peering.ibgp else EBGP_AS};",
                "  multihop; error wait time 1,1; connect delay time 1; connect retry time 1;",
                f"  hold time {peering.hold_s}; enable extended messages on; startup hold time 240;",
                f"  passive {'off' if peering.connects else 'on'};",
                *([f"  graceful restart on; graceful restart time {peering.restart_s};"] if peering.restart_s else []),
                *(
                    [f"  long lived graceful restart on; long lived stale time {peering.long_lived_s};"]
                    if peering.long_lived_s
                    else []
                ),
                *([f"  local role {self.roles[peering.role]};"] if peering.role else []),
                *(["  require roles on;"] if peering.strict_role else []),
                *(["  rr client; rr cluster id 192.0.2.1;"] if peering.client else []),
            ]
            for family in peering.families:
                if family not in self.families:
                    continue
                own = "where source = RTS_STATIC" if family == "ipv4" else "none"
                export = "all" if peering.client or peering.told_all else own
                extra = " add paths rx;" if peering.add_path else ""
                extra += f" receive limit {peering.limit} action disable;" if peering.limit and family == "ipv4" else ""
                extra += "" if "flow" in family or family == "ipv6" else " extended next hop on;"
                lines.append(
                    f"  {self.words[family]} {{ table {self.tables[family]}; import all; export {export};{extra} }};"
                )
            lines.append("}")
        (self.folder / "bird.conf").write_text("\n".join(lines) + "\n")
        folder = str(self.folder)
        return ["/usr/sbin/bird", "-f", "-c", f"{folder}/bird.conf", "-s", f"{folder}/ctl", "-P", f"{folder}/pid"]

    def show(self, families: frozenset[str]) -> Routes:
        found: Routes = Counter()
        for family in families:
            text = run("/usr/sbin/birdc", "-s", f"{self.folder}/ctl", f"show route table {self.tables[family]}")
            token = ""
            for line in text.splitlines():
                if re.match(r"(Table|BIRD|Access)", line):
                    continue
                head = line[: line.find("[")] if "[" in line else line
                if not line[:1].isspace():
                    match = re.match(r"(?:0:)?(64512:\d+)", head) or re.search(r"dst ([0-9a-f.:]+/\d+)", head)
                    token = match[1] if match else head.split()[0] if head.split() else ""
                if re.search(r"\[\w+ ", line):
                    found[(family, token)] += 1
        return found


SUBJECTS: dict[str, type[Subject]] = {each.name: each for each in (Ours, Frr, Gobgp, Bird)}


def addresses(subject: Subject) -> Iterable[str]:
    """Return addresses for cases, each once: of the loopback, or of the namespace's own network."""
    # Beside another run on this machine: each has a second octet of its own, as far as can be.
    loopback = f"127.{64 + os.getpid() % 128}.0.10"
    first = ipaddress.IPv4Address(loopback if subject.address.startswith("127.") else "198.18.1.10")
    return (str(first + number) for number in range(6000))


def enter_namespace() -> None:
    """Start this program anew in namespaces of its own, for network and processes: whatever it starts ends with it."""
    if os.environ.get("CONFORMANCE_NAMESPACE") != "1":
        environment = {**os.environ, "CONFORMANCE_NAMESPACE": "1"}
        words = ["unshare", "--net", "--pid", "--fork", "--kill-child", sys.executable, *sys.orig_argv[1:]]
        os.execvpe(words[0], words, environment)  # noqa: S606
    # The first process of a namespace ends by no signal that it does not handle.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    run("ip", "link", "set", "lo", "up")
    run("ip", "address", "add", "198.18.0.1/15", "dev", "lo")
