"""The things a user can want, each a frozen value that is valid by itself, and normalised, or not made at all.

Everything is plain text, numbers and flags, as the user wrote it: "FA-16-3E-00-00-01" becomes "fa:16:3e:00:00:01",
the prefix 10.0.0.1/8 becomes 10.0.0.0/8. What objects say of each other is looked at in `bgpvpn.intent`.
"""

from __future__ import annotations

import copy
import difflib
import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import attrs

from bgpvpn import policies, rules
from bgpvpn.rules import Rule
from speaker import policy
from speaker.session import ROLES, Role
from speaker.terms import PrefixLimit
from speaker.values import RouteDistinguisher, RouteTarget

Kind = Literal[
    "network",
    "subnet",
    "router",
    "port",
    "bgpvpn",
    "association",
    "floating_ip",
    "policy",
    "peer",
    "speaker",
    "advertisement",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""In this order objects refer only to kinds before them: ports before associations, policies before peers."""


class IntentError(ValueError):
    """The wish is refused; `field` says where, `value` is what was given, `reason` what is wrong.

    `more` has what else is wrong with it, as far as that was looked at.
    """

    def __init__(self, field: str, value: object, reason: str, more: Sequence[IntentError] = ()) -> None:
        super().__init__("; ".join([f"{field}: {reason}", *map(str, more)]))
        self.field = field
        self.value = value
        self.reason = reason
        self.more = tuple(more)


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


def _records(cls: type[Any], called: str) -> Rule:
    """Return the rule for a list of small values, each made from a mapping; it drops repetitions, keeps the order."""

    def rule(value: Any) -> tuple[Any, ...]:
        if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
            raise ValueError(f"takes a list of {called}, not {value!r}")
        return tuple(dict.fromkeys(_record(cls, called)(each) for each in value))

    return rule


def _record(cls: type[Any], called: str) -> Rule:
    """Return the rule for one small value, made from a mapping."""
    known = {field.name: field for field in attrs.fields(cls)}

    def rule(value: Any) -> Any:
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise ValueError(f"takes {called} with {', '.join(known)}, not {value!r}")
        for name in value:
            if name not in known:
                raise ValueError(f"{name!r} is not known in {called}; there are {', '.join(known)}")
        for name, field in known.items():
            if field.default is attrs.NOTHING and name not in value:
                raise ValueError(f"{called} need {name!r}, and {dict(value)!r} has none")
        return cls(**value)

    return rule


@attrs.frozen(kw_only=True)
class Network:
    """A tenant network: one or more subnets, ports on any node; or an external one, to which routers lead."""

    id: str
    name: str = ""
    project_id: str = "default"
    mtu: int | None = None
    external: bool = False  # routers lead to it; it is in no VPN
    fallback_mac: str | None = None  # the router, not ours, that gets what no VPN has a route for
    host_addresses: bool = False  # ports may have addresses in no subnet; each is a host by itself (/32, /128)

    def __attrs_post_init__(self) -> None:
        _normalise(
            self,
            id=rules.identifier,
            name=rules.name,
            project_id=rules.name,
            mtu=rules.optional(rules.number(68, 65535)),
            external=rules.flag,
            fallback_mac=rules.optional(rules.mac),
            host_addresses=rules.flag,
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
    address_scope: str = ""  # subnets of one scope may be told to each other's side (Neutron's address scopes)

    def __attrs_post_init__(self) -> None:
        _normalise(
            self,
            id=rules.identifier,
            name=rules.name,
            project_id=rules.name,
            network_id=rules.identifier,
            cidr=rules.prefix,
            gateway_ip=rules.optional(rules.address),
            address_scope=rules.name,
        )
        network = ipaddress.ip_network(self.cidr)
        if network.prefixlen == 0:
            raise IntentError("cidr", self.cidr, f"{self.cidr} is everything, not a subnet")
        if self.gateway_ip is not None and not rules.is_host(ipaddress.ip_address(self.gateway_ip), network):
            raise IntentError(
                "gateway_ip", self.gateway_ip, f"{self.gateway_ip} is not a host's address in {self.cidr}"
            )


@attrs.frozen(kw_only=True)
class HostRoute:
    """A destination behind a host of a tenant's network."""

    destination: str
    nexthop: str

    def __attrs_post_init__(self) -> None:
        _normalise(self, destination=rules.prefix, nexthop=rules.address)
        if (":" in self.destination) != (":" in self.nexthop):
            raise IntentError("nexthop", self.nexthop, f"is of another address family than {self.destination}")


@attrs.frozen(kw_only=True)
class Router:
    """A tenant's router: it has the gateway address of each of its subnets, on every node that has a port there."""

    id: str
    name: str = ""
    project_id: str = "default"
    subnet_ids: tuple[str, ...] = ()
    routes: tuple[HostRoute, ...] = ()  # extra routes, behind hosts of its subnets
    gateway_network_id: str | None = None  # an external network
    gateway_ips: tuple[str, ...] = ()  # its addresses there
    admin_state_up: bool = True

    def __attrs_post_init__(self) -> None:
        _normalise(
            self,
            id=rules.identifier,
            name=rules.name,
            project_id=rules.name,
            subnet_ids=rules.several(rules.identifier),
            routes=_records(HostRoute, "routes"),
            gateway_network_id=rules.optional(rules.identifier),
            gateway_ips=rules.several(rules.address),
            admin_state_up=rules.flag,
        )
        if self.gateway_ips and self.gateway_network_id is None:
            raise IntentError("gateway_ips", self.gateway_ips, "are addresses in gateway_network_id, and there is none")


@attrs.frozen(kw_only=True)
class OvsPlug:
    """Where an interface of ours meets Open vSwitch: frames with a VLAN on a port of a bridge.

    The port's interface is made as an internal port of that bridge (see docs/decisions/0012).
    """

    bridge: str
    port: str  # its OpenFlow number or its name
    vlan: int | None = None
    fallback_port: str | None = None  # where frames to the network's fallback_mac go, if elsewhere
    fallback_src_mac: str | None = None  # and what they have as their source then

    def __attrs_post_init__(self) -> None:
        _normalise(
            self,
            bridge=rules.interface,
            port=rules.ovs_port,
            vlan=rules.optional(rules.number(1, 4094)),
            fallback_port=rules.optional(rules.ovs_port),
            fallback_src_mac=rules.optional(rules.mac),
        )


@attrs.frozen(kw_only=True)
class Port:
    """A station of a tenant behind an interface of a node; stations of one network may share an interface."""

    id: str
    name: str = ""
    project_id: str = "default"
    network_id: str | None = None  # None: a port by itself, bound straight to VPNs
    interface: str = ""  # "": "tap" and the first 11 characters of the id, as Neutron calls it
    netns: str = ""  # as `ip netns` shows it; "": the daemon's own
    ovs: OvsPlug | None = None  # the interface is ours then
    host: str = ""  # the node that it is on; "": this one
    device_owner: str = ""  # those that begin with "network:" are not announced
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
            interface=lambda value: rules.interface(value or f"tap{self.id[:11]}"),
            netns=rules.namespace,
            ovs=rules.optional(_record(OvsPlug, "a plug")),
            host=rules.name,
            device_owner=rules.text,
            mac_address=rules.mac,
            ip_addresses=rules.several(rules.address if self.network_id is not None else rules.address_with_length),
            gateway_ips=rules.several(rules.address),
            admin_state_up=rules.flag,
        )
        if self.ovs is not None and self.netns:
            raise IntentError("netns", self.netns, "the interface of a port of Open vSwitch is in the daemon's own")
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


DEFAULT_LOCAL_PREF = 100
"""What BGP takes where nothing is said."""

TECHNIQUES: dict[str, tuple[str, ...]] = {"l3": ("ipvpn", "evpn-prefix"), "l2": ("evpn",)}
"""How a VPN of each type may be carried; the first is what is taken when nothing is said."""


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
    vni: int | None = None  # with VXLAN only; None: automatic
    local_pref: int | None = None
    technique: tuple[str, ...] = ()  # l3: ipvpn, evpn-prefix (RFC 9136), or both; l2: evpn
    aggregate: Literal["none", "subnet", "both"] = "none"  # are subnets announced, instead of or beside addresses
    max_prefixes: int | None = None  # that one association may announce beside fixed addresses
    allowed_prefixes: tuple[str, ...] = ()  # within which those must be; empty: anywhere
    local_pref_range: tuple[int, int] | None = None  # in which every LOCAL_PREF must be
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
            local_pref=rules.optional(rules.local_pref),
            type=rules.choice("l2", "l3"),
            aggregate=rules.choice("none", "subnet", "both"),
            max_prefixes=rules.optional(rules.number(0, 1_000_000)),
            allowed_prefixes=rules.several(rules.prefix),
            local_pref_range=rules.optional(rules.local_pref_range),
            admin_state_up=rules.flag,
        )
        known = TECHNIQUES[self.type]
        _normalise(self, technique=lambda value: rules.several(rules.choice(*known))(value) or known[:1])
        if self.vni is not None and self.technique == ("ipvpn",):
            raise IntentError("vni", self.vni, "routes of an l3 VPN carry MPLS labels, unless it is evpn-prefix")
        if self.type == "l2" and self.aggregate != "none":
            raise IntentError("aggregate", self.aggregate, "an l2 VPN announces no subnets")
        self.check_local_pref("local_pref", self.local_pref)

    def effective_local_pref(self, own: int | None) -> int | None:
        """Return the LOCAL_PREF of a route that wants this one (None: that of the VPN), within the VPN's range."""
        value = self.local_pref if own is None else own
        if self.local_pref_range is None:
            return value
        low, high = self.local_pref_range
        return min(max(DEFAULT_LOCAL_PREF if value is None else value, low), high)

    def refusal(self, prefix: str) -> str:
        """Tell why a prefix may not be announced into the VPN, "" if it may."""
        if not self.allowed_prefixes:
            return ""
        network = ipaddress.ip_network(prefix)
        for text in self.allowed_prefixes:
            outer = ipaddress.ip_network(text)
            if network.version == outer.version and network.subnet_of(outer):  # type: ignore[arg-type]
                return ""
        return f"VPN {title(self)!r} takes prefixes within {', '.join(self.allowed_prefixes)} only"

    def check_local_pref(self, field: str, value: int | None) -> None:
        """Refuse a LOCAL_PREF out of the VPN's range."""
        if value is not None and self.local_pref_range is not None:
            low, high = self.local_pref_range
            if not low <= value <= high:
                raise IntentError(field, value, f"VPN {title(self)!r} takes a LOCAL_PREF from {low} to {high}")


@attrs.frozen(kw_only=True)
class Route:
    """What a port is bound for beside its own addresses: a prefix behind it, or the routes of another VPN."""

    type: Literal["prefix", "bgpvpn"]
    prefix: str | None = None
    bgpvpn_id: str | None = None  # its routes are announced anew, as lying behind the port
    local_pref: int | None = None  # None: that of the VPN that it is announced into

    def __attrs_post_init__(self) -> None:
        _normalise(
            self,
            type=rules.choice("prefix", "bgpvpn"),
            prefix=rules.optional(rules.prefix),
            bgpvpn_id=rules.optional(rules.identifier),
            local_pref=rules.optional(rules.local_pref),
        )
        wanted, other = ("prefix", "bgpvpn_id") if self.type == "prefix" else ("bgpvpn_id", "prefix")
        if getattr(self, wanted) is None:
            raise IntentError(wanted, None, f"a route of type {self.type} needs it")
        if getattr(self, other) is not None:
            raise IntentError(other, getattr(self, other), f"a route of type {self.type} has none")


@attrs.frozen(kw_only=True)
class Association:
    """A network, a router or a port bound to a BGP VPN; exactly one of the three."""

    id: str
    bgpvpn_id: str
    network_id: str | None = None
    router_id: str | None = None
    port_id: str | None = None
    advertise_extra_routes: bool = True  # of the router (a router association only)
    advertise_fixed_ips: bool = True  # false only in a port association
    routes: tuple[Route, ...] = ()  # a port association only
    direction: Literal["both", "to-port", "from-port"] = "both"  # to-port: only announced; from-port: only imported

    def __attrs_post_init__(self) -> None:
        _normalise(
            self,
            id=rules.identifier,
            bgpvpn_id=rules.identifier,
            network_id=rules.optional(rules.identifier),
            router_id=rules.optional(rules.identifier),
            port_id=rules.optional(rules.identifier),
            advertise_extra_routes=rules.flag,
            advertise_fixed_ips=rules.flag,
            routes=_records(Route, "routes"),
            direction=rules.choice("both", "to-port", "from-port"),
        )
        if [self.network_id, self.router_id, self.port_id].count(None) != 2:
            raise IntentError(
                "network_id", self.network_id, "exactly one of network_id, router_id and port_id is wanted"
            )
        if self.router_id is None and not self.advertise_extra_routes:
            raise IntentError("advertise_extra_routes", False, "only a router has extra routes")
        if self.port_id is None:
            if self.routes:
                raise IntentError("routes", self.routes, "routes lie behind a port, not behind a network or a router")
            if not self.advertise_fixed_ips:
                raise IntentError(
                    "advertise_fixed_ips", False, "only a port may be bound without announcing its addresses"
                )
            if self.direction != "both":
                raise IntentError("direction", self.direction, "only a port may be bound in one direction")
        told = [(route.type, route.prefix or route.bgpvpn_id) for route in self.routes]
        for each in told:
            if told.count(each) > 1:
                raise IntentError("routes", each[1], f"{each[0]} {each[1]} is there more than once")

    @property
    def bound(self) -> tuple[Kind, str]:
        """What is bound: a network, a router or a port."""
        for kind, id_ in (("network", self.network_id), ("router", self.router_id), ("port", self.port_id)):
            if id_ is not None:
                return kind, id_  # type: ignore[return-value]
        raise AssertionError("something is bound")


@attrs.frozen(kw_only=True)
class FloatingIp:
    """An address of an external network that stands for one of a tenant's port."""

    id: str
    project_id: str = "default"
    network_id: str  # external
    address: str
    router_id: str | None = None
    port_id: str | None = None
    fixed_ip: str | None = None  # None: the first of the port, of the same address family

    def __attrs_post_init__(self) -> None:
        _normalise(
            self,
            id=rules.identifier,
            project_id=rules.name,
            network_id=rules.identifier,
            address=rules.address,
            router_id=rules.optional(rules.identifier),
            port_id=rules.optional(rules.identifier),
            fixed_ip=rules.optional(rules.address),
        )
        if self.fixed_ip is not None and self.port_id is None:
            raise IntentError("fixed_ip", self.fixed_ip, "is an address of a port, and there is none")


@attrs.frozen(kw_only=True)
class Policy:
    """What becomes of the routes of peers, in the form that people write (`bgpvpn.policies`); its name is its id."""

    id: str
    name: str
    default: Literal["accept", "reject"] = "reject"
    statement: tuple[dict[str, Any], ...] = ()

    def __attrs_post_init__(self) -> None:
        _normalise(self, id=rules.identifier, name=rules.identifier, statement=copy.deepcopy)
        if self.name != self.id:
            raise IntentError("name", self.name, f"is its id as well, and stays: {self.id!r}")
        if self.name in policies.BUILT_IN:
            raise IntentError("name", self.name, f"{self.name!r} is always there")
        self.read()
        object.__setattr__(self, "statement", tuple(self.statement))

    def read(self) -> policy.Policy:
        """Return what it says; IntentError with everything that is wrong."""
        try:
            return policies.read(self.name, self.default, self.statement)
        except policies.PolicyError as error:
            first, *more = (IntentError(each.where, each.value, each.reason) for each in error.faults)
            raise IntentError(first.field, first.value, first.reason, more) from None


@attrs.frozen(kw_only=True)
class AoKey:
    """A master key tuple of TCP-AO (RFC 5925 section 3.1)."""

    send_id: int  # what our segments name it by
    receive_id: int  # and those of the peer
    secret: str = attrs.field(repr=False)
    algorithm: Literal["hmac-sha-1-96", "aes-128-cmac-96"] = "hmac-sha-1-96"  # RFC 5926

    def __attrs_post_init__(self) -> None:
        _normalise(
            self,
            send_id=rules.number(0, 255),
            receive_id=rules.number(0, 255),
            algorithm=rules.choice("hmac-sha-1-96", "aes-128-cmac-96"),
        )
        check_secret("secret", self.secret)


def _ao_keys(value: Any) -> tuple[AoKey, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError("takes a list of keys")
    keys = []
    known = {field.name for field in attrs.fields(AoKey)}
    for number, each in enumerate(value):
        if isinstance(each, AoKey):
            keys.append(each)
        elif not isinstance(each, Mapping) or not {"send_id", "receive_id", "secret"} <= set(each) <= known:
            raise ValueError(f"key {number} takes send_id, receive_id, a secret, and an algorithm if not hmac-sha-1-96")
        else:
            keys.append(AoKey(**each))
    for name in ("send_id", "receive_id"):
        if len({getattr(key, name) for key in keys}) < len(keys):
            raise ValueError(f"two keys have one {name}")
    return tuple(keys)


def check_secret(field: str, value: object) -> None:
    """Refuse what the kernel does not take as a key, without showing it."""
    if not isinstance(value, str) or not 1 <= len(value.encode()) <= 80:
        raise IntentError(field, "***", "takes 1 to 80 octets of text")
    if not value.isprintable():
        raise IntentError(field, "***", "takes no control characters")


@attrs.frozen(kw_only=True)
class Peer:
    """A BGP neighbour, or all those in a prefix that connect to us."""

    id: str
    name: str = ""
    address: str  # or a prefix
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
    tcp_ao: tuple[AoKey, ...] = ()  # RFC 5925; the peer is asked to use the first
    restart_time_s: int = 120  # RFC 4724
    long_lived_s: int = 0  # RFC 9494
    dynamic_limit: int = 100  # how many there may be in the prefix
    import_policy: str | Mapping[str, str] | None = None  # a name, or names by family; None: accept within our AS
    export_policy: str | Mapping[str, str] | None = None
    route_reflector_client: bool = False  # RFC 4456
    add_path_receive: tuple[str, ...] = ()  # families, RFC 7911
    add_path_send: tuple[str, ...] = ()
    paths_out: int = 4  # of a destination, in the families of add_path_send
    role: Role | None = None  # ours, RFC 9234
    strict_role: bool = False
    prefix_limits: Mapping[str, PrefixLimit] = 1_000_000  # type: ignore[assignment]  # by family; see rules
    admin_state_up: bool = True

    def __attrs_post_init__(self) -> None:
        _normalise(
            self,
            id=rules.identifier,
            name=rules.name,
            address=rules.range_or_address,
            remote_as=rules.as_number,
            port=rules.number(1, 65535),
            local_as=rules.optional(rules.as_number),
            local_address=rules.optional(rules.peer_address),
            families=rules.families,
            passive=rules.flag,
            hold_time_s=rules.hold_time,
            multihop_ttl=rules.optional(rules.number(1, 255)),
            ttl_security_hops=rules.optional(rules.number(1, 254)),
            tcp_ao=_ao_keys,
            restart_time_s=rules.number(0, 4095),
            long_lived_s=rules.number(0, (1 << 24) - 1),
            dynamic_limit=rules.number(1, 10_000),
            import_policy=rules.optional(rules.policies),
            export_policy=rules.optional(rules.policies),
            route_reflector_client=rules.flag,
            add_path_receive=rules.some_families,
            add_path_send=rules.some_families,
            paths_out=rules.number(1, 32),
            role=rules.optional(rules.choice(*ROLES)),
            strict_role=rules.flag,
            prefix_limits=rules.prefix_limits,
            admin_state_up=rules.flag,
        )
        self._check_families()
        if self.long_lived_s and not self.restart_time_s:
            raise IntentError("long_lived_s", self.long_lived_s, "begins when restart_time_s ends, and that is 0")
        if self.strict_role and self.role is None:
            raise IntentError("strict_role", True, "asks for the role of the peer, and there is none of ours")
        if self.multihop_ttl is not None and self.ttl_security_hops is not None:
            raise IntentError(
                "ttl_security_hops", self.ttl_security_hops, "TTL security and multihop_ttl exclude each other"
            )
        if self.local_address is not None and (":" in self.local_address) != (":" in self.address):
            raise IntentError("local_address", self.local_address, f"is of another address family than {self.address}")
        self._check_keys()

    @property
    def dynamic(self) -> bool:
        """Whether it stands for all peers in a prefix."""
        return "/" in self.address

    def policies(self) -> Iterator[tuple[str, str]]:
        """Yield the field and the name of each policy that it uses, but for those that are always there."""
        for field, value in (("import_policy", self.import_policy), ("export_policy", self.export_policy)):
            for name in {value: None} if isinstance(value, str) else dict.fromkeys((value or {}).values()):
                if name not in policies.BUILT_IN:
                    yield field, name

    def _check_families(self) -> None:
        """Refuse families beside those of the session."""
        for field in ("add_path_receive", "add_path_send", "import_policy", "export_policy", "prefix_limits"):
            value = getattr(self, field)
            if value is not None and not isinstance(value, str):
                for family in value:
                    if family not in (*self.families, rules.EVERY_FAMILY):
                        raise IntentError(
                            field, family, f"{family} is not among the families {', '.join(self.families)}"
                        )

    def _check_keys(self) -> None:
        if self.password is not None:
            check_secret("password", self.password)
            if self.tcp_ao:
                raise IntentError("tcp_ao", "***", "TCP-AO and a password of TCP MD5 exclude each other")


@attrs.frozen(kw_only=True)
class Speaker:
    """Dynamic routing: which addresses of tenants are told to which peers, as neutron-dynamic-routing has it.

    They are unicast routes of one address family (RFC 4271, RFC 4760) whose next hop is a router's gateway address.
    """

    id: str
    name: str = ""
    project_id: str = "default"
    local_as: int
    ip_version: int = 4
    advertise_floating_ip_host_routes: bool = True
    advertise_tenant_networks: bool = True
    advertise_fixed_ip_host_routes: bool = False  # of ports on this node, behind a router
    networks: tuple[str, ...] = ()  # external networks, whose routers count
    peers: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        _normalise(
            self,
            id=rules.identifier,
            name=rules.name,
            project_id=rules.name,
            local_as=rules.as_number,
            ip_version=rules.choice_of_numbers(4, 6),
            advertise_floating_ip_host_routes=rules.flag,
            advertise_tenant_networks=rules.flag,
            advertise_fixed_ip_host_routes=rules.flag,
            networks=rules.several(rules.identifier),
            peers=rules.several(rules.identifier),
        )


@attrs.frozen(kw_only=True)
class Advertisement:
    """A route that a speaker tells its peers because somebody says so."""

    id: str
    speaker_id: str
    destination: str
    next_hop: str

    def __attrs_post_init__(self) -> None:
        _normalise(
            self,
            id=rules.identifier,
            speaker_id=rules.identifier,
            destination=rules.prefix,
            next_hop=rules.address,
        )
        if ":" in self.destination and ":" not in self.next_hop:
            raise IntentError("next_hop", self.next_hop, f"leads to no IPv6 destination like {self.destination}")


Object = Network | Subnet | Router | Port | Bgpvpn | Association | FloatingIp | Policy | Peer | Speaker | Advertisement

CLASSES: dict[Kind, type[Any]] = {
    "network": Network,
    "subnet": Subnet,
    "router": Router,
    "port": Port,
    "bgpvpn": Bgpvpn,
    "association": Association,
    "floating_ip": FloatingIp,
    "policy": Policy,
    "peer": Peer,
    "speaker": Speaker,
    "advertisement": Advertisement,
}
FIXED: dict[Kind, tuple[str, ...]] = {
    "network": ("project_id",),
    "subnet": ("project_id", "network_id", "cidr"),
    "router": ("project_id",),
    "port": ("project_id", "network_id"),
    "bgpvpn": ("project_id", "type"),
    "association": ("bgpvpn_id", "network_id", "router_id", "port_id"),
    "floating_ip": ("project_id", "network_id", "address"),
    "policy": ("name",),
    "peer": ("address",),
    "speaker": ("project_id", "local_as", "ip_version"),
    "advertisement": ("speaker_id", "destination"),
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


def plural(kind: Kind) -> str:
    """Return what several objects of a kind are called."""
    return "policies" if kind == "policy" else f"{kind}s"


def title(thing: Object) -> str:
    """Return what people call an object: its name, else its id."""
    return getattr(thing, "name", "") or thing.id
