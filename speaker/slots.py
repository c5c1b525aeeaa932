"""Where the paths of one family from one peer stand in the RIB, with ADD-PATH (RFC 7911) and without.

Without it a key as the peer says it is an NLRI key, and there is one table.  With it four octets of path identifier
stand in front, and each path of a destination has a slot of its own, the lowest that is free:

    00000007 K --+              [ (family, "PEER")   K -> path ]
    00000009 K ----- numbers -> [ (family, "PEER#1") K -> path ]
    00000007 L --+              ...

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
_NONE: Mapping[bytes, int] = {}


class Slots:
    """The tables of one family and peer; a key has the path identifier in front where `add_path` says so."""

    def __init__(self, rib: Rib, family: Family, peer: str) -> None:
        self.rib = rib
        self.family = family
        self.peer = peer
        self.add_path = False  # changed only while there is nothing in the tables
        self.tables: list[RibTable] = [rib.table(family, peer)]  # by slot
        self.numbers: dict[bytes, dict[bytes, int]] = {}  # NLRI key, path identifier: slot; with ADD-PATH only

    def __len__(self) -> int:
        return sum([len(table.rows) for table in self.tables])

    def told(self) -> list[bytes]:
        """Return all keys that stand here."""
        if not self.add_path:
            return list(self.tables[0].rows)
        return [path_id + key for key, numbers in self.numbers.items() for path_id in numbers]

    def nlri(self, key: bytes) -> bytes:
        """Return the NLRI key alone."""
        return key[PATH_ID_OCTETS:] if self.add_path else key

    def get(self, key: bytes) -> Path | None:
        """Return the path that stands here, or None."""
        if not self.add_path:
            return self.tables[0].rows.get(key)
        nlri = key[PATH_ID_OCTETS:]
        number = self.numbers.get(nlri, _NONE).get(key[:PATH_ID_OCTETS])
        return None if number is None else self.tables[number].rows[nlri]

    def put(self, key: bytes, path: Path) -> bool:
        """Write a path, in the place of the one with the same key; False if there is no slot for it (hot)."""
        if not self.add_path:
            self.tables[0].put(key, path)
            return True
        path_id, nlri = key[:PATH_ID_OCTETS], key[PATH_ID_OCTETS:]
        numbers = self.numbers.get(nlri)
        if numbers is None:
            numbers = self.numbers[nlri] = {path_id: 0}
        number = numbers.get(path_id)
        if number is None:
            if len(numbers) >= MOST_PATHS:
                return False
            taken = set(numbers.values())
            number = numbers[path_id] = next(each for each in range(MOST_PATHS) if each not in taken)
            if number == len(self.tables):
                self._grow()
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
            nlri = key[PATH_ID_OCTETS:]
            numbers = self.numbers.get(nlri)
            number = None if numbers is None else numbers.pop(key[:PATH_ID_OCTETS], None)
            if number is not None:
                self.tables[number].discard(nlri)
                if not numbers:
                    del self.numbers[nlri]

    def sources(self, nlri: bytes) -> dict[int, str]:
        """Return the source at which each path of a destination stands, by path identifier; 0 without ADD-PATH."""
        if not self.add_path:
            return {0: self.peer} if nlri in self.tables[0].rows else {}
        numbers = self.numbers.get(nlri, _NONE)
        return {int.from_bytes(path_id, "big"): slot(self.peer, number) for path_id, number in numbers.items()}
