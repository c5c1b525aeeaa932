"""What a segment is made of, and that all of it is given back."""

from __future__ import annotations

from typing import Any

import pytest

from bgpvpn.desired import Attachment, Bridge, Gateway, OnBridge, Vrf, Vxlan
from bgpvpn.intent import Removal
from bgpvpn.node import TUNNEL_SWEEP_S
from speaker.table import Reader
from tests.fakes.middle import RANGES, Middle, bind, bind_port, network, packed, port, vpn

RED = (*network("red", mtu=1400), port("p1", "red", "10.1.0.5", netns="ns1"), vpn("a", "1:1"))
MAC = bytes.fromhex("020000007031")


def settled(*wishes: Any) -> Middle:
    middle = Middle()
    middle.want(*wishes)
    middle.settle()
    return middle


def kinds(middle: Middle) -> dict[str, set[str]]:
    """Return the names of the wanted objects by their kind."""
    found: dict[str, set[str]] = {}
    for kind, name in middle.desired.objects:
        found.setdefault(kind, set()).add(name)
    return found


def kernel_facing(middle: Middle) -> list[Reader[Any, Any]]:
    """Return fresh readers, with nothing dirty, on all that the dataplane reads."""
    desired = middle.desired
    readers: list[Reader[Any, Any]] = [
        table.reader()
        for table in (desired.objects, desired.macs, desired.floods, desired.neighbours, *desired.routes.values())
    ]
    for reader in readers:
        reader.take()
    return readers


def rows(middle: Middle) -> list[dict[Any, Any]]:
    """Return everything that the node wants and says."""
    desired = middle.desired
    tables: list[Any] = [desired.objects, desired.macs, desired.floods, desired.neighbours, *desired.routes.values()]
    return [dict(table.rows) for table in tables] + [dict(middle.told()), dict(middle.node.originated.rows)]


def test_binding_a_network_to_an_l3_vpn_makes_its_vrf_bridge_attachments_and_neighbours():
    middle = settled(*RED, bind("a", "red"))
    held = middle.held()
    assert set(held) == {("bridge", "red"), ("table", "red"), ("label", "red"), ("rd", "vrf red ")}
    objects = middle.desired.objects
    assert objects[("vrf", "red")] == Vrf("red", held[("table", "red")], held[("label", "red")])
    assert objects[("bridge", "red")] == Bridge(
        "red", held[("bridge", "red")], "red", (Gateway(packed("10.1.0.1"), 24),), bytes.fromhex("00005e004364"), 1400
    )
    assert objects[("attachment", "p1")] == Attachment("p1", "tap-p1", "ns1", "red")
    assert kinds(middle) == {"vrf": {"red"}, "bridge": {"red"}, "attachment": {"p1"}, "tunnel": {"00000000"}}
    assert middle.desired.neighbours.rows == {("red", packed("10.1.0.5")): MAC}


def test_binding_a_network_to_an_l2_vpn_makes_a_vxlan_device_and_no_vrf_nor_gateway():
    middle = settled(*network("red"), port("p1", "red", "10.1.0.5"), vpn("a", "1:1", type="l2"), bind("a", "red"))
    held = middle.held()
    assert set(held) == {("bridge", "red"), ("vni", "red"), ("rd", "evi red")}
    vni = held[("vni", "red")]
    assert middle.desired.objects[("vxlan", str(vni))] == Vxlan(vni, "red", packed("10.0.0.1"))
    assert middle.desired.objects[("bridge", "red")] == Bridge("red", held[("bridge", "red")])
    assert kinds(middle) == {"bridge": {"red"}, "attachment": {"p1"}, "vxlan": {str(vni)}}


@pytest.mark.parametrize("way", ["association", "port", "vpn", "admin"])
def test_unbinding_takes_everything_back_and_releases_every_lease(way: str):
    both = (vpn("a", "1:1"), vpn("l2", "1:2", type="l2"), bind("a", "red"), bind("l2", "red"))
    prefix = bind_port("a", "p1", "172.16.0.0/16")
    middle = settled(*network("red"), port("p1", "red", "10.1.0.5"), *both, prefix)
    middle.hear("10.8.0.0/16", "1:1")
    middle.hear_mac("02:00:00:00:00:99", "1:2", address="10.1.0.99")
    middle.hear_flood("192.0.2.9", "1:2")
    middle.settle()
    middle.want(
        *{
            "association": tuple(Removal("association", id_) for id_ in ("a-red", "l2-red", "a-p1")),
            "port": (Removal("port", "p1"),),
            "vpn": (Removal("bgpvpn", "a"), Removal("bgpvpn", "l2")),
            "admin": (port("p1", "red", "10.1.0.5", admin_state_up=False),),
        }[way]
    )  # fmt: skip
    middle.settle()
    assert not any(rows(middle))
    assert middle.held() == {}
    assert list(middle.node.instances) == []
    assert middle.node.interest.targets.rows == {}


def test_leases_are_the_same_after_a_restart():
    made = (*RED, vpn("b", "1:2", local_pref=7), vpn("l2", "1:3", type="l2"), *network("blue"), port("p2", "blue"))
    bound = (bind("a", "red"), bind("b", "red"), bind("l2", "red"), bind_port("b", "p1", "172.16.0.0/16"))
    before = settled(*made, *bound, bind("a", "blue"))
    after = Middle(leases=before.kept())
    after.want(*made, bind("a", "blue"), *reversed(bound))
    after.settle()
    assert after.kept() == before.kept()
    assert after.desired.objects.rows == before.desired.objects.rows
    assert set(after.told()) == set(before.told())


def test_leases_that_nobody_asks_for_after_a_restart_are_released():
    middle = Middle(leases=[("label", "gone", 16000, None), ("rd", "vrf gone ", 1, None)])
    middle.want(*RED, bind("a", "red"))
    middle.settle()
    assert set(middle.held()) == {("bridge", "red"), ("table", "red"), ("label", "red"), ("rd", "vrf red ")}
    assert 16000 not in middle.held().values()


def test_a_bind_to_a_second_vpn_changes_route_targets_and_nothing_in_the_kernel():
    middle = settled(*RED, bind("a", "red"), bind_port("a", "p1", "172.16.0.0/16"), vpn("b", "1:2"))
    middle.hear("10.8.0.0/16", "1:1")
    middle.settle()
    leases, before = middle.held(), middle.told()
    readers = kernel_facing(middle)
    middle.want(bind("b", "red"))
    middle.settle()
    assert [dict(reader.dirty) for reader in readers if reader.dirty] == []
    assert middle.held() == leases
    host = "10.0.0.1:1 10.1.0.5/32"
    assert middle.told()[host].attributes.route_targets > before[host].attributes.route_targets
    prefix = "10.0.0.1:1 172.16.0.0/16"
    assert middle.told()[prefix] is before[prefix], "it is announced into the first VPN alone"


def test_a_route_distinguisher_is_released_with_the_local_pref_that_it_was_for():
    middle = settled(*RED, bind("a", "red"), vpn("b", "1:2", local_pref=7), bind("b", "red"))
    assert {purpose for pool, purpose in middle.held() if pool == "rd"} == {"vrf red ", "vrf red 7"}
    middle.want(vpn("b", "1:2"))
    middle.settle()
    assert {purpose for pool, purpose in middle.held() if pool == "rd"} == {"vrf red "}
    assert set(middle.told()) == {"10.0.0.1:1 10.1.0.5/32"}


def test_a_label_is_released_with_the_prefix_behind_its_port():
    middle = settled(*RED, bind("a", "red"), bind_port("a", "p1", "172.16.0.0/16"))
    middle.drop("association", "a-p1")
    middle.settle()
    assert [purpose for pool, purpose in middle.held() if pool == "label"] == ["red"]
    assert "label" not in kinds(middle)


def test_a_port_that_moves_to_another_segment_keeps_its_attachment():
    middle = settled(*RED, port("p2", "red", "10.1.0.6"), bind("a", "red"), vpn("b", "1:2"))
    middle.want(bind_port("b", "p1"))
    middle.settle()
    own = next(name for name in middle.node.instances.vrfs if name != "red")
    assert middle.desired.objects[("attachment", "p1")] == Attachment("p1", "tap-p1", "ns1", own)
    assert middle.desired.objects[("attachment", "p2")] == Attachment("p2", "tap-p2", "", "red")
    middle.drop("association", "b-p1")
    middle.settle()
    assert middle.desired.objects[("attachment", "p1")] == Attachment("p1", "tap-p1", "ns1", "red")


def test_two_segments_that_say_one_route_say_it_until_the_last_of_them_is_gone():
    shared = vpn("a", "1:1", route_distinguishers=("7:7",))
    nets = [
        each
        for name in ("blue", "red")
        for each in (*network(name), port(f"p-{name}", name, "10.1.0.5"), bind("a", name))
    ]
    middle = settled(shared, *nets)
    labels = {name: middle.held()[("label", name)] for name in ("blue", "red")}

    def label() -> int:
        return int.from_bytes(middle.told()["7:7 10.1.0.5/32"].extra, "big") >> 4

    assert label() == labels["blue"]
    middle.drop("association", "a-blue")
    middle.settle()
    assert label() == labels["red"]
    middle.want(bind("a", "blue"))
    middle.settle()
    assert label() == middle.held()[("label", "blue")]
    middle.want(Removal("association", "a-blue"), Removal("association", "a-red"))
    middle.settle()
    assert middle.told() == {}


def test_a_route_that_stood_behind_anothers_is_known_as_its_segments_own_even_after_a_sweep():
    middle = settled(vpn("a", "1:1", route_distinguishers=("7:7",)), vpn("c", "1:1"))
    for name, bound in (("blue", "a"), ("red", "a"), ("third", "c")):
        middle.want(*network(name, gateway=None), port(f"p-{name}", name, "10.1.0.5"), bind(bound, name))
    middle.settle()
    middle.now += TUNNEL_SWEEP_S
    middle.settle()
    middle.drop("association", "a-blue")
    middle.settle()
    assert middle.routes("red") == {"10.1.0.5/32": ((OnBridge("red", packed("10.1.0.5")),),)}


def test_neighbours_are_handed_over_when_a_network_gains_and_loses_an_l2_vpn():
    middle = settled(*RED, port("p2", "red", "10.1.0.6"), bind("a", "red"), vpn("l2", "1:2", type="l2"))
    middle.hear_mac("02:00:00:00:00:99", "1:2", address="10.1.0.99")
    local = {("red", packed(f"10.1.0.{n}")): MAC[:-1] + bytes([0x2C + n]) for n in (5, 6)}
    remote = {("red", packed("10.1.0.99")): bytes.fromhex("020000000099")}
    assert middle.desired.neighbours.rows == local
    middle.want(bind("l2", "red"), Removal("port", "p2"))
    middle.settle()
    del local[("red", packed("10.1.0.6"))]
    assert middle.desired.neighbours.rows == local | remote
    middle.drop("association", "l2-red")
    middle.settle()
    assert middle.desired.neighbours.rows == local
    middle.drop("association", "a-red")
    middle.settle()
    assert middle.desired.neighbours.rows == {}


def test_a_port_that_does_not_forward_is_no_neighbour_after_the_handover():
    middle = settled(*RED, port("p2", "red", "10.1.0.6"), bind("a", "red"), vpn("l2", "1:2", type="l2"))
    middle.fail(("attachment", "p2"))
    middle.want(bind("l2", "red"))
    middle.settle()
    assert set(middle.desired.neighbours.rows) == {("red", packed("10.1.0.5"))}


def test_a_network_that_loses_its_l3_vpn_keeps_its_bridge_and_its_evi():
    middle = settled(*RED, bind("a", "red"), vpn("l2", "1:2", type="l2"), bind("l2", "red"))
    vni = middle.held()[("vni", "red")]
    evpn = {nlri for nlri in middle.told() if nlri.startswith("[")}
    middle.drop("association", "a-red")
    middle.settle()
    assert kinds(middle) == {"bridge": {"red"}, "attachment": {"p1"}, "vxlan": {str(vni)}}
    assert set(middle.told()) == evpn
    assert set(middle.held()) == {("bridge", "red"), ("vni", "red"), ("rd", "evi red")}


def test_a_changed_vni_makes_the_evi_anew():
    middle = settled(*RED, vpn("l2", "1:2", type="l2"), bind("l2", "red"))
    middle.hear_flood("192.0.2.9", "1:2", vni=77)
    middle.settle()
    middle.want(vpn("l2", "1:2", type="l2", vni=55))
    middle.settle()
    assert kinds(middle)["vxlan"] == {"55"}
    assert ("vni", "red") not in middle.held()
    assert middle.desired.floods.rows == {(55, packed("192.0.2.9")): 77}


def test_a_vni_that_moves_from_one_network_to_another_at_once_is_the_others():
    l2 = vpn("l2", "1:2", type="l2", vni=55)
    middle = settled(
        *network("a-net"), *network("b-net"), port("p1", "a-net"), port("p2", "b-net"), l2, bind("l2", "b-net")
    )
    middle.want(Removal("association", "l2-b-net"), bind("l2", "a-net"))
    middle.settle()
    assert middle.desired.objects[("vxlan", "55")] == Vxlan(55, "a-net", packed("10.0.0.1"))
    assert middle.node.instances.failed == {}


def test_a_chosen_vni_that_is_leased_to_another_network_is_refused_until_that_is_gone():
    middle = settled(*network("red"), port("p1", "red"), vpn("auto", "1:1", type="l2"), bind("auto", "red"))
    vni = middle.held()[("vni", "red")]
    chosen = vpn("chosen", "1:2", type="l2", vni=vni)
    middle.want(*network("blue"), port("p2", "blue"), chosen, bind("chosen", "blue"))
    middle.settle()
    assert f"VNI {vni}" in middle.node.instances.failed["segment", "blue"]
    assert ("attachment", "p2") not in middle.desired.objects
    middle.drop("association", "auto-red")
    middle.settle()
    assert middle.node.instances.failed == {}
    assert middle.desired.objects[("vxlan", str(vni))] == Vxlan(vni, "blue", packed("10.0.0.1"))


def test_a_segment_without_a_number_harms_no_other_and_is_built_when_one_is_free():
    middle = Middle(ranges={**RANGES, "label": range(16, 18)}, hold_s=5.0)
    names = ("blue", "green", "red")
    middle.want(vpn("a", "1:1"))
    for name in names:
        middle.want(*network(name), port(f"p-{name}", name, "10.1.0.5"), bind("a", name))
    middle.settle()
    assert set(middle.node.instances.vrfs) == {"blue", "green"}
    assert middle.node.instances.failed == {("vrf", "red"): "no label is free in 16 to 17 for 'red': 2 are in use"}
    middle.drop("association", "a-blue")
    middle.settle()
    assert set(middle.node.instances.failed) == {("vrf", "red")}, "the label rests"
    middle.wall += 60.0
    middle.settle()
    assert (set(middle.node.instances.vrfs), middle.node.instances.failed) == ({"green", "red"}, {})


def test_a_segment_stays_as_it_was_while_it_lacks_a_number_for_more():
    middle = Middle(ranges={**RANGES, "label": range(16, 17)})
    middle.want(*RED, bind("a", "red"))
    middle.settle()
    before = rows(middle)
    middle.want(bind_port("a", "p1", "172.16.0.0/16"))
    middle.settle()
    assert rows(middle) == before
    assert ("vrf", "red") in middle.node.instances.failed
    middle.drop("association", "a-p1")
    middle.settle()
    assert (rows(middle), middle.node.instances.failed) == (before, {})


def test_a_port_bound_straight_to_a_vpn_has_a_vrf_by_itself():
    alone = port("p9", None, "10.9.0.5/24", gateway_ips=("10.9.0.1",))
    middle = settled(vpn("a", "1:1"), alone, bind_port("a", "p9", "172.16.0.0/16"))
    assert set(middle.told()) == {"10.0.0.1:1 10.9.0.5/32", "10.0.0.1:1 172.16.0.0/16"}
    assert middle.desired.objects[("bridge", "p9")].gateways == (Gateway(packed("10.9.0.1"), 24),)  # type: ignore[union-attr]
    assert middle.routes("p9") == {"172.16.0.0/16": ((OnBridge("p9", packed("10.9.0.5")),),)}


def test_an_evi_that_is_made_anew_has_all_its_ports_and_asks_for_broadcast_frames():
    middle = settled(*RED, port("p2", "red", "10.1.0.6"), vpn("l2", "1:2", type="l2"), bind("l2", "red"))
    before = set(middle.told())
    middle.want(vpn("l2", "1:2", type="l2", vni=55))
    middle.settle()
    assert set(middle.told()) == before
    assert {path.extra[10:13] for path in middle.told().values() if path.extra} == {(55).to_bytes(3, "big")}
    assert {path.attributes.pmsi for path in middle.told().values() if not path.extra} == {
        (0, 6, (55).to_bytes(3, "big"), packed("10.0.0.1"))
    }


def test_a_neighbour_goes_from_the_bridge_that_its_port_leaves_for_one_with_an_evi():
    middle = settled(*RED, port("p2", "red", "10.1.0.6"), bind("a", "red"), vpn("l2", "1:2", type="l2"))
    middle.want(bind_port("l2", "p1"))
    middle.settle()
    own = middle.node.segments.endpoints["p1"].segment
    assert set(middle.desired.neighbours.rows) == {("red", packed("10.1.0.6")), (own, packed("10.1.0.5"))}
    middle.drop("association", "l2-p1")
    middle.settle()
    assert set(middle.desired.neighbours.rows) == {("red", packed("10.1.0.6")), ("red", packed("10.1.0.5"))}


def test_one_port_more_is_worked_out_by_itself():
    ports = [port(f"q{n}", "red", f"10.1.0.{n + 10}") for n in range(20)]
    middle = settled(*RED, *ports, bind("a", "red"), vpn("l2", "1:2", type="l2"), bind("l2", "red"))
    middle.want(port("new", "red", "10.1.0.99"))
    assert middle.node.segments.step() == 1
    assert middle.node.instances.step(middle.wall) == 1
    middle.settle()
    assert any(nlri.endswith(" 10.1.0.99/32") for nlri in middle.told())


def test_a_segment_that_lacks_a_number_has_no_attachment_until_it_has_one():
    middle = Middle(ranges={**RANGES, "bridge": range(1, 2)}, hold_s=0.0)
    middle.want(*RED, bind("a", "red"), *network("blue", "10.2.0.0/24", "10.2.0.1"), port("p2", "blue", "10.2.0.5"))
    middle.settle()
    middle.want(bind("a", "blue"))
    middle.settle()
    assert ("attachment", "p2") not in middle.desired.objects
    middle.drop("association", "a-red")
    middle.settle()
    middle.wall += 60.0
    middle.settle()
    assert middle.desired.objects[("attachment", "p2")] == Attachment("p2", "tap-p2", "", "blue")
