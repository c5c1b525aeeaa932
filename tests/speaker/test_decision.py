"""The decision process: each step of RFC 4271 section 9.1.2.2, and that the order is total."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speaker.decision import LLGR_STALE, LOCAL, Candidate, best, local, tiers
from speaker.path import AS_CONFED_SEQUENCE, AS_CONFED_SET, AS_SEQUENCE, AS_SET, Attributes


def candidate(
    source: str = "192.0.2.1", key: bytes = b"k", external: bool = False, extra: bytes = b"", **attributes: Any
) -> Candidate:
    attributes.setdefault("next_hop", b"\xc0\x00\x02\x01")
    return Candidate(Attributes(**attributes).path(extra), source, key, external, b"\x01\x01\x01\x01")


CONFEDERATION = ((AS_CONFED_SEQUENCE, (65001, 65002)), (AS_CONFED_SET, (65003, 65004)))


@pytest.mark.parametrize(
    ("step", "winner", "loser"),
    [
        ("1: what is long-lived stale comes last", candidate(local_pref=0), candidate(communities=(1, LLGR_STALE))),
        (
            "1: among such the other steps decide",
            candidate(communities=(LLGR_STALE,), local_pref=101),
            candidate(communities=(LLGR_STALE,)),
        ),
        ("2: LOCAL_PREF", candidate(local_pref=200), candidate(source=LOCAL, local_pref=150)),
        ("2: no LOCAL_PREF is 100", candidate(), candidate(local_pref=99)),
        ("2: 0 is a value", candidate(local_pref=1), candidate(local_pref=0)),
        ("3: our own first", candidate(source=LOCAL, origin=2), candidate(origin=0)),
        ("3: that only some hear too", candidate(source=local("s"), origin=2), candidate(origin=0)),
        (
            "4: shortest AS_PATH, a set counts one",
            candidate(as_path=((AS_SET, (1, 2, 3)),), origin=2),
            candidate(as_path=((AS_SEQUENCE, (1, 2)),)),
        ),
        (
            "4: a confederation counts nothing",
            candidate(as_path=(*CONFEDERATION, (AS_SEQUENCE, (1,))), origin=2),
            candidate(as_path=((AS_SEQUENCE, (1, 2)),)),
        ),
        ("5: lowest ORIGIN", candidate(origin=0, med=9), candidate(origin=1, med=1)),
        (
            "5: lowest MED from one neighbour",
            candidate(as_path=((AS_SEQUENCE, (7, 1)),), med=1),
            candidate(as_path=((AS_SEQUENCE, (7, 2)),), med=2, external=True),
        ),
        (
            "5: the neighbour is the one outside of the confederation",
            candidate(as_path=(*CONFEDERATION, (AS_SEQUENCE, (7, 1))), med=1),
            candidate(as_path=((AS_SEQUENCE, (7, 2)),), med=2, external=True),
        ),
        (
            "5: all that begins in our confederation is our own",
            candidate(as_path=CONFEDERATION, med=1),
            candidate(as_path=(), med=2, external=True),
        ),
        ("6: eBGP first", candidate(external=True), candidate()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_step_decides(step: str, winner: Candidate, loser: Candidate) -> None:
    assert best([winner, loser]) == [winner]
    assert best([loser, winner]) == [winner]


def test_med_of_what_was_aggregated_in_our_own_as_is_compared_with_that_of_its_other_routes_alone() -> None:
    aggregate = candidate(as_path=((AS_SET, (7, 9)),), med=1)
    for as_path, compared in [(((AS_SET, (8,)),), True), (((AS_SEQUENCE, (7,)),), False)]:
        other = candidate(as_path=as_path, med=2, external=True)
        assert best([other, aggregate])[0] is (aggregate if compared else other), as_path


def test_med_is_not_compared_between_neighbouring_ases() -> None:
    one = candidate(as_path=((AS_SEQUENCE, (7,)),), med=1)
    other = candidate(as_path=((AS_SEQUENCE, (8,)),), med=2, key=b"l")
    assert best([one, other]) == [one, other]
    inside = candidate(as_path=(*CONFEDERATION, (AS_SEQUENCE, (9,))), med=3, key=b"m")
    assert best([inside, other, one]) == [one, other, inside]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (candidate(originator_id=b"\0\0\0\1"), candidate(originator_id=b"\0\0\0\2")),
        (candidate(cluster_list=(b"\1\1\1\1",)), candidate(cluster_list=(b"\1\1\1\1", b"\2\2\2\2"))),
        (candidate(source="192.0.2.1"), candidate(source="192.0.2.2")),
        (candidate(source="192.0.2.1#9", next_hop=b"zzzz"), candidate(source="192.0.2.2")),
        (candidate(source="192.0.2.1#1", next_hop=b"aaaa"), candidate(source="192.0.2.1", next_hop=b"aaab")),
        (candidate(source="192.0.2.1#1", extra=b"a"), candidate(source="192.0.2.1", extra=b"b")),
        (candidate(source="192.0.2.1#1", communities=(1,)), candidate(source="192.0.2.1", communities=(1, 2))),
        (
            candidate(source="192.0.2.1#1", as_path=((AS_SEQUENCE, (7,)),)),
            candidate(source="192.0.2.1", as_path=((AS_SEQUENCE, (8,)),)),
        ),
        (candidate(key=b"a"), candidate(key=b"b")),
    ],
)
def test_equals_share_in_an_order_that_never_depends_on_arrival(first: Candidate, second: Candidate) -> None:
    assert best([first, second]) == best([second, first]) == [first, second]


def test_tiers_are_the_best_and_what_would_be_best_without_it() -> None:
    good, better, worst = candidate(local_pref=110), candidate(local_pref=120), candidate(local_pref=90)
    assert tiers([good, worst, better]) == [[better], [good]]


ATTRIBUTES = st.fixed_dictionaries(
    {
        "local_pref": st.sampled_from([None, 100, 200]),
        "origin": st.integers(0, 2),
        "med": st.sampled_from([None, 1, 2]),
        "as_path": st.sampled_from([(), ((AS_SEQUENCE, (7,)),), ((AS_SEQUENCE, (8, 9)),)]),
    }
)


@given(st.lists(st.tuples(st.sampled_from(["a", "b", LOCAL]), ATTRIBUTES, st.booleans()), min_size=1, max_size=4))
def test_every_order_of_arrival_gives_the_same_answer(drawn: list[tuple[str, dict[str, Any], bool]]) -> None:
    candidates = [
        candidate(source=source, key=bytes([n]), external=external, **attributes)
        for n, (source, attributes, external) in enumerate(drawn)
    ]
    answers = {tuple(c.key for c in best(order)) for order in itertools.permutations(candidates)}
    assert len(answers) == 1
    assert sum(len(tier) for tier in tiers(candidates, most=len(candidates))) == len(candidates)


@given(st.permutations([(n, label) for n in range(3) for label in (b"a", b"b")]))
def test_which_slot_a_path_has_makes_no_difference(order: list[tuple[int, bytes]]) -> None:  # RFC 7911
    candidates = [
        candidate(source=f"p#{number}" if number else "p", next_hop=bytes((192, 0, 2, hop)), extra=label)
        for number, (hop, label) in enumerate(order)
    ]
    found = [(c.path.attributes.next_hop[-1], c.path.extra) for c in best(candidates)]
    assert found == sorted(order)
