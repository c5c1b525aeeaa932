"""Intent: all that users want of this node, and what must hold between its objects.

An object by itself is checked by its class (`bgpvpn.objects`). What it says of others is checked by `Intent.plan`,
which changes nothing:

    wishes --plan--> changes --Store.write--> (durable) --apply--> [tables]

What objects say of each other stands in `bgpvpn.relations`, what must hold between them in `bgpvpn.beside`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import attrs

from bgpvpn.beside import Beside
from bgpvpn.objects import (
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
from bgpvpn.relations import KEPT_BY, Index, Key, listed, references, uses, without
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
    "references",
    "title",
]


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
        self._index = Index()
        self._rules = Beside(self._index)

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
            undo.append((key, self._index.objects.get(key), stamps.get(key)))
            self._index.set(key, thing)
            old = stamps.get(key) or self.stamps.get(key) or Stamp(0, wall, wall)
            stamps[key] = stamp = old if thing is None else Stamp(old.revision + 1, old.created_at, wall)
            changes.append(Change(*key, thing, stamp))

        def take_back(down_to: int) -> None:
            while len(undo) > down_to:
                key, seen, stamp = undo.pop()
                self._index.set(key, seen)
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
        if self._index.objects.get(key) != wish:
            self._check_configured(key)
            self._rules.check_alone(key, wish)
            settle(key, wish)
            self._rules.check_beside(wish)
            if not stored:
                self._rules.check_bounds(wish)

    def apply(self, changes: Iterable[Change]) -> None:
        """Write changes that `plan` returned and the store has taken."""
        self.writes += 1
        for change in changes:
            key = (change.kind, change.id)
            self._index.set(key, change.thing)
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
        return self._index.referring(kind, id_, of)

    def routers_of(self, network_id: str) -> Iterator[Router]:
        """Yield the routers that have an interface in a network, each once."""
        return self._index.routers_of(network_id)

    def find(self, kind: Kind, text: str) -> Object | None:
        """Return the object with this id, else with this name; ConflictError if several projects have the name."""
        thing: Object | None = self._index.objects.get((kind, text))
        if thing is not None or not text:
            return thing
        named = [each for each in self.tables[kind].rows.values() if getattr(each, "name", "") == text]
        if len(named) > 1:
            where = ", ".join(f"{each.id} in project {each.project_id}" for each in named)
            raise ConflictError(
                "name", text, f"{len(named)} {plural(kind)} are called {text!r}; say which by its id: {where}"
            )
        return named[0] if named else None

    def _removed(self, wish: Removal) -> list[tuple[Key, Object | None]]:
        """Return what becomes of an object and of those that refer to it, these first; None: it goes too."""
        key = (wish.kind, wish.id)
        if key not in self._index.objects:
            raise IntentError("id", wish.id, f"there is no {wish.kind} {wish.id!r}")
        self._check_configured(key)
        thing = self._index.objects[key]
        left = [
            (other, without(self._index.objects[other], key))
            for kind, ids in self._index.referrers.get(key, {}).items()
            for other in ((kind, id_) for id_ in ids)
        ]
        if isinstance(thing, Subnet):
            users = [title(port) for port in self.referring("network", thing.network_id, "port") if uses(port, thing)]
            if users:
                raise ConflictError("id", thing.id, f"ports have addresses in subnet {thing.cidr}: {listed(users)}")
        if isinstance(thing, Network) and (routers := [title(each) for each in self.routers_of(thing.id)]):
            raise ConflictError("id", thing.id, f"network {title(thing)!r} is on router {listed(routers)}")
        for kind, what in KEPT_BY.get(wish.kind, {}).items():
            users = [title(self._index.objects[other]) for other, _ in left if other[0] == kind]
            if users:
                raise ConflictError("id", thing.id, f"{wish.kind} {title(thing)!r} {what} {listed(users)}")
        return [*left, (key, None)]

    def _check_configured(self, key: Key) -> None:
        if key in self.configured:
            called = title(self._index.objects[key])
            raise ConflictError("id", key[1], f"{key[0]} {called!r} is set in the configuration file; change it there")
