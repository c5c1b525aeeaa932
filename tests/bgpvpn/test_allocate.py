from __future__ import annotations

import pytest

from bgpvpn.allocate import AllocationError, Lease, Leases

POOL = {"label": range(16, 20)}


def kept(leases: Leases) -> list[tuple[str, str, int, float | None]]:
    return [(*key, lease.number, lease.released_at) for key, lease in leases.table.rows.items()]


def test_a_purpose_gets_the_same_number_every_time():
    leases = Leases(POOL)
    assert [leases.lease("label", purpose, 0.0) for purpose in ("a", "b", "a", "b")] == [16, 17, 16, 17]


def test_leases_are_the_same_after_a_restart():
    before = Leases(POOL)
    numbers = {purpose: before.lease("label", purpose, 0.0) for purpose in ("a", "b", "c")}
    before.release("label", "b", 1.0)
    after = Leases(POOL)
    after.load(kept(before))
    assert {purpose: after.lease("label", purpose, 2.0) for purpose in ("c", "b", "a")} == numbers


def test_a_released_number_rests_before_another_purpose_gets_it_even_over_a_restart():
    leases = Leases({"label": range(16, 17)}, hold_s=600.0)
    leases.lease("label", "a", 0.0)
    leases.release("label", "a", 100.0)
    again = Leases({"label": range(16, 17)}, hold_s=600.0)
    again.load(kept(leases))
    with pytest.raises(AllocationError):
        again.lease("label", "b", 699.0)
    assert again.lease("label", "b", 700.0) == 16
    assert again.table.rows == {("label", "b"): Lease(16)}


def test_the_same_purpose_gets_its_released_number_back_at_once():
    leases = Leases(POOL)
    leases.lease("label", "a", 0.0)
    leases.release("label", "a", 1.0)
    assert leases.lease("label", "a", 1.5) == 16
    assert leases.table[("label", "a")].released_at is None


def test_numbers_never_given_out_come_before_rested_ones_and_of_those_the_longest_rested():
    leases = Leases(POOL, hold_s=10.0)
    for purpose in "abc":
        leases.lease("label", purpose, 0.0)
    leases.release("label", "b", 2.0)
    leases.release("label", "a", 1.0)
    assert [leases.lease("label", purpose, 100.0) for purpose in "def"] == [19, 16, 17]


def test_a_pool_without_a_free_number_says_its_range_and_who_asked():
    leases = Leases(POOL)
    for purpose in "abcd":
        leases.lease("label", purpose, 0.0)
    with pytest.raises(AllocationError, match="no label is free in 16 to 19 for 'e'"):
        leases.lease("label", "e", 0.0)


def test_a_reserved_number_is_never_given_out():
    leases = Leases(POOL, hold_s=0.0)
    leases.reserve("label", [16, 18, 5000])
    assert [leases.lease("label", purpose, 0.0) for purpose in "ab"] == [17, 19]
    with pytest.raises(AllocationError):
        leases.lease("label", "c", 0.0)


def test_leases_of_a_range_configured_before_stay_and_use_up_nothing_of_the_new_one():
    leases = Leases({"label": range(16, 18)}, hold_s=0.0)
    leases.load([("label", f"old {number}", number, None) for number in range(100, 110)])
    leases.load([("label", "gone", 110, 0.0)])
    assert leases.lease("label", "old 100", 0.0) == 100
    assert [leases.lease("label", purpose, 0.0) for purpose in "ab"] == [16, 17]
    with pytest.raises(AllocationError):
        leases.lease("label", "c", 100.0)


def test_all_but_the_kept_leases_are_released():
    leases = Leases(POOL)
    for purpose in "abc":
        leases.lease("label", purpose, 0.0)
    leases.keep({("label", "b")}, 5.0)
    assert {key[1]: lease.released_at for key, lease in leases.table.rows.items()} == {"a": 5.0, "b": None, "c": 5.0}


def test_a_second_release_does_not_start_the_rest_anew():
    leases = Leases(POOL)
    leases.lease("label", "a", 0.0)
    leases.release("label", "a", 1.0)
    leases.release("label", "a", 50.0)
    leases.release("label", "never leased", 50.0)
    assert leases.table.rows == {("label", "a"): Lease(16, 1.0)}
