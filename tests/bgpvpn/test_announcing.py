from __future__ import annotations

from bgpvpn.announcing import Announcing
from bgpvpn.desired import ObjectKey, Status
from bgpvpn.instance import Originated, OriginatedTable
from speaker.decision import LOCAL
from speaker.path import Path
from speaker.rib import Rib
from speaker.table import Table
from speaker.values import Family
from speaker.wire.attribute import Interner, make

VRF: ObjectKey = ("vrf", "red")
PORT: ObjectKey = ("attachment", "p1")
ACTIVE, PENDING, FAILED = Status("active"), Status("pending", "not yet"), Status("failed", "no")


class Said:
    """The stage with its tables."""

    def __init__(self) -> None:
        self.originated: OriginatedTable = Table()
        self.status: Table[ObjectKey, Status] = Table()
        self.rib = Rib()
        self.stage = Announcing(self.originated, self.status, self.rib)
        interner = Interner()
        self.paths = [make(interner, next_hop=b"\x0a\0\0\1", med=med).path(b"") for med in range(3)]

    def say(self, key: bytes, *needs: ObjectKey, path: int = 0) -> None:
        self.originated.put((Family.VPNV4, key), Originated(self.paths[path], needs))

    def told(self) -> dict[bytes, Path]:
        self.stage.step()
        assert len(self.stage) == 0
        return dict(self.rib.table(Family.VPNV4, LOCAL).rows)


def test_a_route_is_announced_while_all_that_it_needs_is_active():
    said = Said()
    said.say(b"k", VRF, PORT)
    for vrf, port, announced in [
        (None, None, False),
        (ACTIVE, PENDING, False),
        (FAILED, ACTIVE, False),
        (ACTIVE, ACTIVE, True),
        (PENDING, ACTIVE, False),
        (ACTIVE, ACTIVE, True),
        (None, ACTIVE, False),
    ]:
        for key, status in ((VRF, vrf), (PORT, port)):
            if status is None:
                said.status.discard(key)
            else:
                said.status.put(key, status)
        assert (b"k" in said.told()) == announced, (vrf, port)


def test_a_route_that_needs_nothing_is_announced_at_once_and_goes_when_it_is_not_said_any_more():
    said = Said()
    said.say(b"k")
    assert said.told() == {b"k": said.paths[0]}
    said.say(b"k", path=1)
    assert said.told() == {b"k": said.paths[1]}
    said.originated.discard((Family.VPNV4, b"k"))
    assert said.told() == {}


def test_a_route_whose_needs_change_follows_the_new_ones_only():
    said = Said()
    said.status.put(VRF, ACTIVE)
    said.say(b"k", PORT)
    assert said.told() == {}
    said.say(b"k", VRF)
    assert b"k" in said.told()
    said.status.put(PORT, ACTIVE)
    said.status.put(PORT, FAILED)
    assert b"k" in said.told()
    said.status.put(VRF, FAILED)
    assert said.told() == {}


def test_what_a_route_waits_for_is_known():
    said = Said()
    said.say(b"k", VRF, PORT)
    said.status.put(VRF, ACTIVE)
    assert said.stage.waits_for((Family.VPNV4, b"k")) == [PORT]
    assert said.stage.waits_for((Family.VPNV4, b"unknown")) == []


def test_only_routes_that_need_the_object_are_looked_at_when_its_status_changes():
    said = Said()
    for number in range(10):
        said.say(bytes([number]), ("attachment", f"p{number}"))
    said.stage.step()
    said.status.put(("attachment", "p3"), ACTIVE)
    assert said.stage.step() == 1
    assert list(said.told()) == [b"\x03"]
