"""Routes of one VPN announced into another by a port, by what whole nodes make of it."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from bgpvpn.desired import Labelled, LabelRoute, OnBridge
from bgpvpn.instance import NodeIdentity
from bgpvpn.intent import Removal
from bgpvpn.objects import ConflictError, IntentError
from bgpvpn.statuses import verdict
from speaker.values import RouteTarget
from speaker.wire.community import route_target_record
from tests.fakes.middle import (
    SELF,
    Middle,
    bind,
    bind_leak,
    bind_port,
    exchange,
    network,
    packed,
    port,
    vpn,
)

X, Y = vpn("x", "1:1"), vpn("y", "1:2")
FIREWALL = (*network("mid", "10.5.0.0/24", "10.5.0.1"), port("fw", "mid", "10.5.0.5"), X, Y)
INTO_X = bind_leak("x", "fw", "y")
INTO_Y = bind_leak("y", "fw", "x")
HEARD = "10.8.0.0/16"
RECORD = bytes.fromhex("0013000100000002")
"""Of the route target 1:2."""


def settled(*wishes: Any, **more: Any) -> Middle:
    middle = Middle(**more)
    middle.want(*FIREWALL, *wishes)
    middle.settle()
    return middle


def leaked(middle: Middle, prefix: str = HEARD) -> list[tuple[set[str], int | None]]:
    """Return the route targets and LOCAL_PREF of each of our own routes to a prefix."""
    return [what for nlri, what in middle.said().items() if nlri.endswith(f" {prefix}")]


def path_to(middle: Middle, prefix: str = HEARD) -> Any:
    (found,) = [path for nlri, path in middle.told().items() if nlri.endswith(f" {prefix}")]
    return found


def test_a_route_of_one_vpn_is_announced_into_the_other_as_lying_behind_the_port():
    middle = settled(INTO_X)
    assert leaked(middle) == []
    middle.hear(HEARD, "1:2", local_pref=77)
    middle.settle()
    assert leaked(middle) == [({"1:1"}, None)], "with none of the targets nor the preference that it had"
    path = path_to(middle)
    assert path.attributes.next_hop == SELF
    label = int.from_bytes(path.extra, "big") >> 4
    assert middle.desired.objects[("label", str(label))] == LabelRoute(
        label, middle.node.segments.endpoints["fw"].segment, packed("10.5.0.5")
    )
    middle.lose(HEARD)
    middle.settle()
    assert leaked(middle) == []


def test_what_is_announced_anew_records_the_route_targets_that_it_had():
    middle = settled(INTO_X)
    earlier = bytes.fromhex("0113c0000201002a")
    middle.hear(HEARD, "1:2", "70000:7", further=[earlier])
    middle.settle()
    told = path_to(middle).attributes.ext_communities
    records = {each for each in told if each[1] == 0x13}
    assert records == {RECORD, earlier, bytes.fromhex("0213000111700007")}
    assert route_target_record(RouteTarget.parse("1:2").wire) == RECORD


@pytest.mark.parametrize("further", [(), (bytes.fromhex("0013000100000001"),)])
def test_what_is_in_the_vpn_already_or_was_is_not_announced_into_it_again(further: tuple[bytes, ...]):
    middle = settled(INTO_X)
    middle.hear(HEARD, *(("1:2",) if further else ("1:1", "1:2")), further=further)
    middle.settle()
    assert leaked(middle) == []


@pytest.mark.parametrize(
    ("of_route", "of_vpn", "within", "told"),
    [(None, None, None, None), (None, 70, None, 70), (0, 70, None, 0), (150, 70, None, 150), (None, 70, (80, 90), 90)],
)
def test_the_local_pref_of_what_is_announced_anew_is_that_of_its_route_or_of_the_vpn(
    of_route: int | None, of_vpn: int | None, within: tuple[int, int] | None, told: int | None
):
    middle = settled(vpn("x", "1:1", local_pref=of_vpn), bind_leak("x", "fw", "y", local_pref=of_route))
    middle.hear(HEARD, "1:2")
    middle.settle()
    if within is not None:
        middle.want(attrs.evolve(middle.intent.bgpvpns["x"], local_pref=None, local_pref_range=within))
        middle.settle()
    assert leaked(middle) == [({"1:1"}, told)]


def test_the_route_targets_of_the_leaked_vpn_are_looked_at_again_at_once():
    middle = settled(INTO_X)
    middle.hear(HEARD, "1:7")
    middle.hear("10.9.0.0/16", "1:2")
    middle.settle()
    assert (leaked(middle), len(leaked(middle, "10.9.0.0/16"))) == ([], 1)
    middle.want(vpn("y", "1:7"))
    middle.settle()
    assert (len(leaked(middle)), leaked(middle, "10.9.0.0/16")) == (1, [])
    middle.want(vpn("y", export_targets=("1:7",)))
    middle.settle()
    assert leaked(middle) == [], "what it exports alone is not its"


def test_the_targets_of_the_vpn_that_is_announced_into_are_looked_at_again_at_once():
    middle = settled(INTO_X)
    middle.hear(HEARD, "1:2")
    middle.hear("10.9.0.0/16", "1:2", "1:8")
    middle.settle()
    assert leaked(middle, "10.9.0.0/16") == [({"1:1"}, None)]
    middle.want(vpn("x", import_targets=("1:1",), export_targets=("1:8", "1:9")))
    middle.settle()
    assert leaked(middle) == [({"1:8", "1:9"}, None)]
    assert leaked(middle, "10.9.0.0/16") == []
    middle.want(vpn("x", import_targets=("1:1",)))
    middle.settle()
    assert leaked(middle) == [], "nothing is announced into a VPN without export targets"
    middle.want(X)
    middle.settle()
    assert leaked(middle) == [({"1:1"}, None)]


@pytest.mark.parametrize(
    "undo",
    [
        (Removal("association", "x-fw"),),
        (Removal("port", "fw"),),
        (bind_port("x", "fw"),),
        (port("fw", "mid", "10.5.0.5", admin_state_up=False),),
        (vpn("x", "1:1", admin_state_up=False),),
        (vpn("y", "1:2", admin_state_up=False),),
        (Removal("bgpvpn", "y"),),
        (Removal("bgpvpn", "x"),),
        (bind_leak("x", "fw", "y", direction="from-port"),),
    ],
    ids=str,
)
def test_everything_is_taken_back_with_what_it_came_from(undo: tuple[Any, ...]):
    middle = settled(INTO_X)
    middle.hear(HEARD, "1:2")
    middle.settle()
    assert len(leaked(middle)) == 1
    middle.want(*undo)
    middle.settle()
    assert leaked(middle) == []
    assert not any(leaks for leaks in middle.node.instances.leaks.values())
    assert not any(purpose.startswith("leak") for _, purpose in middle.held())
    assert (RouteTarget.parse("1:2").wire in middle.node.interest.targets) is False


def test_a_vpn_that_goes_leaves_the_other_routes_of_the_associations_that_led_it_elsewhere():
    both = bind_leak("x", "fw", "y")
    more = {"type": "prefix", "prefix": "172.16.0.0/16"}
    middle = settled(attrs.evolve(both, routes=(*both.routes, more)))
    middle.drop("bgpvpn", "y")
    middle.settle()
    assert [route.prefix for route in middle.intent.associations["x-fw"].routes] == ["172.16.0.0/16"]
    assert leaked(middle, "172.16.0.0/16") == [({"1:1"}, None)]


def test_a_port_that_does_not_forward_announces_nothing_of_others():
    middle = settled(INTO_X)
    middle.hear(HEARD, "1:2")
    middle.settle()
    middle.fail(("attachment", "fw"))
    assert leaked(middle) == []
    middle.repair(("attachment", "fw"))
    assert leaked(middle) == [({"1:1"}, None)]


def test_each_address_family_leads_to_an_address_of_its_own_and_none_without():
    middle = settled(INTO_X)
    middle.hear("2001:db8:8::/48", "1:2")
    middle.settle()
    assert leaked(middle, "2001:db8:8::/48") == []
    subnet = attrs.evolve(network("mid", "2001:db8:5::/64", "2001:db8:5::1")[1], id="v6")
    middle.want(subnet, port("fw", "mid", "10.5.0.5", "2001:db8:5::5"))
    middle.settle()
    label = int.from_bytes(path_to(middle, "2001:db8:8::/48").extra, "big") >> 4
    assert middle.desired.objects[("label", str(label))].address == packed("2001:db8:5::5")  # type: ignore[union-attr]
    middle.want(port("fw", "mid", "10.5.0.5"))
    middle.settle()
    assert leaked(middle, "2001:db8:8::/48") == []


def test_the_best_of_several_paths_is_announced_and_only_once():
    middle = settled(INTO_X)
    middle.hear(HEARD, "1:2", rd="9:1", further=[bytes.fromhex("0013000100000007")], local_pref=50)
    middle.hear(HEARD, "1:2", rd="9:2", local_pref=200)
    middle.settle()
    assert leaked(middle) == [({"1:1"}, None)]
    assert bytes.fromhex("0013000100000007") not in path_to(middle).attributes.ext_communities
    middle.lose(HEARD, rd="9:2")
    middle.settle()
    assert bytes.fromhex("0013000100000007") in path_to(middle).attributes.ext_communities


def test_two_ports_announce_the_same_under_route_distinguishers_of_their_own():
    middle = settled(INTO_X, port("fx", "mid", "10.5.0.6"), bind_leak("x", "fx", "y"))
    middle.hear(HEARD, "1:2")
    middle.settle()
    assert leaked(middle) == [({"1:1"}, None)] * 2
    middle.drop("port", "fw")
    middle.settle()
    assert leaked(middle) == [({"1:1"}, None)]


def test_other_vrfs_of_the_node_go_straight_to_the_port():
    middle = settled(INTO_X, *network("red"), port("p1", "red", "10.1.0.5"), bind("x", "red"))
    middle.hear(HEARD, "1:2")
    middle.settle()
    segment = middle.node.segments.endpoints["fw"].segment
    assert middle.routes("red")[HEARD] == ((OnBridge(segment, packed("10.5.0.5")),),)
    middle.hear(HEARD, "1:1", rd="9:9", local_pref=200)
    middle.settle()
    assert middle.routes("red")[HEARD][0] == (Labelled(packed("192.0.2.9"), 900),), "where the VPN prefers another"


def test_leaks_both_ways_through_one_port_lead_each_vpn_into_the_other_and_do_not_loop():
    sides = (
        *network("red"), port("p1", "red", "10.1.0.5"), bind("x", "red"),
        *network("blue", "10.2.0.0/24", "10.2.0.1"), port("q1", "blue", "10.2.0.5"), bind("y", "blue"),
    )  # fmt: skip
    middle = settled(INTO_X, INTO_Y, *sides)
    segment = middle.node.segments.endpoints["fw"].segment
    port_of_firewall = OnBridge(segment, packed("10.5.0.5"))
    assert middle.routes("red")["10.2.0.5/32"] == ((port_of_firewall,),)
    assert middle.routes("blue")["10.1.0.5/32"] == ((port_of_firewall,),)
    own = middle.routes(segment)
    assert own["10.1.0.5/32"] != ((port_of_firewall,),), "the firewall's own packets go on, not back to it"
    assert own["10.2.0.5/32"] != ((port_of_firewall,),)
    assert sorted(leaked(middle, "10.1.0.5/32"), key=str) == [({"1:1"}, None), ({"1:2"}, None)]
    assert sorted(leaked(middle, "10.5.0.5/32"), key=str) == [({"1:1", "1:2"}, None)]


def node(number: int) -> Middle:
    return Middle(identity=NodeIdentity(packed(f"10.0.0.{number}"), packed(f"10.0.0.{number}")))


def test_leaks_both_ways_on_two_nodes_come_to_rest_and_go_with_the_original():
    one, two = node(1), node(2)
    one.want(*FIREWALL, INTO_X, INTO_Y)
    one.want(*network("red"), port("p1", "red", "10.1.0.5"), bind("x", "red"))
    two.want(*FIREWALL[:2], port("fv", "mid", "10.5.0.6"), X, Y, bind_leak("x", "fv", "y"), bind_leak("y", "fv", "x"))
    two.want(*network("blue", "10.2.0.0/24", "10.2.0.1"), port("q1", "blue", "10.2.0.5"), bind("y", "blue"))
    exchange(one, two)
    for each in (one, two):
        assert sorted((what for what in leaked(each, "10.2.0.5/32") if what[0] == {"1:1"}), key=str) == [
            ({"1:1"}, None)
        ]
        assert [what for what in leaked(each, "10.1.0.5/32") if what[0] == {"1:2"}] == [({"1:2"}, None)]
    assert sum(len(leaked(each, "10.1.0.5/32")) for each in (one, two)) == 3, "the original, and one by each port"
    hops = {type(hop) for hop in one.routes("red")["10.2.0.5/32"][0]}
    assert hops == {OnBridge}, "our own comes first"
    one.drop("port", "p1")
    exchange(one, two)
    assert leaked(one, "10.1.0.5/32") + leaked(two, "10.1.0.5/32") == []
    two.drop("port", "q1")
    exchange(one, two)
    assert leaked(one, "10.2.0.5/32") + leaked(two, "10.2.0.5/32") == []


def test_a_ring_of_leaks_over_three_vpns_and_two_nodes_comes_to_rest():
    one, two = node(1), node(2)
    z = vpn("z", "1:3")
    one.want(*FIREWALL, z, bind_leak("y", "fw", "x"), bind_leak("z", "fw", "y"), bind_leak("x", "fw", "z"))
    two.want(*FIREWALL[:2], port("fv", "mid", "10.5.0.6"), X, Y, z)
    two.want(*(bind_leak(into, "fv", of) for into, of in (("y", "x"), ("z", "y"), ("x", "z"))))
    one.hear(HEARD, "1:1", source="peer")
    exchange(one, two)
    told = [what for each in (one, two) for what in leaked(each)]
    assert told.count(({"1:2"}, None)) >= 1
    assert told.count(({"1:3"}, None)) >= 1
    assert told.count(({"1:1"}, None)) == 0, "it never comes back to where it was"
    one.lose(HEARD, source="peer")
    exchange(one, two)
    assert [what for each in (one, two) for what in leaked(each)] == []


def test_more_routes_than_the_vpn_takes_are_not_announced_until_there_is_room():
    middle = settled(vpn("x", "1:1", max_prefixes=2), INTO_X)
    for n in range(5):
        middle.hear(f"10.{n}.0.0/16", "1:2")
    middle.settle()
    first = {nlri.split()[1] for nlri in middle.told()} - {"10.5.0.5/32"}
    assert len(first) == 2
    state, reason = verdict(middle.node, "association", "x-fw")
    assert (state, reason[:28]) == ("ACTIVE", "3 routes are not announced, ")
    assert reason.endswith("VPN takes at most 2 of an association")
    for prefix in first:
        middle.hear(prefix, "1:2", "1:8")
    middle.settle()
    assert {nlri.split()[1] for nlri in middle.told()} == {*first, "10.5.0.5/32"}, "a change keeps its place"
    for prefix in first:
        middle.lose(prefix)
    middle.settle()
    assert len({nlri.split()[1] for nlri in middle.told()} - {"10.5.0.5/32"}) == 2
    for most in (1, 0, 3, None):
        middle.want(vpn("x", "1:1", max_prefixes=most))
        middle.settle()
        left = {nlri.split()[1] for nlri in middle.told()} - {"10.5.0.5/32"}
        assert len(left) == min(3, 3 if most is None else most), most
    assert verdict(middle.node, "association", "x-fw") == ("ACTIVE", "")


def test_routes_that_the_vpn_does_not_allow_are_not_announced_and_the_status_says_so():
    middle = settled(vpn("x", "1:1", allowed_prefixes=("10.8.0.0/16",)), INTO_X)
    middle.hear(HEARD, "1:2")
    middle.hear("10.9.0.0/16", "1:2")
    middle.settle()
    assert (len(leaked(middle)), leaked(middle, "10.9.0.0/16")) == (1, [])
    assert verdict(middle.node, "association", "x-fw") == (
        "ACTIVE",
        "1 routes are not announced, 10.9.0.0/16 among them: VPN 'x' takes prefixes within 10.8.0.0/16 only",
    )
    middle.want(X)
    middle.settle()
    assert len(leaked(middle, "10.9.0.0/16")) == 1


def test_route_distinguishers_and_labels_of_leaks_are_the_same_after_a_restart():
    before = settled(INTO_X, INTO_Y)
    before.hear(HEARD, "1:2")
    before.settle()
    after = Middle(leases=before.kept())
    after.hear(HEARD, "1:2")
    after.want(*FIREWALL, INTO_Y, INTO_X)
    after.settle()
    assert after.kept() == before.kept()
    assert after.said() == before.said()
    assert {nlri: path.extra for nlri, path in after.told().items()} == {
        nlri: path.extra for nlri, path in before.told().items()
    }


def test_a_vpn_is_led_neither_into_itself_nor_into_one_of_another_project_or_type():
    middle = settled(vpn("e", "1:5", type="l2"), vpn("o", "1:6", project_id="other"))
    for of, words in [
        ("x", "VPN 'x' would be led into itself"),
        ("e", "VPN 'e' is of type l2, not l3"),
        ("o", "VPN 'o' is of project 'other', not 'default'"),
        ("gone", "there is no bgpvpn 'gone'"),
    ]:
        with pytest.raises(IntentError, match=words):
            middle.want(bind_leak("x", "fw", of))


def test_routes_are_announced_anew_between_vpns_over_mpls_only():
    middle = settled(vpn("v", "1:5", technique=("evpn-prefix",)), vpn("w", "1:6", technique=("ipvpn", "evpn-prefix")))
    for into, of in (("x", "v"), ("v", "x")):
        with pytest.raises(IntentError, match="VPN 'v' is of the technique evpn-prefix"):
            middle.want(bind_leak(into, "fw", of))
    middle.want(bind_leak("x", "fw", "w"))
    with pytest.raises(ConflictError, match="technique"):
        middle.want(vpn("w", "1:6", technique=("evpn-prefix",)))
