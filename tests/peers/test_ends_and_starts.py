"""Peers that die and come back, we who die and come back, and who ends a session saying why.

Facts of the peers: FRR 8.4 always tells the capability of long-lived routes, GoBGP 3.10 where it is configured.  FRR
says that it still forwards only with `preserve-fw-state`, BIRD 2.0 only when it is started with -R.  GoBGP sends
End-of-RIB only where graceful restart is configured, and takes no connection for 5 s after a session has ended.  BIRD
has no RFC 8538. FRR with graceful restart sends no End-of-RIB before it has ours, unless our OPEN says that we have
restarted.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

from tests.peers.features import OWN, OWN6, SHARED, Features
from tests.peers.test_several_paths import at_ours


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


def test_peers_keep_our_routes_while_we_die_and_come_back_and_as_the_last_resort_if_that_takes_long(
    features: Features,
) -> None:
    """RFC 4724 section 4.1, RFC 9494 section 4.2: within our AS we ask for 4 seconds and then an hour, else for 120."""
    prefix = OWN["exabgp"]
    asks: dict[str, Callable[[], list[Any]]] = {
        "frr": partial(features.frr_paths, "frr", prefix),
        "gobgp": partial(features.gobgp_paths, "gobgp", prefix),
        "bird": partial(features.bird_paths, prefix),
        "frr-out": partial(features.frr_paths, "frr-out", prefix),
        "gobgp-out": partial(features.gobgp_paths, "gobgp-out", prefix),
        "bird-out": partial(features.bird_paths, prefix, "outside"),
    }
    features.soon(lambda: all(ask() for ask in asks.values()), "all have it")
    killed(features, "ours")
    try:
        for node in ("frr", "frr-out"):
            features.soon(lambda node=node: asks[node]()[0].get("stale"), f"{node} keeps it as stale")  # type: ignore[misc]
        for node in ("gobgp", "gobgp-out"):
            features.soon(lambda node=node: asks[node]()[0]["stale"], f"{node} keeps it as stale")  # type: ignore[misc]
        features.soon(lambda: "(65535,6)" in asks["bird"]()[0], "BIRD marks it as long-lived")
        features.soon(lambda: "llgr-stale" in asks["frr"]()[0]["community"]["string"], "FRR marks it")
        features.soon(lambda: str(0xFFFF0006) in str(asks["gobgp"]()), "GoBGP marks it")
        assert "llgr-stale" not in str(asks["frr-out"]())
        assert "(65535,6)" not in str(asks["bird-out"]())
    finally:
        features.lab.start("ours")
    missed = []

    def back() -> bool:
        missed.extend(name for name, ask in asks.items() if not ask())
        return all(session["synced"] for session in features.api.get("sessions"))

    features.soon(back, "all sessions are there again", 30)
    for node in ("frr", "frr-out"):
        features.soon(lambda node=node: not any(path.get("stale") for path in asks[node]()), f"{node} has it afresh")  # type: ignore[misc]
    for node in ("gobgp", "gobgp-out"):
        features.soon(lambda node=node: not any(path["stale"] for path in asks[node]()), f"{node} has it afresh")  # type: ignore[misc]
    features.soon(lambda: "(65535,6)" not in str(asks["bird"]()), "the mark is gone")
    features.soon(lambda: len(at_ours(features)) == 5, "everything is as it was")
    assert not missed, "nobody was without it"


def test_who_ends_a_session_says_why_and_the_other_shows_it(features: Features) -> None:  # RFC 9003
    told = ("exabgp", "frr-out", "gobgp-out", "bird-out")
    for name in told:
        features.api.patch({"admin_state_up": False}, "peers", name)
    try:
        theirs = features.soon(
            lambda: (
                features.frr_neighbour("frr-out", "10.0.5.2").get("lastShutdownDescription")
                and features.frr_neighbour("frr-out", "10.0.5.2")
            ),
            "FRR shows it",
        )
        assert (theirs["lastErrorCodeSubcode"], theirs["lastShutdownDescription"]) == ("0602", "administratively down")
        said = re.compile("outside: Received: Administrative shutdown.*administratively down")
        features.soon(lambda: said.search(features.lab.log("bird", "bird")), "BIRD logs it")
        log = partial(features.lab.log, "gobgp-out", "gobgpd")
        features.soon(lambda: "administratively down" in log(), "GoBGP logs it")
        features.soon(lambda: "administratively down" in str(features.heard()), "ExaBGP hears it")
        status = features.api.get("peers", "bird-out")["status"]
        assert (status["state"], status["reason"]) == ("DOWN", "administratively down")
    finally:
        for name in told:
            features.api.patch({"admin_state_up": True}, "peers", name)

    features.configure("frr", "neighbor 192.0.2.100 shutdown message new cable")
    features.birdc("disable", "inside", '"new cable"')
    features.lab.run("gobgp", "gobgp", "neighbor", "192.0.2.100", "shutdown", "--reason", "new cable")
    try:
        why = "administrative shutdown (6/2): 'new cable'"
        for name in ("frr", "bird", "gobgp"):
            features.soon(lambda name=name: why in features.session(name)["last_down"], f"{name} said why")  # type: ignore[misc]
    finally:
        features.configure("frr", "no neighbor 192.0.2.100 shutdown")
        features.birdc("enable", "inside")
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
