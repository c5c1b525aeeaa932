from __future__ import annotations

import pytest

from bgpvpn.desired import Gateway
from bgpvpn.intent import Association, Intent, Network, Port, Removal, Subnet
from bgpvpn.segment import Segments
from tests.fakes.middle import bind, bind_port, network, packed, port, vpn

BASE = (*network("red"), port("p1", "red", "10.1.0.5"), port("p2", "red", "10.1.0.6"), vpn("a", "1:1"), vpn("b", "1:2"))


class Wanted:
    """Intent and the segments made of it."""

    def __init__(self, *wishes: object) -> None:
        self.intent = Intent()
        self.stage = Segments(self.intent)
        self.want(*wishes)

    def want(self, *wishes: object) -> int:
        self.intent.apply(self.intent.plan(wishes, 0.0))  # type: ignore[arg-type]
        return self.stage.step()

    def members(self) -> dict[str, tuple[set[str], set[str]]]:
        """Return for each segment its VPNs and its ports."""
        return {
            name: (
                {each.id for each in segment.vpns},
                {port for port, endpoint in self.stage.endpoints.rows.items() if endpoint.segment == name},
            )
            for name, segment in self.stage.segments.rows.items()
        }


def test_a_network_becomes_a_segment_when_it_is_bound_to_a_vpn():
    wanted = Wanted(*BASE)
    assert wanted.members() == {}
    wanted.want(bind("a", "red"))
    assert wanted.members() == {"red": ({"a"}, {"p1", "p2"})}
    wanted.want(Removal("association", "a-red"))
    assert wanted.members() == {}


def test_a_network_without_ports_on_this_node_is_no_segment():
    wanted = Wanted(*network("red"), vpn("a", "1:1"), bind("a", "red"))
    assert wanted.members() == {}
    wanted.want(port("p1", "red"))
    assert wanted.members() == {"red": ({"a"}, {"p1"})}


def test_a_port_with_more_vpns_than_its_network_is_a_segment_of_its_own_kind():
    wanted = Wanted(*BASE, port("p3", "red", "10.1.0.7"), bind("a", "red"), bind_port("b", "p1"))
    own = next(name for name in wanted.members() if name != "red")
    assert own.startswith("red+")
    assert wanted.members() == {"red": ({"a"}, {"p2", "p3"}), own: ({"a", "b"}, {"p1"})}
    wanted.want(bind_port("b", "p3"))
    assert wanted.members() == {"red": ({"a"}, {"p2"}), own: ({"a", "b"}, {"p1", "p3"})}, (
        "ports with the same VPNs meet"
    )
    wanted.want(Removal("association", "b-p1"))
    assert wanted.members() == {"red": ({"a"}, {"p1", "p2"}), own: ({"a", "b"}, {"p3"})}


def test_a_port_bound_to_a_vpn_of_its_network_stays_where_it_is():
    wanted = Wanted(*BASE, bind("a", "red"), bind_port("a", "p1", "172.16.0.0/16"))
    assert wanted.members() == {"red": ({"a"}, {"p1", "p2"})}
    binding = wanted.stage.endpoints["p1"].bindings[0]
    assert (binding.addresses, binding.prefixes) == ((packed("10.1.0.5"),), (((4, bytes((172, 16, 16))), None),))
    assert wanted.stage.endpoints["p2"].bindings[0].prefixes == ()


def test_a_port_without_a_network_is_a_segment_by_itself_with_gateways_of_its_own():
    alone = port("p9", None, "10.9.0.5/24", "2001:db8::5/64", gateway_ips=("10.9.0.1", "2001:db8::1"), name="alone")
    wanted = Wanted(vpn("a", "1:1"), alone, bind_port("a", "p9"))
    assert wanted.members() == {"p9": ({"a"}, {"p9"})}
    segment = wanted.stage.segments["p9"]
    assert segment.title == "alone"
    assert segment.gateways == (Gateway(packed("10.9.0.1"), 24), Gateway(packed("2001:db8::1"), 64))


def test_gateways_are_those_of_the_subnets_of_the_network():
    wanted = Wanted(*BASE, bind("a", "red"))
    wanted.want(Subnet(id="v6", network_id="red", cidr="2001:db8::/64", gateway_ip="2001:db8::1"))
    wanted.want(Subnet(id="silent", network_id="red", cidr="10.2.0.0/24"))
    assert wanted.stage.segments["red"].gateways == (
        Gateway(packed("10.1.0.1"), 24),
        Gateway(packed("2001:db8::1"), 64),
    )
    wanted.want(Removal("subnet", "v6"))
    assert wanted.stage.segments["red"].gateways == (Gateway(packed("10.1.0.1"), 24),)


@pytest.mark.parametrize(
    ("off", "on"),
    [
        (port("p1", "red", "10.1.0.5", admin_state_up=False), port("p1", "red", "10.1.0.5")),
        (vpn("a", "1:1", admin_state_up=False), vpn("a", "1:1")),
    ],
    ids=["port", "vpn"],
)
def test_what_is_administratively_down_is_in_no_segment(off: object, on: object):
    base = (*network("red"), port("p1", "red", "10.1.0.5"), vpn("a", "1:1"), bind("a", "red"))
    wanted = Wanted(*base)
    wanted.want(off)
    assert wanted.members() == {}
    wanted.want(on)
    assert wanted.members() == {"red": ({"a"}, {"p1"})}


def test_an_association_decides_whether_the_addresses_of_a_port_are_announced_into_its_vpn():
    cases = [
        ((bind_port("a", "p1", advertise_fixed_ips=False),), {"a": False}),
        ((bind_port("a", "p1"),), {"a": True}),
        ((bind("a", "red"), bind_port("a", "p1", advertise_fixed_ips=False)), {"a": True}),
        ((bind("a", "red"), bind_port("b", "p1", advertise_fixed_ips=False)), {"a": True, "b": False}),
    ]
    for associations, expected in cases:
        wanted = Wanted(*BASE, *associations)
        bindings = wanted.stage.endpoints["p1"].bindings
        assert {each.bgpvpn_id: bool(each.addresses) for each in bindings} == expected, associations


def test_only_the_network_that_a_change_is_about_is_worked_out_again():
    others = [each for n in range(9) for each in (*network(f"n{n}"), port(f"q{n}", f"n{n}"), bind("a", f"n{n}"))]
    wanted = Wanted(vpn("a", "1:1"), vpn("b", "1:2"), *others)
    assert wanted.want(port("q3", "n3", interface="other")) == 1
    assert wanted.want(bind("b", "n4")) == 1
    assert wanted.want(vpn("a", "1:7")) == 9
    assert wanted.want() == 0


def test_a_port_that_goes_with_its_associations_and_comes_back_elsewhere_is_only_there():
    wanted = Wanted(*BASE, *network("blue"), bind("a", "red"), bind("a", "blue"), bind_port("b", "p1"))
    wanted.want(Removal("port", "p1"), port("p1", "blue", "10.1.0.5"))
    assert wanted.members() == {"red": ({"a"}, {"p2"}), "blue": ({"a"}, {"p1"})}


def test_segments_are_found_by_their_owner():
    association = Association(id="x", bgpvpn_id="b", port_id="p1")
    wanted = Wanted(*BASE, bind("a", "red"), association)
    assert wanted.stage.owners(association) == ["red"]
    assert wanted.stage.owners(wanted.intent.associations["a-red"]) == ["red"]
    assert [segment.name for segment in wanted.stage.of("red")] == sorted(wanted.members())
    assert wanted.stage.of("nobody") == []
    wanted.want(Port(id="alone", interface="x", mac_address="02:00:00:00:00:01"))
    assert wanted.stage.owners(Association(id="y", bgpvpn_id="b", port_id="alone")) == ["alone"]


def test_the_name_of_a_network_is_the_title_of_its_segment():
    wanted = Wanted(*network("n-1", name="Büro"), port("p1", "n-1"), vpn("a", "1:1"), bind("a", "n-1"))
    assert wanted.stage.segments["n-1"].title == "Büro"


def test_a_port_that_comes_to_a_network_that_changed_before_it_is_there():
    wanted = Wanted(*BASE, *network("blue"), bind("a", "red"), bind("a", "blue"))
    wanted.want(Removal("port", "p1"), Network(id="blue", name="changed"), port("p1", "blue", "10.1.0.5"))
    assert wanted.members() == {"red": ({"a"}, {"p2"}), "blue": ({"a"}, {"p1"})}


def test_a_port_that_changes_its_interface_leaves_the_stations_that_it_had_there():
    shared = {"interface": "tap"}
    both = [port(f"p{n}", "red", f"10.1.0.{n + 4}", **shared) for n in (1, 2)]
    wanted = Wanted(*network("red"), *both, vpn("a", "1:1"), vpn("b", "1:2"), bind("a", "red"), bind_port("b", "p1"))
    assert len(wanted.members()) == 1
    wanted.want(port("p1", "red", "10.1.0.5", interface="other"))
    assert wanted.stage.endpoints["p2"].segment == "red"
    assert {id_: each.attachment for id_, each in wanted.stage.endpoints.rows.items()} == {"p1": "p1", "p2": "p2"}
    wanted.want(port("p2", "red", "10.1.0.6", interface="other"))
    assert {each.attachment for each in wanted.stage.endpoints.rows.values()} == {"/other"}
    assert len(wanted.members()) == 1
    wanted.want(Removal("port", "p1"))
    assert wanted.members() == {"red": ({"a"}, {"p2"})}


def test_of_the_ports_of_a_network_only_that_which_changed_is_written_again():
    ports = [port(f"q{n}", "red", f"10.1.0.{n + 10}") for n in range(9)]
    wanted = Wanted(*network("red"), *ports, vpn("a", "1:1"), bind("a", "red"), vpn("b", "1:2"))
    segments, endpoints = wanted.stage.segments.reader(dirty=False), wanted.stage.endpoints.reader(dirty=False)
    wanted.want(port("q3", "red", "10.1.0.99"))
    assert (set(segments.take()), set(endpoints.take())) == (set(), {"q3"})
    wanted.want(Network(id="red", name="changed"))
    assert (set(segments.take()), set(endpoints.take())) == ({"red"}, set())
    wanted.want(bind_port("b", "q4", direction="to-port"))
    assert (set(segments.take()), set(endpoints.take())) == ({"red"}, {"q4"})
    wanted.want(Removal("port", "q5"))
    assert (set(segments.take()), set(endpoints.take())) == (set(), {"q5"})
