"""A node with peers of several kinds, and what each is to hold by the RFCs: for tests of what is passed on.

Every peer is our own decoder, applied to the octets that it gets.  `World.deserved` is the slow and obvious twin of
what makes these octets: worked out from the RIB and the rules alone, for one peer and one key at a time.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

import attrs

from speaker.adj_rib_in import WITH_TARGETS
from speaker.decision import Candidate, best, is_own, local
from speaker.engine import Engine
from speaker.path import Attributes, Path
from speaker.refusal import Own
from speaker.rib import Interest, Rib
from speaker.session import Negotiated
from speaker.terms import Decide, Terms, accept
from speaker.values import Family
from speaker.wire.attribute import Interner
from speaker.wire.capability import LongLivedGracefulRestart
from tests.speaker.routes import Listener, block, extra, member_key, session, target, vpn_key

VPNV4, IPV4, RTC = Family.VPNV4, Family.IPV4, Family.RTC
OWN_ID = bytes((192, 0, 2, 1))
BUDGET = 1 << 16
NO_EXPORT, NO_ADVERTISE, LLGR_STALE = 0xFFFFFF01, 0xFFFFFF02, 0xFFFF0006
V6 = bytes.fromhex("20010db8000000000000000000000009")


def with_(attributes: Attributes, **changes: Any) -> Attributes:
    return attrs.evolve(attributes, paths={}, **changes)


def agreed(number: int, *families: Family, ibgp: bool = True, as4: bool = True, **others: Any) -> Negotiated:
    return attrs.evolve(session(*families, ibgp=ibgp, as4=as4), remote_router_id=bytes((10, 0, 0, number)), **others)


LONG_LIVED = {"remote_capabilities": (LongLivedGracefulRestart({}),)}
ALL = (VPNV4, IPV4, RTC)
PEERS: dict[str, Negotiated] = {
    "a": agreed(1, *ALL, enhanced_refresh=True),
    "b": agreed(2, *ALL, enhanced_refresh=True),
    "c": agreed(3, VPNV4, IPV4, add_path_send=frozenset({VPNV4}), **LONG_LIVED),
    "d": agreed(4, VPNV4, IPV4, add_path_send=frozenset({VPNV4}), enhanced_refresh=True, **LONG_LIVED),
    "e": agreed(5, *ALL, extended_next_hop=frozenset({VPNV4})),
    "f": agreed(6, VPNV4, IPV4, ibgp=False, as4=False, role="provider"),
    "g": agreed(7, VPNV4, IPV4, ibgp=False, role="customer", message_limit=65535, **LONG_LIVED),
}
KEYS: dict[Family, list[bytes]] = {
    VPNV4: [vpn_key(f"10.0.{n}.0/24") for n in range(3)],
    IPV4: [bytes((10, n, 16)) for n in range(2)],
    RTC: [member_key(1), member_key(2), member_key(None)],
}
ASKED: dict[bytes, set[int]] = {member_key(1): {1}, member_key(2): {2}, member_key(None): {1, 2, 3}}
SEQUENCE = 2
BLOCKS = [
    block(1),
    block(2),
    block(1, local_pref=7),
    block(1, 3, local_pref=200),
    block(2, as_path=((SEQUENCE, (65001, 65002)),)),
    block(3, originator_id=b"\1\1\1\1", cluster_list=(b"\2\2\2\2",)),
    block(1, next_hop=V6),
    block(*range(1, 700)),  # does not fit into a message of 4096 octets
    with_(block(1), communities=(NO_EXPORT,)),
    with_(block(2), communities=(NO_ADVERTISE,)),
    with_(block(1), communities=(LLGR_STALE, 1)),
    with_(block(1), med=5, unknown=((0xC0, 99, b"unknown"),)),
    with_(block(2), only_to_customer=64999),
    block(1, communities=(bytes.fromhex("4300000000000007"),)),
]
UNFIT = BLOCKS[7]
NUMBERS = {target(number): number for number in range(1, 700)}
SPEAKERS = {local("one"): (9, 1, 0), local("two"): (9, 2, 0)}
"""Sources of own routes that only some peers hear, and the large community that all routes of each have."""

OF_SPEAKERS = {source: [with_(each, large_communities=(mark,)) for each in BLOCKS] for source, mark in SPEAKERS.items()}
MARKED = {
    attributes: with_(attributes, communities=(*attributes.communities, 77))
    for attributes in chain(BLOCKS, *OF_SPEAKERS.values())
}


def without_sevens(family: Family, key: bytes, path: Path) -> Path | None:
    """An export policy that rejects what has a LOCAL_PREF of 7."""
    return None if path.attributes.local_pref == 7 else path


def marking(family: Family, key: bytes, path: Path) -> Path | None:
    """An export policy that adds a community to all but memberships."""
    return path if family is RTC else MARKED[path.attributes].path(path.extra)


POLICIES: tuple[Decide, ...] = (accept, accept, without_sevens, marking)


class World:
    """A node, and peers that come and go; if `strict`, each End-of-RIB is compared with what the twin says."""

    def __init__(self, kind: type[Engine] = Engine, *, strict: bool = True) -> None:
        self.strict = strict
        self.rib = Rib()
        own = Own(OWN_ID, frozenset({64512}), frozenset({OWN_ID}), cluster_id=b"\x09\x09\x09\x09")
        self.engine = kind(self.rib, Interest(), own, Interner())
        self.listeners: dict[str, Listener] = {}

    def up(self, name: str, negotiated: Negotiated) -> None:
        self.engine.neighbours[name].up(negotiated, 0.0)
        self.listeners[name] = Listener(negotiated)

    def down(self, name: str) -> None:
        self.engine.neighbours[name].down(self.listeners.pop(name).negotiated, False, 0.0)

    def put(self, family: Family, source: str, key: bytes, attributes: Attributes) -> None:
        self.rib.table(family, source).put(key, attributes.path(extra(family)))

    def listen(self, name: str, budget: int = BUDGET) -> bool:
        """Let a peer hear once; tell whether there was anything."""
        neighbour, listener = self.engine.neighbours[name], self.listeners[name]
        octets = neighbour.output(budget)
        hears = neighbour.terms.hears
        listener.forbidden = frozenset(mark for source, mark in SPEAKERS.items() if source not in hears)
        before = len(listener.ended)
        listener.hear(octets)
        for family in listener.ended[before:]:
            assert self.engine.released, "End-of-RIB before the node is ready"
            reflecting = any(each.terms.client for each in self.engine.neighbours.values())
            assert self.engine.selected or not reflecting, "a reflector's End-of-RIB before those of its peers"
            if not self.strict:
                continue
            whole = {at: what for at, what in self.deserved(name).items() if at[0] is family}
            assert {at: what for at, what in self.heard(name).items() if at[0] is family} == whole, (
                "End-of-RIB too soon"
            )
        return bool(octets)

    def settle(self) -> None:
        """Let all peers hear all."""
        for name in self.listeners:
            rounds = 0
            while self.listen(name):
                rounds += 1
                assert rounds < 200, "there is always something more to say"

    def heard(self, name: str) -> dict[tuple[Family, bytes], list[Any]]:
        """What a peer holds: of each key the attributes of its paths."""
        listener = self.listeners[name]
        found: dict[tuple[Family, bytes], list[Any]] = {}
        for (family, wire_key), path in listener.held.items():
            key = wire_key
            if family in listener.negotiated.add_path_send:
                assert any(wire_key[:4]), "path identifier 0"
                key = wire_key[4:]
            found.setdefault((family, key), []).append(plain(path.attributes))
        return {at: sorted(paths, key=repr) for at, paths in found.items()}

    # The twin

    def deserved(self, name: str) -> dict[tuple[Family, bytes], list[Any]]:
        """What a peer is to hold by the RFCs, worked out in the simplest way."""
        negotiated, terms = self.listeners[name].negotiated, self.engine.neighbours[name].terms
        asked: set[int] | None = None
        if RTC in negotiated.families:
            asked = set().union(*(ASKED[key] for key in self.rib.table(RTC, name).rows))
        found: dict[tuple[Family, bytes], list[Any]] = {}
        for family in negotiated.families:
            tables = [table for (its_family, _), table in self.rib.tables.items() if its_family is family]
            for key in {key: None for table in tables for key in table}:
                several = family in negotiated.add_path_send
                for chosen in self.first(name, family, key, terms.paths_out if several else 1):
                    attributes = self.goes_out(name, family, key, chosen, terms)
                    if attributes is None:
                        continue
                    targets = {NUMBERS[each] for each in chosen.path.attributes.route_targets}
                    if family in WITH_TARGETS and asked is not None and not targets & asked and asked != {1, 2, 3}:
                        continue
                    found.setdefault((family, key), []).append(plain(attributes))
        return {at: sorted(paths, key=repr) for at, paths in found.items()}

    def is_client(self, name: str) -> bool:
        return self.engine.neighbours[name].terms.client

    def first(self, name: str, family: Family, key: bytes, most: int) -> list[Candidate]:
        """RFC 4456 section 6, RFC 7911."""
        reflecting = any(map(self.is_client, self.engine.neighbours))
        left = []
        for (its_family, source), table in self.rib.tables.items():
            path = table.get(key)
            if its_family is not family or path is None:
                continue
            terms = self.engine.neighbours[name].terms
            if is_own(source):
                if source not in SPEAKERS or source in terms.hears:
                    left.append(Candidate(path, source, key))
                continue
            if family in terms.own_only:
                continue
            peer = source.partition("#")[0]
            origin = self.rib.origins[peer]
            internal = not origin.external and self.listeners[name].negotiated.ibgp
            if reflecting and (not internal or self.is_client(name) or self.is_client(peer)):
                left.append(Candidate(path, source, key, origin.external, origin.router_id))
        found = []
        while left and len(found) < most:
            found.append(best(left)[0])
            left.remove(found[-1])
        return found

    def goes_out(self, name: str, family: Family, key: bytes, chosen: Candidate, terms: Terms) -> Attributes | None:
        """RFC 4271 section 5.1, 4456 section 8, 1997, 9494 section 4.3, 8950, 9234 section 5, 4684 section 3.2."""
        negotiated = self.listeners[name].negotiated
        known = chosen.path.attributes.communities
        mine = chosen.source.partition("#")[0] == name
        if mine and not (family is RTC and terms.client):
            return None
        if NO_ADVERTISE in known or (NO_EXPORT in known and not negotiated.ibgp):
            return None
        if LLGR_STALE in known and not negotiated.remote_capabilities:
            return None
        path = terms.exporting(family, key, chosen.path)
        if path is None:
            return None
        attributes = path.attributes
        if family in (VPNV4, IPV4) and len(attributes.next_hop) == 16 and family not in negotiated.extended_next_hop:
            return None
        if len(attributes.route_targets) > 600 and negotiated.message_limit == 4096:
            return None
        if family is IPV4 and negotiated.role == "customer" and attributes.only_to_customer:
            return None
        if negotiated.ibgp:
            if is_own(chosen.source) or chosen.external:
                return with_(attributes, originator_id=None, cluster_list=())
            changed = with_(
                attributes,
                originator_id=attributes.originator_id or chosen.router_id,
                cluster_list=(b"\x09\x09\x09\x09", *attributes.cluster_list),
            )
            if family is RTC and terms.client:
                changed = with_(changed, originator_id=OWN_ID, next_hop=OWN_ID)
            return changed
        ases = sum((numbers for _, numbers in attributes.as_path), ())
        otc = attributes.only_to_customer
        if family is IPV4 and negotiated.role == "provider":
            otc = otc or 64512
        return with_(
            attributes,
            as_path=((SEQUENCE, (64512, *ases)),),
            local_pref=None,
            med=attributes.med if is_own(chosen.source) else None,
            originator_id=None,
            cluster_list=(),
            only_to_customer=otc,
            ext_communities=tuple(each for each in attributes.ext_communities if each[0] != 0x43),
        )


def plain(attributes: Attributes) -> tuple[Any, ...]:
    return (
        attributes.next_hop,
        attributes.as_path,
        attributes.local_pref,
        attributes.med,
        attributes.originator_id,
        attributes.cluster_list,
        attributes.communities,
        attributes.ext_communities,
        attributes.large_communities,
        attributes.only_to_customer,
        tuple((code, value) for _, code, value in attributes.unknown),
    )
