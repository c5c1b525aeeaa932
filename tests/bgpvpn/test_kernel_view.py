from __future__ import annotations

import errno

from bgpvpn.desired import Bridge, Desired, Labelled, Tunnel, Via, Vrf
from bgpvpn.kernel_view import REFUSED_SHOWN, kernel
from speaker.values import prefix_bytes
from tests.fakes.kernel import Driver, FakeKernel
from tests.fakes.middle import SELF, packed

PE = packed("192.0.2.9")


def test_objects_refused_rows_and_counters_are_told() -> None:
    desired, lower = Desired(), FakeKernel()
    driver = Driver(desired, lower)
    for thing in (Vrf("blue", 1000, 100), Bridge("seg", 1, vrf="blue"), Tunnel(SELF, PE)):
        desired.objects.put(thing.key, thing)
    lower.refuse("mpls", 100, errno.EINVAL)
    lower.foreign_routes[1000, 4] = {prefix_bytes("10.9.0.0/16")}
    via = Via(((Labelled(PE, 7),),))
    desired.routes_of(1000, 4).put(prefix_bytes("10.0.0.0/8"), via)
    driver.run()
    shown = kernel(driver.reconciler, lower.foreign(), lower.messages())
    assert [(each["object"], each["state"]) for each in shown["objects"]] == [
        ("bridge seg", "active"),
        (f"tunnel {PE.hex()}", "active"),
        ("vrf blue", "failed"),
    ]
    assert shown["refused"] == [{"row": "label 100", "reason": "mpls 100: Invalid argument", "waits": False}]
    assert shown["foreign"] == lower.foreign() != []
    assert (shown["counters"]["routes"], shown["counters"]["link"], shown["counters"]["refused"]) == (1, 3, 1)
    assert shown["messages"] == lower.messages()
    assert (shown["synced"], shown["unknown"]) == (True, "")


def test_a_kernel_that_is_not_known_says_why_until_it_is() -> None:
    desired, lower = Desired(), FakeKernel()
    lower.fail("observe", times=2)
    driver = Driver(desired, lower, synced=False)
    driver.step()
    shown = kernel(driver.reconciler, [], {})
    assert (shown["synced"], shown["unknown"]) == (False, "[Errno 105] observe: no answer")
    driver.run()
    assert kernel(driver.reconciler, [], {})["unknown"] == ""


def test_of_many_refused_rows_some_are_shown_and_all_are_counted() -> None:
    desired, lower = Desired(), FakeKernel()
    driver = Driver(desired, lower)
    vrf, via = Vrf("blue", 1000), Via(())
    desired.objects.put(vrf.key, vrf)
    for number in range(REFUSED_SHOWN + 1):
        desired.routes_of(1000, 4).put(prefix_bytes(f"10.{number >> 8}.{number & 255}.0/24"), via)
    lower.refuse("route")
    driver.run(0.05)
    shown = kernel(driver.reconciler, [], {})
    assert (len(shown["refused"]), shown["counters"]["refused"]) == (REFUSED_SHOWN, REFUSED_SHOWN + 1)
