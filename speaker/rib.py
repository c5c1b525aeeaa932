"""All paths that the node knows, by family and source, and who is interested in which route target.

    [ (VPNv4, "local") ]  [ (VPNv4, "192.0.2.9") ]  [ (EVPN, "192.0.2.9") ] ...      one Table each

A table holds NLRI key -> Path (see speaker.path).  A RibReader reads all tables of a family set at once,
those that come later included.

Interest answers which importers (VPN instances) want a route.  That depends on the route targets alone, so
it is worked out once per attribute block (RFC 4364 section 4.3.1) and kept in the block until
any importer changes its targets.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count, takewhile
from typing import Protocol

import attrs

from speaker.path import Attributes, Path
from speaker.table import Reader, Table
from speaker.values import Family

Source = str
RibTable = Table[bytes, Path]


def slot(peer: str, number: int) -> Source:
    """Return the source of a peer's further paths of one destination (RFC 7911); number 0 is that of the first."""
    return f"{peer}#{number}" if number else peer


def peer_of(source: Source) -> str:
    """Return the peer whose source this is."""
    return source.partition("#")[0]


class RibReader:
    """One stage's view of many tables of the RIB."""

    def __init__(self, families: frozenset[Family], sources: frozenset[Source]) -> None:
        self.families = families
        self.sources = sources  # a peer stands for all its slots; empty: all
        self.parts: dict[tuple[Family, Source], Reader[bytes, Path]] = {}
        self.opened = 0  # how many parts it got so far; those of forgotten sources are gone

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts.values())


@attrs.frozen
class Origin:
    """What the decision needs to know of a source (RFC 4271 section 9.1.2.2)."""

    external: bool = False  # an eBGP peer
    router_id: bytes = b"\0\0\0\0"


NOBODY = Origin()


class Rib:
    """The tables of all sources and families."""

    def __init__(self) -> None:
        self.tables: dict[tuple[Family, Source], RibTable] = {}
        self.origins: dict[Source, Origin] = {}  # written when a session comes up
        self._readers: list[RibReader] = []
        self._sources: dict[Family, list[tuple[Source, RibTable]]] = {}

    def table(self, family: Family, source: Source) -> RibTable:
        """Return the table of one source, made at the first asking."""
        table = self.tables.get((family, source))
        if table is None:
            table = self.tables[(family, source)] = Table()
            self._sources.setdefault(family, []).append((source, table))
            for reader in self._readers:
                self._open(reader, family, source)
        return table

    def sources(self, family: Family) -> list[tuple[Source, RibTable]]:
        """Return the tables of a family, by source (hot)."""
        return self._sources.get(family, [])

    def origin(self, source: Source) -> Origin:
        """Return what is known of a source; our own routes come from nobody."""
        return self.origins.get(source, NOBODY)

    def reader(self, families: Iterable[Family], *sources: Source, dirty: bool = True) -> RibReader:
        """Open a reader on the tables of these families, of some peers or of all; all is dirty, or nothing yet."""
        reader = RibReader(frozenset(families), frozenset(sources))
        self._readers.append(reader)
        for family, name in self.tables:
            self._open(reader, family, name, dirty=dirty)
        return reader

    def close(self, reader: RibReader) -> None:
        """Forget a reader."""
        self._readers.remove(reader)
        for part in reader.parts.values():
            part.close()

    def _open(self, reader: RibReader, family: Family, source: Source, *, dirty: bool = True) -> None:
        of = reader.sources
        if family in reader.families and (not of or source in of or peer_of(source) in of):
            reader.parts[(family, source)] = self.tables[(family, source)].reader(dirty=dirty)
            reader.opened += 1

    def forget(self, peer: str) -> bool:
        """Drop the tables of a peer that is gone; False, and none goes, while a reader has not seen them empty."""
        sources = [peer, *takewhile(self.origins.__contains__, (slot(peer, number) for number in count(1)))]
        ended = {(family, source) for family in self._sources for source in sources if (family, source) in self.tables}
        if any(self.tables[at].rows or any(reader.dirty for reader in self.tables[at].readers) for at in ended):
            return False
        for at in ended:
            del self.tables[at]
            for reader in self._readers:
                reader.parts.pop(at, None)
        for family in {family for family, _ in ended}:
            self._sources[family] = [each for each in self._sources[family] if each[0] not in sources]
        for source in sources:
            self.origins.pop(source, None)
        return True

    def __len__(self) -> int:
        return sum(len(table) for table in self.tables.values())


class Importer(Protocol):
    """Who takes routes by route target: a VPN instance."""

    families: frozenset[Family]


class Interest:
    """Which route targets are imported, and by whom."""

    def __init__(self) -> None:
        self.version = 0
        self.targets: Table[bytes, bool] = Table()  # every route target that anybody imports (RFC 4684 reads it)
        self._of: dict[Importer, frozenset[bytes]] = {}
        self._by_target: dict[bytes, dict[Importer, None]] = {}

    def set(self, importer: Importer, targets: frozenset[bytes]) -> bool:
        """Say what an importer wants now, an empty set takes it out; True if that changed it."""
        before = self._of.get(importer, frozenset())
        if before == targets:
            return False
        if targets:
            self._of[importer] = targets
        else:
            del self._of[importer]
        for target in sorted(before - targets):
            importers = self._by_target[target]
            del importers[importer]
            if not importers:
                del self._by_target[target]
                self.targets.discard(target)
        for target in sorted(targets - before):
            self._by_target.setdefault(target, {})[importer] = None
            self.targets.put(target, True)
        self.version += 1
        return True

    def of(self, attributes: Attributes) -> tuple[object, ...]:
        """Return who imports routes with these attributes (hot: a look at the block, nothing else)."""
        if attributes.imports_version != self.version:
            found: dict[Importer, None] = {}
            for target in attributes.route_targets:
                for importer in self._by_target.get(target, ()):
                    found[importer] = None
            attributes.importers = tuple(found)
            attributes.imports_version = self.version
        return attributes.importers
