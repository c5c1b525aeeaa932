"""From Neutron's objects to a node's: what of them a node shall have.

A node has what a BGPVPN is about, for the ports that are bound to its host:

    network association   the network with its subnets, if a port of it is there, and those ports
    router association    the router with all its subnets and networks, if a port of one is there, and those ports
    port association      the port, if it is there, and its network; VPNs that its routes lead to

Ids are Neutron's with "neutron." in front, by which the node knows what is Neutron's. Names are unique on a node, which
they are not in Neutron: they have the beginning of the id behind them.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

OWNER = "neutron"
ALL_HOSTS = "*"
NAME_LENGTH = 200

Plain = Mapping[str, Any]


@dataclasses.dataclass
class Snapshot:
    """What Neutron has at one moment, as its plugins show it; networks, subnets, ports and routers that VPNs touch."""

    bgpvpns: Sequence[Plain]
    network_associations: Sequence[Plain]
    router_associations: Sequence[Plain]
    port_associations: Sequence[Plain]
    networks: Sequence[Plain]
    subnets: Sequence[Plain]
    ports: Sequence[Plain]  # of these networks, on any host, routers' too
    routers: Sequence[Plain]
    interfaces: Mapping[str, Iterable[str]]  # subnets by router


def wanted(host: str, snapshot: Snapshot) -> dict[str, Any]:
    """Return the objects that a node shall have, as `PUT /v1/intent` takes them; "*": that of all hosts."""
    ports = [port for port in snapshot.ports if _is_here(port, host)]
    occupied = {port["network_id"] for port in ports}
    network_of = {subnet["id"]: subnet["network_id"] for subnet in snapshot.subnets}
    through = {
        router["id"]: {network_of[id_] for id_ in snapshot.interfaces.get(router["id"], ()) if id_ in network_of}
        for router in snapshot.routers
    }
    of_networks = [each for each in snapshot.network_associations if each["network_id"] in occupied]
    of_routers = [each for each in snapshot.router_associations if through.get(each["router_id"], set()) & occupied]
    here = {port["id"]: port for port in ports}
    of_ports = [each for each in snapshot.port_associations if each["port_id"] in here]

    whole = {each["network_id"] for each in of_networks}
    routers = {each["router_id"] for each in of_routers}
    whole.update(network for id_ in routers for network in through[id_])
    alone = {each["port_id"] for each in of_ports}
    networks = whole | {here[id_]["network_id"] for id_ in alone}
    vpns = {each["bgpvpn_id"] for each in (*of_networks, *of_routers, *of_ports)}
    vpns |= {id_ for each in of_ports for route in each["routes"] if (id_ := route.get("bgpvpn_id"))}

    down = {network["id"] for network in snapshot.networks if not network.get("admin_state_up", True)}
    stations = [port for port in snapshot.ports if not port["device_owner"].startswith("network:")]
    taken = {(port["network_id"], fixed["ip_address"]) for port in stations for fixed in port["fixed_ips"]}
    types = {vpn["id"]: vpn["type"] for vpn in snapshot.bgpvpns}
    return {
        "networks": [_network(each) for each in snapshot.networks if each["id"] in networks],
        "subnets": [_subnet(each, taken) for each in snapshot.subnets if each["network_id"] in networks],
        "routers": [_router(each, snapshot.interfaces) for each in snapshot.routers if each["id"] in routers],
        "ports": [
            _port(each, host, up=each["network_id"] not in down)
            for each in ports
            if each["network_id"] in whole or each["id"] in alone
        ],
        "bgpvpns": [_bgpvpn(each) for each in snapshot.bgpvpns if each["id"] in vpns],
        "associations": [
            *(_association(each, "network") for each in of_networks),
            *(
                {**_association(each, "router"), "advertise_extra_routes": bool(each["advertise_extra_routes"])}
                for each in of_routers
            ),
            *(_port_association(each, types) for each in of_ports),
        ],
    }


def node_id(id_: str) -> str:
    """Return the id that an object of Neutron's has on nodes."""
    return f"{OWNER}.{id_}"


def _is_here(port: Plain, host: str) -> bool:
    bound = port.get("binding:host_id") or ""
    return bool(bound) and host in (bound, ALL_HOSTS) and not port["device_owner"].startswith("network:")


def _common(thing: Plain) -> dict[str, Any]:
    """Return id, name and project, the name as one that can stand in a URL and that nothing else has."""
    given = thing.get("name") or ""
    name = "".join(each if each.isprintable() and each != "/" else "_" for each in given)[:NAME_LENGTH]
    return {
        "id": node_id(thing["id"]),
        "name": f"{name}-{thing['id'][:8]}" if name else "",
        "project_id": thing["project_id"],
    }


def _network(network: Plain) -> dict[str, Any]:
    return {**_common(network), "mtu": network.get("mtu") or None}


def _subnet(subnet: Plain, taken: set[tuple[str, str]]) -> dict[str, Any]:
    """Return a subnet; where a station has the gateway's address, the node does not answer for it."""
    gateway = subnet["gateway_ip"]
    return {
        **_common(subnet),
        "network_id": node_id(subnet["network_id"]),
        "cidr": subnet["cidr"],
        "gateway_ip": None if (subnet["network_id"], gateway) in taken else gateway,
    }


def _router(router: Plain, interfaces: Mapping[str, Iterable[str]]) -> dict[str, Any]:
    return {
        **_common(router),
        "subnet_ids": [node_id(id_) for id_ in interfaces.get(router["id"], ())],
        "routes": [
            {"destination": _prefix(route["destination"]), "nexthop": route["nexthop"]}
            for route in router.get("routes") or ()
        ],
        "admin_state_up": router["admin_state_up"],
    }


def _port(port: Plain, host: str, up: bool) -> dict[str, Any]:
    return {
        **_common(port),
        "network_id": node_id(port["network_id"]),
        "interface": f"tap{port['id'][:11]}",
        "host": port["binding:host_id"] if host == ALL_HOSTS else "",
        "device_owner": port["device_owner"],
        "mac_address": port["mac_address"],
        "ip_addresses": [fixed["ip_address"] for fixed in port["fixed_ips"]],
        "admin_state_up": port["admin_state_up"] and up,
    }


def _bgpvpn(vpn: Plain) -> dict[str, Any]:
    fields = {
        **_common(vpn),
        **{name: vpn[name] for name in ("type", "route_targets", "import_targets", "export_targets")},
        "route_distinguishers": vpn["route_distinguishers"],
        "vni": vpn["vni"],
        "local_pref": vpn["local_pref"],
    }
    if vpn["vni"] is not None and vpn["type"] == "l3":
        fields["technique"] = ["evpn-prefix"]  # a VNI asks for VXLAN, and so for EVPN
    return fields


def _association(association: Plain, of: str) -> dict[str, Any]:
    return {
        "id": node_id(association["id"]),
        "bgpvpn_id": node_id(association["bgpvpn_id"]),
        f"{of}_id": node_id(association[f"{of}_id"]),
    }


def _port_association(association: Plain, types: Mapping[str, str]) -> dict[str, Any]:
    """Return a port's association; without routes that Neutron takes though they mean nothing.

    Those are routes of an l2 VPN, of a VPN into itself, and prefixes that differ in host bits only.
    """
    routes: dict[str, dict[str, Any]] = {}
    for route in association["routes"]:
        if types.get(association["bgpvpn_id"]) != "l3":
            continue
        plain = {"type": route["type"], "local_pref": route.get("local_pref")}
        if route["type"] == "prefix":
            prefix = _prefix(route["prefix"])
            routes.setdefault(prefix, {**plain, "prefix": prefix})
        elif route["bgpvpn_id"] != association["bgpvpn_id"]:
            routes.setdefault(route["bgpvpn_id"], {**plain, "bgpvpn_id": node_id(route["bgpvpn_id"])})
    return {
        **_association(association, "port"),
        "advertise_fixed_ips": bool(association["advertise_fixed_ips"]),
        "routes": list(routes.values()),
    }


def _prefix(text: str) -> str:
    return str(ipaddress.ip_network(text, strict=False))
