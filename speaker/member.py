"""Where one peer stands among those that are told the same: what it hears of it, and what it has not heard yet.

    what its group was told --Hearing--> what the peer holds, when it has heard all
    Past      what it held of a family when it began to hear it in another way, gone through in turns
    pending   keys that changed while it was not looking, with what was told of them before

A member that has neither has a place in the log of its group, and nothing else (see `speaker.update_group`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import attrs

from speaker.adj_rib_in import WITH_TARGETS
from speaker.membership import Membership
from speaker.path import Path
from speaker.rib import Origin, Source, peer_of
from speaker.values import Family

V = TypeVar("V")

Entry = tuple[Path, Source, Origin]
"""A path as the export policy leaves it, and where it came from: what is told with it depends on the router id."""

Told = tuple[Entry, ...]
"""The paths told of a key, best first; compared entry by entry, paths by identity."""

NOTHING: Told = ()

Audience = tuple[str, frozenset[bytes]]
"""Who sent a path, and its route targets: all that decides which members hear it."""


def audience(entry: Entry) -> Audience:
    """Return the audience of a path (hot)."""
    return peer_of(entry[1]), entry[0].attributes.route_targets


@attrs.frozen
class Hearing:
    """Which of the paths that its group is told a member hears."""

    peer: str
    client: bool
    membership: Membership | None  # None: it hears all route targets

    def hears(self, family: Family, audience: Audience) -> bool:
        """Tell whether the peer is told of paths with this audience (hot).

        A client hears of its own RT memberships, as the reflector's: see `speaker.outward`.
        """
        peer, targets = audience
        if peer == self.peer and not (self.client and family is Family.RTC):
            return False
        return self.membership is None or family not in WITH_TARGETS or self.membership.wants(targets)

    def heard(self, family: Family, told: Told) -> Told:
        """Return what the peer holds if this was told (hot)."""
        return tuple(entry for entry in told if self.hears(family, audience(entry))) if told else told

    def differs(self, other: Hearing, family: Family, audiences: Iterable[Audience]) -> bool:
        """Tell whether one hears of any of these and the other does not."""
        return any(self.hears(family, each) != other.hears(family, each) for each in audiences)

    def nothing(self, family: Family) -> bool:
        """Tell whether the peer hears nothing at all of a family."""
        return self.membership is not None and family in WITH_TARGETS and not self.membership


class Past:
    """What a member held of a family when it began to hear it in another way, until it went through all of it.

    To take the values of a dict over as they are costs a tenth of writing others for as many keys.
    """

    __slots__ = ("_changed", "_family", "_hearing", "_now", "_told", "again")

    def __init__(
        self,
        family: Family,
        hearing: Hearing,
        told: dict[bytes, Told],
        changed: dict[bytes, Told],
        now: dict[bytes, Told],
        *,
        again: bool = False,
    ) -> None:
        self.again = again  # it is to be told also what it holds
        self._family = family
        self._hearing = hearing  # as it was
        self._told = told  # what its group was told, and
        self._changed = changed  # where it had not heard the latest, what it was told before
        self._now = now  # what its present group was told: of other keys it held nothing

    def __contains__(self, key: bytes) -> bool:
        return key in self._told or key in self._now or key in self._changed

    def __bool__(self) -> bool:
        return bool(self._now or self.holding)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._told | self._changed | self._now)

    @property
    def holding(self) -> bool:
        """Whether there may be anything that it held."""
        return bool(self._told or self._changed)

    def held(self, key: bytes) -> Told:
        """Return what the peer holds of a key that is here."""
        return self._hearing.heard(self._family, self._changed.get(key, self._told.get(key, NOTHING)))

    def take(self, most: int) -> dict[bytes, Told]:
        """Take up to `most` keys out, with what the peer holds of them (hot)."""
        told, changed, now = self._told, self._changed, self._now
        taken: dict[bytes, Told] = {}
        while len(taken) < most:
            if now:
                key, _ = now.popitem()
                before = told.pop(key, NOTHING)
            elif told:
                key, before = told.popitem()
            elif changed:
                key, before = changed.popitem()
            else:
                break
            if changed:
                before = changed.pop(key, before)
            taken[key] = self._hearing.heard(self._family, before)
        return taken


class Turns:
    """The order in which many keys have their turn: oldest first, by rounds.

    To take a few keys from the front of a dict again and again would look at all that were taken before, each time.
    """

    def __init__(self) -> None:
        self._round: list[bytes] = []  # reversed

    def take(self, keys: dict[bytes, V], most: int) -> dict[bytes, V]:
        """Take up to `most` keys out of a dict, with their values (hot)."""
        taken: dict[bytes, V] = {}
        while keys and len(taken) < most:
            if not self._round:
                self._round = list(keys)
                self._round.reverse()
            key = self._round.pop()
            if key in keys:  # it may be gone, or these be others than last time
                taken[key] = keys.pop(key)
        if not keys:
            keys.clear()  # what is deleted from a dict leaves gaps
            self._round.clear()
        return taken


class Member:
    """Where one peer stands in its group."""

    def __init__(self, families: Iterable[Family], hearing: Hearing) -> None:
        self.hearing = hearing
        self.position: int | None = None  # of the next batch; None: it goes through its past and its pending keys
        self.past: dict[Family, Past] = {}  # none is empty
        self.pending: dict[Family, dict[bytes, Told]] = {family: {} for family in families}
        self.turns = {family: Turns() for family in families}

    def free(self, family: Family) -> bool:
        """Tell whether it can begin to hear a family in another way: one past at a time, but nothing is no past."""
        return family not in self.past or (self.hearing.nothing(family) and not self.past[family].holding)

    def behind(self, family: Family, changes: dict[bytes, Told]) -> None:
        """Note what the peer was told of keys that have changed, unless that is known (hot)."""
        pending, past = self.pending[family], self.past.get(family)
        for key, before in changes.items():
            if past is None or key not in past:
                pending.setdefault(key, before)

    def take(self, family: Family, most: int) -> tuple[dict[bytes, Told], bool]:
        """Take keys out, with what the peer holds of them; True if it is to be told again what it holds (hot)."""
        past = self.past.get(family)
        if past is not None:
            taken = past.take(most)
            if not past:
                del self.past[family]
            return taken, past.again
        heard = self.hearing.heard
        taken = self.turns[family].take(self.pending[family], most)
        return {key: heard(family, before) for key, before in taken.items()}, False
