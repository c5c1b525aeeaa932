"""Texts of values: what people write becomes octets, and comes back as they would write it."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speaker.values import (
    Esi,
    Family,
    Mac,
    RouteDistinguisher,
    RouteTarget,
    ValueTextError,
    address_text,
    key_text,
    prefix_bytes,
    prefix_text,
)
from tests.speaker.wire.strategies import ROUTES

ADMINISTRATED: list[tuple[str, int, str, str]] = [
    # text, type, octets, text when it comes back
    ("64512:100", 0, "fc00 00000064", "64512:100"),
    ("0:0", 0, "0000 00000000", "0:0"),
    ("65535:4294967295", 0, "ffff ffffffff", "65535:4294967295"),
    ("192.0.2.1:100", 1, "c0000201 0064", "192.0.2.1:100"),
    ("0.0.0.0:65535", 1, "00000000 ffff", "0.0.0.0:65535"),
    ("65536:1", 2, "00010000 0001", "65536:1"),
    ("4294967295:65535", 2, "ffffffff ffff", "4294967295:65535"),
    ("1.10:5", 2, "0001000a 0005", "65546:5"),
    ("0.100:5", 2, "00000064 0005", "100L:5"),
    ("100L:5", 2, "00000064 0005", "100L:5"),
    ("65536L:5", 2, "00010000 0005", "65536:5"),
]


@pytest.mark.parametrize(("text", "kind", "octets", "back"), ADMINISTRATED)
def test_route_targets_and_distinguishers_have_three_forms(text: str, kind: int, octets: str, back: str) -> None:
    six = bytes.fromhex(octets)
    target, distinguisher = RouteTarget.parse(text), RouteDistinguisher.parse(text)
    assert target.wire == bytes((kind, 2)) + six
    assert distinguisher.wire == bytes((0, kind)) + six
    assert (str(target), str(distinguisher)) == (back, back)


@given(st.integers(0, 2), st.binary(min_size=6, max_size=6))
def test_the_text_of_a_target_or_distinguisher_makes_it_again(kind: int, six: bytes) -> None:
    for made in (RouteTarget(bytes((kind, 2)) + six), RouteDistinguisher(bytes((0, kind)) + six)):
        assert type(made).parse(str(made)) == made


def test_what_has_no_text_form_is_shown_in_hex() -> None:
    assert str(RouteDistinguisher(bytes.fromhex("ffff000000000001"))) == "0xffff000000000001"
    assert str(RouteTarget(bytes.fromhex("4002fc0000000001"))) == "0x4002fc0000000001"


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        (RouteTarget, "", "takes AS:NUMBER"),
        (RouteTarget, "64512", "takes AS:NUMBER"),
        (RouteTarget, "64512:100 ", "takes AS:NUMBER"),
        (RouteTarget, "64512:1\n", "takes AS:NUMBER"),
        (RouteTarget, "064512:1", "takes AS:NUMBER"),
        (RouteTarget, "-1:1", "takes AS:NUMBER"),
        (RouteTarget, "64512:4294967296", "above 4294967295"),
        (RouteTarget, "4294967296:1", "above 4294967295"),
        (RouteTarget, "65536:65536", "above 65535"),
        (RouteTarget, "192.0.2.1:65536", "above 65535"),
        (RouteTarget, "192.0.2.256:1", "not an IPv4 address"),
        (RouteTarget, "192.0.2:1", "neither an AS nor an IPv4 address"),
        (RouteTarget, "1.65536:1", "not an AS number"),
        (RouteTarget, "\u0661:1", "takes AS:NUMBER"),
        (RouteDistinguisher, "a:b", "not a route distinguisher"),
        (Mac, "fa:16:3e:00:00", "six pairs"),
        (Mac, "fa:16-3e:00:00:01", "six pairs"),
        (Esi, "00:01", "ten pairs"),
    ],
)
def test_a_text_that_is_no_value_is_refused_by_name(
    kind: type[RouteTarget | RouteDistinguisher | Mac | Esi], text: str, reason: str
) -> None:
    with pytest.raises(ValueTextError, match=reason) as caught:
        kind.parse(text)
    assert repr(text) in str(caught.value)


def test_octets_of_a_wrong_number_are_refused_by_name() -> None:
    for kind, size in [(RouteTarget, 8), (RouteDistinguisher, 8), (Mac, 6), (Esi, 10)]:
        with pytest.raises(ValueTextError, match=f"{kind.__name__} takes {size} octets, not {size - 1}: '00"):
            kind(bytes(size - 1))


@given(st.binary(min_size=10, max_size=10))
def test_the_text_of_a_MAC_or_ESI_makes_it_again(octets: bytes) -> None:
    assert Esi.parse(str(Esi(octets))) == Esi(octets)
    mac = Mac(octets[:6])
    assert Mac.parse(str(mac)) == Mac.parse(str(mac).replace(":", "-").upper()) == mac


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), st.integers(0, 128))
def test_the_text_of_a_prefix_makes_it_again(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, length: int
) -> None:
    network = ipaddress.ip_network((address, length % (address.max_prefixlen + 1)), strict=False)
    octets = prefix_bytes(str(network))
    assert octets[-1] == network.prefixlen
    assert len(octets) == 1 + (network.prefixlen + 7) // 8
    assert prefix_text(octets, 4 if network.version == 4 else 6) == str(network)
    assert prefix_bytes(f"{address}/{network.prefixlen}") == octets
    assert address_text(address.packed) == str(address)


def test_a_text_that_is_no_prefix_or_family_is_refused_by_name() -> None:
    for text in ("10.0.0.0/33", "10.0.0", "::/129", ""):
        with pytest.raises(ValueTextError) as caught:
            prefix_bytes(text)
        assert repr(text) in str(caught.value)
    with pytest.raises(ValueTextError, match="'vpn' is not a family; there are ipv4, ipv6, vpnv4, vpnv6, evpn, rtc"):
        Family.parse("vpn")
    assert [Family.parse(f" {family.text.upper()} ") for family in Family] == list(Family)
    assert [(family.afi, family.safi) for family in (Family.EVPN, Family.RTC)] == [(25, 70), (1, 132)]


RD = "0000fc0000000001"


@pytest.mark.parametrize(
    ("family", "key", "text"),
    [
        (Family.IPV4, "0a0102 18", "10.1.2.0/24"),
        (Family.IPV6, "20010db8 20", "2001:db8::/32"),
        (Family.VPNV4, f"{RD} 00", "64512:1 0.0.0.0/0"),
        (Family.VPNV6, f"{RD} 20010db8 20", "64512:1 2001:db8::/32"),
        (Family.RTC, "0000fc00 0002fc0000000064 60", "64512 64512:100"),
        (Family.RTC, "0000fc00 0002 30", "0x0000fc000002/48"),
        (Family.RTC, "00", "default"),
        (Family.EVPN, f"01 {RD} 00112233445566778899 00000005", "[1]:[64512:1]:[00:11:22:33:44:55:66:77:88:99]:[5]"),
        (Family.EVPN, f"02 {RD} 00000005 30 fa163e000001 00", "[2]:[64512:1]:[5]:[48]:[fa:16:3e:00:00:01]"),
        (
            Family.EVPN,
            f"02 {RD} 00000000 30 fa163e000001 20 0a010203",
            "[2]:[64512:1]:[0]:[48]:[fa:16:3e:00:00:01]:[32]:[10.1.2.3]",
        ),
        (Family.EVPN, f"03 {RD} 00000000 20 c0000201", "[3]:[64512:1]:[0]:[32]:[192.0.2.1]"),
        (
            Family.EVPN,
            f"04 {RD} 00112233445566778899 20 c0000201",
            "[4]:[64512:1]:[00:11:22:33:44:55:66:77:88:99]:[32]:[192.0.2.1]",
        ),
        (Family.EVPN, f"05 {RD} 00000000 18 0a010200", "[5]:[64512:1]:[0]:[24]:[10.1.2.0]"),
        (Family.EVPN, f"05 {RD} 00000000 20 20010db8{'00' * 12}", "[5]:[64512:1]:[0]:[32]:[2001:db8::]"),
        (Family.EVPN, f"09 {RD} 01", f"[9]:0x{RD}01"),
    ],
)
def test_a_key_reads_as_people_write_it(family: Family, key: str, text: str) -> None:
    assert key_text(family, bytes.fromhex(key)) == text


@pytest.mark.parametrize("family", Family, ids=lambda family: family.text)
@given(data=st.data())
def test_different_keys_read_differently(family: Family, data: st.DataObject) -> None:
    keys = data.draw(st.lists(ROUTES[family], min_size=2, max_size=6, unique_by=lambda route: route[0]))
    assert len({key_text(family, key) for key, _ in keys}) == len(keys)
