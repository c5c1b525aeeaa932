"""Table and Reader: the one data structure of the house.

A Table is a dict that remembers, for each of its readers, which keys changed since that reader last
looked, and what the reader saw there then:

            put, discard                      take
    writer ------------> [ Table ] ~~dirty~~> Reader ---> stage
                             ^                               |
                             +------- present value ---------+

A new reader finds every key dirty, so a late VPN, a new peer and a resync are the same thing as a first
start.  Changes of one key between two looks are one change: the table holds states, not events, and that
is the back-pressure.

A reader learns for each dirty key the value that it saw last (None: none), so that a stage which
moves a route from one place to another need not remember where it put it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Reader(Generic[K, V]):
    """One reader's view of a table: which keys changed since it last took them."""

    __slots__ = ("dirty", "table")

    def __init__(self, table: Table[K, V], *, dirty: bool = True) -> None:
        self.table = table
        self.dirty: dict[K, V | None] = dict.fromkeys(table.rows) if dirty else {}

    def __len__(self) -> int:
        return len(self.dirty)

    def take(self, most: int | None = None) -> dict[K, V | None]:
        """Take up to `most` dirty keys, oldest first, each with the value seen last; they are clean then."""
        dirty = self.dirty
        if most is None or len(dirty) <= most:
            self.dirty = {}
            return dirty
        taken = dict(islice(dirty.items(), most))
        for key in taken:
            del dirty[key]
        return taken

    def again(self, keys: Iterable[K]) -> None:
        """Mark present or past keys dirty once more, as if they had just changed (retry, refresh)."""
        rows = self.table.rows
        for key in keys:
            self.dirty.setdefault(key, rows.get(key))

    def close(self) -> None:
        """Stop being told of changes."""
        self.table.readers.remove(self)


class Table(Generic[K, V]):
    """Rows by key, with change tracking per reader; one writer.

    Values are compared by identity first and then by equality: interned or frozen values only.
    `rows` may be read by anyone and written by none but the methods here.
    """

    __slots__ = ("readers", "rows")

    def __init__(self) -> None:
        self.rows: dict[K, V] = {}
        self.readers: list[Reader[K, V]] = []

    def reader(self, *, dirty: bool = True) -> Reader[K, V]:
        """Open a new reader; every present key is dirty for it, unless it goes through those by itself."""
        reader: Reader[K, V] = Reader(self, dirty=dirty)
        self.readers.append(reader)
        return reader

    def __len__(self) -> int:
        return len(self.rows)

    def __contains__(self, key: object) -> bool:
        return key in self.rows

    def __iter__(self) -> Iterator[K]:
        return iter(self.rows)

    def __getitem__(self, key: K) -> V:
        return self.rows[key]

    def get(self, key: K) -> V | None:
        """Return the row, or None."""
        return self.rows.get(key)

    def put(self, key: K, value: V) -> bool:
        """Write a row; True if that changed it."""
        seen = self.rows.get(key)
        if seen is value or seen == value:
            return False
        self.rows[key] = value
        for reader in self.readers:
            reader.dirty.setdefault(key, seen)
        return True

    def put_all(self, changes: Mapping[K, V]) -> None:
        """Write many rows of identity-compared values (hot: one call per UPDATE)."""
        rows = self.rows
        readers = self.readers
        if len(readers) == 1:
            dirty = readers[0].dirty
            for key, value in changes.items():
                seen = rows.get(key)
                if seen is not value:
                    rows[key] = value
                    if key not in dirty:
                        dirty[key] = seen
            return
        for key, value in changes.items():
            seen = rows.get(key)
            if seen is not value:
                rows[key] = value
                for reader in readers:
                    reader.dirty.setdefault(key, seen)

    def discard(self, key: K) -> bool:
        """Remove a row; True if there was one."""
        seen = self.rows.pop(key, None)
        if seen is None:
            return False
        for reader in self.readers:
            reader.dirty.setdefault(key, seen)
        return True

    def discard_all(self, keys: Iterable[K]) -> None:
        """Remove many rows; absent ones are nothing."""
        for key in keys:
            self.discard(key)

    def sync(self, wanted: Mapping[K, V]) -> None:
        """Make the rows equal to `wanted`, dirtying only what differs."""
        for key in [key for key in self.rows if key not in wanted]:
            self.discard(key)
        for key, value in wanted.items():
            self.put(key, value)
