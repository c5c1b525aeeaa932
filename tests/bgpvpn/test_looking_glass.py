"""The looking glass: why a route is here, or is not, and what became of a port."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bgpvpn import views
from speaker.decision import LLGR_STALE
from speaker.engine import Engine, Neighbour
from speaker.path import AS_SEQUENCE, AS_SET, Path
from speaker.refusal import Own
from speaker.terms import Terms
from speaker.values import Family, RouteTarget, prefix_bytes
from speaker.wire.attribute import make
from speaker.wire.community import encapsulation, mac_mobility
from tests.fakes.middle import SELF, Middle, bind, bind_port, network, port, vpn, vpn_key
from tests.speaker.hearing import agreed, graceful, saying
from tests.speaker.routes import announced, block, session

OTHER_MAC = "02:00:00:00:00:99"
RED = (*network("red"), port("p1", "red", "10.1.0.5"), vpn("a", "1:1"), bind("a", "red"))


def middle(*wishes: Any, **settings: Any) -> Middle:
    made = Middle(**settings)
    made.want(*RED, *wishes)
    made.settle()
    return made


def neighbour(of: Middle, name: str = "peer-1") -> Neighbour:
    """Return a neighbour without a session."""
    engine = Engine(of.node.rib, of.node.interest, Own(SELF, frozenset({64512}), frozenset({SELF})), of.interner)
    return engine.add(name)


def explained(of: Middle, prefix: str) -> dict[str, Any]:
    of.settle()
    return views.explain_prefix(of.node, prefix, {}, {})


def verdicts(of: Middle, prefix: str) -> dict[str, str]:
    """Return what became of each candidate in the one VRF."""
    (instance,) = explained(of, prefix)["instances"]
    return {each["nlri"].split()[0]: each["verdict"] for each in instance["candidates"]}


def of_port(of: Middle, id_: str = "p1") -> dict[str, Any]:
    of.settle()
    return views.explain_port(of.node, id_, {})


# Prefixes


def test_a_prefix_that_nobody_told_is_said_to_be_so():
    answer = explained(middle(), "192.0.2.0/24")
    assert answer["verdict"] == (
        "nobody told this node about 192.0.2.0/24; a route that no VPN of this node imports is not kept"
    )
    assert not any(answer[part] for part in ("instances", "refused", "not_imported", "own"))


def test_the_longest_covering_prefix_is_named_with_where_it_leads():
    made = middle()
    made.hear("0.0.0.0/0", "1:1", pe="192.0.2.1")
    made.hear("10.8.0.0/16", "1:1", pe="192.0.2.8")
    for asked, words in [
        ("10.8.1.0/24", "10.8.0.0/16 covers it: to PE 192.0.2.8, MPLS label 900 over GRE"),
        ("172.16.0.1", "0.0.0.0/0 covers it: to PE 192.0.2.1, MPLS label 900 over GRE"),
        ("10.1.0.9", "10.1.0.0/24 covers it, the segment's own subnet"),
        ("10.1.0.0/24", "10.1.0.0/24 covers it, the segment's own subnet"),
    ]:
        answer = explained(made, asked)
        assert [each["wanted"] for each in answer["instances"]] == [words], asked
        assert answer["verdict"].startswith("nobody told this node about"), asked
    assert explained(made, "2001:db8::1")["instances"] == []


def test_each_candidate_has_its_verdict_and_the_step_that_it_lost_by():
    made = middle()
    for number, (preference, as_path, origin, med) in enumerate(
        [(200, (), 0, None), (100, (), 0, None), (100, (65001,), 0, None), (100, (), 2, None), (100, (), 0, 5)], 1
    ):
        made.hear(
            "10.8.0.0/16", "1:1", rd=f"9:{number}", pe=f"192.0.2.{number}", local_pref=preference, origin=origin,
            as_path=((AS_SEQUENCE, as_path),) if as_path else (), med=med,
        )  # fmt: skip
    made.hear("10.8.0.0/16", "1:1", rd="9:6", label=3, local_pref=900)
    assert verdicts(made, "10.8.0.0/16") == {
        "9:1": "best",
        "9:2": "backup (LOCAL_PREF 100 is below 200)",
        "9:3": "worse than best and backup (LOCAL_PREF 100 is below 200)",
        "9:4": "worse than best and backup (LOCAL_PREF 100 is below 200)",
        "9:5": "worse than best and backup (LOCAL_PREF 100 is below 200)",
        "9:6": "refused (label 3 is reserved (RFC 3032 section 2.1))",
    }
    made.lose("10.8.0.0/16", rd="9:1")
    assert verdicts(made, "10.8.0.0/16") | {"9:6": ""} == {
        "9:2": "best",
        "9:5": "backup (MED 5 is above another of its neighbouring AS)",
        "9:4": "worse than best and backup (ORIGIN incomplete comes after igp)",
        "9:3": "worse than best and backup (AS_PATH of 1 is longer than 0)",
        "9:6": "",
    }


def test_equal_paths_are_all_best():
    made = middle()
    for number in (1, 2):
        made.hear("10.8.0.0/16", "1:1", rd=f"9:{number}", pe=f"192.0.2.{number}")
    assert verdicts(made, "10.8.0.0/16") == {"9:1": "best", "9:2": "best"}
    (instance,) = explained(made, "10.8.0.0/16")["instances"]
    assert instance["wanted"] == [["PE 192.0.2.1, MPLS label 900 over GRE", "PE 192.0.2.2, MPLS label 900 over GRE"]]


def test_an_own_address_leads_into_the_subnet_and_a_remote_one_is_worse():
    made = middle()
    made.hear("10.1.0.5/32", "1:1")
    (instance,) = explained(made, "10.1.0.5")["instances"]
    assert instance["wanted"] == "the segment's own subnet leads there"
    assert verdicts(made, "10.1.0.5") == {
        "10.0.0.1:1": "best",
        "64512:9": "backup (our own routes come before received ones)",
    }


def test_a_route_that_no_vpn_imports_and_that_is_kept_says_so():
    made = middle()
    made.hear("10.8.0.0/16", "9:9")
    answer = explained(made, "10.8.0.0/16")
    (route,) = answer["not_imported"]
    assert (route["nlri"], route["source"]) == ("64512:9 10.8.0.0/16", "peer-1")
    assert route["reason"] == "no VPN of this node imports any of its route targets"
    assert route["route_targets"] == ["9:9"]


def test_an_evi_does_not_import_a_vpnv4_route_of_its_target():
    made = middle(vpn("l2", "9:9", type="l2"), bind("l2", "red"))
    made.hear("10.8.0.0/16", "9:9")
    assert len(explained(made, "10.8.0.0/16")["not_imported"]) == 1
    (row,) = views.routes(made.node, prefix="10.8.0.0/16")
    assert row["imported_by"] == []


def test_routes_are_found_by_what_they_are_about():
    rd = b"\0\1\xc0\0\2\1\0\1"
    made = middle()
    path = make(made.node.interner, next_hop=b"\xc0\0\2\1").path(b"")
    for family, key in (
        (Family.VPNV4, rd + bytes((10, 8, 0, 0, 32))),
        (Family.VPNV4, rd + bytes((10, 8, 16))),
        (Family.VPNV6, rd + bytes((10, 8, 16))),
        (Family.IPV4, bytes((10, 8, 16))),
        (Family.EVPN, b"\2" + rd + bytes(4) + b"\x30" + bytes(6) + b"\x20" + bytes((10, 8, 0, 0))),
        (Family.EVPN, b"\5" + rd + bytes(4) + b"\x10" + bytes((10, 8, 0, 0))),
    ):
        made.node.rib.table(family, "peer-1").put(key, path)
    for prefix, families in (
        ("10.8.0.0/16", ["vpnv4", "ipv4", "evpn"]),
        ("10.8.7.7/16", ["vpnv4", "ipv4", "evpn"]),
        ("10.8.0.0", ["vpnv4", "evpn"]),
        ("a08::/16", ["vpnv6"]),
        ("10.9.0.0/16", []),
    ):
        assert [route["family"] for route in views.routes(made.node, prefix=prefix)] == families, prefix
    with pytest.raises(ValueError, match="nonsense"):
        views.routes(made.node, prefix="nonsense")


def test_a_route_that_was_refused_on_arrival_says_why():
    made = middle()
    heard = neighbour(made).adj_rib_in
    heard.refused[vpn_key("64512:9", "10.8.0.0/16")] = "next hop is our own address (RFC 4271 section 5.1.3)"
    answer = views.explain_prefix(made.node, "10.8.0.0/16", {"peer-1": heard}, {})
    assert answer["refused"] == [
        {
            "family": "vpnv4",
            "nlri": "64512:9 10.8.0.0/16",
            "source": "peer-1",
            "reason": "next hop is our own address (RFC 4271 section 5.1.3)",
        }
    ]


def test_routes_of_all_families_are_explained_that_lead_to_a_prefix_whether_a_vpn_takes_them_or_not():
    made = middle()
    rd = b"\0\1\xc0\0\2\1\0\1"
    path = saying(block()).path(b"")
    made.node.rib.table(Family.IPV4, "peer-1").put(prefix_bytes("10.8.0.0/16"), path)
    made.node.rib.table(Family.EVPN, "peer-1").put(b"\5" + rd + bytes(4) + b"\x10" + bytes((10, 8, 0, 0)), path)
    answer = explained(made, "10.8.0.0/16")
    assert "verdict" not in answer, "somebody told this node"
    assert {each["family"]: each["reason"] for each in answer["not_imported"]} == {
        "ipv4": "routes of ipv4 are in no VPN",
        "evpn": "no VPN of this node imports any of its route targets",
    }
    made = middle(vpn("l2", "9:9", type="l2"), bind("l2", "red"))
    of_l2 = saying(block(), route_targets=frozenset({RouteTarget.parse("9:9").wire})).path(b"")
    made.node.rib.table(Family.EVPN, "peer-1").put(b"\5" + rd + bytes(4) + b"\x10" + bytes((10, 8, 0, 0)), of_l2)
    (route,) = explained(made, "10.8.0.0/16")["not_imported"]
    assert route["reason"] == "no VPN of the technique evpn-prefix imports any of its route targets"


@pytest.mark.parametrize("add_path", [False, True])
def test_a_route_that_the_import_policy_rejected_says_so_and_what_it_was(add_path: bool) -> None:
    made = middle()
    heard = neighbour(made).adj_rib_in
    heard.change(Terms(importing=lambda family, key, path: None), 0.0)
    heard.up(agreed(Family.IPV4, add_path_receive=frozenset({Family.IPV4} if add_path else ())), 0.0)
    key = (b"\0\0\0\7" if add_path else b"") + prefix_bytes("10.8.0.0/16")
    heard.update(announced(Family.IPV4, saying(block(), med=9), key), 0.0)
    answer = views.explain_prefix(made.node, "10.8.0.0/16", {"peer-1": heard}, {})
    (route,) = answer["refused"]
    assert (route["family"], route["nlri"], route["source"]) == ("ipv4", "10.8.0.0/16", "peer-1")
    assert (route["reason"], route["med"]) == ("the import policy rejects it", 9)
    assert "verdict" not in answer
    assert views.explain_prefix(made.node, "10.9.0.0/16", {"peer-1": heard}, {})["refused"] == []


def test_a_reflected_route_says_who_is_told_and_why_others_are_not():
    made = middle()
    engine = Engine(made.node.rib, made.node.interest, Own(SELF, frozenset({64512}), frozenset({SELF})), made.interner)
    for name, client, decide in (
        ("client", True, lambda family, key, path: path),
        ("picky", True, lambda family, key, path: None),
        ("other", False, lambda family, key, path: path),
    ):
        engine.add(name).up(agreed(Family.IPV4), 0.0)
        engine.change(name, Terms(exporting=decide, client=client), 0.0)
    prefix = "10.8.0.0/16"
    engine.neighbours["other"].adj_rib_in.update(announced(Family.IPV4, block(), prefix_bytes(prefix)), 0.0)
    for each in engine.neighbours.values():
        each.output(1 << 16)
    heard = {name: each.adj_rib_in for name, each in engine.neighbours.items()}
    told = {name: each.adj_rib_out for name, each in engine.neighbours.items()}
    (route,) = views.explain_prefix(made.node, prefix, heard, told)["passed_on"]
    assert (route["family"], route["nlri"], route["told_to"]) == ("ipv4", prefix, ["client"])
    assert {each["peer"]: each["reason"] for each in route["not_told_to"]} == {
        "picky": "the export policy rejects it",
        "other": "it came from this peer",
    }
    assert views.explain_prefix(made.node, "10.9.0.0/16", heard, told)["verdict"] == (
        "nobody told this node about 10.9.0.0/16"
    ), "a reflector keeps what no VPN imports"


def test_an_own_route_says_what_it_waits_for_and_who_was_told():
    made = middle()
    made.fail(("attachment", "p1"))
    peer = neighbour(made)
    out = peer.adj_rib_out
    (own,) = views.explain_prefix(made.node, "10.1.0.5", {}, {"peer-1": out})["own"]
    assert own["announced"] is False
    assert own["waits_for"] == [{"object": "attachment p1", "state": "pending", "reason": "it is down"}]
    assert own["not_told_to"] == [{"peer": "peer-1", "reason": "the session is not established"}]
    made.repair(("attachment", "p1"))
    peer.up(session(Family.VPNV4), 0.0)
    peer.output(1 << 16)
    (own,) = views.explain_prefix(made.node, "10.1.0.5", {}, {"peer-1": out})["own"]
    assert (own["announced"], own["waits_for"], own["told_to"], own["not_told_to"]) == (True, [], ["peer-1"], [])


def test_an_address_in_an_l2_vpn_is_told_with_its_mac_and_its_place():
    made = Middle()
    made.want(*network("red"), port("p1", "red", "10.1.0.5"), vpn("l2", "1:1", type="l2"), bind("l2", "red"))
    made.hear_mac(OTHER_MAC, "1:1", address="10.1.0.99")
    assert explained(made, "10.1.0.99")["verdict"] == (
        f"in the l2 VPN of red it is MAC {OTHER_MAC} behind VTEP 192.0.2.9"
    )
    assert explained(made, "10.1.0.5")["verdict"] == "in the l2 VPN of red it is MAC 02:00:00:00:70:31 on this node"


def test_what_is_no_prefix_is_refused():
    with pytest.raises(ValueError, match="nonsense"):
        views.explain_prefix(middle().node, "nonsense", {}, {})


# Ports


def test_a_port_is_explained_from_its_vpns_to_its_routes():
    made = middle(vpn("b", "1:2", name="blue"), bind_port("b", "p1"))
    answer = of_port(made)
    assert answer["vpns"] == [
        {"vpn": "a", "type": "l3", "because": ["network association a-red"]},
        {"vpn": "blue", "type": "l3", "because": ["port association b-p1"]},
    ]
    assert [each["object"].split()[0] for each in answer["objects"]] == ["bridge", "attachment", "vrf"]
    assert {each["state"] for each in answer["objects"]} == {"active"}
    assert [each["nlri"].split()[1] for each in answer["own"]] == ["10.1.0.5/32"]
    assert "verdict" not in answer


@pytest.mark.parametrize(
    ("wishes", "verdict"),
    [
        ([port("p1", "red", "10.1.0.5", admin_state_up=False)], "the port is administratively down"),
        ([vpn("a", "1:1", admin_state_up=False)], "administratively down is all that it is bound to: a"),
        ([vpn("a", import_targets=("1:1",))], "VPN a has no export target, so nothing is announced into it"),
        ([port("p1", "red")], "it has no address that could be announced into VPN a"),
        (
            [bind_port("a", "p1", "2001:db8::/32")],
            "2001:db8::/32 is not announced: the port has no IPv6 address that leads there",
        ),
        (
            [vpn("b", "1:2"), bind_port("b", "p1", advertise_fixed_ips=False)],
            "its association does not let its addresses be announced into VPN b",
        ),
    ],
)
def test_a_port_that_is_not_announced_as_one_might_expect_says_why(wishes: list[Any], verdict: str):
    assert of_port(middle(*wishes))["verdict"] == verdict


def test_an_address_that_is_announced_as_a_prefix_is_announced():
    bound = bind_port("b", "p1", "10.1.0.5/32", advertise_fixed_ips=False)
    assert "verdict" not in of_port(middle(vpn("b", "1:2"), bound))
    others = bind_port("b", "p1", "10.1.0.6/32", advertise_fixed_ips=False)
    assert "verdict" in of_port(middle(vpn("b", "1:2"), others))


def test_a_port_that_is_bound_to_nothing_says_so():
    made = middle(port("p9", None, "10.9.0.5/24"))
    assert of_port(made, "p9") == {
        "port": "p9",
        "id": "p9",
        "verdict": "neither it nor its network is bound to a VPN",
    }


def test_a_port_whose_mac_lives_elsewhere_says_where():
    made = middle(vpn("l2", "1:2", type="l2"), bind("l2", "red"))
    made.hear_mac("02:00:00:00:70:31", "1:2", further=[mac_mobility(3)])
    assert of_port(made)["verdict"] == ("its MAC 02:00:00:00:70:31 lives behind VTEP 192.0.2.9 now, which said so last")


def test_a_segment_that_lacks_a_number_says_so():
    ranges = {"label": range(16, 16), **{pool: range(1, 9) for pool in ("vni", "rd", "table", "bridge")}}
    made = middle(ranges=ranges)
    (instance,) = views.instances(made.node)
    assert instance["status"] == {"state": "failed", "reason": made.node.instances.failed["vrf", "red"]}
    assert of_port(made)["verdict"].startswith("its segment is not built as it should be: no label is free")


# Instances and routes


def test_instances_show_their_vrf_and_evi():
    made = middle(vpn("l2", "1:2", type="l2", vni=55, name="bridge"), bind("l2", "red"))
    made.hear("10.8.0.0/16", "1:1")
    made.hear_mac(OTHER_MAC, "1:2")
    made.hear_flood("192.0.2.9", "1:2")
    made.fail(("vrf", "red"))
    (instance,) = views.instances(made.node)
    held = made.held()
    assert (instance["segment"], instance["vpns"], instance["ports"]) == ("red", ["a", "bridge"], ["p1"])
    assert instance["vrf"] == {
        "name": "red",
        "table": held[("table", "red")],
        "label": held[("label", "red")],
        "routes": 1,
        "status": {"state": "pending", "reason": "it is down"},
    }
    assert instance["evi"] == {
        "vni": 55,
        "route_distinguisher": "10.0.0.1:1",
        "macs": 1,
        "vteps": ["192.0.2.9"],
        "status": {"state": "active", "reason": ""},
    }


def test_routes_are_found_by_what_is_asked_for():
    made = middle(vpn("b", import_targets=("1:2",), export_targets=("1:3",)), vpn("l2", "1:4", type="l2"))
    made.hear("10.8.0.0/16", "1:1")
    made.hear("10.8.1.0/24", "1:2", source="peer-2")
    made.hear("10.8.2.0/24", "1:3")
    made.hear("2001:db8::/32", "9:9")
    made.hear_mac(OTHER_MAC, "1:4", vni=77)
    vpns = made.intent.bgpvpns
    everything = {each["nlri"] for each in views.routes(made.node)}
    mac = f"[2]:[64512:9]:[0]:[48]:[{OTHER_MAC}]"
    for asked, found in [
        ({"family": "evpn"}, {mac}),
        ({"family": "vpnv6"}, {"64512:9 2001:db8::/32"}),
        ({"route_target": "1:2"}, {"64512:9 10.8.1.0/24"}),
        ({"prefix": "10.8.0.0/16"}, {"64512:9 10.8.0.0/16"}),
        ({"sources": ["peer-2"]}, {"64512:9 10.8.1.0/24"}),
        ({"vpn": vpns["a"]}, {"64512:9 10.8.0.0/16", "10.0.0.1:1 10.1.0.5/32"}),
        ({"vpn": vpns["b"]}, {"64512:9 10.8.1.0/24", "64512:9 10.8.2.0/24"}),
        ({"vpn": vpns["l2"]}, {mac}),
        ({"vpn": vpns["a"], "sources": ["local"]}, {"10.0.0.1:1 10.1.0.5/32"}),
        ({"route_target": "7:7"}, set()),
        ({}, everything),
    ]:
        assert {each["nlri"] for each in views.routes(made.node, **asked)} == found, asked  # type: ignore[arg-type]
    assert len(views.routes(made.node, most=2)) == 2
    for wrong in ({"family": "ipx"}, {"route_target": "x"}):
        with pytest.raises(ValueError, match=r"ipx|'x'"):
            views.routes(made.node, **wrong)  # type: ignore[arg-type]


def test_what_a_peer_says_is_shown_in_plain_printable_text():
    made = middle(vpn("l2", "1:4", type="l2"), bind("l2", "red"))
    wild = bytes(range(0x1B, 0x1B + 8))
    made.hear(
        "10.8.0.0/16", "1:1", further=[wild, b"\x80\xff\x1b[2J\x07\x00", encapsulation(99)], communities=(0xFFFFFFFF,),
        as_path=((AS_SET, (1, 2)),), large_communities=((1, 2, 3),), origin=7,
    )  # fmt: skip
    made.hear_mac(OTHER_MAC, "1:4", further=[b"\x06\x1b[31m~~"])
    made.evpn().put(b"\x63" + bytes(8) + b"\x1b[31m", made.attributes("192.0.2.9", ["1:4"]).path(b"\x1b"))
    made.settle()
    answers = [views.routes(made.node), views.instances(made.node), explained(made, "10.8.0.0/16")]
    assert len(answers[0]) >= 3

    def texts(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [text for pair in value.items() for each in pair for text in texts(each)]
        if isinstance(value, list):
            return [text for each in value for text in texts(each)]
        return [value] if isinstance(value, str) else []

    assert all(text.isprintable() for text in texts(answers))
    assert json.loads(json.dumps(answers)) == answers, "plain values"


# What peers told, before and after the import policy


@pytest.mark.parametrize("add_path", [False, True])
def test_routes_are_told_as_they_came_and_as_the_policy_left_them(add_path: bool) -> None:
    made = middle()
    heard = neighbour(made).adj_rib_in
    heard.up(agreed(Family.IPV4, add_path_receive=frozenset({Family.IPV4} if add_path else ())), 0.0)
    changed = saying(block(), med=9)

    def decide(family: Family, key: bytes, path: Path) -> Path | None:
        return {1: None, 2: changed.path(b"")}.get(path.attributes.med or 0, path)

    heard.change(Terms(importing=decide), 0.0)
    told = [("10.1.0.0/16", 7, 1), ("10.2.0.0/16", 8, 2), ("10.3.0.0/16", 9, 3)]
    told += [("10.3.0.0/16", 5, 2)] if add_path else []
    for prefix, path_id, med in told:
        key = (path_id.to_bytes(4, "big") if add_path else b"") + prefix_bytes(prefix)
        heard.update(announced(Family.IPV4, saying(block(), med=med), key), 0.0)

    def rows(*, received: bool) -> set[tuple[str, int | None, int]]:
        found = views.routes(made.node, heard={"peer-1": heard}, received=received, family="ipv4", sources=["peer-1"])
        assert {each["source"] for each in found} == {"peer-1"}
        kept = [(each["nlri"], each["path_id"], each["med"]) for each in found]
        assert len(set(kept)) == len(kept)
        return set(kept)

    came = {(prefix, path_id if add_path else None, med) for prefix, path_id, med in told}
    assert rows(received=True) == came
    assert rows(received=False) == {(nlri, id_, {2: 9}.get(med, med)) for nlri, id_, med in came if med != 1}
    assert views.routes(made.node, heard={"peer-1": heard}, received=True, family="vpnv4") == []


def test_a_stale_route_is_told_as_one() -> None:
    made = middle()
    heard = neighbour(made).adj_rib_in
    negotiated = agreed(Family.IPV4, graceful=graceful(Family.IPV4))
    heard.up(negotiated, 0.0)
    heard.update(announced(Family.IPV4, block(), prefix_bytes("10.1.0.0/16")), 0.0)
    long_lived = saying(block(), communities=(LLGR_STALE,))
    heard.update(announced(Family.IPV4, long_lived, prefix_bytes("10.2.0.0/16")), 0.0)

    def stale() -> list[str]:
        found = views.routes(made.node, heard={"peer-1": heard}, family="ipv4")
        return [each["stale"] for each in sorted(found, key=lambda each: each["nlri"])]

    assert stale() == ["", "long-lived"]
    heard.down(negotiated, True, 1.0)
    assert stale() == ["restarting", "long-lived"]
