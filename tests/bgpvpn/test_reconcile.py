"""The reconciler over a kernel in memory: order, gate, refusals, repair, errors, and how little it writes."""

from __future__ import annotations

import errno
import gc
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from bgpvpn.dataplane.linux import rows_of
from bgpvpn.dataplane.rows import Actual, BridgeLink, Group, Leaf, Refusal, RouteTable, Scope, TunnelLink
from bgpvpn.desired import (
    Attachment,
    Bridge,
    Desired,
    Gateway,
    InVrf,
    Labelled,
    LabelRoute,
    Object,
    OnBridge,
    Status,
    Tunnel,
    Via,
    Vrf,
    Vxlan,
)
from speaker.table import Table
from tests.fakes.kernel import Driver, FakeKernel

HERE, PE1, PE2, PE3 = (bytes((10, 0, 0, number)) for number in range(4))
IP, IP6 = bytes((192, 0, 2, 1)), bytes(15) + b"\1"
MAC, OTHER_MAC = bytes((2, 0, 0, 0, 0, 1)), bytes((2, 0, 0, 0, 0, 2))
AT: RouteTable = (10, 4)
ACTIVE = Status("active")

ONE = Via(((Labelled(PE1, 30),),))
TWO = Via(((Labelled(PE2, 40),),))
BOTH = Via(((Labelled(PE1, 30), Labelled(PE2, 40)),))
SPARE = Via(((Labelled(PE1, 30),), (Labelled(PE2, 40),)))
LOCAL = Via(((InVrf("blue"),),))
LEAF1, LEAF2 = Leaf(4, "bv-g0a000001", 30), Leaf(4, "bv-g0a000002", 40)
BLACKHOLE = frozenset({Leaf(4, None)})

OBJECTS: tuple[Object, ...] = (
    LabelRoute(200, "a", IP),
    Attachment("p", "tap1", "", "a"),
    Vxlan(7, "a", HERE),
    Bridge("a", 1, "red", (Gateway(IP, 24), Gateway(IP6, 64)), MAC),
    Tunnel(HERE, PE1),
    Tunnel(HERE, PE2),
    Vrf("red", 10, 100),
    Vrf("blue", 20, 101),
)


def prefixes(count: int) -> list[bytes]:
    return [number.to_bytes(4, "big") + b"\x20" for number in range(count)]


def populated(count: int = 4, via: Via = BOTH) -> tuple[Desired, FakeKernel]:
    """Return tables with one of everything, and a kernel that has nothing of it yet."""
    desired, kernel = Desired(), FakeKernel()
    kernel.interfaces.add(("tap1", ""))
    for thing in OBJECTS:
        desired.objects.put(thing.key, thing)
    desired.macs.put((7, MAC), (PE1, 7))
    desired.floods.put((7, PE1), 7)
    desired.neighbours.put(("a", IP), OTHER_MAC)
    desired.routes_of(*AT).put_all(dict.fromkeys(prefixes(count), via))
    desired.routes_of(10, 6).put(bytes((0x20, 3)), LOCAL)
    return desired, kernel


def settled(count: int = 4, via: Via = BOTH) -> Driver:
    driver = Driver(*populated(count, via))
    driver.run(1.0)
    driver.kernel.log.clear()
    return driver


def written(driver: Driver, change: Callable[[], Any] = lambda: None, seconds: float = 2.0) -> dict[str, int]:
    """Return the messages that a change costs."""
    before = Counter(driver.kernel.messages())
    change()
    driver.run(seconds)
    return dict(Counter(driver.kernel.messages()) - before)


def statuses(driver: Driver) -> set[Status]:
    return set(driver.reconciler.status.rows.values())


# Order, and rest


@pytest.mark.parametrize("eager", [True, False], ids=["eager", "at the deadline only"])
@pytest.mark.parametrize("most", [1, 3, 2000])
def test_from_nothing_to_everything_and_back_with_no_vrf_open_at_any_moment(eager: bool, most: int) -> None:
    desired, kernel = populated()
    driver = Driver(desired, kernel, eager=eager)
    driver.run(5.0, most)
    assert driver.reconciler.in_order
    assert {kind for kind, rows in kernel.rows.items() if not rows} == set()
    expected = {(kind, key): value for thing in OBJECTS for kind, key, value in rows_of(thing, desired.objects.rows)}
    assert {(kind, key): kernel.rows[kind][key] for kind, key in expected} == expected
    assert {kernel.leads(AT, prefix) for prefix in prefixes(4)} == {frozenset({LEAF1, LEAF2})}
    assert kernel.leads((10, 6), bytes((0x20, 3))) == {Leaf(6, "bv-vrf20")}
    assert statuses(driver) == {ACTIVE}

    tables: list[Table[Any, Any]] = [desired.objects, desired.macs, desired.floods, desired.neighbours]
    for table in (*tables, *desired.routes.values()):
        table.discard_all(list(table.rows))
    driver.run(5.0, most)
    assert driver.reconciler.in_order
    assert not any(kernel.rows.values())
    assert not any(kernel.routes.values())
    assert len(driver.reconciler.status) == 0
    assert (kernel.opened, kernel.torn) == ([], [])


def test_what_is_in_order_costs_nothing_and_leaves_the_clock_to_the_audit() -> None:
    driver = settled()
    assert written(driver, seconds=300.0) == {}
    assert driver.step() == 0
    assert driver.now < driver.reconciler.deadline() < driver.now + 60.0


def test_a_vrf_is_left_alone_while_its_end_is_refused() -> None:
    desired, kernel = populated()
    kernel.refuse("unreachable", (10, 6), errno.EEXIST)
    driver = Driver(desired, kernel)
    driver.run(5.0)
    assert kernel.opened == []
    assert "bv-br1" not in kernel.rows["link"]
    assert 100 not in kernel.rows["mpls"]
    assert 101 in kernel.rows["mpls"]
    assert driver.reconciler.status[("vrf", "red")].state == "failed"
    assert driver.reconciler.status[("bridge", "a")] == Status(
        "pending", "waits for the unreachable default of bv-vrf10"
    )
    assert driver.reconciler.status[("vrf", "blue")] == ACTIVE
    kernel.relent()
    driver.run(31.0)
    assert statuses(driver) == {ACTIVE}
    assert kernel.opened == []


def test_the_end_of_a_vrf_stays_as_long_as_its_device() -> None:
    driver = settled()
    kernel = driver.kernel
    kernel.refuse("link", "bv-vrf20", errno.EBUSY, times=3)
    driver.desired.objects.discard(("vrf", "blue"))
    driver.desired.routes_of(10, 6).discard(bytes((0x20, 3)))
    driver.run(0.05)
    assert "bv-vrf20" in kernel.rows["link"]
    assert (20, 4) in kernel.rows["unreachable"]
    driver.run(2.0)
    assert "bv-vrf20" not in kernel.rows["link"]
    assert (20, 4) not in kernel.rows["unreachable"]


# The gate


def test_a_restart_with_the_same_answer_writes_nothing_before_and_after_the_gate_opens() -> None:
    driver = settled(5000)
    again = Driver(driver.desired, driver.kernel, synced=False)
    assert written(again) == {}
    assert statuses(again) == {ACTIVE}
    assert written(again, again.reconciler.open_gate) == {}
    assert statuses(again) == {ACTIVE}


def test_before_the_gate_opens_what_is_missing_is_added_and_nothing_else_happens() -> None:
    driver = settled()
    desired, kernel = driver.desired, driver.kernel
    desired.objects.put(("vrf", "red"), Vrf("red", 10, 102))  # another label
    desired.objects.put(("tunnel", PE1.hex()), Tunnel(PE3, PE1))
    desired.objects.discard(("vrf", "blue"))
    desired.macs.discard((7, MAC))
    desired.neighbours.put(("a", IP), MAC)
    new = prefixes(6)[4:]
    desired.routes_of(*AT).put_all(dict.fromkeys([*prefixes(2), *new], TWO))
    desired.routes_of(*AT).discard(prefixes(3)[2])
    before = kernel.content()

    again = Driver(desired, kernel, synced=False)
    again.run(5.0)
    assert all(have is None and want is not None for _, _, want, have in kernel.log)
    assert kernel.replaced == 0
    assert kernel.rows["mpls"].keys() == {100, 101, 102, 200}
    assert {kernel.leads(AT, prefix) for prefix in prefixes(4)} == {frozenset({LEAF1, LEAF2})}
    assert {kernel.leads(AT, prefix) for prefix in new} == {frozenset({LEAF2})}
    assert before["link"] == kernel.content()["link"]
    assert again.reconciler.status[("tunnel", PE1.hex())].state == "active"
    assert "as it was left" in again.reconciler.status[("tunnel", PE1.hex())].reason

    again.reconciler.open_gate()
    again.run(5.0)
    fresh = FakeKernel()
    fresh.interfaces = kernel.interfaces
    Driver(desired, fresh).run(5.0)
    assert kernel.content() == fresh.content()
    assert statuses(again) == {ACTIVE}


# Refusals


def test_a_refused_row_holds_up_nobody_and_is_tried_again_ever_more_seldom() -> None:
    desired, kernel = populated()
    kernel.refuse("address", ("bv-br1", IP), errno.EPERM)
    driver = Driver(desired, kernel)
    driver.run(0.0)
    assert driver.reconciler.status[("bridge", "a")].state == "failed"
    assert "Operation not permitted" in driver.reconciler.status[("bridge", "a")].reason
    assert statuses(driver) == {ACTIVE, driver.reconciler.status[("bridge", "a")]}
    assert [len(kernel.rows[kind]) for kind in ("address", "attachment", "fdb", "mpls")] == [1, 1, 1, 3]
    assert driver.reconciler.in_order
    for seconds, trials in ((0.75, 3), (2.5, 2), (300.0, 12)):
        assert written(driver, seconds=seconds) == {"address": trials}
    kernel.relent()
    driver.run(30.0)
    assert statuses(driver) == {ACTIVE}
    assert not driver.reconciler.refused.trials


def test_an_interface_that_comes_is_put_into_its_bridge_at_once() -> None:
    desired, kernel = populated()
    kernel.interfaces.clear()
    driver = Driver(desired, kernel)
    driver.run(100.0)
    assert driver.reconciler.status[("attachment", "p")] == Status("pending", "no interface tap1")
    assert written(driver, lambda: kernel.plug("tap1"), 0.0) == {"attachment": 1}
    assert driver.reconciler.status[("attachment", "p")] == ACTIVE
    kernel.unplug("tap1")
    driver.run(0.3)
    assert driver.reconciler.status[("attachment", "p")].state == "pending"


def test_a_device_that_fails_has_its_vias_use_the_next_tier_or_nothing_until_it_works() -> None:
    for refused_have in (False, True):
        desired, kernel = populated(via=SPARE)
        desired.routes_of(*AT).put(prefixes(1)[0], ONE)
        driver = Driver(desired, kernel)
        if refused_have:  # it is there, and cannot be made what it shall be
            driver.run(1.0)
            desired.objects.put(("tunnel", PE1.hex()), Tunnel(PE3, PE1))
        kernel.refuse("link", "bv-g0a000001", errno.EPERM)
        driver.run(1.0)
        assert kernel.leads(AT, prefixes(2)[1]) == {LEAF2}
        assert kernel.leads(AT, prefixes(1)[0]) == BLACKHOLE
        assert driver.reconciler.status[("tunnel", PE1.hex())].state == "failed"
        kernel.relent()
        driver.run(31.0)
        assert kernel.leads(AT, prefixes(2)[1]) == {LEAF1}
        assert kernel.leads(AT, prefixes(1)[0]) == {LEAF1}
        assert statuses(driver) == {ACTIVE}


def test_what_became_of_a_route_is_told() -> None:
    desired, kernel = populated(via=ONE)
    kernel.refuse("route", (AT, prefixes(2)[1]), errno.ENOMEM)
    driver = Driver(desired, kernel)
    told = driver.reconciler.route_status
    assert told(AT, prefixes(1)[0]).state == "pending"
    driver.run(1.0)
    assert told(AT, prefixes(1)[0]).state == "active"
    assert told(AT, prefixes(2)[1]).state == "failed"
    kernel.lose(PE1)
    driver.run(1.0)
    assert told(AT, prefixes(1)[0]) == Status("pending", "none of its next hops is reachable")


def test_an_object_that_waits_is_no_next_hop() -> None:
    desired, kernel = populated()
    via = Via(((OnBridge("a", IP),), (Labelled(PE1, 30),)))
    desired.routes_of(20, 4).put(prefixes(1)[0], via)
    driver = Driver(desired, kernel)
    driver.run(1.0)
    assert kernel.leads((20, 4), prefixes(1)[0]) == {Leaf(4, "bv-br1", gateway=IP)}
    desired.objects.discard(("vrf", "red"))  # that the bridge waits for now
    driver.run(1.0)
    assert kernel.leads((20, 4), prefixes(1)[0]) == {LEAF1}
    assert not driver.reconciler.refused.trials.keys() & {("link", "bv-br1")}


def test_what_stands_on_a_refused_device_is_made_with_it() -> None:
    desired, kernel = populated()
    kernel.refuse("link", "bv-br1", errno.EPERM)
    driver = Driver(desired, kernel)
    driver.run(100.0)
    desired.neighbours.put(("a", IP6), MAC)  # with trials at other times
    driver.run(10.0)
    kernel.relent()
    while "bv-br1" not in kernel.rows["link"]:
        driver.run(0.5)
    assert statuses(driver) == {ACTIVE}
    assert ("bv-br1", IP6) in kernel.rows["neighbour"]
    assert not driver.reconciler.refused.trials


def test_routes_wait_for_a_group_that_is_refused_and_follow_it() -> None:
    for kind in ("nexthop", "route"):
        desired, kernel = populated(100)
        kernel.refuse(kind, None, errno.ENOMEM)
        driver = Driver(desired, kernel)
        driver.run(3.0)
        assert not kernel.routes.get(AT)
        assert len(driver.reconciler.refused.trials) >= 100
        assert statuses(driver) == {ACTIVE}
        kernel.relent()
        driver.run(31.0)
        assert len(kernel.routes[AT]) == 100
        assert not driver.reconciler.refused.trials
        assert kernel.content()["unused"] == set()


def test_a_refused_row_that_is_wanted_no_more_is_forgotten() -> None:
    driver = settled()
    kernel, desired = driver.kernel, driver.desired
    new = prefixes(5)[4]
    kernel.refuse("route", (AT, new), errno.EEXIST)
    kernel.refuse("fdb", ("bv-vx7", OTHER_MAC), errno.EPERM)
    desired.routes_of(*AT).put(new, ONE)
    desired.macs.put((7, OTHER_MAC), (PE2, 7))
    driver.run(1.0)
    assert set(driver.reconciler.refused.trials) == {("route", AT, new), ("fdb", ("bv-vx7", OTHER_MAC))}
    desired.routes_of(*AT).discard(new)
    desired.macs.discard((7, OTHER_MAC))
    driver.run(1.0)
    assert not driver.reconciler.refused.trials
    assert kernel.content()["unused"] == set()


def test_a_group_whose_change_is_refused_gets_no_new_routes() -> None:
    driver = settled(4, ONE)
    kernel = driver.kernel
    (group,) = set(kernel.routes[AT].values())
    kernel.refuse("nexthop", group, errno.ENOMEM)
    table = driver.desired.routes_of(*AT)
    table.put_all(dict.fromkeys(prefixes(4), TWO))
    driver.run(60.0)
    table.put_all(dict.fromkeys(prefixes(6), TWO))
    driver.run(10.0)
    assert {kernel.leads(AT, prefix) for prefix in prefixes(4)} == {frozenset({LEAF1})}
    assert len(kernel.routes[AT]) == 4
    kernel.relent()
    while kernel.leads(AT, prefixes(1)[0]) != {LEAF2}:
        driver.run(0.5)
    assert {kernel.leads(AT, prefix) for prefix in prefixes(6)} == {frozenset({LEAF2})}


# Many routes


def messages_of(count: int, via: Via, *changes: Callable[[Driver], Any]) -> list[dict[str, int]]:
    driver = settled(count, via)
    return [written(driver, lambda change=change: change(driver)) for change in changes]  # type: ignore[misc]


def change_all(via: Via) -> Callable[[Driver], None]:
    def change(driver: Driver) -> None:
        table = driver.desired.routes_of(*AT)
        table.put_all(dict.fromkeys(list(table.rows), via))

    return change


@pytest.mark.parametrize("via", [BOTH, SPARE], ids=["two at once", "one and a spare"])
def test_the_loss_of_a_pe_costs_the_same_for_ten_and_for_ten_thousand_routes(via: Via) -> None:
    def lose(driver: Driver) -> None:
        driver.kernel.lose(PE1)

    def find(driver: Driver) -> None:
        driver.kernel.find(PE1)

    # The loss is seen, then told by withdrawals; then the PE comes back, and is told.
    stories = {
        "seen and told": (lose, change_all(TWO), find, change_all(via)),
        "told": (change_all(TWO), change_all(via)),
        "seen": (lose, find),
    }
    for name, story in stories.items():
        few, many = messages_of(10, via, *story), messages_of(10_000, via, *story)
        assert few == many, name
        assert all(messages.keys() <= {"nexthop"} and messages.get("nexthop", 0) <= 3 for messages in many), name
    assert messages_of(10, via, lose, change_all(TWO))[1] == {}


def test_nothing_that_was_lost_is_led_to_when_all_is_written() -> None:
    driver = settled(100)
    driver.kernel.lose(PE1)
    driver.run(0.0)
    assert {driver.kernel.leads(AT, prefix) for prefix in prefixes(100)} == {frozenset({LEAF2})}
    driver.kernel.lose(PE2)
    driver.run(0.0)
    assert {driver.kernel.leads(AT, prefix) for prefix in prefixes(100)} == {BLACKHOLE}
    assert set(driver.kernel.content()["leaves"]) == {Leaf(4, None), Leaf(6, "bv-vrf20")}


def test_half_of_the_routes_moving_moves_exactly_those() -> None:
    driver = settled(1000)
    half = prefixes(500)
    messages = written(driver, lambda: driver.desired.routes_of(*AT).put_all(dict.fromkeys(half, ONE)))
    assert messages == {"routes": 500, "nexthop": 1}
    assert Counter(driver.kernel.leads(AT, prefix) for prefix in prefixes(1000)) == {
        frozenset({LEAF1}): 500,
        frozenset({LEAF1, LEAF2}): 500,
    }


def test_vias_of_one_content_part_when_a_pe_is_lost() -> None:
    driver = settled(100, ONE)
    assert written(driver, lambda: driver.desired.routes_of(*AT).put_all(dict.fromkeys(prefixes(40), SPARE))) == {}
    driver.kernel.lose(PE1)
    driver.run(1.0)
    assert Counter(driver.kernel.leads(AT, prefix) for prefix in prefixes(100)) == {
        frozenset({LEAF2}): 40,
        BLACKHOLE: 60,
    }
    assert driver.kernel.content()["unused"] == set()


def test_routes_wait_until_the_node_is_settled_but_no_longer_than_half_a_second() -> None:
    driver = settled()
    table, routes = driver.desired.routes_of(*AT), driver.kernel.routes[AT]
    table.put_all(dict.fromkeys(prefixes(8), BOTH))
    driver.run(0.4, settled=False)
    assert len(routes) == 4
    driver.run(0.2, settled=False)
    assert len(routes) == 8
    table.put_all(dict.fromkeys(prefixes(9), BOTH))
    driver.run(0.4, settled=False)
    assert len(routes) == 8
    driver.run(0.0)
    assert len(routes) == 9
    table.put_all(dict.fromkeys(prefixes(10), BOTH))
    driver.step()
    driver.now += 0.6
    table.put_all(dict.fromkeys(prefixes(11), BOTH))
    driver.step(settled=False)
    assert len(routes) == 10


def test_a_step_writes_about_as_many_routes_as_it_may() -> None:
    desired, kernel = populated(1000)
    driver = Driver(desired, kernel)
    driver.step(100)
    assert len(kernel.routes[AT]) == 100
    while driver.step(100):
        pass
    assert len(kernel.routes[AT]) == 1000


# Others


def _modified(kernel: FakeKernel) -> list[tuple[Any, Any, Any]]:
    """Return (kind, key, what somebody makes of it), one of each kind and sort."""
    ids = kernel.rows["nexthop"]
    group = next(id_ for id_, row in ids.items() if isinstance(row, Group) and len(row.members) == 2)
    return [
        ("link", "bv-br1", BridgeLink("bgpvpn:bridge:a")),
        ("link", "bv-g0a000001", TunnelLink("bgpvpn:tunnel:0a000001", PE3, PE1)),
        ("unreachable", (10, 4), 5),
        ("address", ("bv-br1", IP), 25),
        ("attachment", "p", None),
        ("nexthop", group, Group(ids[group].members[:1])),
        ("nexthop", group, Leaf(4, None)),
        ("nexthop", next(id_ for id_, row in ids.items() if row == LEAF1), Leaf(4, None)),
        ("nexthop", next(id_ for id_, row in ids.items() if row == LEAF1), Group((group,))),
        ("mpls", 100, None),
        ("fdb", ("bv-vx7", MAC), (PE2, 7)),
        ("flood", ("bv-vx7", PE1), 8),
        ("neighbour", ("bv-br1", IP), MAC),
    ]


def test_what_others_change_or_remove_is_put_right_within_a_second() -> None:
    for number in range(len(_modified(settled().kernel))):
        for removed in (False, True):
            driver = settled()
            kernel = driver.kernel
            before = kernel.content()
            kind, key, value = _modified(kernel)[number]
            kernel.meddle(kind, key, None if removed else value)
            assert kernel.content() != before
            driver.run(1.0)
            assert kernel.content() == before, (kind, key, removed)
            assert driver.reconciler.repairs.total > 0
            assert statuses(driver) == {ACTIVE}


def test_routes_that_others_change_remove_or_add_are_put_right() -> None:
    driver = settled()
    kernel = driver.kernel
    before = kernel.content()
    first, new = prefixes(1)[0], prefixes(9)[8]
    leaf = next(id_ for id_, row in kernel.rows["nexthop"].items() if row == LEAF1)
    for prefix, id_ in ((first, None), (first, leaf), (first, 5), (new, leaf), (new, 5)):
        kernel.meddle_route(AT, prefix, id_)
        driver.run(1.0)
        assert kernel.content() == before, (prefix, id_)
        driver.run(10.0)  # else it is a war
    (group,) = set(kernel.routes[AT].values())
    kernel.meddle("nexthop", group, Leaf(4, None))
    for prefix in prefixes(4):
        kernel.meddle_route(AT, prefix, group)
    driver.run(1.0)
    assert kernel.content() == before
    kernel.meddle_route((99, 4), first, leaf)  # in a table that nothing is wanted of
    driver.run(1.0)
    assert kernel.content() == before


def test_devices_that_go_come_back_with_all_that_stood_on_them() -> None:
    for device in ("bv-vrf10", "bv-vrf20", "bv-br1", "bv-vx7", "bv-g0a000001"):
        driver = settled(50)
        before = driver.kernel.content()
        driver.kernel.meddle("link", device)
        driver.run(1.0)
        assert driver.kernel.content() == before, device
        assert statuses(driver) == {ACTIVE}


def test_what_goes_with_a_device_of_ours_that_goes_or_is_made_anew_is_known() -> None:
    driver = settled(50)
    desired, kernel = driver.desired, driver.kernel
    before = kernel.content()
    bridge, vxlan, tunnel = (desired.objects[key] for key in (("bridge", "a"), ("vxlan", "7"), ("tunnel", PE1.hex())))
    for thing in (vxlan, tunnel, bridge):
        desired.objects.discard(thing.key)
        driver.run(1.0)
        assert kernel.torn == []
        desired.objects.put(thing.key, thing)
        driver.run(31.0)
        assert kernel.content() == before, thing
    desired.objects.put(tunnel.key, Tunnel(PE3, PE1))
    driver.run(1.0)
    assert {kernel.leads(AT, prefix) for prefix in prefixes(50)} == {frozenset({LEAF1, LEAF2})}


def test_routes_on_objects_that_are_not_ours_to_keep_are_read_again_when_those_go() -> None:
    driver = settled()
    desired, kernel = driver.desired, driver.kernel
    leaf = next(id_ for id_, row in kernel.rows["nexthop"].items() if row == LEAF1)
    kernel.rows["nexthop"][7] = Group((leaf,))
    kernel.rows["nexthop"][8] = Leaf(4, None)
    kernel.routes[AT] = dict.fromkeys(prefixes(2), 7) | dict.fromkeys(prefixes(4)[2:], 8)
    again = Driver(desired, kernel)
    again.run(2.0, most=1)
    assert {kernel.leads(AT, prefix) for prefix in prefixes(4)} == {frozenset({LEAF1, LEAF2})}
    assert 8 not in kernel.rows["nexthop"]


def test_what_has_gone_with_a_row_is_looked_for_though_only_the_row_was_told_of() -> None:
    group = next(id_ for id_, row in settled().kernel.rows["nexthop"].items() if isinstance(row, Group))
    cases: list[tuple[Any, Any]] = [("link", "bv-g0a000001"), ("link", "bv-vrf10"), ("nexthop", group)]
    for kind, key in cases:
        driver = settled()
        before = driver.kernel.content()
        driver.kernel.meddle(kind, key, silently=True)
        driver.reconciler.disturbed({kind}, driver.now)
        driver.run(1.0)
        assert driver.kernel.content() == before, kind


def test_what_others_do_while_we_write_is_not_missed() -> None:
    driver = settled()
    kernel = driver.kernel
    before = kernel.content()
    kernel.meddle("mpls", 100)
    driver.desired.macs.put((7, OTHER_MAC), (PE2, 7))
    driver.reconciler.step(driver.now, 2000, True)  # before anybody was told of the other's change
    assert not kernel.readable
    driver.desired.macs.discard((7, OTHER_MAC))
    driver.run(1.0)
    assert kernel.content() == before


def test_vias_that_nobody_wants_any_more_are_forgotten_within_two_audits() -> None:
    driver = settled()
    via = Via(((Labelled(PE1, 77),),))
    forgotten = weakref.ref(via)
    driver.desired.routes_of(*AT).put(prefixes(1)[0], via)
    driver.run(1.0)
    driver.desired.routes_of(*AT).put(prefixes(1)[0], BOTH)
    del via
    driver.run(121.0)
    gc.collect()
    assert forgotten() is None


def test_the_audit_finds_what_no_event_told() -> None:
    cases: list[Callable[[FakeKernel], None]] = [
        *(
            (lambda kernel, number=number, removed=removed: _silently(kernel, number, removed))
            for number in range(len(_modified(settled().kernel)))
            for removed in (False, True)
        ),
        lambda kernel: kernel.meddle_route(AT, prefixes(1)[0], None, silently=True),
        lambda kernel: kernel.meddle_route(AT, prefixes(9)[8], 5, silently=True),
    ]
    for meddle in cases:
        driver = settled()
        before = driver.kernel.content()
        meddle(driver.kernel)
        assert driver.kernel.content() != before
        driver.run(61.0)
        assert driver.kernel.content() == before


def _silently(kernel: FakeKernel, number: int, removed: bool) -> None:
    kind, key, value = _modified(kernel)[number]
    kernel.meddle(kind, key, None if removed else value, silently=True)


def test_the_audit_goes_on_while_others_disturb() -> None:
    driver = settled()
    driver.kernel.meddle("mpls", 100, silently=True)
    for _ in range(700):
        driver.kernel.meddle("flood", ("bv-vx7", PE1), 7)  # a change that is none
        driver.run(0.1)
    assert 100 in driver.kernel.rows["mpls"]


def test_a_war_is_slowed_down_and_not_given_up() -> None:
    driver = settled()
    kernel = driver.kernel
    repairs = 0
    for _ in range(1000):
        if 100 in kernel.rows["mpls"]:
            repairs += 1
            kernel.meddle("mpls", 100)
        driver.run(0.1)
    assert 10 < repairs < 25
    driver.run(11.0)
    assert 100 in kernel.rows["mpls"]
    driver.run(30.0)
    kernel.meddle("mpls", 100)
    driver.run(0.2)
    assert 100 in kernel.rows["mpls"]


def test_what_is_not_ours_is_not_touched() -> None:
    desired, kernel = populated()
    taken = prefixes(1)[0]
    kernel.foreign_routes[AT] = {taken}
    kernel.foreign_links.add("bv-vx7")
    driver = Driver(desired, kernel)
    driver.run(5.0)
    assert taken not in kernel.routes[AT]
    assert len(kernel.routes[AT]) == 3
    assert driver.reconciler.status[("vxlan", "7")] == Status("failed", "bv-vx7 is somebody else's")
    assert ("route", AT, taken) in driver.reconciler.refused.trials


# A dataplane that fails


@pytest.mark.parametrize("call", ["observe", "apply", "write_routes", "reachable"])
@pytest.mark.parametrize("after", [0, 2, 5])
def test_after_an_error_everything_is_read_again_and_comes_right(call: str, after: int) -> None:
    desired, kernel = populated(20)
    driver = Driver(desired, kernel)
    kernel.fail(call, after=after if call in ("apply", "write_routes") else 0, times=3)
    driver.run(0.0)
    assert driver.reconciler.unknown_since == 0.0
    assert call in driver.reconciler.unknown_reason
    assert not driver.reconciler.in_order
    driver.run(5.0)
    assert driver.reconciler.unknown_since is None
    assert driver.reconciler.unknown_reason == ""
    fresh = FakeKernel()
    fresh.interfaces = kernel.interfaces
    Driver(desired, fresh).run(5.0)
    assert kernel.content() == fresh.content()
    assert statuses(driver) == {ACTIVE}


def test_a_dataplane_that_goes_on_failing_is_asked_ever_more_seldom() -> None:
    for call in ("observe", "apply"):
        driver = settled()
        kernel = driver.kernel
        kernel.fail(call, times=1000)
        driver.desired.objects.discard(("vxlan", "7"))
        kernel.meddle("mpls", 100)
        before = len(kernel.observations)
        driver.run(600.0)
        assert len(kernel.observations) - before < 70, call
        kernel.relent()
        driver.run(10.1)
        assert driver.reconciler.unknown_since is None
        assert 100 in kernel.rows["mpls"]
        assert "bv-vx7" not in kernel.rows["link"]
        driver.desired.objects.discard(("attachment", "p"))
        kernel.fail("apply")
        driver.run(0.1)
        assert driver.reconciler.unknown_since is None


def test_a_fault_of_our_own_is_raised_and_forgets_nothing() -> None:
    class Faulty(FakeKernel):
        faults = 1

        def write_routes(self, at: Any, changes: Any) -> dict[bytes, Refusal]:
            if self.faults:
                self.faults -= 1
                raise KeyError("a fault")
            return super().write_routes(at, changes)

    desired, whole = populated()
    kernel = Faulty()
    kernel.interfaces = whole.interfaces
    driver = Driver(desired, kernel)
    with pytest.raises(KeyError):
        driver.run(1.0)
    assert driver.reconciler.unknown_since is not None
    driver.run(1.0)
    Driver(desired, whole).run(1.0)
    assert kernel.content() == whole.content()
    assert driver.reconciler.unknown_since is None


def test_nothing_is_written_while_it_is_not_known_what_is_there() -> None:
    driver = settled()
    driver.kernel.fail("observe", times=100)
    driver.kernel.meddle("mpls", 100)
    driver.run(1.0)
    driver.desired.objects.put(("vrf", "green"), Vrf("green", 30))
    driver.desired.routes_of(*AT).put(prefixes(9)[8], ONE)
    assert written(driver, seconds=60.0) == {}
    assert driver.reconciler.unknown_since is not None


def test_an_error_in_the_middle_of_a_withdrawal_loses_none_of_it() -> None:
    driver = settled(100)
    kernel, table = driver.kernel, driver.desired.routes_of(*AT)
    kernel.fail("write_routes", after=37)
    table.discard_all(prefixes(90))
    driver.run(2.0)
    assert kernel.routes[AT].keys() == set(prefixes(100)[90:])
    assert kernel.content()["unused"] == set()


# Reading


def test_only_what_was_disturbed_is_read_and_all_of_it_once() -> None:
    driver = settled()
    kernel = driver.kernel
    before = len(kernel.observations)
    scopes: list[set[Scope]] = [{"fdb"}, {"neighbour", AT}, {"links"}, {"underlay"}]
    for each in scopes:
        driver.reconciler.disturbed(each, driver.now)
    driver.run(1.0)
    assert kernel.observations[before:] == [{"fdb", "neighbour", AT}]


def test_an_answer_may_leave_out_what_has_nothing() -> None:
    class Terse(FakeKernel):
        def observe(self, scopes: Any = ("all",)) -> Actual:
            seen = super().observe(scopes)
            return Actual({kind: rows for kind, rows in seen.rows.items() if rows or "all" not in scopes}, seen.routes)

    desired, _ = populated()
    kernel = Terse()
    driver = Driver(desired, kernel)
    driver.run(70.0)
    assert driver.reconciler.in_order
    kernel.routes.clear()
    driver.reconciler.disturbed({"all"}, driver.now)
    driver.run(1.0)
    assert len(kernel.routes[AT]) == 4


# Status


def test_a_status_says_what_an_object_waits_for_and_goes_with_it() -> None:
    desired, kernel = Desired(), FakeKernel()
    driver = Driver(desired, kernel)
    desired.objects.put(("attachment", "p"), Attachment("p", "tap1", "", "a"))
    steps: list[tuple[Callable[[], Any], Status | None]] = [
        (lambda: None, Status("pending", "waits for bridge a")),
        (lambda: desired.objects.put(("bridge", "a"), Bridge("a", 1, "red")), Status("pending", "waits for bridge a")),
        (lambda: desired.objects.put(("vrf", "red"), Vrf("red", 10)), Status("pending", "no interface tap1")),
        (lambda: kernel.plug("tap1"), ACTIVE),
        (lambda: desired.objects.discard(("vrf", "red")), Status("pending", "waits for bridge a")),
        (lambda: desired.objects.put(("vrf", "red"), Vrf("red", 10)), ACTIVE),
        (lambda: kernel.unplug("tap1"), Status("pending", "no interface tap1")),
        (lambda: desired.objects.discard(("attachment", "p")), None),
    ]
    for number, (change, status) in enumerate(steps):
        change()
        driver.run(0.5)
        assert driver.reconciler.status.get(("attachment", "p")) == status, number
