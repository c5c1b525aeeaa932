"""The stage [intent] -> unicast routes of the [rib]: what speakers tell their peers of tenants' addresses.

    router         its subnets, where the address scope is that of the external network    advertise_tenant_networks
    floating_ip    its address, as a host route                              advertise_floating_ip_host_routes
    port           its addresses behind the router, if it is on this node    advertise_fixed_ip_host_routes
    advertisement  what it says

The next hop is the router's gateway address in the external network; an advertisement says it.  So these routes lead
past this node, and wait for nothing in its kernel.  Each speaker has a source of its own in the RIB
(`speaker.decision.local`), which its peers hear and nobody else.

Each object offers routes to the speakers of its external network.  Of several offers of one destination an
advertisement wins, then the lowest router id, then the kind in the order above.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TypeVar

import attrs

from bgpvpn.intent import Advertisement, FloatingIp, Intent, Key, Kind, Port, Router, Speaker, Subnet, title
from speaker.decision import local
from speaker.path import Path
from speaker.rib import Rib
from speaker.values import Family, prefix_bytes
from speaker.wire.attribute import Interner, make

T = TypeVar("T")

FAMILY_OF = {4: Family.IPV4, 6: Family.IPV6}
_ORDER: tuple[Kind, ...] = ("advertisement", "subnet", "floating_ip", "port")

Place = tuple[str, str]
"""(id of a speaker, destination)"""


@attrs.frozen
class Offer:
    """A route that an object has for a speaker."""

    next_hop: str
    of: Key  # a subnet, a floating address, a port or an advertisement
    router_id: str = ""

    @property
    def rank(self) -> tuple[bool, str, int, str]:
        """What is lowest wins."""
        return self.of[0] != "advertisement", self.router_id, _ORDER.index(self.of[0]), self.of[1]


class Advertising:
    """Keeps what speakers tell; only what a change touches is worked out again."""

    def __init__(self, intent: Intent, rib: Rib, interner: Interner, host: str = "") -> None:
        """`host` is the name of this node: ports of another are not here."""
        self.intent = intent
        self.rib = rib
        self.interner = interner
        self.host = host
        self.told: dict[str, dict[str, Offer]] = {}  # speaker id -> destination -> the offer that won
        self._speakers = intent.speakers.reader()
        self._routers = intent.routers.reader()
        self._subnets = intent.subnets.reader()
        self._floating_ips = intent.floating_ips.reader()
        self._ports = intent.ports.reader()
        self._advertisements = intent.advertisements.reader()
        self._made: dict[Key, dict[Place, Offer]] = {}  # by the object that offers
        self._offers: dict[Place, dict[Key, Offer]] = {}
        self._gone: set[str] = set()  # speakers whose source is to be forgotten
        self._subnets_by: dict[str, dict[str, Subnet]] = {}  # network -> its subnets: many things may be in a network
        self._speakers_by: dict[str, dict[str, Speaker]] = {}  # external network -> its speakers

    def step(self) -> int:
        """Bring the routes up to the intent; return how many objects were looked at."""
        if not self.intent.speakers and not self._speakers.dirty:
            for reader in (self._routers, self._ports, self._floating_ips, self._advertisements):
                reader.take()  # a first speaker has everything of its networks looked at
        dirty = self._dirty()
        places: dict[Place, None] = {}
        for key in dirty:
            made, _ = self._look_at(*key)
            for place in self._made.pop(key, ()):
                places[place] = None
                offers = self._offers[place]
                del offers[key]
                if not offers:
                    del self._offers[place]
            for place, offer in made.items():
                places[place] = None
                self._offers.setdefault(place, {})[key] = offer
            if made:
                self._made[key] = made
        for place in places:
            self._tell(place)
        for id_ in [id_ for id_ in self._gone if id_ in self.intent.speakers or self.rib.forget(local(id_))]:
            self._gone.discard(id_)
        return len(dirty)

    def reason_untold(self, kind: Kind, id_: str) -> str:
        """Say why an object of those that may offer routes offers none; "": it does."""
        made, reason = self._look_at(kind, id_)
        return "" if made else reason

    def places(self, kind: Kind, id_: str) -> dict[Place, Offer]:
        """Return what an object offers, and to which speakers."""
        return self._made.get((kind, id_), {})

    def why(self, offer: Offer) -> str:
        """Say in words where a route is from."""
        kind, id_ = offer.of
        if kind == "advertisement":
            return f"advertisement {id_} says so"
        router = self.intent.routers.get(offer.router_id)
        behind = f"router {title(router) if router is not None else offer.router_id}"
        thing = self.intent.tables[kind].get(id_)
        match thing:
            case Subnet():
                return f"subnet {title(thing)} of {behind}, in the address scope of its external network"
            case FloatingIp():
                return f"floating address {thing.id} by way of {behind}"
            case Port():
                return f"fixed address of port {title(thing)} behind {behind}"
        return f"{kind} {id_} of {behind}"

    # What changed

    def _dirty(self) -> dict[Key, None]:
        """Return the objects whose offers may be others now."""
        intent = self.intent
        dirty: dict[Key, None] = {}
        for id_, seen_speaker in self._speakers.take().items():
            present = intent.speakers.get(id_)
            if present is None:
                self._gone.add(id_)
            _index(self._speakers_by, id_, () if seen_speaker is None else seen_speaker.networks, None)
            _index(self._speakers_by, id_, () if present is None else present.networks, present)
            if _without_peers(seen_speaker) != _without_peers(present):
                for speaker in _differing(seen_speaker, present):
                    self._with_speaker(speaker, dirty)
        for id_, seen_router in self._routers.take().items():
            for router in _differing(seen_router, intent.routers.get(id_)):
                self._with_router(router, dirty)
        for id_, seen_subnet in self._subnets.take().items():
            known = intent.subnets.get(id_)
            _index(self._subnets_by, id_, () if seen_subnet is None else (seen_subnet.network_id,), None)
            _index(self._subnets_by, id_, () if known is None else (known.network_id,), known)
            for subnet in _differing(seen_subnet, known):
                self._with_network(subnet.network_id, dirty)
                for router in intent.referring("subnet", id_, "router"):
                    self._with_router(router, dirty)
        for id_ in self._ports.take():
            self._with_port(id_, dirty)
        for id_ in self._floating_ips.take():
            dirty["floating_ip", id_] = None
        for id_ in self._advertisements.take():
            dirty["advertisement", id_] = None
        return dirty

    def _with_speaker(self, speaker: Speaker, dirty: dict[Key, None]) -> None:
        for network_id in speaker.networks:
            self._with_network(network_id, dirty)

    def _with_network(self, network_id: str, dirty: dict[Key, None]) -> None:
        """Note what depends on an external network: all of it is behind a router."""
        for router in self.intent.referring("network", network_id, "router"):
            self._with_router(router, dirty)

    def _with_router(self, router: Router, dirty: dict[Key, None]) -> None:
        dirty["router", router.id] = None
        for floating in self.intent.referring("router", router.id, "floating_ip"):
            dirty["floating_ip", floating.id] = None
        subnets = filter(None, map(self.intent.subnets.get, router.subnet_ids))
        for network_id in {subnet.network_id for subnet in subnets}:
            for port in self.intent.referring("network", network_id, "port"):
                self._with_port(port.id, dirty)

    def _with_port(self, id_: str, dirty: dict[Key, None]) -> None:
        dirty["port", id_] = None
        for floating in self.intent.referring("port", id_, "floating_ip"):
            dirty["floating_ip", floating.id] = None

    # What is offered

    def _look_at(self, kind: Kind, id_: str) -> tuple[dict[Place, Offer], str]:
        """Return what an object offers to which speakers, and if that is nothing, why."""
        thing = self.intent.tables[kind].get(id_)
        match thing:
            case Router():
                return self._of_router(thing)
            case FloatingIp():
                return self._of_floating_ip(thing)
            case Port():
                return self._of_port(thing), "its addresses are announced by no speaker"
            case Advertisement():
                offer = Offer(thing.next_hop, ("advertisement", thing.id))
                return {(thing.speaker_id, thing.destination): offer}, ""
        return {}, f"there is no {kind} {id_}"

    def _of_router(self, router: Router) -> tuple[dict[Place, Offer], str]:
        made: dict[Place, Offer] = {}
        if not router.admin_state_up:
            return made, "administratively down"
        if router.gateway_network_id is None:
            return made, "it leads to no external network"
        speakers = self._speakers_of(router.gateway_network_id)
        reasons = [] if speakers else [f"no speaker tells of {self._network(router.gateway_network_id)}"]
        for speaker in speakers:
            version = speaker.ip_version
            gateway = _gateway(router, version)
            if not speaker.advertise_tenant_networks:
                reasons.append(f"speaker {title(speaker)} announces no tenant networks")
            elif not gateway:
                reasons.append(f"it has no IPv{version} address in {self._network(router.gateway_network_id)}")
            else:
                subnets = list(self._subnets_told(router, version))
                for subnet in subnets:
                    offer = Offer(gateway, ("subnet", subnet.id), router.id)
                    made[speaker.id, subnet.cidr] = offer
                if not subnets:
                    reasons.append(
                        f"no IPv{version} subnet of it is in the address scope of"
                        f" {self._network(router.gateway_network_id)}"
                    )
        return made, "; ".join(dict.fromkeys(reasons))

    def _of_floating_ip(self, floating: FloatingIp) -> tuple[dict[Place, Offer], str]:
        version = 6 if ":" in floating.address else 4
        outside = self._network(floating.network_id)
        speakers = [
            each
            for each in self._speakers_of(floating.network_id)
            if each.ip_version == version and each.advertise_floating_ip_host_routes
        ]
        if not speakers:
            return {}, f"no speaker announces IPv{version} floating addresses of {outside}"
        subnets = self._subnets_in(floating.network_id, version)
        if subnets and not any(_within(floating.address, subnet.cidr) for subnet in subnets):
            return {}, f"{floating.address} is in no subnet of {outside}"
        if floating.router_id is None and floating.port_id is None:
            return {}, "it is bound to no port"
        for router in self._routers_of(floating, version):
            if router.admin_state_up and router.gateway_network_id == floating.network_id:
                gateway = _gateway(router, version)
                if gateway:
                    offer = Offer(gateway, ("floating_ip", floating.id), router.id)
                    return {(each.id, _host(floating.address)): offer for each in speakers}, ""
        return {}, f"no router that is up leads from its port to {outside} with an IPv{version} address there"

    def _routers_of(self, floating: FloatingIp, version: int) -> list[Router]:
        """Return the routers that a floating address may be reached by, lowest id first."""
        if floating.router_id is not None:
            return list(filter(None, [self.intent.routers.get(floating.router_id)]))
        port = self.intent.ports.get(floating.port_id or "")
        if port is None:
            return []
        fixed = [floating.fixed_ip] if floating.fixed_ip is not None else [*_addresses(port)]
        address = next((each for each in fixed if (":" in each) == (version == 6)), None)
        return [] if address is None else [router for router, _ in self._behind(port, address)]

    def _of_port(self, port: Port) -> dict[Place, Offer]:
        made: dict[Place, Offer] = {}
        if not any(each.advertise_fixed_ip_host_routes for each in self.intent.speakers.rows.values()):
            return made
        if not port.admin_state_up or port.host not in ("", self.host) or port.device_owner.startswith("network:"):
            return made
        for address in _addresses(port):
            version = 6 if ":" in address else 4
            for router, subnet in self._behind(port, address):
                gateway = _gateway(router, version)
                if not router.admin_state_up or not gateway or subnet not in self._subnets_told(router, version):
                    continue
                for speaker in self._speakers_of(router.gateway_network_id or ""):
                    if speaker.ip_version == version and speaker.advertise_fixed_ip_host_routes:
                        made.setdefault((speaker.id, _host(address)), Offer(gateway, ("port", port.id), router.id))
        return made

    def _behind(self, port: Port, address: str) -> list[tuple[Router, Subnet]]:
        """Return the routers on the subnet of a port's address, lowest id first, with that subnet."""
        found = [
            (router, subnet)
            for subnet in self._subnets_in(port.network_id or "", 6 if ":" in address else 4)
            if _within(address, subnet.cidr)
            for router in self.intent.referring("subnet", subnet.id, "router")
        ]
        return sorted(found, key=lambda each: each[0].id)

    def _subnets_told(self, router: Router, version: int) -> Iterator[Subnet]:
        """Yield the subnets of a router in the address scope of its external network."""
        outside = self._subnets_in(router.gateway_network_id or "", version)
        scopes = {subnet.address_scope for subnet in outside} or {""}
        for id_ in router.subnet_ids:
            subnet = self.intent.subnets.get(id_)
            if subnet is not None and _version(subnet.cidr) == version and subnet.address_scope in scopes:
                yield subnet

    def _subnets_in(self, network_id: str, version: int) -> list[Subnet]:
        subnets = self._subnets_by.get(network_id, {}).values()
        return [subnet for subnet in subnets if _version(subnet.cidr) == version]

    def _speakers_of(self, network_id: str) -> list[Speaker]:
        return list(self._speakers_by.get(network_id, {}).values())

    def _network(self, id_: str) -> str:
        network = self.intent.networks.get(id_)
        return f"network {title(network) if network is not None else id_}"

    # What is told

    def _tell(self, place: Place) -> None:
        """Let the best of the offers be the route."""
        id_, destination = place
        offers = self._offers.get(place)
        table = self.rib.table(FAMILY_OF[_version(destination)], local(id_))
        told = self.told.setdefault(id_, {})
        if offers:
            offer = min(offers.values(), key=lambda each: each.rank)
            told[destination] = offer
            table.put(prefix_bytes(destination), self._path(offer.next_hop))
            return
        told.pop(destination, None)
        table.discard(prefix_bytes(destination))
        if not told:
            del self.told[id_]

    def _path(self, next_hop: str) -> Path:
        return make(self.interner, next_hop=ipaddress.ip_address(next_hop).packed).path(b"")


def _differing(seen: T | None, present: T | None) -> list[T]:
    """Return what an object was and what it is, as far as there is any."""
    return [each for each in (seen, present) if each is not None]


def _index(by_network: dict[str, dict[str, T]], id_: str, networks: Iterable[str], thing: T | None) -> None:
    """Put a thing under its networks, or take it away from there."""
    for network_id in networks:
        things = by_network.setdefault(network_id, {})
        if thing is not None:
            things[id_] = thing
        else:
            things.pop(id_, None)
        if not things:
            del by_network[network_id]


def _without_peers(speaker: Speaker | None) -> Speaker | None:
    """Return what routes depend on."""
    return None if speaker is None else attrs.evolve(speaker, peers=(), name="")


def _gateway(router: Router, version: int) -> str:
    """Return the first address of a family that a router has in its external network; "" if there is none."""
    return next((each for each in router.gateway_ips if (":" in each) == (version == 6)), "")


def _addresses(port: Port) -> Iterator[str]:
    return (text.partition("/")[0] for text in port.ip_addresses)


def _host(address: str) -> str:
    return f"{address}/{128 if ':' in address else 32}"


def _version(cidr: str) -> int:
    return 6 if ":" in cidr else 4


@lru_cache(65536)
def _network(cidr: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(cidr)


@lru_cache(65536)
def _within(address: str, cidr: str) -> bool:
    return ipaddress.ip_address(address) in _network(cidr)
