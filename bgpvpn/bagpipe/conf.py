"""bgp.conf of bagpipe-bgp (rim), read as oslo.config reads it, and said in terms of bgpvpn.toml.

What it does not say has our defaults. What has no place with us is told in remarks, for who migrates.
"""

from __future__ import annotations

import configparser
import fcntl
import ipaddress
import json
import socket
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from bgpvpn.config import Config, ConfigError, Fault

Tree = dict[str, Any]
"""The options of bgpvpn.toml, as tomllib reads them."""

PORT = 8082
SIOCGIFADDR = 0x8915
MEANINGLESS = {
    "dataplane_driver_ipvpn": (
        "gre_tunnel",
        "gre_tunnel_options",
        "ovsbr_interfaces_mtu",
        "proxy_arp",
        "arp_responder",
        "hash_method",
        "hash_method_param",
        "hash_fields",
        "input_table",
        "ovs_table_id_start",
    ),
    "common": ("root_helper", "root_helper_daemon"),
}
"""Options that say how bagpipe-bgp does what we do in another way, and that nobody misses."""


@attrs.frozen
class Translation:
    """What a bgp.conf means."""

    tree: Tree
    remarks: tuple[str, ...]  # what is otherwise than it was

    def text(self) -> str:
        """Return it as a bgpvpn.toml."""
        lines = [f"# {_printable(each)}" for each in self.remarks]
        for name, section in self.tree.items():
            for each in section if isinstance(section, list) else [section]:
                header = f"[[{name}]]" if isinstance(section, list) else f"[{name}]"
                lines += ["", header, *(f"{key} = {_toml(value)}" for key, value in each.items())]
        return "\n".join(lines).lstrip("\n") + "\n"

    def config(self, path: Path) -> Config:
        """Return it as a configuration by itself; ConfigError names the bgp.conf at `path`, which has other lines."""
        try:
            return Config.parse(self.text(), path)
        except ConfigError as error:
            raise ConfigError(path, [attrs.evolve(each, line=0) for each in error.faults]) from None


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(str(value), ensure_ascii=False)


def _printable(text: str) -> str:
    """Return a text as one line, for a comment."""
    return "".join(each if each.isprintable() else "?" for each in " ".join(text.split()))


def address_of(interface: str) -> str:
    """Return the first IPv4 address of an interface; OSError if it has none, or is not there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
    return socket.inet_ntoa(answer[20:24])


def load(path: Path, find: Callable[[str], str] = address_of) -> Translation:
    """Read a file; ConfigError with everything that is wrong in it. `find` gives the address of an interface."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(path, [Fault("file", 0, f"cannot be read: {reason}")]) from error
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True, default_section="")
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise ConfigError(path, [Fault("syntax", 0, " ".join(str(error).split()))]) from error
    sections: dict[str, dict[str, str]] = {}
    for name in parser.sections():
        options = {key: _unquoted(value or "") for key, value in parser.items(name)}
        sections.setdefault(name.lower(), {}).update(options)
    return _Reading(path, sections, find).translation()


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


class _Reading:
    """One reading of one file, collecting what is wrong and what is otherwise."""

    def __init__(self, path: Path, sections: Mapping[str, Mapping[str, str]], find: Callable[[str], str]) -> None:
        self.path = path
        self.sections = sections
        self.find = find
        self.faults: list[Fault] = []
        self.remarks: list[str] = []
        self.seen: set[tuple[str, str]] = set()

    def translation(self) -> Translation:
        address = self._address("bgp", "local_address")
        local_as = self._number("bgp", "my_as", 1, 65535)
        if "local_address" not in self.sections.get("bgp", {}):
            self._fault("bgp", "local_address", "is wanted")
        if local_as is None and "my_as" not in self.sections.get("bgp", {}):
            self._fault("bgp", "my_as", "is wanted")
        tunnel = self._tunnel(address)
        families = ["vpnv4", "vpnv6", "evpn"] + (["rtc"] if self._flag("bgp", "enable_rtc", True) else [])
        port = self._number("bgp", "bgp_port", 1, 65535) or 179
        tree: Tree = {
            "node": {"router_id": address, "local_as": local_as, "tunnel_ip": tunnel},
            "bgp": {"listen": [], "families": families},
            "peer": [
                {"address": peer, "remote_as": local_as, "port": port}
                | ({"local_address": address} if ipaddress.ip_address(peer).version == 4 else {})
                for peer in self._peers()
            ],
            "bagpipe": {"listen": self._listen()},
        }
        self._dataplane(tree)
        if self._flag("default", "debug", False):
            tree["log"] = {"level": "debug"}
        self._rest()
        if self.faults:
            raise ConfigError(self.path, self.faults)
        return Translation(tree, tuple(self.remarks))

    # Sections

    def _peers(self) -> list[str]:
        found = []
        for peer in filter(None, (each.strip() for each in self._text("bgp", "peers", "").split(","))):
            try:
                found.append(str(ipaddress.ip_address(peer)))
            except ValueError:
                self._fault("bgp", "peers", f"{peer!r} is not an IP address; names of hosts are not looked up")
        return list(dict.fromkeys(found))

    def _listen(self) -> str:
        host = self._text("api", "host", self._text("api", "api_host", "127.0.0.1"))
        port = self._number("api", "port", 1, 65535) or self._number("api", "api_port", 1, 65535) or PORT
        host = "127.0.0.1" if host == "localhost" else host
        try:
            version = ipaddress.ip_address(host).version
        except ValueError:
            self._fault("api", "host", f"{host!r} is not an IP address")
            return "off"
        if not ipaddress.ip_address(host).is_loopback:
            self.remarks.append(f"Only processes of this node may attach and detach at {host}; others may look.")
        return f"{host}:{port}" if version == 4 else f"[{host}]:{port}"

    def _tunnel(self, address: str) -> str:
        told = {
            given: self._address(section, "dataplane_local_address")
            for section in ("dataplane_driver_ipvpn", "dataplane_driver_evpn")
            if (given := self._text(section, "dataplane_local_address", ""))
        }
        if len(set(told.values())) > 1:
            self.remarks.append(f"There is one tunnel address for IPVPNs and EVPNs, not {' and '.join(told.values())}.")
        return next(iter(told.values()), address)

    def _dataplane(self, tree: Tree) -> None:
        drivers = {
            kind: self._text(f"dataplane_driver_{kind}", "dataplane_driver", "dummy").lower()
            for kind in ("ipvpn", "evpn")
        }
        dummies = [kind for kind, driver in drivers.items() if "dummy" in driver]
        dataplane: dict[str, Any] = {}
        if len(dummies) == 2:
            dataplane["kind"] = "dryrun"
            self.remarks.append("Both drivers are the dummy one: nothing is written to the kernel (dryrun).")
        elif dummies:
            self.remarks.append(f"The dummy driver of {dummies[0]}s is not kept: they are carried like the others.")
        vxlan_port = self._number("dataplane_driver_evpn", "vxlan_dst_port", 1, 65535)
        if vxlan_port is not None:
            dataplane["vxlan_port"] = vxlan_port
        elif drivers["evpn"].startswith("linux"):
            self.remarks.append("VXLAN has the port 4789; Linux's own, 8472, is [dataplane] vxlan_port = 8472.")
        if dataplane:
            tree["dataplane"] = dataplane
        for kind, option in (("ipvpn", "ipvpn_bridge"), ("evpn", "evpn_bridge")):
            if bridge := self._text(f"dataplane_driver_{kind}", "ovs_bridge", ""):
                tree["bagpipe"][option] = bridge
        interface = self._text("dataplane_driver_ipvpn", "mpls_interface", "*gre*")
        if interface not in ("", "*gre*") and "ipvpn" not in dummies:
            self.remarks.append(f"MPLS is carried over GRE, not bare on {interface}.")
        elif "ovs" in drivers["ipvpn"] and "legacy_l3" not in self._text(
            "dataplane_driver_ipvpn", "gre_tunnel_options", ""
        ):
            self.remarks.append(
                "MPLS lies in GRE directly (RFC 4023); a node that still runs bagpipe-bgp does so with"
                " gre_tunnel_options = packet_type=legacy_l3."
            )
        if self._flag("dataplane_driver_ipvpn", "vxlan_encap", False):
            self.remarks.append("IPVPNs are carried by MPLS over GRE, not by VXLAN (vxlan_encap).")

    def _rest(self) -> None:
        """Remark what nothing was made of."""
        for section, options in self.sections.items():
            ours = section in ("bgp", "api", "common") or section.startswith("dataplane_driver")
            unread = [name for name in options if ours and (section, name) not in self.seen]
            for name in unread:
                if name not in MEANINGLESS.get(section, ()):
                    self.remarks.append(f"[{section.upper()}] {name} means nothing here.")

    # Options

    def _fault(self, section: str, name: str, reason: str) -> None:
        self.faults.append(Fault(f"{section.upper()}.{name}", 0, reason))

    def _text(self, section: str, name: str, default: str) -> str:
        self.seen.add((section, name))
        return self.sections.get(section, {}).get(name, default)

    def _number(self, section: str, name: str, low: int, high: int) -> int | None:
        text = self._text(section, name, "")
        if not text:
            return None
        if not text.isdecimal() or len(text) > 9 or not low <= int(text) <= high:
            self._fault(section, name, f"takes a number from {low} to {high}, not {text!r}")
            return None
        return int(text)

    def _flag(self, section: str, name: str, default: bool) -> bool:
        text = self._text(section, name, "").lower()
        if text in ("true", "1", "yes", "on"):
            return True
        if text and text not in ("false", "0", "no", "off"):
            self._fault(section, name, f"takes true or false, not {text!r}")
        return False if text else default

    def _address(self, section: str, name: str) -> str:
        """Read an IPv4 address, or the name of an interface that has one."""
        text = self._text(section, name, "")
        try:
            return str(ipaddress.IPv4Address(text))
        except ValueError:
            pass
        try:
            return self.find(text) if text else ""
        except (OSError, ValueError):
            self._fault(section, name, f"{text!r} is neither an IPv4 address nor an interface that has one")
            return ""
