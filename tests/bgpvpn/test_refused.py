"""Refused rows: when they are tried again."""

from __future__ import annotations

import pytest

from bgpvpn.dataplane.rows import Refusal
from bgpvpn.refused import FIRST_DELAY_S, LONGEST_DELAY_S, LONGEST_WAIT_S, Refused

NO = Refusal("no")
NOT_YET = Refusal("no interface", waits=True)


@pytest.mark.parametrize(("refusal", "longest_s"), [(NO, LONGEST_DELAY_S), (NOT_YET, LONGEST_WAIT_S)])
def test_each_refusal_doubles_the_delay_up_to_the_longest(refusal: Refusal, longest_s: float) -> None:
    refused, now, delays = Refused(), 100.0, []
    for _ in range(12):
        refused.add("row", refusal, now)
        due = refused.deadline()
        assert due is not None
        assert refused.take_due(due - 0.001) == []
        assert refused.take_due(due) == ["row"]
        delays.append(round(due - now, 3))
        now = due
    assert delays[:4] == [FIRST_DELAY_S, 0.2, 0.4, 0.8]
    assert delays[-1] == longest_s
    assert refused.total == 12


def test_a_row_is_taken_once_and_stays_refused_until_it_is_cleared() -> None:
    refused = Refused()
    refused.add("row", NO, 0.0)
    assert refused.take_due(1.0) == ["row"]
    assert refused.take_due(50.0) == []
    assert refused.deadline() is None
    assert "row" in refused
    assert refused.trials["row"].refusal == NO
    assert refused.clear("row")
    assert not refused.clear("row")
    assert "row" not in refused
    assert "row" not in refused


def test_success_lets_the_delay_begin_anew_and_leaves_no_trial_behind() -> None:
    refused = Refused()
    for _ in range(5):
        refused.add("row", NO, 0.0)
    refused.clear("row")
    assert refused.deadline() is None
    assert refused.take_due(99.0) == []
    refused.add("row", NO, 100.0)
    assert refused.deadline() == 100.0 + FIRST_DELAY_S


def test_only_rows_that_wait_for_others_are_woken_and_keep_their_delay() -> None:
    refused = Refused()
    for _ in range(4):
        refused.add("waiting", NOT_YET, 0.0)
        refused.add("wrong", NO, 0.0)
    refused.wake(0.05)
    assert refused.take_due(0.05) == ["waiting"]
    refused.add("waiting", NOT_YET, 1.0)
    assert refused.deadline() == 0.8
    assert refused.take_due(0.8) == ["wrong"]
    assert refused.deadline() == 1.0 + 1.6


def test_rows_are_taken_in_the_order_in_which_they_are_due() -> None:
    refused = Refused()
    refused.add("second", NO, 0.1)
    refused.add("first", NO, 0.0)
    assert refused.take_due(9.0) == ["first", "second"]
