"""EVIs, by what a whole node makes of wishes and of heard routes."""

from __future__ import annotations

from typing import Any

import pytest

from bgpvpn.evpn import HIGHEST_SEQUENCE, NO_ESI, destinations
from bgpvpn.instance import NodeIdentity
from bgpvpn.intent import Removal
from speaker.values import Family, RouteTarget
from speaker.wire.community import encapsulation, mac_mobility
from tests.fakes.middle import Middle, bind, flood_route, network, packed, port, vpn

VNI = 55
LOCAL_MAC = "02:00:00:00:70:31"  # of port p1
OTHER_MAC = "02:00:00:00:00:99"
LOW, HIGH = "10.0.0.0", "192.0.2.9"  # VTEPs below and above the node's own, 10.0.0.1
MAC_ONLY = f"[2]:[10.0.0.1:1]:[0]:[48]:[{LOCAL_MAC}]"
MAC_AND_IP = f"{MAC_ONLY}:[32]:[10.1.0.5]"
FLOOD = "[3]:[10.0.0.1:1]:[0]:[32]:[10.0.0.1]"


def evi(*wishes: Any, with_port: bool = True, **settings: Any) -> Middle:
    """Return a settled node with a network in an l2 VPN."""
    middle = Middle(**settings)
    middle.want(*network("red"), vpn("l2", "1:1", type="l2", vni=VNI), bind("l2", "red"), port("p0", "red"))
    if with_port:
        middle.want(port("p1", "red", "10.1.0.5"))
    middle.want(*wishes)
    middle.settle()
    return middle


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def macs(middle: Middle) -> dict[str, tuple[str, int]]:
    """Return where frames to each MAC are sent."""
    return {key[1].hex(":"): (".".join(map(str, vtep)), vni) for key, (vtep, vni) in middle.desired.macs.rows.items()}


def floods(middle: Middle) -> dict[str, int]:
    return {".".join(map(str, vtep)): sent for (vni, vtep), sent in middle.desired.floods.rows.items() if vni == VNI}


def announced(middle: Middle, mac_text: str = LOCAL_MAC) -> set[int] | None:
    """Return the sequence numbers with which we announce a MAC; None if we do not."""
    found = set()
    for nlri, path in middle.told(Family.EVPN).items():
        if mac_text in nlri:
            mobility = [each for each in path.attributes.ext_communities if each[:2] == b"\x06\x00"]
            found.add(int.from_bytes(mobility[0][4:], "big") if mobility else 0)
    return found or None


# Out


def test_a_port_is_announced_by_its_mac_by_its_mac_and_address_and_the_node_as_a_receiver_of_floods():
    told = evi(Removal("port", "p0")).told()
    assert set(told) == {MAC_ONLY, MAC_AND_IP, FLOOD}
    for nlri in (MAC_ONLY, MAC_AND_IP):
        assert told[nlri].extra == NO_ESI + VNI.to_bytes(3, "big")
        assert told[nlri].attributes.pmsi is None
    assert told[FLOOD].attributes.pmsi == (0, 6, VNI.to_bytes(3, "big"), packed("10.0.0.1"))
    for path in told.values():
        assert path.attributes.next_hop == packed("10.0.0.1")
        assert path.attributes.ext_communities == (RouteTarget.parse("1:1").wire, encapsulation(8))


def test_a_port_is_announced_while_its_interface_and_the_vxlan_device_are_active():
    middle = evi()
    middle.fail(("attachment", "p1"))
    assert (announced(middle), FLOOD in middle.told()) == (None, True)
    middle.repair(("attachment", "p1"))
    assert announced(middle) == {0}
    middle.fail(("vxlan", str(VNI)))
    assert middle.told() == {}
    middle.repair(("vxlan", str(VNI)))
    assert {MAC_ONLY, MAC_AND_IP, FLOOD} <= set(middle.told())


def test_changed_export_targets_and_addresses_change_the_routes():
    middle = evi()
    middle.want(vpn("l2", "1:7", type="l2", vni=VNI), port("p1", "red", "10.1.0.6"))
    middle.settle()
    told = middle.told()
    assert {nlri for nlri in told if LOCAL_MAC in nlri} == {MAC_ONLY, f"{MAC_ONLY}:[32]:[10.1.0.6]"}
    assert {target for path in told.values() for target in path.attributes.route_targets} == {
        RouteTarget.parse("1:7").wire
    }
    middle.want(vpn("l2", type="l2", vni=VNI, import_targets=("1:1",)))
    middle.settle()
    assert middle.told() == {}


def test_a_changed_mac_replaces_the_old_one():
    middle = evi()
    middle.want(port("p1", "red", "10.1.0.5", mac_address=OTHER_MAC))
    middle.settle()
    assert announced(middle) is None
    assert announced(middle, OTHER_MAC) == {0}
    assert middle.desired.neighbours.rows == {("red", packed("10.1.0.5")): mac(OTHER_MAC)}


# In


def test_a_mac_route_says_where_frames_go_with_the_vni_of_the_receiver_and_who_has_an_address():
    middle = evi()
    middle.hear_mac(OTHER_MAC, "1:1", address="10.1.0.99", vni=77)
    middle.settle()
    assert macs(middle) == {OTHER_MAC: ("192.0.2.9", 77)}
    assert middle.desired.neighbours.rows == {
        ("red", packed("10.1.0.5")): mac(LOCAL_MAC),
        ("red", packed("10.1.0.99")): mac(OTHER_MAC),
    }


def test_a_mac_alone_and_with_addresses_is_one_mac_until_the_last_route_is_gone():
    middle = evi()
    middle.hear_mac(OTHER_MAC, "1:1")
    middle.hear_mac(OTHER_MAC, "1:1", address="10.1.0.99")
    middle.settle()
    for address in ("", "10.1.0.99"):
        assert macs(middle) == {OTHER_MAC: ("192.0.2.9", 77)}
        key = next(key for key in middle.evpn().rows if key[20] == (32 if address else 0))
        middle.evpn().discard(key)
        middle.settle()
    assert macs(middle) == {}
    assert set(middle.desired.neighbours.rows) == {("red", packed("10.1.0.5"))}


def test_multicast_routes_say_who_gets_floods_until_the_last_of_a_vtep_is_gone():
    middle = evi()
    middle.hear_flood(HIGH, "1:1", rd="9:1", vni=77)
    middle.hear_flood(HIGH, "1:1", rd="9:2", vni=78)
    middle.hear_flood("192.0.2.10", "1:1", vni=79)
    middle.settle()
    assert floods(middle) == {HIGH: 77, "192.0.2.10": 79}
    middle.evpn().discard(flood_route("9:1", HIGH))
    middle.settle()
    assert floods(middle) == {HIGH: 78, "192.0.2.10": 79}
    middle.evpn().discard(flood_route("9:2", HIGH))
    middle.settle()
    assert floods(middle) == {"192.0.2.10": 79}


def test_a_multicast_route_that_names_another_receiver_leaves_the_first():
    middle = evi()
    middle.hear_flood(HIGH, "1:1")
    middle.settle()
    middle.hear_flood(HIGH, "1:1", tunnel="192.0.2.30")
    middle.settle()
    assert floods(middle) == {"192.0.2.30": 77}


@pytest.mark.parametrize("sources", [("peer-1", "peer-2"), ("peer-2", "peer-1")])
def test_two_vteps_with_one_mac_are_told_apart_by_number_then_by_address(sources: tuple[str, str]):
    for numbers, expected in [
        ((0, 0), "192.0.2.1"),
        ((3, 2), "192.0.2.1"),
        ((2, 3), "192.0.2.2"),
        ((9, 9), "192.0.2.1"),
    ]:
        middle = evi()
        for at, source in enumerate(sources):
            further = [mac_mobility(numbers[at])] if numbers[at] else []
            middle.hear_mac(
                OTHER_MAC, "1:1", source=source, rd=f"9:{at}", vtep=f"192.0.2.{at + 1}", further=further,
                local_pref=100 + at,
            )  # fmt: skip
        middle.settle()
        assert macs(middle) == {OTHER_MAC: (expected, 77)}, numbers


def test_a_sticky_mac_stays_whatever_the_others_number():
    middle = evi()
    middle.hear_mac(OTHER_MAC, "1:1", rd="9:1", vtep="192.0.2.1", further=[mac_mobility(0, sticky=True)])
    middle.hear_mac(OTHER_MAC, "1:1", rd="9:2", vtep="192.0.2.2", further=[mac_mobility(7)])
    middle.settle()
    assert macs(middle) == {OTHER_MAC: ("192.0.2.1", 77)}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"further": [encapsulation(10)]}, "is not VXLAN"),
        ({"vtep": "203.0.113.9"}, "outside the configured underlay prefixes"),
        ({"vtep": "2001:db8::9"}, "of another address family"),
        ({"vtep": "10.0.0.1"}, "this node itself"),
        ({"vni": 0}, "VNI 0"),
    ],
)
def test_a_mac_route_that_cannot_be_used_is_refused_with_a_reason(fields: dict[str, Any], reason: str):
    middle = evi(
        underlay=["192.0.2.0/24", "10.0.0.0/8", "2001:db8::/32"],
        identity=NodeIdentity(packed("10.0.0.1"), packed("10.0.0.1"), packed("2001:db8::1")),
    )
    middle.hear_mac(OTHER_MAC, "1:1", rd="9:1", **fields)
    middle.settle()
    assert macs(middle) == {}
    (path,) = middle.evpn().rows.values()
    assert reason in middle.node.instances.evis["red"].refusal(path)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"kind": 1}, "is not ingress replication"),
        ({"tunnel": "203.0.113.9"}, "outside the configured underlay prefixes"),
        ({"tunnel": "10.0.0.1"}, "this node itself"),
        ({"vni": 0}, "VNI 0"),
    ],
)
def test_a_multicast_route_that_cannot_be_used_is_refused_with_a_reason(fields: dict[str, Any], reason: str):
    middle = evi(underlay=["192.0.2.0/24", "10.0.0.0/8"])
    middle.hear_flood(HIGH, "1:1", **fields)
    middle.settle()
    assert floods(middle) == {}
    (path,) = middle.evpn().rows.values()
    assert reason in middle.node.instances.evis["red"].refusal(path)


def test_a_multicast_route_without_a_tunnel_attribute_is_refused():
    middle = evi()
    path = middle.attributes(HIGH, ["1:1"]).path(b"")
    middle.evpn().put(flood_route("9:1", HIGH), path)
    middle.settle()
    assert floods(middle) == {}
    assert "no PMSI tunnel attribute" in middle.node.instances.evis["red"].refusal(path)


def test_routes_of_other_types_are_no_concern_of_an_evi():
    for kind in (1, 4, 5, 99):
        assert destinations(bytes([kind]) + bytes(40)) == ()
    middle = evi()
    middle.evpn().put(b"\x05" + bytes(40), middle.attributes(HIGH, ["1:1"]).path(bytes(17)))
    middle.settle()
    assert (macs(middle), floods(middle)) == ({}, {})


def test_an_l2_and_an_l3_vpn_may_share_a_route_target():
    middle = evi(vpn("l3", "1:1"), bind("l3", "red"))
    middle.hear("10.8.0.0/16", "1:1")
    middle.hear_mac(OTHER_MAC, "1:1")
    middle.settle()
    assert set(middle.routes("red")) == {"10.8.0.0/16"}
    assert macs(middle) == {OTHER_MAC: ("192.0.2.9", 77)}


def test_an_l2_vpn_bound_after_the_routes_came_has_them_and_an_unbound_one_has_none():
    middle = Middle()
    middle.hear_mac(OTHER_MAC, "1:1", address="10.1.0.99")
    middle.hear_flood(HIGH, "1:1")
    middle.settle()
    middle.want(*network("red"), vpn("l2", "1:1", type="l2", vni=VNI), bind("l2", "red"), port("p1", "red", "10.1.0.5"))
    middle.settle()
    assert (macs(middle), floods(middle)) == ({OTHER_MAC: (HIGH, 77)}, {HIGH: 77})
    middle.want(vpn("l2", "1:2", type="l2", vni=VNI))
    middle.settle()
    assert (macs(middle), floods(middle)) == ({}, {})
    assert set(middle.desired.neighbours.rows) == {("red", packed("10.1.0.5"))}


def test_two_networks_of_one_l2_vpn_on_one_node_are_not_joined():
    middle = Middle()
    middle.want(vpn("l2", "1:1", type="l2"))
    for name in ("blue", "red"):
        middle.want(*network(name), port(f"p-{name}", name, "10.1.0.5"), bind("l2", name))
    middle.settle()
    assert (middle.desired.macs.rows, middle.desired.floods.rows) == ({}, {})
    evis = middle.node.instances.evis
    others = [path for nlri, path in middle.told().items() if "10.0.0.1:2" in nlri]
    assert all("two segments of one l2 VPN are not joined here" in evis["blue"].refusal(path) for path in others)


# MAC mobility (RFC 7432 section 15)


def test_a_mac_that_appears_here_while_another_has_it_is_announced_with_a_higher_number():
    middle = evi(with_port=False)
    middle.hear_mac(LOCAL_MAC, "1:1", further=[mac_mobility(4)])
    middle.settle()
    assert macs(middle) == {LOCAL_MAC: (HIGH, 77)}
    middle.down.add(("attachment", "p1"))
    middle.want(port("p1", "red", "10.1.0.5"))
    middle.settle()
    assert (macs(middle), announced(middle)) == ({LOCAL_MAC: (HIGH, 77)}, None), "it has not appeared yet"
    middle.repair(("attachment", "p1"))
    assert (macs(middle), announced(middle)) == ({}, {5})


def test_the_other_takes_a_mac_with_a_higher_number_and_we_have_it_again_when_it_is_gone():
    middle = evi()
    middle.hear_mac(LOCAL_MAC, "1:1", further=[mac_mobility(1)])
    middle.settle()
    assert (macs(middle), announced(middle)) == ({LOCAL_MAC: (HIGH, 77)}, None)
    middle.evpn().discard_all(list(middle.evpn()))
    middle.settle()
    assert (macs(middle), announced(middle)) == ({}, {0})


def test_a_mac_that_comes_back_is_announced_with_a_number_above_that_of_its_last_place():
    middle = evi()
    middle.hear_mac(LOCAL_MAC, "1:1", further=[mac_mobility(1)])
    middle.fail(("attachment", "p1"))
    assert announced(middle) is None
    middle.repair(("attachment", "p1"))
    assert announced(middle) == {2}


@pytest.mark.parametrize(("vtep", "ours"), [(HIGH, True), (LOW, False)])
def test_of_two_nodes_with_one_mac_and_one_number_the_lower_address_has_it(vtep: str, ours: bool):
    middle = evi()
    for number in range(3):  # the same answer however often it is said
        middle.hear_mac(LOCAL_MAC, "1:1", vtep=vtep, med=number)
        middle.settle()
        assert announced(middle) == ({0} if ours else None)
        assert macs(middle) == ({} if ours else {LOCAL_MAC: (vtep, 77)})


def test_a_sticky_mac_of_another_is_not_announced_here():
    middle = evi()
    middle.hear_mac(LOCAL_MAC, "1:1", further=[mac_mobility(0, sticky=True)])
    middle.settle()
    assert (macs(middle), announced(middle)) == ({LOCAL_MAC: (HIGH, 77)}, None)


@pytest.mark.parametrize(("vtep", "ours"), [(HIGH, True), (LOW, False)])
def test_the_highest_number_has_none_above_it(vtep: str, ours: bool):
    middle = evi(with_port=False)
    middle.hear_mac(LOCAL_MAC, "1:1", vtep=vtep, further=[mac_mobility(HIGHEST_SEQUENCE)])
    middle.settle()
    middle.want(port("p1", "red", "10.1.0.5"))
    middle.settle()
    assert announced(middle) == ({HIGHEST_SEQUENCE} if ours else None)


def test_nodes_that_fight_for_a_mac_come_to_rest():
    """Two of our nodes, each with the port, told of each other's routes until nothing changes."""
    nodes = [evi(), evi(identity=NodeIdentity(packed("10.0.0.2"), packed("10.0.0.2")))]
    for turn in range(4):
        for node, other in (nodes, nodes[::-1]):
            for key in list(node.evpn()):
                node.evpn().discard(key)
            for nlri, path in other.told(Family.EVPN).items():
                if nlri.startswith("[2]") and LOCAL_MAC in nlri and "10.1.0.5" in nlri:
                    vtep = ".".join(map(str, path.attributes.next_hop))
                    further = [each for each in path.attributes.ext_communities if each[:2] == b"\x06\x00"]
                    node.hear_mac(
                        LOCAL_MAC, "1:1", address="10.1.0.5", rd=f"{vtep}:1", vtep=vtep, vni=VNI, further=further
                    )
            node.settle()
        assert turn == 0 or [announced(node) for node in nodes] == [{0}, None]
    assert macs(nodes[1]) == {LOCAL_MAC: ("10.0.0.1", VNI)}


def test_ports_are_announced_when_their_vpn_gets_its_first_export_target():
    middle = Middle()
    middle.want(*network("red"), port("p1", "red", "10.1.0.5"), vpn("e", type="l2"), bind("e", "red"))
    middle.settle()
    assert middle.told() == {}
    middle.want(vpn("e", type="l2", export_targets=("1:1",)))
    middle.settle()
    assert len(middle.told()) == 3
    middle.want(vpn("e", type="l2"))
    middle.settle()
    assert middle.told() == {}
