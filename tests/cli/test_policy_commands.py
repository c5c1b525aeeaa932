"""Policies from files, tried before they are used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bgpvpn import views
from speaker.values import Family
from tests.cli.daemon import Daemon
from tests.cli.test_views import middle

TOML = """
[[policy]]
name = "in"

[[policy.statement]]
name = "theirs"
match.prefixes = ["10.3.0.0/16 le 24"]
set.local_pref = 200
set.communities = { add = ["64512:1"] }
then = "accept"

[[policy.statement]]
name = "rest"
match.as_path = { contains = [1] }
then = "reject"
"""
STATEMENT = [
    {
        "name": "theirs",
        "match": {"prefixes": ["10.3.0.0/16 le 24"]},
        "set": {"local_pref": 200, "communities": {"add": ["64512:1"]}},
        "then": "accept",
    },
    {"name": "rest", "match": {"as_path": {"contains": [1]}}, "then": "reject"},
]


@pytest.mark.parametrize(
    "text",
    [
        TOML,
        TOML.replace("[[policy]]", "").replace("policy.", ""),
        json.dumps({"name": "in", "statement": STATEMENT}),
        json.dumps([{"name": "in", "statement": STATEMENT}]),
        json.dumps({"policy": [{"name": "in", "statement": STATEMENT}]}),
    ],
)
def test_a_policy_is_made_of_a_file_in_any_form(daemon: Daemon, text: str, tmp_path: Path) -> None:
    (tmp_path / "policy").write_text(text)
    daemon.say(f"policy create {tmp_path / 'policy'}")
    shown = daemon.ask("policy show in")
    assert (shown["id"], shown["name"], shown["default"], shown["statement"]) == ("in", "in", "reject", STATEMENT)
    assert daemon.say("policy list").splitlines()[1].split() == ["in", "reject", "2", "ACTIVE", "-"]
    daemon.say("policy set in", json.dumps({"default": "accept"}))
    shown = daemon.ask("policy show in")
    assert (shown["default"], shown["statement"]) == ("accept", [])
    daemon.say("policy delete in")
    assert daemon.ask("policy list") == []


def test_what_is_shown_of_a_policy_can_be_given_back(daemon: Daemon) -> None:
    daemon.say("policy create", TOML)
    shown = daemon.say("-f json policy show in")
    daemon.say("policy set in", "default = 'accept'")
    daemon.say("policy set in", shown)
    assert daemon.ask("policy show in")["statement"] == STATEMENT
    lines = [line.split(maxsplit=1) for line in daemon.say("policy show in").splitlines()]
    assert [words for words in lines if words[0].startswith("statement[")] == [
        [
            "statement[0]",
            "name=theirs match=prefixes=10.3.0.0/16 le 24 set=local_pref=200 communities=add=64512:1 then=accept",
        ],
        ["statement[1]", "name=rest match=as_path=contains=1 then=reject"],
    ]
    refused = daemon.call("policy set in", '{"id": "in"}')
    assert "id: is not known" in refused.stderr
    assert "name: there is a policy 'in' already" in daemon.call("policy create", TOML).stderr


def test_everything_that_is_wrong_with_a_policy_is_told(daemon: Daemon) -> None:
    wrong = {"name": "in", "statement": [{"match": {"prefixes": ["x"], "comunities": []}, "then": "drop"}]}
    refused = daemon.call("policy create", json.dumps(wrong))
    assert refused.exit_code == 1
    for part in (
        "statement[0].match.prefixes[0]: takes a prefix",
        "statement[0].match.comunities: is not known; did you mean communities?",
        "statement[0].then: takes accept, reject or next, not 'drop'",
    ):
        assert part in refused.stderr
    for text in ("=", "[]", "5", '["in"]'):
        assert daemon.call("policy create", text).exit_code == 2, text


def test_a_policy_in_use_stays_and_the_peer_is_named(daemon: Daemon) -> None:
    daemon.say("policy create", TOML)
    daemon.say("peer create rr --address 192.0.2.2 --remote-as 1 --import-policy in --export-policy evpn=in")
    refused = daemon.call("policy delete in")
    assert (refused.exit_code, "policy 'in' is used by rr" in refused.stderr) == (1, True)
    daemon.say("peer set rr --no-import-policy --export-policy reject")
    daemon.say("policy delete in")
    refused = daemon.call("peer set rr --import-policy in")
    assert "import_policy: there is no policy 'in'" in refused.stderr


def test_a_route_that_is_described_is_tried(daemon: Daemon) -> None:
    daemon.say("policy create", TOML)
    for words, lines in [
        (
            "--family vpnv4 --rd 1:1 --prefix 10.3.1.0/24 --community no-export --med 0",
            [
                "changed by statement theirs: vpnv4 1:1 10.3.1.0/24 from 192.0.2.1",
                "  local_pref: - -> 200, by statement theirs",
                "  communities: 65535:65281 -> 65535:65281,64512:1, by statement theirs",
                "  statement theirs holds, accept",
            ],
        ),
        (
            "--family ipv4 --prefix 10.4.0.0/16 --as-path '2 1' --neighbour 192.0.2.7",
            [
                "rejected by statement rest: ipv4 10.4.0.0/16 from 192.0.2.7",
                "  statement theirs does not hold: prefixes",
                "  statement rest holds, reject",
            ],
        ),
        (
            "--family evpn --mac 02:00:00:00:00:01 --prefix 10.4.0.1/32",
            [
                "rejected by default: evpn [2]:[0:0]:[0]:[48]:[02:00:00:00:00:01]:[32]:[10.4.0.1] from 192.0.2.1",
                "  statement theirs does not hold: prefixes",
                "  statement rest does not hold: as_path",
            ],
        ),
    ]:
        assert daemon.say(f"policy test in {words}").splitlines() == lines, words
    for words, status, reason in [
        ("--family ipv4", 1, "route.prefix: is wanted"),
        ("--family rtc --prefix 10.0.0.0/8", 1, "family: a route can be given of ipv4"),
        ("--prefix 10.0.0.0/8", 1, "family: is wanted with a route"),
        ("--family ipv6 --prefix 10.0.0.0/8", 1, "route.prefix: is not a prefix of ipv6"),
        ("--family ipv4 --prefix 10.0.0.0/8 --community 1:*", 1, "route.communities: '1:*' stands for many"),
        ("--family evpn --route-type 3", 1, "route.route_type: 2 takes a mac"),
        ("--peer rr --med 5", 2, "not both"),
        ("--peer nobody", 1, "peer: is not there"),
        ("--family ipv4 --prefix 10.0.0.0/8 --as-path x", 2, "--as-path takes AS numbers"),
    ]:
        refused = daemon.call(f"policy test in {words}")
        assert (refused.exit_code, reason in refused.stderr) == (status, True), (words, refused.stderr)
    assert "there is no policy 'nosuch'" in daemon.call("policy test nosuch --peer rr").stderr


def test_the_routes_of_a_peer_are_tried(daemon: Daemon) -> None:
    daemon.say("policy create", TOML)
    daemon.node.heard["rr"] = list(views.in_rib(middle().node.rib, {}, Family.VPNV4))
    lines = daemon.say("policy test in --peer rr").splitlines()
    assert lines[0] == "changed by statement theirs: vpnv4 64512:9 10.3.0.0/24 from peer-1"
    assert "rejected by default: vpnv4 64512:9 10.4.0.0/24 from peer-1" in lines
    assert lines[-1] == f"0 accepted, 1 changed, {len(daemon.node.heard['rr']) - 1} rejected"
    (only,) = daemon.ask("policy test in --peer rr --prefix 10.3.0.0/24")
    assert (only["verdict"], only["changes"][0]) == (
        "changed",
        {"field": "local_pref", "old": None, "new": 200, "by": "theirs"},
    )
