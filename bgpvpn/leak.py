"""A leak: the routes of one VPN are announced anew into another, as lying behind a port of this node.

    received and own VPNv4, VPNv6 routes --by the targets of one VPN--> best per prefix --> [originated]

The port's host forwards between the two: a router, a firewall.  What is announced has the label of the port, which pops
straight to it.  A route that has been in the other VPN is not announced into it once more: its route targets, and its
records of those that it had before, tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice

import attrs

from bgpvpn.announcer import attributes, label_field
from bgpvpn.desired import ObjectKey, Via
from bgpvpn.instance import AFI_OF, Instance, NodeIdentity, Originated, OriginatedTable, Vias
from speaker.decision import Candidate, best
from speaker.path import Path
from speaker.rib import Interest, Rib
from speaker.values import Family, prefix_text
from speaker.wire.attribute import Interner
from speaker.wire.community import is_route_target, route_target_record

Destination = tuple[Family, bytes]
"""A prefix."""


@attrs.frozen
class Way:
    """How packets of leaked routes of one address family come to the port."""

    label: int
    via: Via  # for the other VRFs of this node
    needs: tuple[ObjectKey, ...]


@attrs.frozen
class Into:
    """The VPN that a leak announces into, and how."""

    vrf: str  # of the port
    rd: bytes
    targets: frozenset[bytes]
    local_pref: int | None
    ways: Mapping[Family, Way]  # the families in which the port has an address
    refusal: Callable[[str], str]  # why a prefix may not be announced there, "" if it may
    terms: object  # what `refusal` goes by, to compare
    most: int | None  # so many prefixes

    def differs(self, other: Into) -> bool:
        """Tell whether what is announced may be different."""
        return attrs.evolve(self, refusal=str) != attrs.evolve(other, refusal=str)


class Leak(Instance):
    """The routes of one VPN, announced into another by one port."""

    families = frozenset(AFI_OF)

    def __init__(
        self,
        name: str,
        rib: Rib,
        interest: Interest,
        vias: Vias,
        originated: OriginatedTable,
        identity: NodeIdentity,
        interner: Interner,
    ) -> None:
        super().__init__(name, rib, interest, vias)
        self.originated = originated
        self.identity = identity
        self.interner = interner
        self.into: Into | None = None
        self.refused: dict[Destination, str] = {}
        self._beyond: dict[Destination, None] = {}  # those of them that are more than the VPN takes
        self._keys: dict[Destination, dict[bytes, None]] = {}
        self._dirty: dict[Destination, None] = {}
        self._said: dict[Destination, tuple[Family, bytes]] = {}

    def __len__(self) -> int:
        return len(self._dirty)

    def touch(self, family: Family, key: bytes, path: Path | None) -> None:
        """Note that the route under this NLRI key changed."""
        destination = (family, key[8:])
        if path is not None:
            self._keys.setdefault(destination, {})[key] = None
        self._dirty[destination] = None

    def touch_all(self) -> None:
        """Note that every prefix is to be worked out again."""
        self._dirty.update(dict.fromkeys(self._keys))

    def announce_into(self, into: Into) -> None:
        """Say where to and how the routes are announced."""
        if self.into is None or into.differs(self.into):
            self.touch_all()
        self.into = into

    def close(self) -> None:
        """Take everything back."""
        for destination in list(self._said):
            self._unsay(destination)

    def step(self, most: int) -> int:
        """Work out up to `most` prefixes."""
        dirty = dict(islice(self._dirty.items(), most))
        for destination in dirty:
            del self._dirty[destination]
            family, _ = destination
            found = self.candidates(family, self._keys.get(destination, ()))
            if found:
                self._keys[destination] = dict.fromkeys([candidate.key for candidate in found])
            else:
                self._keys.pop(destination, None)
            usable = [candidate for candidate in found if self._fresh(candidate)]
            self._choose(destination, best(usable)[0] if usable else None)
        if self._beyond and self.into is not None:
            room = len(self._beyond) if self.into.most is None else max(0, self.into.most - len(self._said))
            self._dirty.update(dict.fromkeys(islice(self._beyond, room)))
        return len(dirty)

    def _fresh(self, candidate: Candidate) -> bool:
        """Tell whether a route has not been in the VPN that is announced into."""
        assert self.into is not None
        communities = candidate.path.attributes.ext_communities
        records = map(route_target_record, self.into.targets)
        return self.into.targets.isdisjoint(communities) and not any(record in communities for record in records)

    def _choose(self, destination: Destination, chosen: Candidate | None) -> None:
        into, (family, prefix) = self.into, destination
        assert into is not None
        self.refused.pop(destination, None)
        self._beyond.pop(destination, None)
        way = into.ways.get(family)
        if chosen is None or way is None:
            self._unsay(destination)
            return
        reason = into.refusal(prefix_text(prefix, AFI_OF[family]))
        if not reason and into.most is not None and len(self._said) - (destination in self._said) >= into.most:
            reason = f"the VPN takes at most {into.most} of an association"
            self._beyond[destination] = None
        if reason:
            self.refused[destination] = reason
            self._unsay(destination)
            return
        communities = chosen.path.attributes.ext_communities
        records = {route_target_record(each) for each in communities if is_route_target(each)}
        records.update(each for each in communities if each[1:2] == b"\x13" and each[0] <= 0x02)
        told = attributes(into.targets, into.local_pref, self.identity, self.interner, *sorted(records))
        path = told.path(label_field(way.label))
        self.vias.meaning[path] = way.via
        self.vias.leaked[path] = into.vrf
        key = (family, into.rd + prefix)
        if self._said.get(destination, key) != key:
            self._unsay(destination)
        self._said[destination] = key
        self.originated.put(key, Originated(path, (("vrf", into.vrf), *way.needs)))

    def _unsay(self, destination: Destination) -> None:
        key = self._said.pop(destination, None)
        if key is not None:
            self.originated.discard(key)
