"""Where the paths of a destination stand that one peer tells with path identifiers (RFC 7911)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from speaker.path import Path
from speaker.rib import Origin, Rib
from speaker.slots import MOST_PATHS, Slots
from speaker.values import Family
from tests.speaker.routes import block

K, L = b"k", b"l"


def told(number: int, nlri: bytes) -> bytes:
    return number.to_bytes(4, "big") + nlri


def path() -> Path:
    return block(1).path(b"")


def slots(add_path: bool = True) -> tuple[Rib, Slots]:
    rib = Rib()
    made = Slots(rib, Family.IPV4, "p")
    made.add_path = add_path
    return rib, made


def test_each_path_has_the_lowest_free_slot_and_keeps_it() -> None:
    rib, made = slots()
    one, two, three, other = (path() for _ in range(4))
    for key, each in ((told(7, K), one), (told(9, K), two), (told(8, K), three), (told(9, L), other)):
        assert made.put(key, each)
    assert made.sources(K) == {7: "p", 9: "p#1", 8: "p#2"}
    assert made.sources(L) == {9: "p"}
    assert rib.table(Family.IPV4, "p").rows == {K: one, L: other}
    assert rib.table(Family.IPV4, "p#1").rows == {K: two}
    assert (len(made), set(made.told())) == (4, {told(7, K), told(9, K), told(8, K), told(9, L)})
    assert (made.get(told(8, K)), made.get(told(8, L))) == (three, None)
    made.discard_all([told(7, K), told(1, K), told(1, b"absent")])
    assert made.put(told(9, K), one)
    assert made.put(told(1, K), two)
    assert made.sources(K) == {9: "p#1", 8: "p#2", 1: "p"}
    assert (made.get(told(9, K)), made.get(told(1, K))) == (one, two)


def test_there_are_so_many_paths_of_a_destination_and_no_more() -> None:
    _, made = slots()
    assert all(made.put(told(number, K), path()) for number in range(MOST_PATHS))
    assert not made.put(told(99, K), path())
    assert made.put(told(5, K), path())
    assert made.put(told(99, L), path())
    assert len(made) == MOST_PATHS + 1
    made.discard_all([told(5, K)])
    assert made.put(told(99, K), path())
    assert made.sources(K)[99] == "p#5"


def test_a_slot_comes_from_whom_its_peer_is() -> None:
    rib, made = slots()
    rib.origins["p"] = Origin(True, bytes((1, 2, 3, 4)))
    made.put(told(1, K), path())
    made.put(told(2, K), path())
    assert rib.origin("p#1") == rib.origin("p") == Origin(True, bytes((1, 2, 3, 4)))


def test_without_path_identifiers_a_key_is_the_nlri_key() -> None:
    rib, made = slots(add_path=False)
    one = path()
    assert made.put(K, one)
    assert (made.get(K), list(made.told()), made.sources(K), made.sources(L)) == (one, [K], {0: "p"}, {})
    assert (made.told_of(K), made.told_of(L)) == ((K,), ())
    made.discard_all([K, L])
    assert (len(made), len(rib)) == (0, 0)


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([K, L]), st.booleans()), max_size=40))
def test_whatever_comes_and_goes_each_key_has_its_own_path(changes: list[tuple[int, bytes, bool]]) -> None:
    rib, made = slots()
    wanted: dict[bytes, Path] = {}
    for number, nlri, there in changes:
        key = told(number, nlri)
        if there:
            wanted[key] = path()
            assert made.put(key, wanted[key])
        else:
            wanted.pop(key, None)
            made.discard_all([key])
        assert {each: made.get(each) for each in made.told()} == wanted
        assert len(rib) == len(made) == len(wanted)
        for each in (K, L):
            found = {told(number, each): rib.table(Family.IPV4, at)[each] for number, at in made.sources(each).items()}
            assert found == {key: path for key, path in wanted.items() if key[4:] == each}
