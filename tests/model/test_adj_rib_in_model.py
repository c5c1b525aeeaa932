"""The receiving half over random histories, beside a twin that has one record for each route and looks at all of them.

The domain is small, so that histories meet themselves: two families, three destinations, three path identifiers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path as File
from random import Random
from types import ModuleType
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import speaker
from speaker.adj_rib_in import REFRESH_S, STALE_S, AdjRibIn
from speaker.errors import PrefixLimitReached
from speaker.path import AS_SEQUENCE, Attributes, Path
from speaker.rib import peer_of
from speaker.session import Negotiated
from speaker.terms import Decide, PrefixLimit, Terms, accept, reject
from speaker.values import Family
from speaker.wire.update import Update
from tests.speaker.hearing import IPV4, VPNV4, Peer, agreed, graceful, saying
from tests.speaker.routes import block, extra, target, vpn_key

LLGR_STALE, NO_LLGR = 0xFFFF0006, 0xFFFF0007
FAMILIES = (VPNV4, IPV4)
NLRI = {VPNV4: [vpn_key(f"10.{n}.0.0/16") for n in range(3)], IPV4: [bytes((10, n, 16)) for n in range(3)]}
IDS = [n.to_bytes(4, "big") for n in range(3)]


@attrs.frozen
class Said:
    """What a route says, as far as it matters here."""

    local_pref: int | None
    med: int | None
    communities: tuple[int, ...]
    otc: int | None
    targets: frozenset[bytes]


def said(path: Path) -> Said:
    a = path.attributes
    return Said(a.local_pref, a.med, a.communities, a.only_to_customer, a.route_targets)


def made(number: int, *targets: int, ours: bool = False, **fields: Any) -> Attributes:
    """A block that says who it is by its LOCAL_PREF."""
    as_path = ((AS_SEQUENCE, (64513,)),)
    originator_id = bytes((192, 0, 2, 1)) if ours else None
    return saying(block(*targets, as_path=as_path, originator_id=originator_id, local_pref=number), **fields)


def blocks() -> tuple[Attributes, ...]:
    """Return what the peer says in its UPDATEs; each world has its own, since who imports a block is kept in it."""
    return (
        made(0, 1),
        made(1, 1),
        made(2, 1, communities=(NO_LLGR,)),
        made(3, 2),
        made(4, 1, ours=True),
        made(5, 1, communities=(LLGR_STALE, 7)),
        made(6, 1, only_to_customer=9),
    )


SAID = tuple(said(each.path(b"")) for each in blocks())
OURS = 4

Change = Callable[[bytes, Said], Said | None]
POLICIES: tuple[Change | None, ...] = (  # of the twin; None: every route as it is
    None,
    None,
    lambda key, route: None,
    lambda key, route: None if key[-2] % 2 else route,
    lambda key, route: attrs.evolve(route, med=5),
    lambda key, route: attrs.evolve(route, targets=frozenset({target(2)})) if key[-2] else route,
    lambda key, route: attrs.evolve(route, communities=(NO_LLGR,)) if key[-2] == 0 else route,
    lambda key, route: attrs.evolve(route, communities=()),
)


def as_decide(number: int) -> Decide:
    """The same policy, for routes as they are."""
    change = POLICIES[number]
    if change is None:
        return accept
    if number == 2:
        return reject
    known: dict[tuple[bytes, Attributes], Attributes] = {}

    def decide(family: Family, key: bytes, path: Path) -> Path | None:
        before = said(path)
        after = change(key, before)
        if after is None or after is before:
            return None if after is None else path
        attributes = known.get((key, path.attributes))
        if attributes is None:
            attributes = known[key, path.attributes] = saying(
                path.attributes, med=after.med, communities=after.communities, route_targets=after.targets
            )
        return attributes.path(path.extra)

    return decide


LIMITS: tuple[dict[Family, PrefixLimit], ...] = (
    {},
    {},
    {VPNV4: PrefixLimit(most=3), IPV4: PrefixLimit(most=2)},
    {VPNV4: PrefixLimit(most=2)},
    {VPNV4: PrefixLimit(most=2, action="warn")},
    {VPNV4: PrefixLimit(most=3, action="restart"), IPV4: PrefixLimit(most=2, action="restart")},
)
LONG = {int(VPNV4): (True, 300)}
BOTH = frozenset(FAMILIES)
SESSIONS = (
    agreed(*FAMILIES),
    agreed(*FAMILIES, graceful=graceful(*FAMILIES), long_lived=LONG),
    agreed(*FAMILIES, graceful=graceful(*FAMILIES), long_lived={int(VPNV4): (True, 900)}, add_path_receive=BOTH),
    agreed(*FAMILIES, graceful=graceful(*FAMILIES), graceful_notification=True, add_path_receive=frozenset({VPNV4})),
    agreed(*FAMILIES, graceful=graceful(*FAMILIES), graceful_notification=True),
    agreed(*FAMILIES, ibgp=False, role="customer", graceful=graceful(IPV4, lost=VPNV4), long_lived=LONG),
    agreed(*FAMILIES, ibgp=False, role="peer", add_path_receive=BOTH),
    agreed(*FAMILIES, graceful=graceful(VPNV4, time_s=0), long_lived={**LONG, int(IPV4): (True, 60)}),
    agreed(*FAMILIES, graceful=graceful(*FAMILIES), long_lived={int(VPNV4): (False, 300)}),
    agreed(*FAMILIES, graceful=graceful(VPNV4), long_lived={int(IPV4): (True, 120)}),
    agreed(VPNV4, graceful=graceful(*FAMILIES), long_lived=LONG, route_refresh=False),
)
Route = tuple[Family, bytes]


@attrs.define
class Record:
    """A route that is kept."""

    came: Said
    result: Said | None  # as the policy made it; None: rejected
    stale: bool = False
    unrepeated: bool = False
    leaving: bool = False
    outliving: bool = False
    again: bool = False


class Twin:
    """What shall be kept, worked out the slow way: every rule is a walk over all records.

    Which routes are in a share is the real half's choice; what becomes of them is not.
    """

    def __init__(self) -> None:
        self.records: dict[Route, Record] = {}
        self.refused: dict[Route, bool] = {}  # is it unrepeated in a refresh
        self.session: Negotiated | None = None
        self.lost: Negotiated | None = None
        self.ids: dict[Family, bool] = dict.fromkeys(FAMILIES, False)
        self.policy: Change | None = None
        self.limits: dict[Family, PrefixLimit] = {}
        self.imported = frozenset({target(1)})
        self.reflecting = False
        self.synced: set[Family] = set()
        self.disabled: set[Family] = set()
        self.since: dict[Family, float] = {}
        self.stale_until: float | None = None
        self.long_until: dict[Family, float] = {}
        self.overdue: set[Family] = set()
        self.refreshes: dict[Family, float] = {}
        self.blocked: set[Family] = set()
        self.unkept: set[Family] = set()
        self.wanted_again: set[Family] = set()

    def of(self, family: Family, stale: bool = False) -> list[Route]:
        """Return the routes that stay."""
        records = [item for item in self.records.items() if item[0][0] is family and not item[1].leaving]
        return [route for route, each in records if each.stale or not stale]

    def nlri(self, route: Route) -> bytes:
        return route[1][4:] if self.ids[route[0]] else route[1]

    def result(self, route: Route, came: Said) -> Said | None:
        result = came if self.policy is None else self.policy(self.nlri(route), came)
        if result is not None and LLGR_STALE in came.communities and LLGR_STALE not in result.communities:
            return attrs.evolve(result, communities=(*result.communities, LLGR_STALE))
        return result

    def wanted(self, route: Route, came: Said) -> bool:
        if route[0] is IPV4 or self.reflecting or (self.session is not None and not self.session.route_refresh):
            return True
        if self.session is None and self.lost is not None and not self.lost.route_refresh:
            return True
        return bool((self.result(route, came) or came).targets & self.imported)

    def keep(self, route: Route, came: Said) -> None:
        """Put a route in, or another in its place."""
        before = self.records.pop(route, None)
        marks = (before.stale, before.unrepeated) if before else ()
        self.records[route] = Record(came, self.result(route, came), *marks)

    def leave(self, routes: Iterable[Route]) -> None:
        for route in routes:
            record = self.records[route]
            self.records[route] = Record(record.came, record.result, leaving=True)

    def clear(self, family: Family) -> None:
        self.end_stale(family)
        self.leave(self.of(family))

    def spoken_of(self, route: Route) -> None:
        """The peer says something of a route: nothing that was known of it counts any more."""
        self.refused.pop(route, None)
        record = self.records.get(route)
        if record is not None and record.leaving:
            del self.records[route]
        elif record is not None:
            record.stale = record.unrepeated = record.again = record.outliving = False

    def mark(self, family: Family) -> None:
        """All routes of a family are to be worked out again."""
        for route in self.of(family):
            self.records[route].again = True

    def share(self, gone: list[Route], outliving: list[Route], again: list[Route]) -> None:
        """These are removed, those become long-lived, and those are worked out."""
        self.drop(gone)
        for route in outliving:
            came = self.records[route].came
            if LLGR_STALE not in came.communities:
                came = attrs.evolve(came, communities=(*came.communities, LLGR_STALE))
            self.work_out(route, came)
        for route in again:
            if route in self.records:
                self.work_out(route, self.records[route].came)
        if gone or outliving or again:
            self.find_room()

    def work_out(self, route: Route, came: Said) -> None:
        marks = self.records[route].again, self.records[route].outliving
        self.keep(route, came)
        self.records[route].again, self.records[route].outliving = marks
        if not self.wanted(route, came):
            self.unkept.add(route[0])
            self.drop([route])
        elif self.ends(route):
            self.drop([route])

    def drop(self, routes: Iterable[Route]) -> None:
        for route in routes:
            self.records.pop(route, None)

    def refuses(self, family: Family, number: int) -> bool:
        assert self.session is not None
        otc = SAID[number].otc
        leak = self.session.role == "peer" and family is IPV4 and otc not in (None, self.session.remote_as)
        return number == OURS or leak

    def as_kept(self, family: Family, number: int) -> Said:
        assert self.session is not None
        came = SAID[number]
        adds = self.session.role in ("customer", "peer") and family is IPV4 and came.otc is None
        return attrs.evolve(came, otc=self.session.remote_as) if adds else came

    def update(self, family: Family, gone: list[bytes], keys: list[bytes], number: int) -> bool:
        """Take an UPDATE; False if it goes beyond a limit that ends the session."""
        came, limit = self.as_kept(family, number), self.limits.get(family)
        if limit is not None and limit.action == "restart" and keys:
            fresh = {key for _, key in self.of(family)} - {key for _, key in self.of(family, stale=True)}
            left = fresh - set(gone) - set(keys)
            left |= {key for key in keys if not self.refuses(family, number) and self.wanted((family, key), came)}
            if left - fresh and len(left) > limit.most:
                return False
        for key in gone:
            self.spoken_of((family, key))
            self.records.pop((family, key), None)
        for key in keys:
            route = family, key
            self.spoken_of(route)
            if self.refuses(family, number):
                self.records.pop(route, None)
                self.refused[route] = False
            elif not self.wanted(route, came):
                self.records.pop(route, None)
                self.unkept.add(family)
            elif (
                route not in self.records
                and limit is not None
                and limit.action == "block"
                and len(self.of(family)) >= limit.most
            ):
                self.refused[route] = False
                self.blocked.add(family)
            else:
                self.keep(route, came)
        self.find_room()
        return True

    def find_room(self, *, lifted: bool = False) -> None:
        for family in list(self.blocked):
            limit, count = self.limits.get(family), len(self.of(family))
            room = limit is None or count * 10 <= limit.most * 9
            room = room or (lifted and limit is not None and (limit.action != "block" or count < limit.most))
            if room and self.ask(family):
                self.blocked.discard(family)

    def ask(self, family: Family) -> bool:
        if self.session is None or not self.session.route_refresh or family in self.disabled:
            return False
        self.wanted_again.add(family)
        return True

    def end_stale(self, family: Family) -> None:
        self.leave(self.of(family, stale=True))
        self.long_until.pop(family, None)

    def up(self, session: Negotiated, now: float) -> None:
        self.session = session
        self.synced, self.disabled, self.overdue, self.unkept = set(), set(), set(), set()
        for family in FAMILIES:
            if family in self.long_until:
                preserved = session.long_lived.get(family, (False, 0))[0]
            else:
                preserved = session.graceful is not None and session.graceful.forwarding.get(family, False)
            ids = family in session.add_path_receive
            if not preserved or family not in session.families or ids != self.ids[family]:
                self.end_stale(family)
            if family in session.families:
                if ids != self.ids[family]:
                    assert not self.of(family)
                    self.drop([route for route in self.records if route[0] is family])
                self.ids[family] = ids
        waiting = [family for family in FAMILIES if self.of(family, stale=True) and family not in self.long_until]
        time_s = session.graceful.time_s if session.graceful is not None else 0
        self.stale_until = now + max(time_s, STALE_S) if waiting else None

    def down(self, kept: bool, now: float) -> None:
        lost = self.session
        assert lost is not None
        self.lost, self.session = lost, None
        self.synced, self.disabled = set(), set()
        self.refused, self.blocked, self.wanted_again = {}, set(), set()
        self.refreshes = {}
        kept = kept and lost.graceful is not None
        restart_s = lost.graceful.time_s if lost.graceful is not None else 0
        for each in self.records.values():
            each.unrepeated = False
        for family in FAMILIES:
            in_restart = lost.graceful is not None and family in lost.graceful.forwarding and family in lost.families
            long_s = lost.long_lived.get(family, (False, 0))[1]
            if not kept or family in self.overdue or not (in_restart or long_s):
                self.clear(family)
                continue
            earlier = self.of(family, stale=True)
            second_s = max(STALE_S if lost.graceful_notification else 0, long_s)
            if earlier and family not in self.long_until and now >= self.since[family] + second_s:
                self.leave(earlier)
                self.since[family] = now
            elif not earlier:
                self.since[family] = now
            for route in self.of(family):
                self.records[route].stale = True
            if not self.of(family):
                self.end_stale(family)
            elif not in_restart or restart_s == 0:
                self.outlive(family, now)
        self.overdue = set()
        self.stale_until = now + restart_s if restart_s and any(each.stale for each in self.records.values()) else None

    def outlive(self, family: Family, now: float) -> None:
        assert self.lost is not None
        long_s = self.lost.long_lived.get(family, (False, 0))[1]
        if family not in self.long_until and not long_s:
            self.end_stale(family)
            return
        self.long_until.setdefault(family, now + long_s)
        for route in self.of(family, stale=True):
            self.records[route].outliving = True

    def ends(self, route: Route) -> bool:
        """Whether a route is long-lived although it says, or is said, that it must not be."""
        record = self.records[route]
        says = {*record.came.communities, *(record.result.communities if record.result is not None else ())}
        return record.stale and LLGR_STALE in record.came.communities and NO_LLGR in says

    def end_of_rib(self, family: Family) -> None:
        self.synced.add(family)
        self.overdue.discard(family)
        self.end_stale(family)
        self.find_room()

    def refreshing(self, family: Family, begins: bool, now: float) -> None:
        assert self.session is not None
        if begins and (self.session.graceful is None or family in self.synced):
            self.refreshes[family] = now + REFRESH_S
            for route in self.of(family):
                self.records[route].unrepeated = True
            self.refused.update((route, True) for route in self.refused if route[0] is family)
        elif not begins and family in self.refreshes:
            del self.refreshes[family]
            self.leave([route for route in self.of(family) if self.records[route].unrepeated])
            for route in [route for route, unrepeated in self.refused.items() if unrepeated and route[0] is family]:
                del self.refused[route]
            self.find_room()

    def change(self, policy: Change | None, limits: dict[Family, PrefixLimit]) -> None:
        changed, self.policy, self.limits = policy is not self.policy, policy, limits
        if changed:
            for family in FAMILIES:
                self.mark(family)
            for family in self.unkept:
                self.ask(family)
        self.find_room(lifted=True)

    def imports(self, targets: frozenset[bytes]) -> None:
        self.imported = targets
        self.mark(VPNV4)

    def disable(self, family: Family) -> None:
        self.disabled.add(family)
        self.clear(family)
        self.refused = {route: each for route, each in self.refused.items() if route[0] is not family}
        self.refreshes.pop(family, None)
        self.blocked.discard(family)

    def tick(self, now: float) -> None:
        if self.stale_until is not None and now >= self.stale_until:
            self.stale_until = None
            for family in FAMILIES:
                if self.session is not None:
                    if family not in self.long_until:
                        self.end_stale(family)
                elif self.of(family, stale=True):
                    self.outlive(family, now)
        for family, until in list(self.long_until.items()):
            if now >= until:
                self.end_stale(family)
                if self.session is not None and family not in self.synced:
                    self.overdue.add(family)
        for family, until in list(self.refreshes.items()):
            if now >= until:
                self.refreshing(family, False, now)
        self.find_room()


class World:
    """An adj-rib-in and its twin, and what can happen; every happening takes two small numbers."""

    def __init__(self, adj_rib_in: type[AdjRibIn]) -> None:
        self.peer = Peer()
        self.real = self.peer.adj_rib_in = adj_rib_in("p", self.peer.rib, self.peer.interest, self.peer.own)
        self.twin = Twin()
        self.now = 0.0
        self.blocks = blocks()
        self.last = 0  # the number of the last session
        self.policies = [as_decide(number) for number in range(len(POLICIES))]

    def play(self, history: Iterable[tuple[str, int, int]]) -> None:
        for name, a, b in history:
            getattr(self, name)(a, b)
            self.compare()

    def up(self, a: int, _b: int) -> None:
        if self.twin.session is None:
            self.last = a % len(SESSIONS)
            session = SESSIONS[self.last]
            self.real.up(session, self.now)
            self.twin.up(session, self.now)

    def down(self, a: int, _b: int) -> None:
        if self.twin.session is not None:
            kept = bool(a % 4) and self.twin.session.graceful is not None
            self.real.down(self.twin.session, kept, self.now)
            self.twin.down(kept, self.now)

    def restart(self, a: int, b: int) -> None:
        """Lose the peer, which is back after a while, as it was or with some change, and tells a part again."""
        self.down(1, 0)
        self.wait(b, 0)
        self.up(self.last if a % 3 else a, 0)
        self.update(a, b)

    def restarts(self, a: int, b: int) -> None:
        """Lose the peer once more, long after it came back, and before it has told all again."""
        self.restart(a, 1)
        self.wait(2, 0)
        self.wait(1 + b // 8, 0)
        self.restart(b, a)

    def keys(self, family: Family, number: int) -> list[bytes]:
        nlri = NLRI[family]
        chosen = nlri if number % 5 == 4 else [nlri[number % 3]]
        ids = IDS[number // 3 % 3 :] if self.twin.ids[family] else [b""]
        return [path_id + key for path_id in ids for key in chosen]

    def update(self, a: int, b: int) -> None:
        family = FAMILIES[a % 3 == 2]
        session = self.twin.session
        if session is None or family not in session.families or family in self.twin.disabled:
            return
        keys, number = self.keys(family, b), a % len(SAID)
        gone = self.keys(family, a) if (a + b) % 4 == 0 else []
        gone = [key for key in gone if key not in keys]
        path = self.blocks[number].path(extra(family))
        update = Update([(family, gone)] if gone else [], [(family, dict.fromkeys(keys, path))])
        told = True
        try:
            self.real.update(update, self.now)
        except PrefixLimitReached:
            told = False
        assert self.twin.update(family, gone, keys, number) is told

    def withdraw(self, a: int, b: int) -> None:
        family = FAMILIES[a % 3 == 2]
        if self.twin.session is not None and family in self.twin.session.families:
            gone = self.keys(family, b)
            self.real.update(Update([(family, gone)], []), self.now)
            self.twin.update(family, gone, [], 0)

    def end_of_rib(self, a: int, _b: int) -> None:
        family = FAMILIES[a % 2]
        if self.twin.session is not None and family in self.twin.session.families:
            self.real.update(Update(end_of_rib=family), self.now)
            self.twin.end_of_rib(family)

    def refresh(self, a: int, b: int) -> None:
        family = FAMILIES[a % 2]
        if self.twin.session is not None and family in self.twin.session.families:
            self.real.refreshing(family, b % 2 == 0, self.now)
            self.twin.refreshing(family, b % 2 == 0, self.now)

    def repeat(self, a: int, b: int) -> None:
        """A whole refresh after End-of-RIB, which repeats little; meanwhile the policy may change."""
        self.end_of_rib(a, 0)
        self.refresh(a, 0)
        if b % 4 == 3:
            self.change(a // 2, 0)
            self.share(a, 0)
        self.update(a, b)
        self.refresh(a, 1)

    def change(self, a: int, b: int) -> None:
        policy, limit = a % len(POLICIES), b % len(LIMITS)
        self.real.change(Terms(importing=self.policies[policy], limits=LIMITS[limit]), self.now)
        self.twin.change(POLICIES[policy], LIMITS[limit])

    def imports(self, a: int, _b: int) -> None:
        numbers = ((1,), (2,), (1, 2), (3,))[a % 4]
        self.peer.import_targets(*numbers)
        self.real.prune()
        self.twin.imports(frozenset(map(target, numbers)))

    def reflect(self, a: int, _b: int) -> None:
        self.real.reflecting = self.twin.reflecting = a % 2 == 0
        self.real.prune()
        self.twin.imports(self.twin.imported)

    def disable(self, a: int, b: int) -> None:
        if self.twin.session is not None and b % 3 == 0:
            self.real.disable(FAMILIES[a % 2])
            self.twin.disable(FAMILIES[a % 2])

    def wait(self, a: int, _b: int) -> None:
        self.now += (1.0, 45.0, 95.0, 200.0, 400.0)[a % 5]
        self.real.tick(self.now)
        self.twin.tick(self.now)

    def share(self, a: int, _b: int) -> None:
        real, twin, most = self.real, self.twin, a % 7 + 1
        marks = ("leaving", "outliving", "again")
        before = {mark: [route for route, each in twin.records.items() if getattr(each, mark)] for mark in marks}
        done = real.step(most)
        assert done <= most
        assert done or not any(before.values())
        shares = {}
        for mark, routes in before.items():
            waiting = getattr(real, mark)
            shares[mark] = [(family, key) for family, key in routes if key not in waiting.get(family, ())]
            for route in shares[mark]:
                setattr(twin.records[route], mark, False)
        assert sum(map(len, shares.values())) <= done
        gone = shares["leaving"]
        twin.share(gone, *([route for route in shares[mark] if route not in gone] for mark in marks[1:]))
        if a % 3 == 0 and done:
            self.share(a, 0)

    def asked(self, _a: int, _b: int) -> None:
        self.real.wanted_again.clear()
        self.twin.wanted_again.clear()

    def compare(self) -> None:
        real, twin = self.real, self.twin
        held: dict[Route, Said] = {}
        rejected: set[Route] = set()
        for route, record in twin.records.items():
            if record.result is None:
                rejected.add(route)
            else:
                number = int.from_bytes(route[1][:4], "big") if twin.ids[route[0]] else 0
                source = real.sources(route[0], twin.nlri(route))[number]
                assert said(self.peer.rib.tables[route[0], source].rows[twin.nlri(route)]) == record.result
            if record.result is not record.came:
                held[route] = record.came
        tables = [table for (_, source), table in self.peer.rib.tables.items() if peer_of(source) == "p"]
        assert sum(map(len, tables)) == len(twin.records) - len(rejected)
        assert {
            (family, key): said(path) for family, table in real.held.items() for key, path in table.rows.items()
        } == held
        assert {(family, key) for family, keys in real.rejected.items() for key in keys} == rejected
        stale = {route for route, record in twin.records.items() if record.stale}
        assert {(family, key) for family, keys in real.stale.items() for key in keys} == stale
        leaving = {route for route, record in twin.records.items() if record.leaving}
        assert {(family, key) for family, keys in real.leaving.items() for key in keys} == leaving
        for mark in ("outliving", "again"):
            waiting = {(family, key) for family, keys in getattr(real, mark).items() for key in keys}
            marked = {route for route, record in twin.records.items() if getattr(record, mark)}
            assert waiting & twin.records.keys() - leaving == marked, mark
        assert real.refused.keys() == twin.refused.keys()
        assert real.counts() == {family: count for family in FAMILIES if (count := len(twin.of(family)))}
        assert (real.synced, real.disabled) == (twin.synced, twin.disabled)
        assert (set(real.blocked), real.wanted_again) == (twin.blocked, twin.wanted_again)
        assert real.long_lived_until == twin.long_until
        assert {family: refresh.until for family, refresh in real.refreshes.items()} == twin.refreshes
        in_restart = {family for family in FAMILIES if twin.of(family, stale=True)} - twin.long_until.keys()
        if in_restart:
            assert real.stale_until == twin.stale_until
        due = [*twin.long_until.values(), *twin.refreshes.values()]
        due += [twin.stale_until] if in_restart and twin.stale_until is not None else []
        assert not due or (real.deadline() is not None and real.deadline() <= min(due))


HAPPENINGS = (
    *("update",) * 12,
    *("withdraw", "withdraw", "up", "up", "up", "down", "down", "wait", "wait", "end_of_rib", "restart", "restarts"),
    *("restart", "refresh", "refresh", "repeat", "repeat", "change", "change", "change", "imports", "reflect"),
    *("disable", "asked", *("share",) * 4),
)
HISTORIES = st.lists(
    st.tuples(st.sampled_from(HAPPENINGS), st.integers(0, 41), st.integers(0, 11)), min_size=16, max_size=60
)
History = list[tuple[str, int, int]]


def check(history: History, adj_rib_in: type[AdjRibIn] = AdjRibIn) -> None:
    """Play a history, and compare with the twin after each happening; the peer is forgotten at the end."""
    world = World(adj_rib_in)
    world.up(history[0][1], 0)
    world.play(history)
    world.real.forget()
    assert world.real.counts() == {}
    while world.real.step(2):
        pass
    assert world.real.counts() == {}
    assert [at for at, table in world.peer.rib.tables.items() if len(table)] == []


@settings(max_examples=1000)
@given(HISTORIES)
def test_whatever_happens_the_receiving_half_is_as_its_twin(history: History) -> None:
    check(history)


def random_history(seed: int) -> History:
    random = Random(seed)
    length = random.randrange(10, 60)
    return [(random.choice(HAPPENINGS), random.randrange(42), random.randrange(12)) for _ in range(length)]


MUTANTS = (
    # shares
    ("adj_rib_in", "self._discard(family, self.leaving[family].intersection(keys))", "pass"),
    ("adj_rib_in", "waiting[family].difference_update(keys)", "pass"),
    ("adj_rib_in", "(self.again, self.outliving):", "(self.again,):"),
    ("adj_rib_in", "outlive=waiting is self.outliving", "outlive=False"),
    ("adj_rib_in", "- len(self.leaving.get(family, ()))", ""),
    ("adj_rib_in", "keys -= self.leaving.get(family, set())", "pass"),
    ("adj_rib_in", "if key in self.leaving.get(family, ()):", "if False:"),
    ("adj_rib_in", "if leaving is not keys:\n                leaving |= keys", "self.leaving[family] = keys"),
    ("adj_rib_in", "keys |= self.rejected[family]", "pass"),
    ("adj_rib_in", "plain -= self.again.keys() | self.outliving.keys()", "pass"),
    ("adj_rib_in", "min(len(keys), most)", "len(keys)"),
    ("adj_rib_in", "_taken(waiting[family], most - done)", "_taken(waiting[family], most)"),
    ("adj_rib_in", "if done:\n            self._find_room()", "if False: pass"),
    ("adj_rib_in", "if path is None:\n                continue", "assert path is not None"),
    ("adj_rib_in", "self._discard(family, self.leaving.get(family, set()).copy())", "pass"),
    # refusals and what is known of keys
    ("adj_rib_in", "self._refuse(family, routes, reason)\n                self._discard(family, routes)", "pass"),
    ("adj_rib_in", "for key in keys:\n                self.refused.pop((family, key), None)", "pass"),
    ("adj_rib_in", "for key in refresh.refused:\n                    self.refused.pop((family, key), None)", "pass"),
    ("adj_rib_in", "self.stale.get(family, set()).difference_update(keys)", "pass"),
    ("adj_rib_in", "self.refreshes[family].refused.difference_update(keys)", "pass"),
    ("adj_rib_in", "self.refreshes[family].unrepeated.difference_update(keys)\n            self", "self"),
    ("adj_rib_in", "self.refreshes[family].unrepeated.difference_update(keys)\n\n    def", "pass\n\n    def"),
    ("refusal", 'session.role == "peer" and otc', 'session.role == "customer" and otc'),
    ("adj_rib_in", "if self._with_otc is not None:\n                plain -= WITH_ROLES", "if False: pass"),
    # policy and interest
    ("adj_rib_in", "if result is path:\n            held.discard(key)", "if result is path:\n            pass"),
    ("adj_rib_in", "rejected.add(key)", "pass"),
    ("adj_rib_in", "slots.discard_all((key,))\n", "pass\n"),
    ("adj_rib_in", "for family in self._slots:\n                self._mark(family)", "pass"),
    ("adj_rib_in", "for family in self._unkept:\n                self._ask(family)", "pass"),
    ("adj_rib_in", "            self._find_room()\n        elif", "            pass\n        elif"),
    (
        "adj_rib_in",
        "and LLGR_STALE in path.attributes.communities:\n            return long",
        "and False:\n            return long",
    ),
    ("adj_rib_in", "return NO_LLGR in path.attributes.communities or (", "return ("),
    ("adj_rib_in", "bool(self.interest.of(attributes)) or self.reflecting", "bool(self.interest.of(attributes))"),
    (
        "adj_rib_in",
        "plain = self.negotiated.families - self.negotiated.add_path_receive",
        "plain = self.negotiated.families",
    ),
    (
        "adj_rib_in",
        "if self.negotiated is not None and self.terms.importing is accept:",
        "if self.negotiated is not None:",
    ),
    # limits
    ("adj_rib_in", "room += known - kept", "room -= kept"),
    ("adj_rib_in", "room <= 0 and not known", "room <= 0"),
    ("adj_rib_in", "or (limits and not self._has_room(family, len(routes)))", ""),
    ("adj_rib_in", "limit.most if family in self._near", "limit.most + 1 if family in self._near"),
    ("adj_rib_in", "len(slots) + len(self.rejected[family])", "len(slots)"),
    ("adj_rib_in", "kept.update(dict.fromkeys(keys, False))", "pass"),
    ("adj_rib_in", "kept.update(dict.fromkeys(routes, False))", "kept.update(dict.fromkeys(routes, True))"),
    ("adj_rib_in", "any(kept[key] and not known[key] for key in kept) and", ""),
    ("adj_rib_in", 'limit.action != "block" or self.count', "self.count"),
    ("adj_rib_in", "self.wanted_again = set()\n        for", "for"),
    # graceful and long-lived restart
    ("adj_rib_in", "return False\n        if family in self.long_lived_until:", "return False\n        if False:"),
    ("adj_rib_in", "is not self._at(family).add_path:\n            return False", "is None:\n            return False"),
    ("adj_rib_in", "if family in self._overdue or not (", "if not ("),
    ("adj_rib_in", "self._overdue.add(family)", "pass"),
    ("adj_rib_in", "self._overdue.discard(family)", "pass"),
    ("adj_rib_in", "or self._stale_times.get(family)", "or False"),
    ("adj_rib_in", "if family not in kept or restart_time_s == 0:", "if restart_time_s == 0:"),
    ("adj_rib_in", "if family not in kept or restart_time_s == 0:", "if family not in kept:"),
    ("adj_rib_in", "STALE_S if notified else 0.0", "0.0"),
    ("adj_rib_in", "if family not in self.long_lived_until and now >= since", "if now >= since"),
    ("adj_rib_in", "self._stale_since[family] = since", "pass"),
    ("adj_rib_in", "if family not in self.long_lived_until:\n            if not", "if True:\n            if not"),
    ("adj_rib_in", "path = long_lived(path)", "pass"),
    (
        "adj_rib_in",
        "elif family not in self.long_lived_until:\n                    self._sweep",
        "else:\n                    self._sweep",
    ),
    ("adj_rib_in", "self.long_lived_until.pop(family, None)", "pass"),
    ("adj_rib_in", "now + max(restart_time_s, STALE_S)", "now + restart_time_s"),
    ("adj_rib_in", "self.stale[family].difference_update(keys)", "pass"),
    # refreshes
    ("adj_rib_in", "(self.negotiated.graceful is None or family in self.synced)", "True"),
    ("adj_rib_in", "Refresh(unrepeated, set(), refused,", "Refresh(unrepeated, set(), set(),"),
    ("adj_rib_in", "self.refused, self.refreshes, self.blocked, self._near = {}, {}, {}, {}", "self.refused = {}"),
    ("adj_rib_in", "self.refreshes.pop(family, None)\n        self.blocked", "self.blocked"),
    # slots
    ("slots", "if nlri not in table.rows", "if free >= len(keys)"),
    ("slots", "self.numbers.pop(key, None)", "self.numbers.get(key)"),
    ("slots", "number = self.numbers.get(key)\n        if number", "number = None\n        if number"),
    ("slots", "if each != key", ""),
)
"""Module, what stands in it, and the fault that somebody could make of it."""


def mutant(name: str, right: str, wrong: str) -> type[AdjRibIn]:
    """Return the receiving half with the fault built in."""
    modules = {each: ModuleType(f"speaker.{each}") for each in dict.fromkeys((name, "adj_rib_in"))}
    for each, module in modules.items():
        source = File(speaker.__path__[0], f"{each}.py").read_text()
        if each == name:
            assert source.count(right) == 1, f"{each}.py has this {source.count(right)} times: {right}"
            source = source.replace(right, wrong)
        exec(compile(source, f"{each}.py", "exec"), vars(module))
    half = vars(modules["adj_rib_in"])
    half.update((key, value) for key, value in vars(modules[name]).items() if key in half)
    found: type[AdjRibIn] = half["AdjRibIn"]
    return found


@pytest.mark.parametrize(("name", "right", "wrong"), MUTANTS)
def test_a_fault_that_is_built_in_is_found(name: str, right: str, wrong: str) -> None:
    half = mutant(name, right, wrong)

    def survives(seed: int) -> bool:
        try:
            check(random_history(seed), half)
        except Exception:
            return False
        return True

    assert not all(survives(seed) for seed in range(4000))
