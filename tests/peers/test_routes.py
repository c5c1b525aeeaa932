"""What routes of live peers say arrives at the others as it should, and what a peer cannot take is kept from it alone.

Facts of the peers: BIRD 2.0 takes a next hop that no interface leads to only with `gateway recursive` on a direct
session.  GoBGP 3.10 has no extended messages.  FRR 8.4 tells the capability of IPv6 next hops on IPv6 sessions alone,
BIRD where its channel says so, GoBGP always.  ExaBGP 5 can be told confederation segments only as the octets of the
attribute, and BIRD treats a route with them as withdrawn, also within its AS, if it is in no confederation.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from tests.peers.features import CLIENTS, OWN, OWN6, Features

NUMBERS = {"frr": 1, "gobgp": 2, "bird": 3, "exabgp": 4}


def heard(features: Features, prefix: str) -> list[Any]:
    """The attributes of the UPDATEs in which ExaBGP heard a prefix."""
    updates = [each["neighbor"]["message"].get("update", {}) for each in features.heard() if each["type"] == "update"]
    return [update["attribute"] for update in updates if f'"{prefix}"' in json.dumps(update.get("announce", {}))]


def test_every_route_is_told_to_every_other_peer_within_our_AS_and_outside(features: Features) -> None:  # RFC 4271
    for told, out in ((OWN, "frr-out"), (OWN6, "frr-out6")):
        for source, prefix in told.items():
            asks = {
                "frr": partial(features.frr_paths, "frr", prefix),
                "gobgp": partial(features.gobgp_paths, "gobgp", prefix),
                "bird": partial(features.bird_paths, prefix),
                "exabgp": partial(heard, features, prefix),
                out: partial(features.frr_paths, "frr-out", prefix),
                "gobgp-out": partial(features.gobgp_paths, "gobgp-out", prefix),
                "bird-out": partial(features.bird_paths, prefix, "outside6"),
            }
            for name, ask in asks.items():
                if name != source and f"{name}6" != source:
                    features.soon(ask, f"{name} has {prefix}")
            features.soon(partial(features.routes, prefix, source), f"ours shows {prefix}")

    def path_at(node: str, source: str) -> Any:
        return features.frr_paths(node, OWN[source])[0]

    inside, outside = path_at("frr", "bird"), path_at("frr-out", "bird")
    assert (inside["aspath"]["string"], outside["aspath"]["string"]) == ("Local", "64512")
    assert (inside["originatorId"], inside["clusterList"]["list"]) == ("192.0.2.3", ["192.0.2.100"])
    assert not {"originatorId", "clusterList", "locPrf"} & outside.keys()
    inside, outside = path_at("frr", "gobgp-out"), path_at("frr-out", "gobgp-out")
    assert (inside["aspath"]["string"], outside["aspath"]["string"]) == ("64602", "64512 64602")
    assert (inside["origin"], inside["locPrf"], "originatorId" in inside) == ("incomplete", 100, False)
    (route,) = features.routes(OWN["gobgp-out"])
    assert (route["as_path"], route["next_hop"], route["origin"]) == ([64602], "10.0.6.1", "incomplete")
    text = features.bird_paths(OWN["gobgp-out"], "outside")[0]
    assert "BGP.as_path: 64512 64602" in text


def test_communities_of_each_kind_arrive_as_they_were_said(features: Features) -> None:  # RFC 1997, 8092, 4360
    for source in CLIENTS:
        number, prefix = NUMBERS[source], OWN[source]
        (route,) = features.soon(partial(features.routes, prefix), f"ours has {prefix}")
        assert route["communities"] == [f"64512:{number}"], source
        assert route["large_communities"] == [f"64512:{number}:{number}"], source
        if source != "frr":
            (path,) = features.soon(partial(features.frr_paths, "frr", prefix), f"FRR has {prefix}")
            assert path["community"]["string"] == f"64512:{number}", source
            assert path["largeCommunity"]["string"] == f"64512:{number}:{number}", source
        if source != "gobgp":
            (path,) = features.soon(partial(features.gobgp_paths, "gobgp", prefix), f"GoBGP has {prefix}")
            said = {attribute["type"]: attribute for attribute in path["attrs"]}
            assert said[8]["communities"] == [(64512 << 16) + number], source
            assert said[32]["value"] == [{"ASN": 64512, "LocalData1": number, "LocalData2": number}], source
        if source != "bird":
            (text,) = features.soon(partial(features.bird_paths, prefix), f"BIRD has {prefix}")
            assert f"BGP.community: (64512,{number})" in text, source
            assert f"BGP.large_community: (64512, {number}, {number})" in text, source
        if source != "exabgp":
            said = features.soon(partial(heard, features, prefix), f"ExaBGP has {prefix}")[-1]
            assert said["community"] == [[64512, number]], source
            assert said["large-community"] == [[64512, number, number]], source


def test_the_bandwidth_of_a_link_is_shown_and_passed_on(features: Features) -> None:  # draft-ietf-idr-link-bandwidth
    prefix = "198.51.100.32/32"
    (route,) = features.soon(partial(features.routes, prefix), "ours has it")
    assert route["extended_communities"] == ["link-bandwidth:64512:10000000 transitive"]  # 80 Mbit/s, in octets
    (path,) = features.soon(partial(features.gobgp_paths, "gobgp", prefix), "GoBGP has it")
    (said,) = [attribute for attribute in path["attrs"] if attribute["type"] == 16]
    assert said["value"][0]["bandwidth"] == 10_000_000.0
    features.soon(lambda: "BGP.ext_community: (unknown 0x4, 64512" in str(features.bird_paths(prefix)), "BIRD has it")


def test_segments_of_a_confederation_are_read_kept_inside_and_taken_out_outside(features: Features) -> None:  # RFC 5065
    prefix, octets = "198.18.5.0/24", "0x03020000FC590000FC5A02010000FDE8"
    features.say(
        f"announce route {prefix} next-hop 192.0.2.4 attribute [ 0x02 0x40 {octets} ] path-information 0.0.0.5"
    )
    try:
        (route,) = features.soon(partial(features.routes, prefix), "ours has it")
        assert route["as_path"] == [64601, 64602, 65000]
        (path,) = features.soon(partial(features.frr_paths, "frr", prefix), "FRR has it")
        assert path["aspath"]["string"] == "(64601 64602) 65000"
        assert not features.bird_paths(prefix), "BIRD, in no confederation, takes no such path"
        (path,) = features.soon(partial(features.gobgp_paths, "gobgp-out", prefix), "GoBGP outside has it")
        said = {attribute["type"]: attribute for attribute in path["attrs"]}
        assert said[2]["as_paths"] == [{"segment_type": 2, "num": 2, "asns": [64512, 65000]}]
    finally:
        features.say(f"withdraw route {prefix} next-hop 192.0.2.4 path-information 0.0.0.5")
    features.soon(lambda: not features.frr_paths("frr", prefix), "it is gone")


def test_an_IPv4_route_with_an_IPv6_next_hop_is_told_to_whom_takes_one(features: Features) -> None:  # RFC 8950
    for source, prefix, hop in (
        ("bird-out6", "100.64.36.0/24", "fd00:0:0:3::1"),
        ("frr-out6", "100.64.56.0/24", "fd00:0:0:5::1"),
    ):
        (route,) = features.soon(partial(features.routes, prefix, source), "ours has it")
        assert route["next_hop"] == hop
        (path,) = features.soon(partial(features.gobgp_paths, "gobgp", prefix), "GoBGP has it")
        (reach,) = [attribute for attribute in path["attrs"] if attribute["type"] == 14]
        assert reach["nexthop"] == hop
        (text,) = (
            features.soon(partial(features.bird_paths, prefix, "outside6"), "BIRD has it")
            if source == "frr-out6"
            else [f"BGP.next_hop: {hop}"]
        )
        assert f"BGP.next_hop: {hop}" in text
        # Who takes none is not told it, and has what came after it.
        features.soon(partial(features.frr_paths, "frr", OWN["exabgp"]), "FRR has others")
        assert not features.frr_paths("frr", prefix), "on an IPv4 session"
        assert not features.bird_paths(prefix), "a channel without it"
        assert not heard(features, prefix), "ExaBGP did not say that it takes one"
    (path,) = features.soon(partial(features.frr_paths, "frr-out", "100.64.36.0/24"), "FRR has it over IPv6")
    assert path["nexthops"][0]["ip"] == "fd00:0:0:3::1"
    for name in ("frr-out6", "bird-out6", "gobgp"):
        assert features.session(name)["agreed"]["extended_next_hop"] == ["ipv4"], name
    assert "extendedNexthop" in features.frr_neighbour("frr-out", "fd00:0:0:5::2")["neighborCapabilities"]


def test_an_UPDATE_of_8000_octets_comes_from_BIRD_and_goes_to_whom_takes_it(features: Features) -> None:  # RFC 8654
    file = features.lab.folder / "bird/etc/bird/more-wide.conf"
    prefix, after = "100.64.33.0/24", "100.64.34.0/24"
    steady = features.flaps_nothing()

    def say(wide: int) -> None:
        added = " ".join(f"bgp_large_community.add((64603, 0, {n}));" for n in range(wide))
        file.write_text(f"route {prefix} blackhole {{ {added} }};\nroute {after} blackhole;\n")
        features.birdc("configure")

    try:
        say(650)
        (route,) = features.soon(lambda: features.routes(prefix, "bird-out"), "it comes from BIRD")
        assert len(route["large_communities"]) == 650
        (path,) = features.soon(partial(features.frr_paths, "frr", prefix), "FRR has it")
        assert len(path["largeCommunity"]["list"]) == 650
        (text,) = features.soon(partial(features.bird_paths, prefix), "BIRD has it, inside")
        assert text.count("(64603, 0, ") == 650
        assert len(features.soon(partial(heard, features, prefix), "ExaBGP has it")[-1]["large-community"]) == 650
        for node in ("gobgp", "gobgp-out"):
            features.soon(partial(features.gobgp_paths, node, after), f"{node} has what came with it")
            assert not features.gobgp_paths(node, prefix), "a peer of 4096 octets"
        say(100)
        for node in ("gobgp", "gobgp-out"):
            features.soon(partial(features.gobgp_paths, node, prefix), f"{node} has it when it has become smaller")
        say(650)
        for node in ("gobgp", "gobgp-out"):
            features.soon(lambda node=node: not features.gobgp_paths(node, prefix), f"{node} loses it again")  # type: ignore[misc]
    finally:
        file.unlink()
        features.birdc("configure")
    assert steady()
    limits = {name: features.session(name)["agreed"]["message_octets"] for name in ("frr", "bird", "exabgp", "gobgp")}
    assert limits == {"frr": 65535, "bird": 65535, "exabgp": 65535, "gobgp": 4096}
    assert features.frr_neighbour("frr")["neighborCapabilities"]["extendedMessage"] == "advertisedAndReceived"
