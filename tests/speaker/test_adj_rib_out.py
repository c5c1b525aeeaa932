"""What a peer is told of our own routes, and when: facts one by one.

The peer is our own decoder, applied to the octets; what it ends with is compared with what it should hold.
"""

from __future__ import annotations

import pytest

from speaker.adj_rib_out import MEMBERSHIP_WAIT_S, AdjRibOut
from speaker.decision import LOCAL
from speaker.membership import Membership
from speaker.path import AS_SEQUENCE, Attributes
from speaker.refusal import Own
from speaker.rib import Rib
from speaker.session import Negotiated
from speaker.update_group import UpdateGroups
from speaker.values import Family
from tests.speaker.routes import Listener, block, extra, member_key, session, target, vpn_key

VPNV4, EVPN, RTC, IPV4 = Family.VPNV4, Family.EVPN, Family.RTC, Family.IPV4
A, B, C = (vpn_key(f"10.0.{n}.0/24") for n in range(3))
TAG = bytes.fromhex("03 0000fc0000000001 00000000 20 c0000209")
BUDGET = 1 << 16
OWN_ID = bytes((192, 0, 2, 1))
OWN = Own(OWN_ID, frozenset({64512}), frozenset({OWN_ID}))


class Node:
    """A node with routes of its own and one peer that listens to them."""

    def __init__(self, *families: Family, agreed: Negotiated | None = None) -> None:
        self.rib = Rib()
        self.out = AdjRibOut("p", UpdateGroups(self.rib, OWN))
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
        assert Membership([key]).wants(block(6).route_targets) is expected, key.hex()
    assert not Membership([origin + red + b"\x60"]).wants(block().route_targets)


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
    assert set(node.out.sent[VPNV4]) == {A}
    node.out.down()
    assert node.out.reason_untold(VPNV4, A) == "the session is not established"
