"""From a request of a client of bagpipe-bgp, and the intent as it is, to wishes: all of them done, or none.

    VPN instance         a VPN of ours, named like it; ipvpn: l3, evpn: l2
    place of stations    a network, with the subnet of the gateway
    station              a port of that network, by its interface and MAC address
    station in instance  an association of the port; in an ipvpn each endpoint is a route of it, with its own LOCAL_PREF
    readvertise          two VPNs more: one that imports `from`; one that exports `to`, into which ports lead the first

All stations of an interface are in one network: that of the first instance by which they send, or, while they are only
announced, one made for the interface. An IPVPN behind an EVPN is bound to the network of that as a whole.

What is said last counts, also of where a MAC address is; a VNI, a gateway or a readvertise of which an attachment does
not speak stay as they are. What nobody needs any more is removed.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from bgpvpn.bagpipe.request import Attach, Detach, Endpoint, Plug, Readvertise, RequestError
from bgpvpn.intent import KINDS, Association, Bgpvpn, Intent, Key, Kind, Network, Object, Port, Removal, Subnet, kind_of
from bgpvpn.objects import Route

PROJECT = "bagpipe"
PLACE = "bagpipe-place:"
TYPE_NAMES = {"l3": "ipvpn", "l2": "evpn"}


def attach(intent: Intent, request: Attach) -> list[Object | Removal]:
    """Return what it takes that an endpoint is in an instance; RequestError if it cannot be."""
    draft = _Draft(intent)
    vpn = _instance(draft, request)
    if request.plug is None:
        _attach_behind_evpn(draft, vpn, request)
    else:
        _attach_plugged(draft, vpn, request, request.plug)
    return draft.wishes()


def detach(intent: Intent, request: Detach) -> list[Object | Removal]:
    """Return what is to go with an endpoint; nothing if it is not there."""
    draft = _Draft(intent)
    vpn = draft.get("bgpvpn", _id("", request.instance))
    if vpn is None or vpn.type != request.type:
        return []
    for association, port in _stations(draft, vpn):
        if port.mac_address == request.endpoint.mac:
            _unbind(draft, port, vpn, association, request.endpoint)
    if not _stations(draft, vpn):
        for association in list(draft.referring("bgpvpn", vpn.id, "association")):
            draft.drop("association", association.id)  # of the network of an EVPN
    _tidy_instance(draft, vpn)
    return draft.wishes()


# Reading back


def instances(intent: Intent) -> dict[str, Bgpvpn]:
    """Return the VPNs that stand for VPN instances, by the ids of these."""
    return {vpn.name: vpn for vpn in intent.bgpvpns.rows.values() if vpn.id == _id("", vpn.name)}


def readvertised(intent: Intent, vpn: Bgpvpn) -> Readvertise | None:
    """Return what an instance announces anew, and to whom."""
    source, into = (intent.bgpvpns.get(_id(side, vpn.name)) for side in ("from", "to"))
    return None if source is None or into is None else Readvertise(source.import_targets, into.export_targets)


def members(intent: Intent, vpn: Bgpvpn) -> Iterator[tuple[Port, Association]]:
    """Yield the stations of an instance, each with the association by which it is there."""
    for association in intent.referring("bgpvpn", vpn.id, "association"):
        if association.port_id is not None:
            yield intent.ports[association.port_id], association
        for port in intent.referring("network", association.network_id or "", "port"):
            yield port, association


def endpoints(port: Port, association: Association) -> list[tuple[str | None, int | None]]:
    """Return the prefixes of a station in an instance, each with its LOCAL_PREF; no prefix: the station by itself."""
    routes = [(route.prefix, route.local_pref) for route in association.routes]
    return [*routes] or [(str(ipaddress.ip_network(text)), None) for text in port.ip_addresses] or [(None, None)]


def gateway_of(intent: Intent, vpn: Bgpvpn) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface | None:
    """Return the first gateway where the stations of an instance are, with the length of its subnet."""
    for network in dict.fromkeys(port.network_id for port, _ in members(intent, vpn)):
        for subnet in intent.referring("network", network or "", "subnet"):
            if subnet.gateway_ip is not None:
                return ipaddress.ip_interface(f"{subnet.gateway_ip}/{subnet.cidr.partition('/')[2]}")
    return None


# Instances


def _instance(draft: _Draft, request: Attach) -> Bgpvpn:
    id_ = _id("", request.instance)
    vpn: Bgpvpn | None = draft.get("bgpvpn", id_)
    if vpn is None:
        vpn = Bgpvpn(id=id_, name=request.instance, project_id=PROJECT, type=request.type)
    elif vpn.type != request.type:
        is_, wanted = TYPE_NAMES[vpn.type], TYPE_NAMES[request.type]
        raise RequestError(f"vpn_instance_id: {request.instance!r} is an {is_} already, not an {wanted}")
    vpn = attrs.evolve(vpn, import_targets=request.import_targets, export_targets=request.export_targets)
    if request.type == "l2":
        vpn = attrs.evolve(vpn, vni=request.vni or vpn.vni, local_pref=request.local_pref)
    elif request.readvertise is not None:
        source, into = (
            draft.get("bgpvpn", id_) or Bgpvpn(id=id_, project_id=PROJECT)
            for id_ in (_id("from", request.instance), _id("to", request.instance))
        )
        draft.put(attrs.evolve(source, import_targets=request.readvertise.from_targets))
        draft.put(attrs.evolve(into, export_targets=request.readvertise.to_targets))
        for association in list(draft.referring("bgpvpn", vpn.id, "association")):
            _lead(draft, vpn, association)
    draft.put(vpn)
    return vpn


def _tidy_instance(draft: _Draft, vpn: Bgpvpn) -> None:
    """Remove an instance that nobody is in any more."""
    if not any(True for _ in draft.referring("bgpvpn", vpn.id, "association")):
        for id_ in (_id("to", vpn.name), _id("from", vpn.name), vpn.id):
            draft.drop("bgpvpn", id_)


def _lead(draft: _Draft, vpn: Bgpvpn, association: Association) -> None:
    """Let a station of an instance lead what the instance announces anew, if it does."""
    source, into = _id("from", vpn.name), _id("to", vpn.name)
    if draft.get("bgpvpn", into) is None or association.port_id is None:
        return
    id_ = _id("lead", f"{into} {association.port_id}")
    if association.direction == "from-port":
        draft.drop("association", id_)
        return
    local_pref = max((route.local_pref for route in association.routes if route.local_pref is not None), default=None)
    draft.put(
        Association(
            id=id_,
            bgpvpn_id=into,
            port_id=association.port_id,
            advertise_fixed_ips=False,
            routes=(Route(type="bgpvpn", bgpvpn_id=source, local_pref=local_pref),),
            direction="to-port",
        )
    )


# Places


def _place(draft: _Draft, request: Attach, plug: Plug, known: str | None) -> str:
    """Say in which network the stations of an interface are, and return its id; `known`: where the station was."""
    own, lonely = _id("", request.instance), _id("place", plug.interface)
    stations = draft.stations(plug.interface)
    if any(port.project_id != PROJECT for port in stations):
        raise RequestError(f"local_port: {plug.interface} is the interface of a port that others made")
    before = next((port.network_id for port in stations), known)
    if request.direction == "to-port":
        id_ = before or lonely
    else:
        id_ = own if before is None or before.startswith(PLACE) else before
    name = request.instance if id_ == own else ""
    network = draft.get("network", id_) or Network(id=id_, name=name, project_id=PROJECT, host_addresses=True)
    draft.put(attrs.evolve(network, fallback_mac=None if request.fallback is None else request.fallback.mac))
    _gateway(draft, id_, request)
    if any((port.network_id, port.ovs) != (id_, plug.ovs) for port in stations):
        for port in stations:
            draft.remake(attrs.evolve(port, network_id=id_, ovs=plug.ovs))
        _tidy_network(draft, before)
    return id_


def _gateway(draft: _Draft, network: str | None, request: Attach) -> None:
    """Put the gateway into its subnet, which is the gateway alone when no length of one is known."""
    if request.gateway is None or network is None:
        return
    gateway = str(ipaddress.ip_network(request.gateway))
    beside = [each for each in draft.referring("network", network, "subnet") if _same_family(each.cidr, gateway)]
    hosts = [each for each in beside if _is_host(each.cidr)]
    subnet = next((each for each in beside if each not in hosts and _within(gateway, each.cidr)), None)
    if subnet is None:
        cidr, wanted = gateway, request.endpoint.subnet
        if wanted is not None and not request.endpoint.names_prefix and _within(gateway, wanted):
            overlapping = [each for each in beside if each not in hosts and _within(each.cidr, wanted)]
            cidr = gateway if overlapping else wanted
        subnet = next((each for each in beside if each.cidr == cidr), None)
        if subnet is None:
            id_ = _id("subnet", f"{network} {cidr}")
            subnet = Subnet(id=id_, project_id=PROJECT, network_id=network, cidr=cidr)
    for each in hosts:
        if each.id != subnet.id:
            draft.drop("subnet", each.id)
    draft.put(attrs.evolve(subnet, gateway_ip=request.gateway))


def _tidy_network(draft: _Draft, network: str | None) -> None:
    """Remove a network in which no station is any more, with what goes with it."""
    if network is None or any(True for _ in draft.referring("network", network, "port")):
        return
    for association in list(draft.referring("network", network, "association")):
        draft.drop("association", association.id)
        _tidy_instance(draft, draft.get("bgpvpn", association.bgpvpn_id))
    for subnet in list(draft.referring("network", network, "subnet")):
        draft.drop("subnet", subnet.id)
    draft.drop("network", network)


# Stations


def _attach_plugged(draft: _Draft, vpn: Bgpvpn, request: Attach, plug: Plug) -> None:
    """Let a station be behind an interface; if the instance knows it elsewhere, it has moved, with all that it has."""
    mac = request.endpoint.mac
    before = next(((bound, port) for bound, port in _stations(draft, vpn) if port.mac_address == mac), None)
    network = _place(draft, request, plug, None if before is None else before[1].network_id)
    port = next((port for port in draft.referring("network", network, "port") if port.mac_address == mac), None)
    if port is not None:
        port = attrs.evolve(port, interface=plug.interface, ovs=plug.ovs)
    elif before is not None:
        port = attrs.evolve(before[1], network_id=network, interface=plug.interface, ovs=plug.ovs)
        draft.remake(port)
        _tidy_network(draft, before[1].network_id)
    else:
        names = (_id("", f"{plug.interface}:{mac}{more}") for more in ("", *(f":{number}" for number in range(2, 100))))
        free = next(name for name in names if draft.get("port", name) is None)
        port = Port(id=free, project_id=PROJECT, network_id=network, mac_address=mac, interface=plug.interface)
        port = attrs.evolve(port, ovs=plug.ovs)
    if before is None or before[1].id == port.id:
        _bind(draft, port, vpn, request)
        return
    bound, other = before  # it is in both places: what it has in this instance is where it is now
    port = attrs.evolve(port, ip_addresses=(*port.ip_addresses, *other.ip_addresses))
    _bind(draft, port, vpn, request, bound.routes)
    _unbind(draft, other, vpn, bound, None)


def _stations(draft: _Draft, vpn: Bgpvpn) -> list[tuple[Association, Port]]:
    """Return the stations that are in an instance by themselves."""
    bound = list(draft.referring("bgpvpn", vpn.id, "association"))
    return [(each, draft.get("port", each.port_id)) for each in bound if each.port_id is not None]


def _bind(draft: _Draft, port: Port, vpn: Bgpvpn, request: Attach, further: Iterable[Route] = ()) -> None:
    """Let a station have an endpoint in an instance, and `further` ones."""
    endpoint = request.endpoint
    bound = {each.bgpvpn_id: each for each in draft.referring("port", port.id, "association")}
    association = bound.get(vpn.id) or Association(
        id=_id("bound", f"{vpn.id} {port.id}"), bgpvpn_id=vpn.id, port_id=port.id
    )
    if vpn.type == "l3":
        routes = {route.prefix: route for route in (*further, *association.routes)}
        routes = {prefix: route for prefix, route in routes.items() if prefix not in (endpoint.host, endpoint.subnet)}
        prefix = endpoint.subnet if request.whole_subnet else endpoint.host
        routes[prefix] = Route(type="prefix", prefix=prefix, local_pref=request.local_pref)
        association = attrs.evolve(
            association, advertise_fixed_ips=False, routes=tuple(routes.values()), direction=request.direction
        )
    draft.put(association)
    _lead(draft, vpn, association)
    if endpoint.address is not None and not (request.whole_subnet and endpoint.names_prefix):
        port = attrs.evolve(port, ip_addresses=(*port.ip_addresses, endpoint.address))
    _keep_addresses(draft, port)


def _attach_behind_evpn(draft: _Draft, vpn: Bgpvpn, request: Attach) -> None:
    """Bind the network of an EVPN instance to an IPVPN, and by itself a station there that has the endpoint."""
    evpn = draft.get("bgpvpn", _id("", request.evpn or ""))
    if evpn is None or evpn.type != "l2":
        raise RequestError(f"local_port: there is no evpn {request.evpn!r}")
    ports = [port for _, port in _stations(draft, evpn)]
    for network in dict.fromkeys(port.network_id for port in ports):
        _gateway(draft, network, request)
        draft.put(Association(id=_id("bound", f"{vpn.id} {network}"), bgpvpn_id=vpn.id, network_id=network))
    for port in ports:
        if port.mac_address == request.endpoint.mac:
            _bind(draft, port, vpn, request)


def _unbind(draft: _Draft, port: Port, vpn: Bgpvpn, association: Association, endpoint: Endpoint | None) -> None:
    """Take an endpoint of a station, or the whole station, out of an instance."""
    stays = False
    if endpoint is not None and vpn.type == "l3":
        gone = (endpoint.host, endpoint.subnet)
        association = attrs.evolve(
            association, routes=tuple(route for route in association.routes if route.prefix not in gone)
        )
        stays = bool(association.routes)
    elif endpoint is not None and endpoint.address is not None:
        stays = any(each != endpoint.address for each in port.ip_addresses)
    if stays:
        draft.put(association)
        _lead(draft, vpn, association)
    else:
        draft.drop("association", association.id)
        draft.drop("association", _id("lead", f"{_id('to', vpn.name)} {port.id}"))
    if any(True for _ in draft.referring("port", port.id, "association")):
        _keep_addresses(draft, port, endpoint.address if endpoint is not None and vpn.type == "l2" else None)
    else:
        draft.drop("port", port.id)
        _tidy_network(draft, port.network_id)


def _keep_addresses(draft: _Draft, port: Port, gone: str | None = None) -> None:
    """Leave a station those addresses that are, or are in, one of its endpoints; one at least for each prefix.

    An EVPN keeps all but the one that is `gone`.
    """
    bound = list(draft.referring("port", port.id, "association"))
    prefixes = [route.prefix for each in bound for route in each.routes if route.prefix is not None]
    bridged = any(draft.get("bgpvpn", each.bgpvpn_id).type == "l2" for each in bound)
    port = attrs.evolve(port, ip_addresses=tuple(dict.fromkeys(port.ip_addresses)))
    stand_ins = {_stand_in(prefix, port.mac_address): prefix for prefix in prefixes}
    addresses = [
        each
        for each in port.ip_addresses
        if any(_within(each, prefix) for prefix in prefixes) or (bridged and each != gone)
    ]
    needless = [each for each in addresses if each in stand_ins and not _is_host(stand_ins[each])]
    addresses = [each for each in addresses if each not in needless]
    for stand_in, prefix in stand_ins.items():
        if not any(_same_family(each, prefix) for each in addresses):
            addresses.append(stand_in)
    draft.put(attrs.evolve(port, ip_addresses=tuple(addresses)))


def _stand_in(prefix: str, mac: str) -> str:
    """Return an address in a prefix for a station that has no other which leads there."""
    network = ipaddress.ip_network(prefix)
    network = next((each for each in SPARE if _within(str(each), prefix)), network)
    room = network.num_addresses - 2
    return str(network[0] if room < 1 else network[1 + int(mac.replace(":", ""), 16) % room])


# Values

SPARE = (ipaddress.ip_network("100.64.0.0/10"), ipaddress.ip_network("fd6b:6770::/64"))
"""Where stand-ins are in a prefix so wide that it has them: addresses of others are not likely there."""


def _id(role: str, text: str) -> str:
    """Return the id of an object, a readable one where our ids allow it."""
    start = f"bagpipe-{role}:" if role else "bagpipe:"
    readable = start + text
    if re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", readable) is not None:
        return readable
    return start + hashlib.sha256(text.encode()).hexdigest()[:32]


def _same_family(one: str, other: str) -> bool:
    return (":" in one) == (":" in other)


def _is_host(prefix: str) -> bool:
    return ipaddress.ip_network(prefix).num_addresses == 1


def _within(inner: str, outer: str) -> bool:
    """Tell whether a prefix or an address is in a prefix."""
    one, other = ipaddress.ip_network(inner), ipaddress.ip_network(outer)
    return one.version == other.version and one.subnet_of(other)  # type: ignore[arg-type]


class _Draft:
    """The intent as it will be; `wishes` says how it gets there."""

    def __init__(self, intent: Intent) -> None:
        self.intent = intent
        self._changed: dict[Key, Object | None] = {}
        self._remade: list[str] = []  # ports that go first, to come back elsewhere

    def get(self, kind: Kind, id_: str) -> Any:
        """Return an object, None if there is none."""
        key = (kind, id_)
        return self._changed[key] if key in self._changed else self.intent.tables[kind].get(id_)

    def put(self, thing: Object) -> None:
        """Make an object, or change it."""
        self._changed[kind_of(thing), thing.id] = thing

    def drop(self, kind: Kind, id_: str) -> None:
        """Remove an object, which need not be there."""
        self._changed[kind, id_] = None

    def remake(self, port: Port) -> None:
        """Put a port where no change gets it: into another network, or all of an interface to another plug."""
        self._remade.append(port.id)
        for association in list(self.referring("port", port.id, "association")):
            self.put(association)
        self.put(port)

    def referring(self, kind: Kind, id_: str, of: Kind) -> Iterator[Any]:
        """Yield the objects of a kind that refer to another by its own field."""
        for each in self.intent.referring(kind, id_, of):
            if (of, each.id) not in self._changed and getattr(each, f"{kind}_id") == id_:
                yield each
        for key, thing in self._changed.items():
            if key[0] == of and thing is not None and getattr(thing, f"{kind}_id") == id_:
                yield thing

    def stations(self, interface: str) -> list[Port]:
        """Return the ports behind an interface of this node's own namespace."""
        ports: Iterator[Port] = iter(self.intent.ports.rows.values())
        return [port for port in ports if port.interface == interface and not port.netns and not port.host]

    def wishes(self) -> list[Object | Removal]:
        """Return what to wish, in an order in which each can be."""
        gone = [key for key, thing in self._changed.items() if thing is None and key[1] in self.intent.tables[key[0]]]
        gone += [("port", id_) for id_ in self._remade if ("port", id_) not in gone]
        kept = [thing for thing in self._changed.values() if thing is not None]
        first = ("association", "port", "subnet", "network", "bgpvpn")
        removals = [Removal(*key) for key in sorted(gone, key=lambda key: first.index(key[0]))]
        return [*removals, *sorted(kept, key=lambda thing: KINDS.index(kind_of(thing)))]
