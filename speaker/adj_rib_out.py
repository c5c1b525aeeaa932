"""What one peer is told, and when (adj-rib-out, RFC 4271 section 3.2): the sending half of its sessions.

What it is told is worked out by its update group (`speaker.update_group`), together with all peers to whom the same is
said.  Here is what is its own: what it holds, the route targets that it asked for, refreshes, End-of-RIB.

    past --> pending keys --all told--> a place in the log of the group --the end--> the group looks at what is next
      ^           ^                                      |
      |           +--- too slow -------------------------+
      +--- new session, refresh, memberships, other terms: one at a time, what comes meanwhile waits

What is to be sent is never a queue of messages of its own: a slow peer costs as much memory as there are routes at
most, and gets the latest state when it reads again.

End-of-RIB (RFC 4724 section 2) follows the first full table of each family.  It is what makes a helper drop
our stale routes after our restart, so it waits for two things: that the node has said all its routes (`released`),
and, where RT membership is negotiated, that the peer's memberships are in (RFC 4684 section 6), for 60 s at most.

A refresh after End-of-RIB is put between BoRR and EoRR where the peer knows them (RFC 7313 section 4); one before it
is answered with the routes alone, since BoRR must not come before End-of-RIB.  Who asks while it is being answered is
answered once more after that, however often it asks: a refresh looks at the whole table.

A route that does not fit into a message beside its attributes is withheld, and so is what `speaker.outward` keeps
back; `reason_untold` says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

from speaker.adj_rib_in import WITH_TARGETS
from speaker.member import NOTHING, Hearing, Member, Past, Told, audience
from speaker.membership import Membership
from speaker.outward import UNICAST, Towards
from speaker.path import Attributes
from speaker.rib import RibReader
from speaker.session import Negotiated
from speaker.terms import ACCEPT_ALL, Terms
from speaker.update_group import KEYS_AT_ONCE, OCTETS_A_KEY, UpdateGroup, UpdateGroups, about
from speaker.values import Family
from speaker.wire.capability import LongLivedGracefulRestart
from speaker.wire.message import KEEPALIVE, RouteRefresh
from speaker.wire.update import end_of_rib

MEMBERSHIP_WAIT_S = 60.0
KEYS_A_TURN = 4096
"""How many routes are looked at in a turn, at most."""

NONE: Set[Family] = frozenset()

BEGIN, END = 1, 2  # of a refresh (RFC 7313 section 3.2)


class AdjRibOut:
    """The sending half of one peer; pulled by the transport when the socket can take more."""

    def __init__(self, source: str, groups: UpdateGroups) -> None:
        self.source = source
        self.negotiated: Negotiated | None = None
        self.terms = ACCEPT_ALL
        self.told_all: set[Family] = set()  # families whose End-of-RIB went out
        self.released = False
        self._groups = groups
        self._families: list[Family] = []  # in the order in which they are told
        self._member: Member | None = None
        self._group: UpdateGroup | None = None
        self._memberships: RibReader | None = None  # of all paths that it tells of each
        self._members_synced = False
        self._members_until = 0.0
        self._requests: list[bytes] = []
        self._moving = False  # to the group where it belongs by its terms
        self._shut: Set[Family] = NONE  # of which it hears nothing more in the group where it was
        self._unreadable = False  # its memberships cannot be read any more, and what is told does not yet follow
        self._refreshes: dict[Family, None] = {}  # asked for, and not begun
        self._refreshing: dict[Family, bool] = {}  # begun, and not ended; whether between BoRR and EoRR

    def up(self, negotiated: Negotiated, now: float) -> None:
        """A session is established: everything is to be told anew."""
        self.down()
        self.negotiated = negotiated
        # Memberships first: what others send us depends on them.
        self._families = sorted(negotiated.families, key=lambda family: (family is not Family.RTC, family))
        membership = None
        if Family.RTC in negotiated.families:
            self._memberships = self._groups.rib.reader((Family.RTC,), self.source)
            self._members_until = now + MEMBERSHIP_WAIT_S
            membership = Membership(())
        towards = self._towards(negotiated)
        hearing = Hearing(self.source, towards.client, membership)
        self._member = Member(self._families, hearing)
        self._group = self._groups.join(self._member, towards)
        for family, told in self._group.told.items():
            if told:
                self._member.past[family] = Past(family, hearing, {}, {}, dict(told))
        if not self._member.past:
            self._member.position = self._group.head

    def down(self) -> None:
        """The session is lost: nothing is told any more."""
        if self._member is not None and self._group is not None:
            self._groups.leave(self._member, self._group)
        if self._memberships is not None:
            self._groups.rib.close(self._memberships)
        self.negotiated = self._member = self._group = self._memberships = None
        self._members_synced = self._moving = self._unreadable = False
        self._shut = NONE
        self.told_all, self._requests, self._refreshes, self._refreshing = set(), [], {}, {}

    def _towards(self, negotiated: Negotiated) -> Towards:
        terms, add_path = self.terms, negotiated.add_path_send
        return Towards(
            families=negotiated.families,
            ibgp=negotiated.ibgp,
            client=terms.client and negotiated.ibgp,
            local_as=negotiated.local_as,
            as4=negotiated.as4,
            message_limit=negotiated.message_limit,
            add_path=add_path,
            paths_out=terms.paths_out if add_path else 1,
            exporting=terms.exporting,
            extended_next_hop=negotiated.extended_next_hop,
            role=negotiated.role,
            long_lived=any(isinstance(told, LongLivedGracefulRestart) for told in negotiated.remote_capabilities),
            reflecting=self._groups.reflecting,
            hears=terms.hears,
            own_only=terms.own_only & negotiated.families,
        )

    # What happens meanwhile

    def members_synced(self) -> None:
        """The peer's RT memberships are complete."""
        self._members_synced = True

    def members_unreadable(self) -> None:
        """The peer's RT memberships cannot be read any more: it gets all routes, as if it had never spoken of them."""
        if self._memberships is not None:
            self._groups.rib.close(self._memberships)
            self._memberships = None
            self._unreadable = True

    def tick(self, now: float) -> None:
        """Wait no longer for RT memberships when their time is over (RFC 4684 section 6)."""
        deadline = self.deadline()
        if deadline is not None and now >= deadline:
            self._members_synced = True

    def deadline(self) -> float | None:
        """Return when waiting for memberships ends, if that is going on."""
        return self._members_until if self._memberships is not None and not self._members_synced else None

    def ask_again(self, families: Set[Family] = WITH_TARGETS) -> None:
        """Ask the peer for all routes of these families, of those that have route targets by default (RFC 2918)."""
        if self.negotiated is not None and self.negotiated.route_refresh:
            for family in sorted(self.negotiated.families & families):
                request = RouteRefresh(family).encode()
                if request not in self._requests:
                    self._requests.append(request)

    def refresh(self, family: Family) -> None:
        """The peer asks for a family again (RFC 2918 section 4)."""
        if family in self._families and self._member is not None:
            self._refreshes[family] = None

    def change(self, terms: Terms) -> None:
        """Tell by other terms: only what differs is said."""
        self.terms = terms
        self.regroup()

    def regroup(self) -> None:
        """Go where the peer belongs by its terms and by whether the node reflects; it is told the difference.

        What it must not hear any more it is not told while it waits for that, either.
        """
        if self.negotiated is not None and self._group is not None:
            before, towards = self._group.towards, self._towards(self.negotiated)
            self._moving = towards != before
            self._shut = NONE if before.hears <= towards.hears else UNICAST.intersection(self._families)

    def _waiting(self) -> Set[Family]:
        """Return the families that are to be told in another way, or again (hot)."""
        if self._moving:
            return frozenset(self._families)
        again = self._refreshes.keys() - self._refreshing if self._refreshes else NONE
        if self._unreadable or (self._memberships is not None and len(self._memberships)):
            return again | WITH_TARGETS.intersection(self._families)
        return again

    def _begin(self, member: Member, old: UpdateGroup, negotiated: Negotiated) -> tuple[int, list[bytes]]:
        """Begin what waited: other terms, other memberships, refreshes, all in one; return as `_step` does."""
        families, again = self._waiting(), self._refreshes.keys() - self._refreshing
        before, group = member.hearing, old
        held = {family: self.sent[family] for family in self._shut if not member.free(family)}
        holding = {family: {key: sent.paths(key) for key in sent} for family, sent in held.items()}
        old.set_back(member)
        if self._moving:
            self._groups.leave(member, old)
            self._group = group = self._groups.join(member, self._towards(negotiated))
        member.hearing = Hearing(self.source, group.towards.client, self._asked_for(before.membership))
        self._moving = self._unreadable = False
        self._shut = NONE
        keys = 0
        for family in families:
            # The same memberships are others with another ORIGINATOR_ID
            anew = family in again or (family is Family.RTC and before.client != member.hearing.client)
            pending, now = member.pending[family], group.told[family]
            if family in holding:
                anew |= member.past[family].again
                past = Past(family, before, holding[family], {}, dict(now), again=anew)
            elif before.nothing(family):
                past = Past(family, before, {}, {}, dict(now))
            elif group is not old:
                told = dict(old.told[family]) if old.members else old.told[family]
                past = Past(family, before, told, pending, dict(now), again=anew)
            elif anew or member.hearing.differs(before, family, group.audiences[family]):
                past = Past(family, before, dict(now), pending, {}, again=anew)
            else:
                past = Past(family, before, {}, pending, {})
            member.pending[family] = {}
            member.past.pop(family, None)
            if past:
                member.past[family] = past
            keys += len(now)
        begun = []
        for family in sorted(again):
            del self._refreshes[family]
            self._refreshing[family] = negotiated.enhanced_refresh and family in self.told_all
            if self._refreshing[family]:
                begun.append(RouteRefresh(family, BEGIN).encode())
        return keys, begun

    def _asked_for(self, membership: Membership | None) -> Membership | None:
        """Return the peer's memberships by now."""
        if self._memberships is None:
            return None
        if not len(self._memberships):
            return membership
        parts = self._memberships.parts.values()
        for part in parts:
            part.take()
        return Membership({key for part in parts for key in part.table.rows})

    # What is said

    def output(self, budget: int) -> bytes:
        """Return the next whole messages, about `budget` octets; empty if there is nothing to say.

        After many keys of which little is for this peer it is less; where nothing is, and before a refresh that waited
        for another one, it is a KEEPALIVE, for others wait and the rest must follow.
        """
        if self._member is None or self._group is None or self.negotiated is None:
            return b""
        out: list[bytes] = []
        if self._requests and not self._behind(Family.RTC):  # the answer shall know of our latest memberships
            out, self._requests = self._requests, []
        size = looked_at = 0
        while size < budget:
            step = self._step(self._member, self._group, budget - size)
            if step is None:
                break
            looked_at += step[0]
            out += step[1]
            size += sum(map(len, step[1]))
            if looked_at >= KEYS_A_TURN:
                return b"".join(out) or KEEPALIVE
        out += self._ends(self._member)
        return b"".join(out) or (KEEPALIVE if self._refreshes else b"")

    def _step(self, member: Member, group: UpdateGroup, room: int) -> tuple[int, list[bytes]] | None:
        """Go one step on; return how many keys that took and what is to be said, None when all is said (hot)."""
        waiting = self._waiting()
        shut = self._shut
        if waiting and self.negotiated is not None and all(member.free(family) for family in waiting - shut):
            return self._begin(member, group, self.negotiated)
        if member.position is None:
            for family in self._families:
                if family in shut:
                    continue
                if family in member.past and group.dirty(family):
                    return group.advance(family, KEYS_A_TURN, room), []
                if family in member.past or member.pending[family]:
                    return self._catch_up(member, group, family, room)
            member.position = group.head
        batch = group.read(member)
        if batch is not None:
            hears, family = member.hearing.hears, batch.family
            heard = [
                chunk.octets
                for chunk in batch.chunks
                if hears(family, chunk.to) and not (chunk.but is not None and hears(family, chunk.but))
            ]
            return len(batch.changes), heard
        for family in self._families:
            if group.dirty(family):
                return group.advance(family, KEYS_A_TURN, room), []
        return None

    def _catch_up(self, member: Member, group: UpdateGroup, family: Family, room: int) -> tuple[int, list[bytes]]:
        """Tell the present state of the next pending keys (hot)."""
        pending, told, hearing = member.pending[family], group.told[family], member.hearing
        looked_at = size = 0
        last: Attributes | None = None
        whole: list[bytes] = []
        partly: list[tuple[bytes, Told]] = []
        withdrawn: list[bytes] = []
        while size < room and looked_at < KEYS_A_TURN and (pending or family in member.past):
            taken, again = member.take(family, min(KEYS_AT_ONCE, room // OCTETS_A_KEY + 1))
            looked_at += len(taken)
            for key, before in taken.items():
                now = told.get(key, NOTHING)
                size += OCTETS_A_KEY + len(key)
                if now and now[0][0].attributes is not last:
                    last = now[0][0].attributes
                    size += about(last) * len(now)
                if not before:
                    if now:
                        whole.append(key)
                    continue
                after = hearing.heard(family, now)
                if before == after and not again:
                    continue
                held = group.by_identifier(family, key, before)
                wanted = group.by_identifier(family, key, after)
                withdrawn += [wire_key for wire_key in held if wire_key not in wanted]
                changed = tuple(entry for wire_key, entry in wanted.items() if again or held.get(wire_key) != entry)
                if changed == now and now:
                    whole.append(key)
                elif changed:
                    partly.append((key, changed))
        chunks = group.snapshot(family, tuple(whole)) if whole else []
        if partly:
            chunks = [*chunks, *group.encoded(family, partly)[0]]
        said = list(group.withdrawn(family, withdrawn)) if withdrawn else []
        said += [chunk.octets for chunk in chunks if hearing.hears(family, chunk.to)]
        return looked_at, said

    def _ends(self, member: Member) -> Iterator[bytes]:
        """Yield what ends a refresh or a first full table."""
        for family, marked in list(self._refreshing.items()):
            if family not in member.past and not member.pending[family]:
                del self._refreshing[family]
                if marked:
                    yield RouteRefresh(family, END).encode()
        if self.released and len(self.told_all) < len(self._families):
            for family in self._families:
                if family not in self.told_all and self._complete(family) and not self._behind(family):
                    self.told_all.add(family)
                    yield end_of_rib(family)

    def _complete(self, family: Family) -> bool:
        return family not in WITH_TARGETS or self._memberships is None or self._members_synced

    def _behind(self, family: Family) -> bool:
        """Tell whether there is more to be told of a family."""
        member, group = self._member, self._group
        if member is None or group is None or family not in member.pending:
            return False
        if family in self._waiting() or family in member.past or member.pending[family] or group.dirty(family):
            return True
        return any(batch.family is family for batch in group.unread(member))

    # For the looking glass

    @property
    def sent(self) -> dict[Family, Sent]:
        """What the peer holds of us."""
        if self._member is None or self._group is None:
            return {}
        return {family: Sent(self._member, self._group, family) for family in self._families}

    def reason_untold(self, family: Family, key: bytes) -> str:
        """Tell why the peer was not told of a route."""
        member, group = self._member, self._group
        if self.negotiated is None or member is None or group is None:
            return "the session is not established"
        if family not in self.negotiated.families:
            return f"the session does not carry {family.text}"
        if group.senders(family, key) == {self.source}:
            return "it came from this peer"
        reason = group.reason_untold(family, key)
        if reason:
            return reason
        chosen = group.chosen(family, key)
        if not member.hearing.heard(family, chosen):
            if all(audience(entry)[0] == self.source for entry in chosen):
                return "it came from this peer"
            return "the peer did not ask for any of its route targets (RFC 4684)"
        return group.unfit[family].get(key, "it is about to be sent")


class Sent:
    """The NLRI keys of a family that a peer holds; the length counts paths, of which a key may have several."""

    def __init__(self, member: Member, group: UpdateGroup, family: Family) -> None:
        self._member = member
        self._group = group
        self._family = family

    def __contains__(self, key: object) -> bool:
        return isinstance(key, bytes) and bool(self.paths(key))

    def __iter__(self) -> Iterator[bytes]:
        return (key for key in self._group.told[self._family] | self._unheard() if key in self)

    def __len__(self) -> int:
        family, hearing, told = self._family, self._member.hearing, self._group.told[self._family]
        count = self.wanted
        for key, held in self._unheard().items():
            count += len(held) - len(hearing.heard(family, told.get(key, NOTHING)))
        return count

    @property
    def wanted(self) -> int:
        """How many paths it holds as soon as it has heard the latest; unlike the length, no look at any key."""
        hears, family = self._member.hearing.hears, self._family
        return sum(number for each, number in self._group.audiences[family].items() if hears(family, each))

    def paths(self, key: bytes) -> Told:
        """Return what the peer was told last of a key."""
        family, hearing = self._family, self._member.hearing
        past = self._member.past.get(family)
        if past is not None and key in past:
            return past.held(key)
        before = self._member.pending[family].get(key)
        for batch in self._group.unread(self._member):
            if before is None and batch.family is family:
                before = batch.changes.get(key)
        return hearing.heard(family, self._group.told[family].get(key, NOTHING) if before is None else before)

    def _unheard(self) -> dict[bytes, Told]:
        """Return the keys of which the peer has not heard the latest, with what it holds."""
        member, family = self._member, self._family
        unsaid = dict(member.pending[family])
        for batch in self._group.unread(member):
            if batch.family is family:
                for key, before in batch.changes.items():
                    unsaid.setdefault(key, before)
        held = {key: member.hearing.heard(family, before) for key, before in unsaid.items()}
        past = member.past.get(family)
        return held if past is None else held | {key: past.held(key) for key in past}
