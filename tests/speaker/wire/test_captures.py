"""Messages captured from routers decode to what two independent decoders made of them, and survive being sent on.

tests/vectors/captures.jsonl: the whole message in hex, what was negotiated, and what it means.
"""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any

import pytest

from speaker.errors import AttributeDiscard, BgpError, DisableFamily, SessionReset, TreatAsWithdraw
from speaker.path import Attributes
from speaker.values import Esi, Family, Mac, RouteDistinguisher, prefix_bytes
from speaker.wire.attribute import Interner
from speaker.wire.community import community_text
from speaker.wire.message import UPDATE, split
from speaker.wire.update import Update, UpdateDecoder, encode_updates, encode_withdrawals
from tests.speaker.wire.strategies import meaning

Json = dict[str, Any]

CAPTURES: list[Json] = [
    json.loads(line)
    for line in (Path(__file__).resolve().parents[2] / "vectors/captures.jsonl").read_text().splitlines()
]
NAMES = {"flow4": "ipv4-flowspec", "flowvpn4": "vpnv4-flowspec"}
"""The captures' words for families where they are not ours."""

for _capture in CAPTURES:
    _capture["families"] = [NAMES.get(name, name) for name in _capture["families"]]
CARRIED = {family.text for family in Family}


def decoded(capture: Json) -> Update:
    """What our decoder makes of a captured message; whether it came by iBGP is told by what it carries."""
    ((kind, body),), used = split(bytes.fromhex(capture["hex"]))
    assert (kind, used) == (UPDATE, len(capture["hex"]) // 2)
    ibgp = "local_pref" in capture["expect"]["attributes"]
    return reader(capture, ibgp=ibgp, as4=capture["negotiated"]["as4"]).decode(body)


def reader(capture: Json, *, ibgp: bool, as4: bool) -> UpdateDecoder:
    return UpdateDecoder(
        Interner(), ibgp=ibgp, as4=as4, families=frozenset(Family), add_path=families_with_path_identifiers(capture)
    )


def families_with_path_identifiers(capture: Json) -> frozenset[Family]:
    pairs = {tuple(pair) for pair in capture["negotiated"]["addpath"]}
    return frozenset(family for family in Family if (family.afi, family.safi) in pairs)


def key_of(family: str, nlri: Json) -> bytes | None:
    """The key of an NLRI as the captures have it; None for an EVPN type that is not carried."""
    identifier = int(nlri["path_id"]).to_bytes(4, "big") if "path_id" in nlri else b""
    key = key_without_identifier(family, nlri)
    return None if key is None else identifier + key


def key_without_identifier(family: str, nlri: Json) -> bytes | None:
    if family == "evpn":
        if nlri["route_type"] not in (1, 2):
            return None
        head = bytes((nlri["route_type"],)) + RouteDistinguisher.parse(rd_text(nlri["rd"])).wire
        tag = int(nlri["etag"]).to_bytes(4, "big")
        if nlri["route_type"] == 1:
            return head + Esi.parse(bytes.fromhex(nlri["esi"]).hex(":")).wire + tag
        address = ipaddress.ip_address(nlri["ip"]).packed if nlri["ip"] else b""
        return head + tag + b"\x30" + Mac.parse(nlri["mac"]).wire + bytes((len(address) * 8,)) + address
    if "components" in nlri:
        rd = RouteDistinguisher.parse(rd_text(nlri["rd"])).wire if "rd" in nlri else b""
        return rd + b"".join(map(component, nlri["components"]))
    prefix = prefix_bytes(nlri["prefix"])
    return RouteDistinguisher.parse(rd_text(nlri["rd"])).wire + prefix if "rd" in nlri else prefix


def component(described: Json) -> bytes:
    """A component of a flow specification from what the captures say of it."""
    head = bytes((described["type"],))
    if "ops" not in described:
        return head + bytes((described["length"],)) + bytes.fromhex(described["bytes"])
    return head + b"".join(bytes((op,)) + value.to_bytes(1 << (op >> 4 & 3), "big") for op, value in described["ops"])


def rd_text(text: str) -> str:
    """The captures put the type in front of a route distinguisher: 2:64512:1 is our 64512L:1."""
    kind, _, rest = text.partition(":")
    administrator, _, number = rest.rpartition(":")
    return f"{administrator}L:{number}" if kind == "2" and int(administrator) <= 0xFFFF else rest


def extra_of(family: str, nlri: Json) -> bytes:
    if family in ("vpnv4", "vpnv6"):
        label: int = nlri["labels_raw"][0]
        return (label & ~0x0E).to_bytes(3, "big")  # the traffic class is not part of a label
    if family == "evpn" and nlri["route_type"] == 1:
        return int(nlri["label1_raw"]).to_bytes(3, "big")
    assert family in ("ipv4", "ipv6", *NAMES.values()), family
    return b""


Routes = dict[tuple[str, bytes], bytes]


def expected(capture: Json) -> tuple[Routes, set[tuple[str, bytes]]]:
    """The routes announced, with their extra part, and those withdrawn, of the families that are carried."""
    expect = capture["expect"]
    announced = [("ipv4", nlri) for nlri in expect["nlri"]]
    withdrawn = [("ipv4", nlri) for nlri in expect["withdrawn"]]
    for part, into in (("mp_reach", announced), ("mp_unreach", withdrawn)):
        found = expect["attributes"].get(part)
        family = NAMES.get(found["family"], found["family"]) if found else ""
        if family in CARRIED:
            into += [(family, nlri) for nlri in found["nlri"]]
    routes = {
        (family, key): extra_of(family, nlri) for family, nlri in announced if (key := key_of(family, nlri)) is not None
    }
    return routes, {(family, key) for family, nlri in withdrawn if (key := key_of(family, nlri)) is not None}


def told(update: Update) -> tuple[Routes, set[tuple[str, bytes]]]:
    announced = {(family.text, key): path.extra for family, routes in update.announced for key, path in routes.items()}
    return announced, {(family.text, key) for family, keys in update.withdrawn for key in keys}


def blocks(update: Update) -> list[Attributes]:
    return [next(iter(routes.values())).attributes for _, routes in update.announced]


def words(attributes: Attributes) -> Json:
    """Attributes in the captures' words, those that are absent left out."""
    said: Json = {
        "origin": attributes.origin,
        "as_path": [[kind, list(numbers)] for kind, numbers in attributes.as_path],
        "med": attributes.med,
        "local_pref": attributes.local_pref,
        "communities": [f"{each >> 16}:{each & 0xFFFF}" for each in attributes.communities],
        "ext_communities": [each.hex() for each in attributes.ext_communities],
        "large_communities": [":".join(map(str, each)) for each in attributes.large_communities],
        "aggregator": attributes.aggregator
        and [attributes.aggregator[0], str(ipaddress.ip_address(attributes.aggregator[1]))],
        "atomic_aggregate": attributes.atomic_aggregate or None,
        "originator_id": attributes.originator_id and str(ipaddress.ip_address(attributes.originator_id)),
        "cluster_list": [str(ipaddress.ip_address(each)) for each in attributes.cluster_list],
        "prefix_sid": next((value.hex() for _, code, value in attributes.unknown if code == 40), None),
        "next_hop": str(ipaddress.ip_address(attributes.next_hop)) if attributes.next_hop else None,
    }
    return {name: value for name, value in said.items() if value not in (None, [])} | {
        "as_path": said["as_path"],
        "origin": said["origin"],
    }


def expected_words(capture: Json) -> Json:
    attributes = dict(capture["expect"]["attributes"])
    reach = attributes.pop("mp_reach", None)
    for part in ("mp_unreach", "unknown", "ext_communities_text", "tunnel_encap"):
        attributes.pop(part, None)
    if reach is not None:
        octets = bytes.fromhex(reach["next_hop_raw"])[-16:]
        if not octets:
            return attributes
        octets = octets[-4:] if len(octets) in (4, 12) or octets[:12] == bytes(10) + b"\xff\xff" else octets
        attributes["next_hop"] = str(ipaddress.ip_address(octets))
    return attributes


def carried(capture: Json) -> bool:
    return bool(capture["families"]) and set(capture["families"]) <= CARRIED


def nobodys(capture: Json) -> bool:
    """Whether the next hop is no host's address, as where a router tells of its own table (RFC 7854)."""
    text = expected_words(capture).get("next_hop")
    if text is None:
        return False
    address = ipaddress.ip_address(text)
    reserved = address.version == 4 and address.is_reserved
    return address.is_unspecified or address.is_loopback or address.is_multicast or reserved


BROKEN: dict[str, tuple[type[BgpError], str]] = {
    "exabgp-6_ipv4_03": (SessionReset, "well-known attribute 153 is not known"),
    "exabgp-6_ipv6_01": (DisableFamily, "next hop of 4 octets for ipv6"),
}
OURS = [capture for capture in CAPTURES if carried(capture) and capture["id"] not in BROKEN]
USABLE = [capture for capture in OURS if not nobodys(capture)]


def test_the_captures_are_of_many_routers_and_mostly_of_families_that_we_carry() -> None:
    assert len({capture["implementation"] for capture in CAPTURES}) == 6
    assert (len(CAPTURES), len(OURS), len(USABLE)) == (160, 137, 125)
    assert {name for capture in USABLE for name in capture["families"]} == {
        *("ipv4", "ipv6", "vpnv4", "vpnv6", "evpn", "ipv4-flowspec", "vpnv4-flowspec")
    }


@pytest.mark.parametrize("capture", USABLE, ids=lambda capture: capture["id"])
def test_a_captured_message_decodes_to_its_meaning(capture: Json) -> None:
    update = decoded(capture)
    assert update.errors == []
    assert told(update) == expected(capture)
    for block in blocks(update):
        assert words(block) == expected_words(capture)


def test_communities_of_captured_routes_are_told_in_the_same_words() -> None:
    names = {"rt": "target", "soo": "origin"}
    compared = 0
    for capture in OURS:
        expect = capture["expect"]["attributes"]
        for octets, text in zip(expect.get("ext_communities", ()), expect.get("ext_communities_text", ()), strict=True):
            kind, _, rest = text.partition(":")
            if kind in names:
                compared += 1
                ours = community_text(bytes.fromhex(octets)).replace("L:", ":")
                assert ours == f"{names[kind]}:{rest}", capture["id"]
    assert compared > 80


@pytest.mark.parametrize("capture", USABLE, ids=lambda capture: capture["id"])
def test_a_captured_message_survives_being_sent_on(capture: Json) -> None:
    update = decoded(capture)
    ibgp = "local_pref" in capture["expect"]["attributes"]
    again = reader(capture, ibgp=ibgp, as4=True)
    with_identifiers = families_with_path_identifiers(capture)
    for family, routes in update.announced:
        attributes = next(iter(routes.values())).attributes
        add_path = family in with_identifiers
        told_again = [(key, path.extra) for key, path in routes.items()]
        messages = b"".join(encode_updates(family, attributes, told_again, as4=True, add_path=add_path))
        ((_, body),) = split(messages)[0]
        ((its_family, found),) = again.decode(body).announced
        assert its_family is family
        assert [(key, path.extra) for key, path in found.items()] == told_again
        ours, theirs = meaning(next(iter(found.values())).attributes), meaning(attributes)
        for said in (ours, theirs):  # the Partial bit is set on the way (RFC 4271 section 5)
            said["unknown"] = [(code, value) for _, code, value in said["unknown"]]  # type: ignore[attr-defined]
        assert ours == theirs
    for family, keys in update.withdrawn:
        ((_, body),) = split(b"".join(encode_withdrawals(family, keys, add_path=family in with_identifiers)))[0]
        assert again.decode(body).withdrawn == [(family, keys)]


def test_routes_whose_next_hop_is_nobodys_address_count_as_withdrawn() -> None:
    for capture in OURS:
        if nobodys(capture):
            update = decoded(capture)
            (error,) = update.errors
            assert isinstance(error, TreatAsWithdraw), capture["id"]
            assert (update.announced, told(update)[1]) == ([], set(expected(capture)[0])), capture["id"]


@pytest.mark.parametrize("name", BROKEN)
def test_a_captured_message_that_breaks_the_protocol_is_refused(name: str) -> None:
    reaction, reason = BROKEN[name]
    (capture,) = [capture for capture in CAPTURES if capture["id"] == name]
    with pytest.raises(reaction, match=reason):
        decoded(capture)


def test_families_that_are_not_carried_are_passed_over_and_say_so() -> None:
    seen = 0
    for capture in CAPTURES:
        families = set(capture["families"])
        if families and not families & CARRIED:
            seen += 1
            update = decoded(capture)
            assert (update.announced, update.withdrawn, update.end_of_rib) == ([], [], None), capture["id"]
            assert any(isinstance(e, AttributeDiscard) and "not carry" in e.reason for e in update.errors)
    assert seen == 20
