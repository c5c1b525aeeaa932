"""What clients of bagpipe-bgp ask for, read from JSON into values that are valid, or refused with a reason.

An endpoint is a station, by its MAC address, with one address or prefix in one VPN instance.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import attrs

from bgpvpn import rules
from bgpvpn.objects import IntentError, OvsPlug
from speaker.values import RouteTarget

Plain = Mapping[str, Any]

TYPES: dict[str, Literal["l2", "l3"]] = {"ipvpn": "l3", "evpn": "l2"}


class RequestError(ValueError):
    """The request is refused; the text is for its client."""


@attrs.frozen
class Bridges:
    """Where Open vSwitch hands frames over that clients give by a VLAN."""

    ipvpn: str = "br-mpls"
    evpn: str = "br-tun"
    evpn_port: str = "patch-int"  # the port of the latter on which the frames of networks come


@attrs.frozen
class Plug:
    """The interface of stations."""

    interface: str
    ovs: OvsPlug | None = None


@attrs.frozen
class Endpoint:
    """A station with one address or prefix; `length` None: nothing was said."""

    mac: str
    address: str | None = None
    length: int | None = None

    @property
    def host(self) -> str | None:
        """The address alone, as a prefix."""
        return None if self.address is None else str(ipaddress.ip_network(self.address))

    @property
    def subnet(self) -> str | None:
        """The address with its length, as a prefix."""
        if self.address is None or self.length is None:
            return self.host
        return str(ipaddress.ip_network(f"{self.address}/{self.length}", strict=False))

    @property
    def names_prefix(self) -> bool:
        """Whether it is a prefix, as 192.168.7.0/24, and not an address in one."""
        return self.subnet != self.host and self.subnet == f"{self.address}/{self.length}"


@attrs.frozen
class Readvertise:
    """Routes with one of some targets are announced anew to others."""

    from_targets: tuple[str, ...]
    to_targets: tuple[str, ...]


@attrs.frozen
class Fallback:
    """Who gets what the VPN has no route for, as Open vSwitch reaches it."""

    mac: str
    source_mac: str | None = None
    port: str | None = None


@attrs.frozen(kw_only=True)
class Attach:
    """An endpoint shall be in an instance."""

    instance: str
    type: Literal["l2", "l3"]
    endpoint: Endpoint
    plug: Plug | None  # None: behind an EVPN instance, `evpn`
    evpn: str | None
    import_targets: tuple[str, ...]
    export_targets: tuple[str, ...]
    gateway: str | None
    whole_subnet: bool  # the prefix of the endpoint is announced, not its address
    direction: Literal["both", "to-port", "from-port"]
    local_pref: int | None
    vni: int | None
    readvertise: Readvertise | None
    fallback: Fallback | None
    ignored: tuple[str, ...]  # what was asked for, and means nothing here


@attrs.frozen(kw_only=True)
class Detach:
    """An endpoint shall not be in an instance; one without an address stands for all of its station."""

    instance: str
    type: Literal["l2", "l3"]
    endpoint: Endpoint


def attach(given: object, bridges: Bridges) -> Attach:
    """Read a request to attach; RequestError."""
    fields = _fields(given)
    type_ = _type(fields)
    for name in ("vpn_instance_id", "mac_address", "local_port", "import_rt", "export_rt"):
        _present(fields, name)
    if type_ == "l3" and "gateway_ip" not in fields:
        raise RequestError("Missing parameter: 'gateway_ip'")
    evpn, plug = _local_port(fields["local_port"], type_, bridges)
    fallback = _optional(fields, "fallback", _fallback)
    if fallback is not None and plug is not None and plug.ovs is not None:
        ovs = attrs.evolve(plug.ovs, fallback_port=fallback.port, fallback_src_mac=fallback.source_mac)
        plug = attrs.evolve(plug, ovs=ovs)
    _optional(fields, "attract_traffic", _no_attraction)
    vni = _optional(fields, "vni", rules.number(0, (1 << 24) - 1)) or None
    order = _optional(fields, "lb_consistent_hash_order", rules.number(0, (1 << 32) - 1))
    endpoint = _endpoint(fields, type_)
    whole_subnet = _rule(fields, "advertise_subnet", rules.flag) if "advertise_subnet" in fields else False
    if type_ == "l2" and whole_subnet and endpoint.host != endpoint.subnet:
        raise RequestError("advertise_subnet: an evpn announces addresses, not prefixes")
    if endpoint.names_prefix and not whole_subnet:
        raise RequestError(f"IP address {fields['ip_address']} is that of a subnet, which advertise_subnet is for")
    direction: Any = _optional(fields, "direction", rules.choice("both", "to-port", "from-port")) or "both"
    return Attach(
        instance=_rule(fields, "vpn_instance_id", _instance),
        type=type_,
        endpoint=endpoint,
        plug=plug,
        evpn=evpn,
        import_targets=_rule(fields, "import_rt", _targets),
        export_targets=_rule(fields, "export_rt", _targets),
        gateway=_optional(fields, "gateway_ip", rules.address),
        whole_subnet=whole_subnet,
        direction=direction if type_ == "l3" else "both",
        local_pref=_optional(fields, "local_pref", rules.local_pref),  # 0 is a value: clients give none for the default
        vni=vni if type_ == "l2" else None,
        readvertise=_optional(fields, "readvertise", _readvertise),
        fallback=fallback,
        ignored=tuple(
            name
            for name, there in (
                ("lb_consistent_hash_order", order),
                ("vni", vni if type_ == "l3" else None),
                ("linuxbr", fields.get("linuxbr")),
            )
            if there
        ),
    )


def detach(given: object) -> Detach:
    """Read a request to detach; RequestError. What it says of the port is not looked at: the MAC address tells."""
    fields = _fields(given)
    type_ = _type(fields)
    for name in ("vpn_instance_id", "mac_address", "local_port"):
        _present(fields, name)
    _named(fields["local_port"])
    return Detach(instance=_rule(fields, "vpn_instance_id", _instance), type=type_, endpoint=_endpoint(fields, type_))


def _fields(given: object) -> Plain:
    if not isinstance(given, Mapping):
        raise RequestError("the details of a local port are a JSON object")
    return given


def _type(fields: Plain) -> Literal["l2", "l3"]:
    if "vpn_type" not in fields:
        raise RequestError("missing instance_type")
    given = fields["vpn_type"]
    if not isinstance(given, str) or given not in TYPES:
        raise RequestError(f"unknown vpn_type: {given}")
    return TYPES[given]


def _present(fields: Plain, name: str) -> None:
    if fields.get(name) is None:
        raise RequestError(f"Missing parameter: '{name}'")


def _rule(fields: Plain, name: str, rule: Callable[[Any], Any]) -> Any:
    try:
        return rule(fields[name])
    except RequestError:
        raise
    except IntentError as error:
        raise RequestError(f"{name}: {error}") from None
    except ValueError as error:
        raise RequestError(f"{name}: {error}") from None


def _optional(fields: Plain, name: str, rule: Callable[[Any], Any]) -> Any:
    return None if fields.get(name) is None else _rule(fields, name, rule)


def _instance(value: Any) -> str:
    if not rules.name(value):
        raise ValueError("takes a name, not ''")
    return str(value)


def _mac(value: Any) -> str:
    """A MAC address as netaddr takes it: fa:16:3e:.., fa-16-3e-.., fa16.3e11.2233, fa163e112233."""
    digits = re.sub(r"[:.-]", "", value) if isinstance(value, str) else ""
    if re.fullmatch(r"[0-9A-Fa-f]{12}", digits) is None:
        raise RequestError(f"MAC address {value} is not valid")
    return rules.mac(":".join(digits[at : at + 2] for at in range(0, 12, 2)))


def _endpoint(fields: Plain, type_: str) -> Endpoint:
    mac = _rule(fields, "mac_address", _mac)
    given = fields.get("ip_address")
    if given is None:
        if type_ == "l3":
            _present(fields, "ip_address")
        return Endpoint(mac)
    try:
        interface = ipaddress.ip_interface(rules.text(given))
        length = interface.network.prefixlen if "/" in given else None
        endpoint = Endpoint(mac, str(interface.ip), length)
        if endpoint.names_prefix:
            rules.prefix(given)
        else:
            rules.address(str(interface.ip))
    except ValueError:
        raise RequestError(f"IP address {given} is not valid") from None
    return endpoint


def _targets(value: Any) -> tuple[str, ...]:
    """Route targets in a list, or in a text with commas."""
    if isinstance(value, str):
        value = [each.strip() for each in value.split(",")]
    if not isinstance(value, list | tuple):
        raise ValueError(f"takes a list of route targets, not {value!r}")
    return rules.several(RouteTarget.parse)([each for each in value if each != ""])


def _readvertise(value: Any) -> Readvertise:
    if not isinstance(value, Mapping) or not {"from_rt", "to_rt"} <= set(value):
        raise ValueError(f"takes from_rt and to_rt, not {value!r}")
    return Readvertise(_targets(value["from_rt"]), _targets(value["to_rt"]))


def _no_attraction(value: Any) -> None:
    if not isinstance(value, Mapping):
        raise ValueError(f"takes an object, not {value!r}")
    if value:
        raise ValueError("attracting traffic by flow specifications is not supported; take it away, or give {}")


def _fallback(value: Any) -> Fallback:
    if not isinstance(value, Mapping) or value.get("dst_mac") is None:
        raise ValueError(f"takes dst_mac, src_mac and ovs_port_number, not {value!r}")
    port = value.get("ovs_port_number", value.get("ovs_port_name"))
    return Fallback(
        mac=_mac(value["dst_mac"]),
        source_mac=None if value.get("src_mac") is None else _mac(value["src_mac"]),
        port=None if port is None else rules.ovs_port(port),
    )


def _named(local_port: Any) -> Plain:
    """Return what is said of a port, which names at least an interface or an EVPN instance."""
    port = {"linuxif": local_port} if isinstance(local_port, str) else local_port
    if not isinstance(port, Mapping) or not {"linuxif", "evpn"} & set(port):
        raise RequestError("Mandatory key is missing in local_port parameter (linuxif, or evpn)")
    return port


def _local_port(given: Any, type_: str, bridges: Bridges) -> tuple[str | None, Plug | None]:
    """Return the id of an EVPN instance, or where the stations are plugged."""
    port = _named(given)
    if port.get("evpn") is not None and not port.get("linuxif"):
        if type_ != "l3":
            raise RequestError("local_port: an EVPN can be plugged into an IPVPN only")
        evpn = port["evpn"]
        if not isinstance(evpn, Mapping) or evpn.get("id") is None:
            raise RequestError("local_port: evpn takes the id of an EVPN instance")
        return _rule(evpn, "id", _instance), None
    name = _rule(port, "linuxif", rules.text) if "linuxif" in port else ""
    if type_ == "l3" and port.get("ovs") is not None:
        ovs = port["ovs"]
        if not isinstance(ovs, Mapping):
            raise RequestError(f"local_port: ovs takes an object, not {ovs!r}")
        number = next((ovs[key] for key in ("port_number", "port_name") if ovs.get(key) is not None), name)
        plug = {"bridge": bridges.ipvpn, "port": number, "vlan": ovs.get("vlan")}
    elif type_ == "l2" and port.get("vlan") is not None:
        plug = {"bridge": bridges.evpn, "port": bridges.evpn_port, "vlan": port["vlan"]}
    else:
        return None, Plug(_rule({"local_port": name}, "local_port", rules.interface))
    if isinstance(plug["vlan"], str) and re.fullmatch(r"[0-9]{1,4}", plug["vlan"]):
        plug["vlan"] = int(plug["vlan"])  # as older clients write it
    at = _rule({"local_port": plug}, "local_port", lambda each: OvsPlug(**each))
    return None, Plug(interface_of(at, name), at)


def interface_of(ovs: OvsPlug, name: str) -> str:
    """Return what our interface of a plug is called: the same as long as the client calls it the same."""
    digest = hashlib.sha256(f"{ovs.bridge} {name or ovs.port}".encode()).hexdigest()[:8]
    return f"bp{digest}" if ovs.vlan is None else f"bp{digest}.{ovs.vlan}"
