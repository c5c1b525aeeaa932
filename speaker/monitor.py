"""What one monitoring station is told: sessions, adj-ribs-in, Loc-RIB, as BMP messages made of what is there now.

    engine.neighbours ---- another Negotiated than was told -----------------> Peer Down, Peer Up
    [rib of the peer]   ~dirty~> post-policy --+
    [held of the peer]  ~dirty~> pre-policy  --+- grouped by attributes -----> Route Monitoring, End-of-RIB
    [rib of everybody]  ~dirty~> best path   --+

What is to be told is a set of dirty keys, never a queue of messages: a station that does not read costs as much memory
as there are routes, and hears the latest state when it reads again.  Several changes of a route, or several losses of a
session, between two looks are told as one.

A Monitor lives as long as one connection of the station; a new one finds everything dirty and tells all again.

- Messages are encoded from what was decoded, also those of the pre-policy view, and not passed on as they came, which
  RFC 7854 section 5 leaves to us: AS numbers have 4 octets, attributes that were discarded are missing, and OTC that we
  add at the coming in is there (RFC 9234 section 5).
- Routes that are not held are not told: loops, and in the families with route targets what nobody imports.
- Routes that outlive their session (RFC 4724) are in the Loc-RIB view meanwhile, not in those of the peer, which Peer
  Down ends (RFC 7854 section 4.9).
- When a route came is not remembered: the time of Route Monitoring is that of telling it, and 0, not known, in the
  first table of a view.

RFC 7854 sections 4 to 6 without Route Mirroring (section 4.7), RFC 9069, RFC 7911 (path identifiers in NLRI where the
session has them).  Of the statistics those are told that are counted: rejected by policy (0), routes in the adj-rib-in
(7, 9) and in the Loc-RIB (8, 10), UPDATEs treated as withdrawals (11).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import attrs

from speaker import bmp
from speaker.decision import Candidate, best
from speaker.engine import Engine, Neighbour
from speaker.path import Attributes, Path
from speaker.peer import Peer
from speaker.rib import Rib, Source
from speaker.session import WITH_EXTENDED_NEXT_HOP, Negotiated
from speaker.table import Reader
from speaker.values import Family
from speaker.wire.attribute import AS_TRANS
from speaker.wire.capability import ExtendedMessage, ExtendedNextHop, FourOctetAs, Multiprotocol
from speaker.wire.message import EXTENDED_LIMIT, MESSAGE_LIMIT, Open
from speaker.wire.update import encode_updates, encode_withdrawals, end_of_rib

PRE_POLICY, POST_POLICY, LOC_RIB = "pre-policy", "post-policy", "loc-rib"
VIEWS = (PRE_POLICY, POST_POLICY, LOC_RIB)

TABLE_NAME = "global"
KEYS_A_SHARE = 64
"""Routes that are looked at before the room is: with 4096 octets of their own each they make 256 KiB in each view."""

MANUAL_STOP = 2  # the event of RFC 4271 section 8.1.2

Changes = dict[bytes, Path | None]
"""By NLRI key, with a path identifier in front where the session has them; None: withdrawn."""


@attrs.frozen(kw_only=True)
class Identity:
    """What a station knows us by."""

    name: str
    description: str
    asn: int
    router_id: bytes  # 4 octets


class Monitor:
    """The messages to one station, in the order in which it is to read them."""

    def __init__(
        self, engine: Engine, peers: Callable[[], Mapping[str, Peer]], identity: Identity, views: Iterable[str]
    ) -> None:
        """`peers` returns those of the engine's neighbours as they are now, by the same names."""
        self.engine = engine
        self.identity = identity
        self._peers = peers
        self._views = frozenset(views)
        self._sessions: dict[str, _Session] = {}
        self._loc_rib: _LocRib | None = None
        self._begun = False

    def close(self) -> None:
        """Stop reading the tables."""
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()
        if self._loc_rib is not None:
            self._loc_rib.close()
            self._loc_rib = None

    def output(self, budget: int, now: float, wall: float) -> bytes:
        """Return the next whole messages, about `budget` octets; empty if there is nothing to tell.

        `now` is the engine's clock, `wall` seconds since 1970.
        """
        out = bytearray()
        if not self._begun:
            self._begun = True
            out += self._begin(now, wall)
        out += self._follow_sessions(now, wall)
        views: list[_Session | _LocRib] = [*self._sessions.values()]
        if self._loc_rib is not None:
            views.append(self._loc_rib)
        for view in views:
            while len(out) < budget:
                octets = view.output(wall)
                if not octets:
                    break
                out += octets
        return bytes(out)

    def end(self, now: float, wall: float) -> bytes:
        """Return the last messages: how sessions ended, and that nothing comes any more."""
        if not self._begun:
            return b""
        last = self._follow_sessions(now, wall)
        if self._loc_rib is not None:
            last += bmp.loc_rib_down(self._loc_rib.header, TABLE_NAME, wall=wall)
        self.close()
        return last + bmp.termination()

    def statistics(self, wall: float) -> bytes:
        """Return a Statistics Report for each session that was told, and one for the Loc-RIB."""
        reports = [
            bmp.statistics_report(session.header, session.statistics(), wall=wall)
            for session in self._sessions.values()
        ]
        if self._loc_rib is not None:
            reports.append(bmp.statistics_report(self._loc_rib.header, self._loc_rib.statistics(), wall=wall))
        return b"".join(reports)

    def _begin(self, now: float, wall: float) -> bytes:
        identity = self.identity
        out = bmp.initiation(identity.name, identity.description)
        if LOC_RIB in self._views:
            header = bmp.PeerHeader.of_loc_rib(identity.asn, identity.router_id)
            self._loc_rib = _LocRib(self.engine.rib, header)
            opened = _fabricated(identity)
            out += bmp.peer_up(header, opened, opened, table=TABLE_NAME, wall=wall)
        return out

    def _follow_sessions(self, now: float, wall: float) -> bytes:
        """Tell which sessions ended and which began since the last look."""
        out = b""
        neighbours = self.engine.neighbours
        for name, session in list(self._sessions.items()):
            neighbour = neighbours.get(name)
            if neighbour is not session.neighbour or neighbour.negotiated is not session.negotiated:
                del self._sessions[name]
                session.close()
                out += session.down(wall if session.peer.established is not None else wall - (now - session.peer.since))
        for name, neighbour in neighbours.items():
            if name in self._sessions or neighbour.negotiated is None:
                continue
            peer = self._peers().get(name)
            if peer is not None:
                session = _Session(self.engine.rib, neighbour, neighbour.negotiated, peer, self._views)
                self._sessions[name] = session
                out += session.up(wall - (now - peer.since))
        return out


class _Session:
    """One session of a peer, from its Peer Up to its Peer Down, and the views of what the peer tells in it."""

    def __init__(
        self, rib: Rib, neighbour: Neighbour, negotiated: Negotiated, peer: Peer, views: frozenset[str]
    ) -> None:
        self.neighbour = neighbour
        self.negotiated = negotiated
        self.peer = peer
        self.header = bmp.PeerHeader.of_peer(neighbour.name, negotiated.remote_as, negotiated.remote_router_id)
        self._rib = rib
        self._post = self.header.post_policy() if POST_POLICY in views else None
        self._pre = self.header if PRE_POLICY in views else None
        self._reader = rib.reader(negotiated.families if views - {LOC_RIB} else (), neighbour.name)
        self._held: dict[Family, Reader[bytes, Path]] = {}
        # With ADD-PATH only: which path identifier a key in a table was told with, and what was told of it.
        self._names: dict[tuple[Family, Source], dict[bytes, bytes]] = {}
        self._told: dict[tuple[Family, bytes], Path] = {}
        self._ended: set[Family] = set()  # families whose End-of-RIB was told

    def close(self) -> None:
        self._rib.close(self._reader)
        for reader in self._held.values():
            reader.close()

    def up(self, wall: float) -> bytes:
        agreed, ends = self.negotiated, self.peer.ends
        return bmp.peer_up(
            self.header,
            agreed.open_sent,
            agreed.open_received,
            local=None if ends is None else ends.local,
            remote_port=0 if ends is None else ends.remote[1],
            wall=wall,
        )

    def down(self, wall: float) -> bytes:
        end = self.peer.last_end
        if end is None:
            return bmp.peer_down(self.header, bmp.DE_CONFIGURED, wall=wall)
        if end.sent is not None:
            return bmp.peer_down(self.header, bmp.LOCAL_NOTIFICATION, end.sent.encode(), wall=wall)
        if end.received is not None:
            return bmp.peer_down(self.header, bmp.REMOTE_NOTIFICATION, end.received.encode(), wall=wall)
        if end.local:
            return bmp.peer_down(self.header, bmp.LOCAL_SILENT, MANUAL_STOP.to_bytes(2, "big"), wall=wall)
        return bmp.peer_down(self.header, bmp.REMOTE_SILENT, wall=wall)

    def statistics(self) -> dict[int | tuple[int, Family], int]:
        """Count the routes of the peer, rejected ones included, and what happened since it was configured."""
        adj_rib_in = self.neighbour.adj_rib_in
        routes = adj_rib_in.counts()
        return {
            bmp.REJECTED_BY_POLICY: adj_rib_in.rejections,
            bmp.ADJ_RIB_IN_ROUTES: sum(routes.values()),
            **{(bmp.ADJ_RIB_IN_ROUTES_OF, family): count for family, count in routes.items()},
            bmp.TREATED_AS_WITHDRAW: self.peer.counters.treated_as_withdraw,
        }

    def output(self, wall: float) -> bytes:
        """Return the next messages about a share of the routes (hot)."""
        if self._pre is not None:
            self._follow_held()
        for (family, source), reader in self._reader.parts.items():
            while len(reader):
                post, pre = self._looked_at(family, source, reader)
                octets = self._encoded(family, post, pre, wall)
                if octets:
                    return octets
        for family, held in self._held.items():
            while len(held):
                octets = self._encoded(family, {}, self._looked_at_held(family, held), wall)
                if octets:
                    return octets
        return self._ends(wall)

    def _looked_at(self, family: Family, source: Source, reader: Reader[bytes, Path]) -> tuple[Changes, Changes]:
        """Take dirty keys of a table of the RIB: what changed after the policy, and before it."""
        post: Changes = {}
        pre: Changes = {}
        rows = reader.table.rows
        held = self._held.get(family)
        for key, seen in reader.take(KEYS_A_SHARE).items():
            now = rows.get(key)
            for told, before, after in self._named(family, source, key, seen, now):
                if before is not after:
                    post[told] = after
                if held is not None:
                    kept = held.table.get(told)
                    kept_before = held.dirty.pop(told, kept)
                    before, after = kept_before or before, kept or after
                if before is not after:
                    pre[told] = after
        return post, pre

    def _looked_at_held(self, family: Family, held: Reader[bytes, Path]) -> Changes:
        """Take dirty keys of what the policy changed or rejected, whose routes in the RIB are as they were told."""
        pre: Changes = {}
        for told, seen in held.take(KEYS_A_SHARE).items():
            left = self._in_rib(family, told)
            before, after = seen or left, held.table.get(told) or left
            if before is not after:
                pre[told] = after
        return pre

    def _named(
        self, family: Family, source: Source, key: bytes, seen: Path | None, now: Path | None
    ) -> Iterator[tuple[bytes, Path | None, Path | None]]:
        """Yield a key as it is told, with what was told and what is there now: two if its path identifier changed."""
        if family not in self.negotiated.add_path_receive:
            yield key, seen, now
            return
        names = self._names.setdefault((family, source), {})
        name_before, name = names.pop(key, None), self._identified(family, source, key) if now is not None else None
        if name is not None:
            names[key] = name
        for each in filter(None, {name_before, name}):
            # A path may have gone to another table, whose turn is still to come, or was before this one's.
            before, after = self._told.pop((family, each), None), self._in_rib(family, each)
            if after is not None:
                self._told[(family, each)] = after
            yield each, before, after

    def _identified(self, family: Family, source: Source, key: bytes) -> bytes:
        """Return the key of a route in the RIB with its path identifier in front."""
        sources = self.neighbour.adj_rib_in.sources(family, key)
        return next(number for number, each in sources.items() if each == source).to_bytes(4, "big") + key

    def _in_rib(self, family: Family, told: bytes) -> Path | None:
        """Return what the RIB has of a key as it is told."""
        number, key = 0, told
        if family in self.negotiated.add_path_receive:
            number, key = int.from_bytes(told[:4], "big"), told[4:]
        source = self.neighbour.adj_rib_in.sources(family, key).get(number)
        return None if source is None else self._rib.table(family, source).get(key)

    def _follow_held(self) -> None:
        for family, table in self.neighbour.adj_rib_in.held.items():
            if family not in self._held and family in self.negotiated.families:
                self._held[family] = table.reader()

    def _encoded(self, family: Family, post: Changes, pre: Changes, wall: float) -> bytes:
        wall = wall if family in self._ended else 0.0
        add_path = family in self.negotiated.add_path_receive
        out = b""
        if self._pre is not None and pre:
            out += bmp.route_monitoring(self._pre, _updates(family, pre, add_path), wall=wall)
        if self._post is not None and post:
            out += bmp.route_monitoring(self._post, _updates(family, post, add_path), wall=wall)
        return out

    def _ends(self, wall: float) -> bytes:
        """End-of-RIB of each family whose table was told, and that the peer has told us whole."""
        headers = [header for header in (self._pre, self._post) if header is not None]
        if not headers or len(self._ended) == len(self.negotiated.families):
            return b""
        heard = self.neighbour.adj_rib_in.synced
        if self.negotiated.graceful is None:  # it does not promise to send any
            heard = set(self.negotiated.families)
        ending = sorted((heard | self.neighbour.adj_rib_in.disabled) & self.negotiated.families - self._ended)
        self._ended.update(ending)
        return b"".join(
            bmp.route_monitoring(header, [end_of_rib(family)], wall=wall) for family in ending for header in headers
        )


class _LocRib:
    """The best path to each destination, of all that is known of it (RFC 9069)."""

    def __init__(self, rib: Rib, header: bmp.PeerHeader) -> None:
        self.header = header
        self._rib = rib
        self._reader = rib.reader(Family)
        self._told: dict[Family, dict[bytes, Path]] = {family: {} for family in Family}
        self._ended = False

    def close(self) -> None:
        self._rib.close(self._reader)

    def statistics(self) -> dict[int | tuple[int, Family], int]:
        values: dict[int | tuple[int, Family], int] = {bmp.LOC_RIB_ROUTES: sum(map(len, self._told.values()))}
        return values | {(bmp.LOC_RIB_ROUTES_OF, family): len(told) for family, told in self._told.items() if told}

    def output(self, wall: float) -> bytes:
        """Return the next messages about a share of the routes (hot)."""
        for (family, _), reader in self._reader.parts.items():
            while len(reader):
                changes = self._looked_at(family, reader.take(KEYS_A_SHARE))
                if changes:
                    updates = _updates(family, changes, add_path=False)
                    return bmp.route_monitoring(self.header, updates, wall=wall if self._ended else 0.0)
        if self._ended:
            return b""
        self._ended = True
        return bmp.route_monitoring(self.header, [end_of_rib(family) for family in Family], wall=wall)

    def _looked_at(self, family: Family, keys: Iterable[bytes]) -> Changes:
        changes: Changes = {}
        told = self._told[family]
        tables = [(source, self._rib.origin(source), table.rows) for source, table in self._rib.sources(family)]
        for key in keys:
            candidates = [
                Candidate(path, source, key, origin.external, origin.router_id)
                for source, origin, rows in tables
                if (path := rows.get(key)) is not None
            ]
            if not candidates:
                if told.pop(key, None) is not None:
                    changes[key] = None
                continue
            path = candidates[0].path if len(candidates) == 1 else best(candidates)[0].path
            if told.get(key) is not path:
                told[key] = changes[key] = path
        return changes


def _fabricated(identity: Identity) -> bytes:
    """Return the OPEN of a Loc-RIB, which has no session: it tells what is needed to read its routes (RFC 9069 5.2)."""
    capabilities = (
        *(Multiprotocol(family) for family in Family),
        ExtendedNextHop(WITH_EXTENDED_NEXT_HOP),
        ExtendedMessage(),
        FourOctetAs(identity.asn),
    )
    return Open(identity.asn if identity.asn <= 0xFFFF else AS_TRANS, 0, identity.router_id, capabilities).encode()


def _updates(family: Family, changes: Changes, add_path: bool) -> Iterator[bytes]:
    """Yield UPDATE messages for changes, withdrawals first (hot).

    Only where a route does not fit into 4096 octets beside its attributes, they are extended messages (RFC 8654).  One
    that fits into none, written with 4-octet AS numbers, is told as withdrawn: its old path must not stay.
    """
    withdrawn = [key for key, path in changes.items() if path is None]
    if withdrawn:
        yield from encode_withdrawals(family, withdrawn, add_path=add_path)
    groups: dict[Attributes, list[tuple[bytes, bytes]]] = {}
    for key, path in changes.items():
        if path is not None:
            groups.setdefault(path.attributes, []).append((key, path.extra))
    for attributes, routes in groups.items():
        for limit in (MESSAGE_LIMIT, EXTENDED_LIMIT):
            try:
                told = list(encode_updates(family, attributes, routes, as4=True, limit=limit, add_path=add_path))
            except ValueError:
                continue
            yield from told
            break
        else:
            yield from encode_withdrawals(family, [key for key, _ in routes], add_path=add_path)
