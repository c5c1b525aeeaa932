"""Prefixes over VXLAN (EVPN type 5): what is told, what is used, and what the kernel is to know of other routers."""

from __future__ import annotations

from typing import Any

import pytest

from bgpvpn import views
from bgpvpn.desired import Bridge, InVrf, Labelled, OnBridge, Vxlan
from bgpvpn.objects import Association, ConflictError, IntentError, Router
from bgpvpn.prefixes import destination, prefix_extra, prefix_key
from speaker.values import Family, RouteDistinguisher, prefix_bytes
from speaker.wire.community import encapsulation, router_mac, routers_mac
from tests.fakes.middle import Middle, bind, bind_port, network, packed, port, vpn

MAC = bytes.fromhex("020000000909")
FURTHER = (encapsulation(8), routers_mac(MAC))
RED = (*network("red"), port("p1", "red", "10.1.0.5"), vpn("a", "1:1", technique=["evpn-prefix"], vni=5000))
OVERLAY = "l3/red"


def overlaid(*further: Any) -> Middle:
    middle = Middle()
    middle.want(*RED, bind("a", "red"), *further)
    middle.settle()
    return middle


def hear(middle: Middle, prefix: str, *targets: str, vtep: str = "192.0.2.9", vni: int = 900, **more: Any) -> None:
    """A peer announces a prefix over VXLAN."""
    further = more.pop("further", FURTHER)
    size = 16 if ":" in prefix else 4
    key = prefix_key(RouteDistinguisher.parse("64512:9").wire, prefix_bytes(prefix), size)
    extra = more.pop("extra", prefix_extra(vni, size))
    middle.evpn().put(key, middle.attributes(vtep, targets, further, **more).path(extra))


def test_an_address_is_told_with_the_vni_of_the_vrf_and_the_mac_of_the_router():
    middle = overlaid()
    (route, path), *others = middle.told(Family.EVPN).items()
    assert others == []
    assert route.endswith("[0]:[32]:[10.1.0.5]")
    assert int.from_bytes(path.extra[-3:], "big") == 5000
    assert path.extra[:-3] == bytes(14), "no segment and no gateway"
    assert router_mac(path.attributes.ext_communities) == b"\x02\x00" + packed("10.0.0.1")
    assert middle.told(Family.VPNV4) == {}, "MPLS is not among the techniques of the VPN"


def test_a_vpn_of_both_techniques_is_told_both_ways_and_led_both_ways():
    middle = Middle()
    middle.want(*RED[:-1], vpn("a", "1:1", technique=["ipvpn", "evpn-prefix"]), bind("a", "red"))
    hear(middle, "10.8.0.0/16", "1:1")
    middle.hear("10.9.0.0/16", "1:1")
    middle.settle()
    assert len(middle.told(Family.EVPN)) == len(middle.told(Family.VPNV4)) == 1
    assert middle.routes("red") == {
        "10.8.0.0/16": ((OnBridge(OVERLAY, packed("192.0.2.9")),),),
        "10.9.0.0/16": ((Labelled(packed("192.0.2.9"), 900),),),
    }


def test_of_one_prefix_over_both_the_better_one_is_taken():
    middle = Middle()
    middle.want(*RED[:-1], vpn("a", "1:1", technique=["ipvpn", "evpn-prefix"]), bind("a", "red"))
    hear(middle, "10.9.0.0/16", "1:1", local_pref=200)
    middle.hear("10.9.0.0/16", "1:1")
    middle.settle()
    first, second = middle.routes("red")["10.9.0.0/16"]
    assert (first, second) == ((OnBridge(OVERLAY, packed("192.0.2.9")),), (Labelled(packed("192.0.2.9"), 900),))
    middle.evpn().discard(prefix_key(RouteDistinguisher.parse("64512:9").wire, prefix_bytes("10.9.0.0/16"), 4))
    middle.settle()
    assert middle.routes("red")["10.9.0.0/16"] == ((Labelled(packed("192.0.2.9"), 900),),)


def test_the_kernel_is_to_know_the_router_of_a_prefix_by_its_vtep_with_its_mac_and_its_vni():
    middle = overlaid()
    hear(middle, "10.9.0.0/16", "1:1")
    hear(middle, "2001:db8:9::/48", "1:1")
    middle.settle()
    mapped = packed("::ffff:192.0.2.9")
    assert middle.routes("red")["2001:db8:9::/48"] == ((OnBridge(OVERLAY, mapped),),)
    assert middle.desired.macs.rows == {(5000, MAC): (packed("192.0.2.9"), 900)}
    assert {at: mac for at, mac in middle.desired.neighbours.rows.items() if at[0] == OVERLAY} == {
        (OVERLAY, packed("192.0.2.9")): MAC,
        (OVERLAY, mapped): MAC,
    }
    bridge, vxlan = (middle.desired.objects[at] for at in (("bridge", OVERLAY), ("vxlan", "5000")))
    assert isinstance(bridge, Bridge)
    assert (bridge.vrf, bridge.gateways) == ("red", ())
    assert isinstance(vxlan, Vxlan)
    assert vxlan.bridge == OVERLAY


def test_a_router_that_tells_another_mac_is_known_by_that_and_one_that_is_gone_by_none():
    middle = overlaid()
    hear(middle, "10.9.0.0/16", "1:1")
    middle.settle()
    other = bytes.fromhex("020000000a0a")
    hear(middle, "10.9.0.0/16", "1:1", further=(encapsulation(8), routers_mac(other)))
    middle.settle()
    assert list(middle.desired.macs) == [(5000, other)]
    middle.evpn().discard_all(list(middle.evpn().rows))
    middle.settle()
    middle.now += 120.0
    middle.settle()
    assert list(middle.desired.macs) == []
    assert [at for at in middle.desired.neighbours if at[0] == OVERLAY] == []


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"further": (encapsulation(8),)}, "no MAC of its router"),
        ({"further": (encapsulation(2), routers_mac(MAC))}, "is not VXLAN"),
        ({"vni": 0}, "VNI 0"),
        ({"extra": bytes(10) + packed("10.9.9.9") + (900).to_bytes(3, "big")}, "by way of another route"),
        ({"extra": b"\x01" * 10 + bytes(4) + (900).to_bytes(3, "big")}, "by way of another route"),
        ({"vtep": "2001:db8::9"}, "another address family"),
        ({"vtep": "10.0.0.1"}, "this node itself"),
    ],
)
def test_a_prefix_that_cannot_be_used_is_refused_with_a_reason(fields: dict[str, Any], reason: str):
    middle = overlaid()
    hear(middle, "10.9.0.0/16", "1:1", **fields)
    middle.settle()
    assert middle.routes("red") == {}
    (instance,) = views.explain_prefix(middle.node, "10.9.0.0/16", {}, {})["instances"]
    (candidate,) = instance["candidates"]
    assert reason in candidate["verdict"]


def test_two_vrfs_of_one_vpn_on_a_node_lead_to_each_other_and_each_to_others_by_its_own_vni():
    middle = overlaid(*network("blue", "10.2.0.0/24", "10.2.0.1"), port("p2", "blue", "10.2.0.5"))
    middle.want(vpn("b", "1:1", technique=["evpn-prefix"]), bind("b", "blue"))
    hear(middle, "10.9.0.0/16", "1:1")
    middle.settle()
    assert middle.routes("red")["10.2.0.5/32"] == ((InVrf("blue"),),)
    assert middle.routes("blue")["10.1.0.5/32"] == ((InVrf("red"),),)
    assert middle.routes("blue")["10.9.0.0/16"] == ((OnBridge("l3/blue", packed("192.0.2.9")),),)
    assert len({vni for vni, _ in middle.desired.macs}) == 2


def test_a_vni_that_another_vrf_has_is_refused_with_its_name():
    middle = overlaid(*network("blue", "10.2.0.0/24", "10.2.0.1"), port("p2", "blue", "10.2.0.5"), bind("a", "blue"))
    failed = middle.node.instances.failed
    assert list(failed) == [("vrf", "red")] or list(failed) == [("vrf", "blue")]
    assert "VNI 5000" in next(iter(failed.values()))


def test_vpns_with_different_vnis_are_not_bound_to_one_network_or_by_its_router():
    other = vpn("b", "1:2", technique=["evpn-prefix"], vni=5001)
    router = Router(id="r", subnet_ids=["red-s"])  # type: ignore[arg-type]
    words = r"would be in VPNs with different VNIs: a \(VNI 5000\), b \(VNI 5001\)"
    with pytest.raises(ConflictError, match=words):
        overlaid(other, bind("b", "red"))
    with pytest.raises(ConflictError, match=words):
        overlaid(other, bind_port("b", "p1"))
    middle = Middle()
    middle.want(*RED, other, router, Association(id="x", bgpvpn_id="a", router_id="r"))
    with pytest.raises(ConflictError, match=words):
        middle.want(Association(id="y", bgpvpn_id="b", router_id="r"))


def test_a_vpn_that_goes_over_to_mpls_leaves_nothing_of_its_overlay():
    middle = overlaid()
    hear(middle, "10.9.0.0/16", "1:1")
    middle.settle()
    middle.want(vpn("a", "1:1"))
    middle.settle()
    assert middle.told(Family.EVPN) == {}
    assert len(middle.told(Family.VPNV4)) == 1
    assert middle.routes("red") == {}
    assert list(middle.desired.macs) == []
    assert ("bridge", OVERLAY) not in middle.desired.objects
    assert [at for at in middle.desired.neighbours if at[0] == OVERLAY] == []


def test_prefixes_behind_a_port_and_subnets_are_told_over_vxlan_too():
    middle = Middle()
    both = vpn("a", "1:1", technique=["evpn-prefix"], aggregate="both")
    middle.want(*RED[:-1], both, bind("a", "red"), bind_port("a", "p1", "172.16.0.0/16"))
    middle.settle()
    assert {route.partition(":[0]:")[2] for route in middle.told(Family.EVPN)} == {
        "[32]:[10.1.0.5]",
        "[24]:[10.1.0.0]",
        "[16]:[172.16.0.0]",
    }


def test_a_key_is_read_back_to_its_prefix():
    for text, family in (("10.9.0.0/16", Family.VPNV4), ("0.0.0.0/0", Family.VPNV4), ("2001:db8::/33", Family.VPNV6)):
        size = 4 if family is Family.VPNV4 else 16
        assert destination(prefix_key(bytes(8), prefix_bytes(text), size)) == (family, prefix_bytes(text))
    assert destination(b"\x02" + bytes(33)) is None


def test_only_a_vpn_over_vxlan_has_a_vni():
    with pytest.raises(IntentError, match="vni"):
        vpn("a", "1:1", vni=5)
