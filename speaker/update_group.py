"""What peers of one kind are told: worked out and encoded once for all of them.

    [rib] ~dirty~> best of the eligible --> export policy --> told --> log of whole messages --> a Member's place there
                                                               |                                  ^ when it has all
                                                               +--> a Member's pending keys ------+

A group serves all established peers to whom `Towards` is the same.  `told` holds what they are told.  A turn takes
dirty keys, compares, encodes, and appends a Batch to the log, of which each member only knows the next number.  A
member that falls behind the end of the log, which is bounded, has pending keys of its own until it knows the present
state, and goes on at the head of the log.  So a reader that is stuck costs as much memory as there are routes at most,
harms nobody, and hears the latest state when it reads again.

A member that is new, asks for a refresh or for other route targets, or comes from another group may have to hear
anything of all keys.  What it held then is its Past, and it goes through that in turns as well; what the group has
not looked at yet comes first, since only what is worked out can be compared.

Members differ in two things: a route is not told to the peer that it came from, and who speaks RT membership (RFC 4684)
hears what it asked for.  Both follow from the sender and the route targets of a path, its Audience.  All routes of a
Chunk have the same, so that a member takes a chunk or leaves it; and when a route comes to have another one, its
withdrawal goes to those who heard the old and do not hear the new.

Which paths (RFC 4456 section 6): without a client the node passes nothing on, and only our own routes are read: those
that all hear, and those that the terms of these peers name.  With one, the sources of a key compete that are eligible
for such a peer: all of them for a client and for a peer of another AS; for an iBGP peer that is no client our own,
those of clients and those of other ASes.  The best of the eligible is told, even if the node itself uses another one:
"best external", so that a peer never lacks a path because the best one came from its own side.  Where several paths
are agreed on (RFC 7911) these are the first ones by repeated decision.  A path that is then kept back (see
`speaker.outward`) has no substitute, and neither has one that came from the peer.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from itertools import islice

import attrs

from speaker.decision import LOCAL, Candidate, best, is_own
from speaker.member import NOTHING, Audience, Entry, Member, Told, Turns, audience
from speaker.outward import Towards, kept_back, outward, unsuited
from speaker.path import Attributes, Path
from speaker.refusal import Own
from speaker.rib import Origin, Rib, Source, peer_of
from speaker.terms import accept
from speaker.values import Family
from speaker.wire.update import encode_updates, encode_withdrawals

LOG_OCTETS = 4 << 20
"""How much of what was said is kept for members that read more slowly, about."""

OCTETS_A_KEY = 16
"""What a route takes in a message, beside its key and its attributes."""

KEYS_AT_ONCE = 64

SNAPSHOTS_KEPT = 64
"""How many runs of the present state are kept encoded, for members that come up together."""

ENTRIES_KEPT = 65536


def about(attributes: Attributes) -> int:
    """Return how many octets attributes take in a message, about."""
    return (
        64
        + 4 * (len(attributes.communities) + len(attributes.cluster_list))
        + 8 * len(attributes.ext_communities)
        + 12 * len(attributes.large_communities)
        + 4 * sum(len(numbers) for _, numbers in attributes.as_path)
        + sum(len(value) for _, _, value in attributes.unknown)
    )


class Chunk:
    """Whole messages for one audience; they are encoded when somebody wants them."""

    __slots__ = ("_messages", "_octets", "but", "to")

    def __init__(self, to: Audience, but: Audience | None, messages: Iterable[bytes]) -> None:
        self.to = to
        self.but = but  # not to who belongs to this audience as well
        self._messages = messages
        self._octets: bytes | None = None

    @property
    def octets(self) -> bytes:
        """The messages."""
        if self._octets is None:
            self._octets = b"".join(self._messages)
            self._messages = ()
        return self._octets


@attrs.define
class Batch:
    """What one turn changed: the keys with what was told of them before, and the messages that say so."""

    family: Family
    changes: dict[bytes, Told]
    chunks: list[Chunk]
    weight: int
    unread_by: int  # members that have a place in the log before it


class UpdateGroup:
    """The peers of one kind."""

    def __init__(self, towards: Towards, groups: UpdateGroups) -> None:
        self.towards = towards
        self.groups = groups
        self.members: list[Member] = []
        self.told: dict[Family, dict[bytes, Told]] = {family: {} for family in towards.families}
        self.audiences: dict[Family, Counter[Audience]] = {family: Counter() for family in towards.families}
        self.unfit: dict[Family, dict[bytes, str]] = {family: {} for family in towards.families}
        self.log: deque[Batch] = deque()
        self.first = 0  # the number of the oldest batch in the log
        self._weight = 0
        self._rib = groups.rib
        self._own = (LOCAL, *towards.hears)
        read = () if towards.reflecting else self._own
        self._reader = self._rib.reader(towards.families, *read, dirty=False)
        self._dirty: dict[Family, dict[bytes, Path | None]] = {family: {} for family in towards.families}
        self._again: dict[Family, list[list[bytes]]] = {family: [] for family in towards.families}
        self._turns = {family: Turns() for family in towards.families}
        self._adopted = 0
        self._entries: dict[tuple[Family, Path, Source], Told] = {}
        self._snapshots: dict[tuple[Family, tuple[bytes, ...]], list[Chunk]] = {}
        for family in towards.families:
            self._rib.table(family, LOCAL)
        for family, source in self._reader.parts:
            self._look_again(family, source)

    @property
    def head(self) -> int:
        """The number of the batch that comes next."""
        return self.first + len(self.log)

    def close(self) -> None:
        """Stop reading the RIB."""
        self._rib.close(self._reader)

    # What is told

    def dirty(self, family: Family) -> bool:
        """Tell whether there are changes of the RIB that were not looked at (hot)."""
        if self._adopted != self._reader.opened:
            self._adopt()
        return bool(self._dirty[family] or self._again[family])

    def _look_again(self, family: Family, source: Source) -> None:
        """Count all keys of a source as dirty: they become so by and by."""
        rows = self._reader.parts[(family, source)].table.rows
        if rows:
            self._again[family].append(list(reversed(rows)))

    def _adopt(self) -> None:
        """Have the readers of all sources of a family note dirty keys in one place: there may be thousands of them."""
        for (family, _), part in self._reader.parts.items():
            common = self._dirty[family]
            if part.dirty is not common:
                common.update(part.dirty)
                part.dirty = common
        self._adopted = self._reader.opened

    def advance(self, family: Family, most: int, room: int) -> int:
        """Look at dirty keys and let the log say what changed; return how many they were (hot).

        It ends after `most` keys, or when the messages have about `room` octets.
        """
        dirty, turns, tables = self._dirty[family], self._turns[family], self._eligible(family)
        again = self._again[family]
        if again and len(dirty) < most:
            dirty |= dict.fromkeys(reversed(again[0][-most:]))
            del again[0][-most:]
            if not again[0]:
                del again[0]
        told, unfit = self.told[family], self.unfit[family]
        changes: dict[bytes, Told] = {}
        chosen: dict[bytes, Told] = {}
        looked_at = size = 0
        last: Attributes | None = None
        while looked_at < most and size < room:
            keys = turns.take(dirty, min(KEYS_AT_ONCE, most - looked_at, room // OCTETS_A_KEY + 1))
            if not keys:
                break
            looked_at += len(keys)
            for key in keys:
                before = told.get(key, NOTHING)
                now = self._choose(family, key, tables)
                if unfit:
                    unfit.pop(key, None)
                if now != before:
                    changes[key] = before
                    chosen[key] = now
                    size += OCTETS_A_KEY + len(key)
                    for path, _, _ in now:
                        if path.attributes is not last:
                            last = path.attributes
                            size += about(last)
        if changes:
            self._commit(family, changes, chosen)
        return looked_at

    def _commit(self, family: Family, changes: dict[bytes, Told], chosen: dict[bytes, Told]) -> None:
        told, audiences = self.told[family], self.audiences[family]
        new = {
            key: now if not (before := changes[key]) else tuple(entry for entry in now if entry not in before)
            for key, now in chosen.items()
        }
        chunks, unfit = self.encoded(family, new.items())
        for key, source, reason in unfit:
            self.unfit[family][key] = reason
            chosen[key] = tuple(entry for entry in chosen[key] if entry[1] != source)
        for key, now in chosen.items():
            before = changes[key]
            if now:
                told[key] = now
            elif before:
                del told[key]
            for entry in now:
                audiences[audience(entry)] += 1
            for entry in before:
                at = audience(entry)
                audiences[at] -= 1
                if not audiences[at]:
                    del audiences[at]
        chunks = [*self._withdrawals(family, changes, chosen), *chunks]
        for member in self.members:
            if member.position is None:
                member.behind(family, changes)
        weight = OCTETS_A_KEY * len(changes) + sum(len(chunk.octets) for chunk in chunks if chunk.but is None)
        unread_by = sum(member.position is not None for member in self.members)
        self.log.append(Batch(family, changes, chunks, weight, unread_by))
        self._weight += weight
        self._snapshots.clear()
        self._shorten()
        while self._weight > self.groups.log_octets and len(self.log) > 1:
            first = self.first
            for member in self.members:
                if member.position == first:
                    self.set_back(member)

    def _eligible(self, family: Family) -> list[tuple[Source, dict[bytes, Path]]]:
        """Return the rows of the sources that such peers may hear of."""
        if not self.towards.reflecting:
            found = ((source, self._rib.tables.get((family, source))) for source in self._own)
            return [(source, table.rows) for source, table in found if table is not None and table.rows]
        sources = self._rib.sources(family)
        return [(source, table.rows) for source, table in sources if table.rows and self.eligible(family, source)]

    def eligible(self, family: Family, source: Source) -> bool:
        """Tell whether such peers of a reflector may hear of a source (RFC 4456 section 6)."""
        towards, peer = self.towards, peer_of(source)
        if is_own(source):
            return source == LOCAL or source in towards.hears
        if family in towards.own_only:
            return False
        if not towards.ibgp or towards.client:
            return True
        return self._rib.origin(peer).external or peer in self.groups.clients

    def _choose(self, family: Family, key: bytes, tables: list[tuple[Source, dict[bytes, Path]]]) -> Told:
        """Return what is to be told of a key now (hot)."""
        found = [(path, source) for source, rows in tables if (path := rows.get(key)) is not None]
        if len(found) == 1:
            return self._entry(family, key, *found[0])
        if not found:
            return NOTHING
        most = self.towards.paths_out if family in self.towards.add_path else 1
        chosen = self._first(found, key, most)
        return tuple(entry for path, source in chosen for entry in self._entry(family, key, path, source))

    def _first(self, found: list[tuple[Path, Source]], key: bytes, most: int) -> list[tuple[Path, Source]]:
        """Return the best path, the best of the others, and so on, up to `most` paths."""
        left = []
        for path, source in found:
            origin = self._rib.origin(peer_of(source))
            left.append(Candidate(path, source, key, origin.external, origin.router_id))
        chosen: list[tuple[Path, Source]] = []
        while left and len(chosen) < most:
            first = best(left)[0]
            left.remove(first)
            chosen.append((first.path, first.source))
        return chosen

    def _entry(self, family: Family, key: bytes, path: Path, source: Source) -> Told:
        """Return what is told of a path that was chosen, nothing if it is kept back (hot)."""
        towards = self.towards
        if path.attributes.communities and kept_back(towards, path.attributes):
            return NOTHING
        if towards.exporting is not accept:
            decided = towards.exporting(family, key, path)
            if decided is None:
                return NOTHING
            path = decided
        found = self._entries.get((family, path, source))
        if found is None:
            if len(self._entries) >= ENTRIES_KEPT:
                self._entries.clear()
            origin = self._rib.origin(peer_of(source))
            found = NOTHING if unsuited(towards, family, path.attributes) else ((path, source, origin),)
            self._entries[(family, path, source)] = found
        return found

    def chosen(self, family: Family, key: bytes) -> Told:
        """Return what members are to be told of a key by the present state of the RIB."""
        return self._choose(family, key, self._eligible(family))

    def senders(self, family: Family, key: bytes) -> set[str]:
        """Return the peers that have told a key, eligible here or not, and the sources of our own that have it."""
        return {peer_of(source) for source, table in self._rib.sources(family) if key in table}

    def reason_untold(self, family: Family, key: bytes) -> str:
        """Tell why no member is told of a key; empty if members are."""
        found = [(rows[key], source) for source, rows in self._eligible(family) if key in rows]
        if not found:
            senders = self.senders(family, key)
            if not senders:
                return "the route is not announced yet"
            if any(map(is_own, senders)):
                return "it is told by speakers that the peer is not in"
            if family in self.towards.own_only:
                return "it came from a peer, and this one without an export policy is told what its speakers say"
            if not self.towards.reflecting:
                return "it is not our own, and the node is no route reflector"
            return "it came from a peer that is no client, and neither is this one (RFC 4456 section 6)"
        if self.chosen(family, key):
            return ""
        path, _ = self._first(found, key, 1)[0]
        kept = kept_back(self.towards, path.attributes)
        decided = path if kept else self.towards.exporting(family, key, path)
        if decided is None:
            return "the export policy rejects it"
        return kept or unsuited(self.towards, family, decided.attributes)

    def reconsider(self, peer: str) -> None:
        """Look at a peer's routes once more: whether they are eligible, or what is told with them, has changed."""
        self._entries.clear()
        for family, source in self._reader.parts:
            if peer_of(source) == peer:
                self._look_again(family, source)

    # Messages

    def encoded(
        self, family: Family, wanted: Iterable[tuple[bytes, Told]]
    ) -> tuple[list[Chunk], list[tuple[bytes, Source, str]]]:
        """Return the messages that announce these paths, and which of them do not fit into any, and why not (hot)."""
        alike: dict[tuple[Attributes, Source, Origin], list[tuple[bytes, bytes]]] = {}
        last: tuple[Attributes, Source, Origin] | None = None
        routes: list[tuple[bytes, bytes]] = []
        add_path = family in self.towards.add_path
        for key, told in wanted:
            for path, source, origin in told:
                wire_key = self.groups.identifier(source) + key if add_path else key
                attributes = path.attributes
                if last is None or last[0] is not attributes or last[1] != source or last[2] is not origin:
                    last = (attributes, source, origin)
                    routes = alike.setdefault(last, [])
                routes.append((wire_key, path.extra))
        said: dict[Audience, list[bytes]] = {}
        unfit: list[tuple[bytes, Source, str]] = []
        for (attributes, source, origin), routes in alike.items():
            out = outward(self.towards, self.groups.own, family, attributes, source, origin)
            messages = said.setdefault((peer_of(source), attributes.route_targets), [])
            for wire_key, reason in self._fit(family, out, routes, messages):
                unfit.append((wire_key[4:] if add_path else wire_key, source, reason))
        self.groups.encoded += sum(map(len, said.values()))
        return [Chunk(to, None, messages) for to, messages in said.items()], unfit

    def _fit(
        self, family: Family, attributes: Attributes, routes: list[tuple[bytes, bytes]], messages: list[bytes]
    ) -> list[tuple[bytes, str]]:
        """Add the messages for these routes, and return which of them do not fit into one, and why not."""
        towards = self.towards
        try:
            messages += list(
                encode_updates(
                    family,
                    attributes,
                    routes,
                    as4=towards.as4,
                    limit=towards.message_limit,
                    add_path=family in towards.add_path,
                )
            )
        except ValueError as error:
            if len(routes) == 1:
                return [(routes[0][0], str(error))]
            return [unfit for route in routes for unfit in self._fit(family, attributes, [route], messages)]
        return []

    def _withdrawals(self, family: Family, changes: dict[bytes, Told], chosen: dict[bytes, Told]) -> Iterator[Chunk]:
        """Yield what takes paths away from those who heard them and do not hear what comes in their place."""
        gone: dict[tuple[Audience, Audience | None], list[bytes]] = {}
        for key, before in changes.items():
            if before:
                after = self.by_identifier(family, key, chosen[key])
                for wire_key, entry in self.by_identifier(family, key, before).items():
                    to = audience(entry)
                    but = audience(after[wire_key]) if wire_key in after else None
                    if but != to:
                        gone.setdefault((to, but), []).append(wire_key)
        for (to, but), keys in gone.items():
            yield Chunk(to, but, self.withdrawn(family, keys))

    def withdrawn(self, family: Family, wire_keys: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the messages that withdraw these."""
        limit, add_path = self.towards.message_limit, family in self.towards.add_path
        for message in encode_withdrawals(family, wire_keys, limit=limit, add_path=add_path):
            self.groups.encoded += 1
            yield message

    def by_identifier(self, family: Family, key: bytes, told: Told) -> dict[bytes, Entry]:
        """Return the paths by what they replace when they are told: the key, with ADD-PATH the identifier in front."""
        if family in self.towards.add_path:
            return {self.groups.identifier(entry[1]) + key: entry for entry in told}
        return {key: told[0]} if told else {}

    def snapshot(self, family: Family, keys: tuple[bytes, ...]) -> list[Chunk]:
        """Return the messages that tell the present state of these keys, the same for all who ask meanwhile."""
        found = self._snapshots.get((family, keys))
        if found is None:
            if len(self._snapshots) >= SNAPSHOTS_KEPT:
                self._snapshots.clear()
            told = self.told[family]
            found, _ = self.encoded(family, [(key, told.get(key, NOTHING)) for key in keys])
            self._snapshots[(family, keys)] = found
        return found

    # Members

    def read(self, member: Member) -> Batch | None:
        """Return the next batch for a member that has a place in the log; None: it has read all (hot)."""
        if member.position is None or member.position >= self.head:
            return None
        batch = self.log[member.position - self.first]
        member.position += 1
        batch.unread_by -= 1
        self._shorten()
        return batch

    def set_back(self, member: Member) -> None:
        """Give a member its unread part of the log as pending keys."""
        for batch in self.unread(member):
            batch.unread_by -= 1
            member.behind(batch.family, batch.changes)
        member.position = None
        self._shorten()

    def _shorten(self) -> None:
        """Drop what all have read."""
        while self.log and not self.log[0].unread_by:
            self._weight -= self.log.popleft().weight
            self.first += 1

    def unread(self, member: Member) -> Iterator[Batch]:
        """Return what a member has not read of the log."""
        return islice(self.log, self.head if member.position is None else member.position - self.first, None)


class UpdateGroups:
    """All groups of the node, and what they share."""

    def __init__(self, rib: Rib, own: Own) -> None:
        self.rib = rib
        self.own = own
        self.clients: set[str] = set()  # the names of the peers that are ours as a route reflector
        self.groups: dict[Towards, UpdateGroup] = {}
        self.log_octets = LOG_OCTETS
        self.encoded = 0  # messages built, however many peers they went to
        self._identifiers: dict[Source, bytes] = {}

    @property
    def reflecting(self) -> bool:
        """Whether the node is a route reflector."""
        return bool(self.clients)

    def identifier(self, source: Source) -> bytes:
        """Return the path identifier of a source: 4 octets, not 0, the same as long as the process lives (hot)."""
        found = self._identifiers.get(source)
        if found is None:
            found = self._identifiers[source] = (len(self._identifiers) + 1).to_bytes(4, "big")
        return found

    def join(self, member: Member, towards: Towards) -> UpdateGroup:
        """Put a member into the group of its kind; where it begins is its own business."""
        group = self.groups.get(towards)
        if group is None:
            group = self.groups[towards] = UpdateGroup(towards, self)
        group.members.append(member)
        return group

    def leave(self, member: Member, group: UpdateGroup) -> None:
        """Take a member out; a group without members is gone."""
        group.set_back(member)
        group.members.remove(member)
        if not group.members:
            group.close()
            del self.groups[group.towards]

    def set_client(self, name: str, client: bool) -> None:
        """Follow whether a peer is a client: who hears of its routes depends on it."""
        if client == (name in self.clients):
            return
        if client:
            self.clients.add(name)
        else:
            self.clients.discard(name)
        for group in self.groups.values():
            if group.towards.reflecting and group.towards.ibgp and not group.towards.client:
                group.reconsider(name)

    def origin_changed(self, name: str) -> None:
        """Follow a change of what is known of a peer: its router id is in what is told of its routes."""
        for group in self.groups.values():
            if group.towards.reflecting:
                group.reconsider(name)
