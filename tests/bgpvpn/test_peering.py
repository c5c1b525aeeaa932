"""Wishes for peers and policies, on a running node whose peers are scripted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from bgpvpn.intent import ConflictError, IntentError, Peer, Policy, Removal
from speaker.terms import PrefixLimit
from speaker.values import Family, prefix_bytes
from speaker.wire.attribute import Interner, make
from tests.bgpvpn.test_running import SCRIPTED, Lab, Site, listening, scripted, silent, standing, until
from tests.fakes.loop import run
from tests.fakes.scripted_peer import ScriptedPeer

OPEN = "OPEN as=64513 as4=64513 id=192.0.2.9 families=ipv4 refresh"
REFUSED_BOTH_WAYS = (
    "no import policy: all routes of this external peer are rejected (RFC 8212); "
    "no export policy: this external peer is told no routes (RFC 8212)"
)


def update(prefix: str, origin: int = 0) -> str:
    """An UPDATE with an IPv4 route of AS 64513."""
    blocks = f"400101{origin:02x} 4002060201{64513:08x} 400304c0000209".replace(" ", "")
    octets = prefix_bytes(prefix)
    return f"UPDATE 0000{len(blocks) // 2:04x}{blocks}{octets[-1:].hex()}{octets[:-1].hex()}"


def external(listener: Any, **more: Any) -> Peer:
    return scripted(listener, remote_as=64513, families=("ipv4",), **more)


def named(name: str, *statements: dict[str, Any], default: Any = "reject") -> Policy:
    return Policy(id=name, name=name, default=default, statement=statements)


def shown(site: Site, **asked: Any) -> list[tuple[str, int | None]]:
    """Return the routes of peers with their LOCAL_PREF."""
    asked = {"route_target": None, "prefix": None, "vpn": None, "source": None, "most": 100, "received": False} | asked
    rows = site.node.routes(family="ipv4", **asked)
    return sorted((row["nlri"], row["local_pref"]) for row in rows if row["source"] != "local")


def test_an_external_peer_without_a_policy_is_rejected_both_ways_and_says_so(tmp_path: Path) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1)
            with listening() as listener:
                wish = external(listener)
                one.start().write([wish])
                async with await listener.accept() as peer:
                    await peer.establish(OPEN)
                    await peer.say(update("10.3.0.0/24"), update("10.4.0.0/24"))
                    await until(lambda: len(shown(one, received=True)) == 2)
                    assert shown(one) == []
                    assert one.state("peer", "scripted") == ("ACTIVE", REFUSED_BOTH_WAYS)
                    assert (one.session()["import_policy"], one.session()["routes_rejected"]) == ("reject", 2)
                    assert one.session()["without_policy"] == REFUSED_BOTH_WAYS
                    assert "is not established" not in str(one.node.status()["degraded"])
                    one.node.write([attrs.evolve(wish, import_policy="accept", export_policy={"ipv4": "reject"})])
                    assert shown(one) == [("10.3.0.0/24", None), ("10.4.0.0/24", None)]
                    assert one.state("peer", "scripted") == ("ACTIVE", "")
                    assert one.session()["without_policy"] == ""
                    for source, found in (("scripted", 2), (SCRIPTED, 2), (wish.id, 2), ("local", 0)):
                        assert len(shown(one, source=source)) == found, source
                    with pytest.raises(LookupError):
                        shown(one, source="nobody")
                    await silent(peer, "NOTIFICATION")
                    assert one.session()["established"] == 1

    run(story)


def test_a_change_of_a_policy_works_the_routes_out_again_and_ends_no_session(tmp_path: Path) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1)
            prefixes = {"prefixes": ["10.3.0.0/16 le 24"]}
            with listening() as listener:
                wish = external(listener, import_policy="in", export_policy="accept")
                policy = named("in", {"match": prefixes, "set": {"local_pref": 200}, "then": "accept"})
                with pytest.raises(IntentError, match="there is no policy 'in'"):
                    one.start().write([wish])
                one.node.write([policy, wish])
                async with await listener.accept() as peer:
                    await peer.establish(OPEN)
                    await peer.say(update("10.3.0.0/24"), update("10.4.0.0/24"))
                    await until(lambda: len(shown(one, received=True)) == 2)
                    assert shown(one) == [("10.3.0.0/24", 200)]
                    assert shown(one, received=True) == [("10.3.0.0/24", None), ("10.4.0.0/24", None)]
                    for change, expected in (
                        ({"default": "accept"}, [("10.3.0.0/24", 200), ("10.4.0.0/24", None)]),
                        ({"statement": ({"match": prefixes, "then": "reject"},)}, [("10.4.0.0/24", None)]),
                        ({"statement": ()}, [("10.3.0.0/24", None), ("10.4.0.0/24", None)]),
                    ):
                        policy = attrs.evolve(policy, **change)
                        one.node.write([policy])
                        assert shown(one) == expected, change
                    with pytest.raises(ConflictError, match="policy 'in' is used by scripted"):
                        one.node.write([Removal("policy", "in")])
                    assert one.state("policy", "in") == ("ACTIVE", "")
                    await silent(peer, "NOTIFICATION")
                    assert one.session()["established"] == 1
                    one.node.write([Removal("peer", "scripted"), Removal("policy", "in")])
                    assert one.node.intent.policies.rows == {}

    run(story)


def test_a_policy_is_tried_on_what_a_peer_told_and_changes_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1)
            asked = {"peer": SCRIPTED, "route": None, "direction": "in", "family": None, "prefix": None, "limit": 10}
            tried = named(
                "tried",
                {"match": {"neighbours": [64513], "prefixes": ["10.3.0.0/24"]}, "set": {"med": 5}, "then": "accept"},
            )
            with listening() as listener:
                one.start().write([external(listener, import_policy="reject"), tried])
                async with await listener.accept() as peer:
                    await peer.establish(OPEN)
                    await peer.say(update("10.3.0.0/24"), update("10.4.0.0/24"))
                    await until(lambda: len(shown(one, received=True)) == 2)
                    told = {each["nlri"]: each for each in one.node.try_policy(tried, asked)}
                    assert {nlri: each["verdict"] for nlri, each in told.items()} == {
                        "10.3.0.0/24": "changed",
                        "10.4.0.0/24": "rejected",
                    }
                    assert told["10.3.0.0/24"]["changes"] == [{"field": "med", "old": None, "new": 5, "by": "0"}]
                    assert len(one.node.try_policy(tried, {**asked, "prefix": "10.4.0.0/24"})) == 1
                    assert one.node.try_policy(tried, {**asked, "direction": "out"}) == []
                    for wrong, field in (
                        ({"peer": "nobody"}, "peer"),
                        ({"peer": None}, "peer"),
                        ({"family": "vpls"}, "family"),
                        ({"prefix": "nowhere"}, "prefix"),
                    ):
                        with pytest.raises(IntentError) as refusal:
                            one.node.try_policy(tried, {**asked, **wrong})
                        assert refusal.value.field == field
                    assert shown(one) == []

    run(story)


def test_neighbours_that_a_policy_treats_the_same_have_one_decision_which_lets_memberships_through(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1)
            fields: dict[str, Any] = {"remote_as": 64513, "families": ("vpnv4", "rtc"), "passive": True}
            theirs = named("theirs", {"match": {"neighbours": ["127.0.2.3"]}, "then": "accept"})
            wishes = [
                Peer(id=f"p{n}", address=f"127.0.2.{n}", import_policy=policy, export_policy="accept", **fields)
                for n, policy in enumerate(
                    ["theirs", "theirs", "theirs", {"vpnv4": "accept", "rtc": "reject"}, "reject"], 1
                )
            ]
            one.start().write([theirs, *wishes])
            decide = {n: one.node.engine.neighbours[f"127.0.2.{n}"].terms.importing for n in range(1, 6)}
            assert decide[1] is decide[2] is not decide[3]
            path = make(Interner(), next_hop=bytes((192, 0, 2, 9))).path(b"")
            accepted = {
                n: [family.text for family in (Family.VPNV4, Family.RTC) if each(family, b"\0", path) is path]
                for n, each in decide.items()
            }
            assert accepted == {1: ["rtc"], 2: ["rtc"], 3: ["vpnv4", "rtc"], 4: ["vpnv4"], 5: []}
            one.node.write([attrs.evolve(theirs, default="accept")])
            again = {n: one.node.engine.neighbours[f"127.0.2.{n}"].terms.importing for n in range(1, 6)}
            assert [n for n in again if again[n] is not decide[n]] == [1, 2, 3], "who does not use it is left alone"

    run(story)


def dial(lab: Lab, number: int) -> Any:
    """Connect to site 1 from another address of the loopback."""
    return ScriptedPeer.dial("127.0.1.1", lab.port, source=f"127.0.2.{number}")


def test_those_in_a_prefix_may_connect_and_come_and_go_with_their_sessions(tmp_path: Path) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1)
            fields: dict[str, Any] = {"remote_as": 64513, "families": ("ipv4",), "restart_time_s": 0}
            wish = Peer(
                id="many", name="many", address="127.0.2.0/24", dynamic_limit=2, import_policy="accept", **fields
            )
            one.start().write([wish])
            assert one.node.sessions() == []
            noted = (
                "of at most 2 neighbours are there; no export policy: this external peer is told no routes (RFC 8212)"
            )
            assert one.state("peer", "many") == ("ACTIVE", f"0 {noted}")
            async with await dial(lab, 5) as first, await dial(lab, 6) as second:
                for peer in (first, second):
                    await peer.establish(OPEN)
                await first.say(update("10.3.0.0/24"))
                await until(lambda: shown(one) == [("10.3.0.0/24", None)])
                assert one.state("peer", "many") == ("ACTIVE", f"2 {noted}")
                assert [(each["peer"], each["range"]) for each in one.node.sessions()] == [
                    ("127.0.2.5", "127.0.2.0/24"),
                    ("127.0.2.6", "127.0.2.0/24"),
                ]
                async with await dial(lab, 7) as third:
                    assert await third.expect_end() == [], "one too many"
                one.node.write([attrs.evolve(wish, import_policy="reject")])
                assert shown(one) == [], "the neighbours have other terms and the same sessions"
                single = Peer(id="single", address="127.0.2.6", passive=True, **fields)
                one.node.write([single])
                assert (await second.expect_end())[-1].startswith("NOTIFICATION 6/3"), "it makes way"
                assert [each.get("range") for each in one.node.sessions()] == ["127.0.2.0/24", None]
                one.node.write([Removal("peer", "many")])
                assert (await first.expect_end())[-1].startswith("NOTIFICATION 6/3")
                assert [each["address"] for each in one.node.sessions()] == ["127.0.2.6"]
            async with await dial(lab, 6) as again:
                await again.establish(OPEN)
                await until(lambda: one.state("peer", "single")[0] == "ACTIVE")

    run(story)


def test_a_limit_ends_the_session_or_takes_no_more_and_is_shown(tmp_path: Path) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1)
            with listening() as listener:
                wish = external(listener, import_policy="accept", export_policy="accept", prefix_limits=2)
                one.start().write([wish])
                async with await listener.accept() as peer:
                    await peer.establish(OPEN)
                    await peer.say(*(update(f"10.{number}.0.0/16") for number in range(3)))
                    await until(lambda: one.session()["prefixes"]["ipv4"]["blocked"])
                    assert one.session()["prefixes"]["ipv4"] == {
                        "count": 2,
                        "most": 2,
                        "action": "block",
                        "blocked": True,
                    }
                    one.node.write([attrs.evolve(wish, prefix_limits={"ipv4": {"most": 2, "action": "restart"}})])
                    await silent(peer, "NOTIFICATION")
                    await peer.say(*(update(f"10.{number}.0.0/16") for number in range(3)))
                    assert "NOTIFICATION 6/1" in (await peer.expect_end())[-1]
                await until(lambda: one.session()["held_off"])
                assert one.state("peer", "scripted") == ("PENDING", "held off: more than 2 routes of ipv4")

    run(story)


def test_the_last_malformed_messages_are_kept_with_their_octets(tmp_path: Path) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1)
            with listening() as listener:
                one.start().write([external(listener, name="rr", import_policy="accept", export_policy="accept")])
                async with await listener.accept() as peer:
                    await peer.establish(OPEN)
                    await peer.say(update("10.3.0.0/24", origin=7))
                    await until(lambda: one.session()["malformed"])
                    (found,) = one.node.malformed("rr") or []
                    assert one.node.malformed(SCRIPTED) is not None
                    assert one.node.malformed("nobody") is None
                    assert "ORIGIN is 7" in found["reason"]
                    assert "40010107" in found["message"]
                    assert len(found["message"]) == 2 * found["length"]

    run(story)


def test_what_cannot_be_of_a_peer_is_its_error(tmp_path: Path) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one = lab.site(1)
            one.start()
            fields: dict[str, Any] = {"id": "p", "address": "127.0.2.9", "remote_as": 64512, "passive": True}
            for more, reason in (
                ({"role": "peer"}, "role peer towards a peer of our own AS"),
                ({"remote_as": 1, "route_reflector_client": True}, "only a peer of our own AS can be a client"),
                ({"address": "127.0.2.0/24", "remote_as": 1, "route_reflector_client": True}, "only a peer of our own"),
            ):
                one.node.write([Peer(**{**fields, **more})])
                state, words = one.state("peer", "p")
                assert (state, words[: len(reason)]) == ("ERROR", reason), more
                assert one.node.sessions() == []
                (trouble,) = one.node.status()["degraded"]
                assert trouble.startswith(
                    f"the peer {one.node.intent.peers['p'].address} is not as it is wanted: {reason}"
                )
                one.node.write([Removal("peer", "p")])
            one.node.write([Peer(**fields, prefix_limits=5, route_reflector_client=True)])
            assert one.state("peer", "p")[0] == "PENDING"
            terms = one.node.engine.neighbours["127.0.2.9"].terms
            assert (terms.client, set(terms.limits.values())) == (True, {PrefixLimit(most=5)})

    run(story)
