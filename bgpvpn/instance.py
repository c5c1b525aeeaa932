"""What VRFs and EVIs have in common: which routes reach them, and what they say themselves.

    [rib] --by route target--> Instance: destination -> NLRI keys, dirty destinations --best--> [desired]
    [endpoints] -----------------> Instance: own routes -----------------------------------> [originated]

An instance holds no routes, only which NLRI keys lead to a destination; the paths are read from the RIB when the
destination is worked out.  A destination is whatever the instance chooses among: a prefix in a VRF, a MAC in an EVI.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterable, Sequence

import attrs

from bgpvpn.desired import Afi, Labelled, NextHop, ObjectKey, Via
from bgpvpn.intent import Bgpvpn
from speaker.decision import LOCAL, Candidate
from speaker.path import Attributes, Path
from speaker.rib import Interest, Rib, RibReader
from speaker.table import Table
from speaker.values import Family, RouteTarget

FAMILY_OF: dict[int, Family] = {4: Family.VPNV4, 6: Family.VPNV6}
AFI_OF: dict[Family, Afi] = {Family.VPNV4: 4, Family.VPNV6: 6}
"""Address families of VRFs."""


@attrs.frozen
class NodeIdentity:
    """What a node puts into its routes."""

    router_id: bytes  # 4 octets
    tunnel_v4: bytes | None  # address of the node's tunnels
    tunnel_v6: bytes | None = None
    gateway_mac: bytes = b"\x00\x00\x5e\x00\x43\x64"
    vxlan_port: int = 4789

    @property
    def router_mac(self) -> bytes:
        """Return the node's own MAC as a router over VXLAN: locally administered, made of its router id."""
        return b"\x02\x00" + self.router_id

    @property
    def tunnel(self) -> bytes:
        """Return the address that routes name as their next hop."""
        return self.tunnel_v4 or self.tunnel_v6 or b""


@attrs.frozen
class Originated:
    """A route of our own, and the objects that must be active before it may be announced."""

    path: Path
    needs: tuple[ObjectKey, ...]


def weighed(hop: NextHop, weight: int) -> NextHop:
    """Return a next hop with this weight; those on this node have none."""
    return attrs.evolve(hop, weight=weight) if isinstance(hop, Labelled) and hop.weight != weight else hop


Touch = Callable[[Family, bytes, Path | None], None]
OriginatedTable = Table[tuple[Family, bytes], Originated]


class Vias:
    """Next hops and Vias, interned, and which Via each path means."""

    def __init__(self) -> None:
        self.meaning: dict[Path, Via] = {}  # received paths that can be used
        self.own: dict[Path, str] = {}  # our own paths -> the VRF or EVI of this node that they lead into
        self.leaked: dict[Path, str] = {}  # paths of leaks -> the VRF that the port is in; where to, `meaning` tells
        self.refusals: dict[Attributes, str] = {}  # why no path with these attributes can be used, "" if one may
        self._vias: dict[tuple[tuple[NextHop, ...], ...], Via] = {}
        self._new_pes: dict[bytes, None] = {}

    def take_new_pes(self) -> list[bytes]:
        """Return the PE addresses of Vias made since the last call."""
        pes = list(self._new_pes)
        self._new_pes.clear()
        return pes

    def of(self, tiers: Iterable[Iterable[NextHop]]) -> Via | None:
        """Return the Via for tiers of next hops; of one, with whatever weights, only where it stands first counts."""
        seen: set[NextHop] = set()
        kept: list[tuple[NextHop, ...]] = []
        for tier in tiers:
            places: dict[NextHop, NextHop] = {}
            for hop in tier:
                places.setdefault(weighed(hop, 1), hop)
            hops = tuple(hop for place, hop in places.items() if place not in seen)
            seen.update(places)
            if hops:
                kept.append(hops)
        return self._interned(tuple(kept)) if kept else None

    def to(self, hops: Iterable[NextHop]) -> Via:
        """Return the Via for one tier of different next hops, at least one."""
        return self._interned((tuple(hops),))

    def _interned(self, key: tuple[tuple[NextHop, ...], ...]) -> Via:
        via = self._vias.get(key)
        if via is None:
            via = self._vias[key] = Via(key)
            self._new_pes.update((hop.pe, None) for tier in key for hop in tier if isinstance(hop, Labelled))
        return via

    def keep(self, vias: Iterable[Via], paths: Container[Path]) -> set[bytes]:
        """Forget all Vias and paths but these; return the PEs that these Vias lead to.

        What a path to another PE means is forgotten too, so that its PE is new when the path is chosen again.
        """
        self._vias = {via.tiers: via for via in vias}
        pes = {hop.pe for tiers in self._vias for tier in tiers for hop in tier if isinstance(hop, Labelled)}
        self.own = {path: instance for path, instance in self.own.items() if path in paths}
        self.leaked = {path: vrf for path, vrf in self.leaked.items() if path in paths}
        self.refusals.clear()
        self.meaning = {
            path: via
            for path, via in self.meaning.items()
            if path in paths and all(hop.pe in pes for hop in via.tiers[0] if isinstance(hop, Labelled))
        }
        self._vias.update((via.tiers, via) for via in self.meaning.values())
        return pes


class Instance(ABC):
    """A VRF or an EVI: the importing half."""

    families: frozenset[Family] = frozenset()

    def __init__(self, name: str, rib: Rib, interest: Interest, vias: Vias) -> None:
        self.name = name
        self.rib = rib
        self.interest = interest
        self.vias = vias

    @abstractmethod
    def __len__(self) -> int:
        """Return how many destinations are to be worked out."""

    def __bool__(self) -> bool:
        return True

    @abstractmethod
    def step(self, most: int) -> int:
        """Work out up to `most` destinations; return how many there were."""

    @abstractmethod
    def touch(self, family: Family, key: bytes, path: Path | None) -> None:
        """Note that a route of ours came, went or changed; its destinations are to be worked out again."""

    @abstractmethod
    def touch_all(self) -> None:
        """Note that every destination is to be worked out again."""

    def candidates(self, family: Family, keys: Iterable[bytes]) -> list[Candidate]:
        """Return the paths under these keys that this instance imports or said itself, from all sources."""
        found = []
        importers_of, own = self.interest.of, self.vias.own
        for source, table in self.rib.sources(family):
            get = table.rows.get
            for key in keys:
                path = get(key)
                if path is not None and (self in importers_of(path.attributes) or own.get(path) == self.name):
                    origin = self.rib.origin(source)
                    found.append(Candidate(path, source, key, origin.external, origin.router_id))
        return found


class Importing:
    """The stage [rib] -> instances, by route target (hot: once for every changed route).

    A route of our own also goes to the instance that said it, whether or not that imports what it exports: an instance
    knows its own endpoints.
    """

    def __init__(self, rib: Rib, interest: Interest, owner: Callable[[Family, Path], Instance | None]) -> None:
        """`owner` tells which instance of this node said a route."""
        self.rib = rib
        self.interest = interest
        self.owner = owner
        self.reader: RibReader = rib.reader((Family.VPNV4, Family.VPNV6, Family.EVPN))
        self._offers: dict[tuple[Family, str], list[bytes]] = {}  # NLRI keys that `_offered` are still to look at
        self._offered: dict[Instance, None] = {}

    def __len__(self) -> int:
        return len(self.reader) + sum(map(len, self._offers.values()))

    def step(self, most: int) -> int:
        """Tell the instances about up to `most` changed or offered routes; return how many there were."""
        done = self._offer(most) if self._offers else 0
        for (family, source), part in self.reader.parts.items():
            if not part.dirty:
                continue
            if done >= most:
                break
            dirty = part.take(most - done)
            done += len(dirty)
            get = part.table.rows.get
            touches: dict[Attributes, list[Touch]] = {}  # routes come in groups with the same attributes
            for key, seen in dirty.items():
                path = get(key)
                if path is not None:
                    attributes = path.attributes
                    if attributes not in touches:
                        touches[attributes] = self._touches(family, attributes)
                    for touch in touches[attributes]:
                        touch(family, key, path)
                if seen is not None and (path is None or seen.attributes is not path.attributes):
                    for touch in self._touches(family, seen.attributes):
                        touch(family, key, path)
                if source == LOCAL:
                    self._touch_owners(family, key, seen, path)
        return done

    def _touches(self, family: Family, attributes: Attributes) -> list[Touch]:
        """Return what tells the importers of a route; an l2 and an l3 VPN may share a route target."""
        return [instance.touch for instance in self._importers(attributes) if family in instance.families]

    def _importers(self, attributes: Attributes) -> tuple[Instance, ...]:
        return self.interest.of(attributes)  # type: ignore[return-value]

    def _touch_owners(self, family: Family, key: bytes, seen: Path | None, path: Path | None) -> None:
        for each in (seen, path):
            owner = self.owner(family, each) if each is not None else None
            if owner is not None:
                owner.touch(family, key, path)

    def rebuild(self, instances: Sequence[Instance]) -> None:
        """Offer all routes to instances whose import targets changed, and let them choose anew.

        Only `step` goes through the routes.  Who is being offered them already is offered all once more.
        """
        for instance in instances:
            instance.touch_all()
        self._offered.update(dict.fromkeys(instances))
        families = frozenset().union(*(instance.families for instance in self._offered))
        self._offers = {
            at: list(part.table.rows) for at, part in self.reader.parts.items() if at[0] in families and part.table.rows
        }

    def _offer(self, most: int) -> int:
        done = 0
        for (family, source), keys in list(self._offers.items()):
            part = self.reader.parts.get((family, source))
            if part is None:  # the peer is forgotten, and its routes were gone before
                del self._offers[family, source]
                continue
            wanting = [instance for instance in self._offered if family in instance.families]
            share = keys[done - most :]
            del keys[done - most :]
            done += len(share)
            for key in share:
                path = part.table.rows.get(key)
                if path is None or key in part.dirty:
                    # `step` will tell of it; who heard of it here would not hear if it is withdrawn before that.
                    continue
                importers = self._importers(path.attributes)
                for instance in wanting:
                    if instance in importers:
                        instance.touch(family, key, path)
            if not keys:
                del self._offers[family, source]
            if done == most:
                break
        if not self._offers:
            self._offered.clear()
        return done


def targets(vpns: Iterable[Bgpvpn], direction: str) -> frozenset[bytes]:
    """Return the route targets of VPNs, 8 octets each; `direction` is "import" or "export"."""
    texts = (
        text
        for vpn in vpns
        for text in (*vpn.route_targets, *(vpn.import_targets if direction == "import" else vpn.export_targets))
    )
    return frozenset(RouteTarget.parse(text).wire for text in texts)
