"""Rows that the kernel refused, each with its reason and the time of its next trial."""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heappop, heappush
from itertools import count

import attrs

from bgpvpn.dataplane.rows import Refusal

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 30.0
LONGEST_WAIT_S = 5.0  # for others' doing, which is not always told: an interface in another network namespace


@attrs.frozen
class Trial:
    """When a refused row is tried again."""

    refusal: Refusal
    delay_s: float
    due: float | None  # None: being tried now


class Refused:
    """Back-off by row: 0.1 s, doubled by each refusal up to 30 s, forgotten with the first success.

    What waits for others' doing is tried every 5 s at least.
    """

    def __init__(self) -> None:
        self.trials: dict[Hashable, Trial] = {}
        self.total = 0  # refusals since the start
        self._heap: list[tuple[float, int, Hashable]] = []  # entries whose time is not their trial's are void
        self._order = count()

    def __contains__(self, row: Hashable) -> bool:
        return row in self.trials

    def add(self, row: Hashable, refusal: Refusal, now: float) -> None:
        """Note a refusal, and when to try again."""
        before = self.trials.get(row)
        longest_s = LONGEST_WAIT_S if refusal.waits else LONGEST_DELAY_S
        delay_s = FIRST_DELAY_S if before is None else min(before.delay_s * 2, longest_s)
        self.total += 1
        self._set(row, Trial(refusal, delay_s, now + delay_s))

    def clear(self, row: Hashable) -> bool:
        """Forget a row, as it was taken or is not wanted any more; True if it had been refused."""
        return self.trials.pop(row, None) is not None

    def wake(self, now: float, *, every: bool = False) -> None:
        """Let the rows that wait for others' doing, or every row, be tried at once."""
        for row, trial in self.trials.items():
            if every or trial.refusal.waits:
                self._set(row, attrs.evolve(trial, due=now))

    def take_due(self, now: float) -> list[Hashable]:
        """Return the rows whose time has come, each once."""
        taken = []
        while self._heap and self._heap[0][0] <= now:
            due, _, row = heappop(self._heap)
            trial = self.trials.get(row)
            if trial is not None and trial.due == due:
                self.trials[row] = attrs.evolve(trial, due=None)
                taken.append(row)
        return taken

    def deadline(self) -> float | None:
        """Return when the next row is due."""
        while self._heap:
            due, _, row = self._heap[0]
            trial = self.trials.get(row)
            if trial is not None and trial.due == due:
                return due
            heappop(self._heap)
        return None

    def _set(self, row: Hashable, trial: Trial) -> None:
        self.trials[row] = trial
        if trial.due is not None:
            heappush(self._heap, (trial.due, next(self._order), row))
