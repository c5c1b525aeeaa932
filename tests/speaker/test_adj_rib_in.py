"""What is kept of what a peer says: refusals, interest, graceful restart, a family that cannot be read."""

from __future__ import annotations

import pytest

from speaker.adj_rib_in import REFUSALS_KEPT, AdjRibIn
from speaker.path import AS_SEQUENCE, AS_SET, Attributes
from speaker.values import Family
from speaker.wire.attribute import Interner
from speaker.wire.update import Update, UpdateDecoder
from tests.speaker.hearing import EVPN, RTC, TAG, VPNV4, A, B, C, Peer, graceful
from tests.speaker.routes import (
    announced,
    block,
    member_key,
    on_the_wire,
    session,
    vpn_key,
    withdrawn,
)


def up(peer: Peer, *families: Family, **words: object) -> None:
    peer.adj_rib_in.up(session(*families, **words), 0.0)  # type: ignore[arg-type]


def test_routes_come_change_and_go() -> None:
    peer = Peer()
    up(peer, VPNV4)
    first, second = block(1), block(1, local_pref=200)
    peer.adj_rib_in.update(announced(VPNV4, first, A, B), 0.0)
    peer.adj_rib_in.update(announced(VPNV4, second, B, C), 0.0)
    peer.adj_rib_in.update(withdrawn(VPNV4, A), 0.0)
    table = peer.rib.table(VPNV4, "p")
    assert {key: path.attributes for key, path in table.rows.items()} == {B: second, C: second}


def test_a_peer_is_known_by_whether_it_is_external_and_by_its_identifier() -> None:
    for ibgp in (True, False):
        peer = Peer()
        up(peer, VPNV4, ibgp=ibgp)
        assert peer.rib.origin("p").external is not ibgp
        assert peer.rib.origin("p").router_id == bytes((192, 0, 2, 9))


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        (block(1, next_hop=bytes((192, 0, 2, 1))), "next hop"),
        (block(1, originator_id=bytes((192, 0, 2, 1))), "ORIGINATOR_ID"),
        (block(1, as_path=((AS_SEQUENCE, (64513, 64512)),)), "AS 64512"),
        (block(1, as_path=((AS_SEQUENCE, (64513,)), (AS_SET, (1, 64512)))), "AS 64512"),
    ],
)
def test_our_own_routes_and_loops_are_refused_and_take_the_place_of_a_good_one(
    attributes: Attributes, reason: str
) -> None:
    peer = Peer()
    up(peer, VPNV4)
    peer.adj_rib_in.update(announced(VPNV4, block(1), A, B), 0.0)
    peer.adj_rib_in.update(announced(VPNV4, attributes, A), 0.0)
    assert peer.held() == {B}
    assert reason in peer.adj_rib_in.refused[(VPNV4, A)]
    peer.adj_rib_in.update(announced(VPNV4, block(1), A), 0.0)
    assert peer.held() == {A, B}
    assert peer.adj_rib_in.refused == {}


def test_what_looks_alike_is_not_refused() -> None:
    peer = Peer()
    up(peer, VPNV4)
    for attributes in (
        block(1, originator_id=bytes((192, 0, 2, 2))),
        block(1, cluster_list=(b"\0\0\0\7",)),
        block(1, as_path=((AS_SEQUENCE, (64513,)),)),
    ):
        peer.adj_rib_in.update(announced(VPNV4, attributes, A), 0.0)
        assert peer.rib.table(VPNV4, "p")[A].attributes is attributes


def test_a_membership_that_a_reflector_tells_us_back_stands_for_those_of_others() -> None:  # RFC 4684 section 3.2
    peer = Peer()
    up(peer, VPNV4, RTC)
    ours = block(next_hop=bytes((192, 0, 2, 1)), originator_id=bytes((192, 0, 2, 1)))
    peer.adj_rib_in.update(announced(RTC, ours, member_key(1)), 0.0)
    assert peer.held(RTC) == {member_key(1)}
    peer.adj_rib_in.update(announced(RTC, block(as_path=((AS_SEQUENCE, (64512,)),)), member_key(1)), 0.0)
    assert peer.held(RTC) == set()


def test_a_refusal_is_forgotten_when_its_route_or_session_is_gone_and_there_are_not_many() -> None:
    peer = Peer()
    ours = block(1, originator_id=bytes((192, 0, 2, 1)))
    for end in ("withdrawn", "disabled", "down", "forgotten"):
        up(peer, VPNV4)
        peer.adj_rib_in.update(announced(VPNV4, ours, A), 0.0)
        assert (VPNV4, A) in peer.adj_rib_in.refused
        match end:
            case "withdrawn":
                peer.adj_rib_in.update(withdrawn(VPNV4, A), 0.0)
            case "disabled":
                peer.adj_rib_in.disable(VPNV4)
            case "down":
                peer.adj_rib_in.down(session(VPNV4), False, 0.0)
            case "forgotten":
                peer.adj_rib_in.forget()
        assert peer.adj_rib_in.refused == {}, end
    keys = [vpn_key(f"10.{n >> 8}.{n & 255}.0/24") for n in range(3000)]
    for key in keys:
        peer.adj_rib_in.update(announced(VPNV4, ours, key), 0.0)
    assert list(peer.adj_rib_in.refused) == [(VPNV4, key) for key in keys[-REFUSALS_KEPT:]]


def test_a_route_that_nobody_imports_is_not_held_unless_the_peer_cannot_be_asked_again() -> None:
    for route_refresh, expected in [(True, {A}), (False, {A, B})]:
        peer = Peer()
        up(peer, VPNV4, route_refresh=route_refresh)
        peer.adj_rib_in.update(announced(VPNV4, block(1), A), 0.0)
        peer.adj_rib_in.update(announced(VPNV4, block(2), B), 0.0)
        assert peer.held() == expected
        peer.import_targets(2)
        peer.adj_rib_in.prune()
        assert peer.held() == expected - ({A} if route_refresh else set())


def test_a_route_that_loses_its_wanted_target_goes() -> None:
    peer = Peer()
    up(peer, VPNV4)
    peer.adj_rib_in.update(announced(VPNV4, block(1), A), 0.0)
    peer.adj_rib_in.update(announced(VPNV4, block(2), A), 0.0)
    assert peer.held() == set()


def test_memberships_and_routes_without_targets_are_held_whoever_imports() -> None:
    peer = Peer()
    up(peer, RTC, Family.IPV4)
    peer.adj_rib_in.update(announced(RTC, block(), member_key(5)), 0.0)
    peer.adj_rib_in.update(announced(Family.IPV4, block(), b"\x0a\x08"), 0.0)
    peer.adj_rib_in.prune()
    assert (peer.held(RTC), peer.held(Family.IPV4)) == ({member_key(5)}, {b"\x0a\x08"})


def test_a_good_route_is_gone_after_a_malformed_one_took_its_place() -> None:  # RFC 7606 section 2
    peer = Peer()
    up(peer, VPNV4)
    decoder = UpdateDecoder(Interner(), ibgp=True, as4=True, families=frozenset({VPNV4}))
    good = on_the_wire(VPNV4, block(1), A, B)
    peer.adj_rib_in.update(decoder.decode(good), 0.0)
    assert peer.held() == {A, B}
    bad = on_the_wire(VPNV4, block(1), A).replace(bytes.fromhex("40010100"), bytes.fromhex("40010103"))
    peer.adj_rib_in.update(decoder.decode(bad), 0.0)
    assert peer.held() == {B}
    stack = on_the_wire(VPNV4, block(1), B).replace(bytes.fromhex("70000641"), bytes.fromhex("88000640000651"))
    grown = bytearray(stack)
    for at in (3, 7):  # the lengths of all attributes and of MP_REACH_NLRI
        grown[at] += 3
    peer.adj_rib_in.update(decoder.decode(bytes(grown)), 0.0)
    assert peer.held() == set()


def test_a_lost_session_takes_its_routes_with_it() -> None:
    peer = Peer()
    up(peer, VPNV4, EVPN)
    peer.adj_rib_in.update(announced(VPNV4, block(1), A), 0.0)
    peer.adj_rib_in.update(announced(EVPN, block(1), TAG), 0.0)
    peer.adj_rib_in.update(Update(end_of_rib=VPNV4), 0.0)
    assert peer.adj_rib_in.synced == {VPNV4}
    peer.adj_rib_in.down(session(VPNV4, EVPN), False, 1.0)
    assert (peer.held(), peer.held(EVPN), peer.adj_rib_in.synced) == (set(), set(), set())
    assert peer.adj_rib_in.stale_until is None


def restarting(*families: Family, **words: object) -> Peer:
    """A peer that was lost at 100 s with routes A, B and TAG, and whose routes may outlive it for 90 s."""
    peer = Peer()
    agreed = session(VPNV4, EVPN, graceful=graceful(*families, **words))  # type: ignore[arg-type]
    peer.adj_rib_in.up(agreed, 0.0)
    peer.adj_rib_in.update(announced(VPNV4, block(1), A, B), 0.0)
    peer.adj_rib_in.update(announced(EVPN, block(1), TAG), 0.0)
    peer.adj_rib_in.down(agreed, True, 100.0)
    return peer


def test_routes_outlive_a_graceful_loss_for_the_restart_time() -> None:  # RFC 4724 section 4.2
    peer = restarting(VPNV4)
    assert (peer.held(), peer.held(EVPN)) == ({A, B}, set()), "a family that the peer did not name is not kept"
    assert peer.adj_rib_in.stale_until == 190.0
    peer.adj_rib_in.tick(189.0)
    assert peer.held() == {A, B}
    peer.adj_rib_in.tick(190.0)
    assert peer.held() == set()
    assert peer.adj_rib_in.stale_until is None


def test_two_families_are_kept_and_end_together() -> None:
    peer = restarting(VPNV4, EVPN)
    assert peer.adj_rib_in.stale_until == 190.0
    peer.adj_rib_in.tick(190.0)
    assert (peer.held(), peer.held(EVPN)) == (set(), set())


def test_what_is_not_said_again_is_swept_at_the_End_of_RIB_of_its_family() -> None:
    peer = restarting(VPNV4, EVPN)
    peer.adj_rib_in.up(session(VPNV4, EVPN, graceful=graceful(VPNV4, EVPN)), 110.0)
    assert (peer.held(), peer.held(EVPN)) == ({A, B}, {TAG})
    peer.adj_rib_in.update(announced(VPNV4, block(1), B), 110.0)
    assert peer.held() == {A, B}
    peer.adj_rib_in.update(Update(end_of_rib=VPNV4), 111.0)
    assert (peer.held(), peer.held(EVPN)) == ({B}, {TAG}), "the other family still waits"
    assert peer.adj_rib_in.stale_until == 290.0
    peer.adj_rib_in.update(Update(end_of_rib=EVPN), 112.0)
    assert (peer.held(), peer.held(EVPN)) == ({B}, set())
    assert peer.adj_rib_in.stale_until is None


def test_a_peer_that_comes_back_and_never_says_End_of_RIB_is_swept_in_time() -> None:
    peer = restarting(VPNV4)
    peer.adj_rib_in.up(session(VPNV4, graceful=graceful(VPNV4)), 110.0)
    peer.adj_rib_in.update(announced(VPNV4, block(1), B), 110.0)
    peer.adj_rib_in.tick(289.0)
    assert peer.held() == {A, B}
    peer.adj_rib_in.tick(290.0)
    assert peer.held() == {B}


@pytest.mark.parametrize(
    ("again", "kept"),
    [
        (session(VPNV4, EVPN, graceful=graceful(VPNV4, EVPN)), {"vpnv4", "evpn"}),
        (session(VPNV4, EVPN, graceful=graceful(VPNV4, lost=EVPN)), {"vpnv4"}),  # the F bit is not set
        (session(VPNV4, EVPN, graceful=graceful(VPNV4)), {"vpnv4"}),
        (session(EVPN, graceful=graceful(VPNV4, EVPN)), {"evpn"}),  # the family is not there again
        (session(VPNV4, EVPN, graceful=graceful()), set()),
        (session(VPNV4, EVPN), set()),
    ],
)
def test_what_was_not_forwarded_meanwhile_is_swept_at_once(again: object, kept: set[str]) -> None:
    peer = restarting(VPNV4, EVPN)
    peer.adj_rib_in.up(again, 110.0)  # type: ignore[arg-type]
    assert {family.text for family in (VPNV4, EVPN) if peer.held(family)} == kept


def test_what_a_restarting_peer_withdraws_or_that_is_refused_is_not_stale_any_more() -> None:
    peer = restarting(VPNV4)
    peer.adj_rib_in.up(session(VPNV4, graceful=graceful(VPNV4)), 110.0)
    peer.adj_rib_in.update(withdrawn(VPNV4, A), 110.0)
    peer.adj_rib_in.update(announced(VPNV4, block(1, originator_id=bytes((192, 0, 2, 1))), B), 110.0)
    assert peer.held() == set()
    peer.adj_rib_in.update(announced(VPNV4, block(1), A, B), 110.0)
    peer.adj_rib_in.update(Update(end_of_rib=VPNV4), 110.0)
    assert peer.held() == {A, B}


def test_stale_routes_are_not_given_a_second_life() -> None:
    peer = restarting(VPNV4)
    agreed = session(VPNV4, graceful=graceful(VPNV4))
    peer.adj_rib_in.up(agreed, 110.0)
    peer.adj_rib_in.update(announced(VPNV4, block(1), B), 110.0)
    peer.adj_rib_in.down(agreed, True, 120.0)
    assert peer.held() == {B}
    assert peer.adj_rib_in.stale_until == 210.0
    peer.adj_rib_in.up(agreed, 130.0)
    peer.adj_rib_in.down(agreed, False, 140.0)
    assert peer.held() == set()
    assert peer.adj_rib_in.stale_until is None


def test_a_family_that_cannot_be_read_is_forgotten_and_the_others_stay() -> None:  # RFC 4760 section 7
    peer = restarting(VPNV4, EVPN)
    agreed = session(VPNV4, EVPN, graceful=graceful(VPNV4, EVPN))
    peer.adj_rib_in.up(agreed, 110.0)
    peer.adj_rib_in.update(announced(VPNV4, block(1), B), 110.0)
    peer.adj_rib_in.disable(VPNV4)
    assert (peer.held(), peer.held(EVPN)) == (set(), {TAG})
    assert peer.adj_rib_in.disabled == {VPNV4}
    peer.adj_rib_in.update(Update(end_of_rib=EVPN), 111.0)
    peer.adj_rib_in.update(announced(EVPN, block(1), TAG), 111.0)
    assert peer.held(EVPN) == {TAG}
    peer.adj_rib_in.up(agreed, 120.0)
    assert peer.adj_rib_in.disabled == set()


def test_a_peer_that_is_forgotten_leaves_nothing_and_others_stay() -> None:
    peer = restarting(VPNV4, EVPN)
    other = AdjRibIn("q", peer.rib, peer.interest, peer.own)
    other.up(session(VPNV4), 0.0)
    other.update(announced(VPNV4, block(1), A), 0.0)
    peer.adj_rib_in.forget()
    assert (peer.held(), peer.held(EVPN)) == (set(), set())
    assert peer.adj_rib_in.stale_until is None
    assert set(peer.rib.table(VPNV4, "q").rows) == {A}
