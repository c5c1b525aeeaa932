"""BMP messages against octets written out by hand from the diagrams of RFC 7854 section 4 and RFC 9069."""

from __future__ import annotations

from speaker import bmp
from speaker.bmp import PeerHeader
from speaker.values import Family
from speaker.wire.message import KEEPALIVE, Notification

ROUTER_ID = bytes((192, 0, 2, 9))
V4 = PeerHeader.of_peer("192.0.2.9", 64513, ROUTER_ID)
V6 = PeerHeader.of_peer("2001:db8::9", 4200000000, ROUTER_ID)
WALL = 1_700_000_000.25

V4_HEADER = "00 00" + 8 * "00" + 12 * "00" + "c0000209" + "0000fc01" + "c0000209" + "6553f100" + "0003d090"
"""Type, flags, distinguisher, address, AS, BGP identifier, seconds, microseconds."""


def octets(*parts: str) -> bytes:
    return bytes.fromhex("".join(parts))


def test_per_peer_headers_have_42_octets_in_the_order_of_the_rfc() -> None:
    for header, expected in [
        (V4, octets(V4_HEADER)),
        (V4.post_policy(), octets("00 40", V4_HEADER[5:])),
        (
            V6,
            octets(
                "00 80", 8 * "00", "20010db8000000000000000000000009", "fa56ea00", "c0000209", "6553f100", "0003d090"
            ),
        ),
        (
            PeerHeader.of_loc_rib(64512, ROUTER_ID),
            octets("03 00", 8 * "00", 16 * "00", "0000fc00", "c0000209", "6553f100", "0003d090"),
        ),
    ]:
        assert header.encode(WALL) == expected
        assert len(expected) == 42
    assert V4.encode(0.0)[-8:] == bytes(8), "a time that is not known is zero"


def test_messages_are_those_of_the_diagrams() -> None:
    notification = Notification(6, 2).encode()
    loc_rib = PeerHeader.of_loc_rib(64512, ROUTER_ID)
    for sent, expected in [
        (
            bmp.initiation("pe1", "bgpvpnd 1"),
            octets("03 0000001a 04", "0001 0009 62677076706e642031", "0002 0003 706531"),
        ),
        (bmp.termination(), octets("03 0000000c 05", "0001 0002 0000")),
        (
            bmp.route_monitoring(V4, [KEEPALIVE], wall=WALL),
            octets("03 00000043 00", V4_HEADER, KEEPALIVE.hex()),
        ),
        (
            bmp.peer_up(V4, KEEPALIVE, KEEPALIVE, local=("192.0.2.1", 179), remote_port=40000, wall=WALL),
            octets("03 0000006a 03", V4_HEADER, 12 * "00", "c0000201 00b3 9c40", 2 * KEEPALIVE.hex()),
        ),
        (
            bmp.peer_up(loc_rib, KEEPALIVE, KEEPALIVE, table="global", wall=WALL)[48:],
            octets(16 * "00", "0000 0000", 2 * KEEPALIVE.hex(), "0003 0006 676c6f62616c"),
        ),
        (
            bmp.peer_down(V4, bmp.LOCAL_NOTIFICATION, notification, wall=WALL),
            octets("03 00000046 02", V4_HEADER, "01", notification.hex()),
        ),
        (
            bmp.peer_down(V4, bmp.LOCAL_SILENT, b"\0\x02", wall=WALL),
            octets("03 00000033 02", V4_HEADER, "02 0002"),
        ),
        (bmp.peer_down(V4, bmp.REMOTE_SILENT, wall=WALL), octets("03 00000031 02", V4_HEADER, "04")),
        (bmp.loc_rib_down(loc_rib, "global", wall=WALL)[48:], octets("06", "0003 0006 676c6f62616c")),
        (
            bmp.statistics_report(V4, {0: 5, 7: 6, (9, Family.VPNV4): 7, 11: 8}, wall=WALL),
            octets(
                *("03 0000005f 01", V4_HEADER, "00000004", "0000 0004 00000005", "0007 0008 0000000000000006"),
                *("0009 000b 0001 80 0000000000000007", "000b 0004 00000008"),
            ),
        ),
    ]:
        assert sent == expected


def test_each_update_goes_in_a_message_of_its_own() -> None:
    one = bmp.route_monitoring(V4, [KEEPALIVE], wall=WALL)
    assert bmp.route_monitoring(V4, [KEEPALIVE, KEEPALIVE], wall=WALL) == one + one
    assert bmp.route_monitoring(V4, [], wall=WALL) == b""
