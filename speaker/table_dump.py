"""A dump of all that is known now, as MRT records (RFC 6396, RFC 8050), made in small shares so that nobody waits.

The tables may change between two shares: each destination is told once, as it was at its turn, and one that came after
the turn of its peer is not in the dump.  Peer 0 is the node itself, with the address 0.0.0.0; peers whose session is
down are there too, for their routes may outlive it (RFC 4724).

Deviation from RFC 6396 section 4.3.4: when a route came is not remembered.  "Originated" is since when its peer's
session is up, or down, and for our own routes since when the node runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import attrs

from speaker.adj_rib_in import AdjRibIn
from speaker.decision import LOCAL, is_own
from speaker.engine import Engine
from speaker.mrt import Entry, IndexedPeer, peer_index_table, rib
from speaker.path import Path
from speaker.rib import RibTable, Source, peer_of
from speaker.values import Family

KEYS_A_SHARE = 64
LOOKED_AT_A_SHARE = 4096

Paths = Iterable[tuple[bytes, Path]]
"""Paths of one destination from one peer, each with its path identifier of 4 octets, or none."""


@attrs.frozen(kw_only=True)
class Dumped:
    """Who routes are from: the entry in the index, and since when they can be there, in seconds since 1970."""

    peer: IndexedPeer
    since: int


def table_dump(
    engine: Engine, sources: Mapping[str, Dumped], families: Iterable[Family], *, pre_policy: bool, wall: int
) -> Iterator[bytes]:
    """Yield runs of whole records, each of one share of the work; empty ones are nothing but a share.

    `sources` has LOCAL, with our BGP identifier, and names of neighbours; `wall` is seconds since 1970.
    """
    order = [LOCAL, *(name for name in sources if name != LOCAL)]
    yield peer_index_table(wall, sources[LOCAL].peer.router_id, [sources[name].peer for name in order])
    sequence = 0
    for family in families:
        views: list[tuple[int, int, _Own | _Heard]] = []
        for number, name in enumerate(order):
            view = _view(engine, family, name, pre_policy)
            if isinstance(view, _Heard):
                yield from view.look()
            if view is not None:
                views.append((number, sources[name].since, view))
        seen: set[bytes] = set()
        runs = [mapping for *_, view in views for mapping in view.mappings()]
        for number, run in enumerate(runs):
            keys = list(run)
            for at in range(0, len(keys), KEYS_A_SHARE):
                share = [key for key in keys[at : at + KEYS_A_SHARE] if key not in seen]
                if number < len(runs) - 1:
                    seen.update(share)
                records = []
                for key in share:
                    for (extra, _), entries in _entries(views, key).items():
                        records.append(rib(wall, sequence & 0xFFFFFFFF, family, key, extra, entries))
                        sequence += 1
                yield b"".join(records)


def _entries(views: Iterable[tuple[int, int, _Own | _Heard]], key: bytes) -> dict[tuple[bytes, bool], list[Entry]]:
    """Return what is said of a destination, apart where labels differ, which are in the NLRI, and by path identifiers.

    A record has entries with path identifiers or without (RFC 8050 section 4), and one NLRI.
    """
    found: dict[tuple[bytes, bool], list[Entry]] = {}
    for number, since, view in views:
        for path_id, path in view.paths(key):
            entry = Entry(number, since, path.attributes, path_id)
            found.setdefault((path.extra, bool(path_id)), []).append(entry)
    return found


class _Own:
    """Our own routes of a family, whoever hears them: of a destination there may be several."""

    def __init__(self, tables: Iterable[RibTable]) -> None:
        self._tables = [table.rows for table in tables]

    def mappings(self) -> Iterable[Mapping[bytes, object]]:
        return self._tables

    def paths(self, key: bytes) -> Paths:
        return [(b"", path) for rows in self._tables if (path := rows.get(key)) is not None]


class _Heard:
    """The routes of a family from one peer: after the import policy, or as they came."""

    def __init__(self, adj_rib_in: AdjRibIn, family: Family, pre_policy: bool) -> None:
        self._adj_rib_in = adj_rib_in
        self._family = family
        sources = adj_rib_in.rib.sources(family)
        self._tables = [table.rows for source, table in sources if peer_of(source) == adj_rib_in.source]
        self._add_path = adj_rib_in.has_path_ids(family)
        held = adj_rib_in.held.get(family) if pre_policy else None
        self._held: Mapping[bytes, Path] = {} if held is None else held.rows
        self._held_ids: dict[bytes, dict[int, None]] = {}  # path identifiers of what is held, by NLRI key

    def look(self) -> Iterator[bytes]:
        """Find the path identifiers of what is held; with ADD-PATH only."""
        if not self._add_path:
            return
        for number, told in enumerate(list(self._held)):
            if number % LOOKED_AT_A_SHARE == 0:
                yield b""
            self._held_ids.setdefault(told[4:], {})[int.from_bytes(told[:4], "big")] = None

    def mappings(self) -> Iterable[Mapping[bytes, object]]:
        """Return what has all NLRI keys among its keys, some more than once."""
        yield from self._tables
        yield self._held_ids if self._add_path else self._held

    def paths(self, key: bytes) -> Paths:
        sources = self._adj_rib_in.sources(self._family, key)
        if not self._add_path:
            path = self._held.get(key) or self._in_rib(sources.get(0), key)
            return () if path is None else ((b"", path),)
        found: list[tuple[bytes, Path]] = []
        for number in {**sources, **self._held_ids.get(key, {})}:
            path_id = number.to_bytes(4, "big")
            path = self._held.get(path_id + key) or self._in_rib(sources.get(number), key)
            if path is not None:
                found.append((path_id, path))
        return found

    def _in_rib(self, source: Source | None, key: bytes) -> Path | None:
        return None if source is None else self._adj_rib_in.rib.table(self._family, source).get(key)


def _view(engine: Engine, family: Family, name: str, pre_policy: bool) -> _Own | _Heard | None:
    if name == LOCAL:
        tables = [table for source, table in engine.rib.sources(family) if is_own(source)]
        return _Own(tables) if tables else None
    neighbour = engine.neighbours.get(name)
    if neighbour is None or (family, name) not in engine.rib.tables:
        return None
    return _Heard(neighbour.adj_rib_in, family, pre_policy)
