"""Speakers on a running node, whose peers are other nodes: who hears what, by which AS, and what is known of it."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest

from bgpvpn.intent import Advertisement, FloatingIp, Network, Object, Peer, Policy, Removal, Router, Speaker, Subnet
from speaker.values import Family
from tests.bgpvpn.test_running import Lab, Site, standing, until
from tests.fakes.loop import run

WORLD: tuple[Object, ...] = (
    Network(id="out", external=True),
    Subnet(id="out4", network_id="out", cidr="203.0.113.0/24"),
    Subnet(id="out6", network_id="out", cidr="2001:db8:ffff::/64"),
    Network(id="red"),
    Subnet(id="red4", network_id="red", cidr="10.1.0.0/24"),
    Subnet(id="red6", network_id="red", cidr="2001:db8:1::/64"),
    Router(
        id="r1",
        subnet_ids=("red4", "red6"),
        gateway_network_id="out",
        gateway_ips=("203.0.113.5", "2001:db8:ffff::5"),
    ),
    FloatingIp(id="f1", network_id="out", address="203.0.113.77", router_id="r1"),
)
TOLD = {"10.1.0.0/24": "203.0.113.5", "203.0.113.77/32": "203.0.113.5"}
OURS = 64600
"""The AS of the speakers: not that of the nodes, 64512."""


def of(site: Site, lab: Lab, number: int, **more: Any) -> Peer:
    """The wish of a site for another one as its peer."""
    fields = {
        "id": f"peer{number}",
        "name": f"pe{number}",
        "address": f"127.0.1.{number}",
        "port": lab.port,
        "remote_as": 64512,
        "local_address": site.address,
        "families": ("ipv4", "ipv6"),
        "hold_time_s": 9,
    }
    return Peer(**fields | more)


@contextlib.asynccontextmanager
async def speaking(folder: Path, *numbers: int, asn: int = OURS, **more: Any) -> AsyncIterator[tuple[Lab, list[Site]]]:
    """Site 1 with the world in it and wishes for the others as peers, and these, which take us for the AS."""
    async with standing(folder) as lab:
        sites = [lab.site(number, deferral_s=1) for number in (1, *numbers)]
        for site in sites:
            site.start()
        one = sites[0]
        one.node.write([*WORLD, *(of(one, lab, number, **more) for number in numbers)])
        for site in sites[1:]:
            site.node.write([of(site, lab, 1, remote_as=asn, import_policy="accept")])
        yield lab, sites


def heard(site: Site, family: str | None = None) -> dict[str, str]:
    """What a site was told of unicast routes: destinations and next hops."""
    rows = site.node.routes(
        family=family, route_target=None, prefix=None, vpn=None, source=None, most=1000, received=True
    )
    return {row["nlri"]: row["next_hop"] for row in rows if row["family"] in ("ipv4", "ipv6")}


def speaker(id_: str = "s4", *peers: str, **more: Any) -> Speaker:
    return Speaker(**{"id": id_, "local_as": OURS, "networks": ("out",), "peers": peers, **more})


def test_each_peer_hears_its_speakers_and_who_is_in_none_hears_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with speaking(tmp_path, 2, 3, 4) as (_, (one, two, three, four)):
            one.node.write(
                [
                    speaker("s4", "peer2", name="four"),
                    speaker("s6", "peer2", "peer3", ip_version=6),
                    speaker("other", "peer3", networks=()),
                    Advertisement(id="a", speaker_id="other", destination="192.0.2.0/24", next_hop="198.51.100.9"),
                ]
            )
            six = {"2001:db8:1::/64": "2001:db8:ffff::5"}
            await until(lambda: heard(two) == TOLD | six)
            await until(lambda: heard(three) == six | {"192.0.2.0/24": "198.51.100.9"})
            assert heard(four) == {}
            assert [row["as_path"] for row in two.node.routes(**everything("10.1.0.0/24"))] == [[OURS]]
            assert two.session()["remote_as"] == OURS
            assert one.node.advertised("s4") == [
                {
                    "destination": "10.1.0.0/24",
                    "next_hop": "203.0.113.5",
                    "why": "subnet red4 of router r1, in the address scope of its external network",
                    "kind": "subnet",
                    "id": "red4",
                    "told_to": ["127.0.1.2"],
                },
                {
                    "destination": "203.0.113.77/32",
                    "next_hop": "203.0.113.5",
                    "why": "floating address f1 by way of router r1",
                    "kind": "floating_ip",
                    "id": "f1",
                    "told_to": ["127.0.1.2"],
                },
            ]
            (own,) = one.node.explain_prefix("10.1.0.0/24")["own"]
            assert (own["speaker"], own["told_to"]) == ("four", ["127.0.1.2"])
            assert own["why"].startswith("subnet red4 of router r1")
            assert {each["peer"]: each["reason"] for each in own["not_told_to"]} == {
                "127.0.1.3": "it is no peer of speaker four",
                "127.0.1.4": "it is no peer of speaker four",
            }
            local = one.node.routes(**everything("10.1.0.0/24", source="local"))
            assert [row["source"] for row in local] == ["local/s4"]
            # other memberships, at once, and no session ends
            one.node.write([speaker("s4", "peer3", name="four"), speaker("s6", ip_version=6)])
            await until(lambda: heard(three) == TOLD | {"192.0.2.0/24": "198.51.100.9"})
            await until(lambda: heard(two) == {})
            one.node.write([Removal("speaker", "other")])
            await until(lambda: heard(three) == TOLD)
            assert [three.session()["established"], three.session()["flaps"]] == [1, 0]

    run(story)


def advertisement(speaker_id: str, destination: str, next_hop: str) -> Advertisement:
    id_ = f"{speaker_id}-{destination.replace('/', '-')}"
    return Advertisement(id=id_, speaker_id=speaker_id, destination=destination, next_hop=next_hop)


def everything(prefix: str | None = None, **more: Any) -> dict[str, Any]:
    asked = {"family": None, "route_target": None, "vpn": None, "source": None, "most": 100, "received": False}
    return asked | {"prefix": prefix} | more


def test_a_peer_knows_us_by_its_own_local_as_else_by_that_of_its_speaker_else_by_that_of_the_node(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with speaking(tmp_path, 2, asn=64512) as (lab, (one, two)):
            await until(lambda: one.session()["state"] == "established")
            assert one.session()["local_as"] == 64512
            one.node.write([speaker("s4", "peer2")])
            two.node.write([of(two, lab, 1, remote_as=OURS, import_policy="accept")])
            await until(lambda: heard(two) == TOLD)
            assert (one.session()["local_as"], one.node.engine.own.asns) == (OURS, {64512, OURS})
            one.node.write([of(one, lab, 2, local_as=64700)])
            two.node.write([of(two, lab, 1, remote_as=64700, import_policy="accept")])
            await until(lambda: heard(two) == TOLD)
            assert one.state("speaker", "s4") == ("ACTIVE", "peer pe2 knows this node as AS 64700")
            one.node.write([of(one, lab, 2), Removal("speaker", "s4")])
            two.node.write([of(two, lab, 1)])
            await until(lambda: two.session()["state"] == "established")
            assert (one.session()["local_as"], heard(two)) == (64512, {})

    run(story)


def test_peers_that_come_from_a_prefix_are_in_a_speaker_together(tmp_path: Path) -> None:
    async def story() -> None:
        async with standing(tmp_path) as lab:
            one, two, three = (lab.site(number, deferral_s=1).start() and lab.sites[-1] for number in (1, 2, 3))
            guests = Peer(id="guests", address="127.0.1.0/24", remote_as=64512, families=("ipv4",), hold_time_s=9)
            one.node.write([*WORLD, guests])
            for site in (two, three):
                site.node.write([of(site, lab, 1, remote_as=OURS, families=("ipv4",), import_policy="accept")])
            one.node.write([speaker("s4", "guests")])
            await until(lambda: heard(two) == heard(three) == TOLD)
            assert one.state("speaker", "s4") == ("ACTIVE", "")
            assert sorted(one.node.advertised("s4")[0]["told_to"]) == ["127.0.1.2", "127.0.1.3"]
            one.node.write([speaker("s4", "guests", advertise_tenant_networks=False)])
            await until(lambda: heard(two) == heard(three) == {"203.0.113.77/32": "203.0.113.5"})
            assert {each["flaps"] for each in one.node.sessions()} == {0}
            one.node.write([speaker("s4")])  # they know us by another AS now
            await until(lambda: heard(two) == heard(three) == {})

    run(story)


def test_what_peers_tell_a_speaker_is_shown_with_what_is_best_of_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with speaking(tmp_path, 2, 3) as (lab, (one, *others)):
            accepting = {"ipv4": "accept"}
            one.node.write(
                [of(one, lab, number, remote_as=64700 + number, import_policy=accepting) for number in (2, 3)]
            )
            one.node.write([speaker("s4", "peer2", "peer3"), speaker("s6", "peer2", ip_version=6)])
            for number, site in enumerate(others, 2):
                site.node.write(
                    [
                        speaker("mine", "peer1", local_as=64700 + number, networks=()),
                        speaker("mine6", "peer1", local_as=64700 + number, networks=(), ip_version=6),
                        *(
                            advertisement("mine", to, f"198.51.100.{number}")
                            for to in (f"192.0.2.{number}/32", "100.64.0.0/16", "10.1.0.0/24")
                        ),
                        advertisement("mine6", "2001:db8:9::/48", f"2001:db8::{number}"),
                    ]
                )
            await until(lambda: len(one.node.learned("s4")) == 6 and len(one.node.learned("s6")) == 1)
            assert [(row["destination"], row["peer"], row["best"], row["why"]) for row in one.node.learned("s4")] == [
                ("10.1.0.0/24", "127.0.1.2", False, "our own routes come before received ones"),
                ("10.1.0.0/24", "127.0.1.3", False, "our own routes come before received ones"),
                ("100.64.0.0/16", "127.0.1.2", True, ""),
                ("100.64.0.0/16", "127.0.1.3", True, ""),
                ("192.0.2.2/32", "127.0.1.2", True, ""),
                ("192.0.2.3/32", "127.0.1.3", True, ""),
            ]
            shown = one.node.learned("s4")[-1]
            assert (shown["next_hop"], shown["as_path"], shown["stale"]) == ("198.51.100.3", [64703], False)
            (six,) = one.node.learned("s6")
            assert (six["destination"], six["peer"], six["next_hop"]) == ("2001:db8:9::/48", "127.0.1.2", "2001:db8::2")
            assert (six["best"], six["why"]) == (False, "the import policy rejects it"), "RFC 8212"
            assert heard(others[1]) == TOLD, "nothing of it is passed on"
            others[0].node.write([Removal("speaker", "mine")])
            await until(lambda: [row["peer"] for row in one.node.learned("s4")] == ["127.0.1.3"] * 3)

    run(story)


def test_an_external_peer_without_a_policy_is_told_what_its_speakers_say_and_that_is_said_of_it(tmp_path: Path) -> None:
    async def story() -> None:
        families = ("ipv4", "ipv6", "vpnv4")
        async with speaking(tmp_path, 2, families=families) as (lab, (one, two)):
            two.node.write([of(two, lab, 1, remote_as=OURS, families=families, import_policy="accept")])
            one.node.write([speaker("s4", "peer2")])
            await until(lambda: heard(two) == TOLD)
            said = (
                "no import policy: all routes of this external peer are rejected (RFC 8212); "
                "no export policy for ipv6, vpnv4: it is told none (RFC 8212)"
            )
            assert one.state("peer", "peer2") == ("ACTIVE", said)
            assert (one.session()["without_policy"], one.session()["export_policy"]) == (said, {"ipv4": "own routes"})
            reject = of(one, lab, 2, families=families, export_policy="reject")
            one.node.write([reject])
            await until(lambda: heard(two) == {})
            hosts = Policy(
                id="hosts",
                name="hosts",
                statement=({"match": {"prefixes": ["0.0.0.0/0 ge 32"]}, "then": "accept"},),
            )
            one.node.write([hosts, attrs.evolve(reject, export_policy="hosts")])
            await until(lambda: heard(two) == {"203.0.113.77/32": "203.0.113.5"})

    run(story)


def test_statuses_of_speakers_and_of_what_they_tell(tmp_path: Path) -> None:
    async def story() -> None:
        async with speaking(tmp_path, 2) as (lab, (one, _)):
            told = Advertisement(id="a", speaker_id="s4", destination="192.0.2.0/24", next_hop="198.51.100.9")

            def states() -> Mapping[str, tuple[str, str]]:
                return {f"{kind} {id_}": one.state(kind, id_) for kind, id_ in wanted}

            wanted = (("router", "r1"), ("floating_ip", "f1"))
            assert states() == {
                "router r1": ("DOWN", "no speaker tells of network out"),
                "floating_ip f1": ("DOWN", "no speaker announces IPv4 floating addresses of network out"),
            }
            one.node.write([speaker("s4"), told])
            wanted = (*wanted, ("speaker", "s4"), ("advertisement", "a"))
            assert states() == {
                "router r1": ("ACTIVE", ""),
                "floating_ip f1": ("DOWN", "speaker s4: no peer is in it"),
                "speaker s4": ("DOWN", "no peer is in it"),
                "advertisement a": ("DOWN", "speaker s4: no peer is in it"),
            }
            one.node.write([speaker("s4", "peer2"), of(one, lab, 2, admin_state_up=False)])
            assert states()["speaker s4"] == ("DOWN", "its peers are administratively down")
            one.node.write([of(one, lab, 2)])
            assert states()["speaker s4"][0] == "PENDING"
            assert states()["floating_ip f1"][1].startswith("speaker s4: peer pe2: ")
            await until(lambda: states()["speaker s4"] == ("ACTIVE", ""))
            assert {state for state, _ in states().values()} == {"ACTIVE"}
            one.node.write([attrs.evolve(told, id="b", destination="203.0.113.77/32")])
            assert states()["floating_ip f1"] == ("DOWN", "something else is told of it: advertisement b says so")
            one.node.write(
                [Removal("advertisement", "a"), Removal("advertisement", "b"), speaker("s4", "peer2", networks=())]
            )
            wanted = wanted[:3]
            assert states()["speaker s4"] == ("ACTIVE", "there is nothing to tell")

    run(story)


def test_routes_stay_at_the_peer_over_a_restart_of_the_node_although_vpns_are_there(tmp_path: Path) -> None:
    async def story() -> None:
        async with speaking(tmp_path, 2) as (_, (one, two)):
            one.node.write([speaker("s4", "peer2"), *one.wishes()])
            await until(lambda: heard(two) == TOLD)
            await one.stop()
            for rows in (*one.kernel.rows.values(), *one.kernel.routes.values()):
                rows.clear()
            await until(lambda: two.session()["state"] != "established")
            assert heard(two) == TOLD
            lost = []
            one.start()
            await until(lambda: lost.append(1) if heard(two) != TOLD else two.session()["synced"])
            assert (lost, heard(two)) == ([], TOLD)
            assert two.session()["routes_stale"] == 0
            negotiated = two.node.engine.neighbours[one.address].negotiated
            assert negotiated is not None
            assert negotiated.graceful is not None
            assert negotiated.graceful.forwarding == {Family.IPV4: True, Family.IPV6: True}, "or they were swept"

    run(story)


@pytest.mark.parametrize("seed", range(6))
def test_under_every_order_of_changes_no_peer_hears_what_its_speakers_do_not_say(tmp_path: Path, seed: int) -> None:
    async def story() -> None:
        chance = Random(seed)
        async with speaking(tmp_path, 2, 3, local_as=OURS) as (_, (one, *others)):
            marks = {id_: f"198.51.100.{number}" for number, id_ in enumerate(("s1", "s2", "s3"), 1)}
            members: dict[str, tuple[str, ...]] = {}
            allowed: dict[str, set[str]] = {"127.0.1.2": set(), "127.0.1.3": set()}

            def watched() -> None:
                """Whatever a peer holds it was in a speaker for, at some time since it last held nothing."""
                for site in others:
                    assert set(heard(site).values()) <= allowed[site.address], site.address

            for _ in range(40):
                id_ = chance.choice(list(marks))
                if id_ in members and chance.random() < 0.2:
                    one.node.write([Removal("speaker", id_)])
                    del members[id_]
                elif id_ not in members or chance.random() < 0.4:
                    peers = tuple(each for each in ("peer2", "peer3") if chance.random() < 0.4)
                    members[id_] = peers
                    for each in peers:
                        allowed[f"127.0.1.{each[-1]}"].add(marks[id_])
                    one.node.write([speaker(id_, *peers, networks=())])
                else:
                    number = chance.randrange(4)
                    told = Advertisement(
                        id=f"{id_}-{number}", speaker_id=id_, destination=f"192.0.2.{number}/32", next_hop=marks[id_]
                    )
                    gone = told.id in one.node.intent.advertisements
                    one.node.write([Removal("advertisement", told.id) if gone else told])
                if chance.random() < 0.3:
                    await until(lambda: settled(one, others, members, marks))
                    for site in others:
                        peer = f"peer{site.number}"
                        allowed[site.address] = {marks[each] for each, peers in members.items() if peer in peers}
                watched()
            await until(lambda: settled(one, others, members, marks))

    run(story)


def settled(one: Site, others: list[Site], members: Mapping[str, tuple[str, ...]], marks: Mapping[str, str]) -> bool:
    """Whether each peer holds what its speakers say, of several the one with the lowest next hop, and no more."""
    for site in others:
        wanted: dict[str, str] = {}
        for told in one.node.intent.advertisements.rows.values():
            if f"peer{site.number}" in members[told.speaker_id]:
                hops = [told.next_hop, wanted.get(told.destination, told.next_hop)]
                wanted[told.destination] = min(hops, key=lambda text: ipaddress.ip_address(text).packed)
        if heard(site) != wanted:
            return False
    return True
