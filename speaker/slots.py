"""Where the paths of one family from one peer stand in the RIB, with ADD-PATH (RFC 7911) and without.

Without it a key as the peer says it is an NLRI key, and there is one table.  With it four octets of path identifier
stand in front, and each path of a destination has a slot of its own, the lowest that is free:

    00000007 K --+              [ (family, "PEER")   K -> path ]
    00000009 K ----- numbers -> [ (family, "PEER#1") K -> path ]
    00000007 L --+              ...

What is told of a destination is found by way of `of`: one key, or a tuple of several.

Which path has which slot depends on the order in which they came; nothing but the names of sources follows from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from speaker.path import Path
from speaker.rib import Rib, RibTable, slot
from speaker.values import Family

MOST_PATHS = 32
"""Of one destination from one peer; more are not taken."""

PATH_ID_OCTETS = 4


class Slots:
    """The tables of one family and peer; a key has the path identifier in front where `add_path` says so."""

    def __init__(self, rib: Rib, family: Family, peer: str) -> None:
        self.rib = rib
        self.family = family
        self.peer = peer
        self.add_path = False  # changed only while there is nothing in the tables
        self.tables: list[RibTable] = [rib.table(family, peer)]  # by slot
        self.numbers: dict[bytes, int] = {}  # key: slot; with ADD-PATH only
        self.of: dict[bytes, bytes | tuple[bytes, ...]] = {}  # NLRI key: the keys that stand here

    def __len__(self) -> int:
        return len(self.told())

    def told(self) -> Mapping[bytes, object]:
        """Return all keys that stand here, not to be written."""
        return self.numbers if self.add_path else self.tables[0].rows

    def told_of(self, nlri: bytes) -> tuple[bytes, ...]:
        """Return the keys of one destination that stand here."""
        if not self.add_path:
            return (nlri,) if nlri in self.tables[0].rows else ()
        keys = self.of.get(nlri, ())
        return (keys,) if isinstance(keys, bytes) else keys

    def nlri(self, key: bytes) -> bytes:
        """Return the NLRI key alone."""
        return key[PATH_ID_OCTETS:] if self.add_path else key

    def get(self, key: bytes) -> Path | None:
        """Return the path that stands here, or None."""
        if not self.add_path:
            return self.tables[0].rows.get(key)
        number = self.numbers.get(key)
        return None if number is None else self.tables[number].rows[key[PATH_ID_OCTETS:]]

    def put(self, key: bytes, path: Path) -> bool:
        """Write a path, in the place of the one with the same key; False if there is no slot for it (hot)."""
        if not self.add_path:
            self.tables[0].put(key, path)
            return True
        nlri = key[PATH_ID_OCTETS:]
        number = self.numbers.get(key)
        if number is None:
            keys = self.told_of(nlri)
            number = next((free for free, table in enumerate(self.tables) if nlri not in table.rows), len(self.tables))
            if number == MOST_PATHS:
                return False
            if number == len(self.tables):
                self._grow()
            self.numbers[key] = number
            self.of[nlri] = (*keys, key) if keys else key
        self.tables[number].put(nlri, path)
        return True

    def _grow(self) -> None:
        source = slot(self.peer, len(self.tables))
        self.rib.origins[source] = self.rib.origin(self.peer)
        self.tables.append(self.rib.table(self.family, source))

    def discard_all(self, keys: Iterable[bytes]) -> None:
        """Remove paths; absent ones are nothing."""
        if not self.add_path:
            self.tables[0].discard_all(keys)
            return
        for key in keys:
            number = self.numbers.pop(key, None)
            if number is not None:
                nlri = key[PATH_ID_OCTETS:]
                self.tables[number].discard(nlri)
                left = tuple(each for each in self.told_of(nlri) if each != key)
                if left:
                    self.of[nlri] = left
                else:
                    del self.of[nlri]

    def sources(self, nlri: bytes) -> dict[int, str]:
        """Return the source at which each path of a destination stands, by path identifier; 0 without ADD-PATH."""
        if not self.add_path:
            return {0: self.peer} if nlri in self.tables[0].rows else {}
        return {
            int.from_bytes(key[:PATH_ID_OCTETS], "big"): slot(self.peer, self.numbers[key])
            for key in self.told_of(nlri)
        }
