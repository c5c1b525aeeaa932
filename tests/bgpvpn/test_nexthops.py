"""Nexthop objects: what a group becomes of what the routes that point at it want."""

from __future__ import annotations

from bgpvpn.dataplane.rows import NEXTHOP_BASE, Afi, Group, Leaf
from bgpvpn.desired import Labelled, Via
from bgpvpn.nexthops import IDS, Nexthops

A, B, C = (Via(((Labelled(bytes(4), number),),)) for number in (1, 2, 3))
PREFIXES = [bytes((10, number, 16)) for number in range(4)]
BLACKHOLE = Leaf(4, None)


class Place:
    """A table of routes and its nexthops; `where` says where each Via leads."""

    def __init__(self, *, frozen: bool = False, found: dict[int, Leaf | Group] | None = None) -> None:
        self.where: dict[Via, tuple[str, ...]] = {A: ("one",), B: ("two",), C: ("three",)}
        self.weight: dict[str, int] = {}
        self.asked = 0
        self.nexthops = Nexthops(self._lead)
        self.nexthops.adopt(found or {})
        if not frozen:
            self.nexthops.unfreeze()
        self.routes: dict[bytes, int] = {}
        self.wanted: dict[bytes, Via] = {}

    def _lead(self, via: Via, afi: Afi) -> tuple[tuple[Leaf, int], ...]:
        self.asked += 1
        leads = tuple((Leaf(afi, device), self.weight.get(device, 1)) for device in self.where[via])
        return leads or ((Leaf(afi, None), 1),)

    def want(self, via: Via | None, *prefixes: bytes) -> None:
        before = {prefix: self.wanted.get(prefix) for prefix in prefixes}
        for prefix in prefixes:
            if via is None:
                del self.wanted[prefix]
            else:
                self.wanted[prefix] = via
        self.nexthops.note(4, before, self.routes, self.wanted)
        self.nexthops.settle()

    def write(self, *prefixes: bytes) -> int:
        """Point routes at the homes of their Vias; return how many had to be written."""
        written = 0
        for prefix in prefixes or PREFIXES:
            via, at = self.wanted.get(prefix), self.routes.get(prefix)
            if via is not None and at is not None and self.nexthops.leads(at, self.nexthops.content(via, 4)):
                continue
            if at is not None:
                self.nexthops.left(self.routes.pop(prefix), (via, 4))
                written += 1
            if via is not None:
                self.routes[prefix] = self.nexthops.home(via, 4)
                self.nexthops.pointed(self.routes[prefix], (via, 4))
                written += at is None
        self.nexthops.settle()
        return written

    def leads(self, prefix: bytes) -> tuple[Leaf | Group, ...]:
        group = self.nexthops.rows[self.routes[prefix]]
        assert isinstance(group, Group)
        return tuple(self.nexthops.rows[leaf] for leaf in group.members)

    def groups(self) -> list[int]:
        return [id_ for id_, row in self.nexthops.rows.items() if isinstance(row, Group)]


def test_routes_of_a_via_share_one_group_and_vias_of_one_content_do_not() -> None:
    place = Place()
    place.where[B] = place.where[A]
    place.want(A, *PREFIXES[:2])
    place.want(B, *PREFIXES[2:])
    assert place.write() == 4
    assert place.routes[PREFIXES[0]] == place.routes[PREFIXES[1]] != place.routes[PREFIXES[2]]
    assert sorted(map(repr, place.nexthops.rows.values())) == sorted(
        map(repr, [Leaf(4, "one"), *(place.nexthops.rows[id_] for id_ in place.groups())])
    )
    assert all(id_ in IDS for id_ in place.nexthops.rows)


def test_when_all_routes_want_something_else_the_group_changes_and_no_route_does() -> None:
    place = Place()
    place.want(A, *PREFIXES)
    place.write()
    (group,) = place.groups()
    place.want(B, *PREFIXES)
    assert place.write() == 0
    assert place.groups() == [group]
    assert place.leads(PREFIXES[0]) == (Leaf(4, "two"),)
    assert Leaf(4, "one") not in place.nexthops.rows.values()


def test_routes_that_change_move_and_the_others_stay() -> None:
    place = Place()
    place.want(A, *PREFIXES)
    place.write()
    place.want(B, *PREFIXES[:2])
    assert place.write() == 2
    assert [place.leads(prefix) for prefix in PREFIXES] == [(Leaf(4, "two"),)] * 2 + [(Leaf(4, "one"),)] * 2


def test_no_route_is_taken_along_to_where_only_another_one_wants_to_go() -> None:
    for other in (C, None):
        place = Place()
        place.want(A, *PREFIXES)
        place.write()
        (group,) = place.groups()
        place.nexthops.dirty.clear()
        place.want(B, *PREFIXES[:3])
        place.want(other, PREFIXES[3])
        assert place.leads(PREFIXES[3]) == (Leaf(4, "one"),)
        assert not place.nexthops.dirty
        assert place.write() == 4
        assert group not in place.nexthops.rows
        assert place.leads(PREFIXES[0]) == (Leaf(4, "two"),)


def test_vias_that_led_to_the_same_place_part() -> None:
    place = Place()
    place.where[B] = place.where[A]
    place.want(A, *PREFIXES)
    place.write()
    place.want(B, *PREFIXES[2:])
    assert place.write() == 0  # they share the group as long as they lead to the same place
    place.where[A] = ("four",)
    (group,) = place.groups()
    assert place.nexthops.look_again() == {(group, A, 4)}
    assert place.write() == 2
    assert [place.leads(prefix) for prefix in PREFIXES] == [(Leaf(4, "four"),)] * 2 + [(Leaf(4, "one"),)] * 2


def test_another_place_to_lead_to_is_one_change_for_all_routes() -> None:
    place = Place()
    place.want(A, *PREFIXES)
    place.write()
    for where, leaves in (
        (("one", "two"), (Leaf(4, "one"), Leaf(4, "two"))),
        (("two",), (Leaf(4, "two"),)),
        ((), (BLACKHOLE,)),
        (("one",), (Leaf(4, "one"),)),
    ):
        place.where[A] = where
        assert place.nexthops.look_again() == set()
        assert place.write() == 0
        assert set(place.leads(PREFIXES[0])) == set(leaves)
        assert len(place.nexthops.rows) == 1 + len(leaves)


def test_groups_and_leaves_without_routes_go() -> None:
    place = Place()
    place.want(A, *PREFIXES)
    place.write()
    place.want(None, *PREFIXES)
    assert len(place.nexthops.rows) == 2
    assert place.write() == 4
    assert place.nexthops.rows == {}
    place.want(A, PREFIXES[0])
    place.nexthops.home(A, 4)
    place.nexthops.settle()
    assert place.nexthops.rows == {}  # no route came to it


def test_ids_that_the_kernel_has_are_not_given_again() -> None:
    last = IDS[-1]
    found: dict[int, Leaf | Group] = {IDS[0]: Leaf(4, "x"), IDS[1]: Group((IDS[0],)), last: Leaf(4, "y")}
    place = Place(found=found)
    place.want(A, PREFIXES[0])
    place.write()
    assert sorted(place.nexthops.rows) == [IDS[2], IDS[3]]


def test_what_is_in_the_kernel_is_taken_over() -> None:
    found: dict[int, Leaf | Group] = {IDS[5]: Leaf(4, "one"), IDS[6]: Group((IDS[5],))}
    place = Place(frozen=True, found=found)
    for prefix in PREFIXES[:2]:
        place.routes[prefix] = IDS[6]
        place.nexthops.pointed(IDS[6], (None, 4))
    place.want(A, *PREFIXES)
    assert place.write() == 2
    assert set(place.routes.values()) == {IDS[6]}
    assert place.nexthops.rows == found


def test_while_frozen_a_group_keeps_what_it_has_and_new_routes_do_not_go_there() -> None:
    found: dict[int, Leaf | Group] = {IDS[5]: Leaf(4, "one"), IDS[6]: Group((IDS[5],))}
    place = Place(frozen=True, found=found)
    place.routes[PREFIXES[0]] = IDS[6]
    place.nexthops.pointed(IDS[6], (None, 4))
    place.want(B, *PREFIXES[:2])
    place.write(PREFIXES[1])
    assert place.leads(PREFIXES[0]) == (Leaf(4, "one"),)
    assert place.leads(PREFIXES[1]) == (Leaf(4, "two"),)
    place.nexthops.unfreeze()
    place.nexthops.settle()
    assert place.leads(PREFIXES[0]) == (Leaf(4, "two"),)
    assert place.write() == 0


def test_objects_that_are_no_groups_of_ours_are_left_and_their_routes_move() -> None:
    found: dict[int, Leaf | Group] = {IDS[5]: Leaf(4, "one"), 7: Group((3, 4))}
    for strange in (IDS[5], 5, 7):
        place = Place(found=dict(found))
        place.routes[PREFIXES[0]] = strange
        place.nexthops.pointed(strange, (None, 4))
        place.want(A, PREFIXES[0])
        assert place.write() == 1
        assert place.leads(PREFIXES[0]) == (Leaf(4, "one"),)
        assert 7 not in place.nexthops.rows
        assert place.nexthops.rows.get(IDS[5]) == Leaf(4, "one")


def test_a_leaf_that_somebody_changed_is_still_known_for_what_it_shall_be() -> None:
    place = Place()
    place.want(A, PREFIXES[0])
    place.write()
    leaf = next(id_ for id_, row in place.nexthops.rows.items() if isinstance(row, Leaf))
    changed: dict[int, Leaf | Group] = {**place.nexthops.rows, leaf: Leaf(4, "two")}
    place.nexthops.adopt(changed)
    place.want(B, PREFIXES[1])
    place.write()
    assert place.leads(PREFIXES[0]) == (Leaf(4, "one"),)
    assert place.leads(PREFIXES[1]) == (Leaf(4, "two"),)


def test_families_do_not_mix_in_a_group() -> None:
    place = Place()
    place.want(A, PREFIXES[0])
    place.write()
    six = place.nexthops.home(A, 6)
    place.nexthops.pointed(six, (A, 6))
    place.nexthops.settle()
    assert len(place.groups()) == 2
    place.nexthops.left(place.routes[PREFIXES[0]], (A, 4))
    place.routes[PREFIXES[0]] = six  # by somebody's hand
    place.nexthops.pointed(six, (A, 4))
    place.nexthops.settle()
    assert place.write() == 1
    assert place.leads(PREFIXES[0]) == (Leaf(4, "one"),)


def test_vias_that_nobody_wants_any_more_are_forgotten() -> None:
    place = Place()
    place.want(A, *PREFIXES[:2])
    place.want(B, *PREFIXES[2:])
    place.write()
    place.want(A, *PREFIXES[2:])
    place.write()
    place.nexthops.forget_unused()
    place.asked = 0
    place.nexthops.look_again()
    assert place.asked == 1
    place.want(B, PREFIXES[0])
    assert place.write() == 1
    assert place.leads(PREFIXES[0]) == (Leaf(4, "two"),)
    assert place.leads(PREFIXES[1]) == (Leaf(4, "one"),)


def test_what_is_still_wanted_is_not_forgotten_before_a_route_leads_there() -> None:
    place = Place()
    place.want(A, *PREFIXES)
    place.write()
    place.want(B, PREFIXES[0])
    place.nexthops.forget_unused()
    assert place.write() == 1
    assert place.leads(PREFIXES[0]) == (Leaf(4, "two"),)


def test_a_group_that_is_read_after_its_routes_is_taken_over() -> None:
    place = Place()
    place.routes[PREFIXES[0]] = IDS[6]
    place.nexthops.pointed(IDS[6], (None, 4))
    place.want(A, PREFIXES[0])
    assert place.nexthops.rows == {}
    found: dict[int, Leaf | Group] = {IDS[5]: Leaf(4, "one"), IDS[6]: Group((IDS[5],))}
    place.nexthops.adopt(found)
    place.nexthops.settle()
    assert place.nexthops.rows == found
    assert place.write() == 0


def test_new_routes_share_the_group_that_others_are_about_to_leave() -> None:
    place = Place()
    place.want(A, *PREFIXES[:3])
    place.write()
    place.want(None, PREFIXES[0])
    place.want(A, PREFIXES[3])
    place.write(PREFIXES[3])
    assert len(place.groups()) == 1


def test_a_change_of_weights_is_a_change_of_the_group_and_of_no_route() -> None:
    place = Place()
    place.where[A] = ("one", "two")
    place.want(A, *PREFIXES)
    place.write()
    (group,) = place.groups()
    members = (IDS[0], IDS[1])
    assert place.nexthops.rows[group] == Group(members)
    for weights, expected in [({"one": 255, "two": 26}, (255, 26)), ({"one": 2, "two": 2}, ()), ({"one": 3}, (3, 1))]:
        place.weight = weights
        assert place.nexthops.look_again() == set()
        assert place.nexthops.rows[group] == Group(members, expected)
        assert place.write() == 0


def test_ids_are_in_the_range_that_is_ours() -> None:
    assert IDS[0] > NEXTHOP_BASE
    assert IDS[-1] < 1 << 32
