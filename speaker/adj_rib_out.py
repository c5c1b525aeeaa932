"""What one peer is told: our own routes, as far as it wants them (adj-rib-out, RFC 4271 section 3.2).

What is to be sent is a set of dirty keys, never a queue of messages: a slow peer costs as much memory as the
node has routes of its own, and gets the latest state when it reads again.

    [ local routes ] ~dirty~> wanted by the peer's RT membership? --> as iBGP or eBGP --> grouped by attributes -->
    UPDATE

Received routes are not passed on: the node is a PE, neither transit nor, yet, a route reflector.

End-of-RIB (RFC 4724 section 2) follows the first full table of each family.  It is what makes a helper drop
our stale routes after our restart, so it waits for two things: that the node has said all its routes (`release`),
and, where RT membership is negotiated, that the peer's memberships are in (RFC 4684 section 6), for 60 s at most.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from speaker.adj_rib_in import WITH_TARGETS
from speaker.decision import DEFAULT_LOCAL_PREF, LOCAL
from speaker.path import AS_SEQUENCE, Attributes, Path
from speaker.rib import Rib, RibReader
from speaker.session import Negotiated
from speaker.table import Reader
from speaker.values import Family
from speaker.wire.attribute import Interner, make
from speaker.wire.message import RouteRefresh
from speaker.wire.update import encode_updates, encode_withdrawals, end_of_rib

MEMBERSHIP_WAIT_S = 60.0
KEYS_A_TURN = 4096


class Membership:
    """The route targets that a peer asked for (RFC 4684): prefixes of origin AS and route target."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        self.exact: set[bytes] = set()
        self.partial: list[tuple[bytes, int]] = []  # route target octets, bits that count
        self.everything = False
        for key in keys:
            bits = key[-1]
            if bits <= 32:  # the default route, or an origin AS without a target: any target of that origin
                self.everything = True
            elif bits == 96:
                self.exact.add(key[4:12])
            else:
                self.partial.append((key[4:-1], bits - 32))

    def wants(self, attributes: Attributes) -> bool:
        """Tell whether a route with these attributes has a route target that the peer asked for."""
        targets = attributes.route_targets
        if self.everything or not targets.isdisjoint(self.exact):
            return True
        return any(_covers(octets, bits, target) for octets, bits in self.partial for target in targets)


def _covers(octets: bytes, bits: int, target: bytes) -> bool:
    shift = 64 - bits
    return int.from_bytes(octets.ljust(8, b"\0"), "big") >> shift == int.from_bytes(target, "big") >> shift


class AdjRibOut:
    """The sending half of one peer; pulled by the transport when the socket can take more."""

    def __init__(self, source: str, rib: Rib, interner: Interner) -> None:
        self.source = source
        self.rib = rib
        self.interner = interner
        self.negotiated: Negotiated | None = None
        self.sent: dict[Family, dict[bytes, Path]] = {}
        self.told_all: set[Family] = set()  # families whose End-of-RIB went out
        self.released = False
        self._local: RibReader | None = None
        self._members: Reader[bytes, Path] | None = None
        self._membership: Membership | None = None
        self._members_synced = False
        self._members_until = 0.0
        self._requests: list[bytes] = []
        self._as_sent: dict[Attributes, Attributes] = {}

    def up(self, negotiated: Negotiated, now: float) -> None:
        """A session is established: everything is to be told anew."""
        self.down()
        self.negotiated = negotiated
        self.sent = {family: {} for family in negotiated.families}
        self._local = self.rib.reader(negotiated.families, LOCAL)
        for family in negotiated.families:
            self.rib.table(family, LOCAL)
        if Family.RTC in negotiated.families:
            self._members = self.rib.table(Family.RTC, self.source).reader()
            self._membership = Membership(())
            self._members_until = now + MEMBERSHIP_WAIT_S

    def down(self) -> None:
        """The session is lost: nothing is told any more."""
        if self._local is not None:
            self.rib.close(self._local)
        if self._members is not None:
            self._members.close()
        self.negotiated = self._local = self._members = self._membership = None
        self._members_synced = False
        self.sent, self.told_all, self._requests, self._as_sent = {}, set(), [], {}

    def members_synced(self) -> None:
        """The peer's RT memberships are complete."""
        self._members_synced = True

    def ask_again(self) -> None:
        """Ask the peer for all routes of the families that have route targets (RFC 2918)."""
        if self.negotiated is not None and self.negotiated.route_refresh:
            for family in sorted(self.negotiated.families & WITH_TARGETS):
                request = RouteRefresh(family).encode()
                if request not in self._requests:
                    self._requests.append(request)

    def refresh(self, family: Family) -> None:
        """The peer asks for a family again (RFC 2918 section 4)."""
        if self._local is None or family not in self.sent:
            return
        part = self._local.parts[(family, LOCAL)]
        for key in part.table.rows:
            self.sent[family].pop(key, None)  # what is only in `sent` still awaits its withdrawal
        part.again(part.table.rows)

    def reason_untold(self, family: Family, key: bytes) -> str:
        """Tell why the peer was not told of one of our routes (for the looking glass)."""
        if self.negotiated is None:
            return "the session is not established"
        if family not in self.negotiated.families:
            return f"the session does not carry {family.text}"
        path = self.rib.table(family, LOCAL).get(key)
        if path is None:
            return "the route is not announced yet"
        if self._membership is not None and family in WITH_TARGETS and not self._membership.wants(path.attributes):
            return "the peer did not ask for any of its route targets (RFC 4684)"
        return "it is about to be sent"

    def deadline(self) -> float | None:
        """Return when waiting for memberships ends, if that is going on."""
        return self._members_until if self._members is not None and not self._members_synced else None

    def output(self, budget: int, now: float) -> bytes:
        """Return the next whole messages, about `budget` octets; empty if there is nothing to say."""
        if self.negotiated is None or self._local is None:
            return b""
        if self._requests:
            octets = b"".join(self._requests)
            self._requests = []
            return octets
        self._look_at_members()
        out: list[bytes] = []
        size = 0
        for family in sorted(self.negotiated.families, key=lambda family: family is not Family.RTC):
            part = self._local.parts[(family, LOCAL)]
            while part.dirty and size < budget:
                for message in self._messages(family, part):
                    out.append(message)
                    size += len(message)
            if not part.dirty and family not in self.told_all and self._complete(family, now):
                self.told_all.add(family)
                out.append(end_of_rib(family))
                size += len(out[-1])
        return b"".join(out)

    def _complete(self, family: Family, now: float) -> bool:
        if not self.released:
            return False
        return family not in WITH_TARGETS or self._members is None or self._members_synced or now >= self._members_until

    def _look_at_members(self) -> None:
        """Follow the peer's memberships; a change makes every route with targets dirty again."""
        if self._members is None or self._local is None or not self._members.dirty:
            return
        self._members.take()
        self._membership = Membership(self._members.table.rows)
        for (family, _), part in self._local.parts.items():
            if family in WITH_TARGETS:
                part.again(part.table.rows)

    def _messages(self, family: Family, part: Reader[bytes, Path]) -> Iterator[bytes]:
        """Yield the UPDATEs for the next dirty keys of a family: withdrawals, then routes by attributes."""
        assert self.negotiated is not None
        sent = self.sent[family]
        withdrawn: list[bytes] = []
        by_attributes: dict[Attributes, list[tuple[bytes, bytes]]] = {}
        for key in part.take(KEYS_A_TURN):
            path = part.table.rows.get(key)
            if path is not None and self._membership is not None and family in WITH_TARGETS:
                path = path if self._membership.wants(path.attributes) else None
            if path is None:
                if sent.pop(key, None) is not None:
                    withdrawn.append(key)
                continue
            if sent.get(key) is not path:
                sent[key] = path
                by_attributes.setdefault(self._outward(path.attributes), []).append((key, path.extra))
        limit = self.negotiated.message_limit
        yield from encode_withdrawals(family, withdrawn, limit)
        for attributes, routes in by_attributes.items():
            yield from encode_updates(family, attributes, routes, as4=self.negotiated.as4, limit=limit)

    def _outward(self, attributes: Attributes) -> Attributes:
        """Return the attributes as this peer gets them (RFC 4271 sections 5.1.2 and 5.1.5)."""
        made = self._as_sent.get(attributes)
        if made is None:
            assert self.negotiated is not None
            ibgp = self.negotiated.ibgp
            as_path = attributes.as_path
            if not ibgp:
                as_path = ((AS_SEQUENCE, (self.negotiated.local_as,)), *as_path)
            local_pref = DEFAULT_LOCAL_PREF if attributes.local_pref is None else attributes.local_pref
            made = self._as_sent[attributes] = make(
                self.interner,
                next_hop=attributes.next_hop,
                origin=attributes.origin,
                as_path=as_path,
                local_pref=local_pref if ibgp else None,
                communities=attributes.communities,
                ext_communities=attributes.ext_communities,
                large_communities=attributes.large_communities,
                pmsi=attributes.pmsi,
            )
        return made
