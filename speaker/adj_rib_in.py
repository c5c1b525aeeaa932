"""What one peer told us: checks, keeps, and forgets when it is gone (adj-rib-in, RFC 4271 section 3.2).

    UPDATE -> refused? -> import policy -> wanted? -> room? -> [rib]  as the policy made it
              refusal.py  terms.py                             held   as it came, where a policy changed or rejected it

A route is kept if somebody may want it: some importer has one of its route targets, or it is of a family
without route targets.  Routes that nobody imports are not held at all; when an import is added, the peer
is asked for them again (ROUTE-REFRESH, RFC 2918, or a new RT membership, RFC 4684).  A peer that
cannot be asked is kept whole, and so is everybody's while we reflect.

The import policy comes before that, so it may set route targets; what it rejects is judged by the targets that it came
with.  Another policy works out again what is held, without the peer.  Only what was let go because nobody imported it
has to be asked for: `wanted_again` names the families, and the engine asks.

At its limit a family takes no new keys, only news of those that it has.  Which keys it has then depends on the order in
which they came, and cannot but.  When a tenth is free again the peer is asked for all.

Keys are as the peer says them: with ADD-PATH the path identifier stands in front (RFC 7911; see slots.py).  What had no
slot is asked for again when a quarter of those of its destination is free.

What concerns all routes of a family is done in shares, by `step`, and no message waits for it: routes that go are
`leaving`, and those that something else applies to wait in `again` or `outliving`.  What is leaving counts no more, and
what the peer says of a route meanwhile is taken as if all were done.

As helper of a restarting peer (RFC 4724 section 4.2, RFC 8538 section 4, RFC 9494 section 4.2) the routes stay when it
is lost:

    up --lost, graceful--> stale --back with its forwarding state--> refreshed one by one --End-of-RIB--> rest swept
                             |                                                                 ^
                             +-- restart time over, or back without its forwarding state ------+
                             |
                             +-- restart time over, and long-lived: LLGR_STALE, without those that say NO_LLGR
                                     |
                                     +-- End-of-RIB, stale time over, or back without its forwarding state: swept
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

import attrs

from speaker.decision import LLGR_STALE
from speaker.derived import Derived, long_lived, with_otc
from speaker.errors import PrefixLimitReached
from speaker.path import Attributes, Path
from speaker.refusal import OTC_ADDED_BY, WITH_ROLES, Own, refusal
from speaker.rib import Interest, Origin, Rib, Source, slot
from speaker.session import Negotiated
from speaker.slots import MOST_PATHS, PATH_ID_OCTETS, Slots
from speaker.table import Table
from speaker.terms import ACCEPT_ALL, PrefixLimit, Terms, accept
from speaker.values import Family
from speaker.wire.update import Update

WITH_TARGETS = frozenset({Family.VPNV4, Family.VPNV6, Family.EVPN, Family.VPNV4_FLOWSPEC, Family.VPNV6_FLOWSPEC})
"""Families whose routes are wanted, or not, by route target."""

NO_LLGR = 0xFFFF0007
"""The community of routes that must not be long-lived (RFC 9494 section 3.3)."""

REFUSALS_KEPT = 1024
REPORTS_KEPT = 64

STALE_S = 180.0
"""How long a peer that came back may take until its End-of-RIB, at least (RFC 8538 section 4.1, the stale timer)."""

REFRESH_S = 360.0
"""How long a route refresh may take from its begin to its end (RFC 7313 section 4)."""

REJECTED = "the import policy rejects it"
TOO_MANY_PATHS = f"more than {MOST_PATHS} paths of one destination (RFC 7911)"


@attrs.define
class Refresh:
    """A route refresh that the peer has begun to answer."""

    unrepeated: set[bytes]  # of what is kept
    repeated: set[bytes]  # what the peer spoke of since, withdrawn or not
    refused: set[bytes]  # and of what was refused
    until: float


class AdjRibIn:
    """The receiving half of one peer."""

    def __init__(self, source: str, rib: Rib, interest: Interest, own: Own) -> None:
        self.source = source
        self.rib = rib
        self.interest = interest
        self.own = own
        self.terms = ACCEPT_ALL
        self.negotiated: Negotiated | None = None
        self.keep_all = False  # the peer cannot be asked again
        self.reflecting = False  # what nobody imports here is kept too; who sets it asks again, or prunes
        self.synced: set[Family] = set()  # families whose End-of-RIB came in this session
        self.disabled: set[Family] = set()  # families that this session uses no more
        self.held: dict[Family, Table[bytes, Path]] = {}  # as they came: what the policy changed or rejected
        self.rejected: dict[Family, set[bytes]] = {}  # those of `held` that are not in the RIB
        self.rejections = 0  # how often the import policy rejected a route that it had not rejected before
        self.refused: dict[tuple[Family, bytes], str] = {}  # oldest first, bounded; all but `rejected`
        self.stale: dict[Family, set[bytes]] = {}
        self.stale_until: float | None = None  # for the families that are not in `long_lived_until`
        self.long_lived_until: dict[Family, float] = {}
        self.refreshes: dict[Family, Refresh] = {}
        self.blocked: dict[Family, float] = {}  # families at their limit, and since when
        self.leaving: dict[Family, set[bytes]] = {}  # what is still to be removed, of what is kept; none is empty
        self.outliving: dict[Family, set[bytes]] = {}  # what is still to become long-lived stale
        self.again: dict[Family, set[bytes]] = {}  # what is still to be worked out by other terms, or by what is wanted
        self.wanted_again: set[Family] = set()  # what the peer is to be asked for; the engine empties it
        self.reports: list[str] = []  # what an operator wants to know; the engine empties it
        self._slots: dict[Family, Slots] = {}
        self._plain: frozenset[Family] = frozenset()  # families of the session that go to the RIB as they are
        self._crowded: dict[Family, set[bytes]] = {}  # NLRI keys of which a path had no slot; bounded
        self._unkept: set[Family] = set()  # families of which something was let go because nobody imported it
        self._near: dict[Family, int] = {}  # families that were reported: 1 near their limit, 2 above
        self._stale_since: dict[Family, float] = {}
        self._stale_times: dict[int, int] = {}  # long-lived ones, as the last session agreed on
        self._overdue: set[Family] = set()  # whose long-lived stale time ended before their End-of-RIB
        self._with_otc: Derived | None = None

    def up(self, negotiated: Negotiated, now: float) -> None:
        """A session is established."""
        self.negotiated = negotiated
        origin = Origin(not negotiated.ibgp, negotiated.remote_router_id)
        self.rib.origins[self.source] = origin
        self.synced, self.disabled, self._overdue, self._unkept = set(), set(), set(), set()
        self._crowded = {}
        self.keep_all = not negotiated.route_refresh
        for family in list(self.stale):
            if not self._preserved(family, negotiated):
                self._sweep(family)
        for family in negotiated.families:
            slots, add_path = self._at(family), family in negotiated.add_path_receive
            if slots.add_path is not add_path:  # the keys of the last session mean nothing in this one
                self._discard(family, self.leaving.get(family, set()).copy())
                self.again.pop(family, None)
                self.outliving.pop(family, None)
                slots.add_path = add_path
        for slots in self._slots.values():
            for number in range(1, len(slots.tables)):
                self.rib.origins[slot(self.source, number)] = origin
        self.stale_until = None
        if self.stale.keys() - self.long_lived_until.keys():
            # The peer is back: the rest waits for its End-of-RIB, but not for ever.
            restart_time_s = negotiated.graceful.time_s if negotiated.graceful else 0
            self.stale_until = now + max(restart_time_s, STALE_S)
        self._with_otc = with_otc(negotiated.remote_as) if negotiated.role in OTC_ADDED_BY else None
        self._find_plain()

    def _preserved(self, family: Family, negotiated: Negotiated) -> bool:
        """Whether stale routes may stay when the peer is back (RFC 4724 section 4.2, RFC 9494 section 4.2).

        Those that are long-lived go by that capability's F bit.  Where one session has path identifiers and the
        other has not, no key of the one is known to the other: nothing stays.
        """
        if family not in negotiated.families:
            return False
        if (family in negotiated.add_path_receive) is not self._at(family).add_path:
            return False
        if family in self.long_lived_until:
            return negotiated.long_lived.get(family, (False, 0))[0]
        return negotiated.graceful is not None and negotiated.graceful.forwarding.get(family, False)

    def _find_plain(self) -> None:
        plain: frozenset[Family] = frozenset()
        if self.negotiated is not None and self.terms.importing is accept:
            plain = self.negotiated.families - self.negotiated.add_path_receive
            plain -= self.again.keys() | self.outliving.keys()  # of which something may be held
            if self._with_otc is not None:
                plain -= WITH_ROLES
        self._plain = plain

    def update(self, update: Update, now: float) -> None:
        """Take one UPDATE in (hot); PrefixLimitReached, and nothing of it is taken, if it holds too many routes."""
        limits = self.terms.limits
        if limits:
            self._check_limits(update)
        for family, keys in update.withdrawn:
            if self.refused or self.stale or self.refreshes or self.leaving or self.again or self.outliving:
                self._renewed(family, keys)
            if family in self._plain:
                self._slots[family].tables[0].discard_all(keys)
            else:
                self._discard(family, keys)
        for family, routes in update.announced:
            if self.refused or self.stale or self.refreshes or self.leaving or self.again or self.outliving:
                self._renewed(family, routes)
            attributes = next(iter(routes.values())).attributes
            reason = refusal(family, attributes, self.own, self.negotiated)
            if reason is not None:
                self._refuse(family, routes, reason)
                self._discard(family, routes)
            elif family not in self._plain or (limits and not self._has_room(family, len(routes))):
                self._take(family, routes, now)
            elif self.interest.of(attributes) or self._wanted(family, attributes):
                self._slots[family].tables[0].put_all(routes)
            else:
                self._unkept.add(family)
                self._slots[family].tables[0].discard_all(routes)
        if update.end_of_rib is not None:
            self.end_of_rib(update.end_of_rib)
        if self._near:
            self._find_room()

    def _renewed(self, family: Family, keys: Collection[bytes]) -> None:
        """Forget what was known of these keys before the peer spoke of them again."""
        if self.stale:
            self.stale.get(family, set()).difference_update(keys)
        if family in self.refreshes:
            self.refreshes[family].unrepeated.difference_update(keys)
            self.refreshes[family].repeated.update(keys)
            self.refreshes[family].refused.difference_update(keys)
        if family in self.leaving:
            self._discard(family, self.leaving[family].intersection(keys))
        for waiting in (self.again, self.outliving):
            if family in waiting:
                waiting[family].difference_update(keys)
        if self.refused:
            for key in keys:
                self.refused.pop((family, key), None)

    def _refuse(self, family: Family, keys: Iterable[bytes], reason: str) -> None:
        for key in keys:
            self.refused[(family, key)] = reason
        while len(self.refused) > REFUSALS_KEPT:
            del self.refused[next(iter(self.refused))]

    def _wanted(self, family: Family, attributes: Attributes) -> bool:
        return self.keep_all or family not in WITH_TARGETS or bool(self.interest.of(attributes)) or self.reflecting

    def _take(self, family: Family, routes: Mapping[bytes, Path], now: float) -> None:
        """Take routes one by one: those of a policy, with path identifiers, or near a limit."""
        unmarked = next(iter(routes.values())).attributes.only_to_customer is None
        if unmarked and self._with_otc is not None and family in WITH_ROLES:
            routes = {key: self._with_otc.path(path) for key, path in routes.items()}
        limit = self.terms.limits.get(family)
        room = limit.most - self.count(family) if limit is not None and limit.action == "block" else None
        judged, wanted, above = None, False, []
        for key, path in routes.items():
            result = self._result(family, key, path)
            attributes = path.attributes if result is None else result.attributes
            if attributes is not judged:
                judged, wanted = attributes, self._wanted(family, attributes)
            known = room is not None and self._knows(family, key)
            if wanted and room is not None and room <= 0 and not known:
                above.append(key)
                continue
            kept = wanted and self._keep(family, key, path, result)
            if not wanted:
                self._unkept.add(family)
                self._discard(family, (key,))
            if room is not None:
                room += known - kept
        if limit is not None:
            if above:
                self._refuse(family, above, f"more than {limit.most} routes of {family.text}: no new one is taken")
            self._measure(family, limit, bool(above), now)

    def _result(self, family: Family, key: bytes, path: Path) -> Path | None:
        """Return what the import policy makes of a path; it cannot take LLGR_STALE off (RFC 9494 section 4.3)."""
        decide = self.terms.importing
        if decide is accept:
            return path
        result = decide(family, self._at(family).nlri(key), path)
        if result is not None and result is not path and LLGR_STALE in path.attributes.communities:
            return long_lived(result)
        return result

    def _keep(self, family: Family, key: bytes, path: Path, result: Path | None) -> bool:
        """Write a path as the policy made it, None: rejected; False if there is no slot for it."""
        slots, held, rejected = self._at(family), self.held[family], self.rejected[family]
        if result is None:
            slots.discard_all((key,))
            self.rejections += key not in rejected
            rejected.add(key)
        else:
            rejected.discard(key)
            if not slots.put(key, result) and not self._put_in_place(family, key, result):
                held.discard(key)
                self._refuse(family, (key,), TOO_MANY_PATHS)
                crowded = self._crowded.setdefault(family, set())
                if len(crowded) < REFUSALS_KEPT:
                    crowded.add(slots.nlri(key))
                return False
        if result is path:
            held.discard(key)
        else:
            held.put(key, path)
        return True

    def _put_in_place(self, family: Family, key: bytes, path: Path) -> bool:
        """Write a path where all slots are taken, in the place of one that is leaving; False if there is none."""
        slots = self._at(family)
        self._discard(family, self.leaving.get(family, set()).intersection(slots.told_of(slots.nlri(key))))
        return slots.put(key, path)

    def _at(self, family: Family) -> Slots:
        slots = self._slots.get(family)
        if slots is None:
            slots = self._slots[family] = Slots(self.rib, family, self.source)
            self.held[family], self.rejected[family] = Table(), set()
        return slots

    def _knows(self, family: Family, key: bytes) -> bool:
        if key in self.leaving.get(family, ()):
            return False
        return self._at(family).get(key) is not None or key in self.rejected[family]

    def _keys(self, family: Family) -> set[bytes]:
        """Return the keys of all that is kept and stays."""
        keys = set(self._at(family).told())
        keys |= self.rejected[family]
        keys -= self.leaving.get(family, set())
        return keys

    def _discard(self, family: Family, keys: Collection[bytes]) -> None:
        slots = self._slots.get(family)
        if slots is None:
            return
        slots.discard_all(keys)
        if self.held[family]:
            self.held[family].discard_all(keys)
            self.rejected[family].difference_update(keys)
        if family in self._crowded:
            self._find_slots(family, keys)
        leaving = self.leaving.get(family)
        if leaving is not None:
            leaving.difference_update(keys)
            if not leaving:
                del self.leaving[family]

    def _leave(self, family: Family, keys: set[bytes]) -> None:
        """Let routes go that are kept, a share at a time; the set is the callee's from now on."""
        if keys:
            leaving = self.leaving.setdefault(family, keys)
            if leaving is not keys:
                leaving |= keys

    def step(self, most: int) -> int:
        """Do a share of what concerns many routes, up to `most` of them; return how many they were, 0: all is done."""
        done = 0
        for family in list(self.leaving):
            share = _taken(self.leaving[family], most - done)
            self._discard(family, share)
            done += len(share)
        for waiting in (self.outliving, self.again):
            for family in list(waiting):
                share = _taken(waiting[family], most - done)
                self._work_out_again(family, share, outlive=waiting is self.outliving)
                done += len(share)
                if not waiting[family]:
                    del waiting[family]
                    self._find_plain()
        if done:
            self._find_room()
        return done

    def count(self, family: Family) -> int:
        """Return how many routes of a family are kept, rejected ones included, and none that is leaving."""
        slots = self._slots.get(family)
        if slots is None:
            return 0
        return len(slots) + len(self.rejected[family]) - len(self.leaving.get(family, ()))

    def counts(self) -> dict[Family, int]:
        """Return how many routes are kept, of the families of which there are any."""
        return {family: count for family in sorted(self._slots) if (count := self.count(family))}

    def sources(self, family: Family, nlri: bytes) -> dict[int, Source]:
        """Return at which source of the RIB each path of a destination stands, by path identifier (0 without them)."""
        slots = self._slots.get(family)
        return {} if slots is None else slots.sources(nlri)

    def has_path_ids(self, family: Family) -> bool:
        """Whether the keys of a family have path identifiers in front: in this session, or in the last one."""
        return family in self._slots and self._slots[family].add_path

    def refusals(self) -> Iterator[tuple[Family, bytes, int | None, str]]:
        """Yield what was refused or rejected: family, NLRI key, path identifier where there is one, reason."""
        rejected = (((family, key), REJECTED) for family, keys in self.rejected.items() for key in keys)
        for known in (self.refused.items(), rejected):
            for (family, key), reason in known:
                if self.has_path_ids(family):
                    yield family, key[PATH_ID_OCTETS:], int.from_bytes(key[:PATH_ID_OCTETS], "big"), reason
                else:
                    yield family, key, None, reason

    def _has_room(self, family: Family, more: int) -> bool:
        """Whether so many routes can come without anything to do or to say about the limit (hot)."""
        limit = self.terms.limits.get(family)
        if limit is None:
            return True
        return self.count(family) + more <= (limit.most if family in self._near else _warn_at(limit) - 1)

    def _check_limits(self, update: Update) -> None:
        for family in dict(update.announced):
            limit = self.terms.limits.get(family)
            if limit is None or limit.action != "restart":
                continue
            more = sum(len(routes) for each, routes in update.announced if each is family)
            if self._fresh(family) + more > limit.most and self._grows_above(family, limit.most, update):
                raise PrefixLimitReached(family, limit.most, limit.restart_s)

    def _fresh(self, family: Family) -> int:
        """Return how many routes the peer told in this session: stale ones may be the same, by other keys."""
        return self.count(family) - len(self.stale.get(family, ()))

    def _grows_above(self, family: Family, most: int, update: Update) -> bool:
        """Whether an UPDATE brings new keys and there are more than `most` then."""
        kept: dict[bytes, bool] = {}
        for each, keys in update.withdrawn:
            if each is family:
                kept.update(dict.fromkeys(keys, False))
        for each, routes in update.announced:
            if each is family:
                attributes = next(iter(routes.values())).attributes
                if refusal(family, attributes, self.own, self.negotiated) is not None:
                    kept.update(dict.fromkeys(routes, False))
                    continue
                for key, path in routes.items():
                    result = self._result(family, key, path)
                    kept[key] = self._wanted(family, (result or path).attributes)
        stale = self.stale.get(family, ())
        known = {key: key not in stale and self._knows(family, key) for key in kept}
        grown = sum(kept[key] - known[key] for key in kept)
        return any(kept[key] and not known[key] for key in kept) and self._fresh(family) + grown > most

    def _measure(self, family: Family, limit: PrefixLimit, above: bool, now: float) -> None:
        """Say once that a family is near its limit, and once that it is at it."""
        count = self.count(family)
        at = f"family={family.text} routes={count} limit={limit.most}"
        if above and family not in self.blocked:
            self.blocked[family] = now
            self._report(f"{at} blocked: no new routes are taken")
        elif count > limit.most and self._near.get(family, 0) < 2 and limit.action == "warn":
            self._near[family] = 2
            self._report(f"{at} exceeded")
        elif count >= _warn_at(limit) and family not in self._near and not above:
            self._report(f"{at} reached={limit.warn_percent}%")
        if count >= _warn_at(limit) or above:
            self._near.setdefault(family, 1)

    def _report(self, text: str) -> None:
        if len(self.reports) < REPORTS_KEPT:
            self.reports.append(text)

    def _find_room(self) -> None:
        """Ask again for what was not taken when a tenth of the limit is free."""
        for family in list(self._near):
            limit, count = self.terms.limits.get(family), self.count(family)
            if limit is None or count * 10 <= limit.most * 9:
                self._unblock(family)
            if limit is None or count * 10 <= _warn_at(limit) * 9:
                del self._near[family]

    def _unblock(self, family: Family) -> None:
        # What a peer that cannot be asked said meanwhile is missing: it stays blocked as long as the session.
        if family in self.blocked and self._ask(family):
            del self.blocked[family]
            self._report(f"family={family.text} routes={self.count(family)} unblocked: asked for again")

    def _find_slots(self, family: Family, keys: Iterable[bytes]) -> None:
        """Ask again for paths that had no slot when a quarter of those of their destination is free."""
        slots, crowded = self._slots[family], self._crowded[family]
        for nlri in crowded.intersection(map(slots.nlri, keys)):
            if len(slots.told_of(nlri)) * 4 <= MOST_PATHS * 3 and self._ask(family):
                crowded.discard(nlri)

    def _ask(self, family: Family) -> bool:
        if self.negotiated is None or not self.negotiated.route_refresh or family in self.disabled:
            return False
        self.wanted_again.add(family)
        return True

    def end_of_rib(self, family: Family) -> None:
        """The peer has told all that it knows of a family (RFC 4724 section 2)."""
        self.synced.add(family)
        self._overdue.discard(family)
        self._sweep(family)

    def refreshing(self, family: Family, begins: bool, now: float) -> None:
        """The peer begins to tell a family again, or has done so: what it did not repeat goes (RFC 7313 section 4).

        A begin before the End-of-RIB of a graceful restart counts for nothing, nor does an end without a begin.
        """
        if not begins:
            refresh = self.refreshes.pop(family, None)
            if refresh is not None:
                for key in refresh.refused:
                    self.refused.pop((family, key), None)
                self._leave(family, refresh.unrepeated)
                self._find_room()
        elif self.negotiated is not None and (self.negotiated.graceful is None or family in self.synced):
            refused = {key for each, key in self.refused if each is family}
            begun = self.refreshes.get(family)
            if begun is None:
                unrepeated = self._keys(family)
            else:  # a peer may begin again and again: not all of its routes are looked at each time
                unrepeated = begun.unrepeated
                unrepeated |= {key for key in begun.repeated if self._knows(family, key)}
            self.refreshes[family] = Refresh(unrepeated, set(), refused, now + REFRESH_S)

    def change(self, terms: Terms, now: float) -> None:
        """Treat what is held, and what comes, by other terms."""
        before, self.terms = self.terms, terms
        if terms.importing is not before.importing:
            for family in self._slots:
                self._mark(family)
            for family in self._unkept:
                self._ask(family)
        self._find_plain()
        for family in list(self.blocked):
            limit = terms.limits.get(family)
            if limit is None or limit.action != "block" or self.count(family) < limit.most:
                self._unblock(family)
        self._find_room()
        for family in self._slots.keys() & terms.limits.keys():
            self._measure(family, terms.limits[family], False, now)

    def _mark(self, family: Family) -> None:
        """Have all routes of a family worked out again."""
        keys = self._keys(family)
        if keys:
            self.again[family] = keys

    def _work_out_again(self, family: Family, keys: Collection[bytes], *, outlive: bool = False) -> None:
        """Apply the policy to routes that are kept; with `outlive` they become long-lived stale before."""
        gone = []
        held, slots = self.held[family], self._slots[family]
        for key in keys:
            path = held.get(key) or slots.get(key)
            if path is None:
                continue
            if outlive:
                path = long_lived(path)
            result = self._result(family, key, path)
            if not self._wanted(family, path.attributes if result is None else result.attributes):
                self._unkept.add(family)
                gone.append(key)
            elif self._ends(family, key, path, result) or not self._keep(family, key, path, result):
                gone.append(key)
        if gone:
            self._drop(family, gone)

    def _drop(self, family: Family, keys: Collection[bytes]) -> None:
        """Remove routes of which the peer will not speak again unasked."""
        self._discard(family, keys)
        if family in self.stale:
            self.stale[family].difference_update(keys)
        if family in self.refreshes:
            self.refreshes[family].unrepeated.difference_update(keys)

    def _ends(self, family: Family, key: bytes, path: Path, result: Path | None) -> bool:
        """Whether a route must not be long-lived, by what it says or by the policy's word (RFC 9494 section 4.2)."""
        if LLGR_STALE not in path.attributes.communities or key not in self.stale.get(family, ()):
            return False
        return NO_LLGR in path.attributes.communities or (
            result is not None and NO_LLGR in result.attributes.communities
        )

    def disable(self, family: Family) -> None:
        """Forget a family for the rest of the session: its NLRI cannot be read (RFC 4760 section 7)."""
        self.disabled.add(family)
        self._clear(family)

    def down(self, negotiated: Negotiated, graceful: bool, now: float) -> None:
        """The session is lost; `graceful` if its routes shall outlive it for the peer's restart time."""
        kept: frozenset[Family] = frozenset()
        restart_time_s = 0
        self._stale_times = {}
        if graceful and negotiated.graceful is not None:
            self._stale_times = {family: time_s for family, (_, time_s) in negotiated.long_lived.items()}
            kept = negotiated.families & negotiated.graceful.forwarding.keys()
            restart_time_s = negotiated.graceful.time_s
        self.negotiated = None
        self.synced, self.disabled = set(), set()
        self.refused, self.refreshes, self.blocked, self._near = {}, {}, {}, {}
        self.wanted_again = set()
        for family in list(self._slots):
            if family in self._overdue or not (family in kept or self._stale_times.get(family)):
                self._clear(family)
            else:
                self._become_stale(family, negotiated.graceful_notification, now)
                if family not in kept or restart_time_s == 0:
                    self._outlive(family, now)
        self._overdue = set()
        self.stale_until = now + restart_time_s if self.stale and restart_time_s else None

    def _become_stale(self, family: Family, notified: bool, now: float) -> None:
        """Mark all routes of a family.

        What was stale from an earlier loss and never refreshed is not given a second life (RFC 4724 section 4.2),
        except for as long as RFC 8538 section 4.1 and RFC 9494 section 4.2 ask for it.
        """
        since = self._stale_since.get(family, now) if self.stale.get(family) else now
        second_life_s = max(STALE_S if notified else 0.0, self._stale_times.get(family, 0))
        if family not in self.long_lived_until and now >= since + second_life_s:
            self._leave(family, self.stale.pop(family, set()))
            since = now
        keys = self._keys(family)
        if keys:
            self.stale[family] = keys
            self._stale_since[family] = since
        else:
            self._sweep(family)

    def _outlive(self, family: Family, now: float) -> None:
        """The restart time is over: what may be long-lived is from now on, the rest goes (RFC 9494 section 4.2).

        A stale time that runs already runs on, whatever became stale later.
        """
        if family not in self.long_lived_until:
            if not self._stale_times.get(family) or not self.stale.get(family):
                self._sweep(family)
                return
            self.long_lived_until[family] = now + self._stale_times[family]
        if family in self.stale:
            self.outliving[family] = self.stale[family].copy()

    def tick(self, now: float) -> None:
        """Forget stale routes whose time is over."""
        if self.stale_until is not None and now >= self.stale_until:
            self.stale_until = None
            for family in list(self.stale):
                if self.negotiated is None:
                    self._outlive(family, now)
                elif family not in self.long_lived_until:
                    self._sweep(family)
        for family, until in list(self.long_lived_until.items()):
            if now >= until:
                self._sweep(family)
                if self.negotiated is not None and family not in self.synced:
                    self._overdue.add(family)
        for family, refresh in list(self.refreshes.items()):
            if now >= refresh.until:
                self.refreshing(family, False, now)
        self._find_room()

    def deadline(self) -> float | None:
        """Return when `tick` is wanted next."""
        times = [*self.long_lived_until.values(), *(refresh.until for refresh in self.refreshes.values())]
        if self.stale_until is not None:
            times.append(self.stale_until)
        return min(times, default=None)

    def _sweep(self, family: Family) -> None:
        """Let go what is stale of a family; it waits for nothing any more."""
        self._leave(family, self.stale.pop(family, set()))
        self._stale_since.pop(family, None)
        self.long_lived_until.pop(family, None)
        if not self.stale:
            self.stale_until = None

    def _clear(self, family: Family) -> None:
        self._leave(family, self._keys(family))
        self.again.pop(family, None)
        self.outliving.pop(family, None)
        for each in [each for each in self.refused if each[0] is family]:
            del self.refused[each]
        self.refreshes.pop(family, None)
        self.blocked.pop(family, None)
        self._near.pop(family, None)
        self._sweep(family)

    def forget(self) -> None:
        """Let go all that this peer told (the peer is no longer configured)."""
        for family in self._slots:
            self._clear(family)

    def prune(self) -> None:
        """Let go of routes that nobody imports any more."""
        for family in WITH_TARGETS & self._slots.keys():
            self._mark(family)

    def succeed(self, former: AdjRibIn) -> None:
        """Go on with what a forgotten neighbour of this name has not let go yet."""
        self._slots, self.held, self.rejected = former._slots, former.held, former.rejected
        self.leaving = former.leaving


def _taken(keys: set[bytes], most: int) -> list[bytes]:
    return [keys.pop() for _ in range(min(len(keys), most))]


def _warn_at(limit: PrefixLimit) -> int:
    return max(1, limit.most * limit.warn_percent // 100)
