"""The RIB's readers over many tables, and who is interested in a route."""

from __future__ import annotations

from collections.abc import Hashable

from hypothesis import given
from hypothesis import strategies as st

from speaker.rib import NOBODY, Importer, Interest, Origin, Rib, peer_of, slot
from speaker.values import Family
from tests.speaker.routes import block, target, vpn_key


class Vpn:
    families = frozenset({Family.VPNV4})


def test_a_reader_sees_the_tables_that_come_later_too() -> None:
    rib = Rib()
    path = block(1).path(b"")
    rib.table(Family.VPNV4, "a").put(b"1", path)
    rib.table(Family.EVPN, "a").put(b"2", path)
    everyone, one = rib.reader([Family.VPNV4]), rib.reader([Family.VPNV4, Family.VPNV6], "a")
    rib.table(Family.VPNV4, "b").put(b"3", path)
    rib.table(Family.VPNV6, "a").put(b"4", path)
    assert {at: list(part.take()) for at, part in everyone.parts.items()} == {
        (Family.VPNV4, "a"): [b"1"],
        (Family.VPNV4, "b"): [b"3"],
    }
    assert {at: list(part.take()) for at, part in one.parts.items()} == {
        (Family.VPNV4, "a"): [b"1"],
        (Family.VPNV6, "a"): [b"4"],
    }
    assert (len(everyone), len(one), len(rib)) == (0, 0, 4)
    rib.close(everyone)
    rib.table(Family.VPNV4, "c").put(b"5", path)
    assert (Family.VPNV4, "c") not in everyone.parts
    assert len(rib.table(Family.VPNV4, "b").readers) == 0


def test_a_reader_of_several_sources_reads_no_other() -> None:
    rib = Rib()
    path = block(1).path(b"")
    for source in ("a", "b", "local"):
        rib.table(Family.IPV4, source).put(source.encode(), path)
    reader = rib.reader([Family.IPV4], "local", "local/s")
    rib.table(Family.IPV4, "local/s").put(b"s", path)
    rib.table(Family.IPV4, "local/t").put(b"t", path)
    assert {source: list(part.take()) for (_, source), part in reader.parts.items()} == {
        "local": [b"local"],
        "local/s": [b"s"],
    }
    assert rib.forget("local/s") is False, "not read yet that it is empty"
    rib.table(Family.IPV4, "local/s").discard(b"s")
    reader.parts[Family.IPV4, "local/s"].take()
    assert rib.forget("local/s")
    assert [source for source, _ in rib.sources(Family.IPV4)] == ["a", "b", "local", "local/t"]


def test_the_rib_knows_its_sources() -> None:
    rib = Rib()
    rib.origins["a"] = Origin(True, bytes((192, 0, 2, 1)))
    table = rib.table(Family.VPNV4, "a")
    assert rib.sources(Family.VPNV4) == [("a", table)]
    assert rib.sources(Family.EVPN) == []
    assert rib.origin("a").external
    assert rib.origin("b") is NOBODY


def test_a_slot_is_a_source_of_its_own_that_knows_its_peer() -> None:  # RFC 7911
    names = [slot("192.0.2.1", number) for number in range(3)]
    assert names == ["192.0.2.1", "192.0.2.1#1", "192.0.2.1#2"]
    assert {peer_of(name) for name in names} == {"192.0.2.1"}


def test_who_reads_a_peer_reads_its_slots_too() -> None:
    rib = Rib()
    path = block(1).path(b"")
    rib.table(Family.VPNV4, "a#1").put(b"1", path)
    reader = rib.reader([Family.VPNV4], "a")
    rib.table(Family.VPNV4, "a").put(b"2", path)
    rib.table(Family.VPNV4, "a#2").put(b"3", path)
    rib.table(Family.VPNV4, "aa#2").put(b"4", path)
    assert {source: list(part.take()) for (_, source), part in reader.parts.items()} == {
        "a": [b"2"],
        "a#1": [b"1"],
        "a#2": [b"3"],
    }


def test_interest_follows_the_targets_of_all_importers() -> None:
    interest = Interest()
    red, blue = Vpn(), Vpn()
    told = interest.targets.reader()
    both, one, none = block(1, 2), block(2), block(3)

    def found() -> list[set[Hashable]]:
        return [set(interest.of(each)) for each in (both, one, none)]

    assert found() == [set(), set(), set()]
    assert interest.set(red, frozenset({target(1), target(2)}))
    assert interest.set(blue, frozenset({target(2)}))
    assert found() == [{red, blue}, {red, blue}, set()]
    assert told.take().keys() == {target(1), target(2)}
    assert not interest.set(blue, frozenset({target(2)}))
    assert interest.set(red, frozenset({target(3)}))
    assert found() == [{blue}, {blue}, {red}]
    assert told.take().keys() == {target(1), target(3)}
    assert set(interest.targets) == {target(2), target(3)}
    assert interest.set(blue, frozenset())
    assert not interest.set(blue, frozenset())
    assert found() == [set(), set(), {red}]
    assert set(interest.targets) == {target(3)}


def test_an_importer_that_is_found_by_two_targets_is_found_once() -> None:
    interest = Interest()
    vpn = Vpn()
    interest.set(vpn, frozenset({target(1), target(2)}))
    assert interest.of(block(1, 2)) == (vpn,)


@given(st.lists(st.tuples(st.integers(0, 3), st.frozensets(st.integers(1, 4)))))
def test_interest_is_what_the_last_word_of_each_importer_says(words: list[tuple[int, frozenset[int]]]) -> None:
    interest = Interest()
    vpns: list[Importer] = [Vpn() for _ in range(4)]
    blocks = [block(*targets) for targets in [(), (1,), (2, 3), (1, 2, 3, 4)]]
    wanted: dict[Importer, frozenset[bytes]] = {}
    for number, targets in words:
        vpn = vpns[number]
        wanted[vpn] = frozenset(map(target, targets))
        interest.set(vpn, wanted[vpn])
        for each in blocks:
            assert set(interest.of(each)) == {vpn for vpn, of in wanted.items() if of & each.route_targets}
        assert set(interest.targets) == frozenset().union(*wanted.values())


def test_a_table_is_the_same_at_each_asking() -> None:
    rib = Rib()
    table = rib.table(Family.VPNV4, "a")
    table.put(vpn_key("10.0.0.0/8"), block(1).path(b""))
    assert rib.table(Family.VPNV4, "a") is table
    assert rib.table(Family.VPNV4, "b") is not table
