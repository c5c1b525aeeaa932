"""What a user can want: networks, subnets, ports, VPNs, who is bound to which, and BGP peers.

Each object is a frozen value that is valid by itself or not made at all; what it says of other objects (a
subnet of a network that is not there, two segments with one VNI) is checked by `Intent.check` when it is
written.  Everything here is plain text and numbers, as the user wrote it, normalised.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol

import attrs

from speaker.table import Table
from speaker.values import Mac, RouteDistinguisher, RouteTarget

Kind = Literal["network", "subnet", "port", "bgpvpn", "association", "peer"]


class IntentError(ValueError):
    """The wish is refused; `field` says where, `value` is what was given, the text says what is wrong."""

    def __init__(self, field: str, value: object, reason: str) -> None:
        super().__init__(f"{field}: {reason} (given {value!r})")
        self.field = field
        self.value = value
        self.reason = reason


class ConflictError(IntentError):
    """The wish is valid by itself but cannot stand beside what is there already."""


def _checked(make: Callable[[Any], object]) -> Any:
    """Build an attrs converter for tuples of text, each item normalised through `make`."""

    def convert(items: Iterable[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(str(make(item)) for item in items))

    return convert


_targets = _checked(RouteTarget.parse)
_distinguishers = _checked(RouteDistinguisher.parse)


def _mac(text: str) -> str:
    return str(Mac.parse(text))


def _address(text: str) -> str:
    return str(ipaddress.ip_address(text))


@attrs.frozen(kw_only=True)
class Network:
    """A tenant network: one or more subnets, ports on any node."""

    id: str
    name: str = ""
    project_id: str = "default"
    mtu: int | None = None


@attrs.frozen(kw_only=True)
class Subnet:
    """Addresses of a network; the gateway address is answered by every node that has a port there."""

    id: str
    name: str = ""
    project_id: str = "default"
    network_id: str
    cidr: str
    gateway_ip: str | None = None


@attrs.frozen(kw_only=True)
class Port:
    """An interface of this node that belongs to a tenant."""

    id: str
    name: str = ""
    project_id: str = "default"
    network_id: str | None = None  # None: a port by itself, bound straight to VPNs
    interface: str
    netns: str = ""
    mac_address: str
    ip_addresses: tuple[str, ...] = ()  # "10.0.0.5", or "10.0.0.5/24" on a port by itself
    gateway_ips: tuple[str, ...] = ()  # only for a port by itself; else the subnets say it
    admin_state_up: bool = True


@attrs.frozen(kw_only=True)
class Bgpvpn:
    """A BGP VPN as networking-bgpvpn has it (l3: RFC 4364 VPNv4 and VPNv6; l2: RFC 7432 EVPN over VXLAN)."""

    id: str
    name: str = ""
    project_id: str = "default"
    type: Literal["l2", "l3"] = "l3"
    route_targets: tuple[str, ...] = ()
    import_targets: tuple[str, ...] = ()
    export_targets: tuple[str, ...] = ()
    route_distinguishers: tuple[str, ...] = ()
    vni: int | None = None
    local_pref: int | None = None
    admin_state_up: bool = True


@attrs.frozen(kw_only=True)
class Association:
    """A network or a port bound to a BGP VPN; exactly one of the two."""

    id: str
    bgpvpn_id: str
    network_id: str | None = None
    port_id: str | None = None
    advertise_fixed_ips: bool = True
    prefixes: tuple[str, ...] = ()  # further prefixes behind the port (a port association only)


@attrs.frozen(kw_only=True)
class Peer:
    """A BGP neighbour."""

    id: str
    name: str = ""
    address: str
    remote_as: int
    port: int = 179
    local_as: int | None = None  # None: the node's
    local_address: str | None = None
    families: tuple[str, ...] = ("vpnv4", "vpnv6", "evpn", "rtc")
    passive: bool = False
    hold_time_s: int = 90
    connect_retry_s: int = 5
    multihop_ttl: int | None = None  # None: 1 for a directly connected eBGP peer, 64 else
    ttl_security_hops: int | None = None  # RFC 5082
    password: str | None = None  # RFC 2385
    restart_time_s: int = 120  # RFC 4724
    admin_state_up: bool = True
