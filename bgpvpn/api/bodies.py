"""Bodies of requests and answers, as msgspec structs: they decode, and the OpenAPI document is made of them.

What a request must hold to be understood is checked here (fields and their types); what its values may be, by the
classes of `bgpvpn.objects`.
"""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType, inspect

from bgpvpn.api.policy_schema import ROUTE, STATEMENT
from bgpvpn.objects import Kind

Id = Annotated[str, Meta(description="made by the node when it is not given")]
Ref = Annotated[str, Meta(description="id, or name when only one has it")]
OtherRef = Annotated[str | None, Meta(description="id, or name when only one has it")]
ProjectId = Annotated[str, Meta(description="that of the caller, else default, when it is not given")] | UnsetType
Targets = Annotated[
    list[str], Meta(description='route targets: "64512:100", "192.0.2.1:100", "4200000000:100", "100L:5"')
]

SHOWN_SECRET = "***"

Body = TypeVar("Body", bound=msgspec.Struct)


class BodyError(Exception):
    """A body that is not understood: `where` is the field, "" for the whole."""

    def __init__(self, where: str, value: object, message: str) -> None:
        super().__init__(message)
        self.where = where
        self.value = value


class SubnetOfNetwork(msgspec.Struct, forbid_unknown_fields=True):
    """A subnet that is made together with its network."""

    cidr: str
    gateway_ip: str | None = None
    name: str = ""


class SubnetInNetwork(msgspec.Struct):
    """A subnet as its network shows it."""

    id: str
    cidr: str
    gateway_ip: str | None


class NetworkBody(msgspec.Struct, forbid_unknown_fields=True):
    """A tenant network."""

    id: Id | UnsetType = UNSET
    name: str = ""
    project_id: ProjectId = UNSET
    mtu: int | None = None
    external: Annotated[bool, Meta(description="routers lead to it; it is in no VPN")] = False
    fallback_mac: Annotated[
        str | None, Meta(description="the router, not ours, that gets what no VPN has a route for")
    ] = None
    host_addresses: Annotated[bool, Meta(description="ports may have addresses in no subnet, as hosts")] = False
    subnets: Annotated[list[SubnetOfNetwork], Meta(description="made with the network, all or none")] = []


class SubnetBody(msgspec.Struct, forbid_unknown_fields=True):
    """Addresses of a network."""

    network_id: Ref
    cidr: str
    id: Id | UnsetType = UNSET
    name: str = ""
    project_id: Annotated[str, Meta(description="that of the network when it is not given")] | UnsetType = UNSET
    gateway_ip: Annotated[str | None, Meta(description="answered by every node with a port there")] = None
    address_scope: str = ""


class HostRouteBody(msgspec.Struct, forbid_unknown_fields=True):
    """A destination behind a host of a tenant's network."""

    destination: str
    nexthop: str


class RouterBody(msgspec.Struct, forbid_unknown_fields=True):
    """A tenant's router: it has the gateway address of each of its subnets."""

    id: Id | UnsetType = UNSET
    name: str = ""
    project_id: ProjectId = UNSET
    subnet_ids: list[Ref] = []
    routes: Annotated[list[HostRouteBody], Meta(description="behind hosts of its subnets")] = []
    gateway_network_id: Annotated[str | None, Meta(description="an external network; id or unique name")] = None
    gateway_ips: Annotated[list[str], Meta(description="its addresses there")] = []
    admin_state_up: bool = True


class OvsPlugBody(msgspec.Struct, forbid_unknown_fields=True):
    """Where the interface of a port meets Open vSwitch; it is made as an internal port of that bridge."""

    bridge: str
    port: Annotated[str | int, Meta(description="of the bridge: its OpenFlow number or name")]
    vlan: int | None = None
    fallback_port: str | int | None = None
    fallback_src_mac: str | None = None


class PortBody(msgspec.Struct, forbid_unknown_fields=True):
    """A station of a tenant behind an interface of a node; stations of one network may share an interface."""

    mac_address: str
    interface: Annotated[str, Meta(description="tap and the first 11 characters of the id when it is not given")] = ""
    id: Id | UnsetType = UNSET
    name: str = ""
    project_id: Annotated[str, Meta(description="that of the network when it is not given")] | UnsetType = UNSET
    network_id: Annotated[str | None, Meta(description="id or unique name; null: a port by itself")] = None
    netns: Annotated[str, Meta(description="as `ip netns` shows it")] = ""
    ovs: Annotated[OvsPlugBody | None, Meta(description="the interface is made by the daemon then")] = None
    host: Annotated[str, Meta(description="the node that it is on; empty: this one")] = ""
    device_owner: Annotated[str, Meta(description='those that begin with "network:" are not announced')] = ""
    ip_addresses: Annotated[list[str], Meta(description="with a length, 10.0.0.5/24, on a port by itself only")] = []
    gateway_ips: Annotated[list[str], Meta(description="on a port by itself only")] = []
    admin_state_up: bool = True


class BgpvpnBody(msgspec.Struct, forbid_unknown_fields=True):
    """A BGP VPN."""

    id: Id | UnsetType = UNSET
    name: str = ""
    project_id: ProjectId = UNSET
    type: Literal["l2", "l3"] = "l3"
    route_targets: Targets = []
    import_targets: Targets = []
    export_targets: Targets = []
    route_distinguishers: Annotated[list[str], Meta(description="none: automatic")] = []
    vni: Annotated[int | None, Meta(description="with VXLAN only; null: automatic")] = None
    local_pref: int | None = None
    technique: Annotated[
        list[Literal["ipvpn", "evpn-prefix", "evpn"]],
        Meta(description="l3: ipvpn, evpn-prefix, or both; l2: evpn; none: the first"),
    ] = []
    aggregate: Annotated[
        Literal["none", "subnet", "both"], Meta(description="are subnets announced, instead of or beside addresses")
    ] = "none"
    max_prefixes: Annotated[
        int | None, Meta(description="that one association may announce beside fixed addresses")
    ] = None
    allowed_prefixes: Annotated[list[str], Meta(description="within which those must be; none: anywhere")] = []
    local_pref_range: Annotated[
        list[int] | None, Meta(description="lowest and highest LOCAL_PREF that anybody may set")
    ] = None
    admin_state_up: bool = True


class RouteBody(msgspec.Struct, forbid_unknown_fields=True):
    """A prefix behind a port, or another VPN whose routes are announced anew as lying behind it."""

    type: Literal["prefix", "bgpvpn"]
    prefix: str | None = None
    bgpvpn_id: OtherRef = None
    local_pref: Annotated[int | None, Meta(description="null: that of the VPN of the association")] = None


class AssociationOfBgpvpn(msgspec.Struct, forbid_unknown_fields=True):
    """A network, a router or a port bound to the VPN of the path; exactly one of the three."""

    id: Id | UnsetType = UNSET
    network_id: OtherRef = None
    router_id: OtherRef = None
    port_id: OtherRef = None
    advertise_extra_routes: Annotated[bool, Meta(description="of the router")] = True
    advertise_fixed_ips: Annotated[bool, Meta(description="of the port")] = True
    routes: Annotated[list[RouteBody], Meta(description="of a port, beside its own addresses")] = []
    direction: Annotated[
        Literal["both", "to-port", "from-port"], Meta(description="to-port: announced only; from-port: imported only")
    ] = "both"


class AssociationBody(AssociationOfBgpvpn, forbid_unknown_fields=True, kw_only=True):
    """A network, a router or a port bound to a VPN; exactly one of the three."""

    bgpvpn_id: Ref


class FloatingIpBody(msgspec.Struct, forbid_unknown_fields=True):
    """An address of an external network that stands for one of a tenant's port."""

    network_id: Annotated[str, Meta(description="external; id or unique name")]
    address: str
    id: Id | UnsetType = UNSET
    project_id: ProjectId = UNSET
    router_id: OtherRef = None
    port_id: OtherRef = None
    fixed_ip: Annotated[str | None, Meta(description="null: the first of the port, of the same family")] = None


class PolicyBody(msgspec.Struct, forbid_unknown_fields=True):
    """What becomes of the routes of peers, as [[policy]] of the configuration file has it, which says what it means."""

    name: Annotated[str, Meta(description="its id as well")]
    default: Annotated[
        Literal["accept", "reject"], Meta(description="of a route that no statement accepts or rejects")
    ] = "reject"
    statement: Annotated[
        list[dict[str, Any]], Meta(description="looked at in order", extra_json_schema={"items": STATEMENT})
    ] = []


class PolicyTest(msgspec.Struct, forbid_unknown_fields=True):
    """What a policy is to be tried on: one route that is given here, or those of a peer that the node holds."""

    peer: Annotated[str | None, Meta(description="address or name")] = None
    direction: Annotated[Literal["in", "out"], Meta(description="what it told us, or what it would be told")] = "in"
    family: Annotated[str | None, Meta(description="wanted with a route; with a peer: only this one")] = None
    prefix: Annotated[str | None, Meta(description="with a peer: only routes to it")] = None
    route: Annotated[dict[str, Any], Meta(extra_json_schema=ROUTE)] | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000, description="at most so many routes")] = 1000


class AoKeyBody(msgspec.Struct, forbid_unknown_fields=True):
    """A key of TCP-AO (RFC 5925)."""

    send_id: int
    receive_id: int
    secret: Annotated[str, Meta(description="shown as ***")]
    algorithm: Literal["hmac-sha-1-96", "aes-128-cmac-96"] = "hmac-sha-1-96"


PolicyNames = Annotated[
    str | dict[str, str] | None,
    Meta(description="a policy, accept or reject, or one by family; null: accept within our AS, else reject"),
]


PrefixLimits = Annotated[
    int | dict[str, Any],
    Meta(
        description="a number or {most, warn_percent, action, restart_s} for every family, or a table of these by "
        'family, "all" for the others; action: block, warn or restart'
    ),
]


class PeerBody(msgspec.Struct, forbid_unknown_fields=True):
    """A BGP neighbour, or all those in a prefix that connect."""

    address: Annotated[str, Meta(description="or a prefix")]
    remote_as: int
    id: Id | UnsetType = UNSET
    name: str = ""
    port: int = 179
    local_as: Annotated[int | None, Meta(description="null: that of the node")] = None
    local_address: str | None = None
    families: list[str] = msgspec.field(default_factory=lambda: ["vpnv4", "vpnv6", "evpn"])
    passive: Annotated[bool, Meta(description="wait for the peer to connect")] = False
    hold_time_s: int = 90
    multihop_ttl: Annotated[int | None, Meta(description="null: 1 towards another AS, else 64")] = None
    ttl_security_hops: Annotated[int | None, Meta(description="RFC 5082; 1: directly connected")] = None
    password: Annotated[str | None, Meta(description="TCP MD5, RFC 2385; shown as ***")] = None
    tcp_ao: Annotated[list[AoKeyBody], Meta(description="the peer is asked to use the first")] = []
    restart_time_s: Annotated[int, Meta(description="RFC 4724; 0: no graceful restart")] = 120
    long_lived_s: Annotated[int, Meta(description="RFC 9494; 0: no long-lived graceful restart")] = 0
    dynamic_limit: Annotated[int, Meta(description="how many there may be in a prefix")] = 100
    import_policy: PolicyNames = None
    export_policy: PolicyNames = None
    route_reflector_client: Annotated[bool, Meta(description="RFC 4456")] = False
    add_path_receive: Annotated[list[str], Meta(description="families, RFC 7911")] = []
    add_path_send: list[str] = []
    paths_out: Annotated[int, Meta(description="how many of a destination, in the families of add_path_send")] = 4
    role: Annotated[
        Literal["provider", "route-server", "route-server-client", "customer", "peer"] | None,
        Meta(description="what we are to the peer, RFC 9234"),
    ] = None
    strict_role: bool = False
    prefix_limits: PrefixLimits = 1_000_000
    admin_state_up: bool = True


class SpeakerBody(msgspec.Struct, forbid_unknown_fields=True):
    """Dynamic routing: which addresses of tenants are told to which peers."""

    local_as: int
    id: Id | UnsetType = UNSET
    name: str = ""
    project_id: ProjectId = UNSET
    ip_version: Literal[4, 6] = 4
    advertise_floating_ip_host_routes: bool = True
    advertise_tenant_networks: bool = True
    advertise_fixed_ip_host_routes: Annotated[bool, Meta(description="of ports on this node, behind a router")] = False
    networks: Annotated[list[Ref], Meta(description="external networks, whose routers count")] = []
    peers: Annotated[list[Ref], Meta(description="those that are told")] = []


class AdvertisementBody(msgspec.Struct, forbid_unknown_fields=True):
    """A route that a speaker tells its peers because somebody says so."""

    speaker_id: Ref
    destination: str
    next_hop: str
    id: Id | UnsetType = UNSET


class Status(msgspec.Struct):
    """What became of a wish."""

    state: Literal["ACTIVE", "PENDING", "DOWN", "ERROR"]
    reason: str
    observed_revision: int


class Stamped(msgspec.Struct, kw_only=True):
    """What every object in an answer has beside what was asked for; times as in RFC 3339."""

    id: str
    status: Status
    revision: int
    created_at: str
    updated_at: str


class ErrorDetail(msgspec.Struct):
    """What is wrong."""

    what: str
    where: str
    value: Any
    message: str


class ErrorBody(msgspec.Struct):
    """Every answer of 400 and above."""

    error: ErrorDetail


CREATE: dict[Kind, type[msgspec.Struct]] = {
    "network": NetworkBody,
    "subnet": SubnetBody,
    "router": RouterBody,
    "port": PortBody,
    "bgpvpn": BgpvpnBody,
    "association": AssociationBody,
    "floating_ip": FloatingIpBody,
    "policy": PolicyBody,
    "peer": PeerBody,
    "speaker": SpeakerBody,
    "advertisement": AdvertisementBody,
}


def _patch_of(create: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """Return the struct with the same fields, none of which need be given."""
    left_out = {"id", "subnets"}
    fields = [
        (field.name, field.type | UnsetType, UNSET)
        for field in msgspec.structs.fields(create)
        if field.name not in left_out
    ]
    return msgspec.defstruct(
        create.__name__.replace("Body", "Patch"),
        fields,
        forbid_unknown_fields=True,
        namespace={"__doc__": "What shall be different; fields that are not given stay as they are."},
    )


def _answer_of(create: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """Return the struct of an answer about an object that was made from such a body."""
    fields = [
        (field.name, list[SubnetInNetwork] if field.name == "subnets" else field.type)
        for field in msgspec.structs.fields(create)
        if field.name != "id"
    ]
    return msgspec.defstruct(create.__name__.replace("Body", ""), fields, bases=(Stamped,), kw_only=True)


PATCH: dict[Kind, type[msgspec.Struct]] = {kind: _patch_of(create) for kind, create in CREATE.items()}
ANSWER: dict[Kind, type[msgspec.Struct]] = {kind: _answer_of(create) for kind, create in CREATE.items()}


def decode(octets: bytes, struct: type[Body]) -> Body:
    """Return the body; BodyError names the field that is unknown, missing or of another type.

    It does not show what was given as a password, or in a field that is not known and may have been meant as one.
    """
    try:
        return msgspec.json.decode(octets, type=struct)
    except msgspec.ValidationError as error:
        message, value = str(error), None
        where = found[1] if (found := re.search(r" - at `\$\.?(.*)`$", message)) else ""
        if found := re.match(r"Object contains unknown field `(.*?)`", message):
            known = [] if where else [field.name for field in msgspec.structs.fields(struct)]
            close = difflib.get_close_matches(found[1], known, 1)
            where = f"{where}.{found[1]}".lstrip(".")
            message = f"is not known; did you mean {close[0]}?" if close else "is not known"
        elif found := re.match(r"Object missing required field `(.*?)`", message):
            where = f"{where}.{found[1]}".lstrip(".")
            message = "is wanted"
        else:
            message = message.partition(" - at")[0]
            value = SHOWN_SECRET if where.endswith(("password", "secret")) else _value_at(octets, where)
            fields = {each.name: each.type for each in msgspec.structs.fields(struct)}
            if message.startswith("Invalid enum value") and where in fields:
                words = _words(inspect.type_info(fields[where]))
                message = f"takes {', '.join(words[:-1])} or {words[-1]}, not {value!r}"
        raise BodyError(where, value, f"{where}: {message}" if where else message) from error
    except (msgspec.DecodeError, UnicodeError) as error:
        raise BodyError("", None, f"the body is not JSON: {error}") from error


def _words(kind: inspect.Type | None) -> tuple[str, ...]:
    """Return the words that a field of this type takes; none if it takes other things."""
    match kind:
        case inspect.Metadata():
            return _words(kind.type)
        case inspect.UnionType():
            return tuple(word for each in kind.types for word in _words(each))
        case inspect.LiteralType():
            return tuple(map(str, kind.values))
    return ()


def _value_at(octets: bytes, where: str) -> Any:
    """Return what stands at a place such as "subnets[0].cidr"; None if nothing that can be shown does."""
    try:
        value = msgspec.json.decode(octets)
        for key in re.findall(r"[^.\[\]]+", where):
            value = value[int(key) if isinstance(value, list) else key]
    except (LookupError, TypeError, ValueError, RecursionError):  # among them numbers out of range, msgspec's errors
        return None
    return value if isinstance(value, str | int | float | bool) else None


def given(body: msgspec.Struct) -> dict[str, Any]:
    """Return the fields of a body that were given or have a default, tables in it as plain values."""
    fields = {name: getattr(body, name) for name in body.__struct_fields__}
    return {name: _plain(value) for name, value in fields.items() if value is not UNSET}


def _plain(value: Any) -> Any:
    match value:
        case msgspec.Struct():
            return given(value)
        case list():
            return [_plain(each) for each in value]
        case dict():
            return {key: _plain(each) for key, each in value.items()}
        case _:
            return value
