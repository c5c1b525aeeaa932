"""What an association announces, and how: preferences, bounds, directions; by what a whole node makes of it."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from bgpvpn.desired import Attachment, InVrf, LabelRoute, OnBridge
from bgpvpn.intent import Association, Change, Intent, Removal, Stamp
from bgpvpn.objects import IntentError
from bgpvpn.statuses import verdict
from tests.fakes.middle import RANGES, Middle, bind, bind_port, network, packed, port, vpn

NET = (*network("red"), port("p1", "red", "10.1.0.5"), port("p2", "red", "10.1.0.6"))
PREFIX = "172.16.0.0/16"
ON_P1, ON_P2 = (OnBridge("red", packed(f"10.1.0.{n}")) for n in (5, 6))


def settled(*wishes: Any) -> Middle:
    middle = Middle()
    middle.want(*NET, *wishes)
    middle.settle()
    return middle


def prefixed(vpn_id: str, of: str, local_pref: int | None = None, prefix: str = PREFIX, **more: Any) -> Association:
    """Return the association of a port, with a prefix of a LOCAL_PREF of its own."""
    route = {"type": "prefix", "prefix": prefix, "local_pref": local_pref}
    return Association(id=f"{vpn_id}-{of}", bgpvpn_id=vpn_id, port_id=of, routes=[route], **more)


def of_prefix(middle: Middle) -> list[tuple[set[str], int | None]]:
    """Return the route targets and LOCAL_PREF of each announced route to the prefix."""
    return sorted((what for nlri, what in middle.said().items() if nlri.endswith(PREFIX)), key=str)


# LOCAL_PREF


def test_each_vpn_of_a_network_has_routes_with_its_own_local_pref_and_targets():
    bound = [(vpn("a", "1:1", local_pref=150), bind("a", "red")), (vpn("b", "1:2", local_pref=50), bind("b", "red"))]
    middle = settled(*bound[0], *bound[1], vpn("c", "1:3"), bind("c", "red"))
    assert sorted(what for nlri, what in middle.said().items() if "10.1.0.5" in nlri) == sorted(
        [({"1:1"}, 150), ({"1:2"}, 50), ({"1:3"}, None)], key=lambda each: sorted(each[0])
    )  # fmt: skip
    assert len({nlri.split()[0] for nlri in middle.told()}) == 3, "a route distinguisher for each"


@pytest.mark.parametrize(
    ("of_vpn", "of_route", "within", "told"),
    [
        (None, None, None, None),
        (200, None, None, 200),
        (200, 50, None, 50),
        (200, 0, None, 0),
        (0, None, None, 0),
        (None, 300, None, 300),
        (None, None, (200, 300), 200),
    ],
)
def test_the_local_pref_of_a_route_counts_before_that_of_its_vpn_and_0_is_one(
    of_vpn: int | None, of_route: int | None, within: tuple[int, int] | None, told: int | None
):
    middle = settled(vpn("a", "1:1", local_pref=of_vpn, local_pref_range=within), prefixed("a", "p1", of_route))
    assert of_prefix(middle) == [({"1:1"}, told)]


def test_a_local_pref_out_of_the_range_is_refused_and_kept_within_a_range_that_came_later():
    middle = settled(vpn("a", "1:1", local_pref_range=(50, 200)))
    with pytest.raises(IntentError, match="takes a LOCAL_PREF from 50 to 200"):
        middle.want(prefixed("a", "p1", 201))
    middle.want(prefixed("a", "p1", 200))
    middle.settle()
    for within, told in (((50, 120), 120), ((0, 10), 10), ((300, 400), 300), (None, 200)):
        middle.want(vpn("a", "1:1", local_pref_range=within))
        middle.settle()
        assert of_prefix(middle) == [({"1:1"}, told)], within


# Which ports carry a prefix


def test_of_two_ports_the_one_with_the_higher_local_pref_carries_a_prefix_and_they_change_over_in_place():
    middle = settled(vpn("a", "1:1"), bind("a", "red"), prefixed("a", "p1", 200), prefixed("a", "p2", 100))
    assert middle.routes("red")[PREFIX] == ((ON_P1,),)
    assert of_prefix(middle) == [({"1:1"}, 200)]
    (nlri,) = [each for each in middle.told() if PREFIX in each]
    seen = middle.told()[nlri]
    middle.want(prefixed("a", "p1", 50))
    middle.settle()
    assert middle.routes("red")[PREFIX] == ((ON_P2,),)
    assert of_prefix(middle) == [({"1:1"}, 100)]
    assert middle.told()[nlri] is not seen, "the same route says otherwise, and none was withdrawn"
    middle.fail(("attachment", "p2"))
    assert (of_prefix(middle), middle.routes("red")[PREFIX]) == ([({"1:1"}, 50)], ((ON_P1,),))
    middle.repair(("attachment", "p2"))
    assert (of_prefix(middle), middle.routes("red")[PREFIX]) == ([({"1:1"}, 100)], ((ON_P2,),))


@pytest.mark.parametrize(("one", "other"), [(None, None), (100, None), (7, 7)])
def test_ports_with_equal_local_prefs_share_a_prefix(one: int | None, other: int | None):
    middle = settled(vpn("a", "1:1"), bind("a", "red"), prefixed("a", "p1", one), prefixed("a", "p2", other))
    assert middle.routes("red")[PREFIX] == ((ON_P1, ON_P2),)
    assert len(of_prefix(middle)) == 1
    (path,) = [path for nlri, path in middle.told().items() if PREFIX in nlri]
    assert int.from_bytes(path.extra, "big") >> 4 == middle.held()[("label", "red")]


def test_a_prefix_with_a_local_pref_for_each_vpn_has_a_route_for_each():
    middle = settled(vpn("a", "1:1"), vpn("b", "1:2"), bind("a", "red"), bind("b", "red"))
    middle.want(prefixed("a", "p1", 200), prefixed("b", "p1", 50))
    middle.settle()
    assert of_prefix(middle) == [({"1:1"}, 200), ({"1:2"}, 50)]
    before = {pool: number for pool, number in middle.held().items() if pool[0] == "rd"}
    assert set(before) == {("rd", "vrf red "), ("rd", "vrf red of b")}
    middle.want(prefixed("b", "p1", 200))
    middle.settle()
    assert of_prefix(middle) == [({"1:1", "1:2"}, 200)]
    assert {purpose for pool, purpose in middle.held() if pool == "rd"} == {"vrf red "}


def test_into_each_vpn_the_port_that_it_prefers_carries_a_prefix():
    middle = settled(vpn("a", "1:1"), vpn("b", "1:2"), bind("a", "red"), bind("b", "red"))
    middle.want(prefixed("a", "p1", 200), prefixed("a", "p2", 100), prefixed("b", "p1", 50), prefixed("b", "p2", 100))
    middle.settle()
    labels = {
        tuple(told[0]): int.from_bytes(path.extra, "big") >> 4
        for (nlri, path), told in zip(middle.told().items(), middle.said().values(), strict=True)
        if PREFIX in nlri
    }
    held = middle.held()
    assert of_prefix(middle) == [({"1:1"}, 200), ({"1:2"}, 100)]
    assert labels == {
        ("1:1",): held[("label", f"red p1 {packed('10.1.0.5').hex()}")],
        ("1:2",): held[("label", f"red p2 {packed('10.1.0.6').hex()}")],
    }


# Bounds


def test_prefixes_out_of_the_bounds_of_a_vpn_are_refused_at_once():
    bounded = vpn("a", "1:1", allowed_prefixes=("172.16.0.0/12", "2001:db8::/32"), max_prefixes=2)
    middle = settled(bounded)
    for prefixes, words in [
        (("172.32.0.0/16",), r"takes prefixes within 172.16.0.0/12, 2001:db8::/32 only"),
        (("172.0.0.0/8",), "takes prefixes within"),
        (("2001:db9::/48",), "takes prefixes within"),
        (("172.16.0.0/16", "172.17.0.0/16", "172.18.0.0/16"), "takes at most 2 of an association"),
    ]:
        with pytest.raises(IntentError, match=words):
            middle.want(bind_port("a", "p1", *prefixes))
    middle.want(bind_port("a", "p1", "172.16.0.0/16", "2001:db8:1::/48"))


def test_bounds_that_came_later_withdraw_what_is_beyond_and_the_status_says_so():
    prefixes = ("172.17.0.0/16", "172.16.0.0/16", "10.7.0.0/16")
    middle = settled(vpn("a", "1:1"), bind_port("a", "p1", *prefixes))
    assert verdict(middle.node, "association", "a-p1") == ("ACTIVE", "")

    def announced() -> set[str]:
        return {nlri.split()[1] for nlri in middle.told()} - {"10.1.0.5/32"}

    for bounds, left, words in [
        ({"max_prefixes": 1}, {"172.17.0.0/16"}, "172.16.0.0/16 is not announced: VPN 'a' takes at most 1 of"),
        ({"max_prefixes": 0}, set(), "172.17.0.0/16 is not announced: VPN 'a' takes at most 0 of"),
        ({"allowed_prefixes": ["172.16.0.0/12"]}, set(prefixes[:2]), "10.7.0.0/16 is not announced: VPN 'a' takes"),
        ({"allowed_prefixes": ["172.16.0.0/16", "10.0.0.0/8"], "max_prefixes": 2}, set(prefixes[1:]), "172.17.0.0/16"),
    ]:
        middle.want(vpn("a", "1:1", **bounds))
        middle.settle()
        assert announced() == left, bounds
        state, reason = verdict(middle.node, "association", "a-p1")
        assert state == "ACTIVE"
        assert reason.startswith(words)
    middle.want(vpn("a", "1:1"))
    middle.settle()
    assert announced() == set(prefixes)


def test_what_was_accepted_before_the_bounds_came_is_there_after_a_restart():
    middle = settled(vpn("a", "1:1"), prefixed("a", "p1", 200), prefixed("a", "p2", 100, "10.7.0.0/16"))
    middle.want(vpn("a", "1:1", max_prefixes=0, allowed_prefixes=("10.0.0.0/8",), local_pref_range=(0, 50)))
    stamp = Stamp(1, 0.0, 0.0)
    kept = [
        Change(kind, id_, thing, stamp)
        for kind, table in middle.intent.tables.items()
        for id_, thing in table.rows.items()
    ]
    assert Intent().load(kept) == []
    refused = [change.id for change, _ in Intent().load(kept, configured=True)]
    assert refused == ["a-p1", "a-p2"], "but a file that says so is wrong"


def test_what_one_association_may_not_announce_is_not_the_status_of_another():
    middle = settled(vpn("a", "1:1"), bind_port("a", "p1", PREFIX), bind_port("a", "p2"), bind("a", "red"))
    middle.want(vpn("a", "1:1", max_prefixes=0))
    middle.settle()
    for id_, refused in (("a-p1", True), ("a-p2", False), ("a-red", False)):
        assert (PREFIX in verdict(middle.node, "association", id_)[1]) is refused, id_


# Aggregates


@pytest.mark.parametrize(
    ("aggregate", "told"),
    [
        ("none", {"10.1.0.5/32", "10.1.0.6/32"}),
        ("subnet", {"10.1.0.0/24"}),
        ("both", {"10.1.0.0/24", "10.1.0.5/32", "10.1.0.6/32"}),
    ],
)
def test_a_vpn_takes_addresses_or_their_subnet_or_both(aggregate: str, told: set[str]):
    middle = settled(vpn("a", "1:1", aggregate=aggregate), bind("a", "red"), bind_port("a", "p1", PREFIX))
    assert {nlri.split()[1] for nlri in middle.told()} == told | {PREFIX}
    label = middle.held()[("label", "red")]
    assert {int.from_bytes(path.extra, "big") >> 4 for nlri, path in middle.told().items() if PREFIX not in nlri} == {
        label
    }


def test_a_subnet_is_announced_for_those_of_its_addresses_only_that_are():
    middle = settled(
        vpn("a", "1:1", aggregate="subnet"), bind_port("a", "p1", PREFIX, advertise_fixed_ips=False),
        port("p3", "red", admin_state_up=False), vpn("b", "1:2"), bind("b", "red"),
    )  # fmt: skip
    assert {nlri.split()[1]: what for nlri, what in middle.said().items()} == {
        "10.1.0.5/32": ({"1:2"}, None),
        "10.1.0.6/32": ({"1:2"}, None),
        PREFIX: ({"1:1"}, None),
    }
    middle.want(bind_port("a", "p1"))
    middle.settle()
    assert {nlri.split()[1] for nlri in middle.told()} == {"10.1.0.0/24", "10.1.0.5/32", "10.1.0.6/32"}
    middle.drop("port", "p1")
    middle.settle()
    assert {nlri.split()[1] for nlri in middle.told()} == {"10.1.0.6/32"}


def test_a_subnet_comes_and_goes_with_a_port_though_its_network_stays_in_the_vpn():
    middle = settled(vpn("a", "1:1", aggregate="subnet"), bind("a", "red"))
    other = network("red", "10.9.0.0/24", "10.9.0.1")[1]
    middle.want(attrs.evolve(other, id="second"), port("p3", "red", "10.9.0.5"))
    middle.settle()
    assert {nlri.split()[1] for nlri in middle.told()} == {"10.1.0.0/24", "10.9.0.0/24"}
    middle.drop("port", "p3")
    middle.settle()
    assert {nlri.split()[1] for nlri in middle.told()} == {"10.1.0.0/24"}
    middle.want(port("p3", "red", "10.9.0.6"))
    middle.settle()
    assert {nlri.split()[1] for nlri in middle.told()} == {"10.1.0.0/24", "10.9.0.0/24"}


def test_an_address_behind_one_port_leads_to_another_that_comes_to_have_it():
    middle = settled(vpn("a", "1:1"), bind("a", "red"), prefixed("a", "p1", prefix="10.1.0.9/32"))
    assert middle.routes("red") == {"10.1.0.9/32": ((ON_P1,),)}
    middle.want(port("p3", "red", "10.1.0.9"))
    middle.settle()
    assert middle.routes("red") == {}, "the subnet leads there"
    middle.drop("port", "p3")
    middle.settle()
    assert middle.routes("red") == {"10.1.0.9/32": ((ON_P1,),)}


def test_an_address_that_is_in_no_subnet_is_announced_by_itself_where_subnets_are():
    middle = Middle()
    middle.want(*network("red", host_addresses=True), port("p1", "red", "10.7.0.5"))
    middle.want(vpn("a", "1:1", aggregate="subnet"), bind("a", "red"))
    middle.settle()
    assert {nlri.split()[1] for nlri in middle.told()} == {"10.7.0.5/32"}
    assert set(middle.routes("red")) == {"10.7.0.5/32"}


# Directions


def test_a_port_that_is_only_announced_imports_nothing_and_stays_in_its_segment():
    middle = settled(vpn("a", "1:1"), vpn("x", "1:9"), bind("a", "red"), prefixed("x", "p1", direction="to-port"))
    middle.hear("10.8.0.0/16", "1:9")
    middle.settle()
    assert set(middle.node.instances.vrfs) == {"red"}
    assert middle.routes("red") == {}, "neither what others say there, nor what this port says to them"
    assert {nlri.split()[1]: what for nlri, what in middle.said().items()} == {
        "10.1.0.5/32": ({"1:1", "1:9"}, None),
        "10.1.0.6/32": ({"1:1"}, None),
        PREFIX: ({"1:9"}, None),
    }


def test_a_prefix_of_a_port_that_is_only_announced_has_a_label_past_the_vrf_and_leads_other_vrfs_there():
    other = (*network("blue", "10.2.0.0/24", "10.2.0.1"), port("q1", "blue", "10.2.0.5"), bind("x", "blue"))
    middle = settled(vpn("x", "1:9"), *other, prefixed("x", "p1", direction="to-port"))
    label = middle.held()[("label", f"red past p1 {packed('10.1.0.5').hex()}")]
    assert middle.desired.objects[("label", str(label))] == LabelRoute(label, "red", packed("10.1.0.5"))
    assert middle.routes("blue")[PREFIX] == ((ON_P1,),)
    assert middle.routes("red") == {}


def test_a_prefix_of_a_port_that_is_only_announced_lies_there_for_its_own_vrf_when_that_imports_it():
    for network_vpn in (vpn("a", "1:9"), vpn("a", import_targets=("1:9",))):
        middle = settled(network_vpn, vpn("x", "1:9"), bind("a", "red"), prefixed("x", "p1", direction="to-port"))
        assert middle.routes("red")[PREFIX] == ((ON_P1,),)
        middle.want(vpn("a", "1:1"))
        middle.settle()
        assert PREFIX not in middle.routes("red")
        middle.want(network_vpn)
        middle.settle()
        assert middle.routes("red")[PREFIX] == ((ON_P1,),)


def test_other_vrfs_look_up_in_the_vrf_of_a_port_that_is_only_announced_as_soon_as_that_has_its_prefix():
    other = (*network("blue", "10.2.0.0/24", "10.2.0.1"), port("q1", "blue", "10.2.0.5"), bind("x", "blue"))
    middle = settled(vpn("a", "1:1"), vpn("x", "1:9"), *other, bind("a", "red"))
    middle.want(prefixed("x", "p1", direction="to-port"))
    for targets, hop in (("1:1", ON_P1), ("1:9", InVrf("red")), ("1:1", ON_P1)):
        middle.want(vpn("a", targets))
        middle.settle()
        assert middle.routes("blue")[PREFIX] == ((hop,),), targets


def test_a_prefix_over_vxlan_is_looked_up_in_the_vrf_of_its_port():
    middle = settled(vpn("x", "1:9", technique=("evpn-prefix",)), prefixed("x", "p1", direction="to-port"))
    assert middle.routes("red") == {PREFIX: ((ON_P1,),)}


def test_several_ports_that_are_only_announced_have_a_route_each():
    middle = settled(
        vpn("x", "1:9"), prefixed("x", "p1", direction="to-port"), prefixed("x", "p2", direction="to-port")
    )
    assert of_prefix(middle) == [({"1:9"}, None)] * 2
    assert len({path.extra for nlri, path in middle.told().items() if PREFIX in nlri}) == 2
    middle.fail(("attachment", "p1"))
    assert of_prefix(middle) == [({"1:9"}, None)]


def test_a_port_that_only_sends_imports_and_announces_nothing():
    middle = settled(vpn("a", "1:1"), bind_port("a", "p1", PREFIX, direction="from-port"))
    middle.hear("10.8.0.0/16", "1:1")
    middle.settle()
    assert middle.told() == {}
    (own,) = middle.node.instances.vrfs
    assert set(middle.routes(own)) == {"10.8.0.0/16"}


def test_a_port_bound_in_each_direction_to_another_vpn_sends_by_one_and_is_told_in_the_other():
    middle = settled(
        vpn("in", "1:1"), vpn("out", "1:2"), bind_port("in", "p1", direction="to-port"),
        bind_port("out", "p1", direction="from-port"),
    )  # fmt: skip
    middle.hear("10.8.0.0/16", "1:1")
    middle.hear("10.9.0.0/16", "1:2")
    middle.settle()
    (own,) = middle.node.instances.vrfs
    assert set(middle.routes(own)) == {"10.9.0.0/16"}
    assert list(middle.said().values()) == [({"1:1"}, None)]


# Owners, hosts, stations


def test_a_port_of_the_network_itself_is_announced_into_no_l3_vpn_but_into_an_l2_one():
    dhcp = port("p3", "red", "10.1.0.2", device_owner="network:dhcp")
    middle = settled(dhcp, vpn("a", "1:1"), bind("a", "red"), vpn("e", "1:2", type="l2"), bind("e", "red"))
    told = {nlri for nlri in middle.told() if "10.1.0.2" in nlri}
    assert len(told) == 1
    assert all(nlri.startswith("[2]") for nlri in told), "a MAC and its address"
    assert ("attachment", "p3") in middle.desired.objects
    middle.want(attrs.evolve(dhcp, device_owner="compute:nova"))
    middle.settle()
    assert len({nlri for nlri in middle.told() if "10.1.0.2" in nlri}) == 2


def test_a_port_of_another_host_is_not_attached_here():
    middle = Middle(host="node1")
    middle.want(*network("red"), vpn("a", "1:1"), bind("a", "red"), port("p1", "red", "10.1.0.5", host="node2"))
    middle.settle()
    assert (middle.told(), len(middle.desired.objects)) == ({}, 0)
    assert verdict(middle.node, "port", "p1") == ("DOWN", "it is on node node2")
    middle.want(port("p1", "red", "10.1.0.5", host="node1"), port("p2", "red", "10.1.0.6"))
    middle.settle()
    assert len(middle.told()) == 2
    middle.want(port("p1", "red", "10.1.0.5", host="node2"))
    middle.settle()
    assert {nlri.split()[1] for nlri in middle.told()} == {"10.1.0.6/32"}


def test_stations_share_the_interface_of_their_network():
    shared = {"interface": "tap", "netns": "ns"}
    middle = Middle()
    middle.want(*network("red"), port("p1", "red", "10.1.0.5", **shared), port("p2", "red", "10.1.0.6", **shared))
    middle.want(vpn("a", "1:1"), bind("a", "red"), vpn("e", "1:2", type="l2"), bind("e", "red"))
    middle.settle()
    attachments = [each for (kind, _), each in middle.desired.objects.rows.items() if kind == "attachment"]
    assert attachments == [Attachment("ns/tap", "tap", "ns", "red")]
    assert {f"10.1.0.{n}/32" for n in (5, 6)} <= {nlri.split()[1] for nlri in middle.told() if " " in nlri}
    assert sum("[2]" in nlri for nlri in middle.told()) == 4, "each MAC, and with its address"
    assert set(middle.desired.neighbours.rows) == {("red", packed(f"10.1.0.{n}")) for n in (5, 6)}
    middle.fail(("attachment", "ns/tap"))
    assert [nlri for nlri in middle.told() if not nlri.startswith("[3]")] == []
    middle.repair(("attachment", "ns/tap"))
    middle.drop("port", "p1")
    middle.settle()
    attachments = [each for (kind, _), each in middle.desired.objects.rows.items() if kind == "attachment"]
    assert attachments == [Attachment("p2", "tap", "ns", "red")]
    assert sum("[2]" in nlri for nlri in middle.told()) == 2


def test_what_one_station_sends_by_all_behind_its_interface_do():
    shared = {"interface": "tap"}
    middle = Middle()
    middle.want(*network("red"), port("p1", "red", "10.1.0.5", **shared), port("p2", "red", "10.1.0.6", **shared))
    middle.want(port("p3", "red", "10.1.0.7"), vpn("a", "1:1"), bind("a", "red"), vpn("b", "1:2"), bind_port("b", "p1"))
    middle.settle()
    segments = {name: endpoint.segment for name, endpoint in middle.node.segments.endpoints.rows.items()}
    assert segments["p1"] == segments["p2"] != segments["p3"] == "red"
    assert {nlri.split()[1]: what for nlri, what in middle.said().items()} == {
        "10.1.0.5/32": ({"1:1", "1:2"}, None),
        "10.1.0.6/32": ({"1:1"}, None),
        "10.1.0.7/32": ({"1:1"}, None),
    }


def test_a_prefix_behind_two_stations_of_one_interface_is_shared():
    shared = {"interface": "tap"}
    middle = Middle()
    middle.want(*network("red"), port("p1", "red", "10.1.0.5", **shared), port("p2", "red", "10.1.0.6", **shared))
    middle.want(vpn("a", "1:1"), bind("a", "red"), prefixed("a", "p1"), prefixed("a", "p2"))
    middle.settle()
    assert middle.routes("red")[PREFIX] == ((ON_P1, ON_P2),)


# Fallback


def test_what_no_vpn_has_goes_to_the_fallback_of_the_network():
    middle = Middle()
    fallback = network("red", fallback_mac="02:00:00:00:aa:01")
    middle.want(*fallback, port("p1", "red", "10.1.0.5"), vpn("a", "1:1"), bind("a", "red"))
    middle.settle()
    ways = {"0.0.0.0/0": packed("169.254.0.1"), "::/0": packed("fe80::ffff:1")}
    assert middle.routes("red") == {prefix: ((OnBridge("red", at),),) for prefix, at in ways.items()}
    mac = bytes.fromhex("02000000aa01")
    assert {at: middle.desired.neighbours.get(("red", at)) for at in ways.values()} == dict.fromkeys(ways.values(), mac)
    assert not any("/0" in nlri for nlri in middle.told())
    middle.hear("0.0.0.0/0", "1:1")
    middle.settle()
    assert middle.routes("red")["0.0.0.0/0"] != ((OnBridge("red", ways["0.0.0.0/0"]),),), "a VPN has a route for it"
    middle.lose("0.0.0.0/0")
    middle.want(*network("red"))
    middle.settle()
    assert middle.routes("red") == {}
    assert set(middle.desired.neighbours.rows) == {("red", packed("10.1.0.5"))}


def test_a_network_in_an_l2_vpn_alone_has_no_fallback_routes():
    middle = Middle()
    fallback = network("red", fallback_mac="02:00:00:00:aa:01")
    middle.want(*fallback, port("p1", "red", "10.1.0.5"), vpn("e", "1:1", type="l2"), bind("e", "red"))
    middle.settle()
    assert set(middle.desired.neighbours.rows) == {("red", packed("10.1.0.5"))}
    middle.want(vpn("a", "1:2"), bind("a", "red"))
    middle.settle()
    assert len(middle.desired.neighbours) == 3
    middle.drop("association", "e-red")
    middle.settle()
    assert len(middle.desired.neighbours) == 3


# Numbers


def test_what_a_prefix_needs_is_given_back_with_it():
    middle = settled(vpn("a", "1:1"), vpn("b", "1:2"), bind("a", "red"), bind("b", "red"))
    before, objects = middle.held(), dict(middle.desired.objects.rows)
    middle.want(
        prefixed("a", "p1", 200),
        prefixed("b", "p1", 50),
        vpn("x", "1:9"),
        prefixed("x", "p2", None, "10.7.0.0/16", direction="to-port"),
    )
    middle.settle()
    assert len(middle.held()) == len(before) + 3
    middle.want(*(Removal("association", id_) for id_ in ("a-p1", "b-p1", "x-p2")))
    middle.settle()
    assert middle.held() == before
    assert middle.desired.objects.rows == objects


def test_a_route_of_its_own_waits_for_a_route_distinguisher():
    middle = Middle(ranges={**RANGES, "rd": range(1, 2)})
    middle.want(*NET, vpn("a", "1:1"), vpn("b", "1:2"), bind("a", "red"), bind("b", "red"), prefixed("a", "p1", 200))
    middle.settle()
    before = middle.said()
    middle.want(prefixed("b", "p1", 50))
    middle.settle()
    assert middle.said() == before
    assert "no rd is free" in middle.node.instances.failed[("vrf", "red")]
    assert verdict(middle.node, "association", "b-p1")[0] == "ERROR"
    middle.want(prefixed("b", "p1", 200))
    middle.settle()
    assert of_prefix(middle) == [({"1:1", "1:2"}, 200)]


def test_a_vrf_of_this_node_goes_by_the_vrf_of_a_port_that_is_bound_both_ways():
    other = (*network("blue", "10.2.0.0/24", "10.2.0.1"), port("q1", "blue", "10.2.0.5"), bind("a", "blue"))
    middle = settled(vpn("a", "1:1"), *other, bind("a", "red"), prefixed("a", "p1"))
    assert middle.routes("blue")[PREFIX] == ((InVrf("red"),),)
