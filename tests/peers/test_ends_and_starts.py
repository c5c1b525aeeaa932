"""Peers that die and come back, we who die and come back, and who ends a session saying why.

Facts of the peers: FRR 8.4 always tells the capability of long-lived routes, GoBGP 3.10 where it is configured.  FRR marks what it forwards on with as preserved only with `preserve-fw-state`, BIRD 2.0 only when it is
started with -R.  GoBGP 3.10 sends End-of-RIB only where graceful restart is configured.  BIRD has no RFC 8538: what it keeps ends
with a NOTIFICATION.
"""

from __future__ import annotations

import signal
from functools import partial
from typing import Any

from tests.peers.features import CLIENTS, OWN, OWN6, SHARED, Features
from tests.peers.test_several_paths import at_ours

STALE = "LLGR_STALE"


def stale(features: Features, source: str) -> dict[str, str]:
    """How our routes from a peer are marked, by prefix."""
    address = features.session(source)["address"]
    return {route["nlri"]: route["stale"] for route in features.api.get("routes", source=address)}


def killed(features: Features, node: str) -> None:
    """End the programs of a node without a word to anybody."""
    features.lab.stop(node, None, signal.SIGKILL)


def test_the_routes_of_a_peer_that_dies_stay_until_it_says_all_that_it_still_has(features: Features) -> None:
    """RFC 4724 section 4.2."""
    gone = "198.51.100.32/32"
    for prefix in (OWN["frr"], OWN6["frr"], gone):
        features.soon(partial(features.bird_paths, prefix), f"BIRD has {prefix}")
    before = features.bird_paths(OWN["frr"])
    established = features.session("frr")["established"]
    file = features.lab.folder / "frr/etc/frr/frr.conf"
    text = file.read_text()
    killed(features, "frr")
    try:
        features.soon(lambda: features.session("frr")["state"] != "established", "we see that FRR is gone")
        found = stale(features, "frr")
        assert set(found.values()) == {"restarting"}
        assert {OWN["frr"], OWN6["frr"], gone, SHARED} == found.keys()
        assert features.session("frr")["routes_stale"] == 4
        assert features.bird_paths(OWN["frr"]) == before, "nobody hears of it"
        file.write_text(text.replace(f"  network {gone} route-map wide\n", ""))
    finally:
        features.lab.start("frr")
    features.soon(lambda: features.session("frr")["established"] == established + 1, "FRR is back")
    features.soon(lambda: not features.routes(gone), "what FRR says no more is swept")
    features.soon(lambda: not features.bird_paths(gone), "and gone at BIRD")
    assert features.bird_paths(OWN["frr"]) == before, "what it says again was there all the time"
    assert set(stale(features, "frr").values()) == {""}
    assert features.session("frr")["routes_stale"] == 0
    features.configure("frr", "address-family ipv4 unicast", f"network {gone} route-map wide")
    file.write_text(text)
    features.soon(partial(features.bird_paths, gone), "it is said again")


def test_long_lived_routes_are_marked_the_last_resort_and_kept_from_who_knows_nothing_of_them(
    features: Features,
) -> None:
    """RFC 9494 sections 4.2 to 4.5: the restart time of GoBGP is a second, what it asks for after that an hour."""
    prefix = OWN["gobgp"]

    def communities(node: str, of: str) -> list[str]:
        return [path.get("community", {}).get("string", "") for path in features.frr_paths(node, of)]

    features.soon(lambda: communities("frr-out", SHARED)[:1] == ["64512:2"], "GoBGP has the best path")
    features.soon(partial(features.bird_paths, prefix), "BIRD has it")
    killed(features, "gobgp")
    try:
        features.soon(lambda: set(stale(features, "gobgp").values()) == {"long-lived"}, "all are long-lived")
        features.soon(lambda: "llgr-stale" in communities("frr", prefix)[0], "FRR hears the mark")
        features.soon(lambda: "(65535,6)" in features.bird_paths(prefix)[0], "BIRD hears the mark")
        features.soon(lambda: "llgr-stale" in communities("frr-out", prefix)[0], "and in another AS")
        features.soon(lambda: not features.gobgp_paths("gobgp-out", prefix), "GoBGP outside knows nothing of it")
        assert features.gobgp_paths("gobgp-out", OWN["frr"])
        features.soon(lambda: "64512:2" not in communities("frr-out", SHARED)[0], "another path is the best")
        assert communities("frr-out", SHARED), "there is another"
    finally:
        features.lab.start("gobgp")
    features.soon(lambda: set(stale(features, "gobgp").values()) == {""}, "GoBGP is back")
    features.soon(lambda: communities("frr-out", SHARED)[:1] == ["64512:2"], "and has the best path again")
    features.soon(lambda: "(65535,6)" not in features.bird_paths(prefix)[0], "the mark is gone")


def at_all_clients(features: Features, prefix: str, but: str) -> dict[str, Any]:
    asks = {
        "frr": partial(features.frr_paths, "frr", prefix),
        "gobgp": partial(features.gobgp_paths, "gobgp", prefix),
        "bird": partial(features.bird_paths, prefix),
    }
    return {name: ask() for name, ask in asks.items() if name != but}


def test_peers_keep_our_routes_while_we_die_and_come_back(features: Features) -> None:  # RFC 4724 section 4.1
    prefix = OWN["exabgp"]
    features.soon(lambda: all(at_all_clients(features, prefix, "exabgp").values()), "all clients have it")
    killed(features, "ours")

    def marked() -> bool:
        return (
            any(path.get("stale") for path in features.frr_paths("frr", prefix))
            and all(path["stale"] for path in features.gobgp_paths("gobgp", prefix))
            and bool(features.bird_paths(prefix))
        )

    try:
        features.soon(marked, "the peers keep it as stale")
    finally:
        features.lab.start("ours")
    missed = []

    def back() -> bool:
        missed.extend(name for name, found in at_all_clients(features, prefix, "exabgp").items() if not found)
        return all(session["synced"] for session in features.api.get("sessions"))

    features.soon(back, "all sessions are there again", 30)
    features.soon(lambda: not features.frr_paths("frr", prefix)[0].get("stale"), "FRR has it afresh")
    features.soon(lambda: not features.gobgp_paths("gobgp", prefix)[0]["stale"], "and so has GoBGP")
    assert not missed, "nobody was without it"


def test_peers_keep_our_routes_as_the_last_resort_when_we_do_not_come_back(features: Features) -> None:
    """RFC 9494: we asked for a second, and then for an hour."""
    prefix = OWN["exabgp"]
    for name in CLIENTS:
        features.api.patch({"restart_time_s": 1}, "peers", name)
    try:
        features.soon(lambda: all(features.session(name)["synced"] for name in CLIENTS), "they know it")
        features.soon(lambda: all(at_all_clients(features, prefix, "exabgp").values()), "all clients have it")
        killed(features, "ours")
        try:
            features.soon(lambda: "(65535,6)" in features.bird_paths(prefix)[0], "BIRD marks it")
            features.soon(lambda: "llgr-stale" in str(features.frr_paths("frr", prefix)[0]["community"]), "FRR marks it")
            features.soon(lambda: str(0xFFFF0006) in str(features.gobgp_paths("gobgp", prefix)), "GoBGP marks it")
        finally:
            features.lab.start("ours")
        features.established()
        features.soon(lambda: "(65535,6)" not in str(features.bird_paths(prefix)), "the mark is gone")
    finally:
        for name in CLIENTS:
            features.api.patch({"restart_time_s": 120}, "peers", name)
    features.established()
    assert len(at_ours(features)) == 5


def test_who_ends_a_session_says_why_and_the_other_shows_it(features: Features) -> None:  # RFC 9003
    for name, end, begin in (
        (
            "frr",
            lambda: features.configure("frr", "neighbor 192.0.2.100 shutdown message new cable"),
            lambda: features.configure("frr", "no neighbor 192.0.2.100 shutdown"),
        ),
        (
            "bird",
            lambda: features.birdc("disable", "inside", '"new cable"'),
            lambda: features.birdc("enable", "inside"),
        ),
        (
            "gobgp",
            lambda: features.lab.run("gobgp", "gobgp", "neighbor", "192.0.2.100", "disable", "--reason", "new cable"),
            lambda: features.lab.run("gobgp", "gobgp", "neighbor", "192.0.2.100", "enable"),
        ),
    ):
        end()
        try:
            features.soon(lambda name=name: features.session(name)["state"] != "established", f"{name} has ended it")  # type: ignore[misc]
            said = features.session(name)["last_down"]
            assert "administrative shutdown (6/2): 'new cable'" in said, name
        finally:
            begin()
        features.established(name)

    for name in ("frr", "bird", "gobgp", "exabgp"):
        with features.changed(name, admin_state_up=False):
            features.soon(lambda name=name: features.session(name)["state"] != "established", "we have ended it")  # type: ignore[misc]
            if name == "frr":
                theirs = features.frr_neighbour("frr")
                assert theirs["lastErrorCodeSubcode"] == "0602"
                assert theirs["lastShutdownDescription"] == "administratively down"
            if name == "bird":
                shown = 'Received: Administrative shutdown: "administratively down"'
                features.soon(lambda: shown in features.birdc("show", "protocols", "all", "inside"), "BIRD shows it")
            if name == "gobgp":
                log = partial(features.lab.log, "gobgp", "gobgpd")
                features.soon(lambda: "administratively down" in log(), "GoBGP logs it")
            if name == "exabgp":
                features.soon(lambda: b"administratively down".hex() in str(features.heard()).lower(), "ExaBGP is told")
    features.established()


def test_a_NOTIFICATION_leaves_the_routes_of_who_said_so_and_a_hard_reset_does_not(features: Features) -> None:
    """RFC 8538: FRR sends a hard reset when it is told to shut down, and not when it is cleared so."""
    assert features.session("frr")["agreed"]["graceful_notification"]
    assert features.session("gobgp")["agreed"]["graceful_notification"]
    assert not features.session("bird")["agreed"]["graceful_notification"]
    features.soon(partial(features.bird_paths, OWN["frr"]), "BIRD has the route of FRR")
    before = features.bird_paths(OWN["frr"])
    established = features.session("frr")["established"]
    features.configure("frr", "no bgp hard-administrative-reset", "end", "clear bgp 192.0.2.100")
    try:
        features.soon(lambda: features.session("frr")["established"] > established, "it was reset")
        assert "administrative reset (6/4)" in features.session("frr")["last_down"]
        features.established("frr")
        assert features.bird_paths(OWN["frr"]) == before, "BIRD heard nothing of it"
    finally:
        features.configure("frr", "bgp hard-administrative-reset")
    established = features.session("frr")["established"]
    features.configure("frr", "neighbor 192.0.2.100 shutdown")
    try:
        features.soon(lambda: "hard reset (6/9)" in features.session("frr")["last_down"], "a hard reset")
        features.soon(lambda: not features.routes(OWN["frr"]), "the routes are gone")
    finally:
        features.configure("frr", "no neighbor 192.0.2.100 shutdown")
    features.established("frr")
    with features.changed("frr", admin_state_up=False):
        features.soon(lambda: features.frr_neighbour("frr").get("lastNotificationHardReset"), "ours is one too")
    features.established()
