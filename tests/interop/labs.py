"""Labs of a few words: nodes of ours and their hosts around one router, which may be a route reflector too.

hub    192.0.2.100    runs nothing, GoBGP or FRR; IPv6: 2001:db8:ffff::100
 |     10.0.N.0/30    IPv6: fd00:0:0:N::/64
nodeN  192.0.2.N      bgpvpnd; IPv6: 2001:db8:ffff::N
 |     1400 octets
hosts
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import yaml

from cli.api import Api
from lab.kernel_state import COMMANDS, State, difference, steady
from lab.runner import Lab, LabError, eventually, lab_of

STREAM = Path(__file__).resolve().parent.parent.parent / "lab/stream.py"

HUB = "192.0.2.100"
GOBGP_FAMILIES = {"vpnv4": "l3vpn-ipv4-unicast", "vpnv6": "l3vpn-ipv6-unicast", "evpn": "l2vpn-evpn", "rtc": "rtc"}


@attrs.frozen
class Host:
    """A tenant's machine on a node; the interface there has its name."""

    name: str
    node: int
    mac: str
    addresses: tuple[str, ...]  # each with its length
    gateways: tuple[str, ...] = ()  # everything else is behind them

    @property
    def ips(self) -> tuple[str, ...]:
        return tuple(address.partition("/")[0] for address in self.addresses)


def routed(name: str, node: int) -> Host:
    """A host in a subnet that its node has for itself."""
    return Host(
        name,
        node,
        f"02:00:00:00:01:{node:02x}",
        (f"10.1.{node}.10/24", f"2001:db8:{node}::10/64"),
        (f"10.1.{node}.1", f"2001:db8:{node}::1"),
    )


def bridged(name: str, node: int) -> Host:
    """A host in a subnet that is the same everywhere."""
    return Host(name, node, f"02:00:00:00:02:{node:02x}", (f"10.2.0.{node}/24", f"2001:db8:2:0::{node}/64"))


@attrs.frozen
class Site:
    """A node of ours; `peers` are what follows `[[peer]]` in its configuration, `bgp` what follows `[bgp]`.

    `host` is what the node is called among others, "": as this machine.
    """

    number: int
    peers: tuple[str, ...] = (f'address = "{HUB}"\nremote_as = 64512\n',)
    bgp: str = ""
    local_as: int = 64512
    host: str = ""

    @property
    def name(self) -> str:
        return f"node{self.number}"


@attrs.frozen
class Hub:
    """What runs on the router, and its files by path."""

    program: str = "host"
    files: Mapping[str, str] = {}


def gobgp(clients: int, families: tuple[str, ...] = ("vpnv4", "vpnv6", "evpn"), restart_time_s: int = 60) -> Hub:
    """A route reflector with the nodes 1 to `clients`, which keep its routes while it restarts."""
    return Hub("gobgp", {"/etc/gobgp/gobgpd.toml": gobgp_settings(clients, families, restart_time_s)})


def gobgp_settings(clients: int, families: tuple[str, ...], restart_time_s: int) -> str:
    """The configuration file of GoBGP as route reflector."""
    group = f"""\
[global.config]
as = 64512
router-id = "{HUB}"
local-address-list = ["{HUB}"]
[[peer-groups]]
[peer-groups.config]
peer-group-name = "clients"
peer-as = 64512
[peer-groups.transport.config]
local-address = "{HUB}"
passive-mode = true
[peer-groups.route-reflector.config]
route-reflector-client = true
route-reflector-cluster-id = "{HUB}"
[peer-groups.graceful-restart.config]
enabled = true
restart-time = {restart_time_s}
deferral-time = 10
"""
    for family in families:
        group += f"""\
[[peer-groups.afi-safis]]
[peer-groups.afi-safis.config]
afi-safi-name = "{GOBGP_FAMILIES[family]}"
[peer-groups.afi-safis.mp-graceful-restart.config]
enabled = true
"""
    for number in range(1, clients + 1):
        group += f"""\
[[neighbors]]
[neighbors.config]
neighbor-address = "192.0.2.{number}"
peer-group = "clients"
"""
    return group


@contextlib.contextmanager
def star(
    folder: Path, name: str, sites: tuple[Site, ...], hosts: tuple[Host, ...], hub: Hub = Hub(), version: int = 4
) -> Iterator[Lab]:
    """Such a lab, up; its underlay is of one IP version."""
    nodes: dict[str, Any] = {"hub": _hub(folder, hub, sites, version)}
    links: list[dict[str, Any]] = []
    for site in sites:
        nodes[site.name] = _node(folder, site, version)
        links.append({"endpoints": [f"{site.name}:core", f"hub:eth{site.number}"], "mtu": 1600})
    for host in hosts:
        nodes[host.name] = {"exec": [line for address in host.addresses for line in _given(address, "eth1")]}
        nodes[host.name]["exec"] += [f"ip route add default via {gateway}" for gateway in host.gateways]
        ends = [{"node": host.name, "interface": "eth1", "mac": host.mac}, f"node{host.node}:{host.name}"]
        links.append({"endpoints": ends, "mtu": 1400})
    # Python compiles each file once and not at every start of a daemon.
    cache = {"PYTHONPYCACHEPREFIX": "/tmp/bgpvpn-lab-pycache", "PYTHONDONTWRITEBYTECODE": ""}
    defaults = {"kind": "linux", "image": "bgpvpn-lab", "env": cache}
    plan = {"name": name, "topology": {"defaults": defaults, "nodes": nodes, "links": links}}
    file = folder / f"{name}.clab.yml"
    file.write_text(yaml.safe_dump(plan))
    with lab_of(file) as lab:
        yield lab


def tunnel_ip(number: int, version: int = 4) -> str:
    """The address of a node's tunnels."""
    return f"192.0.2.{number}" if version == 4 else f"2001:db8:ffff::{number}"


def _hub(folder: Path, hub: Hub, sites: tuple[Site, ...], version: int) -> dict[str, Any]:
    commands = list(_given(tunnel_ip(100, version) + ("/32" if version == 4 else "/128"), "lo"))
    for number in (site.number for site in sites):
        ends = (f"10.0.{number}.2/30", f"10.0.{number}.1")
        if version == 6:
            ends = (f"fd00:0:0:{number}::2/64", f"fd00:0:0:{number}::1")
        commands += [*_given(ends[0], f"eth{number}"), f"ip route add {tunnel_ip(number, version)} via {ends[1]}"]
    return {
        "labels": {"lab.run": hub.program},
        "binds": [_bind(folder, f"hub{path.replace('/', '-')}", path, text) for path, text in hub.files.items()],
        "sysctls": {"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1},
        "exec": commands,
    }


def _node(folder: Path, site: Site, version: int) -> dict[str, Any]:
    own = tunnel_ip(site.number, version)
    text = f'[node]\nrouter_id = "192.0.2.{site.number}"\nlocal_as = {site.local_as}\ntunnel_ip = "{own}"\n'
    text += f'host = "{site.host}"\n' if site.host else ""
    text += "".join([f"[bgp]\n{site.bgp}", *(f"[[peer]]\n{peer}" for peer in site.peers)])
    underlay, via, address = "192.0.2.0/24", f"10.0.{site.number}.2", f"10.0.{site.number}.1/30"
    if version == 6:
        underlay, via = "2001:db8:ffff::/48", f"fd00:0:0:{site.number}::2"
        address = f"fd00:0:0:{site.number}::1/64"
    return {
        "labels": {"lab.run": "bgpvpnd"},
        "binds": [_bind(folder, f"{site.name}.toml", "/etc/bgpvpn/bgpvpn.toml", text)],
        "exec": [
            *_given(own + ("/32" if version == 4 else "/128"), "lo"),
            *_given(address, "core"),
            f"ip route add {underlay} via {via} src {own}",
        ],
    }


def _bind(folder: Path, name: str, target: str, text: str) -> str:
    (folder / name).write_text(text)
    return f"{name}:{target}"


def _given(address: str, device: str) -> Iterator[str]:
    yield f"ip address add {address} dev {device}{' nodad' if ':' in address else ''}"


class Node:
    """A node of ours in a lab, as its users see it."""

    def __init__(self, lab: Lab, number: int) -> None:
        self.lab = lab
        self.name = f"node{number}"
        self.api = Api(str(lab.folder / self.name / "run/bgpvpn/api.sock"))

    def make(self, kind: str, name: str, **fields: Any) -> Any:
        """Make an object."""
        return self.api.post({"name": name, **fields}, kind)

    def bind(self, vpn: str, **what: Any) -> Any:
        """Bind `network_id` or `port_id` to a VPN."""
        return self.api.post(what, "bgpvpns", vpn, "associations")

    def unbind(self, vpn: str) -> None:
        """Unbind all from a VPN."""
        for association in self.api.get("bgpvpns", vpn, "associations"):
            self.api.delete("associations", association["id"])

    def attach(self, host: Host, network: str, interface: str = "") -> Any:
        """Make a port of a network for a host that is here."""
        return self.make(
            "ports",
            host.name,
            network_id=network,
            interface=interface or host.name,
            mac_address=host.mac,
            ip_addresses=host.ips,
        )

    def join_l3(self, host: Host, vpn: str = "blue", target: str = "64512:100") -> None:
        """Put a host into an l3 VPN: the VPN, a network, a port."""
        self.make("bgpvpns", vpn, type="l3", route_targets=[target])
        self.make("networks", f"{vpn}-net", subnets=_subnets(host))
        self.attach(host, f"{vpn}-net")
        self.bind(vpn, network_id=f"{vpn}-net")

    def join_l2(self, host: Host | None, vpn: str = "seg", target: str = "64512:300", vni: int = 300) -> None:
        """Make an l2 VPN and a network in it, with a host if there is one."""
        self.make("bgpvpns", vpn, type="l2", route_targets=[target], vni=vni)
        self.make("networks", f"{vpn}-net", subnets=[{"cidr": "10.2.0.0/24"}, {"cidr": "2001:db8:2::/64"}])
        if host is not None:
            self.attach(host, f"{vpn}-net")
        self.bind(vpn, network_id=f"{vpn}-net")

    def session(self, address: str = HUB) -> Any:
        """What the node says of its session with a peer."""
        return next(each for each in self.api.get("sessions") if each["address"] == address)

    def routes(self, **query: str) -> list[Any]:
        """The routes that the node heard, by family and key."""
        found: list[Any] = self.api.get("routes", **query)
        return [route for route in found if route["source"] != "local"]

    def heard(self, what: str, **query: str) -> bool:
        """Whether a peer told about a prefix, or a MAC address or IP address of an l2 VPN."""
        return any(what in re.split(r"[][ ]", route["nlri"]) for route in self.routes(**query))

    @property
    def ready(self) -> bool:
        """Whether all sessions are up, all peers have said what they know and the kernel has it."""
        status = self.api.get("status")
        return bool(status["synced"] and status["in_order"] and not status["degraded"])

    def id_of(self, kind: str, name: str) -> str:
        """The id of an object."""
        id_: str = self.api.get(kind, name)["id"]
        return id_

    def state_of(self, kind: str, name: str) -> tuple[str, str]:
        """State and reason of an object."""
        status = self.api.get(kind, name)["status"]
        return status["state"], status["reason"]

    def messages(self) -> dict[str, int]:
        """How many messages of each kind went to the kernel since the daemon was started."""
        counted: dict[str, int] = self.api.get("kernel")["messages"]
        return counted

    def kernel(self) -> State:
        """What is in the kernel, as `lab.kernel_state` has it, but by one process in the node instead of ten."""
        script = f"; echo {MARK}; ".join(map(shlex.join, COMMANDS.values()))
        texts = self.lab.run(self.name, "sh", "-ec", script, name="reading the kernel").split(f"{MARK}\n")
        return {kind: steady(kind, text.splitlines()) for kind, text in zip(COMMANDS, texts, strict=True)}

    def changes(self, state: State) -> list[str]:
        """How the kernel differs from a state, to the letter."""
        return difference(state, self.kernel())

    def comes_back_to(self, state: State, within_s: float = 5) -> None:
        """Wait until the kernel means what a state means: things that were made again may have other numbers."""

        def changes() -> list[str]:
            return difference(meaning(state), meaning(self.kernel()))

        with contextlib.suppress(LabError):
            eventually(lambda: not changes(), within_s, "the kernel is as it was")
        if left := changes():
            raise AssertionError("\n".join([f"after {within_s:g} s the kernel of {self.name} differs:", *left]))

    @property
    def pid(self) -> int:
        """The daemon's process."""
        return next(each.pid for each in self.lab.running() if each.node == self.name and each.name == "bgpvpnd")


MARK = "--"

NUMBERS = re.compile(r"^\d+: |^id \d+|\b(?:nhid|group) \d+|(?:link/ether|bridge_id|designated_root) \S+|\bbrd ff\S+")
"""What the kernel, or we, count or draw: indexes, ids of next hops, MAC addresses of devices."""

ADDRESSES = re.compile(r"\bfe80::|\bff02::|\b33:33:|\bdev bv-\S+ (?:vlan \d+ )?(?:master \S+ )?permanent")
"""What the kernel makes of MAC addresses of devices, and the groups that it joins on each."""


def meaning(state: State) -> State:
    """A state without the numbers that differ when a thing is removed and made again."""
    return {
        kind: sorted(NUMBERS.sub("", line) for line in lines if not ADDRESSES.search(line))
        for kind, lines in state.items()
    }


def _subnets(host: Host) -> list[dict[str, str]]:
    return [
        {"cidr": str(ipaddress.ip_interface(address).network), "gateway_ip": gateway}
        for address, gateway in zip(host.addresses, host.gateways, strict=True)
    ]


def reaches(lab: Lab, source: str, *addresses: str) -> bool:
    """Whether a ping to each address is answered."""
    return all(lab.call(source, "ping", "-n", "-q", "-c", "1", "-W", "1", each).returncode == 0 for each in addresses)


def connected(lab: Lab, source: str, *addresses: str, within_s: float = 30) -> None:
    """Wait until a host reaches addresses."""
    for address in addresses:
        eventually(partial(reaches, lab, source, address), within_s, f"{source} reaches {address}")


@attrs.define
class Pings:
    """What became of pings, known when they have ended."""

    sent: int = 0
    answered: int = 0

    @property
    def lost(self) -> int:
        """Those without an answer; the last one may still have been under way."""
        return max(self.sent - self.answered - 1, 0)


@contextlib.contextmanager
def pinging(lab: Lab, source: str, address: str) -> Iterator[Pings]:
    """Ping fifty times a second meanwhile."""
    pings = Pings()
    with lab.popen(source, "ping", "-n", "-q", "-i", "0.02", address, stdout=subprocess.PIPE) as ping:
        try:
            yield pings
        finally:
            ping.send_signal(signal.SIGINT)
            said, _ = ping.communicate(timeout=10)
    found = re.search(r"(\d+) packets transmitted, (\d+) received", said)
    assert found is not None, said
    pings.sent, pings.answered = int(found[1]), int(found[2])


class Stream:
    """A hundred numbered packets a second from a host to another and back (lab/stream.py)."""

    def __init__(self, lab: Lab, source: str, target: str, address: str, seconds: int) -> None:
        program = (sys.executable, str(STREAM))
        lab.spawn(target, "echo", (*program, "echo", address, "9000"))
        eventually(lambda: ":9000 " in lab.run(target, "ss", "-lun"), 10, f"{target} sends packets back")
        words = (*program, "send", address, "9000", "100", str(seconds))
        self._sender = lab.popen(source, *words, stdout=subprocess.PIPE)

    @property
    def flows(self) -> bool:
        """Whether it has not come to its end."""
        return self._sender.poll() is None

    def lost(self) -> list[int]:
        """Wait for its end, and return the numbers of the packets that were lost."""
        lost: list[int] = json.loads(self._sender.communicate(timeout=60)[0])["lost"]
        return lost


def killed(lab: Lab, node: str, name: str) -> None:
    """End a process of a node without a word to it."""
    lab.stop(node, name, signal.SIGKILL)
