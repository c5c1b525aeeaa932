"""Repairs of what others changed: how many there were, and how long a change is left alone first.

A change is read again, and put right, after a tenth of a second.  Whoever then changes the same row again is fought
ever more slowly, up to ten seconds, so that two programs do not spend the node's time on each other.
"""

from __future__ import annotations

import math
from collections.abc import Hashable

FIRST_DELAY_S, LONGEST_DELAY_S = 0.1, 10.0
FIGHT_S = 2 * LONGEST_DELAY_S
"""A row that is changed again within this time is fought over."""

REMEMBERED = 10_000


class Repairs:
    """The repairs of a node."""

    def __init__(self) -> None:
        self.total = 0
        self._delay_s = FIRST_DELAY_S
        self._fought_at = -math.inf
        self._at: dict[Hashable, float] = {}  # row -> when it was repaired last; the oldest first

    def due(self, now: float) -> float:
        """Return when what was changed now is to be read again."""
        if now - self._fought_at > FIGHT_S:
            self._delay_s = FIRST_DELAY_S
        return now + self._delay_s

    def note(self, row: Hashable, now: float) -> None:
        """Note that a row was found changed and is put right."""
        self.total += 1
        if now - self._at.pop(row, -math.inf) < FIGHT_S and now > self._fought_at:
            self._fought_at = now
            self._delay_s = min(self._delay_s * 2, LONGEST_DELAY_S)
        self._at[row] = now
        if len(self._at) > REMEMBERED:
            del self._at[next(iter(self._at))]
