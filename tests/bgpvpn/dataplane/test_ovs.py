"""What Open vSwitch shall have, from the tables to the words that `ovs-vsctl` and `ovs-ofctl` are told."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from bgpvpn.dataplane import openflow
from bgpvpn.dataplane.openflow import Flows, Numbers, Surroundings
from bgpvpn.dataplane.ovsdb import Found, Interface, OvsError, Place, place, read, wishes
from bgpvpn.dataplane.plugs import Plug, Plugs
from bgpvpn.intent import Intent, Removal
from bgpvpn.objects import OvsPlug
from bgpvpn.segment import Segments
from tests.fakes.middle import bind, network, port, vpn

ROUTER, SOURCE, GATEWAY = "fa:16:3e:00:00:01", "00:00:5e:2a:10:00", "00:00:5e:00:43:64"
NODE = Surroundings(GATEWAY, "br-tun")
AT = OvsPlug(bridge="br-mpls", port="1", vlan=31, fallback_port="2", fallback_src_mac=SOURCE)
ON_TUN = OvsPlug(bridge="br-tun", port="patch-int", vlan=32)
PLUG = Plug("bp.31", AT, fallback_mac=ROUTER)


# Which plugs there are


class Tables:
    def __init__(self) -> None:
        self.intent = Intent()
        self.segments = Segments(self.intent)
        self.plugs = Plugs(self.segments, self.intent)

    def want(self, *wanted: Any) -> bool:
        self.intent.apply(self.intent.plan(wanted, 0.0))
        self.segments.step()
        return self.plugs.step()


def test_a_port_with_a_plug_has_one_while_it_is_bound_to_a_vpn() -> None:
    tables = Tables()
    assert not tables.want(*network("red", fallback_mac=ROUTER, mtu=1450), vpn("a", "1:1"), port("tap", "red"))
    assert not tables.want(port("p", "red", interface="bp.31", ovs=AT))
    assert tables.want(bind("a", "red"))
    assert tables.plugs.by_interface() == {"bp.31": Plug("bp.31", AT, False, ROUTER, 1450)}
    assert not tables.want(port("p", "red", "10.1.0.5", interface="bp.31", ovs=AT)), "an address is nothing to it"
    assert tables.want(vpn("b", "1:2", type="l2"), bind("b", "red"))
    assert tables.plugs.by_interface()["bp.31"].switched
    assert tables.want(port("p", "red", interface="bp.31", ovs=attrs.evolve(AT, port="3")))
    assert tables.plugs.by_interface()["bp.31"].at.port == "3"
    assert tables.want(Removal("association", "a-red"), Removal("association", "b-red"))
    assert tables.plugs.by_interface() == {}


def test_a_plug_follows_its_network() -> None:
    tables = Tables()
    tables.want(*network("red"), vpn("a", "1:1"), bind("a", "red"), port("p", "red", interface="bp.31", ovs=AT))
    assert tables.want(*network("red", fallback_mac=ROUTER))
    assert tables.plugs.by_interface()["bp.31"].fallback_mac == ROUTER


def test_stations_behind_one_interface_have_one_plug_until_the_last_has_gone() -> None:
    tables = Tables()
    two = [port(id_, "red", interface="bp.31", ovs=AT) for id_ in ("p", "q")]
    tables.want(*network("red"), vpn("a", "1:1"), bind("a", "red"), *two)
    assert len(tables.plugs.by_interface()) == 1
    tables.want(Removal("port", "p"))
    assert len(tables.plugs.by_interface()) == 1
    tables.want(Removal("port", "q"))
    assert not tables.plugs.by_interface()


# What is there


def listed(table: str, *rows: dict[str, Any]) -> str:
    """A list of `ovs-vsctl --format=json`, as it writes single elements of sets too."""
    headings = list(rows[0])
    return json.dumps(
        {"caption": table, "headings": headings, "data": [[row[name] for name in headings] for row in rows]}
    )


def interface(number: int, name: str, ofport: Any, ids: dict[str, str] | None = None, error: Any = None) -> Any:
    return {
        "_uuid": ["uuid", f"i{number}"],
        "name": name,
        "type": "",
        "ofport": ofport,
        "external_ids": ["map", [list(each) for each in (ids or {}).items()]],
        "error": ["set", []] if error is None else error,
        "mtu_request": ["set", []],
    }


NONE: list[Any] = ["set", []]


def test_the_database_is_read_as_ovs_vsctl_writes_it() -> None:
    several = ["set", [["uuid", "p1"], ["uuid", "p2"]]]
    text = "\n".join(
        (
            listed(
                "Bridge",
                {"_uuid": ["uuid", "b1"], "name": "br-mpls", "ports": several},
                {"_uuid": ["uuid", "b2"], "name": "br-tun", "ports": ["uuid", "p3"]},
                {"_uuid": ["uuid", "b3"], "name": "empty", "ports": NONE},
            ),
            listed("Port", *({"_uuid": ["uuid", f"p{n}"], "interfaces": ["uuid", f"i{n}"]} for n in (1, 2, 3))),
            listed(
                "Interface",
                interface(1, "patch", 1),
                interface(2, "bp.31", -1, {"bgpvpn": "plug"}, "File exists"),
                interface(3, "new", NONE),
            ),
        )
    )
    assert read(text) == Found(
        frozenset({"br-mpls", "br-tun", "empty"}),
        {
            "patch": Interface("patch", "br-mpls", 1),
            "bp.31": Interface("bp.31", "br-mpls", None, {"bgpvpn": "plug"}, "File exists"),
            "new": Interface("new", "br-tun", None),
        },
    )


@pytest.mark.parametrize("text", ["", "{}\n{}\n{}", "[]\n[]\n[]", "no JSON", '{"headings": [], "data": [[]]}\n' * 3])
def test_what_is_no_database_is_an_error_that_waits(text: str) -> None:
    with pytest.raises(OvsError, match="database cannot be read"):
        read(text)


def found(*interfaces: Interface, bridges: tuple[str, ...] = ("br-mpls", "br-tun")) -> Found:
    return Found(frozenset(bridges), {each.name: each for each in interfaces})


PATCH, TO_INT = Interface("patch", "br-mpls", 1), Interface("to-int", "br-mpls", 2)
IDS = {"bgpvpn": "plug", "bgpvpn-1": "patch", "bgpvpn-2": "to-int"}
OURS = Interface("bp.31", "br-mpls", 7, IDS)


def test_a_plug_says_what_it_waits_for() -> None:
    elsewhere = Interface("patch", "br-tun", 1)
    for there, reason in [
        (found(bridges=()), "there is no bridge br-mpls in Open vSwitch"),
        (found(PATCH, TO_INT, Interface("bp.31", "br-ex", 3)), "bp.31 is a port of bridge br-ex already, and not ours"),
        (found(elsewhere, TO_INT), "bridge br-mpls has no port 1"),
        (found(PATCH), "bridge br-mpls has no port 2"),
        (found(attrs.evolve(PATCH, error="no peer"), TO_INT), "port 1 of bridge br-mpls: no peer"),
        (found(PATCH, TO_INT), "bp.31: br-mpls has not made it yet"),
        (found(PATCH, TO_INT, attrs.evolve(OURS, number=None)), "bp.31: br-mpls has not made it yet"),
        (found(PATCH, TO_INT, attrs.evolve(OURS, number=None, error="File exists")), "bp.31: File exists"),
        (found(PATCH, TO_INT, OURS), ""),
    ]:
        assert place(PLUG, there).reason == reason


def test_a_port_that_has_been_named_by_its_number_is_known_by_its_name_from_then_on() -> None:
    assert place(PLUG, found(PATCH, TO_INT, OURS)).numbers == Numbers(7, 1, 2)
    renumbered = found(attrs.evolve(PATCH, number=2), attrs.evolve(TO_INT, number=1), attrs.evolve(OURS, number=3))
    assert place(PLUG, renumbered) == Place(numbers=Numbers(3, 2, 1), ids=IDS)
    other = attrs.evolve(PLUG, at=attrs.evolve(AT, port="5"))
    told_anew = found(attrs.evolve(PATCH, number=5), TO_INT, OURS)
    assert place(other, told_anew) == Place(
        numbers=Numbers(7, 5, 2), ids={"bgpvpn": "plug", "bgpvpn-5": "patch", "bgpvpn-2": "to-int"}
    )
    successor = found(Interface("later", "br-mpls", 1), TO_INT, OURS)
    assert place(PLUG, successor).ids == {**IDS, "bgpvpn-1": "later"}, "the name is gone, the number is another's"


def test_internal_ports_are_made_marked_and_removed_and_nothing_of_others_is_touched() -> None:
    def told(plugs: dict[str, Plug], there: Found) -> str:
        return " ".join(wishes(plugs, {name: place(plug, there) for name, plug in plugs.items()}, there))

    marks = 'type=internal external_ids={"bgpvpn"="plug","bgpvpn-1"="patch","bgpvpn-2"="to-int"}'
    made = f"-- add-port br-mpls bp.31 -- set Interface bp.31 {marks} mtu_request="
    plugs, others = {"bp.31": PLUG}, [PATCH, TO_INT, Interface("tap1", "br-mpls", 9, {"iface-id": "x"})]
    assert told(plugs, found(*others)) == made + "[]"
    assert told({"bp.31": attrs.evolve(PLUG, mtu=8950)}, found(*others)) == made + "8950"
    assert told(plugs, found(*others, OURS)) == ""
    assert told(plugs, found(*others, attrs.evolve(OURS, mtu=9000))).startswith("-- set Interface bp.31 ")
    assert told({}, found(*others, OURS)) == "-- --if-exists del-port br-mpls bp.31"
    moved = found(*others, attrs.evolve(OURS, bridge="br-tun"))
    assert told(plugs, moved) == f"-- --if-exists del-port br-tun bp.31 {made}[]"
    assert told(plugs, found(TO_INT, OURS)) == "", "one that is there stays while its port is away"
    assert told(plugs, found(PATCH, TO_INT, Interface("bp.31", "br-ex", 3))) == ""


# Flows


def texts(plug: Plug, numbers: Numbers) -> list[str]:
    return [text.split(",", 1)[1] for text in openflow.flows(plug, numbers, NODE).texts.values()]


def test_frames_that_the_agent_redirects_go_to_the_gateway_and_only_unicast_comes_back() -> None:
    unicast, multicast = (f"dl_dst=0{bit}:00:00:00:00:00/01:00:00:00:00:00" for bit in "01")
    plain = attrs.evolve(PLUG, fallback_mac=None)
    assert texts(plain, Numbers(7, 1)) == [
        f"table=0,priority=36864,in_port=1,dl_vlan=31,{unicast},actions=mod_dl_dst:{GATEWAY},strip_vlan,output:7",
        f"table=0,priority=36864,in_port=1,dl_vlan=31,{multicast},actions=strip_vlan,output:7",
        f"table=0,priority=36864,in_port=7,{unicast},actions=push_vlan:0x8100,mod_vlan_vid:31,output:1",
        "table=0,priority=36863,in_port=7,actions=drop",
    ]
    untagged = attrs.evolve(plain, at=OvsPlug(bridge="br-mpls", port="1"))
    assert texts(untagged, Numbers(7, 1))[1:3] == [
        f"table=0,priority=36864,in_port=1,vlan_tci=0x0000/0x1000,{multicast},actions=output:7",
        f"table=0,priority=36864,in_port=7,{unicast},actions=output:1",
    ]


def test_what_has_no_route_goes_to_the_router_by_its_own_port_and_so_do_answers_to_the_router() -> None:
    outward, *answers = texts(PLUG, Numbers(7, 1, 2))[4:]
    assert outward == (
        f"table=0,priority=36865,in_port=7,dl_dst={ROUTER},"
        f"actions=mod_dl_src:{SOURCE},push_vlan:0x8100,mod_vlan_vid:31,output:2"
    )
    assert answers == [
        f"table=0,priority=36865,in_port=1,dl_vlan=31,dl_dst={ROUTER},{kind},actions=mod_dl_src:{SOURCE},output:2"
        for kind in ("arp,arp_op=2", "icmp6,icmp_type=136")
    ]
    here = attrs.evolve(PLUG, at=attrs.evolve(AT, fallback_port=None, fallback_src_mac=None))
    assert texts(here, Numbers(7, 1))[4:] == [
        f"table=0,priority=36865,in_port=7,dl_dst={ROUTER},actions=push_vlan:0x8100,mod_vlan_vid:31,output:1"
    ]


def test_frames_of_an_l2_vpn_pass_as_they_are() -> None:
    assert texts(Plug("bp.31", AT, switched=True), Numbers(7, 1)) == [
        "table=0,priority=36864,in_port=1,dl_vlan=31,actions=strip_vlan,output:7",
        "table=0,priority=36864,in_port=7,actions=push_vlan:0x8100,mod_vlan_vid:31,output:1",
    ]


def test_beside_the_agents_tunnels_its_own_flows_are_used_and_none_is_taken() -> None:
    ours, copy = texts(Plug("bp.32", ON_TUN, switched=True), Numbers(7, 1))
    assert ours.startswith("table=0,priority=36864,in_port=7,actions=push_vlan:0x8100,mod_vlan_vid:32,learn(table=20,")
    assert ours.endswith(",output:1")
    assert copy == (
        "table=22,priority=5,in_port=1,dl_vlan=32,reg14=0,"
        "actions=clone(strip_vlan,output:7),load:1->NXM_NX_REG14[],resubmit(,22)"
    )


def test_cookies_tell_what_is_missing_and_what_is_to_go() -> None:
    plug = Plug("bp.32", ON_TUN, switched=True)
    here, moved = (openflow.flows(plug, numbers, NODE) for numbers in (Numbers(7, 1), Numbers(8, 1)))
    cookies = [cookie for each in (here, moved) for cookie in (*each.texts, *each.learned)]
    assert len(set(cookies)) == 6, "another number is another flow"
    assert all(cookie & openflow.MASK == openflow.MARK for cookie in cookies)
    (learned,) = here.learned
    assert openflow.changes(here, {*here.texts, learned}) == []
    assert openflow.changes(here, {learned}) == [f"flow add {text}" for text in here.texts.values()]
    gone = sorted({*here.texts, learned})
    assert openflow.changes(moved, {*here.texts, learned}) == [
        *(f"flow delete cookie={cookie:#x}/-1" for cookie in gone),
        *(f"flow add {text}" for text in moved.texts.values()),
    ]
    assert openflow.changes(Flows({}), set(gone)) == [f"flow delete cookie={cookie:#x}/-1" for cookie in gone]
    assert openflow.together([here, moved]).learned == here.learned | moved.learned
