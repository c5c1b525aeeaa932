"""The things a user can want, each a frozen value that is valid by itself, and normalised, or not made at all.

Everything is plain text, numbers and flags, as the user wrote it: "FA-16-3E-00-00-01" becomes "fa:16:3e:00:00:01",
the prefix 10.0.0.1/8 becomes 10.0.0.0/8. What objects say of each other is looked at in `bgpvpn.intent`.
"""

from __future__ import annotations

import difflib
import ipaddress
from typing import Any, Literal, get_args

import attrs

from bgpvpn import rules
from bgpvpn.rules import Rule
from speaker.values import RouteDistinguisher, RouteTarget

Kind = Literal["network", "subnet", "port", "bgpvpn", "association", "peer"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""In this order objects refer only to kinds before them, ports and bgpvpns before associations."""


class IntentError(ValueError):
    """The wish is refused; `field` says where, `value` is what was given, `reason` what is wrong."""

    def __init__(self, field: str, value: object, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.value = value
        self.reason = reason


class ConflictError(IntentError):
    """The wish is valid by itself but cannot stand beside what is there already."""


def _normalise(thing: object, **by: Rule) -> None:
    """Replace fields of a value that is being made by what their rules return; a rule refuses with ValueError."""
    for field, rule in by.items():
        value = getattr(thing, field)
        try:
            object.__setattr__(thing, field, rule(value))
        except ValueError as error:
            raise IntentError(field, value, str(error)) from None


_targets = rules.several(RouteTarget.parse)


@attrs.frozen(kw_only=True)
class Network:
    """A tenant network: one or more subnets, ports on any node."""

    id: str
    name: str = ""
    project_id: str = "default"
    mtu: int | None = None

    def __attrs_post_init__(self) -> None:
        _normalise(
            self,
            id=rules.identifier,
            name=rules.name,
            project_id=rules.name,
            mtu=rules.optional(rules.number(68, 65535)),
        )


@attrs.frozen(kw_only=True)
class Subnet:
    """Addresses of a network; the gateway address is answered by every node that has a port there."""

    id: str
    name: str = ""
    project_id: str = "default"
    network_id: str
    cidr: str
    gateway_ip: str | None = None

    def __attrs_post_init__(self) -> None:
        _normalise(
            self,
            id=rules.identifier,
            name=rules.name,
            project_id=rules.name,
            network_id=rules.identifier,
            cidr=rules.prefix,
            gateway_ip=rules.optional(rules.address),
        )
        network = ipaddress.ip_network(self.cidr)
        if network.prefixlen == 0:
            raise IntentError("cidr", self.cidr, f"{self.cidr} is everything, not a subnet")
        if self.gateway_ip is not None and not rules.is_host(ipaddress.ip_address(self.gateway_ip), network):
            raise IntentError(
                "gateway_ip", self.gateway_ip, f"{self.gateway_ip} is not a host's address in {self.cidr}"
            )


@attrs.frozen(kw_only=True)
class Port:
    """An interface of this node that belongs to a tenant."""

    id: str
    name: str = ""
    project_id: str = "default"
    network_id: str | None = None  # None: a port by itself, bound straight to VPNs
    interface: str
    netns: str = ""  # as `ip netns` shows it; "": the daemon's own
    mac_address: str
    ip_addresses: tuple[str, ...] = ()  # "10.0.0.5", or "10.0.0.5/24" on a port by itself
    gateway_ips: tuple[str, ...] = ()  # only for a port by itself; else the subnets say it
    admin_state_up: bool = True

    def __attrs_post_init__(self) -> None:
        _normalise(
            self,
            id=rules.identifier,
            name=rules.name,
            project_id=rules.name,
            network_id=rules.optional(rules.identifier),
            interface=rules.interface,
            netns=rules.namespace,
            mac_address=rules.mac,
            ip_addresses=rules.several(rules.address if self.network_id is not None else rules.address_with_length),
            gateway_ips=rules.several(rules.address),
            admin_state_up=rules.flag,
        )
        own = [ipaddress.ip_interface(text) for text in self.ip_addresses]
        if len({interface.ip for interface in own}) < len(own):
            raise IntentError("ip_addresses", self.ip_addresses, "an address is there twice")
        if self.network_id is not None and self.gateway_ips:
            raise IntentError("gateway_ips", self.gateway_ips, "a port of a network has the gateways of its subnets")
        for text in self.gateway_ips:
            gateway = ipaddress.ip_address(text)
            if not any(rules.is_host(gateway, interface.network) and gateway != interface.ip for interface in own):
                raise IntentError(
                    "gateway_ips",
                    text,
                    f"{text} is not a neighbour of any of the port's own addresses and their lengths",
                )


@attrs.frozen(kw_only=True)
class Bgpvpn:
    """A BGP VPN as networking-bgpvpn has it (l3: RFC 4364 VPNv4 and VPNv6; l2: RFC 7432 EVPN over VXLAN)."""

    id: str
    name: str = ""
    project_id: str = "default"
    type: Literal["l2", "l3"] = "l3"
    route_targets: tuple[str, ...] = ()  # imported and exported
    import_targets: tuple[str, ...] = ()
    export_targets: tuple[str, ...] = ()
    route_distinguishers: tuple[str, ...] = ()  # empty: automatic
    vni: int | None = None  # l2 only; None: automatic
    local_pref: int | None = None
    admin_state_up: bool = True

    def __attrs_post_init__(self) -> None:
        _normalise(
            self,
            id=rules.identifier,
            name=rules.name,
            project_id=rules.name,
            route_targets=_targets,
            import_targets=_targets,
            export_targets=_targets,
            route_distinguishers=rules.several(RouteDistinguisher.parse),
            vni=rules.optional(rules.number(1, (1 << 24) - 1)),
            local_pref=rules.optional(rules.number(0, 0xFFFFFFFF)),
            admin_state_up=rules.flag,
        )
        if self.type not in ("l2", "l3"):
            raise IntentError("type", self.type, f"takes l2 or l3, not {self.type!r}")
        if self.type == "l3" and self.vni is not None:
            raise IntentError("vni", self.vni, "only an l2 VPN has a VNI; routes of an l3 VPN carry MPLS labels")


@attrs.frozen(kw_only=True)
class Association:
    """A network or a port bound to a BGP VPN; exactly one of the two."""

    id: str
    bgpvpn_id: str
    network_id: str | None = None
    port_id: str | None = None
    advertise_fixed_ips: bool = True  # false only in a port association
    prefixes: tuple[str, ...] = ()  # further prefixes behind the port (a port association only)

    def __attrs_post_init__(self) -> None:
        _normalise(
            self,
            id=rules.identifier,
            bgpvpn_id=rules.identifier,
            network_id=rules.optional(rules.identifier),
            port_id=rules.optional(rules.identifier),
            advertise_fixed_ips=rules.flag,
            prefixes=rules.several(rules.prefix),
        )
        if (self.network_id is None) == (self.port_id is None):
            raise IntentError("network_id", self.network_id, "exactly one of network_id and port_id is wanted")
        if self.network_id is not None and self.prefixes:
            raise IntentError("prefixes", self.prefixes, "prefixes lie behind a port, not behind a network")
        if self.network_id is not None and not self.advertise_fixed_ips:
            raise IntentError("advertise_fixed_ips", False, "only a port may be bound without announcing its addresses")


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
    families: tuple[str, ...] = ("vpnv4", "vpnv6", "evpn")
    passive: bool = False
    hold_time_s: int = 90
    multihop_ttl: int | None = None  # None: 1 towards another AS, 64 within ours
    ttl_security_hops: int | None = None  # RFC 5082
    password: str | None = attrs.field(default=None, repr=False)  # RFC 2385
    restart_time_s: int = 120  # RFC 4724
    admin_state_up: bool = True

    def __attrs_post_init__(self) -> None:
        _normalise(
            self,
            id=rules.identifier,
            name=rules.name,
            address=rules.peer_address,
            remote_as=rules.as_number,
            port=rules.number(1, 65535),
            local_as=rules.optional(rules.as_number),
            local_address=rules.optional(rules.peer_address),
            families=rules.families,
            passive=rules.flag,
            hold_time_s=rules.hold_time,
            multihop_ttl=rules.optional(rules.number(1, 255)),
            ttl_security_hops=rules.optional(rules.number(1, 254)),
            restart_time_s=rules.number(0, 4095),
            admin_state_up=rules.flag,
        )
        if self.multihop_ttl is not None and self.ttl_security_hops is not None:
            raise IntentError(
                "ttl_security_hops", self.ttl_security_hops, "TTL security and multihop_ttl exclude each other"
            )
        if self.local_address is not None and (":" in self.local_address) != (":" in self.address):
            raise IntentError("local_address", self.local_address, f"is of another address family than {self.address}")
        self._check_password()

    def _check_password(self) -> None:
        """Refuse what TCP_MD5SIG does not take, without showing it."""
        if self.password is None:
            return
        if not isinstance(self.password, str) or not 1 <= len(self.password.encode()) <= 80:
            raise IntentError("password", "***", "takes 1 to 80 octets of text")
        if not self.password.isprintable():
            raise IntentError("password", "***", "takes no control characters")


Object = Network | Subnet | Port | Bgpvpn | Association | Peer

CLASSES: dict[Kind, type[Any]] = {
    "network": Network,
    "subnet": Subnet,
    "port": Port,
    "bgpvpn": Bgpvpn,
    "association": Association,
    "peer": Peer,
}
FIXED: dict[Kind, tuple[str, ...]] = {
    "network": ("project_id",),
    "subnet": ("project_id", "network_id", "cidr"),
    "port": ("project_id", "network_id"),
    "bgpvpn": ("project_id", "type"),
    "association": ("bgpvpn_id", "network_id", "port_id"),
    "peer": ("address",),
}
"""Fields that stay as they were made."""


def kind_of(thing: Object) -> Kind:
    """Return the kind of an object."""
    return next(kind for kind, cls in CLASSES.items() if type(thing) is cls)


def make(kind: Kind, fields: dict[str, Any]) -> Object:
    """Make an object from plain values; IntentError names the field that is unknown, missing or wrong."""
    known = {field.name: field for field in attrs.fields(CLASSES[kind])}
    for name, value in fields.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise IntentError(name, value, f"is not a field of a {kind}{hint}")
    for name, field in known.items():
        if field.default is attrs.NOTHING and name not in fields:
            raise IntentError(name, None, f"a {kind} needs it")
    return CLASSES[kind](**fields)  # type: ignore[no-any-return]


def title(thing: Object) -> str:
    """Return what people call an object: its name, else its id."""
    return getattr(thing, "name", "") or thing.id
