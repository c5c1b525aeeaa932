"""What is agreed between operators and not between programs: policies, limits, roles, keys, who may connect.

Facts of the peers: GoBGP 3.10 has no roles, FRR 8.4 and BIRD 2.0 have.  FRR and BIRD end the session when its MD5 key
is changed at their end.  What FRR sends of a role that does not fit is in its log only.  No peer with a role tells a
route that has OTC to its provider, so that only one without can be made to leak one.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from cli.api import Refused
from tests.peers.features import OWN, OWN6, PEERS, Features


def from_gobgp(features: Features) -> set[str]:
    """The IPv4 routes that we use of GoBGP outside."""
    return {route["nlri"] for route in features.api.get("routes", family="ipv4", source="10.0.6.1")}


def to_gobgp(features: Features) -> set[str]:
    """The IPv4 routes that GoBGP outside has of us."""
    return set(features.gobgp("gobgp-out", "neighbor", "10.0.6.2", "adj-in", "-a", "ipv4") or {})


THEIRS = {"100.64.6.0/24", "100.64.6.64/26"}


def test_without_policy_nothing_comes_from_another_AS_or_goes_there_until_there_is_one(features: Features) -> None:
    """RFC 8212, and policies that are made and changed through the API while the session stays."""
    steady = features.flaps_nothing()
    features.soon(lambda: from_gobgp(features) == THEIRS and OWN["frr"] in to_gobgp(features), "routes flow")
    with features.changed("gobgp-out", import_policy=None, export_policy=None):
        features.soon(lambda: not from_gobgp(features), "nothing of it is used")
        features.soon(lambda: not to_gobgp(features), "it is told nothing")
        features.soon(lambda: not features.frr_paths("frr", OWN["gobgp-out"]), "nobody hears of it")
        said = features.api.get("peers", "gobgp-out")["status"]["reason"]
        assert "no import policy: all routes of this external peer are rejected (RFC 8212)" in said
        assert "no export policy: this external peer is told no routes (RFC 8212)" in said
        session = features.session("gobgp-out")
        assert (session["state"], session["routes_rejected"], session["import_policy"]) == ("established", 3, "reject")

        policy = {"name": "six", "default": "reject", "statement": [{"match": {"communities": ["64602:6"]}}]}
        policy["statement"][0] |= {"set": {"local_pref": 150}, "then": "accept"}  # type: ignore[index]
        features.api.post(policy, "policies")
        try:
            features.api.patch({"import_policy": "six"}, "peers", "gobgp-out")
            features.soon(lambda: from_gobgp(features) == {"100.64.6.0/24"}, "one route flows")
            path = features.soon(partial(features.frr_paths, "frr", "100.64.6.0/24"), "FRR has it")[0]
            assert path["locPrf"] == 150
            policy["statement"][0]["match"] = {"communities": ["64602:7"]}  # type: ignore[index]
            features.api.patch({"statement": policy["statement"]}, "policies", "six")
            features.soon(lambda: from_gobgp(features) == {"100.64.6.64/26"}, "the other one flows")
            features.api.patch({"export_policy": "accept"}, "peers", "gobgp-out")
            features.soon(lambda: OWN["frr"] in to_gobgp(features), "it is told routes")
            with pytest.raises(Refused):
                features.api.delete("policies", "six")
        finally:
            features.api.patch({"import_policy": "accept"}, "peers", "gobgp-out")
            features.api.delete("policies", "six")
    features.soon(lambda: from_gobgp(features) == THEIRS and OWN["frr"] in to_gobgp(features), "routes flow")
    assert steady()


def say(features: Features, verb: str, *prefixes: str) -> None:
    """Let GoBGP outside say routes or not."""
    for prefix in prefixes:
        features.lab.run("gobgp-out", "gobgp", "global", "rib", verb, "-a", "ipv4", prefix)


MORE = ("100.65.1.0/24", "100.65.2.0/24")


def limited(most: int, action: str, **more: Any) -> dict[str, Any]:
    return {"prefix_limits": {"ipv4": {"most": most, "action": action, **more}, "all": {"most": 1000}}}


def test_a_limit_that_warns_and_one_that_blocks_keep_the_session(features: Features) -> None:
    steady = features.flaps_nothing()
    try:
        with features.changed("gobgp-out", **limited(2, "warn")):
            say(features, "add", *MORE)
            features.soon(lambda: from_gobgp(features) == THEIRS | set(MORE), "more come than the limit says")
            assert features.session("gobgp-out")["prefixes"]["ipv4"]["count"] == 4
        say(features, "del", *MORE)
        features.soon(lambda: from_gobgp(features) == THEIRS, "they are gone")
        with features.changed("gobgp-out", **limited(2, "block")):
            say(features, "add", *MORE)
            features.soon(lambda: features.session("gobgp-out")["prefixes"]["ipv4"]["blocked"], "it is blocked")
            assert from_gobgp(features) == THEIRS
            features.api.patch(limited(100, "block"), "peers", "gobgp-out")
            features.soon(lambda: from_gobgp(features) == THEIRS | set(MORE), "they are asked for again")
            assert not features.session("gobgp-out")["prefixes"]["ipv4"]["blocked"]
    finally:
        say(features, "del", *MORE)
    features.soon(lambda: from_gobgp(features) == THEIRS, "they are gone")
    assert steady()


def test_a_limit_that_restarts_ends_the_session_and_holds_it_off(features: Features) -> None:
    """RFC 4486: the peer hears Cease, maximum number of prefixes reached (6/1)."""
    with features.changed("frr-out", **limited(1, "restart", restart_s=2)):
        features.configure("frr-out", "address-family ipv4 unicast", f"network {MORE[0]}")
        try:
            held = features.soon(lambda: features.session("frr-out")["held_off"], "it is held off")
            assert 0 < held["for_s"] <= 2
            theirs = features.frr_neighbour("frr-out", "10.0.5.2")
            assert theirs["lastErrorCodeSubcode"] == "0601"
            assert "held off" in features.api.get("peers", "frr-out")["status"]["reason"]
            features.soon(lambda: not features.routes(OWN["frr-out"], "frr-out"), "its routes are gone")
        finally:
            features.configure("frr-out", "address-family ipv4 unicast", f"no network {MORE[0]}")
        features.established("frr-out")
        features.soon(lambda: features.routes(OWN["frr-out"], "frr-out"), "they are back")


def test_roles_that_fit_are_agreed_on_and_others_are_refused_with_2_11(features: Features) -> None:  # RFC 9234
    features.established("frr-out", "bird-out")
    assert features.session("frr-out")["agreed"]["role"] == "provider"
    assert features.session("bird-out")["agreed"]["role"] == "customer"
    theirs = features.frr_neighbour("frr-out", "10.0.5.2")
    assert (theirs["localRole"], theirs["remoteRole"]) == ("customer", "provider")
    assert features.birdc("show", "protocols", "all", "outside").count("Role: ") == 2
    with features.changed("frr-out", role="peer"), features.changed("bird-out", role="route-server"):
        for name in ("frr-out", "bird-out"):
            features.soon(lambda name=name: "(2/11)" in features.session(name)["last_error"], f"{name} is refused")  # type: ignore[misc]
        log = partial(features.lab.log, "frr-out", "bgpd")
        features.soon(lambda: "OPEN receipt failed for peer: 10.0.5.2" in log(), "FRR logs it")
        features.soon(lambda: "Role mismatch" in features.birdc("show", "protocols", "all", "outside"), "BIRD shows it")
    features.established()


def otc(features: Features, prefix: str) -> list[int | None]:
    """What FRR outside shows of ONLY_TO_CUSTOMER."""
    session = "fd00:0:0:5::2" if ":" in prefix else "10.0.5.2"  # of IPv4 routes: with roles
    return [path.get("otc") for path in features.frr_paths("frr-out", prefix) if path["peer"]["peerId"] == session]


def test_routes_are_marked_only_for_customers_and_a_leak_is_refused(features: Features) -> None:  # RFC 9234 section 5
    # On sessions over IPv4 BIRD outside is our provider and FRR outside our customer.
    features.soon(lambda: otc(features, OWN["bird-out"]) == [64603], "what the provider told is marked by it")
    features.soon(lambda: otc(features, OWN["frr"]) == [64512], "what is ours is marked by us")
    features.soon(lambda: otc(features, OWN["gobgp-out"]) == [64512], "and what has no mark")
    (text,) = features.soon(lambda: features.bird_paths(OWN["gobgp-out"], "outside"), "BIRD is told what has no mark")
    assert "otc" not in text

    # Those over IPv6 tell no role, and ours is what is configured.
    route = OWN6["bird-out6"]
    with features.changed("bird-out6", role="customer", strict_role=True):
        features.soon(lambda: "(2/11)" in features.session("bird-out6")["last_error"], "who must tell it is refused")
        features.api.patch({"strict_role": False}, "peers", "bird-out6")
        features.established("bird-out6")
        assert features.session("bird-out6")["agreed"]["role"] == "customer"
        features.soon(lambda: otc(features, route) == [64603], "we mark it in the name of the provider")
        with features.changed("frr-out6", role="customer"):
            features.established("frr-out6")
            features.soon(partial(features.frr_paths, "frr-out", OWN6["frr"]), "a provider is told what is ours")
            assert not features.frr_paths("frr-out", route), "and not what is from a provider"
            assert features.gobgp_paths("gobgp-out", route), "who has no role is told all"

    leak = "100.64.37.0/24"
    file = features.lab.folder / "bird/etc/bird/more-leak.conf"
    file.write_text(f"route {leak} blackhole {{ bgp_otc = 64999; }};\n")
    features.birdc("configure")
    try:
        features.soon(lambda: features.routes(leak, "bird-out6"), "without a role it is a route as any other")
        with features.changed("bird-out6", role="provider"):
            features.soon(lambda: not features.routes(leak, "bird-out6"), "from a customer it is a leak")
            features.established("bird-out6")
            assert features.routes(OWN["bird-out"], "bird-out6"), "others are none"
            assert not features.routes(leak, "bird-out6")
    finally:
        file.unlink()
        features.birdc("configure")
    features.established()


def test_the_MD5_key_changes_and_the_session_stays_until_the_peer_ends_it(features: Features) -> None:  # RFC 2385
    def key(secret: str) -> None:
        said = f"neighbor 192.0.2.100 password {secret}" if secret else "no neighbor 192.0.2.100 password"
        features.configure("frr", said)

    try:
        for secret in ("first", "second"):
            before = features.session("frr")["established"]
            features.api.patch({"password": secret}, "peers", "frr")
            now = features.session("frr")
            assert (now["state"], now["established"]) == ("established", before), "ours stays"
            key(secret)
            features.soon(
                lambda n=before: features.session("frr")["established"] > n, "FRR comes back with the new key"
            )  # type: ignore[misc]
    finally:
        features.api.patch({"password": None}, "peers", "frr")
        key("")
    features.established()


def test_a_directly_connected_peer_hears_nobody_whose_packets_are_not_fresh(features: Features) -> None:  # RFC 5082
    with features.changed("frr-out", ttl_security_hops=None):
        features.soon(lambda: features.session("frr-out")["state"] != "established", "TTL 1 is not 255")
    features.established("frr-out")
    assert features.frr_neighbour("frr-out", "10.0.5.2")["externalBgpNbrMaxHopsAway"] == 1


def test_peers_of_a_prefix_connect_as_far_as_there_is_room(features: Features) -> None:
    for name in ("frr", "bird"):
        features.api.delete("peers", name)
    client = {field: value for field, value in PEERS["frr"].items() if field != "address"}
    features.api.post({"name": "many", "address": "192.0.2.0/30", "dynamic_limit": 1, **client}, "peers")

    def there() -> list[Any]:
        return [each for each in features.api.get("sessions") if each.get("range") and each["state"] == "established"]

    try:
        features.soon(lambda: len(there()) == 1, "one of them is there")
        status = features.api.get("peers", "many")["status"]
        assert (status["state"], status["reason"]) == ("ACTIVE", "1 of at most 1 neighbours are there")
        features.api.patch({"dynamic_limit": 2}, "peers", "many")
        features.soon(lambda: len(there()) == 2, "both are there")
        assert {each["address"] for each in there()} == {"192.0.2.1", "192.0.2.3"}
        assert {each["range"] for each in there()} == {"192.0.2.0/30"}
        features.soon(partial(features.frr_paths, "frr", OWN["bird"]), "FRR has the route of BIRD")
        assert features.frr_neighbour("frr")["hostForeign"] == "192.0.2.100", "from the address that is configured"
        assert features.session("gobgp")["state"] == "established", "who is configured by himself is no part of it"
    finally:
        features.api.delete("peers", "many")
        features.make_peers("frr", "bird")
    features.established()
    assert json.loads(features.vtysh("frr", "show bgp ipv4 unicast summary json"))["peerCount"] == 1
