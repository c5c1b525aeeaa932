"""What one peer is told, and when (adj-rib-out, RFC 4271 section 3.2): the sending half of its sessions.

What it is told is worked out by its update group (`speaker.update_group`), together with all peers to whom the same is
said.  Here is what is its own: what it holds, the route targets that it asked for, refreshes, End-of-RIB.

    pending keys --all told--> a place in the log of the group --the end--> the group looks at the next changes
         ^                                     |
         +--- new session, refresh, memberships, other terms, too slow

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
from speaker.membership import Membership
from speaker.outward import Towards
from speaker.path import Attributes
from speaker.rib import RibReader
from speaker.session import Negotiated
from speaker.terms import ACCEPT_ALL, Terms
from speaker.update_group import (
    KEYS_AT_ONCE,
    NOTHING,
    OCTETS_A_KEY,
    Held,
    Member,
    Told,
    UpdateGroup,
    UpdateGroups,
    about,
    anew,
    audience,
)
from speaker.values import Family
from speaker.wire.capability import LongLivedGracefulRestart
from speaker.wire.message import KEEPALIVE, RouteRefresh
from speaker.wire.update import end_of_rib

MEMBERSHIP_WAIT_S = 60.0
KEYS_A_TURN = 4096
"""How many routes are looked at in a turn, at most."""

BATCH_OCTETS = 64 * 1024
"""What is said at once where nobody has said how much room there is."""

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
        self._member = Member(self.source, self._families, membership)
        self._group = self._groups.join(self._member, self._towards(negotiated))
        for family, told in self._group.told.items():
            self._member.pending[family] = dict.fromkeys(told, NOTHING)
        if not any(self._group.told.values()):
            self._member.position = self._group.head

    def down(self) -> None:
        """The session is lost: nothing is told any more."""
        if self._member is not None and self._group is not None:
            self._groups.leave(self._member, self._group)
        if self._memberships is not None:
            self._groups.rib.close(self._memberships)
        self.negotiated = self._member = self._group = self._memberships = None
        self._members_synced = False
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
            self._asked_for(None)

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

    def _repeat(self, family: Family, member: Member, group: UpdateGroup) -> None:
        """Have all of a family told again."""
        group.set_back(member)
        pending = member.pending[family]
        for key in [*pending, *group.told[family]]:
            held = member.heard(family, pending.get(key, group.told[family].get(key, NOTHING)))
            pending[key] = Held(anew(held)) if held else NOTHING

    def change(self, terms: Terms) -> None:
        """Tell by other terms: only what differs is said."""
        self.terms = terms
        self.regroup()

    def regroup(self) -> None:
        """Go where the peer belongs by its terms and by whether the node reflects; it is told the difference."""
        member, old, negotiated = self._member, self._group, self.negotiated
        if member is None or old is None or negotiated is None:
            return
        towards = self._towards(negotiated)
        if towards == old.towards:
            return
        old.set_back(member)
        held = {
            family: {key: member.heard(family, member.pending[family].get(key, told)) for key, told in rows.items()}
            for family, rows in old.told.items()
        }
        for family, pending in member.pending.items():
            held[family] |= {key: member.heard(family, told) for key, told in pending.items()}
        self._groups.leave(member, old)
        if towards.client != old.towards.client and Family.RTC in held:  # the same paths, with another ORIGINATOR_ID
            held[Family.RTC] = {key: anew(told) for key, told in held[Family.RTC].items()}
        self._group = group = self._groups.join(member, towards)
        for family in self._families:
            while group.dirty(family):  # only what the new group has worked out can be compared
                group.advance(family, KEYS_A_TURN, BATCH_OCTETS)
            told, before = group.told[family], held[family]
            member.pending[family] = {
                key: Held(before.get(key, NOTHING))
                for key in (before | told)
                if before.get(key, NOTHING) != member.heard(family, told.get(key, NOTHING))
            }

    def _asked_for(self, membership: Membership | None) -> None:
        """Follow the peer's memberships: keys of which it hears more or less now are pending."""
        member, group = self._member, self._group
        if member is None or group is None:
            return
        group.set_back(member)
        before = member.membership
        for family in WITH_TARGETS.intersection(self._families):
            pending = member.pending[family]
            for key, told in pending.items():
                if told:
                    pending[key] = Held(member.heard(family, told))
            differing = {
                targets
                for targets in {targets for _, targets in group.audiences[family]}
                if (before is None or before.wants(targets)) != (membership is None or membership.wants(targets))
            }
            if differing:
                for key, told in group.told[family].items():
                    if key not in pending and any(path.attributes.route_targets in differing for path, _ in told):
                        pending[key] = Held(member.heard(family, told))
        member.membership = membership

    # What is said

    def output(self, budget: int) -> bytes:
        """Return the next whole messages, about `budget` octets; empty if there is nothing to say.

        After many keys of which nothing is for this peer, and before a refresh that waited for another one, it is a
        KEEPALIVE, for others wait and the rest must follow.
        """
        if self._member is None or self._group is None or self.negotiated is None:
            return b""
        if self._memberships is not None and len(self._memberships):
            parts = self._memberships.parts.values()
            for part in parts:
                part.take()
            self._asked_for(Membership({key for part in parts for key in part.table.rows}))
        out: list[bytes] = []
        if self._requests and not self._behind(Family.RTC):  # the answer shall know of our latest memberships
            out, self._requests = self._requests, []
        for family in [family for family in self._refreshes if family not in self._refreshing]:
            del self._refreshes[family]
            self._repeat(family, self._member, self._group)
            marked = self._refreshing[family] = self.negotiated.enhanced_refresh and family in self.told_all
            if marked:
                out.append(RouteRefresh(family, BEGIN).encode())
        size = looked_at = 0
        while size < budget:
            step = self._step(self._member, self._group, budget - size)
            if step is None:
                break
            looked_at += step[0]
            out += step[1]
            size += sum(map(len, step[1]))
            if looked_at >= KEYS_A_TURN and not out:
                return KEEPALIVE
        out += self._ends(self._member)
        return b"".join(out) or (KEEPALIVE if self._refreshes else b"")

    def _step(self, member: Member, group: UpdateGroup, room: int) -> tuple[int, list[bytes]] | None:
        """Go one step on; return how many keys that took and what is to be said, None when all is said (hot)."""
        if member.position is None:
            for family in self._families:
                if member.pending[family]:
                    return self._catch_up(member, group, family, room)
            member.position = group.head
        batch = group.read(member)
        if batch is not None:
            hears, family = member.hears, batch.family
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
        pending, told = member.pending[family], group.told[family]
        looked_at = size = 0
        last: Attributes | None = None
        whole: list[bytes] = []
        partly: list[tuple[bytes, Told]] = []
        withdrawn: list[bytes] = []
        while size < room and looked_at < KEYS_A_TURN and pending:
            taken = member.turns[family].take(pending, min(KEYS_AT_ONCE, room // OCTETS_A_KEY + 1))
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
                held = group.by_identifier(family, key, member.heard(family, before))
                wanted = group.by_identifier(family, key, member.heard(family, now))
                withdrawn += [wire_key for wire_key in held if wire_key not in wanted]
                changed = tuple(entry for wire_key, entry in wanted.items() if held.get(wire_key) != entry)
                if changed == now and now:
                    whole.append(key)
                elif changed:
                    partly.append((key, changed))
        chunks = group.snapshot(family, tuple(whole)) if whole else []
        if partly:
            chunks = [*chunks, *group.encoded(family, partly)[0]]
        said = list(group.withdrawn(family, withdrawn)) if withdrawn else []
        said += [chunk.octets for chunk in chunks if member.hears(family, chunk.to)]
        return looked_at, said

    def _ends(self, member: Member) -> Iterator[bytes]:
        """Yield what ends a refresh or a first full table."""
        for family, marked in list(self._refreshing.items()):
            if not member.pending[family]:
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
        unread = any(batch.family is family for batch in group.unread(member))
        return bool(member.pending[family]) or unread or group.dirty(family)

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
        reason = group.reason_untold(family, key)
        if reason:
            return reason
        chosen = group.chosen(family, key)
        if not member.heard(family, chosen):
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
        return (key for key in self._group.told[self._family] | self._unsaid() if key in self)

    def __len__(self) -> int:
        member, family, told = self._member, self._family, self._group.told[self._family]
        count = sum(number for each, number in self._group.audiences[family].items() if member.hears(family, each))
        for key, before in self._unsaid().items():
            count += len(member.heard(family, before)) - len(member.heard(family, told.get(key, NOTHING)))
        return count

    def paths(self, key: bytes) -> Told:
        """Return what the peer was told last of a key."""
        family = self._family
        before: Told | Held | None = self._member.pending[family].get(key)
        for batch in self._group.unread(self._member):
            if before is None and batch.family is family:
                before = batch.changes.get(key)
        return self._member.heard(family, self._group.told[family].get(key, NOTHING) if before is None else before)

    def _unsaid(self) -> dict[bytes, Told | Held]:
        """Return the keys that have changed since the peer heard of them, with what it was told."""
        unsaid = dict(self._member.pending[self._family])
        for batch in self._group.unread(self._member):
            if batch.family is self._family:
                for key, before in batch.changes.items():
                    unsaid.setdefault(key, before)
        return unsaid
