"""Intent: all that users want of this node, and what must hold between its objects.

An object by itself is checked by its class (`bgpvpn.objects`). What it says of others is checked by `Intent.plan`,
which changes nothing:

    wishes --plan--> changes --Store.write--> (durable) --apply--> [tables]

Two indexes make every check cheap. A **claim** is something that only one object may hold: a name in its project, an
address in a network; an interface is held by the network of its ports. A **reference** is the id of another object.
What refers to a removed object goes with it (an association with its VPN), forgets it (a speaker one of its peers), or
keeps it (a network its ports).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import attrs

from bgpvpn.objects import (
    FIXED,
    KINDS,
    Advertisement,
    Association,
    Bgpvpn,
    ConflictError,
    FloatingIp,
    IntentError,
    Kind,
    Network,
    Object,
    Peer,
    Policy,
    Port,
    Router,
    Speaker,
    Subnet,
    kind_of,
    make,
    plural,
    title,
)
from bgpvpn.rules import is_host
from speaker.table import Table

__all__ = [
    "KINDS",
    "Advertisement",
    "Association",
    "Bgpvpn",
    "Change",
    "ConflictError",
    "FloatingIp",
    "Intent",
    "IntentError",
    "Key",
    "Kind",
    "Network",
    "Object",
    "Peer",
    "Policy",
    "Port",
    "Removal",
    "Router",
    "Speaker",
    "Stamp",
    "Store",
    "StoreError",
    "StoredLease",
    "Subnet",
    "kind_of",
    "make",
    "title",
]

Key = tuple[Kind, str]
Claim = tuple[str, ...]


@attrs.frozen
class Removal:
    """The wish that an object be gone, with what refers to it."""

    kind: Kind
    id: str


@attrs.frozen
class Stamp:
    """How often an object was written (1: made), and when: wall clock seconds since 1970, for people only."""

    revision: int
    created_at: float
    updated_at: float


@attrs.frozen
class Change:
    """One object as it will be; `thing` None: removed, `stamp` is then its last."""

    kind: Kind
    id: str
    thing: Object | None
    stamp: Stamp


StoredLease = tuple[str, str, int, float | None]
"""(pool, purpose, number, wall clock seconds of its release or None), as `Leases.load` takes it."""


class StoreError(Exception):
    """The store cannot be opened, or did not take a write; nothing of that write counts."""


class Store(Protocol):
    """Where intent and leases outlive the process."""

    def load(self) -> tuple[list[Change], list[StoredLease]]:
        """Return everything that is kept; StoreError, naming the place, when it cannot be read."""

    def identity(self) -> int:
        """Return a large random number that was made with the store: who has seen it finds here what it left."""

    def write(
        self,
        changes: Iterable[Change] = (),
        leases: Iterable[StoredLease] = (),
        dropped_leases: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Keep all of it or nothing; durable when this returns. StoreError: refused, and nothing may act on it.

        A dropped lease is named by its pool and purpose.
        """


class Intent:
    """All wishes of users, in tables by id; they are written by `apply` and `load` only."""

    def __init__(self) -> None:
        self.tables: dict[Kind, Table[str, Any]] = {kind: Table() for kind in KINDS}
        self.stamps: dict[Key, Stamp] = {}
        self.configured: set[Key] = set()  # from the configuration file: users see but do not change them
        self.writes = 0  # how often something was written: who reads in shares sees by it that all is as it was
        self._objects: dict[Key, Object] = {}
        self._claims: dict[Claim, dict[Key, None]] = {}  # several ports may hold one interface
        self._referring: dict[Key, dict[Kind, dict[str, None]]] = {}  # an object -> who refers to it, by kind
        self._of_vni: dict[int, dict[str, None]] = {}  # VNI -> ids of l2 VPNs

    @property
    def networks(self) -> Table[str, Network]:
        return self.tables["network"]

    @property
    def subnets(self) -> Table[str, Subnet]:
        return self.tables["subnet"]

    @property
    def ports(self) -> Table[str, Port]:
        return self.tables["port"]

    @property
    def bgpvpns(self) -> Table[str, Bgpvpn]:
        return self.tables["bgpvpn"]

    @property
    def routers(self) -> Table[str, Router]:
        return self.tables["router"]

    @property
    def associations(self) -> Table[str, Association]:
        return self.tables["association"]

    @property
    def policies(self) -> Table[str, Policy]:
        return self.tables["policy"]

    @property
    def peers(self) -> Table[str, Peer]:
        return self.tables["peer"]

    @property
    def floating_ips(self) -> Table[str, FloatingIp]:
        return self.tables["floating_ip"]

    @property
    def speakers(self) -> Table[str, Speaker]:
        return self.tables["speaker"]

    @property
    def advertisements(self) -> Table[str, Advertisement]:
        return self.tables["advertisement"]

    def plan(
        self,
        wishes: Sequence[Object | Removal],
        wall: float,
        *,
        stored: bool = False,
        refused: dict[int, IntentError] | None = None,
    ) -> list[Change]:
        """Return what wishes come to, all of them or none; each is checked as if those before it were done.

        `wall` is the time of day in seconds. IntentError: a wish is refused; with `refused` it is noted there by its
        place, and the others are done. An object that is as wished already is no change. The tables stay as they are.
        `stored`: the wishes were accepted before; what was changed beside them later, so that their status tells of it,
        does not keep them out.
        """
        changes: list[Change] = []
        undo: list[tuple[Key, Object | None, Stamp | None]] = []
        stamps: dict[Key, Stamp] = {}

        def settle(key: Key, thing: Object | None) -> None:
            undo.append((key, self._objects.get(key), stamps.get(key)))
            self._set(key, thing)
            old = stamps.get(key) or self.stamps.get(key) or Stamp(0, wall, wall)
            stamps[key] = stamp = old if thing is None else Stamp(old.revision + 1, old.created_at, wall)
            changes.append(Change(*key, thing, stamp))

        def take_back(down_to: int) -> None:
            while len(undo) > down_to:
                key, seen, stamp = undo.pop()
                self._set(key, seen)
                if stamp is None:
                    del stamps[key]
                else:
                    stamps[key] = stamp

        try:
            for place, wish in enumerate(wishes):
                before = len(changes)
                try:
                    self._wish(wish, settle, stored)
                except IntentError as error:
                    if refused is None:
                        raise
                    refused[place] = error
                    take_back(before)
                    del changes[before:]
            return changes
        finally:
            take_back(0)

    def _wish(self, wish: Object | Removal, settle: Callable[[Key, Object | None], None], stored: bool) -> None:
        """Settle what one wish comes to; IntentError: it is refused, though some of it may be settled."""
        if isinstance(wish, Removal):
            for key, left in self._removed(wish):
                settle(key, left)
            return
        key = (kind_of(wish), wish.id)
        if self._objects.get(key) != wish:
            self._check_configured(key)
            self._check_alone(key, wish)
            settle(key, wish)
            self._check_beside(wish)
            if not stored:
                self._check_bounds(wish)

    def apply(self, changes: Iterable[Change]) -> None:
        """Write changes that `plan` returned and the store has taken."""
        self.writes += 1
        for change in changes:
            key = (change.kind, change.id)
            self._set(key, change.thing)
            if change.thing is None:
                self.stamps.pop(key, None)
                self.tables[change.kind].discard(change.id)
            else:
                self.stamps[key] = change.stamp
                self.tables[change.kind].put(change.id, change.thing)

    def load(self, changes: Iterable[Change], *, configured: bool = False) -> list[tuple[Change, IntentError]]:
        """Take over what was stored or configured; return what cannot stand beside the rest, which stays out."""
        refused: list[tuple[Change, IntentError]] = []
        for change in sorted(changes, key=lambda change: KINDS.index(change.kind)):
            assert change.thing is not None, "only objects are loaded"
            try:
                self.plan([change.thing], change.stamp.updated_at, stored=not configured)
            except IntentError as error:
                refused.append((change, error))
                continue
            self.apply([change])
            if configured:
                self.configured.add((change.kind, change.id))
        return refused

    def referring(self, kind: Kind, id_: str, of: Kind) -> Iterator[Any]:
        """Yield the objects of one kind that refer to an object, for example the ports of a network."""
        for referring in self._referring.get((kind, id_), {}).get(of, ()):
            yield self._objects[(of, referring)]

    def find(self, kind: Kind, text: str) -> Object | None:
        """Return the object with this id, else with this name; ConflictError if several projects have the name."""
        thing: Object | None = self._objects.get((kind, text))
        if thing is not None or not text:
            return thing
        named = [each for each in self.tables[kind].rows.values() if getattr(each, "name", "") == text]
        if len(named) > 1:
            where = ", ".join(f"{each.id} in project {each.project_id}" for each in named)
            raise ConflictError(
                "name", text, f"{len(named)} {plural(kind)} are called {text!r}; say which by its id: {where}"
            )
        return named[0] if named else None

    # Indexes

    def _set(self, key: Key, thing: Object | None) -> None:
        """Make the indexes say that this object is there, or that none is."""
        seen = self._objects.pop(key, None)
        if seen is not None:
            for claim, _ in _claims(seen):
                self._release(claim, key)
            for _, other in references(seen):
                by_kind = self._referring[other]
                del by_kind[key[0]][key[1]]
                if not by_kind[key[0]]:
                    del by_kind[key[0]]
                if not by_kind:
                    del self._referring[other]
            if isinstance(seen, Bgpvpn) and seen.type == "l2" and seen.vni is not None:
                del self._of_vni[seen.vni][seen.id]
        if thing is not None:
            self._objects[key] = thing
            for claim, _ in _claims(thing):
                self._claims.setdefault(claim, {})[key] = None
            for _, other in references(thing):
                self._referring.setdefault(other, {}).setdefault(key[0], {})[key[1]] = None
            if isinstance(thing, Bgpvpn) and thing.type == "l2" and thing.vni is not None:
                self._of_vni.setdefault(thing.vni, {})[thing.id] = None

    def _release(self, claim: Claim, key: Key) -> None:
        del self._claims[claim][key]
        if not self._claims[claim]:
            del self._claims[claim]

    def _removed(self, wish: Removal) -> list[tuple[Key, Object | None]]:
        """Return what becomes of an object and of those that refer to it, these first; None: it goes too."""
        key = (wish.kind, wish.id)
        if key not in self._objects:
            raise IntentError("id", wish.id, f"there is no {wish.kind} {wish.id!r}")
        self._check_configured(key)
        thing = self._objects[key]
        left = [
            (other, _without(self._objects[other], key))
            for kind, ids in self._referring.get(key, {}).items()
            for other in ((kind, id_) for id_ in ids)
        ]
        if isinstance(thing, Subnet):
            users = [title(port) for port in self.referring("network", thing.network_id, "port") if _uses(port, thing)]
            if users:
                raise ConflictError("id", thing.id, f"ports have addresses in subnet {thing.cidr}: {_listed(users)}")
        if isinstance(thing, Network) and (routers := [title(each) for each in self.routers_of(thing.id)]):
            raise ConflictError("id", thing.id, f"network {title(thing)!r} is on router {_listed(routers)}")
        for kind, what in _KEPT_BY.get(wish.kind, {}).items():
            users = [title(self._objects[other]) for other, _ in left if other[0] == kind]
            if users:
                raise ConflictError("id", thing.id, f"{wish.kind} {title(thing)!r} {what} {_listed(users)}")
        return [*left, (key, None)]

    # Rules

    def _check_configured(self, key: Key) -> None:
        if key in self.configured:
            called = title(self._objects[key])
            raise ConflictError("id", key[1], f"{key[0]} {called!r} is set in the configuration file; change it there")

    def _check_alone(self, key: Key, thing: Object) -> None:
        """Check what does not need the object to be in the indexes: fixed fields, references, claims."""
        seen = self._objects.get(key)
        if seen is not None:
            for field in FIXED[key[0]]:
                old, new = getattr(seen, field), getattr(thing, field)
                if old != new:
                    raise IntentError(field, new, f"stays {old!r} as long as the {key[0]} exists")
        for field, other in references(thing):
            if other not in self._objects:
                raise IntentError(field, other[1], f"there is no {other[0]} {other[1]!r}")
        for claim, field in _claims(thing):
            holder = next((each for each in self._claims.get(claim, ()) if each != key), key)
            if holder != key and isinstance(thing, Association):
                bound = title(self._objects[thing.bound])
                raise ConflictError(
                    field, claim[-1], f"{bound!r} is bound to this VPN already, by association {holder[1]}"
                )
            if holder != key and not (claim[0] == "interface" and self._share(thing, self._objects[holder])):
                called = title(self._objects[holder])
                raise ConflictError(field, claim[-1], f"{claim[-1]!r} is taken by {holder[0]} {called!r}")

    @staticmethod
    def _share(thing: Object, holder: Object) -> bool:
        """Tell whether two ports may have one interface: stations of one network, plugged the same way."""
        assert isinstance(thing, Port)
        assert isinstance(holder, Port)
        return thing.network_id is not None and (thing.network_id, thing.ovs) == (holder.network_id, holder.ovs)

    def _check_beside(self, thing: Object) -> None:
        """Check an object that is in the indexes already against its neighbours."""
        match thing:
            case Network():
                self._check_external(thing)
                if not thing.host_addresses:
                    for port in self.referring("network", thing.id, "port"):
                        self._check_port(port, thing.id)
            case Subnet():
                self._check_subnet(thing)
            case Router():
                self._check_router(thing)
            case Port() if thing.network_id is not None:
                self._check_port(thing, thing.network_id)
            case Bgpvpn():
                for association in self.referring("bgpvpn", thing.id, "association"):
                    self._check_leaks(association)
            case Association():
                self._check_association(thing)
            case FloatingIp():
                self._check_floating_ip(thing)
            case Speaker():
                self._check_speaker(thing)
            case Peer():
                for speaker in self.referring("peer", thing.id, "speaker"):
                    self._check_told(speaker, thing)
            case Advertisement():
                speaker = self._objects[("speaker", thing.speaker_id)]
                assert isinstance(speaker, Speaker)
                if (":" in thing.destination) != (speaker.ip_version == 6):
                    raise IntentError(
                        "destination", thing.destination, f"speaker {title(speaker)!r} is of IPv{speaker.ip_version}"
                    )
            case _:
                pass

    def _check_external(self, network: Network) -> None:
        """Check that an external network is in no VPN, and that what routers lead to stays external."""
        called = f"network {title(network)!r}"
        if network.external:
            if any(True for _ in self.referring("network", network.id, "association")):
                raise ConflictError("external", True, f"{called} is bound to a VPN")
            if routers := [title(router) for router in self.routers_of(network.id)]:
                raise ConflictError("external", True, f"{called} is a tenant's, behind router {_listed(routers)}")
            return
        for kind in ("router", "floating_ip", "speaker"):
            users = [title(each) for each in self.referring("network", network.id, kind)]
            if users:
                raise ConflictError("external", False, f"{called} is the way out of {kind} {_listed(users)}")

    def _check_router(self, router: Router) -> None:
        subnets = [self._objects[("subnet", id_)] for id_ in router.subnet_ids]
        for index, subnet in enumerate(subnets):
            assert isinstance(subnet, Subnet)
            if self._objects[("network", subnet.network_id)].external:  # type: ignore[union-attr]
                raise IntentError("subnet_ids", subnet.id, f"subnet {subnet.cidr} is of an external network")
            cidr = ipaddress.ip_network(subnet.cidr)
            for other in subnets[:index]:
                assert isinstance(other, Subnet)
                if cidr.overlaps(ipaddress.ip_network(other.cidr)):
                    raise ConflictError(
                        "subnet_ids", subnet.id, f"{subnet.cidr} overlaps with {other.cidr} of the same router"
                    )
        for route in router.routes:
            nexthop = ipaddress.ip_address(route.nexthop)
            if not any(nexthop in ipaddress.ip_network(subnet.cidr) for subnet in subnets):  # type: ignore[union-attr]
                raise IntentError("routes", route.nexthop, f"{route.nexthop} is in no subnet of the router")
        if router.gateway_network_id is not None:
            gateway = self._objects[("network", router.gateway_network_id)]
            if not gateway.external:  # type: ignore[union-attr]
                raise IntentError("gateway_network_id", gateway.id, f"network {title(gateway)!r} is not external")
        for association in self.referring("router", router.id, "association"):
            self._check_association(association)

    def _check_floating_ip(self, floating: FloatingIp) -> None:
        network = self._objects[("network", floating.network_id)]
        if not network.external:  # type: ignore[union-attr]
            raise IntentError("network_id", network.id, f"network {title(network)!r} is not external")
        if floating.port_id is not None and floating.fixed_ip is not None:
            port = self._objects[("port", floating.port_id)]
            assert isinstance(port, Port)
            if floating.fixed_ip not in [text.partition("/")[0] for text in port.ip_addresses]:
                raise IntentError("fixed_ip", floating.fixed_ip, f"port {title(port)!r} has no such address")

    def _check_speaker(self, speaker: Speaker) -> None:
        for id_ in speaker.networks:
            network = self._objects[("network", id_)]
            if not network.external:  # type: ignore[union-attr]
                raise IntentError("networks", id_, f"network {title(network)!r} is not external")
        for id_ in speaker.peers:
            self._check_told(speaker, self._objects[("peer", id_)])

    def _check_told(self, speaker: Speaker, peer: Object) -> None:
        """Check that a speaker's routes can be told to a peer of it."""
        assert isinstance(peer, Peer)
        family = f"ipv{speaker.ip_version}"
        if family not in peer.families:
            raise IntentError(
                "peers",
                peer.id,
                f"peer {title(peer)!r} does not speak {family}, which speaker {title(speaker)!r} is of",
            )
        for other in self.referring("peer", peer.id, "speaker") if peer.local_as is None else ():
            if other.local_as != speaker.local_as:
                raise ConflictError(
                    "peers",
                    peer.id,
                    f"peer {title(peer)!r} without a local_as would know this node as AS {speaker.local_as},"
                    f" and by speaker {title(other)!r} as AS {other.local_as}",
                )

    def _check_subnet(self, subnet: Subnet) -> None:
        network = ipaddress.ip_network(subnet.cidr)
        for other in self.referring("network", subnet.network_id, "subnet"):
            beside = ipaddress.ip_network(other.cidr)
            if other.id != subnet.id and network.overlaps(beside):  # false for different address families
                raise ConflictError(
                    "cidr", subnet.cidr, f"{subnet.cidr} overlaps with {other.cidr} of the same network"
                )
        for holder in self._claims.get(("ip", subnet.network_id, subnet.gateway_ip or ""), ()):
            called = title(self._objects[holder])
            raise ConflictError("gateway_ip", subnet.gateway_ip, f"{subnet.gateway_ip} is taken by port {called!r}")

    def _check_port(self, port: Port, network_id: str) -> None:
        subnets = list(self.referring("network", network_id, "subnet"))
        network = self._objects[("network", network_id)]
        assert isinstance(network, Network)
        for text in port.ip_addresses:
            address = ipaddress.ip_address(text)
            subnet = next((each for each in subnets if address in ipaddress.ip_network(each.cidr)), None)
            if subnet is None and network.host_addresses:
                continue
            if subnet is None:
                called = title(network)
                raise IntentError("ip_addresses", text, f"{text} is in no subnet of network {called!r}")
            if not is_host(address, ipaddress.ip_network(subnet.cidr)):
                raise IntentError("ip_addresses", text, f"{text} is the own or broadcast address of {subnet.cidr}")
            if text == subnet.gateway_ip:
                raise ConflictError("ip_addresses", text, f"{text} is the gateway of subnet {subnet.cidr}")

    def _check_association(self, association: Association) -> None:
        vpn = self._objects[("bgpvpn", association.bgpvpn_id)]
        kind, id_ = association.bound
        field, bound = f"{kind}_id", self._objects[(kind, id_)]
        assert isinstance(vpn, Bgpvpn)
        assert isinstance(bound, Network | Router | Port)
        if bound.project_id != vpn.project_id:
            raise IntentError(
                field,
                bound.id,
                f"{kind} {title(bound)!r} is of project {bound.project_id!r}, VPN {title(vpn)!r} of {vpn.project_id!r}",
            )
        if isinstance(bound, Network) and bound.external:
            raise IntentError(field, bound.id, f"network {title(bound)!r} is external, and cannot be in a VPN")
        if isinstance(bound, Router) and vpn.type == "l2":
            raise IntentError(field, bound.id, f"VPN {title(vpn)!r} is of type l2; a router has a place in l3 only")
        if association.direction != "both" and vpn.type == "l2":
            raise IntentError("direction", association.direction, f"VPN {title(vpn)!r} is of type l2, which has none")
        if association.routes and vpn.type == "l2":
            raise IntentError("routes", association.routes, f"VPN {title(vpn)!r} is of type l2 and carries no prefixes")
        self._check_leaks(association)
        if vpn.type == "l3":
            for owner in self._owners(association):
                self._check_ways(owner)

    def _check_bounds(self, thing: Object) -> None:
        """Check what can become untrue while others change: then something is not announced, and the status says so."""
        if isinstance(thing, Association):
            vpn = self._objects[("bgpvpn", thing.bgpvpn_id)]
            assert isinstance(vpn, Bgpvpn)
            prefixes = [route for route in thing.routes if route.type == "prefix"]
            if vpn.max_prefixes is not None and len(prefixes) > vpn.max_prefixes:
                raise IntentError(
                    "routes", len(prefixes), f"VPN {title(vpn)!r} takes at most {vpn.max_prefixes} of an association"
                )
            for route in thing.routes:
                vpn.check_local_pref("routes", route.local_pref)
                if route.prefix is not None and (reason := vpn.refusal(route.prefix)):
                    raise IntentError("routes", route.prefix, reason)
            for owner in self._owners(thing):
                self._check_vnis(owner)
        elif isinstance(thing, Bgpvpn):
            for association in self.referring("bgpvpn", thing.id, "association"):
                for owner in self._owners(association):
                    self._check_vnis(owner)

    def _check_leaks(self, association: Association) -> None:
        into = self._objects[("bgpvpn", association.bgpvpn_id)]
        assert isinstance(into, Bgpvpn)
        for route in association.routes:
            if route.bgpvpn_id is not None:
                self._check_leak(into, route.bgpvpn_id)

    def _check_leak(self, into: Bgpvpn, id_: str) -> None:
        """Check that the routes of one VPN may be announced anew into another."""
        leaked = self._objects[("bgpvpn", id_)]
        assert isinstance(leaked, Bgpvpn)
        if leaked.id == into.id:
            raise IntentError("routes", id_, f"VPN {title(into)!r} would be led into itself")
        if leaked.project_id != into.project_id:
            raise IntentError(
                "routes", id_, f"VPN {title(leaked)!r} is of project {leaked.project_id!r}, not {into.project_id!r}"
            )
        if leaked.type != into.type:
            raise IntentError("routes", id_, f"VPN {title(leaked)!r} is of type {leaked.type}, not {into.type}")
        for vpn in (leaked, into):
            if "ipvpn" not in vpn.technique:
                raise ConflictError(
                    "technique",
                    vpn.technique,
                    f"VPN {title(vpn)!r} is of the technique {', '.join(vpn.technique)}, and routes of type bgpvpn are "
                    f"announced by ipvpn",
                )

    def _check_ways(self, owner: Key) -> None:
        """Check that a network comes into l3 VPNs by itself or by one router, not by both."""
        if owner[0] != "network":
            return
        called = f"network {title(self._objects[owner])!r}"
        own = [each for each in self.referring(*owner, "association") if self._is_l3(each)]
        routers = {
            router.id: router
            for router in self.routers_of(owner[1])
            if any(self._is_l3(each) for each in self.referring("router", router.id, "association"))
        }
        names = _listed([title(router) for router in routers.values()])
        if own and routers:
            raise ConflictError("network_id", owner[1], f"{called} and its router {names} would both be in l3 VPNs")
        if len(routers) > 1:
            raise ConflictError("router_id", owner[1], f"{called} would be in l3 VPNs by several routers: {names}")

    def _is_l3(self, association: Association) -> bool:
        vpn = self._objects[("bgpvpn", association.bgpvpn_id)]
        return isinstance(vpn, Bgpvpn) and vpn.type == "l3"

    def routers_of(self, network_id: str) -> Iterator[Router]:
        """Yield the routers that have an interface in a network, each once."""
        seen = set()
        for subnet in self.referring("network", network_id, "subnet"):
            for router in self.referring("subnet", subnet.id, "router"):
                if router.id not in seen:
                    seen.add(router.id)
                    yield router

    def _owners(self, association: Association) -> list[Key]:
        """Return whose segments an association is about: networks, or a port by itself."""
        kind, id_ = association.bound
        if kind == "network":
            return [("network", id_)]
        if kind == "router":
            router = self._objects[("router", id_)]
            assert isinstance(router, Router)
            subnets = [self._objects[("subnet", subnet)] for subnet in router.subnet_ids]
            networks = dict.fromkeys(each.network_id for each in subnets if isinstance(each, Subnet))
            return [("network", network) for network in networks]
        port = self._objects[("port", id_)]
        assert isinstance(port, Port)
        return [("port", port.id) if port.network_id is None else ("network", port.network_id)]

    def _check_vnis(self, owner: Key) -> None:
        """Check that a VNI is in one segment of one owner, and each of the owner's segments in one VNI.

        Ports that are bound to more VPNs than their network are a segment of their own (see bgpvpn.segment).
        """
        called = f"{owner[0]} {title(self._objects[owner])!r}"
        shared = self._vpns_of(owner)
        segments = {frozenset(shared)}
        for port in self.referring(*owner, "port"):
            segments.add(frozenset(shared | self._vpns_of(("port", port.id))))
        used: set[int] = set()
        for segment in segments:
            vpns = [vpn for id_ in segment if (vpn := self._objects[("bgpvpn", id_)]) and isinstance(vpn, Bgpvpn)]
            names = {vpn.vni: title(vpn) for vpn in vpns if vpn.vni is not None and vpn.type == "l2"}
            if len(names) > 1:
                listed = _listed(sorted(f"{name} (VNI {vni})" for vni, name in names.items()))
                raise ConflictError("vni", sorted(names), f"{called} would be in VPNs with different VNIs: {listed}")
            for vni in names:
                if vni in used:
                    raise ConflictError(
                        "vni",
                        vni,
                        f"ports of {called} are bound to different VPNs, and VNI {vni} cannot be in both segments",
                    )
                used.add(vni)
        for vni in sorted(used):
            for id_ in self._of_vni[vni]:
                for association in self.referring("bgpvpn", id_, "association"):
                    for other in self._owners(association):
                        if other != owner:
                            theirs = f"{other[0]} {title(self._objects[other])!r}"
                            raise ConflictError(
                                "vni", vni, f"VNI {vni} would be in two networks: {called} and {theirs}"
                            )

    def _vpns_of(self, bound: Key) -> set[str]:
        return {association.bgpvpn_id for association in self.referring(*bound, "association")}


def _claims(thing: Object) -> list[tuple[Claim, str]]:
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


_KEPT_BY: dict[Kind, dict[Kind, str]] = {
    "network": {"port": "has ports:", "router": "is the way out of", "floating_ip": "has floating addresses:"},
    "subnet": {"router": "is on router"},
    "policy": {"peer": "is used by"},
}
"""What keeps an object from being removed, and how that is said."""


def _without(thing: Object, gone: Key) -> Object | None:
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


def _uses(port: Port, subnet: Subnet) -> bool:
    network = ipaddress.ip_network(subnet.cidr)
    return any(ipaddress.ip_address(text) in network for text in port.ip_addresses)


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
