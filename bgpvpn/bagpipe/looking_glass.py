"""The looking glass of bagpipe-bgp (rim): a tree of what the node knows, made of our tables when it is asked for.

A branch is made when it is shown or a path leads into it; a far one is shown as a reference, {"href": URL}. The members
of a collection are shown as {"id", "href", ...}, and found by their ids. Any deeper path leads into what is shown.
"""

from __future__ import annotations

import logging
import os
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol
from urllib.parse import quote

import attrs

from bgpvpn.api import boundary
from bgpvpn.bagpipe.wishes import TYPE_NAMES, endpoints, gateway_of, instances, members, readvertised
from bgpvpn.config import Config
from bgpvpn.objects import DEFAULT_LOCAL_PREF, Bgpvpn
from speaker.decision import LOCAL

Plain = dict[str, Any]

BASE = "looking-glass"
MOST = 100_000
"""How many routes are shown at one place."""

FAMILIES = {
    "vpnv4": "ipv4/mpls-vpn",
    "vpnv6": "ipv6/mpls-vpn",
    "evpn": "l2vpn/evpn",
    "rtc": "ipv4/rtc",
    "vpnv4-flowspec": "ipv4/flow-vpn",
}
"""Our families by the names that bagpipe-bgp gives them."""

KINDS = {"l3": "VRF", "l2": "EVI"}
TIME = "%Y-%m-%d %H:%M:%S"


class Node(boundary.Node, Protocol):
    """What is needed beside what the API needs."""

    @property
    def identity(self) -> int:
        """A number that stays as long as what clients left is kept."""


@attrs.frozen
class Near:
    """What is shown where it is."""

    make: Callable[[], Any]


@attrs.frozen
class Branch:
    """What is shown only to who asks for it."""

    make: Callable[[], Any]


@attrs.frozen
class Collection:
    """Things with ids, each shown only to who asks for it; `find` raises LookupError."""

    ids: Callable[[], Iterable[Plain]]
    find: Callable[[str], Any]


class Recent(logging.Handler):
    """Keeps the last warnings and errors of the log, the newest first."""

    def __init__(self, most: int = 100) -> None:
        super().__init__(logging.WARNING)
        self.lines: deque[Plain] = deque(maxlen=most)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what a line says."""
        at = time.strftime(TIME, time.localtime(record.created))
        line = {"level": record.levelname, "time": at, "name": record.name, "message": record.getMessage()}
        self.lines.appendleft(line)


class LookingGlass:
    """The looking glass of a node."""

    def __init__(self, node: Node, config: Config, recent: Recent) -> None:
        self.node = node
        self.config = config
        self.recent = recent

    def at(self, path: Sequence[str], origin: str) -> Any:
        """Return what is at a path, as plain values; URLs begin with `origin`. LookupError: there is nothing."""
        url = f"{origin}/{BASE}"
        thing: Any = _Tree(self, url).root()
        for name in path:
            if isinstance(thing, Branch | Near):
                thing = thing.make()
            if isinstance(thing, Collection):
                thing = thing.find(name)
            elif isinstance(thing, dict) and name in thing:
                thing = thing[name]
            else:
                raise LookupError(f"{name} at {url}")
            url = f"{url}/{quote(name, safe='')}"
        return _shown(thing.make() if isinstance(thing, Branch) else thing, url)


def _shown(thing: Any, url: str) -> Any:
    """Return a thing with references in the place of its branches."""
    if isinstance(thing, Near):
        return thing.make()
    if isinstance(thing, Collection):
        return [{**each, "href": f"{url}/{quote(each['id'], safe='')}"} for each in thing.ids()]
    if not isinstance(thing, dict):
        return thing
    return {
        name: {"href": at} if isinstance(each, Branch | Collection) else _shown(each, at)
        for name, each in thing.items()
        for at in [f"{url}/{quote(name, safe='')}"]
    }


class _Tree:
    """The tree as it is at one request."""

    def __init__(self, glass: LookingGlass, url: str) -> None:
        self.node = glass.node
        self.intent = glass.node.intent
        self.config = glass.config
        self.recent = glass.recent
        self.url = url

    def root(self) -> Plain:
        """Return the top of the tree."""
        return {
            "summary": Near(self._summary),
            "config": Branch(self._config),
            "bgp": Branch(self._bgp),
            "vpns": Branch(self._vpns),
            "logs": Branch(lambda: list(self.recent.lines)),
        }

    def _summary(self) -> Plain:
        status = self.node.status()
        return {
            "BGP_established_peers": sum(each["state"] == "established" for each in self.node.sessions()),
            "route_counts": self._route_counts(),
            "vpn_instances_count": len(instances(self.intent)),
            "warnings_and_errors": len(self.recent.lines),
            "start_time": time.strftime(TIME, time.localtime(time.time() - status["uptime_s"])),
            "version": status["version"],
        }

    def _route_counts(self) -> Plain:
        received = (each["routes_in"] for each in self.node.sessions())
        held = {each["name"]: each["samples"] for each in self.node.metrics()}.get("bgpvpn_rib_routes", ())
        own = [each for each in held if each["labels"]["source"] == LOCAL and each["labels"]["family"] != "rtc"]
        return {
            "local_routes_count": sum(each["value"] for each in own),
            "received_routes_count": sum(n for each in received for family, n in each.items() if family != "rtc"),
        }

    def _config(self) -> Plain:
        node, api = self.config.node, self.config.bagpipe
        address = node.tunnel_ip[0]
        return {
            "COMMON": {},
            "API": {} if api.listen is None else {"host": api.listen[0], "port": api.listen[1]},
            "BGP": {
                "local_address": node.router_id,
                "peers": [each.address for each in self.intent.peers.rows.values()],
                "my_as": node.local_as,
                "enable_rtc": "rtc" in self.config.bgp.families,
                "bgp_port": self.config.bgp.port,
            },
            "DATAPLANE_DRIVER_IPVPN": {"dataplane_local_address": address, "ovs_bridge": api.ipvpn_bridge},
            "DATAPLANE_DRIVER_EVPN": {
                "dataplane_local_address": address,
                "ovs_bridge": api.evpn_bridge,
                "vxlan_dst_port": self.config.dataplane.vxlan_port,
            },
        }

    # BGP

    def _bgp(self) -> Plain:
        return {
            "peers": Collection(self._peer_ids, self._peer),
            "routes": Branch(self._all_routes),
            "workers": Collection(self._worker_ids, self._worker),
            "route_counts": Near(self._route_counts),
            "adv_routes": Branch(lambda: self._entries(self._routes(family="rtc", source="local"))),
        }

    def _peer_ids(self) -> Iterable[Plain]:
        return [{"id": each["address"], "state": _state(each["state"])} for each in self.node.sessions()]

    def _peer(self, address: str) -> Plain:
        session = next((each for each in self.node.sessions() if each["address"] == address), None)
        if session is None:
            raise LookupError(address)
        rtc = "rtc" in session["families"]
        families = [FAMILIES.get(each, each) for each in session["families"]]
        changed = time.strftime(TIME, time.localtime(time.time() - session["since_s"]))
        return {
            "name": f"BGP-{address}",
            "peeringAddresses": {"peer_address": address, "local_address": self.config.node.router_id},
            "as_info": {"local": session["local_as"], "peer": session["remote_as"]},
            "rtc": {"active": rtc, "enabled": "rtc" in self.config.bgp.families},
            "active_families": families,
            "protocol": {
                "state": _state(session["state"]),
                "previous_state": "()",
                "hold_time": session.get("hold_time_s"),
                "last_transition_time": changed,
            },
            "internals": {"event queue length": 0, "subscriptions": []},
            "adv_routes": Branch(lambda: self._entries(self._routes(source=address))),
            "logs": Branch(lambda: [each for each in self.recent.lines if address in each["message"]]),
        }

    def _worker_ids(self) -> Iterable[Plain]:
        names = [f"BGP-{each['address']}" for each in self.node.sessions()]
        return [{"id": name} for name in [*names, *map(_name, instances(self.intent).values())]]

    def _worker(self, name: str) -> Any:
        for vpn in instances(self.intent).values():
            if _name(vpn) == name:
                return self._instance(vpn.name)
        return self._peer(name.removeprefix("BGP-"))

    def _all_routes(self) -> Plain:
        return {f"{theirs},*": self._entries(self._routes(family=ours)) for ours, theirs in FAMILIES.items()}

    def _routes(
        self, *, family: str | None = None, vpn: Bgpvpn | None = None, source: str | None = None
    ) -> list[Plain]:
        try:
            return self.node.routes(
                family=family, route_target=None, prefix=None, vpn=vpn, source=source, most=MOST, received=False
            )
        except LookupError:
            return []

    def _entries(self, routes: Iterable[Plain]) -> list[Plain]:
        return [{each["nlri"]: self._entry(each)} for each in routes]

    def _entry(self, route: Plain) -> Plain:
        attributes = {
            "LOCAL_PREF": route["local_pref"],
            "EXTENDED_COMMUNITY": [*map(_target, route["route_targets"]), *route["extended_communities"]],
            "MED": route["med"],
            "ORIGINATOR_ID": route.get("originator_id"),
        }
        entry: Plain = {
            "afi-safi": FAMILIES.get(route["family"], route["family"]),
            "attributes": {name: str(value) for name, value in attributes.items() if value not in (None, [])},
            "next_hop": route["next_hop"],
            "route_targets": list(map(_target, route["route_targets"])),
        }
        if "label" in route:
            entry["label"] = route["label"]
        if route["source"] != "local":
            name = f"BGP-{route['source']}"
            entry["source"] = {"id": name, "href": f"{self.url}/bgp/workers/{quote(name, safe='')}"}
        return entry

    # VPNs

    def _vpns(self) -> Plain:
        return {
            "instances": Collection(self._instance_ids, self._instance),
            "dataplane": Branch(
                lambda: {
                    "drivers": Collection(lambda: [{"id": "evpn"}, {"id": "ipvpn"}], self._driver),
                    "ids": Branch(self._ids),
                }
            ),
            "instances_per_vni": {
                str(vpn.vni): {"name": _name(vpn), "external_instance_id": name}
                for name, vpn in instances(self.intent).items()
                if vpn.vni is not None
            },
        }

    def _instance_ids(self) -> Iterable[Plain]:
        return [{"id": name, "name": _name(vpn)} for name, vpn in instances(self.intent).items()]

    def _instance(self, name: str) -> Plain:
        vpn = instances(self.intent).get(name)
        if vpn is None:
            raise LookupError(name)
        gateway = gateway_of(self.intent, vpn)
        again = readvertised(self.intent, vpn)
        fallbacks = (self.intent.networks[port.network_id or ""].fallback_mac for port, _ in members(self.intent, vpn))
        fallback = next((each for each in fallbacks if each is not None), None)
        imports, exports = (list(map(_target, each)) for each in (vpn.import_targets, vpn.export_targets))
        plain: Plain = {
            "name": _name(vpn),
            "instance_type": KINDS[vpn.type],
            "external_instance_id": name,
            "description": None,
            "dataplane": Branch(lambda: self._dataplane(vpn)),
            "route_targets": {"import": imports, "export": exports},
            "gateway_ip": None if gateway is None else str(gateway.ip),
            "subnet_prefix_length": None if gateway is None else gateway.network.prefixlen,
            "instance_dataplane_id": Near(lambda: self._dataplane_id(vpn)),
            "ports": Branch(lambda: self._ports(vpn)),
            "readvertise": {},
            "attract_traffic": {},
            "fallback": None if fallback is None else {"dst_mac": fallback},
            "received_routes": Branch(lambda: self._by_prefix(self._imported(vpn))),
            "best_routes": Branch(lambda: self._by_prefix(_best(self._imported(vpn)))),
            "adv_routes": Branch(lambda: self._entries(self._exported(vpn))),
            "internals": {"event queue length": 0, "subscriptions": imports},
            "logs": Branch(lambda: [each for each in self.recent.lines if name in each["message"]]),
        }
        if again is not None and again.from_targets and again.to_targets:  # the graph wants one of each
            plain["readvertise"] = {
                "from": list(map(_target, again.from_targets)),
                "to": list(map(_target, again.to_targets)),
            }
        if vpn.type == "l3":
            plain["readvertised"] = Branch(lambda: self._readvertised(vpn))
        else:
            plain["gateway_port"] = self._gateway_port(vpn)
        return plain

    def _segment(self, vpn: Bgpvpn) -> Plain:
        """Return the segment in which the first station of an instance is, {} if there is none."""
        ports = {port.id for port, _ in members(self.intent, vpn)}
        return next((each for each in self.node.instances() if not ports.isdisjoint(each["ports"])), {})

    def _dataplane_id(self, vpn: Bgpvpn) -> int | None:
        part, field = ("evi", "vni") if vpn.type == "l2" else ("vrf", "label")
        number: int | None = self._segment(vpn).get(part, {}).get(field)
        return number

    def _dataplane(self, vpn: Bgpvpn) -> Plain:
        name = TYPE_NAMES[vpn.type]
        driver = {"id": name, "href": f"{self.url}/vpns/dataplane/drivers/{name}"}
        return {"driver": driver, **self._segment(vpn)}

    def _ports(self, vpn: Bgpvpn) -> Plain:
        segment = self._segment(vpn)
        at: dict[str, tuple[str | None, int | None]] = {}
        for route in self._exported(vpn):
            distinguisher, _, prefix = route["nlri"].partition(" ")
            at[prefix] = (distinguisher, route.get("label"))
        evi = segment.get("evi", {})
        ports: Plain = {}
        for port, association in members(self.intent, vpn):
            of_port = ports.setdefault(port.interface, {"endpoints": []})["endpoints"]
            for prefix, local_pref in endpoints(port, association):
                rd, label = at.get(prefix or "", (evi.get("route_distinguisher"), evi.get("vni")))
                of_port.append(
                    {
                        "label": label,
                        "mac_address": port.mac_address,
                        "ip_address": prefix,
                        "local_pref": local_pref if vpn.type == "l3" else vpn.local_pref,
                        "rd": rd,
                        "description": None,
                        "direction": association.direction,
                        "status": self.node.status_of("port", port.id),
                    }
                )
        return ports

    def _imported(self, vpn: Bgpvpn) -> list[Plain]:
        wanted = set(vpn.import_targets)
        return [each for each in self._routes(vpn=vpn) if not wanted.isdisjoint(each["route_targets"])]

    def _exported(self, vpn: Bgpvpn) -> list[Plain]:
        wanted = set(vpn.export_targets)
        routes = self._routes(vpn=vpn, source="local")
        return [each for each in routes if not wanted.isdisjoint(each["route_targets"])]

    def _readvertised(self, vpn: Bgpvpn) -> list[Plain]:
        again = readvertised(self.intent, vpn)
        if again is None:
            return []
        own = {prefix for port, each in members(self.intent, vpn) for prefix, _ in endpoints(port, each)}
        into = attrs.evolve(vpn, import_targets=(), export_targets=again.to_targets)
        return self._entries(each for each in self._exported(into) if each["nlri"].partition(" ")[2] not in own)

    def _by_prefix(self, routes: Iterable[Plain]) -> Plain:
        found: Plain = {}
        for each in routes:
            found.setdefault(_prefix(each), []).append({each["nlri"]: self._entry(each)})
        return found

    def _gateway_port(self, vpn: Bgpvpn) -> Plain | None:
        """Return the IPVPN that an EVPN instance is plugged into."""
        networks = {port.network_id for port, _ in members(self.intent, vpn)}
        for name, other in instances(self.intent).items():
            for each in self.intent.referring("bgpvpn", other.id, "association"):
                if other.type == "l3" and each.network_id in networks:
                    href = f"{self.url}/vpns/instances/{quote(name, safe='')}"
                    ipvpn = {"href": href, "id": _name(other), "external_instance_id": name}
                    return {"interface": None, "ipvpn": ipvpn}
        return None

    def _driver(self, name: str) -> Plain:
        if name not in ("evpn", "ipvpn"):
            raise LookupError(name)
        return {
            "name": self.config.dataplane.kind,
            "local_address": self.config.node.tunnel_ip[0],
            "supported_encaps": ["VXLAN"] if name == "evpn" else ["GRE", "MPLS", "DEFAULT"],
            "config": self._config()[f"DATAPLANE_DRIVER_{name.upper()}"],
            "kernel_release": os.uname().release.partition("-")[0],
        }

    def _ids(self) -> Plain:
        """Return the labels in use, and for what."""
        words = [each["object"].split() for each in self.node.kernel()["objects"]]
        return {each[1]: " ".join(each) for each in words if each[0] == "label"}


def _name(vpn: Bgpvpn) -> str:
    """Return what bagpipe-bgp calls an instance; its number is one that stays."""
    return f"{KINDS[vpn.type]}-{zlib.crc32(vpn.name.encode()) % 1_000_000}"


def _state(state: str) -> str:
    return "".join(word.capitalize() for word in state.split("-"))


def _target(text: str) -> str:
    return f"target:{text}"


def _prefix(route: Plain) -> str:
    """Return where a route leads to, without the route distinguisher of an IPVPN."""
    nlri: str = route["nlri"]
    return nlri if route["family"] == "evpn" else nlri.partition(" ")[2]


def _best(routes: Iterable[Plain]) -> list[Plain]:
    """Return those of each prefix with the highest LOCAL_PREF, by which bagpipe-bgp chooses."""
    degree = [(each, DEFAULT_LOCAL_PREF if each["local_pref"] is None else each["local_pref"]) for each in routes]
    highest: dict[str, int] = {}
    for each, value in degree:
        highest[_prefix(each)] = max(value, highest.get(_prefix(each), 0))
    return [each for each, value in degree if value == highest[_prefix(each)]]
