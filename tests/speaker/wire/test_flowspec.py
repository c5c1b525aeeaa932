"""Flow specifications: what is one, what is none and leaves the session and the other routes alone, and their words."""

from __future__ import annotations

import pytest

from speaker.errors import DisableFamily, TreatAsWithdraw
from speaker.flowspec import FlowSpecificationError, cut, text
from speaker.values import Family, key_text
from speaker.wire.attribute import Interner
from speaker.wire.update import Update, UpdateDecoder, encode_updates
from tests.speaker.wire.strategies import FLOWSPEC

RD = "0000fc0000000001"
DST = "01180a0001"


def decoded(family: Family, nlri: str, *, announced: bool = True, next_hop: str = "00") -> Update:
    """What follows from an UPDATE with these octets of NLRI."""
    value = family.afi.to_bytes(2, "big") + bytes((family.safi,))
    value += bytes.fromhex(next_hop + "00") if announced else b""
    value += bytes.fromhex(nlri)
    attributes = bytes((0x90, 14 if announced else 15)) + len(value).to_bytes(2, "big") + value
    attributes += bytes.fromhex("40010100 400200 40050400000064") if announced else b""
    body = b"\0\0" + len(attributes).to_bytes(2, "big") + attributes
    return UpdateDecoder(Interner(), ibgp=True, as4=True, families=FLOWSPEC).decode(body)


WORDS: list[tuple[int, str, str]] = [
    (32, "0100", "dst 0.0.0.0/0"),
    (32, "01180a0001 02200a000001", "dst 10.0.1.0/24 src 10.0.0.1/32"),
    (32, "01090a80", "dst 10.128.0.0/9"),
    (32, "0381ff", "proto =255"),
    (32, "03 01 1a 81 06", "proto =26,=tcp"),
    (32, "04 03 19 45 1a 81 50", "port >=25&<=26,=80"),
    (32, "04 00 01 02 02 04 03 07 04 86 05", "port false,>2,<3,true,!=5"),
    (32, "06 91 0050", "sport =80"),
    (32, "06 a1 00000050", "sport =80"),  # that it has 4 octets only SHOULD not be
    (32, "06 b1 0000000000000050", "sport =80"),
    (32, "06 c1 50", "sport =80"),  # the and-bit of the first operator is ignored
    (32, "06 89 50", "sport =80"),  # and so is a reserved one
    (32, "07 81 08 0b 81 00", "icmp-type =8 dscp =0"),
    (32, "09 00 02 42 10 81 05", "tcp-flags syn&!ack,=fin+rst"),
    (32, "09 93 0902", "tcp-flags !=syn+0x900"),
    (32, "09 80 00", "tcp-flags 0x0"),
    (32, "0c 80 0f", "fragment dont-fragment+is-fragment+first-fragment+last-fragment"),
    (128, "010000", "dst ::/0"),
    (128, "012000 20010db8", "dst 2001:db8::/32"),
    (128, "02684012 3456789a", "src ::1234:5678:9a00:0/64-104"),
    (128, "017f7e80", "dst ::2/126-127"),
    (128, "0d a1 000fffff", "flow-label =1048575"),
    (128, "0d b1 0000000000000005", "flow-label =5"),  # that it has 4 octets only SHOULD be (RFC 8956 section 3.7)
    (128, "03813a", "proto =icmpv6"),
]


@pytest.mark.parametrize(("width", "octets", "words"), WORDS, ids=[each[2] for each in WORDS])
def test_a_flow_specification_reads_as_people_write_it(width: int, octets: str, words: str) -> None:
    assert text(bytes.fromhex(octets), width) == words


MALFORMED: list[tuple[int, str, str]] = [
    (32, "", "no component"),
    (32, "00", "component of the unknown type 0"),
    (32, "0e8100", "component of the unknown type 14"),
    (32, "0d8100", "component of the unknown type 13"),  # flow labels are of IPv6
    (32, "038106" + DST, "component of type 1 behind one of type 3"),
    (32, DST + DST, "component of type 1 behind one of type 1"),
    (32, "01", "prefix of 33 bits in 0 octets"),
    (32, "0121", "prefix of 33 bits in 1 octets"),
    (32, "01180a00", "prefix of 24 bits in 3 octets"),
    (32, "03", "the list of proto has no end"),
    (32, "0381", "the list of proto has no end"),
    (32, "030106", "the list of proto has no end"),
    (32, "0591 04", "the list of dport has no end"),
    (32, "09a100000002", "tcp-flags has a value of 4 octets"),
    (32, "0b910012", "dscp has a value of 2 octets"),
    (32, "0c910002", "fragment has a value of 2 octets"),
    (128, "01", "prefix of 129 bits from bit 0 in 0 octets"),
    (128, "0120", "prefix of 32 bits from bit 0 in 1 octets"),
    (128, "018100", "prefix of 129 bits from bit 0 in 2 octets"),
    (128, "012020", "prefix of 32 bits from bit 32 in 2 octets"),
    (128, "010001", "prefix of 0 bits from bit 1 in 2 octets"),
    (128, "012000 20010d", "prefix of 32 bits from bit 0 in 5 octets"),
]


@pytest.mark.parametrize(("width", "octets", "wrong"), MALFORMED, ids=[f"{each[2]}-{each[1]}" for each in MALFORMED])
def test_a_malformed_flow_specification_counts_as_withdrawn_and_leaves_the_others(
    width: int, octets: str, wrong: str
) -> None:
    with pytest.raises(FlowSpecificationError, match=wrong):
        cut(bytes.fromhex(octets), width)
    good = "012000 20010db8" if width == 128 else DST
    families = [Family.IPV4_FLOWSPEC, Family.VPNV4_FLOWSPEC]
    if width == 128:
        families = [Family.IPV6_FLOWSPEC, Family.VPNV6_FLOWSPEC]
    for family, rd in zip(families, ("", RD), strict=True):
        keys = [bytes.fromhex(rd + each) for each in (good, octets)]
        run = "".join(f"{len(key):02x}{key.hex()}" for key in (keys[1], keys[0], keys[1]))
        update = decoded(family, run)
        assert [list(routes) for _, routes in update.announced] == [keys[:1]]
        told = [key for key in keys if key]  # one without octets is no destination
        assert update.withdrawn == [(family, told[1:])][: len(told) - 1]
        (error,) = update.errors
        assert (type(error), error.octets) == (TreatAsWithdraw, bytes((len(keys[1]),)) + keys[1])
        assert wrong in error.reason
        update = decoded(family, run, announced=False)
        assert update.withdrawn == [(family, told)]
        assert key_text(family, keys[1]).endswith(f"0x{octets.replace(' ', '')}")


def test_a_VPN_flow_specification_without_a_whole_distinguisher_has_no_key() -> None:
    update = decoded(Family.VPNV4_FLOWSPEC, "07" + RD[:14])
    assert (update.announced, update.withdrawn) == ([], [])
    assert "no route distinguisher" in update.errors[0].reason


def test_a_length_has_one_octet_below_240_and_two_from_there() -> None:
    def ports(size: int) -> bytes:
        return b"\x04" + b"\x01\x50" * ((size - 3) // 2) + b"\x81\x50"

    for key, head in [(ports(239), "ef"), (ports(4095), "ffff")]:
        update = decoded(Family.IPV4_FLOWSPEC, head + key.hex())
        assert [list(routes) for _, routes in update.announced] == [[key]]
        (message,) = encode_updates(
            Family.IPV4_FLOWSPEC, update.announced[0][1][key].attributes, [(key, b"")], as4=True, limit=65535
        )
        assert bytes.fromhex(head) + key in message
    key = b"\x01\x08\x0a" + ports(237)
    assert list(decoded(Family.IPV4_FLOWSPEC, "f0f0" + key.hex()).announced[0][1]) == [key]
    assert list(decoded(Family.IPV4_FLOWSPEC, "f005" + DST).announced[0][1]) == [bytes.fromhex(DST)]  # wide, not wrong


def test_a_run_that_cannot_be_cut_disables_its_family_and_no_other() -> None:
    for run in ("05", "05" + DST[:-2], "f0", "f005" + DST[:-2], "05" + DST + "05"):
        for announced in (True, False):
            with pytest.raises(DisableFamily) as caught:
                decoded(Family.IPV4_FLOWSPEC, run, announced=announced)
            assert caught.value.family is Family.IPV4_FLOWSPEC


def test_a_next_hop_is_not_needed_and_may_be_there() -> None:
    for family, next_hop, expected in [
        (Family.IPV4_FLOWSPEC, "00", ""),
        (Family.IPV4_FLOWSPEC, "04c0000201", "c0000201"),
        (Family.IPV4_FLOWSPEC, "0400000000", ""),  # which says nothing, and is no fault either
        (Family.IPV6_FLOWSPEC, "10" + "00" * 16, ""),
        (Family.IPV6_FLOWSPEC, "10" + "20010db8" + "00" * 11 + "01", "20010db8" + "00" * 11 + "01"),
        (Family.VPNV4_FLOWSPEC, "00", ""),
        (Family.VPNV4_FLOWSPEC, "0c" + "00" * 8 + "c0000201", "c0000201"),
    ]:
        prefix = "012000 20010db8" if family.afi == 2 else DST
        key = bytes.fromhex((RD if family.safi == 134 else "") + prefix)
        update = decoded(family, f"{len(key):02x}{key.hex()}", next_hop=next_hop)
        assert update.errors == []
        path = update.announced[0][1][key]
        assert path.attributes.next_hop.hex() == expected
        (message,) = encode_updates(family, path.attributes, [(key, b"")], as4=True)
        reader = UpdateDecoder(Interner(), ibgp=True, as4=True, families=FLOWSPEC)
        assert reader.decode(message[19:]).announced[0][1][key].attributes.next_hop.hex() == expected
    for next_hop in ("05c000020101", "01c0"):
        with pytest.raises(DisableFamily):
            decoded(Family.IPV4_FLOWSPEC, "05" + DST, next_hop=next_hop)


def test_a_flow_specification_that_no_length_can_tell_is_not_written() -> None:
    told = decoded(Family.IPV4_FLOWSPEC, "05" + DST).announced[0][1][bytes.fromhex(DST)].attributes
    with pytest.raises(ValueError, match="a flow specification of 4096 octets, of at most 4095"):
        list(encode_updates(Family.IPV4_FLOWSPEC, told, [(bytes(4096), b"")], as4=True, limit=65535))
