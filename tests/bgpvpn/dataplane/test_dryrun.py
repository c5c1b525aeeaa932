from __future__ import annotations

from bgpvpn.dataplane.dryrun import DryRun
from bgpvpn.dataplane.rows import Actual, BridgeLink, Leaf, MplsRoute

BRIDGE = BridgeLink("bgpvpn:bridge:net", b"\2\0\0\0\0\1", 1450, "bv-vrf100", gateway=True)


def test_a_dry_run_tells_its_plan_and_remembers_what_would_be_there() -> None:
    plan: list[str] = []
    dry = DryRun(plan.append)
    assert (
        dry.apply(
            [
                ("link", "bv-br1", BRIDGE, None),
                ("nexthop", 7, Leaf(4, "bv-gc0000202", label=100), None),
                ("mpls", 16, MplsRoute("bv-br1", bytes((10, 0, 0, 9))), None),
                ("mpls", 16, None, MplsRoute("bv-br1", bytes((10, 0, 0, 9)))),
                ("mpls", 17, None, None),
            ]
        )
        == {}
    )
    assert dry.write_routes((100, 4), {7: [b"\x0a\x01\x10", b"\x0a\x02\x10"]}) == {}
    assert dry.write_routes((100, 4), {None: [b"\x0a\x02\x10", b"\x0a\x03\x10"]}) == {}
    assert plan == [
        "make link bv-br1: bridge in bv-vrf100 MAC 02:00:00:00:00:01 MTU 1450 a gateway",
        "make nexthop 7: IPv4 label 100 on bv-gc0000202",
        "make label 16: to bv-br1 via 10.0.0.9",
        "remove label 16",
        "route 10.1.0.0/16 in table 100: to nexthop 7",
        "route 10.2.0.0/16 in table 100: to nexthop 7",
        "remove route 10.2.0.0/16 in table 100",
    ]
    assert dry.observe(["link", (100, 4)]) == Actual({"link": {"bv-br1": BRIDGE}}, {(100, 4): {b"\x0a\x01\x10": 7}})
    assert dry.observe(["mpls"]) == Actual({"mpls": {}}, {})
    assert dry.messages() == {"link": 1, "nexthop": 1, "mpls": 3, "routes": 4}
    assert dry.disturbed() == set()
