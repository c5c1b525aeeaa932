"""What one peer told us: checks, keeps, and forgets when it is gone (adj-rib-in, RFC 4271 section 3.2).

A route is kept if somebody may want it: some importer has one of its route targets, or it is of a family
without route targets.  Routes that nobody imports are not held at all; when an import is added, the peer
is asked for them again (ROUTE-REFRESH, RFC 2918, or a new RT membership, RFC 4684).  A peer that
cannot be asked is kept whole.

Routes that can only be our own coming back, or a loop, are refused: our AS in the AS_PATH (RFC 4271 section
9.1.2), our ORIGINATOR_ID (RFC 4456 section 8), our own address as next hop (RFC 4271 section 5.1.3).  The last thousand
refusals are remembered with their reason, for the looking glass.

RT memberships may carry our ORIGINATOR_ID and next hop.  Those of all PEs of an AS are the same NLRI: a reflector that
holds ours for the best one tells it to everybody, us included, and it stands for those of the others (RFC 4684 section
3.2 has the reflector write itself there to that end, which not all of them do).

As helper of a restarting peer (RFC 4724 section 4.2) the routes stay when it is lost:

    up --lost, graceful--> stale --back with its forwarding state--> refreshed one by one --End-of-RIB--> rest swept
                             |                                                                 ^
                             +-- restart time over, or back without its forwarding state: swept
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from speaker.path import Attributes
from speaker.rib import Interest, Origin, Rib, RibTable
from speaker.session import Negotiated
from speaker.terms import ACCEPT_ALL, Terms
from speaker.values import Family
from speaker.wire.update import Update

WITH_TARGETS = frozenset({Family.VPNV4, Family.VPNV6, Family.EVPN})
"""Families whose routes are wanted, or not, by route target."""

REFUSALS_KEPT = 1024


@attrs.define
class Own:
    """What the node knows itself by; changes rarely, and then in place."""

    router_id: bytes
    asns: frozenset[int]
    addresses: frozenset[bytes]
    cluster_id: bytes = b""  # 4 octets, as a route reflector; empty: the router id (RFC 4456 section 7)


class AdjRibIn:
    """The receiving half of one peer."""

    def __init__(self, source: str, rib: Rib, interest: Interest, own: Own) -> None:
        self.source = source
        self.rib = rib
        self.interest = interest
        self.own = own
        self.terms = ACCEPT_ALL
        self.keep_all = False  # the peer cannot be asked again
        self.synced: set[Family] = set()  # families whose End-of-RIB came in this session
        self.disabled: set[Family] = set()  # families that this session uses no more
        self.stale: dict[Family, set[bytes]] = {}
        self.stale_until: float | None = None
        self.refused: dict[tuple[Family, bytes], str] = {}  # oldest first, bounded

    def up(self, negotiated: Negotiated, now: float) -> None:
        """A session is established."""
        self.rib.origins[self.source] = Origin(not negotiated.ibgp, negotiated.remote_router_id)
        self.synced, self.disabled = set(), set()
        self.keep_all = not negotiated.route_refresh
        graceful = negotiated.graceful
        for family in list(self.stale):
            # RFC 4724 section 4.2: no forwarding state preserved, or the family is not there again
            if family not in negotiated.families or graceful is None or not graceful.forwarding.get(family, False):
                self._sweep(family)
        if self.stale:
            # The peer is back: the rest waits for its End-of-RIB, but not for ever.
            self.stale_until = now + max(graceful.time_s if graceful else 0, 120)

    def update(self, update: Update, now: float) -> None:
        """Take one UPDATE in (hot)."""
        for family, keys in update.withdrawn:
            self._renewed(family, keys)
            self.rib.table(family, self.source).discard_all(keys)
        for family, routes in update.announced:
            self._renewed(family, routes)
            table = self.rib.table(family, self.source)
            attributes = next(iter(routes.values())).attributes
            refusal = self._refusal(family, attributes)
            if refusal is not None:
                for key in routes:
                    self.refused[(family, key)] = refusal
                while len(self.refused) > REFUSALS_KEPT:
                    del self.refused[next(iter(self.refused))]
                table.discard_all(routes)
            elif self.keep_all or family not in WITH_TARGETS or self.interest.of(attributes):
                table.put_all(routes)
            else:
                table.discard_all(routes)
        if update.end_of_rib is not None:
            self.end_of_rib(update.end_of_rib)

    def _renewed(self, family: Family, keys: Iterable[bytes]) -> None:
        """Forget what was known of these keys before the peer spoke of them again."""
        if self.stale:
            self.stale.get(family, set()).difference_update(keys)
        if self.refused:
            for key in keys:
                self.refused.pop((family, key), None)

    def _refusal(self, family: Family, attributes: Attributes) -> str | None:
        own = self.own
        if family is not Family.RTC:
            if attributes.originator_id == own.router_id:
                return "ORIGINATOR_ID is ours: our own route, reflected (RFC 4456 section 8)"
            if attributes.next_hop in own.addresses:
                return "next hop is our own address (RFC 4271 section 5.1.3)"
        for _, numbers in attributes.as_path:
            for number in numbers:
                if number in own.asns:
                    return f"AS_PATH holds our AS {number}: a loop (RFC 4271 section 9.1.2)"
        return None

    def end_of_rib(self, family: Family) -> None:
        """The peer has told all that it knows of a family (RFC 4724 section 2)."""
        self.synced.add(family)
        self._sweep(family)

    def refreshing(self, family: Family, begins: bool, now: float) -> None:
        """The peer begins to tell a family again, or has done so: what it did not repeat goes (RFC 7313 section 4)."""

    def change(self, terms: Terms, now: float) -> None:
        """Treat what is held, and what comes, by other terms."""
        self.terms = terms

    def disable(self, family: Family) -> None:
        """Forget a family for the rest of the session: its NLRI cannot be read (RFC 4760 section 7)."""
        self.disabled.add(family)
        self._clear(family)

    def down(self, negotiated: Negotiated, graceful: bool, now: float) -> None:
        """The session is lost; `graceful` if its routes shall outlive it for the peer's restart time."""
        kept: set[Family] = set()
        restart_time_s = 0
        if graceful and negotiated.graceful is not None:
            kept = {family for family in negotiated.families if family in negotiated.graceful.forwarding}
            restart_time_s = negotiated.graceful.time_s
        self.synced, self.disabled = set(), set()
        for family, table in self._tables():
            if family in kept:
                # What was stale from an earlier loss and never refreshed is not given a second life.
                table.discard_all(self.stale.pop(family, ()))
                self.stale[family] = set(table.rows)
            else:
                self._clear(family)
        self.stale_until = now + restart_time_s if self.stale else None

    def tick(self, now: float) -> None:
        """Forget stale routes whose time is over."""
        if self.stale_until is not None and now >= self.stale_until:
            for family in list(self.stale):
                self._sweep(family)

    def _sweep(self, family: Family) -> None:
        self.rib.table(family, self.source).discard_all(self.stale.pop(family, ()))
        if not self.stale:
            self.stale_until = None

    def _clear(self, family: Family) -> None:
        table = self.rib.table(family, self.source)
        table.discard_all(list(table.rows))
        for each in [each for each in self.refused if each[0] is family]:
            del self.refused[each]
        self._sweep(family)

    def _tables(self) -> list[tuple[Family, RibTable]]:
        return [(family, table) for (family, source), table in self.rib.tables.items() if source == self.source]

    def forget(self) -> None:
        """Remove all that this peer told (the peer is no longer configured)."""
        for family, _ in self._tables():
            self._clear(family)

    def prune(self) -> None:
        """Drop routes that nobody imports any more."""
        if self.keep_all:
            return
        for family, table in self._tables():
            if family in WITH_TARGETS:
                unwanted = [key for key, path in table.rows.items() if not self.interest.of(path.attributes)]
                table.discard_all(unwanted)
