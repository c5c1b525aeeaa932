"""What a peer is told: facts one by one, and a model of any order of events with mutants that it must catch.

The peer is our own decoder, applied to the octets; what it ends with is compared with what it should hold.
"""

from __future__ import annotations

import random
import types
from pathlib import Path as File

import pytest

from speaker import adj_rib_out
from speaker.adj_rib_in import WITH_TARGETS
from speaker.adj_rib_out import MEMBERSHIP_WAIT_S, AdjRibOut, Membership
from speaker.decision import LOCAL
from speaker.path import AS_SEQUENCE, Attributes
from speaker.rib import Rib
from speaker.session import Negotiated
from speaker.values import Family
from speaker.wire.attribute import Interner
from tests.speaker.routes import Listener, block, extra, member_key, session, target, vpn_key

VPNV4, EVPN, RTC, IPV4 = Family.VPNV4, Family.EVPN, Family.RTC, Family.IPV4
A, B, C = (vpn_key(f"10.0.{n}.0/24") for n in range(3))
TAG = bytes.fromhex("03 0000fc0000000001 00000000 20 c0000209")
BUDGET = 1 << 16


class Node:
    """A node with routes of its own and one peer that listens to them."""

    def __init__(self, *families: Family, kind: type[AdjRibOut] = AdjRibOut, agreed: Negotiated | None = None) -> None:
        self.rib = Rib()
        self.out = kind("p", self.rib, Interner())
        self.agreed = agreed or session(*families)
        self.up()

    def up(self) -> None:
        self.peer = Listener(self.agreed)
        self.out.up(self.agreed, 0.0)

    def put(self, family: Family, key: bytes, attributes: Attributes) -> None:
        self.rib.table(family, LOCAL).put(key, attributes.path(extra(family)))

    def discard(self, family: Family, key: bytes) -> None:
        self.rib.table(family, LOCAL).discard(key)

    def ask_for(self, *keys: bytes) -> None:
        """The peer's RT memberships are these now."""
        self.rib.table(RTC, "p").sync(dict.fromkeys(keys, block().path(b"")))

    def talk(self, budget: int = BUDGET) -> Listener:
        """Let everything that is to be said be heard."""
        while octets := self.out.output(budget):
            self.peer.hear(octets)
        return self.peer


def test_a_peer_is_told_all_routes_of_the_families_agreed_on_and_no_others() -> None:
    node = Node(VPNV4, EVPN)
    node.put(VPNV4, A, block(1))
    node.put(EVPN, TAG, block(1))
    node.put(IPV4, b"\x0a\x08", block())
    assert node.talk().held.keys() == {(VPNV4, A), (EVPN, TAG)}
    node.put(VPNV4, B, block(1))
    node.discard(VPNV4, A)
    assert node.talk().held.keys() == {(VPNV4, B), (EVPN, TAG)}


def test_changes_between_two_outputs_are_one_message_and_what_came_and_went_is_none() -> None:
    node = Node(VPNV4)
    for local_pref in range(50):
        node.put(VPNV4, A, block(1, local_pref=local_pref))
        node.put(VPNV4, B, block(1, local_pref=local_pref))
        node.discard(VPNV4, B)
    peer = node.talk()
    assert (peer.messages, peer.idle_withdrawals) == (1, 0)
    assert peer.held[(VPNV4, A)].attributes.local_pref == 49
    node.discard(VPNV4, A)
    node.put(VPNV4, A, block(1, local_pref=7))
    assert node.talk().messages == 2
    node.discard(VPNV4, A)
    node.discard(VPNV4, B)
    peer = node.talk()
    assert (peer.messages, peer.idle_withdrawals, peer.held) == (3, 0, {})


def test_routes_with_the_same_attributes_share_messages() -> None:
    node = Node(VPNV4)
    attributes = block(1)
    for n in range(500):
        node.put(VPNV4, vpn_key(f"10.{n >> 8}.{n & 255}.0/24"), attributes)
    peer = node.talk()
    assert len(peer.held) == 500
    assert peer.messages == 2


def test_an_output_is_about_as_long_as_asked_for_and_the_rest_follows() -> None:
    node = Node(VPNV4)
    for n in range(3000):
        node.put(VPNV4, vpn_key(f"10.{n >> 8}.{n & 255}.0/24"), block(1, local_pref=n))
    sizes = []
    while octets := node.out.output(10_000):
        sizes.append(len(octets))
        node.peer.hear(octets)
    assert len(node.peer.held) == 3000
    assert max(sizes) < 40_000
    assert node.out.output(0) == b""


@pytest.mark.parametrize("as4", [True, False])
def test_an_internal_peer_gets_LOCAL_PREF_and_an_external_one_our_AS(as4: bool) -> None:
    local = block(
        1, 2, as_path=((AS_SEQUENCE, (65000,)),), local_pref=None, communities=(bytes.fromhex("4300000000000007"),)
    )
    for ibgp, local_pref, as_path, communities in [
        (True, 100, (65000,), 3),
        (False, None, (64512, 65000), 2),  # RFC 4360 section 6: not what is not transitive
    ]:
        node = Node(agreed=session(VPNV4, ibgp=ibgp, as4=as4))
        node.put(VPNV4, A, local)
        heard = node.talk().held[(VPNV4, A)].attributes
        assert heard.local_pref == local_pref
        assert sum((numbers for _, numbers in heard.as_path), ()) == as_path
        assert len(heard.ext_communities) == communities
        assert heard.next_hop == local.next_hop


def test_what_a_reflector_adds_is_not_told() -> None:
    node = Node(VPNV4)
    node.put(VPNV4, A, block(1, originator_id=b"\1\1\1\1", cluster_list=(b"\2\2\2\2",)))
    heard = node.talk().held[(VPNV4, A)].attributes
    assert (heard.originator_id, heard.cluster_list) == (None, ())


def test_End_of_RIB_follows_the_first_full_table_once_the_node_is_ready() -> None:
    node = Node(VPNV4, EVPN)
    node.put(VPNV4, A, block(1))
    assert node.talk().ended == []
    node.out.released = True
    assert node.talk().ended == [VPNV4, EVPN]
    node.put(VPNV4, B, block(1))
    assert node.talk().ended == [VPNV4, EVPN]
    node.out.down()
    assert node.out.output(BUDGET) == b""
    node.up()
    assert node.talk().ended == [VPNV4, EVPN]
    assert node.peer.held.keys() == {(VPNV4, A), (VPNV4, B)}


def test_End_of_RIB_does_not_come_before_the_last_route() -> None:
    node = Node(VPNV4)
    node.out.released = True
    for n in range(1000):
        node.put(VPNV4, vpn_key(f"10.{n >> 8}.{n & 255}.0/24"), block(1, local_pref=n))
    while octets := node.out.output(5000):
        node.peer.hear(octets)
        assert (node.peer.ended == [VPNV4]) == (len(node.peer.held) == 1000)


def test_a_refresh_tells_everything_of_a_family_again() -> None:
    node = Node(VPNV4, EVPN)
    node.put(VPNV4, A, block(1))
    node.put(EVPN, TAG, block(1))
    node.talk().held.clear()
    node.out.refresh(VPNV4)
    node.out.refresh(IPV4)  # not agreed on
    assert node.talk().held.keys() == {(VPNV4, A)}


def test_a_route_that_goes_between_a_refresh_and_its_answer_is_withdrawn() -> None:
    node = Node(VPNV4)
    node.put(VPNV4, A, block(1))
    node.talk()
    node.out.refresh(VPNV4)
    node.discard(VPNV4, A)
    node.out.refresh(VPNV4)
    assert node.talk().held == {}


def test_we_ask_again_for_families_with_targets_and_only_who_can_be_asked() -> None:
    for route_refresh, expected in [(True, [VPNV4, EVPN]), (False, [])]:
        node = Node(agreed=session(VPNV4, EVPN, IPV4, RTC, route_refresh=route_refresh))
        node.out.ask_again()
        node.out.ask_again()
        assert node.talk().requested == expected
        assert node.talk().requested == expected
    node.out.down()
    node.out.ask_again()
    node.up()
    assert node.talk().requested == []


def test_our_memberships_are_told_before_we_ask_again() -> None:
    node = Node(VPNV4, RTC)
    node.put(RTC, member_key(1), block())
    node.out.ask_again()
    node.peer.hear(node.out.output(BUDGET))
    assert (set(node.peer.held), node.peer.requested) == ({(RTC, member_key(1))}, [])
    assert node.talk().requested == [VPNV4]


def test_with_RT_membership_a_peer_gets_what_it_asks_for() -> None:  # RFC 4684
    node = Node(VPNV4, RTC)
    for key, attributes in [(A, block(1)), (B, block(2)), (C, block(1, 2))]:
        node.put(VPNV4, key, attributes)
    for asked, expected in [
        ([], set()),
        ([member_key(1)], {A, C}),
        ([member_key(2)], {B, C}),
        ([member_key(3)], set()),
        ([member_key(None)], {A, B, C}),
        ([], set()),
    ]:
        node.ask_for(*asked)
        assert {key for _, key in node.talk().held} == expected, asked
        assert node.peer.idle_withdrawals == 0


def test_memberships_match_by_as_many_bits_as_they_have() -> None:
    origin, red = (64512).to_bytes(4, "big"), target(0b0110)
    for key, expected in [
        (b"\0", True),
        (origin + b"\x20", True),
        (origin + red[:2] + b"\x30", True),
        (origin + red[:7] + bytes((0b0100,)) + b"\x5e", True),
        (origin + red[:7] + bytes((0b0100,)) + b"\x5f", False),
        (origin + red + b"\x60", True),
        (origin + target(7) + b"\x60", False),
        (origin + b"\x01\x02" + b"\x30", False),
    ]:
        assert Membership([key]).wants(block(6)) is expected, key.hex()
    assert not Membership([origin + red + b"\x60"]).wants(block())


def test_End_of_RIB_waits_for_the_memberships_of_the_peer_but_not_for_ever() -> None:  # RFC 4684 section 6
    node = Node(VPNV4, RTC)
    node.out.released = True
    node.put(VPNV4, A, block(1))
    assert node.talk().ended == [RTC]
    node.ask_for(member_key(1))
    assert node.talk().ended == [RTC]
    assert node.out.deadline() == MEMBERSHIP_WAIT_S
    node.out.members_synced()
    assert node.talk().ended == [RTC, VPNV4]
    assert node.out.deadline() is None

    node = Node(VPNV4, RTC)
    node.out.released = True
    node.out.tick(MEMBERSHIP_WAIT_S - 1)
    assert node.talk().ended == [RTC]
    node.out.tick(MEMBERSHIP_WAIT_S)
    assert node.talk().ended == [RTC, VPNV4]
    assert node.out.deadline() is None


def test_a_peer_whose_memberships_cannot_be_read_gets_everything() -> None:
    node = Node(VPNV4, RTC)
    node.out.released = True
    node.put(VPNV4, A, block(1))
    node.put(VPNV4, B, block(2))
    node.ask_for(member_key(1))
    assert {key for _, key in node.talk().held} == {A}
    node.out.members_unreadable()
    assert {key for _, key in node.talk().held} == {A, B}
    assert node.peer.ended == [RTC, VPNV4]
    node.ask_for()
    assert {key for _, key in node.talk().held} == {A, B}


def test_a_route_that_does_not_fit_into_a_message_is_withheld_and_the_others_are_not() -> None:
    node = Node(VPNV4)
    node.put(VPNV4, A, block(1))
    node.put(VPNV4, B, block(1))
    node.talk()
    node.put(VPNV4, A, block(*range(600)))
    node.put(VPNV4, C, block(1))
    assert {key for _, key in node.talk().held} == {B, C}
    assert "limit of 4096" in node.out.reason_untold(VPNV4, A)
    node.put(VPNV4, A, block(1))
    assert {key for _, key in node.talk().held} == {A, B, C}
    assert "limit" not in node.out.reason_untold(VPNV4, A)


def test_why_a_route_is_not_told_is_told() -> None:
    node = Node(VPNV4, RTC)
    node.put(VPNV4, A, block(1))
    node.talk()
    assert node.out.reason_untold(VPNV4, A) == "the peer did not ask for any of its route targets (RFC 4684)"
    assert node.out.reason_untold(VPNV4, B) == "the route is not announced yet"
    assert node.out.reason_untold(EVPN, TAG) == "the session does not carry evpn"
    node.ask_for(member_key(1))
    node.out.refresh(VPNV4)
    assert "did not ask" in node.out.reason_untold(VPNV4, A)
    node.peer.hear(node.out.output(BUDGET))
    assert node.out.sent[VPNV4].keys() == {A}
    node.out.down()
    assert node.out.reason_untold(VPNV4, A) == "the session is not established"


# The model: any order of events, heard in pieces, ends with the peer holding what it should.

FAMILIES = (VPNV4, EVPN, IPV4)
KEYS: dict[Family, list[bytes]] = {
    VPNV4: [vpn_key(f"10.0.{n}.0/24") for n in range(3)],
    EVPN: [TAG[:-1] + bytes((n,)) for n in range(2)],
    IPV4: [bytes((10, n, 16)) for n in range(2)],
    RTC: [member_key(n) for n in range(2)],
}
BLOCKS = [
    block(1),
    block(1, local_pref=7),
    block(2),
    block(2, 3),
    block(3),
    block(*range(4, 700)),  # does not fit into a message
    block(),
]
UNFIT = BLOCKS[5]
PAIR = (64512).to_bytes(4, "big") + target(2) + b"\x5f"  # 2 and 3
MEMBERSHIPS: dict[bytes, set[int]] = {
    member_key(1): {1},
    member_key(2): {2},
    member_key(3): {3},
    PAIR: {2, 3},
    member_key(None): {1, 2, 3, 4},
}
NUMBERS = {target(number): number for number in range(700)}


def expected(node: Node) -> dict[tuple[Family, bytes], tuple[object, ...]]:
    """What the peer should hold, worked out from the tables in the simplest way."""
    asked: set[int] = set()
    for key in node.rib.table(RTC, "p").rows:
        asked |= MEMBERSHIPS[key]
    held: dict[tuple[Family, bytes], tuple[object, ...]] = {}
    for family in node.agreed.families:
        for key, path in node.rib.table(family, LOCAL).rows.items():
            targets = {NUMBERS[each] for each in path.attributes.route_targets}
            filtered = RTC in node.agreed.families and family in WITH_TARGETS
            if path.attributes is not UNFIT and (not filtered or targets & asked or asked >= {1, 2, 3, 4}):
                held[(family, key)] = told(path.attributes, node.agreed.ibgp)
    return held


def told(attributes: Attributes, ibgp: bool) -> tuple[object, ...]:
    local_pref = attributes.local_pref if ibgp else None
    return (attributes.ext_communities, local_pref, () if ibgp else (64512,), attributes.next_hop)


def heard(peer: Listener) -> dict[tuple[Family, bytes], tuple[object, ...]]:
    found: dict[tuple[Family, bytes], tuple[object, ...]] = {}
    for at, path in peer.held.items():
        attributes = path.attributes
        ases: tuple[int, ...] = sum((numbers for _, numbers in attributes.as_path), ())
        found[at] = (attributes.ext_communities, attributes.local_pref, ases, attributes.next_hop)
    return found


def story(seed: int, kind: type[AdjRibOut]) -> None:
    """Live through some forty events; AssertionError when the peer holds or hears what it should not."""
    chance = random.Random(seed)
    with_members = chance.random() < 0.6
    families = (*FAMILIES, RTC) if with_members else FAMILIES
    node = Node(kind=kind, agreed=session(*families, ibgp=chance.random() < 0.7))
    members_told = not with_members

    def listen(budget: int) -> bool:
        octets = node.out.output(budget)
        before = len(node.peer.ended)
        node.peer.hear(octets)
        for family in node.peer.ended[before:]:
            assert node.out.released, "End-of-RIB before the node is ready"
            assert members_told or family not in WITH_TARGETS, "End-of-RIB before the memberships are in"
            whole = {at: what for at, what in expected(node).items() if at[0] is family}
            assert {at: what for at, what in heard(node.peer).items() if at[0] is family} == whole, (
                "End-of-RIB too early"
            )
        return bool(octets)

    for _ in range(40):
        family = chance.choice(families)
        match chance.randrange(14):
            case 0 | 1 | 2 | 3:
                node.put(family, chance.choice(KEYS[family]), chance.choice(BLOCKS))
            case 4 | 5:
                node.discard(family, chance.choice(KEYS[family]))
            case 6:
                node.out.refresh(family)
                node.peer.unanswered |= {at for at in node.peer.held if at[0] is family}
            case 7 | 8 if with_members:
                table, key = node.rib.table(RTC, "p"), chance.choice(list(MEMBERSHIPS))
                if not table.discard(key):
                    table.put(key, block().path(b""))
            case 9 if with_members:
                node.out.members_synced()
                members_told = True
            case 10:
                node.out.released = True
            case 11 if chance.random() < 0.3:
                node.out.down()
                node.up()
                members_told = not with_members
            case _:
                listen(chance.choice((1, 100, BUDGET)))
    node.out.released = True
    node.out.members_synced()
    members_told = True
    rounds = 0
    while listen(chance.choice((1, 100, BUDGET))):
        rounds += 1
        assert rounds < 100, "there is always something more to say"
    assert heard(node.peer) == expected(node)
    assert node.peer.idle_withdrawals == 0, "what was never sent was withdrawn"
    assert node.peer.unanswered == set(), "a refresh was not answered"
    assert sorted(node.peer.ended) == sorted(families), "one End-of-RIB of each family"


STORIES = 400


def live(kind: type[AdjRibOut]) -> None:
    for seed in range(STORIES):
        try:
            story(seed, kind)
        except AssertionError as error:
            raise AssertionError(f"in the story {seed}: {error}") from error


def test_whatever_happens_the_peer_ends_with_what_it_should_hold() -> None:
    live(AdjRibOut)


MUTANTS = {
    "a withdrawal is forgotten": (
        "del sent[key]\n                    withdrawn.append(key)\n            elif",
        "del sent[key]\n            elif",
    ),
    "what was never sent is withdrawn": (
        "if key in sent:\n                    del sent[key]",
        "if True:\n                    sent.pop(key, None)",
    ),
    "a change is taken for no change": ("elif sent.get(key) is not path:", "elif key not in sent:"),
    "what was sent is not remembered": ("sent.update(told)", "pass"),
    "a refresh forgets what was sent": ("dict.fromkeys(self.sent[family])", "{}"),
    "a refresh is not answered": ("        part.again(part.table.rows)\n\n    def reason", "\n    def reason"),
    "memberships are looked at once": ("            self._members_changed()\n\n    def _members", "\n    def _members"),
    "memberships do not filter": ("if self._membership.wants(path.attributes) else None", "if True else None"),
    "memberships filter all families": (
        "self._membership is not None and family in WITH_TARGETS:\n                path",
        "self._membership is not None:\n                path",
    ),
    "a partial membership is one bit short": (">> 64 - bits", ">> 63 - bits"),
    "what does not fit stays at the peer": (
        "del sent[key]\n                    withdrawn.append(key)\n            else",
        "pass\n            else",
    ),
    "what does not fit stops the rest": ("except ValueError as error:", "except ZeroDivisionError as error:"),
    "End-of-RIB does not wait for the node": ("return self.released and (", "return ("),
    "End-of-RIB does not wait for memberships": ("self._members is None or self._members_synced)", "True)"),
    "End-of-RIB does not wait for the routes": (
        "if not part.dirty and family not in self.told_all",
        "if family not in self.told_all",
    ),
    "End-of-RIB is said again": ("self.told_all.add(family)", "pass"),
    "a new session is not told all": (
        "self.sent = {family: {} for family in negotiated.families}",
        "self.old = self.sent = getattr(self, 'old', None) or {family: {} for family in negotiated.families}",
    ),
    "an external peer is told LOCAL_PREF": ("if self.negotiated.ibgp:", "if True:"),
    "an internal peer is told our AS": ("if self.negotiated.ibgp:", "if False:"),
}


def mutant(old: str, new: str) -> type[AdjRibOut]:
    """The class with one fault written into its source."""
    source = File(adj_rib_out.__file__).read_text()
    assert source.count(old) == 1, f"the source has {source.count(old)} times {old!r}"
    module = types.ModuleType("mutant")
    exec(source.replace(old, new), module.__dict__)
    kind: type[AdjRibOut] = module.__dict__["AdjRibOut"]
    return kind


@pytest.mark.parametrize("fault", MUTANTS)
def test_the_model_catches_a_fault(fault: str) -> None:
    kind = mutant(*MUTANTS[fault])
    with pytest.raises((AssertionError, ValueError)):
        live(kind)
