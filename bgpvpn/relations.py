"""What objects say of each other: what only one of them may hold, and which others each of them names.

A **claim** is something that only one object may hold: a name in its project, an address in a network; an interface
is held by the ports of one network.  A **reference** is the id of another object.  What refers to a removed object goes
with it (an association with its VPN), forgets it (a speaker one of its peers), or keeps it (a network its ports).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from bgpvpn.objects import (
    Advertisement,
    Association,
    Bgpvpn,
    FloatingIp,
    Kind,
    Object,
    Peer,
    Port,
    Router,
    Speaker,
    Subnet,
    kind_of,
)

Key = tuple[Kind, str]
Claim = tuple[str, ...]


class Index:
    """All objects, with who claims what and who refers to whom."""

    def __init__(self) -> None:
        self.objects: dict[Key, Object] = {}
        self.claims: dict[Claim, dict[Key, None]] = {}  # several ports may hold one interface
        self.referrers: dict[Key, dict[Kind, dict[str, None]]] = {}  # an object -> who refers to it, by kind
        self.of_vni: dict[int, dict[str, None]] = {}  # VNI -> ids of l2 VPNs

    def set(self, key: Key, thing: Object | None) -> None:
        """Make the indexes say that this object is there, or that none is."""
        seen = self.objects.pop(key, None)
        if seen is not None:
            for claim, _ in claims(seen):
                self._release(claim, key)
            for _, other in references(seen):
                by_kind = self.referrers[other]
                del by_kind[key[0]][key[1]]
                if not by_kind[key[0]]:
                    del by_kind[key[0]]
                if not by_kind:
                    del self.referrers[other]
            if isinstance(seen, Bgpvpn) and seen.type == "l2" and seen.vni is not None:
                del self.of_vni[seen.vni][seen.id]
        if thing is not None:
            self.objects[key] = thing
            for claim, _ in claims(thing):
                self.claims.setdefault(claim, {})[key] = None
            for _, other in references(thing):
                self.referrers.setdefault(other, {}).setdefault(key[0], {})[key[1]] = None
            if isinstance(thing, Bgpvpn) and thing.type == "l2" and thing.vni is not None:
                self.of_vni.setdefault(thing.vni, {})[thing.id] = None

    def _release(self, claim: Claim, key: Key) -> None:
        del self.claims[claim][key]
        if not self.claims[claim]:
            del self.claims[claim]

    def referring(self, kind: Kind, id_: str, of: Kind) -> Iterator[Any]:
        """Yield the objects of one kind that refer to an object, for example the ports of a network."""
        for referring in self.referrers.get((kind, id_), {}).get(of, ()):
            yield self.objects[(of, referring)]

    def routers_of(self, network_id: str) -> Iterator[Router]:
        """Yield the routers that have an interface in a network, each once."""
        seen = set()
        for subnet in self.referring("network", network_id, "subnet"):
            for router in self.referring("subnet", subnet.id, "router"):
                if router.id not in seen:
                    seen.add(router.id)
                    yield router


def claims(thing: Object) -> list[tuple[Claim, str]]:
    """Return what only one object may hold, each with the field that says it."""
    claims: list[tuple[Claim, str]] = []
    if getattr(thing, "name", ""):
        claims.append((("name", kind_of(thing), getattr(thing, "project_id", ""), thing.name), "name"))  # type: ignore[union-attr]
    match thing:
        case Port():
            claims.append((("interface", thing.host, thing.netns, thing.interface), "interface"))
            if thing.network_id is not None:
                claims.append((("mac", thing.network_id, thing.mac_address), "mac_address"))
                claims += [(("ip", thing.network_id, text), "ip_addresses") for text in thing.ip_addresses]
        case Association():
            kind, bound = thing.bound
            claims.append((("bound", thing.bgpvpn_id, bound), f"{kind}_id"))
        case FloatingIp():
            claims.append((("floating", thing.network_id, thing.address), "address"))
        case Peer():
            claims.append((("address", thing.address), "address"))
        case Advertisement():
            claims.append((("advertised", thing.speaker_id, thing.destination), "destination"))
    return claims


def references(thing: Object) -> list[tuple[str, Key]]:
    """Return the objects that an object names, each once, with the field that does."""
    found: list[tuple[str, Key | None]] = []
    match thing:
        case Subnet(network_id=network_id):
            found = [("network_id", ("network", network_id))]
        case Port(network_id=str(network_id)):
            found = [("network_id", ("network", network_id))]
        case Router():
            found = [("subnet_ids", ("subnet", id_)) for id_ in thing.subnet_ids]
            found.append(("gateway_network_id", _optional("network", thing.gateway_network_id)))
        case Association():
            found = [("bgpvpn_id", ("bgpvpn", thing.bgpvpn_id)), (f"{thing.bound[0]}_id", thing.bound)]
            found += [("routes", _optional("bgpvpn", route.bgpvpn_id)) for route in thing.routes]
        case FloatingIp():
            found = [
                ("network_id", ("network", thing.network_id)),
                ("router_id", _optional("router", thing.router_id)),
                ("port_id", _optional("port", thing.port_id)),
            ]
        case Peer():
            found = [(field, ("policy", name)) for field, name in thing.policies()]
        case Speaker():
            found = [("networks", ("network", id_)) for id_ in thing.networks]
            found += [("peers", ("peer", id_)) for id_ in thing.peers]
        case Advertisement():
            found = [("speaker_id", ("speaker", thing.speaker_id))]
    once = {key: field for field, key in reversed(found) if key is not None}
    return [(field, key) for key, field in reversed(once.items())]


def _optional(kind: Kind, id_: str | None) -> Key | None:
    return None if id_ is None else (kind, id_)


KEPT_BY: dict[Kind, dict[Kind, str]] = {
    "network": {"port": "has ports:", "router": "is the way out of", "floating_ip": "has floating addresses:"},
    "subnet": {"router": "is on router"},
    "policy": {"peer": "is used by"},
}
"""What keeps an object from being removed, and how that is said."""


def without(thing: Object, gone: Key) -> Object | None:
    """Return what becomes of an object when one that it names goes; None: it goes too."""
    match thing, gone:
        case Association(), ("bgpvpn", id_) if id_ != thing.bgpvpn_id:
            return attrs.evolve(thing, routes=tuple(route for route in thing.routes if route.bgpvpn_id != id_))
        case FloatingIp(), ("router", _):
            return attrs.evolve(thing, router_id=None)
        case FloatingIp(), ("port", _):
            return attrs.evolve(thing, port_id=None, fixed_ip=None)
        case Speaker(), ("network", id_):
            return attrs.evolve(thing, networks=tuple(each for each in thing.networks if each != id_))
        case Speaker(), ("peer", id_):
            return attrs.evolve(thing, peers=tuple(each for each in thing.peers if each != id_))
    return None


def uses(port: Port, subnet: Subnet) -> bool:
    network = ipaddress.ip_network(subnet.cidr)
    return any(ipaddress.ip_address(text) in network for text in port.ip_addresses)


def listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
