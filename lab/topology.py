"""A containerlab topology file, read into values: the part of the format that our runner can bring up.

The format is https://containerlab.dev/manual/topo-def-file/. What the runner cannot do is refused by name rather than
ignored, so that a lab never comes up as something else than its file says. Two things are our convention on top of
it:

- `labels: {lab.run: PROGRAM}` tells what software a node is: frr, gobgp, bgpvpnd, bird, exabgp, or host (nothing but
  the shell);
- `binds` put files below /etc or /run of a node, where that software looks for them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import yaml

PROGRAMS = ("frr", "gobgp", "bgpvpnd", "bird", "exabgp", "host")
DEFAULT_MTU = 9500  # what containerlab gives to the ends of a link

MERGED = {"binds": list, "exec": list, "env": dict, "labels": dict, "sysctls": dict}
"""Fields that add up over defaults, kind and node; of all others the nearest to the node holds."""
IGNORED = {"ports", "image", "image-pull-policy", "group", "mgmt-ipv4", "mgmt-ipv6"}
"""Fields of a node that mean something to containers only."""


class TopologyError(ValueError):
    """The file is no topology that the runner can bring up; the text names the place. Nothing has been done."""


@attrs.frozen
class Bind:
    """A file or folder of the machine that a node sees at a path of its own."""

    source: Path
    target: Path


@attrs.frozen
class Node:
    """One network namespace and what runs in it."""

    name: str
    program: str  # one of PROGRAMS
    binds: tuple[Bind, ...]
    commands: tuple[tuple[str, ...], ...]  # run one after the other when the links are there, before the program starts
    env: Mapping[str, str]
    sysctls: Mapping[str, str]


@attrs.frozen
class End:
    """Where a link ends: an interface of a node, with a MAC address if the file gives one."""

    node: str
    interface: str
    mac: str | None = None


@attrs.frozen
class Link:
    """A veth pair."""

    ends: tuple[End, End]
    mtu: int = DEFAULT_MTU


@attrs.frozen
class Topology:
    """A whole lab."""

    name: str
    file: Path
    nodes: Mapping[str, Node]
    links: tuple[Link, ...]

    def namespace(self, node: str) -> str:
        """The name of a node's network namespace on the machine."""
        return f"{self.name}-{node}"


def load(file: Path) -> Topology:
    """Read a topology file; TopologyError (also for what is no YAML), OSError."""
    try:
        document = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TopologyError(f"{file}: not YAML: {error}") from error
    top = _fields(document, "", {"name", "topology"}, {"prefix", "mgmt"})
    topology = _fields(top["topology"], "topology", {"nodes"}, {"defaults", "kinds", "links"})
    name = _name(top["name"], "name")
    defaults = _mapping(topology.get("defaults") or {}, "topology.defaults")
    kinds = _mapping(topology.get("kinds") or {}, "topology.kinds")
    nodes = {}
    for node_name, fields in _mapping(topology["nodes"], "topology.nodes").items():
        own = _mapping(fields or {}, f"topology.nodes.{node_name}")
        kind = str(own.get("kind", defaults.get("kind")))
        layers = [(defaults, "topology.defaults"), (kinds.get(kind) or {}, f"topology.kinds.{kind}")]
        nodes[node_name] = _node(node_name, [*layers, (own, f"topology.nodes.{node_name}")], file.parent)
    told = topology.get("links") or []
    if not isinstance(told, list):
        raise TopologyError(f"topology.links: {told!r} is no list")
    links = tuple(_link(link, f"topology.links[{number}]", nodes) for number, link in enumerate(told))
    ends = [(end.node, end.interface) for link in links for end in link.ends]
    for end in ends:
        if ends.count(end) > 1:
            raise TopologyError(f"topology.links: {end[0]}:{end[1]} is the end of more than one link")
    return Topology(name, file, nodes, links)


def _node(name: str, layers: list[tuple[dict[str, Any], str]], folder: Path) -> Node:
    merged: dict[str, Any] = {field: kind() for field, kind in MERGED.items()}
    for layer, where in layers:
        _fields(layer, where, set(), {"kind", *MERGED, *IGNORED})
        for field, value in layer.items():
            match MERGED.get(field), value:
                case None, _:
                    merged[field] = value
                case kind, _ if kind is list and isinstance(value, list):
                    merged[field] += value
                case kind, _ if kind is dict and isinstance(value, dict):
                    merged[field] |= value
                case _:
                    raise TopologyError(
                        f"{where}.{field}: {value!r} is no {'list' if MERGED[field] is list else 'mapping'}"
                    )
    where = layers[-1][1]
    _name(name, where)
    if merged.get("kind") != "linux":
        raise TopologyError(f"{where}.kind: {merged.get('kind')!r}; the runner brings up nodes of kind linux only")
    program = merged["labels"].get("lab.run", "host")
    if program not in PROGRAMS:
        raise TopologyError(f"{where}.labels: lab.run is {program!r}; it is one of {', '.join(PROGRAMS)}")
    return Node(
        name=name,
        program=program,
        binds=tuple(_bind(bind, f"{where}.binds", folder) for bind in merged["binds"]),
        commands=tuple(_words(command, f"{where}.exec") for command in merged["exec"]),
        env={key: str(value) for key, value in merged["env"].items()},
        sysctls={key: str(value) for key, value in (merged.get("sysctls") or {}).items()},
    )


def _words(command: Any, where: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(str(command)))
    except ValueError as error:
        raise TopologyError(f"{where}: {command!r}: {error}") from error


def _bind(text: str, where: str, folder: Path) -> Bind:
    source, colon, rest = str(text).partition(":")
    target = Path(rest.partition(":")[0])
    if not colon or not target.is_absolute() or ".." in target.parts:
        raise TopologyError(f"{where}: {text!r} is not SOURCE:/TARGET")
    if target.parts[1] not in ("etc", "run"):
        raise TopologyError(f"{where}: {text!r}; the runner binds below /etc and /run only")
    path = folder / Path(source).expanduser()
    if not path.exists():
        raise TopologyError(f"{where}: {path} is not there")
    return Bind(path, target)


def _link(value: Any, where: str, nodes: Mapping[str, Node]) -> Link:
    fields = _fields(value, where, {"endpoints"}, {"type", "mtu"})
    if fields.get("type", "veth") != "veth":
        raise TopologyError(f"{where}.type: {fields['type']!r}; the runner makes links of type veth only")
    ends = fields["endpoints"]
    if not isinstance(ends, list) or len(ends) != 2:
        raise TopologyError(f"{where}.endpoints: {ends!r} are not two")
    first, second = (_end(end, f"{where}.endpoints", nodes) for end in ends)
    mtu = fields.get("mtu", DEFAULT_MTU)
    if not isinstance(mtu, int) or not 68 <= mtu <= 65535:
        raise TopologyError(f"{where}.mtu: {mtu!r} is not 68 to 65535")
    return Link((first, second), mtu)


def _end(value: Any, where: str, nodes: Mapping[str, Node]) -> End:
    if isinstance(value, str):
        node, _, interface = value.partition(":")
        end = End(node, interface)
    else:
        fields = _fields(value, where, {"node", "interface"}, {"mac"})
        end = End(str(fields["node"]), str(fields["interface"]), fields.get("mac"))
    if end.node not in nodes:
        raise TopologyError(f"{where}: {end.node!r} is no node of this topology")
    if not re.fullmatch(r"[^\s/:]{1,15}", end.interface):
        raise TopologyError(f"{where}: {end.interface!r} is no name of an interface (15 characters at most)")
    return end


def _fields(value: Any, where: str, needed: set[str], optional: set[str]) -> dict[str, Any]:
    """The mapping at a place of the file, with all needed fields and none that we do not know."""
    at = where or "the file"
    fields = _mapping(value, at)
    if missing := needed - fields.keys():
        raise TopologyError(f"{at}: {', '.join(sorted(missing))} is missing")
    if unknown := fields.keys() - needed - optional:
        raise TopologyError(f"{at}: {', '.join(sorted(map(str, unknown)))} is not supported by the runner")
    return fields


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TopologyError(f"{where}: {value!r} is no mapping")
    return value


def _name(value: Any, where: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,40}", value):
        raise TopologyError(f"{where}: {value!r} is no name")
    return value
