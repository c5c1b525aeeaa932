"""What one peer is told: our own routes, as far as it wants them (adj-rib-out, RFC 4271 section 3.2).

What is to be sent is a set of dirty keys, never a queue of messages: a slow peer costs as much memory as the
node has routes of its own, and gets the latest state when it reads again.

    [ local routes ] ~dirty~> wanted by the peer's RT membership? --> as iBGP or eBGP --> grouped by attributes -->
    UPDATE

Received routes are not passed on: the node is a PE, neither transit nor, yet, a route reflector.

End-of-RIB (RFC 4724 section 2) follows the first full table of each family.  It is what makes a helper drop
our stale routes after our restart, so it waits for two things: that the node has said all its routes (`released`),
and, where RT membership is negotiated, that the peer's memberships are in (RFC 4684 section 6), for 60 s at most.

A route that does not fit into a message beside its attributes is withheld; `reason_untold` says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from speaker.adj_rib_in import WITH_TARGETS
from speaker.decision import DEFAULT_LOCAL_PREF, LOCAL
from speaker.path import AS_SEQUENCE, Attributes, Path
from speaker.rib import Rib, RibReader
from speaker.session import Negotiated
from speaker.table import Reader
from speaker.terms import ACCEPT_ALL, Terms
from speaker.values import Family
from speaker.wire.attribute import Interner, make
from speaker.wire.community import NON_TRANSITIVE
from speaker.wire.message import RouteRefresh
from speaker.wire.update import encode_updates, encode_withdrawals, end_of_rib

MEMBERSHIP_WAIT_S = 60.0
KEYS_A_TURN = 4096
OCTETS_A_KEY = 32
"""What a route takes in a message, at least; how many are looked at in a turn follows from the room that there is."""


class Membership:
    """The route targets that a peer asked for (RFC 4684): prefixes of origin AS and route target."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        self.exact: set[bytes] = set()
        self.partial: dict[int, set[int]] = {}  # by how many bits of a route target count: those bits
        self.everything = False
        for key in keys:
            bits = key[-1]
            if bits <= 32:  # the default route, or an origin AS without a target: any target of that origin
                self.everything = True
            elif bits == 96:
                self.exact.add(key[4:12])
            else:
                self.partial.setdefault(bits - 32, set()).add(_leading(key[4:-1], bits - 32))

    def wants(self, attributes: Attributes) -> bool:
        """Tell whether a route with these attributes has a route target that the peer asked for."""
        targets = attributes.route_targets
        if self.everything or not targets.isdisjoint(self.exact):
            return True
        return any(_leading(target, bits) in asked for bits, asked in self.partial.items() for target in targets)


def _leading(octets: bytes, bits: int) -> int:
    """Return the leading bits of a route target, whose octets may be cut off behind them."""
    return int.from_bytes(octets.ljust(8, b"\0"), "big") >> 64 - bits


class AdjRibOut:
    """The sending half of one peer; pulled by the transport when the socket can take more."""

    def __init__(self, source: str, rib: Rib, interner: Interner) -> None:
        self.source = source
        self.rib = rib
        self.interner = interner
        self.negotiated: Negotiated | None = None
        self.terms = ACCEPT_ALL
        self.sent: dict[Family, dict[bytes, Path | None]] = {}  # what the peer holds of us; None: to be told again
        self.unfit: dict[Family, dict[bytes, str]] = {}  # why a route cannot be told
        self.told_all: set[Family] = set()  # families whose End-of-RIB went out
        self.released = False
        self._local: RibReader | None = None
        self._members: Reader[bytes, Path] | None = None
        self._membership: Membership | None = None
        self._members_synced = False
        self._members_until = 0.0
        self._requests: list[bytes] = []

    def up(self, negotiated: Negotiated, now: float) -> None:
        """A session is established: everything is to be told anew."""
        self.down()
        self.negotiated = negotiated
        self.sent = {family: {} for family in negotiated.families}
        self.unfit = {family: {} for family in negotiated.families}
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
        self.sent, self.unfit, self.told_all, self._requests = {}, {}, set(), []

    def members_synced(self) -> None:
        """The peer's RT memberships are complete."""
        self._members_synced = True

    def members_unreadable(self) -> None:
        """The peer's RT memberships cannot be read any more: it gets all routes, as if it had never spoken of them."""
        if self._members is not None:
            self._members.close()
            self._members = self._membership = None
            self._members_changed()

    def tick(self, now: float) -> None:
        """Wait no longer for RT memberships when their time is over (RFC 4684 section 6)."""
        deadline = self.deadline()
        if deadline is not None and now >= deadline:
            self._members_synced = True

    def ask_again(self) -> None:
        """Ask the peer for all routes of the families that have route targets (RFC 2918)."""
        if self.negotiated is not None and self.negotiated.route_refresh:
            for family in sorted(self.negotiated.families & WITH_TARGETS):
                request = RouteRefresh(family).encode()
                if request not in self._requests:
                    self._requests.append(request)

    def change(self, terms: Terms) -> None:
        """Tell by other terms."""
        self.terms = terms

    def refresh(self, family: Family) -> None:
        """The peer asks for a family again (RFC 2918 section 4)."""
        if self._local is None or family not in self.sent:
            return
        part = self._local.parts[(family, LOCAL)]
        self.sent[family] = dict.fromkeys(self.sent[family])
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
        if key in self.unfit[family]:
            return self.unfit[family][key]
        return "it is about to be sent"

    def deadline(self) -> float | None:
        """Return when waiting for memberships ends, if that is going on."""
        return self._members_until if self._members is not None and not self._members_synced else None

    def output(self, budget: int) -> bytes:
        """Return the next whole messages, about `budget` octets; empty if there is nothing to say."""
        if self.negotiated is None or self._local is None:
            return b""
        self._look_at_members()
        out: list[bytes] = []
        size = 0
        members = self._local.parts.get((Family.RTC, LOCAL))
        if self._requests and not (members and members.dirty):  # the answer shall know of our latest memberships
            out, self._requests = self._requests, []
        for family in sorted(self.negotiated.families, key=lambda family: (family is not Family.RTC, family)):
            part = self._local.parts[(family, LOCAL)]
            while part.dirty and size < budget:
                for message in self._messages(family, part, budget - size):
                    out.append(message)
                    size += len(message)
            if not part.dirty and family not in self.told_all and self._complete(family):
                self.told_all.add(family)
                out.append(end_of_rib(family))
                size += len(out[-1])
        return b"".join(out)

    def _complete(self, family: Family) -> bool:
        return self.released and (family not in WITH_TARGETS or self._members is None or self._members_synced)

    def _look_at_members(self) -> None:
        """Follow the peer's memberships."""
        if self._members is not None and self._members.dirty:
            self._members.take()
            self._membership = Membership(self._members.table.rows)
            self._members_changed()

    def _members_changed(self) -> None:
        """Make every route with targets dirty again."""
        if self._local is not None:
            for (family, _), part in self._local.parts.items():
                if family in WITH_TARGETS:
                    part.again(part.table.rows)

    def _messages(self, family: Family, part: Reader[bytes, Path], room: int) -> Iterator[bytes]:
        """Yield the UPDATEs for the next dirty keys of a family: withdrawals, then routes by attributes (hot)."""
        assert self.negotiated is not None
        sent, unfit = self.sent[family], self.unfit[family]
        withdrawn: list[bytes] = []
        by_attributes: dict[Attributes, list[tuple[bytes, Path]]] = {}
        for key in part.take(min(KEYS_A_TURN, room // OCTETS_A_KEY + 1)):
            path = part.table.rows.get(key)
            if path is not None and self._membership is not None and family in WITH_TARGETS:
                path = path if self._membership.wants(path.attributes) else None
            if unfit:
                unfit.pop(key, None)
            if path is None:
                if key in sent:
                    del sent[key]
                    withdrawn.append(key)
            elif sent.get(key) is not path:
                by_attributes.setdefault(path.attributes, []).append((key, path))
        as4 = self.negotiated.as4
        announced: list[bytes] = []
        for attributes, told in by_attributes.items():
            routes = ((key, path.extra) for key, path in told)
            try:
                announced += list(encode_updates(family, self._outward(attributes), routes, as4=as4))
            except ValueError as error:
                unfit.update((key, str(error)) for key, _ in told)
                for key in sent.keys() & unfit.keys():
                    del sent[key]
                    withdrawn.append(key)
            else:
                sent.update(told)
        yield from encode_withdrawals(family, withdrawn)
        yield from announced

    def _outward(self, attributes: Attributes) -> Attributes:
        """Return the attributes as this peer gets them (RFC 4271 sections 5.1.2 and 5.1.5, RFC 4360 section 6)."""
        assert self.negotiated is not None
        as_path, communities = attributes.as_path, attributes.ext_communities
        local_pref: int | None = None
        if self.negotiated.ibgp:
            local_pref = DEFAULT_LOCAL_PREF if attributes.local_pref is None else attributes.local_pref
        else:
            as_path = ((AS_SEQUENCE, (self.negotiated.local_as,)), *as_path)
            communities = tuple(each for each in communities if not each[0] & NON_TRANSITIVE)
        return make(
            self.interner,
            next_hop=attributes.next_hop,
            origin=attributes.origin,
            as_path=as_path,
            med=attributes.med,
            local_pref=local_pref,
            communities=attributes.communities,
            ext_communities=communities,
            large_communities=attributes.large_communities,
            pmsi=attributes.pmsi,
        )
