"""What outlives its peer, and what a refresh leaves, on the receiving side: RFC 4724, 8538, 9494 and 7313."""

from __future__ import annotations

import time
from typing import Any

import pytest

from speaker.adj_rib_in import NO_LLGR, REFRESH_S, STALE_S
from speaker.decision import LLGR_STALE
from speaker.path import Attributes, Path
from speaker.session import Negotiated
from speaker.terms import ACCEPT_ALL, PrefixLimit, Terms, reject
from speaker.values import Family
from speaker.wire.update import Update
from tests.speaker.hearing import EVPN, TAG, VPNV4, A, B, C, Peer, agreed, graceful, saying
from tests.speaker.routes import block, vpn_key

LONG_S = 1000


def communities(attributes: Attributes, *values: int) -> Attributes:
    return saying(attributes, communities=values)


def long_lived(*families: Family, lost: Family | None = None, time_s: int = LONG_S) -> dict[int, tuple[bool, int]]:
    return {**{int(family): (True, time_s) for family in families}, **({lost: (False, time_s)} if lost else {})}


def session(**fields: Any) -> Negotiated:
    """VPNv4 and EVPN, restart time 90 s, long-lived for VPNv4 alone."""
    usual = {"graceful": graceful(VPNV4, EVPN), "long_lived": long_lived(VPNV4)}
    return agreed(VPNV4, EVPN, **{**usual, **fields})


def lost_at(now: float, **fields: Any) -> Peer:
    peer = Peer()
    agreed_on = session(**fields)
    peer.adj_rib_in.up(agreed_on, 0.0)
    peer.hear(VPNV4, block(1), A, B)
    peer.hear(EVPN, block(1), TAG)
    peer.adj_rib_in.down(agreed_on, True, now)
    return peer


def marked(peer: Peer, family: Family = VPNV4) -> set[bytes]:
    """The keys of long-lived stale routes."""
    return {key for (_, key), path in peer.paths(family).items() if LLGR_STALE in path.attributes.communities}


def ended(family: Family) -> Update:
    return Update(end_of_rib=family)


def test_after_the_restart_time_what_is_long_lived_stays_with_LLGR_STALE() -> None:  # RFC 9494 section 4.2
    peer = lost_at(100.0)
    assert peer.adj_rib_in.deadline() == 190.0
    peer.adj_rib_in.tick(189.0)
    assert (peer.held(), marked(peer), peer.held(EVPN)) == ({A, B}, set(), {TAG})
    peer.adj_rib_in.tick(190.0)
    assert (peer.held(), marked(peer), peer.held(EVPN)) == ({A, B}, {A, B}, set())
    assert (peer.adj_rib_in.deadline(), peer.adj_rib_in.stale_until) == (190.0 + LONG_S, None)
    assert peer.adj_rib_in.stale == {VPNV4: {A, B}}
    peer.adj_rib_in.tick(189.0 + LONG_S)
    assert peer.held() == {A, B}
    peer.adj_rib_in.tick(190.0 + LONG_S)
    assert (peer.held(), peer.adj_rib_in.deadline(), peer.adj_rib_in.stale) == (set(), None, {})


def test_a_block_is_marked_once_and_what_it_says_else_stays() -> None:
    peer = Peer()
    agreed_on = session(graceful=graceful(VPNV4, time_s=0))
    peer.adj_rib_in.up(agreed_on, 0.0)
    peer.hear(VPNV4, communities(block(1, local_pref=7), 5), A, B)
    peer.hear(VPNV4, communities(block(1), LLGR_STALE), C)
    came = peer.rib.table(VPNV4, "p")[C]
    peer.adj_rib_in.down(agreed_on, True, 0.0)
    assert peer.rib.table(VPNV4, "p")[A] is peer.rib.table(VPNV4, "p")[B]
    assert (peer.says(VPNV4, A).communities, peer.says(VPNV4, A).local_pref) == ((5, LLGR_STALE), 7)
    assert peer.rib.table(VPNV4, "p")[C] is came, "it was somebody's long-lived route before"


@pytest.mark.parametrize(
    ("fields", "left", "until"),
    [
        ({"graceful": graceful(VPNV4, EVPN, time_s=0)}, {A, B}, LONG_S),  # no restart time: long-lived at once
        ({"graceful": graceful(EVPN)}, {A, B}, 90.0),  # the family is not in the capability of RFC 4724
        ({"graceful": graceful(VPNV4, EVPN, time_s=0), "long_lived": {}}, set(), None),
        ({"graceful": graceful(VPNV4, EVPN, time_s=0), "long_lived": long_lived(VPNV4, time_s=0)}, set(), None),
    ],
)
def test_without_a_restart_time_routes_are_long_lived_at_once_or_gone(  # RFC 9494 section 4.2
    fields: dict[str, Any], left: set[bytes], until: float | None
) -> None:
    peer = lost_at(0.0, **fields)
    assert (peer.held(), marked(peer)) == (left, left)
    assert peer.adj_rib_in.deadline() == until


def test_routes_that_say_NO_LLGR_end_with_the_restart_time() -> None:  # RFC 9494 section 4.2
    peer = Peer()
    agreed_on = session()
    peer.adj_rib_in.up(agreed_on, 0.0)
    peer.hear(VPNV4, block(1), A)
    peer.hear(VPNV4, communities(block(1), NO_LLGR), B)
    peer.adj_rib_in.down(agreed_on, True, 0.0)
    assert peer.held() == {A, B}
    peer.adj_rib_in.tick(90.0)
    assert (peer.held(), peer.adj_rib_in.stale) == ({A}, {VPNV4: {A}})


def forbidding(family: Family, key: bytes, path: Path) -> Path | None:
    """A policy that lets no route but C be long-lived, and takes all other communities off."""
    return saying(path.attributes, communities=() if key == C else (NO_LLGR,)).path(path.extra)


def test_a_policy_may_forbid_long_lived_routes_and_cannot_take_LLGR_STALE_off() -> None:  # RFC 9494 sections 4.2, 4.3
    for late in (False, True):
        peer = Peer()
        if not late:
            peer.adj_rib_in.change(Terms(importing=forbidding), 0.0)
        agreed_on = session()
        peer.adj_rib_in.up(agreed_on, 0.0)
        peer.hear(VPNV4, block(1), A, C)
        peer.adj_rib_in.down(agreed_on, True, 0.0)
        peer.adj_rib_in.tick(90.0)
        if late:
            assert marked(peer) == {A, C}
            peer.adj_rib_in.change(Terms(importing=forbidding), 95.0)
        assert (peer.held(), marked(peer), peer.adj_rib_in.stale) == ({C}, {C}, {VPNV4: {C}})
        assert LLGR_STALE in peer.adj_rib_in.held[VPNV4][C].attributes.communities
        peer.adj_rib_in.change(ACCEPT_ALL, 96.0)
        assert marked(peer) == {C}


def test_rejected_routes_are_stale_too_and_come_back_with_another_policy() -> None:
    peer = Peer()
    peer.adj_rib_in.change(Terms(importing=reject), 0.0)
    agreed_on = session()
    peer.adj_rib_in.up(agreed_on, 0.0)
    peer.hear(VPNV4, block(1), A, B)
    peer.adj_rib_in.down(agreed_on, True, 0.0)
    peer.adj_rib_in.tick(90.0)
    assert peer.adj_rib_in.counts() == {VPNV4: 2}
    peer.adj_rib_in.change(ACCEPT_ALL, 91.0)
    assert marked(peer) == {A, B}
    peer.adj_rib_in.tick(90.0 + LONG_S)
    assert peer.adj_rib_in.counts() == {}


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({}, True),
        ({"long_lived": long_lived(lost=VPNV4)}, False),  # the F bit of RFC 9494 counts now
        ({"long_lived": {}}, False),
        ({"graceful": None, "long_lived": {}}, False),
        ({"graceful": graceful(lost=VPNV4)}, True),  # and that of RFC 4724 no more
    ],
)
def test_what_is_long_lived_stays_if_its_own_capability_says_so(fields: dict[str, Any], kept: bool) -> None:
    peer = lost_at(0.0)
    peer.adj_rib_in.tick(90.0)
    peer.adj_rib_in.up(session(**fields), 100.0)
    assert marked(peer) == ({A, B} if kept else set())
    assert peer.adj_rib_in.deadline() == (90.0 + LONG_S if kept else None)
    early = lost_at(0.0)
    early.adj_rib_in.up(session(**{"graceful": graceful(lost=VPNV4), **fields}), 80.0)
    assert early.held() == set(), "in the restart time it is the F bit of RFC 4724"


def test_a_long_lived_route_is_refreshed_and_the_rest_ends_with_End_of_RIB() -> None:  # RFC 9494 section 4.2
    peer = lost_at(0.0)
    peer.adj_rib_in.tick(90.0)
    peer.adj_rib_in.up(session(), 100.0)
    peer.hear(VPNV4, block(1), A)
    assert (peer.held(), marked(peer), peer.adj_rib_in.deadline()) == ({A, B}, {B}, 90.0 + LONG_S)
    peer.adj_rib_in.update(ended(VPNV4), 101.0)
    assert (peer.held(), marked(peer), peer.adj_rib_in.deadline()) == ({A}, set(), None)


def test_the_long_lived_stale_time_runs_on_over_sessions_until_End_of_RIB() -> None:  # RFC 9494 section 4.2
    peer = lost_at(0.0)
    peer.adj_rib_in.tick(90.0)
    for now in (100.0, 300.0):
        peer.adj_rib_in.up(session(), now)
        peer.hear(VPNV4, block(1, local_pref=int(now)), A)
        peer.adj_rib_in.down(session(), True, now + 10.0)
        assert (peer.held(), marked(peer)) == ({A, B}, {B}), "the old ones are not deleted by another restart"
        peer.adj_rib_in.tick(now + 100.0)
        assert marked(peer) == {A, B}
        assert peer.adj_rib_in.deadline() == 90.0 + LONG_S
    peer.adj_rib_in.tick(90.0 + LONG_S)
    assert peer.held() == set()


def test_what_was_never_synchronized_when_the_stale_time_ended_goes_with_the_session() -> None:  # RFC 9494 section 4.2
    for synchronized in (False, True):
        peer = lost_at(0.0)
        peer.adj_rib_in.tick(90.0)
        peer.adj_rib_in.up(session(), 100.0)
        peer.hear(VPNV4, block(1), A)
        peer.adj_rib_in.tick(90.0 + LONG_S)
        assert peer.held() == {A}
        if synchronized:
            peer.adj_rib_in.update(ended(VPNV4), 1200.0)
        peer.adj_rib_in.down(session(), True, 1300.0)
        assert peer.held() == ({A} if synchronized else set())


@pytest.mark.parametrize(
    ("fields", "second", "kept"),
    [
        ({"long_lived": {}}, 120.0, False),  # RFC 4724 section 4.2
        ({}, 120.0, True),  # RFC 9494 section 4.2: not before the stale time is over
        ({}, 10.0 + LONG_S, False),
        ({"long_lived": {}, "graceful_notification": True}, 120.0, True),  # RFC 8538 section 4.1
        ({"long_lived": {}, "graceful_notification": True}, STALE_S, False),
    ],
)
def test_what_is_stale_outlives_a_second_restart_where_that_is_agreed_on(
    fields: dict[str, Any], second: float, kept: bool
) -> None:
    peer = lost_at(0.0, **fields)
    peer.adj_rib_in.up(session(**fields), 10.0)
    peer.hear(VPNV4, block(1), A)
    peer.adj_rib_in.down(session(**fields), True, second)
    assert peer.held() == ({A, B} if kept else {A})
    peer.adj_rib_in.tick(second + 90.0)
    assert marked(peer) == (peer.held() if "long_lived" not in fields else set())


def test_a_second_restart_gives_what_was_fresh_its_whole_time() -> None:  # RFC 8538 section 4.1
    agreed_on = session(long_lived={}, graceful_notification=True)
    peer = lost_at(0.0, long_lived={}, graceful_notification=True)
    peer.adj_rib_in.up(agreed_on, 10.0)
    peer.hear(VPNV4, block(1), A, B)
    peer.adj_rib_in.down(agreed_on, True, STALE_S - 1.0)
    peer.adj_rib_in.up(agreed_on, STALE_S)
    peer.adj_rib_in.down(agreed_on, True, STALE_S + 20.0)
    assert peer.held() == {A, B}, "they are stale since the second loss only"


def test_a_peer_without_End_of_RIB_is_waited_for_as_long_as_its_restart_time_at_least() -> None:
    for time_s, waited in ((90, STALE_S), (600, 600.0)):
        agreed_on = session(long_lived={}, graceful=graceful(VPNV4, time_s=time_s))
        peer = lost_at(0.0, long_lived={}, graceful=graceful(VPNV4, time_s=time_s))
        peer.adj_rib_in.up(agreed_on, 10.0)
        assert peer.adj_rib_in.deadline() == 10.0 + waited
        peer.adj_rib_in.tick(10.0 + waited)
        assert (peer.held(), peer.adj_rib_in.deadline()) == (set(), None)


def test_a_family_that_the_peer_has_no_more_goes_with_its_stale_routes() -> None:
    peer = lost_at(0.0)
    peer.adj_rib_in.tick(90.0)
    peer.adj_rib_in.up(agreed(EVPN, graceful=graceful(EVPN), long_lived=long_lived(VPNV4)), 100.0)
    assert (peer.held(), peer.adj_rib_in.deadline()) == (set(), None)


def refreshed(**fields: Any) -> Peer:
    """A peer that told A and B, and tells both again from 10 s on."""
    peer = Peer()
    peer.up(VPNV4, EVPN, enhanced_refresh=True, **fields)
    peer.hear(VPNV4, block(1), A, B)
    peer.hear(EVPN, block(1), TAG)
    peer.adj_rib_in.refreshing(VPNV4, True, 10.0)
    return peer


def test_what_a_refresh_does_not_repeat_goes_at_its_end() -> None:  # RFC 7313 section 4
    peer = refreshed()
    assert peer.adj_rib_in.deadline() == 10.0 + REFRESH_S
    peer.hear(VPNV4, block(1, local_pref=7), A, C)
    assert peer.held() == {A, B, C}, "nothing goes before the end"
    peer.adj_rib_in.refreshing(VPNV4, False, 11.0)
    assert (peer.held(), peer.held(EVPN), peer.adj_rib_in.deadline()) == ({A, C}, {TAG}, None)
    peer.adj_rib_in.refreshing(VPNV4, False, 12.0)
    assert peer.held() == {A, C}, "an end without a begin"


def test_a_second_begin_starts_the_refresh_anew() -> None:
    peer = refreshed()
    peer.hear(VPNV4, block(1), A)
    peer.adj_rib_in.refreshing(VPNV4, True, 20.0)
    peer.hear(VPNV4, block(1), B)
    assert peer.adj_rib_in.deadline() == 20.0 + REFRESH_S
    peer.adj_rib_in.refreshing(VPNV4, False, 21.0)
    assert peer.held() == {B}


def test_a_begin_during_a_refresh_looks_only_at_what_came_since() -> None:
    peer = Peer()
    peer.up(VPNV4, enhanced_refresh=True)
    keys = [vpn_key(f"10.{n >> 8}.{n & 255}.0/24") for n in range(20_000)]
    peer.hear(VPNV4, block(1), *keys)
    began = time.process_time()
    for key in keys[:5000]:
        peer.adj_rib_in.refreshing(VPNV4, True, 1.0)
        peer.hear(VPNV4, block(1), key)
    peer.lose(VPNV4, keys[0])
    peer.adj_rib_in.refreshing(VPNV4, True, 2.0)
    assert time.process_time() - began < 1.0, "5000 begins look at 100 million routes"
    peer.hear(VPNV4, block(1), keys[1])
    peer.adj_rib_in.refreshing(VPNV4, False, 3.0)
    assert peer.adj_rib_in.count(VPNV4) == 1
    assert peer.held() == {keys[1]}


def test_a_refresh_without_an_end_ends_in_time() -> None:
    peer = refreshed()
    peer.hear(VPNV4, block(1), A)
    peer.adj_rib_in.tick(9.0 + REFRESH_S)
    assert peer.held() == {A, B}
    peer.adj_rib_in.tick(10.0 + REFRESH_S)
    assert (peer.held(), peer.adj_rib_in.deadline()) == ({A}, None)


def test_a_begin_before_the_End_of_RIB_of_a_graceful_restart_counts_for_nothing() -> None:  # RFC 7313 section 4
    for end_of_rib in (False, True):
        peer = Peer()
        peer.up(VPNV4, graceful=graceful(VPNV4))
        peer.hear(VPNV4, block(1), A)
        if end_of_rib:
            peer.adj_rib_in.update(ended(VPNV4), 0.0)
        peer.adj_rib_in.refreshing(VPNV4, True, 0.0)
        peer.adj_rib_in.refreshing(VPNV4, False, 0.0)
        assert peer.held() == (set() if end_of_rib else {A})


def test_a_refresh_ends_with_its_session_or_family() -> None:
    for how in ("down", "graceful", "disabled", "forgotten"):
        peer = refreshed()
        agreed_on = session()
        match how:
            case "down":
                peer.adj_rib_in.down(agreed_on, False, 11.0)
            case "graceful":
                peer.adj_rib_in.down(agreed_on, True, 11.0)
            case "disabled":
                peer.adj_rib_in.disable(VPNV4)
            case "forgotten":
                peer.adj_rib_in.forget()
        assert peer.adj_rib_in.refreshes == {}, how
    peer = refreshed()
    peer.adj_rib_in.down(session(), True, 11.0)
    peer.adj_rib_in.up(session(), 12.0)
    peer.adj_rib_in.refreshing(VPNV4, False, 13.0)
    assert peer.held() == {A, B}


def test_a_refresh_ends_what_was_rejected_or_refused_too_and_makes_room() -> None:
    peer = Peer()
    peer.adj_rib_in.change(Terms(importing=reject, limits={VPNV4: PrefixLimit(most=2)}), 0.0)
    peer.up(VPNV4)
    peer.hear(VPNV4, block(1), A, B, C)
    assert {key for _, key, _, _ in peer.adj_rib_in.refusals()} == {A, B, C}
    peer.adj_rib_in.refreshing(VPNV4, True, 0.0)
    peer.hear(VPNV4, block(1), A)
    peer.adj_rib_in.refreshing(VPNV4, False, 1.0)
    peer.settle()
    assert [key for _, key, _, _ in peer.adj_rib_in.refusals()] == [A]
    assert peer.adj_rib_in.wanted_again == {VPNV4}


def test_a_withdrawal_in_a_refresh_is_a_withdrawal() -> None:
    peer = refreshed()
    peer.lose(VPNV4, A)
    peer.hear(VPNV4, block(1), B)
    assert peer.held() == {B}
    peer.adj_rib_in.refreshing(VPNV4, False, 11.0)
    assert peer.held() == {B}
