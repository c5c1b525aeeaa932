"""Routers in VPNs, by what a whole node makes of them."""

from __future__ import annotations

import itertools

import attrs
import pytest

from bgpvpn.desired import Gateway, InVrf, LabelRoute, OnBridge
from bgpvpn.intent import Subnet
from bgpvpn.objects import ConflictError
from bgpvpn.statuses import verdict
from tests.fakes.middle import Middle, bind, bind_port, bind_router, network, packed, port, router, vpn

R = "router/r"
NETWORKS = (
    *network("n1"),
    *network("n2", "10.2.0.0/24", "10.2.0.1"),
    port("p1", "n1", "10.1.0.5"),
    port("p2", "n2", "10.2.0.5"),
)
HUB = vpn("hub", import_targets=("1:1",), export_targets=("1:2",))
"""It hears nothing of what it says."""

EXTRA = {"172.16.0.0/16": "10.1.0.5"}


def settled(*wishes: object) -> Middle:
    middle = Middle()
    middle.want(*NETWORKS, *wishes)  # type: ignore[arg-type]
    middle.settle()
    return middle


def test_all_networks_of_a_router_share_a_vrf_whatever_the_route_targets():
    middle = settled(HUB, router("r", "n1", "n2"), bind_router("hub", "r"))
    assert set(middle.node.instances.vrfs) == {R}
    bridges = [middle.desired.objects[("bridge", name)] for name in ("n1", "n2")]
    assert {bridge.vrf for bridge in bridges} == {R}  # type: ignore[union-attr]
    assert [bridge.gateways for bridge in bridges] == [  # type: ignore[union-attr]
        (Gateway(packed("10.1.0.1"), 24),),
        (Gateway(packed("10.2.0.1"), 24),),
    ]
    assert middle.said() == {f"10.0.0.1:1 10.{n}.0.5/32": ({"1:2"}, None) for n in (1, 2)}
    assert {label for pool, label in middle.held() if pool == "label"} == {R}
    assert middle.node.interest.targets.rows.keys() == {bytes.fromhex("0002000100000001")}


def test_a_router_that_leaves_a_vpn_or_a_network_takes_everything_back():
    for way in ("association", "interface", "router"):
        middle = settled(HUB, router("r", "n1", "n2", routes=EXTRA), bind_router("hub", "r"))
        assert set(middle.told()) == {f"10.0.0.1:1 {each}" for each in ("10.1.0.5/32", "10.2.0.5/32", "172.16.0.0/16")}
        if way == "association":
            middle.drop("association", "hub-r")
        elif way == "interface":
            middle.want(router("r", "n2"))
        else:
            middle.drop("router", "r")
        middle.settle()
        assert set(middle.told()) == ({"10.0.0.1:1 10.2.0.5/32"} if way == "interface" else set()), way
        assert set(middle.node.instances.vrfs) == ({R} if way == "interface" else set()), way


def test_a_router_that_is_down_brings_its_networks_nowhere():
    middle = settled(HUB, router("r", "n1", "n2", admin_state_up=False), bind_router("hub", "r"))
    assert middle.told() == {}
    assert verdict(middle.node, "router", "r") == ("DOWN", "administratively down")
    assert verdict(middle.node, "association", "hub-r") == ("DOWN", "administratively down")
    middle.want(router("r", "n1", "n2"))
    middle.settle()
    assert len(middle.told()) == 2
    assert verdict(middle.node, "association", "hub-r") == ("ACTIVE", "")


def test_a_subnet_that_is_not_on_the_router_is_neither_announced_nor_routed():
    beside = Subnet(id="beside", network_id="n1", cidr="10.9.0.0/24", gateway_ip="10.9.0.1")
    of_both = port("p3", "n1", "10.9.0.5", "10.1.0.6")
    middle = settled(beside, of_both, HUB, router("r", "n1"), bind_router("hub", "r"))
    assert set(middle.told()) == {"10.0.0.1:1 10.1.0.5/32", "10.0.0.1:1 10.1.0.6/32"}
    assert middle.desired.objects[("bridge", "n1")].gateways == (Gateway(packed("10.1.0.1"), 24),)  # type: ignore[union-attr]
    assert middle.routes(R) == {}
    middle.want(attrs.evolve(router("r", "n1"), subnet_ids=("n1-s", "beside")))
    middle.settle()
    assert "10.0.0.1:1 10.9.0.5/32" in middle.told()
    assert len(middle.desired.objects[("bridge", "n1")].gateways) == 2  # type: ignore[union-attr]


def test_two_networks_of_a_router_may_have_one_address_where_it_does_not_lead():
    beside = [Subnet(id=f"b{n}", network_id=f"n{n}", cidr="10.9.0.0/24", gateway_ip=None) for n in (1, 2)]
    middle = settled(*beside, port("p3", "n1", "10.9.0.5"), port("p4", "n2", "10.9.0.5"), HUB, router("r", "n1", "n2"))
    middle.want(bind_router("hub", "r"))
    middle.settle()
    assert middle.routes(R) == {}
    assert set(middle.told()) == {"10.0.0.1:1 10.1.0.5/32", "10.0.0.1:1 10.2.0.5/32"}


def test_a_subnet_that_is_not_on_the_router_is_routed_for_a_port_that_is_bound_by_itself():
    beside = Subnet(id="beside", network_id="n1", cidr="10.9.0.0/24", gateway_ip="10.9.0.1")
    more = vpn("more", "1:9")
    middle = settled(beside, port("p3", "n1", "10.9.0.5"), HUB, more, router("r", "n1"), bind_router("hub", "r"))
    middle.want(bind_port("more", "p3"))
    middle.settle()
    own = middle.node.segments.endpoints["p3"].segment
    assert own != "n1"
    assert len(middle.node.segments.segments[own].gateways) == 2
    assert [nlri for nlri in middle.told() if "10.9.0.5" in nlri]
    assert len(middle.node.segments.segments["n1"].gateways) == 1


def test_extra_routes_are_announced_with_the_label_of_their_next_hop():
    middle = settled(HUB, router("r", "n1", "n2", routes=EXTRA), bind_router("hub", "r"))
    label = middle.held()[("label", f"{R} p1 {packed('10.1.0.5').hex()}")]
    assert middle.desired.objects[("label", str(label))] == LabelRoute(label, "n1", packed("10.1.0.5"))
    assert int.from_bytes(middle.told()["10.0.0.1:1 172.16.0.0/16"].extra, "big") >> 4 == label
    assert middle.routes(R) == {"172.16.0.0/16": ((OnBridge("n1", packed("10.1.0.5")),),)}
    middle.fail(("attachment", "p1"))
    assert "10.0.0.1:1 172.16.0.0/16" not in middle.told()


def test_extra_routes_that_shall_not_be_announced_are_forwarded_all_the_same():
    middle = settled(HUB, router("r", "n1", "n2", routes=EXTRA), bind_router("hub", "r", advertise_extra_routes=False))
    assert set(middle.told()) == {"10.0.0.1:1 10.1.0.5/32", "10.0.0.1:1 10.2.0.5/32"}
    assert middle.routes(R) == {"172.16.0.0/16": ((OnBridge("n1", packed("10.1.0.5")),),)}
    middle.want(bind_router("hub", "r"))
    middle.settle()
    assert "10.0.0.1:1 172.16.0.0/16" in middle.told()


def test_an_extra_route_whose_next_hop_is_not_on_this_node_is_not_ours():
    middle = settled(HUB, router("r", "n1", "n2", routes={"172.16.0.0/16": "10.1.0.77"}), bind_router("hub", "r"))
    assert len(middle.told()) == 2
    assert middle.routes(R) == {}


def test_extra_routes_of_two_next_hops_are_shared():
    two = [{"destination": "172.16.0.0/16", "nexthop": hop} for hop in ("10.1.0.5", "10.2.0.5")]
    middle = settled(HUB, attrs.evolve(router("r", "n1", "n2"), routes=two), bind_router("hub", "r"))
    hops = (OnBridge("n1", packed("10.1.0.5")), OnBridge("n2", packed("10.2.0.5")))
    assert middle.routes(R)["172.16.0.0/16"] == (hops,)
    label = middle.held()[("label", R)]
    assert int.from_bytes(middle.told()["10.0.0.1:1 172.16.0.0/16"].extra, "big") >> 4 == label
    middle.fail(("attachment", "p2"))
    assert middle.routes(R)["172.16.0.0/16"] == (hops[:1],)


def test_extra_routes_beyond_what_the_vpn_takes_are_refused_in_their_order_and_the_status_says_so():
    extra = {f"172.{n}.0.0/16": "10.1.0.5" for n in (20, 16, 18)}
    limited = attrs.evolve(HUB, max_prefixes=2)
    middle = settled(limited, router("r", "n1", routes=extra), bind_router("hub", "r"))
    assert {nlri.split()[1] for nlri in middle.told() if "172" in nlri} == {"172.20.0.0/16", "172.16.0.0/16"}
    assert set(middle.routes(R)) == set(extra), "they are forwarded"
    assert verdict(middle.node, "association", "hub-r") == (
        "ACTIVE",
        "172.18.0.0/16 is not announced: VPN 'hub' takes at most 2 of an association",
    )
    middle.want(attrs.evolve(HUB, allowed_prefixes=("172.18.0.0/15",)))
    middle.settle()
    assert {nlri.split()[1] for nlri in middle.told() if "172" in nlri} == {"172.18.0.0/16"}
    assert "takes prefixes within" in verdict(middle.node, "association", "hub-r")[1]


def test_a_port_with_more_vpns_than_its_router_has_a_vrf_beside_that_of_the_router():
    middle = settled(
        HUB, vpn("b", "1:9"), router("r", "n1", "n2"), bind_router("hub", "r"), bind_port("b", "p1"),
    )  # fmt: skip
    own = next(name for name in middle.node.instances.vrfs if name != R)
    assert own.startswith(f"{R}+")
    assert {nlri.split()[1]: targets for nlri, (targets, _) in middle.said().items()} == {
        "10.1.0.5/32": {"1:2", "1:9"},
        "10.2.0.5/32": {"1:2"},
    }
    middle.want(bind_port("b", "p2"))
    middle.settle()
    assert set(middle.node.instances.vrfs) == {own}, "ports of several networks of the router meet there as well"


def test_who_imports_what_a_router_says_looks_up_in_its_vrf():
    other = (*network("n3", "10.3.0.0/24", "10.3.0.1"), port("p3", "n3", "10.3.0.5"), vpn("spoke", "1:2"))
    middle = settled(*other, HUB, router("r", "n1", "n2"), bind_router("hub", "r"), bind("spoke", "n3"))
    assert middle.routes("n3") == {f"10.{n}.0.5/32": ((InVrf(R),),) for n in (1, 2)}


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_network_is_not_in_l3_vpns_by_itself_and_by_its_router_in_whatever_order(order: tuple[int, ...]):
    wishes = [bind("hub", "n2"), bind_router("hub", "r"), router("r", "n1", "n2")]
    middle = Middle()
    middle.want(*NETWORKS, HUB, router("r", "n1"))
    words = "network 'n2' and its router r would both be in l3 VPNs"
    with pytest.raises(ConflictError, match=words):
        middle.want(*(wishes[at] for at in order))
    for at in order[:2]:
        middle.want(wishes[at])
    with pytest.raises(ConflictError, match=words):
        middle.want(wishes[order[2]])


def test_a_network_may_be_in_an_l2_vpn_beside_its_router_in_an_l3_one():
    middle = settled(HUB, vpn("e", "1:9", type="l2"), router("r", "n1", "n2"), bind_router("hub", "r"), bind("e", "n1"))
    assert {kind for kind, _ in middle.desired.objects} == {"vrf", "bridge", "attachment", "vxlan", "tunnel"}
    assert middle.desired.objects[("bridge", "n1")].vrf == R  # type: ignore[union-attr]
    middle.drop("association", "hub-r")
    middle.settle()
    assert middle.desired.objects[("bridge", "n1")].vrf is None  # type: ignore[union-attr]
    assert set(middle.node.instances.evis) == {"n1"}


def test_a_network_is_in_l3_vpns_by_one_router_only():
    middle = Middle()
    other = Subnet(id="other", network_id="n1", cidr="10.9.0.0/24")
    second = attrs.evolve(router("s", "n2"), subnet_ids=("other",))
    middle.want(*NETWORKS, other, HUB, router("r", "n1", "n2"), second, bind_router("hub", "r"))
    with pytest.raises(ConflictError, match="network 'n1' would be in l3 VPNs by several routers: r, s"):
        middle.want(bind_router("hub", "s"))


def test_numbers_of_a_router_are_the_same_after_a_restart_in_any_order():
    bound = (bind_router("hub", "r"), bind_router("b", "r"), bind_port("c", "p1", "172.30.0.0/16"))
    made = (HUB, vpn("b", "1:3", local_pref=7), vpn("c", "1:4"), router("r", "n1", "n2", routes=EXTRA))
    before = settled(*made, *bound)
    for order in itertools.permutations(bound):
        after = Middle(leases=before.kept())
        after.want(*NETWORKS[2:4], *NETWORKS[:2], *reversed(NETWORKS[4:]), *made, *order)
        after.settle()
        assert after.kept() == before.kept()
        assert after.desired.objects.rows == before.desired.objects.rows
        assert after.said() == before.said()
