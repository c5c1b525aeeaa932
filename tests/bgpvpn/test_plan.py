"""The order of operations, and what waits for what."""

from __future__ import annotations

from random import Random
from typing import Any

from bgpvpn.dataplane.rows import (
    Attached,
    BridgeLink,
    Group,
    Leaf,
    MplsRoute,
    Operation,
    TunnelLink,
    VrfLink,
    VxlanLink,
)
from bgpvpn.plan import closing, ordered, ready

VRF = VrfLink("bgpvpn:vrf:red", 10)
BRIDGE = BridgeLink("bgpvpn:bridge:a", master="bv-vrf10")
MAC = bytes(6)
ROWS: list[tuple[Any, Any, Any]] = [
    ("link", "bv-vrf10", VRF),
    ("unreachable", (10, 4), 1),
    ("link", "bv-br1", BRIDGE),
    ("link", "bv-vx7", VxlanLink("bgpvpn:vxlan:7", 7, bytes(4), 4789, "bv-br1")),
    ("address", ("bv-br1", bytes(4)), 24),
    ("attachment", "p", Attached("tap", "", "bv-br1")),
    ("nexthop", 1, Leaf(4, "bv-vrf10")),
    ("nexthop", 2, Group((1,))),
    ("mpls", 100, MplsRoute("bv-vrf10")),
    ("fdb", ("bv-vx7", MAC), (bytes(4), 7)),
    ("flood", ("bv-vx7", bytes(4)), 7),
    ("neighbour", ("bv-br1", bytes(4)), MAC),
]
"""In the order in which they are made."""


def test_rows_are_made_after_what_they_stand_on_and_the_routes_between_groups_and_labels() -> None:
    makes: list[Operation] = [(kind, key, value, None) for kind, key, value in ROWS]
    shuffled = list(makes)
    Random(1).shuffle(shuffled)
    before, after, removals = ordered(shuffled)
    assert before == makes[:8]
    assert after == makes[8:]
    assert removals == []
    assert closing(before) == 2


def test_rows_go_before_what_they_stand_on() -> None:
    removals: list[Operation] = [(kind, key, None, value) for kind, key, value in ROWS]
    shuffled = list(removals)
    Random(2).shuffle(shuffled)
    assert ordered(shuffled) == ([], [], removals[::-1])


def test_changes_are_in_the_order_of_making() -> None:
    change: Operation = ("nexthop", 2, Group((1, 3)), Group((1,)))
    leaf: Operation = ("nexthop", 3, Leaf(4, None), None)
    assert ordered([change, leaf]) == ([leaf, change], [], [])


def test_what_others_stand_on_or_what_leads_into_an_open_vrf_waits() -> None:
    closed: dict[Any, Any] = {"link": {"bv-vrf10": VRF}, "unreachable": {(10, 4): 1, (10, 6): 1}}
    half = {"link": {"bv-vrf10": VRF}, "unreachable": {(10, 4): 1}}
    next_hops: dict[Any, Any] = {"nexthop": {1: Leaf(4, "bv-g1"), 2: Group((1,))}}
    tunnel = TunnelLink("bgpvpn:tunnel:1", bytes(4), bytes(4))
    cases: list[tuple[str, Operation, dict[Any, Any], str]] = [
        ("a bridge into a closed VRF", ("link", "bv-br1", BRIDGE, None), closed, ""),
        ("a bridge into an open VRF", ("link", "bv-br1", BRIDGE, None), half, "the unreachable default of bv-vrf10"),
        (
            "a label into an open VRF",
            ("mpls", 5, MplsRoute("bv-vrf10"), None),
            half,
            "the unreachable default of bv-vrf10",
        ),
        (
            "a leaf into an open VRF",
            ("nexthop", 1, Leaf(4, "bv-vrf10"), None),
            half,
            "the unreachable default of bv-vrf10",
        ),
        ("a leaf elsewhere", ("nexthop", 1, Leaf(4, "bv-g1"), None), half, ""),
        ("a leaf of a group", ("nexthop", 1, None, Leaf(4, "bv-g1")), next_hops, "nexthop group 2"),
        ("a leaf of none", ("nexthop", 1, None, Leaf(4, "bv-g1")), {"nexthop": {1: Leaf(4, "bv-g1")}}, ""),
        ("a group", ("nexthop", 2, None, Group((1,))), next_hops, ""),
        ("a device with a leaf", ("link", "bv-g1", None, tunnel), next_hops, "nexthop 1"),
        ("a device without", ("link", "bv-g2", None, tunnel), next_hops, ""),
        ("the end of a VRF", ("unreachable", (10, 4), None, 1), closed, "device bv-vrf10"),
        ("the end of no VRF", ("unreachable", (11, 4), None, 1), closed, ""),
    ]
    for name, operation, rows, reason in cases:
        expected = ([], {operation[:2]: reason}) if reason else ([operation], {})
        assert ready([operation], rows) == expected, name
