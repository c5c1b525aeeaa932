"""What people write of policies, and what it means."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from bgpvpn import policies
from bgpvpn.objects import IntentError, Policy
from bgpvpn.policies import PolicyError
from speaker.policy import Among, AsPathMatch, Changes, Edit, Match, PrefixRange, Statement
from speaker.values import Family, RouteTarget
from speaker.wire.community import community_text


def read(statement: dict[str, Any]) -> Statement:
    (found,) = policies.read("p", "reject", [statement]).statements
    return found


def faults(statement: Any) -> list[str]:
    with pytest.raises(PolicyError) as refusal:
        policies.read("p", "reject", [statement])
    return [str(each) for each in refusal.value.faults]


def target(text: str) -> bytes:
    return RouteTarget.parse(text).wire


def test_every_condition_and_change_is_read() -> None:
    ten = ipaddress.ip_network("10.0.0.0/8")
    found = read(
        {
            "name": "all of it",
            "match": {
                "families": ["vpnv4", "ipv4-flowspec"],
                "neighbours": ["10.0.0.0/8", "192.0.2.1", 64500],
                "prefixes": [
                    "10.0.0.0/8 le 24",
                    "10.0.0.1/8 ge 9",
                    "10.0.0.0/8 ge 9 le 10",
                    "10.0.0.0/8",
                    "::/0 le 128",
                ],
                "route_types": [2, 5],
                "communities": ["64512:1", "64500:*", "no-export"],
                "ext_communities": ["target:64512:1", "origin:64512:*", "encapsulation:vxlan", "0x0300000000000001"],
                "large_communities": ["1:2:3", "1:2:*", "4294967295:*"],
                "route_targets": ["64512:1", "64512:*", "192.0.2.1:*"],
                "as_path": {"contains": [1], "originated_in": [2, 3], "neighbour_as": [0], "max_length": 0},
                "next_hop": ["2001:db8::/32"],
            },
            "set": {
                "local_pref": 0,
                "med": 4294967295,
                "next_hop": "2001:db8::1",
                "communities": {"remove": ["64512:*"], "add": ["blackhole"]},
                "large_communities": {"replace": []},
                "route_targets": {"rewrite": {"1:1": "2:2"}, "remove": ["1:*"], "add": ["3:3"]},
                "prepend": {"times": 3},
            },
            "then": "next",
        }
    )
    assert found == Statement(
        name="all of it",
        match=Match(
            families=frozenset({Family.VPNV4, Family.IPV4_FLOWSPEC}),
            neighbours=(ten, ipaddress.ip_network("192.0.2.1/32"), 64500),
            prefixes=(
                PrefixRange(ten, 8, 24),
                PrefixRange(ten, 9, 32),
                PrefixRange(ten, 9, 10),
                PrefixRange(ten, 8, 8),
                PrefixRange(ipaddress.ip_network("::/0"), 0, 128),
            ),
            route_types=frozenset({2, 5}),
            communities=Among(frozenset({b"\xfc\0\0\1", b"\xff\xff\xff\x01"}), (b"\xfb\xf4",)),
            ext_communities=Among(
                frozenset({target("64512:1"), b"\x03\x0c\0\0\0\0\0\x08", b"\x03\0\0\0\0\0\0\1"}), (b"\0\x03\xfc\0",)
            ),
            large_communities=Among(
                frozenset({b"\0\0\0\1\0\0\0\2\0\0\0\3"}), (b"\0\0\0\1\0\0\0\2", b"\xff\xff\xff\xff")
            ),
            route_targets=Among(frozenset({target("64512:1")}), (b"\0\x02\xfc\0", b"\x01\x02\xc0\0\x02\x01")),
            as_path=AsPathMatch(
                contains=frozenset({1}), originated_in=frozenset({2, 3}), neighbour_as=frozenset({0}), max_length=0
            ),
            next_hops=(ipaddress.ip_network("2001:db8::/32"),),
        ),
        changes=Changes(
            local_pref=0,
            med=4294967295,
            next_hop=ipaddress.ip_address("2001:db8::1").packed,
            communities=Edit(remove=Among(leading=(b"\xfc\0",)), add=(b"\xff\xff\x02\x9a",)),
            large_communities=Edit(replace=()),
            route_targets=Edit(
                rewrite=((target("1:1"), target("2:2")),), remove=Among(leading=(b"\0\2\0\1",)), add=(target("3:3"),)
            ),
            prepend=(None, 3),
        ),
        then="next",
    )


def test_what_is_left_out_asks_for_nothing_and_changes_nothing() -> None:
    assert read({"then": "accept"}) == Statement(name="0", then="accept")
    assert read({"match": {}, "set": {}, "then": "reject"}) == Statement(name="0", then="reject")
    assert policies.read("p", "accept", []).statements == ()


def test_extended_communities_are_written_as_they_are_shown() -> None:
    for text in ("target:64512:1", "origin:4200000000:1", "encapsulation:vxlan", "0x4300000000000001"):
        assert community_text(policies.ext_community(text)) == text


def test_everything_that_is_wrong_is_told_at_its_place() -> None:
    for statement, told in (
        ({}, ["statement[0].then: is wanted"]),
        (5, ["statement[0]: takes a table, not 5"]),
        ({"then": "accept", "sett": 1}, ["statement[0].sett: is not known; did you mean set?"]),
        ({"then": "drop"}, ["statement[0].then: takes accept, reject or next, not 'drop'"]),
        ({"then": "reject", "set": {"med": 1}}, ["statement[0].set: a rejected route is not changed"]),
        (
            {"match": {"prefixes": "10.0.0.0/8", "route_types": [0, True]}, "set": {"med": -1, "local_pref": "5"}},
            [
                "statement[0].then: is wanted",
                "statement[0].match.prefixes: takes a list, not '10.0.0.0/8'",
                "statement[0].match.route_types[0]: takes a number from 1 to 255, not 0",
                "statement[0].match.route_types[1]: takes a number from 1 to 255, not True",
                "statement[0].set.local_pref: takes a number",
                "statement[0].set.med: takes a number",
            ],
        ),
        *(
            ({"match": {"prefixes": [text]}, "then": "next"}, ["statement[0].match.prefixes[0]: "])
            for text in (
                "10.0.0.0",
                "10.0.0.0/8 le 33",
                "10.0.0.0/8 ge 24 le 16",
                "10.0.0.0/8 le 7",
                "x/8",
                "",
                5,
                None,
            )
        ),
        *(
            ({"match": {"communities": [text]}, "then": "next"}, ["statement[0].match.communities[0]: "])
            for text in ("64512", "65536:1", "1:65536", "1:2:3", "*:1", "no-exprt", 5, [])
        ),
        *(
            ({"match": {"large_communities": [text]}, "then": "next"}, ["statement[0].match.large_communities[0]: "])
            for text in ("1:2", "1:2:3:4", "4294967296:1:1", "*", "1:2:3:*", "", {})
        ),
        *(
            ({"match": {name: []}, "then": "next"}, [f"statement[0].match.{name}: takes at least one"])
            for name in ("families", "neighbours", "prefixes", "communities", "route_targets", "next_hop")
        ),
        (
            {"set": {"communities": {"add": ["1:*"], "replace": ["1:1"]}, "prepend": {"times": 33}}, "then": "next"},
            [
                "statement[0].set.communities.add[0]: '1:*' stands for many; one is wanted",
                "statement[0].set.communities.replace: what is there goes as a whole",
                "statement[0].set.prepend.times: takes a number from 1 to 32, not 33",
            ],
        ),
        (
            {"set": {"communities": {"rewrite": {}}, "route_targets": {"rewrite": {"1:1": "x"}}}, "then": "next"},
            [
                "statement[0].set.communities.rewrite: is not known",
                "statement[0].set.route_targets.rewrite.1:1: 'x' is not a route target",
            ],
        ),
    ):
        found = faults(statement)
        assert len(found) == len(told), (statement, found)
        assert all(said.startswith(expected) for said, expected in zip(found, told, strict=True)), found


def test_a_policy_as_a_wish_is_checked_as_a_whole() -> None:
    twice = [{"name": "a", "then": "next"}, {"name": "a", "then": "next"}]
    for fields, told in (
        ({"statement": twice}, ["statement: 'a' is the name of several statements"]),
        (
            {"default": "no", "statement": 5},
            ["default: takes accept or reject, not 'no'", "statement: takes a list, not 5"],
        ),
        ({"name": "accept", "id": "accept"}, ["name: 'accept' is always there"]),
        ({"name": "other"}, ["name: is its id as well, and stays: 'p'"]),
        ({"name": "a b", "id": "a b"}, ["id: takes 1 to 64 letters"]),
        ({"statement": [{"then": "next"}] * 1001}, ["statement: has 1001 entries, more than 1000"]),
    ):
        with pytest.raises(IntentError) as refusal:
            Policy(**{"id": "p", "name": "p", **fields})
        found = str(refusal.value).split("; ")
        assert all(any(said.startswith(each) for said in found) for each in told), found


def test_what_was_given_is_not_what_is_kept() -> None:
    statement = {"match": {"prefixes": ["10.0.0.0/8"]}, "then": "accept"}
    policy = Policy(id="p", name="p", statement=(statement,))
    statement["then"] = "reject"
    assert policy.read().statements[0].then == "accept"
