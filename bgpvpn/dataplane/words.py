"""Rows in plain words, for reasons, plans and audits."""

from __future__ import annotations

import ipaddress
from typing import Any

from bgpvpn.dataplane.rows import (
    Attached,
    BridgeLink,
    Group,
    Key,
    Kind,
    Leaf,
    MplsRoute,
    RouteTable,
    TunnelLink,
    Value,
    VrfLink,
    VxlanLink,
)


def ip(octets: bytes) -> str:
    """Return an address as people write it."""
    return str(ipaddress.ip_address(octets))


def mac(octets: bytes) -> str:
    """Return a MAC as people write it."""
    return octets.hex(":")


def prefix(octets: bytes, afi: int) -> str:
    """Return a prefix (octets and length, see `speaker.path`) as people write it."""
    return f"{ip(octets[:-1].ljust(4 if afi == 4 else 16, bytes(1)))}/{octets[-1]}"


def route(at: RouteTable, octets: bytes) -> str:
    """Return what to call a route."""
    return f"route {prefix(octets, at[1])} in table {at[0]}"


def row(kind: Kind, key: Key) -> str:
    """Return what to call a row."""
    match kind:
        case "unreachable":
            return f"the IPv{key[1]} end of table {key[0]}"
        case "address":
            return f"address {ip(key[1])} on {key[0]}"
        case "attachment":
            return f"port {key}"
        case "mpls":
            return f"label {key}"
        case "fdb":
            return f"MAC {mac(key[1])} on {key[0]}"
        case "flood":
            return f"flooding to {ip(key[1])} on {key[0]}"
        case "neighbour":
            return f"neighbour {ip(key[1])} on {key[0]}"
    return f"{kind} {key}"


def row_text(named: Any) -> str:
    """Return what to call a row (kind, key), or a route ("route", table and family, prefix)."""
    return route(named[1], named[2]) if named[0] == "route" else row(*named)


def content(value: Value) -> str:
    """Return what a row says."""
    match value:
        case VrfLink():
            return f"VRF with table {value.table}"
        case TunnelLink():
            return f"GRE from {ip(value.local)} to {ip(value.remote) if any(value.remote) else 'anyone'}"
        case BridgeLink():
            parts = [f"in {value.master}" if value.master else "", f"MAC {mac(value.mac)}" if value.mac else ""]
            parts += [f"MTU {value.mtu}" if value.mtu else "", "a gateway" if value.gateway else ""]
            return " ".join(("bridge", *filter(None, parts)))
        case VxlanLink():
            return f"VXLAN {value.vni} from {ip(value.local)} port {value.port} in {value.master}"
        case Attached():
            within = f" of namespace {value.netns}" if value.netns else ""
            return f"{value.interface}{within} in {value.bridge}"
        case Leaf(device=None):
            return f"IPv{value.afi} blackhole"
        case Leaf():
            parts = [f"label {value.label}" if value.label is not None else "", f"on {value.device}"]
            parts += [f"via {ip(value.gateway)}" if value.gateway is not None else ""]
            return " ".join((f"IPv{value.afi}", *filter(None, parts)))
        case Group():
            shares = f" by {':'.join(map(str, value.weights))}" if value.weights else ""
            return f"group of {', '.join(map(str, value.members))}{shares}"
        case MplsRoute():
            return f"to {value.device}" + (f" via {ip(value.gateway)}" if value.gateway is not None else "")
        case (bytes() as vtep, int() as vni):
            return f"to {ip(vtep) if vtep else 'nowhere'} with VNI {vni}"
        case bytes():
            return mac(value)
    return str(value)
