"""Messages but UPDATE, octet by octet, and what a broken one is answered with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speaker.errors import SessionReset
from speaker.values import Family
from speaker.wire.capability import (
    AddPath,
    Capability,
    EnhancedRouteRefresh,
    ExtendedMessage,
    ExtendedNextHop,
    FourOctetAs,
    Fqdn,
    GracefulRestart,
    LongLivedGracefulRestart,
    Multiprotocol,
    RoleCapability,
    RouteRefreshCapability,
    Unknown,
    decode_capability,
)
from speaker.wire.message import HEADER_SIZE, KEEPALIVE, Notification, Open, RouteRefresh, message, split

CAPABILITIES: list[tuple[Capability, str]] = [
    (Multiprotocol(Family.VPNV4), "0104 0001 00 80"),
    (Multiprotocol(Family.EVPN), "0104 0019 00 46"),
    (RouteRefreshCapability(), "0200"),
    (GracefulRestart(True, 120, {Family.VPNV4: True, Family.EVPN: False}), "400a 8078 0001 80 80 0019 46 00"),
    (GracefulRestart(False, 4095, {}, notification=True), "4002 4fff"),
    (FourOctetAs(4200000000), "4104 fa56ea00"),
    (EnhancedRouteRefresh(), "4600"),
    (ExtendedMessage(), "0600"),
    (ExtendedNextHop(frozenset({Family.IPV4, Family.VPNV4})), "050c 0001 0001 0002 0001 0080 0002"),
    (RoleCapability(3), "0901 03"),
    (AddPath({Family.VPNV4: 3, Family.EVPN: 1}), "4508 0001 80 03 0019 46 01"),
    (
        LongLivedGracefulRestart({Family.EVPN: (True, 70000), Family.RTC: (False, 0)}),
        "470e 001946 80 011170 000184 00 000000",
    ),
    (Fqdn("pe1", "example"), "490c 03 706531 07 6578616d706c65"),
    (Unknown(199, b"\x01\x02"), "c702 0102"),
]


def test_capabilities_have_the_octets_of_their_RFC_and_come_back() -> None:
    for capability, octets in CAPABILITIES:
        wire = bytes.fromhex(octets)
        assert capability.encode() == wire
        assert decode_capability(wire[0], wire[2:]) == capability


def test_a_capability_of_a_wrong_length_has_no_effect() -> None:
    for code, value in [
        (1, "0001"),
        (1, "0001008000"),
        (5, "00010001"),
        (5, "00010001000200"),
        (9, ""),
        (9, "0000"),
        (64, "80"),
        (64, "807800"),
        (65, "fc00"),
        (65, "0000fc0000"),
        (69, "000180"),
        (69, "00018000"),  # a mode that does not exist
        (69, "0001800300018004"),
        (71, "00018080"),
        (71, "0001808000000000"),
        (73, ""),
        (73, "ff"),
    ]:
        assert decode_capability(code, bytes.fromhex(value)) == Unknown(code, bytes.fromhex(value))


def test_an_OPEN_has_the_octets_of_RFC_4271_and_comes_back() -> None:
    opened = Open(23456, 90, bytes((192, 0, 2, 1)), tuple(capability for capability, _ in CAPABILITIES))
    capabilities = bytes.fromhex("".join(octets for _, octets in CAPABILITIES))
    size = len(capabilities)
    body = bytes.fromhex("04 5ba0 005a c0000201") + bytes((size + 2, 2, size)) + capabilities
    assert opened.encode() == message(1, body)
    assert Open.decode(body) == opened
    assert Open.decode(bytes.fromhex("04 fc00 005a c0000201 00")) == Open(64512, 90, bytes((192, 0, 2, 1)))


def test_capabilities_may_come_in_a_parameter_each() -> None:
    parameters = b"".join(bytes.fromhex(f"02{len(bytes.fromhex(octets)):02x}{octets}") for _, octets in CAPABILITIES)
    body = bytes.fromhex("04 fc00 005a c0000201") + bytes((len(parameters),)) + parameters
    assert Open.decode(body).capabilities == tuple(capability for capability, _ in CAPABILITIES)


@given(st.lists(st.binary(max_size=255), max_size=20))
def test_an_OPEN_grows_beyond_255_octets_of_parameters(values: list[bytes]) -> None:  # RFC 9072
    opened = Open(64512, 90, bytes((192, 0, 2, 1)), tuple(Unknown(200, value) for value in values))
    whole = opened.encode()
    assert (whole[HEADER_SIZE + 9 : HEADER_SIZE + 11] == b"\xff\xff") == (len(b"".join(values)) + 2 * len(values) > 253)
    assert Open.decode(whole[HEADER_SIZE:]) == opened


def test_the_type_of_the_first_parameter_alone_tells_of_extended_ones() -> None:  # RFC 9072 section 2
    assert Open.decode(bytes.fromhex("04 fc00 005a c0000201 02 ff 0005 02 0002 0200")).capabilities == (
        RouteRefreshCapability(),
    )


@pytest.mark.parametrize(
    ("body", "reset"),
    [
        ("05 fc00 005a c0000201 00", "2/1 0004"),
        ("04 0000 005a c0000201 00", "2/2"),
        ("04 fc00 005a 00000000 00", "2/3"),
        ("04 fc00 0001 c0000201 00", "2/6"),
        ("04 fc00 0002 c0000201 00", "2/6"),
        ("04 fc00 005a c0000201 04 01020000", "2/4"),
        ("04 fc00 005a c0000201 05 02020200", "2/0"),  # shorter than it says
        ("04 fc00 005a c0000201 03 02020200", "2/0"),  # longer than it says
        ("04 fc00 005a c0000201 04 02060200", "2/0"),  # a parameter beyond the end
        ("04 fc00 005a c0000201 04 02020201", "2/0"),  # a capability beyond the end
        ("04 fc00 005a c0000201 03 020102", "2/0"),  # half a capability
        ("04 fc00 005a c0000201 01 02", "2/0"),  # half a parameter
        ("04 fc00 005a c00002", "1/2 001b"),
    ],
)
def test_a_broken_OPEN_is_answered_as_RFC_4271_section_6_2_says(body: str, reset: str) -> None:
    with pytest.raises(SessionReset) as caught:
        Open.decode(bytes.fromhex(body))
    assert f"{caught.value.code}/{caught.value.subcode} {caught.value.data.hex()}".rstrip() == reset


def test_a_ROUTE_REFRESH_names_its_family_and_comes_back() -> None:
    for family, octets in [
        (Family.IPV4, "0001 00 01"),
        (Family.VPNV6, "0002 00 80"),
        (Family.EVPN, "0019 00 46"),
        (Family.RTC, "0001 00 84"),
        (0x4004 << 8 | 0x47, "4004 00 47"),
    ]:
        assert RouteRefresh(family).encode() == message(5, bytes.fromhex(octets))
        assert RouteRefresh.decode(bytes.fromhex(octets)) == RouteRefresh(family)
    assert RouteRefresh.decode(bytes.fromhex("0019 02 46")) == RouteRefresh(Family.EVPN, 2)


def test_a_NOTIFICATION_is_cut_to_what_fits() -> None:
    assert Notification(6, 2, b"abc").encode() == message(3, b"\6\2abc")
    assert len(Notification(3, 9, bytes(9999)).encode()) == 4096
    assert len(Notification(3, 9, bytes(9999)).encode(65535)) == 10020
    assert len(Notification(3, 9, bytes(99999)).encode(65535)) == 65535


def test_messages_are_cut_off_a_stream_as_they_become_whole() -> None:
    stream = KEEPALIVE + message(2, bytes(4)) + message(5, bytes(4))
    for size in range(len(stream) + 1):
        messages, used = split(stream[:size])
        assert [kind for kind, _ in messages] == [4, 2, 5][: (size >= 19) + (size >= 42) + (size >= 65)]
        assert used == (0, 19, 42, 65)[len(messages)]


@pytest.mark.parametrize(
    ("header", "reset"),
    [
        ("00" + "ff" * 15 + "0013 04", "1/1"),
        ("ff" * 16 + "0012 04", "1/2 0012"),
        ("ff" * 16 + "1001 02", "1/2 1001"),
        ("ff" * 16 + "001c 01", "1/2 001c"),
        ("ff" * 16 + "0016 02", "1/2 0016"),
        ("ff" * 16 + "0014 03", "1/2 0014"),
        ("ff" * 16 + "0014 04", "1/2 0014"),
        ("ff" * 16 + "0013 00", "1/3 00"),
        ("ff" * 16 + "0013 06", "1/3 06"),
    ],
)
def test_a_broken_header_is_answered_once_what_came_before_is_handled(header: str, reset: str) -> None:
    broken = bytes.fromhex(header) + bytes(20)
    assert split(KEEPALIVE + broken) == ([(4, b"")], 19)
    with pytest.raises(SessionReset) as caught:
        split(broken)
    assert f"{caught.value.code}/{caught.value.subcode} {caught.value.data.hex()}".rstrip() == reset
