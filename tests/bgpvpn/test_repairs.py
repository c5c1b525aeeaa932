from __future__ import annotations

from bgpvpn.repairs import LONGEST_DELAY_S, REMEMBERED, Repairs


def delay(repairs: Repairs, now: float) -> float:
    return round(repairs.due(now) - now, 6)


def test_different_rows_are_repaired_at_once_however_many_there_are() -> None:
    repairs = Repairs()
    for number in range(100):
        repairs.note(("link", number), now=number / 10)
    assert delay(repairs, 10.0) == 0.1
    assert repairs.total == 100


def test_a_row_that_is_changed_again_and_again_is_fought_ever_more_slowly_and_others_wait_with_it() -> None:
    repairs = Repairs()
    now, delays = 0.0, []
    for _ in range(10):
        repairs.note(("link", "br"), now)
        delays.append(delay(repairs, now))
        now = repairs.due(now)
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, LONGEST_DELAY_S, LONGEST_DELAY_S, LONGEST_DELAY_S]
    assert delay(repairs, now + 21) == 0.1


def test_many_rows_of_one_fight_count_once() -> None:
    repairs = Repairs()
    for now in (0.0, 1.0):
        for number in range(1000):
            repairs.note(((10, 4), number), now)
    assert delay(repairs, 1.0) == 0.2


def test_what_is_remembered_is_bounded_and_the_oldest_is_forgotten() -> None:
    repairs = Repairs()
    for number in range(REMEMBERED + 1):
        repairs.note(number, 0.0)
    repairs.note(0, 1.0)
    assert delay(repairs, 1.0) == 0.1
    repairs.note(REMEMBERED, 2.0)
    assert delay(repairs, 2.0) == 0.2
