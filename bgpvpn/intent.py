"""Intent: all that users want of this node, and what must hold between its objects.

An object by itself is checked by its class (`bgpvpn.objects`). What it says of others is checked by `Intent.plan`,
which changes nothing:

    wishes --plan--> changes --Store.write--> (durable) --apply--> [tables]

Two indexes make every check cheap. A **claim** is something that only one object may hold: a name in its project, an
address in a network, an interface of the node. A **reference** is the id of another object; what refers to a removed
object goes with it, except the ports of a network, which keep it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import attrs

from bgpvpn.objects import (
    FIXED,
    KINDS,
    Association,
    Bgpvpn,
    ConflictError,
    IntentError,
    Kind,
    Network,
    Object,
    Peer,
    Policy,
    Port,
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
    "Association",
    "Bgpvpn",
    "Change",
    "ConflictError",
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
        self._objects: dict[Key, Object] = {}
        self._claims: dict[Claim, Key] = {}
        self._referring: dict[Key, dict[Key, None]] = {}
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
    def associations(self) -> Table[str, Association]:
        return self.tables["association"]

    @property
    def policies(self) -> Table[str, Policy]:
        return self.tables["policy"]

    @property
    def peers(self) -> Table[str, Peer]:
        return self.tables["peer"]

    def plan(self, wishes: Sequence[Object | Removal], wall: float) -> list[Change]:
        """Return what wishes come to, all of them or none; each is checked as if those before it were done.

        `wall` is the time of day in seconds. IntentError: a wish is refused. An object that is as wished already is no
        change. The tables stay as they are.
        """
        changes: list[Change] = []
        undo: list[tuple[Key, Object | None]] = []
        stamps: dict[Key, Stamp] = {}

        def settle(key: Key, thing: Object | None) -> None:
            undo.append((key, self._objects.get(key)))
            self._set(key, thing)
            old = stamps.get(key) or self.stamps.get(key) or Stamp(0, wall, wall)
            stamps[key] = stamp = old if thing is None else Stamp(old.revision + 1, old.created_at, wall)
            changes.append(Change(*key, thing, stamp))

        try:
            for wish in wishes:
                if isinstance(wish, Removal):
                    for key in self._removed(wish):
                        settle(key, None)
                    continue
                key = (kind_of(wish), wish.id)
                if self._objects.get(key) != wish:
                    self._check_configured(key)
                    self._check_alone(key, wish)
                    settle(key, wish)
                    self._check_beside(wish)
            return changes
        finally:
            for key, seen in reversed(undo):
                self._set(key, seen)

    def apply(self, changes: Iterable[Change]) -> None:
        """Write changes that `plan` returned and the store has taken."""
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
                self.plan([change.thing], change.stamp.updated_at)
            except IntentError as error:
                refused.append((change, error))
                continue
            self.apply([change])
            if configured:
                self.configured.add((change.kind, change.id))
        return refused

    def referring(self, kind: Kind, id_: str, of: Kind) -> Iterator[Any]:
        """Yield the objects of one kind that refer to an object, for example the ports of a network."""
        for key in self._referring.get((kind, id_), ()):
            if key[0] == of:
                yield self._objects[key]

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
                del self._claims[claim]
            for _, other in _references(seen):
                del self._referring[other][key]
                if not self._referring[other]:
                    del self._referring[other]
            if isinstance(seen, Bgpvpn) and seen.vni is not None:
                del self._of_vni[seen.vni][seen.id]
        if thing is not None:
            self._objects[key] = thing
            for claim, _ in _claims(thing):
                self._claims[claim] = key
            for _, other in _references(thing):
                self._referring.setdefault(other, {})[key] = None
            if isinstance(thing, Bgpvpn) and thing.vni is not None:
                self._of_vni.setdefault(thing.vni, {})[thing.id] = None

    def _removed(self, wish: Removal) -> list[Key]:
        """Return what goes with an object, those that refer to others first."""
        key = (wish.kind, wish.id)
        if key not in self._objects:
            raise IntentError("id", wish.id, f"there is no {wish.kind} {wish.id!r}")
        self._check_configured(key)
        thing = self._objects[key]
        if isinstance(thing, Network) and (ports := [title(p) for p in self.referring("network", thing.id, "port")]):
            raise ConflictError("id", thing.id, f"network {title(thing)!r} has ports: {_listed(ports)}")
        if isinstance(thing, Subnet):
            users = [title(port) for port in self.referring("network", thing.network_id, "port") if _uses(port, thing)]
            if users:
                raise ConflictError("id", thing.id, f"ports have addresses in subnet {thing.cidr}: {_listed(users)}")
        if isinstance(thing, Policy) and (peers := [title(p) for p in self.referring("policy", thing.id, "peer")]):
            raise ConflictError("id", thing.id, f"policy {thing.name!r} is used by {_listed(peers)}")
        return [*self._referring.get(key, ()), key]

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
        for field, other in _references(thing):
            if other not in self._objects:
                raise IntentError(field, other[1], f"there is no {other[0]} {other[1]!r}")
        for claim, field in _claims(thing):
            holder = self._claims.get(claim, key)
            if holder != key and isinstance(thing, Association):
                bound = title(self._objects[_references(thing)[1][1]])
                raise ConflictError(
                    field, claim[-1], f"{bound!r} is bound to this VPN already, by association {holder[1]}"
                )
            if holder != key:
                called = title(self._objects[holder])
                raise ConflictError(field, claim[-1], f"{claim[-1]!r} is taken by {holder[0]} {called!r}")

    def _check_beside(self, thing: Object) -> None:
        """Check an object that is in the indexes already against its neighbours."""
        match thing:
            case Subnet():
                self._check_subnet(thing)
            case Port() if thing.network_id is not None:
                self._check_port(thing, thing.network_id)
            case Bgpvpn():
                for association in self.referring("bgpvpn", thing.id, "association"):
                    self._check_vnis(self._owner(association))
            case Association():
                self._check_association(thing)
            case _:
                pass

    def _check_subnet(self, subnet: Subnet) -> None:
        network = ipaddress.ip_network(subnet.cidr)
        for other in self.referring("network", subnet.network_id, "subnet"):
            beside = ipaddress.ip_network(other.cidr)
            if other.id != subnet.id and network.overlaps(beside):  # false for different address families
                raise ConflictError(
                    "cidr", subnet.cidr, f"{subnet.cidr} overlaps with {other.cidr} of the same network"
                )
        holder = self._claims.get(("ip", subnet.network_id, subnet.gateway_ip or ""))
        if holder is not None:
            called = title(self._objects[holder])
            raise ConflictError("gateway_ip", subnet.gateway_ip, f"{subnet.gateway_ip} is taken by port {called!r}")

    def _check_port(self, port: Port, network_id: str) -> None:
        subnets = list(self.referring("network", network_id, "subnet"))
        for text in port.ip_addresses:
            address = ipaddress.ip_address(text)
            subnet = next((each for each in subnets if address in ipaddress.ip_network(each.cidr)), None)
            if subnet is None:
                called = title(self._objects[("network", network_id)])
                raise IntentError("ip_addresses", text, f"{text} is in no subnet of network {called!r}")
            if not is_host(address, ipaddress.ip_network(subnet.cidr)):
                raise IntentError("ip_addresses", text, f"{text} is the own or broadcast address of {subnet.cidr}")
            if text == subnet.gateway_ip:
                raise ConflictError("ip_addresses", text, f"{text} is the gateway of subnet {subnet.cidr}")

    def _check_association(self, association: Association) -> None:
        vpn = self._objects[("bgpvpn", association.bgpvpn_id)]
        field, bound_key = _references(association)[1]
        bound = self._objects[bound_key]
        assert isinstance(vpn, Bgpvpn)
        assert isinstance(bound, Network | Port)
        if bound.project_id != vpn.project_id:
            raise IntentError(
                field,
                bound.id,
                f"{bound_key[0]} {title(bound)!r} is of project {bound.project_id!r}, "
                f"VPN {title(vpn)!r} of {vpn.project_id!r}",
            )
        if vpn.type == "l2" and association.prefixes:
            raise IntentError(
                "prefixes", association.prefixes, f"VPN {title(vpn)!r} is of type l2 and carries no prefixes"
            )
        self._check_vnis(self._owner(association))

    def _owner(self, association: Association) -> Key:
        """Return whose segment an association is about: a network, or a port by itself."""
        if association.network_id is not None:
            return ("network", association.network_id)
        port = self._objects[("port", association.port_id or "")]
        assert isinstance(port, Port)
        return ("port", port.id) if port.network_id is None else ("network", port.network_id)

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
            names = {vpn.vni: title(vpn) for vpn in vpns if vpn.vni is not None}
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
                    other = self._owner(association)
                    if other != owner:
                        theirs = f"{other[0]} {title(self._objects[other])!r}"
                        raise ConflictError("vni", vni, f"VNI {vni} would be in two networks: {called} and {theirs}")

    def _vpns_of(self, bound: Key) -> set[str]:
        return {association.bgpvpn_id for association in self.referring(*bound, "association")}


def _claims(thing: Object) -> list[tuple[Claim, str]]:
    """Return what only one object may hold, each with the field that says it."""
    claims: list[tuple[Claim, str]] = []
    if not isinstance(thing, Association) and thing.name:
        claims.append((("name", kind_of(thing), getattr(thing, "project_id", ""), thing.name), "name"))
    match thing:
        case Port():
            claims.append((("interface", thing.netns, thing.interface), "interface"))
            if thing.network_id is not None:
                claims.append((("mac", thing.network_id, thing.mac_address), "mac_address"))
                claims += [(("ip", thing.network_id, text), "ip_addresses") for text in thing.ip_addresses]
        case Association():
            bound = thing.network_id or thing.port_id or ""
            claims.append((("bound", thing.bgpvpn_id, bound), "port_id" if thing.port_id else "network_id"))
        case Peer():
            claims.append((("address", thing.address), "address"))
    return claims


def _references(thing: Object) -> list[tuple[str, Key]]:
    """Return the objects that an object names, each with the field that does."""
    match thing:
        case Subnet():
            return [("network_id", ("network", thing.network_id))]
        case Port() if thing.network_id is not None:
            return [("network_id", ("network", thing.network_id))]
        case Association() if thing.network_id is not None:
            return [("bgpvpn_id", ("bgpvpn", thing.bgpvpn_id)), ("network_id", ("network", thing.network_id))]
        case Association():
            return [("bgpvpn_id", ("bgpvpn", thing.bgpvpn_id)), ("port_id", ("port", thing.port_id or ""))]
        case Peer():
            fields = {name: field for field, name in thing.policies()}  # each once
            return [(field, ("policy", name)) for name, field in fields.items()]
        case _:
            return []


def _uses(port: Port, subnet: Subnet) -> bool:
    network = ipaddress.ip_network(subnet.cidr)
    return any(ipaddress.ip_address(text) in network for text in port.ip_addresses)


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
