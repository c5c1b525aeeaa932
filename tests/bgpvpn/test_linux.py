"""What neutral objects and next hops are in Linux terms."""

from __future__ import annotations

from typing import Any

from bgpvpn.dataplane.linux import alias, dependency, device_of, leaf_of, rows_of, subject, tunnel_device
from bgpvpn.dataplane.rows import (
    UNREACHABLE_METRIC,
    Attached,
    BridgeLink,
    Leaf,
    MplsRoute,
    TunnelLink,
    VrfLink,
    VxlanLink,
)
from bgpvpn.desired import (
    Attachment,
    Bridge,
    Gateway,
    InVrf,
    Labelled,
    LabelRoute,
    NextHop,
    Object,
    OnBridge,
    Tunnel,
    Vrf,
    Vxlan,
)

HERE, PE = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
PE6 = bytes.fromhex("20010db8000000000000000000000002")
MAC = bytes((0, 0, 0x5E, 0, 1, 1))
GATEWAY, GATEWAY6 = bytes((192, 0, 2, 1)), bytes.fromhex("20010db8000100000000000000000001")
RED = Vrf("red", 10, 100)
ROUTED = Bridge("a", 1, "red", (Gateway(GATEWAY, 24), Gateway(GATEWAY6, 64)), MAC, 1450)
SWITCHED = Bridge("b", 2)
TUNNEL, TUNNEL6 = Tunnel(HERE, PE), Tunnel(PE6[:-1] + b"\1", PE6)
OBJECTS: dict[Any, Object] = {each.key: each for each in (RED, ROUTED, SWITCHED, TUNNEL, TUNNEL6)}
ENDS = [("unreachable", (10, 4), UNREACHABLE_METRIC), ("unreachable", (10, 6), UNREACHABLE_METRIC)]


def test_objects_are_these_rows() -> None:
    cases: list[tuple[Object, list[tuple[str, Any, Any]]]] = [
        (RED, [("link", "bv-vrf10", VrfLink("bgpvpn:vrf:red", 10)), *ENDS, ("mpls", 100, MplsRoute("bv-vrf10"))]),
        (Vrf("red", 10), [("link", "bv-vrf10", VrfLink("bgpvpn:vrf:red", 10)), *ENDS]),
        (
            ROUTED,
            [
                ("link", "bv-br1", BridgeLink("bgpvpn:bridge:a", MAC, 1450, "bv-vrf10", True)),
                ("address", ("bv-br1", GATEWAY), 24),
                ("address", ("bv-br1", GATEWAY6), 64),
            ],
        ),
        (Bridge("a", 1, "red"), [("link", "bv-br1", BridgeLink("bgpvpn:bridge:a", master="bv-vrf10"))]),
        (SWITCHED, [("link", "bv-br2", BridgeLink("bgpvpn:bridge:b"))]),
        (TUNNEL, [("link", "bv-g0a000002", TunnelLink("bgpvpn:tunnel:0a000002", HERE, PE))]),
        (Tunnel(HERE, bytes(4)), [("link", "bv-grx", TunnelLink("bgpvpn:tunnel:00000000", HERE, bytes(4)))]),
        (
            Vxlan(5000, "b", HERE, 4790),
            [("link", "bv-vx5000", VxlanLink("bgpvpn:vxlan:5000", 5000, HERE, 4790, "bv-br2"))],
        ),
        (Attachment("port", "tap1", "ns", "b"), [("attachment", "port", Attached("tap1", "ns", "bv-br2"))]),
        (LabelRoute(200, "a", GATEWAY), [("mpls", 200, MplsRoute("bv-br1", GATEWAY))]),
    ]
    for thing, rows in cases:
        assert rows_of(thing, OBJECTS) == rows, thing


def test_device_names_fit_the_kernel_and_differ() -> None:
    objects: list[Object] = [
        Vrf("x", 999_999_999),
        Bridge("x", 1 << 20),
        Vxlan(16777215, "x", HERE),
        Tunnel(HERE, bytes((255,)) * 4),
        TUNNEL6,
        Tunnel(PE6, bytes((255,)) * 16),
        Tunnel(HERE, bytes(4)),
        Tunnel(PE6, bytes(16)),
    ]
    names = [device_of(thing) for thing in objects]
    assert len(set(names)) == len(objects)
    for name in names:
        assert name is not None
        assert len(name) <= 15
    assert device_of(Attachment("port", "tap1", "", "b")) is None
    assert alias(ROUTED.key) == "bgpvpn:bridge:a"


def test_an_object_stands_on_one_other_at_most() -> None:
    cases: list[tuple[Object, Any]] = [
        (RED, None),
        (TUNNEL, None),
        (SWITCHED, None),
        (ROUTED, ("vrf", "red")),
        (Vxlan(1, "b", HERE), ("bridge", "b")),
        (Attachment("port", "tap1", "", "b"), ("bridge", "b")),
        (LabelRoute(200, "a", GATEWAY), ("bridge", "a")),
    ]
    for thing, needed in cases:
        assert dependency(thing) == needed, thing


def test_next_hops_are_leaves_on_the_device_that_they_lead_through() -> None:
    cases: list[tuple[NextHop, Leaf | None]] = [
        (Labelled(PE, 30), Leaf(4, "bv-g0a000002", label=30)),
        (Labelled(PE6, 31), Leaf(4, tunnel_device(PE6), label=31)),
        (Labelled(HERE, 30), None),
        (InVrf("red"), Leaf(4, "bv-vrf10")),
        (InVrf("blue"), None),
        (OnBridge("b", GATEWAY), Leaf(4, "bv-br2", gateway=GATEWAY)),
        (OnBridge("c", GATEWAY), None),
    ]
    for hop, leaf in cases:
        assert leaf_of(hop, 4, OBJECTS) == leaf, hop
    assert subject(Labelled(PE, 30)) == TUNNEL.key
