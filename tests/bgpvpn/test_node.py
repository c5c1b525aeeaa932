"""The stages of a node that are about all segments: tunnels, RT membership, and the share of work of one step."""

from __future__ import annotations

from bgpvpn.desired import Tunnel
from bgpvpn.instance import NodeIdentity
from bgpvpn.node import TUNNEL_SWEEP_S
from speaker.values import Family, RouteTarget
from tests.fakes.middle import SELF, Middle, bind, bind_port, network, packed, port, vpn

V6 = packed("2001:db8::1")
RED = (*network("red"), port("p1", "red", "10.1.0.5"), vpn("a", "1:1"), bind("a", "red"))


def tunnels(middle: Middle) -> set[str]:
    """Return the remote addresses of the tunnels, in hex."""
    return {name for kind, name in middle.desired.objects if kind == "tunnel"}


def memberships(middle: Middle) -> set[str]:
    return set(middle.told(Family.RTC))


def test_there_is_one_tunnel_for_each_pe_that_a_route_leads_to_and_one_to_receive_from_all():
    middle = Middle()
    middle.settle()
    assert tunnels(middle) == set()
    middle.want(*RED)
    middle.settle()
    assert tunnels(middle) == {"00000000"}
    for number in range(6):
        middle.hear(f"10.8.{number}.0/24", "1:1", pe=f"192.0.2.{number % 2}", label=100 + number)
    middle.hear("10.9.0.0/16", "9:9", pe="192.0.2.9")
    middle.settle()
    assert tunnels(middle) == {"00000000", "c0000200", "c0000201"}
    assert middle.desired.objects[("tunnel", "c0000200")] == Tunnel(SELF, packed("192.0.2.0"))


def test_a_node_with_both_addresses_receives_by_both():
    middle = Middle(identity=NodeIdentity(SELF, SELF, V6))
    middle.want(*RED)
    middle.settle()
    assert middle.desired.objects[("tunnel", bytes(16).hex())] == Tunnel(V6, bytes(16))
    assert middle.desired.objects[("tunnel", bytes(4).hex())] == Tunnel(SELF, bytes(4))


def test_there_is_no_tunnel_to_the_node_itself():
    middle = Middle()
    middle.want(*RED)
    middle.hear("10.8.0.0/24", "1:1", pe="10.0.0.1")
    middle.settle()
    assert (tunnels(middle), middle.routes("red")) == ({"00000000"}, {})


def test_a_tunnel_outlives_its_last_route_until_the_next_sweep_and_comes_back_with_a_route():
    middle = Middle()
    middle.want(*RED)
    middle.hear("10.8.0.0/24", "1:1", pe="192.0.2.1")
    middle.hear("10.8.1.0/24", "1:1", pe="192.0.2.2")
    middle.settle()
    for _ in range(2):
        middle.lose("10.8.0.0/24")
        middle.settle()
        assert "c0000201" in tunnels(middle)
        middle.now += TUNNEL_SWEEP_S
        middle.settle()
        assert tunnels(middle) == {"00000000", "c0000202"}
        middle.hear("10.8.0.0/24", "1:1", pe="192.0.2.1")
        middle.settle()
        assert tunnels(middle) == {"00000000", "c0000201", "c0000202"}


def test_a_tunnel_is_kept_for_a_backup_and_not_for_what_is_worse():
    middle = Middle()
    middle.want(*RED)
    for number in range(1, 4):
        middle.hear("10.8.0.0/24", "1:1", rd=f"9:{number}", pe=f"192.0.2.{number}", local_pref=100 - number)
    middle.settle()
    for lost, left in [((), {"c0000201", "c0000202"}), (("9:1",), {"c0000202", "c0000203"}), (("9:2",), {"c0000203"})]:
        for rd in lost:
            middle.lose("10.8.0.0/24", rd=rd)
        middle.settle()
        assert left <= tunnels(middle)
        middle.now += TUNNEL_SWEEP_S
        middle.settle()
        assert tunnels(middle) == {"00000000"} | left


def test_the_last_vrf_takes_all_tunnels_with_it():
    middle = Middle()
    middle.want(*RED)
    middle.hear("10.8.0.0/24", "1:1")
    middle.settle()
    middle.drop("association", "a-red")
    middle.settle()
    assert tunnels(middle) == set()
    middle.want(bind("a", "red"))
    middle.settle()
    assert tunnels(middle) == {"00000000", packed("192.0.2.9").hex()}


def test_vxlan_needs_no_tunnel():
    middle = Middle()
    middle.want(*network("red"), port("p1", "red"), vpn("l2", "1:1", type="l2"), bind("l2", "red"))
    middle.hear_mac("02:00:00:00:00:99", "1:1")
    middle.settle()
    assert tunnels(middle) == set()


def test_memberships_follow_the_imports_and_say_when_there_are_more_or_fewer():
    middle = Middle()
    stage = middle.node.memberships
    middle.want(*RED, vpn("x", export_targets=("1:9",)), bind("x", "red"))
    middle.settle()
    assert memberships(middle) == {"64512 1:1"}
    assert (stage.grown, stage.shrunk) == (True, False)
    stage.grown = False
    middle.want(vpn("b", "1:1", "1:2"), bind_port("b", "p1"))
    middle.settle()
    assert memberships(middle) == {"64512 1:1", "64512 1:2"}
    assert (stage.grown, stage.shrunk) == (True, False)
    stage.grown = False
    middle.drop("association", "a-red")
    middle.settle()
    assert (stage.grown, stage.shrunk) == (False, False), "the other VPN imports it too"
    middle.drop("association", "b-p1")
    middle.settle()
    assert memberships(middle) == set()
    assert (stage.grown, stage.shrunk) == (False, True)


def test_who_wants_everything_says_so_in_one_membership_and_goes_back_to_its_own_targets():
    middle = Middle()
    stage = middle.node.memberships
    middle.want(*RED)
    middle.settle()
    stage.everything = True
    middle.settle()
    assert memberships(middle) == {"default"}
    stage.grown = False
    middle.want(vpn("b", "1:2"), bind_port("b", "p1"))
    middle.settle()
    assert memberships(middle) == {"default"}
    assert (stage.grown, stage.shrunk) == (True, False), "what is imported has grown all the same"
    stage.everything = False
    middle.settle()
    assert memberships(middle) == {"64512 1:1", "64512 1:2"}


def test_a_membership_route_names_our_as_and_the_whole_target():
    middle = Middle()
    middle.want(*RED)
    middle.settle()
    (key,) = middle.node.rib.table(Family.RTC, "local").rows
    assert key == (64512).to_bytes(4, "big") + RouteTarget.parse("1:1").wire + bytes([96])


def test_a_step_takes_its_share_and_the_next_ones_the_rest():
    middle = Middle()
    middle.want(*RED)
    middle.settle()
    for number in range(100):
        middle.hear(f"10.8.{number}.0/24", "1:1")
    done = []
    while step := middle.node.step(0.0, 0.0, 10):
        done.append(step)
    assert len(middle.routes("red")) == 100
    assert len(done) >= 10
    assert max(done) <= 30


def test_a_settled_node_does_nothing():
    middle = Middle()
    middle.want(*RED)
    middle.hear("10.8.0.0/24", "1:1")
    middle.settle()
    assert middle.node.step(1.0, 1.0) == 0
    middle.want(*RED)
    middle.hear("10.8.0.0/24", "1:1")
    assert middle.node.step(2.0, 2.0) == 0, "all that is so already"
