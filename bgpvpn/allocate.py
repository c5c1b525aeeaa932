"""Numbers that are the same after a restart: MPLS labels, VNIs, RD indexes, kernel table and bridge numbers.

A lease is (pool, purpose) -> number.  The purpose says who holds it and what for, so that asking twice gives
the same number, today or after a restart.  The leases are a table; the store reads it and writes
them down before anything that was built from them leaves the node.

A released number is not given to another purpose for `hold_s`, because stale routes of restarting peers may
still send traffic with it (RFC 4724); the same purpose gets it back at any time.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from itertools import chain

import attrs

from speaker.table import Table


class AllocationError(Exception):
    """A number cannot be had, and the text says why; what needs it is not built until it can."""


@attrs.frozen
class Lease:
    """A number in use, or one in quarantine since `released_at` (wall clock seconds, survives restarts)."""

    number: int
    released_at: float | None = None


class Leases:
    """The pools; `table` is the only state."""

    def __init__(self, ranges: Mapping[str, range], hold_s: float = 600.0) -> None:
        self.ranges = dict(ranges)
        self.hold_s = hold_s
        self.table: Table[tuple[str, str], Lease] = Table()
        self._used: dict[str, set[int]] = {pool: set() for pool in ranges}  # of the range: given out once, or reserved
        self._next: dict[str, int] = {pool: numbers.start for pool, numbers in ranges.items()}

    def load(self, leases: Iterable[tuple[str, str, int, float | None]]) -> None:
        """Take over what the store kept: (pool, purpose, number, released at or None)."""
        for pool, purpose, number, released_at in leases:
            self.table.put((pool, purpose), Lease(number, released_at))
            self._use(pool, number)

    def lease(self, pool: str, purpose: str, wall: float) -> int:
        """Return the number of a purpose, a new one at the first asking; `wall` is the time of day in seconds."""
        key = (pool, purpose)
        held = self.table.get(key)
        if held is not None:
            if held.released_at is not None:
                self.table.put(key, Lease(held.number))
            return held.number
        number = self._free(pool, purpose, wall)
        self.table.put(key, Lease(number))
        self._use(pool, number)
        return number

    def release(self, pool: str, purpose: str, wall: float) -> None:
        """Give a number back; it rests for `hold_s` first."""
        held = self.table.get((pool, purpose))
        if held is not None and held.released_at is None:
            self.table.put((pool, purpose), Lease(held.number, wall))

    def keep(self, held: Container[tuple[str, str]], wall: float) -> None:
        """Release all leases but these."""
        for pool, purpose in [key for key in self.table.rows if key not in held]:
            self.release(pool, purpose, wall)

    def reserve(self, pool: str, numbers: Iterable[int]) -> None:
        """Never give out these numbers of a pool (somebody else uses them)."""
        for number in numbers:
            self._use(pool, number)

    def _use(self, pool: str, number: int) -> None:
        if number in self.ranges.get(pool, ()):  # a stored lease may be from another range, configured before
            self._used[pool].add(number)

    def _free(self, pool: str, purpose: str, wall: float) -> int:
        numbers, used = self.ranges[pool], self._used[pool]
        start = self._next[pool]
        if len(used) < len(numbers):
            for number in chain(range(start, numbers.stop), range(numbers.start, start)):
                if number not in used:
                    self._next[pool] = number + 1 if number + 1 < numbers.stop else numbers.start
                    return number
        # All were given out once: take the one that has rested longest.
        rested = [
            (lease.released_at, key)
            for key, lease in self.table.rows.items()
            if key[0] == pool
            and lease.number in numbers
            and lease.released_at is not None
            and wall - lease.released_at >= self.hold_s
        ]
        if not rested:
            raise AllocationError(
                f"no {pool} is free in {numbers.start} to {numbers.stop - 1} for {purpose!r}: {len(used)} are in use"
            )
        _, key = min(rested)
        number = self.table[key].number
        self.table.discard(key)
        return number
