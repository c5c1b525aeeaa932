"""bgpvpn.toml: the settings of a node (rim), read as a whole or refused as a whole with every error at once.

Each section is a frozen class whose fields are the options: their rules, their defaults. What the options mean
stands in conf/bgpvpn.toml.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import stat
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs

from bgpvpn import rules
from bgpvpn.objects import IntentError, Peer

Section = TypeVar("Section")


@attrs.frozen
class Fault:
    """One thing that is wrong in the file; `line` 0: it cannot be told."""

    key: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.key}: {self.reason}" if self.line else f"{self.key}: {self.reason}"


class ConfigError(Exception):
    """The file cannot be used; `faults` has all that is wrong with it."""

    def __init__(self, path: Path, faults: list[Fault]) -> None:
        super().__init__("\n".join(f"{path}: {fault}" for fault in faults))
        self.faults = faults


def _option(rule: rules.Rule, default: Any = attrs.NOTHING) -> Any:
    return attrs.field(default=default, metadata={"rule": rule})


def _router_id(value: Any) -> str:
    try:
        router_id = ipaddress.IPv4Address(rules.text(value))
    except ValueError:
        raise ValueError(f"takes 4 octets written as an IPv4 address, not {value!r}") from None
    if not int(router_id):
        raise ValueError("0.0.0.0 is no router id (RFC 6286)")
    return str(router_id)


def _tunnel_ip(value: Any) -> tuple[str, ...]:
    addresses = rules.several(rules.address)([value] if isinstance(value, str) else value)
    if not addresses or len({":" in address for address in addresses}) < len(addresses):
        raise ValueError(f"takes an IPv4 address, an IPv6 address, or one of each, not {value!r}")
    return addresses


def _listen(value: Any) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError(f"{value!r} is not an IP address") from None


def _path(value: Any) -> str:
    if not rules.text(value).startswith("/"):
        raise ValueError(f"takes a path from the root, not {value!r}")
    return str(value)


def _mode(value: Any) -> int:
    if re.fullmatch(r"0?[0-7]{3}", rules.text(value)) is None:
        raise ValueError(f'takes the permissions of a file in octal, as "0660", not {value!r}')
    return int(value, 8)


def _tcp(value: Any) -> tuple[str, int] | None:
    if value == "off":
        return None
    address, _, port = rules.text(value).rpartition(":")
    try:
        host = ipaddress.ip_address(address.removeprefix("[").removesuffix("]"))
        number = int(port)
    except ValueError:
        raise ValueError(f'takes "off" or ADDRESS:PORT, as "127.0.0.1:8179", not {value!r}') from None
    if not host.is_loopback:
        raise ValueError(f"takes an address of the loopback only, because TCP has no access control, not {value!r}")
    return str(host), rules.number(1, 65535)(number)


def _range(low: int, high: int) -> rules.Rule:
    def rule(value: Any) -> range:
        if not isinstance(value, list) or len(value) != 2:
            raise ValueError(f"takes the first and the last number, as [{low}, {high}], not {value!r}")
        first, last = (rules.number(low, high)(each) for each in value)
        if first > last:
            raise ValueError(f"begins above its end: {value!r}")
        return range(first, last + 1)

    return rule


@attrs.frozen(kw_only=True)
class NodeConfig:
    """[node]"""

    router_id: str = _option(_router_id)
    local_as: int = _option(rules.as_number)
    tunnel_ip: tuple[str, ...] = _option(_tunnel_ip)  # at most one of each address family
    host: str = _option(rules.name, "")
    underlay_prefixes: tuple[str, ...] = _option(rules.several(rules.prefix), ())
    gateway_mac: str = _option(rules.mac, "00:00:5e:00:43:64")


@attrs.frozen(kw_only=True)
class BgpConfig:
    """[bgp]"""

    listen: tuple[str, ...] = _option(rules.several(_listen), ("0.0.0.0", "::"))
    port: int = _option(rules.number(1, 65535), 179)
    families: tuple[str, ...] = _option(rules.families, ("vpnv4", "vpnv6", "evpn"))
    hold_time_s: int = _option(rules.hold_time, 90)
    restart_time_s: int = _option(rules.number(0, 4095), 120)
    deferral_s: int = _option(rules.number(1, 3600), 60)


@attrs.frozen(kw_only=True)
class StoreConfig:
    """[store]"""

    path: str = _option(_path, "/var/lib/bgpvpn/intent.db")


@attrs.frozen(kw_only=True)
class ApiConfig:
    """[api]"""

    socket: str = _option(_path, "/run/bgpvpn/api.sock")
    group: str = _option(rules.name, "")
    mode: int = _option(_mode, 0o660)
    tcp: tuple[str, int] | None = _option(_tcp, None)


@attrs.frozen(kw_only=True)
class LabelsConfig:
    """[labels]"""

    range: range = _option(_range(16, 1048575), range(16000, 32000))


@attrs.frozen(kw_only=True)
class VniConfig:
    """[vni]"""

    range: range = _option(_range(1, 16777215), range(8000000, 8100000))


@attrs.frozen(kw_only=True)
class TablesConfig:
    """[tables]"""

    # A VRF device is named after its table, and a name has 15 characters at most.
    range: range = _option(_range(256, 999_999_999), range(100000, 200000))


@attrs.frozen(kw_only=True)
class DataplaneConfig:
    """[dataplane]"""

    kind: str = _option(rules.choice("linux", "dryrun"), "linux")
    vxlan_port: int = _option(rules.number(1, 65535), 4789)


@attrs.frozen(kw_only=True)
class LogConfig:
    """[log]"""

    level: str = _option(rules.choice("debug", "info", "warning", "error"), "info")
    format: str = _option(rules.choice("text", "json"), "text")


@attrs.frozen(kw_only=True)
class Config:
    """All settings of a node."""

    node: NodeConfig
    bgp: BgpConfig
    peers: tuple[Peer, ...]  # [[peer]]; their ids are "configured-ADDRESS"
    store: StoreConfig
    api: ApiConfig
    labels: LabelsConfig
    vni: VniConfig
    tables: TablesConfig
    dataplane: DataplaneConfig
    log: LogConfig

    @classmethod
    def load(cls, path: Path) -> Config:
        """Read a file; ConfigError with everything that is wrong in it."""
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ConfigError(path, [Fault("file", 0, f"cannot be read: {reason}")]) from error
        return cls.parse(text, path)

    @classmethod
    def parse(cls, text: str, path: Path) -> Config:
        """Read the text of a file; paths of password files in it are relative to that of the file."""
        try:
            tree = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(path, [Fault("syntax", 0, str(error))]) from error
        return _Reading(path, text, tree).config()


SECTIONS: dict[str, type[Any]] = {
    "node": NodeConfig,
    "bgp": BgpConfig,
    "store": StoreConfig,
    "api": ApiConfig,
    "labels": LabelsConfig,
    "vni": VniConfig,
    "tables": TablesConfig,
    "dataplane": DataplaneConfig,
    "log": LogConfig,
}
PEER_OPTIONS = [
    *(field.name for field in attrs.fields(Peer) if field.name not in ("id", "password")),
    "password_file",
]
"""Of [[peer]]; the password stands in a file of its own."""


class _Reading:
    """One reading of one file, collecting what is wrong."""

    def __init__(self, path: Path, text: str, tree: dict[str, Any]) -> None:
        self.path = path
        self.lines = text.splitlines()
        self.tree = tree
        self.faults: list[Fault] = []

    def config(self) -> Config:
        self._refuse_unknown("", self.tree, [*SECTIONS, "peer"])
        sections: dict[str, Any] = {name: self._section(name, section) for name, section in SECTIONS.items()}
        peers = self._peers(sections["bgp"] or BgpConfig())
        if self.faults:
            raise ConfigError(self.path, sorted(self.faults, key=lambda fault: fault.line))
        return Config(peers=peers, **sections)

    def _fault(self, section: str, index: int, key: str, reason: str) -> None:
        name = f"peer[{index}]" if section == "peer" else section
        dotted = ".".join(part for part in (name, key) if part)
        self.faults.append(Fault(dotted, self._line(section, index, key), reason))

    def _line(self, section: str, index: int, key: str) -> int:
        """Find the line of a key, or of its section when it has none; 0 when the file is written another way."""
        header = rf"\s*\[+\s*{re.escape(section)}\s*\]+" if section else r"(?!)"
        inside, seen, found = not section, -1, 0
        for number, line in enumerate(self.lines, 1):
            if re.match(r"\s*\[", line):
                seen += (here := re.match(header, line) is not None)
                inside = here and seen == index
                if inside:
                    found = number
                elif not section and re.match(rf"\s*\[+\s*{re.escape(key)}\b", line):
                    return number
            elif inside and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]", line):
                return number
        return found

    def _refuse_unknown(self, section: str, given: dict[str, Any], known: Sequence[str], index: int = 0) -> None:
        for key in given:
            if key not in known:
                close = difflib.get_close_matches(key, known, 1)
                hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
                self._fault(section, index, key, f"is not known; {hint}")

    def _section(self, name: str, section: type[Section]) -> Section | None:
        """Read one section; None when something in it is wrong."""
        given = self.tree.get(name, {})
        if not isinstance(given, dict):
            self._fault("", 0, name, f"is a section, [{name}]")
            return None
        fields = {field.name: field for field in attrs.fields(section)}  # type: ignore[arg-type]
        before = len(self.faults)
        self._refuse_unknown(name, given, tuple(fields))
        values = {}
        for key, field in fields.items():
            if key in given:
                try:
                    values[key] = field.metadata["rule"](given[key])
                except ValueError as error:
                    self._fault(name, 0, key, str(error))
            elif field.default is attrs.NOTHING:
                self._fault(name, 0, key, "is wanted")
        return section(**values) if len(self.faults) == before else None

    def _peers(self, bgp: BgpConfig) -> tuple[Peer, ...]:
        given = self.tree.get("peer", [])
        if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
            self._fault("", 0, "peer", "is a list of sections, [[peer]]")
            return ()
        peers: dict[str, Peer] = {}
        for index, options in enumerate(given):
            before = len(self.faults)
            self._refuse_unknown("peer", options, PEER_OPTIONS, index)
            for key in ("address", "remote_as"):
                if key not in options:
                    self._fault("peer", index, key, "is wanted")
            if len(self.faults) > before:
                continue
            peer = self._peer(index, options, bgp)
            if peer is not None and peer.address in peers:
                self._fault("peer", index, "address", f"{peer.address} has a [[peer]] already")
            elif peer is not None and peer.name and any(peer.name == other.name for other in peers.values()):
                self._fault("peer", index, "name", f"{peer.name!r} is another [[peer]] already")
            elif peer is not None:
                peers[peer.address] = peer
        return tuple(peers.values())

    def _peer(self, index: int, options: dict[str, Any], bgp: BgpConfig) -> Peer | None:
        fields = {
            "families": bgp.families,
            "hold_time_s": bgp.hold_time_s,
            "restart_time_s": bgp.restart_time_s,
            **options,
        }
        try:
            if "password_file" in fields:
                fields["password"] = self._password(fields.pop("password_file"))
            peer = Peer(id="unnamed", **fields)
        except IntentError as error:
            field = "password_file" if error.field == "password" else error.field
            self._fault("peer", index, field, error.reason)
            return None
        return attrs.evolve(peer, id=f"configured-{peer.address}")

    def _password(self, name: Any) -> str:
        """Read a password from its file, whose last newline does not count."""
        try:
            path = self.path.parent / rules.text(name)
            if stat.S_IMODE(path.stat().st_mode) & stat.S_IRWXO:
                raise ValueError(f"{path} can be read by everybody; chmod 600 it")
            return path.read_text("utf-8").removesuffix("\n")
        except OSError as error:
            raise IntentError("password_file", name, f"{name} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise IntentError("password_file", name, str(error)) from None
