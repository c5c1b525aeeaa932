"""VRFs, by what a whole node makes of wishes and of heard routes."""

from __future__ import annotations

import struct

import pytest

from bgpvpn.announcer import choose_distinguisher, export_groups, label_field
from bgpvpn.desired import InVrf, Labelled, OnBridge, Status
from bgpvpn.instance import NodeIdentity, Vias, weighed
from speaker.path import AS_SEQUENCE
from speaker.values import Family, RouteTarget
from speaker.wire.community import encapsulation
from tests.fakes.middle import Middle, bind, bind_port, network, packed, port, vpn, vpn_key

RED = (*network("red"), port("p1", "red", "10.1.0.5"), vpn("a", "1:1"))


def labelled(pe: str = "192.0.2.9", label: int = 900) -> Labelled:
    return Labelled(packed(pe), label)


def bound(*wishes: object) -> Middle:
    """Return a settled node with a network in one VPN, and more."""
    middle = Middle()
    middle.want(*RED, bind("a", "red"), *wishes)  # type: ignore[arg-type]
    middle.settle()
    return middle


def label_of(middle: Middle, nlri: str) -> int:
    return int.from_bytes(middle.told()[nlri].extra, "big") >> 4


def said(middle: Middle) -> dict[str, tuple[set[str], int | None]]:
    """Return our own routes with their route targets and LOCAL_PREF."""
    return {
        nlri: ({str(RouteTarget(each)) for each in path.attributes.route_targets}, path.attributes.local_pref)
        for nlri, path in middle.told().items()
    }


# Out


def test_each_address_is_announced_with_the_route_targets_of_its_vpn_and_the_label_of_its_vrf():
    middle = bound(port("p2", "red", "10.1.0.6"))
    label = middle.held()[("label", "red")]
    assert set(middle.told()) == {"10.0.0.1:1 10.1.0.5/32", "10.0.0.1:1 10.1.0.6/32"}
    for path in middle.told().values():
        assert path.extra == label_field(label)
        assert path.attributes.next_hop == packed("10.0.0.1")
        assert path.attributes.ext_communities == (RouteTarget.parse("1:1").wire, encapsulation(2))


def test_an_ipv6_address_is_a_vpnv6_route():
    middle = bound(
        *network("blue", "2001:db8::/64", "2001:db8::1"), port("p2", "blue", "2001:db8::5"), bind("a", "blue")
    )
    assert list(middle.told(Family.VPNV6)) == ["10.0.0.1:2 2001:db8::5/128"]


def test_vpns_that_agree_share_a_route_and_those_that_differ_in_local_pref_have_their_own():
    middle = bound(
        vpn("b", "1:2"), vpn("c", "1:3", local_pref=200), vpn("d", import_targets=("1:4",)),
        *(bind(each, "red") for each in "bcd"),
    )  # fmt: skip
    assert said(middle) == {
        "10.0.0.1:1 10.1.0.5/32": ({"1:1", "1:2"}, None),
        "10.0.0.1:2 10.1.0.5/32": ({"1:3"}, 200),
    }


def test_a_vpn_without_export_targets_announces_nothing():
    middle = Middle()
    middle.want(*network("red"), port("p1", "red", "10.1.0.5"), vpn("a", import_targets=("1:1",)), bind("a", "red"))
    middle.settle()
    assert middle.told() == {}


def test_vpns_with_one_route_distinguisher_and_different_local_prefs_do_not_say_one_route_for_both():
    groups = export_groups(
        [
            vpn("a", "1:1", route_distinguishers=("7:7",)),
            vpn("b", "1:2", route_distinguishers=("7:7",), local_pref=5),
            vpn("c", "1:3", local_pref=5),
        ],
        b"\x0a\0\0\1",
    )
    assert [(str(each.route_distinguisher), set(each.vpns), each.local_pref) for each in groups] == [
        ("7:7", {"a"}, None),
        ("None", {"b", "c"}, 5),
    ]


def test_nodes_choose_different_route_distinguishers_of_a_vpn_and_each_always_the_same():
    several = vpn("a", "1:1", route_distinguishers=("7:1", "7:2", "7:3"))
    chosen = {choose_distinguisher(several, bytes((10, 0, 0, n))) for n in range(1, 30)}
    assert chosen == {"7:1", "7:2", "7:3"}
    turned = vpn("a", "1:1", route_distinguishers=("7:3", "7:1", "7:2"))
    assert all(
        choose_distinguisher(several, bytes((10, 0, 0, n))) == choose_distinguisher(turned, bytes((10, 0, 0, n)))
        for n in range(1, 30)
    )


def test_a_prefix_behind_a_port_has_a_label_that_leads_straight_to_the_port():
    middle = bound(bind_port("a", "p1", "172.16.0.0/16"))
    label = label_of(middle, "10.0.0.1:1 172.16.0.0/16")
    route = middle.desired.objects[("label", str(label))]
    assert (route.bridge, route.address) == ("red", packed("10.1.0.5"))  # type: ignore[union-attr]
    assert middle.routes("red") == {"172.16.0.0/16": ((OnBridge("red", packed("10.1.0.5")),),)}
    middle.fail(("label", str(label)))
    assert set(middle.told()) == {"10.0.0.1:1 10.1.0.5/32"}, "the label route is not there yet"


def test_a_prefix_behind_several_ports_is_reached_by_the_label_of_the_vrf_and_shared_by_those_that_forward():
    middle = bound(
        port("p2", "red", "10.1.0.6"), bind_port("a", "p1", "172.16.0.0/16"), bind_port("a", "p2", "172.16.0.0/16")
    )
    nlri = "10.0.0.1:1 172.16.0.0/16"
    hops = {each: OnBridge("red", packed(f"10.1.0.{4 + int(each[1])}")) for each in ("p1", "p2")}
    assert middle.routes("red")["172.16.0.0/16"] == ((hops["p1"], hops["p2"]),)
    assert label_of(middle, nlri) == middle.held()[("label", "red")]

    middle.fail(("attachment", "p1"))
    assert middle.routes("red")["172.16.0.0/16"] == ((hops["p2"],),)
    assert label_of(middle, nlri) == middle.held()[("label", f"red p2 {packed('10.1.0.6').hex()}")]

    middle.fail(("attachment", "p2"))
    assert nlri not in middle.told()
    middle.repair(("attachment", "p1"), ("attachment", "p2"))
    assert middle.routes("red")["172.16.0.0/16"] == ((hops["p1"], hops["p2"]),)


def test_a_prefix_behind_a_port_is_announced_into_the_vpn_of_its_association_only():
    middle = bound(vpn("b", "1:2", local_pref=5), bind("b", "red"), bind_port("b", "p1", "172.16.0.0/16"))
    assert said(middle)["10.0.0.1:2 172.16.0.0/16"] == ({"1:2"}, 5)
    assert "10.0.0.1:1 172.16.0.0/16" not in middle.told()


def test_a_shared_route_has_the_route_targets_of_the_vpns_that_it_is_announced_into_and_no_others():
    middle = bound(
        vpn("b", "1:2"),
        bind_port("b", "p1", "172.16.0.0/16", advertise_fixed_ips=False),
    )
    assert said(middle) == {
        "10.0.0.1:1 10.1.0.5/32": ({"1:1"}, None),
        "10.0.0.1:1 172.16.0.0/16": ({"1:2"}, None),
    }


def test_a_prefix_needs_an_address_of_its_family_on_the_port():
    middle = bound(bind_port("a", "p1", "2001:db8:7::/48"))
    assert middle.told(Family.VPNV6) == {}


def test_an_address_is_no_prefix_behind_another_port():
    middle = bound(port("p2", "red", "10.1.0.6"), bind_port("a", "p1", "10.1.0.6/32"))
    assert label_of(middle, "10.0.0.1:1 10.1.0.6/32") == middle.held()[("label", "red")]
    assert middle.routes("red") == {}


def test_an_address_can_be_announced_as_a_prefix_where_the_others_are_not():
    middle = Middle()
    middle.want(*RED, bind_port("a", "p1", "10.1.0.5/32", advertise_fixed_ips=False))
    middle.settle()
    (segment,) = middle.node.instances.vrfs
    assert ("label", str(label_of(middle, "10.0.0.1:1 10.1.0.5/32"))) in middle.desired.objects
    assert label_of(middle, "10.0.0.1:1 10.1.0.5/32") != middle.held()[("label", segment)]


def test_an_address_that_no_gateway_covers_has_a_route_to_its_port():
    middle = Middle()
    middle.want(*network("red", gateway=None), port("p1", "red", "10.1.0.5"), vpn("a", "1:1"), bind("a", "red"))
    middle.settle()
    assert middle.routes("red") == {"10.1.0.5/32": ((OnBridge("red", packed("10.1.0.5")),),)}
    middle.drop("port", "p1")
    middle.settle()
    assert all(not len(table) for table in middle.desired.routes.values())


# In


def test_a_route_is_imported_by_route_target_and_by_nothing_else():
    middle = bound(vpn("b", import_targets=("1:2",), export_targets=("1:3",)), bind("b", "red"))
    middle.hear("10.8.0.0/16", "1:1", rd="10.0.0.1:1")
    middle.hear("10.8.1.0/24", "1:2", "9:9", rd="64512:2")
    middle.hear("10.8.2.0/24", "1:3", rd="10.0.0.1:1")
    middle.hear("10.8.3.0/24", rd="10.0.0.1:1")
    middle.settle()
    assert set(middle.routes("red")) == {"10.8.0.0/16", "10.8.1.0/24"}


def test_a_vpn_that_is_bound_after_the_routes_came_has_them():
    middle = bound()
    middle.hear("10.8.0.0/16", "1:2")
    middle.hear("10.8.1.0/24", "1:1")
    middle.settle()
    middle.want(vpn("b", "1:2"), bind("b", "red"))
    middle.settle()
    assert set(middle.routes("red")) == {"10.8.0.0/16", "10.8.1.0/24"}


def test_a_removed_import_target_takes_its_routes_away_and_no_others():
    middle = bound(vpn("b", "1:2"), bind("b", "red"))
    middle.hear("10.8.0.0/16", "1:1")
    middle.hear("10.8.1.0/24", "1:2")
    middle.hear("10.8.2.0/24", "1:1", "1:2")
    middle.settle()
    middle.want(vpn("b", "1:7"))
    middle.settle()
    assert set(middle.routes("red")) == {"10.8.0.0/16", "10.8.2.0/24"}


def test_a_route_that_goes_before_it_was_looked_at_is_gone_though_a_vpn_was_bound_meanwhile():
    middle = bound(vpn("b", "1:2"))
    middle.hear("10.8.1.0/24", "7:7")
    middle.hear("10.8.0.0/16", "1:1")
    middle.want(bind("b", "red"))
    middle.node.step(0.0, 0.0, 1)
    middle.lose("10.8.0.0/16")
    middle.settle()
    assert middle.routes("red") == {}


def test_equal_paths_share_the_traffic_and_a_worse_one_stands_behind():
    middle = bound()
    for number, (rd, preference) in enumerate([("9:1", 100), ("9:2", 100), ("9:3", 50), ("9:4", 20)]):
        middle.hear("10.8.0.0/16", "1:1", rd=rd, pe=f"192.0.2.{number}", label=100 + number, local_pref=preference)
    middle.settle()
    hops = [labelled(f"192.0.2.{number}", 100 + number) for number in range(4)]
    assert middle.routes("red") == {"10.8.0.0/16": ((hops[0], hops[1]), (hops[2],))}
    middle.lose("10.8.0.0/16", rd="9:1")
    middle.settle()
    assert middle.routes("red") == {"10.8.0.0/16": ((hops[1],), (hops[2],))}
    middle.lose("10.8.0.0/16", rd="9:2")
    middle.settle()
    assert middle.routes("red") == {"10.8.0.0/16": ((hops[2],), (hops[3],))}
    for rd in ("9:3", "9:4"):
        middle.lose("10.8.0.0/16", rd=rd)
    middle.settle()
    assert middle.routes("red") == {}


def test_equal_paths_share_by_their_link_bandwidth_when_all_tell_one_and_else_equally():
    def bandwidth(octets_per_s: float) -> bytes:
        return b"\x40\x04\xfc\x00" + struct.pack("!f", octets_per_s)

    for told, expected in [
        ((1.25e9, 1.25e8), (255, 26)),
        ((1.25e8, 1.25e8), (1, 1)),
        ((1.25e9, None), (1, 1)),
        ((1.25e9, 0.0), (1, 1)),
        ((1.25e9, float("nan")), (1, 1)),
        ((1.25e12, 1.0), (255, 1)),
    ]:
        middle = bound()
        for number, each in enumerate(told):
            more = [] if each is None else [bandwidth(each)]
            middle.hear(
                "10.8.0.0/16", "1:1", rd=f"9:{number}", pe=f"192.0.2.{number}", label=100 + number, further=more
            )
        middle.settle()
        hops = tuple(
            Labelled(packed(f"192.0.2.{number}"), 100 + number, weight) for number, weight in enumerate(expected)
        )
        assert middle.routes("red") == {"10.8.0.0/16": (hops,)}, told


def test_a_way_out_that_stands_first_does_not_stand_behind_with_another_weight():
    vias = Vias()
    one, two = labelled(label=1), labelled(label=2)
    found = vias.of([[weighed(one, 255), weighed(two, 9)], [one, two]])
    assert found is not None
    assert found.tiers == ((weighed(one, 255), weighed(two, 9)),)


def test_two_reflectors_that_tell_the_same_make_one_next_hop():
    middle = bound()
    for source in ("peer-1", "peer-2"):
        middle.hear("10.8.0.0/16", "1:1", source=source)
    middle.settle()
    assert middle.routes("red") == {"10.8.0.0/16": ((labelled(),),)}
    middle.lose("10.8.0.0/16", source="peer-1")
    middle.settle()
    assert middle.routes("red") == {"10.8.0.0/16": ((labelled(),),)}
    middle.lose("10.8.0.0/16", source="peer-2")
    middle.settle()
    assert middle.routes("red") == {}


def test_routes_that_lead_the_same_way_share_one_via():
    middle = bound()
    for number in range(8):
        for rd, pe in (("9:1", "192.0.2.1"), ("9:2", "192.0.2.2")):
            middle.hear(f"10.8.{number}.0/24", "1:1", rd=rd, pe=pe)
    middle.settle()
    (table,) = (table for table in middle.desired.routes.values() if len(table))
    assert len({id(via) for via in table.rows.values()}) == 1


def test_only_prefixes_that_lost_a_path_forget_it():
    middle = bound()
    for number in range(4):
        for rd in ("9:1", "9:2"):
            middle.hear(f"10.8.{number}.0/24", "1:1", rd=rd, pe=f"192.0.2.{rd[-1]}")
    middle.settle()
    for number in (1, 2):
        middle.lose(f"10.8.{number}.0/24", rd="9:1")
    middle.settle()
    assert [len(tiers[0]) for _, tiers in sorted(middle.routes("red").items())] == [2, 1, 1, 2]
    held = middle.node.instances.vrfs["red"].keys[Family.VPNV4]
    assert sorted(isinstance(keys, bytes) for keys in held.values() if keys[-1:] != b"\x20") == [
        False,
        False,
        True,
        True,
    ]


def test_a_changed_path_moves_the_route():
    middle = bound()
    middle.hear("10.8.0.0/16", "1:1")
    middle.settle()
    middle.hear("10.8.0.0/16", "1:1", label=901)
    middle.settle()
    assert middle.routes("red") == {"10.8.0.0/16": ((labelled(label=901),),)}
    middle.hear("10.8.0.0/16", "7:7", label=901)
    middle.settle()
    assert middle.routes("red") == {}, "it has none of our route targets any more"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"label": 3}, "label 3 is reserved"),
        ({"further": [encapsulation(8)]}, "is not MPLS over GRE"),
        ({"pe": "203.0.113.9"}, "outside the configured underlay prefixes"),
        ({"pe": "2001:db8::9"}, "no IPv6 tunnel address"),
        ({"pe": "10.0.0.1"}, "this node itself"),
    ],
)
def test_a_route_that_cannot_be_used_is_refused_with_a_reason(fields: dict[str, object], reason: str):
    middle = Middle(underlay=["192.0.2.0/24", "10.0.0.0/8"])
    middle.want(*RED, bind("a", "red"))
    middle.hear("10.8.0.0/16", "1:1", rd="9:1", local_pref=900, **fields)  # type: ignore[arg-type]
    middle.hear("10.8.0.0/16", "1:1", rd="9:2", label=800)
    middle.settle()
    assert middle.routes("red") == {"10.8.0.0/16": ((labelled(label=800),),)}
    family, key = vpn_key("9:1", "10.8.0.0/16")
    refused = middle.node.rib.table(family, "peer-1")[key]
    assert reason in middle.node.instances.vrfs["red"].refusal(refused)


@pytest.mark.parametrize("kinds", [(), (2,), (10,), (11,), (8, 2)])
def test_encapsulations_that_mean_mpls_over_gre_are_taken(kinds: tuple[int, ...]):
    middle = bound()
    middle.hear("10.8.0.0/16", "1:1", further=[encapsulation(kind) for kind in kinds])
    middle.settle()
    assert middle.routes("red") == {"10.8.0.0/16": ((labelled(),),)}


# Within the node


def test_networks_of_one_vpn_on_one_node_reach_each_other_through_their_vrfs():
    middle = bound(*network("blue", "10.2.0.0/24", "10.2.0.1"), port("p2", "blue", "10.2.0.5"), bind("a", "blue"))
    assert middle.routes("red") == {"10.2.0.5/32": ((InVrf("blue"),),)}
    assert middle.routes("blue") == {"10.1.0.5/32": ((InVrf("red"),),)}
    middle.drop("association", "a-blue")
    middle.settle()
    assert middle.routes("red") == {}


def test_vpns_of_one_node_see_only_what_their_route_targets_let_them_see():
    hub = vpn("hub", import_targets=("1:1",), export_targets=("1:2",))
    middle = bound(
        hub, *network("blue", "10.2.0.0/24", "10.2.0.1"), port("p2", "blue", "10.2.0.5"), bind("hub", "blue")
    )
    assert (middle.routes("red"), middle.routes("blue")) == ({}, {"10.1.0.5/32": ((InVrf("red"),),)})


def test_an_address_of_the_own_subnet_stays_there_whoever_else_announces_it():
    middle = bound()
    middle.hear("10.1.0.5/32", "1:1")
    middle.settle()
    assert middle.routes("red") == {}
    middle.hear("10.1.0.5/32", "1:1", local_pref=200)
    middle.settle()
    assert middle.routes("red") == {"10.1.0.5/32": ((labelled(),),)}, "LOCAL_PREF lets an operator prefer a remote site"
    middle.hear("10.1.0.5/32", "1:1", local_pref=50)
    middle.fail(("attachment", "p1"))
    assert middle.routes("red") == {"10.1.0.5/32": ((labelled(),),)}, "the port does not forward"
    middle.repair(("attachment", "p1"))
    assert middle.routes("red") == {}


def test_an_own_address_counts_even_where_its_vpn_does_not_import_what_it_exports():
    middle = Middle()
    spoke = vpn("spoke", import_targets=("1:1",), export_targets=("1:2",))
    middle.want(*network("red"), port("p1", "red", "10.1.0.5"), spoke, bind("spoke", "red"))
    middle.want(bind_port("spoke", "p1", "172.16.0.0/16"))
    middle.hear("10.1.0.5/32", "1:1")
    middle.hear("172.16.0.0/16", "1:1")
    middle.settle()
    on_port = (OnBridge("red", packed("10.1.0.5")),)
    assert middle.routes("red") == {"172.16.0.0/16": (on_port, (labelled(),))}
    middle.fail(("attachment", "p1"))
    assert middle.routes("red") == {"10.1.0.5/32": ((labelled(),),), "172.16.0.0/16": ((labelled(),),)}


def test_a_prefix_behind_the_own_port_is_preferred_and_the_remote_one_stands_behind():
    middle = bound(bind_port("a", "p1", "172.16.0.0/16"))
    middle.hear("172.16.0.0/16", "1:1", as_path=((AS_SEQUENCE, (65000,)),))
    middle.settle()
    assert middle.routes("red")["172.16.0.0/16"] == ((OnBridge("red", packed("10.1.0.5")),), (labelled(),))


def test_an_address_in_two_networks_of_a_vpn_is_in_each_its_own():
    middle = bound(*network("blue"), port("p2", "blue", "10.1.0.5"), bind("a", "blue"))
    assert (middle.routes("red"), middle.routes("blue")) == ({}, {})


def test_a_prefix_in_two_networks_of_a_vpn_leads_in_each_to_its_own_ports_and_from_others_to_both():
    middle = bound(
        *network("blue"), port("p2", "blue", "10.1.0.6"), bind("a", "blue"),
        *network("green", "10.3.0.0/24", "10.3.0.1"), port("p3", "green", "10.3.0.5"), bind("a", "green"),
        bind_port("a", "p1", "172.16.0.0/16"), bind_port("a", "p2", "172.16.0.0/16"),
    )  # fmt: skip
    assert middle.routes("red")["172.16.0.0/16"][0] == (OnBridge("red", packed("10.1.0.5")),)
    assert middle.routes("blue")["172.16.0.0/16"][0] == (OnBridge("blue", packed("10.1.0.6")),)
    assert set(middle.routes("green")["172.16.0.0/16"][0]) == {InVrf("red"), InVrf("blue")}


def test_a_node_with_ipv6_tunnels_reaches_pes_by_ipv6():
    middle = Middle(identity=NodeIdentity(packed("10.0.0.1"), packed("10.0.0.1"), packed("2001:db8::1")))
    middle.want(*RED, bind("a", "red"))
    middle.hear("10.8.0.0/16", "1:1", pe="2001:db8::9")
    middle.settle()
    assert middle.routes("red") == {"10.8.0.0/16": ((labelled("2001:db8::9"),),)}
    assert middle.status[("tunnel", packed("2001:db8::9").hex())] == Status("active")
