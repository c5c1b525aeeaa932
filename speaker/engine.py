"""The embedded speaker: one Neighbour for each configured peer, between its sessions and the tables.

    session --Routes--> Neighbour.adj_rib_in  --> [rib]
    session <--octets-- Neighbour.adj_rib_out <-- [rib, local]

The engine also answers the question that everything destructive waits for: has every peer said all that it
knows (`synced`)?  Until then absence proves nothing.

With the first client among the neighbours the node is a route reflector (RFC 4456): received routes are kept whole,
wanted here or not, and passed on.  Its End-of-RIB then waits for those of its peers too (`select`), since what it
tells is theirs (RFC 4724 section 4.1).
"""

from __future__ import annotations

from collections.abc import Iterable

from speaker.adj_rib_in import AdjRibIn
from speaker.adj_rib_out import AdjRibOut
from speaker.refusal import Own
from speaker.rib import Interest, Rib
from speaker.session import Negotiated
from speaker.terms import ACCEPT_ALL, Terms
from speaker.update_group import UpdateGroups
from speaker.values import Family
from speaker.wire.attribute import Interner
from speaker.wire.update import Update


class Neighbour:
    """What one peer's sessions read and write; lives as long as the peer is configured."""

    def __init__(self, name: str, interest: Interest, groups: UpdateGroups) -> None:
        self.name = name
        self.adj_rib_in = AdjRibIn(name, groups.rib, interest, groups.own)
        self.adj_rib_out = AdjRibOut(name, groups)
        self.negotiated: Negotiated | None = None
        self.terms = ACCEPT_ALL
        self.wants_all_targets = False  # its last session had no RT membership to say what it wants
        self._groups = groups

    def up(self, negotiated: Negotiated, now: float) -> None:
        """A session is established."""
        self.negotiated = negotiated
        self.wants_all_targets = Family.RTC not in negotiated.families
        known = self._groups.rib.origins.get(self.name)
        self.adj_rib_in.up(negotiated, now)
        if known not in (None, self._groups.rib.origins.get(self.name)):
            self._groups.origin_changed(self.name)
        self.adj_rib_out.up(negotiated, now)

    def update(self, update: Update, now: float) -> None:
        """An UPDATE came (hot)."""
        self.adj_rib_in.update(update, now)
        if update.end_of_rib is Family.RTC:
            self.adj_rib_out.members_synced()

    def refresh(self, family: Family, now: float) -> None:
        """The peer asks for our routes again."""
        self.adj_rib_out.refresh(family)

    def refreshing(self, family: Family, begins: bool, now: float) -> None:
        """The peer tells all routes of a family again (RFC 7313 section 4): what it does not repeat goes."""
        self.adj_rib_in.refreshing(family, begins, now)

    def change(self, terms: Terms, now: float) -> None:
        """Treat the peer's routes by other terms from now on; by way of `Engine.change`, as others are affected."""
        self.terms = terms
        self.adj_rib_in.change(terms, now)
        self.adj_rib_out.change(terms)

    def disable(self, family: Family, now: float) -> None:
        """The NLRI of a family cannot be read: what was heard of it goes (RFC 4760 section 7)."""
        self.adj_rib_in.disable(family)
        if family is Family.RTC:
            self.adj_rib_out.members_unreadable()

    def down(self, negotiated: Negotiated, graceful: bool, now: float) -> None:
        """The session is lost."""
        self.negotiated = None
        self.adj_rib_in.down(negotiated, graceful, now)
        self.adj_rib_out.down()

    def output(self, budget: int) -> bytes:
        """Return the next whole messages for the peer, about `budget` octets."""
        if self.adj_rib_in.wanted_again:
            self.adj_rib_out.ask_again(self.adj_rib_in.wanted_again)
            self.adj_rib_in.wanted_again.clear()
        return self.adj_rib_out.output(budget)

    def tick(self, now: float) -> None:
        """Let timers run: stale routes, waiting for memberships."""
        self.adj_rib_in.tick(now)
        self.adj_rib_out.tick(now)

    def deadline(self) -> float | None:
        """Return when `tick` is wanted next."""
        times = [time for time in (self.adj_rib_in.deadline(), self.adj_rib_out.deadline()) if time is not None]
        return min(times, default=None)

    @property
    def synced(self) -> bool:
        """Whether the peer has said all that it can: End-of-RIB for every family that tells of destinations.

        A disabled family does not count: its routes are gone for the session, and no End-of-RIB will come.
        """
        if self.negotiated is None:
            return False
        return self.negotiated.families - {Family.RTC} - self.adj_rib_in.disabled <= self.adj_rib_in.synced

    @property
    def heard_all(self) -> bool:
        """Whether nothing more of it is worth waiting for: it is synced, or its End-of-RIB cannot be counted on."""
        if self.negotiated is None:
            return False
        graceful = self.negotiated.graceful
        return self.synced or graceful is None or graceful.restarting


class Engine:
    """All neighbours."""

    def __init__(self, rib: Rib, interest: Interest, own: Own, interner: Interner) -> None:
        self.rib = rib
        self.interest = interest
        self.own = own
        self.interner = interner
        self.neighbours: dict[str, Neighbour] = {}
        self.groups = UpdateGroups(rib, own)
        self._forgotten: dict[str, AdjRibIn] = {}  # of removed peers, as long as anybody knows a route of theirs
        self.released = False
        self.selected = False

    def add(self, name: str) -> Neighbour:
        """Make the neighbour for a new peer."""
        neighbour = self.neighbours[name] = Neighbour(name, self.interest, self.groups)
        if name in self._forgotten:
            neighbour.adj_rib_in.succeed(self._forgotten.pop(name))
        neighbour.adj_rib_in.reflecting = self.groups.reflecting
        self._tell_released()
        return neighbour

    def change(self, name: str, terms: Terms, now: float) -> None:
        """Treat a peer's routes by other terms from now on: the sessions stay, and what differs is said."""
        neighbour = self.neighbours[name]
        self._set_client(name, terms.client)
        neighbour.change(terms, now)

    def remove(self, name: str) -> None:
        """Forget a peer, with all that it told."""
        neighbour = self.neighbours.pop(name, None)
        if neighbour is not None:
            neighbour.adj_rib_in.forget()
            self._forgotten[name] = neighbour.adj_rib_in
            neighbour.adj_rib_out.down()
            self._set_client(name, False)

    def _set_client(self, name: str, client: bool) -> None:
        before = self.groups.reflecting
        self.groups.set_client(name, client)
        reflecting = self.groups.reflecting
        if reflecting == before:
            return
        for neighbour in self.neighbours.values():
            neighbour.adj_rib_in.reflecting = reflecting
            neighbour.adj_rib_out.regroup()
            if reflecting:
                neighbour.adj_rib_out.ask_again()
            else:
                neighbour.adj_rib_in.prune()
        self._tell_released()

    def release(self) -> None:
        """The node has said all that it knew when it started: End-of-RIB may go out (RFC 4724 section 4.1)."""
        self.released = True
        self._tell_released()

    def select(self) -> None:
        """The peers have said all that they knew when the node started, or were waited for long enough."""
        self.selected = True
        self._tell_released()

    def _tell_released(self) -> None:
        for neighbour in self.neighbours.values():
            neighbour.adj_rib_out.released = self.released and (self.selected or not self.groups.reflecting)

    def targets_changed(self, grown: bool, shrunk: bool) -> None:
        """Follow a change of what is imported: ask for what is wanted now, drop what is not."""
        for neighbour in self.neighbours.values():
            if grown:
                neighbour.adj_rib_out.ask_again()
            if shrunk:
                neighbour.adj_rib_in.prune()

    def synced(self, names: Iterable[str]) -> bool:
        """Tell whether all these peers have said all that they know."""
        return all(name in self.neighbours and self.neighbours[name].synced for name in names)

    def take_reports(self) -> list[str]:
        """Return what an operator wants to know since the last asking, a line each."""
        found = [f"peer={each.name} {text}" for each in self.neighbours.values() for text in each.adj_rib_in.reports]
        for neighbour in self.neighbours.values():
            neighbour.adj_rib_in.reports.clear()
        return found

    @property
    def wants_all_targets(self) -> bool:
        """Whether routes of all targets are wanted: by peers of a reflector that cannot say which (RFC 4684).

        A peer that is away counts as it did: the others would else withdraw, and tell again, all that they have.
        """
        return self.groups.reflecting and any(each.wants_all_targets for each in self.neighbours.values())

    def heard_all(self, names: Iterable[str]) -> bool:
        """Tell whether a reflector need not wait for these peers any longer (RFC 4724 section 4.1).

        That is `synced`, but for peers that would never be: who restarts waits for us as well, and who knows nothing
        of graceful restart need not send End-of-RIB.
        """
        return all(name in self.neighbours and self.neighbours[name].heard_all for name in names)

    def step(self, most: int) -> int:
        """Do a share of what concerns all routes of a peer, about `most` of them; return how many they were."""
        done = 0
        for name, adj_rib_in in list(self._forgotten.items()):
            done += adj_rib_in.step(most - done)
            if not adj_rib_in.leaving and self.rib.forget(name):
                del self._forgotten[name]
        for neighbour in self.neighbours.values():
            if done < most:
                done += neighbour.adj_rib_in.step(most - done)
        return done

    def tick(self, now: float) -> None:
        """Let the timers of all neighbours run."""
        for neighbour in self.neighbours.values():
            neighbour.tick(now)

    def deadline(self) -> float | None:
        """Return when `tick` is wanted next."""
        times = [time for each in self.neighbours.values() if (time := each.deadline()) is not None]
        return min(times, default=None)
