"""What the receiving half makes of a peer's routes by its terms: path identifiers, import policy, prefix limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from speaker.adj_rib_in import REJECTED, REPORTS_KEPT
from speaker.errors import PrefixLimitReached
from speaker.path import AS_SEQUENCE, Attributes, Path
from speaker.slots import MOST_PATHS
from speaker.terms import ACCEPT_ALL, Decide, PrefixLimit, Terms, reject
from speaker.values import Family
from speaker.wire.update import Update
from tests.speaker.hearing import EVPN, IPV4, TAG, VPNV4, A, B, C, Peer, agreed, graceful, saying
from tests.speaker.routes import block, extra, vpn_key

KEYS = [vpn_key(f"10.{n}.0.0/16") for n in range(40)]


def told(number: int, nlri: bytes) -> bytes:
    return number.to_bytes(4, "big") + nlri


def with_paths(**fields: Any) -> Peer:
    peer = Peer()
    peer.up(VPNV4, add_path_receive=frozenset({VPNV4}), **fields)
    return peer


def changing(change: Callable[[bytes, Attributes], Attributes | None]) -> Decide:
    """A policy that does this to attributes; it keeps what it made, so equal routes stay so."""
    made: dict[tuple[bytes, Attributes], Attributes | None] = {}

    def decide(family: Family, key: bytes, path: Path) -> Path | None:
        if (key, path.attributes) not in made:
            made[key, path.attributes] = change(key, path.attributes)
        attributes = made[key, path.attributes]
        return None if attributes is None else path if attributes is path.attributes else attributes.path(path.extra)

    return decide


def preferring(value: int) -> Decide:
    return changing(lambda key, attributes: saying(attributes, local_pref=value))


def without(*keys: bytes) -> Decide:
    return changing(lambda key, attributes: None if key in keys else attributes)


def rejected(peer: Peer) -> set[bytes]:
    peer.settle()
    return {key for _, key, _, reason in peer.adj_rib_in.refusals() if reason == REJECTED}


def test_several_paths_of_a_destination_are_several_sources() -> None:  # RFC 7911 section 2
    peer = with_paths()
    one, two, three = block(1, local_pref=1), block(1, local_pref=2), block(1, local_pref=3)
    peer.hear(VPNV4, one, told(7, A), told(7, B))
    peer.hear(VPNV4, two, told(8, A))
    assert peer.adj_rib_in.sources(VPNV4, A) == {7: "p", 8: "p#1"}
    peer.hear(VPNV4, three, told(7, A))
    assert {at: path.attributes for at, path in peer.paths().items()} == {
        ("p", A): three,
        ("p#1", A): two,
        ("p", B): one,
    }
    assert peer.adj_rib_in.counts() == {VPNV4: 3}
    peer.lose(VPNV4, told(7, A), told(8, B), A)
    assert peer.adj_rib_in.sources(VPNV4, A) == {8: "p#1"}
    assert peer.paths().keys() == {("p#1", A), ("p", B)}
    assert peer.adj_rib_in.has_path_ids(VPNV4)
    peer.adj_rib_in.down(agreed(VPNV4), False, 0.0)
    assert (peer.paths(), peer.adj_rib_in.sources(VPNV4, A)) == ({}, {})


def test_more_paths_than_there_are_slots_are_refused_with_the_reason() -> None:
    peer = with_paths()
    for number in range(MOST_PATHS + 2):
        peer.hear(VPNV4, block(1, local_pref=number), told(number, A))
    assert len(peer.paths()) == MOST_PATHS
    found = [(key, number) for _, key, number, reason in peer.adj_rib_in.refusals() if "more than 32 paths" in reason]
    assert found == [(A, MOST_PATHS), (A, MOST_PATHS + 1)]
    peer.lose(VPNV4, told(MOST_PATHS, A), told(3, A))
    peer.hear(VPNV4, block(1), told(MOST_PATHS + 1, A))
    assert peer.adj_rib_in.sources(VPNV4, A)[MOST_PATHS + 1] == "p#3"
    assert list(peer.adj_rib_in.refusals()) == []


def test_a_peer_is_asked_again_for_paths_that_had_no_slot_when_a_quarter_of_the_slots_is_free() -> None:
    peer = with_paths()
    everything = [told(number, A) for number in range(MOST_PATHS + 8)]
    peer.hear(VPNV4, block(1), *everything)
    assert len(peer.paths()) == MOST_PATHS
    peer.lose(VPNV4, *everything[:7])
    assert peer.adj_rib_in.wanted_again == set(), "not for each path that goes"
    peer.lose(VPNV4, everything[7])
    assert peer.adj_rib_in.wanted_again == {VPNV4}
    peer.adj_rib_in.wanted_again.clear()
    peer.lose(VPNV4, everything[8])
    assert peer.adj_rib_in.wanted_again == set(), "it was asked already"
    peer.hear(VPNV4, block(1), *everything[9:])
    assert set(peer.adj_rib_in.sources(VPNV4, A)) == set(range(9, MOST_PATHS + 8))


def test_a_peer_that_comes_back_with_other_path_identifiers_is_asked_for_what_its_stale_paths_left_no_slot_for() -> (
    None
):
    peer = Peer()
    fields = {"add_path_receive": frozenset({VPNV4}), "graceful": graceful(VPNV4)}
    lost = peer.up(VPNV4, **fields)
    peer.hear(VPNV4, block(1), *(told(number, A) for number in range(20)))
    peer.adj_rib_in.down(lost, True, 0.0)
    peer.up(VPNV4, **fields)
    again = [told(100 + number, A) for number in range(20)]
    peer.hear(VPNV4, block(1), *again)
    peer.adj_rib_in.update(Update(end_of_rib=VPNV4), 0.0)
    peer.settle()
    assert peer.adj_rib_in.wanted_again == {VPNV4}
    peer.hear(VPNV4, block(1), *again)
    assert set(peer.adj_rib_in.sources(VPNV4, A)) == set(range(100, 120))


def test_paths_that_are_refused_unwanted_or_of_a_lost_family_leave_their_slot() -> None:
    peer = with_paths()
    for last in ("refused", "unwanted", "pruned", "disabled"):
        peer.import_targets(1)
        peer.hear(VPNV4, block(1), told(1, A), told(2, A))
        assert peer.adj_rib_in.sources(VPNV4, A).keys() == {1, 2}
        left = {1}
        match last:
            case "refused":
                peer.hear(VPNV4, block(1, originator_id=peer.own.router_id), told(2, A))
            case "unwanted":
                peer.hear(VPNV4, block(2), told(2, A))
            case "pruned":
                peer.import_targets(2)
                peer.adj_rib_in.prune()
                left = set()
            case "disabled":
                peer.adj_rib_in.disable(VPNV4)
                left = set()
        peer.settle()
        assert peer.adj_rib_in.sources(VPNV4, A).keys() == left, last
        assert len(peer.paths()) == len(left)


def test_a_peer_that_is_forgotten_takes_the_paths_of_all_slots_with_it() -> None:
    peer = with_paths()
    peer.hear(VPNV4, block(1), told(1, A), told(2, A), told(3, A))
    peer.adj_rib_in.forget()
    assert (peer.paths(), peer.adj_rib_in.counts()) == ({}, {})


def test_new_paths_have_the_slots_of_those_that_are_leaving_and_these_go_in_shares() -> None:
    peer = Peer()
    lost = peer.up(VPNV4, add_path_receive=frozenset({VPNV4}))
    peer.hear(VPNV4, block(1), *(told(number, A) for number in range(MOST_PATHS)), told(1, B), told(2, B))
    peer.adj_rib_in.down(lost, False, 0.0)
    assert peer.adj_rib_in.counts() == {}
    assert peer.adj_rib_in.step(4) == 4
    peer.up(VPNV4, add_path_receive=frozenset({VPNV4}))
    peer.hear(VPNV4, block(1), *(told(100 + number, A) for number in range(MOST_PATHS)), told(2, B))
    assert peer.adj_rib_in.counts() == {VPNV4: MOST_PATHS + 1}
    peer.settle()
    assert set(peer.adj_rib_in.sources(VPNV4, A)) == {100 + number for number in range(MOST_PATHS)}
    assert set(peer.adj_rib_in.sources(VPNV4, B)) == {2}
    assert (list(peer.adj_rib_in.refusals()), len(peer.paths())) == ([], MOST_PATHS + 1)


def test_stale_paths_keep_their_slots_for_the_peer_that_comes_back() -> None:
    peer = Peer()
    fields = {"add_path_receive": frozenset({VPNV4}), "graceful": graceful(VPNV4)}
    lost = peer.up(VPNV4, **fields)
    peer.hear(VPNV4, block(1), told(1, A), told(2, A), told(3, A))
    peer.lose(VPNV4, told(1, A))
    peer.adj_rib_in.down(lost, True, 0.0)
    peer.up(VPNV4, ibgp=False, remote_router_id=b"\1\1\1\1", **fields)
    assert peer.adj_rib_in.sources(VPNV4, A) == {2: "p#1", 3: "p#2"}
    assert peer.rib.origin("p#2") == peer.rib.origin("p")
    assert peer.rib.origin("p#2").external
    peer.hear(VPNV4, block(1, as_path=((AS_SEQUENCE, (64513,)),)), told(3, A))
    peer.adj_rib_in.update(Update(end_of_rib=VPNV4), 0.0)
    peer.settle()
    assert peer.adj_rib_in.sources(VPNV4, A) == {3: "p#2"}


@pytest.mark.parametrize(("before", "after"), [(True, False), (False, True)])
def test_stale_paths_go_when_the_peer_comes_back_with_keys_of_the_other_kind(before: bool, after: bool) -> None:
    def fields(identified: bool) -> dict[str, Any]:
        return {"add_path_receive": frozenset({VPNV4} if identified else ()), "graceful": graceful(VPNV4)}

    peer = Peer()
    lost = peer.up(VPNV4, **fields(before))
    peer.hear(VPNV4, block(1), told(1, A) if before else A)
    peer.adj_rib_in.down(lost, True, 0.0)
    assert peer.held() == {A}
    peer.up(VPNV4, **fields(after))
    assert peer.paths() == {}
    peer.hear(VPNV4, block(1), told(1, A) if after else A)
    assert peer.held() == {A}


def test_what_a_policy_changed_is_held_as_it_came_and_what_it_leaves_alone_is_not() -> None:
    peer = Peer()
    peer.adj_rib_in.change(Terms(importing=without(B)), 0.0)
    peer.up(VPNV4)
    peer.adj_rib_in.change(
        Terms(
            importing=changing(
                lambda key, attributes: None if key == B else saying(attributes, med=5) if key == C else attributes
            )
        ),
        0.0,
    )
    attributes = block(1)
    peer.hear(VPNV4, attributes, A, B, C)
    assert peer.held() == {A, C}
    assert (peer.says(VPNV4, A), peer.says(VPNV4, C).med) == (attributes, 5)
    as_it_came = attributes.path(extra(VPNV4))
    assert peer.adj_rib_in.held[VPNV4].rows == {B: as_it_came, C: as_it_came}
    assert rejected(peer) == {B}
    assert peer.adj_rib_in.counts() == {VPNV4: 3}
    peer.lose(VPNV4, A, B)
    assert (peer.held(), rejected(peer), set(peer.adj_rib_in.held[VPNV4])) == ({C}, set(), {C})


def test_another_policy_is_applied_to_what_is_there_without_the_peer() -> None:
    peer = Peer()
    peer.up(VPNV4, IPV4)
    attributes = block(1)
    path = attributes.path(extra(VPNV4))
    peer.hear(VPNV4, attributes, A, B)
    for policy, prefers, lacking in (
        (preferring(7), 7, set()),
        (preferring(8), 8, set()),
        (without(A), 100, {A}),
        (reject, 0, {A, B}),
        (without(B), 100, {B}),
        (ACCEPT_ALL.importing, 100, set()),
        (reject, 0, {A, B}),
        (preferring(9), 9, set()),
    ):
        peer.adj_rib_in.change(Terms(importing=policy), 0.0)
        assert peer.held() == {A, B} - lacking
        assert rejected(peer) == lacking
        assert {peer.says(VPNV4, key).local_pref for key in peer.held()} <= {prefers}
        changed = {key for key in peer.held() if peer.rib.table(VPNV4, "p")[key] is not path}
        assert peer.adj_rib_in.held[VPNV4].rows == dict.fromkeys(lacking | changed, path)
        assert peer.adj_rib_in.wanted_again == set()


def test_a_policy_may_set_route_targets_and_interest_goes_by_them() -> None:
    peer = Peer()
    peer.adj_rib_in.change(
        Terms(
            importing=changing(
                lambda key, attributes: saying(attributes, route_targets=block(1).route_targets if key == A else ())
            )
        ),
        0.0,
    )
    peer.up(VPNV4)
    peer.hear(VPNV4, block(5), A)
    peer.hear(VPNV4, block(1), B)
    assert peer.held() == {A}
    assert set(peer.adj_rib_in.held[VPNV4]) == {A}
    peer.import_targets(5)
    peer.adj_rib_in.prune()
    assert (peer.held(), len(peer.adj_rib_in.held[VPNV4])) == (set(), 0)


def test_the_peer_is_asked_again_for_what_an_earlier_policy_let_go() -> None:
    for route_refresh in (True, False):
        peer = Peer()
        peer.up(VPNV4, EVPN, route_refresh=route_refresh)
        peer.hear(EVPN, block(1), TAG)
        peer.hear(VPNV4, block(5), A)
        peer.adj_rib_in.change(attrs.evolve(ACCEPT_ALL, client=True), 0.0)
        assert peer.adj_rib_in.wanted_again == set(), "the policy is the same"
        peer.adj_rib_in.change(
            Terms(importing=changing(lambda key, each: saying(each, route_targets=block(1).route_targets))), 0.0
        )
        assert peer.adj_rib_in.wanted_again == ({VPNV4} if route_refresh else set())
        assert peer.held() == (set() if route_refresh else {A}), "who cannot be asked is kept whole"


def test_rejected_routes_are_held_as_far_as_somebody_would_import_them_as_they_came() -> None:  # RFC 8212
    peer = Peer()
    peer.adj_rib_in.change(Terms(importing=reject), 0.0)
    peer.up(VPNV4, IPV4)
    peer.hear(VPNV4, block(1), A)
    peer.hear(VPNV4, block(5), B)
    peer.hear(IPV4, block(), b"\x0a\x08")
    assert rejected(peer) == {A, b"\x0a\x08"}
    assert (peer.held(), peer.held(IPV4)) == (set(), set())
    peer.import_targets(5)
    peer.adj_rib_in.prune()
    assert rejected(peer) == {b"\x0a\x08"}
    peer.adj_rib_in.down(agreed(VPNV4), False, 0.0)
    assert (rejected(peer), peer.adj_rib_in.counts()) == (set(), {})


def test_while_we_reflect_everything_is_kept() -> None:
    peer = Peer()
    peer.adj_rib_in.reflecting = True
    peer.up(VPNV4)
    peer.hear(VPNV4, block(1), A)
    peer.hear(VPNV4, block(5), B)
    peer.adj_rib_in.prune()
    assert peer.held() == {A, B}
    peer.adj_rib_in.reflecting = False
    peer.adj_rib_in.prune()
    assert peer.held() == {A}


def limited(most: int, peer: Peer | None = None, **fields: Any) -> Peer:
    peer = peer or Peer()
    peer.adj_rib_in.change(Terms(limits={VPNV4: PrefixLimit(most=most, **fields)}), 0.0)
    return peer


def test_at_its_limit_a_peer_tells_no_new_routes_and_what_is_there_may_change() -> None:
    peer = limited(10)
    peer.up(VPNV4, EVPN)
    peer.hear(VPNV4, block(1), *KEYS[:7])
    assert peer.adj_rib_in.reports == []
    peer.hear(VPNV4, block(1), KEYS[7])
    assert peer.adj_rib_in.reports == ["family=vpnv4 routes=8 limit=10 reached=80%"]
    peer.hear(VPNV4, block(1), *KEYS[8:12], now=5.0)
    peer.hear(VPNV4, block(1), *KEYS[12:14], now=6.0)
    assert peer.adj_rib_in.reports[1:] == ["family=vpnv4 routes=10 limit=10 blocked: no new routes are taken"]
    assert peer.held() == set(KEYS[:10])
    assert peer.adj_rib_in.blocked == {VPNV4: 5.0}
    assert [key for _, key, _, _ in peer.adj_rib_in.refusals()] == KEYS[10:14]
    changed = block(1, local_pref=7)
    peer.hear(VPNV4, changed, KEYS[0], KEYS[20])
    assert peer.says(VPNV4, KEYS[0]) is changed
    assert KEYS[20] not in peer.held()
    peer.hear(EVPN, block(1), TAG)
    peer.hear(VPNV4, block(5), KEYS[21])
    assert peer.held(EVPN) == {TAG}
    assert (VPNV4, KEYS[21]) not in peer.adj_rib_in.refused, "nobody wants it anyway"


def test_a_route_that_an_update_makes_unwanted_leaves_room_for_the_next_one_of_it() -> None:
    peer = Peer()
    swapped = changing(lambda key, each: saying(each, route_targets=block(2 if key == A else 1).route_targets))
    peer.up(VPNV4)
    peer.hear(VPNV4, block(1), A)
    peer.adj_rib_in.reflecting = True  # so that the policy finds it unwanted only when it comes again
    peer.adj_rib_in.change(Terms(importing=swapped, limits={VPNV4: PrefixLimit(most=1)}), 0.0)
    peer.adj_rib_in.reflecting = False
    peer.hear(VPNV4, block(1), A, B)
    assert (peer.held(), peer.adj_rib_in.blocked) == ({B}, {})


def test_a_peer_is_asked_again_when_a_tenth_of_its_limit_is_free() -> None:
    peer = limited(20)
    peer.up(VPNV4)
    peer.hear(VPNV4, block(1), *KEYS[:25])
    peer.lose(VPNV4, KEYS[0])
    assert (peer.adj_rib_in.wanted_again, set(peer.adj_rib_in.blocked)) == (set(), {VPNV4})
    peer.hear(VPNV4, block(1), KEYS[30])
    assert KEYS[30] in peer.held(), "there is room for one"
    peer.lose(VPNV4, KEYS[1], KEYS[2])
    assert (peer.adj_rib_in.wanted_again, peer.adj_rib_in.blocked) == ({VPNV4}, {})
    assert peer.adj_rib_in.reports[-1] == "family=vpnv4 routes=18 unblocked: asked for again"
    peer.hear(VPNV4, block(1), *KEYS[:25])
    assert len(peer.held()) == 20


def test_a_peer_that_cannot_be_asked_stays_blocked_for_the_session() -> None:
    peer = limited(2)
    lost = peer.up(VPNV4, route_refresh=False)
    peer.hear(VPNV4, block(1), *KEYS[:3])
    peer.lose(VPNV4, *KEYS[:3])
    assert (peer.adj_rib_in.wanted_again, set(peer.adj_rib_in.blocked)) == (set(), {VPNV4})
    peer.adj_rib_in.down(lost, False, 0.0)
    assert peer.adj_rib_in.blocked == {}


def test_room_comes_back_with_a_prune_a_higher_limit_or_none() -> None:
    for way in ("prune", "higher", "none", "warn"):
        peer = limited(2)
        peer.up(VPNV4)
        peer.hear(VPNV4, block(1), *KEYS[:3])
        match way:
            case "prune":
                peer.import_targets(2)
                peer.adj_rib_in.prune()
            case "higher":
                limited(3, peer)
            case "none":
                peer.adj_rib_in.change(ACCEPT_ALL, 0.0)
            case "warn":
                limited(2, peer, action="warn")
        peer.settle()
        assert (peer.adj_rib_in.wanted_again, peer.adj_rib_in.blocked) == ({VPNV4}, {}), way


def test_a_lower_limit_takes_nothing_away() -> None:
    peer = limited(5)
    peer.up(VPNV4)
    peer.hear(VPNV4, block(1), *KEYS[:4])
    limited(2, peer)
    assert peer.held() == set(KEYS[:4])
    peer.hear(VPNV4, block(1, local_pref=3), *KEYS[:5])
    assert peer.held() == set(KEYS[:4])


def test_a_limit_may_only_be_reported_once_near_and_once_above() -> None:
    peer = limited(10, action="warn")
    peer.up(VPNV4)
    for key in KEYS:
        peer.hear(VPNV4, block(1), key)
    assert peer.held() == set(KEYS)
    assert peer.adj_rib_in.reports == [
        "family=vpnv4 routes=8 limit=10 reached=80%",
        "family=vpnv4 routes=11 limit=10 exceeded",
    ]
    assert peer.adj_rib_in.blocked == {}
    peer.lose(VPNV4, *KEYS[7:])
    peer.hear(VPNV4, block(1), *KEYS[:8])
    assert peer.adj_rib_in.reports[2:] == ["family=vpnv4 routes=8 limit=10 reached=80%"]


def test_reports_that_nobody_fetches_do_not_pile_up() -> None:
    peer = limited(10, action="warn")
    peer.up(VPNV4)
    for _ in range(100):
        peer.hear(VPNV4, block(1), *KEYS[:9])
        peer.lose(VPNV4, *KEYS[:9])
    assert len(peer.adj_rib_in.reports) == REPORTS_KEPT


def test_a_limit_may_end_the_session_and_then_nothing_of_the_update_is_taken() -> None:
    peer = limited(3, action="restart", restart_s=60.0)
    peer.up(VPNV4)
    peer.hear(VPNV4, block(1), *KEYS[:3])
    peer.hear(VPNV4, block(1, local_pref=7), *KEYS[:3])
    path, before = block(1).path(extra(VPNV4)), peer.paths()
    for update in (
        Update(announced=[(VPNV4, {KEYS[3]: path})]),
        Update(withdrawn=[(VPNV4, [KEYS[0]])], announced=[(VPNV4, {KEYS[3]: path, KEYS[4]: path})]),
        Update(withdrawn=[(VPNV4, [KEYS[9]])], announced=[(VPNV4, {KEYS[3]: path})]),
    ):
        with pytest.raises(PrefixLimitReached) as raised:
            peer.adj_rib_in.update(update, 0.0)
        assert (raised.value.restart_s, raised.value.data) == (60.0, bytes((0, 1, 128, 0, 0, 0, 3)))
        assert peer.paths() == before
    ours = block(1, originator_id=peer.own.router_id).path(extra(VPNV4))
    for update, keys in (
        (Update(withdrawn=[(VPNV4, [KEYS[0]])], announced=[(VPNV4, {KEYS[3]: path})]), KEYS[1:4]),
        (Update(announced=[(VPNV4, {KEYS[5]: ours})]), KEYS[1:4]),
        (Update(announced=[(VPNV4, {KEYS[5]: block(9).path(extra(VPNV4))})]), KEYS[1:4]),
    ):
        peer.adj_rib_in.update(update, 0.0)
        assert peer.held() == set(keys)


def test_what_is_stale_does_not_end_the_session_of_a_peer_that_comes_back_with_other_keys() -> None:
    peer = limited(4, action="restart")
    fields: dict[str, Any] = {"add_path_receive": frozenset({VPNV4}), "graceful": graceful(VPNV4)}
    lost = peer.up(VPNV4, **fields)
    peer.hear(VPNV4, block(1), *(told(1, key) for key in KEYS[:4]))
    peer.adj_rib_in.down(lost, True, 0.0)
    peer.up(VPNV4, **fields)
    peer.hear(VPNV4, block(1), told(1, KEYS[0]), *(told(2, key) for key in KEYS[:3]))
    with pytest.raises(PrefixLimitReached):
        peer.hear(VPNV4, block(1), told(1, KEYS[1]))
    peer.adj_rib_in.update(Update(end_of_rib=VPNV4), 0.0)
    peer.settle()
    assert peer.adj_rib_in.counts() == {VPNV4: 4}


@pytest.mark.parametrize("importing", [ACCEPT_ALL.importing, preferring(3), reject])
def test_what_counts_is_what_is_kept_of_all_paths_rejected_ones_too(importing: Decide) -> None:
    peer = with_paths()
    peer.adj_rib_in.change(Terms(importing=importing, limits={VPNV4: PrefixLimit(most=3)}), 0.0)
    peer.hear(VPNV4, block(1), told(1, A), told(2, A))
    peer.hear(VPNV4, block(1), told(1, B), told(2, B), told(3, A))
    assert peer.adj_rib_in.counts() == {VPNV4: 3}
    assert {key for _, key, _, reason in peer.adj_rib_in.refusals() if reason != REJECTED} == {A, B}
    for terms in (Terms(importing=reject), Terms(importing=preferring(4)), ACCEPT_ALL):
        peer.adj_rib_in.change(attrs.evolve(terms, limits={VPNV4: PrefixLimit(most=3)}), 0.0)
        assert peer.adj_rib_in.counts() == {VPNV4: 3}, "a policy changes nothing of the count"
