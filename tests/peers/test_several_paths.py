"""Several paths of one destination between ours, FRR, GoBGP, BIRD and ExaBGP (RFC 7911), and refreshes (RFC 7313).

Facts of the peers: GoBGP 3.10 has no enhanced route refresh, and never asks for a refresh, but answers one.
"""

from __future__ import annotations

from collections import Counter
from functools import partial

from tests.peers.features import OWN, SHARED, Features
from tests.peers.test_routes import heard

ALL = {"64512:1", "64512:2", "64512:3", "64512:33", "64512:4"}
THEIRS = {"frr": {"64512:1"}, "gobgp": {"64512:2"}, "bird": {"64512:3", "64512:33"}, "exabgp": {"64512:4"}}
"""The paths that each says, by their community."""


def at_ours(features: Features) -> set[str]:
    return {route["communities"][0] for route in features.routes(SHARED)}


def at_frr(features: Features) -> set[str]:
    return {
        path["community"]["string"]
        for path in features.frr_paths("frr", SHARED)
        if path.get("peer", {}).get("peerId") == "192.0.2.100"
    }


def at_gobgp(features: Features) -> set[str]:
    values = [
        attribute["communities"][0]
        for path in features.gobgp_paths("gobgp", SHARED)
        for attribute in path["attrs"]
        if attribute["type"] == 8
    ]
    return {f"{value >> 16}:{value & 0xFFFF}" for value in values}


def at_bird(features: Features) -> set[str]:
    texts = features.bird_paths(SHARED)
    return {text.partition("BGP.community: (")[2].partition(")")[0].replace(",", ":") for text in texts}


AT = {"frr": at_frr, "gobgp": at_gobgp, "bird": at_bird}


def everywhere(features: Features, paths: set[str]) -> None:
    """Wait until everybody has exactly these paths, but those that he says himself."""
    features.soon(lambda: at_ours(features) == paths, f"ours has {sorted(paths)}")
    for name, at in AT.items():
        features.soon(lambda name=name, at=at: at(features) == paths - THEIRS[name], f"{name} has {sorted(paths)}")  # type: ignore[misc]


def test_all_paths_of_all_clients_are_at_every_client_and_the_right_one_goes(features: Features) -> None:  # RFC 7911
    steady = features.flaps_nothing()
    everywhere(features, ALL)
    said = {":".join(map(str, each["community"][0])) for each in heard(features, SHARED)}
    assert said >= ALL - THEIRS["exabgp"]
    by_source = Counter(route["source"] for route in features.routes(SHARED))
    assert by_source == {"192.0.2.1": 1, "192.0.2.2": 1, "192.0.2.3": 2, "192.0.2.4": 1}, "BIRD tells two"

    features.birdc("disable", "another4")
    everywhere(features, ALL - {"64512:33"})
    features.birdc("enable", "another4")
    everywhere(features, ALL)
    features.say(f"withdraw route {SHARED} next-hop 192.0.2.4 path-information 0.0.0.1")
    everywhere(features, ALL - {"64512:4"})
    features.say(
        f"announce route {SHARED} next-hop 192.0.2.4 community [ 64512:4 ] path-information 0.0.0.1",
        f"announce route {SHARED} next-hop 192.0.2.4 community [ 64512:44 ] path-information 0.0.0.2",
    )
    everywhere(features, ALL | {"64512:44"})
    features.say(f"withdraw route {SHARED} next-hop 192.0.2.4 path-information 0.0.0.2")
    features.lab.run("gobgp", "gobgp", "global", "rib", "del", "-a", "ipv4", SHARED)
    everywhere(features, ALL - {"64512:2"})
    features.lab.run(
        "gobgp",
        *f"gobgp global rib add -a ipv4 {SHARED} nexthop 192.0.2.2 community 64512:2 local-pref 200".split(),
    )
    everywhere(features, ALL)
    for name in AT:
        agreed = features.session(name)["agreed"]
        assert (agreed["add_path_receive"], agreed["add_path_send"]) == (["ipv4"], ["ipv4"]), name
    assert steady()


def test_who_is_to_hear_fewer_paths_hears_the_best_of_them_in_the_same_session(features: Features) -> None:
    steady = features.flaps_nothing()
    everywhere(features, ALL)
    with features.changed("frr", paths_out=1):
        features.soon(lambda: at_frr(features) == {"64512:2"}, "FRR has the one with local preference 200")
    everywhere(features, ALL)
    assert steady()


def test_who_does_not_take_several_paths_has_the_best_one(features: Features) -> None:
    (path,) = features.soon(partial(features.frr_paths, "frr-out", SHARED), "FRR outside")[:1]
    assert path["community"]["string"] == "64512:2"


def test_a_peer_that_asks_again_is_told_everything_between_begin_and_end(features: Features) -> None:  # RFC 7313
    steady = features.flaps_nothing()
    everywhere(features, ALL)

    def of_frr() -> int:
        count: int = features.frr_neighbour("frr")["messageStats"]["routeRefreshRecv"]
        return count

    before = of_frr()
    features.vtysh("frr", "clear bgp ipv4 unicast 192.0.2.100 soft in")
    features.soon(lambda: of_frr() == before + 2, "begin and end came")

    def of_bird() -> int:
        line = features.birdc("show", "protocols", "all", "inside").partition("Import updates:")[2]
        return int(line.split()[0])

    before = of_bird()
    features.birdc("reload", "in", "inside")
    features.soon(lambda: of_bird() > before, "BIRD was told them again")
    everywhere(features, ALL)
    assert steady()
    agreed = {name: features.session(name)["agreed"]["enhanced_refresh"] for name in ("frr", "bird", "exabgp", "gobgp")}
    assert agreed == {"frr": True, "bird": True, "exabgp": True, "gobgp": False}
    assert features.frr_neighbour("frr")["neighborCapabilities"]["enhancedRouteRefresh"] == "advertisedAndReceived"


def test_what_we_ask_a_peer_for_again_comes_between_begin_and_end_and_nothing_is_lost(features: Features) -> None:
    """RFC 7313: what a limit blocked is asked for again when there is more room."""
    more = "100.65.5.0/24"
    steady = features.flaps_nothing()

    def counted(what: str) -> int:
        count: int = features.frr_neighbour("frr-out", "10.0.5.2")["messageStats"][what]
        return count

    with features.changed("frr-out", prefix_limits={"ipv4": {"most": 1, "action": "block"}}):
        features.configure("frr-out", "address-family ipv4 unicast", f"network {more}")
        try:
            features.soon(lambda: features.session("frr-out")["prefixes"]["ipv4"]["blocked"], "it is blocked")
            asked, told = counted("routeRefreshRecv"), counted("routeRefreshSent")
            features.api.patch({"prefix_limits": 10}, "peers", "frr-out")
            features.soon(lambda: features.routes(more, "frr-out"), "it comes")
            features.soon(lambda: counted("routeRefreshSent") == told + 2, "FRR sent begin and end")
            assert counted("routeRefreshRecv") == asked + 1, "for one question"
            assert features.routes(OWN["frr-out"], "frr-out"), "what came before is there"
        finally:
            features.configure("frr-out", "address-family ipv4 unicast", f"no network {more}")
    features.soon(lambda: not features.routes(more), "it is gone")
    assert steady()
