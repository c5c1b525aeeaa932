"""From desired tables to wanted rows: what stands on what, and what follows from a change."""

from __future__ import annotations

from itertools import permutations
from typing import Any

from bgpvpn.dataplane.rows import Attached, BridgeLink, MplsRoute
from bgpvpn.desired import Attachment, Bridge, Desired, Gateway, LabelRoute, Object, Vrf, Vxlan
from bgpvpn.wanted import Wanted

IP, MAC, HERE = bytes((192, 0, 2, 1)), bytes((2, 0, 0, 0, 0, 1)), bytes((10, 0, 0, 1))
CHAIN: tuple[Object, ...] = (
    Vrf("red", 10),
    Bridge("a", 1, "red", (Gateway(IP, 24),)),
    Vxlan(7, "a", HERE),
    Attachment("port", "tap1", "", "a"),
    LabelRoute(200, "a", IP),
)


def rows(wanted: Wanted) -> dict[Any, Any]:
    return {(kind, key): value for kind, found in wanted.rows.items() for key, value in found.items()}


def compiled(*objects: Object) -> dict[Any, Any]:
    desired = Desired()
    for thing in objects:
        desired.objects.put(thing.key, thing)
    wanted = Wanted(desired)
    wanted.step()
    return rows(wanted)


def test_the_rows_are_the_same_for_every_order_of_objects_and_every_moment_of_looking() -> None:
    whole = compiled(*CHAIN)
    assert len(whole) == 8
    for order in permutations(CHAIN):
        desired = Desired()
        wanted = Wanted(desired)
        for thing in order:
            desired.objects.put(thing.key, thing)
            wanted.step()
        assert rows(wanted) == whole
        for count, thing in enumerate(order, 1):
            desired.objects.discard(thing.key)
            wanted.step()
            assert rows(wanted) == compiled(*order[count:]), thing


def test_what_stands_on_an_object_comes_back_with_it() -> None:
    desired = Desired()
    wanted = Wanted(desired)
    for thing in CHAIN:
        desired.objects.put(thing.key, thing)
    desired.neighbours.put(("a", IP), MAC)
    wanted.step()
    whole = rows(wanted)
    for key in (("vrf", "red"), ("bridge", "a")):
        thing = desired.objects[key]
        for _ in range(2):
            desired.objects.discard(key)
            wanted.step()
            assert wanted.rows_of(("attachment", "port")) == ()
            assert not wanted.rows["neighbour"]
            desired.objects.put(key, thing)
            assert ("attachment", "port") in wanted.step()
            assert rows(wanted) == whole


def test_a_change_of_a_bridge_is_followed_by_all_that_stands_on_it() -> None:
    desired = Desired()
    wanted = Wanted(desired)
    for thing in CHAIN:
        desired.objects.put(thing.key, thing)
    desired.neighbours.put(("a", IP), MAC)
    wanted.step()
    desired.objects.put(("bridge", "a"), Bridge("a", 2))
    wanted.step()
    assert wanted.rows["link"]["bv-br2"] == BridgeLink("bgpvpn:bridge:a")
    assert "bv-br1" not in wanted.rows["link"]
    assert wanted.rows["address"] == {}
    assert wanted.rows["attachment"] == {"port": Attached("tap1", "", "bv-br2")}
    assert wanted.rows["mpls"][200] == MplsRoute("bv-br2", IP)
    assert wanted.rows["neighbour"] == {("bv-br2", IP): MAC}


def test_a_row_that_another_object_took_over_stays() -> None:
    for first, second in permutations((("a", None), ("b", Bridge("b", 1)))):
        desired = Desired()
        wanted = Wanted(desired)
        desired.objects.put(("bridge", "a"), Bridge("a", 1))
        desired.neighbours.put(("a", IP), MAC)
        desired.neighbours.put(("b", IP), MAC)
        wanted.step()
        for name, thing in (first, second):
            if thing is None:
                desired.objects.discard(("bridge", name))
            else:
                desired.objects.put(("bridge", name), thing)
        wanted.step()
        assert wanted.rows["link"] == {"bv-br1": BridgeLink("bgpvpn:bridge:b")}
        assert wanted.rows["neighbour"] == {("bv-br1", IP): MAC}
        assert wanted.owner[("link", "bv-br1")] == ("bridge", "b")


def test_entries_become_rows_of_their_devices_and_go_again() -> None:
    desired = Desired()
    wanted = Wanted(desired)
    desired.objects.put(("bridge", "a"), Bridge("a", 1))
    desired.macs.put((7, MAC), (HERE, 8))
    desired.floods.put((7, HERE), 8)
    desired.neighbours.put(("a", IP), MAC)
    assert len(wanted) == 4
    wanted.step()
    expected = [("fdb", ("bv-vx7", MAC), (HERE, 8)), ("flood", ("bv-vx7", HERE), 8), ("neighbour", ("bv-br1", IP), MAC)]
    for kind, key, value in expected:
        assert wanted.rows[kind] == {key: value}  # type: ignore[index]
        assert (kind, key) in wanted.dirty
    desired.macs.discard((7, MAC))
    desired.floods.discard((7, HERE))
    desired.neighbours.discard(("a", IP))
    wanted.step()
    for kind, _, _ in expected:
        assert wanted.rows[kind] == {}  # type: ignore[index]
