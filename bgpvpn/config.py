"""bgpvpn.toml: the settings of a node (rim), read as a whole or refused as a whole with every error at once.

Each section is a frozen class whose fields are the options: their rules, their defaults. What the options mean
stands in conf/bgpvpn.toml.
"""

from __future__ import annotations

import difflib
import grp
import hashlib
import ipaddress
import pwd
import re
import stat
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import attrs

from bgpvpn import rules
from bgpvpn.objects import IntentError, Peer, Policy

Section = TypeVar("Section")
Found = TypeVar("Found")

MONITORED = ("pre-policy", "post-policy", "loc-rib")
"""What a monitoring station may be told."""


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


def _cluster_id(value: Any) -> str:
    return _router_id(value) if value != "" else ""


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
    cluster_id: str = _option(_cluster_id, "")


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
class ClientConfig:
    """[[api.client]]: who may call; exactly one of user, group and token_file is given."""

    user: str = ""
    group: str = ""
    token_file: str = ""
    role: str
    project: str = ""  # of an owner
    uid: int | None = None  # of the user
    gid: int | None = None  # of the group
    digest: bytes = b""  # SHA-256 of the token

    @property
    def token_name(self) -> str:
        """What a token is called: its file."""
        return Path(self.token_file).name


CLIENT_OPTIONS = ("user", "group", "token_file", "role", "project")
"""Of [[api.client]]."""

CLIENT_KEYS = CLIENT_OPTIONS[:3]
"""Options of which each client has one."""

TOKEN_CHARACTERS = 20
"""How long a token is at least: it is guessed from afar, and hashed without salt."""


@attrs.frozen(kw_only=True)
class ApiConfig:
    """[api]"""

    socket: str = _option(_path, "/run/bgpvpn/api.sock")
    group: str = _option(rules.name, "")
    mode: int = _option(_mode, 0o660)
    tcp: tuple[str, int] | None = _option(_tcp, None)
    client: tuple[ClientConfig, ...] = _option(tuple, ())  # read beside the others: [[api.client]]


@attrs.frozen(kw_only=True)
class BagpipeConfig:
    """[bagpipe]: in the place of bagpipe-bgp."""

    listen: tuple[str, int] | None = _option(_tcp, None)
    ipvpn_bridge: str = _option(rules.interface, "br-mpls")
    evpn_bridge: str = _option(rules.interface, "br-tun")
    evpn_port: str = _option(rules.ovs_port, "patch-int")


@attrs.frozen(kw_only=True)
class OvsConfig:
    """[ovs]: where ports have a plug in Open vSwitch."""

    run_dir: str = _option(_path, "/run/openvswitch")


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
class BmpConfig:
    """[[bmp]]: a monitoring station."""

    address: str = _option(rules.peer_address)
    port: int = _option(rules.number(1, 65535))
    tables: tuple[str, ...] = _option(rules.several(rules.choice(*MONITORED)), MONITORED)
    statistics_s: int = _option(rules.number(0, 86400), 60)


@attrs.frozen(kw_only=True)
class Config:
    """All settings of a node."""

    node: NodeConfig
    bgp: BgpConfig
    policies: tuple[Policy, ...]  # [[policy]]
    peers: tuple[Peer, ...]  # [[peer]]; their ids are "configured-ADDRESS"
    store: StoreConfig
    api: ApiConfig
    bagpipe: BagpipeConfig
    ovs: OvsConfig
    labels: LabelsConfig
    vni: VniConfig
    tables: TablesConfig
    dataplane: DataplaneConfig
    log: LogConfig
    stations: tuple[BmpConfig, ...] = ()  # [[bmp]]

    @classmethod
    def load(cls, path: Path, beneath: Mapping[str, Any] | None = None) -> Config:
        """Read a file; ConfigError with everything that is wrong in it. `beneath`: options that it adds to."""
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ConfigError(path, [Fault("file", 0, f"cannot be read: {reason}")]) from error
        return cls.parse(text, path, beneath)

    @classmethod
    def parse(cls, text: str, path: Path, beneath: Mapping[str, Any] | None = None) -> Config:
        """Read the text of a file; paths of password files in it are relative to that of the file."""
        try:
            tree = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(path, [Fault("syntax", 0, str(error))]) from error
        return _Reading(path, text, tree if beneath is None else _over(tree, beneath)).config()


def _over(tree: dict[str, Any], beneath: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a file with further sections; those of the file count, with peers and [bagpipe] added."""
    merged = {**beneath, **tree}
    peers, more = tree.get("peer", []), beneath.get("peer", [])
    if isinstance(peers, list):
        there = [each.get("address") for each in peers if isinstance(each, dict)]
        merged["peer"] = [*peers, *(each for each in more if each["address"] not in there)]
    if isinstance(own := tree.get("bagpipe", {}), dict):
        merged["bagpipe"] = {**beneath.get("bagpipe", {}), **own}
    return merged


SECTIONS: dict[str, type[Any]] = {
    "node": NodeConfig,
    "bgp": BgpConfig,
    "store": StoreConfig,
    "api": ApiConfig,
    "bagpipe": BagpipeConfig,
    "ovs": OvsConfig,
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

OTHERS_DEPEND_ON = ("address", "remote_as", "families", "role")
"""Options of [[peer]] without which what is said of others may not be true."""

POLICY_OPTIONS = [field.name for field in attrs.fields(Policy) if field.name != "id"]
"""Of [[policy]]."""


BMP_OPTIONS = [field.name for field in attrs.fields(BmpConfig)]
"""Of [[bmp]]."""

LISTS = ("policy", "peer", "bmp")
"""Sections that there may be many of."""

CLIENT = "api.client"
"""One more of these, inside a section."""


def _number_of(look_up: Callable[[str], Found], name: str, kind: str) -> Found:
    try:
        return look_up(name)
    except KeyError:
        raise ValueError(f"there is no {kind} {name!r} on this host") from None


class _Reading:
    """One reading of one file, collecting what is wrong."""

    def __init__(self, path: Path, text: str, tree: dict[str, Any]) -> None:
        self.path = path
        self.lines = text.splitlines()
        self.tree = tree
        self.faults: list[Fault] = []

    def config(self) -> Config:
        self._refuse_unknown("", self.tree, [*SECTIONS, *LISTS])
        clients = self._clients()
        sections: dict[str, Any] = {name: self._section(name, section) for name, section in SECTIONS.items()}
        policies = self._policies()
        peers = self._peers(sections["bgp"] or BgpConfig())
        stations = self._stations()
        if sections["api"] is not None:
            sections["api"] = attrs.evolve(sections["api"], client=clients)
            self._check_tcp(sections["api"])
        if self.faults:
            raise ConfigError(self.path, sorted(self.faults, key=lambda fault: fault.line))
        return Config(policies=policies, peers=peers, stations=stations, **sections)

    def _fault(self, section: str, index: int, key: str, reason: str) -> None:
        name = f"{section}[{index}]" if section in (*LISTS, CLIENT) else section
        dotted = ".".join(part for part in (name, key) if part)
        self.faults.append(Fault(dotted, self._line(section, index, key), reason))

    def _line(self, section: str, index: int, key: str) -> int:
        """Find the line of a key, or of its section when it has none; 0 when the file is written another way."""
        if found := re.match(r"statement\[(\d+)\]", key):
            return self._line_of_statement(index, int(found[1]), key)
        key = re.split(r"[.\[]", key)[0]
        header = rf"\s*\[+\s*{re.escape(section)}\s*\]+" if section else r"(?!)"
        inside, seen, found_at = not section, -1, 0
        for number, line in enumerate(self.lines, 1):
            if re.match(r"\s*\[", line):
                seen += (here := re.match(header, line) is not None)
                inside = here and seen == index
                if inside:
                    found_at = number
                elif not section and re.match(rf"\s*\[+\s*{re.escape(key)}\b", line):
                    return number
            elif inside and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]", line):
                return number
        return found_at

    def _line_of_statement(self, policy: int, statement: int, key: str) -> int:
        """Find the line of what the last name in "statement[1].match.prefixes[0]" calls, else of the statement."""
        name = re.findall(r"[A-Za-z_]+", key)[-1]
        policies = statements = -1
        found_at = 0
        for number, line in enumerate(self.lines, 1):
            if re.match(r"\s*\[\[\s*policy\s*\]\]", line):
                policies, statements = policies + 1, -1
            elif re.match(r"\s*\[\[\s*policy\s*\.\s*statement\s*\]\]", line):
                statements += 1
                if (policies, statements) == (policy, statement):
                    found_at = number
            elif (policies, statements) == (policy, statement) and re.search(rf"\b{name}\s*=", line):
                return number
        return found_at

    def _refuse_unknown(self, section: str, given: dict[str, Any], known: Sequence[str], index: int = 0) -> None:
        for key in given:
            if key not in known:
                close = difflib.get_close_matches(key, known, 1)
                hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
                self._fault(section, index, key, f"is not known; {hint}")

    def _section(self, name: str, section: type[Section]) -> Section | None:
        """Read one section; None when something in it is wrong."""
        given = self.tree.get(name, {})
        if name == "api" and isinstance(given, dict):
            given = {key: value for key, value in given.items() if key != "client"}
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

    def _sections(self, name: str, inside: dict[str, Any] | None = None) -> list[dict[str, Any]] | None:
        """Return the sections of a list; None when it is written as something else."""
        given = (self.tree if inside is None else inside).get(name.rpartition(".")[2], [])
        return given if isinstance(given, list) and all(isinstance(each, dict) for each in given) else None

    def _each(
        self, section: str, known: Sequence[str], wanted: Sequence[str], inside: dict[str, Any] | None = None
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the number and the known options of each section of a list that has what is wanted."""
        sections = self._sections(section, inside)
        if sections is None:
            self._fault("", 0, section, f"is a list of sections, [[{section}]]")
        for index, options in enumerate(sections or ()):
            self._refuse_unknown(section, options, known, index)
            for key in wanted:
                if key not in options:
                    self._fault(section, index, key, "is wanted")
            if all(key in options for key in wanted):
                yield index, {key: options[key] for key in options if key in known}

    def _clients(self) -> tuple[ClientConfig, ...]:
        api = self.tree.get("api")
        found: list[ClientConfig] = []
        for index, options in self._each(CLIENT, CLIENT_OPTIONS, ("role",), api if isinstance(api, dict) else {}):
            before = len(self.faults)
            values: dict[str, Any] = {}
            for key, value in options.items():
                try:
                    values |= self._client_option(key, value)
                except ValueError as error:
                    reason = error.reason if isinstance(error, IntentError) else str(error)
                    self._fault(CLIENT, index, key, reason)
            given = [key for key in CLIENT_KEYS if key in options]
            if len(given) != 1:
                self._fault(
                    CLIENT, index, given[1] if given else "role", f"takes exactly one of {', '.join(CLIENT_KEYS)}"
                )
            if len(self.faults) == before:
                client = ClientConfig(**values)
                if (client.role == "owner") is not bool(client.project):
                    self._fault(CLIENT, index, "project", "an owner has a project, and an operator none")
                elif client.digest and client.digest in [each.digest for each in found]:
                    self._fault(CLIENT, index, "token_file", "another [[api.client]] has this token")
                found.append(client)
        return tuple(found)

    def _client_option(self, key: str, value: Any) -> dict[str, Any]:
        """Return what an option of a client says, and what follows from it on this host."""
        match key:
            case "user":
                return {"user": rules.text(value), "uid": _number_of(pwd.getpwnam, value, "user").pw_uid}
            case "group":
                return {"group": rules.text(value), "gid": _number_of(grp.getgrnam, value, "group").gr_gid}
            case "token_file":
                return {"token_file": rules.text(value), "digest": self._token_digest(value)}
            case "role":
                return {"role": rules.choice("operator", "owner")(value)}
        return {"project": rules.name(value)}

    def _token_digest(self, name: str) -> bytes:
        """Return the SHA-256 of a token, of which a file has the text, or "sha256:" and the hash in hexadecimal."""
        text = self._secret("token_file", name).strip()
        if found := re.fullmatch(r"sha256:([0-9a-fA-F]{64})", text):
            return bytes.fromhex(found[1])
        if stat.S_IMODE((self.path.parent / name).stat().st_mode) & stat.S_IRWXG:
            raise ValueError(f"{name} has a token that its group can read; chmod 600 it, or write its hash there")
        if not re.fullmatch(rf"[!-~]{{{TOKEN_CHARACTERS},}}", text):
            raise ValueError(f"{name} has no token: {TOKEN_CHARACTERS} characters or more of ASCII, and no space")
        return hashlib.sha256(text.encode()).digest()

    def _check_tcp(self, api: ApiConfig) -> None:
        """Refuse TCP where it would be a way around the roles, or open to other hosts."""
        tokens = any(client.digest for client in api.client)
        if api.tcp is None or tokens:
            return
        if api.client:
            self._fault("api", 0, "tcp", "callers by TCP need a token, and no [[api.client]] has a token_file")
        elif not ipaddress.ip_address(api.tcp[0]).is_loopback:
            reason = "takes an address of the loopback only, unless an [[api.client]] has a token_file"
            self._fault("api", 0, "tcp", f"{reason}; not {api.tcp[0]!r}")

    def _stations(self) -> tuple[BmpConfig, ...]:
        stations: dict[tuple[str, int], BmpConfig] = {}
        for index, options in self._each("bmp", BMP_OPTIONS, ("address", "port")):
            values: dict[str, Any] = {}
            for key, value in options.items():
                try:
                    values[key] = attrs.fields_dict(BmpConfig)[key].metadata["rule"](value)
                except ValueError as error:
                    self._fault("bmp", index, key, str(error))
            if len(values) == len(options):
                station = BmpConfig(**values)
                if (station.address, station.port) in stations:
                    self._fault("bmp", index, "address", f"{station.address} has a [[bmp]] of this port already")
                stations[station.address, station.port] = station
        return tuple(stations.values())

    def _policies(self) -> tuple[Policy, ...]:
        policies: dict[str, Policy] = {}
        for index, options in self._each("policy", POLICY_OPTIONS, ("name",)):
            try:
                policy = Policy(id=options["name"], **options)
            except IntentError as error:
                for each in (error, *error.more):
                    self._fault("policy", index, "name" if each.field == "id" else each.field, each.reason)
                continue
            if policy.name in policies:
                self._fault("policy", index, "name", f"{policy.name!r} is another [[policy]] already")
            policies[policy.name] = policy
        return tuple(policies.values())

    def _peers(self, bgp: BgpConfig) -> tuple[Peer, ...]:
        policies = [each.get("name") for each in self._sections("policy") or ()]  # wrong ones too
        peers: dict[str, Peer] = {}
        for index, options in self._each("peer", PEER_OPTIONS, ("address", "remote_as")):
            peer = self._peer(index, options, bgp)
            if peer is not None and peer.address in peers:
                self._fault("peer", index, "address", f"{peer.address} has a [[peer]] already")
            elif peer is not None and peer.name and any(peer.name == other.name for other in peers.values()):
                self._fault("peer", index, "name", f"{peer.name!r} is another [[peer]] already")
            elif peer is not None:
                peers[peer.address] = peer
                for field, name in peer.policies():
                    if name not in policies:
                        self._fault("peer", index, field, f"there is no [[policy]] {name!r}")
        return tuple(peers.values())

    def _peer(self, index: int, options: dict[str, Any], bgp: BgpConfig) -> Peer | None:
        """Read one peer; an option that is wrong is left out, to find what else is, unless others depend on it."""
        fields = {
            "families": bgp.families,
            "hold_time_s": bgp.hold_time_s,
            "restart_time_s": bgp.restart_time_s,
            **options,
        }
        for option, field, read in (
            ("password_file", "password", partial(self._secret, "password_file")),
            ("tcp_ao", "tcp_ao", self._ao_keys),
        ):
            if option in options:
                try:
                    fields[field] = read(fields.pop(option))
                except IntentError as error:
                    self._fault("peer", index, option, error.reason)
        while True:
            try:
                peer = Peer(id="unnamed", **fields)
            except IntentError as error:
                self._fault("peer", index, "password_file" if error.field == "password" else error.field, error.reason)
                if error.field not in fields or error.field in OTHERS_DEPEND_ON:
                    return None
                del fields[error.field]
            else:
                return attrs.evolve(peer, id=f"configured-{peer.address.replace('/', '-')}")

    def _ao_keys(self, keys: Any) -> Any:
        """Put the secrets of TCP-AO keys in the place of the names of their files."""
        if not isinstance(keys, list) or not all(isinstance(key, dict) and "key_file" in key for key in keys):
            raise IntentError("tcp_ao", None, "takes a list of tables with send_id, receive_id and key_file")
        rest = [{name: value for name, value in key.items() if name != "key_file"} for key in keys]
        return [
            {**each, "secret": self._secret("tcp_ao", key["key_file"])} for each, key in zip(rest, keys, strict=True)
        ]

    def _secret(self, option: str, name: Any) -> str:
        """Read a secret from its file, whose last newline does not count."""
        try:
            path = self.path.parent / rules.text(name)
            if stat.S_IMODE(path.stat().st_mode) & stat.S_IRWXO:
                raise ValueError(f"{path} can be read by everybody; chmod 600 it")
            return path.read_text("utf-8").removesuffix("\n")
        except OSError as error:
            raise IntentError(option, name, f"{name} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise IntentError(option, name, str(error)) from None
