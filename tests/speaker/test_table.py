"""Table and Reader: what a reader is told, and what coalesces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from speaker.table import Table


def test_a_new_reader_finds_every_key_dirty() -> None:
    table: Table[str, int] = Table()
    table.put("a", 1)
    table.put("b", 2)
    assert table.reader().take() == {"a": None, "b": None}


def test_a_reader_is_told_of_a_key_once_with_what_it_saw_last() -> None:
    table: Table[str, int] = Table()
    table.put("a", 1)
    reader = table.reader()
    reader.take()
    table.put("a", 2)
    table.put("a", 3)
    table.discard("a")
    assert reader.take() == {"a": 1}
    assert reader.take() == {}


def test_writing_the_same_value_is_no_change() -> None:
    table: Table[str, int] = Table()
    reader = table.reader()
    assert table.put("a", 1)
    reader.take()
    assert not table.put("a", 1)
    assert not table.discard("b")
    assert len(reader) == 0


def test_take_hands_out_the_oldest_first_and_keeps_the_rest() -> None:
    table: Table[int, int] = Table()
    reader = table.reader()
    for key in range(5):
        table.put(key, key)
    assert list(reader.take(2)) == [0, 1]
    assert list(reader.take(2)) == [2, 3]
    assert list(reader.take()) == [4]


def test_a_closed_reader_costs_nothing_any_more() -> None:
    table: Table[int, int] = Table()
    reader = table.reader()
    reader.close()
    table.put(1, 1)
    assert table.readers == []
    assert len(reader) == 0


CHANGES = st.lists(st.tuples(st.integers(0, 4), st.one_of(st.none(), st.integers(0, 2)), st.booleans()))


@given(CHANGES, st.integers(1, 3))
def test_readers_that_follow_end_with_the_table_whatever_the_order_and_the_share(
    changes: list[tuple[int, int | None, bool]], readers: int
) -> None:
    table: Table[int, int] = Table()
    followers = [(table.reader(), dict[int, int]()) for _ in range(readers)]

    def follow(most: int | None) -> None:
        for reader, copy in followers:
            for key, seen in reader.take(most).items():
                assert copy.get(key) == seen
                value = table.get(key)
                if value is None:
                    copy.pop(key, None)
                else:
                    copy[key] = value

    for key, value, look in changes:
        if value is None:
            table.discard(key)
        elif look:
            table.put_all({key: value})
        else:
            table.put(key, value)
        if look:
            follow(1)
    follow(None)
    assert all(copy == table.rows for _, copy in followers)


@given(st.dictionaries(st.integers(0, 5), st.integers(0, 2)), st.dictionaries(st.integers(0, 5), st.integers(0, 2)))
def test_sync_dirties_only_what_differs(before: dict[int, int], after: dict[int, int]) -> None:
    table: Table[int, int] = Table()
    table.sync(before)
    reader = table.reader()
    reader.take()
    table.sync(after)
    assert table.rows == after
    assert set(reader.take()) == {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
