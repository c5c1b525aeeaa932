"""The decision process: each step of RFC 4271 section 9.1.2.2, and that the order is total."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speaker.decision import LOCAL, Candidate, best, tiers
from speaker.path import AS_SEQUENCE, AS_SET, Attributes


def candidate(source: str = "192.0.2.1", key: bytes = b"k", external: bool = False, **attributes: Any) -> Candidate:
    attributes.setdefault("next_hop", b"\xc0\x00\x02\x01")
    return Candidate(Attributes(**attributes).path(b""), source, key, external, b"\x01\x01\x01\x01")


@pytest.mark.parametrize(
    ("step", "winner", "loser"),
    [
        ("1: LOCAL_PREF", candidate(local_pref=200), candidate(source=LOCAL, local_pref=150)),
        ("1: no LOCAL_PREF is 100", candidate(), candidate(local_pref=99)),
        ("1: 0 is a value", candidate(local_pref=1), candidate(local_pref=0)),
        ("2: our own first", candidate(source=LOCAL, origin=2), candidate(origin=0)),
        (
            "3: shortest AS_PATH, a set counts one",
            candidate(as_path=((AS_SET, (1, 2, 3)),), origin=2),
            candidate(as_path=((AS_SEQUENCE, (1, 2)),)),
        ),
        ("4: lowest ORIGIN", candidate(origin=0, med=9), candidate(origin=1, med=1)),
        (
            "4: lowest MED from one neighbour",
            candidate(as_path=((AS_SEQUENCE, (7, 1)),), med=1),
            candidate(as_path=((AS_SEQUENCE, (7, 2)),), med=2, external=True),
        ),
        ("5: eBGP first", candidate(external=True), candidate()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_step_decides(step: str, winner: Candidate, loser: Candidate) -> None:
    assert best([winner, loser]) == [winner]
    assert best([loser, winner]) == [winner]


def test_med_is_not_compared_between_neighbouring_ases() -> None:
    one = candidate(as_path=((AS_SEQUENCE, (7,)),), med=1)
    other = candidate(as_path=((AS_SEQUENCE, (8,)),), med=2, key=b"l")
    assert best([one, other]) == [one, other]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (candidate(originator_id=b"\0\0\0\1"), candidate(originator_id=b"\0\0\0\2")),
        (candidate(cluster_list=(b"\1\1\1\1",)), candidate(cluster_list=(b"\1\1\1\1", b"\2\2\2\2"))),
        (candidate(source="192.0.2.1"), candidate(source="192.0.2.2")),
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
