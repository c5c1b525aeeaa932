"""What Open vSwitch's database says of bridges and ports, and what `ovs-vsctl` is told to bring it to our plugs.

An internal port of ours has external_ids: `bgpvpn` says that it is, and `bgpvpn-N` the name of the port that had the
OpenFlow number N when the plug first named it so. Numbers may change when Open vSwitch starts anew, and who gave us
one does not come back to tell: so the name is what counts from then on, for as long as there is a port of that name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs

from bgpvpn.dataplane.openflow import Numbers
from bgpvpn.dataplane.plugs import Plug

LIST = (
    "--columns=_uuid,name,ports",
    "list",
    "Bridge",
    "--",
    "--columns=_uuid,interfaces",
    "list",
    "Port",
    "--",
    "--columns=_uuid,name,type,ofport,external_ids,error,mtu_request",
    "list",
    "Interface",
)
"""Arguments of `ovs-vsctl --format=json`, for `read`."""

WATCHED = ("Interface", "name,ofport,external_ids,error,mtu_request")
"""A table and columns, for `ovsdb-client monitor`: every change of a bridge's ports is one there."""

MARK = "bgpvpn"


class OvsError(Exception):
    """Open vSwitch does not answer, or not as it should; what was asked of it waits."""


@attrs.frozen
class Interface:
    """An interface in some bridge."""

    name: str
    bridge: str
    number: int | None  # of OpenFlow; None: it has none, or none yet
    ids: Mapping[str, str] = {}
    error: str = ""
    mtu: int | None = None  # that was asked for

    @property
    def ours(self) -> bool:
        return MARK in self.ids


@attrs.frozen
class Found:
    """All bridges, and all interfaces by name."""

    bridges: frozenset[str]
    interfaces: Mapping[str, Interface]

    def port(self, bridge: str, name: str) -> Interface | None:
        """Return an interface if it is in this bridge."""
        found = self.interfaces.get(name)
        return None if found is None or found.bridge != bridge else found

    def numbered(self, bridge: str, number: int) -> Interface | None:
        """Return the interface that has an OpenFlow number in a bridge."""
        every = self.interfaces.values()
        return next((each for each in every if each.bridge == bridge and each.number == number), None)


@attrs.frozen
class Place:
    """Where a plug is, or is to be: `reason` says what it waits for, "" if it is there and its numbers are known."""

    reason: str = ""
    numbers: Numbers | None = None
    ids: Mapping[str, str] | None = None  # of its internal port; None: it cannot be made


def read(text: str) -> Found:
    """Return what three lists in JSON say; OvsError if they do not say it."""
    try:
        bridges, ports, interfaces = (_rows(json.loads(line)) for line in text.splitlines() if line.strip())
        bridge_of_port = {port: row["name"] for row in bridges.values() for port in _set(row["ports"])}
        bridge_of = {
            interface: bridge_of_port.get(port, "")
            for port, row in ports.items()
            for interface in _set(row["interfaces"])
        }
        found = {}
        for uuid, row in interfaces.items():
            number = next((each for each in _set(row["ofport"]) if each > 0), None)
            found[row["name"]] = Interface(
                name=row["name"],
                bridge=bridge_of.get(uuid, ""),
                number=number,
                ids=dict(row["external_ids"][1]),
                error="".join(_set(row["error"])),
                mtu=next(iter(_set(row["mtu_request"])), None),
            )
        return Found(frozenset(row["name"] for row in bridges.values()), found)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise OvsError(f"its database cannot be read: {error!r}") from error


def _rows(listed: Any) -> dict[str, dict[str, Any]]:
    headings = listed["headings"]
    rows = [dict(zip(headings, row, strict=True)) for row in listed["data"]]
    return {row["_uuid"][1]: row for row in rows}


def _set(value: Any) -> list[Any]:
    """Return the elements of a set, which a single one is written without; those of references are their UUIDs."""
    elements = value[1] if isinstance(value, list) and value[0] == "set" else [value]
    return [each[1] if isinstance(each, list) else each for each in elements]


def place(plug: Plug, found: Found) -> Place:
    """Say where a plug is."""
    at = plug.at
    if at.bridge not in found.bridges:
        return Place(f"there is no bridge {at.bridge} in Open vSwitch")
    there = found.interfaces.get(plug.interface)
    if there is not None and not there.ours:
        return Place(f"{plug.interface} is a port of bridge {there.bridge} already, and not ours")
    if there is not None and there.bridge != at.bridge:
        there = None
    ids = {MARK: "plug"}
    numbers = []
    for name in _names(plug):
        port = _port(name, at.bridge, {} if there is None else there.ids, found)
        if port is None:
            return Place(f"bridge {at.bridge} has no port {name}")
        if port.error:
            return Place(f"port {name} of bridge {at.bridge}: {port.error}")
        if port.number is None:
            return Place(f"port {name} of bridge {at.bridge} has no OpenFlow number yet")
        numbers.append(port.number)
        if name.isdecimal():
            ids[f"{MARK}-{name}"] = port.name
    if there is None or there.error or there.number is None:
        reason = there.error if there is not None and there.error else f"{at.bridge} has not made it yet"
        return Place(f"{plug.interface}: {reason}", ids=ids)
    return Place(numbers=Numbers(there.number, *numbers), ids=ids)


def wishes(plugs: Mapping[str, Plug], places: Mapping[str, Place], found: Found) -> list[str]:
    """Return the arguments of `ovs-vsctl` that make and remove internal ports; none if all is as it shall be."""
    commands: list[list[str]] = []
    for each in found.interfaces.values():
        if each.ours and (each.name not in plugs or plugs[each.name].at.bridge != each.bridge):
            commands.append(["--if-exists", "del-port", each.bridge, each.name])
    for name, plug in plugs.items():
        ids = places[name].ids
        if ids is None:
            continue
        there = found.port(plug.at.bridge, name)
        if there is None:
            commands.append(["add-port", plug.at.bridge, name])
        elif there.ids == ids and there.mtu == plug.mtu:
            continue
        mtu = "[]" if plug.mtu is None else str(plug.mtu)
        pairs = ",".join(f"{json.dumps(key)}={json.dumps(value)}" for key, value in ids.items())
        settings = ["type=internal", f"external_ids={{{pairs}}}", f"mtu_request={mtu}"]
        commands.append(["set", "Interface", name, *settings])
    return [word for command in commands for word in ("--", *command)]


def _names(plug: Plug) -> list[str]:
    """Return what the ports are called that a plug needs: the one that it meets, and that of the fallback."""
    at = plug.at
    return [at.port] if plug.fallback_mac is None or at.fallback_port is None else [at.port, at.fallback_port]


def _port(name: str, bridge: str, ids: Mapping[str, str], found: Found) -> Interface | None:
    if not name.isdecimal():
        return found.port(bridge, name)
    return found.port(bridge, ids.get(f"{MARK}-{name}", "")) or found.numbered(bridge, int(name))
