"""Each malformed form of each attribute has the reaction that RFC 7606 asks for, from internal and external peers.

A message is written in words: attributes in hex, one after the other, with their flags, code and length.
"""

from __future__ import annotations

import pytest

from speaker.errors import AttributeDiscard, BgpError, DisableFamily, SessionReset, TreatAsWithdraw
from speaker.values import Family
from speaker.wire.attribute import Interner
from speaker.wire.update import Update, UpdateDecoder

ORIGIN, AS_PATH, NEXT_HOP, LOCAL_PREF = "40010100", "4002060201 0000fc01", "400304c0000201", "40050400000064"
GOOD = (ORIGIN, AS_PATH, NEXT_HOP, LOCAL_PREF)
ROUTE, KEY = "180a0102", bytes.fromhex("0a010218")
VPN_ROUTE = "70000641 0000fc0000000001 0a0102"
VPN_KEY = bytes.fromhex("0000fc0000000001 0a0102 18".replace(" ", ""))
REACH = f"800e20 0001 80 0c 0000000000000000c0000201 00 {VPN_ROUTE}"
UNREACH = "800f12 0001 80 70 800000 0000fc0000000001 0a0102"
CARRIED = frozenset({Family.IPV4, Family.VPNV4, Family.EVPN})


def body(attributes: str, nlri: str = "", withdrawn: str = "") -> bytes:
    """The body of an UPDATE."""
    parts = [bytes.fromhex(each) for each in (withdrawn, attributes, nlri)]
    return len(parts[0]).to_bytes(2, "big") + parts[0] + len(parts[1]).to_bytes(2, "big") + parts[1] + parts[2]


def decoded(octets: bytes, *, ibgp: bool = True, as4: bool = True) -> Update:
    return UpdateDecoder(Interner(), ibgp=ibgp, as4=as4, families=CARRIED).decode(octets)


def reaction(octets: bytes, *, ibgp: bool = True, as4: bool = True) -> str:
    """What follows from a message, in words."""
    try:
        update = decoded(octets, ibgp=ibgp, as4=as4)
    except SessionReset as error:
        return f"reset {error.code}/{error.subcode} {error.data.hex()}".rstrip()
    except DisableFamily as error:
        return f"disable {error.family.text}"
    kinds: dict[type[BgpError], str] = {TreatAsWithdraw: "withdraw", AttributeDiscard: "discard"}
    said = [kinds[type(error)] for error in update.errors]
    if "withdraw" in said:
        assert update.announced == []
        assert update.withdrawn, "the routes count as withdrawn"
    return " ".join(said) or "fine"


def replaced(code: int, attribute: str) -> str:
    """The good attributes with another one in the place of the one with this code, or beside them."""
    kept = [each for each in GOOD if int(each[2:4], 16) != code]
    return "".join((*kept, attribute))


ATTRIBUTES: list[tuple[str, int, str, str, str]] = [
    # what, code, the attribute, from an internal peer, from an external one
    ("ORIGIN incomplete", 1, "40010102", "fine", "fine"),
    ("ORIGIN of no octets", 1, "400100", "withdraw", "withdraw"),
    ("ORIGIN of 2 octets", 1, "4001020000", "withdraw", "withdraw"),
    ("ORIGIN 3", 1, "40010103", "withdraw", "withdraw"),
    ("ORIGIN optional", 1, "c0010100", "withdraw", "withdraw"),
    ("ORIGIN not transitive", 1, "00010100", "withdraw", "withdraw"),
    ("ORIGIN with an extended length", 1, "5001000100", "fine", "fine"),
    ("ORIGIN missing", 1, "", "withdraw", "withdraw"),
    ("AS_PATH empty", 2, "400200", "fine", "fine"),
    ("AS_PATH with a segment of type 5", 2, "40020605010000fc01", "withdraw", "withdraw"),
    ("AS_PATH with a segment of type 0", 2, "40020600010000fc01", "withdraw", "withdraw"),
    ("AS_PATH with an empty segment", 2, "4002020200", "withdraw", "withdraw"),
    ("AS_PATH whose segment is too long", 2, "40020602020000fc01", "withdraw", "withdraw"),
    ("AS_PATH that ends in a segment header", 2, "40020702010000fc0102", "withdraw", "withdraw"),
    ("AS_PATH with AS 0", 2, "4002060201 00000000", "withdraw", "withdraw"),
    ("AS_PATH with a confederation", 2, "40020603010000fc01", "fine", "withdraw"),
    ("AS_PATH optional", 2, "c002060201 0000fc01", "withdraw", "withdraw"),
    ("AS_PATH missing", 2, "", "withdraw", "withdraw"),
    ("NEXT_HOP of 3 octets", 3, "400303c00002", "withdraw", "withdraw"),
    ("NEXT_HOP of 16 octets", 3, "400310" + "20010db8" + "00" * 11 + "01", "withdraw", "withdraw"),
    ("NEXT_HOP 0.0.0.0", 3, "40030400000000", "withdraw", "withdraw"),
    ("NEXT_HOP 127.0.0.1", 3, "4003047f000001", "withdraw", "withdraw"),
    ("NEXT_HOP 224.0.0.1", 3, "400304e0000001", "withdraw", "withdraw"),
    ("NEXT_HOP missing", 3, "", "withdraw", "withdraw"),
    ("MED", 4, "80040400000001", "fine", "fine"),
    ("MED of 3 octets", 4, "800403000001", "withdraw", "withdraw"),
    ("MED transitive", 4, "c0040400000001", "withdraw", "withdraw"),
    ("LOCAL_PREF of 3 octets", 5, "400503000001", "withdraw", "discard"),
    ("LOCAL_PREF optional", 5, "c0050400000064", "withdraw", "discard"),
    ("LOCAL_PREF missing", 5, "", "withdraw", "fine"),
    ("ATOMIC_AGGREGATE", 6, "400600", "fine", "fine"),
    ("ATOMIC_AGGREGATE of 1 octet", 6, "40060100", "discard", "discard"),
    ("AGGREGATOR", 7, "c007080000fc01c0000201", "fine", "fine"),
    ("AGGREGATOR of 6 octets", 7, "c00706fc01c0000201", "discard", "discard"),
    ("AGGREGATOR with AS 0", 7, "c0070800000000c0000201", "discard", "discard"),
    ("COMMUNITIES", 8, "c00804fc010001", "fine", "fine"),
    ("COMMUNITIES of no octets", 8, "c00800", "withdraw", "withdraw"),
    ("COMMUNITIES of 5 octets", 8, "c00805fc01000100", "withdraw", "withdraw"),
    ("COMMUNITIES not transitive", 8, "800804fc010001", "withdraw", "withdraw"),
    ("ORIGINATOR_ID", 9, "800904c0000209", "fine", "discard"),
    ("ORIGINATOR_ID of 5 octets", 9, "800905c000020900", "withdraw", "discard"),
    ("CLUSTER_LIST", 10, "800a04c0000209", "fine", "discard"),
    ("CLUSTER_LIST of no octets", 10, "800a00", "withdraw", "discard"),
    ("CLUSTER_LIST of 6 octets", 10, "800a06c00002090000", "withdraw", "discard"),
    ("EXTENDED COMMUNITIES of no octets", 16, "c01000", "withdraw", "withdraw"),
    ("EXTENDED COMMUNITIES of 9 octets", 16, "c010090002fc000000000100", "withdraw", "withdraw"),
    ("AS4_PATH with 4-octet AS numbers", 17, "c011060201 0000fc01", "discard", "discard"),
    ("AS4_AGGREGATOR with 4-octet AS numbers", 18, "c012080000fc01c0000201", "discard", "discard"),
    ("PMSI_TUNNEL", 22, "c01609 00 06 000641 c0000201", "fine", "fine"),
    ("PMSI_TUNNEL of 4 octets", 22, "c01604 00 06 0006", "withdraw", "withdraw"),
    ("PMSI_TUNNEL with an address of 3 octets", 22, "c01608 00 06 000641 c00002", "withdraw", "withdraw"),
    ("LARGE_COMMUNITY", 32, "c0200c 000000010000000200000003", "fine", "fine"),
    ("LARGE_COMMUNITY of no octets", 32, "c02000", "withdraw", "withdraw"),
    ("LARGE_COMMUNITY of 8 octets", 32, "c02008 0000000100000002", "withdraw", "withdraw"),
    ("ATOMIC_AGGREGATE optional", 6, "c00600", "withdraw", "withdraw"),
    ("AGGREGATOR well-known", 7, "400708 0000fc01 c0000201", "withdraw", "withdraw"),
    ("AGGREGATOR of no octets", 7, "c00700", "discard", "discard"),
    ("ORIGINATOR_ID transitive", 9, "c00904c0000209", "withdraw", "discard"),
    ("ORIGINATOR_ID of no octets", 9, "800900", "withdraw", "discard"),
    ("AS4_PATH with 4-octet AS numbers, well-known", 17, "401106 0201 0000fc01", "discard", "discard"),
    ("Tunnel Encapsulation", 23, "c0170c 0008 0008 06 06 000000000000", "fine", "fine"),
    ("Tunnel Encapsulation with a long sub-TLV", 23, "c01709 0008 0005 80 0002 0000", "fine", "fine"),
    ("Tunnel Encapsulation of an unknown type", 23, "c01704 00ff 0000", "fine", "fine"),
    ("Tunnel Encapsulation of no octets", 23, "c01700", "withdraw", "withdraw"),
    ("Tunnel Encapsulation with half a header", 23, "c01703 0008 00", "withdraw", "withdraw"),
    ("Tunnel Encapsulation beyond its end", 23, "c01706 0008 0003 0600", "withdraw", "withdraw"),
    ("Tunnel Encapsulation with a sub-TLV too long", 23, "c01708 0008 0004 06 03 0000", "withdraw", "withdraw"),
    ("Tunnel Encapsulation with half a sub-TLV", 23, "c01705 0008 0001 06", "withdraw", "withdraw"),
    ("Tunnel Encapsulation with half a long sub-TLV", 23, "c01706 0008 0002 80 00", "withdraw", "withdraw"),
    ("Tunnel Encapsulation not transitive", 23, "801704 00ff 0000", "withdraw", "withdraw"),
    ("IPv6 EXTENDED COMMUNITIES", 25, "c01914" + "00" * 20, "fine", "fine"),
    ("IPv6 EXTENDED COMMUNITIES of no octets", 25, "c01900", "withdraw", "withdraw"),
    ("IPv6 EXTENDED COMMUNITIES of 8 octets", 25, "c01908" + "00" * 8, "withdraw", "withdraw"),
    ("AIGP", 26, "801a0b 01 000b 0000000000000005", "fine", "fine"),
    ("AIGP of no octets", 26, "801a00", "discard", "discard"),
    ("AIGP without a metric", 26, "801a03 02 0003", "fine", "fine"),
    ("AIGP with two metrics", 26, "801a16" + "01 000b 0000000000000005" * 2, "fine", "fine"),
    ("AIGP with a metric of 4 octets", 26, "801a07 01 0007 00000005", "discard", "discard"),
    ("AIGP with a TLV of no octets", 26, "801a03 01 0000", "discard", "discard"),
    ("AIGP with another TLV of no octets", 26, "801a0e 01 000b 0000000000000005 02 0000", "discard", "discard"),
    ("AIGP beyond its end", 26, "801a04 01 000b 00", "discard", "discard"),
    ("AIGP transitive", 26, "c01a0b 01 000b 0000000000000005", "discard", "discard"),
    ("ONLY_TO_CUSTOMER", 35, "c023040000fc01", "fine", "fine"),
    ("ONLY_TO_CUSTOMER of 2 octets", 35, "c02302fc01", "withdraw", "withdraw"),
    ("ONLY_TO_CUSTOMER of no octets", 35, "c02300", "withdraw", "withdraw"),
    ("ONLY_TO_CUSTOMER of 8 octets", 35, "c023080000fc010000fc01", "withdraw", "withdraw"),
    ("ONLY_TO_CUSTOMER not transitive", 35, "8023040000fc01", "withdraw", "withdraw"),
    ("Prefix-SID", 40, "c0280a 01 0007 00000000000005", "fine", "fine"),
    ("Prefix-SID with an SRGB", 40, "c0280b 03 0008 0000 003e80001f40", "fine", "fine"),
    ("Prefix-SID of another kind", 40, "c02803 05 0000", "fine", "fine"),
    ("Prefix-SID of no octets", 40, "c02800", "discard", "discard"),
    ("Prefix-SID with an index of 4 octets", 40, "c02807 01 0004 00000005", "discard", "discard"),
    ("Prefix-SID with half an SRGB", 40, "c02808 03 0005 0000 003e80", "discard", "discard"),
    ("Prefix-SID beyond its end", 40, "c02804 05 0002 00", "discard", "discard"),
    ("Prefix-SID with half a header", 40, "c02802 05 00", "discard", "discard"),
    ("ATTR_SET", 128, "c0800b 0000fc01 40010100 400200", "fine", "fine"),
    ("ATTR_SET without attributes", 128, "c08004 0000fc01", "fine", "fine"),
    ("ATTR_SET of 3 octets", 128, "c08003 0000fc", "withdraw", "withdraw"),
    ("ATTR_SET with a malformed attribute", 128, "c08008 0000fc01 40010103", "withdraw", "withdraw"),
    ("ATTR_SET with an attribute cut off", 128, "c08007 0000fc01 400101", "withdraw", "withdraw"),
    ("ATTR_SET with a NEXT_HOP of nobody", 128, "c08007 0000fc01 400300", "fine", "fine"),
    ("ATTR_SET with MP_REACH_NLRI", 128, "c08011 0000fc01 800e0a 0001 01 04 c0000201 00 00", "withdraw", "withdraw"),
    ("ATTR_SET with MP_UNREACH_NLRI", 128, "c0800a 0000fc01 800f03 000101", "withdraw", "withdraw"),
    ("ATTR_SET with an AGGREGATOR of 6 octets", 128, "c0800d 0000fc01 c00706fc01c0000201", "withdraw", "withdraw"),
    ("ATTR_SET with an AS4_PATH", 128, "c08007 0000fc01 c01100", "fine", "fine"),
    ("ATTR_SET with wrong flags inside", 128, "c08008 0000fc01 c0010100", "withdraw", "withdraw"),
    ("an unknown optional attribute", 99, "c0630100", "fine", "fine"),
    ("an unknown attribute that is not transitive", 99, "80630100", "fine", "fine"),
    ("an unknown well-known attribute", 99, "40630100", "reset 3/2 40630100", "reset 3/2 40630100"),
    ("the same, extended", 99, "5063000100", "reset 3/2 5063000100", "reset 3/2 5063000100"),
]


@pytest.mark.parametrize(
    ("code", "attribute", "internal", "external"),
    [each[1:] for each in ATTRIBUTES],
    ids=[each[0] for each in ATTRIBUTES],
)
def test_an_attribute_has_its_reaction(code: int, attribute: str, internal: str, external: str) -> None:
    beside = replaced(code, attribute)
    assert reaction(body(beside, ROUTE)) == internal
    if code != 5:
        beside = beside.replace(LOCAL_PREF, "")  # which an external peer does not send
    assert reaction(body(beside, ROUTE), ibgp=False) == external


WHOLE = "".join(GOOD)
MP = ORIGIN + AS_PATH + LOCAL_PREF
UPDATES: list[tuple[str, bytes, str]] = [
    ("no attributes but routes", body("", ROUTE), "withdraw"),
    ("withdrawn routes beyond the end", bytes.fromhex("00050000"), "reset 3/1"),
    ("attributes beyond the end", bytes.fromhex("00000005"), "reset 3/1"),
    ("a withdrawn prefix of 33 bits", body("", "", "210a00000000"), "reset 3/10"),
    ("a withdrawn prefix that is cut off", body("", "", "180a01"), "reset 3/10"),
    ("a prefix of 33 bits", body(WHOLE, "210a00000000"), "reset 3/10"),
    ("a prefix that is cut off", body(WHOLE, "180a01"), "reset 3/10"),
    ("an attribute twice: the first counts", body(WHOLE + ORIGIN, ROUTE), "discard"),
    ("an attribute a thousand times: told once", body(WHOLE + ORIGIN * 999, ROUTE), "discard"),
    ("a malformed attribute twice", body(WHOLE.replace(ORIGIN, "40010103") + ORIGIN, ROUTE), "withdraw"),
    ("a last attribute that is cut off", body(WHOLE + "c008080001", ROUTE), "withdraw"),
    ("a last header that is cut off", body(WHOLE + "c0", ROUTE), "withdraw"),
    ("a last extended header that is cut off", body(WHOLE + "d00800", ROUTE), "withdraw"),
    ("two errors: the stronger one counts", body(replaced(1, "40010103") + "40630100", ROUTE), "reset 3/2 40630100"),
    ("cut off, and worse", body(WHOLE + "40630100" + "c0", ROUTE), "reset 3/2 40630100"),
    ("a discard beside treat-as-withdraw", body(replaced(1, "40010103") + "40060100", ROUTE), "withdraw"),
    ("attributes without routes", body(WHOLE), "fine"),
    ("malformed attributes without routes", body(replaced(1, "40010103")), "reset 3/1"),
    ("attributes that are cut off, without routes", body(WHOLE + "c0"), "reset 3/1"),
    ("malformed attributes beside a withdrawal", body("40010103", "", ROUTE), "reset 3/1"),
    ("malformed attributes beside MP_UNREACH_NLRI", body(UNREACH + "40010103"), "reset 3/1"),
    ("missing attributes beside MP_UNREACH_NLRI", body(UNREACH + ORIGIN), "fine"),
    ("MP_REACH_NLRI", body(REACH + MP), "fine"),
    ("MP_REACH_NLRI last", body(MP + REACH), "fine"),
    ("MP_REACH_NLRI twice", body(REACH + REACH + MP), "reset 3/1"),
    ("MP_UNREACH_NLRI twice", body(UNREACH + UNREACH), "reset 3/1"),
    ("MP_REACH_NLRI transitive", body(REACH.replace("800e", "c00e") + MP), "withdraw"),
    ("MP_REACH_NLRI well-known", body(REACH.replace("800e", "000e") + MP), "withdraw"),
    ("MP_UNREACH_NLRI transitive", body(UNREACH.replace("800f", "c00f")), "withdraw"),
    ("MP_UNREACH_NLRI transitive, and more", body(UNREACH.replace("800f", "c00f") + ORIGIN), "reset 3/1"),
    ("MP_REACH_NLRI and a malformed attribute", body(REACH + MP.replace(ORIGIN, "40010103")), "withdraw"),
    ("MP_REACH_NLRI and no LOCAL_PREF", body(REACH + ORIGIN + AS_PATH), "withdraw"),
    ("MP_REACH_NLRI and a NEXT_HOP", body(REACH + WHOLE), "fine"),
    ("MP_REACH_NLRI and a NEXT_HOP of nobody", body(REACH + MP + "40030400000000"), "fine"),
    ("MP_REACH_NLRI and a malformed NEXT_HOP", body(REACH + MP + "c00301ff"), "fine"),
    ("MP_REACH_NLRI with the next hop 0.0.0.0", body(REACH.replace("c0000201", "00000000") + MP), "withdraw"),
    ("MP_REACH_NLRI of 2 octets", body("800e020001" + MP), "reset 3/9 800e020001"),
    ("MP_UNREACH_NLRI of 2 octets", body("800f020001"), "reset 3/9 800f020001"),
    ("MP_REACH_NLRI of 4 octets", body("800e0400018000" + MP), "disable vpnv4"),
    ("MP_REACH_NLRI with a next hop of 4 octets", body("800e09 0001 80 04 c0000201 00" + MP), "disable vpnv4"),
    ("MP_REACH_NLRI with a next hop beyond the end", body("800e09 0001 80 0c c0000201 00" + MP), "disable vpnv4"),
    (
        "MP_REACH_NLRI with a route cut off",
        body("800e13 0001 80 0c 0000000000000000c0000201 00 7000" + MP),
        "disable vpnv4",
    ),
    (
        "MP_REACH_NLRI with a prefix of 33 bits",
        body(f"800e23 0001 80 0c 0000000000000000c0000201 00 79{'00' * 3}{'01' * 13}" + MP),
        "disable vpnv4",
    ),
    (
        "a VPN route of 87 bits",
        body(f"800e1d 0001 80 0c 0000000000000000c0000201 00 57{'01' * 11}" + MP),
        "disable vpnv4",
    ),
    ("MP_UNREACH_NLRI with a route cut off", body("800f06 0001 80 70 8000"), "disable vpnv4"),
    (
        "the same beside routes of another family",
        body("800f06 0001 80 70 8000" + WHOLE, ROUTE),
        "reset 3/9 800f06000180708000",
    ),
    (
        "the same beside withdrawals of another family",
        body("800f06 0001 80 70 8000", "", ROUTE),
        "reset 3/9 800f06000180708000",
    ),
    ("an EVPN route beyond the end", body("800e0e 0019 46 04 c0000201 00 02 21 000000" + MP), "disable evpn"),
    ("an EVPN route of an unknown type", body("800e0d 0019 46 04 c0000201 00 09 02 0000" + MP), "fine"),
    ("a family that is not carried", body("800e0a 0002 01 04 c0000201 00 00" + MP), "discard"),
    ("a family that is not carried, malformed", body("800e0a 0002 01 04 c0000201 00 00" + "40010103"), "discard"),
    ("MP_REACH_NLRI without routes", body("800e11 0001 80 0c 0000000000000000c0000201 00" + MP), "fine"),
    (
        "the same, and a malformed attribute",
        body("800e11 0001 80 0c 0000000000000000c0000201 00 40010103"),
        "reset 3/1",
    ),
]


@pytest.mark.parametrize(("octets", "expected"), [each[1:] for each in UPDATES], ids=[each[0] for each in UPDATES])
def test_an_UPDATE_has_its_reaction(octets: bytes, expected: str) -> None:
    assert reaction(octets) == expected


def test_a_body_too_short_for_an_UPDATE_is_a_wrong_length() -> None:
    for size in range(4):
        assert reaction(bytes(size)) == f"reset 1/2 {19 + size:04x}"


def test_what_RFC_6793_says_of_a_peer_with_2_octet_AS_numbers_is_discarded_not_fatal() -> None:
    narrow = ORIGIN + "4002040201fc01" + NEXT_HOP + LOCAL_PREF
    for attribute, expected in [
        ("c011060201 0000fc01", "fine"),
        ("c011060201 0000fc", "withdraw"),  # cut off: its end is not known
        ("c011050201 0000fc", "discard"),
        ("c0110602010000fc01".replace("0201", "0501"), "discard"),
        ("c0110603010000fc01", "fine"),  # of a confederation: left out
        ("c012070000fc01c00002", "discard"),
        ("c0120800000000c0000201", "discard"),
    ]:
        assert reaction(body(narrow + attribute, ROUTE), as4=False) == expected, attribute


def test_a_discarded_attribute_leaves_the_rest_of_its_block_as_one_block() -> None:
    reader = UpdateDecoder(Interner(), ibgp=True, as4=True, families=CARRIED)
    octets = body(WHOLE + "40060100", ROUTE)
    first, second = reader.decode(octets), reader.decode(octets)
    assert [error.reason for error in first.errors] == [error.reason for error in second.errors]
    assert len(first.errors) == 1
    (path, again) = (update.announced[0][1][KEY] for update in (first, second))
    assert path is again
    assert path.attributes.discarded == (("ATOMIC_AGGREGATE has 1 octets, not 0", bytes.fromhex("40060100")),)


def test_a_label_is_read_whatever_its_other_bits_and_a_stack_is_refused() -> None:
    head = "0001 80 0c 0000000000000000c0000201 00"
    rd, stack = "0000fc0000000001", "the route counts as withdrawn"
    for nlri, expected in [
        ("70 000641", "000641"),
        ("70 000643", "000641"),  # a traffic class
        ("70 00064f", "000641"),
        ("70 000640", "000641"),  # no bottom-of-stack bit
        ("70 800000", "800001"),
        ("88 000640 000651", stack),
        ("a0 000640 000650 000661", stack),
    ]:
        octets = bytes.fromhex(f"{head} {nlri} {rd} 0a0102")
        update = decoded(body(f"800e{len(octets):02x}{octets.hex()}" + MP))
        if expected is stack:
            assert (update.announced, update.withdrawn) == ([], [(Family.VPNV4, [VPN_KEY])]), nlri
            assert [type(error) for error in update.errors] == [TreatAsWithdraw]
        else:
            assert update.errors == []
            assert update.announced[0][1][VPN_KEY].extra.hex() == expected, nlri


def test_a_label_without_the_bottom_bit_before_any_route_distinguisher_is_one_label() -> None:
    for rd in ["0000fbf00000022b", "0001c00002010101", "0002fbf000130011"]:
        octets = bytes.fromhex(f"0001 80 0c 0000000000000000c0000201 00 70 000640 {rd} 0a0102")
        update = decoded(body(f"800e{len(octets):02x}{octets.hex()}" + MP))
        assert list(update.announced[0][1]) == [bytes.fromhex(rd) + bytes.fromhex("0a010218")]


def test_a_withdrawal_is_known_by_its_distinguisher_and_prefix_whatever_its_label() -> None:
    for nlri in [
        "70 800000",
        "70 000000",
        "70 000641",
        "70 000640",
        "70 ffffff",
        "88 000640 000651",
        "a0 000640 000650 000661",
    ]:
        octets = bytes.fromhex(f"0001 80 {nlri} 0000fc0000000001 0a0102")
        update = decoded(body(f"800f{len(octets):02x}{octets.hex()}"))
        assert (update.withdrawn, update.errors) == ([(Family.VPNV4, [VPN_KEY])], []), nlri


def test_bits_beyond_a_prefix_do_not_make_another_route() -> None:
    update = decoded(body(WHOLE, "0c0aff" + "0c0af0"))
    assert list(update.announced[0][1]) == [bytes.fromhex("0af00c")]


def test_an_EVPN_route_that_is_malformed_counts_as_withdrawn_and_leaves_the_others() -> None:
    good = "0311 0000fc0000000001 00000000 20 c0000201"
    rd, esi, tag = "0000fc0000000001", "00" * 10, "00000000"
    mac = "30 fa163e000001"
    for bad, key in [
        (f"0310 {rd} {tag} 18 c00002", None),
        (f"0311 {rd} {tag} 80 c0000201", None),
        (f"0312 {rd} {tag} 20 c0000201 00", f"03 {rd} {tag} 20 c0000201"),
        ("0221" + "00" * 33, None),  # a MAC of 0 bits
        (f"0222 {rd}{esi}{tag} {mac} 00 00000100", f"02 {rd}{tag}{mac} 00"),  # a label of 4 octets
        (f"021e {rd}{esi}{tag} {mac} 00", f"02 {rd}{tag}{mac} 00"),  # no label
        (f"0222 {rd}{esi}{tag} {mac} 20 0a000001", f"02 {rd}{tag}{mac} 20 0a000001"),
        (f"0221 {rd}{esi}{tag} {mac} 20 0a0000", None),
        (f"0222 {rd}{esi}{tag} {mac} 21 0a000001", None),
        ("0500", None),
        ("0522" + rd + "00" * 14 + "21" + "00" * 11, None),  # a prefix of 33 bits
        ("0118" + rd + esi + tag + "0000", f"01 {rd}{esi}{tag}"),
        ("0115" + rd + esi + "000000", None),
        ("0417" + rd + esi + "18 c0000201", None),
        ("0418" + rd + esi + "20 c0000201 00", f"04 {rd}{esi} 20 c0000201"),
        ("0417" + rd + esi + "80 c0000201", None),
    ]:
        octets = bytes.fromhex(f"0019 46 04 c0000201 00 {good} {bad}")
        update = decoded(body(f"800e{len(octets):02x}{octets.hex()}" + MP))
        assert [len(routes) for _, routes in update.announced] == [1], bad
        assert [(type(error), error.octets) for error in update.errors] == [(TreatAsWithdraw, bytes.fromhex(bad))]
        keys = [bytes.fromhex(key)] if key else []
        assert [each for _, found in update.withdrawn for each in found] == keys, bad
        octets = bytes.fromhex(f"0019 46 {good} {bad}")
        update = decoded(body(f"800f{len(octets):02x}{octets.hex()}"))
        ((_, withdrawn),) = update.withdrawn
        assert withdrawn == list(dict.fromkeys([withdrawn[0], *keys])), bad


def test_an_error_keeps_the_attribute_or_the_route_that_is_wrong() -> None:
    stack = "88 000640 000651 0000fc0000000001 0a0102"
    for octets, wrong in [
        (body(replaced(1, "40010103"), ROUTE), "40010103"),
        (body(replaced(1, "5001000103"), ROUTE), "5001000103"),
        (body(WHOLE + "40060100", ROUTE), "40060100"),
        (body(WHOLE + ORIGIN, ROUTE), ORIGIN),
        (body(WHOLE + "c0080800010002", ROUTE), "c0080800010002"),
        (body(replaced(3, "40030400000000"), ROUTE), "40030400000000"),
        (body(REACH.replace("800e", "c00e") + MP), REACH.replace("800e", "c00e")),
        (body("800e0a 0002 01 04 c0000201 00 00" + MP), "800e0a 0002 01 04 c0000201 00 00"),
        (body(f"800e23 0001 80 0c 0000000000000000c0000201 00 {stack}" + MP), stack),
    ]:
        (error,) = decoded(octets).errors
        assert error.octets == bytes.fromhex(wrong), error.reason
    for octets, wrong in [
        (body(WHOLE + "50630001" + "00", ROUTE), "5063000100"),
        (body("900f0002 0001"), "900f00020001"),
        (body(replaced(1, "40010103")), "40010103"),
        (body(WHOLE, "180a0102" + "210a000000"), "210a000000"),
        (body("800e06 0001 80 0d 0000" + MP), "800e06 0001 80 0d 0000"),
        (body(WHOLE + "4063ff" + "00" * 255, ROUTE), "4063ff" + "00" * 255),
    ]:
        with pytest.raises((SessionReset, DisableFamily)) as caught:
            decoded(octets)
        assert caught.value.octets == bytes.fromhex(wrong), caught.value.reason


def test_of_many_errors_in_one_UPDATE_the_first_are_told_and_the_others_counted() -> None:
    octets = bytes.fromhex("0019 46 04 c0000201 00") + b"".join(bytes((3, 1, n)) for n in range(100))
    update = decoded(body(f"900e{len(octets):04x}{octets.hex()}" + MP))
    assert (len(update.errors), update.errors.left_out) == (64, 36)


def test_a_membership_has_an_origin_AS_or_nothing() -> None:  # RFC 4684 section 4
    for bits in range(97):
        octets = bytes.fromhex("000184 04 c0000201 00") + bytes((bits,)) + bytes(bits + 7 >> 3)
        reader = UpdateDecoder(Interner(), ibgp=True, as4=True, families=frozenset({Family.RTC}))
        update = reader.decode(body(f"800e{len(octets):02x}{octets.hex()}" + MP))
        key = bytes(bits + 7 >> 3) + bytes((bits,))
        if 0 < bits < 32:
            assert (update.announced, update.withdrawn) == ([], [(Family.RTC, [key])])
        else:
            assert ([list(routes) for _, routes in update.announced], update.withdrawn) == ([[key]], [])


def test_what_is_malformed_in_the_same_way_again_is_told_once() -> None:
    octets = bytes.fromhex("0019 46 04 c0000201 00") + bytes.fromhex("0300") * 100
    update = decoded(body(f"900e{len(octets):04x}{octets.hex()}" + MP))
    assert ([error.octets for error in update.errors], update.errors.left_out) == ([b"\3\0"], 0)


def test_only_an_UPDATE_with_nothing_else_is_an_end_of_rib() -> None:
    for octets, expected in [
        (body(""), Family.IPV4),
        (body("800f03 000180"), Family.VPNV4),
        (body("900f0003 000180"), Family.VPNV4),
        (body("800f03 000180" + ORIGIN), None),
        (body("800f03 000180", "", ROUTE), None),
        (body("800f03 000201"), None),  # a family that is not carried
        (body(WHOLE), None),
    ]:
        assert decoded(octets).end_of_rib is expected, octets.hex()


def test_a_path_identifier_without_a_whole_route_behind_it_ends_what_its_family_allows() -> None:
    good = "00000007" + ROUTE
    reader = UpdateDecoder(Interner(), ibgp=True, as4=True, families=CARRIED, add_path=CARRIED)
    for announced, withdrawn in [(good, ""), ("", good)]:
        update = reader.decode(body(WHOLE, announced, withdrawn))
        routes = update.announced[0][1] if announced else update.withdrawn[0][1]
        assert list(routes) == [b"\0\0\0\7" + KEY]
        for bad in ("00", "00000001", "00000001180a01", "0000000121"):
            with pytest.raises(SessionReset) as caught:
                reader.decode(body(WHOLE, announced and announced + bad, withdrawn and withdrawn + bad))
            assert (caught.value.code, caught.value.subcode) == (3, 10)
    for nlri in ("00", "00000001", "00000001 03", "00000001 0311", "00000001 0311 0000fc"):
        octets = bytes.fromhex(f"0019 46 04 c0000201 00 {nlri}")
        with pytest.raises(DisableFamily):
            reader.decode(body(f"800e{len(octets):02x}{octets.hex()}" + MP))


def test_of_routes_with_path_identifiers_each_keeps_its_own_whatever_the_others_are() -> None:
    reader = UpdateDecoder(Interner(), ibgp=True, as4=True, families=CARRIED, add_path=CARRIED)
    good, other = "70 000641 0000fc0000000001 0a0102", "70 000651 0000fc0000000001 0a0103"
    stack = "88 000640 000651 0000fc0000000001 0a0102"
    run = bytes.fromhex(f"00000001{good} 00000002{stack} 00000003{other} 00000001{other}")
    octets = bytes.fromhex("0001 80 0c 0000000000000000c0000201 00") + run
    update = reader.decode(body(f"800e{len(octets):02x}{octets.hex()}" + MP))
    ((_, announced),) = update.announced
    other_key = VPN_KEY.replace(b"\x0a\1\2", b"\x0a\1\3")
    assert {key.hex(): path.extra.hex() for key, path in announced.items()} == {
        "00000001" + VPN_KEY.hex(): "000641",
        "00000003" + other_key.hex(): "000651",
        "00000001" + other_key.hex(): "000651",
    }
    assert update.withdrawn == [(Family.VPNV4, [b"\0\0\0\2" + VPN_KEY])]
    assert [type(error) for error in update.errors] == [TreatAsWithdraw]
    octets = bytes.fromhex(
        "0019 46 04 c0000201 00 00000001 0902 0000 00000002 0311 0000fc0000000001 00000000 20 c0000201"
    )
    ((_, announced),) = reader.decode(body(f"800e{len(octets):02x}{octets.hex()}" + MP)).announced
    assert [key[:5].hex() for key in announced] == ["0000000203"]  # of the type that is not known nothing is said


def test_a_next_hop_is_not_taken_for_the_attribute_that_has_the_same_octets() -> None:
    families = CARRIED | {Family.IPV4_FLOWSPEC}
    reader = UpdateDecoder(Interner(), ibgp=True, as4=True, families=families)
    rest, route = AS_PATH + LOCAL_PREF, "0311 0000fc0000000001 00000000 20 c0000201"
    assert ORIGIN == "40010100", "which is 64.1.1.0 as an address"
    for reach, attributes, announced in [
        ("0001 85 00 00 02 0100", ORIGIN + rest, True),
        (f"0019 46 04 40010100 00 {route}", rest, False),  # which has no ORIGIN
        (f"0019 46 04 40010100 00 {route}", ORIGIN + rest, True),
    ]:
        octets = bytes.fromhex(reach)
        update = reader.decode(body(f"800e{len(octets):02x}{octets.hex()}" + attributes))
        assert bool(update.announced) is announced, reach
    assert reader.decode(body(ORIGIN + rest, ROUTE)).announced == []  # and this has no NEXT_HOP
